//! From inside to outside, through the NAT.

use nat::wire::protocol;
use nat::{Direction, L4Sum, Outcome, Reason, ReleasedPacket};

use crate::config::{GatewayView, Role, UplinkView};
use crate::ethernet::{self, HEADER_BYTES};
use crate::frame::{Csum, Frame, Offload, OwnedFrame, Stage};
use crate::mac::Mac;
use crate::neigh::Link;
use crate::trace::{Step, Tracer};
use crate::verdict::{DropReason, Verdict};

use super::offer::offer;
use super::route::{self, Hop};
use super::{Context, Packet, icmp, local, outside, tell, way_inside};

/// Where the flags are in a TCP header, and the one of its handshake (RFC 9293 3.1).
const TCP_FLAGS_OFFSET: usize = 13;
const TCP_SYN: u8 = 2;
/// Bytes of the headers that an MSS does not count (RFC 6691).
const IPV4_TCP_BYTES: u32 = 40;

/// Routes and translates a packet from a member to anywhere beyond the uplink.
pub(super) fn out(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    way: icmp::Way,
) -> Verdict {
    let Some((uplink, mtu)) = ctx.view.live_uplink() else {
        tell(ctx, frame, way, icmp::Error::NetUnreachable);
        return Verdict::Drop(DropReason::UplinkDown);
    };
    if let Some(worker) = translated_elsewhere(ctx, frame) {
        return hand_over(ctx, frame, Stage::Inside, worker);
    }
    if let Err(verdict) = route::check_ttl(ctx, frame, packet, way) {
        return verdict;
    }
    let mac = if uplink.is_external(packet.destination) {
        // By way of the external address to another member: it does not leave.
        uplink.mac
    } else {
        match first_hop(ctx, frame, packet, uplink, (mtu, way)) {
            Ok(mac) => mac,
            Err(verdict) => return verdict,
        }
    };
    translate(ctx, frame, packet, (mac, Some(way)))
}

/// Goes on with a packet from a member that the worker which translates for its port has found to
/// belong to a session of this one's. All that a sender is told of was checked there.
pub fn owned(ctx: &mut Context<'_, impl Tracer>, frame: &mut Frame<'_>) -> Verdict {
    let Some((uplink, _)) = ctx.view.live_uplink() else {
        return Verdict::Drop(DropReason::UplinkDown);
    };
    let checked = Packet::check(frame);
    let packet = match &checked {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Drop(*reason),
    };
    let mac = if uplink.is_external(packet.destination) {
        uplink.mac
    } else {
        match next_hop_mac(ctx, frame, packet, uplink) {
            Ok(mac) => mac,
            Err(verdict) => return verdict,
        }
    };
    // A fragment that waited for its first one has nobody's address any more.
    let member = (ctx.view.port(frame.ingress)).filter(|port| port.role == Role::Member);
    let way = match (member, ctx.view.gateway, ethernet::parse(frame.bytes())) {
        (Some(_), Some(gateway), Some(ethernet)) => Some(way_inside(ethernet, gateway)),
        _ => None,
    };
    translate(ctx, frame, packet, (mac, way))
}

/// Translates a packet and sends it to its next hop, or on its way to another member.
fn translate(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    (mac, way): (Mac, Option<icmp::Way>),
) -> Verdict {
    let Some(uplink) = &ctx.view.uplink else {
        return Verdict::Drop(DropReason::UplinkDown);
    };
    let turns = uplink.is_external(packet.destination);
    ctx.trace_before_nat(frame);
    let outcome = match &mut ctx.nat {
        // What answers to a session stays in it: a published port serves all the world alike.
        Some(nat) if !turns && uplink.is_untranslated(packet.destination) => nat
            .outbound_known(&mut ip(frame, packet), ctx.now)
            .unwrap_or(Outcome::Translated),
        Some(nat) => nat.outbound(&mut ip(frame, packet), ctx.now),
        // Without NAT nothing is turned round: who is at the uplink's own address is not inside.
        None if turns => Outcome::NotOurs,
        None => Outcome::Translated,
    };
    ctx.trace_nat(frame, Direction::Outbound, outcome);
    match outcome {
        Outcome::Translated => send(ctx, frame, packet, mac),
        // The hop is counted when the packet is delivered: it is one router that turns it round.
        Outcome::Hairpin { owner } if owner == ctx.worker => {
            frame.stage = Stage::Hairpinned;
            outside::hairpinned(ctx, frame)
        }
        Outcome::Hairpin { owner } => hand_over(ctx, frame, Stage::Hairpinned, owner),
        Outcome::Held => Verdict::Hold,
        Outcome::NotOurs if ctx.view.host.owns(packet.destination) => match way {
            Some(way) => local::to_host(ctx, frame, way),
            None => local::for_host(ctx, frame),
        },
        // Untouched so far: what a published port answers, or a protocol that one worker has.
        Outcome::Elsewhere { owner } => hand_over(ctx, frame, Stage::Owned, owner),
        Outcome::NotOurs => Verdict::Drop(DropReason::NatUnsolicited),
        Outcome::Drop(reason) => {
            if let Some(way) = way
                && matches!(
                    reason,
                    Reason::PortsExhausted | Reason::SessionsExhausted | Reason::HostQuota
                )
            {
                tell(ctx, frame, way, icmp::Error::Prohibited);
            }
            Verdict::Drop(drop_reason(reason))
        }
    }
}

/// Hands a packet over to the worker that owns its session, which goes on at `stage`. Workers that
/// have not the same view yet may disagree on who that is: then it goes no further.
pub(super) fn hand_over(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    stage: Stage,
    worker: u16,
) -> Verdict {
    if frame.pass_on(stage) {
        ctx.trace(|| Step::HandOver(worker, stage));
        Verdict::HandOver(worker)
    } else {
        Verdict::Drop(DropReason::NatUnsolicited)
    }
}

/// The worker that has the sessions of `frame`'s port, where that is another: the port has moved
/// here from there. Before anything is asked, held or told, so that order is kept by one queue.
fn translated_elsewhere(ctx: &Context<'_, impl Tracer>, frame: &Frame<'_>) -> Option<u16> {
    let port = ctx.nat.as_ref().and(ctx.view.port(frame.ingress))?;
    Some(port.nat_worker).filter(|worker| *worker != ctx.worker)
}

/// The next hop's Ethernet address, once it is known that the packet has a way and fits it.
fn first_hop(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &Frame<'_>,
    packet: &Packet,
    uplink: &UplinkView,
    (mtu, way): (u32, icmp::Way),
) -> Result<Mac, Verdict> {
    let Some(address) = uplink.next_hop(packet.destination) else {
        tell(ctx, frame, way, icmp::Error::NetUnreachable);
        return Err(Verdict::Drop(DropReason::NoRoute));
    };
    let link = Link::Uplink;
    let hop = Hop { link, address };
    ctx.trace(|| Step::Route(hop, Some(mtu)));
    if !route::fits(frame, packet, mtu) {
        let error = icmp::Error::FragmentationNeeded {
            mtu: route::icmp_mtu(mtu),
        };
        tell(ctx, frame, way, error);
        return Err(Verdict::Drop(DropReason::MtuExceeded));
    }
    route::resolve(ctx, frame, hop, way)
}

fn send(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    mac: Mac,
) -> Verdict {
    let Some((uplink, mtu)) = ctx.view.live_uplink() else {
        return Verdict::Drop(DropReason::UplinkDown);
    };
    if uplink.mss_clamp {
        let member = ctx.view.port(frame.ingress).map_or(mtu, |port| port.mtu);
        clamp_mss(frame, packet, mtu.min(member));
    }
    offer(ctx, frame, packet, (uplink.port, mtu), (mac, uplink.mac));
    route::rewrite(ctx, frame, packet, (mac, uplink.mac));
    Verdict::Route(uplink.port)
}

/// Lowers the segment size that a TCP handshake offers to what fits a way of `mtu` bytes: for those
/// whose path MTU discovery is broken by who drops ICMP (RFC 4459 3.2).
pub(super) fn clamp_mss(frame: &mut Frame<'_>, packet: &Packet, mtu: u32) {
    let flags = HEADER_BYTES + packet.header_bytes + TCP_FLAGS_OFFSET;
    let is_handshake = packet.protocol == protocol::TCP
        && !packet.fragment
        && (frame.bytes().get(flags)).is_some_and(|flags| flags & TCP_SYN != 0);
    if is_handshake {
        let mss = u16::try_from(mtu.saturating_sub(IPV4_TCP_BYTES)).unwrap_or(u16::MAX);
        let packet = ip(frame, packet);
        let _ = nat::clamp_mss(packet.bytes, mss, packet.l4_sum);
    }
}

/// Sends on a packet to outside whose source is translated already: a fragment that waited for the
/// first one.
pub fn sourced(ctx: &mut Context<'_, impl Tracer>, frame: &mut Frame<'_>) -> Verdict {
    let Some((uplink, _)) = ctx.view.live_uplink() else {
        return Verdict::Drop(DropReason::UplinkDown);
    };
    let checked = Packet::check(frame);
    let packet = match &checked {
        Ok(packet) => packet,
        Err(reason) => return Verdict::Drop(*reason),
    };
    match next_hop_mac(ctx, frame, packet, uplink) {
        Ok(mac) => send(ctx, frame, packet, mac),
        Err(verdict) => verdict,
    }
}

/// As [`first_hop`], for a packet that was found to have a way before; tells nobody.
fn next_hop_mac(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &Frame<'_>,
    packet: &Packet,
    uplink: &UplinkView,
) -> Result<Mac, Verdict> {
    let Some(address) = uplink.next_hop(packet.destination) else {
        return Err(Verdict::Drop(DropReason::NoRoute));
    };
    let link = Link::Uplink;
    let hop = Hop { link, address };
    ctx.trace(|| Step::Route(hop, None));
    route::resolve_untold(ctx, frame, hop)
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
        (Outcome::Hairpin { owner }, _) => (Stage::Hairpinned, owner),
        (Outcome::Elsewhere { owner }, Outbound) if owner != worker => (Stage::Owned, owner),
        (Outcome::Elsewhere { owner }, Inbound) if owner != worker => (Stage::Outside, owner),
        (Outcome::NotOurs, Outbound) => (Stage::ForHost, worker),
        (Outcome::NotOurs, Inbound | Hairpin) => {
            return Released::Dropped(DropReason::HostTraffic);
        }
        // What comes round belongs to this worker, and what was released waits no more.
        (Outcome::Elsewhere { .. } | Outcome::Held, _) => {
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
pub(super) fn ip<'f>(frame: &'f mut Frame<'_>, packet: &Packet) -> nat::Packet<'f> {
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
        Reason::SynFlood => DropReason::NatSynFlood,
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
