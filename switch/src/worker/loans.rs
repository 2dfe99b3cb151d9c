//! What a worker has lent to the kernel: the fast path's books.
//!
//! # Theory of operation
//! The gateway offers a direction of a session every so many packets (`gateway::offer`). After the
//! batch the worker lends it to the kernel ([`port::fastpath`](crate::port::fastpath)). At ticks it
//! looks at what is lent: where the kernel has carried something, and the same would be offered
//! again, it renews the lease: were that left to the frames that come up when a lease ends, each of
//! them might have to wait for its turn on a busy processor.
//!
//! ```text
//! live     --recalled, offered otherwise, holds no longer, or all are stopped--> stopped
//! live     --not renewed for two leases, since nothing came--------------------> stopped
//! stopped  --a moment later, when no program can have it in its hands----------> given back
//! ```
//!
//! All are stopped when the view changes, since nobody knows what a new one makes of them, and
//! while somebody looks on: who traces or records sees every frame.
//!
//! What the kernel has carried is a difference of counts, taken at ticks and added to the counters
//! of ports, worker and session as if the frames had been routed here.

use std::collections::HashMap;
use std::sync::Arc;

use nat::{Direction, Nanos, Nat, SessionId, Traffic};

use crate::counters::WorkerCounters;
use crate::ethernet::HEADER_BYTES;
use crate::gateway::{Context, Offer, still_holds};
use crate::port::FastPath;
use crate::port::fastpath::{Carried, LEASE, Place, REST};
use crate::port::sys::usdt;

use super::Worker;

/// Loans that one tick looks at.
const LOOKS: usize = 2048;

/// A direction of a session.
type Key = (SessionId, Direction);

/// What is lent, and what was until a moment ago.
pub(super) struct Loans {
    path: Arc<FastPath>,
    loans: Vec<Loan>,
    /// The places of those that are live.
    live: HashMap<Key, usize>,
    /// Where the next tick begins to look.
    next: usize,
}

struct Loan {
    offer: Offer,
    place: Place,
    /// What is in the counters.
    counted: Carried,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Renewed then.
    Live(Nanos),
    /// Stopped then.
    Stopped(Nanos),
}

const fn key(offer: &Offer) -> Key {
    (offer.steady.session, offer.steady.direction)
}

impl Loans {
    pub(super) fn new(path: Arc<FastPath>) -> Self {
        Self {
            path,
            loans: Vec::new(),
            live: HashMap::new(),
            next: 0,
        }
    }

    /// Takes up an offer.
    fn take_up(&mut self, offer: Offer, nat: &mut Nat, now: Nanos) {
        let present = self.live.get(&key(&offer)).copied();
        if let Some(loan) = present.and_then(|place| self.loans.get_mut(place)) {
            if loan.offer.shortcut == offer.shortcut && self.path.renew(&loan.place, now) {
                loan.state = State::Live(now);
                return;
            }
            self.stop(key(&offer), now);
        }
        // A session that is lent stays so, if it is only for another way or another time.
        if !nat.lend(&offer.steady) {
            return;
        }
        if let Some(place) = self.path.lend(&offer.shortcut, now) {
            self.live.insert(key(&offer), self.loans.len());
            self.loans.push(Loan {
                offer,
                place,
                counted: Carried::default(),
                state: State::Live(now),
            });
        }
    }

    fn stop(&mut self, key: Key, now: Nanos) {
        let place = self.live.remove(&key);
        if let Some(loan) = place.and_then(|place| self.loans.get_mut(place)) {
            self.path.stop(&loan.place);
            loan.state = State::Stopped(now);
        }
    }

    fn stop_all(&mut self, now: Nanos) {
        for (_, place) in self.live.drain() {
            if let Some(loan) = self.loans.get_mut(place) {
                self.path.stop(&loan.place);
                loan.state = State::Stopped(now);
            }
        }
    }

    /// Counts what the kernel has carried by now of so many loans, renews those that hold and stops
    /// the others, and gives back those that were stopped long ago.
    fn look(&mut self, ctx: &mut Context<'_>, counters: &WorkerCounters, looks: usize) {
        let now = ctx.now;
        for _ in 0..looks.min(self.loans.len()) {
            if self.next >= self.loans.len() {
                self.next = 0;
            }
            let place = self.next;
            let Some(loan) = self.loans.get_mut(place) else {
                return;
            };
            let is_busy = loan.count(&self.path, ctx, counters);
            match loan.state {
                State::Live(since) => {
                    let (key, is_old) =
                        (key(&loan.offer), now.saturating_sub(since) >= LEASE + LEASE);
                    let renewed = is_busy
                        && still_holds(ctx, &loan.offer)
                        && self.path.renew(&loan.place, now);
                    if renewed {
                        loan.state = State::Live(now);
                    } else if is_busy || is_old {
                        self.stop(key, now);
                    }
                    self.next += 1;
                }
                State::Stopped(since) if now.saturating_sub(since) >= REST => {
                    self.give_back(place, now);
                }
                State::Stopped(_) => self.next += 1,
            }
        }
    }

    fn give_back(&mut self, place: usize, now: Nanos) {
        let loan = self.loans.swap_remove(place);
        if let Some(moved) = self.loans.get(place)
            && let Some(known) = self.live.get_mut(&key(&moved.offer))
            && *known == self.loans.len()
        {
            *known = place;
        }
        self.path.give_back(loan.place, now);
    }
}

impl Loan {
    /// Counts what came since the last time; false if that is nothing.
    fn count(&mut self, path: &FastPath, ctx: &mut Context<'_>, counters: &WorkerCounters) -> bool {
        let carried = path.carried(&self.place);
        let frames = carried.frames.saturating_sub(self.counted.frames);
        let bytes = carried.bytes.saturating_sub(self.counted.bytes);
        if frames == 0 {
            return false;
        }
        self.counted = carried;
        let (ingress, egress) = (
            counters.port(self.offer.ingress),
            counters.port(self.offer.egress),
        );
        let totals = &counters.totals;
        for counter in [
            &totals.received,
            &totals.routed,
            &totals.copies,
            &totals.sent,
            &totals.carried,
            &ingress.received_frames,
            &egress.sent_frames,
        ] {
            counter.add(frames);
        }
        ingress.received_bytes.add(bytes);
        egress.sent_bytes.add(bytes);
        let traffic = Traffic {
            packets: frames,
            bytes: bytes.saturating_sub(frames * HEADER_BYTES as u64),
        };
        let steady = &self.offer.steady;
        if let Some(nat) = &mut ctx.nat {
            nat.carried(steady.session, steady.direction, traffic, ctx.now);
        }
        true
    }
}

impl Worker {
    /// Takes back what is recalled, and lends or renews what was offered in a batch.
    #[inline]
    pub(super) fn tend_loans(&mut self, now: Nanos) {
        let recalled = self.engine.nat.as_ref().is_some_and(Nat::has_recalled);
        if recalled || !self.engine.offers.list.is_empty() {
            self.tend_all_loans(now);
        }
    }

    #[cold]
    #[inline(never)]
    fn tend_all_loans(&mut self, now: Nanos) {
        let (Some(loans), Some(nat)) = (&mut self.loans, &mut self.engine.nat) else {
            return;
        };
        while let Some(session) = nat.recalled() {
            for direction in [Direction::Outbound, Direction::Inbound] {
                loans.stop((session, direction), now);
            }
        }
        for offer in self.engine.offers.list.drain(..) {
            loans.take_up(offer, nat, now);
        }
    }

    /// Stops all that is lent.
    pub(super) fn stop_loans(&mut self, now: Nanos) {
        if let Some(loans) = &mut self.loans {
            loans.stop_all(now);
        }
        self.engine.offers.list.clear();
        self.count_loans(usize::MAX, now);
    }

    /// What is due at a tick: nothing is lent while somebody looks on, and what was carried is
    /// counted.
    pub(super) fn tick_loans(&mut self, now: Nanos) {
        if self.loans.is_none() {
            return;
        }
        let is_watched =
            self.engine.recorder.is_some() || self.journal.is_some() || usdt::wants_frames();
        let wanted = !is_watched && self.engine.nat.is_some();
        if self.engine.offers.wanted != wanted {
            self.engine.offers.wanted = wanted;
            if let Some(nat) = &mut self.engine.nat {
                nat.set_lending(wanted);
            }
            self.stop_loans(now);
        }
        self.tend_loans(now);
        self.count_loans(LOOKS, now);
    }

    fn count_loans(&mut self, looks: usize, now: Nanos) {
        let counters = &self.shared.counters[usize::from(self.index)];
        if let Some(loans) = self.loans.as_mut().filter(|loans| !loans.loans.is_empty()) {
            let (shared, view) = (&self.shared, &self.view);
            self.engine.with_context(shared, view, now, |ctx| {
                loans.look(ctx, counters, looks);
            });
        }
    }

    /// True while more is lent than the ticks of an idle worker can look at in time.
    pub(super) fn has_many_loans(&self) -> bool {
        let loans = self.loans.as_ref();
        loans.is_some_and(|loans| loans.loans.len() > LOOKS)
    }
}

#[cfg(test)]
mod tests;
