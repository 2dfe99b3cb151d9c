//! Unfinished checksums and large frames between every kind of port: A0-4, A0-5, traps 1, 2, 3,
//! 16, 17.

use std::net::Ipv4Addr;
use std::time::Duration;

use vswitch_cli::host::netlink::Netlink;
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::lab::traffic::snmp::Counters;
use vswitch_cli::lab::traffic::tcp::Amount;
use vswitch_cli::lab::{Host, Topology};

use super::ethtool;
use super::traffic::{everything, tcp_both_ways, udp_echo, udp_segmented, upload};
use super::world::{Setup, World, world};

/// Enough for many frames of 64 KiB, little enough for a moment.
const BYTES: u64 = 6_000_001;
/// Address of the container behind the TAP port.
const TAP_IP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 9);

/// Every pair of containers, host and outside, both ways where a connection can be opened both
/// ways. `host` is the host's address as containers use it.
fn matrix(world: &World) {
    let (c1, c2, h, o) = (world.c(1), world.c(2), world.h(), world.o());
    everything(c1, c2, world.ip(2), BYTES);
    everything(c1, h, world.net.gateway(), BYTES);
    everything(h, c1, world.ip(1), BYTES);
    everything(c1, o, Topology::OUTSIDE, BYTES);
}

/// Mean length of the frames that came in by a port.
fn mean_frame(world: &World, port: &str) -> u64 {
    world.port(port, "rx", "bytes") / world.port(port, "rx", "packets").max(1)
}

#[test]
fn a0_4_a0_5_offloaded_frames_arrive_whole_between_all_kinds_of_ports() {
    let Some(world) = world().start() else { return };
    matrix(&world);
    assert!(
        mean_frame(&world, "veth1") > 1514,
        "no large frame was carried"
    );
    world.finish(&[]);
}

#[test]
fn a0_4_a0_5_frames_of_senders_without_offloads_arrive_whole() {
    let Some(world) = world().plain_containers().start() else {
        return;
    };
    matrix(&world);
    assert!(mean_frame(&world, "veth1") <= 1514, "offloads are not off");
    world.finish(&[]);
}

#[test]
fn a0_4_a0_5_an_uplink_without_offloads_sends_finished_frames() {
    let Some(world) = world().finished().start() else {
        return;
    };
    everything(world.c(1), world.o(), Topology::OUTSIDE, BYTES);
    world.finish(&[]);
}

#[test]
fn trap_2_nat_with_neither_end_offloading() {
    let Some(world) = world().finished().plain_containers().start() else {
        return;
    };
    everything(world.c(2), world.o(), Topology::OUTSIDE, BYTES);
    world.finish(&[]);
}

#[test]
fn trap_3_large_frames_are_not_truncated() {
    let Some(world) = world().start() else { return };
    tcp_both_ways(world.c(1), world.c(2), world.ip(2), 32 << 20);
    tcp_both_ways(world.c(1), world.o(), Topology::OUTSIDE, 16 << 20);
    assert_eq!(world.dropped("TRUNCATED"), 0);
    world.finish(&[]);
}

#[test]
fn trap_16_segmented_datagrams_are_not_lost() {
    let Some(world) = world().start() else { return };
    for _ in 0..10 {
        udp_segmented(world.c(1), world.c(2), world.ip(2));
        udp_segmented(world.c(1), world.o(), Topology::OUTSIDE);
    }
    world.finish(&[]);
}

/// Ends a test with a container behind a TAP, whose kernel's counters began with it.
fn finish_with_tap(world: World, tap: &Host) {
    let counters = tap
        .attempt(|| "read counters".to_owned(), Counters::read)
        .unwrap();
    for group in ["Tcp", "Udp", "Icmp"] {
        assert_eq!(counters.get(group, "InCsumErrors"), Some(0), "{group}");
    }
    world.finish(&[]);
}

/// A third container behind a TAP that the switch made and that moved into its namespace.
fn with_tap(setup: Setup) -> Option<(World, Host)> {
    let mut world = setup.args("--ports veth1,veth2,tap:t0").start()?;
    let inside = world.net.lab().host("t").unwrap();
    for conf in ["default", "all"] {
        inside
            .sysctl(&format!("net/ipv6/conf/{conf}/disable_ipv6"), "1")
            .unwrap();
    }
    let moved = world.h().attempt(
        || "move the TAP".to_owned(),
        || {
            let mut netlink = Netlink::open()?;
            let index = netlink.link_named("t0")?.index;
            netlink.move_to_netns(index, std::os::fd::AsFd::as_fd(&inside))
        },
    );
    moved.unwrap();
    inside.set_up("t0", true).unwrap();
    inside.address("t0", TAP_IP, 24).unwrap();
    inside.default_route("t0", world.net.gateway()).unwrap();
    Some((world, inside))
}

#[test]
fn a0_4_a0_5_a_container_behind_a_tap() {
    let Some((world, tap)) = with_tap(world()) else {
        return;
    };
    everything(&tap, world.c(1), world.ip(1), BYTES);
    everything(world.c(1), &tap, TAP_IP, BYTES);
    everything(&tap, world.o(), Topology::OUTSIDE, BYTES);
    everything(world.h(), &tap, TAP_IP, BYTES);
    finish_with_tap(world, &tap);
}

#[test]
fn a0_4_a0_5_a_tap_without_offloads() {
    let Some((world, tap)) = with_tap(world().finished().plain_containers()) else {
        return;
    };
    ethtool::switch_off(&tap, "t0", ethtool::SENDER);
    everything(&tap, world.c(1), world.ip(1), BYTES);
    everything(&tap, world.o(), Topology::OUTSIDE, BYTES);
    finish_with_tap(world, &tap);
}

/// A VXLAN tunnel between two containers, with 172.16.9.1 and .2 at its ends.
fn tunnel(world: &World) {
    for (i, j) in [(1_u8, 2_u8), (2, 1)] {
        let host = world.c(usize::from(i));
        let (local, remote) = (world.ip(i), world.ip(j));
        let made = host.attempt(
            || "make a tunnel".to_owned(),
            || Netlink::open()?.add_vxlan("vx0", 42, local, remote, 4789),
        );
        made.unwrap();
        host.set_mtu("vx0", 1450).unwrap();
        host.set_up("vx0", true).unwrap();
        host.address("vx0", Ipv4Addr::new(172, 16, 9, i), 24)
            .unwrap();
    }
}

#[test]
fn trap_17_a_tunnel_between_containers_is_carried() {
    let Some(world) = world().start() else { return };
    tunnel(&world);
    let far = Ipv4Addr::new(172, 16, 9, 2);
    for size in [56, 1400, 8000] {
        let ping = Ping {
            fragment_at: 1450,
            ..Ping::to(far).size(size).count(3)
        };
        world.ping_perfectly(world.c(1), &ping);
    }
    udp_echo(world.c(1), world.c(2), far);
    tcp_both_ways(world.c(1), world.c(2), far, BYTES);
    assert!(
        mean_frame(&world, "veth1") > 1564,
        "the sender cut them itself"
    );
    world.finish(&[]);
}

#[test]
fn trap_17_a_tunnel_whose_sender_does_not_segment() {
    let Some(world) = world()
        .prepare(|net| {
            for c in &net.containers {
                ethtool::switch_off(c, "eth0", ethtool::TUNNELS);
            }
        })
        .start()
    else {
        return;
    };
    tunnel(&world);
    let far = Ipv4Addr::new(172, 16, 9, 2);
    upload(
        world.c(1),
        world.c(2),
        far,
        Amount::For(Duration::from_millis(300)),
    );
    tcp_both_ways(world.c(1), world.c(2), far, BYTES);
    world.finish(&[]);
}
