//! The README does what it says: its commands are run, its outputs compared, its words looked up.
//!
//! With `VSWITCH_BLESS=1` in the environment the outputs are written into it instead.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a helper of a test may fail as a test does; tests live in real time"
)]

mod console;
mod normal;
mod replay;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use console::Step;

/// Plays the host and the internet, in namespaces nobody else sees; then runs the steps. What a
/// user does in two terminals is done by one: `vswitch --ports` goes to the background until `^C`.
const STAGE: &str = include_str!("stage.sh");

/// The pages that are looked through.
const PAGES: &[&str] = &[
    "README.md",
    "docs/capture.md",
    "docs/drops.md",
    "docs/fast-path.md",
    "docs/filter.md",
    "docs/kernel-differences.md",
    "docs/latency.md",
    "docs/nat.md",
    "docs/replay.md",
    "docs/top.md",
    "docs/trace.md",
    "docs/usdt.md",
    "docs/wireshark.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "BENCHMARKS.md",
];

/// Names in capitals that are no reasons for a drop: the kernel's, the environment's.
const OTHER_NAMES: [&str; 11] = [
    "AF_", "CAP_", "NO_COLOR", "PACKET_", "RUST", "SCHED_", "TP_", "TUN_", "UDP_", "VSWITCH_",
    "XDG_",
];

/// In the environment of all that runs on a stage: its name.
const ON_STAGE: &str = "VSWTEST_STAGE";

/// Where the README's tutorial begins.
const TUTORIAL: &str = "<!-- tutorial";

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
}

fn help(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vswitch"));
    let output = command.args(words).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_tutorial_prints_what_the_readme_says() {
    tutorial("README.md");
}

#[test]
fn the_tutorial_of_the_nat_prints_what_its_page_says() {
    tutorial("docs/nat.md");
}

#[test]
fn the_tutorial_of_the_fast_path_prints_what_its_page_says() {
    tutorial("docs/fast-path.md");
}

#[test]
fn the_tutorial_of_drops_prints_what_its_page_says() {
    tutorial("docs/drops.md");
}

#[test]
fn the_tutorial_of_top_prints_what_its_page_says() {
    tutorial("docs/top.md");
}

#[test]
fn the_tutorial_of_trace_prints_what_its_page_says() {
    tutorial("docs/trace.md");
}

#[test]
fn the_tutorial_of_capture_prints_what_its_page_says() {
    tutorial("docs/capture.md");
}

/// Goal: the page names every key. Method: its rows are those of the help.
#[test]
fn the_page_of_top_names_every_key() {
    let page = read("docs/top.md");
    let (_, rows) = page
        .split_once("| key | does | called |\n|---|---|---|\n")
        .unwrap();
    let rows: Vec<&str> = rows
        .lines()
        .take_while(|line| line.starts_with('|'))
        .collect();
    let keys = vswitch_cli::top::keys::KEYS.iter();
    let keys: Vec<String> = keys
        .map(|key| format!("| {} | {} | `{}` |", key.shown, key.does, key.name))
        .collect();
    assert_eq!(rows, keys);
}

#[test]
fn the_tutorial_of_latency_prints_what_its_page_says() {
    tutorial("docs/latency.md");
}

/// Goal: the page names every metric. Method: those of the dashboard's text and no others.
#[test]
fn the_page_of_metrics_names_each_of_them() {
    let page = read("docs/latency.md");
    let text = fs::read_to_string(path("tests/cli/snapshots/metrics.txt")).unwrap();
    let mut mib = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# ")) {
        let [word, name, rest] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            assert_eq!(line, "EOF");
            continue;
        };
        if word == "HELP" {
            mib.extend(rest.starts_with("NATV2-MIB").then_some(name));
            continue;
        }
        let end = match rest {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        // The page gives the first of these, and their number.
        let is_named = page.contains(&format!("`{name}{end}`"));
        assert!(is_named || mib.contains(name), "{name}");
    }
    assert_eq!(mib.len(), 10);
    assert!(page.contains("`vswitch_nat_translations_total` and nine more"));
}

/// Runs the steps of a page from its tutorial on, and compares what they print.
fn tutorial(page: &str) {
    let text = read(page);
    let begin = text.find(TUTORIAL).unwrap();
    let steps = console::steps(&text[begin..]);
    assert!(steps.len() > 15, "{page} has a tutorial");
    let Some(outputs) = perform(&steps) else {
        return;
    };
    if std::env::var_os("VSWITCH_BLESS").is_some() {
        let blessed = console::bless(&text[begin..], &outputs);
        fs::write(path(page), text[..begin].to_owned() + &blessed).unwrap();
        return;
    }
    for (step, output) in steps.iter().zip(&outputs) {
        let Some(output) = output else {
            println!("SKIPPED `{}`: a program of it is not here", step.command);
            continue;
        };
        assert_eq!(
            normal::lines(&step.command, output),
            normal::lines(&step.command, &step.output),
            "`{}` printed:\n{output}\nIf it is meant: VSWITCH_BLESS=1 cargo test readme",
            step.command
        );
    }
}

/// Goal: what the README shows of the demo comes in this order; it leaves out the rest.
#[test]
fn the_demo_prints_what_the_readme_says() {
    let readme = read("README.md");
    let shown = console::steps(&readme[..readme.find(TUTORIAL).unwrap()]);
    let shown = shown.iter().find(|step| step.command.ends_with(" demo"));
    let lines = normal::lines("demo", &shown.unwrap().output);
    let run_dir = std::env::temp_dir().join(format!("vswtest-readme-{}", std::process::id()));
    let printed = help(&["demo", "--run-dir", run_dir.to_str().unwrap()]);
    if !printed.contains("Every step worked") {
        // The demo's own test says whether that is as it should be.
        println!("SKIPPED the README's demo: not every step can be done here");
        return;
    }
    let printed = normal::lines("demo", &printed);
    let mut rest = printed.iter();
    for line in lines.iter().filter(|line| !line.is_empty() && *line != "…") {
        let found = rest.any(|printed| printed == line);
        assert!(found, "not printed, or not here: {line}\n{printed:#?}");
    }
    assert!(lines.len() > 10, "the README shows the demo");
}

/// Goal: the trace that the README shows is a real one. Method: its page, of which the tutorial
/// runs every step, has the same.
#[test]
fn the_trace_of_the_readme_is_that_of_its_page() {
    let (readme, page) = (read("README.md"), read("docs/trace.md"));
    let of = |text: &str| {
        let mut steps = console::steps(text).into_iter();
        let step = steps.find(|step| step.command.starts_with("sudo vswitch trace "));
        step.map(|step| (normal::lines(&step.command, &step.output), step.command))
    };
    assert_eq!(of(&readme), of(&page));
    assert!(of(&page).is_some_and(|(lines, _)| lines.len() > 10));
}

/// Goal: a bench's answer is as shown. Method: the lines come in this order in what is printed of a
/// run whose file is kept here.
#[test]
fn the_bench_prints_what_the_readme_says() {
    let readme = read("README.md");
    let shown = console::steps(&readme[..readme.find(TUTORIAL).unwrap()]);
    let shown = shown
        .iter()
        .find(|step| step.command.contains("vswitch bench "));
    let run = serde_json::from_str(&read("tests/readme/run.json")).unwrap();
    let styled = vswitch_cli::bench::table::text(&run);
    let printed = anstream::adapter::strip_str(&styled).to_string();
    let mut rest = printed.lines();
    let lines: Vec<_> = shown
        .unwrap()
        .output
        .lines()
        .filter(|line| *line != "…")
        .collect();
    for line in &lines {
        assert!(
            rest.any(|printed| printed == *line),
            "not printed, or not here: {line}"
        );
    }
    assert!(lines.len() > 5, "the README shows a table");
}

/// Goal: nobody has to guess what can be measured. Method: the README shows every word and flag.
#[test]
fn the_readme_names_all_that_bench_and_report_take() {
    use vswitch_cli::bench::words::{Forwarder, Test};
    let code = console::code(&read("README.md")).join("\n");
    let said: BTreeSet<&str> = words(&code).collect();
    let forwarders = Forwarder::ALL.map(Forwarder::word);
    for word in forwarders.into_iter().chain(Test::ALL.map(Test::word)) {
        assert!(said.contains(word), "{word}");
    }
    let root = vswitch_cli::args::command();
    for name in ["bench", "report"] {
        let flags = root.find_subcommand(name).unwrap().get_arguments();
        for flag in flags.filter_map(|flag| flag.get_long()) {
            let short = flag == "output" && code.contains(" -o ");
            let flag = format!("--{flag}");
            assert!(short || said.contains(flag.as_str()), "{name} {flag}");
        }
    }
}

/// Runs the steps and returns what each printed, `None` for one whose program is absent; or says
/// why they cannot be run here.
fn perform(steps: &[Step]) -> Option<Vec<Option<String>>> {
    let bin = Path::new(env!("CARGO_BIN_EXE_vswitch")).parent().unwrap();
    let mut script = STAGE.to_owned();
    for step in steps {
        script += &format!("step {}\n", console::quoted(&step.command));
    }
    let mut unshare = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        // In a user namespace of its own every user is root.
        unshare.arg("--map-root-user");
    }
    let stage = stage();
    let child = unshare
        .args(["--net", "--mount", "bash", "-c", &script])
        .env("VSWITCH_BIN", bin)
        .env(ON_STAGE, &stage)
        .stdin(Stdio::null())
        .output();
    nobody_stays(&stage);
    let output = match child {
        Ok(output) => output,
        Err(err) => {
            println!("SKIPPED the README's tutorial: unshare: {err}");
            return None;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let Some((_, text)) = text.split_once("stage is set\n") else {
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        println!("SKIPPED the README's tutorial: {} {text}", why.trim());
        return None;
    };
    let outputs: Vec<_> = text.split("\u{1e}\n").skip(1).collect();
    assert_eq!(outputs.len(), steps.len(), "{text}");
    let absent = |output: &str| (output != "absent\n").then(|| output.to_owned());
    Some(outputs.into_iter().map(absent).collect())
}

/// A name of which there is no other while it is on.
fn stage() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{number}", std::process::id())
}

/// Asserts that all that was started on a stage has ended, or does so soon.
fn nobody_stays(stage: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left = on_stage(stage);
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {left:#?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes that have the name of the stage in their environment, by what they were called
/// with.
fn on_stage(stage: &str) -> Vec<String> {
    let mark = format!("{ON_STAGE}={stage}");
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let called = |process: fs::DirEntry| {
        let read = |name| fs::read(process.path().join(name)).ok();
        let is_ours = read("environ")?
            .split(|byte| *byte == 0)
            .any(|word| word == mark.as_bytes());
        let words = String::from_utf8_lossy(&read("cmdline")?).replace('\0', " ");
        // Who has ended, and is not waited for yet, was called by nothing.
        (is_ours && !words.is_empty()).then_some(words)
    };
    processes.filter_map(called).collect()
}

#[test]
fn every_command_flag_and_reason_exists() {
    let top = help(&["--help"]);
    let (_, rest) = top.split_once("Commands:").unwrap();
    let commands: Vec<&str> = rest.lines().skip(1).map_while(first_word).collect();
    assert!(commands.contains(&"fdb") && commands.contains(&"man"));
    let mut known = help(&["drops", "--why"]) + &help(&["--help"]);
    for command in &commands {
        known += &help(&[command, "--help"]);
    }
    let flags = flags(&vswitch_cli::args::command());
    let known: BTreeSet<&str> = words(&known)
        .chain(flags.iter().map(String::as_str))
        .collect();
    for file in PAGES {
        for code in console::code(&read(file)) {
            let own = code.split_once("vswitch ").map_or(&*code, |(_, own)| own);
            if own.len() < code.len() || code.starts_with("--") {
                let mut flags = words(own).filter(|word| word.starts_with("--"));
                let flag = flags.find(|flag| flag.len() > 2 && !known.contains(flag));
                assert_eq!(flag, None, "{file}: `{code}`: not in --help");
            }
            let is_reason =
                code.contains('_') && code.chars().all(|c| c == '_' || c.is_uppercase());
            let is_other = OTHER_NAMES.iter().any(|name| code.starts_with(name));
            assert!(
                !is_reason || is_other || known.contains(&*code),
                "{file}: {code}"
            );
        }
    }
}

/// The long flags of a command and of all below it.
fn flags(command: &clap::Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(|flag| flag.get_long());
    let own = own.map(|flag| format!("--{flag}"));
    own.chain(command.get_subcommands().flat_map(flags))
        .collect()
}

/// Goal: what a page tells people to type is a command, those that others call included.
#[test]
fn every_command_exists() {
    let root = vswitch_cli::args::command();
    for file in PAGES {
        for code in console::code(&read(file)) {
            let code = code.trim_start_matches("sudo ");
            let word = code
                .strip_prefix("vswitch ")
                .and_then(|rest| rest.split(' ').find(|word| !word.starts_with('-')));
            let is_command = word.is_none_or(|word| root.find_subcommand(word).is_some());
            assert!(
                is_command || code.contains("--name") || code.starts_with("vswitch --"),
                "{file}: {code}"
            );
        }
    }
}

#[test]
fn every_link_leads_somewhere() {
    for file in PAGES {
        let text = read(file);
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            if link.starts_with("https://") {
                continue;
            }
            let (name, anchor) = link.split_once('#').unwrap_or((link, ""));
            let beside = match name {
                "" => path(file),
                name => path(file).with_file_name(name),
            };
            assert!(beside.exists(), "{file}: no file {link}");
            if !anchor.is_empty() {
                let title = anchor.replace('-', " ");
                let is_title =
                    |line: &str| line.starts_with('#') && line.to_lowercase().ends_with(&title);
                let text = fs::read_to_string(beside).unwrap();
                assert!(text.lines().any(is_title), "{file}: no section {link}");
            }
        }
    }
}

#[test]
fn every_dependency_has_its_reason_in_the_readme() {
    let readme = read("README.md");
    for manifest in ["switch/Cargo.toml", "cli/Cargo.toml"] {
        let manifest: toml::Table = read(manifest).parse().unwrap();
        for name in manifest["dependencies"].as_table().unwrap().keys() {
            let ours = ["nat", "switch"].contains(&name.as_str());
            assert!(ours || readme.contains(&format!("`{name}`")), "{name}");
        }
    }
}

/// Goal: the first command of the README starts this program, whatever others the workspace has.
#[test]
fn cargo_run_is_this_program() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    let root = path("Cargo.toml");
    let output = command
        .args([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
            "--manifest-path",
        ])
        .arg(&root)
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let default = metadata["workspace_default_members"].as_array().unwrap();
    let is_default = |package: &&serde_json::Value| default.contains(&package["id"]);
    let packages = metadata["packages"].as_array().unwrap();
    let targets = packages.iter().filter(is_default).flat_map(|package| {
        let targets = package["targets"].as_array().unwrap();
        targets.iter().filter(|target| target["kind"][0] == "bin")
    });
    let names: Vec<&str> = targets
        .filter_map(|target| target["name"].as_str())
        .collect();
    assert_eq!(names, ["vswitch"]);
}

/// Every configuration file shown is one.
#[test]
fn every_configuration_shown_is_valid() {
    let readme = read("README.md");
    let files = readme
        .split("```toml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    for (number, text) in files.enumerate() {
        let name = format!("vswtest-readme-{}-{number}.toml", std::process::id());
        let file = std::env::temp_dir().join(name);
        fs::write(&file, text).unwrap();
        let shown = help(&["config", "check", file.to_str().unwrap()]);
        fs::remove_file(&file).unwrap();
        assert!(shown.contains("ports ="), "{text}");
    }
    assert!(readme.contains("```toml"));
}

fn first_word(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let in_word = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    text.split(move |c| !in_word(c))
        .filter(|word| !word.is_empty())
}
