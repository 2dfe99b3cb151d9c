//! Exchanges whose every byte is checked.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::thread;
use std::time::Duration;

use vswitch_cli::lab::Host;
use vswitch_cli::lab::traffic::tcp::{self, Amount, BulkReport, Pattern};
use vswitch_cli::lab::traffic::udp::{self, EchoServer};

use super::world::{PATIENCE, SECOND};

pub(super) const ANY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);
/// Payloads of datagrams: empty, odd, a full frame, one byte more, fragments, the largest.
pub(super) const SIZES: [usize; 9] = [0, 1, 18, 100, 1471, 1472, 1473, 9001, udp::LARGEST];

/// Sends `bytes` from `client` to a server in `server` at `ip`, and as much back over another
/// connection; the larger of both reports' addresses tells where the client was seen from.
pub(super) fn tcp_both_ways(client: &Host, server: &Host, ip: Ipv4Addr, bytes: u64) -> SocketAddr {
    let up = upload(client, server, ip, Amount::Bytes(bytes));
    let down = download(client, server, ip, Amount::Bytes(bytes));
    assert_eq!((up.bytes, down.bytes), (bytes, bytes));
    up.seen_from
}

/// From `client` to `server`.
pub(super) fn upload(client: &Host, server: &Host, ip: Ipv4Addr, amount: Amount) -> BulkReport {
    let listener = tcp::listen(server, ANY).unwrap();
    let port = listener.local_addr().unwrap().port();
    tcp::bulk(client, (ip, port), &listener, amount, u64::from(port)).unwrap()
}

/// From `server` to `client`, which opens the connection.
pub(super) fn download(client: &Host, server: &Host, ip: Ipv4Addr, amount: Amount) -> BulkReport {
    let listener = tcp::listen(server, ANY).unwrap();
    let port = listener.local_addr().unwrap().port();
    let pattern = Pattern::new(u64::from(port) + 1);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let (stream, _) = tcp::accept(&listener, PATIENCE).unwrap();
            tcp::send(&stream, &pattern, amount).unwrap()
        });
        let stream = tcp::connect(client, (ip, port)).unwrap();
        let local = stream.local_addr().unwrap();
        let report = tcp::receive(stream, &pattern, local).unwrap();
        assert_eq!(sender.join().unwrap(), report.bytes);
        report
    })
}

/// Sends datagrams of every size from `client` to `server` at `ip` and back; the address the
/// server saw is where the echo goes, so a right echo proves the translation both ways.
pub(super) fn udp_echo(client: &Host, server: &Host, ip: Ipv4Addr) {
    let echo = EchoServer::start(server, (ip, 0)).unwrap();
    let to = echo.address();
    let socket = udp::bind(client, ANY).unwrap();
    for (seed, size) in (0..).zip(SIZES) {
        let pattern = Pattern::new(seed);
        let payload = pattern.at(0, size.max(1))[..size].to_vec();
        // A first datagram may teach the sender's kernel the path's MTU, and die of it.
        let exchange = || udp::exchange(&socket, to, &payload, SECOND).unwrap();
        let back = exchange().or_else(exchange);
        let (back, from) = back.unwrap_or_else(|| panic!("no echo of {size} bytes from {to}"));
        assert_eq!(from, to);
        assert!(
            back == payload,
            "{size} bytes came back as {} others",
            back.len()
        );
    }
}

/// Sends 20 datagrams of 1,000 bytes by one call (`UDP_SEGMENT`); each must arrive alone, whole
/// and in order, and an answer must find its way back.
pub(super) fn udp_segmented(client: &Host, server: &Host, ip: Ipv4Addr) {
    let sink = udp::bind(server, (ip, 0)).unwrap();
    let to = sink.local_addr().unwrap();
    let socket = udp::bind(client, ANY).unwrap();
    let pattern = Pattern::new(77);
    let payload = pattern.at(0, 20_000).to_vec();
    udp::send_segmented(&socket, to, &payload, 1000).unwrap();
    let mut seen = None;
    for (number, expected) in payload.chunks(1000).enumerate() {
        let (segment, from) = udp::recv(&sink, 2 * SECOND)
            .unwrap()
            .unwrap_or_else(|| panic!("datagram {number} of 20 is missing at {to}"));
        assert!(segment == expected, "datagram {number} is wrong");
        seen = Some(from);
    }
    assert_eq!(udp::recv(&sink, Duration::from_millis(20)).unwrap(), None);
    sink.send_to(b"back", seen.unwrap()).unwrap();
    let (back, from) = udp::recv(&socket, 2 * SECOND).unwrap().expect("an answer");
    assert_eq!((&back[..], from), (&b"back"[..], to));
}

/// TCP, UDP and segmented UDP, both ways.
pub(super) fn everything(client: &Host, server: &Host, ip: Ipv4Addr, bytes: u64) {
    tcp_both_ways(client, server, ip, bytes);
    udp_echo(client, server, ip);
    udp_segmented(client, server, ip);
}
