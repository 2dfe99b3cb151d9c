//! Holding ports of the host, so that no other program takes what is published.
//!
//! A published port that nobody holds could be taken by any program of the host, whose callers
//! would then get the container or the program, by which way they come. So every port is bound,
//! and TCP ports listen: with `SO_REUSEADDR`, which a restart needs (connections of before are in
//! TIME_WAIT for a minute), only a listening socket keeps others off (`inet_csk_get_port`).
//!
//! Source: `net/ipv4/inet_connection_sock.c`, `net/ipv4/udp.c`, proc(5) for `/proc/net/tcp`.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::path::Path;

use socket2::{Domain, Protocol, Socket, Type};

use crate::config::publish::{PublishedAt, Transport};

/// Connections that may wait to be accepted; the kernel bounds it by `somaxconn`.
const BACKLOG: i32 = 1024;
const IPPROTO_SCTP: i32 = 132;

/// Sockets that hold a range of ports, one for each, in their order.
#[derive(Debug)]
pub enum Held {
    /// Listening.
    Tcp(Vec<TcpListener>),
    /// Bound.
    Udp(Vec<UdpSocket>),
    /// Listening; nothing is accepted.
    Sctp(Vec<Socket>),
    /// None: the kernel has no SCTP, and so no program that could take its ports.
    Nothing,
}

/// A port that could not be held.
#[derive(Debug)]
pub struct Taken {
    /// The port.
    pub port: u16,
    /// What the kernel said.
    pub error: io::Error,
    /// The program that has it, as far as that can be seen: `nginx (pid 42)`.
    pub owner: Option<String>,
}

impl Taken {
    /// Whether another has the port, and not anything else is wrong.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.error.kind() == io::ErrorKind::AddrInUse
    }
}

/// Binds every port of the range, non-blocking; all or none.
///
/// # Errors
/// The first port that cannot be had, and who has it.
pub fn hold(at: PublishedAt) -> Result<Held, Taken> {
    let address = at.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    let ports = at.ports.low..=at.ports.high;
    let all = |kind, protocol| -> Result<Vec<Socket>, Taken> {
        let one = |port| {
            bind(kind, protocol, SocketAddrV4::new(address, port)).map_err(|error| Taken {
                port,
                owner: owner(at.transport, address, port),
                error,
            })
        };
        ports.clone().map(one).collect()
    };
    match at.transport {
        Transport::Tcp => {
            let sockets = all(Type::STREAM, Protocol::TCP)?;
            Ok(Held::Tcp(sockets.into_iter().map(Into::into).collect()))
        }
        Transport::Udp => {
            let sockets = all(Type::DGRAM, Protocol::UDP)?;
            Ok(Held::Udp(sockets.into_iter().map(Into::into).collect()))
        }
        Transport::Sctp if !has_sctp() => Ok(Held::Nothing),
        Transport::Sctp => all(Type::STREAM, Protocol::from(IPPROTO_SCTP)).map(Held::Sctp),
    }
}

/// Whether the kernel speaks SCTP now. To ask by a socket would load the module.
#[must_use]
pub fn has_sctp() -> bool {
    Path::new("/proc/thread-self/net/sctp").exists()
}

fn bind(kind: Type, protocol: Protocol, address: SocketAddrV4) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, kind.nonblocking(), Some(protocol))?;
    let listens = kind == Type::STREAM;
    if listens {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&address.into())?;
    if listens {
        socket.listen(BACKLOG)?;
    } else {
        // The address a datagram came to is the one its answer must come from.
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Ipv4PacketInfo, &true)?;
    }
    Ok(socket)
}

/// A port of the host's own range that is neither reserved nor taken by another publish; whether a
/// program has it shows when it is held.
pub fn free_ports(
    range: (u16, u16),
    reserved: &super::sysctl::PortSet,
) -> impl Iterator<Item = u16> {
    let (low, high) = range;
    (low..=high).filter(move |port| !reserved.contains(*port))
}

/// Who has a port, of the programs this one may look into.
fn owner(transport: Transport, address: Ipv4Addr, port: u16) -> Option<String> {
    let files = match transport {
        Transport::Tcp => ["tcp", "tcp6"],
        Transport::Udp => ["udp", "udp6"],
        Transport::Sctp => return None,
    };
    let inode = files.iter().find_map(|file| {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).ok()?;
        let mut lines = text.lines().skip(1);
        lines.find_map(|line| inode_of(line, address, port))
    })?;
    let link = format!("socket:[{inode}]");
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes of others cannot be looked into without privileges.
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let mut files = files.flatten();
        if files.any(|file| fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == &*link)) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", name.trim()));
        }
    }
    None
}

/// The inode of the socket in a line of `/proc/net/{tcp,udp}`, if it has the port on the address.
fn inode_of(line: &str, address: Ipv4Addr, port: u16) -> Option<u64> {
    const TCP_TIME_WAIT: &str = "06";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, number) = fields.get(1)?.split_once(':')?;
    if u16::from_str_radix(number, 16).ok()? != port || *fields.get(3)? == TCP_TIME_WAIT {
        return None;
    }
    let local = super::view::parse_address(local)?;
    let same = local.is_unspecified() || address.is_unspecified() || local == address;
    let inode = fields.get(9)?.parse().ok()?;
    same.then_some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::netns::tests::in_fresh_netns;

    fn at(text: &str) -> PublishedAt {
        text.parse().unwrap()
    }

    #[test]
    fn a6_4_a_held_port_is_nobody_elses() {
        in_fresh_netns("hold", || {
            let Held::Tcp(tcp) = hold(at("8080-8082")).unwrap() else {
                panic!("not TCP")
            };
            let Held::Udp(udp) = hold(at("8080/udp")).unwrap() else {
                panic!("not UDP")
            };
            assert_eq!((tcp.len(), udp.len()), (3, 1));
            for address in ["0.0.0.0", "127.0.0.1"] {
                let error = TcpListener::bind((address, 8081)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{address}");
                let error = UdpSocket::bind((address, 8080)).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{address}");
            }
            let taken = hold(at("127.0.0.1:8070-8090")).unwrap_err();
            assert_eq!(taken.port, 8080);
            let owner = taken.owner.unwrap();
            let this = format!("(pid {})", std::process::id());
            assert!(owner.ends_with(&this), "{owner}");
            assert!(TcpListener::bind("127.0.0.1:8070").is_ok(), "all or none");
            drop((tcp, udp));
            assert!(hold(at("8080-8082")).is_ok() && hold(at("8080/udp")).is_ok());
        });
    }

    #[test]
    fn sctp_is_held_where_there_is_such_a_thing() {
        in_fresh_netns("hold sctp", || {
            let held = hold(at("8080/sctp")).unwrap();
            assert_eq!(matches!(held, Held::Sctp(_)), has_sctp(), "{held:?}");
        });
    }
}
