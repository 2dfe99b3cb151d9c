//! Sessions as plain data: to be written down, and restored by another engine.

use std::net::Ipv4Addr;
use std::sync::Arc;

use crate::Nanos;
use crate::adopted::Adopted;
use crate::engine::Nat;
use crate::rewrite::{Protocol, Rewrite};
use crate::session::{Session, Side, Traffic};
use crate::tcp::{State, Tracker};

/// One session as plain data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    /// Protocol.
    pub protocol: Protocol,
    /// Address and port (query identifier) of the inside host.
    pub inside: (Ipv4Addr, u16),
    /// Address and port (query identifier) that the outside sees.
    pub external: (Ipv4Addr, u16),
    /// Address and port of the other end; for a query the port is the request's ICMP type.
    pub remote: (Ipv4Addr, u16),
    /// Whether an inside host opened it.
    pub from_inside: bool,
    /// Whether the other side has answered.
    pub replied: bool,
    /// State of a TCP connection: a byte to be given back as it is; `None` for other protocols.
    pub tcp: Option<u8>,
    /// Whether it came by a published port, so that it has no mapping.
    pub published: bool,
    /// How long ago it was created.
    pub age: Nanos,
    /// How long ago its last packet came.
    pub idle: Nanos,
    /// How long it lives yet unless refreshed.
    pub remaining: Nanos,
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
    /// Its external address is not one of ours.
    NotOurs,
    /// The port is adopted at this slice: restore it there.
    Elsewhere(u16),
    /// The external port has another mapping, or the inside endpoint another port.
    PortTaken,
    /// The session table is full.
    Full,
}

impl Nat {
    /// Lists sessions from slot `from` on, `max` slots at most; the second value is the slot to go
    /// on with, `None` at the end.
    #[must_use]
    pub fn snapshot(&self, from: u32, max: usize, now: Nanos) -> (Vec<SessionRecord>, Option<u32>) {
        let end = self.sessions.end();
        let max = u32::try_from(max).unwrap_or(u32::MAX);
        let to = from.saturating_add(max).min(end);
        let records = (from..to)
            .filter_map(|id| self.sessions.get(id))
            .filter(|session| session.deadline > now)
            .map(|session| record(session, now))
            .collect();
        (records, (to < end).then_some(to))
    }

    /// Brings a session back under its own external port.
    ///
    /// # Errors
    /// Why it cannot be: the port is not this slice's or is taken, the table is full, the record
    /// contradicts itself.
    pub fn restore(&mut self, record: &SessionRecord, now: Nanos) -> Result<(), RestoreError> {
        let tracker = match record.protocol {
            Protocol::Tcp => Some(record.tcp.and_then(tracker).ok_or(RestoreError::Invalid)?),
            Protocol::Udp | Protocol::Icmp => None,
        };
        if record.external.0 != self.config.external {
            return Err(RestoreError::NotOurs);
        }
        let (protocol, inside) = (record.protocol, record.inside);
        let mapping = match self.mappings.find_inside(protocol, inside) {
            Some(id) => id,
            None => self
                .mappings
                .create_at(protocol, inside, record.external.1)
                .ok_or(RestoreError::PortTaken)?,
        };
        if (self.mappings.get(mapping)).is_none_or(|mapping| mapping.port != record.external.1) {
            return Err(RestoreError::PortTaken);
        }
        let deadline = now + record.remaining;
        let session = Session {
            inside,
            external: record.external,
            remote: record.remote,
            protocol,
            origin: if record.from_inside {
                Side::Inside
            } else {
                Side::Outside
            },
            replied: record.replied,
            tracker,
            out: Rewrite::new(protocol, inside, record.external),
            back: Rewrite::new(protocol, record.external, inside),
            mapping,
            serial: 0,
            created: now - record.age,
            last_seen: now - record.idle,
            deadline,
            outbound: record.outbound,
            inbound: record.inbound,
        };
        let Some(id) = self.sessions.insert(session) else {
            self.mappings.remove_if_unused(mapping);
            return Err(RestoreError::Full);
        };
        self.mappings.add_session(mapping);
        self.mappings.prolong(mapping, deadline);
        self.counters.sessions_created += 1;
        if self.owner(record.external.1) != Some(self.config.slice) {
            self.adopted
                .adopt(protocol, record.external.1, self.config.slice);
        }
        self.note_open(id);
        Ok(())
    }

    /// Obeys a table of ports that other slices keep than arithmetic says.
    pub fn adopt(&mut self, adopted: Arc<Adopted>) {
        self.adopted = adopted;
    }
}

fn record(session: &Session, now: Nanos) -> SessionRecord {
    let view = session.view();
    SessionRecord {
        protocol: view.protocol,
        inside: view.inside,
        external: view.external,
        remote: view.remote,
        from_inside: view.from_inside,
        replied: view.replied,
        tcp: session.tracker.map(|tracker| tracker.state() as u8),
        published: false,
        age: now - view.created,
        idle: now - view.last_seen,
        remaining: view.expires_at - now,
        outbound: view.outbound,
        inbound: view.inbound,
    }
}

fn tracker(byte: u8) -> Option<Tracker> {
    [
        State::SynSent,
        State::SynSent2,
        State::SynReceived,
        State::Established,
        State::FinWait,
        State::CloseWait,
        State::LastAck,
        State::TimeWait,
        State::Close,
    ]
    .into_iter()
    .find(|state| *state as u8 == byte)
    .map(Tracker::restored)
}
