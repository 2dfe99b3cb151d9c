//! `vswitch replay --offline`.

use super::table::{BAD, GOOD, NOTE, STRONG, Table, styled};
use super::units;
use crate::error::printable;
use crate::replay::{Recorded, Report, Skipped};

/// What became of a capture: by port, then by reason.
#[must_use]
pub fn report(report: &Report) -> String {
    let mut out = format!(
        "{STRONG}{}{STRONG:#}  {} {} in {:.3} s\n",
        printable(&report.file),
        units::count(report.packets),
        if report.packets == 1 {
            "packet"
        } else {
            "packets"
        },
        report.seconds
    );
    out.push_str(&skipped(report.skipped));
    out.push('\n');
    out.push_str(&ports(report).render(true));
    let drops = drops(report);
    if !drops.is_empty() {
        out.push('\n');
        out.push_str(&drops);
    }
    if let Some(recorded) = &report.recorded {
        out.push_str(&compared(recorded));
    }
    let (style, words) = if report.conserved {
        (GOOD, "every frame is accounted for")
    } else {
        (BAD, "NOT every frame is accounted for")
    };
    out.push_str(&format!("\n{style}{words}{style:#}\n"));
    out
}

/// Whether all is as it was recorded, and what is not.
fn compared(recorded: &Recorded) -> String {
    let same = units::count(recorded.same);
    let mut text = if recorded.differ == 0 {
        format!("\n{GOOD}all {same} verdicts are as they were recorded{GOOD:#}\n")
    } else {
        let differ = units::count(recorded.differ);
        format!("\n{BAD}{differ} verdicts are not as they were recorded{BAD:#}, {same} are\n")
    };
    for one in &recorded.examples {
        let (was, is) = (printable(&one.was), printable(&one.is));
        text.push_str(&format!("packet {}: was {was}, is {is}\n", one.packet));
    }
    text.push_str(&match recorded.differs_from {
        Some(seconds) => {
            format!(
                "{BAD}what left is not as it was{BAD:#}, from {seconds:.3} s on at the latest\n"
            )
        }
        None => format!(
            "what left is as it was, at each of {} ticks\n",
            units::count(recorded.ticks_same)
        ),
    });
    if recorded.turns_missing > 0 {
        text.push_str(&format!(
            "{NOTE}{} turns are missing{NOTE:#}: workers were faster than could be recorded\n",
            units::count(recorded.turns_missing)
        ));
    }
    text
}

fn skipped(skipped: Skipped) -> String {
    let kinds = [
        (skipped.outbound, "were sent by their interface"),
        (skipped.no_port, "are of an interface that is no port"),
        (skipped.cut, "were captured in part only"),
        (skipped.too_long, "are longer than a frame can be"),
    ];
    let lines = kinds.iter().filter(|(count, _)| *count > 0);
    lines
        .map(|(count, why)| format!("{} left out: they {why}\n", units::count(*count)))
        .collect()
}

fn ports(report: &Report) -> Table {
    let headers = [
        "PORT", ">IN", ">FORWARD", ">ROUTE", ">FLOOD", ">ANSWER", ">ABSORB", ">DROP", ">WAIT",
        ">OUT",
    ];
    let mut table = Table::new(&headers);
    for port in &report.ports {
        let verdicts = port.verdicts;
        let counts = [
            port.received_frames,
            verdicts.forwarded,
            verdicts.routed,
            verdicts.flooded,
            verdicts.answered,
            verdicts.absorbed,
            verdicts.dropped,
            verdicts.waiting,
            port.sent_frames,
        ];
        let name = match port.role {
            "member" => port.port.clone(),
            role => format!("{} ({role})", port.port),
        };
        let cells = counts.map(|count| units::count(count).into());
        table.row(std::iter::once(name.into()).chain(cells));
    }
    table
}

fn drops(report: &Report) -> String {
    let mut rows: Vec<_> = (report.ports.iter())
        .flat_map(|port| port.drops.iter().map(move |drop| (port, drop)))
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    rows.sort_by(|(a_port, a), (b_port, b)| {
        (b.count, a.reason, &a_port.port).cmp(&(a.count, b.reason, &b_port.port))
    });
    let mut table = Table::new(&[">COUNT", "REASON", "PORT", "FIX"]);
    for (port, drop) in rows {
        table.row([
            units::count(drop.count).into(),
            styled(drop.reason, NOTE),
            port.port.clone().into(),
            drop.fix.into(),
        ]);
    }
    table.render(true)
}
