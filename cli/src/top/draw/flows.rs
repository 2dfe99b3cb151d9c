//! Flows: who talks most, and the sessions by what they move.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::Scene;
use super::paint::{grid, take, write};
use crate::show::units;
use crate::top::snapshot::Flow;
use crate::top::tables;

/// Talkers shown, at most.
const TALKERS_SHOWN: usize = 5;

pub(super) fn draw(buf: &mut Buffer, mut area: Rect, scene: &Scene<'_>) {
    let Scene {
        app,
        snapshot,
        paint,
    } = *scene;
    let Some(flows) = &snapshot.flows else {
        let text = match snapshot.nat {
            Some(_) => "asking for the sessions",
            None => "this switch does no NAT",
        };
        write(buf, area, text, paint.dim());
        return;
    };
    let mut text = format!("{} sessions", units::count(flows.sessions));
    if flows.watched < flows.sessions {
        let watched = units::count(flows.watched);
        text.push_str(&format!(
            ", of which the {watched} with most bytes or highest pace are here"
        ));
    }
    write(buf, take(&mut area, 1), &text, Style::new());
    take(&mut area, 1);
    let mut talkers = tables::talkers(flows);
    talkers
        .rows
        .truncate(TALKERS_SHOWN.min(usize::from(area.height / 4)));
    let lines = u16::try_from(talkers.rows.len() + 1).unwrap_or(u16::MAX);
    grid(buf, take(&mut area, lines), &talkers, None, paint);
    take(&mut area, 1);
    let list = app.flows(&flows.list);
    let (shown, indices) = tables::flows(&list).shown(area.width, &app.search);
    let row = app.cursor().row.min(shown.rows.len().saturating_sub(1));
    let detail = u16::from(area.height >= 6) * 2;
    let lines = area.height - detail;
    let table = take(&mut area, lines);
    grid(buf, table, &shown, Some(row), paint);
    take(&mut area, 1);
    if let Some(flow) = indices.get(row).and_then(|index| list.get(*index)) {
        write(buf, area, &details(flow), paint.dim());
    }
}

/// The session under the cursor in words.
fn details(flow: &Flow) -> String {
    format!(
        "{} as {}, opened {} ago from {}, ends in {}",
        flow.inside,
        flow.external,
        units::age(flow.age),
        flow.origin,
        units::age(flow.left)
    )
}
