//! Several external addresses: behaviour A1-2, and ARP, echo and hairpin on all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use switch::config::Role;
use switch::frame::Offload;
use switch::mac::Mac;

use super::host::ECHO;
use super::packet::{arp, ethernet};
use super::world::{EXTERNAL, FAR, O1, O2, Setup, Steering, UPLINK_MAC, Uplink, World, member_ip};

const SECOND: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 253);
const THIRD: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 252);

fn worlds(uplink: Uplink) -> impl Iterator<Item = World> {
    let ways = [
        (1, Steering::Right),
        (2, Steering::Wrong),
        (4, Steering::Right),
        (4, Steering::Wrong),
    ];
    ways.into_iter().map(move |(workers, steering)| {
        let mut world = World::new(Setup {
            uplink,
            workers,
            steering,
            members: 8,
            pool: vec![SECOND, THIRD],
            ..Setup::default()
        });
        world.greet();
        world
    })
}

/// The external endpoint of each member's port 5000, which speaks to all the world.
fn mapped(world: &mut World) -> BTreeMap<usize, (Ipv4Addr, u16)> {
    let mut mapped = BTreeMap::new();
    for place in 0..8 {
        for dst in [O1, O2, FAR] {
            for port in [5000, 5001, 5002] {
                let number = u8::try_from(place).unwrap();
                world.host(place).udp(dst, (port, 9), &[number]);
            }
        }
    }
    world.settle();
    let mut addresses: BTreeMap<u8, BTreeSet<Ipv4Addr>> = BTreeMap::new();
    for dst in [O1, O2, FAR] {
        for packet in std::mem::take(&mut world.outside(dst).inbox) {
            let number = packet.body()[0];
            addresses.entry(number).or_default().insert(packet.src);
        }
    }
    assert_eq!(addresses.len(), 8);
    assert!(
        addresses.values().all(|of| of.len() == 1),
        "paired: {addresses:?}"
    );
    for worker in &world.workers {
        for session in worker.nat_report(world.now).sessions {
            if session.inside.1 == 5000 {
                let place = usize::from(session.inside.0.octets()[3]) - 2;
                mapped.insert(place, session.external);
            }
        }
    }
    mapped
}

#[test]
fn a1_2_a_member_keeps_one_address_of_several_and_is_answered_there_only() {
    for uplink in [Uplink::Shared, Uplink::Own] {
        for mut world in worlds(uplink) {
            let mapped = mapped(&mut world);
            let used: BTreeSet<Ipv4Addr> = mapped.values().map(|(address, _)| *address).collect();
            assert!(used.len() > 1, "eight members share {used:?}");
            world.clear();
            for (place, (address, port)) in mapped {
                world.outside(O1).udp(address, (9, port), b"back");
                world.settle();
                assert_eq!(world.host(place).inbox.pop().unwrap().body(), b"back");
                let others = world.externals();
                for other in others.into_iter().filter(|other| *other != address) {
                    world.outside(O1).udp(other, (9, port), b"wrong address");
                }
                world.settle();
                assert!(world.host(place).inbox.is_empty());
            }
            world.check();
        }
    }
}

#[test]
fn a1_9_members_on_different_addresses_reach_each_other_by_them() {
    for mut world in worlds(Uplink::Shared) {
        let mapped = mapped(&mut world);
        world.clear();
        for (place, (address, port)) in &mapped {
            let client = (place + 1) % 8;
            world.host(client).udp(*address, (6000, *port), b"hairpin");
            world.settle();
            let got = world.host(*place).inbox.pop().unwrap();
            assert_eq!((got.src, got.body()), (mapped[&client].0, &b"hairpin"[..]));
            world
                .host(*place)
                .udp(got.src, (5000, got.ports().0), b"and back");
            world.settle();
            let back = world.host(client).inbox.pop().unwrap();
            assert_eq!((back.src, back.ports()), (*address, (*port, 6000)));
        }
        world.check();
    }
}

#[test]
fn d_1_every_address_of_the_pool_answers_arp_and_echo_and_is_defended() {
    for uplink in [Uplink::Shared, Uplink::Own] {
        for mut world in worlds(uplink) {
            let place = world.place(Role::Uplink);
            for address in [SECOND, THIRD] {
                world.outside(O1).neighbours.remove(&address);
                world.outside(O1).ping(address, 5, 1, b"hello");
                world.settle();
                assert_eq!(world.outside(O1).neighbours[&address], UPLINK_MAC);
                let reply = world.outside(O1).inbox.pop().unwrap();
                assert_eq!((reply.src, reply.kind()), (address, (0, 0)));
                // From inside too.
                world.host(0).ping(address, 6, 1, b"inside");
                world.settle();
                let reply = world.host(0).inbox.pop().unwrap();
                assert_eq!((reply.src, reply.body()), (address, &b"inside"[..]));
                let thief = Mac::local(0xbad);
                let claim = arp(1, (thief, address), (Mac::ZERO, address));
                let bytes = ethernet(Mac::BROADCAST, thief, 0x0806, &claim);
                let counted = world.counted(|w| assert!(w.send(place, &bytes, Offload::PLAIN)));
                assert_eq!(counted, "received=1 ARP_INVALID=1");
            }
            world.check();
        }
    }
}

#[test]
fn d_1_the_addresses_that_are_the_switchs_own_are_announced_at_start() {
    for (uplink, own) in [
        (Uplink::Shared, vec![SECOND, THIRD]),
        (Uplink::Own, vec![EXTERNAL, SECOND, THIRD]),
    ] {
        let mut world = worlds(uplink).next().unwrap();
        let place = world.place(Role::Uplink);
        world.switch.announce();
        world.obey();
        world.run();
        let expected: Vec<Vec<u8>> = own
            .into_iter()
            .map(|address| {
                let claim = arp(1, (UPLINK_MAC, address), (Mac::ZERO, address));
                ethernet(Mac::BROADCAST, UPLINK_MAC, 0x0806, &claim)
            })
            .collect();
        let frames = world.frames(place);
        let starts = frames.iter().zip(&expected);
        assert!(
            starts
                .clone()
                .all(|(frame, claim)| frame.starts_with(claim))
        );
        assert_eq!(frames.len(), expected.len());
    }
}

#[test]
fn an_address_that_leaves_the_pool_takes_its_sessions_along_and_the_others_serve_on() {
    for mut world in worlds(Uplink::Own) {
        let _ = mapped(&mut world);
        world.setup.pool = vec![THIRD];
        world.update(|view| view.uplink.as_mut().unwrap().pool = vec![THIRD]);
        for worker in &world.workers {
            let mut sessions = worker.nat_report(world.now).sessions.into_iter();
            assert!(sessions.all(|session| session.external.0 != SECOND));
        }
        world.clear();
        // Nobody has the address that went.
        let place = world.place(Role::Uplink);
        let ask = arp(1, (Mac::local(0xee01), O1), (Mac::ZERO, SECOND));
        let bytes = ethernet(Mac::BROADCAST, Mac::local(0xee01), 0x0806, &ask);
        let counted = world.counted(|w| assert!(w.send(place, &bytes, Offload::PLAIN)));
        assert_eq!(counted, "received=1 OTHERHOST=1");
        for member in 0..8 {
            world.host(member).udp(O1, (5000, ECHO), b"again");
        }
        world.settle();
        for member in 0..8u16 {
            let got = world.host(member.into()).inbox.pop();
            assert_eq!(got.unwrap().dst, member_ip(member));
        }
        world.check();
    }
}
