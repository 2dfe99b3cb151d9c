//! What the control socket speaks: the JSON of every answer, as types.
//!
//! A table is an array; each element begins with `"schema":"vswitch.NOUN/VERSION"`. A single thing
//! (`nat`, `status`, the result of a change, an error) is an object that begins the same way.
//! `vswitch -j NOUN` prints exactly the body of `GET /NOUN`.
//!
//! Where iproute2 has a form for the same thing its keys are used, so that existing jq lines run:
//! `bridge -j fdb` (`mac ifname vlan flags master state`), `ip -j -s link` (`ifname mtu operstate
//! address stats64`), `ip -j neigh` (`dst dev lladdr state`). What iproute2 has no key for is in an
//! object `vswitch`, or beside the keys where conventions ask for it (`age`, `port` of `fdb`).
//!
//! Within a schema's version keys are only ever added. Counters are since start and never fall.

mod body;
mod event;
mod kept;
mod latency;
mod nat;
mod news;
mod published;
mod schema;
mod side;
mod trace;
mod what_if;
mod why;
mod worker;

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::conform::Requirement;
use serde::{Deserialize, Serialize};
use switch::mac::Mac;
use switch::verdict::DropReason;

use super::text;

pub use self::nat::{NatCounters, NatState};
pub use body::{FdbAdd, NatPublish, PortAdd, PortSet};
pub use event::{Happening, Lost, NatEvent, NatRecord};
pub use kept::{KeptPacket, KeptPackets};
pub use latency::{Bound, Latency, LatencyPair, LatencyStage, LatencyTo, WorkerLoad};
pub use news::{
    DropEvent, DropHappening, Event, EventKind, EventRecord, EventWhat, GuardEvent, GuardHappening,
    LostEvents, PortEvent, PortHappening, StationEvent, StationHappening,
};
pub use published::{Published, PublishedState, PublishedTarget};
pub use schema::*;
pub use side::Side;
pub(crate) use trace::digits;
pub use trace::{
    Fate, Traced, TracedChange, TracedFrame, TracedLost, TracedRecord, TracedStep, TracedTx,
};
pub use what_if::{WhatIf, WhatIfAsked, WhatIfStation};
pub use why::{Why, WhyAddress, WhyDrop, WhyNow, WhyPlace, WhyRoute};
pub use worker::Worker;

/// Frames and bytes one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Traffic {
    /// Bytes, from the Ethernet header on.
    pub bytes: u64,
    /// Frames; one that is still to be segmented counts once.
    pub packets: u64,
}

impl From<::nat::Traffic> for Traffic {
    fn from(traffic: ::nat::Traffic) -> Self {
        let ::nat::Traffic { bytes, packets } = traffic;
        Self { bytes, packets }
    }
}

/// Counters of one direction of a port, with the keys of `ip -j -s link`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counters {
    /// Bytes.
    pub bytes: u64,
    /// Frames.
    pub packets: u64,
    /// Frames that were malformed (rx) or refused by the kernel (tx).
    pub errors: u64,
    /// Frames dropped for any other reason.
    pub dropped: u64,
}

/// Both directions of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats64 {
    /// From the port into the switch.
    pub rx: Counters,
    /// From the switch out of the port.
    pub tx: Counters,
}

/// Whether a port can carry frames; the words of `ip link`'s operstate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OperState {
    /// Frames flow.
    Up,
    /// The device is there and down.
    Down,
    /// The device is gone; the port waits for it.
    NotPresent,
}

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A port of the switch.
    Port,
    /// The TAP by which the host itself takes part.
    Host,
    /// The way out.
    Uplink,
}

/// A port: `GET /ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// `vswitch.port/1`.
    pub schema: PortSchema,
    /// The network device.
    pub ifname: String,
    /// The most bytes of IP a frame may carry.
    pub mtu: u32,
    /// Whether it can carry frames.
    pub operstate: OperState,
    /// The device's own MAC address.
    #[serde(with = "text::option")]
    pub address: Option<Mac>,
    /// Counters since the port was opened.
    pub stats64: Stats64,
    /// What iproute2 has no word for.
    pub vswitch: PortDetail,
}

/// What is particular to a port of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortDetail {
    /// The port as written on the command line: `tap:web0`.
    pub word: String,
    /// What it is made of: `veth`, `tap`, `packet`.
    pub kind: String,
    /// Its place in the switch.
    pub index: u16,
    /// What it is for.
    pub role: Role,
    /// The worker that receives from it; the first, where several do.
    pub worker: u16,
    /// Every worker that receives from it: one, or on the uplink all.
    #[serde(default)]
    pub workers: Vec<u16>,
    /// The worker that has the NAT sessions of a port's stations: the first that received from it.
    /// `null` where there are none: on the uplink and the host port.
    #[serde(default)]
    pub nat_worker: Option<u16>,
    /// The network it belongs to.
    pub network: String,
    /// What keeps the host's own stack off it: `tcx`, `nft`, `clsact`, `sysctl`, `none`.
    pub guard: String,
    /// What is at its other end, as far as known: `eth0@blue 10.77.0.11`.
    pub peer: Option<String>,
    /// Bytes of its receive ring; 0 where it has none.
    pub ring_bytes: u64,
    /// Drops by reason, those that happened.
    pub drops: Vec<DropCount>,
}

/// How often one reason applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropCount {
    /// The reason's word.
    pub reason: String,
    /// How many frames, or copies.
    pub count: u64,
}

/// An entry of the forwarding table: `GET /fdb`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FdbEntry {
    /// `vswitch.fdb/1`.
    pub schema: FdbSchema,
    /// The station.
    #[serde(with = "text")]
    pub mac: Mac,
    /// The device of the port it is on; the switch's own name for addresses of its own.
    pub ifname: String,
    /// The VLAN; 1 for a network without tags, as a VLAN-aware bridge has it.
    pub vlan: u16,
    /// `bridge`'s flags; empty.
    pub flags: Vec<String>,
    /// The switch, where `bridge` names the bridge device.
    pub master: String,
    /// How it came to be known.
    pub state: FdbState,
    /// Seconds since a frame came from it; `null` for entries that do not age.
    pub age: Option<f64>,
    /// The port as written on the command line.
    pub port: String,
}

/// How a station came to be known; the words of `bridge fdb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FdbState {
    /// Learned from a frame.
    #[serde(rename = "")]
    Learned,
    /// Fixed by the operator.
    #[serde(rename = "static")]
    Static,
    /// The switch's own: the gateway, the host port.
    #[serde(rename = "permanent")]
    Permanent,
}

/// A neighbour: `GET /neigh`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    /// `vswitch.neigh/1`.
    pub schema: NeighSchema,
    /// Its IP address.
    pub dst: IpAddr,
    /// The device of the port it is on.
    pub dev: String,
    /// Its MAC address; `null` as long as it has not answered.
    #[serde(with = "text::option")]
    pub lladdr: Option<Mac>,
    /// Always one word, in a list as in `ip -j neigh`.
    pub state: [NeighState; 1],
    /// What iproute2 has no word for.
    pub vswitch: NeighDetail,
}

/// The state of a neighbour (RFC 4861 section 7.3.2; the words of `ip neigh`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NeighState {
    /// Asked for, no answer yet.
    Incomplete,
    /// Answered lately.
    Reachable,
    /// Not heard of lately; used until proven wrong.
    Stale,
    /// Used while stale, and about to be asked.
    Delay,
    /// Asked again.
    Probe,
    /// Did not answer.
    Failed,
    /// Never asked: fixed.
    Permanent,
}

/// What is particular to a neighbour of ours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NeighDetail {
    /// On which side of the NAT.
    pub side: Side,
    /// Seconds since it last answered; `null` if it never did.
    pub age: Option<f64>,
}

/// What becomes of the RFCs' requirements: `GET /nat/report`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatReport {
    /// `vswitch.nat-report/1`.
    pub schema: NatReportSchema,
    /// The requirements, in the order of the RFCs.
    pub requirements: Vec<Requirement>,
}

/// The address translation: `GET /nat`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nat {
    /// `vswitch.nat/1`.
    pub schema: NatSchema,
    /// How full it is.
    pub summary: NatSummary,
    /// The sessions, the youngest first; none with `?summary`, so many with `?most=N`.
    pub sessions: Vec<NatSession>,
    /// How many of the selected sessions are in each state; empty with `?summary`.
    #[serde(default)]
    pub states: Vec<NatState>,
    /// Ports of the host that lead to members; empty with `?summary`.
    #[serde(default)]
    pub published: Vec<Published>,
}

/// How full the address translation is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NatSummary {
    /// Sessions at present.
    pub sessions: u64,
    /// The most there may be.
    pub sessions_max: u64,
    /// External addresses.
    pub external: Vec<NatExternal>,
    /// What was counted since the start.
    pub counters: NatCounters,
}

/// One external address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NatExternal {
    /// The address.
    pub address: IpAddr,
    /// Ports taken, of the protocol that took most.
    pub ports_used: u32,
    /// Ports there are for one protocol.
    pub ports_total: u32,
}

/// One session of the address translation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NatSession {
    /// `tcp`, `udp`, `icmp`.
    pub proto: String,
    /// The protocol's number.
    pub proto_number: u8,
    /// Its state, in conntrack's words: `ESTABLISHED`, `ASSURED`.
    pub state: String,
    /// The endpoint inside. For ICMP the port is the echo identifier, here and below.
    pub inside: SocketAddr,
    /// The endpoint it appears as.
    pub external: SocketAddr,
    /// The endpoint outside.
    pub outside: SocketAddr,
    /// The side that sent the first packet.
    pub origin: Side,
    /// The other side has answered.
    pub replied: bool,
    /// The port the inside endpoint is on.
    pub port: Option<String>,
    /// Seconds since the first packet.
    pub age: f64,
    /// Seconds until it ends if nothing more comes.
    pub left: f64,
    /// From inside.
    pub outbound: Traffic,
    /// From outside.
    pub inbound: Traffic,
}

/// One reason on one port: `GET /drops`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drop {
    /// `vswitch.drop/1`.
    pub schema: DropSchema,
    /// The reason's word.
    pub reason: String,
    /// The device of the port; `null` where no port is to blame.
    pub port: Option<String>,
    /// How many frames, or copies, since start.
    pub count: u64,
    /// How many a second lately; `null` if that is not known yet.
    pub rate: Option<f64>,
    /// What the reason means.
    pub meaning: String,
    /// What to do about it; empty where there is nothing to do.
    pub fix: String,
    /// The packet that was dropped last; `null` where none is kept.
    #[serde(default)]
    pub last: Option<KeptPacket>,
    /// All packets that are kept, in the answer about one reason: `GET /drops/kept`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<KeptPackets>,
}

impl Drop {
    /// What helps against a reason, in which `DEV` becomes the port where one is known.
    #[must_use]
    pub fn fix_at(reason: DropReason, port: Option<&str>) -> String {
        port.map_or_else(
            || reason.fix().to_owned(),
            |device| reason.fix().replace("DEV", device),
        )
    }

    /// A line of the table; meaning and fix come with the reason.
    #[must_use]
    pub fn new(reason: DropReason, port: Option<String>, count: u64, rate: Option<f64>) -> Self {
        Self {
            schema: DropSchema,
            reason: reason.word().into(),
            fix: Self::fix_at(reason, port.as_deref()),
            port,
            count,
            rate,
            meaning: reason.meaning().into(),
            last: None,
            kept: None,
        }
    }
}

/// The switch as a whole: `GET /status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `vswitch.status/1`.
    pub schema: StatusSchema,
    /// Its name.
    pub name: String,
    /// The process.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// Seconds since it was ready.
    pub uptime: f64,
    /// Its ports, with uplink and host port.
    pub ports: u32,
    /// The gateway, as `10.77.0.1/24`; `null` where there is none.
    pub gateway: Option<String>,
    /// The uplink's device.
    pub uplink: Option<String>,
    /// Entries of the forwarding table.
    pub fdb_entries: u64,
    /// NAT sessions.
    pub nat_sessions: u64,
    /// Workers.
    pub workers: Vec<Worker>,
    /// The most frames a worker received, by their mean: 1 where all received alike, the number of
    /// workers where one received all. `null` before the first frame.
    #[serde(default)]
    pub imbalance: Option<f64>,
    /// Where every frame went.
    pub totals: Totals,
}

/// Where every frame went, since start: each that came in has one verdict, each copy one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Totals {
    /// Frames that came in from a ring.
    pub received: u64,
    /// Frames given a further verdict, after a hold or a hand-over.
    pub resumed: u64,
    /// Verdict: sent to one port by the switch.
    pub forwarded: u64,
    /// Verdict: sent to one port by the gateway.
    pub routed: u64,
    /// Verdict: sent to all ports but one.
    pub flooded: u64,
    /// Verdict: turned round by the gateway.
    pub answered: u64,
    /// Verdict: taken in by the gateway.
    pub absorbed: u64,
    /// Verdict: waits for a neighbour.
    pub held: u64,
    /// Verdict: given to another worker.
    pub handed_over: u64,
    /// Verdict: dropped as a whole.
    pub dropped: u64,
    /// Copies made of them to be sent.
    pub copies: u64,
    /// Frames the gateway made itself: ARP, ICMP.
    pub originated: u64,
    /// Copies that went out.
    pub sent: u64,
    /// Copies that did not.
    pub egress_dropped: u64,
}

impl Totals {
    /// Frames that came in, less those with a verdict: 0 in a switch that counts right, but for
    /// frames under way while the counters were read. Negative where more ended than came in.
    #[must_use]
    pub fn unaccounted(&self) -> i128 {
        let ends = [
            self.forwarded,
            self.routed,
            self.flooded,
            self.answered,
            self.absorbed,
            self.held,
            self.handed_over,
            self.dropped,
        ];
        let came = i128::from(self.received) + i128::from(self.resumed);
        came - ends.into_iter().map(i128::from).sum::<i128>()
    }

    /// Copies and frames of the gateway's own, less those that were sent or dropped on their way
    /// out: 0 at rest, as [`unaccounted`](Self::unaccounted).
    #[must_use]
    pub fn undelivered(&self) -> i128 {
        let made = i128::from(self.copies) + i128::from(self.originated);
        made - i128::from(self.sent) - i128::from(self.egress_dropped)
    }
}

/// The result of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// `vswitch.done/1`.
    pub schema: DoneSchema,
    /// What was done, in one line.
    pub message: String,
    /// How many things it was done to.
    pub count: u64,
}

impl Done {
    /// What was done, to how many.
    #[must_use]
    pub fn new(message: impl Into<String>, count: u64) -> Self {
        Self {
            schema: DoneSchema,
            message: message.into(),
            count,
        }
    }
}

/// Why a request was not met; the body of every answer that is not 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// `vswitch.error/1`.
    pub schema: ErrorSchema,
    /// What was asked for.
    pub error: String,
    /// Why it cannot be.
    pub why: String,
    /// A command that fixes it; empty where there is none.
    pub fix: String,
}

impl fmt::Display for OperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::NotPresent => "gone",
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Port => "port",
            Self::Host => "host",
            Self::Uplink => "uplink",
        })
    }
}

impl fmt::Display for NeighState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Incomplete => "INCOMPLETE",
            Self::Reachable => "REACHABLE",
            Self::Stale => "STALE",
            Self::Delay => "DELAY",
            Self::Probe => "PROBE",
            Self::Failed => "FAILED",
            Self::Permanent => "PERMANENT",
        })
    }
}
