//! From inside to outside, through the NAT.

use nat::{L4Sum, Outcome, Reason};

use crate::ethernet::HEADER_BYTES;
use crate::frame::{Csum, Frame, Stage};
use crate::neigh::Link;
use crate::verdict::{DropReason, Verdict};

use super::route::{self, Hop};
use super::{Context, Packet, address, icmp, outside, tell};

/// Routes and translates a packet from a member to anywhere beyond the uplink.
pub(super) fn out(
    ctx: &mut Context<'_>,
    frame: &mut Frame<'_>,
    packet: Packet,
    way: icmp::Way,
) -> Verdict {
    let view = ctx.view;
    let up = |port| view.port(port).filter(|port| port.up);
    let Some((uplink, port)) = view.uplink.as_ref().and_then(|u| Some((u, up(u.port)?))) else {
        tell(ctx, frame, way, icmp::Error::NetUnreachable);
        return Verdict::Drop(DropReason::UplinkDown);
    };
    if let Err(verdict) = route::check_ttl(ctx, frame, packet, way) {
        return verdict;
    }
    let hairpin = packet.destination == uplink.address;
    let mac = if hairpin {
        uplink.mac
    } else {
        let Some(next_hop) = uplink.next_hop(packet.destination) else {
            tell(ctx, frame, way, icmp::Error::NetUnreachable);
            return Verdict::Drop(DropReason::NoRoute);
        };
        let hop = Hop { link: Link::Uplink, address: next_hop };
        match route::resolve(ctx, frame, hop, way) {
            Ok(mac) => mac,
            Err(verdict) => return verdict,
        }
    };
    if !hairpin && !route::fits(frame, packet, port.mtu) {
        let mtu = route::icmp_mtu(port.mtu);
        tell(ctx, frame, way, icmp::Error::FragmentationNeeded { mtu });
        return Verdict::Drop(DropReason::MtuExceeded);
    }
    let outcome = match &mut ctx.nat {
        Some(nat) => nat.outbound(&mut ip(frame, packet), ctx.now),
        None => return Verdict::Drop(DropReason::UplinkDown),
    };
    match outcome {
        Outcome::Translated => {
            route::decrement_ttl(frame);
            address(frame, mac, uplink.mac);
            Verdict::Route(uplink.port)
        }
        Outcome::Hairpin { owner } => {
            route::decrement_ttl(frame);
            address(frame, mac, uplink.mac);
            frame.stage = Stage::Hairpinned;
            if owner == ctx.worker {
                outside::hairpinned(ctx, frame)
            } else {
                Verdict::HandOver(owner)
            }
        }
        Outcome::Held => Verdict::Hold,
        // An outbound packet is always translated by the engine of its member's worker.
        Outcome::Elsewhere { .. } | Outcome::NotOurs => Verdict::Drop(DropReason::NatUnsolicited),
        Outcome::Drop(reason) => {
            if matches!(reason, Reason::PortsExhausted | Reason::SessionsExhausted) {
                tell(ctx, frame, way, icmp::Error::Prohibited);
            }
            Verdict::Drop(drop_reason(reason))
        }
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
    let bytes = frame.bytes_mut().get_mut(HEADER_BYTES..).unwrap_or_default();
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
