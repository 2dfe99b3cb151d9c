//! Programs that everybody has, as clients and servers through the switch: what they print is the
//! judgement.
//!
//! Each test needs programs that are not part of this project. Where one is not installed the test
//! is skipped and says which package has it; `.ci/run` installs them all.

mod captures;
mod files;
mod floods;
mod injection;
mod natdiscovery;
mod scans;
mod trace;
mod transfer;
mod web;

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use vswitch_cli::lab::traffic::tcp;
use vswitch_cli::lab::{Host, Process};

use super::world::{eventually, run_dir};

/// An address and a MAC of the switch's own on the uplink.
const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 50);
const OWN_ARGS: &str = "--uplink-address 203.0.113.50/24 --uplink-mac 02:00:5e:10:00:50";
/// Where daemons lie, which a user's PATH often leaves out.
const SYSTEM_DIRS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// Longer than any program here runs, even on a machine that does something else as well.
const LIMIT: Duration = Duration::from_secs(40);
/// The programs that tests may need, and the packages of Debian and its kin that have them.
const PACKAGES: [(&str, &str); 22] = [
    ("turnserver", "coturn"),
    ("turnutils_natdiscovery", "coturn"),
    ("traceroute", "traceroute"),
    ("tracepath", "iputils-tracepath"),
    ("ping", "iputils-ping"),
    ("hping3", "hping3"),
    ("nmap", "nmap"),
    ("wrk", "wrk"),
    ("nginx", "nginx-light"),
    ("iperf3", "iperf3"),
    ("curl", "curl"),
    ("lftp", "lftp"),
    ("vsftpd", "vsftpd"),
    ("in.tftpd", "tftpd-hpa"),
    ("tftp", "tftp-hpa"),
    ("nft", "nftables"),
    ("timeout", "coreutils"),
    ("sh", "dash"),
    ("tshark", "tshark"),
    ("capinfos", "wireshark-common"),
    ("editcap", "wireshark-common"),
    ("tcpdump", "tcpdump"),
];

/// Whether all `programs` are installed; if not, a word on standard output says that the calling
/// test is skipped, and why.
#[expect(
    clippy::print_stdout,
    reason = "a skipped test says so where tests are reported"
)]
pub(super) fn installed(programs: &[&str]) -> bool {
    let lacking = programs.iter().filter(|program| find(program).is_none());
    let mut packages: Vec<&str> = lacking.map(|program| package(program)).collect();
    packages.dedup();
    if packages.is_empty() {
        return true;
    }
    let test = thread::current();
    let (test, packages) = (test.name().unwrap_or("a test"), packages.join(" "));
    println!("SKIPPED {test}: apt install {packages}");
    false
}

fn package(program: &str) -> &'static str {
    let known = PACKAGES.iter().find(|(name, _)| *name == program);
    known.expect("every program has its package named").1
}

fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let directories = env::split_paths(&path).chain(SYSTEM_DIRS.map(PathBuf::from));
    let mut candidates = directories.map(|directory| directory.join(program));
    candidates.find(|path| {
        let file = fs::metadata(path);
        file.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

/// What a program printed, and whether it ended well.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) success: bool,
    pub(super) lines: Vec<String>,
    pub(super) errors: Vec<String>,
}

impl Said {
    /// Whether a line of either stream contains `part`.
    pub(super) fn has(&self, part: &str) -> bool {
        let mut lines = self.lines.iter().chain(&self.errors);
        lines.any(|line| line.contains(part))
    }

    /// Asserts that a line of either stream contains `part`.
    pub(super) fn expect(&self, part: &str) {
        assert!(self.has(part), "no `{part}` in {self:#?}");
    }
}

/// A program and its arguments, split at blanks.
pub(super) fn command(words: &str) -> Command {
    let mut words = words.split_whitespace();
    let program = words.next().expect("a program");
    let mut command = Command::new(find(program).unwrap_or_else(|| program.into()));
    command.args(words).env("LC_ALL", "C");
    command
}

/// Runs a program in `host` until it ends.
pub(super) fn run(host: &Host, words: &str) -> Said {
    finished(host.spawn(&mut command(words)).unwrap(), words)
}

/// As [`run`]; it must end well.
pub(super) fn run_well(host: &Host, words: &str) -> Said {
    let said = run(host, words);
    assert!(said.success, "{words}: {said:#?}");
    said
}

/// Runs a shell's command line in `host` until it ends.
pub(super) fn shell(host: &Host, line: &str) -> Said {
    let mut command = command("sh -c");
    finished(host.spawn(command.arg(line)).unwrap(), line)
}

/// Waits for the end of a program.
pub(super) fn finished(mut process: Process, words: &str) -> Said {
    let status = process.wait(LIMIT).unwrap();
    let (lines, errors) = (process.stdout(), process.stderr());
    let status = status.unwrap_or_else(|| panic!("{words} does not end: {lines:#?} {errors:#?}"));
    Said {
        success: status.success(),
        lines,
        errors,
    }
}

/// Starts a server in `host` and waits until it listens on TCP `port` of `address`.
pub(super) fn serve(host: &Host, words: &str, address: Ipv4Addr, port: u16) -> Process {
    let server = host.spawn(&mut command(words)).unwrap();
    let listens = || tcp::connect(host, (address, port)).is_ok();
    eventually(&format!("{words}: {:?}", server.stderr()), listens);
    server
}

/// A directory that goes with its value.
#[derive(Debug)]
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn new() -> Self {
        let path = run_dir();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    /// Writes a file that anybody may read.
    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), content).unwrap();
        self.file(name)
    }

    pub(super) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // A directory left behind in the system's place for such is no failure.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Bytes without a period that a lost, doubled or moved part could hide behind.
pub(super) fn content(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    };
    (0..len).map(|_| byte()).collect()
}
