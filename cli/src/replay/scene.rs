//! A switch in memory, as settings and surroundings make it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use nat::{Nanos, Publishes};
use switch::config::{NetworkIndex, PortView, Role, Route, UplinkView};
use switch::frame::Offload;
use switch::limits::PORTS_MAX;
use switch::mac::Mac;
use switch::neigh::Link;
use switch::port::sim::{CableOptions, Impairment, SimEgress, SimHost, SimRx, cable};
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
use crate::record::{PortChange, RecordedPort, Recording};

/// When a switch begins that nobody recorded: time 0 would be the birth of all time-outs.
const BEGIN: Nanos = Nanos::from_secs(1000);

/// Frames on the way out of a port: all that one packet can become, in pieces of 68 bytes, from
/// as many held ones as there can be.
const CABLE_FRAMES: usize = 1 << 18;

const OPTIONS: CableOptions = CableOptions {
    capacity: CABLE_FRAMES,
    impairment: Impairment {
        loss: 0,
        duplicate: 0,
        reorder: 0,
    },
    // What leaves is to be read by others: every checksum is finished.
    offloads: false,
    seed: 0,
};

/// A port with the far ends of its cables.
pub(super) struct Wire {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) index: PortIndex,
    /// There is such a port, or there will be.
    is_port: bool,
    /// The way out of it, and who is there.
    egress: SimEgress,
    out: SimHost,
    /// What leads to each worker that receives from it.
    to: Vec<(u16, SimHost)>,
}

impl Wire {
    fn new(index: PortIndex, device: Option<&str>, role: Role) -> Self {
        let (_, egress, out) = cable(index, OPTIONS);
        Self {
            name: device.map_or_else(|| format!("port{}", index.0), str::to_owned),
            role,
            index,
            is_port: device.is_some(),
            egress,
            out,
            to: Vec::new(),
        }
    }

    /// False for a place that no port is in.
    pub(super) const fn is_port(&self) -> bool {
        self.is_port
    }

    /// Puts a frame on the wire to the switch, to this worker if that receives from it, else to
    /// the first that does; returns which. `None` where there is no room, or no worker.
    pub(super) fn send(&self, worker: Option<u16>, bytes: &[u8], offload: Offload) -> Option<u16> {
        let meant = self.to.iter().find(|(to, _)| Some(*to) == worker);
        let (to, cable) = meant.or_else(|| self.to.first())?;
        cable.send(bytes, offload).then_some(*to)
    }

    /// The next frame the switch has sent here.
    pub(super) fn receive(&self) -> Option<switch::frame::OwnedFrame> {
        self.out.receive()
    }

    /// A receiving half for a worker, in place of what it had.
    pub(super) fn plug_in(&mut self, worker: u16) -> SimRx {
        self.plug_out(worker);
        let (rx, _, host) = cable(self.index, OPTIONS);
        self.to.push((worker, host));
        rx
    }

    /// A worker receives no more.
    pub(super) fn plug_out(&mut self, worker: u16) {
        self.to.retain(|(to, _)| *to != worker);
    }

    /// What one worker received from another has now.
    pub(super) fn hand_on(&mut self, from: u16, to: u16) {
        for (worker, _) in &mut self.to {
            if *worker == from {
                *worker = to;
            }
        }
    }
}

/// A switch, its workers, and what is around it.
pub(super) struct Scene {
    pub(super) switch: Switch,
    pub(super) workers: Vec<Worker>,
    /// One for each index up to the highest.
    pub(super) wires: Vec<Wire>,
    /// When it began, by its clock.
    pub(super) begin: Nanos,
    /// The places of ports, where they are known.
    places: Vec<RecordedPort>,
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
        (seed, recording): (u64, Option<&Recording>),
    ) -> Result<Self, CliError> {
        let begin = recording.map_or(BEGIN, |recording| Nanos(recording.clock));
        let address = match recording {
            // It had none when it began, and may get one later.
            Some(recording) if recording.uplink.is_none() && around.address.is_none() => None,
            Some(_) | None => uplink_address(settings, around)?,
        };
        let mtu = around.mtu.unwrap_or(MTU_DEFAULT);
        let of_switch = daemon::switch_settings(settings, seed);
        let (switch, workers) =
            Switch::build(&of_switch, false, begin, || Ok(Tx::without_sockets()))
                .map_err(|error| daemon::no_switch(&error))?;
        let mut scene = Self {
            switch,
            workers,
            wires: Vec::new(),
            begin,
            places: recording.map_or_else(Vec::new, |recording| recording.ports.clone()),
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
        if let Some(device) = &settings.uplink {
            let index = scene.add((device, Role::Uplink), mtu, None)?;
            let uplink = address.map(|address| uplink_view(settings, around, index, address));
            scene.switch.update(|view| view.uplink = uplink);
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
        scene.remind(begin);
        for worker in &mut scene.workers {
            worker.tick(begin);
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
                    .add_static(0, *mac, index, self.begin)
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
        let place = self.places.iter().find(|port| port.name == device);
        let worker = worker.or(place.and_then(|port| port.worker));
        let index = match place {
            Some(port) => PortIndex(port.index),
            None => self.free_index(device)?,
        };
        let mut wire = Wire::new(index, Some(device), role);
        let view = PortView {
            network: NetworkIndex(0),
            role,
            egress: Egress::Sim(wire.egress.clone()),
            mtu,
            up: true,
            nat_worker: 0,
            isolated: false,
        };
        if role == Role::Uplink {
            // Steering only saves work: what belongs to another worker is handed over to it. So
            // where nobody says which worker got a frame, the first one does.
            let halves = 0..self.switch.workers();
            let halves = halves.map(|worker| Rx::Sim(wire.plug_in(worker)));
            self.switch.add_port_to_all(index, view, halves.collect());
        } else {
            let worker = worker.unwrap_or_else(|| self.switch.idlest_worker());
            let worker = worker.min(self.switch.workers().saturating_sub(1));
            let rx = Rx::Sim(wire.plug_in(worker));
            self.switch.add_ports([(index, view, rx, Some(worker))]);
        }
        self.put(wire);
        Ok(index)
    }

    /// An index that no port has, nor had when it was recorded.
    fn free_index(&self, device: &str) -> Result<PortIndex, CliError> {
        let free = self.switch.free_indexes(self.places.len() + 1);
        let free = free.map_err(|error| {
            CliError::failed(device, error.to_string(), "name fewer with --ports")
        })?;
        let is_known = |index: &PortIndex| self.places.iter().any(|port| port.index == index.0);
        let unknown = free.into_iter().find(|index| !is_known(index));
        // There is one more than are known.
        Ok(unknown.unwrap_or_default())
    }

    /// Puts a wire in its place.
    fn put(&mut self, wire: Wire) {
        let place = wire.index.index();
        while self.wires.len() <= place {
            let index = u16::try_from(self.wires.len()).unwrap_or(u16::MAX);
            self.wires
                .push(Wire::new(PortIndex(index), None, Role::Member));
        }
        self.wires[place] = wire;
    }

    /// Has wires ready for ports that come later.
    pub(super) fn prepare(&mut self, later: &[PortChange]) {
        for port in later {
            let place = self.wires.get(usize::from(port.index));
            // One beyond them is refused when the view comes that has it.
            if let Some((device, role)) = &port.new
                && usize::from(port.index) < PORTS_MAX
                && place.is_none_or(|wire| !wire.is_port)
            {
                let index = PortIndex(port.index);
                self.put(Wire::new(index, Some(device), (*role).into()));
            }
        }
    }

    /// Another port has this index from now on.
    pub(super) fn rename(&mut self, port: u16, device: &str) {
        if let Some(wire) = self.wire(port) {
            device.clone_into(&mut wire.name);
        }
    }

    /// The wire of the port of that index.
    pub(super) fn wire(&mut self, port: u16) -> Option<&mut Wire> {
        self.wires.get_mut(usize::from(port))
    }

    /// The way out of a port.
    pub(super) fn way(&self, port: PortIndex) -> Egress {
        let wire = self.wires.get(port.index());
        wire.map_or(Egress::Nowhere, |wire| Egress::Sim(wire.egress.clone()))
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
