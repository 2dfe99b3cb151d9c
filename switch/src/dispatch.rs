//! From verdicts to egress: seals frames, sends every copy, counts what became of it.
//!
//! Copies of a batch go out in few system calls: all that need nothing done are lent to
//! [`Tx::send`] straight out of the ring. A copy that must be cut first (a routed packet that
//! needs fragments, an egress that refuses an offload) takes the slow way, one at a time, through
//! a buffer of its own; and so do those behind it to the same port, to keep their order.

mod books;

use std::cell::Cell;

use arrayvec::ArrayVec;

use crate::config::{NetworkIndex, PortView, View};
use crate::drops::Account;
use crate::ethernet::{HEADER_BYTES, VLAN};
use crate::frame::{Batch, Csum, Frame, Gso, OwnedFrame, Stage};
use crate::gateway::To;
use crate::gso::{self, SegmentBuffer};
use crate::limits::PORTS_MAX;
use crate::pipeline::Verdicts;
use crate::port::{NOWHERE, Outgoing, PortIndex, SendOutcome, Tx};
use crate::trace::Tracer;
use crate::verdict::{DropReason, Verdict};

use books::Books;

/// Copies lent to one [`Tx::send`]; a flood of more goes out in several.
const COPIES_MAX: usize = 256;

/// What one worker sends with.
pub struct Dispatcher {
    tx: Tx,
    outcomes: Vec<SendOutcome>,
    segments: SegmentBuffer,
    slow: Vec<Slow>,
    /// Ports whose kernel refused a frame's offload once: frames are cut for them from then on.
    refuses_offload: Box<[Cell<bool>]>,
}

/// A copy that is sent by itself, after the others of its batch.
#[derive(Debug, Clone, Copy)]
struct Slow {
    /// The frame's place in its batch.
    index: usize,
    egress: PortIndex,
    way: Way,
    /// The kernel refused it as it is.
    refused: bool,
}

/// A copy: the frame's place in its batch, the port it goes to, and what else is told of it should
/// it not get there.
#[derive(Debug, Clone, Copy)]
struct Place {
    index: usize,
    egress: PortIndex,
    ingress: PortIndex,
    stage: Stage,
}

impl Place {
    const fn of(frame: &Frame<'_>, index: usize, egress: PortIndex) -> Self {
        Self {
            index,
            egress,
            ingress: frame.ingress,
            stage: frame.stage,
        }
    }
}

/// How a copy has to go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// As it is.
    Plain,
    /// Its checksum finished, segmented or fragmented first.
    Cut,
    /// Not at all.
    Refused(DropReason),
}

/// A frame as the egress sees it: its length on the wire and whether it may be cut.
#[derive(Debug, Clone, Copy)]
struct Shape {
    longest: u32,
    tagged: bool,
    routed: bool,
    gso: Gso,
    /// Nobody but this switch can cut it: its segments are inside a tunnel.
    tunnel: bool,
}

impl Dispatcher {
    /// Sends by `tx`.
    #[must_use]
    pub fn new(tx: Tx) -> Self {
        Self {
            tx,
            outcomes: Vec::with_capacity(COPIES_MAX),
            segments: SegmentBuffer::new(),
            slow: Vec::with_capacity(COPIES_MAX),
            refuses_offload: (0..PORTS_MAX).map(|_| Cell::new(false)).collect(),
        }
    }

    /// Forgets what was learned about a port that is gone.
    pub fn forget(&self, port: PortIndex) {
        if let Some(refuses) = self.refuses_offload.get(port.index()) {
            refuses.set(false);
        }
    }

    /// Sends what the verdicts ask for. The frames must have been made [`final`](finish).
    pub fn batch(
        &mut self,
        view: &View,
        (account, tracer): (Account<'_>, impl Tracer),
        batch: &Batch<'_>,
        verdicts: &Verdicts,
    ) {
        self.slow.clear();
        let mut books = Books::new(account, tracer);
        let mut copies = Copies::new(view, &mut books, self);
        for (index, (frame, verdict)) in batch.iter().zip(verdicts).enumerate() {
            let (egress, routed) = match *verdict {
                Verdict::Forward(egress) => (egress, false),
                Verdict::Route(egress) => (egress, true),
                Verdict::Answer => (frame.ingress, false),
                Verdict::Flood => {
                    copies.flood(index, frame);
                    continue;
                }
                Verdict::Absorb | Verdict::Hold | Verdict::HandOver(_) | Verdict::Drop(_) => {
                    continue;
                }
            };
            // In one place, so that it is put in line.
            copies.add(index, frame, egress, routed);
        }
        copies.flush();
        self.send_slow(view, &mut books, batch);
    }

    /// Sends frames the gateway made itself.
    pub fn originated(
        &mut self,
        view: &View,
        (account, tracer): (Account<'_>, impl Tracer),
        frames: &mut Vec<(To, OwnedFrame)>,
    ) {
        let mut books = Books::new(account, tracer);
        for (to, mut owned) in frames.drain(..) {
            let tag = owned.tag();
            let mut frame = owned.borrow();
            frame.seal(0);
            books.begin_made(&frame, tag);
            let mut copies = Copies::new(view, &mut books, self);
            copies.originated = true;
            match to {
                To::Port(port) => copies.add(0, &frame, port, false),
                To::Network(network) => copies.flood_network(0, &frame, (network, frame.ingress)),
            }
            copies.flush();
            drop(copies);
            books.end_made(&frame);
        }
    }

    fn send_slow(&mut self, view: &View, books: &mut Books<'_, impl Tracer>, batch: &Batch<'_>) {
        let mut slow = std::mem::take(&mut self.slow);
        for copy in slow.drain(..) {
            if let (Some(frame), Some(port)) = (batch.get(copy.index), view.port(copy.egress)) {
                self.send_alone(books, frame, copy, port);
            }
        }
        self.slow = slow;
    }

    fn send_alone(
        &mut self,
        books: &mut Books<'_, impl Tracer>,
        frame: &Frame<'_>,
        copy: Slow,
        port: &PortView,
    ) {
        let egress = copy.egress;
        let place = Place::of(frame, copy.index, egress);
        let mut refused = copy.refused;
        if copy.way == Way::Plain && !refused {
            let outcome = self.send_one(frame.sealed(), port);
            if outcome != SendOutcome::Offload {
                books.settle(place, frame.sealed(), outcome);
                return;
            }
            refused = true;
        }
        let Ok(pieces) = self.send_cut(books, frame, (place, port)) else {
            books.refuse(place, frame, DropReason::EgressOffload);
            return;
        };
        // The copy is counted already; each piece after the first counts as one more.
        let totals = &books.account.counters.totals;
        totals.copies.add(pieces.saturating_sub(1));
        // Only what can be done here is held against the port: a frame whose offload nobody can
        // carry out says nothing about it.
        if refused && let Some(refuses) = self.refuses_offload.get(egress.index()) {
            refuses.set(true);
        }
    }

    /// Finishes one copy, cuts it to the egress's size, sends the pieces and returns their number.
    fn send_cut(
        &mut self,
        books: &mut Books<'_, impl Tracer>,
        frame: &Frame<'_>,
        to: (Place, &PortView),
    ) -> Result<u64, gso::Refusal> {
        let mtu = usize::try_from(to.1.mtu).unwrap_or(usize::MAX);
        if frame.offload.gso != Gso::None {
            return self.send_segments(books, frame, mtu, to);
        }
        // In memory of its own, since other copies of the frame go out as they are.
        let mut owned = frame.to_owned();
        let mut whole = owned.borrow();
        let csum = whole.offload.csum;
        whole.offload.csum = gso::complete(whole.bytes_mut(), csum)?;
        if gso::wire_len_max(whole.bytes(), whole.offload) > mtu {
            return self.send_fragments(books, &whole, mtu, to);
        }
        whole.seal(0);
        let outcome = self.send_one(whole.sealed(), to.1);
        books.settle(to.0, whole.sealed(), outcome);
        Ok(1)
    }

    fn send_one(&mut self, sealed: &[u8], port: &PortView) -> SendOutcome {
        let egress = &port.egress;
        self.outcomes.clear();
        self.tx
            .send(&[Outgoing { sealed, egress }], &mut self.outcomes);
        // One frame in, one outcome out.
        self.outcomes.first().copied().unwrap_or(SendOutcome::Gone)
    }

    fn send_fragments(
        &mut self,
        books: &mut Books<'_, impl Tracer>,
        frame: &Frame<'_>,
        mtu: usize,
        to: (Place, &PortView),
    ) -> Result<u64, gso::Refusal> {
        let mut pieces = 0;
        let mut fragments = gso::Fragments::new(frame.bytes(), frame.offload, mtu)?;
        while fragments.fill(&mut self.segments) {
            pieces += self.send_pieces(books, to);
        }
        Ok(pieces)
    }

    fn send_segments(
        &mut self,
        books: &mut Books<'_, impl Tracer>,
        frame: &Frame<'_>,
        mtu: usize,
        to: (Place, &PortView),
    ) -> Result<u64, gso::Refusal> {
        let mut pieces = 0;
        let mut cut = gso::Cut::new(frame.bytes(), frame.offload, mtu)?;
        while cut.fill(&mut self.segments) {
            pieces += self.send_pieces(books, to);
        }
        Ok(pieces)
    }

    /// Sends what is in the segment buffer and returns how many pieces that were.
    fn send_pieces(
        &mut self,
        books: &mut Books<'_, impl Tracer>,
        (place, port): (Place, &PortView),
    ) -> u64 {
        let mut sealed = self.segments.sealed();
        loop {
            let outgoing: ArrayVec<Outgoing<'_>, COPIES_MAX> = sealed
                .by_ref()
                .take(COPIES_MAX)
                .map(|sealed| Outgoing {
                    sealed,
                    egress: &port.egress,
                })
                .collect();
            if outgoing.is_empty() {
                return self.segments.len() as u64;
            }
            self.outcomes.clear();
            self.tx.send(&outgoing, &mut self.outcomes);
            for (piece, outcome) in outgoing.iter().zip(&self.outcomes) {
                books.settle(place, piece.sealed, *outcome);
            }
        }
    }
}

/// Copies of a batch on their way into one send.
struct Copies<'b, 'd, 'a, T> {
    view: &'b View,
    books: &'d mut Books<'a, T>,
    dispatcher: &'d mut Dispatcher,
    outgoing: ArrayVec<Outgoing<'b>, COPIES_MAX>,
    places: ArrayVec<Place, COPIES_MAX>,
    originated: bool,
}

impl<'b, 'd, 'a, T: Tracer> Copies<'b, 'd, 'a, T> {
    const fn new(
        view: &'b View,
        books: &'d mut Books<'a, T>,
        dispatcher: &'d mut Dispatcher,
    ) -> Self {
        Self {
            view,
            books,
            dispatcher,
            outgoing: ArrayVec::new_const(),
            places: ArrayVec::new_const(),
            originated: false,
        }
    }

    fn flood(&mut self, index: usize, frame: &'b Frame<'_>) {
        // A packet from the uplink for a member whose place is not known floods the network.
        let network = self
            .view
            .port(frame.ingress)
            .map_or(NetworkIndex(0), |port| port.network);
        // Nor does one that was translated come from where it came in: its member may be there, as
        // when it speaks to a port it has published itself.
        let is_translated = frame.stage == Stage::Translated;
        let from = if is_translated {
            NOWHERE
        } else {
            frame.ingress
        };
        self.flood_network(index, frame, (network, from));
    }

    fn flood_network(
        &mut self,
        index: usize,
        frame: &'b Frame<'_>,
        (network, from): (NetworkIndex, PortIndex),
    ) {
        let shape = Shape::of(frame, false);
        let view = self.view;
        for (egress, port) in view.flood_targets(network, from) {
            self.add_shaped(index, frame, (egress, port), shape);
        }
    }

    #[inline(always)]
    fn add(&mut self, index: usize, frame: &'b Frame<'_>, egress: PortIndex, routed: bool) {
        match self.view.port(egress).filter(|port| port.up) {
            Some(port) => self.add_shaped(index, frame, (egress, port), Shape::of(frame, routed)),
            None => {
                self.count_copy();
                let reason = DropReason::EgressDown;
                self.books
                    .refuse(Place::of(frame, index, egress), frame, reason);
            }
        }
    }

    fn add_shaped(
        &mut self,
        index: usize,
        frame: &'b Frame<'_>,
        (egress, port): (PortIndex, &'b PortView),
        shape: Shape,
    ) {
        self.count_copy();
        let place = Place::of(frame, index, egress);
        let refuses = self.dispatcher.refuses_offload.get(egress.index());
        // A tunnel's inner segmentation is nothing the kernel could do after us.
        let refuses = shape.tunnel || (refuses.is_some_and(Cell::get) && frame_has_offload(frame));
        let slow = &mut self.dispatcher.slow;
        match shape.way(port, refuses) {
            Way::Refused(reason) => self.books.refuse(place, frame, reason),
            way if way == Way::Cut || slow.iter().any(|copy| copy.egress == egress) => {
                slow.push(Slow {
                    index,
                    egress,
                    way,
                    refused: false,
                });
            }
            Way::Plain | Way::Cut => {
                self.outgoing.push(Outgoing {
                    sealed: frame.sealed(),
                    egress: &port.egress,
                });
                self.places.push(place);
                if self.outgoing.is_full() {
                    self.flush();
                }
            }
        }
    }

    fn count_copy(&self) {
        let totals = &self.books.account.counters.totals;
        if self.originated {
            totals.originated.add(1);
        } else {
            totals.copies.add(1);
        }
    }

    fn flush(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        let Dispatcher {
            tx, outcomes, slow, ..
        } = &mut *self.dispatcher;
        outcomes.clear();
        tx.send(&self.outgoing, outcomes);
        let sent = self.outgoing.iter().zip(&self.places).zip(outcomes.iter());
        for ((outgoing, place), outcome) in sent {
            // Stricter kernels refuse a header that an older one took: cut it here, now and for
            // this port's later frames.
            if *outcome == SendOutcome::Offload && !self.originated {
                slow.push(Slow {
                    index: place.index,
                    egress: place.egress,
                    way: Way::Plain,
                    refused: true,
                });
            } else {
                self.books.settle(*place, outgoing.sealed, *outcome);
            }
        }
        self.outgoing.clear();
        self.places.clear();
    }
}

impl Shape {
    fn of(frame: &Frame<'_>, routed: bool) -> Self {
        let bytes = frame.bytes();
        let longest = gso::wire_len_max(bytes, frame.offload);
        let tagged = bytes.get(12..HEADER_BYTES) == Some(&VLAN.to_be_bytes());
        Self {
            longest: u32::try_from(longest).unwrap_or(u32::MAX),
            tagged,
            routed,
            gso: frame.offload.gso,
            tunnel: gso::is_tunnel(bytes, frame.offload),
        }
    }

    /// A tag is not counted against the MTU (`is_skb_forwardable`, net/core/dev.c);
    /// [`gso::wire_len_max`] leaves it out.
    fn way(self, port: &PortView, refuses_offload: bool) -> Way {
        if self.longest <= port.mtu {
            return if refuses_offload {
                Way::Cut
            } else {
                Way::Plain
            };
        }
        if self.routed && self.gso == Gso::None && !self.tagged {
            return Way::Cut;
        }
        Way::Refused(DropReason::EgressMtu)
    }
}

fn frame_has_offload(frame: &Frame<'_>) -> bool {
    frame.offload.gso != Gso::None || matches!(frame.offload.csum, Csum::Partial { .. })
}

/// Makes the frames that will be sent final: finishes what the kernel could not, and writes the
/// offload state in front. A frame whose bytes do not bear out its offload is dropped instead.
pub fn finish(batch: &mut Batch<'_>, verdicts: &mut Verdicts) {
    for (frame, verdict) in batch.iter_mut().zip(verdicts) {
        let leaves = matches!(
            verdict,
            Verdict::Forward(_) | Verdict::Route(_) | Verdict::Flood | Verdict::Answer
        );
        if leaves && seal(frame).is_err() {
            *verdict = Verdict::Drop(DropReason::UnknownOffload);
        }
    }
}

/// Where an SCTP checksum stands in its header (RFC 9260 3.1); no other protocol has it there.
const SCTP_CSUM_OFFSET: u16 = 8;

fn seal(frame: &mut Frame<'_>) -> Result<(), gso::Refusal> {
    let csum = frame.offload.csum;
    if let Csum::Partial { start, offset } = csum {
        if !gso::csum_is_placed(frame.bytes(), start, offset) {
            return Err(gso::Refusal::Checksum);
        }
        if offset == SCTP_CSUM_OFFSET {
            // CRC32c is not a sum that the virtio-net header can ask for: a network card would
            // write a 16-bit one.
            frame.offload.csum = gso::complete(frame.bytes_mut(), csum)?;
        }
    }
    let header_bytes = match frame.offload.gso {
        Gso::None => 0,
        Gso::Tcp4 { .. } | Gso::Tcp6 { .. } | Gso::Udp { .. } => {
            match gso::header_bytes(frame.bytes(), frame.offload) {
                // It is never sent as it is, but in the segments that are cut here.
                Err(_) if gso::is_tunnel(frame.bytes(), frame.offload) => return Ok(()),
                checked => checked?,
            }
        }
    };
    frame.seal(header_bytes);
    Ok(())
}

#[cfg(test)]
mod tests;
