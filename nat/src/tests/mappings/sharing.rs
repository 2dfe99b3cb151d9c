//! A2-1: TCP ports with several inside endpoints. A2-7: what finished makes room.

use super::*;

/// Fills all ports with live connections of C1 to the server.
fn filled(config: Config) -> (Bench, Vec<Endpoint>) {
    let ports = u16::try_from(config.ports.len()).unwrap();
    let mut bench = Bench::new(config);
    let externals = (0..ports)
        .map(|n| connect(&mut bench, (C1, 1_024 + n), SERVER))
        .collect();
    (bench, externals)
}

#[test]
fn a2_1_ports_are_shared_towards_other_remotes_only() {
    let (mut bench, externals) = filled(few(16));
    assert_eq!(
        bench.out_drop(&tcp((C2, 5_555), SERVER, SYN)),
        Reason::PortsExhausted
    );
    let shared = connect(&mut bench, (C2, 5_555), (O2, 443));
    assert!(externals.contains(&shared));
    assert_eq!(bench.nat.counters().ports_shared, 1);
    assert_eq!(bench.nat.ports_used(Protocol::Tcp), 16);
    // Each remote's packets find their own inside endpoint.
    let first = externals
        .iter()
        .position(|&external| external == shared)
        .unwrap();
    let first = (C1, 1_024 + u16::try_from(first).unwrap());
    assert_eq!(bench.deliver(&tcp(SERVER, shared, ACK)), first);
    assert_eq!(bench.deliver(&tcp((O2, 443), shared, ACK)), (C2, 5_555));
    // The mapping stays endpoint-independent as far as it can.
    assert_eq!(bench.map(&tcp((C2, 5_555), (O2, 444), SYN)), shared);
    assert_eq!(bench.nat.counters().mappings_created, 17);
}

#[test]
fn a2_1_five_tuples_stay_unique_for_the_first_as_well() {
    let (mut bench, _) = filled(few(16));
    let shared = connect(&mut bench, (C2, 5_555), (O2, 443));
    let first = bench
        .nat
        .sessions()
        .find(|v| v.external == (shared.0.into(), shared.1))
        .unwrap();
    let first = (first.inside.0.octets(), first.inside.1);
    assert_eq!(first.0, C1);
    // The first one's flow to the second one's remote goes by another port.
    let other = connect(&mut bench, first, (O2, 443));
    assert_ne!(other, shared);
    assert_eq!(bench.deliver(&tcp((O2, 443), shared, ACK)), (C2, 5_555));
    assert_eq!(bench.deliver(&tcp((O2, 443), other, ACK)), first);
    // And both its mappings are found again, each for its flow.
    assert_eq!(bench.map(&tcp(first, (O2, 443), ACK)), other);
    assert_eq!(bench.map(&tcp(first, SERVER, ACK)), shared);
}

#[test]
fn a2_1_sharing_is_an_option_and_not_for_udp() {
    let (mut bench, _) = filled(Config {
        tcp_overlap: false,
        ..few(16)
    });
    assert_eq!(
        bench.out_drop(&tcp((C2, 5_555), (O2, 443), SYN)),
        Reason::PortsExhausted
    );
    let mut bench = Bench::new(few(4));
    for n in 0..4 {
        bench.map(&udp((C1, 1_024 + n), (O1, 9)));
    }
    assert_eq!(
        bench.out_drop(&udp((C2, 5_555), (O2, 9))),
        Reason::PortsExhausted
    );
}

#[test]
fn a2_1_strangers_reach_the_first_mapping_then_the_next() {
    let (mut bench, _) = filled(Config {
        tcp_filtering: Filtering::Eif,
        ..few(1)
    });
    let shared = connect(&mut bench, (C2, 5_555), (O2, 443));
    let third = connect(&mut bench, (host(50), 5_555), ([198, 51, 100, 9], 1));
    assert_eq!(shared, third);
    assert_eq!(bench.deliver(&tcp((O2, 7_777), shared, SYN)), (C1, 1_024));
    // One that is not the first goes: nothing changes for strangers.
    let fourth = connect(&mut bench, (host(51), 5_555), ([198, 51, 100, 9], 2));
    bench.map(&tcp((host(51), 5_555), ([198, 51, 100, 9], 2), RST));
    bench.wait(242);
    assert_eq!((fourth, bench.nat.len()), (shared, 3));
    assert_eq!(bench.deliver(&tcp((O2, 7_778), shared, SYN)), (C1, 1_024));
    // The first goes: a RST from inside, and its time.
    bench.map(&tcp((C1, 1_024), SERVER, RST));
    bench.map(&tcp((C1, 1_024), (O2, 7_778), RST));
    bench.wait(242);
    assert_eq!(bench.nat.len(), 2);
    let next = bench.deliver(&tcp((O2, 7_779), shared, SYN));
    assert!([(C2, 5_555), (host(50), 5_555)].contains(&next), "{next:?}");
    assert_eq!(bench.nat.ports_used(Protocol::Tcp), 1);
    bench.nat.flush();
    assert_eq!(bench.nat.ports_used(Protocol::Tcp), 0);
    assert_eq!(bench.nat.ports_held(Protocol::Tcp), 1);
}

#[test]
fn a2_7_the_longest_finished_of_the_same_host_makes_room() {
    let (mut bench, externals) = filled(few(16));
    for n in [5, 3, 9] {
        close(
            &mut bench,
            (C1, 1_024 + n),
            externals[usize::from(n)],
            SERVER,
        );
    }
    // Another host cannot have them, for the same remote.
    assert_eq!(
        bench.out_drop(&tcp((C2, 9), SERVER, SYN)),
        Reason::PortsExhausted
    );
    for n in [5, 3, 9] {
        let inside = (C1, 9_000 + n);
        assert_eq!(
            connect(&mut bench, inside, SERVER),
            externals[usize::from(n)]
        );
    }
    assert_eq!(bench.nat.counters().sessions_recycled, 3);
    // The live ones live, and there is nothing left to end.
    assert_eq!(
        bench.out_drop(&tcp((C1, 9_999), SERVER, SYN)),
        Reason::PortsExhausted
    );
    assert_eq!(bench.states(), ["ESTABLISHED"; 16]);
}

#[test]
fn a2_7_a_rst_from_outside_may_be_forged_one_from_inside_not() {
    let (mut bench, externals) = filled(few(4));
    bench.deliver(&tcp(SERVER, externals[0], RST | ACK));
    assert_eq!(
        bench.out_drop(&tcp((C1, 9_000), SERVER, SYN)),
        Reason::PortsExhausted
    );
    // The forger's victim goes on.
    assert_eq!(bench.deliver(&tcp(SERVER, externals[0], ACK)), (C1, 1_024));
    bench.map(&tcp((C1, 1_025), SERVER, RST));
    assert_eq!(connect(&mut bench, (C1, 9_000), SERVER), externals[1]);
    // A refused handshake is over for both.
    let mut bench = Bench::new(few(1));
    let ext = bench.map(&tcp((C1, 1_024), SERVER, SYN));
    assert_eq!(
        bench.out_drop(&tcp((C1, 1_025), SERVER, SYN)),
        Reason::PortsExhausted
    );
    bench.deliver(&tcp(SERVER, ext, RST | ACK));
    assert_eq!(bench.map(&tcp((C1, 1_025), SERVER, SYN)), ext);
}

#[test]
fn a2_7_a_reopened_session_is_not_finished() {
    let (mut bench, externals) = filled(few(2));
    close(&mut bench, (C1, 1_024), externals[0], SERVER);
    assert_eq!(connect(&mut bench, (C1, 1_024), SERVER), externals[0]);
    assert_eq!(
        bench.out_drop(&tcp((C1, 9_000), SERVER, SYN)),
        Reason::PortsExhausted
    );
    assert_eq!(bench.states(), ["ESTABLISHED"; 2]);
}

#[test]
fn a2_7_a_port_comes_free_only_if_all_its_sessions_are_finished() {
    let mut bench = Bench::new(Config {
        tcp_overlap: false,
        ..few(2)
    });
    // One port with a live and a finished session, another with two finished ones.
    let mixed = connect(&mut bench, (C1, 1_024), SERVER);
    connect(&mut bench, (C1, 1_024), (O2, 1));
    let done = connect(&mut bench, (C1, 1_025), SERVER);
    connect(&mut bench, (C1, 1_025), (O2, 1));
    close(&mut bench, (C1, 1_024), mixed, SERVER);
    close(&mut bench, (C1, 1_025), done, SERVER);
    close(&mut bench, (C1, 1_025), done, (O2, 1));
    assert_eq!(connect(&mut bench, (C1, 1_026), SERVER), done);
    assert_eq!(bench.nat.counters().sessions_recycled, 2);
    assert_eq!(bench.deliver(&tcp((O2, 1), mixed, ACK)), (C1, 1_024));
    // The finished one beside a live one was left alone: it costs no port.
    assert_eq!(bench.nat.len(), 3);
    assert_eq!(
        bench.out_drop(&tcp((C1, 1_027), SERVER, SYN)),
        Reason::PortsExhausted
    );
}

#[test]
fn a4_2_a_full_table_ends_finished_sessions_of_the_same_host_only() {
    let mut bench = Bench::new(Config {
        sessions_max: 3,
        ..config()
    });
    let one = connect(&mut bench, (C1, 1_024), SERVER);
    connect(&mut bench, (C1, 1_025), SERVER);
    bench.map(&udp((C2, 5_555), (O1, 53)));
    assert_eq!(
        bench.out_drop(&tcp((C1, 1_026), SERVER, SYN)),
        Reason::SessionsExhausted
    );
    close(&mut bench, (C1, 1_024), one, SERVER);
    assert_eq!(
        bench.out_drop(&tcp((C2, 1_026), SERVER, SYN)),
        Reason::SessionsExhausted
    );
    // Any protocol may have its place.
    bench.map(&udp((C1, 5_555), (O1, 53)));
    assert_eq!(bench.nat.counters().sessions_recycled, 1);
    assert_eq!(
        bench.out_drop(&tcp((host(77), 1), SERVER, SYN)),
        Reason::SessionsExhausted
    );
    assert_eq!(bench.nat.counters().hosts_full, 0);
}
