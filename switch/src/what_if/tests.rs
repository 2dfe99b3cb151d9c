//! Words, and the packets that they are, as etherparse reads them.

use etherparse::{NetSlice, SlicedPacket, TcpOptionElement, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::ethernet::{self, Arp, ArpOperation};

const FROM: Mac = Mac([2, 0, 0, 0, 0, 1]);
const TO: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn packet(text: &str) -> Packet {
    Packet::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn frame(text: &str) -> Vec<u8> {
    packet(text).frame(Addresses {
        from: (FROM, Known::Said),
        to: (TO, Known::Said),
    })
}

#[test]
fn words_are_packets_with_right_sums() {
    let bytes = frame("tcp 10.77.0.11:40000 > 1.1.1.1:443 syn ack ttl 9 len 60 df");
    let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
    let Some(NetSlice::Ipv4(ip)) = sliced.net else {
        panic!("no IPv4")
    };
    let header = ip.header();
    assert_eq!(
        header.header_checksum(),
        header.to_header().calc_header_checksum()
    );
    assert_eq!(
        (header.ttl(), header.total_len(), header.dont_fragment()),
        (9, 60, true)
    );
    assert_eq!(header.source_addr().to_string(), "10.77.0.11");
    let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
        panic!("no TCP")
    };
    assert_eq!((tcp.source_port(), tcp.destination_port()), (40_000, 443));
    assert!(tcp.syn() && tcp.ack() && !tcp.fin() && !tcp.rst());
    let sum = tcp
        .to_header()
        .calc_checksum_ipv4(&header.to_header(), tcp.payload());
    assert_eq!(tcp.checksum(), sum.unwrap());

    let bytes = frame("udp 10.77.0.11:5353 > 9.9.9.9:53 len 61");
    let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (sliced.net, sliced.transport)
    else {
        panic!("no UDP")
    };
    assert_eq!((udp.length(), udp.payload().len()), (41, 33));
    let header = ip.header().to_header();
    let sum = udp
        .to_header()
        .calc_checksum_ipv4(&header, udp.payload())
        .unwrap();
    assert_eq!(udp.checksum(), sum);
}

#[test]
fn what_is_left_out_is_as_usual() {
    let syn = packet("tcp 10.77.0.11>1.1.1.1:443");
    let usual = Kind::Tcp {
        ports: (40_000, 443),
        flags: TcpFlags::SYN,
        options: TcpOptions::default(),
    };
    assert_eq!(syn.kind, usual);
    assert_eq!(syn.vlan, None);
    assert_eq!((syn.ttl, syn.len, syn.dont_fragment), (64, None, false));
    assert_eq!((syn.from, syn.to, syn.fragment), (None, None, None));
    // As long as what `ping` sends, and with a right sum.
    let ping = frame("icmp 10.77.0.11 > 1.1.1.1");
    assert_eq!(ping.len(), 98);
    assert_eq!(nat::checksum::finish(nat::checksum::sum(&ping[34..])), 0);
    assert_eq!(
        crate::trace::summary(&ping),
        "10.77.0.11 > 1.1.1.1  ICMP echo request id 1 seq 1"
    );
    let reply = frame("icmp 10.77.0.11 > 1.1.1.1 reply id 7 seq 9 len 28");
    assert_eq!(
        crate::trace::summary(&reply),
        "10.77.0.11 > 1.1.1.1  ICMP echo reply id 7 seq 9"
    );
    assert_eq!(reply.len(), 42);
}

#[test]
fn tcp_options_are_those_that_were_said() {
    use TcpOptionElement::{
        MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted, WindowScale,
    };
    let (mss, sack, scale) = (
        vec![MaximumSegmentSize(1460)],
        vec![Noop, Noop, SelectiveAcknowledgementPermitted],
        vec![Noop, WindowScale(7)],
    );
    for (words, options) in [
        ("", vec![]),
        ("mss 1460", mss.clone()),
        ("sackOK", sack.clone()),
        ("wscale 7", scale.clone()),
        ("wscale 7 syn sackOK mss 1460", [mss, sack, scale].concat()),
    ] {
        let bytes = frame(&format!("tcp 10.0.0.1 > 10.0.0.2:80 {words}"));
        let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) =
            (sliced.net, sliced.transport)
        else {
            panic!("no TCP")
        };
        let read: Result<Vec<_>, _> = tcp.options_iterator().collect();
        assert_eq!(read.unwrap(), options, "{words}");
        assert!(tcp.syn() && tcp.payload().is_empty());
        let header = ip.header().to_header();
        let sum = tcp.to_header().calc_checksum_ipv4(&header, &[]);
        assert_eq!(tcp.checksum(), sum.unwrap());
    }
}

#[test]
fn a_tag_names_its_vlan() {
    for (text, summary) in [
        (
            "udp 10.0.0.1:1 > 10.0.0.2:2 vlan 0",
            "vlan 0 10.0.0.1:1 > 10.0.0.2:2  UDP",
        ),
        (
            "arp vlan 4094 10.0.0.1 > 10.0.0.2",
            "vlan 4094 ARP who has 10.0.0.2, tell 10.0.0.1",
        ),
    ] {
        assert_eq!(crate::trace::summary(&frame(text)), summary);
    }
    let bytes = frame("tcp 10.0.0.1:1 > 10.0.0.2:2 vlan 77");
    let sliced = SlicedPacket::from_ethernet(&bytes).unwrap();
    let vlan = sliced.vlan_ids();
    assert_eq!(vlan.iter().map(|id| id.value()).collect::<Vec<_>>(), [77]);
    assert!(matches!(sliced.transport, Some(TransportSlice::Tcp(_))));
    assert_eq!(bytes.len(), 58);
}

/// An SCTP packet of a frame, whose CRC32c is right.
fn sctp(text: &str) -> (u16, u16, u32, Vec<(u8, usize)>) {
    let bytes = frame(text);
    let ip = nat::wire::Ipv4::parse(&bytes[ethernet::HEADER_BYTES..]).unwrap();
    assert_eq!(ip.protocol(), nat::wire::protocol::SCTP);
    let mut zeroed = ip.payload().to_vec();
    zeroed[8..12].fill(0);
    let crc = crate::gso::crc32c(&zeroed).to_le_bytes();
    assert_eq!(ip.payload()[8..12], crc, "{text}");
    let packet = nat::wire::Sctp::parse(ip.payload()).unwrap();
    let chunks: Vec<_> = packet
        .chunks()
        .map(|(kind, _, value)| (kind, value.len()))
        .collect();
    let all: usize = chunks.iter().map(|(_, len)| len + 4).sum();
    assert_eq!(all + 12, ip.payload().len(), "{text}: {chunks:?}");
    let ports = (packet.src_port(), packet.dst_port());
    (ports.0, ports.1, packet.verification_tag(), chunks)
}

#[test]
fn sctp_packets_have_one_chunk_and_padding_that_is_one_too() {
    let init = "sctp 10.0.0.1:5000 > 10.0.0.2:5001";
    assert_eq!(sctp(init), (5000, 5001, 0, vec![(1, 16)]));
    for (word, kind, len) in [
        ("init", 1, 16),
        ("init-ack", 2, 24),
        ("cookie-echo", 10, 4),
        ("cookie-ack", 11, 0),
        ("data", 0, 16),
        ("heartbeat", 4, 8),
        ("abort", 6, 0),
        ("shutdown", 7, 4),
        ("shutdown-ack", 8, 0),
        ("shutdown-complete", 14, 0),
    ] {
        let text = format!("sctp 10.0.0.1 > 10.0.0.2:9 {word}");
        let tag = u32::from(word != "init");
        assert_eq!(sctp(&text), (40_000, 9, tag, vec![(kind, len)]), "{word}");
        let (.., chunks) = sctp(&format!("{text} len 200 df"));
        let rest = 180 - 12 - 4;
        let padded = match word {
            "data" => vec![(0, rest)],
            _ => vec![(kind, len), (0x84, rest - len - 4)],
        };
        assert_eq!(chunks, padded, "{word}");
    }
    assert_eq!(
        sctp("sctp abort tag 4294967295 1.0.0.1 > 1.0.0.2:1").2,
        u32::MAX
    );
    assert_eq!(sctp("sctp init tag 9 1.0.0.1 > 1.0.0.2:1").2, 9);
    // A later fragment has no header, and no rule for its length.
    assert_eq!(frame("sctp 1.0.0.1 > 1.0.0.2:1 frag 80 len 33").len(), 47);
}

#[test]
fn stations_may_be_said_and_arp_asks_or_tells() {
    let said = packet("arp from 02:00:00:00:00:07 10.77.0.11 > 10.77.0.1 to ff:ff:ff:ff:ff:ff");
    assert_eq!(
        (said.from, said.to),
        (Some(Mac([2, 0, 0, 0, 0, 7])), Some(Mac::BROADCAST))
    );
    let arp = |text| Arp::parse(&frame(text)[ethernet::HEADER_BYTES..]).unwrap();
    let asks = arp("arp 10.77.0.11 > 10.77.0.1");
    assert_eq!(
        (asks.operation, asks.sender_mac, asks.target_mac),
        (ArpOperation::Request, FROM, Mac::ZERO)
    );
    let tells = arp("arp reply 10.77.0.11 > 10.77.0.1");
    assert_eq!(
        (tells.operation, tells.target_mac),
        (ArpOperation::Reply, TO)
    );
    assert_eq!(tells.target.to_string(), "10.77.0.1");
}

#[test]
fn fragments_have_their_place_and_later_ones_no_ports() {
    let first = frame("udp 10.0.0.1:1 > 10.0.0.2:2 frag 0 more len 100");
    let later = frame("udp 10.0.0.1:1 > 10.0.0.2:2 len 100 more frag 80");
    let last = frame("udp 10.0.0.1:1 > 10.0.0.2:2 frag 160 df");
    for (bytes, place, more, summary) in [
        (
            first,
            0,
            true,
            "10.0.0.1:1 > 10.0.0.2:2  UDP, first fragment",
        ),
        (later, 80, true, "10.0.0.1 > 10.0.0.2  UDP fragment at 80"),
        (last, 160, false, "10.0.0.1 > 10.0.0.2  UDP fragment at 160"),
    ] {
        let ip = nat::wire::Ipv4::parse(&bytes[ethernet::HEADER_BYTES..]).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!((ip.fragment_offset(), ip.more_fragments()), (place, more));
        assert_eq!(ip.dont_fragment(), place == 160);
        assert_eq!(crate::trace::summary(&bytes), summary);
    }
}

/// A text, the carets below it, and words of the error's reason and of what it lists as fitting.
const NO_PACKETS: [(&str, &str, &str, &str); 28] = [
    (
        "",
        "^",
        "begins with its protocol",
        "`tcp`, `udp`, `icmp`, `sctp` or `arp`",
    ),
    (
        "gre 10.0.0.1",
        "^^^",
        "`gre` is no protocol",
        "`tcp`, `udp`, `icmp`, `sctp` or `arp`",
    ),
    (
        "sctp 1.0.0.1 > 1.0.0.2:2 inti",
        "                         ^^^^",
        "nothing that a packet of sctp has",
        "`init`, `init-ack`",
    ),
    (
        "sctp 1.0.0.1 > 1.0.0.2:2 len 53",
        "                               ^",
        "a multiple of 4",
        "",
    ),
    (
        "sctp 1.0.0.1 > 1.0.0.2",
        "               ^^^^^^^",
        "sctp needs a port",
        "",
    ),
    (
        "sctp tag 4294967296",
        "         ^^^^^^^^^^",
        "up to 4294967295",
        "",
    ),
    ("udp vlan 4095", "         ^^^^", "up to 4094", ""),
    ("tcp wscale 15", "           ^^", "up to 14", ""),
    (
        "tcp mss",
        "       ^",
        "a number is missing behind `mss`",
        "",
    ),
    (
        "tcp 1.0.0.1 > 1.0.0.2:2 sackok",
        "                        ^^^^^^",
        "nothing that a packet of tcp has",
        "`mss`, `wscale`, `sackOK`",
    ),
    (
        "udp 1.0.0.1 > 1.0.0.2:2 mss 9",
        "                        ^^^",
        "nothing that a packet of udp has",
        "`vlan`",
    ),
    (
        "tcp 1.0.0.1 > 1.0.0.2:2 mss 9 wscale 1 len 47",
        "                                             ^",
        "48 bytes",
        "",
    ),
    (
        "tcp 10.0.0.1:1",
        "              ^",
        "one address to another",
        "`>`",
    ),
    (
        "tcp 1.0.0.1:1 1.0.0.2:2",
        "              ^^^^^^^^^",
        "an arrow",
        "`>`",
    ),
    (
        "tcp 1.0.0.1:1 >",
        "               ^",
        "an address is missing",
        "",
    ),
    (
        "tcp 1.0.0.1 > 1.0.0.2",
        "              ^^^^^^^",
        "needs a port",
        "",
    ),
    (
        "tcp 1.0.0.1:66000",
        "    ^^^^^^^^^^^^^",
        "`66000` is no port",
        "",
    ),
    (
        "udp 10.0.0:1",
        "    ^^^^^^^^",
        "`10.0.0` is no IPv4 address",
        "",
    ),
    ("icmp 1.0.0.1:8", "     ^^^^^^^^^", "has no ports", ""),
    (
        "udp 1.0.0.1 > 1.0.0.2:2 syn",
        "                        ^^^",
        "nothing",
        "`df`",
    ),
    (
        "arp 1.0.0.1 > 1.0.0.2 ttl",
        "                      ^^^",
        "nothing",
        "`reply`",
    ),
    ("icmp ttl 256", "         ^^^", "up to 255", ""),
    (
        "icmp 1.0.0.1 > 1.0.0.2 ttl",
        "                          ^",
        "missing",
        "",
    ),
    (
        "icmp 1.0.0.1 > 1.0.0.2 len 27",
        "                             ^",
        "28 bytes",
        "",
    ),
    ("icmp frag 9", "          ^", "multiple", ""),
    ("icmp from x", "          ^", "Ethernet", ""),
    ("icmp ttl 3", "          ^", "goes from one address", ""),
    (
        "udp 1.0.0.1 > 1.0.0.2:2 frag 65528",
        "                                  ^",
        "65535",
        "",
    ),
];

#[test]
fn what_is_no_packet_is_shown_where_and_why() {
    for (text, carets, why, words) in NO_PACKETS {
        let error = Packet::parse(text).expect_err(text);
        let caret = error.caret(text);
        let below = caret.lines().nth(1).unwrap_or_default();
        assert_eq!(below, carets, "{text}: {}", error.why);
        assert!(error.why.contains(why), "{text}: {}", error.why);
        assert!(error.words().contains(words), "{text}: {}", error.words());
    }
}

/// The blocks of the page that are fenced as `kind`.
fn blocks(kind: &str) -> Vec<&'static str> {
    let page = include_str!("../../../docs/trace.md");
    let parts = page.split("```").skip(1).step_by(2);
    let line = |part: &'static str| part.strip_prefix(kind)?.strip_prefix('\n');
    parts.filter_map(line).collect()
}

#[test]
fn what_the_page_says_of_packets_is_so() {
    let examples: Vec<&str> = blocks("packet").into_iter().flat_map(str::lines).collect();
    assert!(examples.len() > 7);
    for example in examples {
        assert!(!frame(example).is_empty());
    }
    let wrong = blocks("wrong");
    assert!(!wrong.is_empty());
    for block in wrong {
        let example = block.lines().next().unwrap();
        let error = Packet::parse(example).unwrap_err();
        let place = error.to_string().replace("filter:", "packet:");
        assert_eq!(format!("{}\n{place}\n", error.caret(example)), block);
    }
}

proptest! {
    /// Any text is a packet or an error that points into it.
    #[test]
    fn any_text_is_read_or_refused(
        words in proptest::collection::vec(
            prop_oneof!["(tcp|udp|icmp|sctp|arp|reply|ttl|len|frag|more|df|from|to|syn|id|seq)",
                "(init|init-ack|data|abort|tag|vlan|mss|wscale|sackOK)",
                "[0-9]{1,6}", "10\\.0\\.0\\.[0-9]{1,3}(:[0-9]{1,5})?",
                Just(">".to_owned()), ".{0,4}"],
            0..9),
    ) {
        let text = words.join(" ");
        match Packet::parse(&text) {
            Ok(packet) => {
                let stations = Addresses { from: (FROM, Known::Said), to: (TO, Known::Said) };
                prop_assert!(packet.frame(stations).len() >= 34);
            }
            Err(error) => prop_assert!(error.column <= text.chars().count()),
        }
    }
}
