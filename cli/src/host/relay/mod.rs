//! The host's own way to published ports.
//!
//! # Theory of operation
//!
//! What the host sends to itself, by 127.0.0.1 or by an address of its own, goes through `lo` and
//! is never seen by a packet socket. So the sockets that hold the published ports ([`super::hold`])
//! also answer: a connection is relayed to its target by way of the host port, like a proxy. The
//! target then sees the gateway's address, where it sees the client's own from outside.
//!
//! One thread with one runtime has all of it, apart from the workers and from the daemon's loop:
//!
//! ```text
//! tcp   a task for each port: accepts; one for each connection: copies both ways, half-closes,
//!       and reads no more than the other side takes
//! udp   a task for each port; one for each client, with a socket of its own to the target, so that
//!       answers are told apart; forgotten after 90 s of silence
//! ```
//!
//! Targets change by a watched value ([`Relayed::retarget`]): new connections go to the new ones,
//! and a UDP client whose target is gone is forgotten at once, so that its next datagram finds
//! another. Dropping [`Relayed`] ends every task and connection, and waits until the ports are
//! free.
//!
//! Everything is bounded: [`CONNECTIONS_MAX`], [`CLIENTS_MAX`]; beyond, what is new is refused.

mod tcp;
mod udp;

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot, watch};

use super::hold::Held;

/// TCP connections relayed at a time, each with two descriptors and 16 KiB.
pub const CONNECTIONS_MAX: usize = 4096;
/// UDP clients at a time, each with one descriptor.
pub const CLIENTS_MAX: usize = 4096;
/// The largest datagram there is (RFC 768), and a byte.
const DATAGRAM_BYTES: usize = 1 << 16;
/// How long dropping waits for the ports to come free.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Who is behind a published range.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Targets {
    /// Address, and port behind the first of the range.
    pub list: Vec<SocketAddrV4>,
    /// Whether a client keeps its target.
    pub by_source: bool,
}

/// The thread that relays. Dropping it ends everything it relays.
#[derive(Debug)]
pub struct Relay {
    handle: Handle,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What all tasks share.
#[derive(Debug)]
struct Shared {
    connections: Arc<Semaphore>,
    clients: Arc<Semaphore>,
    hasher: RandomState,
    /// Where datagrams pass through; tasks of one thread never wait for it.
    buffer: Mutex<Vec<u8>>,
}

/// What one published range was used for.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections and clients at present.
    pub live: AtomicUsize,
    /// Connections and clients so far.
    pub total: AtomicU64,
    /// Those refused: no target, too many, or the target did not answer.
    pub refused: AtomicU64,
    turn: AtomicUsize,
}

/// A published range that is relayed, until this is dropped.
#[derive(Debug)]
pub struct Relayed {
    targets: Option<watch::Sender<Arc<Targets>>>,
    counts: Arc<Counts>,
    open: Receiver<()>,
}

/// What a task of a port knows.
#[derive(Debug, Clone)]
struct Port {
    /// Its place in the range.
    offset: u16,
    targets: watch::Receiver<Arc<Targets>>,
    counts: Arc<Counts>,
    shared: Arc<Shared>,
    /// Gone with the last task that has the port's socket.
    _open: Sender<()>,
}

impl Relay {
    /// Starts the thread, in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel refuses the thread or its epoll instance.
    pub fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("relay".into())
            .spawn(move || {
                // A dropped sender ends it as well.
                runtime.block_on(async { drop(stopped.await) });
            })?;
        Ok(Self {
            handle,
            shared: Arc::new(Shared {
                connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
                clients: Arc::new(Semaphore::new(CLIENTS_MAX)),
                hasher: RandomState::new(),
                buffer: Mutex::new(vec![0; DATAGRAM_BYTES]),
            }),
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Relays what comes to the sockets to `targets`.
    ///
    /// # Errors
    /// The kernel does not let a socket be waited for.
    pub fn add(&self, held: Held, targets: Targets) -> io::Result<Relayed> {
        let (sender, watched) = watch::channel(Arc::new(targets));
        let (open, closed) = bounded(0);
        let counts = Arc::new(Counts::default());
        let port = |offset| Port {
            offset,
            targets: watched.clone(),
            counts: Arc::clone(&counts),
            shared: Arc::clone(&self.shared),
            _open: open.clone(),
        };
        let _inside = self.handle.enter();
        match held {
            Held::Tcp(listeners) => {
                for (offset, listener) in (0..).zip(listeners) {
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    self.handle.spawn(tcp::serve(port(offset), listener));
                }
            }
            Held::Udp(sockets) => {
                for (offset, socket) in (0..).zip(sockets) {
                    let socket = tokio::net::UdpSocket::from_std(socket)?;
                    self.handle.spawn(udp::serve(port(offset), socket));
                }
            }
            Held::Sctp(sockets) => {
                // Held, and refused: a proxy would make one stream of an association's many.
                let mut targets = watched.clone();
                let open = open.clone();
                self.handle.spawn(async move {
                    while targets.changed().await.is_ok() {}
                    drop((sockets, open));
                });
            }
            Held::Nothing => {}
        }
        Ok(Relayed {
            targets: Some(sender),
            counts,
            open: closed,
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed by the panic hook; nothing is left to stop.
            drop(thread.join());
        }
    }
}

impl Relayed {
    /// Leads what is new to other targets.
    pub fn retarget(&self, targets: Targets) {
        if let Some(sender) = &self.targets {
            sender.send_if_modified(|present| {
                let differs = **present != targets;
                if differs {
                    *present = Arc::new(targets);
                }
                differs
            });
        }
    }

    /// What it was used for.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        drop(self.targets.take());
        // Disconnected as soon as no task has a socket of the range any more.
        let _ = self.open.recv_timeout(CLOSE_WAIT);
    }
}

impl Port {
    /// The target for a new flow of that client.
    fn choose(&self, client: Ipv4Addr) -> Option<SocketAddrV4> {
        let targets = self.targets.borrow();
        let count = targets.list.len();
        let number = if count <= 1 {
            0
        } else if targets.by_source {
            usize::try_from(self.shared.hasher.hash_one(client) % count as u64).unwrap_or(0)
        } else {
            self.counts.turn.fetch_add(1, Ordering::Relaxed) % count
        };
        let target = targets.list.get(number)?;
        let port = target.port().checked_add(self.offset)?;
        Some(SocketAddrV4::new(*target.ip(), port))
    }

    /// Whether flows may still go to `target`.
    fn leads_to(&self, target: SocketAddrV4) -> bool {
        let targets = self.targets.borrow();
        let port = |first: &SocketAddrV4| first.port().checked_add(self.offset);
        let mut list = targets.list.iter();
        list.any(|first| first.ip() == target.ip() && port(first) == Some(target.port()))
    }

    fn refuse(&self) {
        self.counts.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts a flow as long as it lives.
struct Live(Arc<Counts>);

impl Live {
    fn of(port: &Port) -> Self {
        port.counts.live.fetch_add(1, Ordering::Relaxed);
        port.counts.total.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&port.counts))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.live.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
