//! From inside to outside, through the NAT.

use nat::{Direction, L4Sum, Outcome, Reason, ReleasedPacket};

use crate::config::{GatewayView, UplinkView};
use crate::ethernet::{self, HEADER_BYTES};
use crate::frame::{Csum, Frame, Offload, OwnedFrame, Stage};
use crate::mac::Mac;
use crate::neigh::Link;
use crate::verdict::{DropReason, Verdict};

use super::route::{self, Hop};
use super::{Context, Packet, address, icmp, local, outside, tell};

/// Routes and translates a packet from a member to anywhere beyond the uplink.
pub(super) fn out(
    ctx: &mut Context<'_>,
    frame: &mut Frame<'_>,
    packet: Packet,
    way: icmp::Way,
) -> Verdict {
    let Some((uplink, mtu)) = ctx.view.live_uplink() else {
        tell(ctx, frame, way, icmp::Error::NetUnreachable);
        return Verdict::Drop(DropReason::UplinkDown);
    };
    if let Some(worker) = translated_elsewhere(ctx, frame) {
        frame.stage = Stage::Inside;
        return Verdict::HandOver(worker);
    }
    if let Err(verdict) = route::check_ttl(ctx, frame, packet, way) {
        return verdict;
    }
    let mac = if packet.destination == uplink.address {
        // By way of the external address to another member: it does not leave.
        uplink.mac
    } else {
        match first_hop(ctx, frame, packet, uplink, (mtu, way)) {
            Ok(mac) => mac,
            Err(verdict) => return verdict,
        }
    };
    let outcome = match &mut ctx.nat {
        Some(nat) => nat.outbound(&mut ip(frame, packet), ctx.now),
        // Without NAT nothing is turned round: who is at the uplink's own address is not inside.
        None if packet.destination == uplink.address => Outcome::NotOurs,
        None => Outcome::Translated,
    };
    match outcome {
        Outcome::Translated => send(frame, mac, uplink),
        // The hop is counted when the packet is delivered: it is one router that turns it round.
        Outcome::Hairpin { owner } => {
            frame.stage = Stage::Hairpinned;
            if owner == ctx.worker {
                outside::hairpinned(ctx, frame)
            } else {
                Verdict::HandOver(owner)
            }
        }
        Outcome::Held => Verdict::Hold,
        Outcome::NotOurs if ctx.view.host.owns(packet.destination) => {
            local::to_host(ctx, frame, way)
        }
        // An outbound packet is translated by the engine of its port's NAT worker, always.
        Outcome::Elsewhere { .. } | Outcome::NotOurs => Verdict::Drop(DropReason::NatUnsolicited),
        Outcome::Drop(reason) => {
            if matches!(
                reason,
                Reason::PortsExhausted | Reason::SessionsExhausted | Reason::HostQuota
            ) {
                tell(ctx, frame, way, icmp::Error::Prohibited);
            }
            Verdict::Drop(drop_reason(reason))
        }
    }
}

/// The worker that has the sessions of `frame`'s port, where that is another: the port has moved
/// here from there. Before anything is asked, held or told, so that order is kept by one queue.
fn translated_elsewhere(ctx: &Context<'_>, frame: &Frame<'_>) -> Option<u16> {
    let port = ctx.nat.as_ref().and(ctx.view.port(frame.ingress))?;
    Some(port.nat_worker).filter(|worker| *worker != ctx.worker)
}

/// The next hop's Ethernet address, once it is known that the packet has a way and fits it.
fn first_hop(
    ctx: &mut Context<'_>,
    frame: &Frame<'_>,
    packet: Packet,
    uplink: &UplinkView,
    (mtu, way): (u32, icmp::Way),
) -> Result<Mac, Verdict> {
    let Some(address) = uplink.next_hop(packet.destination) else {
        tell(ctx, frame, way, icmp::Error::NetUnreachable);
        return Err(Verdict::Drop(DropReason::NoRoute));
    };
    if !route::fits(frame, packet, mtu) {
        let error = icmp::Error::FragmentationNeeded {
            mtu: route::icmp_mtu(mtu),
        };
        tell(ctx, frame, way, error);
        return Err(Verdict::Drop(DropReason::MtuExceeded));
    }
    route::resolve(
        ctx,
        frame,
        Hop {
            link: Link::Uplink,
            address,
        },
        way,
    )
}

fn send(frame: &mut Frame<'_>, mac: Mac, uplink: &UplinkView) -> Verdict {
    route::decrement_ttl(frame);
    address(frame, mac, uplink.mac);
    Verdict::Route(uplink.port)
}

/// Sends on a packet to outside whose source is translated already: a fragment that waited for the
/// first one.
pub fn sourced(ctx: &mut Context<'_>, frame: &mut Frame<'_>) -> Verdict {
    let Some((uplink, _)) = ctx.view.live_uplink() else {
        return Verdict::Drop(DropReason::UplinkDown);
    };
    let packet = match Packet::check(frame) {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Drop(reason),
    };
    let Some(next_hop) = uplink.next_hop(packet.destination) else {
        return Verdict::Drop(DropReason::NoRoute);
    };
    match route::resolve_untold(
        ctx,
        frame,
        Hop {
            link: Link::Uplink,
            address: next_hop,
        },
    ) {
        Ok(mac) => send(frame, mac, uplink),
        Err(verdict) => verdict,
    }
}

/// What becomes of a fragment that waited for the first one of its packet.
#[derive(Debug)]
pub enum Released {
    /// It goes on here, at the stage it has reached.
    Here(OwnedFrame),
    /// It goes on at the worker that owns its session. The first one went there too, and the NAT
    /// here has forgotten it: asked again it would wait again, for ever.
    Elsewhere(u16, OwnedFrame),
    /// It is dropped.
    Dropped(DropReason),
}

/// Takes up a fragment whose fate the NAT of `worker` now knows.
#[must_use]
pub fn released(
    packet: &ReleasedPacket,
    uplink: &UplinkView,
    gateway: Option<GatewayView>,
    worker: u16,
) -> Released {
    use Direction::{Hairpin, Inbound, Outbound};
    let (stage, owner) = match (packet.outcome, packet.direction) {
        (Outcome::Drop(reason), _) => return Released::Dropped(drop_reason(reason)),
        (Outcome::Translated, Outbound) => (Stage::Sourced, worker),
        (Outcome::Translated, Inbound | Hairpin) => (Stage::Translated, worker),
        (Outcome::Hairpin { owner }, _) | (Outcome::Elsewhere { owner }, Hairpin) => {
            (Stage::Hairpinned, owner)
        }
        (Outcome::Elsewhere { owner }, Inbound) => (Stage::Arrived, owner),
        (Outcome::NotOurs, Outbound) => (Stage::ForHost, worker),
        (Outcome::NotOurs, Inbound | Hairpin) => {
            return Released::Dropped(DropReason::HostTraffic);
        }
        // What is outbound belongs to this worker, and what was released waits no more.
        (Outcome::Elsewhere { .. }, Outbound) | (Outcome::Held, _) => {
            return Released::Dropped(DropReason::NatUnsolicited);
        }
    };
    // The host's port has the gateway's address.
    let mac = match (stage, gateway) {
        (Stage::ForHost, Some(gateway)) => gateway.mac,
        _ => uplink.mac,
    };
    let mut bytes = ethernet::header(mac, mac, ethernet::IPV4).to_vec();
    bytes.extend_from_slice(&packet.bytes);
    let mut frame = OwnedFrame::new(&bytes, Offload::PLAIN, uplink.port);
    frame.stage = stage;
    if owner == worker {
        Released::Here(frame)
    } else {
        Released::Elsewhere(owner, frame)
    }
}

/// The frame's IPv4 packet as the NAT takes it.
pub(super) fn ip<'f>(frame: &'f mut Frame<'_>, packet: Packet) -> nat::Packet<'f> {
    let l4_offset = HEADER_BYTES + packet.header_bytes;
    let l4_sum = match frame.offload.csum {
        Csum::Partial { start, .. } if usize::from(start) == l4_offset => L4Sum::Pseudo,
        // An unfinished sum further in is a tunnel's; the outer one is complete.
        Csum::Partial { .. } | Csum::Complete | Csum::Unchecked => L4Sum::Full,
    };
    let bytes = frame
        .bytes_mut()
        .get_mut(HEADER_BYTES..)
        .unwrap_or_default();
    nat::Packet { bytes, l4_sum }
}

/// The NAT's reasons in the switch's words.
pub(super) const fn drop_reason(reason: Reason) -> DropReason {
    match reason {
        Reason::Malformed => DropReason::NatMalformed,
        Reason::UnknownProtocol | Reason::SctpRefused => DropReason::NatProtocol,
        Reason::SpoofedSource => DropReason::IpSource,
        Reason::Unsolicited => DropReason::NatUnsolicited,
        Reason::PortsExhausted => DropReason::NatPortsExhausted,
        Reason::SessionsExhausted => DropReason::NatSessionsExhausted,
        Reason::HostQuota => DropReason::NatHostQuota,
        Reason::ProtocolBusy => DropReason::NatProtocolBusy,
        Reason::HalfOpenFull => DropReason::NatHalfOpenFull,
        Reason::InvalidTcpFlags => DropReason::NatTcpFlags,
        Reason::TcpOutOfState => DropReason::NatTcpState,
        Reason::BadIcmpChecksum => DropReason::IcmpCsum,
        Reason::IcmpErrorUnrelated | Reason::IcmpTypeRefused | Reason::IcmpErrorFragmented => {
            DropReason::NatIcmp
        }
        Reason::FragmentLimit => DropReason::NatFragmentLimit,
        Reason::FragmentOverlap
        | Reason::FragmentTiny
        | Reason::FragmentTooLong
        | Reason::FragmentDuplicate => DropReason::NatFragment,
        Reason::FragmentTimeout => DropReason::NatFragmentTimeout,
    }
}
