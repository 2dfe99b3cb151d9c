//! What one frame costs in memory: no system call, no kernel.
//!
//! `cargo bench --bench micro`. For counts that repeat on a noisy machine, run the binary under
//! `valgrind --tool=callgrind` with `--bench --profile-time 1 NAME`.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run has nothing to say"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use nat::{Config, L4Sum, Nanos, Nat, Packet, checksum};
use switch::fdb::Fdb;
use switch::mac::Mac;
use switch::port::PortIndex;

fn udp(source: [u8; 4], port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    etherparse::PacketBuilder::ipv4(source, [198, 51, 100, 2], 64)
        .udp(port, 9)
        .write(&mut packet, &[0; 18])
        .unwrap();
    packet
}

fn nat(c: &mut Criterion) {
    let mut group = c.benchmark_group("nat");
    group.throughput(Throughput::Elements(1));
    for sessions in [1u32, 1_000, 100_000] {
        let mut config = Config::new([203, 0, 113, 254].into(), 1024..=65_535);
        config.sessions_max = 262_144;
        let mut engine = Nat::new(config, 1);
        // Several remotes per inside port: sessions outnumber ports.
        let mut packets: Vec<Vec<u8>> = (0..sessions)
            .map(|n| {
                let port = 1024 + u16::try_from(n % 60_000).unwrap();
                let mut packet = udp([10, 9, 0, 2], port);
                packet[19] = 2 + u8::try_from(n / 60_000).unwrap();
                packet
            })
            .collect();
        let fresh = packets.clone();
        for packet in &mut packets {
            let mut view = Packet {
                bytes: packet,
                l4_sum: L4Sum::Pseudo,
            };
            let _ = engine.outbound(&mut view, Nanos(1));
        }
        let mut place = 0;
        let mut bytes = fresh[0].clone();
        group.bench_function(format!("hit, {sessions} sessions"), |b| {
            b.iter(|| {
                place = (place + 7919) % fresh.len();
                bytes.copy_from_slice(&fresh[place]);
                let mut view = Packet {
                    bytes: &mut bytes,
                    l4_sum: L4Sum::Pseudo,
                };
                black_box(engine.outbound(&mut view, Nanos(2)))
            });
        });
    }
    group.finish();
}

fn fdb(c: &mut Criterion) {
    let mut group = c.benchmark_group("fdb");
    group.throughput(Throughput::Elements(1));
    for stations in [1_000u64, 100_000, 1_000_000] {
        let fdb = Fdb::new(usize::try_from(stations).unwrap(), 1);
        for n in 0..stations {
            let port = PortIndex(u16::try_from(n % 64).unwrap());
            let _ = fdb.learn(0, Mac::local(n), port, Nanos(1));
        }
        let mut n = 0;
        group.bench_function(format!("lookup, {stations} stations"), |b| {
            b.iter(|| {
                n = (n + 7919) % stations;
                black_box(fdb.lookup(0, Mac::local(n), Nanos(2)))
            });
        });
        group.bench_function(format!("learn known, {stations} stations"), |b| {
            b.iter(|| {
                n = (n + 7919) % stations;
                let port = PortIndex(u16::try_from(n % 64).unwrap());
                black_box(fdb.learn(0, Mac::local(n), port, Nanos(2)))
            });
        });
    }
    group.finish();
}

fn sums(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for bytes in [60usize, 1500, 65_535] {
        let data = vec![0x5a; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{bytes} B"), |b| {
            b.iter(|| checksum::sum(black_box(&data)));
        });
    }
    group.finish();
}

mod pipeline {
    //! A whole worker over cables in memory: fill, process, dispatch, counters.

    use super::*;
    use switch::config::{NetworkIndex, PortView, Role};
    use switch::frame::Offload;
    use switch::limits::BATCH_FRAMES_MAX;
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
        for (name, ports, known) in [
            ("known unicast", 2, true),
            ("flood to 7", 8, false),
            ("flood to 63", 64, false),
        ] {
            let (_switch, mut worker, hosts) = world(ports);
            let (near, far) = (Mac::local(1), Mac::local(2));
            if known {
                hosts[1].send(&frame(near, far), Offload::PLAIN);
            }
            worker.poll_once(Nanos(2));
            let bytes = frame(far, near);
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
}

criterion_group!(benches, nat, fdb, sums, pipeline::benches);
criterion_main!(benches);
