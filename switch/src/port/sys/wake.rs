//! Waking a sleeping worker from another thread.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;

/// A bell: any clone rings it, its owner waits for it. An eventfd (`eventfd(2)`).
#[derive(Debug, Clone)]
pub struct Wake {
    event: Arc<File>,
}

impl Wake {
    /// A silent bell.
    ///
    /// # Errors
    /// The process or the machine has too many open files.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes two integers and touches no memory of ours.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        let fd = super::check(fd)?;
        // SAFETY: the descriptor was just made and nobody else knows it.
        let event = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            event: Arc::new(event.into()),
        })
    }

    /// Makes the descriptor readable until [`drain`](Self::drain). Ringing twice is ringing once.
    pub fn signal(&self) {
        // The one possible failure is EAGAIN, from a count of 2^64 - 2: it rings already.
        let _ = (&*self.event).write(&1u64.to_ne_bytes());
    }

    /// Silences the bell. Call it before looking at what was announced, not after.
    pub fn drain(&self) {
        // The one possible failure is EAGAIN: it was silent.
        let _ = (&*self.event).read(&mut [0; 8]);
    }

    /// The descriptor to wait for.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
