//! Latency, measured by clocks that the test itself turns: so every figure is exact.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use nat::Nanos;
use switch::config::{NetworkIndex, PortView, Role};
use switch::frame::Offload;
use switch::latency::{Clocks, Counts, Pair, PairLatency, Stage, To};
use switch::mac::Mac;
use switch::port::sim::{CableOptions, SimHost, cable};
use switch::port::{Egress, PortIndex, Rx, Tx};
use switch::switch::{Settings, Switch};
use switch::worker::{Idle, Worker};

/// What the steady clock goes on by with each look at it: so long do process and send take.
const LOOK: u64 = 1_000;
/// What the wall clock shows.
const WALL: Nanos = Nanos(1_700_000_000_000_000_000);

/// A switch of some members, the first two of which know each other.
struct Bed {
    switch: Switch,
    worker: Worker,
    hosts: Vec<SimHost>,
    now: Nanos,
}

fn clocks() -> Clocks {
    let looks = AtomicU64::new(0);
    Clocks {
        steady: Arc::new(move || Nanos(looks.fetch_add(LOOK, Relaxed))),
        wall: Arc::new(|| WALL),
    }
}

fn station(number: usize) -> Mac {
    Mac::local(1 + number as u64)
}

/// A frame without an IP packet in it.
fn frame(to: Mac, from: Mac) -> Vec<u8> {
    let mut frame = [to.0, from.0].concat();
    frame.extend([0x88, 0xb5]);
    frame.resize(60, 0);
    frame
}

impl Bed {
    fn new(ports: u16) -> Self {
        let mut bed = Self::with(ports, Some(clocks()));
        let _ = bed.take();
        bed
    }

    fn with(ports: u16, latency: Option<Clocks>) -> Self {
        let settings = Settings {
            workers: 1,
            cpus: Vec::new(),
            idle: Idle {
                busy_poll: Duration::ZERO,
            },
            fdb_entries_max: 1024,
            ageing_secs: 300,
            fast_path: None,
            nat: None,
            latency,
            seed: 1,
        };
        let (now, tx) = (Nanos::from_secs(1), || Ok(Tx::without_sockets()));
        let (mut switch, mut workers) = Switch::build(&settings, false, now, tx).unwrap();
        let mut hosts = Vec::new();
        for _ in 0..ports {
            let index = switch.free_index().unwrap();
            let (rx, egress, host) = cable(index, CableOptions::default());
            let view = PortView {
                network: NetworkIndex(0),
                role: Role::Member,
                egress: Egress::Sim(egress),
                mtu: 1500,
                up: true,
                nat_worker: 0,
                isolated: false,
            };
            switch.add_port(index, view, Rx::Sim(rx), 0);
            hosts.push(host);
        }
        let worker = workers.remove(0);
        let mut bed = Self {
            switch,
            worker,
            hosts,
            now,
        };
        bed.tick(Duration::ZERO);
        for port in 0..2 {
            bed.send(port, station(9), None);
            bed.poll();
        }
        bed
    }

    fn send(&self, from: usize, to: Mac, at: Option<Nanos>) {
        let (host, bytes) = (&self.hosts[from], frame(to, station(from)));
        let taken = match at {
            Some(at) => host.send_at(&bytes, Offload::PLAIN, at),
            None => host.send(&bytes, Offload::PLAIN),
        };
        assert!(taken);
    }

    fn poll(&mut self) {
        self.worker.poll_once(self.now);
        for host in &self.hosts {
            while host.receive().is_some() {}
        }
    }

    fn tick(&mut self, after: Duration) {
        self.now = Nanos(self.now.0 + u64::try_from(after.as_nanos()).unwrap());
        self.worker.tick(self.now);
    }

    /// What was measured, by way of the worker's command.
    fn take(&mut self) -> Vec<PairLatency> {
        let Self {
            switch,
            worker,
            now,
            ..
        } = self;
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| switch.take_latency());
            while !taken.is_finished() {
                worker.tick(*now);
                std::thread::yield_now();
            }
            taken.join().unwrap().remove(0)
        })
    }

    fn read(&self) -> Vec<PairLatency> {
        self.switch.worker_latency(0)
    }
}

fn pair(ingress: u16, to: To) -> Option<Pair> {
    Some(Pair {
        ingress: PortIndex(ingress),
        to,
    })
}

fn of(read: &[PairLatency], pair: Option<Pair>) -> &PairLatency {
    let found = read.iter().find(|one| one.pair == pair);
    found.unwrap_or_else(|| panic!("{pair:?} in {read:?}"))
}

/// Frames, longest and sum.
fn figures(counts: &Counts) -> (u64, u64, u64) {
    (counts.count(), counts.max(), counts.sum())
}

#[test]
fn every_stage_is_what_the_clocks_say() {
    let mut bed = Bed::new(3);
    for microseconds in [30, 20, 10] {
        let at = Nanos(WALL.0 - microseconds * 1000);
        bed.send(0, station(1), Some(at));
    }
    bed.poll();
    let read = bed.read();
    assert_eq!(read.len(), 1);
    let measured = of(&read, pair(0, To::Port(PortIndex(1))));
    assert_eq!(measured.samples, 3);
    let figures = |stage| figures(measured.stage(stage));
    assert_eq!(figures(Stage::Wait), (3, 30_000, 60_000));
    assert_eq!(figures(Stage::Process), (3, LOOK, 3 * LOOK));
    assert_eq!(figures(Stage::Send), (3, LOOK, 3 * LOOK));
    assert_eq!(figures(Stage::Total), (3, 32_000, 66_000));
    let buckets: Vec<_> = measured.stage(Stage::Wait).buckets().collect();
    assert_eq!(buckets.len(), 3);
    for (bucket, wait) in buckets.iter().zip([10_000, 20_000, 30_000]) {
        assert!((bucket.from..bucket.to).contains(&wait) && bucket.count == 1);
    }
}

#[test]
fn where_a_frame_goes_decides_what_is_known_of_it() {
    let mut bed = Bed::new(3);
    let at = Some(Nanos(WALL.0 - 5000));
    bed.send(0, station(7), at);
    bed.send(0, station(0), at);
    bed.send(1, station(0), None);
    bed.send(1, station(0), Some(Nanos(WALL.0 + LOOK + 1)));
    bed.send(2, station(0), Some(Nanos(WALL.0 + 300)));
    bed.poll();
    let read = bed.read();
    let flooded = of(&read, pair(0, To::Flood));
    assert_eq!(figures(flooded.stage(Stage::Total)), (1, 7000, 7000));
    let dropped = of(&read, pair(0, To::Nowhere));
    assert_eq!(figures(dropped.stage(Stage::Wait)), (1, 5000, 5000));
    assert_eq!(figures(dropped.stage(Stage::Process)), (1, LOOK, LOOK));
    assert_eq!(dropped.stage(Stage::Send).count(), 0);
    assert_eq!(dropped.stage(Stage::Total).count(), 0);
    // One came nobody knows when; of the other the clock was set back meanwhile.
    let unknown = of(&read, pair(1, To::Port(PortIndex(0))));
    assert_eq!(unknown.samples, 2);
    assert_eq!(unknown.stage(Stage::Send).count(), 2);
    assert_eq!(unknown.stage(Stage::Wait).count(), 0);
    assert_eq!(unknown.stage(Stage::Total).count(), 0);
    // This one came while its batch was taken, 300 ns after the beginning.
    let late = of(&read, pair(2, To::Port(PortIndex(0))));
    assert_eq!(figures(late.stage(Stage::Wait)), (1, 0, 0));
    assert_eq!(figures(late.stage(Stage::Total)), (1, 1700, 1700));
}

#[test]
fn what_is_taken_is_forgotten_and_a_gone_port_is_one_of_the_others() {
    let mut bed = Bed::new(3);
    bed.send(0, station(1), None);
    bed.poll();
    let taken = bed.take();
    assert_eq!(taken.len(), 1);
    assert!(bed.read().is_empty());
    bed.send(0, station(1), None);
    bed.poll();
    bed.switch.remove_port(PortIndex(1));
    bed.tick(Duration::ZERO);
    let read = bed.read();
    assert_eq!((read.len(), of(&read, None).samples), (1, 1));
}

/// Goal: however fast frames come, few batches are measured, and they stand for all. Method: a
/// rush of 400,000 frames in two seconds from two ports in turn, then single frames.
#[test]
fn a_rush_is_sampled_and_quiet_times_are_measured_whole() {
    let mut bed = Bed::new(2);
    let (rounds, frames) = (100_000, 2);
    for round in 0..rounds {
        let at = Some(Nanos(WALL.0 - 1000));
        for from in 0..2 {
            for _ in 0..frames {
                bed.send(from, station(1 - from), at);
            }
        }
        bed.poll();
        if round % 5000 == 0 {
            bed.tick(Duration::from_millis(100));
        }
    }
    let read = bed.take();
    for (from, to) in [(0, 1), (1, 0)] {
        let measured = of(&read, pair(from, To::Port(PortIndex(to))));
        let counted = measured.stage(Stage::Total).count();
        let sent = rounds * frames;
        assert!(
            (sent * 9 / 10..sent * 11 / 10).contains(&counted),
            "{counted} of {sent}"
        );
        let samples = measured.samples / frames;
        assert!((500..4000).contains(&samples), "{samples} batches");
    }
    // A tick later, and then another to see that there is little to do.
    bed.tick(Duration::from_millis(100));
    bed.tick(Duration::from_millis(500));
    for _ in 0..20 {
        bed.send(0, station(1), None);
        bed.poll();
        bed.tick(Duration::from_millis(100));
    }
    let read = bed.take();
    let measured = of(&read, pair(0, To::Port(PortIndex(1))));
    assert_eq!(
        (measured.samples, measured.stage(Stage::Send).count()),
        (20, 20)
    );
}

/// Goal: the path of a frame takes no memory where it is measured either. Method: every batch is,
/// and takes as much as one that nobody measures: what the cables take for its frames.
#[test]
fn measuring_takes_no_memory() {
    let allocations = |clocks| {
        let mut bed = Bed::with(2, clocks);
        let mut pass = || {
            for _ in 0..8 {
                bed.send(0, station(1), Some(WALL));
            }
            let counted = allocation_counter::measure(|| {
                bed.worker.poll_once(bed.now);
            });
            while bed.hosts[1].receive().is_some() {}
            bed.now = Nanos(bed.now.0 + 1_000_000_000);
            bed.worker.tick(bed.now);
            counted.count_total
        };
        let _warm: u64 = (0..10).map(|_| pass()).sum();
        let counted: u64 = (0..50).map(|_| pass()).sum();
        let samples: u64 = bed.read().iter().map(|read| read.samples).sum();
        (counted, samples)
    };
    let (measured, unmeasured) = (allocations(Some(clocks())), allocations(None));
    assert_eq!(measured.0, unmeasured.0);
    // With the two frames by which the members came to be known.
    assert_eq!((measured.1, unmeasured.1), (2 + 60 * 8, 0));
}
