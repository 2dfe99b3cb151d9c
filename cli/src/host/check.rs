//! Refuses bad input before anything is touched: every check looks at a [`HostView`] and says what
//! is wrong, why, and the command that fixes it.
//!
//! All problems are reported, not only the first: who has two mistakes in a command line wants to
//! hear of both.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::link::Link;
use super::peer::Peer;
use super::route::Route;
use super::view::{HostSocket, HostView, Transport};
use crate::config::settings::Cidr;
use crate::error::{CliError, nearest};

/// CAP_NET_ADMIN and CAP_NET_RAW (capabilities(7)).
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
/// First port that is not well-known (RFC 6335 6).
const FIRST_FREE_PORT: u16 = 1024;
/// Fewer NAT ports than this cannot be cut into slices for workers and still be of use.
const FEWEST_NAT_PORTS: usize = 64;

/// Whether the switch can start in spite of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It must not start.
    Error,
    /// It starts, and says so.
    Warning,
}

/// Something wrong with what was asked for, in the light of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The flag or interface.
    pub what: String,
    /// Why it cannot be.
    pub why: String,
    /// A command to paste.
    pub fix: String,
}

impl Problem {
    fn error(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        let severity = Severity::Error;
        Self {
            severity,
            what: what.into(),
            why: why.into(),
            fix: fix.into(),
        }
    }

    fn warning(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(what, why, fix)
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{word}: {}: {}; fix: {}", self.what, self.why, self.fix)
    }
}

impl From<Problem> for CliError {
    fn from(problem: Problem) -> Self {
        Self::failed(problem.what, problem.why, problem.fix)
    }
}

/// Whether `addr` is in the subnet.
fn holds(subnet: Cidr, addr: Ipv4Addr) -> bool {
    subnet.overlaps(Cidr {
        address: addr,
        prefix: 32,
    })
}

/// What a switch is to be, as far as the host has a say in it.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Interfaces that are to be ports (TAPs that the switch makes itself are not among them).
    pub ports: Vec<String>,
    /// The uplink.
    pub uplink: Option<String>,
    /// The gateway's address, given or found.
    pub gateway: Cidr,
    /// An address on the uplink of the switch's own; else the host's is shared.
    pub uplink_address: Option<Cidr>,
    /// External NAT ports, first and last; none without NAT.
    pub nat_ports: Option<(u16, u16)>,
}

/// Every check, in the order in which the mistakes are best read.
#[must_use]
pub fn check(view: &HostView, wanted: &Wanted) -> Vec<Problem> {
    let mut problems = capabilities(view);
    problems.extend(ports(view, wanted));
    problems.extend(uplink(view, wanted));
    problems.extend(gateway(view, wanted));
    problems.extend(subnet(view, wanted));
    problems.extend(nat_ports(view, wanted));
    problems
}

/// Raw sockets and interface settings need two capabilities.
#[must_use]
pub fn capabilities(view: &HostView) -> Vec<Problem> {
    let missing: Vec<&str> = [
        (CAP_NET_ADMIN, "CAP_NET_ADMIN"),
        (CAP_NET_RAW, "CAP_NET_RAW"),
    ]
    .into_iter()
    .filter(|(bit, _)| view.capabilities >> bit & 1 == 0)
    .map(|(_, name)| name)
    .collect();
    if missing.is_empty() {
        return Vec::new();
    }
    let why = "raw sockets and interface settings are not allowed without it";
    vec![Problem::error(
        format!("missing {}", missing.join(" and ")),
        why,
        "sudo vswitch ..., or setcap cap_net_admin,cap_net_raw+ep $(command -v vswitch)",
    )]
}

/// An interface that is not there, with the name that was probably meant.
fn unknown(view: &HostView, name: &str) -> Problem {
    let names: Vec<&str> = view
        .links
        .iter()
        .filter(|l| !l.loopback)
        .map(|l| l.name.as_str())
        .collect();
    match nearest(name, &names) {
        Some(near) => Problem::error(
            name,
            format!("no such interface; did you mean {near}?"),
            "ip -br link".to_owned(),
        ),
        None => Problem::error(
            name,
            "no such interface",
            format!("ip link add {name} type veth peer name eth0 netns NAME, or see: ip -br link"),
        ),
    }
}

/// What holds for a port and for the uplink alike.
fn usable(view: &HostView, link: &Link) -> Option<Problem> {
    let name = &link.name;
    if link.loopback {
        return Some(Problem::error(
            name,
            "the loopback carries no Ethernet",
            "ip -br link",
        ));
    }
    if !link.ethernet {
        let kind = link.kind.as_deref().unwrap_or("this interface");
        let why = format!("{kind} carries no Ethernet frames");
        return Some(Problem::error(name, why, "ip -br link"));
    }
    let master = link.master?;
    let why = format!(
        "belongs to {}, which takes its frames",
        view.name_of(master)
    );
    Some(Problem::error(
        name,
        why,
        format!("ip link set {name} nomaster"),
    ))
}

/// Each port must exist, be ours alone and carry no address.
#[must_use]
pub fn ports(view: &HostView, wanted: &Wanted) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut seen = HashSet::new();
    for name in &wanted.ports {
        let Some(link) = view.link(name) else {
            problems.push(unknown(view, name));
            continue;
        };
        if !seen.insert(link.index) {
            let why = "listed twice: a port is in the switch once";
            problems.push(Problem::error(
                name,
                why,
                format!("name {name} once in --ports"),
            ));
            continue;
        }
        let is_uplink = wanted
            .uplink
            .as_deref()
            .is_some_and(|uplink| link.is_called(uplink));
        if is_uplink {
            let why = "is the uplink: the gateway routes there, the switch does not flood it";
            let fix = format!("leave {name} out of --ports or out of --uplink");
            problems.push(Problem::error(name, why, fix));
            continue;
        }
        if let Some(problem) = usable(view, link) {
            problems.push(problem);
            continue;
        }
        problems.extend(addressed(view, link));
        if !link.up {
            let why = "is down, and is brought up while the switch runs";
            let fix = format!("ip link set {name} up");
            problems.push(Problem::warning(name, why, fix));
        }
    }
    problems
}

/// A port's host end with an address would be a second way into the host, around the switch.
fn addressed(view: &HostView, link: &Link) -> Option<Problem> {
    let mut own = view
        .addresses_of(link.index)
        .filter(|address| address.scope_is_global);
    let first = own.next()?;
    let cidr = format!("{}/{}", first.ip, first.prefix);
    let why = format!("has the address {cidr}, which the host would answer for beside the switch");
    Some(Problem::error(
        &link.name,
        why,
        format!("ip addr del {cidr} dev {}", link.name),
    ))
}

/// The uplink must exist and have what the NAT needs.
#[must_use]
pub fn uplink(view: &HostView, wanted: &Wanted) -> Vec<Problem> {
    let Some(name) = &wanted.uplink else {
        return Vec::new();
    };
    let Some(link) = view.link(name) else {
        return vec![unknown(view, name)];
    };
    if let (false, Some(master)) = (link.loopback, link.master) {
        let master = view.name_of(master);
        let why = format!("belongs to {master}, which has its frames and its address");
        return vec![Problem::error(name, why, format!("--uplink {master}"))];
    }
    let mut problems: Vec<Problem> = usable(view, link).into_iter().collect();
    let has_v4 = view
        .addresses_of(link.index)
        .any(|a| a.ip.is_ipv4() && a.scope_is_global);
    if problems.is_empty() && !has_v4 && wanted.uplink_address.is_none() {
        let why = "has no IPv4 address yet: NAT starts when it gets one";
        let fix = format!("ip addr add ADDRESS/PREFIX dev {name}, or --uplink-address");
        problems.push(Problem::warning(name, why, fix));
    }
    if let Some(own) = wanted.uplink_address
        && let Some(taken) = view
            .addresses
            .iter()
            .find(|a| a.ip == IpAddr::V4(own.address))
    {
        let holder = view.name_of(taken.index);
        let why = format!("is the host's own, on {holder}: the switch needs one of its own");
        let fix = format!("leave it out to share it, or ip addr del {own} dev {holder}");
        problems.push(Problem::error(format!("--uplink-address {own}"), why, fix));
    }
    problems
}

/// The gateway must be an address of the containers' subnet that nobody has.
#[must_use]
pub fn gateway(view: &HostView, wanted: &Wanted) -> Vec<Problem> {
    let gateway = wanted.gateway;
    let what = format!("--gateway {gateway}");
    let mut problems = Vec::new();
    let edge = [gateway.network(), gateway.broadcast()].contains(&gateway.address);
    if gateway.prefix < 31 && edge {
        let first = Ipv4Addr::from_bits(gateway.network().to_bits() | 1);
        let why = "is the network or broadcast address of its subnet";
        let fix = format!("--gateway {first}/{}", gateway.prefix);
        problems.push(Problem::error(&what, why, fix));
    }
    problems.extend(gateway_taken(view, gateway));
    let mut inside = 0;
    let mut outside = None;
    for peer in &view.peers {
        for (ip, prefix) in &peer.addresses {
            let IpAddr::V4(addr) = *ip else { continue };
            if holds(gateway, addr) {
                inside += 1;
            } else {
                let _ = outside.get_or_insert((peer, addr, *prefix));
            }
        }
    }
    if let (0, Some((peer, addr, prefix))) = (inside, outside) {
        let why = format!(
            "no peer is in that subnet; {} has {addr}/{prefix}",
            peer.port
        );
        let network = Cidr {
            address: addr,
            prefix,
        }
        .network();
        let first = Ipv4Addr::from_bits(network.to_bits() | 1);
        problems.push(Problem::error(
            &what,
            why,
            format!("--gateway {first}/{prefix}"),
        ));
    }
    for address in view
        .addresses
        .iter()
        .filter(|a| a.ip == IpAddr::V4(gateway.address))
    {
        let holder = view.name_of(address.index);
        let why = format!("is an address of the host, on {holder}");
        let fix = format!("ip addr del {}/{} dev {holder}", address.ip, address.prefix);
        problems.push(Problem::error(&what, why, fix));
    }
    problems
}

/// Nobody behind a port may have the gateway's address.
#[must_use]
pub fn gateway_taken(view: &HostView, gateway: Cidr) -> Vec<Problem> {
    let has_it = |peer: &&Peer| {
        let mut addresses = peer.addresses.iter();
        addresses.any(|(ip, _)| *ip == IpAddr::V4(gateway.address))
    };
    let taken = view.peers.iter().filter(has_it).map(|peer| {
        let place = peer
            .netns
            .as_deref()
            .map_or(String::new(), |ns| format!(" in {ns}"));
        let why = format!("is taken by {}{place} behind {}", peer.ifname, peer.port);
        let fix = "--gateway with another address of the subnet";
        Problem::error(format!("--gateway {gateway}"), why, fix)
    });
    taken.collect()
}

/// The containers' subnet must be nobody else's (RFC 4787 REQ-7).
#[must_use]
pub fn subnet(view: &HostView, wanted: &Wanted) -> Vec<Problem> {
    let gateway = wanted.gateway;
    let what = format!("subnet {}/{}", gateway.network(), gateway.prefix);
    let mut problems = Vec::new();
    let mut named = HashSet::new();
    for address in view
        .addresses
        .iter()
        .filter(|a| a.ip != IpAddr::V4(gateway.address))
    {
        let IpAddr::V4(addr) = address.ip else {
            continue;
        };
        let other = Cidr {
            address: addr,
            prefix: address.prefix,
        };
        let on_port = wanted
            .ports
            .iter()
            .any(|port| port == view.name_of(address.index));
        if on_port || !gateway.overlaps(other) {
            continue; // An address on a port is a problem of its own.
        }
        let holder = view.name_of(address.index);
        named.insert(address.index);
        let why = format!("overlaps {other} of {holder}: packets could go to either");
        problems.push(Problem::error(&what, why, another_subnet(view)));
    }
    let foreign = |route: &&Route| !route.is_default() && !named.contains(&route.index);
    for route in view.routes.iter().filter(foreign) {
        let IpAddr::V4(addr) = route.destination else {
            continue;
        };
        let other = Cidr {
            address: addr,
            prefix: route.prefix,
        };
        let to_gateway = view
            .addresses_of(route.index)
            .any(|a| a.ip == IpAddr::V4(gateway.address));
        if to_gateway || !gateway.overlaps(other) {
            continue;
        }
        let via = view.name_of(route.index);
        let why = format!("overlaps the host's route to {other} by {via}");
        problems.push(Problem::error(
            &what,
            why,
            format!("ip route del {other} dev {via}"),
        ));
    }
    if let Some(own) = wanted.uplink_address
        && gateway.overlaps(own)
    {
        let why = format!("overlaps --uplink-address {own}");
        problems.push(Problem::error(&what, why, another_subnet(view)));
    }
    problems
}

/// A private subnet that nothing on this host overlaps, as a flag to paste.
fn another_subnet(view: &HostView) -> String {
    let free = |candidate: &Cidr| {
        let clashes = |addr: IpAddr, prefix: u8| match addr {
            IpAddr::V4(addr) => {
                prefix > 0
                    && candidate.overlaps(Cidr {
                        address: addr,
                        prefix,
                    })
            }
            IpAddr::V6(_) => false,
        };
        !view.addresses.iter().any(|a| clashes(a.ip, a.prefix))
            && !view.routes.iter().any(|r| clashes(r.destination, r.prefix))
    };
    let mut candidates = (77..=255).map(|octet| Cidr {
        address: Ipv4Addr::new(10, octet, 0, 1),
        prefix: 24,
    });
    match candidates.find(free) {
        Some(cidr) => format!("renumber the containers, for example --gateway {cidr}"),
        None => "renumber the containers and give --gateway".to_owned(),
    }
}

/// The NAT's ports on a shared address are taken from the host, so they must not be in use there.
#[must_use]
pub fn nat_ports(view: &HostView, wanted: &Wanted) -> Vec<Problem> {
    let Some((lo, hi)) = wanted.nat_ports else {
        return Vec::new();
    };
    let what = format!("--nat-ports {lo}-{hi}");
    if hi < lo || usize::from(hi - lo) + 1 < FEWEST_NAT_PORTS {
        let why = format!("fewer than {FEWEST_NAT_PORTS} ports");
        return vec![Problem::error(what, why, "--nat-ports 61000-65535")];
    }
    let mut problems = Vec::new();
    if lo < FIRST_FREE_PORT {
        let why = "takes well-known ports";
        problems.push(Problem::error(
            &what,
            why,
            format!("--nat-ports {FIRST_FREE_PORT}-{hi}"),
        ));
    }
    let uplink = wanted.uplink.as_deref().and_then(|name| view.link(name));
    if wanted.uplink_address.is_some() || uplink.is_none() {
        return problems; // Not the host's address, so not the host's ports.
    }
    let on_uplink = |addr: IpAddr| {
        uplink.is_some_and(|link| view.addresses_of(link.index).any(|own| own.ip == addr))
    };
    let concerned = |addr: IpAddr| addr.is_unspecified() || on_uplink(addr);
    let in_use: BTreeSet<HostSocket> = (view.sockets.iter().copied())
        .filter(|socket| (lo..=hi).contains(&socket.port) && concerned(socket.addr))
        .collect();
    let mut told = HashSet::new();
    for socket in in_use.iter().filter(|socket| socket.listens) {
        if !told.insert((socket.transport, socket.port)) {
            continue; // IPv4 and IPv6
        }
        let (word, letter) = match socket.transport {
            Transport::Tcp => ("tcp", 't'),
            Transport::Udp => ("udp", 'u'),
        };
        let port = socket.port;
        let why = format!("the host listens on {word} port {port}, which would go deaf");
        let fix = format!("another --nat-ports; who it is: ss -{letter}lnp 'sport = :{port}'");
        problems.push(Problem::error(&what, why, fix));
    }
    let connected = in_use.iter().filter(|socket| !socket.listens).count();
    if connected > 0 {
        let why = format!("{connected} connections of the host use these ports and would stall");
        let fix = format!("another --nat-ports; which they are: ss -tunp 'sport >= :{lo}'");
        problems.push(Problem::warning(&what, why, fix));
    }
    let (from, to) = view.local_ports;
    if lo <= to && hi >= from {
        let why = format!(
            "overlaps the host's own {from}-{to}, which shrinks for it while the switch runs"
        );
        problems.push(Problem::warning(
            &what,
            why,
            "--nat-ports 61000-65535, or --uplink-address",
        ));
    }
    problems
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
