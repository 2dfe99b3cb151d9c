//! The lab against the kernel's own bridge and router, so that a fault found over the switch is
//! the switch's.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use nix::errno::Errno;

use super::traffic::capture::Capture;
use super::traffic::craft::{
    self, Checksum, ETHERTYPE_IPV4, Ipv4, Seen, arp_request, ethernet, icmp_echo_request, tagged,
};
use super::traffic::frames::{Direction, Wire};
use super::traffic::ping::Ping;
use super::traffic::snmp::Counters;
use super::traffic::tagged::TaggedWire;
use super::traffic::{tcp, udp};
use super::{Host, Lab, Plan, Topology};
use crate::host::netns;

const SECOND: Duration = Duration::from_secs(1);

/// The standard network with its ports on a kernel bridge; `None` where the kernel refuses.
fn bridged(test: &str, plan: Plan) -> Option<Topology> {
    let topology = match Topology::build(Lab::new("lab"), plan) {
        Ok(topology) => topology,
        Err(err) => {
            println!("SKIPPED {test}: {err}");
            return None;
        }
    };
    match topology.bridge_ports() {
        Ok(()) => Some(topology),
        Err(err) => {
            println!("SKIPPED {test}: {err}");
            None
        }
    }
}

/// Makes the kernel route between the containers and the outside, without translation.
fn route_by_kernel(topology: &Topology) {
    topology.h.sysctl("net/ipv4/ip_forward", "1").unwrap();
    let inside = Ipv4Addr::new(10, 9, 0, 0);
    let outside = [Some(&topology.o), topology.r.as_ref()];
    for host in outside.into_iter().flatten() {
        host.route("eth0", inside, 24, Topology::HOST).unwrap();
    }
}

fn ping(from: &Host, ping: &Ping) -> super::traffic::ping::PingReport {
    from.attempt(|| "ping".to_owned(), || ping.run()).unwrap()
}

fn counters(host: &Host) -> Counters {
    host.attempt(|| "counters".to_owned(), Counters::read)
        .unwrap()
}

#[test]
fn nothing_is_left_of_a_lab_not_even_after_a_panic() {
    let mut names = Vec::new();
    let built = catch_unwind(AssertUnwindSafe(|| {
        let mut lab = Lab::new("panic");
        match lab.host("a") {
            Ok(_) => {
                names = lab.namespace_names();
                assert!(netns::names().unwrap().contains(&names[0]));
                panic!("a test fails");
            }
            Err(err) => println!("SKIPPED lab panic: {err}"),
        }
    }));
    assert_eq!(built.is_err(), !names.is_empty());
    let left = netns::names().unwrap();
    assert!(names.iter().all(|name| !left.contains(name)), "{left:?}");

    let Some(topology) = bridged("cleanup", Plan::default()) else {
        return;
    };
    let h = topology.h.clone();
    drop(topology);
    // The handle keeps the namespace, but the cables are gone at once.
    assert!(h.link("veth1").is_err() && h.link("br0").is_err() && h.link("eth0").is_err());
}

#[test]
fn echo_requests_are_answered_counted_and_timed() {
    let Some(topology) = bridged("ping", Plan::default()) else {
        return;
    };
    let c1 = topology.c(1);
    let report = ping(c1, &Ping::to(topology.ip(2)).count(5));
    assert!(report.is_perfect(), "{report:?}");
    assert_eq!((report.sent, report.rtts.len()), (5, 5));
    assert_eq!(report.ttl, Some(64));
    assert!(report.rtts.max().unwrap() < SECOND);
    let gateway = ping(c1, &Ping::to(topology.gateway()).size(1400).dont_fragment());
    assert!(gateway.is_perfect(), "{gateway:?}");
    for reverse_fragments in [false, true] {
        let big = Ping {
            reverse_fragments,
            ..Ping::to(topology.ip(2)).size(8000).count(2)
        };
        let report = ping(c1, &big);
        assert!(report.is_perfect(), "{report:?}");
    }
    let nobody = Ping::to(Ipv4Addr::new(10, 9, 0, 99)).timeout(Duration::from_millis(50));
    let report = ping(c1, &nobody);
    assert_eq!((report.received, report.is_perfect()), (0, false));
    let beyond = Ping::to(topology.ip(2)).size(1473).dont_fragment();
    let refused = c1.run(|| beyond.run()).unwrap().unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc_emsgsize()));
}

fn libc_emsgsize() -> i32 {
    Errno::EMSGSIZE as i32
}

#[test]
fn errors_on_the_way_are_told_with_their_sender_and_mtu() {
    let plan = Plan {
        router_mtu: Some(1280),
        ..Plan::default()
    };
    let Some(topology) = bridged("router", plan) else {
        return;
    };
    route_by_kernel(&topology);
    let c1 = topology.c(1);
    let far = Topology::BEHIND_ROUTER;
    let report = ping(c1, &Ping::to(far).size(1200).dont_fragment());
    assert!(report.is_perfect(), "{report:?}");
    assert_eq!(report.ttl, Some(62), "two routers on the way");
    let report = ping(c1, &Ping::to(far).size(1400).dont_fragment());
    assert_eq!((report.received, report.errors.len()), (0, 1));
    let error = report.errors[0];
    assert!(error.is_too_big());
    assert_eq!(
        (error.from, error.mtu, error.seq),
        (Topology::ROUTER, 1280, 0)
    );
    let report = ping(c1, &Ping::to(far).size(1400));
    assert!(report.is_perfect(), "fragmented on the way: {report:?}");
    let short_lived = Ping {
        ttl: 1,
        ..Ping::to(far)
    };
    let report = ping(c1, &short_lived);
    assert_eq!(report.errors[0].kind, 11);
    assert_eq!(report.errors[0].from, topology.gateway());

    // From c2, whose kernel has not learnt the path MTU yet.
    let socket = udp::bind(topology.c(2), (Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    udp::queue_errors(&socket).unwrap();
    let to = SocketAddrV4::new(far, 9);
    socket.send_to(&[0; 1400], to).unwrap();
    let error = udp::queued_error(&socket, SECOND).unwrap().unwrap();
    assert_eq!((error.errno, error.info), (Errno::EMSGSIZE, 1280));
    assert_eq!(error.from, Some(Topology::ROUTER));
    assert_eq!(udp::queued_error(&socket, Duration::ZERO).unwrap(), None);
    socket.send_to(b"closed", to).unwrap();
    let error = udp::queued_error(&socket, SECOND).unwrap().unwrap();
    assert_eq!((error.kind, error.code), (3, 3));
    assert_eq!(error.from, Some(far));
}

#[test]
fn bulk_transfers_arrive_whole_and_refusals_are_told() {
    let Some(topology) = bridged("tcp", Plan::default()) else {
        return;
    };
    let (c1, c2) = (topology.c(1), topology.c(2));
    let before = counters(c2);
    let listener = tcp::listen(c2, (Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let to = (topology.ip(2), port);
    let exact = tcp::bulk(c1, to, &listener, tcp::Amount::Bytes(20_000_001), 1).unwrap();
    assert_eq!(exact.bytes, 20_000_001);
    assert_eq!(exact.seen_from.ip(), topology.ip(1));
    let timed = tcp::Amount::For(Duration::from_millis(200));
    let timed = tcp::bulk(c1, to, &listener, timed, 2).unwrap();
    assert!(timed.gbit_per_s() > 0.01, "{timed:?}");
    let rtts = tcp::round_trips(c1, to, &listener, 50, 64).unwrap();
    assert_eq!(rtts.len(), 50);
    let after = counters(c2);
    assert_eq!(after.since(&before, "Tcp", "InCsumErrors"), Some(0));
    assert!(after.since(&before, "Tcp", "PassiveOpens").unwrap() >= 3);

    drop(listener);
    let refused = tcp::connect(c1, to).unwrap_err();
    assert_eq!(refused.errno(), Some(Errno::ECONNREFUSED), "{refused}");
    let resets = counters(c2).since(&after, "Tcp", "OutRsts");
    assert_eq!(resets, Some(1));
    let nobody = (Ipv4Addr::new(10, 9, 0, 99), 80);
    let lost = tcp::connect_within(c1, nobody, Duration::from_millis(50)).unwrap_err();
    assert_eq!(lost.io().kind(), io::ErrorKind::TimedOut, "{lost}");
}

#[test]
fn datagrams_are_echoed_segmented_and_crafted() {
    let Some(topology) = bridged("udp", Plan::default()) else {
        return;
    };
    let (c1, c2) = (topology.c(1), topology.c(2));
    let server = udp::EchoServer::start(c2, (topology.ip(2), 0)).unwrap();
    let socket = udp::bind(c1, (topology.ip(1), 0)).unwrap();
    let big = vec![7; udp::LARGEST];
    for payload in [&b"x"[..], &big[..]] {
        let (echo, from) = udp::exchange(&socket, server.address(), payload, SECOND)
            .unwrap()
            .unwrap();
        assert_eq!((echo.len(), from), (payload.len(), server.address()));
    }
    let sink = udp::bind(c2, (topology.ip(2), 0)).unwrap();
    let to = sink.local_addr().unwrap();
    udp::send_segmented(&socket, to, &[9; 20_000], 1000).unwrap();
    for _ in 0..20 {
        let (segment, _) = udp::recv(&sink, SECOND).unwrap().expect("a segment");
        assert_eq!(segment, [9; 1000]);
    }
    assert_eq!(udp::recv(&sink, Duration::ZERO).unwrap(), None);

    let SocketAddr::V4(to) = to else {
        unreachable!("bound to IPv4")
    };
    let source = SocketAddrV4::new(topology.ip(1), 4242);
    let before = counters(c2);
    let cases = [
        (Checksum::Right, true),
        (Checksum::Exactly(0), true),
        (Checksum::Exactly(0x1234), false),
    ];
    for (checksum, arrives) in cases {
        let crafted = udp::Crafted {
            checksum,
            ..udp::Crafted::new(source, to, b"crafted")
        };
        c1.attempt(|| "send".to_owned(), || crafted.send()).unwrap();
        let got = udp::recv(&sink, Duration::from_millis(100)).unwrap();
        let expected = arrives.then(|| (b"crafted".to_vec(), SocketAddr::V4(source)));
        assert_eq!(got, expected, "{checksum:?}");
    }
    let after = counters(c2);
    assert_eq!(after.since(&before, "Udp", "InCsumErrors"), Some(1));
    let crafted = udp::Crafted {
        reverse_fragments: true,
        ..udp::Crafted::new(source, to, &big[..5000])
    };
    c1.attempt(|| "send".to_owned(), || crafted.send()).unwrap();
    let (whole, _) = udp::recv(&sink, SECOND).unwrap().expect("reassembled");
    assert_eq!(whole, big[..5000]);
}

#[test]
fn frames_are_injected_and_observed() {
    let Some(topology) = bridged("frames", Plan::default()) else {
        return;
    };
    let (c1, c2) = (topology.c(1), topology.c(2));
    let mac = topology.mac(1);
    let asks = arp_request(mac, topology.ip(1), topology.ip(2));
    let wanted = asks.clone();
    let seen = Capture::start(c2, "eth0", move |frame| frame.bytes == wanted).unwrap();
    let mut wire = Wire::open(c1, "eth0").unwrap();
    wire.send(&asks).unwrap();
    assert!(seen.wait_for(1, SECOND));
    let is_answer = |bytes: &[u8]| bytes[..6] == mac && bytes[12..14] == [8, 6];
    let answer = wire
        .recv_matching(SECOND, |frame| is_answer(&frame.bytes))
        .unwrap()
        .expect("c2's kernel answers");
    assert_eq!(answer.direction, Direction::In);
    assert_eq!(answer.bytes[6..12], topology.mac(2));
    let frames = seen.stop().unwrap();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].direction, Direction::In);

    let own = Capture::start(c2, "eth0", |frame| {
        let seen = Seen::in_frame(&frame.bytes);
        frame.direction == Direction::Out && seen.is_some_and(|seen| seen.icmp() == Some((0, 0)))
    })
    .unwrap();
    let echo = icmp_echo_request(77, 1, b"by hand");
    let packet = Ipv4::new(topology.ip(1), topology.ip(2), craft::ICMP).packet(&echo);
    let frame = ethernet(topology.mac(2), mac, ETHERTYPE_IPV4, &packet);
    wire.send(&frame).unwrap();
    assert!(
        own.wait_for(1, SECOND),
        "the kernel answers a crafted echo request"
    );
    let tagged = tagged(&frame, 0x8100, 5);
    wire.send(&tagged).unwrap();
    assert!(
        !own.wait_for(2, Duration::from_millis(50)),
        "a tagged one is not for it"
    );
    let gone = Wire::open(c1, "eth9").unwrap_err();
    assert_eq!(gone.errno(), Some(Errno::ENODEV));
}

#[test]
fn tags_are_seen_as_they_were_on_the_wire() {
    let Some(topology) = bridged("tags", Plan::default()) else {
        return;
    };
    let mut observer = match TaggedWire::open(topology.c(2), "eth0") {
        Ok(observer) => observer,
        Err(err) => return println!("SKIPPED tags: {err}"),
    };
    let wire = Wire::open(topology.c(1), "eth0").unwrap();
    let plain = ethernet(craft::BROADCAST, topology.mac(1), 0x88b5, &[0x5a; 46]);
    let double = tagged(&tagged(&plain, 0x8100, 5), 0x88a8, 7);
    for sent in [
        plain.clone(),
        tagged(&plain, 0x8100, 5),
        double,
        tagged(&plain, 0x8100, 0),
        tagged(&plain, 0x8100, 3 << 13),
    ] {
        wire.send(&sent).unwrap();
        // Its kernel speaks too, by IPv6, but never to all.
        let from_c1 = |frame: &[u8]| {
            frame.get(6..12) == Some(&topology.mac(1)[..])
                && frame.get(..6) == Some(&craft::BROADCAST[..])
        };
        let seen = observer.recv_matching(SECOND, from_c1).unwrap();
        assert_eq!(seen, Some(sent));
    }
}
