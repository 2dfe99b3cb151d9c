//! Raw frames, and what becomes of them.

use std::net::Ipv4Addr;
use std::time::Duration;

use vswitch_cli::lab::Host;
use vswitch_cli::lab::traffic::capture::Capture;
use vswitch_cli::lab::traffic::craft;
use vswitch_cli::lab::traffic::frames::{Direction, SeenFrame, Wire};

/// Time in which a frame that is not to come would have come: the switch needs microseconds.
pub(super) const SILENCE: Duration = Duration::from_millis(60);
/// An EtherType nobody speaks (IEEE 802 local experimental).
pub(super) const EXPERIMENTAL: u16 = 0x88b5;

/// Counts the frames that come in on `eth0` of `host` and are `wanted`.
pub(super) fn count_in(host: &Host, wanted: impl Fn(&[u8]) -> bool + Send + 'static) -> Capture {
    let wanted = move |frame: &SeenFrame| frame.direction == Direction::In && wanted(&frame.bytes);
    Capture::start(host, "eth0", wanted).unwrap()
}

/// Counts the frames of [`EXPERIMENTAL`] that come in.
pub(super) fn count_experimental(host: &Host) -> Capture {
    count_in(host, |bytes| {
        bytes.get(12..14) == Some(&EXPERIMENTAL.to_be_bytes())
    })
}

pub(super) fn open(host: &Host) -> Wire {
    Wire::open(host, "eth0").unwrap()
}

/// A frame of [`EXPERIMENTAL`] with `payload` bytes that depend on `mark`.
pub(super) fn experimental(to: [u8; 6], from: [u8; 6], payload: usize, mark: u8) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload)
        .map(|i| i.to_le_bytes()[0].wrapping_add(mark))
        .collect();
    craft::ethernet(to, from, EXPERIMENTAL, &payload)
}

/// An ARP packet (RFC 826) as a frame from `sender` to `to`.
pub(super) fn arp(
    operation: u8,
    to: [u8; 6],
    sender: ([u8; 6], Ipv4Addr),
    target: ([u8; 6], Ipv4Addr),
) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, operation];
    body.extend(sender.0);
    body.extend(sender.1.octets());
    body.extend(target.0);
    body.extend(target.1.octets());
    craft::ethernet(to, sender.0, craft::ETHERTYPE_ARP, &body)
}

/// The next ARP reply that comes in for `asked`: its sender's address, and the frame.
pub(super) fn arp_reply(wire: &mut Wire, asked: Ipv4Addr, wait: Duration) -> Option<Vec<u8>> {
    let is_reply = |frame: &SeenFrame| {
        let bytes = &frame.bytes;
        frame.direction == Direction::In
            && bytes.get(12..14) == Some(&[8, 6])
            && bytes.get(20..22) == Some(&[0, 2])
            && bytes.get(28..32) == Some(&asked.octets())
    };
    wire.recv_matching(wait, is_reply)
        .unwrap()
        .map(|frame| frame.bytes)
}
