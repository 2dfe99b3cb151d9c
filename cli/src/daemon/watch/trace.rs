//! Records as lines of JSON.

use axum::body::Bytes;
use serde::Serialize;
use switch::trace::{Fate as Outcome, Record, Snap, Story, TracePortion, Words};
use switch::verdict::Verdict;

use crate::control::api::{
    Fate, TraceSchema, Traced, TracedChange, TracedFrame, TracedLost, TracedStep, TracedTx,
};
use crate::control::feed::json_line;
use crate::show::moment;

use super::names::PortNames;
use super::{Encode, Wall};

/// Bytes of lines in one chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// Makes lines.
pub(super) struct Lines {
    names: PortNames,
    wall: Wall,
}

impl Lines {
    pub(super) const fn new(names: PortNames, wall: Wall) -> Self {
        Self { names, wall }
    }
}

impl Encode for Lines {
    fn portion(&mut self, portion: &TracePortion, lost: u64, chunk: &mut dyn FnMut(Bytes) -> bool) {
        let mut text = String::new();
        if lost > 0 {
            let schema = TraceSchema;
            push(&mut text, &TracedLost { schema, lost });
        }
        for record in portion.records() {
            push(&mut text, &traced(&record, &self.names, self.wall));
            if text.len() >= CHUNK_BYTES - 4096 && !chunk(std::mem::take(&mut text).into()) {
                return;
            }
        }
        let _ = chunk(text.into());
    }
}

fn push(text: &mut String, line: &impl Serialize) {
    text.push_str(&json_line(line));
}

/// A record as the control socket tells it.
pub(super) fn traced(record: &Record, names: &PortNames, wall: Wall) -> Traced {
    let story = Story::of(record, names);
    let outcome = Outcome {
        steps: &record.steps,
        verdict: record.verdict,
    };
    let reason = outcome.reason();
    let ingress = record.ingress.filter(|_| record.verdict.is_some());
    let name = ingress.and_then(|port| names.get(port));
    Traced {
        schema: TraceSchema,
        id: story.id,
        cause: record.cause.map(|id| id.to_string()),
        time: moment::iso_micros(wall.time(record.began)),
        worker: record.worker,
        port: ingress.map(|port| names.port(port)),
        peer: name.and_then(|name| Some(name.peer?.to_string())),
        summary: story.summary,
        steps: story.lines.into_iter().map(step).collect(),
        steps_lost: record.steps_lost,
        took_ns: story.took,
        fate: fate(record.verdict),
        story: story.fate,
        reason: reason.map(|reason| reason.word().into()),
        fix: story.fix,
        sent: (outcome.sent())
            .map(|tx| TracedTx {
                port: names.port(tx.port),
                reason: tx.outcome.err().map(|reason| reason.word().into()),
                pieces: tx.pieces,
                bytes: tx.bytes,
            })
            .collect(),
        before: frame(&record.before),
        after: record.after.as_ref().map(frame),
    }
}

fn step(line: switch::trace::Line) -> TracedStep {
    TracedStep {
        after_ns: line.after,
        step: line.word,
        text: line.what,
        change: (line.change).map(|[before, after]| TracedChange { before, after }),
    }
}

fn frame(snap: &Snap) -> TracedFrame {
    TracedFrame::new(&snap.bytes, snap.len)
}

const fn fate(verdict: Option<Verdict>) -> Fate {
    match verdict {
        Some(Verdict::Forward(_)) => Fate::Forward,
        Some(Verdict::Route(_)) => Fate::Route,
        Some(Verdict::Flood) => Fate::Flood,
        Some(Verdict::Answer) => Fate::Answer,
        Some(Verdict::Absorb) => Fate::Absorb,
        Some(Verdict::Hold) => Fate::Hold,
        Some(Verdict::HandOver(_)) => Fate::Handover,
        Some(Verdict::Drop(_)) => Fate::Drop,
        None => Fate::Sent,
    }
}
