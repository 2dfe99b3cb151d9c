//! A3 (RFC 5508): queries and errors.

use super::sctp::INIT;
use super::*;
use crate::Protocol;
use crate::wire::icmp;

/// Each protocol, and one without ports.
const EACH: [Protocol; 5] = [
    Protocol::Tcp,
    Protocol::Udp,
    Protocol::Icmp,
    Protocol::Sctp,
    Protocol::Other(50),
];

/// Undoes the checks: breaks one byte without touching any checksum.
fn corrupt(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 0x01;
    bytes
}

fn refill_icmp(bytes: &mut [u8]) {
    let mut ip = Ipv4::parse(bytes).unwrap();
    crate::wire::Icmp::parse(ip.payload_mut())
        .unwrap()
        .fill_checksum();
}

/// The packet quoted by an ICMP error.
fn quoted(bytes: &[u8]) -> &[u8] {
    &bytes[28..usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))]
}

fn as_timestamp(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[20] = if bytes[20] == icmp::ECHO_REQUEST {
        icmp::TIMESTAMP_REQUEST
    } else {
        icmp::TIMESTAMP_REPLY
    };
    refill_icmp(&mut bytes);
    bytes
}

#[test]
fn a3_1_echo_identifiers() {
    let mut bench = Bench::new(config());
    let first = bench.map(&echo(C1, O1, 41_000, false));
    assert_eq!(first, (EXT, 41_000), "kept when it is free");
    let second = bench.map(&echo(C2, O1, 41_000, false));
    assert_ne!(second.1, 41_000);
    assert_eq!(
        bench.map(&echo(C1, O2, 41_000, false)),
        first,
        "endpoint-independent"
    );
    assert_eq!(bench.deliver(&echo(O1, EXT, first.1, true)), (C1, 41_000));
    assert_eq!(bench.deliver(&echo(O1, EXT, second.1, true)), (C2, 41_000));
    assert_eq!(
        bench.in_drop(&echo(O2, EXT, second.1, true)),
        Reason::Unsolicited
    );
}

#[test]
fn a3_1_timestamp_queries() {
    let mut bench = Bench::new(config());
    let ext = bench.map(&as_timestamp(echo(C1, O1, 41_000, false)));
    assert_eq!(
        bench.deliver(&as_timestamp(echo(O1, EXT, ext.1, true))),
        (C1, 41_000)
    );
    // An echo reply is no answer to it.
    assert_eq!(
        bench.in_drop(&echo(O1, EXT, ext.1, true)),
        Reason::Unsolicited
    );
    assert_eq!(
        bench.map(&echo(C1, O1, 41_000, false)),
        ext,
        "one mapping for both"
    );
    assert_eq!(bench.nat.ports_used(Protocol::Icmp), 1);
}

#[test]
fn a3_1_query_timer_is_60_s() {
    let mut bench = Bench::new(config());
    let ext = bench.map(&echo(C1, O1, 41_000, false));
    bench.wait(59);
    bench.deliver(&echo(O1, EXT, ext.1, true));
    bench.wait(2);
    assert_eq!(
        bench.in_drop(&echo(O1, EXT, ext.1, true)),
        Reason::Unsolicited
    );
}

#[test]
fn a0_3_identifiers_are_drawn_on_a_shared_address() {
    let mut bench = Bench::new(Config {
        preserve_ids: false,
        ..config()
    });
    let ids: Vec<_> = (0..20)
        .map(|n| bench.map(&echo(C1, O1, 41_000 + n, false)).1 - 41_000)
        .collect();
    assert!(
        (0..20).filter(|&n| ids[usize::from(n)] == n).count() <= 1,
        "{ids:?}"
    );
    // The host's own ping, outside the range, is left to the host.
    assert_eq!(bench.inn(&echo(O1, EXT, 77, true)).0, Outcome::NotOurs);
    assert_eq!(bench.inn(&echo(O1, EXT, 41_000, false)).0, Outcome::NotOurs);
    assert_eq!(bench.out(&echo(C1, EXT, 41_000, false)).0, Outcome::NotOurs);
}

/// Session, quoted packet as the router saw it, and what the inside host had sent.
fn sent(bench: &mut Bench, protocol: Protocol) -> (Vec<u8>, Vec<u8>) {
    let original = match protocol {
        Protocol::Tcp => tcp((C1, 5_555), (O1, 80), TcpFlags::SYN),
        Protocol::Udp => udp((C1, 5_555), (O1, 9)),
        Protocol::Icmp => echo(C1, O1, 5_555, false),
        Protocol::Sctp => sctp((C1, 5_555), (O1, 9), 0, &[INIT]),
        Protocol::Other(number) => raw(number, C1, O1, b"whatever it is"),
    };
    let (outcome, translated) = bench.out(&original);
    assert_eq!(outcome, Outcome::Translated);
    (original, translated)
}

#[test]
fn a3_3_inbound_error_is_restored_in_full() {
    for protocol in EACH {
        for (kind, code) in [(3, 3), (3, 4), (3, 13), (11, 0), (12, 0)] {
            // Eight bytes of transport, an odd length, and all of it.
            for length in [28, 35, 100] {
                let mut bench = Bench::new(config());
                let (original, translated) = sent(&mut bench, protocol);
                // From a third address: errors are not filtered by their source (A1-12a).
                let packet = error(O2, EXT, kind, code, &translated, length);
                let (outcome, delivered) = bench.inn(&packet);
                assert_eq!(outcome, Outcome::Translated);
                assert_eq!(&delivered[12..16], O2);
                assert_eq!(&delivered[16..20], C1);
                assert_eq!((delivered[20], delivered[21]), (kind, code));
                // Byte for byte what the inside host sent, checksums included.
                assert_eq!(quoted(&delivered), &original[..length.min(original.len())]);
                assert_eq!(bench.nat.counters().icmp_errors, 1);
            }
        }
    }
}

#[test]
fn a3_3_without_a_session_it_is_dropped() {
    let mut bench = Bench::new(config());
    let (_, translated) = sent(&mut bench, Protocol::Udp);
    bench.nat.flush();
    let packet = error(O1, EXT, 3, 3, &translated, 28);
    assert_eq!(bench.in_drop(&packet), Reason::IcmpErrorUnrelated);
    // About the host's own packet: the host's business.
    let own = error(O1, EXT, 3, 3, &udp((EXT, 9), (O1, 9)), 28);
    assert_eq!(bench.inn(&own).0, Outcome::NotOurs);
}

#[test]
fn a3_3_error_for_another_slice() {
    let slice = |slice| {
        Bench::new(Config {
            slice,
            slices: 2,
            ..config()
        })
    };
    let (mut a, mut b) = (slice(0), slice(1));
    let (_, translated) = sent(&mut b, Protocol::Udp);
    let packet = error(O1, EXT, 11, 0, &translated, 28);
    assert_eq!(a.inn(&packet).0, Outcome::Elsewhere { owner: 1 });
    assert_eq!(b.inn(&packet).0, Outcome::Translated);
}

#[test]
fn a3_2_bad_sums_are_dropped_but_not_the_inner_transport_sum() {
    let mut bench = Bench::new(config());
    let (_, translated) = sent(&mut bench, Protocol::Udp);
    let good = error(O1, EXT, 3, 3, &translated, 100);
    assert_eq!(
        bench.in_drop(&corrupt(good.clone(), 27)),
        Reason::BadIcmpChecksum
    );
    let mut bad_inner_ip = corrupt(good.clone(), 28 + 8);
    refill_icmp(&mut bad_inner_ip);
    assert_eq!(bench.in_drop(&bad_inner_ip), Reason::BadIcmpChecksum);
    let mut bad_inner_udp = corrupt(good.clone(), 28 + 27);
    refill_icmp(&mut bad_inner_udp);
    assert_eq!(bench.inn(&bad_inner_udp).0, Outcome::Translated);
    assert_eq!(bench.inn(&good).0, Outcome::Translated);
}

#[test]
fn a3_2_extensions_after_the_quote_are_left_alone() {
    let mut bench = Bench::new(config());
    let (original, translated) = sent(&mut bench, Protocol::Udp);
    // RFC 4884: the quote padded to 128 bytes, then an MPLS extension.
    let mut body = translated;
    body.resize(128, 0);
    body.extend([0x20, 0, 0, 0, 0, 8, 1, 1, 0, 0x40, 0x01, 0xff]);
    let (outcome, delivered) = bench.inn(&error(O2, EXT, 11, 0, &body, 1_000));
    assert_eq!(outcome, Outcome::Translated);
    assert_eq!(quoted(&delivered)[..original.len()], original);
    assert_eq!(quoted(&delivered)[original.len()..], body[original.len()..]);
}

#[test]
fn a3_2_inner_options_are_skipped() {
    let mut bench = Bench::new(config());
    let (_, translated) = sent(&mut bench, Protocol::Udp);
    let mut with_options = translated[..20].to_vec();
    with_options.extend([1, 1, 1, 0]);
    with_options.extend(&translated[20..]);
    with_options[0] = 0x46;
    with_options[3] += 4;
    Ipv4::parse(&mut with_options[..]).unwrap().fill_checksum();
    let (outcome, delivered) = bench.inn(&error(O2, EXT, 3, 1, &with_options, 1_000));
    assert_eq!(outcome, Outcome::Translated);
    let inner = Ipv4::parse(quoted(&delivered)).unwrap();
    assert!(inner.verify_checksum());
    assert_eq!(inner.src().octets(), C1);
    assert_eq!(inner.payload()[..2], 5_555u16.to_be_bytes());
}

#[test]
fn a3_4_outbound_error_is_translated() {
    for from in [C1, [10, 9, 0, 77]] {
        let mut bench = Bench::new(config());
        let ext = bench.map(&udp((C1, 5_555), (O1, 9)));
        let inbound = udp((O1, 9), ext);
        let (_, delivered) = bench.inn(&inbound);
        // From the host itself, or from a router behind which it sits.
        let (outcome, sent) = bench.out(&error(from, O1, 3, 3, &delivered, 28));
        assert_eq!(outcome, Outcome::Translated);
        assert_eq!((&sent[12..16], &sent[16..20]), (&EXT[..], &O1[..]));
        assert_eq!(
            quoted(&sent),
            &inbound[..28],
            "it quotes what the outside had sent"
        );
    }
}

#[test]
fn a1_12_a3_5_errors_neither_refresh_nor_end_a_session() {
    for protocol in EACH {
        let mut bench = Bench::new(config());
        let (_, translated) = sent(&mut bench, protocol);
        let before: Vec<_> = bench.nat.sessions().collect();
        bench.now += secs(29);
        for code in [1, 3, 13] {
            bench.deliver(&error(O1, EXT, 3, code, &translated, 28));
        }
        assert_eq!(bench.nat.sessions().collect::<Vec<_>>(), before);
    }
}

#[test]
fn a3_6_hairpinned_error() {
    let mut bench = Bench::new(config());
    let c1 = bench.map(&udp((C1, 5_555), (O1, 9)));
    let original = udp((C2, 6_666), c1);
    let (_, looped) = bench.out(&original);
    let (_, delivered) = bench.pin(&looped);
    // c1's socket is closed by now.
    let (outcome, sent) = bench.out(&error(C1, EXT, 3, 3, &delivered, 28));
    assert_eq!(outcome, Outcome::Hairpin { owner: 0 });
    let (outcome, arrived) = bench.pin(&sent);
    assert_eq!(outcome, Outcome::Translated);
    assert_eq!((&arrived[12..16], &arrived[16..20]), (&EXT[..], &C2[..]));
    assert_eq!(quoted(&arrived), &original[..28], "c2's own packet");
}

#[test]
fn a3_8_unrelated_errors_are_dropped() {
    let mut bench = Bench::new(config());
    let (_, translated) = sent(&mut bench, Protocol::Udp);
    let refuse = |bench: &mut Bench, inner: &[u8], length| {
        assert_eq!(
            bench.in_drop(&error(O1, EXT, 3, 3, inner, length)),
            Reason::IcmpErrorUnrelated
        );
    };
    // Quotes a packet that another address sent.
    let mut other = translated.clone();
    other[12..16].copy_from_slice(&O2);
    Ipv4::parse(&mut other[..]).unwrap().fill_checksum();
    refuse(&mut bench, &other, 28);
    // Too little of it, a later fragment, a refused protocol, an error about an error.
    refuse(&mut bench, &translated, 27);
    refuse(&mut bench, &translated, 11);
    let change = |at: usize, value| {
        let mut bytes = translated.clone();
        bytes[at] = value;
        Ipv4::parse(&mut bytes[..]).unwrap().fill_checksum();
        bytes
    };
    refuse(&mut bench, &change(7, 9), 28);
    refuse(&mut bench, &change(9, protocol::UDP_LITE), 28);
    refuse(&mut bench, &error(EXT, O1, 3, 3, &translated, 28), 100);
    assert_eq!(bench.nat.counters().dropped(Reason::IcmpErrorUnrelated), 6);
    // From inside: an error to someone who did not send the quoted packet.
    let ext = ends(&translated).0;
    let (_, delivered) = bench.inn(&udp((O1, 9), ext));
    let stray = error(C1, O2, 3, 3, &delivered, 28);
    assert_eq!(bench.out_drop(&stray), Reason::IcmpErrorUnrelated);
}

#[test]
fn a3_9_refused_types() {
    let mut bench = Bench::new(config());
    let (_, translated) = sent(&mut bench, Protocol::Udp);
    for kind in [icmp::SOURCE_QUENCH, icmp::REDIRECT] {
        let packet = error(O1, EXT, kind, 0, &translated, 28);
        assert_eq!(bench.in_drop(&packet), Reason::IcmpTypeRefused);
    }
    for kind in [0, 4, 5, 10, 14, 15, 16, 17, 18] {
        let packet = error(C1, O1, kind, 0, &[0; 28], 28);
        assert_eq!(bench.out_drop(&packet), Reason::IcmpTypeRefused);
    }
}

/// RFC 5508 section 7, type by type, in both directions.
#[test]
fn a3_9_policy_per_type() {
    for kind in 0..=255u8 {
        let mut bench = Bench::new(config());
        let (_, translated) = sent(&mut bench, Protocol::Udp);
        let (outcome, _) = bench.inn(&error(O1, EXT, kind, 0, &translated, 28));
        let expected = match kind {
            3 | 11 | 12 => Outcome::Translated,
            4 | 5 => Outcome::Drop(Reason::IcmpTypeRefused),
            // An answer to no request of ours, or asked of the gateway itself.
            _ => Outcome::NotOurs,
        };
        assert_eq!(outcome, expected, "type {kind} from outside");
        let (_, delivered) = bench.inn(&udp((O1, 9), ends(&translated).0));
        let (outcome, _) = bench.out(&error(C1, O1, kind, 0, &delivered, 28));
        let expected = match kind {
            3 | 8 | 11 | 12 | 13 => Outcome::Translated,
            _ => Outcome::Drop(Reason::IcmpTypeRefused),
        };
        assert_eq!(outcome, expected, "type {kind} from inside");
    }
}
