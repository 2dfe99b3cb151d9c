//! Connect, ask, be answered, be closed: what a NAT must make and forget a session for each time.
//! Or ask again on the same connection: what it must only find.
//!
//! # Theory of operation
//!
//! One client thread keeps eight connections in flight with non-blocking sockets, one server
//! thread answers them: more threads would only queue for the two or so processors. A transaction
//! is timed from `connect` to the end of the response, which the server marks by closing.
//!
//! The client uses [`PORTS`], a few thousand, over and over. A test that used each port once would
//! soon measure nothing but how many a NAT has been given, and the time-wait state at the server
//! would grow with the speed of the forwarder. That a port comes back is part of the test: the
//! server and any NAT must take a SYN for a connection that they still remember closing
//! (RFC 6191, RFC 5382 REQ-5).
#![expect(
    clippy::disallowed_methods,
    reason = "a load outside the switch: it times its own transactions"
)]

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

use super::cpu::Reading;
use super::served::{Ending, REQUEST, RESPONSE, serve, wait};
use super::times::Times;
use super::{Load, LoadError, between, listening};
use crate::bench::path::Path;
use crate::bench::sample::Sample;
use crate::host::sysctl;
use crate::lab::Host;
use crate::lab::traffic::tcp;

/// Connections in flight.
const IN_FLIGHT: usize = 8;
/// The client's ports, first and last.
pub const PORTS: (u16, u16) = (20_000, 23_999);
/// One that takes longer has failed: a lost SYN is sent again after 1 s, and after another 2.
const PATIENCE: Duration = Duration::from_secs(2);
/// How soon a connection that could not even be begun is tried again.
const ROUND: Duration = Duration::from_millis(10);
/// This part of the time is warm-up.
const WARM_UP_PART: u32 = 20;

/// Measures transactions; the value is how many were completed in a second.
///
/// # Errors
/// [`LoadError::Path`] when none is completed, [`LoadError::Failures`] when more than one in a
/// hundred fails.
pub fn run(path: &Path<'_>, load: &Load, ending: Ending) -> Result<Sample, LoadError> {
    let listener = tcp::listen(path.server.host, listening(path))?;
    let prepared = listener.local_addr().and_then(|to| {
        listener.set_nonblocking(true)?;
        Ok(to)
    });
    let to = prepared.map_err(|err| LoadError::machine("listen", err))?;
    let to = path.published.unwrap_or(to);
    let _ports = PortRange::set(path.client.host, PORTS)?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let server = scope.spawn(|| serve(TcpListener::from_std(listener), ending, &stop));
        let measured = path
            .client
            .host
            .run(|| measure(path, load.time, to, ending));
        stop.store(true, Ordering::Release);
        let served = server
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let sample = measured??;
        served.map_err(|err| LoadError::machine("serve transactions", err))?;
        Ok(sample)
    })
}

/// Runs in the client's namespace.
fn measure(
    path: &Path<'_>,
    time: Duration,
    to: SocketAddr,
    ending: Ending,
) -> Result<Sample, LoadError> {
    let what = || between("transactions over TCP", path, to);
    let client = Client::new(to, ending);
    let mut client = client.map_err(|err| LoadError::machine(what(), err))?;
    let mut go = |time, each: &mut dyn FnMut(Duration)| {
        let ended = client.go(time, each);
        ended.map_err(|err| LoadError::machine(what(), err))
    };
    let mut tally = go(time / WARM_UP_PART, &mut |_| {})?;
    let mut times = Times::new()?;
    let cpu = Reading::now(&path.processes)?;
    let started = Instant::now();
    let measured = go(time, &mut |took| times.record(took))?;
    let elapsed = started.elapsed();
    let cpu = cpu.until_now(&path.processes)?;
    let done = measured.done;
    tally.add(measured);
    tally.judge(what)?;
    Ok(Sample {
        value: done as f64 / elapsed.as_secs_f64(),
        elapsed,
        bits: 0.0,
        frames: 0,
        offered: None,
        latency: times.latency(),
        cpu,
    })
}

/// How many ended how.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    done: u64,
    failed: u64,
    first: Option<String>,
}

impl Tally {
    fn fail(&mut self, why: &dyn fmt::Display) {
        self.failed += 1;
        self.first.get_or_insert_with(|| why.to_string());
    }

    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.first = self.first.take().or(other.first);
    }

    /// Whether it is a measurement at all.
    fn judge(self, what: impl Fn() -> String) -> Result<(), LoadError> {
        let tried = self.done + self.failed;
        let first = self
            .first
            .unwrap_or_else(|| "none was answered in time".to_owned());
        if self.done == 0 {
            return Err(LoadError::path(what(), first));
        }
        if self.failed * 100 > tried {
            return Err(LoadError::Failures {
                what: what(),
                failed: self.failed,
                tried,
                first,
            });
        }
        Ok(())
    }
}

/// A transaction in flight.
struct Flight {
    stream: TcpStream,
    started: Instant,
    asked: bool,
    got: usize,
}

/// The asking side.
struct Client {
    to: SocketAddr,
    ending: Ending,
    poll: Poll,
    events: Events,
    /// The token of a connection is its place.
    flights: [Option<Flight>; IN_FLIGHT],
}

impl Client {
    fn new(to: SocketAddr, ending: Ending) -> io::Result<Self> {
        Ok(Self {
            to,
            ending,
            poll: Poll::new()?,
            events: Events::with_capacity(IN_FLIGHT),
            flights: Default::default(),
        })
    }

    /// Keeps all places busy until `time` is over and calls `each` with the time of each that was
    /// completed. What is in flight stays so: it belongs to the next call.
    fn go(&mut self, time: Duration, each: &mut dyn FnMut(Duration)) -> io::Result<Tally> {
        let mut tally = Tally::default();
        let end = Instant::now() + time;
        loop {
            let now = Instant::now();
            for place in 0..IN_FLIGHT {
                self.refill(place, now, &mut tally)?;
            }
            if now >= end {
                return Ok(tally);
            }
            wait(&mut self.poll, &mut self.events, ROUND.min(end - now))?;
            for event in &self.events {
                let Some(place) = self.flights.get_mut(event.token().0) else {
                    continue;
                };
                let Some(flight) = place else { continue };
                let stays = flight.attend(self.ending, &mut |took| {
                    tally.done += 1;
                    each(took);
                });
                match stays {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(err) => tally.fail(&err),
                }
                *place = None;
            }
        }
    }

    /// Gives up what has taken too long, and begins anew where nothing is in flight.
    fn refill(&mut self, place: usize, now: Instant, tally: &mut Tally) -> io::Result<()> {
        let flight = &mut self.flights[place];
        if let Some(late) = flight
            && now.saturating_duration_since(late.started) > PATIENCE
        {
            tally.fail(&format_args!("no answer in {} s", PATIENCE.as_secs()));
            let _ = SockRef::from(&late.stream).set_linger(Some(Duration::ZERO));
            *flight = None;
        }
        if flight.is_some() {
            return Ok(());
        }
        let started = Instant::now();
        match TcpStream::connect(self.to) {
            Ok(mut stream) => {
                let both = Interest::READABLE | Interest::WRITABLE;
                self.poll
                    .registry()
                    .register(&mut stream, Token(place), both)?;
                *flight = Some(Flight {
                    stream,
                    started,
                    asked: false,
                    got: 0,
                });
            }
            Err(err) => tally.fail(&err),
        }
        Ok(())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        for flight in self.flights.iter().flatten() {
            // Best effort: one that has ended needs no reset.
            let _ = SockRef::from(&flight.stream).set_linger(Some(Duration::ZERO));
        }
    }
}

impl Flight {
    /// Goes on until there is something to wait for, and calls `each` with the time of each
    /// transaction that was completed; whether the connection stays in flight.
    ///
    /// On one that stays open the next answer may be here as soon as its request is written, from a
    /// server on another processor: nobody would tell of it again.
    fn attend(&mut self, ending: Ending, each: &mut dyn FnMut(Duration)) -> io::Result<bool> {
        while self.go_on(ending)? {
            each(self.started.elapsed());
            if ending == Ending::Closed {
                return Ok(false);
            }
            (self.started, self.asked, self.got) = (Instant::now(), false, 0);
        }
        Ok(true)
    }

    /// Does what can be done without waiting; whether the transaction is complete.
    fn go_on(&mut self, ending: Ending) -> io::Result<bool> {
        if !self.asked {
            if let Some(err) = self.stream.take_error()? {
                return Err(err);
            }
            match self.stream.write(&[b'x'; REQUEST]) {
                Ok(REQUEST) => self.asked = true,
                // A fresh connection's buffer holds far more.
                Ok(_) => return Err(io::ErrorKind::WriteZero.into()),
                // A SYN is under way.
                Err(err) if is_not_yet(&err) => return Ok(false),
                Err(err) => return Err(err),
            }
        }
        let mut response = [0; RESPONSE];
        loop {
            if self.got == RESPONSE && ending == Ending::KeptOpen {
                return Ok(true);
            }
            match self.stream.read(&mut response) {
                Ok(0) if self.got == RESPONSE => return Ok(true),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.got += len,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) if is_not_yet(&err) => return Ok(false),
                Err(err) => return Err(err),
            }
        }
    }
}

fn is_not_yet(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected
    )
}

/// The ports that a host's kernel chooses from, changed until this value goes.
struct PortRange<'h> {
    host: &'h Host,
    before: String,
}

impl<'h> PortRange<'h> {
    fn set(host: &'h Host, (first, last): (u16, u16)) -> Result<Self, LoadError> {
        let key = sysctl::LOCAL_PORT_RANGE;
        let what = || format!("read {key} of {}", host.label());
        let before = host.attempt(what, || sysctl::read(key))?;
        host.sysctl(key, &format!("{first} {last}"))?;
        Ok(Self { host, before })
    }
}

impl Drop for PortRange<'_> {
    fn drop(&mut self) {
        // Best effort: the namespace is the load's own, and any range will do for the next one.
        let _ = self.host.sysctl(sysctl::LOCAL_PORT_RANGE, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// A connection of which `answers` are here already.
    fn answered(answers: usize) -> (Flight, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let asking = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut answering, _) = listener.accept().unwrap();
        answering
            .write_all(&vec![b'x'; answers * RESPONSE])
            .unwrap();
        let mut all = vec![0; answers * RESPONSE];
        while asking.peek(&mut all).unwrap() < all.len() {}
        asking.set_nonblocking(true).unwrap();
        let flight = Flight {
            stream: TcpStream::from_std(asking),
            started: Instant::now(),
            asked: false,
            got: 0,
        };
        (flight, answering)
    }

    #[test]
    fn a_connection_outlives_answers_that_are_here_before_they_are_waited_for() {
        let mut count = 0;
        let (mut kept, mut server) = answered(3);
        assert!(kept.attend(Ending::KeptOpen, &mut |_| count += 1).unwrap());
        assert!(kept.asked, "the fourth is under way");
        // Each answer had its question, and the next one has been asked.
        server.read_exact(&mut [0; 4 * REQUEST]).unwrap();
        assert_eq!(count, 3);

        drop(server);
        let err = kept.attend(Ending::KeptOpen, &mut |_| count += 1);
        assert_eq!(err.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(count, 3, "what broke was not completed");
    }

    #[test]
    fn one_failure_in_a_hundred_may_be() {
        let tally = |done, failed| {
            let first = Some("timed out".to_owned());
            let tally = Tally {
                done,
                failed,
                first,
            };
            tally.judge(|| "transactions".to_owned())
        };
        assert!(tally(100, 0).is_ok() && tally(99, 1).is_ok());
        let err = tally(98, 2).unwrap_err().to_string();
        assert_eq!(err, "2 of 100 transactions failed, the first: timed out");
        assert!(matches!(tally(0, 5), Err(LoadError::Path { .. })));
        let nothing = Tally::default().judge(|| "transactions".to_owned());
        assert!(matches!(nothing, Err(LoadError::Path { .. })));
    }
}
