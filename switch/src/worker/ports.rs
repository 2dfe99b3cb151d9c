//! The receiving halves of one worker, those it visits in front.
//!
//! # Theory of operation
//!
//! A worker of two ports looks at both in every round. With hundreds that would be a cache line of
//! each ring per round, and `ppoll` over all of them before each sleep, for a few that have frames.
//! So where there are more than [`FEW`], a port is in one of three states:
//!
//! ```text
//!            visited   waited for by
//!   quiet    no        epoll          nothing came for a while
//!   awake    yes       epoll          something came since the last sorting
//!   busy     yes       ppoll          more than BUSY_FRAMES came since
//! ```
//!
//! epoll wakes for all quiet ones at the price of one entry in `ppoll`, but its entry in a ring's
//! wait queue stays there while the worker runs, and so each frame pays for its callback, some
//! 50 ns of the sender's time. So a busy port is taken out of it: while its worker runs, nobody
//! waits at its ring. Which port is in which state is sorted out at ticks, so that a system call or
//! two per port and tick is the most it costs.
//!
//! No wake is missed. A frame at a quiet port leaves its socket readable, and epoll is asked before
//! and during each sleep, and every [`ASK_ROUNDS`] rounds of a worker that does not sleep; it
//! reports by level and not by edge, and when a descriptor is added (`ep_insert`, fs/eventpoll.c)
//! it looks at once, so what came before is seen too.

use std::os::fd::BorrowedFd;

use crate::port::{PortIndex, Readiness, Rx, Sentry};

/// So many ports are always visited, and waited for by `ppoll`: cheaper than telling them apart.
const FEW: usize = 16;

/// Frames from one sorting to the next that make a port busy: 640 a second while anything is busy.
const BUSY_FRAMES: u32 = 64;

/// From one look at the quiet ports to the next, in rounds of a worker that does not sleep: 4
/// batches of one busy port are 0.1 ms.
pub(super) const ASK_ROUNDS: u64 = 4;

pub(super) struct OwnRx {
    pub(super) port: PortIndex,
    pub(super) rx: Rx,
    /// A port that cannot be peeked at is read when it was reported readable, or gave frames at
    /// the last visit.
    pub(super) look: bool,
    /// Frames since the last sorting, saturating.
    frames: u32,
    /// The sentry waits for it.
    guarded: bool,
}

/// See the module's theory of operation.
#[derive(Default)]
pub(super) struct Ports {
    all: Vec<OwnRx>,
    /// Those in front of this place are visited.
    visited: usize,
    /// The place of each port, by its index.
    places: Vec<Option<u16>>,
    /// Made when the ports are more than a few for the first time; absent in a simulation.
    sentry: Option<Sentry>,
    /// The ports that are waited for by `ppoll` are not those they were.
    pub(super) changed: bool,
}

impl OwnRx {
    /// Takes note of frames that came.
    pub(super) fn heat(&mut self, frames: usize) {
        let frames = u32::try_from(frames).unwrap_or(u32::MAX);
        self.frames = self.frames.saturating_add(frames);
    }

    /// The descriptor to be waited for by `ppoll`.
    fn unguarded_fd(&self) -> Option<BorrowedFd<'_>> {
        self.rx.fd().filter(|_| !self.guarded)
    }
}

impl Ports {
    /// Adds a port, to be visited and looked at.
    pub(super) fn push(&mut self, port: PortIndex, rx: Rx) {
        self.all.push(OwnRx {
            port,
            rx,
            look: true,
            frames: 0,
            guarded: false,
        });
        self.wake(self.all.len() - 1);
        self.changed = true;
    }

    /// Takes a port out.
    pub(super) fn remove(&mut self, port: PortIndex) -> Option<OwnRx> {
        // Not left to closing: whoever gets the half may keep it open.
        self.unguard(self.place(port)?);
        self.rest(self.place(port)?);
        let last = self.all.len() - 1;
        self.swap(self.place(port)?, last);
        let own = self.all.pop();
        if let Some(place) = self.places.get_mut(port.index()) {
            *place = None;
        }
        self.changed = true;
        own
    }

    /// How many ports are to be visited in a round: those from place 0 on.
    pub(super) const fn visited(&self) -> usize {
        self.visited
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut OwnRx> {
        self.all.get_mut(place)
    }

    /// All ports, in no particular order.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut OwnRx> {
        self.all.iter_mut()
    }

    /// Gives all receiving halves away.
    pub(super) fn into_halves(self) -> Vec<Rx> {
        self.all.into_iter().map(|own| own.rx).collect()
    }

    /// What `ppoll` is to wait for, always in the same order unless [`changed`](Self::changed): the
    /// sentry, if there is one, and ports it does not guard.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let ports = self.all.iter().filter_map(OwnRx::unguarded_fd);
        self.sentry.iter().map(Sentry::fd).chain(ports)
    }

    /// Takes note of what `ppoll` found, in the order of [`fds`](Self::fds).
    pub(super) fn heed(&mut self, mut is_ready: impl FnMut(usize) -> bool) {
        let mut places = 0..;
        if self.sentry.is_some() && places.next().is_some_and(&mut is_ready) {
            self.ask();
        }
        let unguarded = (self.all.iter_mut()).filter(|own| own.unguarded_fd().is_some());
        for (place, own) in places.zip(unguarded) {
            own.look |= is_ready(place);
        }
    }

    /// Looks at all ports the sentry does not guard, since nobody else tells of a TAP's frames.
    pub(super) fn look_at_all(&mut self) {
        for own in &mut self.all[..self.visited] {
            own.look |= !own.guarded;
        }
    }

    /// Asks the sentry which ports have frames, and has those visited from now on.
    pub(super) fn ask(&mut self) {
        let count = self.sentry.as_mut().map_or(0, Sentry::ask);
        for report in 0..count {
            let reported = (self.sentry.as_ref()).and_then(|sentry| sentry.report(report));
            let Some((port, readiness)) = reported else {
                continue;
            };
            let Some(place) = self.place(port) else {
                continue;
            };
            self.all[place].look = true;
            // An error that cannot be cleared is a device's that is gone, and would be told for
            // ever; `ppoll` tells it once.
            let fd = self.all[place].rx.fd();
            let dead = readiness == Readiness::Failed && !fd.is_some_and(Sentry::clear_error);
            self.wake(place);
            if let (true, Some(place)) = (dead, self.place(port)) {
                self.unguard(place);
            }
        }
    }

    /// Sorts out which ports are quiet, awake and busy, by what came since the last call.
    pub(super) fn sort_out(&mut self) {
        if self.all.len() > FEW && self.sentry.is_none() {
            // Without a descriptor for it, all ports are visited.
            self.sentry = Sentry::new().ok();
            self.changed = true;
        }
        if self.all.len() <= FEW || self.sentry.is_none() {
            self.visited = self.all.len();
            for place in 0..self.all.len() {
                self.unguard(place);
            }
            return;
        }
        for place in (0..self.visited).rev() {
            let frames = std::mem::take(&mut self.all[place].frames);
            if frames >= BUSY_FRAMES {
                self.unguard(place);
            } else if self.guard(place) && frames == 0 {
                self.rest(place);
            }
        }
    }

    /// The place of a port that is among them.
    pub(super) fn place(&self, port: PortIndex) -> Option<usize> {
        (*self.places.get(port.index())?).map(usize::from)
    }

    /// Has a port visited.
    fn wake(&mut self, place: usize) {
        if place >= self.visited {
            self.swap(place, self.visited);
            self.visited += 1;
        }
    }

    /// Has a port visited no more.
    fn rest(&mut self, place: usize) {
        if place < self.visited {
            self.visited -= 1;
            self.swap(place, self.visited);
            // Another may have moved that `ppoll` waits for.
            self.changed = true;
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.all.swap(one, other);
        for place in [one, other] {
            let index = self.all[place].port.index();
            if self.places.len() <= index {
                self.places.resize(index + 1, None);
            }
            self.places[index] = u16::try_from(place).ok();
        }
    }

    /// Has the sentry wait for a port. False where it cannot: then `ppoll` does.
    fn guard(&mut self, place: usize) -> bool {
        let own = &mut self.all[place];
        if !own.guarded
            && let (Some(sentry), Some(fd)) = (&self.sentry, own.rx.fd())
        {
            own.guarded = sentry.add(fd, own.port).is_ok();
            self.changed |= own.guarded;
        }
        own.guarded
    }

    fn unguard(&mut self, place: usize) {
        let own = &mut self.all[place];
        if own.guarded
            && let (Some(sentry), Some(fd)) = (&self.sentry, own.rx.fd())
        {
            sentry.remove(fd);
            own.guarded = false;
            self.changed = true;
        }
    }
}

#[cfg(test)]
mod tests;
