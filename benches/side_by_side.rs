//! vswitch against the kernel's bridge on this machine, in pairs.
//!
//! Two identical networks are built, one forwarded by the program, one by a kernel bridge (with nft
//! absent: plain switching). Each test runs A B A B ..., so that a machine whose speed drifts harms
//! both alike; medians, spread and the ratio pair by pair are printed. Nothing is asserted: a
//! figure is for reading.
//!
//! ```text
//! cargo bench --bench side_by_side -- [--pairs 5] [--seconds 3] [--vswitch ARGS...]
//! ```
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run has nothing to say"
)]
#![expect(clippy::print_stdout, reason = "the figures are its output")]
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::io::{Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use switch::port::{Egress, Outgoing, Tx};
use vswitch_cli::lab::traffic::tcp;
use vswitch_cli::lab::{Host, Lab, Plan, Process, Topology};

struct Options {
    pairs: usize,
    time: Duration,
    vswitch: Vec<String>,
}

fn main() {
    let options = options();
    let switched = Topology::build(Lab::new("bench-a"), Plan::default()).unwrap();
    let bridged = Topology::build(Lab::new("bench-b"), Plan::default()).unwrap();
    bridged.bridge_ports().unwrap();
    let _vswitch = start(&switched, &options.vswitch);
    println!(
        "pairs {}, {} s each",
        options.pairs,
        options.time.as_secs_f64()
    );
    let tests: [(&str, &str, Test); 4] = [
        ("TCP bulk, 1 stream", "Gbit/s", |net, time| {
            bulk(net, 1, time)
        }),
        ("TCP bulk, 8 streams", "Gbit/s", |net, time| {
            bulk(net, 8, time)
        }),
        ("UDP 64 B delivered", "Mpps", flood),
        ("TCP round trip p50", "us", round_trip),
    ];
    for (name, unit, test) in tests {
        let mut pairs = Vec::new();
        // One of each that does not count: caches, ARP, CPU frequency.
        test(&switched, options.time / 4);
        test(&bridged, options.time / 4);
        for _ in 0..options.pairs {
            pairs.push((test(&switched, options.time), test(&bridged, options.time)));
        }
        report(name, unit, &pairs);
    }
}

type Test = fn(&Topology, Duration) -> f64;

fn options() -> Options {
    let mut options = Options {
        pairs: 5,
        time: Duration::from_secs(3),
        vswitch: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--pairs" => options.pairs = words.next().unwrap().parse().unwrap(),
            "--seconds" => {
                options.time = Duration::from_secs_f64(words.next().unwrap().parse().unwrap());
            }
            "--vswitch" => options.vswitch = words.by_ref().collect(),
            // What cargo adds for its own harness.
            _ => {}
        }
    }
    options
}

fn start(net: &Topology, more: &[String]) -> Process {
    let run_dir = std::env::temp_dir().join(format!("vswitch-bench-{}", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_vswitch"));
    command.args([
        "--ports",
        &net.port_names().join(","),
        "--no-host-port",
        "--run-dir",
    ]);
    command.arg(&run_dir).args(more);
    let process = net.h.spawn(&mut command).unwrap();
    process
        .wait_line(Duration::from_secs(10), |line| line.starts_with("ready in"))
        .unwrap_or_else(|| panic!("not ready: {:?}", process.stderr()));
    process
}

/// Gbit/s that arrive.
fn bulk(net: &Topology, streams: usize, time: Duration) -> f64 {
    let address = SocketAddr::from((net.ip(2), 5201));
    let listener = tcp::listen(net.c(2), address).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut senders = Vec::new();
    let mut receivers = Vec::new();
    for _ in 0..streams {
        let mut stream = tcp::connect(net.c(1), address).unwrap();
        let (mut other, _) = tcp::accept(&listener, Duration::from_secs(5)).unwrap();
        let stopped = Arc::clone(&stop);
        senders.push(thread::spawn(move || {
            let block = vec![0x5a; 128 << 10];
            while !stopped.load(Ordering::Relaxed) && stream.write_all(&block).is_ok() {}
        }));
        receivers.push(thread::spawn(move || {
            let mut block = vec![0; 128 << 10];
            let mut bytes = 0;
            while let Ok(count) = other.read(&mut block) {
                if count == 0 {
                    break;
                }
                bytes += count;
            }
            bytes
        }));
    }
    let started = Instant::now();
    thread::sleep(time);
    stop.store(true, Ordering::Relaxed);
    senders
        .into_iter()
        .for_each(|sender| sender.join().unwrap());
    let bytes: usize = receivers
        .into_iter()
        .map(|receiver| receiver.join().unwrap())
        .sum();
    bytes as f64 * 8.0 / 1e9 / started.elapsed().as_secs_f64()
}

/// Million 64-byte frames a second that arrive at the second container while the first sends as
/// many as one socket can.
fn flood(net: &Topology, time: Duration) -> f64 {
    // Somebody listens, so that the receiver's kernel does not answer with ICMP.
    let _sink: UdpSocket = net
        .c(2)
        .attempt(|| "bind".into(), || UdpSocket::bind((net.ip(2), 9)))
        .unwrap();
    let before = received(net.c(2));
    let started = Instant::now();
    net.c(1)
        .run(|| {
            let mut tx = Tx::open().unwrap();
            let egress = Egress::Packet {
                ifindex: net.c(1).link("eth0").unwrap().index,
            };
            let frame = udp_frame(net);
            let batch: Vec<Outgoing<'_>> = (0..128)
                .map(|_| Outgoing {
                    sealed: &frame,
                    egress: &egress,
                })
                .collect();
            let mut outcomes = Vec::new();
            while started.elapsed() < time {
                outcomes.clear();
                tx.send(&batch, &mut outcomes);
            }
        })
        .unwrap();
    let elapsed = started.elapsed();
    thread::sleep(Duration::from_millis(50));
    (received(net.c(2)) - before) as f64 / 1e6 / elapsed.as_secs_f64()
}

/// A virtio-net header that asks for nothing, and 60 bytes (64 with the FCS) of UDP.
fn udp_frame(net: &Topology) -> Vec<u8> {
    let mut frame = vec![0; 10];
    etherparse::PacketBuilder::ethernet2(net.mac(1), net.mac(2))
        .ipv4(net.ip(1).octets(), net.ip(2).octets(), 64)
        .udp(4000, 9)
        .write(&mut frame, &[0; 18])
        .unwrap();
    frame
}

/// Frames the container's interface has received.
fn received(host: &Host) -> u64 {
    let text = host
        .attempt(
            || "read".into(),
            || std::fs::read_to_string("/proc/thread-self/net/dev"),
        )
        .unwrap();
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("eth0:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Median microseconds of a one-byte ping-pong over TCP.
fn round_trip(net: &Topology, time: Duration) -> f64 {
    let address = SocketAddr::from((net.ip(2), 5202));
    let listener = tcp::listen(net.c(2), address).unwrap();
    let mut near = tcp::connect(net.c(1), address).unwrap();
    let (mut far, _) = tcp::accept(&listener, Duration::from_secs(5)).unwrap();
    near.set_nodelay(true).unwrap();
    far.set_nodelay(true).unwrap();
    let echo = thread::spawn(move || {
        let mut byte = [0];
        while far.read_exact(&mut byte).is_ok() && far.write_all(&byte).is_ok() {}
    });
    let mut samples = Vec::new();
    let started = Instant::now();
    let mut byte = [0];
    while started.elapsed() < time {
        let asked = Instant::now();
        near.write_all(&byte).unwrap();
        near.read_exact(&mut byte).unwrap();
        samples.push(asked.elapsed());
    }
    drop(near);
    echo.join().unwrap();
    samples.sort_unstable();
    samples[samples.len() / 2].as_secs_f64() * 1e6
}

fn report(name: &str, unit: &str, pairs: &[(f64, f64)]) {
    let of = |pick: fn(&(f64, f64)) -> f64| Spread::of(pairs.iter().map(pick).collect());
    let (ours, theirs, ratio) = (of(|p| p.0), of(|p| p.1), of(|p| p.0 / p.1));
    println!("{name:<20} vswitch {ours} {unit}   bridge {theirs} {unit}   ratio {ratio}");
}

struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |place: usize| values[place.min(values.len() - 1)];
        Self {
            min: at(0),
            median: at(values.len() / 2),
            max: at(values.len()),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2}..{:.2})", self.median, self.min, self.max)
    }
}
