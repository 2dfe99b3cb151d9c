//! What the control server asks of the loop that owns the switch.

use std::net::Ipv4Addr;

use switch::mac::Mac;
use switch::verdict::DropReason;
use tokio::sync::oneshot;

use super::api;
use super::feed::Feed;
use super::select::Extent;
use super::watch::Watch;
use super::what_if::Try;
use crate::config::settings::PortSpec;
use crate::config::{PublishSpec, PublishedAt};
use crate::metrics::Reading;

/// A question or a change, with the way back for its answer. The owner answers each; one dropped
/// unanswered is reported to the client as a switch that is shutting down.
#[derive(Debug)]
pub enum Request {
    /// The ports, in the order of their index.
    Ports(ReplyTo<Vec<api::Port>>),
    /// The forwarding table.
    Fdb(ReplyTo<Vec<api::FdbEntry>>),
    /// The neighbours.
    Neighbours(ReplyTo<Vec<api::Neighbour>>),
    /// The selected NAT sessions, as many of them as are wanted.
    Nat(nat::Selection, Extent, ReplyTo<api::Nat>),
    /// The NAT's events from now on, until the reader has gone.
    MonitorNat(Feed, ReplyTo<()>),
    /// Packets' ways from now on, until the reader has gone or the watch of that number is ended.
    Watch(Box<Watch>, Feed, ReplyTo<u64>),
    /// All that comes in from now on, as a recording; a watch like the other.
    Record(Feed, ReplyTo<u64>),
    /// End a watch: what was recorded so far still comes.
    WatchEnd(u64, ReplyTo<api::Done>),
    /// What would become of a packet that came in on the port of that device.
    WhatIf(String, Try, ReplyTo<api::WhatIf>),
    /// The switch's events of these kinds from now on, until the reader has gone.
    MonitorEvents(Vec<api::EventKind>, Feed, ReplyTo<()>),
    /// The reasons that applied at least once.
    Drops(ReplyTo<Vec<api::Drop>>),
    /// The packets kept of a reason, or of each that applied.
    KeptDrops(Option<DropReason>, ReplyTo<Vec<api::Drop>>),
    /// What became of the packets to an address, from another or from anybody.
    Why {
        /// The address.
        dst: Ipv4Addr,
        /// The other.
        src: Option<Ipv4Addr>,
        /// The way back.
        reply: ReplyTo<api::Why>,
    },
    /// Forget the packets kept.
    DropsFlush(ReplyTo<api::Done>),
    /// Everything counted, for Prometheus.
    Metrics(ReplyTo<Reading>),
    /// How long frames take.
    Latency(ReplyTo<api::Latency>),
    /// Forget what was measured of it.
    LatencyReset(ReplyTo<api::Done>),
    /// The switch as a whole.
    Status(ReplyTo<api::Status>),
    /// Open a port.
    PortAdd(PortSpec, ReplyTo<api::Done>),
    /// Move a port to another worker.
    PortSet {
        /// The port's device.
        port: String,
        /// The worker that is to receive from it, counted from 0.
        worker: u16,
        /// The way back.
        reply: ReplyTo<api::Done>,
    },
    /// Close the port of that device.
    PortDel(String, ReplyTo<api::Done>),
    /// Fix a station to the port of that device.
    FdbAdd {
        /// The station; no group address.
        mac: Mac,
        /// The port's device.
        port: String,
        /// The way back.
        reply: ReplyTo<api::Done>,
    },
    /// Forget a station, static or learned.
    FdbDel(Mac, ReplyTo<api::Done>),
    /// Forget all learned stations, or those of one port.
    FdbFlush(Option<String>, ReplyTo<api::Done>),
    /// What becomes of the RFCs' requirements with the live configuration.
    NatReport(ReplyTo<api::NatReport>),
    /// End the selected NAT sessions.
    NatFlush(nat::Selection, ReplyTo<api::Done>),
    /// Lead ports of the host to members.
    NatPublish(PublishSpec, ReplyTo<api::Done>),
    /// Lead them nowhere any more.
    NatUnpublish(PublishedAt, ReplyTo<api::Done>),
    /// What is published.
    Published(ReplyTo<Vec<api::Published>>),
    /// Forget all neighbours but the fixed ones.
    NeighFlush(ReplyTo<api::Done>),
}

/// The way back for one answer of type `T`.
#[derive(Debug)]
#[must_use = "the client waits for it"]
pub struct ReplyTo<T>(oneshot::Sender<Result<T, Refusal>>);

impl<T> ReplyTo<T> {
    pub(super) fn new() -> (Self, oneshot::Receiver<Result<T, Refusal>>) {
        let (sender, receiver) = oneshot::channel();
        (Self(sender), receiver)
    }

    /// Answers; never blocks. A client that has gone meanwhile is nobody's loss.
    pub fn send(self, answer: Result<T, Refusal>) {
        drop(self.0.send(answer));
    }
}

/// Why the owner of the switch does not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such port, station or thing (404).
    Absent {
        /// What is not there.
        what: String,
        /// How to find out what is.
        fix: String,
    },
    /// It is there already, or in the way of something that is (409).
    Conflict {
        /// What was asked for.
        what: String,
        /// What it conflicts with.
        why: String,
        /// What to do.
        fix: String,
    },
    /// It was tried and failed (500).
    Failed {
        /// What was tried.
        what: String,
        /// How it failed.
        why: String,
        /// What to do.
        fix: String,
    },
}
