//! What became of the packets to an address, and what is known of it: `GET /why?dst=10.0.0.5`.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{FdbEntry, KeptPacket, NatSession, Neighbour, Published, WhySchema};

/// The story of an address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Why {
    /// `vswitch.why/1`.
    pub schema: WhySchema,
    /// The address asked about.
    pub dst: Ipv4Addr,
    /// Whose packets to it; `null`: anybody's.
    pub src: Option<Ipv4Addr>,
    /// True where anything but a route is known of it.
    pub known: bool,
    /// Dropped packets to it that are kept, the latest first.
    pub drops: Vec<WhyDrop>,
    /// What the tables say of it now.
    pub address: WhyAddress,
    /// What would become now of the packet that was dropped last; `null` where none is kept as it
    /// came in.
    pub now: Option<WhyNow>,
}

/// A dropped packet to the address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyDrop {
    /// The reason's word.
    pub reason: String,
    /// What it means.
    pub meaning: String,
    /// What to do about it; empty where there is nothing to do.
    pub fix: String,
    /// The NAT's or a published entry's endpoint that it bears in place of the address; `null`
    /// where it bears the address itself.
    pub translated: Option<String>,
    /// The packet.
    pub packet: KeptPacket,
}

/// What an address is to the switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhyPlace {
    /// The gateway's own.
    Gateway,
    /// One that the NAT translates to.
    External,
    /// One of the host's own.
    Host,
    /// In the switch's network.
    Network,
    /// Outside.
    Outside,
}

/// What the tables say of an address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyAddress {
    /// What it is.
    pub place: WhyPlace,
    /// The device of the port it is reached by, as far as that is known.
    pub port: Option<String>,
    /// The way to it, where it is outside; `null` where there is none.
    pub route: Option<WhyRoute>,
    /// What is known of it, or of the router to it, by ARP.
    pub neighbours: Vec<Neighbour>,
    /// Where the forwarding table has those.
    pub fdb: Vec<FdbEntry>,
    /// NAT sessions with it: the youngest, 16 at most.
    pub sessions: Vec<NatSession>,
    /// How many there are in all.
    pub sessions_total: u64,
    /// Published ports that lead to it, or are on it.
    pub published: Vec<Published>,
}

/// A way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyRoute {
    /// The network it is a route to: `0.0.0.0/0`.
    pub dst: String,
    /// The router; `null` where the address is on the link.
    pub gateway: Option<Ipv4Addr>,
    /// The uplink's device.
    pub dev: String,
}

/// What would become of a packet now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyNow {
    /// `FORWARDED veth1 → eth0`, `DROPPED NO_ROUTE`: the last line of `vswitch trace`.
    pub fate: String,
    /// True where it would be dropped.
    pub dropped: bool,
    /// The packet that was tried.
    pub packet: KeptPacket,
}
