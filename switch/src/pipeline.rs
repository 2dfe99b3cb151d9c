//! From frames to verdicts: the whole decision, with no system call, no allocation on the usual
//! path and no clock.

use arrayvec::ArrayVec;

use crate::config::{NetworkIndex, PortView, Role};
use crate::ethernet::{self, ARP, Ethernet};
use crate::fdb::Learned;
use crate::frame::{Batch, Frame, Stage};
use crate::gateway::{self, Context};
use crate::limits::BATCH_FRAMES_MAX;
use crate::verdict::{DropReason, Verdict};

/// The verdicts of a batch, in the order of its frames.
pub type Verdicts = ArrayVec<Verdict, BATCH_FRAMES_MAX>;

/// Decides every frame of `batch`.
pub fn process(ctx: &mut Context<'_>, batch: &mut Batch<'_>) -> Verdicts {
    batch.iter_mut().map(|frame| decide(ctx, frame)).collect()
}

/// Decides one frame. A frame the gateway takes up is rewritten in place.
fn decide(ctx: &mut Context<'_>, frame: &mut Frame<'_>) -> Verdict {
    match frame.stage {
        Stage::Arrived => arrived(ctx, frame),
        Stage::Inside => gateway::inside_again(ctx, frame),
        Stage::Sourced => gateway::sourced(ctx, frame),
        Stage::Hairpinned => gateway::hairpinned(ctx, frame),
        Stage::Translated => gateway::deliver_held(ctx, frame),
        Stage::ForHost => gateway::for_host(ctx, frame),
    }
}

fn arrived(ctx: &mut Context<'_>, frame: &mut Frame<'_>) -> Verdict {
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
        Role::Member | Role::Host => member(ctx, frame, ethernet, port),
    }
}

fn member(
    ctx: &mut Context<'_>,
    frame: &mut Frame<'_>,
    ethernet: Ethernet,
    port: &PortView,
) -> Verdict {
    if let Err(reason) = admit(ctx, frame, ethernet, port) {
        return Verdict::Drop(reason);
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
    forward(ctx, frame, ethernet, port.network)
}

/// Refuses what no bridge takes, and learns the source's place (IEEE 802.1D 7.8).
fn admit(
    ctx: &Context<'_>,
    frame: &Frame<'_>,
    ethernet: Ethernet,
    port: &PortView,
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
    match ctx
        .fdb
        .learn(port.network.0, ethernet.source, frame.ingress, ctx.now)
    {
        Learned::Locked { .. } => Err(DropReason::SourceLocked),
        Learned::New
        | Learned::Refreshed
        | Learned::Moved { .. }
        | Learned::Damped { .. }
        | Learned::Full => Ok(()),
    }
}

/// To the destination's port, or to all of them (IEEE 802.1D 7.7).
fn forward(
    ctx: &Context<'_>,
    frame: &Frame<'_>,
    ethernet: Ethernet,
    network: NetworkIndex,
) -> Verdict {
    if !ethernet.destination.is_group()
        && let Some(egress) = ctx.fdb.lookup(network.0, ethernet.destination, ctx.now)
    {
        return if egress == frame.ingress {
            Verdict::Drop(DropReason::SamePort)
        } else {
            Verdict::Forward(egress)
        };
    }
    if ctx
        .view
        .flood_targets(network, frame.ingress)
        .next()
        .is_none()
    {
        return Verdict::Drop(DropReason::NoEgress);
    }
    Verdict::Flood
}

#[cfg(test)]
mod tests;
