//! Latency: quantiles by pair of ports, and a heat map of the one under the cursor: to the right is
//! now, upwards is slow, bright is many.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::Scene;
use super::paint::{Paint, grid, take, write};
use crate::top::grid::Tone;
use crate::top::heat::{BANDS, BOUNDS, Bands};
use crate::top::tables;
use crate::top::theme::Role;

/// Columns of the scale.
const SCALE: u16 = 9;
/// Rows of the table while there is a map below.
const TABLE_ROWS: u16 = 4;

pub(super) fn draw(buf: &mut Buffer, mut area: Rect, scene: &Scene<'_>) {
    let Scene {
        app,
        snapshot,
        paint,
    } = *scene;
    let Some(latency) = &snapshot.latency else {
        let text = match app.sight().history.latency.is_empty() {
            true => "nothing measured yet, or this switch does not measure latency",
            false => "measuring began anew",
        };
        write(buf, area, text, paint.dim());
        return;
    };
    let (shown, indices) = tables::latency(latency).shown(area.width, &app.search);
    let row = app.cursor().row.min(shown.rows.len().saturating_sub(1));
    let map = u16::try_from(BANDS + 2).unwrap_or(u16::MAX);
    let rows = area.height.saturating_sub(map).max(TABLE_ROWS);
    let rows = rows.min(u16::try_from(shown.rows.len() + 1).unwrap_or(u16::MAX));
    grid(buf, take(&mut area, rows), &shown, Some(row), paint);
    take(&mut area, 1);
    let name = match indices.get(row) {
        None => return,
        Some(0) => latency.all.name(),
        Some(index) => match latency.pairs.get(index - 1) {
            Some(pair) => pair.name(),
            None => return,
        },
    };
    let title = format!("{name}: share of frames by duration, over time");
    write(buf, take(&mut area, 1), &title, paint.tone(Tone::Strong));
    let columns = app.sight().history.latency.get(&name);
    let columns = columns.into_iter().flatten();
    heat(buf, area, columns.copied(), paint);
}

/// Bands from the slowest to the fastest, those of no frames at the top left out where there is no
/// room; the latest look to the right.
fn heat(
    buf: &mut Buffer,
    mut area: Rect,
    latest_first: impl Iterator<Item = Option<Bands>>,
    paint: Paint,
) {
    let width = usize::from(area.width.saturating_sub(SCALE));
    let columns: Vec<Option<Bands>> = latest_first.take(width).collect();
    let seen = |band: &usize| {
        let mut columns = columns.iter().flatten();
        columns.any(|bands| bands.get(*band).is_some_and(|frames| *frames > 0))
    };
    let slowest = (0..BANDS).rev().find(seen).unwrap_or(0);
    let lines = usize::from(area.height);
    let top = slowest.max(lines.min(BANDS).saturating_sub(1));
    for band in (0..=top).rev().take(lines) {
        let line = take(&mut area, 1);
        write(buf, line, &scale(band), paint.dim());
        for (back, bands) in columns.iter().enumerate() {
            let back = u16::try_from(back + 1).unwrap_or(u16::MAX);
            let cell = Rect {
                x: line.right().saturating_sub(back),
                width: 1,
                ..line
            };
            if let (Some(bands), true) = (bands, cell.x >= line.x + SCALE) {
                let all: u64 = bands.iter().sum();
                let part = bands.get(band).copied().unwrap_or(0);
                let (mark, style) = mark(part, all, paint);
                write(buf, cell, mark, style);
            }
        }
    }
}

/// The lower bound of a band: `  20 us`.
fn scale(band: usize) -> String {
    let below = band.checked_sub(1).and_then(|below| BOUNDS.get(below));
    let nanos = below.copied().unwrap_or(0);
    let text = match nanos {
        0 => "0".into(),
        1..1_000_000 => format!("{} us", nanos / 1_000),
        _ => format!("{} ms", nanos / 1_000_000),
    };
    format!("{text:>7}  ")
}

/// How a share of the frames of one look is drawn: each step is four times as many.
fn mark(part: u64, all: u64, paint: Paint) -> (&'static str, Style) {
    let (part, all) = (u128::from(part), u128::from(all));
    let marks = match paint.ascii {
        true => [" ", ".", ":", "+", "#"],
        false => [" ", "░", "▒", "▓", "█"],
    };
    let [none, few, some, many, most] = marks;
    match part {
        0 => (none, Style::new()),
        part if part * 64 < all => (few, paint.fg(Role::HeatFew)),
        part if part * 16 < all => (some, paint.fg(Role::HeatSome)),
        part if part * 4 < all => (many, paint.fg(Role::HeatMany)),
        _ => (most, paint.fg(Role::HeatMost)),
    }
}
