//! Refusing bad input before anything is touched.

use crate::config::{PortWord, Settings};
use crate::error::CliError;
use crate::host::check::{self, Severity, Wanted};
use crate::host::peer::Peer;
use crate::host::view::HostView;

use super::gateway;

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
    let view = HostView::read(&ports).map_err(|error| {
        CliError::failed(
            "reading the host's configuration",
            error.to_string(),
            "vswitch doctor",
        )
    })?;
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
