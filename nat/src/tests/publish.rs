//! A6: published ports on whole packets, through as many engines as there are slices.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::wire::icmp;
use crate::{Adopted, Filtering, Part, Protocol, Publish, Publishes, Target};

pub(super) const SYN: TcpFlags = TcpFlags::SYN;
pub(super) const ACK: TcpFlags = TcpFlags::ACK;
pub(super) const SYN_ACK: TcpFlags = TcpFlags(0x12);

pub(super) const WEB: Endpoint = (C1, 80);
pub(super) const WEB_EXT: Endpoint = (EXT, 8_080);
pub(super) const CLIENT: Endpoint = (O1, 33_000);

pub(super) fn publish(
    protocol: Protocol,
    ports: std::ops::RangeInclusive<u16>,
    targets: &[Endpoint],
    owner: u16,
) -> Publish {
    let target = |&(address, port): &Endpoint| Target {
        address: address.into(),
        port,
    };
    Publish {
        protocol,
        external: None,
        ports,
        targets: targets.iter().map(target).collect(),
        by_source: false,
        owner,
    }
}

pub(super) fn web(protocol: Protocol, target: Endpoint) -> Vec<Publish> {
    vec![publish(protocol, 8_080..=8_080, &[target], 0)]
}

pub(super) fn both() -> Vec<Publish> {
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .flat_map(|protocol| web(protocol, WEB))
        .collect()
}

impl Bench {
    pub(super) fn publish(&mut self, entries: Vec<Publish>) -> usize {
        let publishes = Arc::new(Publishes::new(entries).unwrap());
        self.nat.set_publishes(publishes, self.now)
    }

    pub(super) fn publishing(entries: Vec<Publish>) -> Self {
        let mut bench = Self::new(config());
        assert_eq!(bench.publish(entries), 0);
        bench
    }
}

/// A switch's engines: packets go from one to the next as the switch would hand them over.
pub(super) struct Slices {
    pub(super) benches: Vec<Bench>,
    pub(super) adopted: Arc<Adopted>,
}

impl Slices {
    pub(super) fn new(slices: u16, config: &Config) -> Self {
        let adopted = Arc::new(Adopted::new(1));
        let bench = |slice| {
            let mut bench = Bench::new(Config {
                slice,
                slices,
                ..config.clone()
            });
            bench.nat.adopt(Arc::clone(&adopted));
            bench
        };
        Self {
            benches: (0..slices).map(bench).collect(),
            adopted,
        }
    }

    pub(super) fn publish(&mut self, entries: &[Publish]) -> usize {
        let all = self.benches.iter_mut();
        all.map(|bench| bench.publish(entries.to_vec())).sum()
    }

    pub(super) fn wait(&mut self, seconds: u64) {
        self.benches
            .iter_mut()
            .for_each(|bench| bench.wait(seconds));
    }

    pub(super) fn len(&self) -> usize {
        self.benches.iter().map(|bench| bench.nat.len()).sum()
    }

    /// Follows a packet from a slice on until it has a fate; returns the last slice too.
    fn run(
        &mut self,
        mut at: u16,
        bytes: &[u8],
        door: fn(&mut Bench, &[u8]) -> (Outcome, Vec<u8>),
    ) -> (Outcome, Vec<u8>, u16) {
        // Who has adopted the port may find its last session over, and then it is the owner's.
        for _ in 0..3 {
            let (outcome, bytes) = door(&mut self.benches[usize::from(at)], bytes);
            match outcome {
                Outcome::Elsewhere { owner } => {
                    assert_ne!(owner, at, "handed to itself");
                    at = owner;
                }
                Outcome::Hairpin { owner } => return self.run(owner, &bytes, Bench::pin),
                Outcome::Translated | Outcome::Held | Outcome::NotOurs | Outcome::Drop(_) => {
                    return (outcome, bytes, at);
                }
            }
        }
        panic!("handed round");
    }

    pub(super) fn out(&mut self, at: u16, bytes: &[u8]) -> (Outcome, Vec<u8>, u16) {
        self.run(at, bytes, Bench::out)
    }

    pub(super) fn inn(&mut self, at: u16, bytes: &[u8]) -> (Outcome, Vec<u8>, u16) {
        self.run(at, bytes, Bench::inn)
    }
}

#[test]
fn a6_1_clients_reach_the_target_and_keep_their_address() {
    let mut bench = Bench::publishing(both());
    for (client, port) in [(O1, 33_000), (O2, 33_000), (O2, 33_001)] {
        let client = (client, port);
        let (outcome, bytes) = bench.inn(&udp(client, WEB_EXT));
        assert_eq!(
            (outcome, ends(&bytes)),
            (Outcome::Translated, (client, WEB))
        );
        let (outcome, bytes) = bench.out(&udp(WEB, client));
        assert_eq!(
            (outcome, ends(&bytes)),
            (Outcome::Translated, (WEB_EXT, client))
        );
        assert_eq!(bench.deliver(&tcp(client, WEB_EXT, SYN)), WEB);
        assert_eq!(bench.map(&tcp(WEB, client, SYN_ACK)), WEB_EXT);
        assert_eq!(bench.deliver(&tcp(client, WEB_EXT, ACK)), WEB);
    }
    assert!(bench.nat.sessions().all(|view| !view.from_inside));
    assert_eq!(bench.nat.counters().mappings_created, 0);
    assert_eq!(
        bench.in_drop(&tcp((O2, 9), WEB_EXT, ACK)),
        Reason::Unsolicited
    );
    let (outcome, _) = bench.inn(&udp(CLIENT, (EXT, 8_081)));
    assert_eq!(outcome, Outcome::NotOurs);
}

#[test]
fn a6_1_a_range_leads_to_the_port_of_the_same_place() {
    let range = publish(Protocol::Udp, 20_000..=29_999, &[(C1, 5_000)], 0);
    let mut bench = Bench::publishing(vec![range]);
    assert_eq!(bench.deliver(&udp(CLIENT, (EXT, 20_000))), (C1, 5_000));
    assert_eq!(bench.deliver(&udp(CLIENT, (EXT, 29_999))), (C1, 14_999));
    assert_eq!(bench.map(&udp((C1, 14_999), CLIENT)), (EXT, 29_999));
}

#[test]
fn a6_1_without_a_target_nothing_is_admitted() {
    let none = publish(Protocol::Udp, 8_080..=8_080, &[], 0);
    let mut bench = Bench::publishing(vec![none]);
    assert_eq!(bench.in_drop(&udp(CLIENT, WEB_EXT)), Reason::Unsolicited);
    assert_eq!(bench.publish(web(Protocol::Udp, WEB)), 0);
    assert_eq!(bench.deliver(&udp(CLIENT, WEB_EXT)), WEB);
}

#[test]
fn a6_1_servers_that_speak_first_keep_the_published_identity() {
    let mut bench = Bench::publishing(both());
    assert_eq!(bench.map(&udp(WEB, CLIENT)), WEB_EXT);
    assert_eq!(bench.deliver(&udp(CLIENT, WEB_EXT)), WEB);
    // After the loss of all state an established connection goes on too.
    assert_eq!(bench.map(&tcp(WEB, CLIENT, ACK)), WEB_EXT);
    assert_eq!(
        bench.out_drop(&tcp(WEB, (O2, 9), SYN_ACK)),
        Reason::TcpOutOfState
    );
    // Another port of the same host is not published.
    assert_eq!(bench.map(&udp((C1, 41_000), CLIENT)), (EXT, 41_000));
    assert_eq!(bench.nat.len(), 3);
}

#[test]
fn a6_1_of_several_targets_none_has_the_published_identity() {
    let entry = publish(Protocol::Udp, 8_080..=8_080, &[WEB, (C2, 80)], 0);
    let mut bench = Bench::publishing(vec![entry]);
    assert_ne!(bench.map(&udp(WEB, CLIENT)).1, 8_080);
    let there = bench.deliver(&udp((O2, 5), WEB_EXT));
    assert_eq!(bench.map(&udp(there, (O2, 5))), WEB_EXT);
}

#[test]
fn a6_1_two_ports_of_one_endpoint_do_not_mix_their_answers() {
    let mut entries = both();
    entries.push(publish(Protocol::Udp, 9_090..=9_090, &[WEB], 0));
    let mut bench = Bench::publishing(entries);
    assert_eq!(bench.deliver(&udp(CLIENT, WEB_EXT)), WEB);
    // The answers to the same remote endpoint would be those of the first.
    assert_eq!(
        bench.in_drop(&udp(CLIENT, (EXT, 9_090))),
        Reason::Unsolicited
    );
    assert_eq!(bench.deliver(&udp((O1, 33_001), (EXT, 9_090))), WEB);
    assert_eq!(bench.map(&udp(WEB, (O1, 33_001))), (EXT, 9_090));
    assert_eq!(bench.map(&udp(WEB, CLIENT)), WEB_EXT);
}

#[test]
fn a6_1_a_stream_that_nobody_answers_keeps_its_session() {
    let mut bench = Bench::publishing(both());
    for _ in 0..5 {
        bench.deliver(&udp(CLIENT, WEB_EXT));
        bench.wait(200);
    }
    assert_eq!(bench.nat.counters().sessions_created, 1);
}

#[test]
fn a6_3_other_hosts_and_the_publishing_one_itself_reach_it() {
    for sender in [(C2, 41_000), (C1, 41_000)] {
        let mut bench = Bench::publishing(both());
        let (outcome, looped) = bench.out(&udp(sender, WEB_EXT));
        assert_eq!(outcome, Outcome::Hairpin { owner: 0 });
        let (outcome, bytes) = bench.pin(&looped);
        assert_eq!(
            (outcome, ends(&bytes)),
            (Outcome::Translated, ((EXT, 41_000), WEB)),
            "with the external source"
        );
        let (outcome, looped) = bench.out(&udp(WEB, (EXT, 41_000)));
        assert_eq!(outcome, Outcome::Hairpin { owner: 0 });
        let (_, bytes) = bench.pin(&looped);
        assert_eq!(ends(&bytes), (WEB_EXT, sender));
    }
}

#[test]
fn a6_3_a1_9_hairpin_across_three_slices() {
    let mut slices = Slices::new(3, &config());
    slices.publish(&[publish(Protocol::Tcp, 8_080..=8_080, &[WEB], 2)]);
    // The client's worker is 0, the server's 1, and the port is with 2.
    let client = (C2, 40_001);
    let (outcome, bytes, at) = slices.out(0, &tcp(client, WEB_EXT, SYN));
    assert_eq!((outcome, at), (Outcome::Translated, 2));
    let (seen, there) = ends(&bytes);
    assert_eq!((seen.0, there), (EXT, WEB));
    let (_, bytes, at) = slices.out(1, &tcp(WEB, seen, SYN_ACK));
    assert_eq!((ends(&bytes), at), ((WEB_EXT, client), 0));
    let (_, bytes, _) = slices.out(0, &tcp(client, WEB_EXT, ACK));
    assert_eq!(ends(&bytes), (seen, WEB));
    assert_eq!(slices.benches[2].states(), ["ESTABLISHED"]);
    assert!(slices.benches[1].nat.is_empty());
}

#[test]
fn f_16_a_published_endpoint_that_calls_itself_is_one_packet() {
    let mut bench = Bench::publishing(vec![publish(Protocol::Udp, 80..=80, &[WEB], 0)]);
    let (outcome, looped) = bench.out(&udp(WEB, (EXT, 80)));
    assert_eq!(outcome, Outcome::Hairpin { owner: 0 });
    let (outcome, bytes) = bench.pin(&looped);
    assert_eq!(
        (outcome, ends(&bytes)),
        (Outcome::Translated, ((EXT, 80), WEB))
    );
    assert_eq!(bench.nat.len(), 1);
}

#[test]
fn a6_1_the_owner_has_the_sessions_wherever_packets_arrive() {
    let mut slices = Slices::new(3, &config());
    slices.publish(&[publish(Protocol::Udp, 8_080..=8_080, &[WEB], 1)]);
    for at in 0..3 {
        let client = (O1, 33_000 + at);
        let (_, bytes, owner) = slices.inn(at, &udp(client, WEB_EXT));
        assert_eq!((ends(&bytes), owner), ((client, WEB), 1));
        for at in 0..3 {
            let (_, bytes, owner) = slices.out(at, &udp(WEB, client));
            assert_eq!((ends(&bytes), owner), ((WEB_EXT, client), 1));
        }
        // The server speaks first: the same.
        let (_, bytes, owner) = slices.out(at, &udp(WEB, (O2, at)));
        assert_eq!((ends(&bytes).0, owner), (WEB_EXT, 1));
    }
}

#[test]
fn a6_1_an_owner_beyond_the_last_slice_is_the_last() {
    let mut slices = Slices::new(2, &config());
    slices.publish(&[publish(Protocol::Udp, 8_080..=8_080, &[WEB], 7)]);
    assert_eq!(slices.inn(0, &udp(CLIENT, WEB_EXT)).2, 1);
}

#[test]
fn a6_1_errors_follow_the_session_in_both_directions() {
    let mut slices = Slices::new(2, &config());
    slices.publish(&[publish(Protocol::Udp, 8_080..=8_080, &[WEB], 1)]);
    let (_, delivered, _) = slices.inn(1, &udp(CLIENT, WEB_EXT));
    let (_, sent, _) = slices.out(1, &udp(WEB, CLIENT));
    // From the server's worker, about what was delivered.
    let (kind, code) = (icmp::DEST_UNREACHABLE, 3);
    let (outcome, bytes, at) = slices.out(0, &error(C1, O1, kind, code, &delivered, 60));
    assert_eq!((outcome, at), (Outcome::Translated, 1));
    assert_eq!(ends(&bytes[28..]), (CLIENT, WEB_EXT));
    assert_eq!(bytes[12..16], EXT);
    // From outside, about what was sent.
    let (outcome, bytes, at) = slices.inn(0, &error(O2, EXT, kind, code, &sent, 60));
    assert_eq!((outcome, at), (Outcome::Translated, 1));
    assert_eq!(ends(&bytes[28..]), (WEB, CLIENT));
    assert_eq!(bytes[16..20], C1);
    // About a port that nobody has.
    let other = udp((EXT, 8_081), CLIENT);
    let (outcome, _, _) = slices.inn(0, &error(O2, EXT, kind, code, &other, 60));
    assert_eq!(outcome, Outcome::NotOurs);
}

#[test]
fn a6_1_fragments_follow_the_first_to_the_owner() {
    let mut slices = Slices::new(2, &config());
    slices.publish(&[publish(Protocol::Udp, 8_080..=8_080, &[WEB], 1)]);
    let request = udp_with(CLIENT, WEB_EXT, &[7; 100]);
    for bytes in super::fragments::cut(&request, 40, 5) {
        let (outcome, bytes, at) = slices.inn(0, &bytes);
        assert_eq!((outcome, at), (Outcome::Translated, 1));
        assert_eq!((&bytes[12..16], &bytes[16..20]), (&O1[..], &C1[..]));
    }
    let reply = udp_with(WEB, CLIENT, &[8; 100]);
    for bytes in super::fragments::cut(&reply, 40, 6) {
        let (outcome, bytes, at) = slices.out(0, &bytes);
        assert_eq!((outcome, at), (Outcome::Translated, 1));
        assert_eq!((&bytes[12..16], &bytes[16..20]), (&EXT[..], &O1[..]));
    }
}

#[test]
fn a6_6_changes_take_effect_on_live_flows_at_once() {
    let mut bench = Bench::publishing(web(Protocol::Udp, WEB));
    assert_eq!(bench.deliver(&udp(CLIENT, WEB_EXT)), WEB);
    let own = bench.map(&udp((C1, 41_000), CLIENT));
    // The container came back with another address.
    assert_eq!(bench.publish(web(Protocol::Udp, (C2, 80))), 1);
    assert_eq!(bench.deliver(&udp(CLIENT, WEB_EXT)), (C2, 80));
    assert_eq!(bench.publish(web(Protocol::Udp, (C2, 80))), 0, "no change");
    assert_eq!(bench.publish(Vec::new()), 1);
    assert_eq!(bench.inn(&udp(CLIENT, WEB_EXT)).0, Outcome::NotOurs);
    // What was not published lives on.
    assert_eq!(bench.deliver(&udp(CLIENT, own)), (C1, 41_000));
    assert_eq!(bench.nat.len(), 1);
}

#[test]
fn a6_7_only_the_flows_of_a_target_that_goes_end() {
    let targets = [WEB, (C2, 80), ([10, 9, 0, 4], 80)];
    let entry = |targets: &[Endpoint]| vec![publish(Protocol::Tcp, 8_080..=8_080, targets, 0)];
    let mut bench = Bench::publishing(entry(&targets));
    let client = |n: u16| (O1, 33_000 + n);
    let before: Vec<_> = (0..300)
        .map(|n| bench.deliver(&tcp(client(n), WEB_EXT, SYN)))
        .collect();
    for target in targets {
        let flows = before.iter().filter(|found| **found == target).count();
        assert!((60..=140).contains(&flows), "{flows}");
    }
    let gone = before.iter().filter(|found| **found == WEB).count();
    assert_eq!(bench.publish(entry(&targets[1..])), gone);
    for (n, before) in (0..).zip(before) {
        let after = bench.deliver(&tcp(client(n), WEB_EXT, SYN));
        assert!(after == before || before == WEB);
    }
}

#[test]
fn a6_8_a_live_mapping_keeps_its_flow_and_strangers_get_the_publish() {
    for filtering in [Filtering::Apdf, Filtering::Eif] {
        let mut bench = Bench::new(Config {
            udp_filtering: filtering,
            ..config()
        });
        let flow = (C2, 41_000);
        assert_eq!(bench.map(&udp(flow, CLIENT)), (EXT, 41_000));
        let entry = publish(Protocol::Udp, 41_000..=41_000, &[WEB], 0);
        assert_eq!(bench.publish(vec![entry]), 0);
        assert_eq!(bench.deliver(&udp(CLIENT, (EXT, 41_000))), flow);
        assert_eq!(bench.deliver(&udp((O2, 5), (EXT, 41_000))), WEB);
        assert_eq!(bench.map(&udp(flow, CLIENT)), (EXT, 41_000));
        // The published host does not take the flow's tuple over.
        assert_ne!(bench.map(&udp(WEB, CLIENT)), (EXT, 41_000));
        // Once the mapping is gone, nobody gets the port again.
        bench.wait(1_000);
        assert_ne!(bench.map(&udp(flow, CLIENT)).1, 41_000);
    }
}

#[test]
fn a6_8_published_ports_are_not_mapped() {
    let mut bench = Bench::new(Config {
        ports: 40_000..=40_063,
        ..config()
    });
    bench.publish(vec![publish(Protocol::Udp, 39_990..=40_031, &[WEB], 0)]);
    let mut ports: Vec<_> = (0..32)
        .map(|n| bench.map(&udp((C2, 40_000 + n), CLIENT)).1)
        .collect();
    ports.sort_unstable();
    assert_eq!(ports, (40_032..=40_063).collect::<Vec<_>>());
    assert_eq!(
        bench.out_drop(&udp((C2, 1), CLIENT)),
        Reason::PortsExhausted
    );
    assert_eq!(bench.nat.ports_used(Protocol::Udp), 32);
    // Other protocols have all.
    assert_eq!(bench.map(&tcp((C2, 40_001), CLIENT, SYN)).1, 40_001);
    // No longer published, they are free.
    bench.publish(Vec::new());
    assert_eq!(bench.map(&udp((C1, 40_007), (O2, 9))).1, 40_007);
}

#[test]
fn a6_8_a_port_published_at_another_slice_stays_until_its_sessions_end() {
    let mut slices = Slices::new(2, &config());
    let flow = (C2, 41_000);
    let (_, bytes, _) = slices.out(0, &udp(flow, CLIENT));
    assert_eq!(ends(&bytes).0, (EXT, 41_000), "of slice 0");
    let (outcome, _, _) = slices.out(0, &udp(flow, (O2, 53)));
    assert_eq!(outcome, Outcome::Translated);
    let entry = [publish(Protocol::Udp, 41_000..=41_000, &[WEB], 1)];
    assert_eq!(slices.publish(&entry), 0);
    assert_eq!(slices.adopted.owner(Protocol::Udp, 0, 41_000), Some(0));
    for at in 0..2 {
        let (_, bytes, owner) = slices.inn(at, &udp(CLIENT, (EXT, 41_000)));
        assert_eq!((ends(&bytes).1, owner), (flow, 0));
        let stranger = (O2, 5 + at);
        let (_, bytes, owner) = slices.inn(at, &udp(stranger, (EXT, 41_000)));
        assert_eq!((ends(&bytes).1, owner), (WEB, 0));
        let (_, bytes, owner) = slices.out(at, &udp(WEB, stranger));
        assert_eq!((ends(&bytes).0, owner), ((EXT, 41_000), 0));
    }
    // The name server's session is over first, and the port stays for the others.
    slices.wait(62);
    assert_eq!((slices.len(), slices.adopted.len()), (3, 1));
    slices.wait(400);
    assert_eq!((slices.len(), slices.adopted.len()), (0, 0));
    let (_, bytes, owner) = slices.inn(0, &udp(CLIENT, (EXT, 41_000)));
    assert_eq!((ends(&bytes).1, owner), (WEB, 1));
}

#[test]
fn a6_6_sessions_live_on_when_only_the_owner_changes() {
    let mut slices = Slices::new(2, &config());
    let entry = |owner| [publish(Protocol::Udp, 8_080..=8_080, &[WEB], owner)];
    slices.publish(&entry(0));
    assert_eq!(slices.inn(0, &udp(CLIENT, WEB_EXT)).0, Outcome::Translated);
    assert_eq!(slices.publish(&entry(1)), 0);
    for at in 0..2 {
        let (_, bytes, owner) = slices.inn(at, &udp(CLIENT, WEB_EXT));
        assert_eq!((ends(&bytes).1, owner), (WEB, 0));
        let (_, bytes, owner) = slices.out(at, &udp(WEB, CLIENT));
        assert_eq!((ends(&bytes).0, owner), (WEB_EXT, 0));
    }
    assert_eq!(slices.publish(&[]), 1);
    assert!(slices.adopted.is_empty());
}

proptest! {
    /// In by a published port and out again is the identity, with right sums on the way.
    #[test]
    fn a6_1_in_then_out_is_the_identity(
        client in (1u8..224, any::<[u8; 3]>(), any::<u16>()), is_tcp: bool, offset in 0u16..100,
        payload in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let (first, rest, port) = client;
        let client = ([first, rest[0], rest[1], rest[2]], port);
        prop_assume!(client.0 != EXT);
        let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
        let mut bench = Bench::publishing(vec![publish(protocol, 8_000..=8_099, &[(C1, 80)], 0)]);
        let (external, inside) = ((EXT, 8_000 + offset), (C1, 80 + offset));
        let packet = |from, to, flags| match is_tcp {
            true => tcp(from, to, flags),
            false => udp_with(from, to, &payload),
        };
        let (outcome, there) = bench.inn(&packet(client, external, SYN));
        prop_assert_eq!(outcome, Outcome::Translated);
        // Byte for byte what the client would have sent to the target itself; the bench has
        // verified the checksums.
        prop_assert_eq!(&there, &packet(client, inside, SYN));
        let (outcome, back) = bench.out(&packet(inside, client, SYN_ACK));
        prop_assert_eq!(outcome, Outcome::Translated);
        prop_assert_eq!(&back, &packet(external, client, SYN_ACK));
    }

    /// Whatever is published and unpublished under live traffic: no session leads to a target
    /// that is not published, every session is where its packets are taken, and counts agree.
    #[test]
    fn a6_6_no_session_outlives_its_publish(
        steps in proptest::collection::vec((0u8..5, 0u16..4, 0u16..4, 0u16..3), 1..80),
    ) {
        let mut slices = Slices::new(3, &Config::new(EXT.into(), 40_000..=40_011));
        let hosts = [(C1, 80), (C2, 80), (C1, 40_001), (C2, 40_006)];
        let ports = [8_080, 40_001, 40_005, 40_010];
        let mut entries: Vec<Publish> = Vec::new();
        for (step, a, b, at) in steps {
            let (host, port) = (hosts[usize::from(a)], ports[usize::from(b)]);
            match step {
                0 => {
                    entries.retain(|entry| !entry.ports.contains(&port));
                    let second = hosts[usize::from(a + at) % 4];
                    let targets = if at == 0 { vec![host] } else { vec![host, second] };
                    entries.push(publish(Protocol::Udp, port..=port, &targets, at));
                    slices.publish(&entries);
                }
                1 => {
                    entries.retain(|entry| !entry.ports.contains(&port));
                    slices.publish(&entries);
                }
                2 => {
                    let _ = slices.inn(at, &udp((O1, 1_000 + a), (EXT, port)));
                }
                3 => {
                    let _ = slices.out(at, &udp(host, (O1, 1_000 + b)));
                }
                _ => slices.wait(u64::from(a) * 60),
            }
            let publishes = Publishes::new(entries.clone()).unwrap();
            for (slice, bench) in (0..).zip(&slices.benches) {
                for view in bench.nat.sessions() {
                    let owner = bench.nat.owner(view.protocol, view.external);
                    prop_assert_eq!(owner, Some(slice), "{:?}", view);
                }
                for view in bench.nat.snapshot(Part::ALL, bench.now).0 {
                    prop_assert!(
                        !view.published
                            || publishes.admits(view.protocol, view.external, view.inside),
                        "{:?}", view
                    );
                }
                let outside = bench.nat.sessions().filter(|view| !view.from_inside).count();
                prop_assert_eq!(bench.nat.strangers.counts().0 as usize, outside);
            }
        }
        slices.wait(1_000);
        prop_assert_eq!((slices.len(), slices.adopted.len()), (0, 0));
    }
}
