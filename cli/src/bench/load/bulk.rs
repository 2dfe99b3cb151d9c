//! Bulk TCP: as much payload as goes through.
//!
//! Every stream has a sending and a receiving thread and moves blocks of 128 KiB; a receiver adds
//! what it read to a counter of its own, and the measuring thread reads all counters at the
//! beginning and at the end of the measuring time. Slow start, ARP and learning lie before it.
//!
//! At the end both ends of every connection are shut down and reset (linger 0), so that no queue of
//! this run drains into the next one.
#![expect(
    clippy::disallowed_methods,
    reason = "a load outside the switch: it times its own measurement"
)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::cpu::Reading;
use super::{Load, LoadError, between, broken, listening};
use crate::bench::path::Path;
use crate::bench::sample::{Cpu, Sample};
use crate::lab::traffic::tcp;

/// Bytes handed to the kernel, or asked of it, at once.
const BLOCK: usize = 128 << 10;
/// Longest warm-up; a fifth of the measuring time when that is less.
const WARM_UP: Duration = Duration::from_millis(250);
/// How long a connection may take: a lost SYN is sent again after 1 s.
const SET_UP: Duration = Duration::from_secs(3);

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The client, who also connects.
    ToServer,
    /// The server, over connections that the client opened.
    ToClient,
}

/// A connection on its way from its sender to its receiver.
struct Stream {
    sender: TcpStream,
    receiver: TcpStream,
}

/// What the threads and the measuring thread share.
struct Shared {
    stop: AtomicBool,
    /// Bytes received; one for each stream, so that no two threads write to one.
    received: Vec<AtomicU64>,
}

impl Shared {
    fn bytes(&self) -> u64 {
        let counters = self.received.iter();
        counters.map(|one| one.load(Ordering::Relaxed)).sum()
    }
}

/// What was found between the beginning and the end of the measuring time.
struct Found {
    bytes: u64,
    elapsed: Duration,
    cpu: Cpu,
}

/// Measures `streams` connections at once; the value is Gbit/s of payload that arrived.
///
/// # Errors
/// [`LoadError::Path`] when a connection cannot be made within 3 s, breaks, or carries nothing.
pub fn run(
    path: &Path<'_>,
    load: &Load,
    streams: usize,
    direction: Direction,
) -> Result<Sample, LoadError> {
    let listener = tcp::listen(path.server.host, listening(path))?;
    let to = listener
        .local_addr()
        .map_err(|err| LoadError::machine("listen", err))?;
    let to = path.published.unwrap_or(to);
    let what = || between("bulk TCP", path, to);
    let mut connections = Vec::new();
    for _ in 0..streams {
        let near = tcp::connect_within(path.client.host, to, SET_UP)
            .map_err(|err| LoadError::path(what(), err))?;
        let (far, _) =
            tcp::accept(&listener, SET_UP).map_err(|err| LoadError::path(what(), err))?;
        connections.push(match direction {
            Direction::ToServer => Stream {
                sender: near,
                receiver: far,
            },
            Direction::ToClient => Stream {
                sender: far,
                receiver: near,
            },
        });
    }
    let found = transfer(path, load.time, &connections, &what)?;
    if found.bytes == 0 {
        let why = format!("connected, but no byte arrived in {:?}", found.elapsed);
        return Err(LoadError::path(what(), why));
    }
    let bits = found.bytes as f64 * 8.0;
    Ok(Sample {
        value: bits / found.elapsed.as_secs_f64() / 1e9,
        elapsed: found.elapsed,
        bits,
        frames: 0,
        offered: None,
        latency: None,
        cpu: found.cpu,
    })
}

/// Starts two threads for each connection, measures, and ends them whatever happened.
fn transfer(
    path: &Path<'_>,
    time: Duration,
    connections: &[Stream],
    what: &dyn Fn() -> String,
) -> Result<Found, LoadError> {
    let shared = Shared {
        stop: AtomicBool::new(false),
        received: connections.iter().map(|_| AtomicU64::new(0)).collect(),
    };
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (stream, received) in connections.iter().zip(&shared.received) {
            let stop = &shared.stop;
            threads.push(scope.spawn(move || send(&stream.sender, stop)));
            threads.push(scope.spawn(move || receive(&stream.receiver, stop, received)));
        }
        let found = measure(path, time, &shared);
        shared.stop.store(true, Ordering::Release);
        connections.iter().for_each(abort);
        let mut first = None;
        for thread in threads {
            let ended = thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            first = first.or(ended.err());
        }
        match first {
            Some(err) => Err(LoadError::path(what(), broken(&err))),
            None => found,
        }
    })
}

fn measure(path: &Path<'_>, time: Duration, shared: &Shared) -> Result<Found, LoadError> {
    thread::sleep(WARM_UP.min(time / 5));
    let cpu = Reading::now(&path.processes)?;
    let (started, before) = (Instant::now(), shared.bytes());
    thread::sleep(time);
    let (elapsed, after) = (started.elapsed(), shared.bytes());
    Ok(Found {
        bytes: after - before,
        elapsed,
        cpu: cpu.until_now(&path.processes)?,
    })
}

/// Wakes whoever waits in the connection, and has the kernel forget it when it is closed.
fn abort(stream: &Stream) {
    for end in [&stream.sender, &stream.receiver] {
        // Fails on a connection that has ended already, which is all that is wanted.
        let _ = SockRef::from(end).set_linger(Some(Duration::ZERO));
        let _ = end.shutdown(Shutdown::Both);
    }
}

/// Writes until told to stop; an error after that is the end that was asked for.
fn send(mut stream: &TcpStream, stop: &AtomicBool) -> io::Result<()> {
    let block = vec![0x5a; BLOCK];
    while !stop.load(Ordering::Acquire) {
        match stream.write(&block) {
            Ok(_) => {}
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if stop.load(Ordering::Acquire) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}

fn receive(mut stream: &TcpStream, stop: &AtomicBool, received: &AtomicU64) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut bytes = 0;
    while !stop.load(Ordering::Acquire) {
        match stream.read(&mut block) {
            Ok(0) if !stop.load(Ordering::Acquire) => {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(len) => {
                bytes += len as u64;
                received.store(bytes, Ordering::Relaxed);
            }
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(_) if stop.load(Ordering::Acquire) => {}
            Err(err) => return Err(err),
        }
    }
    Ok(())
}
