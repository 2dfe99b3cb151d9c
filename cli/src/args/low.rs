//! What was typed: the command line as clap reads it. The doc comments here are the help texts.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::bench::{Bench, Report};
use super::monitor::MonitorNoun;
use super::run::RunArgs;
use super::tables::{DropsNoun, FdbNoun, FlushNoun, PortNoun, StatusNoun};
use super::{DoctorPlan, View};
use crate::config::settings::PortWord;
use crate::config::words::{self, Why};

const EXAMPLES: &str = "\
Examples:
  vswitch --ports veth1,veth2 --uplink eth0   switch two containers, NAT to eth0
  vswitch --ports tap:vm0,veth1 --no-nat      a switch only
  vswitch fdb                                 who is on which port
  vswitch -s port                             counters of every port
  vswitch drops                               why frames died, and what fixes it
  vswitch -j nat | jq '.sessions[].inside'    the same data for scripts

Exit codes: 0 done, 1 failed, 2 usage, 3 nothing running, 4 the answer is no.";

/// A switch and NAT gateway in one process, that tells what happened to every frame
///
/// Without a command, runs a switch in the foreground (`vswitch run`). Any unique beginning of a
/// command will do.
#[derive(Debug, Parser)]
#[command(name = "vswitch", version, after_help = EXAMPLES, infer_subcommands = true)]
#[command(disable_help_subcommand = true, max_term_width = 100)]
pub struct Low {
    /// Flags that go anywhere.
    #[command(flatten)]
    pub global: Global,
    /// Flags of tables.
    #[command(flatten)]
    pub view: ViewArgs,
    /// Flags of `run`.
    #[command(flatten)]
    pub run: RunArgs,
    /// The command.
    #[command(subcommand)]
    pub noun: Option<Noun>,
}

/// Flags that go anywhere.
#[derive(Debug, Args)]
pub struct Global {
    /// The vswitch to run or to speak to [default: vswitch0]
    #[arg(long, global = true, env = "VSWITCH_NAME", hide_env = true, value_parser = words::name)]
    pub name: Option<String>,
    /// Directory of sockets, locks and journals [default: /run/vswitch]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub run_dir: Option<PathBuf>,
    /// Control socket to speak to [default: RUN_DIR/NAME.sock]
    #[arg(long, global = true, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub socket: Option<PathBuf>,
    /// Print JSON
    #[arg(short, long, global = true)]
    pub json: bool,
    /// Print no messages but errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print more messages
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Colour the output: auto, always, never [default: auto]
    #[arg(short, long = "color", global = true, value_name = "WHEN", value_enum)]
    #[arg(num_args = 0..=1, require_equals = true, hide_possible_values = true)]
    #[arg(
        default_value = "auto",
        default_missing_value = "always",
        hide_default_value = true
    )]
    pub colour: Colour,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, and as NO_COLOR and CLICOLOR_FORCE say.
    Auto,
    /// Also into a pipe.
    Always,
    /// Never.
    Never,
}

/// Flags of tables, before the noun or after it.
#[derive(Debug, Args, Clone, Copy, PartialEq, Eq, Default)]
pub struct ViewArgs {
    /// Show counters
    #[arg(short, long)]
    pub stats: bool,
    /// Show everything there is to know
    #[arg(short, long)]
    pub details: bool,
    /// One line for each record, without a header
    #[arg(short, long)]
    pub oneline: bool,
    /// Only the columns a script wants, without a header
    #[arg(long)]
    pub brief: bool,
}

impl ViewArgs {
    /// The flags of both places.
    pub(super) const fn or(self, other: Self) -> View {
        View {
            stats: self.stats || other.stats,
            details: self.details || other.details,
            oneline: self.oneline || other.oneline,
            brief: self.brief || other.brief,
        }
    }

    pub(super) const fn plus(self, other: Self) -> Self {
        let View {
            stats,
            details,
            oneline,
            brief,
        } = self.or(other);
        Self {
            stats,
            details,
            oneline,
            brief,
        }
    }
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Noun {
    /// Run a switch in the foreground; the default
    #[command(after_help = "Example: vswitch run --config /etc/vswitch/lab.toml")]
    Run(Box<RunArgs>),
    /// Ports: show, add, move to another worker, delete
    #[command(
        after_help = "Example: vswitch -s port\n         vswitch port add tap:web0\n         \
                            vswitch port set veth1 worker=1"
    )]
    Port(PortNoun),
    /// Forwarding table: which station is on which port
    #[command(after_help = "Example: vswitch fdb add 02:00:00:00:00:0b dev veth1")]
    Fdb(FdbNoun),
    /// Neighbours of the gateway: IP address to MAC address
    #[command(after_help = "Example: vswitch neigh\n         vswitch neigh flush")]
    Neigh(FlushNoun),
    /// NAT sessions: show, end; what becomes of the RFCs' requirements
    #[command(
        after_help = "Example: vswitch nat proto tcp host 10.77.0.11\n         \
                            vswitch nat --format conntrack\n         vswitch -j nat | jq .summary"
    )]
    Nat(Box<super::nat::NatNoun>),
    /// Packets themselves, as text or as pcapng, with tcpdump's letters
    #[command(
        after_help = "Example: sudo vswitch capture -i veth1 tcp port 80\n         \
                            sudo vswitch capture -w run.pcapng; tshark -r run.pcapng\n         \
                            sudo vswitch capture -w - | wireshark -k -i -\n         \
                            sudo vswitch capture --drops"
    )]
    Capture(Box<super::capture::CaptureNoun>),
    /// What happened to packets on their way, decision by decision
    #[command(
        after_help = "A filter matches packets before or after NAT and then follows their \
                            session.\n\n\
                            Example: sudo vswitch trace icmp and host 10.77.0.11 -c 2\n         \
                            sudo vswitch trace drop\n         \
                            sudo vswitch trace --paths tcp port 443\n         \
                            sudo vswitch trace -w run.trace; vswitch trace -r run.trace\n         \
                            vswitch trace --what-if veth1 'icmp 10.77.0.11 > 1.1.1.1 ttl 1'"
    )]
    Trace(Box<super::trace::TraceNoun>),
    /// What happens, as it happens: ports, stations, guards, drops, NAT sessions
    #[command(
        after_help = "Without a word: all but nat, of which there is much. nat alone prints as \
                      conntrack -E does.\n\n\
                      Example: vswitch monitor\n         vswitch monitor port drop\n         \
                      vswitch -j monitor nat -c 10"
    )]
    Monitor(MonitorNoun),
    /// How long frames take, by pair of ports; what each worker is bound by
    #[command(
        after_help = "Stages: wait in the ring; process, to the verdicts; send, until the kernel \
                            took the batch.\n\n\
                            Example: vswitch latency\n         vswitch latency --reset\n         \
                            vswitch latency --hdr latency.hlog"
    )]
    Latency(super::latency::LatencyNoun),
    /// What is counted, for Prometheus; a dashboard of it for Grafana
    #[command(after_help = "Example: vswitch metrics | grep drops\n         \
                            vswitch metrics dashboard > vswitch-dashboard.json")]
    Metrics(super::metrics::MetricsNoun),
    /// Why frames were dropped, and what fixes it
    #[command(
        after_help = "Example: vswitch drops\n         vswitch drops --why NO_ROUTE\n         \
                            vswitch drops flush"
    )]
    Drops(DropsNoun),
    /// What became of the packets to an address, and what is known of it now
    #[command(
        after_help = "Tells of the dropped packets to it that are kept, under whatever address \
                      they were\ntranslated to; exit code 4 where nothing is known.\n\n\
                      Example: vswitch why --dst 10.77.0.11\n         \
                      vswitch why --src 10.77.0.11 --dst 1.1.1.1"
    )]
    Why(super::why::WhyNoun),
    /// The switch as a whole: workers, totals, whether every frame is accounted for
    #[command(after_help = "Example: vswitch status")]
    Status(StatusNoun),
    /// Everything at a glance, live: ports, flows, NAT, drops
    #[command(
        after_help = "Example: vswitch top\n         vswitch top --once\n         \
                            vswitch top -m stream -d 5"
    )]
    Top(super::top::TopNoun),
    /// The ports in other programs: install, status, remove
    #[command(
        subcommand,
        after_help = "Example: vswitch plugin install extcap && tshark -D"
    )]
    Plugin(super::plugin::PluginNoun),
    /// What Wireshark asks of a program in its extcap folder
    #[command(
        hide = true,
        after_help = "Example: vswitch extcap --extcap-interfaces"
    )]
    Extcap(super::plugin::ExtcapNoun),
    /// Look whether this machine is ready
    #[command(after_help = "Example: vswitch doctor --ports veth1 --uplink eth0")]
    Doctor(Doctor),
    /// Undo what a killed vswitch left behind
    #[command(after_help = "Example: vswitch clean vswitch0\n         vswitch clean --all")]
    Clean(Clean),
    /// Two namespaces, a switch and a ping, then nothing left behind
    #[command(after_help = "Example: sudo vswitch demo")]
    Demo(Demo),
    /// Measure this switch beside others, in namespaces made for it
    #[command(
        after_help = "Ratios are vswitch : other, round by round; where spreads overlap, or \
                            from fewer than\n3 rounds, there is no winner. Processor seconds: \
                            the forwarder's / the whole machine's.\n\n\
                            Example: sudo vswitch bench --vs bridge,ovs --test tcp,rr -o run.json"
    )]
    Bench(Bench),
    /// Make a page of what `bench` or `iperf3 -J` measured
    #[command(after_help = "Example: vswitch report run.json -o run.html")]
    Report(Report),
    /// All that comes into a running switch, to be replayed
    #[command(after_help = "Example: vswitch record -w bug.pcapng\n         \
                            vswitch replay bug.pcapng --offline")]
    Record(super::replay::Record),
    /// A capture once more: through a switch in memory, or out of an interface
    #[command(
        after_help = "Example: vswitch replay web.pcapng --offline -w verdicts.pcapng\n         \
                            vswitch replay web.pcapng -i veth1 -x 2"
    )]
    Replay(Box<super::replay::Replay>),
    /// Configuration files
    #[command(
        subcommand,
        after_help = "Example: vswitch config check /etc/vswitch/lab.toml"
    )]
    Config(ConfigVerb),
    /// Print a shell's completion script
    #[command(after_help = "Example: vswitch completion bash > \
                            /usr/share/bash-completion/completions/vswitch")]
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write one for each command
    #[command(after_help = "Example: vswitch man | man -l -")]
    Man {
        /// Directory to write all pages to
        #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
        out: Option<PathBuf>,
    },
}

impl Noun {
    /// The word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Port(_) => "port",
            Self::Fdb(_) => "fdb",
            Self::Neigh(_) => "neigh",
            Self::Nat(_) => "nat",
            Self::Capture(_) => "capture",
            Self::Trace(_) => "trace",
            Self::Monitor(_) => "monitor",
            Self::Latency(_) => "latency",
            Self::Metrics(_) => "metrics",
            Self::Drops(_) => "drops",
            Self::Why(_) => "why",
            Self::Status(_) => "status",
            Self::Top(_) => "top",
            Self::Plugin(_) => "plugin",
            Self::Extcap(_) => "extcap",
            Self::Doctor(_) => "doctor",
            Self::Clean(_) => "clean",
            Self::Demo(_) => "demo",
            Self::Bench(_) => "bench",
            Self::Report(_) => "report",
            Self::Record(_) => "record",
            Self::Replay(_) => "replay",
            Self::Config(_) => "config",
            Self::Completion { .. } => "completion",
            Self::Man { .. } => "man",
        }
    }

    pub(super) const fn is_table(&self) -> bool {
        matches!(
            self,
            Self::Port(_)
                | Self::Fdb(_)
                | Self::Neigh(_)
                | Self::Nat(_)
                | Self::Drops(_)
                | Self::Latency(_)
                | Self::Status(_)
        )
    }
}

/// A shell that completion scripts are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// Fish.
    Fish,
    /// Elvish.
    Elvish,
}

/// Port words given together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortList(pub Vec<PortWord>);

/// Reads port words separated by commas.
pub(super) fn port_list(text: &str) -> Result<PortList, Why> {
    words::port_words(text).map(PortList)
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Ports to look at as well
    #[arg(long, value_name = "A,B", value_parser = port_list)]
    pub ports: Vec<PortList>,
    /// Uplink to look at as well
    #[arg(long, value_name = "IF", value_parser = words::interface)]
    pub uplink: Option<String>,
}

impl Doctor {
    pub(super) fn plan(self) -> DoctorPlan {
        DoctorPlan {
            ports: self.ports.into_iter().flat_map(|list| list.0).collect(),
            uplink: self.uplink,
        }
    }
}

/// `clean`.
#[derive(Debug, Args)]
pub struct Clean {
    /// The vswitch whose leftovers to undo [default: --name]
    #[arg(value_name = "NAME", value_parser = words::name)]
    pub target: Option<String>,
    /// Those of every vswitch that is not running
    #[arg(long, conflicts_with = "target")]
    pub all: bool,
}

/// `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave it running until Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// `config …`.
#[derive(Debug, Subcommand)]
pub enum ConfigVerb {
    /// Check a file and print the settings it comes to
    Check {
        /// The file
        #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}
