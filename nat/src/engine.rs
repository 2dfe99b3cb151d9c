//! The engine: one slice of one external address, one call per packet.

use std::net::Ipv4Addr;

use crate::alg::Alg;
use crate::config::{Config, Filtering};
use crate::flow::{Class, Flow, Header, classify};
use crate::fragment::Fragments;
use crate::hash::HashKey;
use crate::ids::Ids;
use crate::mapping::{Mappings, Peers};
use crate::other;
use crate::outcome::{Counters, Direction, Outcome, Reason};
use crate::pool::owner_of;
use crate::rewrite::{End, L4Sum, Protocol, Rewrite};
use crate::session::{Session, SessionView, Sessions, Side};
use crate::slab::at;
use crate::tcp::{Role, Segment, Step, Tracker};
use crate::wire::icmp;
use crate::{Nanos, ReleasedPacket};

/// A packet to be translated in place.
#[derive(Debug)]
pub struct Packet<'p> {
    /// From the first byte of the IPv4 header; bytes beyond its total length (an Ethernet
    /// trailer) may follow and are left alone.
    pub bytes: &'p mut [u8],
    /// What the transport checksum field holds.
    pub l4_sum: L4Sum,
}

/// What a packet came to, and the session it belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Fate {
    pub(crate) outcome: Outcome,
    pub(crate) session: Option<u32>,
}

impl From<Outcome> for Fate {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            session: None,
        }
    }
}

impl From<Reason> for Fate {
    fn from(reason: Reason) -> Self {
        Outcome::Drop(reason).into()
    }
}

/// A NAT44 engine; see the crate's theory of operation.
pub struct Nat {
    pub(crate) config: Config,
    pub(crate) sessions: Sessions,
    pub(crate) mappings: Mappings,
    pub(crate) peers: Option<Peers>,
    pub(crate) fragments: Fragments,
    pub(crate) ids: Ids,
    pub(crate) alg: Option<Box<Alg>>,
    pub(crate) counters: Counters,
}

impl Nat {
    /// Makes an engine and takes all its memory; only held fragments allocate later.
    ///
    /// `seed` keys the hash tables and the choice of ports: draw it once per boot, and give the
    /// same one again to an engine that should choose the same ports.
    ///
    /// # Panics
    /// Panics if [`Config::validate`] finds an error.
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        if let Err(error) = config.validate() {
            panic!("{error}");
        }
        let max = at(config.sessions_max);
        let is_adf = |filtering| filtering == Filtering::Adf;
        let needs_peers = is_adf(config.udp_filtering) || is_adf(config.tcp_filtering);
        Self {
            sessions: Sessions::new(max, HashKey::new(seed, 1)),
            mappings: Mappings::new(&config, HashKey::new(seed, 2), HashKey::new(seed, 3)),
            peers: needs_peers.then(|| Peers::new(max, HashKey::new(seed, 4))),
            fragments: Fragments::new(config.fragments, HashKey::new(seed, 5)),
            ids: Ids::new(config.slice, config.slices, HashKey::new(seed, 6)),
            alg: Alg::new(config.helpers, seed),
            counters: Counters::default(),
            config,
        }
    }

    /// Translates a packet from inside that is routed to the outside.
    ///
    /// A packet for the external address itself comes back as [`Outcome::Hairpin`] if it is for
    /// a port of ours and as [`Outcome::NotOurs`] if not. The TTL is the caller's business.
    pub fn outbound(&mut self, packet: &mut Packet<'_>, now: Nanos) -> Outcome {
        self.translate(packet, Direction::Outbound, now)
    }

    /// Translates a packet from the uplink whose destination is the external address.
    ///
    /// A source equal to the external address is forged and dropped: what an engine answered
    /// with [`Outcome::Hairpin`] goes to [`Nat::hairpin`] instead.
    pub fn inbound(&mut self, packet: &mut Packet<'_>, now: Nanos) -> Outcome {
        self.translate(packet, Direction::Inbound, now)
    }

    /// Translates a packet that the engine of some inside host turned back
    /// ([`Outcome::Hairpin`]); this engine must be the owner named there.
    ///
    /// It comes from inside, so the filtering does not apply to it (RFC 4787 REQ-9).
    pub fn hairpin(&mut self, packet: &mut Packet<'_>, now: Nanos) -> Outcome {
        self.translate(packet, Direction::Hairpin, now)
    }

    /// Ends what has idled out, looking at no more than `budget` sessions and as many fragmented
    /// datagrams; returns how many of both ended.
    ///
    /// Call it about once a second: nothing depends on it but memory and ports coming free, since
    /// a packet finds its session dead at the exact deadline.
    pub fn expire(&mut self, now: Nanos, budget: usize) -> usize {
        let mut ended = 0;
        for _ in 0..budget {
            match self.sessions.next_due(now) {
                None => break,
                Some(None) => {}
                Some(Some(id)) => {
                    self.remove(id);
                    ended += 1;
                }
            }
        }
        ended + self.fragments.expire(now, budget) + self.expire_expectations(now, budget)
    }

    /// Returns when [`Nat::expire`] will next have something to do.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Nanos> {
        let next = [
            self.sessions.next_expiry(),
            self.fragments.next_expiry(),
            self.next_expectation(),
        ];
        next.into_iter().flatten().min()
    }

    /// Returns the next held packet whose fate has become known, oldest first; call it until it
    /// returns `None` after calls that took fragments or returned [`Outcome::Held`], and after
    /// [`Nat::expire`].
    pub fn released(&mut self) -> Option<ReleasedPacket> {
        self.release_fragment()
    }

    /// Changes the external address: mappings of another address are of no use, so all sessions
    /// end (the kernel's masquerade does the same).
    pub fn set_external(&mut self, external: Ipv4Addr) {
        if self.config.external != external {
            self.flush();
            self.config.external = external;
        }
    }

    /// Ends all sessions and returns how many there were.
    pub fn flush(&mut self) -> usize {
        let before = self.sessions.len();
        for id in 0..self.sessions.end() {
            self.remove(id);
        }
        self.fragments.forget_decided();
        self.expire_expectations(Nanos::MAX, usize::MAX);
        before
    }

    /// Lists the sessions; those that idled out since the last [`Nat::expire`] included.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView> + '_ {
        self.sessions.iter().map(Session::view)
    }

    /// Returns the counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the configuration, with the external address now in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Returns how many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Returns whether there are no sessions.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many sessions there can be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.sessions.max()
    }

    /// Returns how many external ports (identifiers) of a protocol are mapped.
    #[must_use]
    pub fn ports_used(&self, protocol: Protocol) -> u32 {
        self.mappings.ports_used(protocol)
    }

    fn translate(&mut self, packet: &mut Packet<'_>, direction: Direction, now: Nanos) -> Outcome {
        let outcome = match Header::parse(packet.bytes) {
            Err(reason) => Outcome::Drop(reason),
            Ok(header) => match self.check_addresses(header, direction) {
                Some(outcome) => outcome,
                None if header.is_fragment => self.fragment(packet, header, direction, now),
                None => self.whole(packet, header, direction, now).outcome,
            },
        };
        self.counters.count(direction, outcome);
        outcome
    }

    fn check_addresses(&self, header: Header, direction: Direction) -> Option<Outcome> {
        let external = self.config.external;
        match direction {
            Direction::Outbound | Direction::Inbound if header.src == external => {
                Some(Outcome::Drop(Reason::SpoofedSource))
            }
            Direction::Inbound | Direction::Hairpin if header.dst != external => {
                Some(Outcome::NotOurs)
            }
            Direction::Outbound | Direction::Inbound | Direction::Hairpin => None,
        }
    }

    /// Translates a packet that is not a fragment, or the first fragment of one.
    pub(crate) fn whole(
        &mut self,
        packet: &mut Packet<'_>,
        header: Header,
        direction: Direction,
        now: Nanos,
    ) -> Fate {
        let class = match classify(header, &packet.bytes[header.header_len..header.total_len]) {
            Ok(class) => class,
            Err(reason) => return reason.into(),
        };
        if header.is_fragment && class == Class::Error {
            return Reason::IcmpErrorFragmented.into();
        }
        match (direction, class) {
            (Direction::Outbound, Class::Flow(flow) | Class::Request(flow)) => {
                self.outbound_flow(packet, header, flow, now)
            }
            (Direction::Outbound, Class::Error) => self.outbound_error(packet, header, now),
            (Direction::Outbound, Class::Reply(_) | Class::OtherIcmp(_)) => {
                Reason::IcmpTypeRefused.into()
            }
            (Direction::Outbound, Class::Foreign) => Reason::UnknownProtocol.into(),
            (Direction::Inbound | Direction::Hairpin, Class::Flow(flow) | Class::Reply(flow)) => {
                self.inbound_flow(packet, header, flow, direction, now)
            }
            (Direction::Inbound | Direction::Hairpin, Class::Error) => {
                self.inbound_error(packet, header, now)
            }
            (_, Class::OtherIcmp(icmp::REDIRECT | icmp::SOURCE_QUENCH)) => {
                Reason::IcmpTypeRefused.into()
            }
            (_, Class::Request(_) | Class::OtherIcmp(_) | Class::Foreign) => {
                Outcome::NotOurs.into()
            }
        }
    }

    fn outbound_flow(
        &mut self,
        packet: &mut Packet<'_>,
        header: Header,
        flow: Flow,
        now: Nanos,
    ) -> Fate {
        if let Some(outcome) = self.elsewhere(flow.protocol) {
            return outcome.into();
        }
        let Some(outcome) = self.way_out(header.dst, flow.protocol, flow.dst_port) else {
            return Outcome::NotOurs.into();
        };
        if flow.protocol == Protocol::Tcp && flow.segment.is_none() {
            return Reason::InvalidTcpFlags.into();
        }
        let inside = (header.src, flow.src_port);
        let remote = (header.dst, flow.dst_port);
        let found = self.sessions.find_outbound(flow.protocol, inside, remote);
        let carried = match self.alive(found, now) {
            Some(id) => self.carry(id, Side::Inside, Some(flow), header.total_len, now),
            None => self
                .open_outbound(flow, inside, remote, now)
                .and_then(|id| self.carry(id, Side::Inside, None, header.total_len, now)),
        };
        match carried {
            Ok((id, rewrite)) => {
                if let Some(fate) = self.help(id, rewrite, packet, header, (outcome, now)) {
                    return fate;
                }
                edit(rewrite, End::Source, flow.protocol, header, packet);
                if !header.is_fragment {
                    self.ids.renew(packet.bytes);
                }
                self.shift_outbound(id, packet, header);
                Fate {
                    outcome,
                    session: Some(id),
                }
            }
            Err(reason) => reason.into(),
        }
    }

    /// Returns what becomes of an outbound packet once it is translated, or `None` if it is for
    /// the host itself.
    pub(crate) fn way_out(
        &self,
        dst: Ipv4Addr,
        protocol: Protocol,
        dst_port: u16,
    ) -> Option<Outcome> {
        if dst != self.config.external {
            return Some(Outcome::Translated);
        }
        match protocol {
            // A query's identifier is its sender's: it names no port of ours.
            Protocol::Icmp | Protocol::Other(_) => None,
            Protocol::Sctp => self
                .mappings
                .find_external(protocol, dst_port)
                .map(|_| Outcome::Hairpin { owner: 0 }),
            Protocol::Tcp | Protocol::Udp => {
                self.owner(dst_port).map(|owner| Outcome::Hairpin { owner })
            }
        }
    }

    fn inbound_flow(
        &mut self,
        packet: &mut Packet<'_>,
        header: Header,
        flow: Flow,
        direction: Direction,
        now: Nanos,
    ) -> Fate {
        match self.owner_for(flow.protocol, flow.dst_port) {
            None => return Outcome::NotOurs.into(),
            Some(owner) if owner != self.config.slice => {
                return Outcome::Elsewhere { owner }.into();
            }
            Some(_) => {}
        }
        if flow.protocol == Protocol::Tcp && flow.segment.is_none() {
            return Reason::InvalidTcpFlags.into();
        }
        let external = (header.dst, flow.dst_port);
        let remote = (header.src, flow.src_port);
        let found = self.sessions.find_inbound(flow.protocol, external, remote);
        let carried = match self.alive(found, now) {
            Some(id) => self.carry(id, Side::Outside, Some(flow), header.total_len, now),
            None => self
                .open_inbound(flow, remote, direction, now)
                .and_then(|id| self.carry(id, Side::Outside, None, header.total_len, now)),
        };
        match carried {
            Ok((id, rewrite)) => {
                edit(rewrite, End::Destination, flow.protocol, header, packet);
                self.shift_inbound(id, packet, header);
                Fate {
                    outcome: Outcome::Translated,
                    session: Some(id),
                }
            }
            // There is no range of theirs: it may well be the host's own.
            Err(Reason::Unsolicited) if flow.protocol.is_by_address() => Outcome::NotOurs.into(),
            Err(reason) => reason.into(),
        }
    }

    /// Returns the slice that owns an external port, if it is ours at all.
    pub(crate) fn owner(&self, port: u16) -> Option<u16> {
        owner_of(&self.config.ports, self.config.slices, port)
    }

    /// Removes a session that was found but has idled out: time is up to the nanosecond, not to
    /// the wheel's tick.
    pub(crate) fn alive(&mut self, found: Option<u32>, now: Nanos) -> Option<u32> {
        let id = found?;
        if self
            .sessions
            .get(id)
            .is_some_and(|session| session.deadline > now)
        {
            return Some(id);
        }
        self.remove(id);
        None
    }

    /// Counts a packet into its session, moves the session's state and timer, and returns the
    /// edit to be made.
    fn carry(
        &mut self,
        id: u32,
        from: Side,
        flow: Option<Flow>,
        bytes: usize,
        now: Nanos,
    ) -> Result<(u32, Rewrite), Reason> {
        let config = &self.config;
        let may_open = self.sessions.half_open() < config.half_open_max;
        let carried = self.sessions.update(id, |session| {
            let old_deadline = session.deadline;
            let mut refresh = match session.protocol {
                Protocol::Tcp => from == Side::Inside || session.inside_has_spoken(),
                Protocol::Udp => from == Side::Inside || config.inbound_refresh,
                Protocol::Icmp | Protocol::Other(_) => from == Side::Inside,
                Protocol::Sctp => true,
            };
            if let Some(segment) = flow.and_then(|flow| flow.segment) {
                refresh &= advance(session, from, segment, may_open)?;
            }
            if let Some(event) = flow.and_then(|flow| flow.event) {
                refresh &= other::advance(session, from, event)?;
            }
            session.replied |= session.role(from) == Role::Responder;
            session.last_seen = now;
            if refresh {
                let deadline = now + session.timeout(&config.timeouts);
                // A RST shortens and never prolongs: an inside host's answer to strangers must not
                // hold the mapping for them (RFC 7857 section 7.1).
                session.deadline = match flow.and_then(|flow| flow.segment) {
                    Some(Segment::Rst) => deadline.min(old_deadline),
                    _ => deadline,
                };
            }
            let (rewrite, traffic) = match from {
                Side::Inside => (session.out, &mut session.outbound),
                Side::Outside => (session.back, &mut session.inbound),
            };
            traffic.add(bytes);
            // The mapping's deadline is read with a second's slack, so it is written once a
            // second and not once a packet.
            let prolong = session.deadline.as_secs() != old_deadline.as_secs();
            Ok((
                rewrite,
                prolong.then_some((session.mapping, session.deadline)),
            ))
        });
        let (rewrite, prolong) = carried.unwrap_or(Err(Reason::Unsolicited))?;
        if let Some((mapping, deadline)) = prolong {
            self.mappings.prolong(mapping, deadline);
        }
        Ok((id, rewrite))
    }
}

/// Moves a session's TCP state; returns whether the segment may refresh the session.
fn advance(
    session: &mut Session,
    from: Side,
    segment: Segment,
    may_open: bool,
) -> Result<bool, Reason> {
    let role = session.role(from);
    let Some(tracker) = &mut session.tracker else {
        return Ok(true);
    };
    let before = tracker.state();
    match tracker.step(segment, role) {
        Step::Pass => {
            // Repeating a RST must not hold the port.
            Ok(segment != Segment::Rst || tracker.state() != before)
        }
        Step::Invalid => Err(Reason::TcpOutOfState),
        Step::Reopen if role == Role::Responder && from == Side::Outside => {
            Err(Reason::Unsolicited)
        }
        Step::Reopen if !may_open => Err(Reason::HalfOpenFull),
        Step::Reopen => {
            session.tracker = Tracker::open(segment);
            session.origin = from;
            session.replied = false;
            Ok(true)
        }
    }
}

/// Makes a session's edit in a packet that holds the transport header.
fn edit(rewrite: Rewrite, end: End, protocol: Protocol, header: Header, packet: &mut Packet<'_>) {
    let (head, rest) = packet.bytes.split_at_mut(header.header_len);
    rewrite.apply_address(end, head);
    let payload = &mut rest[..header.total_len - header.header_len];
    rewrite.apply_port(end, protocol, payload, packet.l4_sum);
}
