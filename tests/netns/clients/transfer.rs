//! iperf3: one stream, four, both ways at once, datagrams.

use serde_json::Value;
use vswitch_cli::lab::{Process, Topology};

use super::{command, installed, run_well};
use crate::netns::world::Times::Any;
use crate::netns::world::{PATIENCE, World, world};

const PORT: u16 = 5201;

fn server(world: &World) -> Process {
    let words = format!("iperf3 -s --forceflush -p {PORT}");
    let server = world.o().spawn(&mut command(&words)).unwrap();
    let listens = server.wait_line(PATIENCE, |line| line.contains("Server listening"));
    assert!(listens.is_some(), "{:#?}", server.stderr());
    server
}

fn measure(world: &World, i: usize, words: &str) -> Value {
    let words = format!("iperf3 -J -t 1 -p {PORT} -c {} {words}", Topology::OUTSIDE);
    let said = run_well(world.c(i), &words);
    let report: Value = serde_json::from_str(&said.lines.join("\n")).unwrap();
    assert_eq!(report.get("error"), None, "{words}");
    report
}

/// Bytes that a sum of the report counts.
fn bytes(report: &Value, sum: &str) -> u64 {
    let bytes = &report["end"][sum]["bytes"];
    bytes
        .as_u64()
        .unwrap_or_else(|| panic!("{sum}: {:#}", report["end"]))
}

#[test]
fn a0_5_iperf3_streams_out_back_in_parallel_and_both_ways_at_once() {
    if !installed(&["iperf3"]) {
        return;
    }
    let Some(world) = world().refusals().args("--workers 2").start() else {
        return;
    };
    let _server = server(&world);
    for words in ["", "-R", "-P 4", "-P 4 -R"] {
        let report = measure(&world, 1, words);
        let streams = report["end"]["streams"].as_array().unwrap();
        for stream in streams {
            let received = stream["receiver"]["bytes"].as_u64().unwrap();
            assert!(received > 0, "{words}: a stream stands still: {stream:#}");
        }
        assert!(bytes(&report, "sum_received") > 0, "{words}");
    }
    let report = measure(&world, 2, "--bidir");
    for sum in ["sum_received", "sum_received_bidir_reverse"] {
        assert!(bytes(&report, sum) > 0, "{sum}");
    }
    world.finish(&[("RING_FULL", Any), ("EGRESS_FULL", Any)]);
}

#[test]
fn a0_4_iperf3_datagrams_keep_their_checksums_and_order() {
    if !installed(&["iperf3"]) {
        return;
    }
    let Some(world) = world().start() else { return };
    let _server = server(&world);
    // One datagram a packet, and datagrams in fragments; a rate any machine bears.
    for words in [
        "-u -b 10M -l 1400",
        "-u -b 10M -l 1400 -R",
        "-u -b 10M -l 8000",
    ] {
        let report = measure(&world, 1, words);
        let stream = &report["end"]["streams"][0]["udp"];
        let count = |key: &str| stream[key].as_u64().unwrap();
        assert!(count("packets") > 100, "{words}: {stream:#}");
        assert_eq!(count("out_of_order"), 0, "{words}: {stream:#}");
        assert!(
            count("lost_packets") < count("packets") / 10,
            "{words}: {stream:#}"
        );
    }
    world.finish(&[("RING_FULL", Any), ("EGRESS_FULL", Any)]);
}
