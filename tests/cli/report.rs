//! `vswitch report`: its page, letter for letter, and what it refuses.

use vswitch_cli::bench::{page, report};

use super::bench::fixture;
use super::{Scratch, snapshot, vswitch};

const IPERF: &str = include_str!("fixtures/iperf3.json");
const IPERF_UDP: &str = include_str!("fixtures/iperf3-udp.json");

/// Elements of HTML that have no end tag.
const VOID: [&str; 1] = ["meta"];

/// Attributes that hold coordinates.
const NUMBERS: [&str; 13] = [
    "x", "y", "x1", "y1", "x2", "y2", "cx", "cy", "r", "width", "height", "points", "viewBox",
];

/// Goal: a page that any parser reads alike. Method: a reader stricter than HTML: every tag is
/// closed in order, every attribute quoted, every coordinate a finite number, nothing is fetched
/// and nothing runs.
fn is_sound(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    while let Some(at) = rest.find('<') {
        assert!(!rest[..at].contains('>'), "{}", &rest[..at]);
        let tag = &rest[at + 1..];
        let end = tag.find('>').unwrap();
        rest = &tag[end + 1..];
        let tag = &tag[..end];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "</{name}>");
            continue;
        }
        let closed = tag.ends_with('/');
        let tag = tag.trim_end_matches('/');
        let name = tag.split(' ').next().unwrap();
        attributes(&tag[name.len()..]);
        if !closed && !VOID.contains(&name) {
            open.push(name);
        }
        if name == "style" {
            // Style sheets have their own syntax.
            rest = &rest[rest.find("</style>").unwrap()..];
        }
    }
    assert!(open.is_empty(), "{open:?}");
    for word in [
        "<script", "http:", "https:", "url(", "@import", "src=", "href=", "onload",
    ] {
        assert!(!page.contains(word), "{word}");
    }
}

fn attributes(mut text: &str) {
    while let Some((name, rest)) = text.split_once("=\"") {
        let name = name.trim();
        let (value, after) = rest.split_once('"').unwrap();
        assert!(
            name.chars().all(|c| c.is_alphanumeric() || c == '-'),
            "{name}"
        );
        if NUMBERS.contains(&name) {
            for number in value.split([' ', ',']) {
                let number: f64 = number.parse().unwrap_or(f64::NAN);
                assert!(number.is_finite() && number.abs() <= 1e5, "{name}={value}");
            }
        }
        text = after;
    }
    assert_eq!(text.trim(), "");
}

#[test]
fn the_page_of_a_bench_is_as_committed_and_sound() {
    let page = page::bench(&fixture());
    is_sound(&page);
    snapshot("bench.html", &page);
    assert_eq!(page, page::bench(&fixture()), "the same for the same input");
    assert!(page.contains("made-up ovs 1.0 &amp; its &lt;options&gt;"));
    assert!(page.contains("prefers-color-scheme: dark"));
}

#[test]
fn the_page_of_an_iperf3_file_is_as_committed_and_sound() {
    let page = report::page("x.json", IPERF.as_bytes()).unwrap();
    is_sound(&page);
    snapshot("iperf3.html", &page);
    let page = report::page("x.json", IPERF_UDP.as_bytes()).unwrap();
    is_sound(&page);
    assert!(page.contains("<th class=\"n\">lost</th>"), "{page}");
}

/// Goal: no file that was read can make a page that runs code, does not parse or draws nonsense.
/// Method: every text of the fixture becomes hostile, every number extreme, one by one and all.
#[test]
fn a_hostile_file_makes_a_sound_page() {
    fn spoil(value: &mut serde_json::Value, with: f64) {
        use serde_json::Value;
        match value {
            Value::String(text) => {
                let known = ["vswitch.bench/1", "faster", "slower", "no winner"];
                if !known.contains(&text.as_str()) {
                    *text = "</title><script>alert('x')</script>\" onload=\"\u{1b}[2J".to_owned();
                }
            }
            Value::Number(number) if number.is_f64() => *value = with.into(),
            Value::Array(list) => list.iter_mut().for_each(|one| spoil(one, with)),
            Value::Object(map) => map.values_mut().for_each(|one| spoil(one, with)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    for extreme in [0.0, -1.0, 1e-300, 1e18, -1e18] {
        let mut value = serde_json::to_value(fixture()).unwrap();
        spoil(&mut value, extreme);
        let page = report::page("x", value.to_string().as_bytes()).unwrap();
        let page = page.replace(" onload=", "");
        is_sound(&page);
    }
}

#[test]
fn it_writes_where_it_is_told_and_reads_a_pipe() {
    let scratch = Scratch::new();
    let json = serde_json::to_string(&fixture()).unwrap();
    let (input, output) = (
        scratch.file("run.json", &json),
        scratch.path().join("run.html"),
    );
    let dash = std::path::Path::new("-o");
    let ended = vswitch("report", &[&input, dash, &output]);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (0, ""),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stderr, format!("written to {}\n", output.display()));
    let page = std::fs::read_to_string(&output).unwrap();
    assert_eq!(page, page::bench(&fixture()));
    assert_eq!(vswitch("report", &[&input]).stdout, page);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_vswitch"));
    command
        .args(["report", "-"])
        .stdin(std::fs::File::open(&input).unwrap());
    assert_eq!(super::ended(command.output().unwrap()).stdout, page);
    let ended = vswitch("report -q", &[&input, dash, &output]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let ended = vswitch(
        "report",
        &[&input, dash, std::path::Path::new("/nowhere/x.html")],
    );
    assert_eq!(ended.code, 1);
    assert!(
        ended
            .stderr
            .starts_with("error: /nowhere/x.html: No such file")
    );
}

#[test]
fn other_files_are_refused_by_name_with_what_was_expected() {
    const EXPECTED: &str = "expected the JSON of `vswitch bench -j` or `iperf3 -J`";
    let version = |schema: &str| {
        let text = serde_json::to_string(&fixture()).unwrap();
        text.replace("vswitch.bench/1", schema)
    };
    let beyond = serde_json::to_string(&fixture()).unwrap();
    let beyond = beyond.replacen("\"time\":4.0", "\"time\":1e19", 1);
    let failed = r#"{"start":{"version":"iperf 3.12"},"error":"unable to connect"}"#;
    let idle = r#"{"start":{"version":"iperf 3.12"},"intervals":[],"end":{}}"#;
    let bench = "vswitch bench -o run.json";
    let both = |why: &str| format!("{why}; {EXPECTED}; fix: {bench}");
    for (text, line) in [
        (" \n", both("empty")),
        ("Mpps", both("not JSON: expected value at line 1 column 1")),
        ("{}", both("neither of the two kinds of file")),
        ("[1e17]", both("neither of the two kinds of file")),
        (
            &beyond,
            both("a number in it is beyond all that can be measured"),
        ),
        (
            r#"{"start":{"schema":"vswitch.bench/1"}}"#,
            both("not whole: missing field `version`"),
        ),
        (
            &version("vswitch.bench/2"),
            format!(
                "its schema is vswitch.bench/2, and this vswitch reads vswitch.bench/1; \
                 fix: {bench}"
            ),
        ),
        (
            r#"[{"schema":"vswitch.fdb/1"}]"#,
            format!(
                "its schema is vswitch.fdb/1, and this vswitch reads vswitch.bench/1; \
                 fix: {bench}"
            ),
        ),
        (
            failed,
            "iperf3 itself failed: unable to connect; fix: iperf3 -c ADDRESS -J > run.json".into(),
        ),
        (
            idle,
            "iperf3 noted no interval; fix: iperf3 -c ADDRESS -J > run.json".into(),
        ),
    ] {
        let scratch = Scratch::new();
        let file = scratch.file("run.json", text);
        let ended = vswitch("report", &[&file]);
        let line = format!("error: {}: {line}\n", file.display());
        assert_eq!(
            (ended.code, ended.stdout.as_str(), ended.stderr),
            (1, "", line)
        );
    }
    let ended = vswitch("report /nowhere/run.json", &[]);
    let line =
        format!("error: /nowhere/run.json: No such file or directory (os error 2); fix: {bench}\n");
    assert_eq!((ended.code, ended.stderr), (1, line));
}
