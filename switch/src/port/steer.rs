//! Classic BPF programs: what the uplink's sockets take, and which worker gets it.
//!
//! Theory of operation. The uplink is shared with the host, whose own traffic should cost the
//! switch nothing, and with the other workers, who each own a slice of the external ports. Two
//! small programs run in the kernel for each frame of the uplink:
//!
//! - The [`filter`] lets pass what can concern the switch: ARP, all IPv4 to its own addresses, and
//!   to one it shares with the host ICMP, fragments, and TCP and UDP to its ports.
//! - The [`steering`] names the worker that owns the external port, also where that port is an ICMP
//!   echo identifier or lies within the packet an ICMP error quotes.
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

use nat::owner_of;

use crate::config::mask;

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
/// Networks and addresses taken wholly that a filter tells apart; four instructions each.
const WHOLE_MAX: usize = 128;
/// Addresses of which a part is taken, and two lists of ports for each.
const PARTS_MAX: usize = 8;
/// Published port ranges that are steered to their owners; three instructions each.
const STEERED_MAX: usize = 128;

/// IPv4 destinations that concern the switch, as one entry of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The network, or the address.
    pub network: Ipv4Addr,
    /// Its prefix length, 0..=32; longer counts as 32.
    pub prefix: u8,
    /// What of the packets to it.
    pub share: Share,
}

/// What a filter takes of the packets to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Share {
    /// All of them: the address is the switch's own, or a member's.
    All,
    /// The host has the address too: ICMP, fragments, and
    Ports {
        /// TCP to these ports, which may overlap.
        tcp: Vec<RangeInclusive<u16>>,
        /// UDP to these ports, which may overlap.
        udp: Vec<RangeInclusive<u16>>,
        /// All other protocols, SCTP among them.
        others: bool,
    },
}

/// The filter of an uplink's sockets, which takes
/// - ARP,
/// - IPv4 to what is `taken`,
///
/// and nothing else: neither frames sent by this machine (fan-out groups cannot ignore them before
/// Linux 6.2) nor those of a VLAN, which belong to the host's VLAN interfaces.
///
/// What is more than a program has room for is taken more roughly: more than 1,024 port ranges
/// apart (in all lists together) become one that spans them, more than 128 networks the one that
/// holds them all, and of the ninth address with ports and those behind it all is taken.
#[must_use]
pub fn filter(taken: &[Taken]) -> Program {
    use Label::{Accept, Next, Packet, Reject};
    let mut code = Assembler::default();
    code.op(LOAD_BYTE, ancillary(libc::SKF_AD_PKTTYPE));
    code.jump(EQUAL, PACKET_OUTGOING, Reject, Next);
    code.op(LOAD_HALF, ancillary(libc::SKF_AD_VLAN_TAG));
    code.op(BPF_ALU | BPF_AND | BPF_K, VLAN_ID_MASK);
    code.jump(EQUAL, 0, Next, Reject);
    code.op(LOAD_HALF, ETHERTYPE);
    code.jump(EQUAL, ETHERTYPE_ARP, Accept, Next);
    code.jump(EQUAL, ETHERTYPE_IPV4, Packet, Reject);
    code.place(Accept);
    code.op(BPF_RET | BPF_K, u32::MAX);
    code.place(Reject);
    code.op(BPF_RET | BPF_K, 0);
    code.place(Packet);
    let (parts, whole) = split(taken);
    for (network, prefix) in whole {
        code.load_destination(prefix);
        code.test(EQUAL, network.to_bits() & mask(prefix), 0, 1);
        code.op(BPF_RET | BPF_K, u32::MAX);
    }
    let ranges_max = RANGES_MAX / parts.iter().map(Part::lists).sum::<usize>().max(1);
    for part in parts {
        let block = part.block(ranges_max).code;
        code.load_destination(part.prefix);
        code.test(EQUAL, part.network.to_bits() & mask(part.prefix), 1, 0);
        code.op(
            BPF_JMP | BPF_JA,
            u32::try_from(block.len()).unwrap_or(u32::MAX),
        );
        code.code.extend(block);
    }
    code.op(BPF_RET | BPF_K, 0);
    code.finish()
}

/// An address of which a part is taken.
struct Part<'t> {
    network: Ipv4Addr,
    prefix: u8,
    tcp: &'t [RangeInclusive<u16>],
    udp: &'t [RangeInclusive<u16>],
    others: bool,
}

impl Part<'_> {
    /// How many lists of ports it needs.
    fn lists(&self) -> usize {
        1 + usize::from(self.tcp != self.udp)
    }

    /// The code for a packet to it; every path of it ends the program.
    fn block(&self, ranges_max: usize) -> Assembler {
        use Label::{Accept, Next, Ports, Reject, ToUdp, UdpPorts};
        let mut code = Assembler::default();
        code.op(LOAD_HALF, FRAME_IP + IP_FRAGMENT);
        code.jump(ANY_BIT, FRAGMENT_MASK, Accept, Next);
        code.op(LOAD_BYTE, FRAME_IP + IP_PROTOCOL);
        code.jump(EQUAL, PROTOCOL_ICMP, Accept, Next);
        code.jump(EQUAL, PROTOCOL_TCP, Ports, Next);
        let others = if self.others { Accept } else { Reject };
        code.jump(EQUAL, PROTOCOL_UDP, ToUdp, others);
        code.place(Accept);
        code.op(BPF_RET | BPF_K, u32::MAX);
        code.place(Reject);
        code.op(BPF_RET | BPF_K, 0);
        // The lists come last, so that their length does not stretch the jumps before them.
        code.place(ToUdp);
        if self.lists() == 1 {
            code.place(Ports);
        } else {
            code.go(UdpPorts);
            code.place(Ports);
            code.accept_ports(self.tcp, ranges_max);
            code.place(UdpPorts);
        }
        code.accept_ports(self.udp, ranges_max);
        code.resolve();
        code
    }
}

/// What is taken in part, and the networks that are taken wholly, as many as there is room for.
fn split(taken: &[Taken]) -> (Vec<Part<'_>>, Vec<(Ipv4Addr, u8)>) {
    let (mut parts, mut whole) = (Vec::new(), Vec::new());
    for Taken {
        network,
        prefix,
        share,
    } in taken
    {
        let (network, prefix) = (*network, *prefix);
        match share {
            Share::Ports { tcp, udp, others } if parts.len() < PARTS_MAX => parts.push(Part {
                network,
                prefix,
                tcp,
                udp,
                others: *others,
            }),
            Share::Ports { .. } | Share::All => whole.push((network, prefix.min(32))),
        }
    }
    if whole.len() > WHOLE_MAX {
        let spanning = whole.into_iter().reduce(|(one, prefix), (other, length)| {
            let differs = one.to_bits() ^ other.to_bits();
            let common = u8::try_from(differs.leading_zeros()).unwrap_or(0);
            (one, prefix.min(length).min(common))
        });
        whole = spanning.into_iter().collect();
    }
    (parts, whole)
}

/// The steering of an uplink's fan-out group: `(port - first_port) / ports_per_slice`, at most
/// `workers - 1`, where `port` is the external port of a packet from outside:
/// - the destination port of TCP and UDP,
/// - the identifier of an ICMP echo reply,
/// - the source port (or echo identifier) of the packet quoted by an ICMP error.
///
/// 0 for everything else: fragments, which have no port, other protocols, ports below `first_port`.
/// `ports_per_slice` and `workers` of 0 count as 1.
///
/// A port of `published` goes to the worker that owns it (at most `workers - 1`), whatever slice it
/// lies in. Only the first 128 ranges are looked at, and the first of those that hold a port
/// counts: a frame of another is handed over.
#[must_use]
pub fn steering(
    first_port: u16,
    ports_per_slice: u16,
    workers: u16,
    published: &[(RangeInclusive<u16>, u16)],
) -> Program {
    use Label::{Below, Echo, Last, Next, Ports, Quoted, Slice, Zero};
    let last = u32::from(workers.saturating_sub(1));
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
    load_quoted_port(&mut code);
    code.place(Echo);
    code.op(LOAD_HALF_AT_X, NET + ICMP_IDENTIFIER);
    code.go(Slice);
    code.place(Ports);
    code.op(LOAD_HALF_AT_X, NET + PORT_DESTINATION);
    code.go(Slice);
    code.place(Zero);
    code.op(BPF_RET | BPF_K, 0);
    code.place(Slice);
    for (ports, owner) in published.iter().take(STEERED_MAX) {
        if !ports.is_empty() {
            code.within(u32::from(*ports.start()), u32::from(*ports.end()));
            code.op(BPF_RET | BPF_K, last.min(u32::from(*owner)));
        }
    }
    code.jump(AT_LEAST, u32::from(first_port), Next, Below);
    code.op(BPF_ALU | BPF_SUB | BPF_K, u32::from(first_port));
    code.op(BPF_ALU | BPF_DIV | BPF_K, u32::from(ports_per_slice.max(1)));
    code.jump(AT_LEAST, last, Last, Next);
    code.op(BPF_RET | BPF_A, 0);
    code.place(Last);
    code.op(BPF_RET | BPF_K, last);
    code.place(Below);
    code.op(BPF_RET | BPF_K, 0);
    code.finish()
}

/// The worker to which [`steering`] with the same arguments steers a frame without a VLAN tag.
#[must_use]
pub fn steered(
    frame: &[u8],
    (first_port, ports_per_slice, workers): (u16, u16, u16),
    published: &[(RangeInclusive<u16>, u16)],
) -> u16 {
    let last = workers.saturating_sub(1);
    let Some(port) = external_port(frame) else {
        return 0;
    };
    let published = published.iter().take(STEERED_MAX);
    let mut owners = published.filter(|(ports, _)| ports.contains(&port));
    let slice = || port.saturating_sub(first_port) / ports_per_slice.max(1);
    let owner = owners.next().map_or_else(slice, |(_, owner)| *owner);
    owner.min(last)
}

/// The port by which a frame is steered; see [`steering`].
fn external_port(frame: &[u8]) -> Option<u16> {
    if u32::from(half(frame, ETHERTYPE)?) != ETHERTYPE_IPV4 {
        return None;
    }
    let (protocol, payload) = after_header(frame.get(at(FRAME_IP)..)?, FRAGMENT_MASK)?;
    match protocol {
        PROTOCOL_TCP | PROTOCOL_UDP => half(payload, PORT_DESTINATION),
        PROTOCOL_ICMP => match u32::from(*payload.first()?) {
            ICMP_ECHO_REPLY => half(payload, ICMP_IDENTIFIER),
            kind if ICMP_ERRORS.contains(&kind) => {
                // Any part of a datagram but the first has no ports to quote.
                let quoted = payload.get(at(ICMP_HEADER_BYTES)..)?;
                let (protocol, payload) = after_header(quoted, OFFSET_MASK)?;
                match protocol {
                    PROTOCOL_TCP | PROTOCOL_UDP => half(payload, PORT_SOURCE),
                    PROTOCOL_ICMP => half(payload, ICMP_IDENTIFIER),
                    _ => None,
                }
            }
            _ => None,
        },
        _ => None,
    }
}

/// The protocol of an IPv4 packet, and what follows its header; `None` for one with a bit of these
/// in its fragment field.
fn after_header(ip: &[u8], fragment: u32) -> Option<(u32, &[u8])> {
    if u32::from(half(ip, IP_FRAGMENT)?) & fragment != 0 {
        return None;
    }
    let header_bytes = usize::from(ip.first()? & 0xf) * 4;
    Some((
        u32::from(*ip.get(at(IP_PROTOCOL))?),
        ip.get(header_bytes..)?,
    ))
}

fn half(bytes: &[u8], offset: u32) -> Option<u16> {
    Some(u16::from_be_bytes(
        *bytes.get(at(offset)..)?.first_chunk::<2>()?,
    ))
}

fn at(offset: u32) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// How many ports a slice has, so that [`steering`] cuts them as [`nat::owner_of`] does.
#[must_use]
pub fn ports_per_slice(ports: &RangeInclusive<u16>, slices: u16) -> u16 {
    let owned = ports
        .clone()
        .take_while(|port| owner_of(ports, slices, *port) == Some(0));
    u16::try_from(owned.count()).unwrap_or(u16::MAX)
}

/// The part of a steering that takes the port out of the packet an ICMP error quotes; X is the
/// length of the outer header.
fn load_quoted_port(code: &mut Assembler) {
    use Label::{Next, Quoted, QuotedEcho, QuotedPorts, Slice, Zero};
    let quoted = NET + ICMP_HEADER_BYTES;
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
}

/// The ranges in ascending order, with those that touch made one; one that spans all where they are
/// more than `ranges_max`.
fn merge(ports: &[RangeInclusive<u16>], ranges_max: usize) -> Vec<RangeInclusive<u16>> {
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
        (Some(first), Some(last)) if merged.len() > ranges_max => {
            vec![*first.start()..=*last.end()]
        }
        _ => merged,
    }
}

/// Offset of the type in an untagged Ethernet header.
pub(super) const ETHERTYPE: u32 = 12;
pub(super) const ETHERTYPE_IPV4: u32 = 0x0800;
const ETHERTYPE_ARP: u32 = 0x0806;
const PACKET_OUTGOING: u32 = 4;
const VLAN_ID_MASK: u32 = 0xfff;
const PROTOCOL_ICMP: u32 = 1;
pub(super) const PROTOCOL_TCP: u32 = 6;
const PROTOCOL_UDP: u32 = 17;
const ICMP_ECHO_REPLY: u32 = 0;
/// Destination unreachable, time exceeded, parameter problem (RFC 792).
const ICMP_ERRORS: [u32; 3] = [3, 11, 12];

/// Offsets within an IPv4 header (RFC 791 3.1) and within what follows it.
pub(super) const IP_FRAGMENT: u32 = 6;
pub(super) const IP_PROTOCOL: u32 = 9;
pub(super) const IP_DESTINATION: u32 = 16;
const PORT_SOURCE: u32 = 0;
const PORT_DESTINATION: u32 = 2;
const ICMP_IDENTIFIER: u32 = 4;
const ICMP_HEADER_BYTES: u32 = 8;
/// More-fragments flag and fragment offset; the offset alone.
pub(super) const FRAGMENT_MASK: u32 = 0x3fff;
const OFFSET_MASK: u32 = 0x1fff;

/// Where the IP header is, for a program that sees the whole frame, and for one that asks for it.
pub(super) const FRAME_IP: u32 = 14;
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
    Packet,
    Ports,
    ToUdp,
    UdpPorts,
    Quoted,
    QuotedPorts,
    QuotedEcho,
    Echo,
    Slice,
    Last,
    Below,
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

    /// Loads the IPv4 destination, or as many bits of it.
    fn load_destination(&mut self, prefix: u8) {
        self.op(LOAD_WORD, FRAME_IP + IP_DESTINATION);
        if prefix < 32 {
            self.op(BPF_ALU | BPF_AND | BPF_K, mask(prefix));
        }
    }

    /// Takes a packet whose destination port is one of those, and no other.
    fn accept_ports(&mut self, ports: &[RangeInclusive<u16>], ranges_max: usize) {
        self.op(LOAD_X_IP_HEADER_BYTES, FRAME_IP);
        self.op(LOAD_HALF_AT_X, FRAME_IP + PORT_DESTINATION);
        for range in merge(ports, ranges_max) {
            self.within(u32::from(*range.start()), u32::from(*range.end()));
            self.op(BPF_RET | BPF_K, u32::MAX);
        }
        self.op(BPF_RET | BPF_K, 0);
    }

    /// How many instructions a jump at `from` to `label` skips. Jumps lead forward only.
    fn distance(&self, from: usize, label: Label) -> usize {
        let place = self.places.iter().find(|(placed, _)| *placed == label);
        place.map_or(0, |(_, to)| to - from - 1)
    }

    /// Fills in the jumps: all their places are known.
    fn resolve(&mut self) {
        // The tests' jumps lead within code of one shape, whatever the arguments: a test runs it.
        let near = |skipped| u8::try_from(skipped).expect("labels lie within 255 instructions");
        for (at, yes, no) in std::mem::take(&mut self.jumps) {
            let (yes, no) = (self.distance(at, yes), self.distance(at, no));
            if let Some(instruction) = self.code.get_mut(at) {
                if u32::from(instruction.code) == BPF_JMP | BPF_JA {
                    instruction.k = u32::try_from(yes).unwrap_or(u32::MAX);
                } else {
                    instruction.jt = near(yes);
                    instruction.jf = near(no);
                }
            }
        }
    }

    fn finish(mut self) -> Program {
        self.resolve();
        Program {
            instructions: self.code,
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
