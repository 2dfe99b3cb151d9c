//! Sessions: the translations in force, found by either of their two tuples.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::ops::Range;

use crate::Nanos;
use crate::config::Timeouts;
use crate::connection::Connection;
use crate::few::{self, Few};
use crate::hash::HashKey;
use crate::index::Index;
use crate::recent::{Guess, Hashes, Recent};
use crate::rewrite::{Protocol, Rewrite};
use crate::slab::Slab;
use crate::tcp::Role;
use crate::wheel::Wheel;

/// The well-known port whose exchanges are over at once (RFC 4787 REQ-5a).
const DNS_PORT: u16 = 53;

/// An address and a port, or a query identifier.
pub(crate) type Endpoint = (Ipv4Addr, u16);

/// Stands for the mapping of a session that has none: its external port is a published one.
pub(crate) const NO_MAPPING: u32 = u32::MAX;

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
#[derive(Clone)]
#[repr(C, align(32))]
pub(crate) struct Session {
    /// When it is dead unless refreshed.
    pub(crate) deadline: Nanos,
    pub(crate) created: Nanos,
    pub(crate) outbound: Traffic,
    pub(crate) inbound: Traffic,
    /// The mapping it belongs to, or [`NO_MAPPING`].
    pub(crate) mapping: u32,
    pub(crate) connection: Connection,
    /// Tells this session from others in the same slot; it comes again after 65,536 sessions.
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
    /// Opened from outside, and not yet shown to be wanted: see `strangers`.
    pub(crate) provisional: bool,
    /// Others carry packets of it: see `lend`.
    pub(crate) lent: bool,
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

    /// Returns its mapping and its inside host, which say in whose account it is.
    pub(crate) fn parent(&self) -> (u32, Ipv4Addr) {
        (self.mapping, self.back.target().0)
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

    /// Returns whether this is a handshake that the inside began; those that outsiders began are
    /// limited apart (`strangers`), so that neither side's flood refuses the other's.
    pub(crate) fn is_half_open(&self) -> bool {
        self.origin == Side::Inside && self.connection.is_half_open()
    }

    /// Returns whether a packet that came shows a session from outside to be wanted by both sides.
    pub(crate) fn settles(&self, from: Side) -> bool {
        match self.connection {
            Connection::Tcp(tracker) => tracker.state().is_open(),
            Connection::None | Connection::Sctp(_) => self.replied && from == Side::Outside,
        }
    }

    /// Returns how long the session may now stay idle.
    #[inline]
    pub(crate) fn timeout(&self, timeouts: &Timeouts) -> Nanos {
        match (self.protocol, self.connection) {
            (_, Connection::Tcp(tracker)) if self.provisional => {
                timeouts.tcp_inbound(tracker.state())
            }
            (_, Connection::Tcp(tracker)) => timeouts.tcp(tracker.state()),
            (_, Connection::Sctp(tracker)) => timeouts.sctp(tracker.state()),
            (Protocol::Udp, _) if self.remote.1 == DNS_PORT => timeouts.dns,
            (Protocol::Udp, _) if self.replied => timeouts.udp,
            (Protocol::Tcp | Protocol::Udp, _) => timeouts.udp_unreplied,
            (Protocol::Icmp, _) => timeouts.icmp,
            (Protocol::Sctp | Protocol::Other(_), _) => timeouts.other,
        }
    }

    pub(crate) fn state_name(&self) -> &'static str {
        match self.connection {
            Connection::Tcp(tracker) => tracker.state().name(),
            Connection::Sctp(tracker) => tracker.state().name(),
            Connection::None if self.replied => "REPLIED",
            Connection::None => "UNREPLIED",
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
    /// The tuple of no packet.
    const NONE: Self = Self {
        from: Side::Inside,
        protocol: Protocol::Tcp,
        ours: (Ipv4Addr::UNSPECIFIED, 0),
        remote: (Ipv4Addr::UNSPECIFIED, 0),
    };

    fn is_of(&self, session: &Session) -> bool {
        let ours = match self.from {
            Side::Inside => session.inside(),
            Side::Outside => session.external(),
        };
        (ours, session.remote, session.protocol) == (self.ours, self.remote, self.protocol)
    }

    /// Everything in two words, of which the second is never zero.
    #[inline]
    pub(crate) fn words(&self) -> (u64, u64) {
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

/// A tuple whose session has to be looked for.
#[derive(Clone, Copy)]
struct Wanted {
    tuple: Tuple,
    hash: u64,
    /// Where its guess is, and how it is known.
    place: usize,
    check: u32,
}

impl Wanted {
    const NONE: Self = Self {
        tuple: Tuple::NONE,
        hash: 0,
        place: 0,
        check: 0,
    };
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

    /// Returns where the largest tables lie.
    pub(crate) fn rooms(&self) -> [Range<*const u8>; 2] {
        [self.slab.room(), self.index.room()]
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

    /// Has the memory fetched that looking up these tuples will need, [`few::MAX`] of them at most,
    /// and remembers for each which session it seems to be; returns those that seem to be new.
    ///
    /// One packet after the other would wait for its bucket and then for its session. Here buckets
    /// are on their way while the next tuples are hashed; and all loads of sessions stand close
    /// together and none depends on another, so the processor has as many under way as it can.
    /// (Loads, since a processor may drop what it is only asked to fetch, and some do so where the
    /// page is not in their buffer: BENCHMARKS.md.)
    pub(crate) fn fetch(
        &mut self,
        tuples: impl Iterator<Item = Tuple>,
        fetch: impl Fn(*const u8),
    ) -> Few<Tuple> {
        let mut wanted = Few::new(Wanted::NONE);
        let mut strange = Few::new(Tuple::NONE);
        let mut ids = Few::new(0u32);
        for tuple in tuples.take(few::MAX) {
            let words = tuple.words();
            let (place, check) = Recent::place(words);
            let guess = self.recent.at(place);
            if guess.check == check {
                ids.push(guess.id);
                continue;
            }
            let hash = self.hashes.once(words);
            fetch(self.index.place(hash));
            wanted.push(Wanted {
                tuple,
                hash,
                place,
                check,
            });
        }
        for wanted in wanted.iter() {
            let (check, hash) = (wanted.check, wanted.hash);
            if let Some(id) = self.index.candidate(hash) {
                ids.push(id);
                *self.recent.at(wanted.place) = Guess { check, id };
            } else {
                fetch(self.index.other_place(hash));
                self.hashes.keep(wanted.tuple.words(), hash);
                strange.push(wanted.tuple);
            }
        }
        let touch = |&id: &u32| self.slab.get(id).map_or(0, Session::touch);
        black_box(ids.iter().map(touch).fold(0, |all, word| all ^ word));
        strange
    }

    /// Has the memory fetched that storing sessions with these tuples will need.
    pub(crate) fn fetch_new(
        &mut self,
        tuples: impl Iterator<Item = Tuple>,
        fetch: impl Fn(*const u8),
    ) {
        tuples.for_each(|tuple| fetch(self.index.place(self.hashes.of(tuple))));
    }

    /// Has the memory fetched that the end of those sessions will need which
    /// [`Sessions::next_due`] will give, up to `budget`; returns those that are over.
    pub(crate) fn fetch_due(&mut self, now: Nanos, budget: usize) -> Few<u32> {
        let (mut due, mut over) = (Few::new(0u32), Few::new(0u32));
        let timers = self.wheel.due(now).take(budget.min(few::MAX));
        timers.for_each(|id| due.push(id));
        let touch = |&id: &u32| self.slab.get(id).map_or(0, Session::touch);
        black_box(due.iter().map(touch).fold(0, |all, word| all ^ word));
        let mut hashes = Few::new((0u64, 0u64));
        for &id in due.iter() {
            let session = self.slab.get(id);
            if let Some(session) = session.filter(|session| session.deadline <= now) {
                over.push(id);
                let (outbound, inbound) = session.tuples();
                hashes.push((self.hashes.of(outbound), self.hashes.of(inbound)));
            }
        }
        let touch = |&(one, other): &(u64, u64)| self.index.touch(one) ^ self.index.touch(other);
        black_box(hashes.iter().map(touch).fold(0, |all, word| all ^ word));
        over
    }

    /// Stores a session, gives it a serial number and starts its timer; returns `None`, storing
    /// nothing, if the table is full.
    #[inline(always)]
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

    /// Takes a session out and stops its timer; returns what it was.
    #[inline]
    pub(crate) fn remove(&mut self, id: u32) -> Option<Session> {
        let session = self.slab.get(id)?.clone();
        self.take_out(id, &session);
        Some(session)
    }

    fn take_out(&mut self, id: u32, session: &Session) {
        self.slab.vacate(id);
        let (outbound, inbound) = session.tuples();
        self.index.remove(self.hashes.of(outbound), id);
        self.index.remove(self.hashes.of(inbound), id);
        self.wheel.cancel(id);
        self.half_open -= u32::from(session.is_half_open());
    }

    pub(crate) fn get(&self, id: u32) -> Option<&Session> {
        self.slab.get(id)
    }

    /// Lends a session for edits that leave its tuples, its deadline and its TCP state alone.
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Session> {
        self.slab.get_mut(id)
    }

    /// Edits a session and keeps the timer and the count of half-open sessions in step.
    #[inline]
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

    /// Lays the tables aside; see [`Cells::lay_aside`](crate::cells::Cells::lay_aside).
    pub(crate) fn lay_aside(&mut self) -> Self {
        let Self {
            ref mut slab,
            ref mut index,
            ref recent,
            ref mut wheel,
            ref hashes,
            half_open,
            next_serial,
        } = *self;
        Self {
            slab: slab.lay_aside(),
            index: index.lay_aside(),
            recent: recent.clone(),
            wheel: wheel.lay_aside(),
            hashes: hashes.clone(),
            half_open,
            next_serial,
        }
    }

    pub(crate) fn take_back(&mut self, twin: Self) {
        self.slab.take_back(twin.slab);
        self.index.take_back(twin.index);
        self.wheel.take_back(twin.wheel);
    }

    /// The hashes of the tuples that outbound and inbound packets have.
    fn hashes(&mut self, session: &Session) -> (u64, u64) {
        let (outbound, inbound) = session.tuples();
        (self.hashes.of(outbound), self.hashes.of(inbound))
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
