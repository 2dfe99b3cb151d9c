//! Every load over a bare cable, and over the kernel's bridge and router.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::datagrams::{DISCARD, Kind, SOURCE, run_by};
use super::generator::Way;
use super::{Load, LoadError, ceiling, curve, iperf3, run};
use crate::bench::path::{Path, Station};
use crate::bench::sample::Sample;
use crate::bench::words::Test;
use crate::lab::traffic::craft::Seen;
use crate::lab::traffic::frames::Wire;
use crate::lab::{Cable, End, Host, Lab, Plan, Topology, offload};

const TIME: Duration = Duration::from_millis(200);
const A: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 2);
const MAC_A: [u8; 6] = [2, 0x77, 10, 8, 0, 1];
const MAC_B: [u8; 6] = [2, 0x77, 10, 8, 0, 2];

/// Two hosts and a cable.
struct Bare {
    a: Host,
    b: Host,
    _lab: Lab,
}

impl Bare {
    /// `None` where the kernel refuses.
    fn lay(test: &str) -> Option<Self> {
        let mut lab = Lab::new("load");
        let build = |lab: &mut Lab| {
            let (a, b) = (lab.host("a")?, lab.host("b")?);
            lab.cable(&Cable {
                near: End::new(&a, "eth0").with_mac(MAC_A),
                far: End::new(&b, "eth0").with_mac(MAC_B),
                mtu: None,
            })?;
            a.address("eth0", A, 24)?;
            b.address("eth0", B, 24)?;
            Ok::<_, crate::lab::LabError>((a, b))
        };
        match build(&mut lab) {
            Ok((a, b)) => Some(Self { a, b, _lab: lab }),
            Err(err) => {
                println!("SKIPPED {test}: {err}");
                None
            }
        }
    }

    /// With this process in the place of a forwarder.
    fn path(&self) -> Path<'_> {
        let station = |host, ip, mac| Station {
            host,
            link: "eth0",
            ip,
            mac,
        };
        Path {
            client: station(&self.a, A, MAC_A),
            server: station(&self.b, B, MAC_B),
            published: None,
            bystanders: Vec::new(),
            processes: vec![std::process::id()],
        }
    }
}

/// What must hold whatever the machine.
fn assert_sane(test: Test, sample: &Sample) {
    assert!(
        sample.value > 0.0 && sample.value.is_finite(),
        "{test} {sample:?}"
    );
    assert!(sample.elapsed >= TIME, "{test} {sample:?}");
    match test {
        Test::Tcp | Test::Tcp8 | Test::NatTcp | Test::NatTcpR | Test::NatPub => {
            // The machine's time is counted by ticks of 10 ms, which only a load that never rests
            // is sure to meet.
            assert!(!sample.cpu.machine.is_zero(), "{test} {sample:?}");
            assert!(sample.bits > 0.0, "{test} {sample:?}");
            assert_eq!((sample.frames, sample.offered), (0, None));
        }
        Test::Udp64 | Test::Udp64Each | Test::Udp1400 | Test::Flood | Test::Ports => {
            let loss = sample.loss().unwrap();
            assert!((0.0..1.0).contains(&loss), "{test} {sample:?}");
            assert!(sample.frames <= sample.offered.unwrap() && sample.frames > 0);
            assert!(sample.bits > 0.0);
        }
        Test::Rr | Test::Crr | Test::NatCrr | Test::NatKeep => {
            let latency = sample.latency.unwrap();
            assert!(latency.count > 0, "{test} {sample:?}");
            assert!(latency.p50 <= latency.p99 && latency.p999 <= latency.max);
            assert!(!latency.p50.is_zero());
        }
    }
}

#[test]
fn every_load_runs_over_a_bare_cable_twice() {
    let Some(bare) = Bare::lay("loads over a cable") else {
        return;
    };
    let path = bare.path();
    for test in Test::ALL.into_iter().chain(Test::ALL) {
        let sample = run(test, &path, &Load::full(TIME)).unwrap();
        assert_sane(test, &sample);
        assert!(!sample.cpu.forwarder.is_zero(), "{test} {sample:?}");
    }
    let sample = ceiling(&path, TIME).unwrap();
    assert_sane(Test::Udp64, &sample);
}

#[test]
fn both_ways_of_sending_deliver_frames_of_the_same_length() {
    let Some(bare) = Bare::lay("generator") else {
        return;
    };
    // So that the sending kernel completes the checksums, and they can be checked.
    bare.a.switch_off("eth0", offload::CHECKSUM).unwrap();
    let path = bare.path();
    for (kind, way, len) in [
        (Kind::Udp64, Way::Each, 60),
        (Kind::Udp64, Way::Cut, 60),
        (Kind::Udp1400, Way::Each, 1442),
        (Kind::Udp1400, Way::Cut, 1442),
        (Kind::Broadcast, Way::Each, 60),
    ] {
        let mut wire = Wire::open(&bare.b, "eth0").unwrap();
        let load = Load {
            time: Duration::from_millis(20),
            offered: Some(0.2),
        };
        let sample = run_by(&path, &load, kind, way).unwrap();
        let mut seen = 0_u64;
        while let Some(frame) = wire.recv(Duration::from_millis(20)).unwrap() {
            if frame.bytes.len() != len {
                continue;
            }
            seen += 1;
            if kind != Kind::Broadcast {
                let packet = Seen::in_frame(&frame.bytes).unwrap();
                assert_eq!(packet.ports(), Some((SOURCE, DISCARD)));
                assert_eq!(packet.payload_checksum_ok(), Some(true), "{way:?}");
                assert!(packet.header_checksum_ok, "{way:?}");
            }
        }
        assert_eq!(seen, sample.frames, "{kind} {way:?}");
    }
}

#[test]
fn what_is_offered_follows_what_is_asked() {
    let Some(bare) = Bare::lay("paced") else {
        return;
    };
    let samples = curve(Test::Udp64, &bare.path(), TIME, &[0.002, 0.02]).unwrap();
    for (sample, asked) in samples.iter().zip([500.0, 5_000.0]) {
        assert_sane(Test::Udp64, sample);
        // Never more but for the time beyond the end; less when the machine is busy elsewhere.
        let asked = asked * sample.elapsed.as_secs_f64() / TIME.as_secs_f64();
        let offered = sample.offered.unwrap() as f64;
        assert!(offered <= asked + 2.0, "{sample:?}");
        assert!(offered >= asked / 50.0, "{sample:?}");
    }
    let err = curve(Test::Rr, &bare.path(), TIME, &[1.0]).unwrap_err();
    assert!(err.to_string().contains("rr"), "{err}");
}

#[test]
fn a_cut_cable_is_an_error_that_says_who_and_what() {
    let Some(bare) = Bare::lay("cut cable") else {
        return;
    };
    bare.b.set_up("eth0", false).unwrap();
    let path = bare.path();
    for test in [Test::Tcp, Test::Rr, Test::Crr, Test::Udp64, Test::Flood] {
        let err = run(test, &path, &Load::full(TIME)).unwrap_err();
        let text = err.to_string();
        assert!(matches!(err, LoadError::Path { .. }), "{test}: {text}");
        assert!(text.contains(" from a to "), "{test}: {text}");
    }
}

#[test]
fn the_kernel_bridges_and_routes_all_loads() {
    let built = Topology::build(Lab::new("load"), Plan::default());
    let ready = built.and_then(|net| net.bridge_ports().map(|()| net));
    let net = match ready {
        Ok(net) => net,
        Err(err) => return println!("SKIPPED loads over a bridge: {err}"),
    };
    net.h.sysctl("net/ipv4/ip_forward", "1").unwrap();
    let inside = Ipv4Addr::new(10, 9, 0, 0);
    net.o.route("eth0", inside, 24, Topology::HOST).unwrap();
    let station = |host, ip, mac| Station {
        host,
        link: "eth0",
        ip,
        mac,
    };
    let neighbours = Path {
        client: station(net.c(1), net.ip(1), net.mac(1)),
        server: station(net.c(2), net.ip(2), net.mac(2)),
        published: None,
        bystanders: Vec::new(),
        processes: Vec::new(),
    };
    let outside = net.o.link("eth0").unwrap();
    let through = Path {
        server: station(
            &net.o,
            Topology::OUTSIDE,
            outside.mac.map_or([0; 6], |mac| mac.0),
        ),
        ..neighbours.clone()
    };
    for test in Test::ALL {
        let path = if test.needs_nat() {
            &through
        } else {
            &neighbours
        };
        let sample = run(test, path, &Load::full(TIME)).unwrap();
        assert_sane(test, &sample);
        assert!(sample.cpu.forwarder.is_zero(), "it is the kernel");
    }
}

#[test]
fn iperf3_agrees_that_something_arrives() {
    let Some(bare) = Bare::lay("iperf3") else {
        return;
    };
    let path = bare.path();
    for reverse in [false, true] {
        match iperf3(&path, TIME, reverse, 2).unwrap() {
            Some(gbit) => assert!(gbit > 0.0),
            None => println!("SKIPPED iperf3: not installed"),
        }
    }
    bare.b.set_up("eth0", false).unwrap();
    let dead = iperf3(&path, TIME, false, 1);
    assert!(
        matches!(dead, Err(LoadError::Path { .. }) | Ok(None)),
        "{dead:?}"
    );
}
