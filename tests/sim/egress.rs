//! Whatever does not fit a way out, or what a port does not take as it is: dataplane 4, A1-13.

use switch::config::Role;
use switch::frame::{Csum, Gso, Offload};

use super::host::{ECHO, Flavour};
use super::packet::{self, ACK, Ip, Received, Sum, TCP, Tcp, UDP, ethernet};
use super::world::{EXTERNAL, GATEWAY, GATEWAY_MAC, O1, Setup, World, member_ip, member_mac};

const SEGMENT: Tcp = Tcp {
    ports: (5000, 80),
    seq: 1000,
    ack: 1,
    flags: ACK,
};

/// Members of 1,500 bytes behind an uplink of 1,300, or the other way round.
fn world(mtu: (u32, u32)) -> World {
    let mut world = World::new(Setup {
        mtu,
        ..Setup::default()
    });
    world.greet();
    world
}

fn gso(mss: u16) -> Gso {
    Gso::Tcp4 { mss, ecn: false }
}

/// Sends a packet of member 0 to `mac` and says what was counted.
fn sent(world: &mut World, mac: switch::mac::Mac, (packet, offload): &packet::Raw) -> String {
    let ethertype = if packet[0] >> 4 == 6 { 0x86dd } else { 0x0800 };
    let bytes = ethernet(mac, member_mac(0), ethertype, packet);
    let counted = world.counted(|w| assert!(w.send(0, &bytes, *offload)));
    world.check();
    counted
}

#[test]
fn a1_13_outbound_too_big_is_told_the_mtu_or_cut_in_order() {
    let mut world = world((1500, 1300));
    let ip = Ip {
        dont_fragment: true,
        ..Ip::new(member_ip(0), O1)
    };
    let raw = ip.udp((5000, 9), &[7; 1400], Sum::Full);
    let counted = sent(&mut world, GATEWAY_MAC, &raw);
    assert_eq!(counted, "received=1 originated=1 sent=1 PKT_TOO_BIG=1");
    let error = world.host(0).inbox.pop().unwrap();
    assert_eq!((error.kind(), error.src), ((3, 4), GATEWAY));
    assert_eq!(error.payload[4..8], packet::word(0, 1300));
    assert_eq!(error.body(), &raw.0[..548], "quoted as it was sent");
    // Without DF: fragments, whether or not the checksum was finished.
    for sum in [Sum::Full, Sum::Partial] {
        let data: Vec<u8> = (0..=255).cycle().take(1400).collect();
        let raw = Ip::new(member_ip(0), O1).udp((5000, 9), &data, sum);
        let counted = sent(&mut world, GATEWAY_MAC, &raw);
        assert_eq!(counted, "received=1 routed=1 copies=2 sent=2");
        let place = world.place(Role::Uplink);
        let pieces = world.frames(place);
        let offsets: Vec<_> = pieces
            .iter()
            .map(|p| Received::parse(&p[14..]).fragment)
            .collect();
        assert_eq!(offsets, [(0, true), (1280, false)]);
        let whole = world.outside(O1).inbox.pop().unwrap();
        assert_eq!(whole.body(), data);
    }
    // Exactly the MTU passes whole.
    let raw = ip.udp((5000, 9), &[7; 1272], Sum::Full);
    let counted = sent(&mut world, GATEWAY_MAC, &raw);
    assert_eq!(counted, "received=1 routed=1 copies=1 sent=1");
}

#[test]
fn a1_13_inbound_too_big_is_told_outside_about_what_outside_sent() {
    let mut world = world((1300, 1500));
    world.host(0).udp(O1, (5000, 9), b"open");
    world.settle();
    let port = world.workers[0].nat_report(world.now).sessions[0]
        .external
        .1;
    world.clear();
    let ip = Ip {
        dont_fragment: true,
        ..Ip::new(O1, EXTERNAL)
    };
    let raw = ip.udp((9, port), &[7; 1400], Sum::Full);
    let counted = world.counted(|w| w.outside(O1).send_packet(raw.clone()));
    assert_eq!(counted, "received=1 originated=1 sent=1 PKT_TOO_BIG=1");
    let error = world.outside(O1).inbox.pop().unwrap();
    assert_eq!((error.kind(), error.src), ((3, 4), EXTERNAL));
    assert_eq!(error.payload[4..8], packet::word(0, 1300));
    assert_eq!(error.body(), &raw.0[..548], "as outside knows it");
    let raw = Ip::new(O1, EXTERNAL).udp((9, port), &[7; 1400], Sum::Full);
    let counted = world.counted(|w| w.outside(O1).send_packet(raw));
    assert_eq!(counted, "received=1 routed=1 copies=2 sent=2");
    assert_eq!(world.host(0).inbox.pop().unwrap().body(), [7; 1400]);
    world.check();
}

#[test]
fn a0_5_a_super_frame_is_judged_by_its_segments() {
    let mut world = world((1500, 1300));
    let ip = Ip {
        dont_fragment: true,
        ..Ip::new(member_ip(0), O1)
    };
    let (packet, offload) = ip.tcp(SEGMENT, &[5; 10_000], Sum::Partial);
    let gso = |mss| Offload {
        gso: gso(mss),
        ..offload
    };
    let raw = (packet.clone(), gso(1460));
    let counted = sent(&mut world, GATEWAY_MAC, &raw);
    assert_eq!(counted, "received=1 originated=1 sent=1 PKT_TOO_BIG=1");
    let error = world.host(0).inbox.pop().unwrap();
    assert_eq!(error.payload[4..8], packet::word(0, 1300));
    let counted = sent(&mut world, GATEWAY_MAC, &(packet, gso(1260)));
    assert_eq!(counted, "received=1 routed=1 copies=1 sent=1");
    let place = world.place(Role::Uplink);
    assert_eq!(world.taken(place).pop().unwrap().offload.gso, gso(1260).gso);
}

#[test]
fn b_17_between_members_of_different_mtu_the_gateway_tells() {
    let mut world = world((1500, 1500));
    let small = world.wires[1].index.index();
    world.update(|view| view.ports[small].as_mut().unwrap().mtu = 1000);
    world.host(1).set_mtu(1000);
    let ip = Ip {
        dont_fragment: true,
        ..Ip::new(member_ip(0), member_ip(1))
    };
    let raw = ip.udp((5000, 9), &[7; 1400], Sum::Full);
    // Bridged: nobody may be told.
    let counted = sent(&mut world, member_mac(1), &raw);
    assert_eq!(counted, "received=1 forwarded=1 copies=1 EGRESS_MTU=1");
    // By way of the gateway: told.
    let counted = sent(&mut world, GATEWAY_MAC, &raw);
    assert_eq!(counted, "received=1 originated=1 sent=1 PKT_TOO_BIG=1");
    let error = world.host(0).inbox.pop().unwrap();
    assert_eq!(error.payload[4..8], packet::word(0, 1000));
    let raw = Ip::new(member_ip(0), member_ip(1)).udp((5000, 9), &[7; 1400], Sum::Partial);
    let counted = sent(&mut world, GATEWAY_MAC, &raw);
    assert_eq!(counted, "received=1 routed=1 copies=2 sent=2");
    assert_eq!(world.host(1).inbox.pop().unwrap().body(), [7; 1400]);
}

/// A world whose members take only finished frames.
fn refusing(uplink_mtu: u32) -> World {
    let mut world = World::new(Setup {
        offloads: false,
        mtu: (1500, uplink_mtu),
        ..Setup::default()
    });
    world.greet();
    world
}

#[test]
fn a_port_that_refuses_offloads_gets_finished_frames() {
    let mut world = refusing(1500);
    let ip = Ip {
        dont_fragment: true,
        ..Ip::new(member_ip(0), member_ip(1))
    };
    let data: Vec<u8> = (0..=255).cycle().take(5000).collect();
    // Twice: the first time the port refuses, the second time it is known to.
    for _ in 0..2 {
        let (packet, offload) = ip.tcp(SEGMENT, &data, Sum::Partial);
        let offload = Offload {
            gso: gso(1460),
            ..offload
        };
        let counted = sent(&mut world, member_mac(1), &(packet, offload));
        assert_eq!(counted, "received=1 forwarded=1 copies=4 sent=4");
        let mut got: Vec<u8> = Vec::new();
        for frame in world.taken(1) {
            assert_eq!(frame.offload, Offload::PLAIN);
            got.extend_from_slice(&Received::parse(&frame.bytes()[14..]).payload[20..]);
        }
        assert!(got == data);
        // A small one that must not be fragmented only lacks its checksum.
        let raw = ip.tcp(SEGMENT, b"small", Sum::Partial);
        let counted = sent(&mut world, member_mac(1), &raw);
        assert_eq!(counted, "received=1 forwarded=1 copies=1 sent=1");
        assert_eq!(world.taken(1).len(), 1);
    }
    // IPv6 too, and a flood: each copy by itself.
    let counted = sent(&mut world, switch::mac::Mac::BROADCAST, &udp6());
    assert_eq!(counted, "received=1 flooded=1 copies=2 sent=2");
    for place in [1, 2] {
        let frame = world.taken(place).pop().unwrap();
        assert_eq!(frame.offload, Offload::PLAIN);
        let header = etherparse::UdpHeaderSlice::from_slice(&frame.bytes()[54..]).unwrap();
        let right = header
            .to_header()
            .calc_checksum_ipv6_raw([1; 16], [2; 16], b"six")
            .unwrap();
        assert_eq!(header.checksum(), right);
    }
}

/// A UDP datagram over IPv6 with an unfinished checksum.
fn udp6() -> packet::Raw {
    let mut packet = vec![0x60, 0, 0, 0, 0, 11, UDP, 64];
    packet.extend([1; 16]);
    packet.extend([2; 16]);
    packet.extend(packet::udp_header((5000, 9), 3));
    let pseudo = packet::fold(packet::sum16(&packet[8..40]) + 17 + 11);
    packet[46..48].copy_from_slice(&pseudo.to_be_bytes());
    packet.extend(b"six");
    let csum = Csum::Partial {
        start: 54,
        offset: 6,
    };
    let gso = Gso::None;
    (packet, Offload { csum, gso })
}

#[test]
fn a_port_that_refuses_offloads_gets_them_in_order() {
    let mut world = refusing(1500);
    let ip = Ip::new(member_ip(0), member_ip(1));
    for round in 0..3 {
        for number in 0..30 {
            let tcp = Tcp {
                seq: number * 10_000,
                ..SEGMENT
            };
            // Super-frames, small unfinished ones and finished ones of one flow.
            let (sum, len) = [(Sum::Partial, 4000), (Sum::Partial, 1), (Sum::Full, 1)]
                [usize::try_from(number % 3).unwrap()];
            let (packet, mut offload) = ip.tcp(tcp, &vec![1; len], sum);
            if len > 1460 {
                offload.gso = gso(1460);
            }
            let bytes = ethernet(member_mac(1), member_mac(0), 0x0800, &packet);
            assert!(world.send(0, &bytes, offload));
        }
        world.run();
        let seen = world.taken(1);
        let numbers = seen.iter().map(|f| packet::u32_at(f.bytes(), 38) / 10_000);
        let mut numbers: Vec<u32> = numbers.collect();
        numbers.dedup();
        // In the first batch the port's refusal comes too late for those behind.
        if round > 0 {
            assert_eq!(numbers, (0..30).collect::<Vec<_>>());
        }
    }
    world.check();
}

#[test]
fn a_port_that_refuses_offloads_serves_streams() {
    let mut world = refusing(1400);
    for place in 0..3 {
        world.host(place).flavour = Flavour::Gso;
        world.host(place).set_mtu(1400);
    }
    world.outside(O1).flavour = Flavour::Gso;
    let data: Vec<u8> = (0..=250).cycle().take(50_000).collect();
    world.outside(O1).listen(80, data.clone());
    world.host(1).listen(80, data.clone());
    world.host(0).connect(O1, (5000, 80), data.clone());
    world
        .host(0)
        .connect(member_ip(1), (5001, 80), data.clone());
    world.host(2).udp(O1, (5000, ECHO), b"partial");
    world.settle();
    assert!(world.host(0).streams.iter().all(|s| s.received == data));
    assert_eq!(world.host(1).streams[0].received, data);
    assert_eq!(world.host(2).inbox[0].body(), b"partial");
    world.check();
}

#[test]
fn what_nobody_can_finish_is_dropped_by_name() {
    let mut world = world((1500, 1500));
    let ip = Ip::new(member_ip(0), member_ip(1));
    let (packet, right) = ip.tcp(SEGMENT, &[5; 10_000], Sum::Partial);
    let partial = |start, offset| Csum::Partial { start, offset };
    for offload in [
        Offload {
            csum: partial(34, u16::MAX),
            gso: Gso::None,
        },
        Offload {
            csum: partial(u16::MAX, u16::MAX),
            gso: Gso::None,
        },
        Offload {
            csum: partial(10_000, 60),
            gso: Gso::None,
        },
        Offload {
            csum: partial(100, 8),
            gso: Gso::None,
        },
        Offload {
            gso: Gso::Udp { size: 1000 },
            ..right
        },
        Offload {
            gso: Gso::Tcp6 {
                mss: 1000,
                ecn: false,
            },
            ..right
        },
        Offload {
            csum: partial(90, 16),
            gso: gso(1460),
        },
    ] {
        let counted = sent(&mut world, member_mac(1), &(packet.clone(), offload));
        assert_eq!(counted, "received=1 UNKNOWN_OFFLOAD=1", "{offload:?}");
    }
    assert_eq!(packet[9], TCP);
}
