//! Records as pcapng.
//!
//! # Theory of operation
//!
//! Each port is an interface. A packet is shown where it came in, as it came, and at each port it
//! left by, as it left; so both sides of the NAT are in one file, joined by `epb_packetid`. The
//! first of these has the verdict as its comment, and all of a translated packet the translation. A
//! packet that was dropped is shown once more, at an interface of no port, `drops`: with the reason
//! and what to do about it.
//!
//! Packets that were lost because the reader was too slow are counted in `epb_dropcount` of the
//! next one, and in the interface's statistics at the end; so over all interfaces they add up.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use nat::Nanos;
use nix::sys::utsname::uname;
use switch::frame::{Gso, Offload};
use switch::gso::{self, Cut, SegmentBuffer};
use switch::pcapng::{Direction, InterfaceInfo, PacketInfo, SectionInfo, StatisticsInfo, Writer};
use switch::port::PortIndex;
use switch::trace::{Fate, RecordView, SnapRef, Step, TracePortion, Words, change, fate_words};

use crate::control::watch::{Capture, DROPS};
use crate::show::moment;

use super::names::{PortName, PortNames};
use super::{Encode, Wall};

/// Bytes of blocks in one chunk, about.
const CHUNK_BYTES: usize = 256 << 10;

/// Makes blocks.
pub(super) struct Blocks {
    names: PortNames,
    wall: Wall,
    capture: Capture,
    /// Only these ports; empty: all.
    only: Vec<PortIndex>,
    filter: String,
    writer: Writer,
    /// Their numbers. A port that has got another's index is another interface.
    interfaces: HashMap<(Option<PortIndex>, Arc<str>), usize>,
    /// The same of those that were met in this portion, for which no name has to be asked.
    met: HashMap<Option<PortIndex>, usize>,
    /// Of each interface, in the order they were written.
    counts: Vec<Count>,
    /// Lost since the packet before.
    lost: u64,
    scratch: Vec<u8>,
    /// Made when it is first needed, and kept.
    segments: Option<SegmentBuffer>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    received: u64,
    lost: u64,
}

/// A packet at one port.
struct Sight<'s> {
    /// `None`: at no port any more.
    port: Option<PortIndex>,
    direction: Option<Direction>,
    comments: &'s [&'s str],
}

impl Blocks {
    pub(super) fn new(
        names: PortNames,
        wall: Wall,
        (capture, only, filter): (Capture, Vec<PortIndex>, String),
    ) -> Self {
        Self {
            names,
            wall,
            capture,
            only,
            filter,
            writer: Writer::new(),
            interfaces: HashMap::new(),
            met: HashMap::new(),
            counts: Vec::new(),
            lost: 0,
            scratch: Vec::new(),
            segments: None,
        }
    }

    /// The number of a port's interface; one that is new is described first.
    fn interface(&mut self, port: Option<PortIndex>) -> usize {
        if let Some(number) = self.met.get(&port) {
            return *number;
        }
        let name = self.name(port);
        let key = (port, Arc::clone(&name.device));
        let number = self.interfaces.get(&key).copied();
        let number = number.unwrap_or_else(|| self.describe(key, &name));
        self.met.insert(port, number);
        number
    }

    fn name(&self, port: Option<PortIndex>) -> PortName {
        port.map_or_else(
            || PortName {
                device: DROPS.into(),
                peer: Some("frames that were dropped, and why".into()),
            },
            |port| {
                self.names.get(port).unwrap_or_else(|| PortName {
                    device: self.names.port(port).into(),
                    peer: None,
                })
            },
        )
    }

    fn describe(&mut self, key: (Option<PortIndex>, Arc<str>), name: &PortName) -> usize {
        self.writer.interface(&InterfaceInfo {
            name: &name.device,
            description: name.peer.as_deref().unwrap_or_default(),
            snaplen: self.capture.snap_bytes,
            filter: &self.filter,
            comments: &[],
        });
        let number = self.counts.len();
        self.counts.push(Count::default());
        self.interfaces.insert(key, number);
        number
    }

    fn wants(&self, sight: &Sight<'_>) -> bool {
        let port = sight
            .port
            .is_none_or(|port| self.only.is_empty() || self.only.contains(&port));
        let (wanted, is) = (self.capture.direction, sight.direction);
        let way = wanted.is_none() || is.is_none() || wanted == is;
        port && way && (!self.capture.drops || sight.port.is_none())
    }

    fn record(&mut self, record: &RecordView<'_>) {
        let fate = Fate {
            steps: record.steps,
            verdict: record.head.verdict,
        };
        let (verdict, fix) = {
            let came = (record.head.ingress, record.head.copies.0);
            fate_words(fate, came, &self.names)
        };
        let changed = record.steps.iter().find_map(|timed| change(timed.step));
        let changed = changed.map(|[before, after]| format!("nat {before} -> {after}"));
        let why = match (record.head.verdict, record.head.cause) {
            (None, Some(cause)) => format!("made by the gateway, because of packet {cause}"),
            (None, None) => "made by the gateway".into(),
            (Some(_), _) if fix.is_empty() => verdict,
            (Some(_), _) => format!("{verdict}; fix: {fix}"),
        };
        let comments: Vec<&str> = std::iter::once(why.as_str())
            .chain(changed.as_deref())
            .collect();
        if matches!(
            record.steps.first().map(|timed| timed.step),
            Some(Step::Rx(_))
        ) {
            let sight = Sight {
                port: record.head.ingress,
                direction: Some(Direction::Inbound),
                comments: &comments,
            };
            self.sight(record, record.before, &sight);
        }
        let after = record.after.unwrap_or(record.before);
        let is_made = record.head.verdict.is_none();
        for tx in fate.sent().filter(|tx| tx.outcome.is_ok()) {
            let sight = Sight {
                port: Some(tx.port),
                direction: Some(Direction::Outbound),
                comments: if is_made { &comments } else { &comments[1..] },
            };
            self.sight(record, after, &sight);
        }
        if fate.reason().is_some() {
            let sight = Sight {
                port: None,
                direction: None,
                comments: &comments,
            };
            self.sight(record, record.before, &sight);
        }
    }

    fn sight(&mut self, record: &RecordView<'_>, snap: SnapRef<'_>, sight: &Sight<'_>) {
        if !self.wants(sight) {
            return;
        }
        let number = self.interface(sight.port);
        let mut scratch = std::mem::take(&mut self.scratch);
        let mut bytes = snap.head;
        if !snap.tail.is_empty() {
            scratch.clear();
            scratch.extend_from_slice(snap.head);
            scratch.extend_from_slice(snap.tail);
            bytes = &scratch;
        }
        if self.capture.segments && bytes.len() == length(snap.len) {
            self.finished(record, (bytes, snap.offload), (number, sight));
        } else {
            self.packet(record, (bytes, snap.len), (number, sight));
        }
        self.scratch = scratch;
    }

    /// As it would be on a wire: in its segments, with finished checksums.
    fn finished(
        &mut self,
        record: &RecordView<'_>,
        (bytes, offload): (&[u8], Offload),
        to: (usize, &Sight<'_>),
    ) {
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if offload.gso == Gso::None {
            let mut owned = bytes.to_vec();
            // What cannot be finished is shown as it is.
            let _ = gso::complete(&mut owned, offload.csum);
            return self.packet(record, (&owned, len(&owned)), to);
        }
        let Ok(mut cut) = Cut::new(bytes, offload, usize::MAX) else {
            return self.packet(record, (bytes, len(bytes)), to);
        };
        let mut segments = self.segments.take().unwrap_or_default();
        while cut.fill(&mut segments) {
            for segment in segments.segments() {
                self.packet(record, (segment, len(segment)), to);
            }
        }
        self.segments = Some(segments);
    }

    fn packet(
        &mut self,
        record: &RecordView<'_>,
        (bytes, original_bytes): (&[u8], u32),
        (number, sight): (usize, &Sight<'_>),
    ) {
        let lost = std::mem::take(&mut self.lost);
        if let Some(count) = self.counts.get_mut(number) {
            count.received += 1;
            count.lost += lost;
        }
        self.writer.packet(&PacketInfo {
            interface: u32::try_from(number).unwrap_or(u32::MAX),
            time: Nanos::from(self.wall.time(record.head.began)).0,
            bytes,
            original_bytes,
            direction: sight.direction,
            dropped: Some(lost).filter(|lost| *lost > 0),
            packet_id: Some(record.head.id.get()),
            queue: Some(record.worker.into()),
            comments: sight.comments,
        });
    }
}

impl Encode for Blocks {
    fn begin(&mut self) -> Bytes {
        let system = uname().map(|name| {
            let text = |part: &std::ffi::OsStr| part.to_string_lossy().into_owned();
            let os = format!("{} {}", text(name.sysname()), text(name.release()));
            (text(name.machine()), os)
        });
        // A file without these is as good.
        let (hardware, os) = system.unwrap_or_default();
        self.writer.section(&SectionInfo {
            hardware: &hardware,
            os: &os,
            application: concat!("vswitch ", env!("CARGO_PKG_VERSION")),
            comments: &[],
        });
        if !self.capture.drops {
            for (port, _) in self.names.all() {
                if self.only.is_empty() || self.only.contains(&port) {
                    self.interface(Some(port));
                }
            }
        }
        self.interface(None);
        self.writer.take().into()
    }

    fn portion(&mut self, portion: &TracePortion, lost: u64, chunk: &mut dyn FnMut(Bytes) -> bool) {
        self.lost += lost;
        self.met.clear();
        for record in portion.views() {
            self.record(&record);
            if self.writer.bytes().len() >= CHUNK_BYTES && !chunk(self.writer.take().into()) {
                return;
            }
        }
        let _ = chunk(self.writer.take().into());
    }

    fn end(&mut self) -> Bytes {
        // Nothing came after these; they are told all the same.
        if let Some(first) = self.counts.first_mut() {
            first.lost += std::mem::take(&mut self.lost);
        }
        let (start, end) = (Nanos::from(self.wall.wall).0, Nanos::from(moment::now()).0);
        for (number, count) in (0..).zip(&self.counts) {
            self.writer.statistics(&StatisticsInfo {
                interface: number,
                time: end,
                start: Some(start),
                end: Some(end),
                received: Some(count.received + count.lost),
                dropped: Some(count.lost),
                os_dropped: None,
            });
        }
        self.writer.take().into()
    }
}

fn length(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_has_got_anothers_index_is_another_interface() {
        let names = PortNames::default();
        let call = |devices: &[(u16, &str)]| {
            let named = devices.iter().map(|(index, device)| {
                let device = (*device).into();
                (PortIndex(*index), PortName { device, peer: None })
            });
            names.set(named);
        };
        call(&[(1, "veth1"), (2, "veth2")]);
        let wall = Wall {
            wall: std::time::Duration::ZERO,
            at: Nanos(0),
        };
        let what = (Capture::default(), Vec::new(), String::new());
        let mut blocks = Blocks::new(names.clone(), wall, what);
        assert!(!blocks.begin().is_empty());
        let mut number = |index| {
            blocks.met.clear();
            blocks.interface(Some(PortIndex(index)))
        };
        assert_eq!([number(1), number(2)], [0, 1]);
        call(&[(1, "veth1")]);
        assert_eq!(number(2), 1, "what it did before");
        call(&[(1, "veth1"), (2, "tap0")]);
        assert_eq!([number(1), number(2)], [0, 3]);
        call(&[(2, "veth2")]);
        assert_eq!(number(2), 1, "there again");
        let described = blocks.writer.take();
        assert!(described.windows(4).any(|bytes| bytes == b"tap0"));
    }
}
