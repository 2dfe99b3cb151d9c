//! A5-5: FTP and TFTP, helped through.

use super::*;
use crate::wire::Tcp;
use crate::{Helpers, Protocol};

const CLIENT: Endpoint = (C1, 41_000);
const SERVER: Endpoint = (O1, 21);
const ACK: TcpFlags = TcpFlags::ACK;
const SYN: TcpFlags = TcpFlags::SYN;
const PORT: &[u8] = b"PORT 10,9,0,2,200,13\r\n";

fn helped() -> Bench {
    let helpers = Helpers {
        ftp: true,
        tftp: true,
    };
    Bench::new(Config {
        helpers,
        ..config()
    })
}

/// A segment with this sequence and acknowledgement number.
fn segment(src: Endpoint, dst: Endpoint, seq: u32, ack: u32, data: &[u8]) -> Vec<u8> {
    let mut header = etherparse::TcpHeader::new(src.1, dst.1, seq, 1_024);
    header.ack = true;
    header.acknowledgment_number = ack;
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(src.0, dst.0, 64)
        .tcp_header(header)
        .write(&mut bytes, data)
        .unwrap();
    bytes
}

fn numbers(bytes: &[u8]) -> (u32, u32) {
    let ip = Ipv4::parse(bytes).unwrap();
    let tcp = Tcp::parse(ip.payload()).unwrap();
    (tcp.sequence(), tcp.acknowledgement())
}

fn data_of(bytes: &[u8]) -> String {
    let ip = Ipv4::parse(bytes).unwrap();
    let tcp = Tcp::parse(ip.payload()).unwrap();
    String::from_utf8(ip.payload()[tcp.header_len()..].to_vec()).unwrap()
}

fn control(bench: &mut Bench) -> Endpoint {
    let ext = bench.map(&tcp(CLIENT, SERVER, SYN));
    bench.deliver(&tcp(SERVER, ext, SYN | ACK));
    bench.map(&tcp(CLIENT, SERVER, ACK));
    ext
}

/// Sends a segment that is replaced by a released copy, and returns that.
fn replaced(bench: &mut Bench, bytes: &[u8]) -> Vec<u8> {
    assert_eq!(bench.out(bytes).0, Outcome::Held);
    let copy = bench.nat.released().unwrap();
    assert_eq!(
        (copy.outcome, copy.l4_sum),
        (Outcome::Translated, L4Sum::Full)
    );
    assert!(bench.nat.released().is_none());
    assert_sums(&copy.bytes);
    copy.bytes
}

/// The endpoint that a PORT command tells.
fn told(data: &str) -> Endpoint {
    let text = data.strip_prefix("PORT ").unwrap().trim_end();
    let n: Vec<u8> = text.split(',').map(|part| part.parse().unwrap()).collect();
    ([n[0], n[1], n[2], n[3]], u16::from_be_bytes([n[4], n[5]]))
}

#[test]
fn a5_5_ftp_active_transfer() {
    let mut bench = helped();
    control(&mut bench);
    let sent = replaced(&mut bench, &segment(CLIENT, SERVER, 1_000, 1, PORT));
    let data = told(&data_of(&sent));
    assert_eq!((ends(&sent).0, data.0), ((EXT, 41_000), EXT));
    // The server comes from port 20, or from any; once, and nobody else does.
    let stranger = tcp((O2, 20), data, SYN);
    assert_eq!(bench.in_drop(&stranger), Reason::Unsolicited);
    let not_a_syn = tcp((O1, 20), data, ACK);
    assert_eq!(bench.in_drop(&not_a_syn), Reason::Unsolicited);
    let connection = tcp((O1, 12_345), data, SYN);
    assert_eq!(bench.deliver(&connection), (C1, 51_213));
    let second = tcp((O1, 12_346), data, SYN);
    assert_eq!(bench.in_drop(&second), Reason::Unsolicited);
    assert_eq!(bench.map(&tcp((C1, 51_213), (O1, 12_345), SYN | ACK)), data);
    assert_eq!(bench.deliver(&tcp((O1, 12_345), data, ACK)), (C1, 51_213));
    assert_eq!(bench.nat.counters().helped, 1);
    // With its end the mapping goes.
    bench.wait(7_441);
    assert_eq!(bench.nat.ports_used(Protocol::Tcp), 0);
}

#[test]
fn a5_5_ftp_numbers_are_shifted_both_ways() {
    let mut bench = helped();
    let ext = control(&mut bench);
    let old = u32::try_from(PORT.len()).unwrap();
    let mut seq = u32::MAX - 30;
    let mut shift = 0;
    for _ in 0..3 {
        let command = segment(CLIENT, SERVER, seq, 1, PORT);
        let sent = replaced(&mut bench, &command);
        let new = u32::try_from(data_of(&sent).len()).unwrap();
        assert_eq!(numbers(&sent).0, seq.wrapping_add(shift));
        // Sent again it is the same, and shifts nothing further.
        assert_eq!(replaced(&mut bench, &command)[20..], sent[20..]);
        let end = seq.wrapping_add(shift).wrapping_add(new);
        shift = shift.wrapping_add(new).wrapping_sub(old);
        let after = seq.wrapping_add(old);
        let (outcome, next) = bench.out(&segment(CLIENT, SERVER, after, 1, b"RETR f\r\n"));
        assert_eq!((outcome, numbers(&next).0), (Outcome::Translated, end));
        for (theirs, ours) in [(end, after), (end.wrapping_add(8), after.wrapping_add(8))] {
            let (outcome, reply) = bench.inn(&segment(SERVER, ext, 1, theirs, b"150 ok\r\n"));
            assert_eq!((outcome, numbers(&reply)), (Outcome::Translated, (1, ours)));
        }
        seq = after.wrapping_add(8);
    }
    // A new connection on the same ports begins without.
    let mut syn = tcp(CLIENT, SERVER, SYN);
    bench.map(&tcp(CLIENT, SERVER, TcpFlags::RST));
    assert_eq!(numbers(&bench.out(&syn).1), numbers(&syn));
    syn[24..28].copy_from_slice(&[0; 4]);
    assert_eq!(bench.nat.len(), 1);
    let (_, plain) = bench.out(&segment(CLIENT, SERVER, 5_000, 1, b"NOOP\r\n"));
    assert_eq!(numbers(&plain).0, 5_000);
}

#[test]
fn a5_5_ftp_selective_acknowledgements_too() {
    let mut bench = helped();
    let ext = control(&mut bench);
    let sent = replaced(&mut bench, &segment(CLIENT, SERVER, 1_000, 1, PORT));
    let shift = u32::try_from(data_of(&sent).len() - PORT.len()).unwrap();
    let after = 1_000 + u32::try_from(PORT.len()).unwrap();
    // One block that an even, and one that an odd number of bytes precedes.
    for nops in [2, 1] {
        let mut options = vec![1u8; nops];
        options.extend([5, 10]);
        for edge in [after + 10, after + 20] {
            options.extend((edge + shift).to_be_bytes());
        }
        let mut header = etherparse::TcpHeader::new(SERVER.1, ext.1, 1, 1_024);
        header.ack = true;
        header.acknowledgment_number = after + shift;
        header.set_options_raw(&options).unwrap();
        let mut bytes = Vec::new();
        PacketBuilder::ipv4(SERVER.0, ext.0, 64)
            .tcp_header(header)
            .write(&mut bytes, b"")
            .unwrap();
        let (outcome, delivered) = bench.inn(&bytes);
        assert_eq!(outcome, Outcome::Translated);
        assert_eq!(numbers(&delivered).1, after);
        let at = 40 + nops + 2;
        assert_eq!(delivered[at..at + 4], (after + 10).to_be_bytes());
        assert_eq!(delivered[at + 4..at + 8], (after + 20).to_be_bytes());
    }
}

#[test]
fn a5_5_ftp_extended_and_unfinished_checksums() {
    let mut bench = helped();
    control(&mut bench);
    let mut command = segment(CLIENT, SERVER, 1_000, 1, b"EPRT |1|10.9.0.2|51213|\r\n");
    make_partial(&mut command);
    let mut packet = Packet {
        bytes: &mut command,
        l4_sum: L4Sum::Pseudo,
    };
    assert_eq!(bench.nat.outbound(&mut packet, bench.now), Outcome::Held);
    let copy = bench.nat.released().unwrap();
    assert_sums(&copy.bytes);
    let ports = bench.nat.sessions().count();
    assert_eq!((ports, bench.nat.ports_used(Protocol::Tcp)), (1, 2));
    let data = data_of(&copy.bytes);
    assert!(data.starts_with("EPRT |1|203.0.113.254|4") && data.ends_with("|\r\n"));
    // Later segments, unfinished too.
    let mut next = segment(CLIENT, SERVER, 1_025, 1, b"NOOP\r\n");
    make_partial(&mut next);
    let mut packet = Packet {
        bytes: &mut next,
        l4_sum: L4Sum::Pseudo,
    };
    assert_eq!(
        bench.nat.outbound(&mut packet, bench.now),
        Outcome::Translated
    );
    complete(&mut next);
    assert_sums(&next);
    let grown = u32::try_from(data.len()).unwrap();
    assert_eq!(numbers(&next).0, 1_000 + grown);
}

#[test]
fn a5_5_ftp_passes_what_it_cannot_help() {
    let mut bench = helped();
    control(&mut bench);
    for data in [
        &b"PORT 10,9,0,2,200,1"[..],
        // Another host's address, and a service's port.
        b"PORT 10,9,0,3,200,13\r\n",
        b"PORT 10,9,0,2,0,22\r\n",
    ] {
        let before = bench.nat.counters().unhelped;
        let (outcome, sent) = bench.out(&segment(CLIENT, SERVER, 1_000, 1, data));
        assert_eq!(
            (outcome, data_of(&sent).as_bytes()),
            (Outcome::Translated, data)
        );
        assert_eq!(bench.nat.counters().unhelped, before + 1);
    }
    // A damaged one stays damaged.
    let mut damaged = segment(CLIENT, SERVER, 1_000, 1, PORT);
    damaged[45] ^= 1;
    let mut packet = Packet {
        bytes: &mut damaged,
        l4_sum: L4Sum::Full,
    };
    assert_eq!(
        bench.nat.outbound(&mut packet, bench.now),
        Outcome::Translated
    );
    // One that would no longer fit each link.
    let long = [PORT, &[b' '; 520]].concat();
    bench.map(&segment(CLIENT, SERVER, 1_000, 1, &long));
    assert_eq!(bench.nat.counters().unhelped, 5);
    // Passive mode needs nothing, and other ports are not FTP's.
    bench.map(&segment(CLIENT, SERVER, 1_000, 1, b"PASV\r\n"));
    bench.map(&segment(CLIENT, (O1, 2_121), 1_000, 1, PORT));
    let counters = bench.nat.counters();
    assert_eq!((counters.helped, counters.unhelped), (0, 5));
    bench.wait(61);
    assert_eq!(bench.nat.ports_used(Protocol::Tcp), 1);
}

#[test]
fn a1_10_a5_5_ftp_is_off_unless_asked_for() {
    let mut bench = Bench::new(config());
    control(&mut bench);
    let (outcome, sent) = bench.out(&segment(CLIENT, SERVER, 1_000, 1, PORT));
    assert_eq!(
        (outcome, data_of(&sent).as_bytes()),
        (Outcome::Translated, PORT)
    );
    assert_eq!(bench.nat.ports_used(Protocol::Tcp), 1);
}

#[test]
fn a5_5_ftp_server_inside() {
    let mut bench = Bench::new(Config {
        helpers: Helpers {
            ftp: true,
            tftp: false,
        },
        tcp_filtering: crate::Filtering::Eif,
        ..config()
    });
    // Its port is open to the outside by a session of its own.
    let server = (C1, 21);
    let ext = bench.map(&tcp(server, (O2, 9), SYN));
    let client = (O1, 50_000);
    bench.deliver(&tcp(client, ext, SYN));
    bench.map(&tcp(server, client, SYN | ACK));
    bench.deliver(&tcp(client, ext, ACK));
    let reply = b"227 Entering Passive Mode (10,9,0,2,200,13)\r\n";
    let sent = replaced(&mut bench, &segment(server, client, 1_000, 1, reply));
    let text = data_of(&sent);
    assert!(text.starts_with("227 Entering Passive Mode (203,0,113,254,"));
    let reply = b"229 Entering Extended Passive Mode (|||51213|)\r\n";
    let at = 1_000 + 45;
    let sent = replaced(&mut bench, &segment(server, client, at, 1, reply));
    let text = data_of(&sent);
    let port: u16 = text.split('|').nth(3).unwrap().parse().unwrap();
    let data = (O1, 50_001);
    assert_eq!(bench.deliver(&tcp(data, (EXT, port), SYN)), (C1, 51_213));
}

#[test]
fn a5_5_an_expectation_ends_with_its_time_and_with_a_flush() {
    for flush in [false, true] {
        let mut bench = helped();
        control(&mut bench);
        let sent = replaced(&mut bench, &segment(CLIENT, SERVER, 1_000, 1, PORT));
        let data = told(&data_of(&sent));
        assert_eq!(bench.nat.ports_used(Protocol::Tcp), 2);
        if flush {
            bench.nat.flush();
            assert_eq!(bench.nat.ports_used(Protocol::Tcp), 0);
        } else {
            bench.now += secs(60);
        }
        let late = tcp((O1, 20), data, SYN);
        assert_eq!(bench.in_drop(&late), Reason::Unsolicited);
        bench.wait(1);
        assert!(bench.nat.ports_used(Protocol::Tcp) <= 1);
    }
}

#[test]
fn a5_5_tftp_answers_from_another_port() {
    for tftp in [true, false] {
        let mut bench = Bench::new(Config {
            helpers: Helpers { ftp: false, tftp },
            ..config()
        });
        let client = (C1, 2_000);
        let ext = bench.map(&udp(client, (O1, 69)));
        let answer = udp((O1, 3_456), ext);
        assert_eq!(bench.in_drop(&udp((O2, 3_456), ext)), Reason::Unsolicited);
        if !tftp {
            assert_eq!(bench.in_drop(&answer), Reason::Unsolicited);
            continue;
        }
        assert_eq!(bench.deliver(&answer), client);
        assert_eq!(bench.map(&udp(client, (O1, 3_456))), ext);
        assert_eq!(bench.deliver(&answer), client);
        // Once for each request.
        let second = udp((O1, 3_457), ext);
        assert_eq!(bench.in_drop(&second), Reason::Unsolicited);
        bench.map(&udp(client, (O1, 69)));
        assert_eq!(bench.deliver(&second), client);
        bench.map(&udp(client, (O1, 69)));
        bench.now += secs(60);
        let late = udp((O1, 3_458), ext);
        assert_eq!(bench.in_drop(&late), Reason::Unsolicited);
        bench.wait(400);
        assert_eq!(bench.nat.ports_used(Protocol::Udp), 0);
    }
}
