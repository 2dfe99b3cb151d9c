//! Opening ports, a thousand as well as one.
//!
//! What takes time is done for all at once: the host's settings are written down together, rings
//! are made side by side ([`PacketRx::open_all`]), and the workers get one view with all of them.

use std::collections::HashMap;
use std::sync::Arc;

use switch::config::{NetworkIndex, PortView, Role};
use switch::port::{
    Egress, FastPath, PacketOptions, PacketRx, PortError, PortIndex, RingGeometry, Rx,
};

use crate::config::{PortSpec, PortWord};
use crate::control::api::OperState;
use crate::error::CliError;
use crate::host::guard::{PortGuard, TCX_PORTS_MAX};
use crate::host::journal::{Change, Interface, Ticket};
use crate::host::link::Link;
use crate::host::peer::Peer;
use crate::host::view;

use super::Daemon;
use super::ports::{Opened, Port, from_port, gone, state_of, unusable};

/// An interface that is to be opened as a port.
pub(super) struct Wanted<'a> {
    pub(super) index: PortIndex,
    pub(super) spec: &'a PortSpec,
    pub(super) link: Link,
}

impl Daemon {
    /// Opens a port and puts it into the switch.
    pub(super) fn open_port(&mut self, spec: &PortSpec) -> Result<(), CliError> {
        self.open_ports(std::slice::from_ref(spec), None)
    }

    /// Opens ports and puts them into the switch, all or none; `peers` are their far ends, where
    /// those are known.
    pub(super) fn open_ports(
        &mut self,
        specs: &[PortSpec],
        peers: Option<Vec<Peer>>,
    ) -> Result<(), CliError> {
        let Some(first) = specs.first() else {
            return Ok(());
        };
        let indexes = self.switch.free_indexes(specs.len()).map_err(|error| {
            let (what, why) = (first.word.to_string(), error.to_string());
            CliError::failed(what, why, "vswitch port del NAME")
        })?;
        self.guard.prepare(self.ports.len() + specs.len());
        let mut wanted = Vec::new();
        let mut opened = Vec::new();
        let links = self.links_for(specs)?;
        for ((index, spec), link) in indexes.iter().zip(specs).zip(links) {
            match link {
                Some(link) => wanted.push(Wanted {
                    index: *index,
                    spec,
                    link,
                }),
                None => opened.push((*index, spec, self.open_tap(*index, spec.word.device())?)),
            }
        }
        let places: Vec<(PortIndex, &PortSpec)> =
            wanted.iter().map(|port| (port.index, port.spec)).collect();
        let interfaces = self.open_interfaces(wanted, peers)?;
        let interfaces = places.into_iter().zip(interfaces);
        opened.extend(interfaces.map(|((index, spec), opened)| (index, spec, opened)));
        opened.sort_by_key(|(index, ..)| *index);
        let before = self.ports.len();
        self.put_ports(opened);
        let fixed = self.fix_stations(before);
        if fixed.is_err() {
            while self.ports.len() > before {
                self.close_port(self.ports.len() - 1);
            }
        }
        fixed
    }

    /// The link of each port that has one already, read at once where they are many.
    fn links_for(&mut self, specs: &[PortSpec]) -> Result<Vec<Option<Link>>, CliError> {
        if let [only] = specs {
            return match &only.word {
                PortWord::Iface(device) => Ok(vec![Some(self.link(device)?)]),
                PortWord::Tap(_) => Ok(vec![None]),
            };
        }
        let failed = |error| unusable("reading the links", &error);
        let all = self.netlink.links().map_err(failed)?;
        let called: HashMap<&str, &Link> = view::names(&all).collect();
        let link = |spec: &PortSpec| match &spec.word {
            PortWord::Iface(device) => match called.get(device.as_str()) {
                Some(link) => Ok(Some((*link).clone())),
                None => Err(gone(device)),
            },
            PortWord::Tap(_) => Ok(None),
        };
        specs.iter().map(link).collect()
    }

    fn put_ports(&mut self, opened: Vec<(PortIndex, &PortSpec, Opened)>) {
        let mut ports = Vec::new();
        for (index, spec, opened) in opened {
            let state = state_of(&opened.link);
            let view = PortView {
                network: NetworkIndex(0),
                role: Role::Member,
                egress: opened.egress,
                mtu: opened.link.mtu,
                up: state == OperState::Up,
                nat_worker: 0,
                isolated: spec.isolated || self.settings.isolate,
            };
            self.switch.tables().set_port_limit(index, spec.fdb_max);
            ports.push((index, view, opened.rx, spec.worker));
            self.ports.push(Port {
                index,
                spec: spec.clone(),
                link: opened.link,
                state,
                ring_bytes: opened.ring_bytes,
                peer: opened.peer,
                guard: opened.guard,
                brought_up: opened.brought_up,
                trouble: None,
            });
        }
        self.switch.add_ports(ports);
    }

    /// Fixes the stations of the ports from this place on.
    fn fix_stations(&self, from: usize) -> Result<(), CliError> {
        for port in &self.ports[from..] {
            for mac in &port.spec.macs {
                self.fix_station(*mac, port.index, &port.spec.word)?;
            }
        }
        Ok(())
    }

    pub(super) fn open_interface(
        &mut self,
        index: PortIndex,
        spec: &PortSpec,
        link: Link,
    ) -> Result<Opened, CliError> {
        let device = link.name.clone();
        let mut opened = self.open_interfaces(vec![Wanted { index, spec, link }], None)?;
        opened.pop().ok_or_else(|| gone(&device))
    }

    /// Opens interfaces, all or none, in their order.
    fn open_interfaces(
        &mut self,
        wanted: Vec<Wanted<'_>>,
        peers: Option<Vec<Peer>>,
    ) -> Result<Vec<Opened>, CliError> {
        // Silenced first: a link that comes up talks by itself.
        let guards = (self.guard)
            .install_ports(wanted.iter().map(|port| interface(&port.link)))
            .map_err(|(interface, error)| unusable(&interface.name, &error))?;
        let (places, links): (Vec<_>, Vec<_>) = wanted
            .into_iter()
            .map(|port| ((port.index, port.spec), port.link))
            .unzip();
        let links = self.bring_up(links)?;
        let usual = RingGeometry::for_ports(self.ports.len() + links.len());
        let options = |fast_path| {
            let ports = places.iter().zip(&links);
            let options = ports.map(|((index, spec), (link, _))| PacketOptions {
                name: &link.name,
                ifindex: link.index,
                ingress: *index,
                geometry: spec.ring_bytes.map(geometry),
                usual,
                promiscuous: true,
                filter: None,
                fanout: None,
                fast_path,
            });
            options.collect()
        };
        let fast_path = self.fast_path_of(self.ports.len() + links.len());
        let rings = self.with_or_without(fast_path, |fast_path| {
            let rings = PacketRx::open_all(options(fast_path));
            rings.into_iter().collect::<Result<Vec<PacketRx>, _>>()
        });
        let rings = match rings {
            Ok(rings) => rings,
            Err(error) => {
                for ((_, brought_up), guard) in links.into_iter().zip(guards) {
                    self.take_down(brought_up, Some(guard));
                }
                return Err(from_port(&error));
            }
        };
        let peers = self.far_ends(&links, peers);
        let opened = links.into_iter().zip(guards).zip(rings).zip(peers);
        Ok(opened.map(assemble).collect())
    }

    /// The fast path for ports that are so many in all: its classifiers are links of TCX, each of
    /// which takes the kernel a while.
    fn fast_path_of(&self, ports: usize) -> Option<&Arc<FastPath>> {
        let fast_path = self.fast_path.as_ref()?;
        if ports > TCX_PORTS_MAX {
            self.say(&format!(
                "warning: fast-path: all goes by the workers, since {ports} ports are more than \
                 {TCX_PORTS_MAX}"
            ));
            return None;
        }
        Some(fast_path)
    }

    /// Opens something with the fast path, and, where the kernel takes no program for that, says so
    /// and opens it without.
    pub(super) fn with_or_without<'p, T>(
        &self,
        fast_path: Option<&'p Arc<FastPath>>,
        open: impl Fn(Option<&'p Arc<FastPath>>) -> Result<T, PortError>,
    ) -> Result<T, PortError> {
        match open(fast_path) {
            Err(error @ PortError::FastPath { .. }) if fast_path.is_some() => {
                self.say(&format!("warning: {error}"));
                open(None)
            }
            opened => opened,
        }
    }

    /// The far end of each link, as far as they can be seen.
    fn far_ends(
        &mut self,
        links: &[(Link, Option<Ticket>)],
        known: Option<Vec<Peer>>,
    ) -> Vec<Option<Peer>> {
        let links = links.iter().map(|(link, _)| link);
        let Some(known) = known else {
            let peers = self.netlink.peers_of(links);
            return peers.into_iter().map(Result::unwrap_or_default).collect();
        };
        let known = known.into_iter().map(|peer| (peer.port.clone(), peer));
        let mut known: HashMap<String, Peer> = known.collect();
        links.map(|link| known.remove(&link.name)).collect()
    }

    /// Brings links up that are down, and remembers them to be taken down again. Those that were
    /// brought up before one fails are taken down.
    pub(super) fn bring_up(
        &mut self,
        links: Vec<Link>,
    ) -> Result<Vec<(Link, Option<Ticket>)>, CliError> {
        let down = links.iter().filter(|link| !link.up);
        let changes = down.map(|link| Change::LinkUp {
            interface: interface(link),
        });
        let tickets = self.journal.record_all(changes);
        let tickets = tickets.map_err(|error| unusable("the journal", &error))?;
        let mut left = tickets.iter().copied();
        let mut done = Vec::new();
        for link in links {
            let ticket = if link.up { None } else { left.next() };
            let set = match ticket {
                None => Ok(link.clone()),
                Some(_) => (self.netlink)
                    .set_up(link.index, true)
                    .and_then(|()| self.netlink.link(link.index)),
            };
            match set {
                Ok(link) => done.push((link, ticket)),
                Err(error) => {
                    // One that was not made needs no undoing, and that is found out.
                    let _ = self.journal.undo_all(tickets);
                    return Err(unusable(&link.name, &error));
                }
            }
        }
        Ok(done)
    }
}

type Parts = (
    (((Link, Option<Ticket>), PortGuard), PacketRx),
    Option<Peer>,
);

fn assemble(((((link, brought_up), guard), rx), peer): Parts) -> Opened {
    Opened {
        ring_bytes: rx.geometry().bytes(),
        egress: Egress::Packet {
            ifindex: link.index,
        },
        rx: Rx::Packet(rx),
        peer,
        link,
        guard: Some(guard),
        brought_up,
    }
}

fn interface(link: &Link) -> Interface {
    Interface {
        index: link.index,
        name: link.name.clone(),
    }
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
