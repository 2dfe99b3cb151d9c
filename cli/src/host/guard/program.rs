//! What the guard withholds from the host, as eBPF for TCX and as classic BPF for cls_bpf.
//!
//! Both look at the frame from its MAC header with absolute loads, which the kernel checks: a frame
//! too short for the rule is not ours and goes on to the host. A VLAN-tagged frame belongs to
//! another network and goes on too.
//!
//! Source: Documentation/networking/filter.rst.

use std::net::Ipv4Addr;

use switch::port::ebpf::verdict::{DROP, NEXT};
use switch::port::ebpf::{Insn, op, skb};

use crate::host::sysctl::PortSet;

/// What the host's own stack must not see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Every frame: a port belongs to the switch alone.
    All,
    /// IPv4 packets to these addresses, which are the switch's and not the host's.
    Addresses(Vec<Ipv4Addr>),
    /// The switch's share of an address that is the host's too.
    Ports(Shared),
    /// Nothing, because the uplink has no address yet.
    Nothing,
}

/// What the switch takes of a shared address. Later fragments have no ports and pass: without
/// their first one the host can do nothing with them, and says nothing (no ICMP time exceeded
/// without a first fragment, RFC 1122 3.3.2). ICMP passes: an echo reply or an error about a flow
/// that is not the host's is ignored silently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The shared address.
    pub addr: Ipv4Addr,
    /// TCP ports.
    pub tcp: PortSet,
    /// UDP ports.
    pub udp: PortSet,
    /// SCTP ports: all of them where the host has no SCTP, since it would refuse every packet with
    /// an ICMP error, which ends the association (RFC 9260 section 10).
    pub sctp: PortSet,
    /// Further addresses, which are the switch's alone.
    pub alone: Vec<Ipv4Addr>,
}

impl Shared {
    /// The same ports of TCP, UDP and SCTP.
    #[must_use]
    pub fn of_ports(addr: Ipv4Addr, ports: &PortSet) -> Self {
        Self {
            addr,
            tcp: ports.clone(),
            udp: ports.clone(),
            sctp: ports.clone(),
            alone: Vec::new(),
        }
    }

    /// The ports of each protocol, by its number.
    pub(super) fn protocols(&self) -> [(u8, &PortSet); 3] {
        [
            (PROTO_TCP, &self.tcp),
            (PROTO_UDP, &self.udp),
            (PROTO_SCTP, &self.sctp),
        ]
    }
}

const ETHERTYPE_IPV4: i32 = 0x0800;
const PROTO_TCP: u8 = 6;
const PROTO_UDP: u8 = 17;
const PROTO_SCTP: u8 = 132;
const FRAGMENT_OFFSET: i32 = 0x1fff;
// Offsets from the MAC header.
const OFF_ETHERTYPE: i32 = 12;
const OFF_IP: i32 = 14;
const OFF_FRAGMENT: i32 = 20;
const OFF_PROTO: i32 = 23;
const OFF_DESTINATION: i32 = 30;
/// Destination port, behind an IP header of no length.
const OFF_PORT: i32 = OFF_IP + 2;

const fn load(code: u8, at: i32) -> Insn {
    Insn::new(code, 0, 0, 0, at)
}

/// Ends the program with `verdict` unless the test of `register` against `value` holds, which then
/// jumps over the end. So no jump is longer than a section, whatever the number of ports.
fn end_unless(code: u8, register: u8, value: i32, verdict: i32) -> [Insn; 3] {
    let [set, exit] = Insn::answer(verdict);
    [Insn::new(code, register, 0, 2, value), set, exit]
}

/// The rule as an eBPF classifier.
#[must_use]
pub(super) fn ebpf(rule: &Rule) -> Vec<Insn> {
    use op::{JEQ32_K, JNE32_K, LD_ABS_H, LD_ABS_W, LDX_MEM_W, MOV64_X};
    let alone = match rule {
        Rule::All => return Insn::answer(DROP).to_vec(),
        Rule::Nothing => return Insn::answer(NEXT).to_vec(),
        Rule::Addresses(alone) => alone,
        Rule::Ports(shared) => &shared.alone,
    };
    // r6 = skb, which LD_ABS expects there.
    let mut program = vec![
        Insn::new(MOV64_X, 6, 1, 0, 0),
        Insn::new(LDX_MEM_W, 0, 6, skb::VLAN_PRESENT, 0),
    ];
    program.extend(end_unless(JEQ32_K, 0, 0, NEXT));
    program.push(load(LD_ABS_H, OFF_ETHERTYPE));
    program.extend(end_unless(JEQ32_K, 0, ETHERTYPE_IPV4, NEXT));
    program.push(load(LD_ABS_W, OFF_DESTINATION));
    for addr in alone {
        program.extend(end_unless(JNE32_K, 0, addr.to_bits().cast_signed(), DROP));
    }
    if let Rule::Ports(shared) = rule {
        let addr = shared.addr.to_bits().cast_signed();
        program.extend(end_unless(JEQ32_K, 0, addr, NEXT));
        program.extend(ebpf_ports(shared));
    }
    program.extend(Insn::answer(NEXT));
    program
}

fn ebpf_ports(shared: &Shared) -> Vec<Insn> {
    use op::{
        AND64_K, JGT32_K, JLT32_K, JMP_A, JNE32_K, JSET32_K, LD_ABS_B, LD_ABS_H, LD_IND_H, LSH64_K,
        MOV64_X,
    };
    // r8 = protocol, r7 = length of the IP header.
    let mut program = vec![
        load(LD_ABS_B, OFF_PROTO),
        Insn::new(MOV64_X, 8, 0, 0, 0),
        load(LD_ABS_H, OFF_FRAGMENT),
        Insn::new(JSET32_K, 0, 0, 1, FRAGMENT_OFFSET),
        Insn::new(JMP_A, 0, 0, 2, 0),
    ];
    program.extend(Insn::answer(NEXT));
    program.extend([
        load(LD_ABS_B, OFF_IP),
        Insn::new(AND64_K, 0, 0, 0, 0x0f),
        Insn::new(LSH64_K, 0, 0, 0, 2),
        Insn::new(MOV64_X, 7, 0, 0, 0),
    ]);
    for (protocol, ports) in shared.protocols() {
        let mut section = vec![Insn::new(LD_IND_H, 0, 7, 0, OFF_PORT)];
        for (lo, hi) in ports.ranges() {
            section.push(Insn::new(JLT32_K, 0, 0, 3, i32::from(*lo)));
            section.extend(end_unless(JGT32_K, 0, i32::from(*hi), DROP));
        }
        section.extend(Insn::answer(NEXT));
        // The limit on publishes keeps a section far below a jump's reach.
        let past = i16::try_from(section.len()).unwrap_or(i16::MAX);
        program.push(Insn::new(JNE32_K, 8, 0, past, i32::from(protocol)));
        program.extend(section);
    }
    program
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
/// is still in the frame only, so the ethertype test lets those pass. A conditional jump reaches
/// 255 instructions at most, so every test ends the program itself.
#[must_use]
pub(super) fn classic(rule: &Rule) -> Vec<Classic> {
    let alone = match rule {
        Rule::All => return vec![cbpf(cop::RET, 0, 0, DROP)],
        Rule::Nothing => return vec![cbpf(cop::RET, 0, 0, NEXT)],
        Rule::Addresses(alone) => alone,
        Rule::Ports(shared) => &shared.alone,
    };
    let mut program = vec![
        cbpf(cop::LD_H_ABS, 0, 0, OFF_ETHERTYPE),
        cbpf(cop::JEQ, 1, 0, ETHERTYPE_IPV4),
        cbpf(cop::RET, 0, 0, NEXT),
        cbpf(cop::LD_W_ABS, 0, 0, OFF_DESTINATION),
    ];
    for addr in alone {
        program.push(cbpf(cop::JEQ, 0, 1, addr.to_bits().cast_signed()));
        program.push(cbpf(cop::RET, 0, 0, DROP));
    }
    if let Rule::Ports(shared) = rule {
        program.extend([
            cbpf(cop::JEQ, 1, 0, shared.addr.to_bits().cast_signed()),
            cbpf(cop::RET, 0, 0, NEXT),
            cbpf(cop::LD_H_ABS, 0, 0, OFF_FRAGMENT),
            cbpf(cop::JSET, 0, 1, FRAGMENT_OFFSET),
            cbpf(cop::RET, 0, 0, NEXT),
        ]);
        for (protocol, ports) in shared.protocols() {
            program.extend(classic_section(protocol, ports));
        }
    }
    program.push(cbpf(cop::RET, 0, 0, NEXT));
    program
}

/// Drops what is of the protocol and to one of the ports.
fn classic_section(protocol: u8, ports: &PortSet) -> Vec<Classic> {
    let mut section = vec![
        cbpf(cop::LDX_MSH, 0, 0, OFF_IP),
        cbpf(cop::LD_H_IND, 0, 0, OFF_PORT),
    ];
    for (lo, hi) in ports.ranges() {
        section.push(cbpf(cop::JGE, 0, 2, i32::from(*lo)));
        section.push(cbpf(cop::JGT, 1, 0, i32::from(*hi)));
        section.push(cbpf(cop::RET, 0, 0, DROP));
    }
    section.push(cbpf(cop::RET, 0, 0, NEXT));
    let past = i32::try_from(section.len()).unwrap_or(i32::MAX);
    let mut test = vec![
        cbpf(cop::LD_B_ABS, 0, 0, OFF_PROTO),
        cbpf(cop::JEQ, 1, 0, i32::from(protocol)),
        cbpf(cop::JA, 0, 0, past),
    ];
    test.extend(section);
    test
}

const fn cbpf(code: u16, then: u8, otherwise: u8, k: i32) -> Classic {
    Classic {
        code,
        then,
        otherwise,
        k: k.cast_unsigned(),
    }
}

/// The codes of the classic instructions.
mod cop {
    pub(super) const LD_H_ABS: u16 = 0x28;
    pub(super) const LD_W_ABS: u16 = 0x20;
    pub(super) const LD_B_ABS: u16 = 0x30;
    pub(super) const LD_H_IND: u16 = 0x48;
    pub(super) const LDX_MSH: u16 = 0xb1;
    pub(super) const JA: u16 = 0x05;
    pub(super) const JEQ: u16 = 0x15;
    pub(super) const JGE: u16 = 0x35;
    pub(super) const JGT: u16 = 0x25;
    pub(super) const JSET: u16 = 0x45;
    pub(super) const RET: u16 = 0x06;
}

#[cfg(test)]
#[path = "program_tests.rs"]
mod tests;
