//! The first look at a capture.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use switch::pcapng::{Fault, Interface, Item, Packet, ReadError, Reader};
use switch::port::PortIndex;

use super::{OfflinePlan, Surroundings};
use crate::config::settings::{NAME_DEFAULT, PortWord};
use crate::config::{Settings, file, words};
use crate::error::CliError;
use crate::record::{PortChange, RecordedChange, RecordedEntry, RecordedWhat, Recording, place_of};

/// Bytes that a port takes where nobody says.
pub(super) const MTU_DEFAULT: u32 = 1500;

/// What a capture has, once it is known to be sound from its first byte to its last.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) path: PathBuf,
    pub(super) interfaces: Vec<Interface>,
    pub(super) packets: u64,
    /// The earliest time, nanoseconds since 1970; `None` where no packet has one.
    pub(super) first: Option<u64>,
    /// The latest time.
    pub(super) last: Option<u64>,
    /// Bytes of its longest packet.
    longest: usize,
    /// Packets of which only a part was captured.
    cut: u64,
    /// What it is a recording of, if it is one.
    pub(super) recording: Option<Recording>,
    /// Packets lost while they were recorded.
    pub(super) lost: u64,
    /// Ports that came while it went on.
    pub(super) later: Vec<PortChange>,
}

pub(super) type FileReader = Reader<BufReader<File>>;

/// Opens a capture at its beginning.
pub(super) fn open(path: &Path) -> Result<FileReader, CliError> {
    let failed = |why: String| CliError::failed(path.display().to_string(), why, "");
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    let about = file.metadata().map_err(|error| failed(error.to_string()))?;
    if !about.is_file() {
        let fix = format!(
            "cat {} > capture.pcapng; vswitch replay capture.pcapng",
            path.display()
        );
        return Err(CliError::failed(
            path.display().to_string(),
            "no regular file; a capture is read twice",
            fix,
        ));
    }
    Reader::new(BufReader::with_capacity(1 << 18, file)).map_err(|error| damaged(path, &error))
}

/// A capture that cannot be read to its end.
pub(super) fn damaged(path: &Path, error: &ReadError) -> CliError {
    let path = path.display();
    let fix = if matches!(error.fault, Fault::Truncated { .. }) {
        format!("editcap -F pcapng {path} whole.pcapng")
    } else {
        String::new()
    };
    CliError::failed(path.to_string(), error.to_string(), fix)
}

/// Reads a capture to its end.
pub(super) fn of(path: &Path) -> Result<Survey, CliError> {
    let mut reader = open(path)?;
    let mut survey = Survey {
        path: path.to_owned(),
        interfaces: Vec::new(),
        packets: 0,
        first: None,
        last: None,
        longest: 0,
        cut: 0,
        recording: None,
        lost: 0,
        later: Vec::new(),
    };
    while let Some(item) = reader.next_item().map_err(|error| damaged(path, &error))? {
        match item {
            Item::Packet(packet) => survey.packet(&packet),
            Item::Note(note) => survey.note(note),
        }
    }
    // What was lost behind the last packet is told by the statistics only.
    survey.lost = survey.lost.max(reader.lost());
    survey.interfaces = reader.interfaces().to_vec();
    let name = path.display().to_string();
    survey.recording = Recording::find(&name, &reader.section().comments)?;
    if let Some(recording) = &survey.recording {
        // The clock began to run before the first packet came.
        survey.first = Some(recording.began);
        survey.last = survey.last.max(survey.first);
    }
    Ok(survey)
}

/// Where the packets of an interface go: a port's place in the scene, or nowhere.
pub(super) type Ways = Vec<Option<usize>>;

impl Survey {
    fn packet(&mut self, packet: &Packet<'_>) {
        self.packets += 1;
        self.longest = self.longest.max(packet.bytes.len());
        self.cut += u64::from(packet.is_cut());
        self.lost = self.lost.saturating_add(packet.dropped.unwrap_or(0));
        if let Some(time) = packet.time {
            self.first = Some(self.first.map_or(time, |first| first.min(time)));
            self.last = self.last.max(Some(time));
        }
    }

    /// Whatever else it is, and whether it is sound, is seen when it is done again.
    fn note(&mut self, note: &[u8]) {
        if let Some(Ok(entry)) = RecordedEntry::of_note(note)
            && let RecordedWhat::Change(RecordedChange::View(change)) = entry.what
        {
            let new = change.ports.into_iter().filter(|port| port.new.is_some());
            self.later.extend(new);
        }
    }

    /// From the first packet to the last, in nanoseconds.
    pub(super) fn nanoseconds(&self) -> u64 {
        let (first, last) = (self.first.unwrap_or(0), self.last.unwrap_or(0));
        last - first
    }

    /// The settings, with the capture's interfaces as ports where none is named.
    pub(super) fn settings(&self, plan: &OfflinePlan) -> Result<Settings, CliError> {
        let mut unnamed = false;
        let recorded = self.recording.as_ref();
        let recorded = recorded.map(|it| file::parse("the recording", &it.settings));
        let recorded = recorded.transpose()?;
        let settings = plan.source.load_with(|layer| {
            if let Some(recorded) = recorded {
                *layer = std::mem::take(layer).over(recorded);
            }
            // A number of workers that depended on the machine would not give one result on all.
            layer.workers.get_or_insert(1);
            if !layer.ports.is_empty() {
                return;
            }
            let host = layer.name.as_deref().unwrap_or(NAME_DEFAULT);
            for interface in &self.interfaces {
                let name = interface.name.as_str();
                let is_port = name != host && layer.uplink.as_deref() != Some(name);
                match words::interface(name) {
                    Ok(name) if is_port => {
                        let word = PortWord::Iface(name);
                        if !layer.ports.contains(&word) {
                            layer.ports.push(word);
                        }
                    }
                    Ok(_) => {}
                    Err(_) => unnamed = true,
                }
            }
        });
        match settings {
            Err(_) if unnamed => Err(self.nameless()),
            settings => settings,
        }
    }

    /// Finds the port of each interface: that of its name, else the port in the same place.
    pub(super) fn ways(&self, settings: &Settings, names: &[String]) -> Result<Ways, CliError> {
        if self.recording.is_some() {
            let places = self.interfaces.iter();
            let places = places.map(|interface| place_of(&interface.description));
            let known = |port: &PortIndex| port.index() < names.len();
            return Ok(places
                .map(|port| Some(port?).filter(known).map(PortIndex::index))
                .collect());
        }
        let mut nameless = 0..settings.ports.len();
        let ways = self.interfaces.iter().map(|interface| {
            if words::interface(&interface.name).is_ok() {
                return Ok(names.iter().position(|name| *name == interface.name));
            }
            match nameless.next() {
                Some(place) => Ok(Some(place)),
                None => Err(self.nameless()),
            }
        });
        ways.collect()
    }

    fn nameless(&self) -> CliError {
        let path = self.path.display();
        let why = "it does not name its interfaces, so their ports must be named in order";
        let fix = format!("vswitch replay {path} --offline --ports veth1,veth2");
        CliError::usage(path.to_string(), why, fix)
    }

    /// What may surprise who looks at the result.
    pub(super) fn notes(&self, around: &Surroundings) -> Vec<String> {
        let mut notes = Vec::new();
        let room = around.mtu.unwrap_or(MTU_DEFAULT);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        // A header of 14 bytes, and a VLAN tag.
        if self.recording.is_none() && self.longest > room.saturating_add(18) {
            notes.push(format!(
                "the longest packet has {} bytes, more than the MTU of {room}; fix: --mtu 65535, \
                 or ethtool -K DEV gso off tso off gro off before capturing",
                self.longest
            ));
        }
        if self.lost > 0 {
            notes.push(format!(
                "{} packets came faster than they were recorded, and are missing",
                self.lost
            ));
        }
        if self.cut > 0 {
            notes.push(format!(
                "of {} packets only a part was captured, and they are left out; \
                 fix: capture with -s 0",
                self.cut
            ));
        }
        notes
    }
}
