use super::*;
use crate::hash::HashKey;
use crate::slab::at;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};

/// An unguessable sequence, another for every `salt`.
fn sequence(salt: u64) -> impl Fn(u32) -> u32 {
    move |n| u32::try_from(HashKey::new(1, 2).hash(salt, u64::from(n)) >> 32).unwrap()
}

/// A pool that holds nothing, and the takings of one host at one time.
fn pool(ports: RangeInclusive<u16>) -> Pool {
    Pool::new(ports, Nanos::ZERO)
}

fn host(n: u8, secs: u64) -> Holder {
    Holder {
        host: [10, 9, 0, n].into(),
        now: Nanos::from_secs(secs),
    }
}

fn take(pool: &mut Pool, wish: Wish, salt: u64) -> Option<u16> {
    pool.take(wish, host(2, 0), sequence(salt))
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
    let mut pool = pool(1_000..=1_100);
    for salt in 0..12 {
        let port = take(&mut pool, Wish::Like(1_010), salt).unwrap();
        assert!(port < 1_024 && port.is_multiple_of(2), "{port}");
    }
    // Even low ports are used up: parity yields first, then the class of a privileged port.
    let odd = take(&mut pool, Wish::Like(1_010), 50).unwrap();
    assert!(odd < 1_024 && !odd.is_multiple_of(2));
    for salt in 0..11 {
        assert!(take(&mut pool, Wish::Like(1_011), salt).unwrap() < 1_024);
    }
    assert!(take(&mut pool, Wish::Like(1_011), 60).unwrap() >= 1_024);
}

#[test]
fn a1_3_unprivileged_port_never_becomes_privileged() {
    let mut pool = pool(1_020..=1_027);
    for salt in 0..4 {
        assert!(take(&mut pool, Wish::Like(50_000), salt).unwrap() >= 1_024);
    }
    assert_eq!(take(&mut pool, Wish::Like(50_000), 9), None);
    assert_eq!(pool.used(), 4);
    // A slice of privileged ports only has nothing else to give.
    let mut pool = Pool::new(600..=700, Nanos::ZERO);
    assert!(take(&mut pool, Wish::Like(50_000), 0).is_some());
}

#[test]
fn a4_1_choice_is_flat() {
    // 32 buckets of 2,000 single draws each from an empty pool: chi squared with 31 degrees of
    // freedom exceeds 61.1 once in a thousand; the sequence is fixed, so is the result.
    let mut empty = pool(1_024..=65_535);
    let mut buckets = [0f64; 32];
    for salt in 0..64_000 {
        let port = take(&mut empty, Wish::Like(80), salt).unwrap();
        empty.release(port, host(2, 0));
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
    let mut pool = pool(40_001..=40_200);
    let mut seen = HashSet::new();
    for salt in 0..200 {
        assert!(seen.insert(take(&mut pool, Wish::Like(7_777), salt).unwrap()));
    }
    assert_eq!(take(&mut pool, Wish::Any, 0), None);
    pool.release(40_123, host(2, 0));
    pool.release(40_123, host(2, 0));
    pool.release(1, host(2, 0));
    assert_eq!(
        (pool.used(), take(&mut pool, Wish::Any, 0)),
        (199, Some(40_123))
    );
}

#[test]
fn a2_7_a_freed_port_is_held_for_its_last_host() {
    let mut pool = Pool::new(40_000..=40_003, Nanos::from_secs(120));
    for port in 40_000..=40_003 {
        pool.take(Wish::Like(port), host(2, 0), sequence(0))
            .unwrap();
    }
    let half = |n| Holder {
        now: Nanos::from_millis(10_500),
        ..host(n, 0)
    };
    (40_000..=40_003).for_each(|port| pool.release(port, half(2)));
    assert_eq!((pool.used(), pool.held()), (0, 4));
    let wishes = [
        Wish::Like(40_001),
        Wish::Prefer(1),
        Wish::Exactly(40_001),
        Wish::Any,
    ];
    for wish in wishes {
        assert_eq!(pool.take(wish, host(3, 11), sequence(1)), None, "{wish:?}");
    }
    // Its own host has it back at once, and may let it go again.
    assert_eq!(
        pool.take(Wish::Exactly(40_001), host(2, 11), sequence(1)),
        Some(40_001)
    );
    assert_eq!((pool.used(), pool.held()), (1, 3));
    pool.release(40_001, host(2, 20));
    // 120 s and no less: the others at 130.5 s, rounded up to a second, that one at 140 s.
    assert_eq!(pool.take(Wish::Any, host(3, 130), sequence(1)), None);
    for salt in 0..3 {
        assert_ne!(
            pool.take(Wish::Any, host(3, 131), sequence(salt)),
            Some(40_001)
        );
    }
    assert_eq!((pool.used(), pool.held()), (3, 1));
    assert_eq!(pool.take(Wish::Any, host(3, 139), sequence(9)), None);
    assert_eq!(
        pool.take(Wish::Any, host(3, 140), sequence(9)),
        Some(40_001)
    );
}

#[test]
fn a2_7_a_host_finds_its_own_among_many_held() {
    let ports = 10_000..=60_000;
    let mut pool = Pool::new(ports.clone(), Nanos::from_secs(120));
    for port in ports.clone() {
        let of = if port == 33_333 { 3 } else { 2 };
        pool.take(Wish::Exactly(port), host(of, 0), sequence(0))
            .unwrap();
    }
    for port in ports {
        pool.release(port, host(if port == 33_333 { 3 } else { 2 }, 1));
    }
    assert_eq!(pool.take(Wish::Like(5), host(4, 2), sequence(0)), None);
    assert_eq!(
        pool.take(Wish::Like(5_001), host(3, 2), sequence(0)),
        Some(33_333)
    );
    assert_eq!(pool.take(Wish::Any, host(3, 2), sequence(0)), None);
}

#[test]
fn a2_7_many_come_loose_in_portions() {
    let mut pool = Pool::new(1_024..=65_535, Nanos::from_secs(1));
    (1_024..=65_535).for_each(|port| {
        pool.take(Wish::Exactly(port), host(2, 0), sequence(0))
            .unwrap();
    });
    (1_024..=65_535).for_each(|port| pool.release(port, host(2, 0)));
    pool.let_go(Nanos::from_secs(9), 1_000);
    assert_eq!(pool.held(), 63_512);
    pool.take(Wish::Any, host(3, 9), sequence(0)).unwrap();
    assert_eq!(pool.held(), 63_512 - 64);
}

#[test]
fn a1_17_exactly_is_this_port_or_none() {
    let mut pool = pool(40_000..=40_010);
    assert_eq!(take(&mut pool, Wish::Exactly(40_004), 0), Some(40_004));
    assert_eq!(take(&mut pool, Wish::Exactly(40_004), 0), None);
    assert_eq!(take(&mut pool, Wish::Exactly(80), 0), None);
    assert_eq!(pool.used(), 1);
}

proptest! {
    /// Used, free and held ports are all ports at any time, and nobody has what another's is.
    #[test]
    fn a2_7_used_free_and_held_add_up(
        steps in proptest::collection::vec(
            (any::<u16>(), 0u8..6, 0u8..4, 0u64..30, any::<u64>()), 1..300),
    ) {
        let mut pool = Pool::new(40_000..=40_030, Nanos::from_secs(60));
        let mut used: HashMap<u16, u8> = HashMap::new();
        // Port -> its last host, and the second from which all may have it.
        let mut held: HashMap<u16, (u8, u64)> = HashMap::new();
        let mut now = 0;
        for (port, what, n, pause, salt) in steps {
            now += pause;
            pool.let_go(Nanos::from_secs(now), 100);
            held.retain(|_, &mut (_, until)| until > now);
            if what > 3 && let Some((&port, &n)) = used.iter().min() {
                used.remove(&port);
                pool.release(port, host(n, now));
                held.insert(port, (n, now + 60));
            } else {
                let port = 40_000 + port % 40;
                let wish = [
                    Wish::Like(port), Wish::Prefer(port), Wish::Exactly(port), Wish::Any,
                ][usize::from(what % 4)];
                let may = |port: &u16| {
                    !used.contains_key(port) && held.get(port).is_none_or(|&(of, _)| of == n)
                };
                match pool.take(wish, host(n, now), sequence(salt)) {
                    Some(taken) => {
                        prop_assert!(may(&taken), "{taken} at {now}");
                        prop_assert!(!matches!(wish, Wish::Exactly(port) if port != taken));
                        held.remove(&taken);
                        used.insert(taken, n);
                    }
                    None if matches!(wish, Wish::Exactly(_)) => {
                        prop_assert!(port > 40_030 || !may(&port));
                    }
                    None => prop_assert!(!(40_000..=40_030).any(|port| may(&port))),
                }
            }
            prop_assert_eq!(at(pool.used()), used.len());
            prop_assert_eq!(at(pool.held()), held.len());
            let free = (40_000..=40_030).filter(|&p| pool.is_untaken(u32::from(p - 40_000u16)));
            prop_assert_eq!(free.count(), at(pool.free()));
        }
    }

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
        let mut pool = pool(ports.clone());
        let mut owned = HashSet::new();
        for (port, give_back, salt) in steps {
            if give_back && let Some(&any) = owned.iter().next() {
                owned.remove(&any);
                pool.release(any, host(2, 0));
            } else if let Some(taken) = take(&mut pool, Wish::Prefer(port), salt) {
                prop_assert!(ports.contains(&taken) && owned.insert(taken));
            } else {
                prop_assert_eq!(owned.len(), ports.len());
            }
            prop_assert_eq!(usize::try_from(pool.used()).unwrap(), owned.len());
        }
    }
}
