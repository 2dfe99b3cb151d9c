//! A record as lines of text.

use std::fmt::Write;

use nat::{Direction, Outcome};

use crate::fdb::Learned;
use crate::frame::Stage;
use crate::gateway::icmp;
use crate::neigh::Link;
use crate::port::PortIndex;
use crate::verdict::Verdict;

use super::record::Record;
use super::selector::Fate;
use super::steps::{Endpoint, Found, Gateway, HeldFor, Nat, Step, Tuple, Tx};
use super::summary::summary;

/// What only the reader knows.
pub trait Words {
    /// The name of a port.
    fn port(&self, port: PortIndex) -> String;
}

/// A record in words, which whoever has it may show as text or as fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Story {
    /// Which packet it is.
    pub id: String,
    /// The worker.
    pub worker: u16,
    /// Where it came in, or `gateway`.
    pub from: String,
    /// Who sends what to whom ([`summary`]).
    pub summary: String,
    /// Its bytes, as it came.
    pub len: u32,
    /// A line for each decision.
    pub lines: Vec<Line>,
    /// Steps there was no room for.
    pub steps_lost: u32,
    /// Nanoseconds from the first decision to the last.
    pub took: u32,
    /// What became of it in all.
    pub fate: String,
    /// What to do about it, where it was dropped and something can be done.
    pub fix: String,
}

/// A decision in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Nanoseconds since the first.
    pub after: u32,
    /// Who decided.
    pub word: String,
    /// What.
    pub what: String,
    /// The endpoint before and after, where it was translated.
    pub change: Option<[String; 2]>,
}

impl Story {
    /// What `record` tells.
    #[must_use]
    pub fn of(record: &Record, words: &impl Words) -> Self {
        let (fate, fix) = fate(record, words);
        let lines = record.steps.iter().filter_map(|timed| {
            let (word, what) = step(record, timed.step, words)?;
            Some(Line {
                after: timed.after,
                word: word.into(),
                what,
                change: change(timed.step),
            })
        });
        Self {
            id: record.id.to_string(),
            worker: record.worker,
            from: came_in(record).map_or_else(|| "gateway".into(), |port| words.port(port)),
            summary: summary(&record.before.bytes),
            len: record.before.len,
            lines: lines.collect(),
            steps_lost: record.steps_lost,
            took: u32::try_from(record.took().0).unwrap_or(u32::MAX),
            fate,
            fix: fix.into(),
        }
    }

    /// The `number`-th of a list: a line for the packet, one for each decision, one for its fate.
    #[must_use]
    pub fn text(&self, number: u64, time: &str) -> String {
        let mut text = String::new();
        let (from, packet, len) = (&self.from, &self.summary, self.len);
        // Writing to memory does not fail.
        let _ = writeln!(
            text,
            "#{number}  {time}  {from}  {packet}, {len} bytes  worker {}",
            self.worker
        );
        for line in &self.lines {
            let after = format!("+{}", micros(line.after));
            let _ = writeln!(text, "{after:>9} {:<8} {}", line.word, line.what);
        }
        if self.steps_lost > 0 {
            let _ = writeln!(text, "{:>9} {:<8} {} more steps", "", "…", self.steps_lost);
        }
        let fix = match self.fix.as_str() {
            "" => String::new(),
            fix => format!("  fix: {fix}"),
        };
        let (fate, took) = (&self.fate, micros(self.took));
        let _ = writeln!(text, "   {fate} in {took}  (packet {}){fix}", self.id);
        text
    }
}

/// Where a frame came in; what the gateway made came in nowhere.
fn came_in(record: &Record) -> Option<PortIndex> {
    record.ingress.filter(|_| record.verdict.is_some())
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

/// The endpoint that the NAT changed: before and after; `None` for steps that changed none.
#[must_use]
pub fn change(step: Step) -> Option<[String; 2]> {
    let Step::Nat(what) = step else {
        return None;
    };
    let is_change = matches!(what.outcome, Outcome::Translated | Outcome::Hairpin { .. });
    let end = |it: Tuple| match what.direction {
        Direction::Outbound => Endpoint(it.source, it.source_port),
        Direction::Inbound | Direction::Hairpin => Endpoint(it.destination, it.destination_port),
    };
    let ends = what.before.zip(what.after).filter(|_| is_change);
    ends.map(|(before, after)| [end(before), end(after)].map(|end| end.to_string()))
}

fn nat(what: Nat) -> String {
    let new = if what.new_session { "NEW " } else { "" };
    match what.outcome {
        Outcome::Translated | Outcome::Hairpin { .. } => match change(Step::Nat(what)) {
            Some([before, after]) => format!("{new}{before} -> {after}"),
            None => format!("{new}translated"),
        },
        Outcome::Elsewhere { owner } => format!("the session is worker {owner}'s"),
        Outcome::Held => "a fragment before its first".into(),
        Outcome::NotOurs => "no session's".into(),
        Outcome::Drop(reason) => format!("refused: {reason}"),
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
fn fate(record: &Record, words: &impl Words) -> (String, &'static str) {
    let fate = Fate {
        steps: &record.steps,
        verdict: record.verdict,
    };
    fate_words(fate, (record.ingress, record.copies.0), words)
}

/// A frame's fate in words, and what to do about it: of one that came in there, and of which so
/// many copies left.
pub fn fate_words(
    fate: Fate<'_>,
    (ingress, copies): (Option<PortIndex>, u32),
    words: &impl Words,
) -> (String, &'static str) {
    let from = || ingress.map_or_else(|| "gateway".into(), |port| words.port(port));
    let dropped = |tx: Tx| Some((tx.port, tx.outcome.err()?));
    let text = match (fate.verdict, fate.sent().find_map(dropped)) {
        (Some(Verdict::Drop(reason)), _) => {
            return (format!("DROPPED {}", reason.word()), reason.fix());
        }
        (_, Some((port, reason))) => {
            let port = words.port(port);
            return (format!("DROPPED {} at {port}", reason.word()), reason.fix());
        }
        (Some(Verdict::Forward(to) | Verdict::Route(to)), None) => {
            format!("FORWARDED {} → {}", from(), words.port(to))
        }
        (Some(Verdict::Flood), None) => {
            let ports = if copies == 1 { "port" } else { "ports" };
            format!("FLOODED {} → {copies} {ports}", from())
        }
        (Some(Verdict::Answer), None) => format!("ANSWERED {}", from()),
        (Some(Verdict::Absorb), None) => "ABSORBED".into(),
        (Some(Verdict::Hold), None) => "HELD".into(),
        (Some(Verdict::HandOver(worker)), None) => format!("HANDED OVER to worker {worker}"),
        (None, None) => "SENT".into(),
    };
    (text, "")
}
