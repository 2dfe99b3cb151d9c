//! The gateway's neighbours: which Ethernet address an IPv4 address on a link has.
//!
//! # Theory of operation
//!
//! One table ([`crate::table`]) for all links and all workers. What a worker does with a packet for
//! a next hop depends on [`Neighbours::lookup`], and whether it sends an ARP request now on
//! [`Neighbours::request`], which says yes to one worker a second:
//!
//! ```text
//! lookup        the packet                    request
//! Known(mac)    is sent                       -
//! Refresh(mac)  is sent                       Unicast: ask the station whether it is still there
//! Unknown       waits (limits::HELD_*)        Broadcast: ask who has the address
//! Failed        is dropped, ICMP 3/1          -
//! ```
//!
//! An entry holds when it was last confirmed or asked for, and how many requests went unanswered
//! since. All states follow from these and the time, so no timer is needed and none can be missed:
//!
//! ```text
//! requests  0      reachable for 30 s after the confirmation (base_reachable_time_ms), stale then
//!           1..3   stale: asked for by unicast, once a second (RFC 1122 2.3.2.1, "Unicast Poll")
//!           4..6   incomplete: asked for by broadcast, once a second; behaviour D-3
//!           6      and a second later: failed, for 3 s; then forgotten, so that it is asked again
//! ```
//!
//! So a host that is gone is known to be after three seconds if nothing was known of it. A stale
//! entry is used while it is asked for, as Linux does (net/core/neighbour.c, `NUD_DELAY`,
//! `NUD_PROBE`), and asking goes by traffic: nobody sends a request for an address unused. After
//! ten minutes without a confirmation an entry is forgotten.
//!
//! The table is bounded. A full one replaces what is worth least: forgotten or failed entries, then
//! those never answered, then the longest unconfirmed. Entries never answered replace no confirmed
//! ones, and those of a network none of the uplink, so that a container that sweeps through
//! addresses, or claims many, cannot cut off the others' way out.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nat::Nanos;

use crate::mac::Mac;
use crate::table::{Apart, Entry, Insert, Row, Table};

/// Seconds an entry is trusted after a confirmation (`base_reachable_time_ms`, Linux).
pub const REACHABLE_SECS: u32 = 30;
/// Seconds after which an unconfirmed entry is forgotten.
pub const FORGOTTEN_SECS: u32 = 600;
/// Seconds for which a failure is remembered.
pub const FAILED_SECS: u32 = 3;

const UNICAST_REQUESTS: u16 = 3;
const BROADCAST_REQUESTS: u16 = 3;
const FIRST_BROADCAST: u16 = UNICAST_REQUESTS + 1;
const LAST_BROADCAST: u16 = UNICAST_REQUESTS + BROADCAST_REQUESTS;

/// Stamps are in tenths of a second: "once a second" then means more than 0.9 s apart, and 32 bits
/// last 13 years.
const SECOND: u32 = 10;

/// Entries that may be replaced, of which the least is.
const VICTIM_CHOICES: usize = 8;

/// Slots looked through at most to find them.
const VICTIM_SLOTS: usize = 256;

/// How often an operation takes up a race that it lost to another worker.
const ATTEMPTS: usize = 8;

/// Where a neighbour is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// Among the containers of a network.
    Network(u16),
    /// On the uplink.
    Uplink,
}

/// What is known of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// Send to this address.
    Known(Mac),
    /// Send to this address, and see whether a [`request`](Neighbours::request) is due.
    Refresh(Mac),
    /// Keep the packet, and see whether a [`request`](Neighbours::request) is due.
    Unknown,
    /// It does not answer.
    Failed,
}

impl Neighbour {
    /// Where to send now, if that is known.
    #[must_use]
    pub const fn mac(self) -> Option<Mac> {
        match self {
            Self::Known(mac) | Self::Refresh(mac) => Some(mac),
            Self::Unknown | Self::Failed => None,
        }
    }
}

/// Which ARP request is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Request {
    /// None now: none is needed, or one went out less than a second ago.
    NotDue,
    /// One to the station itself.
    Unicast(Mac),
    /// One to all stations of the link.
    Broadcast,
    /// None: the table is full of entries worth more.
    NoRoom,
}

/// What [`Neighbours::confirm`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// It was not known: packets may be waiting for it.
    New,
    /// It has the address it had.
    Same,
    /// It had another address.
    Changed {
        /// The one it had.
        from: Mac,
    },
    /// It was not entered: the table is full of entries worth more, or the address is no
    /// station's.
    Refused,
}

/// The state of an entry, in the words of `ip neigh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeighbourState {
    /// Asked for, not answered yet.
    Incomplete,
    /// Confirmed a short time ago.
    Reachable,
    /// Confirmed some time ago; usable.
    Stale,
    /// Asked for in vain.
    Failed,
}

/// One entry, as the command line shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeighbourEntry {
    /// Where it is.
    pub link: Link,
    /// Its IPv4 address.
    pub address: Ipv4Addr,
    /// Its Ethernet address, where one is or was known.
    pub mac: Option<Mac>,
    /// Its state.
    pub state: NeighbourState,
    /// Seconds since it was last confirmed or asked for.
    pub age_secs: u32,
}

/// The neighbours of the gateway on all its links; see the module's theory of operation.
#[derive(Debug)]
pub struct Neighbours {
    table: Table,
    entries_max: usize,
    /// The slot at which the search for an entry to replace goes on.
    hand: Apart<AtomicUsize>,
    /// See [`Neighbours::generation`].
    generation: AtomicU64,
}

impl Neighbours {
    /// Room for `entries_max` neighbours (usually [`crate::limits::NEIGHBOURS_MAX`]), all of it
    /// taken now. `seed` keeps addresses from choosing their buckets.
    #[must_use]
    pub fn new(entries_max: usize, seed: u64) -> Self {
        Self {
            table: Table::new(entries_max, seed),
            entries_max,
            generation: AtomicU64::new(0),
            hand: Apart::default(),
        }
    }

    /// Makes neighbours of whom the same is known, on whom a packet can be tried.
    pub(crate) fn copy(&self) -> Self {
        Self {
            table: self.table.copy(),
            entries_max: self.entries_max,
            hand: Apart(AtomicUsize::new(self.hand.0.load(Relaxed))),
            generation: AtomicU64::new(self.generation()),
        }
    }

    /// All entries as plain data.
    #[must_use]
    pub fn rows(&self) -> Vec<Row> {
        self.table.rows()
    }

    /// Makes the entries of a table nobody else uses yet those of another.
    pub fn restore(&self, rows: &[Row]) {
        self.flush(None);
        for row in rows {
            // It has room for as many as the other one.
            let _ = self.table.enter(row);
        }
    }

    /// What is known of a neighbour now. Writes nothing.
    #[must_use]
    #[inline]
    pub fn lookup(&self, link: Link, address: Ipv4Addr, now: Nanos) -> Neighbour {
        let Some(entry) = self.table.get(key_of(link, address)) else {
            return Neighbour::Unknown;
        };
        match (state_of(&entry, tenths(now)), mac_of(&entry)) {
            (Some(NeighbourState::Reachable), Some(mac)) => Neighbour::Known(mac),
            (Some(NeighbourState::Stale), Some(mac)) => Neighbour::Refresh(mac),
            (Some(NeighbourState::Failed), _) => Neighbour::Failed,
            _ => Neighbour::Unknown,
        }
    }

    /// Whether an ARP request for a neighbour is due, and which. Each time one is, exactly one
    /// caller is told so, and must send it.
    pub fn request(&self, link: Link, address: Ipv4Addr, now: Nanos) -> Request {
        let now = tenths(now);
        let key = key_of(link, address);
        for _ in 0..ATTEMPTS {
            if let Some(entry) = self.table.get(key) {
                return self.next_request(entry, now);
            }
            if self.table.len() >= self.entries_max && !self.make_room(link, false, now) {
                return Request::NoRoom;
            }
            match self.table.insert(key, 0, now, FIRST_BROADCAST) {
                Insert::Done => return Request::Broadcast,
                Insert::Present => {}
                Insert::Full => return Request::NoRoom,
            }
        }
        Request::NotDue
    }

    /// Takes the next step of an entry, if it is time; the compare-exchange in `set_meta` lets one
    /// worker do it.
    fn next_request(&self, mut entry: Entry, now: u32) -> Request {
        let mac = mac_of(&entry);
        let (sent, request) = match (state_of(&entry, now), mac) {
            (Some(NeighbourState::Reachable | NeighbourState::Failed), _) => {
                return Request::NotDue;
            }
            (Some(NeighbourState::Stale), Some(mac)) => (entry.tag + 1, Request::Unicast(mac)),
            (Some(NeighbourState::Incomplete), _) => (entry.tag + 1, Request::Broadcast),
            (None | Some(NeighbourState::Stale), _) => (FIRST_BROADCAST, Request::Broadcast),
        };
        let is_waiting = entry.tag != 0 && now.saturating_sub(entry.stamp) < SECOND;
        if is_waiting || sent > LAST_BROADCAST || !self.table.set_meta(&mut entry, now, sent) {
            return Request::NotDue;
        }
        request
    }

    /// Notes that `address` has `mac`: an ARP reply, or a request from it for the gateway.
    pub fn confirm(&self, link: Link, address: Ipv4Addr, mac: Mac, now: Nanos) -> Confirmed {
        self.announce(self.note(link, address, mac, tenths(now), true))
    }

    /// Notes that `address` has `mac` if there is an entry for it: an ARP packet not meant for the
    /// gateway (the "merge flag" of RFC 826).
    pub fn update(&self, link: Link, address: Ipv4Addr, mac: Mac, now: Nanos) -> Confirmed {
        self.announce(self.note(link, address, mac, tenths(now), false))
    }

    /// A number that changes whenever a neighbour becomes known for whom packets may be waiting.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Release pairs with the Acquire in [`generation`](Self::generation): who sees the new number
    /// finds the entry.
    fn announce(&self, found: Confirmed) -> Confirmed {
        if found == Confirmed::New {
            self.generation.fetch_add(1, Ordering::Release);
        }
        found
    }

    fn note(&self, link: Link, address: Ipv4Addr, mac: Mac, now: u32, enter: bool) -> Confirmed {
        if !mac.is_station() {
            return Confirmed::Refused;
        }
        let key = key_of(link, address);
        let mut first = None;
        for _ in 0..ATTEMPTS {
            if let Some(mut entry) = self.table.get(key) {
                let found = *first.get_or_insert(confirmed(&entry, mac, now));
                if entry.value != mac.to_u64() && !self.table.set_value(&mut entry, mac.to_u64()) {
                    continue;
                }
                // Within the second the stamp need not be newer: no store for a storm of replies.
                let is_fresh = entry.tag == 0 && now.saturating_sub(entry.stamp) < SECOND;
                if is_fresh || self.table.set_meta(&mut entry, now, 0) {
                    return found;
                }
                continue;
            }
            if !enter || self.table.len() >= self.entries_max && !self.make_room(link, true, now) {
                return Confirmed::Refused;
            }
            match self.table.insert(key, mac.to_u64(), now, 0) {
                Insert::Done => return Confirmed::New,
                Insert::Present => {}
                Insert::Full => return Confirmed::Refused,
            }
        }
        Confirmed::Refused
    }

    /// Forgets a neighbour. False if there was none.
    pub fn remove(&self, link: Link, address: Ipv4Addr) -> bool {
        self.table.remove(key_of(link, address)).is_some()
    }

    /// Forgets all neighbours, or those of one link, and returns how many.
    pub fn flush(&self, link: Option<Link>) -> usize {
        self.table
            .iter()
            .filter(|entry| link.is_none_or(|link| link_of(entry) == link))
            .filter(|entry| self.table.remove_entry(entry))
            .count()
    }

    /// Entries in the table, those forgotten but not yet replaced included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// True for a table without entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The entry of one neighbour, as [`entries`](Self::entries) has it.
    #[must_use]
    pub fn entry(&self, link: Link, address: Ipv4Addr, now: Nanos) -> Option<NeighbourEntry> {
        let entry = self.table.get(key_of(link, address))?;
        shown(&entry, tenths(now))
    }

    /// All entries, sorted by link and address.
    #[must_use]
    pub fn entries(&self, now: Nanos) -> Vec<NeighbourEntry> {
        let now = tenths(now);
        let entries = self.table.iter();
        let mut entries: Vec<_> = entries.filter_map(|entry| shown(&entry, now)).collect();
        entries.sort_unstable();
        entries
    }

    /// Removes the entry worth least, of the next few in the table, for a new one of `link`.
    fn make_room(&self, link: Link, is_confirmed: bool, now: u32) -> bool {
        let worth = |entry: &Entry| match state_of(entry, now) {
            None | Some(NeighbourState::Failed) => 0,
            Some(NeighbourState::Incomplete) => 1,
            Some(NeighbourState::Stale | NeighbourState::Reachable) => 2,
        };
        let worth_max = 1 + u8::from(is_confirmed);
        let may_go = |entry: &Entry| {
            let is_guarded = link != Link::Uplink && link_of(entry) == Link::Uplink;
            worth(entry) == 0 || (worth(entry) <= worth_max && !is_guarded)
        };
        let slots = self.table.slots();
        // Relaxed: a hint where to look on.
        let start = self.hand.0.load(Relaxed);
        let mut looked = 0;
        let victim = (0..VICTIM_SLOTS.min(slots))
            .inspect(|step| looked = step + 1)
            .filter_map(|step| self.table.at((start + step) % slots))
            .filter(may_go)
            .take(VICTIM_CHOICES)
            .min_by_key(|entry| (worth(entry), entry.stamp));
        self.hand.0.store((start + looked) % slots, Relaxed);
        victim.is_some_and(|entry| self.table.remove_entry(&entry))
    }
}

/// An entry as it is shown; `None` for one that is to be forgotten.
fn shown(entry: &Entry, now: u32) -> Option<NeighbourEntry> {
    Some(NeighbourEntry {
        link: link_of(entry),
        address: address_of(entry),
        mac: mac_of(entry),
        state: state_of(entry, now)?,
        age_secs: now.saturating_sub(entry.stamp) / SECOND,
    })
}

/// What a confirmation of `mac` means to an entry.
fn confirmed(entry: &Entry, mac: Mac, now: u32) -> Confirmed {
    match (state_of(entry, now), mac_of(entry)) {
        (Some(NeighbourState::Reachable | NeighbourState::Stale), Some(from)) if from == mac => {
            Confirmed::Same
        }
        (Some(NeighbourState::Reachable | NeighbourState::Stale), Some(from)) => {
            Confirmed::Changed { from }
        }
        _ => Confirmed::New,
    }
}

/// The state of an entry; `None` for one that is to be forgotten.
fn state_of(entry: &Entry, now: u32) -> Option<NeighbourState> {
    let age = now.saturating_sub(entry.stamp);
    let is_over = age >= SECOND;
    match entry.tag {
        0 if age < REACHABLE_SECS * SECOND => Some(NeighbourState::Reachable),
        _ if age >= FORGOTTEN_SECS * SECOND => None,
        UNICAST_REQUESTS if is_over => Some(NeighbourState::Incomplete),
        0..=UNICAST_REQUESTS => Some(NeighbourState::Stale),
        LAST_BROADCAST if !is_over => Some(NeighbourState::Incomplete),
        LAST_BROADCAST.. if age < (1 + FAILED_SECS) * SECOND => Some(NeighbourState::Failed),
        _ if age < (1 + FAILED_SECS) * SECOND => Some(NeighbourState::Incomplete),
        _ => None,
    }
}

/// 1 above the address space of links and addresses, so that no key is 0.
const KEY_MARK: u64 = 1 << 49;
const KEY_UPLINK: u64 = 1 << 48;

fn key_of(link: Link, address: Ipv4Addr) -> u64 {
    let link = match link {
        Link::Network(network) => u64::from(network) << 32,
        Link::Uplink => KEY_UPLINK,
    };
    KEY_MARK | link | u64::from(address.to_bits())
}

fn link_of(entry: &Entry) -> Link {
    if entry.key & KEY_UPLINK != 0 {
        return Link::Uplink;
    }
    let [_, _, high, low, ..] = entry.key.to_be_bytes();
    Link::Network(u16::from_be_bytes([high, low]))
}

fn address_of(entry: &Entry) -> Ipv4Addr {
    let [.., a, b, c, d] = entry.key.to_be_bytes();
    Ipv4Addr::new(a, b, c, d)
}

fn mac_of(entry: &Entry) -> Option<Mac> {
    (entry.value != 0).then(|| Mac::from_u64(entry.value))
}

fn tenths(now: Nanos) -> u32 {
    u32::try_from(now.as_millis() / 100).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
