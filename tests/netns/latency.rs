//! Latency of real frames: measured by the ring's time stamps, between real kernels.

use serde_json::Value;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::ping::Ping;

use super::world::{World, world};

fn pair(latency: &Value, ingress: &str, egress: &str) -> Value {
    let pairs = latency["pairs"].as_array().unwrap();
    let found = (pairs.iter()).find(|one| one["ingress"] == ingress && one["egress"] == egress);
    found
        .unwrap_or_else(|| panic!("no {ingress} to {egress} in {latency:#}"))
        .clone()
}

fn number(value: &Value) -> f64 {
    value
        .as_f64()
        .unwrap_or_else(|| panic!("{value} is no number"))
}

/// Goal: pings are measured, each of them, in all stages. Method: 20 within and 20 through the NAT
/// in an otherwise idle switch; figures in order, and none beyond what a round trip took.
#[test]
fn every_ping_is_measured_in_every_stage() {
    let Some(world) = world().start() else {
        return;
    };
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)));
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE));
    reset(&world);
    assert_eq!(world.json("latency")["pairs"], Value::Array(Vec::new()));
    let round = world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)).count(20));
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE).count(20));
    assert_eq!(round.received, 20);
    let latency = world.json("latency");
    for (ingress, egress) in [
        ("veth1", "veth2"),
        ("veth2", "veth1"),
        ("veth1", Topology::UPLINK),
        (Topology::UPLINK, "veth1"),
    ] {
        let pair = pair(&latency, ingress, egress);
        // ARP may come in between.
        let samples = pair["samples"].as_u64().unwrap();
        assert!((20..30).contains(&samples), "{pair:#}");
        assert_eq!(pair["frames"], samples);
        for stage in ["wait", "process", "send", "total"] {
            let figures = &pair[stage];
            let (p50, p99) = (number(&figures["p50"]), number(&figures["p99"]));
            let max = number(&figures["max"]);
            assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{stage}: {pair:#}");
            // Whoever waits for its processor waits; but a wrong clock would be off by years.
            assert!(max < 5.0, "{stage}: {pair:#}");
            let mean = number(&pair["total"]["mean"]);
            assert!(number(&figures["mean"]) <= mean, "{stage}: {pair:#}");
        }
    }
    let workers = latency["workers"].as_array().unwrap();
    assert!(!workers.is_empty());
    for worker in workers {
        assert!(number(&worker["window"]) > 0.0 && number(&worker["busy_share"]) <= 1.0);
    }
    let text = world.text("latency");
    assert!(text.contains("worker 0: busy "), "{text}");
    metrics_go_on(&world);
    world.finish(&[]);
}

fn reset(world: &World) {
    let output = world.client("latency --reset");
    assert!(output.status.success(), "{output:?}");
}

/// Goal: a reset is nothing to Prometheus: its counts never fall.
fn metrics_go_on(world: &World) {
    let count = || {
        let text = world.text("metrics");
        let counts = text
            .lines()
            .filter(|line| line.starts_with("vswitch_forward_latency_seconds_count"));
        let values = counts.map(|line| line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap());
        values.sum::<u64>()
    };
    let before = count();
    assert!(before >= 80, "{before}");
    reset(world);
    let after = count();
    assert!(after >= before, "{before}, then {after}");
}

/// Goal: what a TAP does not tell is not told. Method: the host pings by its port, which is one.
#[test]
fn frames_from_a_tap_have_no_wait() {
    let Some(world) = world().no_uplink().start() else {
        return;
    };
    world.ping_perfectly(world.h(), &Ping::to(world.ip(1)).count(5));
    let pair = pair(&world.json("latency"), super::world::NAME, "veth1");
    assert_eq!(
        (&pair["wait"], &pair["total"]),
        (&Value::Null, &Value::Null)
    );
    assert!(number(&pair["send"]["p50"]) > 0.0);
    let text = world.text("latency");
    assert!(text.contains("where a TAP does not tell"), "{text}");
    world.finish(&[]);
}
