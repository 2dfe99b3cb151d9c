//! What is told of drops and of everything else that happens, with real packets: `drops`,
//! `drops --why`, `monitor`.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::craft;
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::lab::traffic::udp::{self, EchoServer};

use super::frames::{SILENCE, experimental, open};
use super::reader::Reader;
use super::traffic::ANY;
use super::world::Times::{Any, AtLeast, Exactly};
use super::world::{SECOND, World, eventually, mac_text, world};

/// An address of nobody, on the uplink's network.
const NOBODY: [u8; 4] = [203, 0, 113, 77];

/// The one event of which all these are true.
fn event<'e>(events: &'e [Value], pairs: &[(&str, &str)]) -> Option<&'e Value> {
    let is_so = |event: &&Value| pairs.iter().all(|(key, value)| event[*key] == *value);
    events.iter().find(is_so)
}

#[test]
fn a_drop_is_shown_with_its_packet_and_explained_with_all_that_are_kept() {
    let Some(world) = world().start() else { return };
    let lost = Ping::to(NOBODY.into()).size(120).timeout(SILENCE);
    eventually("the next hop is given up", || {
        world.ping(world.c(1), &lost);
        world.dropped("NEIGH_FAILED") >= 3
    });
    let rows = world.rows("drops");
    let row = event(&rows, &[("reason", "NEIGH_FAILED")]).unwrap();
    let last = &row["last"];
    let summary = last["summary"].as_str().unwrap();
    let (from, to) = (world.ip(1), std::net::Ipv4Addr::from(NOBODY));
    assert!(
        summary.starts_with(&format!("{from} > {to}  ICMP echo request")),
        "{row:#}"
    );
    assert_eq!(
        (&last["port"], &last["egress"]),
        (&"veth1".into(), &Value::Null)
    );
    assert_eq!(last["length"], 14 + 20 + 8 + 120, "{row:#}");
    let bytes = last["bytes"].as_str().unwrap();
    assert_eq!(bytes.len(), 2 * 128);
    assert!(bytes.contains("0800450000"), "{bytes}");
    assert!(last["age"].as_f64().unwrap() < 60.0 && last["time"].as_str().unwrap().ends_with('Z'));
    let table = world.text("drops");
    assert!(
        table.contains(summary) && table.contains(" len 162, "),
        "{table}"
    );
    let count = world.dropped("NEIGH_FAILED");
    let why = world.text("drops --why neigh_failed");
    assert!(
        why.starts_with("NEIGH_FAILED\n  The next hop does not answer ARP"),
        "{why}"
    );
    assert!(why.contains(&format!("  {count} dropped, ")), "{why}");
    assert!(
        why.contains("  first:\n")
            && why.matches(summary.split(" id").next().unwrap()).count() >= 3
    );
    let json = world.json("drops --why NEIGH_FAILED");
    let kept = &json[0]["kept"];
    let number = |list: &str| kept[list].as_array().unwrap().len();
    assert_eq!(
        (number("first") + number("last")) as u64,
        count.min(40),
        "{json:#}"
    );
    // Forgotten, what is counted stays.
    assert!(world.client("drops flush").status.success());
    let rows = world.rows("drops");
    let row = event(&rows, &[("reason", "NEIGH_FAILED")]).unwrap();
    assert_eq!((&row["last"], &row["count"]), (&Value::Null, &count.into()));
    world.finish(&[("NEIGH_FAILED", AtLeast(3)), ("NEIGH_QUEUEFULL", Any)]);
}

/// Waits until an event came of which all these are true.
fn is_told(reader: &Reader, pairs: &[(&str, &str)]) {
    eventually(&format!("{pairs:?}"), || {
        event(&reader.rows(), pairs).is_some()
    });
}

#[test]
fn what_happens_to_ports_is_told_as_it_happens() {
    let Some(world) = world().args("--workers 2").start() else {
        return;
    };
    let reader = Reader::start(&world, "-j monitor port guard");
    let shown = Reader::start(&world, "monitor port");
    let told = |event: &str, port: &str| {
        is_told(
            &reader,
            &[("kind", "port"), ("event", event), ("port", port)],
        );
    };
    world.h().set_up("veth1", false).unwrap();
    told("down", "veth1");
    world.h().set_up("veth1", true).unwrap();
    told("up", "veth1");
    let other = 1 - world.rows("port")[0]["vswitch"]["worker"].as_u64().unwrap();
    let moved = world.client(&format!("port set veth1 worker={other}"));
    assert!(moved.status.success());
    told("worker", "veth1");
    assert!(world.client("port add tap:t7").status.success());
    told("added", "t7");
    assert!(world.client("port del t7").status.success());
    told("removed", "t7");
    let told = reader.rows();
    let worker = event(&told, &[("event", "worker")]).unwrap();
    assert_eq!(
        (&worker["worker"], &worker["from"]),
        (&other.into(), &(1 - other).into())
    );
    assert!(
        told.iter()
            .all(|event| event["schema"] == "vswitch.event/1")
    );
    assert!(
        event(&told, &[("kind", "guard")]).is_none(),
        "the guards stood"
    );
    eventually("all of it in words", || shown.lines().len() >= 5);
    let lines = shown.lines();
    let ends = [
        "veth1 down",
        "veth1 up",
        "worker 1",
        "t7 added: up, worker 0",
        "t7 removed",
    ];
    let ends = ends.map(|end| end.replace("worker 1", &format!("to worker {other}")));
    for (line, end) in lines.iter().zip(&ends) {
        let words = line.split_once("Z  port     ").unwrap().1;
        let is_so = words.ends_with(end.as_str()) || words.starts_with("t7 added: ");
        assert!(is_so, "{lines:#?}");
    }
    drop((reader, shown));
    world.finish(&[("EGRESS_DOWN", Any)]);
}

#[test]
fn stations_that_move_or_are_fixed_elsewhere_are_told_as_they_do() {
    let world = world().args("--ports veth1 --port veth2,mac=02:77:0a:09:00:03 --workers 2");
    let Some(world) = world.start() else { return };
    let reader = Reader::start(&world, "-j monitor station");
    // Another station with the address that is fixed to the second port.
    let fixed = world.net.mac(2);
    let wire = open(world.c(1));
    wire.send(&experimental(craft::BROADCAST, fixed, 46, 0))
        .unwrap();
    let mac = mac_text(fixed);
    is_told(
        &reader,
        &[("kind", "station"), ("event", "locked"), ("station", &mac)],
    );
    // One that was on the second port is heard on the first.
    let roamer = [2, 0x10, 0, 0, 7, 7];
    for container in [2, 1] {
        let wire = open(world.c(container));
        wire.send(&experimental(craft::BROADCAST, roamer, 46, 0))
            .unwrap();
        thread::sleep(Duration::from_millis(100));
    }
    let mac = mac_text(roamer);
    is_told(
        &reader,
        &[("kind", "station"), ("event", "moved"), ("station", &mac)],
    );
    let told = reader.rows();
    let moved = event(&told, &[("event", "moved")]).unwrap();
    assert_eq!(
        (&moved["port"], &moved["other"]),
        (&"veth1".into(), &"veth2".into())
    );
    drop(reader);
    world.finish(&[("SOURCE_LOCKED", Exactly(1))]);
}

#[test]
fn a_burst_of_drops_is_told_when_it_begins_and_when_it_ends() {
    let world = world().args("--ports veth1 --port veth2,mac=02:77:0a:09:00:03");
    let Some(world) = world.start() else { return };
    let reader = Reader::start(&world, "-j monitor");
    let shown = Reader::start(&world, "monitor drop");
    let fixed = world.net.mac(2);
    let wire = open(world.c(1));
    for _ in 0..600 {
        wire.send(&experimental(craft::BROADCAST, fixed, 46, 0))
            .unwrap();
    }
    is_told(
        &reader,
        &[
            ("kind", "drop"),
            ("event", "begin"),
            ("reason", "SOURCE_LOCKED"),
        ],
    );
    is_told(
        &reader,
        &[
            ("kind", "drop"),
            ("event", "end"),
            ("reason", "SOURCE_LOCKED"),
        ],
    );
    let told = reader.rows();
    let end = event(&told, &[("event", "end")]).unwrap();
    assert_eq!(end["port"], "veth1");
    assert!(
        (590..=600).contains(&end["count"].as_u64().unwrap()),
        "{end}"
    );
    eventually("both in words", || shown.lines().len() >= 2);
    let lines = shown.lines();
    assert!(
        lines[0].contains("Z  drop     SOURCE_LOCKED on veth1: "),
        "{lines:#?}"
    );
    assert!(
        lines[1].contains("Z  drop     SOURCE_LOCKED on veth1 over: "),
        "{lines:#?}"
    );
    drop((reader, shown));
    world.finish(&[("SOURCE_LOCKED", Exactly(600))]);
}

#[test]
fn a_reader_of_events_that_stops_or_dies_disturbs_nobody() {
    let Some(world) = world().start() else { return };
    let mut stopped = Reader::start(&world, "-j monitor port");
    let mut killed = Reader::start(&world, "monitor");
    killed.signal(Signal::SIGKILL);
    killed.wait();
    stopped.signal(Signal::SIGSTOP);
    // More than the kernel keeps for it, and then more than the feed does.
    let mixed = Reader::start(&world, "monitor port nat");
    for _ in 0..20 {
        for up in [false, true] {
            world.h().set_up("veth2", up).unwrap();
            thread::sleep(Duration::from_millis(30));
        }
    }
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE));
    eventually("both kinds in one stream", || {
        let lines = mixed.lines();
        let has = |word: &str| lines.iter().any(|line| line.contains(word));
        has("  port     veth2 down") && has("  nat      [NEW] icmp 1 ")
    });
    stopped.signal(Signal::SIGCONT);
    eventually("what waited is read", || !stopped.lines().is_empty());
    let ended = world.client("monitor nat -c 1 --socket /nowhere");
    assert_eq!(ended.status.code(), Some(3));
    stopped.signal(Signal::SIGKILL);
    stopped.wait();
    drop((stopped, killed, mixed));
    world.finish(&[("EGRESS_DOWN", Any)]);
}

/// What `why WORDS` prints, and how it ends.
fn why(world: &World, words: &str) -> (Option<i32>, String) {
    let output = world.client(&format!("why {words}"));
    let text = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), text)
}

#[test]
fn why_tells_the_story_of_an_address_outside() {
    let Some(world) = world().start() else { return };
    // Nothing is known of an address that nobody has spoken of.
    let (code, text) = why(&world, "--dst 198.51.100.99");
    assert_eq!(code, Some(4), "{text}");
    assert!(
        text.contains("no dropped packet to 198.51.100.99 is kept"),
        "{text}"
    );
    assert!(
        text.contains("by the route 0.0.0.0/0 via 203.0.113.1 on eth0"),
        "{text}"
    );
    // To a neighbour outside that is not there.
    let lost = Ping::to(NOBODY.into()).timeout(SILENCE);
    eventually("the next hop is given up", || {
        world.ping(world.c(1), &lost);
        world.dropped("NEIGH_FAILED") >= 1
    });
    let (code, text) = why(&world, "--dst 203.0.113.77");
    assert_eq!(code, Some(0));
    assert!(
        text.contains("NEIGH_FAILED  The next hop does not answer ARP"),
        "{text}"
    );
    assert!(text.contains("203.0.113.77 is - on eth0, FAILED"), "{text}");
    assert!(text.ends_with("\nnow: DROPPED NEIGH_FAILED\n"), "{text}");
    let from = world.ip(1);
    let story = world.json(&format!("why --dst 203.0.113.77 --src {from}"));
    assert_eq!(story["schema"], "vswitch.why/1");
    assert_eq!(story["drops"][0]["packet"]["port"], "veth1", "{story:#}");
    assert_eq!(story["now"]["dropped"], true);
    // Somebody takes the address: what was dropped would get there now.
    world
        .o()
        .address("eth0", std::net::Ipv4Addr::from(NOBODY), 24)
        .unwrap();
    eventually("it would get there", || {
        world.ping(world.c(1), &lost);
        let (_, text) = why(&world, "--dst 203.0.113.77");
        text.ends_with("\nnow: FORWARDED veth1 → eth0\n")
    });
    let other = world.json(&format!("why --dst 203.0.113.77 --src {}", world.ip(2)));
    assert_eq!(other["drops"].as_array().map(Vec::len), Some(0));
    let gateway = world.net.gateway();
    let (code, text) = why(&world, &format!("--dst {gateway}"));
    assert_eq!(code, Some(0));
    assert!(
        text.contains(&format!("{gateway} is the gateway's own address\n")),
        "{text}"
    );
    world.finish(&[("NEIGH_FAILED", AtLeast(1)), ("NEIGH_QUEUEFULL", Any)]);
}

#[test]
fn why_finds_a_member_by_what_its_session_is_called_outside() {
    let Some(world) = world().args("--publish 8080:veth1:80").start() else {
        return;
    };
    let from = world.ip(1);
    let socket = udp::bind(world.c(1), ANY).unwrap();
    let echo = EchoServer::start(world.o(), ANY).unwrap();
    let to = SocketAddr::from((Topology::OUTSIDE, echo.address().port()));
    udp::exchange(&socket, to, b"one", SECOND).unwrap().unwrap();
    let session = &world.json("nat")["sessions"][0];
    let external = session["external"].as_str().unwrap().to_owned();
    let stranger = udp::bind(world.o(), (Topology::OUTSIDE_SECOND, 0)).unwrap();
    eventually("a stranger is refused", || {
        stranger
            .send_to(b"let me in", external.parse::<SocketAddr>().unwrap())
            .unwrap();
        world.dropped("NAT_UNSOLICITED") >= 1
    });
    let (code, text) = why(&world, &format!("--dst {from}"));
    assert_eq!(code, Some(0));
    assert!(text.contains("NAT_UNSOLICITED"), "{text}");
    assert!(
        text.contains(&format!("translated to {external}\n")),
        "{text}"
    );
    for line in [
        format!("{from} is in the network, by veth1\n"),
        format!("  neighbour  {from} is "),
        " on veth1, heard ".to_owned(),
        format!("as {external} with {to}\n"),
        format!("  published  0.0.0.0:8080/tcp -> {from}:80 "),
    ] {
        assert!(text.contains(&line), "{line} in {text}");
    }
    world.finish(&[("NAT_UNSOLICITED", AtLeast(1))]);
}
