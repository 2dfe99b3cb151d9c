//! ICMP as the gateway speaks it: echo replies in place, and errors it originates.
//!
//! Which packets may be answered with an error, and how much is quoted: RFC 1122 3.2.2 and
//! RFC 1812 4.3.2. Errors are rate-limited per worker and per addressee, as Linux does.

use std::net::Ipv4Addr;

use nat::wire::{Ipv4, Ipv4Header, protocol};
use nat::{Nanos, checksum};

use crate::ethernet;
use crate::limits::{
    ICMP_ERRORS_BURST, ICMP_ERRORS_PER_PEER_BURST, ICMP_ERRORS_PER_PEER_SECOND,
    ICMP_ERRORS_PER_SECOND,
};
use crate::mac::Mac;

/// Bytes of an ICMP header.
pub const HEADER_BYTES: usize = 8;

/// Bytes of an error: 576 in all (RFC 1812 4.3.2.3), less our IPv4 and ICMP headers.
const QUOTE_BYTES_MAX: usize = 576 - 20 - HEADER_BYTES;

/// TTL of packets the gateway makes (RFC 1700, `ip_default_ttl`).
const TTL: u8 = 64;

/// Precedence 6 (internetwork control), as RFC 1812 4.3.2.5 asks of errors.
const TOS: u8 = 0xc0;

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;

/// What the gateway tells a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// 3/0: no route.
    NetUnreachable,
    /// 3/1: the next hop does not answer.
    HostUnreachable,
    /// 3/3: nobody listens.
    PortUnreachable,
    /// 3/4: longer than the MTU of the way out, and not to be fragmented (RFC 1191).
    FragmentationNeeded {
        /// That MTU, in bytes.
        mtu: u16,
    },
    /// 3/13: refused for want of ports or sessions (RFC 5508 REQ-8).
    Prohibited,
    /// 11/0: the time to live ran out.
    TimeExceeded,
}

impl Error {
    const fn header(self) -> [u8; HEADER_BYTES] {
        let (kind, code, mtu) = match self {
            Self::NetUnreachable => (3, 0, 0),
            Self::HostUnreachable => (3, 1, 0),
            Self::PortUnreachable => (3, 3, 0),
            Self::FragmentationNeeded { mtu } => (3, 4, mtu),
            Self::Prohibited => (3, 13, 0),
            Self::TimeExceeded => (11, 0, 0),
        };
        let [m0, m1] = mtu.to_be_bytes();
        [kind, code, 0, 0, 0, 0, m0, m1]
    }
}

/// The addresses an error travels between: from the gateway back to the sender.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// The gateway's Ethernet address on that side.
    pub source_mac: Mac,
    /// Where the offending frame came from.
    pub destination_mac: Mac,
    /// The gateway's address on that side.
    pub source: Ipv4Addr,
}

/// Whom an error about `packet` (from its IPv4 header on) is sent to. `None` where none may be
/// sent: about an ICMP error, a fragment that is not the first, or a source or destination that is
/// no single host.
#[must_use]
pub fn addressee(packet: &[u8]) -> Option<Ipv4Addr> {
    let ip = Ipv4::parse_quoted(packet).ok()?;
    if ip.fragment_offset() != 0 || !is_host(ip.src()) || !is_host(ip.dst()) {
        return None;
    }
    if ip.protocol() == protocol::ICMP && !is_query(*ip.payload().first()?) {
        return None;
    }
    Some(ip.src())
}

/// Builds the error about `packet` as a whole frame; `None` where it has no [`addressee`].
#[must_use]
pub fn error(packet: &[u8], error: Error, way: Way, id: u16) -> Option<Vec<u8>> {
    let addressee = addressee(packet)?;
    let ip = Ipv4::parse_quoted(packet).ok()?;
    // The packet may be the head of one that has been translated since: quote what is there.
    let quote_bytes = ip.total_len().min(QUOTE_BYTES_MAX).min(packet.len());
    let quote = packet.get(..quote_bytes)?;

    let mut message = error.header().to_vec();
    message.extend_from_slice(quote);
    let sum = checksum::finish(checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());

    let mut frame = ethernet::header(way.destination_mac, way.source_mac, ethernet::IPV4).to_vec();
    let header = Ipv4Header {
        tos: TOS,
        payload_len: u16::try_from(message.len()).ok()?,
        id,
        ttl: TTL,
        protocol: protocol::ICMP,
        src: way.source,
        dst: addressee,
        ..Ipv4Header::default()
    };
    frame.extend_from_slice(&header.to_bytes());
    frame.extend_from_slice(&message);
    Some(frame)
}

/// An address that a single host may have: not 0/8, 127/8, multicast, reserved or broadcast.
#[must_use]
pub fn is_host(address: Ipv4Addr) -> bool {
    !matches!(address.octets()[0], 0 | 127 | 224..)
}

/// Query messages and their replies; all others are errors or unknown, never to be answered with
/// an error (RFC 1122 3.2.2).
const fn is_query(kind: u8) -> bool {
    matches!(kind, 0 | 8 | 9 | 10 | 13..=18)
}

/// True for a whole echo request (not a fragment of one) with a right checksum.
#[must_use]
pub fn is_echo_request(message: &[u8]) -> bool {
    message.len() >= HEADER_BYTES && message[..2] == [ECHO_REQUEST, 0]
}

/// Turns an echo request into its reply: type, checksum, and the packet's addresses swapped, from
/// `own`. The header checksum does not change by a swap; only the TTL edit does. `packet` starts at
/// the IPv4 header, whose length is `header_bytes`.
pub fn turn_echo(packet: &mut [u8], header_bytes: usize) {
    let Some((header, message)) = packet.split_at_mut_checked(header_bytes) else {
        return;
    };
    let (Some(header), Some(message)) = (
        header.first_chunk_mut::<20>(),
        message.first_chunk_mut::<HEADER_BYTES>(),
    ) else {
        return;
    };
    let (source, destination) = header[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
    let ttl_before = u16::from_be_bytes([header[8], header[9]]);
    header[8] = TTL;
    let ttl_after = u16::from_be_bytes([header[8], header[9]]);
    let sum = u16::from_be_bytes([header[10], header[11]]);
    let sum = checksum::update(sum, ttl_before, ttl_after);
    header[10..12].copy_from_slice(&sum.to_be_bytes());

    message[0] = ECHO_REPLY;
    let sum = u16::from_be_bytes([message[2], message[3]]);
    let sum = checksum::update(
        sum,
        u16::from(ECHO_REQUEST) << 8,
        u16::from(ECHO_REPLY) << 8,
    );
    message[2..4].copy_from_slice(&sum.to_be_bytes());
}

/// Addressees whose errors are counted apart; two that share a place share a rate.
const PEERS: usize = 1024;

/// Bounds the errors one worker originates: in all, and to one host, so that a host that provokes
/// errors as fast as it can does not cost the others theirs.
#[derive(Debug, Clone)]
pub struct Limiter {
    all: Rate,
    peers: [Rate; PEERS],
}

/// A token bucket as one number: the moment at which all tokens will be back (the "virtual
/// scheduling" of ITU-T I.371). No rounding is lost from call to call.
#[derive(Debug, Clone, Copy)]
struct Rate {
    full_at: Nanos,
}

impl Rate {
    fn has_token(self, interval: Nanos, burst: u32, now: Nanos) -> bool {
        self.full_at.saturating_sub(now).0 <= interval.0 * u64::from(burst - 1)
    }

    fn take(&mut self, interval: Nanos, now: Nanos) {
        self.full_at = self.full_at.max(now).saturating_add(interval);
    }
}

impl Limiter {
    const INTERVAL: Nanos = Nanos(1_000_000_000 / ICMP_ERRORS_PER_SECOND as u64);
    const PEER_INTERVAL: Nanos = Nanos(1_000_000_000 / ICMP_ERRORS_PER_PEER_SECOND as u64);

    /// All buckets full.
    #[must_use]
    pub const fn new(now: Nanos) -> Self {
        Self {
            all: Rate { full_at: now },
            peers: [Rate { full_at: now }; PEERS],
        }
    }

    /// When all tokens will be back, of all errors together and of each group of addressees.
    pub(super) fn moments(&self) -> Vec<Nanos> {
        let rates = std::iter::once(&self.all).chain(&self.peers);
        rates.map(|rate| rate.full_at).collect()
    }

    /// Goes on from such moments, as far as they are there.
    pub(super) fn set_moments(&mut self, moments: &[Nanos]) {
        let rates = std::iter::once(&mut self.all).chain(&mut self.peers);
        for (rate, moment) in rates.zip(moments) {
            rate.full_at = *moment;
        }
    }

    /// Takes a token for an error to `addressee`, if there is one.
    pub fn admit(&mut self, addressee: Ipv4Addr, now: Nanos) -> bool {
        // A multiplicative hash (Knuth 6.4): neighbours in an address range fall apart.
        let hash = addressee.to_bits().wrapping_mul(0x9e37_79b1) >> (32 - PEERS.ilog2());
        let place = usize::try_from(hash).unwrap_or(0);
        let Some(peer) = self.peers.get_mut(place) else {
            return false;
        };
        let admitted = self.all.has_token(Self::INTERVAL, ICMP_ERRORS_BURST, now)
            && peer.has_token(Self::PEER_INTERVAL, ICMP_ERRORS_PER_PEER_BURST, now);
        if admitted {
            self.all.take(Self::INTERVAL, now);
            peer.take(Self::PEER_INTERVAL, now);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv4Slice, Icmpv4Type, PacketBuilder, SlicedPacket, TransportSlice};

    const WAY: Way = Way {
        source_mac: Mac([2, 0, 0, 0, 0, 1]),
        destination_mac: Mac([2, 0, 0, 0, 0, 2]),
        source: Ipv4Addr::new(10, 9, 0, 1),
    };

    fn udp(ttl: u8, payload: usize) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 9, 0, 2], [198, 51, 100, 2], ttl)
            .udp(1000, 2000)
            .write(&mut packet, &vec![7; payload])
            .unwrap();
        packet
    }

    fn icmp_of(frame: &[u8]) -> Icmpv4Slice<'_> {
        match SlicedPacket::from_ethernet(frame).unwrap().transport {
            Some(TransportSlice::Icmpv4(icmp)) => icmp,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn d4_an_error_quotes_the_packet_and_is_well_formed() {
        let packet = udp(1, 1400);
        let frame = error(&packet, Error::FragmentationNeeded { mtu: 1300 }, WAY, 5).unwrap();
        assert_eq!(frame.len(), 14 + 576);
        let icmp = icmp_of(&frame);
        assert_eq!(
            checksum::finish(checksum::sum(icmp.slice())),
            0,
            "checksum verifies"
        );
        assert_eq!((icmp.type_u8(), icmp.code_u8()), (3, 4));
        assert_eq!(icmp.bytes5to8(), [0, 0, 5, 20]);
        assert_eq!(icmp.payload(), &packet[..548]);
    }

    #[test]
    fn d4_no_error_about_errors_fragments_and_groups() {
        let first = error(&udp(1, 8), Error::TimeExceeded, WAY, 0).unwrap();
        assert_eq!(
            error(&first[14..], Error::TimeExceeded, WAY, 0),
            None,
            "about an error"
        );
        let mut fragment = udp(1, 8);
        fragment[7] = 1;
        assert_eq!(
            error(&fragment, Error::TimeExceeded, WAY, 0),
            None,
            "later fragment"
        );
        for bad in [
            [0, 0, 0, 0],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [255, 255, 255, 255],
        ] {
            let mut packet = udp(1, 8);
            packet[12..16].copy_from_slice(&bad);
            assert_eq!(
                error(&packet, Error::TimeExceeded, WAY, 0),
                None,
                "from {bad:?}"
            );
            let mut packet = udp(1, 8);
            packet[16..20].copy_from_slice(&bad);
            assert_eq!(
                error(&packet, Error::TimeExceeded, WAY, 0),
                None,
                "to {bad:?}"
            );
        }
        for len in 0..20 {
            assert_eq!(error(&udp(1, 0)[..len], Error::TimeExceeded, WAY, 0), None);
        }
    }

    #[test]
    fn d2_an_echo_request_becomes_its_reply() {
        let mut packet = Vec::new();
        PacketBuilder::ipv4([10, 9, 0, 2], [10, 9, 0, 1], 3)
            .icmpv4_echo_request(77, 1)
            .write(&mut packet, b"payload")
            .unwrap();
        assert!(is_echo_request(&packet[20..]));
        turn_echo(&mut packet, 20);
        let sliced = etherparse::SlicedPacket::from_ip(&packet).unwrap();
        assert_eq!(checksum::finish(checksum::sum(&packet[..20])), 0);
        assert_eq!(checksum::finish(checksum::sum(&packet[20..])), 0);
        assert_eq!(packet[12..20], [10, 9, 0, 1, 10, 9, 0, 2]);
        let Some(TransportSlice::Icmpv4(icmp)) = sliced.transport else {
            panic!()
        };
        assert!(matches!(icmp.icmp_type(), Icmpv4Type::EchoReply(e) if e.id == 77 && e.seq == 1));
    }

    #[test]
    fn d5_a_burst_and_then_the_rate() {
        let host = |number: u64| Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(number).unwrap());
        let mut limiter = Limiter::new(Nanos(0));
        let admitted = (0..1000).filter(|n| limiter.admit(host(*n), Nanos(1)));
        assert_eq!(admitted.count(), 50);
        assert!(!limiter.admit(host(1), Nanos(999_999)));
        assert!(limiter.admit(host(2000), Nanos(1_000_001)));
        // Every 0.7 ms one more is asked for: the rate is met to the token.
        let mut limiter = Limiter::new(Nanos(0));
        let asked = (0..10_000u64).filter(|n| limiter.admit(host(*n), Nanos(n * 700_000)));
        let admitted = u64::try_from(asked.count()).unwrap();
        assert!((6_990..=7_050).contains(&admitted), "{admitted}");
    }

    #[test]
    fn d5_one_host_does_not_use_up_the_others_errors() {
        let (greedy, modest) = ([10, 9, 0, 2].into(), [10, 9, 0, 3].into());
        let mut limiter = Limiter::new(Nanos(0));
        let admitted = (0..10_000u64).filter(|n| limiter.admit(greedy, Nanos(n * 1_000_000)));
        assert_eq!(admitted.count(), 6 + 9, "a burst of 6, then one a second");
        assert!(limiter.admit(modest, Nanos::from_secs(10)));
    }

    #[test]
    fn a_limiter_goes_on_from_where_another_stood() {
        let now = Nanos::from_secs(100);
        let (mut one, mut other) = (Limiter::new(now), Limiter::new(Nanos::ZERO));
        let peer = |number: u32| Ipv4Addr::from_bits(0x0a09_0000 + number % 7);
        let admitted = |limiter: &mut Limiter, from: u32| -> Vec<bool> {
            (from..from + 40)
                .map(|n| limiter.admit(peer(n), now))
                .collect()
        };
        let _ = admitted(&mut one, 0);
        other.set_moments(&one.moments());
        let (one, other) = (admitted(&mut one, 40), admitted(&mut other, 40));
        assert_eq!(one, other);
        assert!(one.contains(&false), "{one:?}");
    }
}
