//! What was found, as tables: for the terminal, for Markdown, and for the page.

use anstyle::Style;

use super::document::{Cost, Curve, Document, Failure, Skipped, Summary, TestEnd};
use super::stats::{NOISY, Spread, Verdict};
use super::words::Test;
use crate::error::printable;
use crate::show::table::{BAD, GOOD, NOTE, PLAIN, STRONG, Table, styled};

/// A forwarder this near to what the sender can do by itself may be faster than it shows.
const CEILING_NEAR: f64 = 0.95;

/// A table that is not yet laid out; a header that begins with `>` is one of numbers.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    pub(super) headers: Vec<&'static str>,
    pub(super) rows: Vec<Vec<(String, Style)>>,
}

impl Grid {
    /// Columns that hold nothing are left out, but for the first.
    pub(super) fn without_empty_columns(
        headers: &[&'static str],
        rows: Vec<Vec<(String, Style)>>,
    ) -> Self {
        let holds = |index: usize| {
            let mut cells = rows.iter().filter_map(|row| row.get(index));
            index == 0 || cells.any(|(text, _)| !text.is_empty())
        };
        let kept: Vec<usize> = (0..headers.len()).filter(|&index| holds(index)).collect();
        let row = |row: &Vec<(String, Style)>| {
            let cell = |&index: &usize| row.get(index).cloned().unwrap_or_default();
            kept.iter().map(cell).collect()
        };
        Self {
            headers: kept.iter().map(|&index| headers[index]).collect(),
            rows: rows.iter().map(row).collect(),
        }
    }

    fn text(&self) -> String {
        let mut table = Table::new(&self.headers);
        for row in &self.rows {
            table.row(
                row.iter()
                    .map(|(text, style)| styled(text.as_str(), *style)),
            );
        }
        table.render(true)
    }

    fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut out = line(self.headers.iter().map(|name| title_case(name)).collect());
        let align = |name: &&str| if name.starts_with('>') { "---:" } else { "---" };
        out += &line(
            self.headers
                .iter()
                .map(|name| align(name).to_owned())
                .collect(),
        );
        for row in &self.rows {
            out += &line(row.iter().map(|(text, _)| in_markdown(text)).collect());
        }
        out
    }
}

/// `>CPU S/GBIT` as `CPU s/Gbit`; the terminal's headers are in capitals, a page's are not.
pub(super) fn title_case(header: &str) -> String {
    let units = [
        ("cpu s/gbit", "CPU s/Gbit"),
        ("cpu s/mpkt", "CPU s/Mpkt"),
        ("mpps", "Mpps"),
    ];
    let name = header.trim_start_matches('>').to_lowercase();
    units
        .iter()
        .fold(name, |name, (lower, unit)| name.replace(lower, unit))
}

/// A text that Markdown takes as it is.
fn in_markdown(text: &str) -> String {
    let mut out = String::new();
    for c in printable(text).chars() {
        if matches!(
            c,
            '\\' | '|' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '&' | '#'
        ) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A number with three digits, or all of its whole ones.
pub(super) fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size < 0.001 => format!("{value:.5}"),
        size if size < 0.9995 => format!("{value:.3}"),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn spread(of: Option<&Spread>) -> (String, Style) {
    let text = of.map(|of| {
        format!(
            "{} ({}..{})",
            figure(of.median),
            figure(of.min),
            figure(of.max)
        )
    });
    (text.unwrap_or_default(), PLAIN)
}

/// 0.0123 as `1.23 %`; nothing lost is said as such, and something lost never as nothing.
pub(super) fn percent(part: f64) -> String {
    if part == 0.0 {
        "0 %".to_owned()
    } else if part < 0.000_05 {
        "<0.01 %".to_owned()
    } else {
        format!("{:.2} %", part * 100.0)
    }
}

pub(super) fn cost(of: Option<&Cost>) -> String {
    of.map(|of| format!("{} / {}", figure(of.forwarder), figure(of.machine)))
        .unwrap_or_default()
}

const fn style(verdict: Verdict) -> Style {
    match verdict {
        Verdict::Faster => GOOD,
        Verdict::Slower => BAD,
        Verdict::NoWinner => NOTE,
    }
}

/// The table of one test.
pub(super) fn test(end: &TestEnd) -> Grid {
    let headers = [
        "FORWARDER",
        "MEDIAN (MIN..MAX)",
        "VSWITCH : IT",
        "VSWITCH IS",
        ">LOSS",
        ">P50 µs",
        ">P99 µs",
        ">P99.9 µs",
        ">CPU S/GBIT",
        ">CPU S/MPKT",
    ];
    Grid::without_empty_columns(&headers, end.forwarders.iter().map(row).collect())
}

fn row(of: &Summary) -> Vec<(String, Style)> {
    let plain = |text: Option<String>| (text.unwrap_or_default(), PLAIN);
    let value = match &of.error {
        Some(_) => ("failed".to_owned(), BAD),
        None => spread(of.value.as_ref()),
    };
    let latency = of.latency.as_ref();
    vec![
        (of.forwarder.clone(), PLAIN),
        value,
        spread(of.ratio.as_ref()),
        of.verdict.map_or_else(Default::default, |verdict| {
            (verdict.word().to_owned(), style(verdict))
        }),
        plain(of.loss.map(percent)),
        plain(latency.map(|latency| figure(latency.p50_us))),
        plain(latency.map(|latency| figure(latency.p99_us))),
        plain(latency.map(|latency| figure(latency.p999_us))),
        plain(Some(cost(of.cpu_per_gbit.as_ref()))),
        plain(Some(cost(of.cpu_per_mpkt.as_ref()))),
    ]
}

/// The table of the load-loss curve: a row for each forwarder and load.
pub(super) fn curve(curves: &[Curve]) -> Grid {
    let headers = [
        "FORWARDER",
        ">LOAD",
        ">OFFERED Mpps",
        ">DELIVERED Mpps",
        ">LOSS",
    ];
    let rows = curves.iter().flat_map(|curve| {
        curve.points.iter().map(|point| {
            let texts = [
                curve.forwarder.clone(),
                format!("{} %", point.load),
                figure(point.offered),
                figure(point.delivered),
                percent(point.loss),
            ];
            texts.map(|text| (text, PLAIN)).to_vec()
        })
    });
    Grid {
        headers: headers.to_vec(),
        rows: rows.collect(),
    }
}

/// A unit as it is written for people.
pub(super) fn unit(unit: &str) -> &str {
    if unit == "us" { "µs" } else { unit }
}

/// `tcp: bulk TCP, one stream; Gbit/s, more is better`.
pub(super) fn caption(end: &TestEnd) -> String {
    let TestEnd {
        test,
        title,
        unit,
        better,
        ..
    } = end;
    let unit = self::unit(unit);
    format!("{test}: {title}; {unit}, {better} is better")
}

/// What a reader must know before believing a test's figures.
pub(super) fn notes(document: &Document, end: &TestEnd) -> Vec<String> {
    let mut notes = Vec::new();
    let ceiling = document.start.ceiling.as_ref().map(|ceiling| ceiling.value);
    let minimal = [Test::Udp64, Test::Ports].map(Test::word);
    let ceiling = ceiling.filter(|_| minimal.contains(&&*end.test));
    for one in &end.forwarders {
        let name = &one.forwarder;
        if let Some(error) = &one.error {
            notes.push(format!("{name} failed: {error}"));
        }
        let Some(value) = &one.value else { continue };
        if value.width() > NOISY {
            notes.push(format!(
                "{name} is noisy: {} to {}; more --pairs, a longer --time or a quieter machine \
                 says more",
                figure(value.min),
                figure(value.max)
            ));
        }
        if let Some(note) = ceiling.and_then(|ceiling| near(name, value.median, ceiling)) {
            notes.push(note);
        }
    }
    let checked: Vec<String> = end
        .forwarders
        .iter()
        .filter_map(|one| Some(format!("{} {}", one.forwarder, figure(one.iperf3?))))
        .collect();
    if !checked.is_empty() {
        notes.push(format!(
            "iperf3, once each: {} {}",
            checked.join(", "),
            end.unit
        ));
    }
    notes
}

/// What a median near the sender's own ceiling, or beyond it, means.
fn near(name: &str, median: f64, ceiling: f64) -> Option<String> {
    let sender = figure(ceiling);
    if median > ceiling / CEILING_NEAR {
        Some(format!(
            "{name} is faster than the sender by itself was ({sender}): the machine drifts"
        ))
    } else if median > ceiling * CEILING_NEAR {
        Some(format!(
            "{name} is as fast as the sender by itself ({sender}): it may be faster than this shows"
        ))
    } else {
        None
    }
}

/// How it was measured, for those who want to repeat or to doubt it.
pub(super) fn method(document: &Document) -> String {
    let start = &document.start;
    let processors = match start.machine.cpus {
        1 => "1 processor".to_owned(),
        many => format!("{many} processors"),
    };
    let model = start
        .machine
        .processor
        .as_ref()
        .map(|model| format!(" ({model})"));
    format!(
        "vswitch {}, {}, {processors}{}, {}; {} rounds of {} s in turn, after a warm-up of {} s",
        start.version,
        start.machine.kernel,
        model.unwrap_or_default(),
        start.timestamp.time,
        start.pairs,
        start.time,
        start.warm_up
    )
}

/// How the columns are to be read.
pub(super) const LEGEND: &str = "vswitch : it is the ratio of their figures round by round, \
median (smallest..largest). Where spreads overlap, or from fewer than 3 rounds, there is no \
winner. CPU seconds: the forwarder's processes / the whole machine, sender and receiver included.";

pub(super) fn skipped(one: &Skipped) -> String {
    let place = match &one.test {
        Some(test) => format!("{} in {test}", one.forwarder),
        None => one.forwarder.clone(),
    };
    match &one.fix {
        Some(fix) => format!("{place} skipped: {}; fix: {fix}", one.reason),
        None => format!("{place} skipped: {}", one.reason),
    }
}

/// Failures that no test's table shows: the sender's own, and the curve's.
pub(super) fn elsewhere(document: &Document) -> Vec<String> {
    let shown = |failure: &Failure| {
        document.end.tests.iter().any(|end| {
            let here = Some(&end.test) == failure.test.as_ref();
            let mut forwarders = end.forwarders.iter();
            here && forwarders.any(|one| one.error.as_ref() == Some(&failure.error))
        })
    };
    let failures = document.end.failures.iter();
    let elsewhere = failures.filter(|failure| !shown(failure));
    elsewhere.map(failure).collect()
}

/// `ovs failed in tcp: no route`.
pub(super) fn failure(of: &Failure) -> String {
    match (&of.forwarder, &of.test) {
        (Some(forwarder), Some(test)) => format!("{forwarder} failed in {test}: {}", of.error),
        (Some(forwarder), None) => format!("{forwarder} failed: {}", of.error),
        (None, _) => format!("the sender by itself failed: {}", of.error),
    }
}

/// What is not there that was asked for, line by line.
pub(super) fn absences(document: &Document) -> Vec<String> {
    let mut lines: Vec<String> = document.start.skipped.iter().map(skipped).collect();
    lines.extend(elsewhere(document));
    if document.end.interrupted {
        lines.push("interrupted: the rest was not measured".to_owned());
    }
    lines
}

/// The whole for a terminal, styled.
#[must_use]
pub fn text(document: &Document) -> String {
    let mut out = format!("{}\n", printable(&method(document)));
    for one in &document.start.forwarders {
        out += &format!(
            "  {:<11} {}\n",
            printable(&one.forwarder),
            printable(&one.description)
        );
    }
    if let Some(ceiling) = &document.start.ceiling {
        let figure = figure(ceiling.value);
        out += &format!("  {:<11} {figure} Mpps by itself\n", "the sender");
    }
    for end in &document.end.tests {
        let caption = caption(end);
        out += &format!("\n{STRONG}{}{STRONG:#}\n", printable(&caption));
        out += &test(end).text();
        for note in notes(document, end) {
            out += &format!("{NOTE}note:{NOTE:#} {}\n", printable(&note));
        }
    }
    if !document.end.curve.is_empty() {
        out += &format!("\n{STRONG}load and loss, 64-byte UDP frames{STRONG:#}\n");
        out += &curve(&document.end.curve).text();
    }
    let absences = absences(document);
    if !absences.is_empty() {
        out.push('\n');
    }
    for absence in absences {
        out += &format!("{NOTE}{}{NOTE:#}\n", printable(&absence));
    }
    out
}

/// The whole in Markdown.
#[must_use]
pub fn markdown(document: &Document) -> String {
    let mut out = format!("{}.\n", in_markdown(&method(document)));
    for end in &document.end.tests {
        out += &format!("\n### {}\n\n", in_markdown(&caption(end)));
        out += &test(end).markdown();
        let notes = notes(document, end);
        if !notes.is_empty() {
            out.push('\n');
        }
        for note in notes {
            out += &format!("- {}\n", in_markdown(&note));
        }
    }
    if !document.end.curve.is_empty() {
        out += "\n### load and loss, 64-byte UDP frames\n\n";
        out += &curve(&document.end.curve).markdown();
    }
    out += &format!("\n{LEGEND}\n");
    let described = document.start.forwarders.iter();
    let described = described.map(|one| format!("{}: {}", one.forwarder, one.description));
    let lines: Vec<String> = described.chain(absences(document)).collect();
    if !lines.is_empty() {
        out.push('\n');
    }
    for line in lines {
        out += &format!("- {}\n", in_markdown(&line));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.000_123, "0.00012"),
            (0.3456, "0.346"),
            (0.9996, "1.00"),
            (9.996, "10.0"),
            (99.96, "100"),
            (24_512.4, "24512"),
        ] {
            assert_eq!(figure(value), text);
        }
        for (part, text) in [(0.0, "0 %"), (1e-9, "<0.01 %"), (0.2, "20.00 %")] {
            assert_eq!(percent(part), text);
        }
    }

    #[test]
    fn a_figure_beyond_the_ceiling_shows_a_machine_that_drifts() {
        let note = |median| near("x", median, 1.0).unwrap_or_default();
        assert_eq!(note(0.9), "");
        assert!(note(0.96).contains("may be faster"));
        assert!(note(1.04).contains("may be faster"));
        assert!(note(1.1).contains("drifts"));
    }

    #[test]
    fn nothing_a_forwarder_says_is_markup() {
        let text = in_markdown("a|b <i> *c* _d_ `e` \x1b");
        assert_eq!(text, r"a\|b \<i\> \*c\* \_d\_ \`e\` ?");
    }

    #[test]
    fn columns_without_a_cell_are_left_out() {
        let rows = vec![vec![
            ("x".to_owned(), PLAIN),
            (String::new(), PLAIN),
            ("y".to_owned(), PLAIN),
        ]];
        let grid = Grid::without_empty_columns(&["A", "B", ">C"], rows);
        assert_eq!(grid.headers, ["A", ">C"]);
        assert_eq!(grid.markdown(), "| a | c |\n| --- | ---: |\n| x | y |\n");
    }
}
