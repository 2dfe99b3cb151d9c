//! What would become of a packet, asked of a running switch.

use std::process::Output;

use switch::pcapng::{InterfaceInfo, PacketInfo, SectionInfo, Writer};
use switch::what_if::{Addresses, Known, Packet};
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::ping::Ping;

use super::frames::SILENCE;
use super::world::{World, world};

/// Exit code and output.
fn asked(world: &World, port: &str, words: &str) -> (Option<i32>, String) {
    told(&world.client(&format!("trace --what-if {port} {words}")))
}

fn told(output: &Output) -> (Option<i32>, String) {
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    (output.status.code(), format!("{errors}{text}"))
}

/// All that would change if a packet were sent: tables, and what is counted.
fn tables(world: &World) -> [serde_json::Value; 4] {
    let status = &world.json("status")["totals"];
    let counts = ["received", "originated", "sent", "held", "copies"];
    let counts = counts.map(|name| status[name].clone());
    let stations = serde_json::to_value(world.stations()).unwrap();
    let column = |rows: &serde_json::Value, key: &str| {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row[key].clone()).collect()
    };
    let neighbours = column(&world.json("neigh"), "dst");
    let sessions = column(&world.json("nat")["sessions"], "external");
    [stations, neighbours, sessions, counts.into()]
}

#[test]
fn a_packet_is_told_to_its_end_and_none_is_sent() {
    // An interface that goes down loses its routes but the one to its own network.
    let routeless = |net: &Topology| {
        net.h.set_up(Topology::UPLINK, false).unwrap();
        net.h.set_up(Topology::UPLINK, true).unwrap();
        net.h.wait_running(Topology::UPLINK).unwrap();
    };
    let setup = world().args("--publish 8080:veth1:80").prepare(routeless);
    let Some(world) = setup.start() else { return };
    let (member, outside) = (world.ip(1), Topology::OUTSIDE);
    world.ping_perfectly(world.c(1), &Ping::to(outside).count(1));
    let before = tables(&world);
    let out = format!("tcp {member}:40000 > {outside}:443 syn");

    let (code, text) = asked(&world, "veth1", &out);
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "(the neighbour's) > ",
        "(the switch's own)\n#1  ",
        &format!("{member}:40000 > {outside}:443  TCP syn, 54 bytes"),
        &format!(" nat      NEW {member}:40000 -> "),
        " tx       eth0\n",
        "   FORWARDED veth1",
        "\n   (no packet was sent)\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in:\n{text}");
    }

    // A way that the uplink does not have; the sender would be told.
    let (code, text) = asked(&world, "veth1", &format!("tcp {member} > 192.88.99.1:22"));
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("DROPPED NO_ROUTE"), "{text}");
    assert!(text.contains("tells the sender: net unreachable"), "{text}");
    assert!(text.ends_with("   (no packet was sent)\n"), "{text}");

    // From outside to a published port, and to one that nobody has asked for.
    let to = |port: u16| format!("tcp {outside}:5000 > {}:{port} syn", Topology::HOST);
    let (code, text) = asked(&world, "eth0", &to(8080));
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!(":8080 -> {member}:80")), "{text}");
    assert!(text.contains("FORWARDED eth0 → veth1"), "{text}");
    let (code, text) = asked(&world, "eth0", &to(61_000));
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("DROPPED NAT_UNSOLICITED"), "{text}");

    let json = world.json(&format!("trace --what-if veth1 {out}"));
    assert_eq!(json["schema"], "vswitch.what-if/1");
    assert_eq!(
        (&json["dropped"], &json["port"]),
        (&false.into(), &"veth1".into())
    );
    assert_eq!(json["story"], "FORWARDED veth1 → eth0");
    assert_eq!(json["from"]["known"], "the neighbour's");
    assert_eq!(json["records"][0]["schema"], "vswitch.trace/1");
    assert_eq!(json["records"].as_array().unwrap().len(), 1);

    std::thread::sleep(SILENCE);
    assert_eq!(tables(&world), before, "asking has changed something");
    world.finish(&[]);
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let Some(world) = world().no_uplink().start() else {
        return;
    };
    let member = world.ip(1);
    let (code, text) = asked(&world, "veth9", &format!("icmp {member} > 1.1.1.1"));
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.starts_with("error: port veth9: there is none; fix: vswitch port"),
        "{text}"
    );
    let (code, text) = asked(&world, "veth1", "icmp 10.9.0.2 > 1.1.1.1 tll 3");
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.starts_with("error: packet:25: `tll` is nothing"),
        "{text}"
    );
    assert!(text.ends_with("\n                        ^^^\n"), "{text}");
    world.finish(&[]);
}

#[test]
fn the_packet_may_be_the_first_of_a_capture() {
    let Some(world) = world().no_uplink().start() else {
        return;
    };
    let (one, two) = (world.ip(1), world.ip(2));
    world.ping_perfectly(world.c(1), &Ping::to(two).count(1));
    let mac = |i: usize| switch::mac::Mac(world.c(i).link("eth0").unwrap().mac.unwrap().0);
    let stations = Addresses {
        from: (mac(1), Known::Said),
        to: (mac(2), Known::Said),
    };
    let packet = Packet::parse(&format!("udp {one}:5000 > {two}:6000 len 200")).unwrap();
    let mut writer = Writer::new();
    writer.section(&SectionInfo::default());
    writer.interface(&InterfaceInfo::default());
    let frame = packet.frame(stations);
    for _ in 0..2 {
        writer.packet(&PacketInfo {
            bytes: &frame,
            original_bytes: u32::try_from(frame.len()).unwrap(),
            ..PacketInfo::default()
        });
    }
    let file = world.run_dir().join("two.pcapng");
    std::fs::write(&file, writer.bytes()).unwrap();
    let file = file.display();
    let (code, text) = told(&world.client(&format!("trace --what-if veth1 -r {file}")));
    assert_eq!(code, Some(0), "{text}");
    let more = format!("{file} holds more packets; this is the first\n");
    assert!(text.starts_with(&more), "{text}");
    assert!(
        text.contains(&format!("{one}:5000 > {two}:6000  UDP, 214 bytes")),
        "{text}"
    );
    assert!(text.contains("   FORWARDED veth1"), "{text}");
    let (code, text) = told(&world.client("trace --what-if veth1 -r /dev/null"));
    assert_eq!(code, Some(1), "{text}");
    world.finish(&[]);
}
