//! hping3 and nmap: what nobody asked for gets no answer and leaves nothing behind.

use std::thread;
use std::time::Duration;

use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::lab::traffic::tcp;

use super::{OWN, OWN_ARGS, command, finished, installed, run};
use crate::netns::frames::count_in;
use crate::netns::world::Times::{Any, AtLeast, Exactly};
use crate::netns::world::{World, world};
use vswitch_cli::lab::traffic::craft::Seen;

fn sessions(world: &World) -> usize {
    world.json("nat")["sessions"].as_array().unwrap().len()
}

#[test]
fn a2_3_an_unasked_syn_meets_six_seconds_of_silence() {
    if !installed(&["hping3"]) {
        return;
    }
    let Some(world) = world().args(OWN_ARGS).start() else {
        return;
    };
    let answers = count_in(world.o(), |bytes| {
        Seen::in_frame(bytes).is_some_and(|seen| seen.source == OWN)
    });
    let asked = run(world.o(), &format!("hping3 -n -q -S -p 41000 -c 1 {OWN}"));
    asked.expect("100% packet loss");
    // RFC 5382 REQ-4: at least six seconds, in which an outbound SYN could still come.
    assert!(
        !answers.wait_for(1, Duration::from_secs(7)),
        "{:02x?}",
        answers.frames()
    );
    assert_eq!(sessions(&world), 0);
    world.finish(&[("NAT_UNSOLICITED", Exactly(1)), ("OTHERHOST", Any)]);
}

#[test]
fn a3_1_a3_9_timestamps_pass_and_obsolete_messages_do_not() {
    if !installed(&["hping3"]) {
        return;
    }
    let Some(world) = world().start() else { return };
    let to = Topology::OUTSIDE;
    for i in [1, 2] {
        let said = run(world.c(i), &format!("hping3 -n -1 --icmp-ts -c 1 {to}"));
        said.expect("ICMP timestamp: Originate=");
        said.expect(" 0% packet loss");
    }
    // Redirect, source quench, address mask: RFC 5508 section 7, RFC 6633.
    let outside = count_in(world.o(), |bytes| {
        let icmp = Seen::in_frame(bytes).and_then(|seen| seen.icmp());
        icmp.is_some_and(|(kind, _)| matches!(kind, 4 | 5 | 17))
    });
    for refused in ["-C 5", "-C 4", "--icmp-addr"] {
        let said = run(world.c(1), &format!("hping3 -n -q -1 {refused} -c 1 {to}"));
        said.expect("100% packet loss");
    }
    assert_eq!(outside.count(), 0, "{:02x?}", outside.frames());
    world.finish(&[("NAT_ICMP", Exactly(3))]);
}

#[test]
fn a2_10_scans_by_forbidden_flags_leave_no_session() {
    if !installed(&["nmap"]) {
        return;
    }
    let Some(world) = world().start() else { return };
    let _listener = tcp::listen(world.o(), (Topology::OUTSIDE, 80)).unwrap();
    let outside = count_in(world.o(), |bytes| {
        Seen::in_frame(bytes).is_some_and(|seen| seen.tcp_flags().is_some())
    });
    thread::scope(|scope| {
        for scan in ["N", "F", "X"] {
            let world = &world;
            scope.spawn(move || {
                let words = format!(
                    "nmap -n -Pn -s{scan} -p 80,81 --max-retries 1 --host-timeout 8s {}",
                    Topology::OUTSIDE
                );
                let said = run(world.c(1), &words);
                // No answer tells it nothing, not even of the port that is closed.
                said.expect("80/tcp open|filtered");
                said.expect("81/tcp open|filtered");
            });
        }
    });
    assert_eq!(sessions(&world), 0);
    assert_eq!(outside.count(), 0, "{:02x?}", outside.frames());
    world.finish(&[("NAT_TCP_FLAGS", AtLeast(6))]);
}

#[test]
fn a2_10_a_scan_from_inside_that_is_refused_is_told_so() {
    if !installed(&["nmap"]) {
        return;
    }
    let Some(world) = world().refusals().start() else {
        return;
    };
    let _listener = tcp::listen(world.o(), (Topology::OUTSIDE, 80)).unwrap();
    // A first burst would be more than waits for an unknown neighbour.
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE));
    let words = format!(
        "nmap -n -Pn -sS -p 75-85 --max-retries 1 {}",
        Topology::OUTSIDE
    );
    let said = run(world.c(1), &words);
    said.expect("80/tcp open ");
    said.expect("79/tcp closed");
    said.expect("81/tcp closed");
    let words = format!("nmap -n -Pn -sU -p 9 --max-retries 1 {}", Topology::OUTSIDE);
    run(world.c(1), &words).expect("9/udp closed");
    world.finish(&[]);
}

#[test]
fn f_13_guessing_the_system_by_strange_packets_harms_nothing() {
    if !installed(&["nmap"]) {
        return;
    }
    let Some(world) = world().refusals().csum_errors().args(OWN_ARGS).start() else {
        return;
    };
    let _listener = tcp::listen(world.o(), (Topology::OUTSIDE, 80)).unwrap();
    let words = |to| format!("nmap -n -Pn -O --max-os-tries 1 --max-retries 1 -p 80,81,9999 {to}");
    thread::scope(|scope| {
        let to_o = words(Topology::OUTSIDE);
        let inside = world.c(1).spawn(&mut command(&to_o)).unwrap();
        scope.spawn(move || finished(inside, &to_o).expect("Nmap done"));
        let to_us = words(OWN);
        let outside = world.o().spawn(&mut command(&to_us)).unwrap();
        scope.spawn(move || finished(outside, &to_us).expect("Nmap done"));
    });
    world.ping_perfectly(world.c(2), &Ping::to(Topology::OUTSIDE).count(3));
    world.finish(&[
        ("NAT_TCP_FLAGS", Any),
        ("NAT_UNSOLICITED", Any),
        ("NAT_ICMP", Any),
        ("OTHERHOST", Any),
        ("TTL_EXPIRED", Any),
    ]);
}

#[test]
fn a6_1_a_scan_from_outside_finds_the_published_ports_and_no_others() {
    if !installed(&["nmap"]) {
        return;
    }
    let publish = "--publish 8080:10.9.0.2:80 --publish 8443:10.9.0.3:443";
    let args = format!("{OWN_ARGS} {publish}");
    let Some(world) = world().refusals().args(&args).start() else {
        return;
    };
    let listeners = [(1, 80), (1, 81), (2, 443), (2, 8080)]
        .map(|(i, port)| tcp::listen(world.c(i), (world.ip(i.try_into().unwrap()), port)).unwrap());
    let words = format!("nmap -n -Pn -sS -p 1-1023,8000-8999 --max-retries 1 -T5 {OWN}");
    let said = run(world.o(), &words);
    let open: Vec<&str> = said
        .lines
        .iter()
        .filter(|line| line.contains("/tcp"))
        .map(String::as_str)
        .collect();
    assert_eq!(open.len(), 2, "{said:#?}");
    said.expect("8080/tcp open");
    said.expect("8443/tcp open");
    // All others are silent, not refused.
    said.expect("filtered tcp ports (no-response)");
    drop(listeners);
    world.finish(&[("NAT_UNSOLICITED", AtLeast(2000)), ("OTHERHOST", Any)]);
}

#[test]
fn a3_7_a_container_beyond_its_quota_is_told_and_others_are_not_touched() {
    if !installed(&["hping3"]) {
        return;
    }
    let Some(world) = world().refusals().args("--nat-quota sessions=64").start() else {
        return;
    };
    let refused = count_in(world.c(1), |bytes| {
        let icmp = Seen::in_frame(bytes).and_then(|seen| seen.icmp());
        icmp == Some((3, 13))
    });
    // One socket to two hundred ports: as many sessions of one mapping.
    let words = format!(
        "hping3 -n -q --udp -s 5000 -k -p ++2000 -c 200 -i u3000 {}",
        Topology::OUTSIDE
    );
    run(world.c(1), &words).expect("200 packets transmitted");
    assert_eq!(sessions(&world), 64);
    assert!(refused.count() > 0, "nobody told the container");
    world.ping_perfectly(world.c(2), &Ping::to(Topology::OUTSIDE).count(3));
    world.finish(&[("NAT_HOST_QUOTA", Exactly(136))]);
}
