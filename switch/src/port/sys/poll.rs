//! Waiting until one of a worker's descriptors can be read.
//!
//! `ppoll` rather than epoll: an epoll instance keeps an entry in the wait queue of every ring, so
//! that each frame runs its callback even while the worker is busy. With `ppoll` a busy worker
//! leaves no waiter behind and costs its senders nothing. Hundreds of descriptors that are quiet
//! for the time being are left to a [`Sentry`](super::sentry::Sentry), which is one descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

/// What the last wait found about one descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Nothing to read.
    Idle,
    /// Something to read.
    Readable,
    /// An error was reported: the interface went down, or away (ask
    /// [`Rx::is_gone`](crate::port::Rx::is_gone)). There may be frames to read all the same.
    Failed,
}

/// The descriptors one worker waits for. Waiting does not allocate.
#[derive(Debug, Default)]
pub struct Waiter {
    entries: Vec<libc::pollfd>,
}

impl Waiter {
    /// Waits for nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            entries: Vec::new(),
        }
    }

    /// Adds a descriptor and returns its place. It must stay open until [`clear`](Self::clear); a
    /// closed one is reported as failed once and then ignored.
    pub fn watch(&mut self, fd: BorrowedFd<'_>) -> usize {
        self.entries.push(libc::pollfd {
            fd: fd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        self.entries.len() - 1
    }

    /// Forgets all descriptors, to be given anew after a port came or went.
    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// True while it waits for nothing.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Sleeps until a descriptor can be read or has failed, a signal arrives, or `timeout` is over
    /// (`None`: no limit). Returns how many descriptors have news.
    pub fn wait(&mut self, timeout: Option<Duration>) -> usize {
        let timeout = timeout.map(|time| libc::timespec {
            tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let timeout = timeout
            .as_ref()
            .map_or(std::ptr::null(), std::ptr::from_ref);
        let count = self.entries.len() as libc::nfds_t;
        let entries = self.entries.as_mut_ptr();
        // SAFETY: `entries` points to `count` entries of our own vector, `timeout` is null or
        // points to a value of this frame, and a null mask leaves the signal mask alone.
        let ready = unsafe { libc::ppoll(entries, count, timeout, std::ptr::null()) };
        if ready < 0 {
            // EINTR, or no kernel memory for the wait: nothing is known to be ready, and the
            // caller's next round looks at its rings again.
            for entry in &mut self.entries {
                entry.revents = 0;
            }
            return 0;
        }
        for entry in &mut self.entries {
            if entry.revents & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 {
                acknowledge(entry);
            }
        }
        usize::try_from(ready).unwrap_or(0)
    }

    /// What the last wait found at `place`.
    #[must_use]
    pub fn readiness(&self, place: usize) -> Readiness {
        match self.entries.get(place).map_or(0, |entry| entry.revents) {
            0 => Readiness::Idle,
            events if events & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0 => {
                Readiness::Failed
            }
            _ => Readiness::Readable,
        }
    }

    /// Whether the descriptor at `place` needs a look: it is readable or has failed.
    #[must_use]
    pub fn is_ready(&self, place: usize) -> bool {
        self.readiness(place) != Readiness::Idle
    }
}

/// Sees to it that an error is reported once and does not turn every later wait into a spin.
///
/// A packet socket keeps `ENETDOWN` until somebody reads `SO_ERROR`. A TAP whose device is gone
/// reports an error for ever: it is no socket, so its entry is made negative, which `ppoll` skips.
fn acknowledge(entry: &mut libc::pollfd) {
    let cleared = entry.revents & libc::POLLNVAL == 0 && clear_socket_error(entry.fd).is_ok();
    if !cleared {
        entry.fd = !entry.fd;
    }
}

/// Takes the error that is pending on a socket. `ENOTSOCK` for anything else.
pub(super) fn clear_socket_error(fd: RawFd) -> io::Result<()> {
    let mut error: libc::c_int = 0;
    let mut len = super::value_bytes::<libc::c_int>();
    let value = (&raw mut error).cast();
    // SAFETY: `value` has room for the `len` bytes announced, and a descriptor that is closed or
    // no socket is an error, not a fault.
    super::check(unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_ERROR, value, &raw mut len)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Wake;
    use std::os::fd::AsFd;

    #[test]
    fn a_signal_ends_the_wait_and_only_its_place_is_ready() {
        let (quiet, rung) = (Wake::new().unwrap(), Wake::new().unwrap());
        let mut waiter = Waiter::new();
        let first = waiter.watch(quiet.fd());
        let second = waiter.watch(rung.fd());
        assert_eq!(waiter.wait(Some(Duration::ZERO)), 0);
        rung.signal();
        assert_eq!(waiter.wait(None), 1);
        assert_eq!(waiter.readiness(first), Readiness::Idle);
        assert_eq!(waiter.readiness(second), Readiness::Readable);
        rung.drain();
        assert_eq!(waiter.wait(Some(Duration::from_nanos(1))), 0);
        assert!(!waiter.is_ready(second));
    }

    #[test]
    fn a_dead_descriptor_fails_once_and_is_then_ignored() {
        let (reader, writer) = io::pipe().unwrap();
        let mut waiter = Waiter::new();
        let place = waiter.watch(reader.as_fd());
        drop(writer);
        assert_eq!(waiter.wait(Some(Duration::ZERO)), 1);
        assert_eq!(waiter.readiness(place), Readiness::Failed);
        assert_eq!(
            waiter.wait(Some(Duration::ZERO)),
            0,
            "no spin on a hung-up descriptor"
        );
        assert_eq!(waiter.readiness(place), Readiness::Idle);
    }
}
