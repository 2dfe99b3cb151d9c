//! Network namespaces and interfaces for the tests, made over rtnetlink without any external tool.

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use std::os::fd::{AsRawFd, OwnedFd};

const REQUEST_AND_ACK: u16 = 1 | 4;
const CREATE_EXCLUSIVELY: u16 = 0x400 | 0x200;
const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const IF_NAME: u16 = 3;
const IF_MTU: u16 = 4;
const IF_LINK_INFO: u16 = 18;
const IF_GSO_MAX_SIZE: u16 = 41;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const UP: u32 = 1;

/// Runs `body` in a network namespace of its own, which ends with it. Where this user may not make
/// one, says so and runs nothing.
pub(crate) fn in_namespace(body: impl FnOnce(&Links) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            println!("SKIPPED: cannot make a network namespace: {error}; run as root");
            return;
        }
        // Interfaces that speak IPv6 by themselves would spoil every count.
        let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
        body(&Links::open());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The interfaces of the calling thread's namespace.
pub(crate) struct Links {
    socket: OwnedFd,
}

/// Two interfaces joined by a wire, both up.
pub(super) struct Wire {
    pub(super) near: u32,
    pub(super) far: u32,
}

impl Links {
    fn open() -> Self {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        );
        Self {
            socket: socket.unwrap(),
        }
    }

    /// Makes a veth pair named `near` and `far`.
    pub(super) fn wire(&self) -> Wire {
        let mut peer = link_message(0, 0, 0);
        peer.extend(attribute(IF_NAME, b"far\0"));
        let mut info = attribute(INFO_KIND, b"veth\0");
        info.extend(attribute(INFO_DATA, &attribute(VETH_PEER, &peer)));
        let mut message = link_message(0, 0, 0);
        message.extend(attribute(IF_NAME, b"near\0"));
        message.extend(attribute(IF_LINK_INFO, &info));
        self.request(NEW_LINK, CREATE_EXCLUSIVELY, &message);
        let wire = Wire {
            near: self.index("near"),
            far: self.index("far"),
        };
        self.set_up(wire.near, true);
        self.set_up(wire.far, true);
        wire
    }

    pub(crate) fn index(&self, name: &str) -> u32 {
        nix::net::if_::if_nametoindex(name).unwrap()
    }

    pub(crate) fn set_up(&self, ifindex: u32, up: bool) {
        self.request(
            NEW_LINK,
            0,
            &link_message(ifindex, if up { UP } else { 0 }, UP),
        );
    }

    pub(super) fn set_mtu(&self, ifindex: u32, mtu: u32) {
        self.set_word(ifindex, IF_MTU, mtu);
    }

    pub(super) fn set_gso_max_size(&self, ifindex: u32, bytes: u32) {
        self.set_word(ifindex, IF_GSO_MAX_SIZE, bytes);
    }

    pub(crate) fn delete(&self, ifindex: u32) {
        self.request(DELETE_LINK, 0, &link_message(ifindex, 0, 0));
    }

    fn set_word(&self, ifindex: u32, kind: u16, value: u32) {
        let mut message = link_message(ifindex, 0, 0);
        message.extend(attribute(kind, &value.to_ne_bytes()));
        self.request(NEW_LINK, 0, &message);
    }

    fn request(&self, kind: u16, flags: u16, body: &[u8]) {
        let len = u32::try_from(16 + body.len()).unwrap();
        let mut message = len.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST_AND_ACK | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        let fd = self.socket.as_raw_fd();
        sendto(fd, &message, &NetlinkAddr::new(0, 0), MsgFlags::empty()).unwrap();
        let mut answer = [0; 4096];
        recv(fd, &mut answer, MsgFlags::empty()).unwrap();
        let error = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
        assert_eq!(
            error,
            0,
            "rtnetlink: {}",
            std::io::Error::from_raw_os_error(-error)
        );
    }
}

/// `struct ifinfomsg`.
fn link_message(ifindex: u32, flags: u32, change: u32) -> Vec<u8> {
    let words = [0, ifindex, flags, change];
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
