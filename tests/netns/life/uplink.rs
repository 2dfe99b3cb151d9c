//! The uplink under way: down, away, another address, another route.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use vswitch_cli::host::link::VethEnd;
use vswitch_cli::host::route::Route;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::udp::{self, EchoServer};

use super::bed::{Bed, PATIENCE, SECOND, eventually, index_of, netlink};
use super::stream::Stream;

const WORDS: &str = "--ports veth1,veth2 --uplink eth0";
const OTHER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 200);

/// A container's socket and a server outside that answers it.
struct Path {
    socket: UdpSocket,
    server: EchoServer,
}

impl Path {
    fn new(bed: &Bed) -> Self {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        Self {
            socket: udp::bind(bed.net.c(1), any).unwrap(),
            server: EchoServer::start(&bed.net.o, (Topology::OUTSIDE, 0)).unwrap(),
        }
    }

    fn answers(&self) -> bool {
        let wait = Duration::from_millis(100);
        let sent = udp::exchange(&self.socket, self.server.address(), b"x", wait);
        sent.unwrap().is_some()
    }

    /// How long it takes until something comes back from outside.
    fn resumed(&self) -> Duration {
        let start = Instant::now();
        while !self.answers() {
            assert!(
                start.elapsed() < PATIENCE,
                "nothing comes back from outside"
            );
        }
        start.elapsed()
    }
}

/// A next hop's neighbour is asked for once a second: this and a second are the time allowed.
const WITHIN: Duration = Duration::from_secs(2);

/// Goal: the NAT stops and goes on with the uplink, and the containers among themselves lose
/// nothing. Method: `happen` does it to the uplink, beside a stream between two containers.
fn in_trouble(happen: impl Fn(&Bed, &Path)) {
    let Some(bed) = Bed::new(2) else { return };
    let running = bed.start(WORDS);
    let path = Path::new(&bed);
    assert!(path.resumed() < SECOND);
    let stream = Stream::start(bed.net.c(1), bed.net.c(2), bed.net.ip(2));
    for _ in 0..2 {
        happen(&bed, &path);
        let back = path.resumed();
        assert!(back < WITHIN, "back after {back:?}: {:#?}", running.says());
    }
    stream.finish_whole();
    running.end(nix::sys::signal::Signal::SIGTERM);
}

fn default_route(bed: &Bed) {
    bed.h().default_route("eth0", Topology::OUTSIDE).unwrap();
}

#[test]
fn down_and_up() {
    in_trouble(|bed, path| {
        bed.h().set_up("eth0", false).unwrap();
        eventually("down", || bed.operstate("eth0") == "DOWN");
        assert!(!path.answers());
        bed.h().set_up("eth0", true).unwrap();
        // The kernel forgot it with the interface.
        default_route(bed);
    });
}

#[test]
fn deleted_and_made_again() {
    in_trouble(|bed, path| {
        bed.h().delete_link("eth0").unwrap();
        eventually("gone", || bed.operstate("eth0") == "NOTPRESENT");
        assert!(!path.answers());
        let o = &bed.net.o;
        netlink(bed.h(), |n| {
            let end = |netns| VethEnd {
                name: "eth0",
                netns,
                ..VethEnd::default()
            };
            n.add_veth(&end(None), &end(Some(o.as_fd())))
        });
        o.set_up("eth0", true).unwrap();
        o.address("eth0", Topology::OUTSIDE, 24).unwrap();
        bed.h().set_up("eth0", true).unwrap();
        bed.h().address("eth0", Topology::HOST, 24).unwrap();
        default_route(bed);
    });
}

/// The address the outside saw last.
fn seen_as(path: &Path, bed: &Bed) -> IpAddr {
    let server = udp::bind(&bed.net.o, (Topology::OUTSIDE, 0)).unwrap();
    let to = server.local_addr().unwrap();
    path.socket.send_to(b"who am I?", to).unwrap();
    udp::recv(&server, SECOND).unwrap().unwrap().1.ip()
}

#[test]
fn another_address() {
    in_trouble(|bed, path| {
        let index = index_of(bed.h(), "eth0");
        netlink(bed.h(), |n| {
            n.delete_address(index, Topology::HOST.into(), 24)
        });
        eventually("no way out", || !path.answers());
        bed.h().address("eth0", OTHER, 24).unwrap();
        default_route(bed);
        assert!(path.resumed() < WITHIN);
        assert_eq!(seen_as(path, bed), IpAddr::V4(OTHER));
        // A second address changes nothing; without the first it is the one.
        bed.h().address("eth0", Topology::HOST, 24).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert_eq!(seen_as(path, bed), IpAddr::V4(OTHER));
        bed.h()
            .sysctl("net/ipv4/conf/eth0/promote_secondaries", "1")
            .unwrap();
        netlink(bed.h(), |n| n.delete_address(index, OTHER.into(), 24));
        eventually("the first address again", || {
            path.answers() && seen_as(path, bed) == IpAddr::V4(Topology::HOST)
        });
    });
}

#[test]
fn another_default_route() {
    let Some(bed) = Bed::new(2) else { return };
    let running = bed.start(WORDS);
    let path = Path::new(&bed);
    assert!(path.resumed() < SECOND);
    let index = index_of(bed.h(), "eth0");
    let far = Ipv4Addr::new(198, 51, 100, 9);
    bed.net.o.address("eth0", far, 32).unwrap();
    let server = EchoServer::start(&bed.net.o, (far, 0)).unwrap();
    let beyond = |wait| udp::exchange(&path.socket, server.address(), b"x", wait).unwrap();
    assert!(beyond(SECOND).is_some(), "by way of the default route");
    let route = |via: Ipv4Addr| Route {
        gateway: Some(via.into()),
        ..Route::on_link(Ipv4Addr::UNSPECIFIED.into(), 0, index)
    };
    netlink(bed.h(), |n| n.delete_route(&route(Topology::OUTSIDE)));
    let short = Duration::from_millis(50);
    eventually("no route", || beyond(short).is_none());
    assert!(path.answers(), "the uplink's own network needs no route");
    // A next hop that nobody is, then one that answers.
    netlink(bed.h(), |n| {
        n.add_route(&route(Ipv4Addr::new(203, 0, 113, 99)))
    });
    thread::sleep(Duration::from_millis(100));
    assert!(beyond(short).is_none());
    netlink(bed.h(), |n| {
        n.delete_route(&route(Ipv4Addr::new(203, 0, 113, 99)))?;
        n.add_route(&route(Topology::OUTSIDE_SECOND))
    });
    eventually("the other next hop", || beyond(short).is_some());
    drop(running);
}

/// Goal: an uplink without an address at the start works as soon as it has one, and its NAT ports
/// are reserved from then on.
#[test]
fn an_address_that_comes_later() {
    let Some(bed) = Bed::new(2) else { return };
    let index = index_of(bed.h(), "eth0");
    netlink(bed.h(), |n| {
        n.delete_address(index, Topology::HOST.into(), 24)
    });
    let before = bed.snapshot();
    let running = bed.start(WORDS);
    running.hears("warning: eth0: has no IPv4 address yet: NAT starts when it gets one");
    let path = Path::new(&bed);
    assert!(!path.answers());
    bed.h().address("eth0", Topology::HOST, 24).unwrap();
    assert!(path.resumed() < WITHIN);
    let reserved = || vswitch_cli::host::sysctl::read("net/ipv4/ip_local_reserved_ports");
    let reserved = bed.h().attempt(|| "read".to_owned(), reserved).unwrap();
    assert_eq!(reserved, "61000-65535");
    netlink(bed.h(), |n| {
        n.delete_address(index, Topology::HOST.into(), 24)
    });
    running.ends_as_before(&before);
}
