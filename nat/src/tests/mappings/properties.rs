//! What holds after any sequence of packets, pauses, flushes and changes of address.

use super::*;
use proptest::prelude::*;

/// Fails unless tables, accounts and counters tell the same story as the sessions.
fn check(bench: &Bench, config: &Config) -> Result<(), TestCaseError> {
    let nat = &bench.nat;
    let mut insides: HashMap<_, HashSet<_>> = HashMap::new();
    let mut tuples = HashSet::new();
    let mut addresses: HashMap<Ipv4Addr, HashSet<Ipv4Addr>> = HashMap::new();
    let mut mappings: HashMap<Ipv4Addr, HashSet<_>> = HashMap::new();
    let mut sessions: HashMap<Ipv4Addr, (u32, u32)> = HashMap::new();
    for view in nat.sessions() {
        let external = (view.protocol, view.external);
        insides.entry(external).or_default().insert(view.inside);
        prop_assert!(
            tuples.insert((external, view.remote)),
            "one tuple, one session"
        );
        addresses
            .entry(view.inside.0)
            .or_default()
            .insert(view.external.0);
        mappings
            .entry(view.inside.0)
            .or_default()
            .insert((external, view.inside.1));
        let (count, half_open) = sessions.entry(view.inside.0).or_default();
        *count += 1;
        let half_open_states = ["SYN_SENT", "SYN_SENT2", "SYN_RECV"];
        *half_open += u32::from(view.from_inside && half_open_states.contains(&view.state));
    }
    for ((protocol, external), insides) in &insides {
        let may_share = *protocol == Protocol::Tcp && config.tcp_overlap;
        prop_assert!(
            insides.len() == 1 || may_share,
            "{protocol:?} {external:?} {insides:?}"
        );
        let first = nat.mappings.find_external(*protocol, *external);
        let first = first.and_then(|id| nat.mappings.get(id));
        prop_assert!(first.is_some_and(|first| insides.contains(&first.inside)));
    }
    prop_assert!(
        addresses.values().all(|externals| externals.len() == 1),
        "paired"
    );
    for protocol in Protocol::ALL {
        let used = insides.keys().filter(|(of, _)| *of == protocol).count();
        prop_assert_eq!(crate::slab::at(nat.ports_used(protocol)), used);
        let all = config.ports.len() * (1 + nat.config().pool.len());
        prop_assert!(crate::slab::at(nat.ports_held(protocol)) + used <= all);
    }
    prop_assert_eq!(nat.hosts().count(), sessions.len());
    for host in nat.hosts() {
        prop_assert_eq!((host.sessions, host.half_open), sessions[&host.address]);
        prop_assert_eq!(crate::slab::at(host.ports), mappings[&host.address].len());
        prop_assert!(
            host.external
                .is_some_and(|e| addresses[&host.address].contains(&e))
        );
        prop_assert!(host.sessions <= config.quota.sessions && host.ports <= config.quota.ports);
    }
    let counters = nat.counters();
    let live: usize = mappings.values().map(HashSet::len).sum();
    prop_assert_eq!(
        counters.mappings_created - counters.mappings_removed,
        live as u64
    );
    let paired = counters.address_maps_created - counters.address_maps_removed;
    prop_assert_eq!(paired, mappings.len() as u64);
    Ok(())
}

/// What happens: to which host, port and remote, and how long after.
type Step = (u8, u8, u16, u16, u64);

fn play(bench: &mut Bench, (what, from, port, to, pause): Step) {
    let inside = ([10, 9, 0, from], 1_020 + port);
    let remote = (O1, 80 + to);
    let flags = [SYN, ACK, FIN_ACK, SYN_ACK, RST];
    let flag = flags[usize::from(what) % flags.len()];
    match what {
        // From inside.
        0..=39 => drop(bench.out(&tcp(inside, remote, flag))),
        40..=54 => drop(bench.out(&udp(inside, remote))),
        55..=59 => drop(bench.out(&echo(inside.0, O1, port, false))),
        // The answer to some session, or what its remote sends unasked.
        60..=94 => {
            let count = bench.nat.len().max(1);
            let nth = usize::from(port * 7 + to) % count;
            let view = bench.nat.sessions().nth(nth);
            if let Some(view) = view {
                let (remote, external) = (view.remote, view.external);
                let (remote, external) = (
                    (remote.0.octets(), remote.1),
                    (external.0.octets(), external.1),
                );
                drop(match view.protocol {
                    Protocol::Tcp => bench.inn(&tcp(remote, external, flag)),
                    Protocol::Udp => bench.inn(&udp(remote, external)),
                    Protocol::Icmp => bench.inn(&echo(remote.0, external.0, external.1, true)),
                    // None of the steps begins one.
                    Protocol::Sctp | Protocol::Other(_) => return,
                });
            }
        }
        95..=96 => drop(bench.nat.flush()),
        97..=98 => {
            let all = [EXT, POOL[0], POOL[1]].map(Ipv4Addr::from);
            let from = usize::from(port % 3);
            let end = (from + 1 + usize::from(to)).min(3);
            bench.nat.set_externals(&all[from..end]);
        }
        _ => bench.wait(pause),
    }
}

proptest! {
    #[test]
    fn a1_3_no_port_has_two_owners_but_by_overlap_towards_different_remotes(
        steps in proptest::collection::vec(
            (0u8..110, 0u8..5, 0u16..9, 0u16..4, 0u64..150), 1..250),
        seed: u64, tcp_overlap: bool, filtering in 0usize..3, hold in 0u64..200,
        sessions in 3u32..40, ports in 2u32..40,
    ) {
        let filtering = [Filtering::Apdf, Filtering::Adf, Filtering::Eif][filtering];
        let config = Config {
            tcp_overlap,
            tcp_filtering: filtering,
            udp_filtering: filtering,
            port_hold: secs(hold),
            sessions_max: 60,
            half_open_max: 30,
            quota: Quota { sessions, ports, half_open: 12, new_per_sec: 50, failed_per_sec: 40 },
            ports: 1_022..=1_025,
            pool: vec![POOL[0].into()],
            ..config()
        };
        let mut bench = Bench { nat: Nat::new(config.clone(), seed), now: secs(1_000) };
        for step in steps {
            bench.now += Nanos::from_millis(step.4);
            play(&mut bench, step);
            check(&bench, &config)?;
        }
        bench.wait(100_000);
        check(&bench, &config)?;
        prop_assert!(bench.nat.is_empty());
        bench.wait(1_000);
        let held = Protocol::ALL.map(|protocol| bench.nat.ports_held(protocol));
        prop_assert_eq!(held, [0; Protocol::COUNT]);
    }
}
