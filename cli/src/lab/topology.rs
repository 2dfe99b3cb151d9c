//! The network that the demo, the tests and the benchmark share.
//!
//! ```text
//!   c1 eth0 ──── veth1 ┐
//!   c2 eth0 ──── veth2 ├ h ┤ eth0 ──── eth0 o
//!   c3 eth0 ──── veth3 ┘   203.0.113.254    203.0.113.1, .2
//!
//!   with a router:         eth0 ─── wire ─── eth0 o
//!                                     └───── eth0 r 203.0.113.10
//!                                            eth1   198.51.100.1 ──── .2 eth0 o2   (small MTU)
//! ```
//! The containers' gateway exists only inside the switch: in `h` nothing has its address.

use std::net::Ipv4Addr;

use super::error::Result;
use super::network::{Cable, End, Host, Lab};

/// The subnet of the containers; always a /24.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Subnet {
    /// 10.9.0.0/24, containers from .2, gateway .1.
    #[default]
    Ten,
    /// 192.168.2.0/24, containers from .10, gateway .1.
    HundredNinetyTwo,
}

impl Subnet {
    /// Prefix length in bits.
    pub const PREFIX: u8 = 24;

    /// Address of the `i`-th container, counted from 1; at most 200.
    #[must_use]
    pub fn container(self, i: u8) -> Ipv4Addr {
        match self {
            Self::Ten => Ipv4Addr::new(10, 9, 0, i.saturating_add(1)),
            Self::HundredNinetyTwo => Ipv4Addr::new(192, 168, 2, i.saturating_add(9)),
        }
    }

    /// Address of the gateway.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        match self {
            Self::Ten => Ipv4Addr::new(10, 9, 0, 1),
            Self::HundredNinetyTwo => Ipv4Addr::new(192, 168, 2, 1),
        }
    }
}

/// What to build; [`Plan::default`] is two containers in 10.9.0.0/24 and no router.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Number of containers, 1 to 200.
    pub containers: u8,
    /// Their subnet.
    pub subnet: Subnet,
    /// MTU of the containers' cables in bytes; the kernel's 1500 when absent.
    pub container_mtu: Option<u32>,
    /// MTU of the uplink's cable in bytes; the kernel's 1500 when absent.
    pub uplink_mtu: Option<u32>,
    /// MTU of the link behind the router in bytes; no router and no `o2` when absent.
    pub router_mtu: Option<u32>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            containers: 2,
            subnet: Subnet::default(),
            container_mtu: None,
            uplink_mtu: None,
            router_mtu: None,
        }
    }
}

/// The standard network, built; see the picture at the top of this module.
///
/// The host `h` has cables and an uplink address, but nothing connects its ports: that is the
/// switch's job.
#[derive(Debug)]
pub struct Topology {
    /// Plays the container host: ports `veth1`... and the uplink `eth0`.
    pub h: Host,
    /// The containers `c1`...; each has `eth0`.
    pub containers: Vec<Host>,
    /// The world outside: `eth0` with [`Self::OUTSIDE`] and [`Self::OUTSIDE_SECOND`].
    pub o: Host,
    /// The router, when the plan has one.
    pub r: Option<Host>,
    /// The host behind the router.
    pub o2: Option<Host>,
    /// What was built.
    pub plan: Plan,
    /// Owns everything above.
    lab: Lab,
}

impl Topology {
    /// Name of the uplink in `h` and of the only link of every container.
    pub const UPLINK: &'static str = "eth0";
    /// Address of the uplink.
    pub const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
    /// Address of the outside host.
    pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
    /// Second address of the outside host.
    pub const OUTSIDE_SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
    /// Address of the router on the uplink's network.
    pub const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
    /// Address of the router on its far link.
    pub const ROUTER_FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
    /// Address of the host behind the router.
    pub const BEHIND_ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
    /// The network behind the router, a /24.
    const FAR_NETWORK: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 0);

    /// Builds the network in `lab`.
    ///
    /// # Errors
    /// What the kernel refused; everything made so far is removed.
    pub fn build(mut lab: Lab, plan: Plan) -> Result<Self> {
        let h = lab.host("h")?;
        let mut containers = Vec::new();
        for i in 1..=plan.containers {
            containers.push(container(&mut lab, &h, &plan, i)?);
        }
        let o = lab.host("o")?;
        let mut router = None;
        if let Some(far_mtu) = plan.router_mtu {
            router = Some(wire_with_router(&mut lab, &h, &o, &plan, far_mtu)?);
        } else {
            lab.cable(&Cable {
                near: uplink_end(&h),
                far: outside_end(&o),
                mtu: plan.uplink_mtu,
            })?;
        }
        h.address(Self::UPLINK, Self::HOST, 24)?;
        o.address("eth0", Self::OUTSIDE, 24)?;
        o.address("eth0", Self::OUTSIDE_SECOND, 24)?;
        let next_hop = match router {
            Some(_) => Self::ROUTER,
            None => Self::OUTSIDE,
        };
        h.default_route(Self::UPLINK, next_hop)?;
        let (r, o2) = router.unzip();
        if let Some(r) = &r {
            configure_router(r, &o, o2.as_ref())?;
        }
        Ok(Self {
            h,
            containers,
            o,
            r,
            o2,
            plan,
            lab,
        })
    }

    /// The `i`-th container, counted from 1.
    ///
    /// # Panics
    /// When the plan has fewer.
    #[must_use]
    pub fn c(&self, i: usize) -> &Host {
        &self.containers[i - 1]
    }

    /// Address of the `i`-th container, counted from 1.
    #[must_use]
    pub fn ip(&self, i: u8) -> Ipv4Addr {
        self.plan.subnet.container(i)
    }

    /// Ethernet address of the `i`-th container, counted from 1.
    #[must_use]
    pub fn mac(&self, i: u8) -> [u8; 6] {
        container_mac(&self.plan, i)
    }

    /// The containers' gateway.
    #[must_use]
    pub fn gateway(&self) -> Ipv4Addr {
        self.plan.subnet.gateway()
    }

    /// Names of the ports in `h`: `veth1`, `veth2`, ...
    #[must_use]
    pub fn port_names(&self) -> Vec<String> {
        (1..=self.plan.containers).map(port_name).collect()
    }

    /// The lab that owns the hosts; more can be added to it.
    pub fn lab(&mut self) -> &mut Lab {
        &mut self.lab
    }

    /// Connects the ports with a kernel bridge that has the gateway's address, and routes and
    /// answers by the kernel: the yardstick by which the lab itself and the switch are measured.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn bridge_ports(&self) -> Result<()> {
        let names = self.port_names();
        let ports: Vec<&str> = names.iter().map(String::as_str).collect();
        self.h.bridge("br0", &ports)?;
        self.h.address("br0", self.gateway(), Subnet::PREFIX)
    }
}

fn port_name(i: u8) -> String {
    format!("veth{i}")
}

/// The locally administered address 02:77 followed by the container's IPv4 address.
fn container_mac(plan: &Plan, i: u8) -> [u8; 6] {
    let [a, b, c, d] = plan.subnet.container(i).octets();
    [2, 0x77, a, b, c, d]
}

fn uplink_end(h: &Host) -> End<'_> {
    End::new(h, Topology::UPLINK).with_mac([2, 0xaa, 203, 0, 113, 254])
}

fn outside_end(o: &Host) -> End<'_> {
    End::new(o, "eth0").with_mac([2, 0xaa, 203, 0, 113, 1])
}

fn container(lab: &mut Lab, h: &Host, plan: &Plan, i: u8) -> Result<Host> {
    let c = lab.host(&format!("c{i}"))?;
    let port = port_name(i);
    lab.cable(&Cable {
        near: End::new(h, &port).with_mac([2, 0x76, 0, 0, 0, i]),
        far: End::new(&c, "eth0").with_mac(container_mac(plan, i)),
        mtu: plan.container_mtu,
    })?;
    c.address("eth0", plan.subnet.container(i), Subnet::PREFIX)?;
    c.default_route("eth0", plan.subnet.gateway())?;
    Ok(c)
}

/// Joins `h`, `o` and a new router by a bridge in a namespace of its own, and hangs `o2` behind
/// the router.
fn wire_with_router(
    lab: &mut Lab,
    h: &Host,
    o: &Host,
    plan: &Plan,
    far_mtu: u32,
) -> Result<(Host, Host)> {
    let wire = lab.host("wire")?;
    let r = lab.host("r")?;
    let o2 = lab.host("o2")?;
    let router_end = End::new(&r, "eth0").with_mac([2, 0xaa, 203, 0, 113, 10]);
    let ends = [
        ("h", uplink_end(h)),
        ("o", outside_end(o)),
        ("r", router_end),
    ];
    for (name, near) in ends {
        lab.cable(&Cable {
            near,
            far: End::new(&wire, name),
            mtu: plan.uplink_mtu,
        })?;
    }
    wire.bridge("br0", &["h", "o", "r"])?;
    lab.cable(&Cable {
        near: End::new(&r, "eth1"),
        far: End::new(&o2, "eth0"),
        mtu: Some(far_mtu),
    })?;
    Ok((r, o2))
}

fn configure_router(r: &Host, o: &Host, o2: Option<&Host>) -> Result<()> {
    r.sysctl("net/ipv4/ip_forward", "1")?;
    r.address("eth0", Topology::ROUTER, 24)?;
    r.address("eth1", Topology::ROUTER_FAR, 24)?;
    o.route("eth0", Topology::FAR_NETWORK, 24, Topology::ROUTER)?;
    if let Some(o2) = o2 {
        o2.address("eth0", Topology::BEHIND_ROUTER, 24)?;
        o2.default_route("eth0", Topology::ROUTER_FAR)?;
    }
    Ok(())
}
