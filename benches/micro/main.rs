//! What one frame costs in memory: no system call, no kernel.
//!
//! `cargo bench --bench micro`. For counts that repeat on a noisy machine, run the binary under
//! `valgrind --tool=callgrind` with `--bench --profile-time 1 NAME`.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run has nothing to say"
)]

mod cables;
mod process;
mod ring;
mod tables;
mod world;

use criterion::{criterion_group, criterion_main};

criterion_group!(
    benches,
    process::benches,
    tables::nat,
    tables::fdb,
    tables::sums,
    ring::benches,
    cables::benches
);
criterion_main!(benches);
