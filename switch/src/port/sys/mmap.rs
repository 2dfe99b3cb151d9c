//! Mappings of memory that the kernel writes, too: a packet socket's ring, a map of programs.

use super::cursor::SlotMemory;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// A shared mapping, undone when dropped.
#[derive(Debug)]
pub(in crate::port) struct Mapping {
    base: NonNull<u8>,
    len_bytes: usize,
}

impl Mapping {
    /// Maps the first `len_bytes` bytes of the ring of a socket, or of the values of a map, to read
    /// and write.
    ///
    /// # Errors
    /// What `mmap` answers: `EINVAL` where the length is not that of the ring, or the map has less.
    pub(in crate::port) fn shared(of: BorrowedFd<'_>, len_bytes: usize) -> io::Result<Self> {
        Self::map(len_bytes, libc::MAP_SHARED, of.as_raw_fd())
    }

    /// Maps as many bytes, all 0, that nobody else sees.
    #[cfg(test)]
    pub(in crate::port) fn of_nobody(len_bytes: usize) -> io::Result<Self> {
        Self::map(len_bytes, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    fn map(len_bytes: usize, flags: libc::c_int, fd: libc::c_int) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address the kernel chooses touches no memory of ours.
        let address = unsafe { libc::mmap(ptr::null_mut(), len_bytes, protection, flags, fd, 0) };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mapped at 0"))?;
        Ok(Self { base, len_bytes })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly what `map` mapped, and whoever borrowed from it
        // borrowed `self`, which is going away. A failure would only leak address space.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len_bytes) };
    }
}

// SAFETY: the mapping belongs to this value alone; no thread-local state is behind the address.
unsafe impl Send for Mapping {}

// SAFETY: `base` is page-aligned and fixed, and the range stays mapped until `Drop`, even after the
// socket is closed (the mapping holds the pages, `packet_mm_open` in net/packet/af_packet.c). The
// kernel writes a slot only while its status word is 0 (`tpacket_rcv`). The mapping is never lent
// elsewhere in this process: `base` is private to `port::sys`, and one of `Words` is in no cursor.
unsafe impl SlotMemory for Mapping {
    #[inline]
    fn base(&self) -> NonNull<u8> {
        self.base
    }

    #[inline]
    fn len_bytes(&self) -> usize {
        self.len_bytes
    }
}
