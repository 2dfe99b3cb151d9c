//! The ports in tshark: listed, chosen and captured as any other interface.

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::ping::Ping;

use super::clients::{Dir, installed};
use super::world::Times::AtLeast;
use super::world::{PATIENCE, World, world};

/// tshark with a home of its own, in which nothing is but what was installed.
struct Tshark {
    home: Dir,
}

impl Tshark {
    fn at_home<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command.env("HOME", self.home.path());
        command.env_remove("XDG_CONFIG_HOME")
    }

    fn start(&self, words: &str) -> std::process::Child {
        let mut command = Command::new("tshark");
        command.args(words.split_whitespace());
        let command = self.at_home(&mut command).stdin(Stdio::null());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    fn run(&self, words: &str) -> String {
        text(&self.start(words).wait_with_output().unwrap())
    }

    fn vswitch(&self, world: &World, words: &str) -> Output {
        self.at_home(&mut world.command(words)).output().unwrap()
    }

    /// What it says of packets while one container pings the other.
    fn captures(&self, world: &World, words: &str) -> Vec<String> {
        let mut child = self.start(words);
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait().unwrap().is_none() {
            world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)));
            // One that is dropped, for those who look at drops.
            let lost = Ping::to(Topology::OUTSIDE);
            world.ping(world.c(1), &Ping { ttl: 1, ..lost });
            if Instant::now() > deadline {
                child.kill().unwrap();
            }
        }
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{words}: {output:?}");
        text(&output).lines().map(str::to_owned).collect()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Goal: after one command, the ports are among tshark's interfaces; it captures there by its own
/// means, with a filter of vswitch's, and what is dropped alone.
#[test]
fn ports_appear_in_tshark_and_are_captured() {
    if !installed(&["tshark"]) {
        return;
    }
    let tshark = Tshark { home: Dir::new() };
    let Some(world) = world().start() else { return };
    assert_eq!(
        tshark.vswitch(&world, "plugin status").status.code(),
        Some(4)
    );
    let installed = tshark.vswitch(&world, "plugin install extcap");
    assert!(installed.status.success(), "{installed:?}");
    let status = tshark.vswitch(&world, "plugin status");
    assert!(
        status.status.success() && text(&status).contains("  installed\n"),
        "{status:?}"
    );
    let listed = tshark.run("-D");
    let port = &world.net.port_names()[0];
    for word in [
        format!("vsw:{port} (vsw: {port}"),
        "vsw::all (vsw: all ports)".into(),
        "vsw::drops (vsw: drops only)".into(),
    ] {
        assert!(listed.contains(&word), "{word}: {listed}");
    }
    let fields = "-T fields -e ip.src -e ip.dst -e icmp.type";
    let lines = tshark.captures(&world, &format!("-i vsw:{port} -f icmp -c 4 {fields}"));
    assert_eq!(lines.len(), 4, "{lines:#?}");
    let member = world.ip(1).to_string();
    assert!(
        lines.iter().all(|line| line.contains(&member)),
        "{lines:#?}"
    );
    let names = tshark.captures(
        &world,
        "-i vsw::all -f icmp -c 8 -T fields -e frame.interface_name",
    );
    let names: BTreeSet<&String> = names.iter().collect();
    assert!(names.len() > 1, "{names:?}");
    let ttls = tshark.captures(&world, "-i vsw::drops -c 2 -T fields -e ip.ttl");
    assert_eq!(ttls, ["1", "1"]);
    let ttls = tshark.captures(&world, "-i vsw::all -f drop -c 1 -T fields -e ip.ttl");
    assert_eq!(ttls, ["1"]);
    let removed = tshark.vswitch(&world, "plugin remove extcap");
    assert!(removed.status.success(), "{removed:?}");
    assert!(!tshark.run("-D").contains("vsw:"));
    world.finish(&[("TTL_EXPIRED", AtLeast(2))]);
}

/// A filter that is none is refused before anything is captured, with its place.
#[test]
fn a_bad_filter_is_refused_as_extcap_asks() {
    let words = [
        "extcap",
        "--extcap-interface",
        "vsw:veth1",
        "--extcap-capture-filter",
    ];
    let ask = |filter: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vswitch"));
        command.args(words).arg(filter).output().unwrap()
    };
    let good = ask("tcp port 80");
    assert!(good.status.success() && good.stdout.is_empty() && good.stderr.is_empty());
    assert_eq!(ask("tcp prot 80").status.code(), Some(2));
}
