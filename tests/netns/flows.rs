//! Numbered datagrams in flows of their own: what is lost must be counted somewhere, and what
//! overtakes another is a failure.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use switch::port::sys::affinity;
use vswitch_cli::lab::Host;
use vswitch_cli::lab::traffic::udp;

use super::traffic::ANY;
use super::world::World;

/// A receiver that hears nothing for so long, when all has been sent, has heard all.
const SILENCE: Duration = Duration::from_millis(400);
/// Datagrams a sender may be ahead of its receiver: a load that any machine can carry, and no flood
/// under which a test would fail for want of a processor.
const AHEAD: u32 = 64;
/// How long it waits for a receiver that is behind, before it takes what is missing for lost.
const BEHIND: Duration = Duration::from_millis(100);
const REST: Duration = Duration::from_micros(200);
/// Room for all datagrams of a flow at a receiver that gets no processor.
const RECEIVE_BYTES: usize = 16 << 20;

/// One flow: every datagram has the next number, and so have its answers.
pub(super) struct Flow {
    sender: UdpSocket,
    to: SocketAddr,
    sink: UdpSocket,
    answers: bool,
    /// The last number received.
    seen: AtomicU32,
}

/// Datagrams sent and received, answers included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) got: u64,
}

impl Flow {
    /// From a new socket in `from` to a new one in `to`, which is reached at `ip`.
    pub(super) fn new(from: &Host, to: &Host, ip: std::net::Ipv4Addr) -> Self {
        let sink = socket(to);
        let port = sink.local_addr().unwrap().port();
        Self {
            sender: socket(from),
            to: (ip, port).into(),
            sink,
            answers: false,
            seen: AtomicU32::new(0),
        }
    }

    /// From `sender` to `sink`, which it reaches at `to`.
    pub(super) fn between(sender: UdpSocket, to: SocketAddr, sink: UdpSocket) -> Self {
        Self {
            sender,
            to,
            sink,
            answers: false,
            seen: AtomicU32::new(0),
        }
    }

    /// Each datagram is answered by one with a number of its own.
    pub(super) fn answered(mut self) -> Self {
        self.answers = true;
        self
    }
}

pub(super) fn socket(host: &Host) -> UdpSocket {
    let socket = udp::bind(host, ANY).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BYTES).unwrap();
    socket
}

/// Keeps the calling thread on one processor: each has a queue of its own between the two ends of
/// a veth, and a sender that changed over could overtake itself there, before any switch.
fn pin(number: usize) {
    let cpus = affinity::allowed_cpus().unwrap();
    affinity::pin_current_thread(cpus[number % cpus.len()]).unwrap();
}

/// Sends `count` datagrams in every flow, all flows at once, and receives them.
///
/// # Panics
/// Where a number is not higher than the one before it in its flow, or a flow is seen from two
/// addresses.
pub(super) fn run(flows: &[Flow], count: u32) -> Tally {
    let sending = AtomicUsize::new(flows.len());
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (number, flow) in flows.iter().enumerate() {
            let sending = &sending;
            scope.spawn(move || {
                pin(number);
                send(flow, count);
                sending.fetch_sub(1, SeqCst);
            });
            threads.push(scope.spawn(move || {
                pin(number);
                receive(&flow.sink, flow.answers, (sending, Some(&flow.seen)))
            }));
            if flow.answers {
                let back = flow.sender.try_clone().unwrap();
                threads.push(scope.spawn(move || {
                    pin(number);
                    receive(&back, false, (sending, None))
                }));
            }
        }
        let tallies = threads.into_iter().map(|thread| thread.join().unwrap());
        tallies.fold(sent(flows, count), |all, one| Tally {
            sent: all.sent + one.sent,
            got: all.got + one.got,
        })
    })
}

fn sent(flows: &[Flow], count: u32) -> Tally {
    Tally {
        sent: flows.len() as u64 * u64::from(count),
        got: 0,
    }
}

fn send(flow: &Flow, count: u32) {
    for number in 1..=count {
        let mut waited = Duration::ZERO;
        while number > flow.seen.load(SeqCst) + AHEAD && waited < BEHIND {
            thread::sleep(REST);
            waited += REST;
        }
        if waited >= BEHIND {
            flow.seen.fetch_max(number, SeqCst);
        }
        send_one(&flow.sender, number, flow.to);
    }
}

fn send_one(socket: &UdpSocket, number: u32, to: SocketAddr) {
    let mut payload = [0x5a; 64];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    socket.send_to(&payload, to).unwrap();
}

/// Receives until all has been sent and nothing more comes; the answers sent, and what was got.
fn receive(
    socket: &UdpSocket,
    answers: bool,
    (sending, progress): (&AtomicUsize, Option<&AtomicU32>),
) -> Tally {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let (mut tally, mut last, mut seen) = (Tally::default(), 0, None);
    let mut buffer = [0; 128];
    loop {
        let from = match socket.recv_from(&mut buffer) {
            Ok((64, from)) => from,
            Ok(other) => panic!("no datagram of ours: {other:?}"),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if sending.load(SeqCst) == 0 {
                    assert!(tally.got > 0, "nothing came through");
                    return tally;
                }
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let number = u32::from_be_bytes(*buffer.first_chunk().unwrap());
        assert!(number > last, "{number} after {last} from {from}");
        assert_eq!(*seen.get_or_insert(from), from, "one flow, one address");
        (last, tally.got) = (number, tally.got + 1);
        if let Some(progress) = progress {
            progress.fetch_max(number, SeqCst);
        }
        if answers {
            tally.sent += 1;
            send_one(socket, u32::try_from(tally.sent).unwrap(), from);
        }
    }
}

impl World {
    /// What is missing was dropped, and counted: by the switch, by a device, or by a socket.
    pub(super) fn accounts_for(&self, tally: Tally) {
        let switch: u64 = self.drops().values().sum();
        let inside = self.net.containers.iter().map(|c| (c, "eth0"));
        let hosts = inside.chain([(self.o(), "eth0")]);
        let kernel: u64 = hosts
            .map(|(host, device)| {
                self.since(host, "Udp", "RcvbufErrors") + device_drops(host, device)
            })
            .sum();
        let ports = self.net.port_names();
        let uplink = [vswitch_cli::lab::Topology::UPLINK.to_owned()];
        let here: u64 = (ports.iter().chain(&uplink))
            .map(|device| device_drops(self.h(), device))
            .sum();
        let missing = tally.sent - tally.got;
        assert!(
            missing <= switch + kernel + here,
            "{missing} of {} are missing: {switch} were dropped by the switch, {kernel} by the \
             hosts, {here} on their way",
            tally.sent
        );
    }
}

/// Frames a device dropped, both ways (proc_pid_net(5): `/proc/net/dev`).
fn device_drops(host: &Host, device: &str) -> u64 {
    let read = || std::fs::read_to_string("/proc/thread-self/net/dev");
    let text = host
        .attempt(|| "read /proc/net/dev".to_owned(), read)
        .unwrap();
    let head = format!("{device}:");
    let line = text
        .lines()
        .find_map(|line| line.trim().strip_prefix(&head));
    let fields: Vec<u64> = line
        .unwrap_or_else(|| panic!("no {device} in {text}"))
        .split_whitespace()
        .map(|field| field.parse().unwrap())
        .collect();
    fields[3] + fields[11]
}
