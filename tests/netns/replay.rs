//! `vswitch replay -i`: a capture out of a real interface.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use switch::pcapng::Reader;
use vswitch_cli::lab::traffic::capture::Capture;
use vswitch_cli::lab::traffic::frames::Direction;
use vswitch_cli::lab::{Cable, End, Host, Lab, Process};

use super::world::{PATIENCE, SECOND, program, run_dir, skip_without};
use crate::cli::replay::sample;

/// Two hosts on a cable, and the sample in a file.
struct Bed {
    _lab: Lab,
    near: Host,
    far: Host,
    directory: std::path::PathBuf,
}

impl Drop for Bed {
    fn drop(&mut self) {
        // A directory left behind in the system's place for such is no failure.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Bed {
    fn new() -> Option<Self> {
        let mut lab = Lab::new("replay");
        let hosts = lab.host("n").and_then(|near| Ok((near, lab.host("f")?)));
        let (near, far) = match hosts {
            Ok(hosts) => hosts,
            Err(error) => {
                skip_without(&error);
                return None;
            }
        };
        for host in [&near, &far] {
            host.sysctl("net/ipv6/conf/default/disable_ipv6", "1")
                .unwrap();
        }
        let cable = Cable {
            near: End::new(&near, "veth1"),
            far: End::new(&far, "eth0"),
            mtu: None,
        };
        lab.cable(&cable).unwrap();
        let directory = run_dir();
        fs::write(directory.join("web.pcapng"), sample()).unwrap();
        Some(Self {
            _lab: lab,
            near,
            far,
            directory,
        })
    }

    /// What arrives at the other end from now on.
    fn arrivals(&self) -> Capture {
        Capture::start(&self.far, "eth0", |frame| frame.direction == Direction::In).unwrap()
    }

    fn start(&self, words: &str) -> Process {
        let mut command: Command = program(&self.directory);
        command
            .args(["replay", "web.pcapng"])
            .args(words.split_whitespace())
            .current_dir(&self.directory);
        self.near.spawn(&mut command).unwrap()
    }

    /// Replays to the end, which must be well; what was printed, and how long it took.
    fn replay(&self, words: &str) -> (String, Duration) {
        let began = Instant::now();
        let mut process = self.start(words);
        let status = process.wait(PATIENCE).unwrap().expect("an end");
        assert!(status.success(), "{:?}", process.stderr());
        (process.stdout().join("\n"), began.elapsed())
    }
}

/// The frames of the sample.
fn frames() -> Vec<Vec<u8>> {
    let bytes = sample();
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let mut frames = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        frames.push(packet.bytes.to_vec());
    }
    frames
}

/// Without the digits of times, which differ from run to run.
fn timeless(line: &str) -> String {
    let at = line.rfind(" in ").unwrap();
    line[..at].to_owned()
}

#[test]
fn a_capture_goes_out_whole_in_order_and_as_docs_show() {
    let Some(bed) = Bed::new() else { return };
    let arrivals = bed.arrivals();
    let (said, took) = bed.replay("-i veth1");
    assert!(arrivals.wait_for(11, SECOND));
    let arrived = arrivals.stop().unwrap();
    let arrived: Vec<Vec<u8>> = arrived.into_iter().map(|frame| frame.bytes).collect();
    assert_eq!(arrived, frames());
    assert!(took >= Duration::from_millis(50), "{took:?}");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/replay.md");
    let page = fs::read_to_string(page).unwrap();
    let shown = page
        .split("# vswitch replay web.pcapng -i veth1\n")
        .nth(1)
        .unwrap();
    let shown = shown.lines().next().unwrap();
    assert_eq!(timeless(&said), timeless(shown));
}

#[test]
fn a_capture_goes_out_at_the_pace_and_as_often_as_asked_for() {
    let Some(bed) = Bed::new() else { return };
    for (words, times, least, most) in [
        // 50 ms, a tenth as fast.
        ("-i veth1 -x 0.1", 1, 0.5, 5.0),
        // 33 frames, the last of them after 32 pauses.
        ("-i veth1 -p 50 -l 3", 3, 0.64, 5.0),
        ("-i veth1 -t -l 100", 100, 0.0, 5.0),
    ] {
        let arrivals = bed.arrivals();
        let (said, _) = bed.replay(&format!("{words} -j"));
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["schema"], "vswitch.replay-sent/1");
        assert_eq!(
            (&said["sent"], &said["failed"]),
            (&(11 * times).into(), &0.into())
        );
        let seconds = said["seconds"].as_f64().unwrap();
        assert!((least..most).contains(&seconds), "{words}: {seconds} s");
        assert!(arrivals.wait_for(11 * times, SECOND), "{words}");
        assert_eq!(arrivals.count(), 11 * times, "{words}");
    }
}

#[test]
fn an_endless_replay_ends_when_asked_to() {
    let Some(bed) = Bed::new() else { return };
    for words in ["-i veth1 -l 0 -t", "-i veth1 -l 0 -x 0.001"] {
        let arrivals = bed.arrivals();
        let mut process = bed.start(words);
        assert!(arrivals.wait_for(1, PATIENCE));
        process.signal(Signal::SIGINT).unwrap();
        let status = process.wait(2 * SECOND).unwrap().expect("an end");
        assert!(status.success(), "{:?}", process.stderr());
        let said = process.stdout().join("\n");
        assert!(said.ends_with(", then interrupted"), "{said}");
    }
}

#[test]
fn what_the_kernel_refuses_is_counted_and_named() {
    let Some(bed) = Bed::new() else { return };
    bed.near.set_up("veth1", false).unwrap();
    let mut process = bed.start("-i veth1 -t");
    let status = process.wait(PATIENCE).unwrap().expect("an end");
    assert_eq!(status.code(), Some(1));
    let said = process.stdout().join("\n");
    assert!(said.contains("11 not sent: Network is down"), "{said}");
    let errors = process.stderr().join("\n");
    assert!(
        errors.contains("11 frames were refused; fix: ip link set DEV up"),
        "{errors}"
    );
    let mut process = bed.start("-i veth9");
    let status = process.wait(PATIENCE).unwrap().expect("an end");
    assert_eq!(status.code(), Some(1));
    assert!(process.stderr().join("\n").contains("veth9: "));
}
