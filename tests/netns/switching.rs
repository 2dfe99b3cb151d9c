//! The learning switch: B-1 to B-7, B-17 to B-19, B-21b, traps 5, 6, 22.

use std::thread;
use std::time::Duration;

use vswitch_cli::lab::traffic::craft;
use vswitch_cli::lab::traffic::ping::Ping;

use super::frames::{SILENCE, arp, arp_reply, count_experimental, count_in, experimental, open};
use super::traffic::{tcp_both_ways, udp_echo};
use super::world::Times::{Any, Exactly};
use super::world::{SECOND, eventually, mac_text, world};

const NOBODY: [u8; 6] = [0; 6];

#[test]
fn b_1_stations_are_learned_but_never_from_group_or_zero_addresses() {
    let world = world().no_uplink().start();
    let (wire, seen) = (open(world.c(1)), count_experimental(world.c(2)));
    let group = [1, 0, 0x5e, 0, 0, 1];
    for source in [group, craft::BROADCAST, NOBODY] {
        wire.send(&experimental(world.net.mac(2), source, 46, 0))
            .unwrap();
        wire.send(&experimental(craft::BROADCAST, source, 46, 0))
            .unwrap();
    }
    let station = [2, 1, 2, 3, 4, 5];
    wire.send(&experimental(craft::BROADCAST, station, 46, 0))
        .unwrap();
    assert!(seen.wait_for(1, SECOND));
    thread::sleep(SILENCE);
    assert_eq!(seen.count(), 1, "only the last one");
    let stations = world.stations();
    assert_eq!(
        stations.get(&mac_text(station)).map(String::as_str),
        Some("veth1")
    );
    for source in [group, craft::BROADCAST, NOBODY] {
        assert!(!stations.contains_key(&mac_text(source)), "{stations:?}");
    }
    world.finish(&[("SOURCE_INVALID", Exactly(6))]);
}

#[test]
fn b_2_known_unicast_goes_to_one_port_everything_else_to_all_others() {
    let world = world().containers(3).start();
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)));
    let strange = count_in(world.c(3), |bytes| bytes.get(12..14) == Some(&[8, 0]));
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)).count(20));
    tcp_both_ways(world.c(1), world.c(2), world.ip(2), 1 << 20);
    udp_echo(world.c(2), world.c(1), world.ip(1));
    assert_eq!(strange.count(), 0, "{:02x?}", strange.frames().first());
    let seen = [1, 2, 3].map(|i| count_experimental(world.c(i)));
    let wire = open(world.c(1));
    for to in [
        [2, 9, 9, 9, 9, 9],
        craft::BROADCAST,
        [1, 0, 0x5e, 1, 2, 3],
        [0x33, 0x33, 0, 0, 0, 9],
    ] {
        wire.send(&experimental(to, world.net.mac(1), 46, 0))
            .unwrap();
    }
    assert!(seen[1].wait_for(4, SECOND) && seen[2].wait_for(4, SECOND));
    thread::sleep(SILENCE);
    assert_eq!(seen.each_ref().map(|seen| seen.count()), [0, 4, 4]);
    world.finish(&[]);
}

#[test]
fn b_3_a_silent_station_is_forgotten() {
    let world = world()
        .containers(3)
        .no_uplink()
        .args("--ageing 10")
        .start();
    let (c1, c2) = (world.net.mac(1), world.net.mac(2));
    open(world.c(2))
        .send(&experimental(craft::BROADCAST, c2, 46, 0))
        .unwrap();
    eventually("c2 is learned", || {
        world.stations().contains_key(&mac_text(c2))
    });
    let (wire, third) = (open(world.c(1)), count_experimental(world.c(3)));
    thread::sleep(8 * SECOND);
    wire.send(&experimental(c2, c1, 46, 0)).unwrap();
    assert!(!third.wait_for(1, SILENCE), "forgotten too early");
    thread::sleep(Duration::from_millis(3500));
    wire.send(&experimental(c2, c1, 46, 0)).unwrap();
    assert!(
        third.wait_for(1, SECOND),
        "not forgotten: {:?}",
        world.stations()
    );
    world.finish(&[]);
}

#[test]
fn b_4_trap_22_a_station_that_moves_is_followed_with_its_first_frame() {
    let world = world().containers(3).no_uplink().start();
    let (station, c2) = ([2, 5, 5, 5, 5, 5], world.net.mac(2));
    let wires = [1, 2, 3].map(|i| open(world.c(i)));
    let seen = [1, 2, 3].map(|i| count_experimental(world.c(i)));
    let mut expected = [0, 0, 0];
    wires[1].send(&experimental(station, c2, 46, 0)).unwrap();
    assert!(
        seen[0].wait_for(1, SECOND) && seen[2].wait_for(1, SECOND),
        "unknown: flooded"
    );
    expected = [expected[0] + 1, 0, expected[2] + 1];
    for place in [0, 2, 0, 2, 2] {
        wires[place]
            .send(&experimental(c2, station, 46, 0))
            .unwrap();
        expected[1] += 1;
        assert!(seen[1].wait_for(expected[1], SECOND));
        wires[1].send(&experimental(station, c2, 46, 0)).unwrap();
        expected[place] += 1;
        assert!(
            seen[place].wait_for(expected[place], SECOND),
            "not at its new place"
        );
    }
    thread::sleep(SILENCE);
    assert_eq!(seen.each_ref().map(|seen| seen.count()), expected);
    assert_eq!(world.stations()[&mac_text(station)], "veth3");
    world.finish(&[]);
}

#[test]
fn b_5_reserved_addresses_are_not_forwarded() {
    let world = world().no_uplink().start();
    let seen = count_experimental(world.c(2));
    let wire = open(world.c(1));
    for last in 0..=0x10 {
        let group = [1, 0x80, 0xc2, 0, 0, last];
        wire.send(&experimental(group, world.net.mac(1), 46, last))
            .unwrap();
    }
    assert!(
        seen.wait_for(1, SECOND),
        "01-80-C2-00-00-10 is an ordinary group"
    );
    thread::sleep(SILENCE);
    assert_eq!(seen.count(), 1);
    world.finish(&[("RESERVED_ADDRESS", Exactly(16))]);
}

#[test]
fn b_6_a_flood_of_addresses_neither_fills_memory_nor_opens_others_traffic() {
    let world = world()
        .containers(3)
        .no_uplink()
        .args("--fdb-max 64")
        .start();
    world.ping_perfectly(world.c(2), &Ping::to(world.ip(3)));
    let wire = open(world.c(1));
    let overheard = count_in(world.c(1), |bytes| bytes.get(12..14) == Some(&[8, 0]));
    for round in 0..40_u8 {
        for i in 0..50_u8 {
            let source = [2, 0x10, round, i, 7, 7];
            wire.send(&experimental([2, 0x10, 9, 9, 9, 9], source, 46, 0))
                .unwrap();
        }
        world.ping_perfectly(world.c(2), &Ping::to(world.ip(3)));
    }
    assert_eq!(overheard.count(), 0, "others' unicast was flooded");
    let stations = world.stations().len();
    assert!(stations <= 64, "{stations} stations");
    world.finish(&[]);
}

#[test]
fn b_7_a_fixed_station_is_not_moved_by_traffic() {
    let world = world()
        .no_uplink()
        .args("--ports veth1 --port veth2,mac=02:77:0a:09:00:03 --ageing 10")
        .start();
    let c2 = world.net.mac(2);
    let seen = count_experimental(world.c(2));
    let wire = open(world.c(1));
    for _ in 0..5 {
        wire.send(&experimental(craft::BROADCAST, c2, 46, 0))
            .unwrap();
    }
    assert!(!seen.wait_for(1, SILENCE), "a stolen address was let in");
    assert_eq!(world.stations()[&mac_text(c2)], "veth2");
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)).count(3));
    world.finish(&[("SOURCE_LOCKED", Exactly(5))]);
}

#[test]
fn b_17_a_frame_longer_than_the_egress_mtu_is_dropped_and_counted() {
    let world = world()
        .prepare(|net| {
            net.h.set_mtu("veth1", 9000).unwrap();
            net.c(1).set_mtu("eth0", 9000).unwrap();
        })
        .start();
    let jumbo = Ping::to(world.ip(2))
        .size(3000)
        .dont_fragment()
        .timeout(SILENCE);
    let report = world.ping(world.c(1), &jumbo);
    assert_eq!((report.received, report.errors.len()), (0, 0));
    world.ping_perfectly(
        world.c(1),
        &Ping::to(world.ip(2)).size(1472).dont_fragment(),
    );
    // What is routed is told instead (D-4), or fragmented.
    let routed = world.ping(
        world.c(1),
        &Ping::to(world.net.gateway()).size(8000).dont_fragment(),
    );
    assert!(
        routed.is_perfect(),
        "the gateway answers what came in whole: {routed:?}"
    );
    let out = vswitch_cli::lab::Topology::OUTSIDE;
    let refused = world.ping(world.c(1), &Ping::to(out).size(3000).dont_fragment());
    assert!(
        refused.errors[0].is_too_big() && refused.errors[0].mtu == 1500,
        "{refused:?}"
    );
    let whole = Ping {
        fragment_at: 9000,
        ..Ping::to(out).size(3000)
    };
    world.ping_perfectly(world.c(1), &whole);
    world.finish(&[("EGRESS_MTU", Exactly(1)), ("PKT_TOO_BIG", Exactly(1))]);
}

#[test]
fn trap_5_a_frame_too_long_does_not_hold_up_the_good_ones() {
    let world = world()
        .no_uplink()
        .prepare(|net| {
            net.h.set_mtu("veth1", 9000).unwrap();
            net.c(1).set_mtu("eth0", 9000).unwrap();
        })
        .start();
    let (seen, wire) = (count_experimental(world.c(2)), open(world.c(1)));
    // An unknown station's frame would be flooded, and refused by each port.
    open(world.c(2))
        .send(&experimental(craft::BROADCAST, world.net.mac(2), 46, 0))
        .unwrap();
    eventually("c2 is learned", || {
        world.stations().contains_key(&mac_text(world.net.mac(2)))
    });
    for round in 0..20_u8 {
        for i in 0..11 {
            let payload = if i == 5 { 1501 } else { 1500 };
            let to = world.net.mac(2);
            wire.send(&experimental(to, world.net.mac(1), payload, round))
                .unwrap();
        }
    }
    assert!(seen.wait_for(200, SECOND), "{} of 200", seen.count());
    world.finish(&[("EGRESS_MTU", Exactly(20))]);
    assert_eq!(seen.count(), 200);
}

#[test]
fn trap_6_a_frame_the_far_end_refuses_is_charged_to_itself() {
    let world = world()
        .no_uplink()
        .prepare(|net| net.c(2).set_mtu("eth0", 1000).unwrap())
        .start();
    let (seen, wire) = (count_experimental(world.c(2)), open(world.c(1)));
    for i in 0..200_u8 {
        let payload = if i % 3 == 0 { 1400 } else { 900 };
        wire.send(&experimental(
            world.net.mac(2),
            world.net.mac(1),
            payload,
            i,
        ))
        .unwrap();
    }
    let (short, long) = (133, 67);
    assert!(seen.wait_for(short, SECOND), "{} of {short}", seen.count());
    let marks: Vec<u8> = seen.frames().iter().map(|frame| frame.bytes[14]).collect();
    let sent: Vec<u8> = (0..200).filter(|i| i % 3 != 0).collect();
    assert_eq!(marks, sent, "order, and every one of them");
    world.finish(&[("EGRESS_FULL", Exactly(long))]);
}

#[test]
fn b_18_short_frames_and_padding_pass() {
    let world = world().start();
    let wire = open(world.c(1));
    let (to, from) = (world.net.mac(2), world.net.mac(1));
    let seen = count_experimental(world.c(2));
    for payload in 0..=46 {
        wire.send(&experimental(to, from, payload, 9)).unwrap();
    }
    assert!(seen.wait_for(47, SECOND), "{} of 47", seen.count());
    let lengths: Vec<usize> = seen
        .frames()
        .iter()
        .map(|frame| frame.bytes.len())
        .collect();
    assert_eq!(lengths, (14..=60).collect::<Vec<_>>());
    let mut wire = wire;
    wire.send(&craft::arp_request(from, world.ip(1), world.ip(2)))
        .unwrap();
    assert!(
        arp_reply(&mut wire, world.ip(2), SECOND).is_some(),
        "42 bytes of ARP"
    );
    world.finish(&[]);
}

#[test]
fn b_18_padding_behind_a_datagram_is_not_part_of_it() {
    use std::net::SocketAddrV4;
    use vswitch_cli::lab::Topology;
    use vswitch_cli::lab::traffic::udp;
    let world = world().start();
    world.ping_perfectly(world.c(1), &Ping::to(world.net.gateway()));
    let sink = udp::bind(world.o(), (Topology::OUTSIDE, 0)).unwrap();
    let to = SocketAddrV4::new(Topology::OUTSIDE, sink.local_addr().unwrap().port());
    let from = SocketAddrV4::new(world.ip(1), 5004);
    let datagram = craft::udp(from, to, b"odd", craft::Checksum::Right);
    let packet = craft::Ipv4::new(*from.ip(), *to.ip(), craft::UDP).packet(&datagram);
    let mut wire = open(world.c(1));
    wire.send(&craft::arp_request(
        world.net.mac(1),
        world.ip(1),
        world.net.gateway(),
    ))
    .unwrap();
    let gateway = arp_reply(&mut wire, world.net.gateway(), SECOND).unwrap();
    let gateway: [u8; 6] = gateway[6..12].try_into().unwrap();
    let mut frame = craft::ethernet(gateway, world.net.mac(1), craft::ETHERTYPE_IPV4, &packet);
    frame.extend([0x5a; 20]);
    wire.send(&frame).unwrap();
    let (payload, _) = udp::recv(&sink, SECOND).unwrap().expect("the datagram");
    assert_eq!(payload, b"odd");
    world.finish(&[]);
}

#[test]
fn b_19_frames_of_unknown_kinds_are_forwarded_as_they_are() {
    let world = world().no_uplink().start();
    let (to, from) = (world.net.mac(2), world.net.mac(1));
    let mut far = open(world.c(2));
    let wire = open(world.c(1));
    // 802.3 lengths with LLC, types nobody knows, jumbo LLC, MPLS, PPPoE, an empty IPv4.
    for kind in [
        3, 46, 0x5dc, 0x5ff, 0x600, 0x9999, 0x8870, 0x8847, 0x8864, 0x0800, 0x86dd, 0xffff,
    ] {
        for len in [0, 1, 46, 1500] {
            let payload: Vec<u8> = (0..len).map(|i: usize| i.to_le_bytes()[0]).collect();
            let frame = craft::ethernet(to, from, kind, &payload);
            wire.send(&frame).unwrap();
            let seen = far
                .recv_matching(SECOND, |seen| seen.bytes[6..12] == from)
                .unwrap();
            assert_eq!(
                seen.map(|seen| seen.bytes),
                Some(frame),
                "{kind:#x}, {len} bytes"
            );
        }
    }
    world.finish(&[]);
}

#[test]
fn b_21b_probes_and_announcements_pass() {
    let world = world().containers(3).start();
    let (c1, unset) = (world.net.mac(1), std::net::Ipv4Addr::UNSPECIFIED);
    let mut wire = open(world.c(1));
    let mut ask = |target| {
        let probe = arp(1, craft::BROADCAST, (c1, unset), (NOBODY, target));
        wire.send(&probe).unwrap();
        arp_reply(&mut wire, target, SILENCE).map(|reply| reply[6..12].to_vec())
    };
    assert_eq!(
        ask(world.ip(3)),
        Some(world.net.mac(3).to_vec()),
        "taken by c3"
    );
    assert_eq!(ask(std::net::Ipv4Addr::new(10, 9, 0, 99)), None, "free");
    assert!(ask(world.net.gateway()).is_some(), "taken by the gateway");
    let neighbours = world.rows("neigh");
    assert!(
        neighbours.iter().all(|row| row["dst"] != "0.0.0.0"),
        "{neighbours:?}"
    );
    let heard = count_in(world.c(2), move |bytes| {
        bytes.get(6..12) == Some(&c1) && bytes.get(20..22) == Some(&[0, 1])
    });
    let own = world.ip(1);
    wire.send(&arp(1, craft::BROADCAST, (c1, own), (NOBODY, own)))
        .unwrap();
    assert!(
        heard.wait_for(1, SECOND),
        "an announcement of its own address"
    );
    // A claim to the gateway's address goes nowhere.
    let gateway = world.net.gateway();
    wire.send(&arp(1, craft::BROADCAST, (c1, gateway), (NOBODY, gateway)))
        .unwrap();
    wire.send(&arp(2, craft::BROADCAST, (c1, gateway), (c1, gateway)))
        .unwrap();
    assert!(!heard.wait_for(2, SILENCE));
    world.ping_perfectly(world.c(2), &Ping::to(gateway));
    world.finish(&[("ARP_INVALID", Exactly(2)), ("IP_INVALID_SOURCE", Any)]);
}

#[test]
fn b_2_ipv6_is_switched() {
    let world = world().containers(2).no_uplink().ipv6().start();
    let v6 = |i: u16| std::net::Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, i);
    for i in [1_u16, 2] {
        world.c(usize::from(i)).address("eth0", v6(i), 64).unwrap();
    }
    let any = std::net::SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
    use vswitch_cli::lab::traffic::tcp;
    let listener = tcp::listen(world.c(2), any).unwrap();
    let to = (v6(2), listener.local_addr().unwrap().port());
    let amount = tcp::Amount::Bytes(8_000_001);
    let report = tcp::bulk(world.c(1), to, &listener, amount, 6).unwrap();
    assert_eq!(report.bytes, 8_000_001);
    world.finish(&[]);
}
