//! Translation: behaviours A1, A3, A5, with one worker and with several.

use std::net::Ipv4Addr;

use nat::{Nanos, SessionView};
use switch::config::Role;

use super::host::{ECHO, Flavour, Order};
use super::packet::{ICMP, Ip, Received, Sum, TCP, UDP, u16_at};
use super::world::{
    EXTERNAL, FAR, O1, O2, ROUTER, Setup, Steering, Uplink, World, member_ip, uplink_view,
};

/// Every way a world can be steered, greeted.
fn worlds(setup: &Setup) -> Vec<World> {
    let ways = [
        (1, Steering::Right),
        (2, Steering::Right),
        (2, Steering::Wrong),
        (4, Steering::Wrong),
    ];
    let make = |(workers, steering)| {
        let mut world = World::new(Setup {
            workers,
            steering,
            members: 5,
            ..setup.clone()
        });
        world.greet();
        world
    };
    ways.map(make).into()
}

fn sessions(world: &World) -> Vec<SessionView> {
    let reports = world
        .workers
        .iter()
        .map(|w| w.nat_report(world.now).sessions);
    reports.flatten().collect()
}

/// The external endpoint of the only session of an inside port.
fn external(world: &World, inside: (Ipv4Addr, u16)) -> u16 {
    let sessions = sessions(world);
    let mut ports: Vec<u16> = sessions
        .iter()
        .filter(|session| session.inside == inside)
        .map(|session| session.external.1)
        .collect();
    ports.dedup();
    assert_eq!(ports.len(), 1, "{sessions:?}");
    ports[0]
}

fn inbox(world: &mut World, address: Ipv4Addr) -> Vec<Received> {
    std::mem::take(&mut world.outside(address).inbox)
}

#[test]
fn a1_1_one_mapping_for_every_destination() {
    for mut world in worlds(&Setup::default()) {
        for dst in [O1, O2, FAR] {
            world.host(0).udp(dst, (5555, ECHO), b"same");
            world.host(1).udp(dst, (5555, ECHO), b"same");
        }
        world.settle();
        let (first, second) = (
            external(&world, (member_ip(0), 5555)),
            external(&world, (member_ip(1), 5555)),
        );
        assert_ne!(first, second, "A1-3: two hosts never share a port");
        for dst in [O1, O2, FAR] {
            let mut seen: Vec<u16> = inbox(&mut world, dst).iter().map(|p| p.ports().0).collect();
            seen.sort_unstable();
            let mut expected = [first, second];
            expected.sort_unstable();
            assert_eq!(seen, expected);
        }
        for member in [0, 1] {
            let got = std::mem::take(&mut world.host(member).inbox);
            let mut from: Vec<Ipv4Addr> = got.iter().map(|p| p.src).collect();
            from.sort_unstable();
            assert_eq!(from, [FAR, O1, O2]);
        }
        world.check();
    }
}

#[test]
fn a1_2_a_host_keeps_its_one_external_address() {
    for mut world in worlds(&Setup::default()) {
        for port in 0..50 {
            world.host(0).udp(O1, (6000 + port, 9), b"x");
        }
        world.settle();
        let got = inbox(&mut world, O1);
        assert_eq!(got.len(), 50);
        assert!(got.iter().all(|packet| packet.src == EXTERNAL));
    }
}

#[test]
fn a1_3_a_port_in_the_range_is_kept_and_its_class_too() {
    let mut world = World::new(Setup::default());
    world.greet();
    world.host(0).udp(O1, (40_123, 9), b"kept");
    world.host(1).udp(O2, (40_123, 9), b"taken");
    world.host(0).udp(O1, (80, 9), b"no low port is ours");
    world.settle();
    assert_eq!(external(&world, (member_ip(0), 40_123)), 40_123);
    assert_ne!(external(&world, (member_ip(1), 40_123)), 40_123);
    world.check();
}

#[test]
fn a1_8_only_whom_one_spoke_to_may_answer() {
    for mut world in worlds(&Setup::default()) {
        world.host(0).udp(O1, (5000, 9), b"hello");
        world.settle();
        let port = external(&world, (member_ip(0), 5000));
        let counted = world.counted(|w| {
            w.outside(O2).udp(EXTERNAL, (9, port), b"a stranger");
            w.outside(O1).udp(EXTERNAL, (10, port), b"another port");
        });
        assert!(counted.contains("NAT_UNSOLICITED=2"), "{counted}");
        world.outside(O1).udp(EXTERNAL, (9, port), b"an answer");
        world.settle();
        let got = std::mem::take(&mut world.host(0).inbox);
        assert_eq!(got.len(), 1);
        assert_eq!(got[0].body(), b"an answer");
        world.check();
    }
}

#[test]
fn a1_9_hairpin_by_the_external_address_with_the_external_source() {
    for uplink in [Uplink::Shared, Uplink::Own] {
        let setup = Setup {
            uplink,
            host_port: true,
            ..Setup::default()
        };
        for mut world in worlds(&setup) {
            // Members 0 and 1 are on different workers where there are several.
            world.host(1).udp(O1, (ECHO, 9), b"open");
            world.settle();
            let port = external(&world, (member_ip(1), ECHO));
            world.clear();
            world.host(0).udp(EXTERNAL, (5000, port), b"round");
            world.settle();
            let there = world.host(1).inbox.pop().unwrap();
            assert_eq!((there.src, there.ttl), (EXTERNAL, 63), "one hop, not two");
            let back = world.host(0).inbox.pop().unwrap();
            assert_eq!((back.src, back.ports().0), (EXTERNAL, port));
            assert_eq!(back.body(), b"round");
            // To itself too.
            world.host(1).udp(EXTERNAL, (6000, port), b"self");
            world.run();
            assert!(world.host(1).inbox.iter().any(|p| p.body() == b"self"));
            world.check();
        }
    }
}

#[test]
fn a1_9_hairpin_fragments_follow_in_any_order() {
    for uplink in [Uplink::Shared, Uplink::Own] {
        let setup = Setup {
            uplink,
            host_port: true,
            ..Setup::default()
        };
        for order in [Order::Straight, Order::Reversed, Order::Shuffled] {
            for mut world in worlds(&setup) {
                world.host(1).udp(O1, (9, 9), b"open");
                world.settle();
                let port = external(&world, (member_ip(1), 9));
                world.clear();
                let data: Vec<u8> = (0..=255).cycle().take(5000).collect();
                world
                    .host(0)
                    .udp_fragments(EXTERNAL, (5000, port), &data, (1500, order));
                world.settle();
                let got = world.host(1).inbox.pop();
                assert_eq!(got.unwrap().body(), data, "{uplink:?} {order:?}");
                world.check();
            }
        }
    }
}

#[test]
fn a1_12_an_error_from_a_third_address_comes_through_and_ends_nothing() {
    for mut world in worlds(&Setup::default()) {
        world.host(0).udp(FAR, (5000, 9), b"far");
        world.settle();
        let sent = inbox(&mut world, FAR).pop().unwrap();
        let quote = Ip {
            ttl: sent.ttl,
            id: sent.id,
            ..Ip::new(sent.src, sent.dst)
        }
        .packet(UDP, &sent.payload);
        for _ in 0..2 {
            let raw = Ip::new(ROUTER, EXTERNAL).icmp(3, 1, [0; 4], &quote);
            world.outside(ROUTER).send_packet(raw);
            world.settle();
            let error = world.host(0).inbox.pop().unwrap();
            assert_eq!((error.src, error.kind()), (ROUTER, (3, 1)));
            let inner = Received::parse(error.body());
            assert_eq!((inner.src, inner.ports()), (member_ip(0), (5000, 9)));
        }
        let port = external(&world, (member_ip(0), 5000));
        let raw = Ip::new(FAR, EXTERNAL).udp((9, port), b"still there", Sum::Full);
        world.outside(FAR).send_packet(raw);
        world.settle();
        assert_eq!(world.host(0).inbox.pop().unwrap().body(), b"still there");
        world.check();
    }
}

#[test]
fn a1_15_udp_without_a_checksum_stays_without_and_zero_is_sent_as_ffff() {
    let mut world = World::new(Setup::default());
    world.greet();
    let raw = Ip::new(member_ip(0), O1).udp((5000, 9), b"none", Sum::Absent);
    world.host(0).send_packet(raw);
    world.settle();
    assert_eq!(u16_at(&inbox(&mut world, O1).pop().unwrap().payload, 6), 0);
    // Every payload word once: one of them makes the sum zero, before or after translation. The
    // receiver's host checks that the checksum is right, here that it is there.
    for word in (0..=u16::MAX).step_by(61) {
        let raw = Ip::new(member_ip(0), O1).udp((5000, 9), &word.to_be_bytes(), Sum::Full);
        world.host(0).send_packet(raw);
        if word % 8 == 0 {
            world.run();
        }
    }
    world.settle();
    let got = inbox(&mut world, O1);
    assert_eq!(got.len(), 1075);
    assert!(got.iter().all(|p| u16_at(&p.payload, 6) != 0));
    world.check();
}

#[test]
fn a0_4_unfinished_checksums_come_through_translation_both_ways() {
    for flavour in [Flavour::Plain, Flavour::Partial, Flavour::Gso] {
        for mut world in worlds(&Setup::default()) {
            let data: Vec<u8> = (0..=250).cycle().take(60_000).collect();
            for place in 0..2 {
                world.host(place).flavour = flavour;
            }
            world.outside(O1).flavour = flavour;
            world.outside(O1).listen(80, data.clone());
            world.host(0).connect(O1, (5000, 80), data.clone());
            world.host(1).udp(O1, (5000, ECHO), b"partial");
            world.settle();
            assert_eq!(world.host(0).streams[0].received, data);
            assert_eq!(world.outside(O1).streams[0].received, data);
            assert_eq!(world.host(1).inbox[0].body(), b"partial");
            world.check();
        }
    }
}

#[test]
fn a0_8_a_wrong_checksum_stays_wrong_and_unmarked() {
    let mut world = World::new(Setup::default());
    world.greet();
    world.host(0).udp(O1, (5000, 9), b"hello");
    world.settle();
    let port = external(&world, (member_ip(0), 5000));
    let (mut packet, offload) = Ip::new(O1, EXTERNAL).udp((9, port), b"corrupt", Sum::Full);
    packet[26] ^= 0x12;
    // Its host would refuse it: nobody is there to look.
    world.host(0).mute = true;
    world.clear();
    world.outside(O1).send_packet((packet, offload));
    world.run();
    let frame = world.taken(0).pop().unwrap();
    assert_eq!(frame.offload, switch::frame::Offload::PLAIN);
    let got = Received::parse(&frame.bytes()[14..]);
    let judged = std::panic::catch_unwind(|| got.verify_transport());
    assert!(judged.is_err(), "still wrong");
}

#[test]
fn a3_1_two_hosts_ping_with_the_same_identifier() {
    for uplink in [Uplink::Shared, Uplink::Own] {
        let setup = Setup {
            uplink,
            ..Setup::default()
        };
        for mut world in worlds(&setup) {
            for seq in 0..5 {
                for member in 0..5 {
                    let body = [u8::try_from(member).unwrap(); 40];
                    world.host(member).ping(O1, 77, seq, &body);
                }
            }
            world.settle();
            for member in 0..5 {
                let got = std::mem::take(&mut world.host(member).inbox);
                let body = [u8::try_from(member).unwrap(); 40];
                let seqs: Vec<u16> = got.iter().map(|p| u16_at(&p.payload, 6)).collect();
                assert_eq!(seqs, [0, 1, 2, 3, 4]);
                assert!(
                    got.iter()
                        .all(|p| u16_at(&p.payload, 4) == 77 && p.body() == body)
                );
            }
            world.check();
        }
    }
}

#[test]
fn a3_2_a_damaged_error_is_dropped_and_a_damaged_quote_of_data_is_not() {
    let mut world = World::new(Setup::default());
    world.greet();
    world.host(0).udp(O1, (5000, 9), b"hello");
    world.settle();
    let sent = inbox(&mut world, O1).pop().unwrap();
    let ip = Ip {
        ttl: sent.ttl,
        id: sent.id,
        ..Ip::new(sent.src, sent.dst)
    };
    let quote = ip.packet(UDP, &sent.payload);
    let mut wrong_inner = quote.clone();
    wrong_inner[10] ^= 1;
    let mut wrong_data = quote.clone();
    wrong_data[26] ^= 1;
    let (mut wrong_outer, offload) = Ip::new(O1, EXTERNAL).icmp(3, 3, [0; 4], &quote);
    wrong_outer[22] ^= 1;
    let error = |quote: &[u8]| Ip::new(O1, EXTERNAL).icmp(3, 3, [0; 4], quote);
    for (raw, dropped) in [
        ((wrong_outer, offload), true),
        (error(&wrong_inner), true),
        (error(&wrong_data), false),
        (error(&quote), false),
    ] {
        let counted = world.counted(|w| w.outside(O1).send_packet(raw));
        assert_eq!(counted.contains("ICMP_CSUM=1"), dropped, "{counted}");
        assert_eq!(world.host(0).inbox.pop().is_some(), !dropped);
    }
    world.check();
}

#[test]
fn a3_3_an_error_is_translated_in_both_layers_or_dropped_silently() {
    for mut world in worlds(&Setup::default()) {
        world.host(0).flavour = Flavour::Partial;
        world.host(0).udp(O1, (5000, 9), b"closed");
        world.settle();
        let sent = inbox(&mut world, O1).pop().unwrap();
        let ip = Ip {
            ttl: sent.ttl,
            id: sent.id,
            ..Ip::new(sent.src, sent.dst)
        };
        let error = Ip::new(O1, EXTERNAL).icmp(3, 3, [0; 4], &ip.packet(UDP, &sent.payload));
        world.outside(O1).send_packet(error);
        world.settle();
        let got = world.host(0).inbox.pop().unwrap();
        let inner = Received::parse(got.body());
        assert_eq!((inner.src, inner.ports()), (member_ip(0), (5000, 9)));
        inner.verify_transport();
        // About a packet that nobody sent.
        let mut foreign = sent.payload.clone();
        foreign[0..2].copy_from_slice(&40_900u16.to_be_bytes());
        let error = Ip::new(O1, EXTERNAL).icmp(3, 3, [0; 4], &ip.packet(UDP, &foreign));
        let counted = world.counted(|w| w.outside(O1).send_packet(error));
        assert!(counted.contains("NAT_ICMP=1"), "{counted}");
        world.check();
    }
}

#[test]
fn a3_4_an_error_from_inside_is_about_the_packet_that_came() {
    for mut world in worlds(&Setup::default()) {
        world.host(0).udp(O1, (5000, 9), b"hello");
        world.settle();
        let port = external(&world, (member_ip(0), 5000));
        world.clear();
        world.outside(O1).udp(EXTERNAL, (9, port), b"answer");
        world.settle();
        let got = world.host(0).inbox.pop().unwrap();
        let ip = Ip {
            ttl: got.ttl,
            id: got.id,
            ..Ip::new(got.src, got.dst)
        };
        let quote = ip.packet(UDP, &got.payload);
        let error = Ip::new(member_ip(0), O1).icmp(3, 3, [0; 4], &quote);
        world.host(0).send_packet(error);
        world.settle();
        let error = inbox(&mut world, O1).pop().unwrap();
        assert_eq!((error.src, error.kind()), (EXTERNAL, (3, 3)));
        let inner = Received::parse(error.body());
        assert_eq!((inner.src, inner.dst), (O1, EXTERNAL));
        assert_eq!(inner.ports(), (9, port));
        inner.verify_transport();
        world.check();
    }
}

#[test]
fn a3_7_want_of_ports_is_told_and_live_ones_stay() {
    let mut world = World::new(Setup {
        nat_ports: 40_000..=40_063,
        members: 10,
        ..Setup::default()
    });
    world.greet();
    for number in 0..64 {
        world.host(0).udp(O1, (5000 + number, ECHO), b"live");
        world.run();
    }
    world.clear();
    let counted = world.counted(|w| w.host(1).udp(O1, (5000, ECHO), b"one more"));
    assert_eq!(
        counted,
        "received=1 originated=1 sent=1 NAT_PORTS_EXHAUSTED=1"
    );
    let error = world.host(1).inbox.pop().unwrap();
    assert_eq!(error.kind(), (3, 13));
    assert_eq!(
        Received::parse(error.body()).src,
        member_ip(1),
        "untranslated"
    );
    world.host(0).udp(O1, (5063, ECHO), b"still");
    world.settle();
    assert_eq!(world.host(0).inbox.pop().unwrap().body(), b"still");
    world.check();
}

#[test]
fn a4_11_a_change_of_the_external_address_ends_all_sessions() {
    for mut world in worlds(&Setup::default()) {
        for member in 0..5 {
            world.host(member).udp(O1, (5000, ECHO), b"before");
        }
        world.settle();
        assert_eq!(sessions(&world).len(), 5);
        let new = Ipv4Addr::new(203, 0, 113, 99);
        let port = world.wires[world.place(Role::Uplink)].index;
        let view = uplink_view(port, &world.setup);
        world.update(|v| {
            v.uplink = Some(switch::config::UplinkView {
                address: new,
                ..view
            });
        });
        assert_eq!(sessions(&world).len(), 0);
        world.external = new;
        world.outside(O1).neighbours.clear();
        world.clear();
        let mac = super::world::UPLINK_MAC;
        world.outside(O1).neighbours.insert(new, mac);
        world.host(0).udp(O1, (5000, ECHO), b"after");
        world.settle();
        assert_eq!(inbox(&mut world, O1).pop().unwrap().src, new);
        assert_eq!(world.host(0).inbox.pop().unwrap().body(), b"after");
        world.check();
    }
}

#[test]
fn a5_1_fragments_in_any_order_both_ways() {
    for order in [Order::Straight, Order::Reversed, Order::Shuffled] {
        for mut world in worlds(&Setup::default()) {
            let data: Vec<u8> = (0..=255).cycle().take(9000).collect();
            world
                .host(0)
                .udp_fragments(O1, (5000, 9), &data, (1500, order));
            world.settle();
            let got = inbox(&mut world, O1);
            assert_eq!(got.len(), 1, "{order:?}");
            assert_eq!(got[0].body(), data);
            let port = external(&world, (member_ip(0), 5000));
            world
                .outside(O1)
                .udp_fragments(EXTERNAL, (9, port), &data, (1500, order));
            world.settle();
            let got = std::mem::take(&mut world.host(0).inbox);
            let workers = world.setup.workers;
            assert_eq!(got.len(), 1, "{order:?}, {workers} workers");
            assert_eq!(got[0].body(), data);
            world.check();
        }
    }
}

#[test]
fn a5_1_fragments_of_the_hosts_own_are_left_to_it() {
    for order in [Order::Straight, Order::Reversed] {
        for mut world in worlds(&Setup::default()) {
            let counted = world.counted(|w| {
                let how = (1500, order);
                w.outside(O1)
                    .udp_fragments(EXTERNAL, (9, 22), &[1; 4000], how);
            });
            assert!(counted.contains("HOST_TRAFFIC=3"), "{order:?}: {counted}");
            world.check();
        }
    }
}

#[test]
fn a5_3_overlapping_tiny_and_endless_fragments_are_dropped() {
    let mut world = World::new(Setup::default());
    world.greet();
    let ip = |id| Ip {
        id,
        ..Ip::new(member_ip(0), O1)
    };
    let send = |world: &mut World, pieces: &[Vec<u8>]| {
        world.counted(|w| {
            for piece in pieces {
                let raw = (piece.clone(), switch::frame::Offload::PLAIN);
                w.host(0).send_packet(raw);
            }
        })
    };
    let (whole, _) = ip(1).udp((5000, 9), &[5; 40], Sum::Full);
    let teardrop = [
        ip(10).piece(UDP, &whole[20..44], 0, true),
        ip(10).piece(UDP, &whole[28..68], 8, false),
    ];
    let counted = send(&mut world, &teardrop);
    assert!(counted.contains("NAT_FRAGMENT=1"), "{counted}");
    let counted = send(&mut world, &[ip(11).piece(TCP, &[0; 8], 0, true)]);
    assert!(counted.contains("NAT_FRAGMENT=1"), "{counted}");
    let counted = send(&mut world, &[ip(12).piece(UDP, &[0; 1400], 65_120, false)]);
    assert!(counted.contains("NAT_FRAGMENT=1"), "{counted}");
    // One that never comes together is counted in the end.
    let counted = send(&mut world, &[ip(13).piece(ICMP, &[0; 16], 8, false)]);
    assert_eq!(counted, "received=1 held=1");
    let counted = world.counted(|w| w.advance(Nanos::from_secs(31)));
    assert_eq!(counted, "released=1 NAT_FRAGMENT_TIMEOUT=1");
    assert!(inbox(&mut world, O1).is_empty());
    world.check();
}

#[test]
fn b_18_padding_behind_a_packet_is_no_part_of_it() {
    let mut world = World::new(Setup::default());
    world.greet();
    let (mut packet, offload) = Ip::new(member_ip(0), O1).udp((5000, 9), b"x", Sum::Partial);
    packet.extend([0xee; 20]);
    world.host(0).send_packet((packet, offload));
    world.settle();
    assert_eq!(inbox(&mut world, O1).pop().unwrap().body(), b"x");
    world.check();
}
