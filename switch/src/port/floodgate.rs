//! Refuses a flood of SYNs in the kernel, before it takes a slot of the rings.
//!
//! # Theory of operation
//! What the NAT refuses of a flood has been copied, has woken a worker and has thrown what others
//! need out of its caches by then. So while the NAT refuses many, the filter of each of the
//! uplink's sockets is replaced by an eBPF program that does the same work (`ebpf::translate`) and
//! lets through what the NAT would let through, too (`nat::knocks` has the reasons):
//!
//! ```text
//! what the classic filter does not take             refused
//! all but a TCP SYN that is whole                   passes
//! a SYN to members, who are reached untranslated    passes
//! a SYN that is repeated, 0.8 to 17 s later         passes
//! so many others a second, and a little at once     pass
//! the rest                                          refused, and counted
//! ```
//!
//! A mark of each SYN's endpoints, by a keyed hash, shows which is repeated. The NAT decides about
//! what passes by its own rules; half of what it admits comes unrepeated at most, so it has tokens
//! left for those who were told to come again.
//!
//! What is refused was received and dropped, as what does not fit a ring was:
//! [`Floodgate::refused`] has to be added to both counts.
//!
//! Marks and counts are two values of the kernel's, which outlive a program that is replaced while
//! frames are in it. The state is not locked: two processors at once may let one more pass, or
//! write one mark over another. The count is atomic.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use super::ebpf::code::{Code, Label};
use super::ebpf::{Insn, TAKEN, op, skb, translate};
use super::fastpath::FastPath;
use super::steer::{self, Program};
use super::sys::bpf::{self, Value};
use crate::config::mask;
use crate::random::Random;

/// How floods are refused; see [`Programs::refuse_floods`](super::Programs::refuse_floods).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FloodgateSettings {
    /// SYNs a second that pass though they are not repeated; 0 counts as 1.
    pub per_sec: u32,
    /// A network, with its prefix length, to which all SYNs pass.
    pub except: Option<(Ipv4Addr, u8)>,
    /// The secret of this switch, from which the key of the marks is made.
    pub seed: u64,
}

/// It is a SYN that is not repeated.
const UNREPEATED: Label = Label::Named("unrepeated");
/// It may pass.
const PASS: Label = Label::Named("pass");

/// Marks of SYNs, and the count of those refused, for one socket.
#[derive(Debug)]
pub(super) struct Floodgate {
    marks: Value,
    /// Two words: when the next unrepeated SYN is due, and how many were refused.
    state: Value,
    recipe: Recipe,
}

/// What the programs have in common.
#[derive(Debug, Clone, Copy)]
struct Recipe {
    keys: [u64; 3],
    /// From one unrepeated SYN that passes to the next.
    gap: Duration,
    except: Option<(Ipv4Addr, u8)>,
}

/// What may come before it is due: so long a pause gives so much at once.
const AHEAD: Duration = Duration::from_millis(125);

/// Bytes of a mark: the check in the high one, the time in the low one.
const MARK_BYTES: u32 = 2;
/// Bytes of the state: two words.
const STATE_BYTES: u32 = 16;

impl Floodgate {
    /// Makes one that has seen nothing yet.
    ///
    /// # Errors
    /// What the kernel answers; see [`Value::new`].
    pub(super) fn new(settings: FloodgateSettings) -> io::Result<Self> {
        Ok(Self {
            marks: Value::new(nat::KNOCK_PLACES * MARK_BYTES, "vsw_marks")?,
            state: Value::new(STATE_BYTES, "vsw_refused")?,
            recipe: Recipe::new(settings),
        })
    }

    /// The SYNs refused since it was made.
    pub(super) fn refused(&self) -> u64 {
        // A value that is there and of that size can be read.
        self.state.read().map_or(0, |[_, refused]| refused)
    }

    /// The program that does what `filter` does, and refuses; what goes by the fast path, if there
    /// is one, does not come so far.
    ///
    /// # Errors
    /// `InvalidInput` for a filter that cannot be translated; what the kernel answers.
    pub(super) fn program(
        &self,
        filter: &Program,
        fast_path: Option<&FastPath>,
    ) -> io::Result<OwnedFd> {
        let mut code = Code::default();
        if let Some(fast_path) = fast_path {
            fast_path.append_filter(&mut code);
        }
        let [marks, state] = [&self.marks, &self.state].map(|value| value.as_fd().as_raw_fd());
        let insns = self.recipe.append(&mut code, filter, marks, state);
        let insns = insns.and_then(|()| code.finish());
        bpf::load_socket_filter(&insns.ok_or(io::ErrorKind::InvalidInput)?, "vsw_floodgate")
    }
}

impl Recipe {
    fn new(settings: FloodgateSettings) -> Self {
        let mut random = Random::new(settings.seed);
        Self {
            // An odd factor has an inverse, so that no two words become one.
            keys: std::array::from_fn(|_| random.next_u64() | 1),
            gap: Duration::from_secs(1) / settings.per_sec.max(1),
            except: settings.except,
        }
    }

    /// Appends the program, with the descriptors of the two values; `None` for a filter that cannot
    /// be translated.
    fn append(self, code: &mut Code, filter: &Program, marks: RawFd, state: RawFd) -> Option<()> {
        translate::append(code, filter.instructions())?;
        code.place(TAKEN);
        append_is_syn(code);
        if let Some((network, prefix)) = self.except {
            let bits = |word: u32| word.cast_signed();
            code.push(op::LD_ABS_W, 0, 0, 0, IP_DESTINATION);
            code.push(op::AND32_K, 0, 0, 0, bits(mask(prefix)));
            let network = network.to_bits() & mask(prefix);
            code.jump(op::JEQ32_K, 0, bits(network), PASS);
        }
        self.append_hash(code);
        append_mark(code, marks);
        self.append_pace(code, state);
        code.place(PASS);
        code.take_all();
        Some(())
    }

    /// r8 = a hash of the two addresses and ports; the length of the IP header is in r7.
    fn append_hash(self, code: &mut Code) {
        let [first, second, third] = self.keys;
        code.push(op::LD_ABS_W, 0, 0, 0, IP_SOURCE);
        code.push(op::MOV64_X, 8, 0, 0, 0);
        code.push(op::LSH64_K, 8, 0, 0, 32);
        code.push(op::LD_IND_W, 0, 7, 0, FRAME_IP);
        code.push(op::OR64_X, 8, 0, 0, 0);
        code.load_64(1, first);
        code.push(op::XOR64_X, 8, 1, 0, 0);
        code.load_64(1, second);
        code.mix(8);
        code.push(op::LD_ABS_W, 0, 0, 0, IP_DESTINATION);
        code.push(op::XOR64_X, 8, 0, 0, 0);
        code.load_64(1, third);
        code.mix(8);
    }

    /// Lets pass what is due, and refuses the rest (the generic cell rate algorithm, ITU-T I.371).
    fn append_pace(self, code: &mut Code, state: RawFd) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        code.place(UNREPEATED);
        code.look_up(state, PASS);
        // r1 = when this one is due, r2 = how long that is from now.
        code.push(op::LDX_MEM_DW, 1, 0, 0, 0);
        code.push(op::JGE64_X, 1, 9, 1, 0);
        code.push(op::MOV64_X, 1, 9, 0, 0);
        code.push(op::MOV64_X, 2, 1, 0, 0);
        code.push(op::SUB64_X, 2, 9, 0, 0);
        code.load_64(3, nanos(AHEAD));
        code.push(op::JGT64_X, 2, 3, 5, 0);
        code.load_64(3, nanos(self.gap));
        code.push(op::ADD64_X, 1, 3, 0, 0);
        code.push(op::STX_MEM_DW, 0, 1, 0, 0);
        code.jump(op::JMP_A, 0, 0, PASS);
        code.push(op::MOV64_K, 1, 0, 0, 1);
        code.push(op::STX_ATOMIC_DW, 0, 1, 8, 0);
        code.extend(Insn::answer(0));
    }
}

/// Lets pass all that is no whole SYN: r7 = the length of the IP header.
fn append_is_syn(code: &mut Code) {
    code.push(op::LD_ABS_H, 0, 0, 0, ETHERTYPE);
    code.jump(op::JNE32_K, 0, ETHERTYPE_IPV4, PASS);
    code.push(op::LD_ABS_B, 0, 0, 0, IP_PROTOCOL);
    code.jump(op::JNE32_K, 0, PROTOCOL_TCP, PASS);
    code.push(op::LD_ABS_H, 0, 0, 0, IP_FRAGMENT);
    code.jump(op::JSET32_K, 0, FRAGMENT_MASK, PASS);
    code.load_header_bytes(FRAME_IP);
    code.jump(op::JLT64_K, 7, IP_HEADER_BYTES, PASS);
    // What is too short is refused by the worker, for that reason.
    code.push(op::LDX_MEM_W, 8, 6, skb::LEN, 0);
    code.push(op::ADD64_K, 0, 0, 0, FRAME_IP + TCP_HEADER_BYTES);
    code.jump_x(op::JGT64_X, (0, 8), PASS);
    code.push(op::LD_IND_B, 0, 7, 0, FRAME_IP + TCP_FLAGS);
    code.push(op::AND64_K, 0, 0, 0, FIN_SYN_RST_ACK);
    code.jump(op::JNE32_K, 0, SYN, PASS);
}

/// Leaves a mark, and lets pass what finds one of the right age. r9 = now, in ns.
fn append_mark(code: &mut Code, marks: RawFd) {
    let places_shift = 64 - nat::KNOCK_PLACES.ilog2().cast_signed();
    code.call(HELPER_KTIME_GET_NS);
    code.push(op::MOV64_X, 9, 0, 0, 0);
    code.push(op::MOV64_X, 7, 0, 0, 0);
    let unit = i32::from(nat::KNOCK_UNIT_SHIFT);
    code.push(op::RSH64_K, 7, 0, 0, unit);
    code.push(op::AND64_K, 7, 0, 0, 0xff);
    code.look_up(marks, PASS);
    // r0 = the mark's place, r2 = the mark that was there, r3 = the new one.
    code.push(op::MOV64_X, 1, 8, 0, 0);
    code.push(op::RSH64_K, 1, 0, 0, places_shift);
    code.push(op::LSH64_K, 1, 0, 0, 1);
    code.push(op::ADD64_X, 0, 1, 0, 0);
    code.push(op::LDX_MEM_H, 2, 0, 0, 0);
    code.push(op::MOV64_X, 3, 8, 0, 0);
    code.push(op::AND64_K, 3, 0, 0, 0xff);
    code.push(op::LSH64_K, 3, 0, 0, 8);
    code.push(op::OR64_X, 3, 7, 0, 0);
    code.push(op::STX_MEM_H, 0, 3, 0, 0);
    code.push(op::XOR64_X, 3, 2, 0, 0);
    code.push(op::RSH64_K, 3, 0, 0, 8);
    code.jump(op::JNE64_K, 3, 0, UNREPEATED);
    code.push(op::SUB64_X, 7, 2, 0, 0);
    code.push(op::AND64_K, 7, 0, 0, 0xff);
    let gap = nat::KNOCK_GAP;
    code.jump(op::JLT64_K, 7, i32::from(*gap.start()), UNREPEATED);
    code.jump(op::JGT64_K, 7, i32::from(*gap.end()), UNREPEATED);
    code.jump(op::JMP_A, 0, 0, PASS);
}

/// `BPF_FUNC_ktime_get_ns`: CLOCK_MONOTONIC.
const HELPER_KTIME_GET_NS: i32 = 5;

// What steering knows too, as operands of eBPF: offsets are from the MAC header.
const ETHERTYPE: i32 = steer::ETHERTYPE.cast_signed();
const ETHERTYPE_IPV4: i32 = steer::ETHERTYPE_IPV4.cast_signed();
const PROTOCOL_TCP: i32 = steer::PROTOCOL_TCP.cast_signed();
const FRAGMENT_MASK: i32 = steer::FRAGMENT_MASK.cast_signed();
const FRAME_IP: i32 = steer::FRAME_IP.cast_signed();
const IP_FRAGMENT: i32 = FRAME_IP + steer::IP_FRAGMENT.cast_signed();
const IP_PROTOCOL: i32 = FRAME_IP + steer::IP_PROTOCOL.cast_signed();
const IP_SOURCE: i32 = FRAME_IP + 12;
const IP_DESTINATION: i32 = FRAME_IP + steer::IP_DESTINATION.cast_signed();

/// Offset within the TCP header.
const TCP_FLAGS: i32 = 13;
const IP_HEADER_BYTES: i32 = 20;
const TCP_HEADER_BYTES: i32 = 20;
const FIN_SYN_RST_ACK: i32 = 0x17;
const SYN: i32 = 0x02;

#[cfg(test)]
mod machine;
#[cfg(test)]
mod tests;
