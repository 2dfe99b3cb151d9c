//! The help: every key and what it does.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;

use super::paint::{Paint, take, write, write_all};
use crate::top::grid::Tone;
use crate::top::keys::KEYS;

/// Columns of a key's names, and of a key with what it does.
const NAMES: usize = 17;
const BINDING: u16 = 44;

pub(super) fn draw(buf: &mut Buffer, mut area: Rect, paint: Paint) {
    write(buf, take(&mut area, 1), "Keys", paint.tone(Tone::Strong));
    let lines = usize::from(area.height).max(1);
    for (number, column) in KEYS.chunks(lines).enumerate() {
        let left = u16::try_from(number)
            .unwrap_or(u16::MAX)
            .saturating_mul(BINDING);
        let x = area.x.saturating_add(left).min(area.right());
        let width = (area.right() - x).min(BINDING);
        let mut place = Rect { x, width, ..area };
        for binding in column {
            let names = format!("{:NAMES$}", binding.shown);
            let line = take(&mut place, 1);
            let texts = [
                (names.as_str(), paint.tone(Tone::Strong)),
                (binding.does, Style::new()),
            ];
            write_all(buf, line, &texts);
        }
    }
}
