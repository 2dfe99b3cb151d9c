//! What the daemon says on stderr: at start a line for each port, then what changes.

use std::path::Path;
use std::time::Duration;

use switch::port::{PortIndex, Programs};

use crate::control::api::OperState;
use crate::dispatch::message;
use crate::host::peer::GatewaySource;
use crate::show::units;

use super::ports::Port;
use super::uplink::Uplink;
use super::{Daemon, shown};

impl Daemon {
    /// A line for the operator, unless `-q` was given.
    pub(super) fn say(&self, text: &str) {
        message(&self.common, text);
    }

    /// Says what was set up, and that it is ready.
    pub(super) fn say_ready(&self, socket: &Path) {
        let workers = self.switch.workers();
        let cpus = if self.settings.cpus.is_empty() {
            String::new()
        } else {
            format!(
                " on cpu {}",
                crate::config::diff::cpu_list(&self.settings.cpus)
            )
        };
        let (version, name) = (env!("CARGO_PKG_VERSION"), &self.settings.name);
        let plural = if workers == 1 { "" } else { "s" };
        self.say(&format!(
            "vswitch {version}  {name}  {workers} worker{plural}{cpus}  control {}",
            shown(socket)
        ));
        for port in &self.ports {
            self.say(&format!("  {}", port_line(port)));
        }
        if self.uplink.is_some() {
            self.say(&format!("  {}", self.uplink_line()));
        }
        self.say(&format!("  {}", self.gateway_line()));
        for line in self.publish_lines() {
            self.say(&format!("  {line}"));
        }
        if let Some(at) = self.settings.metrics {
            let note = if at.ip().is_loopback() {
                ""
            } else {
                "  (for everybody who reaches it)"
            };
            self.say(&format!("  {:<8}http://{at}/metrics{note}", "metrics"));
        }
        let millis = Duration::from_nanos(self.ready_at.0).as_millis();
        let option = if *name == crate::config::settings::NAME_DEFAULT {
            String::new()
        } else {
            format!(" --name {name}")
        };
        self.say(&format!(
            "ready in {millis} ms.   Next: vswitch{option} port · vswitch{option} fdb · \
             vswitch doctor"
        ));
    }

    fn gateway_line(&self) -> String {
        let gateway = self.gateway;
        let found = match &self.gateway_source {
            None => String::new(),
            Some(GatewaySource::PeersRoute(port)) => format!("  (default route of {port}'s peer)"),
            Some(GatewaySource::FirstOfSubnet(port)) => {
                format!("  (first address of the subnet of {port}'s peer)")
            }
            Some(GatewaySource::FirstIsTakenBy(port)) => {
                format!("  (last of the subnet; {port}'s peer has the first)")
            }
            Some(GatewaySource::Builtin) => "  (no peer has an address yet)".to_owned(),
        };
        let host = match &self.host_port {
            Some(port) => format!("  host port {}", port.link.name),
            None => "  no host port".to_owned(),
        };
        format!(
            "{:<8}{}/{}{found}{host}",
            "gw", gateway.address, gateway.prefix
        )
    }

    /// The uplink in a line.
    pub(super) fn uplink_line(&self) -> String {
        let Some(uplink) = &self.uplink else {
            return String::new();
        };
        let Uplink { device, link, .. } = uplink;
        let Some(address) = uplink.address else {
            return format!("{device:<8}uplink  no address yet: the outside is out of reach");
        };
        let via = self.switch.view().uplink.as_ref().and_then(|view| {
            view.routes
                .iter()
                .find(|route| route.prefix == 0)
                .and_then(|route| route.via)
        });
        let via = via.map_or_else(|| " no default route".into(), |via| format!(" via {via}"));
        let nat = match (&uplink.guard, self.settings.nat) {
            (_, false) => "  routed, no NAT".to_owned(),
            (guard, true) => {
                let ports = self.settings.nat_ports;
                let held = guard.as_ref().map_or_else(
                    || "not held off".to_owned(),
                    |guard| format!("held off ({})", guard.rung()),
                );
                let warning = guard
                    .as_ref()
                    .and_then(|guard| guard.warning())
                    .map_or_else(String::new, |text| format!(" ({text})"));
                let is_fast = uplink.programs.first().is_some_and(Programs::is_fast);
                let fast = if is_fast { ", fast path" } else { "" };
                format!("  NAT ports {ports}, host's stack {held}{warning}{fast}")
            }
        };
        let own = if self.settings.uplink_address.is_some() {
            " (own)"
        } else {
            ""
        };
        format!(
            "{device:<8}uplink {address}{own}{via}  mtu {}{nat}",
            link.mtu
        )
    }

    /// Every port with the name of its device.
    pub(super) fn all_ports(&self) -> impl Iterator<Item = (PortIndex, &str)> {
        let ports = self.ports.iter().map(|port| (port.index, port.device()));
        let uplink = self
            .uplink
            .iter()
            .map(|uplink| (uplink.index, uplink.device.as_str()));
        let host = self
            .host_port
            .iter()
            .map(|port| (port.index, port.link.name.as_str()));
        ports.chain(uplink).chain(host)
    }
}

fn port_line(port: &Port) -> String {
    let ring = match port.ring_bytes {
        0 => "tap".to_owned(),
        bytes => format!("ring {}", units::bytes(bytes)),
    };
    let guard = port.guard.as_ref().map_or_else(String::new, |guard| {
        let notes = guard
            .warning()
            .map_or_else(String::new, |text| format!(" ({text})"));
        format!("  host held off ({}){notes}", guard.rung())
    });
    let state = match port.state {
        OperState::Up => String::new(),
        state @ (OperState::Down | OperState::NotPresent) => format!("  {state}"),
    };
    let peer = peer_words(port).map_or_else(String::new, |peer| format!("  peer {peer}"));
    format!(
        "{:<8}{ring}  mtu {}{state}{peer}{guard}",
        port.device(),
        port.link.mtu
    )
}

/// What is at a port's other end: `eth0@blue 10.77.0.11`.
pub(super) fn peer_words(port: &Port) -> Option<String> {
    let peer = port.peer.as_ref()?;
    let place = peer
        .netns
        .as_ref()
        .map_or_else(String::new, |netns| format!("@{netns}"));
    let address = peer.addresses.iter().find(|(address, _)| address.is_ipv4());
    let address = address.map_or_else(String::new, |(address, _)| format!(" {address}"));
    Some(format!("{}{place}{address}", peer.ifname))
}
