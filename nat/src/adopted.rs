//! External ports that are not with the slice to which they belong by arithmetic.
//!
//! A mapping restored after a restart keeps its port, but lives with the worker of its member's
//! port, and the number of workers may have changed; and a port may be published at one slice
//! while a live mapping of another uses it. Such a port is *adopted*: one table that all engines
//! of a switch share says where it is, until the last session on it ends. Whoever gets a packet
//! asks this table before all else, so every external endpoint is with exactly one slice.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};

use crate::rewrite::Protocol;
use crate::session::Endpoint;

/// Ports, port 0 included.
const PORTS: usize = 1 << 16;

/// The owner of each port of one protocol and address, plus one; 0 for none.
type Table = OnceLock<Box<[AtomicU16]>>;

/// Which slices have adopted which ports; shared by all engines of a switch.
///
/// Empty it takes no memory to speak of; the first port adopted takes 128 KiB for all of its
/// protocol and external address.
pub struct Adopted {
    tables: Box<[[Table; Protocol::COUNT]]>,
    live: AtomicU32,
}

impl std::fmt::Debug for Adopted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adopted")
            .field("addresses", &self.tables.len())
            .field("live", &self.len())
            .finish()
    }
}

impl Adopted {
    /// Makes a table for so many external addresses at once, at most
    /// [`EXTERNALS_MAX`](crate::EXTERNALS_MAX).
    ///
    /// An address keeps its place as long as it is there: at first that is the one in
    /// [`Config::external`](crate::Config::external), [`Config::pool`](crate::Config::pool), and a
    /// new address takes the first place that is vacant. So all engines that share a table must
    /// begin with the same addresses and get the same changes in the same order. Ports of an
    /// address beyond the table cannot be adopted.
    #[must_use]
    pub fn new(addresses: usize) -> Self {
        let tables = (0..addresses)
            .map(|_| std::array::from_fn(|_| Table::new()))
            .collect();
        Self {
            tables,
            live: AtomicU32::new(0),
        }
    }

    /// Returns how many ports are adopted.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.live.load(Ordering::Acquire)
    }

    /// Returns whether no port is adopted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the slice that has adopted a port of the external address of this place.
    #[must_use]
    pub fn owner(&self, protocol: Protocol, address: usize, port: u16) -> Option<u16> {
        // Almost always nothing is adopted, and this is all that a packet pays.
        if self.is_empty() {
            return None;
        }
        let table = self.tables.get(address)?.get(protocol.index())?.get()?;
        table[usize::from(port)]
            .load(Ordering::Acquire)
            .checked_sub(1)
    }

    /// Makes a copy, of which the engines that share this one know nothing.
    pub(crate) fn copy(&self) -> Self {
        let copy_of = |table: &Table| {
            let owners = table.get()?.iter();
            let owners = owners.map(|owner| AtomicU16::new(owner.load(Ordering::Acquire)));
            Some(owners.collect::<Box<[_]>>())
        };
        let copy = |table| copy_of(table).map_or_else(Table::new, Table::from);
        Self {
            tables: self
                .tables
                .iter()
                .map(|tables| tables.each_ref().map(copy))
                .collect(),
            live: AtomicU32::new(self.len()),
        }
    }

    /// Gives a port to a slice; returns whether it has it now, `false` if another has.
    fn adopt(&self, protocol: Protocol, address: usize, port: u16, slice: u16) -> bool {
        let tables = self.tables.get(address);
        let Some(table) = tables.and_then(|tables| tables.get(protocol.index())) else {
            return false;
        };
        let table = table.get_or_init(|| (0..PORTS).map(|_| AtomicU16::new(0)).collect());
        let entry = &table[usize::from(port)];
        let swap = entry.compare_exchange(0, slice + 1, Ordering::AcqRel, Ordering::Acquire);
        if swap.is_ok() {
            self.live.fetch_add(1, Ordering::AcqRel);
        }
        swap.is_ok() || swap == Err(slice + 1)
    }

    /// Takes a port back from a slice.
    fn release(&self, protocol: Protocol, address: usize, port: u16, slice: u16) {
        let tables = self.tables.get(address);
        let Some(table) = tables.and_then(|tables| tables.get(protocol.index())?.get()) else {
            return;
        };
        let entry = &table[usize::from(port)];
        let swap = entry.compare_exchange(slice + 1, 0, Ordering::AcqRel, Ordering::Acquire);
        if swap.is_ok() {
            self.live.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// The ports that this engine has adopted, and how many sessions each of them has.
#[derive(Default, Clone)]
pub(crate) struct Adoptions {
    counts: BTreeMap<(u8, Endpoint), u32>,
}

/// A port in the words of [`Adopted`].
#[derive(Clone, Copy)]
pub(crate) struct Place {
    pub(crate) protocol: Protocol,
    pub(crate) address: usize,
    pub(crate) external: Endpoint,
}

impl Place {
    fn key(self) -> (u8, Endpoint) {
        (self.protocol.number(), self.external)
    }
}

impl Adoptions {
    /// Adopts a port for one session, or counts one more; returns `false` if another slice has it.
    #[must_use]
    pub(crate) fn adopt(&mut self, table: &Adopted, place: Place, slice: u16) -> bool {
        let adopted = table.adopt(place.protocol, place.address, place.external.1, slice);
        if adopted {
            *self.counts.entry(place.key()).or_insert(0) += 1;
        }
        adopted
    }

    /// Counts a new session on a port, if it is an adopted one.
    pub(crate) fn opened(&mut self, place: Place) {
        if let Some(count) = self.counts.get_mut(&place.key()) {
            *count += 1;
        }
    }

    /// Counts a session less on a port, if it is an adopted one; the last one gives it back.
    pub(crate) fn ended(&mut self, table: &Adopted, place: Place, slice: u16) {
        let Some(count) = self.counts.get_mut(&place.key()) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.counts.remove(&place.key());
            table.release(place.protocol, place.address, place.external.1, slice);
        }
    }

    /// Returns whether a port has this one session and no other, so that its end gives it back.
    pub(crate) fn has_one(&self, place: Place) -> bool {
        self.counts.get(&place.key()) == Some(&1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a4_10_a_port_has_one_adopter_at_a_time() {
        let table = Adopted::new(2);
        assert!(table.is_empty());
        assert!(table.adopt(Protocol::Tcp, 1, 40_000, 3));
        assert!(table.adopt(Protocol::Tcp, 1, 40_000, 3), "again");
        assert!(!table.adopt(Protocol::Tcp, 1, 40_000, 2));
        assert!(!table.adopt(Protocol::Tcp, 2, 40_000, 2), "no such address");
        assert_eq!(
            (table.owner(Protocol::Tcp, 1, 40_000), table.len()),
            (Some(3), 1)
        );
        for (protocol, address, port) in [
            (Protocol::Udp, 1, 40_000),
            (Protocol::Tcp, 0, 40_000),
            (Protocol::Tcp, 1, 40_001),
            (Protocol::Tcp, 2, 40_000),
        ] {
            assert_eq!(table.owner(protocol, address, port), None);
        }
        table.release(Protocol::Tcp, 1, 40_000, 2);
        assert_eq!(table.len(), 1, "only who has it gives it back");
        table.release(Protocol::Tcp, 1, 40_000, 3);
        assert_eq!(
            (table.owner(Protocol::Tcp, 1, 40_000), table.len()),
            (None, 0)
        );
    }

    #[test]
    fn a4_10_the_last_session_ends_the_adoption() {
        let table = Adopted::new(1);
        let mut adoptions = Adoptions::default();
        let place = Place {
            protocol: Protocol::Udp,
            address: 0,
            external: ([203, 0, 113, 254].into(), 40_000),
        };
        assert!(adoptions.adopt(&table, place, 0));
        adoptions.opened(place);
        assert!(!adoptions.is_empty());
        adoptions.ended(&table, place, 0);
        assert_eq!(table.len(), 1);
        adoptions.ended(&table, place, 0);
        assert!(table.is_empty() && adoptions.is_empty());
        adoptions.opened(place);
        adoptions.ended(&table, place, 0);
        assert!(adoptions.is_empty(), "what is not adopted is not counted");
    }
}
