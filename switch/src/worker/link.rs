//! How to reach a worker from another thread.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use nat::Nanos;

use crate::frame::OwnedFrame;
use crate::limits::HANDOVER_FRAMES_MAX;
use crate::port::Wake;

use super::Command;

/// The sending ends of one worker's mailbox and hand-over queue.
#[derive(Debug)]
pub struct Link {
    mailbox: Sender<Command>,
    handover: Sender<OwnedFrame>,
    wake: Option<Wake>,
    /// It sleeps, or is about to.
    sleeping: AtomicBool,
    /// Its last tick, in nanoseconds of its clock.
    ticked: AtomicU64,
}

/// The receiving ends of a [`Link`], for the worker it belongs to.
#[derive(Debug)]
pub struct Inbox {
    mailbox: Receiver<Command>,
    handover: Receiver<OwnedFrame>,
}

impl Link {
    /// A link and its inbox. Without `wake` (in the simulator) nobody sleeps.
    #[must_use]
    pub fn new(wake: Option<Wake>) -> (Self, Inbox) {
        // Commands come from the one control thread, which waits for the answers it asks for.
        let (mailbox, commands) = unbounded();
        let (handover, frames) = bounded(HANDOVER_FRAMES_MAX);
        let link = Self {
            mailbox,
            handover,
            wake,
            sleeping: AtomicBool::new(false),
            ticked: AtomicU64::new(0),
        };
        (
            link,
            Inbox {
                mailbox: commands,
                handover: frames,
            },
        )
    }

    /// A link without a worker, with a queue for one frame if there is room for one here: where a
    /// frame that is tried would be handed over to.
    pub(crate) fn twin(&self) -> (Self, Inbox) {
        let room = usize::from(!self.handover.is_full());
        let (mailbox, commands) = unbounded();
        let (handover, frames) = bounded(room);
        let link = Self {
            mailbox,
            handover,
            wake: None,
            sleeping: AtomicBool::new(false),
            ticked: AtomicU64::new(0),
        };
        let inbox = Inbox {
            mailbox: commands,
            handover: frames,
        };
        (link, inbox)
    }

    /// Puts a command into the worker's mailbox. False if the worker is gone.
    pub fn command(&self, command: Command) -> bool {
        let sent = self.mailbox.send(command).is_ok();
        if let Some(wake) = &self.wake {
            wake.signal();
        }
        sent
    }

    /// When it last ticked, by its own clock.
    #[must_use]
    pub fn ticked(&self) -> Nanos {
        Nanos(self.ticked.load(Ordering::Relaxed))
    }

    pub(super) fn tick(&self, now: Nanos) {
        self.ticked.store(now.0, Ordering::Relaxed);
    }

    pub(super) const fn wake(&self) -> Option<&Wake> {
        self.wake.as_ref()
    }

    /// Announces sleep, or its end. The fence keeps what is read next, queues and generations
    /// alike, behind the store. See [`rouse`](Self::rouse).
    pub(super) fn set_sleeping(&self, sleeping: bool) {
        self.sleeping.store(sleeping, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
    }

    /// Hands a frame over. False if the queue is full.
    pub(super) fn hand_over(&self, frame: OwnedFrame) -> bool {
        let taken = self.handover.try_send(frame).is_ok();
        if taken {
            self.rouse();
        }
        taken
    }

    /// Wakes the worker if it sleeps. The SeqCst load pairs with the SeqCst store in
    /// [`set_sleeping`](Self::set_sleeping): the worker stores and then looks at its queue; we
    /// filled the queue and then load. The fence keeps our load behind the queue's own (weaker)
    /// store. In the one total order of both, one of us sees the other.
    pub(super) fn rouse(&self) {
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::SeqCst)
            && let Some(wake) = &self.wake
        {
            wake.signal();
        }
    }
}

impl Inbox {
    /// The next command, if there is one.
    pub(super) fn next_command(&self) -> Option<Command> {
        self.mailbox.try_recv().ok()
    }

    /// True if a command waits.
    pub(super) fn has_commands(&self) -> bool {
        !self.mailbox.is_empty()
    }

    /// True if there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.mailbox.is_empty() && self.handover.is_empty()
    }

    /// Up to `count` frames handed over.
    pub(super) fn take_frames(&self, count: usize) -> Vec<OwnedFrame> {
        if self.handover.is_empty() {
            return Vec::new();
        }
        self.handover.try_iter().take(count).collect()
    }
}
