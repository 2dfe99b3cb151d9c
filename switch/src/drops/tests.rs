//! What is kept, for how long, and of which port.

use super::*;
use crate::frame::{Offload, Stage};
use crate::limits::DROP_BYTES;

fn drop_of(reason: DropReason, bytes: &[u8]) -> Dropped<'_> {
    Dropped {
        reason,
        ingress: PortIndex(3),
        egress: None,
        stage: Stage::Arrived,
        offload: Offload::PLAIN,
        header: &[],
        bytes,
    }
}

/// Keeps frames numbered from 1 on, each at its number.
fn keep_many(drops: &mut Drops, reason: DropReason, numbers: impl Iterator<Item = u64>) {
    for number in numbers {
        drops.keep(Nanos(number), drop_of(reason, &number.to_be_bytes()));
    }
}

fn numbers(records: &[DropRecord]) -> Vec<u64> {
    let number = |record: &DropRecord| u64::from_be_bytes(record.bytes().try_into().unwrap());
    records.iter().map(number).collect()
}

#[test]
fn the_first_and_the_last_of_each_reason_are_kept() {
    let mut drops = Drops::default();
    let (first, last) = (DROPS_FIRST as u64, DROPS_LAST as u64);
    for count in [1, first - 1, first + 1, first + last, 1000] {
        drops.forget();
        keep_many(&mut drops, DropReason::NoRoute, 1..=count);
        let records = drops.records(Some(DropReason::NoRoute));
        let ring = (count.saturating_sub(last) + 1).max(first + 1)..=count;
        let expected: Vec<u64> = (1..=count.min(first)).chain(ring).collect();
        assert_eq!(numbers(&records), expected, "{count}");
        assert_eq!(drops.seen(DropReason::NoRoute), count);
        assert_eq!(records.last().unwrap().number, count);
    }
    // Another reason has records of its own.
    keep_many(&mut drops, DropReason::SamePort, 7..=7);
    assert_eq!(numbers(&drops.records(Some(DropReason::SamePort))), [7]);
    assert_eq!(drops.records(None).len(), DROPS_FIRST + DROPS_LAST + 1);
    drops.forget();
    assert!(drops.records(None).is_empty());
}

#[test]
fn a_frame_is_kept_as_far_as_there_is_room() {
    let mut drops = Drops::default();
    let long: Vec<u8> = (0..=255).collect();
    let header = [9; 14];
    for (header, bytes) in [
        (&[][..], &long[..]),
        (&[][..], &long[..60]),
        (&header[..], &long[..]),
        (&header[..], &[][..]),
        (&[][..], &[][..]),
        (&long[..], &long[..]),
    ] {
        let dropped = Dropped {
            header,
            ..drop_of(DropReason::IpCsum, bytes)
        };
        drops.keep(Nanos(5), dropped);
        let whole = [header, bytes].concat();
        let records = drops.records(None);
        let record = records.last().unwrap();
        assert_eq!(usize::try_from(record.len).unwrap(), whole.len());
        assert_eq!(record.bytes(), &whole[..whole.len().min(DROP_BYTES)]);
        assert_eq!(record.ingress, Some(PortIndex(3)));
        assert_eq!(record.counted_at(), record.ingress);
    }
}

#[test]
fn memory_is_what_the_limit_says() {
    assert!(
        size_of::<DropRecord>() <= 176,
        "{}",
        size_of::<DropRecord>()
    );
    assert_eq!(DropReason::COUNT, 51);
    assert!(
        Drops::memory_bytes() <= 351 << 10,
        "{}",
        Drops::memory_bytes()
    );
}

#[test]
fn workers_records_are_merged_by_time() {
    let mut workers = [Drops::default(), Drops::default()];
    let reason = DropReason::NatUnsolicited;
    // Odd moments at one, even ones at the other, and another reason at one only.
    for (place, drops) in (0..).zip(&mut workers) {
        keep_many(drops, reason, (1..=200).filter(|n| n % 2 == place));
    }
    keep_many(&mut workers[1], DropReason::NoRoute, 50..=51);
    let merged = kept(workers.iter().map(|drops| drops.records(None)));
    let (first, last) = (DROPS_FIRST as u64, DROPS_LAST as u64);
    assert_eq!(merged.len(), 2);
    assert_eq!(merged[0].reason, DropReason::NoRoute);
    assert_eq!(numbers(&merged[0].first), [50, 51]);
    assert_eq!(merged[0].last, []);
    assert_eq!(numbers(&merged[1].first), (1..=first).collect::<Vec<_>>());
    assert_eq!(
        numbers(&merged[1].last),
        (201 - last..=200).collect::<Vec<_>>()
    );
    assert!(kept([Vec::new()]).is_empty());
}

#[test]
fn a_port_that_takes_anothers_place_has_none_of_its_drops() {
    let mut drops = Drops::default();
    for egress in [None, Some(PortIndex(3)), Some(PortIndex(4))] {
        let dropped = drop_of(DropReason::EgressDown, b"frame");
        drops.keep(Nanos(1), Dropped { egress, ..dropped });
    }
    let ports = |drops: &Drops| -> Vec<_> {
        let records = drops.records(None).into_iter();
        records.map(|it| (it.ingress, it.egress)).collect()
    };
    drops.forget_ports(|port| port == PortIndex(4));
    let (three, none) = (Some(PortIndex(3)), None);
    assert_eq!(
        ports(&drops),
        [(three, none), (three, three), (three, none)]
    );
    drops.forget_ports(|port| port == PortIndex(3));
    assert_eq!(ports(&drops), [(none, none); 3]);
}
