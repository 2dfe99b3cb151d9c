//! What may go by the fast path, offered to the worker.

use std::net::Ipv4Addr;

use nat::wire::{Ipv4, Tcp};
use nat::{Direction, Steady};

use crate::ethernet::{self, HEADER_BYTES};
use crate::frame::Frame;
use crate::mac::Mac;
use crate::neigh::{Link, Neighbour};
use crate::port::fastpath::Shortcut;
use crate::port::{Egress, PortIndex};
use crate::trace::Tracer;

use super::route::{Hop, ask};
use super::{Context, Packet};

/// Bytes of an IPv4 header without options.
const IPV4_BYTES: usize = 20;

/// What may be lent to the kernel.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// The direction of a session that it is.
    pub steady: Steady,
    /// What the kernel is to do.
    pub shortcut: Shortcut,
    /// The port its frames come in by.
    pub ingress: PortIndex,
    /// The port they go out by.
    pub egress: PortIndex,
}

/// Offers made in a batch, for the worker to take up after it.
#[derive(Debug, Default)]
pub struct Offers {
    /// Whether there is a fast path and all may go by it.
    pub wanted: bool,
    /// The offers.
    pub list: Vec<Offer>,
}

/// Offers the way of a packet that has just been translated, if its session may be lent. Its
/// Ethernet header and time to live are as it came; it will leave by `egress`, which takes `mtu`
/// bytes, with these addresses: destination and source.
#[inline]
pub(super) fn offer(
    ctx: &mut Context<'_, impl Tracer>,
    frame: &Frame<'_>,
    packet: &Packet,
    (egress, mtu): (PortIndex, u32),
    macs: (Mac, Mac),
) {
    if ctx.offers.wanted
        && let Some(steady) = ctx.nat.as_deref_mut().and_then(nat::Nat::take_steady)
    {
        offer_steady(ctx, (frame, packet), steady, (egress, mtu), macs);
    }
}

#[cold]
#[inline(never)]
fn offer_steady(
    ctx: &mut Context<'_, impl Tracer>,
    (frame, packet): (&Frame<'_>, &Packet),
    steady: Steady,
    (egress, mtu): (PortIndex, u32),
    (destination, source): (Mac, Mac),
) {
    let Steady {
        inside,
        external,
        remote,
        ..
    } = steady;
    let (before, after) = match steady.direction {
        Direction::Outbound => ([inside, remote], [external, remote]),
        Direction::Inbound => ([remote, external], [remote, inside]),
        Direction::Hairpin => return,
    };
    let bytes = frame.bytes();
    // Told of another packet than this one, it would be none of its business.
    if packet.header_bytes != IPV4_BYTES || endpoints(bytes) != Some(after) {
        return;
    }
    let interface = |port| ctx.view.port(port).and_then(|it| interface(&it.egress));
    let ways = (interface(frame.ingress), interface(egress));
    let ((Some(came), Some(goes)), Some(ethernet)) = (ways, ethernet::parse(bytes)) else {
        return;
    };
    ctx.offers.list.push(Offer {
        steady,
        shortcut: Shortcut {
            ingress: came,
            egress: goes,
            macs: [
                [ethernet.destination, ethernet.source],
                [destination, source],
            ],
            addresses: [before, after].map(|ends| ends.map(|(address, _)| address)),
            ports: [before, after].map(|ends| ends.map(|(_, port)| port)),
            mtu,
        },
        ingress: frame.ingress,
        egress,
    });
}

/// Whether what was offered would be offered again, of a session that lives: its station is where
/// it was, and the next hop has that Ethernet address. Both are kept from being forgotten, as they
/// would be by a frame.
pub fn still_holds(ctx: &mut Context<'_, impl Tracer>, offer: &Offer) -> bool {
    let [[_, station], [next, _]] = offer.shortcut.macs;
    let (view, now) = (ctx.view, ctx.now);
    let hop = match offer.steady.direction {
        Direction::Outbound => {
            let Some(port) = view.port(offer.ingress) else {
                return false;
            };
            let network = port.network.0;
            if ctx.fdb.lookup(network, station, now) != Some(offer.ingress) {
                return false;
            }
            ctx.fdb.learn(network, station, offer.ingress, now);
            let uplink = view.uplink.as_ref();
            uplink
                .and_then(|uplink| uplink.next_hop(offer.steady.remote.0))
                .map(|address| (Link::Uplink, address))
        }
        Direction::Inbound => view.gateway.and_then(|gateway| {
            let there = ctx.fdb.lookup(gateway.network.0, next, now);
            let is_there = there == Some(offer.egress);
            is_there.then(|| (gateway.link(), offer.steady.inside.0))
        }),
        Direction::Hairpin => None,
    };
    let Some((link, address)) = hop else {
        return false;
    };
    let mac = match ctx.neighbours.lookup(link, address, now) {
        Neighbour::Known(mac) => mac,
        Neighbour::Refresh(mac) => {
            ask(ctx, Hop { link, address });
            mac
        }
        Neighbour::Unknown | Neighbour::Failed => return false,
    };
    mac == next
}

/// The interface behind a port, if frames can be sent there without us.
fn interface(egress: &Egress) -> Option<u32> {
    match egress {
        Egress::Packet { ifindex } | Egress::Uplink { ifindex } => Some(*ifindex),
        Egress::Tap(_) | Egress::Sim(_) | Egress::Nowhere => None,
    }
}

/// Source and destination of a TCP packet.
fn endpoints(frame: &[u8]) -> Option<[(Ipv4Addr, u16); 2]> {
    let ip = Ipv4::parse(frame.get(HEADER_BYTES..)?).ok()?;
    let tcp = Tcp::parse(ip.payload()).ok()?;
    Some([(ip.src(), tcp.src_port()), (ip.dst(), tcp.dst_port())])
}
