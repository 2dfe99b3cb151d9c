//! Tables as data: the same for the screen, for plain text and for Markdown.

use anstyle::Style;

use crate::error::printable;
use crate::show::table::{self, BAD, GOOD, NOTE, PLAIN, STRONG, Table};

/// What a cell's colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nothing.
    Plain,
    /// It works.
    Good,
    /// Worth a look.
    Note,
    /// It does not work.
    Bad,
    /// What the eye shall find first.
    Strong,
}

impl Tone {
    /// As tables in plain text have it.
    #[must_use]
    pub const fn style(self) -> Style {
        match self {
            Self::Plain => PLAIN,
            Self::Good => GOOD,
            Self::Note => NOTE,
            Self::Bad => BAD,
            Self::Strong => STRONG,
        }
    }
}

/// A text with its tone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// The text, without control characters.
    pub text: String,
    /// Its tone.
    pub tone: Tone,
}

/// A cell of a tone.
#[must_use]
pub fn toned(text: impl AsRef<str>, tone: Tone) -> Cell {
    let text = printable(text.as_ref()).into_owned();
    Cell { text, tone }
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        toned(text, Tone::Plain)
    }
}

/// A column: a name, on which side the blanks go, and how wide a screen has to be for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The name; with `>` before it, the column is one of numbers.
    header: &'static str,
    /// The narrowest screen that shows it.
    pub from: u16,
}

impl Column {
    /// The name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.header.strip_prefix('>').unwrap_or(self.header)
    }

    /// Whether the blanks go to the left.
    #[must_use]
    pub fn is_number(&self) -> bool {
        self.header.starts_with('>')
    }
}

/// Rows under a header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grid {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows, of one cell for each column.
    pub rows: Vec<Vec<Cell>>,
}

impl Grid {
    /// An empty grid; each column with the narrowest screen that shows it.
    #[must_use]
    pub fn new(columns: &[(&'static str, u16)]) -> Self {
        let columns = columns.iter();
        Self {
            columns: columns
                .map(|&(header, from)| Column { header, from })
                .collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Without the columns and rows that a screen of that width, or a search, does not show. The
    /// second value says which rows they were before.
    #[must_use]
    pub fn shown(&self, width: u16, search: &str) -> (Self, Vec<usize>) {
        let fits = |index: usize| {
            let column = self.columns.get(index);
            column.is_some_and(|column| column.from <= width)
        };
        let search = search.to_lowercase();
        let found = |row: &Vec<Cell>| {
            let mut cells = row.iter();
            search.is_empty() || cells.any(|cell| cell.text.to_lowercase().contains(&search))
        };
        let rows = self.rows.iter().enumerate().filter(|(_, row)| found(row));
        let (indices, rows) = rows.map(|(index, row)| (index, keep(row, fits))).unzip();
        let columns = keep(&self.columns, fits);
        (Self { columns, rows }, indices)
    }

    /// How wide each column has to be.
    #[must_use]
    pub fn widths(&self) -> Vec<usize> {
        let width = |(index, column): (usize, &Column)| {
            let cells = self.rows.iter().filter_map(|row| row.get(index));
            let cells = cells.map(|cell| cell.text.chars().count());
            cells.max().unwrap_or(0).max(column.name().chars().count())
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    /// As plain text.
    #[must_use]
    pub fn text(&self) -> String {
        let headers: Vec<&'static str> = self.columns.iter().map(|column| column.header).collect();
        let mut table = Table::new(&headers);
        for row in &self.rows {
            let cells = row.iter();
            table.row(cells.map(|cell| table::styled(cell.text.clone(), cell.tone.style())));
        }
        table.render(true)
    }

    /// As Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let columns = || self.columns.iter();
        let mut out = line(columns().map(|column| column.name().to_owned()).collect());
        let rules = columns().map(|column| if column.is_number() { "--:" } else { "---" });
        out.push_str(&format!("|{}|\n", rules.collect::<Vec<_>>().join("|")));
        for row in &self.rows {
            let cells = row.iter().map(|cell| cell.text.replace('|', "\\|"));
            out.push_str(&line(cells.collect()));
        }
        out
    }
}

fn keep<T: Clone>(all: &[T], wanted: impl Fn(usize) -> bool) -> Vec<T> {
    let all = all.iter().enumerate().filter(|(index, _)| wanted(*index));
    all.map(|(_, one)| one.clone()).collect()
}
