//! Packets and frames made byte by byte, and read back.
//!
//! This is the outside world's view, on purpose not built on the switch's own header code: a
//! mistake there must not be mirrored here.
//!
//! Source: RFC 791, 792, 768, 9293, 826, 1071.

use std::net::{Ipv4Addr, SocketAddrV4};

/// Ethernet type of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// Ethernet type of ARP.
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// IP protocol number of ICMP.
pub const ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const TCP: u8 = 6;
/// IP protocol number of UDP.
pub const UDP: u8 = 17;
/// The Ethernet broadcast address.
pub const BROADCAST: [u8; 6] = [0xff; 6];
/// Length of an IPv4 header without options.
const IPV4_HEADER_LEN: usize = 20;

/// The Internet checksum (RFC 1071) over the concatenation of `parts`, of which all but the last
/// have an even length.
#[must_use]
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u64::from(u16::from_be_bytes([pair[0], low]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

/// What a transport checksum shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Checksum {
    /// The right one.
    #[default]
    Right,
    /// Exactly this value; 0 means "none" in UDP over IPv4.
    Exactly(u16),
}

/// An IPv4 header without options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4 {
    /// Source address; unspecified makes the kernel fill it in when sent by a raw socket.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification; 0 makes the kernel choose when sent by a raw socket.
    pub id: u16,
    /// The don't-fragment bit.
    pub dont_fragment: bool,
}

impl Ipv4 {
    /// A header with TTL 64, the don't-fragment bit clear and identification 0.
    #[must_use]
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8) -> Self {
        Self {
            source,
            destination,
            protocol,
            ttl: 64,
            id: 0,
            dont_fragment: false,
        }
    }

    /// Header and payload; a payload of more than 65,515 bytes is cut off.
    #[must_use]
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        self.fragment(payload, 0, false)
    }

    /// The same packet cut into fragments of at most `mtu` bytes (at least 28), first to last.
    #[must_use]
    pub fn fragments(&self, payload: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let room = (mtu.max(28) - IPV4_HEADER_LEN) & !7;
        let count = payload.len().div_ceil(room).max(1);
        let cut = |i: usize| {
            let end = payload.len().min((i + 1) * room);
            self.fragment(&payload[i * room..end], i * room, i + 1 < count)
        };
        (0..count).map(cut).collect()
    }

    fn fragment(&self, payload: &[u8], offset: usize, more: bool) -> Vec<u8> {
        let payload = &payload[..payload.len().min(65_535 - IPV4_HEADER_LEN)];
        let total = u16::try_from(IPV4_HEADER_LEN + payload.len()).unwrap_or(u16::MAX);
        let mut flags = u16::try_from(offset / 8).unwrap_or(0) & 0x1fff;
        flags |= if self.dont_fragment { 0x4000 } else { 0 };
        flags |= if more { 0x2000 } else { 0 };
        let mut packet = vec![0x45, 0];
        packet.extend(total.to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend(flags.to_be_bytes());
        packet.extend([self.ttl, self.protocol, 0, 0]);
        packet.extend(self.source.octets());
        packet.extend(self.destination.octets());
        let sum = internet_checksum(&[&packet]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend_from_slice(payload);
        packet
    }
}

/// An ICMP echo request (RFC 792) with its checksum.
#[must_use]
pub fn icmp_echo_request(id: u16, seq: u16, payload: &[u8]) -> Vec<u8> {
    icmp(
        8,
        0,
        [id.to_be_bytes(), seq.to_be_bytes()].as_flattened(),
        payload,
    )
}

/// Any ICMP message with its checksum; `rest` is the second header word.
#[must_use]
pub fn icmp(kind: u8, code: u8, rest: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend_from_slice(rest);
    message.resize(8, 0);
    message.extend_from_slice(payload);
    let sum = internet_checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// A UDP datagram (RFC 768).
#[must_use]
pub fn udp(
    source: SocketAddrV4,
    destination: SocketAddrV4,
    payload: &[u8],
    checksum: Checksum,
) -> Vec<u8> {
    let len = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    let mut datagram = Vec::with_capacity(8 + payload.len());
    datagram.extend(source.port().to_be_bytes());
    datagram.extend(destination.port().to_be_bytes());
    datagram.extend(len.to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend_from_slice(payload);
    let sum = match checksum {
        Checksum::Exactly(sum) => sum,
        Checksum::Right => match transport_sum(UDP, source, destination, &datagram) {
            0 => 0xffff,
            sum => sum,
        },
    };
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    datagram
}

/// The flags of a TCP segment, as in its header's 14th byte.
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 1;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 2;
    /// Reset the connection.
    pub const RST: u8 = 4;
    /// Push.
    pub const PSH: u8 = 8;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 16;
}

/// A TCP segment without options (RFC 9293).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Source address and port.
    pub source: SocketAddrV4,
    /// Destination address and port.
    pub destination: SocketAddrV4,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// See [`tcp_flags`].
    pub flags: u8,
    /// Receive window, bytes.
    pub window: u16,
}

impl Segment {
    /// The segment's bytes with payload and checksum, to be put into an [`Ipv4`] packet.
    #[must_use]
    pub fn bytes(&self, payload: &[u8], checksum: Checksum) -> Vec<u8> {
        let mut segment = Vec::with_capacity(20 + payload.len());
        segment.extend(self.source.port().to_be_bytes());
        segment.extend(self.destination.port().to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        segment.extend([5 << 4, self.flags]);
        segment.extend(self.window.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend_from_slice(payload);
        let sum = match checksum {
            Checksum::Exactly(sum) => sum,
            Checksum::Right => transport_sum(TCP, self.source, self.destination, &segment),
        };
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        segment
    }
}

fn transport_sum(
    protocol: u8,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    segment: &[u8],
) -> u16 {
    let len = u16::try_from(segment.len())
        .unwrap_or(u16::MAX)
        .to_be_bytes();
    let pseudo = [0, protocol, len[0], len[1]];
    let [from, to] = [source.ip().octets(), destination.ip().octets()];
    internet_checksum(&[&from, &to, &pseudo, segment])
}

/// An Ethernet frame; `ethertype` may be preceded by tags through [`tagged`].
#[must_use]
pub fn ethernet(destination: [u8; 6], source: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + payload.len());
    frame.extend(destination);
    frame.extend(source);
    frame.extend(ethertype.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The frame with one more VLAN tag, outermost: `tpid` is 0x8100 or 0x88a8, `tci` priority and
/// VLAN id (IEEE 802.1Q).
#[must_use]
pub fn tagged(frame: &[u8], tpid: u16, tci: u16) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(frame.len().min(12));
    let mut out = addresses.to_vec();
    out.extend(tpid.to_be_bytes());
    out.extend(tci.to_be_bytes());
    out.extend_from_slice(rest);
    out
}

/// A broadcast ARP request (RFC 826): `mac`/`ip` ask for `target`.
#[must_use]
pub fn arp_request(mac: [u8; 6], ip: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1];
    body.extend(mac);
    body.extend(ip.octets());
    body.extend([0; 6]);
    body.extend(target.octets());
    ethernet(BROADCAST, mac, ETHERTYPE_ARP, &body)
}

/// An IPv4 packet as an observer reads it; every field was checked to lie inside the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol number.
    pub protocol: u8,
    /// Time to live.
    pub ttl: u8,
    /// Identification.
    pub id: u16,
    /// The don't-fragment bit.
    pub dont_fragment: bool,
    /// More fragments follow.
    pub more_fragments: bool,
    /// Offset of this fragment in bytes.
    pub fragment_offset: usize,
    /// Total length of the packet in bytes by its header.
    pub total_len: usize,
    /// The header's checksum is right.
    pub header_checksum_ok: bool,
    /// What follows the header, without Ethernet padding.
    pub payload: Vec<u8>,
}

impl Seen {
    /// Reads the packet of an untagged Ethernet frame; `None` when it is not IPv4.
    #[must_use]
    pub fn in_frame(frame: &[u8]) -> Option<Self> {
        let ethertype = frame.get(12..14)?;
        if ethertype != ETHERTYPE_IPV4.to_be_bytes() {
            return None;
        }
        Self::in_packet(frame.get(14..)?)
    }

    /// Reads a packet; `None` when it is not a whole IPv4 header. A packet longer than `bytes` (as
    /// quoted by an ICMP error) gives the payload that is there.
    #[must_use]
    pub fn in_packet(bytes: &[u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let header_len = usize::from(first & 15) * 4;
        if first >> 4 != 4 || header_len < IPV4_HEADER_LEN {
            return None;
        }
        let header = bytes.get(..header_len)?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let address =
            |at: usize| Ipv4Addr::new(header[at], header[at + 1], header[at + 2], header[at + 3]);
        let total_len = usize::from(word(2));
        let end = total_len.clamp(header_len, bytes.len());
        Some(Self {
            source: address(12),
            destination: address(16),
            protocol: header[9],
            ttl: header[8],
            id: word(4),
            dont_fragment: word(6) & 0x4000 != 0,
            more_fragments: word(6) & 0x2000 != 0,
            fragment_offset: usize::from(word(6) & 0x1fff) * 8,
            total_len,
            header_checksum_ok: internet_checksum(&[header]) == 0,
            payload: bytes[header_len..end].to_vec(),
        })
    }

    /// Whether this is a fragment.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.more_fragments || self.fragment_offset > 0
    }

    /// Source and destination port of TCP and UDP; `None` for others and later fragments.
    #[must_use]
    pub fn ports(&self) -> Option<(u16, u16)> {
        if !matches!(self.protocol, TCP | UDP) || self.fragment_offset > 0 {
            return None;
        }
        let ports = self.payload.get(..4)?;
        let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
        Some((port(0), port(2)))
    }

    /// The flags of a TCP segment.
    #[must_use]
    pub fn tcp_flags(&self) -> Option<u8> {
        let is_first = self.protocol == TCP && self.fragment_offset == 0;
        is_first.then(|| self.payload.get(13).copied()).flatten()
    }

    /// Type and code of an ICMP message.
    #[must_use]
    pub fn icmp(&self) -> Option<(u8, u8)> {
        if self.protocol != ICMP || self.fragment_offset > 0 {
            return None;
        }
        Some((*self.payload.first()?, *self.payload.get(1)?))
    }

    /// Whether the checksum of a whole TCP, UDP or ICMP payload is right; UDP without a checksum
    /// is. `None` for other protocols and for fragments.
    ///
    /// A frame seen before the sending kernel's device has finished it (`CHECKSUM_PARTIAL`) is
    /// wrong here and right later.
    #[must_use]
    pub fn payload_checksum_ok(&self) -> Option<bool> {
        if self.is_fragment() {
            return None;
        }
        match self.protocol {
            ICMP => Some(internet_checksum(&[&self.payload]) == 0),
            UDP if self.payload.get(6..8)? == [0, 0] => Some(true),
            TCP | UDP => {
                let [from, to] = [self.source, self.destination];
                let [from, to] = [from, to].map(|ip| SocketAddrV4::new(ip, 0));
                Some(transport_sum(self.protocol, from, to, &self.payload) == 0)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
    const B: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

    #[test]
    fn the_checksum_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(internet_checksum(&[&bytes]), !0xddf2);
    }

    #[test]
    fn what_is_made_is_read_back() {
        let (from, to) = (SocketAddrV4::new(A, 5555), SocketAddrV4::new(B, 53));
        let datagram = udp(from, to, b"hello", Checksum::Right);
        let mut header = Ipv4::new(A, B, UDP);
        header.id = 7;
        header.dont_fragment = true;
        let mut frame = ethernet(BROADCAST, [2; 6], ETHERTYPE_IPV4, &header.packet(&datagram));
        frame.resize(60, 0);
        let seen = Seen::in_frame(&frame).unwrap();
        assert_eq!((seen.source, seen.destination, seen.id), (A, B, 7));
        assert_eq!(seen.ports(), Some((5555, 53)));
        assert_eq!(&seen.payload[8..], b"hello", "without the padding");
        assert!(seen.dont_fragment && seen.header_checksum_ok);
        assert_eq!(seen.payload_checksum_ok(), Some(true));
        let last = seen.total_len + 13;
        frame[last] ^= 1;
        let broken = Seen::in_frame(&frame).unwrap();
        assert_eq!(broken.payload_checksum_ok(), Some(false));
        assert_eq!(Seen::in_frame(&tagged(&frame, 0x8100, 5)), None);
        assert_eq!(Seen::in_frame(&frame[..30]), None);
    }

    #[test]
    fn a_segment_has_its_flags_and_checksum() {
        let segment = Segment {
            source: SocketAddrV4::new(A, 40000),
            destination: SocketAddrV4::new(B, 80),
            seq: 1,
            ack: 0,
            flags: tcp_flags::SYN,
            window: 1000,
        };
        let bytes = segment.bytes(b"odd", Checksum::Right);
        let seen = Seen::in_packet(&Ipv4::new(A, B, TCP).packet(&bytes)).unwrap();
        assert_eq!(seen.tcp_flags(), Some(tcp_flags::SYN));
        assert_eq!(seen.payload_checksum_ok(), Some(true));
        let zero = segment.bytes(b"odd", Checksum::Exactly(0));
        let seen = Seen::in_packet(&Ipv4::new(A, B, TCP).packet(&zero)).unwrap();
        assert_eq!(seen.payload_checksum_ok(), Some(false));
    }

    #[test]
    fn fragments_cover_the_payload() {
        let payload: Vec<u8> = (0..4000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let pieces = Ipv4::new(A, B, ICMP).fragments(&payload, 1500);
        assert_eq!(pieces.len(), 3);
        let mut whole = Vec::new();
        for (i, piece) in pieces.iter().enumerate() {
            assert!(piece.len() <= 1500);
            let seen = Seen::in_packet(piece).unwrap();
            assert_eq!(seen.fragment_offset, whole.len());
            assert_eq!(seen.more_fragments, i < 2);
            assert!(seen.is_fragment() && seen.header_checksum_ok);
            whole.extend(seen.payload);
        }
        assert_eq!(whole, payload);
    }
}
