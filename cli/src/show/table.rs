//! Columns of text: as wide as their widest cell, two spaces apart, numbers to the right.

use anstyle::{AnsiColor, Style};

use crate::error::printable;

/// Green: it works.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Red: it does not.
pub const BAD: Style = AnsiColor::Red.on_default();
/// Yellow: worth a look.
pub const NOTE: Style = AnsiColor::Yellow.on_default();
/// Bold: headers and totals.
pub const STRONG: Style = Style::new().bold();
/// No style.
pub const PLAIN: Style = Style::new();

/// On which side the blanks go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A text with its style.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    style: Style,
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        styled(text, PLAIN)
    }
}

/// A cell with a style; control characters in its text do not reach the terminal.
#[must_use]
pub fn styled(text: impl Into<String>, style: Style) -> Cell {
    let text = printable(&text.into()).into_owned();
    Cell { text, style }
}

/// Rows of equal length under a header.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// An empty table; a header that begins with `>` makes a column of numbers.
    #[must_use]
    pub fn new(headers: &[&'static str]) -> Self {
        let column = |header: &&'static str| match header.strip_prefix('>') {
            Some(name) => (name, Align::Right),
            None => (*header, Align::Left),
        };
        Self {
            columns: headers.iter().map(column).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty, surplus ones are not shown.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// The text, each line ended; without rows, the header alone (or nothing without `header`).
    #[must_use]
    pub fn render(&self, header: bool) -> String {
        let width = |index: usize, name: &str| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            let widest = cells.map(|cell| chars(&cell.text)).max().unwrap_or(0);
            if header {
                widest.max(chars(name))
            } else {
                widest
            }
        };
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(index, (name, _))| width(index, name))
            .collect();
        let mut out = String::new();
        if header {
            let names: Vec<_> = self
                .columns
                .iter()
                .map(|(name, _)| styled(*name, STRONG))
                .collect();
            self.line(&mut out, &names, &widths);
        }
        for row in &self.rows {
            self.line(&mut out, row, &widths);
        }
        out
    }

    fn line(&self, out: &mut String, row: &[Cell], widths: &[usize]) {
        let last = row
            .iter()
            .rposition(|cell| !cell.text.is_empty())
            .unwrap_or(0);
        for (index, ((cell, width), (_, align))) in row
            .iter()
            .zip(widths)
            .zip(&self.columns)
            .enumerate()
            .take(last + 1)
        {
            let blanks = " ".repeat(width - chars(&cell.text));
            let gap = if index == 0 { "" } else { "  " };
            let (style, text) = (cell.style, &cell.text);
            // No blanks are left at the end of a line.
            out.push_str(&match align {
                Align::Right => format!("{gap}{blanks}{style}{text}{style:#}"),
                Align::Left if index == last => format!("{gap}{style}{text}{style:#}"),
                Align::Left => format!("{gap}{style}{text}{style:#}{blanks}"),
            });
        }
        out.push('\n');
    }
}

fn chars(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_without_blanks() {
        let mut table = Table::new(&["PORT", ">COUNT", "FIX"]);
        table.row(["veth-blue".into(), "7".into(), styled("do", BAD)]);
        table.row(["µ".into(), "12 345".into(), "".into()]);
        let plain = anstream::adapter::strip_str(&table.render(true)).to_string();
        assert_eq!(
            plain,
            "PORT        COUNT  FIX\nveth-blue       7  do\nµ          12 345\n"
        );
        let bare = anstream::adapter::strip_str(&table.render(false)).to_string();
        assert!(bare.starts_with("veth-blue"));
        assert!(table.render(true).contains("\u{1b}[31mdo\u{1b}[0m"));
        let mut hostile = Table::new(&["A"]);
        hostile.row(["\u{1b}[2Jx\ny".into()]);
        assert_eq!(hostile.render(false), "?[2Jx?y\n");
        assert_eq!(Table::new(&["A"]).render(false), "");
    }
}
