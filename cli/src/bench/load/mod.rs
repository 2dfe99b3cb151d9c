//! The loads: what a test sends over a path, and what it measures.
//!
//! # Theory of operation
//!
//! A load knows two stations and nothing of what is between them. Each makes its sockets inside
//! the stations' namespaces, first shows that anything goes through at all (so that a dead path is
//! an error that says so and not a figure of zero), runs for [`Load::time`], and leaves nothing
//! behind: threads are joined, connections reset, sockets closed.
//!
//! - [`bulk`]: TCP streams. Counted at the receiver, after a warm-up.
//! - [`datagrams`]: frames from a [`generator`](datagrams), at full speed or at a [`pace`]. Counted
//!   by the server's interface, so that no receiving program is part of the figure.
//! - [`pingpong`]: one byte there and back.
//! - [`transactions`]: connect, ask, be answered, be closed.
//! - [`iperf`]: the same bulk transfers by iperf3, to check ourselves.
//!
//! Client, server and forwarder share the processors of one machine. That is part of what is
//! measured, alike for every forwarder: [`cpu`] says who spent what.

pub mod bulk;
pub mod cpu;
pub mod datagrams;
mod generator;
pub mod iperf;
pub mod pace;
pub mod pingpong;
mod served;
#[cfg(test)]
mod tests;
mod times;
pub mod transactions;

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

pub use iperf::iperf3;

use self::served::Ending;
use super::path::Path;
use super::sample::Sample;
use super::words::Test;
use crate::lab::LabError;

/// How a test is to be run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Length of the measurement; a warm-up of at most 0.25 s may precede it.
    pub time: Duration,
    /// Million frames a second to offer, instead of as many as possible; only tests that count
    /// frames look at it.
    pub offered: Option<f64>,
}

impl Load {
    /// As much as possible for `time`.
    #[must_use]
    pub const fn full(time: Duration) -> Self {
        Self {
            time,
            offered: None,
        }
    }
}

/// Why a load found nothing.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A station's kernel refused something.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// The path carries nothing, or stopped carrying while it was measured.
    #[error("{what}: {why}; see whether the forwarder runs and has both stations as its ports")]
    Path {
        /// What was tried, and between whom.
        what: String,
        /// What came of it.
        why: String,
    },
    /// More transactions failed than may.
    #[error("{failed} of {tried} {what} failed, the first: {first}")]
    Failures {
        /// What they were, and between whom.
        what: String,
        /// How many failed.
        failed: u64,
        /// How many were tried.
        tried: u64,
        /// What the first of them met.
        first: String,
    },
    /// This machine cannot measure it.
    #[error("{what}: {why}")]
    Machine {
        /// What was tried.
        what: String,
        /// What came of it.
        why: String,
    },
}

impl LoadError {
    fn path(what: impl Into<String>, why: impl Display) -> Self {
        Self::Path {
            what: what.into(),
            why: why.to_string(),
        }
    }

    fn machine(what: impl Into<String>, why: impl Display) -> Self {
        Self::Machine {
            what: what.into(),
            why: why.to_string(),
        }
    }
}

/// Runs `test` over `path` once.
///
/// # Errors
/// [`LoadError::Path`] when nothing goes through, [`LoadError::Failures`] when more than one
/// transaction in a hundred fails, else what the machine refused.
pub fn run(test: Test, path: &Path<'_>, load: &Load) -> Result<Sample, LoadError> {
    match test {
        Test::Tcp | Test::NatTcp | Test::NatPub => {
            bulk::run(path, load, 1, bulk::Direction::ToServer)
        }
        Test::Tcp8 => bulk::run(path, load, 8, bulk::Direction::ToServer),
        Test::NatTcpR => bulk::run(path, load, 1, bulk::Direction::ToClient),
        Test::Udp64 | Test::Ports => datagrams::run(path, load, datagrams::Kind::Udp64),
        Test::Udp64Each => datagrams::run_each(path, load, datagrams::Kind::Udp64),
        Test::Udp1400 => datagrams::run(path, load, datagrams::Kind::Udp1400),
        Test::Flood => datagrams::run(path, load, datagrams::Kind::Broadcast),
        Test::Rr => pingpong::run(path, load),
        Test::Crr | Test::NatCrr => transactions::run(path, load, Ending::Closed),
        Test::NatKeep => transactions::run(path, load, Ending::KeptOpen),
    }
}

/// Runs `test` once for each of `rates`, in million frames a second: the points of a curve of loss
/// over load. The x of a point is what the sample says was offered, which may be less than asked
/// when the sender did not get its processor.
///
/// # Errors
/// As [`run`]; [`LoadError::Machine`] for a test that offers no frames.
pub fn curve(
    test: Test,
    path: &Path<'_>,
    time: Duration,
    rates: &[f64],
) -> Result<Vec<Sample>, LoadError> {
    if !matches!(
        test,
        Test::Udp64 | Test::Udp64Each | Test::Udp1400 | Test::Flood | Test::Ports
    ) {
        let why = "it offers no frames; udp64, udp64-each, udp1400, flood and ports do";
        return Err(LoadError::machine(format!("vary the load of {test}"), why));
    }
    let point = |&rate| {
        let load = Load {
            time,
            offered: Some(rate),
        };
        run(test, path, &load)
    };
    rates.iter().map(point).collect()
}

/// What the generator of 64-byte frames can deliver; `path` is a bare cable. No forwarder's figure
/// beyond this can be believed, and one near it says more of the generator than of the forwarder.
///
/// # Errors
/// As [`run`].
pub fn ceiling(path: &Path<'_>, time: Duration) -> Result<Sample, LoadError> {
    run(Test::Udp64, path, &Load::full(time))
}

/// Where the server of a path listens: on any port, or on the one that is published.
fn listening(path: &Path<'_>) -> SocketAddr {
    let port = path.published.map_or(0, |published| published.port());
    SocketAddr::from((path.server.ip, port))
}

/// Why a connection broke, in words for the time limit of the lab's connections too.
fn broken(err: &io::Error) -> String {
    let late = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
    if late.contains(&err.kind()) {
        return "nothing moved for 5 s".to_owned();
    }
    err.to_string()
}

/// "TCP from c1 to 10.9.0.3:5201", for errors.
fn between(what: &str, path: &Path<'_>, to: SocketAddr) -> String {
    format!("{what} from {} to {to}", path.client.host.label())
}
