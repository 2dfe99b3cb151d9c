//! Each program runs on a small BPF machine and must agree with a function that states in Rust what
//! it is for, on packets made to reach every branch and on noise.

use super::*;
use proptest::prelude::*;

/// What a program can ask for.
#[derive(Debug, Clone)]
struct Packet {
    /// From the destination address on.
    frame: Vec<u8>,
    /// `skb->pkt_type`.
    kind: u8,
    /// The outer tag's control word; 0 without a tag.
    tci: u16,
}

impl Packet {
    fn ethertype(&self) -> u16 {
        u16::from_be_bytes([self.frame[12], self.frame[13]])
    }
}

/// The machine of net/core/filter.c, with the instructions used here. `base` is where the program's
/// packet begins within the frame: 0 for a socket filter, 14 for a fan-out program.
fn run(program: &Program, packet: &Packet, base: usize) -> u32 {
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
    let load = |offset: u32, bytes: usize| -> Option<u32> {
        let signed = i64::from(offset.cast_signed());
        let (ad, net) = (i64::from(libc::SKF_AD_OFF), i64::from(libc::SKF_NET_OFF));
        let at = if signed >= 0 {
            base + usize::try_from(signed).ok()?
        } else if signed >= ad {
            return match i32::try_from(signed - ad).ok()? {
                libc::SKF_AD_PKTTYPE => Some(packet.kind.into()),
                libc::SKF_AD_VLAN_TAG => Some(packet.tci.into()),
                libc::SKF_AD_PROTOCOL => Some(packet.ethertype().into()),
                other => panic!("ancillary field {other}"),
            };
        } else {
            14 + usize::try_from(signed - net).ok()?
        };
        let bytes = packet.frame.get(at..at + bytes)?;
        Some(
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u32::from(*byte)),
        )
    };
    let mut at = 0;
    loop {
        let libc::sock_filter { code, jt, jf, k } = program.instructions()[at];
        at += 1;
        let operation = u32::from(code);
        let mut branch = |holds: bool| at += usize::from(if holds { jt } else { jf });
        let loaded = match operation {
            LOAD_WORD => load(k, 4),
            LOAD_HALF => load(k, 2),
            LOAD_BYTE => load(k, 1),
            LOAD_HALF_AT_X => load(k.wrapping_add(x), 2),
            LOAD_BYTE_AT_X => load(k.wrapping_add(x), 1),
            LOAD_X_IP_HEADER_BYTES => match load(k, 1) {
                Some(byte) => {
                    x = 4 * (byte & 0xf);
                    continue;
                }
                None => return 0,
            },
            _ => Some(a),
        };
        let Some(loaded) = loaded else { return 0 };
        a = loaded;
        if operation & 7 == BPF_LD && operation != BPF_LD | BPF_MEM {
            continue;
        }
        match operation {
            op if op == BPF_LD | BPF_MEM => a = memory[k as usize],
            BPF_ST => memory[k as usize] = a,
            op if op == BPF_MISC | BPF_TAX => x = a,
            op if op == BPF_ALU | BPF_AND | BPF_K => a &= k,
            op if op == BPF_ALU | BPF_LSH | BPF_K => a <<= k,
            op if op == BPF_ALU | BPF_ADD | BPF_X => a = a.wrapping_add(x),
            op if op == BPF_ALU | BPF_SUB | BPF_K => a = a.wrapping_sub(k),
            op if op == BPF_ALU | BPF_DIV | BPF_K => a /= k,
            EQUAL => branch(a == k),
            AT_LEAST => branch(a >= k),
            ABOVE => branch(a > k),
            ANY_BIT => branch(a & k != 0),
            op if op == BPF_JMP | BPF_JA => at += k as usize,
            op if op == BPF_RET | BPF_K => return k,
            op if op == BPF_RET | BPF_A => return a,
            other => panic!("instruction {other:#x}"),
        }
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// What `uplink_filter` is for.
fn accepts(packet: &Packet, external: Ipv4Addr, ports: &[RangeInclusive<u16>]) -> Option<bool> {
    if packet.kind == 4 || packet.tci & 0xfff != 0 {
        return Some(false);
    }
    if packet.ethertype() != 0x0800 {
        return Some(packet.ethertype() == 0x0806);
    }
    let ip = packet.frame.get(14..)?;
    if ip.get(16..20)? != external.octets() {
        return Some(false);
    }
    if half(ip, 6)? & 0x3fff != 0 {
        return Some(true);
    }
    match ip.get(9)? {
        1 => Some(true),
        6 | 17 => {
            let port = half(ip, usize::from(ip.first()? & 0xf) * 4 + 2)?;
            Some(ports.iter().any(|range| range.contains(&port)))
        }
        _ => Some(false),
    }
}

/// What `worker_steering` is for.
fn external_port(packet: &Packet) -> Option<u16> {
    if packet.ethertype() != 0x0800 {
        return None;
    }
    let ip = packet.frame.get(14..)?;
    if half(ip, 6)? & 0x3fff != 0 {
        return None;
    }
    let payload = ip.get(usize::from(ip.first()? & 0xf) * 4..)?;
    match ip.get(9)? {
        6 | 17 => half(payload, 2),
        1 => match payload.first()? {
            0 => half(payload, 4),
            3 | 11 | 12 => {
                let quoted = payload.get(8..)?;
                if half(quoted, 6)? & 0x1fff != 0 {
                    return None;
                }
                let inner = quoted.get(usize::from(quoted.first()? & 0xf) * 4..)?;
                match quoted.get(9)? {
                    6 | 17 => half(inner, 0),
                    1 => half(inner, 4),
                    _ => None,
                }
            }
            _ => None,
        },
        _ => None,
    }
}

fn worker(packet: &Packet, first: u16, per_slice: u16, workers: u16) -> u32 {
    match external_port(packet) {
        Some(port) if port >= first => {
            u32::from((port - first) / per_slice.max(1)).min(u32::from(workers.max(1)) - 1)
        }
        _ => 0,
    }
}

const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// An IPv4 header of `words` words.
fn ip_header(words: u8, fragment: u16, protocol: u8, destination: Ipv4Addr) -> Vec<u8> {
    let mut header = vec![0; usize::from(words.max(5)) * 4];
    header[0] = 0x40 | words;
    header[6..8].copy_from_slice(&fragment.to_be_bytes());
    header[9] = protocol;
    header[16..20].copy_from_slice(&destination.octets());
    header
}

fn fragment_word() -> impl Strategy<Value = u16> {
    prop_oneof![6 => Just(0u16), 2 => Just(0x4000), 1 => Just(0x2000), 1 => any::<u16>()]
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![Just(1u8), Just(6), Just(17), any::<u8>()]
}

fn header() -> impl Strategy<Value = Vec<u8>> {
    let words = prop_oneof![4 => Just(5u8), 1 => 0u8..16];
    let to = prop_oneof![4 => Just(EXTERNAL), 1 => any::<u32>().prop_map(Ipv4Addr::from)];
    (words, fragment_word(), protocol(), to).prop_map(|(w, f, p, to)| ip_header(w, f, p, to))
}

fn packet() -> impl Strategy<Value = Packet> {
    let icmp_type = prop_oneof![Just(0u8), Just(3), Just(8), Just(11), Just(12), any::<u8>()];
    let ethertype = prop_oneof![6 => Just(0x0800u16), 1 => Just(0x0806), 1 => any::<u16>()];
    let kind = prop_oneof![5 => Just(0u8), 1 => Just(4)];
    let tci = prop_oneof![5 => Just(0u16), 1 => any::<u16>()];
    let payload = (
        icmp_type,
        prop::array::uniform7(any::<u8>()),
        header(),
        any::<[u8; 24]>(),
    );
    (ethertype, header(), payload, kind, tci, 0usize..=150).prop_map(
        |(ethertype, outer, (first, rest, inner, tail), kind, tci, len)| {
            let mut frame = vec![2; 12];
            frame.extend(ethertype.to_be_bytes());
            frame.extend(outer);
            frame.push(first);
            frame.extend(rest);
            frame.extend(inner);
            frame.extend(tail);
            frame.truncate(len.max(14));
            Packet { frame, kind, tci }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_filter_takes_what_concerns_the_switch(
        packet in packet(),
        ports in prop::collection::vec((any::<u16>(), any::<u16>()), 0..6),
    ) {
        let ports: Vec<_> = ports.into_iter().map(|(low, high)| low..=high).collect();
        let taken = run(&uplink_filter(EXTERNAL, &ports), &packet, 0);
        let expected = accepts(&packet, EXTERNAL, &ports).unwrap_or(false);
        prop_assert_eq!(taken, if expected { u32::MAX } else { 0 });
    }

    #[test]
    fn the_steering_names_the_owner_of_the_port(
        packet in packet(), first: u16, per_slice: u16, workers in 0u16..80,
    ) {
        let chosen = run(&worker_steering(first, per_slice, workers), &packet, 14);
        prop_assert_eq!(chosen, worker(&packet, first, per_slice, workers));
    }

    #[test]
    fn merged_ranges_hold_the_same_ports(
        ports in prop::collection::vec((0u16..400, 0u16..40), 0..30), probe in 0u16..500,
    ) {
        let ports: Vec<_> = ports.iter().map(|(low, len)| *low..=low + len).collect();
        let merged = merge(&ports);
        let holds = |ranges: &[RangeInclusive<u16>]| ranges.iter().any(|r| r.contains(&probe));
        prop_assert_eq!(holds(&merged), holds(&ports));
        let apart = |pair: &[RangeInclusive<u16>]| *pair[0].end() + 1 < *pair[1].start();
        prop_assert!(merged.windows(2).all(apart));
    }
}

#[test]
fn slices_follow_one_another_and_the_last_takes_the_rest() {
    let steering = worker_steering(61_000, 1512, 3);
    let to = |port: u16| {
        let mut frame = vec![0; 12];
        frame.extend([8, 0]);
        frame.extend(ip_header(5, 0, 17, EXTERNAL));
        frame.extend([0, 53]);
        frame.extend(port.to_be_bytes());
        frame.extend([0; 4]);
        run(
            &steering,
            &Packet {
                frame,
                kind: 0,
                tci: 0,
            },
            14,
        )
    };
    let seen = [60_999, 61_000, 62_511, 62_512, 64_023, 64_024, 65_535].map(to);
    assert_eq!(seen, [0, 0, 0, 1, 1, 2, 2]);
}

#[test]
fn too_many_ranges_become_one_within_the_kernels_limit() {
    let ports: Vec<_> = (0..1500u16).map(|n| n * 40..=n * 40 + 1).collect();
    let program = uplink_filter(EXTERNAL, &ports);
    assert!(program.instructions().len() < 100);
    let fitting = uplink_filter(EXTERNAL, &ports[..RANGES_MAX]);
    assert!((3 * RANGES_MAX..4096).contains(&fitting.instructions().len()));
}
