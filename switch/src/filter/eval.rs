//! One frame against the steps of a filter.
//!
//! Every function that reads returns `None` beyond the frame's end, and `?` carries that out to
//! [`matches`], which then says no whatever is left of the filter, and however many `not` stand
//! before the test: a BPF program ends at such a load in just that way.

use std::ops::RangeInclusive;

use nat::wire::protocol;

use super::About;
use super::Subject;
use super::code::{ACCEPT, Prefix6, REJECT, Set, Side, Step, Test};
use crate::ethernet;
use crate::mac::Mac;

/// EtherType of RARP (RFC 903).
pub(super) const RARP: u16 = 0x8035;
/// EtherType of IPv6 (RFC 2464).
pub(super) const IPV6: u16 = 0x86dd;
/// EtherType of the tags that came before 802.1ad.
const OLD_QINQ: u16 = 0x9100;
/// The longest 802.3 frame by its length field; what is more is an EtherType.
const LENGTH_MAX: u16 = 1500;
/// Next header of an IPv6 fragment (RFC 8200 4.5).
const FRAGMENT: u8 = 44;
/// Bits of an IPv4 header's fragment field that hold the offset.
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// A place in a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offset(usize);

impl Offset {
    pub(super) const START: Self = Self(0);

    /// The place behind an EtherType that begins at `at`.
    pub(super) fn behind(at: u16) -> Self {
        Self(usize::from(at) + 2)
    }

    pub(super) fn and(self, bytes: usize) -> Self {
        Self(self.0 + bytes)
    }

    /// A computed number of bytes further on; `None` where no frame reaches.
    pub(super) fn plus(self, bytes: u32) -> Option<Self> {
        let bytes = usize::try_from(bytes).ok()?;
        self.0.checked_add(bytes).map(Self)
    }
}

/// The bytes there are, and how many there were on the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame<'a> {
    bytes: &'a [u8],
    pub(super) length: u32,
}

impl Frame<'_> {
    #[inline]
    fn take<const N: usize>(self, at: Offset) -> Option<[u8; N]> {
        self.bytes.get(at.0..)?.first_chunk().copied()
    }

    #[inline]
    pub(super) fn byte(self, at: Offset) -> Option<u8> {
        self.bytes.get(at.0).copied()
    }

    #[inline]
    pub(super) fn half(self, at: Offset) -> Option<u16> {
        self.take(at).map(u16::from_be_bytes)
    }

    #[inline]
    pub(super) fn word(self, at: Offset) -> Option<u32> {
        self.take(at).map(u32::from_be_bytes)
    }

    /// Bytes of the IPv4 header by its own word, which may be anything from 0 to 60.
    #[inline]
    pub(super) fn ipv4_header(self, at: Offset) -> Option<u32> {
        Some(u32::from(self.byte(at)? & 0xf) * 4)
    }

    #[inline]
    fn ethertype(self, at: u16) -> Option<u16> {
        self.half(Offset(usize::from(at)))
    }
}

/// Whether the filter's answer is yes.
pub(super) fn matches(steps: &[Step], subject: &Subject<'_>) -> bool {
    let frame = Frame {
        bytes: subject.frame,
        length: subject.length,
    };
    let mut next = if steps.is_empty() { ACCEPT } else { 0 };
    // Every step leads further on, so this ends.
    while let Some(step) = steps.get(usize::from(next)) {
        match step.test.holds(frame, subject) {
            Some(true) => next = step.yes,
            Some(false) => next = step.no,
            None => next = REJECT,
        }
    }
    next == ACCEPT
}

impl Test {
    fn holds(&self, frame: Frame<'_>, subject: &Subject<'_>) -> Option<bool> {
        match self {
            Self::EtherType { at, value } => Some(frame.ethertype(*at)? == *value),
            Self::Llc { at, sap, pair } => llc(frame, *at, *sap, *pair),
            Self::Vlan { at, id } => vlan(frame, *at, *id),
            Self::Mac { side, mac } => side.find(|place| has_mac(frame, place, *mac), 6, 0),
            Self::Group => Some(frame.byte(Offset::START)? & 1 == 1),
            Self::Ipv4 {
                at,
                of,
                side,
                net,
                mask,
            } => ipv4(frame, *at, *of, *side, (*net, *mask)),
            Self::Ipv6 { at, side, prefix } => ipv6(frame, *at, *side, prefix),
            Self::Multicast4 { at } => Some(
                frame.ethertype(*at)? == ethernet::IPV4
                    && frame.byte(Offset::behind(*at).and(16))? & 0xf0 == 0xe0,
            ),
            Self::Multicast6 { at } => Some(
                frame.ethertype(*at)? == IPV6 && frame.byte(Offset::behind(*at).and(24))? == 0xff,
            ),
            Self::Transport { at, over, protocol } => transport(frame, *at, *over, *protocol),
            Self::FirstFragment { at } => {
                Some(frame.half(Offset::behind(*at).and(6))? & FRAGMENT_OFFSET == 0)
            }
            Self::NextHeader { at, protocol } => {
                Some(frame.byte(Offset::behind(*at).and(6))? == *protocol)
            }
            Self::Ports {
                at,
                of,
                side,
                low,
                high,
            } => ports(frame, *at, *of, *side, *low..=*high),
            Self::Compare(sides) => {
                let (left, comparison, right) = &**sides;
                Some(comparison.holds(left.of(frame)?, right.of(frame)?))
            }
            Self::Dropped | Self::Reason(_) | Self::On(_) | Self::Translated | Self::Worker(_) => {
                Some(self.holds_of(subject))
            }
        }
    }

    /// The words about the record. Nothing is known of a frame without one, so none holds.
    fn holds_of(&self, subject: &Subject<'_>) -> bool {
        let Some(metadata) = &subject.metadata else {
            return false;
        };
        match self.about() {
            Some(About::Drop) => metadata.drop.is_some(),
            Some(About::Reason(reason)) => metadata.drop == Some(reason),
            Some(About::Port(port)) => metadata.ports.contains(&port),
            Some(About::Nat) => metadata.translated,
            Some(About::Worker(worker)) => metadata.worker == worker,
            None => false,
        }
    }
}

impl Side {
    /// Asks about the source first, as libpcap's code does, and about the destination only if
    /// that is not the answer yet: a frame may end between the two.
    fn find(
        self,
        fits: impl Fn(Offset) -> Option<bool>,
        source: usize,
        destination: usize,
    ) -> Option<bool> {
        let (source, destination) = (Offset(source), Offset(destination));
        match self {
            Self::Source => fits(source),
            Self::Destination => fits(destination),
            Self::Either => Some(fits(source)? || fits(destination)?),
            Self::Both => Some(fits(source)? && fits(destination)?),
        }
    }
}

/// The last four bytes first, and the others only if those are right: libpcap's order.
fn has_mac(frame: Frame<'_>, place: Offset, mac: Mac) -> Option<bool> {
    let [a, b, c, d, e, f] = mac.0;
    Some(
        frame.word(place.and(2))? == u32::from_be_bytes([c, d, e, f])
            && frame.half(place)? == u16::from_be_bytes([a, b]),
    )
}

fn llc(frame: Frame<'_>, at: u16, sap: u8, pair: bool) -> Option<bool> {
    if frame.ethertype(at)? > LENGTH_MAX {
        return Some(false);
    }
    let place = Offset::behind(at);
    Some(if pair {
        frame.half(place)? == u16::from_be_bytes([sap, sap])
    } else {
        frame.byte(place)? == sap
    })
}

fn vlan(frame: Frame<'_>, at: u16, id: Option<u16>) -> Option<bool> {
    let tagged = matches!(
        frame.ethertype(at)?,
        ethernet::VLAN | ethernet::QINQ | OLD_QINQ
    );
    Some(match id {
        Some(id) if tagged => frame.half(Offset::behind(at))? & 0xfff == id,
        _ => tagged,
    })
}

fn ipv4(frame: Frame<'_>, at: u16, of: Set, side: Side, net: (u32, u32)) -> Option<bool> {
    let (protocol, source, destination) = match frame.ethertype(at)? {
        ethernet::IPV4 => (Set::IPV4, 12, 16),
        ethernet::ARP => (Set::ARP, 14, 24),
        RARP => (Set::RARP, 14, 24),
        _ => return Some(false),
    };
    if !of.has(protocol) {
        return Some(false);
    }
    let fits = |place| Some(frame.word(place)? & net.1 == net.0);
    let start = Offset::behind(at);
    side.find(fits, start.and(source).0, start.and(destination).0)
}

fn ipv6(frame: Frame<'_>, at: u16, side: Side, prefix: &Prefix6) -> Option<bool> {
    if frame.ethertype(at)? != IPV6 {
        return Some(false);
    }
    let fits = |place: Offset| {
        for (index, (word, mask)) in prefix.words.iter().zip(prefix.mask).enumerate() {
            if frame.word(place.and(4 * index))? & mask != *word {
                return Some(false);
            }
        }
        Some(true)
    };
    let start = Offset::behind(at);
    side.find(fits, start.and(8).0, start.and(24).0)
}

fn transport(frame: Frame<'_>, at: u16, over: Set, protocol: u8) -> Option<bool> {
    let start = Offset::behind(at);
    Some(match frame.ethertype(at)? {
        ethernet::IPV4 if over.has(Set::IPV4) => frame.byte(start.and(9))? == protocol,
        IPV6 if over.has(Set::IPV6) => match frame.byte(start.and(6))? {
            next if next == protocol => true,
            FRAGMENT => frame.byte(start.and(40))? == protocol,
            _ => false,
        },
        _ => false,
    })
}

/// Ports: for IPv4 behind the options and only of a first fragment, for IPv6 only right behind
/// the fixed header.
fn ports(
    frame: Frame<'_>,
    at: u16,
    of: Set,
    side: Side,
    range: RangeInclusive<u16>,
) -> Option<bool> {
    let start = Offset::behind(at);
    let place = match frame.ethertype(at)? {
        IPV6 if has_ports(frame.byte(start.and(6))?, of) => start.and(40),
        ethernet::IPV4
            if has_ports(frame.byte(start.and(9))?, of)
                && frame.half(start.and(6))? & FRAGMENT_OFFSET == 0 =>
        {
            start.plus(frame.ipv4_header(start)?)?
        }
        _ => return Some(false),
    };
    let fits = |place| Some(range.contains(&frame.half(place)?));
    side.find(fits, place.0, place.and(2).0)
}

fn has_ports(number: u8, of: Set) -> bool {
    of.has(match number {
        protocol::TCP => Set::TCP,
        protocol::UDP => Set::UDP,
        protocol::SCTP => Set::SCTP,
        _ => return false,
    })
}
