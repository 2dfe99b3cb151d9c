//! The metrics: their text, letter for letter and by the judgement of Prometheus' own parsers, and
//! the dashboard made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use vswitch_cli::control::{Instance, Server};
use vswitch_cli::metrics;

use super::world::{World, owner};
use super::{Scratch, snapshot, vswitch};

/// Prints every sample as the parser of Prometheus' client for Python has read it.
const JUDGE: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.documentation, family.name
    for sample in family.samples:
        print(json.dumps([sample.name, sample.labels, sample.value]))
";

fn text() -> String {
    metrics::text(World::new().reading()).unwrap()
}

/// The names of all samples, and of families that have none, as a query would have them.
fn names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            let ends: &[&str] = match kind {
                "counter" => &["_total"],
                "info" => &["_info"],
                "histogram" => &["_bucket", "_sum", "_count"],
                other => {
                    assert_eq!(other, "gauge");
                    &[""]
                }
            };
            names.extend(ends.iter().map(|end| format!("{name}{end}")));
        }
    }
    names
}

/// What begins with `vswitch_` in a PromQL expression.
fn named(expression: &str) -> Vec<&str> {
    let words = expression.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    words.filter(|word| word.starts_with("vswitch_")).collect()
}

#[test]
fn the_text_is_the_reading() {
    snapshot("metrics.txt", &text());
}

/// Goal: what others read is what was written. Method: Prometheus' own parser in Python reads it;
/// each of its samples is a line of ours, and none is left out.
#[test]
fn the_parser_of_prometheus_reads_every_sample() {
    let judge = Command::new("/usr/bin/python3")
        .args(["-c", JUDGE])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut judge) = judge else {
        println!("SKIPPED the_parser_of_prometheus_reads_every_sample: apt install python3");
        return;
    };
    let text = text();
    // Where the module is lacking it reads nothing; its error says so below.
    let _ = judge.stdin.take().unwrap().write_all(text.as_bytes());
    let output = judge.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    if error.contains("ModuleNotFoundError") {
        println!(
            "SKIPPED the_parser_of_prometheus_reads_every_sample: \
             apt install python3-prometheus-client"
        );
        return;
    }
    assert!(output.status.success(), "{error}\n{text}");
    let read = String::from_utf8(output.stdout).unwrap();
    let read: Vec<Value> = read
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let written = text.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(written.count(), read.len());
    let value = |name: &str, labels: Value| {
        let sample = read.iter().find(|one| one[0] == name && one[1] == labels);
        sample.unwrap_or_else(|| panic!("no {name} {labels}"))[2].as_f64()
    };
    let port = serde_json::json!({"port": "veth-blue"});
    let bytes = value("vswitch_port_receive_bytes_total", port);
    assert_eq!(bytes, Some(121_500_000.0));
    let labels = |le: &str| serde_json::json!({"ingress": "web0", "egress": "eth0", "le": le});
    let bucket = |le| value("vswitch_forward_latency_seconds_bucket", labels(le)).unwrap();
    let (fast, slow, all) = (bucket("0.000008192"), bucket("0.004194304"), bucket("+Inf"));
    assert_eq!((fast, slow, all), (990.0, 1000.0, 1001.0));
    let kind = serde_json::json!({"proto": "udp", "state": "unreplied"});
    assert_eq!(value("vswitch_nat_sessions", kind), Some(1.0));
}

/// Goal: no label has values that others choose. Method: nothing in the text looks like an address
/// of either kind.
#[test]
fn no_address_is_a_label() {
    for line in text().lines().filter(|line| !line.starts_with('#')) {
        let values = line.split('"').skip(1).step_by(2);
        for value in values {
            let is_mac = value.parse::<switch::mac::Mac>().is_ok();
            let is_ip = value.parse::<std::net::IpAddr>().is_ok();
            assert!(!is_mac && !is_ip, "{line}");
        }
    }
}

/// Goal: the dashboard shows what there is. Method: every metric in its expressions and variables
/// is one of the text's.
#[test]
fn the_dashboard_names_only_metrics_that_there_are() {
    let ended = vswitch("metrics dashboard", &[]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
    let dashboard: Value = serde_json::from_str(&ended.stdout).unwrap();
    let known = names(&text());
    let mut shown = BTreeSet::new();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut expressions: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap())
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    expressions.extend(variables.iter().filter_map(|one| one["query"].as_str()));
    for expression in expressions {
        for name in named(expression) {
            assert!(known.contains(name), "{name} in {expression}");
            shown.insert(name);
        }
        assert!(!expression.contains("SELECT"), "{expression}");
    }
    assert!(shown.len() > 12, "{shown:?}");
    let ids: BTreeSet<u64> = panels.iter().filter_map(|one| one["id"].as_u64()).collect();
    assert_eq!(ids.len(), panels.len());
}

/// Goal: over TCP there are the metrics and nothing else, for as many as there are places.
#[test]
fn tcp_serves_the_metrics_and_nothing_else() {
    let scratch = Scratch::new();
    let mut instance = Instance::claim(scratch.path(), "lab").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    let at = tcp.local_addr().unwrap();
    let (sender, owner) = owner();
    let server = Server::start(instance.listen().unwrap(), Some(tcp), sender).unwrap();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(at).unwrap();
        let request = format!("{path} HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    };
    let (head, body) = get("GET /metrics");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(head.contains(metrics::MEDIA_TYPE), "{head}");
    assert_eq!(body, text());
    let run_dir = scratch.path().display();
    let scraped = vswitch(&format!("--name lab --run-dir {run_dir} metrics"), &[]);
    assert_eq!((scraped.code, scraped.stdout), (0, body));
    for (request, status) in [
        ("GET /ports", "404"),
        ("POST /fdb/flush", "404"),
        ("POST /metrics", "405"),
    ] {
        let (head, _) = get(request);
        assert!(head.contains(status), "{request}: {head}");
    }
    // Silent ones hold their places; one that ends makes room for the next.
    let mut silent: Vec<TcpStream> = (0..16).map(|_| TcpStream::connect(at).unwrap()).collect();
    let mut late = TcpStream::connect(at).unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: v\r\n\r\n";
    late.write_all(request).unwrap();
    let mut byte = [0];
    late.set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    assert!(late.read_exact(&mut byte).is_err(), "there is a bound");
    drop(silent.pop());
    late.set_read_timeout(None).unwrap();
    late.read_exact(&mut byte).unwrap();
    drop((silent, late, server));
    owner.join().unwrap();
}

/// Prometheus' own tool, where it is installed.
fn promtool(words: &[&str]) -> Option<Command> {
    Command::new("promtool").arg("--version").output().ok()?;
    let mut tool = Command::new("promtool");
    tool.args(words);
    Some(tool)
}

/// Goal: a server of Prometheus takes in what was written. Method: its own reader of OpenMetrics
/// makes blocks of it, and counts the samples; it wants a moment behind each, which a scrape adds.
#[test]
fn a_server_of_prometheus_stores_every_sample() {
    let Some(mut tool) = promtool(&["tsdb", "create-blocks-from", "openmetrics"]) else {
        println!("SKIPPED a_server_of_prometheus_stores_every_sample: apt install prometheus");
        return;
    };
    let text = text();
    let timed = |line: &str| match line.starts_with('#') {
        true => format!("{line}\n"),
        false => format!("{line} 1795341600\n"),
    };
    let scratch = Scratch::new();
    let file = scratch.file("metrics", text.lines().map(timed).collect::<String>());
    let output = tool.arg(file).arg(scratch.path().join("blocks")).output();
    let output = output.unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let row = told.lines().nth(1).unwrap();
    let samples: usize = row.split_whitespace().nth(4).unwrap().parse().unwrap();
    assert!(told.contains("NUM SAMPLES"), "{told}");
    let written = text.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(samples, written.count(), "{told}");
}

/// The same in Prometheus' older format: families are called like their samples, and there are no
/// units and no kind `info`.
fn classic(text: &str) -> String {
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let kinds: BTreeMap<&str, &str> = kinds.filter_map(|line| line.split_once(' ')).collect();
    let mut classic = String::new();
    for line in text.lines() {
        let head: Vec<&str> = line.splitn(4, ' ').collect();
        match head[..] {
            ["#", "UNIT", ..] | ["#", "EOF"] => {}
            ["#", word, family, rest] => {
                let (end, rest) = match (kinds[family], word) {
                    ("counter", _) => ("_total", rest),
                    ("info", "TYPE") => ("_info", "gauge"),
                    ("info", _) => ("_info", rest),
                    _ => ("", rest),
                };
                classic.push_str(&format!("# {word} {family}{end} {rest}\n"));
            }
            _ => classic.push_str(&format!("{line}\n")),
        }
    }
    classic
}

/// Goal: metrics are called as Prometheus' people want it. Method: their tool looks for names
/// without units, help or endings; it reads the older format only.
#[test]
fn promtool_has_nothing_against_the_names() {
    let Some(mut tool) = promtool(&["check", "metrics"]) else {
        println!("SKIPPED promtool_has_nothing_against_the_names: apt install prometheus");
        return;
    };
    let mut judged = |text: &str| {
        tool.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = tool.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(text.as_bytes()).unwrap();
        drop(input);
        let output = child.wait_with_output().unwrap();
        let why = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), why)
    };
    let text = classic(&text());
    assert_eq!(judged(&text), (Some(0), String::new()), "{text}");
    // It would say so.
    let worse = text.replace("_bytes_total", "_kilobytes_sum");
    assert_eq!(judged(&worse).0, Some(3));
}
