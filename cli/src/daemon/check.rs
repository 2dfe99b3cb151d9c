//! Refusing bad input before anything is touched.

use std::io;
use std::net::IpAddr;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use switch::port::sys::affinity;

use crate::config::diff::cpu_list;
use crate::config::{Cidr, PortRange, PortSpec, PortWord, Settings};
use crate::error::CliError;
use crate::host::check::{self, Severity, Wanted};
use crate::host::guard::TCX_PORTS_MAX;
use crate::host::link::Link;
use crate::host::peer::Peer;
use crate::host::view::HostView;

use super::gateway;
use super::publish::{check_addresses, check_pool};
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
    let held = settings.publishes.iter().map(|spec| {
        let PortRange { low, high } = spec.at.ports;
        usize::from(high - low) + 1
    });
    open_files(settings.ports.len() + held.sum::<usize>(), workers)?;
    for port in &settings.ports {
        worker_of(port, workers)?;
    }
    taps(&view, settings)?;
    let (cidr, _) = gateway::choose(settings.gateway, &view.peers);
    published(&view, settings, cidr)?;
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

/// Looks at the addresses of what is to be published, and of the pool.
fn published(view: &HostView, settings: &Settings, gateway: Cidr) -> Result<(), CliError> {
    let hosts = super::refresh::host_addresses(&view.addresses);
    check_pool(&settings.nat_pool, gateway, &hosts)?;
    let own = settings.uplink_address.map(|cidr| cidr.address);
    let own: Vec<_> = own
        .into_iter()
        .chain(settings.nat_pool.addresses())
        .collect();
    for spec in &settings.publishes {
        check_addresses(spec, gateway, &hosts, &own)?;
    }
    Ok(())
}

/// Descriptors that ports and workers do not account for: the control socket's clients, netlink,
/// the journal, the uplink's guard.
const OTHER_FILES: u64 = 128;

/// Descriptors this many ports may need, published ones among them: a port has its ring, TAP or
/// socket, and up to [`TCX_PORTS_MAX`] of them a TCX link; a worker has two sockets to send, its
/// bell, its sentry, and its half of the uplink twice.
fn files_needed(ports: usize, workers: u16) -> u64 {
    (ports + TCX_PORTS_MAX) as u64 + u64::from(workers) * 7 + OTHER_FILES
}

/// Raises the limit on open files to what the system allows, which is to be enough for all ports.
///
/// # Errors
/// It is not: said before any of them is touched.
fn open_files(ports: usize, workers: u16) -> Result<(), CliError> {
    let failed = |error: nix::errno::Errno| unread(&error.into());
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(failed)?;
    enough_files(ports, workers, hard)
}

fn enough_files(ports: usize, workers: u16, limit: u64) -> Result<(), CliError> {
    let needed = files_needed(ports, workers);
    if needed <= limit {
        return Ok(());
    }
    Err(CliError::failed(
        "--ports",
        format!("{ports} ports need {needed} open files, and {limit} are allowed"),
        format!("prlimit --pid $$ --nofile={needed}, or LimitNOFILE={needed} in the unit"),
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_open_files_are_said_with_the_number_that_is_needed() {
        assert!(enough_files(2, 1, 1024).is_ok(), "the usual soft limit");
        assert!(enough_files(4096, 64, 1 << 20).is_ok());
        let needed = files_needed(1000, 1);
        assert!(enough_files(1000, 1, needed).is_ok());
        let error = enough_files(1000, 1, needed - 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "error: --ports: 1000 ports need 1199 open files, and 1198 are allowed; \
             fix: prlimit --pid $$ --nofile=1199, or LimitNOFILE=1199 in the unit"
        );
    }
}
