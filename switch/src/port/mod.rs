//! Ports: where frames come in and go out.
//!
//! A port has one receiving half ([`Rx`]), owned by one worker, and an [`Egress`], by which any
//! worker reaches it through its own [`Tx`]. So forwarding needs no lock: nobody shares a ring.
//! Kinds are enum variants matched once per batch; there is no trait object on a frame's path.
//!
//! ```text
//! let batch = rx.fill(&mut hot);       frames lent by the ring: the batch borrows rx and hot
//! ...                                  edit, decide, seal
//! tx.send(&outgoing, &mut outcomes);   the kernel has copied every frame when this returns
//! drop(batch);                         borrows end
//! rx.release();                        slots back to the kernel
//! ```

pub mod ebpf;
mod error;
pub mod fastpath;
mod floodgate;
mod hot;
pub mod packet;
mod parallel;
pub mod sim;
pub mod steer;
pub mod sys;
pub mod tap;
mod tx;

pub use error::PortError;
pub use fastpath::FastPath;
pub use floodgate::FloodgateSettings;
pub use hot::HotBuffers;
pub use packet::{Fanout, FanoutGroup, PacketOptions, PacketRx, Programs, RingGeometry};
pub use parallel::{close_all, in_parallel};
#[doc(hidden)]
pub use sys::affinity::defer_current_thread;
pub use sys::cursor::rehearsal::Rehearsal;
pub use sys::poll::{Readiness, Waiter};
pub use sys::prefetch::prefetch;
pub use sys::sentry::Sentry;
pub use sys::wake::Wake;
pub use tap::{TapDevice, TapEgress, TapRx};
pub use tx::{Egress, Outgoing, SendOutcome, Tx};

use crate::frame::Batch;
use crate::latency::Arrivals;
use nat::Nanos;
use std::fmt;
use std::os::fd::BorrowedFd;

/// The place of a port in its switch; stable while the port exists, reused after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PortIndex(pub u16);

impl PortIndex {
    /// The index for a table lookup.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The ingress of a frame that came from no port.
pub(crate) const NOWHERE: PortIndex = PortIndex(u16::MAX);

impl fmt::Display for PortIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.0)
    }
}

/// Frames that a port lost before anybody saw them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Losses {
    /// The ring was full, or the kernel could not express the frame's offload in a virtio-net
    /// header (it counts both in `tp_drops`).
    pub ring_full: u64,
    /// The ring or the buffer held less of the frame than was sent.
    pub truncated: u64,
    /// The frame came with an offload this switch cannot carry on.
    pub unknown_offload: u64,
    /// The kernel's description of the frame contradicts itself.
    pub malformed: u64,
    /// A flood's SYNs, which [`Programs::refuse_floods`] has refused.
    pub syn_flood: u64,
    /// Their [shortcut](fastpath) was taken back while they were on it.
    pub fast_path: u64,
}

impl Losses {
    /// True where nothing was lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a count of the kernel's, which only grows, has grown by since it was `counted`.
fn newly(counted: &mut u64, count: u64) -> u64 {
    let count = count.max(*counted);
    count - std::mem::replace(counted, count)
}

/// Whether it is noted when frames came: `()` says no, and costs nothing.
trait Noting {
    /// Whether it is.
    const ON: bool;
    /// Takes down when the frame came that was pushed last.
    fn note(&mut self, arrival: Option<Nanos>);
}

impl Noting for () {
    const ON: bool = false;
    #[inline]
    fn note(&mut self, _: Option<Nanos>) {}
}

impl Noting for &mut Arrivals {
    const ON: bool = true;
    fn note(&mut self, arrival: Option<Nanos>) {
        // It has as many places as a batch.
        let _ = self.try_push(arrival);
    }
}

/// The receiving half of a port.
#[derive(Debug)]
pub enum Rx {
    /// An interface read through an `AF_PACKET` ring.
    Packet(PacketRx),
    /// A TAP device made or attached by this process.
    Tap(TapRx),
    /// A cable in memory.
    Sim(sim::SimRx),
}

impl Rx {
    /// Lends up to [`BATCH_FRAMES_MAX`](crate::limits::BATCH_FRAMES_MAX) waiting frames, oldest
    /// first; an empty batch where none wait. Never blocks.
    #[inline]
    pub fn fill<'a>(&'a mut self, hot: &'a mut HotBuffers) -> Batch<'a> {
        match self {
            Self::Packet(rx) => rx.fill(hot, ()),
            Self::Tap(rx) => rx.fill(hot),
            Self::Sim(rx) => rx.fill(()),
        }
    }

    /// As [`fill`](Self::fill), and notes when each frame came into its ring: in `arrivals`, which
    /// is empty before, and after where the port does not know.
    pub fn fill_noting<'a>(
        &'a mut self,
        hot: &'a mut HotBuffers,
        arrivals: &mut Arrivals,
    ) -> Batch<'a> {
        match self {
            Self::Packet(rx) => rx.fill(hot, arrivals),
            Self::Tap(rx) => rx.fill(hot),
            Self::Sim(rx) => rx.fill(arrivals),
        }
    }

    /// Gives the slots of all lent frames back to the kernel. Call it after each batch.
    #[inline]
    pub fn release(&mut self) {
        match self {
            Self::Packet(rx) => rx.release(),
            Self::Tap(_) | Self::Sim(_) => {}
        }
    }

    /// The descriptor that becomes readable when a frame arrives; `None` for a simulated port.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Packet(rx) => Some(rx.fd()),
            Self::Tap(rx) => Some(rx.fd()),
            Self::Sim(_) => None,
        }
    }

    /// What was lost since the last call. One system call on a packet port.
    pub fn losses(&mut self) -> Losses {
        match self {
            Self::Packet(rx) => rx.losses(),
            Self::Tap(rx) => rx.losses(),
            Self::Sim(_) => Losses::default(),
        }
    }

    /// Whether a frame waits, without a system call. A TAP cannot be peeked at and says false: poll
    /// its descriptor.
    #[must_use]
    #[inline]
    pub fn has_frames(&self) -> bool {
        match self {
            Self::Packet(rx) => rx.has_frames(),
            Self::Tap(_) => false,
            Self::Sim(rx) => rx.has_frames(),
        }
    }

    /// Whether the interface was deleted: this half will never see a frame again and the port must
    /// be opened anew. An interface that is only down comes back by itself. One system call.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        match self {
            Self::Packet(rx) => rx.is_gone(),
            Self::Tap(rx) => rx.is_gone(),
            Self::Sim(_) => false,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
