//! What the control plane hands to the workers: one immutable [`View`], replaced as a whole.
//!
//! A view is plain data. A change of configuration, of an address or of a link's state makes a new
//! view; workers swap to it between two batches, so a frame never sees half of a change.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use nat::{Filtering, Helpers, Nanos, Protocol, Publishes, Quota, Timeouts};

use crate::mac::Mac;
use crate::neigh::Link;
use crate::port::{Egress, PortIndex};

/// One broadcast domain. The first version runs a single one; tables are keyed by it all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct NetworkIndex(pub u16);

/// What a port is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A member of a network: a container's veth or TAP.
    Member,
    /// The host's own TAP, which carries the gateway address in the host.
    Host,
    /// The way out: routed and translated, never bridged.
    Uplink,
}

/// One port as the workers see it.
#[derive(Debug, Clone)]
pub struct PortView {
    /// The network it belongs to; of no meaning on the uplink.
    pub network: NetworkIndex,
    /// What it is for.
    pub role: Role,
    /// How any worker sends to it.
    pub egress: Egress,
    /// Largest IP packet it takes, in bytes (`ip link`'s mtu).
    pub mtu: u32,
    /// Frames may be sent to it: up, with carrier.
    pub up: bool,
    /// The worker that translates for it: the first to receive from it, for as long as there is
    /// the port. [`Switch::add_port`](crate::switch::Switch::add_port) fills it in.
    pub nat_worker: u16,
    /// It and the other isolated ports do not see each other; gateway and uplink they do.
    pub isolated: bool,
}

/// The gateway of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayView {
    /// The network it is the gateway of.
    pub network: NetworkIndex,
    /// Its address.
    pub address: Ipv4Addr,
    /// Length of the network's prefix, 0..=32.
    pub prefix: u8,
    /// Its Ethernet address, the same on every port.
    pub mac: Mac,
}

/// A route by way of the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destination network.
    pub network: Ipv4Addr,
    /// Its prefix length, 0..=32.
    pub prefix: u8,
    /// The router, or `None` where the destination is on the link.
    pub via: Option<Ipv4Addr>,
}

/// The uplink's addresses and routes, as the kernel has them or as `--uplink-address` sets them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkView {
    /// Its port.
    pub port: PortIndex,
    /// The address frames leave from and are received for.
    pub mac: Mac,
    /// The external address sessions are translated to.
    pub address: Ipv4Addr,
    /// The address is the switch's own: it answers ARP and echo for it. Otherwise the host has it
    /// too, and only the NAT port range is the switch's.
    pub own: bool,
    /// Routes, longest prefix first.
    pub routes: Vec<Route>,
    /// The external ports and echo ids that are the switch's.
    pub nat_ports: RangeInclusive<u16>,
    /// Further external addresses, all of them the switch's own.
    pub pool: Vec<Ipv4Addr>,
    /// Destinations, as network and prefix length, that are reached untranslated.
    pub untranslated: Vec<(Ipv4Addr, u8)>,
    /// Whether the MSS of a TCP handshake is lowered to what fits the way.
    pub mss_clamp: bool,
}

/// The host itself: its addresses, and the port by which it is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostView {
    /// The host port; `None` under `--no-host-port`.
    pub port: Option<PortIndex>,
    /// The host's own addresses, sorted.
    pub addresses: Vec<Ipv4Addr>,
}

/// Everything a worker needs to know to decide a frame's fate.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// Which it is: they are counted from 1. [`Switch`](crate::switch::Switch) fills it in.
    pub number: u64,
    /// Ports by index; `None` where there is none.
    pub ports: Vec<Option<PortView>>,
    /// The gateway, unless the switch is a plain one.
    pub gateway: Option<GatewayView>,
    /// The uplink, once it has an address.
    pub uplink: Option<UplinkView>,
    /// The host's addresses and port.
    pub host: HostView,
    /// Ports that lead from outside to members.
    pub publishes: Arc<Publishes>,
}

/// What the NAT is made with; it holds for the life of a switch.
#[derive(Debug, Clone)]
pub struct NatSettings {
    /// External ports and echo ids that are ours.
    pub ports: RangeInclusive<u16>,
    /// How many external addresses there can be, at least 1: those of before a change of them and
    /// those of after it.
    pub externals: usize,
    /// Sessions over all workers.
    pub sessions_max: u32,
    /// Idle times.
    pub timeouts: Timeouts,
    /// Which outside hosts may answer by UDP.
    pub udp_filtering: Filtering,
    /// Which outside hosts may connect by TCP.
    pub tcp_filtering: Filtering,
    /// What one member may have, over all workers.
    pub quota: Quota,
    /// How long a port that came free is kept from other members.
    pub port_hold: Nanos,
    /// Protocols that are helped through.
    pub helpers: Helpers,
    /// Echo ids are kept where they are free: only on an address of the switch's own.
    pub preserve_ids: bool,
}

impl View {
    /// The same view, with ports that lead nowhere: it keeps no device open.
    #[must_use]
    pub fn without_ways(&self) -> Self {
        let mut view = self.clone();
        for port in view.ports.iter_mut().flatten() {
            port.egress = Egress::Nowhere;
        }
        view
    }

    /// The port of that index.
    #[must_use]
    #[inline]
    pub fn port(&self, index: PortIndex) -> Option<&PortView> {
        self.ports.get(index.index()).and_then(Option::as_ref)
    }

    /// The uplink and its MTU in bytes, if it is up and has an address.
    #[must_use]
    pub fn live_uplink(&self) -> Option<(&UplinkView, u32)> {
        let uplink = self.uplink.as_ref()?;
        let port = self.port(uplink.port).filter(|port| port.up)?;
        Some((uplink, port.mtu))
    }

    /// The smallest MTU of any port but the uplink, in bytes.
    #[must_use]
    pub fn member_mtu_min(&self) -> u32 {
        let members = self
            .ports
            .iter()
            .flatten()
            .filter(|port| port.role != Role::Uplink);
        members.map(|port| port.mtu).min().unwrap_or(u32::MAX)
    }

    /// The ports a flood from `ingress` goes to: all that are up and of the network, but itself,
    /// and no isolated one from an isolated one.
    pub fn flood_targets(
        &self,
        network: NetworkIndex,
        ingress: PortIndex,
    ) -> impl Iterator<Item = (PortIndex, &PortView)> {
        let is_isolated = self.port(ingress).is_some_and(|port| port.isolated);
        self.other_ports(network, ingress)
            .filter(move |(_, port)| !(is_isolated && port.isolated))
    }

    /// All ports of the network that are up, but `ingress`.
    pub(crate) fn other_ports(
        &self,
        network: NetworkIndex,
        ingress: PortIndex,
    ) -> impl Iterator<Item = (PortIndex, &PortView)> {
        (0u16..).zip(&self.ports).filter_map(move |(index, port)| {
            let port = port.as_ref()?;
            let index = PortIndex(index);
            let wanted =
                port.up && port.role != Role::Uplink && port.network == network && index != ingress;
            wanted.then_some((index, port))
        })
    }

    /// True where both are isolated ports, which do not see each other.
    #[must_use]
    #[inline]
    pub fn are_apart(&self, ingress: PortIndex, egress: PortIndex) -> bool {
        let is_isolated = |index| self.port(index).is_some_and(|port| port.isolated);
        is_isolated(ingress) && is_isolated(egress)
    }

    /// True where `port` of an external address leads to members, whatever they are. `protocol` is
    /// that of the IPv4 header.
    #[must_use]
    pub fn publishes(&self, protocol: u8, address: Ipv4Addr, port: u16) -> bool {
        let known = Protocol::ALL.into_iter().find(|it| it.number() == protocol);
        known.is_some_and(|protocol| self.publishes.find(protocol, address, port).is_some())
    }
}

impl GatewayView {
    /// The link its members are on.
    #[must_use]
    pub const fn link(&self) -> Link {
        Link::Network(self.network.0)
    }

    /// True if `address` is in the network's subnet.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        in_prefix(address, self.address, self.prefix)
    }

    /// The subnet's broadcast address; on a /31 or /32 there is none, so 255.255.255.255.
    #[must_use]
    pub fn broadcast(&self) -> Ipv4Addr {
        if self.prefix >= 31 {
            return Ipv4Addr::BROADCAST;
        }
        Ipv4Addr::from_bits(self.address.to_bits() | !mask(self.prefix))
    }
}

impl UplinkView {
    /// All external addresses, the first one first.
    pub fn externals(&self) -> impl Iterator<Item = Ipv4Addr> {
        std::iter::once(self.address).chain(self.pool.iter().copied())
    }

    /// True for an address that sessions are translated to.
    #[must_use]
    #[inline]
    pub fn is_external(&self, address: Ipv4Addr) -> bool {
        address == self.address || self.pool.contains(&address)
    }

    /// True for an external address that is the switch's alone.
    #[must_use]
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        (self.own && address == self.address) || self.pool.contains(&address)
    }

    /// True for an address that is spoken to without translation.
    #[must_use]
    #[inline]
    pub fn is_untranslated(&self, address: Ipv4Addr) -> bool {
        let mut networks = self.untranslated.iter();
        networks.any(|(network, prefix)| in_prefix(address, *network, *prefix))
    }

    /// Where a packet to `destination` goes first: the router, or the destination itself.
    #[must_use]
    pub fn next_hop(&self, destination: Ipv4Addr) -> Option<Ipv4Addr> {
        self.routes
            .iter()
            .find(|route| in_prefix(destination, route.network, route.prefix))
            .map(|route| route.via.unwrap_or(destination))
    }
}

impl HostView {
    /// True for an address the host itself owns.
    #[must_use]
    pub fn owns(&self, address: Ipv4Addr) -> bool {
        self.addresses.binary_search(&address).is_ok()
    }
}

/// The netmask of a prefix length; longer than 32 counts as 32.
#[must_use]
pub fn mask(prefix: u8) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0)
}

/// True if `address` is in `network`/`prefix`.
#[must_use]
pub fn in_prefix(address: Ipv4Addr, network: Ipv4Addr, prefix: u8) -> bool {
    (address.to_bits() ^ network.to_bits()) & mask(prefix) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_at_their_ends() {
        assert_eq!(mask(0), 0);
        assert_eq!(mask(24), 0xffff_ff00);
        assert_eq!(mask(32), u32::MAX);
        assert!(in_prefix(
            Ipv4Addr::new(8, 8, 8, 8),
            Ipv4Addr::UNSPECIFIED,
            0
        ));
        assert!(!in_prefix(
            Ipv4Addr::new(10, 0, 1, 0),
            Ipv4Addr::new(10, 0, 0, 0),
            24
        ));
        let gateway = |prefix| GatewayView {
            network: NetworkIndex(0),
            address: Ipv4Addr::new(10, 9, 0, 1),
            prefix,
            mac: Mac::local(1),
        };
        assert_eq!(gateway(24).broadcast(), Ipv4Addr::new(10, 9, 0, 255));
        assert_eq!(gateway(32).broadcast(), Ipv4Addr::BROADCAST);
    }

    #[test]
    fn the_longest_prefix_wins_because_it_comes_first() {
        let route = |a: [u8; 4], prefix, via: Option<[u8; 4]>| Route {
            network: a.into(),
            prefix,
            via: via.map(Ipv4Addr::from),
        };
        let uplink = UplinkView {
            port: PortIndex(0),
            mac: Mac::local(1),
            address: Ipv4Addr::new(192, 0, 2, 10),
            own: false,
            routes: vec![
                route([192, 0, 2, 0], 24, None),
                route([0, 0, 0, 0], 0, Some([192, 0, 2, 1])),
            ],
            nat_ports: 40_000..=60_999,
            pool: Vec::new(),
            untranslated: Vec::new(),
            mss_clamp: false,
        };
        let to = |a: [u8; 4]| uplink.next_hop(a.into()).map(|a| a.octets());
        assert_eq!(to([192, 0, 2, 77]), Some([192, 0, 2, 77]));
        assert_eq!(to([1, 1, 1, 1]), Some([192, 0, 2, 1]));
    }
}
