//! Which packets may open a session, and what a session takes and gives back.
//!
//! What is full makes room only at the cost of the same inside host, and only of what that host is
//! done with (see [`crate::quota`]), or of what outsiders began and nobody completed (see
//! [`crate::strangers`]); live sessions are never evicted.

use std::net::Ipv4Addr;

use crate::Nanos;
use crate::config::Filtering;
use crate::connection::Connection;
use crate::engine::Nat;
use crate::flow::Flow;
use crate::mapping::{Mapping, Wanted};
use crate::outcome::{Direction, Reason};
use crate::quota::{Limit, Phase};
use crate::rewrite::{Protocol, Rewrite};
use crate::session::{Endpoint, NO_MAPPING, Session, Side, Traffic};
use crate::strangers::Kind;

/// Finished sessions that are ended at most to free one port: one mapping may have several.
const RECYCLED_AT_ONCE: u32 = 8;
/// Ports tried for one that can be shared.
const SHARE_PROBES: u32 = 32;

/// What a mapping is wanted for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// A session with this remote endpoint.
    Session(Endpoint),
    /// A remote that is told of it, on the address in this slot: no other inside endpoint may
    /// share it.
    Told(u32),
}

impl Nat {
    /// Opens a session for a packet from inside, under the mapping of its sender.
    pub(crate) fn open_outbound(
        &mut self,
        flow: Flow,
        inside: Endpoint,
        remote: Endpoint,
        now: Nanos,
    ) -> Result<u32, Reason> {
        let connection = Connection::open(flow)?;
        self.admit_by_address(flow.protocol)?;
        let host = self.enter(inside.0, now)?;
        let room = self.make_room(host, connection, now);
        let opened = room.and_then(|()| {
            let mapping =
                self.mapping_for(flow.protocol, inside, host, Purpose::Session(remote))?;
            let what = (flow.protocol, connection);
            self.open(Side::Inside, mapping, what, remote, now)
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
        if !(admitted || expected) || !flow.begins() {
            return Err(Reason::Unsolicited);
        }
        let connection = Connection::open(flow)?;
        self.mappings.tick(now);
        // Its last session may be one that is ended to make room: it stays for this one.
        self.mappings.add_session(mapping);
        let room = self.make_room_for_stranger(host, connection, now);
        let opened = room.and_then(|()| {
            let what = (flow.protocol, connection);
            self.open(Side::Outside, mapping, what, remote, now)
        });
        if expected && opened.is_ok() {
            self.fulfil(mapping, remote);
        }
        if let Some(ended) = self.mappings.remove_session(mapping) {
            self.unmapped(&ended);
        }
        self.settle(host, opened)
    }

    /// Finds or opens the account of an inside host that wants a session.
    ///
    /// Who calls it must store a session, or call [`Nat::settle`].
    pub(crate) fn enter(&mut self, address: Ipv4Addr, now: Nanos) -> Result<u32, Reason> {
        self.mappings.tick(now);
        if let Some(host) = self.hosts.enter(address, now) {
            return Ok(host);
        }
        // Each host has a session, so with few sessions their table is full as well.
        if self.sessions.is_full() {
            return Err(Reason::SessionsExhausted);
        }
        self.counters.hosts_full += 1;
        Err(Reason::HostQuota)
    }

    /// Checks the limits on handshakes, and the inside host's quotas on handshakes and pace.
    fn check_pace(
        &mut self,
        host: u32,
        half_open: bool,
        now: Nanos,
    ) -> Result<Option<Limit>, Reason> {
        let exceeded = self.hosts.exceeded(host, half_open, now);
        match exceeded {
            Some(limit @ (Limit::HalfOpen | Limit::Rate)) => Err(self.exceeded(limit)),
            _ if half_open && self.sessions.half_open() >= self.config.half_open_max => {
                Err(Reason::HalfOpenFull)
            }
            Some(Limit::Sessions | Limit::Ports) | None => Ok(exceeded),
        }
    }

    /// Checks the limits that a new session from inside counts against, and ends a finished one of
    /// the same inside host if that gives it a place: a server that closes many connections must
    /// not be shut for minutes by those it is done with.
    pub(crate) fn make_room(
        &mut self,
        host: u32,
        connection: Connection,
        now: Nanos,
    ) -> Result<(), Reason> {
        self.check_quota(host, connection.is_half_open(), now)?;
        if self.sessions.is_full() && !self.recycle_session(host) {
            return Err(Reason::SessionsExhausted);
        }
        Ok(())
    }

    fn check_quota(&mut self, host: u32, half_open: bool, now: Nanos) -> Result<(), Reason> {
        if let Some(limit) = self.check_pace(host, half_open, now)?
            && !self.recycle_session(host)
        {
            return Err(self.exceeded(limit));
        }
        Ok(())
    }

    /// As [`Nat::make_room`], for a session that begins outside: its handshake counts with those
    /// of strangers, and the oldest provisional session ends if their limit is reached.
    pub(crate) fn make_room_for_stranger(
        &mut self,
        host: u32,
        connection: Connection,
        now: Nanos,
    ) -> Result<(), Reason> {
        self.check_quota(host, false, now)?;
        if !self.has_room_for_stranger(host, connection) {
            return Err(Reason::SessionsExhausted);
        }
        Ok(())
    }

    /// As [`Nat::make_room_for_stranger`], but the host's quotas do not count; returns whether
    /// there is room.
    pub(crate) fn has_room_for_stranger(&mut self, host: u32, connection: Connection) -> bool {
        let kind = Kind::of(connection);
        if self.strangers.is_full_of(kind) {
            self.evict_stranger(host, [kind]);
        }
        if self.strangers.is_full() || self.sessions.is_full() {
            self.evict_stranger(host, [Kind::Other, Kind::Handshake]);
        }
        if self.strangers.is_full() {
            self.recycle_stranger(host);
        }
        !self.strangers.is_full() && (!self.sessions.is_full() || self.recycle_session(host))
    }

    /// Ends the oldest provisional session of these kinds; the account of `host` stays open.
    fn evict_stranger<const N: usize>(&mut self, host: u32, kinds: [Kind; N]) {
        let oldest = |&kind: &Kind| self.strangers.oldest(kind);
        if let Some(id) = kinds.iter().find_map(oldest) {
            self.counters.strangers_evicted += 1;
            if let Some((other, _)) = self.end(id)
                && other != host
            {
                self.hosts.leave(other);
            }
        }
    }

    /// Returns whether a session may be opened again where it is: a handshake more, that is all.
    pub(crate) fn may_reopen(&self, id: u32, from: Side) -> Result<(), Reason> {
        // What outsiders open has limits of its own.
        let Some(session) = self.sessions.get(id).filter(|_| from == Side::Inside) else {
            return Ok(());
        };
        let host = self.host_of(session.parent());
        if host.is_some_and(|host| self.hosts.has_all_half_open(host)) {
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
    pub(crate) fn settle(&mut self, host: u32, opened: Result<u32, Reason>) -> Result<u32, Reason> {
        if opened.is_err() {
            self.hosts.refuse(host);
            self.hosts.leave(host);
        }
        opened
    }

    /// Finds or makes the mapping of an inside endpoint for some purpose.
    ///
    /// A new mapping has no session yet: who calls it must add one, or remove it.
    pub(crate) fn mapping_for(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
        host: u32,
        purpose: Purpose,
    ) -> Result<u32, Reason> {
        if let Some(id) = self.find_mapping(protocol, inside, purpose) {
            return Ok(id);
        }
        if self.hosts.has_all_ports(host) && self.recycle_port(host).is_none() {
            return Err(self.exceeded(Limit::Ports));
        }
        let mut wanted = Wanted {
            protocol,
            inside,
            host,
            paired: self.pairing(host, purpose),
        };
        let mut created = self.mappings.create(wanted);
        if created == Err(Reason::PortsExhausted) && protocol == Protocol::Tcp {
            let left = self.recycle_port(host);
            // What has ended may be what kept a shared port from this remote.
            if let Some(id) = self.find_mapping(protocol, inside, purpose) {
                return Ok(id);
            }
            if let Some(left) = left {
                created = self.mappings.create_instead(wanted, &left);
                wanted.paired = self.pairing(host, purpose);
            }
        }
        if created == Err(Reason::PortsExhausted)
            && protocol == Protocol::Tcp
            && self.config.tcp_overlap
            && let Purpose::Session(remote) = purpose
        {
            created = self.share_port(wanted, remote);
            self.counters.ports_shared += u64::from(created.is_ok());
        }
        let id = created?;
        self.mapped(id, host);
        Ok(id)
    }

    /// Finds a mapping of an inside endpoint that serves a purpose: on a shared port the remote may
    /// be taken by the other inside endpoint.
    fn find_mapping(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
        purpose: Purpose,
    ) -> Option<u32> {
        let sessions = &mut self.sessions;
        let mut is_free = |external| match purpose {
            Purpose::Session(remote) => {
                let found = sessions.find_inbound(protocol, external, remote);
                found.is_none()
            }
            Purpose::Told(_) => false,
        };
        self.mappings.find_inside(protocol, inside, |mapping| {
            !mapping.is_shared() || is_free(mapping.external)
        })
    }

    /// Returns the slot of the address that a new mapping must be on.
    fn pairing(&self, host: u32, purpose: Purpose) -> Option<u32> {
        match purpose {
            Purpose::Session(_) => self.hosts.paired(host),
            Purpose::Told(slot) => Some(slot),
        }
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
    pub(crate) fn mapped(&mut self, id: u32, host: u32) {
        let Some(mapping) = self.mappings.get(id) else {
            return;
        };
        let has_port = !matches!(mapping.protocol, Protocol::Other(_));
        let kept = has_port && mapping.external.1 == mapping.inside.1;
        let slot = self.mappings.slot(id).unwrap_or(0);
        let first = self.hosts.add_port(host, slot);
        self.counters.mappings_created += 1;
        self.counters.ports_preserved += u64::from(kept);
        self.counters.address_maps_created += u64::from(first);
        self.note_mapped(id);
    }

    /// Counts a mapping that ended.
    pub(crate) fn unmapped(&mut self, mapping: &Mapping) {
        let last = self.hosts.remove_port(mapping.host);
        self.counters.mappings_removed += 1;
        self.counters.address_maps_removed += u64::from(last);
        self.note_unmapped(mapping);
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

    /// Ends the session of this host that finished first of those that outsiders opened, if it is
    /// found among the first.
    fn recycle_stranger(&mut self, host: u32) {
        for _ in 0..RECYCLED_AT_ONCE {
            let first = self.hosts.first_finished(host);
            let Some((id, session)) = first.and_then(|id| Some((id, self.sessions.get(id)?)))
            else {
                return;
            };
            if session.origin == Side::Outside {
                self.counters.sessions_recycled += 1;
                self.end(id);
                return;
            }
            let parent = session.parent();
            self.move_to_back(id, parent);
        }
    }

    /// Has a finished session wait behind the others for its end.
    fn move_to_back(&mut self, id: u32, parent: (u32, Ipv4Addr)) {
        self.move_session(id, parent, Phase::Finished, Phase::Live);
        self.move_session(id, parent, Phase::Live, Phase::Finished);
    }

    /// Ends finished sessions of this host until a mapping ends with them, the longest finished
    /// first; returns that mapping.
    fn recycle_port(&mut self, host: u32) -> Option<Mapping> {
        for _ in 0..RECYCLED_AT_ONCE {
            let id = self.hosts.first_finished(host)?;
            let parent = self.sessions.get(id)?.parent();
            let mapping = self.mappings.get(parent.0);
            if mapping.is_some_and(Mapping::is_finished) {
                self.counters.sessions_recycled += 1;
                let (_, ended) = self.end(id)?;
                if ended.is_some() {
                    return ended;
                }
            } else {
                // No port would come free.
                self.move_to_back(id, parent);
            }
        }
        None
    }

    /// Compiles and stores a session under a mapping; on failure an unused mapping goes.
    fn open(
        &mut self,
        origin: Side,
        mapping: u32,
        what: (Protocol, Connection),
        remote: Endpoint,
        now: Nanos,
    ) -> Result<u32, Reason> {
        let Some(parent) = self.mappings.get(mapping) else {
            return Err(Reason::Unsolicited);
        };
        let (inside, external, deadline) = (parent.inside, parent.external, parent.deadline);
        let stored = match self.check_remote(what.0, external, remote, now) {
            Ok(()) => {
                let mut session = self.compile(origin, what, (inside, external, remote), now);
                session.mapping = mapping;
                if origin == Side::Outside {
                    // A stranger's packet must not make the mapping live longer.
                    session.deadline = session.deadline.min(deadline);
                }
                self.store(session, now)
            }
            Err(reason) => Err(reason),
        };
        if stored.is_err()
            && let Some(mapping) = self.mappings.remove_if_unused(mapping)
        {
            self.unmapped(&mapping);
        }
        stored
    }

    /// Compiles a session, as yet without a mapping.
    pub(crate) fn compile(
        &self,
        origin: Side,
        (protocol, connection): (Protocol, Connection),
        (inside, external, remote): (Endpoint, Endpoint, Endpoint),
        now: Nanos,
    ) -> Session {
        let mut session = Session {
            remote,
            protocol,
            origin,
            replied: false,
            provisional: origin == Side::Outside,
            connection,
            out: Rewrite::new(protocol, inside, external),
            back: Rewrite::new(protocol, external, inside),
            mapping: NO_MAPPING,
            serial: 0,
            created: now,
            deadline: now,
            outbound: Traffic::default(),
            inbound: Traffic::default(),
        };
        session.deadline = now + session.timeout(&self.config.timeouts);
        session
    }

    /// Stores a session, and counts it with its mapping, if it has one, and in its host's account,
    /// which must be open. Its port is adopted if it is not with this slice: it was, perhaps, until
    /// the session ended that has just made room.
    pub(crate) fn store(&mut self, session: Session, now: Nanos) -> Result<u32, Reason> {
        let (protocol, external) = (session.protocol, session.external());
        let is_foreign = self.owner(protocol, external) != Some(self.config.slice);
        let (parent, remote) = (session.parent(), session.remote.0);
        let (mapping, deadline) = (session.mapping, session.deadline);
        let phase = Phase::of(&session);
        let peers = self.peers.as_mut().filter(|_| mapping != NO_MAPPING);
        if peers.is_some_and(|peers| !peers.add(mapping, remote)) {
            return Err(Reason::SessionsExhausted);
        }
        let Some(id) = self.sessions.insert(session) else {
            if let Some(peers) = &mut self.peers {
                peers.remove(mapping, remote);
            }
            return Err(Reason::SessionsExhausted);
        };
        self.mappings.add_session(mapping);
        self.mappings.prolong(mapping, deadline);
        if let Some(host) = self.host_of(parent) {
            self.hosts.add_session(host, now);
        }
        self.move_session(id, parent, Phase::Live, phase);
        self.opened(id);
        if is_foreign && !self.adopt_port(protocol, external) {
            self.end(id);
            return Err(Reason::ProtocolBusy);
        }
        Ok(id)
    }

    /// Returns the account that a session is in, by [`Session::parent`].
    pub(crate) fn host_of(&self, (mapping, inside): (u32, Ipv4Addr)) -> Option<u32> {
        match mapping {
            NO_MAPPING => self.hosts.find(inside),
            _ => self.mappings.get(mapping).map(|mapping| mapping.host),
        }
    }

    /// Moves a session to another phase in its host's account and its mapping.
    pub(crate) fn move_session(
        &mut self,
        id: u32,
        parent: (u32, Ipv4Addr),
        from: Phase,
        to: Phase,
    ) {
        if from == to {
            return;
        }
        if let Some(host) = self.host_of(parent) {
            let session = (host, id);
            self.hosts.move_session(&mut self.links, session, from, to);
        }
        if (from == Phase::Finished) != (to == Phase::Finished) {
            self.mappings.set_finished(parent.0, to == Phase::Finished);
        }
    }

    /// Ends a session, its mapping with the last one, and its host's account with the last of all.
    pub(crate) fn remove(&mut self, id: u32) {
        if let Some((host, _)) = self.end(id) {
            self.hosts.leave(host);
        }
    }

    /// Ends the hold of what is no session on a mapping, and the mapping if it was the last.
    pub(crate) fn release_mapping(&mut self, mapping: u32) {
        if let Some(ended) = self.mappings.remove_session(mapping) {
            self.unmapped(&ended);
            self.hosts.leave(ended.host);
        }
    }

    /// Ends a session but leaves its host's account open; returns that and the mapping that ended
    /// with it.
    fn end(&mut self, id: u32) -> Option<(u32, Option<Mapping>)> {
        let session = self.sessions.remove(id)?;
        if let Some(peers) = self
            .peers
            .as_mut()
            .filter(|_| session.mapping != NO_MAPPING)
        {
            peers.remove(session.mapping, session.remote.0);
        }
        self.forget_shift(id);
        self.ended(id, &session);
        let parent = session.parent();
        self.move_session(id, parent, Phase::of(&session), Phase::Live);
        let host = self.host_of(parent)?;
        self.hosts.remove_session(host);
        let ended = self.mappings.remove_session(session.mapping);
        if let Some(mapping) = &ended {
            self.unmapped(mapping);
        }
        Some((host, ended))
    }
}
