//! What the translation leaves as it is: A2-8, A2-14, A3-10; and what moves no timer or state:
//! A2-16, F-10.

use super::*;
use crate::{Filtering, Protocol};

const ACK: TcpFlags = TcpFlags::ACK;
const SYN: TcpFlags = TcpFlags::SYN;
const RST: TcpFlags = TcpFlags::RST;
const CLIENT: Endpoint = (C1, 5_555);
const SERVER: Endpoint = (O1, 80);

/// A segment in every field of which something unusual stands.
fn unusual(src: Endpoint, dst: Endpoint, seq: u32, ack: u32) -> Vec<u8> {
    let mut tcp = etherparse::TcpHeader::new(src.1, dst.1, seq, 7);
    tcp.acknowledgment_number = ack;
    (tcp.ack, tcp.psh, tcp.urg) = (true, true, true);
    (tcp.ece, tcp.cwr, tcp.ns) = (true, true, true);
    tcp.urgent_pointer = 3;
    // Timestamps, an option of an unknown kind, and TCP-AO's kind.
    let options = [
        8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 77, 3, 9, 1, 1, 29, 4, 1, 1, 0,
    ];
    tcp.set_options_raw(&options).unwrap();
    // ECN's CE and a DSCP; router alert and a no-operation.
    let mut ip = etherparse::Ipv4Header::new(0, 33, IpNumber::TCP, src.0, dst.0).unwrap();
    (ip.dscp, ip.ecn) = (46.try_into().unwrap(), 3.try_into().unwrap());
    ip.identification = 0x1234;
    ip.options = etherparse::Ipv4Options::try_from(&[148u8, 4, 0, 0, 1, 1, 1, 0][..]).unwrap();
    let headers = etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default());
    let mut bytes = Vec::new();
    PacketBuilder::ip(headers)
        .tcp_header(tcp)
        .write(&mut bytes, b"\0payload\xff")
        .unwrap();
    bytes
}

/// Where two packets differ.
fn differences(a: &[u8], b: &[u8]) -> Vec<usize> {
    assert_eq!(a.len(), b.len());
    (0..a.len()).filter(|&at| a[at] != b[at]).collect()
}

#[test]
fn a2_14_all_but_addresses_ports_and_sums_is_untouched() {
    let mut bench = Bench::new(config());
    let ext = bench.map(&tcp(CLIENT, SERVER, SYN));
    bench.deliver(&tcp(SERVER, ext, SYN | ACK));
    let transport = 28;
    let sum = transport + 16..transport + 18;
    for (inbound, address, port) in [(false, 12..16, 0..2), (true, 16..20, 2..4)] {
        let (packet, (outcome, sent)) = if inbound {
            let packet = unusual(SERVER, ext, 70, 80);
            (packet.clone(), bench.inn(&packet))
        } else {
            let packet = unusual(CLIENT, SERVER, 80, 70);
            (packet.clone(), bench.out(&packet))
        };
        assert_eq!(outcome, Outcome::Translated);
        assert_sums(&sent);
        // The TTL is the router's: the caller's.
        for at in differences(&packet, &sent) {
            let port = port.start + transport..port.end + transport;
            let known = [10..12, address.clone(), port, sum.clone()];
            assert!(known.iter().any(|range| range.contains(&at)), "byte {at}");
        }
    }
}

#[test]
fn a3_10_options_of_ipv4_are_skipped_and_kept() {
    let mut bench = Bench::new(config());
    let packet = unusual(CLIENT, SERVER, 80, 70);
    let (outcome, sent) = bench.out(&packet);
    assert_eq!(outcome, Outcome::Translated);
    let (before, after) = (Ipv4::parse(&packet).unwrap(), Ipv4::parse(&sent).unwrap());
    assert_eq!(
        (after.header_len(), after.options()),
        (28, before.options())
    );
    // Fifteen words, the most there can be: all of them options of no effect.
    let mut longest = udp(CLIENT, SERVER);
    longest.splice(20..20, [1; 40]);
    longest[0] = 0x4f;
    longest[3] += 40;
    Ipv4::parse(&mut longest[..]).unwrap().fill_checksum();
    let (outcome, sent) = bench.out(&longest);
    assert_eq!(outcome, Outcome::Translated);
    let ip = Ipv4::parse(&sent).unwrap();
    let udp = crate::wire::Udp::parse(ip.payload()).unwrap();
    assert_eq!((ip.options(), udp.dst_port()), (&[1u8; 40][..], 80));
    // A header that claims more than there is has no ports.
    longest.truncate(48);
    longest[3] = 48;
    assert_eq!(bench.out_drop(&longest), Reason::Malformed);
}

#[test]
fn a2_8_no_window_is_tracked() {
    let mut bench = Bench::new(config());
    let ext = bench.map(&tcp(CLIENT, SERVER, SYN));
    bench.deliver(&tcp(SERVER, ext, SYN | ACK));
    bench.map(&tcp(CLIENT, SERVER, ACK));
    // Old, far ahead, acknowledging what was never sent: the receiver knows better.
    for (seq, ack) in [(0, 0), (1, u32::MAX), (u32::MAX, 1), (1 << 31, 1 << 31)] {
        bench.map(&unusual(CLIENT, SERVER, seq, ack));
        assert_eq!(bench.deliver(&unusual(SERVER, ext, seq, ack)), CLIENT);
        assert_eq!(bench.states(), ["ESTABLISHED"]);
    }
    // A SYN and a SYN-ACK once more, as after lost packets, and the challenge they get.
    for flags in [SYN, SYN | ACK] {
        assert_eq!(bench.deliver(&tcp(SERVER, ext, flags)), CLIENT);
        bench.map(&tcp(CLIENT, SERVER, ACK));
    }
    assert_eq!(bench.states(), ["ESTABLISHED"]);
    assert_eq!(bench.nat.counters().dropped_total(), 0);
}

/// RFC 7857 section 7.1: what an inside host answers to strangers holds no mapping for them.
#[test]
fn a2_16_a_rst_in_answer_does_not_refresh_the_mapping() {
    let mut bench = Bench::new(Config {
        tcp_filtering: Filtering::Eif,
        ..config()
    });
    let ext = bench.map(&tcp(CLIENT, SERVER, SYN));
    for n in 0..23 {
        bench.wait(10);
        let stranger = (O2, 1_000 + n);
        assert_eq!(bench.deliver(&tcp(stranger, ext, SYN)), CLIENT);
        bench.map(&tcp(CLIENT, stranger, RST | ACK));
    }
    bench.wait(11);
    assert_eq!(bench.nat.ports_used(Protocol::Tcp), 0);
    assert_eq!(bench.nat.len(), 0);
}

#[test]
fn a2_16_an_error_in_answer_does_not_refresh_the_mapping() {
    let mut bench = Bench::new(Config {
        udp_filtering: Filtering::Eif,
        ..config()
    });
    let ext = bench.map(&udp(CLIENT, (O1, 9)));
    for n in 0..29 {
        bench.wait(10);
        let (outcome, delivered) = bench.inn(&udp((O2, 1_000 + n), ext));
        assert_eq!(outcome, Outcome::Translated);
        bench.map(&error(C1, O2, 3, 3, &delivered, 28));
    }
    bench.wait(11);
    assert_eq!(bench.nat.ports_used(Protocol::Udp), 0);
}

/// A FIN or RST that was forged, with whatever numbers, passes: its receiver knows better. The
/// session outlives it by 240 s, and its own segments bring it back.
#[test]
fn f_10_injected_fins_and_rsts_end_no_session() {
    for flags in [RST, RST | ACK, TcpFlags::FIN | ACK] {
        let mut bench = Bench::new(config());
        let ext = bench.map(&tcp(CLIENT, SERVER, SYN));
        bench.deliver(&tcp(SERVER, ext, SYN | ACK));
        bench.map(&tcp(CLIENT, SERVER, ACK));
        // From an address that is not the server's it does not even come in.
        assert_eq!(
            bench.in_drop(&tcp((O2, 80), ext, flags)),
            Reason::Unsolicited
        );
        assert_eq!(bench.states(), ["ESTABLISHED"]);
        assert_eq!(bench.deliver(&tcp(SERVER, ext, flags)), CLIENT);
        bench.wait(239);
        for _ in 0..3 {
            assert_eq!(bench.map(&tcp(CLIENT, SERVER, ACK)), ext);
            assert_eq!(bench.deliver(&tcp(SERVER, ext, ACK)), CLIENT);
            bench.wait(200);
        }
        assert_eq!(bench.nat.counters().sessions_created, 1);
    }
}
