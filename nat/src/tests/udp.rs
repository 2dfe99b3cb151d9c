//! A1 (RFC 4787) and A4: mapping, filtering, timers, hairpin, limits.

use super::*;
use crate::{Filtering, Protocol, Timeouts, owner_of};
use std::collections::HashSet;

#[test]
fn a1_1_one_external_port_for_every_destination() {
    let mut bench = Bench::new(config());
    let first = bench.map(&udp((C1, 5_555), (O1, 53)));
    assert_eq!(first.0, EXT);
    for port in 1..50 {
        assert_eq!(bench.map(&udp((C1, 5_555), (O2, port))), first);
    }
    assert_eq!(bench.nat.counters().mappings_created, 1);
    assert_eq!(bench.nat.len(), 50);
}

#[test]
fn a1_3_two_hosts_never_share_a_port() {
    let mut bench = Bench::new(config());
    let first = bench.map(&udp((C1, 41_000), (O1, 80)));
    let second = bench.map(&udp((C2, 41_000), (O2, 80)));
    assert_eq!(first.1, 41_000, "the inside port is kept when it is free");
    assert_ne!(first.1, second.1);
    assert_eq!(bench.nat.counters().ports_preserved, 1);
}

#[test]
fn a1_4_collision_keeps_parity() {
    let mut bench = Bench::new(config());
    for port in [41_000, 41_001, 41_002, 41_003] {
        bench.map(&udp((C1, port), (O1, 80)));
        let other = bench.map(&udp((C2, port), (O1, 80))).1;
        assert_eq!(other % 2, port % 2);
    }
}

#[test]
fn a1_5_default_timer_is_300_s_and_60_s_for_dns() {
    for (port, alive, dead) in [(4_000, 299, 301), (53, 59, 61)] {
        let mut bench = Bench::new(config());
        let ext = bench.map(&udp((C1, 5_555), (O1, port)));
        bench.wait(alive);
        assert_eq!(bench.deliver(&udp((O1, port), ext)), (C1, 5_555));
        // An inbound packet does not refresh.
        bench.now += secs(dead - alive);
        assert_eq!(bench.in_drop(&udp((O1, port), ext)), Reason::Unsolicited);
        assert_eq!(bench.nat.len(), 0);
    }
}

#[test]
fn a1_5_linux_profile_is_shorter() {
    let mut bench = Bench::new(Config {
        timeouts: Timeouts::linux(),
        ..config()
    });
    let ext = bench.map(&udp((C1, 5_555), (O1, 4_000)));
    bench.deliver(&udp((O1, 4_000), ext));
    bench.wait(31);
    assert_eq!(bench.nat.len(), 0, "30 s until the inside speaks again");
    let ext = bench.map(&udp((C1, 5_555), (O1, 4_000)));
    bench.deliver(&udp((O1, 4_000), ext));
    bench.map(&udp((C1, 5_555), (O1, 4_000)));
    bench.wait(119);
    assert_eq!(bench.nat.len(), 1);
    bench.wait(3);
    assert_eq!(bench.nat.len(), 0);
}

#[test]
fn a1_6_inbound_traffic_does_not_keep_the_mapping() {
    for filtering in [Filtering::Apdf, Filtering::Eif] {
        let mut bench = Bench::new(Config {
            udp_filtering: filtering,
            ..config()
        });
        let ext = bench.map(&udp((C1, 5_555), (O1, 4_000)));
        for second in 1..=30 {
            bench.wait(10);
            // With endpoint-independent filtering strangers come in too: their sessions must
            // not outlive the mapping either.
            let (outcome, _) = bench.inn(&udp((O1, 4_000), ext));
            let (stranger, _) = bench.inn(&udp((O2, second), ext));
            assert_eq!(outcome == Outcome::Translated, second < 30, "{second}");
            let admitted = filtering == Filtering::Eif && second < 30;
            assert_eq!(stranger == Outcome::Translated, admitted);
        }
        bench.wait(2);
        assert_eq!(
            (bench.nat.len(), bench.nat.ports_used(Protocol::Udp)),
            (0, 0)
        );
    }
    let mut bench = Bench::new(Config {
        inbound_refresh: true,
        ..config()
    });
    let ext = bench.map(&udp((C1, 5_555), (O1, 4_000)));
    for _ in 0..40 {
        bench.wait(10);
        bench.deliver(&udp((O1, 4_000), ext));
    }
}

#[test]
fn a1_6_outbound_traffic_refreshes() {
    let mut bench = Bench::new(config());
    let ext = bench.map(&udp((C1, 5_555), (O1, 4_000)));
    for _ in 0..10 {
        bench.wait(290);
        assert_eq!(bench.map(&udp((C1, 5_555), (O1, 4_000))), ext);
    }
    assert_eq!(bench.nat.counters().sessions_created, 1);
}

#[test]
fn a1_8_filtering_classes() {
    let admitted = |filtering| {
        let mut bench = Bench::new(Config {
            udp_filtering: filtering,
            ..config()
        });
        let ext = bench.map(&udp((C1, 5_555), (O1, 4_000)));
        [(O1, 4_000), (O1, 4_001), (O2, 4_000)]
            .map(|from| bench.inn(&udp(from, ext)).0 == Outcome::Translated)
    };
    assert_eq!(admitted(Filtering::Apdf), [true, false, false]);
    assert_eq!(admitted(Filtering::Adf), [true, true, false]);
    assert_eq!(admitted(Filtering::Eif), [true, true, true]);
}

#[test]
fn a1_8_address_permission_ends_with_its_last_session() {
    let mut bench = Bench::new(Config {
        udp_filtering: Filtering::Adf,
        ..config()
    });
    let ext = bench.map(&udp((C1, 5_555), (O1, 53)));
    bench.map(&udp((C1, 5_555), (O2, 4_000)));
    bench.deliver(&udp((O1, 9), ext));
    bench.wait(62);
    assert_eq!(
        bench.deliver(&udp((O1, 9), ext)),
        (C1, 5_555),
        "that session is live still"
    );
    bench.wait(230);
    assert_eq!(bench.deliver(&udp((O2, 9), ext)), (C1, 5_555));
    bench.wait(20);
    assert_eq!(bench.in_drop(&udp((O2, 9), ext)), Reason::Unsolicited);
}

#[test]
fn a1_8_answer_to_a_stranger_goes_out_from_the_same_port() {
    let mut bench = Bench::new(Config {
        udp_filtering: Filtering::Eif,
        ..config()
    });
    let ext = bench.map(&udp((C1, 5_555), (O1, 4_000)));
    assert_eq!(bench.deliver(&udp((O2, 7), ext)), (C1, 5_555));
    assert_eq!(bench.map(&udp((C1, 5_555), (O2, 7))), ext);
    let view = bench
        .nat
        .sessions()
        .find(|view| view.remote.0.octets() == O2)
        .unwrap();
    assert!(!view.from_inside && view.replied);
    assert_eq!((view.inbound.packets, view.outbound.packets), (1, 1));
}

#[test]
fn a1_9_hairpin_with_external_source() {
    let mut bench = Bench::new(config());
    // The filtering is the strictest, and c1 has never sent to its own external address.
    let c1 = bench.map(&udp((C1, 5_555), (O1, 3_478)));
    let (outcome, looped) = bench.out(&udp((C2, 6_666), c1));
    assert_eq!(outcome, Outcome::Hairpin { owner: 0 });
    let (src, dst) = ends(&looped);
    assert_eq!((src.0, dst), (EXT, c1));
    let (outcome, delivered) = bench.pin(&looped);
    assert_eq!(
        (outcome, ends(&delivered)),
        (Outcome::Translated, (src, (C1, 5_555)))
    );
    // And back the same way.
    let (outcome, looped) = bench.out(&udp((C1, 5_555), src));
    assert_eq!(
        (outcome, ends(&looped)),
        (Outcome::Hairpin { owner: 0 }, (c1, src))
    );
    let (outcome, delivered) = bench.pin(&looped);
    assert_eq!(
        (outcome, ends(&delivered)),
        (Outcome::Translated, (c1, (C2, 6_666)))
    );
    // The same bytes from the uplink are a forgery.
    assert_eq!(bench.in_drop(&looped), Reason::SpoofedSource);
}

#[test]
fn a1_9_hairpin_across_slices() {
    let slice = |slice| {
        Bench::new(Config {
            slice,
            slices: 2,
            ..config()
        })
    };
    let (mut a, mut b) = (slice(0), slice(1));
    let c1 = a.map(&udp((C1, 5_555), (O1, 3_478)));
    assert_eq!(owner_of(&config().ports, 2, c1.1), Some(0));
    let (outcome, looped) = b.out(&udp((C2, 6_666), c1));
    assert_eq!(outcome, Outcome::Hairpin { owner: 0 });
    let c2 = ends(&looped).0;
    assert_eq!(owner_of(&config().ports, 2, c2.1), Some(1));
    assert_eq!(a.pin(&looped).0, Outcome::Translated);
    let (outcome, looped) = a.out(&udp((C1, 5_555), c2));
    assert_eq!(outcome, Outcome::Hairpin { owner: 1 });
    assert_eq!(ends(&b.pin(&looped).1), (c1, (C2, 6_666)));
}

#[test]
fn f_16_hairpin_to_the_own_mapping_is_one_packet() {
    let mut bench = Bench::new(config());
    let ext = bench.map(&udp((C1, 5_555), (O1, 1)));
    let (_, looped) = bench.out(&udp((C1, 5_555), ext));
    let (outcome, delivered) = bench.pin(&looped);
    assert_eq!(
        (outcome, ends(&delivered)),
        (Outcome::Translated, (ext, (C1, 5_555)))
    );
}

#[test]
fn a0_2_host_traffic_is_not_ours() {
    let mut bench = Bench::new(config());
    assert_eq!(bench.inn(&udp((O1, 53), (EXT, 39_999))).0, Outcome::NotOurs);
    assert_eq!(bench.inn(&udp((O1, 53), (EXT, 50_000))).0, Outcome::NotOurs);
    assert_eq!(bench.inn(&udp((O1, 53), (O2, 40_000))).0, Outcome::NotOurs);
    assert_eq!(bench.out(&udp((C1, 53), (EXT, 22))).0, Outcome::NotOurs);
    let (syn, synfin) = (TcpFlags::SYN, TcpFlags::SYN | TcpFlags::FIN);
    assert_eq!(
        bench.inn(&tcp((O1, 53), (EXT, 22), synfin)).0,
        Outcome::NotOurs
    );
    assert_eq!(
        bench.inn(&tcp((O1, 53), (EXT, 22), syn)).0,
        Outcome::NotOurs
    );
    assert_eq!(bench.nat.len(), 0);
}

#[test]
fn slices_steer_replies_to_their_owner() {
    let slice = |slice| {
        Bench::new(Config {
            slice,
            slices: 3,
            ..config()
        })
    };
    let mut engines = [slice(0), slice(1), slice(2)];
    for owner in 0..3u16 {
        let ext = engines[usize::from(owner)].map(&udp((C1, 5_555), (O1, 9)));
        assert_eq!(owner_of(&config().ports, 3, ext.1), Some(owner));
        for at in 0..3u16 {
            let (outcome, _) = engines[usize::from(at)].inn(&udp((O1, 9), ext));
            let expected = if at == owner {
                Outcome::Translated
            } else {
                Outcome::Elsewhere { owner }
            };
            assert_eq!(outcome, expected);
        }
    }
}

#[test]
fn a1_15_udp_checksum_zero_stays_zero() {
    let mut bench = Bench::new(config());
    let mut bytes = udp((C1, 5_555), (O1, 9));
    bytes[26..28].fill(0);
    let (outcome, bytes) = {
        let mut packet = Packet {
            bytes: &mut bytes,
            l4_sum: L4Sum::Full,
        };
        (bench.nat.outbound(&mut packet, bench.now), bytes)
    };
    assert_eq!(
        (outcome, &bytes[26..28]),
        (Outcome::Translated, &[0, 0][..])
    );
}

#[test]
fn a1_15_computed_zero_is_sent_as_ffff() {
    // For one of the payloads the translated datagram's checksum is zero.
    let mut seen = false;
    for word in 0..=u16::MAX {
        let mut bytes = udp_with((C1, 40_001), (O1, 9), &word.to_be_bytes());
        let mut nat = nat_with_one_port();
        let mut packet = Packet {
            bytes: &mut bytes,
            l4_sum: L4Sum::Full,
        };
        assert_eq!(nat.outbound(&mut packet, secs(1)), Outcome::Translated);
        assert_ne!(&bytes[26..28], [0, 0]);
        if bytes[26..28] == [0xff, 0xff] {
            assert_sums(&bytes);
            seen = true;
        }
    }
    assert!(seen);
}

/// Small enough to be made 65,536 times.
fn nat_with_one_port() -> Nat {
    let fragments = crate::FragmentLimits {
        datagrams_max: 1,
        ..crate::FragmentLimits::default()
    };
    let config = Config {
        sessions_max: 2,
        fragments,
        ..Config::new(EXT.into(), 40_001..=40_001)
    };
    Nat::new(config, 1)
}

#[test]
fn a0_8_a_wrong_checksum_stays_wrong() {
    let mut bytes = udp((C1, 5_555), (O1, 9));
    bytes[27] ^= 0x40;
    let mut packet = Packet {
        bytes: &mut bytes,
        l4_sum: L4Sum::Full,
    };
    assert_eq!(nat().outbound(&mut packet, secs(1)), Outcome::Translated);
    let ip = Ipv4::parse(&bytes).unwrap();
    let length = u16::try_from(ip.payload().len()).unwrap();
    let pseudo = checksum::pseudo_v4(ip.src(), ip.dst(), ip.protocol(), length);
    assert_ne!(checksum::finish(pseudo + checksum::sum(ip.payload())), 0);
}

#[test]
fn a4_2_exhausted_ports_refuse_and_the_live_ones_stay() {
    let mut bench = Bench::new(Config::new(EXT.into(), 40_000..=40_063));
    let ports: HashSet<_> = (0..64)
        .map(|n| bench.map(&udp((C1, 1_024 + n), (O1, 9))).1)
        .collect();
    assert_eq!(ports.len(), 64);
    assert_eq!(
        bench.out_drop(&udp((C1, 9_999), (O1, 9))),
        Reason::PortsExhausted
    );
    // Endpoint independence: a mapped endpoint needs no other port. TCP has its own ports.
    bench.map(&udp((C1, 1_024), (O2, 9)));
    bench.map(&tcp((C1, 9_999), (O1, 9), TcpFlags::SYN));
    for n in 0..64 {
        bench.map(&udp((C1, 1_024 + n), (O1, 9)));
    }
    bench.wait(302);
    assert_eq!(bench.nat.ports_used(Protocol::Udp), 0);
    bench.map(&udp((C1, 9_999), (O1, 9)));
}

#[test]
fn a4_2_full_session_table_refuses_and_leaks_no_port() {
    let mut bench = Bench::new(Config {
        sessions_max: 10,
        ..config()
    });
    for n in 0..10 {
        bench.map(&udp((C1, 5_000 + n), (O1, 9)));
    }
    assert_eq!(
        bench.out_drop(&udp((C1, 6_000), (O1, 9))),
        Reason::SessionsExhausted
    );
    assert_eq!(
        bench.out_drop(&udp((C1, 5_000), (O2, 9))),
        Reason::SessionsExhausted
    );
    assert_eq!(bench.nat.ports_used(Protocol::Udp), 10);
    assert_eq!((bench.nat.len(), bench.nat.capacity()), (10, 10));
    bench.map(&udp((C1, 5_000), (O1, 9)));
}

#[test]
fn a4_12_expiry_is_bounded_work() {
    let mut bench = Bench::new(config());
    for n in 0..100 {
        bench.map(&udp((C1, 5_000 + n), (O1, 9)));
    }
    let now = bench.now + secs(400);
    assert!(bench.nat.next_expiry().unwrap() <= bench.now + secs(302));
    let steps: Vec<usize> = (0..4).map(|_| bench.nat.expire(now, 30)).collect();
    assert_eq!(steps, [30, 30, 30, 10]);
    assert_eq!(
        (bench.nat.next_expiry(), bench.nat.is_empty()),
        (None, true)
    );
}

#[test]
fn a1_17_udp_lite_and_dccp_are_refused_by_name() {
    let mut bench = Bench::new(config());
    let with_protocol = |number, src, dst| {
        let mut bytes = udp(src, dst);
        bytes[9] = number;
        Ipv4::parse(&mut bytes[..]).unwrap().fill_checksum();
        bytes
    };
    for number in [protocol::DCCP, protocol::UDP_LITE] {
        assert_eq!(
            bench.out_drop(&with_protocol(number, (C1, 1), (O1, 1))),
            Reason::UnknownProtocol
        );
        // From outside such a packet can only be the host's own.
        let (outcome, _) = bench.inn(&with_protocol(number, (O1, 1), (EXT, 41_000)));
        assert_eq!(outcome, Outcome::NotOurs);
    }
}

#[test]
fn ports_are_stable_across_a_flush_and_differ_by_seed() {
    let port = |seed, flush: bool| {
        let mut nat = Nat::new(config(), seed);
        for n in 0..50 {
            let mut bytes = udp((C2, 100 + n), (O1, 9));
            let mut packet = Packet {
                bytes: &mut bytes,
                l4_sum: L4Sum::Full,
            };
            assert_eq!(nat.outbound(&mut packet, secs(1)), Outcome::Translated);
        }
        if flush {
            assert_eq!(nat.flush(), 50);
        }
        let mut bytes = udp((C1, 777), (O1, 9));
        let mut packet = Packet {
            bytes: &mut bytes,
            l4_sum: L4Sum::Full,
        };
        assert_eq!(nat.outbound(&mut packet, secs(1)), Outcome::Translated);
        ends(&bytes).0.1
    };
    assert_eq!(port(1, false), port(1, true));
    assert_ne!(port(1, false), port(2, false));
}

#[test]
fn trailer_and_options_are_left_alone() {
    let mut bench = Bench::new(config());
    let mut bytes = Vec::new();
    let options = [1u8, 1, 1, 0];
    let mut header = etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::UDP, C1, O1).unwrap();
    header.options = etherparse::Ipv4Options::try_from(&options[..]).unwrap();
    etherparse::PacketBuilder::ip(etherparse::IpHeaders::Ipv4(
        header,
        etherparse::Ipv4Extensions::default(),
    ))
    .udp(5_555, 9)
    .write(&mut bytes, b"odd")
    .unwrap();
    let total_len = bytes.len();
    bytes.extend([0xaa; 13]);
    let (outcome, sent) = bench.out(&bytes);
    assert_eq!(outcome, Outcome::Translated);
    assert_eq!(ends(&sent).0.0, EXT);
    assert_eq!(
        (&sent[20..24], &sent[total_len..]),
        (&options[..], &[0xaa; 13][..])
    );
}
