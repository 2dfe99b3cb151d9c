//! The switch beside a model of it: what a learning switch does, in a hundred lines of maps.
//!
//! Both see the same random frames, moves, ageing, static entries, flushes and ports that go up
//! and down; after each frame both must have sent it to the same ports, and at the end both must
//! know the same stations.

use std::collections::{BTreeMap, BTreeSet};

use nat::Nanos;
use switch::fdb::Flush;
use switch::frame::Offload;
use switch::mac::Mac;
use switch::random::Random;

use super::packet::ethernet;
use super::world::{Setup, Uplink, World};

const AGEING_SECS: u64 = 300;

/// IEEE 802.1D in maps: stations, and when they were last heard.
struct Model {
    ports: usize,
    down: BTreeSet<usize>,
    isolated: BTreeSet<usize>,
    dynamic: BTreeMap<Mac, (usize, u64)>,
    fixed: BTreeMap<Mac, usize>,
}

impl Model {
    /// The ports a frame goes to; `None` where it is dropped before it is forwarded.
    fn frame(&mut self, ingress: usize, to: Mac, from: Mac, now: u64) -> Option<BTreeSet<usize>> {
        if matches!(to.0, [1, 0x80, 0xc2, 0, 0, 0..=15]) || from.0[0] & 1 == 1 || from.0 == [0; 6] {
            return None;
        }
        match self.fixed.get(&from) {
            Some(place) if *place != ingress => return None,
            Some(_) => {}
            None => {
                self.dynamic.insert(from, (ingress, now));
            }
        }
        let fresh = |(place, heard): &(usize, u64)| (now - heard <= AGEING_SECS).then_some(*place);
        let known = self.fixed.get(&to).copied();
        let known = known.or_else(|| self.dynamic.get(&to).and_then(fresh));
        let mut egresses: BTreeSet<usize> = match known {
            Some(place) if to.0[0] & 1 == 0 => [place].into(),
            _ => (0..self.ports).collect(),
        };
        egresses.remove(&ingress);
        egresses.retain(|place| !self.down.contains(place));
        if self.isolated.contains(&ingress) {
            egresses.retain(|place| !self.isolated.contains(place));
        }
        Some(egresses)
    }

    /// Stations known at a time, with their ports.
    fn stations(&self, now: u64) -> BTreeMap<Mac, usize> {
        let dynamic = self.dynamic.iter();
        let fresh = dynamic.filter(|(_, (_, heard))| now - heard <= AGEING_SECS);
        let fresh = fresh.map(|(mac, (place, _))| (*mac, *place));
        fresh
            .chain(self.fixed.iter().map(|(mac, place)| (*mac, *place)))
            .collect()
    }
}

struct Pair {
    world: World,
    model: Model,
    random: Random,
}

impl Pair {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let members = 2 + u16::try_from(random.below(5)).unwrap();
        let mut world = World::new(Setup {
            seed,
            workers: 1 + u16::try_from(random.below(3)).unwrap(),
            members,
            uplink: Uplink::None,
            gateway: false,
            ..Setup::default()
        });
        for wire in &mut world.wires {
            wire.hosts.clear();
        }
        let model = Model {
            ports: usize::from(members),
            down: BTreeSet::new(),
            isolated: BTreeSet::new(),
            dynamic: BTreeMap::new(),
            fixed: BTreeMap::new(),
        };
        Self {
            world,
            model,
            random,
        }
    }

    fn port(&mut self) -> usize {
        usize::try_from(self.random.below(self.model.ports as u64)).unwrap()
    }

    fn mac(&mut self) -> Mac {
        match self.random.below(24) {
            0 => Mac::BROADCAST,
            1 => Mac([1, 0, 0x5e, 0, 0, 7]),
            2 => Mac::ZERO,
            3 => Mac([1, 0x80, 0xc2, 0, 0, 14]),
            number => Mac::local(number % 10),
        }
    }

    fn seconds(&self) -> u64 {
        self.world.now.as_secs()
    }

    fn frame(&mut self) {
        let (ingress, to, from) = (self.port(), self.mac(), self.mac());
        let body = self.random.next_u64().to_be_bytes();
        let bytes = ethernet(to, from, 0x9999, &body);
        let expected = self.model.frame(ingress, to, from, self.seconds());
        assert!(self.world.send(ingress, &bytes, Offload::PLAIN));
        self.world.run();
        let mut egresses = BTreeSet::new();
        for place in 0..self.model.ports {
            let frames = self.world.frames(place);
            assert!(frames.iter().all(|frame| *frame == bytes));
            assert!(frames.len() <= 1);
            if !frames.is_empty() {
                egresses.insert(place);
            }
        }
        let seed = self.world.setup.seed;
        assert_eq!(
            egresses,
            expected.unwrap_or_default(),
            "seed {seed}: {from} to {to}"
        );
    }

    fn event(&mut self) {
        let (place, mac) = (self.port(), self.mac());
        let index = self.world.wires[place].index;
        match self.random.below(60) {
            0 if mac.is_station() => {
                let fdb = self.world.switch.fdb();
                fdb.add_static(0, mac, index, self.world.now).unwrap();
                self.model.dynamic.remove(&mac);
                self.model.fixed.insert(mac, place);
            }
            1 => {
                self.world.switch.fdb().remove(0, mac);
                self.model.dynamic.remove(&mac);
                self.model.fixed.remove(&mac);
            }
            2 => {
                self.world.switch.fdb().flush(Flush::Port(index));
                self.model.dynamic.retain(|_, (at, _)| *at != place);
            }
            3 => {
                self.world.switch.fdb().flush(Flush::Dynamic);
                self.model.dynamic.clear();
            }
            4 => {
                let up = self.model.down.remove(&place) || !self.model.down.insert(place);
                self.world
                    .update(|view| view.ports[index.index()].as_mut().unwrap().up = up);
            }
            5 => {
                let isolated = self.model.isolated.insert(place);
                if !isolated {
                    self.model.isolated.remove(&place);
                }
                self.world.isolate(place, isolated);
            }
            6..11 => {
                // To a whole second, so that both round alike.
                let later = self.seconds() + 1 + self.random.below(400);
                self.world.now = Nanos::from_secs(later);
            }
            _ => self.frame(),
        }
    }

    fn compare_tables(&self) {
        let index = |place: usize| self.world.wires[place].index;
        let ours = self.model.stations(self.seconds());
        let ours: Vec<_> = ours
            .into_iter()
            .map(|(mac, place)| (mac, index(place)))
            .collect();
        let theirs = self.world.switch.fdb().entries(self.world.now);
        let theirs: Vec<_> = theirs.iter().map(|entry| (entry.mac, entry.port)).collect();
        assert_eq!(theirs, ours, "seed {}", self.world.setup.seed);
    }
}

#[test]
fn b_the_switch_does_what_the_model_does() {
    for seed in 0..40 {
        let mut pair = Pair::new(seed);
        for _ in 0..400 {
            pair.event();
        }
        pair.compare_tables();
        pair.world.check();
    }
}
