//! `vde_switch`, which holds the TAPs of the containers itself.
//!
//! A TAP of the switch's own, moved into the container's namespace, is the shortest way there is:
//! with a `vde_plug` between TAP and switch every frame would go through one more process.

use std::process::Command;
use std::time::Duration;

use super::net::Net;
use super::programs::need;
use super::running::{self, Running, Scratch};
use super::{BedError, brief};

/// How long the switch may take to make its TAPs.
const START: Duration = Duration::from_secs(20);
/// Ports of the switch that have no TAP; it wants a few.
const SPARE_PORTS: u16 = 2;

pub(super) fn start(net: &Net) -> Result<Running, BedError> {
    let program = need("vde_switch", "vde2")?;
    let version = running::version(&net.h, Command::new(&program).arg("--version"))?;
    let scratch = Scratch::new()?;
    let taps: Vec<String> = (1..=net.shape.containers)
        .map(|i| format!("tap{i}"))
        .collect();
    let mut command = Command::new(&program);
    // Without a file of its own it would read those of the machine and of the user.
    command.args(["--rcfile", "/dev/null", "--sock"]);
    command.arg(scratch.file("ctl"));
    let ports = net.shape.containers.saturating_add(SPARE_PORTS);
    command.args(["--numports", &ports.to_string()]);
    let head = scratch.hide(&running::line(&command));
    for tap in &taps {
        command.args(["--tap", tap]);
    }
    let mut running = Running::new(format!(
        "{version}: {head} --tap {} (each moved into its container)",
        brief(&taps)
    ));
    // It ends with its input.
    let process = net.h.spawn_attended(&mut command)?;
    running.processes.push(process);
    // It makes them in this order.
    let made = || taps.last().is_none_or(|last| net.h.link(last).is_ok());
    running::wait_until(&running, "make TAPs for vde_switch", START, made)?;
    net.hand_over(&taps)?;
    Ok(running.keep(scratch))
}
