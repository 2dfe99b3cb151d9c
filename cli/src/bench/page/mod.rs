//! The page of `vswitch report`: one HTML file that needs no other, no script and no network.
//!
//! Pictures are inline SVG in the colours of the style sheet, which follow the reader's light or
//! dark setting. A page is the same for the same input. What it was made from may come from
//! anywhere, so every text goes through `svg::escaped`.

mod chart;
mod iperf;
mod svg;

use std::fmt::Write;

use super::document::{Document, Participant, TestEnd};
use super::table::{self, Grid};
use crate::show::table::{BAD, GOOD, NOTE};

use chart::{Axis, Bar, Line};
use svg::escaped;

pub use iperf::{Iperf, iperf};

const STYLE: &str = include_str!("style.css");

/// The page of a run of `vswitch bench`.
#[must_use]
pub fn bench(document: &Document) -> String {
    let mut body = format!(
        "<p class=\"soft\">{}.</p>\n",
        escaped(&table::method(document))
    );
    for absence in table::absences(document) {
        let _ = writeln!(body, "<p class=\"note\">{}</p>", escaped(&absence));
    }
    for end in &document.end.tests {
        body += &test(document, end);
    }
    body += &loss(document);
    body += &latency(document);
    body += &cost(document);
    body += &method(document);
    shell("vswitch bench", &body)
}

/// A whole page around `body`.
fn shell(title: &str, body: &str) -> String {
    let title = escaped(title);
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n\
         {body}</body>\n</html>\n"
    )
}

/// Whose colour a forwarder has: the same in every picture.
fn series(document: &Document, forwarder: &str) -> usize {
    let known = document.start.forwarders.iter();
    let mut known = known.map(|one: &Participant| one.forwarder.as_str());
    known.position(|one| one == forwarder).unwrap_or(0)
}

fn test(document: &Document, end: &TestEnd) -> String {
    let caption = table::caption(end);
    let mut out = format!("<h2>{}</h2>\n", escaped(&caption));
    let unit = table::unit(&end.unit);
    let bars: Vec<Bar> = end
        .forwarders
        .iter()
        .filter_map(|one| {
            let value = one.value.as_ref()?;
            Some(Bar {
                name: one.forwarder.clone(),
                series: series(document, &one.forwarder),
                min: value.min,
                median: value.median,
                max: value.max,
                values: value.values.clone(),
            })
        })
        .collect();
    if !bars.is_empty() {
        let _ = write!(
            out,
            "<figure>\n{}</figure>\n",
            chart::bars(&caption, unit, &bars)
        );
    }
    out += &html(&table::test(end));
    for note in table::notes(document, end) {
        let _ = writeln!(out, "<p class=\"note\">{}</p>", escaped(&note));
    }
    out
}

fn html(grid: &Grid) -> String {
    let class = |header: &str| {
        if header.starts_with('>') {
            " class=\"n\""
        } else {
            ""
        }
    };
    let mut out = "<div class=\"table\"><table>\n<thead><tr>".to_owned();
    for header in &grid.headers {
        let name = escaped(&table::title_case(header));
        let _ = write!(out, "<th{}>{name}</th>", class(header));
    }
    out += "</tr></thead>\n<tbody>\n";
    for row in &grid.rows {
        out += "<tr>";
        for ((text, style), header) in row.iter().zip(&grid.headers) {
            let text = escaped(text);
            let styles = [(GOOD, "good"), (BAD, "bad"), (NOTE, "note")];
            let text = match styles.iter().find(|(known, _)| known == style) {
                Some((_, class)) => format!("<span class=\"{class}\">{text}</span>"),
                None => text,
            };
            let _ = write!(out, "<td{}>{text}</td>", class(header));
        }
        out += "</tr>\n";
    }
    out + "</tbody>\n</table></div>\n"
}

fn loss(document: &Document) -> String {
    let curves = &document.end.curve;
    if curves.is_empty() {
        return String::new();
    }
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let offered = points().map(|point| point.offered).fold(0.0, f64::max);
    let most = points().map(|point| point.loss * 100.0).fold(1.0, f64::max);
    let lines: Vec<Line> = curves
        .iter()
        .map(|curve| Line {
            name: curve.forwarder.clone(),
            series: series(document, &curve.forwarder),
            points: curve
                .points
                .iter()
                .map(|point| (point.offered, point.loss * 100.0))
                .collect(),
        })
        .collect();
    let shows = "load and loss, 64-byte UDP frames";
    let horizontal = Axis::from_zero("offered, Mpps", offered);
    let vertical = Axis::from_zero("lost, %", most);
    let picture = chart::curves(shows, &horizontal, &vertical, &lines);
    let table = html(&table::curve(curves));
    format!("<h2>{shows}</h2>\n<figure>\n{picture}</figure>\n{table}")
}

fn latency(document: &Document) -> String {
    let mut out = String::new();
    for end in &document.end.tests {
        let quantiles = end.forwarders.iter().filter_map(|one| {
            let of = one.latency.as_ref()?;
            let values = [of.p50_us, of.p99_us, of.p999_us, of.max_us];
            let places = [0.0, 1.0, 2.0, 3.0];
            Some(Line {
                name: one.forwarder.clone(),
                series: series(document, &one.forwarder),
                points: places.into_iter().zip(values).collect(),
            })
        });
        let lines: Vec<Line> = quantiles.collect();
        if lines.is_empty() {
            continue;
        }
        let values = || {
            lines
                .iter()
                .flat_map(|line| line.points.iter().map(|(_, value)| *value))
        };
        let low = values()
            .filter(|value| *value > 0.0)
            .fold(f64::MAX, f64::min);
        let high = values().fold(0.0, f64::max);
        let shows = format!("latency in {}: how slow the slowest are", end.test);
        let places = Axis::places("", &["p50", "p99", "p99.9", "max"]);
        let micros = Axis::powers_of_ten("µs", low, high);
        let picture = chart::curves(&shows, &places, &micros, &lines);
        let _ = write!(
            out,
            "<h2>{}</h2>\n<figure>\n{picture}</figure>\n",
            escaped(&shows)
        );
    }
    out
}

fn cost(document: &Document) -> String {
    let plain = |text: String| (text, crate::show::table::PLAIN);
    let rows = document.end.tests.iter().flat_map(|end| {
        let costly = end.forwarders.iter();
        let costly = costly.filter(|one| one.cpu_per_gbit.or(one.cpu_per_mpkt).is_some());
        costly.map(|one| {
            let of = |cost: Option<super::document::Cost>, machine: bool| {
                let seconds = cost.map(|of| if machine { of.machine } else { of.forwarder });
                plain(seconds.map(table::figure).unwrap_or_default())
            };
            vec![
                plain(end.test.clone()),
                plain(one.forwarder.clone()),
                of(one.cpu_per_gbit, false),
                of(one.cpu_per_gbit, true),
                of(one.cpu_per_mpkt, false),
                of(one.cpu_per_mpkt, true),
            ]
        })
    });
    let grid = Grid {
        headers: vec![
            "TEST",
            "FORWARDER",
            ">ITSELF, s/Gbit",
            ">MACHINE, s/Gbit",
            ">ITSELF, s/Mpkt",
            ">MACHINE, s/Mpkt",
        ],
        rows: rows.collect(),
    };
    if grid.rows.is_empty() {
        return String::new();
    }
    format!(
        "<h2>what it costs</h2>\n<p>Processor seconds for what arrived: of the forwarder's own \
         processes (none for one in the kernel, whose work is in the machine's), and of the whole \
         machine, sender and receiver included.</p>\n{}",
        html(&grid)
    )
}

fn method(document: &Document) -> String {
    let start = &document.start;
    let mut out = format!(
        "<h2>how it was measured</h2>\n<p>Each forwarder stood between the same network \
         namespaces on one machine. Forwarders took turns in each test, A B C A B C, so that a \
         drift of the machine harms all alike; one whose turn it was not was stopped. Bars are \
         medians, whiskers go from the smallest to the largest figure, dots are single rounds. \
         {}</p>\n<ul>\n",
        escaped(table::LEGEND)
    );
    for one in &start.forwarders {
        let (name, description) = (escaped(&one.forwarder), escaped(&one.description));
        let _ = writeln!(out, "<li><code>{name}</code>: {description}</li>");
    }
    if !start.run_args.is_empty() {
        let words = escaped(&start.run_args.join(" "));
        let _ = writeln!(out, "<li>vswitch was given <code>{words}</code></li>");
    }
    if let Some(ceiling) = &start.ceiling {
        let figure = table::figure(ceiling.value);
        let _ = writeln!(
            out,
            "<li>the sender of frames by itself: {figure} Mpps</li>"
        );
    }
    out + "</ul>\n"
}
