//! Segmentation: one frame of up to 64 KiB into many that fit the wire.

use nat::checksum;

use super::layout::{
    Ip, Layout, TCP, UDP, fill_ipv4_checksum, get8, get16, get32, put, put16, sum,
};
use super::tunnel::{Layers, finish_outer};
use super::{Refusal, SegmentBuffer};
use crate::frame::{Csum, Gso, Offload};

/// The smallest TCP segment the kernel makes, in payload bytes: 48 less 40 of options
/// (`TCP_MIN_GSO_SIZE`, include/net/tcp.h).
const MSS_MIN: usize = 8;

/// The most datagrams of one frame (`UDP_MAX_SEGMENTS`, include/linux/udp.h).
const DATAGRAMS_MAX: usize = 128;

const TCP_SEQUENCE: usize = 4;
const TCP_FLAGS: usize = 13;
const TCP_CHECKSUM: usize = 16;
const UDP_LENGTH: usize = 4;
const UDP_CHECKSUM: usize = 6;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// A frame being cut into segments.
#[derive(Debug)]
pub struct Cut<'f> {
    frame: &'f [u8],
    /// The packet around, where the segments are those of a connection inside a tunnel.
    outer: Option<Layout>,
    layout: Layout,
    payload: usize,
    /// Payload bytes of a segment.
    size: usize,
    /// False for UDP without a checksum: its datagrams will not have one either (RFC 768).
    has_checksum: bool,
    /// Payload bytes cut so far, and segments made of them.
    done: usize,
    count: u16,
    is_finished: bool,
}

impl<'f> Cut<'f> {
    /// Plans how to cut `frame` for a wire that takes `mtu` bytes of IP.
    ///
    /// TCP segments become as long as the sender asked for, or as the MTU allows, whichever is
    /// less; UDP datagrams always keep their length.
    ///
    /// # Errors
    /// The [`Refusal`] where the bytes do not bear out `offload`, or a datagram exceeds `mtu`.
    pub fn new(frame: &'f [u8], offload: Offload, mtu: usize) -> Result<Self, Refusal> {
        let layers = Layers::find(frame, offload)?;
        let layout = layers.own;
        let payload = layout.payload(frame)?;
        let headers = payload - layers.wire();
        let room = mtu.checked_sub(headers).ok_or(Refusal::Mtu)?;
        let asked = usize::from(offload.gso.segment_bytes());
        let payload_bytes = layout.end - payload;
        let size = match offload.gso {
            Gso::None => return Err(Refusal::Protocol),
            Gso::Tcp4 { .. } | Gso::Tcp6 { .. } => match asked.min(room) {
                _ if asked < MSS_MIN => return Err(Refusal::SegmentSize),
                0..MSS_MIN => return Err(Refusal::Mtu),
                size => size,
            },
            Gso::Udp { .. } => match asked {
                0 => return Err(Refusal::SegmentSize),
                _ if payload_bytes.div_ceil(asked) > DATAGRAMS_MAX => {
                    return Err(Refusal::SegmentSize);
                }
                _ if asked.min(payload_bytes) > room => return Err(Refusal::Mtu),
                size => size,
            },
        };
        let is_partial = matches!(offload.csum, Csum::Partial { .. });
        let field = get16(frame, layout.l4 + UDP_CHECKSUM).unwrap_or(0);
        Ok(Self {
            frame,
            outer: layers.outer,
            layout,
            payload,
            size,
            has_checksum: layout.protocol == TCP || is_partial || field != 0,
            done: 0,
            count: 0,
            is_finished: false,
        })
    }

    /// Fills `out` with the next segments, each a whole frame with complete checksums, and says
    /// whether there were any: to be called until there are none.
    pub fn fill(&mut self, out: &mut SegmentBuffer) -> bool {
        out.clear();
        while !self.is_finished {
            let len = self.size.min(self.layout.end - self.payload - self.done);
            let Some(segment) = out.push(self.payload + len) else {
                break;
            };
            self.write(segment);
            self.done += len;
            self.count = self.count.wrapping_add(1);
            self.is_finished = self.payload + self.done >= self.layout.end;
        }
        !out.is_empty()
    }

    /// Writes the next segment into memory of its length.
    fn write(&self, segment: &mut [u8]) {
        let layout = &self.layout;
        let from = self.payload + self.done;
        let len = segment.len().saturating_sub(self.payload);
        let pieces = (
            self.frame.get(..self.payload),
            self.frame.get(from..from + len),
        );
        if let (Some(headers), Some(payload)) = pieces {
            put(segment, 0, headers);
            put(segment, self.payload, payload);
        }
        layout.set_ip_length(segment);
        if layout.ip == Ip::V4 {
            let id = get16(self.frame, layout.l3 + 4).unwrap_or(0);
            put16(segment, layout.l3 + 4, id.wrapping_add(self.count));
            fill_ipv4_checksum(segment, layout.l3, layout.l4);
        }
        if layout.protocol == UDP {
            self.finish_udp(segment);
        } else {
            self.finish_tcp(segment, from + len >= layout.end);
        }
        if let Some(outer) = &self.outer {
            finish_outer(outer, self.frame, segment, self.count);
        }
    }

    fn finish_tcp(&self, segment: &mut [u8], is_last: bool) {
        let l4 = self.layout.l4;
        let sequence = get32(self.frame, l4 + TCP_SEQUENCE).unwrap_or(0);
        // The payload is below 64 KiB: IP lengths have 16 bits.
        let done = u32::try_from(self.done).unwrap_or(u32::MAX);
        put(
            segment,
            l4 + TCP_SEQUENCE,
            &sequence.wrapping_add(done).to_be_bytes(),
        );
        let mut flags = get8(self.frame, l4 + TCP_FLAGS).unwrap_or(0);
        if !is_last {
            flags &= !(FIN | PSH);
        }
        if self.done > 0 {
            flags &= !CWR;
        }
        put(segment, l4 + TCP_FLAGS, &[flags]);
        put16(segment, l4 + TCP_CHECKSUM, 0);
        let field = checksum::finish(self.transport_sum(segment));
        put16(segment, l4 + TCP_CHECKSUM, field);
    }

    fn finish_udp(&self, segment: &mut [u8]) {
        let l4 = self.layout.l4;
        let len = u16::try_from(segment.len() - l4).unwrap_or(u16::MAX);
        put16(segment, l4 + UDP_LENGTH, len);
        put16(segment, l4 + UDP_CHECKSUM, 0);
        if self.has_checksum {
            let field = checksum::finish_udp(self.transport_sum(segment));
            put16(segment, l4 + UDP_CHECKSUM, field);
        }
    }

    /// The partial sum of pseudo header and transport segment, the field being zero.
    fn transport_sum(&self, segment: &[u8]) -> u32 {
        let l4 = self.layout.l4;
        let pseudo = self.layout.pseudo_sum(segment, segment.len() - l4);
        pseudo + sum(segment, l4..segment.len())
    }
}
