//! What the pipeline itself costs: parse, learn, look up, route, translate. No ring, no send.
//!
//! The frames of a batch lie in memory as in a ring and are put back to what they were, addresses
//! and all, before each round: what is measured includes that copy of 64 bytes. Allocations are
//! counted beside: none is allowed.
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use nat::Nanos;
use switch::ethernet;
use switch::limits::BATCH_FRAMES_MAX;
use switch::trace::{Clock, Limits, On, Recorder, Selector};
use switch::verdict::Verdict;

use super::world::{FRAME_BYTES, Ring, World, scattered, switched, translated};

pub(super) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("process");
    group.throughput(Throughput::Elements(BATCH_FRAMES_MAX as u64));
    let one = vec![switched(0)];
    measure(&mut group, "L2 hit, 1 station", World::new(2, 1), one);
    for stations in [1_000, 100_000, 1_000_000] {
        let frames = scattered(stations).map(switched).collect();
        let name = format!("L2 hit, {stations} stations");
        measure(&mut group, &name, World::new(2, stations), frames);
    }
    for copies in [8, 64, 256] {
        let unknown = vec![switched(9)];
        let name = format!("flood to {copies}, the decision");
        measure(&mut group, &name, World::new(copies + 1, 1), unknown);
    }
    for sessions in [1, 1_000, 100_000] {
        let frames = scattered(sessions).map(translated).collect();
        let name = format!("NAT hit, {sessions} sessions");
        measure(&mut group, &name, World::new(2, 1), frames);
    }
    // The engine forgets its sessions before each batch, at a cost that is not counted.
    group.bench_function("NAT new", |b| {
        let mut world = World::new(2, 1);
        let mut ring = Ring::new(scattered(1_000).map(translated).collect());
        let _ = world.process(&mut ring.fill(), Nanos(1));
        b.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                for round in 0..8 {
                    let mut batch = ring.fill();
                    let began = Instant::now();
                    black_box(world.process(&mut batch, Nanos(round + 2)));
                    spent += began.elapsed() / 8;
                }
                world.nat.flush();
            }
            spent
        });
    });
    group.bench_function("parse", |b| {
        let frames: Vec<_> = (0..64).map(switched).collect();
        b.iter(|| {
            for frame in &frames {
                black_box(ethernet::parse(black_box(frame)));
            }
        });
    });
    for (name, frame) in [("L2 hit", switched(0)), ("NAT hit", translated(0))] {
        measure(
            &mut group,
            &format!("{name}, trace off"),
            World::new(2, 1),
            vec![frame],
        );
        let none = Selector::filter(|_| false);
        for (what, selector) in [("on (all)", Selector::ALL), ("on (none match)", none)] {
            let name = format!("{name}, trace {what}");
            measure_traced(&mut group, &name, frame, selector);
        }
    }
    group.finish();
}

/// With a reader that takes every portion at once, and a clock as the product's.
fn measure_traced(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    frame: [u8; FRAME_BYTES],
    selector: Selector,
) {
    let began = Instant::now();
    let clock: Clock = Arc::new(move || {
        let passed = began.elapsed().as_nanos();
        Nanos(u64::try_from(passed).unwrap_or(u64::MAX))
    });
    let (mut recorder, reader) = Recorder::alone(selector, Limits::default(), clock).unwrap();
    let (mut world, mut ring) = (World::new(2, 1), Ring::new(vec![frame]));
    let mut pass = || {
        let mut batch = ring.fill();
        recorder.begin_batch(Nanos(3));
        let verdicts = world.process_traced(&mut batch, Nanos(3), On(&mut recorder));
        recorder.commit(&batch);
        reader.try_iter().for_each(drop);
        verdicts
    };
    for _ in 0..4 {
        let _ = pass();
    }
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            let _ = black_box(pass());
        }
    });
    assert_eq!(counted.count_total, 0, "{name}: the tracer allocates");
    group.bench_function(name, |b| b.iter(|| black_box(pass())));
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut world: World,
    frames: Vec<[u8; FRAME_BYTES]>,
) {
    let mut ring = Ring::new(frames);
    // Sessions and stations come to be in a round that does not count.
    for _ in 0..=ring.originals.len() / BATCH_FRAMES_MAX {
        let _ = world.process(&mut ring.fill(), Nanos(2));
    }
    let verdicts = world.process(&mut ring.fill(), Nanos(2));
    let decided =
        |v: &Verdict| matches!(v, Verdict::Forward(_) | Verdict::Route(_) | Verdict::Flood);
    assert!(verdicts.iter().all(decided), "{name}: {verdicts:?}");
    let counted = allocation_counter::measure(|| {
        for _ in 0..100 {
            let _ = black_box(world.process(&mut ring.fill(), Nanos(3)));
        }
    });
    assert_eq!(
        counted.count_total, 0,
        "{name}: the path of a frame allocates"
    );
    group.bench_function(name, |b| {
        b.iter(|| {
            let mut batch = ring.fill();
            black_box(world.process(&mut batch, Nanos(3)))
        });
    });
}
