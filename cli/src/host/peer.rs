//! The far ends of the ports: which container, which address, which gateway it expects.
//!
//! # Theory of operation
//!
//! A veth tells its peer's index (`IFLA_LINK`) and our namespace's number for the one the peer
//! lives in (`IFLA_LINK_NETNSID`). With that number the kernel answers `RTM_GETLINK` and
//! `RTM_GETADDR` about the peer without anyone entering its namespace (`IFLA_TARGET_NETNSID`,
//! 4.17; `IFA_TARGET_NETNSID`, 4.20). Routes have no such option; they are read by entering the
//! namespace where it has a name, and are missing otherwise.
//!
//! All of it is for words and defaults: a port whose peer cannot be described works all the same.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nix::libc;
use switch::mac::Mac;

use super::addr::Address;
use super::attr::Attrs;
use super::link::Link;
use super::netlink::Netlink;
use super::netns::{self, Netns};
use super::route::Route;

/// Length of `struct rtgenmsg`, padded, in bytes.
const GEN_HEADER_LEN: usize = 4;
const NETNSA_NSID: u16 = 1;

/// The gateway when nothing is found on the ports' peers.
const BUILTIN: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 77, 0, 1), 24);
/// A subnet with a longer prefix has no room for a gateway beside a host.
const LONGEST_PREFIX: u8 = 30;

/// The far end of a veth port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// The port, that is the host end, by name.
    pub port: String,
    /// Name of the interface inside the container.
    pub ifname: String,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Its global addresses with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Name of its namespace under `/run/netns`, if it has one.
    pub netns: Option<String>,
    /// The gateway of its IPv4 default route through this interface, where it can be read.
    pub gateway: Option<Ipv4Addr>,
}

/// What was read of one namespace with far ends in it.
struct Room {
    links: HashMap<u32, Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    netns: Option<String>,
}

impl Room {
    fn peer(&self, port: &Link, index: u32) -> Option<Peer> {
        let far = self.links.get(&index)?;
        let own = |a: &&Address| a.index == index && a.scope_is_global;
        let addresses = self.addresses.iter().filter(own);
        Some(Peer {
            port: port.name.clone(),
            ifname: far.name.clone(),
            mac: far.mac,
            mtu: far.mtu,
            up: far.up,
            addresses: addresses.map(|a| (a.ip, a.prefix)).collect(),
            netns: self.netns.clone(),
            gateway: default_through(&self.routes, index),
        })
    }
}

impl Netlink {
    /// Describes the far end of `link`; `None` when it is no veth or the peer is gone.
    ///
    /// # Errors
    /// The kernel's errno; `EOPNOTSUPP`/`EINVAL` on kernels that cannot look into the peer's
    /// namespace.
    pub fn peer_of(&mut self, link: &Link) -> io::Result<Option<Peer>> {
        let mut peers = self.peers_of([link]);
        peers.pop().unwrap_or(Ok(None))
    }

    /// Describes the far ends of many links, in their order, as [`peer_of`](Self::peer_of) does.
    /// Each namespace they are in is read once, so that a thousand ports are a few requests or a
    /// thousand and not the square of it.
    pub fn peers_of<'a>(
        &mut self,
        links: impl IntoIterator<Item = &'a Link>,
    ) -> Vec<io::Result<Option<Peer>>> {
        let mut rooms: HashMap<Option<i32>, Room> = HashMap::new();
        let mut names = None;
        let mut describe = |link: &Link| {
            let (Some("veth"), Some(index)) = (link.kind.as_deref(), link.peer_index) else {
                return Ok(None);
            };
            let room = match rooms.entry(link.link_netnsid) {
                Entry::Occupied(room) => room.into_mut(),
                Entry::Vacant(place) => {
                    place.insert(self.read_room(link.link_netnsid, &mut names)?)
                }
            };
            Ok(room.peer(link, index))
        };
        links.into_iter().map(&mut describe).collect()
    }

    /// Reads one namespace; `names` are those of all, read when they are first needed.
    fn read_room(
        &mut self,
        netnsid: Option<i32>,
        names: &mut Option<HashMap<i32, String>>,
    ) -> io::Result<Room> {
        let Some(id) = netnsid else {
            return Ok(Room {
                links: by_index(self.links()?),
                addresses: self.addresses()?,
                // A port's own namespace is the host's: what is there is no container's route.
                routes: Vec::new(),
                netns: None,
            });
        };
        let links = by_index(self.links_in(id)?);
        let addresses = self.addresses_in(id)?;
        let names = match names {
            Some(names) => names,
            None => names.insert(self.netns_names()?),
        };
        let netns = names.get(&id).cloned();
        Ok(Room {
            links,
            addresses,
            routes: netns.as_deref().map(routes_inside).unwrap_or_default(),
            netns,
        })
    }

    /// The names under `/run/netns` of the namespaces that ours has a number for.
    fn netns_names(&mut self) -> io::Result<HashMap<i32, String>> {
        let mut names = HashMap::new();
        for name in netns::names()? {
            // One that cannot be opened is passed over.
            let Ok(candidate) = Netns::open(&name) else {
                continue;
            };
            if let Some(id) = self.netnsid_of(&candidate)? {
                names.entry(id).or_insert(name);
            }
        }
        Ok(names)
    }

    /// Our namespace's number for `netns`; `None` when it has none.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn netnsid_of(&mut self, netns: &Netns) -> io::Result<Option<i32>> {
        let mut message = NsidMessage::default();
        let fd = netns.as_fd().as_raw_fd().cast_unsigned();
        message.attributes = vec![NsidAttribute::Fd(fd)];
        let replies = self.request(&RouteNetlinkMessage::GetNsId(message), 0)?;
        let reply = replies.iter().find(|reply| reply.kind == libc::RTM_NEWNSID);
        let id = reply.and_then(|r| Attrs::after(GEN_HEADER_LEN, &r.body).i32(NETNSA_NSID));
        Ok(id.filter(|id| *id >= 0))
    }
}

fn by_index(links: Vec<Link>) -> HashMap<u32, Link> {
    links.into_iter().map(|link| (link.index, link)).collect()
}

/// The routes inside a named namespace. Best effort: without the right to enter it, the default
/// falls back to the subnet's first address.
fn routes_inside(name: &str) -> Vec<Route> {
    let inside = Netns::open(name).and_then(|netns| netns.run(|| Netlink::open()?.routes()));
    inside.and_then(|routes| routes).unwrap_or_default()
}

/// The IPv4 default gateway through interface `index`.
fn default_through(routes: &[Route], index: u32) -> Option<Ipv4Addr> {
    let through = |route: &&Route| route.is_default() && route.index == index;
    let best = routes
        .iter()
        .filter(through)
        .min_by_key(|route| route.metric)?;
    match best.gateway? {
        IpAddr::V4(gateway) => Some(gateway),
        IpAddr::V6(_) => None,
    }
}

/// Where the gateway's address comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewaySource {
    /// The peer of this port already has it as its default route.
    PeersRoute(String),
    /// First address of the subnet found on this port's peer.
    FirstOfSubnet(String),
    /// The subnet's first address belongs to the peer of this port, so the last free one is used.
    FirstIsTakenBy(String),
    /// No peer has an IPv4 address yet.
    Builtin,
}

/// The address the switch answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// The address.
    pub addr: Ipv4Addr,
    /// Prefix length of the subnet in bits.
    pub prefix: u8,
    /// Why this one.
    pub source: GatewaySource,
}

/// Chooses the gateway's address when `--gateway` is not given.
///
/// The subnet is the one most peers are in, and among equals that of the first port. Inside it the
/// address that a peer already uses as its default gateway wins, then the first address, then, when
/// a peer sits on that, the last address that no peer has.
#[must_use]
pub fn default_gateway(peers: &[Peer]) -> Gateway {
    let mut votes: HashMap<(u32, u8), usize> = HashMap::new();
    let mut best: Option<(&str, u32, u8, usize)> = None;
    for (_, address, prefix) in v4_addresses(peers) {
        *votes.entry((network(address, prefix), prefix)).or_default() += 1;
    }
    for (peer, address, prefix) in v4_addresses(peers) {
        let net = network(address, prefix);
        let count = votes.get(&(net, prefix)).copied().unwrap_or(0);
        if best.is_none_or(|(.., most)| count > most) {
            best = Some((&peer.port, net, prefix, count));
        }
    }
    let Some((port, net, prefix, _)) = best else {
        return Gateway {
            addr: BUILTIN.0,
            prefix: BUILTIN.1,
            source: GatewaySource::Builtin,
        };
    };
    let owner = |addr: Ipv4Addr| {
        v4_addresses(peers)
            .find(|(_, own, _)| *own == addr)
            .map(|(peer, ..)| peer.port.clone())
    };
    for peer in peers {
        if let Some(addr) = peer.gateway
            && is_host_of(addr, net, prefix)
            && owner(addr).is_none()
        {
            return Gateway {
                addr,
                prefix,
                source: GatewaySource::PeersRoute(peer.port.clone()),
            };
        }
    }
    let first = Ipv4Addr::from_bits(net + 1);
    match owner(first) {
        None => {
            let source = GatewaySource::FirstOfSubnet(port.to_owned());
            Gateway {
                addr: first,
                prefix,
                source,
            }
        }
        Some(by) => {
            let last = (net | host_mask(prefix)) - 1;
            let free = (net + 2..=last)
                .rev()
                .map(Ipv4Addr::from_bits)
                .find(|a| owner(*a).is_none());
            let source = GatewaySource::FirstIsTakenBy(by);
            // A subnet without a free address: keep the first; the check of the configuration
            // then names the collision.
            Gateway {
                addr: free.unwrap_or(first),
                prefix,
                source,
            }
        }
    }
}

fn v4_addresses(peers: &[Peer]) -> impl Iterator<Item = (&Peer, Ipv4Addr, u8)> {
    peers.iter().flat_map(|peer| {
        peer.addresses
            .iter()
            .filter_map(move |(ip, prefix)| match ip {
                IpAddr::V4(v4) if (1..=LONGEST_PREFIX).contains(prefix) => {
                    Some((peer, *v4, *prefix))
                }
                IpAddr::V4(_) | IpAddr::V6(_) => None,
            })
    })
}

fn host_mask(prefix: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

fn network(addr: Ipv4Addr, prefix: u8) -> u32 {
    addr.to_bits() & !host_mask(prefix)
}

/// Whether `addr` is in the subnet and neither its network nor its broadcast address.
fn is_host_of(addr: Ipv4Addr, net: u32, prefix: u8) -> bool {
    let bits = addr.to_bits();
    network(addr, prefix) == net && bits != net && bits != net | host_mask(prefix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::link::VethEnd;
    use crate::host::netns::ScopedNetns;
    use crate::host::netns::tests::in_fresh_netns;

    fn peer(port: &str, addresses: &[&str]) -> Peer {
        let parse = |text: &&str| {
            let (ip, prefix) = text.split_once('/').unwrap();
            (ip.parse().unwrap(), prefix.parse().unwrap())
        };
        Peer {
            port: port.into(),
            addresses: addresses.iter().map(parse).collect(),
            ..Peer::default()
        }
    }

    #[test]
    fn the_gateway_is_the_first_address_of_the_peers_subnet() {
        let peers = [
            peer("veth1", &["fd00::2/64"]),
            peer("veth2", &["10.9.0.3/24"]),
        ];
        let gateway = default_gateway(&peers);
        assert_eq!(
            (gateway.addr, gateway.prefix),
            (Ipv4Addr::new(10, 9, 0, 1), 24)
        );
        assert_eq!(gateway.source, GatewaySource::FirstOfSubnet("veth2".into()));
    }

    #[test]
    fn without_addresses_the_built_in_network_is_used() {
        let unusable = [peer("veth1", &["10.0.0.1/31", "10.0.0.4/32", "fd00::1/64"])];
        for peers in [&[][..], &unusable] {
            let gateway = default_gateway(peers);
            assert_eq!((gateway.addr, gateway.prefix), BUILTIN);
            assert_eq!(gateway.source, GatewaySource::Builtin);
        }
    }

    #[test]
    fn the_subnet_most_peers_share_wins() {
        let peers = [
            peer("a", &["192.168.1.2/24"]),
            peer("b", &["10.9.0.2/24"]),
            peer("c", &["10.9.0.3/24"]),
        ];
        assert_eq!(default_gateway(&peers).addr, Ipv4Addr::new(10, 9, 0, 1));
    }

    #[test]
    fn a_peer_on_the_first_address_keeps_it() {
        let gateway =
            default_gateway(&[peer("a", &["10.9.0.1/24"]), peer("b", &["10.9.0.254/24"])]);
        assert_eq!(gateway.addr, Ipv4Addr::new(10, 9, 0, 253));
        assert_eq!(gateway.source, GatewaySource::FirstIsTakenBy("a".into()));
        let full = default_gateway(&[peer("a", &["10.9.0.1/30"]), peer("b", &["10.9.0.2/30"])]);
        assert_eq!(full.addr, Ipv4Addr::new(10, 9, 0, 1));
    }

    #[test]
    fn a_default_route_of_a_peer_wins_unless_another_peer_is_that_router() {
        let mut a = peer("a", &["10.9.0.2/24"]);
        a.gateway = Some(Ipv4Addr::new(10, 9, 0, 254));
        let gateway = default_gateway(std::slice::from_ref(&a));
        assert_eq!(gateway.addr, Ipv4Addr::new(10, 9, 0, 254));
        assert_eq!(gateway.source, GatewaySource::PeersRoute("a".into()));
        let router = peer("b", &["10.9.0.254/24"]);
        assert_eq!(
            default_gateway(&[a.clone(), router]).addr,
            Ipv4Addr::new(10, 9, 0, 1)
        );
        a.gateway = Some(Ipv4Addr::new(172, 16, 0, 1));
        assert_eq!(default_gateway(&[a]).addr, Ipv4Addr::new(10, 9, 0, 1));
    }

    #[test]
    fn a_peer_is_described_from_outside() {
        in_fresh_netns("peer", || {
            let name = format!("vswpeer-{}", std::process::id());
            let container = ScopedNetns::create(&name).unwrap();
            let mut netlink = Netlink::open().unwrap();
            let far = VethEnd {
                name: "eth0",
                mac: Some(Mac([2, 0, 0, 0, 0, 7])),
                mtu: Some(1450),
                netns: Some(container.as_fd()),
            };
            netlink
                .add_veth(
                    &VethEnd {
                        name: "veth1",
                        ..VethEnd::default()
                    },
                    &far,
                )
                .unwrap();
            let link = netlink.link_named("veth1").unwrap();
            netlink.set_up(link.index, true).unwrap();
            container
                .run(|| {
                    let mut inside = Netlink::open().unwrap();
                    let index = inside.link_named("eth0").unwrap().index;
                    inside.set_up(index, true).unwrap();
                    inside
                        .add_address(index, "10.9.0.2".parse().unwrap(), 24)
                        .unwrap();
                    inside
                        .add_default_route("10.9.0.9".parse().unwrap(), index)
                        .unwrap();
                })
                .unwrap();
            let peer = netlink.peer_of(&link).unwrap().unwrap();
            assert_eq!(
                (peer.port.as_str(), peer.ifname.as_str()),
                ("veth1", "eth0")
            );
            assert_eq!(
                (peer.mac, peer.mtu, peer.up),
                (Some(Mac([2, 0, 0, 0, 0, 7])), 1450, true)
            );
            assert_eq!(peer.addresses, [("10.9.0.2".parse().unwrap(), 24)]);
            assert_eq!(peer.netns.as_deref(), Some(name.as_str()));
            assert_eq!(peer.gateway, Some(Ipv4Addr::new(10, 9, 0, 9)));
            assert_eq!(default_gateway(&[peer]).addr, Ipv4Addr::new(10, 9, 0, 9));
            let lo = netlink.link_named("lo").unwrap();
            assert_eq!(netlink.peer_of(&lo).unwrap(), None);
        });
    }

    #[test]
    fn a_peer_in_the_same_namespace_is_described_too() {
        in_fresh_netns("peer here", || {
            let mut netlink = Netlink::open().unwrap();
            let end = |name| VethEnd {
                name,
                ..VethEnd::default()
            };
            netlink.add_veth(&end("a"), &end("b")).unwrap();
            let b = netlink.link_named("b").unwrap();
            netlink
                .add_address(b.index, "10.9.0.5".parse().unwrap(), 16)
                .unwrap();
            let a = netlink.link_named("a").unwrap();
            let peer = netlink.peer_of(&a).unwrap().unwrap();
            assert_eq!((peer.ifname.as_str(), peer.netns), ("b", None));
            assert_eq!(peer.addresses, [("10.9.0.5".parse().unwrap(), 16)]);
        });
    }
}
