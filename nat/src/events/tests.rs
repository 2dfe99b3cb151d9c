use super::*;
use crate::tests::{Bench, C1, O1, O2, config, secs, tcp, udp};
use crate::wire::TcpFlags;

const SYN_ACK: TcpFlags = TcpFlags(0x12);

fn recording() -> Bench {
    let mut bench = Bench::new(config());
    bench.nat.record_events(true);
    bench
}

/// What was recorded, in words: kind, state, age.
fn taken(bench: &mut Bench) -> Vec<String> {
    let mut events = Vec::new();
    assert_eq!(bench.nat.take_events(&mut events), 0);
    let words = |event: &Event| match event.what {
        What::MappingNew(m) => format!("+{} {}", m.protocol.name(), m.inside.1),
        What::MappingEnd(m) => format!("-{} {}", m.protocol.name(), m.inside.1),
        What::SessionNew(s) => format!("new {} {}", s.state, s.remote.1),
        What::SessionUpdate(s) => format!("update {} {}", s.state, s.remote.1),
        What::SessionEnd(s) => format!("end {} {}", s.state, s.remote.1),
    };
    events.iter().map(words).collect()
}

#[test]
fn a4_6_a_connections_life_is_recorded_in_order() {
    let mut bench = recording();
    let (client, server) = ((C1, 41_000), (O1, 80));
    let ext = bench.map(&tcp(client, server, TcpFlags::SYN));
    bench.map(&tcp(client, server, TcpFlags::SYN));
    bench.deliver(&tcp(server, ext, SYN_ACK));
    bench.map(&tcp(client, server, TcpFlags::ACK));
    bench.map(&tcp(client, server, TcpFlags::ACK));
    bench.deliver(&tcp(server, ext, TcpFlags::RST));
    bench.wait(241);
    let expected = [
        "+tcp 41000",
        "new SYN_SENT 80",
        "update SYN_RECV 80",
        "update ESTABLISHED 80",
        "update CLOSE 80",
        "end CLOSE 80",
        "-tcp 41000",
    ];
    assert_eq!(taken(&mut bench), expected);
}

#[test]
fn a4_6_a_mapping_is_recorded_once_for_all_its_sessions() {
    let mut bench = recording();
    let ext = bench.map(&udp((C1, 5_555), (O1, 7)));
    bench.map(&udp((C1, 5_555), (O2, 9)));
    bench.deliver(&udp((O1, 7), ext));
    bench.deliver(&udp((O1, 7), ext));
    let expected = [
        "+udp 5555",
        "new UNREPLIED 7",
        "new UNREPLIED 9",
        "update REPLIED 7",
    ];
    assert_eq!(taken(&mut bench), expected);
    bench.nat.flush();
    assert_eq!(
        taken(&mut bench),
        ["end REPLIED 7", "end UNREPLIED 9", "-udp 5555"]
    );
}

#[test]
fn a4_6_records_carry_addresses_counters_and_time() {
    let mut bench = recording();
    let ext = bench.map(&udp((C1, 5_555), (O1, 7)));
    bench.wait(400);
    let mut events = Vec::new();
    bench.nat.take_events(&mut events);
    let [new, _, end, gone] = events.as_slice() else {
        panic!("{events:?}");
    };
    let mapping = MappingView {
        protocol: Protocol::Udp,
        inside: (C1.into(), 5_555),
        external: (ext.0.into(), ext.1),
    };
    assert_eq!((new.at, new.what), (secs(1_000), What::MappingNew(mapping)));
    assert_eq!(
        (gone.at, gone.what),
        (secs(1_400), What::MappingEnd(mapping))
    );
    let What::SessionEnd(session) = end.what else {
        panic!("{end:?}");
    };
    assert_eq!((session.outbound.packets, session.remote.1), (1, 7));
}

#[test]
fn a4_6_what_does_not_fit_is_counted_and_nothing_allocates() {
    let mut bench = recording();
    let open = |bench: &mut Bench, from: u16| {
        for port in 0..EVENTS_MAX / 2 {
            let port = from + u16::try_from(port).unwrap();
            bench.map(&udp((C1, port), (O1, 7)));
        }
    };
    open(&mut bench, 1_024);
    assert_eq!(bench.nat.events_waiting(), EVENTS_MAX);
    bench.map(&udp((C1, 60_000), (O1, 7)));
    let mut events = Vec::with_capacity(EVENTS_MAX);
    let before = events.as_ptr();
    assert_eq!(bench.nat.take_events(&mut events), 2);
    assert_eq!((events.len(), events.as_ptr()), (EVENTS_MAX, before));
    assert_eq!(bench.nat.take_events(&mut events), 0, "lost is told once");
    bench.map(&udp((C1, 60_001), (O1, 7)));
    assert_eq!(bench.nat.events_waiting(), 2, "there is room again");
}

#[test]
fn a4_6_recording_is_switched_on_and_off_live() {
    let mut bench = Bench::new(config());
    bench.map(&udp((C1, 5_555), (O1, 7)));
    assert!(taken(&mut bench).is_empty(), "off unless asked for");
    bench.nat.record_events(true);
    bench.map(&udp((C1, 5_555), (O1, 9)));
    bench.nat.record_events(true);
    assert_eq!(taken(&mut bench), ["new UNREPLIED 9"]);
    bench.map(&udp((C1, 5_556), (O1, 9)));
    bench.nat.record_events(false);
    assert!(taken(&mut bench).is_empty() && !bench.nat.events.is_on());
}
