//! What the pipeline itself costs: parse, learn, look up, route, translate. No ring, no send.
//!
//! The frames of a batch lie in memory as in a ring and are put back to what they were, addresses
//! and all, before each round: what is measured includes that copy of 64 bytes.

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use nat::{Nanos, Nat};
use switch::config::{
    GatewayView, HostView, NetworkIndex, PortView, Role, Route, UplinkView, View,
};
use switch::ethernet;
use switch::fdb::Fdb;
use switch::frame::{Batch, Csum, Frame, Gso, Offload};
use switch::gateway::{Context, Origin};
use switch::hold::Hold;
use switch::limits::{BATCH_FRAMES_MAX, HEADROOM_BYTES};
use switch::mac::Mac;
use switch::neigh::{Link, Neighbours};
use switch::pipeline;
use switch::port::sim::{CableOptions, cable};
use switch::port::{Egress, PortIndex};

const GATEWAY: [u8; 4] = [10, 9, 0, 1];
const EXTERNAL: [u8; 4] = [203, 0, 113, 254];
const ROUTER: [u8; 4] = [203, 0, 113, 1];
const GATEWAY_MAC: Mac = Mac([2, 0x77, 10, 9, 0, 1]);
/// Bytes of a slot, as in a ring.
const SLOT_BYTES: usize = 2048;
const FRAME_BYTES: usize = 60;
/// The port behind which all other members are.
const FAR: PortIndex = PortIndex(1);

/// All that a worker lends the pipeline.
struct World {
    view: View,
    fdb: Fdb,
    neighbours: Neighbours,
    nat: Nat,
    hold: Hold,
    origin: Origin,
    member_mtu_min: u32,
}

impl World {
    /// Ports 0 to `members` - 1, and the uplink behind them.
    fn new(members: u16, stations: u64) -> Self {
        let port = |index: u16, role| {
            let (_, egress, _) = cable(PortIndex(index), CableOptions::default());
            Some(PortView {
                network: NetworkIndex(0),
                role,
                egress: Egress::Sim(egress),
                mtu: 1500,
                up: true,
            })
        };
        let mut ports: Vec<_> = (0..members).map(|i| port(i, Role::Member)).collect();
        ports.push(port(members, Role::Uplink));
        let view = View {
            ports,
            gateway: Some(GatewayView {
                network: NetworkIndex(0),
                address: GATEWAY.into(),
                prefix: 16,
                mac: GATEWAY_MAC,
            }),
            uplink: Some(UplinkView {
                port: PortIndex(members),
                mac: Mac([2, 0xaa, 0, 0, 0, 1]),
                address: EXTERNAL.into(),
                own: false,
                routes: vec![Route {
                    network: [0; 4].into(),
                    prefix: 0,
                    via: Some(ROUTER.into()),
                }],
                nat_ports: 1024..=65_535,
            }),
            host: HostView {
                port: None,
                addresses: vec![EXTERNAL.into()],
            },
        };
        let fdb = Fdb::new(usize::try_from(stations).unwrap().max(8192), 1);
        for station in 0..stations {
            let _ = fdb.learn(0, member(station), FAR, Nanos(1));
        }
        let neighbours = Neighbours::new(4096, 1);
        let router = Mac([2, 0xaa, 0, 0, 0, 2]);
        neighbours.update(Link::Uplink, ROUTER.into(), router, Nanos(1));
        let mut config = nat::Config::new(EXTERNAL.into(), 1024..=65_535);
        config.sessions_max = 262_144;
        Self {
            member_mtu_min: view.member_mtu_min(),
            view,
            fdb,
            neighbours,
            nat: Nat::new(config, 1),
            hold: Hold::default(),
            origin: Origin::new(Nanos(0)),
        }
    }

    fn process(&mut self, batch: &mut Batch<'_>, now: Nanos) -> pipeline::Verdicts {
        let mut ctx = Context {
            view: &self.view,
            fdb: &self.fdb,
            neighbours: &self.neighbours,
            nat: Some(&mut self.nat),
            hold: &mut self.hold,
            origin: &mut self.origin,
            worker: 0,
            member_mtu_min: self.member_mtu_min,
            now,
        };
        pipeline::process(&mut ctx, batch)
    }
}

/// The address of the `n`-th member; not in the order of their numbers in memory.
fn member(n: u64) -> Mac {
    Mac::local(n.wrapping_mul(0x9e37_79b9) & 0xff_ffff_ffff)
}

/// Frames of one batch after the other, in slots, with their originals aside.
struct Ring {
    memory: Vec<u8>,
    originals: Vec<[u8; FRAME_BYTES]>,
    next: usize,
}

impl Ring {
    fn new(originals: Vec<[u8; FRAME_BYTES]>) -> Self {
        Self {
            memory: vec![0; SLOT_BYTES * BATCH_FRAMES_MAX],
            originals,
            next: 0,
        }
    }

    /// The next batch.
    fn fill(&mut self) -> Batch<'_> {
        let (originals, next) = (&self.originals, &mut self.next);
        let slots = self.memory.chunks_exact_mut(SLOT_BYTES);
        slots
            .filter_map(|slot| {
                *next = (*next + 1) % originals.len();
                slot[HEADROOM_BYTES..HEADROOM_BYTES + FRAME_BYTES]
                    .copy_from_slice(&originals[*next]);
                let offload = Offload {
                    csum: Csum::Partial {
                        start: 34,
                        offset: 6,
                    },
                    gso: Gso::None,
                };
                Frame::new(slot, HEADROOM_BYTES, FRAME_BYTES, offload, PortIndex(0))
            })
            .collect()
    }
}

/// A UDP datagram in the smallest frame there is (64 bytes with the FCS).
fn frame(macs: (Mac, Mac), addresses: ([u8; 4], [u8; 4]), port: u16) -> [u8; FRAME_BYTES] {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2(macs.0.0, macs.1.0)
        .ipv4(addresses.0, addresses.1, 64)
        .udp(port, 9)
        .write(&mut bytes, &[0; 18])
        .unwrap();
    bytes.try_into().unwrap()
}

/// From a member to the `n`-th of `stations`.
fn switched(n: u64) -> [u8; FRAME_BYTES] {
    let sender = Mac::local(0xff_ffff_0000 + n % 8);
    frame((sender, member(n)), ([10, 9, 0, 2], [10, 9, 0, 3]), 4000)
}

/// From a member through the NAT, in the `n`-th session.
fn translated(n: u64) -> [u8; FRAME_BYTES] {
    let host = u8::try_from(n / 50_000).unwrap();
    let port = 1024 + u16::try_from(n % 50_000).unwrap();
    let addresses = ([10, 9, 1, host], [198, 51, 100, host]);
    frame((Mac::local(0xff_ffff_1000), GATEWAY_MAC), addresses, port)
}

/// In an order that no cache foresees.
fn scattered(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |n| n.wrapping_mul(7919) % count)
}

pub(super) fn benches(c: &mut Criterion) {
    let mut group = c.benchmark_group("process");
    group.throughput(Throughput::Elements(BATCH_FRAMES_MAX as u64));
    let one = vec![switched(0)];
    measure(&mut group, "L2 hit, 1 station", World::new(2, 1), one);
    for stations in [1_000, 100_000, 1_000_000] {
        let frames = scattered(stations).map(switched).collect();
        let name = format!("L2 hit, {stations} stations");
        measure(&mut group, &name, World::new(2, stations), frames);
    }
    for copies in [8, 64, 256] {
        let unknown = vec![switched(9)];
        let name = format!("flood to {copies}, the decision");
        measure(&mut group, &name, World::new(copies + 1, 1), unknown);
    }
    for sessions in [1, 1_000, 100_000] {
        let frames = scattered(sessions).map(translated).collect();
        let name = format!("NAT hit, {sessions} sessions");
        measure(&mut group, &name, World::new(2, 1), frames);
    }
    // The engine forgets its sessions before each batch, at a cost that is not counted.
    group.bench_function("NAT new", |b| {
        let mut world = World::new(2, 1);
        let mut ring = Ring::new(scattered(1_000).map(translated).collect());
        let _ = world.process(&mut ring.fill(), Nanos(1));
        b.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                for round in 0..8 {
                    let mut batch = ring.fill();
                    let began = std::time::Instant::now();
                    black_box(world.process(&mut batch, Nanos(round + 2)));
                    spent += began.elapsed() / 8;
                }
                world.nat.flush();
            }
            spent
        });
    });
    group.bench_function("parse", |b| {
        let frames: Vec<_> = (0..64).map(switched).collect();
        b.iter(|| {
            for frame in &frames {
                black_box(ethernet::parse(black_box(frame)));
            }
        });
    });
    group.finish();
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut world: World,
    frames: Vec<[u8; FRAME_BYTES]>,
) {
    let mut ring = Ring::new(frames);
    // Sessions and stations come to be in a round that does not count.
    for _ in 0..=ring.originals.len() / BATCH_FRAMES_MAX {
        let _ = world.process(&mut ring.fill(), Nanos(2));
    }
    group.bench_function(name, |b| {
        b.iter(|| {
            let mut batch = ring.fill();
            black_box(world.process(&mut batch, Nanos(3)))
        });
    });
}
