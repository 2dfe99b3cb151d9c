//! Echo requests, and what came back: replies, errors, or nothing.
//!
//! Requests are written header included, so that the don't-fragment bit, the TTL, the
//! identification and the fragmentation are exactly what was asked for, and no path MTU that the
//! kernel has learnt meanwhile interferes. Answers are read by a raw socket, which sees every ICMP
//! message of the namespace, and are sorted out by the echo identifier.
//!
//! Source: RFC 792, raw(7), icmp(7).
#![expect(
    clippy::disallowed_methods,
    reason = "a traffic source outside the switch: it times its own round trips"
)]

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use super::Rtts;
use super::craft::{ICMP, Ipv4, Seen, icmp_echo_request};

/// ICMP types (RFC 792).
const ECHO_REPLY: u8 = 0;
const DESTINATION_UNREACHABLE: u8 = 3;
const ECHO_REQUEST: u8 = 8;
const TIME_EXCEEDED: u8 = 11;
const PARAMETER_PROBLEM: u8 = 12;
/// Code of "fragmentation needed and DF set" (RFC 1191).
const FRAGMENTATION_NEEDED: u8 = 4;

static RUNS: AtomicU16 = AtomicU16::new(0);

/// A series of echo requests to one address.
#[derive(Debug, Clone)]
pub struct Ping {
    /// Where to.
    pub destination: Ipv4Addr,
    /// Source address; the kernel's choice when absent.
    pub source: Option<Ipv4Addr>,
    /// Number of requests.
    pub count: u16,
    /// Time between two requests; a request is also not sent before the one before is answered or
    /// this time is over.
    pub interval: Duration,
    /// How long the last request's answer is waited for.
    pub timeout: Duration,
    /// Payload in bytes, up to 65,507.
    pub size: usize,
    /// Echo identifier; one that no other series of this process uses when absent.
    pub id: Option<u16>,
    /// Set the don't-fragment bit.
    pub dont_fragment: bool,
    /// Time to live.
    pub ttl: u8,
    /// Cut requests into fragments of at most this many bytes; by default 1500.
    pub fragment_at: usize,
    /// Send the fragments of a request last to first.
    pub reverse_fragments: bool,
}

impl Ping {
    /// One request of 56 bytes, don't-fragment clear, TTL 64, an answer within one second.
    #[must_use]
    pub fn to(destination: Ipv4Addr) -> Self {
        Self {
            destination,
            source: None,
            count: 1,
            interval: Duration::from_millis(10),
            timeout: Duration::from_secs(1),
            size: 56,
            id: None,
            dont_fragment: false,
            ttl: 64,
            fragment_at: 1500,
            reverse_fragments: false,
        }
    }

    /// The same with `count` requests.
    #[must_use]
    pub fn count(self, count: u16) -> Self {
        Self { count, ..self }
    }

    /// The same with `size` bytes of payload.
    #[must_use]
    pub fn size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// The same waiting `timeout` for the last answer.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The same with the don't-fragment bit.
    #[must_use]
    pub fn dont_fragment(self) -> Self {
        Self {
            dont_fragment: true,
            fragment_at: usize::MAX,
            ..self
        }
    }

    /// Sends the requests from the calling thread's namespace and collects the answers.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW; when a request could not be sent: `ENETUNREACH`, or `EMSGSIZE`
    /// for a packet beyond the interface's MTU.
    pub fn run(&self) -> io::Result<PingReport> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4))?;
        socket.set_header_included_v4(true)?;
        // A reply of 64 KiB counts several times its size against the buffer.
        socket.set_recv_buffer_size(4 << 20)?;
        let id = self.id.unwrap_or_else(fresh_id);
        let mut series = Series {
            ping: self,
            socket,
            id,
            sent_at: Vec::new(),
            answered: vec![false; usize::from(self.count)],
            rtts: Vec::new(),
            report: PingReport::default(),
            buffer: vec![0; 65_536],
        };
        for seq in 0..self.count {
            series.send(seq)?;
            let last = seq + 1 == self.count;
            series.collect(if last { self.timeout } else { self.interval })?;
            if !last {
                series.pause(self.interval);
            }
        }
        Ok(series.finish())
    }
}

/// An identifier that is unlikely to be in use: the processes of a machine count from different
/// starts.
fn fresh_id() -> u16 {
    let [low, high, ..] = process::id().to_le_bytes();
    let start = u16::from_le_bytes([low, high]).wrapping_mul(257);
    start.wrapping_add(RUNS.fetch_add(1, Ordering::Relaxed))
}

/// An ICMP error that came back for one of our requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IcmpError {
    /// Who sent it.
    pub from: Ipv4Addr,
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// Next-hop MTU in bytes of a "fragmentation needed" (RFC 1191), else 0.
    pub mtu: u16,
    /// Sequence number of the request that it quotes.
    pub seq: u16,
}

impl IcmpError {
    /// Whether it says that the packet was too big.
    #[must_use]
    pub fn is_too_big(&self) -> bool {
        self.kind == DESTINATION_UNREACHABLE && self.code == FRAGMENTATION_NEEDED
    }
}

/// What came of a [`Ping`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PingReport {
    /// Requests sent.
    pub sent: u16,
    /// Requests answered by the destination with the right bytes.
    pub received: u16,
    /// Further replies to a request that was answered already.
    pub duplicates: u16,
    /// Replies with wrong bytes or a wrong length.
    pub corrupt: u16,
    /// Replies that did not come from the destination.
    pub strangers: Vec<Ipv4Addr>,
    /// TTL of the last right reply.
    pub ttl: Option<u8>,
    /// Round-trip times of the right replies.
    pub rtts: Rtts,
    /// Errors that quote one of our requests.
    pub errors: Vec<IcmpError>,
}

impl PingReport {
    /// Whether every request was answered once and rightly, and nothing else came.
    #[must_use]
    pub fn is_perfect(&self) -> bool {
        self.received == self.sent
            && self.duplicates == 0
            && self.corrupt == 0
            && self.strangers.is_empty()
            && self.errors.is_empty()
    }
}

struct Series<'a> {
    ping: &'a Ping,
    socket: Socket,
    id: u16,
    sent_at: Vec<Instant>,
    answered: Vec<bool>,
    rtts: Vec<Duration>,
    report: PingReport,
    buffer: Vec<u8>,
}

impl Series<'_> {
    fn send(&mut self, seq: u16) -> io::Result<()> {
        let ping = self.ping;
        let message = icmp_echo_request(self.id, seq, &payload(ping.size, seq));
        let source = ping.source.unwrap_or(Ipv4Addr::UNSPECIFIED);
        let header = Ipv4 {
            ttl: ping.ttl,
            // Fragments of one packet share an identification; whole ones take the kernel's.
            id: if ping.dont_fragment {
                0
            } else {
                self.id.wrapping_add(seq).max(1)
            },
            dont_fragment: ping.dont_fragment,
            ..Ipv4::new(source, ping.destination, ICMP)
        };
        let mut packets = header.fragments(&message, ping.fragment_at.min(65_535));
        if ping.reverse_fragments {
            packets.reverse();
        }
        let to = SocketAddrV4::new(ping.destination, 0).into();
        self.sent_at.push(Instant::now());
        for packet in packets {
            self.socket.send_to(&packet, &to)?;
        }
        self.report.sent += 1;
        Ok(())
    }

    /// Reads until every request so far is answered or refused, or `patience` is over.
    fn collect(&mut self, patience: Duration) -> io::Result<()> {
        let until = Instant::now() + patience;
        while self.is_waiting() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            // The socket takes a zero for "for ever".
            self.socket
                .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
            match self.socket.read(&mut self.buffer) {
                Ok(len) => {
                    if let Some(packet) = Seen::in_packet(&self.buffer[..len]) {
                        self.sort_out(&packet);
                    }
                }
                Err(err) if is_timeout(&err) => return Ok(()),
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        let quoted = |seq: usize| {
            let mut errors = self.report.errors.iter();
            errors.any(|error| usize::from(error.seq) == seq)
        };
        (0..self.sent_at.len()).any(|seq| !self.answered[seq] && !quoted(seq))
    }

    /// Waits for the rest of `interval` since the last request.
    fn pause(&self, interval: Duration) {
        if let Some(last) = self.sent_at.last() {
            std::thread::sleep(interval.saturating_sub(last.elapsed()));
        }
    }

    fn sort_out(&mut self, packet: &Seen) {
        let message = &packet.payload;
        match packet.icmp() {
            Some((ECHO_REPLY, _)) => self.reply(packet),
            Some((kind, code))
                if matches!(
                    kind,
                    DESTINATION_UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM
                ) =>
            {
                let quoted = message.get(8..).and_then(Seen::in_packet);
                let ours = quoted.and_then(|quoted| self.own_request(&quoted));
                if let Some(seq) = ours {
                    self.report.errors.push(IcmpError {
                        from: packet.source,
                        kind,
                        code,
                        mtu: word(message, 6).unwrap_or(0),
                        seq,
                    });
                }
            }
            _ => {}
        }
    }

    /// The sequence number, when an error quotes one of our requests.
    fn own_request(&self, quoted: &Seen) -> Option<u16> {
        let (kind, _) = quoted.icmp()?;
        let ours = kind == ECHO_REQUEST
            && quoted.destination == self.ping.destination
            && word(&quoted.payload, 4)? == self.id;
        word(&quoted.payload, 6).filter(|_| ours)
    }

    fn reply(&mut self, packet: &Seen) {
        let message = &packet.payload;
        let (Some(id), Some(seq)) = (word(message, 4), word(message, 6)) else {
            return;
        };
        let index = usize::from(seq);
        if id != self.id || index >= self.sent_at.len() {
            return;
        }
        let report = &mut self.report;
        if packet.source != self.ping.destination {
            report.strangers.push(packet.source);
        } else if message.get(8..) != Some(&payload(self.ping.size, seq))
            || packet.payload_checksum_ok() == Some(false)
        {
            report.corrupt += 1;
        } else if self.answered[index] {
            report.duplicates += 1;
        } else {
            self.answered[index] = true;
            report.received += 1;
            report.ttl = Some(packet.ttl);
            self.rtts.push(self.sent_at[index].elapsed());
        }
    }

    fn finish(mut self) -> PingReport {
        self.report.rtts = Rtts::new(self.rtts);
        self.report
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at + 2)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

/// Bytes that differ from request to request and from place to place.
fn payload(size: usize, seq: u16) -> Vec<u8> {
    let start = seq.to_le_bytes()[0];
    (0..size)
        .map(|i| (i % 251).to_le_bytes()[0].wrapping_add(start))
        .collect()
}

fn is_timeout(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
