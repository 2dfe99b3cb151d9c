//! Which packets may open a session, and what a session takes and gives back.
//!
//! What is full makes room only at the cost of the same inside host, and only of what that host is
//! done with (see [`crate::quota`]); live sessions are never evicted.

use crate::Nanos;
use crate::config::Filtering;
use crate::engine::Nat;
use crate::flow::Flow;
use crate::mapping::{Mapping, Wanted};
use crate::outcome::{Direction, Reason};
use crate::quota::{Limit, Phase};
use crate::rewrite::{Protocol, Rewrite};
use crate::session::{Endpoint, Session, Side, Traffic};
use crate::tcp::{Segment, Tracker};

/// Finished sessions that are ended at most to free one port: one mapping may have several.
const RECYCLED_AT_ONCE: u32 = 8;
/// Ports tried for one that can be shared.
const SHARE_PROBES: u32 = 32;

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
        self.mappings.tick(now);
        let Some(host) = self.hosts.enter(inside.0, now) else {
            // Each host has a session, so with few sessions their table is full as well.
            if self.sessions.is_full() {
                return Err(Reason::SessionsExhausted);
            }
            self.counters.hosts_full += 1;
            return Err(Reason::HostQuota);
        };
        let opened = self.make_room(host, tracker, now).and_then(|()| {
            let mapping = self.mapping_for(flow.protocol, inside, host, remote)?;
            self.open(Side::Inside, mapping, flow.protocol, tracker, remote, now)
        });
        self.settle(host, opened)
    }

    /// Opens a session for a packet from outside, if there is a mapping and the filtering lets
    /// the sender in.
    pub(crate) fn open_inbound(
        &mut self,
        flow: Flow,
        external: Endpoint,
        remote: Endpoint,
        direction: Direction,
        now: Nanos,
    ) -> Result<u32, Reason> {
        let (mapping, host) = self
            .mappings
            .find_external(flow.protocol, external)
            .and_then(|id| {
                let mapping = self.mappings.get(id)?;
                (mapping.deadline > now).then_some((id, mapping.host))
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
        self.mappings.tick(now);
        // Its last session may be one that is ended to make room: it stays for this one.
        self.mappings.add_session(mapping);
        let opened = self
            .make_room(host, tracker, now)
            .and_then(|()| self.open(Side::Outside, mapping, flow.protocol, tracker, remote, now));
        if let Some(ended) = self.mappings.remove_session(mapping) {
            self.unmapped(&ended);
        }
        self.settle(host, opened)
    }

    /// Checks the limits on handshakes, and the inside host's quotas on handshakes and pace.
    fn check_pace(
        &mut self,
        host: u32,
        tracker: Option<Tracker>,
        now: Nanos,
    ) -> Result<Option<Limit>, Reason> {
        let half_open = tracker.is_some_and(|tracker| tracker.state().is_half_open());
        let exceeded = self.hosts.exceeded(host, half_open, now);
        match exceeded {
            Some(limit @ (Limit::HalfOpen | Limit::Rate)) => Err(self.exceeded(limit)),
            _ if half_open && self.sessions.half_open() >= self.config.half_open_max => {
                Err(Reason::HalfOpenFull)
            }
            Some(Limit::Sessions | Limit::Ports) | None => Ok(exceeded),
        }
    }

    /// Checks the limits that a new session counts against, and ends a finished one of the same
    /// inside host if that gives it a place: a server that closes many connections must not be
    /// shut for minutes by those it is done with.
    fn make_room(&mut self, host: u32, tracker: Option<Tracker>, now: Nanos) -> Result<(), Reason> {
        if let Some(limit) = self.check_pace(host, tracker, now)?
            && !self.recycle_session(host)
        {
            return Err(self.exceeded(limit));
        }
        if self.sessions.is_full() && !self.recycle_session(host) {
            return Err(Reason::SessionsExhausted);
        }
        Ok(())
    }

    /// Returns whether a session may be opened again where it is: a handshake more, that is all.
    pub(crate) fn may_reopen(&self, id: u32) -> Result<(), Reason> {
        let session = self.sessions.get(id);
        let mapping = session.and_then(|session| self.mappings.get(session.mapping));
        if mapping.is_some_and(|mapping| self.hosts.has_all_half_open(mapping.host)) {
            return Err(Reason::HostQuota);
        }
        if self.sessions.half_open() >= self.config.half_open_max {
            return Err(Reason::HalfOpenFull);
        }
        Ok(())
    }

    /// Counts why a session was not opened again.
    pub(crate) fn count_quota(&mut self, reason: Reason) {
        if reason == Reason::HostQuota {
            self.exceeded(Limit::HalfOpen);
        }
    }

    fn exceeded(&mut self, limit: Limit) -> Reason {
        *match limit {
            Limit::Sessions => &mut self.counters.quota_sessions,
            Limit::Ports => &mut self.counters.quota_ports,
            Limit::HalfOpen => &mut self.counters.quota_half_open,
            Limit::Rate => &mut self.counters.quota_rate,
        } += 1;
        Reason::HostQuota
    }

    /// Counts a refusal in the host's account, which is closed if there is nothing in it.
    fn settle(&mut self, host: u32, opened: Result<u32, Reason>) -> Result<u32, Reason> {
        if opened.is_err() {
            self.hosts.refuse(host);
            self.hosts.leave(host);
        }
        opened
    }

    /// Finds or makes the mapping of an inside endpoint for a session with this remote.
    fn mapping_for(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
        host: u32,
        remote: Endpoint,
    ) -> Result<u32, Reason> {
        let sessions = &mut self.sessions;
        // On a shared port the remote may be taken by the other inside endpoint.
        let found = self.mappings.find_inside(protocol, inside, |mapping| {
            !mapping.is_shared()
                || sessions
                    .find_inbound(protocol, mapping.external, remote)
                    .is_none()
        });
        if let Some(id) = found {
            return Ok(id);
        }
        if self.hosts.has_all_ports(host) && self.recycle_port(host).is_none() {
            return Err(self.exceeded(Limit::Ports));
        }
        let mut wanted = Wanted {
            protocol,
            inside,
            host,
            paired: self.hosts.paired(host),
        };
        let mut created = self.mappings.create(wanted);
        if created == Err(Reason::PortsExhausted)
            && protocol == Protocol::Tcp
            && let Some(left) = self.recycle_port(host)
        {
            created = self.mappings.create_instead(wanted, &left);
            wanted.paired = self.hosts.paired(host);
        }
        if created == Err(Reason::PortsExhausted)
            && protocol == Protocol::Tcp
            && self.config.tcp_overlap
        {
            created = self.share_port(wanted, remote);
            self.counters.ports_shared += u64::from(created.is_ok());
        }
        let id = created?;
        self.mapped(id, host);
        Ok(id)
    }

    /// Makes a mapping on a TCP port that another inside endpoint has, and on which there is no
    /// session with this remote endpoint yet (RFC 7857 section 3).
    fn share_port(&mut self, wanted: Wanted, remote: Endpoint) -> Result<u32, Reason> {
        for n in 0..SHARE_PROBES {
            let Some(first) = self.mappings.shareable(wanted, n) else {
                continue;
            };
            let external = self.mappings.get(first).map(|mapping| mapping.external);
            let is_taken = external.is_none_or(|external| {
                let found = self
                    .sessions
                    .find_inbound(wanted.protocol, external, remote);
                found.is_some()
            });
            if !is_taken {
                return self.mappings.share(wanted, first);
            }
        }
        Err(Reason::PortsExhausted)
    }

    /// Counts a new mapping.
    fn mapped(&mut self, id: u32, host: u32) {
        let Some(mapping) = self.mappings.get(id) else {
            return;
        };
        let kept = mapping.external.1 == mapping.inside.1;
        let slot = self.mappings.slot(id).unwrap_or(0);
        let first = self.hosts.add_port(host, slot);
        self.counters.mappings_created += 1;
        self.counters.ports_preserved += u64::from(kept);
        self.counters.address_maps_created += u64::from(first);
    }

    /// Counts a mapping that ended.
    fn unmapped(&mut self, mapping: &Mapping) {
        let last = self.hosts.remove_port(mapping.host);
        self.counters.mappings_removed += 1;
        self.counters.address_maps_removed += u64::from(last);
    }

    /// Ends the session of this host that finished first; returns whether there was one.
    fn recycle_session(&mut self, host: u32) -> bool {
        let Some(id) = self.hosts.first_finished(host) else {
            return false;
        };
        self.counters.sessions_recycled += 1;
        self.end(id);
        true
    }

    /// Ends finished sessions of this host until a mapping ends with them, the longest finished
    /// first; returns that mapping.
    fn recycle_port(&mut self, host: u32) -> Option<Mapping> {
        for _ in 0..RECYCLED_AT_ONCE {
            let id = self.hosts.first_finished(host)?;
            let mapping = self.sessions.get(id)?.mapping;
            if self.mappings.get(mapping)?.is_finished() {
                self.counters.sessions_recycled += 1;
                let (_, ended) = self.end(id)?;
                if ended.is_some() {
                    return ended;
                }
            } else {
                // Its port would not come free: it waits behind the others for its end.
                self.move_session(id, mapping, Phase::Finished, Phase::Live);
                self.move_session(id, mapping, Phase::Live, Phase::Finished);
            }
        }
        None
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
        let (inside, external, host) = (parent.inside, parent.external, parent.host);
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
        let (deadline, phase) = (session.deadline, Phase::of(&session));
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
            if let Some(mapping) = self.mappings.remove_if_unused(mapping) {
                self.unmapped(&mapping);
            }
            return Err(Reason::SessionsExhausted);
        };
        self.mappings.add_session(mapping);
        self.mappings.prolong(mapping, deadline);
        self.hosts.add_session(host, now);
        self.move_session(id, mapping, Phase::Live, phase);
        self.counters.sessions_created += 1;
        Ok(id)
    }

    /// Moves a session to another phase in its host's account and its mapping.
    pub(crate) fn move_session(&mut self, id: u32, mapping: u32, from: Phase, to: Phase) {
        if let Some(parent) = self.mappings.get(mapping) {
            self.hosts.move_session(parent.host, id, from, to);
        }
        if (from == Phase::Finished) != (to == Phase::Finished) {
            self.mappings.set_finished(mapping, to == Phase::Finished);
        }
    }

    /// Ends a session, its mapping with the last one, and its host's account with the last of all.
    pub(crate) fn remove(&mut self, id: u32) {
        if let Some((host, _)) = self.end(id) {
            self.hosts.leave(host);
        }
    }

    /// Ends a session but leaves its host's account open; returns that and the mapping that ended
    /// with it.
    fn end(&mut self, id: u32) -> Option<(u32, Option<Mapping>)> {
        let session = self.sessions.remove(id)?;
        if let Some(peers) = &mut self.peers {
            peers.remove(session.mapping, session.remote.0);
        }
        self.counters.sessions_removed += 1;
        self.move_session(id, session.mapping, Phase::of(&session), Phase::Live);
        let host = self.mappings.get(session.mapping)?.host;
        self.hosts.remove_session(host);
        let ended = self.mappings.remove_session(session.mapping);
        if let Some(mapping) = &ended {
            self.unmapped(mapping);
        }
        Some((host, ended))
    }
}
