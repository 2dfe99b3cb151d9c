//! `vswitch replay --offline`: what is said of a capture, and what is written of it.

use std::fs;
use std::path::{Path, PathBuf};

use etherparse::PacketBuilder;
use serde_json::Value;
use switch::pcapng::{Direction, InterfaceInfo, PacketInfo, Reader, SectionInfo, Writer};

use super::{Ended, Scratch, snapshot, vswitch};

const GATEWAY: [u8; 6] = [2, 0, 0, 0, 9, 1];
const UPLINK: [u8; 6] = [2, 0, 0, 0, 0xee, 0];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0xee, 1];
const BROADCAST: [u8; 6] = [0xff; 6];
/// 2026-11-22 13:00:00 UTC.
const TIME: u64 = 1_795_352_400_000_000_000;
const MILLISECOND: u64 = 1_000_000;
/// The settings of the sample, as docs/replay.md has them.
pub(crate) const LAB: &str = "\
ports = [\"veth1\", \"veth2\"]
uplink = \"eth0\"
gateway = \"10.9.0.1/24\"
gateway-mac = \"02:00:00:00:09:01\"
";
const AROUND: &str = "--host-address 203.0.113.10/24 --host-mac 02:00:00:00:ee:00 \
                      --route 0.0.0.0/0=203.0.113.1";

fn member(number: u8) -> ([u8; 6], [u8; 4]) {
    ([2, 0, 0, 0, 1, number], [10, 9, 0, number])
}

fn arp(operation: u16, from: ([u8; 6], [u8; 4]), to: ([u8; 6], [u8; 4])) -> Vec<u8> {
    let mut frame = [to.0, from.0].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4]);
    frame.extend(operation.to_be_bytes());
    frame.extend([&from.0[..], &from.1, &to.0, &to.1].concat());
    frame
}

fn frame(builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>, data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    builder.write(&mut frame, data).unwrap();
    frame
}

fn ping(from: ([u8; 6], [u8; 4]), to: ([u8; 6], [u8; 4]), sequence: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(from.0, to.0).ipv4(from.1, to.1, 64);
    let mut frame = Vec::new();
    let builder = builder.icmpv4_echo_request(7, sequence);
    builder.write(&mut frame, b"hello").unwrap();
    frame
}

fn datagram(from: ([u8; 6], [u8; 4]), to: ([u8; 6], [u8; 4]), ports: (u16, u16)) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(from.0, to.0).ipv4(from.1, to.1, 64);
    frame(builder.udp(ports.0, ports.1), b"question")
}

/// A packet of the sample: milliseconds, interface, bytes.
type Step = (u64, u32, Vec<u8>);

/// Two members and the outside: what is switched, routed, held, answered and dropped.
fn steps() -> Vec<Step> {
    let (one, two) = (member(2), member(3));
    let gateway = (GATEWAY, [10, 9, 0, 1]);
    let router = (ROUTER, [203, 0, 113, 1]);
    vec![
        (0, 0, arp(1, one, (BROADCAST, two.1))),
        (1, 1, arp(2, two, one)),
        (2, 0, ping(one, two, 1)),
        (3, 1, ping(two, (GATEWAY, [10, 9, 0, 1]), 1)),
        (
            10,
            0,
            datagram(one, (GATEWAY, [198, 51, 100, 7]), (5000, 53)),
        ),
        (11, 2, arp(2, router, (UPLINK, [203, 0, 113, 10]))),
        (
            12,
            0,
            datagram(one, (GATEWAY, [198, 51, 100, 7]), (5000, 53)),
        ),
        (
            20,
            2,
            datagram(router, (UPLINK, [203, 0, 113, 10]), (53, 61_005)),
        ),
        (30, 1, datagram((GATEWAY, two.1), one, (1, 1))),
        (
            40,
            1,
            datagram(two, (GATEWAY, [203, 0, 113, 99]), (6000, 7)),
        ),
        (
            50,
            0,
            datagram(one, (gateway.0, [127, 0, 0, 1]), (5000, 53)),
        ),
    ]
}

fn capture(steps: &[Step], names: &[&str]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.section(&SectionInfo::default());
    for name in names {
        writer.interface(&InterfaceInfo {
            name,
            ..InterfaceInfo::default()
        });
    }
    for (milliseconds, interface, bytes) in steps {
        writer.packet(&PacketInfo {
            interface: *interface,
            time: TIME + milliseconds * MILLISECOND,
            bytes,
            original_bytes: u32::try_from(bytes.len()).unwrap(),
            ..PacketInfo::default()
        });
    }
    writer.bytes().to_vec()
}

/// The sample as a file.
pub(crate) fn sample() -> Vec<u8> {
    capture(&steps(), &["veth1", "veth2", "eth0"])
}

/// A directory with the sample and its settings.
struct Lab(Scratch);

impl Lab {
    fn new() -> Self {
        let scratch = Scratch::new();
        scratch.file("lab.toml", LAB);
        let lab = Self(scratch);
        lab.put("web.pcapng", &sample());
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// Replays `name` with more words; paths are shown without the directory.
    fn replay(&self, name: &str, words: &str) -> Ended {
        let words = words.replace("@", &format!("{}/", self.0.path().display()));
        let ended = vswitch(&format!("replay --offline {words}"), &[&self.path(name)]);
        let short = |text: String| text.replace(&format!("{}/", self.0.path().display()), "");
        Ended {
            stdout: short(ended.stdout),
            stderr: short(ended.stderr),
            ..ended
        }
    }

    /// As JSON, of a replay that must be well.
    fn json(&self, name: &str, words: &str) -> Value {
        let ended = self.replay(name, &format!("-j {words}"));
        assert_eq!(ended.code, 0, "{ended:?}");
        serde_json::from_str(&ended.stdout).unwrap()
    }
}

fn well(words: &str) -> String {
    format!("--config @lab.toml {AROUND} {words}")
}

#[test]
fn a_capture_is_told_by_port_and_by_reason() {
    let lab = Lab::new();
    let ended = lab.replay("web.pcapng", &well(""));
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    snapshot("replay.txt", &ended.stdout);
    let ended = lab.replay("web.pcapng", &well("-j"));
    let json: Value = serde_json::from_str(&ended.stdout).unwrap();
    let pretty = serde_json::to_string_pretty(&json).unwrap();
    snapshot("replay.json", &(pretty + "\n"));
}

/// Packets of a written file: port, direction, id, comments, bytes.
type Written = (String, Direction, Option<u64>, Vec<String>, Vec<u8>);

fn written(path: &Path) -> Vec<Written> {
    let bytes = fs::read(path).unwrap();
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let mut all = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        let comments = packet.comments().map(String::from).collect();
        let (interface, direction) = (packet.interface, packet.direction.unwrap());
        let kept = (direction, packet.packet_id, comments, packet.bytes.to_vec());
        all.push((interface, kept));
    }
    let named = all.into_iter().map(|(interface, kept)| {
        let name = reader.interfaces()[interface].name.clone();
        (name, kept.0, kept.1, kept.2, kept.3)
    });
    named.collect()
}

#[test]
fn what_goes_out_is_joined_to_what_came_in() {
    let lab = Lab::new();
    assert_eq!(lab.replay("web.pcapng", &well("-w @out.pcapng")).code, 0);
    let all = written(&lab.path("out.pcapng"));
    let lines = all.iter().map(|(port, direction, id, comments, bytes)| {
        let way = match direction {
            Direction::Inbound => "in ",
            Direction::Outbound => "out",
        };
        let id = id.map_or("-".into(), |id| id.to_string());
        format!(
            "{way} {port} {id} {}: {}\n",
            bytes.len(),
            comments.join(" | ")
        )
    });
    snapshot("replay-written.txt", &lines.collect::<String>());
    // Packets of the capture come in as they were, in their order.
    let inbound = all.iter().filter(|w| w.1 == Direction::Inbound);
    let inbound: Vec<(Option<u64>, &[u8])> = inbound.map(|w| (w.2, w.4.as_slice())).collect();
    let steps = steps();
    let expected = (1..)
        .zip(&steps)
        .map(|(n, step)| (Some(n), step.2.as_slice()));
    assert_eq!(inbound, expected.collect::<Vec<_>>());
    // The two questions left by the same external port, with the address of the host.
    let questions = all
        .iter()
        .filter(|w| w.0 == "eth0" && w.1 == Direction::Outbound);
    let questions: Vec<&Vec<u8>> = questions.map(|w| &w.4).filter(|b| b[12] == 8).collect();
    let questions: Vec<&[u8]> = questions.iter().map(|b| &b[26..36]).collect();
    let sources: Vec<&[u8]> = questions
        .iter()
        .filter(|b| b[4] == 198)
        .map(|b| &b[..])
        .collect();
    assert_eq!(sources.len(), 2);
    assert_eq!(
        (sources[0], &sources[0][..4]),
        (sources[1], &[203, 0, 113, 10][..])
    );
}

#[test]
fn the_same_capture_gives_the_same_bytes_by_any_number_of_workers() {
    let lab = Lab::new();
    let mut files = Vec::new();
    for name in ["a", "b"] {
        assert_eq!(
            lab.replay("web.pcapng", &well(&format!("-w @{name}"))).code,
            0
        );
        files.push(fs::read(lab.path(name)).unwrap());
    }
    assert!(files[0] == files[1]);
    let one = lab.json("web.pcapng", &well(""));
    for workers in 2..5 {
        let many = lab.json("web.pcapng", &well(&format!("--workers {workers}")));
        assert_eq!(one, many, "{workers} workers");
    }
}

#[test]
fn what_was_written_can_be_replayed() {
    let lab = Lab::new();
    let first = lab.json("web.pcapng", &well("-w @out.pcapng"));
    let second = lab.json("out.pcapng", &well(""));
    assert_eq!(first["ports"], second["ports"]);
    let sent: u64 = (first["ports"].as_array().unwrap().iter())
        .map(|port| port["sent_frames"].as_u64().unwrap())
        .sum();
    assert_eq!(second["skipped"]["outbound"], sent);
}

#[test]
fn a_damaged_capture_is_refused_and_nothing_is_left() {
    let lab = Lab::new();
    let whole = sample();
    lab.put("cut.pcapng", &whole[..whole.len() - 5]);
    lab.put("out.pcapng", b"what was here before");
    let ended = lab.replay("cut.pcapng", &well("-w @out.pcapng"));
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    let at = whole.len() - 84;
    assert_eq!(
        ended.stderr,
        format!(
            "error: cut.pcapng: at byte {at}: the file is cut off: 79 of 84 bytes are there; \
             fix: editcap -F pcapng cut.pcapng whole.pcapng\n"
        )
    );
    assert_eq!(
        fs::read(lab.path("out.pcapng")).unwrap(),
        b"what was here before"
    );
    lab.put("page.pcap", b"<html>");
    let ended = lab.replay("page.pcap", &well(""));
    assert_eq!(
        ended.stderr,
        "error: page.pcap: at byte 0: this is neither pcapng nor pcap: it begins with 3c 68 74 \
         6d\n"
    );
    let mut names: Vec<_> = fs::read_dir(lab.0.path()).unwrap().collect();
    names.retain(|name| {
        name.as_ref()
            .unwrap()
            .path()
            .to_string_lossy()
            .contains(".new")
    });
    assert!(names.is_empty(), "{names:?}");
}

#[test]
fn an_output_takes_no_other_files_place() {
    let lab = Lab::new();
    let ended = lab.replay("web.pcapng", &well("-w @web.pcapng"));
    assert_eq!(ended.code, 2);
    assert!(
        ended.stderr.contains("it would replace the capture"),
        "{ended:?}"
    );
    let ended = lab.replay("web.pcapng", &well("-w /dev/null"));
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("is no regular file"), "{ended:?}");
    assert_eq!(fs::read(lab.path("web.pcapng")).unwrap(), sample());
}

#[test]
fn what_only_a_host_can_tell_is_asked_for() {
    let lab = Lab::new();
    for (words, line) in [
        (
            "--config @lab.toml",
            "--uplink eth0: offline there is no host that has an address; \
             fix: --host-address 192.0.2.10/24, or --uplink-address 192.0.2.50/24",
        ),
        (
            "--ports veth1 --route 0.0.0.0/0=10.0.0.1",
            "the surroundings: mean nothing without an uplink; fix: add --uplink eth0",
        ),
        (
            "--config @lab.toml --host-address 203.0.113.10/24 -p",
            "-p: a value is missing; fix: -p 10000",
        ),
    ] {
        let ended = lab.replay("web.pcapng", words);
        if !words.ends_with("-p") {
            assert_eq!(ended.stderr, format!("error: {line}\n"));
        }
        assert_eq!(ended.code, 2, "{words}");
    }
    let ended = lab.replay(
        "web.pcapng",
        "--config @lab.toml --host-address 203.0.113.10/24",
    );
    assert_eq!(
        ended.stderr,
        "eth0 leads to its own subnet only, since --route does not say\n"
    );
}

#[test]
fn a_capture_without_names_needs_ports_in_order() {
    let lab = Lab::new();
    lab.put("bare.pcapng", &capture(&steps()[..4], &["", "", ""]));
    let ended = lab.replay("bare.pcapng", "");
    assert_eq!(ended.code, 2);
    assert_eq!(
        ended.stderr,
        "error: bare.pcapng: it does not name its interfaces, so their ports must be named in \
         order; fix: vswitch replay bare.pcapng --offline --ports veth1,veth2\n"
    );
    let named = lab.json("web.pcapng", "--ports veth1,veth2 --no-host-port");
    assert_eq!(named["skipped"]["no_port"], 2);
    lab.put(
        "named.pcapng",
        &capture(&steps()[..4], &["veth1", "veth2", "veth3"]),
    );
    let words = "--ports veth1,veth2,veth3 --gateway 10.9.0.1/24";
    let (bare, named) = (
        lab.json("bare.pcapng", words),
        lab.json("named.pcapng", words),
    );
    assert_eq!(bare["ports"], named["ports"]);
}

#[test]
fn a_neighbour_that_never_answers_is_given_up_and_a_known_one_is_not_asked() {
    let lab = Lab::new();
    let only = |step: &Step| step.0 == 10;
    let steps: Vec<Step> = steps().into_iter().filter(only).collect();
    lab.put("one.pcapng", &capture(&steps, &["veth1", "veth2", "eth0"]));
    let json = lab.json("one.pcapng", &well(""));
    assert_eq!(json["ports"][0]["verdicts"]["dropped"], 1);
    assert_eq!(json["ports"][0]["drops"][0]["reason"], "NEIGH_FAILED");
    let known = "--neigh 203.0.113.1=02:00:00:00:ee:01";
    let json = lab.json("one.pcapng", &well(known));
    assert_eq!(json["ports"][0]["verdicts"]["routed"], 1);
    assert_eq!(json["ports"][2]["sent_frames"], 1);
}

#[test]
fn time_passes_as_the_capture_says() {
    let lab = Lab::new();
    let (one, two) = (member(2), member(3));
    let greeting = arp(1, one, (BROADCAST, [10, 9, 0, 9]));
    // Within the ageing time of 300 s the station is known; a day later it is not.
    for (pause, flooded) in [(299_000, 1), (301_000, 2), (86_400_000, 2)] {
        let steps = [(0, 0, greeting.clone()), (pause, 1, ping(two, one, 1))];
        lab.put("pause.pcapng", &capture(&steps, &["veth1", "veth2"]));
        let json = lab.json("pause.pcapng", "--gateway 10.9.0.1/24 --no-host-port");
        let count = |port: usize| json["ports"][port]["verdicts"]["flooded"].as_u64().unwrap();
        assert_eq!(count(0) + count(1), flooded, "{pause} ms");
    }
}

#[test]
fn packets_captured_in_part_are_left_out_and_said() {
    let lab = Lab::new();
    let mut writer = Writer::new();
    writer.section(&SectionInfo::default());
    writer.interface(&InterfaceInfo {
        name: "veth1",
        ..InterfaceInfo::default()
    });
    for (bytes, direction) in [
        (&[0; 60][..], None),
        (&[0; 100], None),
        (&[0; 100], Some(Direction::Outbound)),
        (&[0; 70_000], None),
    ] {
        writer.packet(&PacketInfo {
            bytes,
            original_bytes: u32::try_from(bytes.len().max(100)).unwrap(),
            direction,
            ..PacketInfo::default()
        });
    }
    lab.put("cut.pcapng", writer.bytes());
    let ended = lab.replay("cut.pcapng", "--gateway 10.9.0.1/24 -j");
    let json: Value = serde_json::from_str(&ended.stdout).unwrap();
    let skipped = serde_json::json!({"outbound": 1, "cut": 1, "no_port": 0, "too_long": 1});
    assert_eq!(json["skipped"], skipped);
    assert!(
        ended
            .stderr
            .contains("of 1 packets only a part was captured")
    );
    assert!(
        ended.stderr.contains("more than the MTU of 1500"),
        "{}",
        ended.stderr
    );
}
