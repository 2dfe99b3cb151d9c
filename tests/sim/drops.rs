//! Goal: of every reason that is counted there is a packet, and it is the one that was dropped.
//! Method: seeded storms of bad frames, with everything traced: the tracer tells of each drop by
//! another way than the one by which it is kept.

use std::collections::BTreeMap;

use nat::Nanos;
use switch::config::Role;
use switch::drops::{DropRecord, kept};
use switch::frame::Offload;
use switch::limits::{DROP_BYTES, DROPS_FIRST, DROPS_LAST};
use switch::mac::Mac;
use switch::port::PortIndex;
use switch::trace::{Limits, Record, Selector, Snap, Step};
use switch::verdict::{DropReason, Verdict};
use switch::worker::Worker;

use super::packet::{Ip, Sum, ethernet};
use super::seeded::{BAD, Run, runs};
use super::world::{EXTERNAL, GATEWAY_MAC, O1, UPLINK_MAC, member_ip, member_mac};

/// A drop as the tracer tells of it.
#[derive(Debug, Clone)]
struct Told {
    at: Nanos,
    ingress: Option<PortIndex>,
    egress: Option<PortIndex>,
    /// As it was when it was dropped, if it was not cut on its way out.
    frame: Option<Snap>,
}

/// Every drop of each reason at each worker, in order.
type Story = BTreeMap<(u16, &'static str), Vec<Told>>;

/// A frame that nobody should send, by a random port.
fn misbehave(run: &mut Run) {
    let random = &mut run.random;
    let members = u64::from(run.world.setup.members);
    let place = usize::try_from(random.below(members)).unwrap();
    let number = u16::try_from(place).unwrap();
    let packet = |destination: [u8; 4], ttl, len| {
        let ip = Ip::new(member_ip(number), destination);
        Ip { ttl, ..ip }.udp((4000, 9), &vec![7; len], Sum::Full).0
    };
    let routed = |packet: &[u8]| ethernet(GATEWAY_MAC, member_mac(number), 0x0800, packet);
    let is_up = random.below(4) > 0;
    let frame = match random.below(9) {
        0 => ethernet(Mac::BROADCAST, GATEWAY_MAC, 0x9999, &[0; 46]),
        1 => ethernet(Mac::BROADCAST, Mac::ZERO, 0x9999, &[1; 46]),
        2 => ethernet(
            Mac([1, 0x80, 0xc2, 0, 0, 3]),
            member_mac(number),
            0x9999,
            &[0; 46],
        ),
        3 => routed(&packet([192, 0, 2, 1], 64, 10)),
        4 => routed(&packet(O1.octets(), 1, 300)),
        5 => routed(&packet([224, 0, 0, 5], 64, 10)),
        6 => {
            let mut wrong = routed(&packet(O1.octets(), 64, 10));
            wrong[24] ^= 0xff;
            wrong
        }
        7 => vec![2; usize::try_from(random.below(14)).unwrap()],
        // To a neighbour that is not there.
        _ => routed(&packet([203, 0, 113, 77], 64, 10)),
    };
    run.world.send(place, &frame, Offload::PLAIN);
    run.world.plug(place, is_up);
    if run.world.setup.uplink != super::world::Uplink::None {
        let uplink = run.world.place(Role::Uplink);
        let port = 40_000 + u16::try_from(run.random.below(200)).unwrap();
        let stranger = Ip::new(O1, EXTERNAL).udp((53, port), b"nobody asked", Sum::Full);
        let frame = ethernet(UPLINK_MAC, Mac::local(0xee01), 0x0800, &stranger.0);
        run.world.send(uplink, &frame, Offload::PLAIN);
    }
}

/// The drops among records of the whole run.
fn story(records: &[Record]) -> Story {
    let mut story = Story::new();
    for record in records {
        let frame = record.after.as_ref().unwrap_or(&record.before);
        let mut tell = |reason: DropReason, egress, frame| {
            let drops = story.entry((record.worker, reason.word())).or_default();
            drops.push(Told {
                at: record.batch,
                ingress: record.ingress,
                egress,
                frame,
            });
        };
        if let Some(Verdict::Drop(reason)) = record.verdict {
            tell(reason, None, Some(frame.clone()));
        }
        for timed in &record.steps {
            let Step::Tx(tx) = timed.step else { continue };
            let Err(reason) = tx.outcome else { continue };
            let is_whole = tx.bytes == frame.len;
            for _ in 0..tx.pieces {
                tell(reason, Some(tx.port), is_whole.then(|| frame.clone()));
            }
        }
    }
    story
}

/// Whether that drop was kept as this record.
fn is_kept_as(told: &Told, record: &DropRecord) -> bool {
    let is_same = |snap: &Snap| {
        let bytes = &snap.bytes[..snap.bytes.len().min(DROP_BYTES)];
        (snap.len, bytes) == (record.len, record.bytes())
    };
    // Where a fragment came in that waited in the NAT, only a tracer knows.
    let is_fragment =
        matches!(record.bytes().get(20..22), Some([a, b]) if (a & 0x3f, *b) != (0, 0));
    (told.at, told.egress) == (record.at, record.egress)
        && (told.ingress == record.ingress || is_fragment)
        && told.frame.as_ref().is_none_or(is_same)
}

/// Each worker's records against its story.
fn compare(seed: u64, worker: &[DropRecord], told: &[Told], reason: DropReason) {
    let word = reason.word();
    assert_eq!(
        worker.len(),
        told.len().min(DROPS_FIRST + DROPS_LAST),
        "seed {seed}: {word}"
    );
    let last = worker.last().unwrap();
    assert_eq!(last.number, told.len() as u64, "seed {seed}: {word}");
    if reason.stage() == switch::verdict::Stage::Ingress {
        let first = told.iter().take(DROPS_FIRST);
        let rest = told.len().max(DROPS_FIRST + DROPS_LAST) - DROPS_LAST;
        for (told, record) in first.chain(&told[rest.min(told.len())..]).zip(worker) {
            assert!(is_kept_as(told, record), "seed {seed}: {told:?} {record:?}");
        }
    } else {
        // A batch sends its copies in another order than that of its frames.
        let end = told.last().unwrap().at;
        assert_eq!(last.at, end, "seed {seed}: {word}");
        let mut ends = told.iter().filter(|told| told.at == end);
        assert!(
            ends.any(|told| is_kept_as(told, last)),
            "seed {seed}: {last:?}"
        );
    }
}

#[test]
fn after_a_storm_each_reason_has_the_packet_that_was_dropped_last() {
    let mut reasons = BTreeMap::new();
    for seed in 0..runs(120) {
        let mut run = Run::new(seed, BAD);
        run.world.switch.forget_drops();
        let limits = Limits {
            snap_bytes: DROP_BYTES,
            records: 1 << 14,
            bytes: 1 << 23,
        };
        let trace = run.world.trace(Selector::ALL, limits);
        let before = run.world.drops();
        for _ in 0..60 {
            misbehave(&mut run);
            let micros = run.random.below(3000);
            run.world.step(Nanos::from_micros(micros));
        }
        for place in 0..run.world.wires.len() {
            run.world.plug(place, true);
        }
        run.go_with(20, |_| {});
        let records = run.world.end_trace(trace);
        check(seed, &run, &story(&records), &before);
        for (reason, count) in run.world.drops() {
            *reasons.entry(reason).or_insert(0) += count;
        }
    }
    // The storms were storms.
    for word in [
        "SOURCE_IS_GATEWAY",
        "NO_ROUTE",
        "TTL_EXPIRED",
        "NAT_UNSOLICITED",
        "NEIGH_FAILED",
        "EGRESS_DOWN",
        "IP_CSUM",
        "FRAME_TOO_SHORT",
    ] {
        assert!(reasons.contains_key(word), "{word} in {reasons:?}");
    }
}

fn check(seed: u64, run: &Run, story: &Story, before: &BTreeMap<&'static str, u64>) {
    let world = &run.world;
    let mut counted = world.drops();
    // What a ring lost has no frame.
    counted.remove(DropReason::RingFull.word());
    for (word, count) in counted {
        let reason = DropReason::from_word(word).unwrap();
        let count = count - before.get(word).copied().unwrap_or(0);
        let of = |worker: &Worker| worker.drops(Some(reason));
        let records: Vec<Vec<DropRecord>> = world.workers.iter().map(of).collect();
        let lasts = records.iter().filter_map(|records| records.last());
        let kept_in_all: u64 = lasts.map(|last| last.number).sum();
        assert_eq!(
            kept_in_all, count,
            "seed {seed}: {word} is counted and kept"
        );
        for (worker, records) in (0..).zip(&records) {
            match story.get(&(worker, word)) {
                Some(told) => compare(seed, records, told, reason),
                None => assert!(records.is_empty(), "seed {seed}: {word} was never told"),
            }
        }
        let whole = kept(records);
        let last = whole.iter().flat_map(|kept| kept.records()).next_back();
        let latest = whole.iter().flat_map(|kept| kept.records());
        assert_eq!(
            last.map(|record| record.at),
            latest.map(|record| record.at).max(),
            "seed {seed}: {word}"
        );
        assert_eq!(last.is_some(), count > 0, "seed {seed}: {word}");
    }
}
