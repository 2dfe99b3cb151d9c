//! Frames offered whether they arrive or not, and counted where they arrive.
//!
//! The server's interface counts (`rx_packets`): no program has to receive anything. A UDP socket
//! is bound there, so that the kernel does not answer with ICMP, and never read: its queue is as
//! small as the kernel allows, and from then on a datagram is dropped as soon as it has found its
//! socket. That costs the server little, and the same whatever forwards.
#![expect(
    clippy::disallowed_methods,
    reason = "a load outside the switch: it waits for what is still under way"
)]

use std::fmt;
use std::fs;
use std::io;
use std::net::UdpSocket;
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use super::cpu::Reading;
use super::generator::{self, Way};
use super::pace::Pace;
use super::{Load, LoadError};
use crate::bench::path::{Path, Station};
use crate::bench::sample::Sample;
use crate::lab::traffic::udp;

/// The port of the discard protocol (RFC 863), where the frames go.
pub(super) const DISCARD: u16 = 9;
/// Where they come from.
pub(super) const SOURCE: u16 = 4000;
/// Counters of the calling thread's namespace.
const COUNTERS: &str = "/proc/thread-self/net/dev";
/// How often the server's counter is read after the end, and how far apart: 200 ms in all.
const SETTLE_POLLS: u32 = 10;
const SETTLE_PAUSE: Duration = Duration::from_millis(20);
/// How often stations try to reach each other before the load, and how long they wait each time.
const GREETINGS: u32 = 10;
const GREETING_PATIENCE: Duration = Duration::from_millis(200);

/// What kind of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// UDP in the shortest frames there are: 60 bytes, 64 with the FCS.
    Udp64,
    /// UDP with 1,400 bytes of payload.
    Udp1400,
    /// The shortest frames, for everybody, of an EtherType that nobody knows.
    Broadcast,
}

impl Kind {
    /// Bytes behind the UDP header, or behind the Ethernet header where there is no UDP.
    #[must_use]
    pub const fn payload_bytes(self) -> u16 {
        match self {
            Self::Udp64 => 18,
            Self::Udp1400 => 1400,
            Self::Broadcast => 46,
        }
    }

    /// The faster way to send them; only UDP can be cut by the kernel.
    const fn way(self) -> Way {
        match self {
            Self::Udp64 | Self::Udp1400 => Way::Cut,
            Self::Broadcast => Way::Each,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp64 => "64-byte UDP frames",
            Self::Udp1400 => "UDP frames of 1,400 bytes of payload",
            Self::Broadcast => "64-byte broadcast frames",
        })
    }
}

/// Sends frames of `kind` from client to server; the value is million frames a second that the
/// server's interface received.
///
/// # Errors
/// [`LoadError::Path`] when the stations do not reach each other by UDP, or nothing arrives.
pub fn run(path: &Path<'_>, load: &Load, kind: Kind) -> Result<Sample, LoadError> {
    run_by(path, load, kind, kind.way())
}

/// As [`run`], from a sender that hands over one frame at a time.
///
/// # Errors
/// As [`run`].
pub fn run_each(path: &Path<'_>, load: &Load, kind: Kind) -> Result<Sample, LoadError> {
    run_by(path, load, kind, Way::Each)
}

/// As [`run`], by the given way.
pub(super) fn run_by(
    path: &Path<'_>,
    load: &Load,
    kind: Kind,
    way: Way,
) -> Result<Sample, LoadError> {
    let sink = introduce(path)?;
    let before = received(&path.server)?;
    let cpu = Reading::now(&path.processes)?;
    let sent = generator::send(path, kind, way, load.time, load.offered.map(Pace::new))?;
    let cpu = cpu.until_now(&path.processes)?;
    let after = settled(&path.server)?;
    drop(sink);
    // Whatever else arrived (an ARP request, say) is not ours.
    let frames = after.saturating_sub(before).min(sent.frames);
    if sent.frames == 0 {
        let why = "not one was due in the time, or the sender did not get its processor";
        return Err(LoadError::machine(format!("send {kind}"), why));
    }
    if frames == 0 {
        let what = between(kind, path);
        let why = format!("none of {} arrived", sent.frames);
        return Err(LoadError::path(what, why));
    }
    Ok(Sample {
        value: frames as f64 / sent.elapsed.as_secs_f64() / 1e6,
        elapsed: sent.elapsed,
        bits: frames as f64 * f64::from(kind.payload_bytes()) * 8.0,
        frames,
        offered: Some(sent.frames),
        latency: None,
        cpu,
    })
}

fn between(what: impl fmt::Display, path: &Path<'_>) -> String {
    let [from, to] = [&path.client, &path.server].map(|end| end.host.label());
    format!("{what} from {from} to {to}")
}

/// Has client and server exchange a datagram, which teaches the forwarder where both are, and
/// returns the server's socket, to be kept while frames come.
fn introduce(path: &Path<'_>) -> Result<UdpSocket, LoadError> {
    let near = udp::bind(path.client.host, (path.client.ip, SOURCE))?;
    let far = udp::bind(path.server.host, (path.server.ip, DISCARD))?;
    // The kernel rounds up to the least it allows, which is room for one or two of these.
    let greeted = SockRef::from(&far)
        .set_recv_buffer_size(1)
        .and_then(|()| greet(&near, &far));
    match greeted {
        Ok(true) => Ok(far),
        Ok(false) => {
            let why = "no datagram got there and back";
            Err(LoadError::path(between("UDP", path), why))
        }
        Err(err) => Err(LoadError::path(between("UDP", path), err)),
    }
}

fn greet(near: &UdpSocket, far: &UdpSocket) -> io::Result<bool> {
    for _ in 0..GREETINGS {
        near.send_to(b"hello", far.local_addr()?)?;
        let Some((text, from)) = udp::recv(far, GREETING_PATIENCE)? else {
            continue;
        };
        far.send_to(&text, from)?;
        if udp::recv(near, GREETING_PATIENCE)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Frames that the station's interface has received.
fn received(station: &Station<'_>) -> Result<u64, LoadError> {
    let what = || format!("read {COUNTERS} of {}", station.host.label());
    let text = station
        .host
        .attempt(what, || fs::read_to_string(COUNTERS))?;
    rx_packets(&text, station.link)
        .ok_or_else(|| LoadError::machine(what(), format!("no line of {}", station.link)))
}

/// The second figure behind the name (`dev_seq_printf_stats`, net/core/net-procfs.c).
fn rx_packets(text: &str, link: &str) -> Option<u64> {
    let of_link = |line: &str| {
        let (name, figures) = line.trim_start().split_once(':')?;
        (name == link).then(|| figures.split_whitespace().nth(1)?.parse().ok())?
    };
    text.lines().find_map(of_link)
}

/// As [`received`], once it stands still.
fn settled(station: &Station<'_>) -> Result<u64, LoadError> {
    let mut last = received(station)?;
    for _ in 0..SETTLE_POLLS {
        thread::sleep(SETTLE_PAUSE);
        let now = received(station)?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_is_that_of_the_link_of_just_this_name() {
        let text = "Inter-|   Receive                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes\n\
            \x20   lo:       1       2    0    0    0     0          0         0  3\n\
            \x20 eth0: 1234567   8910    0    0    0     0          0         0  3\n\
            \x20eth01:       4       5    0    0    0     0          0         0  3\n";
        assert_eq!(rx_packets(text, "eth0"), Some(8910));
        assert_eq!(rx_packets(text, "eth01"), Some(5));
        assert_eq!(rx_packets(text, "eth"), None);
    }

    #[test]
    fn the_shortest_frames_are_60_bytes() {
        assert_eq!(14 + 20 + 8 + Kind::Udp64.payload_bytes(), 60);
        assert_eq!(14 + Kind::Broadcast.payload_bytes(), 60);
    }
}
