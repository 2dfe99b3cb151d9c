//! Words of memory that this process and programs in the kernel share.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;

use super::cursor::SlotMemory;
use super::mmap::Mapping;

/// A shared mapping of 64-bit words, undone when dropped.
#[derive(Debug)]
pub(in crate::port) struct Words(Mapping);

impl Words {
    /// Maps the values of an array map that was made with `BPF_F_MMAPABLE` and holds at least so
    /// many words, each value a multiple of eight bytes.
    ///
    /// # Errors
    /// What `mmap` answers: `EINVAL` where the map has fewer.
    pub(in crate::port) fn of_map(map: BorrowedFd<'_>, count: usize) -> io::Result<Self> {
        Mapping::shared(map, bytes(count)).map(Self)
    }

    /// Maps as many words, all 0, that nobody else sees.
    #[cfg(test)]
    pub(in crate::port) fn of_nobody(count: usize) -> io::Result<Self> {
        Mapping::of_nobody(bytes(count)).map(Self)
    }

    /// The words.
    pub(in crate::port) fn all(&self) -> &[AtomicU64] {
        let count = self.0.len_bytes() / size_of::<u64>();
        // SAFETY: the mapping is page-aligned, has `count` words and lives as long as `self`; every
        // bit pattern is a word. The kernel writes whole aligned words while we look, which atomics
        // allow; in this process nobody else has it.
        unsafe { std::slice::from_raw_parts(self.0.base().as_ptr().cast(), count) }
    }
}

const fn bytes(count: usize) -> usize {
    count.saturating_mul(size_of::<u64>())
}

// SAFETY: all that is lent of the mapping are atomics, and nobody else has it.
unsafe impl Sync for Words {}
