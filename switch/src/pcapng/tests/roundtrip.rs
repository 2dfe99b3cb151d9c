//! What is written is read again alike.

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::{
    BLOCK_BYTES_MAX, Direction, InterfaceInfo, Item, PacketInfo, Reader, SectionInfo,
    StatisticsInfo, Writer,
};
use super::{Kept, read_whole};

fn writer() -> Writer {
    let mut writer = Writer::new();
    writer.section(&SectionInfo {
        application: "vswitch 0.1.0",
        ..SectionInfo::default()
    });
    writer
}

fn direction() -> impl Strategy<Value = Option<Direction>> {
    prop::option::of(prop_oneof![
        Just(Direction::Inbound),
        Just(Direction::Outbound)
    ])
}

prop_compose! {
    fn packet()(
        interface in 0..3_usize,
        time in any::<u64>(),
        bytes in prop::collection::vec(any::<u8>(), 0..100),
        beyond in 0..2000_u32,
        direction in direction(),
        packet_id in any::<Option<u64>>(),
        dropped in any::<Option<u64>>(),
        queue in any::<Option<u32>>(),
        comments in prop::collection::vec("\\PC{1,30}", 0..4),
    ) -> Kept {
        Kept {
            interface,
            time: Some(time),
            original_bytes: u32::try_from(bytes.len()).unwrap() + beyond,
            bytes,
            direction,
            packet_id,
            dropped,
            queue,
            comments,
        }
    }
}

fn write(writer: &mut Writer, packet: &Kept) {
    let comments: Vec<&str> = packet.comments.iter().map(String::as_str).collect();
    writer.packet(&PacketInfo {
        interface: u32::try_from(packet.interface).unwrap(),
        time: packet.time.unwrap(),
        bytes: &packet.bytes,
        original_bytes: packet.original_bytes,
        direction: packet.direction,
        dropped: packet.dropped,
        packet_id: packet.packet_id,
        queue: packet.queue,
        comments: &comments,
    });
}

proptest! {
    #[test]
    fn packets_come_back(
        packets in prop::collection::vec(packet(), 0..12),
        names in prop::collection::vec("[a-z0-9:]{1,20}", 3),
        descriptions in prop::collection::vec("\\PC{0,40}", 3),
        snaplen in any::<u32>(),
    ) {
        let mut writer = writer();
        let mut file = Vec::new();
        for (name, description) in names.iter().zip(&descriptions) {
            writer.interface(&InterfaceInfo {
                name,
                description,
                snaplen,
                filter: "tcp port 80",
                comments: &[],
            });
        }
        for packet in &packets {
            write(&mut writer, packet);
            writer.drain_to(&mut file).unwrap();
        }
        writer.names([
            (IpAddr::from([10, 0, 0, 1]), "one"),
            (IpAddr::from([1_u16; 8]), "six"),
        ]);
        writer.statistics(&StatisticsInfo {
            interface: 2,
            received: Some(12),
            ..StatisticsInfo::default()
        });
        writer.drain_to(&mut file).unwrap();
        prop_assert!(file.len().is_multiple_of(4));
        let course = read_whole(&file);
        prop_assert_eq!(course.packets, packets);
        for (read, (name, description)) in
            course.interfaces.iter().zip(names.iter().zip(&descriptions))
        {
            prop_assert_eq!(&read.name, name);
            prop_assert_eq!(&read.description, description);
            prop_assert_eq!(read.snaplen, snaplen);
        }
    }
}

#[test]
fn sections_tell_who_wrote_them() {
    let mut writer = Writer::new();
    writer.section(&SectionInfo {
        hardware: "x86-64",
        os: "Linux 6.18",
        application: "vswitch 0.1.0",
        comments: &["one", "two"],
    });
    let reader = Reader::new(writer.bytes()).unwrap();
    assert_eq!(reader.section().application, "vswitch 0.1.0");
    assert_eq!(reader.section().comments, ["one", "two"]);
}

#[test]
fn notes_lie_between_packets_and_nobody_else_sees_them() {
    let mut writer = writer();
    writer.interface(&InterfaceInfo::default());
    let packet = PacketInfo {
        bytes: &[7; 60],
        ..PacketInfo::default()
    };
    for text in ["", "1", "{\"n\":22}", "\u{e9}t\u{e9}"] {
        assert!(writer.note(text));
        writer.packet(&packet);
    }
    let most = usize::try_from(BLOCK_BYTES_MAX).unwrap() - 16;
    assert!(!writer.note(&"x".repeat(most + 1)), "too long for a block");
    assert!(writer.note(&"x".repeat(most)));
    let bytes = writer.take();
    let mut reader = Reader::new(bytes.as_slice()).unwrap();
    let (mut notes, mut packets) = (Vec::new(), 0);
    while let Some(item) = reader.next_item().unwrap() {
        match item {
            Item::Packet(packet) => packets += packet.bytes.len() / 60,
            Item::Note(note) => notes.push(String::from_utf8(note.to_vec()).unwrap()),
        }
    }
    assert_eq!((packets, notes.len()), (4, 5));
    let expected = ["", "1   ", "{\"n\":22}", "\u{e9}t\u{e9}   "];
    assert_eq!(notes[..4], expected);
    assert_eq!(read_whole(&bytes).packets.len(), 4);
    // Somebody else's block of that kind is passed over.
    let place = bytes
        .windows(4)
        .position(|word| word == [0xad, 0x0b, 0, 0])
        .unwrap();
    let mut others = bytes;
    others[place + 8] ^= 1;
    let mut reader = Reader::new(others.as_slice()).unwrap();
    assert!(matches!(reader.next_item(), Ok(Some(Item::Packet(_)))));
}

#[test]
fn a_packet_takes_no_memory_once_the_buffer_has_grown() {
    let mut writer = writer();
    let frame = [0xab; 1514];
    let info = PacketInfo {
        bytes: &frame,
        packet_id: Some(1),
        comments: &["forward to veth2"],
        ..PacketInfo::default()
    };
    writer.packet(&info);
    writer.clear();
    let capacity = writer.out.capacity();
    for _ in 0..100 {
        writer.packet(&info);
        assert!(!writer.bytes().is_empty());
        writer.clear();
    }
    assert_eq!(writer.out.capacity(), capacity);
}

#[test]
fn what_is_too_long_is_cut() {
    let mut writer = writer();
    let name = "x".repeat(1024);
    writer.interface(&InterfaceInfo {
        name: &name,
        ..InterfaceInfo::default()
    });
    // 65,535 is odd, and every character has two bytes.
    let long = "ü".repeat(40_000);
    let comments = vec![long.as_str(); 300];
    let frame = vec![7; 300_000];
    writer.packet(&PacketInfo {
        bytes: &frame,
        comments: &comments,
        ..PacketInfo::default()
    });
    let course = read_whole(writer.bytes());
    let packet = &course.packets[0];
    assert_eq!(packet.bytes.len(), super::super::PACKET_BYTES_MAX);
    assert_eq!(packet.original_bytes, 300_000);
    assert_eq!(packet.comments[0].len(), 65_534);
    let most = (16 * 1024 * 1024 - 262_144) / 65_540;
    assert_eq!(packet.comments.len(), most);
}
