//! External ports that another slice keeps than arithmetic says: their sessions come from a run
//! with another number of slices.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use crate::rewrite::Protocol;

/// Who keeps which external port against the arithmetic of [`owner_of`](crate::owner_of); made
/// once at a start, then only read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    owners: HashMap<(u8, Ipv4Addr, u16), u16>,
}

impl Adopted {
    /// Collects protocol, external endpoint and the slice that keeps it.
    pub fn new(entries: impl IntoIterator<Item = (Protocol, (Ipv4Addr, u16), u16)>) -> Self {
        let key = |(protocol, end, owner): (Protocol, (Ipv4Addr, u16), u16)| {
            ((protocol.number(), end.0, end.1), owner)
        };
        Self {
            owners: entries.into_iter().map(key).collect(),
        }
    }

    /// The slice that keeps an external endpoint, if it was adopted.
    #[must_use]
    pub fn owner(&self, protocol: Protocol, external: (Ipv4Addr, u16)) -> Option<u16> {
        let key = (protocol.number(), external.0, external.1);
        self.owners.get(&key).copied()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u8, u16, u16)> {
        self.owners
            .iter()
            .map(|((protocol, _, port), owner)| (*protocol, *port, *owner))
    }
}
