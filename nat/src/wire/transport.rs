//! TCP (RFC 9293), UDP (RFC 768) and ICMP (RFC 792) headers.

use super::{get16, get32, put16, put32};
use std::ops::Range;

/// Why bytes are not the transport header they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TransportError {
    /// The header is cut off.
    Truncated,
    /// The TCP data offset is below 5 words or beyond the bytes at hand.
    DataOffset,
}

impl std::fmt::Display for TransportError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Truncated => "transport header is cut off",
            Self::DataOffset => "TCP data offset is out of range",
        })
    }
}

impl std::error::Error for TransportError {}

/// The flag byte of a TCP header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: Self = Self(0x01);
    /// Synchronise sequence numbers.
    pub const SYN: Self = Self(0x02);
    /// Reset the connection.
    pub const RST: Self = Self(0x04);
    /// Push.
    pub const PSH: Self = Self(0x08);
    /// The acknowledgement field counts.
    pub const ACK: Self = Self(0x10);
    /// The urgent pointer counts.
    pub const URG: Self = Self(0x20);
    /// ECN echo (RFC 3168).
    pub const ECE: Self = Self(0x40);
    /// Congestion window reduced (RFC 3168).
    pub const CWR: Self = Self(0x80);

    /// Returns whether every flag of `other` is set here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns the flags of both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl std::ops::BitOr for TcpFlags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.union(other)
    }
}

const PORT_SRC: usize = 0;
const PORT_DST: usize = 2;

macro_rules! ports {
    ($view:ident) => {
        impl<B: AsRef<[u8]>> $view<B> {
            /// Returns the source port.
            #[must_use]
            pub fn src_port(&self) -> u16 {
                get16(self.bytes.as_ref(), PORT_SRC)
            }

            /// Returns the destination port.
            #[must_use]
            pub fn dst_port(&self) -> u16 {
                get16(self.bytes.as_ref(), PORT_DST)
            }
        }

        impl<B: AsRef<[u8]> + AsMut<[u8]>> $view<B> {
            /// Sets the source port; the checksum is left alone.
            pub fn set_src_port(&mut self, port: u16) {
                put16(self.bytes.as_mut(), PORT_SRC, port);
            }

            /// Sets the destination port; the checksum is left alone.
            pub fn set_dst_port(&mut self, port: u16) {
                put16(self.bytes.as_mut(), PORT_DST, port);
            }
        }
    };
}

/// A checked view of a TCP segment.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<B> {
    bytes: B,
}

ports!(Tcp);

impl<B: AsRef<[u8]>> Tcp<B> {
    /// Length in bytes of a header without options.
    pub const HEADER_LEN_MIN: usize = 20;
    /// Offset of the checksum field in bytes.
    pub const CHECKSUM: usize = 16;

    /// Checks that the whole header, options included, is there.
    ///
    /// # Errors
    /// Returns an error if the header is cut off or its data offset is impossible.
    pub fn parse(bytes: B) -> Result<Self, TransportError> {
        let raw = bytes.as_ref();
        if raw.len() < Self::HEADER_LEN_MIN {
            return Err(TransportError::Truncated);
        }
        let header_len = usize::from(raw[12] >> 4) * 4;
        if header_len < Self::HEADER_LEN_MIN || header_len > raw.len() {
            return Err(TransportError::DataOffset);
        }
        Ok(Self { bytes })
    }

    /// Returns the sequence number.
    #[must_use]
    pub fn sequence(&self) -> u32 {
        get32(self.bytes.as_ref(), 4)
    }

    /// Returns the acknowledgement number.
    #[must_use]
    pub fn acknowledgement(&self) -> u32 {
        get32(self.bytes.as_ref(), 8)
    }

    /// Returns the header length in bytes, 20 to 60.
    #[must_use]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes.as_ref()[12] >> 4) * 4
    }

    /// Returns the flag byte.
    #[must_use]
    pub fn flags(&self) -> TcpFlags {
        TcpFlags(self.bytes.as_ref()[13])
    }

    /// Returns the checksum field.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        get16(self.bytes.as_ref(), Self::CHECKSUM)
    }

    /// Returns the options, padding included.
    #[must_use]
    pub fn options(&self) -> &[u8] {
        &self.bytes.as_ref()[Self::HEADER_LEN_MIN..self.header_len()]
    }
}

impl<B: AsRef<[u8]>> Tcp<B> {
    /// Finds the first option of a kind (RFC 9293 section 3.1) and returns where in
    /// [`Tcp::options`] its value lies; `None` if there is none, or one before it is malformed.
    #[must_use]
    pub fn find_option(&self, kind: u8) -> Option<Range<usize>> {
        const END: u8 = 0;
        const NOP: u8 = 1;
        let options = self.options();
        let mut at = 0;
        loop {
            let (found, length) = match *options.get(at)? {
                END => return None,
                NOP => (NOP, 1),
                found => (found, usize::from(*options.get(at + 1)?)),
            };
            let next = at + length;
            if next > options.len() || (found != NOP && length < 2) {
                return None;
            }
            if found == kind && found != NOP {
                return Some(at + 2..next);
            }
            at = next;
        }
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Tcp<B> {
    /// Sets the sequence number; the checksum is left alone.
    pub fn set_sequence(&mut self, number: u32) {
        put32(self.bytes.as_mut(), 4, number);
    }

    /// Sets the acknowledgement number; the checksum is left alone.
    pub fn set_acknowledgement(&mut self, number: u32) {
        put32(self.bytes.as_mut(), 8, number);
    }

    /// Sets the checksum field.
    pub fn set_checksum(&mut self, field: u16) {
        put16(self.bytes.as_mut(), Self::CHECKSUM, field);
    }

    /// Returns the options for editing (MSS clamping).
    pub fn options_mut(&mut self) -> &mut [u8] {
        let header_len = self.header_len();
        &mut self.bytes.as_mut()[Self::HEADER_LEN_MIN..header_len]
    }
}

/// A checked view of a UDP datagram.
#[derive(Clone, Copy, Debug)]
pub struct Udp<B> {
    bytes: B,
}

ports!(Udp);

impl<B: AsRef<[u8]>> Udp<B> {
    /// Length of the header in bytes.
    pub const HEADER_LEN: usize = 8;
    /// Offset of the checksum field in bytes.
    pub const CHECKSUM: usize = 6;

    /// Checks that the header is there.
    ///
    /// The length field is not compared with the bytes at hand: a first fragment holds less.
    ///
    /// # Errors
    /// Returns an error if there are fewer than 8 bytes.
    pub fn parse(bytes: B) -> Result<Self, TransportError> {
        if bytes.as_ref().len() < Self::HEADER_LEN {
            return Err(TransportError::Truncated);
        }
        Ok(Self { bytes })
    }

    /// Returns the length field in bytes: header and data.
    #[must_use]
    pub fn length(&self) -> u16 {
        get16(self.bytes.as_ref(), 4)
    }

    /// Returns the checksum field; zero means that the sender computed none.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        get16(self.bytes.as_ref(), Self::CHECKSUM)
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Udp<B> {
    /// Sets the checksum field.
    pub fn set_checksum(&mut self, field: u16) {
        put16(self.bytes.as_mut(), Self::CHECKSUM, field);
    }
}

/// ICMP message types (RFC 792; RFC 5508 section 7 says what a NAT does with each).
pub mod icmp {
    /// Answer to an echo request.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable, code 4 being "fragmentation needed".
    pub const DEST_UNREACHABLE: u8 = 3;
    /// Source quench, deprecated by RFC 6633.
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
    /// Timestamp request.
    pub const TIMESTAMP_REQUEST: u8 = 13;
    /// Answer to a timestamp request.
    pub const TIMESTAMP_REPLY: u8 = 14;
}

/// A checked view of an ICMP message.
#[derive(Clone, Copy, Debug)]
pub struct Icmp<B> {
    bytes: B,
}

impl<B: AsRef<[u8]>> Icmp<B> {
    /// Length of the fixed part in bytes; an error quotes its packet from here on.
    pub const HEADER_LEN: usize = 8;
    /// Offset of the checksum field in bytes.
    pub const CHECKSUM: usize = 2;
    /// Offset of the identifier of a query in bytes.
    pub const ID: usize = 4;

    /// Checks that the fixed part is there.
    ///
    /// # Errors
    /// Returns an error if there are fewer than 8 bytes.
    pub fn parse(bytes: B) -> Result<Self, TransportError> {
        if bytes.as_ref().len() < Self::HEADER_LEN {
            return Err(TransportError::Truncated);
        }
        Ok(Self { bytes })
    }

    /// Returns the message type: one of [`icmp`]'s constants or another.
    #[must_use]
    pub fn kind(&self) -> u8 {
        self.bytes.as_ref()[0]
    }

    /// Returns the code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.bytes.as_ref()[1]
    }

    /// Returns the checksum field.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        get16(self.bytes.as_ref(), Self::CHECKSUM)
    }

    /// Returns the identifier of a query.
    #[must_use]
    pub fn id(&self) -> u16 {
        get16(self.bytes.as_ref(), Self::ID)
    }

    /// Returns the sequence number of a query, or the next-hop MTU of a "fragmentation needed"
    /// (RFC 1191): both lie in bytes 6 and 7.
    #[must_use]
    pub fn sequence(&self) -> u16 {
        get16(self.bytes.as_ref(), 6)
    }

    /// Returns what follows the fixed part: data, or the quoted packet.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.bytes.as_ref()[Self::HEADER_LEN..]
    }

    /// Returns whether the checksum over all bytes of the view is right.
    #[must_use]
    pub fn verify_checksum(&self) -> bool {
        crate::checksum::finish(crate::checksum::sum(self.bytes.as_ref())) == 0
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Icmp<B> {
    /// Sets the checksum field.
    pub fn set_checksum(&mut self, field: u16) {
        put16(self.bytes.as_mut(), Self::CHECKSUM, field);
    }

    /// Sets the identifier of a query; the checksum is left alone.
    pub fn set_id(&mut self, id: u16) {
        put16(self.bytes.as_mut(), Self::ID, id);
    }

    /// Computes the checksum from scratch over all bytes of the view.
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let field = crate::checksum::finish(crate::checksum::sum(self.bytes.as_ref()));
        self.set_checksum(field);
    }
}
