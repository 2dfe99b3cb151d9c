//! Routes of the main table and neighbours.
//!
//! Source: `net/ipv4/fib_frontend.c`, `net/core/neighbour.c`.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;
use switch::mac::Mac;

use super::attr::{Attrs, read_u16, read_u32};
use super::netlink::Netlink;

/// Length of `struct rtmsg` in bytes.
const ROUTE_HEADER_LEN: usize = 12;
/// Length of `struct ndmsg` in bytes.
const NEIGHBOUR_HEADER_LEN: usize = 12;
/// Length of `struct rtnexthop` in bytes.
const NEXT_HOP_LEN: usize = 8;

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RouteKind {
    /// Forwards or delivers on a link.
    Unicast,
    /// Discards silently.
    Blackhole,
    /// Refuses with ICMP host unreachable.
    Unreachable,
    /// Refuses with ICMP administratively prohibited.
    Prohibit,
    /// Anything else (`throw`, `nat`, ...).
    Other,
}

/// One route of the main table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// Destination network; the unspecified address with prefix 0 is the default route.
    pub destination: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Next hop; absent when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// Interface; 0 for a route that leads nowhere.
    pub index: u32,
    /// Source address the kernel would choose.
    pub preferred_source: Option<IpAddr>,
    /// Smaller wins among routes to one destination.
    pub metric: u32,
    /// What happens to a packet.
    pub kind: RouteKind,
    /// Path MTU pinned on the route, bytes.
    pub mtu: Option<u32>,
}

impl Route {
    /// Decodes the body of `RTM_NEWROUTE` or `RTM_DELROUTE`; `None` outside the main table and
    /// for cached routes. Of a multipath route the first hop is taken.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let header = body.get(..ROUTE_HEADER_LEN)?;
        let attrs = Attrs::after(ROUTE_HEADER_LEN, body);
        let table = attrs
            .u32(libc::RTA_TABLE)
            .unwrap_or_else(|| u32::from(header[4]));
        let flags = read_u32(body, 8)?;
        if table != u32::from(RouteHeader::RT_TABLE_MAIN) || flags & libc::RTM_F_CLONED != 0 {
            return None;
        }
        let default: IpAddr = match i32::from(header[0]) {
            libc::AF_INET => Ipv4Addr::UNSPECIFIED.into(),
            libc::AF_INET6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        };
        let (hop_index, hop) = attrs
            .bytes(libc::RTA_MULTIPATH)
            .map_or((None, None), first_hop);
        Some(Self {
            destination: attrs.ip(libc::RTA_DST).unwrap_or(default),
            prefix: header[1],
            gateway: attrs.ip(libc::RTA_GATEWAY).or_else(|| via(&attrs)).or(hop),
            index: attrs.u32(libc::RTA_OIF).or(hop_index).unwrap_or(0),
            preferred_source: attrs.ip(libc::RTA_PREFSRC),
            metric: attrs.u32(libc::RTA_PRIORITY).unwrap_or(0),
            kind: match header[7] {
                libc::RTN_UNICAST => RouteKind::Unicast,
                libc::RTN_BLACKHOLE => RouteKind::Blackhole,
                libc::RTN_UNREACHABLE => RouteKind::Unreachable,
                libc::RTN_PROHIBIT => RouteKind::Prohibit,
                _ => RouteKind::Other,
            },
            mtu: attrs.nested(libc::RTA_METRICS).u32(RTAX_MTU),
        })
    }

    /// Whether this is a default route.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.prefix == 0
    }
}

const RTAX_MTU: u16 = 2;

/// `RTA_VIA`: an IPv4 route through an IPv6 next hop (RFC 5549), as `struct rtvia`.
fn via(attrs: &Attrs<'_>) -> Option<IpAddr> {
    let address = attrs.bytes(libc::RTA_VIA)?.get(2..)?;
    let v6 = <[u8; 16]>::try_from(address).ok().map(IpAddr::from);
    v6.or_else(|| <[u8; 4]>::try_from(address).ok().map(IpAddr::from))
}

/// Interface and gateway of the first `struct rtnexthop`.
fn first_hop(hops: &[u8]) -> (Option<u32>, Option<IpAddr>) {
    let len = read_u16(hops, 0).map_or(0, usize::from);
    let attrs = Attrs::parse(hops.get(NEXT_HOP_LEN..len).unwrap_or(&[]));
    (
        read_u32(hops, 4),
        attrs.ip(libc::RTA_GATEWAY).or_else(|| via(&attrs)),
    )
}

/// One entry of the neighbour table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Interface.
    pub index: u32,
    /// Protocol address.
    pub ip: IpAddr,
    /// Ethernet address, when it is known.
    pub mac: Option<Mac>,
    /// Confirmed lately or set by hand (`NUD_REACHABLE`, `NUD_PERMANENT`, `NUD_NOARP`).
    pub reachable: bool,
}

fn decode_neighbour(body: &[u8]) -> Option<Neighbour> {
    const REACHABLE: u16 = libc::NUD_REACHABLE | libc::NUD_PERMANENT | libc::NUD_NOARP;
    let attrs = Attrs::after(NEIGHBOUR_HEADER_LEN, body);
    Some(Neighbour {
        index: read_u32(body, 4)?,
        ip: attrs.ip(libc::NDA_DST)?,
        mac: attrs.array(libc::NDA_LLADDR).map(Mac),
        reachable: read_u16(body, 8)? & REACHABLE != 0,
    })
}

fn message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    let v4 = route.destination.is_ipv4();
    message.header.address_family = if v4 {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.destination_prefix_length = route.prefix;
    message.header.kind = match route.kind {
        RouteKind::Unicast | RouteKind::Other => RouteType::Unicast,
        RouteKind::Blackhole => RouteType::BlackHole,
        RouteKind::Unreachable => RouteType::Unreachable,
        RouteKind::Prohibit => RouteType::Prohibit,
    };
    let on_link = route.gateway.is_none() && route.kind == RouteKind::Unicast && v4;
    message.header.scope = if on_link {
        RouteScope::Link
    } else {
        RouteScope::Universe
    };
    let attributes = &mut message.attributes;
    if route.prefix > 0 {
        attributes.push(RouteAttribute::Destination(RouteAddress::from(
            route.destination,
        )));
    }
    if route.index != 0 {
        attributes.push(RouteAttribute::Oif(route.index));
    }
    if route.metric != 0 {
        attributes.push(RouteAttribute::Priority(route.metric));
    }
    attributes.extend(route.gateway.map(|gw| RouteAttribute::Gateway(gw.into())));
    attributes.extend(
        route
            .preferred_source
            .map(|ip| RouteAttribute::PrefSource(ip.into())),
    );
    message
}

impl Netlink {
    /// The routes of the main table, IPv4 and IPv6.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn routes(&mut self) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            let replies = match self.dump(&RouteNetlinkMessage::GetRoute(message)) {
                Ok(replies) => replies,
                // A kernel booted with ipv6.disable=1 has no such table.
                Err(err)
                    if family == AddressFamily::Inet6
                        && super::netlink::errno(&err) == Some(nix::errno::Errno::EOPNOTSUPP) =>
                {
                    continue;
                }
                Err(err) => return Err(err),
            };
            let news = replies
                .iter()
                .filter(|reply| reply.kind == libc::RTM_NEWROUTE);
            routes.extend(news.filter_map(|reply| Route::decode(&reply.body)));
        }
        Ok(routes)
    }

    /// Adds a unicast route to the main table.
    ///
    /// # Errors
    /// `EEXIST` when it is there, `ENETUNREACH` when the gateway is on no link.
    pub fn add_route(&mut self, route: &Route) -> io::Result<()> {
        let new = RouteNetlinkMessage::NewRoute(message(route));
        self.request(&new, NLM_F_CREATE | NLM_F_EXCL).map(|_| ())
    }

    /// Adds a default route through `gateway` on the interface `index`.
    ///
    /// # Errors
    /// `EEXIST` when there is one, `ENETUNREACH` when the gateway is on no link.
    pub fn add_default_route(&mut self, gateway: IpAddr, index: u32) -> io::Result<()> {
        self.add_route(&Route::via(gateway, index))
    }

    /// Sets a neighbour for ever (`NUD_PERMANENT`), so that nobody asks for it.
    ///
    /// # Errors
    /// `ENODEV` when there is no such interface, `EINVAL` for an address of another family.
    pub fn set_neighbour(&mut self, index: u32, ip: IpAddr, mac: Mac) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = match ip {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        let address = match ip {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        };
        message.attributes = vec![
            NeighbourAttribute::Destination(address),
            NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()),
        ];
        let new = RouteNetlinkMessage::NewNeighbour(message);
        self.request(&new, NLM_F_CREATE | NLM_F_REPLACE).map(|_| ())
    }

    /// Deletes a route from the main table.
    ///
    /// # Errors
    /// `ESRCH` when it is not there.
    pub fn delete_route(&mut self, route: &Route) -> io::Result<()> {
        let mut message = message(route);
        // Any protocol and, for scope, whatever was added (`iproute.c` sends NOWHERE).
        message.header.protocol = RouteProtocol::Unspec;
        message.header.scope = RouteScope::NoWhere;
        self.request(&RouteNetlinkMessage::DelRoute(message), 0)
            .map(|_| ())
    }

    /// The neighbour table of all interfaces.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn neighbours(&mut self) -> io::Result<Vec<Neighbour>> {
        let get = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let replies = self.dump(&get)?;
        let news = replies
            .iter()
            .filter(|reply| reply.kind == libc::RTM_NEWNEIGH);
        Ok(news
            .filter_map(|reply| decode_neighbour(&reply.body))
            .collect())
    }
}

impl Route {
    /// A default route through `gateway` on the interface `index`.
    #[must_use]
    pub fn via(gateway: IpAddr, index: u32) -> Self {
        let destination = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        Self {
            gateway: Some(gateway),
            ..Self::on_link(destination, 0, index)
        }
    }

    /// A route to a network that is directly on the interface `index`.
    #[must_use]
    pub fn on_link(destination: IpAddr, prefix: u8, index: u32) -> Self {
        Self {
            destination,
            prefix,
            gateway: None,
            index,
            preferred_source: None,
            metric: 0,
            kind: RouteKind::Unicast,
            mtu: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::host::link::VethEnd;
    use crate::host::netlink::{errno, is_gone};
    use crate::host::netns::tests::in_fresh_netns;

    #[test]
    fn routes_come_and_go() {
        in_fresh_netns("routes", || {
            let mut netlink = Netlink::open().unwrap();
            let end = |name| VethEnd {
                name,
                ..VethEnd::default()
            };
            netlink.add_veth(&end("a"), &end("b")).unwrap();
            let a = netlink.link_named("a").unwrap().index;
            let b = netlink.link_named("b").unwrap().index;
            netlink
                .add_address(a, "10.77.0.1".parse().unwrap(), 24)
                .unwrap();
            netlink.set_up(a, true).unwrap();
            netlink.set_up(b, true).unwrap();
            let gateway: IpAddr = "10.77.0.254".parse().unwrap();
            netlink.add_default_route(gateway, a).unwrap();
            let twice = netlink.add_default_route(gateway, a).unwrap_err();
            assert_eq!(errno(&twice), Some(Errno::EEXIST));
            let stray = netlink
                .add_default_route("192.0.2.1".parse().unwrap(), a)
                .unwrap_err();
            assert_eq!(errno(&stray), Some(Errno::ENETUNREACH));
            let mut hole = Route::on_link("198.51.100.0".parse().unwrap(), 24, 0);
            hole.kind = RouteKind::Blackhole;
            netlink.add_route(&hole).unwrap();

            let routes = netlink.routes().unwrap();
            let default = routes
                .iter()
                .find(|r| r.is_default() && r.destination.is_ipv4());
            let default = default.unwrap();
            assert_eq!((default.gateway, default.index), (Some(gateway), a));
            let subnet = routes
                .iter()
                .find(|r| r.prefix == 24 && r.index == a)
                .unwrap();
            assert_eq!(subnet.destination, "10.77.0.0".parse::<IpAddr>().unwrap());
            assert_eq!(subnet.preferred_source, Some("10.77.0.1".parse().unwrap()));
            assert!(
                routes
                    .iter()
                    .any(|r| r.kind == RouteKind::Blackhole && r.index == 0)
            );

            netlink.delete_route(&Route::via(gateway, a)).unwrap();
            assert!(is_gone(
                &netlink.delete_route(&Route::via(gateway, a)).unwrap_err()
            ));
            netlink.delete_route(&hole).unwrap();
            assert!(netlink.neighbours().unwrap().iter().all(|n| n.index != 0));
        });
    }

    #[test]
    fn a_multipath_route_gives_its_first_hop() {
        let mut hop = vec![16, 0, 0, 0];
        hop.extend_from_slice(&7_u32.to_ne_bytes());
        hop.extend_from_slice(&[8, 0, 5, 0, 192, 0, 2, 1]); // RTA_GATEWAY
        assert_eq!(
            first_hop(&hop),
            (Some(7), Some("192.0.2.1".parse().unwrap()))
        );
        assert_eq!(first_hop(&[]), (None, None));
    }
}
