//! From outside to inside: frames of the uplink.

use arrayvec::ArrayVec;
use nat::{Direction, Outcome};

use crate::config::{Role, UplinkView};
use crate::ethernet::{ARP, Ethernet, HEADER_BYTES, IPV4};
use crate::frame::{Frame, Stage};
use crate::trace::{Found, Step, Tracer};
use crate::verdict::{DropReason, Verdict};

use super::offer::offer;
use super::route::{self, Hop};
use super::{Context, Packet, arp, icmp, local, tell_about, translate};

/// Bytes of a packet kept aside before it is translated, to be quoted should it not fit: what an
/// ICMP error of 576 bytes quotes.
const QUOTE_BYTES: usize = 548;

/// Decides a frame that came in on the uplink, or was handed over by the worker it came in on.
pub fn outside(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    ethernet: Ethernet,
) -> Verdict {
    let Some(uplink) = &ctx.view.uplink else {
        return Verdict::Drop(DropReason::UplinkDown);
    };
    if ethernet.destination != uplink.mac
        && (ethernet.ethertype != ARP || !ethernet.destination.is_group())
    {
        return Verdict::Drop(DropReason::OtherHost);
    }
    match ethernet.ethertype {
        IPV4 => packet_from_outside(ctx, frame, ethernet, uplink),
        ARP => arp::outside(ctx, frame, uplink),
        _ => Verdict::Drop(DropReason::UnhandledProtocol),
    }
}

fn packet_from_outside(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    ethernet: Ethernet,
    uplink: &UplinkView,
) -> Verdict {
    let checked = Packet::check(frame);
    let packet = match &checked {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Drop(*reason),
    };
    let as_it_is = !uplink.is_external(packet.destination);
    if as_it_is && !may_come_as_it_is(ctx, packet, uplink) {
        let host = ctx.view.host.owns(packet.destination);
        let reason = if host {
            DropReason::HostTraffic
        } else {
            DropReason::OtherHost
        };
        return Verdict::Drop(reason);
    }
    let way = icmp::Way {
        source_mac: uplink.mac,
        destination_mac: ethernet.source,
        source: if as_it_is {
            uplink.address
        } else {
            packet.destination
        },
    };
    let is_own = uplink.owns(packet.destination);
    if is_own && packet.is_echo_request(frame) {
        return local::echo(ctx, frame, packet, way);
    }
    let quote = quote(ctx, frame, packet);
    ctx.trace_before_nat(frame);
    let outcome = match &mut ctx.nat {
        _ if as_it_is => Outcome::Translated,
        Some(nat) => nat.inbound(&mut translate::ip(frame, packet), ctx.now),
        // Without NAT the uplink's own address is the host's.
        None => Outcome::NotOurs,
    };
    if !as_it_is {
        ctx.trace_nat(frame, Direction::Inbound, outcome);
    }
    if is_own && outcome == Outcome::NotOurs {
        // Nobody else has this address: what is not the NAT's is nobody's.
        return Verdict::Drop(DropReason::NatUnsolicited);
    }
    unfinished(ctx, frame, outcome).unwrap_or_else(|| deliver(ctx, frame, way, &quote))
}

/// Whether a packet for another than an external address is let in to a member as it is: without
/// NAT the uplink's routers know the network, and with it hosts may be named that do. They reach
/// members and nothing else, and nobody outside is a member.
fn may_come_as_it_is(ctx: &Context<'_, impl Tracer>, packet: &Packet, uplink: &UplinkView) -> bool {
    let is_let_in = ctx.nat.is_none() || uplink.is_untranslated(packet.source);
    is_let_in
        && ctx.view.gateway.is_some_and(|gateway| {
            gateway.contains(packet.destination)
                && packet.destination != gateway.address
                && packet.destination != gateway.broadcast()
                && !gateway.contains(packet.source)
        })
}

/// The verdict of a packet towards a member, unless it was translated and goes on.
fn unfinished(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    outcome: Outcome,
) -> Option<Verdict> {
    Some(match outcome {
        Outcome::Translated => return None,
        Outcome::Elsewhere { owner } | Outcome::Hairpin { owner } => {
            translate::hand_over(ctx, frame, Stage::Outside, owner)
        }
        Outcome::Held => Verdict::Hold,
        Outcome::NotOurs => Verdict::Drop(DropReason::HostTraffic),
        Outcome::Drop(reason) => Verdict::Drop(translate::drop_reason(reason)),
    })
}

/// Takes a packet between two members that goes by way of the external address (RFC 4787 REQ-9)
/// through the second half of its way.
pub fn hairpinned(ctx: &mut Context<'_, impl Tracer>, frame: &mut Frame<'_>) -> Verdict {
    let checked = Packet::check(frame);
    let packet = match &checked {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Drop(*reason),
    };
    ctx.trace_before_nat(frame);
    let outcome = match &mut ctx.nat {
        Some(nat) => nat.hairpin(&mut translate::ip(frame, packet), ctx.now),
        None => return Verdict::Drop(DropReason::UplinkDown),
    };
    ctx.trace_nat(frame, Direction::Hairpin, outcome);
    unfinished(ctx, frame, outcome).unwrap_or_else(|| deliver_held(ctx, frame))
}

/// Sends a packet whose destination is translated already on to its member: one that waited for
/// the member's Ethernet address, or came by way of the external address.
// Out of line: a frame comes here once in a while, and would share the registers of all others.
#[inline(never)]
pub fn deliver_held(ctx: &mut Context<'_, impl Tracer>, frame: &mut Frame<'_>) -> Verdict {
    let Some(uplink) = &ctx.view.uplink else {
        return Verdict::Drop(DropReason::UplinkDown);
    };
    // The packet as it was is gone, and the next hop back may be a member: nobody is told.
    let way = icmp::Way {
        source_mac: uplink.mac,
        destination_mac: uplink.mac,
        source: uplink.address,
    };
    deliver(ctx, frame, way, &[])
}

/// Sends a translated packet on to its member.
fn deliver(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    way: icmp::Way,
    quote: &[u8],
) -> Verdict {
    let checked = Packet::check(frame);
    let packet = match &checked {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Drop(*reason),
    };
    let Some(gateway) = ctx.view.gateway else {
        return Verdict::Drop(DropReason::NoRoute);
    };
    frame.stage = Stage::Translated;
    let tellable = !quote.is_empty();
    if packet.ttl <= 1 {
        if tellable {
            tell_about(ctx, quote, frame.ingress, way, icmp::Error::TimeExceeded);
        }
        return Verdict::Drop(DropReason::TtlExpired);
    }
    let hop = Hop {
        link: gateway.link(),
        address: packet.destination,
    };
    ctx.trace(|| Step::Route(hop, None));
    let mac = match route::resolve_untold(ctx, frame, hop) {
        Ok(mac) => mac,
        Err(verdict) => return verdict,
    };
    let egress = ctx.fdb.lookup(gateway.network.0, mac, ctx.now);
    ctx.trace(|| Step::Lookup(mac, Found::at(mac, egress)));
    let mtu = route::egress_mtu(ctx, egress);
    if !route::fits(frame, packet, mtu) {
        if tellable {
            let error = icmp::Error::FragmentationNeeded {
                mtu: route::icmp_mtu(mtu),
            };
            tell_about(ctx, quote, frame.ingress, way, error);
        }
        return Verdict::Drop(DropReason::MtuExceeded);
    }
    clamp_mss(ctx, frame, packet, mtu);
    if let Some(egress) = egress {
        offer(ctx, frame, packet, (egress, mtu), (mac, gateway.mac));
    }
    route::rewrite(ctx, frame, packet, (mac, gateway.mac));
    egress.map_or(Verdict::Flood, Verdict::Route)
}

/// Lowers what a handshake from the uplink offers, for a member whose link takes `mtu` bytes.
fn clamp_mss(ctx: &Context<'_, impl Tracer>, frame: &mut Frame<'_>, packet: &Packet, mtu: u32) {
    let from = ctx.view.port(frame.ingress);
    if let (Some(uplink), Some(from)) = (&ctx.view.uplink, from)
        && uplink.mss_clamp
        && from.role == Role::Uplink
    {
        translate::clamp_mss(frame, packet, mtu.min(from.mtu));
    }
}

/// The head of a packet as it is before translation; empty where no error can come of it.
fn quote(
    ctx: &Context<'_, impl Tracer>,
    frame: &Frame<'_>,
    packet: &Packet,
) -> ArrayVec<u8, QUOTE_BYTES> {
    let mut quote = ArrayVec::new();
    let safe = packet.ttl > 1 && route::fits(frame, packet, ctx.member_mtu_min);
    if !safe {
        let bytes = frame.bytes().get(HEADER_BYTES..).unwrap_or_default();
        quote.extend(bytes.iter().copied().take(QUOTE_BYTES));
    }
    quote
}
