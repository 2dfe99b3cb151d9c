//! What a packet does to the session it belongs to.

use crate::Nanos;
use crate::connection::Connection;
use crate::engine::Nat;
use crate::flow::Flow;
use crate::other;
use crate::outcome::Reason;
use crate::quota::Phase;
use crate::rewrite::{Protocol, Rewrite};
use crate::session::{NO_MAPPING, Session, Side};
use crate::strangers::Kind;
use crate::tcp::{Role, Segment, Step, Tracker};

impl Nat {
    /// Removes a session that was found but has idled out: time is up to the nanosecond, not to
    /// the wheel's tick.
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
    /// edit to be made.
    #[inline]
    pub(crate) fn carry(
        &mut self,
        id: u32,
        from: Side,
        flow: Option<Flow>,
        bytes: usize,
        now: Nanos,
    ) -> Result<(u32, Rewrite), Reason> {
        let may_open = match flow.and_then(|flow| flow.segment) {
            Some(Segment::Syn) => self.may_reopen(id, from),
            _ => Ok(()),
        };
        let config = &self.config;
        let before = self.phase(id);
        let carried = self.sessions.update(id, |session| {
            let (old_phase, old_deadline) = (Phase::of(session), session.deadline);
            let origin = session.origin;
            let mut refresh = match session.protocol {
                Protocol::Tcp | Protocol::Sctp => {
                    from == Side::Inside || session.inside_has_spoken()
                }
                // A published port is not held by who sends to it: it is open anyway.
                Protocol::Udp if session.mapping == NO_MAPPING => true,
                Protocol::Udp => from == Side::Inside || config.inbound_refresh,
                Protocol::Icmp | Protocol::Other(_) => from == Side::Inside,
            };
            if let Some(segment) = flow.and_then(|flow| flow.segment) {
                refresh &= advance(session, from, segment, may_open)?;
            }
            if let Some(event) = flow.and_then(|flow| flow.event) {
                refresh &= other::advance(session, from, event)?;
            }
            session.replied |= session.role(from) == Role::Responder;
            let change = Change::of(session, origin, from);
            if refresh {
                let deadline = now + session.timeout(&config.timeouts);
                // A RST shortens and never prolongs: an inside host's answer to strangers must not
                // hold the mapping for them (RFC 7857 section 7.1).
                session.deadline = match flow.and_then(|flow| flow.segment) {
                    Some(Segment::Rst) => deadline.min(old_deadline),
                    _ => deadline,
                };
            }
            let (rewrite, traffic) = match from {
                Side::Inside => (session.out, &mut session.outbound),
                Side::Outside => (session.back, &mut session.inbound),
            };
            traffic.add(bytes);
            // The mapping's deadline is read with a second's slack, so it is written once a
            // second and not once a packet.
            let prolong = session.deadline.as_secs() != old_deadline.as_secs();
            let prolong = prolong.then_some((session.mapping, session.deadline));
            let phase = Phase::of(session);
            let moved = (phase != old_phase).then_some((session.parent(), old_phase, phase));
            Ok((rewrite, prolong, moved, change))
        });
        let carried = carried.unwrap_or(Err(Reason::Unsolicited));
        let carried = carried.inspect_err(|&reason| self.count_quota(reason));
        let (rewrite, prolong, moved, change) = carried?;
        match change {
            Change::None => {}
            Change::Settled(kind) => self.strangers.settled(&mut self.links, id, kind),
            Change::TurnedInside(kind) => self.strangers.ended(&mut self.links, id, kind),
        }
        if let Some((mapping, deadline)) = prolong {
            self.mappings.prolong(mapping, deadline);
        }
        if let Some((parent, from, to)) = moved {
            self.move_session(id, parent, from, to);
        }
        self.note_update(id, before, now);
        Ok((id, rewrite))
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
