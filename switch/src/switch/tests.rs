//! What the owner keeps account of, with workers that are stepped by hand.

use super::*;
use crate::config::{NetworkIndex, Role};
use crate::frame::Offload;
use crate::port::Egress;
use crate::port::sim::{CableOptions, SimHost, cable};

fn settings(workers: u16) -> Settings {
    Settings {
        workers,
        cpus: Vec::new(),
        idle: Idle {
            busy_poll: Duration::ZERO,
        },
        fdb_entries_max: 64,
        ageing_secs: 300,
        nat: None,
        seed: 1,
    }
}

fn build(workers: u16) -> (Switch, Vec<Worker>) {
    Switch::build(&settings(workers), false, Nanos(0), || {
        Ok(Tx::without_sockets())
    })
    .unwrap()
}

fn add(switch: &mut Switch) -> (PortIndex, SimHost) {
    let index = switch.free_index().unwrap();
    let (rx, egress, host) = cable(index, CableOptions::default());
    let port = PortView {
        network: NetworkIndex(0),
        role: Role::Member,
        egress: Egress::Sim(egress),
        mtu: 1500,
        up: true,
    };
    let worker = switch.idlest_worker();
    switch.add_port(index, port, Rx::Sim(rx), worker);
    (index, host)
}

fn step(workers: &mut [Worker]) {
    for worker in workers {
        worker.tick(Nanos(0));
        worker.poll_once(Nanos(0));
    }
}

#[test]
fn ports_are_spread_over_workers_and_indexes_used_again() {
    let (mut switch, mut workers) = build(3);
    let ports: Vec<_> = (0..6).map(|_| add(&mut switch)).collect();
    let at: Vec<_> = ports
        .iter()
        .map(|(index, _)| switch.port_worker(*index))
        .collect();
    assert_eq!(at, [0, 1, 2, 0, 1, 2].map(Some));
    step(&mut workers);
    switch.remove_port(ports[1].0);
    step(&mut workers);
    assert_eq!(switch.free_index(), Ok(ports[1].0));
    assert_eq!(switch.idlest_worker(), 1);
    assert_eq!(switch.port_worker(ports[1].0), None);
}

#[test]
fn a_port_counts_from_when_it_was_added() {
    let (mut switch, mut workers) = build(1);
    let (first, host) = add(&mut switch);
    step(&mut workers);
    for _ in 0..3 {
        assert!(host.send(&[0xff; 60], Offload::PLAIN));
    }
    step(&mut workers);
    let totals = switch.port_totals(first);
    assert_eq!((totals.received_frames, totals.received_bytes), (3, 180));
    assert_eq!(totals.drops, [(DropReason::SourceInvalid, 3)]);
    assert_eq!(totals.dropped(), 3);
    switch.remove_port(first);
    step(&mut workers);
    let (second, _host) = add(&mut switch);
    assert_eq!(second, first);
    assert_eq!(switch.port_totals(second), PortTotals::default());
    assert_eq!(
        switch.totals().received,
        3,
        "the switch as a whole forgets nothing"
    );
    assert!(switch.totals().conserved());
}

#[test]
fn a_frame_of_a_port_that_just_left_is_counted_and_goes_nowhere() {
    let (mut switch, mut workers) = build(2);
    let ((first, host), (_, other)) = (add(&mut switch), add(&mut switch));
    step(&mut workers);
    // It was handed over before the worker heard of the removal, and has no port now.
    assert!(host.send(
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0],
        Offload::PLAIN
    ));
    switch.update(|view| view.ports[first.index()] = None);
    step(&mut workers);
    assert!(other.receive().is_none());
    assert_eq!(switch.port_totals(first).drops, [(DropReason::NoEgress, 1)]);
}

#[test]
fn workers_stop_when_told_and_bad_settings_are_refused() {
    let (switch, mut workers) = build(2);
    assert!(!workers[0].is_stopping());
    drop(switch);
    step(&mut workers);
    assert!(workers.iter().all(Worker::is_stopping));
    let settings = Settings {
        ageing_secs: 9,
        ..settings(1)
    };
    let made = Switch::build(&settings, false, Nanos(0), || Ok(Tx::without_sockets()));
    assert!(matches!(made, Err(StartError::Ageing(BadAgeing(9)))));
}
