//! Switching a device's offloads off, by the kernel's ethtool over generic netlink.
//!
//! Source: `include/uapi/linux/ethtool_netlink.h`, `include/uapi/linux/genetlink.h`.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use super::error::Result;
use super::network::Host;

/// Checksums and all segmentation of a sender: what `ethtool -K DEV tx off gso off tso off` means.
pub const SENDER: &[&str] = &[
    "tx-checksum-ip-generic",
    "tx-generic-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-udp-segmentation",
];
/// Segmentation of frames inside a tunnel.
pub const TUNNELS: &[&str] = &["tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"];
/// Checksums: what `ethtool -K DEV tx off` means. The kernel takes the device's segmentation away
/// with them, and its stack cuts before it hands over.
pub const CHECKSUM: &[&str] = &["tx-checksum-ip-generic"];

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLMSG_ERROR: u16 = 2;
const NESTED: u16 = 0x8000;
const CONTROL_FAMILY: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const CONTROL_ID: u16 = 1;
const CONTROL_NAME: u16 = 2;
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const FEATURES_WANTED: u16 = 3;
const HEADER_DEV_NAME: u16 = 2;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;
/// `struct nlmsghdr` and `struct genlmsghdr`, bytes.
const HEADERS: usize = 20;

impl Host {
    /// Switches features of `link` off, each by the name that `ethtool -k` knows it by in the
    /// kernel; those that are off already or fixed stay as they are.
    ///
    /// # Errors
    /// `ENODEV` when there is no such link, `EOPNOTSUPP` for an unknown feature, `ENOENT` where
    /// the kernel (before 5.6) has no ethtool netlink.
    pub fn switch_off(&self, link: &str, features: &[&str]) -> Result<()> {
        let what = || format!("switch offloads of {link} in {} off", self.label());
        self.attempt(what, || {
            let socket = Socket::new(NETLINK_GENERIC)?;
            socket.connect(&SocketAddr::new(0, 0))?;
            let family = family(&socket)?;
            let mut bits = Vec::new();
            for feature in features {
                bits.extend(attribute(BITS_BIT | NESTED, &text(BIT_NAME, feature)?)?);
            }
            let device = text(HEADER_DEV_NAME, link)?;
            let mut body = attribute(FEATURES_HEADER | NESTED, &device)?;
            let wanted = attribute(BITSET_BITS | NESTED, &bits)?;
            body.extend(attribute(FEATURES_WANTED | NESTED, &wanted)?);
            request(&socket, family, FEATURES_SET, &body).map(drop)
        })
    }
}

/// The number that the kernel has given to the family `ethtool`.
fn family(socket: &Socket) -> io::Result<u16> {
    let name = text(CONTROL_NAME, "ethtool")?;
    let reply = request(socket, CONTROL_FAMILY, GET_FAMILY, &name)?;
    let mut rest = reply.get(HEADERS..).unwrap_or_default();
    while let [l0, l1, k0, k1, value @ ..] = rest {
        let len = usize::from(u16::from_ne_bytes([*l0, *l1]));
        if let (CONTROL_ID, [v0, v1, ..]) = (u16::from_ne_bytes([*k0, *k1]), value) {
            return Ok(u16::from_ne_bytes([*v0, *v1]));
        }
        rest = rest
            .get(len.next_multiple_of(4).max(4)..)
            .unwrap_or_default();
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Sends one request and returns the first answer that is no acknowledgement, or nothing.
fn request(socket: &Socket, family: u16, command: u8, body: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(HEADERS + body.len()).map_err(io::Error::other)?;
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(family.to_ne_bytes());
    message.extend((NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend_from_slice(body);
    socket.send(&message, 0)?;
    let mut answer = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let [_, _, _, _, t0, t1, ..] = datagram[..] else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        if u16::from_ne_bytes([t0, t1]) != NLMSG_ERROR {
            answer = datagram;
            continue;
        }
        let code = datagram.get(16..).and_then(|rest| rest.first_chunk());
        return match code.copied().map(i32::from_ne_bytes) {
            Some(0) => Ok(answer),
            Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        };
    }
}

fn attribute(kind: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    let len = u16::try_from(4 + value.len()).map_err(io::Error::other)?;
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    Ok(bytes)
}

fn text(kind: u16, value: &str) -> io::Result<Vec<u8>> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}
