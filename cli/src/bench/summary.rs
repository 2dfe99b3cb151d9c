//! From single runs to what they come to; nothing here measures.

use super::document::{
    Curve, Document, End, Failure, Figures, Interval, Machine, Participant, Point, Quantiles,
    SCHEMA, Skipped, Start, Summary, TestEnd, Timestamp,
};
use super::plan::{Wanted, warm_up};
use super::run::Measured;
use super::sample::Sample;
use super::stats::{Spread, rank, ratios};
use super::words::{Better, Forwarder, Test};

/// Where and when a run was made, and of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// This program's version.
    pub version: String,
    /// The machine.
    pub machine: Machine,
    /// When it began, seconds since 1970.
    pub began: u64,
    /// What the program was given beside what the tests need.
    pub run_args: Vec<String>,
}

/// What a test is, in a few words.
#[must_use]
pub const fn title(test: Test) -> &'static str {
    match test {
        Test::Tcp => "bulk TCP, one stream",
        Test::Tcp8 => "bulk TCP, eight streams",
        Test::Udp64Each => "64-byte UDP frames from a sender that sends one at a time, delivered",
        Test::Udp64 => "64-byte UDP frames as fast as one sender can, delivered",
        Test::Udp1400 => "1,400 bytes of UDP payload as fast as one sender can, delivered",
        Test::Rr => "one byte there and back over TCP, median",
        Test::Crr => "connect, ask, be answered, close",
        Test::NatTcp => "bulk TCP through the NAT, out",
        Test::NatTcpR => "bulk TCP through the NAT, in",
        Test::NatCrr => "connect, ask, be answered, close, through the NAT",
        Test::NatKeep => "ask and be answered on 8 open connections, through the NAT",
        Test::NatPub => "bulk TCP from outside to a published port",
        Test::Flood => "broadcast frames, copies delivered",
        Test::Ports => "64-byte UDP frames between two of many ports, delivered",
    }
}

/// The whole of a run.
#[must_use]
pub fn document(wanted: &Wanted, measured: &Measured, about: About) -> Document {
    Document {
        start: start(wanted, measured, about),
        intervals: intervals(measured),
        end: End {
            tests: tests(measured),
            curve: curves(measured),
            failures: failures(measured),
            interrupted: measured.interrupted,
        },
    }
}

fn start(wanted: &Wanted, measured: &Measured, about: About) -> Start {
    let described = measured.described.iter();
    let skipped = measured.skipped.iter();
    Start {
        schema: SCHEMA.to_owned(),
        version: about.version,
        machine: about.machine,
        timestamp: Timestamp::at(about.began),
        time: wanted.time.as_secs_f64(),
        warm_up: warm_up(wanted.time).as_secs_f64(),
        pairs: wanted.pairs,
        ports_count: wanted.ports_count,
        loads: wanted.loads.clone(),
        run_args: about.run_args,
        forwarders: described
            .map(|(forwarder, description)| Participant {
                forwarder: forwarder.to_string(),
                description: description.clone(),
            })
            .collect(),
        skipped: skipped
            .map(|skip| Skipped {
                forwarder: skip.forwarder.to_string(),
                test: skip.test.map(|test| test.to_string()),
                reason: skip.reason.clone(),
                fix: skip.fix.clone(),
            })
            .collect(),
        ceiling: measured.ceiling.as_ref().map(Figures::from),
    }
}

fn intervals(measured: &Measured) -> Vec<Interval> {
    let taken = measured.taken.iter();
    taken
        .map(|one| Interval {
            test: one.test.to_string(),
            forwarder: one.forwarder.to_string(),
            round: one.round,
            load: one.load,
            figures: Figures::from(&one.sample),
        })
        .collect()
}

fn failures(measured: &Measured) -> Vec<Failure> {
    let failed = measured.failed.iter();
    failed
        .map(|failed| Failure {
            forwarder: failed.of.map(|(forwarder, _)| forwarder.to_string()),
            test: failed.of.map(|(_, test)| test.to_string()),
            error: failed.error.clone(),
        })
        .collect()
}

fn tests(measured: &Measured) -> Vec<TestEnd> {
    let parts = measured.parts.iter();
    parts
        .map(|(test, forwarders)| TestEnd {
            test: test.to_string(),
            title: title(*test).to_owned(),
            unit: test.unit().to_owned(),
            better: match test.better() {
                Better::More => "more".to_owned(),
                Better::Less => "less".to_owned(),
            },
            forwarders: forwarders
                .iter()
                .map(|&forwarder| summary(measured, *test, forwarder))
                .collect(),
        })
        .collect()
}

/// Figures of one that failed half-way are in the intervals and count for nothing.
fn summary(measured: &Measured, test: Test, forwarder: Forwarder) -> Summary {
    let error = measured.failure(test, forwarder).map(str::to_owned);
    let counted = if error.is_none() {
        measured.counted(test, forwarder)
    } else {
        Vec::new()
    };
    let values = |of: &[(u32, &Sample)]| -> Vec<(u32, f64)> {
        of.iter()
            .map(|(round, sample)| (*round, sample.value))
            .collect()
    };
    let value = spread(&counted, |sample| Some(sample.value));
    let own = if forwarder == Forwarder::Vswitch
        || measured.failure(test, Forwarder::Vswitch).is_some()
    {
        Vec::new()
    } else {
        measured.counted(test, Forwarder::Vswitch)
    };
    let ours = spread(&own, |sample| Some(sample.value));
    let both = ours.as_ref().zip(value.as_ref());
    Summary {
        forwarder: forwarder.to_string(),
        ratio: ratios(&values(&own), &values(&counted)),
        verdict: both.map(|(ours, its)| rank(ours, its, test.better())),
        loss: spread(&counted, Sample::loss).map(|spread| spread.median),
        latency: latency(&counted),
        cpu_per_gbit: cost(&counted, Sample::cpu_per_gbit),
        cpu_per_mpkt: cost(&counted, Sample::cpu_per_million),
        iperf3: measured.cross_check(test, forwarder),
        value,
        error,
    }
}

fn spread(of: &[(u32, &Sample)], figure: impl Fn(&Sample) -> Option<f64>) -> Option<Spread> {
    Spread::of(of.iter().filter_map(|(_, sample)| figure(sample)).collect())
}

fn cost(
    of: &[(u32, &Sample)],
    figure: impl Fn(&Sample) -> Option<(f64, f64)>,
) -> Option<super::document::Cost> {
    let forwarder = spread(of, |sample| figure(sample).map(|(forwarder, _)| forwarder))?;
    let machine = spread(of, |sample| figure(sample).map(|(_, machine)| machine))?;
    Some((forwarder.median, machine.median).into())
}

fn latency(of: &[(u32, &Sample)]) -> Option<Quantiles> {
    let all: Vec<Quantiles> = of
        .iter()
        .filter_map(|(_, sample)| sample.latency.as_ref().map(Quantiles::from))
        .collect();
    let of = |figure: fn(&Quantiles) -> f64| Spread::of(all.iter().map(figure).collect());
    Some(Quantiles {
        count: all.iter().map(|one| one.count).sum(),
        p50_us: of(|one| one.p50_us)?.median,
        p99_us: of(|one| one.p99_us)?.median,
        p999_us: of(|one| one.p999_us)?.median,
        max_us: of(|one| one.max_us)?.max,
    })
}

fn curves(measured: &Measured) -> Vec<Curve> {
    let curve = |&(forwarder, maximum): &(Forwarder, f64)| {
        let own = measured
            .taken
            .iter()
            .filter(|one| one.forwarder == forwarder);
        let points = own.filter_map(|one| {
            let seconds = one.sample.elapsed.as_secs_f64();
            let mpps = |frames: u64| frames as f64 / seconds / 1e6;
            let offered = one.sample.offered.filter(|_| seconds > 0.0)?;
            Some(Point {
                load: one.load?,
                offered: mpps(offered),
                delivered: mpps(one.sample.frames),
                loss: one.sample.loss()?,
            })
        });
        Curve {
            forwarder: forwarder.to_string(),
            maximum,
            points: points.collect(),
        }
    };
    let curves = measured.maxima.iter().map(curve);
    curves.filter(|curve| !curve.points.is_empty()).collect()
}
