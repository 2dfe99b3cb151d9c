//! The life of a switch on a real host: refused starts, stops and kills, ports that come and go,
//! and that all of it leaves the host as it was.
//!
//! # Theory of operation
//!
//! Each test has a [`bed::Bed`]: containers, a host and an outside in namespaces of its own, and
//! an empty run directory. A [`snapshot::Snapshot`] of the host namespace, taken before and after,
//! is how a test knows that nothing was changed, or that everything was put back. A
//! [`stream::Stream`] of numbered datagrams between two ports is how it knows that they lost
//! nothing while another port was in trouble, and [`stream::resumed`] how soon that one was back.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a helper of a test may fail as a test does; tests live in real time"
)]

mod bed;
mod churn;
mod control;
mod notify;
mod ports;
mod refused;
mod reload;
mod snapshot;
mod stop;
mod stream;
mod taps;
mod uplink;
mod workers;
