//! The tables and the sums: NAT sessions, forwarding table, Internet checksum.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
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

pub(super) fn nat(c: &mut Criterion) {
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

pub(super) fn fdb(c: &mut Criterion) {
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

pub(super) fn sums(c: &mut Criterion) {
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
