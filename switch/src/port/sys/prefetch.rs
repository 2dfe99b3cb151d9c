//! Asking the processor to fetch memory that will be read soon.

/// Has the cache line at `place` fetched into all levels, without waiting for it. Does nothing
/// where the architecture's instruction is not to be had in stable Rust.
#[inline(always)]
pub fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: SSE, which every x86-64 processor has; a prefetch reads nothing the program can
        // see and does not fault whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(place.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
