//! Connections: bulk transfers whose every byte is checked, round trips, refusals.
//!
//! # Theory of operation
//!
//! The sender repeats a block of pseudo-random bytes whose length is a prime number, so that a
//! lost, doubled, moved or altered piece of any ordinary size is at the wrong place of the block
//! and is found by comparing memory, which is fast enough not to be the limit. The receiver times
//! from the first byte to the end of the stream, so the connection's setting up is not counted.
//!
//! Every wait of a stream has a limit, so that a path that loses everything ends a transfer with
//! an error and never hangs it.
#![expect(
    clippy::disallowed_methods,
    reason = "a traffic source outside the switch: it times its own transfers"
)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;

use super::Rtts;
use crate::lab::error::{LabError, Result, While};
use crate::lab::network::Host;

/// Length of the repeated block: a prime, so no multiple of any segment, page or buffer.
const BLOCK_LEN: usize = 1_048_573;
/// Bytes handed to the kernel or taken from it at once.
const CHUNK: usize = 256 << 10;
/// How long one read or write may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection's setting up may take: one lost SYN is sent again after 1 s.
const SET_UP: Duration = Duration::from_secs(2);

/// An endless stream of bytes that depends only on its seed.
#[derive(Debug, Clone)]
pub struct Pattern(Vec<u8>);

impl Pattern {
    /// The stream of `seed` (splitmix64).
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        let mut block = Vec::with_capacity(BLOCK_LEN + 8);
        while block.len() < BLOCK_LEN {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut word = state;
            word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            block.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
        }
        block.truncate(BLOCK_LEN);
        Self(block)
    }

    /// The stream from `offset` on: at least one byte, at most `most`.
    #[must_use]
    pub fn at(&self, offset: u64, most: usize) -> &[u8] {
        let start = usize::try_from(offset % BLOCK_LEN as u64).unwrap_or(0);
        let end = self.0.len().min(start + most.max(1));
        &self.0[start..end]
    }

    /// Compares `bytes` with the stream from `offset` on; the place of the first difference.
    ///
    /// # Errors
    /// The offset in the stream of the first byte that differs.
    pub fn check(&self, offset: u64, bytes: &[u8]) -> std::result::Result<(), u64> {
        let mut done = 0;
        while done < bytes.len() {
            let place = offset + done as u64;
            let expected = self.at(place, bytes.len() - done);
            let got = &bytes[done..done + expected.len()];
            if got != expected {
                let same = got.iter().zip(expected).take_while(|(a, b)| a == b);
                return Err(place + same.count() as u64);
            }
            done += expected.len();
        }
        Ok(())
    }
}

/// How much a transfer carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// Exactly this many bytes.
    Bytes(u64),
    /// As many as go through in this time.
    For(Duration),
}

/// What came of a bulk transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BulkReport {
    /// Bytes received, all of them right.
    pub bytes: u64,
    /// From the first byte to the end of the stream, at the receiver.
    pub elapsed: Duration,
    /// The sender's address as the receiver saw it.
    pub seen_from: SocketAddr,
}

impl BulkReport {
    /// Payload rate in 10⁹ bits per second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a rate needs no 64 bits")]
    pub fn gbit_per_s(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64().max(1e-9) / 1e9
    }
}

/// A listening socket in `host` on `address` (port 0: any).
///
/// # Errors
/// `EADDRINUSE`, after a second; `EADDRNOTAVAIL`.
pub fn listen(host: &Host, address: impl Into<SocketAddr>) -> Result<TcpListener> {
    let address = address.into();
    let what = || format!("listen on TCP {address} in {}", host.label());
    host.attempt(what, || super::bound(|| TcpListener::bind(address)))
}

/// Connects from `host`, within 2 s.
///
/// # Errors
/// `ECONNREFUSED` after a reset, `TimedOut` after silence, `EHOSTUNREACH` or `ENETUNREACH`.
pub fn connect(host: &Host, to: impl Into<SocketAddr>) -> Result<TcpStream> {
    connect_within(host, to, SET_UP)
}

/// Connects from `host` within `timeout`.
///
/// # Errors
/// As [`connect`].
pub fn connect_within(
    host: &Host,
    to: impl Into<SocketAddr>,
    timeout: Duration,
) -> Result<TcpStream> {
    let to = to.into();
    let what = || format!("connect from {} to TCP {to}", host.label());
    host.attempt(what, || {
        let stream = TcpStream::connect_timeout(&to, timeout)?;
        set_patience(&stream)?;
        Ok(stream)
    })
}

/// Accepts a connection within `timeout`.
///
/// # Errors
/// `TimedOut` when none came.
pub fn accept(listener: &TcpListener, timeout: Duration) -> io::Result<(TcpStream, SocketAddr)> {
    let limit = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, limit)? == 0 {
        return Err(io::ErrorKind::TimedOut.into());
    }
    let (stream, from) = listener.accept()?;
    set_patience(&stream)?;
    Ok((stream, from))
}

fn set_patience(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// Sends a bulk transfer from `client` to `listener`, which the client reaches at `to`.
///
/// # Errors
/// When the connection fails or stalls for 5 s, and (`InvalidData`) when a byte is wrong.
pub fn bulk(
    client: &Host,
    to: impl Into<SocketAddr>,
    listener: &TcpListener,
    amount: Amount,
    seed: u64,
) -> Result<BulkReport> {
    let to = to.into();
    let what = || format!("transfer from {} to TCP {to}", client.label());
    let pattern = Pattern::new(seed);
    thread::scope(|scope| {
        let receiver = scope.spawn(|| -> io::Result<BulkReport> {
            let (stream, seen_from) = accept(listener, SET_UP)?;
            receive(stream, &pattern, seen_from)
        });
        let sent = connect(client, to).and_then(|stream| {
            let sent = send(&stream, &pattern, amount);
            sent.while_doing(what)
        });
        let received = receiver
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // The receiver's finding (a wrong byte) explains a sender's reset, not the reverse; but
        // without a connection the receiver only knows that nobody came.
        match (sent, received) {
            (Ok(sent), Ok(report)) if sent == report.bytes => Ok(report),
            (Ok(sent), Ok(report)) => {
                let text = format!("{sent} bytes were sent, {} arrived", report.bytes);
                Err(LabError::new(what(), io::Error::other(text)))
            }
            (_, Err(err)) if err.kind() == io::ErrorKind::InvalidData => {
                Err(LabError::new(what(), err))
            }
            (Err(err), _) => Err(err),
            (Ok(_), Err(err)) => Err(LabError::new(what(), err)),
        }
    })
}

/// Sends `amount` of the pattern and closes the sending direction; the number of bytes sent.
///
/// # Errors
/// Whatever the connection says; a stall of 5 s.
pub fn send(mut stream: &TcpStream, pattern: &Pattern, amount: Amount) -> io::Result<u64> {
    let started = Instant::now();
    let mut sent = 0;
    loop {
        let most = match amount {
            Amount::Bytes(total) => usize::try_from(total - sent).unwrap_or(CHUNK).min(CHUNK),
            Amount::For(time) if started.elapsed() < time => CHUNK,
            Amount::For(_) => 0,
        };
        if most == 0 {
            break;
        }
        match stream.write(pattern.at(sent, most)) {
            Ok(len) => sent += len as u64,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(sent)
}

/// Receives until the end of the stream and checks every byte.
///
/// # Errors
/// `InvalidData` with the place of the first wrong byte; whatever the connection says; a stall of
/// 5 s.
pub fn receive(
    mut stream: TcpStream,
    pattern: &Pattern,
    seen_from: SocketAddr,
) -> io::Result<BulkReport> {
    let mut buffer = vec![0; CHUNK];
    let mut bytes = 0_u64;
    let mut first = None;
    loop {
        let len = match stream.read(&mut buffer) {
            Ok(len) => len,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
            Err(err) => return Err(err),
        };
        let started = *first.get_or_insert_with(Instant::now);
        if len == 0 {
            return Ok(BulkReport {
                bytes,
                elapsed: started.elapsed(),
                seen_from,
            });
        }
        if let Err(place) = pattern.check(bytes, &buffer[..len]) {
            let text = format!("byte {place} of the stream is wrong");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        bytes += len as u64;
    }
}

/// Sends `count` requests of `size` bytes one after the other over one connection from `client`
/// to `listener`, which the client reaches at `to`, and times each until its echo is complete.
///
/// # Errors
/// When the connection fails, stalls for 5 s, or echoes wrong bytes.
pub fn round_trips(
    client: &Host,
    to: impl Into<SocketAddr>,
    listener: &TcpListener,
    count: u32,
    size: usize,
) -> Result<Rtts> {
    let to = to.into();
    let what = || format!("round trips from {} to TCP {to}", client.label());
    thread::scope(|scope| {
        let server = scope.spawn(|| -> io::Result<()> {
            let (mut stream, _) = accept(listener, SET_UP)?;
            stream.set_nodelay(true)?;
            let mut buffer = vec![0; size.max(1)];
            for _ in 0..count {
                stream.read_exact(&mut buffer)?;
                stream.write_all(&buffer)?;
            }
            Ok(())
        });
        let measured = connect(client, to)
            .and_then(|stream| request(stream, count, size.max(1)).while_doing(what));
        let served = server
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let rtts = measured?;
        served.while_doing(what)?;
        Ok(rtts)
    })
}

fn request(mut stream: TcpStream, count: u32, size: usize) -> io::Result<Rtts> {
    stream.set_nodelay(true)?;
    let mut samples = Vec::new();
    let mut echo = vec![0; size];
    for round in 0..count {
        let request = vec![round.to_le_bytes()[0]; size];
        let started = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut echo)?;
        samples.push(started.elapsed());
        if echo != request {
            let text = format!("the echo of request {round} is wrong");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    Ok(Rtts::new(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_lost_or_altered_piece_is_found() {
        let pattern = Pattern::new(7);
        let mut stream = Vec::new();
        while stream.len() < 3_000_000 {
            stream.extend_from_slice(pattern.at(stream.len() as u64, CHUNK));
        }
        assert_eq!(pattern.check(0, &stream), Ok(()));
        assert_eq!(pattern.check(1_000_000, &stream[1_000_000..]), Ok(()));
        let mut altered = stream.clone();
        altered[2_000_000] ^= 1;
        assert_eq!(pattern.check(0, &altered), Err(2_000_000));
        for piece in [1, 1448, 4096, 65_536, 1 << 20] {
            let mut lost = stream.clone();
            lost.drain(1000..1000 + piece);
            let place = pattern.check(0, &lost).unwrap_err();
            assert!((1000..1010).contains(&place), "{piece}: {place}");
        }
        assert_ne!(Pattern::new(8).at(0, 64), pattern.at(0, 64));
    }
}
