//! The records of `GET /monitor/events`: one JSON object on each line, for as long as one listens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use switch::mac::Mac;

use super::super::text;
use super::{EventSchema, OperState};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventKind {
    /// A port.
    Port,
    /// A station.
    Station,
    /// What keeps the host's own stack off a port.
    Guard,
    /// Many drops of one reason.
    Drop,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Port, Self::Station, Self::Guard, Self::Drop];

    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Station => "station",
            Self::Guard => "guard",
            Self::Drop => "drop",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for EventKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|kind| kind.word() == text);
        found.ok_or("port, station, guard or drop")
    }
}

/// Something that happened in the switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// `vswitch.event/1`.
    pub schema: EventSchema,
    /// When: ISO 8601, UTC.
    pub time: String,
    /// What.
    #[serde(flatten)]
    pub what: EventWhat,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum EventWhat {
    /// To a port.
    Port(PortEvent),
    /// To a station.
    Station(StationEvent),
    /// To what keeps the host's own stack off a port.
    Guard(GuardEvent),
    /// Of drops there are many, or no longer.
    Drop(DropEvent),
}

impl EventWhat {
    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> EventKind {
        match self {
            Self::Port(_) => EventKind::Port,
            Self::Station(_) => EventKind::Station,
            Self::Guard(_) => EventKind::Guard,
            Self::Drop(_) => EventKind::Drop,
        }
    }
}

/// What happened to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortHappening {
    /// It is a port from now on.
    Added,
    /// It is none any more.
    Removed,
    /// It carries frames.
    Up,
    /// Its device is down.
    Down,
    /// Its device is gone; it waits for it.
    Gone,
    /// Another worker receives from it.
    Worker,
}

/// Something that happened to a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortEvent {
    /// What.
    pub event: PortHappening,
    /// Its device.
    pub port: String,
    /// Whether it carries frames now.
    pub state: OperState,
    /// The worker that receives from it; `null` where all do.
    pub worker: Option<u16>,
    /// The worker it was with, where that is what happened.
    pub from: Option<u16>,
}

/// What happened to a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StationHappening {
    /// It was heard on another port, and is there now.
    Moved,
    /// It moves too often, and stays where it is.
    Damped,
    /// It is fixed to another port: what it sent was refused.
    Locked,
}

/// Something that happened to a station.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StationEvent {
    /// What.
    pub event: StationHappening,
    /// The station.
    #[serde(with = "text")]
    pub station: Mac,
    /// The device of the port it was heard on.
    pub port: String,
    /// The device of the port it was on, where it moved; else of the port it stays on.
    pub other: String,
    /// How often, within a tenth of a second.
    pub count: u32,
}

/// What happened to a guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GuardHappening {
    /// Another means keeps the host's stack off.
    Changed,
    /// No means works but the settings of the interface, or it cannot be brought up to date.
    Failed,
}

/// Something that happened to what keeps the host's own stack off a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardEvent {
    /// What.
    pub event: GuardHappening,
    /// The port's device.
    pub port: String,
    /// What kept it off; `null` where it was a new port.
    pub from: Option<String>,
    /// What keeps it off now.
    pub to: String,
    /// What went wrong; empty where nothing did.
    pub why: String,
}

/// Whether many drops begin or end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DropHappening {
    /// There are many from now on.
    Begin,
    /// There are few again.
    End,
}

/// Many drops of one reason at one port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DropEvent {
    /// Whether they begin or end.
    pub event: DropHappening,
    /// The reason's word.
    pub reason: String,
    /// The device of the port.
    pub port: String,
    /// How many a second: at the beginning, and at the end over all of it.
    pub rate: f64,
    /// How many since the beginning.
    pub count: u64,
    /// Seconds since the beginning.
    pub seconds: f64,
    /// What to do about it; empty where there is nothing to do.
    pub fix: String,
}

/// Events are missing here: they came faster than they were read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostEvents {
    /// `vswitch.event/1`.
    pub schema: EventSchema,
    /// How many.
    pub lost: u64,
}

/// One line of the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EventRecord {
    /// Something happened.
    Event(Event),
    /// Events are missing here.
    Lost(LostEvents),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_keep_their_keys() {
        let event = Event {
            schema: EventSchema,
            time: "2026-11-22T10:00:00.123Z".into(),
            what: EventWhat::Station(StationEvent {
                event: StationHappening::Moved,
                station: Mac([2, 0, 0, 0, 0, 0x0b]),
                port: "veth2".into(),
                other: "veth1".into(),
                count: 1,
            }),
        };
        let line = concat!(
            r#"{"schema":"vswitch.event/1","time":"2026-11-22T10:00:00.123Z","kind":"station","#,
            r#""event":"moved","station":"02:00:00:00:00:0b","port":"veth2","other":"veth1","#,
            r#""count":1}"#
        );
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
        let read: EventRecord = serde_json::from_str(line).unwrap();
        assert_eq!(read, EventRecord::Event(event));
        let lost = r#"{"schema":"vswitch.event/1","lost":3}"#;
        let read: EventRecord = serde_json::from_str(lost).unwrap();
        assert!(matches!(
            read,
            EventRecord::Lost(LostEvents { lost: 3, .. })
        ));
    }
}
