//! `vswitch nat report`.

use super::table::{BAD, Cell, GOOD, NOTE, Table, styled};
use crate::args::View;
use crate::conform::{Level, Requirement};

/// The requirements, and below them how many are met.
#[must_use]
pub fn requirements(requirements: &[Requirement], view: View) -> String {
    let headers: &[&str] = match (view.brief, view.stats || view.details) {
        (true, _) => &["RFC", "REQUIREMENT", "MET"],
        (false, false) => &["RFC", "REQUIREMENT", "LEVEL", "MET", "WHAT", "SEEN"],
        (false, true) => &["RFC", "REQUIREMENT", "LEVEL", "MET", "WHAT", "SEEN", "FIX"],
    };
    let mut table = Table::new(headers);
    for one in requirements {
        let name: [Cell; 2] = [one.rfc.to_string().into(), one.name.clone().into()];
        let mut row = Vec::from(name);
        if view.brief {
            row.push(verdict(one));
        } else {
            row.push(level(one.level).into());
            row.push(verdict(one));
            row.extend([&one.what, &one.seen].map(Cell::from));
            if view.stats || view.details {
                let fix = if one.fix.is_empty() { "-" } else { &one.fix };
                row.push(fix.into());
            }
        }
        table.row(row);
    }
    let mut out = table.render(view.header());
    if view.header() {
        let met = |level| {
            let asked = requirements.iter().filter(|one| one.level == level);
            let (met, all): (Vec<_>, Vec<_>) = asked.partition(|one| one.met);
            format!("{} of {}", met.len(), met.len() + all.len())
        };
        out.push_str(&format!(
            "{} MUST and {} SHOULD are met\n",
            met(Level::Must),
            met(Level::Should)
        ));
    }
    out
}

const fn level(level: Level) -> &'static str {
    match level {
        Level::Must => "MUST",
        Level::Should => "SHOULD",
    }
}

fn verdict(one: &Requirement) -> Cell {
    match (one.met, one.level) {
        (true, _) => styled("yes", GOOD),
        (false, Level::Must) => styled("NO", BAD),
        (false, Level::Should) => styled("no", NOTE),
    }
}
