//! Many slow system calls at a time.
//!
//! To make or close a packet ring, the kernel waits for every processor to leave what it is doing
//! (an RCU grace period, `synchronize_net`): 10 to 25 ms of waiting and next to no work. A thousand
//! one after the other take half a minute; side by side they wait for the same grace period.

use std::sync::{Mutex, PoisonError};
use std::thread;

use super::Rx;

/// Threads at a time: enough for a thousand rings to take 16 grace periods.
const THREADS_MAX: usize = 64;

/// Applies `work` to every item, on several threads where there are several items; results come in
/// the order of the items. The threads are in the calling thread's network namespace.
pub fn in_parallel<T: Send, R: Send>(
    items: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator + Send>,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let items = items.into_iter();
    let count = items.len();
    let queue = Mutex::new(items.enumerate());
    let done = Mutex::new(Vec::with_capacity(count));
    // Neither lock is held over `work`, so nothing that panics leaves one in a bad state.
    let toil = || {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((place, item)) = next else { return };
            let result = work(item);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push((place, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..count.min(THREADS_MAX) {
            // A thread that cannot be had leaves its share to the others, the last to this one.
            if thread::Builder::new().spawn_scoped(scope, toil).is_err() {
                break;
            }
        }
        toil();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

/// Closes receiving halves, many at a time.
pub fn close_all(halves: Vec<Rx>) {
    in_parallel(halves, drop);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

    #[test]
    fn results_keep_the_order_of_the_items() {
        let squares = in_parallel(0..1000_u32, |n| n * n);
        let expected: Vec<u32> = (0..1000).map(|n| n * n).collect();
        assert_eq!(squares, expected);
        assert_eq!(in_parallel(Vec::<u8>::new(), |n| n), []);
    }

    #[test]
    fn items_are_worked_on_side_by_side() {
        // Nobody passes before all are there: one after the other would wait for ever.
        let barrier = Barrier::new(THREADS_MAX);
        let leaders = in_parallel(0..THREADS_MAX, |_| barrier.wait().is_leader());
        assert_eq!(leaders.iter().filter(|leader| **leader).count(), 1);
    }
}
