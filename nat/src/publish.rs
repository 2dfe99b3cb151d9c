//! Published ports: which inside endpoints stand behind which external ports.
//!
//! A range is one entry, however many ports it has. Only a packet that finds no session looks
//! here, twice at most, by binary search; whether a port is published at all, which every packet
//! from outside asks, is one bit.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use crate::hash::HashKey;
use crate::rewrite::Protocol;
use crate::session::Endpoint;

/// Bits of one word of [`Covered`].
const BITS: u16 = 64;

/// An inside endpoint behind a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The inside host.
    pub address: Ipv4Addr,
    /// Its port behind the first external port; the n-th external port leads to the n-th from it.
    pub port: u16,
}

/// A range of external ports that leads to inside hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The external address; `None`: each of them.
    pub external: Option<Ipv4Addr>,
    /// The external ports; not empty, without port 0.
    pub ports: RangeInclusive<u16>,
    /// Who is behind them: flows are spread over several. Empty while none is known.
    pub targets: Vec<Target>,
    /// Whether all flows of one remote address go to the same target.
    pub by_source: bool,
    /// The slice that keeps its sessions; beyond the last one it means the last one.
    pub owner: u16,
}

impl Publish {
    /// Returns the inside endpoint that a target has behind an external port of the range.
    fn behind(&self, target: Target, port: u16) -> Endpoint {
        (target.address, target.port + (port - self.ports.start()))
    }

    /// Returns whether an inside endpoint is one of those behind an external port.
    pub(crate) fn leads_to(&self, port: u16, inside: Endpoint) -> bool {
        self.targets
            .iter()
            .any(|&target| self.behind(target, port) == inside)
    }

    /// Chooses the inside endpoint for a flow; `None` if no target is known.
    ///
    /// Each target draws a lot by a keyed hash and the highest wins (rendezvous hashing, Thaler
    /// and Ravishankar 1998), so a target that goes moves its own flows and no others.
    pub(crate) fn choose(&self, key: HashKey, remote: Endpoint, port: u16) -> Option<Endpoint> {
        let address = u64::from(remote.0.to_bits()) << 32;
        let flow = match self.by_source {
            true => address,
            false => address | u64::from(remote.1) << 16 | u64::from(port),
        };
        let lot = |target: &Target| {
            let words = u64::from(target.address.to_bits()) << 16 | u64::from(target.port);
            key.hash(flow, words)
        };
        let target = match self.targets.as_slice() {
            [only] => only,
            several => several.iter().max_by_key(|target| lot(target))?,
        };
        Some(self.behind(*target, port))
    }

    fn keeps_ports(&self) -> bool {
        let first = *self.ports.start();
        self.targets.iter().all(|target| target.port == first)
    }

    fn is_valid(&self) -> bool {
        let is_published = match self.protocol {
            Protocol::Tcp | Protocol::Udp => true,
            // Its ports are not rewritten.
            Protocol::Sctp => self.keeps_ports(),
            Protocol::Icmp | Protocol::Other(_) => false,
        };
        let has_ports = !self.ports.is_empty() && *self.ports.start() != 0;
        let fits = |target: &Target| {
            let last = u32::from(target.port) + u32::from(self.ports.end() - self.ports.start());
            target.port != 0 && last <= u32::from(u16::MAX)
        };
        is_published && has_ports && self.targets.iter().all(fits)
    }

    fn order(&self) -> (u8, Option<Ipv4Addr>, u16) {
        (self.protocol.number(), self.external, *self.ports.start())
    }
}

/// Why ports cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// Two entries have an external port in common; their places in the list.
    Overlap(usize, usize),
    /// The entry at this place has no ports, port 0, a protocol without ports, or targets whose
    /// ports end beyond 65535 or, for SCTP, are not the external ones.
    Invalid(usize),
}

impl std::fmt::Display for PublishError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Overlap(first, second) => {
                write!(f, "published ports {first} and {second} overlap")
            }
            Self::Invalid(at) => write!(f, "published ports {at} are impossible"),
        }
    }
}

impl std::error::Error for PublishError {}

/// All published ports; made once, then only read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publishes {
    /// In the order of [`Publish::order`].
    entries: Vec<Publish>,
    /// Disjoint and in order.
    inside: Vec<InsidePorts>,
    covered: Covered,
}

impl Publishes {
    /// Checks the entries and orders them for look-ups.
    ///
    /// Entries that have an inside endpoint in common get the owner of the first of them, in the
    /// order of [`Publishes::iter`]: a reply can be asked of one slice only.
    ///
    /// # Errors
    /// The first [`PublishError`] in the order given.
    pub fn new(mut entries: Vec<Publish>) -> Result<Self, PublishError> {
        check(&entries)?;
        entries.sort_by_key(Publish::order);
        let (inside, first_of) = inside_ports(&entries);
        for at in 0..entries.len() {
            entries[at].owner = entries[first_of[at]].owner;
        }
        let covered = Covered::of(&entries);
        Ok(Self {
            entries,
            inside,
            covered,
        })
    }

    /// Lists the entries, ordered by protocol, external address (those of each address first)
    /// and port.
    pub fn iter(&self) -> impl Iterator<Item = &Publish> {
        self.entries.iter()
    }

    /// Returns whether nothing is published.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Finds the entry of an external address and port, in O(log n) of the number of entries.
    #[must_use]
    pub fn find(&self, protocol: Protocol, external: Ipv4Addr, port: u16) -> Option<&Publish> {
        if !self.covers(port) {
            return None;
        }
        [Some(external), None].into_iter().find_map(|address| {
            let order = (protocol.number(), address, port);
            let after = self.entries.partition_point(|e| e.order() <= order);
            let entry = &self.entries[after.checked_sub(1)?];
            let is_it = entry.protocol == protocol
                && entry.external == address
                && entry.ports.contains(&port);
            is_it.then_some(entry)
        })
    }

    /// Finds the entry behind which an inside endpoint stands, and the external port that leads
    /// to it, in O(log n) of the number of targets; of several the first, in the order of
    /// [`Publishes::iter`].
    #[must_use]
    pub fn find_inside(
        &self,
        protocol: Protocol,
        inside: (Ipv4Addr, u16),
    ) -> Option<(&Publish, u16)> {
        let order = (protocol.number(), inside.0, inside.1);
        let after = self.inside.partition_point(|ports| ports.order() <= order);
        let found = &self.inside[after.checked_sub(1)?];
        let is_it = (found.protocol, found.address) == (protocol.number(), inside.0)
            && inside.1 <= found.last;
        let entry = self.entries.get(found.entry).filter(|_| is_it)?;
        let port = entry.ports.start() + (inside.1 - entry.targets.get(found.target)?.port);
        Some((entry, port))
    }

    /// Returns whether an external endpoint leads to an inside endpoint.
    pub(crate) fn admits(&self, protocol: Protocol, external: Endpoint, inside: Endpoint) -> bool {
        self.find(protocol, external.0, external.1)
            .is_some_and(|entry| entry.leads_to(external.1, inside))
    }

    /// Returns whether a port is published for any protocol and address.
    pub(crate) fn covers(&self, port: u16) -> bool {
        self.covered.contains(port)
    }
}

/// Returns the first breach in the order given.
fn check(entries: &[Publish]) -> Result<(), PublishError> {
    type Ranges = BTreeMap<u16, (u16, usize)>;
    // Disjoint so far within one protocol and address.
    let mut accepted: BTreeMap<(u8, Option<Ipv4Addr>), Ranges> = BTreeMap::new();
    for (at, entry) in entries.iter().enumerate() {
        if !entry.is_valid() {
            return Err(PublishError::Invalid(at));
        }
        let (protocol, (start, end)) = (entry.protocol.number(), entry.ports.clone().into_inner());
        let clash = |ranges: &Ranges| {
            let (_, &(last, other)) = ranges.range(..=end).next_back()?;
            (last >= start).then_some(other)
        };
        // An entry of each address meets those of every one.
        let other = accepted
            .iter()
            .filter(|((number, address), _)| {
                *number == protocol
                    && (address.is_none() || entry.external.is_none() || *address == entry.external)
            })
            .filter_map(|(_, ranges)| clash(ranges))
            .min();
        if let Some(other) = other {
            return Err(PublishError::Overlap(other, at));
        }
        accepted
            .entry((protocol, entry.external))
            .or_default()
            .insert(start, (end, at));
    }
    Ok(())
}

/// Ports of one inside host, and the target of which entry they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct InsidePorts {
    protocol: u8,
    address: Ipv4Addr,
    first: u16,
    last: u16,
    entry: usize,
    target: usize,
}

impl InsidePorts {
    fn order(&self) -> (u8, Ipv4Addr, u16) {
        (self.protocol, self.address, self.first)
    }
}

/// Cuts the targets' ports, which may overlap, into disjoint pieces that belong to the first
/// target each; returns for each entry also the first of all that it shares endpoints with, be
/// it by way of others.
fn inside_ports(entries: &[Publish]) -> (Vec<InsidePorts>, Vec<usize>) {
    // Where a target's ports begin and end, by host; an end before a beginning at the same port.
    let mut edges = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let length = u32::from(entry.ports.end() - entry.ports.start()) + 1;
        for (number, target) in entry.targets.iter().enumerate() {
            let host = (entry.protocol.number(), target.address);
            let start = u32::from(target.port);
            edges.push((host, start, true, (at, number)));
            edges.push((host, start + length, false, (at, number)));
        }
    }
    edges.sort_unstable();
    let mut first_of: Vec<usize> = (0..entries.len()).collect();
    let mut pieces: Vec<InsidePorts> = Vec::new();
    let mut open: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut from = 0;
    for ((protocol, address), port, begins, target) in edges {
        if let (Some(&(entry, number)), true) = (open.first(), from < port) {
            let narrow = |port: u32| u16::try_from(port).unwrap_or(u16::MAX);
            pieces.push(InsidePorts {
                protocol,
                address,
                first: narrow(from),
                last: narrow(port - 1),
                entry,
                target: number,
            });
        }
        from = port;
        if begins {
            if let Some(&(other, _)) = open.first() {
                join(&mut first_of, other, target.0);
            }
            open.insert(target);
        } else {
            open.remove(&target);
        }
    }
    let roots = (0..entries.len()).map(|at| root(&first_of, at)).collect();
    (pieces, roots)
}

/// Returns the first entry of the group that an entry is in.
fn root(first_of: &[usize], mut at: usize) -> usize {
    while first_of[at] != at {
        at = first_of[at];
    }
    at
}

/// Makes two groups of entries one, whose first entry is the first of both.
fn join(first_of: &mut [usize], a: usize, b: usize) {
    let (a, b) = (root(first_of, a), root(first_of, b));
    first_of[a.max(b)] = a.min(b);
}

/// A bit for each port; no memory at all while nothing is published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Covered {
    words: Box<[u64]>,
}

impl Covered {
    fn of(entries: &[Publish]) -> Self {
        if entries.is_empty() {
            return Self::default();
        }
        let mut words = vec![0; usize::from(u16::MAX / BITS) + 1];
        for port in entries.iter().flat_map(|entry| entry.ports.clone()) {
            words[usize::from(port / BITS)] |= 1 << (port % BITS);
        }
        Self {
            words: words.into_boxed_slice(),
        }
    }

    fn contains(&self, port: u16) -> bool {
        self.words
            .get(usize::from(port / BITS))
            .is_some_and(|word| word >> (port % BITS) & 1 == 1)
    }
}

#[cfg(test)]
mod tests;
