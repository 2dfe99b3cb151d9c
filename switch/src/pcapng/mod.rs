//! Captures as bytes: pcapng written and read, classic pcap read.
//!
//! # Theory of operation
//! A pcapng file (draft-ietf-opsawg-pcapng) is a row of blocks, each with its type, its length in
//! front and again at its end. A section header begins a section and tells the byte order;
//! interface descriptions follow and are counted from 0 within their section; each packet names
//! its interface. Most blocks end in options: code, length, value padded to 32 bits.
//!
//! | block | written | read |
//! |---|---|---|
//! | section header (SHB) | yes | yes, several, in both byte orders |
//! | interface description (IDB) | yes | yes, any `if_tsresol` and `if_tsoffset` |
//! | enhanced packet (EPB) | yes | yes |
//! | simple packet (SPB), packet (PB, obsolete) | no | yes |
//! | interface statistics (ISB) | yes | what was lost |
//! | name resolution (NRB) | yes | skipped |
//! | all others | no | skipped |
//!
//! [`Writer`] appends blocks to a buffer of its own, which its owner writes out and clears: once
//! the buffer has grown, a packet costs no allocation. It writes little endian, times in
//! nanoseconds, and never fails: what is too long for its field is cut.
//!
//! [`Reader`] holds one block at a time, and nothing is believed that the bytes do not bear out: a
//! length allocates no memory before its bytes have come. A file is read as far as it is sound,
//! and the first fault ends it, with the offset of the block in which it lies. A capture that is
//! cut off in the middle of a block is a fault as well; one that ends after a block is whole.
//!
//! A classic pcap file has one interface without a name. Its two magic numbers tell byte order,
//! and microseconds from nanoseconds.
//!
//! Only Ethernet is read: of any other link type the switch knows nothing.

mod blocks;
mod classic;
mod error;
mod linktype;
mod options;
mod packet;
mod read;
mod stream;
#[cfg(test)]
mod tests;
mod write;

pub use error::{Fault, ReadError};
pub use linktype::LinkType;
pub use packet::Packet;
pub use read::{Interface, Item, Reader, Section};
pub use stream::{Block, Blocks};
pub use write::{InterfaceInfo, PacketInfo, SectionInfo, StatisticsInfo, Writer};

/// The longest block that is read or written, header and trailer included, as in Wireshark.
pub const BLOCK_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// The longest packet that is written: more than Wireshark reads (`WTAP_MAX_PACKET_SIZE_STANDARD`)
/// helps nobody, and it is four times the longest frame.
pub const PACKET_BYTES_MAX: usize = 262_144;

/// Interfaces of one file, over all its sections: as many as a switch has ports, for each of
/// eight sections.
pub const INTERFACES_MAX: usize = 8 * crate::limits::PORTS_MAX;

/// Whether a packet came or went, as seen by the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// It came in.
    Inbound,
    /// It was sent.
    Outbound,
}
