//! This program.

use std::process::Command;
use std::time::Duration;

use super::net::{GATEWAY, LINK, Net, PREFIX};
use super::running::{self, Running, Scratch};
use super::{BedError, Options, PUBLISHED_PORT, brief};

/// How long a start may take: a thousand ports on a busy machine; one that fails ends at once.
const START: Duration = Duration::from_secs(300);

pub(super) fn start(net: &Net, options: &Options) -> Result<Running, BedError> {
    net.lay_cables()?;
    let scratch = Scratch::new()?;
    let version = running::version(&net.h, Command::new(&options.program).arg("--version"))?;
    let ports = net.ports();
    let command = |ports: &str| {
        let mut command = Command::new(&options.program);
        command.args(["--ports", ports, "--no-host-port", "--run-dir"]);
        command.arg(scratch.path());
        if net.shape.nat {
            let gateway = format!("{GATEWAY}/{PREFIX}");
            command.args(["--uplink", LINK, "--gateway", &gateway]);
            if net.shape.published {
                let to = net.client().ip;
                command.args(["--publish", &format!("{PUBLISHED_PORT}:{to}")]);
            }
        }
        command.args(&options.vswitch_args);
        command
    };
    let text = running::line(&command(&brief(&ports)));
    let description = format!("{version}: {}", scratch.hide(&text));
    let process = net.h.spawn(&mut command(&ports.join(",")))?;
    let ready = process.wait_line(START, |line| line.starts_with("ready in"));
    if ready.is_none() {
        let why = running::last_words(&process);
        let fix = "start it by hand with these arguments";
        return Err(BedError::new(format!("start {text}"), why, fix));
    }
    let mut running = Running::new(description);
    running.processes.push(process);
    Ok(running.keep(scratch))
}
