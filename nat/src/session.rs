//! Sessions: the translations in force, found by either of their two tuples.

use std::net::Ipv4Addr;

use crate::Nanos;
use crate::config::Timeouts;
use crate::hash::HashKey;
use crate::index::Index;
use crate::rewrite::{Protocol, Rewrite};
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
/// Aligned so that a packet touches two cache lines here and not three or four.
#[repr(align(64))]
pub(crate) struct Session {
    pub(crate) inside: Endpoint,
    pub(crate) external: Endpoint,
    pub(crate) remote: Endpoint,
    pub(crate) protocol: Protocol,
    /// Side whose packet created the session.
    pub(crate) origin: Side,
    /// The other side has spoken.
    pub(crate) replied: bool,
    /// Opened from outside, and not yet shown to be wanted: see `strangers`.
    pub(crate) provisional: bool,
    /// Connection state; `None` unless this is TCP.
    pub(crate) tracker: Option<Tracker>,
    /// Edit of the source of outbound packets.
    pub(crate) out: Rewrite,
    /// Edit of the destination of inbound packets.
    pub(crate) back: Rewrite,
    pub(crate) mapping: u32,
    /// Tells this session from a later one in the same slot.
    pub(crate) serial: u32,
    pub(crate) created: Nanos,
    pub(crate) last_seen: Nanos,
    /// When it is dead unless refreshed.
    pub(crate) deadline: Nanos,
    pub(crate) outbound: Traffic,
    pub(crate) inbound: Traffic,
}

impl Session {
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
        self.origin == Side::Inside
            && self
                .tracker
                .is_some_and(|tracker| tracker.state().is_half_open())
    }

    /// Returns whether a packet that has just come shows a session opened from outside to be
    /// wanted by both sides.
    pub(crate) fn settles(&self, from: Side) -> bool {
        match self.tracker {
            Some(tracker) => tracker.state().is_open(),
            None => self.replied && from == Side::Outside,
        }
    }

    /// Returns how long the session may now stay idle.
    pub(crate) fn timeout(&self, timeouts: &Timeouts) -> Nanos {
        match (self.protocol, self.tracker) {
            (Protocol::Tcp, Some(tracker)) if self.provisional => {
                timeouts.tcp_inbound(tracker.state())
            }
            (Protocol::Tcp, Some(tracker)) => timeouts.tcp(tracker.state()),
            (Protocol::Udp, _) if self.remote.1 == DNS_PORT => timeouts.dns,
            (Protocol::Udp, _) if self.replied => timeouts.udp,
            (Protocol::Tcp | Protocol::Udp, _) => timeouts.udp_unreplied,
            (Protocol::Icmp, _) => timeouts.icmp,
        }
    }

    fn state_name(&self) -> &'static str {
        match self.tracker {
            Some(tracker) => tracker.state().name(),
            None if self.replied => "REPLIED",
            None => "UNREPLIED",
        }
    }

    pub(crate) fn view(&self) -> SessionView {
        SessionView {
            protocol: self.protocol,
            state: self.state_name(),
            inside: self.inside,
            external: self.external,
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
    /// TCP: the state's name as Linux prints it; else `UNREPLIED` or `REPLIED`.
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

/// The session table: a slab, an index that finds each session by both tuples, and the timers.
pub(crate) struct Sessions {
    slab: Slab<Session>,
    index: Index,
    recent: Recent,
    wheel: Wheel,
    key: HashKey,
    half_open: u32,
    next_serial: u32,
}

impl Sessions {
    pub(crate) fn new(max: usize, key: HashKey) -> Self {
        Self {
            slab: Slab::new(max),
            index: Index::new(2 * max),
            recent: Recent::new(),
            wheel: Wheel::new(max),
            key,
            half_open: 0,
            next_serial: 0,
        }
    }

    /// Finds a session by the tuple of its outbound packets.
    pub(crate) fn find_outbound(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
        remote: Endpoint,
    ) -> Option<u32> {
        self.find(Side::Inside, protocol, inside, remote)
    }

    /// Finds a session by the tuple of its inbound packets.
    pub(crate) fn find_inbound(
        &mut self,
        protocol: Protocol,
        external: Endpoint,
        remote: Endpoint,
    ) -> Option<u32> {
        self.find(Side::Outside, protocol, external, remote)
    }

    fn find(
        &mut self,
        from: Side,
        protocol: Protocol,
        ours: Endpoint,
        remote: Endpoint,
    ) -> Option<u32> {
        let slab = &self.slab;
        let matches = |id| {
            slab.get(id).is_some_and(|session| {
                let of_session = match from {
                    Side::Inside => session.inside,
                    Side::Outside => session.external,
                };
                of_session == ours && session.remote == remote && session.protocol == protocol
            })
        };
        let guess = self.recent.guess(ours, remote);
        if matches(*guess) {
            return Some(*guess);
        }
        let hash = hash(self.key, from, protocol, ours, remote);
        let found = self.index.find(hash, matches)?;
        *guess = found;
        Some(found)
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

    fn hashes(&self, session: &Session) -> (u64, u64) {
        let of = |from, ours| hash(self.key, from, session.protocol, ours, session.remote);
        (
            of(Side::Inside, session.inside),
            of(Side::Outside, session.external),
        )
    }
}

/// The keyed hash of the tuple that packets `from` a side have.
fn hash(key: HashKey, from: Side, protocol: Protocol, ours: Endpoint, remote: Endpoint) -> u64 {
    let (addresses, ports) = words(ours, remote);
    let tuple = match from {
        Side::Inside => 0,
        Side::Outside => 1,
    };
    key.hash(
        addresses,
        ports << 32 | u64::from(protocol.number()) << 8 | tuple,
    )
}

fn words(ours: Endpoint, remote: Endpoint) -> (u64, u64) {
    (
        u64::from(ours.0.to_bits()) << 32 | u64::from(remote.0.to_bits()),
        u64::from(ours.1) << 16 | u64::from(remote.1),
    )
}

/// The sessions found last. Packets come in trains, and the keyed hash costs more than all else of
/// a look-up together; so a guess is tried first, by a hash without a key. It is believed only if
/// the session has the packet's tuple, hence who makes tuples collide makes only himself slower.
struct Recent {
    ids: Box<[u32; Self::PLACES]>,
}

impl Recent {
    /// As many flows as are busy at a time; 4 KiB.
    const PLACES: usize = 1024;

    fn new() -> Self {
        // A number that no session has: nothing is guessed.
        Self {
            ids: Box::new([u32::MAX; Self::PLACES]),
        }
    }

    /// The place for the guess of a tuple.
    fn guess(&mut self, ours: Endpoint, remote: Endpoint) -> &mut u32 {
        let (addresses, ports) = words(ours, remote);
        let mixed = (addresses ^ ports.rotate_left(20)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The upper bits of a product depend on all bits of the factors.
        let place = usize::try_from(mixed >> 54).unwrap_or(0);
        &mut self.ids[place % Self::PLACES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a4_3_a_session_takes_two_cache_lines() {
        assert_eq!(size_of::<Option<Session>>(), 128);
    }
}
