//! A whole switch in a simulated world: cables, hosts, a clock and a seed instead of a kernel.
//!
//! # Theory of operation
//!
//! [`world::World`] builds the switch by `Switch::build`, as the daemon does, but steps its workers
//! itself, in seeded order, on one thread. Its ports are cables in memory; at their far ends sit
//! [`host::Host`]s that speak ARP, echo, UDP and a reliable byte stream, leave checksums and
//! segmentation to the receiver as containers do, and judge every frame they are given: header and
//! transport checksums (recomputed by etherparse, after what was left to do is done naively),
//! length against the MTU. After a run [`world::World::check`] asserts that no frame is
//! unaccounted for and no NAT port has two owners. A test's name begins with the ID of the
//! behaviour it proves; a failing run of [`seeded`] prints the seed that repeats it.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail as a test does"
)]

mod account;
mod allocations;
#[path = "../../benches/micro/world.rs"]
mod bench_world;
mod damaged;
mod drops;
mod egress;
mod fuzz;
mod gateway;
mod host;
mod isolation;
mod l2;
mod latency;
mod model;
mod moves;
mod nat;
mod packet;
mod pool;
mod publish;
mod replay;
mod rounds;
mod seeded;
mod steer;
mod stream;
mod trace;
mod untranslated;
mod what_if;
mod world;
