//! What one frame costs in memory: no system call, no kernel.
//!
//! `cargo bench --bench micro`; with `-- --counts` in instructions, which repeat on a noisy
//! machine, and with `-- --pairs 15` in pairs with another build (see `counts`).
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run has nothing to say"
)]

mod cables;
mod counts;
mod process;
mod ring;
mod scenes;
mod tables;
mod world;

use std::process::ExitCode;

use criterion::{Criterion, criterion_group};

criterion_group!(
    benches,
    process::benches,
    tables::nat,
    tables::fdb,
    tables::sums,
    ring::benches,
    scenes::benches
);

fn main() -> ExitCode {
    counts::main().unwrap_or_else(|| {
        benches();
        Criterion::default().configure_from_args().final_summary();
        ExitCode::SUCCESS
    })
}
