//! Which remote addresses a mapping has sessions with.

use std::net::Ipv4Addr;

use crate::hash::HashKey;
use crate::index::Index;
use crate::slab::Slab;

/// How many sessions a mapping has with each remote address: what address-dependent filtering
/// asks for every stranger. Kept only if that filtering is configured.
pub(crate) struct Peers {
    slab: Slab<Peer>,
    index: Index,
    key: HashKey,
}

#[derive(Clone)]
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

    /// Lays the tables aside; see [`Cells::lay_aside`](crate::cells::Cells::lay_aside).
    pub(crate) fn lay_aside(&mut self) -> Self {
        Self {
            slab: self.slab.lay_aside(),
            index: self.index.lay_aside(),
            key: self.key,
        }
    }

    pub(crate) fn take_back(&mut self, twin: Self) {
        self.slab.take_back(twin.slab);
        self.index.take_back(twin.index);
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
