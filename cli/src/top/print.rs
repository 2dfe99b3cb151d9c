//! A snapshot for scripts and for paper: plain text, Markdown, CSV, JSON.

use serde::Serialize;
use serde_json::{Map, Value};

use super::app::Tab;
use super::grid::Grid;
use super::snapshot::{Flow, Snapshot};
use super::tables::{self, rate};
use crate::error::CliError;
use crate::show::units;

/// Sessions in a text about everything.
const FLOWS_SHOWN: usize = 10;

/// A table with its title, and what is said where it has no rows.
struct Section {
    title: &'static str,
    grid: Grid,
    empty: &'static str,
}

impl Section {
    fn text(&self, table: impl Fn(&Grid) -> String) -> String {
        match self.grid.rows.is_empty() {
            true => format!("{}\n", self.empty),
            false => table(&self.grid),
        }
    }
}

/// The tables of a tab, or of all of them.
fn sections(snapshot: &Snapshot, tab: Option<Tab>) -> Vec<Section> {
    let section = |title, grid, empty| Section { title, grid, empty };
    let wanted = |one| tab.is_none_or(|tab| tab == one);
    let mut sections = Vec::new();
    if wanted(Tab::Ports) {
        let ports: Vec<_> = snapshot.ports.iter().collect();
        sections.push(section("Ports", tables::ports(&ports), "none"));
        sections.push(section("Workers", tables::workers(snapshot), "none"));
    }
    if let Some(flows) = snapshot.flows.as_ref().filter(|_| wanted(Tab::Flows)) {
        let most = if tab.is_none() {
            FLOWS_SHOWN
        } else {
            usize::MAX
        };
        let list: Vec<&Flow> = flows.list.iter().take(most).collect();
        sections.push(section("Talkers", tables::talkers(flows), "nobody talks"));
        sections.push(section("Flows", tables::flows(&list), "no sessions"));
    }
    if let Some(nat) = snapshot.nat.as_ref().filter(|_| wanted(Tab::Nat)) {
        sections.push(section("NAT", tables::fullness_grid(nat), "none"));
        sections.push(section(
            "NAT sessions by state",
            tables::states(nat),
            "no sessions",
        ));
        if !nat.published.is_empty() {
            sections.push(section("Published ports", tables::published(nat), "none"));
        }
    }
    if let Some(latency) = snapshot.latency.as_ref().filter(|_| wanted(Tab::Latency)) {
        sections.push(section("Latency", tables::latency(latency), "none"));
    }
    if wanted(Tab::Drops) {
        let drops: Vec<_> = snapshot.drops.iter().collect();
        sections.push(section(
            "Drops",
            tables::drops(&drops),
            "no frame was dropped",
        ));
    }
    sections
}

/// One line about everything, as the first line of the screen has it.
fn headline(snapshot: &Snapshot) -> String {
    let (switch, totals) = (&snapshot.switch, &snapshot.totals);
    let over = snapshot.interval.map(|secs| format!(" over {secs:.1} s"));
    format!(
        "{}  up {}  {} pps  {} bit/s  drops {}/s  {}{}",
        switch.name,
        units::age(switch.uptime),
        rate(totals.frames_per_second),
        rate(totals.bits_per_second),
        rate(totals.drops_per_second),
        snapshot.time,
        over.unwrap_or_default()
    )
}

/// Tables of plain text, styled.
#[must_use]
pub fn pretty(snapshot: &Snapshot, tab: Option<Tab>) -> String {
    let mut out = headline(snapshot) + "\n";
    for section in sections(snapshot, tab) {
        out.push('\n');
        out.push_str(&section.text(Grid::text));
    }
    out
}

/// The same in Markdown.
#[must_use]
pub fn markdown(snapshot: &Snapshot, tab: Option<Tab>) -> String {
    let mut out = headline(snapshot) + "\n";
    for section in sections(snapshot, tab) {
        let text = section.text(Grid::markdown);
        out.push_str(&format!("\n## {}\n\n{text}", section.title));
    }
    out
}

/// A line for each look: everything together, then the bits of each port, in and out.
#[must_use]
pub fn line(snapshot: &Snapshot) -> String {
    let totals = &snapshot.totals;
    let mut out = format!(
        "{} {} pps {} bit/s drops {}/s",
        snapshot.time,
        rate(totals.frames_per_second),
        rate(totals.bits_per_second),
        rate(totals.drops_per_second)
    );
    if let Some(nat) = &snapshot.nat {
        out.push_str(&format!(" nat {}", nat.sessions));
    }
    for port in &snapshot.ports {
        let [rx, tx] = [port.rx, port.tx].map(|way| rate(way.bits_per_second));
        out.push_str(&format!(" | {} {rx} in {tx} out", port.ifname));
    }
    out.push('\n');
    out
}

/// The JSON of a snapshot, on one line.
///
/// # Errors
/// It cannot be written; a snapshot always can.
pub fn json(snapshot: &Snapshot) -> Result<String, CliError> {
    let text = serde_json::to_string(snapshot).map_err(|error| unwritten(&error))?;
    Ok(text + "\n")
}

fn unwritten(error: &serde_json::Error) -> CliError {
    CliError::failed("the snapshot", error.to_string(), "")
}

/// A tab's rows as CSV (RFC 4180, lines ended by a line feed): the time, then what the JSON has,
/// by the names of its keys, with a dot between those of an object in another. `header`: begin with
/// the names.
///
/// # Errors
/// As [`json`].
pub fn csv(snapshot: &Snapshot, tab: Tab, header: bool) -> Result<String, CliError> {
    let rows = match tab {
        Tab::Ports => values(&snapshot.ports)?,
        Tab::Flows => snapshot
            .flows
            .as_ref()
            .map_or_else(|| Ok(Vec::new()), |f| values(&f.list))?,
        Tab::Nat => snapshot
            .nat
            .as_ref()
            .map_or_else(|| Ok(Vec::new()), |n| values(&n.states))?,
        Tab::Drops => values(&snapshot.drops)?,
        Tab::Latency => {
            let latency = snapshot.latency.as_ref();
            latency.map_or_else(|| Ok(Vec::new()), |latency| values(&latency.pairs))?
        }
        Tab::Trace => {
            let why = "there is no table of it";
            return Err(CliError::usage(
                "--tab",
                why,
                "vswitch top -m csv --tab ports",
            ));
        }
    };
    let mut out = String::new();
    for (number, row) in rows.into_iter().enumerate() {
        let mut cells = vec![("time".to_owned(), snapshot.time.clone())];
        flatten("", row, &mut cells);
        if header && number == 0 {
            out.push_str(&record(cells.iter().map(|(name, _)| name)));
        }
        out.push_str(&record(cells.iter().map(|(_, value)| value)));
    }
    Ok(out)
}

fn values<T: Serialize>(rows: &[T]) -> Result<Vec<Map<String, Value>>, CliError> {
    let object = |row: &T| match serde_json::to_value(row) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Ok(Map::new()),
        Err(error) => Err(unwritten(&error)),
    };
    rows.iter().map(object).collect()
}

fn flatten(prefix: &str, object: Map<String, Value>, into: &mut Vec<(String, String)>) {
    for (key, value) in object {
        let name = format!("{prefix}{key}");
        match value {
            Value::Object(inner) => flatten(&format!("{name}."), inner, into),
            Value::Null => into.push((name, String::new())),
            Value::String(text) => into.push((name, text)),
            value @ (Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
                into.push((name, value.to_string()));
            }
        }
    }
}

fn record<'c>(cells: impl Iterator<Item = &'c String>) -> String {
    let quoted = |cell: &'c String| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    cells.map(quoted).collect::<Vec<_>>().join(",") + "\n"
}
