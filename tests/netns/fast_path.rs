//! The fast path: connections that the kernel carries through the NAT, on a real kernel.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use switch::mac::Mac;
use switch::port::sys::bpf::tcx_ingress_programs;
use vswitch_cli::host::netlink::Netlink;
use vswitch_cli::lab::traffic::tcp::{self, Amount};
use vswitch_cli::lab::{Host, Topology};

use super::reader::Reader;
use super::traffic::{download, upload};
use super::world::Times::{Any, AtLeast};
use super::world::{PATIENCE, SECOND, Setup, World, eventually, world};

const BYTES: u64 = 20_000_001;

/// A frame that was between the two programs when its session was taken back.
const GONE: (&str, super::world::Times) = ("FAST_PATH_GONE", Any);

/// `None`, with a word of why, also where the kernel takes no such programs.
#[expect(
    clippy::print_stdout,
    reason = "a skipped test says so where its result is read"
)]
fn fast(setup: Setup) -> Option<World> {
    let world = setup.args("--fast-path").start()?;
    let said = world.process.stderr();
    if let Some(line) = said.iter().find(|line| line.contains("fast-path:")) {
        println!("SKIPPED: {line}");
        return None;
    }
    Some(world)
}

fn sum(world: &World, field: &str) -> u64 {
    let status = world.json("status");
    let workers = status["workers"].as_array().unwrap();
    workers
        .iter()
        .map(|worker| worker[field].as_u64().unwrap())
        .sum()
}

/// Frames that the kernel has carried, as far as they are counted.
fn carried(world: &World) -> u64 {
    sum(world, "carried")
}

/// Two ends of a connection that goes to and fro.
struct Talk {
    client: TcpStream,
    server: TcpStream,
}

impl Talk {
    fn new(client: &Host, to: (Ipv4Addr, u16), listener: &TcpListener) -> Self {
        let client = tcp::connect(client, to).unwrap();
        let (server, _) = tcp::accept(listener, PATIENCE).unwrap();
        for end in [&client, &server] {
            end.set_nodelay(true).unwrap();
        }
        Self { client, server }
    }

    fn rounds(&mut self, count: u32) {
        for round in 0..count {
            let question = round.to_be_bytes();
            let mut heard = [0; 4];
            self.client.write_all(&question).unwrap();
            self.server.read_exact(&mut heard).unwrap();
            assert_eq!(heard, question);
            self.server.write_all(&heard).unwrap();
            self.client.read_exact(&mut heard).unwrap();
            assert_eq!(heard, question);
        }
    }

    /// Goes on until the kernel carries it.
    fn until_carried(&mut self, world: &World) {
        let before = carried(world);
        eventually("carried by the kernel", || {
            self.rounds(20);
            carried(world) > before
        });
    }
}

fn outside(world: &World) -> (TcpListener, (Ipv4Addr, u16)) {
    let listener = tcp::listen(world.o(), (Topology::OUTSIDE, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, (Topology::OUTSIDE, port))
}

fn session(world: &World) -> Value {
    let nat = world.json("nat proto tcp");
    let rows = nat["sessions"].as_array().unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0].clone()
}

#[test]
fn transfers_go_by_the_kernel_whole_and_with_right_sums() {
    for workers in [1, 2] {
        for finished in [false, true] {
            let setup = world().args(&format!("--workers {workers}"));
            let setup = if finished {
                setup.finished().plain_containers()
            } else {
                setup
            };
            let Some(world) = fast(setup) else { return };
            for i in [1, 2] {
                upload(
                    world.c(i),
                    world.o(),
                    Topology::OUTSIDE,
                    Amount::Bytes(BYTES),
                );
                download(
                    world.c(i),
                    world.o(),
                    Topology::OUTSIDE,
                    Amount::Bytes(BYTES),
                );
            }
            // Of frames without offloads most, since they are many.
            let least = if finished { 20_000 } else { 100 };
            eventually("counted", || carried(&world) > least);
            world.finish(&[GONE]);
        }
    }
}

#[test]
fn a_published_port_goes_by_the_kernel_too_and_its_client_is_seen() {
    let Some(world) = fast(world().args("--publish 8080:10.9.0.2:80")) else {
        return;
    };
    let listener = tcp::listen(world.c(1), (Ipv4Addr::UNSPECIFIED, 80)).unwrap();
    let mut talk = Talk::new(world.o(), (Topology::HOST, 8080), &listener);
    assert_eq!(talk.server.peer_addr().unwrap().ip(), Topology::OUTSIDE);
    talk.until_carried(&world);
    talk.rounds(1000);
    drop(talk);
    world.finish(&[GONE]);
}

#[test]
fn its_frames_are_in_the_counters_of_ports_worker_and_session() {
    let Some(world) = fast(world()) else { return };
    let (listener, to) = outside(&world);
    let mut talk = Talk::new(world.c(1), to, &listener);
    talk.until_carried(&world);
    let rounds = 3000;
    let packets = |world: &World| {
        let session = session(world);
        let of = |way: &str| session[way]["packets"].as_u64().unwrap();
        (of("outbound"), of("inbound"))
    };
    let ports = |world: &World| {
        let port = |name, way| world.port(name, way, "packets");
        [
            port("veth1", "rx"),
            port("veth1", "tx"),
            port("eth0", "rx"),
            port("eth0", "tx"),
        ]
    };
    // A tick later all of it is counted.
    thread::sleep(SECOND);
    let (before, ports_before, all) = (packets(&world), ports(&world), carried(&world));
    talk.rounds(rounds);
    thread::sleep(SECOND);
    let (after, ports_after) = (packets(&world), ports(&world));
    let rounds = u64::from(rounds);
    assert!(after.0 - before.0 >= rounds && after.1 - before.1 >= rounds);
    let grown: Vec<u64> = ports_after
        .iter()
        .zip(ports_before)
        .map(|(a, b)| a - b)
        .collect();
    assert!(grown.iter().all(|grown| *grown >= rounds), "{grown:?}");
    let by_kernel = carried(&world) - all;
    assert!(by_kernel >= 2 * rounds - 200, "{by_kernel}");
    let text = world.text("-s port");
    assert!(
        text.contains("carried by the kernel, on the fast path"),
        "{text}"
    );
    drop(talk);
    world.finish(&[GONE]);
}

#[test]
fn who_looks_on_sees_every_frame() {
    let Some(world) = fast(world()) else { return };
    let (listener, to) = outside(&world);
    let mut talk = Talk::new(world.c(1), to, &listener);
    talk.until_carried(&world);
    let traced = Reader::start(&world, &format!("trace -j tcp and port {}", to.1));
    thread::sleep(SECOND);
    let before = carried(&world);
    talk.rounds(100);
    // A question and an answer, each of which acknowledges the one before.
    eventually("all traced", || traced.lines().len() >= 200);
    thread::sleep(SECOND);
    assert_eq!(carried(&world), before);
    traced.signal(Signal::SIGINT);
    talk.until_carried(&world);
    drop(talk);
    world.finish(&[GONE]);
}

#[test]
fn a_pause_longer_than_a_lease_costs_nothing() {
    let Some(world) = fast(world()) else { return };
    let (listener, to) = outside(&world);
    let mut talk = Talk::new(world.c(1), to, &listener);
    for _ in 0..2 {
        talk.until_carried(&world);
        // The lease ends, and the place is given back.
        thread::sleep(Duration::from_secs(6));
        talk.rounds(1);
    }
    drop(talk);
    world.finish(&[GONE]);
}

#[test]
fn what_changes_in_the_network_is_heeded() {
    let Some(world) = fast(world()) else { return };
    let (listener, to) = outside(&world);
    let mut talk = Talk::new(world.c(1), to, &listener);
    talk.until_carried(&world);
    // The session is ended under it: the next packet from inside begins another.
    world.text("nat flush");
    talk.rounds(3);
    let packets = session(&world)["outbound"]["packets"].as_u64().unwrap();
    assert!(packets < 20, "{packets}");
    talk.until_carried(&world);
    // The container's address on Ethernet is another, and its kernel says so.
    world
        .c(1)
        .sysctl("net/ipv4/conf/eth0/arp_notify", "1")
        .unwrap();
    let change = || {
        let mut netlink = Netlink::open()?;
        let index = netlink.link_named("eth0")?.index;
        netlink.set_mac(index, Mac([2, 0, 0, 0, 0x77, 1]))
    };
    world.c(1).run(change).unwrap().unwrap();
    talk.rounds(100);
    talk.until_carried(&world);
    // The uplink is smaller: what no longer fits comes up, and its sender hears of it.
    world.h().set_mtu(Topology::UPLINK, 1300).unwrap();
    world.o().set_mtu("eth0", 1300).unwrap();
    thread::sleep(SECOND);
    talk.until_carried(&world);
    drop(talk);
    upload(
        world.c(1),
        world.o(),
        Topology::OUTSIDE,
        Amount::Bytes(BYTES),
    );
    world.finish(&[GONE, ("PKT_TOO_BIG", Any), ("EGRESS_MTU", Any)]);
}

#[test]
fn no_hop_is_left_of_what_the_kernel_does_not_forward_either() {
    let Some(world) = fast(world()) else { return };
    let (listener, to) = outside(&world);
    let mut talk = Talk::new(world.c(1), to, &listener);
    talk.until_carried(&world);
    let ttl = |value| {
        nix::sys::socket::setsockopt(&talk.client, nix::sys::socket::sockopt::Ipv4Ttl, &value)
    };
    ttl(1).unwrap();
    (&talk.client).write_all(b"late").unwrap();
    eventually("dropped", || world.dropped("TTL_EXPIRED") > 0);
    ttl(64).unwrap();
    let mut heard = [0; 4];
    talk.server.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"late");
    drop(talk);
    world.finish(&[GONE, ("TTL_EXPIRED", AtLeast(1))]);
}

#[test]
fn it_leaves_nothing_behind() {
    let Some(mut world) = fast(world()) else {
        return;
    };
    let (listener, to) = outside(&world);
    let mut talk = Talk::new(world.c(1), to, &listener);
    talk.until_carried(&world);
    let programs = |world: &World| -> Vec<u32> {
        let count = |name: &str| {
            let index = world.h().link(name).unwrap().index;
            world
                .h()
                .run(|| tcx_ingress_programs(index))
                .unwrap()
                .unwrap()
        };
        ["veth1", "veth2", Topology::UPLINK].map(count).to_vec()
    };
    // The guard's and the fast path's.
    assert_eq!(programs(&world), [2, 2, 2]);
    world.process.signal(Signal::SIGKILL).unwrap();
    world.process.wait(PATIENCE).unwrap();
    eventually("all gone", || programs(&world) == [0, 0, 0]);
}
