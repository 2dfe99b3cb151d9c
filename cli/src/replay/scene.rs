//! A switch in memory, as settings and surroundings make it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use nat::{Nanos, Publishes};
use switch::config::{NetworkIndex, PortView, Role, Route, UplinkView};
use switch::frame::Offload;
use switch::mac::Mac;
use switch::neigh::Link;
use switch::port::sim::{CableOptions, SimHost, cable};
use switch::port::{Egress, PortIndex, Rx, Tx};
use switch::switch::Switch;
use switch::trace::Words;
use switch::worker::Worker;

use super::Surroundings;
use super::survey::MTU_DEFAULT;
use crate::config::publish::TargetHost;
use crate::config::{Cidr, Settings};
use crate::daemon;
use crate::error::CliError;

/// Time 0 would be the birth of all time-outs.
pub(super) const BEGIN: Nanos = Nanos::from_secs(1000);

/// Frames on the way out of a port: all that one packet can become, in pieces of 68 bytes, from
/// as many held ones as there can be.
const CABLE_FRAMES: usize = 1 << 18;

/// A port with the far end of its cables.
pub(super) struct Wire {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) index: PortIndex,
    cable: SimHost,
}

impl Wire {
    /// Puts a frame on the wire to the switch; false where there is no room.
    pub(super) fn send(&self, bytes: &[u8], offload: Offload) -> bool {
        self.cable.send(bytes, offload)
    }

    /// The next frame the switch has sent here.
    pub(super) fn receive(&self) -> Option<switch::frame::OwnedFrame> {
        self.cable.receive()
    }
}

/// A switch, its workers, and what is around it.
pub(super) struct Scene {
    pub(super) switch: Switch,
    pub(super) workers: Vec<Worker>,
    pub(super) wires: Vec<Wire>,
    neighbours: Vec<(Link, Ipv4Addr, Mac)>,
    has_routes: bool,
}

/// Ports by their devices' names.
pub(super) struct Names<'s>(pub(super) &'s [Wire]);

impl Words for Names<'_> {
    fn port(&self, port: PortIndex) -> String {
        let wire = self.0.iter().find(|wire| wire.index == port);
        wire.map_or_else(|| "-".into(), |wire| wire.name.clone())
    }
}

impl Scene {
    pub(super) fn build(
        settings: &Settings,
        around: &Surroundings,
        seed: u64,
    ) -> Result<Self, CliError> {
        let address = uplink_address(settings, around)?;
        let mtu = around.mtu.unwrap_or(MTU_DEFAULT);
        let of_switch = daemon::switch_settings(settings, seed);
        let (switch, workers) =
            Switch::build(&of_switch, false, BEGIN, || Ok(Tx::without_sockets()))
                .map_err(|error| daemon::no_switch(&error))?;
        let mut scene = Self {
            switch,
            workers,
            wires: Vec::new(),
            neighbours: Vec::new(),
            has_routes: !around.routes.is_empty(),
        };
        let (cidr, _) = daemon::choose_gateway(settings.gateway, &[]);
        let mac = settings
            .gateway_mac
            .unwrap_or_else(|| daemon::stable_mac(&settings.name, "gateway"));
        let view = daemon::gateway_view(cidr, mac);
        scene.switch.update(|v| v.gateway = Some(view));
        scene.add_members(settings, mtu)?;
        if let (Some(device), Some(address)) = (&settings.uplink, address) {
            let index = scene.add((device, Role::Uplink), mtu, None)?;
            let uplink = uplink_view(settings, around, index, address);
            scene.switch.update(|view| view.uplink = Some(uplink));
        }
        if settings.host_port {
            let index = scene.add((&settings.name, Role::Host), mtu, None)?;
            scene.switch.update(|view| view.host.port = Some(index));
        }
        let shared = address.filter(|_| settings.uplink_address.is_none());
        let mut own: Vec<Ipv4Addr> = std::iter::once(cidr.address)
            .chain(shared.map(|cidr| cidr.address))
            .collect();
        own.sort();
        scene.switch.update(|view| view.host.addresses = own);
        scene.publish(settings)?;
        let neighbours = around.neighbours.iter();
        scene.neighbours = neighbours
            .map(|(address, mac)| (scene.link(*address), *address, *mac))
            .collect();
        scene.remind(BEGIN);
        for worker in &mut scene.workers {
            worker.tick(BEGIN);
        }
        Ok(scene)
    }

    fn add_members(&mut self, settings: &Settings, mtu: u32) -> Result<(), CliError> {
        for spec in &settings.ports {
            let device = spec.word.device();
            let index = self.add((device, Role::Member), mtu, spec.worker)?;
            let isolated = spec.isolated || settings.isolate;
            self.switch.update(|view| {
                if let Some(Some(port)) = view.ports.get_mut(index.index()) {
                    port.isolated = isolated;
                }
            });
            self.switch.fdb().set_port_limit(index, spec.fdb_max);
            for mac in &spec.macs {
                self.switch
                    .fdb()
                    .add_static(0, *mac, index, BEGIN)
                    .map_err(|error| CliError::failed(device, error.to_string(), ""))?;
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        (device, role): (&str, Role),
        mtu: u32,
        worker: Option<u16>,
    ) -> Result<PortIndex, CliError> {
        let index = self.switch.free_index().map_err(|error| {
            CliError::failed(device, error.to_string(), "name fewer with --ports")
        })?;
        let options = CableOptions {
            capacity: CABLE_FRAMES,
            // What leaves is to be read by others: every checksum is finished.
            offloads: false,
            ..CableOptions::default()
        };
        let (rx, egress, cable) = cable(index, options);
        let view = PortView {
            network: NetworkIndex(0),
            role,
            egress: Egress::Sim(egress),
            mtu,
            up: true,
            nat_worker: 0,
            isolated: false,
        };
        if role == Role::Uplink {
            // Steering only saves work: what belongs to another worker is handed over to it.
            self.switch.add_port_to_all(index, view, vec![Rx::Sim(rx)]);
        } else {
            self.switch.add_ports([(index, view, Rx::Sim(rx), worker)]);
        }
        self.wires.push(Wire {
            name: device.to_owned(),
            role,
            index,
            cable,
        });
        Ok(index)
    }

    fn publish(&mut self, settings: &Settings) -> Result<(), CliError> {
        let mut list = Vec::new();
        for spec in &settings.publishes {
            let target = |target: &crate::config::publish::PublishTarget| match &target.host {
                TargetHost::Address(address) => Some((*address, spec.target_port(target))),
                TargetHost::Port(_) => None,
            };
            let targets: Option<Vec<(Ipv4Addr, u16)>> = spec.targets.iter().map(target).collect();
            let Some(targets) = targets.filter(|_| !spec.at.is_any_port()) else {
                let why = "who is behind a port, and which port is free, only a host can tell";
                let fix = "--publish 8080:10.77.0.11:80";
                return Err(CliError::usage(format!("--publish {spec}"), why, fix));
            };
            list.extend(daemon::publish_view(spec, targets.into_iter(), 0));
        }
        let publishes = Publishes::new(list)
            .map_err(|error| CliError::usage("--publish", error.to_string(), ""))?;
        let publishes = Arc::new(publishes);
        self.switch.update(|view| view.publishes = publishes);
        Ok(())
    }

    /// Where a neighbour is.
    fn link(&self, address: Ipv4Addr) -> Link {
        let gateway = self.switch.view().gateway;
        let inside = gateway.filter(|gateway| gateway.contains(address));
        inside.map_or(Link::Uplink, |gateway| gateway.link())
    }

    /// Tells the switch of a neighbour, which grows old as any other.
    pub(super) fn introduce(&self, address: Ipv4Addr, mac: Mac) {
        let link = self.link(address);
        (self.switch.neighbours()).confirm(link, address, mac, BEGIN);
    }

    /// Confirms the neighbours that are always known, lest they grow old.
    pub(super) fn remind(&self, now: Nanos) {
        for (link, address, mac) in &self.neighbours {
            self.switch.neighbours().confirm(*link, *address, *mac, now);
        }
    }

    /// The ports' names, in the order of `wires`.
    pub(super) fn names(&self) -> Vec<String> {
        self.wires.iter().map(|wire| wire.name.clone()).collect()
    }

    /// What may surprise who looks at the result.
    pub(super) fn notes(&self, settings: &Settings) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(view) = self.switch.view().gateway
            && settings.gateway.is_none()
        {
            let (address, prefix) = (view.address, view.prefix);
            notes.push(format!(
                "the gateway is {address}/{prefix}, since --gateway does not say"
            ));
        }
        if let Some(uplink) = &settings.uplink
            && !self.has_routes
        {
            notes.push(format!(
                "{uplink} leads to its own subnet only, since --route does not say"
            ));
        }
        notes
    }
}

/// The external address: the switch's own, or what the host is said to have.
fn uplink_address(settings: &Settings, around: &Surroundings) -> Result<Option<Cidr>, CliError> {
    let given = settings.uplink_address.or(around.address);
    match (&settings.uplink, given) {
        (None, None) if around.mac.is_none() && around.routes.is_empty() => Ok(None),
        (None, _) => {
            let (what, why) = ("the surroundings", "mean nothing without an uplink");
            Err(CliError::usage(what, why, "add --uplink eth0"))
        }
        (Some(device), None) => {
            let (what, why) = (
                format!("--uplink {device}"),
                "offline there is no host that has an address",
            );
            let fix = "--host-address 192.0.2.10/24, or --uplink-address 192.0.2.50/24";
            Err(CliError::usage(what, why, fix))
        }
        (Some(_), Some(_)) if around.mac.is_some() && settings.uplink_address.is_some() => {
            let why = "the address of the switch's own has a MAC address of its own";
            Err(CliError::usage("--host-mac", why, "--uplink-mac MAC"))
        }
        (Some(_), Some(cidr)) => Ok(Some(cidr)),
    }
}

/// The uplink's view, as the control plane makes it of what the kernel says.
fn uplink_view(
    settings: &Settings,
    around: &Surroundings,
    port: PortIndex,
    address: Cidr,
) -> UplinkView {
    let mac = settings.uplink_mac.or(around.mac);
    let on_link = Route {
        network: address.network(),
        prefix: address.prefix,
        via: None,
    };
    let mut routes: Vec<Route> = around.routes.iter().copied().chain([on_link]).collect();
    routes.sort_by_key(|route| std::cmp::Reverse(route.prefix));
    UplinkView {
        port,
        mac: mac.unwrap_or_else(|| daemon::stable_mac(&settings.name, "uplink")),
        address: address.address,
        own: settings.uplink_address.is_some(),
        routes,
        nat_ports: settings.nat_ports.low..=settings.nat_ports.high,
        pool: settings.nat_pool.addresses().collect(),
        untranslated: settings.no_nat_for.networks().to_vec(),
        mss_clamp: settings.mss_clamp,
    }
}
