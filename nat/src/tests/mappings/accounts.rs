//! A4-3, F-7: quotas of inside hosts, and the counters of NATV2-MIB (A4-8).

use super::*;

fn with(quota: Quota) -> Bench {
    Bench::new(Config { quota, ..config() })
}

/// Sends from C1 until it is refused; returns how many went through.
fn flood(bench: &mut Bench, packet: impl Fn(u16) -> Vec<u8>) -> u16 {
    for n in 0..2_000 {
        let outcome = bench.out(&packet(n)).0;
        if outcome == Outcome::Drop(Reason::HostQuota) {
            return n;
        }
        assert_eq!(outcome, Outcome::Translated);
    }
    panic!("never refused");
}

#[test]
fn a4_3_sessions_of_one_host_are_limited() {
    let mut bench = with(Quota {
        sessions: 10,
        ..Quota::NONE
    });
    assert_eq!(flood(&mut bench, |n| udp((C1, 5_555), (O1, 100 + n))), 10);
    let counters = bench.nat.counters();
    assert_eq!(
        (counters.quota_sessions, counters.dropped(Reason::HostQuota)),
        (1, 1)
    );
    let c1 = account(&bench, C1).unwrap();
    assert_eq!((c1.sessions, c1.ports, c1.refused), (10, 1, 1));
    // Only it: a neighbour, and its own live sessions, go on.
    bench.map(&udp((C2, 5_555), (O1, 100)));
    bench.map(&udp((C1, 5_555), (O1, 100)));
    // What ends makes room.
    bench.wait(302);
    assert_eq!(bench.nat.hosts().count(), 0);
    bench.map(&udp((C1, 5_555), (O1, 9_000)));
}

#[test]
fn a4_3_ports_of_one_host_are_limited_over_all_protocols() {
    let mut bench = with(Quota {
        ports: 10,
        ..Quota::NONE
    });
    for n in 0..5 {
        bench.map(&tcp((C1, 1_000 + n), SERVER, SYN));
        bench.map(&echo(C1, O1, n, false));
    }
    assert_eq!(flood(&mut bench, |n| udp((C1, 100 + n), (O1, 53))), 0);
    assert_eq!(bench.nat.counters().quota_ports, 1);
    assert_eq!(account(&bench, C1).unwrap().ports, 10);
    // Further sessions of a port it has are no new port.
    bench.map(&tcp((C1, 1_000), (O2, 80), SYN));
    bench.map(&udp((C2, 5_555), (O1, 53)));
}

#[test]
fn a4_3_handshakes_of_one_host_are_limited() {
    let mut bench = with(Quota {
        half_open: 10,
        ..Quota::NONE
    });
    let ext = connect(&mut bench, (C1, 41_000), SERVER);
    close(&mut bench, (C1, 41_000), ext, SERVER);
    assert_eq!(flood(&mut bench, |n| tcp((C1, 100 + n), SERVER, SYN)), 10);
    assert_eq!(account(&bench, C1).unwrap().half_open, 10);
    // A finished connection opened again is one more.
    assert_eq!(
        bench.out_drop(&tcp((C1, 41_000), SERVER, SYN)),
        Reason::HostQuota
    );
    assert_eq!(bench.nat.counters().quota_half_open, 2);
    // A repeated SYN is none, nor is a datagram; a completed handshake makes room.
    let ext = bench.map(&tcp((C1, 100), SERVER, SYN));
    bench.map(&udp((C1, 5_555), (O1, 53)));
    connect(&mut bench, (C2, 5_555), SERVER);
    bench.deliver(&tcp(SERVER, ext, SYN_ACK));
    bench.map(&tcp((C1, 100), SERVER, ACK));
    assert_eq!(account(&bench, C1).unwrap().half_open, 9);
    bench.map(&tcp((C1, 41_000), SERVER, SYN));
    bench.wait(242);
    assert_eq!(account(&bench, C1).unwrap().half_open, 0);
}

#[test]
fn a4_3_new_sessions_are_paced() {
    let mut bench = with(Quota {
        new_per_sec: 10,
        ..Quota::NONE
    });
    let packet = |n| udp((C1, 1_000 + n), (O1, 53));
    assert_eq!(flood(&mut bench, packet), 10, "a second's worth at once");
    assert_eq!(bench.nat.counters().quota_rate, 1);
    bench.map(&udp((C2, 5_555), (O1, 53)));
    // One each 100 ms, to the nanosecond; live ones cost nothing.
    bench.now += Nanos(99_999_999);
    assert_eq!(flood(&mut bench, |n| packet(100 + n)), 0);
    bench.now += Nanos(1);
    assert_eq!(flood(&mut bench, |n| packet(200 + n)), 1);
    bench.map(&packet(3));
    // No more than a second's worth is saved up.
    bench.now += secs(30);
    assert_eq!(flood(&mut bench, |n| packet(300 + n)), 10);
    assert_eq!(account(&bench, C1).unwrap().refused, 4);
}

#[test]
fn a4_3_pace_holds_over_time() {
    let mut bench = with(Quota {
        new_per_sec: 333,
        ..Quota::NONE
    });
    let mut opened = 0u32;
    for n in 0..20_000u16 {
        bench.now += Nanos::from_micros(500);
        let flow = udp((C1, 1_024 + n), (O1, 53));
        opened += u32::from(bench.out(&flow).0 == Outcome::Translated);
    }
    // 10 s, and the burst at the start.
    assert!((3_662..=3_663).contains(&opened), "{opened}");
}

#[test]
fn a4_4b_handshakes_that_come_to_nothing_are_paced() {
    let mut bench = with(Quota {
        failed_per_sec: 10,
        ..Quota::NONE
    });
    // A connection that comes about counts for nothing, however many there are.
    for n in 0..50 {
        connect(&mut bench, (C1, 1_024 + n), SERVER);
    }
    // A SYN that is answered by a RST counts, as does one that is not answered.
    let refused = |bench: &mut Bench, n: u16| {
        let ext = bench.map(&tcp((C1, 2_000 + n), SERVER, SYN));
        if n.is_multiple_of(2) {
            bench.deliver(&tcp(SERVER, ext, TcpFlags(0x14)));
        }
    };
    for n in 0..10 {
        refused(&mut bench, n);
    }
    assert_eq!(
        bench.out_drop(&tcp((C1, 3_000), SERVER, SYN)),
        Reason::HostQuota
    );
    // One that was answered so is opened again: one more.
    assert_eq!(
        bench.out_drop(&tcp((C1, 2_000), SERVER, SYN)),
        Reason::HostQuota
    );
    assert_eq!(bench.nat.counters().quota_failed, 2);
    // What lives, is repeated or is not TCP goes on, as do others.
    bench.map(&tcp((C1, 1_024), SERVER, ACK));
    bench.map(&tcp((C1, 2_001), SERVER, SYN));
    bench.map(&udp((C1, 5_555), (O1, 53)));
    bench.map(&tcp((C2, 3_000), SERVER, SYN));
    // Ten a second from now on, and no more of those that come to nothing by their timer.
    bench.now += Nanos::from_millis(100);
    refused(&mut bench, 10);
    assert_eq!(
        bench.out_drop(&tcp((C1, 3_000), SERVER, SYN)),
        Reason::HostQuota
    );
    bench.wait(300);
    for n in 11..21 {
        refused(&mut bench, n);
    }
    assert_eq!(
        bench.out_drop(&tcp((C1, 3_000), SERVER, SYN)),
        Reason::HostQuota
    );
}

#[test]
fn a4_3_what_strangers_open_counts_for_the_inside_host() {
    let mut bench = Bench::new(Config {
        udp_filtering: Filtering::Eif,
        tcp_filtering: Filtering::Eif,
        quota: Quota {
            sessions: 5,
            half_open: 2,
            ..Quota::NONE
        },
        ..config()
    });
    let ext = bench.map(&udp((C1, 5_555), (O1, 53)));
    let tcp_ext = bench.map(&tcp((C1, 5_555), SERVER, SYN));
    // Handshakes that strangers begin have a limit of their own: they shut the host out of nothing.
    bench.deliver(&tcp((O2, 1), tcp_ext, SYN));
    bench.deliver(&tcp((O2, 2), tcp_ext, SYN));
    bench.deliver(&udp((O2, 1), ext));
    assert_eq!(bench.in_drop(&udp((O2, 3), ext)), Reason::HostQuota);
    let counters = bench.nat.counters();
    assert_eq!((counters.quota_sessions, counters.quota_half_open), (1, 0));
    let c1 = account(&bench, C1).unwrap();
    assert_eq!(
        (c1.sessions, c1.half_open, c1.ports, c1.refused),
        (5, 1, 2, 1)
    );
}

#[test]
fn a4_3_finished_sessions_do_not_fill_a_quota() {
    for quota in [
        Quota {
            sessions: 2,
            ..Quota::NONE
        },
        Quota {
            ports: 2,
            ..Quota::NONE
        },
    ] {
        let mut bench = with(quota);
        for n in 0..100 {
            let inside = (C1, 1_024 + n);
            let ext = connect(&mut bench, inside, SERVER);
            close(&mut bench, inside, ext, SERVER);
        }
        let c1 = account(&bench, C1).unwrap();
        assert_eq!((c1.sessions, c1.ports, c1.refused), (2, 2, 0));
        connect(&mut bench, (C1, 2_000), SERVER);
        connect(&mut bench, (C1, 2_001), SERVER);
        assert_eq!(
            bench.out_drop(&tcp((C1, 2_002), SERVER, SYN)),
            Reason::HostQuota
        );
    }
}

#[test]
fn f_7_a_flood_of_one_host_stops_no_other() {
    let mut bench = Bench::new(Config {
        sessions_max: 4_096,
        half_open_max: 2_048,
        quota: Quota {
            sessions: 1_024,
            half_open: 300,
            ports: 700,
            ..Quota::NONE
        },
        ..few(1_000)
    });
    for n in 0..40_000u16 {
        bench.now += Nanos::from_micros(20);
        let _ = bench.out(&tcp((C1, 1_024 + n), (O1, n), SYN));
        let _ = bench.out(&udp((C1, 1_024 + n), (O1, n)));
    }
    let c1 = account(&bench, C1).unwrap();
    assert_eq!((c1.half_open, c1.ports), (300, 700));
    assert_eq!(c1.refused, 80_000 - 700);
    for n in 0..200 {
        connect(&mut bench, (C2, 2_000 + n), SERVER);
        bench.map(&udp((C2, 2_000 + n), (O1, 53)));
    }
}

#[test]
fn a4_3_a_host_without_an_account_is_refused() {
    let mut bench = Bench::new(Config {
        sessions_max: 70_000,
        ports: 1..=u16::MAX,
        pool: vec![POOL[0].into(), POOL[1].into()],
        ..config()
    });
    let flow = |n: u32| {
        udp(
            (Ipv4Addr::from_bits(0x0a00_0000 + n).octets(), 5_555),
            (O1, 9),
        )
    };
    for n in 0..65_536 {
        let mut bytes = flow(n);
        let mut packet = Packet {
            bytes: &mut bytes,
            l4_sum: L4Sum::Full,
        };
        assert_eq!(
            bench.nat.outbound(&mut packet, bench.now),
            Outcome::Translated
        );
    }
    assert_eq!(bench.out_drop(&flow(65_536)), Reason::HostQuota);
    assert_eq!(
        (bench.nat.counters().hosts_full, bench.nat.hosts().count()),
        (1, 65_536)
    );
    assert_eq!(
        bench.nat.counters().natv2().address_map_entry_limit_drops,
        1
    );
    assert_eq!(bench.out(&flow(7)).0, Outcome::Translated);
}

#[test]
fn a4_8_natv2_counters_tell_a_scripted_run() {
    let mut bench = Bench::new(Config {
        sessions_max: 6,
        quota: Quota {
            ports: 3,
            ..Quota::NONE
        },
        pool: vec![POOL[0].into()],
        ..few(4)
    });
    for n in 0..3 {
        let ext = bench.map(&udp((C1, 1_024 + n), (O1, 9)));
        bench.deliver(&udp((O1, 9), ext));
    }
    bench.out_drop(&udp((C1, 2_000), (O1, 9)));
    let ext = bench.map(&udp((C2, 5_555), (O1, 9)));
    let (_, looped) = bench.out(&udp((C1, 1_024), ext));
    assert_eq!(bench.pin(&looped).0, Outcome::Translated);
    // The table is full now: three of C1 to O1, one of C2, and both halves of the hairpin.
    bench.out_drop(&udp((host(9), 1), (O1, 9)));
    bench.wait(302);
    let natv2 = bench.nat.counters().natv2();
    let expected = crate::NatV2 {
        translations: 9,
        address_map_creations: 2,
        address_map_removals: 2,
        address_map_entry_limit_drops: 0,
        port_map_creations: 4,
        port_map_removals: 4,
        port_map_entry_limit_drops: 1,
        port_map_failure_drops: 0,
        fragment_drops: 0,
        other_resource_failure_drops: 1,
    };
    assert_eq!(natv2, expected);
    for n in 0..3 {
        bench.map(&udp((C1, 1_024 + n), (O1, 9)));
    }
    let c1 = account(&bench, C1).unwrap();
    assert_eq!((c1.address, c1.ports, c1.sessions), (C1.into(), 3, 3));
}
