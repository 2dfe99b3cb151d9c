//! The Ethernet header, and ARP, at fixed offsets.

use std::net::Ipv4Addr;

use crate::mac::Mac;

/// Bytes of an untagged Ethernet header.
pub const HEADER_BYTES: usize = 14;

/// EtherType of IPv4.
pub const IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ARP: u16 = 0x0806;
/// EtherType of an 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// EtherType of an 802.1ad service tag.
pub const QINQ: u16 = 0x88a8;

/// The addresses and type of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination address.
    pub destination: Mac,
    /// Source address.
    pub source: Mac,
    /// EtherType, or the length of an 802.3 frame (< 0x600). A tag's own type where there is one.
    pub ethertype: u16,
}

/// Reads the header; `None` if the frame is shorter than one.
#[must_use]
#[inline]
pub fn parse(frame: &[u8]) -> Option<Ethernet> {
    let header: &[u8; HEADER_BYTES] = frame.first_chunk()?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *header;
    Some(Ethernet {
        destination: Mac([d0, d1, d2, d3, d4, d5]),
        source: Mac([s0, s1, s2, s3, s4, s5]),
        ethertype: u16::from_be_bytes([t0, t1]),
    })
}

/// Overwrites both addresses. No effect on a frame too short to have them.
#[inline]
pub fn set_addresses(frame: &mut [u8], destination: Mac, source: Mac) {
    if let Some(head) = frame.first_chunk_mut::<12>() {
        head[..6].copy_from_slice(&destination.0);
        head[6..].copy_from_slice(&source.0);
    }
}

/// Starts a frame of its own: header only.
#[must_use]
pub fn header(destination: Mac, source: Mac, ethertype: u16) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    set_addresses(&mut bytes, destination, source);
    bytes[12..].copy_from_slice(&ethertype.to_be_bytes());
    bytes
}

/// Bytes of an Ethernet/IPv4 ARP packet (RFC 826).
pub const ARP_BYTES: usize = 28;

/// What an ARP packet asks or says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArpOperation {
    /// Who has the target address?
    Request,
    /// The sender has the sender address.
    Reply,
}

/// An Ethernet/IPv4 ARP packet (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// Request or reply.
    pub operation: ArpOperation,
    /// Sender's Ethernet address.
    pub sender_mac: Mac,
    /// Sender's IPv4 address; 0.0.0.0 in a probe (RFC 5227 2.1.1).
    pub sender: Ipv4Addr,
    /// Target's Ethernet address; of no meaning in a request.
    pub target_mac: Mac,
    /// Target's IPv4 address.
    pub target: Ipv4Addr,
}

impl Arp {
    /// Reads the packet behind the Ethernet header; `None` unless it is Ethernet/IPv4 ARP.
    #[must_use]
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let p: &[u8; ARP_BYTES] = packet.first_chunk()?;
        if p[..6] != [0, 1, 8, 0, 6, 4] {
            return None;
        }
        let operation = match [p[6], p[7]] {
            [0, 1] => ArpOperation::Request,
            [0, 2] => ArpOperation::Reply,
            _ => return None,
        };
        Some(Self {
            operation,
            sender_mac: Mac([p[8], p[9], p[10], p[11], p[12], p[13]]),
            sender: Ipv4Addr::new(p[14], p[15], p[16], p[17]),
            target_mac: Mac([p[18], p[19], p[20], p[21], p[22], p[23]]),
            target: Ipv4Addr::new(p[24], p[25], p[26], p[27]),
        })
    }

    /// The packet's bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; ARP_BYTES] {
        let mut p = [0; ARP_BYTES];
        p[..6].copy_from_slice(&[0, 1, 8, 0, 6, 4]);
        p[7] = match self.operation {
            ArpOperation::Request => 1,
            ArpOperation::Reply => 2,
        };
        p[8..14].copy_from_slice(&self.sender_mac.0);
        p[14..18].copy_from_slice(&self.sender.octets());
        p[18..24].copy_from_slice(&self.target_mac.0);
        p[24..].copy_from_slice(&self.target.octets());
        p
    }

    /// A whole frame that asks for `target`: broadcast, or to `to` as a unicast probe
    /// (RFC 1122 2.3.2.1).
    #[must_use]
    pub fn request(mac: Mac, sender: Ipv4Addr, target: Ipv4Addr, to: Option<Mac>) -> Vec<u8> {
        let arp = Self {
            operation: ArpOperation::Request,
            sender_mac: mac,
            sender,
            target_mac: Mac::ZERO,
            target,
        };
        let mut frame = header(to.unwrap_or(Mac::BROADCAST), mac, ARP).to_vec();
        frame.extend_from_slice(&arp.to_bytes());
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arp_round_trips_and_refuses_the_rest() {
        let arp = Arp {
            operation: ArpOperation::Reply,
            sender_mac: Mac::local(1),
            sender: Ipv4Addr::new(10, 9, 0, 1),
            target_mac: Mac::local(2),
            target: Ipv4Addr::new(10, 9, 0, 2),
        };
        let bytes = arp.to_bytes();
        assert_eq!(Arp::parse(&bytes), Some(arp));
        for short in 0..ARP_BYTES {
            assert_eq!(Arp::parse(&bytes[..short]), None);
        }
        let mut other = bytes;
        other[7] = 3; // reverse ARP
        assert_eq!(Arp::parse(&other), None);
    }

    #[test]
    fn thirteen_bytes_are_no_frame() {
        assert_eq!(parse(&[0; 13]), None);
        assert_eq!(parse(&[0; 14]).map(|e| e.ethertype), Some(0));
    }
}
