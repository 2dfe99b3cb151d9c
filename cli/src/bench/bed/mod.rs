//! Beds: a network of namespaces with one forwarder in its middle, ready for a load.
//!
//! # Theory of operation
//!
//! [`Bed::build`] makes the namespaces (`net`), starts the forwarder in the one that plays the
//! host (one file for each family), and waits until an echo request of the client has come back
//! from the server through it. All beds of one [`Shape`] are alike but for the forwarder:
//! addresses, MTU, offloads of the containers, except where a forwarder cannot do without a
//! change, which its [`description`](Bed::description) then names.
//!
//! Programs of others run in the bed's namespaces only, with sockets, databases and other files in
//! a directory of the bed (`running`). They never see the defaults of the machine, so that a
//! production Open vSwitch beside it is not touched.
//!
//! A bed takes everything with it that it brought: processes first, the last started first, then
//! their directory, then the links and namespaces.

mod bridge;
mod direct;
mod net;
mod ovs;
mod programs;
mod running;
mod testpmd;
mod vde;
mod vswitch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::path::Path;
use super::words::{Forwarder, Test};
use crate::lab::traffic::ping::Ping;
use crate::lab::{LabError, Topology};

use net::Net;
use running::Running;

pub use programs::{Missing, missing, missing_for_nat};

/// Fewest and most containers of a bed; the kernel's bridge has at most 1,023 ports
/// (`BR_PORT_BITS` in net/bridge/br_private.h).
const CONTAINERS: std::ops::RangeInclusive<u16> = 2..=1000;
/// How long the first echo request may take: DPDK alone waits for links up to 9 s.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
/// How long one echo request is waited for.
const ONE_ANSWER: Duration = Duration::from_millis(100);

/// How large a network, and whether it has an outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Ports that the forwarder connects, 2 to 1,000.
    pub containers: u16,
    /// Whether there is an uplink, and the server is behind the NAT.
    pub nat: bool,
    /// Whether a port of the uplink's address leads to that of the first container,
    /// and the path from the outside to it.
    pub published: bool,
}

/// The port that a bed publishes, if it does.
const PUBLISHED_PORT: u16 = 5201;

/// With what the forwarders are started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The program `vswitch`.
    pub program: PathBuf,
    /// Arguments for it after those that the bed needs.
    pub vswitch_args: Vec<String>,
}

impl Options {
    /// This program itself, with its defaults.
    ///
    /// # Errors
    /// When the system does not tell where this program is.
    pub fn of_this_program() -> Result<Self, BedError> {
        let program = std::env::current_exe().map_err(|err| {
            let fix = "mount /proc";
            BedError::new("find this program", err.to_string(), fix)
        })?;
        Ok(Self {
            program,
            vswitch_args: Vec::new(),
        })
    }
}

/// Why there is no bed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {what}: {why}; fix: {fix}")]
pub struct BedError {
    /// What was being done (a phrase such as "find ovs-vsctl").
    pub what: String,
    /// Why it did not succeed.
    pub why: String,
    /// A command to paste or a thing to do.
    pub fix: String,
}

impl BedError {
    fn new(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            fix: fix.into(),
        }
    }
}

impl From<LabError> for BedError {
    fn from(err: LabError) -> Self {
        use nix::errno::Errno;
        let fix = match err.errno() {
            Some(Errno::EPERM | Errno::EACCES) => "run as root, or in `unshare -Urnm --map-auto`",
            Some(Errno::EOPNOTSUPP) => "modprobe veth bridge tun",
            _ => "vswitch doctor",
        };
        Self::new(err.what(), err.io().to_string(), fix)
    }
}

/// Why `forwarder` cannot do `test` at all; `None` where it can.
#[must_use]
pub fn unable(forwarder: Forwarder, test: Test) -> Option<&'static str> {
    let many = matches!(test, Test::Flood | Test::Ports);
    refusal(forwarder, many, test.needs_nat())
}

/// Why `forwarder` cannot have more than two ports, or an uplink with NAT.
const fn refusal(forwarder: Forwarder, many: bool, nat: bool) -> Option<&'static str> {
    match forwarder {
        Forwarder::Vswitch | Forwarder::Bridge => None,
        Forwarder::Ovs | Forwarder::OvsTso if nat => {
            Some("its userspace datapath has no masquerade to an address that it shares")
        }
        Forwarder::Testpmd | Forwarder::TestpmdXdp if nat => {
            Some("it moves frames from port to port and has no NAT")
        }
        Forwarder::Vde if nat => Some("it is a switch without NAT"),
        Forwarder::Direct if nat => Some("a cable has no NAT"),
        Forwarder::Testpmd | Forwarder::TestpmdXdp if many => {
            Some("it moves frames between the two ports of a pair, whatever their addresses")
        }
        Forwarder::Direct if many => Some("a cable has two ends"),
        Forwarder::Ovs
        | Forwarder::OvsTso
        | Forwarder::Testpmd
        | Forwarder::TestpmdXdp
        | Forwarder::Vde
        | Forwarder::Direct => None,
    }
}

/// A network with a forwarder in its middle; all of it goes with the value.
#[derive(Debug)]
pub struct Bed {
    // In the order of their end: a process holds its namespace.
    running: Running,
    net: Net,
}

impl Bed {
    /// Builds the network, starts the forwarder, and waits until an echo request has come through.
    ///
    /// # Errors
    /// What was being done, why it failed and what helps; everything made so far is removed.
    pub fn build(forwarder: Forwarder, shape: Shape, options: &Options) -> Result<Self, BedError> {
        let what = || {
            let nat = if shape.nat { " and NAT" } else { "" };
            format!(
                "build {forwarder} with {} containers{nat}",
                shape.containers
            )
        };
        if !CONTAINERS.contains(&shape.containers) {
            return Err(BedError::new(
                what(),
                "there may be 2 to 1000",
                "name a number of these",
            ));
        }
        if let Some(why) = refusal(forwarder, shape.containers > 2, shape.nat) {
            return Err(BedError::new(
                what(),
                why,
                "leave this forwarder out of this test",
            ));
        }
        let net = Net::new(shape)?;
        let running = match forwarder {
            Forwarder::Vswitch => vswitch::start(&net, options),
            Forwarder::Bridge => bridge::start(&net),
            Forwarder::Ovs => ovs::start(&net, ovs::Offload::None),
            Forwarder::OvsTso => ovs::start(&net, ovs::Offload::Tso),
            Forwarder::Testpmd => testpmd::start(&net, testpmd::Driver::AfPacket),
            Forwarder::TestpmdXdp => testpmd::start(&net, testpmd::Driver::AfXdp),
            Forwarder::Vde => vde::start(&net),
            Forwarder::Direct => direct::start(&net),
        }?;
        let bed = Self { running, net };
        bed.wait_for_an_answer()?;
        Ok(bed)
    }

    fn wait_for_an_answer(&self) -> Result<(), BedError> {
        let (client, server) = (self.net.client(), self.net.server());
        let ping = Ping::to(server.ip).timeout(ONE_ANSWER);
        let what = "get an echo request from the client to the server and back";
        running::wait_until(&self.running, what, FIRST_ANSWER, || {
            let pinged = client.host.attempt(|| what.to_owned(), || ping.run());
            pinged.is_ok_and(|report| report.is_perfect())
        })
    }

    /// From whom to whom a load runs: from the first container to the second, or with NAT to the
    /// outside, or from there to the port that is published for it. The bystanders are the others
    /// of the first 16 containers.
    #[must_use]
    pub fn path(&self) -> Path<'_> {
        let (container, beyond) = (self.net.client(), self.net.server());
        let published = self.net.shape.published;
        let (client, server) = if published {
            (beyond, container)
        } else {
            (container, beyond)
        };
        let port = SocketAddr::from((Topology::HOST, PUBLISHED_PORT));
        Path {
            client,
            server,
            published: published.then_some(port),
            bystanders: self.net.bystanders(),
            processes: self.running.processes.iter().map(|one| one.id()).collect(),
        }
    }

    /// Stops the forwarder's processes (SIGSTOP) and waits until none of their threads runs; one
    /// in the kernel takes no time when idle.
    ///
    /// # Errors
    /// When one of them has ended, with its last words, or does not stop.
    pub fn pause(&self) -> Result<(), BedError> {
        self.running.stop()
    }

    /// Lets them go on (SIGCONT).
    ///
    /// # Errors
    /// When one of them has ended, with its last words.
    pub fn resume(&self) -> Result<(), BedError> {
        self.running.signal(Signal::SIGCONT)?;
        self.check()
    }

    /// Whether the forwarder still runs: a figure of one that has ended is none.
    ///
    /// # Errors
    /// The first process that has ended, with its last words.
    pub fn check(&self) -> Result<(), BedError> {
        self.running.ended().map_or(Ok(()), Err)
    }

    /// Version, and the exact way it was started, for the report; `$DIR` is the bed's directory.
    #[must_use]
    pub fn description(&self) -> String {
        self.running.description.clone()
    }

    /// What was built.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.net.shape
    }

    /// Names of the bed's namespaces under `/run/netns`, for `ip netns exec`.
    #[must_use]
    pub fn namespaces(&self) -> Vec<String> {
        self.net.namespaces()
    }
}

/// `veth1,veth2` in full, or for more than four the first and the last.
fn brief(ports: &[String]) -> String {
    match ports {
        [first, .., last] if ports.len() > 4 => format!("{first},...,{last}"),
        _ => ports.join(","),
    }
}

#[cfg(test)]
mod tests;
