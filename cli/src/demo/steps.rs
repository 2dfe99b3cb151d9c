//! What the demo does over the switch; each returns what to tell, or what went wrong.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::DemoOptions;
use crate::host::netns;
use crate::lab::traffic::capture::Capture;
use crate::lab::traffic::craft::{ETHERTYPE_ARP, Seen};
use crate::lab::traffic::frames::{Direction, SeenFrame};
use crate::lab::traffic::ping::{Ping, PingReport};
use crate::lab::traffic::tcp;
use crate::lab::{Host, LabError, Process, Subnet, Topology};

/// What to tell of a step that worked, or why it did not.
pub(super) type Told = Result<String, String>;

/// How long a client of the switch may take.
const CLIENT_LIMIT: Duration = Duration::from_secs(5);
/// How long the switch may take to put everything back.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// How long an answer over TCP may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The seed of the transferred bytes: which one does not matter, but it is told apart from zeros.
const SEED: u64 = 0x5eed;

/// A switch in the host, started from this very program.
#[derive(Debug)]
pub(super) struct Switch {
    pub(super) process: Process,
    program: PathBuf,
    run_dir: PathBuf,
    name: String,
}

impl Switch {
    /// Starts it in `host`.
    pub(super) fn spawn(
        host: &Host,
        options: &DemoOptions,
        name: &str,
        flags: &[String],
    ) -> Result<Self, String> {
        let DemoOptions {
            program, run_dir, ..
        } = options;
        let mut command = Command::new(program);
        command.args(["run", "--name", name, "--run-dir"]);
        command.arg(run_dir).args(flags);
        let process = host.spawn(&mut command).map_err(|err| err.to_string())?;
        Ok(Self {
            process,
            program: program.clone(),
            run_dir: run_dir.clone(),
            name: name.to_owned(),
        })
    }

    /// Waits at most `time` for its word that it is ready; tells whether it came.
    pub(super) fn is_ready(&self, time: Duration) -> bool {
        let ready = |line: &str| line.starts_with("ready in");
        self.process.wait_line(time, ready).is_some()
    }

    /// How it ended, if it has.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.process.try_wait().ok().flatten()?;
        Some(format!(
            "the switch ended with {status}{}",
            last_words(&self.process)
        ))
    }

    /// Runs a client command and returns what it printed.
    pub(super) fn ask(&self, host: &Host, words: &[&str]) -> Result<Vec<String>, String> {
        let mut command = Command::new(&self.program);
        command.args(["--name", &self.name, "--run-dir"]);
        command.arg(&self.run_dir).args(words);
        let mut client = host.spawn(&mut command).map_err(|err| err.to_string())?;
        match client.wait(CLIENT_LIMIT) {
            Ok(Some(status)) if status.success() => Ok(client.stdout()),
            Ok(Some(status)) => Err(format!("{status}: {}", client.stderr().join(" / "))),
            Ok(None) => Err(format!("no answer in {CLIENT_LIMIT:?}")),
            Err(err) => Err(err.to_string()),
        }
    }

    /// Ends it by SIGTERM, and tells its last words. One that does not end properly leaves files
    /// behind, which the program itself clears away.
    pub(super) fn stop(&mut self, host: &Host) -> Told {
        let stopped = self.process.stop(STOP_LIMIT);
        let said = last_words(&self.process);
        let why = match stopped {
            Ok(status) if status.success() => return Ok(format!("the switch has ended{said}")),
            Ok(status) => format!("the switch ended with {status}{said}"),
            Err(err) => format!("the switch cannot be ended: {err}"),
        };
        match self.ask(host, &["clean", &self.name]) {
            Ok(_) => Err(why),
            Err(unclean) => Err(format!("{why}; vswitch clean {}: {unclean}", self.name)),
        }
    }
}

/// What a program said last, as the end of a sentence.
fn last_words(process: &Process) -> String {
    let said = process.stderr();
    let last = said.last().map(|line| line.trim());
    last.map_or_else(String::new, |line| format!("; it said: {line}"))
}

/// Sends five echo requests.
pub(super) fn ping(from: &Host, to: Ipv4Addr) -> Told {
    let ping = Ping {
        interval: Duration::from_millis(20),
        timeout: Duration::from_millis(500),
        ..Ping::to(to).count(5)
    };
    let what = || format!("ping {to} from {}", from.label());
    let report = from
        .attempt(what, || ping.run())
        .map_err(|err| err.to_string())?;
    tell_ping(&report)
}

fn tell_ping(report: &PingReport) -> Told {
    let PingReport { sent, received, .. } = report;
    let (Some(median), Some(max)) = (report.rtts.median(), report.rtts.max()) else {
        return Err(match report.errors.first() {
            Some(error) => format!(
                "0 of {sent} answered; {} sent ICMP type {} code {}",
                error.from, error.kind, error.code
            ),
            None => format!("0 of {sent} answered"),
        });
    };
    if !report.is_perfect() {
        return Err(format!(
            "{received} of {sent} answered, {} twice, {} with wrong bytes, {} errors",
            report.duplicates,
            report.corrupt,
            report.errors.len()
        ));
    }
    Ok(format!(
        "{received} of {sent} answered, round trip {} (median), {} (slowest)",
        shown(median),
        shown(max)
    ))
}

/// Transfers bytes for `time` and checks every one.
pub(super) fn bulk(from: &Host, to: &Host, address: Ipv4Addr, time: Duration) -> Told {
    let transfer = || {
        let listener = tcp::listen(to, (Ipv4Addr::UNSPECIFIED, 5201))?;
        tcp::bulk(
            from,
            (address, 5201),
            &listener,
            tcp::Amount::For(time),
            SEED,
        )
    };
    let report = transfer().map_err(|err| err.to_string())?;
    Ok(format!(
        "{} MB in {:.1} s: {:.2} Gbit/s, every byte right",
        report.bytes / 1_000_000,
        report.elapsed.as_secs_f64(),
        report.gbit_per_s()
    ))
}

/// Asks the outside host by which address it is spoken to, while somebody watches its wire for
/// addresses that must not get out.
pub(super) fn who_am_i(inside: &Host, outside: &Host, subnet: Subnet) -> Told {
    let watched = || -> Result<(SocketAddr, String, usize, usize), LabError> {
        let all = Capture::start(outside, "eth0", |frame| frame.direction == Direction::In)?;
        let leaks = Capture::start(outside, "eth0", move |frame| leaks(frame, subnet))?;
        let (seen, heard) = converse(inside, outside)?;
        let frames = |capture: Capture| {
            let frames = capture.stop();
            frames.map_err(|err| LabError::new("watch the wire outside", err))
        };
        Ok((seen, heard, frames(all)?.len(), frames(leaks)?.len()))
    };
    let (seen, heard, all, leaked) = watched().map_err(|err| err.to_string())?;
    if seen.ip() != IpAddr::V4(Topology::HOST) {
        return Err(format!("the outside saw {seen}, not {}", Topology::HOST));
    }
    if heard != format!("you are {seen}") {
        return Err(format!(
            "the outside saw {seen}, but its answer arrived as {heard:?}"
        ));
    }
    if leaked > 0 || all == 0 {
        return Err(format!(
            "{leaked} of {all} frames outside had an inside address"
        ));
    }
    Ok(format!(
        "answer: \"{heard}\"; none of the {all} frames out there had an inside address"
    ))
}

/// One connection from inside to a server outside, which says whom it sees; that, and what was
/// heard inside.
fn converse(inside: &Host, outside: &Host) -> Result<(SocketAddr, String), LabError> {
    let listener = tcp::listen(outside, (Ipv4Addr::UNSPECIFIED, 80))?;
    thread::scope(|scope| {
        let server = scope.spawn(|| -> io::Result<SocketAddr> {
            let (mut stream, seen) = tcp::accept(&listener, PATIENCE)?;
            write!(stream, "you are {seen}")?;
            Ok(seen)
        });
        let heard = hear(inside);
        let seen = server
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let heard = heard?;
        let seen = seen.map_err(|err| LabError::new("answer outside", err))?;
        Ok((seen, heard))
    })
}

fn hear(inside: &Host) -> Result<String, LabError> {
    let mut stream = tcp::connect_within(inside, (Topology::OUTSIDE, 80), PATIENCE)?;
    let mut heard = String::new();
    let read = stream.read_to_string(&mut heard);
    read.map_err(|err| LabError::new("read the answer", err))?;
    Ok(heard)
}

/// Whether a frame on the outside wire shows an address of the inside.
fn leaks(frame: &SeenFrame, subnet: Subnet) -> bool {
    let [a, b, c, _] = subnet.gateway().octets();
    let inside = |ip: &[u8]| ip.starts_with(&[a, b, c]);
    if frame.bytes.get(12..14) == Some(&ETHERTYPE_ARP.to_be_bytes()) {
        return frame.bytes.get(28..32).is_some_and(inside);
    }
    Seen::in_frame(&frame.bytes)
        .is_some_and(|seen| inside(&seen.source.octets()) || inside(&seen.destination.octets()))
}

/// What must be gone after the end, and is not.
pub(super) fn leftovers(names: &[String], pid: Option<u32>, run_dir: &Path, name: &str) -> Told {
    let mut left = Vec::new();
    let namespaces = netns::names().map_err(|err| format!("{}: {err}", netns::RUN_NETNS))?;
    left.extend(
        names
            .iter()
            .filter(|name| namespaces.contains(name))
            .map(|name| format!("namespace {name}")),
    );
    if let Some(pid) = pid.filter(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
        left.push(format!("process {pid}"));
    }
    let own = format!("{name}.");
    let files = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
    for file in files {
        if file.file_name().to_string_lossy().starts_with(&own) {
            left.push(file.path().display().to_string());
        }
    }
    if left.is_empty() {
        Ok("nothing is left: no namespace, no process, no socket file".to_owned())
    } else {
        Err(format!("still there: {}", left.join(", ")))
    }
}

/// A duration as people say it.
pub(super) fn shown(time: Duration) -> String {
    let micros = time.as_micros();
    if micros < 1000 {
        format!("{micros} µs")
    } else if micros < 1_000_000 {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::traffic::Rtts;
    use crate::lab::traffic::craft::{ETHERTYPE_IPV4, ICMP, Ipv4, arp_request, ethernet};

    #[test]
    fn an_inside_address_on_the_outside_wire_is_a_leak() {
        let frame = |bytes| SeenFrame {
            at: Duration::ZERO,
            direction: Direction::In,
            bytes,
        };
        let inside = Subnet::Ten.container(1);
        let ip = |from, to| {
            let packet = Ipv4::new(from, to, ICMP).packet(&[0; 8]);
            frame(ethernet([2; 6], [4; 6], ETHERTYPE_IPV4, &packet))
        };
        assert!(leaks(&ip(inside, Topology::OUTSIDE), Subnet::Ten));
        assert!(leaks(&ip(Topology::OUTSIDE, inside), Subnet::Ten));
        assert!(!leaks(&ip(Topology::HOST, Topology::OUTSIDE), Subnet::Ten));
        assert!(leaks(
            &frame(arp_request([2; 6], inside, Topology::OUTSIDE)),
            Subnet::Ten
        ));
        let own = arp_request([2; 6], Topology::HOST, Topology::OUTSIDE);
        assert!(!leaks(&frame(own), Subnet::Ten));
        assert!(!leaks(&frame(vec![0; 10]), Subnet::Ten));
    }

    #[test]
    fn pings_are_told_as_they_went() {
        let none = PingReport {
            sent: 5,
            ..PingReport::default()
        };
        assert_eq!(tell_ping(&none), Err("0 of 5 answered".to_owned()));
        let some = PingReport {
            sent: 5,
            received: 4,
            rtts: Rtts::new(vec![Duration::from_micros(30); 4]),
            ..PingReport::default()
        };
        assert!(tell_ping(&some).is_err());
        let all = PingReport {
            received: 5,
            ..some
        };
        assert!(tell_ping(&all).unwrap().contains("30 µs (median)"));
        assert_eq!(shown(Duration::from_micros(1500)), "1.5 ms");
        assert_eq!(shown(Duration::from_secs(2)), "2.0 s");
    }

    #[test]
    fn leftovers_are_found() {
        let dir = std::env::temp_dir().join(format!("vswdemo-left-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        assert!(leftovers(&[], None, &dir, "demo-1").is_ok());
        assert!(leftovers(&[], None, &dir.join("absent"), "demo-1").is_ok());
        std::fs::write(dir.join("demo-1.sock"), "").unwrap();
        std::fs::write(dir.join("demo-11.sock"), "").unwrap();
        let own = std::process::id();
        let left = leftovers(&[], Some(own), &dir, "demo-1").unwrap_err();
        let expected = format!("still there: process {own}, {}/demo-1.sock", dir.display());
        assert_eq!(left, expected);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
