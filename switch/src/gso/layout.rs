//! Where the headers of a frame are: read from its bytes, never taken from the sender's word.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use nat::checksum;

use super::Refusal;

pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const SCTP: u8 = 132;

const ETHERNET_BYTES: usize = 14;
const TAG_BYTES: usize = 4;
const TAGS_MAX: usize = 2;
pub(super) const TYPE_IPV4: u16 = 0x0800;
pub(super) const TYPE_IPV6: u16 = 0x86dd;
const TYPE_VLAN: u16 = 0x8100;
const TYPE_SERVICE_VLAN: u16 = 0x88a8;

const IPV4_BYTES_MIN: usize = 20;
const IPV4_FRAGMENT: u16 = 0x3fff; // more fragments, and the offset
pub(super) const IPV6_BYTES: usize = 40;
const TCP_BYTES_MIN: usize = 20;
const UDP_BYTES: usize = 8;

const HOP_BY_HOP: u8 = 0;
const IPV6_FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers looked through: RFC 8200 4.1 names an order with fewer.
const EXTENSIONS_MAX: usize = 8;

/// The IP version of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ip {
    V4,
    V6,
}

/// Where the headers of an IP frame begin and end, in bytes from the frame's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) ip: Ip,
    /// The IP header: also the length of the Ethernet header and its tags.
    pub(super) l3: usize,
    /// The transport header, or the first byte of a fragment's payload.
    pub(super) l4: usize,
    /// The end by the IP header's word: behind it is Ethernet padding.
    pub(super) end: usize,
    pub(super) protocol: u8,
    /// A fragment, first or not: there is no whole transport segment.
    pub(super) is_fragment: bool,
}

impl Layout {
    /// Finds the headers of an IP frame.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Refusal> {
        let (l3, ether_type) = ethernet(bytes).ok_or(Refusal::NotIp)?;
        match ether_type {
            TYPE_IPV4 => ipv4(bytes, l3),
            TYPE_IPV6 => ipv6(bytes, l3),
            _ => Err(Refusal::NotIp),
        }
    }

    /// The same layout of a frame that begins at byte `at` of another.
    pub(super) fn moved(self, at: usize) -> Self {
        Self {
            l3: self.l3 + at,
            l4: self.l4 + at,
            end: self.end + at,
            ..self
        }
    }

    /// Where the payload of the TCP segment or UDP datagram begins.
    pub(super) fn payload(&self, bytes: &[u8]) -> Result<usize, Refusal> {
        let (header, header_min) = match self.protocol {
            _ if self.is_fragment => return Err(Refusal::Fragment),
            TCP => {
                let words = get8(bytes, self.l4 + 12).ok_or(Refusal::Malformed)? >> 4;
                (usize::from(words) * 4, TCP_BYTES_MIN)
            }
            UDP => (UDP_BYTES, UDP_BYTES),
            _ => return Err(Refusal::Protocol),
        };
        let payload = self.l4 + header;
        if header < header_min || payload > self.end {
            return Err(Refusal::Malformed);
        }
        Ok(payload)
    }

    /// The partial sum of the pseudo header for a transport length of `len` bytes.
    pub(super) fn pseudo_sum(&self, bytes: &[u8], len: usize) -> u32 {
        let protocol = self.protocol;
        match self.ip {
            Ip::V4 => {
                let (src, dst) = (array(bytes, self.l3 + 12), array(bytes, self.l3 + 16));
                let (src, dst): ([u8; 4], [u8; 4]) = (src, dst);
                let len = u16::try_from(len).unwrap_or(u16::MAX);
                checksum::pseudo_v4(Ipv4Addr::from(src), Ipv4Addr::from(dst), protocol, len)
            }
            Ip::V6 => {
                let (src, dst) = (array(bytes, self.l3 + 8), array(bytes, self.l3 + 24));
                let (src, dst): ([u8; 16], [u8; 16]) = (src, dst);
                let len = u32::try_from(len).unwrap_or(u32::MAX);
                checksum::pseudo_v6(Ipv6Addr::from(src), Ipv6Addr::from(dst), protocol, len)
            }
        }
    }

    /// Makes the IP header of `frame`, whose first bytes have this layout, fit its length.
    pub(super) fn set_ip_length(&self, frame: &mut [u8]) {
        let behind = |at| u16::try_from(frame.len().saturating_sub(at)).unwrap_or(u16::MAX);
        match self.ip {
            Ip::V4 => put16(frame, self.l3 + 2, behind(self.l3)),
            Ip::V6 => put16(frame, self.l3 + 4, behind(self.l3 + IPV6_BYTES)),
        }
    }
}

/// Length of the Ethernet header with its tags, and the type behind them.
pub(super) fn ethernet(bytes: &[u8]) -> Option<(usize, u16)> {
    let mut len = ETHERNET_BYTES;
    let mut ether_type = get16(bytes, len - 2)?;
    for _ in 0..TAGS_MAX {
        if !matches!(ether_type, TYPE_VLAN | TYPE_SERVICE_VLAN) {
            break;
        }
        len += TAG_BYTES;
        ether_type = get16(bytes, len - 2)?;
    }
    Some((len, ether_type))
}

fn ipv4(bytes: &[u8], l3: usize) -> Result<Layout, Refusal> {
    let read16 = |at| get16(bytes, l3 + at).ok_or(Refusal::Malformed);
    let version = get8(bytes, l3).ok_or(Refusal::Malformed)?;
    let header = usize::from(version & 0x0f) * 4;
    let total = usize::from(read16(2)?);
    let fragment = read16(6)?;
    let layout = Layout {
        ip: Ip::V4,
        l3,
        l4: l3 + header,
        end: l3 + total,
        protocol: get8(bytes, l3 + 9).ok_or(Refusal::Malformed)?,
        is_fragment: fragment & IPV4_FRAGMENT != 0,
    };
    let is_sound = version >> 4 == 4
        && header >= IPV4_BYTES_MIN
        && header <= total
        && layout.end <= bytes.len();
    if is_sound {
        Ok(layout)
    } else {
        Err(Refusal::Malformed)
    }
}

fn ipv6(bytes: &[u8], l3: usize) -> Result<Layout, Refusal> {
    let version = get8(bytes, l3).ok_or(Refusal::Malformed)?;
    let payload = usize::from(get16(bytes, l3 + 4).ok_or(Refusal::Malformed)?);
    let mut layout = Layout {
        ip: Ip::V6,
        l3,
        l4: l3 + IPV6_BYTES,
        end: l3 + IPV6_BYTES + payload,
        protocol: get8(bytes, l3 + 6).ok_or(Refusal::Malformed)?,
        is_fragment: false,
    };
    if version >> 4 != 6 || layout.end > bytes.len() {
        return Err(Refusal::Malformed);
    }
    for _ in 0..EXTENSIONS_MAX {
        match layout.protocol {
            HOP_BY_HOP | DESTINATION_OPTIONS => {}
            IPV6_FRAGMENT => {
                layout.is_fragment = true;
                return Ok(layout);
            }
            // Routing (43) makes the pseudo header another one, and behind ESP (50) and AH (51)
            // nothing can be cut; to them the transport header is what follows IPv6.
            _ => return Ok(layout),
        }
        let next = get8(bytes, layout.l4).ok_or(Refusal::Malformed)?;
        let words = get8(bytes, layout.l4 + 1).ok_or(Refusal::Malformed)?;
        layout.l4 += (usize::from(words) + 1) * 8;
        layout.protocol = next;
        if layout.l4 > layout.end {
            return Err(Refusal::Malformed);
        }
    }
    Err(Refusal::Extensions)
}

pub(super) fn get8(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

pub(super) fn get16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_be_bytes(*pair))
}

pub(super) fn get32(bytes: &[u8], at: usize) -> Option<u32> {
    let word = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*word))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .copied()
        .unwrap_or([0; N])
}

/// Overwrites bytes at `at`. A place outside is no place of a header: nothing is written.
pub(super) fn put(bytes: &mut [u8], at: usize, new: &[u8]) {
    if let Some(old) = bytes.get_mut(at..at + new.len()) {
        old.copy_from_slice(new);
    }
}

pub(super) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    put(bytes, at, &value.to_be_bytes());
}

/// The partial sum of a range; an empty one where there is no such range.
pub(super) fn sum(bytes: &[u8], range: Range<usize>) -> u32 {
    checksum::sum(bytes.get(range).unwrap_or_default())
}

/// Computes the checksum of an IPv4 header that ends at `l4`.
pub(super) fn fill_ipv4_checksum(bytes: &mut [u8], l3: usize, l4: usize) {
    put16(bytes, l3 + 10, 0);
    let field = checksum::finish(sum(bytes, l3..l4));
    put16(bytes, l3 + 10, field);
}
