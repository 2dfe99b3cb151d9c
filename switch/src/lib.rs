//! The data plane of vswitch.
//!
//! vswitch is about **frames**, **ports** and **verdicts**. A [`frame::Frame`] is an Ethernet frame
//! with its offload state, borrowed from a ring. A [`port`] is where frames come in and go out. A
//! [`verdict::Verdict`] is the one fate of a frame.
//!
//! The path of a frame, top to bottom, is the order in which to read this crate:
//!
//! ```text
//! worker::Worker::poll_once    for each rx half this worker owns
//!   port::Rx::fill               lend up to 64 frames of the ring as a Batch
//!   pipeline::process            bytes in, verdicts out: no syscall, no allocation, no clock
//!     ethernet::parse              or Drop(reason)
//!     admit                        reserved addresses, spoofs; learn source -> ingress port
//!     gateway                      frames for the gateway: ARP, ICMP, TTL, NAT, next hop
//!     fdb::Fdb::lookup             destination address -> port or flood
//!   dispatch                     one plain loop per verdict; one sendmmsg per batch
//!   port::Rx::release            slots back to the kernel
//! worker::Worker::tick         mailbox, ageing, expiry: bounded work
//! drops                        what was dropped last, always kept
//! latency                      how long it took, of some batches
//! trace                        every decision written down, where somebody traces
//! ```
//!
//! Everything but the system calls also runs in the simulator ([`port::sim`]): time is an argument
//! ([`nat::Nanos`]), randomness is seeded, and workers can be stepped on one thread.

pub mod config;
pub mod counters;
pub mod dispatch;
pub mod drops;
pub mod ethernet;
pub mod fdb;
pub mod filter;
pub mod frame;
pub mod gateway;
pub mod gso;
pub mod hold;
pub mod journal;
pub mod latency;
pub mod limits;
pub mod mac;
pub mod neigh;
pub mod pcapng;
pub mod pipeline;
pub mod port;
pub mod random;
pub mod stations;
pub mod switch;
pub mod table;
pub mod trace;
pub mod verdict;
pub mod what_if;
pub mod worker;
