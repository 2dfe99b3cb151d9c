//! A screen as a picture: the cells of a buffer as SVG.

use std::fmt::Write;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};

/// Units of a cell; a letter of the monospace font is as wide as 0.6 of its height.
const CELL: (f64, f64) = (8.4, 17.0);
const FONT_SIZE: f64 = 14.0;
const MARGIN: f64 = 12.0;
const BACKGROUND: &str = "#16181d";
const FOREGROUND: &str = "#d5d9e0";

/// The picture of a screen.
pub(super) fn of(buffer: &Buffer, shows: &str) -> String {
    let (width, height) = (
        f64::from(buffer.area.width) * CELL.0 + 2.0 * MARGIN,
        f64::from(buffer.area.height) * CELL.1 + 2.0 * MARGIN,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" \
         role=\"img\" aria-label=\"{shows}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <g font-family=\"ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace\" \
         font-size=\"{FONT_SIZE}\" xml:space=\"preserve\">\n"
    );
    for y in 0..buffer.area.height {
        let row: Vec<&Cell> = (0..buffer.area.width).map(|x| &buffer[(x, y)]).collect();
        line(&mut svg, y, &row);
    }
    svg + "</g>\n</svg>\n"
}

/// Runs of cells that look alike become one text.
fn line(svg: &mut String, y: u16, row: &[&Cell]) {
    let mut x = 0;
    while x < row.len() {
        let look = |cell: &Cell| (cell.fg, cell.modifier);
        let run = row[x..]
            .iter()
            .take_while(|cell| look(cell) == look(row[x]));
        let text: String = run.map(|cell| cell.symbol()).collect();
        let cells = text.chars().count();
        run_of(svg, (x, y), &text, row[x]);
        x += cells;
    }
}

fn run_of(svg: &mut String, (x, y): (usize, u16), text: &str, cell: &Cell) {
    let left = MARGIN + f64::from(u16::try_from(x).unwrap()) * CELL.0;
    let top = MARGIN + f64::from(y) * CELL.1;
    let width = f64::from(u16::try_from(text.chars().count()).unwrap()) * CELL.0;
    let mut colour = colour(cell.fg);
    if cell.modifier.contains(Modifier::REVERSED) {
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{:.1}\" \
             fill=\"{colour}\"/>",
            CELL.1
        );
        colour = BACKGROUND;
    }
    if text.trim().is_empty() {
        return;
    }
    let bold = match cell.modifier.contains(Modifier::BOLD) {
        true => " font-weight=\"bold\"",
        false => "",
    };
    let dim = match cell.modifier.contains(Modifier::DIM) {
        true => " opacity=\"0.55\"",
        false => "",
    };
    let escaped = text
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    let base = top + CELL.1 * 0.76;
    let _ = writeln!(
        svg,
        "<text x=\"{left:.1}\" y=\"{base:.1}\" textLength=\"{width:.1}\" \
         lengthAdjust=\"spacingAndGlyphs\" fill=\"{colour}\"{bold}{dim}>{escaped}</text>"
    );
}

const COLOURS: [(Color, &str); 7] = [
    (Color::Red, "#ff6b6b"),
    (Color::Green, "#7bd88f"),
    (Color::Yellow, "#f5c96b"),
    (Color::Blue, "#6cb2ff"),
    (Color::Magenta, "#c792ea"),
    (Color::Cyan, "#5cd6d6"),
    (Color::Reset, FOREGROUND),
];

fn colour(colour: Color) -> &'static str {
    let mut known = COLOURS.iter();
    known.find(|(one, _)| *one == colour).unwrap().1
}
