//! Finishing what a sender left to the hardware: checksums, segmentation, fragmentation.
//!
//! # Theory of operation
//!
//! A container's kernel hands out TCP and UDP frames of up to 64 KiB with an unfinished checksum
//! (see [`crate::frame`]). An egress with a virtio-net header takes them as they are. The functions
//! here are for the others: a capture file, an uplink whose MTU is smaller, a kernel that refuses
//! an offload, a routed datagram that must be fragmented. They are pure and allocate nothing; the
//! segments are written into a [`SegmentBuffer`] made once, in as many fills as it takes.
//!
//! ```text
//! let mut cut = Cut::new(frame.bytes(), frame.offload, mtu)?;
//! while cut.fill(&mut buffer) {
//!     for segment in buffer.segments() { .. }
//! }
//! ```
//!
//! Headers are found in the bytes, never believed from the offload state, and the two must agree:
//! the checksum starts at the frame's own transport header, and the segmentation type is that of
//! its protocol. They disagree for tunnels: over veth, a VXLAN frame of a container arrives as
//! "TCP, checksum at the *inner* header", which the kernel cannot cut any more when it is sent on.
//! If it is short only a checksum is missing. If it is to be cut ([`is_tunnel`]), it must be cut
//! here, which [`Cut`] does for VXLAN and Geneve; what is in other tunnels is [`Refusal::Tunnel`].
//!
//! What is cut, and how:
//!
//! - TCP over IPv4 and IPv6, options kept: the sequence number goes on, FIN and PSH are on the last
//!   segment, CWR on the first (RFC 3168 6.1.2), the IPv4 identification counts up
//!   (net/ipv4/af_inet.c, `inet_gso_segment`). A smaller segment than the sender's is possible.
//! - UDP (`UDP_SEGMENT`): every datagram keeps the sender's length.
//! - IPv4 without DF: fragments (RFC 791).
//! - Up to two VLAN tags and IPv6 hop-by-hop and destination options are carried along; routing
//!   headers, AH and ESP are not looked behind, so that frames with them are [`Refusal::Protocol`].
//!
//! SCTP has no Internet checksum but a CRC32c (RFC 9260 6.8). Linux leaves it out on a veth, and
//! the virtio-net header cannot say so: [`complete`] computes it, for otherwise the next kernel
//! would write 16 bits of the wrong sum.

mod crc32c;
mod cut;
mod fragment;
mod layout;
mod tunnel;

pub use cut::Cut;
pub use fragment::Fragments;

use nat::checksum;

use crate::ethernet::ARP as TYPE_ARP;
use crate::frame::{Csum, Gso, Offload, VNET_HEADER_BYTES};
use crate::limits::FRAME_BYTES_MAX;
use crc32c::Crc32c;
pub use crc32c::crc32c;
use layout::{
    IPV6_BYTES, Ip, Layout, SCTP, TCP, TYPE_IPV4, TYPE_IPV6, UDP, ethernet, put, put16, sum,
};
use tunnel::Layers;

/// Segments one fill of a buffer makes at most: 64 KiB in pieces of 536 bytes are 123.
pub const SEGMENTS_MAX: usize = 128;

/// Header bytes counted for each: virtio-net 10, Ethernet with two tags 22, IPv4 60, TCP 60.
const SEGMENT_HEADER_BYTES: usize = VNET_HEADER_BYTES + 22 + 60 + 60;

/// Where TCP, UDP and SCTP have their checksum, from the first byte of their header.
const TCP_CHECKSUM: u16 = 16;
const UDP_CHECKSUM: u16 = 6;
const SCTP_CHECKSUM: u16 = 8;

/// Why a frame's offload is not carried out here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// Neither IPv4 nor IPv6.
    #[error("neither IPv4 nor IPv6")]
    NotIp,
    /// Header lengths that contradict each other or the frame's.
    #[error("header lengths contradict each other or the frame's")]
    Malformed,
    /// A fragment: there is no whole transport segment to work on.
    #[error("an IP fragment")]
    Fragment,
    /// More IPv6 extension headers than are looked through.
    #[error("too many IPv6 extension headers")]
    Extensions,
    /// A segmentation type that is not that of the frame's protocol.
    #[error("the segmentation type is not that of the frame's protocol")]
    Protocol,
    /// The checksum is that of a header inside a tunnel.
    #[error("segmentation inside a tunnel")]
    Tunnel,
    /// A checksum field outside the frame.
    #[error("the checksum field is outside the frame")]
    Checksum,
    /// Segments below the kernel's minimum, or more datagrams than its maximum.
    #[error("segments too small or too many")]
    SegmentSize,
    /// A datagram longer than the MTU, or an MTU that leaves no room behind the headers.
    #[error("longer than the MTU")]
    Mtu,
    /// Longer than the MTU, and the sender forbids fragments.
    #[error("fragmentation is forbidden (DF)")]
    DontFragment,
    /// IPv4 options that contradict themselves.
    #[error("malformed IPv4 options")]
    Options,
    /// A checksum or segmentation must be done first.
    #[error("checksum or segmentation is still to be done")]
    Unfinished,
}

/// Memory for segments, made once: 64 KiB of payload and headers for [`SEGMENTS_MAX`] segments.
#[derive(Debug)]
pub struct SegmentBuffer {
    memory: Box<[u8]>,
    ends: arrayvec::ArrayVec<usize, SEGMENTS_MAX>,
}

impl Default for SegmentBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl SegmentBuffer {
    /// An empty buffer with all its memory.
    #[must_use]
    pub fn new() -> Self {
        let bytes = FRAME_BYTES_MAX + SEGMENTS_MAX * SEGMENT_HEADER_BYTES;
        Self {
            memory: vec![0; bytes].into_boxed_slice(),
            ends: arrayvec::ArrayVec::new(),
        }
    }

    /// The segments of the last fill, in order: plain frames with complete checksums.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.sealed()
            .map(|sealed| sealed.get(VNET_HEADER_BYTES..).unwrap_or_default())
    }

    /// The segments with a virtio-net header in front that says "nothing to be done", as
    /// [`Frame::sealed`](crate::frame::Frame::sealed).
    pub fn sealed(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let segment = self.memory.get(start..end).unwrap_or_default();
            start = end;
            segment
        })
    }

    /// How many segments there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True without any segment.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn clear(&mut self) {
        self.ends.clear();
    }

    /// Memory for a segment of `len` bytes, to be overwritten; `None` if this fill is over.
    fn push(&mut self, len: usize) -> Option<&mut [u8]> {
        let start = self.ends.last().copied().unwrap_or(0);
        let frame = start + VNET_HEADER_BYTES;
        let segment = self.memory.get_mut(start..frame + len)?;
        self.ends.try_push(frame + len).ok()?;
        let (header, segment) = segment.split_at_mut_checked(VNET_HEADER_BYTES)?;
        header.fill(0);
        Some(segment)
    }
}

/// Finishes a partial checksum in place and returns the new state; leaves the others alone.
///
/// The Internet checksum is summed wherever it starts, in a tunnel too, as the kernel does
/// (net/core/dev.c, `skb_checksum_help`); Ethernet padding is left out. A frame to be cut gets its
/// checksums from [`Cut`] instead: its segments have one each.
///
/// # Errors
/// [`Refusal::Checksum`] for a field outside the frame, [`Refusal::Tunnel`] for what may be a
/// CRC32c inside a tunnel.
pub fn complete(bytes: &mut [u8], csum: Csum) -> Result<Csum, Refusal> {
    let Csum::Partial { start, offset } = csum else {
        return Ok(csum);
    };
    let from = usize::from(start);
    let field = from + usize::from(offset);
    let layout = Layout::parse(bytes).ok();
    let end = layout.map_or(bytes.len(), |layout| layout.end);
    let is_own = layout.is_some_and(|layout| layout.l4 == from && !layout.is_fragment);
    if layout.is_some_and(|layout| is_own && layout.protocol == SCTP) {
        return complete_sctp(bytes, from..end, offset);
    }
    if offset == SCTP_CHECKSUM {
        return Err(Refusal::Tunnel);
    }
    if field + 2 > end {
        return Err(Refusal::Checksum);
    }
    let partial = sum(bytes, from..end);
    let value = if offset == UDP_CHECKSUM {
        checksum::finish_udp(partial)
    } else {
        checksum::finish(partial)
    };
    put16(bytes, field, value);
    Ok(Csum::Complete)
}

/// Computes the CRC32c of an SCTP packet; it goes out low byte first (RFC 9260 appendix A).
fn complete_sctp(
    bytes: &mut [u8],
    packet: std::ops::Range<usize>,
    offset: u16,
) -> Result<Csum, Refusal> {
    let field = packet.start + usize::from(SCTP_CHECKSUM);
    if offset != SCTP_CHECKSUM || field + 4 > packet.end {
        return Err(Refusal::Checksum);
    }
    put(bytes, field, &[0; 4]);
    let covered = bytes.get(packet).ok_or(Refusal::Checksum)?;
    let crc = Crc32c::new().add(covered).finish();
    put(bytes, field, &crc.to_le_bytes());
    Ok(Csum::Complete)
}

/// Whether a partial checksum lies where one can be: behind the headers that decide where the frame
/// goes and who it is from, and inside of the frame. A TAP's reader writes into the virtio-net
/// header what it likes; carried out at the egress, a "checksum" at its source address would change
/// that after it was checked.
#[must_use]
#[inline]
pub fn csum_is_placed(bytes: &[u8], start: u16, offset: u16) -> bool {
    let (start, offset) = (usize::from(start), usize::from(offset));
    let first = match ethernet(bytes) {
        Some((l3, TYPE_IPV4)) => l3 + usize::from(bytes.get(l3).map_or(0, |b| b & 0x0f)) * 4,
        Some((l3, TYPE_IPV6)) => l3 + IPV6_BYTES,
        Some((_, TYPE_ARP)) | None => return false,
        // Something else may have a transport header somewhere: MPLS, PPPoE.
        Some((l3, _)) => l3,
    };
    start >= first && start + offset + 2 <= bytes.len()
}

/// Length of all headers of a frame to be cut, from Ethernet to the end of TCP or UDP, for
/// [`Frame::seal`](crate::frame::Frame::seal); 0 for a frame not to be cut, whose egress needs
/// none.
///
/// # Errors
/// The [`Refusal`] where the bytes do not bear out `offload`: such a frame must not be sent on.
#[inline]
pub fn header_bytes(bytes: &[u8], offload: Offload) -> Result<u16, Refusal> {
    if offload.gso == Gso::None {
        return Ok(0);
    }
    let payload = check_plain(bytes, offload)?.payload(bytes)?;
    u16::try_from(payload).map_err(|_| Refusal::Malformed)
}

/// The longest IP packet this frame makes on the wire, in bytes without Ethernet header and tags:
/// that of one segment for a frame to be cut, all of the frame for others. To be compared with the
/// MTU of the egress, which the kernel does not do for frames to be cut.
#[must_use]
#[inline]
pub fn wire_len_max(bytes: &[u8], offload: Offload) -> usize {
    let l2 = ethernet(bytes).map_or(0, |(len, _)| len);
    let whole = bytes.len() - l2;
    if offload.gso == Gso::None {
        return whole;
    }
    let payload = Layers::find(bytes, offload).and_then(|layers| layers.own.payload(bytes));
    payload.map_or(whole, |payload| {
        whole.min(payload - l2 + usize::from(offload.gso.segment_bytes()))
    })
}

/// True for a frame to be cut whose segments are those of a connection inside a tunnel that
/// [`Cut`] knows: no kernel will cut it any more, so it must be cut before it is sent.
#[must_use]
pub fn is_tunnel(bytes: &[u8], offload: Offload) -> bool {
    offload.gso != Gso::None
        && Layers::find(bytes, offload).is_ok_and(|layers| layers.outer.is_some())
}

/// True if checksum and segmentation state are those of the frame's own transport header, not of
/// one inside a tunnel; also for a frame with neither.
#[must_use]
pub fn offload_is_plain(bytes: &[u8], offload: Offload) -> bool {
    let has_none = offload.gso == Gso::None && !matches!(offload.csum, Csum::Partial { .. });
    has_none || check_plain(bytes, offload).is_ok()
}

/// The layout of a frame whose offload state agrees with it.
fn check_plain(bytes: &[u8], offload: Offload) -> Result<Layout, Refusal> {
    check_layout(Layout::parse(bytes)?, offload)
}

/// The layout itself, if it is the one `offload` is about.
fn check_layout(layout: Layout, offload: Offload) -> Result<Layout, Refusal> {
    if layout.is_fragment {
        return Err(Refusal::Fragment);
    }
    if let Csum::Partial { start, offset } = offload.csum {
        let own = match layout.protocol {
            TCP => Some(TCP_CHECKSUM),
            UDP => Some(UDP_CHECKSUM),
            SCTP => Some(SCTP_CHECKSUM),
            _ => None,
        };
        if usize::from(start) != layout.l4 || own != Some(offset) {
            return Err(Refusal::Tunnel);
        }
    }
    let agrees = match offload.gso {
        Gso::None => true,
        Gso::Tcp4 { .. } => layout.ip == Ip::V4 && layout.protocol == TCP,
        Gso::Tcp6 { .. } => layout.ip == Ip::V6 && layout.protocol == TCP,
        Gso::Udp { .. } => layout.protocol == UDP,
    };
    if agrees {
        Ok(layout)
    } else {
        Err(Refusal::Protocol)
    }
}

#[cfg(test)]
mod tests;
