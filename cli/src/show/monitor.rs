//! `vswitch monitor nat`: events as `conntrack -E` prints them.

use super::conntrack::{Way, is_assured, ways};
use crate::control::api::{Happening, NatEvent, Traffic};

/// One event on one line, in the form of `conntrack -E` (conntrack-tools, `src/conntrack.c`):
/// what happened, protocol, its number, seconds left, state, then the tuple of the first packet
/// and the tuple that an answer has, each as it is on the wire of its side.
#[must_use]
pub fn line(event: &NatEvent) -> String {
    let mut out = String::from(match event.event {
        Happening::New => "[NEW]",
        Happening::Update => "[UPDATE]",
        Happening::Destroy => "[DESTROY]",
    });
    let is_over = event.event == Happening::Destroy;
    out.push_str(&format!(" {} {}", event.proto, event.proto_number));
    if !is_over {
        out.push_str(&format!(" {:.0}", event.left));
    }
    // Only states of connections are shown: whether there was an answer is a word of its own.
    if !matches!(event.state.as_str(), "UNREPLIED" | "REPLIED") {
        out.push_str(&format!(" {}", event.state));
    }
    let ends = [event.inside, event.external, event.outside];
    let traffic = [event.outbound, event.inbound];
    let counted = |way: &Way| {
        let Traffic { packets, bytes } = way.traffic;
        let counts = format!(" packets={packets} bytes={bytes}");
        format!(
            " {}{}",
            way.tuple,
            if is_over { counts } else { String::new() }
        )
    };
    let [there, back] = ways(event.proto_number, event.origin, ends, traffic);
    out.push_str(&counted(&there));
    if !event.replied {
        out.push_str(" [UNREPLIED]");
    }
    out.push_str(&counted(&back));
    if is_assured(&event.proto, &event.state, event.replied) {
        out.push_str(" [ASSURED]");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::{NatEventSchema, Side};

    fn event(proto: (&str, u8), state: &str, ends: [&str; 3]) -> NatEvent {
        let [inside, external, outside] = ends.map(|end| end.parse().unwrap());
        NatEvent {
            schema: NatEventSchema,
            time: "2026-11-22T10:00:00.123Z".into(),
            event: Happening::New,
            proto: proto.0.into(),
            proto_number: proto.1,
            state: state.into(),
            inside,
            external,
            outside,
            origin: Side::Inside,
            replied: false,
            left: 240.0,
            outbound: Traffic {
                packets: 3,
                bytes: 180,
            },
            inbound: Traffic::default(),
        }
    }

    #[test]
    fn lines_are_those_of_conntrack() {
        let ends = ["10.77.0.11:40122", "192.0.2.10:61007", "1.1.1.1:443"];
        let mut tcp = event(("tcp", 6), "SYN_SENT", ends);
        assert_eq!(
            line(&tcp),
            "[NEW] tcp 6 240 SYN_SENT src=10.77.0.11 dst=1.1.1.1 sport=40122 dport=443 \
             [UNREPLIED] src=1.1.1.1 dst=192.0.2.10 sport=443 dport=61007"
        );
        (tcp.event, tcp.replied, tcp.left) = (Happening::Update, true, 7439.6);
        tcp.state = "ESTABLISHED".into();
        assert_eq!(
            line(&tcp),
            "[UPDATE] tcp 6 7440 ESTABLISHED src=10.77.0.11 dst=1.1.1.1 sport=40122 dport=443 \
             src=1.1.1.1 dst=192.0.2.10 sport=443 dport=61007 [ASSURED]"
        );
        (tcp.event, tcp.state) = (Happening::Destroy, "TIME_WAIT".into());
        assert_eq!(
            line(&tcp),
            "[DESTROY] tcp 6 TIME_WAIT src=10.77.0.11 dst=1.1.1.1 sport=40122 dport=443 \
             packets=3 bytes=180 src=1.1.1.1 dst=192.0.2.10 sport=443 dport=61007 \
             packets=0 bytes=0 [ASSURED]",
            "it was, as it stays in the kernel's list"
        );
        (tcp.event, tcp.state) = (Happening::Update, "SYN_RECV".into());
        assert!(line(&tcp).ends_with(" dport=61007"));
        let mut udp = event(("udp", 17), "REPLIED", ends);
        (udp.event, udp.replied) = (Happening::Update, true);
        assert_eq!(
            line(&udp),
            "[UPDATE] udp 17 240 src=10.77.0.11 dst=1.1.1.1 sport=40122 dport=443 \
             src=1.1.1.1 dst=192.0.2.10 sport=443 dport=61007 [ASSURED]"
        );
    }

    #[test]
    fn tuples_are_those_of_each_sides_wire() {
        let ends = ["10.77.0.11:80", "192.0.2.10:8080", "1.1.1.1:5555"];
        let mut published = event(("tcp", 6), "SYN_SENT", ends);
        published.origin = Side::Outside;
        assert_eq!(
            line(&published),
            "[NEW] tcp 6 240 SYN_SENT src=1.1.1.1 dst=192.0.2.10 sport=5555 dport=8080 \
             [UNREPLIED] src=10.77.0.11 dst=1.1.1.1 sport=80 dport=5555"
        );
        let ends = ["10.77.0.11:77", "192.0.2.10:61000", "1.1.1.1:8"];
        assert_eq!(
            line(&event(("icmp", 1), "UNREPLIED", ends)),
            "[NEW] icmp 1 240 src=10.77.0.11 dst=1.1.1.1 type=8 code=0 id=77 \
             [UNREPLIED] src=1.1.1.1 dst=192.0.2.10 type=0 code=0 id=61000"
        );
    }
}
