//! `capture …`: what was typed.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum, ValueHint};
use switch::filter::{About, Filter};
use switch::pcapng::Direction;

use super::Action;
use super::trace::filter;
use crate::config::words::{self, Why};
use crate::control::watch::{Capture, Form, SNAP_BYTES_MAX, Watch};
use crate::error::CliError;

/// `capture …`: the letters are tcpdump's.
#[derive(Debug, Args)]
pub struct CaptureNoun {
    /// Only packets that match, before or after NAT; see `vswitch trace --help`
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Only what comes in or goes out there; repeatable
    #[arg(short, long, value_name = "PORT", value_parser = words::device)]
    interface: Vec<String>,
    /// Write pcapng to a file, or with `-` to stdout
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    write: Option<PathBuf>,
    /// Read such a file (or pcap) instead of a running switch, and print it
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with_all = ["write", "interface", "drops", "gso"])]
    read: Option<PathBuf>,
    /// End after so many packets (-c N for short)
    #[arg(long, value_name = "N", value_parser = words::count)]
    count: Option<u64>,
    /// Keep so many bytes of each packet [default: all]
    #[arg(short, long, value_name = "BYTES", value_parser = snap)]
    snapshot_length: Option<u32>,
    /// Begin another file after so many million bytes; FILE, FILE1, FILE2 and so on
    #[arg(short = 'C', long, value_name = "MB", value_parser = words::count, requires = "write")]
    file_size: Option<u64>,
    /// Begin another file every so many seconds; FILE may have %Y %m %d %H %M %S %F %T %s in it
    #[arg(short = 'G', long, value_name = "SECS", value_parser = words::count, requires = "write")]
    rotate_seconds: Option<u64>,
    /// With -C: no more files than these, the oldest is overwritten. With -G: end after so many
    #[arg(short = 'W', long, value_name = "N", value_parser = words::count, requires = "write")]
    file_count: Option<u64>,
    /// Only what comes in, or what goes out
    #[arg(
        short = 'Q',
        long,
        value_name = "in|out|inout",
        value_enum,
        hide_possible_values = true
    )]
    direction: Option<Way>,
    /// Frames longer than the MTU, which are still to be segmented: as they are, or in segments
    #[arg(long, value_name = "keep|cut", value_enum, hide_possible_values = true)]
    gso: Option<Gso>,
    /// Only what is dropped
    #[arg(long)]
    drops: bool,
    /// List the ports
    #[arg(short = 'D', long)]
    list_interfaces: bool,
    /// Write each packet at once
    #[arg(short = 'U', long)]
    packet_buffered: bool,
    /// Print Ethernet addresses too
    #[arg(short = 'e', long)]
    ethernet: bool,
    /// Accepted for tcpdump's sake: names are never looked up
    #[arg(short = 'n', long = "numeric", hide = true)]
    _numeric: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    In,
    Out,
    Inout,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Gso {
    Keep,
    Cut,
}

/// What `capture` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturePlan {
    /// Which packets, and what of them.
    pub watch: Watch,
    /// Where they go; `None`: lines of text; `-`: stdout.
    pub write: Option<PathBuf>,
    /// Where they come from, if not from a running switch.
    pub read: Option<PathBuf>,
    /// End after so many, 1 or more; `None`: go on.
    pub count: Option<u64>,
    /// When another file is begun.
    pub rotation: Rotation,
    /// Each packet is written at once.
    pub unbuffered: bool,
    /// Lines have Ethernet addresses.
    pub ethernet: bool,
}

/// When another file is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rotation {
    /// After so many bytes.
    pub bytes: Option<u64>,
    /// After so many seconds.
    pub seconds: Option<u64>,
    /// How many files there are at most.
    pub files: Option<u64>,
}

impl CaptureNoun {
    pub(super) fn action(self) -> Result<Action, CliError> {
        if self.list_interfaces {
            return Ok(Action::CaptureList);
        }
        let rotation = Rotation {
            bytes: self
                .file_size
                .map(|millions| millions.saturating_mul(1_000_000)),
            seconds: self.rotate_seconds,
            files: self.file_count,
        };
        let is_pipe = self
            .write
            .as_deref()
            .is_some_and(|path| path.as_os_str() == "-");
        if is_pipe && rotation != Rotation::default() {
            let why = "stdout is one file";
            return Err(CliError::usage("-C, -G or -W with -w -", why, "-w FILE"));
        }
        if rotation.files.is_some() && rotation.bytes.is_none() && rotation.seconds.is_none() {
            let why = "it says how many files there are, and neither -C nor -G when one ends";
            return Err(CliError::usage("-W", why, "-C 100 -W 5"));
        }
        let capture = Capture {
            snap_bytes: self.snapshot_length.unwrap_or(SNAP_BYTES_MAX),
            segments: self.gso == Some(Gso::Cut),
            drops: self.drops,
            direction: match self.direction {
                Some(Way::In) => Some(Direction::Inbound),
                Some(Way::Out) => Some(Direction::Outbound),
                Some(Way::Inout) | None => None,
            },
        };
        let filter = filter(&self.filter)?;
        if let Some(file) = &self.read {
            readable(&filter, file)?;
        }
        Ok(Action::Capture(Box::new(CapturePlan {
            watch: Watch {
                filter,
                ports: self.interface,
                follow: false,
                form: Form::Capture(capture),
                ..Watch::default()
            },
            write: self.write,
            read: self.read,
            count: self.count,
            rotation,
            unbuffered: self.packet_buffered,
            ethernet: self.ethernet,
        })))
    }
}

/// Refuses what a capture does not say of each of its packets: the verdict is told of a packet
/// where it came in, in words.
fn readable(filter: &Filter, file: &Path) -> Result<(), CliError> {
    let found = filter.about().find_map(|about| match about {
        About::Drop => Some(("drop", " on drops".to_owned())),
        About::Reason(reason) => Some(("reason", format!(" on drops | grep {reason}"))),
        About::Nat => Some(("nat", " | grep -F '[nat '".to_owned())),
        About::Port(_) | About::Worker(_) => None,
    });
    let Some((word, rest)) = found else {
        return Ok(());
    };
    let why = "a capture does not say this of each packet";
    let fix = format!("vswitch capture -r {}{rest}", file.display());
    Err(CliError::usage(word, why, fix))
}

/// tcpdump's 0 is all.
fn snap(text: &str) -> Result<u32, Why> {
    if text == "0" {
        return Ok(SNAP_BYTES_MAX);
    }
    words::number(text, (14, SNAP_BYTES_MAX.into()))
}
