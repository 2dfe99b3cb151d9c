//! Words of memory that this process and programs in the kernel share.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::AtomicU64;

/// A shared mapping of 64-bit words, undone when dropped.
#[derive(Debug)]
pub(in crate::port) struct Words {
    base: NonNull<AtomicU64>,
    count: usize,
}

impl Words {
    /// Maps the values of an array map that was made with `BPF_F_MMAPABLE` and holds at least so
    /// many words, each value a multiple of eight bytes.
    ///
    /// # Errors
    /// What `mmap` answers: `EINVAL` where the map has fewer.
    pub(in crate::port) fn of_map(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        Self::map(count, libc::MAP_SHARED, map.as_raw_fd())
    }

    /// Maps as many words, all 0, that nobody else sees.
    #[cfg(test)]
    pub(in crate::port) fn of_nobody(count: usize) -> io::Result<Self> {
        Self::map(count, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    fn map(count: usize, flags: libc::c_int, fd: libc::c_int) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address the kernel chooses touches no memory of ours.
        let address =
            unsafe { libc::mmap(ptr::null_mut(), bytes(count), protection, flags, fd, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { base, count })
    }

    /// The words.
    pub(in crate::port) fn all(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, of `count` words and more, and lives as long as
        // `self`; every bit pattern is a word. The kernel writes whole aligned words while we look,
        // which atomics allow.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.count) }
    }
}

const fn bytes(count: usize) -> usize {
    count.saturating_mul(size_of::<u64>())
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what `map` mapped, and whoever borrowed from it borrowed
        // `self`, which is going away. A failure would only leak address space.
        unsafe { libc::munmap(self.base.as_ptr().cast(), bytes(self.count)) };
    }
}

// SAFETY: the mapping belongs to this value alone; no thread-local state is behind the address.
unsafe impl Send for Words {}

// SAFETY: all that is lent of it are atomics.
unsafe impl Sync for Words {}
