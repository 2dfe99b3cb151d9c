//! What a running switch counts, as Prometheus reads it.
//!
//! # Theory of operation
//! A scrape asks the owner of the switch for a [`Reading`]: what it would answer to `port`,
//! `status` and the rest, all of one moment. [`text`] writes it down in the OpenMetrics format.
//! Nothing is counted for the sake of metrics and nothing is kept from one scrape to the next, so
//! `/metrics` and `vswitch -j port` cannot differ.
//!
//! Names are `vswitch_THING_UNIT`, of counters with `_total` behind; units are bytes and seconds.
//! Labels are ports, drop reasons, states, workers: as many as there are, and no more tomorrow.
//! Never an address: each would make a time series of its own, and they come from anybody.

mod collect;
pub mod dashboard;

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use switch::latency::Counts;

use crate::control::api;

/// The media type of [`text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a switch has counted, at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The switch as a whole.
    pub status: api::Status,
    /// The ports.
    pub ports: Vec<api::Port>,
    /// Entries of the forwarding table that were learned.
    pub stations_learned: u64,
    /// Entries of the forwarding table that the operator fixed.
    pub stations_static: u64,
    /// Neighbours by state.
    pub neighbours: Vec<(api::NeighState, u64)>,
    /// The address translation, if there is one.
    pub nat: Option<NatReading>,
    /// How long frames took, since the start.
    pub latency: Forwarded,
}

/// How long frames took.
#[derive(Debug, Clone, Default)]
pub struct Forwarded {
    /// From ring to egress, by the names of ingress and egress.
    pub pairs: BTreeMap<(String, String), Counts>,
    /// Every stage, by worker and by the stage's word.
    pub stages: BTreeMap<(u16, &'static str), Counts>,
}

impl Forwarded {
    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        for (key, counts) in &other.pairs {
            self.pairs.entry(key.clone()).or_default().merge(counts);
        }
        for (key, counts) in &other.stages {
            self.stages.entry(*key).or_default().merge(counts);
        }
    }
}

/// What the address translation has counted.
#[derive(Debug, Clone, Default)]
pub struct NatReading {
    /// Sessions of each kind.
    pub sessions: nat::Census,
    /// The most sessions there may be.
    pub sessions_max: u64,
    /// External ports in use, by the protocol's name.
    pub ports_used: Vec<(&'static str, u64)>,
    /// External ports there are for each protocol.
    pub ports: u64,
    /// Counts since the start.
    pub counters: api::NatCounters,
}

/// A reading in the OpenMetrics text format.
///
/// # Errors
/// None that is known: writing to a string does not fail.
pub fn text(reading: Reading) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(reading));
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}
