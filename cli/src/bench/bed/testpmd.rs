//! DPDK's testpmd, which moves frames between two ports and polls without rest.
//!
//! Options as in DPDK's guides: `doc/guides/nics/af_packet.rst`, `doc/guides/nics/af_xdp.rst`,
//! `doc/guides/testpmd_app_ug/run_app.rst`, `doc/guides/linux_gsg/linux_eal_parameters.rst`.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::BedError;
use super::net::Net;
use super::programs::{DPDK, TESTPMD, need};
use super::running::{self, Running, Scratch};

/// Rings of `net_af_packet`: whole blocks of frames of the size of an mbuf, 1,024 of them (2 MiB,
/// which a cache holds: more was slower), and no queueing discipline, which a veth has none of.
const RING: &str = "qdisc_bypass=1,blocksz=65536,framesz=2048,framecnt=1024";
/// How long the program may take until it forwards; it waits up to 9 s for links.
const START: Duration = Duration::from_secs(20);

/// By what the ports are driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Driver {
    /// `net_af_packet`.
    AfPacket,
    /// `net_af_xdp`.
    AfXdp,
}

impl Driver {
    fn port(self, index: u16, link: &str) -> String {
        match self {
            Self::AfPacket => format!("net_af_packet{index},iface={link},{RING}"),
            Self::AfXdp => format!("net_af_xdp{index},iface={link}"),
        }
    }
}

pub(super) fn start(net: &Net, driver: Driver) -> Result<Running, BedError> {
    net.lay_cables()?;
    // The driver loses what a frame says of its unfinished checksum.
    net.finish_in_containers()?;
    let program = need(TESTPMD, DPDK)?;
    let scratch = Scratch::new()?;
    let mut command = command(net, driver, &program, &scratch)?;
    let text = scratch.hide(&running::line(&command));
    let mut running = Running::new(String::new());
    // It ends with its input, and what it prints it keeps for itself until its buffer is full.
    let process = net.h.spawn_attended(&mut command)?;
    let version = process.wait_line(START, |line| line.contains("RTE Version"));
    running.processes.push(process);
    let version = version.as_deref().and_then(|line| line.split('\'').nth(1));
    running.description = format!(
        "{} testpmd: {text}; in the containers: ethtool -K eth0 tx off",
        version.unwrap_or("DPDK")
    );
    Ok(running.keep(scratch))
}

fn command(
    net: &Net,
    driver: Driver,
    program: &Path,
    scratch: &Scratch,
) -> Result<Command, BedError> {
    let cpus = running::processors().map_err(|err| {
        let what = "find the processors of this process";
        BedError::new(what, err.to_string(), "mount /proc")
    })?;
    let mut command = Command::new(program);
    // Where it would else use /run/dpdk.
    command.env("RUNTIME_DIRECTORY", scratch.path());
    command.args([
        "-v",
        "--no-huge",
        "-m",
        "512",
        "--no-shconf",
        "--no-telemetry",
        "--no-pci",
    ]);
    command.args(["--file-prefix", "bed"]);
    // One thread that forwards, one that waits for its input; the scheduler may move both, since
    // the load runs on the same processors.
    command.args(["--lcores", &format!("0@({cpus}),1@({cpus})")]);
    for (index, link) in (0..).zip(net.ports()) {
        command.args(["--vdev", &driver.port(index, &link)]);
    }
    command.args(["--", "--forward-mode=io", "--nb-cores=1", "--auto-start"]);
    command.args(["--total-num-mbufs=16384", "--no-mlockall"]);
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_driver_names_its_link() {
        let packet = Driver::AfPacket.port(0, "veth1");
        assert!(packet.starts_with("net_af_packet0,iface=veth1,qdisc_bypass=1,"));
        assert_eq!(Driver::AfXdp.port(1, "veth2"), "net_af_xdp1,iface=veth2");
    }
}
