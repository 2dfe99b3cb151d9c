//! Order, conservation and connections while workers share the load and ports change hands.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use serde_json::json;
use switch::port::sys::affinity;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::lab::traffic::tcp::Amount;
use vswitch_cli::lab::traffic::udp;

use super::flows::{Flow, run, socket};
use super::traffic::{download, tcp_both_ways, upload};
use super::world::Times::Any;
use super::world::{SECOND, World, world};

/// Datagrams in each flow: with 14 directions and three worlds, a third of a million.
const COUNT: u32 = 8000;

const BYTES: u64 = 3_000_001;

/// What a load may lose on a slow machine; each is counted, and the flows' gaps are held against
/// the counts.
const LOSSES: [(&str, super::world::Times); 3] = [
    ("RING_FULL", Any),
    ("EGRESS_FULL", Any),
    ("HANDOVER_FULL", Any),
];

fn cpus() -> String {
    let cpus = affinity::allowed_cpus().unwrap();
    let list: Vec<String> = cpus.iter().map(ToString::to_string).collect();
    list.join(",")
}

/// From one container to another by way of the external address: by hand-over where their workers
/// differ.
fn hairpin(world: &World, from: usize, to: usize) -> Flow {
    let outside = socket(world.o());
    let port = outside.local_addr().unwrap().port();
    let sink = socket(world.c(to));
    sink.send_to(b"open", (Topology::OUTSIDE, port)).unwrap();
    let (_, external) = udp::recv(&outside, SECOND).unwrap().expect("the way out");
    Flow::between(socket(world.c(from)), external, sink)
}

/// Flows of every kind: through the NAT and back, between containers, and round by the NAT.
fn flows(world: &World) -> Vec<Flow> {
    let mut flows = Vec::new();
    for i in 1..=4_usize {
        let next = i % 4 + 1;
        let ip = world.ip(u8::try_from(next).unwrap());
        flows.push(Flow::new(world.c(i), world.o(), Topology::OUTSIDE).answered());
        flows.push(Flow::new(world.c(i), world.c(next), ip));
    }
    flows.extend([hairpin(world, 1, 4), hairpin(world, 3, 2)]);
    flows
}

/// Everybody has everybody's address: a datagram that waits in its sender for ARP may be overtaken
/// there by the next.
fn greet(world: &World, containers: u8) {
    for i in 1..=containers {
        let others = (1..=containers).filter(|other| *other != i);
        let targets = others.map(|other| world.ip(other));
        for target in targets.chain([Topology::OUTSIDE]) {
            world.ping_perfectly(world.c(i.into()), &Ping::to(target));
        }
    }
}

fn share(world: &World) -> String {
    let (handed, received) = (world.total("handed_over"), world.total("received"));
    let permille = handed * 1000 / received.max(1);
    format!("{handed} of {received} frames handed over ({permille} per mille)")
}

#[test]
fn order_and_conservation_hold_under_load_with_any_number_of_workers() {
    for workers in [1, 2, 4] {
        let Some(world) = world()
            .containers(4)
            .args(&format!("--workers {workers} --cpus {}", cpus()))
            .start()
        else {
            return;
        };
        let flows = flows(&world);
        greet(&world, 4);
        let tally = thread::scope(|scope| {
            let world = &world;
            scope.spawn(|| tcp_both_ways(world.c(1), world.o(), Topology::OUTSIDE, BYTES));
            scope.spawn(|| tcp_both_ways(world.c(2), world.c(3), world.ip(3), BYTES));
            run(&flows, COUNT)
        });
        world.quiet();
        world.accounts_for(tally);
        println!("{workers} workers: {tally:?}, {}", share(&world));
        assert_eq!(world.total("handed_over") > 0, workers > 1, "the hairpins");
        world.finish(&LOSSES);
    }
}

/// Moves `port` between two workers until `done`; how often.
fn shuttle(world: &World, port: &str, times: u32, pause: Duration) {
    for number in 1..=times {
        let to = number % 2;
        let output = world.client(&format!("port set {port} worker={to}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        let moved = format!("{port} moved from worker {} to worker {to}", 1 - to);
        assert!(said.starts_with(&moved), "{said}");
        thread::sleep(pause);
    }
}

#[test]
fn a_port_that_moves_twenty_times_breaks_no_connection_and_no_order() {
    // All workers on one processor: what two of them send to a veth, one after the other, goes by
    // the kernel's one queue then, and every change of order would be the switch's own.
    let cpu = affinity::allowed_cpus().unwrap()[0];
    let Some(world) = world()
        .containers(3)
        .args(&format!("--workers 2 --cpus {cpu}"))
        .start()
    else {
        return;
    };
    greet(&world, 3);
    let flows = [
        Flow::new(world.c(1), world.o(), Topology::OUTSIDE).answered(),
        Flow::new(world.c(1), world.c(2), world.ip(2)).answered(),
        Flow::new(world.c(3), world.c(1), world.ip(1)),
    ];
    let time = Amount::For(3 * SECOND);
    let tally = thread::scope(|scope| {
        let world = &world;
        scope.spawn(move || upload(world.c(1), world.o(), Topology::OUTSIDE, time));
        scope.spawn(move || download(world.c(1), world.o(), Topology::OUTSIDE, time));
        scope.spawn(move || upload(world.c(1), world.c(2), world.ip(2), time));
        scope.spawn(move || shuttle(world, "veth1", 20, Duration::from_millis(100)));
        run(&flows, 2 * COUNT)
    });
    world.quiet();
    world.accounts_for(tally);
    println!("20 moves: {tally:?}, {}", share(&world));
    assert!(world.total("handed_over") > 0, "packets for the NAT");
    // Two flows and three pings of one container, and never a second mapping for one of them.
    let nat = world.json("nat");
    let mut mapped = std::collections::BTreeMap::new();
    for session in nat["sessions"].as_array().unwrap() {
        let key = (session["proto"].to_string(), session["inside"].to_string());
        let external = session["external"].to_string();
        let first = mapped.entry(key).or_insert_with(|| external.clone());
        assert_eq!(*first, external, "{nat:#}");
    }
    world.finish(&LOSSES);
}

#[test]
fn every_port_moves_at_once_while_everybody_talks() {
    let Some(world) = world()
        .containers(3)
        .args(&format!("--workers 2 --cpus {}", cpus()))
        .start()
    else {
        return;
    };
    let done = AtomicBool::new(false);
    let places = ["veth1", "veth2", "veth3", super::world::NAME];
    thread::scope(|scope| {
        let (world, done) = (&world, &done);
        scope.spawn(move || {
            for number in 0_usize.. {
                let port = places[number % places.len()];
                let to = number / places.len() % 2;
                let output = world.client(&format!("-j port set {port} worker={to}"));
                assert!(output.status.success(), "{output:?}");
                if done.load(SeqCst) {
                    return;
                }
            }
        });
        for i in 1..=3 {
            tcp_both_ways(world.c(i), world.o(), Topology::OUTSIDE, BYTES);
            tcp_both_ways(world.c(i), world.h(), world.net.gateway(), BYTES);
            tcp_both_ways(
                world.h(),
                world.c(i),
                world.ip(u8::try_from(i).unwrap()),
                BYTES,
            );
        }
        tcp_both_ways(world.c(1), world.c(2), world.ip(2), BYTES);
        done.store(true, SeqCst);
    });
    world.finish(&LOSSES);
}

#[test]
fn port_set_says_what_it_did_or_why_not() {
    let Some(world) = world().args("--workers 2").start() else {
        return;
    };
    let says = |words: &str| {
        let output = world.client(words);
        let text = String::from_utf8_lossy(&output.stderr)
            .trim_end()
            .to_owned();
        (output.status.code().unwrap(), text)
    };
    for (words, code, text) in [
        (
            "port set veth1 worker=0",
            0,
            "veth1 is with worker 0 already; nothing changed",
        ),
        (
            "port set veth1 worker=1",
            0,
            "veth1 moved from worker 0 to worker 1; its NAT sessions stay with worker 0",
        ),
        (
            "port set veth1 worker=0",
            0,
            "veth1 moved from worker 1 to worker 0",
        ),
        (
            "port set veth1 worker=2",
            1,
            "error: port veth1: no worker 2: they are 0 to 1; fix: vswitch port set veth1 worker=1",
        ),
        (
            "port set veth9 worker=1",
            1,
            "error: port veth9: there is none; fix: vswitch port",
        ),
        (
            "port set up0 worker=1",
            1,
            "error: port up0: every worker receives from it, each the frames for its own NAT \
             ports; fix: vswitch -s port",
        ),
        (
            "port set vsw worker=1",
            0,
            "vsw moved from worker 0 to worker 1",
        ),
    ] {
        let words = words.replace("up0", Topology::UPLINK);
        assert_eq!(says(&words), (code, text.replace("up0", Topology::UPLINK)));
    }
    world.finish(&[]);
}

#[test]
fn json_tells_who_serves_what_and_how_busy_each_is() {
    let Some(world) = world().args("--workers 2").start() else {
        return;
    };
    shuttle(&world, "veth1", 1, Duration::ZERO);
    let ports = world.rows("port");
    let workers: Vec<_> = ports
        .iter()
        .map(|port| &port["vswitch"]["workers"])
        .collect();
    let [zero, one, both] = [json!([0]), json!([1]), json!([0, 1])];
    assert_eq!(workers, [&one, &one, &both, &zero]);
    let nat: Vec<_> = (ports.iter().map(|port| &port["vswitch"]["nat_worker"])).collect();
    assert_eq!(nat, [&json!(0), &json!(1), &json!(null), &json!(null)]);
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE).count(20));
    let status = world.json("status");
    assert!(status["totals"]["handed_over"].as_u64().unwrap() > 0);
    let busy = status["workers"][0]["busy"].as_f64().unwrap();
    assert!(busy > 0.0 && busy < 10.0, "{status:#}");
    let shares = status["workers"].as_array().unwrap().iter();
    let shares: f64 = shares.map(|worker| worker["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{status:#}");
    assert!(status["imbalance"].as_f64().unwrap() >= 1.0, "{status:#}");
    world.finish(&[]);
}
