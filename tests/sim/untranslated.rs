//! Networks that are reached without translation (A4-5), and what a handshake may offer (A2-12).

use std::net::Ipv4Addr;

use nat::Protocol;
use switch::config::Role;
use switch::frame::Offload;

use super::host::ECHO;
use super::packet::{ACK, Ip, Received, SYN, Sum, Tcp, address_at, ethernet, u16_at};
use super::publish::publish;
use super::world::{
    EXTERNAL, FAR, GATEWAY, O1, O2, ROUTER, Setup, Steering, UPLINK_MAC, Uplink, World, member_ip,
};

/// The network behind the router.
const OFFICE: (Ipv4Addr, u8) = (Ipv4Addr::new(198, 51, 100, 0), 24);

fn worlds(setup: &Setup) -> Vec<World> {
    let mut worlds = Vec::new();
    for uplink in [Uplink::Shared, Uplink::Own] {
        for (workers, steering) in [
            (1, Steering::Right),
            (2, Steering::Wrong),
            (4, Steering::Right),
        ] {
            let mut world = World::new(Setup {
                uplink,
                workers,
                steering,
                untranslated: vec![OFFICE],
                ..setup.clone()
            });
            world.greet();
            // The office knows the way to the network.
            let router = world.outside(ROUTER);
            router.router = Some(EXTERNAL);
            worlds.push(world);
        }
    }
    worlds
}

/// A packet of the office's, which has its own address.
fn office(world: &mut World, raw: (Vec<u8>, Offload)) {
    let place = world.place(Role::Uplink);
    let mac = world.outside(FAR).mac;
    let bytes = ethernet(UPLINK_MAC, mac, 0x0800, &raw.0);
    assert!(world.send(place, &bytes, raw.1));
}

fn sessions(world: &World) -> usize {
    let reports = world.workers.iter().map(|w| w.nat_report(world.now));
    reports.map(|report| report.sessions.len()).sum()
}

#[test]
fn a4_5_a_network_is_spoken_to_untranslated_and_the_others_are_not() {
    for mut world in worlds(&Setup::default()) {
        world.host(0).udp(FAR, (5000, 9), b"own source");
        world.settle();
        let got = world.outside(FAR).inbox.pop().unwrap();
        assert_eq!(
            (got.src, got.ports(), got.ttl),
            (member_ip(0), (5000, 9), 63)
        );
        assert_eq!(sessions(&world), 0);
        world.host(0).udp(O1, (5000, 9), b"translated");
        world.settle();
        assert_eq!(world.outside(O1).inbox.pop().unwrap().src, EXTERNAL);
        assert_eq!(sessions(&world), 1);
        // And they speak to members, first too, of any protocol.
        let raw = Ip::new(FAR, member_ip(1)).udp((9, ECHO), b"from the office", Sum::Full);
        office(&mut world, raw);
        world.settle();
        let got = world.host(1).inbox.pop().unwrap();
        assert_eq!((got.src, got.ports(), got.ttl), (FAR, (9, ECHO), 63));
        assert_eq!(world.outside(FAR).inbox.pop().unwrap().src, member_ip(1));
        office(&mut world, Ip::new(FAR, member_ip(1)).ping(1, 1, b"ping"));
        world.settle();
        let reply = world.outside(FAR).inbox.pop().unwrap();
        assert_eq!((reply.src, reply.kind()), (member_ip(1), (0, 0)));
        assert_eq!(sessions(&world), 1);
        world.check();
    }
}

#[test]
fn a4_5_all_else_from_the_uplink_to_the_network_stays_out() {
    for mut world in worlds(&Setup::default()) {
        for (src, dst) in [
            // A stranger; the gateway, the broadcast address; one who pretends to be a member.
            (O1, member_ip(0)),
            (FAR, GATEWAY),
            (FAR, [10, 9, 0, 255].into()),
            (member_ip(1), member_ip(0)),
        ] {
            let raw = Ip::new(src, dst).udp((9, ECHO), b"", Sum::Full);
            let counted = world.counted(|w| office(w, raw));
            assert!(
                counted.starts_with("received=1 OTHERHOST=1")
                    || counted.starts_with("received=1 HOST_TRAFFIC=1"),
                "{src} {dst}: {counted}"
            );
        }
        // A network that holds ours makes no members of outsiders either.
        let all = vec![(Ipv4Addr::UNSPECIFIED, 0)];
        world.setup.untranslated.clone_from(&all);
        world.update(|view| view.uplink.as_mut().unwrap().untranslated = all);
        let raw = Ip::new(member_ip(1), member_ip(0)).udp((9, ECHO), b"", Sum::Full);
        let counted = world.counted(|w| office(w, raw));
        assert_eq!(counted, "received=1 OTHERHOST=1");
        world.check();
    }
}

#[test]
fn a4_5_a_published_port_answers_that_network_from_itself() {
    for mut world in worlds(&Setup::default()) {
        for owner in 0..world.setup.workers {
            let publishes = publish(Protocol::Udp, 8080..=8080, &[(member_ip(0), ECHO)], owner);
            world.publish(Vec::new());
            world.publish(vec![publishes]);
            let raw = Ip::new(FAR, EXTERNAL).udp((9, 8080), b"published", Sum::Full);
            office(&mut world, raw);
            world.settle();
            let got = world.outside(FAR).inbox.pop().unwrap();
            assert_eq!((got.src, got.ports()), (EXTERNAL, (8080, 9)));
            // The same endpoint answers who speaks to it directly as itself.
            let raw = Ip::new(FAR, member_ip(0)).udp((10, ECHO), b"direct", Sum::Full);
            office(&mut world, raw);
            world.settle();
            let got = world.outside(FAR).inbox.pop().unwrap();
            assert_eq!((got.src, got.ports()), (member_ip(0), (ECHO, 10)));
        }
        world.check();
    }
}

#[test]
fn a4_5_too_big_and_expired_is_told_both_ways() {
    for mut world in worlds(&Setup {
        mtu: (1300, 1400),
        ..Setup::default()
    }) {
        let ip = |src: Ipv4Addr, dst: Ipv4Addr| Ip {
            dont_fragment: true,
            ..Ip::new(src, dst)
        };
        let raw = ip(FAR, member_ip(0)).udp((9, 9), &[0; 1350], Sum::Full);
        office(&mut world, raw);
        world.settle();
        let told = world.outside(FAR).inbox.pop().unwrap();
        assert_eq!((told.kind(), told.src), ((3, 4), EXTERNAL));
        assert_eq!(u16_at(&told.payload, 6), 1300);
        let mut expiring = ip(FAR, member_ip(0));
        expiring.ttl = 1;
        office(&mut world, expiring.udp((9, 9), &[], Sum::Full));
        world.settle();
        assert_eq!(world.outside(FAR).inbox.pop().unwrap().kind(), (11, 0));
        world.check();
    }
}

#[test]
fn a2_13_a_router_beyond_tells_the_member_the_path_mtu() {
    for mut world in worlds(&Setup {
        untranslated: Vec::new(),
        ..Setup::default()
    }) {
        world.host(0).udp(O2, (5000, 9), &[1; 1400]);
        world.settle();
        let seen = world.outside(O2).inbox.pop().unwrap();
        let ip = Ip::new(seen.src, O2);
        let (about, _) = ip.udp(seen.ports(), &[1; 1400], Sum::Full);
        let error = world
            .outside(O1)
            .header(EXTERNAL)
            .icmp(3, 4, [0, 0, 5, 0], &about[..128]);
        world.outside(O1).send_packet(error);
        world.settle();
        let told = world.host(0).inbox.pop().unwrap();
        assert_eq!((told.kind(), told.src), ((3, 4), O1));
        assert_eq!(u16_at(&told.payload, 6), 1280);
        let quoted = &told.payload[8..];
        assert_eq!(
            (address_at(quoted, 12), u16_at(quoted, 20)),
            (member_ip(0), 5000)
        );
        world.check();
    }
}

/// A segment of a handshake that offers `mss`.
fn handshake(ip: Ip, tcp: Tcp, mss: Option<u16>, sum: Sum) -> (Vec<u8>, Offload) {
    let options = match mss {
        // A NOP first: the value does not stand at an even place, as some stacks have it.
        Some(mss) => {
            let [high, low] = mss.to_be_bytes();
            vec![1, 2, 4, high, low, 1, 1, 0]
        }
        None => vec![1, 1, 4, 2],
    };
    ip.tcp_options(tcp, &options, sum)
}

/// The MSS that a packet offers.
fn offered(packet: &Received) -> Option<u16> {
    (packet.payload.get(21) == Some(&2)).then(|| u16_at(&packet.payload, 23))
}

#[test]
fn a2_12_what_a_handshake_offers_is_lowered_to_fit_both_links_and_never_raised() {
    for (mtu, fits) in [((1500, 1400), 1360), ((1300, 1500), 1260)] {
        for clamp in [true, false] {
            for mut world in worlds(&Setup {
                mtu,
                mss_clamp: clamp,
                ..Setup::default()
            }) {
                let most = if clamp { fits } else { 1460 };
                let cases = [
                    (Some(1460), Some(most), Sum::Full),
                    (Some(1460), Some(most), Sum::Partial),
                    (Some(536), Some(536), Sum::Full),
                    (None, None, Sum::Full),
                ];
                for ((mss, expected, sum), port) in cases.into_iter().zip(5000..) {
                    let syn = Tcp {
                        ports: (port, 80),
                        seq: 7,
                        ack: 0,
                        flags: SYN,
                    };
                    // Translated to O1, untranslated to FAR.
                    for dst in [O1, FAR] {
                        let raw = handshake(world.host(0).header(dst), syn, mss, sum);
                        world.host(0).send_packet(raw);
                        world.settle();
                        let got = world.outside(dst).inbox.pop().unwrap();
                        assert_eq!(offered(&got), expected, "out, checksum is right");
                        let (theirs, ours) = got.ports();
                        let answer = Tcp {
                            ports: (ours, theirs),
                            seq: 9,
                            ack: 8,
                            flags: SYN | ACK,
                        };
                        let ip = Ip {
                            src: dst,
                            ..world.outside(dst).header(got.src)
                        };
                        let raw = handshake(ip, answer, mss, Sum::Full);
                        let mac = world.outside(dst).mac;
                        let place = world.place(Role::Uplink);
                        let bytes = ethernet(UPLINK_MAC, mac, 0x0800, &raw.0);
                        assert!(world.send(place, &bytes, raw.1));
                        world.settle();
                        let got = world.host(0).inbox.pop().unwrap();
                        assert_eq!(offered(&got), expected, "in, checksum is right");
                    }
                }
                world.check();
            }
        }
    }
}

#[test]
fn a2_12_members_among_themselves_offer_what_they_like() {
    let mut world = World::new(Setup {
        mtu: (1500, 1000),
        mss_clamp: true,
        ..Setup::default()
    });
    world.greet();
    world.publish(vec![publish(
        Protocol::Tcp,
        8080..=8080,
        &[(member_ip(1), 80)],
        0,
    )]);
    let syn = Tcp {
        ports: (5000, 8080),
        seq: 7,
        ack: 0,
        flags: SYN,
    };
    let raw = handshake(world.host(0).header(EXTERNAL), syn, Some(1460), Sum::Full);
    world.host(0).send_packet(raw);
    world.settle();
    let got = world.host(1).inbox.pop().unwrap();
    assert_eq!(
        offered(&got),
        Some(1460),
        "a hairpin does not leave by the uplink"
    );
    world.check();
}
