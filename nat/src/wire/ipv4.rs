//! The IPv4 header (RFC 791).

use std::net::Ipv4Addr;
use std::ops::Range;

use super::{get16, get32, put16, put32};
use crate::checksum;

const TOS: usize = 1;
const TOTAL_LEN: usize = 2;
const ID: usize = 4;
const FLAGS_OFFSET: usize = 6;
const TTL: usize = 8;
const PROTOCOL: usize = 9;
const CHECKSUM: usize = 10;
const SRC: usize = 12;
const DST: usize = 16;
const HEADER_LEN_MIN: usize = 20;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = Ipv4Header::MORE_FRAGMENTS;
const OFFSET_MASK: u16 = 0x1fff;

/// Why bytes are not an IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ipv4Error {
    /// Fewer than 20 bytes, or fewer than the header length says.
    TruncatedHeader,
    /// The version field is not 4.
    Version,
    /// The header length field (IHL) is below 5 words.
    HeaderLength,
    /// The total length is shorter than the header.
    TotalLength,
    /// The total length is longer than the bytes at hand.
    TruncatedPacket,
}

impl Ipv4Error {
    /// Returns what is wrong, in a few words.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::TruncatedHeader => "IPv4 header is cut off",
            Self::Version => "IP version is not 4",
            Self::HeaderLength => "IPv4 header length is below 20 bytes",
            Self::TotalLength => "IPv4 total length is shorter than its header",
            Self::TruncatedPacket => "IPv4 packet is shorter than its total length",
        }
    }
}

impl std::fmt::Display for Ipv4Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.describe())
    }
}

impl std::error::Error for Ipv4Error {}

/// A checked view of an IPv4 packet; bytes beyond the total length (an Ethernet trailer) are
/// outside it.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4<B> {
    bytes: B,
    header_len: usize,
    total_len: usize,
}

impl<B: AsRef<[u8]>> Ipv4<B> {
    /// Checks version, IHL and total length against the bytes at hand.
    ///
    /// The header checksum is not verified here: see [`Ipv4::verify_checksum`].
    ///
    /// # Errors
    /// Returns which of the checks of RFC 1812 section 5.2.2 failed.
    pub fn parse(bytes: B) -> Result<Self, Ipv4Error> {
        let view = Self::parse_quoted(bytes)?;
        if view.total_len > view.bytes.as_ref().len() {
            return Err(Ipv4Error::TruncatedPacket);
        }
        Ok(view)
    }

    /// Checks like [`Ipv4::parse`] but lets the total length exceed the bytes at hand, as it does
    /// in the packet quoted by an ICMP error (RFC 792, RFC 1812 section 4.3.2.3).
    ///
    /// # Errors
    /// Returns which of the checks failed; never [`Ipv4Error::TruncatedPacket`].
    pub fn parse_quoted(bytes: B) -> Result<Self, Ipv4Error> {
        let raw = bytes.as_ref();
        if raw.len() < HEADER_LEN_MIN {
            return Err(Ipv4Error::TruncatedHeader);
        }
        if raw[0] >> 4 != 4 {
            return Err(Ipv4Error::Version);
        }
        let header_len = usize::from(raw[0] & 0x0f) * 4;
        if header_len < HEADER_LEN_MIN {
            return Err(Ipv4Error::HeaderLength);
        }
        if header_len > raw.len() {
            return Err(Ipv4Error::TruncatedHeader);
        }
        let total_len = usize::from(get16(raw, TOTAL_LEN));
        if total_len < header_len {
            return Err(Ipv4Error::TotalLength);
        }
        Ok(Self {
            bytes,
            header_len,
            total_len,
        })
    }

    fn raw(&self) -> &[u8] {
        self.bytes.as_ref()
    }

    /// Returns where the payload lies in the bytes: to the total length, or as far as they go.
    fn payload_range(&self) -> Range<usize> {
        self.header_len..self.total_len.min(self.raw().len())
    }

    /// Returns the header length in bytes, 20 to 60.
    #[must_use]
    pub fn header_len(&self) -> usize {
        self.header_len
    }

    /// Returns the total length field in bytes: header and payload.
    #[must_use]
    pub fn total_len(&self) -> usize {
        self.total_len
    }

    /// Returns the type-of-service byte (DSCP and ECN).
    #[must_use]
    pub fn tos(&self) -> u8 {
        self.raw()[TOS]
    }

    /// Returns the identification field.
    #[must_use]
    pub fn id(&self) -> u16 {
        get16(self.raw(), ID)
    }

    /// Returns whether the DF bit is set.
    #[must_use]
    pub fn dont_fragment(&self) -> bool {
        get16(self.raw(), FLAGS_OFFSET) & DONT_FRAGMENT != 0
    }

    /// Returns whether the MF bit is set.
    #[must_use]
    pub fn more_fragments(&self) -> bool {
        get16(self.raw(), FLAGS_OFFSET) & MORE_FRAGMENTS != 0
    }

    /// Returns the fragment offset in bytes, a multiple of 8, at most 65,528.
    #[must_use]
    pub fn fragment_offset(&self) -> usize {
        usize::from(get16(self.raw(), FLAGS_OFFSET) & OFFSET_MASK) * 8
    }

    /// Returns whether this is a fragment, the first one included.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        get16(self.raw(), FLAGS_OFFSET) & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Returns the time to live in hops.
    #[must_use]
    pub fn ttl(&self) -> u8 {
        self.raw()[TTL]
    }

    /// Returns the protocol number of the payload.
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.raw()[PROTOCOL]
    }

    /// Returns the header checksum field.
    #[must_use]
    pub fn checksum(&self) -> u16 {
        get16(self.raw(), CHECKSUM)
    }

    /// Returns the source address.
    #[must_use]
    pub fn src(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(get32(self.raw(), SRC))
    }

    /// Returns the destination address.
    #[must_use]
    pub fn dst(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(get32(self.raw(), DST))
    }

    /// Returns the whole header, options included.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.raw()[..self.header_len]
    }

    /// Returns the options, empty when the header has 20 bytes.
    #[must_use]
    pub fn options(&self) -> &[u8] {
        &self.raw()[HEADER_LEN_MIN..self.header_len]
    }

    /// Returns the payload up to the total length, without any trailer.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.raw()[self.payload_range()]
    }

    /// Returns whether the header checksum is right (RFC 1812 section 5.2.2).
    #[must_use]
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        // Few packets have options.
        let sum = match self.header().try_into() {
            Ok(header) => checksum::sum_header(header),
            Err(_) => checksum::sum(self.header()),
        };
        checksum::finish(sum) == 0
    }

    /// Gives the bytes back.
    #[must_use]
    pub fn into_inner(self) -> B {
        self.bytes
    }
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Ipv4<B> {
    fn raw_mut(&mut self) -> &mut [u8] {
        self.bytes.as_mut()
    }

    /// Returns the payload for editing.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let range = self.payload_range();
        &mut self.raw_mut()[range]
    }

    /// Sets the type-of-service byte; the checksum is left alone.
    pub fn set_tos(&mut self, tos: u8) {
        self.raw_mut()[TOS] = tos;
    }

    /// Sets the total length field in bytes, which this view goes on not to know; the checksum is
    /// left alone.
    pub fn set_total_len(&mut self, total_len: u16) {
        put16(self.raw_mut(), TOTAL_LEN, total_len);
    }

    /// Sets the identification field; the checksum is left alone.
    pub fn set_id(&mut self, id: u16) {
        put16(self.raw_mut(), ID, id);
    }

    /// Sets the time to live; the checksum is left alone.
    pub fn set_ttl(&mut self, ttl: u8) {
        self.raw_mut()[TTL] = ttl;
    }

    /// Sets the header checksum field.
    pub fn set_checksum(&mut self, field: u16) {
        put16(self.raw_mut(), CHECKSUM, field);
    }

    /// Sets the source address; the checksum is left alone.
    pub fn set_src(&mut self, src: Ipv4Addr) {
        put32(self.raw_mut(), SRC, src.to_bits());
    }

    /// Sets the destination address; the checksum is left alone.
    pub fn set_dst(&mut self, dst: Ipv4Addr) {
        put32(self.raw_mut(), DST, dst.to_bits());
    }

    /// Replaces the source address and updates the header checksum incrementally.
    pub fn replace_src(&mut self, src: Ipv4Addr) {
        let field = checksum::update32(self.checksum(), self.src().to_bits(), src.to_bits());
        self.set_checksum(field);
        self.set_src(src);
    }

    /// Replaces the destination address and updates the header checksum incrementally.
    pub fn replace_dst(&mut self, dst: Ipv4Addr) {
        let field = checksum::update32(self.checksum(), self.dst().to_bits(), dst.to_bits());
        self.set_checksum(field);
        self.set_dst(dst);
    }

    /// Takes one hop off the time to live, if there is one, and updates the header checksum.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        let old = get16(self.raw(), TTL);
        if old >> 8 != 0 {
            let field = checksum::update(self.checksum(), old, old - 0x0100);
            self.set_checksum(field);
            put16(self.raw_mut(), TTL, old - 0x0100);
        }
    }

    /// Computes the header checksum from scratch.
    pub fn fill_checksum(&mut self) {
        self.set_checksum(0);
        let field = checksum::finish(checksum::sum(self.header()));
        self.set_checksum(field);
    }
}

/// The fields of a 20-byte IPv4 header to be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Header {
    /// Type of service (DSCP and ECN).
    pub tos: u8,
    /// Payload length in bytes, at most 65,515.
    pub payload_len: u16,
    /// Identification.
    pub id: u16,
    /// The DF bit.
    pub dont_fragment: bool,
    /// Where it begins in its datagram, in bytes, cut to a multiple of 8, and whether more follows:
    /// (0, false) for what is no fragment.
    pub fragment: (u16, bool),
    /// Time to live in hops.
    pub ttl: u8,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
}

impl Default for Ipv4Header {
    /// Everything zero but the time to live, which is 64 (RFC 1340).
    fn default() -> Self {
        Self {
            tos: 0,
            payload_len: 0,
            id: 0,
            dont_fragment: false,
            fragment: (0, false),
            ttl: 64,
            protocol: 0,
            src: Ipv4Addr::UNSPECIFIED,
            dst: Ipv4Addr::UNSPECIFIED,
        }
    }
}

impl Ipv4Header {
    /// Length of the header in bytes.
    pub const LEN: usize = HEADER_LEN_MIN;
    /// The MF bit, in the word that has the fragment offset too.
    pub const MORE_FRAGMENTS: u16 = 0x2000;

    /// Builds the header with its checksum; a payload above 65,515 bytes saturates the total
    /// length at 65,535.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0u8; Self::LEN];
        bytes[0] = 0x45;
        bytes[TOS] = self.tos;
        put16(&mut bytes, TOTAL_LEN, self.payload_len.saturating_add(20));
        put16(&mut bytes, ID, self.id);
        put16(&mut bytes, FLAGS_OFFSET, self.flags_offset());
        bytes[TTL] = self.ttl;
        bytes[PROTOCOL] = self.protocol;
        put32(&mut bytes, SRC, self.src.to_bits());
        put32(&mut bytes, DST, self.dst.to_bits());
        let field = checksum::finish(checksum::sum(&bytes));
        put16(&mut bytes, CHECKSUM, field);
        bytes
    }

    fn flags_offset(&self) -> u16 {
        let (offset, more) = self.fragment;
        let flag = |is_set, flag| if is_set { flag } else { 0 };
        let flags = flag(self.dont_fragment, DONT_FRAGMENT) | flag(more, Self::MORE_FRAGMENTS);
        flags | (offset / 8)
    }
}
