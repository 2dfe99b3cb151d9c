//! Frames that wait for a next hop to answer ARP.
//!
//! A frame waits as it came in, before any rewrite, and goes through the pipeline again when its
//! next hop is known: so the verdict, and an ICMP error if there is one, are those of the frame the
//! sender sent. Only a packet from outside, whose next hop the translation tells, waits translated.
//! Bounded per next hop and in all (RFC 1122 2.3.2.2 asks for at least one).

use std::collections::VecDeque;

use nat::Nanos;

use crate::frame::{Frame, Offload, OwnedFrame, Stage};
use crate::gateway::Hop;
use crate::limits::{HELD_FRAMES_MAX, HELD_PER_NEIGHBOUR_MAX};
use crate::port::{NOWHERE, PortIndex};
use crate::trace::Tag;

/// Longer than three requests a second apart take.
const WAIT_MAX: Nanos = Nanos(5_000_000_000);

#[derive(Debug)]
struct Waiting {
    hop: Hop,
    since: Nanos,
    frames: VecDeque<OwnedFrame>,
}

/// The waiting frames of one worker.
#[derive(Debug, Default)]
pub struct Hold {
    queues: Vec<Waiting>,
    frames: usize,
}

impl Hold {
    /// Makes queues as full as these, on which a frame can be tried; what waits in them is empty.
    pub(crate) fn twin(&self) -> Self {
        let nothing = || OwnedFrame::new(&[], Offload::PLAIN, NOWHERE);
        let queues = self.queues.iter().map(|queue| Waiting {
            hop: queue.hop,
            since: queue.since,
            frames: queue.frames.iter().map(|_| nothing()).collect(),
        });
        Self {
            queues: queues.collect(),
            frames: self.frames,
        }
    }

    /// True if no frame waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Frames waiting.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.frames
    }

    /// True if frames wait for `hop`, so that another to it goes behind them.
    #[must_use]
    pub fn waits_for(&self, hop: Hop) -> bool {
        self.queues.iter().any(|queue| queue.hop == hop)
    }

    /// Copies `frame` to wait for `hop`, with its tag. False where its queue, or all of them, are
    /// full.
    pub fn push(&mut self, hop: Hop, frame: &Frame<'_>, tag: Tag, now: Nanos) -> bool {
        if self.frames >= HELD_FRAMES_MAX {
            return false;
        }
        let found = self.queues.iter_mut().find(|queue| queue.hop == hop);
        let queue = match found {
            Some(queue) => queue,
            None => {
                let frames = VecDeque::with_capacity(1);
                self.queues.push(Waiting {
                    hop,
                    since: now,
                    frames,
                });
                let Some(last) = self.queues.last_mut() else {
                    return false;
                };
                last
            }
        };
        if queue.frames.len() >= HELD_PER_NEIGHBOUR_MAX {
            return false;
        }
        let mut owned = frame.to_owned();
        owned.set_tag(tag);
        queue.frames.push_back(owned);
        self.frames += 1;
        true
    }

    /// Takes out the frames of one next hop of which `settled` says that the waiting is over:
    /// it answered, or was given up. One that has waited for `WAIT_MAX` is taken in any case: its
    /// entry may have been displaced by others.
    pub fn take(
        &mut self,
        now: Nanos,
        mut settled: impl FnMut(Hop) -> bool,
    ) -> Option<Vec<OwnedFrame>> {
        let over = |since: Nanos| now.saturating_sub(since) >= WAIT_MAX;
        let index = self
            .queues
            .iter()
            .position(|queue| over(queue.since) || settled(queue.hop))?;
        let queue = self.queues.swap_remove(index);
        self.frames -= queue.frames.len();
        Some(queue.frames.into())
    }

    /// Takes out the frames from `ingress` that are as they came in, those for one next hop in
    /// their order: the port moves to another worker, and they go in front of what comes after.
    pub fn take_from(&mut self, ingress: PortIndex) -> Vec<OwnedFrame> {
        let goes = |frame: &OwnedFrame| frame.ingress == ingress && frame.stage == Stage::Arrived;
        let mut taken = Vec::new();
        for queue in &mut self.queues {
            let frames = std::mem::take(&mut queue.frames).into_iter();
            let (going, staying): (VecDeque<_>, VecDeque<_>) = frames.partition(goes);
            queue.frames = staying;
            taken.extend(going);
        }
        self.queues.retain(|queue| !queue.frames.is_empty());
        self.frames -= taken.len();
        taken
    }

    /// The next hops that frames wait for.
    pub fn hops(&self) -> impl Iterator<Item = Hop> {
        self.queues.iter().map(|queue| queue.hop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::neigh::Link;
    use crate::port::PortIndex;

    fn push(hold: &mut Hold, last: u8, byte: u8) -> bool {
        let mut owned = OwnedFrame::new(&[byte; 60], Offload::PLAIN, PortIndex(0));
        let hop = Hop {
            link: Link::Uplink,
            address: [192, 0, 2, last].into(),
        };
        hold.push(hop, &owned.borrow(), Tag::NONE, Nanos(0))
    }

    #[test]
    fn d3_frames_wait_in_order_within_bounds() {
        let mut hold = Hold::default();
        for byte in 0..20 {
            assert_eq!(
                push(&mut hold, 1, byte),
                usize::from(byte) < HELD_PER_NEIGHBOUR_MAX
            );
        }
        assert!(hold.take(Nanos(1), |_| false).is_none());
        let frames = hold.take(Nanos(1), |_| true).unwrap();
        let bytes: Vec<u8> = frames.iter().map(|f| f.bytes()[0]).collect();
        assert_eq!(bytes, (0..8).collect::<Vec<u8>>());
        assert!(hold.is_empty() && hold.is_empty());
    }

    #[test]
    fn a_port_that_moves_takes_along_what_came_in_on_it_and_nothing_else() {
        let mut hold = Hold::default();
        let hop = |last| Hop {
            link: Link::Uplink,
            address: [192, 0, 2, last].into(),
        };
        let frames = [
            (1, 0, Stage::Arrived),
            (1, 1, Stage::Arrived),
            (2, 1, Stage::Inside),
            (1, 1, Stage::Arrived),
            (3, 1, Stage::Arrived),
        ];
        for (byte, (last, port, stage)) in (0..).zip(frames) {
            let mut owned = OwnedFrame::new(&[byte; 60], Offload::PLAIN, PortIndex(port));
            owned.stage = stage;
            assert!(hold.push(hop(last), &owned.borrow(), Tag::NONE, Nanos(0)));
        }
        let taken = hold.take_from(PortIndex(1));
        let bytes: Vec<u8> = taken.iter().map(|frame| frame.bytes()[0]).collect();
        assert_eq!(bytes, [1, 3, 4], "those for one next hop in their order");
        assert_eq!(hold.len(), 2);
        assert!(hold.waits_for(hop(1)) && hold.waits_for(hop(2)) && !hold.waits_for(hop(3)));
    }

    #[test]
    fn the_total_is_bounded_over_all_next_hops() {
        let mut hold = Hold::default();
        let kept = (0..=255).map(|last| (0..8).filter(|_| push(&mut hold, last, 0)).count());
        assert_eq!(kept.sum::<usize>(), HELD_FRAMES_MAX);
        assert_eq!(hold.len(), HELD_FRAMES_MAX);
        while hold.take(WAIT_MAX, |_| false).is_some() {}
        assert!(hold.is_empty(), "nothing waits for ever");
    }
}
