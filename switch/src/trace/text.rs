//! A record as lines of text.

use std::fmt::Write;

use nat::{Direction, Nanos, Outcome};

use crate::fdb::Learned;
use crate::frame::Stage;
use crate::gateway::icmp;
use crate::neigh::Link;
use crate::port::PortIndex;
use crate::verdict::{DropReason, Verdict};

use super::record::Record;
use super::steps::{Endpoint, Found, Gateway, HeldFor, Nat, Step, Tuple, Tx};
use super::summary::summary;

/// What only the reader knows: how ports are called, and what time it was.
pub trait Words {
    /// The name of a port.
    fn port(&self, port: PortIndex) -> String;
    /// A moment of the tracer's clock.
    fn time(&self, at: Nanos) -> String;
}

/// The `number`-th record: a line for the packet, one for each step, one for its fate.
#[must_use]
pub fn text(record: &Record, number: u64, words: &impl Words) -> String {
    let mut text = String::new();
    let from = record
        .ingress
        .map_or_else(|| "-".into(), |port| words.port(port));
    let time = words.time(record.began);
    let (packet, len) = (summary(&record.before.bytes), record.before.len);
    // Writing to memory does not fail.
    let _ = writeln!(
        text,
        "#{number}  {time}  {from}  {packet}, {len} bytes  worker {}",
        record.worker
    );
    for timed in &record.steps {
        if let Some((word, what)) = step(record, timed.step, words) {
            let after = format!("+{}", micros(timed.after));
            let _ = writeln!(text, "{after:>9} {word:<8} {what}");
        }
    }
    if record.steps_lost > 0 {
        let _ = writeln!(
            text,
            "{:>9} {:<8} {} more steps",
            "", "…", record.steps_lost
        );
    }
    let took = micros(u32::try_from(record.took().0).unwrap_or(u32::MAX));
    let (fate, fix) = fate(record, words);
    let _ = writeln!(text, "   {fate} in {took}  (packet {}){fix}", record.id);
    text
}

/// Tenths of microseconds.
fn micros(nanos: u32) -> String {
    format!("{}.{}µs", nanos / 1000, nanos % 1000 / 100)
}

/// A step's word and what there is to say; `None` for what the last line says.
fn step(record: &Record, step: Step, words: &impl Words) -> Option<(&'static str, String)> {
    Some(match step {
        Step::Rx(port) => ("rx", words.port(port)),
        Step::Resumed(stage) => ("resume", resumed(record, stage)),
        Step::Made => ("made", made(record)),
        Step::Admit(Ok(())) | Step::Verdict(_) => return None,
        Step::Admit(Err(reason)) => ("admit", format!("refused: {}", reason.word())),
        Step::Learn(mac, learned) => {
            let what = match learned {
                Learned::New => format!("learned {mac} (new)"),
                Learned::Refreshed => format!("{mac} is where it was"),
                Learned::Moved { from } => format!("{mac} moved here from {}", words.port(from)),
                Learned::Damped { at } => {
                    format!("{mac} moves too often and stays on {}", words.port(at))
                }
                Learned::Locked { at } => format!("{mac} is locked to {}", words.port(at)),
                Learned::Full => format!("no room to learn {mac}"),
            };
            ("fdb", what)
        }
        Step::Lookup(mac, found) => {
            let what = match found {
                Found::Port(port) => format!("{mac} is on {}", words.port(port)),
                Found::Group => format!("{mac} is a group"),
                Found::Unknown => format!("{mac} is unknown"),
            };
            ("fdb", what)
        }
        Step::Gateway(what) => ("gateway", gateway(what, words)),
        Step::Route(hop, mtu) => {
            let mtu = mtu.map_or_else(String::new, |mtu| format!(", mtu {mtu}"));
            (
                "route",
                format!("via {} on {}{mtu}", hop.address, link(hop.link)),
            )
        }
        Step::Nat(what) => ("nat", nat(what)),
        Step::Rewrite {
            ttl,
            destination,
            source,
        } => {
            let before = u16::from(ttl) + 1;
            (
                "rewrite",
                format!("ttl {before}→{ttl}, {source} > {destination}"),
            )
        }
        Step::Hold(HeldFor::Neighbour(hop)) => (
            "hold",
            format!("until {} on {} answers", hop.address, link(hop.link)),
        ),
        Step::Hold(HeldFor::FirstFragment) => ("hold", "until the first fragment comes".into()),
        Step::HandOver(worker, _) => ("handover", format!("to worker {worker}")),
        Step::Tx(tx) => ("tx", sent(tx, words)),
    })
}

fn resumed(record: &Record, stage: Stage) -> String {
    let how_far = match stage {
        Stage::Arrived => "as it came",
        Stage::Inside => "admitted and learned",
        Stage::Owned => "routed",
        Stage::Sourced => "its source translated",
        Stage::Hairpinned => "its source translated, its destination not yet",
        Stage::Outside => "from the uplink",
        Stage::Translated => "its destination translated",
        Stage::ForHost => "for the host",
    };
    match record.id.worker() {
        here if here == record.worker => how_far.into(),
        first => format!("{how_far}; worker {first} saw it first"),
    }
}

fn made(record: &Record) -> String {
    record.cause.map_or_else(
        || "by the gateway".into(),
        |cause| format!("by the gateway, because of packet {cause}"),
    )
}

fn link(link: Link) -> String {
    match link {
        Link::Network(network) => format!("network {network}"),
        Link::Uplink => "the uplink".into(),
    }
}

fn gateway(what: Gateway, words: &impl Words) -> String {
    match what {
        Gateway::ArpAnswered(address) => format!("says that {address} is here"),
        Gateway::EchoAnswered => "answers the echo".into(),
        Gateway::ArpHeard(sender) => format!("hears {sender}"),
        Gateway::ToHost(port) => format!("for the host, by {}", words.port(port)),
        Gateway::Asked(hop) => format!("asks {} who {} is", link(hop.link), hop.address),
        Gateway::Told(error) => format!("tells the sender: {}", told(error)),
    }
}

fn told(error: icmp::Error) -> String {
    match error {
        icmp::Error::NetUnreachable => "net unreachable".into(),
        icmp::Error::HostUnreachable => "host unreachable".into(),
        icmp::Error::PortUnreachable => "port unreachable".into(),
        icmp::Error::FragmentationNeeded { mtu } => format!("too big, mtu {mtu}"),
        icmp::Error::Prohibited => "prohibited".into(),
        icmp::Error::TimeExceeded => "time exceeded".into(),
    }
}

/// The endpoint that the NAT is about: before and after.
fn nat(what: Nat) -> String {
    let source = |it: Tuple| Endpoint(it.source, it.source_port);
    let destination = |it: Tuple| Endpoint(it.destination, it.destination_port);
    let end = |it: Tuple| match what.direction {
        Direction::Outbound => source(it),
        Direction::Inbound | Direction::Hairpin => destination(it),
    };
    let new = if what.new_session { "NEW " } else { "" };
    match (what.outcome, what.before, what.after) {
        (Outcome::Translated | Outcome::Hairpin { .. }, Some(before), Some(after)) => {
            format!("{new}{} -> {}", end(before), end(after))
        }
        (Outcome::Translated | Outcome::Hairpin { .. }, ..) => format!("{new}translated"),
        (Outcome::Elsewhere { owner }, ..) => format!("the session is worker {owner}'s"),
        (Outcome::Held, ..) => "a fragment before its first".into(),
        (Outcome::NotOurs, ..) => "no session's".into(),
        (Outcome::Drop(reason), ..) => format!("refused: {reason}"),
    }
}

fn sent(tx: Tx, words: &impl Words) -> String {
    let port = words.port(tx.port);
    let pieces = match tx.pieces {
        1 => String::new(),
        pieces => format!(" in {pieces} pieces"),
    };
    match tx.outcome {
        Ok(()) => format!("{port}{pieces}"),
        Err(reason) => format!("{port}{pieces} dropped: {}", reason.word()),
    }
}

/// What became of it in all, and what to do about it.
fn fate(record: &Record, words: &impl Words) -> (String, String) {
    let from = record
        .ingress
        .map_or_else(|| "gateway".into(), |port| words.port(port));
    let egress_drop = record.steps.iter().find_map(|timed| {
        let Step::Tx(tx) = timed.step else {
            return None;
        };
        tx.outcome.err().map(|reason| (tx.port, reason))
    });
    let fate = match (record.verdict, egress_drop) {
        (Some(Verdict::Drop(reason)), _) => {
            return (format!("DROPPED {}", reason.word()), fix(reason));
        }
        (_, Some((port, reason))) => {
            let port = words.port(port);
            return (format!("DROPPED {} at {port}", reason.word()), fix(reason));
        }
        (Some(Verdict::Forward(to) | Verdict::Route(to)), None) => {
            format!("FORWARDED {from} → {}", words.port(to))
        }
        (Some(Verdict::Flood), None) => {
            let copies = record.copies.0;
            let ports = if copies == 1 { "port" } else { "ports" };
            format!("FLOODED {from} → {copies} {ports}")
        }
        (Some(Verdict::Answer), None) => format!("ANSWERED {from}"),
        (Some(Verdict::Absorb), None) => "ABSORBED".into(),
        (Some(Verdict::Hold), None) => "HELD".into(),
        (Some(Verdict::HandOver(worker)), None) => format!("HANDED OVER to worker {worker}"),
        (None, None) => "SENT".into(),
    };
    (fate, String::new())
}

fn fix(reason: DropReason) -> String {
    match reason.fix() {
        "" => String::new(),
        fix => format!("  fix: {fix}"),
    }
}
