//! TAP devices: a port whose other end is made by this process.
//!
//! Theory of operation. A TAP is an Ethernet interface whose wire is a file descriptor: what a
//! container sends can be read from it, what is written to it arrives in the container. Made here
//! and moved into the container's namespace it needs no host end, no ring and no rule that hides
//! it from the host's stack. Each read and each write moves one frame, with the same 10-byte
//! virtio-net header a packet socket uses, so GSO frames pass whole.
//!
//! One queue suffices. Any worker may write to the descriptor at any time: `tun_get_user`
//! (drivers/net/tun.c) builds each frame in memory of its own and hands it to the stack, without
//! state shared between writers. Reading belongs to one worker, as on every port. More queues
//! (`IFF_MULTI_QUEUE`) would only spread the *reading* of one port over workers, and with it the
//! port's NAT sessions, which this switch keeps on one.
//!
//! What the container sends waits in the device's own queue (`txqueuelen` frames, 1,000 by
//! default). The driver drops what exceeds it and counts that in the interface's `tx_dropped`,
//! not here; whoever creates the port sets a longer queue.

use super::hot::HotBuffers;
use super::sys::tap as ioctl;
use super::{Losses, PortError, PortIndex};
use crate::frame::{Batch, Frame, Offload, VNET_HEADER_BYTES};
use crate::limits::{FRAME_BYTES_MAX, HEADROOM_BYTES};
use std::ffi::{c_int, c_uint};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

/// Ethernet frames, no extra protocol word, a virtio-net header in front.
const FLAGS: c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Sets of offloads to ask for, best first. USO (Linux 6.2) must be asked for both families at
/// once (`set_offload`, drivers/net/tun.c).
const OFFLOADS: [c_uint; 3] = {
    let tcp = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
    [
        tcp | libc::TUN_F_TSO_ECN | libc::TUN_F_USO4 | libc::TUN_F_USO6,
        tcp | libc::TUN_F_TSO_ECN,
        libc::TUN_F_CSUM,
    ]
};

/// Where the virtio-net header is read to, so that the frame has its headroom.
const READ_AT: usize = HEADROOM_BYTES - VNET_HEADER_BYTES;

/// A TAP attached to this process.
#[derive(Debug)]
pub struct TapDevice {
    device: Arc<File>,
    created: bool,
    segmentation: bool,
}

impl TapDevice {
    /// Attaches to the TAP `name` in the calling thread's network namespace, or creates it there.
    ///
    /// # Errors
    /// [`PortError::Name`], [`PortError::TunDevice`], [`PortError::TapAttach`] (`EBUSY`: another
    /// process has it open; `EINVAL`: the name is taken by another kind of interface) or
    /// [`PortError::TapSetting`].
    pub fn open(name: &str) -> Result<Self, PortError> {
        let port = || name.to_owned();
        let raw_name =
            ioctl::interface_name(name).ok_or_else(|| PortError::Name { port: port() })?;
        let device = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(|source| PortError::TunDevice {
                port: port(),
                source,
            })?;
        let created =
            create_or_attach(&device, raw_name).map_err(|source| PortError::TapAttach {
                port: port(),
                source,
            })?;
        let setting = |setting, since| {
            move |source| PortError::TapSetting {
                port: name.to_owned(),
                setting,
                since,
                source,
            }
        };
        // A persistent device may have been left with the 12-byte header.
        ioctl::set_vnet_header_bytes(&device, 10).map_err(setting("TUNSETVNETHDRSZ", "2.6.33"))?;
        let accepted = set_best_offload(&device).map_err(setting("TUNSETOFFLOAD", "2.6.27"))?;
        Ok(Self {
            device: Arc::new(device),
            created,
            segmentation: accepted & libc::TUN_F_TSO4 != 0,
        })
    }

    /// Whether this call created the device. Such a device vanishes with the last descriptor to
    /// it; one that was there before stays.
    #[must_use]
    pub const fn created(&self) -> bool {
        self.created
    }

    /// Whether its senders hand over TCP uncut (TSO).
    #[must_use]
    pub const fn segmentation(&self) -> bool {
        self.segmentation
    }

    /// Makes the device outlive its descriptors, as `ip tuntap add` does.
    #[cfg(test)]
    pub(super) fn set_persistent(&self, persistent: bool) {
        ioctl::set_persistent(&self.device, persistent).unwrap();
    }

    /// The way for any worker to send to it.
    #[must_use]
    pub fn egress(&self) -> TapEgress {
        TapEgress {
            device: Arc::clone(&self.device),
        }
    }

    /// The receiving half, for one worker; frames bear `ingress`.
    #[must_use]
    pub fn into_rx(self, ingress: PortIndex) -> TapRx {
        TapRx {
            device: self.device,
            ingress,
            losses: Losses::default(),
        }
    }
}

/// Asks for the richest set of offloads the kernel takes and answers it.
fn set_best_offload(device: &File) -> io::Result<c_uint> {
    let mut refused = io::ErrorKind::Unsupported.into();
    for set in OFFLOADS {
        match ioctl::set_offload(device, set) {
            Ok(()) => return Ok(set),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Creates the device, or attaches to it where it exists; says whether it was created.
fn create_or_attach(device: &File, name: [libc::c_char; libc::IFNAMSIZ]) -> io::Result<bool> {
    // IFF_TUN_EXCL makes "create" and "attach" two answers of the kernel instead of a guess.
    match ioctl::attach(device, name, FLAGS | libc::IFF_TUN_EXCL) {
        Ok(()) => return Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
        Err(error) => return Err(error),
    }
    ioctl::attach(device, name, FLAGS).or_else(|error| {
        // A persistent device made with `multi_queue` must be attached to with the same flag.
        if error.raw_os_error() == Some(libc::EINVAL) {
            ioctl::attach(device, name, FLAGS | libc::IFF_MULTI_QUEUE).map_err(|_| error)
        } else {
            Err(error)
        }
    })?;
    Ok(false)
}

/// The sending half of a TAP. Clones write to the same device, from any thread.
#[derive(Debug, Clone)]
pub struct TapEgress {
    device: Arc<File>,
}

impl TapEgress {
    /// Whether the device was deleted. One that was moved into another namespace is not.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        !ioctl::is_attached(&self.device)
    }

    /// Writes one frame with its header; the error number where the driver refuses it.
    pub(super) fn write(&self, sealed: &[u8]) -> Result<(), i32> {
        match (&*self.device).write(sealed) {
            Ok(count) if count == sealed.len() => Ok(()),
            // The driver takes a frame whole or not at all, so this would be a new kind of driver.
            Ok(_) => Err(libc::EMSGSIZE),
            Err(error) => Err(error.raw_os_error().unwrap_or(libc::EIO)),
        }
    }
}

/// The receiving half of a TAP.
#[derive(Debug)]
pub struct TapRx {
    device: Arc<File>,
    ingress: PortIndex,
    losses: Losses,
}

impl TapRx {
    /// Reads up to [`HOT_FRAMES_MAX`](crate::limits::HOT_FRAMES_MAX) waiting frames.
    pub(super) fn fill<'a>(&'a mut self, hot: &'a mut HotBuffers) -> Batch<'a> {
        let mut batch = Batch::new();
        let Self {
            device,
            ingress,
            losses,
        } = self;
        for buffer in hot.buffers() {
            let Some(room) = buffer.get_mut(READ_AT..) else {
                break;
            };
            match (&**device).read(room) {
                // A frame that cannot be used takes up its buffer: so one call is bounded work.
                Ok(count) => batch.extend(read_frame(buffer, count, *ingress, losses)),
                // EAGAIN: none waits. EINTR: the next call reads on. EBADFD: the device is gone,
                // which `is_gone` tells.
                Err(_) => break,
            }
        }
        batch
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }

    pub(super) fn losses(&mut self) -> Losses {
        std::mem::take(&mut self.losses)
    }

    pub(super) fn is_gone(&self) -> bool {
        !ioctl::is_attached(&self.device)
    }
}

/// The frame in a buffer to which `count` bytes were read. One that cannot be used is counted.
fn read_frame<'a>(
    buffer: &'a mut [u8],
    count: usize,
    ingress: PortIndex,
    losses: &mut Losses,
) -> Option<Frame<'a>> {
    let len = count.saturating_sub(VNET_HEADER_BYTES);
    if len > FRAME_BYTES_MAX {
        losses.truncated += 1;
        return None;
    }
    let header = buffer.get(READ_AT..)?.first_chunk()?;
    let Ok(offload) = Offload::from_vnet(*header) else {
        losses.unknown_offload += 1;
        return None;
    };
    Frame::new(buffer, HEADROOM_BYTES, len, offload, ingress)
}
