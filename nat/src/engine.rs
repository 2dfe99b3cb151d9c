//! The engine: one slice of the external ports, one call per packet.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::adopted::{Adopted, Adoptions};
use crate::alg::Alg;
use crate::config::{Config, Filtering};
use crate::events::Events;
use crate::few;
use crate::flow::{Class, Flow, Header, classify};
use crate::fragment::Fragments;
use crate::hash::HashKey;
use crate::ids::Ids;
use crate::knocks::Knocks;
use crate::lend::Lending;
use crate::list::Links;
use crate::mapping::Mappings;
use crate::observe::Observer;
use crate::outcome::{Counters, Direction, Outcome, Reason};
use crate::peers::Peers;
use crate::pool::slice_ports;
use crate::publish::Publishes;
use crate::quota::Hosts;
use crate::rewrite::{End, L4Sum, Protocol, Rewrite};
use crate::session::{Endpoint, Session, SessionView, Sessions, Side};
use crate::slab::at;
use crate::strangers::Strangers;
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
    pub(crate) hosts: Hosts,
    /// Links of the sessions in the lists of finished ones, and of provisional ones.
    pub(crate) links: Links,
    pub(crate) fragments: Fragments,
    pub(crate) ids: Ids,
    pub(crate) alg: Option<Box<Alg>>,
    pub(crate) counters: Counters,
    /// Sessions created up to the last batch.
    pub(crate) created_before: u64,
    pub(crate) events: Events,
    pub(crate) lending: Lending,
    /// The first of the ports that are this slice's by arithmetic, and how many follow it.
    pub(crate) own_ports: (u16, u16),
    pub(crate) publishes: Arc<Publishes>,
    pub(crate) choice_key: HashKey,
    pub(crate) strangers: Strangers,
    pub(crate) knocks: Knocks,
    pub(crate) adopted: Option<Arc<Adopted>>,
    pub(crate) adoptions: Adoptions,
    pub(crate) observer: Option<&'static Observer>,
    /// What this one is the twin of, while something is tried out.
    pub(crate) trial_of: Option<Box<Self>>,
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
        let own = slice_ports(&config.ports, config.slices, config.slice);
        let needs_peers = is_adf(config.udp_filtering) || is_adf(config.tcp_filtering);
        Self {
            sessions: Sessions::new(max, HashKey::new(seed, 1)),
            mappings: Mappings::new(&config, seed),
            peers: needs_peers.then(|| Peers::new(max, HashKey::new(seed, 4))),
            fragments: Fragments::new(config.fragments, HashKey::new(seed, 5)),
            hosts: Hosts::new(&config, HashKey::new(seed, 7)),
            links: Links::new(max),
            ids: Ids::new(config.slice, config.slices, HashKey::new(seed, 16)),
            alg: Alg::new(config.helpers, seed),
            counters: Counters::default(),
            created_before: 0,
            events: Events::new(),
            lending: Lending::OFF,
            own_ports: (*own.start(), own.end() - own.start()),
            publishes: Arc::default(),
            choice_key: HashKey::new(seed, 8),
            strangers: Strangers::new(&config),
            knocks: Knocks::new(config.quota.failed_per_sec, HashKey::new(seed, 17)),
            adopted: None,
            adoptions: Adoptions::default(),
            observer: None,
            trial_of: None,
            config,
        }
    }

    /// Translates a packet from inside that is routed to the outside.
    ///
    /// A packet for the external address itself comes back as [`Outcome::Hairpin`] if it is for
    /// a port of ours and as [`Outcome::NotOurs`] if not. One from a published endpoint whose
    /// sessions another slice has comes back as [`Outcome::Elsewhere`]. The TTL is the caller's
    /// business.
    pub fn outbound(&mut self, packet: &mut Packet<'_>, now: Nanos) -> Outcome {
        self.translate(packet, Direction::Outbound, now)
    }

    /// Translates a packet from inside to a destination that is reached untranslated, if it belongs
    /// to a session all the same: the answer of a published port, or an error about one. Returns
    /// `None`, with the packet as it was, if it does not; a fragment never does.
    pub fn outbound_known(&mut self, packet: &mut Packet<'_>, now: Nanos) -> Option<Outcome> {
        let header = Header::parse(packet.bytes).ok()?;
        if header.is_fragment {
            return None;
        }
        let payload = packet.bytes.get(header.header_len..header.total_len)?;
        match classify(header, payload).ok()? {
            Class::Flow(flow) => {
                let (inside, remote) = ((header.src, flow.src_port), (header.dst, flow.dst_port));
                let found = self.sessions.find_outbound(flow.protocol, inside, remote);
                if self.alive(found, now).is_none() {
                    let behind = self.behind(flow.protocol, inside);
                    // It is asked again below, and says where.
                    let _ = self.leads_elsewhere(flow.protocol, behind)?;
                }
            }
            Class::Error => {
                let outcome = self.outbound_error(packet, header, now).outcome;
                let is_known = !matches!(outcome, Outcome::Drop(_));
                if is_known {
                    self.counters.count(Direction::Outbound, outcome);
                }
                return is_known.then_some(outcome);
            }
            Class::Request(_) | Class::Reply(_) | Class::OtherIcmp(_) | Class::Foreign => {
                return None;
            }
        }
        Some(self.outbound(packet, now))
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
        self.events.set_now(now);
        let mut ended = 0;
        self.mappings.tick(now);
        self.mappings.let_go(budget);
        for looked_at in 0..budget {
            if looked_at % few::MAX == 0 {
                self.announce_due(now, budget - looked_at);
            }
            match self.sessions.next_due(now) {
                None => break,
                Some(None) => {}
                Some(Some(id)) => {
                    self.remove(id);
                    ended += 1;
                }
            }
        }
        let publishes = &self.publishes;
        self.mappings.unpark(budget, |protocol, address, port| {
            publishes.find(protocol, address, port).is_some()
        });
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

    /// Returns whether [`Nat::released`] has a packet: asked after every batch, so it is cheap.
    #[must_use]
    #[inline]
    pub fn has_released(&self) -> bool {
        self.fragments.has_ready()
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

    /// Returns the configuration, with the external addresses now in force.
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
        self.mappings.ports(protocol).0
    }

    /// Returns how many external ports (identifiers) of a protocol came free and are still kept
    /// from other hosts than their last ones ([`Config::port_hold`]).
    #[must_use]
    pub fn ports_held(&self, protocol: Protocol) -> u32 {
        self.mappings.ports(protocol).1
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
        let is_external = |address| self.mappings.externals.contains(address);
        match direction {
            Direction::Outbound | Direction::Inbound if is_external(header.src) => {
                Some(Outcome::Drop(Reason::SpoofedSource))
            }
            Direction::Inbound | Direction::Hairpin if !is_external(header.dst) => {
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
        // By reference, here and below: to copy what has just been written piecemeal is slow.
        let classified = classify(header, &packet.bytes[header.header_len..header.total_len]);
        let class = match &classified {
            Ok(class) => class,
            Err(reason) => return (*reason).into(),
        };
        if header.is_fragment && matches!(class, Class::Error) {
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
        flow: &Flow,
        now: Nanos,
    ) -> Fate {
        let Some(outcome) = self.way_out(header.dst, flow.protocol, flow.dst_port) else {
            return Outcome::NotOurs.into();
        };
        if flow.protocol == Protocol::Tcp && flow.segment.is_none() {
            return Reason::InvalidTcpFlags.into();
        }
        let inside = (header.src, flow.src_port);
        let remote = (header.dst, flow.dst_port);
        let found = self.sessions.find_outbound(flow.protocol, inside, remote);
        let (id, carried) = match self.alive(found, now) {
            Some(id) => {
                let carried = self.carry(id, Side::Inside, Some(flow), header.total_len, now);
                (id, carried)
            }
            None => match self.open_from_inside(flow, inside, remote, now) {
                Ok(id) => (id, self.carry_first(id, header.total_len)),
                Err(outcome) => return outcome.into(),
            },
        };
        let rewrite = match carried {
            Ok(rewrite) => rewrite,
            Err(reason) => return reason.into(),
        };
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

    /// Returns what becomes of an outbound packet once it is translated, or `None` if it is for
    /// the host itself.
    #[inline]
    pub(crate) fn way_out(
        &self,
        dst: Ipv4Addr,
        protocol: Protocol,
        dst_port: u16,
    ) -> Option<Outcome> {
        if !self.mappings.externals.contains(dst) {
            return Some(Outcome::Translated);
        }
        self.way_back(protocol, (dst, dst_port))
    }

    /// As [`Nat::way_out`], for a packet to an external endpoint of ours.
    #[inline(never)]
    fn way_back(&self, protocol: Protocol, external: Endpoint) -> Option<Outcome> {
        match protocol {
            // A query's identifier is its sender's: it names no port of ours.
            Protocol::Icmp | Protocol::Other(_) => return None,
            // All ports are its own, so the mappings tell, and the owner alone has them.
            Protocol::Sctp => {
                let is_unknown = self.owner(protocol, external) == Some(self.config.slice)
                    && self
                        .publishes
                        .find(protocol, external.0, external.1)
                        .is_none()
                    && self.mappings.find_external(protocol, external).is_none();
                if is_unknown {
                    return None;
                }
            }
            Protocol::Tcp | Protocol::Udp => {}
        }
        self.owner(protocol, external)
            .map(|owner| Outcome::Hairpin { owner })
    }

    fn inbound_flow(
        &mut self,
        packet: &mut Packet<'_>,
        header: Header,
        flow: &Flow,
        direction: Direction,
        now: Nanos,
    ) -> Fate {
        let external = (header.dst, flow.dst_port);
        let remote = (header.src, flow.src_port);
        // Whose a published port is takes a search, so its sessions are looked for first.
        let is_published = self.publishes.covers(flow.dst_port);
        if !is_published
            && !self.is_own_port(flow.protocol, flow.dst_port)
            && let Some(outcome) = self.not_here(flow.protocol, external)
        {
            return outcome.into();
        }
        let found = self.sessions.find_inbound(flow.protocol, external, remote);
        let alive = self.alive(found, now);
        if is_published
            && alive.is_none()
            && let Some(outcome) = self.not_here(flow.protocol, external)
        {
            return outcome.into();
        }
        if flow.protocol == Protocol::Tcp && flow.segment.is_none() {
            return Reason::InvalidTcpFlags.into();
        }
        let (found, told) = match alive {
            Some(id) => (Ok(id), Some(flow)),
            None => {
                let opened = self.open_from_outside(flow, external, remote, direction, now);
                (opened, None)
            }
        };
        let carried = found.and_then(|id| {
            let rewrite = self.carry(id, Side::Outside, told, header.total_len, now)?;
            Ok((id, rewrite))
        });
        let (id, rewrite) = match carried {
            Ok(carried) => carried,
            // There is no range of theirs: it may well be the host's own.
            Err(Reason::Unsolicited) if self.may_be_hosts(flow.protocol, external) => {
                return Outcome::NotOurs.into();
            }
            Err(reason) => return reason.into(),
        };
        edit(rewrite, End::Destination, flow.protocol, header, packet);
        self.shift_inbound(id, packet, header);
        Fate {
            outcome: Outcome::Translated,
            session: Some(id),
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
