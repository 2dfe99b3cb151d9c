//! The path as traceroute, tracepath and ping see it.

use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::craft::{self, Seen};

use super::{Said, installed, run, run_well};
use crate::netns::frames::count_in;
use crate::netns::world::Times::{Any, AtLeast, Exactly};
use crate::netns::world::{SECOND, Setup, world};

/// A path of three: the gateway, a router, and a host behind a link of 1280 bytes.
fn routed() -> Setup {
    world().refusals().plan(|plan| plan.router_mtu = Some(1280))
}

/// The addresses of `traceroute -n`, hop by hop.
fn hops(said: &Said) -> Vec<(u8, String)> {
    let hop = |line: &String| {
        let mut words = line.split_whitespace();
        let number = words.next()?.parse().ok()?;
        Some((number, words.next()?.to_owned()))
    };
    said.lines.iter().filter_map(hop).collect()
}

#[test]
fn a2_11_traceroute_sees_the_gateway_then_the_router_by_every_method() {
    if !installed(&["traceroute"]) {
        return;
    }
    let Some(world) = routed().start() else {
        return;
    };
    let near = [(1, world.net.gateway()), (2, Topology::OUTSIDE)];
    let far = [
        (1, world.net.gateway()),
        (2, Topology::ROUTER),
        (3, Topology::BEHIND_ROUTER),
    ];
    for method in ["", "-I", "-T -p 80"] {
        for (path, to) in [
            (&near[..], Topology::OUTSIDE),
            (&far, Topology::BEHIND_ROUTER),
        ] {
            for i in [1, 2] {
                let words = format!("traceroute -n -q 1 -w 2 -m 5 {method} {to}");
                let said = run_well(world.c(i), &words);
                let expected: Vec<(u8, String)> =
                    path.iter().map(|(n, ip)| (*n, ip.to_string())).collect();
                assert_eq!(hops(&said), expected, "{words}: {:#?}", said.lines);
            }
        }
    }
    // Several probes are under way at once, so some of each method expire at the first hop.
    world.finish(&[("TTL_EXPIRED", AtLeast(12))]);
}

#[test]
fn a2_13_tracepath_finds_the_small_link_behind_the_router() {
    if !installed(&["tracepath"]) {
        return;
    }
    let Some(world) = routed().start() else {
        return;
    };
    for i in [1, 2] {
        let words = format!("tracepath -n -m 6 {}", Topology::BEHIND_ROUTER);
        let said = run_well(world.c(i), &words);
        said.expect("Resume: pmtu 1280 hops 3 back 3");
        let told = format!("{}", Topology::ROUTER);
        let line = said
            .lines
            .iter()
            .find(|line| line.trim().ends_with("pmtu 1280"));
        assert!(
            line.is_some_and(|line| line.contains(&told)),
            "{:#?}",
            said.lines
        );
    }
    world.finish(&[("TTL_EXPIRED", AtLeast(2))]);
}

#[test]
fn a2_13_a_smaller_uplink_is_told_by_the_gateway() {
    if !installed(&["tracepath"]) {
        return;
    }
    let setup = world().refusals().plan(|plan| plan.uplink_mtu = Some(1300));
    let Some(world) = setup.start() else { return };
    let said = run_well(
        world.c(1),
        &format!("tracepath -n -m 5 {}", Topology::OUTSIDE),
    );
    said.expect("Resume: pmtu 1300 hops 2 back 2");
    let gateway = world.net.gateway().to_string();
    let line = said
        .lines
        .iter()
        .find(|line| line.trim().ends_with("pmtu 1300"));
    assert!(
        line.is_some_and(|line| line.contains(&gateway)),
        "{:#?}",
        said.lines
    );
    world.finish(&[("TTL_EXPIRED", Any), ("PKT_TOO_BIG", Exactly(1))]);
}

#[test]
fn a1_13_ping_is_told_the_mtu_or_its_packets_are_cut() {
    if !installed(&["ping"]) {
        return;
    }
    let Some(world) = routed().start() else {
        return;
    };
    let to = Topology::BEHIND_ROUTER;
    let refused = run(world.c(1), &format!("ping -c 1 -W 2 -M do -s 1300 {to}"));
    assert!(!refused.success);
    refused.expect(&format!("From {}", Topology::ROUTER));
    refused.expect("mtu = 1280");
    let local = run(world.c(1), &format!("ping -c 1 -W 2 -M do -s 1300 {to}"));
    local.expect("message too long, mtu=1280");
    run_well(world.c(1), &format!("ping -c 1 -W 2 -M do -s 1252 {to}"));
    run_well(world.c(2), &format!("ping -c 1 -W 2 -M dont -s 1400 {to}"));
    run_well(
        world.c(2),
        &format!("ping -c 3 -i 0.05 -W 2 -M dont -s 9000 {to}"),
    );
    world.finish(&[]);
}

#[test]
fn a1_13_the_gateway_itself_cuts_for_a_smaller_uplink_and_in_order() {
    if !installed(&["ping"]) {
        return;
    }
    let setup = world().finished().plan(|plan| plan.uplink_mtu = Some(1300));
    let Some(world) = setup.start() else { return };
    let pieces = count_in(world.o(), |bytes| {
        Seen::in_frame(bytes).is_some_and(|seen| seen.is_fragment() && seen.protocol == craft::ICMP)
    });
    let to = Topology::OUTSIDE;
    let refused = run(world.c(1), &format!("ping -c 1 -W 2 -M do -s 1400 {to}"));
    refused.expect(&format!("From {}", world.net.gateway()));
    refused.expect("mtu = 1300");
    run_well(world.c(1), &format!("ping -c 1 -W 2 -M dont -s 1400 {to}"));
    assert!(pieces.wait_for(2, SECOND), "no fragments outside");
    let offsets: Vec<usize> = pieces
        .frames()
        .iter()
        .filter_map(|frame| Seen::in_frame(&frame.bytes))
        .map(|seen| seen.fragment_offset)
        .collect();
    assert_eq!(offsets, [0, 1280]);
    world.finish(&[("PKT_TOO_BIG", Any)]);
}
