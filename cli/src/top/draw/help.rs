//! The help: every key and what it does.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::paint::{Paint, cell, take, write};
use crate::top::grid::Tone;
use crate::top::keys::Keys;

/// Columns of a key's names, and of a key with what it does.
const NAMES: u16 = 16;
const BINDING: u16 = 44;

pub(super) fn draw(buf: &mut Buffer, mut area: Rect, keys: &Keys, paint: Paint) {
    write(buf, take(&mut area, 1), "Keys", paint.tone(Tone::Strong));
    let lines = usize::from(area.height).max(1);
    let all: Vec<(String, &str)> = keys.lines().collect();
    for (number, column) in all.chunks(lines).enumerate() {
        let left = u16::try_from(number)
            .unwrap_or(u16::MAX)
            .saturating_mul(BINDING);
        let x = area.x.saturating_add(left).min(area.right());
        let width = (area.right() - x).min(BINDING);
        let mut place = Rect { x, width, ..area };
        for (names, does) in column {
            let mut line = take(&mut place, 1);
            let width = NAMES.min(line.width);
            let left = Rect { width, ..line };
            cell(buf, left, names, false, paint.tone(Tone::Strong), paint);
            let taken = (NAMES + 1).min(line.width);
            line.x += taken;
            line.width -= taken;
            write(buf, line, does, Style::new());
        }
    }
}
