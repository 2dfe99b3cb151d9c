//! The real program between real network namespaces.
//!
//! # Theory of operation
//!
//! Each test builds a [`world::World`]: namespaces of its own, laid out as in
//! [`vswitch_cli::lab::Topology`], with the real program running in `h`. It drives traffic from
//! sockets in those namespaces, needs no other program (but for [`clients`], whose point they are,
//! and `nft` for [`differential`]), and ends with [`world::World::finish`], which holds for every
//! test:
//!
//! - every frame that came in has one fate, every copy was sent or dropped (`-j status`);
//! - the drops are those the test names, no others (`-j drops`);
//! - no kernel received a wrong checksum, and the host's own stack answered nothing that was not
//!   its own business;
//! - on the wire outside there was nothing but the uplink's address, and no inside address;
//! - the program ends by itself when asked to, without a panic.
//!
//! Names begin with the requirement's ID, or `trap` and its number. Transfers are short; those
//! that gain by length last `VSWITCH_SOAK_SECONDS` where that is set.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a helper of a test may fail as a test does; tests live in real time"
)]

mod bench_beds;
mod capture;
mod clients;
mod differential;
mod drops;
mod ethtool;
mod extcap;
mod fast_path;
mod flows;
mod frames;
mod gateway;
mod guards;
mod host;
mod latency;
mod life;
mod metrics;
mod monitor;
mod moves;
mod nat;
mod offload;
mod publish;
mod reader;
mod record;
mod replay;
mod restart;
mod robust;
mod scale;
mod switching;
mod top;
mod trace;
mod traffic;
mod uplink;
mod watch;
mod what_if;
mod workers;
mod world;
