//! The parts of a datagram, in whatever order and size.

use nat::wire::{Ipv4, Ipv4Header, protocol};
use nat::{Config, L4Sum, Nanos, Nat, Outcome, Packet};

use super::Input;
use super::packet::{EXTERNAL, INSIDE, OUTSIDE, assert_sums, ipv4, udp};

const HELD_BYTES_MAX: usize = 16 << 10;

/// Cuts datagrams as the input says, sends the parts in its order, and puts together what comes
/// out.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut config = Config::new(EXTERNAL, 40_000..=40_999);
    config.sessions_max = 64;
    config.fragments.datagrams_max = 8;
    config.fragments.held_bytes_max = HELD_BYTES_MAX;
    let mut nat = Nat::new(config, 1);
    let mut now = Nanos::from_secs(1);
    for id in 1.. {
        if input.is_empty() {
            break;
        }
        now += Nanos::from_millis(u64::from(input.byte()) * 100);
        datagram(&mut nat, &mut input, id, now);
    }
}

/// A part of a datagram's payload: its place and the bytes.
struct Part {
    offset: usize,
    bytes: Vec<u8>,
    is_last: bool,
}

fn datagram(nat: &mut Nat, input: &mut Input<'_>, id: u16, now: Nanos) {
    let (from, to) = ((input.pick(INSIDE), 5000), (input.pick(OUTSIDE), 9000));
    let filler = input.byte();
    let length = usize::from(input.byte()) * 16;
    let whole = udp(from, to, &vec![filler; length], true);
    let mut parts = cut(&whole, input);
    let clean = input.byte() & 1 == 0;
    shuffle(&mut parts, input, clean);
    let count = parts.len();
    let mut out = Vec::new();
    for part in parts {
        let header = Ipv4Header {
            src: from.0,
            dst: to.0,
            protocol: protocol::UDP,
            id,
            ..Ipv4Header::default()
        };
        let mut packet = ipv4(header, &part.bytes);
        let more = if part.is_last { 0 } else { 0x2000 };
        let word = more | u16::try_from(part.offset / 8).unwrap_or(0x1fff) & 0x1fff;
        packet[6..8].copy_from_slice(&word.to_be_bytes());
        let mut ip = Ipv4::parse(&mut packet[..]).unwrap();
        ip.fill_checksum();
        let mut lent = Packet {
            bytes: &mut packet,
            l4_sum: L4Sum::Full,
        };
        if nat.outbound(&mut lent, now) == Outcome::Translated {
            out.push(packet);
        }
        while let Some(released) = nat.released() {
            if released.outcome == Outcome::Translated {
                out.push(released.bytes);
            }
        }
    }
    assert!(out.len() <= count, "more parts came out than went in");
    if clean && whole.len() <= HELD_BYTES_MAX / 8 && count <= 64 {
        assert_eq!(out.len(), count, "a part was kept");
        assert_whole(&out, whole.len());
    }
}

/// The parts of `whole`, each of as many eighths of 8 bytes as the input says.
fn cut(whole: &[u8], input: &mut Input<'_>) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut offset = 0;
    while offset < whole.len() {
        let size = 8 * (1 + usize::from(input.byte()));
        let end = (offset + size).min(whole.len());
        parts.push(Part {
            offset,
            bytes: whole[offset..end].to_vec(),
            is_last: end == whole.len(),
        });
        offset = end;
    }
    parts
}

/// Changes the order, and unless `clean` also repeats parts and moves them over others.
fn shuffle(parts: &mut Vec<Part>, input: &mut Input<'_>, clean: bool) {
    for place in (1..parts.len()).rev() {
        let other = usize::from(input.byte()) % (place + 1);
        parts.swap(place, other);
    }
    if clean {
        return;
    }
    for _ in 0..input.byte() % 4 {
        let place = usize::from(input.byte()) % parts.len();
        let part = &parts[place];
        let moved = Part {
            offset: usize::from(input.word()),
            bytes: part.bytes.clone(),
            is_last: input.byte() & 1 == 0,
        };
        parts.insert(place, moved);
    }
}

/// Panics unless the parts make one datagram from the external address, with a right checksum.
fn assert_whole(parts: &[Vec<u8>], length: usize) {
    let mut payload = vec![0; length];
    let mut seen = 0;
    for packet in parts {
        let ip = Ipv4::parse(&packet[..]).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!(ip.src(), EXTERNAL);
        let (offset, bytes) = (ip.fragment_offset(), ip.payload());
        payload[offset..offset + bytes.len()].copy_from_slice(bytes);
        seen += bytes.len();
    }
    assert_eq!(seen, length);
    let first = Ipv4::parse(&parts[0][..]).unwrap();
    let header = Ipv4Header {
        src: first.src(),
        dst: first.dst(),
        protocol: protocol::UDP,
        ..Ipv4Header::default()
    };
    assert_sums(&ipv4(header, &payload));
}
