//! Sessions: the translations in force, found by either of their two tuples.

use std::hint::black_box;
use std::net::Ipv4Addr;

use crate::Nanos;
use crate::config::Timeouts;
use crate::hash::HashKey;
use crate::index::Index;
use crate::rewrite::{Protocol, Rewrite};
use crate::sctp;
use crate::slab::Slab;
use crate::tcp::{Role, Tracker};
use crate::wheel::Wheel;

/// The well-known port whose exchanges are over at once (RFC 4787 REQ-5a).
const DNS_PORT: u16 = 53;

/// An address and a port, or a query identifier.
pub(crate) type Endpoint = (Ipv4Addr, u16);

/// Which side of the NAT a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Inside,
    Outside,
}

/// Packets and bytes in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets (a super-frame that a device will segment counts as one).
    pub packets: u64,
    /// Bytes, IPv4 headers included.
    pub bytes: u64,
}

impl Traffic {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.packets += 1;
        self.bytes += bytes as u64;
    }
}

/// One session. A query's identifier is its port, and the request's type its remote port.
///
/// It takes 96 bytes, of which a packet reads and writes nearly all: at half or at the beginning
/// of a cache line, so that it touches two lines and never three. The order of the fields is that
/// of their sizes; [`Session::touch`] relies on its first and its last being far apart.
#[repr(C, align(32))]
pub(crate) struct Session {
    /// When it is dead unless refreshed.
    pub(crate) deadline: Nanos,
    pub(crate) last_seen: Nanos,
    pub(crate) created: Nanos,
    pub(crate) outbound: Traffic,
    pub(crate) inbound: Traffic,
    /// The mapping it belongs to, or `u32::MAX`.
    pub(crate) mapping: u32,
    /// Tells this session from a later one in the same slot, as far as fragments that follow a
    /// first one need it; it comes again after 65,536 sessions.
    pub(crate) serial: u16,
    /// Edit of the source of outbound packets: to the external endpoint.
    pub(crate) out: Rewrite,
    /// Edit of the destination of inbound packets: to the inside endpoint.
    pub(crate) back: Rewrite,
    pub(crate) remote: Endpoint,
    pub(crate) protocol: Protocol,
    /// Side whose packet created the session.
    pub(crate) origin: Side,
    /// The other side has spoken.
    pub(crate) replied: bool,
    /// Connection state; `None` unless this is TCP.
    pub(crate) tracker: Option<Tracker>,
    /// Association state; `None` unless this is SCTP.
    pub(crate) sctp: Option<sctp::Tracker>,
}

impl Session {
    /// Returns the inside host's endpoint.
    #[inline]
    pub(crate) fn inside(&self) -> Endpoint {
        self.back.target()
    }

    /// Returns what the outside sees.
    #[inline]
    pub(crate) fn external(&self) -> Endpoint {
        self.out.target()
    }

    /// What outbound and inbound packets are found by.
    fn tuples(&self) -> (Tuple, Tuple) {
        let tuple = |from, ours| Tuple {
            from,
            protocol: self.protocol,
            ours,
            remote: self.remote,
        };
        (
            tuple(Side::Inside, self.inside()),
            tuple(Side::Outside, self.external()),
        )
    }

    /// Reads a word of each cache line.
    #[inline]
    fn touch(&self) -> u64 {
        self.deadline.0 ^ u64::from(self.remote.1)
    }

    pub(crate) fn role(&self, from: Side) -> Role {
        if from == self.origin {
            Role::Originator
        } else {
            Role::Responder
        }
    }

    /// Returns whether the inside host takes part, so that it is not an outsider's doing alone.
    pub(crate) fn inside_has_spoken(&self) -> bool {
        self.origin == Side::Inside || self.replied
    }

    pub(crate) fn is_half_open(&self) -> bool {
        self.tracker
            .is_some_and(|tracker| tracker.state().is_half_open())
    }

    /// Returns how long the session may now stay idle.
    pub(crate) fn timeout(&self, timeouts: &Timeouts) -> Nanos {
        match (self.protocol, self.tracker) {
            (Protocol::Tcp, Some(tracker)) => timeouts.tcp(tracker.state()),
            (Protocol::Udp, _) if self.remote.1 == DNS_PORT => timeouts.dns,
            (Protocol::Udp, _) if self.replied => timeouts.udp,
            (Protocol::Tcp | Protocol::Udp, _) => timeouts.udp_unreplied,
            (Protocol::Icmp, _) => timeouts.icmp,
            (Protocol::Sctp, _) => self.sctp.map_or(timeouts.sctp_transitory, |tracker| {
                timeouts.sctp(tracker.state())
            }),
            (Protocol::Other(_), _) => timeouts.other,
        }
    }

    fn state_name(&self) -> &'static str {
        match (self.tracker, self.sctp) {
            (Some(tracker), _) => tracker.state().name(),
            (None, Some(tracker)) => tracker.state().name(),
            (None, None) if self.replied => "REPLIED",
            (None, None) => "UNREPLIED",
        }
    }

    pub(crate) fn view(&self) -> SessionView {
        SessionView {
            protocol: self.protocol,
            state: self.state_name(),
            inside: self.inside(),
            external: self.external(),
            remote: self.remote,
            from_inside: self.origin == Side::Inside,
            replied: self.replied,
            created: self.created,
            last_seen: self.last_seen,
            expires_at: self.deadline,
            outbound: self.outbound,
            inbound: self.inbound,
        }
    }
}

/// A session as shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionView {
    /// Protocol.
    pub protocol: Protocol,
    /// TCP and SCTP: the state's name as Linux prints it; else `UNREPLIED` or `REPLIED`.
    pub state: &'static str,
    /// Address and port (query identifier) of the inside host.
    pub inside: (Ipv4Addr, u16),
    /// Address and port (query identifier) that the outside sees.
    pub external: (Ipv4Addr, u16),
    /// Address and port of the other end; for a query the port is the request's ICMP type.
    pub remote: (Ipv4Addr, u16),
    /// Whether the inside host sent the first packet.
    pub from_inside: bool,
    /// Whether the other side has answered.
    pub replied: bool,
    /// When the session was created.
    pub created: Nanos,
    /// When its last packet came, from either side.
    pub last_seen: Nanos,
    /// When it ends unless refreshed.
    pub expires_at: Nanos,
    /// Packets and bytes from inside to outside.
    pub outbound: Traffic,
    /// Packets and bytes from outside to inside.
    pub inbound: Traffic,
}

/// What a packet is found by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuple {
    /// Side the packet came from.
    pub(crate) from: Side,
    pub(crate) protocol: Protocol,
    /// The inside endpoint of a packet from inside, the external one of a packet from outside.
    pub(crate) ours: Endpoint,
    pub(crate) remote: Endpoint,
}

impl Tuple {
    fn is_of(&self, session: &Session) -> bool {
        let ours = match self.from {
            Side::Inside => session.inside(),
            Side::Outside => session.external(),
        };
        (ours, session.remote, session.protocol) == (self.ours, self.remote, self.protocol)
    }

    /// Everything in two words, of which the second is never zero.
    #[inline]
    fn words(&self) -> (u64, u64) {
        let (ours, remote) = (self.ours, self.remote);
        let ports = u64::from(ours.1) << 16 | u64::from(remote.1);
        let side = match self.from {
            Side::Inside => 0,
            Side::Outside => 1,
        };
        let protocol = u64::from(self.protocol.number());
        (
            u64::from(ours.0.to_bits()) << 32 | u64::from(remote.0.to_bits()),
            ports << 32 | protocol << 8 | side,
        )
    }
}

/// The session table: a slab, an index that finds each session by both tuples, and the timers.
pub(crate) struct Sessions {
    slab: Slab<Session>,
    index: Index,
    recent: Recent,
    wheel: Wheel,
    hashes: Hashes,
    half_open: u32,
    next_serial: u16,
}

impl Sessions {
    /// Packets that [`Sessions::fetch`] takes at once.
    pub(crate) const FETCHED_MAX: usize = 64;

    pub(crate) fn new(max: usize, key: HashKey) -> Self {
        Self {
            slab: Slab::new(max),
            index: Index::new(2 * max),
            recent: Recent::new(),
            wheel: Wheel::new(max),
            hashes: Hashes::new(key),
            half_open: 0,
            next_serial: 0,
        }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        self.slab.memory()
            + self.index.memory()
            + self.wheel.memory()
            + self.recent.memory()
            + self.hashes.memory()
    }

    /// Finds a session by the tuple of its outbound packets.
    pub(crate) fn find_outbound(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
        remote: Endpoint,
    ) -> Option<u32> {
        self.find(Tuple {
            from: Side::Inside,
            protocol,
            ours: inside,
            remote,
        })
    }

    /// Finds a session by the tuple of its inbound packets.
    pub(crate) fn find_inbound(
        &mut self,
        protocol: Protocol,
        external: Endpoint,
        remote: Endpoint,
    ) -> Option<u32> {
        self.find(Tuple {
            from: Side::Outside,
            protocol,
            ours: external,
            remote,
        })
    }

    fn find(&mut self, tuple: Tuple) -> Option<u32> {
        let slab = &self.slab;
        let matches = |id| slab.get(id).is_some_and(|session| tuple.is_of(session));
        let (guess, check) = self.recent.guess(tuple);
        if guess.check == check && matches(guess.id) {
            return Some(guess.id);
        }
        let id = self.index.find(self.hashes.of(tuple), matches)?;
        *guess = Guess { check, id };
        Some(id)
    }

    /// Has the memory fetched that looking up these tuples will need, [`Self::FETCHED_MAX`] of
    /// them at most, and remembers for each which session it seems to be.
    ///
    /// One packet after the other would wait for its bucket and then for its session. Here all
    /// loads of one kind stand close together and none depends on another, so the processor has
    /// as many under way as it can.
    pub(crate) fn fetch(&mut self, tuples: impl Iterator<Item = Tuple>) {
        let mut ids = List::new(0u32);
        let mut wanted = List::new((0u64, Guess::NONE, 0usize));
        for tuple in tuples.take(Self::FETCHED_MAX) {
            let (place, check) = Recent::place(tuple);
            let guess = self.recent.guesses[place];
            if guess.check == check {
                ids.push(guess.id);
            } else {
                let guess = Guess { check, ..guess };
                wanted.push((self.hashes.of(tuple), guess, place));
            }
        }
        let touched = |sum: u32, hash| sum ^ self.index.touch(hash);
        black_box(wanted.iter().map(|it| it.0).fold(0, touched));
        for &(hash, Guess { check, .. }, place) in wanted.iter() {
            if let Some(id) = self.index.candidate(hash) {
                self.recent.guesses[place] = Guess { check, id };
                ids.push(id);
            } else {
                black_box(self.index.touch_other(hash));
            }
        }
        let touch = |&id: &u32| self.slab.get(id).map_or(0, Session::touch);
        black_box(ids.iter().map(touch).fold(0, |sum, word| sum ^ word));
    }

    /// Stores a session, gives it a serial number and starts its timer; returns `None`, storing
    /// nothing, if the table is full.
    pub(crate) fn insert(&mut self, mut session: Session) -> Option<u32> {
        session.serial = self.next_serial;
        let (outbound, inbound) = self.hashes(&session);
        let (deadline, half_open) = (session.deadline, session.is_half_open());
        let id = self.slab.insert(session)?;
        if !self.index.insert(outbound, id) {
            self.slab.remove(id);
            return None;
        }
        if !self.index.insert(inbound, id) {
            self.index.remove(outbound, id);
            self.slab.remove(id);
            return None;
        }
        self.next_serial = self.next_serial.wrapping_add(1);
        self.half_open += u32::from(half_open);
        self.wheel.schedule(id, deadline);
        Some(id)
    }

    /// Takes a session out and stops its timer.
    pub(crate) fn remove(&mut self, id: u32) -> Option<Session> {
        let session = self.slab.remove(id)?;
        let (outbound, inbound) = self.hashes(&session);
        self.index.remove(outbound, id);
        self.index.remove(inbound, id);
        self.wheel.cancel(id);
        self.half_open -= u32::from(session.is_half_open());
        Some(session)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Session> {
        self.slab.get(id)
    }

    /// Lends a session for edits that leave its tuples, its deadline and its TCP state alone.
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Session> {
        self.slab.get_mut(id)
    }

    /// Edits a session and keeps the timer and the count of half-open sessions in step.
    pub(crate) fn update<T>(&mut self, id: u32, edit: impl FnOnce(&mut Session) -> T) -> Option<T> {
        let session = self.slab.get_mut(id)?;
        let (was_half_open, old_deadline) = (session.is_half_open(), session.deadline);
        let result = edit(session);
        self.half_open += u32::from(session.is_half_open());
        self.half_open -= u32::from(was_half_open);
        if session.deadline < old_deadline {
            self.wheel.schedule(id, session.deadline);
        }
        Some(result)
    }

    /// Looks at one timer that has come due: returns `None` when there is no other, else the
    /// session's number if it is dead.
    pub(crate) fn next_due(&mut self, now: Nanos) -> Option<Option<u32>> {
        let id = self.wheel.pop_due(now)?;
        match self.slab.get(id) {
            Some(session) if session.deadline > now => {
                self.wheel.schedule(id, session.deadline);
                Some(None)
            }
            Some(_) => Some(Some(id)),
            None => Some(None),
        }
    }

    /// Returns when [`Sessions::next_due`] will next have something to look at.
    pub(crate) fn next_expiry(&self) -> Option<Nanos> {
        self.wheel.next_due()
    }

    pub(crate) fn half_open(&self) -> u32 {
        self.half_open
    }

    pub(crate) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(crate) fn max(&self) -> usize {
        self.slab.max()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.slab.is_full()
    }

    /// Returns a number above that of every session.
    pub(crate) fn end(&self) -> u32 {
        self.slab.end()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.slab.iter()
    }

    /// The hashes of the tuples that outbound and inbound packets have.
    fn hashes(&mut self, session: &Session) -> (u64, u64) {
        let (outbound, inbound) = session.tuples();
        (self.hashes.of(outbound), self.hashes.of(inbound))
    }
}

/// The sessions found last. Packets come in trains, and the keyed hash costs more than all else of
/// a look-up together; so a guess is tried first, by a hash without a key. It is believed only if
/// the session has the packet's tuple, hence who makes tuples collide makes only himself slower.
struct Recent {
    guesses: Box<[Guess; Self::PLACES]>,
}

#[derive(Clone, Copy)]
struct Guess {
    /// More bits of the hash: a session is not looked at, at the price of a cache miss, unless it
    /// is most probably the right one.
    check: u32,
    id: u32,
}

impl Guess {
    /// A number that no session has: nothing is guessed.
    const NONE: Self = Self {
        check: 0,
        id: u32::MAX,
    };
}

impl Recent {
    /// As many flows as are busy at a time; 8 KiB.
    const PLACES: usize = 1024;

    fn new() -> Self {
        Self {
            guesses: Box::new([Guess::NONE; Self::PLACES]),
        }
    }

    fn memory(&self) -> usize {
        size_of_val::<[Guess; Self::PLACES]>(&self.guesses)
    }

    /// The place for the guess of a tuple, and the check that it is meant.
    #[inline]
    fn guess(&mut self, tuple: Tuple) -> (&mut Guess, u32) {
        let (place, check) = Self::place(tuple);
        (&mut self.guesses[place], check)
    }

    #[inline]
    fn place(tuple: Tuple) -> (usize, u32) {
        let (addresses, ports) = tuple.words();
        let mixed = (addresses ^ ports.rotate_right(12)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The upper bits of a product depend on all bits of the factors.
        let place = usize::try_from(mixed >> 54).unwrap_or(0);
        let check = (mixed >> 22 & 0xffff_ffff) as u32;
        (place % Self::PLACES, check)
    }
}

/// The keyed hashes of tuples. A new flow needs its own three times, to be announced, to be looked
/// up and to be stored; so those worked out last are kept.
struct Hashes {
    key: HashKey,
    last: Box<[Hashed; Self::PLACES]>,
}

#[derive(Clone, Copy)]
struct Hashed {
    words: (u64, u64),
    hash: u64,
}

impl Hashes {
    /// Four times the packets of a batch; 6 KiB.
    const PLACES: usize = 256;

    fn new(key: HashKey) -> Self {
        // The words of no tuple.
        let none = Hashed {
            words: (0, 0),
            hash: 0,
        };
        Self {
            key,
            last: Box::new([none; Self::PLACES]),
        }
    }

    fn memory(&self) -> usize {
        size_of_val::<[Hashed; Self::PLACES]>(&self.last)
    }

    #[inline]
    fn of(&mut self, tuple: Tuple) -> u64 {
        let words = tuple.words();
        let (place, _) = Recent::place(tuple);
        let last = &mut self.last[place % Self::PLACES];
        if last.words != words {
            *last = Hashed {
                words,
                hash: self.key.hash(words.0, words.1),
            };
        }
        last.hash
    }
}

/// Up to [`Sessions::FETCHED_MAX`] of something.
struct List<T> {
    items: [T; Sessions::FETCHED_MAX],
    len: usize,
}

impl<T: Copy> List<T> {
    fn new(filler: T) -> Self {
        Self {
            items: [filler; Sessions::FETCHED_MAX],
            len: 0,
        }
    }

    /// Adds an item if there is room.
    #[inline]
    fn push(&mut self, item: T) {
        if let Some(place) = self.items.get_mut(self.len) {
            *place = item;
            self.len += 1;
        }
    }

    fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items[..self.len].iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Slot;
    use std::mem::offset_of;

    #[test]
    fn a4_3_a_session_touches_two_cache_lines() {
        assert_eq!(size_of::<Slot<Session>>(), 96);
        assert_eq!(align_of::<Slot<Session>>(), 32);
        // 0..96 or 32..128 of two lines of 64 bytes: `touch` reads one word in each.
        assert_eq!(offset_of!(Session, deadline), 0);
        assert!(offset_of!(Session, remote) >= 64);
    }
}
