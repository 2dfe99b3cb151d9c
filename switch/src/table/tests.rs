use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;

#[test]
fn keys_of_any_pattern_spread_over_the_buckets() {
    // As stations number their addresses: by one, by a stride, in the upper bytes, by network.
    let patterns: [fn(u64) -> u64; 5] = [
        |n| n + 1,
        |n| (n + 1) << 16,
        |n| (n + 1) << 32,
        |n| (n << 48) | 0x0200_0000_0001,
        |n| n.wrapping_mul(0x1_0001) | 1 << 62,
    ];
    for seed in 0..8 {
        for pattern in patterns {
            let table = Table::new(1 << 15, seed);
            let homes = table.buckets.len();
            let mut loads = vec![0u32; homes];
            for n in 0..1 << 15 {
                let [first, second] = table.homes(pattern(n));
                assert_ne!(first, second);
                loads[first] += 1;
                loads[second] += 1;
            }
            // 65,536 choices over 8,192 buckets: eight each on average. By chance alone none of
            // these has more than 29 (Poisson, 1 in 10^9), nor more than 60 of them none.
            let most = loads.iter().max().copied();
            let empty = loads.iter().filter(|&&load| load == 0).count();
            assert!(
                most < Some(30) && empty < 60,
                "{seed}: {most:?}, {empty} empty"
            );
        }
    }
}

#[test]
fn a_secret_moves_the_buckets_of_every_key() {
    let same = |key| mix(Secret::new(1), key) == mix(Secret::new(2), key);
    assert_eq!((0..10_000).filter(|&key| same(key)).count(), 0);
    assert_eq!(mix(Secret::new(7), 42), mix(Secret::new(7), 42));
}

#[test]
fn an_announced_key_is_found_as_any_other() {
    let table = Table::new(1000, 3);
    for key in 1..=1000 {
        assert_eq!(table.insert(key, key, 1, 0), Insert::Done);
    }
    for key in 1..=1200 {
        let probe = table.probe(key);
        table.prefetch_keys(probe);
        table.prefetch_cell(probe);
        assert_eq!(table.get_at(probe), table.get(key));
        assert_eq!(table.get_at(probe).is_some(), key <= 1000);
    }
}

#[test]
fn a_table_holds_its_entries_max_and_much_more_and_then_says_full() {
    for (entries, seed) in [(1, 1), (100, 2), (8192, 3), (100_000, 4)] {
        let table = Table::new(entries, seed);
        let mut key = 0u64;
        while table.len() < entries {
            key += 1;
            assert_eq!(
                table.insert(key, key, 0, 0),
                Insert::Done,
                "{key} of {entries}"
            );
        }
        assert!(table.slots() >= 2 * entries);
        while table.insert(key + 1, key + 1, 0, 0) == Insert::Done {
            key += 1;
        }
        // Two choices fill a table of eight-slot buckets far beyond the promised half.
        assert!(
            table.len() * 10 >= table.slots() * 6,
            "{} of {}",
            table.len(),
            table.slots()
        );
        for key in 1..=key {
            assert_eq!(table.get(key).map(|entry| entry.value), Some(key));
        }
    }
}

#[test]
fn a_removed_entry_cannot_be_changed_nor_its_successor_through_it() {
    let table = Table::new(1, 0);
    assert_eq!(table.insert(7, 70, 1, 1), Insert::Done);
    assert_eq!(table.insert(7, 71, 1, 1), Insert::Present);
    let mut old = table.get(7).unwrap();
    assert!(table.remove_entry(&old));
    assert!(table.get(7).is_none() && table.is_empty());
    // The same key and value in the same slot: still another entry.
    assert_eq!(table.insert(7, 70, 1, 1), Insert::Done);
    assert_eq!(table.get(7).unwrap().slot, old.slot);
    assert!(!table.set_value(&mut old, 72));
    assert!(!table.set_meta(&mut old, 9, 9));
    assert!(!table.remove_entry(&old));
    let new = table.get(7).unwrap();
    assert_eq!((new.value, new.stamp, new.tag), (70, 1, 1));
    assert!(table.remove_if(7, |entry| entry.value == 71).is_none());
    assert_eq!(table.remove(7), Some(new));
    assert_eq!(table.remove(7), None);
}

#[test]
fn generations_wrap_without_a_trace() {
    let table = Table::new(1, 0);
    for turn in 0..70_000 {
        assert_eq!(table.insert(1, turn, 0, 0), Insert::Done);
        assert_eq!(table.remove(1).map(|entry| entry.value), Some(turn));
    }
    assert_eq!(table.iter().count(), 0);
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u64, u64, u32, u16),
    Value(u64, u64),
    Meta(u64, u32, u16),
    Remove(u64),
}

fn ops() -> impl Strategy<Value = Op> {
    let key = 1..40u64;
    prop_oneof![
        (key.clone(), 0..=VALUE_MAX, any::<u32>(), any::<u16>())
            .prop_map(|(k, v, s, t)| Op::Insert(k, v, s, t)),
        (key.clone(), 0..=VALUE_MAX).prop_map(|(k, v)| Op::Value(k, v)),
        (key.clone(), any::<u32>(), any::<u16>()).prop_map(|(k, s, t)| Op::Meta(k, s, t)),
        key.prop_map(Op::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_behaves_as_a_map(seed: u64, ops in prop::collection::vec(ops(), 1..400)) {
        let table = Table::new(64, seed);
        let mut model = HashMap::new();
        for op in ops {
            match op {
                Op::Insert(key, value, stamp, tag) => {
                    let expected = match model.entry(key) {
                        Occupied(_) => Insert::Present,
                        Vacant(place) => {
                            place.insert((value, stamp, tag));
                            Insert::Done
                        }
                    };
                    prop_assert_eq!(table.insert(key, value, stamp, tag), expected);
                }
                Op::Value(key, value) => {
                    if let Some(mut entry) = table.get(key) {
                        prop_assert!(table.set_value(&mut entry, value));
                        model.get_mut(&key).unwrap().0 = value;
                    }
                }
                Op::Meta(key, stamp, tag) => {
                    if let Some(mut entry) = table.get(key) {
                        prop_assert!(table.set_meta(&mut entry, stamp, tag));
                        let held = model.get_mut(&key).unwrap();
                        (held.1, held.2) = (stamp, tag);
                    }
                }
                Op::Remove(key) => {
                    let removed = table.remove(key).map(|e| (e.value, e.stamp, e.tag));
                    prop_assert_eq!(removed, model.remove(&key));
                }
            }
            prop_assert_eq!(table.len(), model.len());
            for key in 1..40 {
                let held = table.get(key).map(|e| (e.value, e.stamp, e.tag));
                prop_assert_eq!(held, model.get(&key).copied());
            }
        }
        let all: HashMap<_, _> =
            table.iter().map(|e| (e.key, (e.value, e.stamp, e.tag))).collect();
        prop_assert_eq!(all, model);
    }
}

/// A value that names its key, in 40 bits, and one of 256 versions.
fn value_for(key: u64, version: u64) -> u64 {
    (key << 8) | (version & 0xff)
}

/// One thread of the stress test: everything at random on few slots.
fn churn(table: &Table, keys: u64, mut state: u64, rounds: u32) {
    let secret = Secret::new(1);
    for _ in 0..rounds {
        state = mix(secret, state).wrapping_add(state);
        let key = 1 + (state >> 8) % keys;
        match state & 7 {
            0 | 1 => {
                let tag = u16::try_from(key).unwrap();
                let _ = table.insert(key, value_for(key, state >> 32), 0, tag);
            }
            2 => {
                table.remove(key);
            }
            3 => {
                if let Some(mut entry) = table.get(key) {
                    std::thread::yield_now();
                    table.set_value(&mut entry, value_for(key, state >> 32));
                    table.set_meta(&mut entry, 5, u16::try_from(key).unwrap());
                }
            }
            _ => {
                if let Some(entry) = table.get(key) {
                    assert_eq!(entry.key, key);
                    assert_eq!(entry.value >> 8, key, "the value of another key");
                    assert_eq!(u64::from(entry.tag), key, "the tag of another key");
                }
            }
        }
    }
}

#[test]
fn threads_never_see_the_value_of_another_key() {
    // 16 slots for 24 keys: every slot changes hands all the time.
    let table = Table::new(8, 11);
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let table = &table;
            scope.spawn(move || churn(table, 24, seed, 200_000));
        }
    });
    let mut seen = HashMap::new();
    for entry in table.iter() {
        assert_eq!(
            seen.insert(entry.key, entry.value),
            None,
            "key {} lives twice",
            entry.key
        );
    }
    assert_eq!(seen.len(), table.len());
    // Nothing leaked: all slots can be freed and taken again.
    for key in 1..=24 {
        table.remove(key);
    }
    assert_eq!(table.len(), 0);
    for key in 100..100 + u64::try_from(table.slots()).unwrap() {
        assert_eq!(table.insert(key, 0, 0, 0), Insert::Done);
    }
}

#[test]
fn threads_inserting_one_key_leave_one_entry() {
    let table = Table::new(64, 5);
    for round in 1..2_000u64 {
        let go = AtomicBool::new(false);
        let insert = |value| {
            while !go.load(Acquire) {
                std::hint::spin_loop();
            }
            table.insert(round, value, 0, 0)
        };
        let done = std::thread::scope(|scope| {
            let other = scope.spawn(|| insert(1));
            go.store(true, Release);
            [insert(2), other.join().unwrap()]
        });
        let entries: Vec<_> = table.iter().collect();
        let won = done
            .iter()
            .filter(|&&result| result == Insert::Done)
            .count();
        assert!(won <= 1 && entries.len() == won, "{done:?} {entries:?}");
        table.remove(round);
    }
}
