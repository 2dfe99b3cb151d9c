//! The words of the forwarding table: what it did, what it holds, what it refuses.

use crate::mac::Mac;
use crate::port::PortIndex;

use super::{AGEING_SECS_MAX, AGEING_SECS_MIN, STATIC_ENTRIES_MAX};

/// What [`Fdb::learn`](super::Fdb::learn) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// The station was unknown, or its entry had aged.
    New,
    /// It is where it was.
    Refreshed,
    /// It was on another port.
    Moved {
        /// The port it was on.
        from: PortIndex,
    },
    /// It has been heard on too many ports within this second
    /// ([`MOVES_PER_SECOND`](super::MOVES_PER_SECOND)): a loop, or two stations of one address. It
    /// stays where it was.
    Damped {
        /// The port it stays on.
        at: PortIndex,
    },
    /// It has a static entry on another port; nothing changed.
    Locked {
        /// The port of the static entry.
        at: PortIndex,
    },
    /// No entry could be replaced for it; nothing changed.
    Full,
}

/// What [`Fdb::flush`](super::Fdb::flush) removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    /// Every entry, static ones too.
    All,
    /// Every dynamic entry.
    Dynamic,
    /// The dynamic entries of one port.
    Port(PortIndex),
}

/// One entry, as the command line shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FdbEntry {
    /// The network.
    pub network: u16,
    /// The station's address.
    pub mac: Mac,
    /// The port it is on.
    pub port: PortIndex,
    /// Seconds since the station was last heard, or since a static entry was made.
    pub age_secs: u32,
    /// Set by hand: does not age or move.
    pub is_static: bool,
}

/// How many entries came and went since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FdbCounters {
    /// Stations entered.
    pub learned: u64,
    /// Stations heard on another port than before.
    pub moved: u64,
    /// Moves not followed because the station had moved too often within the second.
    pub damped: u64,
    /// Entries replaced because the table or a port's share was full.
    pub evicted: u64,
    /// Stations not entered because nothing could be replaced.
    pub refused: u64,
    /// Entries removed because the station was silent for the ageing time.
    pub aged: u64,
}

/// A static entry that the table does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no room for another static entry ({STATIC_ENTRIES_MAX} at most); \
     remove one with: vswitch fdb del MAC"
)]
pub struct StaticFull;

/// An ageing time out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("ageing time {0} s is not within {AGEING_SECS_MIN}..={AGEING_SECS_MAX} s (IEEE 802.1D)")]
pub struct BadAgeing(pub u32);
