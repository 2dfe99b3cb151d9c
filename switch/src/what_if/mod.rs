//! A packet in words, for the question what would become of it.
//!
//! ```text
//! tcp 10.77.0.11:40000 > 1.1.1.1:443 syn
//! udp 10.77.0.11:5353 > 9.9.9.9:53 len 1400 df
//! icmp 10.77.0.11 > 10.77.0.1 ttl 1
//! sctp 10.77.0.11:5000 > 1.1.1.1:5001 init
//! arp 10.77.0.11 > 10.77.0.1
//! ```
//!
//! What is left out is as usual: see [`Packet`]. The Ethernet addresses are those that a host at
//! this port would use ([`Packet::addresses`]); who wants others writes `from MAC` and `to MAC`.

mod addresses;
mod bytes;
mod sctp;
#[cfg(test)]
mod tests;
mod words;

use std::net::Ipv4Addr;

use nat::wire::TcpFlags;

use crate::filter::FilterError;
use crate::mac::Mac;

pub use addresses::{Addresses, Known};
pub use sctp::Chunk;

/// A packet in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// What it carries.
    pub kind: Kind,
    /// Where it comes from.
    pub source: Ipv4Addr,
    /// Where it goes.
    pub destination: Ipv4Addr,
    /// Time to live in hops: 64 unless said.
    pub ttl: u8,
    /// Bytes of the IPv4 packet; unless said, as many as its headers take, or those of a ping.
    pub len: Option<u16>,
    /// May not be cut; it may, unless said.
    pub dont_fragment: bool,
    /// It is a fragment: where it begins in its datagram, in bytes, and whether more follow.
    pub fragment: Option<(u16, bool)>,
    /// The VLAN that its tag names, if it has one (IEEE 802.1Q): 0..=4094.
    pub vlan: Option<u16>,
    /// Its Ethernet source, if said.
    pub from: Option<Mac>,
    /// Its Ethernet destination, if said.
    pub to: Option<Mac>,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A TCP segment: a SYN unless flags are said.
    Tcp {
        /// Source and destination port; the source's is 40000 unless said.
        ports: (u16, u16),
        /// Its flags.
        flags: TcpFlags,
        /// Its options.
        options: TcpOptions,
    },
    /// A UDP datagram.
    Udp {
        /// Source and destination port; the source's is 40000 unless said.
        ports: (u16, u16),
    },
    /// An SCTP packet with one chunk: an INIT unless another is said.
    Sctp {
        /// Source and destination port; the source's is 40000 unless said.
        ports: (u16, u16),
        /// Its chunk.
        chunk: Chunk,
        /// Its verification tag, if said: it is 0 with an INIT, and else 1.
        tag: Option<u32>,
    },
    /// An echo request, or its reply.
    Icmp {
        /// The reply.
        reply: bool,
        /// Identifier: 1 unless said.
        id: u16,
        /// Sequence number: 1 unless said.
        sequence: u16,
    },
    /// An ARP packet: who has the destination, or that the source is here.
    Arp {
        /// The reply.
        reply: bool,
    },
}

/// Options of a TCP header, those that are said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TcpOptions {
    /// Maximum segment size in bytes (RFC 9293 section 3.2).
    pub mss: Option<u16>,
    /// Shift of the window, 0..=14 (RFC 7323 section 2.2).
    pub window_scale: Option<u8>,
    /// Selective acknowledgements are permitted (RFC 2018).
    pub sack: bool,
}

impl Packet {
    /// Reads a packet.
    ///
    /// # Errors
    /// What stands where something else should, and what could.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        words::parse(text)
    }
}
