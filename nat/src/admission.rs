//! Which packets may open a session, and what a session takes and gives back.
//!
//! What is full makes room only at the cost of the same inside host, and only of what that host is
//! done with (see [`crate::quota`]), or of what outsiders began and nobody completed (see
//! [`crate::strangers`]); live sessions are never evicted.

mod assign;

use std::net::Ipv4Addr;

use crate::Nanos;
use crate::config::Filtering;
use crate::connection::Connection;
use crate::engine::Nat;
use crate::flow::Flow;
use crate::mapping::{Left, Mapping};
use crate::outcome::{Direction, Reason};
use crate::quota::{Limit, Phase};
use crate::rewrite::{Protocol, Rewrite};
use crate::session::{Endpoint, NO_MAPPING, Session, Side, Traffic, Tuple};
use crate::strangers::Kind;

pub(crate) use assign::Purpose;

/// Whose limit forbids that a session is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shut {
    /// The inside host's.
    Host(Limit),
    /// That of all inside hosts.
    All,
    /// That of all outsiders.
    Strangers,
}

impl Shut {
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Host(_) => Reason::HostQuota,
            Self::All => Reason::HalfOpenFull,
            Self::Strangers => Reason::SynFlood,
        }
    }
}

/// Finished sessions that are ended at most to free one port: one mapping may have several.
const RECYCLED_AT_ONCE: u32 = 8;
impl Nat {
    /// Opens a session for a packet from inside, under the mapping of its sender.
    pub(crate) fn open_outbound(
        &mut self,
        flow: &Flow,
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
        flow: &Flow,
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
        self.check_strangers(connection, (external, remote), now)?;
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
        self.mappings.remove_session(mapping);
        self.unmap_unused(mapping);
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
            Some(limit @ (Limit::HalfOpen | Limit::Rate | Limit::Failed)) => {
                Err(self.exceeded(limit))
            }
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

    /// Checks the limit on handshakes from outside that come to nothing, for one between these
    /// endpoints of ours and theirs.
    pub(crate) fn check_strangers(
        &mut self,
        connection: Connection,
        (ours, remote): (Endpoint, Endpoint),
        now: Nanos,
    ) -> Result<(), Reason> {
        let tuple = Tuple {
            from: Side::Outside,
            protocol: Protocol::Tcp,
            ours,
            remote,
        };
        let passes = Kind::of(connection) != Kind::Handshake
            || self.strangers.has_handshake(now)
            || self.knocks.is_repeated(tuple, now);
        passes.then_some(()).ok_or(Reason::SynFlood)
    }

    /// Returns whether a session may be opened again where it is: a handshake more, that is all.
    pub(crate) fn may_reopen(&mut self, id: u32, from: Side, now: Nanos) -> Result<(), Shut> {
        let Some(session) = self.sessions.get(id) else {
            return Ok(());
        };
        if from == Side::Outside {
            // Who once completed a handshake did not forge his address. Else it is one more.
            let is_one_more = session.provisional && session.connection.is_over();
            return if is_one_more && !self.strangers.take_handshake(now) {
                Err(Shut::Strangers)
            } else {
                Ok(())
            };
        }
        let host = self.host_of(session.parent());
        if let Some(limit) = host.and_then(|host| self.hosts.exceeded_by_handshake(host, now)) {
            return Err(Shut::Host(limit));
        }
        if self.sessions.half_open() >= self.config.half_open_max {
            return Err(Shut::All);
        }
        Ok(())
    }

    /// Counts why a session was not opened again.
    pub(crate) fn count_shut(&mut self, shut: Shut) {
        if let Shut::Host(limit) = shut {
            self.exceeded(limit);
        }
    }

    fn exceeded(&mut self, limit: Limit) -> Reason {
        *match limit {
            Limit::Sessions => &mut self.counters.quota_sessions,
            Limit::Ports => &mut self.counters.quota_ports,
            Limit::HalfOpen => &mut self.counters.quota_half_open,
            Limit::Rate => &mut self.counters.quota_rate,
            Limit::Failed => &mut self.counters.quota_failed,
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
    /// first; returns the port of that mapping.
    fn recycle_port(&mut self, host: u32) -> Option<Left> {
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
                // A stranger's packet must not make the mapping live longer.
                let latest = match origin {
                    Side::Inside => Nanos::MAX,
                    Side::Outside => deadline,
                };
                let ends = (inside, external, remote);
                self.begin(origin, what, ends, now, (mapping, latest))
            }
            Err(reason) => Err(reason),
        };
        if stored.is_err() {
            self.unmap_unused(mapping);
        }
        stored
    }

    /// Compiles and stores a session under a mapping, or none; unless refreshed it ends at the
    /// `latest` then.
    pub(crate) fn begin(
        &mut self,
        origin: Side,
        what: (Protocol, Connection),
        ends: (Endpoint, Endpoint, Endpoint),
        now: Nanos,
        (mapping, latest): (u32, Nanos),
    ) -> Result<u32, Reason> {
        let mut session = self.compile(origin, what, ends, now);
        session.mapping = mapping;
        session.deadline = session.deadline.min(latest);
        self.store(session)
    }

    /// Compiles a session, as yet without a mapping.
    #[inline(always)]
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
            lent: false,
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
    ///
    /// It is part of its two callers; see [`Slab::insert`](crate::slab::Slab::insert).
    #[inline(always)]
    pub(crate) fn store(&mut self, session: Session) -> Result<u32, Reason> {
        let (protocol, external) = (session.protocol, session.external());
        let is_foreign = !self.is_own(protocol, external);
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
        let host = match mapping {
            NO_MAPPING => self.hosts.find(parent.1),
            _ => self.mappings.join(mapping, deadline),
        };
        if let Some(host) = host {
            self.hosts.add_session(host);
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
        self.mappings.remove_session(mapping);
        if let Some(left) = self.unmap_unused(mapping) {
            self.hosts.leave(left.host);
        }
    }

    /// Ends a session but leaves its host's account open; returns that and the port of the mapping
    /// that ended with it.
    fn end(&mut self, id: u32) -> Option<(u32, Option<Left>)> {
        let session = self.sessions.remove(id)?;
        self.recall_ended(id, &session);
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
        self.move_session(id, parent, Phase::of(&session), Phase::Ended);
        let host = self.host_of(parent)?;
        self.hosts.remove_session(host);
        self.mappings.remove_session(session.mapping);
        Some((host, self.unmap_unused(session.mapping)))
    }
}
