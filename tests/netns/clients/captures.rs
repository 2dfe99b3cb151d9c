//! Captures as the world's readers see what [`switch::pcapng`] writes, and the other way round.

use std::net::IpAddr;

use etherparse::PacketBuilder;
use switch::pcapng::{
    Direction, InterfaceInfo, PacketInfo, Reader, SectionInfo, StatisticsInfo, Writer,
};

use super::{Dir, Said, command, installed};

/// 2026-11-22 13:00:00 UTC.
const TIME: u64 = 1_795_352_400_000_000_000;
const PACKETS: u64 = 20;

/// Runs a program where the tests run; it needs no network.
fn run(words: &str) -> Said {
    let output = command(words).output().unwrap();
    let lines = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines().map(String::from).collect()
    };
    let said = Said {
        success: output.status.success(),
        lines: lines(&output.stdout),
        errors: lines(&output.stderr),
    };
    assert!(said.success, "{words}: {said:#?}");
    said
}

/// A datagram from 10.9.0.2 to 10.9.0.3, with right checksums.
fn datagram(number: u64) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 1, 0], [2, 0, 0, 0, 1, 1])
        .ipv4([10, 9, 0, 2], [10, 9, 0, 3], 64)
        .udp(40_000, 9_999);
    let mut frame = Vec::new();
    builder
        .write(&mut frame, &number.to_be_bytes().repeat(5))
        .unwrap();
    frame
}

/// A capture with all that the writer can write.
fn capture() -> Vec<u8> {
    let mut writer = Writer::new();
    writer.section(&SectionInfo {
        os: "Linux 6.18",
        application: "vswitch 0.1.0",
        ..SectionInfo::default()
    });
    for (name, description) in [("veth1", "the first of two"), ("veth2", "")] {
        writer.interface(&InterfaceInfo {
            name,
            description,
            snaplen: 65_535,
            filter: "udp port 9999",
            ..InterfaceInfo::default()
        });
    }
    writer.names([(IpAddr::from([10, 9, 0, 2]), "one.example")]);
    for number in 0..PACKETS {
        let frame = datagram(number);
        let comment = format!("forward to veth{}, number {number}", 1 + number % 2);
        writer.packet(&PacketInfo {
            interface: u32::try_from(number % 2).unwrap(),
            time: TIME + number * 1_000_001,
            bytes: &frame,
            original_bytes: u32::try_from(frame.len()).unwrap(),
            direction: Some(
                [Direction::Inbound, Direction::Outbound][usize::from(number % 2 == 1)],
            ),
            dropped: Some(0),
            packet_id: Some(1000 + number / 2),
            queue: Some(3),
            comments: &[&comment, "zweite Zeile: ü"],
        });
    }
    for interface in 0..2 {
        writer.statistics(&StatisticsInfo {
            interface,
            time: TIME + 1_000_000_000,
            start: Some(TIME),
            end: Some(TIME + 1_000_000_000),
            received: Some(PACKETS / 2),
            dropped: Some(7),
            os_dropped: Some(0),
        });
    }
    writer.bytes().to_vec()
}

#[test]
fn wireshark_finds_nothing_to_complain_of() {
    if !installed(&["tshark"]) {
        return;
    }
    let dir = Dir::new();
    let file = dir.write("capture.pcapng", capture());
    // Without warnings the list of what an expert would note is empty.
    let said = run(&format!("tshark -n -r {file} -q -z expert,warn"));
    assert!(
        said.lines.iter().all(|line| line.trim().is_empty()),
        "{said:#?}"
    );
    let fields = "-e frame.comment -e frame.packet_id -e frame.interface_name \
                  -e frame.time_epoch -e frame.packet_flags_direction -e frame.interface_queue \
                  -e udp.checksum.status";
    let said = run(&format!(
        "tshark -n -r {file} -o udp.check_checksum:TRUE -T fields {fields}"
    ));
    let lines: Vec<String> = (0..PACKETS)
        .map(|number| {
            let port = 1 + number % 2;
            let nanoseconds = TIME + number * 1_000_001;
            let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
            let id = 1000 + number / 2;
            format!(
                "forward to veth{port}, number {number},zweite Zeile: ü\t{id}\tveth{port}\t\
                 {seconds}.{rest:09}\t{port}\t3\t1"
            )
        })
        .collect();
    // Later versions print the direction without the noughts.
    let said: Vec<String> = said
        .lines
        .iter()
        .map(|line| line.replace("\t0x0000000", "\t"))
        .collect();
    assert_eq!(said, lines);
    let said = run(&format!("tshark -r {file} -Nn -T fields -e ip.src_host"));
    assert_eq!(said.lines[0], "one.example");
}

#[test]
fn capinfos_counts_what_was_written() {
    if !installed(&["capinfos"]) {
        return;
    }
    let dir = Dir::new();
    let file = dir.write("capture.pcapng", capture());
    let said = run(&format!("capinfos -M {file}"));
    for part in [
        "Number of packets:   20",
        "Capture oper-sys:    Linux 6.18",
        "Capture application: vswitch 0.1.0",
        "Number of interfaces in file: 2",
        "Name = veth1",
        "Description = the first of two",
        "Time precision = nanoseconds (9)",
        "Filter string = udp port 9999",
        "Number of stat entries = 1",
        "Number of packets = 10",
        "Number of resolved IPv4 addresses in file: 1",
    ] {
        said.expect(part);
    }
}

#[test]
fn tcpdump_reads_what_is_written() {
    if !installed(&["tcpdump"]) {
        return;
    }
    let dir = Dir::new();
    let file = dir.write("capture.pcapng", capture());
    let said = run(&format!("tcpdump -n -tt -vv --nano -r {file}"));
    let udp = "10.9.0.2.40000 > 10.9.0.3.9999: [udp sum ok] UDP, length 40";
    let lines = said.lines.iter().filter(|line| line.contains(udp)).count();
    assert_eq!(u64::try_from(lines).unwrap(), PACKETS, "{said:#?}");
    assert!(said.lines[0].starts_with("1795352400.000000000 IP"));
}

/// What [`Reader`] makes of a file: time and bytes of every packet.
fn packets(bytes: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let mut reader = Reader::new(bytes).unwrap();
    let mut packets = Vec::new();
    while let Some(packet) = reader.next_packet().unwrap() {
        packets.push((packet.time.unwrap(), packet.bytes.to_vec()));
    }
    packets
}

#[test]
fn what_others_write_is_read() {
    if !installed(&["editcap"]) {
        return;
    }
    let dir = Dir::new();
    let capture = capture();
    let file = dir.write("capture.pcapng", &capture);
    let all = packets(&capture);
    assert_eq!(all.len(), 20);
    let whole: Vec<(u64, Vec<u8>)> = all
        .iter()
        .map(|(time, bytes)| (time / 1000 * 1000, bytes.clone()))
        .collect();
    for (format, expected) in [("pcapng", &all), ("nsecpcap", &all), ("pcap", &whole)] {
        let other = dir.file(format);
        run(&format!("editcap -F {format} {file} {other}"));
        assert_eq!(&packets(&dir.read(format)), expected, "{format}");
    }
}
