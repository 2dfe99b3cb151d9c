//! Drops: how many over time, by reason and port, and what fixes the one under the cursor.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::Scene;
use super::paint::{chart_over_time, grid, take, write, write_wrapped};
use crate::show::units;
use crate::top::grid::Tone;
use crate::top::tables;
use crate::top::theme::Role;

/// Lines of the chart.
const CHART_LINES: u16 = 3;
/// Lines of the words about the reason under the cursor.
const WORDS_LINES: u16 = 4;

pub(super) fn draw(buf: &mut Buffer, mut area: Rect, scene: &Scene<'_>) {
    let Scene {
        app,
        snapshot,
        paint,
    } = *scene;
    if snapshot.drops.is_empty() {
        write(buf, area, "no frame was dropped", paint.tone(Tone::Good));
        return;
    }
    if area.height > 2 * (CHART_LINES + WORDS_LINES) {
        let title = |max| format!("Drops a second, most {}", units::rate(max));
        let drops = (&app.sight().history.drops, title);
        chart_over_time(buf, &mut area, CHART_LINES, drops, (Role::Drops, paint));
    }
    let drops = app.drops(&snapshot.drops);
    let (shown, indices) = tables::drops(&drops).shown(area.width, &app.search);
    let row = app.cursor().row.min(shown.rows.len().saturating_sub(1));
    let words = if area.height > 2 * WORDS_LINES {
        WORDS_LINES + 1
    } else {
        0
    };
    let lines = area.height - words;
    let table = take(&mut area, lines);
    grid(buf, table, &shown, Some(row), paint);
    take(&mut area, 1);
    if let Some(drop) = indices.get(row).and_then(|index| drops.get(*index)) {
        let meaning = format!("{}: {}", drop.reason, drop.meaning);
        write_wrapped(buf, take(&mut area, 2), &meaning, Style::new());
        if !drop.fix.is_empty() {
            write_wrapped(
                buf,
                area,
                &format!("fix: {}", drop.fix),
                paint.tone(Tone::Strong),
            );
        }
    }
}
