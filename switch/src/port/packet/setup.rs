//! Opening a packet port: options, ring, filter, group.

use super::super::fastpath::FastPath;
use super::super::parallel::in_parallel;
use super::super::steer::Program;
use super::super::sys::cursor::{RingLayout, RxCursor};
use super::super::sys::mmap::Mapping;
use super::super::sys::socket::PacketSocket;
use super::super::{Losses, PortError, PortIndex};
use super::{PacketRx, set_filter};
use crate::frame::VNET_HEADER_BYTES;
use crate::limits::HEADROOM_BYTES;
use std::ffi::c_int;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::sync::Arc;

/// `TPACKET_V2`; V3 hands frames over in blocks and wakes up to milliseconds late.
const TPACKET_V2: c_int = 1;

/// Receive buffer of a hybrid ring, for frames longer than a slot; the kernel doubles it. 16 MiB
/// hold some 230 GSO frames of 64 KiB, which is 10 ms at 12 Gbit/s; 4 MiB hold the whole window of
/// a TCP connection whose receiver has the kernel's default limits (`tcp_rmem`: 6 MiB, half of it
/// window). It is a limit: the kernel takes memory for it only while frames wait.
const QUEUE_BYTES: RangeInclusive<u32> = 2 << 20..=8 << 20;

/// Bytes kept free in a slot in front of the virtio-net header: at least what `HEADROOM_BYTES`
/// asks, which counts the header in.
const RESERVE_BYTES: c_int = 64;
const _: () = assert!(HEADROOM_BYTES <= 64 + VNET_HEADER_BYTES);

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

    /// The ring of a port that is one of `ports`: the largest power of two of slots of which each
    /// may have 512 KiB and its part of 20 MiB that all share. So up to 5 ports have 2,048 slots
    /// each, and from 41 on 256: four batches of 64. Slots are slack for senders that get a
    /// processor's whole time slice: with 128 of them half, with 256 two thirds of an unpaced flood
    /// of small datagrams came through that 2,048 let pass, on two busy processors.
    ///
    /// A ring's pages are allocated when it is made, whether frames come or not; without this, 256
    /// ports would take 1 GiB of a host that may have no more. The same sum bounds ports that are
    /// added one by one, each by the number there is then.
    #[must_use]
    pub fn for_ports(ports: usize) -> Self {
        const SHARED_SLOTS: usize = (20 << 20) / 2048;
        const OWN_SLOTS: usize = (512 << 10) / 2048;
        let share = OWN_SLOTS + SHARED_SLOTS / ports.max(1);
        let slots = match share {
            2048.. => 2048,
            1024.. => 1024,
            512.. => 512,
            _ => 256,
        };
        Self::Hybrid { slots }
    }

    /// Bytes a ring of this geometry takes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Hybrid { slots } => slots as u64 * 2048,
            Self::Full { slots } => (slots / Self::FULL_SLOTS_MULTIPLE) as u64 * (1 << 20),
        }
    }

    /// The ring of full-size slots to take in place of this one: twice its bytes, and 2 MiB at
    /// least, since 30 frames are little slack already.
    fn full(self) -> Self {
        let blocks = u32::try_from(self.bytes() >> 19).unwrap_or(u32::MAX);
        Self::Full {
            slots: blocks.clamp(2, 8) * Self::FULL_SLOTS_MULTIPLE,
        }
    }

    /// Its receive buffer: twice the ring, within [`QUEUE_BYTES`].
    fn queue_bytes(self) -> c_int {
        let twice = u32::try_from(self.bytes().saturating_mul(2)).unwrap_or(u32::MAX);
        let bytes = twice.clamp(*QUEUE_BYTES.start(), *QUEUE_BYTES.end());
        bytes.cast_signed()
    }

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
    pub(super) const fn layout(self) -> Option<RingLayout> {
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
    /// The ring that is asked for; `None` takes `usual` where the process may, otherwise one of
    /// full-size slots, [`RingGeometry::FULL_DEFAULT`] or less.
    pub geometry: Option<RingGeometry>,
    /// The hybrid ring where none is asked for, see [`RingGeometry::for_ports`].
    pub usual: RingGeometry,
    /// Whether to take frames for other stations too. A veth delivers them anyway.
    pub promiscuous: bool,
    /// Which frames to take; `None` takes all.
    pub filter: Option<&'a Program>,
    /// Whether to share the interface's frames with other workers.
    pub fanout: Option<Fanout<'a>>,
    /// Whether the kernel may carry what a worker has decided.
    pub fast_path: Option<&'a Arc<FastPath>>,
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

impl PacketRx {
    /// Opens many ports at a time, see [`in_parallel`]: making a ring waits for the kernel's RCU
    /// grace period (`synchronize_net` in `packet_set_ring`), some 12 ms at 250 Hz. Results come in
    /// the order of the options.
    #[must_use]
    pub fn open_all(options: Vec<PacketOptions<'_>>) -> Vec<Result<Self, PortError>> {
        in_parallel(options, |options| Self::open(&options))
    }

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
        // In front of the guard, which is there by now; and before the filter, which relies on it.
        let leads = !matches!(options.fanout, Some(Fanout::Join(_)));
        let entrance = options
            .fast_path
            .filter(|_| leads)
            .map(|path| path.at(options.ifindex))
            .transpose()
            .map_err(|source| PortError::FastPath { source })?;
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
            floodgate: Arc::default(),
            refused: 0,
            fast_path: options.fast_path.cloned(),
            entrance,
        })
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
    if let Some(asked) = options.geometry {
        asked.layout().ok_or_else(|| asked.error(options.name))?;
    }
    if let Some(full @ RingGeometry::Full { .. }) = options.geometry {
        return Ok(full);
    }
    let port = || options.name.to_owned();
    let hybrid = options.geometry.unwrap_or(options.usual);
    match socket.set_socket(libc::SO_RCVBUFFORCE, hybrid.queue_bytes()) {
        Ok(()) => {}
        // Not allowed (CAP_NET_ADMIN counts in the first user namespace only).
        Err(_) if options.geometry.is_none() => return Ok(options.usual.full()),
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
    Ok(hybrid)
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
    let mapping = Mapping::shared(socket.as_fd(), ring_bytes).map_err(ring_error)?;
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
    let wanted = (options.filter, options.fast_path.map(Arc::as_ref));
    let bind = || {
        socket
            .bind(options.ifindex)
            .map_err(|source| PortError::Bind {
                port: port(),
                source,
            })
    };
    let Some(fanout) = options.fanout else {
        if wanted.0.is_some() || wanted.1.is_some() {
            set_filter(socket, options.name, wanted)?;
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
    set_filter(socket, options.name, wanted)?;
    Ok(Some(FanoutGroup(id)))
}

pub(super) fn program_error(name: &str, program: &'static str, source: io::Error) -> PortError {
    PortError::Program {
        port: name.to_owned(),
        program,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is allowed in all, less what the process itself has.
    const fn goal(ports: u64) -> u64 {
        ((64 - 16) << 20) + ports * (512 << 10)
    }

    #[test]
    fn rings_shrink_so_that_all_together_stay_within_the_goal() {
        let slots = |ports| RingGeometry::for_ports(ports).slots();
        let steps = [1, 5, 6, 13, 14, 40, 41, 96, 256, 1000, 4096].map(slots);
        assert_eq!(
            steps,
            [2048, 2048, 1024, 1024, 512, 512, 256, 256, 256, 256, 256]
        );
        assert_eq!(slots(0), slots(1));
        let mut one_by_one = 0;
        for ports in 1..=4096 {
            let ring = RingGeometry::for_ports(ports);
            assert!(ring.layout().is_some(), "{ports}: {ring:?}");
            let ports = ports as u64;
            one_by_one += ring.bytes();
            assert!(ring.bytes() * ports <= goal(ports), "{ports} at once");
            assert!(one_by_one <= goal(ports), "{ports} one by one");
        }
    }

    #[test]
    fn the_queue_follows_the_ring() {
        let queue = |slots| RingGeometry::Hybrid { slots }.queue_bytes();
        let queues = [128, 512, 1024, 2048, 8192].map(queue);
        assert_eq!(queues, [2, 2, 4, 8, 8].map(|mib| mib << 20));
        let full = |ports| RingGeometry::for_ports(ports).full();
        assert_eq!(full(2), RingGeometry::FULL_DEFAULT);
        assert_eq!(full(256), RingGeometry::Full { slots: 30 });
    }
}
