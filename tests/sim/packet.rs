//! Frames as the simulated hosts make and read them. Written apart from the product's own code:
//! sums are the naive ones, and what was delivered is judged by etherparse.

use std::net::Ipv4Addr;

use etherparse::{Icmpv4Slice, Ipv4HeaderSlice, TcpHeaderSlice, UdpHeader, UdpHeaderSlice};
use switch::frame::{Csum, Gso, Offload};
use switch::mac::Mac;

pub(super) const ICMP: u8 = 1;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const SCTP: u8 = 132;
pub(super) const ETHERNET: usize = 14;
const IPV4: usize = 20;

/// A frame's bytes and what is left to be done to it.
pub(super) type Raw = (Vec<u8>, Offload);

/// How far the sender finished the transport checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sum {
    Full,
    /// The pseudo header's sum only, as a veth hands it out.
    Partial,
    /// UDP without one.
    Absent,
}

/// The fields of an IPv4 header that differ from test to test.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ip {
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
    pub(super) ttl: u8,
    pub(super) id: u16,
    pub(super) dont_fragment: bool,
}

impl Ip {
    pub(super) fn new(src: impl Into<Ipv4Addr>, dst: impl Into<Ipv4Addr>) -> Self {
        Self {
            src: src.into(),
            dst: dst.into(),
            ttl: 64,
            id: 1,
            dont_fragment: false,
        }
    }

    pub(super) fn packet(self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        self.piece(protocol, payload, 0, false)
    }

    /// A packet with the payload from `offset` on.
    pub(super) fn piece(self, protocol: u8, payload: &[u8], offset: usize, more: bool) -> Vec<u8> {
        let total = u16::try_from(IPV4 + payload.len()).unwrap();
        let mut flags = u16::try_from(offset / 8).unwrap();
        flags |= if more { 0x2000 } else { 0 };
        flags |= if self.dont_fragment { 0x4000 } else { 0 };
        let mut packet = vec![0x45, 0];
        packet.extend(total.to_be_bytes());
        packet.extend(self.id.to_be_bytes());
        packet.extend(flags.to_be_bytes());
        packet.extend([self.ttl, protocol, 0, 0]);
        packet.extend(self.src.octets());
        packet.extend(self.dst.octets());
        let sum = !fold(sum16(&packet));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet.extend(payload);
        packet
    }

    /// The payload in pieces of `mtu` bytes at most, in order.
    pub(super) fn fragments(self, protocol: u8, payload: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let room = (mtu - IPV4) / 8 * 8;
        let count = payload.len().div_ceil(room).max(1);
        (0..count)
            .map(|index| {
                let from = index * room;
                let to = payload.len().min(from + room);
                self.piece(protocol, &payload[from..to], from, to < payload.len())
            })
            .collect()
    }

    fn pseudo(&self, protocol: u8, len: usize) -> u32 {
        let len = u32::try_from(len).unwrap();
        sum16(&self.src.octets()) + sum16(&self.dst.octets()) + u32::from(protocol) + len
    }

    fn transport(self, protocol: u8, field: usize, mut segment: Vec<u8>, sum: Sum) -> Raw {
        let pseudo = self.pseudo(protocol, segment.len());
        let value = match sum {
            Sum::Partial => fold(pseudo),
            Sum::Full => match !fold(pseudo + sum16(&segment)) {
                0 if protocol == UDP => 0xffff,
                value => value,
            },
            Sum::Absent => 0,
        };
        segment[field..field + 2].copy_from_slice(&value.to_be_bytes());
        let csum = match sum {
            Sum::Partial => Csum::Partial {
                start: 34,
                offset: u16::try_from(field).unwrap(),
            },
            Sum::Full | Sum::Absent => Csum::Unchecked,
        };
        let gso = Gso::None;
        (self.packet(protocol, &segment), Offload { csum, gso })
    }

    pub(super) fn udp(self, ports: (u16, u16), payload: &[u8], sum: Sum) -> Raw {
        let mut segment = udp_header(ports, payload.len()).to_vec();
        segment.extend(payload);
        self.transport(UDP, 6, segment, sum)
    }

    pub(super) fn tcp(self, tcp: Tcp, payload: &[u8], sum: Sum) -> Raw {
        self.tcp_whole(tcp, &[], payload, sum)
    }

    /// A segment with options (a multiple of four bytes) and no data.
    pub(super) fn tcp_options(self, tcp: Tcp, options: &[u8], sum: Sum) -> Raw {
        self.tcp_whole(tcp, options, &[], sum)
    }

    fn tcp_whole(self, tcp: Tcp, options: &[u8], payload: &[u8], sum: Sum) -> Raw {
        let words = 5 + u8::try_from(options.len() / 4).unwrap();
        let mut segment = Vec::new();
        segment.extend(tcp.ports.0.to_be_bytes());
        segment.extend(tcp.ports.1.to_be_bytes());
        segment.extend(tcp.seq.to_be_bytes());
        segment.extend(tcp.ack.to_be_bytes());
        segment.extend([words << 4, tcp.flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend(options);
        segment.extend(payload);
        self.transport(TCP, 16, segment, sum)
    }

    pub(super) fn icmp(self, kind: u8, code: u8, word: [u8; 4], body: &[u8]) -> Raw {
        (
            self.packet(ICMP, &icmp(kind, code, word, body)),
            Offload::PLAIN,
        )
    }

    pub(super) fn ping(self, id: u16, seq: u16, body: &[u8]) -> Raw {
        self.icmp(8, 0, word(id, seq), body)
    }
}

/// The fields of a TCP header that differ.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tcp {
    pub(super) ports: (u16, u16),
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) flags: u8,
}

pub(super) const FIN: u8 = 1;
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;

/// A UDP header without a checksum.
pub(super) fn udp_header(ports: (u16, u16), payload: usize) -> [u8; 8] {
    let [a, b] = ports.0.to_be_bytes();
    let [c, d] = ports.1.to_be_bytes();
    let [e, f] = u16::try_from(8 + payload).unwrap().to_be_bytes();
    [a, b, c, d, e, f, 0, 0]
}

pub(super) fn word(high: u16, low: u16) -> [u8; 4] {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    [a, b, c, d]
}

pub(super) fn icmp(kind: u8, code: u8, word: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(word);
    message.extend(body);
    let sum = !fold(sum16(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

pub(super) fn ethernet(destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = destination.0.to_vec();
    frame.extend(source.0);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An ARP packet: operation, sender, target.
pub(super) fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    for (mac, address) in [sender, target] {
        packet.extend(mac.0);
        packet.extend(address.octets());
    }
    packet
}

/// The sum of big-endian 16-bit words, a last odd byte padded with zero.
pub(super) fn sum16(bytes: &[u8]) -> u32 {
    bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum()
}

pub(super) fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn address_at(bytes: &[u8], at: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32_at(bytes, at))
}

/// An IPv4 packet that came, as the receiver sees it.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) src: Ipv4Addr,
    pub(super) dst: Ipv4Addr,
    pub(super) protocol: u8,
    pub(super) ttl: u8,
    pub(super) id: u16,
    /// Offset of the first byte of `payload` in its datagram, and whether more follow.
    pub(super) fragment: (usize, bool),
    /// By the header's total length, without Ethernet padding.
    pub(super) payload: Vec<u8>,
}

impl Received {
    /// Reads an IPv4 packet whose header checksum must be right.
    pub(super) fn parse(packet: &[u8]) -> Self {
        let header = Ipv4HeaderSlice::from_slice(packet).unwrap();
        let right = header.to_header().calc_header_checksum();
        assert_eq!(header.header_checksum(), right, "IPv4 header checksum");
        let len = usize::from(header.ihl()) * 4;
        Self {
            src: header.source_addr(),
            dst: header.destination_addr(),
            protocol: header.protocol().0,
            ttl: header.ttl(),
            id: header.identification(),
            fragment: (
                usize::from(header.fragments_offset().value()) * 8,
                header.more_fragments(),
            ),
            payload: packet[len..usize::from(header.total_len())].to_vec(),
        }
    }

    pub(super) fn is_fragment(&self) -> bool {
        self.fragment != (0, false)
    }

    /// The checksum of the whole transport segment, recomputed by etherparse.
    pub(super) fn verify_transport(&self) {
        let (src, dst) = (self.src.octets(), self.dst.octets());
        let bytes = &self.payload[..];
        match self.protocol {
            UDP => {
                let header = UdpHeaderSlice::from_slice(bytes).unwrap().to_header();
                let body = &bytes[8..usize::from(header.length)];
                let right = UdpHeader::calc_checksum_ipv4_raw(&header, src, dst, body).unwrap();
                assert!(
                    header.checksum == 0 || header.checksum == right,
                    "UDP checksum {:#x}, right is {right:#x}: {self:?}",
                    header.checksum
                );
            }
            TCP => {
                let header = TcpHeaderSlice::from_slice(bytes).unwrap();
                let body = &bytes[header.slice().len()..];
                let right = header.calc_checksum_ipv4_raw(src, dst, body).unwrap();
                assert_eq!(header.checksum(), right, "TCP checksum: {self:?}");
            }
            ICMP => {
                let icmp = Icmpv4Slice::from_slice(bytes).unwrap();
                let right = icmp.icmp_type().calc_checksum(icmp.payload());
                assert_eq!(icmp.checksum(), right, "ICMP checksum: {self:?}");
            }
            _ => {}
        }
    }

    pub(super) fn ports(&self) -> (u16, u16) {
        (u16_at(&self.payload, 0), u16_at(&self.payload, 2))
    }

    /// Type and code of an ICMP message.
    pub(super) fn kind(&self) -> (u8, u8) {
        assert_eq!(self.protocol, ICMP);
        (self.payload[0], self.payload[1])
    }

    /// What a UDP datagram or an ICMP message carries.
    pub(super) fn body(&self) -> &[u8] {
        &self.payload[8..]
    }
}

/// Completes a partial checksum as hardware would: by its place, whatever is there.
pub(super) fn complete(bytes: &mut [u8], offload: Offload) {
    if let Csum::Partial { start, offset } = offload.csum {
        let (start, field) = (usize::from(start), usize::from(start + offset));
        // By the total length: Ethernet padding is no part of it.
        let end = ETHERNET + usize::from(u16_at(bytes, ETHERNET + 2));
        let sum = match !fold(sum16(&bytes[start..end])) {
            0 if offset == 6 => 0xffff,
            sum => sum,
        };
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
    }
}

/// The longest IP packet the frame makes on the wire, by the headers' own word.
pub(super) fn wire_len(bytes: &[u8], offload: Offload) -> usize {
    let whole = bytes.len() - ETHERNET;
    let size = usize::from(offload.gso.segment_bytes());
    if size == 0 {
        return whole;
    }
    let header = usize::from(bytes[ETHERNET] & 15) * 4;
    let transport = match bytes[ETHERNET + 9] {
        TCP => usize::from(bytes[ETHERNET + header + 12] >> 4) * 4,
        _ => 8,
    };
    whole.min(header + transport + size)
}
