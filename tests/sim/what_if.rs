//! What would become of a frame is what becomes of it, and asking changes nothing.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nat::Nanos;
use switch::config::Role;
use switch::drops::DropRecord;
use switch::fdb::FdbEntry;
use switch::frame::{Offload, OwnedFrame};
use switch::neigh::NeighbourEntry;
use switch::switch::{PortTotals, Tried};
use switch::trace::{Clock, Limits, Record, Selector, Snap, Step, Story, Tx};
use switch::verdict::{DropReason, Verdict};
use switch::what_if::{Known, Packet};

use super::host::{ECHO, Order};
use super::packet::arp;
use super::publish::publish;
use super::seeded::{PERFECT, Run, runs};
use super::trace::Names;
use super::world::{
    EXTERNAL, FAR, GATEWAY, O1, Setup, Steering, Uplink, World, member_ip, member_mac,
};

/// All that can be seen of a world from without.
#[derive(Debug, PartialEq)]
struct State {
    fdb: (Vec<FdbEntry>, switch::fdb::FdbCounters, usize, usize),
    neighbours: (Vec<NeighbourEntry>, usize, u64),
    nat: Vec<String>,
    totals: switch::counters::Totals,
    ports: Vec<PortTotals>,
    held: Vec<usize>,
    drops: Vec<Vec<DropRecord>>,
    view: String,
}

fn clock() -> Clock {
    let time = AtomicU64::new(0);
    Arc::new(move || Nanos(time.fetch_add(1, Ordering::Relaxed)))
}

impl World {
    fn state(&self) -> State {
        let (fdb, neighbours) = (self.switch.fdb(), self.switch.neighbours());
        let nat = |worker: &switch::worker::Worker| {
            let report = worker.nat_report(self.now);
            format!("{report:?}")
        };
        State {
            fdb: (
                fdb.entries(self.now),
                fdb.counters(),
                fdb.dynamic_entries(),
                fdb.static_entries(),
            ),
            neighbours: (
                neighbours.entries(self.now),
                neighbours.len(),
                neighbours.generation(),
            ),
            nat: self.workers.iter().map(nat).collect(),
            totals: self.switch.totals(),
            ports: (self.wires.iter())
                .map(|wire| self.switch.port_totals(wire.index))
                .collect(),
            held: self.workers.iter().map(|worker| worker.held()).collect(),
            drops: (self.workers.iter())
                .map(|worker| worker.drops(None))
                .collect(),
            view: format!("{:?}", self.switch.view()),
        }
    }

    /// Asks what would become of a frame on this wire.
    fn what_if(&mut self, place: usize, bytes: &[u8], offload: Offload) -> Tried {
        let frame = OwnedFrame::new(bytes, offload, self.wires[place].index);
        let asked = self.switch.what_if(frame, clock()).unwrap();
        // From worker to worker.
        for _ in 0..4 {
            self.obey();
        }
        asked.answer_within(std::time::Duration::ZERO).unwrap()
    }

    /// Lets the workers do all there is to do, at this moment.
    pub(super) fn work(&mut self) {
        let now = self.now;
        while self
            .workers
            .iter_mut()
            .any(|worker| worker.poll_once(now) > 0)
        {}
    }

    /// Sends a frame, and returns what became of it and of nothing else.
    fn sent(&mut self, place: usize, bytes: &[u8], offload: Offload) -> Vec<Record> {
        let limits = Limits {
            snap_bytes: bytes.len().max(2048),
            records: 512,
            bytes: 4 << 20,
        };
        let trace = self.switch.trace(Selector::ALL, limits, clock());
        self.obey();
        assert!(self.send(place, bytes, offload));
        self.work();
        let mut records = self.end_trace(trace);
        let id = records[0].id;
        records.retain(|record| record.id == id || record.cause == Some(id));
        records
    }

    /// Tries a frame, then sends it.
    fn compare(&mut self, place: usize, bytes: &[u8], offload: Offload) {
        self.work();
        self.obey();
        self.obey();
        let before = self.state();
        let tried = self.what_if(place, bytes, offload);
        let seed = self.setup.seed;
        let told = || tried.text(self);
        assert_eq!(self.state(), before, "seed {seed}: {}", told());
        let happened = Tried {
            records: self.sent(place, bytes, offload),
        };
        let (tried, happened) = (self.essence(&tried), self.essence(&happened));
        assert_eq!(tried, happened, "seed {seed}");
    }

    /// What must be the same: all but names and times; and where the kernel steers wrongly, or a
    /// cable refuses what has only then to be cut, what that changes.
    fn essence(&self, tried: &Tried) -> Vec<String> {
        let is_steered = self.setup.steering == Steering::Right;
        let records: Vec<&Record> = tried.records.iter().collect();
        let records = match records.iter().rposition(|record| record.verdict.is_some()) {
            Some(last) if !is_steered => &records[last..],
            _ => &records[..],
        };
        let step = |step: Step| {
            if let Step::Tx(tx) = step
                && !self.setup.offloads
            {
                let (pieces, bytes) = (0, 0);
                return Step::Tx(Tx {
                    pieces,
                    bytes,
                    ..tx
                });
            }
            let is_first = matches!(step, Step::Rx(_) | Step::Resumed(_));
            if is_first && !is_steered {
                return Step::Made;
            }
            step
        };
        let snap = |snap: &Snap| (snap.len, snap.offload, snap.bytes.clone());
        let told = |record: &&Record| {
            let steps: Vec<Step> = record.steps.iter().map(|timed| step(timed.step)).collect();
            let copies = if self.setup.offloads {
                record.copies
            } else {
                (0, 0)
            };
            let worker = if is_steered { record.worker } else { 0 };
            let after = record.after.as_ref().map(snap);
            let whole = (record.verdict, steps, copies, worker, after);
            let before = (snap(&record.before), record.stage, record.cause.is_some());
            let before = is_steered.then_some(before);
            format!("{whole:?} {:?} {before:?}", record.ingress)
        };
        records.iter().map(told).collect()
    }
}

/// A story in words.
trait Text {
    fn text(&self, world: &World) -> String;
}

impl Text for Tried {
    fn text(&self, world: &World) -> String {
        let mut text = String::new();
        for (number, record) in (1..).zip(&self.records) {
            let story = Story::of(record, &Names::of(world));
            text.write_str(&story.text(number, "now")).unwrap();
        }
        text
    }
}

/// Every frame that any host sends is tried first, in worlds full of traffic.
#[test]
fn what_is_tried_is_what_happens_then_and_changes_nothing() {
    let mut frames = 0;
    for seed in 0..runs(60) {
        let mut run = Run::new(seed, PERFECT);
        for _ in 0..12 {
            run.act();
            run.come_in();
            let world = &mut run.world;
            for _ in 0..6 {
                world.now += Nanos::from_millis(7);
                world.obey();
                for place in 0..world.wires.len() {
                    world.receive(place);
                    while let Some((bytes, offload)) = world.next_frame(place) {
                        world.compare(place, &bytes, offload);
                        world.receive(place);
                        frames += 1;
                    }
                }
            }
            world.now += Nanos::from_secs(run.random.below(40));
        }
        run.world.run();
        run.world.check();
    }
    assert!(frames > 2000, "{frames} frames are too few to tell");
}

/// Odd frames in worlds that stand still: of any bytes, and of any words.
#[test]
fn odd_frames_are_told_and_not_sent_either() {
    for seed in 0..runs(40) {
        let mut run = Run::new(seed, PERFECT);
        for _ in 0..4 {
            run.act();
        }
        run.world.run();
        // Hosts judge what they are sent, and not all of this is sound.
        for wire in &mut run.world.wires {
            wire.hosts.clear();
        }
        for _ in 0..12 {
            let (world, random) = (&mut run.world, &mut run.random);
            let place = usize::try_from(random.below(world.wires.len() as u64)).unwrap();
            let port = world.wires[place].index;
            let any = [member_ip(0), member_ip(1), O1, FAR, GATEWAY, EXTERNAL];
            let mut address = || any[usize::try_from(random.below(6)).unwrap()];
            let (from, to) = (address(), address());
            let words = match random.below(6) {
                0 => format!("tcp {from}:7001 > {to}:80 syn ttl {}", random.below(3)),
                1 => format!("udp {from}:9 > {to}:9 len {} df", 28 + random.below(3000)),
                2 => format!("icmp {from} > {to} reply id 5"),
                3 => format!("udp {from}:9 > {to}:9 frag {}", 8 * random.below(9)),
                4 => format!("arp {from} > {to}"),
                _ => format!("tcp {from}:7001 > {to}:40100 rst ack"),
            };
            let packet = Packet::parse(&words).unwrap();
            let mut frame = packet.frame(packet.addresses(&world.switch, port, world.now));
            if random.below(3) == 0 {
                let at = usize::try_from(random.below(frame.len() as u64)).unwrap();
                frame[at] ^= 1 << random.below(8);
            }
            world.compare(place, &frame, Offload::PLAIN);
            world.run();
        }
    }
}

fn asked(world: &mut World, place: usize, words: &str) -> Tried {
    let packet = Packet::parse(words).unwrap();
    let port = world.wires[place].index;
    let frame = packet.frame(packet.addresses(&world.switch, port, world.now));
    world.what_if(place, &frame, Offload::PLAIN)
}

#[test]
fn a_packet_out_in_words_is_told_to_its_end() {
    let mut world = World::greeted(Setup::default());
    let tried = asked(&mut world, 0, "tcp 10.9.0.2:40000 > 203.0.113.1:443 syn");
    let story = tried.text(&world);
    for told in [
        "10.9.0.2:40000 > 203.0.113.1:443  TCP syn, 54 bytes",
        "NEW 10.9.0.2:40000 -> 203.0.113.254:40000",
        "FORWARDED veth0 → uplink",
    ] {
        assert!(story.contains(told), "{told} is not in:\n{story}");
    }
    assert!(!tried.is_drop() && world.frames(world.place(Role::Uplink)).is_empty());
    assert!(world.workers[0].nat_report(world.now).sessions.is_empty());
    let nowhere = asked(&mut world, 0, "tcp 10.9.0.2:40000 > 192.0.2.1:443 syn");
    let verdict = nowhere.last().unwrap().verdict;
    assert_eq!(verdict, Some(Verdict::Drop(DropReason::NoRoute)));
    assert!(nowhere.is_drop());
    let told = nowhere.text(&world);
    assert!(told.contains("tells the sender: net unreachable"), "{told}");
    assert!(
        told.contains("FORWARDED gateway") || told.contains("SENT"),
        "{told}"
    );
}

#[test]
fn a_question_goes_on_from_worker_to_worker_with_what_was_learned() {
    let setup = Setup {
        workers: 2,
        ..Setup::default()
    };
    let mut world = World::new(setup);
    // The published port is the other worker's, and leads back to a member that nobody has heard.
    world.publish(vec![publish(
        nat::Protocol::Udp,
        8080..=8080,
        &[(member_ip(0), ECHO)],
        1,
    )]);
    let (link, now) = (switch::neigh::Link::Network(0), world.now);
    let mac = member_mac(0);
    world
        .switch
        .neighbours()
        .confirm(link, member_ip(0), mac, now);
    let tried = asked(&mut world, 0, "udp 10.9.0.2:5000 > 203.0.113.254:8080");
    let story = tried.text(&world);
    let workers: Vec<u16> = tried.records.iter().map(|record| record.worker).collect();
    assert_eq!(workers, [0, 1], "{story}");
    assert!(story.contains("HANDED OVER to worker 1"), "{story}");
    assert!(story.contains(&format!("{mac} is on veth0")), "{story}");
    assert!(world.switch.fdb().entries(now).is_empty());
}

#[test]
fn a_packet_that_would_wait_is_no_drop_and_asks_nobody() {
    let mut world = World::new(Setup::default());
    let tried = asked(&mut world, 0, "icmp 10.9.0.2 > 203.0.113.1");
    assert_eq!(tried.last().unwrap().verdict, Some(Verdict::Hold));
    assert!(!tried.is_drop() && tried.text(&world).contains("HELD"));
    let made = tried.records.iter().filter(|record| record.cause.is_some());
    assert_eq!(made.count(), 1, "the ARP request it would have made");
    assert!(world.switch.neighbours().is_empty() && world.workers[0].held() == 0);
    assert!(world.frames(world.place(Role::Uplink)).is_empty());
}

#[test]
fn stations_are_those_that_a_host_would_use() {
    let setup = Setup {
        uplink: Uplink::Shared,
        host_port: true,
        ..Setup::default()
    };
    let mut world = World::greeted(setup);
    let of = |world: &World, place: usize, words: &str| {
        let packet = Packet::parse(words).unwrap();
        packet.addresses(&world.switch, world.wires[place].index, world.now)
    };
    let out = of(&world, 0, "icmp 10.9.0.2 > 1.1.1.1");
    assert_eq!(out.from, (member_mac(0), Known::Neighbour));
    assert_eq!(out.to, (super::world::GATEWAY_MAC, Known::Ours));
    let beside = of(&world, 0, "icmp 10.9.0.2 > 10.9.0.3");
    assert_eq!(beside.to, (member_mac(1), Known::Neighbour));
    // Another address of the only station there.
    let other = of(&world, 0, "icmp 10.9.0.77 > 10.9.0.99 to 02:00:00:00:00:09");
    assert_eq!(other.from, (member_mac(0), Known::Station));
    assert_eq!(other.to.1, Known::Said);
    assert_eq!(
        of(&world, 0, "icmp 10.9.0.2 > 10.9.0.99").to.1,
        Known::Nobody
    );
    let group = of(&world, 0, "udp 10.9.0.2 > 239.255.1.2:9").to;
    assert_eq!(group.0.to_string(), "01:00:5e:7f:01:02");
    let everybody = of(&world, 0, "udp 10.9.0.2 > 10.9.0.255:9").to;
    assert_eq!(everybody, (switch::mac::Mac::BROADCAST, Known::Group));
    let uplink = world.place(Role::Uplink);
    let inward = of(
        &world,
        uplink,
        "tcp 198.51.100.2:80 > 203.0.113.254:40000 ack",
    );
    let router = world.outside(FAR).mac;
    assert_eq!(inward.from, (router, Known::Neighbour));
    assert_eq!(inward.to, (super::world::UPLINK_MAC, Known::Ours));
    let host = world.place(Role::Host);
    let from_host = of(&world, host, "icmp 10.9.0.1 > 10.9.0.2");
    assert_eq!(from_host.from.1, Known::Ours);
    assert_eq!(from_host.to, (member_mac(0), Known::Neighbour));
}

#[test]
fn asking_holds_up_nothing_that_waits() {
    let mut world = World::new(Setup::default());
    world.host(0).ping(O1, 7, 1, b"held");
    let asks = arp(
        1,
        (member_mac(1), member_ip(1)),
        (switch::mac::Mac::ZERO, GATEWAY),
    );
    world.send(1, &asks, Offload::PLAIN);
    for _ in 0..4 {
        world.step(Nanos::from_micros(20));
    }
    let datagram = vec![1; 3000];
    world
        .host(1)
        .udp_fragments(O1, (6001, 10), &datagram, (576, Order::Reversed));
    let _ = asked(&mut world, 1, "icmp 10.9.0.3 > 203.0.113.1");
    world.settle();
    world.check();
}
