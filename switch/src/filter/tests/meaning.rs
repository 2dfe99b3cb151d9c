//! What filters match that libpcap has no words or no frames for.

use super::frames::{self, Random};
use crate::ethernet;
use crate::filter::{About, Filter, Metadata, Subject};
use crate::mac::Mac;

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

/// An IPv4 packet of this protocol from 10.9.0.2:1024 to `to`:80, in a frame.
fn packet(protocol: u8, to: [u8; 4]) -> Vec<u8> {
    let mut frame = ethernet::header(Mac::local(1), Mac::local(2), ethernet::IPV4).to_vec();
    frame.extend([0x45, 0, 0, 40, 0, 1, 0, 0, 64, protocol, 0, 0, 10, 9, 0, 2]);
    frame.extend(to);
    frame.extend([
        4, 0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0,
    ]);
    frame
}

#[test]
fn words_about_the_record_match_what_is_known() {
    let frame = packet(6, [192, 0, 2, 1]);
    let dropped = Metadata {
        ports: &["veth1", "tap:web0"],
        drop: Some("NO_ROUTE"),
        translated: false,
        worker: 1,
    };
    let translated = Metadata {
        ports: &["host"],
        drop: None,
        translated: true,
        worker: 0,
    };
    let cases = [
        ("drop", true, false),
        ("DROP and TCP", true, false),
        ("not drop", false, true),
        ("reason NO_ROUTE", true, false),
        ("reason no_route or RING_FULL", true, false),
        ("reason RING_FULL", false, false),
        ("reason (RING_FULL or NO_ROUTE)", true, false),
        ("on veth1", true, false),
        ("on VETH1", false, false),
        ("on veth", false, false),
        ("on tap:web0", true, false),
        ("on eth0 or tap:web0", true, false),
        ("on (eth0 or veth1) and tcp port 80", true, false),
        ("on not veth1", false, true),
        ("on host", false, true),
        ("on veth1 or on host", true, true),
        ("nat", false, true),
        ("worker 1", true, false),
        ("worker 0 or 1", true, true),
        ("nat or drop and udp", false, false),
    ];
    for (text, first, second) in cases {
        let filter = filter(text);
        assert!(filter.needs_metadata(), "{text}");
        let subject = Subject::frame(&frame);
        assert_eq!(filter.matches(&subject.with(dropped)), first, "{text}");
        assert_eq!(filter.matches(&subject.with(translated)), second, "{text}");
    }
    let bare = Subject::frame(&frame);
    for text in ["drop", "reason NO_ROUTE", "on veth1", "nat", "worker 0"] {
        assert!(!filter(text).matches(&bare), "{text}");
        assert!(filter(&format!("not {text}")).matches(&bare), "{text}");
    }
    assert!(!filter("tcp port 80 and host 10.9.0.2").needs_metadata());
    let all = filter("drop or reason no_route and udp or on veth1 or nat or worker 3");
    let about = [
        About::Drop,
        About::Reason("NO_ROUTE"),
        About::Port("veth1"),
        About::Nat,
        About::Worker(3),
    ];
    assert_eq!(all.about().collect::<Vec<_>>(), about);
}

#[test]
fn a_packet_is_found_by_its_address_before_or_after_translation() {
    let mut after = packet(6, [192, 0, 2, 1]);
    let before = after.clone();
    after[26..30].copy_from_slice(&[203, 0, 113, 254]);
    let (before, after) = (Subject::frame(&before), Subject::frame(&after));
    for (text, expected) in [
        ("host 10.9.0.2", true),
        ("host 203.0.113.254", true),
        ("host 10.9.0.3", false),
        ("host 10.9.0.2 and host 203.0.113.254", false),
        ("not host 10.9.0.2", true),
    ] {
        assert_eq!(
            filter(text).matches_either(&before, &after),
            expected,
            "{text}"
        );
        assert_eq!(
            filter(text).matches_either(&after, &before),
            expected,
            "{text}"
        );
    }
}

#[test]
fn a_question_beyond_the_frame_ends_the_filter_whatever_stands_around_it() {
    let frame = packet(6, [192, 0, 2, 1]);
    let ends_before = |end: usize, text: &str| {
        let whole = filter(text).matches(&Subject::frame(&frame));
        let cut = filter(text).matches(&Subject::frame(&frame[..end]));
        (whole, cut)
    };
    assert_eq!(ends_before(36, "tcp port 80"), (true, false));
    assert_eq!(ends_before(36, "not tcp port 81"), (true, false));
    assert_eq!(ends_before(36, "not (tcp port 81) or tcp"), (true, false));
    assert_eq!(ends_before(36, "tcp or not port 81"), (true, true));
    assert_eq!(ends_before(36, "tcp src port 1024"), (true, true));
    assert_eq!(ends_before(13, "not ip6"), (true, false));
    assert_eq!(ends_before(0, "not multicast"), (true, false));
    assert_eq!(ends_before(0, "len = 0 or less 9"), (false, true));
    assert_eq!(ends_before(0, ""), (true, true));
}

#[test]
fn a_cut_frame_still_has_its_length() {
    let frame = packet(17, [192, 0, 2, 1]);
    let mut subject = Subject::frame(&frame);
    subject.length = 1514;
    assert!(filter("greater 1514 and less 1514 and len = 1514").matches(&subject));
    assert!(!filter("less 1513").matches(&subject));
}

#[test]
fn and_does_not_bind_stronger_than_or() {
    let udp = packet(17, [192, 0, 2, 1]);
    assert!(!filter("udp or tcp and port 81").matches(&Subject::frame(&udp)));
    assert!(filter("udp or (tcp and port 81)").matches(&Subject::frame(&udp)));
}

#[test]
fn the_limited_broadcast_address_is_no_multicast() {
    let group = packet(17, [239, 255, 255, 255]);
    let broadcast = packet(17, [255; 4]);
    assert!(filter("ip multicast").matches(&Subject::frame(&group)));
    assert!(!filter("ip multicast").matches(&Subject::frame(&broadcast)));
}

#[test]
fn bytes_of_a_protocol_are_asked_only_of_its_packets_on_both_sides_of_an_operator() {
    let udp = packet(17, [192, 0, 2, 1]);
    let tcp = packet(6, [192, 0, 2, 1]);
    for text in [
        "0 + tcp[0] >= 0",
        "ip[0] - tcp[0] != 99",
        "len > tcp[0] * 0",
    ] {
        assert!(filter(text).matches(&Subject::frame(&tcp)), "{text}");
        assert!(!filter(text).matches(&Subject::frame(&udp)), "{text}");
    }
}

/// A step is small and a question on a frame costs no allocation; both are what lets a filter
/// run beside the data path.
#[test]
fn a_step_fits_half_a_cache_line() {
    assert!(size_of::<crate::filter::code::Step>() <= 32);
}

#[test]
fn no_frame_makes_a_filter_panic() {
    let mut random = Random::new(7);
    let filters = [
        "ip[len * 0xffffffff] = 1 or ether[0xffffffff:4] = 0",
        "tcp[-20] = 0x45 or tcp[-21] = 0 or ip[-1] = 0",
        "vlan and vlan and (port 80 or host ::1 or ether proto 6)",
        "icmp6[0xffffffd8] = 0 or not ip6 multicast",
    ];
    let filters = filters.map(filter);
    let mut matched = 0;
    for _ in 0..20_000 {
        let (frame, length) = frames::frame(&mut random);
        let mut subject = Subject::frame(&frame);
        subject.length = length;
        matched += filters.iter().filter(|f| f.matches(&subject)).count();
    }
    assert!(matched > 0);
}
