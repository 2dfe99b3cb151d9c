//! Translated out and back is what was sent.

use nat::wire::{Ipv4, Ipv4Header, protocol};
use nat::{Config, Filtering, L4Sum, Nanos, Nat, Outcome, Packet, Protocol};

use super::Input;
use super::packet::{EXTERNAL, Endpoint, INSIDE, OUTSIDE, assert_sums, icmp, ipv4, tcp, udp};

const ACK: u8 = 0x10;
const SYN: u8 = 0x02;

/// What the switch remembers of a flow, to be compared with what the engine does.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Flow {
    protocol: Protocol,
    inside: Endpoint,
    remote: Endpoint,
}

/// Plays flows of the input through one engine: each packet out, and its answer back.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let (low, high) = input.pick([(40_000, 40_031), (1024, 65_535)]);
    let mut config = Config::new(EXTERNAL, low..=high);
    config.sessions_max = 64;
    config.udp_filtering = input.pick([Filtering::Apdf, Filtering::Adf, Filtering::Eif]);
    config.tcp_filtering = config.udp_filtering;
    config.preserve_ids = input.byte() & 1 == 0;
    let mut nat = Nat::new(config, u64::from(input.byte()));
    let mut now = Nanos::from_secs(1);
    while !input.is_empty() {
        now += Nanos::from_secs(u64::from(input.byte() & 0x0f) * u64::from(input.byte()));
        nat.expire(now, 64);
        let flow = Flow {
            protocol: input.pick([Protocol::Udp, Protocol::Tcp, Protocol::Icmp]),
            inside: (input.pick(INSIDE), input.word()),
            remote: (input.pick(OUTSIDE), input.pick([53, 80, 443, 9999])),
        };
        let summed = input.byte() & 1 == 0;
        let length = usize::from(input.byte());
        let payload = input.take(length).to_vec();
        round(&mut nat, flow, &payload, summed, now);
    }
    assert!(nat.len() <= 64);
}

fn round(nat: &mut Nat, flow: Flow, payload: &[u8], summed: bool, now: Nanos) {
    let sent = packet(flow, flow.inside, flow.remote, false, payload, summed);
    let mut bytes = sent;
    if nat.outbound(&mut lend(&mut bytes), now) != Outcome::Translated {
        return;
    }
    assert_sums(&bytes);
    let ip = Ipv4::parse(&bytes[..]).unwrap();
    assert_eq!((ip.src(), ip.dst()), (EXTERNAL, flow.remote.0));
    let external = (EXTERNAL, port(flow.protocol, &bytes));
    let owned = nat.config().ports.contains(&external.1);
    assert!(owned, "{external:?} is not a port of the NAT's");
    // The answer, as the other end would write it, comes back as if there were no NAT.
    let answer = packet(flow, flow.remote, external, true, payload, summed);
    let mut back = answer;
    assert_eq!(nat.inbound(&mut lend(&mut back), now), Outcome::Translated);
    assert_sums(&back);
    let expected = packet(flow, flow.remote, flow.inside, true, payload, summed);
    assert_eq!(back, expected);
}

fn packet(
    flow: Flow,
    from: Endpoint,
    to: Endpoint,
    is_answer: bool,
    payload: &[u8],
    summed: bool,
) -> Vec<u8> {
    let (number, bytes) = match flow.protocol {
        Protocol::Tcp => {
            let flags = if is_answer { SYN | ACK } else { SYN };
            (protocol::TCP, tcp(from, to, flags, payload))
        }
        Protocol::Icmp => {
            let (kind, id) = if is_answer { (0, to.1) } else { (8, from.1) };
            let [high, low] = id.to_be_bytes();
            (protocol::ICMP, icmp(kind, 0, [high, low, 0, 1], payload))
        }
        Protocol::Udp | Protocol::Sctp | Protocol::Other(_) => {
            (protocol::UDP, udp(from, to, payload, summed))
        }
    };
    let header = Ipv4Header {
        src: from.0,
        dst: to.0,
        protocol: number,
        dont_fragment: true,
        ..Ipv4Header::default()
    };
    ipv4(header, &bytes)
}

/// The external port, or identifier, of a packet that was translated.
fn port(protocol: Protocol, packet: &[u8]) -> u16 {
    let at = if protocol == Protocol::Icmp { 24 } else { 20 };
    u16::from_be_bytes([packet[at], packet[at + 1]])
}

fn lend(bytes: &mut [u8]) -> Packet<'_> {
    Packet {
        bytes,
        l4_sum: L4Sum::Full,
    }
}
