//! The generator of frames.
//!
//! # Theory of operation
//!
//! A frame that a packet socket sends costs a system call's share, an skb, and a pass through the
//! device layer at whose end the softirq of the receiving veth runs, frame by frame. One call for
//! 128 frames (`sendmmsg`) saves only the first. The second way hands over *one* datagram that asks
//! to be cut into 64 (`VIRTIO_NET_HDR_GSO_UDP_L4`, Linux 6.2) while the sender's device has
//! `tx-udp-segmentation` switched off: the kernel cuts it in `validate_xmit_skb`, and what leaves
//! the station are 64 ordinary frames in one go, like those that any program sends one by one.
//!
//! Over a bare cable (Linux 6.18, two processors shared with other work, nine interleaved pairs of
//! 0.7 s, all that was offered was delivered), medians, in processor time of sending and receiving
//! together, which the other work disturbs less than it does the rate:
//!
//! | frames | one by one | cut by the kernel | ratio in a pair |
//! |---|---|---|---|
//! | 64 bytes | 2,080 ns, 0.18 Mpps | 900 ns, 0.51 Mpps | 2.4 (2.1 to 2.9) |
//! | 1,400 bytes of payload | 2,080 ns, 0.15 Mpps | 930 ns, 0.44 Mpps | 2.2 (2.0 to 2.6) |
//!
//! So UDP is cut. Broadcast frames are no UDP and go one by one.
//!
//! The UDP checksum of a cut frame is left to the device, as that of any program in a namespace is;
//! where a bed has switched `tx-checksum-ip-generic` off, the kernel completes it while cutting.
#![expect(
    clippy::disallowed_methods,
    reason = "a load outside the switch: it times and paces what it sends"
)]

use std::net::SocketAddrV4;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::prctl;
use switch::frame::{Csum, Gso, Offload};
use switch::port::{Egress, Outgoing, SendOutcome, Tx};

use super::LoadError;
use super::datagrams::{DISCARD, Kind, SOURCE};
use super::pace::{BATCH_MAX, Pace};
use crate::bench::path::{Path, Station};
use crate::lab::traffic::craft::{self, Checksum, Ipv4, ethernet, internet_checksum};

/// Ethernet header, IPv4 header, UDP header.
const HEADERS: u16 = 14 + 20 + 8;
/// Where the UDP header starts in a frame, and its checksum in that.
const UDP_START: u16 = 14 + 20;
const UDP_CHECKSUM: u16 = 6;
/// An EtherType for local experiments (IEEE 802, clause 9.2.3): no kernel answers it.
const EXPERIMENTAL: u16 = 0x88b5;
/// Payload bytes of the longest datagram that is handed over at once, so that it stays below
/// 64 KiB with its headers.
const LONGEST: u32 = 65_000;
/// Frames per system call at full speed: four datagrams of 64, or that many single frames.
const CALL: u32 = 256;
/// The device feature that cuts long datagrams; without it the kernel does so before.
const UDP_SEGMENTATION: &str = "tx-udp-segmentation";
/// What sleeping costs in lateness; closer than this to the next batch the sender spins.
const SLEEP_LATENESS: Duration = Duration::from_micros(15);

/// How frames are handed to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// One by one, up to 128 per system call.
    Each,
    /// Up to 64 as one datagram that the kernel cuts.
    Cut,
}

/// What the generator sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) frames: u64,
    pub(super) elapsed: Duration,
}

/// Sends frames of `kind` from the client for `time`, in its namespace, as fast as it can or at
/// `pace`. A frame that the next device has no room for counts as sent: the path has lost it.
pub(super) fn send(
    path: &Path<'_>,
    kind: Kind,
    way: Way,
    time: Duration,
    pace: Option<Pace>,
) -> Result<Sent, LoadError> {
    let Station { host, link, .. } = path.client;
    let what = || format!("send {kind} from {}", host.label());
    // A kernel that has no such switch (before 5.6) does not take datagrams to be cut either.
    let can_cut = way == Way::Cut && host.switch_off(link, &[UDP_SEGMENTATION]).is_ok();
    let ifindex = host.link(link)?.index;
    host.run(|| {
        // Otherwise a sleep ends up to 50 us late. Without it the pace is only rougher.
        let _ = prctl::set_timerslack(1);
        let mut tx = Tx::open().map_err(|err| LoadError::machine(what(), err))?;
        let mut pump = |way| {
            let pace = pace.clone();
            let most = pace.as_ref().map_or(BATCH_MAX, Pace::batch);
            let (sealed, frames) = sealed(path, kind, way, most);
            let per_call = if pace.is_some() { most } else { CALL };
            let egress = Egress::Packet { ifindex };
            let one = Outgoing {
                sealed: &sealed,
                egress: &egress,
            };
            let batch = vec![one; usize::try_from(per_call.div_ceil(frames)).unwrap_or(1)];
            pump(&mut tx, &batch, time, pace).map(|(messages, elapsed)| Sent {
                frames: messages * u64::from(frames),
                elapsed,
            })
        };
        let sent = match can_cut.then(|| pump(Way::Cut)) {
            // Before Linux 6.2: refused at the first, so nothing has been sent yet.
            Some(Err(SendOutcome::Offload)) | None => pump(Way::Each),
            Some(sent) => sent,
        };
        sent.map_err(|refused| LoadError::machine(what(), format!("it is {refused:?}")))
    })?
}

/// Sends `batch` over and over; how many messages went out and how long it took, or what became of
/// the first that the kernel refused.
fn pump(
    tx: &mut Tx,
    batch: &[Outgoing<'_>],
    time: Duration,
    mut pace: Option<Pace>,
) -> Result<(u64, Duration), SendOutcome> {
    let mut outcomes = Vec::with_capacity(batch.len());
    let mut messages = 0;
    let started = Instant::now();
    loop {
        let elapsed = started.elapsed();
        if elapsed >= time {
            return Ok((messages, elapsed));
        }
        if let Some(pace) = &mut pace
            && !pace.take(elapsed)
        {
            pause(pace.wait(elapsed).min(time - elapsed));
            continue;
        }
        outcomes.clear();
        tx.send(batch, &mut outcomes);
        for outcome in &outcomes {
            match outcome {
                SendOutcome::Sent | SendOutcome::Full => messages += 1,
                SendOutcome::TooBig
                | SendOutcome::Down
                | SendOutcome::Gone
                | SendOutcome::Offload
                | SendOutcome::Refused(_) => return Err(*outcome),
            }
        }
    }
}

/// Sleeps while there is time for it, and spins for the rest.
fn pause(wait: Duration) {
    match wait.checked_sub(SLEEP_LATENESS) {
        Some(sleep) if !sleep.is_zero() => thread::sleep(sleep),
        _ => std::hint::spin_loop(),
    }
}

/// What is handed over at once, with its virtio-net header, and how many frames it is; `most` is
/// the most it may be.
fn sealed(path: &Path<'_>, kind: Kind, way: Way, most: u32) -> (Vec<u8>, u32) {
    let payload = kind.payload_bytes();
    let count = match way {
        Way::Cut => most.min(LONGEST / u32::from(payload)).max(1),
        Way::Each => 1,
    };
    let (offload, frame) = match kind {
        Kind::Broadcast => {
            let body = vec![0; payload.into()];
            let source = path.client.mac;
            let frame = ethernet(craft::BROADCAST, source, EXPERIMENTAL, &body);
            (Offload::PLAIN, frame)
        }
        Kind::Udp64 | Kind::Udp1400 => datagram(path, payload, count),
    };
    let mut sealed = offload.to_vnet(HEADERS).to_vec();
    sealed.extend(frame);
    (sealed, count)
}

/// A datagram of `count` times `payload` bytes; its checksum is finished if it is not to be cut.
fn datagram(path: &Path<'_>, payload: u16, count: u32) -> (Offload, Vec<u8>) {
    let from = SocketAddrV4::new(path.client.ip, SOURCE);
    let to = SocketAddrV4::new(path.server.ip, DISCARD);
    let body = vec![0; usize::from(payload) * usize::try_from(count).unwrap_or(1)];
    let (offload, checksum) = if count > 1 {
        let csum = Csum::Partial {
            start: UDP_START,
            offset: UDP_CHECKSUM,
        };
        let gso = Gso::Udp { size: payload };
        let len = u16::try_from(8 + body.len()).unwrap_or(u16::MAX);
        let [from, to] = [from, to].map(|end| end.ip().octets());
        let pseudo = [&[0, craft::UDP][..], &len.to_be_bytes()].concat();
        // The device adds the datagram to the sum of the pseudo-header, which is not inverted.
        let sum = !internet_checksum(&[&from, &to, &pseudo]);
        (Offload { csum, gso }, Checksum::Exactly(sum))
    } else {
        (Offload::PLAIN, Checksum::Right)
    };
    let udp = craft::udp(from, to, &body, checksum);
    let packet = Ipv4::new(*from.ip(), *to.ip(), craft::UDP).packet(&udp);
    let frame = ethernet(
        path.server.mac,
        path.client.mac,
        craft::ETHERTYPE_IPV4,
        &packet,
    );
    (offload, frame)
}
