//! NAT44 as a pure function of bytes and time.
#![forbid(unsafe_code)]

pub mod checksum;
mod time;
pub mod wire;

pub use time::Nanos;
