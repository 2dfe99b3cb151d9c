//! `vswitch drops`.

use super::explain::packet_words;
use super::table::{BAD, Cell, NOTE, Table, styled};
use super::units;
use crate::args::View;
use crate::control::api::Drop;

/// Why frames died, most frequent first, with what fixes it.
#[must_use]
pub fn drops(drops: &[Drop], view: View) -> String {
    if drops.is_empty() {
        return if view.header() {
            "no frame was dropped\n".into()
        } else {
            String::new()
        };
    }
    let headers: &[&str] = match (view.brief, view.details) {
        (true, _) => &[">COUNT", "REASON", "PORT"],
        (false, false) => &[">COUNT", ">/s", "REASON", "PORT", "LAST", "FIX"],
        (false, true) => &[">COUNT", ">/s", "REASON", "PORT", "LAST", "MEANING", "FIX"],
    };
    let mut table = Table::new(headers);
    let mut sorted: Vec<_> = drops.iter().collect();
    sorted.sort_by(|a, b| (b.count, &a.reason, &a.port).cmp(&(a.count, &b.reason, &b.port)));
    for drop in sorted {
        let style = if drop.rate.is_some_and(|rate| rate >= 0.05) {
            BAD
        } else {
            NOTE
        };
        let count: Cell = units::count(drop.count).into();
        let reason = styled(drop.reason.clone(), style);
        let port: Cell = drop.port.clone().unwrap_or_else(|| "-".into()).into();
        if view.brief {
            table.row([drop.count.to_string().into(), reason, port]);
            continue;
        }
        let rate = drop.rate.map_or_else(|| "-".into(), units::rate);
        let mut row = vec![count, rate.into(), reason, port, last(drop).into()];
        if view.details {
            row.push(drop.meaning.clone().into());
        }
        row.push(drop.fix.clone().into());
        table.row(row);
    }
    table.render(view.header())
}

/// The last packet: where it came from, if the drop is at its egress, and how long ago.
fn last(drop: &Drop) -> String {
    let Some(last) = &drop.last else {
        return "-".into();
    };
    let from = match (&last.egress, &last.port) {
        (Some(_), Some(port)) => format!(" from {port}"),
        (Some(_), None) | (None, _) => String::new(),
    };
    format!("{}{from}, {} ago", packet_words(last), units::age(last.age))
}
