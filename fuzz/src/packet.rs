//! Packets to play with, and the judge of their checksums.

use std::net::Ipv4Addr;

use nat::checksum;
use nat::wire::{Ipv4, Ipv4Header, protocol};

/// An address and a port.
pub(crate) type Endpoint = (Ipv4Addr, u16);

/// Two inside hosts.
pub(crate) const INSIDE: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 9, 0, 2), Ipv4Addr::new(10, 9, 0, 3)];
/// Two outside hosts.
pub(crate) const OUTSIDE: [Ipv4Addr; 2] = [
    Ipv4Addr::new(203, 0, 113, 1),
    Ipv4Addr::new(198, 51, 100, 2),
];
/// The address that inside hosts appear as.
pub(crate) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);

/// Header and payload, with the header's checksum.
pub(crate) fn ipv4(header: Ipv4Header, payload: &[u8]) -> Vec<u8> {
    let header = Ipv4Header {
        payload_len: u16::try_from(payload.len()).unwrap(),
        ..header
    };
    let mut packet = header.to_bytes().to_vec();
    packet.extend_from_slice(payload);
    packet
}

/// A UDP datagram with its checksum, or without (0).
pub(crate) fn udp(from: Endpoint, to: Endpoint, payload: &[u8], summed: bool) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap();
    let mut datagram = [from.1, to.1, length, 0].map(u16::to_be_bytes).concat();
    datagram.extend_from_slice(payload);
    if summed {
        let pseudo = checksum::pseudo_v4(from.0, to.0, protocol::UDP, length);
        let sum = checksum::finish_udp(pseudo + checksum::sum(&datagram));
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    datagram
}

/// A TCP segment with its checksum.
pub(crate) fn tcp(from: Endpoint, to: Endpoint, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [from.1, to.1].map(u16::to_be_bytes).concat();
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 4, 0, 0, 0, 0, 0]);
    segment.extend_from_slice(payload);
    let length = u16::try_from(segment.len()).unwrap();
    let pseudo = checksum::pseudo_v4(from.0, to.0, protocol::TCP, length);
    let sum = checksum::finish(pseudo + checksum::sum(&segment));
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

/// An ICMP message with its checksum.
pub(crate) fn icmp(kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    message.extend_from_slice(body);
    let sum = checksum::finish(checksum::sum(&message));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// Panics unless the checksums of a whole packet of TCP, UDP or ICMP are right.
pub(crate) fn assert_sums(packet: &[u8]) {
    let ip = Ipv4::parse(packet).unwrap();
    assert!(ip.verify_checksum(), "IPv4 header of {packet:02x?}");
    let payload = ip.payload();
    let length = u16::try_from(payload.len()).unwrap();
    let pseudo = match ip.protocol() {
        protocol::ICMP => 0,
        protocol::UDP if payload[6..8] == [0, 0] => return,
        number => checksum::pseudo_v4(ip.src(), ip.dst(), number, length),
    };
    // The sum over everything, its own field included, is all ones (RFC 1071).
    let sum = checksum::fold(pseudo + checksum::sum(payload));
    assert_eq!(sum, 0xffff, "payload of {packet:02x?}");
}
