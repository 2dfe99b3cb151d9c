use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use nat::Config;

use super::*;
use crate::config::{GatewayView, NetworkIndex, PortView, Role, Route, UplinkView, View};
use crate::fdb::Fdb;
use crate::frame::{Batch, Offload, OwnedFrame};
use crate::gateway::{Offers, Origin};
use crate::hold::Hold;
use crate::mac::Mac;
use crate::neigh::{Link, Neighbours};
use crate::pipeline;
use crate::port::{Egress, PortIndex};
use crate::stations::Stations;
use crate::trace::Off;
use crate::verdict::Verdict;

const GATEWAY: Mac = Mac([2, 0, 0, 0, 9, 1]);
const UPLINK: Mac = Mac([2, 0, 0, 0, 0xee, 0]);
const CLIENT: Mac = Mac([2, 0, 0, 0, 1, 1]);
const ROUTER: Mac = Mac([2, 0, 0, 0, 2, 1]);
const INSIDE: ([u8; 4], u16) = ([10, 9, 0, 11], 40_123);
const REMOTE: ([u8; 4], u16) = ([203, 0, 113, 1], 443);
const EXTERNAL: [u8; 4] = [203, 0, 113, 254];
const MEMBER: PortIndex = PortIndex(0);
const OUT: PortIndex = PortIndex(1);
const NETWORK: Link = Link::Network(0);

fn port(role: Role, egress: Egress) -> Option<PortView> {
    Some(PortView {
        network: NetworkIndex(0),
        role,
        egress,
        mtu: 1500,
        up: true,
        nat_worker: 0,
        isolated: false,
    })
}

fn view() -> View {
    let uplink = UplinkView {
        port: OUT,
        mac: UPLINK,
        address: EXTERNAL.into(),
        own: false,
        routes: vec![Route {
            network: [203, 0, 113, 0].into(),
            prefix: 24,
            via: None,
        }],
        nat_ports: 40_000..=40_999,
        pool: Vec::new(),
        untranslated: Vec::new(),
        mss_clamp: true,
    };
    View {
        ports: vec![
            port(Role::Member, Egress::Packet { ifindex: 11 }),
            port(Role::Uplink, Egress::Uplink { ifindex: 12 }),
        ],
        gateway: Some(GatewayView {
            network: NetworkIndex(0),
            address: [10, 9, 0, 1].into(),
            prefix: 24,
            mac: GATEWAY,
        }),
        uplink: Some(uplink),
        ..View::default()
    }
}

/// One worker's world, of which nothing is sent.
struct Bench {
    view: View,
    fdb: Fdb,
    neighbours: Neighbours,
    nat: Nat,
    hold: Hold,
    origin: Origin,
    offers: Offers,
    stations: Stations,
    counters: WorkerCounters,
    loans: Loans,
    now: Nanos,
}

/// A connection's segment: from inside, or back.
#[derive(Clone, Copy)]
enum Way {
    Out,
    Back,
}

impl Bench {
    /// With a connection that is established, and nothing lent of it.
    fn new() -> Self {
        let now = Nanos::from_secs(100);
        let mut nat = Nat::new(Config::new(EXTERNAL.into(), 40_000..=40_999), 1);
        nat.set_lending(true);
        let mut bench = Self {
            view: view(),
            fdb: Fdb::new(64, 1),
            neighbours: Neighbours::new(64, 1),
            nat,
            hold: Hold::default(),
            origin: Origin::new(now),
            offers: Offers {
                wanted: true,
                list: Vec::new(),
            },
            stations: Stations::default(),
            counters: WorkerCounters::default(),
            loans: Loans::new(Arc::new(FastPath::rehearsal(1).unwrap())),
            now,
        };
        bench
            .neighbours
            .confirm(NETWORK, INSIDE.0.into(), CLIENT, now);
        bench
            .neighbours
            .confirm(Link::Uplink, REMOTE.0.into(), ROUTER, now);
        bench.send(Way::Out, "S");
        bench.send(Way::Back, "SA");
        bench.send(Way::Out, "A");
        bench
    }

    fn external(&self) -> u16 {
        let session = self.nat.sessions().next();
        session.map_or(0, |session| session.external.1)
    }

    fn frame(&self, way: Way, flags: &str) -> OwnedFrame {
        let (from, to, macs, ingress) = match way {
            Way::Out => (INSIDE, REMOTE, (CLIENT, GATEWAY), MEMBER),
            Way::Back => (REMOTE, (EXTERNAL, self.external()), (ROUTER, UPLINK), OUT),
        };
        let mut tcp = etherparse::TcpHeader::new(from.1, to.1, 1, 1000);
        tcp.syn = flags.contains('S');
        tcp.ack = flags.contains('A');
        tcp.fin = flags.contains('F');
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(macs.0.0, macs.1.0)
            .ipv4(from.0, to.0, 64)
            .tcp_header(tcp)
            .write(&mut bytes, b"x")
            .unwrap();
        OwnedFrame::new(&bytes, Offload::PLAIN, ingress)
    }

    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Context<'_>, &WorkerCounters, &mut Loans) -> T,
    ) -> T {
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
            member_mtu_min: 1500,
            last_hop: None,
            now: self.now,
            tracer: Off,
        };
        work(&mut ctx, &self.counters, &mut self.loans)
    }

    /// Sends a segment through the worker, which then takes up what it is offered, and takes back
    /// what is recalled.
    fn send(&mut self, way: Way, flags: &str) {
        let mut frame = self.frame(way, flags);
        let mut batch: Batch<'_> = std::iter::once(frame.borrow()).collect();
        let verdicts = self.with(|ctx, _, _| pipeline::process(ctx, &mut batch));
        assert!(matches!(verdicts[..], [Verdict::Route(_)]), "{verdicts:?}");
        while let Some(session) = self.nat.recalled() {
            for direction in [Direction::Outbound, Direction::Inbound] {
                self.loans.stop((session, direction), self.now);
            }
        }
        for offer in std::mem::take(&mut self.offers.list) {
            self.loans.take_up(offer, &mut self.nat, self.now);
        }
    }

    /// Until the connection's direction is lent; what is.
    fn lend(&mut self, way: Way) -> Offer {
        let before = self.loans.live.len();
        for _ in 0..16 {
            self.send(way, "A");
        }
        assert_eq!(self.loans.live.len(), before + 1);
        self.loans.loans.last().unwrap().offer
    }

    fn look(&mut self) {
        self.with(|ctx, counters, loans| loans.look(ctx, counters, LOOKS));
    }

    fn pass(&mut self, time: Nanos) {
        self.now += time;
    }

    /// Whether the kernel would carry a frame of 100 bytes now.
    fn is_carried(&self, offer: &Offer) -> bool {
        self.loans.path.play(&offer.shortcut, 100, self.now)
    }

    fn states(&self) -> (usize, usize) {
        (self.loans.live.len(), self.loans.loans.len())
    }
}

#[test]
fn a_shortcut_is_what_the_worker_does() {
    let mut bench = Bench::new();
    let external = bench.external();
    for way in [Way::Out, Way::Back] {
        let offer = bench.lend(way);
        let mut frame = bench.frame(way, "A");
        let before = frame.borrow().bytes().to_vec();
        let mut batch: Batch<'_> = std::iter::once(frame.borrow()).collect();
        let verdicts = bench.with(|ctx, _, _| pipeline::process(ctx, &mut batch));
        let after = batch[0].bytes().to_vec();
        let shortcut = offer.shortcut;
        for (which, bytes) in [before, after].iter().enumerate() {
            let address = |at: usize| {
                let octets: [u8; 4] = bytes[at..at + 4].try_into().unwrap();
                Ipv4Addr::from(octets)
            };
            let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            assert_eq!(
                shortcut.macs[which].map(|mac| mac.0).as_flattened(),
                &bytes[..12]
            );
            assert_eq!(shortcut.addresses[which], [address(26), address(30)]);
            assert_eq!(shortcut.ports[which], [number(34), number(36)]);
        }
        assert_eq!(verdicts[..], [Verdict::Route(offer.egress)]);
        let ends = match way {
            Way::Out => (11, 12, MEMBER, OUT),
            Way::Back => (12, 11, OUT, MEMBER),
        };
        let offered = (
            shortcut.ingress,
            shortcut.egress,
            offer.ingress,
            offer.egress,
        );
        assert_eq!((offered, shortcut.mtu), (ends, 1500));
    }
    assert_eq!(bench.external(), external);
}

#[test]
fn what_the_kernel_carries_is_counted_as_if_the_worker_had_routed_it() {
    let mut bench = Bench::new();
    let (out, back) = (bench.lend(Way::Out), bench.lend(Way::Back));
    let session = |bench: &Bench| bench.nat.sessions().next().unwrap();
    let before = session(&bench);
    for _ in 0..7 {
        assert!(bench.is_carried(&out));
    }
    assert!(bench.is_carried(&back));
    bench.pass(Nanos::from_secs(1));
    bench.look();
    bench.look();
    let after = session(&bench);
    assert_eq!(after.outbound.packets - before.outbound.packets, 7);
    assert_eq!(after.outbound.bytes - before.outbound.bytes, 7 * 86);
    assert_eq!(after.inbound.packets - before.inbound.packets, 1);
    assert!(after.expires_at > before.expires_at);
    let counters = &bench.counters;
    let totals = &counters.totals;
    for total in [
        &totals.received,
        &totals.routed,
        &totals.copies,
        &totals.sent,
        &totals.carried,
    ] {
        assert_eq!(total.get(), 8);
    }
    for (port, came, went) in [(MEMBER, 7, 1), (OUT, 1, 7)] {
        let port = counters.port(port);
        assert_eq!(
            (port.received_frames.get(), port.sent_frames.get()),
            (came, went)
        );
        let bytes = (port.received_bytes.get(), port.sent_bytes.get());
        assert_eq!(bytes, (100 * came, 100 * went));
    }
}

#[test]
fn a_lease_is_renewed_while_something_is_carried_and_all_is_as_it_was() {
    let mut bench = Bench::new();
    let offer = bench.lend(Way::Out);
    for _ in 0..10 {
        bench.pass(LEASE.saturating_sub(Nanos(1)));
        assert!(bench.is_carried(&offer));
        bench.look();
    }
    // Silence: the lease ends, and later the loan.
    bench.pass(LEASE);
    assert!(!bench.is_carried(&offer));
    bench.look();
    assert_eq!(bench.states(), (1, 1));
    // The connection goes on before that.
    bench.lend_again(&offer);
    bench.pass(LEASE + LEASE);
    bench.look();
    assert_eq!(bench.states(), (0, 1));
    bench.pass(REST);
    bench.look();
    assert_eq!(bench.states(), (0, 0));
    let again = bench.lend(Way::Out);
    assert!(bench.is_carried(&again));
}

impl Bench {
    /// Frames come up, and what is lent is renewed.
    fn lend_again(&mut self, offer: &Offer) {
        for _ in 0..16 {
            self.send(Way::Out, "A");
        }
        assert_eq!(self.states(), (1, 1));
        assert!(self.is_carried(offer));
        self.look();
    }
}

#[test]
fn what_holds_no_longer_is_stopped_at_the_next_look() {
    type Change = fn(&mut Bench);
    let changes: [(Way, Change); 6] = [
        (Way::Out, |bench| {
            bench
                .neighbours
                .update(Link::Uplink, REMOTE.0.into(), Mac([2; 6]), bench.now);
        }),
        (Way::Out, |bench| {
            bench.neighbours.remove(Link::Uplink, REMOTE.0.into());
        }),
        (Way::Out, |bench| {
            bench.fdb.learn(0, CLIENT, PortIndex(7), bench.now);
        }),
        (Way::Back, |bench| {
            bench
                .neighbours
                .update(NETWORK, INSIDE.0.into(), Mac([2; 6]), bench.now);
        }),
        (Way::Back, |bench| {
            bench.fdb.learn(0, CLIENT, PortIndex(7), bench.now);
        }),
        (Way::Back, |bench| bench.loans.stop_all(bench.now)),
    ];
    for (which, (way, change)) in changes.into_iter().enumerate() {
        let mut bench = Bench::new();
        let offer = bench.lend(way);
        assert!(bench.is_carried(&offer));
        bench.pass(Nanos::from_secs(1));
        change(&mut bench);
        bench.look();
        assert!(!bench.is_carried(&offer), "{which}");
        assert_eq!(bench.states(), (0, 1), "{which}");
        // What was carried up to then is counted all the same.
        assert_eq!(bench.counters.totals.carried.get(), 1, "{which}");
    }
}

#[test]
fn a_segment_that_ends_a_connection_stops_both_directions_at_once() {
    let mut bench = Bench::new();
    let offers = [bench.lend(Way::Out), bench.lend(Way::Back)];
    assert!(offers.iter().all(|offer| bench.is_carried(offer)));
    bench.send(Way::Back, "FA");
    assert!(!offers.iter().any(|offer| bench.is_carried(offer)));
    assert_eq!(bench.states(), (0, 2));
    // Nor is it offered again.
    for _ in 0..64 {
        bench.send(Way::Out, "A");
    }
    assert_eq!(bench.states(), (0, 2));
    bench.pass(REST);
    bench.look();
    assert_eq!(bench.states(), (0, 0));
    assert_eq!(bench.counters.totals.carried.get(), 2);
}

#[test]
fn another_way_takes_the_place_of_the_old_one() {
    let mut bench = Bench::new();
    let old = bench.lend(Way::Out);
    bench
        .neighbours
        .update(Link::Uplink, REMOTE.0.into(), Mac([2; 6]), bench.now);
    for _ in 0..16 {
        bench.send(Way::Out, "A");
    }
    let new = bench.loans.loans.last().unwrap().offer;
    assert_eq!(new.shortcut.macs[1][0], Mac([2; 6]));
    assert_eq!(bench.states(), (1, 2));
    assert!(bench.is_carried(&new) && old.shortcut != new.shortcut);
}
