//! Which packets may open a session, and what a session takes and gives back.

use crate::Nanos;
use crate::config::Filtering;
use crate::engine::Nat;
use crate::flow::Flow;
use crate::outcome::{Direction, Reason};
use crate::rewrite::{Protocol, Rewrite};
use crate::sctp::{self, What};
use crate::session::{Endpoint, Session, Side, Traffic};
use crate::tcp::{Segment, Tracker};

impl Nat {
    /// Opens a session for a packet from inside, under the mapping of its sender.
    pub(crate) fn open_outbound(
        &mut self,
        flow: Flow,
        inside: Endpoint,
        remote: Endpoint,
        now: Nanos,
    ) -> Result<u32, Reason> {
        let tracker = match flow.segment {
            None => None,
            Some(segment) => Some(Tracker::open(segment).ok_or(Reason::TcpOutOfState)?),
        };
        self.admit_by_address(flow)?;
        self.check_room(tracker)?;
        let mapping = self.mapping_for(flow.protocol, inside)?;
        self.open(Side::Inside, mapping, flow, remote, now)
    }

    /// Returns the mapping of an inside endpoint; a new one has no session yet.
    pub(crate) fn mapping_for(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
    ) -> Result<u32, Reason> {
        if let Some(id) = self.mappings.find_inside(protocol, inside) {
            return Ok(id);
        }
        let created = self.mappings.create(protocol, inside);
        let id = created.ok_or(match protocol {
            Protocol::Sctp => Reason::ProtocolBusy,
            Protocol::Tcp | Protocol::Udp | Protocol::Icmp | Protocol::Other(_) => {
                Reason::PortsExhausted
            }
        })?;
        self.counters.mappings_created += 1;
        let kept = self
            .mappings
            .get(id)
            .is_some_and(|mapping| mapping.port == inside.1);
        self.counters.ports_preserved += u64::from(kept);
        Ok(id)
    }

    /// Opens a session for a packet from outside, if there is a mapping and the filtering lets
    /// the sender in.
    pub(crate) fn open_inbound(
        &mut self,
        flow: Flow,
        remote: Endpoint,
        direction: Direction,
        now: Nanos,
    ) -> Result<u32, Reason> {
        let mapping = self
            .mappings
            .find_external(flow.protocol, flow.dst_port)
            .filter(|&id| {
                self.mappings
                    .get(id)
                    .is_some_and(|mapping| mapping.deadline > now)
            })
            .ok_or(Reason::Unsolicited)?;
        let filtering = match flow.protocol {
            Protocol::Tcp => self.config.tcp_filtering,
            Protocol::Udp => self.config.udp_filtering,
            // Of strangers only those whose port is published.
            Protocol::Sctp => Filtering::Apdf,
            // A reply answers a request or nothing.
            Protocol::Icmp | Protocol::Other(_) => return Err(Reason::Unsolicited),
        };
        let admitted = direction == Direction::Hairpin
            || match filtering {
                Filtering::Apdf => false,
                Filtering::Adf => self
                    .peers
                    .as_ref()
                    .is_some_and(|peers| peers.contains(mapping, remote.0)),
                Filtering::Eif => true,
            };
        let expected = !admitted && self.is_expected(mapping, remote, now);
        // From outside only a SYN begins a TCP session, and only an INIT an association.
        let begins = flow.segment.is_none_or(|segment| segment == Segment::Syn)
            && flow.event.is_none_or(|event| event.what == What::Init);
        if !(admitted || expected) || !begins {
            return Err(Reason::Unsolicited);
        }
        self.check_room(flow.segment.and_then(Tracker::open))?;
        let id = self.open(Side::Outside, mapping, flow, remote, now)?;
        if expected {
            self.fulfil(mapping, remote);
        }
        Ok(id)
    }

    /// Checks the limits that a new session counts against; live ones are never evicted.
    fn check_room(&self, tracker: Option<Tracker>) -> Result<(), Reason> {
        if self.sessions.is_full() {
            return Err(Reason::SessionsExhausted);
        }
        let half_open = tracker.is_some_and(|tracker| tracker.state().is_half_open());
        if half_open && self.sessions.half_open() >= self.config.half_open_max {
            return Err(Reason::HalfOpenFull);
        }
        Ok(())
    }

    /// Compiles and stores a session under a mapping; on failure an unused mapping goes.
    fn open(
        &mut self,
        origin: Side,
        mapping: u32,
        flow: Flow,
        remote: Endpoint,
        now: Nanos,
    ) -> Result<u32, Reason> {
        let Some(parent) = self.mappings.get(mapping) else {
            return Err(Reason::Unsolicited);
        };
        let (inside, external) = (parent.inside, (self.config.external, parent.port));
        let parent_deadline = parent.deadline;
        let protocol = flow.protocol;
        if let Err(reason) = self.check_remote(protocol, external, remote, now) {
            self.mappings.remove_if_unused(mapping);
            return Err(reason);
        }
        let mut session = Session {
            remote,
            protocol,
            origin,
            replied: false,
            tracker: flow.segment.and_then(Tracker::open),
            sctp: flow.event.and_then(sctp::Tracker::open),
            out: Rewrite::new(protocol, inside, external),
            back: Rewrite::new(protocol, external, inside),
            mapping,
            serial: 0,
            created: now,
            last_seen: now,
            deadline: now,
            outbound: Traffic::default(),
            inbound: Traffic::default(),
        };
        session.deadline = now + session.timeout(&self.config.timeouts);
        if origin == Side::Outside {
            // A stranger's packet must not make the mapping live longer.
            session.deadline = session.deadline.min(parent_deadline);
        }
        let deadline = session.deadline;
        let counted = self
            .peers
            .as_mut()
            .is_none_or(|peers| peers.add(mapping, remote.0));
        let stored = if counted {
            self.sessions.insert(session)
        } else {
            None
        };
        let Some(id) = stored else {
            if let Some(peers) = self.peers.as_mut().filter(|_| counted) {
                peers.remove(mapping, remote.0);
            }
            self.mappings.remove_if_unused(mapping);
            return Err(Reason::SessionsExhausted);
        };
        self.mappings.add_session(mapping);
        self.mappings.prolong(mapping, deadline);
        self.counters.sessions_created += 1;
        Ok(id)
    }

    /// Ends a session, and its mapping with the last one.
    pub(crate) fn remove(&mut self, id: u32) {
        if let Some(session) = self.sessions.remove(id) {
            if let Some(peers) = &mut self.peers {
                peers.remove(session.mapping, session.remote.0);
            }
            self.mappings.remove_session(session.mapping);
            self.forget_shift(id);
            self.counters.sessions_removed += 1;
        }
    }
}
