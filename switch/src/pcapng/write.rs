//! Blocks written.

use std::io::{self, Write};
use std::net::IpAddr;

use super::blocks::{
    BYTE_ORDER_MAGIC, CB, DIRECTION_INBOUND, DIRECTION_OUTBOUND, ENTERPRISE, EPB, EPB_DROPCOUNT,
    EPB_FLAGS, EPB_PACKETID, EPB_QUEUE, FRAME_BYTES, IDB, IF_DESCRIPTION, IF_FILTER, IF_NAME,
    IF_TSRESOL, ISB, ISB_ENDTIME, ISB_IFDROP, ISB_IFRECV, ISB_OSDROP, ISB_STARTTIME, NRB,
    NRB_RECORD_END, NRB_RECORD_IPV4, NRB_RECORD_IPV6, OPT_COMMENT, OPT_ENDOFOPT,
    SECTION_LENGTH_UNKNOWN, SHB, SHB_HARDWARE, SHB_OS, SHB_USERAPPL, TSRESOL_NANOSECONDS,
};
use super::{BLOCK_BYTES_MAX, Direction, LinkType, PACKET_BYTES_MAX};

/// What a block has behind its options: their end, and the block's length.
const BEHIND_OPTIONS_BYTES: usize = 8;

/// What heads a section. Empty texts are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SectionInfo<'a> {
    /// The machine.
    pub hardware: &'a str,
    /// The operating system.
    pub os: &'a str,
    /// The program that writes, with its version.
    pub application: &'a str,
    /// Comments on the section.
    pub comments: &'a [&'a str],
}

/// An interface; they are counted from 0 in the order they are written. Empty texts are left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InterfaceInfo<'a> {
    /// The device's name.
    pub name: &'a str,
    /// What a person calls it.
    pub description: &'a str,
    /// Bytes captured of a packet at most; 0 is no limit.
    pub snaplen: u32,
    /// The filter in pcap's words.
    pub filter: &'a str,
    /// Comments on the interface.
    pub comments: &'a [&'a str],
}

/// A packet. What is `None` is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PacketInfo<'a> {
    /// Which interface.
    pub interface: u32,
    /// Nanoseconds since 1970 UTC.
    pub time: u64,
    /// What was captured.
    pub bytes: &'a [u8],
    /// Its length on the wire.
    pub original_bytes: u32,
    /// Whether it came or went.
    pub direction: Option<Direction>,
    /// Packets of this interface that were lost since the one before.
    pub dropped: Option<u64>,
    /// The same number for the same packet at another interface.
    pub packet_id: Option<u64>,
    /// The queue it came by.
    pub queue: Option<u32>,
    /// Comments in their order.
    pub comments: &'a [&'a str],
}

/// What an interface counted. What is `None` is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StatisticsInfo {
    /// Which interface.
    pub interface: u32,
    /// When this was counted: nanoseconds since 1970 UTC.
    pub time: u64,
    /// When the capture began, in the same units.
    pub start: Option<u64>,
    /// When it ended, in the same units.
    pub end: Option<u64>,
    /// Packets received from the interface.
    pub received: Option<u64>,
    /// Packets the interface dropped for want of room.
    pub dropped: Option<u64>,
    /// Packets the operating system dropped.
    pub os_dropped: Option<u64>,
}

/// Writes blocks into a buffer.
///
/// A text or a packet too long for its field is cut, at a character; an option that would make its
/// block longer than [`BLOCK_BYTES_MAX`] is left out. So whatever is given, the bytes are sound.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    pub(super) out: Vec<u8>,
    /// Where the block begins that is being written.
    start: usize,
    /// Whether that block has an option yet.
    has_options: bool,
}

impl Writer {
    /// A writer with an empty buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            out: Vec::new(),
            start: 0,
            has_options: false,
        }
    }

    /// The blocks written since the buffer was last cleared.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.out
    }

    /// Takes the blocks out; the memory goes with them.
    #[must_use]
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.out.clear();
    }

    /// Writes the buffer out, and empties it.
    ///
    /// # Errors
    /// What `to` answered; the buffer is as it was then.
    pub fn drain_to(&mut self, to: &mut impl Write) -> io::Result<()> {
        to.write_all(&self.out)?;
        self.clear();
        Ok(())
    }

    /// Begins a section. Its interfaces are counted anew.
    pub fn section(&mut self, info: &SectionInfo<'_>) {
        self.begin(SHB);
        self.u32(BYTE_ORDER_MAGIC);
        self.u16(1);
        self.u16(0);
        self.u64(SECTION_LENGTH_UNKNOWN);
        self.text(SHB_HARDWARE, info.hardware);
        self.text(SHB_OS, info.os);
        self.text(SHB_USERAPPL, info.application);
        self.comments(info.comments);
        self.end();
    }

    /// Describes an interface.
    pub fn interface(&mut self, info: &InterfaceInfo<'_>) {
        self.begin(IDB);
        self.u16(LinkType::ETHERNET.0);
        self.u16(0);
        self.u32(info.snaplen);
        self.text(IF_NAME, info.name);
        self.text(IF_DESCRIPTION, info.description);
        self.option(IF_TSRESOL, &[TSRESOL_NANOSECONDS]);
        if !info.filter.is_empty() {
            // A filter's first byte says in which language it is: 0 is pcap's.
            self.option_of(IF_FILTER, &[&[0], info.filter.as_bytes()]);
        }
        self.comments(info.comments);
        self.end();
    }

    /// Writes a packet.
    pub fn packet(&mut self, info: &PacketInfo<'_>) {
        let captured = &info.bytes[..info.bytes.len().min(PACKET_BYTES_MAX)];
        self.begin(EPB);
        self.u32(info.interface);
        self.time(info.time);
        self.u32(length32(captured.len()));
        self.u32(info.original_bytes.max(length32(info.bytes.len())));
        self.out.extend_from_slice(captured);
        self.pad();
        if let Some(direction) = info.direction {
            let flags = match direction {
                Direction::Inbound => DIRECTION_INBOUND,
                Direction::Outbound => DIRECTION_OUTBOUND,
            };
            self.option(EPB_FLAGS, &flags.to_le_bytes());
        }
        self.number(EPB_DROPCOUNT, info.dropped);
        self.number(EPB_PACKETID, info.packet_id);
        if let Some(queue) = info.queue {
            self.option(EPB_QUEUE, &queue.to_le_bytes());
        }
        self.comments(info.comments);
        self.end();
    }

    /// Writes names of addresses.
    pub fn names<'n>(&mut self, names: impl IntoIterator<Item = (IpAddr, &'n str)>) {
        self.begin(NRB);
        for (address, name) in names {
            // A record is made like an option, its name ends in a zero byte.
            let name = cut(name, 255).as_bytes();
            match address {
                IpAddr::V4(v4) => self.option_of(NRB_RECORD_IPV4, &[&v4.octets(), name, &[0]]),
                IpAddr::V6(v6) => self.option_of(NRB_RECORD_IPV6, &[&v6.octets(), name, &[0]]),
            }
        }
        self.u16(NRB_RECORD_END);
        self.u16(0);
        self.has_options = false;
        self.end();
    }

    /// Writes what an interface has counted.
    pub fn statistics(&mut self, info: &StatisticsInfo) {
        self.begin(ISB);
        self.u32(info.interface);
        self.time(info.time);
        for (code, time) in [(ISB_STARTTIME, info.start), (ISB_ENDTIME, info.end)] {
            if let Some(time) = time {
                let [high, low] = halves(time).map(u32::to_le_bytes);
                self.option_of(code, &[&high, &low]);
            }
        }
        self.number(ISB_IFRECV, info.received);
        self.number(ISB_IFDROP, info.dropped);
        self.number(ISB_OSDROP, info.os_dropped);
        self.end();
    }

    /// Writes a text that only this program makes sense of, in a block that others pass over. It is
    /// filled up with blanks. One that no block can hold is not written, and the answer is false.
    #[must_use]
    pub fn note(&mut self, text: &str) -> bool {
        let fixed = usize::try_from(FRAME_BYTES + 4).unwrap_or(usize::MAX);
        let most = usize::try_from(BLOCK_BYTES_MAX).unwrap_or(usize::MAX) - fixed;
        if text.len().next_multiple_of(4) > most {
            return false;
        }
        self.begin(CB);
        self.u32(ENTERPRISE);
        self.out.extend_from_slice(text.as_bytes());
        let padding = text.len().wrapping_neg() % 4;
        self.out.extend_from_slice(&[b' '; 3][..padding]);
        self.end();
        true
    }

    fn begin(&mut self, kind: u32) {
        self.start = self.out.len();
        self.has_options = false;
        self.u32(kind);
        self.u32(0);
    }

    /// Ends the options where there are any, and puts the length where it belongs.
    fn end(&mut self) {
        if self.has_options {
            self.u16(OPT_ENDOFOPT);
            self.u16(0);
        }
        let length = length32(self.out.len() - self.start + 4);
        let place = self.start + 4;
        self.out[place..place + 4].copy_from_slice(&length.to_le_bytes());
        self.u32(length);
    }

    fn u16(&mut self, number: u16) {
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    fn u32(&mut self, number: u32) {
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.out.extend_from_slice(&number.to_le_bytes());
    }

    /// A time is written as two halves, the higher one first, in either byte order.
    fn time(&mut self, time: u64) {
        for half in halves(time) {
            self.u32(half);
        }
    }

    /// Every block begins at a multiple of four from `start`.
    fn pad(&mut self) {
        let padding = (self.out.len() - self.start).wrapping_neg() % 4;
        self.out.extend_from_slice(&[0; 3][..padding]);
    }

    fn comments(&mut self, comments: &[&str]) {
        for comment in comments {
            self.text(OPT_COMMENT, comment);
        }
    }

    fn text(&mut self, code: u16, text: &str) {
        if !text.is_empty() {
            self.option(code, cut(text, usize::from(u16::MAX)).as_bytes());
        }
    }

    fn number(&mut self, code: u16, number: Option<u64>) {
        if let Some(number) = number {
            self.option(code, &number.to_le_bytes());
        }
    }

    fn option(&mut self, code: u16, value: &[u8]) {
        self.option_of(code, &[value]);
    }

    /// Writes an option whose value is in parts. Cuts what is longer than an option can be.
    fn option_of(&mut self, code: u16, parts: &[&[u8]]) {
        const HEAD: usize = 4;
        let whole: usize = parts.iter().map(|part| part.len()).sum();
        let length = u16::try_from(whole).unwrap_or(u16::MAX);
        let mut left = usize::from(length);
        let block = self.out.len() - self.start + HEAD + left.next_multiple_of(4);
        if length32(block + BEHIND_OPTIONS_BYTES) > BLOCK_BYTES_MAX {
            return;
        }
        self.has_options = true;
        self.u16(code);
        self.u16(length);
        for part in parts {
            let taken = part.len().min(left);
            self.out.extend_from_slice(&part[..taken]);
            left -= taken;
        }
        self.pad();
    }
}

/// Lengths are bounded far below; a wrong one would be worse than the greatest.
fn length32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn halves(time: u64) -> [u32; 2] {
    let low = u32::try_from(time & u64::from(u32::MAX)).unwrap_or(u32::MAX);
    [u32::try_from(time >> 32).unwrap_or(u32::MAX), low]
}

/// The first bytes of a text, at most `max`, without a torn character.
fn cut(text: &str, max: usize) -> &str {
    let end = text.len().min(max);
    let whole = (0..=end).rev().find(|&end| text.is_char_boundary(end));
    &text[..whole.unwrap_or(0)]
}
