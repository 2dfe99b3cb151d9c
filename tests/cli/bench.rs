//! `vswitch bench` without networks: who runs when, what is noted, and how it is shown.

use std::cell::Cell;
use std::time::Duration;

use vswitch_cli::args::{self, Action};
use vswitch_cli::bench::document::{Document, Machine};
use vswitch_cli::bench::plan::Wanted;
use vswitch_cli::bench::progress::{Mode, Progress};
use vswitch_cli::bench::run::{Bench, Measured, measure};
use vswitch_cli::bench::sample::{Cpu, Latency, Sample};
use vswitch_cli::bench::stats::Verdict;
use vswitch_cli::bench::summary::{About, document};
use vswitch_cli::bench::words::{Forwarder, Test};
use vswitch_cli::bench::{command, table};
use vswitch_cli::error::Exit;

use super::snapshot;
use Forwarder::{Bridge, Direct, Ovs, Testpmd, Vswitch};

/// A bench whose figures are made up, and that writes down what it was told to do.
#[derive(Default)]
pub(super) struct Fake {
    log: Vec<String>,
    /// Fails at the run of this number, counted for the forwarder and test given.
    fails: Option<(Forwarder, Test, u32)>,
    cannot_open: Option<(Forwarder, Test)>,
    /// Is interrupted when the log is this long.
    interrupted_at: Option<usize>,
    runs: Vec<(Forwarder, Test)>,
}

/// What each does in each test; the figures of this table are of no machine.
fn base(forwarder: Forwarder, test: Test) -> f64 {
    let speeds = [(Vswitch, 8.0), (Bridge, 10.0), (Direct, 16.0)];
    let speed = speeds.into_iter().find(|(one, _)| *one == forwarder);
    let speed = speed.map_or(4.0, |(_, speed)| speed);
    if test == Test::Rr {
        400.0 / speed
    } else if test == Test::Udp64 {
        speed / 10.0
    } else {
        speed
    }
}

/// Round by round; the bridge is noisy, so that its spread meets vswitch's.
fn noise(forwarder: Forwarder, run: u32) -> f64 {
    let wide = if forwarder == Bridge { 0.3 } else { 0.02 };
    let swing = [-0.5, 1.0, 0.0, -1.0, 0.5][run as usize % 5];
    1.0 + wide * swing
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "made-up figures are small and positive"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

impl Fake {
    fn sample(forwarder: Forwarder, test: Test, run: u32, time: Duration) -> Sample {
        let value = base(forwarder, test) * noise(forwarder, run);
        let seconds = time.as_secs_f64();
        let (bits, frames) = if test == Test::Udp64 {
            (value * 1e6 * seconds * 144.0, value * 1e6 * seconds)
        } else if test == Test::Rr {
            (0.0, 0.0)
        } else {
            (value * 1e9 * seconds, 0.0)
        };
        let micros = |factor: f64| Duration::from_nanos(whole(value * factor * 1e3));
        let of_kernel = matches!(forwarder, Bridge | Direct);
        Sample {
            value,
            elapsed: time,
            bits,
            frames: whole(frames),
            offered: (test == Test::Udp64).then_some(whole(frames * 1.25)),
            latency: (test == Test::Rr).then(|| Latency {
                count: 20_000,
                p50: micros(1.0),
                p99: micros(1.8),
                p999: micros(4.0),
                max: micros(30.0),
            }),
            cpu: Cpu {
                forwarder: if of_kernel { Duration::ZERO } else { time / 2 },
                machine: time * 2,
            },
        }
    }
}

impl Bench for Fake {
    type Error = String;

    fn missing(&self, forwarder: Forwarder) -> Option<(&'static str, &'static str)> {
        (forwarder == Testpmd).then_some(("dpdk-testpmd", "dpdk-dev"))
    }

    fn unable(&self, forwarder: Forwarder, test: Test) -> Option<&'static str> {
        (forwarder == Direct && test.needs_nat()).then_some("a cable has no NAT")
    }

    fn open(&mut self, forwarder: Forwarder, test: Test) -> Result<(), String> {
        self.log.push(format!("open {forwarder} {test}"));
        if self.cannot_open == Some((forwarder, test)) {
            return Err("no <b>room</b> | left".to_owned());
        }
        Ok(())
    }

    fn describe(&self, forwarder: Forwarder) -> String {
        format!("made-up {forwarder} 1.0 & its <options>")
    }

    fn run(&mut self, forwarder: Forwarder, test: Test, time: Duration) -> Result<Sample, String> {
        let millis = time.as_millis();
        self.log.push(format!("run {forwarder} {test} {millis}"));
        let before = self.runs.iter().filter(|one| **one == (forwarder, test));
        let number = u32::try_from(before.count()).unwrap();
        self.runs.push((forwarder, test));
        if self.fails == Some((forwarder, test, number)) {
            return Err("nothing arrived".to_owned());
        }
        Ok(Self::sample(forwarder, test, number, time))
    }

    fn curve(
        &mut self,
        forwarder: Forwarder,
        offered: f64,
        time: Duration,
    ) -> Result<Sample, String> {
        self.log.push(format!("curve {forwarder} {offered:.3}"));
        let sent = offered * 1e6 * time.as_secs_f64();
        let share = offered / base(forwarder, Test::Udp64);
        let lost = (share - 0.5).max(0.0) / 20.0;
        Ok(Sample {
            value: offered * (1.0 - lost),
            offered: Some(whole(sent)),
            frames: whole(sent * (1.0 - lost)),
            ..Self::sample(forwarder, Test::Udp64, 0, time)
        })
    }

    fn close(&mut self, test: Test) {
        self.log.push(format!("close {test}"));
    }

    fn ceiling(&mut self, time: Duration) -> Result<Sample, String> {
        self.log.push("ceiling".to_owned());
        let sample = Self::sample(Direct, Test::Udp64, 2, time);
        Ok(Sample {
            value: 1.65,
            ..sample
        })
    }

    fn interrupted(&mut self) -> bool {
        self.interrupted_at.is_some_and(|at| self.log.len() >= at)
    }
}

fn wanted(forwarders: &[Forwarder], tests: &[Test], pairs: u32) -> Wanted {
    Wanted {
        forwarders: forwarders.to_vec(),
        tests: tests.to_vec(),
        time: Duration::from_secs(4),
        pairs,
        ports_count: 256,
        loads: Vec::new(),
    }
}

fn told(fake: &mut Fake, wanted: &Wanted, mode: Mode) -> (Measured, String) {
    let mut out = Vec::new();
    let elapsed = Cell::new(Duration::ZERO);
    let clock = || {
        elapsed.set(elapsed.get() + Duration::from_secs(5));
        elapsed.get()
    };
    let measured = measure(fake, wanted, &mut Progress::new(&mut out, mode, &clock));
    (measured, String::from_utf8(out).unwrap())
}

fn found(fake: &mut Fake, wanted: &Wanted) -> Document {
    let (measured, _) = told(fake, wanted, Mode::Quiet);
    let about = About {
        version: "0.1.0".to_owned(),
        machine: Machine {
            kernel: "Linux 6.18.0".to_owned(),
            cpus: 2,
            processor: Some("made-up processor".to_owned()),
        },
        began: 1_795_330_370,
        run_args: vec!["--busy-poll".to_owned(), "200".to_owned()],
    };
    document(wanted, &measured, about)
}

/// A whole run with everything in it: noise, omissions, a failure, a curve.
pub(super) fn fixture() -> Document {
    let mut fake = Fake {
        fails: Some((Ovs, Test::Tcp, 3)),
        ..Fake::default()
    };
    let forwarders = [Vswitch, Bridge, Ovs, Testpmd, Direct];
    let tests = [Test::Tcp, Test::Udp64, Test::Rr, Test::NatCrr];
    let wanted = Wanted {
        loads: vec![20, 60, 100],
        ..wanted(&forwarders, &tests, 5)
    };
    found(&mut fake, &wanted)
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn forwarders_take_turns_and_every_network_is_closed() {
    let mut fake = Fake::default();
    let wanted = Wanted {
        loads: vec![50, 100],
        ..wanted(&[Vswitch, Bridge], &[Test::Udp64, Test::Rr], 2)
    };
    let (measured, _) = told(&mut fake, &wanted, Mode::Quiet);
    let expected = "ceiling
        open vswitch udp64; open bridge udp64
        run vswitch udp64 1000; run bridge udp64 1000
        run vswitch udp64 4000; run bridge udp64 4000
        run vswitch udp64 4000; run bridge udp64 4000
        curve vswitch 0.404; curve bridge 0.575; curve vswitch 0.808; curve bridge 1.150
        close udp64
        open vswitch rr; open bridge rr
        run vswitch rr 1000; run bridge rr 1000
        run vswitch rr 4000; run bridge rr 4000
        run vswitch rr 4000; run bridge rr 4000
        close rr";
    let steps: Vec<_> = expected.split(['\n', ';']).map(str::trim).collect();
    assert_eq!(fake.log, steps);
    assert_eq!(measured.failed, []);
    assert_eq!(measured.taken.len(), 6 + 4 + 6);
    assert_eq!(measured.counted(Test::Rr, Bridge).len(), 2);
}

/// Goal: a broken competitor costs its own figures only. Method: one that fails half-way and one
/// that cannot be built, in one test; all other runs are as without them.
#[test]
fn one_that_fails_leaves_its_test_and_the_rest_goes_on() {
    let mut fake = Fake {
        fails: Some((Bridge, Test::Tcp, 2)),
        cannot_open: Some((Ovs, Test::Tcp)),
        ..Fake::default()
    };
    let wanted = wanted(&[Vswitch, Bridge, Ovs], &[Test::Tcp, Test::Rr], 3);
    let (measured, text) = told(&mut fake, &wanted, Mode::Lines);
    let runs = |words: &str| {
        fake.log
            .iter()
            .filter(|step| step.starts_with(words))
            .count()
    };
    assert_eq!(
        (
            runs("run vswitch tcp"),
            runs("run bridge tcp"),
            runs("run ovs tcp")
        ),
        (4, 3, 0)
    );
    assert_eq!(
        (runs("run bridge rr"), runs("run ovs rr"), runs("close")),
        (4, 4, 2)
    );
    assert_eq!(measured.failure(Test::Tcp, Bridge), Some("nothing arrived"));
    assert_eq!(
        measured.failure(Test::Tcp, Ovs),
        Some("no <b>room</b> | left")
    );
    assert_eq!(measured.failure(Test::Rr, Ovs), None);
    assert_eq!(
        text,
        "tcp: ovs failed: no <b>room</b> | left\n\
         tcp: bridge failed: nothing arrived\n\
         1/2 tcp: vswitch 8.00 Gbit/s\n\
         2/2 rr: vswitch 50.0, bridge 40.0, ovs 100 µs\n"
    );
    let found = found(
        &mut Fake {
            log: Vec::new(),
            runs: Vec::new(),
            ..fake
        },
        &wanted,
    );
    let tcp = &found.end.tests[0].forwarders;
    assert_eq!(
        (&tcp[1].value, &tcp[1].ratio, tcp[1].verdict),
        (&None, &None, None)
    );
    assert_eq!(found.end.failures.len(), 2);
    assert!(
        found.end.tests[1]
            .forwarders
            .iter()
            .all(|one| one.error.is_none())
    );
}

#[test]
fn where_vswitch_itself_fails_nothing_is_ranked() {
    let mut fake = Fake {
        fails: Some((Vswitch, Test::Tcp, 4)),
        ..Fake::default()
    };
    let found = found(&mut fake, &wanted(&[Vswitch, Direct], &[Test::Tcp], 5));
    let [own, other] = &found.end.tests[0].forwarders[..] else {
        panic!("two took part")
    };
    assert_eq!(own.error.as_deref(), Some("nothing arrived"));
    assert!(other.value.is_some());
    assert_eq!((&other.ratio, other.verdict), (&None, None));
}

#[test]
fn a_signal_ends_the_run_and_what_fails_by_it_is_no_failure() {
    let mut fake = Fake {
        fails: Some((Bridge, Test::Tcp, 1)),
        interrupted_at: Some(6),
        ..Fake::default()
    };
    let wanted = wanted(&[Vswitch, Bridge], &[Test::Tcp, Test::Rr], 3);
    let (measured, _) = told(&mut fake, &wanted, Mode::Quiet);
    assert_eq!(fake.log.last().map(String::as_str), Some("close tcp"));
    assert_eq!(fake.log.len(), 7);
    assert!(measured.interrupted);
    assert_eq!(measured.failed, []);
    let mut fake = Fake {
        interrupted_at: Some(6),
        ..Fake::default()
    };
    let shown = plain(&table::text(&found(&mut fake, &wanted)));
    assert!(
        shown.ends_with("\ninterrupted: the rest was not measured\n"),
        "{shown}"
    );
}

#[test]
fn progress_goes_to_lines_a_bar_or_nowhere() {
    let wanted = wanted(&[Vswitch, Testpmd, Direct], &[Test::Rr, Test::NatTcp], 1);
    let told = |mode| told(&mut Fake::default(), &wanted, mode).1;
    assert_eq!(told(Mode::Quiet), "");
    assert_eq!(
        told(Mode::Lines),
        "testpmd skipped: no program dpdk-testpmd; fix: sudo apt install dpdk-dev\n\
         nat-tcp: direct skipped: a cable has no NAT\n\
         1/2 rr: vswitch 51.0, direct 25.5 µs\n\
         2/2 nat-tcp: vswitch 8.16 Gbit/s\n"
    );
    let bar = told(Mode::Bar);
    assert!(
        bar.contains("\r\x1b[K[                        ]   0 %  rr vswitch is built  ETA 15 s")
    );
    assert!(bar.contains("rr direct 1/1  ETA "), "{bar:?}");
    assert!(bar.ends_with("\r\x1b[K"));
}

/// Goal: noise is never sold as a result, on the way from samples to every kind of output.
#[test]
fn overlapping_spreads_have_no_winner() {
    let found = fixture();
    let verdicts = |test: usize| -> Vec<_> {
        let forwarders = found.end.tests[test].forwarders.iter();
        forwarders
            .map(|one| (one.forwarder.as_str(), one.verdict))
            .collect()
    };
    assert_eq!(
        verdicts(1),
        [
            ("vswitch", None),
            ("bridge", Some(Verdict::NoWinner)),
            ("ovs", Some(Verdict::Faster)),
            ("direct", Some(Verdict::Slower)),
        ]
    );
    assert_eq!(
        verdicts(2)[2],
        ("ovs", Some(Verdict::Faster)),
        "fewer µs are better"
    );
    let text = plain(&table::text(&found));
    let rows = text
        .lines()
        .filter(|line| line.starts_with("bridge ") && line.contains(".."));
    let bridge: Vec<_> = rows.collect();
    assert_eq!(bridge.len(), 4);
    assert!(
        bridge.iter().all(|line| line.contains("no winner")),
        "{bridge:#?}"
    );
    let few = wanted(&[Vswitch, Direct], &[Test::Tcp], 2);
    let few = self::found(&mut Fake::default(), &few);
    assert_eq!(
        few.end.tests[0].forwarders[1].verdict,
        Some(Verdict::NoWinner)
    );
}

#[test]
fn what_was_found_looks_as_committed() {
    let found = fixture();
    let text = plain(&table::text(&found));
    assert!(!text.lines().any(|line| line.ends_with(' ')), "{text}");
    let longest = text
        .lines()
        .filter(|line| !line.starts_with("note"))
        .map(|l| l.chars().count());
    assert!(longest.max().unwrap() <= 140, "{text}");
    snapshot("bench.txt", &text);
    snapshot("bench.md", &table::markdown(&found));
    let json = serde_json::to_string_pretty(&found).unwrap();
    snapshot("bench.json", &format!("{json}\n"));
    let line = command::json(&found).unwrap();
    assert_eq!(line.lines().count(), 1);
    let back: Document = serde_json::from_str(&line).unwrap();
    assert!(back == found, "it reads back as what it was");
    let value: serde_json::Value = serde_json::from_str(&line).unwrap();
    let keys: Vec<_> = value.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["start", "intervals", "end"], "iperf3's");
}

/// Goal: no hour of measuring ends in a refusal. Method: files that cannot be written, over a bench
/// that writes down whatever it is told to do.
#[test]
fn a_file_that_cannot_be_written_is_refused_before_anything_is_measured() {
    for flag in ["-o", "--export-markdown"] {
        let words = format!("vswitch bench {flag} /nowhere/x.json");
        let asked = args::parse(words.split(' ').map(Into::into)).unwrap();
        let Action::Bench(plan) = asked.action else {
            panic!("{asked:?}")
        };
        let mut fake = Fake::default();
        let clock = || Duration::ZERO;
        let error = command::conduct(&asked.common, &plan, &mut fake, 0, &clock).unwrap_err();
        let line = "error: /nowhere/x.json: No such file or directory (os error 2); \
                    fix: write to /tmp/x.json";
        assert_eq!(
            (error.to_string().as_str(), error.exit),
            (line, Exit::Failed)
        );
        assert!(fake.log.is_empty(), "{:?}", fake.log);
    }
}

#[test]
fn what_is_asked_for_is_planned() {
    let plan = |words: &str| {
        let asked = args::parse(words.split(' ').map(Into::into)).unwrap();
        let Action::Bench(plan) = asked.action else {
            panic!("{asked:?}")
        };
        plan
    };
    let usual = plan("vswitch bench");
    assert_eq!(usual.wanted.forwarders, [Vswitch, Bridge, Direct]);
    assert_eq!(usual.wanted.tests, [Test::Tcp, Test::Udp64, Test::Rr]);
    assert_eq!(
        (usual.wanted.time, usual.wanted.pairs),
        (Duration::from_secs(5), 5)
    );
    assert_eq!(
        (usual.wanted.ports_count, usual.wanted.loads.len()),
        (256, 0)
    );
    let words = "vswitch bench --vs ovs,vswitch --test ports,udp64 --time 0.5 --pairs 1 --curve \
                 --ports-count 2 --loads 10,90 -- --workers 2";
    let own = plan(words);
    assert_eq!(own.wanted.forwarders, [Vswitch, Ovs]);
    assert_eq!(own.wanted.tests, [Test::Ports, Test::Udp64]);
    assert_eq!(
        (own.wanted.time, own.wanted.loads),
        (Duration::from_millis(500), vec![10, 90])
    );
    assert_eq!(own.run_args, ["--workers", "2"]);
    assert_eq!(
        plan("vswitch bench --curve").wanted.loads,
        [20, 40, 60, 80, 100]
    );
}
