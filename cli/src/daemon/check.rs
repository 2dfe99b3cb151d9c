//! Refusing bad input before anything is touched.

use std::io;
use std::net::IpAddr;

use switch::port::sys::affinity;

use crate::config::diff::cpu_list;
use crate::config::{Cidr, PortSpec, PortWord, Settings};
use crate::error::CliError;
use crate::host::check::{self, Severity, Wanted};
use crate::host::link::Link;
use crate::host::peer::Peer;
use crate::host::view::HostView;

use super::gateway;
use super::start::default_workers;

/// What the checks found out: the ports' peers, and what the operator should know.
pub(super) struct Checked {
    pub(super) peers: Vec<Peer>,
    pub(super) warnings: Vec<String>,
}

/// Looks at the host as it is and at what is asked of it.
///
/// # Errors
/// The first thing that cannot be.
pub(super) fn host(settings: &Settings) -> Result<Checked, CliError> {
    let ports: Vec<String> = settings
        .ports
        .iter()
        .filter(|port| matches!(port.word, PortWord::Iface(_)))
        .map(|port| port.word.device().to_owned())
        .collect();
    let view = HostView::read(&ports).map_err(|error| unread(&error))?;
    processors(&settings.cpus)?;
    let workers = settings.workers.unwrap_or_else(default_workers);
    for port in &settings.ports {
        worker_of(port, workers)?;
    }
    taps(&view, settings)?;
    let (cidr, _) = gateway::choose(settings.gateway, &view.peers);
    let nat_ports = (settings.nat_ports.low, settings.nat_ports.high);
    let wanted = Wanted {
        ports,
        uplink: settings.uplink.clone(),
        gateway: cidr,
        uplink_address: settings.uplink_address,
        nat_ports: (settings.nat && settings.uplink.is_some()).then_some(nat_ports),
    };
    let mut warnings = Vec::new();
    for problem in check::check(&view, &wanted) {
        match problem.severity {
            Severity::Error => return Err(problem.into()),
            Severity::Warning => warnings.push(problem.to_string()),
        }
    }
    Ok(Checked {
        peers: view.peers,
        warnings,
    })
}

/// TAPs are made by the switch, so their names must be free, or those of TAPs.
fn taps(view: &HostView, settings: &Settings) -> Result<(), CliError> {
    for port in &settings.ports {
        let PortWord::Tap(device) = &port.word else {
            continue;
        };
        let taken = |link: &Link| link.kind.as_deref() != Some("tun");
        if view.link(device).is_some_and(taken) {
            return Err(CliError::failed(
                port.word.to_string(),
                "an interface of that name is there and is no TAP",
                "choose another name, such as tap:web0",
            ));
        }
    }
    let name = gateway::device_name(&settings.name);
    if settings.host_port && view.link(&name).is_some() {
        return Err(CliError::failed(
            format!("--name {}", settings.name),
            format!("the host port would be called {name}, and that interface is there"),
            "vswitch --name OTHER, or --no-host-port",
        ));
    }
    Ok(())
}

/// Looks at a port that is to be added to a running switch, or that has come back.
///
/// # Errors
/// The first thing that is wrong with it.
pub(super) fn interface(device: &str, gateway: Cidr) -> Result<(), CliError> {
    let device = device.to_owned();
    let mut view = HostView::read(std::slice::from_ref(&device)).map_err(|error| unread(&error))?;
    // By now the host has it too, on the host port.
    view.addresses
        .retain(|address| address.ip != IpAddr::V4(gateway.address));
    let wanted = Wanted {
        ports: vec![device],
        uplink: None,
        gateway,
        uplink_address: None,
        nat_ports: None,
    };
    let mut problems = check::ports(&view, &wanted);
    problems.extend(check::gateway_taken(&view, gateway));
    match problems.into_iter().find(|p| p.severity == Severity::Error) {
        Some(problem) => Err(problem.into()),
        None => Ok(()),
    }
}

/// A port's worker must be there.
///
/// # Errors
/// It is not.
pub(super) fn worker_of(port: &PortSpec, workers: u16) -> Result<(), CliError> {
    match port.worker {
        Some(worker) if worker >= workers => Err(CliError::failed(
            port.word.to_string(),
            format!("worker {worker} of {workers}: they count from 0"),
            format!("--workers {}", worker + 1),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Workers can be kept only on processors this process may run on.
fn processors(wanted: &[u16]) -> Result<(), CliError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let allowed: Vec<u16> = affinity::allowed_cpus()
        .map_err(|error| unread(&error))?
        .into_iter()
        .filter_map(|cpu| u16::try_from(cpu).ok())
        .collect();
    let list = cpu_list(&allowed);
    match wanted.iter().find(|cpu| !allowed.contains(cpu)) {
        Some(cpu) => Err(CliError::failed(
            format!("--cpus {}", cpu_list(wanted)),
            format!("no processor {cpu} for this process, which may run on {list}"),
            format!("--cpus {list}"),
        )),
        None => Ok(()),
    }
}

fn unread(error: &io::Error) -> CliError {
    CliError::failed(
        "reading the host's configuration",
        error.to_string(),
        "vswitch doctor",
    )
}
