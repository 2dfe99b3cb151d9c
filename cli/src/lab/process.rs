//! Programs that run in a host of the lab.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use super::error::{Result, While};
use super::network::Host;

/// How long [`Process::stop`] gives a program to end by itself when it goes out of scope.
const GRACE: Duration = Duration::from_secs(3);
/// How long the last output of a killed program is waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// What a program has written so far.
#[derive(Debug, Default)]
struct Output {
    stdout: Vec<String>,
    stderr: Vec<String>,
    /// Streams that have not ended yet.
    open: u32,
}

#[derive(Debug, Default)]
struct Shared {
    output: Mutex<Output>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Output> {
        // A reader that panicked between two lines has left whole lines behind.
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

/// A program in a host; it is ended by its own process id when the value goes out of scope.
#[derive(Debug)]
pub struct Process {
    child: Child,
    shared: Arc<Shared>,
    readers: Vec<JoinHandle<()>>,
    name: String,
}

impl Host {
    /// Starts a program in this host: standard input is empty, standard output and error are kept
    /// in memory line by line.
    ///
    /// The program gets a process group of its own, so that a Ctrl-C at the terminal reaches us
    /// alone and we decide in what order things end; and it starts with no signal blocked.
    ///
    /// # Errors
    /// Whatever starting a program says, for example `ENOENT`.
    pub fn spawn(&self, command: &mut Command) -> Result<Process> {
        self.start(command, Stdio::null())
    }

    /// As [`spawn`](Self::spawn), but standard input is a pipe that nothing is written to and that
    /// stays open as long as the [`Process`]: for programs that end when their input does. Such a
    /// program ends even when this one is killed.
    ///
    /// # Errors
    /// As [`spawn`](Self::spawn).
    pub fn spawn_attended(&self, command: &mut Command) -> Result<Process> {
        self.start(command, Stdio::piped())
    }

    fn start(&self, command: &mut Command, stdin: Stdio) -> Result<Process> {
        use std::os::unix::process::CommandExt;
        let name = command.get_program().to_string_lossy().into_owned();
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let what = || format!("start {name} in {}", self.label());
        let child = self.attempt(what, || {
            // This thread ends with the closure; a child inherits the mask of the one that forks.
            SigSet::empty().thread_set_mask()?;
            command.spawn()
        })?;
        Process::of_child(child, name)
    }
}

impl Process {
    fn of_child(mut child: Child, name: String) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let mut process = Self {
            child,
            shared,
            readers: Vec::new(),
            name,
        };
        if let Some(stdout) = stdout {
            process.read_from(stdout, Stream::Stdout)?;
        }
        if let Some(stderr) = stderr {
            process.read_from(stderr, Stream::Stderr)?;
        }
        Ok(process)
    }

    fn read_from(&mut self, source: impl Read + Send + 'static, stream: Stream) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.lock().open += 1;
        let reader = thread::Builder::new()
            .name("lab-output".to_owned())
            .spawn(move || {
                read_lines(source, |line| {
                    let mut output = shared.lock();
                    match stream {
                        Stream::Stdout => output.stdout.push(line),
                        Stream::Stderr => output.stderr.push(line),
                    }
                    shared.changed.notify_all();
                });
                shared.lock().open -= 1;
                shared.changed.notify_all();
            });
        let reader = reader.while_doing(|| format!("read what {} prints", self.name))?;
        self.readers.push(reader);
        Ok(())
    }

    /// The program, as it was started.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The lines of standard output so far.
    #[must_use]
    pub fn stdout(&self) -> Vec<String> {
        self.shared.lock().stdout.clone()
    }

    /// The lines of standard error so far.
    #[must_use]
    pub fn stderr(&self) -> Vec<String> {
        self.shared.lock().stderr.clone()
    }

    /// Waits at most `timeout` for a line, on either stream, that `wanted` accepts, and returns
    /// the first such line; also lines printed before the call count.
    ///
    /// `None` when the time is over, or both streams have ended without such a line.
    #[must_use]
    pub fn wait_line(
        &self,
        timeout: Duration,
        mut wanted: impl FnMut(&str) -> bool,
    ) -> Option<String> {
        let mut found = None;
        let waited =
            self.shared
                .changed
                .wait_timeout_while(self.shared.lock(), timeout, |output| {
                    let mut lines = output.stdout.iter().chain(&output.stderr);
                    found = lines.find(|line| wanted(line)).cloned();
                    found.is_none() && output.open > 0
                });
        drop(waited);
        found
    }

    /// The exit status, if the program has ended.
    ///
    /// # Errors
    /// Whatever `waitpid(2)` says.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Waits at most `timeout` for the program to end; `None` when it still runs.
    ///
    /// # Errors
    /// Whatever `waitpid(2)` says.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        // A program closes its streams at the latest by ending.
        let still_open = |output: &mut Output| output.open > 0;
        let waited =
            self.shared
                .changed
                .wait_timeout_while(self.shared.lock(), timeout, still_open);
        let ended = waited.map_or(true, |(output, _)| output.open == 0);
        if !ended {
            return self.child.try_wait();
        }
        self.wait_after_streams(timeout)
    }

    /// The streams have ended: either the program is about to, or it closed them on purpose.
    #[expect(
        clippy::disallowed_methods,
        reason = "no system call waits for a child with a time limit"
    )]
    fn wait_after_streams(&mut self, timeout: Duration) -> io::Result<Option<ExitStatus>> {
        const PAUSE: Duration = Duration::from_millis(2);
        let mut left = timeout;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(Some(status));
            }
            if left.is_zero() {
                return Ok(None);
            }
            thread::sleep(PAUSE);
            left = left.saturating_sub(PAUSE);
        }
    }

    /// Sends a signal to the program.
    ///
    /// # Errors
    /// `ESRCH` when it has ended and been waited for.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).map_err(io::Error::other)?;
        kill(Pid::from_raw(pid), signal).map_err(io::Error::from)
    }

    /// Asks the program to end (SIGTERM), kills it when it has not after `grace`, and returns its
    /// exit status.
    ///
    /// # Errors
    /// Whatever `kill(2)` and `waitpid(2)` say.
    pub fn stop(&mut self, grace: Duration) -> io::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        if let Some(status) = self.wait(grace)? {
            return Ok(status);
        }
        self.child.kill()?;
        let status = self.child.wait()?;
        // What it wrote last is still on its way to us; a grandchild may hold the pipe for ever.
        let _ = self.wait(LAST_WORDS)?;
        Ok(status)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A program that cannot be stopped has been waited for already.
        let _ = self.stop(GRACE);
        let streams_ended = self.shared.lock().open == 0;
        if streams_ended {
            for reader in self.readers.drain(..) {
                let _ = reader.join();
            }
        }
        // Otherwise a grandchild holds the pipe; its reader ends when that one does.
    }
}

fn read_lines(source: impl Read, mut each: impl FnMut(String)) {
    let mut source = BufReader::new(source);
    let mut line = Vec::new();
    loop {
        line.clear();
        match source.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                each(text.trim_end_matches(['\n', '\r']).to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns;
    use crate::lab::Lab;

    #[test]
    fn a_program_lives_in_its_host_and_ends_with_its_value() {
        let mut lab = Lab::anonymous();
        let host = match lab.host("h") {
            Ok(host) => host,
            Err(err) => return println!("SKIPPED process: {err}"),
        };
        let script = "readlink /proc/self/ns/net; echo to-stderr >&2; exec sleep 60";
        let process = host.spawn(Command::new("sh").args(["-c", script])).unwrap();
        let line = process.wait_line(Duration::from_secs(5), |line| line.starts_with("net:"));
        let inode = host.netns().id().unwrap().ino;
        assert_eq!(line.unwrap(), format!("net:[{inode}]"));
        assert_ne!(inode, netns::current_id().unwrap().ino);
        let seconds = Duration::from_secs(5);
        assert!(
            process
                .wait_line(seconds, |line| line == "to-stderr")
                .is_some()
        );
        assert_eq!(process.stderr(), ["to-stderr"]);
        let pid = process.id();
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists());
        drop(process);
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn an_attended_program_sees_no_end_of_input_while_its_value_lives() {
        let mut lab = Lab::anonymous();
        let host = match lab.host("h") {
            Ok(host) => host,
            Err(err) => return println!("SKIPPED process input: {err}"),
        };
        let script = "echo ready; read line; echo ended";
        let command = || {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let mut process = host.spawn_attended(&mut command()).unwrap();
        let seconds = Duration::from_secs(5);
        assert!(process.wait_line(seconds, |line| line == "ready").is_some());
        assert_eq!(process.wait(Duration::from_millis(100)).unwrap(), None);
        let ended = host.spawn(&mut command()).unwrap();
        assert!(ended.wait_line(seconds, |line| line == "ended").is_some());
        assert!(!process.stdout().contains(&"ended".to_owned()));
    }

    #[test]
    fn waiting_ends_when_the_program_does() {
        let mut lab = Lab::anonymous();
        let host = match lab.host("h") {
            Ok(host) => host,
            Err(err) => return println!("SKIPPED process wait: {err}"),
        };
        let mut process = host
            .spawn(Command::new("sh").args(["-c", "echo x; exit 7"]))
            .unwrap();
        let none = process.wait_line(Duration::from_secs(60), |line| line == "never");
        assert_eq!(none, None, "both streams have ended");
        let status = process.wait(Duration::from_secs(5)).unwrap().unwrap();
        assert_eq!(status.code(), Some(7));
        let stubborn = "trap '' TERM; echo ready; while :; do sleep 1; done";
        let mut process = host
            .spawn(Command::new("sh").args(["-c", stubborn]))
            .unwrap();
        let second = Duration::from_secs(5);
        assert!(process.wait_line(second, |line| line == "ready").is_some());
        let status = process.stop(Duration::from_millis(50)).unwrap();
        assert!(!status.success());
        assert!(host.spawn(&mut Command::new("/nonexistent")).is_err());
    }
}
