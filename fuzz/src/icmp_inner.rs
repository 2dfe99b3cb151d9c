//! ICMP errors with anything inside.

use nat::wire::{Icmp, Ipv4, Ipv4Header, protocol};
use nat::{Config, L4Sum, Nanos, Nat, Outcome, Packet, checksum};

use super::Input;
use super::packet::{EXTERNAL, INSIDE, OUTSIDE, icmp, ipv4, tcp, udp};

const NOW: Nanos = Nanos::from_secs(1);
const INSIDE_PORT: u16 = 5555;
const REMOTE_PORT: u16 = 53;

/// Makes a session or two, then plays the input as ICMP messages from outside and from inside.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut config = Config::new(EXTERNAL, 40_000..=40_999);
    config.sessions_max = 64;
    let mut nat = Nat::new(config, 1);
    let quotable = sessions(&mut nat);
    while !input.is_empty() {
        let from_outside = input.byte() & 1 == 0;
        let message = message(&mut input, &quotable);
        let is_right = Icmp::parse(&message[..]).unwrap().verify_checksum();
        let (src, dst) = if from_outside {
            (input.pick(OUTSIDE), EXTERNAL)
        } else {
            (input.pick(INSIDE), input.pick(OUTSIDE))
        };
        let header = Ipv4Header {
            src,
            dst,
            protocol: protocol::ICMP,
            ..Ipv4Header::default()
        };
        let mut bytes = ipv4(header, &message);
        let mut packet = Packet {
            bytes: &mut bytes,
            l4_sum: L4Sum::Full,
        };
        let outcome = if from_outside {
            nat.inbound(&mut packet, NOW)
        } else {
            nat.outbound(&mut packet, NOW)
        };
        if outcome == Outcome::Translated {
            judge(&bytes, from_outside, is_right);
        }
    }
}

/// Packets as they went out, which an error from outside may quote.
fn sessions(nat: &mut Nat) -> Vec<Vec<u8>> {
    let (from, to) = ((INSIDE[0], INSIDE_PORT), (OUTSIDE[0], REMOTE_PORT));
    let header = |number| Ipv4Header {
        src: from.0,
        dst: to.0,
        protocol: number,
        ..Ipv4Header::default()
    };
    let packets = [
        ipv4(header(protocol::UDP), &udp(from, to, b"question", true)),
        ipv4(header(protocol::TCP), &tcp(from, to, 2, b"")),
        ipv4(
            header(protocol::ICMP),
            &icmp(8, 0, [0x15, 0xb3, 0, 1], b"ping"),
        ),
    ];
    packets
        .into_iter()
        .map(|mut bytes| {
            let mut packet = Packet {
                bytes: &mut bytes,
                l4_sum: L4Sum::Full,
            };
            assert_eq!(nat.outbound(&mut packet, NOW), Outcome::Translated);
            bytes
        })
        .collect()
}

/// A message whose body is a quotable packet with some bytes changed, or anything; its checksum is
/// right most of the time.
fn message(input: &mut Input<'_>, quotable: &[Vec<u8>]) -> Vec<u8> {
    let kind = input.pick([3, 11, 12, 0, 8, 5, 4, 13, 14]);
    let code = input.byte();
    let mut body = match input.byte() % 4 {
        place @ 0..=2 => quotable[usize::from(place)].clone(),
        _ => {
            let length = usize::from(input.byte());
            input.take(length).to_vec()
        }
    };
    for _ in 0..input.byte() % 8 {
        let (place, value) = (usize::from(input.byte()), input.byte());
        if let Some(byte) = body.get_mut(place) {
            *byte = value;
        }
    }
    let kept = usize::from(input.byte());
    if kept < body.len() && input.byte() & 1 == 0 {
        body.truncate(kept);
    }
    let mut message = icmp(kind, code, [input.byte(), 0, 0, input.byte()], &body);
    if input.byte() > 250 {
        message[2] ^= 0x10;
    }
    message
}

/// What must hold for a message that passed.
fn judge(packet: &[u8], from_outside: bool, is_right: bool) {
    let ip = Ipv4::parse(packet).unwrap();
    assert!(ip.verify_checksum());
    let message = Icmp::parse(ip.payload()).unwrap();
    let is_error = matches!(message.kind(), 3 | 11 | 12);
    // A query's wrong checksum stays wrong, for its receiver to see; an error with one is dropped.
    assert_eq!(
        message.verify_checksum(),
        is_right || is_error,
        "{packet:02x?}"
    );
    if from_outside {
        assert!(INSIDE.contains(&ip.dst()), "{packet:02x?}");
    } else {
        assert_eq!(ip.src(), EXTERNAL);
    }
    if !is_error {
        return;
    }
    let quoted = Ipv4::parse_quoted(message.body()).unwrap();
    let header_sum = checksum::fold(checksum::sum(quoted.header()));
    assert_eq!(header_sum, 0xffff, "quoted header of {packet:02x?}");
    if from_outside {
        // It quotes what the inside host sent, as the inside host knows it.
        assert_eq!(quoted.src(), ip.dst(), "{packet:02x?}");
    } else {
        assert_eq!(quoted.dst(), EXTERNAL, "{packet:02x?}");
    }
}
