//! Latency: its screens, its JSON, and the file that HdrHistogram's tools read.

use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use nat::Nanos;
use switch::latency::{Counts, Histogram as Buckets, Stage};
use vswitch_cli::control::api::{self, Bound, LatencyTo};
use vswitch_cli::latency::{log, stage};
use vswitch_cli::metrics::Forwarded;
use vswitch_cli::show;

use super::Scratch;
use super::control::Running;
use super::screens::screens;

/// A thousand frames between 1 and 2 times `nanos`, ten in a hundred of them 500 times that, and a
/// last one of 30 s.
fn counts(nanos: u64) -> Counts {
    let buckets = Buckets::default();
    for frame in 0..990 {
        buckets.add(Nanos(nanos + frame * nanos / 990), 1);
    }
    buckets.add(Nanos(nanos * 500), 10);
    buckets.add(Nanos(30_000_000_000), 1);
    buckets.counts()
}

/// What metrics have of it.
pub(super) fn forwarded() -> Forwarded {
    let mut forwarded = Forwarded::default();
    let pair = ("web0".to_owned(), "eth0".to_owned());
    forwarded.pairs.insert(pair, counts(4000));
    for (of, nanos) in [
        (Stage::Wait, 2000),
        (Stage::Process, 90),
        (Stage::Send, 1500),
    ] {
        forwarded.stages.insert((0, of.word()), counts(nanos));
    }
    forwarded
}

fn pair(ingress: &str, egress: Option<&str>, to: LatencyTo, nanos: u64) -> api::LatencyPair {
    let leaves = to != LatencyTo::Nowhere;
    let stamped = ingress != "web0";
    let took = |nanos, is: bool| stage(&counts(nanos)).filter(|_| is);
    api::LatencyPair {
        ingress: (to != LatencyTo::Others).then(|| ingress.to_owned()),
        egress: egress.map(str::to_owned),
        to,
        frames: 1001,
        samples: 77,
        wait: took(nanos, stamped),
        process: took(90, true),
        send: took(nanos / 2, leaves),
        total: took(nanos * 3 / 2, stamped && leaves),
    }
}

fn load(index: u16, egress: &str, (ring_full, full): (u64, u64), busy: f64) -> api::WorkerLoad {
    let load = api::WorkerLoad {
        index,
        window: 5.0,
        busy_share: busy,
        frames: 10_000,
        ring_full,
        egress: Some(egress.into()),
        egress_sent: 9_000,
        egress_full: full,
        bound: Bound::Idle,
    };
    load.judged()
}

pub(super) fn latency() -> api::Latency {
    api::Latency {
        schema: api::LatencySchema,
        since: 1_795_300_000.5,
        interval: 60.0,
        workers: vec![
            load(0, "eth0", (0, 0), 0.31),
            load(1, "web0", (0, 700), 0.62),
            load(2, "veth-blue", (51, 0), 0.7),
            load(3, "veth-blue", (0, 0), 0.97),
            load(4, "veth-blue", (0, 0), 0.0001),
        ],
        pairs: vec![
            pair("veth-blue", Some("eth0"), LatencyTo::Port, 4000),
            pair("web0", Some("veth-blue"), LatencyTo::Port, 1000),
            pair("veth-blue", None, LatencyTo::Flood, 500_000),
            pair("eth0", None, LatencyTo::Nowhere, 2000),
            pair("", None, LatencyTo::Others, 800),
        ],
    }
}

#[test]
fn the_screens_and_the_json_are_as_committed() {
    screens("latency", |view| show::latency::latency(&latency(), view));
    let json = serde_json::to_string(&latency()).unwrap();
    super::snapshot("latency.json", &format!("{json}\n"));
    let nothing = api::Latency {
        pairs: Vec::new(),
        ..latency()
    };
    let text = show::latency::latency(&nothing, vswitch_cli::args::View::default());
    assert!(text.starts_with("no frame was measured yet\n\nworker 0"));
}

/// Goal: the file is what HdrHistogram's tools read. Method: its own reader finds a histogram for
/// each stage of each pair, by its tag, with the same quantiles.
#[test]
fn the_file_is_read_by_the_reader_of_its_format() {
    let running = Running::new();
    let scratch = Scratch::new();
    let file = scratch.path().join("latency.hlog");
    let ended = running.vswitch(&format!("latency --hdr {}", file.display()));
    let said = format!("16 histograms written to {}\n", file.display());
    assert_eq!(
        (ended.code, ended.stderr, ended.stdout.as_str()),
        (0, said, "")
    );
    let text = std::fs::read(&file).unwrap();
    assert_eq!(text, log(&latency()).unwrap().0);
    let mut found = 0;
    let mut deserializer = hdrhistogram::serialization::Deserializer::new();
    for entry in IntervalLogIterator::new(&text) {
        let LogEntry::Interval(entry) = entry.unwrap() else {
            continue;
        };
        assert_eq!(entry.duration().as_secs(), 60);
        found += 1;
        if entry.tag().unwrap().as_str() == "veth-blue-eth0-wait" {
            let bytes = base64(entry.encoded_histogram());
            let histogram: Histogram<u64> =
                deserializer.deserialize(&mut bytes.as_slice()).unwrap();
            assert_eq!(histogram.len(), 1001);
            let p50 = latency().pairs[0].wait.as_ref().unwrap().p50;
            let nanos = std::time::Duration::from_secs_f64(p50).as_nanos();
            assert_eq!(u128::from(histogram.value_at_quantile(0.5)), nanos);
        }
    }
    assert_eq!(found, 16);
    let nowhere = running.vswitch("latency --hdr /nowhere/latency.hlog");
    let line = "error: /nowhere/latency.hlog: No such file or directory (os error 2)\n";
    assert_eq!((nowhere.code, nowhere.stderr.as_str()), (1, line));
}

/// The bytes of a text in base64 (RFC 4648 section 4).
fn base64(text: &str) -> Vec<u8> {
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in text.chars().filter(|c| *c != '=') {
        bits = bits << 6 | u32::try_from(digits.find(digit).unwrap()).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}
