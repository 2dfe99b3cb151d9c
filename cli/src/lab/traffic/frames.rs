//! Raw Ethernet frames in and out of one interface.
//!
//! # Theory of operation
//!
//! A packet socket sees every frame of its interface in both directions, before the kernel's own
//! stack and whatever filters it has. The interface is found in the list of `getifaddrs(3)`, whose
//! link-level entries are ready-made addresses to bind to.
//!
//! Without the vnet header a frame is seen as it lies in memory: a locally sent one may have an
//! unfinished checksum and up to 64 KiB. The outermost VLAN tag travels beside the frame in the
//! kernel and is not part of the bytes received (see [`super::tagged`]); a tag *sent* as part of
//! the bytes is one.
//!
//! Source: packet(7), `net/packet/af_packet.c`.
#![expect(
    clippy::disallowed_methods,
    reason = "an observer outside the switch: arrival times and time limits are its own"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send,
    setsockopt, socket, sockopt,
};
use socket2::{SockFilter, SockRef};

use crate::lab::error::Result;
use crate::lab::network::Host;

/// Instructions of classic BPF (`include/uapi/linux/bpf_common.h`): load a word at a fixed place,
/// compare with a constant, return a constant.
const LOAD: u16 = 0x20;
const EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Room for the largest GSO frame and its Ethernet header.
const LARGEST_FRAME: usize = 65_536 + 18;
/// Socket buffer, so that an observer does not lose frames while a bulk transfer shares its core.
const BUFFER_BYTES: usize = 32 << 20;

/// Which way a frame went, seen from the host that owns the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It came in from the wire.
    In,
    /// The host sent it.
    Out,
}

/// A frame as an observer saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenFrame {
    /// Time since the observer was opened.
    pub at: Duration,
    /// Which way it went.
    pub direction: Direction,
    /// From the destination address on, without the outermost VLAN tag.
    pub bytes: Vec<u8>,
}

/// A packet socket on one interface of a host.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    interface: usize,
    opened: Instant,
    buffer: Vec<u8>,
}

impl Wire {
    /// Opens the interface `name` of `host`.
    ///
    /// # Errors
    /// `ENODEV` when there is none, `EPERM` without CAP_NET_RAW.
    pub fn open(host: &Host, name: &str) -> Result<Self> {
        let what = || format!("observe {name} in {}", host.label());
        host.attempt(what, || Self::open_here(name))
    }

    /// Opens the interface `name` of the calling thread's namespace.
    ///
    /// # Errors
    /// `ENODEV` when there is none, `EPERM` without CAP_NET_RAW.
    pub fn open_here(name: &str) -> io::Result<Self> {
        let address = link_address(name)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let every = SockProtocol::EthAll;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, every)?;
        // Without CAP_NET_ADMIN in the first user namespace the limit of the system holds.
        if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &BUFFER_BYTES)?;
        }
        bind(socket.as_raw_fd(), &address)?;
        Ok(Self {
            socket,
            interface: address.ifindex(),
            opened: Instant::now(),
            buffer: vec![0; LARGEST_FRAME],
        })
    }

    /// Sees only frames that came with this outermost VLAN tag from now on; what was seen before
    /// is forgotten. This is how the tag, which is not part of the bytes, is observed.
    ///
    /// # Errors
    /// Whatever `setsockopt(2)` says.
    pub fn only_tagged(&mut self, tpid: u16, tci: u16) -> io::Result<()> {
        let ancillary = |field: i32| (libc::SKF_AD_OFF + field).cast_unsigned();
        let load = |field| SockFilter::new(LOAD, 0, 0, ancillary(field));
        // Each comparison that fails jumps to the last instruction.
        let program = [
            load(libc::SKF_AD_VLAN_TAG_PRESENT),
            SockFilter::new(EQUAL, 0, 5, 1),
            load(libc::SKF_AD_VLAN_TAG),
            SockFilter::new(EQUAL, 0, 3, tci.into()),
            load(libc::SKF_AD_VLAN_TPID),
            SockFilter::new(EQUAL, 0, 1, tpid.into()),
            SockFilter::new(RETURN, 0, 0, u32::MAX),
            SockFilter::new(RETURN, 0, 0, 0),
        ];
        SockRef::from(&self.socket).attach_filter(&program)?;
        while self.try_recv()?.is_some() {}
        Ok(())
    }

    /// Sends a frame, Ethernet header included, as if the host's stack had.
    ///
    /// # Errors
    /// `EMSGSIZE` when it is longer than the MTU allows, `ENETDOWN` when the interface is down,
    /// `ENOBUFS` when the queue is full.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty())?;
        if sent == frame.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    /// Waits at most `timeout` for the next frame in either direction.
    ///
    /// # Errors
    /// `ENETDOWN` once when the interface went down, else whatever `poll(2)` says.
    pub fn recv(&mut self, timeout: Duration) -> io::Result<Option<SeenFrame>> {
        let until = Instant::now() + timeout;
        loop {
            if let Some(frame) = self.try_recv()? {
                return Ok(Some(frame));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            wait_readable(&self.socket, left)?;
        }
    }

    /// Waits at most `timeout` for a frame that `wanted` accepts and throws the others away.
    ///
    /// # Errors
    /// As [`Wire::recv`].
    pub fn recv_matching(
        &mut self,
        timeout: Duration,
        mut wanted: impl FnMut(&SeenFrame) -> bool,
    ) -> io::Result<Option<SeenFrame>> {
        let until = Instant::now() + timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.recv(left)? {
                Some(frame) if wanted(&frame) => return Ok(Some(frame)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    fn try_recv(&mut self) -> io::Result<Option<SeenFrame>> {
        loop {
            let (len, from) = match recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut self.buffer)
            {
                Ok(received) => received,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(err) => return Err(err.into()),
            };
            let Some(from) = from else { continue };
            // Between its birth and its binding the socket hears every interface.
            if from.ifindex() != self.interface {
                continue;
            }
            let direction = match from.pkttype() {
                libc::PACKET_OUTGOING => Direction::Out,
                _ => Direction::In,
            };
            return Ok(Some(SeenFrame {
                at: self.opened.elapsed(),
                direction,
                bytes: self.buffer[..len].to_vec(),
            }));
        }
    }
}

pub(crate) fn link_address(name: &str) -> io::Result<LinkAddr> {
    let mut addresses = getifaddrs()?.filter(|entry| entry.interface_name == name);
    let found = addresses.find_map(|entry| entry.address?.as_link_addr().copied());
    found.ok_or_else(|| Errno::ENODEV.into())
}

/// Waits at most `timeout` until there is something to read, or a signal.
pub(super) fn wait_readable(socket: impl AsFd, timeout: Duration) -> io::Result<()> {
    let limit = PollTimeout::try_from(timeout + Duration::from_millis(1));
    let limit = limit.unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, limit) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(err) => Err(err.into()),
    }
}
