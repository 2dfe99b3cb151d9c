//! What is answered to a scrape, and where.

use std::net::{SocketAddr, TcpListener};

use switch::worker::NatReport;

use crate::control::api::{self, NeighState};
use crate::error::CliError;
use crate::metrics::{NatReading, Reading};

use super::Daemon;
use super::answer::neigh_state;

impl Daemon {
    /// Everything counted, as it is now.
    pub(super) fn reading(&self) -> Reading {
        let (fdb, nat) = (self.switch.fdb(), self.switch.nat_sizes());
        Reading {
            status: self.status_answer(&nat),
            ports: self.ports_answer(),
            stations_learned: fdb.dynamic_entries() as u64,
            stations_static: fdb.static_entries() as u64,
            neighbours: self.neighbours_by_state(),
            nat: self.nat_reading(&nat),
            latency: self.forwarded_ever(),
        }
    }

    fn neighbours_by_state(&self) -> Vec<(NeighState, u64)> {
        let states = [
            NeighState::Incomplete,
            NeighState::Reachable,
            NeighState::Stale,
            NeighState::Failed,
        ];
        let mut counts = states.map(|state| (state, 0));
        for entry in self.switch.neighbours().entries(self.clock.now()) {
            let state = neigh_state(entry.state);
            for (_, count) in counts.iter_mut().filter(|(other, _)| *other == state) {
                *count += 1;
            }
        }
        counts.into()
    }

    fn nat_reading(&self, sizes: &[NatReport]) -> Option<NatReading> {
        let has_nat = sizes.iter().any(|worker| worker.config.is_some());
        has_nat.then(|| {
            let mut counters = api::NatCounters::default();
            for worker in sizes {
                counters.add(&worker.counters.natv2());
            }
            let used = |place: usize| {
                let each = sizes
                    .iter()
                    .filter_map(|worker| worker.ports_used.get(place));
                each.map(|used| u64::from(*used)).sum()
            };
            let ports = self.settings.nat_ports;
            NatReading {
                sessions: self.switch.nat_census(),
                sessions_max: sizes.iter().map(|worker| worker.capacity as u64).sum(),
                ports_used: vec![("tcp", used(0)), ("udp", used(1)), ("icmp", used(2))],
                ports: u64::from(ports.high - ports.low) + 1,
                counters,
            }
        })
    }
}

/// Listens where metrics are to be had, before anything of the host is touched.
pub(super) fn listen(at: SocketAddr) -> Result<TcpListener, CliError> {
    let listener = TcpListener::bind(at).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|error| {
        let fix = "another port, or: ss -ltnp";
        CliError::failed(format!("--metrics {at}"), error.to_string(), fix)
    })
}
