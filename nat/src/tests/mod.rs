//! The engine against whole packets: built by etherparse, judged by etherparse.

mod alg;
mod fragments;
mod icmp;
mod ids;
mod joined;
mod lend;
mod mappings;
mod other;
mod properties;
mod publish;
mod restart;
mod sctp;
mod strangers;
mod tcp;
mod trial;
mod udp;
mod untouched;

use std::net::Ipv4Addr;

use etherparse::{IpNumber, Ipv4HeaderSlice, PacketBuilder, TcpHeaderSlice, UdpHeaderSlice};

use crate::wire::{Ipv4, TcpFlags, protocol};
use crate::{Config, L4Sum, Nanos, Nat, Outcome, Packet, Reason, checksum};

pub(crate) type Endpoint = ([u8; 4], u16);

pub(crate) const EXT: [u8; 4] = [203, 0, 113, 254];
pub(crate) const C1: [u8; 4] = [10, 9, 0, 2];
pub(crate) const C2: [u8; 4] = [10, 9, 0, 3];
pub(crate) const O1: [u8; 4] = [203, 0, 113, 1];
pub(crate) const O2: [u8; 4] = [198, 51, 100, 2];

pub(crate) fn config() -> Config {
    Config::new(EXT.into(), 40_000..=49_999)
}

pub(crate) fn nat() -> Nat {
    Nat::new(config(), 7)
}

pub(crate) fn secs(secs: u64) -> Nanos {
    Nanos::from_secs(secs)
}

pub(crate) fn udp(src: Endpoint, dst: Endpoint) -> Vec<u8> {
    udp_with(src, dst, b"payload")
}

pub(crate) fn udp_with(src: Endpoint, dst: Endpoint, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(src.0, dst.0, 64)
        .udp(src.1, dst.1)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

pub(crate) fn tcp(src: Endpoint, dst: Endpoint, flags: TcpFlags) -> Vec<u8> {
    let mut header = etherparse::TcpHeader::new(src.1, dst.1, 1_000, 2_000);
    header.syn = flags.contains(TcpFlags::SYN);
    header.ack = flags.contains(TcpFlags::ACK);
    header.fin = flags.contains(TcpFlags::FIN);
    header.rst = flags.contains(TcpFlags::RST);
    header.psh = flags.contains(TcpFlags::PSH);
    header.urg = flags.contains(TcpFlags::URG);
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(src.0, dst.0, 64)
        .tcp_header(header)
        .write(&mut bytes, b"data")
        .unwrap();
    bytes
}

pub(crate) fn echo(src: [u8; 4], dst: [u8; 4], id: u16, reply: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = PacketBuilder::ipv4(src, dst, 64);
    let builder = if reply {
        builder.icmpv4_echo_reply(id, 1)
    } else {
        builder.icmpv4_echo_request(id, 1)
    };
    builder.write(&mut bytes, b"abcdefgh").unwrap();
    bytes
}

/// An SCTP packet of these chunks, with its CRC32c.
pub(crate) fn sctp(src: Endpoint, dst: Endpoint, tag: u32, chunks: &[&[u8]]) -> Vec<u8> {
    let mut payload = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
    payload.extend(tag.to_be_bytes());
    payload.extend([0; 4]);
    payload.extend(chunks.concat());
    let sum = crc32c(&payload);
    payload[8..12].copy_from_slice(&sum.to_le_bytes());
    raw(protocol::SCTP, src.0, dst.0, &payload)
}

/// The checksum of RFC 9260 appendix A, bit by bit.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc));
    !bytes.iter().fold(u32::MAX, byte)
}

/// A packet of any protocol.
pub(crate) fn raw(number: u8, src: [u8; 4], dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let header = crate::wire::Ipv4Header {
        payload_len: u16::try_from(payload.len()).unwrap(),
        dont_fragment: true,
        protocol: number,
        src: src.into(),
        dst: dst.into(),
        ..crate::wire::Ipv4Header::default()
    };
    [&header.to_bytes(), payload].concat()
}

/// An ICMP error that quotes the first `quoted` bytes of a packet.
pub(crate) fn error(
    src: [u8; 4],
    dst: [u8; 4],
    kind: u8,
    code: u8,
    packet: &[u8],
    quoted: usize,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(src, dst, 64)
        .icmpv4_raw(kind, code, [0; 4])
        .write(&mut bytes, &packet[..quoted.min(packet.len())])
        .unwrap();
    bytes
}

/// Where a packet comes from and goes to, by etherparse.
pub(crate) fn ends(bytes: &[u8]) -> (Endpoint, Endpoint) {
    let ip = Ipv4HeaderSlice::from_slice(bytes).unwrap();
    let payload = &bytes[ip.slice().len()..];
    let word = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
    let (src, dst) = match ip.protocol() {
        IpNumber::ICMP => (word(4), word(4)),
        IpNumber::TCP | IpNumber::UDP | IpNumber::SCTP => (word(0), word(2)),
        _ => (0, 0),
    };
    ((ip.source(), src), (ip.destination(), dst))
}

/// Fails unless every checksum of a whole packet is right, by etherparse's own arithmetic.
pub(crate) fn assert_sums(bytes: &[u8]) {
    let ip = Ipv4HeaderSlice::from_slice(bytes).unwrap();
    assert_eq!(
        ip.header_checksum(),
        ip.to_header().calc_header_checksum(),
        "IPv4 header"
    );
    let payload = &bytes[ip.slice().len()..usize::from(ip.total_len())];
    match ip.protocol() {
        IpNumber::TCP => {
            let tcp = TcpHeaderSlice::from_slice(payload).unwrap();
            let data = &payload[tcp.slice().len()..];
            let expected = tcp.calc_checksum_ipv4(&ip, data).unwrap();
            assert_eq!(tcp.checksum(), expected, "TCP");
        }
        IpNumber::UDP => {
            let udp = UdpHeaderSlice::from_slice(payload).unwrap();
            let header = udp.to_header();
            let expected = header
                .calc_checksum_ipv4(&ip.to_header(), &payload[8..])
                .unwrap();
            assert_eq!(udp.checksum(), expected, "UDP");
        }
        IpNumber::SCTP => {
            let mut payload = payload.to_vec();
            let field = payload[8..12].to_vec();
            payload[8..12].fill(0);
            assert_eq!(field, crc32c(&payload).to_le_bytes(), "SCTP");
        }
        IpNumber::ICMP => assert_eq!(checksum::finish(checksum::sum(payload)), 0, "ICMP"),
        // Protocols without ports carry what they like.
        _ => {}
    }
}

/// Turns a complete transport checksum into what a sender with checksum offload leaves.
pub(crate) fn make_partial(bytes: &mut [u8]) {
    let (ip, at) = sum_field(bytes);
    let field = checksum::fold(ip);
    bytes[at..at + 2].copy_from_slice(&field.to_be_bytes());
}

/// Does what the device or the receiver's kernel does with a NEEDS_CSUM frame: sums from
/// csum_start on, the field included, and writes the complement.
pub(crate) fn complete(bytes: &mut [u8]) {
    let (_, at) = sum_field(bytes);
    let (header_len, total_len) = {
        let ip = Ipv4::parse(&*bytes).unwrap();
        (ip.header_len(), ip.total_len())
    };
    let field = checksum::finish_udp(checksum::sum(&bytes[header_len..total_len]));
    bytes[at..at + 2].copy_from_slice(&field.to_be_bytes());
}

fn sum_field(bytes: &[u8]) -> (u32, usize) {
    let ip = Ipv4::parse(bytes).unwrap();
    let length = u16::try_from(ip.payload().len()).unwrap();
    let offset = if ip.protocol() == protocol::TCP {
        16
    } else {
        6
    };
    (
        checksum::pseudo_v4(ip.src(), ip.dst(), ip.protocol(), length),
        ip.header_len() + offset,
    )
}

/// One engine under test; after each call the counters must tell the fate just returned.
pub(crate) struct Bench {
    pub(crate) nat: Nat,
    pub(crate) now: Nanos,
}

impl Bench {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            nat: Nat::new(config, 7),
            now: secs(1_000),
        }
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now += secs(seconds);
        self.nat.expire(self.now, 10_000);
    }

    fn call(
        &mut self,
        bytes: &[u8],
        door: fn(&mut Nat, &mut Packet<'_>, Nanos) -> Outcome,
    ) -> (Outcome, Vec<u8>) {
        let before = self.nat.counters().clone();
        let mut bytes = bytes.to_vec();
        let untouched = bytes.clone();
        let mut packet = Packet {
            bytes: &mut bytes,
            l4_sum: L4Sum::Full,
        };
        let outcome = door(&mut self.nat, &mut packet, self.now);
        let after = self.nat.counters();
        let fates = |counters: &crate::Counters| {
            counters.translated_outbound
                + counters.translated_inbound
                + counters.hairpinned
                + counters.elsewhere
                + counters.not_ours
                + counters.held
                + counters.dropped_total()
        };
        assert_eq!(fates(after), fates(&before) + 1, "one packet, one fate");
        match outcome {
            Outcome::Drop(reason) => {
                assert_eq!(after.dropped(reason), before.dropped(reason) + 1);
            }
            Outcome::NotOurs | Outcome::Elsewhere { .. } | Outcome::Held => {
                assert_eq!(bytes, untouched, "{outcome:?} leaves the bytes alone");
            }
            Outcome::Translated | Outcome::Hairpin { .. } => {
                let ip = Ipv4::parse(&bytes).unwrap();
                assert!(ip.verify_checksum(), "IPv4 header checksum");
                if !ip.is_fragment() {
                    assert_sums(&bytes);
                }
            }
        }
        (outcome, bytes)
    }

    pub(crate) fn out(&mut self, bytes: &[u8]) -> (Outcome, Vec<u8>) {
        self.call(bytes, Nat::outbound)
    }

    pub(crate) fn inn(&mut self, bytes: &[u8]) -> (Outcome, Vec<u8>) {
        self.call(bytes, Nat::inbound)
    }

    pub(crate) fn pin(&mut self, bytes: &[u8]) -> (Outcome, Vec<u8>) {
        self.call(bytes, Nat::hairpin)
    }

    /// Sends from inside, expects a translation and returns the external endpoint.
    pub(crate) fn map(&mut self, bytes: &[u8]) -> Endpoint {
        let (outcome, bytes) = self.out(bytes);
        assert_eq!(outcome, Outcome::Translated);
        ends(&bytes).0
    }

    /// Sends from inside; returns the reason of the drop.
    pub(crate) fn out_drop(&mut self, bytes: &[u8]) -> Reason {
        drop_of(self.out(bytes).0)
    }

    /// Sends from outside; returns the reason of the drop.
    pub(crate) fn in_drop(&mut self, bytes: &[u8]) -> Reason {
        drop_of(self.inn(bytes).0)
    }

    /// Sends from outside, expects a delivery and returns the inside endpoint.
    pub(crate) fn deliver(&mut self, bytes: &[u8]) -> Endpoint {
        let (outcome, bytes) = self.inn(bytes);
        assert_eq!(outcome, Outcome::Translated);
        ends(&bytes).1
    }

    pub(crate) fn states(&self) -> Vec<&'static str> {
        self.nat.sessions().map(|session| session.state).collect()
    }
}

fn drop_of(outcome: Outcome) -> Reason {
    match outcome {
        Outcome::Drop(reason) => reason,
        Outcome::Translated
        | Outcome::Hairpin { .. }
        | Outcome::Elsewhere { .. }
        | Outcome::Held
        | Outcome::NotOurs => panic!("not dropped but {outcome:?}"),
    }
}

#[test]
fn refuses_impossible_configurations() {
    let with = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    assert!(with(|c| c.ports = 0..=10).contains("port"));
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "an empty range is the case under test"
    )]
    let empty = with(|c| c.ports = 9..=8);
    assert!(empty.contains("port"));
    assert!(with(|c| c.slice = 1).contains("slice"));
    assert!(with(|c| c.slices = 20_000).contains("slice"));
    assert!(with(|c| c.sessions_max = 0).contains("sessions"));
    assert!(with(|c| c.fragments.per_datagram_max = 65).contains("fragment"));
    assert!(with(|c| c.pool = vec![O1.into(), O1.into()]).contains("external"));
    assert!(with(|c| c.pool = vec![EXT.into()]).contains("external"));
    assert!(with(|c| c.pool = (0..256).map(Ipv4Addr::from_bits).collect()).contains("256"));
    assert_eq!(config().validate(), Ok(()));
}

#[test]
fn a4_11_new_external_address_flushes() {
    let mut bench = Bench::new(config());
    bench.map(&udp((C1, 5_555), (O1, 53)));
    bench.nat.set_external(EXT.into());
    assert_eq!(bench.nat.len(), 1, "the same address changes nothing");
    bench.nat.set_external(Ipv4Addr::new(203, 0, 113, 9));
    assert_eq!(
        (bench.nat.len(), bench.nat.ports_used(crate::Protocol::Udp)),
        (0, 0)
    );
    assert_eq!(bench.map(&udp((C1, 5_555), (O1, 53))).0, [203, 0, 113, 9]);
}
