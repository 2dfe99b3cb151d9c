//! Classic BPF programs: what the uplink's sockets take, and which worker gets it.
//!
//! Theory of operation. The uplink is shared with the host, whose own traffic should cost the
//! switch nothing, and with the other workers, who each own a slice of the external ports. Two
//! small programs run in the kernel for each frame of the uplink:
//!
//! - The [`uplink_filter`] lets pass what can concern the switch: ARP, and IPv4 to the external
//!   address that is ICMP, a fragment, or TCP or UDP to one of its ports.
//! - The [`worker_steering`] names the worker whose slice the external port is in, also where that
//!   port is an ICMP echo identifier or lies within the packet an ICMP error quotes.
//!
//! Neither decides anything: what passes is checked again by the gateway, and a frame with the
//! wrong worker is handed over to the right one. So where a header cannot be read the filter says
//! no and the steering says worker 0, which the kernel's machine does by itself: a load beyond the
//! packet ends the program with 0 (net/core/filter.c).
//!
//! A socket filter sees the frame from its destination address on; a fan-out program sees it from
//! the IP header on, so its loads are relative to that (`SKF_NET_OFF`). Both see it without its
//! outer VLAN tag.

use libc::{
    BPF_A, BPF_ABS, BPF_ADD, BPF_ALU, BPF_AND, BPF_B, BPF_DIV, BPF_H, BPF_IND, BPF_JA, BPF_JEQ,
    BPF_JGE, BPF_JGT, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_LDX, BPF_LSH, BPF_MEM, BPF_MISC,
    BPF_MSH, BPF_RET, BPF_ST, BPF_SUB, BPF_TAX, BPF_W, BPF_X,
};
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

/// A program for the kernel's classic BPF machine.
#[derive(Debug, Clone)]
pub struct Program {
    instructions: Vec<libc::sock_filter>,
}

impl Program {
    /// Lets no frame pass.
    pub(super) fn drop_all() -> Self {
        let mut code = Assembler::default();
        code.op(BPF_RET | BPF_K, 0);
        code.finish()
    }

    pub(super) fn instructions(&self) -> &[libc::sock_filter] {
        &self.instructions
    }
}

/// Port ranges a filter tells apart; three instructions each, of the kernel's 4,096.
const RANGES_MAX: usize = 1024;

/// The filter of an uplink's sockets, which takes
/// - ARP,
/// - IPv4 to `external` that is ICMP, a fragment, or TCP or UDP to a port of `ports`,
///
/// and nothing else: neither frames sent by this machine (fan-out groups cannot ignore them before
/// Linux 6.2) nor those of a VLAN, which belong to the host's VLAN interfaces.
///
/// `ports` may overlap. More than 1,024 ranges apart become one that spans them all.
#[must_use]
pub fn uplink_filter(external: Ipv4Addr, ports: &[RangeInclusive<u16>]) -> Program {
    use Label::{Accept, Next, Ports, Reject};
    let mut code = Assembler::default();
    code.op(LOAD_BYTE, ancillary(libc::SKF_AD_PKTTYPE));
    code.jump(EQUAL, PACKET_OUTGOING, Reject, Next);
    code.op(LOAD_HALF, ancillary(libc::SKF_AD_VLAN_TAG));
    code.op(BPF_ALU | BPF_AND | BPF_K, VLAN_ID_MASK);
    code.jump(EQUAL, 0, Next, Reject);
    code.op(LOAD_HALF, 12);
    code.jump(EQUAL, ETHERTYPE_ARP, Accept, Next);
    code.jump(EQUAL, ETHERTYPE_IPV4, Next, Reject);
    code.op(LOAD_WORD, FRAME_IP + IP_DESTINATION);
    code.jump(EQUAL, external.to_bits(), Next, Reject);
    code.op(LOAD_HALF, FRAME_IP + IP_FRAGMENT);
    code.jump(ANY_BIT, FRAGMENT_MASK, Accept, Next);
    code.op(LOAD_BYTE, FRAME_IP + IP_PROTOCOL);
    code.jump(EQUAL, PROTOCOL_ICMP, Accept, Next);
    code.jump(EQUAL, PROTOCOL_TCP, Ports, Next);
    code.jump(EQUAL, PROTOCOL_UDP, Ports, Reject);
    code.place(Accept);
    code.op(BPF_RET | BPF_K, u32::MAX);
    code.place(Reject);
    code.op(BPF_RET | BPF_K, 0);
    // The list comes last, so that its length does not stretch the jumps before it.
    code.place(Ports);
    code.op(LOAD_X_IP_HEADER_BYTES, FRAME_IP);
    code.op(LOAD_HALF_AT_X, FRAME_IP + PORT_DESTINATION);
    for range in merge(ports) {
        code.within(u32::from(*range.start()), u32::from(*range.end()));
        code.op(BPF_RET | BPF_K, u32::MAX);
    }
    code.op(BPF_RET | BPF_K, 0);
    code.finish()
}

/// The steering of an uplink's fan-out group: `(port - first_port) / ports_per_slice`, at most
/// `workers - 1`, where `port` is the external port of a packet from outside:
/// - the destination port of TCP and UDP,
/// - the identifier of an ICMP echo reply,
/// - the source port (or echo identifier) of the packet quoted by an ICMP error.
///
/// 0 for everything else: fragments, which have no port, other protocols, ports below `first_port`.
/// `ports_per_slice` and `workers` of 0 count as 1.
#[must_use]
pub fn worker_steering(first_port: u16, ports_per_slice: u16, workers: u16) -> Program {
    use Label::{Echo, Last, Next, Ports, Quoted, QuotedEcho, QuotedPorts, Slice, Zero};
    let last = u32::from(workers.saturating_sub(1));
    let quoted = NET + ICMP_HEADER_BYTES;
    let mut code = Assembler::default();
    code.op(LOAD_HALF, ancillary(libc::SKF_AD_PROTOCOL));
    code.jump(EQUAL, ETHERTYPE_IPV4, Next, Zero);
    code.op(LOAD_HALF, NET + IP_FRAGMENT);
    code.jump(ANY_BIT, FRAGMENT_MASK, Zero, Next);
    code.op(LOAD_X_IP_HEADER_BYTES, NET);
    code.op(LOAD_BYTE, NET + IP_PROTOCOL);
    code.jump(EQUAL, PROTOCOL_TCP, Ports, Next);
    code.jump(EQUAL, PROTOCOL_UDP, Ports, Next);
    code.jump(EQUAL, PROTOCOL_ICMP, Next, Zero);
    code.op(LOAD_BYTE_AT_X, NET);
    code.jump(EQUAL, ICMP_ECHO_REPLY, Echo, Next);
    for error in ICMP_ERRORS {
        code.jump(EQUAL, error, Quoted, Next);
    }
    code.op(BPF_RET | BPF_K, 0);
    code.place(Quoted);
    // Any part of a datagram but the first has no ports to quote.
    code.op(LOAD_HALF_AT_X, quoted + IP_FRAGMENT);
    code.jump(ANY_BIT, OFFSET_MASK, Zero, Next);
    code.op(LOAD_BYTE_AT_X, quoted + IP_PROTOCOL);
    code.op(BPF_ST, 0);
    // X: from the length of the outer header to the sum of both.
    code.op(LOAD_BYTE_AT_X, quoted);
    code.op(BPF_ALU | BPF_AND | BPF_K, 0xf);
    code.op(BPF_ALU | BPF_LSH | BPF_K, 2);
    code.op(BPF_ALU | BPF_ADD | BPF_X, 0);
    code.op(BPF_MISC | BPF_TAX, 0);
    code.op(BPF_LD | BPF_MEM, 0);
    code.jump(EQUAL, PROTOCOL_TCP, QuotedPorts, Next);
    code.jump(EQUAL, PROTOCOL_UDP, QuotedPorts, Next);
    code.jump(EQUAL, PROTOCOL_ICMP, QuotedEcho, Zero);
    code.place(QuotedPorts);
    code.op(LOAD_HALF_AT_X, quoted + PORT_SOURCE);
    code.go(Slice);
    code.place(QuotedEcho);
    code.op(LOAD_HALF_AT_X, quoted + ICMP_IDENTIFIER);
    code.go(Slice);
    code.place(Echo);
    code.op(LOAD_HALF_AT_X, NET + ICMP_IDENTIFIER);
    code.go(Slice);
    code.place(Ports);
    code.op(LOAD_HALF_AT_X, NET + PORT_DESTINATION);
    code.place(Slice);
    code.jump(AT_LEAST, u32::from(first_port), Next, Zero);
    code.op(BPF_ALU | BPF_SUB | BPF_K, u32::from(first_port));
    code.op(BPF_ALU | BPF_DIV | BPF_K, u32::from(ports_per_slice.max(1)));
    code.jump(AT_LEAST, last, Last, Next);
    code.op(BPF_RET | BPF_A, 0);
    code.place(Last);
    code.op(BPF_RET | BPF_K, last);
    code.place(Zero);
    code.op(BPF_RET | BPF_K, 0);
    code.finish()
}

/// The ranges in ascending order, with those that touch made one.
fn merge(ports: &[RangeInclusive<u16>]) -> Vec<RangeInclusive<u16>> {
    let mut sorted: Vec<_> = ports
        .iter()
        .filter(|range| !range.is_empty())
        .cloned()
        .collect();
    sorted.sort_by_key(|range| *range.start());
    let mut merged: Vec<RangeInclusive<u16>> = Vec::new();
    for range in sorted {
        match merged.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => merged.push(range),
        }
    }
    match (merged.first(), merged.last()) {
        (Some(first), Some(last)) if merged.len() > RANGES_MAX => {
            vec![*first.start()..=*last.end()]
        }
        _ => merged,
    }
}

const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_ARP: u32 = 0x0806;
const PACKET_OUTGOING: u32 = 4;
const VLAN_ID_MASK: u32 = 0xfff;
const PROTOCOL_ICMP: u32 = 1;
const PROTOCOL_TCP: u32 = 6;
const PROTOCOL_UDP: u32 = 17;
const ICMP_ECHO_REPLY: u32 = 0;
/// Destination unreachable, time exceeded, parameter problem (RFC 792).
const ICMP_ERRORS: [u32; 3] = [3, 11, 12];

/// Offsets within an IPv4 header (RFC 791 3.1) and within what follows it.
const IP_FRAGMENT: u32 = 6;
const IP_PROTOCOL: u32 = 9;
const IP_DESTINATION: u32 = 16;
const PORT_SOURCE: u32 = 0;
const PORT_DESTINATION: u32 = 2;
const ICMP_IDENTIFIER: u32 = 4;
const ICMP_HEADER_BYTES: u32 = 8;
/// More-fragments flag and fragment offset; the offset alone.
const FRAGMENT_MASK: u32 = 0x3fff;
const OFFSET_MASK: u32 = 0x1fff;

/// Where the IP header is, for a program that sees the whole frame, and for one that asks for it.
const FRAME_IP: u32 = 14;
const NET: u32 = libc::SKF_NET_OFF.cast_unsigned();

/// The offset by which a program asks for what is about the packet and not in it.
const fn ancillary(field: libc::c_int) -> u32 {
    (libc::SKF_AD_OFF + field).cast_unsigned()
}

const LOAD_WORD: u32 = BPF_LD | BPF_W | BPF_ABS;
const LOAD_HALF: u32 = BPF_LD | BPF_H | BPF_ABS;
const LOAD_BYTE: u32 = BPF_LD | BPF_B | BPF_ABS;
const LOAD_HALF_AT_X: u32 = BPF_LD | BPF_H | BPF_IND;
const LOAD_BYTE_AT_X: u32 = BPF_LD | BPF_B | BPF_IND;
/// X = 4 * (byte & 0xf), the length of the IPv4 header that starts with that byte.
const LOAD_X_IP_HEADER_BYTES: u32 = BPF_LDX | BPF_B | BPF_MSH;
const EQUAL: u32 = BPF_JMP | BPF_JEQ | BPF_K;
const AT_LEAST: u32 = BPF_JMP | BPF_JGE | BPF_K;
const ABOVE: u32 = BPF_JMP | BPF_JGT | BPF_K;
const ANY_BIT: u32 = BPF_JMP | BPF_JSET | BPF_K;

/// Where a jump leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    Next,
    Accept,
    Reject,
    Ports,
    Quoted,
    QuotedPorts,
    QuotedEcho,
    Echo,
    Slice,
    Last,
    Zero,
}

/// Instructions whose jumps are named, until all places are known.
#[derive(Default)]
struct Assembler {
    code: Vec<libc::sock_filter>,
    /// Jumps to labels: the instruction, and where it leads if its test holds and if not.
    jumps: Vec<(usize, Label, Label)>,
    places: Vec<(Label, usize)>,
}

impl Assembler {
    fn op(&mut self, operation: u32, operand: u32) {
        self.test(operation, operand, 0, 0);
    }

    /// A test that skips `yes` or `no` instructions.
    fn test(&mut self, operation: u32, operand: u32, yes: u8, no: u8) {
        // All codes are below 0x100 (`struct sock_filter` has 16 bits for them).
        let code = (operation & 0xffff) as u16;
        self.code.push(libc::sock_filter {
            code,
            jt: yes,
            jf: no,
            k: operand,
        });
    }

    fn jump(&mut self, operation: u32, operand: u32, yes: Label, no: Label) {
        self.jumps.push((self.code.len(), yes, no));
        self.op(operation, operand);
    }

    fn go(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to, Label::Next));
        self.op(BPF_JMP | BPF_JA, 0);
    }

    /// Skips the instruction after it unless `low <= A <= high`.
    fn within(&mut self, low: u32, high: u32) {
        self.test(AT_LEAST, low, 0, 2);
        self.test(ABOVE, high, 1, 0);
    }

    fn place(&mut self, label: Label) {
        self.places.push((label, self.code.len()));
    }

    /// How many instructions a jump at `from` to `label` skips. Jumps lead forward only.
    fn distance(&self, from: usize, label: Label) -> u8 {
        let place = self.places.iter().find(|(placed, _)| *placed == label);
        let skipped = place.map_or(0, |(_, to)| to - from - 1);
        // The code up to the last label has one shape, whatever the arguments: a test runs it.
        u8::try_from(skipped).expect("labels lie within 255 instructions")
    }

    fn finish(mut self) -> Program {
        for (at, yes, no) in std::mem::take(&mut self.jumps) {
            let (yes, no) = (self.distance(at, yes), self.distance(at, no));
            if let Some(instruction) = self.code.get_mut(at) {
                if u32::from(instruction.code) == BPF_JMP | BPF_JA {
                    instruction.k = yes.into();
                } else {
                    instruction.jt = yes;
                    instruction.jf = no;
                }
            }
        }
        Program {
            instructions: self.code,
        }
    }
}

#[cfg(test)]
mod tests;
