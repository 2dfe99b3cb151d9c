//! From a packet in words to its bytes.

use nat::checksum;
use nat::wire::{Ipv4Header, protocol};

use super::{Addresses, Kind, Packet};
use crate::ethernet::{self, ARP, Arp, ArpOperation, IPV4};
use crate::mac::Mac;

const IP_BYTES: u16 = 20;
const TCP_BYTES: u16 = 20;
const UDP_BYTES: u16 = 8;
const ICMP_BYTES: u16 = 8;
/// What `ping` sends behind the header.
const PING_BYTES: u16 = 56;

impl Packet {
    /// The frame that this packet makes between these stations.
    #[must_use]
    pub fn frame(&self, addresses: Addresses) -> Vec<u8> {
        let (from, to) = (addresses.from.0, addresses.to.0);
        let packet = match self.kind {
            Kind::Arp { reply } => {
                let mut frame = ethernet::header(to, from, ARP).to_vec();
                frame.extend_from_slice(&self.arp(reply, (from, to)).to_bytes());
                return frame;
            }
            Kind::Tcp { .. } | Kind::Udp { .. } | Kind::Icmp { .. } => self.ip(),
        };
        let mut frame = ethernet::header(to, from, IPV4).to_vec();
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
                Kind::Tcp { .. } => TCP_BYTES,
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
            Kind::Tcp { ports, flags } => {
                put(0, ports.0);
                put(2, ports.1);
                // Sequence and acknowledgement: anything that is not zero.
                put(6, 1);
                put(10, u16::from(flags.contains(nat::wire::TcpFlags::ACK)));
                let words = TCP_BYTES / 4;
                put(12, words << 12 | u16::from(flags.0));
                put(14, u16::MAX);
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
            Kind::Arp { .. } => return,
        };
        let pseudo = match self.kind {
            Kind::Icmp { .. } | Kind::Arp { .. } => 0,
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
