//! Every interleaving of a few operations, by loom:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p switch --lib table::interleavings
//! ```

use loom::sync::Arc;
use loom::thread;

use super::*;

fn explore(preemptions_max: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions_max);
    builder.check(model);
}

/// A value that names its key.
fn value_for(key: u64, version: u64) -> u64 {
    (key << 8) | version
}

fn insert(table: &Table, key: u64, version: u64) -> Insert {
    let tag = u16::try_from(key).unwrap();
    table.insert(key, value_for(key, version), 0, tag)
}

/// A table that holds the first of two keys; the second goes into the same slot once it is free.
fn contested_slot() -> (Arc<Table>, u64, u64) {
    let table = Table::new(2, 1);
    let first = 1;
    let slot_of = |key| {
        assert_eq!(insert(&table, key, 0), Insert::Done);
        table.remove(key).unwrap().slot
    };
    let slot = slot_of(first);
    let second = (2..).find(|key| slot_of(*key) == slot).unwrap();
    assert_eq!(insert(&table, first, 0), Insert::Done);
    (Arc::new(table), first, second)
}

fn assert_own_value(table: &Table, key: u64) {
    if let Some(entry) = table.get(key) {
        assert_eq!(entry.value >> 8, key, "the value of another key");
        assert_eq!(u64::from(entry.tag), key, "the tag of another key");
    }
}

#[test]
fn a_reader_sees_its_key_or_nothing_while_the_slot_changes_hands() {
    explore(4, || {
        let (table, first, second) = contested_slot();
        let other = table.clone();
        let writer = thread::spawn(move || {
            other.remove(first);
            assert_eq!(insert(&other, second, 0), Insert::Done);
            other.remove(second);
            assert_eq!(insert(&other, first, 1), Insert::Done);
        });
        assert_own_value(&table, first);
        assert_own_value(&table, second);
        writer.join().unwrap();
        assert_eq!(table.get(first).unwrap().value, value_for(first, 1));
        assert_eq!(table.len(), 1);
    });
}

#[test]
fn a_late_update_does_not_touch_the_next_key_of_the_slot() {
    explore(4, || {
        let (table, first, second) = contested_slot();
        let other = table.clone();
        let writer = thread::spawn(move || {
            other.remove(first);
            assert_eq!(insert(&other, second, 0), Insert::Done);
        });
        if let Some(mut entry) = table.get(first) {
            table.set_value(&mut entry, value_for(first, 5));
            table.set_meta(&mut entry, 9, u16::try_from(first).unwrap());
        }
        assert_own_value(&table, second);
        writer.join().unwrap();
        let entry = table.get(second).unwrap();
        assert_eq!((entry.value, entry.stamp), (value_for(second, 0), 0));
        assert_own_value(&table, second);
        assert_eq!(table.get(first), None);
    });
}

#[test]
fn of_two_inserters_of_a_key_one_wins_at_most() {
    explore(4, || {
        let table = Arc::new(Table::new(2, 1));
        let other = table.clone();
        let inserter = thread::spawn(move || insert(&other, 1, 1));
        let results = [insert(&table, 1, 2), inserter.join().unwrap()];
        let won = results.iter().filter(|&&it| it == Insert::Done).count();
        assert!(won <= 1);
        assert_eq!((table.iter().count(), table.len()), (won, won));
    });
}

#[test]
fn of_two_inserters_that_choose_different_slots_one_wins_at_most() {
    explore(3, || {
        let (table, first, second) = contested_slot();
        let (one, two) = (table.clone(), table.clone());
        let inserter = thread::spawn(move || insert(&one, second, 1));
        let remover = thread::spawn(move || two.remove(first).is_some());
        let results = [insert(&table, second, 2), inserter.join().unwrap()];
        assert!(remover.join().unwrap());
        let won = results.iter().filter(|&&it| it == Insert::Done).count();
        assert!(won <= 1);
        assert_eq!((table.iter().count(), table.len()), (won, won));
    });
}

#[test]
fn of_two_removers_one_wins_and_the_next_key_stays() {
    explore(3, || {
        let (table, first, second) = contested_slot();
        let (one, two) = (table.clone(), table.clone());
        let remover = thread::spawn(move || one.remove(first).is_some());
        let inserter = thread::spawn(move || insert(&two, second, 1));
        let removed = [table.remove(first).is_some(), remover.join().unwrap()];
        assert_eq!(inserter.join().unwrap(), Insert::Done);
        assert!(removed[0] != removed[1]);
        assert_eq!(table.get(second).unwrap().value, value_for(second, 1));
        assert_eq!(table.len(), 1);
    });
}
