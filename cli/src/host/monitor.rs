//! What changes on the host while the switch runs: links, addresses, routes.
//!
//! The kernel multicasts every change; a listener that falls behind gets `ENOBUFS` once and has
//! lost an unknown number of messages. That is not an error but [`Event::Resync`]: read everything
//! again and carry on.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::addr::Address;
use super::link::Link;
use super::netlink::Messages;
use super::route::Route;

const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_IPV4_IFADDR: u32 = 5;
const RTNLGRP_IPV4_ROUTE: u32 = 7;
/// Receive buffer in bytes; a thousand interfaces appearing at once fit.
const RECEIVE_BUFFER: u32 = 1 << 20;

/// One change of the host's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A link appeared or has a new state (up, carrier, name, MTU, master, ...).
    LinkChanged(Link),
    /// A link was deleted or left for another namespace.
    LinkGone {
        /// Its index.
        index: u32,
        /// Its last name.
        name: String,
    },
    /// An IPv4 address was added, changed (`gone` false) or removed (`gone` true).
    AddrChanged {
        /// The address.
        address: Address,
        /// It is not there any more.
        gone: bool,
    },
    /// An IPv4 route of the main table was added, changed (`gone` false) or removed (`gone` true).
    RouteChanged {
        /// The route.
        route: Route,
        /// It is not there any more.
        gone: bool,
    },
    /// Messages were lost: everything must be read again.
    Resync,
}

/// A listener in the network namespace of the thread that opened it.
pub struct Monitor {
    socket: Socket,
    pending: VecDeque<Event>,
}

impl Monitor {
    /// Starts listening; changes from now on are seen.
    ///
    /// # Errors
    /// Whatever `socket(2)`, `bind(2)` and `NETLINK_ADD_MEMBERSHIP` say.
    pub fn open() -> io::Result<Self> {
        Self::with_buffer(RECEIVE_BUFFER)
    }

    fn with_buffer(bytes: u32) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // Bounded by net.core.rmem_max; a smaller buffer only means a Resync now and then.
        let _ = socket.set_rx_buf_sz(bytes);
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        for group in [RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE] {
            socket.add_membership(group)?;
        }
        Ok(Self {
            socket,
            pending: VecDeque::new(),
        })
    }

    /// The next change; `None` after `timeout` (or a signal), so that a thread can look whether it
    /// should stop. No timeout waits for ever.
    ///
    /// # Errors
    /// Whatever `poll(2)` and `recv(2)` say; `ENOBUFS` is [`Event::Resync`].
    pub fn next(&mut self, timeout: Option<Duration>) -> io::Result<Option<Event>> {
        if let Some(event) = self.pending.pop_front() {
            return Ok(Some(event));
        }
        let limit = match timeout {
            None => PollTimeout::NONE,
            Some(time) => PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX),
        };
        let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, limit) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(err) => return Err(err.into()),
        }
        self.receive()?;
        Ok(self.pending.pop_front())
    }

    fn receive(&mut self) -> io::Result<()> {
        loop {
            let (datagram, from) = match self.socket.recv_from_full() {
                Ok(received) => received,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) if err.raw_os_error() == Some(libc::ENOBUFS) => {
                    // What was read before the loss is covered by the new reading.
                    self.pending.clear();
                    self.pending.push_back(Event::Resync);
                    continue;
                }
                Err(err) => return Err(err),
            };
            if from.port_number() == 0 {
                let messages = Messages::new(&datagram).map_while(Result::ok);
                self.pending
                    .extend(messages.filter_map(|m| decode(m.kind, m.body)));
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn decode(kind: u16, body: &[u8]) -> Option<Event> {
    /// A bridge reports its ports a second time under its own family; the link itself did not
    /// change, and `RTM_DELLINK` there only means that it left the bridge.
    fn is_bridge_port(body: &[u8]) -> bool {
        body.first()
            .is_some_and(|family| i32::from(*family) == libc::AF_BRIDGE)
    }
    match kind {
        libc::RTM_NEWLINK if !is_bridge_port(body) => Link::decode(body).map(Event::LinkChanged),
        libc::RTM_DELLINK if !is_bridge_port(body) => {
            Link::decode(body).map(|link| Event::LinkGone {
                index: link.index,
                name: link.name,
            })
        }
        libc::RTM_NEWADDR | libc::RTM_DELADDR => {
            Address::decode(body).map(|address| Event::AddrChanged {
                address,
                gone: kind == libc::RTM_DELADDR,
            })
        }
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => {
            Route::decode(body).map(|route| Event::RouteChanged {
                route,
                gone: kind == libc::RTM_DELROUTE,
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::link::VethEnd;
    use crate::host::netlink::Netlink;
    use crate::host::netns::tests::in_fresh_netns;

    /// Waited in full only by a test that fails; the kernel tells of a carrier up to a second late.
    const SOON: Option<Duration> = Some(Duration::from_secs(5));

    fn until(monitor: &mut Monitor, what: &str, wanted: impl Fn(&Event) -> bool) {
        while let Some(event) = monitor.next(SOON).unwrap() {
            if wanted(&event) {
                return;
            }
        }
        panic!("never saw {what}");
    }

    #[test]
    fn changes_are_seen_in_order_and_silence_times_out() {
        in_fresh_netns("monitor", || {
            let mut netlink = Netlink::open().unwrap();
            let mut monitor = Monitor::open().unwrap();
            assert_eq!(monitor.next(Some(Duration::ZERO)).unwrap(), None);
            let end = |name| VethEnd {
                name,
                ..VethEnd::default()
            };
            netlink.add_veth(&end("a"), &end("b")).unwrap();
            let a = netlink.link_named("a").unwrap().index;
            let b = netlink.link_named("b").unwrap().index;
            netlink.set_up(a, true).unwrap();
            netlink.set_up(b, true).unwrap();
            until(
                &mut monitor,
                "the new link",
                |event| matches!(event, Event::LinkChanged(link) if link.name == "a" && !link.up),
            );
            until(&mut monitor, "carrier", |event| match event {
                Event::LinkChanged(link) => link.index == a && link.running,
                Event::LinkGone { .. }
                | Event::AddrChanged { .. }
                | Event::RouteChanged { .. }
                | Event::Resync => false,
            });
            netlink
                .add_address(a, "10.9.0.1".parse().unwrap(), 24)
                .unwrap();
            netlink
                .add_default_route("10.9.0.2".parse().unwrap(), a)
                .unwrap();
            netlink.delete_link(a).unwrap();
            until(&mut monitor, "the address", |event| {
                matches!(event, Event::AddrChanged { address, gone: false }
                    if address.index == a && address.prefix == 24)
            });
            let default_route = |event: &Event| match event {
                Event::RouteChanged { route, gone } => route.is_default() && !gone,
                Event::LinkChanged(_)
                | Event::LinkGone { .. }
                | Event::AddrChanged { .. }
                | Event::Resync => false,
            };
            until(&mut monitor, "the route", default_route);
            until(
                &mut monitor,
                "the end",
                |event| matches!(event, Event::LinkGone { name, .. } if name == "a"),
            );
        });
    }

    #[test]
    fn a_listener_that_fell_behind_is_told_to_read_everything_again() {
        in_fresh_netns("monitor overrun", || {
            let mut netlink = Netlink::open().unwrap();
            let mut monitor = Monitor::with_buffer(0).unwrap();
            let end = |name| VethEnd {
                name,
                ..VethEnd::default()
            };
            netlink.add_veth(&end("a"), &end("b")).unwrap();
            let a = netlink.link_named("a").unwrap().index;
            for mtu in 1000..1100 {
                netlink.set_mtu(a, mtu).unwrap();
            }
            until(&mut monitor, "Resync", |event| *event == Event::Resync);
            while monitor.next(Some(Duration::ZERO)).unwrap().is_some() {}
            netlink.set_mtu(a, 1400).unwrap();
            until(
                &mut monitor,
                "life after the loss",
                |event| matches!(event, Event::LinkChanged(link) if link.mtu == 1400),
            );
        });
    }
}
