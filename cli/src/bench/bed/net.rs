//! The namespaces of a bed, and their addresses.
//!
//! ```text
//!   c1 eth0 ──── veth1 ┐
//!   c2 eth0 ──── veth2 ├ h ┤ eth0 ──── eth0 o   (with NAT only)
//!      ...             │   203.0.113.254    203.0.113.1
//!  rest eth17 ── veth17┘
//! ```
//! As in [`crate::lab::Topology`], but in a /16, so that there may be a thousand ports. The first
//! containers have a namespace each; the far ends of all others are in one namespace, `rest`, and
//! have no addresses: a namespace costs the kernel much more than a cable, and who only fills a
//! port needs none.

use std::net::Ipv4Addr;

use crate::host::sysctl;
use crate::lab::offload;
use crate::lab::{Cable, End, Host, Lab, LabError, Topology};

use super::Shape;
use crate::bench::path::Station;

/// Containers that have a namespace of their own.
pub(super) const OWN_MAX: u16 = 16;
/// The only link of a container, of the outside, and the uplink in `h`.
pub(super) const LINK: &str = "eth0";
/// The containers' gateway, which only beds with NAT have.
pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
/// Prefix length of the containers' subnet, bits.
pub(super) const PREFIX: u8 = 16;
/// Ethernet address of the outside's link.
const OUTSIDE_MAC: [u8; 6] = [2, 0xaa, 203, 0, 113, 1];
/// Ethernet address of the uplink.
const UPLINK_MAC: [u8; 6] = [2, 0xaa, 203, 0, 113, 254];

/// The namespaces of a bed; they go with the value.
#[derive(Debug)]
pub(super) struct Net {
    /// Where the forwarder lives: ports `veth1`..., and the uplink.
    pub(super) h: Host,
    /// The containers that have a namespace of their own; the first two are client and server.
    pub(super) stations: Vec<Host>,
    /// What was asked for.
    pub(super) shape: Shape,
    rest: Option<Host>,
    outside: Option<Host>,
    lab: Lab,
}

impl Net {
    /// Empty namespaces, with an uplink where the shape has NAT.
    pub(super) fn new(shape: Shape) -> Result<Self, LabError> {
        let mut lab = Lab::new("bed");
        let mut host = |label: &str| {
            let host = lab.host(label)?;
            silence(&host)?;
            Ok(host)
        };
        let h = host("h")?;
        let own = 1..=shape.containers.min(OWN_MAX);
        let stations = own.map(|i| host(&format!("c{i}")));
        let stations = stations.collect::<Result<_, _>>()?;
        let rest = (shape.containers > OWN_MAX).then(|| host("rest"));
        let rest = rest.transpose()?;
        let outside = shape.nat.then(|| host("o")).transpose()?;
        let net = Self {
            h,
            stations,
            shape,
            rest,
            outside,
            lab,
        };
        net.lay_uplink()?;
        Ok(net)
    }

    fn lay_uplink(&self) -> Result<(), LabError> {
        let Some(o) = &self.outside else {
            return Ok(());
        };
        self.lab.cable(&Cable {
            near: End::new(&self.h, LINK).with_mac(UPLINK_MAC),
            far: End::new(o, LINK).with_mac(OUTSIDE_MAC),
            mtu: None,
        })?;
        self.h.address(LINK, Topology::HOST, 24)?;
        o.address(LINK, Topology::OUTSIDE, 24)?;
        self.h.default_route(LINK, Topology::OUTSIDE)
    }

    /// A veth cable from `h` to every container.
    pub(super) fn lay_cables(&self) -> Result<(), LabError> {
        for i in 1..=self.shape.containers {
            let [hi, lo] = i.to_be_bytes();
            let port = port_name(i);
            self.lab.cable(&Cable {
                near: End::new(&self.h, &port).with_mac([2, 0x76, 0, 0, hi, lo]),
                far: self.far(i, &far_name(i)),
                mtu: None,
            })?;
        }
        self.configure()
    }

    /// One veth cable from the client to the server.
    pub(super) fn lay_direct(&self) -> Result<(), LabError> {
        self.lab.cable(&Cable {
            near: self.far(1, LINK),
            far: self.far(2, LINK),
            mtu: None,
        })?;
        self.configure()
    }

    /// Gives every container one of these links of `h`, in their order.
    pub(super) fn hand_over(&self, links: &[String]) -> Result<(), LabError> {
        for (i, link) in (1..=self.shape.containers).zip(links) {
            self.h.hand_over(link, &self.far(i, &far_name(i)))?;
        }
        self.configure()
    }

    fn far<'a>(&'a self, i: u16, name: &'a str) -> End<'a> {
        let own = self.stations.get(usize::from(i) - 1);
        // Without a namespace `rest` every container has its own.
        let host = own.or(self.rest.as_ref()).unwrap_or(&self.h);
        End::new(host, name).with_mac(mac(i))
    }

    fn configure(&self) -> Result<(), LabError> {
        for (i, host) in (1..).zip(&self.stations) {
            host.address(LINK, ip(i), PREFIX)?;
            if self.shape.nat {
                host.default_route(LINK, GATEWAY)?;
            }
            // The loads may start with the first frame of TCP: nobody needs to ask by ARP.
            for other in [1, 2] {
                if i != other {
                    host.neighbour(LINK, ip(other), mac(other))?;
                }
            }
        }
        Ok(())
    }

    /// Takes checksums and segmentation off every sender, as forwarders need that know of no
    /// unfinished frames; the kernel of the container finishes them instead.
    pub(super) fn finish_in_containers(&self) -> Result<(), LabError> {
        for i in 1..=self.shape.containers {
            let name = far_name(i);
            let end = self.far(i, &name);
            end.host.switch_off(end.name, offload::CHECKSUM)?;
        }
        Ok(())
    }

    /// Names of the ports in `h`.
    pub(super) fn ports(&self) -> Vec<String> {
        (1..=self.shape.containers).map(port_name).collect()
    }

    /// Client: the first container.
    pub(super) fn client(&self) -> Station<'_> {
        station(1, &self.stations[0])
    }

    /// Server: the outside with NAT, the second container otherwise.
    pub(super) fn server(&self) -> Station<'_> {
        match &self.outside {
            Some(host) => Station {
                host,
                link: LINK,
                ip: Topology::OUTSIDE,
                mac: OUTSIDE_MAC,
            },
            None => station(2, &self.stations[1]),
        }
    }

    /// The other containers that have namespaces of their own.
    pub(super) fn bystanders(&self) -> Vec<Station<'_>> {
        let first = if self.outside.is_some() { 2 } else { 3 };
        let all = (1..).zip(&self.stations);
        let others = all.filter(|&(i, _)| i >= first);
        others.map(|(i, host)| station(i, host)).collect()
    }

    /// Names of the namespaces under `/run/netns`.
    pub(super) fn namespaces(&self) -> Vec<String> {
        self.lab.namespace_names()
    }
}

/// No IPv6: a thousand links that each announce themselves to all others would be a load of its
/// own.
fn silence(host: &Host) -> Result<(), LabError> {
    let off = sysctl::conf_key("ipv6", "default", "disable_ipv6");
    host.sysctl_if_any(&off, "1")
}

fn station(i: u16, host: &Host) -> Station<'_> {
    Station {
        host,
        link: LINK,
        ip: ip(i),
        mac: mac(i),
    }
}

fn port_name(i: u16) -> String {
    format!("veth{i}")
}

fn far_name(i: u16) -> String {
    if i <= OWN_MAX {
        LINK.to_owned()
    } else {
        format!("eth{i}")
    }
}

/// Address of the `i`-th container, counted from 1: 10.9.0.2 and on.
fn ip(i: u16) -> Ipv4Addr {
    let [hi, lo] = i.saturating_add(1).to_be_bytes();
    Ipv4Addr::new(10, 9, hi, lo)
}

/// The locally administered address 02:77 followed by the container's IPv4 address.
fn mac(i: u16) -> [u8; 6] {
    let [a, b, c, d] = ip(i).octets();
    [2, 0x77, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::host::netlink::Netlink;

    #[test]
    fn client_and_server_know_each_other_without_asking() {
        let shape = Shape {
            containers: 2,
            nat: false,
            published: false,
        };
        let net = match Net::new(shape) {
            Ok(net) => net,
            Err(err) => return println!("SKIPPED net: {err}"),
        };
        net.lay_direct().unwrap();
        for (here, there) in [(1, 2), (2, 1)] {
            let host = &net.stations[here - 1];
            let known = host.run(|| Netlink::open().unwrap().neighbours().unwrap());
            let known = known.unwrap();
            let other = known.iter().find(|one| one.ip == ip(there));
            let other = other.unwrap();
            assert!(other.reachable);
            assert_eq!(other.mac.map(|mac| mac.0), Some(mac(there)));
            assert_eq!(
                host.link(LINK).unwrap().mac.map(|mac| mac.0),
                Some(mac(there ^ 3))
            );
        }
        assert_eq!((net.client().ip, net.server().ip), (ip(1), ip(2)));
        assert!(net.bystanders().is_empty());
    }

    #[test]
    fn a_thousand_containers_have_addresses_of_their_own() {
        let all: HashSet<_> = (1..=1000).map(|i| (ip(i), mac(i), far_name(i))).collect();
        assert_eq!(all.len(), 1000);
        let macs: HashSet<_> = (1..=1000).map(mac).collect();
        assert_eq!(macs.len(), 1000);
        assert!((1..=1000).all(|i| ip(i) != GATEWAY && far_name(i).len() <= 15));
        assert_eq!(ip(1000), Ipv4Addr::new(10, 9, 3, 233));
    }
}
