//! What other programs write.

use super::super::blocks::{
    EPB_FLAGS, EPB_PACKETID, IF_DESCRIPTION, IF_NAME, IF_TSOFFSET, IF_TSRESOL, ISB, ISB_IFDROP,
    ISB_IFRECV, PB, SPB,
};
use super::super::options::Order;
use super::{Direction, Foreign, read, read_whole};

const SECOND: u64 = 1_000_000_000;

#[test]
fn both_byte_orders_in_one_file() {
    let mut file = Foreign::new(Order::Big);
    file.interface(1, 0, &[(IF_NAME, b"big0"), (IF_DESCRIPTION, b"the first")]);
    file.interface(1, 96, &[(IF_NAME, b"big1")]);
    let flags = file.u32(0x1_0002);
    let id = file.u64(77);
    file.packet(
        1,
        5_000_001,
        b"abcde",
        &[(EPB_FLAGS, &flags), (EPB_PACKETID, &id)],
    );
    file.section(Order::Little);
    file.interface(1, 0, &[(IF_NAME, b"little0")]);
    file.packet(0, 6_000_002, b"xyz", &[]);
    let course = read_whole(&file.bytes);
    let names: Vec<&str> = course.interfaces.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["big0", "big1", "little0"]);
    assert_eq!(course.interfaces[0].description, "the first");
    assert_eq!(course.interfaces[1].snaplen, 96);
    let [first, second] = course.packets.as_slice() else {
        panic!("{course:?}");
    };
    assert_eq!((first.interface, first.time), (1, Some(5_000_001_000)));
    assert_eq!(first.bytes, b"abcde");
    assert_eq!(first.direction, Some(Direction::Outbound));
    assert_eq!(first.packet_id, Some(77));
    assert_eq!((second.interface, second.time), (2, Some(6_000_002_000)));
    assert_eq!(
        (second.bytes.as_slice(), second.direction),
        (&b"xyz"[..], None)
    );
}

/// The time of a packet at an interface of that resolution and offset.
fn time(resolution: Option<u8>, offset: Option<i64>, units: u64) -> Result<u64, String> {
    let mut file = Foreign::new(Order::Little);
    let resolution = resolution.map(|r| [r]);
    let offset = offset.map(i64::to_le_bytes);
    let mut options: Vec<(u16, &[u8])> = Vec::new();
    options.extend(resolution.as_ref().map(|r| (IF_TSRESOL, &r[..])));
    options.extend(offset.as_ref().map(|o| (IF_TSOFFSET, &o[..])));
    file.interface(1, 0, &options);
    file.packet(0, units, b"", &[]);
    let course = read(&file.bytes);
    match course.packets.first() {
        Some(packet) => Ok(packet.time.unwrap()),
        None => Err(course.words().1),
    }
}

#[test]
fn times_in_every_resolution() {
    assert_eq!(time(None, None, 3), Ok(3_000));
    assert_eq!(time(Some(0), None, 3), Ok(3 * SECOND));
    assert_eq!(time(Some(9), None, 3), Ok(3));
    assert_eq!(time(Some(12), None, 3_999), Ok(3));
    assert_eq!(time(Some(127), None, u64::MAX), Ok(0));
    assert_eq!(time(Some(0x80 | 10), None, 1024), Ok(SECOND));
    assert_eq!(time(Some(0x80 | 32), None, 1 << 31), Ok(SECOND / 2));
    assert_eq!(time(Some(0xff), None, u64::MAX), Ok(0));
    assert_eq!(time(Some(9), Some(2), 5), Ok(2 * SECOND + 5));
    assert_eq!(time(Some(0), Some(-2), 5), Ok(3 * SECOND));
    assert_eq!(time(Some(9), None, u64::MAX), Ok(u64::MAX));
}

#[test]
fn times_beyond_the_clock_are_refused() {
    let words = "a packet's time lies before the year 1970 or after 2554";
    for (resolution, offset, units) in [
        (0, None, u64::MAX),
        (0x80, None, u64::MAX),
        (9, Some(-1), 5),
        (9, Some(1), u64::MAX),
        (9, Some(i64::MIN), u64::MAX),
        (0, Some(i64::MAX), u64::MAX),
    ] {
        assert_eq!(time(Some(resolution), offset, units), Err(words.to_owned()));
    }
}

#[test]
fn simple_and_obsolete_packets() {
    for order in [Order::Little, Order::Big] {
        let mut file = Foreign::new(order);
        file.interface(1, 4, &[]);
        // A simple one is cut at the snap length, 4; its length is that on the wire.
        let body = [&file.u32(9)[..], b"abcd"].concat();
        file.block(SPB, &body);
        let counts = [file.u32(0), file.u32(1_500_000), file.u32(3), file.u32(60)].concat();
        let head = [file.u16(0), file.u16(7)].concat();
        file.block(PB, &[&head[..], &counts, b"xyz\0"].concat());
        let course = read_whole(&file.bytes);
        let [simple, obsolete] = course.packets.as_slice() else {
            panic!("{course:?}");
        };
        assert_eq!((simple.time, simple.original_bytes), (None, 9));
        assert_eq!(simple.bytes, b"abcd");
        assert_eq!(obsolete.time, Some(1_500_000_000));
        assert_eq!(
            (obsolete.original_bytes, &obsolete.bytes[..]),
            (60, &b"xyz"[..])
        );
    }
}

#[test]
fn unknown_blocks_and_options_are_skipped() {
    let mut file = Foreign::new(Order::Little);
    file.block(0x0bad, b"whatever is in here!");
    file.interface(1, 0, &[(2988, b"\x00\x00\x00\x01ours"), (IF_NAME, b"eth0")]);
    file.block(ISB, &[0; 12]);
    file.packet(0, 1, b"abc", &[(0x7777, b"?"), (1, b"seen"), (1, b"twice")]);
    file.block(0x8000_0001, b"");
    let course = read_whole(&file.bytes);
    assert_eq!(course.interfaces[0].name, "eth0");
    assert_eq!(course.packets[0].comments, ["seen", "twice"]);
}

/// Statistics count from the beginning of the capture, so the last ones of an interface hold, and
/// each section counts its interfaces anew.
#[test]
fn losses_are_those_of_each_interfaces_last_statistics() {
    for order in [Order::Little, Order::Big] {
        let mut file = Foreign::new(order);
        let statistics = |file: &mut Foreign, interface, lost: u64| {
            let head = [file.u32(interface), [0; 4], [0; 4]].concat();
            let (received, lost) = (file.u64(99), file.u64(lost));
            let options = file.options(&[(ISB_IFRECV, &received), (ISB_IFDROP, &lost)]);
            file.block(ISB, &[head, options].concat());
        };
        file.interface(1, 0, &[]);
        file.interface(1, 0, &[]);
        statistics(&mut file, 0, 5);
        statistics(&mut file, 1, 70);
        file.packet(0, 1, b"abc", &[]);
        statistics(&mut file, 0, 6);
        assert_eq!(read_whole(&file.bytes).lost, 76);
        file.section(order);
        file.interface(1, 0, &[]);
        statistics(&mut file, 0, 800);
        // Of no interface of this section; too short; without an end to its option.
        statistics(&mut file, 1, 9000);
        file.block(ISB, &[0; 8]);
        let options = file.options(&[(ISB_IFDROP, &[1; 7])]);
        file.block(ISB, &[&[0; 12], &options[..]].concat());
        assert_eq!(read_whole(&file.bytes).lost, 876);
        statistics(&mut file, 0, u64::MAX);
        assert_eq!(read_whole(&file.bytes).lost, u64::MAX);
    }
}

#[test]
fn nothing_is_read_behind_the_end_of_options() {
    let mut file = Foreign::new(Order::Little);
    file.interface(1, 0, &[]);
    file.packet(0, 1, b"", &[(1, b"before"), (0, b""), (1, b"behind")]);
    assert_eq!(read_whole(&file.bytes).packets[0].comments, ["before"]);
}

#[test]
fn long_names_are_cut() {
    let mut file = Foreign::new(Order::Little);
    file.interface(1, 0, &[(IF_NAME, &[b'x'; 5000])]);
    assert_eq!(read_whole(&file.bytes).interfaces[0].name.len(), 1024);
}

/// A classic file with one packet of four bytes.
fn classic(order: Order, magic: u32, link: u32) -> Vec<u8> {
    let file = Foreign {
        order,
        bytes: Vec::new(),
    };
    let mut bytes = file.u32(magic).to_vec();
    bytes.extend([file.u16(2), file.u16(4)].concat());
    for number in [0, 0, 65_535, link, 1_000, 999_999, 4, 64] {
        bytes.extend(file.u32(number));
    }
    bytes.extend(b"abcd");
    bytes
}

#[test]
fn classic_files() {
    for order in [Order::Little, Order::Big] {
        for (magic, time) in [
            (0xa1b2_c3d4, 1_000 * SECOND + 999_999_000),
            (0xa1b2_3c4d, 1_000 * SECOND + 999_999),
        ] {
            let course = read_whole(&classic(order, magic, 1));
            assert_eq!(course.interfaces[0].name, "");
            assert_eq!(course.interfaces[0].snaplen, 65_535);
            let packet = &course.packets[0];
            assert_eq!((packet.time, packet.original_bytes), (Some(time), 64));
            assert_eq!(packet.bytes, b"abcd");
        }
    }
}

#[test]
fn classic_files_that_are_cut_off() {
    let whole = classic(Order::Little, 0xa1b2_c3d4, 1);
    for (length, offset, found, wanted) in [(3, 0, 3, 4), (10, 0, 10, 24), (30, 24, 6, 16)] {
        let words = format!("the file is cut off: {found} of {wanted} bytes are there");
        assert_eq!(read(&whole[..length]).words(), (offset, words));
    }
    let words = "the file is cut off: 18 of 20 bytes are there";
    assert_eq!(read(&whole[..42]).words(), (24, words.to_owned()));
    assert!(read_whole(&whole[..24]).packets.is_empty());
}

#[test]
fn other_link_types_are_refused_by_name() {
    for (link, name) in [
        (113, "LINUX_SLL (tcpdump -i any)"),
        (101, "RAW (IP without Ethernet)"),
        (999, "999"),
    ] {
        let words = format!("the link type is {name}, and only ETHERNET can be read");
        let mut file = Foreign::new(Order::Big);
        file.interface(link, 0, &[]);
        assert_eq!(read(&file.bytes).words(), (28, words.clone()));
        let classic = classic(Order::Big, 0xa1b2_c3d4, u32::from(link));
        assert_eq!(read(&classic).words(), (0, words));
    }
}
