//! A whole worker over cables in memory: fill, process, dispatch, counters. Each scene is one way
//! that frames take; `scenes` says which, `counts` and the benchmarks run them round by round.
#![expect(clippy::disallowed_methods, reason = "it measures real time")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use nat::{Filtering, Nanos, Timeouts};
use switch::config::{
    GatewayView, NatSettings, NetworkIndex, PortView, Role, Route, UplinkView, View,
};
use switch::frame::{Csum, Gso, Offload, OwnedFrame};
use switch::latency::Clocks;
use switch::mac::Mac;
use switch::neigh::Link;
use switch::port::sim::{CableOptions, SimHost, cable};
use switch::port::{Egress, Rx, Tx};
use switch::switch::{Settings, Switch};
use switch::worker::{Idle, Worker};

use super::world::{EXTERNAL, GATEWAY, GATEWAY_MAC, ROUTER};

pub(super) const UPLINK_MAC: Mac = Mac([2, 0xaa, 0, 0, 0, 1]);
pub(super) const ROUTER_MAC: Mac = Mac([2, 0xaa, 0, 0, 0, 2]);

/// From one round to the next: 20,000 batches a second.
const ROUND: Nanos = Nanos(50_000);

/// Rounds from one tick to the next: a tenth of a second.
const TICK_ROUNDS: u64 = 2000;

/// What containers leave to whoever sends the frame on: a UDP checksum behind an IPv4 header.
pub(super) const UNFINISHED: Offload = Offload {
    csum: Csum::Partial {
        start: 34,
        offset: 6,
    },
    gso: Gso::None,
};

/// A switch with its workers, stepped by hand, and the far ends of its cables.
pub(super) struct Cables {
    switch: Switch,
    workers: Vec<Worker>,
    pub(super) members: Vec<SimHost>,
    /// One for each worker, with an uplink.
    pub(super) uplink: Vec<SimHost>,
    now: Nanos,
    rounds: u64,
    /// Whom the gateway is not to ask where they are.
    known: Vec<(Link, [u8; 4], Mac)>,
}

/// What of a worker's time is counted: in a function of its own, so that callgrind can tell it.
#[inline(never)]
fn counted_poll(worker: &mut Worker, now: Nanos) {
    black_box(worker.poll_once(now));
    // Or else the call above were a jump, and no way back here.
    black_box(());
}

impl Cables {
    /// Member 0 sends so many of these, later than all before; how long worker 0 takes for them.
    pub(super) fn round(&mut self, frames: usize, bytes: &[u8]) -> Duration {
        self.go_on();
        for _ in 0..frames {
            self.members[0].send(bytes, UNFINISHED);
        }
        self.poll(0)
    }

    /// A switch of `members` ports and `workers` workers; two by two, port 0 is worker 0's.
    pub(super) fn new(workers: u16, members: u16, latency: Option<Clocks>) -> Self {
        let settings = Settings {
            workers,
            cpus: Vec::new(),
            idle: Idle {
                busy_poll: Duration::ZERO,
            },
            fdb_entries_max: 8192,
            ageing_secs: 300,
            fast_path: None,
            nat: Some(nat_settings()),
            latency,
            seed: 1,
        };
        let tx = || Ok(Tx::without_sockets());
        let now = Nanos::from_secs(1000);
        let (switch, workers) = Switch::build(&settings, false, now, tx).unwrap();
        let mut world = Self {
            switch,
            workers,
            members: Vec::new(),
            uplink: Vec::new(),
            now,
            rounds: 0,
            known: Vec::new(),
        };
        for _ in 0..members {
            let index = world.switch.free_index().unwrap();
            let (rx, egress, host) = cable(index, CableOptions::default());
            let view = port(Role::Member, Egress::Sim(egress));
            let worker = index.0 % world.switch.workers();
            world.switch.add_port(index, view, Rx::Sim(rx), worker);
            world.members.push(host);
        }
        world.tick();
        world
    }

    /// The same with a gateway and an uplink; the router is known.
    pub(super) fn with_uplink(mut self) -> Self {
        let index = self.switch.free_index().unwrap();
        let (mut halves, mut egress) = (Vec::new(), None);
        for _ in 0..self.switch.workers() {
            let (rx, way, host) = cable(index, CableOptions::default());
            halves.push(Rx::Sim(rx));
            egress.get_or_insert(way);
            self.uplink.push(host);
        }
        let view = port(Role::Uplink, Egress::Sim(egress.unwrap()));
        self.switch.add_port_to_all(index, view, halves);
        self.switch.update(|view: &mut View| {
            view.gateway = Some(GatewayView {
                network: NetworkIndex(0),
                address: GATEWAY.into(),
                prefix: 16,
                mac: GATEWAY_MAC,
            });
            let route = |network: [u8; 4], prefix, via: Option<[u8; 4]>| Route {
                network: network.into(),
                prefix,
                via: via.map(Into::into),
            };
            view.uplink = Some(UplinkView {
                port: index,
                mac: UPLINK_MAC,
                address: EXTERNAL.into(),
                own: false,
                routes: vec![
                    route([203, 0, 0, 0], 16, None),
                    route([0; 4], 0, Some(ROUTER)),
                ],
                nat_ports: 1024..=65_535,
                pool: Vec::new(),
                untranslated: Vec::new(),
                mss_clamp: false,
            });
        });
        self.known.push((Link::Uplink, ROUTER, ROUTER_MAC));
        self.tick();
        self
    }

    /// Member `mac` at `address` is known to the gateway.
    pub(super) fn introduce(&mut self, address: [u8; 4], mac: Mac) {
        self.known.push((Link::Network(0), address, mac));
        self.tick();
    }

    fn tick(&mut self) {
        let neighbours = self.switch.neighbours();
        for (link, address, mac) in &self.known {
            neighbours.confirm(*link, (*address).into(), *mac, self.now);
        }
        for worker in &mut self.workers {
            worker.tick(self.now);
        }
    }

    /// Has one worker look at its rings once, and says how long that took.
    pub(super) fn poll(&mut self, worker: usize) -> Duration {
        let worker = &mut self.workers[worker];
        let began = Instant::now();
        counted_poll(worker, self.now);
        began.elapsed()
    }

    /// The next round: time passes, and now and then a worker ticks, which is not counted.
    pub(super) fn go_on(&mut self) {
        self.now += ROUND;
        self.rounds += 1;
        if self.rounds.is_multiple_of(TICK_ROUNDS) {
            self.tick();
        }
    }
}

/// Takes all that came to a host, and says how much.
pub(super) fn drain(host: &SimHost) -> usize {
    taken(host).count()
}

/// What came to a host, in turn.
pub(super) fn taken(host: &SimHost) -> impl Iterator<Item = OwnedFrame> {
    std::iter::from_fn(|| host.receive())
}

fn port(role: Role, egress: Egress) -> PortView {
    PortView {
        network: NetworkIndex(0),
        role,
        egress,
        mtu: 1500,
        up: true,
        nat_worker: 0,
        isolated: false,
    }
}

fn nat_settings() -> NatSettings {
    NatSettings {
        ports: 1024..=65_535,
        externals: 1,
        sessions_max: 262_144,
        timeouts: Timeouts::default(),
        udp_filtering: Filtering::Apdf,
        tcp_filtering: Filtering::Apdf,
        quota: nat::Quota::NONE,
        port_hold: Nanos::ZERO,
        helpers: nat::Helpers::default(),
        preserve_ids: false,
    }
}
