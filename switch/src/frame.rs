//! A frame with its offload state, borrowed from a ring.
//!
//! The kernel hands out frames whose checksum is unfinished and whose length exceeds the MTU; the
//! virtio-net header in front says so. That state is a type here and travels with the frame to the
//! egress, where [`Frame::seal`] writes it back in front of the bytes. Nothing in between completes
//! a checksum or cuts a frame, except an egress that needs it (`gso`).

use crate::limits::{BATCH_FRAMES_MAX, HEADROOM_BYTES};
use crate::port::PortIndex;
use crate::trace::Tag;

/// Bytes of `struct virtio_net_hdr` without `num_buffers` (include/uapi/linux/virtio_net.h).
pub const VNET_HEADER_BYTES: usize = 10;

const VNET_NEEDS_CSUM: u8 = 1;
const VNET_DATA_VALID: u8 = 2;
const VNET_GSO_TCPV4: u8 = 1;
const VNET_GSO_TCPV6: u8 = 4;
const VNET_GSO_UDP_L4: u8 = 5;
const VNET_GSO_ECN: u8 = 0x80;

/// The state of a frame's L4 checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Csum {
    /// The field holds a full checksum which hardware or the sender's kernel has verified.
    Complete,
    /// The field at `start + offset` holds only the folded, non-inverted sum of the pseudo
    /// header; the sum over `start..` is still to be done (`CHECKSUM_PARTIAL`).
    Partial {
        /// Where summing starts, in bytes from the first byte of the frame.
        start: u16,
        /// Where the 16-bit result goes, in bytes from `start`.
        offset: u16,
    },
    /// The field holds a full checksum that nobody has verified yet; the receiver will.
    Unchecked,
}

/// How a frame longer than the MTU is to be cut (generic segmentation offload).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gso {
    /// Not to be cut.
    None,
    /// TCP over IPv4; `mss` bytes of payload a segment. `ecn`: CWR belongs to the first segment.
    Tcp4 {
        /// Payload bytes per segment.
        mss: u16,
        /// The CWR flag is set and stays on the first segment only.
        ecn: bool,
    },
    /// TCP over IPv6.
    Tcp6 {
        /// Payload bytes per segment.
        mss: u16,
        /// The CWR flag is set and stays on the first segment only.
        ecn: bool,
    },
    /// UDP datagrams of `size` payload bytes each (`UDP_SEGMENT`), over IPv4 or IPv6.
    Udp {
        /// Payload bytes per datagram.
        size: u16,
    },
}

impl Gso {
    /// Payload bytes per segment; 0 where the frame is not to be cut.
    #[must_use]
    pub const fn segment_bytes(self) -> u16 {
        match self {
            Self::None => 0,
            Self::Tcp4 { mss, .. } | Self::Tcp6 { mss, .. } => mss,
            Self::Udp { size } => size,
        }
    }
}

/// A virtio-net header this switch cannot express.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownOffload;

/// The offload state of one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offload {
    /// State of the L4 checksum.
    pub csum: Csum,
    /// Segmentation still to be done.
    pub gso: Gso,
}

impl Offload {
    /// A plain frame: full unverified checksum, not to be cut.
    pub const PLAIN: Self = Self {
        csum: Csum::Unchecked,
        gso: Gso::None,
    };

    /// Reads a native-endian `struct virtio_net_hdr`.
    ///
    /// # Errors
    /// [`UnknownOffload`] for a segmentation type this switch does not know (UFO, tunnels).
    pub fn from_vnet(header: [u8; VNET_HEADER_BYTES]) -> Result<Self, UnknownOffload> {
        let [
            flags,
            gso,
            _,
            _,
            size_0,
            size_1,
            start_0,
            start_1,
            offset_0,
            offset_1,
        ] = header;
        let size = u16::from_ne_bytes([size_0, size_1]);
        let csum = if flags & VNET_NEEDS_CSUM != 0 {
            Csum::Partial {
                start: u16::from_ne_bytes([start_0, start_1]),
                offset: u16::from_ne_bytes([offset_0, offset_1]),
            }
        } else if flags & VNET_DATA_VALID != 0 {
            Csum::Complete
        } else {
            Csum::Unchecked
        };
        let ecn = gso & VNET_GSO_ECN != 0;
        let gso = match gso & !VNET_GSO_ECN {
            0 => Gso::None,
            _ if size == 0 => return Err(UnknownOffload),
            VNET_GSO_TCPV4 => Gso::Tcp4 { mss: size, ecn },
            VNET_GSO_TCPV6 => Gso::Tcp6 { mss: size, ecn },
            VNET_GSO_UDP_L4 => Gso::Udp { size },
            _ => return Err(UnknownOffload),
        };
        Ok(Self { csum, gso })
    }

    /// Writes the header an AF_PACKET or TAP socket expects. `header_bytes` is the length of all
    /// headers of the frame (Ethernet to L4); the kernel allocates that much linear memory.
    #[must_use]
    pub fn to_vnet(self, header_bytes: u16) -> [u8; VNET_HEADER_BYTES] {
        let (gso, size) = match self.gso {
            Gso::None => (0, 0),
            Gso::Tcp4 { mss, ecn } => (VNET_GSO_TCPV4 | if ecn { VNET_GSO_ECN } else { 0 }, mss),
            Gso::Tcp6 { mss, ecn } => (VNET_GSO_TCPV6 | if ecn { VNET_GSO_ECN } else { 0 }, mss),
            Gso::Udp { size } => (VNET_GSO_UDP_L4, size),
        };
        let (flags, start, offset) = match self.csum {
            Csum::Partial { start, offset } => (VNET_NEEDS_CSUM, start, offset),
            Csum::Complete | Csum::Unchecked => (0, 0, 0),
        };
        let linear = if gso == 0 { 0 } else { header_bytes };
        let [l0, l1] = linear.to_ne_bytes();
        let [g0, g1] = size.to_ne_bytes();
        let [s0, s1] = start.to_ne_bytes();
        let [o0, o1] = offset.to_ne_bytes();
        [flags, gso, l0, l1, g0, g1, s0, s1, o0, o1]
    }
}

/// How far a frame has got on its way through the gateway. Almost all are at the start; a frame
/// that waits, or changes hands between workers, goes on where it was.
///
/// A frame is handed over only into a later stage than it has ([`Frame::pass_on`]), so it changes
/// hands a few times at most, whatever the workers think of each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stage {
    /// As it came in.
    #[default]
    Arrived,
    /// From a member to outside, admitted and learned by the worker that received it; the one that
    /// translates for its port goes on.
    Inside,
    /// From a member to outside, and known to have a next hop and to fit the way: its session is
    /// this worker's, which is not the one that translates for its port (a published port's).
    Owned,
    /// From a member to outside: its source is translated; the next hop is still to be found.
    Sourced,
    /// From a member to the external address: its source is translated, its destination not yet.
    Hairpinned,
    /// From the uplink, handed over to the worker that owns its session.
    Outside,
    /// Its destination is translated to a member's; only that member's place is still to be found.
    Translated,
    /// A fragment from a member to the host itself, which waited for the first one.
    ForHost,
}

/// One Ethernet frame in memory lent by a ring, with room in front.
#[derive(Debug)]
pub struct Frame<'r> {
    memory: &'r mut [u8],
    start: usize,
    end: usize,
    /// Checksum and segmentation state.
    pub offload: Offload,
    /// How far it has got.
    pub stage: Stage,
    /// The port it came in on.
    pub ingress: PortIndex,
}

impl<'r> Frame<'r> {
    /// A frame of `len` bytes at `start` in `memory`. `None` if it does not fit or has less than
    /// [`VNET_HEADER_BYTES`] in front of it.
    pub fn new(
        memory: &'r mut [u8],
        start: usize,
        len: usize,
        offload: Offload,
        ingress: PortIndex,
    ) -> Option<Self> {
        let end = start.checked_add(len)?;
        let fits = start >= VNET_HEADER_BYTES && end <= memory.len();
        fits.then_some(Self {
            memory,
            start,
            end,
            offload,
            stage: Stage::Arrived,
            ingress,
        })
    }

    /// The frame, from its destination address on; an outer VLAN tag is in place.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.end).unwrap_or_default()
    }

    /// The frame, to be edited in place.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory
            .get_mut(self.start..self.end)
            .unwrap_or_default()
    }

    /// Length in bytes.
    #[must_use]
    #[inline]
    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    /// True for a frame of no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Cuts the frame to `len` bytes; longer than it is changes nothing.
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start.saturating_add(len));
    }

    /// Grows the frame by `count` bytes in front (their content is whatever was there) and moves
    /// the checksum start along. False, and no change, where the headroom does not suffice.
    pub fn push_front(&mut self, count: u8) -> bool {
        let count_bytes = usize::from(count);
        if self.start < count_bytes + VNET_HEADER_BYTES {
            return false;
        }
        if let Csum::Partial { start, .. } = &mut self.offload.csum {
            let Some(moved) = start.checked_add(u16::from(count)) else {
                return false;
            };
            *start = moved;
        }
        self.start -= count_bytes;
        true
    }

    /// Writes the virtio-net header in front of the frame, so that [`sealed`](Self::sealed) is one
    /// contiguous piece. To be called once the frame is final.
    #[inline]
    pub fn seal(&mut self, header_bytes: u16) {
        let header = self.offload.to_vnet(header_bytes);
        if let Some(front) = self.start.checked_sub(VNET_HEADER_BYTES)
            && let Some(room) = self.memory.get_mut(front..self.start)
        {
            room.copy_from_slice(&header);
        }
    }

    /// Header and frame, as an egress takes them. Meaningful after [`seal`](Self::seal).
    #[must_use]
    #[inline]
    pub fn sealed(&self) -> &[u8] {
        self.memory
            .get(self.start - VNET_HEADER_BYTES..self.end)
            .unwrap_or_default()
    }

    /// Takes the frame to a later stage, which another worker goes on with. False, and no change,
    /// where it has been there: two workers with different views may each take the other for the
    /// one to go on.
    #[must_use]
    pub fn pass_on(&mut self, stage: Stage) -> bool {
        let is_later = self.stage < stage;
        if is_later {
            self.stage = stage;
        }
        is_later
    }

    /// A copy that outlives the ring: for a hand-over or a neighbour queue.
    #[must_use]
    pub fn to_owned(&self) -> OwnedFrame {
        let mut memory = Vec::with_capacity(HEADROOM_BYTES + self.len());
        memory.resize(HEADROOM_BYTES, 0);
        memory.extend_from_slice(self.bytes());
        OwnedFrame {
            memory,
            offload: self.offload,
            stage: self.stage,
            ingress: self.ingress,
            #[cfg(not(untraced))]
            tag: Tag::NONE,
        }
    }
}

/// A frame in its own memory.
#[derive(Debug, Clone)]
pub struct OwnedFrame {
    memory: Vec<u8>,
    /// Checksum and segmentation state.
    pub offload: Offload,
    /// How far it has got.
    pub stage: Stage,
    /// The port it came in on.
    pub ingress: PortIndex,
    #[cfg(not(untraced))]
    tag: Tag,
}

impl OwnedFrame {
    /// A frame made of `bytes`, as if received on `ingress`.
    #[must_use]
    pub fn new(bytes: &[u8], offload: Offload, ingress: PortIndex) -> Self {
        let mut memory = vec![0; HEADROOM_BYTES];
        memory.extend_from_slice(bytes);
        Self {
            memory,
            offload,
            stage: Stage::Arrived,
            ingress,
            #[cfg(not(untraced))]
            tag: Tag::NONE,
        }
    }

    /// Which packet it is, for the trace.
    #[must_use]
    pub const fn tag(&self) -> Tag {
        #[cfg(not(untraced))]
        return self.tag;
        #[cfg(untraced)]
        Tag::NONE
    }

    /// Says which packet it is, for the trace.
    #[cfg_attr(untraced, expect(unused_variables))]
    pub const fn set_tag(&mut self, tag: Tag) {
        #[cfg(not(untraced))]
        {
            self.tag = tag;
        }
    }

    /// The frame's bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(HEADROOM_BYTES..).unwrap_or_default()
    }

    /// The frame as the pipeline takes it.
    pub fn borrow(&mut self) -> Frame<'_> {
        let end = self.memory.len();
        Frame {
            start: HEADROOM_BYTES.min(end),
            end,
            offload: self.offload,
            stage: self.stage,
            ingress: self.ingress,
            memory: &mut self.memory,
        }
    }
}

/// Up to [`BATCH_FRAMES_MAX`] frames of one ring.
pub type Batch<'r> = arrayvec::ArrayVec<Frame<'r>, BATCH_FRAMES_MAX>;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn vnet_headers_round_trip() {
        let states = [
            Offload::PLAIN,
            Offload {
                csum: Csum::Partial {
                    start: 34,
                    offset: 16,
                },
                gso: Gso::None,
            },
            Offload {
                csum: Csum::Partial {
                    start: 34,
                    offset: 16,
                },
                gso: Gso::Tcp4 {
                    mss: 1448,
                    ecn: true,
                },
            },
            Offload {
                csum: Csum::Partial {
                    start: 54,
                    offset: 16,
                },
                gso: Gso::Tcp6 {
                    mss: 1428,
                    ecn: false,
                },
            },
            Offload {
                csum: Csum::Partial {
                    start: 34,
                    offset: 6,
                },
                gso: Gso::Udp { size: 1000 },
            },
        ];
        for state in states {
            assert_eq!(Offload::from_vnet(state.to_vnet(66)), Ok(state));
        }
        // UFO (3) and a segmentation type without a size are refused, not guessed.
        assert_eq!(
            Offload::from_vnet([1, 3, 0, 0, 1, 1, 0, 0, 0, 0]),
            Err(UnknownOffload)
        );
        assert_eq!(
            Offload::from_vnet([1, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(UnknownOffload)
        );
    }

    #[test]
    fn a_pushed_tag_moves_the_checksum_start() {
        let mut memory = [0u8; 64];
        let offload = Offload {
            csum: Csum::Partial {
                start: 34,
                offset: 6,
            },
            gso: Gso::None,
        };
        let mut frame = Frame::new(&mut memory, 20, 44, offload, PortIndex(0)).unwrap();
        assert!(frame.push_front(4));
        assert_eq!(frame.len(), 48);
        assert_eq!(
            frame.offload.csum,
            Csum::Partial {
                start: 38,
                offset: 6
            }
        );
        assert!(
            !frame.push_front(7),
            "10 bytes stay free for the virtio-net header"
        );
        assert!(frame.push_front(6));
    }

    proptest! {
        #[test]
        fn any_header_is_read_without_panic(header: [u8; 10], hdr_len: u16) {
            if let Ok(offload) = Offload::from_vnet(header) {
                prop_assert_eq!(Offload::from_vnet(offload.to_vnet(hdr_len)).map(|o| o.gso),
                                Ok(offload.gso));
            }
        }
    }
}
