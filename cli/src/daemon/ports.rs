//! One port of the switch and the device behind it.

use std::io;

use switch::config::{NetworkIndex, PortView, Role};
use switch::fdb::Flush;
use switch::mac::Mac;
use switch::port::{Egress, PacketOptions, PacketRx, PortIndex, RingGeometry, Rx, TapDevice};

use crate::config::{PortSpec, PortWord};
use crate::control::api::OperState;
use crate::error::CliError;
use crate::host::guard::PortGuard;
use crate::host::journal::{Change, Interface};
use crate::host::link::Link;
use crate::host::peer::Peer;

use super::Daemon;

/// A port as its owner knows it.
pub(super) struct Port {
    pub(super) index: PortIndex,
    pub(super) spec: PortSpec,
    pub(super) link: Link,
    pub(super) state: OperState,
    pub(super) ring_bytes: u64,
    pub(super) peer: Option<Peer>,
    /// What keeps the host's stack off it; `None` on a TAP, whose host end is the container's.
    pub(super) guard: Option<PortGuard>,
}

impl Port {
    pub(super) fn device(&self) -> &str {
        self.spec.word.device()
    }

    pub(super) const fn is_tap(&self) -> bool {
        matches!(self.spec.word, PortWord::Tap(_))
    }
}

/// Whether a link can carry frames.
pub(super) const fn state_of(link: &Link) -> OperState {
    if link.up && link.carrier {
        OperState::Up
    } else {
        OperState::Down
    }
}

impl Daemon {
    /// Opens a port and puts it into the switch.
    pub(super) fn open_port(&mut self, spec: &PortSpec) -> Result<(), CliError> {
        let index = self.switch.free_index().map_err(|error| {
            CliError::failed(
                spec.word.to_string(),
                error.to_string(),
                "vswitch port del NAME",
            )
        })?;
        let (rx, egress, port) = match &spec.word {
            PortWord::Iface(device) => self.open_interface(index, spec, device)?,
            PortWord::Tap(device) => self.open_tap(index, spec, device)?,
        };
        let view = PortView {
            network: NetworkIndex(0),
            role: Role::Member,
            egress,
            mtu: port.link.mtu,
            up: port.state == OperState::Up,
        };
        let worker = spec.worker.unwrap_or_else(|| self.switch.idlest_worker());
        self.switch.fdb().set_port_limit(index, spec.fdb_max);
        self.switch.add_port(index, view, rx, worker);
        for mac in &spec.macs {
            self.fix_station(*mac, index, &port.spec.word)?;
        }
        self.ports.push(port);
        Ok(())
    }

    /// Fixes a station to a port.
    pub(super) fn fix_station(
        &self,
        mac: Mac,
        index: PortIndex,
        word: &PortWord,
    ) -> Result<(), CliError> {
        self.switch
            .fdb()
            .add_static(0, mac, index, self.clock.now())
            .map_err(|error| CliError::failed(word.to_string(), error.to_string(), ""))
    }

    fn open_interface(
        &mut self,
        index: PortIndex,
        spec: &PortSpec,
        device: &str,
    ) -> Result<(Rx, Egress, Port), CliError> {
        let link = self.link(device)?;
        // Silenced first: a link that comes up talks by itself.
        let guard = self.guard_port(&link)?;
        let link = self.bring_up(link)?;
        let rx = open_ring(index, spec, &link)?;
        let ring_bytes = ring_bytes(rx.geometry());
        let egress = Egress::Packet {
            ifindex: link.index,
        };
        let peer = self.netlink.peer_of(&link).unwrap_or_default();
        let port = Port {
            index,
            spec: spec.clone(),
            state: state_of(&link),
            link,
            ring_bytes,
            peer,
            guard: Some(guard),
        };
        Ok((Rx::Packet(rx), egress, port))
    }

    fn open_tap(
        &mut self,
        index: PortIndex,
        spec: &PortSpec,
        device: &str,
    ) -> Result<(Rx, Egress, Port), CliError> {
        let tap = TapDevice::open(device).map_err(|error| from_port(&error))?;
        let created = tap.created();
        let mut link = self.link(device)?;
        if created {
            // pasta's 0.24 Gbit/s at MTU 1500 came of the default of 1,000: a TAP drops silently.
            self.netlink
                .set_tx_queue_len(link.index, TAP_QUEUE_FRAMES)
                .map_err(|error| unusable(device, &error))?;
        }
        let guard = None;
        if created {
            link = self.bring_up(link)?;
        }
        let egress = Egress::Tap(tap.egress());
        let rx = Rx::Tap(tap.into_rx(index));
        let state = state_of(&link);
        let spec = spec.clone();
        Ok((
            rx,
            egress,
            Port {
                index,
                spec,
                state,
                link,
                ring_bytes: 0,
                peer: None,
                guard,
            },
        ))
    }

    pub(super) fn link(&mut self, device: &str) -> Result<Link, CliError> {
        self.netlink
            .link_named(device)
            .map_err(|error| unusable(device, &error))
    }

    fn guard_port(&self, link: &Link) -> Result<PortGuard, CliError> {
        self.guard
            .install_port(link.index, &link.name)
            .map_err(|error| unusable(&link.name, &error))
    }

    /// Brings a link up that is down, and remembers it to be taken down again.
    fn bring_up(&mut self, link: Link) -> Result<Link, CliError> {
        if link.up {
            return Ok(link);
        }
        let interface = Interface {
            index: link.index,
            name: link.name.clone(),
        };
        self.journal
            .make(Change::LinkUp { interface }, || {
                self.netlink.set_up(link.index, true)
            })
            .map_err(|error| unusable(&link.name, &error))?;
        self.link(&link.name)
    }

    /// Follows the device of the port at `place`: it went down or up, was deleted, or came back
    /// under its name as another device.
    pub(super) fn follow(&mut self, place: usize, links: &[Link]) {
        let Some(port) = self.ports.get(place) else {
            return;
        };
        let found = links.iter().find(|link| link.is_called(port.device()));
        match found {
            // A TAP that moved into a container is not to be seen here and works all the same.
            None if port.is_tap() => {}
            None => self.lose_port(place),
            Some(link) if link.index != port.link.index && !port.is_tap() => {
                self.reopen_port(place, link.clone());
            }
            Some(link) if *link != port.link || port.state != state_of(link) => {
                self.update_port(place, link.clone());
            }
            Some(_) => {}
        }
    }

    fn lose_port(&mut self, place: usize) {
        let Some(port) = self.ports.get_mut(place) else {
            return;
        };
        if port.state == OperState::NotPresent {
            return;
        }
        port.state = OperState::NotPresent;
        // Its guard went with the device.
        port.guard = None;
        port.peer = None;
        let (index, text) = (
            port.index,
            format!("{}  gone; waiting for it", port.device()),
        );
        self.set_port_up(index, false, None);
        self.switch.fdb().flush(Flush::Port(index));
        self.say(&text);
    }

    fn reopen_port(&mut self, place: usize, link: Link) {
        if let Err(error) = self.try_reopen(place, link) {
            // It may be half set up by whoever makes it; its next event tries again.
            self.say(&format!("warning: {error}"));
        }
    }

    fn try_reopen(&mut self, place: usize, link: Link) -> Result<(), CliError> {
        let Some(port) = self.ports.get(place) else {
            return Ok(());
        };
        let (index, spec) = (port.index, port.spec.clone());
        let guard = self.guard_port(&link)?;
        let link = self.bring_up(link)?;
        let rx = open_ring(index, &spec, &link)?;
        let peer = self.netlink.peer_of(&link).unwrap_or_default();
        let (ifindex, mtu, state) = (link.index, link.mtu, state_of(&link));
        let text = format!("{}  back", link.name);
        if let Some(port) = self.ports.get_mut(place) {
            port.ring_bytes = ring_bytes(rx.geometry());
            port.guard = Some(guard);
            port.peer = peer;
            port.link = link;
            port.state = state;
        }
        self.switch.fdb().flush(Flush::Port(index));
        self.switch.receive(index, Rx::Packet(rx));
        self.switch.update(|view| {
            if let Some(Some(port)) = view.ports.get_mut(index.index()) {
                port.egress = Egress::Packet { ifindex };
                port.mtu = mtu;
                port.up = state == OperState::Up;
            }
        });
        self.say(&text);
        Ok(())
    }

    fn update_port(&mut self, place: usize, link: Link) {
        let Some(port) = self.ports.get_mut(place) else {
            return;
        };
        let state = state_of(&link);
        let changed = port.state != state || port.link.mtu != link.mtu;
        let (index, mtu) = (port.index, link.mtu);
        let text = format!("{}  {state}  mtu {mtu}", link.name);
        port.link = link;
        port.state = state;
        if changed {
            self.set_port_up(index, state == OperState::Up, Some(mtu));
            self.say(&text);
        }
    }

    pub(super) fn set_port_up(&mut self, index: PortIndex, up: bool, mtu: Option<u32>) {
        self.switch.update(|view| {
            if let Some(Some(port)) = view.ports.get_mut(index.index()) {
                port.up = up;
                port.mtu = mtu.unwrap_or(port.mtu);
            }
        });
    }

    /// Takes a port out and gives its device back to the host as it was.
    pub(super) fn close_port(&mut self, place: usize) {
        let port = self.ports.remove(place);
        self.switch.remove_port(port.index);
        self.switch.fdb().set_port_limit(port.index, None);
        for entry in self.switch.fdb().entries(self.clock.now()) {
            if entry.port == port.index {
                self.switch.fdb().remove(entry.network, entry.mac);
            }
        }
        if let Some(guard) = port.guard {
            for undone in guard.remove().iter().filter(|undone| undone.failed()) {
                self.say(&format!("warning: not restored: {undone}"));
            }
        }
    }
}

/// Frames a TAP queues for us: 10,000 of 1.5 KB are 15 MB at the worst.
pub(super) const TAP_QUEUE_FRAMES: u32 = 10_000;

fn open_ring(index: PortIndex, spec: &PortSpec, link: &Link) -> Result<PacketRx, CliError> {
    let options = PacketOptions {
        name: &link.name,
        ifindex: link.index,
        ingress: index,
        geometry: spec.ring_bytes.map(geometry),
        promiscuous: true,
        filter: None,
        fanout: None,
    };
    PacketRx::open(&options).map_err(|error| from_port(&error))
}

/// The ring of about that size.
fn geometry(bytes: u64) -> RingGeometry {
    let multiple = u64::from(RingGeometry::HYBRID_SLOTS_MULTIPLE);
    let slots = (bytes / SLOT_BYTES)
        .next_multiple_of(multiple)
        .max(multiple);
    RingGeometry::Hybrid {
        slots: u32::try_from(slots).unwrap_or(u32::MAX),
    }
}

const SLOT_BYTES: u64 = 2048;

/// Bytes of a ring.
pub(super) fn ring_bytes(geometry: RingGeometry) -> u64 {
    match geometry {
        RingGeometry::Hybrid { slots } => u64::from(slots) * SLOT_BYTES,
        RingGeometry::Full { slots } => u64::from(slots / RingGeometry::FULL_SLOTS_MULTIPLE) << 20,
    }
}

/// A failure of the data plane's, whose message is `what: why; fix` already.
pub(super) fn from_port(error: &switch::port::PortError) -> CliError {
    let text = error.to_string();
    let (what, rest) = text.split_once(": ").unwrap_or(("port", &text));
    let (why, fix) = rest.rsplit_once("; ").unwrap_or((rest, ""));
    CliError::failed(what, why, fix)
}

pub(super) fn unusable(device: &str, error: &io::Error) -> CliError {
    CliError::failed(device, error.to_string(), format!("ip link show {device}"))
}
