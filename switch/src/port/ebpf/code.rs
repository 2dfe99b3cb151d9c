//! eBPF instructions whose jumps are named, until all places are known.

use std::os::fd::RawFd;

use super::{Insn, op};

/// Where a jump leads: forward only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::port) enum Label {
    /// The translation of the classic instruction of this number.
    Classic(usize),
    /// The place of that name.
    Named(&'static str),
    /// The place of that name and number.
    Numbered(&'static str, usize),
}

/// `BPF_FUNC_map_lookup_elem`.
const HELPER_LOOKUP: i32 = 1;
/// In the source register of a load: the immediate is a map's descriptor (`BPF_PSEUDO_MAP_FD`).
const MAP_DESCRIPTOR: u8 = 1;
/// The frame pointer; a key of four bytes lies below it.
pub(in crate::port) const FRAME: u8 = 10;
const KEY: i16 = -4;

/// A program as it grows.
#[derive(Default)]
pub(in crate::port) struct Code {
    insns: Vec<Insn>,
    jumps: Vec<(usize, Label)>,
    places: Vec<(Label, usize)>,
}

impl Code {
    pub(in crate::port) fn push(
        &mut self,
        code: u8,
        dst: u8,
        src: u8,
        offset: i16,
        immediate: i32,
    ) {
        self.insns
            .push(Insn::new(code, dst, src, offset, immediate));
    }

    pub(in crate::port) fn extend(&mut self, insns: impl IntoIterator<Item = Insn>) {
        self.insns.extend(insns);
    }

    pub(in crate::port) fn place(&mut self, label: Label) {
        self.places.push((label, self.insns.len()));
    }

    /// Jumps there if the register and the value pass the test.
    pub(in crate::port) fn jump(&mut self, code: u8, register: u8, value: i32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(code, register, 0, 0, value);
    }

    /// Jumps there if the two registers pass the test.
    pub(in crate::port) fn jump_x(&mut self, code: u8, (first, second): (u8, u8), to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(code, first, second, 0, 0);
    }

    pub(in crate::port) fn load_64(&mut self, register: u8, value: u64) {
        let [low, high] = [value, value >> 32].map(|half| (half & 0xffff_ffff) as u32);
        self.push(op::LD_IMM64, register, 0, 0, low.cast_signed());
        self.push(0, 0, 0, 0, high.cast_signed());
    }

    /// r0 and r7 = the length of the IP header that begins there; r1 to r5 are lost.
    pub(in crate::port) fn load_header_bytes(&mut self, at: i32) {
        self.push(op::LD_ABS_B, 0, 0, 0, at);
        self.push(op::AND64_K, 0, 0, 0, 0xf);
        self.push(op::LSH64_K, 0, 0, 0, 2);
        self.push(op::MOV64_X, 7, 0, 0, 0);
    }

    /// r0 = the address of the map's first value; jumps if there is none. r1 to r5 are lost.
    pub(in crate::port) fn look_up(&mut self, map: RawFd, otherwise: Label) {
        self.push(op::ST_MEM_W, FRAME, 0, KEY, 0);
        self.look_up_key(map, otherwise);
    }

    /// As [`look_up`](Self::look_up), of the value whose number is in a register.
    pub(in crate::port) fn look_up_at(&mut self, map: RawFd, register: u8, otherwise: Label) {
        self.push(op::STX_MEM_W, FRAME, register, KEY, 0);
        self.look_up_key(map, otherwise);
    }

    fn look_up_key(&mut self, map: RawFd, otherwise: Label) {
        self.push(op::MOV64_X, 2, FRAME, 0, 0);
        self.push(op::ADD64_K, 2, 0, 0, KEY.into());
        self.push(op::LD_IMM64, 1, MAP_DESCRIPTOR, 0, map);
        self.push(0, 0, 0, 0, 0);
        self.call(HELPER_LOOKUP);
        self.jump(op::JEQ64_K, 0, 0, otherwise);
    }

    /// Mixes a register with r1, which is odd: all bits of it go into the low ones. r1 is lost.
    pub(in crate::port) fn mix(&mut self, register: u8) {
        self.push(op::MUL64_X, register, 1, 0, 0);
        self.push(op::MOV64_X, 1, register, 0, 0);
        self.push(op::RSH64_K, 1, 0, 0, 32);
        self.push(op::XOR64_X, register, 1, 0, 0);
    }

    /// Ends a socket filter that takes the packet as it is.
    pub(in crate::port) fn take_all(&mut self) {
        self.push(op::MOV32_K, 0, 0, 0, -1);
        self.push(op::EXIT, 0, 0, 0, 0);
    }

    /// Calls a helper: r0 = its result; r1 to r5 are lost.
    pub(in crate::port) fn call(&mut self, helper: i32) {
        self.push(op::CALL, 0, 0, 0, helper);
    }

    /// The place of a classic instruction's translation.
    fn classic(&self, number: usize) -> Option<&(Label, usize)> {
        let is_classic = |(label, _): &(Label, usize)| matches!(label, Label::Classic(_));
        let first = self.places.iter().position(is_classic)?;
        let place = self.places.get(first + number);
        place.filter(|(label, _)| *label == Label::Classic(number))
    }

    /// The program; `None` if a jump leads nowhere, or too far.
    pub(in crate::port) fn finish(mut self) -> Option<Vec<Insn>> {
        for (at, to) in std::mem::take(&mut self.jumps) {
            // Those of classic instructions are many and in order; the others are few.
            let (_, place) = match to {
                Label::Classic(number) => self.classic(number),
                Label::Named(_) | Label::Numbered(..) => {
                    self.places.iter().rev().find(|(label, _)| *label == to)
                }
            }?;
            let distance = place.checked_sub(at + 1)?;
            self.insns.get_mut(at)?.offset = i16::try_from(distance).ok()?;
        }
        Some(self.insns)
    }
}
