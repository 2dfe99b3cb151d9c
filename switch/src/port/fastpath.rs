//! The fast path: what a worker has decided about a TCP connection, done again in the kernel.
//!
//! # Theory of operation
//! A frame that goes through a worker is copied into a ring, wakes the worker, and is copied out of
//! it: most of what a small one costs. Of an established connection the worker decides the same
//! thing every time: other addresses, one hop less, out by that port. So it lends that decision, as
//! a [`Shortcut`], to two programs in the kernel:
//!
//! ```text
//!                    +-- filter of the ring (eBPF): is it of a shortcut?
//! frame --> device --+      no   into the ring, as ever
//!                    |      yes  not into the ring; remembers which
//!                    +-- classifier (TCX), a moment later on the same processor:
//!                           remembered   rewritten, counted, out by the egress
//!                           not          to what comes next: the guard
//! ```
//!
//! The filter alone decides, so no frame goes both ways or neither. It takes only what a worker
//! would translate and send on without a second thought: IPv4 without options and not cut up, TCP
//! with ACK and without SYN, FIN, RST and URG, with a hop left, of a length that fits. All else,
//! and with it whatever begins or ends a connection, comes up to the worker.
//!
//! **A lease.** A shortcut holds for [`LEASE`]; then frames come up again, and the worker decides
//! anew: where the station is, who the next hop is, whether the session lives. What the worker
//! learns sooner it takes back at once ([`FastPath::stop`]).
//!
//! **The table** is memory that both sides map: sets of four places, found by a keyed hash of
//! addresses and ports. Workers write, without system calls; a full set means that the connection
//! stays with its worker. A place is written while its version is 0, and used only by who finds the
//! same version before and after; one that was given back rests for [`REST`], so that no program
//! that is still in it can take one connection's fields for another's. Should it be taken back
//! between the two programs, the frame is lost and counted ([`Losses::fast_path`](super::Losses)).
//!
//! Checksums are changed and not looked at, so what is wrong stays wrong and the receiver drops it.
//!
//! What the kernel carried is counted in the place, by atomic adds; the worker adds it to its own
//! counters, so that the sums of all frames hold.
//!
//! All of it is file descriptors: when the process ends, however it ends, it is gone.

mod code;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nat::{Nanos, checksum};

use super::ebpf::code::Code;
use super::ebpf::{TAKEN, translate};
use super::steer::Program;
use super::sys::bpf::{self, Value};
use super::sys::words::Words;
use super::{PortError, newly};
use crate::mac::Mac;
use crate::random::Random;

/// How long the kernel may do a thing again before the worker is asked: an idle worker looks at
/// what is lent four times meanwhile.
pub const LEASE: Nanos = Nanos(2_000_000_000);

/// How long it takes at the most until no program is in the middle of a shortcut that was stopped,
/// and its place rests before it serves another connection.
pub const REST: Nanos = Nanos(1_000_000_000);

/// Sets of places: a power of two.
const SETS: usize = 4096;
/// Places that a connection's direction may have.
const WAYS: usize = 4;

/// One direction of a connection, and what is done with its frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortcut {
    /// Index of the interface its frames come in by.
    pub ingress: u32,
    /// Index of the interface they go out by.
    pub egress: u32,
    /// Destination and source on Ethernet, as they come and as they go.
    pub macs: [[Mac; 2]; 2],
    /// Source and destination, as they come and as they go. One of them changes at most.
    pub addresses: [[Ipv4Addr; 2]; 2],
    /// Their ports.
    pub ports: [[u16; 2]; 2],
    /// The longest IP packet that may go out, in bytes.
    pub mtu: u32,
}

/// Where a shortcut is: whoever has it may renew it and must give it back.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    index: usize,
    version: u64,
}

/// What the kernel has carried of one shortcut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Carried {
    /// Frames; one that a device will segment counts as one.
    pub frames: u64,
    /// Their bytes, Ethernet headers included.
    pub bytes: u64,
}

/// The table, and the programs' other memory. See the module's theory of operation.
#[derive(Debug)]
pub struct FastPath {
    words: Words,
    /// From when on each place may be taken; [`TAKEN_NOW`] while it is.
    free_from: Box<[AtomicU64]>,
    versions: AtomicU64,
    keys: [u64; 3],
    /// What the kernel's clock is ahead of ours.
    clock_ahead: u64,
    /// The table as programs know it, and what the filter tells the classifier; none in a
    /// rehearsal.
    kernel: Option<(Value, Value)>,
}

/// In [`FastPath::free_from`].
const TAKEN_NOW: u64 = u64::MAX;

/// A record of the table, in words; the programs know it by bytes (`code`).
mod record {
    pub(super) const VERSION: usize = 0;
    /// The kernel's time at which the lease ends, in ns.
    pub(super) const UNTIL: usize = 1;
    /// The first eight bytes of the frame, as a number.
    pub(super) const MACS: usize = 2;
    /// The next four, and the ingress.
    pub(super) const MACS_INGRESS: usize = 3;
    pub(super) const ADDRESSES: usize = 4;
    pub(super) const PORTS: usize = 5;
    /// Two halves, as those below: the egress, and the longest packet.
    pub(super) const EGRESS: usize = 6;
    /// From here on bytes are as they go into the frame: twelve, and what is to be added to the IP
    /// checksum.
    pub(super) const NEW_MACS: usize = 7;
    pub(super) const NEW_ADDRESSES: usize = 9;
    /// The new ports, and nothing.
    pub(super) const NEW_PORTS: usize = 10;
    /// The address that changes: what it was and what it becomes.
    pub(super) const ADDRESS: usize = 11;
    /// The port that changes.
    pub(super) const PORT: usize = 12;
    pub(super) const FRAMES: usize = 13;
    pub(super) const BYTES: usize = 14;
    pub(super) const WORDS: usize = 15;
}

impl FastPath {
    /// Makes an empty one; `seed` keys its table, and `clock_ahead` is what `CLOCK_MONOTONIC` is
    /// ahead of the clock that the workers go by.
    ///
    /// # Errors
    /// [`PortError::FastPath`]: the kernel gives no such memory.
    pub fn new(seed: u64, clock_ahead: Nanos) -> Result<Self, PortError> {
        let make = || -> io::Result<Self> {
            let table = Value::table(
                word_count(SETS)?,
                word_count(WAYS * record::WORDS * size_of::<u64>())?,
                "vsw_fast_path",
            )?;
            let decision = Value::per_processor(code::DECISION_BYTES, "vsw_decision")?;
            let words = Words::of_map(table.as_fd(), WORDS)?;
            Ok(Self::with(
                words,
                seed,
                clock_ahead.0,
                Some((table, decision)),
            ))
        };
        make().map_err(|source| PortError::FastPath { source })
    }

    /// One that no kernel looks at: who tests a worker plays it ([`FastPath::play`]).
    #[cfg(test)]
    pub(crate) fn rehearsal(seed: u64) -> io::Result<Self> {
        Ok(Self::with(Words::of_nobody(WORDS)?, seed, 0, None))
    }

    fn with(words: Words, seed: u64, clock_ahead: u64, kernel: Option<(Value, Value)>) -> Self {
        let mut random = Random::new(seed);
        Self {
            words,
            free_from: (0..SETS * WAYS).map(|_| AtomicU64::new(0)).collect(),
            versions: AtomicU64::new(0),
            // An odd factor has an inverse, so that no two words become one.
            keys: std::array::from_fn(|_| random.next_u64() | 1),
            clock_ahead,
            kernel,
        }
    }

    /// Lends a decision to the kernel until [`LEASE`] from now. `None` where there is no room.
    pub fn lend(&self, shortcut: &Shortcut, now: Nanos) -> Option<Place> {
        let first = self.set(shortcut) * WAYS;
        let index = (first..first + WAYS).find(|index| self.claim(*index, now))?;
        let version = self.versions.fetch_add(1, Ordering::Relaxed) + 1;
        let words = self.record(index)?;
        for (at, word) in shortcut.words() {
            words[at].store(word, Ordering::Relaxed);
        }
        for at in [record::FRAMES, record::BYTES] {
            words[at].store(0, Ordering::Relaxed);
        }
        words[record::UNTIL].store(self.lease_end(now), Ordering::Relaxed);
        // The last: who sees it sees the rest.
        words[record::VERSION].store(version, Ordering::Release);
        Some(Place { index, version })
    }

    /// Prolongs the lease to [`LEASE`] from now. False where the shortcut was stopped meanwhile,
    /// because a device of it is gone.
    pub fn renew(&self, place: &Place, now: Nanos) -> bool {
        let Some(words) = self.own(place) else {
            return false;
        };
        words[record::UNTIL].store(self.lease_end(now), Ordering::Relaxed);
        true
    }

    /// Takes a decision back: from now on frames come up to the worker, but for those that a
    /// program has in its hands this very moment.
    pub fn stop(&self, place: &Place) {
        if let Some(words) = self.own(place) {
            stop(words);
        }
    }

    /// What the kernel has carried since it was lent.
    #[must_use]
    pub fn carried(&self, place: &Place) -> Carried {
        self.record(place.index)
            .map_or_else(Carried::default, |words| Carried {
                frames: words[record::FRAMES].load(Ordering::Relaxed),
                bytes: words[record::BYTES].load(Ordering::Relaxed),
            })
    }

    /// Gives a place back for others; nothing more is counted there.
    pub fn give_back(&self, place: Place, now: Nanos) {
        self.stop(&place);
        let free_from = self.free_from.get(place.index);
        if let Some(free_from) = free_from {
            free_from.store(now.saturating_add(REST).0, Ordering::Release);
        }
    }

    /// Stops all shortcuts that begin at this interface.
    fn stop_from(&self, ingress: u32) {
        for words in self.words.all().chunks_exact(record::WORDS) {
            let of_it = words[record::MACS_INGRESS].load(Ordering::Relaxed) & u64::from(u32::MAX);
            if of_it == u64::from(ingress) {
                stop(words);
            }
        }
    }

    /// Does as the kernel would with a frame of that many bytes, of the shortcut that begins so.
    /// False where there is none.
    #[cfg(test)]
    pub(crate) fn play(&self, shortcut: &Shortcut, bytes: u64, now: Nanos) -> bool {
        // What of a record says which frames it is for.
        const KEY: std::ops::RangeInclusive<usize> = record::MACS..=record::PORTS;
        let first = self.set(shortcut) * WAYS;
        let known = shortcut.words();
        let same = |words: &&[AtomicU64]| {
            let key = known.iter().filter(|(at, _)| KEY.contains(at));
            words[record::VERSION].load(Ordering::Acquire) != 0
                && words[record::UNTIL].load(Ordering::Relaxed) > now.0
                && key
                    .copied()
                    .all(|(at, word)| words[at].load(Ordering::Relaxed) == word)
        };
        let mut set = (first..first + WAYS).filter_map(|index| self.record(index));
        let Some(words) = set.find(same) else {
            return false;
        };
        words[record::FRAMES].fetch_add(1, Ordering::Relaxed);
        words[record::BYTES].fetch_add(bytes, Ordering::Relaxed);
        true
    }

    fn lease_end(&self, now: Nanos) -> u64 {
        now.saturating_add(LEASE).0.saturating_add(self.clock_ahead)
    }

    fn claim(&self, index: usize, now: Nanos) -> bool {
        self.free_from.get(index).is_some_and(|free_from| {
            let from = free_from.load(Ordering::Relaxed);
            from <= now.0
                && free_from
                    .compare_exchange(from, TAKEN_NOW, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
        })
    }

    fn record(&self, index: usize) -> Option<&[AtomicU64]> {
        let at = index.checked_mul(record::WORDS)?;
        self.words.all().get(at..at + record::WORDS)
    }

    /// The record, if it is still what was lent.
    fn own(&self, place: &Place) -> Option<&[AtomicU64]> {
        let words = self.record(place.index)?;
        (words[record::VERSION].load(Ordering::Relaxed) == place.version).then_some(words)
    }

    /// The set of a shortcut; the filter finds it in the same way.
    fn set(&self, shortcut: &Shortcut) -> usize {
        let [first, second, third] = self.keys;
        let (addresses, ports) = (shortcut.address_word(), shortcut.port_word());
        let mix = |word: u64, key: u64| {
            let word = word.wrapping_mul(key);
            word ^ word >> 32
        };
        let hash = mix(mix(addresses ^ first, second) ^ ports, third);
        usize::try_from(hash % SETS as u64).unwrap_or(0)
    }

    /// Appends what a ring's filter begins with: frames of a shortcut go no further.
    pub(super) fn append_filter(&self, code: &mut Code) {
        if let Some((table, decision)) = &self.kernel {
            let maps = [table, decision].map(|map| map.as_fd().as_raw_fd());
            code::append_filter(code, maps, self.keys);
        }
    }

    /// A ring's filter: what goes by the fast path does not come in, of the rest what `filter`
    /// takes.
    ///
    /// # Errors
    /// `InvalidInput` for a filter that cannot be translated; what the kernel answers.
    pub(super) fn filter(&self, filter: Option<&Program>) -> io::Result<OwnedFd> {
        let mut code = Code::default();
        self.append_filter(&mut code);
        if let Some(filter) = filter {
            let translated = translate::append(&mut code, filter.instructions());
            translated.ok_or(io::ErrorKind::InvalidInput)?;
        }
        code.place(TAKEN);
        code.take_all();
        let insns = code.finish().ok_or(io::ErrorKind::InvalidInput)?;
        bpf::load_socket_filter(&insns, "vsw_filter")
    }

    /// Begins to carry what comes in by an interface of the calling thread's network namespace, in
    /// front of all other classifiers there are by now.
    ///
    /// # Errors
    /// What the kernel answers; see [`bpf::attach_tcx_ingress`].
    pub(super) fn at(self: &Arc<Self>, ifindex: u32) -> io::Result<Entrance> {
        let lost = Value::new(code::LOST_BYTES, "vsw_lost")?;
        let program = self.classifier(&lost)?;
        Ok(Entrance {
            _link: bpf::attach_tcx_ingress(program.as_fd(), ifindex)?,
            lost,
            counted: 0,
            ifindex,
            path: Arc::clone(self),
        })
    }

    fn classifier(&self, lost: &Value) -> io::Result<OwnedFd> {
        let (table, decision) = self.kernel.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        let maps = [table, decision, lost].map(|map| map.as_fd().as_raw_fd());
        let insns = code::classifier(maps).ok_or(io::ErrorKind::InvalidInput)?;
        bpf::load_classifier(&insns, "vsw_fast_path")
    }
}

/// Words of the whole table.
const WORDS: usize = SETS * WAYS * record::WORDS;

fn word_count(count: usize) -> io::Result<u32> {
    u32::try_from(count).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn stop(words: &[AtomicU64]) {
    words[record::VERSION].store(0, Ordering::Relaxed);
    // Nor does it stand in the way of another for the same connection.
    words[record::ADDRESSES].store(0, Ordering::Relaxed);
}

impl Shortcut {
    fn address_word(&self) -> u64 {
        let [[source, destination], _] = self.addresses;
        u64::from(source.to_bits()) << 32 | u64::from(destination.to_bits())
    }

    fn port_word(&self) -> u64 {
        let [[source, destination], _] = self.ports;
        u64::from(source) << 16 | u64::from(destination)
    }

    /// All of it, as it stands in the table.
    fn words(&self) -> [(usize, u64); 11] {
        let [old_macs, new_macs] = self.macs;
        let [old_addresses, new_addresses] = self.addresses.map(|two| two.map(|it| it.octets()));
        let [old_ports, new_ports] = self.ports.map(|two| two.map(u16::to_be_bytes));
        let [first, second, third] = thirds(old_macs);
        let [new_first, new_second, new_third] = thirds(new_macs);
        let number = u32::from_be_bytes;
        let changes = |end: &usize| {
            old_addresses[*end] != new_addresses[*end] || old_ports[*end] != new_ports[*end]
        };
        let end = (0..2).find(changes).unwrap_or_default();
        let checksum = self.ip_delta();
        let port = |bytes: [u8; 2]| u32::from(u16::from_ne_bytes(bytes));
        let address = u32::from_ne_bytes;
        let [new_source, new_destination] = new_addresses;
        let [source_port, destination_port] = new_ports;
        let ports = [source_port, destination_port].concat();
        let ports = ports
            .first_chunk()
            .map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        [
            (
                record::MACS,
                u64::from(number(first)) << 32 | u64::from(number(second)),
            ),
            (
                record::MACS_INGRESS,
                u64::from(number(third)) << 32 | u64::from(self.ingress),
            ),
            (record::ADDRESSES, self.address_word()),
            (record::PORTS, self.port_word()),
            (record::EGRESS, halves(self.egress, self.mtu)),
            (
                record::NEW_MACS,
                halves(address(new_first), address(new_second)),
            ),
            (record::NEW_MACS + 1, halves(address(new_third), checksum)),
            (
                record::NEW_ADDRESSES,
                halves(address(new_source), address(new_destination)),
            ),
            (record::NEW_PORTS, halves(ports, 0)),
            (
                record::ADDRESS,
                halves(address(old_addresses[end]), address(new_addresses[end])),
            ),
            (
                record::PORT,
                halves(port(old_ports[end]), port(new_ports[end])),
            ),
        ]
    }

    /// What the new addresses and a time to live that is one less add to the complement of the IP
    /// checksum, in the order of bytes that this machine has: a sum of either order is the other's
    /// with its bytes swapped (RFC 1071 section 2(B)).
    fn ip_delta(&self) -> u32 {
        let [old, new] = self.addresses.map(|two| two.map(Ipv4Addr::to_bits));
        let [source, destination] = [0, 1].map(|end: usize| checksum::delta32(old[end], new[end]));
        let one_hop = checksum::delta16(0x0100, 0);
        let delta = checksum::join(checksum::join(source, destination), one_hop);
        u32::from(delta.to_be())
    }
}

/// A word whose two halves lie in memory in this order.
const fn halves(first: u32, second: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (first.to_ne_bytes(), second.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

fn thirds([first, second]: [Mac; 2]) -> [[u8; 4]; 3] {
    let ([a, b, c, d, e, f], [g, h, i, j, k, l]) = (first.0, second.0);
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]]
}

/// An interface from which frames are carried, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Entrance {
    path: Arc<FastPath>,
    ifindex: u32,
    lost: Value,
    /// Of those lost, how many are counted.
    counted: u64,
    /// Holds the classifier where it is.
    _link: OwnedFd,
}

impl Entrance {
    /// Frames lost since the last call, because their shortcut was taken back between the two
    /// programs.
    pub(super) fn take_lost(&mut self) -> u64 {
        // A value that is there and of that size can be read.
        let lost = self.lost.read().map_or(0, |[lost]| lost);
        newly(&mut self.counted, lost)
    }
}

impl Drop for Entrance {
    fn drop(&mut self) {
        // Before the classifier goes, which sends what the filter has refused: the filter may stay
        // with a copy of the socket's descriptor.
        self.path.stop_from(self.ifindex);
    }
}

#[cfg(test)]
mod tests;
