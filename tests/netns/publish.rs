//! Published ports with real sockets: from the host, from outside, from members.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use vswitch_cli::lab::traffic::craft::{self, Checksum, Ipv4, Segment, tcp_flags};
use vswitch_cli::lab::traffic::frames::Wire;
use vswitch_cli::lab::traffic::{tcp, udp};
use vswitch_cli::lab::{Host, Topology};

use super::frames::SILENCE;
use super::traffic::ANY;
use super::world::{SECOND, World, eventually, world};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// A server that tells every caller, by TCP and by UDP, its own name and who the caller is.
struct Teller {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Teller {
    fn start(host: &Host, name: &'static str, port: u16) -> Self {
        let at = (Ipv4Addr::UNSPECIFIED, port);
        let listener = tcp::listen(host, at).unwrap();
        listener.set_nonblocking(true).unwrap();
        let socket = udp::bind(host, at).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (one, two) = (Arc::clone(&stop), Arc::clone(&stop));
        let threads = vec![
            thread::spawn(move || Self::tell_by_tcp(&listener, name, &one)),
            thread::spawn(move || Self::tell_by_udp(&socket, name, &two)),
        ];
        Self { stop, threads }
    }

    fn tell_by_tcp(listener: &TcpListener, name: &str, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            match listener.accept() {
                Ok((mut stream, from)) => {
                    stream.set_nonblocking(false).unwrap();
                    let _ = write!(stream, "{name} {}", from.ip());
                }
                Err(_) => thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    fn tell_by_udp(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
        while !stop.load(Ordering::Acquire) {
            if let Ok(Some((_, from))) = udp::recv(socket, Duration::from_millis(20)) {
                let _ = socket.send_to(format!("{name} {}", from.ip()).as_bytes(), from);
            }
        }
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What the server behind an address says by TCP.
fn ask(from: &Host, to: impl Into<SocketAddr>) -> std::io::Result<String> {
    let to = to.into();
    let mut stream = match tcp::connect_within(from, to, 2 * SECOND) {
        Ok(stream) => stream,
        Err(error) => return Err(error.io().kind().into()),
    };
    stream.set_read_timeout(Some(2 * SECOND))?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    Ok(said)
}

/// And by UDP.
fn ask_udp(from: &Host, to: impl Into<SocketAddr>) -> Option<String> {
    let socket = udp::bind(from, ANY).unwrap();
    told(&socket, to.into())
}

fn told(socket: &UdpSocket, to: SocketAddr) -> Option<String> {
    let (said, from) = udp::exchange(socket, to, b"who?", SECOND).unwrap()?;
    assert_eq!(from, to, "answered from elsewhere");
    Some(String::from_utf8(said).unwrap())
}

fn published(world: &World) -> Vec<serde_json::Value> {
    world.json("nat")["published"].as_array().unwrap().clone()
}

fn is_in_use(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::AddrInUse
}

#[test]
fn a6_2_the_host_reaches_published_ports_by_its_addresses_and_by_localhost() {
    let Some(world) = world()
        .args("-p 8080:veth1:80 -p 8080:veth1:80/udp -p 127.0.0.1:8081:veth2:80")
        .host_answers()
        .start()
    else {
        return;
    };
    let _one = Teller::start(world.c(1), "one", 80);
    let _two = Teller::start(world.c(2), "two", 80);
    let gateway = world.net.gateway();
    for to in [LOCALHOST, Topology::HOST, gateway] {
        let said = ask(world.h(), (to, 8080)).unwrap();
        assert_eq!(said, format!("one {gateway}"), "{to}");
        let said = ask_udp(world.h(), (to, 8080));
        assert_eq!(said, Some(format!("one {gateway}")), "{to}");
    }
    let said = ask(world.h(), (LOCALHOST, 8081)).unwrap();
    assert_eq!(said, format!("two {gateway}"));
    let elsewhere = ask(world.h(), (Topology::HOST, 8081)).unwrap_err();
    assert_eq!(elsewhere.kind(), ErrorKind::ConnectionRefused);
    let published = published(&world);
    assert_eq!(published[0]["relayed_total"], 3);
    assert_eq!(published[0]["targets"][0]["address"], "10.9.0.2:80");
    let screen = world.text("nat");
    let line = "published: 127.0.0.1:8081/tcp -> 10.9.0.3:80 (0 sessions)";
    assert!(screen.contains(line), "{screen}");
    world.finish(&[]);
}

#[test]
fn a6_2_a_long_transfer_from_the_host_keeps_every_byte() {
    let Some(world) = world().args("-p 127.0.0.1:8080:veth1:80").start() else {
        return;
    };
    let listener = tcp::listen(world.c(1), (Ipv4Addr::UNSPECIFIED, 80)).unwrap();
    let amount = tcp::Amount::Bytes(16 << 20);
    let report = tcp::bulk(world.h(), (LOCALHOST, 8080), &listener, amount, 7).unwrap();
    assert_eq!(report.bytes, 16 << 20);
    world.finish(&[]);
}

#[test]
fn a6_4_a_published_port_is_nobody_elses() {
    let Some(world) = world()
        .args("-p 8080:veth1:80 -p 127.0.0.1:9090:veth1:80/udp")
        .start()
    else {
        return;
    };
    let bound = |at: (Ipv4Addr, u16)| world.h().run(move || TcpListener::bind(at)).unwrap();
    for address in [Ipv4Addr::UNSPECIFIED, LOCALHOST, Topology::HOST] {
        assert!(is_in_use(&bound((address, 8080)).unwrap_err()), "{address}");
    }
    let bound = |at: (Ipv4Addr, u16)| world.h().run(move || UdpSocket::bind(at)).unwrap();
    assert!(is_in_use(&bound((LOCALHOST, 9090)).unwrap_err()));
    assert!(bound((Topology::HOST, 9090)).is_ok(), "of 127.0.0.1 only");
    // By another publish neither, and nothing changes.
    for (words, why) in [
        (
            "8080:veth2",
            "port is already published by 8080:veth1:80/tcp",
        ),
        (
            "8000-9000:veth2",
            "port is already published by 8080:veth1:80/tcp",
        ),
        (
            "61000:veth2",
            "within 61000-65535, the ports that NAT takes",
        ),
        (
            "198.51.100.1:80:veth2",
            "198.51.100.1 is none of this host's addresses",
        ),
        (
            "80:10.8.0.1",
            "target 10.8.0.1 is no address that a member can have",
        ),
    ] {
        let refused = world.client(&format!("nat publish {words}"));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains(why) && said.lines().count() == 1, "{said}");
    }
    // Nor a port that a program has: it is named.
    let taken = tcp::listen(world.h(), (LOCALHOST, 7070)).unwrap();
    let refused = world.client("nat publish 7070:veth2");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(
        said.contains("port 7070/tcp is already taken by "),
        "{said}"
    );
    assert!(
        said.contains(&format!("(pid {})", std::process::id())),
        "{said}"
    );
    drop(taken);
    assert_eq!(published(&world).len(), 2);
    // Published no more, everybody may have it.
    let done = world.client("nat unpublish 8080");
    assert!(done.status.success(), "{done:?}");
    let bound = |at: (Ipv4Addr, u16)| world.h().run(move || TcpListener::bind(at)).unwrap();
    assert!(bound((Ipv4Addr::UNSPECIFIED, 8080)).is_ok());
    world.finish(&[]);
}

#[test]
fn e_5_port_0_takes_a_free_one_that_is_not_reserved() {
    let reserved = |net: &Topology| {
        let key = "net/ipv4/ip_local_port_range";
        net.h.sysctl(key, "40000 40003").unwrap();
        let key = "net/ipv4/ip_local_reserved_ports";
        net.h.sysctl(key, "40000").unwrap();
    };
    let Some(world) = world().args("-p 0:veth1:80").prepare(reserved).start() else {
        return;
    };
    let _held = tcp::listen(world.h(), (Ipv4Addr::UNSPECIFIED, 40_002)).unwrap();
    let done = world.client("nat publish 0:veth2:80");
    assert!(done.status.success(), "{done:?}");
    let ports: Vec<_> = published(&world)
        .iter()
        .map(|p| p["port"].clone())
        .collect();
    assert_eq!(ports, [40_001, 40_003]);
    let refused = world.client("nat publish 0:veth2:80");
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("no port of 40000-40003 is free"), "{said}");
    world.finish(&[]);
}

#[test]
fn a6_1_a_target_that_comes_later_is_waited_for() {
    let Some(world) = world()
        .args("--port veth1 -p 8080:veth2:80")
        .host_answers()
        .start()
    else {
        return;
    };
    assert_eq!(published(&world)[0]["state"], "waiting");
    assert_eq!(
        published(&world)[0]["targets"][0]["waiting"],
        "no such port"
    );
    assert!(ask(world.h(), (LOCALHOST, 8080)).is_err());
    let _two = Teller::start(world.c(2), "two", 80);
    assert!(world.client("port add veth2").status.success());
    eventually("the target is found", || {
        published(&world)[0]["state"] == "ok"
    });
    let said = ask(world.h(), (LOCALHOST, 8080)).unwrap();
    assert_eq!(said, format!("two {}", world.net.gateway()));
    world.finish(&[]);
}

#[test]
fn a6_1_an_address_that_nobody_has_is_waited_for() {
    let Some(world) = world().host_answers().start() else {
        return;
    };
    let free = Ipv4Addr::from(u32::from(world.ip(2)) + 100);
    let publish = |words: &str| {
        let done = world.client(&format!("nat publish {words}"));
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stderr).unwrap()
    };
    let there = publish(&format!("8080:{}:80", world.ip(1)));
    assert!(!there.contains("waiting"), "{there}");
    let nobody = publish(&format!("8081:{free}:80"));
    let waits = format!("-> {free}:80 (waiting: not seen yet)");
    assert!(nobody.contains(&waits), "{nobody}");
    let state = |place: usize| published(&world)[place]["state"].clone();
    assert_eq!((state(0), state(1)), ("ok".into(), "waiting".into()));

    world.c(2).address("eth0", free, 24).unwrap();
    let _two = Teller::start(world.c(2), "two", 80);
    let said = ask(world.h(), (LOCALHOST, 8081)).unwrap();
    assert_eq!(said, format!("two {}", world.net.gateway()));
    assert_eq!((state(0), state(1)), ("ok".into(), "ok".into()));
    world.finish(&[]);
}

#[test]
fn a6_6_a_target_that_moves_takes_its_datagrams_along() {
    let Some(world) = world().args("-p 8080:veth1:80/udp").start() else {
        return;
    };
    let _one = Teller::start(world.c(1), "one", 80);
    let _two = Teller::start(world.c(2), "two", 80);
    let gateway = world.net.gateway();
    // One socket all the while: its flow is known to the relay, and must not stay.
    let socket = udp::bind(world.h(), ANY).unwrap();
    let to = SocketAddr::from((Topology::HOST, 8080));
    assert_eq!(told(&socket, to), Some(format!("one {gateway}")));
    assert!(world.client("nat unpublish 8080/udp").status.success());
    assert!(
        world
            .client("nat publish 8080:veth2:80/udp")
            .status
            .success()
    );
    assert_eq!(told(&socket, to), Some(format!("two {gateway}")));
    // The container's address changes: looked up again.
    let moved = Ipv4Addr::new(10, 9, 0, 77);
    world
        .c(2)
        .run(|| {
            let mut netlink = vswitch_cli::host::netlink::Netlink::open().unwrap();
            let index = netlink.link_named("eth0").unwrap().index;
            let old = IpAddr::V4(world.ip(2));
            netlink.delete_address(index, old, 24).unwrap();
            netlink.add_address(index, IpAddr::V4(moved), 24).unwrap();
        })
        .unwrap();
    eventually("the new address is found", || {
        published(&world)[0]["targets"][0]["address"] == "10.9.0.77:80"
    });
    assert_eq!(told(&socket, to), Some(format!("two {gateway}")));
    world.finish(&[]);
}

#[test]
fn a6_6_a_flow_from_outside_follows_its_target_at_once() {
    let Some(world) = world().args("-p 8080:veth1:80/udp").start() else {
        return;
    };
    let _one = Teller::start(world.c(1), "one", 80);
    let _two = Teller::start(world.c(2), "two", 80);
    let outside = Topology::OUTSIDE;
    let socket = udp::bind(world.o(), (outside, 0)).unwrap();
    let to = SocketAddr::from((Topology::HOST, 8080));
    for _ in 0..2 {
        assert_eq!(told(&socket, to), Some(format!("one {outside}")));
    }
    assert!(world.client("nat unpublish 8080/udp").status.success());
    assert!(
        world
            .client("nat publish 8080:veth2:80/udp")
            .status
            .success()
    );
    eventually("the flow follows", || {
        told(&socket, to) == Some(format!("two {outside}"))
    });
    assert_eq!(told(&socket, to), Some(format!("two {outside}")));
    drop(world);
}

#[test]
fn a6_4_ten_thousand_ports_are_held_at_once() {
    let Some(world) = world().args("-p 20000-29999:veth1:20000").start() else {
        return;
    };
    let said = world.process.stderr();
    let ready = said
        .iter()
        .find_map(|line| line.strip_prefix("ready in "))
        .unwrap();
    let millis: u64 = ready.split(' ').next().unwrap().parse().unwrap();
    assert!(millis < 5000, "{ready}");
    let _one = Teller::start(world.c(1), "one", 29_999);
    let said = ask(world.h(), (LOCALHOST, 29_999)).unwrap();
    assert_eq!(said, format!("one {}", world.net.gateway()));
    let bound = |port| {
        let bind = move || TcpListener::bind((LOCALHOST, port));
        world.h().run(bind).unwrap()
    };
    for port in [20_000, 25_000, 29_999] {
        assert!(is_in_use(&bound(port).unwrap_err()), "{port}");
    }
    assert!(bound(30_000).is_ok());
    let began = Instant::now();
    assert!(world.client("nat unpublish 20000-29999").status.success());
    assert!(began.elapsed() < SECOND, "{:?}", began.elapsed());
    world.finish(&[]);
}

#[test]
fn a6_2_without_a_host_port_the_host_is_told_that_it_has_no_way() {
    let Some(world) = world()
        .args("--no-host-port -p 8080:veth1:80")
        .host_answers()
        .start()
    else {
        return;
    };
    let line = "the host itself cannot reach published ports: --no-host-port";
    let said = world.process.stderr();
    assert!(said.iter().any(|said| said.contains(line)), "{said:#?}");
    assert!(ask(world.h(), (LOCALHOST, 8080)).is_err());
    let bound = world
        .h()
        .run(|| TcpListener::bind((LOCALHOST, 8080)))
        .unwrap();
    assert!(is_in_use(&bound.unwrap_err()), "held all the same");
    world.finish(&[]);
}

#[test]
fn a6_1_from_outside_the_server_sees_the_client_itself() {
    for workers in [1, 2] {
        let Some(world) = world()
            .args(&format!(
                "--workers {workers} -p 8080:veth1:80 -p 8080:veth2:80/udp"
            ))
            .start()
        else {
            return;
        };
        let _one = Teller::start(world.c(1), "one", 80);
        let _two = Teller::start(world.c(2), "two", 80);
        let outside = Topology::OUTSIDE;
        let said = ask(world.o(), (Topology::HOST, 8080)).unwrap();
        assert_eq!(said, format!("one {outside}"));
        let said = ask_udp(world.o(), (Topology::HOST, 8080));
        assert_eq!(said, Some(format!("two {outside}")));
        // Live: another port, then no longer.
        assert!(world.client("nat publish 9090:veth2:80").status.success());
        let said = ask(world.o(), (Topology::HOST, 9090)).unwrap();
        assert_eq!(said, format!("two {outside}"));
        assert!(world.client("nat unpublish 9090").status.success());
        let gone = ask(world.o(), (Topology::HOST, 9090)).unwrap_err();
        assert_eq!(
            gone.kind(),
            ErrorKind::ConnectionRefused,
            "the host's again"
        );
        drop(world);
    }
}

#[test]
fn a6_3_from_members_the_publishing_one_among_them() {
    let Some(world) = world().args("-p 8080:veth1:80").start() else {
        return;
    };
    let _one = Teller::start(world.c(1), "one", 80);
    for i in [1, 2] {
        let said = ask(world.c(i), (Topology::HOST, 8080)).unwrap();
        assert!(said.starts_with("one "), "{i}: {said}");
        let said = ask(world.c(i), (world.net.gateway(), 8080)).unwrap();
        assert!(said.starts_with("one "), "{i}: {said}");
    }
    world.finish(&[]);
}

#[test]
fn a6_5_what_is_for_this_host_only_is_reached_by_no_frame_from_outside() {
    let forwarding = |net: &Topology| net.h.sysctl("net/ipv4/ip_forward", "1").unwrap();
    let Some(world) = world()
        .args("-p 127.0.0.1:8080:veth1:80")
        .prepare(forwarding)
        .host_answers()
        .start()
    else {
        return;
    };
    let listener = tcp::listen(world.c(1), (Ipv4Addr::UNSPECIFIED, 80)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let uplink = world.h().link(Topology::UPLINK).unwrap().mac.unwrap().0;
    let own = world.o().link("eth0").unwrap().mac.unwrap().0;
    let wire = Wire::open(world.o(), "eth0").unwrap();
    for (to, port) in [
        (LOCALHOST, 8080),
        (Topology::HOST, 8080),
        (world.ip(1), 80),
        (Ipv4Addr::new(127, 0, 0, 2), 80),
    ] {
        for from in [Topology::OUTSIDE, LOCALHOST] {
            let header = Ipv4::new(from, to, craft::TCP);
            let syn = Segment {
                source: SocketAddrV4::new(from, 40_000),
                destination: SocketAddrV4::new(to, port),
                seq: 1,
                ack: 0,
                flags: tcp_flags::SYN,
                window: 1000,
            };
            let syn = syn.bytes(&[], Checksum::Right);
            let frame = craft::ethernet(uplink, own, 0x0800, &header.packet(&syn));
            wire.send(&frame).unwrap();
        }
    }
    // By a real socket as well, with a route to the members.
    let network = Ipv4Addr::from_bits(world.ip(1).to_bits() & 0xffff_ff00);
    world
        .o()
        .route("eth0", network, 24, Topology::HOST)
        .unwrap();
    assert!(tcp::connect_within(world.o(), (world.ip(1), 80), SILENCE * 4).is_err());
    let refused = ask(world.o(), (Topology::HOST, 8080)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let came = listener.accept();
    assert!(came.is_err(), "{came:?}");
    drop(world);
}
