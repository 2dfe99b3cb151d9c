//! The journal: every change of the host, written down before it is made.
//!
//! # Theory of operation
//!
//! `DIR/NAME.journal` holds JSON lines. The first is the [`Head`]: who owns it and in which network
//! namespace. Each [`Change`] gets a numbered line, appended and fsync'ed *before* the change is
//! made, those of many ports together ([`Journal::record_all`]); a line `{"undone":N}` follows once
//! it has been undone. So whatever moment the process dies at, the file names at least everything
//! that was touched: a torn last line is a change that was never made.
//!
//! Undoing is idempotent and tolerant, because after a SIGKILL the world has moved on: an interface
//! that is gone needs nothing, a value that somebody else has changed since is left alone and said.
//! The same code runs at exit ([`Journal::finish`]), in `vswitch clean` ([`clean`]) and at the next
//! start under the same name ([`Journal::open`]).
//!
//! A live owner holds `flock(2)` on the file, which the kernel releases with the process; the pid
//! and its start time are there for words, and for the case of a lock that was lost.
//! Things that vanish with the process (TCX links, nft owner tables, promiscuity of a packet
//! socket, TAPs that are not persistent) need no journal.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::netns::{self, Netns, NetnsId};

mod change;
mod leftovers;
#[cfg(test)]
mod tests;

pub use change::{Change, Interface};
pub use leftovers::{Cleaned, Found, clean, list};

/// Version of the file format.
const VERSION: u32 = 1;
/// Undone changes a file may hold; at about 300 bytes each, journal and undoing together.
const CLOSED_MAX: u32 = 128;
const BOOT_ID: &str = "kernel/random/boot_id";

/// First line of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Format version.
    pub vswitch_journal: u32,
    /// Name of the instance.
    pub name: String,
    /// Process that owns it.
    pub pid: u32,
    /// When that process started, in clock ticks since boot (field 22 of `/proc/PID/stat`).
    pub start_time: u64,
    /// Which boot: nothing that was changed before the last one is still there.
    pub boot_id: String,
    /// Network namespace in which the changes were made.
    pub netns: NetnsId,
}

impl Head {
    fn of_this_process(name: &str) -> io::Result<Self> {
        let pid = std::process::id();
        Ok(Self {
            vswitch_journal: VERSION,
            name: name.to_owned(),
            pid,
            start_time: start_time(pid).ok_or(io::ErrorKind::NotFound)?,
            boot_id: super::sysctl::read(BOOT_ID)?,
            netns: netns::current_id()?,
        })
    }

    /// Whether the owner, and not another process with its pid, still runs.
    #[must_use]
    pub fn owner_runs(&self) -> bool {
        start_time(self.pid) == Some(self.start_time)
            && super::sysctl::read(BOOT_ID).is_ok_and(|boot| boot == self.boot_id)
    }
}

/// Field 22 of `/proc/PID/stat`; the command in field 2 may contain anything, parentheses too.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let behind_command = &stat[stat.rfind(')')? + 1..];
    behind_command.split_whitespace().nth(19)?.parse().ok()
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Undone { undone: u64 },
    Change { seq: u64, change: Change },
}

/// What became of one change when it was undone.
#[derive(Debug)]
pub enum Outcome {
    /// It is as it was before.
    Restored,
    /// The interface (or its namespace) is gone, and the change with it.
    Gone,
    /// It was as before already: the change was never made, or was undone by hand.
    Unchanged,
    /// Somebody has changed it since; the text says what was found.
    LeftAlone(String),
    /// It could not be undone, and stays in the journal.
    Failed(io::Error),
}

/// One change and what became of it, for words.
#[derive(Debug)]
pub struct Undone {
    /// The change.
    pub change: Change,
    /// What became of it.
    pub outcome: Outcome,
}

impl Undone {
    /// Whether the change is still made.
    #[must_use]
    pub fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let change = &self.change;
        match &self.outcome {
            Outcome::Restored => write!(f, "restored: {change}"),
            Outcome::Gone => write!(f, "gone with its interface: {change}"),
            Outcome::Unchanged => write!(f, "was as before already: {change}"),
            Outcome::LeftAlone(found) => write!(f, "left alone: {change}: now {found}"),
            Outcome::Failed(err) => write!(f, "NOT restored: {change}: {err}"),
        }
    }
}

/// Why a journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another live process has this name.
    #[error("{name} is running already (pid {pid})")]
    Running {
        /// The instance.
        name: String,
        /// Its process; 0 when it is just starting.
        pid: u32,
    },
    /// The file is of another version or no journal.
    #[error("{}: not a journal of this version", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Number of a change in its journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The journal of this process; clones share one file.
#[derive(Debug, Clone)]
pub struct Journal(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    file: Flock<File>,
    next: u64,
    /// Made and not undone.
    open: BTreeMap<u64, Change>,
    /// Changes in the file that were undone since it was last shortened.
    closed: u32,
}

impl Journal {
    /// Takes the name `name` for this process: undoes what a dead process of that name left, then
    /// starts a fresh journal. What could not be undone is carried over into it.
    ///
    /// The directory is made when it is missing.
    ///
    /// # Errors
    /// [`JournalError::Running`] when a live process has the name.
    pub fn open(dir: &Path, name: &str) -> Result<(Self, Vec<Undone>), JournalError> {
        let path = journal_path(dir, name);
        let at = |source| JournalError::Io {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(dir).map_err(at)?;
        let (file, leftover) = lock(&path, true)?;
        let here = netns::current_id().map_err(at)?;
        let elsewhere = leftover
            .as_ref()
            .is_some_and(|left| left.head.netns != here);
        let undone = leftover
            .map(Leftover::undo)
            .transpose()
            .map_err(at)?
            .unwrap_or_default();
        if elsewhere && let Some(stuck) = undone.iter().find(|undone| undone.failed()) {
            // It cannot be carried over: the new journal is about this namespace.
            return Err(at(io::Error::other(stuck.to_string())));
        }
        let mut inner = Inner {
            path: path.clone(),
            file,
            next: 1,
            open: BTreeMap::new(),
            closed: 0,
        };
        let _ = fs::remove_file(fresh_path(&path));
        let head = Head::of_this_process(name).map_err(at)?;
        inner.start(&head).map_err(at)?;
        for left in undone.iter().filter(|undone| undone.failed()) {
            inner.record([left.change.clone()]).map_err(at)?;
        }
        Ok((Self(Arc::new(Mutex::new(inner))), undone))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // The file is consistent after every single line, so a panic elsewhere spoils nothing.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a change down; when this returns, it is on disk and may be made.
    ///
    /// # Errors
    /// Whatever `write(2)` and `fsync(2)` say: then the change must not be made.
    pub fn record(&self, change: Change) -> io::Result<Ticket> {
        let tickets = self.record_all([change])?;
        tickets
            .first()
            .copied()
            .ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// Writes many changes down with one write and one fsync, which on a disk takes milliseconds;
    /// when this returns, all are on disk and may be made. Tickets come in the changes' order.
    ///
    /// # Errors
    /// As [`record`](Self::record): then none of them must be made.
    pub fn record_all(&self, changes: impl IntoIterator<Item = Change>) -> io::Result<Vec<Ticket>> {
        let seqs = self.inner().record(changes)?;
        Ok(seqs.map(Ticket).collect())
    }

    /// Cancels a change that was written down and could not be made.
    ///
    /// # Errors
    /// As [`record`](Self::record).
    pub fn cancel(&self, ticket: Ticket) -> io::Result<()> {
        self.inner().close(&[ticket.0])
    }

    /// Writes a change down and makes it; when making it fails, the line is cancelled.
    ///
    /// # Errors
    /// As [`record`](Self::record), or what `make` said.
    pub fn make(
        &self,
        change: Change,
        make: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Ticket> {
        let ticket = self.record(change)?;
        match make() {
            Ok(()) => Ok(ticket),
            Err(err) => {
                self.cancel(ticket)?;
                Err(err)
            }
        }
    }

    /// Undoes one change, in the calling thread's network namespace. A ticket that was undone
    /// before gives `None`.
    #[must_use]
    pub fn undo(&self, ticket: Ticket) -> Option<Undone> {
        self.undo_all([ticket]).pop()
    }

    /// Undoes changes in this order and writes down at the end, and at once, that they are undone:
    /// should the process die before, they are undone a second time, which is harmless. Those
    /// undone before are left out of the answer.
    #[must_use]
    pub fn undo_all(&self, tickets: impl IntoIterator<Item = Ticket>) -> Vec<Undone> {
        let mut undone = Vec::new();
        let mut closed = Vec::new();
        for Ticket(seq) in tickets {
            let Some(change) = self.inner().open.get(&seq).cloned() else {
                continue;
            };
            let outcome = change.undo();
            if !matches!(outcome, Outcome::Failed(_)) {
                closed.push((seq, undone.len()));
            }
            undone.push(Undone { change, outcome });
        }
        let seqs: Vec<u64> = closed.iter().map(|(seq, _)| *seq).collect();
        if let Err(err) = self.inner().close(&seqs) {
            for (_, place) in closed {
                undone[place].outcome =
                    Outcome::Failed(io::Error::new(err.kind(), err.to_string()));
            }
        }
        undone
    }

    /// The changes that are made and not undone, oldest first.
    #[must_use]
    pub fn changes(&self) -> Vec<Change> {
        self.inner().open.values().cloned().collect()
    }

    /// Undoes everything that is still made, newest first, and removes the file unless something
    /// failed. The name is free afterwards, when the last clone is dropped at the latest.
    #[must_use]
    pub fn finish(&self) -> Vec<Undone> {
        let tickets: Vec<u64> = self.inner().open.keys().rev().copied().collect();
        let undone = self.undo_all(tickets.into_iter().map(Ticket));
        let inner = self.inner();
        if inner.open.is_empty() {
            // Still locked: nobody can have started writing to it.
            let _ = fs::remove_file(&inner.path);
        }
        undone
    }
}

impl Inner {
    fn start(&mut self, head: &Head) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.append([head])
    }

    fn append<T: Serialize>(&mut self, lines: impl IntoIterator<Item = T>) -> io::Result<()> {
        let mut text = String::new();
        for line in lines {
            text.push_str(&serde_json::to_string(&line)?);
            text.push('\n');
        }
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()
    }

    fn record(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
    ) -> io::Result<std::ops::Range<u64>> {
        let first = self.next;
        let changes: Vec<(u64, Change)> = (first..).zip(changes).collect();
        let line = |(seq, change): &(u64, Change)| Line::Change {
            seq: *seq,
            change: change.clone(),
        };
        if !changes.is_empty() {
            self.append(changes.iter().map(line))?;
        }
        self.next += changes.len() as u64;
        self.open.extend(changes);
        Ok(first..self.next)
    }

    fn close(&mut self, seqs: &[u64]) -> io::Result<()> {
        if seqs.is_empty() {
            return Ok(());
        }
        self.append(seqs.iter().map(|seq| Line::Undone { undone: *seq }))?;
        for seq in seqs {
            self.open.remove(seq);
        }
        let count = u32::try_from(seqs.len()).unwrap_or(u32::MAX);
        self.closed = self.closed.saturating_add(count);
        if self.closed >= CLOSED_MAX {
            self.closed = 0;
            // The long file is as good as a short one; the next time comes.
            let _ = self.shorten();
        }
        Ok(())
    }

    /// Leaves out of the file what was made and undone, so that ports that come and go for months
    /// do not fill `/run`. The short file is locked before it takes the long one's place.
    fn shorten(&mut self) -> io::Result<()> {
        let head = Head::of_this_process(&self.name())?;
        let fresh = fresh_path(&self.path);
        let _ = fs::remove_file(&fresh);
        let file = File::options()
            .read(true)
            .append(true)
            .create_new(true)
            .open(&fresh)?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|(_, errno)| io::Error::from(errno))?;
        let mut short = Self {
            path: self.path.clone(),
            file,
            next: self.next,
            open: BTreeMap::new(),
            closed: 0,
        };
        short.append([head])?;
        let lines = self.open.iter().map(|(seq, change)| Line::Change {
            seq: *seq,
            change: change.clone(),
        });
        short.append(lines)?;
        fs::rename(&fresh, &self.path)?;
        self.file = short.file;
        Ok(())
    }

    fn name(&self) -> String {
        let stem = self.path.file_stem().unwrap_or_default();
        stem.to_string_lossy().into_owned()
    }
}

/// Where a shortened journal is written before it takes the place of the long one.
fn fresh_path(journal: &Path) -> PathBuf {
    journal.with_extension("journal.new")
}

fn journal_path(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.journal"))
}

/// What a dead owner left.
struct Leftover {
    head: Head,
    changes: Vec<Change>,
}

impl Leftover {
    /// Undoes everything, newest first, in the namespace where it was made.
    ///
    /// # Errors
    /// When that namespace exists but cannot be entered; nothing was undone then.
    fn undo(self) -> io::Result<Vec<Undone>> {
        let same_boot = super::sysctl::read(BOOT_ID).is_ok_and(|boot| boot == self.head.boot_id);
        let here = netns::current_id().is_ok_and(|id| id == self.head.netns);
        let all = self.changes;
        if !same_boot {
            let gone = |change| Undone {
                change,
                outcome: Outcome::Gone,
            };
            return Ok(all.into_iter().map(gone).collect());
        }
        let each = move || -> Vec<Undone> {
            let undo = |change: Change| {
                let outcome = change.undo();
                Undone { change, outcome }
            };
            all.into_iter().rev().map(undo).collect()
        };
        if here {
            return Ok(each());
        }
        match find_netns(self.head.netns) {
            Some(netns) => netns.run(each),
            // Nobody is in it and it has no name: what was changed in it is gone with it.
            None => Ok(Vec::new()),
        }
    }
}

/// Finds a namespace by its identity: among the named ones, then among those of all processes.
fn find_netns(id: NetnsId) -> Option<Netns> {
    let is_it = |netns: &Netns| netns.id().is_ok_and(|found| found == id);
    let named = netns::names().unwrap_or_default();
    let mut named = named.iter().filter_map(|name| Netns::open(name).ok());
    if let Some(found) = named.find(is_it) {
        return Some(found);
    }
    let pids = fs::read_dir("/proc").ok()?.filter_map(|entry| {
        entry
            .ok()?
            .file_name()
            .into_string()
            .ok()?
            .parse::<u32>()
            .ok()
    });
    pids.filter_map(|pid| Netns::of_process(pid).ok())
        .find(is_it)
}

/// Opens and locks a journal; gives what a dead owner left in it, if anything. With `create`, a
/// missing file is made.
fn lock(path: &Path, create: bool) -> Result<(Flock<File>, Option<Leftover>), JournalError> {
    let at = |source| JournalError::Io {
        path: path.to_owned(),
        source,
    };
    loop {
        let file = File::options()
            .read(true)
            .append(true)
            .create(create)
            .open(path)
            .map_err(at)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => locked,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                let head = parse_head(&text);
                let name = path
                    .file_stem()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                return Err(JournalError::Running {
                    name,
                    pid: head.map_or(0, |head| head.pid),
                });
            }
            Err((_, errno)) => return Err(at(errno.into())),
        };
        // The last owner may have removed the file between our open and our lock.
        let current = fs::metadata(path).map(|meta| (meta.dev(), meta.ino()));
        let ours = file.metadata().map_err(at)?;
        if !current.is_ok_and(|id| id == (ours.dev(), ours.ino())) {
            continue;
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(at)?;
        if text.is_empty() || !text.contains('\n') {
            return Ok((file, None)); // Died before its head was written: nothing was changed.
        }
        let head = parse_head(&text).filter(|head| head.vswitch_journal == VERSION);
        let head = head.ok_or_else(|| JournalError::Foreign {
            path: path.to_owned(),
        })?;
        if head.owner_runs() && head.pid != std::process::id() {
            return Err(JournalError::Running {
                name: head.name,
                pid: head.pid,
            });
        }
        let changes = parse_changes(&text);
        return Ok((file, Some(Leftover { head, changes })));
    }
}

fn parse_head(text: &str) -> Option<Head> {
    serde_json::from_str(text.lines().next()?).ok()
}

/// The changes that are made and not undone, oldest first. A line that cannot be read is the torn
/// last one; behind it nothing was written.
fn parse_changes(text: &str) -> Vec<Change> {
    let mut open = BTreeMap::new();
    for line in text.lines().skip(1) {
        match serde_json::from_str(line) {
            Ok(Line::Change { seq, change }) => {
                open.insert(seq, change);
            }
            Ok(Line::Undone { undone }) => {
                open.remove(&undone);
            }
            Err(_) => break,
        }
    }
    open.into_values().collect()
}
