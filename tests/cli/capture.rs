//! `vswitch capture -r`: what is said of a file.

use etherparse::PacketBuilder;
use switch::pcapng::{Direction, InterfaceInfo, PacketInfo, SectionInfo, StatisticsInfo, Writer};

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

/// A packet that is dropped, and one that goes out; each a microsecond after the one before.
fn whole() -> Writer {
    let mut writer = Writer::new();
    writer.section(&SectionInfo::default());
    for name in ["veth1", "drops", "veth2", "eth0"] {
        writer.interface(&InterfaceInfo {
            name,
            ..InterfaceInfo::default()
        });
    }
    let ip = || PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([10, 9, 0, 2], [1, 1, 1, 1], 64);
    let (mut icmp, mut udp) = (Vec::new(), Vec::new());
    let ping = ip().icmpv4_echo_request(7, 1);
    ping.write(&mut icmp, b"hello").unwrap();
    ip().udp(5000, 53).write(&mut udp, b"hello").unwrap();
    let (came, went) = (Some(Direction::Inbound), Some(Direction::Outbound));
    for (interface, bytes, direction, queue, comment) in [
        (0, &icmp, came, 0, "DROPPED TTL_EXPIRED"),
        (1, &icmp, None, 0, "DROPPED TTL_EXPIRED"),
        (2, &udp, came, 1, "FORWARDED veth2 → eth0"),
        (3, &udp, went, 1, "nat 10.9.0.2:5000 -> 192.0.2.1:61000"),
    ] {
        writer.packet(&PacketInfo {
            interface,
            time: u64::from(interface) * 1_000,
            bytes,
            direction,
            queue: Some(queue),
            comments: &[comment],
            ..PacketInfo::default()
        });
    }
    writer
}

#[test]
fn a_file_is_asked_what_it_says_of_its_packets() {
    let scratch = Scratch::new();
    let file = scratch.path().join("run.pcapng");
    std::fs::write(&file, whole().bytes()).unwrap();
    let read = |words: &str| vswitch(&format!("capture {words} -r"), &[&file]);
    for (words, expected) in [
        ("", "0123"),
        ("-Q in", "012"),
        ("-Q out", "3"),
        ("-Q inout", "0123"),
        ("on veth1 or veth2", "02"),
        ("icmp and not on drops", "0"),
        ("on drops", "1"),
        ("worker 1", "23"),
        ("-Q out worker 0", ""),
        ("on veth9", ""),
    ] {
        let ended = read(words);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{words}");
        // 00:00:00.000003
        let lines = ended.stdout.lines();
        let found: String = lines.map(|line| &line[14..15]).collect();
        assert_eq!(found, expected, "{words}");
    }
    // The filter is asked of all bytes there are, before they are cut.
    let line = "00:00:00.000003 eth0 Out  10.9.0.2:5000 > 1.1.1.1:53  UDP, 47 bytes  \
                [nat 10.9.0.2:5000 -> 192.0.2.1:61000]\n";
    assert_eq!(read("udp -Q out").stdout, line);
    let cut = "02:02:02:02:02:02 > 04:04:04:04:04:04  type 0x0800";
    let cut = line.replace("10.9.0.2:5000 > 1.1.1.1:53  UDP", cut);
    assert_eq!(read("-s 14 udp -Q out").stdout, cut);
}

#[test]
fn what_a_file_does_not_say_is_refused() {
    let scratch = Scratch::new();
    let file = scratch.path().join("bare.pcapng");
    let mut bare = Writer::new();
    bare.section(&SectionInfo::default());
    bare.interface(&InterfaceInfo::default());
    bare.packet(&PacketInfo {
        bytes: &[0; 60],
        ..PacketInfo::default()
    });
    std::fs::write(&file, bare.bytes()).unwrap();
    let name = file.display();
    let never = "a capture does not say this of each packet";
    for (words, code, what, why, rest) in [
        ("udp and drop", 2, "drop", never, " on drops"),
        (
            "reason no_route",
            2,
            "reason",
            never,
            " on drops | grep NO_ROUTE",
        ),
        ("nat", 2, "nat", never, " | grep -F '[nat '"),
        (
            "-Q in",
            1,
            "",
            "it does not say which of its packets came in and which went out",
            "",
        ),
        (
            "not on veth1",
            1,
            "",
            "it does not say at which ports its packets were",
            "",
        ),
        (
            "worker 0",
            1,
            "",
            "it does not say which worker decided on its packets",
            "",
        ),
    ] {
        let ended = vswitch(&format!("capture {words} -r"), &[&file]);
        let what = if what.is_empty() {
            name.to_string()
        } else {
            what.to_owned()
        };
        let error = format!("error: {what}: {why}; fix: vswitch capture -r {name}{rest}\n");
        assert_eq!((ended.code, ended.stderr), (code, error), "{words}");
        assert_eq!(ended.stdout, "");
    }
}
