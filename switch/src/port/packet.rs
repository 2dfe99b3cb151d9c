//! A network interface as a port, through an `AF_PACKET` ring.
//!
//! Theory of operation. The kernel copies each frame that arrives at the interface into the next
//! free slot of a ring it shares with us (TPACKET_V2), with a virtio-net header in front that tells
//! its offload state. [`PacketRx::fill`] lends the filled slots as frames, the pipeline edits them
//! in place, [`Tx`](super::Tx) sends them from where they lie, and [`PacketRx::release`] gives the
//! slots back. There is no copy on our side and no system call to receive.
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
//! that is deleted is gone for good ([`PacketRx::is_gone`]), even if a new one bears its name.

use super::hot::HotBuffers;
use super::steer::Program;
use super::sys::cursor::{RingLayout, RxCursor, Slot};
use super::sys::mmap::Mapping;
use super::sys::socket::PacketSocket;
use super::sys::tpacket::{STATUS_COPY, SlotHeader, VlanTag};
use super::{Losses, PortError, PortIndex};
use crate::frame::{Batch, Csum, Frame, Offload, VNET_HEADER_BYTES};
use crate::limits::{BATCH_FRAMES_MAX, HEADROOM_BYTES};
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// `TPACKET_V2`; V3 hands frames over in blocks and wakes up to milliseconds late.
const TPACKET_V2: c_int = 1;

/// Receive buffer of a hybrid ring, for frames longer than a slot; the kernel doubles it. 16 MiB
/// hold some 230 GSO frames of 64 KiB, which is 10 ms at 12 Gbit/s.
const QUEUE_BYTES: c_int = 8 << 20;

/// Bytes kept free in a slot in front of the virtio-net header; what `HEADROOM_BYTES` asks and more,
/// since that counts the header in.
const RESERVE_BYTES: c_int = 64;
const _: () = assert!(HEADROOM_BYTES <= 64 + VNET_HEADER_BYTES);

/// Bytes of an 802.1Q tag, and of the two addresses in front of it.
const TAG_BYTES: usize = 4;
const ADDRESSES_BYTES: usize = 12;

/// Bytes compared between a marked slot and the frame fetched for it: the headers of TCP over IPv6
/// with options, and some payload.
const STEP_CHECK_BYTES: usize = 128;

/// How a ring is cut into slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingGeometry {
    /// Slots of 2,048 bytes; longer frames are fetched by `recv`. Needs CAP_NET_ADMIN.
    Hybrid {
        /// A multiple of [`HYBRID_SLOTS_MULTIPLE`](Self::HYBRID_SLOTS_MULTIPLE).
        slots: u32,
    },
    /// Slots of 69,904 bytes, which hold any frame.
    Full {
        /// A multiple of [`FULL_SLOTS_MULTIPLE`](Self::FULL_SLOTS_MULTIPLE).
        slots: u32,
    },
}

impl RingGeometry {
    /// Slots in a block of 64 KiB.
    pub const HYBRID_SLOTS_MULTIPLE: u32 = 32;
    /// Slots in a block of 1 MiB, which 15 x 69,904 bytes fill but for 16.
    pub const FULL_SLOTS_MULTIPLE: u32 = 15;
    /// 2,048 slots of 2 KiB: 4 MiB, 2 ms of frames at 1 Mpps.
    pub const HYBRID_DEFAULT: Self = Self::Hybrid { slots: 2048 };
    /// 120 slots of 68 KiB: 8 MiB.
    pub const FULL_DEFAULT: Self = Self::Full { slots: 120 };
    /// Blocks of a ring: 4,096 are 256 MiB or 4 GiB, more than any port is worth.
    const BLOCKS_MAX: u32 = 4096;

    /// How many slots it has.
    #[must_use]
    pub const fn slots(self) -> u32 {
        match self {
            Self::Hybrid { slots } | Self::Full { slots } => slots,
        }
    }

    const fn multiple(self) -> u32 {
        match self {
            Self::Hybrid { .. } => Self::HYBRID_SLOTS_MULTIPLE,
            Self::Full { .. } => Self::FULL_SLOTS_MULTIPLE,
        }
    }

    /// The layout in memory; `None` for a number of slots it cannot have.
    ///
    /// The kernel allocates each block in one piece of a power of two of pages, so anything else
    /// would waste the rest.
    const fn layout(self) -> Option<RingLayout> {
        let slots_per_block = self.multiple();
        let block_count = self.slots() / slots_per_block;
        let whole = self.slots().is_multiple_of(slots_per_block);
        if !whole || block_count == 0 || block_count > Self::BLOCKS_MAX {
            return None;
        }
        let (slot_bytes, block_bytes) = match self {
            Self::Hybrid { .. } => (2048, 64 << 10),
            Self::Full { .. } => (69_904, 1 << 20),
        };
        Some(RingLayout {
            slot_bytes,
            slots_per_block,
            block_bytes,
            block_count,
        })
    }

    fn error(self, name: &str) -> PortError {
        PortError::Geometry {
            port: name.to_owned(),
            slots: self.slots(),
            multiple: self.multiple(),
            max: self.multiple() * Self::BLOCKS_MAX,
        }
    }
}

/// How to open a packet port.
#[derive(Debug, Clone)]
pub struct PacketOptions<'a> {
    /// The interface's name, for messages.
    pub name: &'a str,
    /// The interface's index in the calling thread's network namespace.
    pub ifindex: u32,
    /// The port its frames come in on.
    pub ingress: PortIndex,
    /// The ring; `None` takes [`RingGeometry::HYBRID_DEFAULT`] where the process may, otherwise
    /// [`RingGeometry::FULL_DEFAULT`].
    pub geometry: Option<RingGeometry>,
    /// Whether to take frames for other stations too. A veth delivers them anyway.
    pub promiscuous: bool,
    /// Which frames to take; `None` takes all.
    pub filter: Option<&'a Program>,
    /// Whether to share the interface's frames with other workers.
    pub fanout: Option<Fanout<'a>>,
}

/// A place in a group of sockets among which an interface's frames are shared out.
#[derive(Debug, Clone, Copy)]
pub enum Fanout<'a> {
    /// The first member, which makes the group. The program's result, modulo the number of members,
    /// is the member that gets the frame, counted in the order of joining.
    First(&'a Program),
    /// A further member.
    Join(FanoutGroup),
}

/// A fan-out group, for its further members to join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FanoutGroup(u16);

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
}

impl PacketRx {
    /// Opens the port: from the return on, every frame that arrives is in the ring or counted.
    ///
    /// # Errors
    /// A [`PortError`] that names the failed step and its fix.
    pub fn open(options: &PacketOptions<'_>) -> Result<Self, PortError> {
        let port = || options.name.to_owned();
        let socket = PacketSocket::open().map_err(|source| PortError::Socket {
            port: port(),
            source,
        })?;
        set_options(&socket, options.name)?;
        let geometry = choose_geometry(&socket, options)?;
        let ring = open_ring(&socket, geometry, options.name)?;
        let group = join(&socket, options)?;
        if options.promiscuous {
            socket
                .set_promiscuous(options.ifindex)
                .map_err(|source| PortError::Promiscuous {
                    port: port(),
                    source,
                })?;
        }
        Ok(Self {
            ring,
            socket,
            ingress: options.ingress,
            geometry,
            group,
            in_step: true,
            losses: Losses::default(),
        })
    }

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
    /// # Errors
    /// [`PortError::Program`]: the kernel refuses it; the old filter stays.
    pub fn set_filter(&self, name: &str, filter: Option<&Program>) -> Result<(), PortError> {
        let result = match filter {
            Some(program) => self.socket.attach_filter(program.instructions()),
            None => self.socket.detach_filter(),
        };
        result.map_err(|source| program_error(name, "filter", source))
    }

    /// Lends up to [`BATCH_FRAMES_MAX`] frames. Frames that cannot be used are counted and passed
    /// over; their slots are lent, and given back, with the others.
    pub(super) fn fill<'a>(&'a mut self, hot: &'a mut HotBuffers) -> Batch<'a> {
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
            batch.extend(read_frame(memory, start, header, *ingress, losses));
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
    // been taken then. A second one means that none is queued.
    let received = socket.receive(room).or_else(|_| socket.receive(room));
    let Ok(received) = received else {
        return Fetched::Lost;
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

fn set_options(socket: &PacketSocket, name: &str) -> Result<(), PortError> {
    // The virtio-net header and the headroom shape the slots, so they come before the ring.
    let options = [
        (libc::PACKET_VERSION, TPACKET_V2, "PACKET_VERSION", "2.6.27"),
        (libc::PACKET_VNET_HDR, 1, "PACKET_VNET_HDR", "4.6"),
        (
            libc::PACKET_RESERVE,
            RESERVE_BYTES,
            "PACKET_RESERVE",
            "2.6.27",
        ),
        (
            libc::PACKET_IGNORE_OUTGOING,
            1,
            "PACKET_IGNORE_OUTGOING",
            "4.20",
        ),
    ];
    for (option, value, text, since) in options {
        socket
            .set_packet(option, value)
            .map_err(|source| PortError::Option {
                port: name.to_owned(),
                option: text,
                since,
                source,
            })?;
    }
    Ok(())
}

/// Settles the geometry, and the receive buffer on which a hybrid ring depends.
fn choose_geometry(
    socket: &PacketSocket,
    options: &PacketOptions<'_>,
) -> Result<RingGeometry, PortError> {
    if let Some(full @ RingGeometry::Full { .. }) = options.geometry {
        return Ok(full);
    }
    let port = || options.name.to_owned();
    match socket.set_socket(libc::SO_RCVBUFFORCE, QUEUE_BYTES) {
        Ok(()) => {}
        // Not allowed (CAP_NET_ADMIN counts in the first user namespace only).
        Err(_) if options.geometry.is_none() => return Ok(RingGeometry::FULL_DEFAULT),
        Err(source) => {
            return Err(PortError::Queue {
                port: port(),
                source,
            });
        }
    }
    // Any value but 0 makes the kernel queue the frames that exceed their slot.
    socket
        .set_packet(libc::PACKET_COPY_THRESH, 1)
        .map_err(|source| PortError::Option {
            port: port(),
            option: "PACKET_COPY_THRESH",
            since: "2.2",
            source,
        })?;
    Ok(options.geometry.unwrap_or(RingGeometry::HYBRID_DEFAULT))
}

fn open_ring(
    socket: &PacketSocket,
    geometry: RingGeometry,
    name: &str,
) -> Result<RxCursor<Mapping>, PortError> {
    let layout = geometry.layout().ok_or_else(|| geometry.error(name))?;
    let ring_error = |source| PortError::Ring {
        port: name.to_owned(),
        slots: geometry.slots(),
        slot_bytes: layout.slot_bytes,
        source,
    };
    socket.make_rx_ring(layout).map_err(ring_error)?;
    let ring_bytes = layout.ring_bytes().ok_or_else(|| geometry.error(name))?;
    let mapping = Mapping::of_ring(socket.as_fd(), ring_bytes).map_err(ring_error)?;
    RxCursor::new(mapping, layout).ok_or_else(|| geometry.error(name))
}

/// Starts the flow of frames: filter, interface and group.
///
/// A socket can join a group only once it is bound, and between the two it would get frames the
/// group's other members get as well. So it is bound with a filter that drops all.
fn join(
    socket: &PacketSocket,
    options: &PacketOptions<'_>,
) -> Result<Option<FanoutGroup>, PortError> {
    let port = || options.name.to_owned();
    let filter_error = |source| program_error(options.name, "filter", source);
    let bind = || {
        socket
            .bind(options.ifindex)
            .map_err(|source| PortError::Bind {
                port: port(),
                source,
            })
    };
    let Some(fanout) = options.fanout else {
        if let Some(program) = options.filter {
            socket
                .attach_filter(program.instructions())
                .map_err(filter_error)?;
        }
        bind()?;
        return Ok(None);
    };
    socket
        .attach_filter(Program::drop_all().instructions())
        .map_err(filter_error)?;
    bind()?;
    let fanout_error = |source| PortError::Fanout {
        port: port(),
        source,
    };
    let (id, unique) = match fanout {
        Fanout::First(_) => (0, libc::PACKET_FANOUT_FLAG_UNIQUEID),
        Fanout::Join(FanoutGroup(id)) => (id, 0),
    };
    let kind = libc::PACKET_FANOUT_CBPF | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING | unique;
    // All bits of a kind and its flags are below 0x10000.
    socket
        .join_fanout(id, (kind & 0xffff) as u16)
        .map_err(fanout_error)?;
    if let Fanout::First(program) = fanout {
        socket
            .set_fanout_program(program.instructions())
            .map_err(|source| program_error(options.name, "steering", source))?;
    }
    let id = socket.fanout_id().map_err(fanout_error)?;
    match options.filter {
        Some(program) => socket
            .attach_filter(program.instructions())
            .map_err(filter_error)?,
        None => socket.detach_filter().map_err(filter_error)?,
    }
    Ok(Some(FanoutGroup(id)))
}

fn program_error(name: &str, program: &'static str, source: io::Error) -> PortError {
    PortError::Program {
        port: name.to_owned(),
        program,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEADER: SlotHeader = SlotHeader {
        len: 60,
        snap_len: 60,
        start: 100,
        tag: None,
    };
    const TAG: VlanTag = VlanTag {
        tpid: 0x88a8,
        tci: 0x2005,
    };

    /// Reads a frame at 100 in a slot of 200 bytes whose virtio-net header is `vnet`.
    fn read(vnet: [u8; 10], header: SlotHeader) -> (Option<Vec<u8>>, Losses) {
        let mut memory: Vec<u8> = (0..200).collect();
        memory[90..100].copy_from_slice(&vnet);
        let mut losses = Losses::default();
        let frame = read_frame(&mut memory, header.start, header, PortIndex(3), &mut losses);
        (frame.map(|frame| frame.bytes().to_vec()), losses)
    }

    #[test]
    fn a_frame_is_lent_as_the_kernel_describes_it() {
        let (bytes, losses) = read([0; 10], HEADER);
        assert_eq!(bytes, Some((100..160).collect()));
        assert!(losses.is_empty());
    }

    #[test]
    fn a_tag_goes_between_addresses_and_type() {
        let (bytes, losses) = read(
            [0; 10],
            SlotHeader {
                tag: Some(TAG),
                ..HEADER
            },
        );
        let expected = (100..112).chain([0x88, 0xa8, 0x20, 5]).chain(112..160);
        assert_eq!(bytes, Some(expected.collect()));
        assert!(losses.is_empty());
    }

    #[test]
    fn each_unusable_frame_is_counted_once_for_what_it_is() {
        let malformed = Losses {
            malformed: 1,
            ..Losses::default()
        };
        let unknown = Losses {
            unknown_offload: 1,
            ..Losses::default()
        };
        let ufo = [1, 3, 0, 0, 200, 5, 34, 0, 6, 0];
        assert_eq!(read(ufo, HEADER), (None, unknown));
        assert_eq!(
            read([0; 10], SlotHeader { len: 101, ..HEADER }),
            (None, malformed)
        );
        assert_eq!(
            read([0; 10], SlotHeader { start: 9, ..HEADER }),
            (None, malformed)
        );
        assert_eq!(
            read(
                [0; 10],
                SlotHeader {
                    start: 500,
                    ..HEADER
                }
            ),
            (None, malformed)
        );
        // The checksum would start beyond what the field can say.
        let far = [1, 0, 0, 0, 0, 0, 0xfd, 0xff, 6, 0];
        assert_eq!(
            read(
                far,
                SlotHeader {
                    tag: Some(TAG),
                    ..HEADER
                }
            ),
            (None, malformed)
        );
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_says_is_a_frame_within_the_slot_or_a_count(
            vnet: [u8; 10], len in 0usize..300, start in 0usize..300, tagged: bool,
        ) {
            let tag = tagged.then_some(TAG);
            let (bytes, losses) = read(vnet, SlotHeader { len, snap_len: len, start, tag });
            let counted = losses.malformed + losses.unknown_offload;
            prop_assert_eq!(counted, u64::from(bytes.is_none()));
            let grown = if tagged { 4 } else { 0 };
            prop_assert!(bytes.is_none_or(|bytes| bytes.len() == len + grown));
        }
    }

    #[test]
    fn geometries_fill_whole_blocks() {
        for geometry in [RingGeometry::HYBRID_DEFAULT, RingGeometry::FULL_DEFAULT] {
            let layout = geometry.layout().unwrap();
            assert_eq!(layout.slot_count(), Some(geometry.slots()));
            assert!(layout.block_bytes.is_power_of_two());
        }
        // The longest frame fits a full-size slot, behind 80 bytes of header, reserve and padding.
        let RingLayout { slot_bytes, .. } = RingGeometry::FULL_DEFAULT.layout().unwrap();
        assert!(slot_bytes as usize >= 80 + 64 + 16 + 10 + crate::limits::FRAME_BYTES_MAX);
        for slots in [0, 1, 31, 33, u32::MAX] {
            assert_eq!(RingGeometry::Hybrid { slots }.layout(), None, "{slots}");
        }
    }
}
