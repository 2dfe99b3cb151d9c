//! A frame in a line, as tcpdump's readers know it.

use std::fmt::{self, Write};
use std::net::Ipv6Addr;

use nat::wire::{Ipv4, TcpFlags, protocol};

use crate::ethernet::{self, ARP, Arp, ArpOperation, HEADER_BYTES, IPV4, QINQ, VLAN};

use super::steps::Tuple;

const IPV6: u16 = 0x86dd;
const VLAN_TAG_BYTES: usize = 4;
/// Identifier, unused bit and priority share a word (IEEE 802.1Q 9.6).
const VLAN_ID_MASK: u16 = 0x0fff;

/// Flags of a TCP header, as they are spoken of.
const TCP_FLAGS: [(TcpFlags, &str); 5] = [
    (TcpFlags::SYN, "syn"),
    (TcpFlags::FIN, "fin"),
    (TcpFlags::RST, "rst"),
    (TcpFlags::PSH, "psh"),
    (TcpFlags::ACK, "ack"),
];
/// Where the flags are in a TCP header (RFC 9293 3.1).
const TCP_FLAGS_OFFSET: usize = 13;

/// Who sends what to whom. `bytes` are the first of a frame, which may be cut short anywhere.
#[must_use]
pub fn summary(bytes: &[u8]) -> String {
    let mut text = String::new();
    // Writing to memory does not fail.
    let _ = write_frame(&mut text, bytes);
    text
}

fn write_frame(text: &mut String, bytes: &[u8]) -> fmt::Result {
    let Some(ethernet) = ethernet::parse(bytes) else {
        return text.write_str("no Ethernet header");
    };
    let (mut ethertype, mut payload) = (ethernet.ethertype, &bytes[HEADER_BYTES..]);
    while matches!(ethertype, VLAN | QINQ)
        && let Some(([t0, t1, e0, e1], rest)) = payload.split_first_chunk::<VLAN_TAG_BYTES>()
    {
        write!(
            text,
            "vlan {} ",
            u16::from_be_bytes([*t0, *t1]) & VLAN_ID_MASK
        )?;
        (ethertype, payload) = (u16::from_be_bytes([*e0, *e1]), rest);
    }
    let written = match ethertype {
        IPV4 => Tuple::of(payload).map(|tuple| write_ipv4(text, tuple, payload)),
        ARP => Arp::parse(payload).map(|arp| write_arp(text, arp)),
        IPV6 => ipv6_ends(payload).map(|(source, destination, next)| {
            write!(
                text,
                "{source} > {destination}  {} over IPv6",
                protocol_name(next)
            )
        }),
        _ => None,
    };
    written.unwrap_or_else(|| {
        let (source, destination) = (ethernet.source, ethernet.destination);
        write!(text, "{source} > {destination}  type {ethertype:#06x}")
    })
}

fn write_arp(text: &mut String, arp: Arp) -> fmt::Result {
    match arp.operation {
        ArpOperation::Request => {
            write!(text, "ARP who has {}, tell {}", arp.target, arp.sender)
        }
        ArpOperation::Reply => write!(text, "ARP {} is at {}", arp.sender, arp.sender_mac),
    }
}

fn write_ipv4(text: &mut String, tuple: Tuple, packet: &[u8]) -> fmt::Result {
    let Ok(ip) = Ipv4::parse_quoted(packet) else {
        return Ok(());
    };
    if tuple.protocol == protocol::ICMP {
        // The identifier is no part of an address.
        write!(text, "{} > {}  ", tuple.source, tuple.destination)?;
    } else {
        write!(text, "{tuple}  ")?;
    }
    text.write_str(protocol_name(tuple.protocol))?;
    if ip.fragment_offset() > 0 {
        return write!(text, " fragment at {}", ip.fragment_offset());
    }
    match tuple.protocol {
        protocol::ICMP => write_icmp(text, ip.payload())?,
        protocol::TCP => {
            let flags = ip
                .payload()
                .get(TCP_FLAGS_OFFSET)
                .map(|flags| TcpFlags(*flags));
            let set = |flag| flags.is_some_and(|flags| flags.contains(flag));
            for (_, name) in TCP_FLAGS.iter().filter(|(flag, _)| set(*flag)) {
                write!(text, " {name}")?;
            }
        }
        _ => {}
    }
    if ip.is_fragment() {
        text.write_str(", first fragment")?;
    }
    Ok(())
}

fn write_icmp(text: &mut String, message: &[u8]) -> fmt::Result {
    let Some([kind, code, _, _, i0, i1, s0, s1]) = message.first_chunk() else {
        return Ok(());
    };
    let (id, sequence) = (
        u16::from_be_bytes([*i0, *i1]),
        u16::from_be_bytes([*s0, *s1]),
    );
    match kind {
        8 => write!(text, " echo request id {id} seq {sequence}"),
        0 => write!(text, " echo reply id {id} seq {sequence}"),
        3 => match code {
            0 => text.write_str(" net unreachable"),
            1 => text.write_str(" host unreachable"),
            3 => text.write_str(" port unreachable"),
            4 => write!(text, " too big, mtu {sequence}"),
            13 => text.write_str(" prohibited"),
            _ => write!(text, " unreachable, code {code}"),
        },
        11 => text.write_str(" time exceeded"),
        _ => write!(text, " type {kind} code {code}"),
    }
}

fn ipv6_ends(packet: &[u8]) -> Option<(Ipv6Addr, Ipv6Addr, u8)> {
    let address = |at: usize| Some(Ipv6Addr::from(*packet.get(at..)?.first_chunk::<16>()?));
    Some((address(8)?, address(24)?, *packet.get(6)?))
}

/// The name of an IP protocol; those without one here are told by the header's addresses alone.
const fn protocol_name(number: u8) -> &'static str {
    match number {
        protocol::TCP => "TCP",
        protocol::UDP => "UDP",
        protocol::ICMP => "ICMP",
        protocol::SCTP => "SCTP",
        0 => "options",
        2 => "IGMP",
        47 => "GRE",
        50 => "ESP",
        58 => "ICMPv6",
        _ => "IP",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::Mac;
    use etherparse::PacketBuilder;

    /// A frame that holds no packet yet.
    fn frame() -> Vec<u8> {
        ethernet::header(Mac::local(2), Mac::local(1), IPV4).to_vec()
    }

    fn ping() -> Vec<u8> {
        let mut ping = frame();
        let ip = PacketBuilder::ipv4([10, 9, 0, 2], [1, 1, 1, 1], 64);
        let icmp = ip.icmpv4_echo_request(7, 1);
        icmp.write(&mut ping, b"x").unwrap();
        ping
    }

    #[test]
    fn a_frame_is_told_in_a_line() {
        let ip = || PacketBuilder::ipv4([10, 9, 0, 2], [1, 1, 1, 1], 64);
        let (mut tcp, mut udp) = (frame(), frame());
        let syn_ack = ip().tcp(40_122, 443, 7, 99).syn().ack(3);
        syn_ack.write(&mut tcp, &[]).unwrap();
        ip().udp(5353, 53).write(&mut udp, b"x").unwrap();
        let sender = [10, 9, 0, 2].into();
        let asks = Arp::request(Mac::local(1), sender, [10, 9, 0, 1].into(), None);
        let other = ethernet::header(Mac::BROADCAST, Mac::local(1), 0x9999);
        for (bytes, line) in [
            (&tcp[..], "10.9.0.2:40122 > 1.1.1.1:443  TCP syn ack"),
            (&udp, "10.9.0.2:5353 > 1.1.1.1:53  UDP"),
            (&ping(), "10.9.0.2 > 1.1.1.1  ICMP echo request id 7 seq 1"),
            (&asks, "ARP who has 10.9.0.1, tell 10.9.0.2"),
            (&other, "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff  type 0x9999"),
        ] {
            assert_eq!(summary(bytes), line);
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_told_as_far_as_it_goes() {
        let mut tagged = ping();
        tagged.splice(12..12, [0x81, 0, 0x20, 5]);
        assert_eq!(summary(&tagged), format!("vlan 5 {}", summary(&ping())));
        for len in 0..tagged.len() {
            assert!(!summary(&tagged[..len]).is_empty());
        }
    }
}
