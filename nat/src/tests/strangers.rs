//! A4-4, F-8: what outsiders may open at a published port, and who makes room for whom.

use super::publish::{ACK, CLIENT, SYN, SYN_ACK, WEB, WEB_EXT, both};
use super::*;
use crate::Quota;

const RST_ACK: TcpFlags = TcpFlags(0x14);

#[test]
fn f_8_a_flood_of_syns_ends_the_oldest_and_no_live_session() {
    let mut bench = Bench::new(Config {
        half_open_max: 20,
        sessions_max: 100,
        ..config()
    });
    bench.publish(both());
    bench.deliver(&tcp(CLIENT, WEB_EXT, SYN));
    bench.map(&tcp(WEB, CLIENT, SYN_ACK));
    bench.deliver(&tcp(CLIENT, WEB_EXT, ACK));
    let own = bench.map(&tcp((C2, 41_000), (O2, 443), SYN));
    for round in 0..100u8 {
        for n in 0..10 {
            let forged = ([192, 0, 2, round], n);
            assert_eq!(bench.deliver(&tcp(forged, WEB_EXT, SYN)), WEB);
            // The server answers some, and refuses some.
            if n % 3 == 0 {
                bench.map(&tcp(WEB, forged, if n == 3 { RST_ACK } else { SYN_ACK }));
            }
        }
        // A new client gets in amid the flood, by a handshake as long as five forged SYNs.
        let client = (O2, 1_000 + u16::from(round));
        assert_eq!(bench.deliver(&tcp(client, WEB_EXT, SYN)), WEB);
        for n in 10..15 {
            bench.deliver(&tcp(([192, 0, 2, round], n), WEB_EXT, SYN));
        }
        if round < 40 {
            assert_eq!(bench.map(&tcp(WEB, client, SYN_ACK)), WEB_EXT);
            assert_eq!(bench.deliver(&tcp(client, WEB_EXT, ACK)), WEB);
        }
        let (opened, provisional) = bench.nat.strangers.counts();
        assert!(
            provisional[0] <= 10 && opened <= 75,
            "{opened} {provisional:?}"
        );
    }
    assert_eq!(bench.deliver(&tcp(CLIENT, WEB_EXT, ACK)), WEB);
    assert_eq!(bench.deliver(&tcp((O2, 443), own, SYN_ACK)), (C2, 41_000));
    let live = bench
        .states()
        .iter()
        .filter(|state| **state == "ESTABLISHED")
        .count();
    assert_eq!(live, 41);
    assert!(bench.nat.counters().strangers_evicted > 1_000);
    assert_eq!(bench.nat.counters().dropped(Reason::HalfOpenFull), 0);
}

#[test]
fn a4_4_neither_sides_handshakes_refuse_the_others() {
    let mut bench = Bench::new(Config {
        half_open_max: 10,
        ..config()
    });
    bench.publish(both());
    for n in 0..10 {
        bench.map(&tcp((C2, 1_024 + n), CLIENT, SYN));
    }
    let full = Reason::HalfOpenFull;
    assert_eq!(bench.out_drop(&tcp((C2, 9), CLIENT, SYN)), full);
    for n in 0..20 {
        bench.deliver(&tcp((O2, n), WEB_EXT, SYN));
    }
    assert_eq!(bench.nat.strangers.counts().1, [5, 0]);
    assert_eq!(bench.nat.len(), 15);
    assert_eq!(
        bench.out_drop(&tcp((C2, 9), CLIENT, SYN)),
        full,
        "never evicted"
    );
}

#[test]
fn a4_4_handshakes_from_outside_have_a_short_time() {
    let mut bench = Bench::publishing(both());
    bench.deliver(&tcp(CLIENT, WEB_EXT, SYN));
    bench.deliver(&tcp((O2, 1), WEB_EXT, SYN));
    bench.map(&tcp(WEB, (O2, 1), RST_ACK));
    bench.deliver(&tcp((O2, 2), WEB_EXT, SYN));
    bench.map(&tcp(WEB, (O2, 2), SYN_ACK));
    bench.wait(29);
    // Repeating it does not prolong it.
    bench.deliver(&tcp(CLIENT, WEB_EXT, SYN));
    assert_eq!(bench.nat.len(), 3);
    bench.wait(3);
    assert_eq!(bench.states(), ["SYN_RECV"]);
    bench.deliver(&tcp((O2, 2), WEB_EXT, ACK));
    bench.wait(7_430);
    assert_eq!(bench.states(), ["ESTABLISHED"]);
}

#[test]
fn a4_4_a_published_port_never_fills_the_table() {
    let mut bench = Bench::new(Config {
        sessions_max: 100,
        ..config()
    });
    bench.publish(both());
    for n in 0..1_000 {
        bench.deliver(&udp((O2, n), WEB_EXT));
    }
    assert_eq!(bench.nat.len(), 25, "unanswered: a quarter");
    for n in 1_000..2_000 {
        let client = (O2, n);
        if bench.inn(&udp(client, WEB_EXT)).0 == Outcome::Translated {
            bench.map(&udp(WEB, client));
            bench.deliver(&udp(client, WEB_EXT));
        }
    }
    assert_eq!(bench.nat.len(), 75, "answered: three quarters");
    assert!(bench.nat.counters().dropped(Reason::SessionsExhausted) > 0);
    for n in 0..25 {
        bench.map(&udp((C2, 41_000 + n), CLIENT));
    }
}

#[test]
fn a4_4_a_reopened_session_counts_with_who_reopened_it() {
    let mut bench = Bench::publishing(both());
    bench.deliver(&tcp(CLIENT, WEB_EXT, SYN));
    bench.map(&tcp(WEB, CLIENT, RST_ACK));
    assert_eq!(bench.nat.strangers.counts(), (1, [1, 0]));
    // The server calls the client from its published port.
    assert_eq!(bench.map(&tcp(WEB, CLIENT, SYN)), WEB_EXT);
    assert_eq!(bench.nat.strangers.counts(), (0, [0, 0]));
    bench.wait(300);
    assert!(bench.nat.is_empty());
    assert_eq!(bench.nat.strangers.counts(), (0, [0, 0]));
}

/// A published port whose strangers may begin ten handshakes a second that come to nothing.
fn paced() -> Bench {
    let quota = Quota {
        failed_per_sec: 10,
        ..Quota::NONE
    };
    let mut bench = Bench::new(Config { quota, ..config() });
    bench.publish(both());
    bench
}

/// Handshakes from as many forged addresses as are asked for; returns how many were let in.
fn forge(bench: &mut Bench, count: u32, serial: &mut u32) -> usize {
    let before = bench.nat.counters().dropped(Reason::SynFlood);
    for _ in 0..count {
        *serial += 1;
        let [_, _, c, d] = serial.to_be_bytes();
        let outcome = bench.inn(&tcp(([192, 0, c, d], 999), WEB_EXT, SYN)).0;
        if outcome != Outcome::Translated {
            assert_eq!(outcome, Outcome::Drop(Reason::SynFlood));
        }
    }
    let refused = bench.nat.counters().dropped(Reason::SynFlood) - before;
    usize::try_from(u64::from(count) - refused).unwrap()
}

fn accept(bench: &mut Bench, client: Endpoint) {
    assert_eq!(bench.map(&tcp(WEB, client, SYN_ACK)), WEB_EXT);
    assert_eq!(bench.deliver(&tcp(client, WEB_EXT, ACK)), WEB);
}

#[test]
fn f_8_in_a_flood_a_client_gets_in_with_its_second_syn() {
    let (mut bench, mut serial) = (paced(), 0);
    // Who completes does not count, however many they are.
    for n in 0..100 {
        bench.deliver(&tcp((O2, n), WEB_EXT, SYN));
        accept(&mut bench, (O2, n));
    }
    assert_eq!(forge(&mut bench, 500, &mut serial), 10);
    assert_eq!(bench.in_drop(&tcp(CLIENT, WEB_EXT, SYN)), Reason::SynFlood);
    // Those that are established go on, and datagrams are no handshakes.
    bench.deliver(&tcp((O2, 7), WEB_EXT, ACK));
    bench.deliver(&udp((O2, 7), WEB_EXT));
    bench.now += secs(1);
    assert_eq!(forge(&mut bench, 500, &mut serial), 10);
    assert_eq!(bench.deliver(&tcp(CLIENT, WEB_EXT, SYN)), WEB);
    accept(&mut bench, CLIENT);
    // What completed has given its token back.
    assert_eq!(forge(&mut bench, 500, &mut serial), 1);
}

#[test]
fn f_8_who_repeats_too_soon_or_too_late_does_not_get_in() {
    let (mut bench, mut serial) = (paced(), 0);
    let mut knock = |bench: &mut Bench, millis| {
        bench.now += Nanos::from_millis(millis);
        forge(bench, 20, &mut serial);
        bench.inn(&tcp(CLIENT, WEB_EXT, SYN)).0
    };
    let refused = Outcome::Drop(Reason::SynFlood);
    for _ in 0..40 {
        assert_eq!(knock(&mut bench, 260), refused);
    }
    assert_eq!(knock(&mut bench, 20_000), refused);
    // 1, 3 and 7 s after its first, as Linux repeats a SYN: any of them would do.
    for gap in [1_000, 2_000, 4_000, 8_000] {
        let mut bench = paced();
        assert_eq!(knock(&mut bench, 0), refused);
        assert_eq!(knock(&mut bench, gap), Outcome::Translated);
    }
}

#[test]
fn f_8_patient_floods_are_paced_too() {
    let mut bench = paced();
    let mut let_in = [0; 4];
    for round in &mut let_in {
        let forged = (0..2_000).map(|n| (O2, 1_000 + n));
        let opened = |client: &Endpoint| {
            let outcome = bench.inn(&tcp(*client, WEB_EXT, SYN)).0;
            outcome == Outcome::Translated
        };
        *round = forged.filter(opened).count();
        bench.nat.flush();
        bench.now += secs(1);
    }
    assert_eq!(let_in, [10, 20, 20, 20]);
}

#[test]
fn f_8_opening_again_what_a_rst_closed_counts() {
    let mut bench = paced();
    for n in 0..10 {
        bench.deliver(&tcp((O2, n), WEB_EXT, SYN));
        bench.map(&tcp(WEB, (O2, n), RST_ACK));
    }
    assert_eq!(bench.in_drop(&tcp((O2, 3), WEB_EXT, SYN)), Reason::SynFlood);
    bench.now += Nanos::from_millis(100);
    bench.deliver(&tcp((O2, 3), WEB_EXT, SYN));
    assert_eq!(bench.in_drop(&tcp((O2, 4), WEB_EXT, SYN)), Reason::SynFlood);
    // It is given back once it completes; who has completed one may open another.
    accept(&mut bench, (O2, 3));
    bench.deliver(&tcp((O2, 4), WEB_EXT, SYN));
    bench.map(&tcp(WEB, (O2, 3), TcpFlags(0x11)));
    bench.deliver(&tcp((O2, 3), WEB_EXT, TcpFlags(0x11)));
    bench.map(&tcp(WEB, (O2, 3), ACK));
    assert_eq!(bench.deliver(&tcp((O2, 3), WEB_EXT, SYN)), WEB);
}
