//! Packets for the gateway's own address, and for the host's.

use nat::wire::protocol::{SCTP, TCP, UDP};

use crate::ethernet::HEADER_BYTES;
use crate::frame::Frame;
use crate::port::PortIndex;
use crate::trace::{Gateway, Step, Tracer};
use crate::verdict::{DropReason, Verdict};

use super::{Context, Packet, address, icmp, tell};

/// To the gateway's own address: echo is answered here, in place; everything else (and an echo in
/// fragments, which the host puts together) is the host's.
pub(super) fn gateway(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    way: icmp::Way,
) -> Verdict {
    if packet.is_echo_request(frame) {
        return echo(ctx, frame, packet, way);
    }
    to_host(ctx, frame, way)
}

/// Turns an echo request round.
pub(super) fn echo(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    way: icmp::Way,
) -> Verdict {
    ctx.trace(|| Step::Gateway(Gateway::EchoAnswered));
    address(frame, way.destination_mac, way.source_mac);
    if let Some(bytes) = frame.bytes_mut().get_mut(HEADER_BYTES..) {
        icmp::turn_echo(bytes, packet.header_bytes);
    }
    Verdict::Answer
}

/// To an address of the host's: through the host port, untouched, as docker0 does. `None` where it
/// is none of them, or a NAT port or a published one on the address that host and switch share. A
/// fragment to that address is left to the NAT, which alone knows the port of all of them.
pub(super) fn host_address(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &mut Frame<'_>,
    packet: &Packet,
    way: icmp::Way,
) -> Option<Verdict> {
    if let Some(uplink) = &ctx.view.uplink
        && uplink.is_external(packet.destination)
    {
        if uplink.owns(packet.destination) {
            return packet
                .is_echo_request(frame)
                .then(|| echo(ctx, frame, packet, way));
        }
        let nat = ctx.nat.is_some() && ctx.view.live_uplink().is_some();
        let taken = match destination_port(frame, packet) {
            Some(port) => {
                (packet.protocol != SCTP && uplink.nat_ports.contains(&port))
                    || ctx.view.publishes(packet.protocol, uplink.address, port)
            }
            None => packet.fragment && nat,
        };
        if taken {
            return None;
        }
    }
    if !ctx.view.host.owns(packet.destination) {
        return None;
    }
    Some(to_host(ctx, frame, way))
}

/// Through the host port, or refused.
pub(super) fn to_host(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &Frame<'_>,
    way: icmp::Way,
) -> Verdict {
    match host_port(ctx, frame) {
        Some(port) => Verdict::Forward(port),
        None => {
            tell(ctx, frame, way, icmp::Error::PortUnreachable);
            Verdict::Drop(DropReason::NoHostPort)
        }
    }
}

/// Sends on a fragment for the host that waited for the first one.
// Out of line: a frame comes here once in a while, and would share the registers of all others.
#[inline(never)]
pub fn for_host(ctx: &mut Context<'_, impl Tracer>, frame: &Frame<'_>) -> Verdict {
    host_port(ctx, frame).map_or(Verdict::Drop(DropReason::NoHostPort), Verdict::Forward)
}

/// The host port, if it is up and the frame does not come from it.
fn host_port(ctx: &mut Context<'_, impl Tracer>, frame: &Frame<'_>) -> Option<PortIndex> {
    let index = ctx.view.host.port.filter(|index| *index != frame.ingress)?;
    ctx.view.port(index).filter(|port| port.up)?;
    ctx.trace(|| Step::Gateway(Gateway::ToHost(index)));
    Some(index)
}

/// The destination port of a TCP, UDP or SCTP packet; `None` for a fragment or another protocol.
fn destination_port(frame: &Frame<'_>, packet: &Packet) -> Option<u16> {
    if packet.fragment || !matches!(packet.protocol, TCP | UDP | SCTP) {
        return None;
    }
    let ports = frame.bytes().get(HEADER_BYTES + packet.header_bytes..)?;
    let [_, _, high, low] = *ports.first_chunk::<4>()?;
    Some(u16::from_be_bytes([high, low]))
}
