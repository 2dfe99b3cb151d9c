//! Virtual reassembly: the first fragment decides, the others follow (RFC 4787 REQ-14).
//!
//! # Theory of operation
//! Only a first fragment carries ports, so a datagram is followed by (source, destination,
//! protocol, identification) and takes the fate of its first fragment, in whatever order the
//! fragments come. Those that come before it are held as copies and released once it has come,
//! timed out or been given up. Nothing is reassembled: each fragment is translated by itself.
//!
//! A datagram is *waiting* or *decided*, and each kind forms a queue by age. Every bound is
//! enforced by giving up the oldest: of the longer queue for a new datagram, of the waiting ones
//! for memory, of the same source for its quota; so a flood of one kind does not starve the
//! other, and fragments that arrive together, as honest ones do, live long enough.
//! The ranges seen are kept, so an overlap (RFC 1858, RFC 5722), a datagram beyond 65,535 bytes or
//! one with two ends drops the datagram. A datagram whose bytes have all been seen is forgotten
//! at once, since its identification may soon come again. When an incomplete one's comes again,
//! the exact repetition of the first fragment begins it anew; a repetition of any other follows.

mod queue;
mod table;

use std::net::Ipv4Addr;

use crate::Nanos;
use crate::engine::{Fate, Nat, Packet};
use crate::flow::Header;
use crate::ids;
use crate::outcome::{Direction, Outcome, Reason};
use crate::rewrite::{End, L4Sum, Protocol, Rewrite};
use crate::wire::Ipv4;

pub(crate) use table::Fragments;
use table::{Arrival, Span};

/// Which datagram a fragment is of, and through which door it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    direction: Direction,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    protocol: u8,
    id: u16,
}

/// What the first fragment came to, for those that follow it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// Translate the address.
    Translate {
        rewrite: Rewrite,
        /// The identification that all fragments get.
        id: Option<u16>,
        outcome: Outcome,
        session: u32,
        serial: u16,
    },
    /// Leave the bytes alone.
    Fixed(Outcome),
}

/// A held fragment whose fate has become known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasedPacket {
    /// The fragment from its IPv4 header to its total length, translated if `outcome` says so;
    /// of a dropped one the first bytes only, for tracing.
    pub bytes: Vec<u8>,
    /// As it was in the [`Packet`](crate::Packet).
    pub l4_sum: L4Sum,
    /// Its fate, as the call would have returned it had the first fragment come first.
    pub outcome: Outcome,
    /// Through which function it came.
    pub direction: Direction,
}

/// A held fragment between its release and [`Nat::released`].
#[derive(Clone)]
pub(crate) struct Ready {
    bytes: Vec<u8>,
    l4_sum: L4Sum,
    direction: Direction,
    verdict: Verdict,
    /// Bytes it counts against `FragmentLimits::held_bytes_max`.
    charge: usize,
}

impl Nat {
    /// Translates a fragment, first or other.
    pub(crate) fn fragment(
        &mut self,
        packet: &mut Packet<'_>,
        header: Header,
        direction: Direction,
        now: Nanos,
    ) -> Outcome {
        if self.is_refused(header.protocol) {
            return match direction {
                Direction::Outbound => Outcome::Drop(Reason::UnknownProtocol),
                Direction::Inbound | Direction::Hairpin => Outcome::NotOurs,
            };
        }
        // What one slice owns as a whole needs no first fragment to know where it belongs; SCTP may
        // be published at another.
        if let Some(other @ Protocol::Other(_)) = Protocol::by_address(header.protocol)
            && let Some(outcome) = self.leads_elsewhere(other, None)
        {
            return outcome;
        }
        let (key, span) = match read(packet, header, direction) {
            Ok(read) => read,
            Err(reason) => return Outcome::Drop(reason),
        };
        match self.fragments.arrive(key, span, now) {
            Arrival::Refuse(reason) => Outcome::Drop(reason),
            Arrival::Hold(slot) => {
                let bytes = &packet.bytes[..header.total_len];
                match self.fragments.hold(slot, bytes, packet.l4_sum) {
                    Ok(()) => Outcome::Held,
                    Err(reason) => Outcome::Drop(reason),
                }
            }
            Arrival::Follow(verdict) => self.follow(verdict, direction, packet.bytes),
            Arrival::First(slot) => {
                let Fate { outcome, session } = self.whole(packet, header, direction, now);
                // Inbound fragments keep the identification that their sender gave them.
                let id = match (direction, session) {
                    (Direction::Outbound, Some(_)) => Some(self.ids.draw(packet.bytes)),
                    (Direction::Outbound | Direction::Inbound | Direction::Hairpin, _) => None,
                };
                if let Some(id) = id {
                    ids::set(packet.bytes, id);
                }
                let verdict = self.verdict(outcome, session, id, direction);
                self.fragments.decide(slot, verdict, now);
                outcome
            }
        }
    }

    fn verdict(
        &self,
        outcome: Outcome,
        session: Option<u32>,
        id: Option<u16>,
        direction: Direction,
    ) -> Verdict {
        match session.and_then(|id| Some((id, self.sessions.get(id)?))) {
            None => Verdict::Fixed(outcome),
            Some((number, session)) => Verdict::Translate {
                id,
                rewrite: match direction {
                    Direction::Outbound => session.out,
                    Direction::Inbound | Direction::Hairpin => session.back,
                },
                outcome,
                session: number,
                serial: session.serial,
            },
        }
    }

    /// Gives a fragment the fate of its first one.
    fn follow(&mut self, verdict: Verdict, direction: Direction, bytes: &mut [u8]) -> Outcome {
        let (rewrite, new_id, outcome, id, serial) = match verdict {
            Verdict::Fixed(outcome) => return outcome,
            Verdict::Translate {
                rewrite,
                id,
                outcome,
                session,
                serial,
            } => (rewrite, id, outcome, session, serial),
        };
        let end = match direction {
            Direction::Outbound => End::Source,
            Direction::Inbound | Direction::Hairpin => End::Destination,
        };
        rewrite.apply_address(end, bytes);
        if let Some(new_id) = new_id {
            ids::set(bytes, new_id);
        }
        let total_len = Ipv4::parse(&*bytes).map_or(0, |ip| ip.total_len());
        if let Some(session) = self.sessions.get_mut(id).filter(|s| s.serial == serial) {
            match direction {
                Direction::Outbound => session.outbound.add(total_len),
                Direction::Inbound | Direction::Hairpin => session.inbound.add(total_len),
            }
        }
        outcome
    }

    pub(crate) fn release_fragment(&mut self) -> Option<ReleasedPacket> {
        let Ready {
            mut bytes,
            l4_sum,
            direction,
            verdict,
            charge: _,
        } = self.fragments.pop_ready()?;
        let outcome = self.follow(verdict, direction, &mut bytes);
        self.counters.count(direction, outcome);
        Some(ReleasedPacket {
            bytes,
            l4_sum,
            outcome,
            direction,
        })
    }
}

/// Reads which datagram a fragment is of and which part of it.
fn read(packet: &Packet<'_>, header: Header, direction: Direction) -> Result<(Key, Span), Reason> {
    let ip = Ipv4::parse(&*packet.bytes).map_err(|_| Reason::Malformed)?;
    let length = header.total_len - header.header_len;
    // Only the last fragment may have a length that is no multiple of eight (RFC 791).
    if length == 0 || (ip.more_fragments() && !length.is_multiple_of(8)) {
        return Err(Reason::Malformed);
    }
    let start = ip.fragment_offset();
    // The receiver puts the header in front: RFC 791 limits both together.
    if header.header_len + start + length > usize::from(u16::MAX) {
        return Err(Reason::FragmentTooLong);
    }
    let narrow = |value| u16::try_from(value).map_err(|_| Reason::FragmentTooLong);
    let span = Span {
        start: narrow(start)?,
        end: narrow(start + length)?,
        last: !ip.more_fragments(),
    };
    let key = Key {
        direction,
        src: header.src,
        dst: header.dst,
        protocol: header.protocol,
        id: ip.id(),
    };
    Ok((key, span))
}
