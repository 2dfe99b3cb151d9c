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
        fast_path: None,
        latency: None,
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
        nat_worker: 0,
        isolated: false,
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

#[test]
fn a_port_moves_with_its_ring_and_keeps_its_counts() {
    let (mut switch, mut workers) = build(3);
    let ((port, host), (_, other)) = (add(&mut switch), add(&mut switch));
    step(&mut workers);
    let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 0x99, 0x99], &[7; 46]].concat();
    let mut sent = 0;
    for to in [2, 0, 1, 1, 2] {
        let from = switch.port_worker(port).unwrap();
        assert_eq!(switch.move_port(port, to), Ok(from));
        assert_eq!(switch.port_worker(port), Some(to));
        assert_eq!(switch.view().port(port).unwrap().nat_worker, 0);
        // They wait in the ring while nobody has it.
        workers[usize::from(from)].tick(Nanos(0));
        assert!(host.send(&frame, Offload::PLAIN));
        sent += 1;
        if from != to {
            step(&mut workers[..usize::from(to)]);
            assert!(other.receive().is_none(), "its worker has not heard of it");
        }
        let before = switch.worker_totals(to).received;
        step(&mut workers);
        assert_eq!(switch.worker_totals(to).received, before + 1);
        assert!(other.receive().is_some() && other.receive().is_none());
    }
    assert_eq!(switch.port_totals(port).received_frames, sent);
    assert!(switch.totals().conserved());
}

#[test]
fn a_port_that_is_still_moving_moves_no_further_and_may_be_closed() {
    let (mut switch, mut workers) = build(3);
    let ((port, host), (_, other)) = (add(&mut switch), add(&mut switch));
    step(&mut workers);
    assert_eq!(switch.move_port(port, 1), Ok(0));
    assert_eq!(switch.move_port(port, 2), Err(MoveError::Late(0)));
    workers[0].tick(Nanos(0));
    assert_eq!(
        switch.move_port(port, 2),
        Err(MoveError::Late(0)),
        "half way"
    );
    workers[1].tick(Nanos(0));
    assert_eq!(switch.move_port(port, 2), Ok(1));
    workers[1].tick(Nanos(0));
    step(&mut workers);
    // Closed, and another opened at its index, while worker 2 is stuck with it.
    assert_eq!(switch.move_port(port, 1), Ok(2));
    switch.remove_port(port);
    let (again, _new) = add(&mut switch);
    assert_eq!(again, port);
    workers[1].tick(Nanos(0));
    step(&mut workers);
    assert!(host.send(&[0xff; 60], Offload::PLAIN));
    step(&mut workers);
    step(&mut workers);
    assert_eq!(switch.totals().received, 0, "the old cable is cut");
    assert!(other.receive().is_none() && switch.totals().conserved());
}

#[test]
fn what_cannot_move_says_why() {
    let (mut switch, mut workers) = build(2);
    let (port, _host) = add(&mut switch);
    let halves = [0, 1].map(|_| cable(PortIndex(1), CableOptions::default()));
    let (mut rx, mut view) = (Vec::new(), switch.view().port(port).unwrap().clone());
    for (half, egress, _) in halves {
        rx.push(Rx::Sim(half));
        (view.role, view.egress) = (Role::Uplink, Egress::Sim(egress));
    }
    switch.add_port_to_all(PortIndex(1), view, rx);
    step(&mut workers);
    let wrong = MoveError::NoWorker { worker: 2, last: 1 };
    assert_eq!(switch.move_port(port, 2), Err(wrong));
    assert_eq!(
        switch.move_port(PortIndex(1), 1),
        Err(MoveError::Everywhere)
    );
    assert_eq!(switch.move_port(PortIndex(7), 1), Err(MoveError::NoPort));
    assert_eq!(switch.port_worker(port), Some(0), "nothing was done");
}

#[test]
fn a_port_without_a_ring_moves_and_opens_there() {
    let (mut switch, mut workers) = build(2);
    let (port, _gone) = add(&mut switch);
    step(&mut workers);
    switch.stop_receiving(port);
    step(&mut workers);
    assert_eq!(switch.move_port(port, 1), Ok(0));
    step(&mut workers);
    let (rx, _egress, host) = cable(port, CableOptions::default());
    switch.receive(port, Rx::Sim(rx));
    assert!(host.send(&[0xff; 60], Offload::PLAIN));
    step(&mut workers);
    assert_eq!(switch.worker_totals(1).received, 1);
    assert!(switch.totals().conserved());
}
