//! The eBPF machine, as much of it as a floodgate needs, with a clock that stands still.

use super::super::steer::tests::Packet;
use super::*;

/// Descriptors of the two values, and where they and the rest of the memory begin.
pub(super) const MARKS: RawFd = 1;
pub(super) const STATE: RawFd = 2;
const STACK: RawFd = 3;
const SKB: RawFd = 4;

const fn base(region: RawFd) -> u64 {
    region.cast_unsigned() as u64 * (1 << 32)
}

/// What programs leave behind.
pub(super) struct Machine {
    marks: Vec<u8>,
    state: Vec<u8>,
    stack: Vec<u8>,
    /// Nanoseconds.
    pub(super) now: u64,
}

impl Machine {
    pub(super) fn new() -> Self {
        let marks = usize::try_from(nat::KNOCK_PLACES * MARK_BYTES).unwrap();
        Self {
            marks: vec![0; marks],
            state: vec![0; STATE_BYTES as usize],
            stack: vec![0; 512],
            now: 1 << 40,
        }
    }

    pub(super) fn refused(&self) -> u64 {
        u64::from_ne_bytes(*self.state.last_chunk().unwrap())
    }

    /// The `bytes` bytes at an address; outside of what there is the test fails.
    fn at(&mut self, address: u64, bytes: usize) -> &mut [u8] {
        let region = match RawFd::try_from(address >> 32).unwrap() {
            MARKS => &mut self.marks,
            STATE => &mut self.state,
            STACK => &mut self.stack,
            other => panic!("region {other}"),
        };
        let offset = usize::try_from(address & 0xffff_ffff).unwrap();
        &mut region[offset..offset + bytes]
    }

    fn read(&mut self, address: u64, bytes: usize, packet: &Packet) -> u64 {
        if RawFd::try_from(address >> 32).unwrap() == SKB {
            return match address & 0xffff_ffff {
                0 => packet.frame.len() as u64,
                4 => packet.kind.into(),
                24 => packet.tci.into(),
                other => panic!("field {other}"),
            };
        }
        let mut word = [0; 8];
        word[..bytes].copy_from_slice(self.at(address, bytes));
        u64::from_le_bytes(word)
    }

    fn write(&mut self, address: u64, bytes: usize, value: u64) {
        let word = value.to_le_bytes();
        self.at(address, bytes).copy_from_slice(&word[..bytes]);
    }

    /// What the program answers. Registers that a call or a load of the packet may change are
    /// changed.
    pub(super) fn run(&mut self, program: &[Insn], packet: &Packet) -> u32 {
        let mut r = [0x5555_5555_5555_5555_u64; 11];
        (r[1], r[10]) = (base(SKB), base(STACK) + 512);
        let mut at = 0_usize;
        loop {
            let Insn {
                code,
                registers,
                offset,
                immediate,
            } = program[at];
            at += 1;
            let (dst, src) = (usize::from(registers & 0xf), usize::from(registers >> 4));
            let address = |register: usize| r[register].wrapping_add_signed(offset.into());
            let wide = i64::from(immediate).cast_unsigned();
            let narrow = immediate.cast_unsigned();
            let jump = usize::try_from(offset);
            let low = |register: usize| (r[register] & 0xffff_ffff) as u32;
            let holds = match code {
                op::JEQ64_K => r[dst] == wide,
                op::JNE64_K => r[dst] != wide,
                op::JGT64_K => r[dst] > wide,
                op::JLT64_K => r[dst] < wide,
                op::JGT64_X => r[dst] > r[src],
                op::JGE64_X => r[dst] >= r[src],
                op::JEQ32_K => low(dst) == narrow,
                op::JNE32_K => low(dst) != narrow,
                op::JGT32_K => low(dst) > narrow,
                op::JGE32_K => low(dst) >= narrow,
                op::JLT32_K => low(dst) < narrow,
                op::JLE32_K => low(dst) <= narrow,
                op::JSET32_K => low(dst) & narrow != 0,
                op::JMP_A => true,
                _ => false,
            };
            if holds {
                at += jump.expect("jumps lead forward");
                continue;
            }
            let load = match code {
                op::LD_ABS_B => Some((0, 1)),
                op::LD_ABS_H => Some((0, 2)),
                op::LD_ABS_W => Some((0, 4)),
                op::LD_IND_B => Some((r[src], 1)),
                op::LD_IND_H => Some((r[src], 2)),
                op::LD_IND_W => Some((r[src], 4)),
                _ => None,
            };
            if let Some((from, bytes)) = load {
                let from = usize::try_from(from.wrapping_add(wide)).unwrap_or(usize::MAX);
                let bytes = packet.frame.get(from..from.saturating_add(bytes));
                let Some(bytes) = bytes else { return 0 };
                r[0] = bytes
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
                r[1..6].fill(0x5555_5555_5555_5555);
                continue;
            }
            match code {
                op::LD_IMM64 => {
                    let high = program[at].immediate.cast_unsigned();
                    r[dst] = u64::from(high) << 32 | u64::from(narrow);
                    at += 1;
                }
                op::LDX_MEM_W => r[dst] = self.read(address(src), 4, packet),
                op::LDX_MEM_H => r[dst] = self.read(address(src), 2, packet),
                op::LDX_MEM_DW => r[dst] = self.read(address(src), 8, packet),
                op::ST_MEM_W => self.write(address(dst), 4, wide),
                op::STX_MEM_H => self.write(address(dst), 2, r[src]),
                op::STX_MEM_DW => self.write(address(dst), 8, r[src]),
                op::STX_ATOMIC_DW => {
                    let sum = self.read(address(dst), 8, packet) + r[src];
                    self.write(address(dst), 8, sum);
                }
                op::MOV64_K => r[dst] = wide,
                op::MOV64_X => r[dst] = r[src],
                op::MOV32_K => r[dst] = narrow.into(),
                op::ADD64_K => r[dst] = r[dst].wrapping_add(wide),
                op::ADD64_X => r[dst] = r[dst].wrapping_add(r[src]),
                op::SUB64_X => r[dst] = r[dst].wrapping_sub(r[src]),
                op::MUL64_X => r[dst] = r[dst].wrapping_mul(r[src]),
                op::OR64_X => r[dst] |= r[src],
                op::XOR64_X => r[dst] ^= r[src],
                op::AND64_K => r[dst] &= wide,
                op::AND32_K => r[dst] = (low(dst) & narrow).into(),
                op::LSH64_K => r[dst] <<= immediate,
                op::RSH64_K => r[dst] >>= immediate,
                op::CALL => {
                    r[0] = match immediate {
                        1 => base(RawFd::try_from(r[1]).unwrap()),
                        HELPER_KTIME_GET_NS => self.now,
                        other => panic!("helper {other}"),
                    };
                    r[1..6].fill(0x5555_5555_5555_5555);
                }
                op::EXIT => return low(0),
                op::JEQ64_K | op::JNE64_K | op::JGT64_K | op::JLT64_K | op::JGT64_X => {}
                op::JGE64_X | op::JEQ32_K | op::JNE32_K | op::JGT32_K | op::JGE32_K => {}
                op::JLT32_K | op::JLE32_K | op::JSET32_K => {}
                other => panic!("instruction {other:#x}"),
            }
        }
    }
}
