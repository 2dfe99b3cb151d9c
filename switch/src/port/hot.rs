//! Buffers for frames that do not come out of a ring slot.

use crate::limits::{FRAME_BYTES_MAX, HEADROOM_BYTES, HOT_FRAMES_MAX};
use std::slice::ChunksExactMut;

/// Bytes from one buffer to the next: headroom, the longest frame, one byte that only a longer
/// frame would reach, and rounding to a cache line.
const STRIDE_BYTES: usize = (HEADROOM_BYTES + FRAME_BYTES_MAX + 1).next_multiple_of(64);

/// [`HOT_FRAMES_MAX`] buffers of [`HEADROOM_BYTES`] + [`FRAME_BYTES_MAX`] bytes; a set per worker.
///
/// GSO frames and frames of a TAP are copied here by `recv` or `read`. All ports of a worker share
/// the set, so the memory written is the memory just read by the last batch: it stays in the cache.
pub struct HotBuffers {
    memory: Box<[u8]>,
}

impl HotBuffers {
    /// Reserves the memory (2 MiB; the kernel hands pages out at the first touch).
    #[must_use]
    pub fn new() -> Self {
        Self {
            memory: vec![0; STRIDE_BYTES * HOT_FRAMES_MAX].into_boxed_slice(),
        }
    }

    /// The buffers, each for one frame.
    pub(super) fn buffers(&mut self) -> ChunksExactMut<'_, u8> {
        self.memory.chunks_exact_mut(STRIDE_BYTES)
    }
}

impl Default for HotBuffers {
    fn default() -> Self {
        Self::new()
    }
}
