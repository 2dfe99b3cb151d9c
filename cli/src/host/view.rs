//! A reading of the host, taken at one moment, that the checks look at.
//!
//! Source: `net/ipv4/tcp_ipv4.c` and `udp.c` for the format of `/proc/net/{tcp,udp}`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::addr::Address;
use super::link::Link;
use super::netlink::Netlink;
use super::peer::Peer;
use super::route::Route;
use super::sysctl::{self, PortSet};

/// Transport of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A socket of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostSocket {
    /// TCP or UDP.
    pub transport: Transport,
    /// Local address; unspecified for all addresses.
    pub addr: IpAddr,
    /// Local port.
    pub port: u16,
    /// Waits for whoever comes (TCP LISTEN, or UDP without a peer), so it must stay reachable.
    pub listens: bool,
}

/// What the checks need to know about the host.
#[derive(Debug, Clone, Default)]
pub struct HostView {
    /// All links.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// The routes of the main table.
    pub routes: Vec<Route>,
    /// TCP and UDP sockets.
    pub sockets: Vec<HostSocket>,
    /// The host's range for its own connections (`ip_local_port_range`).
    pub local_ports: (u16, u16),
    /// Ports reserved already.
    pub reserved: PortSet,
    /// The far ends of the ports asked about.
    pub peers: Vec<Peer>,
    /// Effective capabilities, a bit for each.
    pub capabilities: u64,
}

impl HostView {
    /// Reads the calling thread's network namespace; `ports` are the interfaces whose far ends
    /// are looked up, unknown ones are passed over.
    ///
    /// # Errors
    /// What netlink or `/proc` said. A peer that cannot be described is left out.
    pub fn read(ports: &[String]) -> io::Result<Self> {
        let mut netlink = Netlink::open()?;
        let links = netlink.links()?;
        let called: HashMap<&str, &Link> = names(&links).collect();
        let wanted = ports.iter().filter_map(|port| called.get(port.as_str()));
        let peers = netlink.peers_of(wanted.copied());
        let peers = peers.into_iter().filter_map(|peer| peer.ok()?).collect();
        Ok(Self {
            links,
            addresses: netlink.addresses()?,
            routes: netlink.routes()?,
            sockets: sockets()?,
            // A kernel without IPv4 sysctls still has links to look at.
            local_ports: sysctl::local_port_range().unwrap_or((32_768, 60_999)),
            reserved: sysctl::reserved_ports().unwrap_or_default(),
            peers,
            capabilities: effective_capabilities()?,
        })
    }

    /// The link called `name`, by its name or an alternative one.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.is_called(name))
    }

    /// The addresses of a link.
    pub fn addresses_of(&self, index: u32) -> impl Iterator<Item = &Address> {
        self.addresses
            .iter()
            .filter(move |address| address.index == index)
    }

    /// Name of a link for words.
    #[must_use]
    pub fn name_of(&self, index: u32) -> &str {
        self.links
            .iter()
            .find(|link| link.index == index)
            .map_or("?", |link| &link.name)
    }
}

/// The links with each of their names, the alternative ones first so that a link's own name wins.
pub(crate) fn names(links: &[Link]) -> impl Iterator<Item = (&str, &Link)> {
    let alternative = links.iter().flat_map(|link| {
        let names = link.alt_names.iter();
        names.map(move |name| (name.as_str(), link))
    });
    alternative.chain(links.iter().map(|link| (link.name.as_str(), link)))
}

/// `CapEff` of this thread.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn effective_capabilities() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/thread-self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no CapEff in /proc"))
}

/// The sockets of the calling thread's namespace (`/proc/net` would be the main thread's).
fn sockets() -> io::Result<Vec<HostSocket>> {
    let mut found = Vec::new();
    for (file, transport) in [
        ("tcp", Transport::Tcp),
        ("tcp6", Transport::Tcp),
        ("udp", Transport::Udp),
        ("udp6", Transport::Udp),
    ] {
        let text = match fs::read_to_string(format!("/proc/thread-self/net/{file}")) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => continue,
            Err(err) => return Err(err),
        };
        found.extend(
            text.lines()
                .skip(1)
                .filter_map(|line| parse_socket(line, transport)),
        );
    }
    Ok(found)
}

fn parse_socket(line: &str, transport: Transport) -> Option<HostSocket> {
    const TCP_LISTEN: &str = "0A";
    const TCP_TIME_WAIT: &str = "06"; // nobody would miss an answer
    const UDP_UNCONNECTED: &str = "07"; // TCP_CLOSE
    let mut fields = line.split_whitespace().skip(1);
    let (addr, port) = fields.next()?.split_once(':')?;
    let _remote = fields.next()?;
    let state = fields.next()?;
    if transport == Transport::Tcp && state == TCP_TIME_WAIT {
        return None;
    }
    let open = match transport {
        Transport::Tcp => TCP_LISTEN,
        Transport::Udp => UDP_UNCONNECTED,
    };
    Some(HostSocket {
        transport,
        addr: parse_address(addr)?,
        port: u16::from_str_radix(port, 16).ok()?,
        listens: state == open,
    })
}

/// The kernel prints each 32-bit word of the address as a number in host order.
pub(super) fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(hex.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut octets = [0; 16];
            for (index, chunk) in octets.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index * 8)?);
            }
            Some(Ipv6Addr::from(octets).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;
    use crate::host::netns::tests::in_fresh_netns;

    #[test]
    fn the_kernels_addresses_are_read() {
        if cfg!(target_endian = "little") {
            assert_eq!(
                parse_address("0100007F"),
                Some("127.0.0.1".parse().unwrap())
            );
            let mapped = "0000000000000000FFFF00000A0A0A0A";
            assert_eq!(parse_address(mapped), Some("10.10.10.10".parse().unwrap()));
        }
        assert_eq!(
            parse_address("00000000000000000000000000000000"),
            Some("::".parse().unwrap())
        );
        for bad in ["", "0100007", "xxxxxxxx"] {
            assert_eq!(parse_address(bad), None, "{bad}");
        }
        assert_eq!(parse_socket("  0: garbage", Transport::Tcp), None);
    }

    #[test]
    fn the_sockets_of_this_namespace_are_seen() {
        in_fresh_netns("view sockets", || {
            let tcp = TcpListener::bind("127.0.0.1:61005").unwrap();
            let any = UdpSocket::bind("0.0.0.0:61006").unwrap();
            let connected = UdpSocket::bind("127.0.0.1:61007").unwrap();
            connected.connect("127.0.0.1:61006").unwrap();
            let view = HostView::read(&["nope".into()]).unwrap();
            let find = |port| *view.sockets.iter().find(|s| s.port == port).unwrap();
            assert_eq!(
                (find(61_005).transport, find(61_005).listens),
                (Transport::Tcp, true)
            );
            assert!(find(61_006).listens && find(61_006).addr.is_unspecified());
            assert!(!find(61_007).listens);
            assert_eq!(view.sockets.len(), 3, "{:?}", view.sockets);
            assert_eq!(view.name_of(1), "lo");
            drop((tcp, any));
        });
    }
}
