//! Ways to be on the uplink: its host's address, an address of its own, no translation, none.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Instant;

use vswitch_cli::host::netlink::Netlink;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::lab::traffic::tcp::{self, Amount};
use vswitch_cli::lab::traffic::{craft, udp};

use super::frames::{SILENCE, arp_reply, open};
use super::nat::{many_connections, many_flows};
use super::traffic::{ANY, everything, tcp_both_ways, upload};
use super::world::Times::{Any, AtLeast, Exactly};
use super::world::{PATIENCE, SECOND, eventually, world};

const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 50);
const OWN_MAC: &str = "02:00:5e:10:00:50";
const OWN_ARGS: &str = "--uplink-address 203.0.113.50/24 --uplink-mac 02:00:5e:10:00:50";

#[test]
fn a0_2_an_address_of_its_own_on_the_uplink() {
    let world = world().finished().args(OWN_ARGS).start();
    let seen = tcp_both_ways(world.c(1), world.o(), Topology::OUTSIDE, 6_000_001);
    assert_eq!(seen.ip(), OWN);
    everything(world.c(2), world.o(), Topology::OUTSIDE_SECOND, 1 << 20);
    // It answers ARP and echo there; the host keeps its own address and its own traffic.
    let mut wire = open(world.o());
    let o = [2, 0xaa, 203, 0, 113, 1];
    wire.send(&craft::arp_request(o, Topology::OUTSIDE, OWN))
        .unwrap();
    let reply = arp_reply(&mut wire, OWN, SECOND).expect("ARP for its own address");
    assert_eq!(
        super::world::mac_text(reply[6..12].try_into().unwrap()),
        OWN_MAC
    );
    world.ping_perfectly(world.o(), &Ping::to(OWN).count(3));
    world.ping_perfectly(world.o(), &Ping::to(Topology::HOST).count(3));
    tcp_both_ways(world.h(), world.o(), Topology::OUTSIDE, 1 << 20);
    tcp_both_ways(world.o(), world.h(), Topology::HOST, 1 << 20);
    let lost = tcp::connect_within(world.o(), (OWN, 80), 2 * SILENCE).unwrap_err();
    assert_eq!(lost.io().kind(), std::io::ErrorKind::TimedOut, "{lost}");
    many_connections(&world, 2, 20);
    world.finish(&[("OTHERHOST", Any), ("NAT_UNSOLICITED", Exactly(1))]);
}

#[test]
fn a0_2_ports_are_kept_where_the_address_is_its_own() {
    let world = world().args(OWN_ARGS).start();
    let sink = udp::bind(world.o(), (Topology::OUTSIDE, 0)).unwrap();
    let inside = udp::bind(world.c(1), (Ipv4Addr::UNSPECIFIED, 5555)).unwrap();
    inside.send_to(b"kept", sink.local_addr().unwrap()).unwrap();
    let (_, from) = udp::recv(&sink, SECOND).unwrap().unwrap();
    assert_eq!(from, (OWN, 5555).into());
    world.finish(&[("OTHERHOST", Any)]);
}

#[test]
fn no_nat_routes_with_inside_addresses() {
    let world = world()
        .args("--no-nat")
        .routed()
        .prepare(|net| {
            net.o
                .route("eth0", Ipv4Addr::new(10, 9, 0, 0), 24, Topology::HOST)
                .unwrap();
        })
        .start();
    let seen = tcp_both_ways(world.c(1), world.o(), Topology::OUTSIDE, 4_000_001);
    assert_eq!(seen.ip(), world.ip(1));
    // From outside too: without translation nothing is hidden.
    everything(world.o(), world.c(2), world.ip(2), 4_000_001);
    for size in [56, 4000] {
        world.ping_perfectly(world.o(), &Ping::to(world.ip(1)).size(size).count(3));
        world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE).size(size).count(3));
    }
    world.finish(&[("OTHERHOST", Any)]);
}

#[test]
fn a0_12_without_a_host_port_the_host_is_out_of_reach_and_that_is_said() {
    let world = world().args("--no-host-port").start();
    assert!(world.h().link(super::world::NAME).is_err());
    let listener = tcp::listen(world.h(), ANY).unwrap();
    let port = listener.local_addr().unwrap().port();
    for address in [world.net.gateway(), Topology::HOST] {
        let refused = tcp::connect_within(world.c(1), (address, port), PATIENCE).unwrap_err();
        let kind = refused.io().kind();
        assert_eq!(kind, std::io::ErrorKind::ConnectionRefused, "{refused}");
    }
    world.ping_perfectly(world.c(1), &Ping::to(world.net.gateway()).count(3));
    everything(world.c(1), world.o(), Topology::OUTSIDE, 1 << 20);
    world.finish(&[("NO_HOST_PORT", AtLeast(2))]);
}

#[test]
fn a_plain_switch_has_no_way_out_and_says_so() {
    let world = world().no_uplink().args("--no-host-port").start();
    everything(world.c(1), world.c(2), world.ip(2), 4_000_001);
    let report = world.ping(world.c(1), &Ping::to(Topology::OUTSIDE));
    assert_eq!(
        (report.errors[0].kind, report.errors[0].code),
        (3, 0),
        "{report:?}"
    );
    world.finish(&[("UPLINK_DOWN", Exactly(1))]);
}

#[test]
fn a_gateway_that_is_given() {
    let world = world()
        .args("--gateway 10.9.0.200/24")
        .prepare(|net| {
            for c in &net.containers {
                let far = Ipv4Addr::new(203, 0, 113, 0);
                c.route("eth0", far, 24, Ipv4Addr::new(10, 9, 0, 200))
                    .unwrap();
            }
        })
        .start();
    let gateway = world.json("status")["gateway"].clone();
    assert_eq!(gateway, "10.9.0.200/24");
    everything(world.c(1), world.o(), Topology::OUTSIDE, 1 << 20);
    let given = Ipv4Addr::new(10, 9, 0, 200);
    world.ping_perfectly(world.c(1), &Ping::to(given).count(3));
    let none = world.ping(world.c(1), &Ping::to(world.net.gateway()).timeout(SILENCE));
    assert_eq!(none.received, 0, "the other address is nobody's");
    world.finish(&[]);
}

#[test]
fn a_gateway_that_is_found_on_the_containers() {
    use vswitch_cli::lab::Subnet;
    let world = world()
        .plan(|plan| plan.subnet = Subnet::HundredNinetyTwo)
        .start();
    assert_eq!(world.json("status")["gateway"], "192.168.2.1/24");
    world.ping_perfectly(world.c(1), &Ping::to(world.net.gateway()).count(3));
    everything(world.c(1), world.o(), Topology::OUTSIDE, 1 << 20);
    world.finish(&[]);
}

#[test]
fn a4_11_a_new_uplink_address_is_used_within_two_seconds() {
    let world = world().args("--workers 2").start();
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE).count(3));
    let sink = udp::bind(world.o(), (Topology::OUTSIDE, 0)).unwrap();
    let inside = udp::bind(world.c(1), ANY).unwrap();
    let new = Ipv4Addr::new(203, 0, 113, 253);
    readdress(&world, new);
    let changed = Instant::now();
    eventually("the new address is used", || {
        inside
            .send_to(b"who am I?", sink.local_addr().unwrap())
            .unwrap();
        let seen = udp::recv(&sink, SILENCE).unwrap();
        seen.is_some_and(|(_, from)| from.ip() == new)
    });
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE).count(3));
    assert!(changed.elapsed() < 2 * SECOND, "{:?}", changed.elapsed());
    let seen = tcp_both_ways(world.c(1), world.o(), Topology::OUTSIDE, 1 << 20);
    assert_eq!(seen.ip(), new);
    many_flows(&world, 2, 40);
    world.finish(&[
        ("OTHERHOST", Any),
        ("NAT_UNSOLICITED", Any),
        ("UPLINK_DOWN", Any),
    ]);
}

/// Gives the uplink another address in place of its own, as `ip addr` would.
fn readdress(world: &super::world::World, new: Ipv4Addr) {
    let changed = world.h().attempt(
        || "change the address".to_owned(),
        || {
            let mut netlink = Netlink::open()?;
            let index = netlink.link_named(Topology::UPLINK)?.index;
            netlink.delete_address(index, Topology::HOST.into(), 24)?;
            netlink.add_address(index, new.into(), 24)
        },
    );
    changed.unwrap();
    // The default route went with the address.
    world
        .h()
        .default_route(Topology::UPLINK, Topology::OUTSIDE)
        .unwrap();
}

#[test]
fn a4_11_an_uplink_that_goes_down_and_up_again() {
    let world = world().start();
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE));
    world.h().set_up(Topology::UPLINK, false).unwrap();
    eventually("the container is told", || {
        let report = world.ping(world.c(1), &Ping::to(Topology::OUTSIDE).timeout(SILENCE));
        report
            .errors
            .iter()
            .any(|error| (error.kind, error.code) == (3, 0))
    });
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)));
    world.h().set_up(Topology::UPLINK, true).unwrap();
    world.h().wait_running(Topology::UPLINK).unwrap();
    world
        .h()
        .default_route(Topology::UPLINK, Topology::OUTSIDE)
        .unwrap();
    let changed = Instant::now();
    eventually("echo is answered again", || {
        world
            .ping(world.c(1), &Ping::to(Topology::OUTSIDE).timeout(SILENCE))
            .received
            == 1
    });
    assert!(changed.elapsed() < 2 * SECOND, "{:?}", changed.elapsed());
    upload(
        world.c(1),
        world.o(),
        Topology::OUTSIDE,
        Amount::Bytes(1 << 20),
    );
    let known = [
        ("UPLINK_DOWN", AtLeast(1)),
        ("EGRESS_DOWN", Any),
        ("NO_ROUTE", Any),
    ];
    world.finish(&known);
}

#[test]
fn an_uplink_whose_mtu_changes_is_followed() {
    let world = world().start();
    let full = Ping::to(Topology::OUTSIDE).size(1472).dont_fragment();
    world.ping_perfectly(world.c(1), &full);
    world.h().set_mtu(Topology::UPLINK, 1300).unwrap();
    eventually("the container is told", || {
        let report = world.ping(world.c(1), &full);
        report
            .errors
            .iter()
            .any(|error| error.is_too_big() && error.mtu == 1300)
    });
    tcp_both_ways(world.c(2), world.o(), Topology::OUTSIDE, 2 << 20);
    thread::sleep(SILENCE);
    world.finish(&[("PKT_TOO_BIG", AtLeast(1)), ("EGRESS_MTU", Any)]);
}
