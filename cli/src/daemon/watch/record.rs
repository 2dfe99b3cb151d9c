//! Recordings: all that the switch is given, with the switch as it was when they began.

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use nat::Nanos;
use switch::config::View;
use switch::journal::{Begin, Entry, Tables, What};
use switch::limits::FRAME_BYTES_MAX;
use switch::pcapng::{Direction, InterfaceInfo, PacketInfo, SectionInfo, StatisticsInfo, Writer};
use switch::port::{PortIndex, defer_current_thread};
use switch::switch::{RecordError, Recording as Recorded};
use switch::trace::{Limits, RecordView, Step, TracePortion};

use crate::config::{Settings, check};
use crate::control::{Feed, Refusal, ReplyTo};
use crate::record::{
    Digest, RecordedChange, RecordedEntry, RecordedPort, RecordedPublish, RecordedRemains,
    RecordedRow, RecordedSession, RecordedUplink, RecordedWhat, Recording, ViewChange,
    comment_words, fate_words, offload_words, place_words, recorded_row, turn_words,
};
use crate::show::moment;

use super::super::Daemon;
use super::super::answer::Answer;
use super::names::PortNames;
use super::turns::{Next, Turns};
use super::{Wall, send};

/// Bytes of blocks in one chunk, about.
const CHUNK_BYTES: usize = 64 << 10;

/// From one look for entries to the next where no packet comes.
const ENTRIES_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// Rows or sessions in one note.
const ROWS: usize = 4096;

/// Some milliseconds of a busy switch may wait for the reader: 32 MiB for each worker.
const LIMITS: Limits = Limits {
    snap_bytes: FRAME_BYTES_MAX,
    records: 32_768,
    bytes: 32 << 20,
};

impl Daemon {
    /// Records from now on.
    pub(in crate::daemon) fn record(&mut self, feed: Feed, reply: ReplyTo<u64>) {
        let answer = self.begin_record(feed);
        reply.send(answer);
    }

    fn begin_record(&mut self, feed: Feed) -> Answer<u64> {
        self.check_readers()?;
        self.name_ports();
        let wall = Wall::of(self.clock);
        let recording = self.recording(wall)?;
        let blocks = Blocks::new(
            &recording,
            self.watches.names.clone(),
            wall,
            self.switch.view(),
            feed,
        );
        let clock = self.clock;
        let clock = Arc::new(move || clock.now());
        let recorded = self.switch.record(LIMITS, clock).map_err(refused)?;
        let tap = recorded.trace.id;
        self.start_reader(tap, move || tell(&recorded, blocks))
    }

    /// The switch as it is now, but for its tables.
    fn recording(&self, wall: Wall) -> Answer<Recording> {
        let settings = check::to_toml(&self.settings_now()).map_err(|error| Refusal::Failed {
            what: "the settings".into(),
            why: error.to_string(),
            fix: String::new(),
        })?;
        let began = (nanoseconds(wall, wall.at), wall.at.0);
        let mut recording = Recording::new(began, (self.seed, self.switch.workers()), settings);
        recording.ports = self.recorded_ports();
        let view = self.switch.view();
        recording.host.clone_from(&view.host.addresses);
        recording.publishes = view.publishes.iter().map(RecordedPublish::from).collect();
        recording.uplink = self.recorded_uplink();
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
            fast_path: false,
            ..self.settings.clone()
        }
    }

    fn recorded_ports(&self) -> Vec<RecordedPort> {
        let mut ports: Vec<_> = self.all_ports().collect();
        ports.sort_by_key(|(index, _)| *index);
        let ports = ports.into_iter().filter_map(|(index, device)| {
            let view = self.switch.view().port(index)?;
            Some(RecordedPort {
                index: index.0,
                name: device.to_owned(),
                mtu: view.mtu,
                up: view.up,
                worker: self.switch.port_worker(index),
                nat_worker: view.nat_worker,
            })
        });
        ports.collect()
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
}

fn refused(error: RecordError) -> Refusal {
    match error {
        RecordError::Busy => Refusal::Conflict {
            what: "record".into(),
            why: error.to_string(),
            fix: "end it with Ctrl-C, where it was begun".into(),
        },
        RecordError::Late => Refusal::Failed {
            what: "record".into(),
            why: error.to_string(),
            fix: "vswitch status".into(),
        },
    }
}

/// The life of a recording's thread.
fn tell(recorded: &Recorded, mut blocks: Blocks) {
    defer_current_thread();
    let (portions, entries) = (&recorded.trace.portions, &recorded.entries);
    while blocks.is_there {
        // What has come of entries so far, and of portions behind that, tells how far everybody
        // is; what comes of entries later on is for the next time.
        blocks.take_entries(entries);
        let marks = std::mem::take(&mut blocks.marks);
        let waiting = portions.len();
        match portions.recv_timeout(ENTRIES_EVERY) {
            Ok(portion) => {
                blocks.portion(&portion);
                let others = portions.try_iter().take(waiting.saturating_sub(1));
                others.for_each(|portion| blocks.portion(&portion));
            }
            Err(RecvTimeoutError::Timeout) => blocks.is_there = !blocks.feed.is_gone(),
            Err(RecvTimeoutError::Disconnected) => {
                blocks.take_entries(entries);
                blocks.turns.end();
                blocks.write();
                blocks.end();
                return;
            }
        }
        blocks.take_entries(entries);
        for (worker, turn) in marks {
            blocks.turns.is_through(worker, turn);
        }
        blocks.write();
    }
}

/// Makes blocks of turns.
struct Blocks {
    names: PortNames,
    wall: Wall,
    /// The view as it was told last.
    view: View,
    /// What is to be sent, to whom, and whether he is still there.
    out: Vec<u8>,
    feed: Feed,
    is_there: bool,
    writer: Writer,
    /// The interfaces' numbers, and how many packets each has had, and lost.
    interfaces: HashMap<(PortIndex, Arc<str>), usize>,
    counts: Vec<(u64, u64)>,
    turns: Turns<Turn>,
    /// Turns up to which a worker's records had all been sent, when its tick said so.
    marks: Vec<(u16, u64)>,
    /// What each worker has decided; none once some of it is lost.
    digests: Vec<Option<Digest>>,
    /// Records that each worker had lost when it last said so.
    lost_told: Vec<u64>,
    /// Packets lost since the last one that was written.
    lost: u64,
    is_over: bool,
}

/// What there is of a turn.
#[derive(Default)]
struct Turn {
    at: Nanos,
    /// Its packets.
    blocks: Vec<u8>,
    digest: Option<Digest>,
    entry: Option<What>,
}

impl Blocks {
    fn new(recording: &Recording, names: PortNames, wall: Wall, view: &View, feed: Feed) -> Self {
        let mut writer = Writer::new();
        let comments = recording.to_comments();
        let comments: Vec<&str> = comments.iter().map(String::as_str).collect();
        writer.section(&SectionInfo {
            application: concat!("vswitch ", env!("CARGO_PKG_VERSION")),
            comments: &comments,
            ..SectionInfo::default()
        });
        let workers = recording.workers;
        let mut blocks = Self {
            names,
            wall,
            view: view.without_ways(),
            out: writer.take(),
            feed,
            is_there: true,
            writer,
            interfaces: HashMap::new(),
            counts: Vec::new(),
            turns: Turns::new(workers),
            marks: Vec::new(),
            digests: vec![Some(Digest::default()); workers.into()],
            lost_told: vec![0; workers.into()],
            lost: 0,
            is_over: false,
        };
        for port in &recording.ports {
            blocks.interface(PortIndex(port.index));
        }
        blocks
    }

    /// The number of a port's interface; one that is new is described first.
    fn interface(&mut self, port: PortIndex) -> usize {
        let device = self.device(port);
        let next = self.counts.len();
        let number = *self
            .interfaces
            .entry((port, Arc::clone(&device)))
            .or_insert(next);
        if number == next {
            self.counts.push((0, 0));
            self.writer.interface(&InterfaceInfo {
                name: &device,
                description: &place_words(port),
                ..InterfaceInfo::default()
            });
            self.out.append(&mut self.writer.take());
        }
        number
    }

    fn device(&self, port: PortIndex) -> Arc<str> {
        let name = self.names.get(port).map(|name| Arc::from(&*name.device));
        name.unwrap_or_else(|| format!("port{}", port.0).into())
    }

    /// Takes in the entries that have come.
    fn take_entries(&mut self, entries: &Receiver<Entry>) {
        for entry in entries.try_iter() {
            let Entry {
                turn,
                worker,
                at,
                what,
            } = entry;
            match what {
                What::Begin(begin) => self.write_begin((worker, at), &begin),
                What::Tables(tables) => self.write_tables(at, &tables),
                what @ (What::Tick(..) | What::Round | What::Change(_) | What::End) => {
                    if let (What::Tick(_, true), Some(worker)) = (&what, worker) {
                        self.marks.push((worker, turn + 1));
                    }
                    let slot = self.turns.turn(turn, worker);
                    (slot.at, slot.entry) = (at, Some(what));
                }
            }
        }
    }

    /// Takes in a portion of records.
    fn portion(&mut self, portion: &TracePortion) {
        let worker = usize::from(portion.worker);
        if let Some(told) = self.lost_told.get_mut(worker)
            && portion.lost > *told
        {
            self.lost += portion.lost - *told;
            *told = portion.lost;
            self.digests[worker] = None;
        }
        for record in portion.views().filter(|record| record.head.turn > 0) {
            self.record(&record);
        }
        self.turns.is_through(portion.worker, portion.turn);
    }

    fn record(&mut self, record: &RecordView<'_>) {
        let number = record.head.turn;
        let first = record.steps.first().map(|timed| timed.step);
        if let (Some(Step::Rx(port)), Some(verdict)) = (first, record.head.verdict) {
            let fate = fate_words(verdict, record.after, &self.names);
            self.packet(record, port, &fate);
        }
        let turn = self.turns.turn(number, Some(record.worker));
        turn.at = record.head.batch;
        turn.digest.get_or_insert_default().add(record);
        turn.blocks.extend_from_slice(self.writer.bytes());
        self.writer.clear();
    }

    /// Writes a packet that came in; what goes on, or was made here, will be so again.
    fn packet(&mut self, record: &RecordView<'_>, port: PortIndex, fate: &str) {
        let interface = self.interface(port);
        let lost = std::mem::take(&mut self.lost);
        if let Some((received, dropped)) = self.counts.get_mut(interface) {
            *received += 1;
            *dropped += lost;
        }
        let before = record.before.to_snap();
        let mut comments = vec![turn_words(record.head.turn), comment_words(fate)];
        comments.extend(offload_words(before.offload));
        let comments: Vec<&str> = comments.iter().map(String::as_str).collect();
        self.writer.packet(&PacketInfo {
            interface: u32::try_from(interface).unwrap_or(u32::MAX),
            time: nanoseconds(self.wall, record.head.batch),
            bytes: &before.bytes,
            original_bytes: before.len,
            direction: Some(Direction::Inbound),
            dropped: Some(lost).filter(|lost| *lost > 0),
            packet_id: Some(record.head.id.get()),
            queue: Some(record.worker.into()),
            comments: &comments,
        });
    }

    /// Sends the turns that are known to be next.
    fn write(&mut self) {
        while self.is_there && !self.is_over {
            match self.turns.next() {
                None => break,
                Some(Next::Turn(number, worker, turn)) => self.write_turn((number, worker), turn),
                Some(Next::Missing(from, count)) => {
                    self.note(from, (None, Nanos::ZERO), RecordedWhat::Missing(count));
                    self.digests.fill(None);
                }
            }
            self.send_from(CHUNK_BYTES);
        }
        self.send_from(0);
    }

    /// Sends what there is, if that is so many bytes.
    fn send_from(&mut self, bytes: usize) {
        if self.out.len() >= bytes {
            let chunk = Bytes::from(std::mem::take(&mut self.out));
            self.is_there = self.is_there && send(&mut self.feed, chunk);
        }
    }

    fn write_turn(&mut self, (number, worker): (u64, Option<u16>), mut turn: Turn) {
        // The control thread decides about no packet.
        let place = worker.map_or(usize::MAX, usize::from);
        let what = match turn.entry {
            Some(What::Tick(told, _)) => Some(RecordedWhat::Tick {
                told: told.iter().map(Into::into).collect(),
                digest: (self.digests.get(place).copied().flatten()).map(Digest::to_hex),
            }),
            Some(What::Change(change)) => {
                let change = RecordedChange::new(&change, |now| self.view_change(now));
                Some(RecordedWhat::Change(change))
            }
            Some(What::Round) => Some(RecordedWhat::Round),
            Some(What::End) => {
                self.is_over = true;
                let sums = self.digests.iter().map(|sum| sum.map(Digest::to_hex));
                Some(RecordedWhat::End(sums.collect()))
            }
            // They are of no turn.
            Some(What::Begin(_) | What::Tables(_)) => None,
            // A round of which there is nothing but what goes on.
            None => turn.blocks.is_empty().then_some(RecordedWhat::Round),
        };
        if let Some(what) = what {
            self.note(number, (worker, turn.at), what);
        }
        self.out.append(&mut turn.blocks);
        if let (Some(Some(sum)), Some(digest)) = (self.digests.get_mut(place), turn.digest) {
            sum.append(digest);
        }
    }

    fn view_change(&mut self, now: &View) -> ViewChange {
        let change = ViewChange::between(&self.view, now, |port| self.device(port).to_string());
        self.view = now.clone();
        change
    }

    fn write_begin(&mut self, whose: (Option<u16>, Nanos), begin: &Begin) {
        for some in begin.sessions.chunks(ROWS) {
            let some = some.iter().map(RecordedSession::from);
            self.note(0, whose, RecordedWhat::Sessions(some.collect()));
        }
        for some in RecordedRemains::pieces(&begin.remains, ROWS) {
            self.note(0, whose, RecordedWhat::Remains(some));
        }
        let (ip_id, moments) = &begin.gateway;
        let moments = moments.iter().map(|moment| moment.0).collect();
        self.note(0, whose, RecordedWhat::Gateway(*ip_id, moments));
    }

    fn write_tables(&mut self, at: Nanos, tables: &Tables) {
        let rows = |rows: &[_]| -> Vec<RecordedRow> { rows.iter().map(recorded_row).collect() };
        for some in tables.fdb.chunks(ROWS) {
            self.note(0, (None, at), RecordedWhat::Fdb(rows(some)));
        }
        for some in tables.neighbours.chunks(ROWS) {
            self.note(0, (None, at), RecordedWhat::Neighbours(rows(some)));
        }
    }

    fn note(&mut self, turn: u64, (worker, at): (Option<u16>, Nanos), what: RecordedWhat) {
        let entry = RecordedEntry {
            turn,
            worker,
            at: at.0,
            what,
        };
        if !self.writer.note(&entry.to_note()) {
            // It would not be the same without.
            let what = RecordedWhat::Missing(1);
            let _ = self.writer.note(&RecordedEntry { what, ..entry }.to_note());
            self.digests.fill(None);
        }
        self.out.append(&mut self.writer.take());
        // A table of a million sessions is never in memory as text.
        self.send_from(CHUNK_BYTES);
    }

    /// What comes last: nobody has more to say.
    fn end(&mut self) {
        if let Some((_, dropped)) = self.counts.first_mut() {
            *dropped += std::mem::take(&mut self.lost);
        }
        let time = Nanos::from(moment::now()).0;
        for (interface, (received, dropped)) in (0..).zip(&self.counts) {
            self.writer.statistics(&StatisticsInfo {
                interface,
                time,
                start: Some(nanoseconds(self.wall, self.wall.at)),
                end: Some(time),
                received: Some(received + dropped),
                dropped: Some(*dropped),
                os_dropped: None,
            });
        }
        self.out.append(&mut self.writer.take());
        self.send_from(0);
    }
}

fn nanoseconds(wall: Wall, at: Nanos) -> u64 {
    Nanos::from(wall.time(at)).0
}
