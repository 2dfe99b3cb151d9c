//! The two programs of the fast path.
//!
//! Offsets into a frame are from its MAC header: an untagged one with an IPv4 header of 20 bytes,
//! or it goes to the worker.

use std::os::fd::RawFd;

use super::{SETS, WAYS, record};
use crate::port::ebpf::code::{Code, FRAME, Label};
use crate::port::ebpf::{Insn, op, skb, verdict};
use crate::port::steer;

/// What the filter tells the classifier: the version of the shortcut, or 0; its place; the frame's
/// interface and length.
pub(super) const DECISION_BYTES: u32 = 24;
/// The count of lost frames.
pub(super) const LOST_BYTES: u32 = 8;

const DECIDED_PLACE: i16 = 8;
const DECIDED_FRAME: i16 = 16;

// Helpers, by the numbers of include/uapi/linux/bpf.h.
const L4_CSUM_REPLACE: i32 = 11;
const REDIRECT: i32 = 23;
const KTIME_GET_COARSE_NS: i32 = 160;
/// `BPF_F_PSEUDO_HDR`, and that four bytes are replaced.
const PSEUDO_HEADER_4: i32 = 0x14;

// Offsets within the frame.
const MACS: usize = 0;
const ETHERTYPE: usize = steer::ETHERTYPE as usize;
const IP: usize = steer::FRAME_IP as usize;
const FRAGMENT: usize = IP + steer::IP_FRAGMENT as usize;
const TTL: usize = IP + 8;
const IP_CHECKSUM: usize = IP + 10;
const ADDRESSES: usize = IP + 12;
const TCP: usize = IP + 20;
const PORTS: usize = TCP;
const TCP_OFFSET: usize = TCP + 12;
const TCP_FLAGS: usize = TCP + 13;
const TCP_CHECKSUM: usize = TCP + 16;
/// Bytes of all headers without options.
const HEADERS: usize = TCP + 20;

/// EtherType, version and header length, in three bytes.
const IPV4_OF_20: i32 = 0x08_00_45;
/// Of the word with fragment field, time to live and protocol: all but the second.
const FRAGMENT_PROTOCOL: i32 = 0xffff_00ff_u32.cast_signed();
/// Not a fragment, and never to be one, so that its identification may stay; TCP.
const WHOLE_TCP: i32 = 0x4000_0006;
/// FIN, SYN, RST, ACK and URG; the one that there has to be.
const FLAGS: i32 = 0x37;
const ACK: i32 = 0x10;

// Below the frame pointer, from where on the key of a look-up lies.
const STACK_MACS: i16 = -16;
const STACK_MACS_INGRESS: i16 = -24;
const STACK_DECISION: i16 = -32;

const MISS: Label = Label::Named("miss");
const FOUND: Label = Label::Named("found");
const WAY: &str = "way";

/// Where a field of a record lies in bytes.
const fn field(word: usize) -> i16 {
    offset(word * size_of::<u64>())
}

/// A number as an instruction has it that loads or stores.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "as asserted"
)]
const fn offset(number: usize) -> i16 {
    assert!(number < 1 << 15, "frames' heads and sets are small");
    number as i16
}

/// And as an operand.
const fn operand(number: usize) -> i32 {
    offset(number) as i32
}

const RECORD_BYTES: usize = record::WORDS * size_of::<u64>();

/// Appends the head of a filter: a frame of a shortcut ends there, refused and remembered. What is
/// none goes on behind it, with r1 as it was.
pub(super) fn append_filter(code: &mut Code, [table, decision]: [RawFd; 2], keys: [u64; 3]) {
    code.push(op::MOV64_X, 6, 1, 0, 0);
    // What was remembered of a frame that never came to the classifier, because another program in
    // front of it has it, is not this one's.
    code.look_up(decision, MISS);
    code.push(op::ST_MEM_DW, 0, 0, 0, 0);
    code.push(op::STX_MEM_DW, FRAME, 0, STACK_DECISION, 0);
    append_checks(code);
    append_key(code, keys);
    append_search(code, table);
    code.place(FOUND);
    // r0 = the record, r9 = its place. r8 = its version.
    code.push(op::MOV64_X, 7, 0, 0, 0);
    code.push(op::LDX_MEM_DW, 8, 7, field(record::VERSION), 0);
    code.jump(op::JEQ64_K, 8, 0, MISS);
    code.call(KTIME_GET_COARSE_NS);
    code.push(op::LDX_MEM_DW, 1, 7, field(record::UNTIL), 0);
    code.jump_x(op::JGE64_X, (0, 1), MISS);
    append_length(code);
    code.push(op::LDX_MEM_DW, 0, FRAME, STACK_DECISION, 0);
    code.push(op::STX_MEM_DW, 0, 8, 0, 0);
    code.push(op::STX_MEM_DW, 0, 9, DECIDED_PLACE, 0);
    append_frame_word(code, 1, 2);
    code.push(op::STX_MEM_DW, 0, 1, DECIDED_FRAME, 0);
    code.extend(Insn::answer(0));
    code.place(MISS);
    code.push(op::MOV64_X, 1, 6, 0, 0);
}

/// To the worker with what it may want to have a say in.
fn append_checks(code: &mut Code) {
    code.push(op::LDX_MEM_W, 0, 6, skb::VLAN_PRESENT, 0);
    code.jump(op::JNE32_K, 0, 0, MISS);
    // Behind this no load reaches beyond the end, which would refuse the frame.
    code.push(op::LDX_MEM_W, 0, 6, skb::LEN, 0);
    code.jump(op::JLT32_K, 0, operand(HEADERS), MISS);
    code.push(op::LD_ABS_W, 0, 0, 0, operand(ETHERTYPE));
    code.push(op::RSH64_K, 0, 0, 0, 8);
    code.jump(op::JNE32_K, 0, IPV4_OF_20, MISS);
    code.push(op::LD_ABS_W, 0, 0, 0, operand(FRAGMENT));
    code.push(op::MOV64_X, 1, 0, 0, 0);
    code.push(op::AND32_K, 0, 0, 0, FRAGMENT_PROTOCOL);
    code.jump(op::JNE32_K, 0, WHOLE_TCP, MISS);
    code.push(op::RSH64_K, 1, 0, 0, 8);
    code.push(op::AND64_K, 1, 0, 0, 0xff);
    code.jump(op::JLE32_K, 1, 1, MISS);
    code.push(op::LD_ABS_B, 0, 0, 0, operand(TCP_FLAGS));
    code.push(op::AND32_K, 0, 0, 0, FLAGS);
    code.jump(op::JNE32_K, 0, ACK, MISS);
}

/// r7 = the addresses, r8 = the ports, on the stack MAC addresses and ingress; r9 = the set.
fn append_key(code: &mut Code, [first, second, third]: [u64; 3]) {
    let two = |code: &mut Code, register: u8, from: usize| {
        code.push(op::LD_ABS_W, 0, 0, 0, operand(from));
        code.push(op::MOV64_X, register, 0, 0, 0);
        code.push(op::LSH64_K, register, 0, 0, 32);
        code.push(op::LD_ABS_W, 0, 0, 0, operand(from + 4));
        code.push(op::OR64_X, register, 0, 0, 0);
    };
    two(code, 7, MACS);
    code.push(op::STX_MEM_DW, FRAME, 7, STACK_MACS, 0);
    code.push(op::LD_ABS_W, 0, 0, 0, operand(MACS + 8));
    code.push(op::LSH64_K, 0, 0, 0, 32);
    code.push(op::LDX_MEM_W, 1, 6, skb::IFINDEX, 0);
    code.push(op::OR64_X, 0, 1, 0, 0);
    code.push(op::STX_MEM_DW, FRAME, 0, STACK_MACS_INGRESS, 0);
    two(code, 7, ADDRESSES);
    code.push(op::LD_ABS_W, 0, 0, 0, operand(PORTS));
    code.push(op::MOV64_X, 8, 0, 0, 0);
    code.push(op::MOV64_X, 9, 7, 0, 0);
    code.load_64(1, first);
    code.push(op::XOR64_X, 9, 1, 0, 0);
    code.load_64(1, second);
    code.mix(9);
    code.push(op::XOR64_X, 9, 8, 0, 0);
    code.load_64(1, third);
    code.mix(9);
    code.push(op::AND64_K, 9, 0, 0, operand(SETS - 1));
}

/// Jumps to [`FOUND`], with r0 = the record and r9 = its place; or to [`MISS`].
fn append_search(code: &mut Code, table: RawFd) {
    code.look_up_at(table, 9, MISS);
    code.push(op::LDX_MEM_DW, 1, FRAME, STACK_MACS, 0);
    code.push(op::LDX_MEM_DW, 2, FRAME, STACK_MACS_INGRESS, 0);
    code.push(op::MUL64_K, 9, 0, 0, operand(WAYS));
    for way in 0..WAYS {
        code.place(Label::Numbered(WAY, way));
        let next = if way + 1 < WAYS {
            Label::Numbered(WAY, way + 1)
        } else {
            MISS
        };
        let fields = [
            (record::ADDRESSES, 7),
            (record::PORTS, 8),
            (record::MACS, 1),
            (record::MACS_INGRESS, 2),
        ];
        for (word, known) in fields {
            code.push(
                op::LDX_MEM_DW,
                3,
                0,
                offset(way * RECORD_BYTES) + field(word),
                0,
            );
            code.jump_x(op::JNE64_X, (3, known), next);
        }
        code.push(op::ADD64_K, 0, 0, 0, offset(way * RECORD_BYTES).into());
        code.push(op::ADD64_K, 9, 0, 0, operand(way));
        code.jump(op::JMP_A, 0, 0, FOUND);
    }
}

/// To the worker with a packet that is too long: of one that will be segmented, its segments.
fn append_length(code: &mut Code) {
    let (segments, compare) = (Label::Named("segments"), Label::Named("compare"));
    code.push(op::LDX_MEM_W, 0, 6, skb::GSO_SIZE, 0);
    code.jump(op::JNE32_K, 0, 0, segments);
    code.push(op::LDX_MEM_W, 0, 6, skb::LEN, 0);
    code.push(op::ADD64_K, 0, 0, 0, -operand(IP));
    code.jump(op::JMP_A, 0, 0, compare);
    code.place(segments);
    code.push(op::LD_ABS_B, 0, 0, 0, operand(TCP_OFFSET));
    code.push(op::RSH64_K, 0, 0, 0, 4);
    code.push(op::LSH64_K, 0, 0, 0, 2);
    code.push(op::LDX_MEM_W, 1, 6, skb::GSO_SIZE, 0);
    code.push(op::ADD64_X, 0, 1, 0, 0);
    code.push(op::ADD64_K, 0, 0, 0, operand(TCP - IP));
    code.place(compare);
    code.push(op::LDX_MEM_W, 1, 7, field(record::EGRESS) + 4, 0);
    code.jump_x(op::JGT64_X, (0, 1), MISS);
}

/// A register = what tells this frame from another on the same processor; the second is lost.
fn append_frame_word(code: &mut Code, register: u8, other: u8) {
    code.push(op::LDX_MEM_W, register, 6, skb::IFINDEX, 0);
    code.push(op::LSH64_K, register, 0, 0, 32);
    code.push(op::LDX_MEM_W, other, 6, skb::LEN, 0);
    code.push(op::OR64_X, register, other, 0, 0);
}

const NEXT: Label = Label::Named("next");
const GONE: Label = Label::Named("gone");

/// The classifier: sends what the filter has remembered.
pub(super) fn classifier([table, decision, lost]: [RawFd; 3]) -> Option<Vec<Insn>> {
    let mut code = Code::default();
    code.push(op::MOV64_X, 6, 1, 0, 0);
    code.look_up(decision, NEXT);
    code.push(op::LDX_MEM_DW, 7, 0, 0, 0);
    code.jump(op::JEQ64_K, 7, 0, NEXT);
    code.push(op::LDX_MEM_DW, 8, 0, DECIDED_PLACE, 0);
    code.push(op::LDX_MEM_DW, 9, 0, DECIDED_FRAME, 0);
    code.push(op::ST_MEM_DW, 0, 0, 0, 0);
    // What was remembered is of another frame.
    append_frame_word(&mut code, 1, 2);
    code.jump_x(op::JNE64_X, (9, 1), NEXT);
    code.push(op::MOV64_X, 9, 8, 0, 0);
    code.push(op::RSH64_K, 9, 0, 0, WAYS.ilog2().cast_signed());
    code.look_up_at(table, 9, GONE);
    code.push(op::AND64_K, 8, 0, 0, operand(WAYS - 1));
    code.push(op::MUL64_K, 8, 0, 0, operand(RECORD_BYTES));
    code.push(op::ADD64_X, 0, 8, 0, 0);
    // r9 = the record.
    code.push(op::MOV64_X, 9, 0, 0, 0);
    append_transport(&mut code);
    append_rewrite(&mut code);
    // Nothing was changed under our hands.
    code.push(op::LDX_MEM_DW, 1, 9, field(record::VERSION), 0);
    code.jump_x(op::JNE64_X, (1, 7), GONE);
    code.push(op::MOV64_K, 1, 0, 0, 1);
    code.push(op::STX_ATOMIC_DW, 9, 1, field(record::FRAMES), 0);
    code.push(op::LDX_MEM_W, 1, 6, skb::LEN, 0);
    code.push(op::STX_ATOMIC_DW, 9, 1, field(record::BYTES), 0);
    code.push(op::LDX_MEM_W, 1, 9, field(record::EGRESS), 0);
    code.push(op::MOV64_K, 2, 0, 0, 0);
    code.call(REDIRECT);
    code.push(op::EXIT, 0, 0, 0, 0);
    code.place(GONE);
    code.look_up(lost, NEXT);
    code.push(op::MOV64_K, 1, 0, 0, 1);
    code.push(op::STX_ATOMIC_DW, 0, 1, 0, 0);
    code.extend(Insn::answer(verdict::DROP));
    code.place(NEXT);
    code.extend(Insn::answer(verdict::NEXT));
    code.finish()
}

/// The TCP checksum, by the kernel's function: it knows whether it is complete yet.
fn append_transport(code: &mut Code) {
    let replace = |code: &mut Code, word: usize, what: i32| {
        code.push(op::MOV64_X, 1, 6, 0, 0);
        code.push(op::MOV64_K, 2, 0, 0, operand(TCP_CHECKSUM));
        code.push(op::LDX_MEM_W, 3, 9, field(word), 0);
        code.push(op::LDX_MEM_W, 4, 9, field(word) + 4, 0);
        code.push(op::MOV64_K, 5, 0, 0, what);
        code.call(L4_CSUM_REPLACE);
        code.jump(op::JNE64_K, 0, 0, GONE);
    };
    let port_stays = Label::Named("port stays");
    replace(code, record::ADDRESS, PSEUDO_HEADER_4);
    code.push(op::LDX_MEM_W, 1, 9, field(record::PORT), 0);
    code.push(op::LDX_MEM_W, 2, 9, field(record::PORT) + 4, 0);
    code.jump_x(op::JEQ64_X, (1, 2), port_stays);
    replace(code, record::PORT, 2);
    code.place(port_stays);
}

/// All else, in place: the function above has seen to it that these bytes may be written.
fn append_rewrite(code: &mut Code) {
    // r2 = the frame.
    code.push(op::LDX_MEM_W, 2, 6, skb::DATA, 0);
    code.push(op::LDX_MEM_W, 3, 6, skb::DATA_END, 0);
    code.push(op::MOV64_X, 4, 2, 0, 0);
    code.push(op::ADD64_K, 4, 0, 0, operand(TCP + 4));
    code.jump_x(op::JGT64_X, (4, 3), GONE);
    code.push(op::LDX_MEM_DW, 1, 9, field(record::NEW_MACS), 0);
    code.push(op::STX_MEM_DW, 2, 1, offset(MACS), 0);
    code.push(op::LDX_MEM_W, 1, 9, field(record::NEW_MACS + 1), 0);
    code.push(op::STX_MEM_W, 2, 1, offset(MACS + 8), 0);
    code.push(op::LDX_MEM_B, 1, 2, offset(TTL), 0);
    code.push(op::ADD64_K, 1, 0, 0, -1);
    code.push(op::STX_MEM_B, 2, 1, offset(TTL), 0);
    code.push(op::LDX_MEM_H, 1, 2, offset(IP_CHECKSUM), 0);
    code.push(op::XOR64_K, 1, 0, 0, 0xffff);
    code.push(op::LDX_MEM_W, 3, 9, field(record::NEW_MACS + 1) + 4, 0);
    code.push(op::ADD64_X, 1, 3, 0, 0);
    code.push(op::MOV64_X, 3, 1, 0, 0);
    code.push(op::RSH64_K, 3, 0, 0, 16);
    code.push(op::AND64_K, 1, 0, 0, 0xffff);
    code.push(op::ADD64_X, 1, 3, 0, 0);
    code.push(op::XOR64_K, 1, 0, 0, 0xffff);
    code.push(op::STX_MEM_H, 2, 1, offset(IP_CHECKSUM), 0);
    code.push(op::LDX_MEM_DW, 1, 9, field(record::NEW_ADDRESSES), 0);
    code.push(op::STX_MEM_DW, 2, 1, offset(ADDRESSES), 0);
    code.push(op::LDX_MEM_W, 1, 9, field(record::NEW_PORTS), 0);
    code.push(op::STX_MEM_W, 2, 1, offset(PORTS), 0);
}
