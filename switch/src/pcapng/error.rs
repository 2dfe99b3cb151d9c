//! What is wrong with a capture, and where.

use std::fmt::{self, Write as _};
use std::io;

use super::{BLOCK_BYTES_MAX, INTERFACES_MAX, LinkType};

/// A capture that cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}: {fault}")]
pub struct ReadError {
    /// Where the block begins in which the fault lies, in bytes from the start of the file.
    pub offset: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a block, or with a classic file's header or packet.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The bytes could not be had.
    #[error("cannot read on: {0}")]
    Io(#[from] io::Error),
    /// There are no bytes at all.
    #[error("the file is empty")]
    Empty,
    /// The first four bytes are those of something else.
    #[error("this is neither pcapng nor pcap: it begins with {}", Magic(*.0))]
    Foreign([u8; 4]),
    /// A version that nobody has written yet.
    #[error("version {major}.{minor} of the format is not known")]
    Version {
        /// The number before the full stop.
        major: u16,
        /// The number behind it.
        minor: u16,
    },
    /// A section header whose byte-order magic is neither way round.
    #[error("a section header without byte-order magic: {0:#010x}")]
    ByteOrder(u32),
    /// The file ends within a block.
    #[error("the file is cut off: {found} of {wanted} bytes are there")]
    Truncated {
        /// Bytes the block or its header should have.
        wanted: u64,
        /// Bytes of it there are.
        found: u64,
    },
    /// A block's length is no multiple of four.
    #[error("the block's length {0} is not a multiple of 4")]
    UnevenLength(u32),
    /// A block's length is too small for what it must hold.
    #[error("the block's length {length} is too small: a block of type {kind} has {least} bytes")]
    ShortLength {
        /// The block's type.
        kind: u32,
        /// The length it has.
        length: u32,
        /// The least it can have.
        least: u32,
    },
    /// A block is longer than [`BLOCK_BYTES_MAX`].
    #[error("the length {0} is beyond the {BLOCK_BYTES_MAX} bytes that are read at once")]
    TooLong(u32),
    /// The length in front of a block and the one behind it differ.
    #[error("the block's length is {front} in front and {behind} at its end")]
    TrailingLength {
        /// The length in front.
        front: u32,
        /// The length behind.
        behind: u32,
    },
    /// A packet of an interface that has not been described.
    #[error("a packet of interface {interface}, of {known} that are described")]
    NoSuchInterface {
        /// The number in the packet.
        interface: u32,
        /// Interfaces this section has so far.
        known: usize,
    },
    /// A packet with more bytes than its block.
    #[error("a packet of {captured} bytes in a block with room for {room}")]
    PacketLength {
        /// Bytes the packet claims to have.
        captured: u32,
        /// Bytes the block has for it.
        room: usize,
    },
    /// An option that ends beyond its block.
    #[error("option {code} of {length} bytes does not fit in its block")]
    OptionLength {
        /// The option's code.
        code: u16,
        /// Its length.
        length: u16,
    },
    /// An option whose value has a length that it cannot have.
    #[error("option {code} of {length} bytes should have {wanted}")]
    OptionValue {
        /// The option's code.
        code: u16,
        /// Its length.
        length: usize,
        /// The length it should have.
        wanted: usize,
    },
    /// A packet's time is not one that 64 bits of nanoseconds since 1970 can hold.
    #[error("a packet's time lies before the year 1970 or after 2554")]
    Time,
    /// The frames are no Ethernet frames.
    #[error("the link type is {0}, and only ETHERNET can be read")]
    LinkType(LinkType),
    /// More interfaces than [`INTERFACES_MAX`].
    #[error("there are more than {INTERFACES_MAX} interfaces")]
    TooManyInterfaces,
}

/// The first bytes of a file, with the name of what begins so.
struct Magic([u8; 4]);

impl Magic {
    const fn name(&self) -> Option<&'static str> {
        Some(match self.0 {
            [0x1f, 0x8b, ..] => "gzip; fix: gunzip it",
            [0x28, 0xb5, 0x2f, 0xfd] => "zstd; fix: unzstd it",
            [0xfd, b'7', b'z', b'X'] => "xz; fix: unxz it",
            [0x04, 0x22, 0x4d, 0x18] => "lz4; fix: unlz4 it",
            [b'P', b'K', 3, 4] => "zip; fix: unzip it",
            [b's', b'n', b'o', b'o'] => "snoop; fix: editcap -F pcapng FILE NEW",
            [0xa1, 0xb2, 0xcd, 0x34] | [0x34, 0xcd, 0xb2, 0xa1] => {
                "a patched pcap; fix: editcap -F pcapng FILE NEW"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Magic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{byte:02x}")?;
        }
        match self.name() {
            Some(name) => write!(f, " ({name})"),
            None => Ok(()),
        }
    }
}
