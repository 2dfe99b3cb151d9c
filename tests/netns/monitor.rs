//! A4-6: the log of mappings and the stream of events, with real sessions.

use std::fs;
use std::net::SocketAddr;

use nix::sys::signal::Signal;
use serde_json::Value;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::tcp;
use vswitch_cli::lab::traffic::udp::{self, EchoServer};

use super::nat::{many_connections, many_flows};
use super::reader::Reader;
use super::traffic::ANY;
use super::world::Times::Any;
use super::world::{SECOND, eventually, world};

#[test]
fn a4_6_a_connection_is_told_from_its_first_segment_to_its_end() {
    let Some(world) = world().start() else { return };
    let reader = Reader::start(&world, "monitor nat");
    let listener = tcp::listen(world.o(), ANY).unwrap();
    let port = listener.local_addr().unwrap().port();
    let stream = tcp::connect(world.c(1), (Topology::OUTSIDE, port)).unwrap();
    let (accepted, from) = tcp::accept(&listener, SECOND).unwrap();
    let (inside, from_port) = (stream.local_addr().unwrap(), from.port());
    let there = format!(
        "src={} dst={} sport={} dport={port}",
        inside.ip(),
        Topology::OUTSIDE,
        inside.port()
    );
    let back = format!(
        "src={} dst={} sport={port} dport={from_port}",
        Topology::OUTSIDE,
        Topology::HOST
    );
    eventually("established", || reader.lines().len() >= 3);
    let expected = [
        format!("[NEW] tcp 6 240 SYN_SENT {there} [UNREPLIED] {back}"),
        format!("[UPDATE] tcp 6 240 SYN_RECV {there} {back}"),
        format!("[UPDATE] tcp 6 7440 ESTABLISHED {there} {back} [ASSURED]"),
    ];
    assert_eq!(reader.lines(), expected);
    drop((stream, accepted));
    eventually("closed", || {
        let last = reader.lines().pop().unwrap();
        last.contains("TIME_WAIT") || last.contains("CLOSE ")
    });
    assert!(world.client("nat flush").status.success());
    eventually("flushed", || {
        let last = reader.lines().pop().unwrap();
        last.starts_with("[DESTROY] tcp 6 ") && last.contains(" packets=")
    });
    drop(reader);
    world.finish(&[]);
}

#[test]
fn a4_6_events_end_after_the_number_asked_for_and_are_json_on_demand() {
    let Some(world) = world().args("--workers 2").start() else {
        return;
    };
    let mut reader = Reader::start(&world, "-j monitor nat -c 7");
    many_flows(&world, 2, 10);
    let ended = reader.wait();
    assert_eq!(ended.code(), Some(0));
    let lines = reader.lines();
    assert_eq!(lines.len(), 7);
    for line in &lines {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["schema"], "vswitch.nat-event/1", "{event}");
        assert!(event["time"].as_str().unwrap().ends_with('Z'), "{event}");
        assert_eq!(event["proto"], "udp");
    }
    world.finish(&[]);
}

#[test]
fn a4_6_a_reader_that_does_not_read_holds_nobody_up() {
    let Some(world) = world().start() else { return };
    let reader = Reader::start(&world, "monitor nat");
    reader.signal(Signal::SIGSTOP);
    many_connections(&world, 2, 60);
    let second = Reader::start(&world, "monitor nat");
    many_flows(&world, 1, 5);
    eventually("the other reader is served", || {
        second.text().contains("udp")
    });
    reader.signal(Signal::SIGCONT);
    drop((reader, second));
    world.finish(&[("RING_FULL", Any)]);
}

/// The mappings of a log, by word.
fn logged(text: &str, word: &str) -> Vec<String> {
    let of = |line: &str| {
        let mut words = line.split(' ').skip(1);
        (words.next() == Some(word)).then(|| words.collect::<Vec<_>>().join(" "))
    };
    text.lines().filter_map(of).collect()
}

#[test]
fn a4_6_the_log_has_each_mapping_and_no_destination() {
    let log = std::env::temp_dir().join(format!("vswlog-{}.log", std::process::id()));
    let rotated = log.with_extension("1");
    let _ = fs::remove_file(&log);
    let world = world().args(&format!("--workers 2 --nat-log {}", log.display()));
    let Some(world) = world.start() else { return };
    let echo = EchoServer::start(world.o(), ANY).unwrap();
    let to = SocketAddr::from((Topology::OUTSIDE, echo.address().port()));
    let sockets: Vec<_> = (0..30)
        .map(|number| udp::bind(world.c(1 + number % 2), ANY).unwrap())
        .collect();
    for socket in &sockets {
        udp::exchange(socket, to, b"one", SECOND).unwrap().unwrap();
    }
    eventually("logged", || {
        logged(&fs::read_to_string(&log).unwrap(), "APMADD").len() == 30
    });
    let mut sessions: Vec<String> = (world.json("nat")["sessions"].as_array().unwrap().iter())
        .map(|session| {
            let word = |key: &str| session[key].as_str().unwrap();
            format!("udp {} {}", word("inside"), word("external"))
        })
        .collect();
    let mut added = logged(&fs::read_to_string(&log).unwrap(), "APMADD");
    sessions.sort();
    added.sort();
    assert_eq!(added, sessions);
    let text = fs::read_to_string(&log).unwrap();
    assert!(!text.contains(&Topology::OUTSIDE.to_string()), "{text}");
    // logrotate's way: rename, then SIGHUP.
    fs::rename(&log, &rotated).unwrap();
    world.process.signal(Signal::SIGHUP).unwrap();
    assert!(world.client("nat flush").status.success());
    eventually("logged into the new file", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        logged(&text, "APMDEL").len() == 30
    });
    world.finish(&[]);
    let text = fs::read_to_string(&log).unwrap();
    let mut removed = logged(&text, "APMDEL");
    removed.sort();
    assert_eq!(removed, sessions);
    assert!(text.ends_with(" STOP\n"), "{text}");
    fs::remove_file(&log).unwrap();
    fs::remove_file(&rotated).unwrap();
}
