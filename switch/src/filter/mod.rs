//! Which frames somebody wants to see: tcpdump's words, and some of our own.
//!
//! # Theory of operation
//! [`Filter::parse`] makes a row of steps of a text. Each step is one question about a frame and
//! names the step to go on at when the answer is yes and when it is no; [`Filter::matches`]
//! follows them. That is the shape of a BPF program, with larger questions ("an IPv4, ARP or RARP
//! address in this subnet") in the place of loads and jumps. It allocates nothing, and a frame
//! costs as many questions as are needed to know.
//!
//! The words mean what they mean in pcap-filter(7), to the letter where that surprises:
//! * `and` and `or` bind equally and from the left: `a or b and c` is `(a or b) and c`;
//! * `vlan` moves everything to the right of it, in the text, behind the tag;
//! * ports are those of a first fragment, and in IPv6 only right behind the fixed header;
//! * a question about bytes beyond the frame's end makes the whole filter say no, `not` or not,
//!   because a BPF program ends there (`eval`). So the order of the questions counts, and is
//!   the order of libpcap's code before its optimizer.
//!
//! The differential test (`tests`) gives random filters to libpcap as well, runs its program in
//! an interpreter, and wants the same answer for every frame.
//!
//! # The words
//! | words | match |
//! |---|---|
//! | `[src\|dst] host A` | IPv4 address of IP, ARP or RARP; or IPv6 address |
//! | `[src\|dst] net A/N`, `net A mask M`, `net 10.9`, `net 2001:db8::/32` | the same, by prefix |
//! | `ip`, `ip6`, `arp`, `rarp` before `host` or `net` | of that protocol only |
//! | `ether [src\|dst] host MAC` | Ethernet address |
//! | `[tcp\|udp\|sctp] [src\|dst] port P` | a port by number or service |
//! | `[tcp\|udp\|sctp] [src\|dst] portrange A-B` | a port in a range |
//! | `src or dst`, `src and dst` | either (as without), or both ends |
//! | `ip ip6 arp rarp stp` | the EtherType; `stp`: 802.2 to SAP 0x42 |
//! | `icmp icmp6 igmp tcp udp sctp ah esp pim vrrp` | the protocol above IP |
//! | `[ip\|ip6] proto N`, `ether proto N` | the same by number or name |
//! | `vlan [ID]` | a tag; what follows is about what is behind it |
//! | `[ether] broadcast`, `[ether\|ip\|ip6] multicast` | the destination |
//! | `less N`, `greater N` | bytes of the frame: at most, at least |
//! | `PROTO[OFFSET:BYTES] RELATION VALUE` | bytes of a header: 1, 2 or 4; `= == != < <= > >=` |
//! | `len`, numbers, `+ - * / & \| << >>`, `( )` | values; so are `(A ^ B)` and `(A % B)` |
//! | `drop`, `reason WORD` | our verdict is a drop, for this reason |
//! | `on PORT` | came in or went out there |
//! | `nat`, `worker N` | translated; decided by this worker |
//! | `not !`, `and &&`, `or \|\|`, `( )` | combinations |
//! | `port 80 or 443`, `host A or B`, `on A or B` | what stood before the first is meant again |

mod code;
mod error;
mod eval;
mod lex;
mod operand;
mod parse;
mod relation;
#[cfg(test)]
mod tests;
mod value;
mod words;

use std::fmt;
use std::str::FromStr;

pub use error::FilterError;

use code::Step;

/// The most bytes the text of a filter may have.
pub const TEXT_MAX: usize = 4096;

/// How deep parentheses, brackets and operators may nest.
pub const DEPTH_MAX: u8 = 64;

/// What is known of a frame besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Metadata<'a> {
    /// Names of the ports it came in and went out by.
    pub ports: &'a [&'a str],
    /// The word of the reason it was dropped for ([`crate::verdict::DropReason::word`]).
    pub drop: Option<&'a str>,
    /// NAT rewrote it.
    pub translated: bool,
    /// The worker that gave the verdict.
    pub worker: u16,
}

/// What a filter asks of a frame's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About<'f> {
    /// `drop`
    Drop,
    /// `reason WORD`
    Reason(&'static str),
    /// `on PORT`
    Port(&'f str),
    /// `nat`
    Nat,
    /// `worker N`
    Worker(u16),
}

/// One frame to be matched, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The Ethernet frame, tags in their place; its first bytes, if it was cut.
    pub frame: &'a [u8],
    /// Bytes it had on the wire, which `len`, `less` and `greater` mean.
    pub length: u32,
    /// What else is known; without it none of `drop reason on nat worker` matches.
    pub metadata: Option<Metadata<'a>>,
}

impl<'a> Subject<'a> {
    /// A whole frame of which nothing else is known.
    #[must_use]
    pub fn frame(frame: &'a [u8]) -> Self {
        Self {
            frame,
            length: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            metadata: None,
        }
    }

    /// The same frame with what is known of it.
    #[must_use]
    pub fn with(self, metadata: Metadata<'a>) -> Self {
        Self {
            metadata: Some(metadata),
            ..self
        }
    }
}

/// A question about frames, made of a text once and asked often; the default matches every frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    text: Box<str>,
    steps: Box<[Step]>,
}

impl Filter {
    /// Makes a filter of a text; blanks are as good as nothing, and match every frame.
    ///
    /// Words are taken in upper and lower case, but for the names of ports.
    ///
    /// # Errors
    /// The text is no filter, is longer than [`TEXT_MAX`] bytes or nests deeper than
    /// [`DEPTH_MAX`]; the error says where, why, and what could stand there.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        Ok(Self {
            text: text.trim().into(),
            steps: parse::parse(text)?,
        })
    }

    /// Returns whether a frame is one of those asked for. Allocates nothing.
    #[must_use]
    pub fn matches(&self, subject: &Subject<'_>) -> bool {
        eval::matches(&self.steps, subject)
    }

    /// Returns whether a frame matches as it came or as it went: before or after NAT.
    ///
    /// The whole filter is asked twice: `not host A` matches what has A on one side only.
    #[must_use]
    pub fn matches_either(&self, before: &Subject<'_>, after: &Subject<'_>) -> bool {
        self.matches(before) || self.matches(after)
    }

    /// What it asks of the record (`drop reason on nat worker`), which bytes alone cannot answer.
    pub fn about(&self) -> impl Iterator<Item = About<'_>> {
        self.steps.iter().filter_map(|step| step.test.about())
    }

    /// Returns whether it asks anything of the record.
    #[must_use]
    pub fn needs_metadata(&self) -> bool {
        self.about().next().is_some()
    }

    /// Returns whether it matches every frame because it asks nothing.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.steps.is_empty()
    }

    /// The text it was made of, without blanks around it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::parse(text)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
