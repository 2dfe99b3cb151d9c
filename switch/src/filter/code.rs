//! What a filter is made into: tests, each with the two places to go on at.
//!
//! The shape is that of libpcap's blocks: every test knows where to continue when it holds and
//! when it does not, always further on, so `and`, `or` and `not` cost nothing when a frame is
//! looked at and parentheses leave no trace.

use super::About;
use super::value::{Comparison, Value};
use crate::mac::Mac;

/// The step that stands for "matches".
pub(super) const ACCEPT: u16 = u16::MAX;
/// The step that stands for "does not match".
pub(super) const REJECT: u16 = u16::MAX - 1;

/// Which of two addresses or ports a test asks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
    Either,
    Both,
}

/// A set of protocols, bit by bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set(pub(super) u8);

impl Set {
    pub(super) const IPV4: Self = Self(1);
    pub(super) const IPV6: Self = Self(2);
    pub(super) const ARP: Self = Self(4);
    pub(super) const RARP: Self = Self(8);
    pub(super) const TCP: Self = Self(16);
    pub(super) const UDP: Self = Self(32);
    pub(super) const SCTP: Self = Self(64);

    pub(super) const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// An IPv6 prefix: words of the address, and which of their bits count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prefix6 {
    pub(super) words: [u32; 4],
    pub(super) mask: [u32; 4],
}

/// One question about a frame. `at` is where the EtherType in question begins: 12, and 4 more for
/// every `vlan` to the left in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Test {
    /// The EtherType.
    EtherType { at: u16, value: u16 },
    /// An 802.3 length and an LLC header with this destination SAP; both SAPs if `pair`.
    Llc { at: u16, sap: u8, pair: bool },
    /// A tag, with this identifier or any.
    Vlan { at: u16, id: Option<u16> },
    /// Ethernet addresses.
    Mac { side: Side, mac: Mac },
    /// The destination is a group address.
    Group,
    /// IPv4 addresses, of the protocols in `of` (IPv4, ARP, RARP).
    Ipv4 {
        at: u16,
        of: Set,
        side: Side,
        net: u32,
        mask: u32,
    },
    /// IPv6 addresses.
    Ipv6 {
        at: u16,
        side: Side,
        prefix: Box<Prefix6>,
    },
    /// An IPv4 destination in 224.0.0.0/4.
    Multicast4 { at: u16 },
    /// An IPv6 destination in ff00::/8.
    Multicast6 { at: u16 },
    /// The protocol above IP, of the versions in `over`; behind an IPv6 fragment header as well.
    Transport { at: u16, over: Set, protocol: u8 },
    /// The first fragment or no fragment, for a frame known to be IPv4.
    FirstFragment { at: u16 },
    /// The IPv6 header's next header, for a frame known to be IPv6.
    NextHeader { at: u16, protocol: u8 },
    /// Ports in a range, of the protocols in `of` (TCP, UDP, SCTP).
    Ports {
        at: u16,
        of: Set,
        side: Side,
        low: u16,
        high: u16,
    },
    /// A comparison of two values.
    Compare(Box<(Value, Comparison, Value)>),
    /// The frame or this copy was dropped.
    Dropped,
    /// It was dropped for this reason.
    Reason(&'static str),
    /// It came in or went out by this port.
    On(Box<str>),
    /// NAT translated it.
    Translated,
    /// This worker decided on it.
    Worker(u16),
}

impl Test {
    /// What it asks of the record, if it is not about bytes.
    pub(super) fn about(&self) -> Option<About<'_>> {
        match self {
            Self::Dropped => Some(About::Drop),
            Self::Reason(word) => Some(About::Reason(word)),
            Self::On(port) => Some(About::Port(port)),
            Self::Translated => Some(About::Nat),
            Self::Worker(worker) => Some(About::Worker(*worker)),
            Self::EtherType { .. }
            | Self::Llc { .. }
            | Self::Vlan { .. }
            | Self::Mac { .. }
            | Self::Group
            | Self::Ipv4 { .. }
            | Self::Ipv6 { .. }
            | Self::Multicast4 { .. }
            | Self::Multicast6 { .. }
            | Self::Transport { .. }
            | Self::FirstFragment { .. }
            | Self::NextHeader { .. }
            | Self::Ports { .. }
            | Self::Compare(_) => None,
        }
    }
}

/// A test and where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) test: Test,
    pub(super) yes: u16,
    pub(super) no: u16,
}

/// An exit of a step: which step, and on which answer.
type Exit = (u16, bool);

/// A run of steps whose exits are still open.
#[derive(Debug)]
pub(super) struct Block {
    start: u16,
    yes: Vec<Exit>,
    no: Vec<Exit>,
}

impl Block {
    /// The same question with the answers swapped.
    pub(super) fn not(self) -> Self {
        Self {
            start: self.start,
            yes: self.no,
            no: self.yes,
        }
    }
}

/// The steps so far. Blocks are joined in the order in which they were made.
#[derive(Debug, Default)]
pub(super) struct Code {
    steps: Vec<Step>,
}

impl Code {
    /// Appends a test; `None` if there are too many (a text of the longest length has not).
    pub(super) fn test(&mut self, test: Test) -> Option<Block> {
        let start = u16::try_from(self.steps.len()).ok();
        let start = start.filter(|&start| start < REJECT)?;
        self.steps.push(Step {
            test,
            yes: ACCEPT,
            no: REJECT,
        });
        Some(Block {
            start,
            yes: vec![(start, true)],
            no: vec![(start, false)],
        })
    }

    pub(super) fn and(&mut self, first: Block, then: Block) -> Block {
        self.close(&first.yes, then.start);
        let mut no = first.no;
        no.extend(then.no);
        Block {
            start: first.start,
            yes: then.yes,
            no,
        }
    }

    pub(super) fn or(&mut self, first: Block, then: Block) -> Block {
        self.and(first.not(), then.not()).not()
    }

    /// Closes the last exits: the answers of the whole filter.
    pub(super) fn finish(mut self, whole: &Block) -> Box<[Step]> {
        self.close(&whole.yes, ACCEPT);
        self.close(&whole.no, REJECT);
        self.steps.into_boxed_slice()
    }

    fn close(&mut self, exits: &[Exit], to: u16) {
        for &(step, answer) in exits {
            let step = &mut self.steps[usize::from(step)];
            let exit = if answer { &mut step.yes } else { &mut step.no };
            *exit = to;
        }
    }
}
