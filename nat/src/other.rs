//! SCTP, and the protocols without ports: what is translated by its addresses alone.
//!
//! # Theory of operation
//! SCTP's CRC32c covers its ports but, unlike a TCP checksum, no address (RFC 9260 section 6.8).
//! So an edit of the address leaves it right, and the ports stay what they are: an inside
//! endpoint gets the external port of its own number or none ([`Reason::ProtocolBusy`]). An
//! association over several paths carries addresses inside and works by its first one only.
//!
//! Any other protocol (ESP, GRE, IPIP, ...) shows no ports; a session is keyed by its number, the
//! inside and the remote address. Of all inside hosts one at a time may use such a protocol with
//! one remote, since the answers tell nothing more (RFC 7857 is silent; the kernel's generic
//! tracker is the same); only that remote comes in. UDP-Lite and DCCP are refused: their
//! checksums cover the addresses.
//!
//! The dynamic range says nothing about these, so it cannot say which slice owns one. The first
//! slice owns them all: every other engine answers `Elsewhere`, inbound and outbound, without any
//! state. Only a published SCTP port has its sessions in the slice of its entry.

use crate::Nanos;
use crate::connection::Connection;
use crate::engine::Nat;
use crate::outcome::Reason;
use crate::rewrite::Protocol;
use crate::sctp::{Event, Step, Tracker};
use crate::session::{Endpoint, Session, Side};
use crate::tcp::Role;
use crate::wire::protocol;

/// The slice that owns all sessions that are translated by address.
const OWNER: u16 = 0;

impl Protocol {
    /// Returns whether only the address is translated.
    pub(crate) const fn is_by_address(self) -> bool {
        matches!(self, Self::Sctp | Self::Other(_))
    }

    /// Returns the protocol of a number if it is translated by address.
    pub(crate) const fn by_address(number: u8) -> Option<Self> {
        match number {
            protocol::TCP | protocol::UDP | protocol::ICMP => None,
            protocol::UDP_LITE | protocol::DCCP => None,
            protocol::SCTP => Some(Self::Sctp),
            other => Some(Self::Other(other)),
        }
    }
}

impl Nat {
    /// Returns the slice that owns a protocol which is translated by address, if it is ours at all.
    pub(crate) fn owner_by_address(&self, protocol: Protocol) -> Option<u16> {
        match protocol {
            Protocol::Tcp | Protocol::Udp | Protocol::Icmp => None,
            Protocol::Sctp => Some(OWNER),
            Protocol::Other(_) => self.config.other_protocols.then_some(OWNER),
        }
    }

    /// Returns whether a protocol is not translated at all.
    pub(crate) fn is_refused(&self, number: u8) -> bool {
        match Protocol::by_address(number) {
            Some(protocol) => self.owner_by_address(protocol).is_none(),
            None => matches!(number, protocol::UDP_LITE | protocol::DCCP),
        }
    }

    /// Checks that a packet from inside may begin a flow here, if it is translated by address.
    pub(crate) fn admit_by_address(&self, protocol: Protocol) -> Result<(), Reason> {
        let allowed = self.config.other_protocols;
        match protocol {
            Protocol::Other(_) if !allowed => Err(Reason::UnknownProtocol),
            Protocol::Sctp if !allowed => Err(Reason::SctpRefused),
            // A published endpoint whose identity is taken, in the slice that publishes it.
            Protocol::Sctp if self.config.slice != OWNER => Err(Reason::ProtocolBusy),
            Protocol::Tcp
            | Protocol::Udp
            | Protocol::Icmp
            | Protocol::Sctp
            | Protocol::Other(_) => Ok(()),
        }
    }

    /// Checks that no other inside host has this protocol with this remote: all would share the
    /// tuple of the answers. For protocols with ports the mapping has seen to it.
    pub(crate) fn check_remote(
        &mut self,
        protocol: Protocol,
        external: Endpoint,
        remote: Endpoint,
        now: Nanos,
    ) -> Result<(), Reason> {
        if !matches!(protocol, Protocol::Other(_)) {
            return Ok(());
        }
        let found = self.sessions.find_inbound(protocol, external, remote);
        match self.alive(found, now) {
            Some(_) => Err(Reason::ProtocolBusy),
            None => Ok(()),
        }
    }
}

/// Moves a session's SCTP state; returns whether the packet may refresh the session.
pub(crate) fn advance(session: &mut Session, from: Side, event: Event) -> Result<bool, Reason> {
    let role = session.role(from);
    let Connection::Sctp(tracker) = &mut session.connection else {
        return Ok(true);
    };
    match tracker.step(event, role) {
        Step::Pass => Ok(true),
        Step::Ignore => Ok(false),
        Step::Reopen if role == Role::Responder && from == Side::Outside => {
            Err(Reason::Unsolicited)
        }
        Step::Reopen => {
            session.connection = Tracker::open(event).map_or(Connection::None, Connection::Sctp);
            session.origin = from;
            session.replied = false;
            Ok(true)
        }
    }
}
