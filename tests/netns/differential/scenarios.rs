//! What is tried in both networks: mappings, filters, ICMP, other protocols.

use std::net::{Ipv4Addr, SocketAddrV4};

use vswitch_cli::lab::traffic::craft::{self, Checksum, Seen};

use super::bed::Who::{A, B, X, Y};
use super::bed::{Bed, at, ip, udp};

/// A way out that has been used, so that errors and strangers can refer to it: A's port, X's port,
/// and A's port as X saw it.
pub(super) fn mapped(bed: &mut Bed) -> (u16, u16, SocketAddrV4) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let ext = bed.quiet_udp(A, p, at(X, q));
    (p, q, ext)
}

pub(super) fn udp_out_and_back(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    if let Some(ext) = bed.udp(A, p, at(X, q)) {
        bed.udp(X, q, ext);
    }
}

pub(super) fn udp_low_port(bed: &mut Bed) {
    bed.call(600, "600");
    let q = bed.port("q");
    bed.udp(A, 600, at(X, q));
}

pub(super) fn udp_two_servers(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    bed.udp(A, p, at(X, q));
    bed.udp(A, p, at(Y, q));
}

pub(super) fn udp_same_port_one_server(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    bed.udp(A, p, at(X, q));
    bed.udp(B, p, at(X, q));
}

pub(super) fn udp_same_port_two_servers(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    bed.udp(A, p, at(X, q));
    bed.udp(B, p, at(Y, q));
}

pub(super) fn udp_collided_two_servers(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    bed.quiet_udp(A, p, at(X, q));
    bed.udp(B, p, at(X, q));
    bed.udp(B, p, at(Y, q));
}

pub(super) fn udp_other_port_of_server(bed: &mut Bed) {
    let (_, _, ext) = mapped(bed);
    let other = bed.port("other");
    bed.udp(X, other, ext);
}

pub(super) fn udp_other_server(bed: &mut Bed) {
    let (_, q, ext) = mapped(bed);
    bed.udp(Y, q, ext);
}

pub(super) fn udp_unasked(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let to = SocketAddrV4::new(bed.ext, p);
    bed.udp(X, q, to);
}

pub(super) fn udp_hairpin(bed: &mut Bed) {
    let (_, _, ext) = mapped(bed);
    let from = bed.port("b");
    let (a, b) = (ext, bed.quiet_udp(B, from, at(X, 9)));
    bed.udp(B, from, a);
    let p = at(A, a.port());
    bed.udp(A, p.port(), b);
}

pub(super) fn udp_hairpin_to_oneself(bed: &mut Bed) {
    let (p, _, ext) = mapped(bed);
    bed.udp(A, p, ext);
}

pub(super) fn udp_no_sum(bed: &mut Bed) {
    let (p, q, ext) = mapped(bed);
    let none = |from: SocketAddrV4, to: SocketAddrV4| {
        let datagram = craft::udp(from, to, b"none", Checksum::Exactly(0));
        ip(*from.ip(), *to.ip(), craft::UDP).packet(&datagram)
    };
    bed.send(A, &[none(at(A, p), at(X, q))]);
    bed.send(X, &[none(at(X, q), ext)]);
}

pub(super) fn udp_wrong_sum(bed: &mut Bed) {
    let (p, q, _) = mapped(bed);
    let datagram = craft::udp(at(A, p), at(X, q), b"wrong", Checksum::Exactly(0x1234));
    bed.send(A, &[ip(A.ip(), X.ip(), craft::UDP).packet(&datagram)]);
}

pub(super) fn udp_wrong_sum_back(bed: &mut Bed) {
    let (_, q, ext) = mapped(bed);
    let datagram = craft::udp(at(X, q), ext, b"wrong", Checksum::Exactly(0x1234));
    bed.send(X, &[ip(X.ip(), *ext.ip(), craft::UDP).packet(&datagram)]);
}

pub(super) fn udp_long_length(bed: &mut Bed) {
    let (p, q, _) = mapped(bed);
    let mut datagram = craft::udp(at(A, p), at(X, q), b"long", Checksum::Exactly(0));
    datagram[4..6].copy_from_slice(&99_u16.to_be_bytes());
    bed.send(A, &[ip(A.ip(), X.ip(), craft::UDP).packet(&datagram)]);
}

pub(super) fn udp_empty(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    bed.send(A, &[udp(at(A, p), at(X, q), b"")]);
}

// Echo and timestamp.

fn query(kind: u8, from: Ipv4Addr, to: Ipv4Addr, id: u16) -> Vec<u8> {
    let rest = [id.to_be_bytes(), [0, 1]].concat();
    let message = craft::icmp(kind, 0, &rest, &[0; 12]);
    ip(from, to, craft::ICMP).packet(&message)
}

/// The identifier of the first query that was heard.
fn identifier(heard: &[(super::bed::Who, Seen)]) -> Option<u16> {
    let id = heard.first()?.1.payload.get(4..6)?;
    Some(u16::from_be_bytes([id[0], id[1]]))
}

fn query_and_reply(bed: &mut Bed, request: u8, reply: u8) {
    let id = bed.port("id");
    let heard = bed.send(A, &[query(request, A.ip(), X.ip(), id)]);
    if let Some(seen) = identifier(&heard) {
        bed.send(X, &[query(reply, X.ip(), bed.ext, seen)]);
    }
}

pub(super) fn icmp_echo(bed: &mut Bed) {
    query_and_reply(bed, 8, 0);
}

pub(super) fn icmp_timestamp(bed: &mut Bed) {
    query_and_reply(bed, 13, 14);
}

pub(super) fn icmp_mask(bed: &mut Bed) {
    query_and_reply(bed, 17, 18);
}

pub(super) fn icmp_information(bed: &mut Bed) {
    query_and_reply(bed, 15, 16);
}

pub(super) fn icmp_router_solicitation(bed: &mut Bed) {
    bed.port("id");
    bed.send(A, &[query(10, A.ip(), X.ip(), 0)]);
}

pub(super) fn icmp_same_identifier(bed: &mut Bed) {
    let id = bed.port("id");
    bed.send(A, &[query(8, A.ip(), X.ip(), id)]);
    bed.send(B, &[query(8, B.ip(), X.ip(), id)]);
}

pub(super) fn icmp_same_identifier_two_servers(bed: &mut Bed) {
    let id = bed.port("id");
    bed.send(A, &[query(8, A.ip(), X.ip(), id)]);
    bed.send(B, &[query(8, B.ip(), Y.ip(), id)]);
}

pub(super) fn icmp_unasked_reply(bed: &mut Bed) {
    let id = bed.port("id");
    bed.send(X, &[query(0, X.ip(), bed.ext, id)]);
}

pub(super) fn icmp_echo_to_external(bed: &mut Bed) {
    let id = bed.port("id");
    bed.send(X, &[query(8, X.ip(), bed.ext, id)]);
    bed.send(A, &[query(8, A.ip(), bed.ext, id)]);
}

pub(super) fn icmp_wrong_sum(bed: &mut Bed) {
    let id = bed.port("id");
    let mut packet = query(8, A.ip(), X.ip(), id);
    packet[22] ^= 1;
    bed.send(A, &[packet]);
}

// Errors.

/// An error of X's (or Y's) about A's datagram, as it was seen outside.
fn error_about(
    bed: &mut Bed,
    from: super::bed::Who,
    (kind, code): (u8, u8),
    spoil: impl Fn(&mut Vec<u8>),
) {
    let (_, q, ext) = mapped(bed);
    let mut quoted = udp(ext, at(X, q), b"datagram");
    spoil(&mut quoted);
    let rest = if (kind, code) == (3, 4) {
        [0, 0, 5, 0]
    } else {
        [0; 4]
    };
    let message = craft::icmp(kind, code, &rest, &quoted);
    bed.send(
        from,
        &[ip(from.ip(), bed.ext, craft::ICMP).packet(&message)],
    );
}

pub(super) fn errors_of_destination(bed: &mut Bed) {
    for code in [0, 1, 2, 3, 4, 5, 9, 10, 13] {
        error_about(bed, X, (3, code), |_| {});
    }
}

pub(super) fn errors_of_time(bed: &mut Bed) {
    for code in [0, 1] {
        error_about(bed, X, (11, code), |_| {});
    }
}

pub(super) fn error_of_parameter(bed: &mut Bed) {
    error_about(bed, X, (12, 0), |_| {});
}

pub(super) fn error_quench(bed: &mut Bed) {
    error_about(bed, X, (4, 0), |_| {});
}

pub(super) fn error_redirect(bed: &mut Bed) {
    error_about(bed, X, (5, 1), |_| {});
}

pub(super) fn error_of_a_router(bed: &mut Bed) {
    error_about(bed, Y, (3, 1), |_| {});
}

pub(super) fn error_about_nothing(bed: &mut Bed) {
    error_about(bed, X, (3, 3), |quoted| quoted[20] ^= 0x15);
}

pub(super) fn error_with_short_quote(bed: &mut Bed) {
    error_about(bed, X, (3, 3), |quoted| quoted.truncate(28));
}

pub(super) fn error_with_tiny_quote(bed: &mut Bed) {
    error_about(bed, X, (3, 3), |quoted| quoted.truncate(24));
}

pub(super) fn error_with_wrong_quoted_header_sum(bed: &mut Bed) {
    error_about(bed, X, (3, 3), |quoted| quoted[10] ^= 1);
}

pub(super) fn error_with_wrong_quoted_transport_sum(bed: &mut Bed) {
    error_about(bed, X, (3, 3), |quoted| quoted[26] ^= 1);
}

pub(super) fn error_with_wrong_sum(bed: &mut Bed) {
    let (_, q, ext) = mapped(bed);
    let quoted = udp(ext, at(X, q), b"datagram");
    let mut message = craft::icmp(3, 3, &[], &quoted);
    message[3] ^= 1;
    bed.send(X, &[ip(X.ip(), bed.ext, craft::ICMP).packet(&message)]);
}

pub(super) fn error_from_inside(bed: &mut Bed) {
    let (p, q, ext) = mapped(bed);
    let heard = bed.send_untold(X, &[udp(at(X, q), ext, b"datagram")]);
    assert_eq!(heard.len(), 1);
    let quoted = udp(at(X, q), at(A, p), b"datagram");
    let message = craft::icmp(3, 3, &[], &quoted);
    bed.send(A, &[ip(A.ip(), X.ip(), craft::ICMP).packet(&message)]);
}

pub(super) fn error_about_an_echo(bed: &mut Bed) {
    let id = bed.port("id");
    let heard = bed.send_untold(A, &[query(8, A.ip(), X.ip(), id)]);
    let quoted = query(8, bed.ext, X.ip(), identifier(&heard).unwrap());
    let message = craft::icmp(11, 0, &[], &quoted);
    bed.send(Y, &[ip(Y.ip(), bed.ext, craft::ICMP).packet(&message)]);
}

// Lifetime and size.

pub(super) fn ttl_expires_on_the_way_out(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let datagram = craft::udp(at(A, p), at(X, q), b"ttl", Checksum::Right);
    for ttl in [1, 2] {
        let header = craft::Ipv4 {
            ttl,
            ..ip(A.ip(), X.ip(), craft::UDP)
        };
        bed.send(A, &[header.packet(&datagram)]);
    }
}

pub(super) fn ttl_expires_on_the_way_in(bed: &mut Bed) {
    let (_, q, ext) = mapped(bed);
    let datagram = craft::udp(at(X, q), ext, b"ttl", Checksum::Right);
    let header = craft::Ipv4 {
        ttl: 1,
        ..ip(X.ip(), *ext.ip(), craft::UDP)
    };
    bed.send(X, &[header.packet(&datagram)]);
}

pub(super) fn too_big_for_the_uplink(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let datagram = craft::udp(at(A, p), at(X, q), &[7; 1420], Checksum::Right);
    for dont_fragment in [true, false] {
        let header = craft::Ipv4 {
            dont_fragment,
            ..ip(A.ip(), X.ip(), craft::UDP)
        };
        bed.send(A, &[header.packet(&datagram)]);
    }
}

pub(super) fn identification(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let datagram = craft::udp(at(A, p), at(X, q), b"id", Checksum::Right);
    for dont_fragment in [false, true] {
        let header = craft::Ipv4 {
            dont_fragment,
            ..ip(A.ip(), X.ip(), craft::UDP)
        };
        let heard = bed.send_untold(A, &[header.packet(&datagram)]);
        let kept = heard.iter().all(|(_, seen)| seen.id == header.id);
        bed.say(if kept { "kept" } else { "drawn anew" }.to_owned());
    }
}

// Fragments.

/// A datagram in three, with an identification that no other scenario has.
pub(super) fn pieces(from: SocketAddrV4, to: SocketAddrV4) -> Vec<Vec<u8>> {
    let datagram = craft::udp(from, to, &[9; 2000], Checksum::Right);
    let header = craft::Ipv4 {
        id: from.port().rotate_left(8) ^ to.port(),
        ..ip(*from.ip(), *to.ip(), craft::UDP)
    };
    header.fragments(&datagram, 828)
}

/// Sends pieces in an order; tells who has the whole datagram afterwards rather than how it was
/// cut, which is everybody's own business.
pub(super) fn in_pieces(bed: &mut Bed, from: super::bed::Who, pieces: &[Vec<u8>]) {
    let heard = bed.send_untold(from, pieces);
    let mut covered: Vec<(usize, usize)> = heard
        .iter()
        .map(|(_, seen)| (seen.fragment_offset, seen.payload.len()))
        .collect();
    covered.sort_unstable();
    let end = covered.iter().fold(
        0,
        |end, (offset, len)| if *offset == end { end + len } else { end },
    );
    let last = heard.iter().any(|(_, seen)| !seen.more_fragments);
    let first = heard.iter().find(|(_, seen)| seen.fragment_offset == 0);
    let Some((who, seen)) = first.filter(|_| last) else {
        bed.say(if heard.is_empty() {
            "nothing".to_owned()
        } else {
            format!("pieces: {}, no whole", heard.len())
        });
        return;
    };
    let (who, from) = (*who, bed.who(seen.source));
    let (port, _) = seen.ports().unwrap_or((0, 0));
    let port = bed.name(port);
    bed.say(format!("{who:?}: all {end} bytes from {from}:{port}"));
}

pub(super) fn fragments_out(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    in_pieces(bed, A, &pieces(at(A, p), at(X, q)));
}

pub(super) fn fragments_out_reversed(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let mut pieces = pieces(at(A, p), at(X, q));
    pieces.reverse();
    in_pieces(bed, A, &pieces);
}

pub(super) fn fragments_in(bed: &mut Bed) {
    let (_, q, ext) = mapped(bed);
    in_pieces(bed, X, &pieces(at(X, q), ext));
}

pub(super) fn fragments_in_reversed(bed: &mut Bed) {
    let (_, q, ext) = mapped(bed);
    let mut pieces = pieces(at(X, q), ext);
    pieces.reverse();
    in_pieces(bed, X, &pieces);
}

pub(super) fn fragments_doubled(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let mut pieces = pieces(at(A, p), at(X, q));
    pieces.insert(1, pieces[0].clone());
    in_pieces(bed, A, &pieces);
}

pub(super) fn fragments_without_the_first(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    in_pieces(bed, A, &pieces(at(A, p), at(X, q))[1..]);
}

pub(super) fn fragments_that_overlap(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let mut pieces = pieces(at(A, p), at(X, q));
    // The second begins eight bytes too early, inside the first.
    let word = u16::from_be_bytes([pieces[1][6], pieces[1][7]]) - 1;
    pieces[1][6..8].copy_from_slice(&word.to_be_bytes());
    pieces[1][10..12].fill(0);
    let sum = craft::internet_checksum(&[&pieces[1][..20]]);
    pieces[1][10..12].copy_from_slice(&sum.to_be_bytes());
    in_pieces(bed, A, &pieces);
}

pub(super) fn fragments_too_tiny(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    // Eight bytes of a TCP header (RFC 1858).
    let segment = super::tcp::syn(at(A, p), at(X, q)).bytes(&[], Checksum::Right);
    let pieces = ip(A.ip(), X.ip(), craft::TCP).fragments(&segment, 28);
    in_pieces(bed, A, &pieces);
}

// Addresses that have no business here.

pub(super) fn inside_address_from_outside(bed: &mut Bed) {
    let q = bed.port("q");
    bed.call(80, "80");
    bed.udp(X, q, at(A, 80));
}

pub(super) fn foreign_source_from_inside(bed: &mut Bed) {
    let q = bed.port("q");
    let strangers = [
        Ipv4Addr::new(192, 0, 2, 1),
        Ipv4Addr::new(127, 0, 0, 1),
        Ipv4Addr::new(224, 0, 0, 1),
        bed.ext,
    ];
    for source in strangers {
        let from = SocketAddrV4::new(source, q);
        bed.send(A, &[udp(from, at(X, q), b"forged")]);
    }
}

pub(super) fn strange_destinations_from_inside(bed: &mut Bed) {
    let p = bed.port("p");
    for to in [
        Ipv4Addr::new(127, 0, 0, 1),
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::new(240, 0, 0, 1),
    ] {
        bed.send(A, &[udp(at(A, p), SocketAddrV4::new(to, 9), b"strange")]);
    }
}

pub(super) fn loopback_from_outside(bed: &mut Bed) {
    let q = bed.port("q");
    let to = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8053);
    bed.send(X, &[udp(at(X, q), to, b"loopback")]);
}

pub(super) fn source_route(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let datagram = craft::udp(at(A, p), at(X, q), b"route", Checksum::Right);
    // Loose source route (RFC 791) by way of Y, and the end of options.
    let [a, b, c, d] = Y.ip().octets();
    bed.send(
        A,
        &[with_options(
            A.ip(),
            X.ip(),
            &[131, 7, 4, a, b, c, d, 0],
            &datagram,
        )],
    );
}

pub(super) fn harmless_options(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    let datagram = craft::udp(at(A, p), at(X, q), b"nop", Checksum::Right);
    bed.send(A, &[with_options(A.ip(), X.ip(), &[1, 1, 1, 0], &datagram)]);
}

fn with_options(from: Ipv4Addr, to: Ipv4Addr, options: &[u8], datagram: &[u8]) -> Vec<u8> {
    let mut packet = ip(from, to, craft::UDP).packet(&[]);
    packet.extend(options);
    let words = u8::try_from(packet.len() / 4).unwrap();
    packet[0] = 0x40 | words;
    let total = u16::try_from(packet.len() + datagram.len()).unwrap();
    packet[2..4].copy_from_slice(&total.to_be_bytes());
    packet[10..12].fill(0);
    let sum = craft::internet_checksum(&[&packet]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(datagram);
    packet
}

// Protocols without ports, and SCTP.

pub(super) fn protocol_without_ports(bed: &mut Bed) {
    for number in [47, 50, 253] {
        bed.send(
            A,
            &[ip(A.ip(), X.ip(), number).packet(&[0x20, 0, 8, 0, 0, 0, 0, 7])],
        );
        bed.send(
            X,
            &[ip(X.ip(), bed.ext, number).packet(&[0x20, 0, 8, 0, 0, 0, 0, 7])],
        );
    }
}

pub(super) fn protocol_of_two_hosts(bed: &mut Bed) {
    bed.send(A, &[ip(A.ip(), Y.ip(), 99).packet(&[1; 8])]);
    bed.send(B, &[ip(B.ip(), Y.ip(), 99).packet(&[1; 8])]);
}

pub(super) fn protocol_unasked(bed: &mut Bed) {
    bed.send(X, &[ip(X.ip(), bed.ext, 98).packet(&[1; 8])]);
}

/// An INIT chunk (RFC 9260 section 3.3.2) with its checksum.
fn sctp_init(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(from.port().to_be_bytes());
    packet.extend(to.port().to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20, 0, 0, 0, 9, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 3]);
    let sum = crc32c(&packet);
    packet[8..12].copy_from_slice(&sum.to_le_bytes());
    ip(*from.ip(), *to.ip(), 132).packet(&packet)
}

/// CRC32c (RFC 9260 appendix A), bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    const REVERSED: u32 = 0x82f6_3b78;
    let step = |crc: u32, _| {
        if crc & 1 == 1 {
            crc >> 1 ^ REVERSED
        } else {
            crc >> 1
        }
    };
    let sum = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), step)
    });
    !sum
}

fn sctp_sum_is_right(seen: &Seen) -> bool {
    let mut packet = seen.payload.clone();
    let sum: [u8; 4] = packet[8..12].try_into().unwrap();
    packet[8..12].fill(0);
    crc32c(&packet) == u32::from_le_bytes(sum)
}

pub(super) fn sctp_out(bed: &mut Bed) {
    let (p, q) = (bed.port("p"), bed.port("q"));
    for who in [A, B] {
        let heard = bed.send(who, &[sctp_init(at(who, p), at(X, q))]);
        let right = heard.iter().all(|(_, seen)| sctp_sum_is_right(seen));
        if !heard.is_empty() {
            bed.say(if right { "sum right" } else { "sum wrong" }.to_owned());
        }
    }
}
