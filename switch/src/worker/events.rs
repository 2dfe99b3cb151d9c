//! A worker's NAT events on their way to whoever wants them.
//!
//! The engine records into a buffer of its own (see [`nat::Event`]); the worker collects that at
//! each tick, and after a batch that left it half full, and sends the portion through a bounded
//! channel. A full channel costs the portion and never the worker's time: what is lost is counted
//! and told with the next portion that gets through.

use crossbeam_channel::{Sender, TrySendError};
use nat::{EVENTS_MAX, Event, Nanos, Nat};

use super::Worker;

/// NAT events of one worker, oldest first.
#[derive(Debug, Clone)]
pub struct NatEvents {
    /// The worker.
    pub worker: u16,
    /// The worker's time, to which the events' times relate.
    pub now: Nanos,
    /// What happened.
    pub events: Vec<Event>,
    /// How many more events there were no room for since the portion before.
    pub lost: u64,
}

/// Where a worker sends its events.
pub(super) struct EventTap {
    to: Sender<NatEvents>,
    /// Events there was no room for, not told yet.
    lost: u64,
}

impl Worker {
    /// Sends events there from now on, or records none any more.
    pub(super) fn tap_events(&mut self, to: Option<Sender<NatEvents>>) {
        if let Some(nat) = &mut self.engine.nat {
            nat.record_events(to.is_some());
        }
        self.event_tap = to.map(|to| EventTap { to, lost: 0 });
    }

    /// True while events wait to be sent.
    pub(super) fn has_events(&self) -> bool {
        self.engine.nat.as_ref().map_or(0, Nat::events_waiting) > 0
    }

    /// Sends the events if so many wait that more batches could be too many.
    pub(super) fn send_events_early(&mut self, now: Nanos) {
        if self.engine.nat.as_ref().map_or(0, Nat::events_waiting) >= EVENTS_MAX / 2 {
            self.send_events(now);
        }
    }

    /// Sends the events recorded since the last call.
    pub(super) fn send_events(&mut self, now: Nanos) {
        let (Some(tap), Some(nat)) = (&mut self.event_tap, &mut self.engine.nat) else {
            return;
        };
        if nat.events_waiting() == 0 && tap.lost == 0 {
            return;
        }
        if tap.to.is_full() {
            // Not taken out, so that what still fits waits there for the next tick.
            return;
        }
        let mut events = Vec::with_capacity(nat.events_waiting());
        let lost = tap.lost + nat.take_events(&mut events);
        tap.lost = 0;
        let portion = NatEvents {
            worker: self.index,
            now,
            events,
            lost,
        };
        match tap.to.try_send(portion) {
            Ok(()) => {}
            Err(TrySendError::Full(portion)) => {
                tap.lost = portion.lost + portion.events.len() as u64;
            }
            // Nobody listens any more, so nothing need be recorded.
            Err(TrySendError::Disconnected(_)) => self.tap_events(None),
        }
    }
}
