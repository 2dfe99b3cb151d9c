//! Recordings: all that comes in, with the switch as it was when they began.

use std::collections::HashMap;

use axum::body::Bytes;
use nat::Nanos;
use switch::limits::FRAME_BYTES_MAX;
use switch::pcapng::{Direction, InterfaceInfo, PacketInfo, SectionInfo, Writer};
use switch::port::PortIndex;
use switch::trace::{Limits, RecordView, Selector, Step, TracePortion};

use crate::config::{Settings, check};
use crate::control::{Feed, Refusal, ReplyTo};
use crate::record::{
    RecordedPort, RecordedPublish, RecordedStation, RecordedUplink, Recording, offload_words,
    verdict_words,
};

use super::super::Daemon;
use super::super::answer::Answer;
use super::names::PortNames;
use super::{Encode, Wall, tell};

/// Bytes of blocks in one chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// Some milliseconds of a busy switch may wait for the reader: 32 MiB for each worker.
const LIMITS: Limits = Limits {
    snap_bytes: FRAME_BYTES_MAX,
    records: 32_768,
    bytes: 32 << 20,
};

/// Makes blocks of packets that came in.
struct Blocks {
    names: PortNames,
    wall: Wall,
    writer: Writer,
    /// The interfaces' numbers; a port that came later has none.
    interfaces: HashMap<PortIndex, u32>,
    /// Packets lost since the last one that was written.
    lost: u64,
}

impl Daemon {
    /// Records from now on.
    pub(in crate::daemon) fn record(&mut self, feed: Feed, reply: ReplyTo<u64>) {
        let answer = self.begin_record(feed);
        reply.send(answer);
    }

    fn begin_record(&mut self, feed: Feed) -> Answer<u64> {
        self.name_ports();
        let wall = Wall::of(self.clock);
        let recording = self.recording(nanoseconds(wall, wall.at))?;
        let mut writer = Writer::new();
        let comments = recording.to_comments();
        let comments: Vec<&str> = comments.iter().map(String::as_str).collect();
        writer.section(&SectionInfo {
            application: concat!("vswitch ", env!("CARGO_PKG_VERSION")),
            comments: &comments,
            ..SectionInfo::default()
        });
        for port in &recording.ports {
            writer.interface(&InterfaceInfo {
                name: &port.name,
                ..InterfaceInfo::default()
            });
        }
        let blocks = Blocks {
            names: self.watches.names.clone(),
            wall,
            writer,
            interfaces: self
                .sorted_ports()
                .map(|(index, _)| index)
                .zip(0..)
                .collect(),
            lost: 0,
        };
        let selector = Selector {
            timed: false,
            ..Selector::ALL
        };
        self.start_watch(selector, LIMITS, move |portions| {
            tell(portions, feed, blocks);
        })
    }

    /// The switch as it is now.
    fn recording(&mut self, began: u64) -> Answer<Recording> {
        let settings = check::to_toml(&self.settings_now()).map_err(|error| Refusal::Failed {
            what: "the settings".into(),
            why: error.to_string(),
            fix: String::new(),
        })?;
        let now = self.clock.now();
        let mut recording = Recording::new(began, self.seed, settings);
        recording.ports = self.recorded_ports();
        let view = self.switch.view();
        recording.host.clone_from(&view.host.addresses);
        recording.publishes = view.publishes.iter().map(recorded_publish).collect();
        recording.uplink = self.recorded_uplink();
        recording.stations = self.recorded_stations(now);
        recording.neighbours = (self.switch.neighbours().entries(now).iter())
            .filter_map(|entry| Some(format!("{}={}", entry.address, entry.mac?)))
            .collect();
        let reports = self.switch.nat_reports(&nat::Selection::default());
        recording.sessions = reports
            .iter()
            .map(|report| report.sessions.len() as u64)
            .sum();
        Ok(recording)
    }

    /// The settings that would make the switch as it is.
    fn settings_now(&self) -> Settings {
        let uplink = self.switch.view().uplink.as_ref();
        Settings {
            ports: self.ports.iter().map(|port| port.spec.clone()).collect(),
            gateway: Some(self.gateway_cidr()),
            gateway_mac: Some(self.gateway.mac),
            uplink_mac: uplink.filter(|uplink| uplink.own).map(|uplink| uplink.mac),
            workers: Some(self.switch.workers()),
            cpus: Vec::new(),
            publishes: Vec::new(),
            nat_log: None,
            state: None,
            metrics: None,
            ..self.settings.clone()
        }
    }

    fn sorted_ports(&self) -> impl Iterator<Item = (PortIndex, &str)> {
        let mut ports: Vec<_> = self.all_ports().collect();
        ports.sort_by_key(|(index, _)| *index);
        ports.into_iter()
    }

    fn recorded_ports(&self) -> Vec<RecordedPort> {
        let mtu = |index| self.switch.view().port(index).map_or(1500, |port| port.mtu);
        self.sorted_ports()
            .map(|(index, device)| RecordedPort {
                name: device.to_owned(),
                mtu: mtu(index),
            })
            .collect()
    }

    fn recorded_uplink(&self) -> Option<RecordedUplink> {
        let view = self.switch.view().uplink.as_ref()?;
        let cidr = self.uplink.as_ref()?.address?;
        Some(RecordedUplink {
            address: cidr.to_string(),
            mac: view.mac.to_string(),
            own: view.own,
            routes: (view.routes.iter())
                .map(|route| {
                    let via = route.via.map_or_else(String::new, |via| format!("={via}"));
                    format!("{}/{}{via}", route.network, route.prefix)
                })
                .collect(),
        })
    }

    fn recorded_stations(&self, now: Nanos) -> Vec<RecordedStation> {
        let name = |index| self.watches.names.get(index);
        (self.switch.fdb().entries(now).iter())
            .filter(|entry| !entry.is_static)
            .filter_map(|entry| {
                Some(RecordedStation {
                    mac: entry.mac.to_string(),
                    port: name(entry.port)?.device.to_string(),
                    age: entry.age_secs,
                })
            })
            .collect()
    }
}

fn recorded_publish(publish: &nat::Publish) -> RecordedPublish {
    let targets = publish.targets.iter();
    RecordedPublish {
        protocol: publish.protocol.number(),
        external: publish.external,
        ports: (*publish.ports.start(), *publish.ports.end()),
        targets: targets
            .map(|target| (target.address, target.port))
            .collect(),
        by_source: publish.by_source,
        owner: publish.owner,
    }
}

fn nanoseconds(wall: Wall, at: Nanos) -> u64 {
    u64::try_from(wall.time(at).as_nanos()).unwrap_or(u64::MAX)
}

impl Encode for Blocks {
    fn begin(&mut self) -> Bytes {
        self.taken()
    }

    fn portion(&mut self, portion: &TracePortion, lost: u64, chunk: &mut dyn FnMut(Bytes) -> bool) {
        self.lost += lost;
        for record in portion.views() {
            self.packet(&record);
            if self.writer.bytes().len() >= CHUNK_BYTES && !chunk(self.taken()) {
                return;
            }
        }
        let _ = chunk(self.taken());
    }
}

impl Blocks {
    fn taken(&mut self) -> Bytes {
        let bytes = Bytes::copy_from_slice(self.writer.bytes());
        self.writer.clear();
        bytes
    }

    /// Writes a packet that came in; what goes on, or was made here, will be so again.
    fn packet(&mut self, record: &RecordView<'_>) {
        let first = record.steps.first().map(|timed| timed.step);
        let (Some(Step::Rx(port)), Some(verdict)) = (first, record.head.verdict) else {
            return;
        };
        let Some(interface) = self.interfaces.get(&port) else {
            self.lost += 1;
            return;
        };
        let before = record.before.to_snap();
        let mut comments = vec![verdict_words(verdict, &self.names)];
        comments.extend(offload_words(before.offload));
        let comments: Vec<&str> = comments.iter().map(String::as_str).collect();
        self.writer.packet(&PacketInfo {
            interface: *interface,
            time: nanoseconds(self.wall, record.head.batch),
            bytes: &before.bytes,
            original_bytes: before.len,
            direction: Some(Direction::Inbound),
            dropped: Some(self.lost).filter(|lost| *lost > 0),
            packet_id: Some(record.head.id.get()),
            queue: Some(record.worker.into()),
            comments: &comments,
        });
        self.lost = 0;
    }
}
