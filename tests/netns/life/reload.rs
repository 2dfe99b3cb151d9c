//! SIGHUP: only what differs is done, and a broken file changes nothing.

use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::bed::{Bed, Running, eventually};
use super::stream::Stream;

struct File(PathBuf);

impl File {
    fn new(bed: &Bed, text: &str) -> Self {
        let file = Self(bed.run_dir().join("lab.toml"));
        file.write(text);
        file
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.0, text).unwrap();
    }

    /// Reloads and gives what was said, up to the line that contains `last`.
    fn reload(&self, running: &Running<'_>, text: &str, last: &str) -> Vec<String> {
        self.write(text);
        let before = running.says().len();
        running.process.signal(Signal::SIGHUP).unwrap();
        eventually(last, || {
            running.says()[before..]
                .iter()
                .any(|line| line.contains(last))
        });
        running.says()[before..].to_vec()
    }
}

const START: &str = "ports = [\"veth1\", \"veth2\"]\nageing = 300\n";

/// Goal: ports, stations and ageing follow the file, and ports that stay lose no frame.
#[test]
fn what_differs_is_done_and_the_rest_goes_on() {
    let Some(bed) = Bed::new(3) else { return };
    let file = File::new(&bed, START);
    let before = bed.snapshot();
    let running = bed.start(&format!("run --config {}", file.0.display()));
    let stream = Stream::start(bed.net.c(1), bed.net.c(2), bed.net.ip(2));
    let said = file.reload(&running, START, "reload: ");
    assert_eq!(said, ["reload: nothing differs"]);
    let with_three = "ports = [\"veth1\", \"veth2\", \"veth3\"]\nageing = 60\nworkers = 2\n\
                      [port.veth3]\nmac = [\"02:00:00:00:00:33\"]\n";
    let said = file.reload(&running, with_three, "workers");
    assert_eq!(
        said,
        [
            "reload: port veth3: add",
            "reload: ageing: 300 -> 60",
            "reload: workers: auto -> 2 (needs a restart)"
        ]
    );
    assert!(bed.reaches(bed.net.c(3), bed.net.ip(1)));
    assert_eq!(
        bed.rows("fdb", "mac", "02:00:00:00:00:33")[0]["ifname"],
        "veth3"
    );
    // A station moves from one port to another.
    let moved = with_three.replace("[port.veth3]", "[port.veth1]");
    let said = file.reload(&running, &moved, "workers");
    assert_eq!(
        said[..2],
        [
            "reload: port veth3: no longer fix 02:00:00:00:00:33",
            "reload: port veth1: fix 02:00:00:00:00:33"
        ]
    );
    assert_eq!(
        bed.rows("fdb", "mac", "02:00:00:00:00:33")[0]["ifname"],
        "veth1"
    );
    let said = file.reload(&running, START, "ageing");
    let expected = [
        "reload: port veth3: remove",
        "reload: port veth1: no longer fix 02:00:00:00:00:33",
        "reload: ageing: 60 -> 300",
    ];
    assert_eq!(said, expected);
    assert!(!bed.reaches(bed.net.c(3), bed.net.ip(1)));
    stream.finish_whole();
    running.ends_as_before(&before);
}

/// Goal: another worker for a port is a move, under which no frame is lost; none at all leaves it
/// where it is, and one that is not there is an error.
#[test]
fn a_port_follows_the_worker_in_its_file() {
    let Some(bed) = Bed::new(2) else { return };
    let start = format!("workers = 2\n{START}[port.veth1]\n");
    let file = File::new(&bed, &format!("{start}worker = 0\n"));
    let running = bed.start(&format!("run --config {}", file.0.display()));
    let stream = Stream::start(bed.net.c(1), bed.net.c(2), bed.net.ip(2));
    let worker = || bed.rows("port", "ifname", "veth1")[0]["vswitch"]["worker"].clone();
    assert_eq!(worker(), 0);
    let said = file.reload(&running, &format!("{start}worker = 1\n"), "reload: ");
    assert_eq!(said, ["reload: port veth1: worker 1"]);
    assert_eq!(worker(), 1);
    let said = file.reload(&running, &start, "reload: ");
    assert_eq!(said, ["reload: nothing differs"]);
    let said = file.reload(
        &running,
        &format!("{start}worker = 2\n").replace("workers = 2", "workers = 3"),
        "restart",
    );
    assert!(
        said.iter()
            .any(|line| line.contains("no worker 2: they are 0 to 1")),
        "{said:?}"
    );
    assert_eq!(worker(), 1, "nothing was done");
    stream.finish_whole();
}

/// Goal: a file that cannot be read, or asks for what cannot be, is an error message and no more.
#[test]
fn a_broken_file_changes_nothing() {
    let Some(bed) = Bed::new(3) else { return };
    let file = File::new(&bed, START);
    let running = bed.start(&format!("run --config {}", file.0.display()));
    let stream = Stream::start(bed.net.c(1), bed.net.c(2), bed.net.ip(2));
    let before = bed.snapshot();
    let said = file.reload(&running, "ports = [\"veth1\"\n", "nothing changed");
    assert!(
        said[0].starts_with(&format!("error: {}", file.0.display())),
        "{said:#?}"
    );
    assert_eq!(said.last().unwrap(), "reload: nothing changed");
    let said = file.reload(
        &running,
        "ports = [\"veth1\"]\nfrobnicate = 1\n",
        "nothing changed",
    );
    assert!(
        said.iter().any(|line| line.contains("frobnicate")),
        "{said:#?}"
    );
    let missing = "ports = [\"veth1\", \"veth2\", \"veth9\"]\nageing = 300\n";
    let said = file.reload(&running, missing, "not done");
    assert!(
        said[0].starts_with("error: veth9: no such interface"),
        "{said:#?}"
    );
    assert_eq!(said[1], "reload: not done: port veth9: add");
    // What was not done is tried again.
    let said = file.reload(&running, missing, "not done");
    assert_eq!(said[1], "reload: not done: port veth9: add");
    before.assert_same(&bed.snapshot());
    stream.finish_whole();
    drop(running);
}

/// Goal: without a file there is nothing to reload, and ports added since stay.
#[test]
fn without_a_file_nothing_changes() {
    let Some(bed) = Bed::new(2) else { return };
    let running = bed.start("--ports veth1");
    bed.does("port add veth2");
    running.process.signal(Signal::SIGHUP).unwrap();
    running.hears("reload: no file to read: it was started without --config");
    assert!(bed.reaches(bed.net.c(2), bed.net.ip(1)));
}

/// Goal: what is published follows the file, and a publish that cannot be changes nothing.
#[test]
fn a6_4_published_ports_follow_the_file() {
    let Some(bed) = Bed::new(2) else { return };
    let with = |list: &str| format!("{START}publish = [{list}]\n");
    let file = File::new(&bed, &with("\"8080:veth1:80\", \"9090:veth1:90\""));
    let before = bed.snapshot();
    let running = bed.start(&format!("run --config {}", file.0.display()));
    let said = file.reload(
        &running,
        &with("\"8080:veth2:80\", \"9090:veth1:90\""),
        "publish 8",
    );
    assert_eq!(
        said,
        [
            "reload: unpublish 0.0.0.0:8080/tcp",
            "reload: publish 8080:veth2:80/tcp"
        ]
    );
    let targets = || {
        let nat = bed.json("nat");
        let list = nat["published"].as_array().unwrap().clone();
        let target = |entry: &serde_json::Value| entry["targets"][0]["address"].clone();
        list.iter().map(target).collect::<Vec<_>>()
    };
    assert_eq!(targets(), ["10.9.0.2:90", "10.9.0.3:80"]);
    let bad = with("\"8080:veth2:80\", \"9090:veth1:90\", \"198.51.100.9:80:veth1\"");
    let said = file.reload(&running, &bad, "not done");
    let why = "198.51.100.9 is none of this host's addresses";
    assert!(said[0].contains(why), "{said:#?}");
    assert_eq!(targets().len(), 2);
    running.ends_as_before(&before);
}
