//! A packet port shared among workers: filter, steering and fan-out group.

use super::link::{Links, in_namespace};
use super::*;
use crate::port::steer::tests::uplink_filter;
use crate::port::steer::{Program, filter, steering};
use crate::port::{Fanout, FanoutGroup, FloodgateSettings, Programs};
use std::net::Ipv4Addr;

const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const FIRST: u16 = 61_000;
const PER_SLICE: u16 = 1000;

/// An IPv4 frame of protocol `protocol` to `to`.
fn ipv4(to: Ipv4Addr, protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
    bytes.extend(u16::try_from(20 + payload.len()).unwrap().to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend(fragment.to_be_bytes());
    bytes.extend([64, protocol, 0, 0, 198, 51, 100, 1]);
    bytes.extend(to.octets());
    bytes.extend(payload);
    bytes.resize(bytes.len().max(60), 0);
    bytes
}

fn udp(to: Ipv4Addr, from_port: u16, port: u16) -> Vec<u8> {
    let mut payload = from_port.to_be_bytes().to_vec();
    payload.extend(port.to_be_bytes());
    payload.extend([0, 8, 0, 0]);
    ipv4(to, 17, 0, &payload)
}

fn echo_reply(id: u16) -> Vec<u8> {
    let mut payload = vec![0, 0, 0, 0];
    payload.extend(id.to_be_bytes());
    payload.extend([0, 1]);
    ipv4(EXTERNAL, 1, 0, &payload)
}

/// "Port unreachable" about a datagram sent from `port`.
fn unreachable(port: u16) -> Vec<u8> {
    let mut payload = vec![3, 3, 0, 0, 0, 0, 0, 0];
    payload.extend(&udp(Ipv4Addr::new(198, 51, 100, 1), port, 53)[14..]);
    ipv4(EXTERNAL, 1, 0, &payload)
}

fn arp() -> Vec<u8> {
    let mut bytes = vec![0xff; 6];
    bytes.extend([2, 0, 0, 0, 0, 2, 8, 6]);
    bytes.resize(60, 0);
    bytes
}

fn plain(frames: Vec<Vec<u8>>) -> Vec<Seen> {
    frames.into_iter().map(Seen::plain).collect()
}

fn open_with(ifindex: u32, filter: &Program) -> PacketRx {
    let options = PacketOptions {
        filter: Some(filter),
        ..options(ifindex, None)
    };
    PacketRx::open(&options).unwrap()
}

#[test]
fn the_filter_keeps_the_hosts_traffic_out_and_can_be_replaced() {
    in_namespace(|links| {
        let wire = links.wire();
        let nat = uplink_filter(EXTERNAL, &[FIRST..=65_535]);
        let rx = open_with(wire.near, &nat);
        let mut rx = Rx::Packet(rx);
        let mut tx = Tx::open().unwrap();
        let far = Egress::Packet { ifindex: wire.far };
        let other = Ipv4Addr::new(192, 0, 2, 11);
        let ours = || {
            plain(vec![
                arp(),
                udp(EXTERNAL, 53, FIRST),
                echo_reply(1),
                ipv4(EXTERNAL, 17, 7, &[1; 40]),
            ])
        };
        let hosts = || {
            let mut tagged = udp(EXTERNAL, 53, FIRST);
            tagged.splice(12..12, [0x81, 0, 0, 5]);
            plain(vec![
                udp(EXTERNAL, 53, 22),
                udp(other, 53, FIRST),
                ipv4(EXTERNAL, 47, 0, &[0; 20]),
                tagged,
            ])
        };
        send_all(&mut tx, &far, &hosts());
        send_all(&mut tx, &far, &ours());
        send_all(&mut tx, &far, &hosts());
        assert_eq!(receive(&mut rx, 4), ours());
        receive_none(&mut rx);
        assert_eq!(rx.losses(), Losses::default(), "not wanted is not lost");

        let Rx::Packet(packet) = &rx else {
            unreachable!()
        };
        let published = uplink_filter(EXTERNAL, &[8080..=8080, FIRST..=65_535]);
        packet.set_filter("near", Some(&published)).unwrap();
        let more = plain(vec![udp(EXTERNAL, 9, 8080), udp(EXTERNAL, 9, FIRST)]);
        send_all(&mut tx, &far, &hosts());
        send_all(&mut tx, &far, &more);
        assert_eq!(receive(&mut rx, 2), more);
        receive_none(&mut rx);
    });
}

/// A port is published and steered, and the filter changed, while the workers have the rings.
fn published_while_it_runs(
    (tx, far): (&mut Tx, &Egress),
    programs: &Programs,
    workers: &mut [Rx; 3],
    uplink: &Program,
) {
    let published = steering(FIRST, PER_SLICE, 3, &[(80..=80, 2)]);
    programs.set_steering("near", &published).unwrap();
    let to_published = plain(vec![udp(EXTERNAL, 1, 80)]);
    send_all(tx, far, &to_published);
    assert_eq!(receive(&mut workers[2], 1), to_published);
    let nothing = filter(&[]);
    let port = |worker: u16| FIRST + worker * PER_SLICE + 7;
    let to_first = plain(vec![udp(EXTERNAL, 53, port(0))]);
    programs.set_filter("near", Some(&nothing)).unwrap();
    send_all(tx, far, &plain(vec![udp(EXTERNAL, 53, port(1))]));
    send_all(tx, far, &to_first);
    assert_eq!(receive(&mut workers[0], 1), to_first);
    receive_none(&mut workers[1]);
    programs.set_filter("near", Some(uplink)).unwrap();
}

/// The members of a group leave it when the interface goes down and rejoin when it comes up; the
/// steering depends on their order, which must be the same again.
fn down_and_up(links: &Links, near: u32, (tx, far): (&mut Tx, &Egress), first: &mut Rx) {
    links.set_up(near, false);
    links.set_up(near, true);
    let resumed = (0..60).any(|_| {
        send(tx, far, &plain(vec![arp()]));
        !receive_for(first, 1, SILENCE).is_empty()
    });
    assert!(resumed);
}

#[test]
fn each_worker_gets_the_frames_of_its_slice_once() {
    in_namespace(|links| {
        let wire = links.wire();
        let uplink = uplink_filter(EXTERNAL, &[0..=65_535]);
        let by_slice = steering(FIRST, PER_SLICE, 3, &[]);
        let join = |fanout| {
            let filter = Some(&uplink);
            let options = PacketOptions {
                filter,
                fanout: Some(fanout),
                ..options(wire.near, None)
            };
            PacketRx::open(&options).unwrap()
        };
        let first = join(Fanout::First(&by_slice));
        let group: FanoutGroup = first.group().unwrap();
        let second = join(Fanout::Join(group));
        let third = join(Fanout::Join(group));
        assert_eq!(third.group(), Some(group));
        let programs = second.programs("near").unwrap();
        let mut workers = [first, second, third].map(Rx::Packet);

        let mut tx = Tx::open().unwrap();
        let port = |worker: u16| FIRST + worker * PER_SLICE + 7;
        let of = |worker| {
            let port = port(worker);
            plain(vec![
                udp(EXTERNAL, 53, port),
                echo_reply(port),
                unreachable(port),
            ])
        };
        let far = Egress::Packet { ifindex: wire.far };
        for worker in [2, 0, 1] {
            send_all(&mut tx, &far, &of(worker));
        }
        let rest = plain(vec![
            arp(),
            ipv4(EXTERNAL, 17, 0x2000, &[9; 40]),
            udp(EXTERNAL, 1, 80),
        ]);
        send_all(&mut tx, &far, &rest);
        // What the group's interface sends is nobody's.
        send_all(&mut tx, &Egress::Uplink { ifindex: wire.near }, &of(1));
        let expected = [[of(0), rest].concat(), of(1), of(2)];
        for (rx, expected) in workers.iter_mut().zip(expected) {
            assert_eq!(receive(rx, expected.len()), expected);
        }
        for rx in &mut workers {
            receive_none(rx);
            assert_eq!(rx.losses(), Losses::default());
        }

        published_while_it_runs((&mut tx, &far), &programs, &mut workers, &uplink);

        down_and_up(links, wire.near, (&mut tx, &far), &mut workers[0]);
        for worker in [2, 0, 1] {
            send_all(&mut tx, &far, &of(worker));
        }
        for (rx, worker) in workers.iter_mut().zip(0..) {
            assert_eq!(receive(rx, 3), of(worker));
        }
    });
}

#[test]
fn the_programs_are_replaced_while_workers_have_the_rings() {
    in_namespace(|links| {
        let wire = links.wire();
        let uplink = uplink_filter(EXTERNAL, &[0..=65_535]);
        let by_slice = steering(FIRST, PER_SLICE, 2, &[]);
        let join = |fanout| {
            let options = PacketOptions {
                filter: Some(&uplink),
                fanout: Some(fanout),
                ..options(wire.near, None)
            };
            PacketRx::open(&options).unwrap()
        };
        let first = join(Fanout::First(&by_slice));
        let second = join(Fanout::Join(first.group().unwrap()));
        let programs = second.programs("near").unwrap();
        let mut workers = [first, second].map(Rx::Packet);

        let mut tx = Tx::open().unwrap();
        let far = Egress::Packet { ifindex: wire.far };
        let to_published = plain(vec![udp(EXTERNAL, 1, 80)]);
        send_all(&mut tx, &far, &to_published);
        assert_eq!(receive(&mut workers[0], 1), to_published);
        let published = steering(FIRST, PER_SLICE, 2, &[(80..=80, 1)]);
        programs.set_steering("near", &published).unwrap();
        send_all(&mut tx, &far, &to_published);
        assert_eq!(receive(&mut workers[1], 1), to_published);
        programs.set_filter("near", Some(&filter(&[]))).unwrap();
        send_all(&mut tx, &far, &to_published);
        let others = plain(vec![udp(EXTERNAL, 1, FIRST)]);
        send_all(&mut tx, &far, &others);
        assert_eq!(receive(&mut workers[0], 1), others);
        receive_none(&mut workers[1]);
    });
}

/// A SYN to a port that is taken, from a sender of this number.
fn syn(n: u16) -> Vec<u8> {
    let mut header = n.to_be_bytes().to_vec();
    header.extend(FIRST.to_be_bytes());
    header.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0]);
    ipv4(EXTERNAL, 6, 0, &header)
}

#[test]
fn f_8_a_flood_is_refused_before_the_ring_and_counted() {
    in_namespace(|links| {
        let wire = links.wire();
        let nat = uplink_filter(EXTERNAL, &[FIRST..=65_535]);
        let rx = open_with(wire.near, &nat);
        let programs = rx.programs("near").unwrap();
        let mut rx = Rx::Packet(rx);
        let mut tx = Tx::open().unwrap();
        let far = Egress::Packet { ifindex: wire.far };
        let settings = FloodgateSettings {
            per_sec: 10,
            except: None,
            seed: 3,
        };
        if let Err(err) = programs.refuse_floods("near", &nat, settings) {
            println!("SKIPPED bpf: {err}");
            return;
        }
        let syns = |range: std::ops::Range<u16>| plain(range.map(syn).collect());
        let others = plain(vec![arp(), udp(EXTERNAL, 53, FIRST), echo_reply(1)]);
        let hosts = plain(vec![udp(EXTERNAL, 53, 22), ipv4(EXTERNAL, 47, 0, &[0; 20])]);
        send_all(&mut tx, &far, &syns(0..200));
        send_all(&mut tx, &far, &hosts);
        send_all(&mut tx, &far, &others);
        let mut seen = receive_for(&mut rx, 203, SILENCE);
        assert_eq!(seen.split_off(seen.len() - 3), others);
        // At least two at once, and ten a second if this takes its time.
        assert!((2..200).contains(&seen.len()), "{}", seen.len());
        let refused = 200 - seen.len() as u64;
        let losses = Losses {
            syn_flood: refused,
            ..Losses::default()
        };
        assert_eq!(rx.losses(), losses);
        assert_eq!(rx.losses(), Losses::default(), "each is counted once");

        programs.set_filter("near", Some(&nat)).unwrap();
        send_all(&mut tx, &far, &syns(200..300));
        assert_eq!(receive(&mut rx, 100), syns(200..300));
        assert_eq!(rx.losses(), Losses::default());
        // Later floods are counted on.
        programs.refuse_floods("near", &nat, settings).unwrap();
        send_all(&mut tx, &far, &syns(300..400));
        let seen = receive_for(&mut rx, 100, SILENCE);
        assert_eq!(rx.losses().syn_flood, 100 - seen.len() as u64);
    });
}
