//! A2 (RFC 5382, RFC 7857) on whole packets; the table itself is tested beside the tracker.

use super::*;
use crate::{Filtering, Protocol};

const SYN: TcpFlags = TcpFlags::SYN;
const ACK: TcpFlags = TcpFlags::ACK;
const FIN_ACK: TcpFlags = TcpFlags(0x11);
const SYN_ACK: TcpFlags = TcpFlags(0x12);
const RST: TcpFlags = TcpFlags::RST;

const CLIENT: Endpoint = (C1, 41_000);
const SERVER: Endpoint = (O1, 80);

fn connect(bench: &mut Bench) -> Endpoint {
    let ext = bench.map(&tcp(CLIENT, SERVER, SYN));
    assert_eq!(bench.deliver(&tcp(SERVER, ext, SYN_ACK)), CLIENT);
    assert_eq!(bench.map(&tcp(CLIENT, SERVER, ACK)), ext);
    assert_eq!(bench.states(), ["ESTABLISHED"]);
    ext
}

fn close(bench: &mut Bench, ext: Endpoint) {
    bench.map(&tcp(CLIENT, SERVER, FIN_ACK));
    bench.deliver(&tcp(SERVER, ext, ACK));
    bench.deliver(&tcp(SERVER, ext, FIN_ACK));
    bench.map(&tcp(CLIENT, SERVER, ACK));
    assert_eq!(bench.states(), ["TIME_WAIT"]);
}

#[test]
fn a2_1_mapping_is_endpoint_independent() {
    let mut bench = Bench::new(config());
    let ext = connect(&mut bench);
    assert_eq!(bench.map(&tcp(CLIENT, (O2, 443), SYN)), ext);
}

#[test]
fn a2_2_simultaneous_open() {
    let mut bench = Bench::new(config());
    let ext = bench.map(&tcp(CLIENT, SERVER, SYN));
    bench.deliver(&tcp(SERVER, ext, SYN));
    assert_eq!(bench.states(), ["SYN_SENT2"]);
    bench.map(&tcp(CLIENT, SERVER, SYN_ACK));
    bench.deliver(&tcp(SERVER, ext, SYN_ACK));
    bench.map(&tcp(CLIENT, SERVER, ACK));
    assert_eq!(bench.states(), ["ESTABLISHED"]);
}

#[test]
fn a2_3_unsolicited_syn_is_dropped_silently_and_makes_no_state() {
    let mut bench = Bench::new(config());
    assert_eq!(
        bench.in_drop(&tcp((O1, 9), (EXT, 41_000), SYN)),
        Reason::Unsolicited
    );
    let ext = bench.map(&tcp(CLIENT, SERVER, SYN));
    assert_eq!(bench.in_drop(&tcp((O2, 9), ext, SYN)), Reason::Unsolicited);
    assert_eq!(bench.nat.len(), 1);
}

#[test]
fn a2_3b_filtering_of_its_own() {
    for filtering in [Filtering::Apdf, Filtering::Adf, Filtering::Eif] {
        let mut bench = Bench::new(Config {
            tcp_filtering: filtering,
            ..config()
        });
        let ext = connect(&mut bench);
        let same_host = bench.inn(&tcp((O1, 9_999), ext, SYN)).0 == Outcome::Translated;
        let other_host = bench.inn(&tcp((O2, 9_999), ext, SYN)).0 == Outcome::Translated;
        let expected = match filtering {
            Filtering::Apdf => (false, false),
            Filtering::Adf => (true, false),
            Filtering::Eif => (true, true),
        };
        assert_eq!((same_host, other_host), expected, "{filtering:?}");
        // Whatever the class, only a SYN begins a session from outside.
        assert_eq!(
            bench.in_drop(&tcp((O1, 9_998), ext, ACK)),
            Reason::Unsolicited
        );
        let udp_ext = bench.map(&udp((C1, 5_555), (O1, 9)));
        assert_eq!(bench.in_drop(&udp((O2, 9), udp_ext)), Reason::Unsolicited);
    }
}

#[test]
fn a2_3b_stranger_connects_and_the_roles_are_turned() {
    let mut bench = Bench::new(Config {
        tcp_filtering: Filtering::Eif,
        ..config()
    });
    let ext = bench.map(&tcp(CLIENT, SERVER, SYN));
    let stranger = (O2, 9_999);
    assert_eq!(bench.deliver(&tcp(stranger, ext, SYN)), CLIENT);
    assert_eq!(bench.map(&tcp(CLIENT, stranger, SYN_ACK)), ext);
    assert_eq!(bench.deliver(&tcp(stranger, ext, ACK)), CLIENT);
    let view = bench.nat.sessions().find(|view| !view.from_inside).unwrap();
    assert_eq!(
        (view.state, view.remote),
        ("ESTABLISHED", (O2.into(), 9_999))
    );
    assert_eq!(view.expires_at, bench.now + secs(7_440));
}

#[test]
fn a2_3b_strangers_syns_cannot_hold_a_session() {
    let mut bench = Bench::new(Config {
        tcp_filtering: Filtering::Eif,
        ..config()
    });
    let ext = bench.map(&tcp(CLIENT, SERVER, SYN));
    for _ in 0..23 {
        bench.wait(10);
        assert_eq!(bench.deliver(&tcp((O2, 9_999), ext, SYN)), CLIENT);
    }
    bench.wait(12);
    assert_eq!(bench.nat.len(), 0);
}

#[test]
fn a2_3c_hairpin() {
    let mut bench = Bench::new(config());
    let c1 = connect(&mut bench);
    let (outcome, looped) = bench.out(&tcp((C2, 42_000), c1, SYN));
    assert_eq!(outcome, Outcome::Hairpin { owner: 0 });
    let (outcome, delivered) = bench.pin(&looped);
    let c2 = ends(&delivered).0;
    assert_eq!((outcome, c2), (Outcome::Translated, (EXT, 42_000)));
    let (_, looped) = bench.out(&tcp(CLIENT, c2, SYN_ACK));
    assert_eq!(ends(&bench.pin(&looped).1), (c1, (C2, 42_000)));
    let (_, looped) = bench.out(&tcp((C2, 42_000), c1, ACK));
    assert_eq!(bench.pin(&looped).0, Outcome::Translated);
    assert_eq!(bench.states(), ["ESTABLISHED"; 3]);
}

#[test]
fn a2_4_established_lives_7440_s_idle() {
    let mut bench = Bench::new(config());
    let ext = connect(&mut bench);
    bench.wait(7_439);
    assert_eq!(bench.deliver(&tcp(SERVER, ext, ACK)), CLIENT);
    // For TCP both directions refresh.
    bench.wait(7_439);
    assert_eq!(bench.deliver(&tcp(SERVER, ext, ACK)), CLIENT);
    bench.now += secs(7_441);
    assert_eq!(bench.in_drop(&tcp(SERVER, ext, ACK)), Reason::Unsolicited);
}

#[test]
fn a2_4_transitory_states_live_240_s() {
    let mut bench = Bench::new(config());
    bench.map(&tcp(CLIENT, SERVER, SYN));
    bench.wait(239);
    assert_eq!(bench.states(), ["SYN_SENT"]);
    bench.wait(3);
    assert_eq!(
        (bench.nat.len(), bench.nat.ports_used(Protocol::Tcp)),
        (0, 0)
    );
    // A FIN brings a deadline forward that was filed two hours ahead.
    let ext = connect(&mut bench);
    close(&mut bench, ext);
    bench.wait(239);
    assert_eq!(bench.states(), ["TIME_WAIT"]);
    bench.wait(3);
    assert_eq!(bench.nat.len(), 0);
}

#[test]
fn a2_5_forged_rst_kills_nothing() {
    let mut bench = Bench::new(config());
    let ext = connect(&mut bench);
    assert_eq!(
        bench.deliver(&tcp(SERVER, ext, RST)),
        CLIENT,
        "a RST is translated"
    );
    assert_eq!(bench.states(), ["CLOSE"]);
    bench.wait(100);
    bench.map(&tcp(CLIENT, SERVER, ACK));
    assert_eq!(bench.states(), ["CLOSE"]);
    bench.deliver(&tcp(SERVER, ext, ACK));
    assert_eq!(bench.states(), ["ESTABLISHED"]);
    bench.wait(7_000);
    assert_eq!(bench.deliver(&tcp(SERVER, ext, ACK)), CLIENT);
}

#[test]
fn a2_5_repeated_rsts_do_not_hold_the_port() {
    let mut bench = Bench::new(config());
    let ext = connect(&mut bench);
    for _ in 0..24 {
        bench.deliver(&tcp(SERVER, ext, RST));
        bench.wait(10);
    }
    bench.wait(2);
    assert_eq!(bench.nat.len(), 0);
}

#[test]
fn a2_6_syn_reopens_a_closed_session_on_the_same_port() {
    let mut bench = Bench::new(config());
    let ext = connect(&mut bench);
    for _ in 0..3 {
        close(&mut bench, ext);
        // The outside may not reopen what the inside opened.
        assert_eq!(bench.in_drop(&tcp(SERVER, ext, SYN)), Reason::Unsolicited);
        assert_eq!(bench.states(), ["TIME_WAIT"]);
        assert_eq!(connect(&mut bench), ext);
    }
    assert_eq!(bench.nat.counters().sessions_created, 1);
}

#[test]
fn a2_9_inside_picks_up_in_mid_stream() {
    for client in [CLIENT, (C1, 33_333)] {
        let mut bench = Bench::new(config());
        let ext = bench.map(&tcp(client, SERVER, SYN));
        assert_eq!(bench.nat.flush(), 1);
        assert_eq!(bench.in_drop(&tcp(SERVER, ext, ACK)), Reason::Unsolicited);
        assert_eq!(
            bench.map(&tcp(client, SERVER, ACK)),
            ext,
            "the same port again"
        );
        assert_eq!(bench.deliver(&tcp(SERVER, ext, ACK)), client);
        assert_eq!(bench.states(), ["ESTABLISHED"]);
    }
}

#[test]
fn a2_10_invalid_flags_make_no_state_and_are_counted() {
    let mut bench = Bench::new(config());
    let (fin, psh, urg) = (TcpFlags::FIN, TcpFlags::PSH, TcpFlags::URG);
    for flags in [TcpFlags(0), fin, fin | psh | urg, SYN | fin, SYN | RST] {
        assert_eq!(
            bench.out_drop(&tcp(CLIENT, SERVER, flags)),
            Reason::InvalidTcpFlags
        );
        let inbound = tcp(SERVER, (EXT, 41_000), flags);
        assert_eq!(bench.in_drop(&inbound), Reason::InvalidTcpFlags);
    }
    assert_eq!(bench.nat.counters().dropped(Reason::InvalidTcpFlags), 10);
    for flags in [SYN_ACK, FIN_ACK, RST] {
        assert_eq!(
            bench.out_drop(&tcp(CLIENT, SERVER, flags)),
            Reason::TcpOutOfState
        );
    }
    assert_eq!(
        (bench.nat.len(), bench.nat.ports_used(Protocol::Tcp)),
        (0, 0)
    );
}

#[test]
fn a4_4_half_open_sessions_have_their_own_limit() {
    let mut bench = Bench::new(Config {
        half_open_max: 5,
        ..config()
    });
    let ext = connect(&mut bench);
    for n in 0..5 {
        bench.map(&tcp((C2, 1_024 + n), SERVER, SYN));
    }
    assert_eq!(
        bench.out_drop(&tcp((C2, 9_999), SERVER, SYN)),
        Reason::HalfOpenFull
    );
    // Live connections, and other protocols, go on.
    assert_eq!(bench.deliver(&tcp(SERVER, ext, ACK)), CLIENT);
    bench.map(&udp((C2, 9_999), SERVER));
    // A completed, a refused and an expired handshake each make room.
    let (_, syn) = bench.out(&tcp((C2, 1_024), SERVER, SYN));
    bench.deliver(&tcp(SERVER, ends(&syn).0, TcpFlags::RST | ACK));
    bench.map(&tcp((C2, 9_999), SERVER, SYN));
    assert_eq!(
        bench.out_drop(&tcp((C2, 9_998), SERVER, SYN)),
        Reason::HalfOpenFull
    );
    bench.wait(242);
    for n in 0..5 {
        bench.map(&tcp((C2, 2_000 + n), SERVER, SYN));
    }
    assert_eq!(
        bench.out_drop(&tcp((C2, 9_997), SERVER, SYN)),
        Reason::HalfOpenFull
    );
}

#[test]
fn traffic_is_counted_both_ways() {
    let mut bench = Bench::new(config());
    connect(&mut bench);
    let view = bench.nat.sessions().next().unwrap();
    assert_eq!((view.outbound.packets, view.inbound.packets), (2, 1));
    assert_eq!((view.outbound.bytes, view.inbound.bytes), (2 * 44, 44));
    assert_eq!(view.inside, (C1.into(), 41_000));
    assert_eq!(view.external, (EXT.into(), 41_000));
}
