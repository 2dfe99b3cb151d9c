//! From what was asked to what is done.
//!
//! The commands that talk to a running switch, and those that need none, are done here. The five
//! that touch the machine come in as [`Hooks`], so that this crate's entry is one table.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::Path;

use anstream::{AutoStream, ColorChoice};
use serde::de::DeserializeOwned;
use switch::verdict::DropReason;

use crate::args::{
    self, Action, BenchPlan, CleanPlan, Colour, Common, DemoPlan, DoctorPlan, Invocation,
    MetricsPlan, Mutation, Stop, Table, View, WhyPlan,
};
use crate::bench::report;
use crate::client::Client;
use crate::config::{Settings, Source, check};
use crate::conform::Level;
use crate::control::api;
use crate::control::select::Pair;
use crate::error::{CliError, Exit, printable};
use crate::metrics::dashboard;
use crate::{man, record, replay, show};

/// What a command comes to.
pub type Outcome = Result<Exit, CliError>;

/// The commands that touch the machine.
#[derive(Debug, Clone, Copy)]
pub struct Hooks {
    /// Runs a switch until it is told to stop; the source is read again on SIGHUP.
    pub run: fn(&Common, Settings, &Source) -> Outcome,
    /// Looks whether this machine is ready.
    pub doctor: fn(&Common, &DoctorPlan) -> Outcome,
    /// Undoes what a killed vswitch left behind.
    pub clean: fn(&Common, &CleanPlan) -> Outcome,
    /// Shows it all in two namespaces.
    pub demo: fn(&Common, DemoPlan) -> Outcome,
    /// Measures it beside others.
    pub bench: fn(&Common, &BenchPlan) -> Outcome,
}

/// The whole program: reads the command line, does what it says, prints any error.
#[must_use]
pub fn main(argv: impl IntoIterator<Item = std::ffi::OsString>, hooks: &Hooks) -> Exit {
    let (colour, outcome) = match args::parse(argv) {
        Err(Stop::Error(error)) => (Colour::Auto, Err(error)),
        Err(Stop::Text(text)) => (Colour::Auto, print(Colour::Auto, &text)),
        Ok(Invocation { common, action }) => (common.colour, dispatch(&common, action, hooks)),
    };
    outcome.unwrap_or_else(|error| {
        tell(colour, &error);
        error.exit
    })
}

fn dispatch(common: &Common, action: Action, hooks: &Hooks) -> Outcome {
    match action {
        Action::Run(source) => (hooks.run)(common, source.load()?, &source),
        Action::ExplainRun(source) => {
            print(common.colour, &show::kernel::commands(&source.load()?))
        }
        Action::Doctor(plan) => (hooks.doctor)(common, &plan),
        Action::Clean(plan) => (hooks.clean)(common, &plan),
        Action::Demo(plan) => (hooks.demo)(common, plan),
        Action::Bench(plan) => (hooks.bench)(common, &plan),
        Action::Report(plan) => report::command(common, &plan),
        Action::Record(plan) => record::command(common, &plan),
        Action::ReplayOffline(plan) => replay::offline(common, &plan),
        Action::ReplayLive(plan) => replay::live(common, &plan),
        Action::Show(table, view) => show_table(common, &table, view),
        Action::NatReport(view) => nat_report(common, view),
        Action::Conntrack(pairs) => conntrack(common, pairs),
        Action::Latency(plan) => crate::latency::command(common, &plan),
        Action::Metrics(plan) => metrics(common, plan),
        Action::Capture(plan) => crate::capture::command(common, &plan),
        Action::CaptureList => crate::capture::list(common),
        Action::Trace(plan) => crate::trace::command(common, &plan),
        Action::WhatIf(plan) => crate::trace::what_if::command(common, &plan),
        Action::Monitor(plan) => crate::monitor::command(common, &plan),
        Action::Plugin(plan) => crate::plugin::command(common, &plan),
        Action::Extcap(plan) => crate::plugin::extcap::command(common, &plan),
        Action::Top(plan) => crate::top::command(common, &plan),
        Action::Change(mutation) => change(common, &mutation),
        Action::Explain(reason) => explain(common, reason),
        Action::Why(plan) => why(common, plan),
        Action::ConfigCheck(file) => config_check(common, &file),
        Action::Completion(shell) => write(common.colour, &man::completion(shell)),
        Action::Man(None) => write(common.colour, &man::page().map_err(|e| unwritten(&e))?),
        Action::Man(Some(directory)) => manual(common, &directory),
    }
}

fn show_table(common: &Common, table: &Table, view: View) -> Outcome {
    let client = Client::new(common);
    let body = client.table(table)?;
    if common.json {
        return print_json(common, &body);
    }
    let text = match table {
        Table::Ports => {
            let ports = screen(&client, &body, |ports: Vec<_>| {
                show::port::port(&ports, view)
            })?;
            ports + &workers(&client, view)?
        }
        Table::Fdb => screen(&client, &body, |fdb: Vec<_>| show::fdb::fdb(&fdb, view))?,
        Table::Neighbours => screen(&client, &body, |neigh: Vec<_>| {
            show::neigh::neigh(&neigh, view)
        })?,
        Table::Nat(_) => screen(&client, &body, |nat| show::nat::nat(&nat, view))?,
        Table::Drops => screen(&client, &body, |drops: Vec<_>| show::drops(&drops, view))?,
        Table::Status => screen(&client, &body, |status| show::status::status(&status, view))?,
    };
    print(common.colour, &text)
}

/// The RFCs' requirements; the answer is no where one that must be met is not.
fn nat_report(common: &Common, view: View) -> Outcome {
    let client = Client::new(common);
    let body = client.nat_report()?;
    let report: api::NatReport = client.read(&body)?;
    let mut requirements = report.requirements.iter();
    let met = requirements.all(|one| one.met || one.level == Level::Should);
    if common.json {
        print_json(common, &body)?;
    } else {
        let text = show::conform::requirements(&report.requirements, view);
        print(common.colour, &text)?;
    }
    Ok(if met { Exit::Done } else { Exit::No })
}

/// What a Prometheus would be given, or a dashboard for what it makes of it.
fn metrics(common: &Common, plan: MetricsPlan) -> Outcome {
    if plan == MetricsPlan::Dashboard {
        return json(
            common,
            serde_json::to_string_pretty(&dashboard::dashboard()),
        );
    }
    if common.json {
        let why = "metrics have a format of their own";
        return Err(CliError::usage("--json", why, "vswitch -j -s port"));
    }
    write(common.colour, &Client::new(common).metrics()?)
}

/// What became of the packets to an address; the answer is no where nothing is known.
fn why(common: &Common, plan: WhyPlan) -> Outcome {
    let client = Client::new(common);
    let body = client.why(plan)?;
    let why: api::Why = client.read(&body)?;
    if common.json {
        print_json(common, &body)?;
    } else {
        print(common.colour, &show::why::why(&why))?;
    }
    Ok(if why.known { Exit::Done } else { Exit::No })
}

/// What a reason means, and the packets kept of it where a switch runs; or what each means.
fn explain(common: &Common, reason: Option<DropReason>) -> Outcome {
    let drops = match reason {
        None => {
            let all = DropReason::ALL.iter();
            all.map(|reason| api::Drop::new(*reason, None, 0, None))
                .collect()
        }
        Some(reason) => {
            let kept = Client::new(common).kept_drops(reason);
            let kept = kept.or_else(|error| match error.exit {
                // Nobody to ask; what the reason means is known all the same.
                Exit::NotRunning => Ok(Vec::new()),
                Exit::Done | Exit::Failed | Exit::Usage | Exit::No => Err(error),
            })?;
            if kept.is_empty() {
                vec![api::Drop::new(reason, None, 0, None)]
            } else {
                kept
            }
        }
    };
    if common.json {
        json(common, serde_json::to_string(&drops))
    } else {
        print(common.colour, &show::explain::reasons(&drops))
    }
}

/// The sessions as `conntrack -L` prints them: lines to stdout, their number to stderr.
fn conntrack(common: &Common, pairs: Vec<Pair>) -> Outcome {
    let client = Client::new(common);
    let body = client.table(&Table::Nat(pairs))?;
    let nat: api::Nat = client.read(&body)?;
    let count = nat.sessions.len();
    message(common, &format!("conntrack lines of {count} sessions"));
    print(common.colour, &show::conntrack::lines(&nat.sessions))
}

/// What goes below the ports' counters.
fn workers(client: &Client<'_>, view: View) -> Result<String, CliError> {
    if !view.stats {
        return Ok(String::new());
    }
    let body = client.table(&Table::Status)?;
    screen(client, &body, |status| show::worker::workers(&status, view))
}

fn screen<T: DeserializeOwned>(
    client: &Client<'_>,
    body: &[u8],
    render: impl FnOnce(T) -> String,
) -> Result<String, CliError> {
    client.read(body).map(render)
}

fn change(common: &Common, mutation: &Mutation) -> Outcome {
    let client = Client::new(common);
    let body = client.change(mutation)?;
    if common.json {
        return print_json(common, &body);
    }
    let done: api::Done = client.read(&body)?;
    message(common, &done.message);
    Ok(Exit::Done)
}

fn config_check(common: &Common, file: &Path) -> Outcome {
    let source = Source {
        file: Some(file.into()),
        ..Source::default()
    };
    let settings = source.load()?;
    if common.json {
        return json(common, check::to_json(&settings));
    }
    let text = check::to_toml(&settings).map_err(|error| unwritten(&error))?;
    print(common.colour, &text)
}

fn manual(common: &Common, directory: &Path) -> Outcome {
    let written = man::write_all(directory).map_err(|error| {
        CliError::failed(
            directory.display().to_string(),
            error.to_string(),
            "--out DIR",
        )
    })?;
    message(
        common,
        &format!("{} pages written to {}", written.len(), directory.display()),
    );
    Ok(Exit::Done)
}

fn json(common: &Common, text: Result<String, serde_json::Error>) -> Outcome {
    let text = text.map_err(|error| unwritten(&error))?;
    print(common.colour, &format!("{text}\n"))
}

/// Writes an answer's JSON to stdout as it came, so that keys a newer switch has are not lost.
///
/// # Errors
/// As [`print()`].
pub fn print_json(common: &Common, body: &[u8]) -> Outcome {
    print(
        common.colour,
        &format!("{}\n", String::from_utf8_lossy(body)),
    )
}

/// Writes data to stdout, coloured where that is wanted. A reader that has gone (`| head`) has
/// what it wanted, so that is success.
///
/// # Errors
/// Stdout cannot be written to, as when a disk is full.
pub fn print(colour: Colour, text: &str) -> Outcome {
    write(colour, text.as_bytes())
}

fn write(colour: Colour, bytes: &[u8]) -> Outcome {
    write_on(colour, bytes).map(|_| Exit::Done)
}

/// As [`print()`], for data that goes on and on: breaks where the reader has gone.
///
/// # Errors
/// Stdout cannot be written to, as when a disk is full.
pub fn print_on(colour: Colour, text: &str) -> Result<ControlFlow<()>, CliError> {
    write_on(colour, text.as_bytes())
}

fn write_on(colour: Colour, bytes: &[u8]) -> Result<ControlFlow<()>, CliError> {
    let mut out = AutoStream::new(io::stdout().lock(), choice(colour));
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(ControlFlow::Continue(())),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ControlFlow::Break(())),
        Err(error) => Err(unwritten(&error)),
    }
}

/// Writes a line for the operator to stderr, unless `-q` was given.
pub fn message(common: &Common, text: &str) {
    if !common.quiet {
        to_stderr(common.colour, &format!("{}\n", printable(text)));
    }
}

fn tell(colour: Colour, error: &CliError) {
    let text = error.to_string();
    let (bad, rest) = (
        show::table::BAD,
        text.strip_prefix("error:").unwrap_or(&text),
    );
    to_stderr(colour, &format!("{bad}error:{bad:#}{rest}\n"));
}

fn to_stderr(colour: Colour, text: &str) {
    let mut out = AutoStream::new(io::stderr().lock(), choice(colour));
    // Where stderr itself fails there is nobody left to tell; the exit code still says it.
    let _unheard = out.write_all(text.as_bytes());
}

/// Whether what is drawn on stdout is to have colours.
pub(crate) fn coloured(colour: Colour) -> bool {
    match colour {
        Colour::Auto => AutoStream::choice(&io::stdout()) != ColorChoice::Never,
        Colour::Always => true,
        Colour::Never => false,
    }
}

const fn choice(colour: Colour) -> ColorChoice {
    match colour {
        Colour::Auto => ColorChoice::Auto,
        Colour::Always => ColorChoice::Always,
        Colour::Never => ColorChoice::Never,
    }
}

fn unwritten(error: &dyn std::error::Error) -> CliError {
    CliError::failed("the output", error.to_string(), "")
}
