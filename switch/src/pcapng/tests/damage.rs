//! Files that nobody meant: each fault is named, with its place, and none is a panic.

use proptest::prelude::*;

use super::super::blocks::{EPB, EPB_FLAGS, IF_TSRESOL};
use super::super::options::Order;
use super::{Foreign, read, read_whole};

/// A file with its blocks at 0, 28, 56 and 116.
fn sample() -> Foreign {
    let mut file = Foreign::new(Order::Little);
    file.interface(1, 0, &[(2, b"e0")]);
    file.packet(0, 1, b"a frame of some sort....", &[]);
    file.packet(0, 2, b"another", &[(1, b"why")]);
    assert_eq!(read_whole(&file.bytes).packets.len(), 2);
    file
}

const FIRST_PACKET: usize = 56;
const SECOND_PACKET: usize = 56 + 56;

fn refused(bytes: &[u8], offset: usize, words: &str) {
    let expected = (u64::try_from(offset).unwrap(), words.to_owned());
    assert_eq!(read(bytes).words(), expected);
}

#[test]
fn what_begins_otherwise_is_foreign() {
    refused(b"", 0, "the file is empty");
    refused(
        b"\x0a\x0d",
        0,
        "the file is cut off: 2 of 4 bytes are there",
    );
    let words = "this is neither pcapng nor pcap: it begins with 47 45 54 20";
    refused(b"GET / HTTP/1.1\r\n", 0, words);
    let words = "this is neither pcapng nor pcap: it begins with 1f 8b 08 00 \
                 (gzip; fix: gunzip it)";
    refused(b"\x1f\x8b\x08\x00\x00", 0, words);
}

#[test]
fn heads_of_sections() {
    let mut bytes = sample().bytes;
    bytes[8] = 0;
    refused(
        &bytes,
        0,
        "a section header without byte-order magic: 0x003c2b1a",
    );
    let mut bytes = sample().bytes;
    bytes[12] = 9;
    refused(&bytes, 0, "version 9.2 of the format is not known");
    let mut file = sample();
    let end = file.bytes.len();
    file.section(Order::Big);
    file.packet(0, 1, b"", &[]);
    refused(
        &file.bytes,
        end + 28,
        "a packet of interface 0, of 0 that are described",
    );
}

#[test]
fn lengths_that_cannot_be() {
    let at = |place: usize, length: u32| {
        let mut bytes = sample().bytes;
        bytes[place + 4..place + 8].copy_from_slice(&length.to_le_bytes());
        bytes
    };
    let words = "the block's length 57 is not a multiple of 4";
    refused(&at(FIRST_PACKET, 57), FIRST_PACKET, words);
    let words = "the block's length 28 is too small: a block of type 6 has 32 bytes";
    refused(&at(FIRST_PACKET, 28), FIRST_PACKET, words);
    let words = "the length 16777220 is beyond the 16777216 bytes that are read at once";
    refused(&at(FIRST_PACKET, 16_777_220), FIRST_PACKET, words);
    let words = "the block's length is 52 in front and 774778414 at its end";
    refused(&at(FIRST_PACKET, 52), FIRST_PACKET, words);
    let whole = sample().bytes.len();
    let found = whole - FIRST_PACKET;
    let words = format!("the file is cut off: {found} of 16777216 bytes are there");
    refused(&at(FIRST_PACKET, 16_777_216), FIRST_PACKET, &words);
}

#[test]
fn what_does_not_fit_in_its_block() {
    let mut bytes = sample().bytes;
    bytes[FIRST_PACKET + 20] = 25;
    let words = "a packet of 25 bytes in a block with room for 24";
    refused(&bytes, FIRST_PACKET, words);
    let mut bytes = sample().bytes;
    bytes[SECOND_PACKET + 8] = 1;
    let words = "a packet of interface 1, of 1 that are described";
    refused(&bytes, SECOND_PACKET, words);
    let mut bytes = sample().bytes;
    bytes[SECOND_PACKET + 38] = 5;
    let words = "option 1 of 5 bytes does not fit in its block";
    refused(&bytes, SECOND_PACKET, words);
    let mut file = Foreign::new(Order::Little);
    file.interface(1, 0, &[(IF_TSRESOL, b"ab")]);
    refused(&file.bytes, 28, "option 9 of 2 bytes should have 1");
    let mut file = sample();
    let end = file.bytes.len();
    file.packet(0, 1, b"", &[(EPB_FLAGS, b"abc")]);
    refused(&file.bytes, end, "option 2 of 3 bytes should have 4");
}

#[test]
fn a_length_takes_no_memory_before_its_bytes_come() {
    let mut bytes = Foreign::new(Order::Little).bytes;
    bytes.extend(EPB.to_le_bytes());
    bytes.extend((16 * 1024 * 1024_u32).to_le_bytes());
    let mut reader = super::Reader::new(bytes.as_slice()).unwrap();
    assert!(reader.next_packet().is_err());
    assert!(reader.block.capacity() < 4096);
}

#[test]
fn a_file_cut_anywhere_gives_its_whole_blocks() {
    let whole = sample().bytes;
    let ends = [28, FIRST_PACKET, SECOND_PACKET, whole.len()];
    for length in 0..whole.len() {
        let course = read(&whole[..length]);
        let packets = ends[2..].iter().filter(|&&end| end <= length).count();
        assert_eq!(course.packets.len(), packets, "{length}");
        assert_eq!(course.fault.is_none(), ends.contains(&length), "{length}");
        if let Some(fault) = course.fault {
            let last = ends.iter().rev().find(|&&end| end <= length).unwrap_or(&0);
            assert_eq!(fault.offset, u64::try_from(*last).unwrap());
        }
    }
}

/// A source that gives as little as it may, and fails at a place.
struct Drops {
    bytes: Vec<u8>,
    place: usize,
    fails_at: usize,
}

impl std::io::Read for Drops {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        if self.place == self.fails_at {
            return Err(std::io::Error::other("the disk is gone"));
        }
        match (self.bytes.get(self.place), to.first_mut()) {
            (Some(byte), Some(to)) => {
                *to = *byte;
                self.place += 1;
                Ok(1)
            }
            _ => Ok(0),
        }
    }
}

#[test]
fn a_source_that_fails_is_named() {
    let source = Drops {
        bytes: sample().bytes,
        place: 0,
        fails_at: SECOND_PACKET + 10,
    };
    let mut reader = super::Reader::new(source).unwrap();
    assert!(reader.next_packet().unwrap().is_some());
    let fault = reader.next_packet().unwrap_err();
    let words = format!("at byte {SECOND_PACKET}: cannot read on: the disk is gone");
    assert_eq!(fault.to_string(), words);
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read(&bytes);
    }

    #[test]
    fn any_blocks_are_read_without_a_panic(
        big in any::<bool>(),
        blocks in prop::collection::vec(
            (0..8_u32, prop::collection::vec(prop_oneof![Just(0), 0..9_u8, any::<u8>()], 0..80)),
            0..8,
        ),
    ) {
        let mut file = Foreign::new(if big { Order::Big } else { Order::Little });
        file.interface(1, 0, &[]);
        for (kind, mut body) in blocks {
            body.resize(body.len().next_multiple_of(4), 0);
            file.block(kind, &body);
        }
        read(&file.bytes);
    }

    #[test]
    fn changed_files_are_read_without_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = sample().bytes;
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        bytes.truncate(cut.index(bytes.len()) + 1);
        let course = read(&bytes);
        prop_assert!(course.packets.len() <= 2);
    }
}
