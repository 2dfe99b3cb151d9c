//! Instructions of the kernel's eBPF machine, and programs made of them.
//!
//! Source: `include/uapi/linux/bpf.h`, Documentation/bpf/standardization/instruction-set.rst.

pub(super) mod code;
pub(super) mod translate;

/// Where a translated filter goes on that takes the packet.
pub(super) const TAKEN: code::Label = code::Label::Named("taken");

/// One eBPF instruction, `struct bpf_insn`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Insn {
    /// Operation.
    pub code: u8,
    /// Destination register in the low four bits, source in the high four (little endian).
    pub registers: u8,
    /// Jump distance in instructions, or memory offset in bytes.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

impl Insn {
    /// Puts an instruction together from its fields.
    #[must_use]
    pub const fn new(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Self {
        let registers = if cfg!(target_endian = "little") {
            src << 4 | dst
        } else {
            dst << 4 | src
        };
        Self {
            code,
            registers,
            offset,
            immediate,
        }
    }

    /// `r0 = value; exit`
    #[must_use]
    pub const fn answer(value: i32) -> [Self; 2] {
        [
            Self::new(op::MOV64_K, 0, 0, 0, value),
            Self::new(op::EXIT, 0, 0, 0, 0),
        ]
    }
}

/// Offsets within a program's context, `struct __sk_buff`.
#[expect(missing_docs, reason = "the header's names, one by one")]
pub mod skb {
    pub const LEN: i16 = 0;
    pub const PKT_TYPE: i16 = 4;
    pub const VLAN_PRESENT: i16 = 20;
    pub const VLAN_TCI: i16 = 24;
    pub const IFINDEX: i16 = 40;
    pub const DATA: i16 = 76;
    pub const DATA_END: i16 = 80;
    pub const GSO_SIZE: i16 = 176;
}

/// What a classifier answers.
pub mod verdict {
    /// `TCX_NEXT` and `TC_ACT_UNSPEC`: the next program, and in the end the host, decides.
    pub const NEXT: i32 = -1;
    /// `TCX_DROP` and `TC_ACT_SHOT`: the frame ends here; packet sockets have seen it already.
    pub const DROP: i32 = 2;
}

/// The operations that are used; the names are those of the kernel's header.
#[expect(missing_docs, reason = "the header's names, one by one")]
pub mod op {
    // From the packet, in r6, to r0; beyond its end they end the program with 0.
    pub const LD_ABS_B: u8 = 0x30;
    pub const LD_ABS_H: u8 = 0x28;
    pub const LD_ABS_W: u8 = 0x20;
    pub const LD_IND_B: u8 = 0x50;
    pub const LD_IND_H: u8 = 0x48;
    pub const LD_IND_W: u8 = 0x40;
    /// Two instructions: the second has the upper half.
    pub const LD_IMM64: u8 = 0x18;
    pub const LDX_MEM_B: u8 = 0x71;
    pub const LDX_MEM_W: u8 = 0x61;
    pub const LDX_MEM_H: u8 = 0x69;
    pub const LDX_MEM_DW: u8 = 0x79;
    pub const ST_MEM_W: u8 = 0x62;
    pub const ST_MEM_DW: u8 = 0x7a;
    pub const STX_MEM_B: u8 = 0x73;
    pub const STX_MEM_H: u8 = 0x6b;
    pub const STX_MEM_W: u8 = 0x63;
    pub const STX_MEM_DW: u8 = 0x7b;
    /// With an immediate of 0: adds.
    pub const STX_ATOMIC_DW: u8 = 0xdb;
    pub const MOV64_K: u8 = 0xb7;
    pub const MOV64_X: u8 = 0xbf;
    pub const ADD64_K: u8 = 0x07;
    pub const ADD64_X: u8 = 0x0f;
    pub const SUB64_X: u8 = 0x1f;
    pub const MUL64_X: u8 = 0x2f;
    pub const OR64_X: u8 = 0x4f;
    pub const MUL64_K: u8 = 0x27;
    pub const XOR64_K: u8 = 0xa7;
    pub const AND64_K: u8 = 0x57;
    pub const LSH64_K: u8 = 0x67;
    pub const RSH64_K: u8 = 0x77;
    pub const XOR64_X: u8 = 0xaf;
    pub const MOV32_K: u8 = 0xb4;
    pub const AND32_K: u8 = 0x54;
    pub const JEQ64_K: u8 = 0x15;
    pub const JEQ64_X: u8 = 0x1d;
    pub const JNE64_K: u8 = 0x55;
    pub const JNE64_X: u8 = 0x5d;
    pub const JGT64_K: u8 = 0x25;
    pub const JGT64_X: u8 = 0x2d;
    pub const JGE64_X: u8 = 0x3d;
    pub const JLT64_K: u8 = 0xa5;
    // 32-bit compares: the immediate of a 64-bit one is sign-extended, an address is not.
    pub const JEQ32_K: u8 = 0x16;
    pub const JNE32_K: u8 = 0x56;
    pub const JGT32_K: u8 = 0x26;
    pub const JGE32_K: u8 = 0x36;
    pub const JLT32_K: u8 = 0xa6;
    pub const JLE32_K: u8 = 0xb6;
    pub const JSET32_K: u8 = 0x46;
    pub const JMP_A: u8 = 0x05;
    pub const CALL: u8 = 0x85;
    pub const EXIT: u8 = 0x95;
}
