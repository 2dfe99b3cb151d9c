//! `monitor …`: what was typed.

use clap::Args;

use super::{Action, MonitorPlan};
use crate::config::words::{self, Why};
use crate::control::api::EventKind;

/// `monitor …`.
#[derive(Debug, Args)]
pub struct MonitorNoun {
    /// What to tell of: port, station, guard, drop, nat [default: all but nat]
    #[arg(value_name = "KIND", value_parser = kind)]
    kinds: Vec<Watched>,
    /// End after so many events (-c N for short)
    #[arg(long, value_name = "N", value_parser = words::count)]
    count: Option<u64>,
}

/// What may be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Watched {
    /// What happens in the switch.
    Switch(EventKind),
    /// Sessions of the address translation.
    Nat,
}

fn kind(text: &str) -> Result<Watched, Why> {
    let all = EventKind::ALL.map(|kind| (kind.word(), Watched::Switch(kind)));
    let all = all.into_iter().chain([("nat", Watched::Nat)]);
    // Any beginning will do, as with commands; no two words begin alike.
    let mut meant = all.filter(|(word, _)| !text.is_empty() && word.starts_with(text));
    let found = meant.next().map(|(_, kind)| kind);
    found.ok_or_else(|| "it is none of port, station, guard, drop, nat".into())
}

impl MonitorNoun {
    pub(super) fn action(self) -> Action {
        let kinds = self.kinds.iter().filter_map(|kind| match kind {
            Watched::Switch(kind) => Some(*kind),
            Watched::Nat => None,
        });
        let mut kinds: Vec<EventKind> = kinds.collect();
        if self.kinds.is_empty() {
            kinds.extend(EventKind::ALL);
        }
        kinds.sort_unstable();
        kinds.dedup();
        Action::Monitor(MonitorPlan {
            kinds,
            nat: self.kinds.contains(&Watched::Nat),
            count: self.count,
        })
    }
}
