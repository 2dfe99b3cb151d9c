//! What happens to mappings and sessions, as plain data for whoever wants a log.
//!
//! # Theory of operation
//! An engine that records has a buffer of fixed size, taken when recording is switched on. Each
//! mapping and session leaves a record there when it begins, ends, or changes in a way an operator
//! would want to see: its TCP state, or the first answer. Whoever owns the engine collects the
//! records now and then ([`Nat::take_events`]); what does not fit until then is counted as lost.
//! So recording never waits and never allocates, and while it is off a packet pays for one branch
//! that is always predicted.
//!
//! A session's end is recorded with all it has counted, before its mapping's end; a mapping's
//! beginning before that of its first session. So a reader can pair them without a look back.

use std::net::Ipv4Addr;

use crate::Nanos;
use crate::engine::Nat;
use crate::mapping::Mapping;
use crate::rewrite::Protocol;
use crate::session::{Session, SessionView};

/// Records one engine keeps until they are taken: at the 100,000 new flows a second that one
/// worker sets up at most, and two records each, those of 80 ms; 2 MiB.
pub const EVENTS_MAX: usize = 16_384;

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, by the clock of the packets. An end that no packet or timer brought about (a flush, a
    /// session that makes room for another) is dated to the last time something expired: a tick
    /// ago, if the owner calls [`Nat::expire`] at each.
    pub at: Nanos,
    /// What.
    pub what: What,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An inside endpoint was given an external one.
    MappingNew(MappingView),
    /// An external endpoint came free.
    MappingEnd(MappingView),
    /// A session was opened.
    SessionNew(SessionView),
    /// A session's TCP state changed, or the other side answered for the first time.
    SessionUpdate(SessionView),
    /// A session ended.
    SessionEnd(SessionView),
}

/// A mapping as shown to people. It has no destination, and so a log of mappings tells nothing
/// about whom an inside host talks to (RFC 6888 REQ-12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingView {
    /// Protocol.
    pub protocol: Protocol,
    /// Address and port (query identifier) of the inside host.
    pub inside: (Ipv4Addr, u16),
    /// Address and port (query identifier) that the outside sees.
    pub external: (Ipv4Addr, u16),
}

/// What an update is recorded for when it changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Phase {
    state: &'static str,
    replied: bool,
}

impl Phase {
    fn of(session: &Session) -> Self {
        Self {
            state: session.state_name(),
            replied: session.replied,
        }
    }
}

/// An engine's records.
pub(crate) struct Events {
    /// `None` while nothing is recorded.
    records: Option<Vec<Event>>,
    lost: u64,
    now: Nanos,
}

impl Events {
    pub(crate) const fn new() -> Self {
        Self {
            records: None,
            lost: 0,
            now: Nanos::ZERO,
        }
    }

    /// Notes the time of ends that are recorded next.
    pub(crate) fn set_now(&mut self, now: Nanos) {
        self.now = now;
    }

    /// One that records if this one does, and has nothing yet.
    pub(crate) fn twin(&self) -> Self {
        Self {
            records: self.records.is_some().then(Vec::new),
            lost: 0,
            now: self.now,
        }
    }

    const fn is_on(&self) -> bool {
        self.records.is_some()
    }

    #[cold]
    fn record(&mut self, at: Nanos, what: What) {
        let Some(records) = &mut self.records else {
            return;
        };
        if records.len() < EVENTS_MAX {
            records.push(Event { at, what });
        } else {
            self.lost += 1;
        }
    }
}

fn buffer() -> Vec<Event> {
    Vec::with_capacity(EVENTS_MAX)
}

impl Nat {
    /// Begins to record events, or stops; the buffer of [`EVENTS_MAX`] records is taken, or given
    /// back with all in it, here. Nothing changes if it is so already.
    pub fn record_events(&mut self, on: bool) {
        if self.events.is_on() != on {
            self.events.records = on.then(buffer);
            self.events.lost = 0;
        }
    }

    /// Appends the records made since the last call to `into`, oldest first, and returns how many
    /// more there were no room for. Does not allocate if `into` has room for [`EVENTS_MAX`].
    pub fn take_events(&mut self, into: &mut Vec<Event>) -> u64 {
        if let Some(records) = &mut self.events.records {
            into.append(records);
        }
        std::mem::take(&mut self.events.lost)
    }

    /// How many records wait to be taken, at most [`EVENTS_MAX`].
    #[must_use]
    #[inline]
    pub fn events_waiting(&self) -> usize {
        self.events.records.as_ref().map_or(0, Vec::len)
    }

    /// Records that a session was opened, and its mapping if it is the first there.
    #[inline]
    pub(crate) fn note_open(&mut self, id: u32) {
        if self.events.is_on() {
            self.note_new(id);
        }
    }

    #[cold]
    fn note_new(&mut self, id: u32) {
        if let Some(view) = self.sessions.get(id).map(Session::view) {
            self.events.now = view.created;
            self.events.record(view.created, What::SessionNew(view));
        }
    }

    /// Records that a mapping was made.
    #[inline]
    pub(crate) fn note_mapped(&mut self, mapping: u32) {
        if self.events.is_on()
            && let Some(mapping) = self.mappings.get(mapping)
        {
            let view = MappingView::from(mapping);
            let at = self.mappings.now();
            self.events.record(at, What::MappingNew(view));
        }
    }

    /// Records that a mapping ends.
    #[inline]
    pub(crate) fn note_unmapped(&mut self, mapping: u32) {
        if self.events.is_on()
            && let Some(mapping) = self.mappings.get(mapping)
        {
            let at = self.events.now;
            self.events.record(at, What::MappingEnd(mapping.into()));
        }
    }

    /// What a session looks like before a packet is counted into it; `None` while nothing is
    /// recorded.
    #[inline]
    pub(crate) fn phase(&self, id: u32) -> Option<Phase> {
        if !self.events.is_on() {
            return None;
        }
        self.sessions.get(id).map(Phase::of)
    }

    /// Records an update if the session no longer looks as it did.
    #[inline]
    pub(crate) fn note_update(&mut self, id: u32, before: Option<Phase>, now: Nanos) {
        if let Some(before) = before {
            self.note_change(id, before, now);
        }
    }

    #[cold]
    fn note_change(&mut self, id: u32, before: Phase, now: Nanos) {
        self.events.now = now;
        if let Some(session) = self.sessions.get(id)
            && Phase::of(session) != before
        {
            let view = session.view();
            self.events.record(now, What::SessionUpdate(view));
        }
    }

    /// Records that a session ended, which is out of its table already.
    #[inline]
    pub(crate) fn note_end(&mut self, session: &Session) {
        if self.events.is_on() {
            self.note_gone(session);
        }
    }

    #[cold]
    fn note_gone(&mut self, session: &Session) {
        let view = session.view();
        let at = self.events.now.max(view.created);
        self.events.record(at, What::SessionEnd(view));
    }
}

impl From<&Mapping> for MappingView {
    fn from(mapping: &Mapping) -> Self {
        Self {
            protocol: mapping.protocol,
            inside: mapping.inside,
            external: mapping.external,
        }
    }
}

#[cfg(test)]
mod tests;
