//! The networks and loads of this machine, as the runner wants them.
#![expect(
    clippy::disallowed_methods,
    reason = "the bench is an edge: it says when it began and how long it takes"
)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::bed::{self, Bed, BedError, Options, Shape};
use super::command::conduct;
use super::load::{self, Load, LoadError};
use super::path::Path;
use super::run::Bench;
use super::sample::Sample;
use super::words::{Forwarder, Test};
use crate::args::{BenchPlan, Common};
use crate::demo::signals::Signals;
use crate::dispatch::Outcome;
use crate::error::CliError;

/// The command `bench`.
///
/// # Errors
/// As [`conduct`]; signals cannot be taken.
pub fn command(common: &Common, plan: &BenchPlan) -> Outcome {
    let failed = |why: String| CliError::failed("bench", why, "vswitch doctor");
    let signals = Signals::take().map_err(|err| failed(format!("signals: {err}")))?;
    let options = Options::of_this_program().map_err(|err| failed(err.to_string()))?;
    let mut bench = Real {
        options: Options {
            vswitch_args: plan.run_args.clone(),
            ..options
        },
        ports: plan.wanted.ports_count,
        beds: Vec::new(),
        signals,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let (began, start) = (now.map_or(0, |since| since.as_secs()), Instant::now());
    conduct(common, plan, &mut bench, began, &|| start.elapsed())
}

struct Real {
    options: Options,
    /// Of the tests `ports` and `flood`.
    ports: u16,
    /// All but the one whose turn it is are stopped.
    beds: Vec<(Forwarder, Test, Bed)>,
    signals: Signals,
}

/// What can go wrong in a turn.
#[derive(Debug, thiserror::Error)]
enum RealError {
    #[error(transparent)]
    Bed(#[from] BedError),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{0} has no network for {1}")]
    NotOpen(Forwarder, Test),
}

impl Real {
    fn load(&self, of: Forwarder, test: Test, load: &Load) -> Result<Sample, RealError> {
        self.with_bed(of, test, |path| load::run(test, path, load))
    }

    /// Lets the forwarder run for the time of `work`.
    fn with_bed<T>(
        &self,
        of: Forwarder,
        test: Test,
        work: impl FnOnce(&Path<'_>) -> Result<T, LoadError>,
    ) -> Result<T, RealError> {
        let mut beds = self.beds.iter();
        let bed = beds.find(|(forwarder, its, _)| (*forwarder, *its) == (of, test));
        let (_, _, bed) = bed.ok_or(RealError::NotOpen(of, test))?;
        bed.resume()?;
        let found = work(&bed.path());
        // A forwarder that has ended explains a load that found nothing, not the other way round.
        let alive = bed.check();
        bed.pause()?;
        alive?;
        Ok(found?)
    }
}

impl Bench for Real {
    type Error = RealError;

    fn missing(&self, forwarder: Forwarder) -> Option<(&'static str, &'static str)> {
        bed::missing(forwarder).map(|missing| (missing.program, missing.package))
    }

    fn unable(&self, forwarder: Forwarder, test: Test) -> Option<&'static str> {
        let no_nft = || {
            let missing = test.needs_nat() && bed::missing_for_nat(forwarder).is_some();
            missing.then_some("no program nft for its NAT: sudo apt install nftables")
        };
        bed::unable(forwarder, test).or_else(no_nft)
    }

    fn open(&mut self, forwarder: Forwarder, test: Test) -> Result<(), RealError> {
        let containers = match test {
            Test::Ports | Test::Flood => self.ports,
            Test::Tcp
            | Test::Tcp8
            | Test::Udp64
            | Test::Udp64Each
            | Test::Udp1400
            | Test::Rr
            | Test::Crr
            | Test::NatTcp
            | Test::NatTcpR
            | Test::NatCrr
            | Test::NatKeep
            | Test::NatPub => 2,
        };
        let shape = Shape {
            containers,
            nat: test.needs_nat(),
            published: test.is_published(),
        };
        let bed = Bed::build(forwarder, shape, &self.options)?;
        bed.pause()?;
        self.beds.push((forwarder, test, bed));
        Ok(())
    }

    fn describe(&self, forwarder: Forwarder) -> String {
        let mut beds = self.beds.iter();
        let bed = beds.find(|(one, _, _)| *one == forwarder);
        bed.map_or_else(String::new, |(_, _, bed)| bed.description())
    }

    fn run(&mut self, of: Forwarder, test: Test, time: Duration) -> Result<Sample, RealError> {
        self.load(of, test, &Load::full(time))
    }

    fn curve(&mut self, of: Forwarder, mpps: f64, time: Duration) -> Result<Sample, RealError> {
        let offered = Some(mpps);
        self.load(of, Test::Udp64, &Load { time, offered })
    }

    fn cross_check(
        &mut self,
        of: Forwarder,
        test: Test,
        time: Duration,
    ) -> Result<Option<f64>, RealError> {
        let (reverse, streams) = match test {
            Test::Tcp | Test::NatTcp => (false, 1),
            Test::Tcp8 => (false, 8),
            Test::NatTcpR => (true, 1),
            Test::Udp64
            | Test::Udp64Each
            | Test::Udp1400
            | Test::Rr
            | Test::Crr
            | Test::NatCrr
            | Test::NatKeep
            | Test::NatPub
            | Test::Flood
            | Test::Ports => return Ok(None),
        };
        self.with_bed(of, test, |path| load::iperf3(path, time, reverse, streams))
    }

    fn close(&mut self, test: Test) {
        self.beds.retain(|(_, its, _)| *its != test);
    }

    fn ceiling(&mut self, time: Duration) -> Result<Sample, RealError> {
        let cable = Shape {
            containers: 2,
            nat: false,
            published: false,
        };
        let bed = Bed::build(Forwarder::Direct, cable, &self.options)?;
        // One that does not count: caches, and the processor's clock.
        load::ceiling(&bed.path(), time / 4)?;
        Ok(load::ceiling(&bed.path(), time)?)
    }

    fn interrupted(&mut self) -> bool {
        // Where signals can no longer be read, nobody could end it in order: end it.
        !matches!(self.signals.wait(Duration::ZERO), Ok(None))
    }
}
