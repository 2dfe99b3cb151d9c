//! The compiled edit of one direction of a session.

use std::net::Ipv4Addr;

use crate::checksum;
use crate::wire::{Icmp, Tcp, Udp};

/// What the transport checksum field of a packet holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum L4Sum {
    /// A complete checksum (or, for UDP, zero).
    #[default]
    Full,
    /// The folded pseudo-header sum, not inverted: the frame is marked NEEDS_CSUM (skb
    /// `CHECKSUM_PARTIAL`) and someone later completes it. Never used with ICMP, which has no
    /// pseudo header.
    Pseudo,
}

/// Protocols whose sessions are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP queries: echo and timestamp.
    Icmp,
    /// SCTP: its ports are kept, since its CRC32c covers them (RFC 9260 section 6.8).
    Sctp,
    /// Another protocol, by its number (IANA): only its addresses are translated.
    Other(u8),
}

impl Protocol {
    /// Number of protocols that have external ports, or identifiers.
    pub const COUNT: usize = 4;
    /// Every protocol that has external ports, or identifiers, TCP first.
    pub const ALL: [Self; Self::COUNT] = [Self::Tcp, Self::Udp, Self::Icmp, Self::Sctp];

    /// Returns the lower-case name; that of a protocol without ports is the one in
    /// `/etc/protocols`, or `other`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Sctp => "sctp",
            Self::Other(4) => "ipencap",
            Self::Other(41) => "ipv6",
            Self::Other(47) => "gre",
            Self::Other(50) => "esp",
            Self::Other(51) => "ah",
            Self::Other(115) => "l2tp",
            Self::Other(_) => "other",
        }
    }

    /// Returns the IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => crate::wire::protocol::TCP,
            Self::Udp => crate::wire::protocol::UDP,
            Self::Icmp => crate::wire::protocol::ICMP,
            Self::Sctp => crate::wire::protocol::SCTP,
            Self::Other(number) => number,
        }
    }

    /// Returns the place in [`Protocol::ALL`], and [`Protocol::COUNT`] for one that is not there.
    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Tcp => 0,
            Self::Udp => 1,
            Self::Icmp => 2,
            Self::Sctp => 3,
            Self::Other(_) => Self::COUNT,
        }
    }
}

/// Which address and port of a packet an edit replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Source,
    Destination,
}

impl End {
    /// Offset of the address in the IPv4 header.
    const fn address(self) -> usize {
        match self {
            Self::Source => 12,
            Self::Destination => 16,
        }
    }

    /// Offset of the port in a TCP or UDP header.
    const fn port(self) -> usize {
        match self {
            Self::Source => 0,
            Self::Destination => 2,
        }
    }
}

/// An address, a port and what replacing by them does to the checksums.
///
/// Worked example: 10.9.0.2:5555 becomes 203.0.113.254:40000. `delta_address` is
/// `~0x0a09 + ~0x0002 + 0xcb00 + 0x71fe`, and it alone goes into the IPv4 header checksum and into
/// a pseudo sum; `delta_full` has `~5555 + 40000` added and goes into a complete checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rewrite {
    address: Ipv4Addr,
    port: u16,
    delta_address: u16,
    delta_full: u16,
}

impl Rewrite {
    /// Compiles the replacement of `old` by `new`.
    pub(crate) fn new(protocol: Protocol, old: (Ipv4Addr, u16), new: (Ipv4Addr, u16)) -> Self {
        let delta_address = checksum::delta32(old.0.to_bits(), new.0.to_bits());
        let delta_port = checksum::delta16(old.1, new.1);
        let delta_full = match protocol {
            Protocol::Tcp | Protocol::Udp => checksum::join(delta_address, delta_port),
            Protocol::Icmp => delta_port,
            // Their checksums cover no address.
            Protocol::Sctp | Protocol::Other(_) => 0,
        };
        Self {
            address: new.0,
            port: new.1,
            delta_address,
            delta_full,
        }
    }

    /// Returns the address and the port that it puts in.
    pub(crate) fn target(&self) -> (Ipv4Addr, u16) {
        (self.address, self.port)
    }

    /// Replaces the address in an IPv4 header, whose checksum follows.
    ///
    /// `packet` must hold the header's 20 fixed bytes.
    pub(crate) fn apply_address(&self, end: End, packet: &mut [u8]) {
        adjust(packet, 10, |field| {
            checksum::apply(field, self.delta_address)
        });
        if let Some(address) = packet.get_mut(end.address()..end.address() + 4) {
            address.copy_from_slice(&self.address.octets());
        }
    }

    /// Replaces the port, or the query identifier, in a transport header, whose checksum follows
    /// if it is there: the packet quoted by an ICMP error may end before it. SCTP and protocols
    /// without ports stay as they are.
    pub(crate) fn apply_port(
        &self,
        end: End,
        protocol: Protocol,
        transport: &mut [u8],
        l4_sum: L4Sum,
    ) {
        let (port, sum) = match protocol {
            Protocol::Tcp => (end.port(), Tcp::<&[u8]>::CHECKSUM),
            Protocol::Udp => (end.port(), Udp::<&[u8]>::CHECKSUM),
            Protocol::Icmp => (Icmp::<&[u8]>::ID, Icmp::<&[u8]>::CHECKSUM),
            Protocol::Sctp | Protocol::Other(_) => return,
        };
        adjust(transport, port, |_| self.port);
        adjust(transport, sum, |field| match (l4_sum, protocol) {
            (L4Sum::Pseudo, Protocol::Tcp | Protocol::Udp) => {
                checksum::apply_pseudo(field, self.delta_address)
            }
            // No checksum stays no checksum, and a computed zero is sent as its other
            // representation (RFC 768).
            (L4Sum::Full, Protocol::Udp) if field == 0 => 0,
            (L4Sum::Full, Protocol::Udp) => match checksum::apply(field, self.delta_full) {
                0 => 0xffff,
                field => field,
            },
            (L4Sum::Full, Protocol::Tcp) | (_, Protocol::Icmp) => {
                checksum::apply(field, self.delta_full)
            }
            (_, Protocol::Sctp | Protocol::Other(_)) => field,
        });
    }
}

/// Changes a 16-bit field, if the bytes reach that far.
fn adjust(bytes: &mut [u8], at: usize, change: impl FnOnce(u16) -> u16) {
    if let Some(field) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) {
        *field = change(u16::from_be_bytes(*field)).to_be_bytes();
    }
}
