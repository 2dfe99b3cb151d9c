//! What a world counted, and the sums that must hold.

use std::collections::BTreeMap;
use std::fmt::Write;

use nat::{Protocol, owner_of};
use switch::counters::Totals;
use switch::port::sim::Impairment;
use switch::verdict::DropReason;
use switch::worker::Worker;

use super::world::World;

impl World {
    /// Does something, runs, and says what that changed of all counters, in words: `received=1
    /// flooded=1 copies=2 sent=2`. What is not named did not happen.
    pub(super) fn counted(&mut self, action: impl FnOnce(&mut Self)) -> String {
        let before = self.counters();
        action(self);
        self.run();
        let mut text = String::new();
        for ((name, after), (_, before)) in self.counters().into_iter().zip(before) {
            if after != before {
                write!(text, "{name}={} ", after - before).unwrap();
            }
        }
        text.trim_end().to_owned()
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        let t = self.switch.totals();
        let mut all = vec![
            ("received", t.received),
            ("released", t.released),
            ("taken_over", t.taken_over),
            ("forwarded", t.forwarded),
            ("routed", t.routed),
            ("flooded", t.flooded),
            ("answered", t.answered),
            ("absorbed", t.absorbed),
            ("held", t.held),
            ("handed_over", t.handed_over),
            ("copies", t.copies),
            ("originated", t.originated),
            ("sent", t.sent),
        ];
        let drops = self.drops();
        all.extend(DropReason::ALL.iter().map(|reason| {
            let count = drops.get(reason.word()).copied().unwrap_or(0);
            (reason.word(), count)
        }));
        all
    }

    /// Drops of all ports by word.
    pub(super) fn drops(&self) -> BTreeMap<&'static str, u64> {
        let mut drops = BTreeMap::new();
        for wire in &self.wires {
            for (reason, count) in self.switch.port_totals(wire.index).drops {
                *drops.entry(reason.word()).or_default() += count;
            }
        }
        drops
    }

    /// What must hold after any run: no frame unaccounted for, no NAT port with two owners.
    pub(super) fn check(&self) {
        let seed = self.setup.seed;
        let totals = self.switch.totals();
        assert!(
            totals.conserved(),
            "seed {seed}: {:?} {totals:?}",
            totals.sums()
        );
        let held: usize = self.workers.iter().map(Worker::held).sum();
        assert!(
            totals.held >= totals.released + held as u64,
            "seed {seed}: {totals:?}"
        );
        self.check_ports(&totals);
        self.check_nat();
    }

    fn check_ports(&self, totals: &Totals) {
        let seed = self.setup.seed;
        let perfect = self.setup.impairment == Impairment::default();
        let (mut received, mut sent, mut dropped) = (0, 0, 0);
        for wire in &self.wires {
            let port = self.switch.port_totals(wire.index);
            received += port.received_frames;
            sent += port.sent_frames;
            dropped += port.dropped();
            if perfect {
                assert_eq!(
                    port.received_frames, wire.sent,
                    "seed {seed}: {}",
                    wire.index
                );
                assert_eq!(
                    port.sent_frames, wire.delivered,
                    "seed {seed}: {}",
                    wire.index
                );
            }
        }
        assert_eq!(received, totals.received, "seed {seed}");
        assert_eq!(sent, totals.sent, "seed {seed}");
        assert_eq!(
            dropped,
            totals.dropped_ingress + totals.dropped_egress,
            "seed {seed}"
        );
    }

    /// Every external port belongs to one inside endpoint, for TCP each with its remote, and to the
    /// worker whose slice it is in; what has no ports belongs to one for each remote, and like SCTP
    /// to the first worker.
    pub(super) fn check_nat(&self) {
        let (ports, count) = (&self.setup.nat_ports, self.setup.workers);
        let mut owners = BTreeMap::new();
        for (index, worker) in (0..).zip(&self.workers) {
            for session in worker.nat_report(self.now).sessions {
                // Once all are taken, TCP ports are shared towards different remotes.
                let by_remote = matches!(session.protocol, Protocol::Tcp | Protocol::Other(_));
                let remote = by_remote.then_some(session.remote);
                let key = (session.protocol.number(), session.external, remote);
                let (address, port) = session.external;
                let publishes = &self.switch.view().publishes;
                if let Some(publish) = publishes.find(session.protocol, address, port) {
                    assert_eq!(publish.owner, index, "seed {}: {key:?}", self.setup.seed);
                    continue;
                }
                let owner = owners.entry(key).or_insert(session.inside);
                assert_eq!(*owner, session.inside, "seed {}: {key:?}", self.setup.seed);
                let slice = match session.protocol {
                    Protocol::Sctp | Protocol::Other(_) => Some(0),
                    Protocol::Tcp | Protocol::Udp | Protocol::Icmp => {
                        owner_of(ports, count, session.external.1)
                    }
                };
                assert_eq!(slice, Some(index), "seed {}: {key:?}", self.setup.seed);
            }
        }
    }
}
