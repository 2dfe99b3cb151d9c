//! Switching: behaviours B, and A0 as far as it is the switch's own doing.

use nat::Nanos;
use switch::fdb::Flush;
use switch::frame::{Csum, Gso, Offload};
use switch::mac::Mac;

use super::packet::{self, Ip, SCTP, Sum, arp, ethernet};
use super::world::{GATEWAY, GATEWAY_MAC, Setup, Uplink, World, member_ip, member_mac};

const PLAIN: Offload = Offload::PLAIN;
const TYPE: u16 = 0x9999;

/// A plain switch whose members are known to it.
fn world(members: u16) -> World {
    let mut world = World::new(Setup {
        members,
        uplink: Uplink::None,
        gateway: false,
        ..Setup::default()
    });
    world.greet();
    world
}

fn frame(from: u16, to: Mac) -> Vec<u8> {
    ethernet(to, member_mac(from), TYPE, &[7; 46])
}

/// Sends one frame and says what was counted; the copies are left to be looked at.
fn sent(world: &mut World, place: usize, frame: &[u8]) -> String {
    let counted = world.counted(|world| assert!(world.send(place, frame, PLAIN)));
    world.check();
    counted
}

/// The members that got a frame since the last look.
fn receivers(world: &mut World) -> Vec<usize> {
    let count = world.wires.len();
    (0..count)
        .filter(|place| !world.taken(*place).is_empty())
        .collect()
}

#[test]
fn b_1_a_station_is_learned_and_a_group_never() {
    let mut world = world(3);
    let entry = world.switch.fdb().lookup(0, member_mac(1), world.now);
    assert_eq!(entry, Some(world.wires[1].index));
    for bad in [Mac([1, 0, 0x5e, 0, 0, 1]), Mac::BROADCAST, Mac::ZERO] {
        let before = world.switch.fdb().dynamic_entries();
        let bytes = ethernet(member_mac(1), bad, TYPE, &[0; 46]);
        assert_eq!(sent(&mut world, 0, &bytes), "received=1 SOURCE_INVALID=1");
        assert_eq!(world.switch.fdb().dynamic_entries(), before);
    }
    assert!(receivers(&mut world).is_empty());
}

#[test]
fn b_2_known_to_one_port_unknown_and_groups_to_all_others() {
    let mut world = world(3);
    let one = "received=1 forwarded=1 copies=1 sent=1";
    assert_eq!(sent(&mut world, 0, &frame(0, member_mac(1))), one);
    assert_eq!(receivers(&mut world), [1]);
    let all = "received=1 flooded=1 copies=2 sent=2";
    for to in [
        Mac::BROADCAST,
        Mac([1, 0, 0x5e, 1, 2, 3]),
        Mac::local(0x7777),
    ] {
        assert_eq!(sent(&mut world, 0, &frame(0, to)), all);
        assert_eq!(receivers(&mut world), [1, 2]);
    }
    // To a station on the sender's own port.
    let same = "received=1 SAME_PORT=1";
    assert_eq!(sent(&mut world, 0, &frame(7, member_mac(0))), same);
}

#[test]
fn b_2_a_flood_without_another_port_is_a_counted_drop() {
    let mut world = world(1);
    assert_eq!(
        sent(&mut world, 0, &frame(0, Mac::BROADCAST)),
        "received=1 NO_EGRESS=1"
    );
}

#[test]
fn a0_7_one_broadcast_gives_one_copy_at_each_other_port() {
    let mut world = world(3);
    let packet = arp(1, (member_mac(0), member_ip(0)), (Mac::ZERO, member_ip(9)));
    let bytes = ethernet(Mac::BROADCAST, member_mac(0), 0x0806, &packet);
    sent(&mut world, 0, &bytes);
    assert_eq!(world.frames(0), Vec::<Vec<u8>>::new());
    for place in [1, 2] {
        assert_eq!(world.frames(place), std::slice::from_ref(&bytes));
    }
}

#[test]
fn b_3_a_silent_station_ages_after_300_seconds() {
    let mut world = world(3);
    // Time passes in whole, for the others are to stay silent too.
    world.now += Nanos::from_secs(299);
    sent(&mut world, 0, &frame(0, member_mac(1)));
    assert_eq!(receivers(&mut world), [1], "299 s");
    world.now += Nanos::from_secs(2);
    sent(&mut world, 0, &frame(0, member_mac(1)));
    assert_eq!(receivers(&mut world), [1, 2], "301 s");
    // Reception refreshes: member 0 was heard 2 s ago.
    sent(&mut world, 1, &frame(1, member_mac(0)));
    assert_eq!(receivers(&mut world), [0]);
}

#[test]
fn b_4_a_station_move_is_followed_by_the_next_frame() {
    let mut world = world(3);
    let moved = world.switch.fdb().counters().moved;
    sent(&mut world, 2, &frame(0, Mac::BROADCAST));
    receivers(&mut world);
    sent(&mut world, 1, &frame(1, member_mac(0)));
    assert_eq!(receivers(&mut world), [2]);
    assert_eq!(world.switch.fdb().counters().moved, moved + 1);
}

#[test]
fn b_5_link_local_groups_are_never_forwarded() {
    let mut world = world(2);
    for low in 0..16 {
        let to = Mac([1, 0x80, 0xc2, 0, 0, low]);
        assert_eq!(
            sent(&mut world, 0, &frame(0, to)),
            "received=1 RESERVED_ADDRESS=1"
        );
    }
    let next = Mac([1, 0x80, 0xc2, 0, 0, 16]);
    sent(&mut world, 0, &frame(0, next));
    assert_eq!(receivers(&mut world), [1]);
}

#[test]
fn b_6_a_million_invented_sources_displace_only_their_own() {
    let mut world = world(3);
    let mut bytes = frame(0, member_mac(1));
    for number in 0..1_000_000u32 {
        let [a, b, c, d] = number.wrapping_mul(0x9e37_79b1).to_be_bytes();
        bytes[6..12].copy_from_slice(&[2, 0x99, a, b, c, d]);
        assert!(world.send(0, &bytes, PLAIN));
        if number % 512 == 511 {
            world.run();
            world.clear();
        }
    }
    world.run();
    let fdb = world.switch.fdb();
    assert!(fdb.dynamic_entries() <= fdb.entries_max());
    world.taken(0);
    world.taken(1);
    let one = "received=1 forwarded=1 copies=1 sent=1";
    assert_eq!(sent(&mut world, 1, &frame(1, member_mac(2))), one);
    assert_eq!(sent(&mut world, 2, &frame(2, member_mac(1))), one);
    assert_eq!(
        receivers(&mut world),
        [1, 2],
        "never flooded to the flooder"
    );
}

#[test]
fn b_7_a_static_entry_neither_ages_nor_moves_nor_counts() {
    let mut world = world(3);
    let (mac, port) = (Mac::local(0x5a5a), world.wires[1].index);
    let dynamic = world.switch.fdb().dynamic_entries();
    world
        .switch
        .fdb()
        .add_static(0, mac, port, world.now)
        .unwrap();
    assert_eq!(world.switch.fdb().dynamic_entries(), dynamic);
    let spoof = ethernet(member_mac(2), mac, TYPE, &[0; 46]);
    assert_eq!(sent(&mut world, 0, &spoof), "received=1 SOURCE_LOCKED=1");
    world.now += Nanos::from_secs(100_000);
    sent(&mut world, 0, &frame(0, mac));
    assert_eq!(receivers(&mut world), [1]);
    assert_eq!(
        world.switch.fdb().flush(Flush::Dynamic),
        3,
        "aged ones count too"
    );
    sent(&mut world, 0, &frame(0, mac));
    assert_eq!(
        receivers(&mut world),
        [1],
        "a flush of the dynamic ones leaves it"
    );
    world.switch.fdb().flush(Flush::All);
    sent(&mut world, 0, &frame(0, mac));
    assert_eq!(receivers(&mut world), [1, 2]);
}

#[test]
fn b_17_longer_than_the_egress_mtu_is_dropped_and_never_cut() {
    let mut world = world(3);
    let small = world.wires[2].index;
    world.update(|view| view.ports[small.index()].as_mut().unwrap().mtu = 1000);
    let bytes = ethernet(Mac::BROADCAST, member_mac(0), TYPE, &[1; 1001]);
    let counted = sent(&mut world, 0, &bytes);
    assert_eq!(counted, "received=1 flooded=1 copies=2 sent=1 EGRESS_MTU=1");
    assert_eq!(world.frames(1), [bytes]);
    // Exactly the MTU fits, and a tag does not count.
    for tag in [&[][..], &[0x81, 0, 0, 5]] {
        let mut bytes = ethernet(member_mac(2), member_mac(0), TYPE, &[1; 1000]);
        bytes.splice(12..12, tag.iter().copied());
        sent(&mut world, 0, &bytes);
        assert_eq!(world.frames(2), [bytes]);
    }
}

#[test]
fn b_18_short_frames_pass_and_less_than_a_header_does_not() {
    let mut world = world(2);
    for len in 14..60 {
        let mut bytes = frame(0, member_mac(1));
        bytes.truncate(len);
        sent(&mut world, 0, &bytes);
        assert_eq!(world.frames(1), [bytes]);
    }
    for len in 0..14 {
        let bytes = vec![2; len];
        assert_eq!(sent(&mut world, 0, &bytes), "received=1 FRAME_TOO_SHORT=1");
    }
}

#[test]
fn b_19_unknown_types_and_llc_pass_untouched() {
    let mut world = world(2);
    for ethertype in [0, 46, 0x05dc, 0x05ff, 0x0600, TYPE, 0x8870, 0x86dd, 0xffff] {
        let bytes = ethernet(member_mac(1), member_mac(0), ethertype, &[0x42; 46]);
        sent(&mut world, 0, &bytes);
        assert_eq!(world.frames(1), [bytes]);
    }
}

#[test]
fn a0_6_tags_pass_byte_by_byte() {
    let mut world = world(2);
    let ip = Ip::new(member_ip(0), member_ip(1)).packet(packet::UDP, &[0; 20]);
    let tags: [&[u8]; 3] = [
        &[0x81, 0, 0, 5],
        &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 5],
        &[0x81, 0, 0, 0],
    ];
    for tag in tags {
        let mut bytes = ethernet(member_mac(1), member_mac(0), 0x0800, &ip);
        bytes.splice(12..12, tag.iter().copied());
        sent(&mut world, 0, &bytes);
        assert_eq!(world.frames(1), [bytes]);
    }
}

#[test]
fn b_21b_probes_and_announcements_pass_and_a_claim_to_the_gateway_does_not() {
    let mut world = World::new(Setup::default());
    world.greet();
    let (zero, everyone) = (std::net::Ipv4Addr::UNSPECIFIED, Mac::BROADCAST);
    // A probe for another member, and the announcement after it.
    for sender in [zero, member_ip(1)] {
        let packet = arp(1, (member_mac(0), sender), (Mac::ZERO, member_ip(1)));
        let bytes = ethernet(everyone, member_mac(0), 0x0806, &packet);
        let counted = sent(&mut world, 0, &bytes);
        assert!(
            counted.starts_with("received=2 forwarded=1 flooded=1"),
            "{counted}"
        );
        let reply = world.frames(0);
        assert_eq!(reply.len(), 1, "its owner defends the address");
        assert_eq!(receivers(&mut world), [1, 2]);
    }
    // A probe for the gateway's is answered and leaves no trace.
    let known = world.switch.neighbours().entries(world.now);
    let packet = arp(1, (member_mac(0), zero), (Mac::ZERO, GATEWAY));
    let bytes = ethernet(everyone, member_mac(0), 0x0806, &packet);
    let counted = sent(&mut world, 0, &bytes);
    assert_eq!(counted, "received=1 answered=1 copies=1 sent=1");
    let reply = arp(2, (GATEWAY_MAC, GATEWAY), (member_mac(0), zero));
    let reply = ethernet(member_mac(0), GATEWAY_MAC, 0x0806, &reply);
    assert_eq!(world.frames(0), [reply]);
    assert_eq!(world.switch.neighbours().entries(world.now), known);
    // An announcement of the gateway's address reaches nobody.
    for operation in [1, 2] {
        let packet = arp(operation, (member_mac(0), GATEWAY), (Mac::ZERO, GATEWAY));
        let bytes = ethernet(everyone, member_mac(0), 0x0806, &packet);
        assert_eq!(sent(&mut world, 0, &bytes), "received=1 ARP_INVALID=1");
    }
}

#[test]
fn f_3_the_gateways_own_address_is_nobody_elses() {
    let mut world = World::new(Setup::default());
    let bytes = ethernet(Mac::BROADCAST, GATEWAY_MAC, TYPE, &[0; 46]);
    assert_eq!(
        sent(&mut world, 0, &bytes),
        "received=1 SOURCE_IS_GATEWAY=1"
    );
}

#[test]
fn a0_5_a_super_frame_passes_whole_and_only_its_segments_must_fit() {
    let mut world = world(3);
    let small = world.wires[2].index;
    world.update(|view| view.ports[small.index()].as_mut().unwrap().mtu = 1000);
    let tcp = packet::Tcp {
        ports: (1, 2),
        seq: 1,
        ack: 1,
        flags: packet::ACK,
    };
    let ip = Ip::new(member_ip(0), member_ip(1));
    let (packet, offload) = ip.tcp(tcp, &[5; 14_000], Sum::Partial);
    let gso = Gso::Tcp4 {
        mss: 1460,
        ecn: false,
    };
    let offload = Offload { gso, ..offload };
    for (to, counted) in [
        (1, "received=1 forwarded=1 copies=1 sent=1"),
        (2, "received=1 forwarded=1 copies=1 EGRESS_MTU=1"),
    ] {
        let bytes = ethernet(member_mac(to), member_mac(0), 0x0800, &packet);
        assert_eq!(
            world.counted(|w| assert!(w.send(0, &bytes, offload))),
            counted
        );
        let taken = world.taken(usize::from(to));
        let expected = usize::from(to == 1);
        assert_eq!(taken.len(), expected);
        assert!(
            taken
                .iter()
                .all(|f| f.bytes() == bytes && f.offload == offload)
        );
    }
}

#[test]
fn a0_4_sctp_leaves_with_its_crc_done() {
    let mut world = world(2);
    // RFC 9260 3.1: ports, verification tag, checksum; then an INIT chunk of some length.
    let mut sctp = vec![0x12, 0x34, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0];
    sctp.extend([
        1, 0, 0, 20, 1, 2, 3, 4, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1,
    ]);
    let packet = Ip::new(member_ip(0), member_ip(1)).packet(SCTP, &sctp);
    let csum = Csum::Partial {
        start: 34,
        offset: 8,
    };
    let gso = Gso::None;
    let bytes = ethernet(member_mac(1), member_mac(0), 0x0800, &packet);
    assert!(world.send(0, &bytes, Offload { csum, gso }));
    world.run();
    let frame = world.taken(1).pop().unwrap();
    assert_eq!(frame.offload, PLAIN);
    let crc = crc32c(&sctp).to_le_bytes();
    assert_eq!(frame.bytes()[42..46], crc);
    world.check();
}

/// Bit by bit (RFC 9260 appendix A), apart from the product's table.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

#[test]
fn ports_come_and_go_under_traffic() {
    let mut world = world(3);
    let gone = world.wires[1].index;
    world.remove_port(1);
    assert_eq!(world.switch.fdb().port_entries(gone), 0);
    let counted = world.counted(|w| assert!(w.send(0, &frame(0, member_mac(1)), PLAIN)));
    assert_eq!(counted, "received=1 flooded=1 copies=1 sent=1");
    // Frames that arrive on the old cable are of no port any more.
    assert!(world.send(1, &frame(1, member_mac(0)), PLAIN));
    assert_eq!(world.counted(|_| ()), "");
    // The index is used again, with counters of its own.
    let place = world.add_member(5);
    assert_eq!(world.wires[place].index, gone);
    world.obey();
    assert_eq!(world.switch.port_totals(gone).received_frames, 0);
    world.clear();
    let counted = world.counted(|w| assert!(w.send(place, &frame(5, member_mac(0)), PLAIN)));
    assert_eq!(counted, "received=1 forwarded=1 copies=1 sent=1");
    assert_eq!(receivers(&mut world), [0]);
    let totals = world.switch.totals();
    assert!(totals.conserved(), "{totals:?}");
}

#[test]
fn a_port_that_is_down_costs_only_its_own_copies() {
    let mut world = world(3);
    world.plug(1, false);
    let counted = sent(&mut world, 0, &frame(0, Mac::BROADCAST));
    assert_eq!(
        counted,
        "received=1 flooded=1 copies=2 sent=1 EGRESS_DOWN=1"
    );
    world.plug(1, true);
    let down = world.wires[1].index.index();
    world.update(|view| view.ports[down].as_mut().unwrap().up = false);
    let counted = sent(&mut world, 0, &frame(0, Mac::BROADCAST));
    assert_eq!(counted, "received=1 flooded=1 copies=1 sent=1");
    let counted = sent(&mut world, 0, &frame(0, member_mac(1)));
    assert_eq!(counted, "received=1 forwarded=1 copies=1 EGRESS_DOWN=1");
    world.update(|view| view.ports[down].as_mut().unwrap().up = true);
    let counted = sent(&mut world, 0, &frame(0, member_mac(1)));
    assert_eq!(counted, "received=1 forwarded=1 copies=1 sent=1");
}

#[test]
fn a_full_port_drops_and_counts_what_it_cannot_take() {
    let mut world = world(2);
    for _ in 0..1100 {
        assert!(world.send(0, &frame(0, member_mac(1)), PLAIN));
        // The switch works, the receiver does not.
        world.workers[0].poll_once(world.now);
    }
    assert_eq!(world.drops().get("EGRESS_FULL"), Some(&(1100 - 1024)));
    world.run();
    assert_eq!(world.taken(1).len(), 1024);
    world.check();
}
