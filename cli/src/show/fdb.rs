//! `vswitch fdb`.

use super::table::{Cell, NOTE, PLAIN, Table, styled};
use super::units;
use crate::args::View;
use crate::control::api::{FdbEntry, FdbState};

/// The forwarding table, sorted by port and address.
#[must_use]
pub fn fdb(entries: &[FdbEntry], view: View) -> String {
    let headers: &[&str] = if view.brief {
        &["MAC", "PORT"]
    } else {
        &["MAC", "PORT", ">VLAN", ">AGE", "STATE"]
    };
    let mut table = Table::new(headers);
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by_key(|entry| (entry.ifname.as_str(), entry.vlan, entry.mac));
    for entry in sorted {
        let mut row: Vec<Cell> = vec![entry.mac.to_string().into(), entry.port.clone().into()];
        if !view.brief {
            row.push(entry.vlan.to_string().into());
            row.push(entry.age.map_or_else(|| "-".into(), units::age).into());
            row.push(state(entry.state));
        }
        table.row(row);
    }
    let mut out = table.render(view.header());
    if view.stats {
        let learned = entries
            .iter()
            .filter(|entry| entry.state == FdbState::Learned)
            .count();
        let others = entries.len() - learned;
        out.push_str(&format!("{learned} learned, {others} fixed\n"));
    }
    out
}

fn state(state: FdbState) -> Cell {
    match state {
        FdbState::Learned => styled("", PLAIN),
        FdbState::Static => styled("static", NOTE),
        FdbState::Permanent => styled("permanent", NOTE),
    }
}
