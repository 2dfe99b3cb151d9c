//! A world's frames once more through `vswitch replay --offline`: what went out of every port is
//! what goes out again, byte for byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use nat::Nanos;
use switch::config::Role;
use switch::pcapng::{Direction, InterfaceInfo, PacketInfo, Reader, SectionInfo, Writer};

use super::world::{EXTERNAL, FAR, GATEWAY, O1, O2, Setup, World, member_ip};
use crate::scratch::Scratch;

/// What a world's switch is made with, as flags.
const FLAGS: &str = "--gateway 10.9.0.1/24 --gateway-mac 02:00:00:00:09:01 --no-host-port \
                     --uplink eth0 --host-address 203.0.113.254/24 \
                     --host-mac 02:00:00:00:ee:00 --route 198.51.100.0/24=203.0.113.10 \
                     --nat-ports 40000-40999 --nat-sessions 1024 --no-mss-clamp --fdb-max 1024 \
                     --nat-quota sessions=none,ports=none,half-open=none,rate=none,failed=none";

/// A frame that went by.
pub(super) struct Taped {
    pub(super) at: Nanos,
    pub(super) place: usize,
    /// From a host to the switch.
    pub(super) inbound: bool,
    pub(super) bytes: Vec<u8>,
}

impl World {
    /// Notes a frame that goes by, where that is wanted.
    pub(super) fn tape(&mut self, place: usize, inbound: bool, bytes: &[u8]) {
        let at = self.now;
        let taped = || Taped {
            at,
            place,
            inbound,
            bytes: bytes.to_vec(),
        };
        self.tape.iter_mut().for_each(|tape| tape.push(taped()));
    }
}

/// The names of a world's wires, by place.
fn names(world: &World) -> Vec<String> {
    let name = |(place, role)| match role {
        Role::Uplink => "eth0".to_owned(),
        Role::Member | Role::Host => format!("veth{place}"),
    };
    let roles = world.wires.iter().map(|wire| wire.role);
    roles.enumerate().map(name).collect()
}

fn capture(tape: &[Taped], names: &[String]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.section(&SectionInfo::default());
    for name in names {
        writer.interface(&InterfaceInfo {
            name,
            ..InterfaceInfo::default()
        });
    }
    for taped in tape {
        writer.packet(&PacketInfo {
            interface: u32::try_from(taped.place).unwrap(),
            time: taped.at.0,
            bytes: &taped.bytes,
            original_bytes: u32::try_from(taped.bytes.len()).unwrap(),
            direction: Some(if taped.inbound {
                Direction::Inbound
            } else {
                Direction::Outbound
            }),
            ..PacketInfo::default()
        });
    }
    writer.bytes().to_vec()
}

/// What each port sent, in order.
fn sent(bytes: &[u8], ports: usize) -> Vec<Vec<Vec<u8>>> {
    let mut sent = vec![Vec::new(); ports];
    let mut reader = Reader::new(bytes).unwrap();
    while let Some(packet) = reader.next_packet().unwrap() {
        if packet.direction == Some(Direction::Outbound) {
            sent[packet.interface].push(packet.bytes.to_vec());
        }
    }
    sent
}

/// Taped what comes of an action in a fresh world; the same again by the program.
fn is_the_same_again(name: &str, setup: Setup, action: impl FnOnce(&mut World)) {
    let (seed, workers) = (setup.seed, setup.workers);
    let mut world = World::new(setup);
    world.tape = Some(Vec::new());
    action(&mut world);
    world.check();
    let (tape, names) = (world.tape.take().unwrap(), names(&world));
    let captured = capture(&tape, &names);
    let scratch = Scratch::new();
    let from = scratch.file("world.pcapng", &captured);
    let to = scratch.path().join("again.pcapng");
    let output = Command::new(env!("CARGO_BIN_EXE_vswitch"))
        .args(["replay", "--offline", "-w"])
        .args([&to, &from])
        .args(FLAGS.split_whitespace())
        .args([
            "--seed",
            &seed.to_string(),
            "--workers",
            &workers.to_string(),
        ])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let again = sent(&fs::read(&to).unwrap(), names.len());
    let before = sent(&captured, names.len());
    let frames: usize = before.iter().map(Vec::len).sum();
    assert!(frames > 20, "{name}: {frames} frames sent");
    for (port, (before, again)) in before.iter().zip(&again).enumerate() {
        assert_eq!(before.len(), again.len(), "frames of {}", names[port]);
        for (number, (before, again)) in before.iter().zip(again).enumerate() {
            assert_eq!(before, again, "frame {number} of {}", names[port]);
        }
    }
}

/// Recordings of real switches are done again to the bit, whatever has been changed since: whoever
/// means a change makes them anew, as `netns::record` says.
#[test]
fn recordings_that_are_kept_are_done_again_to_the_bit() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sim/recordings");
    let mut count = 0;
    for file in fs::read_dir(kept).unwrap() {
        let path = file.unwrap().path();
        let output = Command::new(env!("CARGO_BIN_EXE_vswitch"))
            .args(["replay", "--offline", "-j"])
            .arg(&path)
            .output()
            .unwrap();
        let report = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{}: {report}",
            path.display()
        );
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        let recorded = &report["recorded"];
        assert!(recorded["same"].as_u64().unwrap() > 50, "{recorded}");
        assert!(recorded["ticks_same"].as_u64().unwrap() > 5, "{recorded}");
        count += 1;
    }
    assert!(count > 0);
}

#[test]
fn what_was_switched_and_answered_is_so_again() {
    is_the_same_again("switched", Setup::default(), |world| {
        for round in 0..4 {
            for from in 0..3 {
                let to = member_ip((from + 1) % 3);
                world.host(usize::from(from)).ping(to, 7, round, b"hello");
                world
                    .host(usize::from(from))
                    .ping(GATEWAY, 8, round, b"hello");
                world.run();
            }
            world.advance(Nanos::from_secs(1));
        }
    });
}

#[test]
fn what_was_translated_is_so_again_with_the_same_ports() {
    let setup = Setup {
        seed: 77,
        ..Setup::default()
    };
    is_the_same_again("translated", setup, |world| {
        for round in 0..5 {
            for from in 0..3_u16 {
                // One at a time, since a capture does not tell what was in one batch.
                let host = usize::from(from);
                world.host(host).ping(FAR, 7 + from, round, b"hello");
                world.run();
                world.host(host).udp(O1, (5000 + round, 7), b"to an echo");
                world.run();
                world.host(host).udp(O2, (5000, 9), b"to nobody");
                world.run();
            }
            world.outside(O2).udp(EXTERNAL, (53, 40_500), b"unasked");
            world.advance(Nanos::from_secs(2));
        }
    });
}
