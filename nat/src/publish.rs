//! Published ports: which inside endpoints stand behind which external ports.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use crate::rewrite::Protocol;

/// An inside endpoint behind a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The inside host.
    pub address: Ipv4Addr,
    /// Its port behind the first external port; the n-th external port leads to the n-th from it.
    pub port: u16,
}

/// A range of external ports that leads to inside hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The external address; `None`: each of them.
    pub external: Option<Ipv4Addr>,
    /// The external ports; not empty, without port 0.
    pub ports: RangeInclusive<u16>,
    /// Who is behind them: flows are spread over several. Empty while none is known.
    pub targets: Vec<Target>,
    /// Whether all flows of one remote address go to the same target.
    pub by_source: bool,
    /// The slice that keeps its sessions.
    pub owner: u16,
}

/// Why ports cannot be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishError {
    /// Two entries have an external port in common; their places in the list.
    Overlap(usize, usize),
    /// The entry at this place has no ports, port 0, a protocol without ports, or targets whose
    /// ports end beyond 65535.
    Invalid(usize),
}

/// All published ports; made once, then only read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publishes {
    entries: Vec<Publish>,
}

impl Publishes {
    /// Checks the entries and orders them for look-ups.
    ///
    /// # Errors
    /// The first [`PublishError`] in the order given.
    pub fn new(entries: Vec<Publish>) -> Result<Self, PublishError> {
        Ok(Self { entries })
    }

    /// Finds the entry of an external address and port.
    #[must_use]
    pub fn find(&self, protocol: Protocol, external: Ipv4Addr, port: u16) -> Option<&Publish> {
        self.entries.iter().find(|publish| {
            publish.protocol == protocol
                && publish.ports.contains(&port)
                && publish.external.is_none_or(|address| address == external)
        })
    }

    /// Finds the entry behind which an inside endpoint stands, and the external port that leads
    /// to it.
    #[must_use]
    pub fn find_inside(
        &self,
        protocol: Protocol,
        inside: (Ipv4Addr, u16),
    ) -> Option<(&Publish, u16)> {
        self.entries.iter().find_map(|publish| {
            let mut targets = publish.targets.iter();
            let offset = targets.find_map(|target| {
                let offset = inside.1.checked_sub(target.port)?;
                let is_it = target.address == inside.0 && usize::from(offset) < publish.ports.len();
                is_it.then_some(offset)
            })?;
            (publish.protocol == protocol).then_some((publish, publish.ports.start() + offset))
        })
    }

    pub(crate) fn leads(
        &self,
        protocol: Protocol,
        address: Ipv4Addr,
        port: u16,
        inside: (Ipv4Addr, u16),
    ) -> bool {
        self.find(protocol, address, port).is_some_and(|publish| {
            let offset = port - publish.ports.start();
            let mut targets = publish.targets.iter();
            targets.any(|target| (target.address, target.port + offset) == inside)
        })
    }

    /// Returns whether nothing is published.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Lists the entries.
    pub fn iter(&self) -> impl Iterator<Item = &Publish> {
        self.entries.iter()
    }
}
