//! A port changes its worker.

use crossbeam_channel::{RecvTimeoutError, TryRecvError, bounded};

use crate::port::PortIndex;
use crate::worker::Command;

use super::{ANSWER_TIMEOUT, Switch};

/// Why a port does not move to another worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MoveError {
    /// There is no such port.
    #[error("there is none")]
    NoPort,
    /// There is no such worker.
    #[error("no worker {worker}: they are 0 to {last}")]
    NoWorker {
        /// The one asked for.
        worker: u16,
        /// The last there is.
        last: u16,
    },
    /// It is the uplink's steered group.
    #[error("every worker receives from it, each the frames for its own NAT ports")]
    Everywhere,
    /// Its worker is stuck; the port moves once that goes on, and not again before.
    #[error("worker {0} does not answer; the port moves as soon as it does")]
    Late(u16),
}

impl Switch {
    /// Moves a port to worker `to` while frames flow: none is lost, and none overtakes another of
    /// its flow. What is in its ring waits there. The NAT sessions of its stations stay with the
    /// worker they are with, and so do new ones
    /// ([`nat_worker`](crate::config::PortView::nat_worker)). Returns the worker it was with; if
    /// that is `to`, nothing was done.
    ///
    /// # Errors
    /// See [`MoveError`].
    pub fn move_port(&mut self, index: PortIndex, to: u16) -> Result<u16, MoveError> {
        let last = self.workers().saturating_sub(1);
        let slot = (self.slots.get_mut(index.index())).and_then(Option::as_mut);
        let slot = slot.ok_or(MoveError::NoPort)?;
        let from = slot.worker.ok_or(MoveError::Everywhere)?;
        if let Some((before, answer)) = &slot.moving
            && answer.try_recv() == Err(TryRecvError::Empty)
        {
            return Err(MoveError::Late(*before));
        }
        if to > last {
            return Err(MoveError::NoWorker { worker: to, last });
        }
        if from == to {
            return Ok(from);
        }
        let (done, answer) = bounded(1);
        slot.worker = Some(to);
        slot.moving = Some((from, answer.clone()));
        self.command(from, Command::Move(index, to, done));
        // In the simulator nobody answers before its workers are stepped. A worker that has ended
        // answers by dropping its end, which is no delay either.
        let waits = !self.threads.is_empty();
        if waits && answer.recv_timeout(ANSWER_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            return Err(MoveError::Late(from));
        }
        if waits {
            self.forget_move(index);
        }
        Ok(from)
    }

    /// No longer listens for the end of a move; a half still on its way is closed.
    pub(super) fn forget_move(&mut self, index: PortIndex) {
        if let Some(Some(slot)) = self.slots.get_mut(index.index()) {
            slot.moving = None;
        }
    }
}
