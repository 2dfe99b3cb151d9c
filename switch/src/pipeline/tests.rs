//! Verdicts of single frames, without workers or ports.

use std::net::Ipv4Addr;

use nat::{Config, Nanos, Nat};

use super::*;
use crate::config::{GatewayView, HostView, Route, UplinkView, View};
use crate::fdb::Fdb;
use crate::frame::{Offload, OwnedFrame};
use crate::gateway::Origin;
use crate::hold::Hold;
use crate::mac::Mac;
use crate::neigh::{Link, Neighbours};
use crate::port::sim::{CableOptions, cable};
use crate::port::{Egress, PortIndex};
use crate::stations::Stations;

const GATEWAY: Mac = Mac([2, 0, 0, 0, 9, 1]);
const UPLINK: Mac = Mac([2, 0, 0, 0, 0xee, 0]);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);

/// Ports: members 0 and 1, host 2, uplink 3.
fn view() -> View {
    let roles = [Role::Member, Role::Member, Role::Host, Role::Uplink];
    let ports = roles.into_iter().map(|role| {
        Some(PortView {
            network: NetworkIndex(0),
            role,
            egress: Egress::Sim(cable(PortIndex(0), CableOptions::default()).1),
            mtu: 1500,
            up: true,
            nat_worker: 0,
            isolated: false,
        })
    });
    View {
        number: 0,
        ports: ports.collect(),
        gateway: Some(GatewayView {
            network: NetworkIndex(0),
            address: [10, 9, 0, 1].into(),
            prefix: 24,
            mac: GATEWAY,
        }),
        uplink: Some(UplinkView {
            port: PortIndex(3),
            mac: UPLINK,
            address: EXTERNAL,
            own: false,
            routes: vec![Route {
                network: [203, 0, 113, 0].into(),
                prefix: 24,
                via: None,
            }],
            nat_ports: 40_000..=40_999,
            pool: Vec::new(),
            untranslated: Vec::new(),
            mss_clamp: false,
        }),
        host: HostView {
            port: Some(PortIndex(2)),
            addresses: vec![EXTERNAL],
        },
        publishes: std::sync::Arc::default(),
    }
}

struct Bench {
    view: View,
    fdb: Fdb,
    neighbours: Neighbours,
    nat: Nat,
    hold: Hold,
    origin: Origin,
    offers: gateway::Offers,
    stations: Stations,
}

impl Bench {
    fn new() -> Self {
        Self {
            view: view(),
            fdb: Fdb::new(64, 1),
            neighbours: Neighbours::new(64, 1),
            nat: Nat::new(Config::new(EXTERNAL, 40_000..=40_999), 1),
            hold: Hold::default(),
            origin: Origin::new(Nanos(0)),
            offers: gateway::Offers::default(),
            stations: Stations::default(),
        }
    }

    /// The verdict of one frame, which is left as it was made of it.
    fn decide(&mut self, ingress: u16, frame: &mut OwnedFrame) -> Verdict {
        let mut ctx = Context {
            view: &self.view,
            fdb: &self.fdb,
            neighbours: &self.neighbours,
            nat: Some(&mut self.nat),
            hold: &mut self.hold,
            origin: &mut self.origin,
            offers: &mut self.offers,
            stations: &mut self.stations,
            worker: 0,
            member_mtu_min: self.view.member_mtu_min(),
            last_hop: None,
            now: Nanos::from_secs(1),
            tracer: crate::trace::Off,
        };
        let mut frame = frame.borrow();
        frame.ingress = PortIndex(ingress);
        let mut batch: Batch<'_> = [frame].into_iter().collect();
        process(&mut ctx, &mut batch)[0]
    }

    fn verdict(&mut self, ingress: u16, bytes: &[u8]) -> Verdict {
        let mut frame = OwnedFrame::new(bytes, Offload::PLAIN, PortIndex(ingress));
        self.decide(ingress, &mut frame)
    }
}

fn member(number: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, number])
}

fn frame(to: Mac, from: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = ethernet::header(to, from, ethertype).to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

fn udp(source: [u8; 4], destination: [u8; 4], to_port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4(source, destination, 64)
        .udp(5000, to_port)
        .write(&mut packet, b"hello")
        .unwrap();
    packet
}

#[test]
fn a_frame_between_members_is_learned_flooded_forwarded_or_refused() {
    let mut bench = Bench::new();
    let plain = |to, from| frame(to, from, 0x9999, &[0; 46]);
    assert_eq!(
        bench.verdict(0, &plain(member(1), member(0))),
        Verdict::Flood
    );
    let back = plain(member(0), member(1));
    assert_eq!(bench.verdict(1, &back), Verdict::Forward(PortIndex(0)));
    for (ingress, bytes, reason) in [
        (0, plain(member(0), member(9)), DropReason::SamePort),
        (
            0,
            plain(member(1), Mac::BROADCAST),
            DropReason::SourceInvalid,
        ),
        (0, plain(member(1), GATEWAY), DropReason::SourceIsGateway),
        (
            0,
            plain(Mac([1, 0x80, 0xc2, 0, 0, 2]), member(0)),
            DropReason::ReservedAddress,
        ),
        (3, plain(member(1), member(0)), DropReason::OtherHost),
        (9, plain(member(1), member(0)), DropReason::NoEgress),
        (0, vec![0; 13], DropReason::FrameTooShort),
    ] {
        assert_eq!(bench.verdict(ingress, &bytes), Verdict::Drop(reason));
    }
    // The host's end of the gateway has its address, by its own port only.
    assert_eq!(
        bench.verdict(2, &plain(Mac::BROADCAST, GATEWAY)),
        Verdict::Flood
    );
}

#[test]
fn a_packet_out_waits_for_its_next_hop_and_is_then_translated_in_place() {
    let mut bench = Bench::new();
    let packet = udp([10, 9, 0, 2], OUTSIDE.octets(), 53);
    let bytes = frame(GATEWAY, member(0), ethernet::IPV4, &packet);
    assert_eq!(bench.verdict(0, &bytes), Verdict::Hold);
    assert_eq!(
        (bench.hold.len(), bench.origin.frames.len()),
        (1, 1),
        "one ARP request"
    );
    let now = Nanos::from_secs(1);
    let there = Mac([2, 0, 0, 0, 0xee, 1]);
    bench.neighbours.confirm(Link::Uplink, OUTSIDE, there, now);
    // The one that waits goes first.
    assert_eq!(bench.verdict(0, &bytes), Verdict::Hold);
    assert!(bench.hold.take(now, |_| true).is_some());
    let mut owned = OwnedFrame::new(&bytes, Offload::PLAIN, PortIndex(0));
    assert_eq!(bench.decide(0, &mut owned), Verdict::Route(PortIndex(3)));
    let sent = owned.bytes();
    assert_eq!((&sent[..6], &sent[6..12]), (&there.0[..], &UPLINK.0[..]));
    assert_eq!((sent[22], &sent[26..30]), (63, &EXTERNAL.octets()[..]));
}

#[test]
fn what_is_for_the_host_goes_to_its_port_untouched() {
    let mut bench = Bench::new();
    for (destination, port) in [([10, 9, 0, 1], 53), (EXTERNAL.octets(), 22)] {
        let packet = udp([10, 9, 0, 2], destination, port);
        let bytes = frame(GATEWAY, member(0), ethernet::IPV4, &packet);
        let mut owned = OwnedFrame::new(&bytes, Offload::PLAIN, PortIndex(0));
        assert_eq!(bench.decide(0, &mut owned), Verdict::Forward(PortIndex(2)));
        assert_eq!(owned.bytes(), bytes);
    }
    // A NAT port on the shared address is not the host's.
    let packet = udp([10, 9, 0, 2], EXTERNAL.octets(), 40_500);
    let bytes = frame(GATEWAY, member(0), ethernet::IPV4, &packet);
    let unsolicited = Verdict::Drop(DropReason::NatUnsolicited);
    assert_eq!(bench.verdict(0, &bytes), unsolicited);
}
