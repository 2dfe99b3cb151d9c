//! Where a TPACKET_V2 receive ring stands: index arithmetic over memory it is given.
//!
//! Theory of operation. The ring is `slot_count` slots of equal size. The first word of a slot is
//! its status: 0 while the kernel owns the slot, otherwise it is ours. The kernel fills slots in
//! order, and so does the cursor lend them:
//!
//! ```text
//!          released (kernel's)     lent to the caller        filled, not yet lent     kernel's
//!   ...  0  0  0  0  0  0  0  0  |  1  1  1  1  1  1  1  |  1  1  1  1  1  1  1  |  0  0  0 ...
//!                                 first                   first + lent
//! ```
//!
//! Lending moves the right mark, [`RxCursor::release`] moves the left one up to it and writes 0
//! into each slot passed. No slot is lent twice at a time because `lent <= slot_count`; a lent slot
//! cannot be used after its release because lending borrows the cursor and releasing needs it
//! alone.
//!
//! Nothing here knows of sockets. The tests run the cursor over heap memory, with a second actor
//! in the kernel's role, from every start index.

pub(in crate::port) mod rehearsal;

use super::prefetch::prefetch;
use super::tpacket::STATUS_USER;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of the status word at the start of each slot, which is never lent out.
pub(in crate::port) const STATUS_BYTES: usize = size_of::<u32>();

/// Slots start at multiples of this (`TPACKET_ALIGNMENT`).
pub(in crate::port) const SLOT_ALIGNMENT: usize = 16;

/// How far ahead of the slot being lent another one is fetched: at some 20 ns a slot, as long as a
/// line takes to come from another core.
const PREFETCH_SLOTS: u32 = 4;

/// Memory that holds the slots of a ring.
///
/// # Safety
/// `base` is aligned to [`SLOT_ALIGNMENT`] and always the same; `len_bytes` bytes from it may be
/// read and written for as long as the value lives, wherever it is moved. Whoever else accesses
/// them (the kernel) touches a slot beyond its status word only while that word is 0, and the word
/// itself only as an atomic; nobody else in this process accesses them at all.
pub(in crate::port) unsafe trait SlotMemory {
    /// The first byte of the first slot.
    fn base(&self) -> NonNull<u8>;
    /// The number of bytes from there.
    fn len_bytes(&self) -> usize;
}

/// How the slots of a ring lie in its memory: in blocks, with what does not fill a slot left over
/// at the end of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::port) struct RingLayout {
    /// Bytes of a slot, a multiple of [`SLOT_ALIGNMENT`].
    pub(in crate::port) slot_bytes: u32,
    /// Whole slots in a block.
    pub(in crate::port) slots_per_block: u32,
    /// Bytes of a block.
    pub(in crate::port) block_bytes: u32,
    /// Blocks in the ring.
    pub(in crate::port) block_count: u32,
}

impl RingLayout {
    /// Slots in the ring; `None` where a `u32` cannot count them.
    pub(in crate::port) const fn slot_count(self) -> Option<u32> {
        self.slots_per_block.checked_mul(self.block_count)
    }

    /// Bytes of the ring; `None` where a `usize` cannot count them.
    pub(in crate::port) const fn ring_bytes(self) -> Option<usize> {
        (self.block_bytes as usize).checked_mul(self.block_count as usize)
    }

    /// Bytes left over at the end of each block; `None` where its slots do not fit.
    fn gap_bytes(self) -> Option<usize> {
        let used = (self.slot_bytes as usize).checked_mul(self.slots_per_block as usize)?;
        (self.block_bytes as usize).checked_sub(used)
    }

    /// Whether every slot is whole, aligned and longer than its status word.
    fn is_sound(self) -> bool {
        let aligned = |bytes: u32| (bytes as usize).is_multiple_of(SLOT_ALIGNMENT);
        self.slots_per_block > 0
            && self.block_count > 0
            && self.slot_bytes as usize > STATUS_BYTES
            && aligned(self.slot_bytes)
            && aligned(self.block_bytes)
            && self.gap_bytes().is_some()
    }
}

/// The reader's position in a ring.
#[derive(Debug)]
pub(in crate::port) struct RxCursor<M> {
    memory: M,
    slot_bytes: usize,
    slot_count: u32,
    slots_per_block: u32,
    /// Bytes between the last slot of a block and the first of the next.
    gap_bytes: usize,
    /// The oldest slot that is ours: the next to be released.
    first: u32,
    /// How many slots from `first` on are lent. At most `slot_count`.
    lent: u32,
}

impl<M: SlotMemory> RxCursor<M> {
    /// A cursor at slot 0. `None` where the slots do not lie within `memory` or are not aligned.
    pub(in crate::port) fn new(memory: M, layout: RingLayout) -> Option<Self> {
        Self::starting_at(memory, layout, 0)
    }

    fn starting_at(memory: M, layout: RingLayout, first: u32) -> Option<Self> {
        let slot_count = layout.slot_count()?;
        let gap_bytes = layout.gap_bytes()?;
        let fits = layout.is_sound()
            && layout.ring_bytes()? <= memory.len_bytes()
            && first < slot_count
            // So that `first + lent` cannot overflow.
            && slot_count <= u32::MAX / 2;
        fits.then_some(Self {
            memory,
            slot_bytes: layout.slot_bytes as usize,
            slot_count,
            slots_per_block: layout.slots_per_block,
            gap_bytes,
            first,
            lent: 0,
        })
    }

    /// The slot `ahead` places after the first one of ours; `ahead` may be up to `slot_count`.
    #[inline]
    fn index(&self, ahead: u32) -> u32 {
        let index = self.first + ahead;
        if index >= self.slot_count {
            index - self.slot_count
        } else {
            index
        }
    }

    /// The start of slot `index`.
    #[inline]
    fn slot(&self, index: u32) -> NonNull<u8> {
        debug_assert!(index < self.slot_count);
        let mut offset = self.slot_bytes * index as usize;
        if self.gap_bytes != 0 {
            offset += self.gap_bytes * (index / self.slots_per_block) as usize;
        }
        // SAFETY: `index < slot_count` (it comes from `index()`, whose argument is at most
        // `slot_count`), and `starting_at` checked that the blocks of so many slots, gaps included,
        // lie within the memory.
        unsafe { self.memory.base().add(offset) }
    }

    /// The status word of slot `index`.
    #[inline]
    fn status(&self, index: u32) -> &AtomicU32 {
        let word = self.slot(index).cast::<AtomicU32>();
        // SAFETY: the slot is aligned to 16 bytes and inside the memory, which outlives `self`;
        // its first word is accessed only as an atomic, here and by the kernel (`SlotMemory`).
        unsafe { word.as_ref() }
    }

    /// The status of the next slot to be lent, if it is filled and not lent yet.
    #[inline]
    pub(in crate::port) fn peek(&self) -> Option<u32> {
        if self.lent == self.slot_count {
            return None;
        }
        // Acquire pairs with the kernel's publication of the slot: in net/packet/af_packet.c,
        // `tpacket_rcv` writes data and header, then `smp_mb()`, then `__packet_set_status` stores
        // the status. Seeing TP_STATUS_USER here, everything written before it is visible.
        let status = self.status(self.index(self.lent)).load(Ordering::Acquire);
        // Other bits may be set at will (timestamp flags), so the owner bit alone decides.
        (status & STATUS_USER != 0).then_some(status)
    }

    /// Has the head of a slot fetched that will be lent soon. The kernel wrote it on another
    /// processor, whose cache it must come from: status and header in the first line, the frame's
    /// own headers in the two behind it.
    #[inline]
    fn prefetch_ahead(&self) {
        let ahead = self.lent + PREFETCH_SLOTS;
        if ahead < self.slot_count {
            let slot = self.slot(self.index(ahead)).as_ptr();
            for line in 0..3 {
                prefetch(slot.wrapping_add(line * 64));
            }
        }
    }

    /// Starts lending slots. Those lent before and not released yet stay lent.
    #[inline]
    pub(in crate::port) fn lend(&mut self) -> Lending<'_, M> {
        Lending { cursor: self }
    }

    /// Gives all lent slots back to the kernel, oldest first.
    #[inline]
    pub(in crate::port) fn release(&mut self) {
        for ahead in 0..self.lent {
            // Release pairs with the kernel's look at the slot before it writes there again: in
            // net/packet/af_packet.c, `packet_lookup_frame` reads the status (`smp_rmb()` and
            // READ_ONCE in `__packet_get_status`), finds TP_STATUS_KERNEL and only then, ordered
            // by that control dependency, copies a frame in. So our last reads and writes of the
            // slot cannot move behind this store and fall into the next frame.
            self.status(self.index(ahead)).store(0, Ordering::Release);
        }
        self.first = self.index(self.lent);
        self.lent = 0;
    }
}

/// Slots being lent one after the other; all stay valid until the cursor is used again.
pub(in crate::port) struct Lending<'a, M> {
    cursor: &'a mut RxCursor<M>,
}

impl<'a, M: SlotMemory> Lending<'a, M> {
    /// Lends the next filled slot if `wanted` agrees to its status; otherwise it stays the next.
    #[inline]
    pub(in crate::port) fn next_if(
        &mut self,
        wanted: impl FnOnce(u32) -> bool,
    ) -> Option<Slot<'a>> {
        let status = self.cursor.peek()?;
        if !wanted(status) {
            return None;
        }
        let start = self.cursor.slot(self.cursor.index(self.cursor.lent));
        self.cursor.prefetch_ahead();
        self.cursor.lent += 1;
        // SAFETY: STATUS_BYTES is less than the size of a slot, which lies within the memory.
        let start = unsafe { start.add(STATUS_BYTES) };
        let len = self.cursor.slot_bytes - STATUS_BYTES;
        // SAFETY: the range is the slot without its status word, inside memory that lives as long
        // as the cursor, which is borrowed for 'a. It is ours alone: the kernel set the owner bit
        // (seen by an Acquire load in `peek`) and does not touch the slot until `release` clears
        // it, which needs the cursor and so the end of 'a. It is lent once: `lent` has moved past
        // it and `peek` lends no more than `slot_count` in all.
        let memory = unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) };
        Some(Slot { status, memory })
    }
}

/// A filled slot, lent.
#[derive(Debug)]
pub(in crate::port) struct Slot<'a> {
    /// The status word as the kernel wrote it.
    pub(in crate::port) status: u32,
    /// The slot after its status word.
    pub(in crate::port) memory: &'a mut [u8],
}

#[cfg(test)]
mod tests;
