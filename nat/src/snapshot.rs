//! Sessions as plain data, so that a restart need not end them.
//!
//! A record has everything but what follows from the configuration. It is restored with the same
//! external endpoint or not at all; if that belongs to another slice by arithmetic, this one
//! adopts it ([`Adopted`](crate::Adopted)), so the number of slices may change in between.

use std::net::Ipv4Addr;

use crate::Nanos;
use crate::connection::Connection;
use crate::engine::Nat;
use crate::mapping::{Mapping, Wanted};
use crate::outcome::Reason;
use crate::rewrite::Protocol;
use crate::selection::Part;
use crate::session::{NO_MAPPING, Session, Side, Traffic};
use crate::{sctp, tcp};

/// A session as plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Protocol.
    pub protocol: Protocol,
    /// State of a TCP connection, and who closed it: a byte to be given back as it is; `None` for
    /// other protocols. An SCTP association is taken up as one in mid-stream.
    pub tcp: Option<u8>,
    /// Whether an inside host opened it.
    pub from_inside: bool,
    /// Whether the other side has answered.
    pub replied: bool,
    /// Whether it came by a published port, so that it has no mapping.
    pub published: bool,
    /// Address and port (query identifier) of the inside host.
    pub inside: (Ipv4Addr, u16),
    /// Address and port (query identifier) that the outside sees.
    pub external: (Ipv4Addr, u16),
    /// Address and port of the other end; for a query the port is the request's ICMP type.
    pub remote: (Ipv4Addr, u16),
    /// How long it lives yet unless refreshed.
    pub remaining: Nanos,
    /// How long ago it was created, at most as long as the clock has run.
    pub age: Nanos,
    /// Packets and bytes from inside to outside.
    pub outbound: Traffic,
    /// Packets and bytes from outside to inside.
    pub inbound: Traffic,
}

/// Why a session cannot be restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The record contradicts itself.
    Invalid,
    /// Its time is over.
    Expired,
    /// Its external address is not one of ours, or its port is outside the range.
    NotOurs,
    /// The port is no longer published, or no longer leads there.
    NotPublished,
    /// The port is published, or adopted, at this slice: restore it there.
    Elsewhere(u16),
    /// A session with one of its tuples lives already.
    Exists,
    /// The external port has another mapping, or the inside endpoint another port.
    PortTaken,
    /// The session table is full.
    Full,
}

impl std::fmt::Display for RestoreError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid => f.write_str("the record contradicts itself"),
            Self::Expired => f.write_str("its time is over"),
            Self::NotOurs => f.write_str("its external endpoint is not the NAT's"),
            Self::NotPublished => f.write_str("its port is no longer published"),
            Self::Elsewhere(slice) => write!(f, "its port is with slice {slice}"),
            Self::Exists => f.write_str("a session with its addresses and ports lives already"),
            Self::PortTaken => f.write_str("its external port has another mapping"),
            Self::Full => f.write_str("the session table is full"),
        }
    }
}

impl std::error::Error for RestoreError {}

impl Nat {
    /// Records the live sessions of one part of the table; returns where the next part begins, or
    /// `None` after the last.
    ///
    /// Sessions that come and go between two calls may be missed; none is recorded twice.
    #[must_use]
    pub fn snapshot(&self, part: Part, now: Nanos) -> (Vec<SessionRecord>, Option<u32>) {
        let (places, next) = self.places(part);
        let records = places
            .filter_map(|id| self.sessions.get(id))
            .filter(|session| session.deadline > now)
            .map(|session| record(session, now))
            .collect();
        (records, next)
    }

    /// Puts a session back with its external endpoint, and its mapping if it had one.
    ///
    /// What is published and the table of adopted ports ([`Nat::set_publishes`], [`Nat::adopt`])
    /// come first. Restore everything before the first packet: a port that this slice adopts must
    /// not have been handed out by its own meanwhile. Quotas do not apply to what lived already.
    ///
    /// # Errors
    /// The [`RestoreError`] that names why it cannot be; nothing has changed then.
    pub fn restore(&mut self, record: &SessionRecord, now: Nanos) -> Result<(), RestoreError> {
        let connection = check(record)?;
        self.mappings.tick(now);
        self.check_tuples(record, now)?;
        let host = self.enter(record.inside.0, now);
        let host = host.map_err(|_| RestoreError::Full)?;
        let restored = self.restore_in(host, connection, record, now);
        self.hosts.leave(host);
        restored
    }

    /// Puts a session back into its host's account.
    fn restore_in(
        &mut self,
        host: u32,
        connection: Connection,
        record: &SessionRecord,
        now: Nanos,
    ) -> Result<(), RestoreError> {
        let origin = match record.from_inside {
            true => Side::Inside,
            false => Side::Outside,
        };
        if origin == Side::Outside && !self.has_room_for_stranger(host, connection) {
            return Err(RestoreError::Full);
        }
        let mapping = if record.published {
            self.check_published(record)?;
            NO_MAPPING
        } else {
            self.restore_mapping(host, record)?
        };
        let has_settled = match connection {
            Connection::Tcp(tracker) => tracker.state().is_open(),
            Connection::None | Connection::Sctp(_) => record.replied,
        };
        let ends = (record.inside, record.external, record.remote);
        let session = Session {
            mapping,
            replied: record.replied,
            provisional: origin == Side::Outside && !has_settled,
            created: now - record.age,
            deadline: now + record.remaining,
            outbound: record.outbound,
            inbound: record.inbound,
            ..self.compile(origin, (record.protocol, connection), ends, now)
        };
        self.store_restored(session)
    }

    /// Stores a session; on failure an unused mapping goes.
    fn store_restored(&mut self, session: Session) -> Result<(), RestoreError> {
        let mapping = session.mapping;
        let Err(reason) = self.store(session) else {
            return Ok(());
        };
        self.unmap_unused(mapping);
        Err(if reason == Reason::ProtocolBusy {
            RestoreError::PortTaken
        } else {
            RestoreError::Full
        })
    }

    fn check_tuples(&mut self, record: &SessionRecord, now: Nanos) -> Result<(), RestoreError> {
        if !self.mappings.externals.contains(record.external.0) {
            return Err(RestoreError::NotOurs);
        }
        let (protocol, remote) = (record.protocol, record.remote);
        let same = [
            self.sessions.find_outbound(protocol, record.inside, remote),
            self.sessions
                .find_inbound(protocol, record.external, remote),
        ];
        if same
            .into_iter()
            .any(|found| self.alive(found, now).is_some())
        {
            return Err(RestoreError::Exists);
        }
        if self.sessions.is_full() {
            return Err(RestoreError::Full);
        }
        Ok(())
    }

    fn check_published(&self, record: &SessionRecord) -> Result<(), RestoreError> {
        let (protocol, external) = (record.protocol, record.external);
        if !self.publishes.admits(protocol, external, record.inside) {
            return Err(RestoreError::NotPublished);
        }
        match self.owner(protocol, external) {
            Some(owner) if owner != self.config.slice => Err(RestoreError::Elsewhere(owner)),
            _ => Ok(()),
        }
    }

    /// Finds the mapping of a record, or makes it anew with its port.
    ///
    /// A TCP port that was shared comes back to the first of its inside endpoints only.
    fn restore_mapping(&mut self, host: u32, record: &SessionRecord) -> Result<u32, RestoreError> {
        let (protocol, inside, external) = (record.protocol, record.inside, record.external);
        match self.adopter(protocol, external) {
            Some(owner) if owner != self.config.slice => {
                return Err(RestoreError::Elsewhere(owner));
            }
            Some(_) => {}
            // Whoever owns these has all of them.
            None if protocol.is_by_address() => match self.owner_by_address(protocol) {
                Some(owner) if owner != self.config.slice => {
                    return Err(RestoreError::Elsewhere(owner));
                }
                Some(_) => {}
                None => return Err(RestoreError::NotOurs),
            },
            None if !self.config.ports.contains(&external.1) => return Err(RestoreError::NotOurs),
            None => {}
        }
        let hash = self.mappings.hash(protocol, inside);
        let whose = (protocol, inside);
        let is_on_it = |known: &Mapping| known.external == external;
        if let Some(id) = self.mappings.find_inside(hash, whose, is_on_it) {
            return Ok(id);
        }
        if self.mappings.find_inside(hash, whose, |_| true).is_some() {
            return Err(RestoreError::PortTaken);
        }
        let wanted = Wanted {
            protocol,
            inside,
            hash,
            host,
            paired: None,
        };
        let restored = self.mappings.restore(wanted, external);
        let id = restored.map_err(|_| RestoreError::PortTaken)?;
        self.mapped(id, host);
        Ok(id)
    }
}

/// Checks what a record says of itself; returns its connection's state.
fn check(record: &SessionRecord) -> Result<Connection, RestoreError> {
    let is_tcp = record.protocol == Protocol::Tcp;
    let has_ports = !matches!(record.protocol, Protocol::Other(_));
    let keeps_port = record.protocol.is_by_address();
    if is_tcp != record.tcp.is_some()
        || has_ports != (record.external.1 != 0)
        || keeps_port && record.external.1 != record.inside.1
    {
        return Err(RestoreError::Invalid);
    }
    if record.remaining == Nanos::ZERO {
        return Err(RestoreError::Expired);
    }
    match record.tcp.map(tcp::Tracker::from_byte) {
        Some(None) => Err(RestoreError::Invalid),
        Some(Some(tracker)) => Ok(Connection::Tcp(tracker)),
        None if record.protocol == Protocol::Sctp => {
            Ok(Connection::Sctp(sctp::Tracker::resume(record.replied)))
        }
        None => Ok(Connection::None),
    }
}

fn record(session: &Session, now: Nanos) -> SessionRecord {
    SessionRecord {
        protocol: session.protocol,
        tcp: session.connection.tcp().map(tcp::Tracker::to_byte),
        from_inside: session.origin == Side::Inside,
        replied: session.replied,
        published: session.mapping == NO_MAPPING,
        inside: session.inside(),
        external: session.external(),
        remote: session.remote,
        remaining: session.deadline - now,
        age: now - session.created,
        outbound: session.outbound,
        inbound: session.inbound,
    }
}
