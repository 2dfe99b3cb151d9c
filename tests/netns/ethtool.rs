//! Switching a device's offloads off, by the kernel's ethtool over generic netlink.
//!
//! Source: `include/uapi/linux/ethtool_netlink.h`, `include/uapi/linux/genetlink.h`.

use std::io;

use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};
use vswitch_cli::lab::Host;

/// Checksums and all segmentation of a sender: what `ethtool -K DEV tx off gso off tso off` means.
pub(super) const SENDER: &[&str] = &[
    "tx-checksum-ip-generic",
    "tx-generic-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-udp-segmentation",
];
/// Segmentation of frames inside a tunnel.
pub(super) const TUNNELS: &[&str] = &["tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"];

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

/// Switches `features` of `device` in `host` off.
pub(super) fn switch_off(host: &Host, device: &str, features: &[&str]) {
    let what = || format!("switch offloads of {device} off");
    let done = host.attempt(what, || {
        let socket = Socket::new(NETLINK_GENERIC)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let family = family(&socket)?;
        let bits: Vec<u8> = features
            .iter()
            .flat_map(|name| attribute(BITS_BIT | NESTED, &text(BIT_NAME, name)))
            .collect();
        let mut body = attribute(FEATURES_HEADER | NESTED, &text(HEADER_DEV_NAME, device));
        let wanted = attribute(BITSET_BITS | NESTED, &bits);
        body.extend(attribute(FEATURES_WANTED | NESTED, &wanted));
        request(&socket, family, FEATURES_SET, &body).map(drop)
    });
    done.unwrap();
}

fn family(socket: &Socket) -> io::Result<u16> {
    let reply = request(
        socket,
        CONTROL_FAMILY,
        GET_FAMILY,
        &text(CONTROL_NAME, "ethtool"),
    )?;
    // Behind the two headers: attributes.
    let mut rest = reply.get(20..).unwrap_or_default();
    while let [l0, l1, k0, k1, ..] = *rest {
        let len = usize::from(u16::from_ne_bytes([l0, l1]));
        if u16::from_ne_bytes([k0, k1]) == CONTROL_ID {
            return Ok(u16::from_ne_bytes([rest[4], rest[5]]));
        }
        rest = rest
            .get(len.next_multiple_of(4).max(4)..)
            .unwrap_or_default();
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Sends one request and returns the first answer that is no acknowledgement, or nothing.
fn request(socket: &Socket, family: u16, command: u8, body: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(20 + body.len()).map_err(io::Error::other)?;
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
        let kind = u16::from_ne_bytes([datagram[4], datagram[5]]);
        if kind != NLMSG_ERROR {
            answer = datagram;
            continue;
        }
        let code = i32::from_ne_bytes([datagram[16], datagram[17], datagram[18], datagram[19]]);
        return match code {
            0 => Ok(answer),
            code => Err(io::Error::from_raw_os_error(-code)),
        };
    }
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, &[value.as_bytes(), &[0]].concat())
}
