//! The fixture: namespaces, a run directory, and the program in them.

use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use serde_json::Value;
use vswitch_cli::host::netlink::Netlink;
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::lab::{Host, Lab, Plan, Process, Topology};

use super::snapshot::Snapshot;

/// Longer than anything here takes on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
pub(super) const SECOND: Duration = Duration::from_secs(1);

/// An IPv6 address that the kernel still looks for elsewhere (`linux/if_addr.h`).
const IFA_F_TENTATIVE: u8 = 0x40;

/// Networks and a run directory; all of it goes when the value does.
pub(super) struct Bed {
    pub(super) net: Topology,
    run_dir: PathBuf,
}

/// How a program that was not meant to run ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) stderr: Vec<String>,
}

impl Bed {
    /// That many containers, behind `veth1`, `veth2`, ...; `None`, with a printed reason, where the
    /// kernel has no namespaces, veths or TAPs for us.
    pub(super) fn new(containers: u8) -> Option<Self> {
        let test = thread::current();
        let skip = |why: &str| println!("SKIPPED {}: {why}", test.name().unwrap_or("a test"));
        if !Path::new("/dev/net/tun").exists() {
            skip("no /dev/net/tun");
            return None;
        }
        let plan = Plan {
            containers,
            ..Plan::default()
        };
        match Topology::build(Lab::new("life"), plan) {
            Ok(net) => Some(Self {
                net,
                run_dir: empty_dir(),
            }),
            Err(err) => {
                let missing = [
                    Errno::EPERM,
                    Errno::EACCES,
                    Errno::EOPNOTSUPP,
                    Errno::ENOSYS,
                ];
                let is_missing = err.errno().is_some_and(|errno| missing.contains(&errno));
                assert!(is_missing, "{err}");
                skip(&err.to_string());
                None
            }
        }
    }

    pub(super) fn h(&self) -> &Host {
        &self.net.h
    }

    pub(super) fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The host as it is now, with the run directory.
    pub(super) fn snapshot(&self) -> Snapshot {
        // An interface that gets IPv6 back has its address a moment later.
        eventually("no address is tentative", || {
            let read = || std::fs::read_to_string("/proc/thread-self/net/if_inet6");
            let addresses = self
                .h()
                .attempt(|| "read addresses".to_owned(), read)
                .unwrap();
            addresses.lines().all(|line| {
                let flags = line.split_whitespace().nth(4).unwrap();
                u8::from_str_radix(flags, 16).unwrap() & IFA_F_TENTATIVE == 0
            })
        });
        Snapshot::take(self.h(), &self.run_dir)
    }

    /// The program with words split at blanks.
    pub(super) fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vswitch"));
        for variable in [
            "VSWITCH_NAME",
            "NO_COLOR",
            "CLICOLOR_FORCE",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
        ] {
            command.env_remove(variable);
        }
        command.arg("--run-dir").arg(&self.run_dir);
        command.args(words.split_whitespace());
        command
    }

    /// Starts a switch on the host and waits until it is ready.
    pub(super) fn start(&self, words: &str) -> Running<'_> {
        self.start_command(&mut self.command(words))
    }

    /// As [`start`](Self::start), with a command made by the test.
    pub(super) fn start_command(&self, command: &mut Command) -> Running<'_> {
        let process = self.h().spawn(command).unwrap();
        let running = Running { bed: self, process };
        running.hears("ready in");
        running
    }

    /// Runs the program on the host until it ends.
    pub(super) fn run(&self, words: &str) -> Ended {
        self.run_command(&mut self.command(words))
    }

    /// As [`run`](Self::run), with a command made by the test.
    pub(super) fn run_command(&self, command: &mut Command) -> Ended {
        let mut process = self.h().spawn(command).unwrap();
        let status = process.wait(PATIENCE).unwrap();
        let status = status.unwrap_or_else(|| panic!("it still runs: {:#?}", process.stderr()));
        Ended {
            code: status.code(),
            stderr: process.stderr(),
        }
    }

    /// Runs the program as a client of a running one.
    pub(super) fn client(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs a client that must succeed, and gives what it said to the operator.
    pub(super) fn does(&self, words: &str) -> String {
        let output = self.client(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{words}: {said}");
        said.trim_end().to_owned()
    }

    /// Runs a client that must be refused, and gives the exit code and the line.
    pub(super) fn refused(&self, words: &str) -> (i32, String) {
        let output = self.client(words);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{words}: {said}");
        (output.status.code().unwrap(), said.trim_end().to_owned())
    }

    /// What `vswitch -j WORDS` prints.
    pub(super) fn json(&self, words: &str) -> Value {
        let output = self.client(&format!("-j {words}"));
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words}: {error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The rows of a table in which a key has a value.
    pub(super) fn rows(&self, words: &str, key: &str, value: &str) -> Vec<Value> {
        let table = self.json(words);
        let rows = table.as_array().unwrap().iter();
        rows.filter(|row| row[key] == value).cloned().collect()
    }

    /// State of a port, in the words of `ip link`.
    pub(super) fn operstate(&self, device: &str) -> String {
        let rows = self.rows("port", "ifname", device);
        let row = rows.first().unwrap_or_else(|| panic!("no port {device}"));
        row["operstate"].as_str().unwrap().to_owned()
    }

    /// Whether `from` gets an answer from an address within a second.
    pub(super) fn reaches(&self, from: &Host, to: Ipv4Addr) -> bool {
        let ping = Ping::to(to);
        let report = from.attempt(|| "ping".to_owned(), || ping.run()).unwrap();
        report.is_perfect()
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.run_dir);
    }
}

/// A switch that runs on the host of a bed.
pub(super) struct Running<'b> {
    bed: &'b Bed,
    pub(super) process: Process,
}

impl Running<'_> {
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits for a line that contains a text and returns it.
    pub(super) fn hears(&self, text: &str) -> String {
        let line = self.process.wait_line(PATIENCE, |line| line.contains(text));
        line.unwrap_or_else(|| panic!("no {text:?} in {:#?}", self.process.stderr()))
    }

    /// The lines said since there were `count` of them, the first of which contains a text.
    pub(super) fn says(&self) -> Vec<String> {
        self.process.stderr()
    }

    /// Ends it by a signal, as an operator does: exit code 0, a last line, no panic.
    pub(super) fn end(mut self, signal: Signal) -> Vec<String> {
        assert!(
            self.process.try_wait().unwrap().is_none(),
            "it has ended by itself"
        );
        self.process.signal(signal).unwrap();
        let status = self.process.wait(PATIENCE).unwrap();
        let said = self.process.stderr();
        assert_eq!(status.and_then(|s| s.code()), Some(0), "{said:#?}");
        let last = said.last().unwrap();
        assert!(last.starts_with("stopped: "), "{said:#?}");
        assert!(last.ends_with("; the host is as it was"), "{said:#?}");
        assert!(
            !said.iter().any(|line| line.contains("panicked")),
            "{said:#?}"
        );
        said
    }

    /// Ends it by SIGTERM and checks that the host is as it was.
    pub(super) fn ends_as_before(self, before: &Snapshot) {
        let bed = self.bed;
        self.end(Signal::SIGTERM);
        before.assert_same(&bed.snapshot());
    }

    /// Kills it.
    pub(super) fn kill(mut self) {
        self.process.signal(Signal::SIGKILL).unwrap();
        assert!(self.process.wait(PATIENCE).unwrap().is_some());
    }
}

/// Does something to the links of a host.
pub(super) fn netlink<T: Send>(
    host: &Host,
    act: impl FnOnce(&mut Netlink) -> io::Result<T> + Send,
) -> T {
    let what = || format!("act on links of {}", host.label());
    host.attempt(what, || act(&mut Netlink::open()?)).unwrap()
}

/// Index of an interface.
pub(super) fn index_of(host: &Host, name: &str) -> u32 {
    host.link(name).unwrap().index
}

/// Waits until it is so.
pub(super) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// How long a test that gains by length lasts: `VSWITCH_SOAK_SECONDS`, or `usual`.
pub(super) fn soak(usual: Duration) -> Duration {
    let asked = std::env::var("VSWITCH_SOAK_SECONDS").ok();
    let seconds = asked.and_then(|text| text.parse().ok());
    seconds.map_or(usual, Duration::from_secs)
}

/// A fresh directory that any user may write to.
fn empty_dir() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("vswlife-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o777)).unwrap();
    path
}
