//! `vswitch status`.

use super::table::{GOOD, NOTE, STRONG, Table};
use super::units;
use crate::args::View;
use crate::control::api::{Status, Totals};
use crate::error::printable;

/// The switch as a whole: a head line, the workers, and where every frame went.
#[must_use]
pub fn status(status: &Status, view: View) -> String {
    let Status {
        name,
        pid,
        version,
        uptime,
        ports,
        fdb_entries,
        nat_sessions,
        ..
    } = status;
    let up = units::age(*uptime);
    if view.brief || view.oneline {
        return format!(
            "{name} pid {pid} up {up} ports {ports} fdb {fdb_entries} nat {nat_sessions}\n"
        );
    }
    let mut out = format!(
        "{STRONG}{name}{STRONG:#}  vswitch {version}  pid {pid}  up {up}\n\
         {ports} ports  {fdb_entries} stations  {nat_sessions} nat sessions"
    );
    let places = [("gateway", &status.gateway), ("uplink", &status.uplink)];
    for (what, place) in places {
        out.push_str(&format!(
            "  {what} {}",
            printable(place.as_deref().unwrap_or("none"))
        ));
    }
    out.push_str("\n\n");
    out.push_str(&workers(status).render(true));
    out.push('\n');
    out.push_str(&totals(&status.totals).render(false));
    out.push_str(&balance(&status.totals));
    out
}

fn workers(status: &Status) -> Table {
    let headers = [
        ">WORKER", ">CPU", ">FRAMES", ">BATCH", ">POLLS", ">EMPTY", ">SLEEPS",
    ];
    let mut table = Table::new(&headers);
    for worker in &status.workers {
        table.row([
            worker.index.to_string().into(),
            worker
                .cpu
                .map_or_else(|| "any".into(), |cpu| cpu.to_string())
                .into(),
            units::count(worker.frames).into(),
            format!("{:.1}", worker.batch_mean).into(),
            units::count(worker.polls).into(),
            units::percent(worker.polls_empty, worker.polls).into(),
            units::count(worker.sleeps).into(),
        ]);
    }
    table
}

fn totals(totals: &Totals) -> Table {
    let mut table = Table::new(&["", ">", ""]);
    let mut line = |what: &str, count: u64, meaning: &str| {
        table.row([what.into(), units::count(count).into(), meaning.into()]);
    };
    line("received", totals.received, "frames came in");
    line(
        "resumed",
        totals.resumed,
        "had a further verdict after a wait",
    );
    line("forwarded", totals.forwarded, "to one port, by the switch");
    line("routed", totals.routed, "to one port, by the gateway");
    line("flooded", totals.flooded, "to every port but one");
    line("answered", totals.answered, "by the gateway");
    line("absorbed", totals.absorbed, "by the gateway");
    line("held", totals.held, "waiting for a neighbour");
    line("handed over", totals.handed_over, "to another worker");
    line("dropped", totals.dropped, "see vswitch drops");
    line("copies", totals.copies, "made of them for their ports");
    line("originated", totals.originated, "made by the gateway");
    line("sent", totals.sent, "copies went out");
    line(
        "not sent",
        totals.egress_dropped,
        "copies were not taken by their port",
    );
    table
}

/// Whether both sums come out even. A single look cannot tell a frame under way from one that is
/// lost, so a difference is a note and no alarm.
fn balance(totals: &Totals) -> String {
    let sums = [
        (totals.unaccounted(), "frames", "verdicts"),
        (totals.undelivered(), "copies", "ends"),
    ];
    let mut out = String::new();
    for (difference, these, those) in sums {
        let (count, more, fewer) = match difference {
            0 => continue,
            1.. => (difference, these, those),
            _ => (-difference, those, these),
        };
        let text = format!("{count} more {more} than {fewer}: under way, if it changes");
        out.push_str(&format!("{NOTE}{text}{NOTE:#}\n"));
    }
    if out.is_empty() {
        out = format!("{GOOD}every frame is accounted for{GOOD:#}\n");
    }
    out
}
