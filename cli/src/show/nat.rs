//! `vswitch nat`.

use super::table::{Cell, GOOD, NOTE, Table, styled};
use super::units;
use crate::args::View;
use crate::control::api::{Nat, NatCounters, NatSession};

/// The sessions in the order given, and below them how full the translation is.
#[must_use]
pub fn nat(nat: &Nat, view: View) -> String {
    let mut out = sessions(&nat.sessions, view).render(view.header());
    if view.header() {
        let summary = &nat.summary;
        for external in &summary.external {
            let (used, total) = (external.ports_used, external.ports_total);
            let share = units::percent(u64::from(used), u64::from(total));
            let line = format!(
                "{used} of {total} ports used on {} ({share})",
                external.address
            );
            out.push_str(&format!("{line}\n"));
        }
        let share = units::percent(summary.sessions, summary.sessions_max);
        let (now, max) = (summary.sessions, summary.sessions_max);
        out.push_str(&format!(
            "{now} of {max} sessions ({share})
"
        ));
        for published in &nat.published {
            out.push_str(&format!("published: {}\n", published.line()));
        }
        if view.stats {
            out.push('\n');
            out.push_str(&counters(&summary.counters).render(true));
        }
    }
    out
}

/// What was counted since the start.
fn counters(counters: &NatCounters) -> Table {
    let mut table = Table::new(&[">COUNT", "SINCE START"]);
    for (words, count) in counters.in_words() {
        table.row([count.to_string().into(), words.into()]);
    }
    table
}

fn sessions(sessions: &[NatSession], view: View) -> Table {
    let headers: &[&str] = match (view.brief, view.stats || view.details) {
        (true, _) => &["PROTO", "INSIDE", "AS", "OUTSIDE"],
        (false, false) => &[
            "PROTO", "STATE", "INSIDE", "AS", "OUTSIDE", ">AGE", ">LEFT", ">↑", ">↓", "PORT",
        ],
        (false, true) => &[
            "PROTO",
            "STATE",
            "INSIDE",
            "AS",
            "OUTSIDE",
            ">AGE",
            ">LEFT",
            ">↑",
            ">↓",
            "PORT",
            ">↑ PACKETS",
            ">↓ PACKETS",
        ],
    };
    let mut table = Table::new(headers);
    for session in sessions {
        let ends: [Cell; 3] =
            [session.inside, session.external, session.outside].map(|end| end.to_string().into());
        let mut row: Vec<Cell> = vec![session.proto.clone().into()];
        if view.brief {
            row.extend(ends);
        } else {
            row.push(state(&session.state));
            row.extend(ends);
            row.extend([
                units::age(session.age).into(),
                units::age(session.left).into(),
                units::bytes(session.outbound.bytes).into(),
                units::bytes(session.inbound.bytes).into(),
                session.port.clone().unwrap_or_else(|| "-".into()).into(),
                units::count(session.outbound.packets).into(),
                units::count(session.inbound.packets).into(),
            ]);
        }
        table.row(row);
    }
    table
}

fn state(state: &str) -> Cell {
    styled(state, if is_settled(state) { GOOD } else { NOTE })
}

/// Whether a session in that state has been answered, and is not being ended.
pub(crate) fn is_settled(state: &str) -> bool {
    matches!(state, "ESTABLISHED" | "REPLIED")
}
