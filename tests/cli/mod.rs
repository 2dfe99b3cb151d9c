//! The program as its users meet it: what it prints, how it ends, what the socket answers.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail as a test does"
)]

mod bench;
mod capture;
mod config;
mod control;
mod demo;
mod diff;
mod dropped;
mod latency;
mod metrics;
mod notify;
mod plugin;
pub(super) mod replay;
mod report;
mod screens;
mod top;
mod trace;
mod usage;
mod usdt;
mod world;

use std::path::Path;
use std::process::{Command, Output};

use crate::scratch::Scratch;

/// How a run of the program ended.
#[derive(Debug, PartialEq, Eq)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs the program with words split at blanks, and `extra` words as they are.
fn vswitch(words: &str, extra: &[&Path]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vswitch"));
    command.args(words.split_whitespace()).args(extra);
    for variable in [
        "VSWITCH_NAME",
        "NO_COLOR",
        "CLICOLOR_FORCE",
        "NOTIFY_SOCKET",
    ] {
        command.env_remove(variable);
    }
    ended(command.output().unwrap())
}

fn ended(output: Output) -> Ended {
    Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Compares with a committed file; with `VSWITCH_BLESS=1` in the environment, writes it.
fn snapshot(name: &str, text: &str) {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = manifest.join("../tests/cli/snapshots").join(name);
    if std::env::var_os("VSWITCH_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, committed,
        "{name}; if it is meant: VSWITCH_BLESS=1 cargo test"
    );
}
