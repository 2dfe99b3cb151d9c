//! ICMP errors: both layers are translated (RFC 5508 section 4).
//!
//! An error from outside quotes a packet that we sent, so its quoted *source* is the external
//! endpoint and gets the edit that inbound packets get; an error from inside quotes a packet that
//! we delivered, so its quoted *destination* gets the edit of outbound packets. The quoted
//! transport header may end after eight bytes, and its checksum is not verified (REQ-3b). The
//! outer checksum is updated by the difference that the edit of the quote made, so RFC 4884
//! extensions and whatever else follows the quote need not be understood.
//! SCTP and protocols without ports match by what identifies their sessions, and only the address
//! in the quote changes.
//! Errors neither refresh nor end a session (REQ-6; RFC 4787 REQ-12, RFC 5382 REQ-10).

use crate::Nanos;
use crate::checksum;
use crate::engine::{Fate, Nat, Packet};
use crate::flow::{Class, Flow, Header, classify_icmp};
use crate::outcome::{Outcome, Reason};
use crate::rewrite::{End, L4Sum, Protocol, Rewrite};
use crate::session::Endpoint;
use crate::wire::{Icmp, Ipv4, protocol};

/// Bytes of a quoted transport header that identify its flow (RFC 792).
const QUOTED_TRANSPORT_MIN: usize = 8;

/// The packet quoted by an ICMP error.
struct Quote {
    flow: Flow,
    src: Endpoint,
    dst: Endpoint,
    header_len: usize,
}

impl Nat {
    /// Translates an error that came from outside, or by hairpin, about a packet we sent.
    pub(crate) fn inbound_error(
        &mut self,
        packet: &mut Packet<'_>,
        header: Header,
        now: Nanos,
    ) -> Fate {
        let quote = match read(packet, header) {
            Ok(quote) => quote,
            Err(reason) => return reason.into(),
        };
        let id = self
            .sessions
            .find_inbound(quote.flow.protocol, quote.src, quote.dst);
        let Some(session) = id
            .and_then(|id| self.sessions.get(id))
            .filter(|session| session.deadline > now)
        else {
            let protocol = quote.flow.protocol;
            return match self.not_here(protocol, quote.src) {
                Some(outcome) => outcome.into(),
                None if self.may_be_hosts(protocol, quote.src) => Outcome::NotOurs.into(),
                None => Reason::IcmpErrorUnrelated.into(),
            };
        };
        edit_quote(session.back, End::Source, &quote, header, packet);
        session.back.apply_address(End::Destination, packet.bytes);
        self.counters.icmp_errors += 1;
        Fate {
            outcome: Outcome::Translated,
            session: id,
        }
    }

    /// Translates an error from an inside host, or from a router behind it, about a packet we
    /// delivered.
    pub(crate) fn outbound_error(
        &mut self,
        packet: &mut Packet<'_>,
        header: Header,
        now: Nanos,
    ) -> Fate {
        let quote = match read(packet, header) {
            Ok(quote) => quote,
            Err(reason) => return reason.into(),
        };
        let id = self
            .sessions
            .find_outbound(quote.flow.protocol, quote.dst, quote.src);
        let Some(session) = id
            .and_then(|id| self.sessions.get(id))
            .filter(|session| session.deadline > now)
        else {
            // It may be about what another slice delivered.
            let protocol = quote.flow.protocol;
            let elsewhere = self.leads_elsewhere(protocol, self.behind(protocol, quote.dst));
            return elsewhere.map_or(Reason::IcmpErrorUnrelated.into(), Fate::from);
        };
        // The quoted sender is whom the error is for: a port of ours if it was hairpinned.
        let Some(outcome) = self.way_out(header.dst, quote.flow.protocol, quote.src.1) else {
            return Reason::IcmpErrorUnrelated.into();
        };
        edit_quote(session.out, End::Destination, &quote, header, packet);
        // The outer source may be a router behind the host, so the session's difference does
        // not fit it; it appears as the host's own external address.
        let source = (header.src, 0);
        let outer = Rewrite::new(Protocol::Icmp, source, (session.external().0, 0));
        outer.apply_address(End::Source, packet.bytes);
        self.ids.renew(packet.bytes);
        self.counters.icmp_errors += 1;
        Fate {
            outcome,
            session: id,
        }
    }
}

/// Verifies an error and reads the packet it quotes.
fn read(packet: &Packet<'_>, header: Header) -> Result<Quote, Reason> {
    let bytes = &packet.bytes[header.header_len..header.total_len];
    let error = Icmp::parse(bytes).map_err(|_| Reason::Malformed)?;
    if !error.verify_checksum() {
        return Err(Reason::BadIcmpChecksum);
    }
    let inner = Ipv4::parse_quoted(error.body()).map_err(|_| Reason::IcmpErrorUnrelated)?;
    if !inner.verify_checksum() {
        return Err(Reason::BadIcmpChecksum);
    }
    // Sent to whom it concerns (nf_conntrack_inet_error), about a packet whose ports are quoted.
    let transport = inner.payload();
    if inner.src() != header.dst
        || inner.fragment_offset() != 0
        || transport.len() < QUOTED_TRANSPORT_MIN
    {
        return Err(Reason::IcmpErrorUnrelated);
    }
    let word = |at: usize| u16::from_be_bytes([transport[at], transport[at + 1]]);
    let ports = |protocol| Flow::new(protocol, word(0), word(2));
    let flow = match inner.protocol() {
        protocol::TCP => ports(Protocol::Tcp),
        protocol::UDP => ports(Protocol::Udp),
        protocol::SCTP => ports(Protocol::Sctp),
        protocol::ICMP => match classify_icmp(transport[0], word(Icmp::<&[u8]>::ID)) {
            Class::Request(flow) | Class::Reply(flow) => flow,
            Class::Flow(_) | Class::Error | Class::OtherIcmp(_) | Class::Foreign => {
                return Err(Reason::IcmpErrorUnrelated);
            }
        },
        protocol::UDP_LITE | protocol::DCCP => return Err(Reason::IcmpErrorUnrelated),
        other => Flow::new(Protocol::Other(other), 0, 0),
    };
    Ok(Quote {
        flow,
        src: (inner.src(), flow.src_port),
        dst: (inner.dst(), flow.dst_port),
        header_len: inner.header_len(),
    })
}

/// Edits one end of the quoted packet and brings the outer ICMP checksum in step.
fn edit_quote(rewrite: Rewrite, end: End, quote: &Quote, header: Header, packet: &mut Packet<'_>) {
    let message = &mut packet.bytes[header.header_len..header.total_len];
    let (fixed, inner) = message.split_at_mut(Icmp::<&[u8]>::HEADER_LEN);
    // All that an edit can touch: the quoted header and a TCP header's fixed part.
    let touched = inner.len().min(quote.header_len + 20);
    let inner = &mut inner[..touched];
    let before = checksum::fold(checksum::sum(inner));
    let (head, transport) = inner.split_at_mut(quote.header_len);
    rewrite.apply_address(end, head);
    rewrite.apply_port(end, quote.flow.protocol, transport, L4Sum::Full);
    let after = checksum::fold(checksum::sum(inner));
    if let Ok(mut outer) = Icmp::parse(fixed) {
        let field = outer.checksum();
        outer.set_checksum(checksum::update(field, before, after));
    }
}
