//! Whole runs from a seed: random worlds, random traffic, everything that must hold.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use nat::{Nanos, Protocol};
use switch::frame::Offload;
use switch::port::sim::Impairment;
use switch::random::Random;

use super::host::{ECHO, Flavour, Order};
use super::packet::{self, UDP};
use super::publish::publish;
use super::world::{
    EXTERNAL, FAR, GATEWAY, O1, O2, Setup, Steering, UPLINK_MAC, Uplink, World, member_ip,
};

pub(super) const PERFECT: Impairment = Impairment {
    loss: 0,
    duplicate: 0,
    reorder: 0,
};

pub(super) const BAD: Impairment = Impairment {
    loss: 40,
    duplicate: 30,
    reorder: 80,
};

/// Further external addresses.
const POOL: [Ipv4Addr; 2] = [
    Ipv4Addr::new(203, 0, 113, 253),
    Ipv4Addr::new(203, 0, 113, 252),
];

/// The published port of a page.
const WEB: u16 = 8080;

/// UDP port of datagrams whose order is checked.
const ORDERED: u16 = 9;

fn pick<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[usize::try_from(random.below(choices.len() as u64)).unwrap()]
}

fn below(random: &mut Random, bound: u64) -> usize {
    usize::try_from(random.below(bound)).unwrap()
}

/// The world of a seed.
fn setup(seed: u64, impairment: Impairment) -> Setup {
    let mut random = Random::new(seed);
    let workers = pick(&mut random, &[1, 2, 4]);
    Setup {
        seed,
        workers,
        members: pick(&mut random, &[2, 3, 6]),
        uplink: pick(&mut random, &[Uplink::Shared, Uplink::Own, Uplink::Routed]),
        host_port: random.below(2) == 0,
        mtu: pick(
            &mut random,
            &[(1500, 1500), (1500, 1300), (1300, 1500), (9000, 1500)],
        ),
        impairment,
        offloads: random.below(4) > 0,
        steering: pick(&mut random, &[Steering::Right, Steering::Wrong]),
        fdb_entries: pick(&mut random, &[64, 1024]),
        nat_ports: 40_000..=40_199,
        pool: pick(&mut random, &[&[][..], &POOL[..1], &POOL[..]]).to_vec(),
        mss_clamp: random.below(2) == 0,
        ..Setup::default()
    }
}

/// Echo, numbered datagrams and a page of random members, by the external addresses.
fn publish_some(world: &mut World, random: &mut Random) {
    let services = [
        (Protocol::Udp, ECHO, ECHO),
        (Protocol::Udp, ORDERED, ORDERED),
        (Protocol::Tcp, WEB, 80),
    ];
    let setup = &world.setup;
    let publishes = services.map(|(protocol, external, port)| {
        let member = u16::try_from(random.below(setup.members.into())).unwrap();
        let owner = u16::try_from(random.below(setup.workers.into())).unwrap();
        publish(
            protocol,
            external..=external,
            &[(member_ip(member), port)],
            owner,
        )
    });
    world.publish(publishes.into());
    // Who asks for a shared address is answered by the host, which is not simulated out there.
    for address in [O1, O2] {
        for external in world.externals() {
            let neighbours = &mut world.outside(address).neighbours;
            neighbours.insert(external, UPLINK_MAC);
        }
    }
}

/// Traffic of one run, and what is expected of it.
pub(super) struct Run {
    pub(super) world: World,
    pub(super) random: Random,
    /// The next number of each ordered flow.
    numbers: BTreeMap<(usize, Ipv4Addr, u16), u16>,
    streams: u16,
}

impl Run {
    pub(super) fn new(seed: u64, impairment: Impairment) -> Self {
        let mut world = World::new(setup(seed, impairment));
        let mut random = Random::new(seed ^ 0x1234);
        if world.setup.uplink != Uplink::Routed && random.below(2) == 0 {
            publish_some(&mut world, &mut random);
        }
        if random.below(2) == 0 {
            world.greet();
        }
        for wire in &mut world.wires {
            for host in &mut wire.hosts {
                let flavours = [Flavour::Plain, Flavour::Partial, Flavour::Gso];
                host.flavour = pick(&mut random, &flavours);
            }
        }
        // Path MTU discovery is not what is tried here: segments fit the narrowest link.
        let (inside, outside) = world.setup.mtu;
        let mtu = usize::try_from(inside.min(outside)).unwrap();
        for host in world.wires.iter_mut().flat_map(|wire| &mut wire.hosts) {
            host.segment_mtu = mtu;
        }
        Self {
            world,
            random,
            numbers: BTreeMap::new(),
            streams: 0,
        }
    }

    fn members(&self) -> u64 {
        u64::from(self.world.setup.members)
    }

    fn target(&mut self) -> Ipv4Addr {
        let member = u16::try_from(self.random.below(self.members())).unwrap();
        let choices = [member_ip(member), O1, O2, FAR, GATEWAY, EXTERNAL];
        pick(&mut self.random, &choices)
    }

    /// One random deed of a random member.
    pub(super) fn act(&mut self) {
        let members = self.members();
        let place = below(&mut self.random, members);
        let target = self.target();
        let host = match self.world.wires[place].hosts.first_mut() {
            Some(host) if host.address() != target => host,
            // Itself, or gone.
            _ => return,
        };
        match self.random.below(8) {
            0 => host.ping(target, 5, 1, &[1; 100]),
            1 => {
                let len = below(&mut self.random, 1200);
                host.udp(target, (6000, ECHO), &vec![2; len]);
            }
            2 => {
                let orders = [Order::Straight, Order::Reversed, Order::Shuffled];
                let order = pick(&mut self.random, &orders);
                let len = 1000 + below(&mut self.random, 4000);
                host.udp_fragments(target, (6001, 10), &vec![3; len], (576, order));
            }
            3 if self.streams < 6 => {
                self.streams += 1;
                self.connect(place, target);
            }
            4 => {
                let bytes: Vec<u8> = (0..60)
                    .map(|_| self.random.next_u64().to_le_bytes()[0])
                    .collect();
                self.world.send(place, &bytes, Offload::PLAIN);
            }
            _ => self.ordered(place, target),
        }
    }

    fn connect(&mut self, place: usize, target: Ipv4Addr) {
        let published = !self.world.switch.view().publishes.is_empty();
        let remote = match target {
            EXTERNAL if published => WEB,
            GATEWAY | EXTERNAL => return,
            _ => 80,
        };
        let len = below(&mut self.random, 20_000);
        let port = 7000 + self.streams;
        self.world
            .host(place)
            .connect(target, (port, remote), vec![4; len]);
    }

    /// One random deed of a host outside at the published ports.
    pub(super) fn come_in(&mut self) {
        let externals = self.world.externals();
        let target = pick(&mut self.random, &externals);
        let client = pick(&mut self.random, &[O1, O2]);
        if self.world.switch.view().publishes.is_empty() {
            return;
        }
        if self.random.below(4) == 0 && self.streams < 6 {
            self.streams += 1;
            let len = below(&mut self.random, 20_000);
            let ports = (7000 + self.streams, WEB);
            let client = self.world.outside(client);
            client.connect(target, ports, vec![4; len]);
            return;
        }
        let port = 9000 + u16::try_from(self.random.below(3)).unwrap();
        let from = usize::from(client.octets()[3]);
        let number = self.numbers.entry((1000 + from, target, port)).or_default();
        *number += 1;
        let mut body = u16::try_from(1000 + from).unwrap().to_be_bytes().to_vec();
        body.extend(number.to_be_bytes());
        // By one external address each, or numbers would be those of several flows.
        body.extend(target.octets());
        let client = self.world.outside(client);
        client.udp(target, (port, ORDERED), &body);
    }

    /// A datagram with the next number of its flow.
    fn ordered(&mut self, place: usize, target: Ipv4Addr) {
        let port = 8000 + u16::try_from(self.random.below(3)).unwrap();
        let number = self.numbers.entry((place, target, port)).or_default();
        *number += 1;
        let mut body = u16::try_from(place).unwrap().to_be_bytes().to_vec();
        body.extend(number.to_be_bytes());
        body.extend(vec![5; below(&mut self.random, 1400)]);
        self.world.host(place).udp(target, (port, ORDERED), &body);
    }

    /// The whole run.
    fn go(&mut self, deeds: usize) {
        self.go_with(deeds, |_| {});
    }

    /// The whole run, with something else after each deed.
    pub(super) fn go_with(&mut self, deeds: usize, mut also: impl FnMut(&mut Self)) {
        let answer = vec![6; below(&mut self.random, 20_000)];
        for host in self.world.wires.iter_mut().flat_map(|wire| &mut wire.hosts) {
            host.listen(80, answer.clone());
        }
        for _ in 0..deeds {
            self.act();
            if self.random.below(3) == 0 {
                self.come_in();
            }
            also(self);
            if self.random.below(3) == 0 {
                let micros = self.random.below(2000);
                self.world.step(Nanos::from_micros(micros));
            }
        }
        // A ring that is still on its way from one worker to another arrives.
        self.world.obey();
        self.world.obey();
        self.world.settle();
        self.check(&answer);
    }

    fn check(&self, answer: &[u8]) {
        let seed = self.world.setup.seed;
        self.world.check();
        for host in self.world.wires.iter().flat_map(|wire| &wire.hosts) {
            for stream in &host.streams {
                let is_client = matches!(stream.remote.1, 80 | WEB);
                let expected = if is_client { answer } else { &[] };
                assert!(stream.is_done(), "seed {seed}");
                if !expected.is_empty() {
                    assert!(
                        stream.received == expected,
                        "seed {seed}: a stream was changed"
                    );
                } else {
                    assert!(stream.received.iter().all(|byte| *byte == 4), "seed {seed}");
                }
            }
        }
        if self.world.setup.impairment == PERFECT {
            self.check_order();
        }
    }

    /// Numbers of a flow only go up.
    fn check_order(&self) {
        for host in self.world.wires.iter().flat_map(|wire| &wire.hosts) {
            let mut last = BTreeMap::new();
            let ordered = host.inbox.iter();
            for packet in ordered.filter(|p| p.protocol == UDP && p.ports().1 == ORDERED) {
                let body = packet.body();
                // Of one from outside the external address that it came by.
                let by = (packet::u16_at(body, 0) >= 1000).then(|| packet::address_at(body, 4));
                let flow = (packet::u16_at(body, 0), packet.dst, by, packet.ports().0);
                let number = packet::u16_at(body, 2);
                let before = last.insert(flow, number).unwrap_or(0);
                let seed = self.world.setup.seed;
                assert!(before < number, "seed {seed}: {flow:?}: {before}, {number}");
            }
        }
    }
}

/// How many runs; more by the environment for a long night.
pub(super) fn runs(usual: u64) -> u64 {
    let asked = std::env::var("VSWITCH_SIM_RUNS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn perfect_cables_keep_order_and_account_for_everything() {
    for seed in 0..runs(600) {
        Run::new(seed, PERFECT).go(60);
    }
}

#[test]
fn bad_cables_lose_no_byte_of_a_stream_and_no_count() {
    for seed in 0..runs(300) {
        Run::new(seed, BAD).go(40);
    }
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_last_bit() {
    for seed in 0..runs(50) {
        let hashes = [0, 1].map(|_| {
            let mut run = Run::new(seed, BAD);
            run.go(40);
            (run.world.hash, run.world.switch.totals())
        });
        assert_eq!(hashes[0], hashes[1], "seed {seed}");
    }
}

#[test]
fn ports_come_and_go_while_others_carry_on() {
    for seed in 0..runs(100) {
        let mut run = Run::new(seed, PERFECT);
        for number in 0..6 {
            for _ in 0..10 {
                run.act();
                run.world.step(Nanos::from_micros(50));
            }
            // The last member goes and comes back; its neighbours keep talking.
            let place = usize::from(run.world.setup.members) - 1;
            if number % 2 == 0 {
                run.world.remove_port(place);
            } else {
                let last = run.world.setup.members - 1;
                assert_eq!(run.world.add_member(last), place, "seed {seed}");
                run.world.obey();
            }
        }
        run.world.advance(Nanos::from_secs(6));
        let totals = run.world.switch.totals();
        assert!(totals.conserved(), "seed {seed}: {totals:?}");
        run.world.check_nat();
        run.check_order();
    }
}
