//! What `iperf3 -J` measured, as far as the page shows it; keys as in iperf3 3.x.

use std::fmt::Write;

use serde::Deserialize;

use super::super::table::{Grid, figure, percent};
use super::chart::{Axis, Line};
use super::svg::escaped;
use super::{chart, html, shell};
use crate::show::table::PLAIN;

/// A file of `iperf3 -J`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Iperf {
    start: Start,
    #[serde(default)]
    intervals: Vec<Interval>,
    #[serde(default)]
    end: End,
    error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Start {
    version: String,
    timestamp: Option<Timestamp>,
    connecting_to: Option<Target>,
    test_start: Option<TestStart>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Timestamp {
    time: String,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Target {
    host: String,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct TestStart {
    protocol: String,
    num_streams: u32,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Interval {
    sum: Sum,
    /// The other way, with `--bidir`.
    sum_bidir_reverse: Option<Sum>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Sum {
    start: f64,
    end: f64,
    bytes: f64,
    bits_per_second: f64,
    retransmits: Option<u64>,
    jitter_ms: Option<f64>,
    lost_percent: Option<f64>,
    #[serde(default)]
    omitted: bool,
}

#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
struct End {
    sum_sent: Option<Sum>,
    sum_received: Option<Sum>,
    sum: Option<Sum>,
    sum_sent_bidir_reverse: Option<Sum>,
    sum_received_bidir_reverse: Option<Sum>,
    cpu_utilization_percent: Option<Processors>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
struct Processors {
    host_total: f64,
    remote_total: f64,
}

impl Iperf {
    /// Why there is nothing to show.
    pub(in crate::bench) fn nothing(&self) -> Option<String> {
        match &self.error {
            Some(error) => Some(format!("iperf3 itself failed: {error}")),
            None if self.intervals.is_empty() => Some("iperf3 noted no interval".to_owned()),
            None => None,
        }
    }

    fn method(&self) -> String {
        let start = &self.start;
        let mut words = vec![start.version.clone()];
        if let Some(test) = &start.test_start {
            let streams = match test.num_streams {
                1 => "1 stream".to_owned(),
                many => format!("{many} streams"),
            };
            words.push(format!("{}, {streams}", test.protocol));
        }
        if let Some(Target { host, port }) = &start.connecting_to {
            words.push(format!("to {host} port {port}"));
        }
        words.extend(start.timestamp.iter().map(|stamp| stamp.time.clone()));
        words.join(", ")
    }
}

/// The page of a run of `iperf3`.
#[must_use]
pub fn iperf(run: &Iperf) -> String {
    let mut body = format!("<p class=\"soft\">{}</p>\n", escaped(&run.method()));
    let there = run.intervals.iter().map(|one| &one.sum).collect::<Vec<_>>();
    let back = run
        .intervals
        .iter()
        .filter_map(|one| one.sum_bidir_reverse.as_ref());
    let back: Vec<_> = back.collect();
    let lines = [("there", 0, &there), ("back", 1, &back)];
    let lines = lines.into_iter().filter(|(_, _, sums)| !sums.is_empty());
    let lines: Vec<Line> = lines
        .map(|(name, series, sums)| line(name, series, sums))
        .collect();
    let points = || lines.iter().flat_map(|line| &line.points);
    let last = points().map(|(at, _)| *at).fold(0.0, f64::max);
    let most = points().map(|(_, gbits)| *gbits).fold(0.0, f64::max);
    let shows = "throughput, interval by interval";
    let picture = chart::curves(
        shows,
        &Axis::from_zero("seconds", last),
        &Axis::from_zero("Gbit/s", most),
        &lines,
    );
    let _ = write!(body, "<h2>{shows}</h2>\n<figure>\n{picture}</figure>\n");
    let _ = write!(body, "<h2>sum</h2>\n{}", html(&sums(&run.end)));
    if let Some(of) = &run.end.cpu_utilization_percent {
        let (here, there) = (figure(of.host_total), figure(of.remote_total));
        let _ = writeln!(
            body,
            "<p>Processor use: {here} % here, {there} % there.</p>"
        );
    }
    let _ = write!(
        body,
        "<h2>intervals</h2>\n{}",
        html(&intervals(&there, &back))
    );
    shell("iperf3", &body)
}

fn line(name: &str, series: usize, sums: &[&Sum]) -> Line {
    let points = sums.iter().map(|sum| (sum.end, sum.bits_per_second / 1e9));
    Line {
        name: name.to_owned(),
        series,
        points: points.collect(),
    }
}

const HEADERS: [&str; 7] = [
    "",
    ">SECONDS",
    ">GBYTES",
    ">Gbit/s",
    ">RETRANSMITS",
    ">JITTER ms",
    ">LOST",
];

fn row(name: &str, sum: &Sum) -> Vec<(String, anstyle::Style)> {
    let name = if sum.omitted {
        format!("{name}, omitted")
    } else {
        name.to_owned()
    };
    let texts = [
        name,
        format!("{:.1}..{:.1}", sum.start, sum.end),
        figure(sum.bytes / 1e9),
        figure(sum.bits_per_second / 1e9),
        sum.retransmits
            .map(|count| count.to_string())
            .unwrap_or_default(),
        sum.jitter_ms.map(figure).unwrap_or_default(),
        sum.lost_percent
            .map(|lost| percent(lost / 100.0))
            .unwrap_or_default(),
    ];
    texts.map(|text| (text, PLAIN)).to_vec()
}

fn sums(end: &End) -> Grid {
    let rows = [
        ("sent", &end.sum_sent),
        ("received", &end.sum_received),
        ("all", &end.sum),
        ("sent back", &end.sum_sent_bidir_reverse),
        ("received back", &end.sum_received_bidir_reverse),
    ];
    let rows = rows
        .into_iter()
        .filter_map(|(name, sum)| Some(row(name, sum.as_ref()?)));
    Grid::without_empty_columns(&HEADERS, rows.collect())
}

fn intervals(there: &[&Sum], back: &[&Sum]) -> Grid {
    let there = there.iter().map(|sum| row("there", sum));
    let back = back.iter().map(|sum| row("back", sum));
    Grid::without_empty_columns(&HEADERS, there.chain(back).collect())
}
