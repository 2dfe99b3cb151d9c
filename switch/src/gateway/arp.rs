//! ARP on both sides (RFC 826, RFC 5227).

use crate::config::{GatewayView, Role, UplinkView};
use crate::ethernet::{self, Arp, ArpOperation, HEADER_BYTES};
use crate::frame::Frame;
use crate::mac::Mac;
use crate::neigh::{Confirmed, Link};
use crate::port::NOWHERE;
use crate::trace::{Gateway, Step, Tracer};
use crate::verdict::{DropReason, Verdict};

use super::{Context, To};

/// An ARP packet sent to the gateway's own Ethernet address: an answer to a request of ours or of
/// the host's, or a unicast probe.
pub(super) fn inside(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    gateway: GatewayView,
) -> Verdict {
    let Some(arp) = heard(ctx, frame) else {
        return Verdict::Drop(DropReason::ArpInvalid);
    };
    if let Some(verdict) = overheard(ctx, frame, gateway) {
        return verdict;
    }
    if arp.operation == ArpOperation::Reply && gateway.contains(arp.sender) {
        ctx.neighbours
            .confirm(gateway.link(), arp.sender, arp.sender_mac, ctx.now);
    }
    // The host asks with the same addresses, so the answer may be for it.
    match ctx.view.host.port {
        Some(port) if port != frame.ingress => {
            ctx.trace(|| Step::Gateway(Gateway::ToHost(port)));
            Verdict::Forward(port)
        }
        Some(_) | None => Verdict::Absorb,
    }
}

/// Any ARP packet of a member's: requests for the gateway are answered in place, claims to its
/// address are dropped (RFC 5227 2.4), and an address that is already known follows its new
/// Ethernet address at once, so that a re-created container is reached without a time-out. `None`
/// leaves the frame to the switch: probes, announcements and ARP of other kinds go their way like
/// any frame.
pub fn overheard(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    gateway: GatewayView,
) -> Option<Verdict> {
    let arp = heard(ctx, frame)?;
    let from_host = ctx
        .view
        .port(frame.ingress)
        .is_some_and(|port| port.role == Role::Host);
    if from_host {
        return None;
    }
    if arp.sender == gateway.address {
        return Some(Verdict::Drop(DropReason::ArpInvalid));
    }
    let asks_gateway = arp.operation == ArpOperation::Request && arp.target == gateway.address;
    // An unspecified sender probes for a duplicate (RFC 5227 2.1.1): answered, but never learned.
    if gateway.contains(arp.sender) && arp.sender_mac.is_station() {
        let (link, now) = (gateway.link(), ctx.now);
        if asks_gateway {
            ctx.neighbours
                .confirm(link, arp.sender, arp.sender_mac, now);
        } else {
            ctx.neighbours.update(link, arp.sender, arp.sender_mac, now);
        }
    }
    if !asks_gateway {
        return None;
    }
    answer(ctx, frame, arp, gateway.mac);
    Some(Verdict::Answer)
}

/// Tells all stations who the gateway is (RFC 5227 2.3): those that knew another one, a bridge's
/// or that of a switch that ran before, follow at once. On the uplink too, for the addresses there
/// that are the switch's own.
pub fn announce(ctx: &mut Context<'_, impl Tracer>) {
    if let Some(gateway) = ctx.view.gateway {
        let claim = Arp::request(gateway.mac, gateway.address, gateway.address, None);
        ctx.origin
            .push(To::Network(gateway.network), &claim, NOWHERE);
    }
    let Some(uplink) = &ctx.view.uplink else {
        return;
    };
    for address in uplink.externals().filter(|it| uplink.owns(*it)) {
        let claim = Arp::request(uplink.mac, address, address, None);
        ctx.origin.push(To::Port(uplink.port), &claim, NOWHERE);
    }
}

/// An ARP packet from the uplink.
pub(super) fn outside(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    uplink: &UplinkView,
) -> Verdict {
    let Some(arp) = heard(ctx, frame) else {
        return Verdict::Drop(DropReason::ArpInvalid);
    };
    if uplink.owns(arp.sender) {
        return Verdict::Drop(DropReason::ArpInvalid);
    }
    let asks_us = arp.operation == ArpOperation::Request && uplink.is_external(arp.target);
    let is_own = uplink.owns(arp.target);
    let known = if arp.sender.is_unspecified() || !arp.sender_mac.is_station() {
        Confirmed::Refused
    } else if is_own && asks_us {
        ctx.neighbours
            .confirm(Link::Uplink, arp.sender, arp.sender_mac, ctx.now)
    } else {
        ctx.neighbours
            .update(Link::Uplink, arp.sender, arp.sender_mac, ctx.now)
    };
    match arp.operation {
        ArpOperation::Request if asks_us && is_own => {
            answer(ctx, frame, arp, uplink.mac);
            Verdict::Answer
        }
        ArpOperation::Request if asks_us => Verdict::Drop(DropReason::HostTraffic),
        ArpOperation::Request => Verdict::Drop(DropReason::OtherHost),
        ArpOperation::Reply if known != Confirmed::Refused => Verdict::Absorb,
        ArpOperation::Reply => Verdict::Drop(DropReason::HostTraffic),
    }
}

/// Takes note that neighbours may change with this packet.
fn heard(ctx: &mut Context<'_, impl Tracer>, frame: &Frame<'_>) -> Option<Arp> {
    ctx.last_hop = None;
    let arp = Arp::parse(frame.bytes().get(HEADER_BYTES..)?)?;
    ctx.trace(|| Step::Gateway(Gateway::ArpHeard(arp.sender)));
    Some(arp)
}

/// Turns a request into its reply in place: unicast, from `mac` for the address asked for.
fn answer(ctx: &mut Context<'_, impl Tracer>, frame: &mut Frame<'_>, arp: Arp, mac: Mac) {
    ctx.trace(|| Step::Gateway(Gateway::ArpAnswered(arp.target)));
    let reply = Arp {
        operation: ArpOperation::Reply,
        sender_mac: mac,
        sender: arp.target,
        target_mac: arp.sender_mac,
        target: arp.sender,
    };
    let bytes = frame.bytes_mut();
    ethernet::set_addresses(bytes, arp.sender_mac, mac);
    if let Some(packet) = bytes.get_mut(HEADER_BYTES..HEADER_BYTES + ethernet::ARP_BYTES) {
        packet.copy_from_slice(&reply.to_bytes());
    }
}
