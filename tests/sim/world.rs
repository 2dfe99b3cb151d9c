//! The simulated world: a whole switch, stepped on one thread by a clock of its own, between
//! simulated hosts. Everything that differs from one run to another comes from one seed.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use nat::{Filtering, Nanos, Timeouts};
use switch::config::{
    GatewayView, NatSettings, NetworkIndex, PortView, Role, Route, UplinkView, in_prefix,
};
use switch::frame::{Offload, OwnedFrame};
use switch::mac::Mac;
use switch::port::sim::{CableOptions, Impairment, SimEgress, SimHost, SimRx, cable};
use switch::port::{Egress, PortIndex, Rx, Tx};
use switch::random::Random;
use switch::switch::{Settings, Switch};
use switch::worker::{Idle, Worker};

use super::host::Host;
use super::packet::{self, ETHERNET, u16_at};
use super::replay::Taped;

pub(super) const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
pub(super) const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 9, 1]);
pub(super) const EXTERNAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
pub(super) const UPLINK_MAC: Mac = Mac([2, 0, 0, 0, 0xee, 0]);
pub(super) const O1: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub(super) const O2: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
pub(super) const ROUTER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// Behind the router, which answers for it.
pub(super) const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// An address of the host's own that is no gateway's and no uplink's.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(192, 168, 7, 7);

const TICK: Nanos = Nanos(100_000_000);

/// What the uplink's address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Uplink {
    None,
    /// The host has it too.
    Shared,
    /// The switch's own.
    Own,
    /// No NAT: the routers outside know the network.
    Routed,
}

/// Which worker gets a frame from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Steering {
    /// The owner of its port, where the kernel can know it.
    Right,
    /// Any other worker: everything is handed over.
    Wrong,
}

/// What a world is made of.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) seed: u64,
    pub(super) workers: u16,
    pub(super) members: u16,
    pub(super) uplink: Uplink,
    pub(super) host_port: bool,
    pub(super) gateway: bool,
    /// MTU of the members and of the uplink.
    pub(super) mtu: (u32, u32),
    pub(super) impairment: Impairment,
    /// Whether members' cables take unfinished frames.
    pub(super) offloads: bool,
    pub(super) steering: Steering,
    pub(super) fdb_entries: usize,
    pub(super) nat_ports: RangeInclusive<u16>,
    pub(super) sessions: u32,
    /// Further external addresses.
    pub(super) pool: Vec<Ipv4Addr>,
    /// Networks that are reached untranslated.
    pub(super) untranslated: Vec<(Ipv4Addr, u8)>,
    pub(super) mss_clamp: bool,
    /// Members whose ports are isolated.
    pub(super) isolated: Vec<u16>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            workers: 1,
            members: 3,
            uplink: Uplink::Shared,
            host_port: false,
            gateway: true,
            mtu: (1500, 1500),
            impairment: Impairment::default(),
            offloads: true,
            steering: Steering::Right,
            fdb_entries: 1024,
            nat_ports: 40_000..=40_999,
            sessions: 1024,
            pool: Vec::new(),
            untranslated: Vec::new(),
            mss_clamp: false,
            isolated: Vec::new(),
        }
    }
}

/// One port's wire: the far ends of its cables and who is there.
pub(super) struct Wire {
    pub(super) index: PortIndex,
    pub(super) role: Role,
    cables: Vec<SimHost>,
    pub(super) hosts: Vec<Host>,
    /// Frames the switch sent here, until taken by [`World::taken`].
    seen: Vec<OwnedFrame>,
    /// Frames the cable took from the hosts and from the switch.
    pub(super) sent: u64,
    pub(super) delivered: u64,
}

pub(super) struct World {
    pub(super) setup: Setup,
    pub(super) switch: Switch,
    pub(super) workers: Vec<Worker>,
    pub(super) now: Nanos,
    pub(super) random: Random,
    pub(super) wires: Vec<Wire>,
    next_tick: Nanos,
    /// The address that everything leaves with.
    pub(super) external: Ipv4Addr,
    /// FNV-1a over every frame delivered.
    pub(super) hash: u64,
    /// Every frame on every wire, where somebody wants them.
    pub(super) tape: Option<Vec<Taped>>,
}

/// The Ethernet address of member `number`.
pub(super) fn member_mac(number: u16) -> Mac {
    Mac::local(0x0100 + u64::from(number))
}

/// The address of member `number`: 10.9.0.2 and on.
pub(super) fn member_ip(number: u16) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, 2 + u8::try_from(number).unwrap())
}

/// The uplink's view, as the control plane makes it.
pub(super) fn uplink_view(port: PortIndex, setup: &Setup) -> UplinkView {
    let route = |network: [u8; 4], prefix, via| Route {
        network: network.into(),
        prefix,
        via,
    };
    UplinkView {
        port,
        mac: UPLINK_MAC,
        address: EXTERNAL,
        own: setup.uplink == Uplink::Own,
        routes: vec![
            route([203, 0, 113, 0], 24, None),
            route([198, 51, 100, 0], 24, Some(ROUTER)),
        ],
        nat_ports: setup.nat_ports.clone(),
        pool: setup.pool.clone(),
        untranslated: setup.untranslated.clone(),
        mss_clamp: setup.mss_clamp,
    }
}

fn settings(setup: &Setup) -> Settings {
    let has_nat = matches!(setup.uplink, Uplink::Shared | Uplink::Own);
    Settings {
        workers: setup.workers,
        cpus: Vec::new(),
        idle: Idle {
            busy_poll: Duration::ZERO,
        },
        fdb_entries_max: setup.fdb_entries,
        ageing_secs: 300,
        fast_path: None,
        nat: has_nat.then(|| NatSettings {
            ports: setup.nat_ports.clone(),
            externals: 4,
            sessions_max: setup.sessions,
            timeouts: Timeouts::default(),
            udp_filtering: Filtering::Apdf,
            tcp_filtering: Filtering::Apdf,
            quota: nat::Quota::NONE,
            port_hold: nat::Nanos::ZERO,
            helpers: nat::Helpers::default(),
            preserve_ids: setup.uplink == Uplink::Own,
        }),
        latency: None,
        seed: setup.seed,
    }
}

impl World {
    pub(super) fn new(setup: Setup) -> Self {
        let now = Nanos::from_secs(1000);
        let tx = || Ok(Tx::without_sockets());
        let (switch, workers) = Switch::build(&settings(&setup), false, now, tx).unwrap();
        let mut world = Self {
            switch,
            workers,
            now,
            random: Random::new(setup.seed ^ 0x77),
            wires: Vec::new(),
            next_tick: now,
            external: EXTERNAL,
            hash: 0xcbf2_9ce4_8422_2325,
            tape: None,
            setup,
        };
        for number in 0..world.setup.members {
            world.add_member(number);
        }
        if world.setup.gateway {
            world.switch.update(|view| {
                view.gateway = Some(GatewayView {
                    network: NetworkIndex(0),
                    address: GATEWAY,
                    prefix: 24,
                    mac: GATEWAY_MAC,
                });
            });
        }
        if world.setup.uplink != Uplink::None {
            world.add_uplink();
        }
        if world.setup.host_port {
            world.add_host_port();
        }
        world.obey();
        world
    }

    fn cable(&mut self, index: PortIndex, offloads: bool) -> (SimRx, SimEgress, SimHost) {
        let options = CableOptions {
            impairment: self.setup.impairment,
            offloads,
            seed: self.random.next_u64(),
            ..CableOptions::default()
        };
        cable(index, options)
    }

    /// Adds a port to the switch and a wire without hosts to it.
    pub(super) fn add_port(&mut self, role: Role, mtu: u32, offloads: bool) -> usize {
        let index = self.switch.free_index().unwrap();
        let halves = if role == Role::Uplink {
            self.setup.workers
        } else {
            1
        };
        let (mut rx, mut egress, mut cables) = (Vec::new(), None, Vec::new());
        for _ in 0..halves {
            let (half, way, host) = self.cable(index, offloads);
            rx.push(Rx::Sim(half));
            egress.get_or_insert(way);
            cables.push(host);
        }
        let view = PortView {
            network: NetworkIndex(0),
            role,
            egress: Egress::Sim(egress.unwrap()),
            mtu,
            up: true,
            nat_worker: 0,
            isolated: false,
        };
        if role == Role::Uplink {
            self.switch.add_port_to_all(index, view, rx);
        } else {
            let worker = index.0 % self.setup.workers;
            self.switch.add_port(index, view, rx.pop().unwrap(), worker);
        }
        let wire = Wire {
            index,
            role,
            cables,
            hosts: Vec::new(),
            seen: Vec::new(),
            sent: 0,
            delivered: 0,
        };
        // A port that takes a free index takes the place of the wire that was there.
        let place = index.index();
        if place < self.wires.len() {
            self.wires[place] = wire;
        } else {
            self.wires.push(wire);
        }
        place
    }

    /// Adds a member with its host.
    pub(super) fn add_member(&mut self, number: u16) -> usize {
        let place = self.add_port(Role::Member, self.setup.mtu.0, self.setup.offloads);
        if self.setup.isolated.contains(&number) {
            self.isolate(place, true);
        }
        let seed = self.random.next_u64();
        let mut host = Host::new(member_mac(number), member_ip(number), Some(GATEWAY), seed);
        host.set_mtu(self.setup.mtu.0);
        self.wires[place].hosts.push(host);
        place
    }

    fn add_uplink(&mut self) {
        let place = self.add_port(Role::Uplink, self.setup.mtu.1, true);
        for (number, address) in [(1, O1), (2, O2), (3, ROUTER)] {
            let routed = self.setup.uplink == Uplink::Routed;
            let mac = Mac::local(0xee00 + number);
            let back = routed.then_some(EXTERNAL);
            let mut host = Host::new(mac, address, back, self.random.next_u64());
            host.set_mtu(self.setup.mtu.1);
            if address == ROUTER {
                host.addresses.push(FAR);
            }
            self.wires[place].hosts.push(host);
        }
        let view = uplink_view(self.wires[place].index, &self.setup);
        self.switch.update(|v| v.uplink = Some(view));
    }

    fn add_host_port(&mut self) {
        let place = self.add_port(Role::Host, self.setup.mtu.0, true);
        let seed = self.random.next_u64();
        let mut host = Host::new(GATEWAY_MAC, GATEWAY, None, seed);
        host.addresses.push(HOST);
        let shared = self.setup.uplink == Uplink::Shared;
        if shared {
            host.addresses.push(EXTERNAL);
        }
        let mut addresses = host.addresses.clone();
        addresses.sort();
        self.wires[place].hosts.push(host);
        let port = self.wires[place].index;
        self.switch.update(|view| {
            view.host.port = Some(port);
            view.host.addresses = addresses;
        });
    }

    /// All external addresses.
    pub(super) fn externals(&self) -> Vec<Ipv4Addr> {
        let first = std::iter::once(self.external);
        first.chain(self.setup.pool.iter().copied()).collect()
    }

    /// The place of the wire with that role.
    pub(super) fn place(&self, role: Role) -> usize {
        self.wires.iter().position(|w| w.role == role).unwrap()
    }

    pub(super) fn host(&mut self, place: usize) -> &mut Host {
        &mut self.wires[place].hosts[0]
    }

    /// The outside host of that address.
    pub(super) fn outside(&mut self, address: Ipv4Addr) -> &mut Host {
        let place = self.place(Role::Uplink);
        let hosts = &mut self.wires[place].hosts;
        hosts
            .iter_mut()
            .find(|h| h.addresses.contains(&address))
            .unwrap()
    }

    /// Lets every worker obey what the control plane has asked.
    pub(super) fn obey(&mut self) {
        for worker in &mut self.workers {
            worker.tick(self.now);
        }
    }

    pub(super) fn update(&mut self, change: impl FnOnce(&mut switch::config::View)) {
        self.switch.update(change);
        self.obey();
    }

    pub(super) fn remove_port(&mut self, place: usize) {
        self.switch.remove_port(self.wires[place].index);
        self.wires[place].hosts.clear();
        self.obey();
    }

    pub(super) fn plug(&mut self, place: usize, up: bool) {
        for cable in &self.wires[place].cables {
            cable.set_up(up);
        }
    }

    /// Puts a frame on the wire towards the switch. False where the cable is full.
    pub(super) fn send(&mut self, place: usize, bytes: &[u8], offload: Offload) -> bool {
        let wire = &self.wires[place];
        let half = match wire.role {
            Role::Uplink => self.steer(bytes),
            Role::Member | Role::Host => 0,
        };
        let wire = &mut self.wires[place];
        let taken = wire.cables[half].send(bytes, offload);
        wire.sent += u64::from(taken);
        self.tape(place, true, bytes);
        taken
    }

    /// One round: wires to hosts, hosts to wires, workers in seeded order. Returns the frames
    /// that moved.
    pub(super) fn step(&mut self, by: Nanos) -> usize {
        self.now += by;
        let mut moved = 0;
        for place in 0..self.wires.len() {
            moved += self.step_wire(place);
        }
        let mut order: Vec<usize> = (0..self.workers.len()).collect();
        for last in (1..order.len()).rev() {
            let other = self.random.below(last as u64 + 1);
            order.swap(last, usize::try_from(other).unwrap());
        }
        let tick = self.now >= self.next_tick;
        for worker in order {
            moved += self.workers[worker].poll_once(self.now);
            if tick {
                self.workers[worker].tick(self.now);
            }
        }
        if tick {
            self.next_tick = self.now + TICK;
        }
        moved
    }

    fn step_wire(&mut self, place: usize) -> usize {
        let mut moved = self.receive(place);
        while let Some((bytes, offload)) = self.next_frame(place) {
            moved += 1;
            self.send(place, &bytes, offload);
        }
        moved
    }

    /// Lets the hosts of a wire take what the switch has sent them; returns how much that was.
    pub(super) fn receive(&mut self, place: usize) -> usize {
        let mut moved = 0;
        // What a port sends goes by the first half of an uplink.
        while let Some(frame) = self.wires[place].cables[0].receive() {
            moved += 1;
            self.deliver(place, frame);
        }
        moved
    }

    /// The next frame that a host of a wire would send.
    pub(super) fn next_frame(&mut self, place: usize) -> Option<(Vec<u8>, Offload)> {
        let now = self.now;
        self.wires[place].hosts.iter_mut().find_map(|host| {
            host.poll(now);
            host.out.pop_front()
        })
    }

    fn deliver(&mut self, place: usize, frame: OwnedFrame) {
        let now = self.now;
        self.note(place, &frame);
        self.tape(place, false, frame.bytes());
        let wire = &mut self.wires[place];
        wire.delivered += 1;
        if wire.role == Role::Uplink {
            let source = Mac(*frame.bytes()[6..].first_chunk().unwrap());
            assert_eq!(source, UPLINK_MAC, "the uplink is no bridge port");
            if self.setup.uplink != Uplink::Routed && u16_at(frame.bytes(), 12) == 0x0800 {
                let address = |at| packet::address_at(frame.bytes(), ETHERNET + at);
                let (source, destination) = (address(12), address(16));
                let mut untranslated = self.setup.untranslated.iter();
                assert!(
                    source == self.external
                        || self.setup.pool.contains(&source)
                        || untranslated.any(|(net, prefix)| in_prefix(destination, *net, *prefix)),
                    "{source} > {destination} leaves untranslated"
                );
            }
        }
        for host in &mut wire.hosts {
            host.take(&frame, now);
        }
        wire.seen.push(frame);
    }

    fn note(&mut self, place: usize, frame: &OwnedFrame) {
        let header = frame.offload.to_vnet(0);
        let place = u8::try_from(place % 256).unwrap();
        for byte in std::iter::once(&place).chain(&header).chain(frame.bytes()) {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    /// Runs until no frame moves any more.
    pub(super) fn run(&mut self) {
        let mut quiet = 0;
        for _ in 0..100_000 {
            quiet = if self.step(Nanos::from_micros(20)) > 0 {
                0
            } else {
                quiet + 1
            };
            if quiet == 3 {
                return;
            }
        }
        panic!("seed {}: frames never come to rest", self.setup.seed);
    }

    /// Runs for that long.
    pub(super) fn advance(&mut self, time: Nanos) {
        let end = self.now + time;
        while self.now < end {
            let left = end.saturating_sub(self.now);
            self.step(left.min(Nanos::from_millis(50)));
        }
        self.run();
    }

    /// Runs until every host has done what it set out to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..60_000 {
            let moved = self.step(Nanos::from_millis(1));
            let idle = self.wires.iter().flat_map(|w| &w.hosts).all(Host::is_idle);
            if moved == 0 && idle && self.workers.iter().all(|w| w.held() == 0) {
                return;
            }
        }
        panic!("seed {}: no end in 60 s", self.setup.seed);
    }

    /// What the switch sent to a wire since the last call.
    pub(super) fn taken(&mut self, place: usize) -> Vec<OwnedFrame> {
        std::mem::take(&mut self.wires[place].seen)
    }

    /// As [`taken`](Self::taken), the bytes only.
    pub(super) fn frames(&mut self, place: usize) -> Vec<Vec<u8>> {
        let frames = self.taken(place);
        frames.iter().map(|frame| frame.bytes().to_vec()).collect()
    }

    /// Forgets what was sent so far.
    pub(super) fn clear(&mut self) {
        for wire in &mut self.wires {
            wire.seen.clear();
            for host in &mut wire.hosts {
                host.inbox.clear();
            }
        }
    }

    /// A world whose hosts have introduced themselves.
    pub(super) fn greeted(setup: Setup) -> Self {
        let mut world = Self::new(setup);
        world.greet();
        world
    }

    /// Introduces every host to the switch, and members to the gateway.
    pub(super) fn greet(&mut self) {
        for place in 0..self.wires.len() {
            let target = match self.wires[place].role {
                Role::Member if self.setup.gateway => GATEWAY,
                Role::Member => Ipv4Addr::new(10, 9, 0, 250),
                Role::Uplink | Role::Host => continue,
            };
            for host in &mut self.wires[place].hosts {
                host.neighbours.insert(GATEWAY, GATEWAY_MAC);
                host.ask(target);
            }
        }
        if self.setup.uplink != Uplink::None {
            for address in [O1, O2, ROUTER] {
                let (now, mac) = (self.now, self.outside(address).mac);
                let link = switch::neigh::Link::Uplink;
                self.switch.neighbours().confirm(link, address, mac, now);
                for external in self.externals() {
                    let neighbours = &mut self.outside(address).neighbours;
                    neighbours.insert(external, UPLINK_MAC);
                }
            }
        }
        self.run();
        self.clear();
    }
}
