//! The engine's part of published ports: whose a port is, and sessions that begin outside.
//!
//! # Theory of operation
//! An external endpoint is with one slice at a time: with who has *adopted* it ([`Adopted`]), else
//! with the owner of the entry that publishes it, else where [`owner_of`] says. Published sessions
//! have both their tuples like any other but no mapping, and their packets find them without a
//! look at what is published. A stranger's packet that finds none is led to a target; a packet
//! *from* a target that finds none belongs to the entry's slice as well, and goes out with the
//! published identity. So a port that is both mapped and published serves the mapping's sessions
//! and strangers alike, in whichever slice has it, and the pool hands out none that is published.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::Nanos;
use crate::adopted::{Adopted, Place};
use crate::engine::Nat;
use crate::flow::Flow;
use crate::outcome::{Outcome, Reason};
use crate::pool::owner_of;
use crate::publish::Publishes;
use crate::rewrite::{Protocol, Rewrite};
use crate::session::{Endpoint, Session, Side, Traffic};
use crate::strangers::Kind;
use crate::tcp::{Segment, Tracker};

/// Stands for the mapping of a session that has none: its external port is a published one.
pub(crate) const NO_MAPPING: u32 = u32::MAX;

/// A published endpoint inside, as the engine needs it for a packet from there.
#[derive(Clone, Copy)]
pub(crate) struct Behind {
    /// The slice that has its sessions.
    pub(crate) owner: u16,
    /// What outsiders know it by, if that is it alone.
    pub(crate) identity: Option<Endpoint>,
}

impl Nat {
    /// Changes what is published, and returns how many sessions ended by that: those whose
    /// external port leads to their inside endpoint no longer. All others live on; those whose
    /// port is now published at another slice keep their port with this one, by way of the
    /// table given to [`Nat::adopt`], and end if there is none.
    ///
    /// One pass over the sessions and the ports of this slice, for a change of configuration.
    pub fn set_publishes(&mut self, publishes: Arc<Publishes>, now: Nanos) -> usize {
        self.reserve_published(false);
        let before = std::mem::replace(&mut self.publishes, publishes);
        self.reserve_published(true);
        let mut ended = 0;
        for id in 0..self.sessions.end() {
            let Some(session) = self.sessions.get(id) else {
                continue;
            };
            let (protocol, external) = (session.protocol, session.external);
            let has_lost_port = session.mapping == NO_MAPPING
                && before.admits(protocol, external, session.inside)
                && !self.publishes.admits(protocol, external, session.inside);
            let is_over = session.deadline <= now;
            if is_over || has_lost_port {
                self.remove(id);
                ended += usize::from(!is_over);
            }
        }
        ended + self.keep_ports()
    }

    /// Adopts the ports of live sessions that are with another slice by what is published now;
    /// returns how many sessions ended because that could not be.
    fn keep_ports(&mut self) -> usize {
        let mut ended = 0;
        let mut kept = BTreeSet::new();
        for id in 0..self.sessions.end() {
            let Some(session) = self.sessions.get(id) else {
                continue;
            };
            let (protocol, external) = (session.protocol, session.external);
            let key = (protocol.number(), external);
            if kept.contains(&key) {
                if let Some(place) = self.place(protocol, external) {
                    self.adoptions.opened(place);
                }
            } else if self.owner(protocol, external) != Some(self.config.slice) {
                if self.adopt_port(protocol, external) {
                    kept.insert(key);
                } else {
                    self.remove(id);
                    ended += 1;
                }
            }
        }
        ended
    }

    /// Adopts a port for one session; returns `false` if another slice has adopted it, or there
    /// is no table to tell the others.
    #[must_use]
    pub(crate) fn adopt_port(&mut self, protocol: Protocol, external: Endpoint) -> bool {
        match (&self.adopted, self.place(protocol, external)) {
            (Some(adopted), Some(place)) => self.adoptions.adopt(adopted, place, self.config.slice),
            _ => false,
        }
    }

    /// Returns what is published.
    #[must_use]
    pub fn publishes(&self) -> &Arc<Publishes> {
        &self.publishes
    }

    /// Shares the table of adopted ports with the other engines of the switch; give it before
    /// the first session.
    pub fn adopt(&mut self, adopted: Arc<Adopted>) {
        self.mappings.heed(Arc::clone(&adopted), self.config.slice);
        self.adopted = Some(adopted);
    }

    /// Keeps published ports of this slice from being mapped, or no longer.
    pub(crate) fn reserve_published(&mut self, is_reserved: bool) {
        let publishes = Arc::clone(&self.publishes);
        let own =
            crate::pool::slice_ports(&self.config.ports, self.config.slices, self.config.slice);
        for entry in publishes.iter() {
            if entry
                .external
                .is_some_and(|address| address != self.config.external)
            {
                continue;
            }
            let first = *entry.ports.start().max(own.start());
            for port in first..=*entry.ports.end().min(own.end()) {
                self.mappings.reserve(entry.protocol, port, is_reserved);
            }
        }
    }

    /// Returns whether an address is one that inside hosts appear as.
    pub(crate) fn is_external(&self, address: Ipv4Addr) -> bool {
        address == self.config.external || self.config.pool.contains(&address)
    }

    fn place(&self, protocol: Protocol, external: Endpoint) -> Option<Place> {
        let address = if external.0 == self.config.external {
            0
        } else {
            let pool = &mut self.config.pool.iter();
            pool.position(|&address| address == external.0)? + 1
        };
        Some(Place {
            protocol,
            address,
            external,
        })
    }

    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        std::iter::once(self.config.external).chain(self.config.pool.iter().copied())
    }

    /// Returns the slice that an external endpoint is with, if it is ours at all.
    pub(crate) fn owner(&self, protocol: Protocol, external: Endpoint) -> Option<u16> {
        if let Some(owner) = self.adopter(protocol, external) {
            return Some(owner);
        }
        let (address, port) = external;
        match self.publishes.find(protocol, address, port) {
            Some(entry) => Some(self.slice_of(entry.owner)),
            None => owner_of(&self.config.ports, self.config.slices, port),
        }
    }

    pub(crate) fn adopter(&self, protocol: Protocol, external: Endpoint) -> Option<u16> {
        let adopted = self
            .adopted
            .as_ref()
            .filter(|adopted| !adopted.is_empty())?;
        let place = self.place(protocol, external)?;
        adopted.owner(protocol, place.address, external.1)
    }

    fn slice_of(&self, owner: u16) -> u16 {
        owner.min(self.config.slices - 1)
    }

    /// Returns what becomes of a packet to an external endpoint that is not with this slice.
    pub(crate) fn not_here(&self, protocol: Protocol, external: Endpoint) -> Option<Outcome> {
        match self.owner(protocol, external) {
            None => Some(Outcome::NotOurs),
            Some(owner) if owner != self.config.slice => Some(Outcome::Elsewhere { owner }),
            Some(_) => None,
        }
    }

    /// Returns what a packet from inside that finds no session must know, if it comes from a
    /// published endpoint.
    pub(crate) fn behind(&self, protocol: Protocol, inside: Endpoint) -> Option<Behind> {
        let (entry, port) = self.publishes.find_inside(protocol, inside)?;
        let is_of_entry = |address: &Ipv4Addr| entry.external.is_none_or(|own| own == *address);
        let mut adopters = self
            .addresses()
            .filter(is_of_entry)
            .filter_map(|address| self.adopter(protocol, (address, port)));
        let owner = adopters.next().unwrap_or(self.slice_of(entry.owner));
        let address = entry.external.unwrap_or(self.config.external);
        let is_alone = entry.targets.len() == 1 && self.is_external(address);
        Some(Behind {
            owner,
            identity: is_alone.then_some((address, port)),
        })
    }

    /// Opens a session for a stranger's packet to a published port; `None` if it is not published.
    pub(crate) fn open_published(
        &mut self,
        flow: Flow,
        external: Endpoint,
        remote: Endpoint,
        now: Nanos,
    ) -> Option<Result<u32, Reason>> {
        let entry = self.publishes.find(flow.protocol, external.0, external.1)?;
        let inside = entry.choose(self.choice_key, remote, external.1);
        Some(self.admit(flow, inside, external, remote, now))
    }

    fn admit(
        &mut self,
        flow: Flow,
        inside: Option<Endpoint>,
        external: Endpoint,
        remote: Endpoint,
        now: Nanos,
    ) -> Result<u32, Reason> {
        let inside = inside.ok_or(Reason::Unsolicited)?;
        // From outside only a SYN begins a TCP session.
        if flow.segment.is_some_and(|segment| segment != Segment::Syn) {
            return Err(Reason::Unsolicited);
        }
        // The target speaks with this remote by another port already, and its answers would be
        // that session's: whoever forges the remote must not end it.
        let taken = self.sessions.find_outbound(flow.protocol, inside, remote);
        if self.alive(taken, now).is_some() {
            return Err(Reason::Unsolicited);
        }
        let tracker = flow.segment.and_then(Tracker::open);
        self.make_room(tracker)?;
        let session = self.published_session(
            Side::Outside,
            (flow.protocol, tracker),
            (inside, external, remote),
            now,
        );
        self.store_published(session)
    }

    /// Opens a session for a packet from a published endpoint, which keeps its published identity;
    /// `None` if another session has that towards this remote.
    pub(crate) fn open_as_published(
        &mut self,
        flow: Flow,
        inside: Endpoint,
        external: Endpoint,
        remote: Endpoint,
        now: Nanos,
    ) -> Option<Result<u32, Reason>> {
        let taken = self.sessions.find_inbound(flow.protocol, external, remote);
        if self.alive(taken, now).is_some() {
            return None;
        }
        let tracker = match flow.segment.map(Tracker::open) {
            Some(None) => return Some(Err(Reason::TcpOutOfState)),
            opened => opened.flatten(),
        };
        if let Err(reason) = self.check_room(tracker) {
            return Some(Err(reason));
        }
        let session = self.published_session(
            Side::Inside,
            (flow.protocol, tracker),
            (inside, external, remote),
            now,
        );
        Some(self.store_published(session))
    }

    /// Compiles a session without a mapping.
    pub(crate) fn published_session(
        &self,
        origin: Side,
        (protocol, tracker): (Protocol, Option<Tracker>),
        (inside, external, remote): (Endpoint, Endpoint, Endpoint),
        now: Nanos,
    ) -> Session {
        let mut session = Session {
            inside,
            external,
            remote,
            protocol,
            origin,
            replied: false,
            provisional: origin == Side::Outside,
            tracker,
            out: Rewrite::new(protocol, inside, external),
            back: Rewrite::new(protocol, external, inside),
            mapping: NO_MAPPING,
            serial: 0,
            created: now,
            last_seen: now,
            deadline: now,
            outbound: Traffic::default(),
            inbound: Traffic::default(),
        };
        session.deadline = now + session.timeout(&self.config.timeouts);
        session
    }

    /// Stores a session without a mapping.
    pub(crate) fn store_published(&mut self, session: Session) -> Result<u32, Reason> {
        let stored = self.sessions.insert(session);
        let id = stored.ok_or(Reason::SessionsExhausted)?;
        self.opened(id);
        Ok(id)
    }

    /// Makes room for a session that begins outside, by ending the oldest provisional one if its
    /// limit, or that of all strangers, is reached.
    pub(crate) fn make_room(&mut self, tracker: Option<Tracker>) -> Result<(), Reason> {
        let kind = Kind::of(tracker);
        if self.strangers.is_full_of(kind) {
            self.evict_stranger([kind]);
        }
        if self.strangers.is_full() || self.sessions.is_full() {
            self.evict_stranger([Kind::Other, Kind::Handshake]);
        }
        if self.strangers.is_full() || self.sessions.is_full() {
            return Err(Reason::SessionsExhausted);
        }
        Ok(())
    }

    fn evict_stranger<const N: usize>(&mut self, kinds: [Kind; N]) {
        let oldest = |&kind: &Kind| self.strangers.oldest(kind);
        if let Some(id) = kinds.iter().find_map(oldest) {
            self.remove(id);
            self.counters.strangers_evicted += 1;
        }
    }

    /// Counts a session that has just been stored.
    pub(crate) fn opened(&mut self, id: u32) {
        self.counters.sessions_created += 1;
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        if session.origin == Side::Outside {
            let kind = session.provisional.then(|| Kind::of(session.tracker));
            self.strangers.opened(id, kind);
        }
        if !self.adoptions.is_empty()
            && let Some(place) = self.place(session.protocol, session.external)
        {
            self.adoptions.opened(place);
        }
    }

    /// Counts a session that has just been taken out.
    pub(crate) fn ended(&mut self, id: u32, session: &Session) {
        self.counters.sessions_removed += 1;
        if session.origin == Side::Outside {
            self.strangers.ended(id);
        }
        if !self.adoptions.is_empty()
            && let Some(adopted) = &self.adopted
            && let Some(place) = self.place(session.protocol, session.external)
        {
            self.adoptions.ended(adopted, place, self.config.slice);
        }
    }
}
