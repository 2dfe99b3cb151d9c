//! What becomes of a slot, without a kernel.

use super::*;
use crate::port::sys::cursor::RingLayout;
use proptest::prelude::*;

const HEADER: SlotHeader = SlotHeader {
    len: 60,
    snap_len: 60,
    start: 100,
    tag: None,
};
const TAG: VlanTag = VlanTag {
    tpid: 0x88a8,
    tci: 0x2005,
};

/// Reads a frame at 100 in a slot of 200 bytes whose virtio-net header is `vnet`.
fn read(vnet: [u8; 10], header: SlotHeader) -> (Option<Vec<u8>>, Losses) {
    let mut memory: Vec<u8> = (0..200).collect();
    memory[90..100].copy_from_slice(&vnet);
    let mut losses = Losses::default();
    let frame = read_frame(&mut memory, header.start, header, PortIndex(3), &mut losses);
    (frame.map(|frame| frame.bytes().to_vec()), losses)
}

#[test]
fn a_frame_is_lent_as_the_kernel_describes_it() {
    let (bytes, losses) = read([0; 10], HEADER);
    assert_eq!(bytes, Some((100..160).collect()));
    assert!(losses.is_empty());
}

#[test]
fn a_tag_goes_between_addresses_and_type() {
    let (bytes, losses) = read(
        [0; 10],
        SlotHeader {
            tag: Some(TAG),
            ..HEADER
        },
    );
    let expected = (100..112).chain([0x88, 0xa8, 0x20, 5]).chain(112..160);
    assert_eq!(bytes, Some(expected.collect()));
    assert!(losses.is_empty());
}

#[test]
fn each_unusable_frame_is_counted_once_for_what_it_is() {
    let malformed = Losses {
        malformed: 1,
        ..Losses::default()
    };
    let unknown = Losses {
        unknown_offload: 1,
        ..Losses::default()
    };
    let ufo = [1, 3, 0, 0, 200, 5, 34, 0, 6, 0];
    assert_eq!(read(ufo, HEADER), (None, unknown));
    assert_eq!(
        read([0; 10], SlotHeader { len: 101, ..HEADER }),
        (None, malformed)
    );
    assert_eq!(
        read([0; 10], SlotHeader { start: 9, ..HEADER }),
        (None, malformed)
    );
    assert_eq!(
        read(
            [0; 10],
            SlotHeader {
                start: 500,
                ..HEADER
            }
        ),
        (None, malformed)
    );
    // The checksum would start beyond what the field can say.
    let far = [1, 0, 0, 0, 0, 0, 0xfd, 0xff, 6, 0];
    assert_eq!(
        read(
            far,
            SlotHeader {
                tag: Some(TAG),
                ..HEADER
            }
        ),
        (None, malformed)
    );
}

proptest! {
    #[test]
    fn whatever_the_kernel_says_is_a_frame_within_the_slot_or_a_count(
        vnet: [u8; 10], len in 0usize..300, start in 0usize..300, tagged: bool,
    ) {
        let tag = tagged.then_some(TAG);
        let (bytes, losses) = read(vnet, SlotHeader { len, snap_len: len, start, tag });
        let counted = losses.malformed + losses.unknown_offload;
        prop_assert_eq!(counted, u64::from(bytes.is_none()));
        let grown = if tagged { 4 } else { 0 };
        prop_assert!(bytes.is_none_or(|bytes| bytes.len() == len + grown));
    }
}

#[test]
fn geometries_fill_whole_blocks() {
    for geometry in [RingGeometry::HYBRID_DEFAULT, RingGeometry::FULL_DEFAULT] {
        let layout = geometry.layout().unwrap();
        assert_eq!(layout.slot_count(), Some(geometry.slots()));
        assert!(layout.block_bytes.is_power_of_two());
    }
    // The longest frame fits a full-size slot, behind 80 bytes of header, reserve and padding.
    let RingLayout { slot_bytes, .. } = RingGeometry::FULL_DEFAULT.layout().unwrap();
    assert!(slot_bytes as usize >= 80 + 64 + 16 + 10 + crate::limits::FRAME_BYTES_MAX);
    for slots in [0, 1, 31, 33, u32::MAX] {
        assert_eq!(RingGeometry::Hybrid { slots }.layout(), None, "{slots}");
    }
}
