//! The turns of all workers in their one order.
//!
//! # Theory of operation
//! Records come by portions, each worker's in its order, entries by a channel of their own, and any
//! of them may be late. A turn is whole when its worker's records have all come, which a portion of
//! a later turn tells, or a tick that had nothing left to send. A turn of which nothing has come is
//! lost when everybody has got beyond it.

use std::collections::BTreeMap;

/// Turns on their way into a file. `T` is what there is of each.
#[derive(Debug)]
pub(super) struct Turns<T> {
    pending: BTreeMap<u64, (Option<u16>, T)>,
    /// For each worker: all its turns before this one have come.
    through: Vec<u64>,
    next: u64,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    /// This turn: its number, whose it was, and what there is of it.
    Turn(u64, Option<u16>, T),
    /// Some that are lost, the first of them, and how many.
    Missing(u64, u64),
}

impl<T: Default> Turns<T> {
    pub(super) fn new(workers: u16) -> Self {
        Self {
            pending: BTreeMap::new(),
            through: vec![0; usize::from(workers)],
            next: 1,
        }
    }

    /// What there is so far of a turn; `worker` is `None` for the control thread's.
    pub(super) fn turn(&mut self, number: u64, worker: Option<u16>) -> &mut T {
        let turn = self.pending.entry(number);
        &mut turn.or_insert_with(|| (worker, T::default())).1
    }

    /// All turns of a worker have come that were before this one.
    pub(super) fn is_through(&mut self, worker: u16, turn: u64) {
        if let Some(through) = self.through.get_mut(usize::from(worker)) {
            *through = turn.max(*through);
        }
    }

    /// No more will come.
    pub(super) fn end(&mut self) {
        self.through.fill(u64::MAX);
    }

    /// What comes next, if that is known by now.
    pub(super) fn next(&mut self) -> Option<Next<T>> {
        let first = self.pending.first_entry()?;
        if *first.key() <= self.next {
            let (worker, _) = first.get();
            let through = worker.and_then(|worker| self.through.get(usize::from(worker)));
            if through.is_some_and(|through| *through <= *first.key()) {
                return None;
            }
            let (number, (worker, turn)) = first.remove_entry();
            self.next = number + 1;
            return Some(Next::Turn(number, worker, turn));
        }
        let all = self.through.iter().copied().min().unwrap_or(u64::MAX);
        let (from, to) = (self.next, all.min(*first.key()));
        if from >= to {
            return None;
        }
        self.next = to;
        Some(Next::Missing(from, to - from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(turns: &mut Turns<Vec<u8>>) -> Vec<Next<Vec<u8>>> {
        std::iter::from_fn(|| turns.next()).collect()
    }

    #[test]
    fn a_turn_waits_until_it_is_whole_and_for_those_before_it() {
        let mut turns = Turns::<Vec<u8>>::new(2);
        turns.turn(2, Some(1)).push(b'b');
        assert_eq!(all(&mut turns), [], "nobody knows of turn 1");
        turns.turn(1, Some(0)).push(b'a');
        assert_eq!(all(&mut turns), [], "more of it may come");
        turns.turn(1, Some(0)).push(b'A');
        turns.is_through(0, 3);
        assert_eq!(all(&mut turns), [Next::Turn(1, Some(0), b"aA".to_vec())]);
        turns.turn(3, None).push(b'c');
        turns.is_through(1, 4);
        let expected = [
            Next::Turn(2, Some(1), b"b".to_vec()),
            Next::Turn(3, None, b"c".to_vec()),
        ];
        assert_eq!(all(&mut turns), expected);
    }

    #[test]
    fn what_everybody_is_beyond_is_lost_and_counted() {
        let mut turns = Turns::<Vec<u8>>::new(2);
        turns.turn(5, Some(0)).push(b'e');
        turns.is_through(0, 6);
        turns.is_through(1, 3);
        assert_eq!(
            all(&mut turns),
            [Next::Missing(1, 2)],
            "3 may be of worker 1"
        );
        turns.is_through(1, 9);
        let expected = [Next::Missing(3, 2), Next::Turn(5, Some(0), b"e".to_vec())];
        assert_eq!(all(&mut turns), expected);
        turns.turn(9, Some(1)).push(b'i');
        turns.turn(10, Some(0)).push(b'j');
        turns.end();
        let expected = [
            Next::Missing(6, 3),
            Next::Turn(9, Some(1), b"i".to_vec()),
            Next::Turn(10, Some(0), b"j".to_vec()),
        ];
        assert_eq!(all(&mut turns), expected);
    }
}
