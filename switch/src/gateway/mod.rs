//! The gateway: what happens to frames sent to its Ethernet address, and to the uplink's.
//!
//! # Theory of operation
//!
//! The switch owns one address per network and one Ethernet address. A member's frame for that
//! Ethernet address is a packet to be routed ([`inside`]):
//!
//! ```text
//! to the gateway's own address      echo answered in place; the rest to the host port
//! to an address of the host         to the host port, untouched (as docker0 does)
//! to a NAT or published port of it  turned round, to the member behind that port
//! to a member of the network        back into the network (TTL - 1)
//! to anywhere else                  translated, TTL - 1, to the next hop on the uplink
//! ```
//!
//! A frame from the uplink ([`outside`]) is never bridged. It is for an external address, and
//! translated back to a member, or it is the host's own and left alone. Networks may be named that
//! members and they speak to each other as they are.
//!
//! A session belongs to one worker. What comes to another is handed over untouched, into a later
//! stage than it has, and is not checked twice: a member's packet to the worker that translates for
//! its port; from there what a published port answers to the worker that keeps that port; a packet
//! by way of an external address, or from the uplink, to the owner of its port.
//!
//! Example, with the host's 192.0.2.10 shared, network 10.77.0.0/24 and NAT ports 40000-65535:
//!
//! ```text
//! veth1 > 10.77.0.11:40122 > 1.1.1.1:443  ttl 64
//!       > 192.0.2.10:40122 > 1.1.1.1:443  ttl 63   to the router's Ethernet address, on eth0
//! eth0  < 1.1.1.1:443 > 192.0.2.10:40122  ttl 55
//!       < 1.1.1.1:443 > 10.77.0.11:40122  ttl 54   to the container's Ethernet address, on veth1
//! ```
//!
//! Order matters: what may refuse a packet and tell its sender (TTL, route, neighbour, MTU) comes
//! before the translation, so that an ICMP error quotes what the sender sent, and a packet that
//! waits for ARP waits untranslated.
//!
//! Not here: IPv6 (switched, not routed), multicast routing, redirects (never sent).

mod arp;
pub mod icmp;
mod local;
mod offer;
mod outside;
mod route;
mod translate;

use std::net::Ipv4Addr;

use nat::wire::{Ipv4, protocol};
use nat::{Nanos, Nat};

use crate::config::{GatewayView, NetworkIndex, View};
use crate::ethernet::{self, ARP, Ethernet, HEADER_BYTES, IPV4};
use crate::fdb::Fdb;
use crate::frame::{Frame, Offload, OwnedFrame};
use crate::hold::Hold;
use crate::neigh::Neighbours;
use crate::port::PortIndex;
use crate::stations::Stations;
use crate::trace::{Gateway, Off, Step, Tracer};
use crate::verdict::{DropReason, Verdict};

pub use arp::{announce, overheard};
pub use local::for_host;
pub use offer::{Offer, Offers, still_holds};
pub use outside::{deliver_held, hairpinned, outside};
pub use route::{Hop, ask};
pub use translate::{Released, owned, released, sourced};

/// Where a frame that the gateway made goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum To {
    /// One port.
    Port(PortIndex),
    /// Every port of a network.
    Network(NetworkIndex),
}

/// Frames the gateway made, to be sent after the batch.
#[derive(Debug)]
pub struct Origin {
    /// The frames and where they go.
    pub frames: Vec<(To, OwnedFrame)>,
    limiter: icmp::Limiter,
    ip_id: u16,
}

impl Origin {
    /// None yet.
    #[must_use]
    pub const fn new(now: Nanos) -> Self {
        Self {
            frames: Vec::new(),
            limiter: icmp::Limiter::new(now),
            ip_id: 1,
        }
    }

    /// None yet, under the same limits: what a frame that is tried would have made goes there.
    pub(crate) fn twin(&self) -> Self {
        Self {
            frames: Vec::new(),
            limiter: self.limiter.clone(),
            ip_id: self.ip_id,
        }
    }

    /// What the next packet depends on: its identification, and when all tokens of the limits of
    /// ICMP errors will be back.
    #[must_use]
    pub fn standing(&self) -> (u16, Vec<Nanos>) {
        (self.ip_id, self.limiter.moments())
    }

    /// Goes on from where another one stood.
    pub fn go_on_from(&mut self, ip_id: u16, moments: &[Nanos]) {
        self.ip_id = ip_id;
        self.limiter.set_moments(moments);
    }

    fn push(&mut self, to: To, bytes: &[u8], from: PortIndex) {
        self.frames
            .push((to, OwnedFrame::new(bytes, Offload::PLAIN, from)));
    }
}

/// What the pipeline works on: the tables shared by all workers, and this worker's own state.
pub struct Context<'c, T = Off> {
    /// The configuration, fixed for the batch.
    pub view: &'c View,
    /// The forwarding table.
    pub fdb: &'c Fdb,
    /// The gateway's neighbours.
    pub neighbours: &'c Neighbours,
    /// This worker's sessions; `None` without an uplink.
    pub nat: Option<&'c mut Nat>,
    /// Frames waiting for a neighbour.
    pub hold: &'c mut Hold,
    /// Frames made here.
    pub origin: &'c mut Origin,
    /// What may go by the fast path.
    pub offers: &'c mut Offers,
    /// What is told of stations.
    pub stations: &'c mut Stations,
    /// The index of this worker, and of its slice of NAT ports.
    pub worker: u16,
    /// The smallest MTU of any port but the uplink, in bytes: [`View::member_mtu_min`].
    pub member_mtu_min: u32,
    /// The last next hop looked up in this batch and found reachable: packets come in trains.
    /// Forgotten when a neighbour is heard.
    pub last_hop: Option<(Hop, crate::mac::Mac)>,
    /// The time, read once for the batch.
    pub now: Nanos,
    /// Whether the frames' ways are traced, and where to.
    pub tracer: T,
}

/// Decides a member's frame for the gateway's Ethernet address.
// Out of line: what the switch alone decides is quicker for not sharing its registers.
#[inline(never)]
pub fn inside(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    ethernet: Ethernet,
    gateway: GatewayView,
) -> Verdict {
    match ethernet.ethertype {
        IPV4 => packet_from_inside(ctx, frame, ethernet, gateway),
        ARP => arp::inside(ctx, frame, gateway),
        _ => Verdict::Drop(DropReason::UnhandledProtocol),
    }
}

/// Goes on with a member's packet that the worker which received it handed over, because this one
/// translates for the member's port. The source was learned there: to learn it again, later, could
/// move a station back that has moved on meanwhile.
// Out of line: a frame comes here once in a while, and would share the registers of all others.
#[inline(never)]
pub fn inside_again(ctx: &mut Context<'_, impl Tracer>, frame: &mut Frame<'_>) -> Verdict {
    let view = ctx.view;
    let Some(port) = view.port(frame.ingress) else {
        return Verdict::Drop(DropReason::NoEgress);
    };
    let gateway = (view.gateway).filter(|gateway| gateway.network == port.network);
    match (gateway, ethernet::parse(frame.bytes())) {
        (Some(gateway), Some(ethernet)) => inside(ctx, frame, ethernet, gateway),
        // The gateway went while the frame was on its way.
        (None, _) | (_, None) => Verdict::Drop(DropReason::NoEgress),
    }
}

fn packet_from_inside(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    ethernet: Ethernet,
    gateway: GatewayView,
) -> Verdict {
    let checked = Packet::check(frame);
    let packet = match &checked {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Drop(*reason),
    };
    let (source, destination) = (packet.source, packet.destination);
    let legal_source = gateway.contains(source)
        && source != gateway.address
        && source != gateway.broadcast()
        && icmp::is_host(source);
    if !legal_source {
        return Verdict::Drop(DropReason::IpSource);
    }
    let way = way_inside(ethernet, gateway);
    if destination == gateway.address {
        return local::gateway(ctx, frame, packet, way);
    }
    if !icmp::is_host(destination) || destination == gateway.broadcast() {
        return Verdict::Drop(DropReason::IpDestination);
    }
    if let Some(verdict) = local::host_address(ctx, frame, packet, way) {
        return verdict;
    }
    if gateway.contains(destination) {
        return route::into_network(ctx, frame, packet, way, gateway);
    }
    translate::out(ctx, frame, packet, way)
}

/// What routing needs to know of an IPv4 packet that has been checked. It is handed on by
/// reference: to copy what has just been written field by field is slow.
#[derive(Debug)]
struct Packet {
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: u8,
    ttl: u8,
    header_bytes: usize,
    dont_fragment: bool,
    /// A fragment, first or later.
    fragment: bool,
}

impl Packet {
    /// Checks the header as RFC 1812 5.2.2 asks.
    fn check(frame: &Frame<'_>) -> Result<Self, DropReason> {
        let bytes = frame.bytes().get(HEADER_BYTES..).unwrap_or_default();
        let ip = Ipv4::parse(bytes).map_err(|_| DropReason::IpHeader)?;
        if !ip.verify_checksum() {
            return Err(DropReason::IpCsum);
        }
        if has_source_route(ip.options()) {
            return Err(DropReason::IpSourceRoute);
        }
        Ok(Self {
            source: ip.src(),
            destination: ip.dst(),
            protocol: ip.protocol(),
            ttl: ip.ttl(),
            header_bytes: ip.header_len(),
            dont_fragment: ip.dont_fragment(),
            fragment: ip.is_fragment(),
        })
    }

    /// True for a whole echo request.
    fn is_echo_request(&self, frame: &Frame<'_>) -> bool {
        self.protocol == protocol::ICMP
            && !self.fragment
            && icmp::is_echo_request(
                frame
                    .bytes()
                    .get(HEADER_BYTES + self.header_bytes..)
                    .unwrap_or_default(),
            )
    }
}

/// Loose (131) and strict (137) source routes, which let a sender choose the way (RFC 7126 4.3).
fn has_source_route(mut options: &[u8]) -> bool {
    while let [kind, rest @ ..] = options {
        options = match kind {
            0 => return false,
            1 => rest,
            131 | 137 => return true,
            _ => match rest.first() {
                Some(len) if *len >= 2 => options.get(usize::from(*len)..).unwrap_or_default(),
                _ => return false,
            },
        };
    }
    false
}

/// The way back to the sender of a frame from a member.
const fn way_inside(ethernet: Ethernet, gateway: GatewayView) -> icmp::Way {
    icmp::Way {
        source_mac: gateway.mac,
        destination_mac: ethernet.source,
        source: gateway.address,
    }
}

/// Tells the sender of `frame` about `error`, if it may be told and the rate allows it.
fn tell(ctx: &mut Context<'_, impl Tracer>, frame: &Frame<'_>, way: icmp::Way, error: icmp::Error) {
    let packet = frame.bytes().get(HEADER_BYTES..).unwrap_or_default();
    tell_about(ctx, packet, frame.ingress, way, error);
}

/// As [`tell`], about a packet kept aside. The answer leaves by the port the packet came in on.
fn tell_about(
    ctx: &mut Context<'_, impl Tracer>,
    packet: &[u8],
    ingress: PortIndex,
    way: icmp::Way,
    error: icmp::Error,
) {
    // Whom nothing may be told costs nobody else a token.
    let admitted = icmp::addressee(packet)
        .is_some_and(|addressee| ctx.origin.limiter.admit(addressee, ctx.now));
    if !admitted {
        return;
    }
    let id = ctx.origin.ip_id;
    if let Some(bytes) = icmp::error(packet, error, way, id) {
        ctx.origin.ip_id = id.wrapping_add(1);
        ctx.origin.push(To::Port(ingress), &bytes, ingress);
        ctx.trace_made();
        ctx.trace(|| Step::Gateway(Gateway::Told(error)));
    }
}

/// Gives `frame` its next hop's addresses.
fn address(frame: &mut Frame<'_>, destination: crate::mac::Mac, source: crate::mac::Mac) {
    ethernet::set_addresses(frame.bytes_mut(), destination, source);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_6_source_routes_are_found_among_options_of_any_shape() {
        for (options, found) in [
            (&[][..], false),
            (&[1, 1, 131, 3, 4], true),
            (&[68, 4, 0, 0, 137, 7], true),
            // Behind the end of the list nothing counts.
            (&[0, 131, 3, 4], false),
            // Lengths that lead nowhere, or beyond.
            (&[7, 0, 131, 3], false),
            (&[7, 1, 131, 3], false),
            (&[7, 200, 131, 3], false),
            (&[7], false),
        ] {
            assert_eq!(has_source_route(options), found, "{options:?}");
        }
    }
}
