//! The tables and the sums: NAT sessions, forwarding table, Internet checksum.
//!
//! NAT sessions are measured by the batch of 64 packets, as the pipeline translates them: announced
//! first if they are many.
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use nat::{Config, Direction, L4Sum, Nanos, Nat, Packet, checksum};
use switch::fdb::Fdb;
use switch::limits::BATCH_FRAMES_MAX;
use switch::mac::Mac;
use switch::port::{PortIndex, prefetch};

fn udp(source: [u8; 4], port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4(source, [198, 51, 100, 2], 64)
        .udp(port, 9)
        .write(&mut packet, &[0; 18])
        .unwrap();
    packet
}

/// As many sessions as there can be in the benchmarks, with room for the new ones.
const SESSIONS: u32 = 1_100_000;
/// How long a session towards the name service lives idle, and a second for the wheel.
const SHORT_LIFE: Nanos = Nanos::from_secs(61);

/// An engine and the packets of a batch, as they lie in a ring.
struct Gateway {
    engine: Nat,
    template: [u8; 46],
    batch: [[u8; 46]; BATCH_FRAMES_MAX],
    now: Nanos,
    /// Number of the flow that comes next, of those that come and go.
    next: u32,
}

impl Gateway {
    /// With `live` sessions that do not end.
    fn new(live: u32) -> Self {
        let mut config = Config::new([203, 0, 113, 254].into(), 1024..=65_535);
        config.sessions_max = SESSIONS;
        config.timeouts.udp_unreplied = Nanos::from_secs(1_000_000);
        let template = udp([10, 9, 0, 2], 0).try_into().unwrap();
        let mut gateway = Self {
            engine: Nat::new(config, 1),
            template,
            batch: [template; BATCH_FRAMES_MAX],
            now: Nanos(1),
            next: 0,
        };
        let mut flows = (0..live).map(|n| (n, DISCARD)).peekable();
        while flows.peek().is_some() {
            gateway.fill(&mut flows);
            gateway.send();
        }
        assert!(gateway.engine.len() >= usize::try_from(live).unwrap());
        gateway
    }

    /// Writes a batch of packets; several remotes share an inside port, for sessions outnumber
    /// ports.
    fn fill(&mut self, mut flows: impl Iterator<Item = (u32, u16)>) {
        for packet in &mut self.batch {
            *packet = self.template;
            let (n, remote_port) = flows.next().unwrap_or((0, DISCARD));
            let port = 1024 + u16::try_from(n % 60_000).unwrap();
            packet[18..20].copy_from_slice(&u16::try_from(n / 60_000).unwrap().to_be_bytes());
            packet[20..22].copy_from_slice(&port.to_be_bytes());
            packet[22..24].copy_from_slice(&remote_port.to_be_bytes());
        }
    }

    /// Translates the batch as the pipeline does.
    fn send(&mut self) {
        if self.engine.waits_for_memory() {
            let packets = self.batch.iter().map(|packet| &packet[..]);
            let packets = packets.map(|packet| (packet, Direction::Outbound));
            self.engine.announce(packets, prefetch);
        }
        for bytes in &mut self.batch {
            let mut view = Packet {
                bytes,
                l4_sum: L4Sum::Pseudo,
            };
            let _ = black_box(self.engine.outbound(&mut view, self.now));
        }
    }

    /// Has the first packet of the batch open a session, and undoes it.
    fn try_out(&mut self) {
        self.engine.begin_trial();
        let mut bytes = self.batch[0];
        let mut view = Packet {
            bytes: &mut bytes,
            l4_sum: L4Sum::Pseudo,
        };
        let _ = black_box(self.engine.outbound(&mut view, self.now));
        self.engine.end_trial();
    }
}

/// Flows that come and go in turn: a prime.
const FLOWS: u32 = 1_000_003;
const DISCARD: u16 = 9;
const NAME_SERVICE: u16 = 53;

pub(super) fn nat(c: &mut Criterion) {
    let mut group = c.benchmark_group("nat");
    group.throughput(Throughput::Elements(BATCH_FRAMES_MAX as u64));
    // The busy ones at random; those that are not are only there.
    let tables = [1, 1_000, 100_000, 1_000_000].map(|live| (live, live));
    for (busy, live) in tables.into_iter().chain([(1, 1_000_000u32)]) {
        let mut gateway = Gateway::new(live);
        let mut state = 1u64;
        // The order of a generator of Knuth's: none that a cache foresees.
        let mut flows = std::iter::repeat_with(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let n = ((state >> 33) * u64::from(busy)) >> 31;
            (u32::try_from(n).unwrap(), DISCARD)
        });
        group.bench_function(format!("hit, {busy} of {live} sessions"), |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    gateway.fill(&mut flows);
                    let began = Instant::now();
                    gateway.send();
                    spent += began.elapsed();
                }
                spent
            });
        });
    }
    for (name, live) in [("empty table", 0), ("1,000,000 live", 1_000_000)] {
        let mut gateway = Gateway::new(live);
        group.bench_function(format!("new, {name}"), |b| {
            b.iter_custom(|rounds| come_and_go(&mut gateway, rounds).0);
        });
        group.bench_function(format!("expire, {name}"), |b| {
            b.iter_custom(|rounds| come_and_go(&mut gateway, rounds).1);
        });
    }
    group.throughput(Throughput::Elements(1));
    // What a worker is held up by one question what would become of a packet.
    for sessions in [1_000, 100_000, 1_000_000] {
        let mut gateway = Gateway::new(sessions);
        gateway.fill(std::iter::repeat((7, NAME_SERVICE)));
        group.bench_function(format!("trial, {sessions} sessions"), |b| {
            b.iter(|| gateway.try_out());
        });
    }
    group.finish();
}

/// Opens `rounds` batches of sessions and lets them idle out; returns what each took. They come
/// by the hundred batches, then go, so that the table is what it is said to be.
fn come_and_go(gateway: &mut Gateway, rounds: u64) -> (Duration, Duration) {
    let (mut opening, mut ending) = (Duration::ZERO, Duration::ZERO);
    let (mut left, mut ended) = (rounds, 0u32);
    while left > 0 {
        let batches = left.min(100);
        let before = gateway.engine.len();
        for _ in 0..batches {
            let first = gateway.next;
            gateway.next = (first + 64) % FLOWS;
            let number = |n| u32::try_from(u64::from(n) * 7919 % u64::from(FLOWS)).unwrap();
            gateway.fill((first..).map(|n| (number(n), NAME_SERVICE)));
            let began = Instant::now();
            gateway.send();
            opening += began.elapsed();
        }
        gateway.now += SHORT_LIFE + Nanos::from_secs(1);
        // Timers of those that stay come up too, now and then, and are filed again.
        while gateway.engine.len() > before {
            let began = Instant::now();
            if gateway.engine.expire(gateway.now, BATCH_FRAMES_MAX) == BATCH_FRAMES_MAX {
                ending += began.elapsed();
                ended += 1;
            }
        }
        left -= batches;
    }
    let batches = u32::try_from(rounds).unwrap();
    (opening, ending / ended.max(1) * batches)
}

pub(super) fn fdb(c: &mut Criterion) {
    let mut group = c.benchmark_group("fdb");
    group.throughput(Throughput::Elements(1));
    for stations in [1_000u64, 100_000, 1_000_000] {
        let fdb = Fdb::new(usize::try_from(stations).unwrap(), 1);
        for n in 0..stations {
            let port = PortIndex(u16::try_from(n % 64).unwrap());
            let _ = fdb.learn(0, Mac::local(n), port, Nanos(1));
        }
        let mut n = 0;
        group.bench_function(format!("lookup, {stations} stations"), |b| {
            b.iter(|| {
                n = (n + 7919) % stations;
                black_box(fdb.lookup(0, Mac::local(n), Nanos(2)))
            });
        });
        group.bench_function(format!("learn known, {stations} stations"), |b| {
            b.iter(|| {
                n = (n + 7919) % stations;
                let port = PortIndex(u16::try_from(n % 64).unwrap());
                black_box(fdb.learn(0, Mac::local(n), port, Nanos(2)))
            });
        });
    }
    group.finish();
}

pub(super) fn sums(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for bytes in [60usize, 1500, 65_535] {
        let data = vec![0x5a; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{bytes} B"), |b| {
            b.iter(|| checksum::sum(black_box(&data)));
        });
    }
    group.finish();
}
