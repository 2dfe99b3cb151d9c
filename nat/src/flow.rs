//! What a packet is to the engine: a session's packet, an ICMP error, or neither.

use std::net::Ipv4Addr;

use crate::outcome::Reason;
use crate::rewrite::Protocol;
use crate::sctp::{Event, What};
use crate::tcp::Segment;
use crate::wire::{Icmp, Ipv4, Sctp, Tcp, TransportError, Udp, icmp, protocol};

/// The fields of an IPv4 header that the engine decides by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) protocol: u8,
    pub(crate) header_len: usize,
    pub(crate) total_len: usize,
    pub(crate) is_fragment: bool,
}

impl Header {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let ip = Ipv4::parse(bytes).map_err(|_| Reason::Malformed)?;
        Ok(Self {
            src: ip.src(),
            dst: ip.dst(),
            protocol: ip.protocol(),
            header_len: ip.header_len(),
            total_len: ip.total_len(),
            is_fragment: ip.is_fragment(),
        })
    }
}

/// The ports of a packet, or what stands for them in a query: see [`Class`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) protocol: Protocol,
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    /// What a TCP segment does; `None` if its flags are invalid, or this is not TCP.
    pub(crate) segment: Option<Segment>,
    /// What an SCTP packet does; `None` if this is not SCTP.
    pub(crate) event: Option<Event>,
}

impl Flow {
    /// A flow of a protocol without states.
    pub(crate) fn new(protocol: Protocol, src_port: u16, dst_port: u16) -> Self {
        Self {
            protocol,
            src_port,
            dst_port,
            segment: None,
            event: None,
        }
    }

    /// Returns whether an outsider may begin a session so: TCP by a SYN only, and SCTP by an INIT.
    pub(crate) fn begins(&self) -> bool {
        self.segment.is_none_or(|segment| segment == Segment::Syn)
            && self.event.is_none_or(|event| event.what == What::Init)
    }
}

/// What the transport header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// TCP, UDP, SCTP, or a protocol without ports, whose ports are then 0.
    Flow(Flow),
    /// An ICMP query: its identifier is the source port, its type the destination port.
    Request(Flow),
    /// The answer to a query: the request's type is the source port, the identifier the
    /// destination port.
    Reply(Flow),
    /// An ICMP error that a NAT relays (RFC 5508 section 7).
    Error,
    /// An ICMP message that is not relayed.
    OtherIcmp(u8),
    /// A protocol that is not translated: its checksum covers the addresses, at a place of its own.
    Foreign,
}

/// Reads the transport header.
pub(crate) fn classify(header: Header, payload: &[u8]) -> Result<Class, Reason> {
    let cut = |_: TransportError| {
        if header.is_fragment {
            Reason::FragmentTiny
        } else {
            Reason::Malformed
        }
    };
    match header.protocol {
        protocol::TCP => {
            let tcp = Tcp::parse(payload).map_err(cut)?;
            Ok(Class::Flow(Flow {
                segment: Segment::of(tcp.flags()),
                ..Flow::new(Protocol::Tcp, tcp.src_port(), tcp.dst_port())
            }))
        }
        protocol::UDP => {
            let udp = Udp::parse(payload).map_err(cut)?;
            let length = usize::from(udp.length());
            // The rest of a fragmented datagram is elsewhere.
            if length < Udp::<&[u8]>::HEADER_LEN || (length > payload.len() && !header.is_fragment)
            {
                return Err(Reason::Malformed);
            }
            let (src_port, dst_port) = (udp.src_port(), udp.dst_port());
            Ok(Class::Flow(Flow::new(Protocol::Udp, src_port, dst_port)))
        }
        protocol::ICMP => {
            let message = Icmp::parse(payload).map_err(cut)?;
            Ok(classify_icmp(message.kind(), message.id()))
        }
        protocol::SCTP => {
            let sctp = Sctp::parse(payload).map_err(cut)?;
            Ok(Class::Flow(Flow {
                event: Some(Event::of(&sctp)),
                ..Flow::new(Protocol::Sctp, sctp.src_port(), sctp.dst_port())
            }))
        }
        protocol::UDP_LITE | protocol::DCCP => Ok(Class::Foreign),
        other => Ok(Class::Flow(Flow::new(Protocol::Other(other), 0, 0))),
    }
}

/// Sorts ICMP messages; a reply is filed under its request's type.
pub(crate) fn classify_icmp(kind: u8, id: u16) -> Class {
    let query = |src_port, dst_port| Flow::new(Protocol::Icmp, src_port, dst_port);
    match kind {
        icmp::ECHO_REQUEST | icmp::TIMESTAMP_REQUEST => Class::Request(query(id, kind.into())),
        icmp::ECHO_REPLY => Class::Reply(query(icmp::ECHO_REQUEST.into(), id)),
        icmp::TIMESTAMP_REPLY => Class::Reply(query(icmp::TIMESTAMP_REQUEST.into(), id)),
        icmp::DEST_UNREACHABLE | icmp::TIME_EXCEEDED | icmp::PARAMETER_PROBLEM => Class::Error,
        other => Class::OtherIcmp(other),
    }
}
