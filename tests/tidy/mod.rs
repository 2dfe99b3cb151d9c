//! Style as a test: what a reader of this code may rely on. A rule is here if it is mechanical and
//! a review would miss its breach. All breaches are named at once, as `file:line: what`.
#![expect(
    clippy::unwrap_used,
    reason = "a helper of a test may fail as a test does"
)]

use std::fs;
use std::path::{Path, PathBuf};

mod requirements;

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;

/// Lines of product code (no comments, blank lines or tests): what 0.1.0 has and a tenth more.
/// Who needs room raises the number in the same change, so that a reviewer sees what it costs.
const BUDGETS: [(&str, usize); 3] = [("nat/", 9_700), ("switch/", 20_400), ("cli/", 42_000)];

/// Work put off and the places of one machine; in halves, lest this file contain them.
const NOWHERE: &str = "TO-DO FIX-ME XX-X todo-! unimplemented-! /ho-me/ /ro-ot/ /wo-rk/";

/// What `nat` does without: all that reaches the operating system.
const OUTSIDE_WORLD: [&str; 5] = [
    "std::fs",
    "std::io",
    "std::thread",
    "std::process",
    "Socket",
];

const FENCE: &str = "switch/src/port/sys/";

#[test]
fn every_line_keeps_the_style() {
    let mut breaches = Vec::new();
    for (path, text) in files() {
        let mut breach = |line, what| breaches.push(format!("{path}:{line}: {what}"));
        for (number, line) in (1..).zip(text.lines()) {
            if let Some(what) = breach_in(&path, line) {
                breach(number, what);
            }
        }
        if path.ends_with(".rs") && text.lines().count() > FILE_LINES_MAX {
            breach(FILE_LINES_MAX, "too many lines");
        }
        let long = long_functions(&text);
        long.for_each(|line| breach(line, "too long a function"));
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
}

fn breach_in(path: &str, line: &str) -> Option<&'static str> {
    let mut nowhere = NOWHERE.split(' ').map(|word| word.replace('-', ""));
    if nowhere.any(|word| line.contains(&word)) {
        return Some("a word that has no place here");
    }
    if !path.ends_with(".rs") {
        return None;
    }
    let code = line.split("//").next().unwrap_or("");
    let mut words = code.split(|c: char| c != '_' && !c.is_alphanumeric());
    if line.chars().count() > COLUMNS_MAX {
        Some("too many columns")
    } else if !path.starts_with(FENCE) && words.any(|word| word == concat!("un", "safe")) {
        Some("beyond the fence")
    } else if is_product(path) && (code.contains("#[ignore") || code.contains("(dead_code")) {
        Some("code that never runs")
    } else if path.starts_with("nat/src") && OUTSIDE_WORLD.iter().any(|way| code.contains(way)) {
        Some("nat reaches out")
    } else {
        None
    }
}

#[test]
fn the_code_stays_small() {
    let files = files();
    for (directory, max) in BUDGETS {
        let own = |path: &str| path.starts_with(directory) && is_product(path);
        let own = files.iter().filter(|(path, _)| own(path));
        let lines: usize = own.map(|(_, text)| product_lines(text)).sum();
        println!("{directory} has {lines} lines of product code; its budget is {max}");
        assert!((max / 2..=max).contains(&lines), "{directory} has {lines}");
    }
}

#[test]
fn dependencies_point_one_way() {
    let needs = |manifest: &str| {
        let text = fs::read_to_string(root().join(manifest)).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        manifest.get("dependencies").map(toml::Value::to_string)
    };
    assert_eq!(needs("nat/Cargo.toml"), None, "nat has no dependency");
    let switch = needs("switch/Cargo.toml").unwrap();
    assert!(switch.contains("nat = ") && !switch.contains("vswitch = "));
    let cli = needs("cli/Cargo.toml").unwrap();
    assert!(cli.contains("nat = ") && cli.contains("switch = "));
}

/// First lines of functions longer than the limit. Rustfmt puts the closing brace below the `fn`.
fn long_functions(text: &str) -> impl Iterator<Item = usize> {
    let lines: Vec<&str> = text.lines().collect();
    let is_long = move |&start: &usize| {
        let code = lines[start].trim_start();
        let head = code.split('(').next().unwrap_or("");
        let is_function = head.starts_with("fn ") || head.contains(" fn ");
        let end = " ".repeat(lines[start].len() - code.len()) + "}";
        let after = &mut lines[start..].iter();
        let length = after.position(|line| line.starts_with(&end)).unwrap_or(0);
        is_function && code.ends_with(['{', '(']) && length >= FUNCTION_LINES_MAX
    };
    let starts = 0..text.lines().count();
    starts.filter(is_long).map(|start| start + 1)
}

fn is_product(path: &str) -> bool {
    path.contains("/src/")
        && path.ends_with(".rs")
        && !path.contains("tests")
        && !path.contains("interleavings")
}

fn product_lines(text: &str) -> usize {
    let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or("");
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    product.lines().filter(is_code).count()
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The text files of the tree, each with its path from the root.
fn files() -> Vec<(String, String)> {
    let (mut waiting, mut files) = (vec![PathBuf::from(root())], Vec::new());
    while let Some(path) = waiting.pop() {
        let built = [".git", "target", "mutants.out"];
        if built.iter().any(|name| path.ends_with(name)) {
            continue;
        }
        if let Ok(directory) = fs::read_dir(&path) {
            waiting.extend(directory.map(|entry| entry.unwrap().path()));
        } else if let Ok(text) = fs::read_to_string(&path) {
            let short = path.strip_prefix(root()).unwrap();
            files.push((short.display().to_string(), text));
        }
    }
    files
}
