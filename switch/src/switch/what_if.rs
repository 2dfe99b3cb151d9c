//! What would become of a frame, asked of the workers.

use std::time::Duration;

use crate::frame::OwnedFrame;
use crate::port::{PortIndex, steer};
use crate::trace::{Clock, Limits, Record, Selector, TapId, TracePortion, recorders};
use crate::verdict::Verdict;
use crate::worker::{Command, WhatIf};
use crossbeam_channel::Receiver;

use super::{ANSWER_TIMEOUT, Switch};

/// Records of one worker, and more than there can be: the frame, and what the gateway makes for it.
const RECORDS_MAX: usize = 8;

/// The least that is kept of a frame: the gateway's own may be longer than the one asked about.
const SNAP_BYTES_MIN: usize = 2048;

/// A question on its way through the workers.
#[derive(Debug)]
pub struct Asked {
    answer: Receiver<Box<WhatIf>>,
    portions: Receiver<TracePortion>,
}

/// What would become of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Its way, a record for each worker that would have had it, and then what the gateway would
    /// have made because of it; in the order of events.
    pub records: Vec<Record>,
}

impl Tried {
    /// The last of the frame itself.
    #[must_use]
    pub fn last(&self) -> Option<&Record> {
        let own = |record: &&Record| record.verdict.is_some();
        self.records.iter().rfind(own)
    }

    /// True where the frame, or a copy of it, would be dropped.
    #[must_use]
    pub fn is_drop(&self) -> bool {
        self.last().is_some_and(Record::is_drop)
    }
}

impl Asked {
    /// The answer, if it comes within two seconds.
    #[must_use]
    pub fn answer(self) -> Option<Tried> {
        self.answer_within(ANSWER_TIMEOUT)
    }

    /// The answer, if it comes within `timeout`.
    #[must_use]
    pub fn answer_within(self, timeout: Duration) -> Option<Tried> {
        drop(self.answer.recv_timeout(timeout).ok()?);
        let portions: Vec<TracePortion> = self.portions.try_iter().collect();
        let mut records: Vec<Record> = portions.iter().flat_map(TracePortion::records).collect();
        records.sort_by_key(|record| record.began);
        let is_told = (records.iter().rfind(|record| record.verdict.is_some()))
            .is_some_and(|last| !matches!(last.verdict, Some(Verdict::HandOver(_))));
        is_told.then_some(Tried { records })
    }
}

impl Switch {
    /// Asks what would become of `frame`, had it just come in on the port that it names; nothing is
    /// sent, and nothing changes. The worker that would get it answers between two batches: that
    /// takes it as long as some ten packets. `clock` times the steps.
    ///
    /// `None` if there is no such port.
    #[must_use]
    pub fn what_if(&self, frame: OwnedFrame, clock: Clock) -> Option<Asked> {
        self.view.port(frame.ingress)?;
        let worker = self.worker_for(frame.ingress, frame.bytes());
        let snap_bytes = frame.bytes().len().max(SNAP_BYTES_MIN);
        let limits = Limits {
            snap_bytes,
            records: RECORDS_MAX,
            bytes: RECORDS_MAX * 2 * snap_bytes,
        };
        // It is the only tap, so its name is nobody else's.
        let tap = (TapId(0), Selector::ALL);
        let (recorders, portions) = recorders(self.workers(), tap, limits, clock);
        let (what_if, answer) = WhatIf::new(frame, (&self.shared, &self.view), recorders);
        self.command(worker, Command::WhatIf(what_if));
        Some(Asked { answer, portions })
    }

    /// The worker that a frame comes to by this port.
    fn worker_for(&self, port: PortIndex, bytes: &[u8]) -> u16 {
        let received_by = self.port_worker(port);
        received_by.unwrap_or_else(|| self.steered(bytes))
    }

    /// The worker to which the kernel steers a frame of the uplink; see [`steer::steering`].
    #[must_use]
    pub fn steered(&self, bytes: &[u8]) -> u16 {
        let Some(uplink) = &self.view.uplink else {
            return 0;
        };
        let (ports, workers) = (&uplink.nat_ports, self.workers());
        let slices = (
            *ports.start(),
            steer::ports_per_slice(ports, workers),
            workers,
        );
        let published = self.view.publishes.iter();
        let published: Vec<_> = published
            .map(|publish| (publish.ports.clone(), publish.owner))
            .collect();
        steer::steered(bytes, slices, &published)
    }
}
