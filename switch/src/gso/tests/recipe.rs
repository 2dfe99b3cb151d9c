//! Frames to test with, and a second opinion (etherparse) on what becomes of them.

use etherparse::{
    Ethernet2Header, IpNumber, Ipv4Header, Ipv4Options, Ipv6Header, NetSlice, SingleVlanHeader,
    SlicedPacket, TcpHeader, TransportSlice, UdpHeader, VlanId,
};
use nat::checksum;
use proptest::prelude::*;

use crate::frame::{Csum, Gso, Offload};
use crate::gso::layout::{Layout, TCP, UDP, put16};

const SRC4: [u8; 4] = [10, 77, 0, 11];
const DST4: [u8; 4] = [203, 0, 113, 1];
const SRC6: [u8; 16] = [0xfd, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const DST6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// What a test frame is made of.
#[derive(Debug, Clone)]
pub(super) struct Recipe {
    pub(super) is_v6: bool,
    pub(super) is_tcp: bool,
    pub(super) tags: usize,
    /// IPv4 options, or with `is_v6` any for a hop-by-hop header; multiples of four bytes.
    pub(super) ip_options: Vec<u8>,
    pub(super) tcp_options: Vec<u8>,
    pub(super) flags: u8,
    pub(super) sequence: u32,
    pub(super) id: u16,
    pub(super) payload: Vec<u8>,
    /// Bytes behind the IP packet.
    pub(super) padding: usize,
}

impl Default for Recipe {
    fn default() -> Self {
        Self {
            is_v6: false,
            is_tcp: true,
            tags: 0,
            ip_options: Vec::new(),
            tcp_options: Vec::new(),
            flags: 0x10,
            sequence: 1000,
            id: 7,
            payload: (0..4000u32).map(|n| n.to_le_bytes()[0]).collect(),
            padding: 0,
        }
    }
}

impl Recipe {
    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        if self.is_tcp {
            let mut tcp = TcpHeader::new(443, 50_000, self.sequence, 512);
            tcp.set_options_raw(&self.tcp_options).unwrap();
            tcp.acknowledgment_number = 99;
            tcp.write(&mut bytes).unwrap();
            bytes[13] = self.flags;
        } else {
            let length = u16::try_from(8 + self.payload.len()).unwrap();
            let udp = UdpHeader {
                source_port: 53,
                destination_port: 4444,
                length,
                checksum: 0,
            };
            udp.write(&mut bytes).unwrap();
        }
        bytes
    }

    fn l2(&self) -> Vec<u8> {
        let mut types = vec![0x88a8, 0x8100][2 - self.tags..].to_vec();
        types.push(if self.is_v6 { 0x86dd } else { 0x0800 });
        let mut bytes = Vec::new();
        let ethernet = Ethernet2Header {
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
            ether_type: types[0].into(),
        };
        ethernet.write(&mut bytes).unwrap();
        for next in &types[1..] {
            let tag = SingleVlanHeader {
                vlan_id: VlanId::try_new(42).unwrap(),
                ether_type: (*next).into(),
                ..SingleVlanHeader::default()
            };
            tag.write(&mut bytes).unwrap();
        }
        bytes
    }

    /// The frame as a kernel hands it out: checksum partial.
    pub(super) fn build(&self) -> (Vec<u8>, Csum) {
        let mut bytes = self.l2();
        let transport = self.transport();
        let length = transport.len() + self.payload.len();
        let protocol = if self.is_tcp { TCP } else { UDP };
        if self.is_v6 {
            let has_extension = !self.ip_options.is_empty();
            let payload_length = length + if has_extension { 8 } else { 0 };
            let ip = Ipv6Header {
                payload_length: u16::try_from(payload_length).unwrap(),
                next_header: IpNumber(if has_extension { 0 } else { protocol }),
                source: SRC6,
                destination: DST6,
                ..Ipv6Header::default()
            };
            ip.write(&mut bytes).unwrap();
            if has_extension {
                bytes.extend([protocol, 0, 1, 4, 0, 0, 0, 0]); // PadN
            }
        } else {
            let mut ip = Ipv4Header {
                protocol: IpNumber(protocol),
                options: Ipv4Options::try_from(&self.ip_options[..]).unwrap(),
                identification: self.id,
                time_to_live: 64,
                dont_fragment: false,
                source: SRC4,
                destination: DST4,
                ..Ipv4Header::default()
            };
            ip.set_payload_len(length).unwrap();
            ip.header_checksum = ip.calc_header_checksum();
            ip.write(&mut bytes).unwrap();
        }
        let start = bytes.len();
        bytes.extend(transport);
        bytes.extend(&self.payload);
        bytes.extend(vec![0xa5; self.padding]);
        let pseudo = Layout::parse(&bytes).unwrap().pseudo_sum(&bytes, length);
        let offset = if self.is_tcp { 16 } else { 6 };
        put16(
            &mut bytes,
            start + usize::from(offset),
            checksum::fold(pseudo),
        );
        (
            bytes,
            Csum::Partial {
                start: u16::try_from(start).unwrap(),
                offset,
            },
        )
    }

    pub(super) fn offload(&self, csum: Csum, size: u16) -> Offload {
        let gso = match (self.is_tcp, self.is_v6) {
            (true, false) => Gso::Tcp4 {
                mss: size,
                ecn: false,
            },
            (true, true) => Gso::Tcp6 {
                mss: size,
                ecn: false,
            },
            (false, _) => Gso::Udp { size },
        };
        Offload { csum, gso }
    }
}

/// What etherparse finds in a segment, its checksums recomputed and found right.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) id: u16,
    pub(super) ip_len: usize,
    pub(super) ip_options: Vec<u8>,
    pub(super) tcp: Option<TcpHeader>,
    pub(super) payload: Vec<u8>,
}

pub(super) fn see(frame: &[u8]) -> Seen {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let net = packet.net.clone().unwrap();
    let (id, ip_len, ip_options, v4) = match &net {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            let len = usize::from(header.total_len);
            (
                header.identification,
                len,
                header.options.to_vec(),
                Some(header),
            )
        }
        NetSlice::Ipv6(ip) => (
            0,
            40 + usize::from(ip.header().payload_length()),
            Vec::new(),
            None,
        ),
        NetSlice::Arp(_) => panic!("no ARP was sent"),
    };
    let l2 = frame.len() - ip_len;
    assert!(
        [14, 18, 22].contains(&l2),
        "IP length {ip_len} of {}",
        frame.len()
    );
    let (tcp, payload) = match packet.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            let header = tcp.to_header();
            let sum = v4.map_or_else(
                || {
                    header
                        .calc_checksum_ipv6_raw(SRC6, DST6, tcp.payload())
                        .unwrap()
                },
                |ip| header.calc_checksum_ipv4(&ip, tcp.payload()).unwrap(),
            );
            assert_eq!(header.checksum, sum);
            (Some(header), tcp.payload().to_vec())
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            assert_eq!(usize::from(header.length), 8 + udp.payload().len());
            let sum = v4.map_or_else(
                || {
                    header
                        .calc_checksum_ipv6_raw(SRC6, DST6, udp.payload())
                        .unwrap()
                },
                |ip| header.calc_checksum_ipv4(&ip, udp.payload()).unwrap(),
            );
            assert_eq!(header.checksum, sum);
            (None, udp.payload().to_vec())
        }
        other @ (TransportSlice::Icmpv4(_)
        | TransportSlice::Icmpv6(_)
        | TransportSlice::Igmp(_)) => panic!("{other:?}"),
    };
    Seen {
        id,
        ip_len,
        ip_options,
        tcp,
        payload,
    }
}

pub(super) fn recipes() -> impl Strategy<Value = Recipe> {
    let shape = (
        any::<bool>(),
        any::<bool>(),
        0..3usize,
        0..3usize,
        0..11usize,
    );
    let content = (
        any::<u8>(),
        any::<u32>(),
        any::<u16>(),
        0..64_000usize,
        any::<u8>(),
        0..20usize,
    );
    (shape, content).prop_map(|((is_v6, is_tcp, tags, ip_words, tcp_words), content)| {
        let (flags, sequence, id, len, fill, padding) = content;
        let bytes = (0..len)
            .map(|n| fill.wrapping_add((n / 3).to_le_bytes()[0]))
            .collect();
        Recipe {
            is_v6,
            is_tcp,
            tags,
            ip_options: [0x94, 4, 0, 0].repeat(ip_words), // router alert
            tcp_options: vec![1; tcp_words * 4],
            flags,
            sequence,
            id,
            payload: bytes,
            padding,
        }
    })
}
