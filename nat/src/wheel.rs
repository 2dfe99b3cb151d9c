//! A coarse timer wheel with lazy re-checks.
//!
//! # Theory of operation
//! Time is cut into ticks of one second and the wheel has 512 slots, each a doubly linked list of
//! timers filed under a tick. A packet that refreshes a session only moves the session's own
//! deadline; the timer stays where it is filed, and when its tick comes the owner looks at the
//! deadline and files it again if that lies ahead. So a busy session costs nothing per packet and
//! one re-check per 300 s or so, whatever its timeout. Only a deadline that moves *earlier* (a
//! FIN) re-files at once. Deadlines beyond the last slot are filed in the last slot.
//! Every operation is O(1); finding the next occupied slot reads a bitmap of 512 bits.
//! A timer knows its slot and not its tick: all slots lie within 512 ticks from the cursor on, so
//! the slot says when it will be visited.

use crate::Nanos;
use crate::cells::Cells;
use crate::slab::at;

const SLOTS: u64 = 512;
const WORDS: usize = 8;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Timer {
    prev: u32,
    next: u32,
    /// Slot it is filed in, or `NONE`.
    slot: u32,
}

impl Timer {
    const IDLE: Self = Self {
        prev: NONE,
        next: NONE,
        slot: NONE,
    };
}

/// Timers numbered like the slab whose items they watch.
pub(crate) struct Wheel {
    /// As many as numbers have been used so far, in memory that was reserved for all.
    timers: Cells<Timer>,
    heads: Box<[u32]>,
    occupied: [u64; WORDS],
    /// Next tick to be visited; every filed timer lies in a slot of `cursor..cursor + SLOTS`.
    cursor: u64,
}

impl Wheel {
    /// Takes memory for timers numbered below `max`.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            timers: Cells::new(Vec::with_capacity(max)),
            heads: vec![NONE; slot_of(SLOTS - 1) + 1].into_boxed_slice(),
            occupied: [0; WORDS],
            cursor: 0,
        }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        self.timers.memory() + size_of_val::<[u32]>(&self.heads)
    }

    /// Files a timer so that it falls due within a second after `deadline`, or earlier; a timer
    /// that is filed early enough stays where it is.
    pub(crate) fn schedule(&mut self, id: u32, deadline: Nanos) {
        while self.timers.len() <= at(id) {
            self.timers.push(Timer::IDLE);
        }
        // The tick after the deadline's own second: when it comes the deadline has passed.
        let due = deadline.as_secs() + 1;
        let tick = due.clamp(self.cursor, self.cursor + SLOTS - 1);
        let filed = self.timers.get(id).map_or(NONE, |timer| timer.slot);
        if filed != NONE {
            if self.tick_of(at(filed)) <= tick {
                return;
            }
            self.unlink(id);
        }
        let slot = slot_of(tick);
        let next = self.heads[slot];
        if next != NONE {
            self.set_prev(next, id);
        }
        let filed = Timer {
            prev: NONE,
            next,
            slot: u32::try_from(slot).unwrap_or(0),
        };
        self.timers.set(id, filed);
        self.heads[slot] = id;
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Takes a timer out, if it is filed.
    pub(crate) fn cancel(&mut self, id: u32) {
        let timer = self.timers.get(id);
        if timer.is_some_and(|timer| timer.slot != NONE) {
            self.unlink(id);
        }
    }

    /// Takes out and returns a timer whose tick has come; the owner files it again if its
    /// deadline lies ahead.
    pub(crate) fn pop_due(&mut self, now: Nanos) -> Option<u32> {
        let now_tick = now.as_secs();
        // After a pause longer than the wheel every slot is due once, no more.
        self.cursor = self.cursor.max((now_tick + 1).saturating_sub(SLOTS));
        let Some(tick) = self.next_occupied().filter(|&tick| tick <= now_tick) else {
            self.cursor = self.cursor.max(now_tick);
            return None;
        };
        self.cursor = tick;
        let id = self.heads[slot_of(tick)];
        self.unlink(id);
        Some(id)
    }

    /// Lists the timers of the tick that has come, in the order in which [`Wheel::pop_due`] will
    /// give them; those of further ticks are left out.
    pub(crate) fn due(&self, now: Nanos) -> impl Iterator<Item = u32> {
        let tick = self.next_occupied().filter(|&tick| tick <= now.as_secs());
        let first = tick.map_or(NONE, |tick| self.heads[slot_of(tick)]);
        let some = |id| (id != NONE).then_some(id);
        let next = move |&id: &u32| some(self.timers.get(id).map_or(NONE, |timer| timer.next));
        std::iter::successors(some(first), next)
    }

    /// Returns when [`Wheel::pop_due`] will next have something to give.
    pub(crate) fn next_due(&self) -> Option<Nanos> {
        self.next_occupied().map(Nanos::from_secs)
    }

    fn next_occupied(&self) -> Option<u64> {
        let start = slot_of(self.cursor);
        for step in 0..=WORDS {
            let word = (start / 64 + step) % WORDS;
            let mut bits = self.occupied[word];
            if step == 0 {
                bits &= u64::MAX << (start % 64);
            } else if step == WORDS {
                bits &= !(u64::MAX << (start % 64));
            }
            if bits != 0 {
                return Some(self.tick_of(word * 64 + bits.trailing_zeros() as usize));
            }
        }
        None
    }

    /// Returns when a slot will next be visited.
    fn tick_of(&self, slot: usize) -> u64 {
        self.cursor + (slot as u64 + SLOTS - self.cursor % SLOTS) % SLOTS
    }

    fn unlink(&mut self, id: u32) {
        // Read one by one: `prev` may have been written a moment ago, and a load of both together
        // would wait for that.
        let Some(timer) = self.timers.get_mut(id) else {
            return;
        };
        let (prev, next, slot) = (timer.prev, timer.next, timer.slot);
        timer.slot = NONE;
        if next != NONE {
            self.set_prev(next, prev);
        }
        if prev == NONE {
            let slot = at(slot);
            self.heads[slot] = next;
            if next == NONE {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        } else if let Some(prev) = self.timers.get_mut(prev) {
            prev.next = next;
        }
    }

    fn set_prev(&mut self, id: u32, prev: u32) {
        if let Some(timer) = self.timers.get_mut(id) {
            timer.prev = prev;
        }
    }

    /// Lays the timers aside; see [`Cells::lay_aside`].
    pub(crate) fn lay_aside(&mut self) -> Self {
        let Self {
            ref mut timers,
            ref heads,
            occupied,
            cursor,
        } = *self;
        Self {
            timers: timers.lay_aside(),
            heads: heads.clone(),
            occupied,
            cursor,
        }
    }

    pub(crate) fn take_back(&mut self, twin: Self) {
        self.timers.take_back(twin.timers);
    }
}

fn slot_of(tick: u64) -> usize {
    usize::try_from(tick % SLOTS).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a4_3_a_timer_takes_12_bytes() {
        assert_eq!(size_of::<Timer>(), 12);
        let mut wheel = Wheel::new(1_000);
        let before = wheel.memory();
        assert!((12_000..14_100).contains(&before), "{before}");
        for id in (0..1_000).rev() {
            wheel.schedule(id, Nanos::from_secs(u64::from(id)));
        }
        assert_eq!(wheel.memory(), before);
    }

    #[test]
    fn falls_due_within_a_second_after_the_deadline() {
        let mut wheel = Wheel::new(4);
        wheel.schedule(2, Nanos::from_millis(5_500));
        assert_eq!(wheel.next_due(), Some(Nanos::from_secs(6)));
        assert_eq!(wheel.pop_due(Nanos::from_millis(5_999)), None);
        assert_eq!(wheel.pop_due(Nanos::from_secs(6)), Some(2));
        assert_eq!(wheel.pop_due(Nanos::from_secs(600)), None);
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn lists_what_falls_due_next_in_that_order() {
        let mut wheel = Wheel::new(8);
        for (id, secs) in [(0, 5), (1, 7), (2, 5), (3, 5), (4, 9)] {
            wheel.schedule(id, Nanos::from_secs(secs));
        }
        assert_eq!(wheel.due(Nanos::from_secs(5)).count(), 0);
        // The timer of 7 s is of a further tick.
        let now = Nanos::from_secs(8);
        let listed: Vec<_> = wheel.due(now).collect();
        let popped: Vec<_> = std::iter::from_fn(|| wheel.pop_due(now)).collect();
        assert_eq!((listed.len(), popped.len()), (3, 4));
        assert_eq!(listed, popped[..3]);
    }

    #[test]
    fn an_earlier_deadline_moves_a_later_one_does_not() {
        let mut wheel = Wheel::new(4);
        wheel.schedule(0, Nanos::from_secs(100));
        wheel.schedule(0, Nanos::from_secs(300));
        assert_eq!(wheel.next_due(), Some(Nanos::from_secs(101)));
        wheel.schedule(0, Nanos::from_secs(10));
        assert_eq!(wheel.next_due(), Some(Nanos::from_secs(11)));
        wheel.cancel(0);
        wheel.cancel(0);
        assert_eq!(wheel.next_due(), None);
    }

    #[test]
    fn a_leap_of_a_year_visits_each_timer_once() {
        let mut wheel = Wheel::new(600);
        for id in 0..600 {
            wheel.schedule(id, Nanos::from_secs(u64::from(id)));
        }
        let year = Nanos::from_secs(31_536_000);
        let mut seen: Vec<u32> = std::iter::from_fn(|| wheel.pop_due(year)).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..600).collect::<Vec<_>>());
        wheel.schedule(1, year + Nanos::from_secs(5));
        assert_eq!(wheel.pop_due(year + Nanos::from_secs(5)), None);
        assert_eq!(wheel.pop_due(year + Nanos::from_secs(6)), Some(1));
    }

    proptest! {
        /// Model: every timer is given back at the first visit after its deadline's second, with
        /// the owner re-filing those whose deadline lies ahead.
        #[test]
        fn nothing_is_lost_nor_early(
            steps in proptest::collection::vec(
                (0u32..20, 0u64..2_000, 0u64..700, any::<bool>()), 1..120),
        ) {
            let mut wheel = Wheel::new(20);
            let mut deadlines = [None::<Nanos>; 20];
            let mut now = Nanos::ZERO;
            for (id, timeout, pause, cancel) in steps {
                now += Nanos::from_secs(pause);
                while let Some(id) = wheel.pop_due(now) {
                    let deadline = deadlines[id as usize].expect("only filed timers fall due");
                    if deadline <= now {
                        deadlines[id as usize] = None;
                    } else {
                        wheel.schedule(id, deadline);
                    }
                }
                for deadline in deadlines.iter().flatten() {
                    prop_assert!(deadline.as_secs() + 1 > now.as_secs());
                }
                if cancel {
                    wheel.cancel(id);
                    deadlines[id as usize] = None;
                } else {
                    let deadline = now + Nanos::from_secs(timeout);
                    wheel.schedule(id, deadline);
                    deadlines[id as usize] = Some(deadline);
                }
                prop_assert_eq!(wheel.next_due().is_some(), deadlines.iter().any(Option::is_some));
            }
        }
    }
}
