//! What a worker lends the pipeline, made by hand, and batches of frames in slots as in a ring.

#![expect(clippy::unwrap_used, reason = "it is made for benchmarks and tests")]

use nat::{Nanos, Nat};
use switch::config::{
    GatewayView, HostView, NetworkIndex, PortView, Role, Route, UplinkView, View,
};
use switch::fdb::Fdb;
use switch::frame::{Batch, Csum, Frame, Gso, Offload};
use switch::gateway::{Context, Offers, Origin};
use switch::hold::Hold;
use switch::limits::{BATCH_FRAMES_MAX, HEADROOM_BYTES};
use switch::mac::Mac;
use switch::neigh::{Link, Neighbours};
use switch::pipeline;
use switch::port::{Egress, PortIndex};
use switch::stations::Stations;
use switch::trace::{Off, Tracer};

pub(super) const GATEWAY: [u8; 4] = [10, 9, 0, 1];
pub(super) const EXTERNAL: [u8; 4] = [203, 0, 113, 254];
pub(super) const ROUTER: [u8; 4] = [203, 0, 113, 1];
pub(super) const GATEWAY_MAC: Mac = Mac([2, 0x77, 10, 9, 0, 1]);
/// Bytes of a slot, as in a ring.
const SLOT_BYTES: usize = 2048;
pub(super) const FRAME_BYTES: usize = 60;
/// The port behind which all other members are.
const FAR: PortIndex = PortIndex(1);

/// All that a worker lends the pipeline.
pub(super) struct World {
    pub(super) view: View,
    fdb: Fdb,
    neighbours: Neighbours,
    pub(super) nat: Nat,
    hold: Hold,
    origin: Origin,
    offers: Offers,
    stations: Stations,
    member_mtu_min: u32,
}

impl World {
    /// Ports 0 to `members` - 1, and the uplink behind them.
    pub(super) fn new(members: u16, stations: u64) -> Self {
        let port = |role| {
            Some(PortView {
                network: NetworkIndex(0),
                role,
                egress: Egress::Packet { ifindex: 1 },
                mtu: 1500,
                up: true,
                nat_worker: 0,
                isolated: false,
            })
        };
        let mut ports: Vec<_> = (0..members).map(|_| port(Role::Member)).collect();
        ports.push(port(Role::Uplink));
        let view = View {
            number: 0,
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
                pool: Vec::new(),
                untranslated: Vec::new(),
                mss_clamp: false,
            }),
            host: HostView {
                port: None,
                addresses: vec![EXTERNAL.into()],
            },
            publishes: std::sync::Arc::default(),
        };
        let fdb = Fdb::new(usize::try_from(stations).unwrap().max(8192), 1);
        for station in 0..stations {
            let _ = fdb.learn(0, member(station), FAR, Nanos(1));
        }
        let neighbours = Neighbours::new(4096, 1);
        let router = Mac([2, 0xaa, 0, 0, 0, 2]);
        neighbours.confirm(Link::Uplink, ROUTER.into(), router, Nanos(1));
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
            offers: Offers::default(),
            stations: Stations::default(),
        }
    }

    pub(super) fn process(&mut self, batch: &mut Batch<'_>, now: Nanos) -> pipeline::Verdicts {
        self.process_traced(batch, now, Off)
    }

    pub(super) fn process_traced(
        &mut self,
        batch: &mut Batch<'_>,
        now: Nanos,
        tracer: impl Tracer,
    ) -> pipeline::Verdicts {
        let mut ctx = Context {
            view: &self.view,
            fdb: &self.fdb,
            neighbours: &self.neighbours,
            nat: Some(&mut self.nat),
            hold: &mut self.hold,
            origin: &mut self.origin,
            offers: &mut self.offers,
            stations: &mut self.stations,
            worker: 0,
            member_mtu_min: self.member_mtu_min,
            last_hop: None,
            now,
            tracer,
        };
        pipeline::process(&mut ctx, batch)
    }
}

/// The address of the `n`-th member; not in the order of their numbers in memory.
fn member(n: u64) -> Mac {
    Mac::local(n.wrapping_mul(0x9e37_79b9) & 0xff_ffff_ffff)
}

/// Frames of one batch after the other, in slots, with their originals aside.
pub(super) struct Ring {
    memory: Vec<u8>,
    pub(super) originals: Vec<[u8; FRAME_BYTES]>,
    next: usize,
}

impl Ring {
    pub(super) fn new(originals: Vec<[u8; FRAME_BYTES]>) -> Self {
        Self {
            memory: vec![0; SLOT_BYTES * BATCH_FRAMES_MAX],
            originals,
            next: 0,
        }
    }

    /// The next batch.
    pub(super) fn fill(&mut self) -> Batch<'_> {
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
pub(super) fn frame(
    macs: (Mac, Mac),
    addresses: ([u8; 4], [u8; 4]),
    port: u16,
) -> [u8; FRAME_BYTES] {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2(macs.0.0, macs.1.0)
        .ipv4(addresses.0, addresses.1, 64)
        .udp(port, 9)
        .write(&mut bytes, &[0; 18])
        .unwrap();
    bytes.try_into().unwrap()
}

/// From a member to the `n`-th of `stations`.
pub(super) fn switched(n: u64) -> [u8; FRAME_BYTES] {
    let sender = Mac::local(0xff_ffff_0000 + n % 8);
    frame((sender, member(n)), ([10, 9, 0, 2], [10, 9, 0, 3]), 4000)
}

/// From a member through the NAT, in the `n`-th session.
pub(super) fn translated(n: u64) -> [u8; FRAME_BYTES] {
    let host = u8::try_from(n / 50_000).unwrap();
    let port = 1024 + u16::try_from(n % 50_000).unwrap();
    let addresses = ([10, 9, 1, host], [198, 51, 100, host]);
    frame((Mac::local(0xff_ffff_1000), GATEWAY_MAC), addresses, port)
}

/// In an order that no cache foresees.
pub(super) fn scattered(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |n| n.wrapping_mul(7919) % count)
}
