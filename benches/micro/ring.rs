//! The cursor of a receive ring: lend a batch of slots, look at each, give them back.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use switch::limits::BATCH_FRAMES_MAX;
use switch::port::Rehearsal;

pub(super) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(BATCH_FRAMES_MAX as u64));
    for (name, blocks) in [("64 slots, in cache", 2), ("2,048 slots", 64)] {
        let mut ring = Rehearsal::new(blocks).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| {
                ring.fill(BATCH_FRAMES_MAX);
                black_box(ring.pass())
            });
        });
    }
    group.finish();
}
