//! A5: virtual reassembly.

use super::*;
use crate::{Direction, FragmentLimits, ReleasedPacket};

/// Cuts a packet into fragments of `size` payload bytes, all with this identification.
pub(super) fn cut(packet: &[u8], size: usize, id: u16) -> Vec<Vec<u8>> {
    let ip = Ipv4::parse(packet).unwrap();
    let chunks: Vec<_> = ip.payload().chunks(size).collect();
    let make = |(n, chunk): (usize, &&[u8])| {
        let mut bytes = ip.header().to_vec();
        bytes.extend(*chunk);
        fragment(bytes, id, n * size, n + 1 < chunks.len())
    };
    chunks.iter().enumerate().map(make).collect()
}

/// Makes a packet a fragment.
fn fragment(mut bytes: Vec<u8>, id: u16, offset: usize, more: bool) -> Vec<u8> {
    let total_len = u16::try_from(bytes.len()).unwrap();
    bytes[2..4].copy_from_slice(&total_len.to_be_bytes());
    bytes[4..6].copy_from_slice(&id.to_be_bytes());
    let field = u16::try_from(offset / 8).unwrap() | if more { 0x2000 } else { 0 };
    bytes[6..8].copy_from_slice(&field.to_be_bytes());
    Ipv4::parse(&mut bytes[..]).unwrap().fill_checksum();
    bytes
}

/// Reassembles fragments in any order.
pub(super) fn join(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut parts: Vec<_> = fragments
        .iter()
        .map(|bytes| {
            let ip = Ipv4::parse(bytes).unwrap();
            assert!(ip.verify_checksum());
            (ip.fragment_offset(), ip.payload().to_vec())
        })
        .collect();
    parts.sort();
    let mut bytes = fragments[0][..20].to_vec();
    for (offset, part) in parts {
        assert_eq!(bytes.len(), 20 + offset, "no gap, no overlap");
        bytes.extend(part);
    }
    fragment(bytes, 0, 0, false)
}

fn released(bench: &mut Bench) -> Vec<ReleasedPacket> {
    std::iter::from_fn(|| bench.nat.released()).collect()
}

fn usage(bench: &Bench) -> (usize, usize) {
    bench.nat.fragments.usage()
}

fn big(src: Endpoint, dst: Endpoint) -> Vec<u8> {
    let payload: Vec<u8> = (0..4_000).map(|n| u8::try_from(n % 251).unwrap()).collect();
    udp_with(src, dst, &payload)
}

/// Every order of three.
const ORDERS: [[usize; 3]; 6] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
];

#[test]
fn a1_14_a5_1_fragments_in_any_order_both_ways() {
    for order in ORDERS {
        let mut bench = Bench::new(config());
        let ext = bench.map(&udp((C1, 41_000), (O1, 9)));
        for inbound in [false, true] {
            let packet = if inbound {
                big((O1, 9), ext)
            } else {
                big((C1, 41_000), (O1, 9))
            };
            let fragments = cut(&packet, 1_480, 77);
            let mut sent = Vec::new();
            for at in order {
                let (outcome, bytes) = if inbound {
                    bench.inn(&fragments[at])
                } else {
                    bench.out(&fragments[at])
                };
                if outcome == Outcome::Translated {
                    sent.push(bytes);
                } else {
                    assert_eq!(outcome, Outcome::Held);
                }
                for packet in released(&mut bench) {
                    assert_eq!(packet.outcome, Outcome::Translated);
                    let came = if inbound {
                        Direction::Inbound
                    } else {
                        Direction::Outbound
                    };
                    assert_eq!(packet.direction, came);
                    sent.push(packet.bytes);
                }
            }
            let whole = join(&sent);
            assert_sums(&whole);
            let expected = if inbound {
                ((O1, 9), (C1, 41_000))
            } else {
                ((EXT, 41_000), (O1, 9))
            };
            assert_eq!(ends(&whole), expected);
            assert_eq!(whole[28..], packet[28..]);
            assert_eq!(usage(&bench), (0, 0), "a complete datagram is forgotten");
        }
        let view = bench.nat.sessions().next().unwrap();
        assert_eq!((view.outbound.packets, view.inbound.packets), (4, 3));
    }
}

#[test]
fn a5_1_fragmented_ping() {
    let mut bench = Bench::new(config());
    let mut request = Vec::new();
    PacketBuilder::ipv4(C1, O1, 64)
        .icmpv4_echo_request(41_000, 1)
        .write(&mut request, &[0x5a; 4_000])
        .unwrap();
    let mut sent: Vec<_> = cut(&request, 1_480, 5)
        .iter()
        .rev()
        .map(|bytes| bench.out(bytes))
        .collect();
    let (first, bytes) = sent.pop().unwrap();
    assert_eq!(first, Outcome::Translated);
    assert!(sent.iter().all(|(outcome, _)| *outcome == Outcome::Held));
    let mut parts = vec![bytes];
    parts.extend(released(&mut bench).into_iter().map(|packet| packet.bytes));
    assert_sums(&join(&parts));
}

#[test]
fn a5_1_another_slices_fragments_follow_their_first() {
    let slice = |slice| {
        Bench::new(Config {
            slice,
            slices: 2,
            ..config()
        })
    };
    let (mut a, mut b) = (slice(0), slice(1));
    let ext = b.map(&udp((C1, 5_555), (O1, 9)));
    let fragments = cut(&big((O1, 9), ext), 1_480, 77);
    let elsewhere = Outcome::Elsewhere { owner: 1 };
    assert_eq!(a.inn(&fragments[2]).0, Outcome::Held);
    assert_eq!(a.inn(&fragments[0]).0, elsewhere);
    let held = released(&mut a);
    assert_eq!(held.len(), 1);
    assert_eq!(
        (held[0].outcome, &held[0].bytes),
        (elsewhere, &fragments[2])
    );
    assert_eq!(a.inn(&fragments[1]).0, elsewhere);
    // In that order the owner holds none.
    for at in [0, 2, 1] {
        assert_eq!(b.inn(&fragments[at]).0, Outcome::Translated);
    }
}

#[test]
fn a5_1_hairpinned_fragments() {
    let mut bench = Bench::new(config());
    let c1 = bench.map(&udp((C1, 41_000), (O1, 9)));
    let packet = big((C2, 42_000), c1);
    let mut delivered = Vec::new();
    for bytes in cut(&packet, 1_480, 3) {
        let (outcome, looped) = bench.out(&bytes);
        assert_eq!(outcome, Outcome::Hairpin { owner: 0 });
        let (outcome, bytes) = bench.pin(&looped);
        assert_eq!(outcome, Outcome::Translated);
        delivered.push(bytes);
    }
    let whole = join(&delivered);
    assert_sums(&whole);
    assert_eq!(ends(&whole), ((EXT, 42_000), (C1, 41_000)));
}

#[test]
fn a5_1_the_first_fragments_drop_is_everybodys() {
    let mut bench = Bench::new(config());
    let fragments = cut(&big((O1, 9), (EXT, 41_000)), 1_480, 77);
    assert_eq!(bench.inn(&fragments[1]).0, Outcome::Held);
    assert_eq!(bench.in_drop(&fragments[0]), Reason::Unsolicited);
    assert_eq!(
        released(&mut bench)[0].outcome,
        Outcome::Drop(Reason::Unsolicited)
    );
    assert_eq!(bench.in_drop(&fragments[2]), Reason::Unsolicited);
    assert_eq!(bench.nat.counters().dropped(Reason::Unsolicited), 3);
    // The host's own fragments are the host's.
    for bytes in cut(&big((O1, 9), (EXT, 22)), 1_480, 78) {
        assert_eq!(bench.inn(&bytes).0, Outcome::NotOurs);
    }
}

#[test]
fn a5_2_held_fragments_time_out() {
    let mut bench = Bench::new(config());
    let fragments = cut(&big((C1, 41_000), (O1, 9)), 1_480, 77);
    assert_eq!(bench.out(&fragments[1]).0, Outcome::Held);
    assert_eq!(bench.nat.next_expiry(), Some(bench.now + secs(30)));
    bench.now += secs(29);
    assert_eq!(bench.nat.expire(bench.now, 10), 0);
    bench.now += secs(1);
    assert_eq!(bench.nat.expire(bench.now, 10), 1);
    let packets = released(&mut bench);
    assert_eq!(packets[0].outcome, Outcome::Drop(Reason::FragmentTimeout));
    assert!(packets[0].bytes.len() <= 64);
    assert_eq!(bench.nat.counters().dropped(Reason::FragmentTimeout), 1);
    assert_eq!(usage(&bench), (0, 0));
}

#[test]
fn a5_2_memory_is_bounded_and_the_oldest_gives_way() {
    let limits = FragmentLimits {
        held_bytes_max: 20_000,
        ..FragmentLimits::default()
    };
    let mut bench = Bench::new(Config {
        fragments: limits,
        ..config()
    });
    for id in 0..500 {
        let fragments = cut(&big((C1, 41_000), (O1, 9)), 1_480, id);
        assert_eq!(bench.out(&fragments[1]).0, Outcome::Held);
        assert!(usage(&bench).1 <= 20_000);
        for packet in released(&mut bench) {
            assert_eq!(packet.outcome, Outcome::Drop(Reason::FragmentLimit));
        }
    }
    // The youngest are there: their first fragments release them.
    let fragments = cut(&big((C1, 41_000), (O1, 9)), 1_480, 499);
    assert_eq!(bench.out(&fragments[0]).0, Outcome::Translated);
    assert_eq!(released(&mut bench)[0].outcome, Outcome::Translated);
}

#[test]
fn a5_2_one_fragment_above_the_limit_is_refused() {
    let limits = FragmentLimits {
        held_bytes_max: 1_000,
        ..FragmentLimits::default()
    };
    let mut bench = Bench::new(Config {
        fragments: limits,
        ..config()
    });
    let fragments = cut(&big((C1, 41_000), (O1, 9)), 1_480, 1);
    assert_eq!(bench.out_drop(&fragments[1]), Reason::FragmentLimit);
    assert_eq!(usage(&bench), (0, 0));
}

#[test]
fn a5_2_released_fragments_that_nobody_fetches_are_bounded() {
    let mut bench = Bench::new(config());
    let mut refused = 0;
    for id in 0..40_000 {
        let bytes = fragment(udp((C1, 1), (O1, 9)), id, 64, false);
        let (outcome, _) = bench.out(&bytes);
        refused += u32::from(outcome == Outcome::Drop(Reason::FragmentLimit));
    }
    assert!(refused > 20_000);
    assert!(released(&mut bench).len() <= 16_384);
}

#[test]
fn a5_2_datagrams_are_bounded_in_number_and_per_source() {
    let limits = FragmentLimits {
        datagrams_max: 8,
        per_source_max: 4,
        ..FragmentLimits::default()
    };
    let mut bench = Bench::new(Config {
        fragments: limits,
        ..config()
    });
    let hold = |bench: &mut Bench, src, id| {
        let fragments = cut(&big((src, 41_000), (O1, 9)), 1_480, id);
        assert_eq!(bench.out(&fragments[1]).0, Outcome::Held);
    };
    hold(&mut bench, C2, 1);
    for id in 0..100 {
        hold(&mut bench, C1, id);
    }
    assert_eq!(usage(&bench).0, 5, "a flood from c1 leaves c2's alone");
    assert_eq!(released(&mut bench).len(), 96);
    let fragments = cut(&big((C2, 41_000), (O1, 9)), 1_480, 1);
    assert_eq!(bench.out(&fragments[0]).0, Outcome::Translated);
    assert_eq!(released(&mut bench).len(), 1);
}

#[test]
fn a5_2_flood_of_first_fragments_spares_the_waiting() {
    let limits = FragmentLimits {
        datagrams_max: 8,
        ..FragmentLimits::default()
    };
    let mut bench = Bench::new(Config {
        fragments: limits,
        ..config()
    });
    let fragments = cut(&big((C2, 41_000), (O1, 9)), 1_480, 1);
    assert_eq!(bench.out(&fragments[2]).0, Outcome::Held);
    for id in 0..100 {
        let flood = cut(&big((C1, 42_000), (O1, 9)), 1_480, id);
        assert_eq!(bench.out(&flood[0]).0, Outcome::Translated);
    }
    assert_eq!(bench.out(&fragments[0]).0, Outcome::Translated);
    assert_eq!(released(&mut bench)[0].outcome, Outcome::Translated);
}

#[test]
fn a5_2_fragments_per_datagram_are_bounded() {
    let mut bench = Bench::new(config());
    let packet = udp_with((C1, 41_000), (O1, 9), &[0; 600]);
    let fragments = cut(&packet, 8, 9);
    assert!(fragments.len() > 64);
    for bytes in &fragments[..64] {
        assert_eq!(bench.out(bytes).0, Outcome::Translated);
    }
    assert_eq!(bench.out_drop(&fragments[64]), Reason::FragmentLimit);
    assert_eq!(bench.out_drop(&fragments[65]), Reason::FragmentLimit);
}

#[test]
fn a5_3_overlap_drops_the_whole_datagram() {
    let mut bench = Bench::new(config());
    let fragments = cut(&big((C1, 41_000), (O1, 9)), 1_480, 77);
    // Teardrop: a piece inside the second fragment, before or after the first one has come.
    let overlapping = fragment(fragments[1][..20 + 64].to_vec(), 77, 1_480 + 8, true);
    assert_eq!(bench.out(&fragments[1]).0, Outcome::Held);
    assert_eq!(bench.out_drop(&overlapping), Reason::FragmentOverlap);
    assert_eq!(
        released(&mut bench)[0].outcome,
        Outcome::Drop(Reason::FragmentOverlap)
    );
    for bytes in &fragments {
        assert_eq!(bench.out_drop(bytes), Reason::FragmentOverlap);
    }

    let mut bench = Bench::new(config());
    assert_eq!(bench.out(&fragments[0]).0, Outcome::Translated);
    let over_first = fragment(fragments[0][..20 + 16].to_vec(), 77, 8, true);
    assert_eq!(bench.out_drop(&over_first), Reason::FragmentOverlap);
    assert_eq!(bench.out_drop(&fragments[1]), Reason::FragmentOverlap);
}

#[test]
fn a5_3_two_ends_contradict_each_other() {
    let fragments = cut(&big((C1, 41_000), (O1, 9)), 1_480, 77);
    let early_end = fragment(fragments[1][..20 + 64].to_vec(), 77, 1_480, false);
    for late in [true, false] {
        let mut bench = Bench::new(config());
        let (first, second) = if late {
            (&early_end, &fragments[2])
        } else {
            (&fragments[2], &early_end)
        };
        assert_eq!(bench.out(first).0, Outcome::Held);
        assert_eq!(bench.out_drop(second), Reason::FragmentOverlap);
    }
}

#[test]
fn a5_3_exact_duplicates_do_no_harm() {
    let mut bench = Bench::new(config());
    let fragments = cut(&big((C1, 41_000), (O1, 9)), 1_480, 77);
    assert_eq!(bench.out(&fragments[1]).0, Outcome::Held);
    assert_eq!(bench.out_drop(&fragments[1]), Reason::FragmentDuplicate);
    assert_eq!(bench.out(&fragments[0]).0, Outcome::Translated);
    assert_eq!(released(&mut bench).len(), 1);
    assert_eq!(
        bench.out(&fragments[1]).0,
        Outcome::Translated,
        "repeats are the receiver's"
    );
    // The identification comes again before the last fragment has: a new datagram.
    assert_eq!(bench.out(&fragments[0]).0, Outcome::Translated);
    assert_eq!(bench.out(&fragments[1]).0, Outcome::Translated);
    assert_eq!(bench.out(&fragments[2]).0, Outcome::Translated);
    assert_eq!(usage(&bench), (0, 0));
}

#[test]
fn a5_3_tiny_first_fragments_are_dropped() {
    let mut bench = Bench::new(config());
    for (size, packet) in [
        (16, tcp((C1, 41_000), (O1, 80), TcpFlags::SYN)),
        (8, tcp((C1, 41_000), (O1, 80), TcpFlags::SYN)),
    ] {
        let fragments = cut(&packet, size, 40 + u16::try_from(size).unwrap());
        assert_eq!(bench.out(&fragments[1]).0, Outcome::Held);
        assert_eq!(bench.out_drop(&fragments[0]), Reason::FragmentTiny);
        assert_eq!(
            released(&mut bench)[0].outcome,
            Outcome::Drop(Reason::FragmentTiny)
        );
    }
    assert_eq!(bench.nat.len(), 0);
}

#[test]
fn a5_3_beyond_65535_bytes() {
    let mut bench = Bench::new(config());
    // The ping of death: offset 65,528 and a payload that reaches beyond the end.
    let bytes = fragment(udp_with((C1, 1), (O1, 9), &[0; 100]), 1, 65_528, false);
    assert_eq!(bench.out_drop(&bytes), Reason::FragmentTooLong);
    let ragged = fragment(udp_with((C1, 1), (O1, 9), &[0; 3]), 1, 64, true);
    assert_eq!(bench.out_drop(&ragged), Reason::Malformed);
    let empty = fragment(udp((C1, 1), (O1, 9))[..20].to_vec(), 1, 64, false);
    assert_eq!(bench.out_drop(&empty), Reason::Malformed);
}

#[test]
fn fragmented_icmp_errors_and_other_protocols_are_refused() {
    let mut bench = Bench::new(config());
    let bytes = fragment(error(O1, EXT, 3, 3, &[0; 40], 40), 1, 0, true);
    assert_eq!(bench.in_drop(&bytes), Reason::IcmpErrorFragmented);
    let mut refused = fragment(udp((C1, 1), (O1, 9)), 1, 64, false);
    refused[9] = protocol::UDP_LITE;
    assert_eq!(bench.out_drop(&refused), Reason::UnknownProtocol);
    let mut refused = fragment(udp((O1, 1), (EXT, 9)), 1, 64, false);
    refused[9] = protocol::DCCP;
    assert_eq!(bench.inn(&refused).0, Outcome::NotOurs);
}

#[test]
fn flush_forgets_the_verdicts_but_keeps_the_waiting() {
    let mut bench = Bench::new(config());
    let fragments = cut(&big((C1, 41_000), (O1, 9)), 1_480, 77);
    assert_eq!(bench.out(&fragments[0]).0, Outcome::Translated);
    bench.nat.flush();
    assert_eq!(usage(&bench).0, 0);
    assert_eq!(bench.out(&fragments[1]).0, Outcome::Held);
    bench.nat.flush();
    assert_eq!(usage(&bench).0, 1);
}
