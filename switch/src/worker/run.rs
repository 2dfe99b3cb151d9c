//! The loop, and when to sleep.

use std::time::Duration;

use nat::Nanos;

use crate::port::{Rx, Waiter};

use super::Worker;
use super::ports::ASK_ROUNDS;

/// From one tick to the next while there is something to do, or somebody to wait for.
const TICK: Nanos = Nanos(100_000_000);

/// The same while nothing happens: an idle worker wakes twice a second, to age its tables and to
/// show that it is alive.
const IDLE_TICK: Nanos = Nanos(500_000_000);

/// A ring that cannot be peeked at is looked at every so many rounds of a busy worker, since such a
/// worker never asks the kernel which are readable.
const LOOK_ROUNDS: u64 = 32;

/// What a worker does when it has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    /// Time to spin after the last frame, giving way to others, before it sleeps.
    pub busy_poll: Duration,
}

/// Runs `worker` until it is told to stop. `clock` is read once per round. Returns its receiving
/// halves, which are closed faster by many threads ([`close_all`](crate::port::close_all)).
pub fn run(mut worker: Worker, idle: Idle, clock: impl Fn() -> Nanos) -> Vec<Rx> {
    let busy_poll = Nanos(u64::try_from(idle.busy_poll.as_nanos()).unwrap_or(u64::MAX));
    let mut waiter = Waiter::new();
    let mut last_frame = clock();
    let mut next_tick = last_frame;
    let mut rounds = 0u64;
    // When the last round began, if it found frames: it ends where this one begins, so that its
    // length costs no further look at the clock.
    let mut busy_since = None;
    loop {
        let now = clock();
        if let Some(since) = busy_since.take() {
            worker.count_busy(now.saturating_sub(since));
        }
        rounds += 1;
        if rounds.is_multiple_of(LOOK_ROUNDS) {
            worker.ports.look_at_all();
        }
        if rounds.is_multiple_of(ASK_ROUNDS) {
            worker.ports.ask();
        }
        let frames = worker.poll_once(now);
        if frames > 0 {
            last_frame = now;
            busy_since = Some(now);
        }
        let due = now >= next_tick;
        if due || worker.has_commands() {
            worker.tick(now);
            next_tick = now.saturating_add(TICK);
            if worker.is_stopping() {
                return worker.ports.into_halves();
            }
        }
        if due {
            worker.ports.sort_out();
        }
        if frames > 0 {
            continue;
        }
        if now.saturating_sub(last_frame) < busy_poll {
            // On a machine with as many busy threads as cores, spinning without giving way would
            // keep the very sender from running that is waited for.
            std::thread::yield_now();
            continue;
        }
        let tick = if worker.is_waiting() { TICK } else { IDLE_TICK };
        worker.sleep(&mut waiter, Duration::from_nanos(tick.0));
    }
}

impl Worker {
    /// True while frames wait here for somebody's answer, or events and news to be told.
    fn is_waiting(&self) -> bool {
        !self.engine.hold.is_empty()
            || self.has_events()
            || self.engine.stations.have_news()
            || self.has_many_loans()
    }

    fn count_busy(&self, time: Nanos) {
        self.counters().totals.busy_nanos.add(time.0);
    }

    fn has_commands(&self) -> bool {
        self.inbox.has_commands()
    }

    /// Sleeps until a port has a frame, somebody calls, or `timeout` is over.
    fn sleep(&mut self, waiter: &mut Waiter, timeout: Duration) {
        let link = &self.shared.links[usize::from(self.index)];
        let Some(wake) = link.wake() else { return };
        if self.ports.changed || waiter.is_empty() {
            waiter.clear();
            waiter.watch(wake.fd());
            for fd in self.ports.fds() {
                waiter.watch(fd);
            }
            self.ports.changed = false;
        }
        link.set_sleeping(true);
        // A neighbour that answers at another worker is news too, to one that holds frames.
        let has_news = self.shared.neighbours.generation() != self.neighbours_seen;
        if self.inbox.is_empty() && !has_news {
            self.shared.counters[usize::from(self.index)]
                .totals
                .sleeps
                .add(1);
            waiter.wait(Some(timeout));
        }
        link.set_sleeping(false);
        wake.drain();
        // The bell is in place 0.
        self.ports.heed(|place| waiter.is_ready(place + 1));
    }
}
