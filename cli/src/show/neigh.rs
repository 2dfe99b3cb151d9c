//! `vswitch neigh`.

use super::table::{BAD, Cell, GOOD, NOTE, Table, styled};
use super::units;
use crate::args::View;
use crate::control::api::{NeighState, Neighbour};

/// The neighbours, inside before outside, by address.
#[must_use]
pub fn neigh(neighbours: &[Neighbour], view: View) -> String {
    let headers: &[&str] = if view.brief {
        &["ADDRESS", "STATE", "MAC"]
    } else {
        &["ADDRESS", "MAC", "PORT", "SIDE", "STATE", ">AGE"]
    };
    let mut table = Table::new(headers);
    let mut sorted: Vec<_> = neighbours.iter().collect();
    sorted.sort_by_key(|neighbour| (neighbour.vswitch.side as u8, neighbour.dst));
    for neighbour in sorted {
        let address: Cell = neighbour.dst.to_string().into();
        let mac: Cell = neighbour
            .lladdr
            .map_or_else(|| "-".into(), |mac| mac.to_string())
            .into();
        let state = state(neighbour.state[0]);
        let detail = &neighbour.vswitch;
        if view.brief {
            table.row([address, state, mac]);
        } else {
            table.row([
                address,
                mac,
                neighbour.dev.clone().into(),
                detail.side.to_string().into(),
                state,
                detail.age.map_or_else(|| "-".into(), units::age).into(),
            ]);
        }
    }
    table.render(view.header())
}

fn state(state: NeighState) -> Cell {
    let style = match state {
        NeighState::Reachable | NeighState::Permanent => GOOD,
        NeighState::Failed => BAD,
        NeighState::Incomplete | NeighState::Stale | NeighState::Delay | NeighState::Probe => NOTE,
    };
    styled(state.to_string(), style)
}
