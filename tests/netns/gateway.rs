//! The gateway's own duties: D-1, D-2, D-3, traps 12, 19.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vswitch_cli::lab::traffic::craft::{self, Seen};
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::lab::traffic::{Rtts, tcp};
use vswitch_cli::lab::{Subnet, Topology};

use super::frames::{SILENCE, arp, arp_reply, count_in, open};
use super::traffic::{ANY, tcp_both_ways};
use super::world::Times::{Any, AtLeast, Exactly};
use super::world::{SECOND, broadcast, mac_text, world};

#[test]
fn d_1_the_gateway_answers_arp_for_its_address_with_one_mac_and_for_no_other() {
    let world = world().args("--gateway-mac 02:00:5e:10:00:01").start();
    let (c1, gateway) = (world.net.mac(1), world.net.gateway());
    let mut wire = open(world.c(1));
    let answers = count_in(world.c(1), |bytes| {
        bytes.get(6..12) == Some(&[2, 0, 0x5e, 0x10, 0, 1]) && bytes.get(12..14) == Some(&[8, 6])
    });
    let overheard = count_in(world.c(2), |bytes| bytes.get(20..22) == Some(&[0, 2]));
    let asks = [
        craft::arp_request(c1, world.ip(1), gateway),
        arp(
            1,
            craft::BROADCAST,
            (c1, Ipv4Addr::UNSPECIFIED),
            ([0; 6], gateway),
        ),
        arp(
            1,
            [2, 0, 0x5e, 0x10, 0, 1],
            (c1, world.ip(1)),
            ([0; 6], gateway),
        ),
    ];
    for ask in &asks {
        wire.send(ask).unwrap();
        let reply = arp_reply(&mut wire, gateway, SECOND).expect("an answer");
        assert_eq!(reply[..6], c1, "unicast");
        assert_eq!(
            mac_text(reply[6..12].try_into().unwrap()),
            "02:00:5e:10:00:01"
        );
        assert_eq!(
            reply[22..28],
            reply[6..12],
            "the ARP and the Ethernet address agree"
        );
    }
    let nobody = Ipv4Addr::new(10, 9, 0, 77);
    wire.send(&craft::arp_request(c1, world.ip(1), nobody))
        .unwrap();
    wire.send(&craft::arp_request(c1, world.ip(1), Topology::OUTSIDE))
        .unwrap();
    assert!(!answers.wait_for(4, SILENCE), "{:02x?}", answers.frames());
    assert_eq!(overheard.count(), 0, "answers are for the asker");
    world.finish(&[]);
}

#[test]
fn d_1_the_gateway_announces_itself_at_start() {
    let listening = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&listening);
    let world = world()
        .prepare(move |net| {
            let gateway = net.gateway().octets();
            for c in &net.containers {
                let heard = count_in(c, move |bytes| {
                    // Sender and target are the gateway (RFC 5227 section 3).
                    bytes.get(28..32) == Some(&gateway) && bytes.get(38..42) == Some(&gateway)
                });
                list.lock().unwrap().push(heard);
            }
        })
        .start();
    let heard = std::mem::take(&mut *listening.lock().unwrap());
    for capture in &heard {
        assert!(capture.wait_for(1, SECOND), "no announcement");
        let frame = &capture.frames()[0].bytes;
        assert_eq!(frame[..6], craft::BROADCAST);
        assert_eq!(
            frame[6..12],
            frame[22..28],
            "the ARP and the Ethernet address agree"
        );
    }
    drop(heard);
    world.finish(&[]);
}

#[test]
fn d_2_the_gateway_answers_echo_of_any_size() {
    let world = world().start();
    let gateway = world.net.gateway();
    for size in [0, 1, 56, 1472, 1473, 20_000, 65_507] {
        let report = world.ping_perfectly(world.c(1), &Ping::to(gateway).size(size).count(3));
        assert_eq!(report.ttl, Some(64), "{size}");
    }
    let reversed = Ping {
        reverse_fragments: true,
        ..Ping::to(gateway).size(9000)
    };
    world.ping_perfectly(world.c(2), &reversed);
    world.finish(&[]);
}

#[test]
fn d_2_echo_to_the_broadcast_address_is_not_answered_by_the_gateway() {
    let world = world().start();
    let to = broadcast(Subnet::Ten);
    let echo = craft::icmp_echo_request(9, 1, b"all");
    let packet = craft::Ipv4::new(world.ip(1), to, craft::ICMP).packet(&echo);
    let frame = craft::ethernet(
        craft::BROADCAST,
        world.net.mac(1),
        craft::ETHERTYPE_IPV4,
        &packet,
    );
    let replies = count_in(world.c(1), |bytes| {
        Seen::in_frame(bytes).is_some_and(|seen| seen.icmp() == Some((0, 0)))
    });
    open(world.c(1)).send(&frame).unwrap();
    assert!(!replies.wait_for(1, SILENCE), "{:02x?}", replies.frames());
    world.finish(&[]);
}

#[test]
fn d_3_a_next_hop_that_does_not_answer_is_reported_within_four_seconds() {
    let world = world().start();
    let nobody = Ipv4Addr::new(203, 0, 113, 77);
    let asked =
        vswitch_cli::lab::traffic::capture::Capture::start(world.o(), "eth0", move |frame| {
            frame.bytes.get(38..42) == Some(&nobody.octets())
        })
        .unwrap();
    let started = Instant::now();
    let ping = Ping::to(nobody).timeout(5 * SECOND);
    let report = world.ping(world.c(1), &ping);
    assert!(started.elapsed() <= 4 * SECOND, "{:?}", started.elapsed());
    let error = report.errors[0];
    assert_eq!(
        (error.kind, error.code, error.from),
        (3, 1, world.net.gateway()),
        "{error:?}"
    );
    assert!(
        (1..=4).contains(&asked.count()),
        "asked {} times",
        asked.count()
    );
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE));
    world.finish(&[("NEIGH_FAILED", AtLeast(1))]);
}

#[test]
fn d_3_a_container_that_does_not_answer_is_reported_too() {
    let world = world().start();
    // Through the gateway on purpose: its kernel would ask by itself.
    let gateway = world.net.gateway();
    let mut wire = open(world.c(1));
    wire.send(&craft::arp_request(world.net.mac(1), world.ip(1), gateway))
        .unwrap();
    let mac: [u8; 6] = arp_reply(&mut wire, gateway, SECOND).unwrap()[6..12]
        .try_into()
        .unwrap();
    let echo = craft::icmp_echo_request(7, 1, b"?");
    let nobody = Ipv4Addr::new(10, 9, 0, 99);
    let packet = craft::Ipv4::new(world.ip(1), nobody, craft::ICMP).packet(&echo);
    let errors = count_in(world.c(1), |bytes| {
        Seen::in_frame(bytes).is_some_and(|seen| seen.icmp() == Some((3, 1)))
    });
    wire.send(&craft::ethernet(
        mac,
        world.net.mac(1),
        craft::ETHERTYPE_IPV4,
        &packet,
    ))
    .unwrap();
    assert!(errors.wait_for(1, 4 * SECOND), "no word");
    world.finish(&[("NEIGH_FAILED", AtLeast(1))]);
}

#[test]
fn trap_19_traceroute_and_path_mtu_through_a_router() {
    let world = world().plan(|plan| plan.router_mtu = Some(1280)).start();
    let far = Topology::BEHIND_ROUTER;
    let hops = [(1, world.net.gateway()), (2, Topology::ROUTER)];
    for (ttl, from) in hops {
        let report = world.ping(
            world.c(1),
            &Ping {
                ttl,
                ..Ping::to(far)
            },
        );
        let error = report.errors[0];
        assert_eq!(
            (error.kind, error.code, error.from),
            (11, 0, from),
            "ttl {ttl}: {report:?}"
        );
    }
    let report = world.ping_perfectly(
        world.c(1),
        &Ping {
            ttl: 3,
            ..Ping::to(far)
        },
    );
    assert_eq!(report.ttl, Some(62), "both routers counted on the way back");
    let report = world.ping(world.c(1), &Ping::to(far).size(1400).dont_fragment());
    let error = report.errors[0];
    assert!(
        error.is_too_big() && error.mtu == 1280 && error.from == Topology::ROUTER,
        "{error:?}"
    );
    world.ping_perfectly(world.c(1), &Ping::to(far).size(1252).dont_fragment());
    world.ping_perfectly(world.c(2), &Ping::to(far).size(4000));
    // The sender's kernel learns by the translated error, or the transfer stalls.
    let o2 = world.net.o2.as_ref().unwrap();
    tcp_both_ways(world.c(1), o2, far, 4 << 20);
    world.finish(&[("TTL_EXPIRED", Exactly(1))]);
}

#[test]
fn trap_12_no_reply_waits_for_a_timer() {
    let world = world().start();
    // The same machine, as busy as it is now, without the switch in between.
    let direct = Ping {
        id: Some(4242),
        ..Ping::to(Topology::OUTSIDE).count(100)
    };
    let direct = world.ping_perfectly(world.h(), &direct);
    let direct = direct.rtts.median().unwrap();
    let gateway = world.net.gateway();
    for to in [world.ip(2), gateway, Topology::OUTSIDE] {
        let report = world.ping_perfectly(world.c(1), &Ping::to(to).count(100));
        check_idle(&report.rtts, to, direct);
    }
    let listener = tcp::listen(world.c(2), ANY).unwrap();
    let to = (world.ip(2), listener.local_addr().unwrap().port());
    let rtts = tcp::round_trips(world.c(1), to, &listener, 300, 64).unwrap();
    check_idle(&rtts, world.ip(2), direct);
    world.finish(&[("HOST_TRAFFIC", Any)]);
}

/// A worker that polled by a timer would show its period: a V3 ring's block 4 ms or more by
/// default, a tick 100 ms.
fn check_idle(rtts: &Rtts, to: Ipv4Addr, direct: Duration) {
    let (median, limit) = (
        rtts.median().unwrap(),
        Duration::from_millis(3).max(direct * 10),
    );
    assert!(median < limit, "{to}: median {median:?}, direct {direct:?}");
    let slow = rtts.percentile(90).unwrap();
    assert!(slow < Duration::from_millis(90), "{to}: p90 {slow:?}");
}
