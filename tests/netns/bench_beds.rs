//! The beds of `vswitch bench`: each forwarder that is installed carries real traffic, can be
//! paused, and leaves nothing behind.
#![expect(
    clippy::print_stdout,
    reason = "what a machine lacks is said aloud, not passed over"
)]

use std::path::Path;
use std::time::Duration;

use vswitch_cli::bench::bed::{Bed, Options, Shape, missing, missing_for_nat};
use vswitch_cli::bench::words::Forwarder;
use vswitch_cli::host::netns;
use vswitch_cli::lab::traffic::tcp::{self, Amount};
use vswitch_cli::lab::traffic::udp;

const SECOND: Duration = Duration::from_secs(1);
const PORT: u16 = 5201;
const SWITCHING: Shape = Shape {
    containers: 2,
    nat: false,
};

fn options() -> Options {
    Options {
        program: env!("CARGO_BIN_EXE_vswitch").into(),
        vswitch_args: Vec::new(),
    }
}

/// The bed, or `None` (said aloud) where the machine has not what it needs.
fn bed(forwarder: Forwarder, shape: Shape) -> Option<Bed> {
    let nat = shape.nat.then(|| missing_for_nat(forwarder)).flatten();
    if let Some(lack) = missing(forwarder).or(nat) {
        println!("SKIPPED {forwarder}: apt install {}", lack.package);
        return None;
    }
    match Bed::build(forwarder, shape, &options()) {
        Ok(bed) => Some(bed),
        Err(err) if err.why.contains("not permitted") => {
            println!("SKIPPED {forwarder}: {err}");
            None
        }
        Err(err) => panic!("{forwarder}: {err}"),
    }
}

/// A few megabytes of TCP, and a datagram there and back.
fn carries(bed: &Bed) {
    let path = bed.path();
    let (client, server) = (path.client, path.server);
    let listener = tcp::listen(server.host, (server.ip, PORT)).unwrap();
    let amount = Amount::Bytes(4 << 20);
    let report = tcp::bulk(client.host, (server.ip, PORT), &listener, amount, 7).unwrap();
    assert_eq!(report.bytes, 4 << 20);
    let echo = udp::bind(server.host, (server.ip, PORT)).unwrap();
    let socket = udp::bind(client.host, (client.ip, 0)).unwrap();
    socket.send_to(b"there", (server.ip, PORT)).unwrap();
    let (text, from) = udp::recv(&echo, SECOND).unwrap().expect("a datagram");
    assert_eq!(text, b"there");
    assert_eq!(from.ip() == client.ip, !bed.shape().nat, "{from}");
    echo.send_to(b"back", from).unwrap();
    assert_eq!(udp::recv(&socket, SECOND).unwrap().unwrap().0, b"back");
}

/// While it is paused nothing passes; afterwards what waited arrives, or what is sent anew does.
fn pauses(bed: &Bed) {
    let path = bed.path();
    let (client, server) = (path.client, path.server);
    let echo = udp::bind(server.host, (server.ip, PORT)).unwrap();
    let socket = udp::bind(client.host, (client.ip, 0)).unwrap();
    bed.pause().unwrap();
    socket.send_to(b"paused", (server.ip, PORT)).unwrap();
    let arrived = udp::recv(&echo, Duration::from_millis(100)).unwrap();
    assert_eq!(arrived.is_none(), !path.processes.is_empty());
    bed.resume().unwrap();
    let resumed = (0..20).any(|_| {
        socket.send_to(b"resumed", (server.ip, PORT)).unwrap();
        udp::recv(&echo, Duration::from_millis(100))
            .unwrap()
            .is_some()
    });
    assert!(resumed);
}

/// Ends the bed, and looks whether all is gone; a paused one too.
fn leaves_nothing(bed: Bed) {
    let namespaces = bed.namespaces();
    let processes = bed.path().processes;
    bed.pause().unwrap();
    drop(bed);
    for pid in processes {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{pid} lives");
    }
    let left = netns::names().unwrap();
    assert!(namespaces.len() >= 3);
    assert!(
        namespaces.iter().all(|name| !left.contains(name)),
        "{left:?}"
    );
}

fn lives(forwarder: Forwarder, shape: Shape) {
    let Some(bed) = bed(forwarder, shape) else {
        return;
    };
    println!("{forwarder}: {}", bed.description());
    carries(&bed);
    pauses(&bed);
    carries(&bed);
    leaves_nothing(bed);
}

#[test]
fn a_bed_of_vswitch_switches() {
    lives(Forwarder::Vswitch, SWITCHING);
}

#[test]
fn a_bed_of_vswitch_translates() {
    lives(
        Forwarder::Vswitch,
        Shape {
            nat: true,
            ..SWITCHING
        },
    );
}

#[test]
fn a_bed_of_the_kernels_bridge_switches() {
    lives(Forwarder::Bridge, SWITCHING);
}

#[test]
fn a_bed_of_the_kernels_bridge_translates() {
    lives(
        Forwarder::Bridge,
        Shape {
            nat: true,
            ..SWITCHING
        },
    );
}

#[test]
fn a_bed_of_a_cable_carries() {
    lives(Forwarder::Direct, SWITCHING);
}

#[test]
fn a_bed_of_open_vswitch_switches() {
    lives(Forwarder::Ovs, SWITCHING);
}

#[test]
fn a_bed_of_open_vswitch_with_tso_switches() {
    lives(Forwarder::OvsTso, SWITCHING);
}

#[test]
fn a_bed_of_testpmd_moves_frames() {
    lives(Forwarder::Testpmd, SWITCHING);
}

#[test]
fn a_bed_of_testpmd_over_xdp_moves_frames() {
    lives(Forwarder::TestpmdXdp, SWITCHING);
}

#[test]
fn a_bed_of_vde_switches() {
    lives(Forwarder::Vde, SWITCHING);
}

#[test]
#[ignore = "scale"]
fn scale() {
    for containers in [256, 1000] {
        for forwarder in [
            Forwarder::Bridge,
            Forwarder::Vswitch,
            Forwarder::Ovs,
            Forwarder::Vde,
        ] {
            let started = std::time::Instant::now();
            let shape = Shape {
                containers,
                nat: false,
            };
            match Bed::build(forwarder, shape, &options()) {
                Ok(bed) => {
                    println!(
                        "{forwarder} {containers} built in {:?}: {}",
                        started.elapsed(),
                        bed.description()
                    );
                    carries(&bed);
                    let started = std::time::Instant::now();
                    leaves_nothing(bed);
                    println!("gone in {:?}", started.elapsed());
                }
                Err(err) => println!(
                    "{forwarder} {containers}: {err} after {:?}",
                    started.elapsed()
                ),
            }
        }
    }
}
