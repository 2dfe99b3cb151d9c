//! The decisions on a frame's way, as plain data.

use std::fmt;
use std::net::Ipv4Addr;

use nat::wire::{Ipv4, protocol};
use nat::{Direction, Outcome};

use crate::fdb::Learned;
use crate::frame::Stage;
use crate::gateway::{Hop, icmp};
use crate::mac::Mac;
use crate::port::PortIndex;
use crate::verdict::{DropReason, Verdict};

/// One decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It came in on this port.
    Rx(PortIndex),
    /// It goes on where it was: taken over from another worker, or released.
    Resumed(Stage),
    /// The gateway made it.
    Made,
    /// Whether the port's policy lets it in.
    Admit(Result<(), DropReason>),
    /// What the forwarding table learned of its source.
    Learn(Mac, Learned),
    /// What the gateway did.
    Gateway(Gateway),
    /// The next hop, and the MTU of the way there in bytes where it is known by then.
    Route(Hop, Option<u32>),
    /// What the NAT did.
    Nat(Nat),
    /// Routed: the time to live it leaves with, and its new Ethernet addresses.
    Rewrite {
        /// Time to live, in hops.
        ttl: u8,
        /// Destination address.
        destination: Mac,
        /// Source address.
        source: Mac,
    },
    /// Where the forwarding table has its destination.
    Lookup(Mac, Found),
    /// It waits.
    Hold(HeldFor),
    /// It goes on at another worker, at that stage.
    HandOver(u16, Stage),
    /// Its fate.
    Verdict(Verdict),
    /// What became of a copy.
    Tx(Tx),
}

/// A step and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimedStep {
    /// Nanoseconds since the record's first step; at most 4.29 s.
    pub after: u32,
    /// What was decided.
    pub step: Step,
}

/// What the gateway did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gateway {
    /// It answered an ARP request for this address.
    ArpAnswered(Ipv4Addr),
    /// It answered an echo request.
    EchoAnswered,
    /// It took note of an ARP packet of this sender.
    ArpHeard(Ipv4Addr),
    /// The packet is for the host, by this port.
    ToHost(PortIndex),
    /// It asked by ARP for a next hop.
    Asked(Hop),
    /// It told the sender of an error.
    Told(icmp::Error),
}

/// Where a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// Behind this port.
    Port(PortIndex),
    /// It is a group: everywhere.
    Group,
    /// Nobody knows: everywhere.
    Unknown,
}

impl Found {
    /// What the table's answer means for `destination`.
    #[must_use]
    pub const fn at(destination: Mac, egress: Option<PortIndex>) -> Self {
        match egress {
            Some(port) => Self::Port(port),
            None if destination.is_group() => Self::Group,
            None => Self::Unknown,
        }
    }
}

/// What a frame waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldFor {
    /// An answer to ARP.
    Neighbour(Hop),
    /// The first fragment of its packet.
    FirstFragment,
}

/// What the NAT did with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nat {
    /// Through which door it came.
    pub direction: Direction,
    /// Its outcome.
    pub outcome: Outcome,
    /// A session was made for it.
    pub new_session: bool,
    /// The endpoints before; `None` for what is no IPv4 packet.
    pub before: Option<Tuple>,
    /// The endpoints after.
    pub after: Option<Tuple>,
}

/// What became of the copy for one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tx {
    /// The egress port.
    pub port: PortIndex,
    /// Sent, or dropped for this reason.
    pub outcome: Result<(), DropReason>,
    /// Frames it was sent or dropped as: segments or fragments, where it had to be cut.
    pub pieces: u32,
    /// Their bytes.
    pub bytes: u32,
}

/// Who speaks to whom, by an IPv4 packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// IP protocol number.
    pub protocol: u8,
    /// Source address.
    pub source: Ipv4Addr,
    /// Source port, or the identifier of an ICMP request; none in a later fragment.
    pub source_port: Option<u16>,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Destination port, or the identifier of an ICMP reply.
    pub destination_port: Option<u16>,
}

impl Tuple {
    /// Reads a packet from its IPv4 header on; the packet may be cut short.
    #[must_use]
    pub fn of(packet: &[u8]) -> Option<Self> {
        let ip = Ipv4::parse_quoted(packet).ok()?;
        let head = ip.payload();
        let word = |at: usize| Some(u16::from_be_bytes(*head.get(at..)?.first_chunk()?));
        let is_first = ip.fragment_offset() == 0;
        let (source_port, destination_port) = match ip.protocol() {
            protocol::TCP | protocol::UDP | protocol::SCTP if is_first => (word(0), word(2)),
            // Requests have an even type or 8 and 13, replies the next or 0: RFC 792.
            protocol::ICMP if is_first => match head.first() {
                Some(8 | 13) => (word(4), None),
                Some(0 | 14) => (None, word(4)),
                _ => (None, None),
            },
            _ => (None, None),
        };
        Some(Self {
            protocol: ip.protocol(),
            source: ip.src(),
            source_port,
            destination: ip.dst(),
            destination_port,
        })
    }

    /// Of a frame, from its Ethernet header on.
    #[must_use]
    pub fn of_frame(bytes: &[u8]) -> Option<Self> {
        let ethernet = crate::ethernet::parse(bytes)?;
        let packet = bytes.get(crate::ethernet::HEADER_BYTES..)?;
        (ethernet.ethertype == crate::ethernet::IPV4)
            .then(|| Self::of(packet))
            .flatten()
    }

    /// The tuple of the answer.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self {
            protocol: self.protocol,
            source: self.destination,
            source_port: self.destination_port,
            destination: self.source,
            destination_port: self.source_port,
        }
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Endpoint(self.source, self.source_port).fmt(f)?;
        f.write_str(" > ")?;
        Endpoint(self.destination, self.destination_port).fmt(f)
    }
}

/// An address, and its port where there is one.
pub(super) struct Endpoint(pub(super) Ipv4Addr, pub(super) Option<u16>);

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(port) => write!(f, "{}:{port}", self.0),
            None => self.0.fmt(f),
        }
    }
}
