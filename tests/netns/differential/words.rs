//! What a station heard, in words that are the same wherever ports were drawn.

use vswitch_cli::lab::traffic::craft::{self, Seen, tcp_flags};

use super::bed::{Bed, Who};

/// One packet that `who` heard.
pub(super) fn heard(bed: &mut Bed, who: Who, seen: &Seen) -> String {
    let mut words = format!("{who:?}: {}", packet(bed, seen));
    let expected = bed.who(seen.destination);
    if expected != format!("{who:?}") {
        words.push_str(" (not for it)");
    }
    if !seen.header_checksum_ok {
        words.push_str(", a wrong header sum");
    }
    if seen.payload_checksum_ok() == Some(false) {
        words.push_str(", a wrong sum");
    }
    words
}

/// A packet, or the head of one that an ICMP error quotes.
fn packet(bed: &mut Bed, seen: &Seen) -> String {
    let [from, to] = [seen.source, seen.destination].map(|ip| bed.who(ip));
    if seen.fragment_offset > 0 {
        let at = seen.fragment_offset;
        return format!("fragment {from} > {to} at {at}");
    }
    let first = if seen.more_fragments {
        "first fragment of "
    } else {
        ""
    };
    if let Some((kind, code)) = seen.icmp() {
        return format!("{first}{}", icmp(bed, seen, (kind, code)));
    }
    let Some((source, destination)) = seen.ports().or_else(|| sctp_ports(seen)) else {
        return format!("{first}protocol {} {from} > {to}", seen.protocol);
    };
    let [source, destination] = [source, destination].map(|port| bed.name(port));
    let what = match seen.protocol {
        craft::UDP if seen.payload.get(6..8) == Some(&[0, 0]) => "UDP without a sum".to_owned(),
        craft::UDP => "UDP".to_owned(),
        craft::TCP => seen.tcp_flags().map_or("TCP".to_owned(), flags),
        _ => "SCTP".to_owned(),
    };
    format!("{first}{what} {from}:{source} > {to}:{destination}")
}

fn sctp_ports(seen: &Seen) -> Option<(u16, u16)> {
    const SCTP: u8 = 132;
    let ports = seen.payload.get(..4)?;
    let port = |at: usize| u16::from_be_bytes([ports[at], ports[at + 1]]);
    (seen.protocol == SCTP).then(|| (port(0), port(2)))
}

fn flags(flags: u8) -> String {
    let known = [
        (tcp_flags::SYN, "SYN"),
        (tcp_flags::FIN, "FIN"),
        (tcp_flags::RST, "RST"),
        (tcp_flags::PSH, "PSH"),
        (tcp_flags::ACK, "ACK"),
        (32, "URG"),
    ];
    let set: Vec<&str> = known
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, name)| *name)
        .collect();
    if set.is_empty() {
        "no flags".to_owned()
    } else {
        set.join("+")
    }
}

/// Queries by their identifier, errors by what they quote.
fn icmp(bed: &mut Bed, seen: &Seen, (kind, code): (u8, u8)) -> String {
    let [from, to] = [seen.source, seen.destination].map(|ip| bed.who(ip));
    let name = match kind {
        0 => "echo reply".to_owned(),
        8 => "echo".to_owned(),
        13 => "timestamp".to_owned(),
        14 => "timestamp reply".to_owned(),
        _ => format!("ICMP {kind}/{code}"),
    };
    if matches!(kind, 3 | 4 | 5 | 11 | 12) {
        let quoted = seen.payload.get(8..).and_then(Seen::in_packet);
        let about = quoted.map_or("nothing readable".to_owned(), |quoted| {
            let sum = if quoted.header_checksum_ok {
                ""
            } else {
                ", a wrong quoted sum"
            };
            format!("{}{sum}", packet(bed, &quoted))
        });
        let mtu = match (kind, code, seen.payload.get(6..8)) {
            (3, 4, Some(&[high, low])) => format!(" mtu {}", u16::from_be_bytes([high, low])),
            _ => String::new(),
        };
        return format!("{name}{mtu} {from} > {to} about ({about})");
    }
    let id = seen
        .payload
        .get(4..6)
        .map(|id| u16::from_be_bytes([id[0], id[1]]));
    let id = id.map_or_else(String::new, |id| bed.name(id));
    format!("{name} {from}:{id} > {to}")
}
