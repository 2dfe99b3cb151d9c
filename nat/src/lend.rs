//! Sessions that somebody else may carry: the kernel, say, who repeats what was decided.
//!
//! # Theory of operation
//! Packets of an established TCP connection all fare alike until one has SYN, FIN or RST. So every
//! [`EVERY`]th of them, where lending is on, is told of as [`Steady`]; whoever wants to carry those
//! that follow says so ([`Nat::lend`]), tells from time to time what came of it
//! ([`Nat::carried`]), and stops as soon as the session is recalled ([`Nat::recalled`]): it ended,
//! or a packet came that changes its state. Those that are carried elsewhere are not seen here, so
//! a session is never lent whose idle time is short.
//!
//! Sessions with a helper are not lent: it reads every packet.

use std::net::Ipv4Addr;

use crate::Nanos;
use crate::connection::Connection;
use crate::engine::Nat;
use crate::outcome::Direction;
use crate::session::{Session, Side, Traffic};
use crate::tcp::{Segment, State};

/// Packets of one direction from one that is told of to the next: a power of two. What is shorter
/// is over before it would be worth while.
const EVERY: u64 = 16;

/// A session that dies sooner for want of packets is not lent.
const IDLE_MIN: Nanos = Nanos(10_000_000_000);

/// Names a session until 65,536 others have been in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    slot: u32,
    serial: u16,
}

/// One direction of a session that may be lent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steady {
    /// The session.
    pub session: SessionId,
    /// [`Direction::Outbound`] or [`Direction::Inbound`].
    pub direction: Direction,
    /// Address and port of the inside host.
    pub inside: (Ipv4Addr, u16),
    /// Address and port that the outside sees.
    pub external: (Ipv4Addr, u16),
    /// Address and port of the other end.
    pub remote: (Ipv4Addr, u16),
}

/// What is lent, or may be.
#[derive(Clone, Debug)]
pub(crate) struct Lending {
    /// Has a bit that is set in a count of packets, unless that is one that is told of.
    pub(crate) mask: u64,
    steady: Option<Steady>,
    recalled: Vec<SessionId>,
}

impl Lending {
    /// Nothing is lent.
    pub(crate) const OFF: Self = Self {
        mask: u64::MAX,
        steady: None,
        recalled: Vec::new(),
    };
}

/// What lending has to do with a packet.
#[derive(Clone, Copy)]
pub(crate) enum Lent {
    /// It is one of those that are told of.
    Told,
    /// It changes a session that is lent.
    Recalled,
}

impl Lent {
    /// A packet that has been counted into its session.
    #[inline]
    pub(crate) fn of(
        session: &Session,
        packets: u64,
        mask: u64,
        segment: Option<Segment>,
    ) -> Option<Self> {
        if session.lent && segment != Some(Segment::Ack) {
            Some(Self::Recalled)
        } else {
            (packets & mask == 0).then_some(Self::Told)
        }
    }
}

impl Nat {
    /// Begins or ends to tell of sessions that may be lent; what is lent stays so.
    pub fn set_lending(&mut self, on: bool) {
        self.lending.mask = if on { EVERY - 1 } else { u64::MAX };
        self.lending.steady = None;
    }

    /// Returns what may be lent of the session whose packet was translated last, if that is one to
    /// be told of.
    #[inline]
    pub fn take_steady(&mut self) -> Option<Steady> {
        self.lending.steady.take()
    }

    /// Lends a session, if it is still what it was; returns whether it is.
    pub fn lend(&mut self, steady: &Steady) -> bool {
        let found = self.named(steady.session);
        let lendable = found.is_some_and(|session| self.is_lendable(session));
        if let (true, Some(session)) = (lendable, self.sessions.get_mut(steady.session.slot)) {
            session.lent = true;
        }
        lendable
    }

    /// Returns the next session that must not be carried elsewhere any more; ask until there is
    /// none after each batch of packets, and after sessions were ended in another way.
    pub fn recalled(&mut self) -> Option<SessionId> {
        self.lending.recalled.pop()
    }

    /// Returns whether [`Nat::recalled`] has one.
    #[must_use]
    #[inline]
    pub fn has_recalled(&self) -> bool {
        !self.lending.recalled.is_empty()
    }

    /// Counts packets that were carried elsewhere up to `now`, which keep their session alive.
    pub fn carried(
        &mut self,
        session: SessionId,
        direction: Direction,
        traffic: Traffic,
        now: Nanos,
    ) {
        let translated = match direction {
            Direction::Outbound => &mut self.counters.translated_outbound,
            Direction::Inbound | Direction::Hairpin => &mut self.counters.translated_inbound,
        };
        *translated += traffic.packets;
        if self
            .named(session)
            .is_none_or(|found| found.deadline <= now)
        {
            return;
        }
        let timeouts = &self.config.timeouts;
        let prolonged = self.sessions.update(session.slot, |session| {
            let own = match direction {
                Direction::Outbound => &mut session.outbound,
                Direction::Inbound | Direction::Hairpin => &mut session.inbound,
            };
            own.packets += traffic.packets;
            own.bytes += traffic.bytes;
            let deadline = now + session.timeout(timeouts);
            session.deadline = session.deadline.max(deadline);
            (session.mapping, session.deadline)
        });
        if let Some((mapping, deadline)) = prolonged {
            self.mappings.prolong(mapping, deadline);
        }
    }

    /// Takes note of a packet that lending has to do with.
    #[cold]
    #[inline(never)]
    pub(crate) fn note_lent(&mut self, id: u32, from: Side, lent: Lent) {
        match lent {
            Lent::Recalled => self.recall(id),
            Lent::Told => {
                let session = self.sessions.get(id);
                let lendable = session.filter(|session| self.is_lendable(session));
                self.lending.steady = lendable.map(|session| Steady {
                    session: session_id(id, session),
                    direction: match from {
                        Side::Inside => Direction::Outbound,
                        Side::Outside => Direction::Inbound,
                    },
                    inside: session.inside(),
                    external: session.external(),
                    remote: session.remote,
                });
            }
        }
    }

    /// Asks for a session back.
    fn recall(&mut self, id: u32) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.lent = false;
            let session = session_id(id, session);
            self.lending.recalled.push(session);
        }
    }

    /// Asks for a session back that has ended.
    #[inline]
    pub(crate) fn recall_ended(&mut self, id: u32, session: &Session) {
        if session.lent {
            self.lending.recalled.push(session_id(id, session));
        }
    }

    fn named(&self, id: SessionId) -> Option<&Session> {
        let found = self.sessions.get(id.slot);
        found.filter(|session| session.serial == id.serial)
    }

    fn is_lendable(&self, session: &Session) -> bool {
        let is_established = matches!(
            session.connection,
            Connection::Tcp(tracker) if tracker.state() == State::Established
        );
        is_established
            && session.replied
            && !session.provisional
            && session.timeout(&self.config.timeouts) >= IDLE_MIN
            && !self.reads_all_of(session)
    }
}

fn session_id(slot: u32, session: &Session) -> SessionId {
    SessionId {
        slot,
        serial: session.serial,
    }
}
