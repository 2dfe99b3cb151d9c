//! eBPF instructions whose jumps are named, until all places are known.

use std::os::fd::RawFd;

use crate::port::ebpf::{Insn, op};

/// Where a jump leads: forward only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    /// The translation of the classic instruction of this number.
    Classic(usize),
    /// The filter takes the packet.
    Taken,
    /// It is a SYN that is not repeated.
    Unrepeated,
    /// It may pass.
    Pass,
}

/// `BPF_FUNC_map_lookup_elem`.
const HELPER_LOOKUP: i32 = 1;
/// In the source register of a load: the immediate is a map's descriptor (`BPF_PSEUDO_MAP_FD`).
const MAP_DESCRIPTOR: u8 = 1;
/// The frame pointer; a key of four bytes lies below it.
const FRAME: u8 = 10;
const KEY: i16 = -4;

/// A program as it grows.
#[derive(Default)]
pub(super) struct Code {
    insns: Vec<Insn>,
    jumps: Vec<(usize, Label)>,
    places: Vec<(Label, usize)>,
}

impl Code {
    pub(super) fn push(&mut self, code: u8, dst: u8, src: u8, offset: i16, immediate: i32) {
        self.insns
            .push(Insn::new(code, dst, src, offset, immediate));
    }

    pub(super) fn extend(&mut self, insns: impl IntoIterator<Item = Insn>) {
        self.insns.extend(insns);
    }

    pub(super) fn place(&mut self, label: Label) {
        self.places.push((label, self.insns.len()));
    }

    /// Jumps there if the register and the value pass the test.
    pub(super) fn jump(&mut self, code: u8, register: u8, value: i32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(code, register, 0, 0, value);
    }

    /// Jumps there if the two registers pass the test.
    pub(super) fn jump_x(&mut self, code: u8, (first, second): (u8, u8), to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(code, first, second, 0, 0);
    }

    pub(super) fn load_64(&mut self, register: u8, value: u64) {
        let [low, high] = [value, value >> 32].map(|half| (half & 0xffff_ffff) as u32);
        self.push(op::LD_IMM64, register, 0, 0, low.cast_signed());
        self.push(0, 0, 0, 0, high.cast_signed());
    }

    /// r0 and r7 = the length of the IP header that begins there; r1 to r5 are lost.
    pub(super) fn load_header_bytes(&mut self, at: i32) {
        self.push(op::LD_ABS_B, 0, 0, 0, at);
        self.push(op::AND64_K, 0, 0, 0, 0xf);
        self.push(op::LSH64_K, 0, 0, 0, 2);
        self.push(op::MOV64_X, 7, 0, 0, 0);
    }

    /// r0 = the address of the map's first value; what has none passes. r1 to r5 are lost.
    pub(super) fn look_up(&mut self, map: RawFd) {
        self.push(op::ST_MEM_W, FRAME, 0, KEY, 0);
        self.push(op::MOV64_X, 2, FRAME, 0, 0);
        self.push(op::ADD64_K, 2, 0, 0, KEY.into());
        self.push(op::LD_IMM64, 1, MAP_DESCRIPTOR, 0, map);
        self.push(0, 0, 0, 0, 0);
        self.push(op::CALL, 0, 0, 0, HELPER_LOOKUP);
        self.jump(op::JEQ64_K, 0, 0, Label::Pass);
    }

    /// The program; `None` if a jump leads nowhere, or too far.
    pub(super) fn finish(mut self) -> Option<Vec<Insn>> {
        for (at, to) in std::mem::take(&mut self.jumps) {
            // Those of classic instructions come first and in order; the others are few.
            let (_, place) = match to {
                Label::Classic(number) => self.places.get(number).filter(|(label, _)| *label == to),
                Label::Taken | Label::Unrepeated | Label::Pass => {
                    self.places.iter().rev().find(|(label, _)| *label == to)
                }
            }?;
            let distance = place.checked_sub(at + 1)?;
            self.insns.get_mut(at)?.offset = i16::try_from(distance).ok()?;
        }
        Some(self.insns)
    }
}
