//! A port in memory: a cable with a switch at one end and a test host at the other.
//!
//! It is a real port kind, not a mock: the workers, the pipeline and the counters do not know the
//! difference. A cable can lose, repeat and reorder frames, by a seeded generator, so that one seed
//! gives one course of events.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::frame::{Batch, Frame, Offload, OwnedFrame, VNET_HEADER_BYTES};
use crate::limits::BATCH_FRAMES_MAX;
use crate::random::Random;
use nat::Nanos;

use super::{Noting, PortIndex, SendOutcome};

/// What a cable does to frames on their way, in each direction alike. Rates are in parts per
/// thousand frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Impairment {
    /// Frames lost.
    pub loss: u16,
    /// Frames delivered twice.
    pub duplicate: u16,
    /// Frames that overtake the one before them.
    pub reorder: u16,
}

/// Frames under way in one direction.
#[derive(Debug)]
struct Lane {
    /// Each with when it came, where that was told.
    frames: VecDeque<(OwnedFrame, Option<Nanos>)>,
    capacity: usize,
    impairment: Impairment,
    random: Random,
    lost: u64,
}

impl Lane {
    fn push(&mut self, frame: OwnedFrame, at: Option<Nanos>) -> bool {
        if self.random.chance(self.impairment.loss) {
            self.lost += 1;
            return true;
        }
        if self.frames.len() >= self.capacity {
            return false;
        }
        if self.random.chance(self.impairment.duplicate) && self.frames.len() + 1 < self.capacity {
            self.frames.push_back((frame.clone(), at));
        }
        self.frames.push_back((frame, at));
        if self.random.chance(self.impairment.reorder) {
            let count = self.frames.len();
            if count >= 2 {
                self.frames.swap(count - 1, count - 2);
            }
        }
        true
    }
}

#[derive(Debug)]
struct Cable {
    to_switch: Lane,
    to_host: Lane,
    up: bool,
    /// Whether the host's end takes frames that still need checksum or segmentation.
    offloads: bool,
}

type Shared = Arc<Mutex<Cable>>;

fn lock(cable: &Shared) -> MutexGuard<'_, Cable> {
    // No code that holds the lock can panic, and a torn queue cannot come of it if it did.
    cable.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a cable is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CableOptions {
    /// Frames under way in each direction.
    pub capacity: usize,
    /// What happens to them.
    pub impairment: Impairment,
    /// Whether the host's end takes unfinished frames, as a veth does.
    pub offloads: bool,
    /// Seed of the impairment.
    pub seed: u64,
}

impl Default for CableOptions {
    /// A short perfect cable: 1,024 frames, as a device queue.
    fn default() -> Self {
        Self {
            capacity: 1024,
            impairment: Impairment::default(),
            offloads: true,
            seed: 0,
        }
    }
}

/// Makes a cable: the switch's two halves, and the host's end.
#[must_use]
pub fn cable(port: PortIndex, options: CableOptions) -> (SimRx, SimEgress, SimHost) {
    let lane = |salt| Lane {
        frames: VecDeque::new(),
        capacity: options.capacity,
        impairment: options.impairment,
        random: Random::new(options.seed ^ salt),
        lost: 0,
    };
    let cable = Arc::new(Mutex::new(Cable {
        to_switch: lane(0x5a5a),
        to_host: lane(0xa5a5),
        up: true,
        offloads: options.offloads,
    }));
    let rx = SimRx {
        cable: Arc::clone(&cable),
        port,
        lent: Vec::new(),
    };
    (rx, SimEgress(Arc::clone(&cable)), SimHost(cable))
}

/// The receiving half of a simulated port.
#[derive(Debug)]
pub struct SimRx {
    cable: Shared,
    port: PortIndex,
    /// Each with when it came.
    lent: Vec<(OwnedFrame, Option<Nanos>)>,
}

impl SimRx {
    /// See [`Rx::fill`](super::Rx::fill).
    pub(super) fn fill(&mut self, mut arrivals: impl Noting) -> Batch<'_> {
        self.lend();
        let port = self.port;
        self.lent
            .iter_mut()
            .map(|(owned, at)| {
                arrivals.note(*at);
                let mut frame: Frame<'_> = owned.borrow();
                frame.ingress = port;
                frame
            })
            .collect()
    }

    /// What a kernel would do. Out of line, so that benchmarks can tell it from the worker's part.
    #[inline(never)]
    fn lend(&mut self) {
        let mut cable = lock(&self.cable);
        let lane = &mut cable.to_switch.frames;
        let count = lane.len().min(BATCH_FRAMES_MAX);
        self.lent.clear();
        self.lent.extend(lane.drain(..count));
    }

    /// See [`Rx::has_frames`](super::Rx::has_frames).
    pub(super) fn has_frames(&self) -> bool {
        !lock(&self.cable).to_switch.frames.is_empty()
    }
}

/// The way to a simulated port.
#[derive(Debug, Clone)]
pub struct SimEgress(Shared);

impl SimEgress {
    /// Takes a sealed frame, as a socket would. Out of line as the receiving end.
    #[inline(never)]
    pub(super) fn send(&self, sealed: &[u8]) -> SendOutcome {
        let Some((header, bytes)) = sealed.split_first_chunk::<VNET_HEADER_BYTES>() else {
            return SendOutcome::Refused(0);
        };
        let Ok(offload) = Offload::from_vnet(*header) else {
            return SendOutcome::Offload;
        };
        let mut cable = lock(&self.0);
        if !cable.up {
            return SendOutcome::Down;
        }
        if !cable.offloads && offload != Offload::PLAIN {
            return SendOutcome::Offload;
        }
        let frame = OwnedFrame::new(bytes, offload, PortIndex::default());
        if cable.to_host.push(frame, None) {
            SendOutcome::Sent
        } else {
            SendOutcome::Full
        }
    }
}

/// The host's end of a cable.
#[derive(Debug)]
pub struct SimHost(Shared);

impl SimHost {
    /// Sends a frame to the switch. False where the cable is full or down.
    pub fn send(&self, bytes: &[u8], offload: Offload) -> bool {
        let mut cable = lock(&self.0);
        let frame = OwnedFrame::new(bytes, offload, PortIndex::default());
        cable.up && cable.to_switch.push(frame, None)
    }

    /// As [`send`](Self::send), with the time at which the frame comes into the ring.
    pub fn send_at(&self, bytes: &[u8], offload: Offload, at: Nanos) -> bool {
        let mut cable = lock(&self.0);
        let frame = OwnedFrame::new(bytes, offload, PortIndex::default());
        cable.up && cable.to_switch.push(frame, Some(at))
    }

    /// The next frame from the switch.
    #[must_use]
    pub fn receive(&self) -> Option<OwnedFrame> {
        let (frame, _) = lock(&self.0).to_host.frames.pop_front()?;
        Some(frame)
    }

    /// Frames the cable itself lost, both ways.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let cable = lock(&self.0);
        cable.to_switch.lost + cable.to_host.lost
    }

    /// Plugs the cable in or out.
    pub fn set_up(&self, up: bool) {
        lock(&self.0).up = up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_course_of_events() {
        let course = |seed| {
            let impairment = Impairment {
                loss: 100,
                duplicate: 100,
                reorder: 100,
            };
            let options = CableOptions {
                impairment,
                seed,
                ..CableOptions::default()
            };
            let (mut rx, _, host) = cable(PortIndex(3), options);
            let mut seen = Vec::new();
            for byte in 0..200u8 {
                assert!(host.send(&[byte; 60], Offload::PLAIN));
                let batch = rx.fill(());
                assert!(batch.iter().all(|frame| frame.ingress == PortIndex(3)));
                seen.extend(batch.iter().map(|frame| frame.bytes()[0]));
            }
            (seen, host.lost())
        };
        assert_eq!(course(1), course(1));
        assert_ne!(course(1), course(2));
    }

    #[test]
    fn a_cable_refuses_like_a_socket() {
        let options = CableOptions {
            capacity: 1,
            offloads: false,
            ..CableOptions::default()
        };
        let (_, egress, host) = cable(PortIndex(0), options);
        assert_eq!(
            egress.send(&[1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 9]),
            SendOutcome::Offload
        );
        assert_eq!(egress.send(&[0; 70]), SendOutcome::Sent);
        assert_eq!(egress.send(&[0; 70]), SendOutcome::Full);
        host.set_up(false);
        assert_eq!(egress.send(&[0; 70]), SendOutcome::Down);
        assert_eq!(host.receive().unwrap().bytes().len(), 60);
    }
}
