//! The runner: who runs when, what is noted down, and what happens to one that fails.
//!
//! It knows neither namespaces nor sockets, only a [`Bench`], so that it can be tried without root.

use std::fmt::Display;
use std::time::Duration;

use super::plan::{Part, Skip, Turn, Wanted, plan};
use super::progress::Progress;
use super::sample::Sample;
use super::stats::Spread;
use super::words::{Forwarder, Test};

/// What the runner needs: networks with a forwarder in the middle, and loads to run over them.
pub trait Bench {
    /// What goes wrong; its text is one line.
    type Error: Display;

    /// The program that a forwarder lacks on this machine, and the Debian package it is in.
    fn missing(&self, forwarder: Forwarder) -> Option<(&'static str, &'static str)>;

    /// Why a forwarder cannot do a test even where its program is there.
    fn unable(&self, forwarder: Forwarder, test: Test) -> Option<&'static str>;

    /// Builds the network for a forwarder and a test, and leaves the forwarder stopped.
    ///
    /// # Errors
    /// It cannot be built; then nothing of it is left.
    fn open(&mut self, forwarder: Forwarder, test: Test) -> Result<(), Self::Error>;

    /// What exactly an open forwarder is: version and options.
    fn describe(&self, forwarder: Forwarder) -> String;

    /// Lets the forwarder run, puts the test's load on it for `time`, stops it again.
    ///
    /// # Errors
    /// The load found no figure.
    fn run(&mut self, of: Forwarder, test: Test, time: Duration) -> Result<Sample, Self::Error>;

    /// As [`run`](Self::run) of [`Test::Udp64`], offering so many million frames a second and no
    /// more.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    fn curve(&mut self, of: Forwarder, mpps: f64, time: Duration) -> Result<Sample, Self::Error>;

    /// The same bulk test as another program measures it, Gbit/s; none where it is not installed or
    /// the test is none of bulk TCP.
    ///
    /// # Errors
    /// It found no figure.
    fn cross_check(
        &mut self,
        _of: Forwarder,
        _test: Test,
        _time: Duration,
    ) -> Result<Option<f64>, Self::Error> {
        Ok(None)
    }

    /// Takes down every network that was opened for a test.
    fn close(&mut self, test: Test);

    /// What the sender of frames can do by itself.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    fn ceiling(&mut self, time: Duration) -> Result<Sample, Self::Error>;

    /// Whether to end early, as after Ctrl-C; asked before each turn and after each failure.
    fn interrupted(&mut self) -> bool;
}

/// One run, noted down.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// The test.
    pub test: Test,
    /// Whose turn it was.
    pub forwarder: Forwarder,
    /// From 1; 0 for the warm-up and the curve.
    pub round: u32,
    /// The curve's load, % of the most delivered; none: not of the curve.
    pub load: Option<u32>,
    /// What was found.
    pub sample: Sample,
}

/// A forwarder that failed in a test; it takes no further part in that test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Whose, in which test; none: the sender by itself.
    pub of: Option<(Forwarder, Test)>,
    /// Whether only the curve is lost.
    pub in_curve: bool,
    /// What went wrong.
    pub error: String,
}

/// All that came of a run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// Every run, in order.
    pub taken: Vec<Taken>,
    /// What was left out.
    pub skipped: Vec<Skip>,
    /// What failed.
    pub failed: Vec<Failed>,
    /// Who took part in each test, failed or not.
    pub parts: Vec<(Test, Vec<Forwarder>)>,
    /// What each forwarder was, in the order they were first opened.
    pub described: Vec<(Forwarder, String)>,
    /// What another program measured, once each.
    pub cross_checks: Vec<(Test, Forwarder, f64)>,
    /// What the sender of frames can do by itself.
    pub ceiling: Option<Sample>,
    /// What 100 % of each forwarder's curve are, Mpps.
    pub maxima: Vec<(Forwarder, f64)>,
    /// Whether it ended early.
    pub interrupted: bool,
}

impl Measured {
    /// The counted figures of a forwarder in a test, each with its round.
    #[must_use]
    pub fn counted(&self, test: Test, forwarder: Forwarder) -> Vec<(u32, &Sample)> {
        let taken = self.taken.iter();
        let own = taken.filter(|one| one.test == test && one.forwarder == forwarder);
        let counted = own.filter(|one| one.round > 0 && one.load.is_none());
        counted.map(|one| (one.round, &one.sample)).collect()
    }

    /// What another program measured.
    #[must_use]
    pub fn cross_check(&self, test: Test, forwarder: Forwarder) -> Option<f64> {
        let mut checks = self.cross_checks.iter();
        let found = checks.find(|(its, of, _)| (*its, *of) == (test, forwarder));
        found.map(|(_, _, value)| *value)
    }

    /// Why a forwarder has no figure in a test.
    #[must_use]
    pub fn failure(&self, test: Test, forwarder: Forwarder) -> Option<&str> {
        let of = Some((forwarder, test));
        let failed = self.failed.iter();
        let mut own = failed.filter(|failed| failed.of == of && !failed.in_curve);
        own.next().map(|failed| &*failed.error)
    }
}

/// Measures what is `wanted`, and always closes what it opened.
pub fn measure<B: Bench>(bench: &mut B, wanted: &Wanted, progress: &mut Progress<'_>) -> Measured {
    let plan = plan(
        wanted,
        |forwarder| bench.missing(forwarder),
        |forwarder, test| bench.unable(forwarder, test),
    );
    for skip in &plan.skipped {
        progress.line(skip);
    }
    let counts_frames = plan.parts.iter().any(|part| part.test.unit() == "Mpps");
    let loads = plan
        .parts
        .iter()
        .map(|part| part.time(wanted.loads.len(), wanted.time));
    let ceiling = if counts_frames {
        wanted.time
    } else {
        Duration::ZERO
    };
    progress.expect(ceiling + loads.sum());
    let mut run = Run {
        bench,
        wanted,
        progress,
        measured: Measured {
            skipped: plan.skipped,
            ..Measured::default()
        },
    };
    if counts_frames {
        run.ceiling();
    }
    let tests = plan.parts.len();
    for (number, part) in (1..).zip(&plan.parts) {
        if run.is_interrupted() {
            break;
        }
        run.part(part);
        run.finished(part, number, tests);
    }
    run.progress.end();
    run.measured
}

struct Run<'r, 'p, B: Bench> {
    bench: &'r mut B,
    wanted: &'r Wanted,
    progress: &'r mut Progress<'p>,
    measured: Measured,
}

impl<B: Bench> Run<'_, '_, B> {
    fn is_interrupted(&mut self) -> bool {
        self.measured.interrupted |= self.bench.interrupted();
        self.measured.interrupted
    }

    fn ceiling(&mut self) {
        if self.is_interrupted() {
            return;
        }
        self.progress.now(&"the sender by itself");
        match checked(self.bench.ceiling(self.wanted.time)) {
            Ok(sample) => self.measured.ceiling = Some(sample),
            Err(error) => self.failed(None, false, error),
        }
        self.progress.passed(self.wanted.time);
    }

    fn part(&mut self, part: &Part) {
        let test = part.test;
        self.measured.parts.push((test, part.forwarders.clone()));
        let mut well = Vec::new();
        for &forwarder in &part.forwarders {
            if self.is_interrupted() {
                break;
            }
            self.progress
                .now(&format_args!("{test} {forwarder} is built"));
            match self.bench.open(forwarder, test) {
                Ok(()) => {
                    well.push(forwarder);
                    self.described(forwarder);
                }
                Err(error) => self.failed(Some((forwarder, test)), false, error.to_string()),
            }
        }
        for turn in &part.turns {
            if self.is_interrupted() {
                break;
            }
            if well.contains(&turn.forwarder) && !self.turn(test, turn) {
                well.retain(|one| *one != turn.forwarder);
            }
            self.progress.passed(turn.time);
        }
        self.cross_checks(test, &well);
        if part.curve {
            self.loads(&part.forwarders, well);
        }
        self.bench.close(test);
    }

    /// Has another program measure the same, once each: a check of our own load, no ranking.
    fn cross_checks(&mut self, test: Test, well: &[Forwarder]) {
        for &forwarder in well {
            if self.is_interrupted() {
                return;
            }
            self.progress
                .now(&format_args!("{test} {forwarder} by iperf3"));
            match self.bench.cross_check(forwarder, test, self.wanted.time) {
                Ok(Some(value)) => {
                    let checks = &mut self.measured.cross_checks;
                    checks.push((test, forwarder, value));
                }
                Ok(None) => {}
                Err(error) => self
                    .progress
                    .line(&format_args!("{forwarder} by iperf3: {error}")),
            }
        }
    }

    fn described(&mut self, forwarder: Forwarder) {
        let described = &mut self.measured.described;
        if !described.iter().any(|(one, _)| *one == forwarder) {
            described.push((forwarder, self.bench.describe(forwarder)));
        }
    }

    /// Whether it went well.
    fn turn(&mut self, test: Test, turn: &Turn) -> bool {
        let &Turn {
            round,
            forwarder,
            time,
        } = turn;
        let pairs = self.wanted.pairs;
        match round {
            0 => self
                .progress
                .now(&format_args!("{test} {forwarder} warms up")),
            _ => self
                .progress
                .now(&format_args!("{test} {forwarder} {round}/{pairs}")),
        }
        match checked(self.bench.run(forwarder, test, time)) {
            Ok(sample) => {
                self.measured.taken.push(Taken {
                    test,
                    forwarder,
                    round,
                    load: None,
                    sample,
                });
                true
            }
            Err(error) => {
                self.failed(Some((forwarder, test)), false, error);
                false
            }
        }
    }

    /// The load-loss curve, load by load, at each of them forwarder by forwarder.
    fn loads(&mut self, planned: &[Forwarder], mut well: Vec<Forwarder>) {
        for &forwarder in &well {
            let counted = self.measured.counted(Test::Udp64, forwarder);
            let values = counted.iter().map(|(_, sample)| sample.value).collect();
            if let Some(spread) = Spread::of(values).filter(|of| of.median > 0.0) {
                self.measured.maxima.push((forwarder, spread.median));
            }
        }
        let maxima = self.measured.maxima.clone();
        for &load in &self.wanted.loads {
            for &(forwarder, maximum) in &maxima {
                if self.is_interrupted() {
                    return;
                }
                if well.contains(&forwarder) && !self.point(forwarder, load, maximum) {
                    well.retain(|one| *one != forwarder);
                }
            }
            let turns = u32::try_from(planned.len()).unwrap_or(u32::MAX);
            self.progress.passed(self.wanted.time * turns);
        }
    }

    /// Whether it went well.
    fn point(&mut self, forwarder: Forwarder, load: u32, maximum: f64) -> bool {
        self.progress
            .now(&format_args!("load {load} % {forwarder}"));
        let offered = maximum * f64::from(load) / 100.0;
        match checked(self.bench.curve(forwarder, offered, self.wanted.time)) {
            Ok(sample) => {
                self.measured.taken.push(Taken {
                    test: Test::Udp64,
                    forwarder,
                    round: 0,
                    load: Some(load),
                    sample,
                });
                true
            }
            Err(error) => {
                self.failed(Some((forwarder, Test::Udp64)), true, error);
                false
            }
        }
    }

    /// Notes a failure; what fails after Ctrl-C fails because of it, and is none.
    fn failed(&mut self, of: Option<(Forwarder, Test)>, in_curve: bool, error: String) {
        if self.is_interrupted() {
            return;
        }
        match of {
            Some((forwarder, test)) => {
                self.progress
                    .line(&format_args!("{test}: {forwarder} failed: {error}"));
            }
            None => self
                .progress
                .line(&format_args!("the sender by itself failed: {error}")),
        }
        self.measured.failed.push(Failed {
            of,
            in_curve,
            error,
        });
    }

    fn finished(&mut self, part: &Part, number: usize, tests: usize) {
        let test = part.test;
        let well = part.forwarders.iter();
        let well = well.filter(|&&one| self.measured.failure(test, one).is_none());
        let medians = well.filter_map(|&forwarder| {
            let counted = self.measured.counted(test, forwarder);
            let values = counted.iter().map(|(_, sample)| sample.value).collect();
            let median = Spread::of(values)?.median;
            Some(format!("{forwarder} {}", super::table::figure(median)))
        });
        let medians: Vec<_> = medians.collect();
        if medians.is_empty() {
            // All have failed, which has been told, or nobody had a turn.
            return;
        }
        let (medians, unit) = (medians.join(", "), super::table::unit(test.unit()));
        self.progress
            .line(&format_args!("{number}/{tests} {test}: {medians} {unit}"));
    }
}

/// A sample whose figure is one.
fn checked<E: Display>(found: Result<Sample, E>) -> Result<Sample, String> {
    let sample = found.map_err(|error| error.to_string())?;
    if sample.value.is_finite() && sample.value >= 0.0 && sample.bits.is_finite() {
        Ok(sample)
    } else {
        Err(format!(
            "the load found {} instead of a figure",
            sample.value
        ))
    }
}

impl Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            forwarder, reason, ..
        } = self;
        match self.test {
            Some(test) => write!(f, "{test}: {forwarder} skipped: {reason}")?,
            None => write!(f, "{forwarder} skipped: {reason}")?,
        }
        match &self.fix {
            Some(fix) => write!(f, "; fix: {fix}"),
            None => Ok(()),
        }
    }
}
