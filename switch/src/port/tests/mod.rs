//! Ports against the real kernel: veth pairs and TAPs in namespaces of their own.

pub(crate) mod link;
mod packet;
mod tap;
mod uplink;

use super::sys::poll::Waiter;
use super::{Egress, HotBuffers, Losses, Outgoing, PortIndex, Rx, SendOutcome, Tx};
use super::{PacketOptions, PacketRx, RingGeometry};
use crate::frame::{Csum, Gso, Offload, OwnedFrame};
use std::time::Duration;

const INGRESS: PortIndex = PortIndex(7);

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long it waits to be sure that nothing comes.
const SILENCE: Duration = Duration::from_millis(60);

/// A frame as it was sent or received.
#[derive(Clone, PartialEq, Eq)]
struct Seen {
    bytes: Vec<u8>,
    offload: Offload,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = &self.bytes[..self.bytes.len().min(24)];
        write!(
            f,
            "{} bytes {head:02x?}.. {:?}",
            self.bytes.len(),
            self.offload
        )
    }
}

impl Seen {
    fn plain(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            offload: Offload::PLAIN,
        }
    }
}

fn options(ifindex: u32, geometry: Option<RingGeometry>) -> PacketOptions<'static> {
    PacketOptions {
        name: "near",
        ifindex,
        ingress: INGRESS,
        geometry,
        usual: RingGeometry::HYBRID_DEFAULT,
        promiscuous: false,
        filter: None,
        fanout: None,
        fast_path: None,
    }
}

fn open(ifindex: u32, geometry: Option<RingGeometry>) -> Rx {
    Rx::Packet(PacketRx::open(&options(ifindex, geometry)).unwrap())
}

/// Reads until `count` frames have come or the patience is over.
fn receive(rx: &mut Rx, count: usize) -> Vec<Seen> {
    receive_for(rx, count, PATIENCE)
}

fn receive_for(rx: &mut Rx, count: usize, patience: Duration) -> Vec<Seen> {
    let mut hot = HotBuffers::new();
    let mut waiter = Waiter::new();
    waiter.watch(rx.fd().unwrap());
    let mut seen = Vec::new();
    while seen.len() < count {
        let batch = rx.fill(&mut hot);
        let empty = batch.is_empty();
        seen.extend(batch.iter().map(|frame| {
            assert_eq!(frame.ingress, INGRESS);
            Seen {
                bytes: frame.bytes().to_vec(),
                offload: frame.offload,
            }
        }));
        drop(batch);
        rx.release();
        if empty && waiter.wait(Some(patience)) == 0 {
            break;
        }
    }
    seen
}

/// Asserts that nothing comes.
fn receive_none(rx: &mut Rx) {
    assert_eq!(receive_for(rx, 1, SILENCE), []);
}

fn send(tx: &mut Tx, egress: &Egress, frames: &[Seen]) -> Vec<SendOutcome> {
    let mut owned: Vec<_> = frames
        .iter()
        .map(|frame| OwnedFrame::new(&frame.bytes, frame.offload, INGRESS))
        .collect();
    let frames: Vec<_> = owned
        .iter_mut()
        .map(|owned| {
            let mut frame = owned.borrow();
            frame.seal(54);
            frame
        })
        .collect();
    let outgoing: Vec<_> = frames
        .iter()
        .map(|frame| Outgoing {
            sealed: frame.sealed(),
            egress,
        })
        .collect();
    let mut outcomes = Vec::new();
    tx.send(&outgoing, &mut outcomes);
    assert_eq!(outcomes.len(), frames.len());
    outcomes
}

fn send_all(tx: &mut Tx, egress: &Egress, frames: &[Seen]) {
    let outcomes = send(tx, egress, frames);
    assert!(
        outcomes.iter().all(|&outcome| outcome == SendOutcome::Sent),
        "{outcomes:?}"
    );
}

/// A frame of `len` bytes that nobody's stack answers, told apart by `number`.
fn frame(number: u32, len: usize) -> Seen {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5];
    bytes.extend(number.to_be_bytes());
    bytes.extend((bytes.len()..len).map(|at| at.to_le_bytes()[0]));
    Seen::plain(bytes)
}

/// A frame with one or two tags in front of the EtherType.
fn tagged(number: u32, tags: &[u8]) -> Seen {
    let mut seen = frame(number, 100);
    seen.bytes.splice(12..12, tags.iter().copied());
    seen
}

/// One TCP segment over IPv4 that is to be cut into many: `payload` bytes, checksum unfinished.
fn tcp4_gso(number: u32, payload: usize) -> Seen {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    let ip_len = u16::try_from(40 + payload).unwrap();
    bytes.extend([0x45, 0]);
    bytes.extend(ip_len.to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    bytes.extend([0x9c, 0x40, 0, 80]);
    bytes.extend(number.to_be_bytes());
    bytes.extend([0, 0, 0, 0, 0x50, 0x10, 1, 0, 0x12, 0x34, 0, 0]);
    bytes.extend((0..payload).map(|at| (at % 251).to_le_bytes()[0]));
    let csum = Csum::Partial {
        start: 34,
        offset: 16,
    };
    Seen {
        bytes,
        offload: Offload {
            csum,
            gso: Gso::Tcp4 {
                mss: 1448,
                ecn: false,
            },
        },
    }
}
