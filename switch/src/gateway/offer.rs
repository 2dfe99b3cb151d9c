//! What may go by the fast path, offered to the worker.

use std::net::Ipv4Addr;

use nat::{Direction, Steady};

use crate::ethernet::HEADER_BYTES;
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
    let [interface, way_out] = [frame.ingress, egress]
        .map(|port| ctx.view.port(port).and_then(|it| interface(&it.egress)));
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
    let (Some(ingress), Some(way_out), Some(old_macs)) =
        (interface, way_out, bytes.first_chunk::<12>())
    else {
        return;
    };
    // Told of another packet than this one, it would be none of its business.
    let is_of_it = packet.header_bytes == IPV4_BYTES && endpoints(bytes) == Some(after);
    if !is_of_it {
        return;
    }
    let mut new_macs = [0; 12];
    let (to, from) = new_macs.split_at_mut(6);
    to.copy_from_slice(&destination.0);
    from.copy_from_slice(&source.0);
    ctx.offers.list.push(Offer {
        steady,
        shortcut: Shortcut {
            ingress,
            egress: way_out,
            macs: [*old_macs, new_macs],
            addresses: [before, after].map(|ends| ends.map(|(address, _)| address)),
            ports: [before, after].map(|ends| ends.map(|(_, port)| port)),
            frame_bytes_max: u32::try_from(HEADER_BYTES)
                .map_or(mtu, |bytes| mtu.saturating_add(bytes)),
        },
        ingress: frame.ingress,
        egress,
    });
}

/// Whether what was offered would be offered again, of a session that lives: its station is where
/// it was, and the next hop has that Ethernet address. Both are kept from being forgotten, as they
/// would be by a frame.
pub fn still_holds(ctx: &mut Context<'_, impl Tracer>, offer: &Offer) -> bool {
    let [old_macs, new_macs] = offer.shortcut.macs.map(addresses_of);
    let (view, now) = (ctx.view, ctx.now);
    let hop = match offer.steady.direction {
        Direction::Outbound => {
            let Some(port) = view.port(offer.ingress) else {
                return false;
            };
            let (network, station) = (port.network.0, old_macs.1);
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
            let there = ctx.fdb.lookup(gateway.network.0, new_macs.0, now);
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
    mac == new_macs.0
}

/// Destination and source.
const fn addresses_of(macs: [u8; 12]) -> (Mac, Mac) {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = macs;
    (Mac([a, b, c, d, e, f]), Mac([g, h, i, j, k, l]))
}

/// The interface behind a port, if frames can be sent there without us.
fn interface(egress: &Egress) -> Option<u32> {
    match egress {
        Egress::Packet { ifindex } | Egress::Uplink { ifindex } => Some(*ifindex),
        Egress::Tap(_) | Egress::Sim(_) | Egress::Nowhere => None,
    }
}

/// Source and destination of a TCP packet without options of IP's.
fn endpoints(frame: &[u8]) -> Option<[(Ipv4Addr, u16); 2]> {
    let fields = frame.get(HEADER_BYTES + 12..)?.first_chunk::<12>()?;
    let [a, b, c, d, e, f, g, h, i, j, k, l] = *fields;
    Some([
        (Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([i, j])),
        (Ipv4Addr::new(e, f, g, h), u16::from_be_bytes([k, l])),
    ])
}
