//! What is tried in both networks: TCP, and published ports.

use std::net::SocketAddrV4;

use vswitch_cli::lab::traffic::craft::tcp_flags::{ACK, FIN, PSH, RST, SYN};
use vswitch_cli::lab::traffic::craft::{self, Checksum, Segment};

use super::bed::Who::{A, B, X, Y};
use super::bed::{Bed, Who, at, ip, tcp, udp};

/// Initial sequence numbers of the end that connects and of the other one.
const ISS: u32 = 1000;
const IRS: u32 = 50_000;
/// Beyond any window here.
const FAR: u32 = 1 << 24;

/// A segment that opens a connection.
pub(super) fn syn(from: SocketAddrV4, to: SocketAddrV4) -> Segment {
    segment(from, to, SYN, ISS, 0)
}

fn segment(from: SocketAddrV4, to: SocketAddrV4, flags: u8, seq: u32, ack: u32) -> Segment {
    Segment {
        source: from,
        destination: to,
        seq,
        ack,
        flags,
        window: 8000,
    }
}

/// A connection from A to X.
#[derive(Clone, Copy)]
struct Connection {
    inside: SocketAddrV4,
    server: SocketAddrV4,
    external: SocketAddrV4,
}

impl Connection {
    /// From A, `ahead` of the next byte it would send.
    fn a_sends(&self, flags: u8, ahead: u32) -> Segment {
        segment(self.inside, self.server, flags, ISS + 1 + ahead, IRS + 1)
    }

    /// From X, `ahead` of the next byte it would send.
    fn x_sends(&self, flags: u8, ahead: u32) -> Segment {
        segment(self.server, self.external, flags, IRS + 1 + ahead, ISS + 1)
    }
}

/// A handshake, of which nothing is told.
fn connect(bed: &mut Bed) -> Connection {
    let (p, q) = (bed.port("p"), bed.port("q"));
    connect_from(bed, A, p, q)
}

fn connect_from(bed: &mut Bed, who: Who, p: u16, q: u16) -> Connection {
    let (inside, server) = (at(who, p), at(X, q));
    let heard = bed.send_untold(who, &[tcp(&syn(inside, server), b"")]);
    let (port, _) = heard.first().and_then(|(_, seen)| seen.ports()).unwrap();
    let external = SocketAddrV4::new(bed.ext, port);
    let answer = segment(server, external, SYN | ACK, IRS, ISS + 1);
    bed.send_untold(X, &[tcp(&answer, b"")]);
    let connection = Connection {
        inside,
        server,
        external,
    };
    bed.send_untold(who, &[tcp(&connection.a_sends(ACK, 0), b"")]);
    connection
}

pub(super) fn handshake(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let Some(external) = bed.tcp(&syn(at(A, p), at(X, q)), b"") else {
        return;
    };
    bed.tcp(&segment(at(X, q), external, SYN | ACK, IRS, ISS + 1), b"");
    bed.tcp(&segment(at(A, p), at(X, q), ACK, ISS + 1, IRS + 1), b"");
    bed.tcp(
        &segment(at(X, q), external, ACK | PSH, IRS + 1, ISS + 1),
        b"hello",
    );
}

pub(super) fn same_port_one_server(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    bed.tcp(&syn(at(A, p), at(X, q)), b"");
    bed.tcp(&syn(at(B, p), at(X, q)), b"");
}

pub(super) fn same_port_two_servers(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    bed.tcp(&syn(at(A, p), at(X, q)), b"");
    bed.tcp(&syn(at(B, p), at(Y, q)), b"");
}

pub(super) fn one_port_two_servers(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    bed.tcp(&syn(at(A, p), at(X, q)), b"");
    bed.tcp(&syn(at(A, p), at(Y, q)), b"");
}

pub(super) fn simultaneous_open(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let Some(external) = bed.tcp(&syn(at(A, p), at(X, q)), b"") else {
        return;
    };
    bed.tcp(&segment(at(X, q), external, SYN, IRS, 0), b"");
    bed.tcp(&segment(at(A, p), at(X, q), SYN | ACK, ISS, IRS + 1), b"");
    bed.tcp(&segment(at(X, q), external, SYN | ACK, IRS, ISS + 1), b"");
}

pub(super) fn syn_repeated(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    for _ in 0..2 {
        bed.tcp(&syn(at(A, p), at(X, q)), b"");
    }
}

pub(super) fn syn_with_data(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    bed.tcp(&syn(at(A, p), at(X, q)), b"early");
}

pub(super) fn unasked(bed: &mut Bed) {
    for flags in [SYN, SYN | ACK, ACK, FIN | ACK, RST] {
        let (p, q) = (bed.port("p"), bed.port("q"));
        let to = SocketAddrV4::new(bed.ext, p);
        bed.tcp(&segment(at(X, q), to, flags, IRS, ISS), b"");
    }
}

pub(super) fn unasked_syn_at_a_mapping(bed: &mut Bed) {
    let connection = connect(bed);
    let other = bed.port("other");
    bed.tcp(
        &segment(at(X, other), connection.external, SYN, IRS, 0),
        b"",
    );
}

pub(super) fn picked_up_in_mid_stream(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let ack = segment(at(A, p), at(X, q), ACK | PSH, 77_000, 88_000);
    if let Some(external) = bed.tcp(&ack, b"mid") {
        bed.tcp(&segment(at(X, q), external, ACK, 88_000, 77_003), b"");
    }
}

pub(super) fn forbidden_flags(bed: &mut Bed) {
    for flags in [0, SYN | FIN, SYN | RST, FIN, FIN | RST | ACK, 0x29] {
        let (p, q) = (bed.port("p"), bed.port("q"));
        bed.tcp(&segment(at(A, p), at(X, q), flags, ISS, 0), b"");
    }
}

pub(super) fn opened_by_something_else(bed: &mut Bed) {
    for flags in [SYN | ACK, FIN | ACK, RST] {
        let (p, q) = (bed.port("p"), bed.port("q"));
        bed.tcp(&segment(at(A, p), at(X, q), flags, ISS, IRS), b"");
    }
}

pub(super) fn data_beyond_the_window_out(bed: &mut Bed) {
    let connection = connect(bed);
    bed.tcp(&connection.a_sends(ACK | PSH, FAR), b"far");
}

pub(super) fn data_beyond_the_window_in(bed: &mut Bed) {
    let connection = connect(bed);
    bed.tcp(&connection.x_sends(ACK | PSH, FAR), b"far");
    bed.tcp(&connection.x_sends(ACK | PSH, 0), b"near");
}

pub(super) fn reset_exact(bed: &mut Bed) {
    let connection = connect(bed);
    bed.tcp(&connection.x_sends(RST | ACK, 0), b"");
}

pub(super) fn reset_in_window_then_data(bed: &mut Bed) {
    let connection = connect(bed);
    bed.tcp(&connection.x_sends(RST, 100), b"");
    bed.tcp(&connection.x_sends(ACK | PSH, 0), b"data");
    bed.tcp(&connection.a_sends(ACK, 0), b"");
}

pub(super) fn reset_beyond_the_window_then_data(bed: &mut Bed) {
    let connection = connect(bed);
    bed.tcp(&connection.x_sends(RST, FAR), b"");
    bed.tcp(&connection.x_sends(ACK | PSH, 0), b"data");
}

pub(super) fn reset_out_beyond_the_window(bed: &mut Bed) {
    let connection = connect(bed);
    bed.tcp(&connection.a_sends(RST, FAR), b"");
}

pub(super) fn wrong_sum(bed: &mut Bed) {
    let connection = connect(bed);
    let bytes = connection
        .a_sends(ACK | PSH, 0)
        .bytes(b"sum", Checksum::Exactly(0x1234));
    bed.send(A, &[ip(A.ip(), X.ip(), craft::TCP).packet(&bytes)]);
}

pub(super) fn closed_and_opened_again(bed: &mut Bed) {
    let connection = connect(bed);
    bed.send_untold(A, &[tcp(&connection.a_sends(FIN | ACK, 0), b"")]);
    let mut answer = connection.x_sends(FIN | ACK, 0);
    answer.ack += 1;
    bed.send_untold(X, &[tcp(&answer, b"")]);
    let mut last = connection.a_sends(ACK, 1);
    last.ack += 1;
    bed.send_untold(A, &[tcp(&last, b"")]);
    let mut again = syn(connection.inside, connection.server);
    again.seq += FAR;
    bed.tcp(&again, b"");
}

pub(super) fn hairpin(bed: &mut Bed) {
    let connection = connect(bed);
    let from = bed.port("b");
    bed.tcp(&syn(at(B, from), connection.external), b"");
}

// Published ports.

pub(super) fn published_tcp(bed: &mut Bed) {
    let q = bed.port("q");
    let (public, private) = (SocketAddrV4::new(bed.ext, 8080), at(A, 80));
    bed.tcp(&segment(at(X, q), public, SYN, IRS, 0), b"");
    bed.tcp(&segment(private, at(X, q), SYN | ACK, ISS, IRS + 1), b"");
    bed.tcp(
        &segment(at(X, q), public, ACK | PSH, IRS + 1, ISS + 1),
        b"GET",
    );
    bed.tcp(
        &segment(private, at(X, q), ACK | PSH, ISS + 1, IRS + 4),
        b"OK",
    );
}

pub(super) fn published_udp(bed: &mut Bed) {
    let q = bed.port("q");
    let public = SocketAddrV4::new(bed.ext, 8053);
    bed.udp(X, q, public);
    bed.udp(A, 53, at(X, q));
}

pub(super) fn published_refused(bed: &mut Bed) {
    let q = bed.port("q");
    let public = SocketAddrV4::new(bed.ext, 8080);
    bed.tcp(&segment(at(X, q), public, SYN, IRS, 0), b"");
    bed.tcp(&segment(at(A, 80), at(X, q), RST | ACK, 0, IRS + 1), b"");
}

pub(super) fn published_unreachable(bed: &mut Bed) {
    let q = bed.port("q");
    bed.udp(X, q, SocketAddrV4::new(bed.ext, 8053));
    let quoted = udp(at(X, q), at(A, 53), b"datagram");
    let message = craft::icmp(3, 3, &[], &quoted);
    bed.send(A, &[ip(A.ip(), X.ip(), craft::ICMP).packet(&message)]);
}

pub(super) fn published_from_another_container(bed: &mut Bed) {
    let p = bed.port("p");
    let seen = bed.udp(B, p, SocketAddrV4::new(bed.ext, 8053));
    if let Some(seen) = seen {
        bed.udp(A, 53, seen);
    }
}

pub(super) fn published_tcp_from_another_container(bed: &mut Bed) {
    let p = bed.port("p");
    let public = SocketAddrV4::new(bed.ext, 8080);
    let seen = bed.tcp(&segment(at(B, p), public, SYN, ISS, 0), b"");
    if let Some(seen) = seen {
        bed.tcp(&segment(at(A, 80), seen, SYN | ACK, IRS, ISS + 1), b"");
    }
}

pub(super) fn published_from_itself(bed: &mut Bed) {
    let p = bed.port("p");
    let seen = bed.udp(A, p, SocketAddrV4::new(bed.ext, 8053));
    if let Some(seen) = seen {
        bed.udp(A, 53, seen);
    }
}

pub(super) fn published_server_speaks_first(bed: &mut Bed) {
    let q = bed.port("q");
    bed.udp(A, 53, at(Y, q));
}

pub(super) fn published_in_fragments(bed: &mut Bed) {
    let q = bed.port("q");
    let public = SocketAddrV4::new(bed.ext, 8053);
    let pieces = super::scenarios::pieces(at(X, q), public);
    super::scenarios::in_pieces(bed, X, &pieces);
}

pub(super) fn published_syn_in_mid_stream(bed: &mut Bed) {
    let q = bed.port("q");
    let public = SocketAddrV4::new(bed.ext, 8080);
    bed.tcp(&segment(at(X, q), public, ACK | PSH, IRS, ISS), b"mid");
}
