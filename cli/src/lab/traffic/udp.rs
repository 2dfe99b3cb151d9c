//! Datagrams: exchanges, an echo server, segmented sends, crafted checksums, queued errors.
//!
//! Source: udp(7), ip(7), RFC 768.
#![expect(
    clippy::disallowed_methods,
    reason = "a traffic source outside the switch: it keeps its own time limits"
)]

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::craft::{self, Checksum, Ipv4};
use crate::lab::error::{Result, While};
use crate::lab::network::Host;

/// Largest payload of a datagram over IPv4, bytes.
pub const LARGEST: usize = 65_507;
/// How soon the echo server notices that it shall end.
const ROUND: Duration = Duration::from_millis(20);

/// A socket in `host` bound to `address` (port 0: any).
///
/// # Errors
/// `EADDRINUSE`, after a second; `EADDRNOTAVAIL`.
pub fn bind(host: &Host, address: impl Into<SocketAddr>) -> Result<UdpSocket> {
    let address = address.into();
    let what = || format!("bind UDP {address} in {}", host.label());
    host.attempt(what, || super::bound(|| UdpSocket::bind(address)))
}

/// Waits at most `timeout` for a datagram.
///
/// # Errors
/// Whatever `recvfrom(2)` says, for example `ECONNREFUSED` on a connected socket; silence is
/// `None`.
pub fn recv(socket: &UdpSocket, timeout: Duration) -> io::Result<Option<(Vec<u8>, SocketAddr)>> {
    let mut buffer = vec![0; 65_536];
    let until = Instant::now() + timeout;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        // The socket takes a zero for "for ever".
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) => {
                buffer.truncate(len);
                return Ok(Some((buffer, from)));
            }
            Err(err) if is_timeout(&err) => return Ok(None),
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

/// Sends `payload` to `to` and waits at most `timeout` for a datagram back.
///
/// # Errors
/// As `sendto(2)` and [`recv`].
pub fn exchange(
    socket: &UdpSocket,
    to: impl Into<SocketAddr>,
    payload: &[u8],
    timeout: Duration,
) -> io::Result<Option<(Vec<u8>, SocketAddr)>> {
    socket.send_to(payload, to.into())?;
    recv(socket, timeout)
}

/// Sends `payload` by one call as datagrams of `segment` bytes (`UDP_SEGMENT`), which the kernel
/// or the device cuts.
///
/// # Errors
/// `EINVAL` for more than 64 (128 on new kernels) segments, `EIO` where checksums are switched
/// off.
pub fn send_segmented(
    socket: &UdpSocket,
    to: impl Into<SocketAddr>,
    payload: &[u8],
    segment: u16,
) -> io::Result<()> {
    setsockopt(socket, sockopt::UdpGsoSegment, &i32::from(segment))?;
    let sent = socket.send_to(payload, to.into());
    setsockopt(socket, sockopt::UdpGsoSegment, &0)?;
    sent.map(|_| ())
}

/// A datagram made by hand and sent by a raw socket, header included.
#[derive(Debug, Clone)]
pub struct Crafted<'a> {
    /// Source address and port; an unspecified address makes the checksum wrong.
    pub source: SocketAddrV4,
    /// Destination address and port.
    pub destination: SocketAddrV4,
    /// Payload.
    pub payload: &'a [u8],
    /// The checksum to send, for example `Exactly(0)`.
    pub checksum: Checksum,
    /// The don't-fragment bit.
    pub dont_fragment: bool,
    /// Cut into fragments of at most this many bytes, sent in this order; empty for in order.
    pub fragment_at: usize,
    /// Send the fragments last to first.
    pub reverse_fragments: bool,
}

impl<'a> Crafted<'a> {
    /// A datagram with a right checksum and the don't-fragment bit clear.
    #[must_use]
    pub fn new(source: SocketAddrV4, destination: SocketAddrV4, payload: &'a [u8]) -> Self {
        Self {
            source,
            destination,
            payload,
            checksum: Checksum::Right,
            dont_fragment: false,
            fragment_at: 1500,
            reverse_fragments: false,
        }
    }

    /// Sends it from the calling thread's namespace.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW, `EMSGSIZE` beyond the interface's MTU.
    pub fn send(&self) -> io::Result<()> {
        let datagram = craft::udp(self.source, self.destination, self.payload, self.checksum);
        let [from, to] = [*self.source.ip(), *self.destination.ip()];
        let header = Ipv4 {
            id: self.source.port().max(1),
            dont_fragment: self.dont_fragment,
            ..Ipv4::new(from, to, craft::UDP)
        };
        let mut packets = header.fragments(&datagram, self.fragment_at);
        if self.reverse_fragments {
            packets.reverse();
        }
        for packet in packets {
            send_packet(to, &packet)?;
        }
        Ok(())
    }
}

/// Sends one IPv4 packet, header included, from the calling thread's namespace.
///
/// # Errors
/// `EPERM` without CAP_NET_RAW, `EMSGSIZE` beyond the interface's MTU, `ENETUNREACH`.
pub fn send_packet(destination: Ipv4Addr, packet: &[u8]) -> io::Result<()> {
    // IPPROTO_RAW only sends, and implies that the header is included.
    let raw = Protocol::from(libc::IPPROTO_RAW);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(raw))?;
    let to = SocketAddrV4::new(destination, 0).into();
    socket.send_to(packet, &to).map(|_| ())
}

/// An error that the kernel queued on a socket (`IP_RECVERR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedError {
    /// What the next call on the socket would have returned.
    pub errno: Errno,
    /// ICMP type; 0 when the error is local.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The path MTU in bytes with `EMSGSIZE`.
    pub info: u32,
    /// Who sent the ICMP error.
    pub from: Option<Ipv4Addr>,
}

/// Makes the kernel queue errors on `socket`.
///
/// # Errors
/// Whatever `setsockopt(2)` says.
pub fn queue_errors(socket: &UdpSocket) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::Ipv4RecvErr, &true)?)
}

/// Takes the oldest queued error, waiting at most `timeout` for one.
///
/// # Errors
/// Whatever `recvmsg(2)` says.
pub fn queued_error(socket: &UdpSocket, timeout: Duration) -> io::Result<Option<QueuedError>> {
    const PAUSE: Duration = Duration::from_millis(2);
    let until = Instant::now() + timeout;
    loop {
        if let Some(error) = try_queued_error(socket)? {
            return Ok(Some(error));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

fn try_queued_error(socket: &UdpSocket) -> io::Result<Option<QueuedError>> {
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let fd = socket.as_raw_fd();
    let message = match recvmsg::<SockaddrIn>(fd, &mut [], Some(&mut control), flags) {
        Ok(message) => message,
        Err(Errno::EAGAIN) => return Ok(None),
        Err(err) => return Err(err.into()),
    };
    for part in message.cmsgs()? {
        if let ControlMessageOwned::Ipv4RecvErr(error, offender) = part {
            return Ok(Some(QueuedError {
                errno: Errno::from_raw(i32::try_from(error.ee_errno).unwrap_or(0)),
                kind: error.ee_type,
                code: error.ee_code,
                info: error.ee_info,
                from: offender.map(|from| u32::from_be(from.sin_addr.s_addr).into()),
            }));
        }
    }
    Ok(None)
}

/// A server that sends every datagram back to where it came from; it ends with its value.
#[derive(Debug)]
pub struct EchoServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Starts a server in `host` on `address` (port 0: any).
    ///
    /// # Errors
    /// `EADDRINUSE`, `EADDRNOTAVAIL`.
    pub fn start(host: &Host, address: impl Into<SocketAddr>) -> Result<Self> {
        let socket = bind(host, address)?;
        let what = || format!("start an echo server in {}", host.label());
        let address = socket.local_addr().while_doing(what)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("lab-echo".to_owned())
            .spawn(move || {
                while !stopped.load(Ordering::Acquire) {
                    // An ICMP error for an answer of ours shows up as an error here: not our end.
                    if let Ok(Some((payload, from))) = recv(&socket, ROUND) {
                        let _ = socket.send_to(&payload, from);
                    }
                }
            })
            .while_doing(what)?;
        Ok(Self {
            address,
            stop,
            thread: Some(thread),
        })
    }

    /// Where the server listens, in its own host's view.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn is_timeout(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
