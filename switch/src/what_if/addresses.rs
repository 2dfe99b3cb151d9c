//! Which stations a packet would go between.

use std::fmt;
use std::net::Ipv4Addr;

use nat::Nanos;

use super::{Kind, Packet};
use crate::config::{PortView, Role, View};
use crate::mac::Mac;
use crate::neigh::Link;
use crate::port::PortIndex;
use crate::switch::Switch;

/// Of whom nothing is known gets one of these addresses, which nobody has: a sender and a receiver.
const INVENTED: Mac = Mac([0x02, 0x77, 0x68, 0x61, 0x74, 0x3f]);
const INVENTED_TO: Mac = Mac([0x02, 0x77, 0x68, 0x6f, 0x6d, 0x3f]);

/// An Ethernet address, and how it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It was said.
    Said,
    /// The gateway's, or the uplink's.
    Ours,
    /// The one that ARP has found for the IP address.
    Neighbour,
    /// Of the only station behind the port.
    Station,
    /// It follows from the IP address: a group's, or everybody's.
    Group,
    /// Nobody knows it: this one is invented.
    Nobody,
}

/// The two stations of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Who sends it.
    pub from: (Mac, Known),
    /// To whom.
    pub to: (Mac, Known),
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Said => "as said",
            Self::Ours => "the switch's own",
            Self::Neighbour => "the neighbour's",
            Self::Station => "the only station there",
            Self::Group => "a group",
            Self::Nobody => "invented: nobody knows it",
        })
    }
}

impl Packet {
    /// The stations between which a host at `port` would send this packet: it knows whom it can
    /// reach itself, and sends all else to the gateway.
    #[must_use]
    pub fn addresses(&self, switch: &Switch, port: PortIndex, now: Nanos) -> Addresses {
        let said = |mac: Option<Mac>| mac.map(|mac| (mac, Known::Said));
        let view = switch.view();
        let place = view.port(port);
        let from = said(self.from).unwrap_or_else(|| {
            let sender = place.and_then(|place| sender(switch, place, self.source, now));
            let only = || Some((only_station(switch, port, now)?, Known::Station));
            sender.or_else(only).unwrap_or((INVENTED, Known::Nobody))
        });
        let to = said(self.to).unwrap_or_else(|| {
            let asks = matches!(self.kind, Kind::Arp { reply: false });
            let receiver = match place {
                _ if asks => Some((Mac::BROADCAST, Known::Group)),
                Some(place) => receiver(switch, place, self.destination, now),
                None => None,
            };
            receiver.unwrap_or((INVENTED_TO, Known::Nobody))
        });
        Addresses { from, to }
    }
}

/// Whose address ARP has found, or ours.
fn sender(switch: &Switch, place: &PortView, source: Ipv4Addr, now: Nanos) -> Option<(Mac, Known)> {
    let (view, neighbours) = (switch.view(), switch.neighbours());
    match place.role {
        // The host port is the host's end of the gateway.
        Role::Host => Some((view.gateway?.mac, Known::Ours)),
        Role::Member => {
            let link = view.gateway?.link();
            let mac = neighbours.lookup(link, source, now).mac()?;
            Some((mac, Known::Neighbour))
        }
        Role::Uplink => {
            let hop = view.uplink.as_ref()?.next_hop(source)?;
            let mac = neighbours.lookup(Link::Uplink, hop, now).mac()?;
            Some((mac, Known::Neighbour))
        }
    }
}

fn receiver(
    switch: &Switch,
    place: &PortView,
    destination: Ipv4Addr,
    now: Nanos,
) -> Option<(Mac, Known)> {
    let view = switch.view();
    if let Some(group) = group(view, destination) {
        return Some((group, Known::Group));
    }
    if place.role == Role::Uplink {
        return Some((view.uplink.as_ref()?.mac, Known::Ours));
    }
    let gateway = view.gateway?;
    let is_neighbour = gateway.contains(destination) && destination != gateway.address;
    if place.role == Role::Member && !is_neighbour {
        return Some((gateway.mac, Known::Ours));
    }
    let known = (switch.neighbours()).lookup(gateway.link(), destination, now);
    let mac = known.mac()?;
    Some((mac, Known::Neighbour))
}

/// The Ethernet address of a group, or of everybody (RFC 1112 section 6.4, RFC 894).
fn group(view: &View, address: Ipv4Addr) -> Option<Mac> {
    let is_everybody =
        address.is_broadcast() || view.gateway.is_some_and(|it| address == it.broadcast());
    if is_everybody {
        return Some(Mac::BROADCAST);
    }
    let [_, b, c, d] = address.octets();
    (address.is_multicast()).then_some(Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d]))
}

fn only_station(switch: &Switch, port: PortIndex, now: Nanos) -> Option<Mac> {
    let entries = switch.fdb().entries(now);
    let mut stations = entries.iter().filter(|entry| entry.port == port);
    let only = stations.next()?;
    stations.next().is_none().then_some(only.mac)
}
