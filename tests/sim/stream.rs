//! A small reliable byte stream in TCP segments: sequence numbers, cumulative acknowledgements,
//! go-back-N retransmission. Enough to survive loss, repetition and reordering, and to notice
//! every byte that a switch loses or changes.

use std::net::Ipv4Addr;

use nat::Nanos;

use super::packet::{ACK, FIN, Received, SYN, Tcp, u16_at, u32_at};

const RETRANSMIT: Nanos = Nanos(40_000_000);
const SEGMENTS_UNDER_WAY: usize = 16;

/// A segment to be sent, with how much of it one wire segment may carry.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) tcp: Tcp,
    pub(super) payload: Vec<u8>,
}

/// One end of a connection. Positions count from the first sequence number: 0 is SYN, the data
/// follows, then FIN.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) local: (Ipv4Addr, u16),
    pub(super) remote: (Ipv4Addr, u16),
    data: Vec<u8>,
    pub(super) received: Vec<u8>,
    first: u32,
    acknowledged: usize,
    next: usize,
    remote_first: Option<u32>,
    /// Position up to which the other side's bytes have come.
    expected: usize,
    finished_there: bool,
    retransmit_at: Nanos,
    segment_bytes: usize,
    /// Bytes of one super-frame; `segment_bytes` without segmentation offload.
    burst_bytes: usize,
}

impl Stream {
    pub(super) fn new(
        local: (Ipv4Addr, u16),
        remote: (Ipv4Addr, u16),
        data: Vec<u8>,
        first: u32,
        sizes: (usize, usize),
    ) -> Self {
        Self {
            local,
            remote,
            data,
            received: Vec::new(),
            first,
            acknowledged: 0,
            next: 0,
            remote_first: None,
            expected: 0,
            finished_there: false,
            retransmit_at: Nanos(0),
            segment_bytes: sizes.0,
            burst_bytes: sizes.1,
        }
    }

    const fn end(&self) -> usize {
        self.data.len() + 2
    }

    /// Both directions are over and acknowledged.
    pub(super) const fn is_done(&self) -> bool {
        self.acknowledged == self.end() && self.finished_there
    }

    /// What is due now.
    pub(super) fn poll(&mut self, now: Nanos) -> Vec<Segment> {
        let mut segments = Vec::new();
        let under_way = self.next > self.acknowledged;
        if under_way && now >= self.retransmit_at {
            self.next = self.acknowledged;
        }
        let is_open = self.remote_first.is_some() && self.acknowledged > 0;
        let window = self.acknowledged + SEGMENTS_UNDER_WAY * self.segment_bytes;
        while self.next < self.end() && self.next < window && (is_open || self.next == 0) {
            let segment = self.segment_at(self.next);
            self.next += segment.payload.len().max(1);
            self.retransmit_at = now + RETRANSMIT;
            segments.push(segment);
        }
        segments
    }

    fn segment_at(&self, position: usize) -> Segment {
        let (flags, payload): (u8, &[u8]) = if position == 0 {
            (SYN, &[])
        } else if position == self.data.len() + 1 {
            (FIN, &[])
        } else {
            let from = position - 1;
            let to = self.data.len().min(from + self.burst_bytes);
            (0, &self.data[from..to])
        };
        self.make(position, flags, payload.to_vec())
    }

    fn make(&self, position: usize, flags: u8, payload: Vec<u8>) -> Segment {
        let wide = |n: usize| u32::try_from(n).unwrap();
        let ack = self
            .remote_first
            .map(|first| first.wrapping_add(wide(self.expected)));
        Segment {
            tcp: Tcp {
                ports: (self.local.1, self.remote.1),
                seq: self.first.wrapping_add(wide(position)),
                ack: ack.unwrap_or(0),
                flags: flags | if ack.is_some() { ACK } else { 0 },
            },
            payload,
        }
    }

    /// Takes a segment of this connection; what it returns is to be sent at once.
    pub(super) fn take(&mut self, packet: &Received, now: Nanos) -> Option<Segment> {
        let (seq, ack) = (u32_at(&packet.payload, 4), u32_at(&packet.payload, 8));
        let flags = packet.payload[13];
        let body = &packet.payload[usize::from(packet.payload[12] >> 4) * 4..];
        if flags & SYN != 0 && self.remote_first.is_none() {
            self.remote_first = Some(seq);
            self.expected = 1;
        }
        let first = self.remote_first?;
        if flags & ACK != 0 {
            self.acknowledge(ack, now);
        }
        let start = usize::try_from(seq.wrapping_sub(first)).unwrap();
        let is_data = !body.is_empty() && start <= self.expected;
        if is_data && start + body.len() > self.expected {
            self.received.extend(&body[self.expected - start..]);
            self.expected = start + body.len();
        }
        if flags & FIN != 0 && start + body.len() == self.expected {
            self.expected += 1;
            self.finished_there = true;
        }
        // A pure acknowledgement is not acknowledged, and a SYN only once ours has gone too.
        let asks = !body.is_empty() || flags & FIN != 0 || (flags & SYN != 0 && self.next > 0);
        asks.then(|| self.make(self.next, 0, Vec::new()))
    }

    fn acknowledge(&mut self, ack: u32, now: Nanos) {
        let position = usize::try_from(ack.wrapping_sub(self.first)).unwrap();
        if position > self.acknowledged && position <= self.end() {
            self.acknowledged = position;
            self.next = self.next.max(position);
            self.retransmit_at = now + RETRANSMIT;
        }
    }
}

/// The ports of a TCP packet, as (remote, local) of its receiver.
pub(super) fn ports(packet: &Received) -> (u16, u16) {
    (u16_at(&packet.payload, 0), u16_at(&packet.payload, 2))
}
