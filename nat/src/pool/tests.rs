use super::*;
use crate::hash::HashKey;
use proptest::prelude::*;
use std::collections::HashSet;

/// An unguessable sequence, another for every `salt`.
fn sequence(salt: u64) -> impl Fn(u32) -> u32 {
    move |n| u32::try_from(HashKey::new(1, 2).hash(salt, u64::from(n)) >> 32).unwrap()
}

#[test]
fn owner_of_is_equal_slices_and_the_last_takes_the_rest() {
    let ports = 40_000..=40_009;
    let owners: Vec<_> = (39_999..=40_010)
        .map(|port| owner_of(&ports, 3, port))
        .collect();
    let inside = [0, 0, 0, 1, 1, 1, 2, 2, 2, 2].map(Some);
    assert_eq!(owners[0], None);
    assert_eq!(owners[1..11], inside);
    assert_eq!(owners[11], None);
    assert_eq!(owner_of(&(0..=u16::MAX), 1, u16::MAX), Some(0));
    assert_eq!(owner_of(&ports, 0, 40_005), Some(0));
}

#[test]
fn a1_4_keeps_class_and_parity() {
    let mut pool = Pool::new(1_000..=1_100);
    for salt in 0..12 {
        let port = pool.take(Wish::Like(1_010), sequence(salt)).unwrap();
        assert!(port < 1_024 && port.is_multiple_of(2), "{port}");
    }
    // Even low ports are used up: parity yields first, then the class of a privileged port.
    let odd = pool.take(Wish::Like(1_010), sequence(50)).unwrap();
    assert!(odd < 1_024 && !odd.is_multiple_of(2));
    for salt in 0..11 {
        assert!(pool.take(Wish::Like(1_011), sequence(salt)).unwrap() < 1_024);
    }
    assert!(pool.take(Wish::Like(1_011), sequence(60)).unwrap() >= 1_024);
}

#[test]
fn a1_3_unprivileged_port_never_becomes_privileged() {
    let mut pool = Pool::new(1_020..=1_027);
    for salt in 0..4 {
        assert!(pool.take(Wish::Like(50_000), sequence(salt)).unwrap() >= 1_024);
    }
    assert_eq!(pool.take(Wish::Like(50_000), sequence(9)), None);
    assert_eq!(pool.used(), 4);
    // A slice of privileged ports only has nothing else to give.
    assert!(
        Pool::new(600..=700)
            .take(Wish::Like(50_000), sequence(0))
            .is_some()
    );
}

#[test]
fn a4_1_choice_is_flat() {
    // 32 buckets of 2,000 single draws each from an empty pool: chi squared with 31 degrees of
    // freedom exceeds 61.1 once in a thousand; the sequence is fixed, so is the result.
    let mut buckets = [0f64; 32];
    for salt in 0..64_000 {
        let port = Pool::new(1_024..=65_535)
            .take(Wish::Like(80), sequence(salt))
            .unwrap();
        buckets[usize::from(port - 1_024) * 32 / 64_512] += 1.0;
    }
    let chi: f64 = buckets
        .iter()
        .map(|n| (n - 2_000.0) * (n - 2_000.0) / 2_000.0)
        .sum();
    assert!(chi < 61.1, "{chi}");
}

#[test]
fn every_port_is_given_once_then_none() {
    let mut pool = Pool::new(40_001..=40_200);
    let mut seen = HashSet::new();
    for salt in 0..200 {
        assert!(seen.insert(pool.take(Wish::Like(7_777), sequence(salt)).unwrap()));
    }
    assert_eq!(pool.take(Wish::Any, sequence(0)), None);
    pool.release(40_123);
    pool.release(40_123);
    pool.release(1);
    assert_eq!(
        (pool.used(), pool.take(Wish::Any, sequence(0))),
        (199, Some(40_123))
    );
}

proptest! {
    #[test]
    fn slices_partition_the_range(start in 1u16.., length in 0u16..300, slices in 1u16..20) {
        let ports = start..=start.saturating_add(length);
        prop_assume!(usize::from(slices) <= ports.len());
        for slice in 0..slices {
            for port in slice_ports(&ports, slices, slice) {
                prop_assert_eq!(owner_of(&ports, slices, port), Some(slice));
            }
        }
        let total: usize = (0..slices).map(|slice| slice_ports(&ports, slices, slice).len()).sum();
        prop_assert_eq!(total, ports.len());
    }

    #[test]
    fn no_port_has_two_owners(
        start in 1u16..2_000, length in 0u16..200,
        steps in proptest::collection::vec((any::<u16>(), any::<bool>(), any::<u64>()), 1..500),
    ) {
        let ports = start..=start + length;
        let mut pool = Pool::new(ports.clone());
        let mut owned = HashSet::new();
        for (port, give_back, salt) in steps {
            if give_back && let Some(&any) = owned.iter().next() {
                owned.remove(&any);
                pool.release(any);
            } else if let Some(taken) = pool.take(Wish::Prefer(port), sequence(salt)) {
                prop_assert!(ports.contains(&taken) && owned.insert(taken));
            } else {
                prop_assert_eq!(owned.len(), ports.len());
            }
            prop_assert_eq!(usize::try_from(pool.used()).unwrap(), owned.len());
        }
    }
}
