//! The blocks of a stream, as they came: what goes into files is not taken apart further than it
//! takes to count it.
//!
//! The stream is one of [`Writer`](super::Writer)'s, so it is little-endian and of one section
//! (draft-ietf-opsawg-pcapng 3).

use std::io::{self, ErrorKind, Read};

use super::BLOCK_BYTES_MAX;
use super::blocks::{EPB, EPB_DROPCOUNT, ISB, ISB_IFDROP};
use super::options::{Options, Order, fixed};
use super::read::ISB_FIXED_BYTES;

/// What a writer writes.
const ORDER: Order = Order::Little;

/// A block's type and length, in front of what it has.
const HEAD_BYTES: usize = 8;

/// Where the options of a packet without its bytes begin.
const EPB_FIXED_BYTES: usize = 28;

/// A block, with its type and lengths.
#[derive(Debug, Clone, Copy)]
pub struct Block<'b> {
    /// All of it.
    pub bytes: &'b [u8],
}

impl Block<'_> {
    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at..)?.first_chunk()?;
        Some(ORDER.u32(*bytes))
    }

    fn kind(&self) -> u32 {
        self.word(0).unwrap_or(0)
    }

    /// True for a packet.
    #[must_use]
    pub fn is_packet(&self) -> bool {
        self.kind() == EPB
    }

    /// True for what an interface counted, at the end.
    #[must_use]
    pub fn is_statistics(&self) -> bool {
        self.kind() == ISB
    }

    /// Packets that were lost before this one; of statistics, in all.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let (options, code) = match self.kind() {
            EPB => {
                let captured = self.word(20).and_then(|bytes| usize::try_from(bytes).ok());
                let captured = captured.unwrap_or(0).next_multiple_of(4);
                (EPB_FIXED_BYTES.saturating_add(captured), EPB_DROPCOUNT)
            }
            ISB => (HEAD_BYTES + ISB_FIXED_BYTES, ISB_IFDROP),
            _ => return 0,
        };
        self.option(options, code).unwrap_or(0)
    }

    /// The number in the first option of this code.
    fn option(&self, at: usize, wanted: u16) -> Option<u64> {
        let mut options = Options::new(ORDER, self.bytes.get(at..)?);
        let value = options.find_map(|option| {
            let (code, value) = option.ok()?;
            (code == wanted).then_some(value)
        })?;
        Some(ORDER.u64(fixed(wanted, value).ok()?))
    }
}

/// Reads blocks one by one.
#[derive(Debug)]
pub struct Blocks<R> {
    from: R,
    block: Vec<u8>,
}

impl<R: Read> Blocks<R> {
    /// Reads them from there.
    pub const fn new(from: R) -> Self {
        Self {
            from,
            block: Vec::new(),
        }
    }

    /// Where they are read from.
    pub const fn get_ref(&self) -> &R {
        &self.from
    }

    /// The next block; `None` at the end, also where that is in the middle of one: a switch that is
    /// killed leaves off anywhere.
    ///
    /// # Errors
    /// What cannot be a block; it cannot be read.
    pub fn next_block(&mut self) -> io::Result<Option<Block<'_>>> {
        self.block.resize(8, 0);
        if !self.fill(0)? {
            return Ok(None);
        }
        let length = Block { bytes: &self.block }.word(4).unwrap_or(0);
        if !(12..=BLOCK_BYTES_MAX).contains(&length) || !length.is_multiple_of(4) {
            return Err(io::Error::new(ErrorKind::InvalidData, "it is no pcapng"));
        }
        self.block.resize(usize::try_from(length).unwrap_or(0), 0);
        if !self.fill(8)? {
            return Ok(None);
        }
        Ok(Some(Block { bytes: &self.block }))
    }

    fn fill(&mut self, at: usize) -> io::Result<bool> {
        let rest = self.block.get_mut(at..).unwrap_or_default();
        match self.from.read_exact(rest) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{InterfaceInfo, PacketInfo, SectionInfo, StatisticsInfo, Writer};

    use super::*;

    #[test]
    fn packets_and_losses_are_counted_and_a_broken_end_is_an_end() {
        let mut writer = Writer::new();
        writer.section(&SectionInfo::default());
        writer.interface(&InterfaceInfo {
            name: "veth1",
            ..InterfaceInfo::default()
        });
        for (length, dropped) in [(61, None), (60, Some(7))] {
            writer.packet(&PacketInfo {
                bytes: &[0; 64][..length],
                dropped,
                packet_id: Some(1),
                comments: &["odd"],
                ..PacketInfo::default()
            });
        }
        writer.statistics(&StatisticsInfo {
            received: Some(9),
            dropped: Some(8),
            ..StatisticsInfo::default()
        });
        let bytes = writer.take();
        let read = |bytes: &[u8]| {
            let mut blocks = Blocks::new(bytes);
            let mut seen = Vec::new();
            while let Some(block) = blocks.next_block().unwrap() {
                seen.push((block.is_packet(), block.is_statistics(), block.lost()));
            }
            seen
        };
        let head = [(false, false, 0); 2];
        let rest = [(true, false, 0), (true, false, 7), (false, true, 8)];
        assert_eq!(read(&bytes), [head.as_slice(), &rest].concat());
        for cut in 1..40 {
            assert_eq!(read(&bytes[..bytes.len() - cut]).len(), 4);
        }
        assert!(Blocks::new(&[1_u8; 12][..]).next_block().is_err());
    }
}
