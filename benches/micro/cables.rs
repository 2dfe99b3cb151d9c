//! A whole worker over cables in memory: fill, process, dispatch, counters.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use nat::Nanos;
use switch::config::{NetworkIndex, PortView, Role};
use switch::frame::Offload;
use switch::limits::BATCH_FRAMES_MAX;
use switch::mac::Mac;
use switch::port::sim::{CableOptions, SimHost, cable};
use switch::port::{Egress, Rx, Tx};
use switch::switch::{Settings, Switch};
use switch::worker::{Idle, Worker};

/// A switch of `ports` members, one worker, stepped by hand.
fn world(ports: u16) -> (Switch, Worker, Vec<SimHost>) {
    let settings = Settings {
        workers: 1,
        cpus: Vec::new(),
        idle: Idle {
            busy_poll: std::time::Duration::ZERO,
        },
        fdb_entries_max: 8192,
        ageing_secs: 300,
        nat: None,
        latency: None,
        seed: 1,
    };
    let tx = || Ok(Tx::without_sockets());
    let (mut switch, mut workers) = Switch::build(&settings, false, Nanos(0), tx).unwrap();
    let mut hosts = Vec::new();
    for _ in 0..ports {
        let index = switch.free_index().unwrap();
        let (rx, egress, host) = cable(index, CableOptions::default());
        let view = PortView {
            network: NetworkIndex(0),
            role: Role::Member,
            egress: Egress::Sim(egress),
            mtu: 1500,
            up: true,
            nat_worker: 0,
            isolated: false,
        };
        switch.add_port(index, view, Rx::Sim(rx), 0);
        hosts.push(host);
    }
    let mut worker = workers.remove(0);
    worker.tick(Nanos(1));
    (switch, worker, hosts)
}

fn frame(destination: Mac, source: Mac) -> Vec<u8> {
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(source.0, destination.0)
        .ipv4([10, 9, 0, 2], [10, 9, 0, 3], 64)
        .udp(4000, 9)
        .write(&mut frame, &[0; 18])
        .unwrap();
    frame
}

pub(super) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("switch over cables");
    group.throughput(Throughput::Elements(BATCH_FRAMES_MAX as u64));
    // No bridge forwards what is sent to this address (802.1Q 8.6.3).
    let (far, reserved) = (Mac::local(2), Mac([1, 0x80, 0xc2, 0, 0, 3]));
    for (name, ports, known, to) in [
        ("known unicast", 2, true, far),
        ("flood to 7", 8, false, far),
        ("flood to 63", 64, false, far),
        ("dropped", 2, true, reserved),
    ] {
        let (_switch, mut worker, hosts) = world(ports);
        let near = Mac::local(1);
        if known {
            hosts[1].send(&frame(near, far), Offload::PLAIN);
        }
        worker.poll_once(Nanos(2));
        let bytes = frame(to, near);
        group.bench_function(name, |b| {
            b.iter(|| {
                for _ in 0..BATCH_FRAMES_MAX {
                    hosts[0].send(&bytes, Offload::PLAIN);
                }
                black_box(worker.poll_once(Nanos(3)));
                for host in &hosts {
                    while host.receive().is_some() {}
                }
            });
        });
    }
    group.finish();
}
