//! The beds of `vswitch bench`: each forwarder that is installed carries real traffic, can be
//! paused, and leaves nothing behind.
#![expect(
    clippy::print_stdout,
    reason = "what a machine lacks is said aloud, not passed over"
)]

use std::path::Path;
use std::time::Duration;

use vswitch_cli::bench::bed::{Bed, Options, Shape, missing, missing_for_nat, unable};
use vswitch_cli::bench::words::{Forwarder, Test};
use vswitch_cli::host::netns;
use vswitch_cli::lab::traffic::craft;
use vswitch_cli::lab::traffic::frames::Wire;
use vswitch_cli::lab::traffic::tcp::{self, Amount};
use vswitch_cli::lab::traffic::udp;

const SECOND: Duration = Duration::from_secs(1);
const PORT: u16 = 5201;
const SWITCHING: Shape = Shape {
    containers: 2,
    nat: false,
    published: false,
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

/// From outside to a port that is published for the first container.
fn publishes(forwarder: Forwarder) {
    let shape = Shape {
        nat: true,
        published: true,
        ..SWITCHING
    };
    let Some(bed) = bed(forwarder, shape) else {
        return;
    };
    let path = bed.path();
    let (client, server) = (path.client, path.server);
    let published = path.published.expect("a published port");
    let listener = tcp::listen(server.host, (server.ip, published.port())).unwrap();
    let amount = Amount::Bytes(4 << 20);
    let report = tcp::bulk(client.host, published, &listener, amount, 7).unwrap();
    assert_eq!(report.bytes, 4 << 20);
    leaves_nothing(bed);
}

#[test]
fn a_bed_of_vswitch_publishes() {
    publishes(Forwarder::Vswitch);
}

#[test]
fn a_bed_of_the_kernels_bridge_publishes() {
    publishes(Forwarder::Bridge);
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
fn beds_have_more_ports_than_namespaces() {
    let shape = Shape {
        containers: 20,
        nat: false,
        published: false,
    };
    for forwarder in Forwarder::ALL {
        if unable(forwarder, Test::Ports).is_some() {
            continue;
        }
        let Some(bed) = bed(forwarder, shape) else {
            continue;
        };
        // Host, 16 containers, and one for the other four.
        assert_eq!(bed.namespaces().len(), 18);
        assert_eq!(bed.path().bystanders.len(), 14);
        carries(&bed);
        reaches_all(&bed);
        leaves_nothing(bed);
    }
}

/// A broadcast of the client reaches every bystander.
fn reaches_all(bed: &Bed) {
    let path = bed.path();
    let frame = craft::arp_request(path.client.mac, path.client.ip, [10, 9, 255, 254].into());
    let mut wires = Vec::new();
    for station in &path.bystanders {
        wires.push(Wire::open(station.host, station.link).unwrap());
    }
    let sender = Wire::open(path.client.host, path.client.link).unwrap();
    sender.send(&frame).unwrap();
    for wire in &mut wires {
        let seen = wire.recv_matching(SECOND, |seen| seen.bytes.starts_with(&frame[..42]));
        assert!(seen.unwrap().is_some());
    }
}
