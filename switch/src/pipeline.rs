//! From frames to verdicts: the whole decision, with no system call, no allocation on the usual
//! path and no clock.

use std::net::Ipv4Addr;
use std::ops::Range;

use arrayvec::ArrayVec;
use nat::{Direction, Nat};

use crate::config::{GatewayView, NetworkIndex, PortView, Role, View};
use crate::ethernet::{self, ARP, Ethernet, HEADER_BYTES, IPV4};
use crate::fdb::Learned;
use crate::frame::{Batch, Frame, Stage};
use crate::gateway::{self, Context};
use crate::limits::BATCH_FRAMES_MAX;
use crate::mac::Mac;
use crate::port::PortIndex;
use crate::port::sys::prefetch::prefetch;
use crate::trace::{Found, Step, Tracer};
use crate::verdict::{DropReason, Verdict};

/// Where an IPv4 header has its source address (RFC 791 3.1).
const IP_SOURCE: Range<usize> = 12..16;

/// The verdicts of a batch, in the order of its frames.
pub type Verdicts = ArrayVec<Verdict, BATCH_FRAMES_MAX>;

/// Decides every frame of `batch`.
pub fn process(ctx: &mut Context<'_, impl Tracer>, batch: &mut Batch<'_>) -> Verdicts {
    if ctx.fdb.outgrows_cache() {
        announce(ctx, batch);
    }
    if let Some(nat) = ctx.nat.as_deref_mut()
        && nat.waits_for_memory()
    {
        announce_sessions(nat, ctx.view, batch);
    }
    let mut memo = Memo::default();
    let decided = batch.iter_mut().map(|frame| {
        ctx.trace_begin(frame);
        let verdict = decide(ctx, frame, &mut memo);
        ctx.trace_end(verdict);
        verdict
    });
    decided.collect()
}

/// What the forwarding table said of the last frame of the batch. Frames come in trains from one
/// station to another, and within a batch the time stands still: for a source heard on the same
/// port a moment ago there is nothing to learn, and its destination is where it was, unless
/// something was learned since. (Another worker may have learned something; then this batch and
/// that one crossed, as they may.)
#[derive(Default)]
struct Memo {
    source: Option<(PortIndex, Mac)>,
    egress: Option<(NetworkIndex, Mac, PortIndex)>,
}

/// Has the table's entries of all frames fetched before the first is looked up.
fn announce(ctx: &Context<'_, impl Tracer>, batch: &Batch<'_>) {
    const ADDRESSES: usize = 2 * BATCH_FRAMES_MAX;
    let stations = batch.iter().flat_map(|frame| {
        let port = ctx.view.port(frame.ingress);
        let network = port.map_or(0, |port| port.network.0);
        let ethernet = ethernet::parse(frame.bytes());
        ethernet
            .into_iter()
            .flat_map(move |it| [(network, it.source), (network, it.destination)])
    });
    ctx.fdb.announce::<ADDRESSES>(stations);
}

/// Has the sessions of all frames that go through the NAT fetched before the first is looked up:
/// of a million, at random, a packet's costs 110 ns so and 700 ns otherwise.
fn announce_sessions(nat: &mut Nat, view: &View, batch: &Batch<'_>) {
    let packets = batch.iter().filter_map(|frame| {
        let ethernet = ethernet::parse(frame.bytes())?;
        let direction = match view.port(frame.ingress)?.role {
            Role::Uplink => Direction::Inbound,
            Role::Member => Direction::Outbound,
            Role::Host => return None,
        };
        let gateway = view.gateway?;
        let is_routed = direction == Direction::Inbound || ethernet.destination == gateway.mac;
        let packet = frame.bytes().get(HEADER_BYTES..)?;
        (is_routed && ethernet.ethertype == IPV4).then_some((packet, direction))
    });
    nat.announce(packets, prefetch);
}

/// Decides one frame. A frame the gateway takes up is rewritten in place.
fn decide(ctx: &mut Context<'_, impl Tracer>, frame: &mut Frame<'_>, memo: &mut Memo) -> Verdict {
    match frame.stage {
        Stage::Arrived => arrived(ctx, frame, memo),
        Stage::Inside => gateway::inside_again(ctx, frame),
        Stage::Owned => gateway::owned(ctx, frame),
        Stage::Outside => match ethernet::parse(frame.bytes()) {
            Some(ethernet) => gateway::outside(ctx, frame, ethernet),
            None => Verdict::Drop(DropReason::FrameTooShort),
        },
        Stage::Sourced => gateway::sourced(ctx, frame),
        Stage::Hairpinned => gateway::hairpinned(ctx, frame),
        Stage::Translated => gateway::deliver_held(ctx, frame),
        Stage::ForHost => gateway::for_host(ctx, frame),
    }
}

fn arrived(ctx: &mut Context<'_, impl Tracer>, frame: &mut Frame<'_>, memo: &mut Memo) -> Verdict {
    let Some(ethernet) = ethernet::parse(frame.bytes()) else {
        return Verdict::Drop(DropReason::FrameTooShort);
    };
    let view = ctx.view;
    // A port that was removed while its last frames were on the way.
    let Some(port) = view.port(frame.ingress) else {
        return Verdict::Drop(DropReason::NoEgress);
    };
    match port.role {
        Role::Uplink => gateway::outside(ctx, frame, ethernet),
        Role::Member | Role::Host => member(ctx, frame, ethernet, port, memo),
    }
}

fn member(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    ethernet: Ethernet,
    port: &PortView,
    memo: &mut Memo,
) -> Verdict {
    let admitted = admit(ctx, frame, ethernet, port, memo);
    ctx.trace(|| Step::Admit(admitted));
    if let Err(reason) = admitted {
        return Verdict::Drop(reason);
    }
    if port.role == Role::Host && is_forwarded(ctx, frame, ethernet, port) {
        return Verdict::Drop(DropReason::HostForwarded);
    }
    if let Some(gateway) = ctx
        .view
        .gateway
        .filter(|gateway| gateway.network == port.network)
    {
        if ethernet.destination == gateway.mac && port.role == Role::Member {
            return gateway::inside(ctx, frame, ethernet, gateway);
        }
        if ethernet.ethertype == ARP
            && let Some(verdict) = gateway::overheard(ctx, frame, gateway)
        {
            return verdict;
        }
    }
    forward(ctx, frame, ethernet, port.network, memo)
}

/// True for an IPv4 packet from the host port that the host did not make: its kernel routes between
/// its interfaces, and so would let hosts in to ports of members that nobody has published.
fn is_forwarded(
    ctx: &Context<'_, impl Tracer>,
    frame: &Frame<'_>,
    ethernet: Ethernet,
    port: &PortView,
) -> bool {
    let is_gateways = |gateway: &GatewayView| gateway.network == port.network;
    let Some(gateway) = ctx.view.gateway.filter(is_gateways) else {
        return false;
    };
    if ethernet.ethertype != IPV4 {
        return false;
    }
    let packet = frame.bytes().get(HEADER_BYTES..).unwrap_or_default();
    // What has no header goes nowhere by itself.
    let Some([a, b, c, d]) = packet.get(IP_SOURCE).and_then(<[u8]>::first_chunk) else {
        return false;
    };
    let source = Ipv4Addr::new(*a, *b, *c, *d);
    // A host that has no address yet asks for one.
    let is_own = source == gateway.address
        || source.is_loopback()
        || source.is_unspecified()
        || ctx.view.host.owns(source);
    !is_own
}

/// Refuses what no bridge takes, and learns the source's place (IEEE 802.1D 7.8).
fn admit(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &Frame<'_>,
    ethernet: Ethernet,
    port: &PortView,
    memo: &mut Memo,
) -> Result<(), DropReason> {
    if ethernet.destination.is_link_local() {
        return Err(DropReason::ReservedAddress);
    }
    if !ethernet.source.is_station() {
        return Err(DropReason::SourceInvalid);
    }
    let is_gateway = ctx
        .view
        .gateway
        .is_some_and(|gateway| gateway.mac == ethernet.source);
    if is_gateway {
        // The host port is the host's end of the gateway and shares its address; it needs no
        // entry, since frames for that address never reach the table.
        return if port.role == Role::Host {
            Ok(())
        } else {
            Err(DropReason::SourceIsGateway)
        };
    }
    let source = Some((frame.ingress, ethernet.source));
    if memo.source == source {
        ctx.trace(|| Step::Learn(ethernet.source, Learned::Refreshed));
        return Ok(());
    }
    *memo = Memo::default();
    let learned = ctx
        .fdb
        .learn(port.network.0, ethernet.source, frame.ingress, ctx.now);
    ctx.trace(|| Step::Learn(ethernet.source, learned));
    let station = (port.network.0, ethernet.source);
    match learned {
        Learned::Locked { .. } => {
            ctx.stations.note(ctx.now, station, frame.ingress, learned);
            Err(DropReason::SourceLocked)
        }
        Learned::Moved { .. } | Learned::Damped { .. } => {
            ctx.stations.note(ctx.now, station, frame.ingress, learned);
            Ok(())
        }
        Learned::Refreshed => {
            memo.source = source;
            Ok(())
        }
        Learned::New | Learned::Full => Ok(()),
    }
}

/// To the destination's port, or to all of them (IEEE 802.1D 7.7).
fn forward(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &Frame<'_>,
    ethernet: Ethernet,
    network: NetworkIndex,
    memo: &mut Memo,
) -> Verdict {
    let egress = egress_of(ctx, ethernet.destination, network, memo);
    ctx.trace(|| {
        Step::Lookup(
            ethernet.destination,
            Found::at(ethernet.destination, egress),
        )
    });
    if let Some(egress) = egress {
        return if egress == frame.ingress {
            Verdict::Drop(DropReason::SamePort)
        } else if ctx.view.are_apart(frame.ingress, egress) {
            Verdict::Drop(DropReason::PortIsolated)
        } else {
            Verdict::Forward(egress)
        };
    }
    let (view, ingress) = (ctx.view, frame.ingress);
    if view.flood_targets(network, ingress).next().is_some() {
        return Verdict::Flood;
    }
    let is_alone = view.other_ports(network, ingress).next().is_none();
    Verdict::Drop(if is_alone {
        DropReason::NoEgress
    } else {
        DropReason::PortIsolated
    })
}

/// The port of `destination`; `None` if it is a group or unknown.
#[inline]
fn egress_of(
    ctx: &Context<'_, impl Tracer>,
    destination: Mac,
    network: NetworkIndex,
    memo: &mut Memo,
) -> Option<PortIndex> {
    if destination.is_group() {
        return None;
    }
    if let Some((of, mac, egress)) = memo.egress
        && (of, mac) == (network, destination)
    {
        return Some(egress);
    }
    let egress = ctx.fdb.lookup(network.0, destination, ctx.now)?;
    memo.egress = Some((network, destination, egress));
    Some(egress)
}

#[cfg(test)]
mod tests;
