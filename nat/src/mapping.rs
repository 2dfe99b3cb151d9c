//! Mappings: which external endpoint stands for which inside endpoint, whatever the destination.
//!
//! A mapping is endpoint-independent (RFC 4787 REQ-1): all sessions of one inside address and
//! port share it, and it ends with the last of them. The inside endpoint finds it through a keyed
//! hash, the external one through a plain array for each address.
//!
//! Only when no TCP port is left may one stand for several inside endpoints (RFC 7857 section 3,
//! [`Mappings::share`]). The port then has a list of mappings: the first is the one whom strangers
//! reach where the filtering admits them, all others are only there for the remotes of their own
//! sessions. The caller sees to it that no two of them have a session with the same remote
//! endpoint; an inside endpoint may for that reason have a second mapping, and its sessions find
//! the one they can use ([`Mappings::find_inside`]).

mod ahead;

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use crate::Nanos;
use crate::adopted::Adopted;
use crate::externals::Externals;
use crate::hash::HashKey;
use crate::index::Index;
use crate::outcome::Reason;
use crate::pool::{Holder, Wish, same_class};
use crate::recent::Hashes;
use crate::rewrite::Protocol;
use crate::session::Endpoint;
use crate::slab::{Slab, at};

/// Numbers of the random sequence that the choice of a free port leaves to that of a shared one.
const SHARE_PROBES_FROM: u32 = 64;
/// The number that is hashed with an inside endpoint to find its mapping: not zero.
const FIND: u32 = 1;
/// Mappings at once at least, if there can be as many sessions: addresses may be added, ports be
/// shared, and SCTP and protocols without ports use none of the range. A table of 11 MiB.
const MAPPINGS_MIN: usize = 3 << 16;

/// One mapping, in 48 bytes.
#[derive(Clone)]
pub(crate) struct Mapping {
    pub(crate) protocol: Protocol,
    pub(crate) inside: Endpoint,
    pub(crate) external: Endpoint,
    /// Slot of the external address.
    slot: u16,
    /// Account of the inside host.
    pub(crate) host: u32,
    /// Sessions that use it, and how many of them are finished.
    sessions: u32,
    finished: u32,
    /// Other mappings of the same port, plus one; 0 for none.
    prev: u32,
    next: u32,
    /// When it is dead unless an inside packet refreshes it: the latest of its sessions'
    /// deadlines, so that what strangers send cannot prolong it (RFC 4787 REQ-6).
    pub(crate) deadline: Nanos,
}

impl Mapping {
    /// Returns whether the external port is another inside endpoint's too.
    pub(crate) fn is_shared(&self) -> bool {
        self.prev != 0 || self.next != 0
    }

    /// Returns whether it has no session.
    pub(crate) fn is_unused(&self) -> bool {
        self.sessions == 0
    }

    /// Returns whether nothing would miss it: all its sessions are finished.
    pub(crate) fn is_finished(&self) -> bool {
        self.sessions == self.finished
    }

    pub(crate) fn slot(&self) -> u32 {
        self.slot.into()
    }

    /// Returns the mappings before and after it on the same port.
    fn neighbours(&self) -> (Option<u32>, Option<u32>) {
        (self.prev.checked_sub(1), self.next.checked_sub(1))
    }
}

/// The port that a mapping has left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Left {
    protocol: Protocol,
    slot: u32,
    port: u16,
    /// Account of the inside host.
    pub(crate) host: u32,
}

impl From<&Mapping> for Left {
    fn from(mapping: &Mapping) -> Self {
        Self {
            protocol: mapping.protocol,
            slot: mapping.slot(),
            port: mapping.external.1,
            host: mapping.host,
        }
    }
}

/// For whom a mapping is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) protocol: Protocol,
    pub(crate) inside: Endpoint,
    /// What [`Mappings::hash`] makes of these two.
    pub(crate) hash: u64,
    /// Account of the inside host.
    pub(crate) host: u32,
    /// Slot of the address that the host has, if it has mappings.
    pub(crate) paired: Option<u32>,
}

/// The mappings of one slice of all external addresses.
pub(crate) struct Mappings {
    slab: Slab<Mapping>,
    index: Index,
    pub(crate) externals: Externals,
    hashes: Hashes,
    draw_key: HashKey,
    preserve_ids: bool,
    /// Latest time heard of, at which ports come free.
    now: Nanos,
    /// Who has adopted what, and the number of this slice.
    adopted: Option<(Arc<Adopted>, u16)>,
    /// Ports of this slice that were found adopted by another, and are reserved since.
    parked: VecDeque<(Protocol, u32, u16)>,
}

impl Mappings {
    /// Takes memory for every port of the slice, and for as many mappings as there are ports, or
    /// [`MAPPINGS_MIN`], but for no more than sessions: each has one at least.
    pub(crate) fn new(config: &crate::Config, seed: u64) -> Self {
        let externals = Externals::new(config, HashKey::new(seed, 6));
        let max = externals.ports_in_range().max(MAPPINGS_MIN);
        let max = max.min(at(config.sessions_max));
        Self {
            slab: Slab::new(max),
            index: Index::new(max),
            externals,
            hashes: Hashes::new(HashKey::new(seed, 2)),
            draw_key: HashKey::new(seed, 3),
            preserve_ids: config.preserve_ids,
            now: Nanos::ZERO,
            adopted: None,
            parked: VecDeque::new(),
        }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        let tables = self.slab.memory() + self.index.memory() + self.externals.memory();
        tables + self.hashes.memory()
    }

    /// Returns where the tables lie that are reached into at random.
    pub(crate) fn rooms(&self) -> [Range<*const u8>; 2] {
        [self.slab.room(), self.index.room()]
    }

    /// Heeds the ports that other slices adopt: they are not handed out here.
    pub(crate) fn heed(&mut self, adopted: Arc<Adopted>, slice: u16) {
        self.adopted = Some((adopted, slice));
    }

    /// Keeps published ports of one address, or of each, from mappings to come, or no longer.
    pub(crate) fn reserve(
        &mut self,
        protocol: Protocol,
        address: Option<Ipv4Addr>,
        ports: &RangeInclusive<u16>,
        is_reserved: bool,
    ) {
        for external in self.externals.iter_mut() {
            if address.is_none_or(|address| address == external.address)
                && let Some(pool) = external.pool_mut(protocol)
            {
                pool.reserve(ports, is_reserved);
            }
        }
    }

    /// Looks at up to `budget` ports found adopted, and lets mappings have those again that are
    /// adopted no longer, and not `published` meanwhile.
    pub(crate) fn unpark(
        &mut self,
        budget: usize,
        published: impl Fn(Protocol, Ipv4Addr, u16) -> bool,
    ) {
        for _ in 0..budget.min(self.parked.len()) {
            let Some((protocol, slot, port)) = self.parked.pop_front() else {
                return;
            };
            if self.is_elsewhere(protocol, slot, port) {
                self.parked.push_back((protocol, slot, port));
            } else if let Some(external) = self.externals.get_mut(slot)
                && !published(protocol, external.address, port)
                && let Some(pool) = external.pool_mut(protocol)
            {
                pool.reserve(&(port..=port), false);
            }
        }
    }

    fn is_elsewhere(&self, protocol: Protocol, slot: u32, port: u16) -> bool {
        self.adopted.as_ref().is_some_and(|(adopted, slice)| {
            let owner = adopted.owner(protocol, at(slot), port);
            owner.is_some_and(|owner| owner != *slice)
        })
    }

    /// Returns the time of the last [`tick`](Self::tick).
    pub(crate) fn now(&self) -> Nanos {
        self.now
    }

    /// Takes note of the time.
    pub(crate) fn tick(&mut self, now: Nanos) {
        self.now = self.now.max(now);
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Mapping> {
        self.slab.get(id)
    }

    /// Hashes an inside endpoint, for it to be found by.
    pub(crate) fn hash(&mut self, protocol: Protocol, inside: Endpoint) -> u64 {
        self.hashes.of_words(words(protocol, inside, FIND))
    }

    /// Finds the mapping of an inside endpoint that `usable` accepts, by its hash.
    pub(crate) fn find_inside(
        &self,
        hash: u64,
        (protocol, inside): (Protocol, Endpoint),
        mut usable: impl FnMut(&Mapping) -> bool,
    ) -> Option<u32> {
        self.index.find(hash, |id| {
            self.slab.get(id).is_some_and(|mapping| {
                mapping.inside == inside && mapping.protocol == protocol && usable(mapping)
            })
        })
    }

    /// Finds the first mapping behind an external endpoint.
    pub(crate) fn find_external(&self, protocol: Protocol, external: Endpoint) -> Option<u32> {
        let slot = self.externals.slot_of(external.0)?;
        self.externals.get(slot)?.first(protocol, external.1)
    }

    /// Makes a mapping without sessions.
    ///
    /// The port is the inside one if it is free. Else it is drawn by a keyed function of the
    /// inside endpoint (RFC 6056 section 3.3.3): outsiders cannot guess it, yet the same
    /// endpoint tends to get the same port again, so that connections survive a flush. SCTP's port
    /// is the inside one or none, and a protocol without ports has port 0.
    ///
    /// # Errors
    /// No port is left on the host's address, or, for a host without one, on any.
    pub(crate) fn create(&mut self, wanted: Wanted) -> Result<u32, Reason> {
        let wish = match wanted.protocol {
            Protocol::Tcp | Protocol::Udp => Wish::Like(wanted.inside.1),
            Protocol::Icmp if self.preserve_ids => Wish::Prefer(wanted.inside.1),
            Protocol::Icmp | Protocol::Other(_) => Wish::Any,
            Protocol::Sctp => Wish::Exactly(wanted.inside.1),
        };
        match wanted.paired {
            Some(slot) => self.create_at(wanted, slot, wish),
            None => self.create_anywhere(wanted, wish),
        }
    }

    fn create_anywhere(&mut self, wanted: Wanted, wish: Wish) -> Result<u32, Reason> {
        let mut result = Err(exhausted(wanted.protocol));
        for n in 0..self.externals.len() {
            let Some(slot) = self.externals.choice(wanted.inside.0, n) else {
                break;
            };
            result = self.create_at(wanted, slot, wish);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// Makes a mapping on the port that another mapping of the same host has just left.
    ///
    /// # Errors
    /// The port does not suit (it is of the other class, RFC 4787 REQ-3a), nor is another left.
    pub(crate) fn create_instead(&mut self, wanted: Wanted, left: Left) -> Result<u32, Reason> {
        let port = left.port;
        let suits = wanted.protocol == left.protocol && same_class(wanted.inside.1, port);
        let exactly = suits.then(|| self.create_at(wanted, left.slot, Wish::Exactly(port)));
        match exactly {
            // It may be published meanwhile.
            None | Some(Err(Reason::PortsExhausted)) => {
                self.create_at(wanted, left.slot, Wish::Like(wanted.inside.1))
            }
            Some(created) => created,
        }
    }

    fn create_at(&mut self, wanted: Wanted, slot: u32, wish: Wish) -> Result<u32, Reason> {
        let Wanted {
            protocol, inside, ..
        } = wanted;
        let draw_key = self.draw_key;
        let random = |n| draw(draw_key, protocol, inside, n);
        let who = Holder {
            host: inside.0,
            now: self.now,
        };
        let none = exhausted(protocol);
        let port = loop {
            let external = self.externals.get_mut(slot).ok_or(none)?;
            let Some(pool) = external.pool_mut(protocol) else {
                break 0;
            };
            let port = pool.take(wish, who, random).ok_or(none)?;
            if !self.is_elsewhere(protocol, slot, port) {
                break port;
            }
            // Each port is found so once, until `unpark` lets it go.
            self.park(protocol, slot, port);
        };
        self.put(wanted, slot, port)
    }

    fn park(&mut self, protocol: Protocol, slot: u32, port: u16) {
        let external = self.externals.get_mut(slot);
        if let Some(pool) = external.and_then(|external| external.pool_mut(protocol)) {
            pool.park(port);
            self.parked.push_back((protocol, slot, port));
        }
    }

    /// Makes a mapping without sessions on this very external endpoint, whose port may be another
    /// slice's.
    ///
    /// # Errors
    /// The address is not there, the port or the inside endpoint has a mapping, or there is no
    /// room.
    pub(crate) fn restore(&mut self, wanted: Wanted, external: Endpoint) -> Result<u32, Reason> {
        let none = exhausted(wanted.protocol);
        let slot = self.externals.slot_of(external.0).ok_or(none)?;
        if self.is_elsewhere(wanted.protocol, slot, external.1) {
            return Err(none);
        }
        let claimed = self.externals.get_mut(slot);
        if !claimed.is_some_and(|address| address.claim(wanted.protocol, external.1)) {
            return Err(none);
        }
        self.put(wanted, slot, external.1)
    }

    /// Stores a mapping on a port that has been taken.
    fn put(&mut self, wanted: Wanted, slot: u32, port: u16) -> Result<u32, Reason> {
        let protocol = wanted.protocol;
        let external = self.externals.get(slot).ok_or(exhausted(protocol))?;
        let endpoint = (external.address, port);
        match self.insert(wanted, slot, endpoint) {
            Some(id) => {
                if let Some(external) = self.externals.get_mut(slot) {
                    external.set_first(protocol, port, Some(id));
                }
                Ok(id)
            }
            None => {
                self.release(protocol, slot, port, wanted.inside.0);
                Err(Reason::SessionsExhausted)
            }
        }
    }

    /// Returns the first mapping of a TCP port that a host's flow might share, the n-th to be
    /// tried; the host's own address, or the one it would get, and the class are kept.
    pub(crate) fn shareable(&self, wanted: Wanted, n: u32) -> Option<u32> {
        let slot = match wanted.paired {
            Some(slot) => slot,
            None => self.externals.choice(wanted.inside.0, 0)?,
        };
        let external = self.externals.get(slot)?;
        let (protocol, inside) = (wanted.protocol, wanted.inside);
        let random = |n| draw(self.draw_key, protocol, inside, SHARE_PROBES_FROM + n);
        let port = external.pool(protocol)?.probe(inside.1, n, random)?;
        external.first(protocol, port)
    }

    /// Makes a mapping on the port of another one, after which it comes.
    ///
    /// # Errors
    /// The table is full.
    pub(crate) fn share(&mut self, wanted: Wanted, first: u32) -> Result<u32, Reason> {
        let other = self.slab.get(first).ok_or(Reason::PortsExhausted)?;
        let (slot, external, (_, second)) = (other.slot(), other.external, other.neighbours());
        let id = self.insert(wanted, slot, external);
        let id = id.ok_or(Reason::SessionsExhausted)?;
        self.link(Some(first), Some(id));
        self.link(Some(id), second);
        Ok(id)
    }

    fn link(&mut self, prev: Option<u32>, next: Option<u32>) {
        if let Some(mapping) = prev.and_then(|id| self.slab.get_mut(id)) {
            mapping.next = next.map_or(0, |id| id + 1);
        }
        if let Some(mapping) = next.and_then(|id| self.slab.get_mut(id)) {
            mapping.prev = prev.map_or(0, |id| id + 1);
        }
    }

    fn insert(&mut self, wanted: Wanted, slot: u32, external: Endpoint) -> Option<u32> {
        let id = self.slab.insert(Mapping {
            protocol: wanted.protocol,
            inside: wanted.inside,
            external,
            host: wanted.host,
            sessions: 0,
            finished: 0,
            // Below EXTERNALS_MAX.
            slot: u16::try_from(slot).ok()?,
            prev: 0,
            next: 0,
            deadline: Nanos::ZERO,
        })?;
        if self.index.insert(wanted.hash, id) {
            return Some(id);
        }
        self.slab.remove(id);
        None
    }

    fn release(&mut self, protocol: Protocol, slot: u32, port: u16, host: Ipv4Addr) {
        let now = self.now;
        let external = self.externals.get_mut(slot);
        if let Some(pool) = external.and_then(|external| external.pool_mut(protocol)) {
            pool.release(port, Holder { host, now });
        }
    }

    /// Counts one more session.
    pub(crate) fn add_session(&mut self, id: u32) {
        if let Some(mapping) = self.slab.get_mut(id) {
            mapping.sessions += 1;
        }
    }

    /// Counts one more session, which lives until `deadline` at least; returns the account of the
    /// inside host.
    pub(crate) fn join(&mut self, id: u32, deadline: Nanos) -> Option<u32> {
        let mapping = self.slab.get_mut(id)?;
        mapping.sessions += 1;
        mapping.deadline = mapping.deadline.max(deadline);
        Some(mapping.host)
    }

    /// Counts a session as finished, or as live again.
    pub(crate) fn set_finished(&mut self, id: u32, is_finished: bool) {
        if let Some(mapping) = self.slab.get_mut(id) {
            mapping.finished = if is_finished {
                mapping.finished + 1
            } else {
                mapping.finished.saturating_sub(1)
            };
        }
    }

    /// Counts one session less.
    pub(crate) fn remove_session(&mut self, id: u32) {
        if let Some(mapping) = self.slab.get_mut(id) {
            mapping.sessions = mapping.sessions.saturating_sub(1);
        }
    }

    /// Removes a mapping and gives its port back.
    pub(crate) fn remove(&mut self, id: u32) {
        let Some(mapping) = self.slab.get(id) else {
            return;
        };
        let (protocol, inside, port) = (mapping.protocol, mapping.inside, mapping.external.1);
        let (slot, is_shared) = (mapping.slot(), mapping.is_shared());
        let (prev, next) = mapping.neighbours();
        self.slab.vacate(id);
        let hash = self.hash(protocol, inside);
        self.index.remove(hash, id);
        self.link(prev, next);
        if prev.is_none()
            && let Some(external) = self.externals.get_mut(slot)
        {
            external.set_first(protocol, port, next);
        }
        if !is_shared {
            self.release(protocol, slot, port, inside.0);
        }
    }

    /// Lets the mapping live until `deadline` at least.
    pub(crate) fn prolong(&mut self, id: u32, deadline: Nanos) {
        if let Some(mapping) = self.slab.get_mut(id) {
            mapping.deadline = mapping.deadline.max(deadline);
        }
    }

    /// Frees ports that were held long enough, up to `budget` of each address and protocol.
    pub(crate) fn let_go(&mut self, budget: usize) {
        let now = self.now;
        for external in self.externals.iter_mut() {
            external.let_go(now, budget);
        }
    }

    /// Returns how many ports of a protocol are mapped, and how many are held for their last
    /// hosts, on all addresses together.
    pub(crate) fn ports(&self, protocol: Protocol) -> (u32, u32) {
        self.externals
            .iter()
            .filter_map(|(_, external)| external.pool(protocol))
            .fold((0, 0), |(used, held), pool| {
                (used + pool.used(), held + pool.held())
            })
    }

    /// Lays the tables aside; see [`Cells::lay_aside`](crate::cells::Cells::lay_aside).
    pub(crate) fn lay_aside(&mut self) -> Self {
        let Self {
            ref mut slab,
            ref mut index,
            ref mut externals,
            ref hashes,
            draw_key,
            preserve_ids,
            now,
            ref adopted,
            ref parked,
        } = *self;
        Self {
            slab: slab.lay_aside(),
            index: index.lay_aside(),
            externals: externals.lay_aside(),
            hashes: hashes.clone(),
            draw_key,
            preserve_ids,
            now,
            adopted: adopted.clone(),
            parked: parked.clone(),
        }
    }

    pub(crate) fn take_back(&mut self, twin: Self) {
        self.slab.take_back(twin.slab);
        self.index.take_back(twin.index);
        self.externals.take_back(twin.externals);
    }
}

/// Why there is no mapping when no port is left.
fn exhausted(protocol: Protocol) -> Reason {
    match protocol {
        Protocol::Sctp => Reason::ProtocolBusy,
        Protocol::Tcp | Protocol::Udp | Protocol::Icmp | Protocol::Other(_) => {
            Reason::PortsExhausted
        }
    }
}

fn draw(key: HashKey, protocol: Protocol, inside: Endpoint, n: u32) -> u32 {
    let (endpoint, rest) = words(protocol, inside, n);
    u32::try_from(key.hash(endpoint, rest) >> 32).unwrap_or(0)
}

/// An inside endpoint in two words, with a number.
fn words(protocol: Protocol, inside: Endpoint, n: u32) -> (u64, u64) {
    let endpoint = u64::from(inside.0.to_bits()) << 32 | u64::from(inside.1);
    (endpoint, u64::from(protocol.number()) << 32 | u64::from(n))
}
