//! Packets by the way they took.

use std::collections::HashMap;

use crate::control::api::{Fate, Traced};
use crate::show::table::Table;

/// Counts of ways.
#[derive(Debug, Default)]
pub(super) struct Paths {
    ways: HashMap<(String, String), Way>,
}

#[derive(Debug, Clone)]
struct Way {
    count: u64,
    took_ns: u64,
    last: String,
}

impl Paths {
    pub(super) fn add(&mut self, packet: &Traced) {
        let key = (steps(packet), packet.story.clone());
        let way = self.ways.entry(key).or_insert_with(|| Way {
            count: 0,
            took_ns: 0,
            last: String::new(),
        });
        way.count += 1;
        way.took_ns += u64::from(packet.took_ns);
        way.last = packet.summary.clone();
    }

    /// Most used first.
    pub(super) fn text(&self) -> String {
        let mut ways: Vec<_> = self.ways.iter().collect();
        ways.sort_by(|(a, x), (b, y)| y.count.cmp(&x.count).then_with(|| a.cmp(b)));
        let mut table = Table::new(&[">COUNT", ">TOOK", "PATH", "FATE", "LAST"]);
        for ((steps, story), way) in ways {
            #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
            let micros = way.took_ns as f64 / way.count as f64 / 1000.0;
            let took = format!("{micros:.1}µs");
            let cells = [way.count.to_string(), took, steps.clone(), story.clone()];
            let cells = cells.into_iter().chain([way.last.clone()]);
            table.row(cells.map(Into::into));
        }
        table.render(true)
    }
}

/// The steps' words, each once where it comes several times in a row.
fn steps(packet: &Traced) -> String {
    let mut words: Vec<&str> = packet.steps.iter().map(|step| step.step.as_str()).collect();
    words.dedup();
    if packet.fate == Fate::Drop {
        words.push(packet.reason.as_deref().unwrap_or("DROPPED"));
    }
    words.join(" > ")
}
