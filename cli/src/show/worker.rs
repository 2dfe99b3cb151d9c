//! The workers under `vswitch -s port`.

use super::table::{NOTE, Table};
use super::units;
use crate::args::View;
use crate::control::api::Status;

/// From this many times the mean on, one worker has so much to do that moving a port may help.
const UNEVEN: f64 = 1.75;

/// What each worker does, below the counters of the ports; nothing in the other views.
#[must_use]
pub fn workers(status: &Status, view: View) -> String {
    if !view.stats || view.details || view.oneline || view.brief {
        return String::new();
    }
    let mut table = Table::new(&[
        ">WORKER",
        ">CPU",
        ">FRAMES",
        ">SHARE",
        ">BATCHES",
        ">BATCH",
        ">SLEEPS",
        ">BUSY",
        ">HANDED OVER",
        ">RATE",
        ">TAKEN OVER",
    ]);
    for worker in &status.workers {
        let cpu = worker
            .cpu
            .map_or_else(|| "any".into(), |cpu| cpu.to_string());
        table.row([
            worker.index.to_string().into(),
            cpu.into(),
            units::count(worker.frames).into(),
            units::share(worker.share).into(),
            units::count(worker.batches).into(),
            format!("{:.1}", worker.batch_mean).into(),
            units::count(worker.sleeps).into(),
            units::share(worker.busy_share).into(),
            units::count(worker.handed_over).into(),
            units::share(worker.handover_rate).into(),
            units::count(worker.taken_over).into(),
        ]);
    }
    format!(
        "\n{}{}{}",
        table.render(true),
        carried(status),
        evenness(status)
    )
}

/// What went by the fast path, if anything did.
fn carried(status: &Status) -> String {
    let carried: u64 = status.workers.iter().map(|worker| worker.carried).sum();
    if carried == 0 {
        return String::new();
    }
    let carried = units::count(carried);
    format!("{carried} of the frames were carried by the kernel, on the fast path\n")
}

/// How the busiest worker compares; one worker has nobody to compare with.
fn evenness(status: &Status) -> String {
    match status.imbalance.filter(|_| status.workers.len() > 1) {
        None => String::new(),
        Some(imbalance) => {
            let text = format!("the busiest worker has {imbalance:.2} times the mean");
            if imbalance < UNEVEN {
                format!("{text}\n")
            } else {
                format!("{NOTE}{text}{NOTE:#}: vswitch port set PORT worker=N\n")
            }
        }
    }
}
