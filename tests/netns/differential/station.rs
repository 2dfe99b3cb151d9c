//! Stations without a kernel behind them: what is sent is what the test made, and nothing answers
//! but ARP.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use vswitch_cli::lab::Host;
use vswitch_cli::lab::traffic::craft::{self, Seen};
use vswitch_cli::lab::traffic::frames::{Direction, SeenFrame, Wire};

use crate::netns::world::{PATIENCE, SECOND};

/// An address pair on the wire of a host's `eth0`, which that host's kernel does not know.
pub(super) struct Station {
    pub(super) ip: Ipv4Addr,
    mac: [u8; 6],
    wire: Wire,
    /// The next hop of everything.
    via: (Ipv4Addr, [u8; 6]),
}

impl Station {
    /// A station beside `host`, whose next hop is `via`; that one learns of the station as well.
    pub(super) fn new(host: &Host, ip: Ipv4Addr, via: Ipv4Addr) -> Self {
        let [a, b, c, d] = ip.octets();
        let mac = [2, 0xd1, a, b, c, d];
        let mut wire = Wire::open(host, "eth0").unwrap();
        wire.send(&craft::arp_request(mac, ip, via)).unwrap();
        let is_reply = |frame: &SeenFrame| {
            let bytes = &frame.bytes;
            bytes.get(..6) == Some(&mac) && bytes.get(12..14) == Some(&[8, 6])
        };
        let reply = wire.recv_matching(PATIENCE, is_reply).unwrap();
        let reply = reply.unwrap_or_else(|| panic!("{via} does not answer {ip}"));
        let hop = reply.bytes[6..12].try_into().unwrap();
        Self {
            ip,
            mac,
            wire,
            via: (via, hop),
        }
    }

    /// Sends a packet, header included, to the next hop.
    pub(super) fn send(&self, packet: &[u8]) {
        let frame = craft::ethernet(self.via.1, self.mac, craft::ETHERTYPE_IPV4, packet);
        self.wire.send(&frame).unwrap();
    }

    /// Waits until the next hop has answered an echo request: what was sent before has been
    /// forwarded or not by then. What comes meanwhile is returned.
    pub(super) fn flush(&mut self, mark: u16) -> Vec<Seen> {
        const MARK: u16 = 0xd1ff;
        let request = craft::icmp_echo_request(MARK, mark, b"mark");
        let header = craft::Ipv4::new(self.ip, self.via.0, craft::ICMP);
        self.send(&header.packet(&request));
        let wanted = [[0, 0], MARK.to_be_bytes(), mark.to_be_bytes()];
        let (until, mut seen) = (Instant::now() + SECOND, Vec::new());
        while let Some(packet) = self.next(until.saturating_duration_since(Instant::now())) {
            let head = [0..2, 4..6, 6..8].map(|range| packet.payload.get(range));
            if packet.source == self.via.0 && head == wanted.each_ref().map(|word| Some(&word[..]))
            {
                break;
            }
            seen.push(packet);
        }
        seen
    }

    /// The next packet that comes in for this station within `wait`; ARP is answered meanwhile.
    pub(super) fn next(&mut self, wait: Duration) -> Option<Seen> {
        let until = Instant::now() + wait;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let frame = self.wire.recv(left).unwrap()?;
            if frame.direction == Direction::Out {
                continue;
            }
            self.answer(&frame.bytes);
            if frame.bytes.get(..6) != Some(&self.mac) {
                continue;
            }
            if let Some(packet) = Seen::in_frame(&frame.bytes) {
                return Some(packet);
            }
        }
    }

    /// Answers an ARP request for this station's address (RFC 826).
    fn answer(&self, frame: &[u8]) {
        let is_request = frame.get(12..14) == Some(&[8, 6]) && frame.get(20..22) == Some(&[0, 1]);
        if !is_request || frame.get(38..42) != Some(&self.ip.octets()) {
            return;
        }
        let asker: [u8; 6] = frame[22..28].try_into().unwrap();
        let mut body = vec![0, 1, 8, 0, 6, 4, 0, 2];
        body.extend(self.mac);
        body.extend(self.ip.octets());
        body.extend(&frame[22..32]);
        let reply = craft::ethernet(asker, self.mac, craft::ETHERTYPE_ARP, &body);
        self.wire.send(&reply).unwrap();
    }
}
