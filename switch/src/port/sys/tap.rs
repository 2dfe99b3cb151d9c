//! The ioctls of `/dev/net/tun` (include/uapi/linux/if_tun.h, drivers/net/tun.c).

use std::ffi::{c_int, c_uint};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Bytes of an interface's name with its final 0.
const NAME_BYTES: usize = libc::IFNAMSIZ;

/// The name as the kernel takes it. `None` where it is empty, too long or holds what no name may
/// (`dev_valid_name`, net/core/dev.c); `%` is refused as the kernel would make a template of it.
pub(in crate::port) fn interface_name(name: &str) -> Option<[libc::c_char; NAME_BYTES]> {
    let bad = |byte: u8| matches!(byte, 0 | b'/' | b':' | b'%') || byte.is_ascii_whitespace();
    if name.is_empty() || name.len() >= NAME_BYTES || name == "." || name == ".." {
        return None;
    }
    if name.bytes().any(bad) {
        return None;
    }
    let mut array = [0; NAME_BYTES];
    for (to, from) in array.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Some(array)
}

/// Creates the TAP `name` or attaches to it (TUNSETIFF).
pub(in crate::port) fn attach(
    device: &File,
    name: [libc::c_char; NAME_BYTES],
    flags: c_int,
) -> io::Result<()> {
    // All flags of TUNSETIFF are below 0x10000; the field is a short, its sign bit IFF_TUN_EXCL.
    let [low, high, ..] = flags.to_le_bytes();
    let request = libc::ifreq {
        ifr_name: name,
        ifr_ifru: libc::__c_anonymous_ifr_ifru {
            ifru_flags: i16::from_le_bytes([low, high]),
        },
    };
    // SAFETY: TUNSETIFF reads and writes one ifreq, which is what the pointer leads to.
    super::check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw const request) })?;
    Ok(())
}

/// Sets the length of the virtio-net header on each frame (TUNSETVNETHDRSZ).
pub(in crate::port) fn set_vnet_header_bytes(device: &File, bytes: c_int) -> io::Result<()> {
    let bytes = &raw const bytes;
    // SAFETY: TUNSETVNETHDRSZ reads one int, which is what the pointer leads to.
    super::check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETVNETHDRSZ, bytes) })?;
    Ok(())
}

/// Sets which offloads the interface's senders may leave to us (TUNSETOFFLOAD).
pub(in crate::port) fn set_offload(device: &File, features: c_uint) -> io::Result<()> {
    let features = libc::c_ulong::from(features);
    // SAFETY: TUNSETOFFLOAD takes the features themselves, not a pointer.
    super::check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, features) })?;
    Ok(())
}

/// Makes the device stay when its last descriptor is closed, or not (TUNSETPERSIST).
#[cfg(test)]
pub(in crate::port) fn set_persistent(device: &File, persistent: bool) -> io::Result<()> {
    let persistent = libc::c_ulong::from(persistent);
    // SAFETY: TUNSETPERSIST takes the value itself, not a pointer.
    super::check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETPERSIST, persistent) })?;
    Ok(())
}

/// Whether the device still has its interface (TUNGETIFF).
pub(in crate::port) fn is_attached(device: &File) -> bool {
    let mut request = libc::ifreq {
        ifr_name: [0; NAME_BYTES],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: 0 },
    };
    let room = &raw mut request;
    // SAFETY: TUNGETIFF writes one ifreq, which is what the pointer leads to.
    super::check(unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNGETIFF, room) }).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_kernel_would_not_take_as_they_are_are_refused() {
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a:b",
            "a b",
            "tap%d",
            "sixteen-bytes-xx",
            "a\0b",
        ] {
            assert!(interface_name(bad).is_none(), "{bad:?}");
        }
        let name = interface_name("fifteen-bytes-x").unwrap();
        assert_eq!(name[15], 0);
    }
}
