//! Mappings: which external port stands for which inside endpoint, whatever the destination.
//!
//! A mapping is endpoint-independent (RFC 4787 REQ-1): all sessions of one inside address and
//! port share it, and it ends with the last of them. The inside endpoint finds it through a keyed
//! hash, the external port through a plain array.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use crate::Nanos;
use crate::hash::HashKey;
use crate::index::Index;
use crate::pool::{Pool, Wish, ports_of};
use crate::rewrite::Protocol;
use crate::session::Endpoint;
use crate::slab::Slab;

const NONE: u32 = u32::MAX;

pub(crate) struct Mapping {
    protocol: Protocol,
    pub(crate) inside: Endpoint,
    pub(crate) port: u16,
    /// Sessions that use it.
    sessions: u32,
    /// When it is dead unless an inside packet refreshes it: the latest of its sessions'
    /// deadlines, so that what strangers send cannot prolong it (RFC 4787 REQ-6).
    pub(crate) deadline: Nanos,
}

/// The mappings of one slice of one external address.
pub(crate) struct Mappings {
    slab: Slab<Mapping>,
    index: Index,
    by_port: [Box<[u32]>; Protocol::COUNT],
    pools: [Pool; Protocol::COUNT],
    find_key: HashKey,
    draw_key: HashKey,
    preserve_ids: bool,
}

impl Mappings {
    /// Takes memory for every port of the slice, but for no more mappings than sessions.
    pub(crate) fn new(config: &crate::Config, find_key: HashKey, draw_key: HashKey) -> Self {
        // Each mapping has a session. The first slice has SCTP's ports, and protocols without.
        let max = crate::slab::at(config.sessions_max);
        let ports = Protocol::ALL.map(|protocol| ports_of(protocol, config));
        let max = match config.slice {
            0 => max,
            _ => max.min(ports.iter().map(RangeInclusive::len).sum()),
        };
        Self {
            slab: Slab::new(max),
            index: Index::new(max),
            by_port: ports
                .clone()
                .map(|ports| vec![NONE; ports.len()].into_boxed_slice()),
            pools: ports.map(Pool::new),
            find_key,
            draw_key,
            preserve_ids: config.preserve_ids,
        }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        let by_port = self.by_port.iter().map(|ports| size_of_val::<[u32]>(ports));
        let pools = self.pools.iter().map(Pool::memory);
        self.slab.memory() + self.index.memory() + by_port.chain(pools).sum::<usize>()
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Mapping> {
        self.slab.get(id)
    }

    /// Finds the mapping of an inside endpoint.
    pub(crate) fn find_inside(&self, protocol: Protocol, inside: Endpoint) -> Option<u32> {
        self.index
            .find(hash(self.find_key, protocol, inside, 0), |id| {
                self.slab
                    .get(id)
                    .is_some_and(|mapping| mapping.inside == inside && mapping.protocol == protocol)
            })
    }

    /// Finds the mapping behind an external port.
    pub(crate) fn find_external(&self, protocol: Protocol, port: u16) -> Option<u32> {
        let offset = self.offset(protocol, port)?;
        let id = *self.by_port.get(protocol.index())?.get(offset)?;
        (id != NONE).then_some(id)
    }

    /// Makes a mapping without sessions; returns `None` if no port is left.
    ///
    /// The port is the inside one if it is free. Else it is drawn by a keyed function of the
    /// inside endpoint (RFC 6056 section 3.3.3): outsiders cannot guess it, yet the same
    /// endpoint tends to get the same port again, so that connections survive a flush. SCTP's port
    /// is the inside one or none, and a protocol without ports has port 0.
    pub(crate) fn create(&mut self, protocol: Protocol, inside: Endpoint) -> Option<u32> {
        let wish = match protocol {
            Protocol::Tcp | Protocol::Udp => Wish::Like(inside.1),
            Protocol::Icmp if self.preserve_ids => Wish::Prefer(inside.1),
            Protocol::Icmp | Protocol::Other(_) => Wish::Any,
            Protocol::Sctp => Wish::Exactly(inside.1),
        };
        if self.slab.is_full() {
            return None;
        }
        let draw_key = self.draw_key;
        let random = |n: u32| {
            let hash = hash(draw_key, protocol, inside, n);
            u32::try_from(hash >> 32).unwrap_or(0)
        };
        let port = match self.pools.get_mut(protocol.index()) {
            Some(pool) => pool.take(wish, random)?,
            None => 0,
        };
        let mapping = Mapping {
            protocol,
            inside,
            port,
            sessions: 0,
            deadline: Nanos::ZERO,
        };
        let id = self.slab.insert(mapping);
        let indexed = id.is_some_and(|id| {
            self.index
                .insert(hash(self.find_key, protocol, inside, 0), id)
        });
        let Some(id) = id.filter(|_| indexed) else {
            if let Some(id) = id {
                self.slab.remove(id);
            }
            self.give_back(protocol, port);
            return None;
        };
        self.set_owner(protocol, port, id);
        Some(id)
    }

    /// Counts one more session.
    pub(crate) fn add_session(&mut self, id: u32) {
        if let Some(mapping) = self.slab.get_mut(id) {
            mapping.sessions += 1;
        }
    }

    /// Counts one session less; the last one takes the mapping with it.
    pub(crate) fn remove_session(&mut self, id: u32) {
        if let Some(mapping) = self.slab.get_mut(id) {
            mapping.sessions = mapping.sessions.saturating_sub(1);
        }
        self.remove_if_unused(id);
    }

    /// Removes a mapping that has no session.
    pub(crate) fn remove_if_unused(&mut self, id: u32) {
        if self.slab.get(id).is_none_or(|mapping| mapping.sessions > 0) {
            return;
        }
        let Some(mapping) = self.slab.remove(id) else {
            return;
        };
        let protocol = mapping.protocol;
        self.index
            .remove(hash(self.find_key, protocol, mapping.inside, 0), id);
        self.set_owner(protocol, mapping.port, NONE);
        self.give_back(protocol, mapping.port);
    }

    /// Notes which mapping a port stands for.
    fn set_owner(&mut self, protocol: Protocol, port: u16, id: u32) {
        let offset = self.offset(protocol, port);
        let by_port = self.by_port.get_mut(protocol.index());
        if let Some(entry) = by_port
            .zip(offset)
            .and_then(|(ports, at)| ports.get_mut(at))
        {
            *entry = id;
        }
    }

    fn give_back(&mut self, protocol: Protocol, port: u16) {
        if let Some(pool) = self.pools.get_mut(protocol.index()) {
            pool.release(port);
        }
    }

    /// Lets the mapping live until `deadline` at least.
    pub(crate) fn prolong(&mut self, id: u32, deadline: Nanos) {
        if let Some(mapping) = self.slab.get_mut(id) {
            mapping.deadline = mapping.deadline.max(deadline);
        }
    }

    /// Returns how many ports of a protocol are taken.
    pub(crate) fn ports_used(&self, protocol: Protocol) -> u32 {
        self.pools.get(protocol.index()).map_or(0, Pool::used)
    }

    fn offset(&self, protocol: Protocol, port: u16) -> Option<usize> {
        let first = self.pools.get(protocol.index())?.first();
        port.checked_sub(first).map(usize::from)
    }
}

fn hash(key: HashKey, protocol: Protocol, inside: Endpoint, n: u32) -> u64 {
    let endpoint = u64::from(inside.0.to_bits()) << 32 | u64::from(inside.1);
    key.hash(endpoint, u64::from(protocol.number()) << 32 | u64::from(n))
}

/// How many sessions a mapping has with each remote address: what address-dependent filtering
/// asks for every stranger. Kept only if that filtering is configured.
pub(crate) struct Peers {
    slab: Slab<Peer>,
    index: Index,
    key: HashKey,
}

struct Peer {
    mapping: u32,
    remote: Ipv4Addr,
    sessions: u32,
}

impl Peers {
    pub(crate) fn new(sessions_max: usize, key: HashKey) -> Self {
        Self {
            slab: Slab::new(sessions_max),
            index: Index::new(sessions_max),
            key,
        }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        self.slab.memory() + self.index.memory()
    }

    /// Returns whether the mapping has a session with this address.
    pub(crate) fn contains(&self, mapping: u32, remote: Ipv4Addr) -> bool {
        self.find(mapping, remote).is_some()
    }

    /// Counts one more session; returns `false`, counting nothing, if the table is full.
    #[must_use]
    pub(crate) fn add(&mut self, mapping: u32, remote: Ipv4Addr) -> bool {
        if let Some(id) = self.find(mapping, remote) {
            if let Some(peer) = self.slab.get_mut(id) {
                peer.sessions += 1;
            }
            return true;
        }
        let Some(id) = self.slab.insert(Peer {
            mapping,
            remote,
            sessions: 1,
        }) else {
            return false;
        };
        let indexed = self.index.insert(self.hash(mapping, remote), id);
        if !indexed {
            self.slab.remove(id);
        }
        indexed
    }

    /// Counts one session less.
    pub(crate) fn remove(&mut self, mapping: u32, remote: Ipv4Addr) {
        let Some(id) = self.find(mapping, remote) else {
            return;
        };
        let Some(peer) = self.slab.get_mut(id) else {
            return;
        };
        peer.sessions -= 1;
        if peer.sessions == 0 {
            self.slab.remove(id);
            self.index.remove(self.hash(mapping, remote), id);
        }
    }

    fn find(&self, mapping: u32, remote: Ipv4Addr) -> Option<u32> {
        self.index.find(self.hash(mapping, remote), |id| {
            self.slab
                .get(id)
                .is_some_and(|peer| peer.mapping == mapping && peer.remote == remote)
        })
    }

    fn hash(&self, mapping: u32, remote: Ipv4Addr) -> u64 {
        self.key
            .hash(u64::from(mapping), u64::from(remote.to_bits()))
    }
}
