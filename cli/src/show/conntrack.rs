//! Sessions in the words of `conntrack -L`, for scripts and eyes that know those.
//!
//! The line is libnetfilter_conntrack's (`__snprintf_conntrack_default`): protocol and number,
//! seconds left, TCP's state, the tuple of the first packet's direction, the one of the answers,
//! and `[UNREPLIED]` or `[ASSURED]` where they belong.

use std::net::SocketAddr;

use crate::control::api::{NatSession, Side, Traffic};

/// Protocol number of ICMP (IANA).
const ICMP: u8 = 1;

/// One line for each session, in the order given.
#[must_use]
pub fn lines(sessions: &[NatSession]) -> String {
    sessions
        .iter()
        .map(|session| format!("{}\n", line(session)))
        .collect()
}

/// The session as one line, without its end.
#[must_use]
pub fn line(session: &NatSession) -> String {
    let (proto, number) = (session.proto.as_str(), session.proto_number);
    let mut line = format!("{proto:<8} {number} {:.0} ", session.left);
    if matches!(proto, "tcp" | "sctp") {
        line.push_str(&format!("{} ", session.state));
    }
    let ends = [session.inside, session.external, session.outside];
    let traffic = [session.outbound, session.inbound];
    let counted = |way: &Way| {
        let Traffic { packets, bytes } = way.traffic;
        format!("{} packets={packets} bytes={bytes} ", way.tuple)
    };
    let [there, back] = ways(number, session.origin, ends, traffic);
    line.push_str(&counted(&there));
    if !session.replied {
        line.push_str("[UNREPLIED] ");
    }
    line.push_str(&counted(&back));
    if is_assured(proto, &session.state, session.replied) {
        line.push_str("[ASSURED] ");
    }
    line.push_str("mark=0 use=1");
    line
}

/// As the kernel sets IPS_ASSURED: TCP once established, others once answered.
pub(super) fn is_assured(proto: &str, state: &str, replied: bool) -> bool {
    replied && (proto != "tcp" || !state.starts_with("SYN_"))
}

/// One direction of a session, as packets on the wire of its side bear it.
pub(super) struct Way {
    /// `src=… dst=… sport=… dport=…`, or type, code and id of a query.
    pub(super) tuple: String,
    /// What went that way.
    pub(super) traffic: Traffic,
}

/// The way of the first packet, and that of the answers. `ends` are inside, external and outside,
/// `traffic` is outbound and inbound.
pub(super) fn ways(
    proto_number: u8,
    origin: Side,
    [inside, external, outside]: [SocketAddr; 3],
    [outbound, inbound]: [Traffic; 2],
) -> [Way; 2] {
    let [(from, to, there), (back_from, back_to, back)] = match origin {
        Side::Inside => [(inside, outside, outbound), (outside, external, inbound)],
        Side::Outside => [(outside, external, inbound), (inside, outside, outbound)],
    };
    [
        Way {
            tuple: tuple(proto_number, from, to, false),
            traffic: there,
        },
        Way {
            tuple: tuple(proto_number, back_from, back_to, true),
            traffic: back,
        },
    ]
}

fn tuple(proto_number: u8, from: SocketAddr, to: SocketAddr, is_reply: bool) -> String {
    let addresses = format!("src={} dst={}", from.ip(), to.ip());
    if proto_number != ICMP {
        return format!("{addresses} sport={} dport={}", from.port(), to.port());
    }
    // A query's identifier is its sender's port, and its type is filed as the remote one.
    let (id, kind) = if is_reply {
        (to.port(), reply_type(from.port()))
    } else {
        (from.port(), to.port())
    };
    format!("{addresses} type={kind} code=0 id={id}")
}

/// The type of the answer to an ICMP query (RFC 792).
const fn reply_type(request: u16) -> u16 {
    match request {
        // Echo.
        8 => 0,
        // Timestamp.
        13 => 14,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(proto: &str, state: &str, origin: Side, ends: [&str; 3]) -> NatSession {
        let [inside, external, outside] = ends.map(|end| end.parse().unwrap());
        let traffic = |packets, bytes| Traffic { bytes, packets };
        let proto_number = match proto {
            "tcp" => 6,
            "icmp" => 1,
            _ => 47,
        };
        NatSession {
            proto: proto.into(),
            proto_number,
            state: state.into(),
            inside,
            external,
            outside,
            origin,
            replied: state != "SYN_SENT" && state != "UNREPLIED",
            port: None,
            age: 1.0,
            left: 7195.2,
            outbound: traffic(3, 180),
            inbound: traffic(2, 120),
        }
    }

    #[test]
    fn lines_are_those_that_conntrack_prints() {
        let out = ["10.77.0.11:40122", "192.0.2.10:61007", "1.1.1.1:443"];
        assert_eq!(
            line(&session("tcp", "ESTABLISHED", Side::Inside, out)),
            "tcp      6 7195 ESTABLISHED src=10.77.0.11 dst=1.1.1.1 sport=40122 dport=443 \
             packets=3 bytes=180 src=1.1.1.1 dst=192.0.2.10 sport=443 dport=61007 packets=2 \
             bytes=120 [ASSURED] mark=0 use=1"
        );
        assert_eq!(
            line(&session("tcp", "SYN_SENT", Side::Inside, out)),
            "tcp      6 7195 SYN_SENT src=10.77.0.11 dst=1.1.1.1 sport=40122 dport=443 packets=3 \
             bytes=180 [UNREPLIED] src=1.1.1.1 dst=192.0.2.10 sport=443 dport=61007 packets=2 \
             bytes=120 mark=0 use=1"
        );
        let published = ["10.77.0.11:80", "192.0.2.10:8080", "198.51.100.2:33000"];
        assert_eq!(
            line(&session("tcp", "ESTABLISHED", Side::Outside, published)),
            "tcp      6 7195 ESTABLISHED src=198.51.100.2 dst=192.0.2.10 sport=33000 dport=8080 \
             packets=2 bytes=120 src=10.77.0.11 dst=198.51.100.2 sport=80 dport=33000 packets=3 \
             bytes=180 [ASSURED] mark=0 use=1"
        );
        let ping = ["10.77.0.11:7", "192.0.2.10:61009", "1.1.1.1:8"];
        assert_eq!(
            line(&session("icmp", "REPLIED", Side::Inside, ping)),
            "icmp     1 7195 src=10.77.0.11 dst=1.1.1.1 type=8 code=0 id=7 packets=3 bytes=180 \
             src=1.1.1.1 dst=192.0.2.10 type=0 code=0 id=61009 packets=2 bytes=120 [ASSURED] \
             mark=0 use=1"
        );
        let tunnel = ["10.77.0.11:0", "192.0.2.10:0", "1.1.1.1:0"];
        assert!(
            line(&session("gre", "REPLIED", Side::Inside, tunnel)).starts_with("gre      47 7195 ")
        );
    }
}
