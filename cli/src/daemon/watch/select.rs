//! What a reader wants to see, as the workers are asked it.

use switch::filter::{Filter, Metadata, Subject};
use switch::pcapng::Direction;
use switch::port::PortIndex;
use switch::trace::{Fate, Seen, Selector};

use super::names::PortNames;

/// Which packets.
pub(super) struct Choice {
    pub(super) filter: Filter,
    /// That came in or went out there; empty: anywhere.
    pub(super) ports: Vec<PortIndex>,
    /// Of these ways only one is meant.
    pub(super) direction: Option<Direction>,
    pub(super) one_in: u32,
    pub(super) drops_only: bool,
    pub(super) follow: bool,
    pub(super) timed: bool,
}

impl Choice {
    /// The question for the workers.
    pub(super) fn selector(self, names: PortNames) -> Selector {
        let Self {
            filter,
            ports,
            direction,
            one_in,
            drops_only,
            follow,
            timed,
        } = self;
        let selector = Selector {
            one_in,
            drops_only,
            follow,
            timed,
            needs_fate: filter.needs_metadata() || !ports.is_empty() || direction.is_some(),
            ..Selector::ALL
        };
        if filter.is_everything() && ports.is_empty() && direction.is_none() {
            return selector;
        }
        Selector {
            filter: Some(std::sync::Arc::new(move |seen: &Seen<'_>| {
                is_at(&ports, direction, seen) && matches(&filter, &names, seen)
            })),
            ..selector
        }
    }
}

/// The ports it came in and went out by.
fn ways<'s>(seen: &Seen<'s>) -> impl Iterator<Item = PortIndex> + use<'s> {
    let sent = seen.fate.into_iter().flat_map(Fate::sent).map(|tx| tx.port);
    std::iter::once(seen.ingress).chain(sent)
}

/// Whether it came in at one of the ports or went out there, of none at any.
fn is_at(ports: &[PortIndex], direction: Option<Direction>, seen: &Seen<'_>) -> bool {
    let named = |port: PortIndex| ports.is_empty() || ports.contains(&port);
    let mut sent = seen.fate.into_iter().flat_map(Fate::sent);
    match direction {
        Some(Direction::Inbound) => named(seen.ingress),
        Some(Direction::Outbound) => sent.any(|tx| tx.outcome.is_ok() && named(tx.port)),
        None => named(seen.ingress) || sent.any(|tx| named(tx.port)),
    }
}

fn matches(filter: &Filter, names: &PortNames, seen: &Seen<'_>) -> bool {
    let subject = Subject {
        frame: seen.bytes,
        length: seen.length,
        metadata: None,
    };
    let Some(fate) = seen.fate.filter(|_| filter.needs_metadata()) else {
        return filter.matches(&subject);
    };
    names.with(ways(seen), |ports| {
        filter.matches(&subject.with(Metadata {
            ports,
            drop: fate.reason().map(|reason| reason.word()),
            translated: fate.is_translated(),
            worker: seen.worker,
        }))
    })
}
