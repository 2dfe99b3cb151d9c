//! The records of `GET /monitor/nat`: one JSON object on each line, for as long as one listens.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{NatEventSchema, Side, Traffic};

/// What happened to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Happening {
    /// It was opened.
    New,
    /// Its TCP state changed, or the other side answered for the first time.
    Update,
    /// It ended.
    Destroy,
}

/// Something that happened to a session of the address translation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NatEvent {
    /// `vswitch.nat-event/1`.
    pub schema: NatEventSchema,
    /// When: ISO 8601, UTC.
    pub time: String,
    /// What.
    pub event: Happening,
    /// `tcp`, `udp`, `icmp`.
    pub proto: String,
    /// The protocol's number.
    pub proto_number: u8,
    /// Its state, in conntrack's words.
    pub state: String,
    /// The endpoint inside. For ICMP the port is the echo identifier, here and below.
    pub inside: SocketAddr,
    /// The endpoint it appears as.
    pub external: SocketAddr,
    /// The endpoint outside; for ICMP the port is the request's type.
    pub outside: SocketAddr,
    /// The side that sent the first packet.
    pub origin: Side,
    /// Whether the other side has answered.
    pub replied: bool,
    /// Seconds until it ends if nothing more comes.
    pub left: f64,
    /// From inside.
    pub outbound: Traffic,
    /// From outside.
    pub inbound: Traffic,
}

/// A gap: records that could not be kept until this reader took them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// `vswitch.nat-event/1`.
    pub schema: NatEventSchema,
    /// How many.
    pub lost: u64,
}

/// One line of the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
#[expect(
    clippy::large_enum_variant,
    reason = "one is alive at a time, on its way to a line of text"
)]
pub enum NatRecord {
    /// Something happened.
    Event(NatEvent),
    /// Records are missing here.
    Lost(Lost),
}
