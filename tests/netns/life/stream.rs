//! Numbered datagrams, to count what was lost, and frames, to see when a port is back.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use vswitch_cli::lab::Host;
use vswitch_cli::lab::traffic::craft::ethernet;
use vswitch_cli::lab::traffic::frames::{Direction, Wire};
use vswitch_cli::lab::traffic::udp;

/// Room for what a receiver that does not run for some seconds is sent.
const BUFFER_BYTES: usize = 16 << 20;
/// From one datagram to the next.
const PACE: Duration = Duration::from_micros(500);
/// IEEE 802 local experimental EtherType 1: no stack answers it.
const ETHERTYPE: u16 = 0x88b5;

/// Datagrams from one container to another, 2,000 a second, until it is finished.
pub(super) struct Stream {
    stop: Arc<AtomicBool>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<Vec<u64>>,
}

/// What became of a stream.
#[derive(Debug)]
pub(super) struct Fate {
    pub(super) sent: u64,
    /// Numbers that never arrived.
    pub(super) lost: Vec<u64>,
    /// Arrivals beyond the first of each number.
    pub(super) doubled: u64,
    /// Arrivals behind a higher number.
    pub(super) late: u64,
}

impl Stream {
    /// Starts when the first datagram has arrived.
    pub(super) fn start(from: &Host, to: &Host, address: Ipv4Addr) -> Self {
        let receiving = udp::bind(to, SocketAddr::from((address, 0))).unwrap();
        let port = receiving.local_addr().unwrap().port();
        setsockopt(&receiving, sockopt::RcvBufForce, &BUFFER_BYTES).unwrap();
        let sending = udp::bind(from, SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))).unwrap();
        let destination = SocketAddr::from((address, port));
        // The first one resolves the neighbour, which may take more than one try.
        let began = (0..50).any(|_| {
            sending
                .send_to(&u64::MAX.to_be_bytes(), destination)
                .unwrap();
            udp::recv(&receiving, Duration::from_millis(200))
                .unwrap()
                .is_some()
        });
        assert!(began, "nothing gets from {} to {address}", from.label());
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let receiver = thread::spawn(move || receive(&receiving, &stopped));
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || send(&sending, destination, &stopped));
        Self {
            stop,
            sender,
            receiver,
        }
    }

    /// Stops sending, waits for what is under way, and counts.
    pub(super) fn finish(self) -> Fate {
        self.stop.store(true, Ordering::Release);
        let sent = self.sender.join().unwrap();
        let arrived = self.receiver.join().unwrap();
        let mut seen = vec![0_u64; usize::try_from(sent).unwrap()];
        let (mut highest, mut late) = (0, 0);
        for number in arrived {
            seen[usize::try_from(number).unwrap()] += 1;
            late += u64::from(number < highest);
            highest = highest.max(number);
        }
        Fate {
            sent,
            lost: (0..)
                .zip(&seen)
                .filter(|(_, n)| **n == 0)
                .map(|(i, _)| i)
                .collect(),
            doubled: seen.iter().map(|count| count.saturating_sub(1)).sum(),
            late,
        }
    }

    /// Finishes a stream that must have lost nothing.
    pub(super) fn finish_whole(self) {
        let fate = self.finish();
        assert!(fate.sent > 50, "{fate:?}");
        assert_eq!(
            (fate.lost.len(), fate.doubled, fate.late),
            (0, 0, 0),
            "{fate:?}"
        );
    }
}

fn send(socket: &UdpSocket, destination: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut number = 0_u64;
    while !stop.load(Ordering::Acquire) {
        // What the sender's own kernel refuses was not sent.
        if socket.send_to(&number.to_be_bytes(), destination).is_ok() {
            number += 1;
        }
        thread::sleep(PACE);
    }
    number
}

fn receive(socket: &UdpSocket, stop: &AtomicBool) -> Vec<u64> {
    let mut numbers = Vec::new();
    loop {
        // Asked first: what comes after the sender has stopped is waited for.
        let last = stop.load(Ordering::Acquire);
        match udp::recv(socket, Duration::from_millis(300)).unwrap() {
            Some((payload, _)) => {
                let number = u64::from_be_bytes(payload.try_into().unwrap());
                numbers.extend((number != u64::MAX).then_some(number));
            }
            None if last => return numbers,
            None => {}
        }
    }
}

/// One end of a path that frames are sent over: a host, its interface and its address.
#[derive(Clone, Copy)]
pub(super) struct Spot<'a> {
    pub(super) host: &'a Host,
    pub(super) interface: &'a str,
    pub(super) mac: [u8; 6],
}

impl<'a> Spot<'a> {
    /// The interface `eth0` of a host, with whatever address it has now.
    pub(super) fn of(host: &'a Host) -> Self {
        Self::on(host, "eth0")
    }

    pub(super) fn on(host: &'a Host, interface: &'a str) -> Self {
        let mac = host.link(interface).unwrap().mac.unwrap().0;
        Self {
            host,
            interface,
            mac,
        }
    }
}

/// How long it takes from now until frames pass between two spots in both directions. Frames need
/// no neighbour, so a kernel's own retries (one a second) play no part.
pub(super) fn resumed(a: Spot<'_>, b: Spot<'_>) -> Duration {
    let start = Instant::now();
    let mut near = Wire::open(a.host, a.interface).unwrap();
    let mut far = Wire::open(b.host, b.interface).unwrap();
    passes(&mut near, a.mac, &mut far, b.mac);
    passes(&mut far, b.mac, &mut near, a.mac);
    start.elapsed()
}

fn passes(from: &mut Wire, source: [u8; 6], to: &mut Wire, destination: [u8; 6]) {
    let frame = ethernet(destination, source, ETHERTYPE, &[0x5a; 46]);
    for _ in 0..1000 {
        // Its link may not be up yet; what is refused is sent again.
        let _ = from.send(&frame);
        let came = to.recv_matching(Duration::from_millis(3), |seen| {
            seen.direction == Direction::In && seen.bytes == frame
        });
        if came.ok().flatten().is_some() {
            return;
        }
    }
    panic!("no frame from {source:x?} gets to {destination:x?}");
}
