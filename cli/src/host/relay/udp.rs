//! Relayed datagrams.
//!
//! A client is its address and port, and the address of the host it spoke to: answers must come
//! from there (RFC 1123 4.1.3.5), which is why both directions carry `IP_PKTINFO`.

use std::collections::HashMap;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, sendmsg,
};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::{Live, Port};

/// Silence after which a client is forgotten, as docker's proxy does it.
const IDLE: Duration = Duration::from_secs(90);
/// Datagrams taken from a socket before others have their turn.
const BURST: usize = 64;

type Key = (SocketAddrV4, Ipv4Addr);
type Clients = Arc<Mutex<HashMap<Key, Arc<Client>>>>;

/// The way of one client to its target.
#[derive(Debug)]
struct Client {
    socket: UdpSocket,
    target: SocketAddrV4,
    spoke: Notify,
}

/// Relays until the range is published no more; the socket is closed before `port` is dropped.
pub(super) async fn serve(mut port: Port, socket: UdpSocket) {
    let socket = Arc::new(socket);
    let clients = Clients::default();
    loop {
        tokio::select! {
            ready = socket.readable() => {
                if ready.is_err() {
                    return;
                }
                take(&socket, &clients, &port);
                tokio::task::yield_now().await;
            }
            changed = port.targets.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Takes what is there and passes it on.
fn take(socket: &Arc<UdpSocket>, clients: &Clients, port: &Port) {
    let mut buffer = lock(&port.shared.buffer);
    for _ in 0..BURST {
        let received = socket.try_io(Interest::READABLE, || receive(socket, &mut buffer));
        let (length, key) = match received {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            // An ICMP error of an answer, told to whom it does not concern.
            Err(_) => continue,
        };
        let Some(client) = client(key, socket, clients, port) else {
            port.refuse();
            continue;
        };
        client.spoke.notify_one();
        // A datagram that cannot be sent now is lost, as datagrams are.
        // Not by the runtime, which knows of a new socket's readiness only later.
        let out = SockRef::from(&client.socket);
        let _ = out.send(buffer.get(..length).unwrap_or_default());
    }
}

/// The client of that key, made if it is new; `None`: no target, or no room.
fn client(
    key: Key,
    socket: &Arc<UdpSocket>,
    clients: &Clients,
    port: &Port,
) -> Option<Arc<Client>> {
    let mut known = lock(clients);
    if let Some(client) = known.get(&key)
        && port.leads_to(client.target)
    {
        return Some(Arc::clone(client));
    }
    let target = port.choose(*key.0.ip())?;
    let permit = Arc::clone(&port.shared.clients).try_acquire_owned().ok()?;
    let out = connected(target).ok()?;
    let client = Arc::new(Client {
        socket: out,
        target,
        spoke: Notify::new(),
    });
    known.insert(key, Arc::clone(&client));
    let answers = Answers {
        key,
        client: Arc::clone(&client),
        to: Arc::clone(socket),
        clients: Arc::clone(clients),
        port: port.clone(),
        _live: Live::of(port),
        _permit: permit,
    };
    tokio::spawn(answers.run());
    Some(client)
}

fn connected(target: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// The way back to one client.
struct Answers {
    key: Key,
    client: Arc<Client>,
    to: Arc<UdpSocket>,
    clients: Clients,
    port: Port,
    _live: Live,
    _permit: OwnedSemaphorePermit,
}

impl Answers {
    async fn run(mut self) {
        loop {
            tokio::select! {
                ready = self.client.socket.readable() => {
                    if ready.is_err() {
                        break;
                    }
                    self.take();
                    tokio::task::yield_now().await;
                }
                () = self.client.spoke.notified() => {}
                () = tokio::time::sleep(IDLE) => break,
                changed = self.port.targets.changed() => {
                    if changed.is_err() || !self.port.leads_to(self.client.target) {
                        break;
                    }
                }
            }
        }
        let mut known = lock(&self.clients);
        // By now there may be another of that key, with another target.
        if (known.get(&self.key)).is_some_and(|client| Arc::ptr_eq(client, &self.client)) {
            known.remove(&self.key);
        }
    }

    fn take(&self) {
        let mut buffer = lock(&self.port.shared.buffer);
        for _ in 0..BURST {
            match self.client.socket.try_recv(&mut buffer) {
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    // Lost where it cannot be sent now, as datagrams are.
                    let _ = send(&self.to, bytes, self.key);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The target refuses: no program is there yet.
                Err(_) => {}
            }
        }
    }
}

/// A datagram, who sent it and to which address.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<(usize, Key)> {
    let mut control = nix::cmsg_space!(libc::in_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
    let to = message.cmsgs()?.find_map(|part| {
        let ControlMessageOwned::Ipv4PacketInfo(info) = part else {
            return None;
        };
        Some(Ipv4Addr::from_bits(u32::from_be(info.ipi_spec_dst.s_addr)))
    });
    let from = message.address.map(SocketAddrV4::from);
    let key = from.zip(to).ok_or(io::ErrorKind::InvalidData)?;
    Ok((message.bytes, key))
}

/// Answers a client from the address it spoke to.
fn send(socket: &UdpSocket, bytes: &[u8], (client, from): Key) -> io::Result<()> {
    let info = libc::in_pktinfo {
        ipi_ifindex: 0,
        ipi_spec_dst: libc::in_addr {
            s_addr: from.to_bits().to_be(),
        },
        ipi_addr: libc::in_addr { s_addr: 0 },
    };
    let control = [ControlMessage::Ipv4PacketInfo(&info)];
    let parts = [IoSlice::new(bytes)];
    let flags = MsgFlags::MSG_DONTWAIT;
    let to = SockaddrIn::from(client);
    sendmsg(socket.as_raw_fd(), &parts, &control, flags, Some(&to))?;
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What a panic left half done is a buffer's content, or an entry that is there or not.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
