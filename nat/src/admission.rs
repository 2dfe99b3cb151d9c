//! Which packets may open a session, and what a session takes and gives back.

use std::net::Ipv4Addr;

use crate::Nanos;
use crate::config::Filtering;
use crate::engine::Nat;
use crate::flow::Flow;
use crate::outcome::{Direction, Reason};
use crate::rewrite::{Protocol, Rewrite};
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
        self.check_room(tracker)?;
        let mapping = match self.mappings.find_inside(flow.protocol, inside) {
            Some(id) => id,
            None => {
                let created = self.mappings.create(flow.protocol, inside);
                let id = created.ok_or(Reason::PortsExhausted)?;
                self.counters.mappings_created += 1;
                let kept = self
                    .mappings
                    .get(id)
                    .is_some_and(|mapping| mapping.port == inside.1);
                self.counters.ports_preserved += u64::from(kept);
                id
            }
        };
        self.open(Side::Inside, mapping, flow.protocol, tracker, remote, now)
    }

    /// Opens a session for a packet from outside, if there is a mapping and the filtering lets
    /// the sender in.
    pub(crate) fn open_inbound(
        &mut self,
        flow: Flow,
        external: Ipv4Addr,
        remote: Endpoint,
        direction: Direction,
        now: Nanos,
    ) -> Result<u32, Reason> {
        if let Some(publish) = self.publishes.find(flow.protocol, external, flow.dst_port) {
            let target = publish.targets.first().ok_or(Reason::Unsolicited)?;
            let offset = flow.dst_port - publish.ports.start();
            let inside = (target.address, target.port + offset);
            if flow.segment.is_some_and(|segment| segment != Segment::Syn) {
                return Err(Reason::Unsolicited);
            }
            let tracker = flow.segment.and_then(Tracker::open);
            self.check_room(tracker)?;
            let external = (external, flow.dst_port);
            return self.open_published(flow.protocol, tracker, (inside, external, remote), now);
        }
        let mapping = self
            .mappings
            .find_external(flow.protocol, flow.dst_port)
            .filter(|&id| {
                self.mappings.get(id).is_some_and(|mapping| {
                    mapping.deadline > now && self.paired(mapping.inside.0) == external
                })
            })
            .ok_or(Reason::Unsolicited)?;
        let filtering = match flow.protocol {
            Protocol::Tcp => self.config.tcp_filtering,
            Protocol::Udp => self.config.udp_filtering,
            // A reply answers a request or nothing.
            Protocol::Icmp => return Err(Reason::Unsolicited),
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
        // From outside only a SYN begins a TCP session.
        if !admitted || flow.segment.is_some_and(|segment| segment != Segment::Syn) {
            return Err(Reason::Unsolicited);
        }
        let tracker = flow.segment.and_then(Tracker::open);
        self.check_room(tracker)?;
        self.open(Side::Outside, mapping, flow.protocol, tracker, remote, now)
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
        protocol: Protocol,
        tracker: Option<Tracker>,
        remote: Endpoint,
        now: Nanos,
    ) -> Result<u32, Reason> {
        let Some(parent) = self.mappings.get(mapping) else {
            return Err(Reason::Unsolicited);
        };
        let (inside, external) = (parent.inside, (self.paired(parent.inside.0), parent.port));
        let parent_deadline = parent.deadline;
        let mut session = Session {
            inside,
            external,
            remote,
            protocol,
            origin,
            replied: false,
            tracker,
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
        self.note_open(id);
        Ok(id)
    }

    fn open_published(
        &mut self,
        protocol: Protocol,
        tracker: Option<Tracker>,
        (inside, external, remote): (Endpoint, Endpoint, Endpoint),
        now: Nanos,
    ) -> Result<u32, Reason> {
        let mut session = Session {
            inside,
            external,
            remote,
            protocol,
            origin: Side::Outside,
            replied: false,
            tracker,
            out: Rewrite::new(protocol, inside, external),
            back: Rewrite::new(protocol, external, inside),
            mapping: u32::MAX,
            serial: 0,
            created: now,
            last_seen: now,
            deadline: now,
            outbound: Traffic::default(),
            inbound: Traffic::default(),
        };
        session.deadline = now + session.timeout(&self.config.timeouts);
        let stored = self.sessions.insert(session);
        self.counters.sessions_created += u64::from(stored.is_some());
        stored.ok_or(Reason::SessionsExhausted)
    }

    /// Ends a session, and its mapping with the last one.
    pub(crate) fn remove(&mut self, id: u32) {
        if let Some(session) = self.sessions.remove(id) {
            if let Some(peers) = &mut self.peers {
                peers.remove(session.mapping, session.remote.0);
            }
            self.mappings.remove_session(session.mapping);
            self.counters.sessions_removed += 1;
            self.note_end(&session);
        }
    }
}
