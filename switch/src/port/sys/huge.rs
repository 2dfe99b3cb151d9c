//! Asking the kernel to back large tables with large pages.

use std::mem::MaybeUninit;

/// Tables smaller than this do without: a few pages of 2 MiB, of which the first and the last are
/// mostly lost to alignment.
const WORTHWHILE_BYTES: usize = 8 << 20;

/// Asks for large pages under `room`, before it is first touched. A table of tens of megabytes read
/// at random otherwise misses the processor's cache of page addresses at nearly every look-up,
/// which in a virtual machine costs two walks. Where the kernel does not grant it, nothing changes.
pub(crate) fn prefer_huge_pages<T>(room: &mut [MaybeUninit<T>]) {
    let bytes = size_of_val(room);
    if bytes < WORTHWHILE_BYTES {
        return;
    }
    // SAFETY: sysconf only reads.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    let start = room.as_mut_ptr().cast::<u8>();
    let skip = start.align_offset(page).min(bytes);
    let len = (bytes - skip) / page * page;
    // SAFETY: `skip` is at most the length of `room`.
    let start = unsafe { start.add(skip) };
    // SAFETY: whole pages inside memory that is ours; the advice changes no byte of them.
    let _ = unsafe { libc::madvise(start.cast(), len, libc::MADV_HUGEPAGE) };
}
