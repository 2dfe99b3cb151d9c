//! The uplink: its address, its routes, its share of the host's ports.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use switch::config::{NetworkIndex, PortView, Role, Route, UplinkView};
use switch::mac::Mac;
use switch::neigh::Link as NeighLink;
use switch::port::{
    Egress, Fanout, FastPath, PacketOptions, PacketRx, PortError, PortIndex, Programs,
    RingGeometry, Rx, steer,
};

use crate::config::Cidr;
use crate::control::api::OperState;
use crate::error::CliError;
use crate::host::addr::Address;
use crate::host::guard::UplinkGuard;
use crate::host::link::Link;
use crate::host::route::{Route as KernelRoute, RouteKind};

use super::Daemon;
use super::cover::Cover;
use super::floods::Flood;
use super::ports::{from_port, state_of, unusable};

/// The uplink as its owner knows it.
pub(super) struct Uplink {
    pub(super) index: PortIndex,
    pub(super) device: String,
    pub(super) link: Link,
    pub(super) state: OperState,
    pub(super) ring_bytes: u64,
    /// The external address with its subnet, if there is one now.
    pub(super) address: Option<Cidr>,
    pub(super) guard: Option<UplinkGuard>,
    /// The programs of its rings, of which the workers have the rest.
    pub(super) programs: Vec<Programs>,
    /// What guard and programs take by now.
    pub(super) cover: Cover,
    /// Who refuses SYNs.
    pub(super) flood: Flood,
    /// Why the kernel does not, until it is said.
    pub(super) unrefused: Option<PortError>,
    /// Why it could not be followed the last time, so that it is said once.
    trouble: Option<String>,
}

/// What the kernel has configured on the uplink, and what was asked for.
pub(super) struct Wanted {
    address: Option<Cidr>,
    mac: Mac,
    own: bool,
    routes: Vec<Route>,
}

impl Daemon {
    /// Opens the uplink, with a receiving half for each worker, and puts it into the switch.
    pub(super) fn open_uplink(&mut self, device: &str) -> Result<(), CliError> {
        let index = self.switch.free_index().map_err(|error| {
            CliError::failed(device, error.to_string(), "vswitch port del NAME")
        })?;
        let link = self.link(device)?;
        let wanted = self.wanted(&link)?;
        let cover = self.cover(wanted.address);
        let guard = self.install_guard(&link, &cover)?;
        let (rx, programs) = self.open_uplink_rings(index, &link, &cover)?;
        let state = state_of(&link);
        let uplink = Uplink {
            index,
            device: device.to_owned(),
            state,
            ring_bytes: rx.iter().map(|rx| rx.geometry().bytes()).sum(),
            address: wanted.address,
            guard,
            programs,
            cover,
            flood: Flood::default(),
            unrefused: None,
            link,
            trouble: None,
        };
        let port = PortView {
            network: NetworkIndex(0),
            role: Role::Uplink,
            egress: Egress::Uplink {
                ifindex: uplink.link.index,
            },
            mtu: uplink.link.mtu,
            up: state == OperState::Up,
            nat_worker: 0,
            isolated: false,
        };
        self.uplink = Some(uplink);
        self.switch
            .add_port_to_all(index, port, rx.into_iter().map(Rx::Packet).collect());
        self.show_uplink(index, wanted);
        Ok(())
    }

    fn install_guard(&self, link: &Link, cover: &Cover) -> Result<Option<UplinkGuard>, CliError> {
        if !self.settings.nat {
            return Ok(None);
        }
        let guard = self
            .guard
            .install_uplink(link.index, &link.name, cover.rule.clone());
        guard
            .map(Some)
            .map_err(|error| unusable(&link.name, &error))
    }

    /// One receiving half for each worker, in one group that the kernel steers by NAT port.
    fn open_uplink_rings(
        &self,
        index: PortIndex,
        link: &Link,
        cover: &Cover,
    ) -> Result<(Vec<PacketRx>, Vec<Programs>), CliError> {
        let opened = self.with_or_without(self.fast_path.as_ref(), |fast_path| {
            self.open_uplink_rings_by(index, link, cover, fast_path)
        });
        opened.map_err(|error| from_port(&error))
    }

    fn open_uplink_rings_by(
        &self,
        index: PortIndex,
        link: &Link,
        cover: &Cover,
        fast_path: Option<&Arc<FastPath>>,
    ) -> Result<(Vec<PacketRx>, Vec<Programs>), PortError> {
        let workers = self.switch.workers();
        let filter = steer::filter(&cover.taken);
        let steering = self.steering(&cover.steered);
        let mut group = None;
        let (mut rings, mut programs) = (Vec::new(), Vec::new());
        for _ in 0..workers {
            let fanout = match group {
                _ if workers == 1 => None,
                None => Some(Fanout::First(&steering)),
                Some(group) => Some(Fanout::Join(group)),
            };
            let options = PacketOptions {
                name: &link.name,
                ifindex: link.index,
                ingress: index,
                geometry: None,
                // It carries what all ports have to do with the outside.
                usual: RingGeometry::HYBRID_DEFAULT,
                promiscuous: self.settings.uplink_address.is_some(),
                filter: self.settings.nat.then_some(&filter),
                fanout,
                fast_path,
            };
            let ring = PacketRx::open(&options)?;
            group = ring.group();
            programs.push(ring.programs(&link.name)?);
            rings.push(ring);
        }
        Ok((rings, programs))
    }

    /// Reads what the kernel has on the uplink.
    fn wanted(&mut self, link: &Link) -> Result<Wanted, CliError> {
        let failed = |error: std::io::Error| unusable(&link.name, &error);
        let kernel = self.netlink.addresses().map_err(failed)?;
        let routes = self.netlink.routes().map_err(failed)?;
        let own = self.settings.uplink_address;
        let address = own.or_else(|| first_address(&kernel, link.index));
        let mac = match own {
            Some(_) => self
                .settings
                .uplink_mac
                .unwrap_or_else(|| self.stable_mac("uplink")),
            None => link.mac.unwrap_or_default(),
        };
        let on_link = own.map(|cidr| Route {
            network: cidr.network(),
            prefix: cidr.prefix,
            via: None,
        });
        let mut routes: Vec<Route> = kernel_routes(&routes, link.index).chain(on_link).collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.prefix));
        Ok(Wanted {
            address,
            mac,
            own: own.is_some(),
            routes,
        })
    }

    /// Shows the workers the uplink; for the first time, what was kept of its sessions before it.
    fn show_uplink(&mut self, index: PortIndex, wanted: Wanted) {
        if self.waits_for_publishes {
            self.unshown = Some((index, wanted));
            return;
        }
        if let Some(cidr) = wanted.address {
            let pool = self.settings.nat_pool.addresses();
            let externals: Vec<Ipv4Addr> = [cidr.address].into_iter().chain(pool).collect();
            self.restore_sessions(&externals);
        }
        let nat_ports = self.settings.nat_ports.low..=self.settings.nat_ports.high;
        let Wanted {
            address,
            mac,
            own,
            routes,
        } = wanted;
        let uplink = address.map(|cidr| UplinkView {
            port: index,
            mac,
            address: cidr.address,
            own,
            routes,
            nat_ports,
            pool: self.settings.nat_pool.addresses().collect(),
            untranslated: self.settings.no_nat_for.networks().to_vec(),
            mss_clamp: self.settings.mss_clamp,
        });
        if self.switch.view().uplink != uplink {
            self.switch.update(|view| view.uplink = uplink);
        }
    }

    /// Shows the uplink at last: sessions that came by published ports have these now.
    pub(super) fn show_uplink_at_last(&mut self) {
        self.waits_for_publishes = false;
        if let Some((index, wanted)) = self.unshown.take() {
            self.show_uplink(index, wanted);
        }
    }

    /// Follows the uplink: its device, address, routes and MTU.
    pub(super) fn follow_uplink(&mut self, links: &[Link]) {
        let Some(uplink) = &self.uplink else { return };
        let (index, device, before) = (uplink.index, uplink.device.clone(), uplink.link.index);
        let Some(link) = links.iter().find(|link| link.is_called(&device)) else {
            self.lose_uplink(index);
            return;
        };
        let link = link.clone();
        let followed = self.wanted(&link).and_then(|wanted| {
            let updated = self.update_uplink(link, &wanted, before);
            self.show_uplink(index, wanted);
            updated
        });
        self.uplink_trouble(followed.err().map(|error| error.to_string()));
    }

    /// Says what is wrong, once, and sees to it that it is tried again.
    fn uplink_trouble(&mut self, trouble: Option<String>) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        self.look_again |= trouble.is_some();
        if uplink.trouble != trouble {
            uplink.trouble.clone_from(&trouble);
            if let Some(text) = trouble {
                self.say(&format!("warning: {text}"));
            }
        }
    }

    fn lose_uplink(&mut self, index: PortIndex) {
        let Some(uplink) = &mut self.uplink else {
            return;
        };
        if uplink.state == OperState::NotPresent {
            return;
        }
        uplink.state = OperState::NotPresent;
        uplink.guard = None;
        uplink.programs.clear();
        let text = format!("{}  gone; waiting for it", uplink.device);
        // An index of no device: whatever comes back, our rings on it are closed.
        uplink.link.index = 0;
        self.set_port_up(index, false, None);
        self.switch.stop_receiving(index);
        // Another cable, other neighbours.
        self.switch
            .tables()
            .flush_neighbours(Some(NeighLink::Uplink));
        self.say(&text);
    }

    fn update_uplink(&mut self, link: Link, wanted: &Wanted, before: u32) -> Result<(), CliError> {
        let Some(uplink) = &self.uplink else {
            return Ok(());
        };
        let returned = link.index != before;
        let index = uplink.index;
        let readdressed = uplink.address != wanted.address;
        let state = state_of(&link);
        let changed = uplink.state != state || uplink.link.mtu != link.mtu;
        let (mut guard, mut programs) = (None, Vec::new());
        let cover = self.cover(wanted.address);
        if returned {
            guard = self.install_guard(&link, &cover)?;
        }
        if returned || readdressed {
            let rings;
            (rings, programs) = self.open_uplink_rings(index, &link, &cover)?;
            self.switch
                .receive_all(index, rings.into_iter().map(Rx::Packet).collect());
        }
        let (ifindex, mtu) = (link.index, link.mtu);
        if let Some(uplink) = &mut self.uplink {
            uplink.link = link;
            uplink.state = state;
            uplink.address = wanted.address;
            if returned || readdressed {
                uplink.programs = programs;
                uplink.flood = Flood::default();
                (uplink.cover.taken, uplink.cover.steered) = (cover.taken, cover.steered);
            }
            if returned {
                (uplink.guard, uplink.cover.rule) = (guard, cover.rule);
            }
        }
        self.cover_uplink()?;
        if returned || changed {
            self.switch.update(|view| {
                if let Some(Some(port)) = view.ports.get_mut(index.index()) {
                    port.egress = Egress::Uplink { ifindex };
                    port.mtu = mtu;
                    port.up = state == OperState::Up;
                }
            });
        }
        if returned || changed || readdressed {
            self.say(&self.uplink_line());
        }
        Ok(())
    }
}

pub(super) fn first_address(addresses: &[Address], ifindex: u32) -> Option<Cidr> {
    addresses
        .iter()
        .filter(|a| a.index == ifindex && a.scope_is_global && !a.secondary)
        .find_map(|a| match a.ip {
            IpAddr::V4(address) => Some(Cidr {
                address,
                prefix: a.prefix,
            }),
            IpAddr::V6(_) => None,
        })
}

/// The kernel's routes by way of that interface, best first among those of one destination.
fn kernel_routes(routes: &[KernelRoute], ifindex: u32) -> impl Iterator<Item = Route> {
    let mut own: Vec<&KernelRoute> = routes
        .iter()
        .filter(|route| route.index == ifindex && route.kind == RouteKind::Unicast)
        .collect();
    own.sort_by_key(|route| route.metric);
    let mut seen = Vec::new();
    own.into_iter().filter_map(move |route| {
        let IpAddr::V4(network) = route.destination else {
            return None;
        };
        let via = match route.gateway {
            Some(IpAddr::V4(via)) => Some(via),
            Some(IpAddr::V6(_)) => return None,
            None => None,
        };
        let first = !seen.contains(&(network, route.prefix));
        seen.push((network, route.prefix));
        first.then_some(Route {
            network,
            prefix: route.prefix,
            via,
        })
    })
}
