//! What is in a recording between its packets.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use switch::fdb::Flush;
use switch::journal::{Change, Told};
use switch::mac::Mac;
use switch::neigh::Link;
use switch::port::PortIndex;
use switch::table::Row;

use super::session::{RecordedRemains, RecordedSelection, RecordedSession};
use super::view::ViewChange;

/// What an entry begins with, whoever else may write blocks of the same number.
const HEAD: &str = "{\"vswitch\":";

/// A turn, or a part of how things were at the beginning; see [`switch::journal::Entry`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedEntry {
    /// The turn's number, from 1 on; 0 at the beginning. The name says whose entry it is.
    #[serde(rename = "vswitch")]
    pub turn: u64,
    /// The worker; none for the control thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<u16>,
    /// The time it was given, in nanoseconds of the switch's clock.
    pub at: u64,
    /// What it was.
    #[serde(flatten)]
    pub what: RecordedWhat,
}

/// What a turn was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedWhat {
    /// Some of a worker's sessions at the beginning.
    Sessions(Vec<RecordedSession>),
    /// Some of what its ended sessions had left.
    Remains(RecordedRemains),
    /// Its gateway: the identification of the next packet, and when all tokens of the limits of
    /// ICMP errors will be back, in nanoseconds of its clock.
    Gateway(u16, Vec<u64>),
    /// Some of the forwarding table at the beginning: key, value, stamp, tag.
    Fdb(Vec<RecordedRow>),
    /// Some of the neighbours.
    Neighbours(Vec<RecordedRow>),
    /// A tick.
    Tick {
        /// The commands it obeyed.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        told: Vec<RecordedTold>,
        /// The sum of all that the worker had decided before; none where some of it is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digest: Option<String>,
    },
    /// A round without a frame from a port.
    Round,
    /// A change by the control thread.
    Change(RecordedChange),
    /// The end, with the sums of all workers.
    End(Vec<Option<String>>),
    /// So many turns are not known: the reader was too slow.
    Missing(u64),
}

/// A [`Row`].
pub type RecordedRow = (u64, u64, u32, u16);

/// A [`Told`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedTold {
    /// Decide by the view of this number.
    View(u64),
    /// Receive from this port.
    Receive(u16),
    /// Receive no more from it.
    Release(u16),
    /// Give it to that worker.
    Move(u16, u16),
    /// Tell all stations who the gateway is.
    Announce,
    /// End sessions.
    NatFlush(RecordedSelection),
    /// Bring sessions back, and know these addresses.
    NatRestore(Vec<Ipv4Addr>, Vec<RecordedSession>),
}

/// A [`Change`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordedChange {
    /// Another view.
    View(ViewChange),
    /// A station tied to a port: network, address, port.
    AddStatic(u16, u64, u16),
    /// A station removed.
    Remove(u16, u64),
    /// All stations removed.
    FlushAll,
    /// All that were learned.
    FlushDynamic,
    /// Those learned at a port.
    FlushPort(u16),
    /// A port forgotten.
    ForgetPort(u16),
    /// A port's stations bounded.
    PortLimit(u16, Option<u32>),
    /// The ageing time in seconds.
    Ageing(u32),
    /// A neighbour removed: its network (none: the uplink) and address.
    RemoveNeighbour(Option<u16>, Ipv4Addr),
    /// The neighbours of a network (none: of the uplink) removed.
    FlushNeighbours(Option<u16>),
    /// All neighbours removed.
    FlushAllNeighbours,
}

impl RecordedEntry {
    /// As a note.
    #[must_use]
    pub fn to_note(&self) -> String {
        // Plain data: there is nothing in it that JSON could not say.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads a note; `None` where it is somebody else's.
    ///
    /// # Errors
    /// It is damaged.
    pub fn of_note(note: &[u8]) -> Option<Result<Self, String>> {
        note.starts_with(HEAD.as_bytes())
            .then(|| serde_json::from_slice(note).map_err(|error| error.to_string()))
    }
}

/// As a recording has it.
#[must_use]
pub fn recorded_row(row: &Row) -> RecordedRow {
    (row.key, row.value, row.stamp, row.tag)
}

/// As a table has it.
#[must_use]
pub const fn row(recorded: RecordedRow) -> Row {
    let (key, value, stamp, tag) = recorded;
    Row {
        key,
        value,
        stamp,
        tag,
    }
}

impl From<&Told> for RecordedTold {
    fn from(told: &Told) -> Self {
        match told {
            Told::View(number) => Self::View(*number),
            Told::Receive(port) => Self::Receive(port.0),
            Told::Release(port) => Self::Release(port.0),
            Told::Move(port, to) => Self::Move(port.0, *to),
            Told::Announce => Self::Announce,
            Told::NatFlush(selection, part) => {
                Self::NatFlush(RecordedSelection::new(selection, *part))
            }
            Told::NatRestore(externals, records) => {
                let records = records.iter().map(RecordedSession::from);
                Self::NatRestore(externals.clone(), records.collect())
            }
        }
    }
}

const fn network(link: Link) -> Option<u16> {
    match link {
        Link::Network(network) => Some(network),
        Link::Uplink => None,
    }
}

fn link(network: Option<u16>) -> Link {
    network.map_or(Link::Uplink, Link::Network)
}

impl RecordedChange {
    /// As a recording has it; `view` tells what of a view has changed.
    #[must_use]
    pub fn new(change: &Change, view: impl FnOnce(&switch::config::View) -> ViewChange) -> Self {
        match change {
            Change::View(now) => Self::View(view(now)),
            Change::AddStatic(network, mac, port) => {
                Self::AddStatic(*network, mac.to_u64(), port.0)
            }
            Change::Remove(network, mac) => Self::Remove(*network, mac.to_u64()),
            Change::Flush(Flush::All) => Self::FlushAll,
            Change::Flush(Flush::Dynamic) => Self::FlushDynamic,
            Change::Flush(Flush::Port(port)) => Self::FlushPort(port.0),
            Change::ForgetPort(port) => Self::ForgetPort(port.0),
            Change::PortLimit(port, limit) => Self::PortLimit(port.0, *limit),
            Change::Ageing(secs) => Self::Ageing(*secs),
            Change::RemoveNeighbour(link, address) => {
                Self::RemoveNeighbour(network(*link), *address)
            }
            Change::FlushNeighbours(Some(link)) => Self::FlushNeighbours(network(*link)),
            Change::FlushNeighbours(None) => Self::FlushAllNeighbours,
        }
    }

    /// As the switch has it; `None` where it is none of its tables: a view has to be
    /// [made](ViewChange::apply) by itself, and no switch ties an address to a port that is no
    /// station's.
    #[must_use]
    pub fn to_change(&self) -> Option<Change> {
        Some(match self {
            Self::View(_) => return None,
            Self::AddStatic(network, mac, port) => {
                let mac = Some(Mac::from_u64(*mac)).filter(|mac| mac.is_station())?;
                Change::AddStatic(*network, mac, PortIndex(*port))
            }
            Self::Remove(network, mac) => Change::Remove(*network, Mac::from_u64(*mac)),
            Self::FlushAll => Change::Flush(Flush::All),
            Self::FlushDynamic => Change::Flush(Flush::Dynamic),
            Self::FlushPort(port) => Change::Flush(Flush::Port(PortIndex(*port))),
            Self::ForgetPort(port) => Change::ForgetPort(PortIndex(*port)),
            Self::PortLimit(port, limit) => Change::PortLimit(PortIndex(*port), *limit),
            Self::Ageing(secs) => Change::Ageing(*secs),
            Self::RemoveNeighbour(network, address) => {
                Change::RemoveNeighbour(link(*network), *address)
            }
            Self::FlushNeighbours(network) => Change::FlushNeighbours(Some(link(*network))),
            Self::FlushAllNeighbours => Change::FlushNeighbours(None),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_comes_back_as_it_was() {
        let address = Ipv4Addr::new(10, 9, 0, 2);
        for change in [
            Change::AddStatic(0, Mac::local(1), PortIndex(3)),
            Change::Remove(0, Mac::local(1)),
            Change::Flush(Flush::All),
            Change::Flush(Flush::Dynamic),
            Change::Flush(Flush::Port(PortIndex(2))),
            Change::ForgetPort(PortIndex(2)),
            Change::PortLimit(PortIndex(2), Some(7)),
            Change::PortLimit(PortIndex(2), None),
            Change::Ageing(20),
            Change::RemoveNeighbour(Link::Uplink, address),
            Change::RemoveNeighbour(Link::Network(0), address),
            Change::FlushNeighbours(None),
            Change::FlushNeighbours(Some(Link::Uplink)),
        ] {
            let entry = RecordedEntry {
                turn: 9,
                worker: None,
                at: 7,
                what: RecordedWhat::Change(RecordedChange::new(&change, |_| unreachable!())),
            };
            let note = entry.to_note() + "  ";
            let read = RecordedEntry::of_note(note.as_bytes()).unwrap().unwrap();
            assert_eq!(read, entry);
            let RecordedWhat::Change(read) = read.what else {
                panic!("{note}");
            };
            let again = read.to_change().unwrap();
            assert_eq!(format!("{again:?}"), format!("{change:?}"));
        }
        assert_eq!(RecordedEntry::of_note(b"somebody else's"), None);
        assert!(RecordedEntry::of_note(b"{\"vswitch\":").unwrap().is_err());
    }

    #[test]
    fn entries_are_as_documented() {
        let entry = RecordedEntry {
            turn: 12,
            worker: Some(1),
            at: 1_000_000_000,
            what: RecordedWhat::Tick {
                told: vec![RecordedTold::View(3), RecordedTold::Announce],
                digest: Some("00ff".into()),
            },
        };
        let expected = concat!(
            r#"{"vswitch":12,"worker":1,"at":1000000000,"#,
            r#""tick":{"told":[{"view":3},"announce"],"digest":"00ff"}}"#
        );
        assert_eq!(entry.to_note(), expected);
        let read = RecordedEntry::of_note(expected.as_bytes());
        assert_eq!(read, Some(Ok(entry)));
    }
}
