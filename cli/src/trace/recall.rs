//! The filter over records that were kept: the same question as the workers are asked, of what a
//! record still says.

use std::collections::HashSet;

use switch::filter::{Metadata, Subject};
use switch::trace::Tuple;

use crate::control::api::{Traced, TracedRecord};
use crate::control::watch::Watch;

/// Which of the records are wanted.
pub(super) struct Recall<'w> {
    watch: &'w Watch,
    followed: HashSet<Tuple>,
    /// Packets of which a piece was wanted: so are the others.
    chosen: HashSet<String>,
}

impl<'w> Recall<'w> {
    pub(super) fn new(watch: &'w Watch) -> Self {
        Self {
            watch,
            followed: HashSet::new(),
            chosen: HashSet::new(),
        }
    }

    /// Gaps are always told.
    pub(super) fn wants(&mut self, record: &TracedRecord) -> bool {
        match record {
            TracedRecord::Lost(_) => true,
            TracedRecord::Packet(packet) => self.wants_packet(packet),
        }
    }

    fn wants_packet(&mut self, packet: &Traced) -> bool {
        let before = packet.before.to_bytes().unwrap_or_default();
        let after = packet
            .after
            .as_ref()
            .map(|after| after.to_bytes().unwrap_or_default());
        let matches = self.matches(packet, &before, after.as_deref());
        let mut tuples = [Some(before.as_slice()), after.as_deref()]
            .into_iter()
            .flatten()
            .filter_map(Tuple::of_frame)
            .flat_map(|tuple| [tuple, tuple.reversed()]);
        let wanted = if matches && self.watch.follow {
            self.followed.extend(tuples);
            true
        } else {
            matches
                || self.chosen.contains(&packet.id)
                || (self.watch.follow && tuples.any(|tuple| self.followed.contains(&tuple)))
        };
        if wanted {
            self.chosen.insert(packet.id.clone());
        }
        wanted
    }

    fn matches(&self, packet: &Traced, before: &[u8], after: Option<&[u8]>) -> bool {
        let filter = &self.watch.filter;
        let sent = packet.sent.iter().map(|tx| tx.port.as_str());
        let ports: Vec<&str> = packet.port.as_deref().into_iter().chain(sent).collect();
        let metadata = Metadata {
            ports: &ports,
            drop: packet.reason.as_deref(),
            translated: packet.steps.iter().any(|step| step.change.is_some()),
            worker: packet.worker,
        };
        let subject = |frame, length| {
            let plain = Subject {
                frame,
                length,
                metadata: None,
            };
            plain.with(metadata)
        };
        let before = subject(before, packet.before.length);
        match (after, &packet.after) {
            (Some(bytes), Some(after)) => {
                filter.matches_either(&before, &subject(bytes, after.length))
            }
            _ => filter.matches(&before),
        }
    }
}
