//! Open vSwitch with its userspace (`netdev`) datapath, in a directory of its own.
//!
//! Source: `Documentation/intro/install/userspace.rst`, `Documentation/topics/userspace-tso.rst`,
//! ovs-vswitchd(8), ovsdb-server(1), ovs-vsctl(8).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::net::Net;
use super::programs::{OVS, missing, need, ovs_schema};
use super::running::{self, Running, Scratch};
use super::{BedError, brief};
use crate::bench::words::Forwarder;

/// How long the database may take to listen.
const DATABASE: Duration = Duration::from_secs(10);
/// Seconds that ovs-vsctl waits for ovs-vswitchd: a thousand ports take a while.
const CONFIGURE: &str = "--timeout=60";
/// What to do when one of its programs refuses.
const FIX: &str = "read its words; `apt install --reinstall openvswitch-switch`";

/// What the datapath does with checksums and segments that senders left undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offload {
    /// Nothing: it loses what a frame says of them, so that the containers must finish them.
    None,
    /// `userspace-tso-enable`.
    Tso,
}

pub(super) fn start(net: &Net, offload: Offload) -> Result<Running, BedError> {
    if let Some(lack) = missing(Forwarder::Ovs) {
        let fix = format!("apt install {}", lack.package);
        return Err(BedError::new(
            format!("find {}", lack.program),
            "it is not there",
            fix,
        ));
    }
    net.lay_cables()?;
    if offload == Offload::None {
        net.finish_in_containers()?;
    }
    let mut ovs = Ovs::with_database(net)?;
    let mut told = Vec::new();
    ovs.vsctl(&["--no-wait", "init"])?;
    if offload == Offload::Tso {
        // Read once, when the datapath starts.
        let set = [
            "set",
            "Open_vSwitch",
            ".",
            "other_config:userspace-tso-enable=true",
        ];
        ovs.vsctl(&[&["--no-wait"][..], &set].concat())?;
        told.push(format!("ovs-vsctl {}", set.join(" ")));
    }
    told.push(ovs.start_switch()?);
    told.push(ovs.connect(&net.ports())?);
    if offload == Offload::None {
        told.push("in the containers: ethtool -K eth0 tx off".to_owned());
    }
    let version = ovs.version()?;
    ovs.running.description = format!("{version}: {}", told.join("; "));
    Ok(ovs.running.keep(ovs.scratch))
}

/// A database, and what is started beside it.
struct Ovs<'n> {
    net: &'n Net,
    // In the order of their end.
    running: Running,
    scratch: Scratch,
}

impl<'n> Ovs<'n> {
    fn with_database(net: &'n Net) -> Result<Self, BedError> {
        let mut ovs = Self {
            net,
            running: Running::new(String::new()),
            scratch: Scratch::new()?,
        };
        let database = ovs.file("conf.db");
        let schema = ovs_schema().unwrap_or_default();
        let mut create = ovs.command("ovsdb-tool")?;
        create.args(["create", &database, schema]);
        running::run(&net.h, &mut create, FIX)?;
        let mut server = ovs.command("ovsdb-server")?;
        server.args([
            &database,
            &format!("--remote=p{}", ovs.remote()),
            &format!("--unixctl={}", ovs.file("ovsdb.ctl")),
        ]);
        ovs.running.processes.push(net.h.spawn(&mut server)?);
        let socket = ovs.file("db.sock");
        let listens = || Path::new(&socket).exists();
        running::wait_until(&ovs.running, "start ovsdb-server", DATABASE, listens)?;
        Ok(ovs)
    }

    /// Starts ovs-vswitchd and says how.
    fn start_switch(&mut self) -> Result<String, BedError> {
        let mut switch = self.command("ovs-vswitchd")?;
        let control = format!("--unixctl={}", self.file("vswitchd.ctl"));
        // Without the kernel's datapath it neither needs nor looks for its module.
        switch.args([self.remote(), control, "--disable-system".to_owned()]);
        self.running.processes.push(self.net.h.spawn(&mut switch)?);
        Ok(self.scratch.hide(&running::line(&switch)))
    }

    /// Puts the ports into one bridge, waits until the switch has done so, and says how.
    fn connect(&self, ports: &[String]) -> Result<String, BedError> {
        let bridge = ["set", "bridge", "br0", "datapath_type=netdev"];
        let mut words = vec!["add-br", "br0", "--"];
        words.extend(bridge);
        for port in ports {
            words.extend(["--", "add-port", "br0", port]);
        }
        self.vsctl(&words)?;
        let failed = [
            "--bare",
            "--columns=name,error",
            "find",
            "interface",
            "error!=[]",
        ];
        let failed = self.vsctl(&failed)?;
        if !failed.trim().is_empty() {
            let what = "add the ports to Open vSwitch's bridge";
            return Err(BedError::new(what, failed.trim().replace('\n', " "), FIX));
        }
        let text = format!("ovs-vsctl add-br br0 -- {}", bridge.join(" "));
        Ok(format!("{text} -- add-port br0 {}", brief(ports)))
    }

    fn vsctl(&self, words: &[&str]) -> Result<String, BedError> {
        let mut command = self.command("ovs-vsctl")?;
        command.args([CONFIGURE, &format!("--db={}", self.remote())]);
        command.args(words);
        let ran = running::run(&self.net.h, &mut command, FIX);
        // The switch's own end explains more than that nobody answered.
        ran.map_err(|err| self.running.ended().unwrap_or(err))
    }

    fn version(&self) -> Result<String, BedError> {
        let mut command = self.command("ovs-vswitchd")?;
        running::version(&self.net.h, command.arg("--version"))
    }

    /// A program that finds nothing of another Open vSwitch's.
    fn command(&self, program: &'static str) -> Result<Command, BedError> {
        let mut command = Command::new(need(program, OVS)?);
        for name in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
            command.env(name, self.scratch.path());
        }
        Ok(command)
    }

    fn remote(&self) -> String {
        format!("unix:{}", self.file("db.sock"))
    }

    fn file(&self, name: &str) -> String {
        self.scratch.file(name)
    }
}
