use super::*;
use proptest::prelude::*;

const EXT: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 254);
const EXT2: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 253);

fn target(last: u8, port: u16) -> Target {
    Target {
        address: Ipv4Addr::new(10, 9, 0, last),
        port,
    }
}

fn publish(ports: RangeInclusive<u16>, targets: &[Target]) -> Publish {
    Publish {
        protocol: Protocol::Tcp,
        external: None,
        ports,
        targets: targets.to_vec(),
        by_source: false,
        owner: 0,
    }
}

fn at(external: Ipv4Addr, publish: Publish) -> Publish {
    Publish {
        external: Some(external),
        ..publish
    }
}

#[test]
fn a6_1_a_range_is_one_entry_and_keeps_its_order() {
    let all = Publishes::new(vec![publish(20_000..=29_999, &[target(2, 5_000)])]).unwrap();
    assert_eq!((all.iter().count(), all.inside.len()), (1, 1));
    let found = |port| {
        let entry = all.find(Protocol::Tcp, EXT, port)?;
        entry.choose(HashKey::new(1, 1), (EXT2, 9), port)
    };
    let c1 = Ipv4Addr::new(10, 9, 0, 2);
    assert_eq!(found(20_000), Some((c1, 5_000)));
    assert_eq!(found(29_999), Some((c1, 14_999)));
    assert_eq!((found(19_999), found(30_000)), (None, None));
    assert_eq!(all.find(Protocol::Udp, EXT, 20_000), None);
    let inside = |port| {
        all.find_inside(Protocol::Tcp, (c1, port))
            .map(|found| found.1)
    };
    assert_eq!(
        (inside(5_000), inside(14_999)),
        (Some(20_000), Some(29_999))
    );
    assert_eq!((inside(4_999), inside(15_000)), (None, None));
    assert_eq!(all.find_inside(Protocol::Tcp, (EXT, 5_000)), None);
}

#[test]
fn a6_1_an_entry_of_one_address_is_not_that_of_another() {
    let all = Publishes::new(vec![
        at(EXT, publish(80..=80, &[target(2, 80)])),
        at(EXT2, publish(80..=80, &[target(3, 80)])),
        publish(81..=81, &[target(4, 80)]),
    ])
    .unwrap();
    let host = |external, port| {
        let entry = all.find(Protocol::Tcp, external, port)?;
        Some(entry.targets[0].address.octets()[3])
    };
    assert_eq!((host(EXT, 80), host(EXT2, 80)), (Some(2), Some(3)));
    assert_eq!((host(EXT, 81), host(EXT2, 81)), (Some(4), Some(4)));
    assert_eq!(host(Ipv4Addr::new(203, 0, 113, 1), 80), None);
}

#[test]
fn a6_1_overlaps_are_refused_and_named_by_their_places() {
    let one = |ports| publish(ports, &[target(2, 80)]);
    let refused = |entries: Vec<Publish>| Publishes::new(entries).unwrap_err();
    assert_eq!(
        refused(vec![one(80..=80), one(90..=99), one(85..=90)]),
        PublishError::Overlap(1, 2)
    );
    assert_eq!(
        refused(vec![
            at(EXT, one(80..=80)),
            at(EXT2, one(80..=80)),
            one(70..=80)
        ]),
        PublishError::Overlap(0, 2),
        "each address has the ports of all"
    );
    assert_eq!(
        refused(vec![publish(1..=65_535, &[]), at(EXT, one(9..=9))]),
        PublishError::Overlap(0, 1)
    );
    let udp = Publish {
        protocol: Protocol::Udp,
        ..one(80..=80)
    };
    let others = vec![one(80..=80), udp, one(81..=81), at(EXT, one(79..=79))];
    assert_eq!(Publishes::new(others).unwrap().iter().count(), 4);
}

#[test]
fn a6_1_impossible_entries_are_refused() {
    let good = || publish(80..=81, &[target(2, 80)]);
    #[expect(
        clippy::reversed_empty_ranges,
        reason = "an empty range is the case under test"
    )]
    let empty = 81..=80;
    let bad = [
        publish(empty, &[]),
        publish(0..=80, &[]),
        publish(80..=81, &[target(2, 80), target(2, 65_535)]),
        publish(80..=80, &[target(2, 0)]),
        Publish {
            protocol: Protocol::Icmp,
            ..good()
        },
    ];
    for entry in bad {
        let refused = Publishes::new(vec![good(), entry.clone()]).unwrap_err();
        assert_eq!(refused, PublishError::Invalid(1), "{entry:?}");
    }
    let full = publish(1..=65_535, &[target(2, 1)]);
    assert!(Publishes::new(vec![full]).is_ok());
    assert!(
        Publishes::new(vec![publish(80..=80, &[])]).is_ok(),
        "no target yet"
    );
}

#[test]
fn a6_7_entries_of_one_endpoint_have_one_owner() {
    let owned = |owner, publish| Publish { owner, ..publish };
    let all = Publishes::new(vec![
        owned(3, publish(90..=90, &[target(3, 80), target(4, 80)])),
        owned(1, publish(80..=80, &[target(2, 80), target(3, 80)])),
        owned(2, publish(95..=99, &[target(4, 78)])),
        owned(4, publish(70..=70, &[target(9, 80)])),
    ])
    .unwrap();
    let owners: Vec<_> = all.iter().map(|e| (*e.ports.start(), e.owner)).collect();
    assert_eq!(owners, [(70, 4), (80, 1), (90, 1), (95, 1)]);
}

#[test]
fn a6_7_a_target_that_goes_moves_its_own_flows_only() {
    let targets: Vec<_> = (2..7).map(|last| target(last, 80)).collect();
    let (key, all) = (HashKey::new(7, 6), publish(80..=80, &targets));
    let less = publish(80..=80, &targets[..4]);
    let flow = |n: u32| {
        (
            Ipv4Addr::from_bits(0xc633_6400 + n / 100),
            1_000 + (n % 100) as u16,
        )
    };
    let mut moved = 0;
    for n in 0..5_000 {
        let before = all.choose(key, flow(n), 80).unwrap();
        let after = less.choose(key, flow(n), 80).unwrap();
        let was_of_it = before.0 == targets[4].address;
        assert_eq!(before != after, was_of_it);
        moved += u32::from(was_of_it);
    }
    assert!((850..1_150).contains(&moved), "a fifth, not {moved}");
}

#[test]
fn a6_7_flows_are_spread_evenly_and_sources_stay_if_asked() {
    let targets = [target(2, 80), target(3, 80), target(4, 80)];
    let key = HashKey::new(7, 6);
    let spread = publish(80..=80, &targets);
    let sticky = Publish {
        by_source: true,
        ..spread.clone()
    };
    let mut hits = [0; 3];
    for port in 1_000..1_300 {
        let (address, _) = spread.choose(key, (EXT2, port), 80).unwrap();
        hits[usize::from(address.octets()[3]) - 2] += 1;
        assert_eq!(
            sticky.choose(key, (EXT2, port), 80),
            sticky.choose(key, (EXT2, 1), 80)
        );
    }
    assert!(hits.iter().all(|hits| (60..140).contains(hits)), "{hits:?}");
}

fn entries() -> impl Strategy<Value = Vec<Publish>> {
    let targets = proptest::collection::vec((2u8..5, 1u16..40), 0..3);
    let entry = (1u16..60, 0u16..8, 0u8..3, targets, any::<bool>());
    proptest::collection::vec(entry, 0..8).prop_map(|entries| {
        let made = entries
            .into_iter()
            .map(|(start, length, address, targets, is_tcp)| Publish {
                protocol: if is_tcp { Protocol::Tcp } else { Protocol::Udp },
                external: [None, Some(EXT), Some(EXT2)][usize::from(address)],
                ports: start..=start + length,
                targets: targets
                    .into_iter()
                    .map(|(last, port)| target(last, port))
                    .collect(),
                by_source: false,
                owner: start,
            });
        made.collect()
    })
}

proptest! {
    /// Against a search through all entries.
    #[test]
    fn a6_1_look_ups_equal_a_search_through_all(entries in entries()) {
        let overlaps = |a: &Publish, b: &Publish| {
            a.protocol == b.protocol
                && (a.external.is_none() || b.external.is_none() || a.external == b.external)
                && a.ports.start() <= b.ports.end() && b.ports.start() <= a.ports.end()
        };
        let clash = (0..entries.len())
            .find(|&at| entries[..at].iter().any(|a| overlaps(a, &entries[at])));
        let all = match Publishes::new(entries.clone()) {
            Ok(all) => all,
            Err(PublishError::Overlap(first, second)) => {
                prop_assert_eq!(Some(second), clash);
                prop_assert!(first < second && overlaps(&entries[first], &entries[second]));
                return Ok(());
            }
            Err(PublishError::Invalid(at)) => panic!("{at} is valid"),
        };
        prop_assert_eq!(clash, None);
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let endpoints = [EXT, EXT2].into_iter().flat_map(|e| (0..70).map(move |p| (e, p)));
            for (external, port) in endpoints {
                let by_search = all.iter().find(|e| {
                    e.protocol == protocol && e.ports.contains(&port)
                        && e.external.is_none_or(|own| own == external)
                });
                prop_assert_eq!(all.find(protocol, external, port), by_search);
            }
            for (last, port) in (2..5).flat_map(|last| (0..50).map(move |port| (last, port))) {
                let inside = (Ipv4Addr::new(10, 9, 0, last), port);
                let by_search: Vec<_> = all.iter()
                    .filter(|e| e.protocol == protocol)
                    .filter(|e| e.ports.clone().any(|port| e.leads_to(port, inside)))
                    .collect();
                let found = all.find_inside(protocol, inside);
                prop_assert_eq!(found.map(|found| found.0), by_search.first().copied());
                if let Some((entry, port)) = found {
                    prop_assert!(entry.leads_to(port, inside));
                }
                prop_assert!(by_search.windows(2).all(|two| two[0].owner == two[1].owner));
            }
        }
    }
}
