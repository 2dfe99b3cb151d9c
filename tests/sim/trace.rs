//! Packets' stories, as the tracer tells them: whole, in order, and at no price for the packets.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nat::{Nanos, Protocol};
use switch::config::Role;
use switch::counters::Totals;
use switch::frame::Offload;
use switch::mac::Mac;
use switch::port::PortIndex;
use switch::switch::Trace;
use switch::trace::{Limits, PacketId, Record, Seen, Selector, Step, Story, TracePortion, Words};
use switch::verdict::Verdict;

use super::host::{ECHO, Order};
use super::packet::{Ip, Sum, ethernet};
use super::publish::publish;
use super::seeded::{BAD, Run, runs};
use super::world::{EXTERNAL, FAR, GATEWAY_MAC, O1, Setup, Steering, World, member_ip, member_mac};

/// The simulated tracer's clock: 100 ns from one look to the next.
const LOOK: u64 = 100;

/// Ports as a reader calls them; no story depends on when it was.
pub(super) struct Names(Vec<Role>);

impl Names {
    pub(super) fn of(world: &World) -> Self {
        Self(world.wires.iter().map(|wire| wire.role).collect())
    }
}

impl Words for Names {
    fn port(&self, port: PortIndex) -> String {
        match self.0[port.index()] {
            Role::Member => format!("veth{}", port.0),
            Role::Uplink => "uplink".into(),
            Role::Host => "host".into(),
        }
    }
}

impl World {
    /// Traces from now on.
    pub(super) fn trace(&mut self, selector: Selector, limits: Limits) -> Trace {
        let time = AtomicU64::new(0);
        let clock = move || Nanos(time.fetch_add(LOOK, Ordering::Relaxed));
        let reader = self.switch.trace(selector, limits, Arc::new(clock));
        self.obey();
        reader
    }

    /// Traces what comes of an action, over all workers, in order.
    fn traced(&mut self, selector: Selector, action: impl FnOnce(&mut Self)) -> Vec<Record> {
        let trace = self.trace(selector, Limits::default());
        action(self);
        self.run();
        let records = self.end_trace(trace);
        self.check();
        records
    }

    /// All that a trace has recorded, over all workers, in order; nothing of it was lost.
    pub(super) fn end_trace(&mut self, trace: Trace) -> Vec<Record> {
        self.switch.stop_trace(trace.id);
        self.obey();
        let portions: Vec<TracePortion> = trace.portions.try_iter().collect();
        assert!(portions.iter().all(|portion| portion.lost == 0));
        let mut records: Vec<Record> = portions.iter().flat_map(TracePortion::records).collect();
        records.sort_by_key(|record| record.began);
        records
    }

    /// As [`traced`](Self::traced), in words.
    fn story(&mut self, selector: Selector, action: impl FnOnce(&mut Self)) -> String {
        let names = Names::of(self);
        let records = self.traced(selector, action);
        let lines = (1..)
            .zip(&records)
            .map(|(n, record)| Story::of(record, &names).text(n, "now"));
        lines.collect()
    }
}

/// IPv4 only: no ARP of the hosts' own.
fn ipv4() -> Selector {
    Selector::filter(|seen| seen.bytes.get(12..14) == Some(&[8, 0]))
}

/// Compares a story with the committed one; with `VSWITCH_BLESS=1` in the environment, writes it.
fn told(name: &str, story: &str) {
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sim/stories");
    let path = stories.join(name).with_extension("txt");
    if std::env::var_os("VSWITCH_BLESS").is_some() {
        std::fs::write(&path, story).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(story, committed, "{name}; if it is meant: VSWITCH_BLESS=1");
}

#[test]
fn a_frame_between_members_is_flooded_then_forwarded() {
    let mut world = World::new(Setup::default());
    let frame = |to, from| ethernet(to, from, 0x9999, &[0; 46]);
    let story = world.story(Selector::ALL, |world| {
        world.send(0, &frame(member_mac(1), member_mac(0)), Offload::PLAIN);
        world.run();
        world.send(1, &frame(member_mac(0), member_mac(1)), Offload::PLAIN);
    });
    told("switched", &story);
}

#[test]
fn what_is_dropped_is_told_with_its_reason_and_fix() {
    let mut world = World::greeted(Setup::default());
    let selector = Selector {
        drops_only: true,
        ..Selector::ALL
    };
    let story = world.story(selector, |world| {
        let spoof = ethernet(Mac::BROADCAST, GATEWAY_MAC, 0x9999, &[0; 46]);
        world.send(0, &spoof, Offload::PLAIN);
        world.host(1).ping(O1, 7, 1, b"fine");
        world.host(1).ping([192, 0, 2, 1], 7, 2, b"no route");
        world.plug(2, false);
        let down = ethernet(member_mac(2), member_mac(1), 0x9999, &[0; 46]);
        world.send(1, &down, Offload::PLAIN);
    });
    told("drops", &story);
}

#[test]
fn a_ping_is_routed_and_translated_out_and_its_reply_back() {
    let mut world = World::greeted(Setup::default());
    let story = world.story(ipv4(), |world| world.host(0).ping(FAR, 7, 1, b"hello"));
    told("ping", &story);
}

#[test]
fn a_member_reaches_another_by_the_external_address_and_a_published_port() {
    let mut world = World::greeted(Setup::default());
    let targets = [(member_ip(1), ECHO)];
    world.publish(vec![publish(Protocol::Udp, 8080..=8080, &targets, 0)]);
    let story = world.story(ipv4(), |world| {
        world
            .outside(O1)
            .udp(EXTERNAL, (5000, 8080), b"from outside");
        world.run();
        world.host(1).inbox.clear();
        let request = Ip::new(member_ip(0), EXTERNAL).udp((6000, 8080), b"inside", Sum::Full);
        world.host(0).send_packet(request);
    });
    told("hairpin", &story);
}

#[test]
fn a_packet_handed_over_leaves_two_pieces_of_one_name() {
    let mut world = World::greeted(Setup {
        workers: 2,
        steering: Steering::Wrong,
        ..Setup::default()
    });
    let to_echo = |world: &mut World| world.host(0).udp(O1, (5000, ECHO), b"hello");
    let names = Names::of(&world);
    let records = world.traced(ipv4(), to_echo);
    let ids: Vec<_> = records.iter().map(|r| (r.id, r.worker)).collect();
    let [(_, 0), (first, 1), (second, 0)] = ids[..] else {
        panic!("{records:?}");
    };
    assert_eq!(
        first, second,
        "the reply, at the worker it came to and at its owner"
    );
    assert_eq!(first.worker(), 1);
    assert_eq!(records[1].verdict, Some(Verdict::HandOver(0)));
    let story: String = records[1..]
        .iter()
        .map(|r| Story::of(r, &names).text(2, "now"))
        .collect();
    told("handover", &story);
}

#[test]
fn a_trace_has_nothing_of_what_another_chose_before_it() {
    let mut world = World::new(Setup::default());
    let first = world.trace(Selector::ALL, Limits::default());
    let (request, offload) = Ip::new(member_ip(0), O1).udp((5000, 9), b"hello", Sum::Full);
    let frame = ethernet(GATEWAY_MAC, member_mac(0), 0x0800, &request);
    assert!(world.send(0, &frame, offload));
    world.work();
    let held = world.end_trace(first);
    assert!(
        held.iter()
            .any(|record| record.verdict == Some(Verdict::Hold))
    );
    let second = world.trace(Selector::filter(|_| false), Limits::default());
    world.run();
    assert_eq!(world.switch.totals().routed, 1, "it went on");
    assert_eq!(world.end_trace(second), []);
}

#[test]
fn what_waits_for_arp_is_told_when_it_waits_and_when_it_goes_on() {
    let mut world = World::new(Setup::default());
    let request = Ip::new(member_ip(0), O1).udp((5000, 9), b"hello", Sum::Full);
    let story = world.story(Selector::ALL, |world| {
        world.host(0).send_to(GATEWAY_MAC, request);
    });
    told("held", &story);
}

#[test]
fn a_fragment_that_waits_for_the_first_one_keeps_its_name() {
    let mut world = World::greeted(Setup::default());
    let story = world.story(ipv4(), |world| {
        world
            .host(0)
            .udp_fragments(O1, (5000, 9), &[7; 900], (576, Order::Reversed));
    });
    told("fragment", &story);
}

#[test]
fn a_filter_matches_before_the_translation_or_after_it() {
    let mut world = World::greeted(Setup::default());
    for address in [member_ip(0), EXTERNAL] {
        let octets = address.octets();
        let names = move |seen: &Seen<'_>| {
            let bytes = seen.bytes;
            let ends = bytes.get(26..34).unwrap_or_default();
            bytes.get(12..14) == Some(&[8, 0]) && ends.chunks(4).any(|end| end == octets)
        };
        let records = world.traced(Selector::filter(names), |world| {
            world.host(0).ping(O1, 7, 1, b"out and back");
        });
        assert_eq!(records.len(), 2, "{address}: {records:?}");
        for record in &records {
            let after = record.after.as_ref().unwrap();
            assert_eq!(record.before.len, 54);
            assert_eq!(after.bytes.len(), 54);
            assert_ne!(record.before.bytes, after.bytes);
        }
    }
}

#[test]
fn a_wide_flood_keeps_its_count_where_it_has_no_room_for_every_port() {
    let mut world = World::new(Setup {
        members: 100,
        ..Setup::default()
    });
    let frame = ethernet(Mac::BROADCAST, member_mac(0), 0x9999, &[0; 46]);
    let records = world.traced(Selector::ALL, |world| {
        world.send(0, &frame, Offload::PLAIN);
    });
    let [record] = &records[..] else {
        panic!("{records:?}");
    };
    assert_eq!(record.copies, (99, 0));
    let told = record.steps.iter();
    let told = told
        .filter(|timed| matches!(timed.step, Step::Tx(_)))
        .count();
    assert_eq!(told + usize::try_from(record.steps_lost).unwrap(), 99);
    assert!(record.steps_lost > 0);
}

#[test]
fn a_session_is_followed_once_one_of_its_packets_was_wanted() {
    let mut world = World::greeted(Setup::default());
    let begins = Selector::filter(|seen| seen.bytes.ends_with(b"first"));
    let selector = Selector {
        follow: true,
        ..begins.clone()
    };
    for (selector, expected) in [(begins, 2), (selector, 4)] {
        let records = world.traced(selector, |world| {
            for body in [&b"before"[..], b"first", b"second"] {
                world.host(0).udp(O1, (5000, ECHO), body);
                world.host(1).udp(O1, (5000, ECHO), b"another's");
                world.run();
            }
        });
        // The first and its echo have the same content.
        assert_eq!(records.len(), expected, "{records:?}");
    }
}

#[test]
fn one_in_so_many_is_drawn_by_port_and_no_name_comes_twice() {
    let mut world = World::greeted(Setup::default());
    let mut ids = BTreeSet::new();
    for (one_in, ports, expected) in [(1, None, 24), (3, None, 8), (3, Some(vec![0]), 4)] {
        let ports: Option<Vec<u16>> = ports;
        let ports = ports.map(|ports| ports.into_iter().map(PortIndex).collect());
        let selector = Selector {
            one_in,
            ports,
            ..Selector::ALL
        };
        let records = world.traced(selector, |world| {
            for (place, other) in [(0, 1), (1, 0)].repeat(12) {
                let frame = ethernet(member_mac(other), member_mac(1 - other), 0x9999, &[0; 46]);
                world.send(place, &frame, Offload::PLAIN);
            }
        });
        assert_eq!(records.len(), expected);
        ids.extend(records.iter().map(|record| record.id));
    }
    assert_eq!(ids.len(), 24 + 8 + 4);
    assert!(!ids.contains(&PacketId::NONE));
}

#[test]
fn a_reader_that_never_reads_loses_records_and_no_frame() {
    let mut world = World::greeted(Setup::default());
    let limits = Limits {
        snap_bytes: 64,
        records: 16,
        bytes: 16 * 128,
    };
    let reader = world.trace(Selector::ALL, limits);
    let frame = ethernet(member_mac(1), member_mac(0), 0x9999, &[0; 46]);
    let mut delivered = 0;
    for _ in 0..10 {
        for _ in 0..20 {
            world.send(0, &frame, Offload::PLAIN);
        }
        world.run();
        delivered += world.frames(1).len();
    }
    assert_eq!(delivered, 200);
    let before: usize = reader
        .portions
        .try_iter()
        .map(|portion| portion.len())
        .sum();
    assert_eq!(before, 16, "what there is room for");
    // Its memory is back.
    world.send(0, &frame, Offload::PLAIN);
    world.run();
    world.obey();
    let last: Vec<TracePortion> = reader.portions.try_iter().collect();
    assert_eq!(last.iter().map(TracePortion::len).sum::<usize>(), 1);
    assert_eq!(last.last().unwrap().lost, 200 - 16);
    drop((last, reader));
    world.send(0, &frame, Offload::PLAIN);
    world.obey();
    world.run();
    world.check();
}

#[test]
fn tracing_changes_no_frame_and_accounts_for_all_of_them() {
    for seed in 0..runs(60) {
        let mut plain = Run::new(seed, BAD);
        plain.world.obey();
        plain.go_with(40, |_| {});
        let mut run = Run::new(seed, BAD);
        let before = run.world.switch.totals();
        let limits = Limits {
            snap_bytes: 64,
            records: 1 << 14,
            bytes: 1 << 21,
        };
        let reader = run.world.trace(Selector::ALL, limits);
        run.go_with(40, |_| {});
        assert_eq!(run.world.hash, plain.world.hash, "seed {seed}");
        assert_eq!(
            run.world.switch.totals(),
            plain.world.switch.totals(),
            "seed {seed}"
        );
        run.world.switch.stop_trace(reader.id);
        run.world.obey();
        let mut records = Vec::new();
        for portion in reader.portions.try_iter() {
            assert_eq!(portion.lost, 0, "seed {seed}");
            records.extend(portion.records());
        }
        account(seed, &records, (before, run.world.switch.totals()));
    }
}

/// Every frame that came in has a record, and so has every copy that left.
fn account(seed: u64, records: &[Record], (before, after): (Totals, Totals)) {
    let decided = records.iter().filter(|record| record.verdict.is_some());
    let came = |t: &Totals| t.received + t.released + t.taken_over;
    assert_eq!(
        decided.count() as u64,
        came(&after) - came(&before),
        "seed {seed}"
    );
    let sum = |count: fn(&Record) -> u32| records.iter().map(|r| u64::from(count(r))).sum::<u64>();
    assert_eq!(sum(|r| r.copies.0), after.sent - before.sent, "seed {seed}");
    let dropped = after.dropped_egress - before.dropped_egress;
    assert_eq!(sum(|r| r.copies.1), dropped, "seed {seed}");
    let came_in = |record: &&Record| matches!(record.steps[0].step, Step::Rx(_));
    let firsts: Vec<PacketId> = records.iter().filter(came_in).map(|r| r.id).collect();
    let names: BTreeSet<&PacketId> = firsts.iter().collect();
    assert_eq!(
        names.len() as u64,
        after.received - before.received,
        "seed {seed}"
    );
    for record in records.iter().filter(|record| !came_in(record)) {
        let is_known = |id| names.contains(&id);
        let of = record.cause.unwrap_or(record.id);
        let is_made = record.verdict.is_none();
        // What the gateway asks at a tick comes of no packet.
        assert!(
            is_known(of) || is_made && record.cause.is_none(),
            "seed {seed}: {record:?}"
        );
    }
}
