use super::*;
use crate::host::addr::Address;
use crate::host::peer::Peer;
use crate::host::view::HostSocket;

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.into(),
        ethernet: true,
        up: true,
        ..Link::default()
    }
}

fn address(index: u32, cidr: &str) -> Address {
    let (ip, prefix) = cidr.split_once('/').unwrap();
    Address {
        index,
        ip: ip.parse().unwrap(),
        prefix: prefix.parse().unwrap(),
        scope_is_global: !cidr.starts_with("fe80"),
        secondary: false,
    }
}

fn cidr(text: &str) -> Cidr {
    let (addr, prefix) = text.split_once('/').unwrap();
    Cidr {
        address: addr.parse().unwrap(),
        prefix: prefix.parse().unwrap(),
    }
}

/// lo, eth0 192.0.2.10/24, veth1 and veth2 whose peers are 10.9.0.2 and .3.
fn view() -> HostView {
    let peer = |port: &str, ip: &str| Peer {
        port: port.into(),
        ifname: "eth0".into(),
        netns: Some("blue".into()),
        addresses: vec![(ip.parse().unwrap(), 24)],
        ..Peer::default()
    };
    let mut lo = link(1, "lo");
    (lo.loopback, lo.ethernet) = (true, false);
    HostView {
        links: vec![lo, link(2, "eth0"), link(3, "veth1"), link(4, "veth2")],
        addresses: vec![
            address(1, "127.0.0.1/8"),
            address(2, "192.0.2.10/24"),
            address(3, "fe80::1/64"),
        ],
        routes: vec![
            Route::via("192.0.2.1".parse().unwrap(), 2),
            Route::on_link("192.0.2.0".parse().unwrap(), 24, 2),
        ],
        local_ports: (32_768, 60_999),
        peers: vec![peer("veth1", "10.9.0.2"), peer("veth2", "10.9.0.3")],
        capabilities: u64::MAX,
        ..HostView::default()
    }
}

fn wanted() -> Wanted {
    Wanted {
        ports: vec!["veth1".into(), "veth2".into()],
        uplink: Some("eth0".into()),
        gateway: cidr("10.9.0.1/24"),
        uplink_address: None,
        nat_ports: Some((61_000, 65_535)),
    }
}

fn lines(view: &HostView, wanted: &Wanted) -> Vec<String> {
    check(view, wanted)
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// Exactly one problem, containing all of `parts`, on one line with a fix.
#[track_caller]
fn one(view: &HostView, wanted: &Wanted, parts: &[&str]) {
    let lines = lines(view, wanted);
    let [line] = &lines[..] else {
        panic!("{lines:#?}")
    };
    assert!(line.contains("; fix: ") && !line.contains('\n'), "{line}");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

#[test]
fn a_sound_set_up_has_no_problem() {
    assert!(
        lines(&view(), &wanted()).is_empty(),
        "{:?}",
        lines(&view(), &wanted())
    );
}

#[test]
fn an_unknown_interface_is_named_with_the_one_that_was_meant() {
    let mut asked = wanted();
    asked.ports[1] = "vteh2".into();
    one(
        &view(),
        &asked,
        &[
            "error: vteh2: no such interface; did you mean veth2?",
            "ip -br link",
        ],
    );
    asked.ports[1] = "tap-of-my-own".into();
    one(
        &view(),
        &asked,
        &["no such interface;", "ip link add tap-of-my-own type veth"],
    );
    asked = wanted();
    asked.uplink = Some("ehт0".into());
    one(&view(), &asked, &["did you mean eth0?"]);
}

#[test]
fn a_port_is_in_the_switch_once_and_is_not_the_uplink() {
    let mut asked = wanted();
    asked.ports.push("veth1".into());
    one(&view(), &asked, &["error: veth1: listed twice"]);
    let mut asked = wanted();
    asked.ports.push("eth0".into());
    one(
        &view(),
        &asked,
        &["error: eth0: is the uplink", "leave eth0 out"],
    );
}

#[test]
fn a_port_must_be_free_ethernet() {
    let mut asked = wanted();
    asked.ports[0] = "lo".into();
    one(
        &view(),
        &asked,
        &["error: lo: the loopback carries no Ethernet"],
    );
    let mut host = view();
    (host.links[2].ethernet, host.links[2].kind) = (false, Some("wireguard".into()));
    one(
        &host,
        &wanted(),
        &["veth1: wireguard carries no Ethernet frames"],
    );
    let mut host = view();
    host.links.push(link(9, "br0"));
    host.links[2].master = Some(9);
    one(
        &host,
        &wanted(),
        &["veth1: belongs to br0", "fix: ip link set veth1 nomaster"],
    );
    let mut host = view();
    host.links[2].up = false;
    one(
        &host,
        &wanted(),
        &["warning: veth1: is down", "fix: ip link set veth1 up"],
    );
}

#[test]
fn a_port_with_an_address_is_refused_but_link_local_is_not_one() {
    for held in ["10.9.0.77/24", "2001:db8::1/64"] {
        let mut host = view();
        host.addresses.push(address(3, held));
        let fix = format!("fix: ip addr del {held} dev veth1");
        let mut asked = wanted();
        asked.gateway = cidr("10.9.0.1/24");
        one(&host, &asked, &["error: veth1: has the address", &fix]);
    }
}

#[test]
fn an_uplink_needs_an_address_and_no_master() {
    let mut host = view();
    host.addresses.retain(|a| a.index != 2);
    one(
        &host,
        &wanted(),
        &["warning: eth0: has no IPv4 address yet"],
    );
    let mut asked = wanted();
    asked.uplink_address = Some(cidr("192.0.2.99/24"));
    assert!(lines(&host, &asked).is_empty());
    let mut host = view();
    host.links.push(link(9, "br0"));
    host.links[1].master = Some(9);
    one(
        &host,
        &wanted(),
        &["eth0: belongs to br0", "fix: --uplink br0"],
    );
}

#[test]
fn an_own_uplink_address_is_not_one_of_the_host() {
    let mut asked = wanted();
    asked.uplink_address = Some(cidr("192.0.2.10/24"));
    one(
        &view(),
        &asked,
        &["--uplink-address 192.0.2.10/24: is the host's own, on eth0"],
    );
}

#[test]
fn the_gateway_is_a_free_address_of_the_peers_subnet() {
    let mut asked = wanted();
    asked.gateway = cidr("10.9.0.3/24");
    one(
        &view(),
        &asked,
        &["--gateway 10.9.0.3/24: is taken by eth0 in blue behind veth2"],
    );
    asked.gateway = cidr("10.9.0.0/24");
    one(
        &view(),
        &asked,
        &["network or broadcast", "fix: --gateway 10.9.0.1/24"],
    );
    asked.gateway = cidr("10.9.0.255/24");
    one(&view(), &asked, &["network or broadcast"]);
    asked.gateway = cidr("10.8.0.1/24");
    one(
        &view(),
        &asked,
        &[
            "no peer is in that subnet; veth1 has 10.9.0.2/24",
            "10.9.0.1/24",
        ],
    );
    let mut host = view();
    host.peers.clear();
    assert!(
        lines(&host, &asked).is_empty(),
        "no peer has an address yet"
    );
    host.addresses.push(address(2, "10.8.0.1/24"));
    let said = lines(&host, &asked);
    assert!(
        said[0].contains("is an address of the host, on eth0"),
        "{said:?}"
    );
}

#[test]
fn the_subnet_is_nobody_elses() {
    // The uplink's network (A1-7).
    let mut asked = wanted();
    asked.gateway = cidr("192.0.2.254/24");
    let mut host = view();
    host.peers.clear();
    one(
        &host,
        &asked,
        &[
            "subnet 192.0.2.0/24: overlaps 192.0.2.10/24 of eth0",
            "--gateway 10.77.0.1/24",
        ],
    );
    // A wider one, and a route.
    let mut host = view();
    host.routes
        .push(Route::on_link("10.0.0.0".parse().unwrap(), 8, 2));
    one(
        &host,
        &wanted(),
        &[
            "overlaps the host's route to 10.0.0.0/8 by eth0",
            "ip route del",
        ],
    );
    let mut asked = wanted();
    asked.uplink_address = Some(cidr("10.9.0.200/25"));
    one(&view(), &asked, &["overlaps --uplink-address"]);
}

fn socket(transport: Transport, addr: &str, port: u16, listens: bool) -> HostSocket {
    HostSocket {
        transport,
        addr: addr.parse().unwrap(),
        port,
        listens,
    }
}

#[test]
fn nat_ports_are_not_the_hosts() {
    let mut host = view();
    host.sockets = vec![
        socket(Transport::Udp, "0.0.0.0", 61_001, true),
        socket(Transport::Udp, "::", 61_001, true),
        socket(Transport::Tcp, "127.0.0.1", 61_002, true), // not on the uplink's address
        socket(Transport::Tcp, "0.0.0.0", 22, true),
    ];
    one(
        &host,
        &wanted(),
        &["error: --nat-ports 61000-65535: the host listens on udp port 61001"],
    );
    let mut asked = wanted();
    asked.uplink_address = Some(cidr("192.0.2.99/24"));
    assert!(
        lines(&host, &asked).is_empty(),
        "an own address has its own ports"
    );

    host.sockets = vec![
        socket(Transport::Tcp, "192.0.2.10", 61_003, false),
        socket(Transport::Tcp, "192.0.2.10", 61_004, false),
    ];
    one(
        &host,
        &wanted(),
        &["warning: --nat-ports", "2 connections of the host"],
    );
    let mut asked = wanted();
    asked.nat_ports = Some((40_000, 60_999));
    one(
        &view(),
        &asked,
        &["warning", "overlaps the host's own 32768-60999"],
    );
    asked.nat_ports = Some((80, 2000));
    one(
        &view(),
        &asked,
        &["error", "takes well-known ports", "--nat-ports 1024-2000"],
    );
    asked.nat_ports = Some((61_000, 61_010));
    one(&view(), &asked, &["fewer than 64 ports"]);
    asked.nat_ports = None;
    assert!(lines(&host, &asked).is_empty());
}

#[test]
fn missing_capabilities_are_named() {
    let mut host = view();
    host.capabilities = 1 << CAP_NET_RAW;
    one(&host, &wanted(), &["error: missing CAP_NET_ADMIN:", "sudo"]);
    host.capabilities = 0;
    one(&host, &wanted(), &["missing CAP_NET_ADMIN and CAP_NET_RAW"]);
}

#[test]
fn a_problem_becomes_the_programs_error() {
    let problem = Problem::error("veth1", "is gone", "ip -br link");
    let line = problem.to_string();
    assert_eq!(CliError::from(problem).to_string(), line);
}
