//! Goal: the cursor lends every slot the kernel fills, once, in order, with its bytes, and gives it
//! back. Method: rings on the heap, an actor in the kernel's role that does as `tpacket_rcv` does,
//! and an oracle of plain queues that both must agree with after every step, from every start index
//! and for rings with and without gaps between their blocks.

use super::*;
use proptest::prelude::*;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::collections::VecDeque;

/// Memory in the kernel's stead.
struct Heap {
    base: NonNull<u8>,
    layout: Layout,
}

impl Heap {
    fn new(ring: RingLayout) -> Self {
        let layout = Layout::from_size_align(ring.ring_bytes().unwrap(), SLOT_ALIGNMENT).unwrap();
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap();
        Self { base, layout }
    }

    fn share(&self) -> Shared {
        Shared {
            base: self.base,
            len_bytes: self.layout.size(),
        }
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout; the tests drop cursor and kernel first.
        unsafe { dealloc(self.base.as_ptr(), self.layout) };
    }
}

#[derive(Debug, Clone, Copy)]
struct Shared {
    base: NonNull<u8>,
    len_bytes: usize,
}

// SAFETY: the tests keep the heap alive, and only the actor below shares it, by the protocol.
unsafe impl SlotMemory for Shared {
    fn base(&self) -> NonNull<u8> {
        self.base
    }
    fn len_bytes(&self) -> usize {
        self.len_bytes
    }
}

// SAFETY: a plain address; access is ordered by the status words.
unsafe impl Send for Shared {}

/// Fills slots in order, as `tpacket_rcv` does.
struct Kernel {
    memory: Shared,
    layout: RingLayout,
    head: u32,
}

impl Kernel {
    fn slot(&self) -> NonNull<u8> {
        let block = self.head / self.layout.slots_per_block;
        let within = self.head % self.layout.slots_per_block;
        let offset = block * self.layout.block_bytes + within * self.layout.slot_bytes;
        // SAFETY: `head` is below the number of slots.
        unsafe { self.memory.base.add(offset as usize) }
    }

    /// Writes frame `number` into the next slot; false where that is not the kernel's.
    fn deliver(&mut self, number: u64, status: u32) -> bool {
        let slot = self.slot();
        // SAFETY: aligned and within the memory; only accessed as an atomic.
        let word = unsafe { slot.cast::<AtomicU32>().as_ref() };
        if word.load(Ordering::Acquire) != 0 {
            return false;
        }
        let data = pattern(number, self.layout);
        // SAFETY: behind the status word of the same slot.
        let room = unsafe { slot.add(STATUS_BYTES) };
        // SAFETY: the slot is the kernel's (its status is 0) and as long as the pattern and status.
        unsafe { room.copy_from_nonoverlapping(NonNull::from(&data[..]).cast(), data.len()) };
        word.store(status | STATUS_USER, Ordering::Release);
        self.head = (self.head + 1) % self.layout.slot_count().unwrap();
        true
    }
}

/// What frame `number` looks like: its number over and over.
fn pattern(number: u64, layout: RingLayout) -> Vec<u8> {
    let len = layout.slot_bytes as usize - STATUS_BYTES;
    number.to_le_bytes().into_iter().cycle().take(len).collect()
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// The kernel gets this many frames.
    Deliver(u8),
    /// The reader takes up to this many and holds them all at once.
    Lend(u8),
    /// The reader looks at the next one and leaves it.
    Refuse,
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..12).prop_map(Step::Deliver),
        (0u8..12).prop_map(Step::Lend),
        Just(Step::Refuse),
        Just(Step::Release),
    ]
}

fn follow(layout: RingLayout, first: u32, steps: &[Step]) {
    let heap = Heap::new(layout);
    let count = layout.slot_count().unwrap() as usize;
    let mut cursor = RxCursor::starting_at(heap.share(), layout, first).unwrap();
    let mut kernel = Kernel {
        memory: heap.share(),
        layout,
        head: first,
    };
    let (mut filled, mut lent) = (VecDeque::new(), VecDeque::new());
    let mut number = 0;
    for step in steps {
        match *step {
            Step::Deliver(frames) => {
                for _ in 0..frames {
                    let taken = kernel.deliver(number, 1 << 29);
                    assert_eq!(taken, filled.len() + lent.len() < count, "ring full or not");
                    if taken {
                        filled.push_back(number);
                    }
                    number += 1;
                }
            }
            Step::Lend(frames) => {
                let mut lending = cursor.lend();
                let slots: Vec<_> = (0..frames)
                    .map_while(|_| lending.next_if(|_| true))
                    .collect();
                assert_eq!(slots.len(), filled.len().min(frames.into()));
                for slot in slots {
                    let expected = filled.pop_front().unwrap();
                    assert_eq!(slot.status, 1 << 29 | STATUS_USER);
                    assert_eq!(slot.memory, pattern(expected, layout));
                    // Writing all over a lent slot harms nobody else.
                    slot.memory.fill(0xee);
                    lent.push_back(expected);
                }
            }
            Step::Refuse => assert!(cursor.lend().next_if(|_| false).is_none()),
            Step::Release => {
                cursor.release();
                lent.clear();
            }
        }
        assert_eq!(cursor.peek().is_some(), !filled.is_empty());
        assert_eq!(cursor.lent as usize, lent.len());
    }
}

fn layouts() -> Vec<RingLayout> {
    let ring = |slots_per_block, block_count, gap| RingLayout {
        slot_bytes: 32,
        slots_per_block,
        block_bytes: 32 * slots_per_block + gap,
        block_count,
    };
    vec![
        ring(1, 1, 0),
        ring(4, 1, 0),
        ring(2, 3, 0),
        ring(3, 2, 16),
        ring(1, 5, 48),
    ]
}

proptest! {
    #[test]
    fn agrees_with_the_oracle_from_every_start(steps in prop::collection::vec(step(), 0..60)) {
        for layout in layouts() {
            for first in 0..layout.slot_count().unwrap() {
                follow(layout, first, &steps);
            }
        }
    }
}

#[test]
fn a_full_ring_of_lent_slots_lends_none_twice() {
    for layout in layouts() {
        let heap = Heap::new(layout);
        let count = layout.slot_count().unwrap();
        let mut cursor = RxCursor::new(heap.share(), layout).unwrap();
        let mut kernel = Kernel {
            memory: heap.share(),
            layout,
            head: 0,
        };
        for number in 0..u64::from(count) {
            assert!(kernel.deliver(number, 0));
        }
        let mut lending = cursor.lend();
        let held = std::iter::from_fn(|| lending.next_if(|_| true)).count();
        assert_eq!(held, count as usize);
        // The status of slot 0 still says "filled", yet it is out on loan.
        assert_eq!(cursor.peek(), None);
        cursor.release();
        assert!(kernel.deliver(7, 0));
        assert_eq!(cursor.peek(), Some(STATUS_USER));
    }
}

#[test]
fn a_layout_that_does_not_fit_is_refused() {
    let good = RingLayout {
        slot_bytes: 32,
        slots_per_block: 4,
        block_bytes: 128,
        block_count: 2,
    };
    let heap = Heap::new(good);
    let open = |layout| RxCursor::new(heap.share(), layout).is_some();
    assert!(open(good));
    assert!(
        !open(RingLayout {
            block_count: 3,
            ..good
        }),
        "beyond the memory"
    );
    assert!(
        !open(RingLayout {
            slot_bytes: 48,
            ..good
        }),
        "slots beyond their block"
    );
    assert!(
        !open(RingLayout {
            slot_bytes: 24,
            ..good
        }),
        "unaligned slots"
    );
    assert!(
        !open(RingLayout {
            block_bytes: 120,
            slots_per_block: 3,
            ..good
        }),
        "unaligned blocks"
    );
    assert!(!open(RingLayout {
        slots_per_block: 0,
        ..good
    }));
    assert!(!open(RingLayout {
        slot_bytes: 0,
        ..good
    }));
    let huge = RingLayout {
        block_count: u32::MAX,
        slots_per_block: u32::MAX,
        ..good
    };
    assert!(!open(huge), "uncountable");
}

/// The same protocol with the kernel on another processor.
#[test]
fn frames_cross_threads_whole_and_in_order() {
    const FRAMES: u64 = if cfg!(miri) { 200 } else { 200_000 };
    let layout = RingLayout {
        slot_bytes: 64,
        slots_per_block: 5,
        block_bytes: 336,
        block_count: 3,
    };
    let heap = Heap::new(layout);
    let mut cursor = RxCursor::new(heap.share(), layout).unwrap();
    let mut kernel = Kernel {
        memory: heap.share(),
        layout,
        head: 0,
    };
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 0..FRAMES {
                while !kernel.deliver(number, 0) {
                    std::thread::yield_now();
                }
            }
        });
        let mut next = 0;
        while next < FRAMES {
            let mut lending = cursor.lend();
            for slot in std::iter::from_fn(|| lending.next_if(|_| true)).take(7) {
                assert_eq!(slot.memory, pattern(next, layout));
                slot.memory.fill(0xee);
                next += 1;
            }
            cursor.release();
            std::thread::yield_now();
        }
    });
}
