//! An engine of the probe's own, and packets for it.

use std::net::{Ipv4Addr, SocketAddrV4};

use nat::{Config, L4Sum, Nanos, Nat, Outcome, Packet};

use super::Finding;
use crate::lab::traffic::craft::{Checksum, Ipv4, Seen, Segment, icmp, udp};

/// Inside hosts.
pub(super) const C1: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 2);
/// Another one.
pub(super) const C2: Ipv4Addr = Ipv4Addr::new(10, 255, 255, 3);
/// Outside hosts (TEST-NET-2, RFC 5737).
pub(super) const O1: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Another one.
pub(super) const O2: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// Sessions that a probe's engine has room for.
const SESSIONS: u32 = 256;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// An endpoint, to be written shortly.
pub(super) const fn at(address: Ipv4Addr, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(address, port)
}

/// A UDP datagram.
pub(super) fn datagram(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    Ipv4::new(*from.ip(), *to.ip(), UDP).packet(&udp(from, to, payload, Checksum::Right))
}

/// A TCP segment with these flags.
pub(super) fn segment(from: SocketAddrV4, to: SocketAddrV4, flags: u8) -> Vec<u8> {
    let segment = Segment {
        source: from,
        destination: to,
        seq: 1,
        ack: 1,
        flags,
        window: 1024,
    };
    Ipv4::new(*from.ip(), *to.ip(), TCP).packet(&segment.bytes(&[], Checksum::Right))
}

/// An echo request, or its reply.
pub(super) fn echo(from: Ipv4Addr, to: Ipv4Addr, id: u16, is_reply: bool) -> Vec<u8> {
    let kind = if is_reply { 0 } else { 8 };
    let rest = [id.to_be_bytes(), [0, 1]];
    Ipv4::new(from, to, ICMP).packet(&icmp(kind, 0, rest.as_flattened(), b"probe"))
}

/// An ICMP error of `kind` about `packet`.
pub(super) fn error(from: Ipv4Addr, to: Ipv4Addr, kind: u8, packet: &[u8]) -> Vec<u8> {
    Ipv4::new(from, to, ICMP).packet(&icmp(kind, 1, &[0; 4], packet))
}

/// The ends of a UDP or TCP packet.
pub(super) fn ends(packet: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4)> {
    let seen = Seen::in_packet(packet)?;
    let (from, to) = seen.ports()?;
    Some((at(seen.source, from), at(seen.destination, to)))
}

/// The identifier of an ICMP query.
pub(super) fn query_id(packet: &[u8]) -> Option<u16> {
    let seen = Seen::in_packet(packet)?;
    let id = seen.payload.get(4..6)?;
    Some(u16::from_be_bytes([id[0], id[1]]))
}

/// The packet that an ICMP error quotes.
pub(super) fn quoted(packet: &[u8]) -> Option<Vec<u8>> {
    Some(Seen::in_packet(packet)?.payload.get(8..)?.to_vec())
}

/// An engine and its clock.
pub(super) struct Probe {
    nat: Nat,
    now: Nanos,
}

impl Probe {
    /// An engine with the live configuration, all of the NAT's ports, and no sessions.
    pub(super) fn new(live: &Config) -> Self {
        let mut config = live.clone();
        (config.slice, config.slices) = (0, 1);
        config.sessions_max = live.sessions_max.min(SESSIONS);
        config.half_open_max = live.half_open_max.min(SESSIONS);
        if config.external.is_unspecified() {
            // The uplink has no address yet: any will do (TEST-NET-3).
            config.external = Ipv4Addr::new(203, 0, 113, 1);
        }
        Self {
            nat: Nat::new(config, 1),
            now: Nanos::from_secs(1),
        }
    }

    /// The address that inside hosts appear as.
    pub(super) fn external(&self) -> Ipv4Addr {
        self.nat.config().external
    }

    /// The NAT's ports.
    pub(super) fn ports(&self) -> std::ops::RangeInclusive<u16> {
        self.nat.config().ports.clone()
    }

    /// Lets seconds pass.
    pub(super) fn wait(&mut self, seconds: u64) {
        self.now += Nanos::from_secs(seconds);
        self.nat.expire(self.now, usize::MAX);
    }

    /// A packet from inside; what goes out, if anything does.
    pub(super) fn out(&mut self, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        let outcome = self.nat.outbound(&mut lend(&mut packet), self.now);
        (outcome == Outcome::Translated).then_some(packet)
    }

    /// A packet from outside; what goes in, if anything does.
    pub(super) fn back(&mut self, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        let outcome = self.nat.inbound(&mut lend(&mut packet), self.now);
        (outcome == Outcome::Translated).then_some(packet)
    }

    /// A packet from inside to the external address; what comes back in, if anything does.
    pub(super) fn hairpin(&mut self, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        let outcome = self.nat.outbound(&mut lend(&mut packet), self.now);
        if !matches!(outcome, Outcome::Hairpin { .. }) {
            return None;
        }
        let outcome = self.nat.hairpin(&mut lend(&mut packet), self.now);
        (outcome == Outcome::Translated).then_some(packet)
    }

    /// Fragments from inside, in this order; all that goes out.
    pub(super) fn out_in_parts(&mut self, fragments: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut sent = Vec::new();
        for fragment in fragments {
            sent.extend(self.out(fragment));
            while let Some(held) = self.nat.released() {
                if held.outcome == Outcome::Translated {
                    sent.push(held.bytes);
                }
            }
        }
        sent
    }

    /// The external endpoint that a datagram from `inside` to `remote` gets.
    pub(super) fn map_udp(
        &mut self,
        inside: SocketAddrV4,
        remote: SocketAddrV4,
    ) -> Option<SocketAddrV4> {
        let sent = self.out(datagram(inside, remote, b"probe"))?;
        ends(&sent).map(|ends| ends.0)
    }

    /// The external endpoint that a SYN from `inside` to `remote` gets.
    pub(super) fn map_tcp(
        &mut self,
        inside: SocketAddrV4,
        remote: SocketAddrV4,
    ) -> Option<SocketAddrV4> {
        let sent = self.out(segment(
            inside,
            remote,
            crate::lab::traffic::craft::tcp_flags::SYN,
        ))?;
        ends(&sent).map(|ends| ends.0)
    }
}

/// How a probe asks for the external endpoint: [`Probe::map_udp`] or [`Probe::map_tcp`].
pub(super) type Map = fn(&mut Probe, SocketAddrV4, SocketAddrV4) -> Option<SocketAddrV4>;

/// Maps C1's port 5555 towards three remotes: is it the same each time?
pub(super) fn same_for_all(probe: &mut Probe, map: Map) -> Finding {
    let remotes = [at(O1, 9000), at(O1, 9001), at(O2, 9000)];
    let seen = remotes.map(|remote| map(probe, at(C1, 5555), remote));
    let same = seen[0].is_some() && seen.iter().all(|one| *one == seen[0]);
    let words = if same {
        "one port for three remotes"
    } else {
        "a port for each remote"
    };
    Finding::new(same, words)
}

/// Maps the same port of two hosts towards two remotes: are they apart?
pub(super) fn no_port_twice(config: &Config, map: Map) -> Finding {
    let mut probe = Probe::new(config);
    let first = map(&mut probe, at(C1, 5555), at(O1, 9000));
    let second = map(&mut probe, at(C2, 5555), at(O2, 9000));
    let met = first.is_some() && second.is_some() && first != second;
    Finding::new(met, "two hosts, the same port inside")
}

fn lend(packet: &mut [u8]) -> Packet<'_> {
    Packet {
        bytes: packet,
        l4_sum: L4Sum::Full,
    }
}

/// The longest silence, in seconds, after which `is_alive` still holds, up to a million; 0 if it
/// never does. `is_alive` makes a session, lets that many seconds pass and looks.
pub(super) fn longest_silence(is_alive: impl Fn(u64) -> bool) -> u64 {
    // Between the two: alive at `low` (or 0), dead at `high`.
    let (mut low, mut high) = (0, 1_000_000);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if is_alive(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}

/// The classes of RFC 4787 section 5 that a filter can be of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilterClass {
    EndpointIndependent,
    AddressDependent,
    AddressAndPortDependent,
}

impl FilterClass {
    /// The class of a filter that lets in another port of the same address, and another address.
    pub(super) const fn of(other_port: bool, other_address: bool) -> Self {
        match (other_port, other_address) {
            (_, true) => Self::EndpointIndependent,
            (true, false) => Self::AddressDependent,
            (false, false) => Self::AddressAndPortDependent,
        }
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::EndpointIndependent => "endpoint-independent",
            Self::AddressDependent => "address-dependent",
            Self::AddressAndPortDependent => "address and port-dependent (stricter)",
        }
    }
}
