//! Following the host: everything is read as it is now, and the switch's view made to match.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use crate::host::addr::Address;
use crate::host::link::Link;
use crate::host::view;

use super::Daemon;

impl Daemon {
    /// Reads links, addresses and routes, and follows what changed.
    pub(super) fn refresh(&mut self) {
        self.look_again = false;
        let links = match self.netlink.links() {
            Ok(links) => links,
            Err(error) => return self.unread("links", &error),
        };
        let called: HashMap<&str, &Link> = view::names(&links).collect();
        let numbered: HashMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
        for place in 0..self.ports.len() {
            let Some(port) = self.ports.get(place) else {
                continue;
            };
            let link = if port.is_tap() {
                let link = numbered.get(&port.link.index);
                link.filter(|link| link.is_called(port.device()))
            } else {
                called.get(port.device())
            };
            self.follow(place, link.copied());
        }
        self.follow_host_port(&links);
        self.follow_uplink(&links);
        self.follow_addresses();
        self.follow_publishes();
    }

    /// The host's own addresses are reached through the host port.
    pub(super) fn follow_addresses(&mut self) {
        let addresses = match self.netlink.addresses() {
            Ok(addresses) => host_addresses(&addresses),
            Err(error) => return self.unread("addresses", &error),
        };
        if self.switch.view().host.addresses != addresses {
            self.switch.update(|view| view.host.addresses = addresses);
        }
    }

    /// The switch goes on as it is, and the next tick reads again.
    fn unread(&mut self, what: &str, error: &io::Error) {
        self.look_again = true;
        self.say(&format!("warning: reading the {what}: {error}"));
    }
}

/// The host's IPv4 addresses but the loopback's, sorted.
pub(super) fn host_addresses(addresses: &[Address]) -> Vec<Ipv4Addr> {
    let mut own: Vec<Ipv4Addr> = addresses
        .iter()
        .filter_map(|address| match address.ip {
            IpAddr::V4(ip) if !ip.is_loopback() => Some(ip),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
        .collect();
    own.sort_unstable();
    own.dedup();
    own
}
