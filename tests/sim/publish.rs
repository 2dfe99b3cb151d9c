//! Published ports: behaviours A6, with one worker and with several, steered rightly and wrongly.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use nat::{Nanos, Protocol, Publish, Publishes, Target};
use switch::config::{HostView, Role};
use switch::frame::Offload;
use switch::neigh::Link;

use super::host::{ECHO, Flavour, Order};
use super::packet::{ACK, ETHERNET, ICMP, Ip, SYN, Sum, TCP, Tcp, UDP, address_at, ethernet};
use super::world::{
    EXTERNAL, FAR, GATEWAY_MAC, O1, O2, Setup, Steering, UPLINK_MAC, Uplink, World, member_ip,
    member_mac,
};

/// UDP and TCP port of the published services, and what they answer with.
const PUBLISHED: u16 = 8080;
const HTTP: u16 = 80;
const PAGE: [u8; 4000] = [7; 4000];

/// A publish of `ports` to `targets`, kept by worker `owner`.
pub(super) fn publish(
    protocol: Protocol,
    ports: RangeInclusive<u16>,
    targets: &[(Ipv4Addr, u16)],
    owner: u16,
) -> Publish {
    let target = |(address, port): &(Ipv4Addr, u16)| Target {
        address: *address,
        port: *port,
    };
    Publish {
        protocol,
        external: None,
        ports,
        targets: targets.iter().map(target).collect(),
        by_source: false,
        owner,
    }
}

impl World {
    /// Publishes these ports and no others.
    pub(super) fn publish(&mut self, publishes: Vec<Publish>) {
        let publishes = Arc::new(Publishes::new(publishes).unwrap());
        self.update(|view| view.publishes = publishes);
    }

    /// Isolates a port, or does so no more.
    pub(super) fn isolate(&mut self, place: usize, isolated: bool) {
        let port = self.wires[place].index.index();
        self.update(|view| view.ports[port].as_mut().unwrap().isolated = isolated);
    }
}

/// Echo and a page of member `number` by port 8080 of UDP and TCP, kept by `owner`.
fn services(number: u16, owner: u16) -> Vec<Publish> {
    let of = |protocol, port| {
        let targets = [(member_ip(number), port)];
        publish(protocol, PUBLISHED..=PUBLISHED, &targets, owner)
    };
    vec![of(Protocol::Udp, ECHO), of(Protocol::Tcp, HTTP)]
}

/// Every number of workers, every owner, steered rightly and wrongly; member 0 is the server.
fn worlds(setup: &Setup) -> Vec<World> {
    let mut worlds = Vec::new();
    for workers in [1, 2, 4] {
        for steering in [Steering::Right, Steering::Wrong] {
            for owner in 0..workers {
                let mut world = World::new(Setup {
                    workers,
                    steering,
                    members: 5,
                    ..setup.clone()
                });
                world.greet();
                world.host(0).listen(HTTP, PAGE.into());
                world.publish(services(0, owner));
                worlds.push(world);
            }
        }
    }
    worlds
}

fn both_uplinks() -> impl Iterator<Item = World> {
    let setup = |uplink| Setup {
        uplink,
        ..Setup::default()
    };
    let uplinks = [Uplink::Shared, Uplink::Own].into_iter();
    uplinks.flat_map(move |uplink| worlds(&setup(uplink)))
}

#[test]
fn a6_1_a_published_port_is_reached_from_outside_and_answers_from_itself() {
    for mut world in both_uplinks() {
        world.outside(O1).udp(EXTERNAL, (5000, PUBLISHED), b"echo");
        world
            .outside(O2)
            .connect(EXTERNAL, (6000, PUBLISHED), vec![1; 9000]);
        world.settle();
        let got = world.host(0).inbox.iter().find(|p| p.protocol == UDP);
        let got = got.map(|p| (p.src, p.ports(), p.ttl));
        assert_eq!(got, Some((O1, (5000, ECHO), 63)), "the client is seen");
        let answer = world.outside(O1).inbox.pop().unwrap();
        assert_eq!((answer.src, answer.ports()), (EXTERNAL, (PUBLISHED, 5000)));
        assert_eq!((answer.body(), answer.ttl), (&b"echo"[..], 63));
        let stream = &world.outside(O2).streams[0];
        assert!(stream.is_done() && stream.received == PAGE);
        assert_eq!(world.host(0).streams[0].received, [1; 9000]);
        world.check();
    }
}

#[test]
fn a6_3_other_members_and_the_server_itself_reach_a_published_port() {
    for mut world in both_uplinks() {
        for place in 0..3 {
            world
                .host(place)
                .udp(EXTERNAL, (5000, PUBLISHED), b"inside");
            world
                .host(place)
                .connect(EXTERNAL, (6000, PUBLISHED), vec![2; 5000]);
        }
        world.settle();
        for place in 0..3 {
            let host = world.host(place);
            let mut answers = host.inbox.iter().filter(|p| p.protocol == UDP);
            let answer = answers.find(|p| p.src == EXTERNAL && p.ports().0 == PUBLISHED);
            assert_eq!(
                answer.map(|p| (p.ports().1, p.body())),
                Some((5000, &b"inside"[..]))
            );
            let stream = host
                .streams
                .iter()
                .find(|stream| stream.remote.0 == EXTERNAL);
            let client = host
                .streams
                .iter()
                .find(|stream| stream.remote.1 == PUBLISHED);
            assert!(stream.is_some() && client.is_some_and(|it| it.received == PAGE));
        }
        let seen = world
            .host(0)
            .inbox
            .iter()
            .filter(|p| p.protocol == UDP && p.ports().1 == ECHO);
        assert!(
            seen.clone().all(|p| p.src == EXTERNAL),
            "the external source, REQ-9a"
        );
        assert_eq!(seen.count(), 3);
        world.check();
    }
}

#[test]
fn a6_1_fragments_and_super_frames_pass_a_published_port_both_ways() {
    for mut world in worlds(&Setup::default()) {
        for host in world.wires.iter_mut().flat_map(|wire| &mut wire.hosts) {
            host.flavour = Flavour::Gso;
        }
        let data: Vec<u8> = (0..4000u32).map(|n| n.to_le_bytes()[0]).collect();
        for (port, order) in [(5000, Order::Straight), (5001, Order::Reversed)] {
            let outside = world.outside(O1);
            outside.udp_fragments(EXTERNAL, (port, PUBLISHED), &data, (1500, order));
            world.settle();
            let got = world.host(0).inbox.pop().unwrap();
            assert_eq!((got.src, got.body()), (O1, &data[..]));
            // The echo is one long datagram of the simulated host's, cut by nobody: so by hand.
            world.outside(O1).inbox.clear();
            let server = world.host(0);
            server.udp_fragments(O1, (ECHO, port), &data, (576, order));
            world.settle();
            let answer = world.outside(O1).inbox.pop().unwrap();
            assert_eq!((answer.src, answer.ports()), (EXTERNAL, (PUBLISHED, port)));
            assert_eq!(answer.body(), data);
        }
        world
            .outside(O2)
            .connect(EXTERNAL, (6000, PUBLISHED), vec![1; 60_000]);
        world.settle();
        assert_eq!(world.host(0).streams[0].received, [1; 60_000]);
        world.check();
    }
}

#[test]
fn a6_1_order_is_kept_towards_a_published_port_and_back() {
    for mut world in both_uplinks() {
        for number in 0..40u8 {
            world
                .outside(O1)
                .udp(EXTERNAL, (5000, PUBLISHED), &[number]);
            world.step(Nanos::from_micros(7));
        }
        world.settle();
        let of = |inbox: &[super::packet::Received]| -> Vec<u8> {
            inbox.iter().map(|p| p.body()[0]).collect()
        };
        let all: Vec<u8> = (0..40).collect();
        assert_eq!(of(&world.host(0).inbox), all);
        assert_eq!(of(&world.outside(O1).inbox), all);
        world.check();
    }
}

#[test]
fn a6_1_answers_wait_for_their_neighbour_in_order() {
    for mut world in worlds(&Setup::default()) {
        world.host(0).udp(O1, (ECHO, 5000), b"first");
        world.outside(FAR).udp(EXTERNAL, (5000, PUBLISHED), &[0]);
        world.settle();
        // The router must be asked for anew; four answers wait for it meanwhile.
        let router = super::world::ROUTER;
        world.switch.neighbours().remove(Link::Uplink, router);
        world.clear();
        for number in 1..5u8 {
            world
                .outside(FAR)
                .udp(EXTERNAL, (5000, PUBLISHED), &[number]);
            world.step(Nanos::from_micros(3));
        }
        world.settle();
        let numbers: Vec<u8> = world
            .outside(FAR)
            .inbox
            .iter()
            .map(|p| p.body()[0])
            .collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        world.check();
    }
}

#[test]
fn a6_1_a_target_changes_while_the_port_is_used() {
    for mut world in worlds(&Setup::default()) {
        world.outside(O1).udp(EXTERNAL, (5000, PUBLISHED), b"to 0");
        world.settle();
        assert_eq!(world.host(0).inbox.len(), 1);
        let owner = world.setup.workers - 1;
        world.publish(services(1, owner));
        world.outside(O1).udp(EXTERNAL, (5001, PUBLISHED), b"to 1");
        world.settle();
        assert_eq!(world.host(0).inbox.len(), 1);
        assert_eq!(world.host(1).inbox.pop().unwrap().body(), b"to 1");
        world.clear();
        world.publish(Vec::new());
        let counted = world.counted(|w| w.outside(O1).udp(EXTERNAL, (5002, PUBLISHED), b""));
        assert!(counted.ends_with("HOST_TRAFFIC=1"), "{counted}");
        let counted = world.counted(|w| w.outside(O1).udp(EXTERNAL, (5001, PUBLISHED), b""));
        assert!(counted.ends_with("HOST_TRAFFIC=1"), "{counted}");
        world.check();
    }
}

#[test]
fn workers_that_disagree_on_an_owner_drop_a_frame_and_do_not_pass_it_to_and_fro() {
    let mut world = World::new(Setup {
        workers: 2,
        ..Setup::default()
    });
    world.greet();
    world.publish(services(0, 1));
    world
        .outside(O1)
        .udp(EXTERNAL, (5000, PUBLISHED), b"session");
    world.settle();
    // Worker 0 has the new view, in which worker 1 owns the port; worker 1 has one in which
    // worker 0 does.
    for (obeying, owner) in [(1, 0), (0, 1)] {
        let publishes = Arc::new(Publishes::new(services(0, owner)).unwrap());
        world.switch.update(|view| view.publishes = publishes);
        if obeying == 0 {
            break;
        }
        world.workers[1].tick(world.now);
    }
    // Only worker 0 looks into its mailbox before the frames come.
    let first = &mut world.workers[0];
    first.tick(world.now);
    let place = world.place(Role::Uplink);
    let mac = world.outside(O1).mac;
    let (udp, offload) = Ip::new(O1, EXTERNAL).udp((5001, PUBLISHED), &[], Sum::Full);
    let bytes = ethernet(UPLINK_MAC, mac, 0x0800, &udp);
    let before = world.switch.totals().handed_over;
    assert!(world.send(place, &bytes, offload));
    let server = world.place(Role::Member);
    let (udp, offload) = Ip::new(member_ip(0), O1).udp((ECHO, 5001), &[], Sum::Full);
    let bytes = ethernet(GATEWAY_MAC, member_mac(0), 0x0800, &udp);
    assert!(world.send(server, &bytes, offload));
    for _ in 0..20 {
        for worker in &mut world.workers {
            worker.poll_once(world.now);
        }
    }
    let handed = world.switch.totals().handed_over - before;
    assert!(
        (1..=2).contains(&handed),
        "{handed} hand-overs of two frames"
    );
    assert!(world.drops().contains_key("NAT_UNSOLICITED"));
    world.check();
}

#[test]
fn a6_5_members_ports_are_not_reached_from_the_uplink_but_by_what_is_published() {
    for mut world in worlds(&Setup::default()) {
        let place = world.place(Role::Uplink);
        let mac = world.outside(O1).mac;
        let mut send = |dst: Ipv4Addr, port| {
            let (udp, _) = Ip::new(O1, dst).udp((5000, port), &[], Sum::Full);
            let bytes = ethernet(UPLINK_MAC, mac, 0x0800, &udp);
            world.counted(|w| assert!(w.send(place, &bytes, Offload::PLAIN)))
        };
        assert_eq!(send(member_ip(0), ECHO), "received=1 OTHERHOST=1");
        assert_eq!(
            send([127, 0, 0, 1].into(), PUBLISHED),
            "received=1 OTHERHOST=1"
        );
        world.check();
    }
}

#[test]
fn a6_5_what_other_hosts_send_by_way_of_the_host_is_refused_and_the_hosts_own_is_not() {
    let mut world = World::new(Setup {
        host_port: true,
        ..Setup::default()
    });
    world.greet();
    let place = world.place(Role::Host);
    let mut send = |src: Ipv4Addr| {
        let (udp, _) = Ip::new(src, member_ip(0)).udp((5000, 9), &[], Sum::Full);
        let bytes = ethernet(member_mac(0), GATEWAY_MAC, 0x0800, &udp);
        world.counted(|w| assert!(w.send(place, &bytes, Offload::PLAIN)))
    };
    let forwarded = "received=1 HOST_FORWARDED=1";
    assert_eq!(send(O1), forwarded, "routed in by the host's kernel");
    assert_eq!(
        send(member_ip(1)),
        forwarded,
        "back in: no way round isolation"
    );
    let own = "received=1 forwarded=1 copies=1 sent=1";
    let hosts = [
        super::world::GATEWAY,
        super::world::HOST,
        EXTERNAL,
        [127, 0, 0, 1].into(),
    ];
    for src in hosts {
        assert_eq!(send(src), own, "{src}");
    }
    // An address that the host gets is its own from then on.
    world.update(|view| {
        let HostView { addresses, .. } = &mut view.host;
        addresses.push(O1);
        addresses.sort();
    });
    let (udp, _) = Ip::new(O1, member_ip(0)).udp((5000, 9), &[], Sum::Full);
    let bytes = ethernet(member_mac(0), GATEWAY_MAC, 0x0800, &udp);
    let counted = world.counted(|w| assert!(w.send(place, &bytes, Offload::PLAIN)));
    assert_eq!(counted, own);
    world.check();
}

#[test]
fn f_8_a_flood_of_handshakes_at_a_published_port_leaves_a_live_session_alone() {
    for mut world in worlds(&Setup {
        sessions: 64,
        ..Setup::default()
    }) {
        let place = world.place(Role::Uplink);
        world
            .outside(O2)
            .connect(EXTERNAL, (6000, PUBLISHED), vec![1; 40_000]);
        while world
            .host(0)
            .streams
            .iter()
            .all(|it| it.received.is_empty())
        {
            world.step(Nanos::from_micros(20));
        }
        for number in 0..500u16 {
            let [high, low] = number.to_be_bytes();
            let src = Ipv4Addr::new(198, 51, 100 + high, low);
            let syn = Tcp {
                ports: (1000 + number, PUBLISHED),
                seq: 1,
                ack: 0,
                flags: SYN,
            };
            let (packet, _) = Ip::new(src, EXTERNAL).tcp(syn, &[], Sum::Full);
            let bytes = ethernet(UPLINK_MAC, member_mac(77), 0x0800, &packet);
            world.send(place, &bytes, Offload::PLAIN);
            world.step(Nanos::from_micros(100));
        }
        // The server answers every stranger and is never answered.
        world.run();
        world.host(0).streams.retain(|stream| stream.remote.0 == O2);
        world.settle();
        assert_eq!(world.host(0).streams[0].received, [1; 40_000]);
        assert!(world.outside(O2).streams[0].is_done());
        world.check();
    }
}

#[test]
fn f_9_an_error_about_a_live_flow_comes_through_and_one_about_no_flow_does_not() {
    for mut world in worlds(&Setup::default()) {
        world.outside(O1).udp(EXTERNAL, (5000, PUBLISHED), b"x");
        world.settle();
        world.clear();
        let tell = |w: &mut World, quoted: (u16, u16), mtu| {
            let (about, _) = Ip::new(EXTERNAL, O1).udp(quoted, b"x", Sum::Full);
            let error = w
                .outside(FAR)
                .header(EXTERNAL)
                .icmp(3, 4, [0, 0, 0, mtu], &about);
            w.counted(|w| w.outside(FAR).send_packet(error))
        };
        let counted = tell(&mut world, (PUBLISHED, 5001), 68);
        assert!(counted.ends_with("NAT_ICMP=1"), "{counted}");
        // RFC 1191's floor is the receiver's to keep; the session lives on whatever it says.
        let counted = tell(&mut world, (PUBLISHED, 5000), 68);
        assert!(counted.contains("routed=1"), "{counted}");
        let error = world.host(0).inbox.pop().unwrap();
        assert_eq!(
            (error.protocol, error.kind(), error.src),
            (ICMP, (3, 4), super::world::ROUTER)
        );
        let quoted = &error.payload[8..];
        assert_eq!(
            address_at(quoted, 12),
            member_ip(0),
            "as the member sent it"
        );
        assert_eq!(quoted[20..22], ECHO.to_be_bytes());
        world.outside(O1).udp(EXTERNAL, (5000, PUBLISHED), b"alive");
        world.settle();
        assert_eq!(world.outside(O1).inbox.pop().unwrap().body(), b"alive");
        world.check();
    }
}

#[test]
fn an_error_of_a_published_endpoint_is_told_by_its_session() {
    for mut world in worlds(&Setup::default()) {
        world.outside(O1).udp(EXTERNAL, (5000, PUBLISHED), b"x");
        world.settle();
        let (about, _) = Ip::new(O1, member_ip(0)).udp((5000, ECHO), b"x", Sum::Full);
        let error = world.host(0).header(O1).icmp(3, 3, [0; 4], &about);
        world.clear();
        world.host(0).send_packet(error);
        world.settle();
        let error = world.outside(O1).inbox.pop().unwrap();
        assert_eq!((error.kind(), error.src), ((3, 3), EXTERNAL));
        assert_eq!(address_at(&error.payload[8..], 16), EXTERNAL);
        world.check();
    }
}

#[test]
fn f_16_two_switches_back_to_back_wear_a_packet_out() {
    let (first, second) = (member_ip(200), member_ip(201));
    let mut worlds = [first, second].map(|external| {
        let mut world = World::new(Setup {
            uplink: Uplink::Own,
            ..Setup::default()
        });
        world.greet();
        world.external = external;
        world.update(|view| {
            let uplink = view.uplink.as_mut().unwrap();
            uplink.address = external;
            // The other switch's gateway is the router.
            for route in &mut uplink.routes {
                route.via = Some(O1);
            }
        });
        let neighbours = world.switch.neighbours();
        neighbours.confirm(Link::Uplink, O1, GATEWAY_MAC, world.now);
        world
    });
    worlds[0].host(0).udp(FAR, (5000, 9), b"round");
    let (mut passes, mut ttl) = (0, 64);
    for round in 0.. {
        let world = &mut worlds[round % 2];
        world.run();
        let place = world.place(Role::Uplink);
        let mut frames = world.frames(place);
        let Some(bytes) = frames.pop() else { break };
        assert!(frames.is_empty(), "one copy");
        assert!(bytes[ETHERNET + 8] < ttl, "TTL falls each pass");
        (passes, ttl) = (passes + 1, bytes[ETHERNET + 8]);
        // The uplink of each is a member's cable of the other.
        worlds[(round + 1) % 2].send(0, &bytes, Offload::PLAIN);
    }
    assert_eq!((passes, ttl), (63, 1));
    let expired: u64 = worlds
        .iter()
        .filter_map(|w| w.drops().remove("TTL_EXPIRED"))
        .sum();
    assert_eq!(expired, 1);
    worlds.iter().for_each(World::check);
}

#[test]
fn a_server_that_is_not_known_to_the_table_is_reached_by_itself_and_by_isolated_ones() {
    let mut world = World::new(Setup {
        isolated: vec![0, 1, 2],
        ..Setup::default()
    });
    world.greet();
    world.publish(services(0, 0));
    for place in [0, 1] {
        // Just after the client has spoken the table forgets the server.
        world.host(place).udp(EXTERNAL, (5000, PUBLISHED), b"flood");
        world.settle();
        world.switch.fdb().flush(switch::fdb::Flush::Dynamic);
    }
    let answers = [0, 1].map(|place| {
        let inbox = &world.host(place).inbox;
        inbox.iter().filter(|p| p.ports().0 == PUBLISHED).count()
    });
    assert_eq!(answers, [1, 1]);
    world.check();
}

/// A TCP segment without flags that begins nothing at a published port either.
#[test]
fn a6_1_only_a_handshake_begins_a_session_at_a_published_port() {
    let mut world = World::new(Setup::default());
    world.greet();
    world.publish(services(0, 0));
    let ack = Tcp {
        ports: (5000, PUBLISHED),
        seq: 1,
        ack: 1,
        flags: ACK,
    };
    let raw = world.outside(O1).header(EXTERNAL).tcp(ack, &[], Sum::Full);
    let counted = world.counted(|w| w.outside(O1).send_packet(raw));
    assert!(counted.starts_with("received=1 NAT_"), "{counted}");
    assert!(world.host(0).inbox.iter().all(|p| p.protocol != TCP));
    world.check();
}
