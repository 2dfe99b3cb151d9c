//! What the scenes cost in instructions, which a busy machine does not change, and in pairs of runs
//! of two programs, which it changes alike.
//!
//! ```text
//! cargo bench --bench micro -- --counts [--latency] [--against PROGRAM] [SCENE]
//! cargo bench --bench micro -- --pairs 15 [--latency] [--against PROGRAM] [SCENE]
//! ```
//!
//! `PROGRAM` is the same benchmark of another build (`target/release/deps/micro-*`, copied aside).
//! Counted is the worker's own part of a round: what a cable does is no more of it than what the
//! kernel does for a ring. The difference of a long and a short run leaves out all that comes
//! before.
#![expect(clippy::print_stdout, reason = "what it finds is data")]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nat::Nanos;
use switch::latency::Clocks;

use super::scenes::{SCENES, Scene};

/// Functions at whose beginning and end callgrind turns counting on and off: the worker's part, and
/// the cable's within it.
const TOGGLES: [&str; 4] = [
    "*counted_poll",
    "*counted_process",
    "*SimRx*lend",
    "*SimEgress*send",
];

/// A short run is this part of a long one.
const SHORT: u32 = 4;

/// Rounds after which the latency of one batch in twenty is measured: the first tick is over.
const SETTLED: u32 = 2000;

/// Seconds that one program of a pair works.
const SECONDS: f64 = 0.5;

/// What was asked for.
#[derive(Default)]
struct Asked {
    counts: bool,
    pairs: usize,
    latency: bool,
    against: Option<PathBuf>,
    /// Run this many rounds and print the nanoseconds they took.
    rounds: Option<u32>,
    scene: Option<String>,
}

impl Asked {
    /// `None` where the words are criterion's.
    fn of(mut words: impl Iterator<Item = String>) -> Option<Self> {
        let mut asked = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--bench" => {}
                "--counts" => asked.counts = true,
                "--pairs" => asked.pairs = words.next()?.parse().ok()?,
                "--latency" => asked.latency = true,
                "--against" => asked.against = words.next().map(PathBuf::from),
                "--rounds" => asked.rounds = words.next()?.parse().ok(),
                _ => asked.scene = Some(word),
            }
        }
        let is_ours = asked.counts || asked.pairs > 0 || asked.rounds.is_some();
        is_ours.then_some(asked)
    }

    fn scenes(&self) -> impl Iterator<Item = &'static Scene> {
        let wanted = |scene: &&Scene| match &self.scene {
            None => true,
            Some(part) => scene.name.contains(part.as_str()),
        };
        SCENES.iter().filter(wanted)
    }

    /// The command that runs a scene of `program`.
    fn run(&self, command: &mut Command, scene: &Scene, rounds: u32) {
        command.args([scene.name, "--rounds", &rounds.to_string()]);
        if self.latency {
            command.arg("--latency");
        }
    }

    /// Instructions of `rounds` rounds, and what came before them.
    fn count(&self, program: &Path, scene: &Scene, rounds: u32) -> f64 {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
        command.args(TOGGLES.map(|name| format!("--toggle-collect={name}")));
        self.run(command.arg(program), scene, rounds);
        let output = command.output().expect("valgrind is there");
        let told = String::from_utf8_lossy(&output.stderr);
        let collected = told
            .lines()
            .filter_map(|line| line.split_once("Collected : "));
        let (_, count) = collected
            .reduce(|_, last| last)
            .unwrap_or_else(|| panic!("{told}"));
        assert!(output.status.success(), "{told}");
        count.trim().parse().unwrap()
    }

    /// Nanoseconds a round.
    fn time(&self, program: &Path, scene: &Scene, rounds: u32) -> f64 {
        let mut command = Command::new(program);
        self.run(&mut command, scene, rounds);
        let output = command.output().expect("the program is there");
        assert!(output.status.success(), "{output:?}");
        let told = String::from_utf8(output.stdout).unwrap();
        told.trim().parse::<f64>().unwrap() / f64::from(rounds)
    }
}

/// Does what was asked for on the command line; `None` if that is criterion's.
pub(super) fn main() -> Option<ExitCode> {
    let asked = Asked::of(std::env::args().skip(1))?;
    let this = std::env::current_exe().unwrap();
    if let Some(rounds) = asked.rounds {
        let scene = asked
            .scenes()
            .find(|it| asked.scene.as_deref() == Some(it.name));
        let mut round = (scene?.make)(asked.latency.then(clocks));
        let spent: Duration = (0..rounds).map(|_| round()).sum();
        println!("{}", spent.as_nanos());
    } else {
        for scene in asked.scenes() {
            if asked.counts {
                print_counts(&asked, &this, scene);
            } else {
                print_pairs(&asked, &this, scene);
            }
        }
    }
    Some(ExitCode::SUCCESS)
}

/// Instructions of one round; of the other program's and the ratio, too, where there is one.
fn print_counts(asked: &Asked, this: &Path, scene: &Scene) {
    // Which batches are measured settles with the first tick.
    let (before, rounds) = if asked.latency && !scene.ends() {
        (SETTLED, SETTLED)
    } else {
        (scene.rounds / SHORT, scene.rounds)
    };
    let count = |program: &Path| {
        let short = asked.count(program, scene, before);
        let long = asked.count(program, scene, before + rounds);
        (long - short) / f64::from(rounds)
    };
    let ours = count(this);
    print!("{:24} {ours:12.1}", scene.name);
    if let Some(other) = &asked.against {
        let theirs = count(other);
        print!(" {theirs:12.1} {:+7.2} %", 100.0 * (ours / theirs - 1.0));
    }
    println!();
}

/// Nanoseconds of one round in so many pairs: medians and spreads, and the ratio pair by pair.
fn print_pairs(asked: &Asked, this: &Path, scene: &Scene) {
    let other = asked.against.as_deref().unwrap_or(this);
    let mut rounds = scene.rounds;
    let once = asked.time(this, scene, rounds);
    while !scene.ends() && f64::from(rounds) * once < SECONDS * 1e9 {
        rounds = rounds.saturating_mul(2);
    }
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..asked.pairs {
        // Who begins changes from pair to pair.
        let (a, b) = if pair % 2 == 0 {
            let a = asked.time(this, scene, rounds);
            (a, asked.time(other, scene, rounds))
        } else {
            let b = asked.time(other, scene, rounds);
            (asked.time(this, scene, rounds), b)
        };
        ours.push(a);
        theirs.push(b);
        ratios.push(a / b);
    }
    let [ours, theirs, ratios] = [ours, theirs, ratios].map(Spread::of);
    println!(
        "{:24} {:.0} ({:.0}..{:.0}) ns, against {:.0} ({:.0}..{:.0}): \
         {:.3} ({:.3}..{:.3}), 95 % {:.3}..{:.3}",
        scene.name,
        ours.median,
        ours.least,
        ours.most,
        theirs.median,
        theirs.least,
        theirs.most,
        ratios.median,
        ratios.least,
        ratios.most,
        ratios.interval.0,
        ratios.interval.1,
    );
}

/// Of several measurements.
struct Spread {
    least: f64,
    median: f64,
    most: f64,
    /// Where the true median is in 95 of 100 cases, by order statistics.
    interval: (f64, f64),
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        let low = below(values.len());
        Self {
            least: values[0],
            median: f64::midpoint(values[last / 2], values[last.div_ceil(2)]),
            most: values[last],
            interval: (values[low], values[last - low]),
        }
    }
}

/// How many values may be left out at either end so that the true median is still between those
/// that stay, in 95 of 100 cases: each is below it or above it as a coin falls.
fn below(count: usize) -> usize {
    let mut chance = 0.5f64.powi(i32::try_from(count).unwrap());
    let mut tail = 0.0;
    for left_out in 0..count / 2 {
        tail += chance;
        if tail > 0.025 {
            return left_out.saturating_sub(1);
        }
        let (n, k) = (
            u32::try_from(count).unwrap(),
            u32::try_from(left_out).unwrap(),
        );
        chance *= f64::from(n - k) / f64::from(k + 1);
    }
    0
}

/// As the program's own.
#[expect(clippy::disallowed_methods, reason = "it measures real time")]
fn clocks() -> Clocks {
    let began = std::time::Instant::now();
    let nanos = |time: Duration| Nanos(u64::try_from(time.as_nanos()).unwrap());
    Clocks {
        steady: Arc::new(move || nanos(began.elapsed())),
        wall: Arc::new(move || {
            nanos(
                SystemTime::now()
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .unwrap(),
            )
        }),
    }
}
