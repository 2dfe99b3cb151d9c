//! Sessions in the words of `conntrack -L`, for scripts and eyes that know those.
//!
//! The line is libnetfilter_conntrack's (`__snprintf_conntrack_default`): protocol and number,
//! seconds left, TCP's state, the tuple of the first packet's direction, the one of the answers,
//! and `[UNREPLIED]` or `[ASSURED]` where they belong.

use std::net::SocketAddr;

use crate::control::api::{NatSession, Side, Traffic};

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
    let proto = session.proto.as_str();
    let mut line = format!("{proto:<8} {} {:.0} ", number(proto), session.left);
    if matches!(proto, "tcp" | "sctp") {
        line.push_str(&format!("{} ", session.state));
    }
    // The tuples as packets bear them: the first packet's, and that of the answers.
    let out = (session.inside, session.outside, session.outbound);
    let back = (session.outside, session.external, session.inbound);
    let (first, answers) = match session.origin {
        Side::Inside => (out, back),
        Side::Outside => (back, out),
    };
    let query = proto == "icmp";
    line.push_str(&tuple(first, query.then_some(request_type(session))));
    if !session.replied {
        line.push_str("[UNREPLIED] ");
    }
    line.push_str(&tuple(answers, query.then_some(reply_type(session))));
    if session.replied && is_assured(session) {
        line.push_str("[ASSURED] ");
    }
    line.push_str("mark=0 use=1");
    line
}

/// As the kernel sets IPS_ASSURED: TCP once established, others once answered.
fn is_assured(session: &NatSession) -> bool {
    session.proto != "tcp" || !session.state.starts_with("SYN_")
}

fn tuple((from, to, traffic): (SocketAddr, SocketAddr, Traffic), kind: Option<u16>) -> String {
    let ports = match kind {
        // An echo's identifier stands for the port of whoever it belongs to.
        Some(kind) => {
            let id = if matches!(kind, 8 | 13) { from } else { to };
            format!("type={kind} code=0 id={}", id.port())
        }
        None => format!("sport={} dport={}", from.port(), to.port()),
    };
    format!(
        "src={} dst={} {ports} packets={} bytes={} ",
        from.ip(),
        to.ip(),
        traffic.packets,
        traffic.bytes
    )
}

/// A query's type is filed as its remote port.
fn request_type(session: &NatSession) -> u16 {
    session.outside.port()
}

fn reply_type(session: &NatSession) -> u16 {
    match request_type(session) {
        13 => 14,
        _ => 0,
    }
}

fn number(proto: &str) -> u8 {
    match proto {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        // `ip50` and the like are named by their number.
        other => other.trim_start_matches("ip").parse().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(proto: &str, state: &str, origin: Side, ends: [&str; 3]) -> NatSession {
        let [inside, external, outside] = ends.map(|end| end.parse().unwrap());
        let traffic = |packets, bytes| Traffic { bytes, packets };
        NatSession {
            proto: proto.into(),
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
    }
}
