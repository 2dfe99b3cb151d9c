//! How a switch ends: by a signal, by a kill, and what `clean` and the next start make of it.

use nix::sys::signal::Signal;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::udp::{self, EchoServer};

use super::bed::{Bed, Running, SECOND};
use super::stream::Stream;

const WORDS: &str = "--ports veth1,veth2,tap:web0 --uplink eth0";

/// A switch with traffic between two containers and one session to the outside.
fn busy(bed: &Bed) -> (Running<'_>, Stream, EchoServer) {
    let running = bed.start(WORDS);
    let server = EchoServer::start(&bed.net.o, (Topology::OUTSIDE, 7000)).unwrap();
    let socket = udp::bind(
        bed.net.c(1),
        ("0.0.0.0".parse::<std::net::IpAddr>().unwrap(), 0),
    );
    let answer = udp::exchange(&socket.unwrap(), server.address(), b"hello", SECOND).unwrap();
    assert_eq!(answer.unwrap().0, b"hello");
    let stream = Stream::start(bed.net.c(1), bed.net.c(2), bed.net.ip(2));
    (running, stream, server)
}

/// Goal: SIGINT and SIGTERM during traffic end it with exit code 0 and the host as it was.
/// Method: snapshots of a host with a port that was down, and with reserved ports of its own.
fn ends_cleanly(signal: Signal) {
    let Some(bed) = Bed::new(2) else { return };
    bed.h()
        .sysctl("net/ipv4/ip_local_reserved_ports", "61005,8080")
        .unwrap();
    bed.h().set_up("veth1", false).unwrap();
    let before = bed.snapshot();
    let (running, stream, _server) = busy(&bed);
    assert!(before != bed.snapshot(), "a running switch is to be seen");
    running.end(signal);
    before.assert_same(&bed.snapshot());
    drop(stream.finish());
}

#[test]
fn ctrl_c_during_traffic() {
    ends_cleanly(Signal::SIGINT);
}

#[test]
fn a_service_managers_sigterm_during_traffic() {
    ends_cleanly(Signal::SIGTERM);
}

/// Goal: what a SIGKILL leaves is named by `doctor` and undone by `clean`.
#[test]
fn clean_undoes_what_a_kill_left() {
    let Some(bed) = Bed::new(2) else { return };
    bed.h().set_up("veth2", false).unwrap();
    let before = bed.snapshot();
    let (running, stream, _server) = busy(&bed);
    running.kill();
    drop(stream.finish());
    assert!(before != bed.snapshot(), "a killed switch leaves something");
    let output = bed
        .h()
        .attempt(|| "doctor".to_owned(), || bed.command("-j doctor").output());
    let output = output.unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report.as_array().unwrap();
    let names_it = |finding: &serde_json::Value| {
        let detail = finding["detail"].as_str().unwrap();
        detail.contains("vswitch0") && finding["fix"].as_str().unwrap().contains("vswitch clean")
    };
    assert!(findings.iter().any(names_it), "{report:#}");
    let cleaned = bed.run("clean");
    assert_eq!(cleaned.code, Some(0), "{cleaned:#?}");
    assert!(
        cleaned
            .stderr
            .iter()
            .any(|line| line.contains("restored: ")),
        "{cleaned:#?}"
    );
    before.assert_same(&bed.snapshot());
    assert_eq!(bed.run("clean").stderr, ["nothing left behind"]);
}

/// Goal: the next start under the name undoes it as well, works, and ends as usual.
#[test]
fn the_next_start_undoes_what_a_kill_left() {
    let Some(bed) = Bed::new(2) else { return };
    bed.h().set_up("veth2", false).unwrap();
    let before = bed.snapshot();
    let (running, stream, _server) = busy(&bed);
    running.kill();
    drop(stream.finish());
    let next = bed.start(WORDS);
    next.hears("left by a switch that was killed: restored: ");
    let stream = Stream::start(bed.net.c(1), bed.net.c(2), bed.net.ip(2));
    std::thread::sleep(SECOND / 5);
    stream.finish_whole();
    next.ends_as_before(&before);
}

/// Goal: `clean` beside a running switch touches nothing and says so.
#[test]
fn clean_leaves_a_running_switch_alone() {
    let Some(bed) = Bed::new(2) else { return };
    let (running, stream, _server) = busy(&bed);
    let before = bed.snapshot();
    let cleaned = bed.run("clean");
    let line = format!(
        "vswitch0 is running (pid {}); nothing touched",
        running.pid()
    );
    assert_eq!(cleaned.stderr, [line]);
    assert_eq!(cleaned.code, Some(0));
    before.assert_same(&bed.snapshot());
    stream.finish_whole();
}
