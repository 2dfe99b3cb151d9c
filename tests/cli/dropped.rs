//! Drops and their packets, events, and the story of an address: what the program makes of them.

use std::net::Ipv4Addr;

use switch::verdict::DropReason;
use vswitch_cli::control::Feed;
use vswitch_cli::control::api::{self, OperState};

use super::control::Running;
use super::world::World;

fn packet(port: Option<&str>, egress: Option<&str>, summary: &str) -> api::KeptPacket {
    api::KeptPacket {
        time: "2026-11-22T10:00:00.123Z".into(),
        age: 3.2,
        port: port.map(Into::into),
        egress: egress.map(Into::into),
        length: 98,
        summary: summary.into(),
        bytes: "02770a4d0000".into(),
    }
}

/// A port comes up and a burst begins, with a gap between them; then the switch stops.
pub(super) fn happened(kinds: &[api::EventKind], mut feed: Feed) {
    let up = api::PortEvent {
        event: api::PortHappening::Up,
        port: "veth-blue".into(),
        state: OperState::Up,
        worker: Some(0),
        from: None,
    };
    let many = api::DropEvent {
        event: api::DropHappening::Begin,
        reason: "NO_ROUTE".into(),
        port: "veth-blue".into(),
        rate: 1234.0,
        count: 617,
        seconds: 0.5,
        fix: String::new(),
    };
    for what in [api::EventWhat::Port(up), api::EventWhat::Drop(many)] {
        if kinds.contains(&what.kind()) {
            let event = api::Event {
                schema: api::EventSchema,
                time: "2026-11-22T10:00:00.123Z".into(),
                what,
            };
            let line = serde_json::to_string(&event).unwrap() + "\n";
            feed.send(&line.into(), 1);
            feed.lose(3);
        }
    }
}

pub(super) fn drops() -> Vec<api::Drop> {
    let drop = |reason, port: Option<&str>, count, rate, last| api::Drop {
        last,
        ..api::Drop::new(reason, port.map(Into::into), count, rate)
    };
    let ping = "10.77.0.11 > 203.0.113.5  ICMP echo request id 7 seq 1";
    let ping = packet(Some("veth-blue"), None, ping);
    let asked = packet(
        Some("veth-blue"),
        Some("web0"),
        "ARP who has 10.77.0.20, tell 10.77.0.11",
    );
    vec![
        drop(
            DropReason::NoRoute,
            Some("veth-blue"),
            3,
            Some(0.0),
            Some(ping),
        ),
        drop(
            DropReason::EgressDown,
            Some("web0"),
            1400,
            Some(0.2),
            Some(asked),
        ),
        drop(DropReason::NatUnsolicited, None, 3, None, None),
    ]
}

impl World {
    /// Forgets the packets and keeps the counts.
    pub(super) fn forget_packets(&mut self) -> api::Done {
        for drop in &mut self.drops {
            drop.last = None;
        }
        api::Done::new("kept packets forgotten", 1)
    }

    /// The story of 203.0.113.5, and of an address that nobody knows.
    pub(super) fn why(&self, dst: Ipv4Addr, src: Option<Ipv4Addr>) -> api::Why {
        let known = dst == Ipv4Addr::new(203, 0, 113, 5);
        let row = &self.drops[0];
        let ping = row.last.clone().unwrap();
        let story = |translated: Option<&str>| api::WhyDrop {
            reason: row.reason.clone(),
            meaning: row.meaning.clone(),
            fix: row.fix.clone(),
            translated: translated.map(Into::into),
            packet: ping.clone(),
        };
        let drops = vec![story(None), story(Some("192.0.2.10:61007"))];
        let route = api::WhyRoute {
            dst: "0.0.0.0/0".into(),
            gateway: Some("192.0.2.1".parse().unwrap()),
            dev: "eth0".into(),
        };
        let now = api::WhyNow {
            fate: "FORWARDED veth-blue → eth0".into(),
            dropped: false,
            packet: ping.clone(),
        };
        let of = |list: &[api::NatSession]| if known { list.to_vec() } else { Vec::new() };
        api::Why {
            schema: api::WhySchema,
            dst,
            src,
            known,
            drops: if known { drops } else { Vec::new() },
            address: api::WhyAddress {
                place: api::WhyPlace::Outside,
                port: known.then(|| "eth0".into()),
                route: known.then_some(route),
                neighbours: if known {
                    self.neigh[..1].to_vec()
                } else {
                    Vec::new()
                },
                fdb: if known {
                    self.fdb[..1].to_vec()
                } else {
                    Vec::new()
                },
                sessions: of(&self.nat.sessions[..1]),
                sessions_total: if known { 20 } else { 0 },
                published: if known {
                    self.nat.published.clone()
                } else {
                    Vec::new()
                },
            },
            now: known.then_some(now),
        }
    }

    /// The rows of a reason, each with its packets.
    pub(super) fn kept(&self, reason: Option<DropReason>) -> Vec<api::Drop> {
        let wanted = |drop: &&api::Drop| reason.is_none_or(|reason| drop.reason == reason.word());
        let with_packets = |drop: &api::Drop| {
            let first = drop.last.iter().cloned().collect();
            let last = vec![packet(None, None, "192.0.2.7 > 192.0.2.10  IP")];
            api::Drop {
                kept: Some(api::KeptPackets { first, last }),
                ..drop.clone()
            }
        };
        self.drops.iter().filter(wanted).map(with_packets).collect()
    }
}

#[test]
fn a_reason_is_explained_with_the_packets_it_applied_to() {
    let running = Running::new();
    let shown = running.vswitch("drops --why no_route");
    assert_eq!((shown.code, shown.stderr.as_str()), (0, ""));
    super::snapshot("drops-why.txt", &shown.stdout);
    let json = running.vswitch("-j drops --why EGRESS_DOWN");
    let rows: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(rows[0]["schema"], "vswitch.drop/1");
    assert_eq!(rows[0]["last"]["port"], "veth-blue");
    assert_eq!(rows[0]["kept"]["first"][0]["egress"], "web0");
    assert_eq!(rows[0]["kept"]["last"][0]["port"], serde_json::Value::Null);
    // One that never applied is explained, too.
    let never = running.vswitch("drops --why IP_CSUM");
    assert!(never.stdout.starts_with("IP_CSUM\n") && never.code == 0);
    let (status, body) = running.raw("GET /drops/kept?reason=IP_CSUM");
    assert_eq!((status, body.as_str()), (200, "[]"));
    assert_eq!(running.raw("GET /drops/kept?reason=NOPE").0, 400);
    assert_eq!(running.raw("GET /drops/kept?why=IP_CSUM").0, 400);
    assert_eq!(running.vswitch("drops flush").code, 0);
    assert!(!running.vswitch("drops").stdout.contains("ago"));
}

#[test]
fn events_stream_with_time_and_kind_and_gaps_are_told() {
    let running = Running::new();
    let up = "2026-11-22T10:00:00.123Z  port     veth-blue up\n";
    let many = "2026-11-22T10:00:00.123Z  drop     NO_ROUTE on veth-blue: 1.2 k a second\n";
    let lost = "3 events lost: they came faster than they were read\n";
    let both = format!("{up}{many}");
    for (words, stdout, stderr) in [
        ("monitor -c 2", both.as_str(), lost),
        ("monitor port --count 1", up, ""),
        ("monitor drop -c 1", many, ""),
        ("monitor d g p -c 1", up, ""),
    ] {
        let ended = running.vswitch(words);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, stderr), "{words}");
        assert_eq!(ended.stdout, stdout, "{words}");
    }
    let stopped = running.vswitch("monitor station");
    assert_eq!((stopped.code, stopped.stdout.as_str()), (3, ""));
    // With nat, both streams in one: each line says what it is.
    let mixed = running.vswitch("monitor port nat -c 3");
    let kinds: Vec<&str> = (mixed.stdout.lines())
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!((mixed.code, kinds.len()), (0, 3), "{mixed:?}");
    assert!(
        kinds.contains(&"port") && kinds.contains(&"nat"),
        "{mixed:?}"
    );
    let json = running.vswitch("-j monitor port");
    let lines: Vec<serde_json::Value> = (json.stdout.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 1, "a gap is told with what comes after it");
    assert_eq!(
        (&lines[0]["kind"], &lines[0]["event"]),
        (&"port".into(), &"up".into())
    );
    assert_eq!(running.raw("GET /monitor/events?kind=nope").0, 400);
    assert_eq!(running.raw("GET /monitor/events?port").0, 400);
    let wrong = running.vswitch("monitor ports");
    assert_eq!(wrong.code, 2, "{wrong:?}");
}

#[test]
fn the_story_of_an_address_is_told_and_the_answer_is_no_where_there_is_none() {
    let running = Running::new();
    let known = running.vswitch("why --dst 203.0.113.5");
    assert_eq!((known.code, known.stderr.as_str()), (0, ""));
    let unknown = running.vswitch("why --dst 198.51.100.7 --src 10.77.0.11");
    assert_eq!((unknown.code, unknown.stderr.as_str()), (4, ""));
    super::snapshot("why.txt", &[known.stdout, unknown.stdout].join("\n"));
    let json = running.vswitch("-j why --dst 203.0.113.5 --src 10.77.0.11");
    let (status, body) = running.raw("GET /why?dst=203.0.113.5&src=10.77.0.11");
    assert_eq!((json.code, status), (0, 200));
    assert_eq!(json.stdout, format!("{body}\n"));
    assert!(
        body.starts_with(r#"{"schema":"vswitch.why/1","dst":"203.0.113.5","#),
        "{body}"
    );
    assert_eq!(running.vswitch("-j why --dst 198.51.100.7").code, 4);
    assert_eq!(running.vswitch("why").code, 2);
    for path in ["/why", "/why?dst=nope", "/why?dst=10.0.0.1&port=3"] {
        assert_eq!(running.raw(&format!("GET {path}")).0, 400, "{path}");
    }
}
