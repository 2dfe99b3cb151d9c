//! IPv4 fragmentation (RFC 791 3.2).

use arrayvec::ArrayVec;
use nat::wire::Ipv4Header;

use super::layout::{Ip, Layout, fill_ipv4_checksum, get8, get16, put, put16};
use super::{Refusal, SegmentBuffer};
use crate::frame::{Csum, Gso, Offload};

const HEADER_BYTES_MIN: usize = 20;
const HEADER_BYTES_MAX: usize = 60;

/// The least MTU of IPv4 (RFC 791 3.2): the longest header and one unit of a fragment.
const MTU_MIN: usize = 68;

const DONT_FRAGMENT: u16 = 0x4000;
const FLAGS: u16 = 0xe000;
const OFFSET: u16 = 0x1fff;

/// Fragment offsets count units of eight bytes.
const UNIT: usize = 8;

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
/// The flag of options that go into every fragment (RFC 791 3.1).
const COPIED: u8 = 0x80;

/// An IPv4 frame being cut into fragments.
#[derive(Debug)]
pub struct Fragments<'f> {
    frame: &'f [u8],
    layout: Layout,
    /// The IP header of every fragment but the first: the copied options only.
    later_header: ArrayVec<u8, HEADER_BYTES_MAX>,
    /// Flags and offset of the frame itself, which may be a fragment already.
    flags_offset: u16,
    mtu: usize,
    /// Payload bytes cut so far.
    done: usize,
    is_finished: bool,
}

impl<'f> Fragments<'f> {
    /// Plans how to cut `frame` for a wire that takes `mtu` bytes of IP.
    ///
    /// # Errors
    /// The [`Refusal`] where the frame is not IPv4, must not be fragmented (DF), has its checksum
    /// or segmentation still to be done (see [`complete`](super::complete), [`Cut`](super::Cut)),
    /// or has options that contradict themselves, or where `mtu` is below 68.
    pub fn new(frame: &'f [u8], offload: Offload, mtu: usize) -> Result<Self, Refusal> {
        if offload.gso != Gso::None || matches!(offload.csum, Csum::Partial { .. }) {
            return Err(Refusal::Unfinished);
        }
        let layout = Layout::parse(frame)?;
        if layout.ip != Ip::V4 {
            return Err(Refusal::NotIp);
        }
        let flags_offset = get16(frame, layout.l3 + 6).ok_or(Refusal::Malformed)?;
        if flags_offset & DONT_FRAGMENT != 0 {
            return Err(Refusal::DontFragment);
        }
        if mtu < MTU_MIN {
            return Err(Refusal::Mtu);
        }
        let header = frame.get(layout.l3..layout.l4).ok_or(Refusal::Malformed)?;
        let last_unit = (layout.end - layout.l4) / UNIT + usize::from(flags_offset & OFFSET);
        if last_unit > usize::from(OFFSET) {
            return Err(Refusal::Malformed);
        }
        Ok(Self {
            frame,
            layout,
            later_header: later_header(header)?,
            flags_offset,
            mtu,
            done: 0,
            is_finished: false,
        })
    }

    /// Fills `out` with the next fragments, each a whole frame, and says whether there were any:
    /// to be called until there are none. A frame that fits the MTU is one fragment, unchanged.
    pub fn fill(&mut self, out: &mut SegmentBuffer) -> bool {
        out.clear();
        while !self.is_finished {
            let layout = &self.layout;
            let header: &[u8] = if self.done == 0 {
                self.frame.get(layout.l3..layout.l4).unwrap_or_default()
            } else {
                &self.later_header
            };
            let left = layout.end - layout.l4 - self.done;
            let room = self.mtu - header.len();
            let len = if left <= room {
                left
            } else {
                room - room % UNIT
            };
            let Some(fragment) = out.push(layout.l3 + header.len() + len) else {
                break;
            };
            self.write(fragment, header, len, len < left);
            self.done += len;
            self.is_finished = len == left;
        }
        !out.is_empty()
    }

    /// Writes the next fragment, of `len` payload bytes, into memory of its length.
    fn write(&self, fragment: &mut [u8], header: &[u8], len: usize, is_followed: bool) {
        let l3 = self.layout.l3;
        let l4 = l3 + header.len();
        let from = self.layout.l4 + self.done;
        let pieces = (self.frame.get(..l3), self.frame.get(from..from + len));
        if let (Some(ethernet), Some(payload)) = pieces {
            put(fragment, 0, ethernet);
            put(fragment, l3, header);
            put(fragment, l4, payload);
        }
        let total = u16::try_from(header.len() + len).unwrap_or(u16::MAX);
        put16(fragment, l3 + 2, total);
        let units = u16::try_from(self.done / UNIT).unwrap_or(OFFSET);
        let offset = (self.flags_offset & OFFSET) + units;
        let more = if is_followed {
            Ipv4Header::MORE_FRAGMENTS
        } else {
            0
        };
        put16(
            fragment,
            l3 + 6,
            (self.flags_offset & FLAGS) | more | offset,
        );
        fill_ipv4_checksum(fragment, l3, l4);
    }
}

/// The header without the options that only the first fragment carries.
fn later_header(header: &[u8]) -> Result<ArrayVec<u8, HEADER_BYTES_MAX>, Refusal> {
    let mut later = ArrayVec::new();
    let (fixed, mut options) = header
        .split_at_checked(HEADER_BYTES_MIN)
        .ok_or(Refusal::Malformed)?;
    let add = |later: &mut ArrayVec<u8, HEADER_BYTES_MAX>, bytes: &[u8]| {
        later
            .try_extend_from_slice(bytes)
            .map_err(|_| Refusal::Options)
    };
    add(&mut later, fixed)?;
    while let Some(&kind) = options.first() {
        let len = match kind {
            END_OF_OPTIONS => break,
            NO_OPERATION => 1,
            _ => usize::from(get8(options, 1).ok_or(Refusal::Options)?).max(2),
        };
        let (option, rest) = options.split_at_checked(len).ok_or(Refusal::Options)?;
        if kind & COPIED != 0 {
            add(&mut later, option)?;
        }
        options = rest;
    }
    while later.len() % 4 != 0 {
        add(&mut later, &[END_OF_OPTIONS])?;
    }
    // Version 4 and the new length in words; at most 60 bytes, so 15 words.
    let words = u8::try_from(later.len() / 4).unwrap_or(15);
    if let Some(first) = later.first_mut() {
        *first = 0x40 | words;
    }
    Ok(later)
}
