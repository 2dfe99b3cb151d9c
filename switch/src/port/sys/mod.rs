//! All unsafe code of the switch: mappings, rings and system calls.
//!
//! Each file wraps one thing the kernel offers in a safe interface; each `unsafe` block does one
//! thing and says why it may. What the kernel reports (offsets, lengths) is checked in release
//! builds too, by the safe code above, where a wrong value is a counted frame and not a fault.
#![allow(unsafe_code, reason = "the one folder that may hold unsafe code")]

pub mod affinity;
pub mod bpf;
pub(in crate::port) mod cursor;
pub(crate) mod huge;
pub(in crate::port) mod mmap;
pub mod poll;
pub mod prefetch;
pub(in crate::port) mod send;
pub mod sentry;
pub(in crate::port) mod socket;
pub(in crate::port) mod tap;
pub(in crate::port) mod tpacket;
pub(crate) mod usdt;
pub mod wake;
pub(in crate::port) mod words;

use std::io;

/// The result of a system call that answers -1 on failure.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The size of an option's value, as socket calls take it.
const fn value_bytes<T>() -> libc::socklen_t {
    const { assert!(size_of::<T>() <= 64, "option values are a few bytes") };
    #[expect(clippy::cast_possible_truncation, reason = "at most 64, as asserted")]
    let bytes = size_of::<T>() as libc::socklen_t;
    bytes
}

/// The result of a system call that answers a count of bytes, or -1 on failure.
fn check_bytes(result: libc::ssize_t) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}
