//! A ring in ordinary memory, filled by ourselves: to measure the cursor without a kernel.

use super::{RingLayout, RxCursor, SLOT_ALIGNMENT, STATUS_USER, SlotMemory};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// Zeroed memory aligned as a ring's.
#[derive(Debug)]
struct Heap {
    base: NonNull<u8>,
    layout: Layout,
}

impl Heap {
    fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes.max(1), SLOT_ALIGNMENT).ok()?;
        // SAFETY: the layout has at least one byte.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) });
        let Some(base) = base else {
            handle_alloc_error(layout)
        };
        Some(Self { base, layout })
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: allocated with this very layout, and nobody has it any more.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

// SAFETY: the memory is aligned, zeroed, as long as said and the value's own; `Rehearsal` writes
// only status words, as atomics, of slots whose word is 0.
unsafe impl SlotMemory for Heap {
    fn base(&self) -> NonNull<u8> {
        self.base
    }
    fn len_bytes(&self) -> usize {
        self.layout.size()
    }
}

// SAFETY: the memory belongs to the value and moves with it.
unsafe impl Send for Heap {}

/// A ring of 2 KiB slots and its reader.
#[derive(Debug)]
pub struct Rehearsal {
    ring: RxCursor<Heap>,
    /// The slot the kernel would fill next.
    head: u32,
}

impl Rehearsal {
    /// A ring of `blocks` blocks of 32 slots; `None` for none.
    #[must_use]
    pub fn new(blocks: u32) -> Option<Self> {
        let layout = RingLayout {
            slot_bytes: 2048,
            slots_per_block: 32,
            block_bytes: 64 << 10,
            block_count: blocks,
        };
        let ring = RxCursor::new(Heap::new(layout.ring_bytes()?)?, layout)?;
        Some(Self { ring, head: 0 })
    }

    /// Marks up to `count` slots as filled, and says how many were free.
    pub fn fill(&mut self, count: usize) -> usize {
        for done in 0..count {
            let slot = self.ring.slot(self.head).cast::<AtomicU32>();
            // SAFETY: the first word of a slot of ours, aligned, and only accessed as an atomic.
            let word = unsafe { slot.as_ref() };
            if word.load(Ordering::Acquire) != 0 {
                return done;
            }
            word.store(STATUS_USER, Ordering::Release);
            self.head = (self.head + 1) % self.ring.slot_count;
        }
        count
    }

    /// Lends all filled slots, looks at a byte of each, gives them back, and says how many.
    pub fn pass(&mut self) -> usize {
        let (mut count, mut sum) = (0, 0u8);
        let mut slots = self.ring.lend();
        while let Some(slot) = slots.next_if(|_| true) {
            sum = sum.wrapping_add(slot.memory.first().copied().unwrap_or(0));
            count += 1;
        }
        std::hint::black_box(sum);
        self.ring.release();
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_is_passed_once() {
        let mut ring = Rehearsal::new(2).unwrap();
        for (filled, passed) in [(10, 10), (64, 64), (0, 0), (63, 63)] {
            assert_eq!(ring.fill(filled), filled);
            assert_eq!(ring.pass(), passed);
        }
        assert_eq!(ring.fill(1000), 64, "no more than there are slots");
        assert_eq!(ring.pass(), 64);
        assert!(Rehearsal::new(0).is_none());
    }
}
