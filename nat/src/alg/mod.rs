//! Helpers for protocols that carry addresses in their payload, or answer from another port.
//!
//! # Theory of operation
//! Both are off unless configured (RFC 5382 REQ-6): a helper believes what it reads.
//!
//! An *expectation* lets one remote address, from any port, open one session on a mapping within
//! [`LIFETIME`], whatever the filtering. It holds the mapping as a session would. TFTP needs no
//! more (RFC 1350 section 4): a request to port 69 makes one. There is a fixed number; the oldest
//! is given up for a new one.
//!
//! FTP (RFC 959, RFC 2428) tells the other side where to connect: PORT and EPRT of inside
//! clients towards port 21, and the replies 227 and 229 of inside servers on port 21. The inside
//! endpoint told is mapped, expected, and replaced by its external one. Only the sender's own
//! address is, and only ports from 1024 on, so that none opens another's ports (RFC 2577
//! section 3). A segment must begin with the command and hold its whole line; one that does not
//! passes untouched, and is counted as [`Counters::unhelped`](crate::Counters) if it can be told.
//!
//! The new text may be longer and the caller's buffer has no room: so a copy that is longer is
//! released like a fragment that had waited ([`Outcome::Held`], [`Nat::released`]), and the
//! original stays as it is. From then on all sequence numbers of that direction are shifted, and
//! back again in the acknowledgements and selective acknowledgements (RFC 2018) of the other
//! (`shift`). That state is not part of a session, and there is a fixed number of it too; a
//! command that finds no room passes untouched.

mod expect;
mod ftp;
mod shift;

use crate::Nanos;
use crate::admission::Purpose;
use crate::checksum;
use crate::config::Helpers;
use crate::engine::{Fate, Nat, Packet};
use crate::flow::Header;
use crate::hash::HashKey;
use crate::ids;
use crate::outcome::{Outcome, Reason};
use crate::rewrite::{End, L4Sum, Protocol, Rewrite};
use crate::session::{Endpoint, NO_MAPPING, Session};
use crate::wire::{Ipv4, Tcp, TcpFlags, protocol};
use expect::Expectations;
use ftp::{Found, Told};
use shift::{Change, Shifts};

/// How long an expectation waits.
pub(crate) const LIFETIME: Nanos = Nanos::from_secs(60);
/// Sessions that are expected at once, and connections that are shifted.
const EXPECTED_MAX: usize = 1_024;
const SHIFTED_MAX: usize = 1_024;
const FTP_PORT: u16 = 21;
const TFTP_PORT: u16 = 69;
/// What is longer is not made longer still: any link takes this (RFC 791), and no line of FTP's
/// needs more.
const GROWN_MAX: usize = 576;
/// A port below is a service's, never one that a transfer chose.
const UNPRIVILEGED: u16 = 1_024;

/// The state of all helpers of one engine.
pub(crate) struct Alg {
    helpers: Helpers,
    expectations: Expectations,
    shifts: Shifts,
}

impl Alg {
    /// Returns the bytes taken, its own included.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Self>() + self.expectations.memory() + self.shifts.memory()
    }

    /// Takes memory for what is bounded, or returns `None` if nothing is to be helped.
    pub(crate) fn new(helpers: Helpers, seed: u64) -> Option<Box<Self>> {
        (helpers != Helpers::default()).then(|| {
            Box::new(Self {
                helpers,
                expectations: Expectations::new(EXPECTED_MAX, HashKey::new(seed, 17)),
                shifts: Shifts::new(SHIFTED_MAX, HashKey::new(seed, 18)),
            })
        })
    }

    /// Lays the tables aside; see [`Cells::lay_aside`](crate::cells::Cells::lay_aside).
    pub(crate) fn lay_aside(&mut self) -> Self {
        Self {
            helpers: self.helpers,
            expectations: self.expectations.lay_aside(),
            shifts: self.shifts.lay_aside(),
        }
    }

    pub(crate) fn take_back(&mut self, twin: Self) {
        self.expectations.take_back(twin.expectations);
        self.shifts.take_back(twin.shifts);
    }

    fn helps_ftp(&self, inside: Endpoint, remote: Endpoint) -> bool {
        self.helpers.ftp && (remote.1 == FTP_PORT || inside.1 == FTP_PORT)
    }
}

impl Nat {
    /// Takes note of what an outbound packet of a session says, before it is edited. Returns its
    /// fate if a copy goes in its place.
    pub(crate) fn help(
        &mut self,
        session: u32,
        rewrite: Rewrite,
        packet: &Packet<'_>,
        header: Header,
        fate: (Outcome, Nanos),
    ) -> Option<Fate> {
        let alg = self.alg.as_ref()?;
        let found = self.sessions.get(session)?;
        let (outcome, now) = fate;
        match found.protocol {
            Protocol::Udp if alg.helpers.tftp && found.remote.1 == TFTP_PORT => {
                let (mapping, remote) = (found.mapping, found.remote);
                self.expect(mapping, remote, now);
                None
            }
            Protocol::Tcp if alg.helps_ftp(found.inside(), found.remote) && !header.is_fragment => {
                let bytes = self.tell(session, rewrite, packet, header, now)?;
                let held = self.fragments.release_copy(bytes, outcome);
                Some(Fate {
                    outcome: held,
                    session: Some(session),
                })
            }
            Protocol::Tcp
            | Protocol::Udp
            | Protocol::Icmp
            | Protocol::Sctp
            | Protocol::Other(_) => None,
        }
    }

    /// Shifts the sequence number of an outbound segment, if an earlier one changed its length.
    pub(crate) fn shift_outbound(&mut self, session: u32, packet: &mut Packet<'_>, header: Header) {
        let Some(alg) = self
            .alg
            .as_mut()
            .filter(|_| header.protocol == protocol::TCP)
        else {
            return;
        };
        if let Ok(tcp) = Tcp::parse(&mut packet.bytes[header.header_len..header.total_len]) {
            // Numbers begin anew with a connection.
            if tcp.flags().contains(TcpFlags::SYN) {
                alg.shifts.remove(session);
            } else if let Some(change) = alg.shifts.find(session) {
                shift::sequence(change, tcp, packet.l4_sum);
            }
        }
    }

    /// Shifts back what an inbound segment acknowledges.
    pub(crate) fn shift_inbound(&mut self, session: u32, packet: &mut Packet<'_>, header: Header) {
        let Some(alg) = self
            .alg
            .as_mut()
            .filter(|_| header.protocol == protocol::TCP)
        else {
            return;
        };
        if let Some(change) = alg.shifts.find(session)
            && let Ok(tcp) = Tcp::parse(&mut packet.bytes[header.header_len..header.total_len])
        {
            shift::acknowledgement(change, tcp, packet.l4_sum);
        }
    }

    /// Returns whether a remote address may open a session on a mapping.
    pub(crate) fn is_expected(&self, mapping: u32, remote: Endpoint, now: Nanos) -> bool {
        let alg = self.alg.as_ref();
        alg.is_some_and(|alg| alg.expectations.contains(mapping, remote.0, now))
    }

    /// Ends an expectation whose session is there.
    pub(crate) fn fulfil(&mut self, mapping: u32, remote: Endpoint) {
        let alg = self.alg.as_mut();
        if alg.is_some_and(|alg| alg.expectations.fulfil(mapping, remote.0)) {
            self.release_mapping(mapping);
        }
    }

    /// Gives up expectations whose time is over, at most `budget`; returns how many.
    pub(crate) fn expire_expectations(&mut self, now: Nanos, budget: usize) -> usize {
        let mut ended = 0;
        while ended < budget
            && let Some(alg) = &mut self.alg
            && let Some(held) = alg.expectations.pop_due(now)
        {
            ended += 1;
            if let Some(mapping) = held {
                self.release_mapping(mapping);
            }
        }
        ended
    }

    /// Returns when the next expectation's time is over.
    pub(crate) fn next_expectation(&self) -> Option<Nanos> {
        self.alg.as_ref()?.expectations.next_expiry()
    }

    /// Returns whether a helper reads every packet of a session.
    pub(crate) fn reads_all_of(&self, session: &Session) -> bool {
        let alg = self.alg.as_ref();
        alg.is_some_and(|alg| alg.helps_ftp(session.inside(), session.remote))
    }

    /// Forgets the shift of a session that ends.
    pub(crate) fn forget_shift(&mut self, session: u32) {
        if let Some(alg) = &mut self.alg {
            alg.shifts.remove(session);
        }
    }

    fn expect(&mut self, mapping: u32, remote: Endpoint, now: Nanos) {
        let Some(alg) = self.alg.as_mut().filter(|_| mapping != NO_MAPPING) else {
            return;
        };
        let deadline = now + LIFETIME;
        let (added, given_up) = alg.expectations.add(mapping, remote.0, deadline);
        if added {
            self.mappings.add_session(mapping);
            self.mappings.prolong(mapping, deadline);
        } else {
            self.unmap_unused(mapping);
        }
        if let Some(given_up) = given_up {
            self.release_mapping(given_up);
        }
    }

    /// Returns a translated copy of a segment that tells an inside endpoint, with the external
    /// one in its place; `None` if there is nothing to be replaced, or it cannot be.
    fn tell(
        &mut self,
        session: u32,
        rewrite: Rewrite,
        packet: &Packet<'_>,
        header: Header,
        now: Nanos,
    ) -> Option<Vec<u8>> {
        let segment = &packet.bytes[header.header_len..header.total_len];
        let tcp = Tcp::parse(segment).ok()?;
        let data = &segment[tcp.header_len()..];
        let is_server = self.sessions.get(session)?.inside().1 == FTP_PORT;
        let told = match ftp::read(data, is_server) {
            Found::Nothing => return None,
            // What arrives damaged is for the receiver to drop, and not for us to repair.
            Found::Told(told) if packet.l4_sum == L4Sum::Pseudo || is_right(header, segment) => {
                told
            }
            Found::Told(_) | Found::Incomplete => {
                self.counters.unhelped += 1;
                return None;
            }
        };
        let start = tcp.sequence().wrapping_add(told.at_u32());
        let Ok(port) = self.map_told(session, &told, start, now) else {
            self.counters.unhelped += 1;
            return None;
        };
        let external = (self.sessions.get(session)?.external().0, port);
        let text = told.with(external);
        let change = Change::new(start, told.len(), text.len(), port);
        let grown = header.total_len + text.len() - told.len();
        let fits = grown <= GROWN_MAX.max(header.total_len);
        if !fits || !self.alg.as_mut()?.shifts.record(session, change) {
            self.counters.unhelped += 1;
            return None;
        }
        let head = header.header_len + tcp.header_len();
        let mut bytes = Vec::with_capacity(grown);
        bytes.extend_from_slice(&packet.bytes[..head + told.at.start]);
        bytes.extend_from_slice(text.as_bytes());
        bytes.extend_from_slice(&packet.bytes[head + told.at.end..header.total_len]);
        rewrite.apply_address(End::Source, &mut bytes);
        let transport = &mut bytes[header.header_len..];
        rewrite.apply_port(End::Source, Protocol::Tcp, transport, L4Sum::Full);
        self.ids.renew(&mut bytes);
        self.counters.helped += 1;
        let shifted = self.alg.as_ref()?.shifts.find(session);
        finish(&mut bytes, header.header_len, shifted);
        Some(bytes)
    }

    /// Returns the external port for an inside endpoint that a session's peer is told, and
    /// expects the peer there. A segment that is sent again gets the port it got before.
    fn map_told(
        &mut self,
        session: u32,
        told: &Told,
        start: u32,
        now: Nanos,
    ) -> Result<u16, Reason> {
        let found = self.sessions.get(session).ok_or(Reason::Unsolicited)?;
        let (inside, remote) = (found.inside().0, found.remote);
        if told.address.is_some_and(|address| address != inside) || told.port < UNPRIVILEGED {
            return Err(Reason::Unsolicited);
        }
        let before = self.alg.as_ref().and_then(|alg| alg.shifts.find(session));
        if let Some(change) = before.filter(|change| change.start == start) {
            return Ok(change.port);
        }
        let (parent, external) = (found.parent(), found.external().0);
        let host = self.host_of(parent).ok_or(Reason::Unsolicited)?;
        self.mappings.tick(now);
        // The peer may be told a port and no address: it must be on this one (RFC 2428).
        let slot = self.mappings.externals.slot_of(external);
        let slot = slot.ok_or(Reason::Unsolicited)?;
        if self.hosts.paired(host).is_some_and(|own| own != slot) {
            return Err(Reason::Unsolicited);
        }
        let told = (inside, told.port);
        let mapping = self.mapping_for(Protocol::Tcp, told, host, Purpose::Told(slot))?;
        self.expect(mapping, remote, now);
        let port = self.mappings.get(mapping).map(|mapping| mapping.external.1);
        port.ok_or(Reason::Unsolicited)
    }
}

/// Returns whether the checksum of a whole segment is right.
fn is_right(header: Header, segment: &[u8]) -> bool {
    let length = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    let pseudo = checksum::pseudo_v4(header.src, header.dst, header.protocol, length);
    checksum::finish(pseudo + checksum::sum(segment)) == 0
}

/// Sets length, sequence number and checksums of a copy whose text has been replaced.
fn finish(bytes: &mut [u8], header_len: usize, change: Option<&Change>) {
    let total_len = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    ids::set_total_len(bytes, total_len);
    let Ok(ip) = Ipv4::parse(&mut *bytes) else {
        return;
    };
    let (src, dst) = (ip.src(), ip.dst());
    let segment = &mut bytes[header_len..];
    if let (Some(change), Ok(tcp)) = (change, Tcp::parse(&mut *segment)) {
        shift::sequence(change, tcp, L4Sum::Pseudo);
    }
    let length = u16::try_from(segment.len()).unwrap_or(u16::MAX);
    let pseudo = checksum::pseudo_v4(src, dst, protocol::TCP, length);
    if let Ok(mut tcp) = Tcp::parse(&mut *segment) {
        tcp.set_checksum(0);
    }
    let field = checksum::finish(pseudo + checksum::sum(segment));
    if let Ok(mut tcp) = Tcp::parse(segment) {
        tcp.set_checksum(field);
    }
}
