//! Sessions that others carry: what may be lent, until when, and what comes of it.

use super::*;
use crate::{Direction, Helpers, Protocol, Steady, Traffic};

const ACK: TcpFlags = TcpFlags::ACK;
const SYN: TcpFlags = TcpFlags::SYN;
const CLIENT: Endpoint = (C1, 5_555);
const SERVER: Endpoint = (O1, 80);

/// A connection that is established, of an engine that lends.
fn established(config: Config) -> (Bench, Endpoint) {
    let mut bench = Bench::new(config);
    bench.nat.set_lending(true);
    let ext = bench.map(&tcp(CLIENT, SERVER, SYN));
    bench.deliver(&tcp(SERVER, ext, SYN | ACK));
    bench.map(&tcp(CLIENT, SERVER, ACK));
    assert_eq!(bench.states(), ["ESTABLISHED"]);
    (bench, ext)
}

/// Sends so many packets in a direction; what is told of them, and at which.
fn told(bench: &mut Bench, ext: Endpoint, out: bool, packets: usize) -> Vec<(usize, Steady)> {
    let mut told = Vec::new();
    for n in 0..packets {
        if out {
            bench.map(&tcp(CLIENT, SERVER, ACK));
        } else {
            bench.deliver(&tcp(SERVER, ext, ACK));
        }
        told.extend(bench.nat.take_steady().map(|steady| (n, steady)));
    }
    told
}

/// What is lent of one direction.
fn lent(bench: &mut Bench, ext: Endpoint, out: bool) -> Steady {
    let (_, steady) = told(bench, ext, out, 16)[0];
    assert!(bench.nat.lend(&steady));
    steady
}

#[test]
fn every_sixteenth_packet_of_an_established_connection_is_told_of() {
    let (mut bench, ext) = established(config());
    for out in [true, false] {
        let told = told(&mut bench, ext, out, 64);
        let [(first, steady), (second, _), ..] = told[..] else {
            panic!("{told:?}")
        };
        assert_eq!((told.len(), second - first), (4, 16));
        let ends = |end: Endpoint| (Ipv4Addr::from(end.0), end.1);
        assert_eq!(steady.inside, ends(CLIENT));
        assert_eq!((steady.external, steady.remote), (ends(ext), ends(SERVER)));
        let direction = if out {
            Direction::Outbound
        } else {
            Direction::Inbound
        };
        assert_eq!(steady.direction, direction);
    }
    bench.nat.set_lending(false);
    assert_eq!(told(&mut bench, ext, true, 64), []);
}

#[test]
fn nothing_is_told_of_what_may_end_or_change_or_is_read() {
    // Half open; half closed; of a protocol without an end; one that a helper reads.
    let mut bench = Bench::new(config());
    bench.nat.set_lending(true);
    for _ in 0..64 {
        bench.map(&tcp(CLIENT, SERVER, SYN));
        bench.map(&udp(CLIENT, SERVER));
        assert_eq!(bench.nat.take_steady(), None);
    }
    let (mut bench, ext) = established(config());
    bench.map(&tcp(CLIENT, SERVER, TcpFlags::FIN | ACK));
    assert_eq!(told(&mut bench, ext, true, 64), []);
    let mut helped = config();
    helped.helpers = Helpers {
        ftp: true,
        tftp: false,
    };
    let (ftp, mut bench) = ((O1, 21), Bench::new(helped));
    bench.nat.set_lending(true);
    let ext = bench.map(&tcp(CLIENT, ftp, SYN));
    bench.deliver(&tcp(ftp, ext, SYN | ACK));
    for _ in 0..64 {
        bench.map(&tcp(CLIENT, ftp, ACK));
        assert_eq!(bench.nat.take_steady(), None);
    }
    // One whose idle time is shorter than what passes until a look at what was carried.
    let mut brief = config();
    brief.timeouts.tcp_established = secs(9);
    let (mut bench, ext) = established(brief);
    assert_eq!(told(&mut bench, ext, true, 64), []);
}

#[test]
fn what_is_lent_is_recalled_by_whatever_ends_or_changes_it() {
    type Change = fn(&mut Bench, Endpoint);
    const FIN_ACK: TcpFlags = TcpFlags(TcpFlags::FIN.0 | TcpFlags::ACK.0);
    let changes: [Change; 6] = [
        |bench, _| {
            bench.map(&tcp(CLIENT, SERVER, FIN_ACK));
        },
        |bench, ext| {
            bench.deliver(&tcp(SERVER, ext, FIN_ACK));
        },
        |bench, ext| {
            bench.deliver(&tcp(SERVER, ext, TcpFlags::RST));
        },
        |bench, _| {
            bench.map(&tcp(CLIENT, SERVER, SYN));
        },
        |bench, _| {
            bench.nat.flush();
        },
        |bench, _| {
            bench.wait(100_000);
            bench.nat.expire(bench.now, usize::MAX);
        },
    ];
    for change in changes {
        let (mut bench, ext) = established(config());
        let steady = lent(&mut bench, ext, true);
        assert!(!bench.nat.has_recalled());
        change(&mut bench, ext);
        assert!(bench.nat.has_recalled());
        assert_eq!(bench.nat.recalled(), Some(steady.session));
        assert_eq!(bench.nat.recalled(), None);
        // What was offered before is no offer any more, unless the connection goes on.
        let goes_on = bench.states() == ["ESTABLISHED"];
        assert_eq!(bench.nat.lend(&steady), goes_on);
    }
}

#[test]
fn what_others_carry_keeps_its_session_alive_and_is_counted_into_it() {
    let (mut bench, ext) = established(config());
    let steady = lent(&mut bench, ext, true);
    let before = bench.nat.sessions().next().unwrap();
    let (translated, idle) = (bench.nat.counters().translated_outbound, 7_000);
    let carried = Traffic {
        packets: 1_000,
        bytes: 60_000,
    };
    for _ in 0..3 {
        bench.wait(idle);
        bench
            .nat
            .carried(steady.session, steady.direction, carried, bench.now);
        bench.nat.expire(bench.now, usize::MAX);
    }
    let after = bench.nat.sessions().next().unwrap();
    assert_eq!(after.outbound.packets - before.outbound.packets, 3_000);
    assert_eq!(after.outbound.bytes - before.outbound.bytes, 180_000);
    assert_eq!(after.inbound, before.inbound);
    assert_eq!(after.expires_at - before.expires_at, secs(3 * idle));
    assert_eq!(bench.nat.counters().translated_outbound - translated, 3_000);
    assert_eq!(bench.nat.ports_used(Protocol::Tcp), 1);
    // Of a session that has ended the packets were translated all the same.
    bench.nat.flush();
    bench
        .nat
        .carried(steady.session, steady.direction, carried, bench.now);
    assert_eq!(bench.nat.counters().translated_outbound - translated, 4_000);
}

#[test]
fn on_trial_nothing_is_told_of_lent_or_recalled() {
    let (mut bench, ext) = established(config());
    let _ = lent(&mut bench, ext, true);
    bench.nat.begin_trial();
    assert_eq!(told(&mut bench, ext, true, 64), []);
    bench.map(&tcp(CLIENT, SERVER, TcpFlags::FIN | ACK));
    bench.nat.end_trial();
    assert!(!bench.nat.has_recalled());
    assert_eq!(bench.states(), ["ESTABLISHED"]);
}
