//! Sending: from any worker to any port.

use super::PortError;
use super::sim::SimEgress;
use super::sys::send::Messages;
use super::sys::socket::PacketSocket;
use super::tap::TapEgress;
use crate::verdict::DropReason;
use std::ffi::c_int;
use std::os::fd::AsFd;

/// Bytes of frames a worker may have under way on one socket: 8 MiB are 5 ms at 12 Gbit/s. The
/// kernel's default of 208 KiB would be three GSO frames.
const SEND_BUFFER_BYTES: c_int = 8 << 20;

/// How frames reach a port.
#[derive(Debug, Clone)]
pub enum Egress {
    /// An interface that takes a frame at once: a veth, whose send runs through to its peer.
    Packet {
        /// Index of the interface.
        ifindex: u32,
    },
    /// An interface that queues frames: a network card. It has a socket of its own, because the
    /// frames waiting in its queue count against the socket they were sent on, and a slow uplink
    /// must not use up what the containers' frames among themselves need.
    Uplink {
        /// Index of the interface.
        ifindex: u32,
    },
    /// A TAP.
    Tap(TapEgress),
    /// A cable in memory.
    Sim(SimEgress),
    /// None: what is sent is gone. So are the ports of a view in which a frame is only tried.
    Nowhere,
}

/// A frame and the port it is to leave by.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'f> {
    /// The virtio-net header and the frame, from [`Frame::sealed`](crate::frame::Frame::sealed).
    pub sealed: &'f [u8],
    /// Where to.
    pub egress: &'f Egress,
}

/// What became of a frame handed to [`Tx::send`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// The kernel took it.
    Sent,
    /// Longer than the interface's MTU (`EMSGSIZE`).
    TooBig,
    /// The queue of the interface or of its peer is full, or memory is short (`ENOBUFS`, `EAGAIN`).
    Full,
    /// The interface is down (`ENETDOWN`; `EIO` from a TAP).
    Down,
    /// The interface does not exist any more (`ENXIO`, `ENODEV`; `EBADFD` from a TAP).
    Gone,
    /// The kernel refuses the frame's offload state (`EINVAL` for a frame that has some).
    Offload,
    /// Refused for another reason: the error number.
    Refused(i32),
}

impl SendOutcome {
    /// Why the copy was dropped; `None` for one that was sent.
    #[must_use]
    pub const fn drop_reason(self) -> Option<DropReason> {
        match self {
            Self::Sent => None,
            Self::TooBig => Some(DropReason::EgressMtu),
            Self::Full => Some(DropReason::EgressFull),
            Self::Down | Self::Gone => Some(DropReason::EgressDown),
            Self::Offload => Some(DropReason::EgressOffload),
            Self::Refused(_) => Some(DropReason::EgressRefused),
        }
    }

    /// The outcome of a frame that met `errno`.
    fn from_errno(errno: i32, sealed: &[u8]) -> Self {
        match errno {
            libc::EMSGSIZE => Self::TooBig,
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM => Self::Full,
            libc::ENETDOWN | libc::EIO => Self::Down,
            libc::ENXIO | libc::ENODEV | libc::EBADFD => Self::Gone,
            libc::EINVAL if has_offload(sealed) => Self::Offload,
            errno => Self::Refused(errno),
        }
    }
}

/// Whether the virtio-net header asks the kernel for anything: flags and segmentation type are its
/// first two bytes.
fn has_offload(sealed: &[u8]) -> bool {
    sealed.iter().take(2).any(|&byte| byte != 0)
}

/// The sending half of a worker: reaches every port, is shared with nobody.
#[derive(Debug)]
pub struct Tx {
    sockets: Option<Sockets>,
}

struct Sockets {
    direct: PacketSocket,
    queued: PacketSocket,
    messages: Messages,
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sockets")
            .field("direct", &self.direct)
            .field("queued", &self.queued)
            .finish_non_exhaustive()
    }
}

/// Which of the two sockets a frame to a packet port takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    Direct,
    Queued,
}

impl Egress {
    /// The socket and the interface by which frames reach a packet port.
    #[inline]
    const fn route(&self) -> Option<(Lane, u32)> {
        match self {
            Self::Packet { ifindex } => Some((Lane::Direct, *ifindex)),
            Self::Uplink { ifindex } => Some((Lane::Queued, *ifindex)),
            Self::Tap(_) | Self::Sim(_) | Self::Nowhere => None,
        }
    }

    #[inline]
    fn lane(&self) -> Option<Lane> {
        self.route().map(|(lane, _)| lane)
    }
}

impl Tx {
    /// Opens the worker's sockets in the calling thread's network namespace. They are bound to no
    /// interface and no protocol, so they receive nothing and reach every interface there.
    ///
    /// # Errors
    /// [`PortError::Socket`] without `CAP_NET_RAW`; [`PortError::Option`] before Linux 4.6.
    pub fn open() -> Result<Self, PortError> {
        let sockets = Sockets {
            direct: open_socket()?,
            queued: open_socket()?,
            messages: Messages::new(),
        };
        Ok(Self {
            sockets: Some(sockets),
        })
    }

    /// A sending half for the simulator: frames to a packet port give [`SendOutcome::Down`].
    #[must_use]
    pub const fn without_sockets() -> Self {
        Self { sockets: None }
    }

    /// Sends `frames` in order and appends one outcome for each, in the same order. Never blocks;
    /// the bytes have been copied when it returns. Consecutive frames to packet ports go out in
    /// one `sendmmsg` (up to 128), and one that fails does not keep back the others.
    pub fn send(&mut self, frames: &[Outgoing<'_>], outcomes: &mut Vec<SendOutcome>) {
        let mut rest = frames;
        while let Some((first, others)) = rest.split_first() {
            let alone = match first.egress {
                Egress::Packet { .. } | Egress::Uplink { .. } => None,
                Egress::Tap(tap) => Some(outcome(tap.write(first.sealed), first.sealed)),
                Egress::Sim(cable) => Some(cable.send(first.sealed)),
                Egress::Nowhere => Some(SendOutcome::Sent),
            };
            if let Some(outcome) = alone {
                outcomes.push(outcome);
                rest = others;
                continue;
            }
            let lane = first.egress.lane();
            let run = rest
                .iter()
                .take_while(|frame| frame.egress.lane() == lane)
                .count();
            let (now, later) = rest.split_at(run);
            rest = later;
            let Some(sockets) = &mut self.sockets else {
                outcomes.extend(now.iter().map(|_| SendOutcome::Down));
                continue;
            };
            let queued = lane == Some(Lane::Queued);
            let socket = if queued {
                &sockets.queued
            } else {
                &sockets.direct
            };
            sockets.messages.send(
                socket.as_fd(),
                now,
                |frame| {
                    (
                        frame.sealed,
                        frame.egress.route().map_or(0, |(_, ifindex)| ifindex),
                    )
                },
                |frame, result| outcomes.push(outcome(result, frame.sealed)),
            );
        }
    }
}

#[inline]
fn outcome(result: Result<(), i32>, sealed: &[u8]) -> SendOutcome {
    match result {
        Ok(()) => SendOutcome::Sent,
        Err(errno) => SendOutcome::from_errno(errno, sealed),
    }
}

fn open_socket() -> Result<PacketSocket, PortError> {
    let port = || "tx".to_owned();
    let socket = PacketSocket::open().map_err(|source| PortError::Socket {
        port: port(),
        source,
    })?;
    socket
        .set_packet(libc::PACKET_VNET_HDR, 1)
        .map_err(|source| PortError::Option {
            port: port(),
            option: "PACKET_VNET_HDR",
            since: "4.6",
            source,
        })?;
    // Beyond wmem_max only with CAP_NET_ADMIN; without it the kernel gives what it may.
    if socket
        .set_socket(libc::SO_SNDBUFFORCE, SEND_BUFFER_BYTES)
        .is_err()
    {
        socket
            .set_socket(libc::SO_SNDBUF, SEND_BUFFER_BYTES)
            .map_err(|source| PortError::Option {
                port: port(),
                option: "SO_SNDBUF",
                since: "2.2",
                source,
            })?;
    }
    Ok(socket)
}
