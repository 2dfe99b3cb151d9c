//! A network interface as a port, through an `AF_PACKET` ring.
//!
//! Theory of operation. The kernel copies each frame that arrives at the interface into the next
//! free slot of a ring it shares with us (TPACKET_V2), with a virtio-net header in front that tells
//! its offload state. [`Rx::fill`] lends the filled slots as frames, the pipeline edits them in
//! place, [`Tx`] sends them from where they lie, and [`Rx::release`] gives the slots back. There is
//! no copy on our side and no system call to receive.
//!
//! Two geometries. A GSO frame has up to 64 KiB, and slots of that size cost cache and leave little
//! slack. So the default is *hybrid*: slots of 2 KiB, and for a frame that does not fit the kernel
//! also queues the frame itself on the socket (`PACKET_COPY_THRESH`) and marks the slot
//! TP_STATUS_COPY. `fill` then fetches the frame with `recv` into a [`HotBuffers`] buffer. Slot and
//! queue are both filled under one lock (`tpacket_rcv`, net/packet/af_packet.c), so the n-th marked
//! slot belongs to the n-th queued frame. Queued frames count against the socket's receive buffer,
//! which needs CAP_NET_ADMIN to be large enough; without it the ring has *full*-size slots.
//!
//! Should slot and queue ever disagree (length or first bytes differ), `fill` has lost step: it
//! drops marked slots, counted as truncated, until the ring is empty, then empties the queue. From
//! there both start level again.
//!
//! The kernel takes the outer VLAN tag out of the frame and tells it in the slot's header. It is
//! put back in front of the EtherType, by moving the two addresses four bytes down into the
//! headroom, so the bytes of a frame are those of the wire.
//!
//! An interface that goes down reports ENETDOWN once and resumes by itself when it comes up; one
//! that is deleted is gone for good ([`Rx::is_gone`]), even if a new one bears its name.
//!
//! [`Rx::fill`]: super::Rx::fill
//! [`Rx::release`]: super::Rx::release
//! [`Rx::is_gone`]: super::Rx::is_gone
//! [`Tx`]: super::Tx

mod setup;

pub use setup::{Fanout, FanoutGroup, PacketOptions, RingGeometry};

use super::fastpath::{Entrance, FastPath};
use super::floodgate::{Floodgate, FloodgateSettings};
use super::hot::HotBuffers;
use super::steer::Program;
use super::sys::cursor::{RxCursor, Slot};
use super::sys::mmap::Mapping;
use super::sys::socket::PacketSocket;
use super::sys::tpacket::{self, STATUS_COPY, SlotHeader, VlanTag};
use super::{Losses, Noting, PortError, PortIndex, newly};
use crate::frame::{Batch, Csum, Frame, Offload, VNET_HEADER_BYTES};
use crate::limits::{BATCH_FRAMES_MAX, HEADROOM_BYTES};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

/// Bytes of an 802.1Q tag, and of the two addresses in front of it.
const TAG_BYTES: usize = 4;
const ADDRESSES_BYTES: usize = 12;

/// Bytes compared between a marked slot and the frame fetched for it: the headers of TCP over IPv6
/// with options, and some payload.
const STEP_CHECK_BYTES: usize = 128;

/// The receiving half of a packet port.
#[derive(Debug)]
pub struct PacketRx {
    ring: RxCursor<Mapping>,
    socket: PacketSocket,
    ingress: PortIndex,
    geometry: RingGeometry,
    group: Option<FanoutGroup>,
    /// Whether the next marked slot belongs to the next queued frame.
    in_step: bool,
    losses: Losses,
    floodgate: Arc<OnceLock<Floodgate>>,
    /// Of those it has refused, how many are counted.
    refused: u64,
    fast_path: Option<Arc<FastPath>>,
    /// Where the fast path begins; of a group's halves the first has it. It goes after the socket.
    entrance: Option<Entrance>,
}

/// The programs of a [`PacketRx`], which a worker may have by now.
#[derive(Debug)]
pub struct Programs {
    socket: PacketSocket,
    /// Made when it is first needed, and kept: what it has counted is not lost.
    floodgate: Arc<OnceLock<Floodgate>>,
    fast_path: Option<Arc<FastPath>>,
}

impl Programs {
    /// Whether the kernel may carry what a worker has decided ([`FastPath`]).
    #[must_use]
    pub const fn is_fast(&self) -> bool {
        self.fast_path.is_some()
    }

    /// As [`PacketRx::set_filter`].
    ///
    /// # Errors
    /// [`PortError::Program`]: the kernel refuses it; the old filter stays.
    pub fn set_filter(&self, name: &str, filter: Option<&Program>) -> Result<(), PortError> {
        replace_filter(&self.socket, name, (filter, self.fast_path.as_deref()))
    }

    /// As [`Self::set_filter`], with a program that also refuses what is a flood of SYNs, and
    /// counts it ([`Losses::syn_flood`]), until another filter is set. The settings of the first
    /// call hold for those after it.
    ///
    /// # Errors
    /// [`PortError::Floodgate`]: the kernel refuses it; the old filter stays.
    pub fn refuse_floods(
        &self,
        name: &str,
        filter: &Program,
        settings: FloodgateSettings,
    ) -> Result<(), PortError> {
        let attach = || {
            let gate = match self.floodgate.get() {
                Some(gate) => gate,
                None => {
                    let made = Floodgate::new(settings)?;
                    self.floodgate.get_or_init(|| made)
                }
            };
            let program = gate.program(filter, self.fast_path.as_deref())?;
            self.socket.attach_program(program.as_fd())
        };
        attach().map_err(|source| PortError::Floodgate {
            port: name.to_owned(),
            source,
        })
    }

    /// Replaces the program that chooses a member of the fan-out group, for all of its members, in
    /// one step.
    ///
    /// # Errors
    /// [`PortError::Program`]: the kernel refuses it, or the half is in no group; the old program
    /// stays.
    pub fn set_steering(&self, name: &str, steering: &Program) -> Result<(), PortError> {
        let result = self.socket.set_fanout_program(steering.instructions());
        result.map_err(|source| setup::program_error(name, "steering", source))
    }
}

fn replace_filter(
    socket: &PacketSocket,
    name: &str,
    wanted: (Option<&Program>, Option<&FastPath>),
) -> Result<(), PortError> {
    match set_filter(socket, name, wanted) {
        Err(PortError::FastPath { .. }) => set_filter(socket, name, (wanted.0, None)),
        set => set,
    }
}

fn set_filter(
    socket: &PacketSocket,
    name: &str,
    wanted: (Option<&Program>, Option<&FastPath>),
) -> Result<(), PortError> {
    let result = match wanted {
        (filter, Some(fast_path)) => {
            let program = fast_path.filter(filter);
            let set = program.and_then(|program| socket.attach_program(program.as_fd()));
            return set.map_err(|source| PortError::FastPath { source });
        }
        (Some(program), None) => socket.attach_filter(program.instructions()),
        (None, None) => socket.detach_filter(),
    };
    result.map_err(|source| setup::program_error(name, "filter", source))
}

impl PacketRx {
    /// The geometry the ring got.
    #[must_use]
    pub const fn geometry(&self) -> RingGeometry {
        self.geometry
    }

    /// The fan-out group this half is a member of.
    #[must_use]
    pub const fn group(&self) -> Option<FanoutGroup> {
        self.group
    }

    /// Replaces the filter in one step (`None`: take all frames). Frames in the ring stay there.
    ///
    /// Where the kernel does not take it with the fast path in front, since it is too long for
    /// that, nothing that comes in here is carried until another is set.
    ///
    /// # Errors
    /// [`PortError::Program`]: the kernel refuses it; the old filter stays.
    pub fn set_filter(&self, name: &str, filter: Option<&Program>) -> Result<(), PortError> {
        replace_filter(&self.socket, name, (filter, self.fast_path.as_deref()))
    }

    /// A way to change the programs once a worker has this half. The socket, and what it joined,
    /// lives until that is dropped too.
    ///
    /// # Errors
    /// [`PortError::Program`]: no descriptor is left.
    pub fn programs(&self, name: &str) -> Result<Programs, PortError> {
        let socket = self.socket.try_clone();
        Ok(Programs {
            socket: socket.map_err(|source| setup::program_error(name, "filter", source))?,
            floodgate: Arc::clone(&self.floodgate),
            fast_path: self.fast_path.clone(),
        })
    }

    /// Lends up to [`BATCH_FRAMES_MAX`] frames. Frames that cannot be used are counted and passed
    /// over; their slots are lent, and given back, with the others.
    pub(super) fn fill<'a, N: Noting>(
        &'a mut self,
        hot: &'a mut HotBuffers,
        mut arrivals: N,
    ) -> Batch<'a> {
        let mut batch = Batch::new();
        let mut buffers = hot.buffers();
        let Self {
            ring,
            socket,
            ingress,
            losses,
            in_step,
            ..
        } = self;
        if !*in_step && ring.peek().is_none() {
            drain(socket, &mut buffers);
            *in_step = ring.peek().is_none();
        }
        let mut slots = ring.lend();
        for _ in 0..BATCH_FRAMES_MAX {
            let fetchable = buffers.len() > 0;
            let wanted = |status| status & STATUS_COPY == 0 || fetchable;
            let Some(Slot { status, memory }) = slots.next_if(wanted) else {
                break;
            };
            let Some(header) = SlotHeader::read(status, memory) else {
                losses.malformed += 1;
                *in_step &= status & STATUS_COPY == 0;
                continue;
            };
            let arrival = N::ON.then(|| tpacket::arrival(memory)).flatten();
            let (memory, start) = if status & STATUS_COPY == 0 {
                if header.snap_len < header.len {
                    losses.truncated += 1;
                    continue;
                }
                (memory, header.start)
            } else {
                let Some(buffer) = buffers.next() else { break };
                match fetch(socket, buffer, memory, header, in_step) {
                    Fetched::Whole => (buffer, HEADROOM_BYTES),
                    Fetched::Lost => {
                        losses.truncated += 1;
                        continue;
                    }
                }
            };
            if let Some(frame) = read_frame(memory, start, header, *ingress, losses) {
                batch.push(frame);
                arrivals.note(arrival);
            }
        }
        batch
    }

    #[inline]
    pub(super) fn release(&mut self) {
        self.ring.release();
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The kernel's count of drops is read, and thereby cleared, here and nowhere else, so each
    /// drop is counted once. TP_STATUS_LOSING adds nothing: it is set from a drop until this read.
    pub(super) fn losses(&mut self) -> Losses {
        self.losses.ring_full += self.socket.take_drops().map_or(0, u64::from);
        if let Some(gate) = self.floodgate.get() {
            self.losses.syn_flood += newly(&mut self.refused, gate.refused());
        }
        self.losses.fast_path += self.entrance.as_mut().map_or(0, Entrance::take_lost);
        std::mem::take(&mut self.losses)
    }

    #[inline]
    pub(super) fn has_frames(&self) -> bool {
        self.ring.peek().is_some()
    }

    /// Whether the interface was deleted.
    pub(super) fn is_gone(&self) -> bool {
        self.socket.bound_ifindex().is_ok_and(|ifindex| ifindex < 0)
    }
}

/// The frame at `start` in `memory`, behind its virtio-net header, with its tag put back. One that
/// cannot be used is counted.
#[inline]
fn read_frame<'a>(
    memory: &'a mut [u8],
    start: usize,
    header: SlotHeader,
    ingress: PortIndex,
    losses: &mut Losses,
) -> Option<Frame<'a>> {
    let vnet = start
        .checked_sub(VNET_HEADER_BYTES)
        .and_then(|at| memory.get(at..))
        .and_then(<[u8]>::first_chunk);
    let Some(vnet) = vnet else {
        losses.malformed += 1;
        return None;
    };
    let Ok(mut offload) = Offload::from_vnet(*vnet) else {
        losses.unknown_offload += 1;
        return None;
    };
    let (mut start, mut len) = (start, header.len);
    if let Some(tag) = header.tag {
        if !insert_tag(memory, start, tag, &mut offload) {
            losses.malformed += 1;
            return None;
        }
        start -= TAG_BYTES;
        len += TAG_BYTES;
    }
    let frame = Frame::new(memory, start, len, offload, ingress);
    losses.malformed += u64::from(frame.is_none());
    frame
}

/// Moves the two addresses down and writes the tag behind them. False, and no change, where they
/// are not all there or there is no room in front.
fn insert_tag(memory: &mut [u8], start: usize, tag: VlanTag, offload: &mut Offload) -> bool {
    let Some(front) = start.checked_sub(TAG_BYTES) else {
        return false;
    };
    let tag_at = front + ADDRESSES_BYTES;
    if memory.len() < tag_at + TAG_BYTES {
        return false;
    }
    if let Csum::Partial { start, .. } = &mut offload.csum {
        let Some(moved) = start.checked_add(4) else {
            return false;
        };
        *start = moved;
    }
    memory.copy_within(start..start + ADDRESSES_BYTES, front);
    let [tpid_0, tpid_1] = tag.tpid.to_be_bytes();
    let [tci_0, tci_1] = tag.tci.to_be_bytes();
    if let Some(room) = memory.get_mut(tag_at..tag_at + TAG_BYTES) {
        room.copy_from_slice(&[tpid_0, tpid_1, tci_0, tci_1]);
    }
    true
}

/// What became of the rest of a frame whose slot was too small for it.
enum Fetched {
    Whole,
    Lost,
}

/// Fetches the frame that belongs to a marked slot into `buffer`, behind its headroom.
fn fetch(
    socket: &PacketSocket,
    buffer: &mut [u8],
    slot: &[u8],
    header: SlotHeader,
    in_step: &mut bool,
) -> Fetched {
    if !*in_step {
        return Fetched::Lost;
    }
    let Some(room) = buffer.get_mut(HEADROOM_BYTES - VNET_HEADER_BYTES..) else {
        return Fetched::Lost;
    };
    // The first error may be one pending on the socket since its interface went down; no frame has
    // been taken then.
    let received = match socket.receive(room).or_else(|_| socket.receive(room)) {
        Ok(received) => received,
        Err(error) => {
            // None is queued: the copy is lost, but those to come are still in step. After another
            // error it may be there yet, and would keep the socket readable until it is drained.
            *in_step = error.kind() == io::ErrorKind::WouldBlock;
            return Fetched::Lost;
        }
    };
    *in_step = received == header.len + VNET_HEADER_BYTES && same_start(room, slot, header);
    if *in_step && received <= room.len() {
        Fetched::Whole
    } else {
        Fetched::Lost
    }
}

/// Whether a fetched frame begins as its slot does: addresses, IP header and ports tell frames of
/// equal length apart.
fn same_start(fetched: &[u8], slot: &[u8], header: SlotHeader) -> bool {
    let count = header.snap_len.min(STEP_CHECK_BYTES);
    let of_slot = slot.get(header.start..header.start + count);
    let of_fetched = fetched.get(VNET_HEADER_BYTES..VNET_HEADER_BYTES + count);
    of_slot.is_some() && of_slot == of_fetched
}

/// Empties the socket's queue.
fn drain<'a>(socket: &PacketSocket, buffers: &mut impl Iterator<Item = &'a mut [u8]>) {
    if let Some(buffer) = buffers.next() {
        while socket.receive(buffer).is_ok() {}
    }
}

#[cfg(test)]
mod tests;
