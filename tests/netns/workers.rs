//! The same with several workers: steering, hand-over, order.

use std::net::SocketAddr;
use std::thread;

use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::lab::traffic::udp;

use super::nat::{many_connections, many_flows};
use super::traffic::{ANY, everything};
use super::world::Times::Any;
use super::world::{SECOND, World, world};

const BYTES: u64 = 3_000_001;

/// Four containers on `workers` workers, everything at once.
fn core(workers: u16) {
    let world = world()
        .containers(4)
        .args(&format!("--workers {workers}"))
        .start();
    thread::scope(|scope| {
        for i in 1..=4_usize {
            let world = &world;
            scope.spawn(move || everything(world.c(i), world.o(), Topology::OUTSIDE, BYTES));
        }
    });
    everything(world.c(1), world.c(2), world.ip(2), BYTES);
    everything(world.c(4), world.c(3), world.ip(3), BYTES);
    everything(world.c(2), world.h(), world.net.gateway(), BYTES);
    everything(world.h(), world.c(3), world.ip(3), BYTES);
    many_flows(&world, 4, 60);
    many_connections(&world, 4, 30);
    fragments(&world);
    let running = world.json("status")["workers"].as_array().unwrap().len();
    assert_eq!(running, usize::from(workers));
    world.finish(&[("RING_FULL", Any)]);
}

/// Fragments have no port to be steered by: they reach their owner by hand-over.
fn fragments(world: &World) {
    for i in 1..=4 {
        for reverse_fragments in [false, true] {
            let ping = Ping::to(Topology::OUTSIDE).size(5000).count(3);
            world.ping_perfectly(
                world.c(i),
                &Ping {
                    reverse_fragments,
                    ..ping
                },
            );
        }
    }
}

#[test]
fn one_worker_carries_everything() {
    core(1);
}

#[test]
fn two_workers_carry_everything() {
    core(2);
}

#[test]
fn four_workers_carry_everything() {
    core(4);
}

#[test]
fn order_is_kept_within_a_flow() {
    for workers in [1, 2, 4] {
        let world = world()
            .containers(4)
            .args(&format!("--workers {workers}"))
            .start();
        let targets = [(world.c(4), world.ip(4)), (world.o(), Topology::OUTSIDE)];
        for (host, ip) in targets {
            // While a neighbour is asked for, only a few frames wait.
            world.ping_perfectly(world.c(1), &Ping::to(ip));
            let sink = udp::bind(host, ANY).unwrap();
            let to = SocketAddr::from((ip, sink.local_addr().unwrap().port()));
            let socket = udp::bind(world.c(1), ANY).unwrap();
            for burst in 0..20_u32 {
                for i in 0..50 {
                    socket.send_to(&(burst * 50 + i).to_le_bytes(), to).unwrap();
                }
                for i in 0..50 {
                    let (bytes, _) = udp::recv(&sink, SECOND).unwrap().expect("a datagram");
                    assert_eq!(bytes, (burst * 50 + i).to_le_bytes(), "{workers} workers");
                }
            }
        }
        world.finish(&[]);
    }
}

#[test]
fn frames_reach_their_owner_by_hand_over() {
    // Worker 0 gets every later fragment; the sessions of the other three are elsewhere.
    let world = world().containers(4).args("--workers 4").start();
    fragments(&world);
    assert!(world.total("handed_over") > 0, "nothing was handed over");
    world.finish(&[]);
}
