//! What the guard withholds from the host, as eBPF for TCX and as classic BPF for cls_bpf.
//!
//! Both look at the frame from its MAC header with absolute loads, which the kernel checks: a frame
//! too short for the rule is not ours and goes on to the host. A VLAN-tagged frame belongs to
//! another network and goes on too.
//!
//! Source: `include/uapi/linux/bpf.h`, Documentation/bpf/standardization/instruction-set.rst,
//! Documentation/networking/filter.rst.

use std::net::Ipv4Addr;

use switch::port::sys::bpf::Insn;

/// What the host's own stack must not see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Every frame: a port belongs to the switch alone.
    All,
    /// IPv4 packets to this address, which is the switch's and not the host's.
    Address(Ipv4Addr),
    /// TCP and UDP to these ports of an address that is shared with the host. Later fragments have
    /// no ports and pass: without their first one the host can do nothing with them, and says
    /// nothing (no ICMP time exceeded without a first fragment, RFC 1122 3.3.2). ICMP passes: an
    /// echo reply or an error about a flow that is not the host's is ignored silently.
    Ports {
        /// The shared address.
        addr: Ipv4Addr,
        /// First port.
        lo: u16,
        /// Last port.
        hi: u16,
    },
    /// Nothing, because the uplink has no address yet.
    Nothing,
}

/// `TCX_DROP` and `TC_ACT_SHOT`: the frame ends here; packet sockets have seen it already.
pub(super) const DROP: i32 = 2;
/// `TCX_NEXT` and `TC_ACT_UNSPEC`: the next program, and in the end the host, decides.
pub(super) const NEXT: i32 = -1;

const ETHERTYPE_IPV4: i32 = 0x0800;
const PROTO_TCP: i32 = 6;
const PROTO_UDP: i32 = 17;
const FRAGMENT_OFFSET: i32 = 0x1fff;
// Offsets from the MAC header.
const OFF_ETHERTYPE: i32 = 12;
const OFF_IP: i32 = 14;
const OFF_FRAGMENT: i32 = 20;
const OFF_PROTO: i32 = 23;
const OFF_DESTINATION: i32 = 30;
/// Destination port, behind an IP header of no length.
const OFF_PORT: i32 = OFF_IP + 2;
/// `offsetof(struct __sk_buff, vlan_present)`.
const SKB_VLAN_PRESENT: i16 = 20;

/// Both loads and jumps are put together from these; the names are those of the kernel's header.
mod op {
    pub(super) const LD_ABS_B: u8 = 0x30;
    pub(super) const LD_ABS_H: u8 = 0x28;
    pub(super) const LD_ABS_W: u8 = 0x20;
    pub(super) const LD_IND_H: u8 = 0x48;
    pub(super) const LDX_MEM_W: u8 = 0x61;
    pub(super) const MOV64_K: u8 = 0xb7;
    pub(super) const MOV64_X: u8 = 0xbf;
    pub(super) const AND64_K: u8 = 0x57;
    pub(super) const LSH64_K: u8 = 0x67;
    pub(super) const EXIT: u8 = 0x95;
    // 32-bit compares: the immediate of a 64-bit one is sign-extended, an address is not.
    pub(super) const JEQ32_K: u8 = 0x16;
    pub(super) const JNE32_K: u8 = 0x56;
    pub(super) const JGT32_K: u8 = 0x26;
    pub(super) const JLT32_K: u8 = 0xa6;
    pub(super) const JSET32_K: u8 = 0x46;
}

/// A jump whose distance is known only when the program is complete.
#[derive(Clone, Copy)]
enum Step {
    Do(Insn),
    /// Leave to the "next" exit.
    Leave(Insn),
}

fn insn(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Insn {
    let registers = if cfg!(target_endian = "little") {
        src << 4 | dst
    } else {
        dst << 4 | src
    };
    Insn {
        code,
        registers,
        offset,
        immediate,
    }
}

fn load(code: u8, at: i32) -> Step {
    Step::Do(insn(code, 0, 0, 0, at))
}

fn leave_if(code: u8, value: i32) -> Step {
    Step::Leave(insn(code, 0, 0, 0, value))
}

/// The rule as an eBPF classifier.
#[must_use]
pub(super) fn ebpf(rule: Rule) -> Vec<Insn> {
    use op::{
        AND64_K, JEQ32_K, JGT32_K, JLT32_K, JNE32_K, JSET32_K, LD_ABS_B, LD_ABS_H, LD_ABS_W,
        LD_IND_H, LDX_MEM_W, LSH64_K, MOV64_X,
    };
    let addr = match rule {
        Rule::All => return constant(DROP).to_vec(),
        Rule::Nothing => return constant(NEXT).to_vec(),
        Rule::Address(addr) | Rule::Ports { addr, .. } => addr,
    };
    let mut steps = vec![
        Step::Do(insn(MOV64_X, 6, 1, 0, 0)), // r6 = skb, which LD_ABS expects there
        Step::Do(insn(LDX_MEM_W, 0, 6, SKB_VLAN_PRESENT, 0)),
        leave_if(JNE32_K, 0),
        load(LD_ABS_H, OFF_ETHERTYPE),
        leave_if(JNE32_K, ETHERTYPE_IPV4),
        load(LD_ABS_W, OFF_DESTINATION),
        leave_if(JNE32_K, addr.to_bits().cast_signed()),
    ];
    if let Rule::Ports { lo, hi, .. } = rule {
        steps.extend([
            load(LD_ABS_B, OFF_PROTO),
            Step::Do(insn(JEQ32_K, 0, 0, 1, PROTO_TCP)),
            leave_if(JNE32_K, PROTO_UDP),
            load(LD_ABS_H, OFF_FRAGMENT),
            leave_if(JSET32_K, FRAGMENT_OFFSET),
            load(LD_ABS_B, OFF_IP),
            Step::Do(insn(AND64_K, 0, 0, 0, 0x0f)),
            Step::Do(insn(LSH64_K, 0, 0, 0, 2)),
            Step::Do(insn(MOV64_X, 7, 0, 0, 0)), // r7 = header length
            Step::Do(insn(LD_IND_H, 0, 7, 0, OFF_PORT)),
            leave_if(JLT32_K, i32::from(lo)),
            leave_if(JGT32_K, i32::from(hi)),
        ]);
    }
    let next = steps.len() + constant(DROP).len();
    let resolve = |(at, step): (usize, Step)| match step {
        Step::Do(insn) => insn,
        Step::Leave(mut jump) => {
            // A program of two dozen instructions: the distance always fits.
            jump.offset = i16::try_from(next - at - 1).unwrap_or(i16::MAX);
            jump
        }
    };
    let mut program: Vec<Insn> = steps.into_iter().enumerate().map(resolve).collect();
    program.extend(constant(DROP));
    program.extend(constant(NEXT));
    program
}

fn constant(verdict: i32) -> [Insn; 2] {
    [
        insn(op::MOV64_K, 0, 0, 0, verdict),
        insn(op::EXIT, 0, 0, 0, 0),
    ]
}

/// One classic instruction, `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Classic {
    pub(super) code: u16,
    /// Distance when the test holds, and when it does not.
    pub(super) then: u8,
    pub(super) otherwise: u8,
    pub(super) k: u32,
}

impl Classic {
    pub(super) fn bytes(self) -> [u8; 8] {
        let [a, b] = self.code.to_ne_bytes();
        let [w, x, y, z] = self.k.to_ne_bytes();
        [a, b, self.then, self.otherwise, w, x, y, z]
    }
}

/// The rule as a classic BPF program for cls_bpf in direct-action mode. cls_bpf looks at a tag that
/// is still in the frame only, so the ethertype test lets those pass.
#[must_use]
pub(super) fn classic(rule: Rule) -> Vec<Classic> {
    const LD_H_ABS: u16 = 0x28;
    const LD_W_ABS: u16 = 0x20;
    const LD_B_ABS: u16 = 0x30;
    const LD_H_IND: u16 = 0x48;
    const LDX_MSH: u16 = 0xb1;
    const JEQ: u16 = 0x15;
    const JGE: u16 = 0x35;
    const JGT: u16 = 0x25;
    const JSET: u16 = 0x45;
    const RET: u16 = 0x06;
    let op = |code: u16, then: u8, otherwise: u8, k: i32| Classic {
        code,
        then,
        otherwise,
        k: k.cast_unsigned(),
    };
    let bits = |addr: Ipv4Addr| addr.to_bits().cast_signed();
    match rule {
        Rule::All => vec![op(RET, 0, 0, DROP)],
        Rule::Nothing => vec![op(RET, 0, 0, NEXT)],
        Rule::Address(addr) => vec![
            op(LD_H_ABS, 0, 0, OFF_ETHERTYPE),
            op(JEQ, 0, 3, ETHERTYPE_IPV4),
            op(LD_W_ABS, 0, 0, OFF_DESTINATION),
            op(JEQ, 0, 1, bits(addr)),
            op(RET, 0, 0, DROP),
            op(RET, 0, 0, NEXT),
        ],
        Rule::Ports { addr, lo, hi } => vec![
            op(LD_H_ABS, 0, 0, OFF_ETHERTYPE),
            op(JEQ, 0, 12, ETHERTYPE_IPV4),
            op(LD_W_ABS, 0, 0, OFF_DESTINATION),
            op(JEQ, 0, 10, bits(addr)),
            op(LD_B_ABS, 0, 0, OFF_PROTO),
            op(JEQ, 1, 0, PROTO_TCP),
            op(JEQ, 0, 7, PROTO_UDP),
            op(LD_H_ABS, 0, 0, OFF_FRAGMENT),
            op(JSET, 5, 0, FRAGMENT_OFFSET),
            op(LDX_MSH, 0, 0, OFF_IP),
            op(LD_H_IND, 0, 0, OFF_PORT),
            op(JGE, 0, 2, i32::from(lo)),
            op(JGT, 1, 0, i32::from(hi)),
            op(RET, 0, 0, DROP),
            op(RET, 0, 0, NEXT),
        ],
    }
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
