use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::limits::NEIGHBOURS_MAX;

const IN: Link = Link::Network(0);
const OUT: Link = Link::Uplink;
const HOP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const M1: Mac = Mac([2, 0, 0, 0, 0, 1]);
const M2: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn ms(millis: u64) -> Nanos {
    Nanos::from_millis(millis)
}

fn secs(secs: u64) -> Nanos {
    Nanos::from_secs(secs)
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 + number)
}

#[test]
fn an_absent_neighbour_fails_after_three_requests_and_is_asked_for_again() {
    let table = Neighbours::new(16, 1);
    let mut sent = Vec::new();
    let mut failed = Vec::new();
    for millis in (0..12_000).step_by(50) {
        match table.lookup(OUT, HOP, ms(millis)) {
            Neighbour::Unknown => {
                if table.request(OUT, HOP, ms(millis)) == Request::Broadcast {
                    sent.push(millis);
                }
            }
            Neighbour::Failed => {
                assert_eq!(table.request(OUT, HOP, ms(millis)), Request::NotDue);
                failed.push(millis);
            }
            other @ (Neighbour::Known(_) | Neighbour::Refresh(_)) => panic!("{other:?}"),
        }
    }
    assert_eq!(sent, [0, 1000, 2000, 6000, 7000, 8000]);
    assert_eq!((failed[0], failed[59]), (3000, 5950));
    assert_eq!(failed[60], 9000);
    // An answer ends the failure at once.
    assert_eq!(table.confirm(OUT, HOP, M1, ms(10_000)), Confirmed::New);
    assert_eq!(table.lookup(OUT, HOP, ms(10_000)), Neighbour::Known(M1));
}

#[test]
fn a_known_neighbour_goes_stale_is_probed_then_asked_for_by_broadcast_then_failed() {
    let table = Neighbours::new(16, 1);
    assert_eq!(table.confirm(OUT, HOP, M1, secs(100)), Confirmed::New);
    let mut log = Vec::new();
    for second in 100..145 {
        let found = table.lookup(OUT, HOP, secs(second));
        let request = table.request(OUT, HOP, secs(second));
        if second < 130 {
            assert_eq!((found, request), (Neighbour::Known(M1), Request::NotDue));
        } else {
            log.push((second, found, request));
        }
    }
    let (refresh, probe) = (Neighbour::Refresh(M1), Request::Unicast(M1));
    assert_eq!(
        log[..7],
        [
            (130, refresh, probe),
            (131, refresh, probe),
            (132, refresh, probe),
            (133, Neighbour::Unknown, Request::Broadcast),
            (134, Neighbour::Unknown, Request::Broadcast),
            (135, Neighbour::Unknown, Request::Broadcast),
            (136, Neighbour::Failed, Request::NotDue),
        ]
    );
}

#[test]
fn a_stale_neighbour_that_answers_is_reachable_again() {
    let table = Neighbours::new(16, 1);
    let _ = table.confirm(OUT, HOP, M1, secs(0));
    assert_eq!(table.lookup(OUT, HOP, secs(50)), Neighbour::Refresh(M1));
    assert_eq!(table.request(OUT, HOP, secs(50)), Request::Unicast(M1));
    assert_eq!(table.request(OUT, HOP, ms(50_899)), Request::NotDue);
    assert_eq!(table.confirm(OUT, HOP, M1, ms(50_900)), Confirmed::Same);
    assert_eq!(table.lookup(OUT, HOP, secs(80)), Neighbour::Known(M1));
    // Unused for long, it is forgotten.
    assert_eq!(table.lookup(OUT, HOP, secs(700)), Neighbour::Unknown);
    assert!(table.entries(secs(700)).is_empty());
    assert_eq!(table.entry(OUT, HOP, secs(700)), None);
    assert_eq!(table.request(OUT, HOP, secs(700)), Request::Broadcast);
}

#[test]
fn a_new_address_takes_hold_at_once_and_only_stations_count() {
    let table = Neighbours::new(16, 1);
    assert_eq!(table.update(IN, HOP, M1, secs(0)), Confirmed::Refused);
    assert!(table.is_empty());
    let _ = table.confirm(IN, HOP, M1, secs(0));
    assert_eq!(
        table.update(IN, HOP, M2, secs(0)),
        Confirmed::Changed { from: M1 }
    );
    assert_eq!(table.lookup(IN, HOP, secs(0)), Neighbour::Known(M2));
    assert_eq!(table.lookup(OUT, HOP, secs(0)), Neighbour::Unknown);
    assert_eq!(
        table.lookup(Link::Network(1), HOP, secs(0)),
        Neighbour::Unknown
    );
    for bad in [Mac::ZERO, Mac::BROADCAST] {
        assert_eq!(table.confirm(IN, HOP, bad, secs(0)), Confirmed::Refused);
    }
    assert_eq!(table.lookup(IN, HOP, secs(0)), Neighbour::Known(M2));
}

#[test]
fn entries_are_shown_removed_and_flushed_by_link() {
    let table = Neighbours::new(16, 1);
    let _ = table.confirm(IN, address(2), M2, secs(0));
    let _ = table.confirm(IN, address(1), M1, secs(35));
    let _ = table.confirm(Link::Network(u16::MAX), Ipv4Addr::BROADCAST, M1, secs(35));
    let _ = table.confirm(Link::Network(0), Ipv4Addr::UNSPECIFIED, M1, secs(35));
    let _ = table.request(OUT, HOP, secs(38));
    let all = table.entries(secs(40));
    for entry in &all {
        let one = table.entry(entry.link, entry.address, secs(40));
        assert_eq!(one.as_ref(), Some(entry));
    }
    let view: Vec<_> = all
        .into_iter()
        .map(|e| (e.link, e.address, e.mac, e.state, e.age_secs))
        .collect();
    use NeighbourState::{Incomplete, Reachable, Stale};
    assert_eq!(
        view,
        [
            (IN, Ipv4Addr::UNSPECIFIED, Some(M1), Reachable, 5),
            (IN, address(1), Some(M1), Reachable, 5),
            (IN, address(2), Some(M2), Stale, 40),
            (
                Link::Network(u16::MAX),
                Ipv4Addr::BROADCAST,
                Some(M1),
                Reachable,
                5
            ),
            (OUT, HOP, None, Incomplete, 2),
        ]
    );
    assert!(table.remove(IN, address(2)));
    assert!(!table.remove(IN, address(2)));
    assert_eq!(table.flush(Some(IN)), 2);
    assert_eq!(table.flush(None), 2);
    assert!(table.is_empty());
}

#[test]
fn a_sweep_through_addresses_replaces_only_itself() {
    let table = Neighbours::new(NEIGHBOURS_MAX, 1);
    for number in 0..1000 {
        let _ = table.confirm(IN, address(number), M1, secs(0));
    }
    let _ = table.confirm(OUT, HOP, M1, secs(0));
    for number in 10_000..110_000 {
        assert_eq!(
            table.request(OUT, address(number), secs(1)),
            Request::Broadcast
        );
        assert!(table.len() <= NEIGHBOURS_MAX);
    }
    for number in 0..1000 {
        assert_eq!(
            table.lookup(IN, address(number), secs(1)),
            Neighbour::Known(M1)
        );
    }
    // A network that claims many addresses loses its own, never the uplink's.
    for number in 200_000..300_000 {
        assert_eq!(
            table.confirm(IN, address(number), M2, secs(2)),
            Confirmed::New
        );
    }
    assert_eq!(table.lookup(OUT, HOP, secs(2)), Neighbour::Known(M1));
    assert_eq!(table.len(), NEIGHBOURS_MAX);
    // With nothing worth less, a new address is not asked for, but an answer gets in.
    assert_eq!(
        table.request(IN, address(1_000_000), secs(2)),
        Request::NoRoom
    );
    assert_eq!(
        table.confirm(OUT, address(1_000_000), M2, secs(2)),
        Confirmed::New
    );
}

#[test]
fn of_many_workers_one_sends() {
    let table = Neighbours::new(16, 1);
    for round in 0..300u32 {
        for second in 0..3 {
            let sent = AtomicU32::new(0);
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        if table.request(OUT, address(round), secs(second)) == Request::Broadcast {
                            sent.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!(sent.into_inner(), 1, "second {second}");
        }
        table.flush(None);
    }
}

#[test]
fn neighbours_made_of_rows_are_in_the_same_state() {
    let table = Neighbours::new(16, 1);
    let _ = table.confirm(OUT, HOP, M1, secs(100));
    let _ = table.confirm(IN, address(2), M2, secs(60));
    let _ = table.request(IN, address(3), secs(100));
    let other = Neighbours::new(16, 1);
    let _ = other.confirm(IN, address(9), M2, secs(100));
    other.restore(&table.rows());
    for second in 100..110 {
        assert_eq!(other.entries(secs(second)), table.entries(secs(second)));
        for (link, hop) in [(OUT, HOP), (IN, address(2)), (IN, address(3))] {
            let ask = |table: &Neighbours| table.request(link, hop, secs(second));
            assert_eq!(ask(&other), ask(&table), "{hop} at {second}");
        }
    }
}
