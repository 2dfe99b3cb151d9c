//! NAT44 as a pure function of bytes and time: a packet goes in, comes out translated in place,
//! and its fate is one [`Outcome`]. No I/O, no clock, no thread, no dependency.
//!
//! # Theory of operation
//! A [`Nat`] owns one *slice* of the ports of the external addresses; each worker has one engine,
//! and [`owner_of`] says which slice a port belongs to, unless it is published or adopted. Inside
//! endpoint 10.9.0.2:5555 sends to 203.0.113.1:53; the engine makes
//! * a *mapping* 10.9.0.2:5555 <-> 203.0.113.254:40000, the same for every destination
//!   (endpoint-independent, RFC 4787 REQ-1), with the inside port if it is free; and under it
//! * a *session* with the remote endpoint 203.0.113.1:53, which is what filtering, timers and
//!   TCP states are about. It holds the finished edit of each direction, so a later packet costs
//!   one keyed hash lookup and the replay of that edit.
//!
//! A mapping ends with its last session. Ports that cannot be kept are drawn by a keyed function
//! of the inside endpoint, so they are unguessable outside and the same again after a flush. Of
//! several external addresses a host keeps one, and a port that came free is held for its last
//! host for a while.
//!
//! Every table has its size from the start, and every inside host an account with quotas
//! (`quota`). Who finds no room gets it from finished sessions of the same host; then TCP ports are
//! shared towards different remotes; then the session is refused and counted. Nothing live is
//! evicted: only what outsiders began and nobody completed makes room for its like (`strangers`).
//!
//! *Published* ports ([`Publishes`]) lead any outsider to an inside endpoint, by sessions that have
//! no mapping and live in the entry's slice; the others answer [`Outcome::Elsewhere`], in both
//! directions. Sessions can be recorded and restored ([`Nat::snapshot`], [`Nat::restore`]) with
//! their ports, which a slice adopts if they are not its own ([`Adopted`]).
//!
//! Checksums are only ever updated by differences, by the formula that suits what the field holds
//! ([`L4Sum`]). Packets between inside hosts by way of an external address are turned back
//! ([`Outcome::Hairpin`]) with the external source and enter through [`Nat::hairpin`], exempt from
//! filtering. Fragments follow their first one in any order, and [`Nat::released`] gives back
//! those that had to wait.
//!
//! SCTP keeps its ports and other protocols have none: only their addresses are translated, by
//! the engine of the first slice (`other`). Packets that are or may become fragments get an
//! identification that is unique behind the external address (`ids`). FTP and TFTP are helped
//! through if asked (`alg`).
//!
//! Left to the caller: routing, TTL, MTU, MSS (but see [`clamp_mss`]), answering with ICMP errors,
//! IPv4 header checksums of what it receives. Left out for now: logging of mappings.
//!
//! # Example
//! ```
//! use nat::{Config, L4Sum, Nanos, Nat, Outcome, Packet};
//! # use nat::wire::{Ipv4, Ipv4Header, protocol};
//! # let header = Ipv4Header { payload_len: 8, protocol: protocol::UDP,
//! #     src: [10, 9, 0, 2].into(), dst: [203, 0, 113, 1].into(), ..Ipv4Header::default() };
//! # let mut bytes = header.to_bytes().to_vec();
//! # bytes.extend([0x15, 0xb3, 0, 53, 0, 8, 0, 0]);
//! let mut nat = Nat::new(Config::new([203, 0, 113, 254].into(), 40_000..=60_999), 42);
//! let mut packet = Packet { bytes: &mut bytes, l4_sum: L4Sum::Full };
//! assert_eq!(nat.outbound(&mut packet, Nanos::from_secs(1)), Outcome::Translated);
//! let session = nat.sessions().next().unwrap();
//! assert_eq!(session.inside, ([10, 9, 0, 2].into(), 5555));
//! assert_eq!(Ipv4::parse(&bytes).unwrap().src(), session.external.0);
//! ```
//!
//! # Requirements and their tests
//! A requirement has a short ID of its own; a test's name begins with its ID in lower case. What is
//! around the engine, from ARP to the log, has its table in ARCHITECTURE.md. A test checks both.
//!
//! | ID | requirement | tests in |
//! |---|---|---|
//! | A0-2 A0-3 | the host's ports and identifiers are not ours | `tests::udp`, `tests::icmp` |
//! | A0-4 A0-8 | partial checksums; wrong ones stay wrong | `tests::properties`, `tests::udp` |
//! | A1-1 A1-3 A1-4 | RFC 4787 REQ-1, 3, 4: mapping, class, parity | `tests::udp`, `pool` |
//! | A1-2 A2-16 | RFC 4787 REQ-2, RFC 7857 section 4: paired pooling | `tests::mappings` |
//! | A1-5 A1-6 | REQ-5, 6: timers, refresh from inside only | `tests::udp` |
//! | A1-8 A1-9 A1-11 | REQ-8, 9, 11: filtering, hairpin, determinism | `tests::{udp, properties}` |
//! | A1-12 | REQ-12: errors end no mapping | `tests::icmp` |
//! | A1-14 A5-1 A5-2 A5-3 | REQ-14: fragments in any order, bounded | `tests::fragments` |
//! | A1-15 A1-16 | UDP zero sums, RFC 1624 equation 3 | `checksum`, `tests::udp` |
//! | A1-17 A1-18 | SCTP, other protocols; refused ones | `tests::{sctp, other}`, `sctp` |
//! | A2-1 A2-2 A2-3 A2-3b A2-3c | RFC 5382 REQ-1 to 4, 7 to 10 | `tests::tcp`, `tcp` |
//! | A2-1 | RFC 7857 section 3: ports shared by remote | `tests::mappings::sharing` |
//! | A2-4 A2-5 A2-6 | REQ-5; RFC 7857 section 2: timers, RST, reopening | `tests::tcp`, `tcp` |
//! | A2-7 | RFC 6888 REQ-8: ports held; finished sessions make room | `pool`, `tests::mappings` |
//! | A2-8 A2-14 A2-16 F-10 | no window; what is untouched, what refreshes | `tests::untouched` |
//! | A2-9 A2-10 A2-15 | mid-stream pick-up, flag sets, state table | `tests::tcp`, `tcp` |
//! | A2-12 | MSS lowered on SYNs | `mss` |
//! | A3-1 to A3-6 | RFC 5508 REQ-1 to 7: queries and errors | `tests::icmp` |
//! | A3-7 F-7 | quotas of inside hosts | `tests::mappings::accounts` |
//! | A3-8 A3-9 A3-10 | unrelated errors, refused types; options | `tests::{icmp, untouched}` |
//! | A4-1 A4-2 A4-4 | choice, exhaustion, half-open cap | `pool`, `tests::{udp, tcp, mappings}` |
//! | A4-3 | bytes per session | `memory`, `session`, `index`, `wheel` |
//! | A4-4b F-8 | floods: caps, pace, second SYN | `tests::{strangers, mappings}`, `switch::port` |
//! | A4-8 | RFC 7659: counters | `tests::mappings::accounts` |
//! | A4-4c | RFC 6888 REQ-3, 13: pools, all ports used | `tests::mappings` |
//! | A4-10 | restart: records, adopted ports | `tests::restart`, `adopted`, `tcp` |
//! | A4-11 A4-12 | change of address; keyed hashes, bounded expiry | `tests::{mappings, udp}` |
//! | A5-4 A5-5 | identifications; FTP and TFTP | `ids`, `tests::{ids, alg}`, `alg` |
//! | A6-1 A6-3 A6-6 A6-7 A6-8 | published ports | `tests::publish`, `publish` |
//! | F-13 F-16 F-16c | bad packets, loops, collisions | `tests::{properties, udp}`, `index` |
#![forbid(unsafe_code)]

mod admission;
mod adopted;
mod alg;
mod carry;
mod cells;
mod census;
pub mod checksum;
mod config;
mod connection;
mod engine;
mod events;
mod externals;
mod few;
mod flow;
mod fragment;
mod hash;
mod icmp;
mod ids;
mod index;
mod knocks;
mod lend;
mod list;
mod mapping;
mod memory;
mod mss;
mod observe;
mod other;
mod outcome;
mod pace;
mod peers;
mod pool;
mod publish;
mod published;
mod quota;
mod recent;
mod remains;
mod rewrite;
mod sctp;
mod selection;
mod session;
mod slab;
mod snapshot;
mod strangers;
mod tcp;
#[cfg(test)]
mod tests;
mod time;
mod trial;
mod wheel;
pub mod wire;

pub use adopted::Adopted;
pub use census::{Census, Kind};
pub use config::{
    Config, ConfigError, EXTERNALS_MAX, Filtering, FragmentLimits, Helpers, Quota, SESSIONS_MAX,
    Timeouts,
};
pub use engine::{Nat, Packet};
pub use events::{EVENTS_MAX, Event, MappingView, What};
pub use fragment::ReleasedPacket;
pub use knocks::{KNOCK_GAP, KNOCK_PLACES, KNOCK_UNIT_SHIFT};
pub use lend::{SessionId, Steady};
pub use mss::clamp_mss;
pub use observe::Observer;
pub use outcome::{Counters, Direction, NatV2, Outcome, Reason};
pub use pool::owner_of;
pub use publish::{Publish, PublishError, Publishes, Target};
pub use quota::HostView;
pub use remains::{HeldPort, Remains};
pub use rewrite::{L4Sum, Protocol};
pub use selection::{Part, Selection, Subnet};
pub use session::{SessionView, Traffic};
pub use snapshot::{RestoreError, SessionRecord};
pub use time::Nanos;
