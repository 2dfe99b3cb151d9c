//! Static probes for bpftrace, perf and SystemTap: `rx`, `tx`, `drop`, `nat_new` and `nat_end`.
//!
//! A probe is one `nop`, and a note in the program that says where it is and in which registers its
//! arguments are (the format of `sys/sdt.h`, "UserSpaceProbeImplementation" of SystemTap). Each has
//! a semaphore too: a word that the kernel raises while somebody listens. While nobody does, a
//! probe costs a look at that word, and its arguments are not even worked out: only that look is in
//! the way of a frame, the `nop` is in a function of its own. That is never inlined, since a copy
//! that the linker leaves out would leave its note behind.
//!
//! Their meaning, in the order of their arguments, is in docs/usdt.md.

use std::sync::atomic::{AtomicU16, Ordering};

use nat::{Observer, SessionView};

use crate::frame::Frame;
use crate::port::PortIndex;
use crate::verdict::DropReason;

/// How many listen to a probe; the kernel counts (uprobes' `ref_ctr_offset`).
#[repr(transparent)]
struct Semaphore(AtomicU16);

impl Semaphore {
    /// Relaxed: it guards nothing.
    #[inline(always)]
    fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }
}

macro_rules! semaphores {
    ($($name:ident)+) => { $(
        // SAFETY: the section has the name by which tools know semaphores, and holds nothing else;
        // it is loaded and may be written, as the atomic in it asks for.
        #[unsafe(link_section = ".probes")]
        static $name: Semaphore = Semaphore(AtomicU16::new(0));
    )+ };
}

semaphores!(RX TX DROP NAT_NEW NAT_END);

/// Places a probe here: its name, its semaphore, and its arguments, each 8 bytes without a sign.
macro_rules! probe {
    ($name:literal, $semaphore:ident, $($arg:expr),+) => { {
        #[cfg(target_arch = "x86_64")]
        place!($name, $semaphore, att_syntax, $($arg),+);
        #[cfg(target_arch = "aarch64")]
        place!($name, $semaphore, raw, $($arg),+);
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let _ = ($(u64::from($arg),)+);
    } };
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! place {
    ($name:literal, $semaphore:ident, $syntax:tt, $first:expr $(, $arg:expr)*) => {
        place!(@asm $syntax, $semaphore, concat!(
            "990: nop\n",
            ".pushsection .note.stapsdt,\"?\",\"note\"\n",
            ".balign 4\n",
            ".4byte 992f-991f, 994f-993f, 3\n",
            "991: .asciz \"stapsdt\"\n",
            "992: .balign 4\n",
            "993: .8byte 990b\n",
            ".8byte _.stapsdt.base\n",
            ".8byte {semaphore}\n",
            ".asciz \"vswitch\"\n",
            ".asciz \"", $name, "\"\n",
            ".asciz \"8@{}", $(place!(@arg $arg),)* "\"\n",
            "994: .balign 4\n",
            ".popsection\n",
            ".ifndef _.stapsdt.base\n",
            ".pushsection .stapsdt.base,\"aGR\",\"progbits\",.stapsdt.base,comdat\n",
            ".weak _.stapsdt.base\n",
            ".hidden _.stapsdt.base\n",
            "_.stapsdt.base: .space 1\n",
            ".size _.stapsdt.base, 1\n",
            ".popsection\n",
            ".endif",
        ), $first $(, $arg)*)
    };
    (@arg $arg:expr) => { " 8@{}" };
    (@asm att_syntax, $semaphore:ident, $text:expr, $($arg:expr),+) => {
        // SAFETY: the only instruction is a `nop`; all else is notes in sections of their own that
        // are never run. Nothing is written, and the arguments are plain numbers.
        unsafe {
            std::arch::asm!(
                $text,
                $(in(reg) u64::from($arg),)+
                semaphore = sym $semaphore,
                options(readonly, nostack, preserves_flags, att_syntax),
            );
        }
    };
    (@asm raw, $semaphore:ident, $text:expr, $($arg:expr),+) => {
        // SAFETY: as above.
        unsafe {
            std::arch::asm!(
                $text,
                $(in(reg) u64::from($arg),)+
                semaphore = sym $semaphore,
                options(readonly, nostack, preserves_flags),
            );
        }
    };
}

/// Frames came in on this port, at this worker.
#[inline(always)]
pub(crate) fn received(port: PortIndex, worker: u16, frames: &[Frame<'_>]) {
    if RX.is_raised() {
        tell_received(port, worker, frames);
    }
}

#[cold]
#[inline(never)]
fn tell_received(port: PortIndex, worker: u16, frames: &[Frame<'_>]) {
    for frame in frames {
        let bytes = frame.bytes();
        let (len, start) = (number(bytes.len()), address(bytes));
        probe!("rx", RX, port.0, len, worker, start);
    }
}

/// True while somebody wants to know of frames sent.
#[inline(always)]
pub(crate) fn wants_sent() -> bool {
    TX.is_raised()
}

/// True while somebody wants to know of every frame.
#[inline]
pub(crate) fn wants_frames() -> bool {
    RX.is_raised() || TX.is_raised()
}

/// A copy of so many bytes was sent to this port.
#[cold]
#[inline(never)]
pub(crate) fn sent(port: PortIndex, bytes: usize) {
    probe!("tx", TX, port.0, number(bytes));
}

/// True while somebody wants to know of drops.
#[inline(always)]
pub(crate) fn wants_dropped() -> bool {
    DROP.is_raised()
}

/// Frames were dropped at this port.
#[cold]
#[inline(never)]
pub(crate) fn dropped(port: PortIndex, reason: DropReason, count: u64) {
    let word = reason.word().as_bytes();
    let index = number(reason.index());
    probe!(
        "drop",
        DROP,
        port.0,
        index,
        address(word),
        number(word.len()),
        count
    );
}

/// Tells of NAT sessions.
pub(crate) static SESSIONS: Observer = Observer {
    is_wanted: sessions_wanted,
    begins: session_begins,
    ends: session_ends,
};

fn sessions_wanted() -> bool {
    NAT_NEW.is_raised() || NAT_END.is_raised()
}

#[cold]
#[inline(never)]
fn session_begins(it: &SessionView) {
    let (inside, external, remote) = (end(it.inside), end(it.external), end(it.remote));
    let protocol = it.protocol.number();
    probe!("nat_new", NAT_NEW, protocol, inside, external, remote);
}

#[cold]
#[inline(never)]
fn session_ends(it: &SessionView) {
    let (inside, external, remote) = (end(it.inside), end(it.external), end(it.remote));
    let (protocol, there, back) = (it.protocol.number(), it.outbound.bytes, it.inbound.bytes);
    probe!(
        "nat_end", NAT_END, protocol, inside, external, remote, there, back
    );
}

/// Address and port in one argument, since bpftrace reads six on x86-64: the address below as it
/// lies in a packet, which is what `ntop` takes, the port above.
fn end((address, port): (std::net::Ipv4Addr, u16)) -> u64 {
    u64::from(port) << 32 | u64::from(u32::from_ne_bytes(address.octets()))
}

fn number(count: usize) -> u64 {
    count as u64
}

/// Where the bytes begin, for a reader outside that fetches them.
fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr().addr() as u64
}
