//! What docs/replay.md shows is what is printed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::console;
use crate::cli::replay::{LAB, sample};
use crate::scratch::Scratch;

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/replay.md")
}

/// What a command prints, errors included; `None` where it is not one that can be run here.
fn printed(directory: &Path, command: &str) -> Option<String> {
    let mut words = command.split_whitespace();
    let mut program = match words.next()? {
        "vswitch" => Command::new(env!("CARGO_BIN_EXE_vswitch")),
        other => Command::new(other),
    };
    let output = program
        .args(words)
        .current_dir(directory)
        .env_remove("VSWITCH_NAME")
        .env("LC_ALL", "C.UTF-8")
        .output();
    let Ok(output) = output else {
        println!("SKIPPED `{command}`: its program is not here");
        return None;
    };
    let mut text = String::from_utf8(output.stderr).unwrap();
    if !command.starts_with("vswitch") {
        text.clear();
    }
    text.push_str(&String::from_utf8(output.stdout).unwrap());
    Some(text)
}

#[test]
fn replay_md_shows_what_is_printed() {
    let scratch = Scratch::new();
    scratch.file("web.pcapng", sample());
    let text = fs::read_to_string(page()).unwrap();
    assert!(
        text.contains(LAB),
        "the settings of the sample are those shown"
    );
    scratch.file("lab.toml", LAB);
    let steps = console::steps(&text);
    assert!(steps.len() >= 4, "{} commands", steps.len());
    let outputs: Vec<Option<String>> = (steps.iter())
        .map(|step| printed(scratch.path(), &step.command.replace("\\\n", " ")))
        .collect();
    let now = console::bless(&text, &outputs);
    if std::env::var_os("VSWITCH_BLESS").is_some() {
        fs::write(page(), &now).unwrap();
        return;
    }
    assert_eq!(text, now, "if it is meant: VSWITCH_BLESS=1 cargo test");
}
