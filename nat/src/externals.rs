//! The external addresses of one slice, and which of them an inside host has.
//!
//! A host keeps one address for all its mappings ("paired", RFC 4787 REQ-2, RFC 7857 section 4):
//! peers that see two flows of one host take them for one host. It is chosen by a keyed hash, so
//! that hosts spread evenly, and a host finds the same one again after a flush. Addresses come and
//! go without disturbing the mappings on those that stay: a mapping names its *slot*, which an
//! address keeps as long as it is there.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use crate::Nanos;
use crate::cells::Cells;
use crate::config::EXTERNALS_MAX;
use crate::engine::Nat;
use crate::hash::HashKey;
use crate::pool::{Pool, ports_of};
use crate::remains::HeldPort;
use crate::rewrite::Protocol;
use crate::slab::at;

/// The ports of one slice, of each protocol that has any.
type Ports = [RangeInclusive<u16>; Protocol::COUNT];

/// The ports of one external address.
pub(crate) struct External {
    pub(crate) address: Ipv4Addr,
    pools: [Pool; Protocol::COUNT],
    /// The first mapping of each port, plus one; 0: none.
    first: [Cells<u32>; Protocol::COUNT],
    /// Mappings on ports of other slices, which this one has adopted, by protocol and port.
    foreign: BTreeMap<(u8, u16), u32>,
}

impl External {
    fn new(address: Ipv4Addr, ports: &Ports, hold: Nanos) -> Self {
        let holds = Protocol::ALL.map(|protocol| match protocol {
            Protocol::Tcp | Protocol::Udp | Protocol::Icmp => hold,
            // What is late for the last host has tags that no other takes (RFC 9260 section 8.5),
            // and a port that must be kept must not be kept away.
            Protocol::Sctp | Protocol::Other(_) => Nanos::ZERO,
        });
        let pools =
            std::array::from_fn(|protocol| Pool::new(ports[protocol].clone(), holds[protocol]));
        let first = pools
            .each_ref()
            .map(|pool: &Pool| Cells::defaults(pool.size()));
        Self {
            address,
            pools,
            first,
            foreign: BTreeMap::new(),
        }
    }

    pub(crate) fn pool(&self, protocol: Protocol) -> Option<&Pool> {
        self.pools.get(protocol.index())
    }

    pub(crate) fn pool_mut(&mut self, protocol: Protocol) -> Option<&mut Pool> {
        self.pools.get_mut(protocol.index())
    }

    /// Frees ports that were held long enough, up to `budget` of each protocol.
    pub(crate) fn let_go(&mut self, now: Nanos, budget: usize) {
        for pool in &mut self.pools {
            pool.let_go(now, budget);
        }
    }

    /// Returns the first mapping of a port, which may be of another slice.
    pub(crate) fn first(&self, protocol: Protocol, port: u16) -> Option<u32> {
        match self.pool(protocol)?.offset_of(port) {
            Some(offset) => self.first[protocol.index()].copy(offset).checked_sub(1),
            None => self.foreign.get(&(protocol.number(), port)).copied(),
        }
    }

    /// Returns where it is noted which is the first mapping of a port of this slice.
    pub(crate) fn first_place(&self, protocol: Protocol, port: u16) -> Option<*const u8> {
        let offset = self.pool(protocol)?.offset_of(port)?;
        let place = self.first[protocol.index()].get(offset)?;
        Some(std::ptr::from_ref(place).cast())
    }

    /// Notes the first mapping of a port; a protocol without ports has none.
    pub(crate) fn set_first(&mut self, protocol: Protocol, port: u16, id: Option<u32>) {
        let Some(pool) = self.pool(protocol) else {
            return;
        };
        match (pool.offset_of(port), id) {
            (Some(offset), _) => {
                self.first[protocol.index()].set(offset, id.map_or(0, |id| id + 1));
            }
            (None, Some(id)) => {
                self.foreign.insert((protocol.number(), port), id);
            }
            (None, None) => {
                self.foreign.remove(&(protocol.number(), port));
            }
        }
    }

    /// Takes this very port for a mapping, unless it has one; ports of other slices are free here.
    #[must_use]
    pub(crate) fn claim(&mut self, protocol: Protocol, port: u16) -> bool {
        if self.first(protocol, port).is_some() {
            return false;
        }
        self.pool_mut(protocol)
            .is_none_or(|pool| pool.offset_of(port).is_none() || pool.claim(port))
    }

    fn held_ports(&self) -> impl Iterator<Item = HeldPort> {
        let address = self.address;
        let pools = Protocol::ALL.into_iter().zip(&self.pools);
        pools.flat_map(move |(protocol, pool)| {
            pool.held_ports().map(move |(port, host, until)| HeldPort {
                protocol,
                address,
                port,
                host,
                until,
            })
        })
    }

    fn memory(&self) -> usize {
        let first = self.first.iter().map(Cells::memory);
        first.chain(self.pools.iter().map(Pool::memory)).sum()
    }

    fn lay_aside(&mut self) -> Self {
        Self {
            address: self.address,
            pools: self.pools.each_mut().map(Pool::lay_aside),
            first: self.first.each_mut().map(Cells::lay_aside),
            foreign: self.foreign.clone(),
        }
    }

    fn take_back(&mut self, twin: Self) {
        for (pool, twin) in self.pools.iter_mut().zip(twin.pools) {
            pool.take_back(twin);
        }
        for (first, twin) in self.first.iter_mut().zip(twin.first) {
            first.take_back(twin);
        }
    }
}

/// All external addresses.
pub(crate) struct Externals {
    slots: Vec<Option<External>>,
    /// The addresses in order, each with its slot.
    sorted: Vec<(Ipv4Addr, u32)>,
    ports: Ports,
    hold: Nanos,
    key: HashKey,
}

impl Externals {
    pub(crate) fn new(config: &crate::Config, key: HashKey) -> Self {
        let mut externals = Self {
            slots: Vec::new(),
            sorted: Vec::new(),
            ports: Protocol::ALL.map(|protocol| ports_of(protocol, config)),
            hold: config.port_hold,
            key,
        };
        let addresses: Vec<_> = std::iter::once(config.external)
            .chain(config.pool.iter().copied())
            .collect();
        externals.replace(&addresses);
        externals
    }

    /// Makes these the external addresses; those that were there already keep their slots and
    /// their mappings. Those that go must have no mapping any more.
    pub(crate) fn replace(&mut self, addresses: &[Ipv4Addr]) {
        for slot in &mut self.slots {
            slot.take_if(|external| !addresses.contains(&external.address));
        }
        for &address in addresses {
            if self.iter().any(|(_, external)| external.address == address) {
                continue;
            }
            let new = Some(External::new(address, &self.ports, self.hold));
            match self.slots.iter().position(Option::is_none) {
                Some(vacant) => self.slots[vacant] = new,
                None => self.slots.push(new),
            }
        }
        self.sorted = self.iter().map(|(slot, e)| (e.address, slot)).collect();
        self.sorted.sort_unstable();
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Option<External>>()
            + self.sorted.capacity() * size_of::<(Ipv4Addr, u32)>()
            + self.iter().map(|(_, e)| e.memory()).sum::<usize>()
    }

    /// Returns how many ports of the configured range there are, all protocols and addresses
    /// together.
    pub(crate) fn ports_in_range(&self) -> usize {
        let of_each = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp];
        let ports = of_each.map(|protocol| self.ports[protocol.index()].len());
        self.len() * ports.iter().sum::<usize>()
    }

    /// Lays the tables aside; see [`Cells::lay_aside`].
    pub(crate) fn lay_aside(&mut self) -> Self {
        let lay_aside = |slot: &mut Option<External>| slot.as_mut().map(External::lay_aside);
        Self {
            slots: self.slots.iter_mut().map(lay_aside).collect(),
            sorted: self.sorted.clone(),
            ports: self.ports.clone(),
            hold: self.hold,
            key: self.key,
        }
    }

    pub(crate) fn take_back(&mut self, twin: Self) {
        for (slot, twin) in self.slots.iter_mut().zip(twin.slots) {
            if let (Some(external), Some(twin)) = (slot, twin) {
                external.take_back(twin);
            }
        }
    }

    /// Returns the external address if there is but one.
    pub(crate) fn only(&self) -> Option<&External> {
        match self.sorted.as_slice() {
            [(_, slot)] => self.get(*slot),
            _ => None,
        }
    }

    /// Returns whether an address is one of ours.
    #[inline]
    /// Returns all ports that are held.
    pub(crate) fn held_ports(&self) -> impl Iterator<Item = HeldPort> {
        self.iter().flat_map(|(_, external)| external.held_ports())
    }

    /// Holds a port that is free.
    pub(crate) fn hold(&mut self, held: &HeldPort) {
        let slot = self.slot_of(held.address);
        let external = slot.and_then(|slot| self.get_mut(slot));
        if let Some(pool) = external.and_then(|external| external.pool_mut(held.protocol)) {
            pool.hold(held.port, held.host, held.until);
        }
    }

    pub(crate) fn contains(&self, address: Ipv4Addr) -> bool {
        match self.sorted.as_slice() {
            // Asked for every packet, and most often there is but one.
            [(only, _)] => *only == address,
            _ => self.slot_of(address).is_some(),
        }
    }

    /// Returns the slot of an address.
    pub(crate) fn slot_of(&self, address: Ipv4Addr) -> Option<u32> {
        let found = self.sorted.binary_search_by_key(&address, |&(a, _)| a);
        found.ok().map(|at| self.sorted[at].1)
    }

    /// Returns how many addresses there are.
    pub(crate) fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Returns the slot that a host tries as its `n`-th, from 0: the first is its own by the
    /// keyed hash.
    pub(crate) fn choice(&self, host: Ipv4Addr, n: usize) -> Option<u32> {
        let hash = self.key.hash(host.to_bits().into(), 0) >> 32;
        // Lemire's multiplication, as in the choice of ports.
        let first = usize::try_from((hash * self.len() as u64) >> 32).unwrap_or(0);
        let (_, slot) = self.sorted.get((first + n) % self.len().max(1))?;
        Some(*slot)
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&External> {
        self.slots.get(at(slot))?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut External> {
        self.slots.get_mut(at(slot))?.as_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &External)> {
        (0..)
            .zip(&self.slots)
            .filter_map(|(slot, external)| Some((slot, external.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut External> {
        self.slots.iter_mut().flatten()
    }
}

impl Nat {
    /// Changes the external address to this one alone: see [`Nat::set_externals`].
    pub fn set_external(&mut self, external: Ipv4Addr) {
        self.set_externals(&[external]);
    }

    /// Changes the external addresses to these, of which [`EXTERNALS_MAX`] count and repeated ones
    /// once; an empty list changes nothing.
    ///
    /// Sessions on an address that is gone are of no use, so they end (the kernel's masquerade
    /// does the same); those on one that stays live on.
    pub fn set_externals(&mut self, addresses: &[Ipv4Addr]) {
        let mut different = Vec::new();
        for &address in addresses {
            if !different.contains(&address) && different.len() < EXTERNALS_MAX {
                different.push(address);
            }
        }
        let Some((&external, pool)) = different.split_first() else {
            return;
        };
        let addresses = different.as_slice();
        let before = self.sessions.len();
        for id in 0..self.sessions.end() {
            let session = self.sessions.get(id);
            if session.is_some_and(|session| !addresses.contains(&session.external().0)) {
                self.remove(id);
            }
        }
        if self.sessions.len() < before {
            self.fragments.forget_decided();
        }
        self.reserve_published(false);
        self.mappings.externals.replace(addresses);
        self.config.external = external;
        self.config.pool = pool.to_vec();
        self.reserve_published(true);
    }
}
