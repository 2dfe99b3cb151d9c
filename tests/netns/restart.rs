//! A4-10, F-22: a switch that is killed and started again goes on with its sessions.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use vswitch_cli::lab::traffic::tcp::{self, Amount, Pattern};
use vswitch_cli::lab::traffic::udp;
use vswitch_cli::lab::{Host, Lab, Plan, Process, Topology};

use super::traffic::ANY;
use super::world::{PATIENCE, SECOND, eventually, program, run_dir, skip_without, soak};

/// An address of the switch's own: while no switch runs, nobody answers for it.
const OWN: &str = "--uplink-address 203.0.113.50/24";
const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 50);

/// A network whose switch comes and goes.
struct Bed {
    net: Topology,
    run_dir: PathBuf,
}

impl Bed {
    fn new() -> Option<Self> {
        let net = match Topology::build(Lab::new("restart"), Plan::default()) {
            Ok(net) => net,
            Err(error) => {
                skip_without(&error);
                return None;
            }
        };
        let run_dir = run_dir();
        Some(Self { net, run_dir })
    }

    fn state(&self) -> PathBuf {
        self.run_dir.join("kept.state")
    }

    fn start(&self, words: &str) -> Process {
        let mut command = program(&self.run_dir);
        command.args(["--ports", &self.net.port_names().join(",")]);
        command.args(["--uplink", Topology::UPLINK, "--state"]);
        command.arg(self.state()).args(words.split_whitespace());
        let process = self.net.h.spawn(&mut command).unwrap();
        let ready = process.wait_line(PATIENCE, |line| line.starts_with("ready in"));
        assert!(ready.is_some(), "{:#?}", process.stderr());
        process
    }

    fn json(&self, words: &str) -> Value {
        let mut command = program(&self.run_dir);
        let output = command.arg("-j").args(words.split_whitespace()).output();
        serde_json::from_slice(&output.unwrap().stdout).unwrap()
    }

    fn sessions(&self) -> Vec<Value> {
        self.json("nat")["sessions"].as_array().unwrap().clone()
    }

    /// Waits for a save that has so many sessions in it.
    fn saved(&self, sessions: usize) {
        let records = |path: PathBuf| std::fs::metadata(path).map_or(0, |m| m.len() / 80);
        eventually("saved", || {
            records(self.state()) >= u64::try_from(sessions).unwrap()
        });
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.run_dir);
    }
}

fn kill(mut process: Process) {
    process.signal(Signal::SIGKILL).unwrap();
    assert!(process.wait(PATIENCE).unwrap().is_some());
}

fn end(mut process: Process) {
    let status = process.stop(PATIENCE).unwrap();
    let said = process.stderr();
    assert!(status.success(), "{said:#?}");
    assert!(
        !said.iter().any(|line| line.contains("panicked")),
        "{said:#?}"
    );
}

/// A connection from `c` to the outside that carries bytes both ways at once, all of them checked,
/// while `meanwhile` happens. Returns the longest silence of either direction.
fn transfer(c: &Host, o: &Host, time: Duration, meanwhile: impl FnOnce()) -> Duration {
    let listener = tcp::listen(o, ANY).unwrap();
    let port = listener.local_addr().unwrap().port();
    let inside = tcp::connect(c, (Topology::OUTSIDE, port)).unwrap();
    let (outside, _) = tcp::accept(&listener, SECOND).unwrap();
    let patterns = [Pattern::new(1), Pattern::new(2)];
    let ends = [(&inside, &outside), (&outside, &inside)];
    thread::scope(|scope| {
        let ways = ends
            .into_iter()
            .zip(&patterns)
            .map(|((from, to), pattern)| {
                let send =
                    scope.spawn(move || tcp::send(from, pattern, Amount::For(time)).unwrap());
                let receive = scope.spawn(move || receive(to, pattern));
                (send, receive)
            });
        let ways: Vec<_> = ways.collect();
        meanwhile();
        let finish = ways.into_iter().map(|(send, receive)| {
            let (bytes, silence) = receive.join().unwrap();
            assert_eq!(send.join().unwrap(), bytes);
            silence
        });
        finish.max().unwrap()
    })
}

/// Reads to the end; the number of bytes and the longest silence.
fn receive(mut from: &TcpStream, pattern: &Pattern) -> (u64, Duration) {
    let (mut bytes, mut silence, mut last) = (0, Duration::ZERO, Instant::now());
    let mut buffer = vec![0; 256 << 10];
    loop {
        let length = from.read(&mut buffer).unwrap();
        silence = silence.max(last.elapsed());
        last = Instant::now();
        if length == 0 {
            return (bytes, silence);
        }
        pattern.check(bytes, &buffer[..length]).unwrap();
        bytes += length as u64;
    }
}

/// Kills a switch in the midst of a transfer and starts another.
fn killed_midway(before: &str, after: &str) {
    let Some(bed) = Bed::new() else { return };
    let time = soak(Duration::from_secs(8));
    let mut process = Some(bed.start(before));
    let silence = transfer(bed.net.c(2), &bed.net.o, time, || {
        bed.saved(1);
        thread::sleep(time / 3);
        kill(process.take().unwrap());
        process = Some(bed.start(after));
    });
    let said = process.as_ref().unwrap().stderr();
    let restored = |line: &String| line.starts_with("1 of 1 sessions restored");
    assert!(said.iter().any(restored), "{said:#?}");
    assert!(silence < 2 * SECOND, "silent for {silence:?}");
    end(process.unwrap());
}

#[test]
fn a4_10_a_transfer_outlives_a_killed_switch() {
    killed_midway("--workers 1", "--workers 1");
}

#[test]
fn a4_10_a_transfer_outlives_a_killed_switch_and_more_workers() {
    killed_midway("--workers 1", "--workers 2");
}

#[test]
fn a4_10_a_transfer_outlives_a_killed_switch_and_fewer_workers() {
    killed_midway("--workers 2", "--workers 1");
}

#[test]
fn a4_10_a_transfer_by_an_address_of_its_own_outlives_a_killed_switch() {
    killed_midway(OWN, OWN);
}

#[test]
fn a4_10_all_sessions_come_back_as_they_were_after_a_stop() {
    let Some(bed) = Bed::new() else { return };
    let echo = udp::EchoServer::start(&bed.net.o, ANY).unwrap();
    let to = SocketAddr::from((Topology::OUTSIDE, echo.address().port()));
    let process = bed.start("--workers 2");
    let sockets: Vec<_> = [1, 2]
        .into_iter()
        .flat_map(|c| (0..40).map(move |_| c))
        .map(|c| udp::bind(bed.net.c(c), ANY).unwrap())
        .collect();
    for socket in &sockets {
        assert!(udp::exchange(socket, to, b"one", SECOND).unwrap().is_some());
    }
    let key = |session: &Value| {
        let word = |key: &str| session[key].as_str().unwrap().to_owned();
        [
            word("inside"),
            word("external"),
            word("outside"),
            word("state"),
        ]
        .join(" ")
    };
    let all = |bed: &Bed| {
        let mut keys: Vec<_> = bed.sessions().iter().map(key).collect();
        keys.sort();
        keys
    };
    let before = all(&bed);
    assert_eq!(before.len(), 80);
    end(process);
    let mode = std::fs::metadata(bed.state()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "nobody else's business");
    for workers in [1, 2] {
        let process = bed.start(&format!("--workers {workers}"));
        let said = process.stderr();
        let restored = |line: &String| line.starts_with("80 of 80 sessions restored");
        assert!(said.iter().any(restored), "{said:#?}");
        assert_eq!(all(&bed), before);
        for socket in &sockets {
            let back = udp::exchange(socket, to, b"two", SECOND).unwrap();
            assert!(back.is_some(), "{workers} workers");
        }
        assert_eq!(all(&bed), before, "the same sessions went on");
        end(process);
    }
}

#[test]
fn a4_10_sessions_of_another_external_address_stay_away() {
    let Some(bed) = Bed::new() else { return };
    let echo = udp::EchoServer::start(&bed.net.o, ANY).unwrap();
    let to = SocketAddr::from((Topology::OUTSIDE, echo.address().port()));
    let socket = udp::bind(bed.net.c(1), ANY).unwrap();
    let process = bed.start(OWN);
    udp::exchange(&socket, to, b"one", SECOND).unwrap().unwrap();
    let external = bed.sessions()[0]["external"].as_str().unwrap().to_owned();
    assert!(external.starts_with(&OWN_ADDRESS.to_string()), "{external}");
    end(process);
    let process = bed.start("");
    let said = process.stderr();
    let line = "0 of 1 sessions restored, 1 of another external address";
    assert!(said.iter().any(|said| said == line), "{said:#?}");
    assert!(bed.sessions().is_empty());
    udp::exchange(&socket, to, b"two", SECOND).unwrap().unwrap();
    end(process);
}

#[test]
fn f_22_a_bad_state_file_is_named_and_replaced() {
    let Some(bed) = Bed::new() else { return };
    let whole = {
        let echo = udp::EchoServer::start(&bed.net.o, ANY).unwrap();
        let to = SocketAddr::from((Topology::OUTSIDE, echo.address().port()));
        let process = bed.start("");
        let socket = udp::bind(bed.net.c(1), ANY).unwrap();
        udp::exchange(&socket, to, b"one", SECOND).unwrap().unwrap();
        end(process);
        std::fs::read(bed.state()).unwrap()
    };
    let middle = whole.len() / 2;
    let mut garbled = whole.clone();
    garbled[middle] ^= 0xff;
    let mut newer = whole.clone();
    newer[8] = 77;
    for (bytes, why) in [
        (garbled, "a wrong checksum of the section at byte "),
        (whole[..middle].to_vec(), "cut off at byte "),
        (newer, "version 77, and this vswitch reads 1, at byte 8"),
        (
            b"#!/bin/sh\n".to_vec(),
            "this is no state file of vswitch at byte 0",
        ),
        (Vec::new(), "this is no state file of vswitch at byte 0"),
    ] {
        std::fs::write(bed.state(), &bytes).unwrap();
        let process = bed.start("");
        let said = process.stderr();
        let named = |line: &String| line.contains(why) && line.contains("kept.state");
        assert!(said.iter().any(named), "{why}: {said:#?}");
        end(process);
        let process = bed.start("");
        let said = process.stderr();
        assert!(
            !said.iter().any(|line| line.contains("warning")),
            "{said:#?}"
        );
        end(process);
    }
}

#[test]
fn f_22_a_state_file_that_cannot_be_written_is_an_error_before_anything_is_touched() {
    let Some(bed) = Bed::new() else { return };
    let mut command = program(&bed.run_dir);
    command.args(["--ports", "veth1", "--uplink", Topology::UPLINK]);
    command.args(["--state", "/nowhere/at/all"]);
    let mut process = bed.net.h.spawn(&mut command).unwrap();
    let status = process.wait(PATIENCE).unwrap().unwrap();
    assert_eq!(status.code(), Some(1));
    let error = "error: /nowhere/at/all: No such file or directory (os error 2); \
                 fix: mkdir -p /nowhere/at";
    assert_eq!(process.stderr(), [error]);
}
