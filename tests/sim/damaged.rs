//! Recordings that somebody has damaged, or made up: whatever they say, a replay comes to its end,
//! and soon, and in little memory. And a few of which it is known what they must say.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use switch::pcapng::{InterfaceInfo, Item, PacketInfo, Reader, SectionInfo, Writer};
use switch::random::Random;

use crate::scratch::Scratch;

/// Numbers at which something ends.
const ENDS: [u64; 14] = [
    0,
    1,
    2,
    63,
    64,
    4095,
    4096,
    65_535,
    65_536,
    0xffff_ffff,
    1 << 48,
    u64::MAX / 2,
    u64::MAX - 5_000_000_000,
    u64::MAX,
];

/// A packet of a recording.
#[derive(Clone)]
struct Came {
    interface: u32,
    time: u64,
    bytes: Vec<u8>,
    queue: Option<u32>,
    comments: Vec<String>,
}

#[derive(Clone)]
enum Part {
    Packet(Came),
    Note(Value),
}

/// A recording that can be changed.
#[derive(Clone)]
struct Kept {
    head: Value,
    /// Names and descriptions.
    interfaces: Vec<(String, String)>,
    parts: Vec<Part>,
}

impl Kept {
    fn read() -> Self {
        let path = "../tests/sim/recordings/some-of-all.pcapng";
        let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        let mut parts = Vec::new();
        while let Some(item) = reader.next_item().unwrap() {
            parts.push(match item {
                Item::Note(note) => Part::Note(serde_json::from_slice(note).unwrap()),
                Item::Packet(packet) => Part::Packet(Came {
                    interface: u32::try_from(packet.interface).unwrap(),
                    time: packet.time.unwrap(),
                    bytes: packet.bytes.to_vec(),
                    queue: packet.queue,
                    comments: packet.comments().map(String::from).collect(),
                }),
            });
        }
        let interfaces = reader.interfaces().iter();
        let interfaces = interfaces.map(|it| (it.name.clone(), it.description.clone()));
        Self {
            head: serde_json::from_str(&reader.section().comments.concat()).unwrap(),
            interfaces: interfaces.collect(),
            parts,
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.section(&SectionInfo {
            comments: &[&self.head.to_string()],
            ..SectionInfo::default()
        });
        for (name, description) in &self.interfaces {
            writer.interface(&InterfaceInfo {
                name,
                description,
                ..InterfaceInfo::default()
            });
        }
        for part in &self.parts {
            match part {
                Part::Note(note) => assert!(writer.note(&note.to_string())),
                Part::Packet(came) => {
                    let comments: Vec<&str> = came.comments.iter().map(String::as_str).collect();
                    writer.packet(&PacketInfo {
                        interface: came.interface,
                        time: came.time,
                        bytes: &came.bytes,
                        original_bytes: u32::try_from(came.bytes.len()).unwrap(),
                        queue: came.queue,
                        comments: &comments,
                        ..PacketInfo::default()
                    });
                }
            }
        }
        writer.bytes().to_vec()
    }

    /// Does it again, in a minute and 4 GB at most.
    fn replay(&self, name: &str, flags: &[&str]) -> Output {
        let scratch = Scratch::new();
        let file = scratch.file(&format!("{name}.pcapng"), self.to_bytes());
        Command::new("sh")
            .args(["-c", "ulimit -v 4000000; exec timeout 60 \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_vswitch"))
            .args(["replay", "--offline"])
            .args(flags)
            .arg(file)
            .output()
            .unwrap()
    }

    /// Puts a note where the recording is half over.
    fn put(&mut self, note: Value) {
        self.parts.insert(self.parts.len() / 2, Part::Note(note));
    }

    fn damage(&mut self, random: &mut Random) {
        let part = below(random, self.parts.len());
        match random.below(8) {
            0 => {
                self.parts.remove(part);
            }
            1 => self.parts.insert(part, self.parts[part].clone()),
            2 => {
                let other = below(random, self.parts.len());
                self.parts.swap(part, other);
            }
            3 => change_a_number(&mut self.head, random),
            4 => {
                let (turn, at) = (random.below(100), end(random));
                let worker = random.below(3);
                let told = json!([made_up_command(random), made_up_command(random)]);
                let tick = json!({"vswitch": turn, "worker": worker, "at": at,
                    "tick": {"told": told}});
                self.parts.insert(part, Part::Note(tick));
            }
            5 => {
                let change = made_up_change(random);
                let change = json!({"vswitch": 50, "at": end(random), "change": change});
                self.parts.insert(part, Part::Note(change));
            }
            _ => match &mut self.parts[part] {
                Part::Note(note) => change_a_number(note, random),
                Part::Packet(came) => {
                    came.time = end(random);
                    came.queue = Some(u32::try_from(random.below(3)).unwrap());
                }
            },
        }
    }
}

fn below(random: &mut Random, bound: usize) -> usize {
    usize::try_from(random.below(bound as u64)).unwrap()
}

fn end(random: &mut Random) -> u64 {
    ENDS[below(random, ENDS.len())]
}

fn numbers<'v>(value: &'v mut Value, found: &mut Vec<&'v mut Value>) {
    match value {
        Value::Number(_) => found.push(value),
        Value::Array(all) => all.iter_mut().for_each(|value| numbers(value, found)),
        Value::Object(all) => all.values_mut().for_each(|value| numbers(value, found)),
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

fn change_a_number(value: &mut Value, random: &mut Random) {
    let mut found = Vec::new();
    numbers(value, &mut found);
    let place = below(random, found.len());
    if let Some(number) = found.get_mut(place) {
        **number = json!(end(random));
    }
}

/// A number that a field of 16 bits takes.
fn small(random: &mut Random) -> u64 {
    [0, 1, 2, 3, 4, 5, 4095, 4096, 65_535][below(random, 9)]
}

fn made_up_command(random: &mut Random) -> Value {
    let one = small(random);
    match random.below(7) {
        0 => json!({"view": random.below(30)}),
        1 => json!({"receive": one}),
        2 => json!({"release": one}),
        3 => json!({"move": [random.below(4), random.below(3)]}),
        4 => json!("announce"),
        5 => json!({"nat_flush": {"protocol": random.below(256), "host": ["10.9.0.2", 77],
            "inside": null, "outside": null, "port": null, "state": "ESTABLISHED",
            "part": [end(random) >> 32, end(random) >> 32]}}),
        _ => json!({"nat_restore": [["203.0.113.254"], [{"protocol": random.below(256),
            "tcp": null, "from_inside": false, "replied": true, "published": one == 0,
            "inside": ["10.9.0.2", small(random)], "external": ["203.0.113.254", small(random)],
            "remote": ["203.0.113.1", one], "remaining": end(random), "age": end(random),
            "outbound": [1, end(random)], "inbound": [end(random), 0]}]]}),
    }
}

fn made_up_change(random: &mut Random) -> Value {
    let (one, other) = (small(random), small(random));
    match random.below(8) {
        0 => json!({"add_static": [0, end(random), one]}),
        1 => json!({"flush_port": one}),
        2 => json!({"port_limit": [one, other]}),
        3 => json!({"ageing": end(random) >> 32}),
        4 => json!({"remove_neighbour": [one, "10.9.0.2"]}),
        5 => json!({"view": {"number": random.below(30),
            "uplink": [{"port": one, "mac": end(random), "address": "0.0.0.0", "own": true,
                "routes": [["0.0.0.0", 99, null]], "nat_ports": [65_535, 1], "pool": [],
                "untranslated": [["10.9.0.0", 200]], "mss_clamp": true}]}}),
        6 => json!({"view": {"number": random.below(30),
            "publishes": [{"protocol": random.below(256), "external": null,
                "ports": [one, other], "targets": [["10.9.0.2", one]], "by_source": true,
                "owner": other}]}}),
        _ => json!({"view": {"number": random.below(30), "host": [one, ["10.9.0.1"]],
            "ports": [{"index": random.below(6), "new": ["veth9", "member"],
                "mtu": end(random) >> 32, "up": true, "nat_worker": other},
                {"index": one, "gone": true}]}}),
    }
}

fn words(output: &Output) -> String {
    [&*output.stdout, &*output.stderr]
        .map(String::from_utf8_lossy)
        .concat()
}

#[test]
fn whatever_a_recording_says_a_replay_ends() {
    let runs = std::env::var("VSWITCH_DAMAGED").map_or(40, |runs| runs.parse().unwrap());
    let kept = Kept::read();
    let untouched = kept.replay("untouched", &[]);
    assert_eq!(untouched.status.code(), Some(0), "{}", words(&untouched));
    let (mut codes, mut failed) = ([0; 5], Vec::new());
    for seed in 0..runs {
        let (mut kept, mut random) = (kept.clone(), Random::new(seed));
        for _ in 0..=random.below(3) {
            kept.damage(&mut random);
        }
        let output = kept.replay(&format!("seed{seed}"), &[]);
        let code = output.status.code().map(usize::try_from);
        match code.and_then(|code| codes.get_mut(code.ok()?)) {
            Some(count) => *count += 1,
            None => failed.push(format!("seed {seed}: {}", words(&output))),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(
        codes[0] + codes[4] > runs / 8,
        "hardly one was done: {codes:?}"
    );
}

#[test]
fn what_sessions_have_left_of_their_time_counts_from_when_it_was_asked() {
    let mut kept = Kept::read();
    // As if the workers had been asked long after the head was written, which they may be by a
    // second, and its sessions had less than that to live.
    let (later, remaining) = (20_000_000_000, 10_000_000_000_u64);
    let mut sessions = 0;
    for part in &mut kept.parts {
        match part {
            Part::Packet(came) => came.time += later,
            Part::Note(note) => {
                let at = note["at"].as_u64().unwrap();
                note["at"] = json!(at + later);
                for session in note["sessions"].as_array_mut().into_iter().flatten() {
                    session["remaining"] = json!(remaining);
                    sessions += 1;
                }
            }
        }
    }
    assert!(sessions > 0);
    let output = kept.replay("later", &[]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
}

#[test]
fn ports_and_workers_that_no_switch_has_are_named() {
    let kept = Kept::read();
    let refused = |change: &dyn Fn(&mut Kept), why: &str| {
        let mut kept = kept.clone();
        change(&mut kept);
        let output = kept.replay("beyond", &[]);
        assert_eq!(output.status.code(), Some(1), "{}", words(&output));
        assert!(words(&output).contains(why), "{}", words(&output));
    };
    let no_port = "no switch has a port 65535";
    refused(
        &|kept| kept.head["ports"][0]["index"] = json!(65_535),
        no_port,
    );
    let change = |ports: Value| json!({"vswitch": 40, "at": 0, "change": {"view": ports}});
    let port = json!({"number": 7, "ports": [{"index": 65_535, "new": ["veth9", "member"]}]});
    refused(&|kept| kept.put(change(port.clone())), no_port);
    let told = json!({"vswitch": 40, "worker": 0, "at": 0, "tick": {"told": [{"move": [0, 9]}]}});
    refused(&|kept| kept.put(told.clone()), "there is no worker 9");
    let views = |kept: &mut Kept| {
        for number in 1000..3000 {
            kept.put(change(json!({"number": number, "ports": []})));
        }
    };
    refused(&views, "not all workers were told of");
}

#[test]
fn a_capture_to_the_end_of_time_has_an_end() {
    let mut kept = Kept::read();
    let packets = |part: &Part| match part {
        Part::Packet(came) => Some(came.clone()),
        Part::Note(_) => None,
    };
    let packets = kept.parts.iter().filter_map(packets).zip([0, u64::MAX]);
    let packets = packets.map(|(came, time)| Part::Packet(Came { time, ..came }));
    kept.parts = packets.collect();
    kept.head = json!("no recording any more");
    let output = kept.replay("endless", &["--ports", "veth1,veth2"]);
    assert_eq!(output.status.code(), Some(0), "{}", words(&output));
}

#[test]
fn an_uplink_without_an_address_needs_no_flags_either() {
    let mut kept = Kept::read();
    kept.head["uplink"] = Value::Null;
    let output = kept.replay("addressless", &[]);
    assert_eq!(output.status.code(), Some(4), "{}", words(&output));
}
