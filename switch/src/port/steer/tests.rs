//! Each program runs on a small BPF machine and must agree with a function that states in Rust what
//! it is for, on packets made to reach every branch and on noise.

use super::*;
use proptest::prelude::*;

/// What a program can ask for.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// From the destination address on.
    pub(crate) frame: Vec<u8>,
    /// `skb->pkt_type`.
    pub(crate) kind: u8,
    /// The outer tag's control word; 0 without a tag.
    pub(crate) tci: u16,
}

impl Packet {
    fn ethertype(&self) -> u16 {
        u16::from_be_bytes([self.frame[12], self.frame[13]])
    }
}

/// The filter of an uplink with one address, of which TCP and UDP to `ports` is taken.
pub(crate) fn uplink_filter(external: Ipv4Addr, ports: &[RangeInclusive<u16>]) -> Program {
    filter(&[Taken {
        network: external,
        prefix: 32,
        share: Share::Ports {
            tcp: ports.to_vec(),
            udp: ports.to_vec(),
            others: false,
        },
    }])
}

/// The machine of net/core/filter.c, with the instructions used here. `base` is where the program's
/// packet begins within the frame: 0 for a socket filter, 14 for a fan-out program.
pub(crate) fn run(program: &Program, packet: &Packet, base: usize) -> u32 {
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

/// What `filter` is for.
fn accepts(packet: &Packet, taken: &[Taken]) -> Option<bool> {
    if packet.kind == 4 || packet.tci & 0xfff != 0 {
        return Some(false);
    }
    if packet.ethertype() != 0x0800 {
        return Some(packet.ethertype() == 0x0806);
    }
    let ip = packet.frame.get(14..)?;
    let to = Ipv4Addr::from(*ip.get(16..20)?.first_chunk::<4>()?);
    let is_to = |taken: &&Taken| crate::config::in_prefix(to, taken.network, taken.prefix);
    let wholly = |taken: &Taken| taken.share == Share::All;
    if taken.iter().filter(is_to).any(wholly) {
        return Some(true);
    }
    let Some(Share::Ports { tcp, udp, others }) = taken.iter().find(is_to).map(|it| &it.share)
    else {
        return Some(false);
    };
    if half(ip, 6)? & 0x3fff != 0 {
        return Some(true);
    }
    let ports = match ip.get(9)? {
        1 => return Some(true),
        6 => tcp,
        17 => udp,
        _ => return Some(*others),
    };
    let port = half(ip, u32::from(ip.first()? & 0xf) * 4 + 2)?;
    Some(ports.iter().any(|range| range.contains(&port)))
}

pub(crate) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

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

pub(crate) fn packet() -> impl Strategy<Value = Packet> {
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

fn ranges() -> impl Strategy<Value = RangeInclusive<u16>> {
    (any::<u16>(), 0u16..2000).prop_map(|(low, len)| low..=low.saturating_add(len))
}

pub(crate) fn taken() -> impl Strategy<Value = Taken> {
    let lists = (
        prop::collection::vec(ranges(), 0..90),
        prop::collection::vec(ranges(), 0..90),
    );
    let ports = (lists, any::<bool>(), any::<bool>()).prop_map(|((tcp, udp), same, others)| {
        let udp = if same { tcp.clone() } else { udp };
        Share::Ports { tcp, udp, others }
    });
    let share = prop_oneof![1 => Just(Share::All), 2 => ports];
    let network = prop_oneof![
        2 => Just(EXTERNAL),
        1 => (0u8..=255).prop_map(|last| Ipv4Addr::new(192, 0, 2, last)),
    ];
    let prefix = prop_oneof![2 => Just(32u8), 1 => 20u8..=40];
    (network, prefix, share).prop_map(|(network, prefix, share)| Taken {
        network,
        prefix,
        share,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn the_filter_takes_what_concerns_the_switch(
        packet in packet(),
        ports in prop::collection::vec((any::<u16>(), any::<u16>()), 0..6),
    ) {
        let ports: Vec<_> = ports.into_iter().map(|(low, high)| low..=high).collect();
        let program = uplink_filter(EXTERNAL, &ports);
        let share = Share::Ports { tcp: ports.clone(), udp: ports, others: false };
        let all = [Taken { network: EXTERNAL, prefix: 32, share }];
        let expected = accepts(&packet, &all).unwrap_or(false);
        prop_assert_eq!(run(&program, &packet, 0), if expected { u32::MAX } else { 0 });
    }

    #[test]
    fn a_filter_of_many_parts_takes_what_each_of_them_takes(
        packet in packet(), taken in prop::collection::vec(taken(), 0..7),
    ) {
        // The first that names an address in part decides on it.
        let expected = accepts(&packet, &taken).unwrap_or(false);
        let verdict = run(&filter(&taken), &packet, 0);
        prop_assert_eq!(verdict, if expected { u32::MAX } else { 0 });
    }

    #[test]
    fn the_steering_names_the_owner_of_the_port(
        packet in packet(), first: u16, per_slice: u16, workers in 0u16..80,
        published in prop::collection::vec((ranges(), 0u16..90), 0..150),
    ) {
        let slices = (first, per_slice, workers);
        let chosen = run(&steering(first, per_slice, workers, &[]), &packet, 14);
        prop_assert_eq!(chosen, steered(&packet.frame, slices, &[]).into());
        let program = steering(first, per_slice, workers, &published);
        let chosen = run(&program, &packet, 14);
        prop_assert_eq!(chosen, steered(&packet.frame, slices, &published).into());
    }

    #[test]
    fn merged_ranges_hold_the_same_ports(
        ports in prop::collection::vec((0u16..400, 0u16..40), 0..30), probe in 0u16..500,
    ) {
        let ports: Vec<_> = ports.iter().map(|(low, len)| *low..=low + len).collect();
        let merged = merge(&ports, RANGES_MAX);
        let holds = |ranges: &[RangeInclusive<u16>]| ranges.iter().any(|r| r.contains(&probe));
        prop_assert_eq!(holds(&merged), holds(&ports));
        let apart = |pair: &[RangeInclusive<u16>]| *pair[0].end() + 1 < *pair[1].start();
        prop_assert!(merged.windows(2).all(apart));
    }
}

#[test]
fn slices_follow_one_another_and_the_last_takes_the_rest() {
    let steering = steering(61_000, 1512, 3, &[]);
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

/// As much as a filter tells apart.
pub(crate) fn fullest() -> Program {
    let ports = |from: u16| -> Vec<_> { (0..90u16).map(|n| from + n * 4..=from + n * 4).collect() };
    let part = |n: u8| Taken {
        network: [192, 0, 2, n].into(),
        prefix: 32,
        share: Share::Ports {
            tcp: ports(1),
            udp: ports(2),
            others: true,
        },
    };
    let whole = |n: u8| Taken {
        network: [198, 51, n, 0].into(),
        prefix: 24,
        share: Share::All,
    };
    let parts = (0..PARTS_MAX).map(|n| part(u8::try_from(n).unwrap()));
    let all = (0..WHOLE_MAX).map(|n| whole(u8::try_from(n).unwrap()));
    let fullest: Vec<Taken> = parts.chain(all).collect();
    filter(&fullest)
}

#[test]
fn the_fullest_programs_fit_the_kernel() {
    assert!(fullest().instructions().len() < 4096);
    let published: Vec<_> = (0..200u16).map(|n| (n..=n, 1)).collect();
    assert!(steering(1, 1, 4, &published).instructions().len() < 500);
}

#[test]
fn what_a_filter_has_no_room_for_is_taken_more_roughly_and_never_less() {
    let whole = |n: u8| Taken {
        network: [198, 51, 100, n].into(),
        prefix: 32,
        share: Share::All,
    };
    let taken: Vec<Taken> = (0..200).map(whole).collect();
    assert_eq!(
        split(&taken).1,
        [(Ipv4Addr::new(198, 51, 100, 0), 24)],
        "the network that holds them all"
    );
    let part = |n: u8| Taken {
        share: Share::Ports {
            tcp: Vec::new(),
            udp: Vec::new(),
            others: false,
        },
        ..whole(n)
    };
    let taken: Vec<Taken> = (0..9).map(part).collect();
    assert_eq!(split(&taken).1, [(Ipv4Addr::new(198, 51, 100, 8), 32)]);
}
