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
use crate::connection::Connection;
use crate::engine::Nat;
use crate::flow::Flow;
use crate::outcome::{Direction, Outcome, Reason};
use crate::pool::owner_of;
use crate::publish::Publishes;
use crate::rewrite::Protocol;
use crate::session::{Endpoint, NO_MAPPING, Session, Side};
use crate::slab::at;
use crate::strangers::Kind;

/// A session without a mapping, that ends when it does.
const UNMAPPED: (u32, Nanos) = (NO_MAPPING, Nanos::MAX);

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
            let (protocol, external) = (session.protocol, session.external());
            let has_lost_port = session.mapping == NO_MAPPING
                && before.admits(protocol, external, session.inside())
                && !self.publishes.admits(protocol, external, session.inside());
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
            let (protocol, external) = (session.protocol, session.external());
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

    /// Keeps published ports from being mapped by this slice, or no longer.
    pub(crate) fn reserve_published(&mut self, is_reserved: bool) {
        let publishes = Arc::clone(&self.publishes);
        for entry in publishes.iter() {
            let (protocol, address) = (entry.protocol, entry.external);
            let mappings = &mut self.mappings;
            mappings.reserve(protocol, address, &entry.ports, is_reserved);
        }
    }

    /// Returns the place of a port in the table of adopted ones. An address keeps its slot as long
    /// as it is there, so what is published or added beside it moves nothing.
    fn place(&self, protocol: Protocol, external: Endpoint) -> Option<Place> {
        Some(Place {
            protocol,
            address: at(self.mappings.externals.slot_of(external.0)?),
            external,
        })
    }

    /// Returns the slice that an external endpoint is with, if it is ours at all.
    pub(crate) fn owner(&self, protocol: Protocol, external: Endpoint) -> Option<u16> {
        if let Some(owner) = self.adopter(protocol, external) {
            return Some(owner);
        }
        let (address, port) = external;
        match self.publishes.find(protocol, address, port) {
            Some(entry) => Some(self.slice_of(entry.owner)),
            None => match protocol {
                Protocol::Tcp | Protocol::Udp | Protocol::Icmp => {
                    owner_of(&self.config.ports, self.config.slices, port)
                }
                Protocol::Sctp | Protocol::Other(_) => self.owner_by_address(protocol),
            },
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

    /// Returns whether a port that is not published is this slice's, as far as that can be told
    /// without a search or a division.
    #[inline]
    pub(crate) fn is_own_port(&self, protocol: Protocol, port: u16) -> bool {
        let (first, further) = self.own_ports;
        let adopted = self.adopted.as_ref();
        port.wrapping_sub(first) <= further
            && !protocol.is_by_address()
            && adopted.is_none_or(|adopted| adopted.is_empty())
    }

    /// Returns whether an external endpoint is with this slice.
    pub(crate) fn is_own(&self, protocol: Protocol, external: Endpoint) -> bool {
        let is_plain = self.is_own_port(protocol, external.1) && !self.publishes.covers(external.1);
        is_plain || self.owner(protocol, external) == Some(self.config.slice)
    }

    /// Opens a session for a packet from inside that found none.
    ///
    /// # Errors
    /// The packet's fate: it is another slice's, or refused.
    #[inline(never)]
    pub(crate) fn open_from_inside(
        &mut self,
        flow: &Flow,
        inside: Endpoint,
        remote: Endpoint,
        now: Nanos,
    ) -> Result<u32, Outcome> {
        let behind = self.behind(flow.protocol, inside);
        if let Some(outcome) = self.leads_elsewhere(flow.protocol, behind) {
            return Err(outcome);
        }
        behind
            .and_then(|behind| behind.identity)
            .and_then(|own| self.open_as_published(flow, inside, own, remote, now))
            .unwrap_or_else(|| self.open_outbound(flow, inside, remote, now))
            .map_err(Outcome::Drop)
    }

    /// Opens a session for a packet from outside that found none.
    #[inline(never)]
    pub(crate) fn open_from_outside(
        &mut self,
        flow: &Flow,
        external: Endpoint,
        remote: Endpoint,
        direction: Direction,
        now: Nanos,
    ) -> Result<u32, Reason> {
        self.open_published(flow, external, remote, now)
            .unwrap_or_else(|| self.open_inbound(flow, external, remote, direction, now))
    }

    /// Returns what becomes of a packet to an external endpoint that is not with this slice.
    pub(crate) fn not_here(&self, protocol: Protocol, external: Endpoint) -> Option<Outcome> {
        match self.owner(protocol, external) {
            None => Some(Outcome::NotOurs),
            Some(owner) if owner != self.config.slice => Some(Outcome::Elsewhere { owner }),
            Some(_) => None,
        }
    }

    /// Returns whether an external endpoint may as well be the host's own, since there is no range
    /// of theirs for protocols that are translated by address.
    pub(crate) fn may_be_hosts(&self, protocol: Protocol, (address, port): Endpoint) -> bool {
        protocol.is_by_address() && self.publishes.find(protocol, address, port).is_none()
    }

    /// Returns what a packet from inside that finds no session must know, if it comes from a
    /// published endpoint.
    pub(crate) fn behind(&self, protocol: Protocol, inside: Endpoint) -> Option<Behind> {
        let (entry, port) = self.publishes.find_inside(protocol, inside)?;
        let externals = &self.mappings.externals;
        let is_of_entry = |address: &Ipv4Addr| entry.external.is_none_or(|own| own == *address);
        let mut adopters = externals
            .iter()
            .map(|(_, external)| external.address)
            .filter(is_of_entry)
            .filter_map(|address| self.adopter(protocol, (address, port)));
        let owner = adopters.next().unwrap_or(self.slice_of(entry.owner));
        let is_alone = entry.targets.len() == 1;
        let address = match entry.external {
            _ if !is_alone => None,
            Some(address) => externals.contains(address).then_some(address),
            None => self.address_of(inside.0),
        };
        Some(Behind {
            owner,
            identity: address.map(|address| (address, port)),
        })
    }

    /// Returns the external address that an inside host has, or will get first.
    fn address_of(&self, host: Ipv4Addr) -> Option<Ipv4Addr> {
        let externals = &self.mappings.externals;
        let paired = self.hosts.find(host).and_then(|id| self.hosts.paired(id));
        let slot = paired.or_else(|| externals.choice(host, 0))?;
        Some(externals.get(slot)?.address)
    }

    /// Returns where a packet from inside that finds no session here belongs, if not here.
    pub(crate) fn leads_elsewhere(
        &self,
        protocol: Protocol,
        behind: Option<Behind>,
    ) -> Option<Outcome> {
        let owner = match behind {
            Some(behind) => behind.owner,
            // One that is off has no owner, and is refused here.
            None => self.owner_by_address(protocol)?,
        };
        (owner != self.config.slice).then_some(Outcome::Elsewhere { owner })
    }

    /// Opens a session for a stranger's packet to a published port; `None` if it is not published.
    pub(crate) fn open_published(
        &mut self,
        flow: &Flow,
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
        flow: &Flow,
        inside: Option<Endpoint>,
        external: Endpoint,
        remote: Endpoint,
        now: Nanos,
    ) -> Result<u32, Reason> {
        let inside = inside.filter(|_| flow.begins());
        let inside = inside.ok_or(Reason::Unsolicited)?;
        let connection = Connection::open(flow)?;
        self.check_strangers(connection, (external, remote), now)?;
        // The target speaks with this remote by another port already, and its answers would be
        // that session's: whoever forges the remote must not end it.
        let taken = self.sessions.find_outbound(flow.protocol, inside, remote);
        if self.alive(taken, now).is_some() {
            return Err(Reason::Unsolicited);
        }
        let host = self.enter(inside.0, now)?;
        let room = self.make_room_for_stranger(host, connection, now);
        let opened = room.and_then(|()| {
            let ends = (inside, external, remote);
            let what = (flow.protocol, connection);
            self.begin(Side::Outside, what, ends, now, UNMAPPED)
        });
        self.settle(host, opened)
    }

    /// Opens a session for a packet from a published endpoint, which keeps its published identity;
    /// `None` if another session has that towards this remote.
    pub(crate) fn open_as_published(
        &mut self,
        flow: &Flow,
        inside: Endpoint,
        external: Endpoint,
        remote: Endpoint,
        now: Nanos,
    ) -> Option<Result<u32, Reason>> {
        let taken = self.sessions.find_inbound(flow.protocol, external, remote);
        if self.alive(taken, now).is_some() {
            return None;
        }
        Some(self.admit_published(flow, (inside, external, remote), now))
    }

    fn admit_published(
        &mut self,
        flow: &Flow,
        ends: (Endpoint, Endpoint, Endpoint),
        now: Nanos,
    ) -> Result<u32, Reason> {
        let connection = Connection::open(flow)?;
        let host = self.enter(ends.0.0, now)?;
        let room = self.make_room(host, connection, now);
        let opened = room.and_then(|()| {
            let what = (flow.protocol, connection);
            self.begin(Side::Inside, what, ends, now, UNMAPPED)
        });
        self.settle(host, opened)
    }

    /// Counts a session that has just been stored.
    pub(crate) fn opened(&mut self, id: u32) {
        self.counters.sessions_created += 1;
        let Some(session) = self.sessions.get(id) else {
            return;
        };
        self.tell_begin(session);
        if session.origin == Side::Outside {
            let kind = Kind::of_provisional(session);
            self.strangers.opened(&mut self.links, id, kind);
        }
        if !self.adoptions.is_empty()
            && let Some(place) = self.place(session.protocol, session.external())
        {
            self.adoptions.opened(place);
        }
        self.note_open(id);
    }

    /// Counts a session that has just been taken out.
    pub(crate) fn ended(&mut self, id: u32, session: &Session) {
        self.counters.sessions_removed += 1;
        self.note_end(session);
        self.tell_end(session);
        if session.origin == Side::Outside {
            let kind = Kind::of_provisional(session);
            self.strangers.ended(&mut self.links, id, kind);
        }
        if !self.adoptions.is_empty()
            && let Some(place) = self.place(session.protocol, session.external())
        {
            if self.is_on_trial() && self.adoptions.has_one(place) {
                self.part_adopted();
            }
            if let Some(adopted) = &self.adopted {
                self.adoptions.ended(adopted, place, self.config.slice);
            }
        }
    }
}
