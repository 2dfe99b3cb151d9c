//! An observer that sees VLAN tags as they were on the wire.
//!
//! # Theory of operation
//!
//! The kernel takes the outermost tag out of every frame it receives and carries it beside the
//! bytes, so no packet socket can tell what was sent. A TAP puts it back in band when a frame is
//! read from its descriptor. So the interface is made a port of a bridge whose other port is a
//! TAP, and the frames are read there.
//!
//! A bridge keeps frames for the interface's own Ethernet address to itself, so the frames to be
//! seen must be for another one, or for everybody.
//!
//! Source: `skb_vlan_untag` in `net/core/dev.c`, `tun_put_user` in `drivers/net/tun.c`.
#![expect(
    clippy::disallowed_methods,
    reason = "an observer outside the switch: its time limits are its own"
)]

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::read;
use switch::port::{PortIndex, Rx, TapDevice};

use super::frames::wait_readable;
use crate::lab::error::{Result, While};
use crate::lab::network::Host;

const TAP: &str = "tagtap";
const BRIDGE: &str = "tagbridge";
/// The virtio-net header before each frame that a [`TapDevice`] asks for, bytes.
const VNET_HEADER_LEN: usize = 10;

/// An interface of a host that is given up to observation: the host itself no longer uses it.
#[derive(Debug)]
pub struct TaggedWire {
    tap: Rx,
    buffer: Vec<u8>,
}

impl TaggedWire {
    /// Starts to observe what arrives at `interface` of `host`; once per host.
    ///
    /// # Errors
    /// When there is no `/dev/net/tun`, `ENODEV` when there is no such interface.
    pub fn open(host: &Host, interface: &str) -> Result<Self> {
        let what = || format!("observe the tags at {interface} in {}", host.label());
        let opened = host.run(|| TapDevice::open(TAP))?;
        let device = opened.map_err(io::Error::other).while_doing(what)?;
        host.set_up(TAP, true)?;
        host.bridge(BRIDGE, &[interface, TAP])?;
        host.wait_running(TAP)?;
        Ok(Self {
            tap: Rx::Tap(device.into_rx(PortIndex(0))),
            buffer: vec![0; 65_536 + 64],
        })
    }

    /// Waits at most `timeout` for a frame that `wanted` accepts and throws the others away.
    ///
    /// # Errors
    /// Whatever `read(2)` and `poll(2)` say.
    pub fn recv_matching(
        &mut self,
        timeout: Duration,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> io::Result<Option<Vec<u8>>> {
        let until = Instant::now() + timeout;
        loop {
            match read(fd_of(&self.tap)?, &mut self.buffer) {
                Ok(len) => {
                    let frame = self.buffer.get(VNET_HEADER_LEN..len).unwrap_or(&[]);
                    if wanted(frame) {
                        return Ok(Some(frame.to_vec()));
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    wait_readable(fd_of(&self.tap)?, left)?;
                }
                Err(err) => return Err(err.into()),
            }
        }
    }
}

fn fd_of(tap: &Rx) -> io::Result<BorrowedFd<'_>> {
    tap.fd().ok_or_else(|| io::ErrorKind::Unsupported.into())
}
