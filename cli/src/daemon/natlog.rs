//! The log of mappings: who had which external port when (RFC 6888 REQ-12).
//!
//! # Theory of operation
//! One line for each mapping that begins or ends, without any destination: what an operator needs
//! to answer a complaint about an address and a port, and nothing about whom anybody talks to. The
//! words are those of VPP's nat plugin (nat_syslog.c):
//!
//! ```text
//! 2026-11-22T10:00:00.123Z APMADD tcp 10.77.0.11:40122 192.0.2.10:61007
//! 2026-11-22T10:06:01.002Z APMDEL tcp 10.77.0.11:40122 192.0.2.10:61007
//! 2026-11-22T10:06:01.002Z LOST 17
//! ```
//!
//! `START` and `STOP` are the switch's own: with it all mappings begin and end. A `START` without
//! a `STOP` before it tells of a switch that was killed.
//!
//! A thread of its own writes them, behind a bounded queue: a disk or a syslog daemon that is slow
//! or stuck delays that thread and nothing else. What finds the queue full, and what cannot be
//! written, is lost; how much is said in the log where it is missing, and on stderr.
//!
//! The file is opened anew on SIGHUP, as logrotate wants it. Syslog gets a datagram for each line
//! in the form of RFC 3164 (section 4.1) without a time of its own, as the line has one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use nat::MappingView;

use crate::args::Common;
use crate::config::NatLog;
use crate::dispatch::message;
use crate::error::CliError;
use crate::show::moment;

/// Portions of lines that may wait: of 16,384 lines of 80 bytes at most, 84 MB; of the usual
/// hundred, 0.5 MB.
const PORTIONS_MAX: usize = 64;

/// Where syslog listens (`_PATH_LOG` in syslog.h).
const SYSLOG: &str = "/dev/log";

/// Facility daemon, severity informational (RFC 3164 section 4.1.1).
const PRIORITY: u8 = 3 * 8 + 6;

/// How long the log may take to write what waits when the switch stops.
const STOP_PATIENCE: Duration = Duration::from_secs(2);

/// How long syslog may keep one datagram waiting.
const SYSLOG_PATIENCE: Duration = Duration::from_secs(1);

/// The log as the hub knows it. Dropping it writes what waits.
pub(super) struct Log {
    to: Option<Sender<Portion>>,
    /// Lines left out since the last portion that got through.
    lost: u64,
    reopen: bool,
    /// Gives nothing, and closes with the thread.
    ended: Receiver<()>,
}

#[derive(Default)]
struct Portion {
    /// Whole lines, each with its end.
    text: String,
    lines: u64,
    /// Lines missing before these.
    lost: u64,
    /// To be done before these are written.
    reopen: bool,
}

/// The line of a mapping.
pub(super) fn line(time: &str, word: &str, mapping: &MappingView) -> String {
    let MappingView {
        protocol,
        inside,
        external,
    } = mapping;
    let (proto, (inside, port)) = (protocol.name(), inside);
    let (external, external_port) = external;
    format!("{time} {word} {proto} {inside}:{port} {external}:{external_port}\n")
}

/// The line of the log's own beginning or end.
pub(super) fn mark(word: &str) -> String {
    format!("{} {word}\n", moment::iso(moment::now()))
}

/// Opens the log and starts the thread that writes it.
///
/// # Errors
/// The file, or syslog's socket, cannot be opened; no thread can be had.
pub(super) fn open(target: &NatLog, common: &Common) -> Result<Log, CliError> {
    let sink = Sink::open(target).map_err(|error| {
        let fix = match target {
            NatLog::File(path) => format!("ls -ld {}", parent(path).display()),
            NatLog::Syslog => "systemctl start systemd-journald, or --nat-log FILE".into(),
        };
        CliError::failed(target.to_string(), error.to_string(), fix)
    })?;
    let (to, portions) = bounded(PORTIONS_MAX);
    let mut writer = Writer {
        target: target.clone(),
        sink: Some(sink),
        common: common.clone(),
        lost: 0,
        is_torn: false,
        trouble: None,
    };
    let (ending, ended) = bounded::<()>(0);
    super::spawn("nat-log", move || {
        writer.run(&portions);
        drop(ending);
    })?;
    Ok(Log {
        to: Some(to),
        lost: 0,
        reopen: false,
        ended,
    })
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| *parent != Path::new(""));
    parent.unwrap_or(Path::new("."))
}

impl Log {
    /// Counts lines that were lost before they came here.
    pub(super) const fn lose(&mut self, lines: u64) {
        self.lost = self.lost.saturating_add(lines);
    }

    /// Has the file opened anew before anything else is written.
    pub(super) fn reopen(&mut self) {
        self.reopen = true;
        self.pass_on(Portion::default());
    }

    /// Passes lines on to be written. Never waits.
    pub(super) fn write(&mut self, lines: impl Iterator<Item = String>) {
        let mut portion = Portion::default();
        for line in lines {
            portion.text += &line;
            portion.lines += 1;
        }
        if portion.lines > 0 || self.lost > 0 || self.reopen {
            self.pass_on(portion);
        }
    }

    fn pass_on(&mut self, mut portion: Portion) {
        portion.lost = std::mem::take(&mut self.lost);
        portion.reopen = std::mem::take(&mut self.reopen);
        let Some(to) = &self.to else { return };
        match to.try_send(portion) {
            Ok(()) => {}
            Err(TrySendError::Full(portion) | TrySendError::Disconnected(portion)) => {
                self.lost = portion.lost + portion.lines;
                self.reopen = portion.reopen;
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let Some(to) = self.to.take() else { return };
        if self.lost > 0 {
            let portion = Portion {
                lost: self.lost,
                ..Portion::default()
            };
            let _ = to.send_timeout(portion, STOP_PATIENCE);
        }
        drop(to);
        // A disk that is stuck must not keep the switch from stopping: then the thread ends with
        // the process.
        let _ = self.ended.recv_timeout(STOP_PATIENCE);
    }
}

/// The thread that writes.
struct Writer {
    target: NatLog,
    sink: Option<Sink>,
    common: Common,
    /// Lines that could not be written since the last that could.
    lost: u64,
    /// A write ended within a line.
    is_torn: bool,
    /// What went wrong last, so that it is said once.
    trouble: Option<String>,
}

impl Writer {
    fn run(&mut self, portions: &Receiver<Portion>) {
        for portion in portions {
            self.write(&portion);
        }
        if self.lost > 0 {
            self.say(&format!("{} lines lost at the end", self.lost));
        }
    }

    fn write(&mut self, portion: &Portion) {
        if portion.reopen {
            self.sink = None;
        }
        self.lost += portion.lost;
        let lost = self.lost;
        let mut text = String::new();
        if self.is_torn {
            text.push('\n');
        }
        if lost > 0 {
            text += &format!("{} LOST {lost}\n", moment::iso(moment::now()));
        }
        text += &portion.text;
        // Lines in front of the portion's own.
        let own_after = u64::from(self.is_torn) + u64::from(lost > 0);
        let mut written = 0;
        let result = self.put(&text, &mut written);
        if written >= own_after {
            self.lost = 0;
        }
        match result {
            Ok(()) => {
                if lost > 0 {
                    self.say(&format!("{lost} lines lost; it is written again"));
                }
                self.trouble = None;
            }
            Err(error) => {
                let own = written.saturating_sub(own_after);
                self.lost += portion.lines.saturating_sub(own);
                // Opened anew at the next portion: what failed may have been replaced.
                self.sink = None;
                let why = error.to_string();
                if self.trouble.as_ref() != Some(&why) {
                    self.say(&format!("{why}; lines are lost"));
                    self.trouble = Some(why);
                }
            }
        }
    }

    /// Writes whole lines and counts those that are written.
    fn put(&mut self, text: &str, written: &mut u64) -> io::Result<()> {
        let sink = match &mut self.sink {
            Some(sink) => sink,
            empty @ None => empty.insert(Sink::open(&self.target)?),
        };
        match sink {
            Sink::File(file) => put_all(file, text.as_bytes(), written, &mut self.is_torn),
            Sink::Syslog(socket) => {
                let pid = std::process::id();
                for line in text.lines() {
                    socket.send(format!("<{PRIORITY}>vswitch[{pid}]: {line}").as_bytes())?;
                    *written += 1;
                }
                Ok(())
            }
        }
    }

    fn say(&self, text: &str) {
        message(&self.common, &format!("warning: {}: {text}", self.target));
    }
}

/// As `write_all`; counts the lines that are whole, and says whether the last is not.
fn put_all(
    mut to: impl Write,
    mut bytes: &[u8],
    lines: &mut u64,
    is_torn: &mut bool,
) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => {
                let (done, rest) = bytes.split_at_checked(length).unwrap_or((bytes, &[]));
                *lines += done.iter().filter(|byte| **byte == b'\n').count() as u64;
                *is_torn = done.last() != Some(&b'\n');
                bytes = rest;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Where lines go.
enum Sink {
    File(File),
    Syslog(UnixDatagram),
}

impl Sink {
    fn open(target: &NatLog) -> io::Result<Self> {
        match target {
            // Not for everybody: it tells which container was behind which port.
            NatLog::File(path) => OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o640)
                .open(path)
                .map(Self::File),
            NatLog::Syslog => Self::syslog(Path::new(SYSLOG)),
        }
    }

    fn syslog(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(SYSLOG_PATIENCE))?;
        socket.connect(path)?;
        Ok(Self::Syslog(socket))
    }
}

#[cfg(test)]
mod tests;
