//! The flags of `bench` and `report`.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, ValueHint};

use super::Action;
use super::low::{Low, Noun};
use super::run::RunArgs;
use crate::bench::plan::Wanted;
use crate::bench::words::{Forwarder, Test, Unknown};
use crate::config::words::{self, Why};
use crate::error::CliError;

/// Seconds of a run: less shows the scheduler, more is for another tool.
const TIME_SECS: (f64, f64) = (0.1, 600.0);

/// What is measured unless told otherwise.
const VS: [Forwarder; 2] = [Forwarder::Bridge, Forwarder::Direct];
const TESTS: [Test; 3] = [Test::Tcp, Test::Udp64, Test::Rr];
const LOADS: [u32; 5] = [20, 40, 60, 80, 100];

/// What `bench` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BenchPlan {
    /// What is measured.
    pub wanted: Wanted,
    /// Where the tables go in Markdown.
    pub markdown: Option<PathBuf>,
    /// Where the JSON goes, whatever goes to stdout.
    pub output: Option<PathBuf>,
    /// What `vswitch run` is given beside what the tests need; checked to be flags of it.
    pub run_args: Vec<String>,
}

/// What `report` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportPlan {
    /// The JSON of `vswitch bench` or `iperf3`; `-` is stdin.
    pub input: PathBuf,
    /// Where the page goes; none: stdout.
    pub output: Option<PathBuf>,
}

/// `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    // `help` in place of a comment, here and below: the words stand in one list.
    #[arg(long, value_name = "A,B", value_parser = several::<Forwarder>, help = vs_help())]
    vs: Option<Several<Forwarder>>,
    #[arg(long, value_name = "A,B", value_parser = several::<Test>, help = test_help())]
    test: Option<Several<Test>>,
    /// Seconds each run takes, 0.1 to 600
    #[arg(long, value_name = "SECS", value_parser = seconds, default_value = "5")]
    time: Duration,
    /// Rounds, 1 to 100; in each, all forwarders take turns
    #[arg(long, value_name = "N", value_parser = pairs, default_value = "5")]
    pairs: u32,
    /// Ports of the switch in the test `ports`, 2 to 1000
    #[arg(long, value_name = "N", value_parser = ports_count, default_value = "256")]
    ports_count: u16,
    /// Measure loss at 20 to 100 % of what each forwarder delivered in the test udp64
    #[arg(long)]
    curve: bool,
    /// The loads of the curve, % [default: 20,40,60,80,100]
    #[arg(long, value_name = "A,B", value_parser = loads, requires = "curve")]
    loads: Option<Several<u32>>,
    /// Write the tables in Markdown as well
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    export_markdown: Option<PathBuf>,
    /// Write the JSON as well, for `vswitch report`
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Flags of `vswitch run`, after `--`
    #[arg(last = true, value_name = "RUN FLAGS")]
    run_args: Vec<String>,
}

/// `report`.
#[derive(Debug, Args)]
pub struct Report {
    /// JSON of `vswitch bench -j` or `iperf3 -J`; `-` for stdin
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    input: PathBuf,
    /// Where to write the page [default: stdout]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
}

/// A list in one word; a type of its own because clap takes a bare `Vec` for a repeated flag.
#[derive(Debug, Clone)]
struct Several<T>(Vec<T>);

fn vs_help() -> String {
    let others = Forwarder::ALL.into_iter();
    let others = others.filter(|one| *one != Forwarder::Vswitch);
    let known = list(others.map(Forwarder::word), ", ");
    let default = list(VS.into_iter().map(Forwarder::word), ",");
    format!("Forwarders to measure beside vswitch: {known} [default: {default}]")
}

fn test_help() -> String {
    let known = list(Test::ALL.into_iter().map(Test::word), ", ");
    let default = list(TESTS.into_iter().map(Test::word), ",");
    format!("Tests: {known} [default: {default}]")
}

fn list(words: impl Iterator<Item = &'static str>, between: &str) -> String {
    words.collect::<Vec<_>>().join(between)
}

fn several<T: FromStr<Err = Unknown> + PartialEq>(text: &str) -> Result<Several<T>, Why> {
    let read = |word: &str| word.parse().map_err(|unknown: Unknown| unknown.to_string());
    once(text, read).map(Several)
}

/// Words separated by commas, none of them twice.
fn once<T: PartialEq>(text: &str, read: impl Fn(&str) -> Result<T, Why>) -> Result<Vec<T>, Why> {
    let mut list = Vec::new();
    for word in text.split(',') {
        let one = read(word)?;
        if list.contains(&one) {
            return Err(format!("{word}: given twice"));
        }
        list.push(one);
    }
    Ok(list)
}

fn loads(text: &str) -> Result<Several<u32>, Why> {
    once(text, |word| words::number(word, (1, 100))).map(Several)
}

fn seconds(text: &str) -> Result<Duration, Why> {
    let (low, high) = TIME_SECS;
    let number: Option<f64> = text.parse().ok();
    let within = number.filter(|secs| (low..=high).contains(secs));
    let time = within.and_then(|secs| Duration::try_from_secs_f64(secs).ok());
    time.ok_or_else(|| format!("not a number of seconds from {low} to {high}"))
}

fn pairs(text: &str) -> Result<u32, Why> {
    words::number(text, (1, 100))
}

fn ports_count(text: &str) -> Result<u16, Why> {
    words::number(text, (2, 1000))
}

impl Bench {
    pub(super) fn action(self) -> Result<Action, CliError> {
        let vs = self.vs.map_or_else(|| VS.to_vec(), |Several(list)| list);
        let others = vs.into_iter().filter(|one| *one != Forwarder::Vswitch);
        let forwarders = std::iter::once(Forwarder::Vswitch).chain(others).collect();
        let tests = self
            .test
            .map_or_else(|| TESTS.to_vec(), |Several(list)| list);
        if self.curve && !tests.contains(&Test::Udp64) {
            let words: Vec<_> = tests.iter().map(|test| test.word()).collect();
            let why = "it is of the test udp64, which is not among --test";
            let fix = format!("--test {},udp64", words.join(","));
            return Err(CliError::usage("--curve", why, fix));
        }
        if let Some(output) = self
            .output
            .as_ref()
            .filter(|_| self.output == self.export_markdown)
        {
            let why = "one file cannot be both JSON and Markdown";
            let (what, fix) = (output.display().to_string(), "--export-markdown run.md");
            return Err(CliError::usage(what, why, fix));
        }
        check_run_args(&self.run_args)?;
        let loads = self
            .loads
            .map_or_else(|| LOADS.to_vec(), |Several(list)| list);
        Ok(Action::Bench(BenchPlan {
            wanted: Wanted {
                forwarders,
                tests,
                time: self.time,
                pairs: self.pairs,
                ports_count: self.ports_count,
                loads: if self.curve { loads } else { Vec::new() },
            },
            markdown: self.export_markdown,
            output: self.output,
            run_args: self.run_args,
        }))
    }
}

impl Report {
    pub(super) fn action(self) -> Result<Action, CliError> {
        if self.output.as_ref() == Some(&self.input) {
            let what = self.input.display().to_string();
            let why = "the page would replace what was measured";
            return Err(CliError::usage(what, why, "-o run.html"));
        }
        Ok(Action::Report(ReportPlan {
            input: self.input,
            output: self.output,
        }))
    }
}

/// Refuses what `vswitch run` would refuse once the networks are built, and what the tests decide.
fn check_run_args(given: &[String]) -> Result<(), CliError> {
    let own = ["vswitch", "run"].map(str::to_owned);
    let argv: Vec<String> = own.into_iter().chain(given.iter().cloned()).collect();
    let fix = "vswitch run --help";
    let low = Low::try_parse_from(&argv).map_err(|error| {
        let os: Vec<std::ffi::OsString> = argv.iter().map(Into::into).collect();
        match super::usage::stop(&error, &os) {
            super::Stop::Error(error) => error,
            super::Stop::Text(_) => CliError::usage(
                "after `--`",
                "belong flags of a run, which help is not",
                fix,
            ),
        }
    })?;
    let Some(Noun::Run(run)) = low.noun else {
        return Err(CliError::usage(
            "after `--`",
            "belong flags of `vswitch run`",
            fix,
        ));
    };
    match decided(&run, given) {
        None => Ok(()),
        Some(flag) => {
            let why = "the tests decide it";
            Err(CliError::usage(flag, why, format!("leave {flag} out")))
        }
    }
}

/// The first flag that the tests set themselves, or that a run under test cannot have.
fn decided(run: &RunArgs, given: &[String]) -> Option<&'static str> {
    // Looked up as words, since the name may come from the environment as well.
    let word = |flag: &str| {
        let mut words = given
            .iter()
            .map(|word| word.split('=').next().unwrap_or_default());
        words.any(|word| word == flag)
    };
    let decided = [
        ("--ports", !run.ports.is_empty()),
        ("--port", !run.port.is_empty()),
        ("--uplink", run.uplink.is_some()),
        ("--uplink-address", run.uplink_address.is_some()),
        ("--uplink-mac", run.uplink_mac.is_some()),
        ("--gateway", run.gateway.is_some()),
        ("--no-nat", run.no_nat),
        ("--no-host-port", run.no_host_port),
        ("--config", run.config.is_some()),
        ("--explain", run.explain),
        ("--name", word("--name")),
        ("--run-dir", word("--run-dir")),
        ("--socket", word("--socket")),
    ];
    decided
        .into_iter()
        .find(|(_, set)| *set)
        .map(|(flag, _)| flag)
}
