//! Answers about drops: what is counted, how fast, and the packets that are kept.

use std::time::Duration;

use nat::Nanos;
use switch::drops::{DropRecord, Kept};
use switch::port::PortIndex;
use switch::trace::summary;
use switch::verdict::DropReason;

use crate::control::api;
use crate::show::moment;

use super::Daemon;
use super::answer::seconds;

/// Both clocks, read once for an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moments {
    wall: Duration,
    now: Nanos,
}

impl Moments {
    /// A moment of the workers' clock as the world tells it.
    pub(super) fn iso(self, at: Nanos) -> String {
        moment::iso(self.wall.saturating_sub(self.since(at).into()))
    }

    /// Seconds since a moment of the workers' clock.
    pub(super) fn age(self, at: Nanos) -> f64 {
        seconds(self.since(at))
    }

    const fn since(self, at: Nanos) -> Nanos {
        self.now.saturating_sub(at)
    }
}

impl Daemon {
    pub(super) fn moments(&self) -> Moments {
        Moments {
            wall: moment::now(),
            now: self.clock.now(),
        }
    }

    /// A kept packet as the API has it.
    pub(super) fn packet_of(&self, record: &DropRecord, moments: Moments) -> api::KeptPacket {
        api::KeptPacket {
            time: moments.iso(record.at),
            age: moments.age(record.at),
            port: record.ingress.map(|port| self.name_of(port)),
            egress: record.egress.map(|port| self.name_of(port)),
            length: record.len,
            summary: summary(record.bytes()),
            bytes: api::digits(record.bytes()),
        }
    }

    /// What is counted, a row for each reason at each port, with its last packet.
    pub(super) fn drops_answer(&self) -> Vec<api::Drop> {
        let mut drops = self.counted_drops();
        if drops.is_empty() {
            return Vec::new();
        }
        let (kept, moments) = (self.switch.kept_drops(None), self.moments());
        let last = |reason: DropReason, port: PortIndex| {
            let kept = kept.iter().find(|kept| kept.reason == reason)?;
            let mut records = kept.records();
            let record = records.rfind(|record| record.counted_at() == Some(port))?;
            Some(self.packet_of(record, moments))
        };
        for (drop, reason, port) in &mut drops {
            drop.last = last(*reason, *port);
        }
        let mut drops: Vec<api::Drop> = drops.into_iter().map(|(drop, ..)| drop).collect();
        drops.sort_by_key(|drop| std::cmp::Reverse(drop.count));
        drops
    }

    fn counted_drops(&self) -> Vec<(api::Drop, DropReason, PortIndex)> {
        let rate =
            |port: PortIndex, reason: DropReason| self.rates.now.get(&(port.0, reason)).copied();
        let ports = self.all_ports();
        let rows = ports.flat_map(|(index, name)| {
            let totals = self.switch.port_totals(index);
            totals.drops.into_iter().map(move |(reason, count)| {
                let rate = rate(index, reason);
                let drop = api::Drop::new(reason, Some(name.to_owned()), count, rate);
                (drop, reason, index)
            })
        });
        rows.collect()
    }

    /// What is kept of a reason, or of each that applied, over all ports.
    pub(super) fn kept_answer(&self, reason: Option<DropReason>) -> Vec<api::Drop> {
        let (kept, moments) = (self.switch.kept_drops(reason), self.moments());
        let counted = self.counted_drops();
        let answer = |of: &DropReason| {
            let own = || counted.iter().filter(|(_, reason, _)| reason == of);
            let count = own().map(|(drop, ..)| drop.count).sum();
            let rates: Vec<f64> = own().filter_map(|(drop, ..)| drop.rate).collect();
            let rate = (!rates.is_empty()).then(|| rates.iter().sum());
            let kept = kept.iter().find(|kept| kept.reason == *of);
            if count == 0 && kept.is_none() {
                return None;
            }
            let kept = kept.map_or_else(api::KeptPackets::default, |kept| {
                self.packets_of(kept, moments)
            });
            Some(api::Drop {
                last: kept.latest().cloned(),
                kept: Some(kept),
                ..api::Drop::new(*of, None, count, rate)
            })
        };
        let wanted = |of: &&DropReason| reason.is_none_or(|wanted| wanted == **of);
        let all = DropReason::ALL.iter().filter(wanted);
        all.filter_map(answer).collect()
    }

    fn packets_of(&self, kept: &Kept, moments: Moments) -> api::KeptPackets {
        let packets = |records: &[DropRecord]| {
            let packets = records.iter().map(|record| self.packet_of(record, moments));
            packets.collect()
        };
        api::KeptPackets {
            first: packets(&kept.first),
            last: packets(&kept.last),
        }
    }
}
