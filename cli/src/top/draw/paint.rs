//! Colours and marks, and the few shapes all tabs are drawn with.

use std::borrow::Cow;

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::symbols::bar;
use ratatui::widgets::{RenderDirection, Sparkline, Widget};

use crate::error::printable;
use crate::top::grid::{Grid, Tone};
use crate::top::history::Series;
use crate::top::theme::{Colours, Role};

/// Blanks between two columns.
const GAP: u16 = 2;

/// Bars of letters every terminal has.
const ASCII_BARS: bar::Set<'static> = bar::Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "=",
    five_eighths: "=",
    half: "-",
    three_eighths: "-",
    one_quarter: ".",
    one_eighth: ".",
    empty: " ",
};

/// What a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// Colours.
    pub colour: bool,
    /// Letters of ASCII only.
    pub ascii: bool,
    /// Which colours, if any.
    pub colours: Colours,
}

impl Paint {
    pub(super) fn tone(self, tone: Tone) -> Style {
        match tone {
            Tone::Plain => Style::new(),
            Tone::Good => self.fg(Role::Good),
            Tone::Note => self.fg(Role::Note),
            Tone::Bad => self.fg(Role::Bad).add_modifier(Modifier::BOLD),
            Tone::Strong => self.fg(Role::Heading).add_modifier(Modifier::BOLD),
        }
    }

    pub(super) fn fg(self, role: Role) -> Style {
        match self.colour {
            true => Style::new().fg(self.colours.of(role)),
            false => Style::new(),
        }
    }

    pub(super) const fn dim(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) const fn marked(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    pub(super) const fn ellipsis(self) -> &'static str {
        if self.ascii { "~" } else { "…" }
    }

    /// A text in the letters the terminal has.
    pub(super) fn letters(self, text: &str) -> Cow<'_, str> {
        if !self.ascii || text.is_ascii() {
            return Cow::Borrowed(text);
        }
        let letter = |c: char| match c {
            '→' => '>',
            '←' => '<',
            'µ' => 'u',
            '…' => '~',
            c if c.is_ascii() => c,
            _ => '?',
        };
        Cow::Owned(text.chars().map(letter).collect())
    }

    const fn bars(self) -> bar::Set<'static> {
        if self.ascii {
            ASCII_BARS
        } else {
            bar::NINE_LEVELS
        }
    }
}

/// The upper so many lines of an area, which loses them.
pub(super) fn take(area: &mut Rect, lines: u16) -> Rect {
    let lines = lines.min(area.height);
    let top = Rect {
        height: lines,
        ..*area
    };
    area.y += lines;
    area.height -= lines;
    top
}

/// Writes a text on the first line of an area; what does not fit is cut. Returns how many columns
/// it took.
pub(super) fn write(buf: &mut Buffer, area: Rect, text: &str, style: Style) -> u16 {
    if area.is_empty() {
        return 0;
    }
    let text = printable(text);
    let (end, _) = buf.set_stringn(area.x, area.y, &text, usize::from(area.width), style);
    end - area.x
}

/// Writes texts one after the other on the first line of an area.
pub(super) fn write_all(buf: &mut Buffer, mut area: Rect, texts: &[(&str, Style)]) {
    for (text, style) in texts {
        let taken = write(buf, area, text, *style);
        area.x += taken;
        area.width -= taken;
    }
}

/// Writes a text over so many lines as there are, broken between words.
pub(super) fn write_wrapped(buf: &mut Buffer, mut area: Rect, text: &str, style: Style) {
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && longer > usize::from(area.width) {
            write(buf, take(&mut area, 1), &line, style);
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    write(buf, take(&mut area, 1), &line, style);
}

/// Rows of a grid on screen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    /// The first row shown.
    pub(super) first: usize,
    /// The column after the last one that was written.
    pub(super) end: u16,
}

/// Draws a grid, scrolled so that the row the cursor is on is seen; that row is marked. A text that
/// is wider than its column ends in an ellipsis.
pub(super) fn grid(
    buf: &mut Buffer,
    mut area: Rect,
    grid: &Grid,
    cursor: Option<usize>,
    paint: Paint,
) -> Placed {
    let widths = grid.widths();
    let header = take(&mut area, 1);
    let height = usize::from(area.height);
    let cursor = cursor.map(|row| row.min(grid.rows.len().saturating_sub(1)));
    let first = cursor.map_or(0, |row| (row + 1).saturating_sub(height));
    let mut x = area.x;
    for (index, (column, width)) in grid.columns.iter().zip(&widths).enumerate() {
        let width = u16::try_from(*width).unwrap_or(u16::MAX);
        let width = width.min(area.right().saturating_sub(x));
        let place = |line: Rect| Rect { x, width, ..line };
        let right = column.is_number();
        cell(
            buf,
            place(header),
            column.name(),
            right,
            paint.tone(Tone::Strong),
            paint,
        );
        let mut lines = area;
        for row in grid.rows.iter().skip(first).take(height) {
            let line = take(&mut lines, 1);
            if let Some(one) = row.get(index) {
                cell(
                    buf,
                    place(line),
                    &one.text,
                    right,
                    paint.tone(one.tone),
                    paint,
                );
            }
        }
        x = x
            .saturating_add(width)
            .saturating_add(GAP)
            .min(area.right());
    }
    let shown = cursor.and_then(|row| u16::try_from(row.checked_sub(first)?).ok());
    if let Some(line) = shown.filter(|line| *line < area.height && !grid.rows.is_empty()) {
        let line = Rect {
            y: area.y + line,
            height: 1,
            ..area
        };
        buf.set_style(line, paint.marked());
    }
    Placed { first, end: x }
}

pub(super) fn cell(
    buf: &mut Buffer,
    area: Rect,
    text: &str,
    right: bool,
    style: Style,
    paint: Paint,
) {
    let text = paint.letters(text);
    let (length, width) = (text.chars().count(), usize::from(area.width));
    if length > width {
        let kept: String = text.chars().take(width.saturating_sub(1)).collect();
        write(buf, area, &(kept + paint.ellipsis()), style);
    } else {
        let blanks = if right { width - length } else { 0 };
        write(buf, area, &format!("{}{text}", " ".repeat(blanks)), style);
    }
}

/// Draws samples, the latest to the right, as high as `max` needs.
pub(super) fn chart(
    buf: &mut Buffer,
    area: Rect,
    latest_first: impl IntoIterator<Item = Option<f64>>,
    max: f64,
    (style, paint): (Style, Paint),
) {
    // Heights in thousandths: the widget counts in whole numbers.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a float saturates when cast, and is from 0 to 1000"
    )]
    let height =
        |sample: f64| ((sample / max.max(f64::MIN_POSITIVE)) * 1000.0).clamp(0.0, 1000.0) as u64;
    let samples = latest_first.into_iter().take(usize::from(area.width));
    let heights: Vec<Option<u64>> = samples.map(|sample| sample.map(height)).collect();
    Sparkline::default()
        .data(heights)
        .max(1000)
        .style(style)
        .bar_set(paint.bars())
        .absent_value_symbol(" ")
        .direction(RenderDirection::RightToLeft)
        .render(area, buf);
}

/// Takes lines off the top of `area` for a figure over time: what it is, then the chart, then a
/// blank. `title` is given the largest there is to see.
pub(super) fn chart_over_time(
    buf: &mut Buffer,
    area: &mut Rect,
    lines: u16,
    (series, title): (&Series, impl FnOnce(f64) -> String),
    (role, paint): (Role, Paint),
) {
    let columns = usize::from(area.width);
    let max = series.max(columns);
    write(buf, take(area, 1), &title(max), paint.tone(Tone::Strong));
    let style = (paint.fg(role), paint);
    chart(buf, take(area, lines), series.latest(columns), max, style);
    take(area, 1);
}

/// Draws how much of a whole is used, as a bar along one line.
pub(super) fn gauge(buf: &mut Buffer, area: Rect, part: u64, whole: u64, paint: Paint) {
    let width = u128::from(area.width);
    let filled = u128::from(part) * width / u128::from(whole.max(1));
    let filled = usize::try_from(filled.min(width)).unwrap_or(0);
    let tone = match u128::from(part) * 100 / u128::from(whole.max(1)) {
        0..70 => Tone::Good,
        70..90 => Tone::Note,
        _ => Tone::Bad,
    };
    let (full, empty) = if paint.ascii {
        ("#", ".")
    } else {
        ("█", "░")
    };
    let rest = usize::from(area.width) - filled;
    write_all(
        buf,
        area,
        &[
            (&full.repeat(filled), paint.tone(tone)),
            (&empty.repeat(rest), paint.dim()),
        ],
    );
}
