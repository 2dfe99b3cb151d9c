//! A1-17 (RFC 9260): SCTP by its addresses, ports and CRC32c kept.

use super::*;
use crate::Protocol;

/// An INIT that chooses tag 7, an INIT ACK that chooses tag 9.
pub(super) const INIT: &[u8] = &[1, 0, 0, 20, 0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
const INIT_ACK: &[u8] = &[2, 0, 0, 20, 0, 0, 0, 9, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
const COOKIE_ECHO: &[u8] = &[10, 0, 0, 7, 1, 2, 3, 0];
const COOKIE_ACK: &[u8] = &[11, 0, 0, 4];
const SACK: &[u8] = &[3, 0, 0, 16, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0];
const DATA: &[u8] = &[
    0, 3, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x68, 0x69, 0, 0,
];
const SHUTDOWN: &[u8] = &[7, 0, 0, 8, 0, 0, 0, 1];
const SHUTDOWN_ACK: &[u8] = &[8, 0, 0, 4];
const SHUTDOWN_COMPLETE: &[u8] = &[14, 0, 0, 4];
const ABORT: &[u8] = &[6, 0, 0, 4];

/// Below the dynamic range, which is not about SCTP.
const CLIENT: Endpoint = (C1, 5_000);
const SERVER: Endpoint = (O1, 38_412);
const EXTERNAL: Endpoint = (EXT, 5_000);

fn associate(bench: &mut Bench) {
    assert_eq!(bench.map(&sctp(CLIENT, SERVER, 0, &[INIT])), EXTERNAL);
    assert_eq!(
        bench.deliver(&sctp(SERVER, EXTERNAL, 7, &[INIT_ACK])),
        CLIENT
    );
    bench.map(&sctp(CLIENT, SERVER, 9, &[COOKIE_ECHO, DATA]));
    assert_eq!(bench.states(), ["COOKIE_ECHOED"]);
    bench.deliver(&sctp(SERVER, EXTERNAL, 7, &[COOKIE_ACK, SACK]));
    assert_eq!(bench.states(), ["ESTABLISHED"]);
}

/// The bench's calls verify the CRC32c of each packet that was translated.
#[test]
fn a1_17_an_association_from_begin_to_end() {
    let mut bench = Bench::new(config());
    associate(&mut bench);
    bench.map(&sctp(CLIENT, SERVER, 9, &[SACK, DATA]));
    bench.wait(209);
    bench.deliver(&sctp(SERVER, EXTERNAL, 7, &[DATA]));
    bench.wait(209);
    assert_eq!(bench.states(), ["ESTABLISHED"]);
    bench.map(&sctp(CLIENT, SERVER, 9, &[SACK, SHUTDOWN]));
    assert_eq!(bench.states(), ["SHUTDOWN_SENT"]);
    bench.deliver(&sctp(SERVER, EXTERNAL, 7, &[SHUTDOWN_ACK]));
    bench.map(&sctp(CLIENT, SERVER, 9, &[SHUTDOWN_COMPLETE]));
    assert_eq!(bench.states(), ["CLOSED"]);
    // Nobody opens it from outside, but its owner may again.
    let (outcome, _) = bench.inn(&sctp(SERVER, EXTERNAL, 0, &[INIT]));
    assert_eq!(outcome, Outcome::NotOurs);
    associate(&mut bench);
    assert_eq!(bench.nat.ports_used(Protocol::Sctp), 1);
    bench.wait(212);
    let used = bench.nat.ports_used(Protocol::Sctp);
    assert_eq!((bench.nat.len(), used), (0, 0));
}

#[test]
fn a1_17_only_the_address_changes() {
    let mut bench = Bench::new(config());
    let packet = sctp(CLIENT, SERVER, 0, &[INIT]);
    let (_, sent) = bench.out(&packet);
    assert_eq!((&sent[12..16], &sent[20..]), (&EXT[..], &packet[20..]));
    // A checksum left to the device holds nothing to be edited.
    let mut partial = packet.clone();
    let mut view = Packet {
        bytes: &mut partial,
        l4_sum: L4Sum::Pseudo,
    };
    assert_eq!(
        bench.nat.outbound(&mut view, bench.now),
        Outcome::Translated
    );
    assert_eq!(partial[20..], packet[20..]);
}

#[test]
fn a1_17_one_inside_host_per_port() {
    let mut bench = Bench::new(config());
    associate(&mut bench);
    let other = sctp((C2, 5_000), (O2, 1), 0, &[INIT]);
    assert_eq!(bench.out_drop(&other), Reason::ProtocolBusy);
    bench.map(&sctp((C2, 5_001), (O2, 1), 0, &[INIT]));
    // The same endpoint may have many associations: the mapping is endpoint-independent.
    assert_eq!(bench.map(&sctp(CLIENT, (O2, 1), 0, &[INIT])), EXTERNAL);
    assert_eq!(bench.nat.ports_used(Protocol::Sctp), 2);
}

#[test]
fn a1_17_strangers_do_not_come_in() {
    let mut bench = Bench::new(config());
    for chunk in [INIT, DATA, ABORT] {
        let (outcome, _) = bench.inn(&sctp(SERVER, EXTERNAL, 7, &[chunk]));
        assert_eq!(outcome, Outcome::NotOurs, "perhaps the host's own");
    }
    associate(&mut bench);
    for stranger in [(O2, 38_412), (O1, 1)] {
        let (outcome, _) = bench.inn(&sctp(stranger, EXTERNAL, 0, &[INIT]));
        assert_eq!(outcome, Outcome::NotOurs);
    }
    assert_eq!(bench.nat.len(), 1);
}

#[test]
fn a1_17_a_forged_abort_closes_nothing() {
    let mut bench = Bench::new(config());
    associate(&mut bench);
    bench.deliver(&sctp(SERVER, EXTERNAL, 8, &[ABORT]));
    assert_eq!(bench.states(), ["ESTABLISHED"]);
    bench.deliver(&sctp(SERVER, EXTERNAL, 7, &[ABORT]));
    assert_eq!(bench.states(), ["CLOSED"]);
    bench.wait(31);
    assert_eq!(bench.nat.len(), 0);
}

#[test]
fn a1_17_what_begins_an_association() {
    let mut bench = Bench::new(config());
    for chunk in [INIT_ACK, ABORT, SHUTDOWN_COMPLETE] {
        let packet = sctp(CLIENT, SERVER, 9, &[chunk]);
        assert_eq!(bench.out_drop(&packet), Reason::SctpRefused);
    }
    // The table was lost: an association under way goes on.
    bench.map(&sctp(CLIENT, SERVER, 9, &[SACK]));
    assert_eq!(bench.states(), ["ESTABLISHED"]);
    assert_eq!(bench.deliver(&sctp(SERVER, EXTERNAL, 7, &[DATA])), CLIENT);
    let mut cut_off = sctp(CLIENT, SERVER, 9, &[]);
    cut_off.truncate(31);
    cut_off[3] = 31;
    assert_eq!(bench.out_drop(&cut_off), Reason::Malformed);
}

#[test]
fn a1_17_the_first_slice_owns_all() {
    let mut second = Bench::new(Config {
        slice: 1,
        slices: 2,
        ..config()
    });
    let owner = Outcome::Elsewhere { owner: 0 };
    let out = sctp(CLIENT, SERVER, 0, &[INIT]);
    assert_eq!(second.out(&out).0, owner);
    assert_eq!(second.inn(&sctp(SERVER, EXTERNAL, 7, &[INIT_ACK])).0, owner);
    assert_eq!(
        second
            .inn(&error(
                O2,
                EXT,
                3,
                3,
                &sctp(EXTERNAL, SERVER, 0, &[INIT]),
                28
            ))
            .0,
        owner
    );
    assert_eq!(
        second
            .out(&error(C1, O1, 3, 3, &sctp(SERVER, CLIENT, 0, &[INIT]), 28))
            .0,
        owner
    );
    for piece in super::fragments::cut(&out, 16, 5) {
        assert_eq!(second.out(&piece).0, owner);
    }
    let mut first = Bench::new(Config {
        slices: 2,
        ..config()
    });
    associate(&mut first);
}

#[test]
fn a1_17_hairpin_to_a_port_in_use() {
    let mut bench = Bench::new(config());
    associate(&mut bench);
    let peer = (C2, 6_000);
    let (outcome, looped) = bench.out(&sctp(peer, EXTERNAL, 0, &[INIT]));
    assert_eq!(outcome, Outcome::Hairpin { owner: 0 });
    let (outcome, delivered) = bench.pin(&looped);
    assert_eq!(outcome, Outcome::Translated);
    assert_eq!(ends(&delivered), ((EXT, 6_000), CLIENT));
    let to_host = sctp(peer, (EXT, 7), 0, &[INIT]);
    assert_eq!(bench.out(&to_host).0, Outcome::NotOurs);
}

#[test]
fn a1_17_off_on_a_shared_address() {
    let mut bench = Bench::new(Config {
        other_protocols: false,
        ..config()
    });
    let packet = sctp(CLIENT, SERVER, 0, &[INIT]);
    assert_eq!(bench.out_drop(&packet), Reason::SctpRefused);
}
