//! Who is behind a published port now.

use std::net::{IpAddr, Ipv4Addr};

use switch::config::PortView;
use switch::port::PortIndex;

use crate::config::publish::{PublishTarget, TargetHost};
use crate::host::link::Link;
use crate::host::peer::Peer;

use super::super::Daemon;
use super::super::ports::Port;

/// Peers looked at in one tick: each costs some netlink requests, and another namespace's
/// addresses give no news.
const PEERS_PER_TICK: usize = 32;

/// Who is behind a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The station with this address.
    At(Ipv4Addr),
    /// Nobody yet, and why.
    Waiting(&'static str),
}

impl Daemon {
    /// Looks up every target anew, and the worker of the first.
    pub(super) fn resolve_publishes(&mut self) {
        let mut entries = std::mem::take(&mut self.publishing.entries);
        for entry in &mut entries {
            let before = std::mem::take(&mut entry.found);
            let mut before = before.into_iter();
            let targets = entry.spec.targets.iter();
            entry.found = targets
                .map(|target| self.resolve(target, before.next()))
                .collect();
            let (Some(target), Some(Found::At(address))) =
                (entry.spec.targets.first(), entry.found.first())
            else {
                continue;
            };
            let worker = match &target.host {
                TargetHost::Port(device) => self.port_called(device).map(|port| port.index),
                // Sessions stay where they are, wherever the station goes.
                TargetHost::Address(_) if entry.owner.is_some() => continue,
                TargetHost::Address(_) => self.port_of_address(*address),
            };
            let worker = worker.and_then(|index| self.nat_worker(index));
            entry.owner = worker.or(entry.owner).or(Some(0));
        }
        self.publishing.entries = entries;
    }

    fn resolve(&self, target: &PublishTarget, before: Option<Found>) -> Found {
        let device = match &target.host {
            TargetHost::Address(address) => return Found::At(*address),
            TargetHost::Port(device) => device,
        };
        let Some(port) = self.port_called(device) else {
            return Found::Waiting("no such port");
        };
        if let Some(address) = self.address_of_peer(port) {
            return Found::At(address);
        }
        // Not a veth, or one whose peer cannot be seen: whoever spoke to the gateway from there.
        let stations = self.stations_at(port.index);
        match before {
            Some(Found::At(address)) if stations.contains(&address) => Found::At(address),
            Some(_) | None => match stations.first() {
                Some(address) => Found::At(*address),
                None => Found::Waiting("no address"),
            },
        }
    }

    pub(in crate::daemon) fn port_called(&self, device: &str) -> Option<&Port> {
        self.ports.iter().find(|port| port.device() == device)
    }

    /// The first address of a port's peer in the members' network.
    fn address_of_peer(&self, port: &Port) -> Option<Ipv4Addr> {
        let gateway = self.gateway_cidr();
        let addresses = port.peer.iter().flat_map(|peer| &peer.addresses);
        let mut usable = addresses.filter_map(|(address, _)| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        usable.find(|address| gateway.holds(*address) && *address != gateway.address)
    }

    /// The addresses of the neighbours at a port, sorted.
    fn stations_at(&self, index: PortIndex) -> Vec<Ipv4Addr> {
        let now = self.clock.now();
        let (link, fdb) = (self.gateway.link(), self.switch.fdb());
        let entries = self.switch.neighbours().entries(now);
        let there = entries.into_iter().filter(|entry| {
            let port = entry.mac.and_then(|mac| fdb.lookup(0, mac, now));
            entry.link == link && port == Some(index)
        });
        let mut addresses: Vec<Ipv4Addr> = there.map(|entry| entry.address).collect();
        addresses.sort_unstable();
        addresses
    }

    /// Whether somebody is known to have a member's address: a port's peer, or a neighbour that
    /// answers.
    pub(super) fn is_there(&self, address: Ipv4Addr) -> bool {
        let (link, now) = (self.gateway.link(), self.clock.now());
        let known = || self.switch.neighbours().lookup(link, address, now).mac();
        self.port_with_peer(address).is_some() || known().is_some()
    }

    /// The port an address is behind, as far as that is known.
    fn port_of_address(&self, address: Ipv4Addr) -> Option<PortIndex> {
        self.port_with_peer(address).or_else(|| {
            let (link, now) = (self.gateway.link(), self.clock.now());
            let neighbour = self.switch.neighbours().entry(link, address, now)?;
            self.switch.fdb().lookup(0, neighbour.mac?, now)
        })
    }

    /// The port whose peer has an address.
    fn port_with_peer(&self, address: Ipv4Addr) -> Option<PortIndex> {
        let has = |port: &&Port| {
            let mut addresses = port.peer.iter().flat_map(|peer| &peer.addresses);
            addresses.any(|(ip, _)| *ip == IpAddr::V4(address))
        };
        self.ports.iter().find(has).map(|port| port.index)
    }

    fn nat_worker(&self, index: PortIndex) -> Option<u16> {
        let port: Option<&PortView> = self.switch.view().port(index);
        port.map(|port| port.nat_worker)
    }

    /// Looks whether the peers of ports that are targets have other addresses by now.
    pub(in crate::daemon) fn look_at_targets(&mut self) {
        if self.publishing.entries.is_empty() {
            return;
        }
        let entries = self.publishing.entries.iter();
        let targets = entries.flat_map(|entry| &entry.spec.targets);
        let mut names: Vec<&str> = targets
            .filter_map(|target| match &target.host {
                TargetHost::Port(device) => Some(device.as_str()),
                TargetHost::Address(_) => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        let places: Vec<usize> = (0..self.ports.len())
            .filter(|place| {
                let port = self.ports.get(*place);
                port.is_some_and(|port| {
                    !port.is_tap() && names.binary_search(&port.device()).is_ok()
                })
            })
            .collect();
        let count = places.len().min(PEERS_PER_TICK);
        let from = self.publishing.next_peer % places.len().max(1);
        self.publishing.next_peer = from + count;
        let turn: Vec<usize> = (places.iter().cycle().skip(from).take(count))
            .copied()
            .collect();
        let links: Vec<Link> = (turn.iter())
            .filter_map(|place| self.ports.get(*place).map(|port| port.link.clone()))
            .collect();
        let peers = self.netlink.peers_of(links.iter());
        for (place, peer) in turn.into_iter().zip(peers) {
            let peer: Option<Peer> = peer.unwrap_or_default();
            if let Some(port) = self.ports.get_mut(place)
                && peer.is_some()
            {
                port.peer = peer;
            }
        }
        self.follow_publishes();
    }
}
