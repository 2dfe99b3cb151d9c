//! What is a filter and what is not, and what is said about it.

use proptest::prelude::*;

use super::{bpf, expressions};
use crate::filter::{DEPTH_MAX, Filter, FilterError, TEXT_MAX};

fn error(text: &str) -> FilterError {
    match Filter::parse(text) {
        Err(error) => error,
        Ok(filter) => panic!("{text} became {filter:?}"),
    }
}

#[test]
fn nothing_matches_everything() {
    for text in ["", " ", "\t\r\n "] {
        let filter = Filter::parse(text).unwrap();
        assert!(filter.is_everything() && filter.as_str().is_empty());
        assert_eq!(filter, Filter::default());
    }
    let filter: Filter = " tcp ".parse().unwrap();
    assert!(!filter.is_everything());
    assert_eq!(filter.to_string(), "tcp");
}

#[test]
fn an_error_names_the_place_in_characters() {
    let cases = [
        ("tcp prot 80", 4, "prot"),
        ("host 10.9.0.2 and", 17, ""),
        ("  porrt 80", 2, "porrt"),
        ("on Ünlü && tcp prot 8", 15, "prot"),
        ("tcp and ü", 8, "ü"),
        ("ether host 1:2:3", 11, "1:2:3"),
        ("port 080", 5, "080"),
        ("()", 1, ")"),
        ("(tcp", 4, ""),
        ("tcp)", 3, ")"),
        ("tcp[0", 5, ""),
        ("tcp[0:3]=1", 6, "3"),
        ("(tcp[0] + ) = 1", 10, ")"),
        ("((ip[0] + 1) & 3", 16, ""),
        ("ip[0]/0=1", 5, "/"),
        ("1 << 32 = 0", 2, "<<"),
        ("port 80 or (1) << 32 = 0", 15, "<<"),
        ("vlan 4096", 5, "4096"),
        ("worker 65536", 7, "65536"),
        ("portrange 1-70000", 10, "1-70000"),
        ("ip6 host 10.9.0.2", 9, "10.9.0.2"),
        ("arp host ::1", 9, "::1"),
        ("host 10.9.0.0/16", 13, "/"),
        ("host 02:00:00:00:00:01", 5, "02:00:00:00:00:01"),
        ("src proto 6", 4, "proto"),
        ("tcp proto 6", 4, "proto"),
        ("ip port 80", 3, "port"),
        ("ether proto 0x300", 12, "0x300"),
        ("ip proto 256", 9, "256"),
        ("esp[0] = 1", 0, "esp"),
        ("net 10.9.0.0.1", 4, "10.9.0.0.1"),
        ("net 256", 4, "256"),
        ("10-5 = 5", 0, "10-5"),
        ("tcp \u{7} udp", 4, "?"),
    ];
    for (text, column, found) in cases {
        let error = error(text);
        assert_eq!(
            (error.column, &*error.found),
            (column, found),
            "{text}: {error}"
        );
        let caret = error.caret(text);
        let (line, carets) = caret.split_once('\n').unwrap();
        assert_eq!(line.chars().count(), text.chars().count(), "{text}");
        assert!(
            carets.starts_with(&format!("{}^", " ".repeat(column))),
            "{text}"
        );
        assert!(
            error
                .to_string()
                .starts_with(&format!("filter:{}: ", column + 1))
        );
    }
}

#[test]
fn an_error_says_what_could_stand_there() {
    assert_eq!(error("tcp prot 80").expected, ["and", "or"]);
    assert_eq!(
        error("reason NO_ROUT").expected,
        ["NO_ROUTE", "IP_SOURCE_ROUTE"]
    );
    assert_eq!(error("reason XYZZY").expected, [""; 0]);
    assert!(error("tcp and").expected.contains(&"host"));
    assert!(error("10.9.0.2").expected.contains(&"src"));
    assert_eq!(error("(tcp").words(), "`)`");
    assert_eq!(error("tcp[0]").words(), "`=`, `!=`, `<`, `<=`, `>` or `>=`");
}

#[test]
fn long_and_deep_texts_are_refused_and_shorter_ones_work() {
    let nested = |open: &str, depth: u8, close: &str, core: &str| {
        let depth = usize::from(depth);
        format!("{}{core}{}", open.repeat(depth), close.repeat(depth))
    };
    for (open, close, core) in [
        ("(", ")", "tcp"),
        ("not (", ")", "tcp"),
        ("port (", ")", "80"),
    ] {
        let limit = if open == "port (" { 1 } else { DEPTH_MAX };
        assert!(
            Filter::parse(&nested(open, limit, close, core)).is_ok(),
            "{open}"
        );
    }
    let too_deep = [
        nested("(", DEPTH_MAX + 1, ")", "tcp"),
        nested("(", DEPTH_MAX + 1, ")", "len") + " = 1",
        nested("ip[", DEPTH_MAX + 1, "]", "0") + " = 1",
        "-".repeat(65) + "1 = 1",
        "len".to_owned() + &"+len".repeat(65) + " = 1",
        format!("port {}80{}", "(".repeat(65), ")".repeat(65)),
        "(".repeat(TEXT_MAX),
    ];
    for text in too_deep {
        let why = error(&text).why;
        assert!(
            why.contains("deeper than 64") || why.contains("too many"),
            "{text}: {why}"
        );
    }
    let long = "tcp or ".repeat(TEXT_MAX / 7) + "udp";
    assert_eq!(Filter::parse(&long).is_ok(), long.len() <= TEXT_MAX);
    let longest = "1=1 or ".repeat(584) + "1=1    ";
    assert_eq!(longest.len(), 4095);
    assert!(Filter::parse(&longest).is_ok());
    assert!(Filter::parse(&format!("{longest} ")).is_ok());
    let beyond = error(&format!("{longest}  "));
    assert_eq!(beyond.column, TEXT_MAX);
    assert!(error(&"ü".repeat(TEXT_MAX)).why.contains("longer"));
    let many_tags = "vlan||".repeat(682) + "vlan";
    assert!(Filter::parse(&many_tags).is_ok());
    assert!(Filter::parse(&("!".repeat(4000) + "tcp")).is_ok());
}

#[test]
fn what_libpcap_refuses_is_refused() {
    let wrong = [
        "host",
        "and tcp",
        "tcp and",
        "tcp udp",
        "host 10.9.0.2 port 80",
        "10.9.0.2",
        "80",
        "tcp host 10.9.0.2",
        "ip port 80",
        "udp port http",
        "ip6 host 10.9.0.2",
        "port 70000",
        "net 10.9.1.0/16",
        "host 10.9.0.0/16",
        "ether host 10.9.0.2",
        "tcp[0:3] = 1",
        "tcp[0]",
        "ether",
        "vlan 4096",
        "tcp proto 6",
        "arp proto 6",
        "src proto 6",
        "(tcp",
        "tcp)",
        "1 << 32 = 0",
        "len / 0 = 1",
        "tcp multicast",
        "arp broadcast",
        "vlan 5 or 6",
        "(host 10.9.0.2) or 10.9.0.3",
        "tcp or 80",
        "less",
        "portrange 1-70000",
        "esp[0] = 1",
        "host 02:00:00:00:00:01",
        "10-5 = 5",
        "net 2001:db8::1/32",
        "port 80-90",
    ];
    let here = bpf::tcpdump_is_here();
    for text in wrong {
        let _ = error(text);
        assert!(
            !here || bpf::compile(text, false).is_err(),
            "libpcap takes {text}"
        );
    }
    if !here {
        println!("SKIPPED: no tcpdump here to confirm that libpcap refuses these too");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,80}") {
        if let Err(error) = Filter::parse(&text) {
            let _ = (error.to_string(), error.caret(&text));
            prop_assert!(error.column <= text.chars().count());
        }
    }

    /// Texts that are nearly filters reach further into the parser than random ones.
    #[test]
    fn no_damaged_filter_makes_the_parser_panic(
        text in expressions::filter(),
        at in any::<prop::sample::Index>(),
        with in "[a-z0-9()\\[\\]!&|:./ -]{0,4}",
    ) {
        let mut damaged: Vec<char> = text.ours.chars().collect();
        let at = at.index(damaged.len());
        damaged.splice(at..=at, with.chars());
        let damaged: String = damaged.into_iter().collect();
        if let Err(error) = Filter::parse(&damaged) {
            prop_assert!(error.column <= damaged.chars().count());
            prop_assert!(!error.why.is_empty());
        }
    }
}
