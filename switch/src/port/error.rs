//! What can go wrong while a port is opened, and what the operator can do about it.
//!
//! Only set-up fails with an error. Once a port is open, what happens to a frame is an outcome that
//! is counted ([`Losses`](super::Losses), [`SendOutcome`](super::SendOutcome)), not an error.

use std::io;

/// A port could not be opened: what failed, why, and what fixes it, in one line.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// `socket(AF_PACKET)` was refused.
    #[error(
        "{port}: cannot open a packet socket: {source}; \
         run as root, or: setcap cap_net_raw,cap_net_admin+ep $(command -v vswitch)"
    )]
    Socket {
        /// The interface, or `tx` for a worker's sending half.
        port: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A socket option this switch cannot do without was refused.
    #[error("{port}: the kernel refuses {option}: {source}; this needs Linux {since} or later")]
    Option {
        /// The interface, or `tx` for a worker's sending half.
        port: String,
        /// The option's name in `packet(7)`.
        option: &'static str,
        /// The first kernel that has it.
        since: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// No memory for the ring, or a geometry the kernel cannot use.
    #[error(
        "{port}: no ring of {slots} slots of {slot_bytes} bytes: {source}; \
         lower ring= on the port, or free memory"
    )]
    Ring {
        /// The interface.
        port: String,
        /// Slots asked for.
        slots: u32,
        /// Bytes of each.
        slot_bytes: u32,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A hybrid ring was asked for, but its receive buffer was refused.
    #[error(
        "{port}: no receive buffer for a hybrid ring: {source}; \
         run with CAP_NET_ADMIN, or ask for full-size slots"
    )]
    Queue {
        /// The interface.
        port: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The number of slots asked for does not fill whole blocks.
    #[error("{port}: a ring cannot have {slots} slots; use a multiple of {multiple} up to {max}")]
    Geometry {
        /// The interface.
        port: String,
        /// Slots asked for.
        slots: u32,
        /// What it must be a multiple of.
        multiple: u32,
        /// The most slots a ring may have.
        max: u32,
    },
    /// The BPF program was refused.
    #[error("{port}: the kernel refuses the {program} program: {source}; please report this")]
    Program {
        /// The interface.
        port: String,
        /// Which program: `filter` or `steering`.
        program: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The program that refuses floods was refused; the workers refuse them without it.
    #[error(
        "{port}: floods of SYNs are refused by the workers, at the cost of others, since the \
         kernel takes no program for it: {source}; {}", flood_hint(.source)
    )]
    Floodgate {
        /// The interface.
        port: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel gives no memory for the fast path, or takes no program for it.
    #[error(
        "fast-path: all goes by the workers, since the kernel takes no program to carry \
         connections: {source}; {}", fast_path_hint(.source)
    )]
    FastPath {
        /// What the kernel answered.
        source: io::Error,
    },
    /// The socket could not join its fan-out group.
    #[error("{port}: cannot share the interface among workers: {source}; start with --workers 1")]
    Fanout {
        /// The interface.
        port: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The interface is not there, or went away meanwhile.
    #[error("{port}: cannot attach to the interface: {source}; check: ip link show {port}")]
    Bind {
        /// The interface.
        port: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Promiscuous mode was refused.
    #[error(
        "{port}: cannot receive frames for other stations: {source}; \
         run as root, or: setcap cap_net_raw,cap_net_admin+ep $(command -v vswitch)"
    )]
    Promiscuous {
        /// The interface.
        port: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// `/dev/net/tun` cannot be opened.
    #[error("{port}: cannot open /dev/net/tun: {source}; {}", tun_hint(.source))]
    TunDevice {
        /// The interface.
        port: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The TAP interface can be neither created nor attached to.
    #[error("{port}: cannot create or attach the tap: {source}; {}", tap_hint(.source))]
    TapAttach {
        /// The interface.
        port: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The TAP driver refused a setting this switch cannot do without.
    #[error("{port}: the tap refuses {setting}: {source}; this needs Linux {since} or later")]
    TapSetting {
        /// The interface.
        port: String,
        /// The ioctl's name in `linux/if_tun.h`.
        setting: &'static str,
        /// The first kernel that has it.
        since: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The name cannot be the name of an interface.
    #[error("{port:?} cannot name an interface; use 1 to 15 bytes without '/', ':' or blanks")]
    Name {
        /// The name as given.
        port: String,
    },
}

fn flood_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => {
            "run as root, or: \
             setcap cap_net_raw,cap_net_admin,cap_bpf+ep $(command -v vswitch)"
        }
        Some(libc::E2BIG) => "publish fewer and longer ranges of ports",
        _ => "see what it lacks: vswitch doctor",
    }
}

fn fast_path_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM) => {
            "run as root, or: \
             setcap cap_net_raw,cap_net_admin,cap_bpf+ep $(command -v vswitch)"
        }
        Some(libc::E2BIG) => "publish fewer and longer ranges of ports",
        Some(libc::ERANGE) => "see whose classifiers are on the interface: bpftool net",
        _ => "it needs Linux 6.6 or later: vswitch doctor",
    }
}

fn tun_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => {
            "modprobe tun && mkdir -p /dev/net && mknod /dev/net/tun c 10 200"
        }
        _ => "run as root, or: chmod 0666 /dev/net/tun",
    }
}

fn tap_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EBUSY) => "another process has it open: look for it with fuser -v /dev/net/tun",
        Some(libc::EINVAL) => "an interface of that name exists and is no tap: choose another name",
        _ => "run as root, or: setcap cap_net_admin+ep $(command -v vswitch)",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_with_what_why_and_fix() {
        let refused = || io::Error::from_raw_os_error(libc::EPERM);
        let messages = [
            PortError::Socket {
                port: "veth1".into(),
                source: refused(),
            }
            .to_string(),
            PortError::TapAttach {
                port: "tap0".into(),
                source: io::Error::from_raw_os_error(libc::EBUSY),
            }
            .to_string(),
            PortError::TunDevice {
                port: "tap0".into(),
                source: refused(),
            }
            .to_string(),
            PortError::Floodgate {
                port: "eth0".into(),
                source: refused(),
            }
            .to_string(),
            PortError::FastPath { source: refused() }.to_string(),
        ];
        for message in messages {
            assert!(
                !message.contains('\n') && !message.contains("  "),
                "{message}"
            );
            assert!(
                message.contains(": ") && message.contains("; "),
                "{message}"
            );
        }
    }
}
