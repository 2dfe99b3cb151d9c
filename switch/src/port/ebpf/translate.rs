//! A classic filter in eBPF: as the kernel does it (`bpf_convert_filter`, net/core/filter.c), but
//! what is taken goes on instead of ending.

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_H, BPF_IND, BPF_JA, BPF_JEQ, BPF_JGE, BPF_JGT, BPF_JMP,
    BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_MSH, BPF_RET, BPF_W,
};

use super::code::{Code, Label};
use super::{Insn, TAKEN, op, skb};

/// Appends the translation: A is r0, X is r7, the packet r6; r8 is lost. Where the filter takes
/// the packet it goes on at [`TAKEN`]. `None` for an instruction that no filter has.
///
/// What no path leads to is left out: eBPF, unlike classic BPF, may not have any.
pub(in crate::port) fn append(code: &mut Code, filter: &[libc::sock_filter]) -> Option<()> {
    code.push(op::MOV64_X, 6, 1, 0, 0);
    code.push(op::MOV64_K, 0, 0, 0, 0);
    code.push(op::MOV64_K, 7, 0, 0, 0);
    // Jumps lead forward, so who leads to an instruction comes before it.
    let mut reached = vec![false; filter.len()];
    *reached.first_mut()? = true;
    for (number, insn) in filter.iter().enumerate() {
        code.place(Label::Classic(number));
        if reached.get(number) == Some(&true) {
            for next in one(code, number + 1, *insn)?.into_iter().flatten() {
                *reached.get_mut(next)? = true;
            }
        }
    }
    Some(())
}

/// One instruction, where `next` is the number of the one behind it; returns those it leads to.
fn one(code: &mut Code, next: usize, insn: libc::sock_filter) -> Option<[Option<usize>; 2]> {
    let libc::sock_filter { code: what, k, .. } = insn;
    let (what, value) = (u32::from(what), k.cast_signed());
    match what {
        _ if what == BPF_RET | BPF_K => {
            if k == 0 {
                code.extend(Insn::answer(0));
            } else {
                code.jump(op::JMP_A, 0, 0, TAKEN);
            }
            Some([None, None])
        }
        _ if what == BPF_JMP | BPF_JA => {
            let to = next + usize::try_from(k).ok()?;
            code.jump(op::JMP_A, 0, 0, Label::Classic(to));
            Some([Some(to), None])
        }
        _ if what & CLASS == BPF_JMP => {
            let [yes, no] = [insn.jt, insn.jf].map(|skipped| next + usize::from(skipped));
            let is_this = |(test, ..): &&(u32, u8, Option<u8>)| what == BPF_JMP | test | BPF_K;
            match TESTS.iter().find(is_this)? {
                (_, _, Some(fails)) if yes == next => {
                    code.jump(*fails, 0, value, Label::Classic(no));
                }
                (_, holds, _) => {
                    code.jump(*holds, 0, value, Label::Classic(yes));
                    if no != next {
                        code.jump(op::JMP_A, 0, 0, Label::Classic(no));
                    }
                }
            }
            Some([Some(yes), Some(no)])
        }
        _ => {
            straight(code, what, value)?;
            Some([Some(next), None])
        }
    }
}

/// An instruction that leads to the next.
fn straight(code: &mut Code, what: u32, value: i32) -> Option<()> {
    match what {
        _ if what == BPF_ALU | BPF_AND | BPF_K => code.push(op::AND32_K, 0, 0, 0, value),
        _ if value < 0 => code.push(op::LDX_MEM_W, 0, 6, ancillary(what, value)?, 0),
        _ if what == BPF_LD | BPF_W | BPF_ABS => code.push(op::LD_ABS_W, 0, 0, 0, value),
        _ if what == BPF_LD | BPF_H | BPF_ABS => code.push(op::LD_ABS_H, 0, 0, 0, value),
        _ if what == BPF_LD | BPF_B | BPF_ABS => code.push(op::LD_ABS_B, 0, 0, 0, value),
        _ if what == BPF_LD | BPF_H | BPF_IND => code.push(op::LD_IND_H, 0, 7, 0, value),
        _ if what == BPF_LDX | BPF_B | BPF_MSH => {
            // A stays what it is.
            code.push(op::MOV64_X, 8, 0, 0, 0);
            code.load_header_bytes(value);
            code.push(op::MOV64_X, 0, 8, 0, 0);
        }
        _ => return None,
    }
    Some(())
}

/// Where the context has what a load asks for that is not of the packet.
fn ancillary(what: u32, offset: i32) -> Option<i16> {
    let is_load = [BPF_B, BPF_H, BPF_W].map(|size| BPF_LD | size | BPF_ABS);
    match offset - libc::SKF_AD_OFF {
        _ if !is_load.contains(&what) => None,
        libc::SKF_AD_PKTTYPE => Some(skb::PKT_TYPE),
        libc::SKF_AD_VLAN_TAG => Some(skb::VLAN_TCI),
        _ => None,
    }
}

/// Bits of an operation that say what kind it is.
const CLASS: u32 = 7;

/// Classic tests of A with a constant, the same of r0, and their opposites.
const TESTS: [(u32, u8, Option<u8>); 4] = [
    (BPF_JEQ, op::JEQ32_K, Some(op::JNE32_K)),
    (BPF_JGE, op::JGE32_K, Some(op::JLT32_K)),
    (BPF_JGT, op::JGT32_K, Some(op::JLE32_K)),
    (BPF_JSET, op::JSET32_K, None),
];
