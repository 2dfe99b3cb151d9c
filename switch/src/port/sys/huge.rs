//! Asking the kernel to back large tables with large pages.

use std::mem::MaybeUninit;
use std::ops::Range;

/// Tables smaller than this do without: a few pages of 2 MiB, of which the first and the last are
/// mostly lost to alignment.
const WORTHWHILE_BYTES: usize = 8 << 20;

/// Asks for large pages under `room`, before it is first touched: see [`prefer_huge_pages_in`].
pub(crate) fn prefer_huge_pages<T>(room: &mut [MaybeUninit<T>]) {
    let Range { start, end } = room.as_ptr_range();
    prefer_huge_pages_in(start.cast()..end.cast());
}

/// Asks for large pages under the whole pages of a range of addresses. A table of tens of megabytes
/// read at random otherwise misses the processor's cache of page addresses at nearly every look-up,
/// which in a virtual machine costs two walks. Where the kernel does not grant it, or nothing is
/// mapped there, nothing changes.
pub(crate) fn prefer_huge_pages_in(room: Range<*const u8>) {
    let bytes = room.end.addr().saturating_sub(room.start.addr());
    if bytes < WORTHWHILE_BYTES {
        return;
    }
    // SAFETY: sysconf only reads.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let skip = room.start.align_offset(page).min(bytes);
    let len = (bytes - skip) / page * page;
    let start = room.start.wrapping_add(skip);
    // SAFETY: the advice changes no byte of what is mapped there, whosever it is.
    let _ = unsafe { libc::madvise(start.cast_mut().cast(), len, libc::MADV_HUGEPAGE) };
}
