//! Drawing: marks with coordinates into the text of an SVG.
//!
//! Whatever is drawn, every coordinate is a finite number within a sane range and every text is
//! escaped, so that no file that was read can make a page that does not parse or that runs code.

use std::fmt::Write;

/// No drawing is larger than this, in units of its own.
const COORDINATE_MAX: f64 = 100_000.0;

/// A text as HTML and SVG take it, in elements and in quoted attributes. Control characters, which
/// XML has no way to write, become `?`.
#[must_use]
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

/// A coordinate with a tenth of a unit, never `-0.0`.
fn at(value: f64) -> String {
    let within = if value.is_finite() {
        value.clamp(-COORDINATE_MAX, COORDINATE_MAX)
    } else {
        0.0
    };
    let tenths = (within * 10.0).round() / 10.0;
    format!("{:.1}", tenths + 0.0)
}

/// Where a text stands by its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A drawing under way.
#[derive(Debug)]
pub(super) struct Svg {
    body: String,
    width: f64,
    height: f64,
}

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self {
            body: String::new(),
            width,
            height,
        }
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let _ = writeln!(
            self.body,
            "<line class=\"{class}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
            at(x1),
            at(y1),
            at(x2),
            at(y2)
        );
    }

    pub(super) fn bar(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        let _ = writeln!(
            self.body,
            "<rect class=\"{class}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>",
            at(x),
            at(y),
            at(width.max(0.0)),
            at(height.max(0.0))
        );
    }

    /// A dot that says `title` when it is pointed at.
    pub(super) fn dot(&mut self, class: &str, (x, y): (f64, f64), radius: f64, title: &str) {
        let _ = writeln!(
            self.body,
            "<circle class=\"{class}\" cx=\"{}\" cy=\"{}\" r=\"{}\"><title>{}</title></circle>",
            at(x),
            at(y),
            at(radius),
            escaped(title)
        );
    }

    pub(super) fn path(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<_> = points
            .iter()
            .map(|&(x, y)| format!("{},{}", at(x), at(y)))
            .collect();
        let points = points.join(" ");
        let _ = writeln!(
            self.body,
            "<polyline class=\"{class}\" points=\"{points}\"/>"
        );
    }

    pub(super) fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = writeln!(
            self.body,
            "<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>",
            at(x),
            at(y),
            escaped(text)
        );
    }

    /// The drawing, with what it shows for those who cannot see it.
    pub(super) fn end(self, shows: &str) -> String {
        let (width, height) = (at(self.width), at(self.height));
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n",
            escaped(shows),
            self.body
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_markup_and_no_coordinate_is_nonsense() {
        assert_eq!(
            escaped("<a b='c' d=\"e\">&\x1b\n"),
            "&lt;a b=&#39;c&#39; d=&quot;e&quot;&gt;&amp;? "
        );
        for (value, text) in [
            (1.25, "1.3"),
            (-0.01, "0.0"),
            (f64::NAN, "0.0"),
            (f64::INFINITY, "0.0"),
            (1e300, "100000.0"),
        ] {
            assert_eq!(at(value), text);
        }
    }
}
