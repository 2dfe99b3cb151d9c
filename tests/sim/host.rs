//! A simulated host: ARP, echo, UDP echo, fragments, byte streams. It judges what it is given.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use nat::Nanos;
use switch::config::in_prefix;
use switch::frame::{Csum, Gso, Offload, OwnedFrame};
use switch::mac::Mac;
use switch::random::Random;

use super::packet::{self, ETHERNET, ICMP, Ip, Raw, Received, SYN, Sum, TCP, UDP, u16_at};
use super::stream::{self, Stream};

/// The UDP port that sends back what it gets (RFC 862).
pub(super) const ECHO: u16 = 7;

const ARP_RETRY: Nanos = Nanos(200_000_000);

/// How a host hands out what does not fit, or need not be finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Full checksums, segments of one MTU.
    Plain,
    /// Checksums left to the receiver.
    Partial,
    /// Super-frames of several segments, checksums left to the receiver.
    Gso,
}

/// In which order the fragments of a datagram leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Straight,
    Reversed,
    Shuffled,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) mac: Mac,
    pub(super) addresses: Vec<Ipv4Addr>,
    pub(super) prefix: u8,
    pub(super) router: Option<Ipv4Addr>,
    pub(super) mtu: usize,
    /// The longest segment of a stream, headers included.
    pub(super) segment_mtu: usize,
    pub(super) flavour: Flavour,
    /// It neither asks nor answers ARP or anything else.
    pub(super) mute: bool,
    pub(super) neighbours: BTreeMap<Ipv4Addr, Mac>,
    asked: BTreeMap<Ipv4Addr, Nanos>,
    waiting: Vec<(Ipv4Addr, Raw)>,
    pub(super) out: VecDeque<Raw>,
    /// Whole packets that came for this host, in order; fragments put together.
    pub(super) inbox: Vec<Received>,
    pieces: BTreeMap<(Ipv4Addr, Ipv4Addr, u8, u16), Vec<Received>>,
    pub(super) streams: Vec<Stream>,
    listening: BTreeMap<u16, Vec<u8>>,
    random: Random,
    next_id: u16,
}

impl Host {
    pub(super) fn new(mac: Mac, address: Ipv4Addr, router: Option<Ipv4Addr>, seed: u64) -> Self {
        Self {
            mac,
            addresses: vec![address],
            prefix: 24,
            router,
            mtu: 1500,
            segment_mtu: 1500,
            flavour: Flavour::Plain,
            mute: false,
            neighbours: BTreeMap::new(),
            asked: BTreeMap::new(),
            waiting: Vec::new(),
            out: VecDeque::new(),
            inbox: Vec::new(),
            pieces: BTreeMap::new(),
            streams: Vec::new(),
            listening: BTreeMap::new(),
            random: Random::new(seed),
            // Apart from the other hosts': behind one address they would be mistaken for each
            // other's fragments (A5-4).
            next_id: u16::from(address.octets()[3]).wrapping_mul(4096),
        }
    }

    pub(super) fn set_mtu(&mut self, mtu: u32) {
        self.mtu = usize::try_from(mtu).unwrap();
        self.segment_mtu = self.mtu;
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        self.addresses[0]
    }

    pub(super) fn header(&mut self, dst: impl Into<Ipv4Addr>) -> Ip {
        self.next_id = self.next_id.wrapping_add(1);
        Ip {
            id: self.next_id,
            ..Ip::new(self.address(), dst)
        }
    }

    const fn sum(&self) -> Sum {
        match self.flavour {
            Flavour::Plain => Sum::Full,
            Flavour::Partial | Flavour::Gso => Sum::Partial,
        }
    }

    pub(super) fn ping(&mut self, dst: impl Into<Ipv4Addr>, id: u16, seq: u16, body: &[u8]) {
        let raw = self.header(dst).ping(id, seq, body);
        self.send_packet(raw);
    }

    pub(super) fn udp(&mut self, dst: impl Into<Ipv4Addr>, ports: (u16, u16), payload: &[u8]) {
        let raw = self.header(dst).udp(ports, payload, self.sum());
        self.send_packet(raw);
    }

    /// A datagram in fragments of at most `mtu` bytes.
    pub(super) fn udp_fragments(
        &mut self,
        dst: impl Into<Ipv4Addr>,
        ports: (u16, u16),
        payload: &[u8],
        (mtu, order): (usize, Order),
    ) {
        let ip = self.header(dst);
        let (whole, _) = ip.udp(ports, payload, Sum::Full);
        let mut pieces = ip.fragments(UDP, &whole[20..], mtu);
        match order {
            Order::Straight => {}
            Order::Reversed => pieces.reverse(),
            Order::Shuffled => {
                for last in (1..pieces.len()).rev() {
                    let other = self.random.below(last as u64 + 1);
                    pieces.swap(last, usize::try_from(other).unwrap());
                }
            }
        }
        for piece in pieces {
            self.send_packet((piece, Offload::PLAIN));
        }
    }

    pub(super) fn connect(&mut self, dst: impl Into<Ipv4Addr>, ports: (u16, u16), data: Vec<u8>) {
        let remote = (dst.into(), ports.1);
        self.open((self.address(), ports.0), remote, data);
    }

    pub(super) fn listen(&mut self, port: u16, answer: Vec<u8>) {
        self.listening.insert(port, answer);
    }

    fn open(&mut self, local: (Ipv4Addr, u16), remote: (Ipv4Addr, u16), data: Vec<u8>) {
        let segment = self.segment_mtu - 40;
        let burst = match self.flavour {
            Flavour::Plain | Flavour::Partial => segment,
            Flavour::Gso => segment * (2 + usize::try_from(self.random.below(6)).unwrap()),
        };
        let first = u32::try_from(self.random.below(1 << 32)).unwrap();
        let stream = Stream::new(local, remote, data, first, (segment, burst));
        self.streams.push(stream);
    }

    /// Sends an IP packet to its next hop, which is asked for first where it is not known.
    pub(super) fn send_packet(&mut self, (packet, offload): Raw) {
        let dst = packet::address_at(&packet, 16);
        let direct = in_prefix(dst, self.address(), self.prefix);
        let hop = if direct { Some(dst) } else { self.router };
        let Some(hop) = hop else { return };
        match self.neighbours.get(&hop) {
            Some(mac) => self.send_to(*mac, (packet, offload)),
            None => self.waiting.push((hop, (packet, offload))),
        }
    }

    pub(super) fn send_to(&mut self, mac: Mac, (packet, offload): Raw) {
        let frame = packet::ethernet(mac, self.mac, 0x0800, &packet);
        self.out.push_back((frame, offload));
    }

    pub(super) fn ask(&mut self, target: Ipv4Addr) {
        let packet = packet::arp(1, (self.mac, self.address()), (Mac::ZERO, target));
        let frame = packet::ethernet(Mac::BROADCAST, self.mac, 0x0806, &packet);
        self.out.push_back((frame, Offload::PLAIN));
    }

    /// What is due now: ARP requests, segments, retransmissions.
    pub(super) fn poll(&mut self, now: Nanos) {
        let hops: Vec<Ipv4Addr> = self.waiting.iter().map(|(hop, _)| *hop).collect();
        for hop in hops {
            let due = self
                .asked
                .get(&hop)
                .is_none_or(|at| now.saturating_sub(*at) >= ARP_RETRY);
            if due && !self.mute {
                self.asked.insert(hop, now);
                self.ask(hop);
            }
        }
        for index in 0..self.streams.len() {
            for segment in self.streams[index].poll(now) {
                self.send_segment(index, segment);
            }
        }
    }

    fn send_segment(&mut self, index: usize, segment: stream::Segment) {
        let (src, dst) = (self.streams[index].local.0, self.streams[index].remote.0);
        let ip = Ip {
            src,
            dont_fragment: true,
            ..self.header(dst)
        };
        let (packet, mut offload) = ip.tcp(segment.tcp, &segment.payload, self.sum());
        let mss = self.segment_mtu - 40;
        if segment.payload.len() > mss {
            offload.gso = Gso::Tcp4 {
                mss: u16::try_from(mss).unwrap(),
                ecn: false,
            };
        }
        self.send_packet((packet, offload));
    }

    /// Nothing is under way here.
    pub(super) fn is_idle(&self) -> bool {
        self.out.is_empty() && self.streams.iter().all(Stream::is_done)
    }

    /// Takes a frame off the wire, if it is for this host. Checks everything that can be checked.
    pub(super) fn take(&mut self, frame: &OwnedFrame, now: Nanos) {
        let bytes = frame.bytes();
        let destination = Mac(*bytes.first_chunk().unwrap());
        if self.mute || (destination != self.mac && !destination.is_group()) {
            return;
        }
        match u16_at(bytes, 12) {
            0x0806 => self.take_arp(&bytes[ETHERNET..]),
            0x0800 => {
                let mut bytes = bytes.to_vec();
                check_offload(&bytes, frame.offload, self.mtu);
                packet::complete(&mut bytes, frame.offload);
                let packet = Received::parse(&bytes[ETHERNET..]);
                if self.addresses.contains(&packet.dst) {
                    self.take_packet(packet, now);
                }
            }
            _ => {}
        }
    }

    fn take_arp(&mut self, packet: &[u8]) {
        let sender = Mac(*packet[8..].first_chunk().unwrap());
        let (address, target) = (
            packet::address_at(packet, 14),
            packet::address_at(packet, 24),
        );
        let is_request = u16_at(packet, 6) == 1;
        let for_us = self.addresses.contains(&target);
        if self.neighbours.contains_key(&address) || for_us {
            self.neighbours.insert(address, sender);
        }
        if is_request && for_us {
            let reply = packet::arp(2, (self.mac, target), (sender, address));
            let frame = packet::ethernet(sender, self.mac, 0x0806, &reply);
            self.out.push_back((frame, Offload::PLAIN));
        }
        let (ready, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|(hop, _)| self.neighbours.contains_key(hop));
        self.waiting = waiting;
        for (_, raw) in Vec::<(Ipv4Addr, Raw)>::into_iter(ready) {
            self.send_packet(raw);
        }
    }

    fn take_packet(&mut self, packet: Received, now: Nanos) {
        let Some(packet) = self.put_together(packet) else {
            return;
        };
        packet.verify_transport();
        match packet.protocol {
            ICMP if packet.kind() == (8, 0) => {
                let word = *packet.payload[4..].first_chunk().unwrap();
                let ip = Ip {
                    src: packet.dst,
                    ..self.header(packet.src)
                };
                let raw = ip.icmp(0, 0, word, packet.body());
                self.send_packet(raw);
            }
            UDP if packet.ports().1 == ECHO => {
                let ip = Ip {
                    src: packet.dst,
                    ..self.header(packet.src)
                };
                let (from, to) = packet.ports();
                let raw = ip.udp((to, from), packet.body(), self.sum());
                self.send_packet(raw);
            }
            TCP => self.take_segment(&packet, now),
            _ => {}
        }
        self.inbox.push(packet);
    }

    fn take_segment(&mut self, packet: &Received, now: Nanos) {
        let (remote, local) = stream::ports(packet);
        let ends = ((packet.dst, local), (packet.src, remote));
        let known = |stream: &Stream| (stream.local, stream.remote) == ends;
        let found = match self.streams.iter().position(known) {
            Some(index) => Some(index),
            None if packet.payload[13] & SYN != 0 => {
                let answer = self.listening.get(&local).cloned();
                answer.map(|answer| {
                    self.open(ends.0, ends.1, answer);
                    self.streams.len() - 1
                })
            }
            None => None,
        };
        if let Some(index) = found
            && let Some(segment) = self.streams[index].take(packet, now)
        {
            self.send_segment(index, segment);
        }
    }

    /// The whole packet, once all of its fragments are there.
    fn put_together(&mut self, packet: Received) -> Option<Received> {
        if !packet.is_fragment() {
            return Some(packet);
        }
        let key = (packet.src, packet.dst, packet.protocol, packet.id);
        let pieces = self.pieces.entry(key).or_default();
        pieces.push(packet);
        pieces.sort_by_key(|piece| piece.fragment.0);
        pieces.dedup_by_key(|piece| piece.fragment.0);
        let mut payload = Vec::new();
        for piece in pieces.iter() {
            if piece.fragment.0 != payload.len() {
                return None;
            }
            payload.extend(&piece.payload);
        }
        if pieces.last()?.fragment.1 {
            return None;
        }
        let mut whole = self.pieces.remove(&key)?.into_iter().next()?;
        whole.fragment = (0, false);
        whole.payload = payload;
        Some(whole)
    }
}

/// What is left to be done must be doable: the checksum is the transport's own and holds the
/// pseudo header's sum, and no segment exceeds the MTU.
pub(super) fn check_offload(bytes: &[u8], offload: Offload, mtu: usize) {
    let len = packet::wire_len(bytes, offload);
    assert!(len <= mtu, "{len} bytes on a wire of {mtu}");
    let Csum::Partial { start, offset } = offload.csum else {
        assert_eq!(offload.gso, Gso::None, "segmentation of a finished frame");
        return;
    };
    let l4 = ETHERNET + usize::from(bytes[ETHERNET] & 15) * 4;
    assert_eq!(usize::from(start), l4);
    let protocol = bytes[ETHERNET + 9];
    assert_eq!(
        (protocol, offset),
        if protocol == TCP { (TCP, 16) } else { (UDP, 6) }
    );
    let len = usize::from(u16_at(bytes, ETHERNET + 2)) - (l4 - ETHERNET);
    let addresses = packet::sum16(&bytes[ETHERNET + 12..ETHERNET + 20]);
    let right = packet::fold(addresses + u32::from(protocol) + u32::try_from(len).unwrap());
    let field = u16_at(bytes, l4 + usize::from(offset));
    // Both representations of zero are the same sum.
    assert_eq!(field % 0xffff, right % 0xffff, "pseudo header sum");
}
