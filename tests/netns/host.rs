//! Beside the host's own stack: A0-1, A0-2, A0-3, A0-6 to A0-9, A0-11, A0-12, traps 7, 8, 9, 11.

use std::net::Ipv4Addr;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::craft::{self, Checksum, Seen, tcp_flags};
use vswitch_cli::lab::traffic::frames::Direction;
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::lab::traffic::tcp::{self, Amount};
use vswitch_cli::lab::traffic::udp;

use super::frames::{SILENCE, arp_reply, count_experimental, count_in, experimental, open};
use super::traffic::{ANY, download, everything, tcp_both_ways, upload};
use super::world::Times::{Any, AtLeast, Exactly};
use super::world::{NAME, SECOND, eventually, soak, world};

const ON_LOOPBACK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 53);

#[test]
fn a0_1_trap_8_the_host_neither_answers_nor_speaks_on_ports() {
    let world = world()
        .args("--no-host-port")
        .prepare(|net| {
            net.h.address("lo", ON_LOOPBACK, 32).unwrap();
            net.h.sysctl("net/ipv4/ip_forward", "1").unwrap();
        })
        .start();
    let own = world.h().link("veth1").unwrap().mac.unwrap().0;
    let spoken =
        vswitch_cli::lab::traffic::capture::Capture::start(world.h(), "veth1", move |frame| {
            frame.direction == Direction::Out && frame.bytes.get(6..12) == Some(&own)
        })
        .unwrap();
    let mut wire = open(world.c(1));
    for address in [ON_LOOPBACK, Topology::HOST] {
        wire.send(&craft::arp_request(world.net.mac(1), world.ip(1), address))
            .unwrap();
        assert_eq!(
            arp_reply(&mut wire, address, SILENCE),
            None,
            "ARP for {address}"
        );
        let ping = Ping::to(address).timeout(SILENCE);
        let report = world.ping(world.c(1), &ping);
        assert_eq!((report.received, report.duplicates), (0, 0), "{report:?}");
        let error = report.errors[0];
        assert_eq!(
            (error.from, error.kind),
            (world.net.gateway(), 3),
            "{error:?}"
        );
    }
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE).count(5));
    tcp_both_ways(world.c(1), world.o(), Topology::OUTSIDE, 1 << 20);
    assert_eq!(spoken.count(), 0, "{:02x?}", spoken.frames());
    world.finish(&[("NO_HOST_PORT", Exactly(2))]);
}

#[test]
fn a0_1_nothing_of_ipv6_comes_from_the_host() {
    let world = world()
        .containers(1)
        .no_uplink()
        .ipv6()
        .args("--no-host-port")
        .start();
    let own = world.h().link("veth1").unwrap().mac.unwrap().0;
    let spoken = count_in(world.c(1), move |bytes| bytes.get(6..12) == Some(&own));
    // The link goes down and up: a kernel would announce itself, ask for routers and groups.
    world.h().set_up("veth1", false).unwrap();
    world.h().set_up("veth1", true).unwrap();
    thread::sleep(2 * SECOND);
    assert_eq!(spoken.count(), 0, "{:02x?}", spoken.frames());
    world.finish(&[("NO_EGRESS", Any), ("EGRESS_DOWN", Any)]);
}

#[test]
fn trap_8_a_closed_port_outside_answers_once_and_the_host_not_at_all() {
    let world = world().start();
    let resets = count_in(world.c(1), |bytes| {
        let flags = Seen::in_frame(bytes).and_then(|seen| seen.tcp_flags());
        flags.is_some_and(|flags| flags & tcp_flags::RST != 0)
    });
    let closed = tcp::listen(world.o(), ANY)
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let refused = tcp::connect(world.c(1), (Topology::OUTSIDE, closed)).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::ECONNREFUSED), "{refused}");
    assert!(!resets.wait_for(2, SILENCE));
    assert_eq!(
        (resets.count(), world.since(world.o(), "Tcp", "OutRsts")),
        (1, 1)
    );
    world.finish(&[]);
}

#[test]
fn a0_2_trap_9_translated_connections_beside_the_hosts_own() {
    let world = world().start();
    let time = Amount::For(soak(SECOND));
    thread::scope(|scope| {
        scope.spawn(|| download(world.c(1), world.o(), Topology::OUTSIDE, time));
        scope.spawn(|| upload(world.c(2), world.o(), Topology::OUTSIDE_SECOND, time));
        scope.spawn(|| upload(world.h(), world.o(), Topology::OUTSIDE, time));
        scope.spawn(|| upload(world.o(), world.h(), Topology::HOST, time));
    });
    world.finish(&[]);
}

#[test]
fn a0_3_the_same_echo_id_from_two_containers_and_the_host() {
    let world = world().start();
    for size in [56, 4000] {
        thread::scope(|scope| {
            for (i, host) in (0..).zip([world.c(1), world.c(2), world.h()]) {
                // Fragments of one identification would be mixed up by any receiver.
                let id = if size > 1472 { 4242 + i * 1000 } else { 4242 };
                let ping = Ping::to(Topology::OUTSIDE).count(20).size(size);
                let (world, ping) = (
                    &world,
                    Ping {
                        id: Some(id),
                        ..ping
                    },
                );
                scope.spawn(move || world.ping_perfectly(host, &ping));
            }
        });
    }
    // The host's fragments pass the filter, for nobody knows whose they are.
    world.finish(&[("NAT_FRAGMENT_TIMEOUT", Any)]);
}

#[test]
fn a0_6_trap_11_vlan_tags_come_out_as_they_went_in() {
    let world = world().start();
    let wire = open(world.c(1));
    let plain = experimental(world.net.mac(2), world.net.mac(1), 100, 3);
    let announced = experimental(craft::BROADCAST, world.net.mac(2), 46, 0);
    open(world.c(2)).send(&announced).unwrap();
    let cases: [&[(u16, u16)]; 4] = [
        &[(0x8100, 5)],
        &[(0x8100, 0)],
        &[(0x8100, 0xe005)],
        &[(0x8100, 5), (0x88a8, 0x2007)],
    ];
    for tags in cases {
        let mut far = open(world.c(2));
        let (inner, outer) = tags.split_at(tags.len() - 1);
        let tag = |frame: Vec<u8>, (tpid, tci): &(u16, u16)| craft::tagged(&frame, *tpid, *tci);
        let untagged = inner.iter().fold(plain.clone(), tag);
        far.only_tagged(outer[0].0, outer[0].1).unwrap();
        wire.send(&outer.iter().fold(untagged.clone(), tag))
            .unwrap();
        let seen = far
            .recv(SECOND)
            .unwrap()
            .unwrap_or_else(|| panic!("{tags:x?} is lost"));
        assert_eq!(seen.bytes, untagged, "{tags:x?}");
        assert_eq!(far.recv(SILENCE).unwrap(), None, "{tags:x?} came twice");
    }
    world.finish(&[]);
}

#[test]
fn a0_7_trap_7_one_broadcast_is_one_copy_for_every_other_port() {
    let world = world().containers(3).start();
    let seen = [1, 2, 3].map(|i| count_experimental(world.c(i)));
    let before = world.quiet()["copies"].as_u64().unwrap();
    open(world.c(1))
        .send(&experimental(craft::BROADCAST, world.net.mac(1), 46, 0))
        .unwrap();
    for other in &seen[1..] {
        assert!(other.wait_for(1, SECOND));
    }
    thread::sleep(SILENCE);
    assert_eq!(seen.each_ref().map(|seen| seen.count()), [0, 1, 1]);
    // Two containers and the host.
    assert_eq!(world.total("copies") - before, 3);
    world.finish(&[]);
}

#[test]
fn a0_8_a_wrong_checksum_from_outside_stays_wrong() {
    let world = world().csum_errors().start();
    let inside = udp::bind(world.c(1), ANY).unwrap();
    let outside = udp::bind(world.o(), (Topology::OUTSIDE, 0)).unwrap();
    let from = outside.local_addr().unwrap();
    inside.send_to(b"open", from).unwrap();
    let (_, mapped) = udp::recv(&outside, SECOND).unwrap().expect("the way out");
    let (std::net::SocketAddr::V4(from), std::net::SocketAddr::V4(mapped)) = (from, mapped) else {
        unreachable!("bound to IPv4")
    };
    for (checksum, arrives) in [
        (Checksum::Exactly(0x1234), false),
        (Checksum::Right, true),
        (Checksum::Exactly(0), true),
    ] {
        let crafted = udp::Crafted {
            checksum,
            ..udp::Crafted::new(from, mapped, b"crafted")
        };
        world
            .o()
            .attempt(|| "send".to_owned(), || crafted.send())
            .unwrap();
        let wait = if arrives { SECOND } else { SILENCE };
        let got = udp::recv(&inside, wait).unwrap();
        assert_eq!(got.is_some(), arrives, "{checksum:?}");
    }
    assert_eq!(world.since(world.c(1), "Udp", "InCsumErrors"), 1);
    world.finish(&[]);
}

#[test]
fn a0_9_a_port_that_vanishes_does_not_disturb_the_others() {
    let world = world().start();
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)));
    let (time, ping) = (Amount::For(SECOND), Ping::to(Topology::OUTSIDE).count(60));
    thread::scope(|scope| {
        let bulk = scope.spawn(|| upload(world.c(1), world.o(), Topology::OUTSIDE, time));
        let steady = scope.spawn(|| world.ping_perfectly(world.c(1), &ping).sent);
        thread::sleep(Duration::from_millis(200));
        world.h().delete_link("veth2").unwrap();
        assert!(bulk.join().unwrap().bytes > 0);
        assert_eq!(steady.join().unwrap(), 60);
    });
    eventually("veth2 is gone", || {
        let rows = world.rows("port");
        rows.iter()
            .any(|row| row["ifname"] == "veth2" && row["operstate"] == "NOTPRESENT")
    });
    let lost = world.ping(world.c(1), &Ping::to(world.ip(2)).timeout(SILENCE));
    assert_eq!(lost.received, 0);
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE).count(3));
    world.finish(&[("EGRESS_DOWN", Any), ("NO_EGRESS", Any)]);
}

#[test]
fn a0_11_the_uplink_is_no_bridge_port() {
    let world = world().start();
    // What is not the uplink's own would be found by the observer outside.
    let inside = open(world.c(1));
    let (c1, own) = (world.net.mac(1), Topology::HOST);
    for i in 0..50 {
        let target = Ipv4Addr::new(203, 0, 113, i);
        inside
            .send(&craft::arp_request(c1, world.ip(1), target))
            .unwrap();
        inside
            .send(&experimental(craft::BROADCAST, c1, 46, i))
            .unwrap();
        inside
            .send(&experimental([2, 0xaa, 203, 0, 113, 1], c1, 46, i))
            .unwrap();
    }
    let strange = count_in(world.c(1), |bytes| bytes.get(6..8) == Some(&[2, 0xaa]));
    let outside = open(world.o());
    let o = [2, 0xaa, 203, 0, 113, 1];
    outside
        .send(&experimental(craft::BROADCAST, o, 46, 0))
        .unwrap();
    outside.send(&experimental(c1, o, 46, 0)).unwrap();
    outside
        .send(&craft::arp_request(o, Topology::OUTSIDE, world.ip(1)))
        .unwrap();
    outside
        .send(&craft::arp_request(o, Topology::OUTSIDE, own))
        .unwrap();
    assert!(!strange.wait_for(1, SILENCE), "{:02x?}", strange.frames());
    assert_eq!(world.h().link(Topology::UPLINK).unwrap().promiscuity, 0);
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE));
    world.finish(&[("OTHERHOST", AtLeast(1))]);
}

#[test]
fn a0_12_host_and_containers_reach_each_other_by_the_host_port() {
    let world = world().host_answers().start();
    everything(world.h(), world.c(1), world.ip(1), 4 << 20);
    // Services of the host, at the gateway's address and at the uplink's.
    everything(world.c(1), world.h(), world.net.gateway(), 4 << 20);
    tcp_both_ways(world.c(1), world.h(), Topology::HOST, 1 << 20);
    for (host, ip) in [(world.h(), world.ip(2)), (world.c(2), Topology::HOST)] {
        for size in [56, 4000] {
            world.ping_perfectly(host, &Ping::to(ip).size(size).count(3));
        }
    }
    let closed = tcp::listen(world.h(), ANY)
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let refused = tcp::connect(world.c(1), (world.net.gateway(), closed)).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::ECONNREFUSED), "{refused}");
    assert!(world.h().link(NAME).is_ok());
    world.finish(&[]);
}
