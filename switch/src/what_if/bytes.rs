//! From a packet in words to its bytes.

use nat::checksum;
use nat::wire::{Ipv4Header, protocol};

use super::{Addresses, Chunk, Kind, Packet, TcpOptions};
use crate::ethernet::{self, ARP, Arp, ArpOperation, IPV4, VLAN};
use crate::gso::crc32c;
use crate::mac::Mac;

const IP_BYTES: u16 = 20;
const TCP_BYTES: u16 = 20;
const UDP_BYTES: u16 = 8;
const ICMP_BYTES: u16 = 8;
const SCTP_BYTES: u16 = 12;
/// Where the CRC32c is in an SCTP header (RFC 9260 section 3.1).
const SCTP_CRC: std::ops::Range<usize> = 8..12;
/// Each option, with what fills its words (RFC 9293 section 3.1, RFC 2018, RFC 7323).
const OPTION_BYTES: u16 = 4;
const NOP: u8 = 1;
const MSS: [u8; 2] = [2, 4];
const WINDOW_SCALE: [u8; 2] = [3, 3];
const SACK_PERMITTED: [u8; 2] = [4, 2];
/// What `ping` sends behind the header.
const PING_BYTES: u16 = 56;

impl Packet {
    /// The frame that this packet makes between these stations.
    #[must_use]
    pub fn frame(&self, addresses: Addresses) -> Vec<u8> {
        let (from, to) = (addresses.from.0, addresses.to.0);
        let (ethertype, packet) = match self.kind {
            Kind::Arp { reply } => (ARP, self.arp(reply, (from, to)).to_bytes().to_vec()),
            Kind::Tcp { .. } | Kind::Udp { .. } | Kind::Sctp { .. } | Kind::Icmp { .. } => {
                (IPV4, self.ip())
            }
        };
        let outer = if self.vlan.is_some() { VLAN } else { ethertype };
        let mut frame = ethernet::header(to, from, outer).to_vec();
        if let Some(vlan) = self.vlan {
            frame.extend(vlan.to_be_bytes());
            frame.extend(ethertype.to_be_bytes());
        }
        frame.extend_from_slice(&packet);
        frame
    }

    fn arp(&self, reply: bool, (from, to): (Mac, Mac)) -> Arp {
        let (operation, target_mac) = if reply {
            (ArpOperation::Reply, to)
        } else {
            (ArpOperation::Request, Mac::ZERO)
        };
        Arp {
            operation,
            sender_mac: from,
            sender: self.source,
            target_mac,
            target: self.destination,
        }
    }

    /// Bytes of its headers, from the IPv4 one on; those of a later fragment are behind.
    pub(super) const fn len_min(&self) -> u16 {
        let later = matches!(self.fragment, Some((1.., _)));
        IP_BYTES
            + match self.kind {
                _ if later => 0,
                Kind::Tcp { options, .. } => TCP_BYTES + options.len(),
                Kind::Sctp { chunk, .. } => SCTP_BYTES + chunk.len(),
                Kind::Udp { .. } => UDP_BYTES,
                Kind::Icmp { .. } => ICMP_BYTES,
                Kind::Arp { .. } => 0,
            }
    }

    fn len_usual(&self) -> u16 {
        let is_ping = matches!(self.kind, Kind::Icmp { .. });
        self.len_min() + if is_ping { PING_BYTES } else { 0 }
    }

    fn ip(&self) -> Vec<u8> {
        let len = self.len.unwrap_or_else(|| self.len_usual());
        let payload_len = len.saturating_sub(IP_BYTES);
        let header = Ipv4Header {
            payload_len,
            dont_fragment: self.dont_fragment,
            fragment: self.fragment.unwrap_or_default(),
            ttl: self.ttl,
            protocol: match self.kind {
                Kind::Tcp { .. } => protocol::TCP,
                Kind::Udp { .. } => protocol::UDP,
                Kind::Sctp { .. } => protocol::SCTP,
                Kind::Icmp { .. } | Kind::Arp { .. } => protocol::ICMP,
            },
            src: self.source,
            dst: self.destination,
            ..Ipv4Header::default()
        };
        let mut packet = header.to_bytes().to_vec();
        let mut payload = vec![0; usize::from(payload_len)];
        if self.fragment.is_none_or(|(offset, _)| offset == 0) {
            self.transport(&mut payload, payload_len);
        }
        packet.extend_from_slice(&payload);
        packet
    }

    /// Writes the transport's header in front of zeros. The checksum is that of what is there: what
    /// the other fragments of a datagram hold is not known, so they hold nothing that counts.
    fn transport(&self, payload: &mut [u8], len: u16) {
        let mut put = |at: usize, word: u16| {
            if let Some(place) = payload.get_mut(at..at + 2) {
                place.copy_from_slice(&word.to_be_bytes());
            }
        };
        let (number, sum_at) = match self.kind {
            Kind::Tcp {
                ports,
                flags,
                options,
            } => {
                put(0, ports.0);
                put(2, ports.1);
                // Sequence and acknowledgement: anything that is not zero.
                put(6, 1);
                put(10, u16::from(flags.contains(nat::wire::TcpFlags::ACK)));
                let words = (TCP_BYTES + options.len()) / 4;
                put(12, words << 12 | u16::from(flags.0));
                put(14, u16::MAX);
                let options = options.bytes();
                let behind = payload.get_mut(usize::from(TCP_BYTES)..);
                if let Some(place) = behind.and_then(|bytes| bytes.get_mut(..options.len())) {
                    place.copy_from_slice(&options);
                }
                (protocol::TCP, 16)
            }
            Kind::Udp { ports } => {
                put(0, ports.0);
                put(2, ports.1);
                put(4, len);
                (protocol::UDP, 6)
            }
            Kind::Icmp {
                reply,
                id,
                sequence,
            } => {
                put(0, if reply { 0 } else { 8 << 8 });
                put(4, id);
                put(6, sequence);
                (protocol::ICMP, 2)
            }
            Kind::Sctp { ports, chunk, tag } => {
                let tag = tag.unwrap_or(u32::from(chunk != Chunk::Init));
                sctp(payload, ports, tag, chunk);
                return;
            }
            Kind::Arp { .. } => return,
        };
        let pseudo = match self.kind {
            Kind::Icmp { .. } | Kind::Sctp { .. } | Kind::Arp { .. } => 0,
            Kind::Tcp { .. } | Kind::Udp { .. } => {
                checksum::pseudo_v4(self.source, self.destination, number, len)
            }
        };
        let sum = pseudo + checksum::sum(payload);
        let field = if number == protocol::UDP {
            checksum::finish_udp(sum)
        } else {
            checksum::finish(sum)
        };
        if let Some(place) = payload.get_mut(sum_at..sum_at + 2) {
            place.copy_from_slice(&field.to_be_bytes());
        }
    }
}

/// Writes an SCTP packet.
fn sctp(packet: &mut [u8], ports: (u16, u16), tag: u32, chunk: Chunk) {
    let room = packet.len().saturating_sub(usize::from(SCTP_BYTES));
    let mut bytes = Vec::with_capacity(packet.len());
    bytes.extend(ports.0.to_be_bytes());
    bytes.extend(ports.1.to_be_bytes());
    bytes.extend(tag.to_be_bytes());
    bytes.extend([0; SCTP_CRC.end - SCTP_CRC.start]);
    bytes.extend(chunk.bytes(u16::try_from(room).unwrap_or(u16::MAX)));
    // It goes out low byte first (RFC 9260 appendix A).
    let crc = crc32c(&bytes).to_le_bytes();
    bytes[SCTP_CRC].copy_from_slice(&crc);
    for (place, byte) in packet.iter_mut().zip(bytes) {
        *place = byte;
    }
}

impl TcpOptions {
    const fn len(self) -> u16 {
        let words = self.mss.is_some() as u16 + self.window_scale.is_some() as u16;
        OPTION_BYTES * (words + self.sack as u16)
    }

    /// As Linux orders them, each in a word of its own.
    fn bytes(self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if let Some(mss) = self.mss {
            bytes.extend(MSS);
            bytes.extend(mss.to_be_bytes());
        }
        if self.sack {
            bytes.extend([NOP, NOP]);
            bytes.extend(SACK_PERMITTED);
        }
        if let Some(shift) = self.window_scale {
            bytes.push(NOP);
            bytes.extend(WINDOW_SCALE);
            bytes.push(shift);
        }
        bytes
    }
}
