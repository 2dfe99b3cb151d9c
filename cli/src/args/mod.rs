//! The command line.
//!
//! Two steps, as in ripgrep: [`low`] is what was typed, word for word, as clap reads it; an
//! [`Invocation`] is what it means, checked as far as that is possible without touching the system.
//! iproute2's long options with one dash (`-json`, `-stats`, `-br`) are turned into ours before.

pub mod bench;
pub mod low;
pub mod run;
pub mod tables;

mod capture;
mod iproute;
mod latency;
mod metrics;
mod monitor;
mod nat;
mod plugin;
pub(crate) mod replay;
mod top;
mod trace;
mod usage;
mod why;

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches};
use switch::mac::Mac;
use switch::verdict::DropReason;

use crate::config::settings::{NAME_DEFAULT, PortWord, RUN_DIR_DEFAULT};
use crate::config::{Layer, PublishedAt, Source};
use crate::control::api::EventKind;
use crate::control::instance::socket_path;
use crate::control::select::Pair;
use crate::error::CliError;
use crate::plugin::extcap::ExtcapPlan;
use crate::record::RecordPlan;
use crate::replay::{LivePlan, OfflinePlan};
use crate::top::TopPlan;

pub use bench::{BenchPlan, ReportPlan};
pub use capture::{CapturePlan, Rotation};
pub use low::{Colour, Shell};
pub use plugin::{PluginPlan, PluginVerb};
pub use trace::{TracePlan, WhatIfPacket, WhatIfPlan};

/// What the program is asked to do.
#[derive(Debug)]
pub struct Invocation {
    /// What goes with every command.
    pub common: Common,
    /// The command.
    pub action: Action,
}

/// What goes with every command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Common {
    /// The vswitch spoken of.
    pub name: String,
    /// Where its socket, lock and journal are.
    pub run_dir: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// Print JSON.
    pub json: bool,
    /// Print no messages but errors.
    pub quiet: bool,
    /// How many times `-v` was given.
    pub verbose: u8,
    /// Whether to colour.
    pub colour: Colour,
}

/// How a table is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct View {
    /// `-s`: with counters.
    pub stats: bool,
    /// `-d`: with everything there is to know.
    pub details: bool,
    /// `-o`: one line for each record, no header.
    pub oneline: bool,
    /// `--brief`: the few columns a script wants, no header.
    pub brief: bool,
}

/// A command.
#[derive(Debug)]
pub enum Action {
    /// Run a switch in the foreground.
    Run(Box<Source>),
    /// Print the commands by which the kernel would do what `run` does.
    ExplainRun(Box<Source>),
    /// Show a table or the status.
    Show(Table, View),
    /// Show NAT sessions as `conntrack -L` does.
    Conntrack(Vec<Pair>),
    /// Show what becomes of the RFCs' requirements.
    NatReport(View),
    /// Capture packets.
    Capture(Box<CapturePlan>),
    /// Say which ports there are to capture at.
    CaptureList,
    /// Show packets' ways through the switch.
    Trace(Box<TracePlan>),
    /// Say what would become of a packet.
    WhatIf(WhatIfPlan),
    /// Print events of a running switch as they happen.
    Monitor(MonitorPlan),
    /// Show how long frames take, or write it to a file.
    Latency(LatencyPlan),
    /// Print what a running switch counts for Prometheus, or a dashboard for it.
    Metrics(MetricsPlan),
    /// Show everything at a glance.
    Top(TopPlan),
    /// Make ports appear in another program, or say whether they do.
    Plugin(PluginPlan),
    /// Answer Wireshark.
    Extcap(ExtcapPlan),
    /// Change something in a running switch.
    Change(Mutation),
    /// Explain one reason for drops, or all.
    Explain(Option<DropReason>),
    /// Tell what became of the packets to an address.
    Why(WhyPlan),
    /// Look whether this machine is ready.
    Doctor(DoctorPlan),
    /// Undo what a killed vswitch left behind.
    Clean(CleanPlan),
    /// Show it all in two namespaces.
    Demo(DemoPlan),
    /// Measure this switch beside others.
    Bench(BenchPlan),
    /// Make a page of what was measured.
    Report(ReportPlan),
    /// Record all that comes in.
    Record(RecordPlan),
    /// Run a capture through a switch in memory.
    ReplayOffline(Box<OfflinePlan>),
    /// Send a capture to an interface.
    ReplayLive(LivePlan),
    /// Check a configuration file and print what it comes to.
    ConfigCheck(PathBuf),
    /// Print a shell's completion script.
    Completion(Shell),
    /// Print the manual page, or write all of them to a directory.
    Man(Option<PathBuf>),
}

/// What can be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Table {
    /// Ports.
    Ports,
    /// The forwarding table.
    Fdb,
    /// Neighbours.
    Neighbours,
    /// NAT sessions, those that the pairs select.
    Nat(Vec<Pair>),
    /// Drops, of one reason only where one is named.
    Drops,
    /// The switch as a whole.
    Status,
}

/// What can be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mutation {
    /// Open a port; the text is a port word with its options, already checked.
    PortAdd(String),
    /// Close a port.
    PortDel(String),
    /// Move a port to another worker.
    PortSet(String, u16),
    /// Fix a station to a port.
    FdbAdd(Mac, String),
    /// Forget a station.
    FdbDel(Mac),
    /// Forget all learned stations, or those of one port.
    FdbFlush(Option<String>),
    /// End the NAT sessions that the pairs select; all of them if there are none.
    NatFlush(Vec<Pair>),
    /// Lead ports of the host to members, as after `--publish`; already checked.
    NatPublish(String),
    /// Lead them nowhere any more.
    NatUnpublish(PublishedAt),
    /// Forget what was measured of latency.
    LatencyReset,
    /// Forget all neighbours.
    NeighFlush,
    /// Forget the packets kept of drops.
    DropsFlush,
}

/// What `latency` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LatencyPlan {
    /// Print it.
    Show(View),
    /// Write it to this file, as HdrHistogram's tools read it.
    Write(PathBuf),
}

/// What `metrics` is to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsPlan {
    /// The metrics as they are now.
    Scrape,
    /// A Grafana dashboard of them.
    Dashboard,
}

/// What `monitor` is to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorPlan {
    /// Events of the switch, of these kinds.
    pub kinds: Vec<EventKind>,
    /// The NAT's events.
    pub nat: bool,
    /// End after so many events, 1 or more; `None`: go on.
    pub count: Option<u64>,
}

/// What `why` is to tell of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WhyPlan {
    /// The address of the packets.
    pub dst: Ipv4Addr,
    /// Whose; `None`: anybody's.
    pub src: Option<Ipv4Addr>,
}

/// What `doctor` is to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoctorPlan {
    /// Ports to look at as well; empty: the machine only.
    pub ports: Vec<PortWord>,
    /// The uplink to look at as well.
    pub uplink: Option<String>,
}

/// What `clean` is to undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CleanPlan {
    /// The leftovers of one vswitch.
    Name(String),
    /// Those of every vswitch that is not running.
    All,
}

/// How `demo` is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DemoPlan {
    /// Leave namespaces and switch up until interrupted.
    pub keep: bool,
}

/// The command as clap knows it: for completion scripts and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    low::Low::command()
}

/// A parse that ends the program: a text asked for, or an error.
#[derive(Debug)]
pub enum Stop {
    /// `--help` or `--version`: a text for stdout, styled.
    Text(String),
    /// A command line that makes no sense.
    Error(CliError),
}

/// Reads a command line; `argv` includes the program's name.
///
/// # Errors
/// [`Stop`]: help was asked for, or the command line makes no sense.
pub fn parse(argv: impl IntoIterator<Item = OsString>) -> Result<Invocation, Stop> {
    let argv = iproute::long_forms(argv);
    let low = command()
        .try_get_matches_from(&argv)
        .and_then(|matches| low::Low::from_arg_matches(&matches))
        .map_err(|error| usage::stop(&error, &argv))?;
    low.invocation().map_err(Stop::Error)
}

impl Common {
    fn of(global: &low::Global) -> Self {
        let name = global.name.clone().unwrap_or_else(|| NAME_DEFAULT.into());
        let run_dir = (global.run_dir.clone()).unwrap_or_else(|| RUN_DIR_DEFAULT.into());
        let socket = global.socket.clone();
        let socket = socket.unwrap_or_else(|| socket_path(&run_dir, &name));
        Self {
            name,
            run_dir,
            socket,
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            colour: global.colour,
        }
    }
}

impl low::Low {
    fn invocation(self) -> Result<Invocation, CliError> {
        if let Some(verb) = &self.noun {
            self.check_root_flags(verb)?;
        }
        let global = self.global;
        if global.socket.is_some() && matches!(self.noun, None | Some(low::Noun::Run(_))) {
            let why = "a running vswitch names its own: RUN_DIR/NAME.sock";
            return Err(CliError::usage(
                "--socket",
                why,
                "--run-dir DIR --name NAME",
            ));
        }
        let common = Common::of(&global);
        let named = Layer {
            name: global.name,
            run_dir: global.run_dir,
            ..Layer::default()
        };
        let view = self.view;
        let action = match self.noun {
            None => self.run.action(named),
            Some(low::Noun::Run(run)) => run.action(named),
            Some(low::Noun::Port(noun)) => noun.action(view),
            Some(low::Noun::Fdb(noun)) => noun.action(view),
            Some(low::Noun::Neigh(noun)) => {
                noun.action(view, Table::Neighbours, Mutation::NeighFlush)
            }
            Some(low::Noun::Nat(noun)) => noun.action(view)?,
            Some(low::Noun::Capture(noun)) => noun.action()?,
            Some(low::Noun::Trace(noun)) => noun.action()?,
            Some(low::Noun::Monitor(noun)) => noun.action(),
            Some(low::Noun::Latency(noun)) => noun.action(view),
            Some(low::Noun::Metrics(noun)) => noun.action(),
            Some(low::Noun::Drops(noun)) => noun.action(view),
            Some(low::Noun::Why(noun)) => noun.action(),
            Some(low::Noun::Status(noun)) => Action::Show(Table::Status, noun.view.or(view)),
            Some(low::Noun::Top(noun)) => noun.action(common.json),
            Some(low::Noun::Plugin(noun)) => noun.action(),
            Some(low::Noun::Extcap(noun)) => noun.action()?,
            Some(low::Noun::Doctor(doctor)) => Action::Doctor(doctor.plan()),
            Some(low::Noun::Clean(clean)) => Action::Clean(match (clean.all, clean.target) {
                (true, _) => CleanPlan::All,
                (false, Some(name)) => CleanPlan::Name(name),
                (false, None) => CleanPlan::Name(common.name.clone()),
            }),
            Some(low::Noun::Demo(demo)) => Action::Demo(DemoPlan { keep: demo.keep }),
            Some(low::Noun::Bench(bench)) => bench.action()?,
            Some(low::Noun::Report(report)) => report.action()?,
            Some(low::Noun::Record(record)) => record.action(),
            Some(low::Noun::Replay(replay)) => replay.action(named)?,
            Some(low::Noun::Config(low::ConfigVerb::Check { file })) => Action::ConfigCheck(file),
            Some(low::Noun::Completion { shell }) => Action::Completion(shell),
            Some(low::Noun::Man { out }) => Action::Man(out),
        };
        Ok(Invocation { common, action })
    }

    /// Run flags and table flags before a noun: the former go with `run` only, the latter with
    /// tables only.
    fn check_root_flags(&self, noun: &low::Noun) -> Result<(), CliError> {
        if self.run != run::RunArgs::default() {
            let what = format!("run flags before `{}`", noun.word());
            let why = "they belong to `vswitch run`";
            return Err(CliError::usage(
                what,
                why,
                format!("vswitch {0} --help", noun.word()),
            ));
        }
        if self.view != low::ViewArgs::default() && !noun.is_table() {
            let what = format!("-s, -d, -o or --brief before `{}`", noun.word());
            return Err(CliError::usage(
                what,
                "they belong to tables",
                "vswitch -s port",
            ));
        }
        Ok(())
    }
}
