//! A forwarder that runs: its processes, its directory, and how it was started.
#![expect(
    clippy::disallowed_methods,
    reason = "starting a program of others means waiting until it has come so far"
)]

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::lab::{Host, Process};

use super::BedError;

/// Lines of a program's last words that an error repeats.
const LAST_LINES: usize = 4;
/// How long a thread may take to notice that it shall stop.
const STOP: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// What was started for one bed; its end is theirs.
#[derive(Debug)]
pub(super) struct Running {
    /// In the order of their start, which is the reverse of that of their end.
    pub(super) processes: Vec<Process>,
    /// Version, and how it was started.
    pub(super) description: String,
    /// Sockets, databases, journals: all that the processes put down.
    scratch: Option<Scratch>,
}

impl Running {
    /// No process yet, as it stays for a forwarder of the kernel.
    pub(super) fn new(description: String) -> Self {
        Self {
            processes: Vec::new(),
            description,
            scratch: None,
        }
    }

    /// Keeps the directory as long as the processes that use it.
    pub(super) fn keep(mut self, scratch: Scratch) -> Self {
        self.scratch = Some(scratch);
        self
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), BedError> {
        for process in &self.processes {
            process.signal(signal).map_err(|err| {
                let what = format!("send {signal} to {}", process.name());
                BedError::new(what, err.to_string(), "start the benchmark again")
            })?;
        }
        Ok(())
    }

    /// Stops the processes, and waits until their last thread has noticed.
    pub(super) fn stop(&self) -> Result<(), BedError> {
        self.signal(Signal::SIGSTOP)?;
        let pids = self.processes.iter().map(Process::id);
        wait_until(self, "stop the forwarder", STOP, || {
            pids.clone().all(has_stopped)
        })
    }

    /// The first process that has ended, with its last words.
    pub(super) fn ended(&self) -> Option<BedError> {
        let ended = self
            .processes
            .iter()
            .find(|process| has_ended(process.id()))?;
        Some(BedError::new(
            format!("keep {} running", ended.name()),
            format!("it has ended: {}", last_words(ended)),
            "read its words; they name what it lacks",
        ))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that is stopped does not hear that it shall end.
        let _ = self.signal(Signal::SIGCONT);
        while let Some(process) = self.processes.pop() {
            drop(process);
        }
    }
}

/// The state of a process or thread by its directory, as in proc_pid_stat(5); `None` if gone.
fn state(directory: &Path) -> Option<char> {
    let stat = fs::read_to_string(directory.join("stat")).ok()?;
    // The name, in parentheses, may contain anything.
    stat.rsplit(')').next()?.trim_start().chars().next()
}

/// Whether the process is a zombie or gone: a signal alone does not tell.
fn has_ended(pid: u32) -> bool {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    matches!(state(&directory), None | Some('Z' | 'X'))
}

/// Whether no thread of the process runs any more.
fn has_stopped(pid: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    let mut threads = threads.into_iter().flatten().flatten();
    // One that has gone meanwhile runs no more either.
    threads.all(|thread| matches!(state(&thread.path()), None | Some('T' | 'Z' | 'X')))
}

/// The end of what a program has printed.
pub(super) fn last_words(process: &Process) -> String {
    let mut lines = process.stderr();
    if lines.is_empty() {
        lines = process.stdout();
    }
    let from = lines.len().saturating_sub(LAST_LINES);
    match lines.get(from..) {
        Some(lines) if !lines.is_empty() => lines.join("; "),
        _ => "it said nothing".to_owned(),
    }
}

/// A directory of a bed's own; it goes with the value.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Result<Self, BedError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vswbed-{}-{count}", process::id());
        let path = std::env::temp_dir().join(name);
        let made = DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|err| {
            let what = format!("make the directory {}", path.display());
            let fix = "set TMPDIR to a directory that you may write to";
            BedError::new(what, err.to_string(), fix)
        })?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file in it, as text for a command line.
    pub(super) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// `text` with `$DIR` for the directory, which is another one each time.
    pub(super) fn hide(&self, text: &str) -> String {
        text.replace(&self.0.display().to_string(), "$DIR")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: it is in the directory for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The command line as a shell would take it, the program without its directory.
pub(super) fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or_default();
    let mut words = vec![name.to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| {
        let word = word.to_string_lossy().into_owned();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_=,./:@+$%".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word
        } else {
            format!("'{word}'")
        }
    }));
    words.join(" ")
}

/// Runs a command to its end in `host`, and returns what it printed.
pub(super) fn run(host: &Host, command: &mut Command, fix: &str) -> Result<String, BedError> {
    let text = line(command);
    let ran = host.attempt(
        || format!("run {text}"),
        || command.stdin(process::Stdio::null()).output(),
    )?;
    if ran.status.success() {
        return Ok(String::from_utf8_lossy(&ran.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
    let why = format!("{}: {words}", ran.status);
    Err(BedError::new(format!("run {text}"), why, fix))
}

/// The first line that `command` prints: programs asked for their version.
pub(super) fn version(host: &Host, command: &mut Command) -> Result<String, BedError> {
    let fix = "install its package again";
    let text = run(host, command, fix)?;
    Ok(text.lines().next().unwrap_or("").trim().to_owned())
}

/// Waits until `is_so`, at most `patience` and as long as the forwarder runs.
pub(super) fn wait_until(
    running: &Running,
    what: &str,
    patience: Duration,
    mut is_so: impl FnMut() -> bool,
) -> Result<(), BedError> {
    let until = Instant::now() + patience;
    while !is_so() {
        if let Some(ended) = running.ended() {
            return Err(ended);
        }
        if Instant::now() >= until {
            let why = format!("not after {} s", patience.as_secs());
            let words: Vec<_> = running.processes.iter().map(last_words).collect();
            let why = [why, words.join("; ")].join("; ");
            return Err(BedError::new(what, why, "try again on an idle machine"));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// The kernel's name and release.
pub(super) fn kernel() -> String {
    match nix::sys::utsname::uname() {
        Ok(name) => format!("Linux {}", name.release().to_string_lossy()),
        Err(_) => "Linux".to_owned(),
    }
}

/// The processors this process may use, as `0-3,6`.
pub(super) fn processors() -> io::Result<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let list = list.map(str::trim).filter(|list| !list.is_empty());
    list.map(str::to_owned)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_as_a_shell_takes_them() {
        let mut command = Command::new("/usr/bin/ovs-vsctl");
        command.args(["--db=unix:/tmp/x/db.sock", "find", "error!=[]", ""]);
        assert_eq!(
            line(&command),
            "ovs-vsctl --db=unix:/tmp/x/db.sock find 'error!=[]' ''"
        );
    }

    #[test]
    fn a_directory_goes_with_its_value_and_is_hidden_in_texts() {
        let scratch = Scratch::new().unwrap();
        let path = scratch.path().to_owned();
        fs::write(scratch.file("db.sock"), "x").unwrap();
        let text = format!("unix:{}", scratch.file("db.sock"));
        assert_eq!(scratch.hide(&text), "unix:$DIR/db.sock");
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn who_runs_has_not_ended() {
        assert!(!has_ended(process::id()));
        assert!(has_ended(u32::MAX));
        assert!(!processors().unwrap().is_empty());
    }
}
