//! Random filters in tcpdump's words.

use proptest::prelude::*;
use proptest::sample::select;

use super::frames;

/// A filter as we and as libpcap are given it: the same but where ours is freer or newer.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) ours: String,
    pub(super) theirs: String,
}

impl Text {
    fn same(text: impl Into<String>) -> Self {
        let ours = text.into();
        let theirs = ours.clone();
        Self { ours, theirs }
    }

    fn pair(ours: &str, theirs: &str) -> Self {
        let (ours, theirs) = (ours.into(), theirs.into());
        Self { ours, theirs }
    }

    fn around(before: &str, inner: &Self, after: &str) -> Self {
        Self {
            ours: format!("{before}{}{after}", inner.ours),
            theirs: format!("{before}{}{after}", inner.theirs),
        }
    }

    fn joined(first: &Self, between: &str, then: &Self) -> Self {
        Self {
            ours: format!("{}{between}{}", first.ours, then.ours),
            theirs: format!("{}{between}{}", first.theirs, then.theirs),
        }
    }
}

/// A filter of up to some thirty questions.
pub(super) fn filter() -> BoxedStrategy<Text> {
    question()
        .prop_recursive(5, 24, 2, |inner| {
            let junction = select(&[" and ", " or ", " && ", "||", "\tor\n", "&&"][..]);
            prop_oneof![
                4 => (inner.clone(), junction, inner.clone())
                    .prop_map(|(a, between, b)| Text::joined(&a, between, &b)),
                2 => inner.clone().prop_map(|inner| Text::around("(", &inner, ")")),
                1 => inner.clone().prop_map(|inner| Text::around("not ", &inner, "")),
                1 => inner.clone().prop_map(|inner| Text::around("! ", &inner, "")),
                1 => inner.prop_map(|inner| Text::around("not(", &inner, " )")),
            ]
        })
        .boxed()
}

fn question() -> BoxedStrategy<Text> {
    prop_oneof![
        3 => abbreviation(),
        3 => addresses(),
        3 => ports(),
        1 => protocols(),
        1 => vlan(),
        3 => comparison().prop_map(Text::same),
    ]
    .boxed()
}

fn abbreviation() -> BoxedStrategy<Text> {
    let words = [
        "ip",
        "ip6",
        "arp",
        "rarp",
        "tcp",
        "udp",
        "sctp",
        "icmp",
        "icmp6",
        "igmp",
        "ah",
        "esp",
        "pim",
        "vrrp",
        "stp",
        "broadcast",
        "ether broadcast",
        "multicast",
        "ether multicast",
        "ip6 multicast",
        "less 60",
        "greater 60",
        "less 0x2a",
        "greater 0100",
    ];
    let differing = [
        // Until 1.10.4 libpcap counts 240.0.0.0/4 and the broadcast address as multicast.
        ("ip multicast", "(ip multicast and ip[16] < 240)"),
        ("TCP", "tcp"),
        ("Not Udp", "not udp"),
    ];
    prop_oneof![
        6 => select(words.to_vec()).prop_map(Text::same),
        1 => select(differing.to_vec()).prop_map(|(ours, theirs)| Text::pair(ours, theirs)),
    ]
    .boxed()
}

/// The word before, then one operand or several that share it.
fn list(
    head: String,
    operand: impl Strategy<Value = String> + Clone + 'static,
) -> BoxedStrategy<Text> {
    let junction = select(&[" or ", " and ", " || "][..]);
    let not = select(&["", "", "", "not "][..]);
    let more = prop::collection::vec((junction, not, operand.clone()), 0..3);
    (operand, more, any::<bool>())
        .prop_map(move |(first, more, parentheses)| {
            let rest = more
                .iter()
                .map(|(junction, not, next)| format!("{junction}{not}{next}"));
            let rest: String = rest.collect();
            Text::same(if parentheses && !rest.is_empty() {
                format!("{head} ({first}{rest})")
            } else {
                format!("{head} {first}{rest}")
            })
        })
        .boxed()
}

fn direction() -> BoxedStrategy<&'static str> {
    select(
        &[
            "",
            "",
            "src ",
            "dst ",
            "src or dst ",
            "dst or src ",
            "src and dst ",
        ][..],
    )
    .boxed()
}

fn addresses() -> BoxedStrategy<Text> {
    let dotted = |a: [u8; 4]| format!("{}.{}.{}.{}", a[0], a[1], a[2], a[3]);
    let ipv4 = select(frames::IPV4.to_vec()).prop_map(dotted);
    let ipv6 = select(frames::IPV6.to_vec()).prop_map(|a| std::net::Ipv6Addr::from(a).to_string());
    let mac = select(frames::MACS.to_vec()).prop_map(|a| crate::mac::Mac(a).to_string());
    let nets = [
        "10",
        "10.9",
        "10.9.0",
        "10.9.0.2",
        "10.9.0.0/16",
        "10.9/16",
        "10.8.0.0/15",
        "0.0.0.0/0",
        "10.9.0.2/31",
        "192.0.2.0 mask 255.255.255.0",
        "0.9.0.0 mask 0.255.0.0",
        "224.0.0.0/4",
        "255.255.255.255/32",
    ];
    let nets6 = [
        "2001:db8::/32",
        "2001:db8:0:1::/64",
        "fe80::/10",
        "ff00::/8",
        "::/0",
        "fe80::2",
    ];
    let ip4 = select(&["", "", "ip ", "arp ", "rarp "][..]);
    let ip6 = select(&["", "ip6 "][..]);
    let kind = select(&["host", "host", ""][..]);
    prop_oneof![
        (ip4.clone(), direction(), kind.clone())
            .prop_filter("a word", |(_, side, kind)| !(side.is_empty()
                && kind.is_empty()))
            .prop_flat_map(move |(of, side, kind)| list(format!("{of}{side}{kind}"), ipv4.clone())),
        (ip6.clone(), direction())
            .prop_flat_map(move |(of, side)| list(format!("{of}{side}host"), ipv6.clone())),
        (direction(), kind)
            .prop_filter("a word", |(side, kind)| !(side.is_empty()
                && kind.is_empty()))
            .prop_flat_map(move |(side, kind)| list(format!("ether {side}{kind}"), mac.clone())),
        (ip4, direction()).prop_flat_map(move |(of, side)| list(
            format!("{of}{side}net"),
            select(nets.to_vec()).prop_map(str::to_owned)
        )),
        (ip6, direction()).prop_flat_map(move |(of, side)| list(
            format!("{of}{side}net"),
            select(nets6.to_vec()).prop_map(str::to_owned)
        )),
        Just(Text::pair("net 10/8", "net 10.0.0.0/8")),
    ]
    .boxed()
}

fn ports() -> BoxedStrategy<Text> {
    let of = || select(&["", "", "tcp ", "udp ", "sctp "][..]);
    let port = select(frames::PORTS.to_vec()).prop_map(|port| port.to_string());
    let names = ["domain", "https", "ntp", "http", "ssh", "tftp", "bootps"];
    let ranges = [
        "53-80",
        "80-53",
        "0-65535",
        "1024",
        "22-22",
        "0x16-0x35",
        "443-1023",
    ];
    let range = select(ranges.to_vec()).prop_map(str::to_owned);
    prop_oneof![
        3 => (of(), direction())
            .prop_flat_map(move |(of, side)| list(format!("{of}{side}port"), port.clone())),
        1 => (select(&["", "src ", "dst "][..]), select(names.to_vec()))
            .prop_map(|(side, name)| Text::same(format!("{side}port {name}"))),
        2 => (of(), direction())
            .prop_flat_map(move |(of, side)| list(format!("{of}{side}portrange"), range.clone())),
    ]
    .boxed()
}

fn protocols() -> BoxedStrategy<Text> {
    let number = select(frames::PROTOCOLS.to_vec()).prop_map(|number| number.to_string());
    let ethertypes = [
        "0x0800", "0x0806", "0x86dd", "0x88cc", "0x42", "6", "0xfe", "0x8100",
    ];
    let named = [
        ("ip proto tcp", "ip proto \\tcp "),
        ("ip proto \\udp ", "ip proto \\udp "),
        ("proto sctp", "proto \\sctp "),
        ("ether proto arp", "ether proto \\arp "),
        ("ether proto \\ip6 ", "ether proto \\ip6 "),
    ];
    prop_oneof![
        select(&["ip ", "ip6 ", ""][..])
            .prop_flat_map(move |of| list(format!("{of}proto"), number.clone())),
        select(ethertypes.to_vec()).prop_map(|n| Text::same(format!("ether proto {n}"))),
        select(named.to_vec()).prop_map(|(ours, theirs)| Text::pair(ours, theirs)),
    ]
    .boxed()
}

fn vlan() -> BoxedStrategy<Text> {
    let id = select(frames::VLANS.to_vec());
    prop_oneof![
        Just(Text::same("vlan")),
        id.clone().prop_map(|id| Text::same(format!("vlan {id}"))),
        id.prop_map(|id| Text::same(format!("vlan ({id})"))),
    ]
    .boxed()
}

fn comparison() -> BoxedStrategy<String> {
    let usual = [
        "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
        "tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn",
        "tcp[13] = 2",
        "tcp[13]&4!=0",
        "ip[8] < 64",
        "ip[6:2] & 0x1fff = 0",
        "ip[0] & 0xf > 5",
        "icmp[icmptype] = icmp-echo",
        "icmp[icmptype] != icmp-echo and icmp[icmptype] != icmp-echoreply",
        "icmp6[icmp6type] = 135",
        "ether[0] & 1 = 0",
        "ether[12:2] = 0x0800",
        "arp[6:2] = 1",
        "udp[0:2] = udp[2:2]",
        "(tcp[12:1] & 0xf0) >> 2 > 20",
        "len > 60",
        "(tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0))",
        "ip6[6] = 44 or ip6[7] > 1",
        "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    ];
    let relation = select(&["=", "==", "!=", "<", "<=", ">", ">=", " = "][..]);
    prop_oneof![
        1 => select(usual.to_vec()).prop_map(str::to_owned),
        2 => (value(), relation, value())
            .prop_map(|(left, relation, right)| format!("{left}{relation}{right}")),
    ]
    .boxed()
}

/// A value. libpcap forgets what it must ask before it reads the right side of an operator (see
/// docs/filter.md), so there stands nothing that needs asking.
fn value() -> BoxedStrategy<String> {
    let protocol = select(
        &[
            "ether", "ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6", "sctp", "igmp",
        ][..],
    );
    let width = select(&["", "", ":1", ":2", ":4"][..]);
    let offset = prop_oneof![6 => (0..40_u32).prop_map(|n| n.to_string()), 1 => constant()];
    let field = (protocol, offset, width)
        .prop_map(|(protocol, offset, width)| format!("{protocol}[{offset}{width}]"));
    let left = prop_oneof![4 => field, 1 => constant(), 1 => Just("len".to_owned())];
    left.prop_recursive(3, 8, 2, |inner| {
        let right = prop_oneof![
            3 => constant(),
            1 => Just("len".to_owned()),
            1 => (0..20_u32).prop_map(|n| format!("ether[{n}]")),
        ];
        let operator = select(&["+", " - ", "*", "&", "|", " + ", " & ", " * "][..]);
        let shift = select(&["<<", " >> "][..]);
        prop_oneof![
            4 => (inner.clone(), operator, right.clone())
                .prop_map(|(a, operator, b)| format!("{a}{operator}{b}")),
            1 => (inner.clone(), shift, 0..32_u32)
                .prop_map(|(a, shift, b)| format!("{a}{shift}{b}")),
            1 => (inner.clone(), select(&["/", " % ", "^"][..]), 1..9_u32)
                .prop_map(|(a, operator, b)| format!("(({a}){operator}{b})")),
            1 => (inner.clone(), select(&["/", "<<", ">>"][..]), right)
                .prop_map(|(a, operator, b)| format!("({a}){operator}(1+{b})")),
            1 => inner.clone().prop_map(|a| format!("-({a})")),
            1 => inner.clone().prop_map(|a| format!("({a}+0)")),
            1 => inner.prop_map(|a| format!("ip[({a}) & 0x1f]")),
        ]
    })
    .boxed()
}

fn constant() -> BoxedStrategy<String> {
    let edge = [
        "0",
        "1",
        "0xff",
        "0xffffffff",
        "4294967295",
        "0x80000000",
        "017",
        "tcp-syn",
    ];
    prop_oneof![
        (0..300_u32).prop_map(|n| n.to_string()),
        select(edge.to_vec()).prop_map(str::to_owned),
    ]
    .boxed()
}
