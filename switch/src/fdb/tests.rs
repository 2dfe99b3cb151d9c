use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};

use proptest::prelude::*;

use super::*;

const P1: PortIndex = PortIndex(1);
const P2: PortIndex = PortIndex(2);
const P3: PortIndex = PortIndex(3);

fn at(secs: u64) -> Nanos {
    Nanos::from_secs(secs)
}

fn mac(number: u64) -> Mac {
    Mac::local(number)
}

/// Counts and table agree; to be called when no other thread is at work.
fn check_counts(fdb: &Fdb) {
    let (mut dynamics, mut statics, mut own) = (0, 0, [0; 16]);
    for place in fdb.table.iter().map(|entry| Place::of(&entry)) {
        if place.is_static {
            statics += 1;
        } else {
            dynamics += 1;
            own[place.port.index()] += 1;
        }
    }
    assert_eq!(
        (fdb.dynamic_entries(), fdb.static_entries()),
        (dynamics, statics)
    );
    assert!(dynamics <= fdb.entries_max());
    let counts: Vec<_> = (0..16)
        .map(|port| fdb.port_entries(PortIndex(port)))
        .collect();
    assert_eq!(counts, own);
}

#[test]
fn stations_age_after_300_seconds() {
    let fdb = Fdb::new(64, 1);
    let start = Nanos::from_millis(5_900);
    assert_eq!(fdb.learn(0, mac(1), P1, start), Learned::New);
    assert_eq!(fdb.learn(0, mac(1), P1, start), Learned::Refreshed);
    assert_eq!(fdb.lookup(0, mac(1), start + at(299)), Some(P1));
    assert_eq!(fdb.lookup(0, mac(1), start + at(301)), None);
    assert_eq!(fdb.lookup(1, mac(1), start), None, "another network");
    // Heard again in time, it lives on; heard too late, it is new, even on another port.
    assert_eq!(
        fdb.learn(0, mac(1), P1, start + at(299)),
        Learned::Refreshed
    );
    assert_eq!(fdb.lookup(0, mac(1), start + at(598)), Some(P1));
    assert_eq!(fdb.learn(0, mac(1), P2, start + at(700)), Learned::New);
    assert_eq!(fdb.learn(0, mac(1), P2, start + at(1_100)), Learned::New);
    let expected = FdbCounters {
        learned: 3,
        aged: 2,
        ..FdbCounters::default()
    };
    assert_eq!(fdb.counters(), expected);
    check_counts(&fdb);
}

#[test]
fn a_worker_whose_clock_is_behind_makes_no_entry_older() {
    let fdb = Fdb::new(64, 1);
    let _ = fdb.learn(0, mac(1), P1, at(10));
    assert_eq!(fdb.learn(0, mac(1), P1, at(9)), Learned::Refreshed);
    assert_eq!(fdb.lookup(0, mac(1), at(310)), Some(P1));
    assert_eq!(fdb.lookup(0, mac(1), at(8)), Some(P1));
}

#[test]
fn the_ageing_time_can_be_changed_within_802_1d() {
    let fdb = Fdb::new(64, 1);
    assert_eq!(fdb.ageing_secs(), 300);
    let _ = fdb.learn(0, mac(1), P1, at(0));
    fdb.set_ageing_secs(10).unwrap();
    assert_eq!(fdb.lookup(0, mac(1), at(11)), None);
    fdb.set_ageing_secs(1_000_000).unwrap();
    assert_eq!(fdb.lookup(0, mac(1), at(1_000_000)), Some(P1));
    for bad in [0, 9, 1_000_001] {
        assert_eq!(fdb.set_ageing_secs(bad), Err(BadAgeing(bad)));
    }
    assert_eq!(fdb.ageing_secs(), 1_000_000);
}

#[test]
fn a_station_that_moves_is_found_there_at_once() {
    let fdb = Fdb::new(64, 1);
    let _ = fdb.learn(0, mac(1), P1, at(1));
    assert_eq!(fdb.learn(0, mac(1), P3, at(1)), Learned::Moved { from: P1 });
    assert_eq!(fdb.lookup(0, mac(1), at(1)), Some(P3));
    assert_eq!((fdb.port_entries(P1), fdb.port_entries(P3)), (0, 1));
    assert_eq!(fdb.counters().moved, 1);
    check_counts(&fdb);
}

#[test]
fn static_entries_neither_age_nor_move_nor_count() {
    let fdb = Fdb::new(1, 1);
    let _ = fdb.learn(0, mac(1), P1, at(0));
    fdb.add_static(0, mac(1), P2, at(0)).unwrap();
    fdb.add_static(0, mac(2), P2, at(0)).unwrap();
    assert_eq!((fdb.dynamic_entries(), fdb.static_entries()), (0, 2));
    assert_eq!(fdb.learn(0, mac(3), P3, at(0)), Learned::New);
    let later = at(5_000_000);
    assert_eq!(fdb.learn(0, mac(1), P1, later), Learned::Locked { at: P2 });
    assert_eq!(fdb.learn(0, mac(1), P2, later), Learned::Refreshed);
    assert_eq!(fdb.entry(0, mac(3), later), None, "aged");
    assert_eq!(fdb.age(later, usize::MAX), 1);
    assert_eq!(fdb.lookup(0, mac(1), later), Some(P2));
    assert_eq!(fdb.lookup(0, mac(2), later), Some(P2));
    let all = fdb.entries(later);
    for entry in &all {
        assert_eq!(fdb.entry(0, entry.mac, later).as_ref(), Some(entry));
    }
    let view: Vec<_> = all
        .iter()
        .map(|e| (e.mac, e.port, e.age_secs, e.is_static))
        .collect();
    assert_eq!(view, [(mac(1), P2, 0, true), (mac(2), P2, 5_000_000, true)]);
    assert_eq!(fdb.remove(0, mac(1)), Some(P2));
    assert_eq!(fdb.remove(0, mac(1)), None);
    assert_eq!(fdb.learn(0, mac(1), P1, later), Learned::New);
    check_counts(&fdb);
}

#[test]
fn static_entries_have_room_of_their_own_and_a_bound() {
    let fdb = Fdb::new(64, 1);
    for number in 0..64 {
        assert_eq!(fdb.learn(0, mac(number), P1, at(0)), Learned::New);
    }
    let bound = u64::try_from(STATIC_ENTRIES_MAX).unwrap();
    for number in 0..bound {
        fdb.add_static(7, mac(number), P2, at(0)).unwrap();
    }
    assert_eq!(fdb.add_static(7, mac(bound), P2, at(0)), Err(StaticFull));
    fdb.add_static(7, mac(0), P3, at(0)).unwrap();
    assert_eq!(fdb.lookup(7, mac(0), at(0)), Some(P3));
    assert_eq!(
        (fdb.dynamic_entries(), fdb.static_entries()),
        (64, STATIC_ENTRIES_MAX)
    );
    check_counts(&fdb);
}

#[test]
fn a_million_addresses_of_one_port_evict_no_one_else() {
    let fdb = Fdb::new(8192, 99);
    let slots = fdb.slots();
    let station = |port: u16, n: u64| mac(0x10_0000_0000 + u64::from(port) * 100 + n);
    for port in 1..=3 {
        for n in 0..10 {
            assert_eq!(
                fdb.learn(0, station(port, n), PortIndex(port), at(1)),
                Learned::New
            );
        }
    }
    for number in 0..1_000_000 {
        assert_eq!(fdb.learn(0, mac(number), PortIndex(4), at(2)), Learned::New);
    }
    for port in 1..=3 {
        for n in 0..10 {
            assert_eq!(
                fdb.lookup(0, station(port, n), at(2)),
                Some(PortIndex(port))
            );
        }
    }
    assert_eq!(fdb.port_entries(PortIndex(4)), 8162);
    assert_eq!((fdb.slots(), fdb.dynamic_entries()), (slots, 8192));
    let expected = FdbCounters {
        learned: 1_000_030,
        evicted: 1_000_030 - 8192,
        ..FdbCounters::default()
    };
    assert_eq!(fdb.counters(), expected);
    // A quiet port still gets its stations in.
    assert_eq!(
        fdb.learn(0, station(5, 0), PortIndex(5), at(3)),
        Learned::New
    );
    check_counts(&fdb);
}

#[test]
fn a_late_flood_gets_an_equal_share_and_no_more() {
    let fdb = Fdb::new(8000, 5);
    let station = |port: u16, n: u64| mac(0x10_0000_0000 + u64::from(port) * 10_000 + n);
    for port in 0..8 {
        for n in 0..1000 {
            assert_eq!(
                fdb.learn(0, station(port, n), PortIndex(port), at(n)),
                Learned::New
            );
        }
    }
    for number in 0..20_000 {
        let _ = fdb.learn(0, mac(number), PortIndex(8), at(100));
    }
    let shares: Vec<_> = (0..9)
        .map(|port| fdb.port_entries(PortIndex(port)))
        .collect();
    assert!(
        shares.iter().all(|share| (885..=895).contains(share)),
        "{shares:?}"
    );
    // It was the old ones that went: of the oldest quarter a third or less is left.
    let kept = |range: std::ops::Range<u64>| {
        let all = range.end - range.start;
        let kept = range
            .filter(|n| fdb.lookup(0, station(3, *n), at(100)).is_some())
            .count();
        100 * u64::try_from(kept).unwrap() / all
    };
    assert!(
        kept(0..150) < 60 && kept(500..1000) > 95,
        "{} {}",
        kept(0..150),
        kept(500..1000)
    );
    check_counts(&fdb);
}

#[test]
fn a_port_as_large_as_the_largest_replaces_its_own() {
    let fdb = Fdb::new(8, 5);
    for number in 0..4 {
        let _ = fdb.learn(0, mac(number), P1, at(0));
        let _ = fdb.learn(0, mac(10 + number), P2, at(0));
    }
    for number in 20..40 {
        fdb.largest.0.store(P2.index(), Relaxed);
        let _ = fdb.learn(0, mac(number), P1, at(0));
        assert_eq!((fdb.port_entries(P1), fdb.port_entries(P2)), (4, 4));
    }
    assert!(fdb.counters().evicted > 0);
}

#[test]
fn the_largest_of_4096_ports_is_found() {
    let fdb = Fdb::new(8192, 5);
    for number in 0..8192u64 {
        // One station a port, the rest on port 4000; then the memory points elsewhere.
        let port = if number < 4096 { number } else { 4000 };
        let port = PortIndex(u16::try_from(port).unwrap());
        assert_eq!(fdb.learn(0, mac(number), port, at(0)), Learned::New);
    }
    fdb.largest.0.store(17, Relaxed);
    let before = fdb.port_entries(PortIndex(4000));
    let mut entered = 0;
    for number in 0..512 {
        let learned = fdb.learn(0, mac(100_000 + number), PortIndex(9), at(1));
        entered += u32::from(learned == Learned::New);
    }
    assert!(entered >= 256, "{entered}");
    assert!(fdb.port_entries(PortIndex(4000)) <= before - 200);
    assert_eq!(fdb.port_entries(PortIndex(8)), 1);
}

#[test]
fn a_port_at_its_limit_replaces_its_own() {
    let fdb = Fdb::new(1024, 5);
    fdb.set_port_limit(P1, Some(100));
    fdb.set_ageing_secs(AGEING_SECS_MAX).unwrap();
    for number in 0..50 {
        let _ = fdb.learn(0, mac(1_000_000 + number), P2, at(0));
    }
    for number in 0..10_000 {
        let _ = fdb.learn(0, mac(number), P1, at(number / 10));
        assert!(fdb.port_entries(P1) <= 100);
    }
    assert_eq!((fdb.port_entries(P1), fdb.port_entries(P2)), (100, 50));
    // Also when a station moves there.
    assert_eq!(
        fdb.learn(0, mac(1_000_000), P1, at(999)),
        Learned::Moved { from: P2 }
    );
    assert_eq!((fdb.port_entries(P1), fdb.port_entries(P2)), (100, 49));
    // With a limit of none, nothing is learned and nobody suffers.
    fdb.set_port_limit(P3, Some(0));
    assert_eq!(fdb.learn(0, mac(1_000_001), P3, at(999)), Learned::Full);
    assert_eq!(fdb.lookup(0, mac(1_000_001), at(0)), Some(P2));
    check_counts(&fdb);
}

#[test]
fn full_buckets_make_room_by_the_same_rule() {
    // Two buckets of eight, promised to four entries: all keys are rivals.
    let mut fdb = Fdb::new(4, 5);
    fdb.table = Table::new(8, 5);
    fdb.entries_max = 100;
    for number in 0..14 {
        assert_eq!(fdb.learn(0, mac(number), P1, at(number)), Learned::New);
    }
    assert_eq!(fdb.learn(0, mac(50), P2, at(20)), Learned::New);
    fdb.add_static(0, mac(51), P2, at(20)).unwrap();
    assert_eq!(fdb.learn(0, mac(52), P2, at(21)), Learned::New);
    assert_eq!(
        fdb.lookup(0, mac(0), at(21)),
        None,
        "the oldest of the largest port"
    );
    for number in 60..80 {
        assert_eq!(fdb.learn(0, mac(number), P1, at(22)), Learned::New);
    }
    for number in [50, 51, 52] {
        assert_eq!(fdb.lookup(0, mac(number), at(22)), Some(P2));
    }
    check_counts(&fdb);
}

#[test]
fn the_sweep_is_bounded_and_comes_to_every_entry() {
    let fdb = Fdb::new(1000, 5);
    for number in 0..1000 {
        let _ = fdb.learn(0, mac(number), P1, at(number % 2 * 200));
    }
    let mut removed = 0;
    for _ in 0..fdb.slots().div_ceil(64) {
        let now = fdb.age(at(301), 64);
        assert!(now <= 64);
        removed += now;
    }
    assert_eq!(removed, 500);
    assert_eq!((fdb.dynamic_entries(), fdb.counters().aged), (500, 500));
    assert_eq!(fdb.age(at(301), usize::MAX), 0);
    check_counts(&fdb);
}

#[test]
fn entries_are_flushed_by_kind_and_port() {
    let fdb = Fdb::new(64, 5);
    let fill = || {
        for number in 0..10 {
            let _ = fdb.learn(0, mac(number), P1, at(0));
            let _ = fdb.learn(0, mac(10 + number), P2, at(0));
        }
        fdb.add_static(0, mac(90), P1, at(0)).unwrap();
        fdb.add_static(0, mac(91), P2, at(0)).unwrap();
    };
    fill();
    assert_eq!(fdb.flush(Flush::Port(P1)), 10);
    assert_eq!(
        (
            fdb.port_entries(P1),
            fdb.port_entries(P2),
            fdb.static_entries()
        ),
        (0, 10, 2)
    );
    fill();
    assert_eq!(fdb.flush(Flush::Dynamic), 20);
    fill();
    assert_eq!(fdb.forget_port(P2), 11);
    assert_eq!(fdb.flush(Flush::All), 11);
    assert_eq!((fdb.dynamic_entries(), fdb.static_entries()), (0, 0));
    check_counts(&fdb);
}

#[test]
fn a_million_entries_fit() {
    let fdb = Fdb::new(1_000_000, 5);
    for number in 0..1_000_000 {
        let port = PortIndex(u16::try_from(number % 100).unwrap());
        assert_eq!(fdb.learn(0, mac(number), port, at(0)), Learned::New);
    }
    assert_eq!(fdb.dynamic_entries(), 1_000_000);
    assert!(fdb.lookup(0, mac(999_999), at(0)).is_some());
}

#[derive(Debug, Clone)]
enum Op {
    Learn(u16, u64, u16),
    Static(u16, u64, u16),
    Remove(u16, u64),
    Wait(u64),
    Age,
    FlushPort(u16),
    FlushDynamic,
}

fn ops() -> impl Strategy<Value = Op> {
    let who = (0..2u16, 0..12u64, 0..4u16);
    prop_oneof![
        8 => who.clone().prop_map(|(n, m, p)| Op::Learn(n, m, p)),
        1 => who.clone().prop_map(|(n, m, p)| Op::Static(n, m, p)),
        1 => who.prop_map(|(n, m, _)| Op::Remove(n, m)),
        2 => (0..200u64).prop_map(Op::Wait),
        1 => Just(Op::Age),
        1 => (0..4u16).prop_map(Op::FlushPort),
        1 => Just(Op::FlushDynamic),
    ]
}

type Model = HashMap<(u16, u64), (u16, u64, bool)>;

fn model_learn(model: &mut Model, key: (u16, u64), port: u16, now: u64) -> Learned {
    match model.entry(key) {
        Vacant(place) => {
            place.insert((port, now, false));
            Learned::New
        }
        Occupied(mut held) => match *held.get() {
            (from, _, true) if from != port => Learned::Locked {
                at: PortIndex(from),
            },
            (from, seen, is_static) => {
                held.insert((port, now, is_static));
                if !is_static && now - seen > 300 {
                    Learned::New
                } else if from == port {
                    Learned::Refreshed
                } else {
                    Learned::Moved {
                        from: PortIndex(from),
                    }
                }
            }
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_behaves_as_a_map(seed: u64, ops in prop::collection::vec(ops(), 1..200)) {
        let fdb = Fdb::new(64, seed);
        let mut model = Model::new();
        let mut now = 0;
        for op in ops {
            match op {
                Op::Learn(network, number, port) => prop_assert_eq!(
                    fdb.learn(network, mac(number), PortIndex(port), at(now)),
                    model_learn(&mut model, (network, number), port, now)
                ),
                Op::Static(network, number, port) => {
                    fdb.add_static(network, mac(number), PortIndex(port), at(now)).unwrap();
                    model.insert((network, number), (port, now, true));
                }
                Op::Remove(network, number) => prop_assert_eq!(
                    fdb.remove(network, mac(number)),
                    model.remove(&(network, number)).map(|held| PortIndex(held.0))
                ),
                Op::Wait(secs) => now += secs,
                Op::Age => {
                    fdb.age(at(now), usize::MAX);
                    model.retain(|_, held| held.2 || now - held.1 <= 300);
                }
                Op::FlushPort(port) => {
                    fdb.flush(Flush::Port(PortIndex(port)));
                    model.retain(|_, held| held.2 || held.0 != port);
                }
                Op::FlushDynamic => {
                    fdb.flush(Flush::Dynamic);
                    model.retain(|_, held| held.2);
                }
            }
            let live = |held: &&(u16, u64, bool)| held.2 || now - held.1 <= 300;
            for network in 0..2 {
                for number in 0..12 {
                    let held = model.get(&(network, number)).filter(live);
                    let found = fdb.lookup(network, mac(number), at(now));
                    prop_assert_eq!(found, held.map(|held| PortIndex(held.0)));
                }
            }
        }
        let live = |held: &&(u16, u64, bool)| held.2 || now - held.1 <= 300;
        prop_assert_eq!(fdb.entries(at(now)).len(), model.values().filter(live).count());
        check_counts(&fdb);
    }
}

#[test]
fn workers_share_it_and_limits_and_counts_hold() {
    let fdb = Fdb::new(64, 5);
    fdb.set_port_limit(P3, Some(8));
    let work = |port: u16| {
        for round in 0..60_000u64 {
            let number = round.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57;
            let now = at(round / 100);
            let _ = fdb.learn(0, mac(number), PortIndex(port), now);
            assert!(
                fdb.dynamic_entries() <= 64 + 4,
                "entries and reservations of four workers"
            );
            match round % 512 {
                0 => drop(fdb.remove(0, mac(number))),
                1 => drop(fdb.age(now, 100)),
                2 if port == 0 => drop(fdb.flush(Flush::Port(P2))),
                3 => fdb
                    .add_static(0, mac(number), PortIndex(port), now)
                    .unwrap(),
                _ => {}
            }
        }
    };
    std::thread::scope(|scope| {
        for port in 0..4 {
            scope.spawn(move || work(port));
        }
    });
    check_counts(&fdb);
    assert!(fdb.port_entries(P3) <= 8);
    assert!(fdb.dynamic_entries() <= 64);
}

#[test]
fn b_4_a_station_that_flaps_is_followed_so_often_and_then_stays_for_the_second() {
    let fdb = Fdb::new(64, 1);
    let (near, far) = (PortIndex(1), PortIndex(2));
    let ports = [near, far];
    let station = mac(7);
    assert_eq!(fdb.learn(0, station, near, at(10)), Learned::New);
    let mut from = near;
    for to in ports
        .iter()
        .rev()
        .cycle()
        .take(usize::from(MOVES_PER_SECOND))
    {
        assert_eq!(fdb.learn(0, station, *to, at(10)), Learned::Moved { from });
        from = *to;
    }
    let other = if from == near { far } else { near };
    let stays = Learned::Damped { at: from };
    assert_eq!(fdb.learn(0, station, other, at(10)), stays);
    assert_eq!(fdb.lookup(0, station, at(10)), Some(from));
    assert_eq!(fdb.learn(0, station, from, at(10)), Learned::Refreshed);
    assert_eq!(fdb.learn(0, station, other, at(10)), stays);
    assert_eq!(
        fdb.learn(0, station, other, at(11)),
        Learned::Moved { from }
    );
    let counters = fdb.counters();
    assert_eq!((counters.moved, counters.damped), (65, 2));
}

#[test]
fn a_table_made_of_rows_is_the_same_table() {
    let fdb = Fdb::new(64, 7);
    for number in 0..40 {
        let port = PortIndex(u16::try_from(number % 5).unwrap());
        let _ = fdb.learn(0, mac(number), port, at(100 + number));
    }
    fdb.add_static(0, mac(99), P2, at(100)).unwrap();
    let other = Fdb::new(64, 7);
    let _ = other.learn(0, mac(1000), P3, at(1));
    other.restore(&fdb.rows());
    assert_eq!(other.entries(at(150)), fdb.entries(at(150)));
    assert_eq!(other.rows().len(), 41);
    check_counts(&other);
    // They go on alike, in who makes room for whom too.
    for number in 200..260 {
        let learn = |fdb: &Fdb| fdb.learn(0, mac(number), P1, at(200));
        assert_eq!(learn(&other), learn(&fdb), "{number}");
    }
    check_counts(&other);
}
