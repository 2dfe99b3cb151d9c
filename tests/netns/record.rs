//! `vswitch record`: what a real switch decided, a replay of its recording decides again.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;
use switch::pcapng::Reader as Capture;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::tcp::Amount;
use vswitch_cli::lab::traffic::udp;

use super::reader::Reader;
use super::traffic::{ANY, download, udp_echo, upload};
use super::world::Times::Any;
use super::world::{World, world};

/// Bytes of a transfer: some hundred segments, more where they are cut.
const TRANSFER: Amount = Amount::Bytes(400_000);

/// Records what comes in while `traffic` goes on; the file's path.
fn recorded(world: &World, traffic: impl FnOnce()) -> String {
    let path = world.run_dir().join("bug.pcapng").display().to_string();
    let mut reader = Reader::start(world, &format!("record -w {path}"));
    traffic();
    reader.signal(Signal::SIGINT);
    assert!(reader.wait().success(), "{}", reader.errors());
    assert!(
        reader.errors().contains("bytes recorded"),
        "{}",
        reader.errors()
    );
    path
}

fn replayed(world: &World, path: &str, words: &str) -> (Option<i32>, Value) {
    let output = world.client(&format!("-j replay {path} --offline {words}"));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        json.unwrap_or_else(|_| panic!("{errors}")),
    )
}

fn traffic(world: &World) {
    let server = udp::bind(world.o(), (Topology::OUTSIDE, 0)).unwrap();
    for i in [1, 2] {
        udp_echo(world.c(i), world.o(), Topology::OUTSIDE);
        upload(world.c(i), world.o(), Topology::OUTSIDE, TRANSFER);
        download(world.c(i), world.o(), Topology::OUTSIDE, TRANSFER);
        let lost = udp::bind(world.c(i), ANY).unwrap();
        // To nobody: no route leads there.
        let _ = lost.send_to(b"lost", "192.0.2.77:9");
        lost.send_to(b"heard", server.local_addr().unwrap())
            .unwrap();
    }
    udp_echo(world.c(1), world.c(2), world.ip(2));
    upload(world.c(2), world.c(1), world.ip(1), TRANSFER);
}

/// What docs/replay.md shows of a recording.
fn shown() -> &'static str {
    let page = include_str!("../../docs/replay.md");
    let block = page.split("```recorded\n").nth(1).unwrap();
    block.lines().next().unwrap()
}

/// Without numbers, which differ from run to run.
fn timeless(line: &str) -> String {
    line.replace(|c: char| c.is_ascii_digit() || c == ',', "")
}

#[test]
fn every_verdict_is_the_same_again() {
    let started = world().args("--workers 1").start();
    let Some(world) = started else { return };
    let path = recorded(&world, || traffic(&world));
    let (code, json) = replayed(&world, &path, "");
    assert_eq!(
        json["recorded"]["examples"],
        serde_json::json!([]),
        "{json}"
    );
    assert_eq!(
        (&json["recorded"]["lost"], &json["recorded"]["differ"]),
        (&0.into(), &0.into())
    );
    let same = json["recorded"]["same"].as_u64().unwrap();
    assert!(same > 200, "{same} verdicts");
    assert_eq!((code, &json["conserved"]), (Some(0), &true.into()));
    let text = world.client(&format!("replay {path} --offline")).stdout;
    let text = String::from_utf8(text).unwrap();
    let said = text
        .lines()
        .find(|line| line.contains("as they were recorded"))
        .unwrap();
    assert_eq!(timeless(said), timeless(shown()), "{said}");
    // It is not that nothing could differ: isolated ports would not have seen each other.
    let (code, json) = replayed(&world, &path, "--isolate");
    assert_eq!(code, Some(4));
    assert!(json["recorded"]["differ"].as_u64().unwrap() > 10, "{json}");
    let (again, once_more) = (replayed(&world, &path, ""), replayed(&world, &path, ""));
    assert_eq!(again, once_more);
    // Another version is refused by name, and the same bytes are a capture for everybody else.
    let bytes = fs::read(&path).unwrap();
    let head = b"vswitch.record/1";
    let at = bytes
        .windows(head.len())
        .position(|part| part == head)
        .unwrap();
    let mut later = bytes.clone();
    later[at + head.len() - 1] = b'7';
    let other = world.run_dir().join("later.pcapng");
    fs::write(&other, later).unwrap();
    let output = world.client(&format!("replay {} --offline", other.display()));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("a recording of vswitch.record/7"), "{error}");
    let mut capture = Capture::new(bytes.as_slice()).unwrap();
    let mut packets = 0;
    while capture.next_packet().unwrap().is_some() {
        packets += 1;
    }
    assert!(packets >= same, "{packets}");
    world.finish(&[("NO_ROUTE", Any)]);
}

#[test]
fn sessions_of_before_are_told_of() {
    let started = world().args("--workers 1").start();
    let Some(world) = started else { return };
    udp_echo(world.c(1), world.o(), Topology::OUTSIDE);
    let path = recorded(&world, || {
        udp_echo(world.c(2), world.o(), Topology::OUTSIDE);
    });
    let output = world.client(&format!("replay {path} --offline"));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        errors.contains("NAT sessions were there before"),
        "{errors}"
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains("verdicts are as they were recorded"),
        "{text}"
    );
    world.finish(&[]);
}
