//! What a packet does to the session it belongs to.

use crate::Nanos;
use crate::admission::Shut;
use crate::connection::Connection;
use crate::engine::Nat;
use crate::flow::Flow;
use crate::lend::Lent;
use crate::other;
use crate::outcome::Reason;
use crate::quota::{Phase, Standing};
use crate::rewrite::{Protocol, Rewrite};
use crate::session::{NO_MAPPING, Session, Side};
use crate::strangers::Kind;
use crate::tcp::{Role, Segment, Step, Tracker};

impl Nat {
    /// Removes a session that was found but has idled out: time is up to the nanosecond, not to
    /// the wheel's tick.
    #[inline]
    pub(crate) fn alive(&mut self, found: Option<u32>, now: Nanos) -> Option<u32> {
        let id = found?;
        if self
            .sessions
            .get(id)
            .is_some_and(|session| session.deadline > now)
        {
            return Some(id);
        }
        self.mappings.tick(now);
        self.events.set_now(now);
        self.remove(id);
        None
    }

    /// Counts a packet into its session, moves the session's state and timer, and returns the
    /// edit to be made. A packet that has opened the session (`flow` is `None`) moves no state.
    #[inline]
    pub(crate) fn carry(
        &mut self,
        id: u32,
        from: Side,
        flow: Option<&Flow>,
        bytes: usize,
        now: Nanos,
    ) -> Result<Rewrite, Reason> {
        let segment = flow.and_then(|flow| flow.segment);
        let may_open = match segment {
            Some(Segment::Syn) => self.may_reopen(id, from, now),
            _ => Ok(()),
        };
        let config = &self.config;
        let lend_mask = self.lending.mask;
        let was = self.phase(id);
        let carried = self.sessions.update(id, |session| {
            let (before, old_deadline) = (Standing::of(session), session.deadline);
            let mut refresh = match session.protocol {
                Protocol::Tcp | Protocol::Sctp => {
                    from == Side::Inside || session.inside_has_spoken()
                }
                // A published port is not held by who sends to it: it is open anyway.
                Protocol::Udp if session.mapping == NO_MAPPING => true,
                Protocol::Udp => from == Side::Inside || config.inbound_refresh,
                Protocol::Icmp | Protocol::Other(_) => from == Side::Inside,
            };
            if let Some(segment) = segment {
                refresh &= advance(session, from, segment, may_open.map_err(Shut::reason))?;
            }
            if let Some(event) = flow.and_then(|flow| flow.event) {
                refresh &= other::advance(session, from, event)?;
            }
            session.replied |= session.role(from) == Role::Responder;
            let change = Change::of(session, before.origin, from);
            if refresh {
                let deadline = now + session.timeout(&config.timeouts);
                // A RST shortens and never prolongs: an inside host's answer to strangers must not
                // hold the mapping for them (RFC 7857 section 7.1).
                session.deadline = match segment {
                    Some(Segment::Rst) => deadline.min(old_deadline),
                    _ => deadline,
                };
            }
            let (rewrite, traffic) = match from {
                Side::Inside => (session.out, &mut session.outbound),
                Side::Outside => (session.back, &mut session.inbound),
            };
            traffic.add(bytes);
            let packets = traffic.packets;
            let lent = Lent::of(session, packets, lend_mask, segment);
            // The mapping's deadline is read with a second's slack, so it is written once a
            // second and not once a packet.
            let prolong = session.deadline.as_secs() != old_deadline.as_secs();
            let moved = !matches!(change, Change::None)
                || segment.is_some() && before != Standing::of(session);
            Ok((rewrite, (prolong, lent), moved.then_some((before, change))))
        });
        let carried = carried.unwrap_or(Err(Reason::Unsolicited));
        let (rewrite, (prolong, lent), moved) = carried.inspect_err(|&reason| {
            if let Err(shut) = may_open
                && shut.reason() == reason
            {
                self.count_shut(shut);
            }
        })?;
        if prolong && let Some(session) = self.sessions.get(id) {
            self.mappings.prolong(session.mapping, session.deadline);
        }
        if let Some((before, change)) = moved {
            self.follow_up(id, before, change);
        }
        self.note_update(id, was, now);
        if let Some(lent) = lent {
            self.note_lent(id, from, lent);
        }
        Ok(rewrite)
    }

    /// Counts the packet into its session that has just opened it from inside, and returns the edit
    /// to be made: state and timer are as that packet has them already.
    pub(crate) fn carry_first(&mut self, id: u32, bytes: usize) -> Result<Rewrite, Reason> {
        let session = self.sessions.get_mut(id).ok_or(Reason::Unsolicited)?;
        session.outbound.add(bytes);
        Ok(session.out)
    }

    /// Files a session anew whose standing is no longer what it was.
    #[inline(never)]
    fn follow_up(&mut self, id: u32, before: Standing, change: Change) {
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        let (parent, phase) = (session.parent(), Phase::of(session));
        match change {
            Change::None => {}
            Change::Settled(kind) => self.strangers.settled(&mut self.links, id, kind),
            Change::TurnedInside(kind) => self.strangers.ended(&mut self.links, id, kind),
        }
        self.move_session(id, parent, before.phase(), phase);
    }
}

/// What a packet makes of a session that was opened from outside.
enum Change {
    None,
    /// Both sides want it: it is provisional no longer.
    Settled(Kind),
    /// The inside has opened it anew: it is not an outsider's any longer.
    TurnedInside(Option<Kind>),
}

impl Change {
    fn of(session: &mut Session, old_origin: Side, from: Side) -> Self {
        let kind = Kind::of_provisional(session);
        if session.origin != old_origin {
            session.provisional = false;
            return Self::TurnedInside(kind);
        }
        match kind {
            Some(kind) if session.settles(from) => {
                session.provisional = false;
                Self::Settled(kind)
            }
            Some(_) | None => Self::None,
        }
    }
}

/// Moves a session's TCP state; returns whether the segment may refresh the session.
fn advance(
    session: &mut Session,
    from: Side,
    segment: Segment,
    may_open: Result<(), Reason>,
) -> Result<bool, Reason> {
    let role = session.role(from);
    let Connection::Tcp(tracker) = &mut session.connection else {
        return Ok(true);
    };
    let before = tracker.state();
    match tracker.step(segment, role) {
        Step::Pass => {
            // Repeating a RST must not hold the port.
            Ok(segment != Segment::Rst || tracker.state() != before)
        }
        Step::Invalid => Err(Reason::TcpOutOfState),
        Step::Reopen if role == Role::Responder && from == Side::Outside => {
            Err(Reason::Unsolicited)
        }
        Step::Reopen => {
            may_open?;
            session.connection = Tracker::open(segment).map_or(Connection::None, Connection::Tcp);
            session.origin = from;
            session.replied = false;
            Ok(true)
        }
    }
}
