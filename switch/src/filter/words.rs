//! The names of numbers: services, protocols, and fields of ICMP and TCP.

use nat::wire::protocol;

/// A service's port, and whether it is registered for TCP and for UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) port: u16,
    pub(super) tcp: bool,
    pub(super) udp: bool,
}

const fn tcp(port: u16) -> Service {
    Service {
        port,
        tcp: true,
        udp: false,
    }
}

const fn udp(port: u16) -> Service {
    Service {
        port,
        tcp: false,
        udp: true,
    }
}

const fn both(port: u16) -> Service {
    Service {
        port,
        tcp: true,
        udp: true,
    }
}

/// The usual ones, as Debian 12's /etc/services has them; sorted by name.
const SERVICES: &[(&str, Service)] = &[
    ("bgp", tcp(179)),
    ("bootpc", udp(68)),
    ("bootps", udp(67)),
    ("dhcpv6-client", udp(546)),
    ("dhcpv6-server", udp(547)),
    ("discard", both(9)),
    ("domain", both(53)),
    ("domain-s", both(853)),
    ("echo", both(7)),
    ("ftp", tcp(21)),
    ("ftp-data", tcp(20)),
    ("git", tcp(9418)),
    ("http", tcp(80)),
    ("http-alt", tcp(8080)),
    ("https", both(443)),
    ("imap2", tcp(143)),
    ("imaps", tcp(993)),
    ("isakmp", udp(500)),
    ("ldap", both(389)),
    ("ldaps", both(636)),
    ("mdns", udp(5353)),
    ("mysql", tcp(3306)),
    ("nfs", both(2049)),
    ("ntp", udp(123)),
    ("pop3", tcp(110)),
    ("pop3s", tcp(995)),
    ("postgresql", tcp(5432)),
    ("radius", both(1812)),
    ("redis", tcp(6379)),
    ("rsync", tcp(873)),
    ("sip", both(5060)),
    ("smtp", tcp(25)),
    ("snmp", both(161)),
    ("ssh", tcp(22)),
    ("submission", tcp(587)),
    ("sunrpc", both(111)),
    ("syslog", udp(514)),
    ("telnet", tcp(23)),
    ("tftp", udp(69)),
];

/// Protocols above IP by name (IANA), for `proto`.
const PROTOCOLS: &[(&str, u8)] = &[
    ("ah", 51),
    ("esp", 50),
    ("gre", 47),
    ("icmp", protocol::ICMP),
    ("icmp6", 58),
    ("igmp", 2),
    ("ipv6-icmp", 58),
    ("ospf", 89),
    ("pim", 103),
    ("sctp", protocol::SCTP),
    ("tcp", protocol::TCP),
    ("udp", protocol::UDP),
    ("vrrp", 112),
];

/// Names of offsets and values (scanner.l of libpcap); usable wherever a number is.
const CONSTANTS: &[(&str, u32)] = &[
    ("icmptype", 0),
    ("icmpcode", 1),
    ("icmp-echoreply", 0),
    ("icmp-unreach", 3),
    ("icmp-sourcequench", 4),
    ("icmp-redirect", 5),
    ("icmp-echo", 8),
    ("icmp-routeradvert", 9),
    ("icmp-routersolicit", 10),
    ("icmp-timxceed", 11),
    ("icmp-paramprob", 12),
    ("icmp-tstamp", 13),
    ("icmp-tstampreply", 14),
    ("icmp-ireq", 15),
    ("icmp-ireqreply", 16),
    ("icmp-maskreq", 17),
    ("icmp-maskreply", 18),
    ("icmp6type", 0),
    ("icmp6code", 1),
    ("icmp6-destinationunreach", 1),
    ("icmp6-packettoobig", 2),
    ("icmp6-timeexceeded", 3),
    ("icmp6-parameterproblem", 4),
    ("icmp6-echo", 128),
    ("icmp6-echoreply", 129),
    ("icmp6-routersolicit", 133),
    ("icmp6-routeradvert", 134),
    ("icmp6-neighborsolicit", 135),
    ("icmp6-neighboradvert", 136),
    ("icmp6-redirect", 137),
    ("tcpflags", 13),
    ("tcp-fin", 0x01),
    ("tcp-syn", 0x02),
    ("tcp-rst", 0x04),
    ("tcp-push", 0x08),
    ("tcp-ack", 0x10),
    ("tcp-urg", 0x20),
    ("tcp-ece", 0x40),
    ("tcp-cwr", 0x80),
];

fn find<T: Copy>(table: &[(&str, T)], word: &str) -> Option<T> {
    let mut entries = table.iter();
    let entry = entries.find(|(name, _)| name.eq_ignore_ascii_case(word));
    entry.map(|&(_, value)| value)
}

pub(super) fn service(word: &str) -> Option<Service> {
    find(SERVICES, word)
}

pub(super) fn protocol(word: &str) -> Option<u8> {
    find(PROTOCOLS, word)
}

pub(super) fn constant(word: &str) -> Option<u32> {
    find(CONSTANTS, word)
}

/// A number as libpcap's scanner reads it: decimal, `0x` hexadecimal, or octal after a 0; `None`
/// for what is none, or does not fit 32 bits.
pub(super) fn number(word: &str) -> Option<u32> {
    let lower = word.to_ascii_lowercase();
    let (digits, radix) = match lower.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None if word.len() > 1 && word.starts_with('0') => (&word[1..], 8),
        None => (word, 10),
    };
    // `from_str_radix` takes a sign, which a number of a filter never has.
    let plain = digits.bytes().all(|b| b.is_ascii_alphanumeric());
    (plain.then(|| u32::from_str_radix(digits, radix))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_libpcap_reads_them() {
        let cases = [
            ("80", Some(80)),
            ("0", Some(0)),
            ("010", Some(8)),
            ("0x1F", Some(31)),
            ("0X1f", Some(31)),
            ("089", None),
            ("0x", None),
            ("", None),
            ("+1", None),
            ("4294967295", Some(u32::MAX)),
            ("4294967296", None),
        ];
        for (word, expected) in cases {
            assert_eq!(number(word), expected, "{word}");
        }
    }

    #[test]
    fn services_are_those_of_the_host_where_it_has_a_list() {
        let Ok(text) = std::fs::read_to_string("/etc/services") else {
            println!("no /etc/services here: nothing to compare with");
            return;
        };
        for (name, service) in SERVICES {
            let registered = |protocol| {
                text.lines().any(|line| {
                    let mut words = line.split_whitespace();
                    words.next() == Some(name)
                        && words.next() == Some(&format!("{}/{protocol}", service.port))
                })
            };
            // A list may have more or fewer protocols than ours, but not another port.
            let somewhere = registered("tcp") || registered("udp");
            let known = text
                .lines()
                .any(|l| l.split_whitespace().next() == Some(name));
            assert!(somewhere || !known, "{name} is not {}", service.port);
        }
        assert!(SERVICES.is_sorted_by_key(|(name, _)| name));
    }
}
