//! A4-4, F-8: what outsiders may open at a published port, and who makes room for whom.

use super::publish::{ACK, CLIENT, SYN, SYN_ACK, WEB, WEB_EXT, both};
use super::*;

const RST_ACK: TcpFlags = TcpFlags(0x14);

#[test]
fn f_8_a_flood_of_syns_ends_the_oldest_and_no_live_session() {
    let mut bench = Bench::new(Config {
        half_open_max: 20,
        sessions_max: 100,
        ..config()
    });
    bench.publish(both());
    bench.deliver(&tcp(CLIENT, WEB_EXT, SYN));
    bench.map(&tcp(WEB, CLIENT, SYN_ACK));
    bench.deliver(&tcp(CLIENT, WEB_EXT, ACK));
    let own = bench.map(&tcp((C2, 41_000), (O2, 443), SYN));
    for round in 0..100u8 {
        for n in 0..10 {
            let forged = ([192, 0, 2, round], n);
            assert_eq!(bench.deliver(&tcp(forged, WEB_EXT, SYN)), WEB);
            // The server answers some, and refuses some.
            if n % 3 == 0 {
                bench.map(&tcp(WEB, forged, if n == 3 { RST_ACK } else { SYN_ACK }));
            }
        }
        // A new client gets in amid the flood, by a handshake as long as five forged SYNs.
        let client = (O2, 1_000 + u16::from(round));
        assert_eq!(bench.deliver(&tcp(client, WEB_EXT, SYN)), WEB);
        for n in 10..15 {
            bench.deliver(&tcp(([192, 0, 2, round], n), WEB_EXT, SYN));
        }
        if round < 40 {
            assert_eq!(bench.map(&tcp(WEB, client, SYN_ACK)), WEB_EXT);
            assert_eq!(bench.deliver(&tcp(client, WEB_EXT, ACK)), WEB);
        }
        let (opened, provisional) = bench.nat.strangers.counts();
        assert!(
            provisional[0] <= 10 && opened <= 75,
            "{opened} {provisional:?}"
        );
    }
    assert_eq!(bench.deliver(&tcp(CLIENT, WEB_EXT, ACK)), WEB);
    assert_eq!(bench.deliver(&tcp((O2, 443), own, SYN_ACK)), (C2, 41_000));
    let live = bench
        .states()
        .iter()
        .filter(|state| **state == "ESTABLISHED")
        .count();
    assert_eq!(live, 41);
    assert!(bench.nat.counters().strangers_evicted > 1_000);
    assert_eq!(bench.nat.counters().dropped(Reason::HalfOpenFull), 0);
}

#[test]
fn a4_4_neither_sides_handshakes_refuse_the_others() {
    let mut bench = Bench::new(Config {
        half_open_max: 10,
        ..config()
    });
    bench.publish(both());
    for n in 0..10 {
        bench.map(&tcp((C2, 1_024 + n), CLIENT, SYN));
    }
    let full = Reason::HalfOpenFull;
    assert_eq!(bench.out_drop(&tcp((C2, 9), CLIENT, SYN)), full);
    for n in 0..20 {
        bench.deliver(&tcp((O2, n), WEB_EXT, SYN));
    }
    assert_eq!(bench.nat.strangers.counts().1, [5, 0]);
    assert_eq!(bench.nat.len(), 15);
    assert_eq!(
        bench.out_drop(&tcp((C2, 9), CLIENT, SYN)),
        full,
        "never evicted"
    );
}

#[test]
fn a4_4_handshakes_from_outside_have_a_short_time() {
    let mut bench = Bench::publishing(both());
    bench.deliver(&tcp(CLIENT, WEB_EXT, SYN));
    bench.deliver(&tcp((O2, 1), WEB_EXT, SYN));
    bench.map(&tcp(WEB, (O2, 1), RST_ACK));
    bench.deliver(&tcp((O2, 2), WEB_EXT, SYN));
    bench.map(&tcp(WEB, (O2, 2), SYN_ACK));
    bench.wait(29);
    // Repeating it does not prolong it.
    bench.deliver(&tcp(CLIENT, WEB_EXT, SYN));
    assert_eq!(bench.nat.len(), 3);
    bench.wait(3);
    assert_eq!(bench.states(), ["SYN_RECV"]);
    bench.deliver(&tcp((O2, 2), WEB_EXT, ACK));
    bench.wait(7_430);
    assert_eq!(bench.states(), ["ESTABLISHED"]);
}

#[test]
fn a4_4_a_published_port_never_fills_the_table() {
    let mut bench = Bench::new(Config {
        sessions_max: 100,
        ..config()
    });
    bench.publish(both());
    for n in 0..1_000 {
        bench.deliver(&udp((O2, n), WEB_EXT));
    }
    assert_eq!(bench.nat.len(), 25, "unanswered: a quarter");
    for n in 1_000..2_000 {
        let client = (O2, n);
        if bench.inn(&udp(client, WEB_EXT)).0 == Outcome::Translated {
            bench.map(&udp(WEB, client));
            bench.deliver(&udp(client, WEB_EXT));
        }
    }
    assert_eq!(bench.nat.len(), 75, "answered: three quarters");
    assert!(bench.nat.counters().dropped(Reason::SessionsExhausted) > 0);
    for n in 0..25 {
        bench.map(&udp((C2, 41_000 + n), CLIENT));
    }
}

#[test]
fn a4_4_a_reopened_session_counts_with_who_reopened_it() {
    let mut bench = Bench::publishing(both());
    bench.deliver(&tcp(CLIENT, WEB_EXT, SYN));
    bench.map(&tcp(WEB, CLIENT, RST_ACK));
    assert_eq!(bench.nat.strangers.counts(), (1, [1, 0]));
    // The server calls the client from its published port.
    assert_eq!(bench.map(&tcp(WEB, CLIENT, SYN)), WEB_EXT);
    assert_eq!(bench.nat.strangers.counts(), (0, [0, 0]));
    bench.wait(300);
    assert!(bench.nat.is_empty());
    assert_eq!(bench.nat.strangers.counts(), (0, [0, 0]));
}
