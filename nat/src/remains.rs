//! What sessions leave behind that have ended, and what the next ones will find otherwise.
//!
//! A restart does well without it. A recording does not: a port that is held for a host is given to
//! no other, and the identification of a datagram follows the one before.

use std::net::Ipv4Addr;

use crate::Nanos;
use crate::engine::Nat;
use crate::rewrite::Protocol;

/// What ended sessions of one engine have left, as plain data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Ports that are held for their last hosts, in the order in which they will be free for all.
    pub held: Vec<HeldPort>,
    /// The counters that identifications are taken from.
    pub ids: Vec<u16>,
}

/// A port that is held for its last host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPort {
    /// The protocol.
    pub protocol: Protocol,
    /// The external address.
    pub address: Ipv4Addr,
    /// The port, or identifier.
    pub port: u16,
    /// For whom it is held.
    pub host: Ipv4Addr,
    /// The first second of the engine's clock at which it is free for all.
    pub until: u32,
}

impl Nat {
    /// Returns what ended sessions have left.
    #[must_use]
    pub fn remains(&self, now: Nanos) -> Remains {
        let now = now.as_secs();
        let held = self.mappings.externals.held_ports();
        Remains {
            held: held.filter(|held| u64::from(held.until) > now).collect(),
            ids: self.ids.counters().to_vec(),
        }
    }

    /// Has an engine that has been made anew, and has the sessions there were, go on from what
    /// others had left. A port that is not free, or not of this engine, stays as it is.
    pub fn leave_behind(&mut self, remains: &Remains, now: Nanos) {
        self.mappings.tick(now);
        for held in &remains.held {
            self.mappings.externals.hold(held);
        }
        self.ids.set_counters(&remains.ids);
    }
}
