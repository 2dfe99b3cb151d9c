//! `vswitch latency`.

use super::table::{BAD, Cell, GOOD, NOTE, PLAIN, STRONG, Table, styled};
use super::units;
use crate::args::View;
use crate::control::api::{Bound, Latency, LatencyStage, WorkerLoad};
use crate::latency::ends;

/// How long frames take by pair and stage, and what each worker is bound by.
#[must_use]
pub fn latency(latency: &Latency, view: View) -> String {
    let mut headers = vec!["INGRESS", "EGRESS", "STAGE", ">FRAMES"];
    if view.details {
        headers.extend([">MEASURED", ">MEAN"]);
    }
    headers.extend([">P50", ">P90", ">P99", ">P99.9", ">MAX"]);
    let mut table = Table::new(&headers);
    for pair in &latency.pairs {
        let (ingress, egress) = ends(pair);
        for (word, stage) in pair.stages() {
            let total = word == "total";
            if view.brief && !total {
                continue;
            }
            let style = if total { STRONG } else { PLAIN };
            let mut row: Vec<Cell> = vec![ingress.into(), egress.into(), styled(word, style)];
            let frames = stage.map_or_else(|| "-".into(), |stage| units::count(stage.frames()));
            row.push(frames.into());
            if view.details {
                let measured = stage.map_or_else(|| "-".into(), |_| units::count(pair.samples));
                row.push(measured.into());
                row.push(times(stage, |stage| stage.mean));
            }
            row.push(times(stage, |stage| stage.p50));
            row.push(times(stage, |stage| stage.p90));
            row.push(times(stage, |stage| stage.p99));
            row.push(times(stage, |stage| stage.p999));
            row.push(times(stage, |stage| stage.max));
            table.row(row);
        }
    }
    if !view.header() {
        return table.render(false);
    }
    let mut text = if latency.pairs.is_empty() {
        "no frame was measured yet\n".to_owned()
    } else {
        table.render(true)
    };
    let waits = |pair: &crate::control::api::LatencyPair| pair.wait.is_some();
    if !latency.pairs.iter().all(waits) {
        text.push_str("wait and total are unknown where a TAP does not tell when frames came\n");
    }
    text.push('\n');
    for load in &latency.workers {
        text.push_str(&line(load));
        text.push('\n');
    }
    text
}

fn times(stage: Option<&LatencyStage>, of: impl Fn(&LatencyStage) -> f64) -> Cell {
    stage.map_or_else(|| "-".into(), |stage| units::short(of(stage)).into())
}

/// What one worker is bound by, and why that is thought so.
fn line(load: &WorkerLoad) -> String {
    let (style, why) = match load.bound {
        Bound::Idle => (PLAIN, "hardly anything comes".to_owned()),
        Bound::ReceiverBound => {
            let copies = load.egress_sent + load.egress_full;
            let full = units::percent(load.egress_full, copies);
            let egress = load.egress.as_deref().unwrap_or("the egress");
            (NOTE, format!("{egress} was full for {full} of its frames"))
        }
        Bound::SwitchBound if load.ring_full > 0 => {
            let lost = units::percent(load.ring_full, load.frames);
            (BAD, format!("its rings were full for {lost} of the frames"))
        }
        Bound::SwitchBound => (BAD, "it has no time left".to_owned()),
        Bound::SenderBound => (GOOD, "it has time left, and nothing is full".to_owned()),
    };
    let egress = match &load.egress {
        Some(egress) if load.bound != Bound::Idle => format!(", egress {egress}"),
        Some(_) | None => String::new(),
    };
    format!(
        "worker {}: busy {} of the last {:.0} s{egress}: {style}{}{style:#}: {why}",
        load.index,
        units::share(load.busy_share),
        load.window,
        load.bound
    )
}
