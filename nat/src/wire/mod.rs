//! IPv4, TCP, UDP, SCTP and ICMP headers as checked views of bytes.
//!
//! A view borrows bytes (`&[u8]` to read, `&mut [u8]` to edit) and checks once, in `parse`, that
//! every fixed field lies inside them; afterwards no accessor can fail or panic. Setters write
//! the field and nothing else unless their name says so (`replace_*`, `decrement_ttl` and
//! `fill_checksum` also keep a checksum right).
//!
//! ```
//! use nat::wire::{Ipv4, Ipv4Header, protocol};
//!
//! let header = Ipv4Header { payload_len: 8, ttl: 64, protocol: protocol::UDP,
//!     src: [10, 9, 0, 2].into(), dst: [203, 0, 113, 1].into(), ..Ipv4Header::default() };
//! let mut packet = [0u8; 28];
//! packet[..20].copy_from_slice(&header.to_bytes());
//! let mut ip = Ipv4::parse(&mut packet[..]).unwrap();
//! assert!(ip.verify_checksum());
//! ip.decrement_ttl();
//! assert!(ip.ttl() == 63 && ip.verify_checksum());
//! ```

mod ipv4;
mod sctp;
mod transport;

pub use ipv4::{Ipv4, Ipv4Error, Ipv4Header};
pub use sctp::{Sctp, sctp_chunk};
pub use transport::{Icmp, Tcp, TcpFlags, TransportError, Udp, icmp};

/// IP protocol numbers (IANA).
pub mod protocol {
    /// Internet Control Message Protocol (RFC 792).
    pub const ICMP: u8 = 1;
    /// Transmission Control Protocol (RFC 9293).
    pub const TCP: u8 = 6;
    /// User Datagram Protocol (RFC 768).
    pub const UDP: u8 = 17;
    /// Datagram Congestion Control Protocol (RFC 4340).
    pub const DCCP: u8 = 33;
    /// Stream Control Transmission Protocol (RFC 9260).
    pub const SCTP: u8 = 132;
    /// UDP-Lite (RFC 3828).
    pub const UDP_LITE: u8 = 136;
}

fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

#[cfg(test)]
mod tests;
