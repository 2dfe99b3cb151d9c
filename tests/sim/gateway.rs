//! The gateway on its own side: behaviours D, A2-11, and frames for the host.

use nat::Nanos;
use switch::config::Role;
use switch::frame::Offload;
use switch::mac::Mac;
use switch::neigh::{Link, Neighbour};

use super::host::ECHO;
use super::packet::{self, ICMP, Ip, Received, Sum, UDP, arp, ethernet};
use super::world::{
    EXTERNAL, GATEWAY, GATEWAY_MAC, HOST, O1, ROUTER, Setup, UPLINK_MAC, Uplink, World, member_ip,
    member_mac,
};

const PLAIN: Offload = Offload::PLAIN;

/// A packet of member 0 to the gateway's Ethernet address.
fn to_gateway(packet: &[u8]) -> Vec<u8> {
    ethernet(GATEWAY_MAC, member_mac(0), 0x0800, packet)
}

/// Sends a packet of member 0 to the gateway and says what was counted.
fn routed(world: &mut World, packet: &[u8]) -> String {
    let counted = world.counted(|w| assert!(w.send(0, &to_gateway(packet), PLAIN)));
    world.check();
    counted
}

/// The ICMP errors that member 0 got.
fn errors(world: &mut World) -> Vec<(u8, u8)> {
    let inbox = std::mem::take(&mut world.host(0).inbox);
    inbox
        .iter()
        .filter(|p| p.protocol == ICMP)
        .map(Received::kind)
        .collect()
}

#[test]
fn d_1_the_gateway_answers_for_its_own_address_alone() {
    let mut world = World::greeted(Setup::default());
    let mut ask = |target| {
        let packet = arp(1, (member_mac(0), member_ip(0)), (Mac::ZERO, target));
        let bytes = ethernet(Mac::BROADCAST, member_mac(0), 0x0806, &packet);
        let counted = world.counted(|w| assert!(w.send(0, &bytes, PLAIN)));
        (counted, world.frames(0))
    };
    let (counted, frames) = ask(GATEWAY);
    assert_eq!(counted, "received=1 answered=1 copies=1 sent=1");
    let reply = arp(2, (GATEWAY_MAC, GATEWAY), (member_mac(0), member_ip(0)));
    assert_eq!(
        frames,
        [ethernet(member_mac(0), GATEWAY_MAC, 0x0806, &reply)]
    );
    let (counted, frames) = ask(member_ip(100));
    assert_eq!(counted, "received=1 flooded=1 copies=2 sent=2");
    assert!(frames.is_empty());
}

#[test]
fn d_2_echo_is_answered_whole_and_alike() {
    let mut world = World::greeted(Setup::default());
    for len in [0, 1, 8, 1000, 1472] {
        let body: Vec<u8> = (0..=255).cycle().take(len).collect();
        let counted = world.counted(|w| w.host(0).ping(GATEWAY, 9, 3, &body));
        assert_eq!(counted, "received=1 answered=1 copies=1 sent=1");
        let reply = world.host(0).inbox.pop().unwrap();
        assert_eq!((reply.src, reply.kind(), reply.ttl), (GATEWAY, (0, 0), 64));
        assert_eq!(reply.payload[4..8], packet::word(9, 3));
        assert_eq!(reply.body(), body);
    }
    // To a broadcast address nobody answers here.
    for dst in [[10, 9, 0, 255], [255; 4]] {
        let (ping, _) = Ip::new(member_ip(0), dst).ping(1, 1, &[]);
        assert_eq!(routed(&mut world, &ping), "received=1 IP_INVALID_DEST=1");
    }
}

#[test]
fn d_3_frames_wait_for_their_neighbour_and_leave_in_order() {
    let mut world = World::new(Setup::default());
    world.host(0).neighbours.insert(GATEWAY, GATEWAY_MAC);
    world.outside(O1).mute = true;
    for number in 0..5 {
        world.host(0).udp(O1, (5000, 9), &[number]);
    }
    let counted = world.counted(|_| ());
    assert_eq!(counted, "received=5 held=5 originated=1 sent=1");
    world.outside(O1).mute = false;
    world.advance(Nanos::from_millis(1100));
    let got: Vec<u8> = world
        .outside(O1)
        .inbox
        .iter()
        .map(|p| p.body()[0])
        .collect();
    assert_eq!(got, [0, 1, 2, 3, 4]);
    world.check();
}

#[test]
fn d_3_an_answer_at_one_worker_frees_the_frames_of_all_at_once_and_in_order() {
    for seed in 0..20 {
        let mut world = World::new(Setup {
            seed,
            workers: 4,
            members: 6,
            ..Setup::default()
        });
        for place in 0..6 {
            world.host(place).neighbours.insert(GATEWAY, GATEWAY_MAC);
            world.host(place).udp(O1, (5000, 9), &[0]);
        }
        // More follow while the answer is on its way, and after it.
        for number in 1..6 {
            world.step(Nanos::from_micros(10));
            for place in 0..6 {
                world.host(place).udp(O1, (5000, 9), &[number]);
            }
        }
        // No tick helps: all of this takes less than one.
        world.run();
        let mut got = std::collections::BTreeMap::<u16, Vec<u8>>::new();
        for packet in &world.outside(O1).inbox {
            let numbers = got.entry(packet.ports().0).or_default();
            numbers.push(packet.body()[0]);
        }
        assert_eq!(got.len(), 6, "seed {seed}");
        for numbers in got.values() {
            assert_eq!(*numbers, [0, 1, 2, 3, 4, 5], "seed {seed}");
        }
        world.check();
    }
}

#[test]
fn d_3_a_neighbour_that_never_answers_is_reported_within_4_seconds() {
    let mut world = World::new(Setup::default());
    world.host(0).neighbours.insert(GATEWAY, GATEWAY_MAC);
    world.host(0).ask(GATEWAY);
    world.run();
    world.outside(O1).mute = true;
    let (sent, offload) = Ip::new(member_ip(0), O1).udp((5000, 9), b"anyone?", Sum::Full);
    world.host(0).send_packet((sent.clone(), offload));
    world.run();
    world.advance(Nanos::from_millis(2900));
    assert!(errors(&mut world).is_empty());
    world.advance(Nanos::from_millis(600));
    let error = world.host(0).inbox.pop().unwrap();
    assert_eq!((error.kind(), error.src), ((3, 1), GATEWAY));
    assert_eq!(error.body(), sent, "quotes what was sent");
    assert_eq!(world.workers[0].held(), 0);
    // While the failure is remembered, at once; then it is asked for again.
    let counted = world.counted(|w| w.host(0).udp(O1, (5000, 9), &[]));
    assert_eq!(counted, "received=1 originated=1 sent=1 NEIGH_FAILED=1");
    world.advance(Nanos::from_secs(4));
    let counted = world.counted(|w| w.host(0).udp(O1, (5000, 9), &[]));
    assert_eq!(counted, "received=1 held=1 originated=1 sent=1");
    world.check();
}

#[test]
fn d_3_a_queue_for_a_neighbour_is_bounded() {
    let mut world = World::new(Setup::default());
    world.host(0).neighbours.insert(GATEWAY, GATEWAY_MAC);
    world.outside(O1).mute = true;
    let counted = world.counted(|w| {
        for _ in 0..20 {
            w.host(0).udp(O1, (5000, 9), &[]);
        }
    });
    assert_eq!(
        counted,
        "received=20 held=8 originated=1 sent=1 NEIGH_QUEUEFULL=12"
    );
    world.check();
}

#[test]
fn d_4_errors_are_told_to_whom_they_concern_and_to_nobody_else() {
    let mut world = World::greeted(Setup::default());
    let expired = |ip: Ip| Ip { ttl: 1, ..ip };
    let ip = Ip::new(member_ip(0), O1);
    let (udp, _) = expired(ip).udp((1, 2), &[9; 600], Sum::Full);
    assert_eq!(
        routed(&mut world, &udp),
        "received=1 originated=1 sent=1 TTL_EXPIRED=1"
    );
    let error = world.host(0).inbox.pop().unwrap();
    assert_eq!(
        (error.kind(), error.src, error.dst),
        ((11, 0), GATEWAY, member_ip(0))
    );
    assert_eq!(error.body(), &udp[..548], "576 bytes in all");
    // About an ICMP error, a later fragment, and a route that is not there.
    let (about_error, _) = expired(ip).icmp(3, 1, [0; 4], &udp[..28]);
    assert_eq!(routed(&mut world, &about_error), "received=1 TTL_EXPIRED=1");
    let fragment = expired(ip).piece(UDP, &[0; 16], 8, false);
    assert_eq!(routed(&mut world, &fragment), "received=1 TTL_EXPIRED=1");
    let (nowhere, _) = Ip::new(member_ip(0), [8, 8, 8, 8]).udp((1, 2), &[], Sum::Full);
    assert_eq!(
        routed(&mut world, &nowhere),
        "received=1 originated=1 sent=1 NO_ROUTE=1"
    );
    assert_eq!(errors(&mut world), [(3, 0)]);
}

#[test]
fn d_4_no_source_that_cannot_be_answered() {
    let mut world = World::greeted(Setup::default());
    for src in [
        [0; 4],
        [127, 0, 0, 1],
        [10, 9, 0, 255],
        [10, 9, 0, 1],
        [10, 8, 0, 2],
        [224, 0, 0, 1],
    ] {
        let (udp, _) = Ip {
            ttl: 1,
            ..Ip::new(src, O1)
        }
        .udp((1, 2), &[], Sum::Full);
        assert_eq!(
            routed(&mut world, &udp),
            "received=1 IP_INVALID_SOURCE=1",
            "{src:?}"
        );
    }
}

#[test]
fn d_5_errors_come_at_a_bounded_rate() {
    let mut world = World::greeted(Setup::default());
    let ip = Ip {
        ttl: 1,
        ..Ip::new(member_ip(0), O1)
    };
    let (udp, _) = ip.udp((1, 2), &[], Sum::Full);
    for _ in 0..500 {
        assert!(world.send(0, &to_gateway(&udp), PLAIN));
    }
    world.run();
    assert_eq!(errors(&mut world).len(), 6, "to one host");
    // Packets nobody may be told about cost nothing, and another host has a rate of its own.
    let fragment = ip.piece(UDP, &[0; 16], 8, false);
    for _ in 0..100 {
        assert!(world.send(0, &to_gateway(&fragment), PLAIN));
    }
    let other = Ip {
        src: member_ip(1),
        ..ip
    };
    let (other, _) = other.udp((1, 2), &[], Sum::Full);
    assert!(world.send(
        1,
        &ethernet(GATEWAY_MAC, member_mac(1), 0x0800, &other),
        PLAIN
    ));
    world.run();
    assert_eq!(world.host(1).inbox.pop().map(|p| p.kind()), Some((11, 0)));
    world.advance(Nanos::from_secs(1));
    assert!(world.send(0, &to_gateway(&udp), PLAIN));
    world.run();
    assert_eq!(errors(&mut world), [(11, 0)]);
    world.check();
}

#[test]
fn d_6_redirects_and_source_routes_are_refused() {
    let mut world = World::greeted(Setup::default());
    let (redirect, _) = Ip::new(member_ip(0), O1).icmp(5, 1, [10, 9, 0, 9], &[0; 28]);
    assert_eq!(routed(&mut world, &redirect), "received=1 NAT_ICMP=1");
    let (mut udp, _) = Ip::new(member_ip(0), O1).udp((1, 2), &[], Sum::Full);
    udp.splice(20..20, [131, 7, 4, 1, 2, 3, 4, 0]);
    (udp[0], udp[3]) = (0x47, udp[3] + 8);
    udp[10..12].fill(0);
    let sum = !packet::fold(packet::sum16(&udp[..28]));
    udp[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(routed(&mut world, &udp), "received=1 IP_SOURCE_ROUTE=1");
    udp[20] = 1;
    assert_eq!(routed(&mut world, &udp), "received=1 IP_CSUM=1");
}

#[test]
fn d_7_without_a_host_port_the_gateways_ports_are_refused_at_once() {
    let mut world = World::greeted(Setup::default());
    let counted = world.counted(|w| w.host(0).udp(GATEWAY, (5000, 9), b"hello"));
    assert_eq!(counted, "received=1 originated=1 sent=1 NO_HOST_PORT=1");
    assert_eq!(errors(&mut world), [(3, 3)]);
}

#[test]
fn a0_12_the_host_is_reached_by_its_port_and_reaches_members() {
    for uplink in [Uplink::Shared, Uplink::Own, Uplink::None] {
        let mut world = World::greeted(Setup {
            host_port: true,
            uplink,
            ..Setup::default()
        });
        let host = world.place(Role::Host);
        let mut targets = vec![GATEWAY, HOST];
        // Beyond the NAT ports the shared address is the host's.
        targets.extend((uplink == Uplink::Shared).then_some(EXTERNAL));
        for target in targets {
            world.host(0).udp(target, (5000, ECHO), b"to the host");
            world.run();
            let reply = world.host(0).inbox.pop().unwrap();
            assert_eq!((reply.src, reply.body()), (target, &b"to the host"[..]));
        }
        world
            .host(host)
            .udp(member_ip(1), (6000, ECHO), b"from the host");
        world.settle();
        let reply = world.host(host).inbox.pop().unwrap();
        assert_eq!(
            (reply.src, reply.body()),
            (member_ip(1), &b"from the host"[..])
        );
        world.check();
    }
}

#[test]
fn a0_12_fragments_for_the_host_come_to_the_host() {
    use super::host::Order::{Reversed, Straight};
    let mut world = World::greeted(Setup {
        host_port: true,
        ..Setup::default()
    });
    let host = world.place(Role::Host);
    let data = [3; 4000];
    for (target, order) in [
        (GATEWAY, Straight),
        (GATEWAY, Reversed),
        (EXTERNAL, Straight),
        (EXTERNAL, Reversed),
    ] {
        world
            .host(0)
            .udp_fragments(target, (5000, 9), &data, (1500, order));
        world.run();
        let got = world.host(host).inbox.pop();
        assert_eq!(got.unwrap().body(), data, "{target} {order:?}");
    }
    world.check();
}

#[test]
fn a2_11_each_hop_costs_one_of_the_time_to_live() {
    let mut world = World::greeted(Setup::default());
    for (ttl, there) in [(64, Some(63)), (2, Some(1)), (1, None), (0, None)] {
        for dst in [O1, member_ip(1)] {
            let ip = Ip {
                ttl,
                ..Ip::new(member_ip(0), dst)
            };
            let (udp, _) = ip.udp((5000, 9), &[], Sum::Full);
            assert!(world.send(0, &to_gateway(&udp), PLAIN));
            world.run();
            let inbox = if dst == O1 {
                &mut world.outside(O1).inbox
            } else {
                &mut world.host(1).inbox
            };
            assert_eq!(inbox.pop().map(|p| p.ttl), there);
            let told = if there.is_none() {
                vec![(11, 0)]
            } else {
                Vec::new()
            };
            assert_eq!(errors(&mut world), told);
        }
    }
    // From outside too: there the external address tells.
    let external = world.workers[0].nat_report(world.now).sessions[0]
        .external
        .1;
    world.outside(O1).udp(EXTERNAL, (9, external), &[]);
    world.run();
    let reply = world.host(0).inbox.pop().unwrap();
    assert_eq!(reply.ttl, 63);
    let ip = Ip {
        ttl: 1,
        ..Ip::new(O1, EXTERNAL)
    };
    let raw = ip.udp((9, external), &[], Sum::Full);
    world.outside(O1).send_packet(raw.clone());
    world.run();
    let error = world.outside(O1).inbox.pop().unwrap();
    assert_eq!((error.kind(), error.src), ((11, 0), EXTERNAL));
    assert_eq!(error.body(), raw.0, "quoted as it came");
    world.check();
}

#[test]
fn a0_11_the_uplink_is_no_bridge_port() {
    let mut world = World::greeted(Setup::default());
    let place = world.place(Role::Uplink);
    let bytes = ethernet(Mac::BROADCAST, member_mac(0), 0x9999, &[0; 46]);
    let counted = world.counted(|w| assert!(w.send(0, &bytes, PLAIN)));
    assert_eq!(counted, "received=1 flooded=1 copies=2 sent=2");
    assert!(world.taken(place).is_empty());
    for to in [Mac::BROADCAST, member_mac(0)] {
        let bytes = ethernet(to, Mac::local(0xee01), 0x9999, &[0; 46]);
        let counted = world.counted(|w| assert!(w.send(place, &bytes, PLAIN)));
        assert_eq!(counted, "received=1 OTHERHOST=1");
    }
    let bytes = ethernet(UPLINK_MAC, Mac::local(0xee01), 0x9999, &[0; 46]);
    let counted = world.counted(|w| assert!(w.send(place, &bytes, PLAIN)));
    assert_eq!(counted, "received=1 UNHANDLED_PROTO=1");
}

#[test]
fn b_23_a_member_made_anew_is_reached_by_its_first_word() {
    let mut world = World::greeted(Setup::default());
    world.host(0).udp(O1, (5000, ECHO), b"before");
    world.run();
    let place = world.add_port(Role::Member, 1500, true);
    world.obey();
    world.host(0).mute = true;
    // The same address on another port, with another Ethernet address.
    let mac = Mac::local(0x4242);
    let packet = arp(1, (mac, member_ip(0)), (Mac::ZERO, member_ip(0)));
    let bytes = ethernet(Mac::BROADCAST, mac, 0x0806, &packet);
    assert!(world.send(place, &bytes, PLAIN));
    world.run();
    world.clear();
    let external = world.workers[0].nat_report(world.now).sessions[0]
        .external
        .1;
    world.outside(O1).udp(EXTERNAL, (ECHO, external), b"after");
    world.run();
    let frames = world.frames(place);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0][..6], mac.0);
    world.check();
}

#[test]
fn an_own_address_answers_arp_and_echo_and_defends_itself() {
    let mut world = World::new(Setup {
        uplink: Uplink::Own,
        ..Setup::default()
    });
    let place = world.place(Role::Uplink);
    world.outside(O1).ping(EXTERNAL, 5, 1, b"hello");
    world.settle();
    let reply = world.outside(O1).inbox.pop().unwrap();
    assert_eq!(
        (reply.src, reply.kind(), reply.body()),
        (EXTERNAL, (0, 0), &b"hello"[..])
    );
    let known = world
        .switch
        .neighbours()
        .lookup(Link::Uplink, O1, world.now);
    assert_eq!(known, Neighbour::Known(world.outside(O1).mac));
    world.clear();
    let thief = Mac::local(0xbad);
    let packet = arp(1, (thief, EXTERNAL), (Mac::ZERO, EXTERNAL));
    let bytes = ethernet(Mac::BROADCAST, thief, 0x0806, &packet);
    let counted = world.counted(|w| assert!(w.send(place, &bytes, PLAIN)));
    assert_eq!(counted, "received=1 ARP_INVALID=1");
    // From a member too, and its own echo comes back to it.
    world.greet();
    world.host(0).ping(EXTERNAL, 6, 1, b"inside");
    world.run();
    assert_eq!(world.host(0).inbox.pop().unwrap().body(), b"inside");
    world.check();
}

#[test]
fn a_shared_address_leaves_arp_and_echo_to_the_host() {
    let mut world = World::new(Setup::default());
    world.outside(O1).ping(EXTERNAL, 5, 1, b"hello");
    world.run();
    assert_eq!(
        world.drops().get("HOST_TRAFFIC"),
        Some(&1),
        "the ARP request"
    );
    world.outside(O1).neighbours.insert(EXTERNAL, UPLINK_MAC);
    let place = world.place(Role::Uplink);
    let (ping, _) = Ip::new(O1, EXTERNAL).ping(1, 1, &[]);
    let bytes = ethernet(UPLINK_MAC, Mac::local(0xee01), 0x0800, &ping);
    let counted = world.counted(|w| assert!(w.send(place, &bytes, PLAIN)));
    assert_eq!(counted, "received=1 HOST_TRAFFIC=1");
    assert!(world.taken(place).is_empty());
}

#[test]
fn without_nat_packets_are_routed_both_ways_unchanged() {
    let mut world = World::greeted(Setup {
        uplink: Uplink::Routed,
        workers: 2,
        ..Setup::default()
    });
    world.host(0).udp(O1, (5000, ECHO), b"routed");
    world.settle();
    let there = world.outside(O1).inbox.pop().unwrap();
    assert_eq!(
        (there.src, there.ports(), there.ttl),
        (member_ip(0), (5000, ECHO), 63)
    );
    let back = world.host(0).inbox.pop().unwrap();
    assert_eq!((back.src, back.body()), (O1, &b"routed"[..]));
    // The uplink's own address is the host's, from either side; nothing is sent to ourselves.
    let (ping, _) = Ip::new(member_ip(0), EXTERNAL).ping(1, 1, &[]);
    let counted = routed(&mut world, &ping);
    assert!(
        counted.starts_with("received=1 ") && !counted.contains("routed"),
        "{counted}"
    );
    world.check();
}

#[test]
fn an_uplink_that_is_down_or_gone_is_reported() {
    let mut world = World::greeted(Setup::default());
    let (udp, _) = Ip::new(member_ip(0), ROUTER).udp((1, 2), &[], Sum::Full);
    let place = world.place(Role::Uplink);
    world.update(|view| view.ports[place].as_mut().unwrap().up = false);
    let counted = "received=1 originated=1 sent=1 UPLINK_DOWN=1";
    assert_eq!(routed(&mut world, &udp), counted);
    world.update(|view| view.uplink = None);
    assert_eq!(routed(&mut world, &udp), counted);
    assert_eq!(errors(&mut world), [(3, 0), (3, 0)]);
}
