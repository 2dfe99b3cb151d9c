//! What every routed packet needs: time to live, next hop, a size that fits.

use std::net::Ipv4Addr;

use nat::wire::Ipv4;

use crate::config::GatewayView;
use crate::ethernet::{Arp, HEADER_BYTES};
use crate::frame::{Frame, Gso};
use crate::gso;
use crate::mac::Mac;
use crate::neigh::{Link, Neighbour, Request};
use crate::port::{NOWHERE, PortIndex};
use crate::trace::{Found, Gateway, HeldFor, Step, Tracer};
use crate::verdict::{DropReason, Verdict};

use super::{Context, Packet, To, address, icmp, tell};

/// Into the network: a packet whose destination is a member.
pub(super) fn into_network(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    way: icmp::Way,
    gateway: GatewayView,
) -> Verdict {
    if let Err(verdict) = check_ttl(ctx, frame, packet, way) {
        return verdict;
    }
    let hop = Hop {
        link: gateway.link(),
        address: packet.destination,
    };
    ctx.trace(|| Step::Route(hop, None));
    let mac = match resolve(ctx, frame, hop, way) {
        Ok(mac) => mac,
        Err(verdict) => return verdict,
    };
    let egress = ctx.fdb.lookup(gateway.network.0, mac, ctx.now);
    ctx.trace(|| Step::Lookup(mac, Found::at(mac, egress)));
    if egress.is_some_and(|egress| ctx.view.are_apart(frame.ingress, egress)) {
        return Verdict::Drop(DropReason::PortIsolated);
    }
    let mtu = egress_mtu(ctx, egress);
    if !fits(frame, packet, mtu) {
        tell(
            ctx,
            frame,
            way,
            icmp::Error::FragmentationNeeded { mtu: icmp_mtu(mtu) },
        );
        return Verdict::Drop(DropReason::MtuExceeded);
    }
    rewrite(ctx, frame, packet, (mac, gateway.mac));
    egress.map_or(Verdict::Flood, Verdict::Route)
}

/// The MTU of `egress`, or the smallest of all members' where the frame will be flooded.
pub(super) fn egress_mtu(ctx: &Context<'_, impl Tracer>, egress: Option<PortIndex>) -> u32 {
    match egress.and_then(|port| ctx.view.port(port)) {
        Some(port) => port.mtu,
        None => ctx.member_mtu_min,
    }
}

/// Refuses a packet that would die here, and tells its sender.
pub(super) fn check_ttl(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &Frame<'_>,
    packet: &Packet,
    way: icmp::Way,
) -> Result<(), Verdict> {
    if packet.ttl > 1 {
        return Ok(());
    }
    tell(ctx, frame, way, icmp::Error::TimeExceeded);
    Err(Verdict::Drop(DropReason::TtlExpired))
}

/// Takes one hop off the time to live, and gives the frame its new Ethernet addresses: destination
/// and source.
pub(super) fn rewrite(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    (destination, source): (Mac, Mac),
) {
    decrement_ttl(frame);
    address(frame, destination, source);
    ctx.trace(|| Step::Rewrite {
        ttl: packet.ttl.saturating_sub(1),
        destination,
        source,
    });
}

/// Takes one hop off the time to live (RFC 1812 5.3.1).
fn decrement_ttl(frame: &mut Frame<'_>) {
    let bytes = frame
        .bytes_mut()
        .get_mut(HEADER_BYTES..)
        .unwrap_or_default();
    if let Ok(mut ip) = Ipv4::parse(bytes) {
        ip.decrement_ttl();
    }
}

/// True if `frame` goes out on a link of `mtu` bytes whole, in the segments it is made of, or in
/// fragments where the sender allows them. A GSO frame is cut into segments of its own size, so it
/// is those that must fit; they are never fragmented.
pub(super) fn fits(frame: &Frame<'_>, packet: &Packet, mtu: u32) -> bool {
    let longest = gso::wire_len_max(frame.bytes(), frame.offload);
    u32::try_from(longest).is_ok_and(|longest| longest <= mtu)
        || (frame.offload.gso == Gso::None && !packet.dont_fragment)
}

/// An MTU as ICMP reports it.
pub(super) fn icmp_mtu(mtu: u32) -> u16 {
    u16::try_from(mtu).unwrap_or(u16::MAX)
}

/// A next hop: an address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// The link it is on.
    pub link: Link,
    /// Its address.
    pub address: Ipv4Addr,
}

/// The next hop's Ethernet address; or the frame's verdict: put to wait while the gateway asks for
/// it, or dropped and its sender told.
pub(super) fn resolve(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &Frame<'_>,
    hop: Hop,
    way: icmp::Way,
) -> Result<Mac, Verdict> {
    resolve_untold(ctx, frame, hop).inspect_err(|verdict| {
        if *verdict == Verdict::Drop(DropReason::NeighbourFailed) {
            tell(ctx, frame, way, icmp::Error::HostUnreachable);
        }
    })
}

/// As [`resolve`]; tells nobody.
pub(super) fn resolve_untold(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &Frame<'_>,
    hop: Hop,
) -> Result<Mac, Verdict> {
    if let Some((last, mac)) = ctx.last_hop
        && last == hop
    {
        return Ok(mac);
    }
    match ctx.neighbours.lookup(hop.link, hop.address, ctx.now) {
        // It answered this very moment, at another worker: the frames that wait here go first.
        Neighbour::Known(_) if ctx.hold.waits_for(hop) && wait(ctx, frame, hop) => {
            Err(Verdict::Hold)
        }
        Neighbour::Known(mac) => {
            ctx.last_hop = Some((hop, mac));
            Ok(mac)
        }
        Neighbour::Refresh(mac) => {
            ask(ctx, hop);
            Ok(mac)
        }
        Neighbour::Unknown => {
            let waits = ask(ctx, hop) && wait(ctx, frame, hop);
            let full = Verdict::Drop(DropReason::NeighbourQueueFull);
            Err(if waits { Verdict::Hold } else { full })
        }
        Neighbour::Failed => Err(Verdict::Drop(DropReason::NeighbourFailed)),
    }
}

/// Puts a copy of the frame to wait for `hop`. False where there is no room.
fn wait(ctx: &mut Context<'_, impl Tracer>, frame: &Frame<'_>, hop: Hop) -> bool {
    let tag = ctx.trace_tag(frame);
    let waits = ctx.hold.push(hop, frame, tag, ctx.now);
    if waits {
        ctx.trace(|| Step::Hold(HeldFor::Neighbour(hop)));
    }
    waits
}

/// Sends an ARP request for `hop`, if one is due. False where there is no room to keep track of it.
pub fn ask(ctx: &mut Context<'_, impl Tracer>, hop: Hop) -> bool {
    let known = match ctx.neighbours.request(hop.link, hop.address, ctx.now) {
        Request::NotDue => return true,
        Request::NoRoom => return false,
        Request::Unicast(mac) => Some(mac),
        Request::Broadcast => None,
    };
    let (mac, sender, to) = match (hop.link, ctx.view.gateway, &ctx.view.uplink) {
        (Link::Network(_), Some(gateway), _) => {
            (gateway.mac, gateway.address, To::Network(gateway.network))
        }
        (Link::Uplink, _, Some(uplink)) => (uplink.mac, uplink.address, To::Port(uplink.port)),
        (Link::Network(_), None, _) | (Link::Uplink, _, None) => return false,
    };
    let request = Arp::request(mac, sender, hop.address, known);
    ctx.origin.push(to, &request, NOWHERE);
    ctx.trace_made();
    ctx.trace(|| Step::Gateway(Gateway::Asked(hop)));
    true
}
