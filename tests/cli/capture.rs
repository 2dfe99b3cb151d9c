//! `vswitch capture -r`: what is said of a file.

use switch::pcapng::{InterfaceInfo, PacketInfo, SectionInfo, StatisticsInfo, Writer};

use super::{Scratch, vswitch};

/// Two packets, before the second of which two were lost.
fn writer() -> Writer {
    let mut writer = Writer::new();
    writer.section(&SectionInfo::default());
    writer.interface(&InterfaceInfo {
        name: "veth1",
        ..InterfaceInfo::default()
    });
    for dropped in [None, Some(2)] {
        writer.packet(&PacketInfo {
            bytes: &[0; 60],
            dropped,
            ..PacketInfo::default()
        });
    }
    writer
}

#[test]
fn what_was_lost_is_said_also_where_it_was_behind_the_last_packet() {
    let scratch = Scratch::new();
    let said = |name: &str, writer: &Writer, words: &str| {
        let file = scratch.path().join(name);
        std::fs::write(&file, writer.bytes()).unwrap();
        let ended = vswitch(&format!("capture {words} -r"), &[&file]);
        assert_eq!(ended.code, 0, "{ended:?}");
        (ended.stdout.lines().count(), ended.stderr)
    };
    let lost = |count: u64| format!("{count} packets were lost while this was captured\n");
    let mut writer = writer();
    assert_eq!(said("packets.pcapng", &writer, ""), (2, lost(2)));
    assert_eq!(said("packets.pcapng", &writer, "-c 1"), (1, String::new()));
    // A filter chooses what is printed, not what was lost.
    assert_eq!(said("packets.pcapng", &writer, "icmp"), (0, lost(2)));
    writer.statistics(&StatisticsInfo {
        dropped: Some(9),
        ..StatisticsInfo::default()
    });
    assert_eq!(said("statistics.pcapng", &writer, ""), (2, lost(9)));
    assert_eq!(said("statistics.pcapng", &writer, "-q"), (2, String::new()));
}
