//! Isolated ports and internal networks: behaviours B-16, E-3 and E-4.

use switch::config::Role;
use switch::frame::Offload;
use switch::mac::Mac;
use switch::neigh::Link;

use super::host::ECHO;
use super::packet::{Ip, Sum, arp, ethernet};
use super::world::{
    EXTERNAL, GATEWAY, GATEWAY_MAC, O1, Setup, Uplink, World, member_ip, member_mac,
};

const PLAIN: Offload = Offload::PLAIN;

/// Members 0 and 1 are isolated, 2 and 3 are not.
fn world(setup: Setup) -> World {
    let mut world = World::new(Setup {
        members: 4,
        isolated: vec![0, 1],
        ..setup
    });
    world.greet();
    world
}

#[test]
fn b_16_isolated_ports_see_all_but_each_other() {
    let mut world = world(Setup::default());
    for from in 0..4u16 {
        for to in (0..4u16).filter(|to| *to != from) {
            let apart = from < 2 && to < 2;
            let bytes = ethernet(member_mac(to), member_mac(from), 0x9999, &[0; 46]);
            let counted = world.counted(|w| assert!(w.send(from.into(), &bytes, PLAIN)));
            let expected = if apart {
                "received=1 PORT_ISOLATED=1"
            } else {
                "received=1 forwarded=1 copies=1 sent=1"
            };
            assert_eq!(counted, expected, "{from} to {to}");
        }
        // Broadcast, multicast and unknown stations alike; ARP is a broadcast.
        for to in [
            Mac::BROADCAST,
            Mac([1, 0, 0x5e, 0, 0, 7]),
            Mac::local(0x999),
        ] {
            let bytes = ethernet(to, member_mac(from), 0x9999, &[0; 46]);
            let copies = if from < 2 { 2 } else { 3 };
            let counted = world.counted(|w| assert!(w.send(from.into(), &bytes, PLAIN)));
            assert_eq!(
                counted,
                format!("received=1 flooded=1 copies={copies} sent={copies}")
            );
        }
    }
    world.clear();
    world.host(0).ask(member_ip(1));
    world.host(0).ask(member_ip(2));
    world.run();
    assert!(!world.host(0).neighbours.contains_key(&member_ip(1)));
    assert_eq!(world.wires[1].hosts[0].inbox.len(), 0);
    world.check();
}

#[test]
fn b_16_a_port_is_isolated_and_freed_while_it_is_used() {
    let mut world = world(Setup::default());
    let bytes = ethernet(member_mac(1), member_mac(0), 0x9999, &[0; 46]);
    let forwarded = |world: &mut World| {
        let counted = world.counted(|w| assert!(w.send(0, &bytes, PLAIN)));
        counted.contains("forwarded=1")
    };
    assert!(!forwarded(&mut world));
    world.isolate(1, false);
    assert!(forwarded(&mut world));
    world.isolate(1, true);
    assert!(!forwarded(&mut world));
    world.check();
}

#[test]
fn b_16_a_flood_that_only_isolated_ports_could_get_says_why_it_is_dropped() {
    let mut world = World::new(Setup {
        members: 2,
        isolated: vec![0, 1],
        ..Setup::default()
    });
    world.greet();
    let bytes = ethernet(Mac::BROADCAST, member_mac(0), 0x9999, &[0; 46]);
    let send = |w: &mut World| assert!(w.send(0, &bytes, PLAIN));
    assert_eq!(world.counted(send), "received=1 PORT_ISOLATED=1");
    world.remove_port(1);
    assert_eq!(world.counted(send), "received=1 NO_EGRESS=1");
}

#[test]
fn b_16_the_gateway_is_no_way_round() {
    for workers in [1, 2, 4] {
        let mut world = world(Setup {
            workers,
            host_port: true,
            ..Setup::default()
        });
        let known = |w: &World, number| {
            let neighbours = w.switch.neighbours();
            neighbours.confirm(
                Link::Network(0),
                member_ip(number),
                member_mac(number),
                w.now,
            );
        };
        known(&world, 1);
        known(&world, 2);
        let send = |world: &mut World, to| {
            let (udp, _) = Ip::new(member_ip(0), member_ip(to)).udp((5000, 9), b"x", Sum::Full);
            let bytes = ethernet(GATEWAY_MAC, member_mac(0), 0x0800, &udp);
            world.counted(|w| assert!(w.send(0, &bytes, PLAIN)))
        };
        assert_eq!(send(&mut world, 1), "received=1 PORT_ISOLATED=1");
        assert!(send(&mut world, 2).contains("routed=1"));
        // Nor while the neighbour is being asked for, or its port is not known.
        world.switch.neighbours().flush(None);
        world.host(0).neighbours.insert(GATEWAY, GATEWAY_MAC);
        let counted = send(&mut world, 1);
        assert!(counted.ends_with("PORT_ISOLATED=1"), "{counted}");
        world.switch.fdb().flush(switch::fdb::Flush::Dynamic);
        world.clear();
        send(&mut world, 1);
        assert!(world.wires[1].hosts[0].inbox.is_empty());
        // Nor is the host, whose kernel may route.
        let host = world.place(Role::Host);
        let (udp, _) = Ip::new(member_ip(0), member_ip(1)).udp((5000, 9), b"x", Sum::Full);
        let bytes = ethernet(member_mac(1), GATEWAY_MAC, 0x0800, &udp);
        let counted = world.counted(|w| assert!(w.send(host, &bytes, PLAIN)));
        assert_eq!(counted, "received=1 HOST_FORWARDED=1");
        world.check();
    }
}

#[test]
fn e_3_isolated_members_reach_gateway_host_outside_and_published_ports() {
    for uplink in [Uplink::Shared, Uplink::Own] {
        for workers in [1, 2, 4] {
            let mut world = world(Setup {
                uplink,
                workers,
                host_port: true,
                ..Setup::default()
            });
            let target = [(member_ip(1), ECHO)];
            let owner = workers - 1;
            let publish = super::publish::publish(nat::Protocol::Udp, 8080..=8080, &target, owner);
            world.publish(vec![publish]);
            world.host(0).ping(GATEWAY, 1, 1, b"gateway");
            world.host(0).udp(GATEWAY, (5001, ECHO), b"host");
            world.host(0).udp(O1, (5002, ECHO), b"outside");
            world.host(0).udp(EXTERNAL, (5003, 8080), b"published");
            world
                .outside(O1)
                .udp(EXTERNAL, (5004, 8080), b"from outside");
            world.settle();
            let mut got: Vec<Vec<u8>> = world
                .host(0)
                .inbox
                .iter()
                .map(|p| p.body().into())
                .collect();
            got.sort();
            let expected: [&[u8]; 4] = [b"gateway", b"host", b"outside", b"published"];
            assert_eq!(got, expected);
            let answer = world.outside(O1).inbox.iter().find(|p| p.ports().1 == 5004);
            assert_eq!(
                answer.map(super::packet::Received::body),
                Some(&b"from outside"[..])
            );
            // And the host reaches them.
            let host = world.place(Role::Host);
            world
                .host(host)
                .udp(member_ip(1), (6000, ECHO), b"from the host");
            world.settle();
            assert_eq!(world.host(host).inbox.pop().unwrap().src, member_ip(1));
            world.check();
        }
    }
}

#[test]
fn e_4_an_internal_network_has_no_way_out_or_in_but_members_and_the_host() {
    let mut world = World::new(Setup {
        uplink: Uplink::None,
        host_port: true,
        ..Setup::default()
    });
    world.greet();
    let counted = world.counted(|w| w.host(0).udp(O1, (5000, 9), b"out"));
    assert!(counted.ends_with("UPLINK_DOWN=1"), "{counted}");
    let told = world.host(0).inbox.pop().unwrap();
    assert_eq!((told.kind(), told.src), ((3, 0), GATEWAY));
    world.host(0).udp(member_ip(1), (5000, ECHO), b"member");
    world.host(0).udp(GATEWAY, (5000, ECHO), b"host");
    world.settle();
    let mut got: Vec<_> = world.host(0).inbox.iter().map(|p| p.src).collect();
    got.sort();
    assert_eq!(got, [GATEWAY, member_ip(1)]);
    // What the host's kernel would route in from elsewhere does not get in either.
    let host = world.place(Role::Host);
    let (udp, _) = Ip::new(O1, member_ip(0)).udp((5000, 9), b"in", Sum::Full);
    let bytes = ethernet(member_mac(0), GATEWAY_MAC, 0x0800, &udp);
    let counted = world.counted(|w| assert!(w.send(host, &bytes, PLAIN)));
    assert_eq!(counted, "received=1 HOST_FORWARDED=1");
    // A claim to the gateway's address is refused as ever.
    let claim = arp(1, (member_mac(0), GATEWAY), (Mac::ZERO, GATEWAY));
    let bytes = ethernet(Mac::BROADCAST, member_mac(0), 0x0806, &claim);
    let counted = world.counted(|w| assert!(w.send(0, &bytes, PLAIN)));
    assert_eq!(counted, "received=1 ARP_INVALID=1");
    world.check();
}
