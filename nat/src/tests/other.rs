//! A1-18: protocols without ports, by their addresses.

use super::*;
use crate::Protocol;

const ESP: u8 = 50;
const GRE: u8 = 47;
const IPIP: u8 = 4;

#[test]
fn a1_18_out_and_back() {
    for number in [ESP, GRE, IPIP, 51, 41, 0, 255] {
        let mut bench = Bench::new(config());
        let packet = raw(number, C1, O1, b"opaque");
        let (outcome, sent) = bench.out(&packet);
        assert_eq!(outcome, Outcome::Translated);
        assert_eq!(sent, raw(number, EXT, O1, b"opaque"), "{number}");
        let (outcome, back) = bench.inn(&raw(number, O1, EXT, b"answer"));
        assert_eq!(outcome, Outcome::Translated);
        assert_eq!(back, raw(number, O1, C1, b"answer"));
        let view = bench.nat.sessions().next().unwrap();
        assert_eq!(view.protocol, Protocol::Other(number));
        assert_eq!(
            (view.external, view.remote),
            ((EXT.into(), 0), (O1.into(), 0))
        );
        assert_eq!((view.state, view.protocol.number()), ("REPLIED", number));
    }
}

#[test]
fn a1_18_only_from_that_remote() {
    let mut bench = Bench::new(config());
    bench.map(&raw(ESP, C1, O1, b"opaque"));
    let not_ours = |bench: &mut Bench, number, from| {
        let (outcome, _) = bench.inn(&raw(number, from, EXT, b"opaque"));
        assert_eq!(outcome, Outcome::NotOurs);
    };
    not_ours(&mut bench, ESP, O2);
    not_ours(&mut bench, GRE, O1);
    // An hour later the session is over; what came from outside did not prolong it.
    bench.wait(599);
    bench.deliver(&raw(ESP, O1, EXT, b"opaque"));
    bench.wait(2);
    not_ours(&mut bench, ESP, O1);
    assert_eq!(bench.nat.len(), 0);
}

#[test]
fn a1_18_one_inside_host_per_protocol_and_remote() {
    let mut bench = Bench::new(config());
    bench.map(&raw(ESP, C1, O1, b"opaque"));
    let second = raw(ESP, C2, O1, b"opaque");
    assert_eq!(bench.out_drop(&second), Reason::ProtocolBusy);
    bench.map(&raw(ESP, C2, O2, b"opaque"));
    bench.map(&raw(GRE, C2, O1, b"opaque"));
    bench.map(&raw(ESP, C1, [192, 0, 2, 9], b"opaque"));
    assert_eq!(bench.deliver(&raw(ESP, O1, EXT, b"opaque")).0, C1);
    assert_eq!(bench.deliver(&raw(ESP, O2, EXT, b"opaque")).0, C2);
    assert_eq!(bench.deliver(&raw(GRE, O1, EXT, b"opaque")).0, C2);
    // To the nanosecond, not to the tick that expires sessions.
    bench.now += secs(600);
    bench.map(&second);
    assert_eq!(bench.deliver(&raw(ESP, O1, EXT, b"opaque")).0, C2);
}

#[test]
fn a1_18_a_busy_remote_leaves_no_mapping_behind() {
    let mut bench = Bench::new(Config {
        sessions_max: 2,
        ..config()
    });
    bench.map(&raw(ESP, C1, O1, b"opaque"));
    for _ in 0..5 {
        let second = raw(ESP, C2, O1, b"opaque");
        assert_eq!(bench.out_drop(&second), Reason::ProtocolBusy);
    }
    bench.map(&raw(ESP, C2, O2, b"opaque"));
    let third = raw(ESP, C2, [192, 0, 2, 9], b"opaque");
    assert_eq!(bench.out_drop(&third), Reason::SessionsExhausted);
    assert_eq!(bench.nat.flush(), 2);
    bench.map(&third);
}

#[test]
fn a1_18_fragments_follow() {
    let mut bench = Bench::new(config());
    let packet = raw(ESP, C1, O1, &[7; 100]);
    let pieces = super::fragments::cut(&packet, 48, 5);
    assert_eq!(bench.out(&pieces[1]).0, Outcome::Held);
    let (outcome, first) = bench.out(&pieces[0]);
    assert_eq!(outcome, Outcome::Translated);
    let second = bench.nat.released().unwrap();
    assert_eq!(second.outcome, Outcome::Translated);
    let (outcome, third) = bench.out(&pieces[2]);
    assert_eq!(outcome, Outcome::Translated);
    for piece in [&first, &second.bytes, &third] {
        let ip = Ipv4::parse(piece).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!(
            (ip.src().octets(), ip.id()),
            (EXT, Ipv4::parse(&first).unwrap().id())
        );
    }
}

#[test]
fn a1_18_can_be_switched_off() {
    for slice in [0, 1] {
        let mut bench = Bench::new(Config {
            other_protocols: false,
            slice,
            slices: 2,
            ..config()
        });
        let out = bench.out(&raw(ESP, C1, O1, b"opaque")).0;
        let inn = bench.inn(&raw(ESP, O1, EXT, b"opaque")).0;
        let refused = Outcome::Drop(Reason::UnknownProtocol);
        assert_eq!((out, inn), (refused, Outcome::NotOurs));
    }
}

#[test]
fn a1_18_to_the_external_address_is_the_hosts() {
    let mut bench = Bench::new(config());
    assert_eq!(bench.out(&raw(GRE, C1, EXT, b"opaque")).0, Outcome::NotOurs);
    assert!(bench.nat.is_empty());
}
