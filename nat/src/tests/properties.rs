//! What must hold for any packet.

use super::*;
use crate::{Filtering, FragmentLimits, Protocol};
use proptest::prelude::*;
use std::collections::HashMap;

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (any::<[u8; 4]>(), any::<u16>())
}

fn small(seed: u64) -> Nat {
    let fragments = FragmentLimits {
        datagrams_max: 8,
        ..FragmentLimits::default()
    };
    let config = Config {
        sessions_max: 32,
        udp_filtering: Filtering::Adf,
        tcp_filtering: Filtering::Eif,
        fragments,
        ..config()
    };
    Nat::new(config, seed)
}

fn translate(
    nat: &mut Nat,
    bytes: &mut [u8],
    l4_sum: L4Sum,
    door: fn(&mut Nat, &mut Packet<'_>, Nanos) -> Outcome,
) -> Outcome {
    door(nat, &mut Packet { bytes, l4_sum }, secs(1))
}

proptest! {
    /// Out and in again by both checksum formulas: identity, and right sums on the way.
    #[test]
    fn a0_4_full_and_pseudo_round_trip(
        inside in endpoint(), remote in endpoint(), is_tcp: bool, partial: bool,
        payload in proptest::collection::vec(any::<u8>(), 0..200), seed: u64,
    ) {
        prop_assume!(inside.0 != EXT && remote.0 != EXT);
        let mut nat = small(seed);
        let mut bytes = if is_tcp {
            tcp(inside, remote, TcpFlags::SYN)
        } else {
            udp_with(inside, remote, &payload)
        };
        let l4_sum = if partial { L4Sum::Pseudo } else { L4Sum::Full };
        if partial {
            make_partial(&mut bytes);
        }
        let original = bytes.clone();
        prop_assert_eq!(
            translate(&mut nat, &mut bytes, l4_sum, Nat::outbound), Outcome::Translated);
        let (src, dst) = ends(&bytes);
        prop_assert!(src.0 == EXT && dst == remote);
        let mut finished = bytes.clone();
        if partial {
            complete(&mut finished);
        }
        assert_sums(&finished);
        // Only source address, source port and the two checksums differ.
        let sum_at = if is_tcp { 36..38 } else { 26..28 };
        for (at, (new, old)) in bytes.iter().zip(&original).enumerate() {
            let may_differ = (10..16).contains(&at) || (20..22).contains(&at)
                || sum_at.contains(&at);
            prop_assert!(new == old || may_differ, "byte {}", at);
        }

        // The reply: the same addresses and ports, turned.
        let mut reply = if is_tcp {
            tcp(remote, src, TcpFlags::SYN | TcpFlags::ACK)
        } else {
            udp_with(remote, src, &payload)
        };
        if partial {
            make_partial(&mut reply);
        }
        prop_assert_eq!(
            translate(&mut nat, &mut reply, l4_sum, Nat::inbound), Outcome::Translated);
        if partial {
            complete(&mut reply);
        }
        assert_sums(&reply);
        prop_assert_eq!(ends(&reply), (remote, inside));
    }

    /// A packet translated in and out again is itself, whatever its checksum was.
    #[test]
    fn out_then_in_is_the_identity(
        payload in proptest::collection::vec(any::<u8>(), 0..64),
        sum in any::<[u8; 2]>(), partial: bool, seed: u64,
    ) {
        let (inside, remote) = ((C1, 5_555), (O1, 9));
        let mut nat = small(seed);
        let mut first = udp(inside, remote);
        prop_assert_eq!(
            translate(&mut nat, &mut first, L4Sum::Full, Nat::outbound), Outcome::Translated);
        let external = ends(&first).0;
        let l4_sum = if partial { L4Sum::Pseudo } else { L4Sum::Full };
        let mut there = udp_with(remote, external, &payload);
        there[26..28].copy_from_slice(&sum);
        // 0x0000 and 0xFFFF are one value to UDP, and a pseudo sum is never zero.
        prop_assume!(sum != [0, 0] && sum != [0xff, 0xff]);
        let original = there.clone();
        prop_assert_eq!(
            translate(&mut nat, &mut there, l4_sum, Nat::inbound), Outcome::Translated);
        // Turn it round (one's-complement sums do not mind the order) and send it back.
        there[12..20].rotate_left(4);
        there[20..24].rotate_left(2);
        prop_assert_eq!(
            translate(&mut nat, &mut there, l4_sum, Nat::outbound), Outcome::Translated);
        there[12..20].rotate_left(4);
        there[20..24].rotate_left(2);
        prop_assert_eq!(there, original);
    }

    #[test]
    fn f_13_random_bytes_never_panic(
        packets in proptest::collection::vec(
            (proptest::collection::vec(any::<u8>(), 0..140), 0u8..3, any::<u8>(), any::<bool>()),
            1..20),
        seed: u64,
    ) {
        let mut nat = small(seed);
        for (mut bytes, door, shape, partial) in packets {
            shape_up(&mut bytes, shape);
            let l4_sum = if partial { L4Sum::Pseudo } else { L4Sum::Full };
            let door = [Nat::outbound, Nat::inbound, Nat::hairpin][usize::from(door)];
            let _ = translate(&mut nat, &mut bytes, l4_sum, door);
            while nat.released().is_some() {}
        }
        nat.expire(secs(100_000), 1_000);
        prop_assert!(nat.is_empty());
        for protocol in Protocol::ALL {
            prop_assert_eq!(nat.ports_used(protocol), 0);
        }
    }

    /// Every prefix of valid packets, in both directions.
    #[test]
    fn f_13_truncation_never_panics(cut in 0usize..100, trailing in 0usize..3) {
        let mut nat = small(1);
        let quoted = udp((EXT, 41_000), (O1, 9));
        for packet in [
            udp((C1, 41_000), (O1, 9)), tcp((C1, 41_000), (O1, 9), TcpFlags::SYN),
            echo(C1, O1, 41_000, false), error(C1, O1, 3, 3, &quoted, 60),
            udp((O1, 9), (EXT, 41_000)), error(O1, EXT, 3, 3, &quoted, 60),
        ] {
            for adjust_length in [false, true] {
                let mut bytes = packet[..cut.min(packet.len())].to_vec();
                if adjust_length && bytes.len() >= 20 {
                    let total_len = u16::try_from(bytes.len()).unwrap();
                    bytes[2..4].copy_from_slice(&total_len.to_be_bytes());
                }
                bytes.extend(std::iter::repeat_n(0, trailing));
                for door in [Nat::outbound, Nat::inbound, Nat::hairpin] {
                    let _ = translate(&mut nat, &mut bytes.clone(), L4Sum::Full, door);
                }
            }
        }
    }

    /// The session table against a model of maps: endpoint independence, no shared port, and
    /// replies to whom they belong.
    #[test]
    fn a1_11_mappings_behave_like_a_model(
        steps in proptest::collection::vec((0u8..6, 0u16..6, 0u8..4, 0u64..200), 1..150), seed: u64,
    ) {
        let config = Config { sessions_max: 1_000, ..Config::new(EXT.into(), 40_000..=40_063) };
        let mut bench = Bench { nat: Nat::new(config, seed), now: secs(1) };
        // Inside endpoint -> (external port, deadline of each remote).
        let mut model: HashMap<Endpoint, (u16, HashMap<[u8; 4], u64>)> = HashMap::new();
        let mut now = 1;
        for (host, port, remote, pause) in steps {
            now += pause;
            bench.wait(pause);
            model.values_mut().for_each(|(_, remotes)| remotes.retain(|_, until| *until > now));
            model.retain(|_, (_, remotes)| !remotes.is_empty());
            let inside = ([10, 9, 0, host], 41_000 + port);
            let remote = [198, 51, 100, remote];
            let external = bench.map(&udp(inside, (remote, 9))).1;
            for (other, (taken, _)) in &model {
                prop_assert_eq!(*taken == external, *other == inside);
            }
            let entry = model.entry(inside).or_insert((external, HashMap::new()));
            prop_assert_eq!(entry.0, external);
            entry.1.insert(remote, now + 300);
            for (inside, (external, remotes)) in &model {
                for last in 0..4 {
                    let remote = [198, 51, 100, last];
                    let (outcome, bytes) = bench.inn(&udp((remote, 9), (EXT, *external)));
                    if remotes.contains_key(&remote) {
                        prop_assert_eq!(outcome, Outcome::Translated);
                        prop_assert_eq!(ends(&bytes).1, *inside);
                    } else {
                        prop_assert_eq!(outcome, Outcome::Drop(Reason::Unsolicited));
                    }
                }
            }
            let sessions: usize = model.values().map(|(_, remotes)| remotes.len()).sum();
            // The wheel collects within a second after the deadline.
            let live = bench.nat.sessions().filter(|view| view.expires_at > bench.now).count();
            prop_assert_eq!(live, sessions);
        }
    }

    /// A fragmented datagram comes out as the whole one would, in any order and size.
    #[test]
    fn a5_1_fragments_equal_the_whole(
        length in 9usize..4_000, size in 8usize..200, order in any::<[u8; 64]>(), seed: u64,
    ) {
        let size = size * 8;
        prop_assume!(length.div_ceil(size) <= 60);
        let packet = udp_with((C1, 41_000), (O1, 9), &vec![0xab; length]);
        let mut nat = Nat::new(config(), seed);
        let mut whole = packet.clone();
        prop_assert_eq!(
            translate(&mut nat, &mut whole, L4Sum::Full, Nat::outbound), Outcome::Translated);
        let mut fragments = super::fragments::cut(&packet, size, 9);
        fragments.sort_by_key(|bytes| order[usize::from(bytes[7]) * 7 % 64]);
        let mut sent = Vec::new();
        for mut bytes in fragments {
            let outcome = translate(&mut nat, &mut bytes, L4Sum::Full, Nat::outbound);
            if outcome == Outcome::Translated {
                sent.push(bytes);
            } else {
                prop_assert_eq!(outcome, Outcome::Held);
            }
            sent.extend(std::iter::from_fn(|| nat.released()).map(|packet| packet.bytes));
        }
        sent.sort_by_key(|bytes| Ipv4::parse(bytes).unwrap().fragment_offset());
        let payload: Vec<u8> =
            sent.iter().flat_map(|bytes| Ipv4::parse(bytes).unwrap().payload().to_vec()).collect();
        prop_assert_eq!(&payload, &whole[20..]);
    }
}

/// Makes random bytes look enough like a packet to get past the first checks.
fn shape_up(bytes: &mut [u8], shape: u8) {
    if bytes.len() < 20 || shape & 1 == 0 {
        return;
    }
    bytes[0] = 0x45 | (bytes[0] & 1);
    let total_len = u16::try_from(bytes.len()).unwrap();
    bytes[2..4].copy_from_slice(&total_len.to_be_bytes());
    bytes[9] = [1, 6, 17, 132][usize::from(shape >> 1 & 3)];
    if shape & 8 != 0 {
        bytes[6..8].fill(0);
    } else {
        bytes[6] &= 0x20;
        bytes[7] &= 0x03;
        bytes[4..6].fill(0);
    }
    if shape & 16 != 0 {
        bytes[16..20].copy_from_slice(&EXT);
    }
    if shape & 32 != 0 {
        bytes[12..16].copy_from_slice(&O1);
    }
}
