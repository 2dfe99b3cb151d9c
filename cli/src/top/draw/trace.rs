//! Trace: packets as they come, and the way of the one under the cursor.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::Scene;
use super::paint::{grid, take, write};
use crate::show;
use crate::top::grid::Tone;
use crate::top::tables;

/// Lines of the way, at most.
const WAY_LINES: u16 = 10;

pub(super) fn draw(buf: &mut Buffer, mut area: Rect, scene: &Scene<'_>) {
    let Scene { app, paint, .. } = *scene;
    let sight = app.sight();
    if let (true, Some(why)) = (sight.traced.is_empty(), &sight.untraced) {
        write(buf, area, why, paint.tone(Tone::Note));
        return;
    }
    if sight.traced.is_empty() {
        let state = if sight.watched {
            "waiting for a packet"
        } else {
            "asking the switch for its packets"
        };
        write(buf, area, state, paint.dim());
        return;
    }
    let (shown, indices) = tables::traced(&sight.traced).shown(area.width, &app.search);
    let row = app.cursor().row.min(shown.rows.len().saturating_sub(1));
    let way = WAY_LINES.min(area.height / 2);
    let lines = area.height - way;
    grid(buf, take(&mut area, lines), &shown, Some(row), paint);
    take(&mut area, 1);
    if let Some(packet) = indices.get(row).and_then(|index| sight.traced.get(*index)) {
        let number = u64::try_from(row + 1).unwrap_or(u64::MAX);
        for line in show::trace::block(packet, number).lines() {
            write(buf, take(&mut area, 1), &paint.letters(line), Style::new());
        }
    }
}
