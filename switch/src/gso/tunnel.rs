//! Frames to be cut inside UDP tunnels: VXLAN (RFC 7348) and Geneve (RFC 8926).
//!
//! The virtio-net header tells neither that there is a tunnel nor where its payload begins, only
//! where the innermost checksum starts. So the inner frame is looked for where either kind of
//! tunnel has it, and taken if it bears out all that is known: its transport header is at that
//! checksum, its protocol is that of the segmentation, and it ends where the outer packet does.

use super::layout::{Ip, Layout, UDP, fill_ipv4_checksum, get8, get16, put16, sum};
use super::{Refusal, check_layout, check_plain};
use crate::frame::Offload;
use nat::checksum;

const UDP_BYTES: usize = 8;
const UDP_LENGTH: usize = 4;
const UDP_CHECKSUM: usize = 6;
/// A VXLAN header, and a Geneve header without its options.
const TUNNEL_BYTES: usize = 8;
/// Length of Geneve's options, in words of four bytes: the low bits of the first byte.
const GENEVE_OPTIONS: u8 = 0x3f;

/// The headers of a frame to be cut: the ones its segmentation is about, and those around them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layers {
    /// The tunnel's own packet.
    pub(super) outer: Option<Layout>,
    /// What is segmented.
    pub(super) own: Layout,
}

impl Layers {
    /// Finds the headers that `offload` is about.
    pub(super) fn find(bytes: &[u8], offload: Offload) -> Result<Self, Refusal> {
        let refusal = match check_plain(bytes, offload) {
            Ok(own) => return Ok(Self { outer: None, own }),
            Err(refusal @ (Refusal::Tunnel | Refusal::Protocol)) => refusal,
            Err(refusal) => return Err(refusal),
        };
        let outer = Layout::parse(bytes)?;
        if outer.protocol != UDP || outer.is_fragment {
            return Err(refusal);
        }
        let header = outer.l4 + UDP_BYTES;
        let words = get8(bytes, header).ok_or(Refusal::Malformed)? & GENEVE_OPTIONS;
        let vxlan = header + TUNNEL_BYTES;
        let places = [vxlan, vxlan + 4 * usize::from(words)];
        let own = places
            .into_iter()
            .find_map(|at| inner(bytes, at, outer, offload));
        own.map(|own| Self {
            outer: Some(outer),
            own,
        })
        .ok_or(refusal)
    }

    /// Where the IP packet begins that goes on the wire.
    pub(super) fn wire(&self) -> usize {
        self.outer.unwrap_or(self.own).l3
    }
}

/// The layout of the frame at `at`, if that is one `offload` is about, in bytes from the outer
/// frame's first.
fn inner(bytes: &[u8], at: usize, outer: Layout, offload: Offload) -> Option<Layout> {
    let layout = Layout::parse(bytes.get(at..outer.end)?).ok()?.moved(at);
    let is_whole = layout.end == outer.end && layout.l4 > outer.l4;
    check_layout(layout, offload).ok().filter(|_| is_whole)
}

/// Makes the tunnel's own headers fit a segment, the `count`-th of `frame`.
pub(super) fn finish_outer(outer: &Layout, frame: &[u8], segment: &mut [u8], count: u16) {
    outer.set_ip_length(segment);
    if outer.ip == Ip::V4 {
        let id = get16(frame, outer.l3 + 4).unwrap_or(0);
        put16(segment, outer.l3 + 4, id.wrapping_add(count));
        fill_ipv4_checksum(segment, outer.l3, outer.l4);
    }
    let len = segment.len().saturating_sub(outer.l4);
    put16(
        segment,
        outer.l4 + UDP_LENGTH,
        u16::try_from(len).unwrap_or(u16::MAX),
    );
    // The field is unfinished, whatever the inner one is; zero means that the tunnel has none.
    if get16(frame, outer.l4 + UDP_CHECKSUM) != Some(0) {
        put16(segment, outer.l4 + UDP_CHECKSUM, 0);
        let partial = outer.pseudo_sum(segment, len) + sum(segment, outer.l4..segment.len());
        put16(
            segment,
            outer.l4 + UDP_CHECKSUM,
            checksum::finish_udp(partial),
        );
    }
}
