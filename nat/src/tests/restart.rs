//! A4-10: sessions survive a restart as records, whatever the number of slices then.

use std::collections::HashSet;

use proptest::prelude::*;

use super::publish::{ACK, CLIENT, SYN, SYN_ACK, Slices, WEB, WEB_EXT, both, publish};
use super::*;
use crate::{Filtering, Part, Protocol, RestoreError, SessionRecord};

fn records(bench: &Bench) -> Vec<SessionRecord> {
    bench.nat.snapshot(Part::ALL, bench.now).0
}

/// Another process: the same configuration, another seed and later on the clock.
fn restarted(old: &Bench) -> Bench {
    Bench {
        nat: Nat::new(old.nat.config().clone(), 99),
        now: old.now + secs(5_000),
    }
}

fn restore(bench: &mut Bench, records: &[SessionRecord]) {
    for record in records {
        assert_eq!(bench.nat.restore(record, bench.now), Ok(()), "{record:?}");
    }
}

#[test]
fn a4_10_connections_go_on_with_port_state_and_time() {
    let mut old = Bench::new(config());
    let (client, server) = ((C1, 1_234), (O1, 80));
    let ext = old.map(&tcp(client, server, SYN));
    old.deliver(&tcp(server, ext, SYN_ACK));
    old.map(&tcp(client, server, ACK));
    let ping = old.map(&echo(C2, O1, 77, false));
    let lookup = old.map(&udp((C2, 5_353), (O2, 53)));
    old.wait(20);
    let mut new = restarted(&old);
    restore(&mut new, &records(&old));
    assert_eq!(new.nat.len(), 3);
    // From outside first: nothing had to be picked up anew.
    assert_eq!(new.deliver(&tcp(server, ext, ACK)), client);
    assert_eq!(new.deliver(&echo(O1, EXT, ping.1, true)), (C2, 77));
    assert_eq!(new.map(&udp((C2, 5_353), (O2, 54))), lookup, "one mapping");
    // The name server's time goes on where it was: 60 s in all.
    new.wait(39);
    assert_eq!(new.deliver(&udp((O2, 53), lookup)), (C2, 5_353));
    new.wait(2);
    assert_eq!(new.in_drop(&udp((O2, 53), lookup)), Reason::Unsolicited);
    new.wait(7_000);
    assert_eq!(new.deliver(&tcp(server, ext, ACK)), client);
}

#[test]
fn a4_10_records_are_read_in_portions() {
    let mut bench = Bench::new(config());
    for n in 0..100 {
        bench.map(&udp((C1, 41_000 + n), (O1, 9)));
    }
    let (mut from, mut all) = (Some(0), Vec::new());
    while let Some(slot) = from {
        let part = Part {
            from: slot,
            places: 7,
        };
        let (records, next) = bench.nat.snapshot(part, bench.now);
        assert!(records.len() <= 7);
        all.extend(records);
        from = next;
    }
    assert_eq!(all, records(&bench));
    assert_eq!(all.len(), 100);
    bench.now += secs(301);
    assert_eq!(records(&bench), [], "what is over is not recorded");
}

#[test]
fn a4_10_what_cannot_be_is_refused_and_changes_nothing() {
    let mut old = Bench::new(config());
    old.publish(both());
    old.map(&tcp((C1, 41_000), (O1, 80), SYN));
    old.deliver(&udp(CLIENT, WEB_EXT));
    let [tcp_record, udp_record] = records(&old)[..] else {
        panic!("two sessions");
    };
    let mut bench = restarted(&old);
    let mut refused = |record: SessionRecord| bench.nat.restore(&record, bench.now).unwrap_err();
    let with = |change: fn(&mut SessionRecord)| {
        let mut record = tcp_record;
        change(&mut record);
        record
    };
    assert_eq!(refused(with(|r| r.tcp = None)), RestoreError::Invalid);
    assert_eq!(refused(with(|r| r.tcp = Some(63))), RestoreError::Invalid);
    assert_eq!(refused(with(|r| r.external.1 = 0)), RestoreError::Invalid);
    assert_eq!(
        refused(with(|r| r.protocol = Protocol::Udp)),
        RestoreError::Invalid
    );
    assert_eq!(
        refused(with(|r| r.remaining = Nanos::ZERO)),
        RestoreError::Expired
    );
    assert_eq!(refused(with(|r| r.external.1 = 9)), RestoreError::NotOurs);
    assert_eq!(
        refused(with(|r| r.external.0 = O2.into())),
        RestoreError::NotOurs
    );
    assert_eq!(refused(udp_record), RestoreError::NotPublished);
    assert!(bench.nat.is_empty());
    assert_eq!(bench.nat.restore(&tcp_record, bench.now), Ok(()));
    let mut refused = |record: SessionRecord| bench.nat.restore(&record, bench.now).unwrap_err();
    assert_eq!(refused(tcp_record), RestoreError::Exists);
    assert_eq!(
        refused(with(|r| {
            r.remote.1 = 81;
            r.external.1 = 41_001;
        })),
        RestoreError::PortTaken,
        "the endpoint has another port"
    );
    assert_eq!(
        refused(with(|r| {
            r.remote.1 = 81;
            r.inside.1 = 5;
        })),
        RestoreError::PortTaken,
        "the port has another endpoint"
    );
    assert_eq!(
        (bench.nat.len(), bench.nat.ports_used(Protocol::Tcp)),
        (1, 1)
    );
}

#[test]
fn a4_10_a_full_table_leaves_no_mapping_behind() {
    let mut old = Bench::new(config());
    old.map(&udp((C1, 41_000), (O1, 9)));
    old.map(&udp((C1, 41_001), (O1, 9)));
    let mut bench = Bench::new(Config {
        sessions_max: 1,
        ..config()
    });
    let records = records(&old);
    assert_eq!(bench.nat.restore(&records[0], bench.now), Ok(()));
    let full = bench.nat.restore(&records[1], bench.now);
    assert_eq!(full, Err(RestoreError::Full));
    assert_eq!(bench.nat.ports_used(Protocol::Udp), 1);
}

#[test]
fn a4_10_published_sessions_go_on_if_they_still_are() {
    let mut old = Bench::new(config());
    old.publish(both());
    old.deliver(&tcp(CLIENT, WEB_EXT, SYN));
    old.map(&tcp(WEB, CLIENT, SYN_ACK));
    old.deliver(&tcp(CLIENT, WEB_EXT, ACK));
    old.deliver(&udp(CLIENT, WEB_EXT));
    let mut new = restarted(&old);
    new.publish(both());
    restore(&mut new, &records(&old));
    assert_eq!(new.states(), ["ESTABLISHED", "UNREPLIED"]);
    assert_eq!(new.deliver(&tcp(CLIENT, WEB_EXT, ACK)), WEB);
    assert_eq!(new.map(&tcp(WEB, CLIENT, ACK)), WEB_EXT);
    // What was provisional is so again, what was not is not.
    assert_eq!(new.nat.strangers.counts(), (2, [0, 1]));
    assert_eq!(new.publish(Vec::new()), 2);
}

/// Sessions of one slice, restored by four engines: each member's with its own worker.
#[test]
fn a4_10_the_number_of_slices_may_change() {
    let config = Config {
        udp_filtering: Filtering::Eif,
        ..config()
    };
    let mut old = Slices::new(1, &config);
    let low = |n: u16| u8::try_from(n).unwrap();
    let host = |n: u16| ([10, 9, 1, low(n)], 40_000 + n * 150);
    for n in 0..60 {
        let (outcome, bytes, _) = old.out(0, &udp(host(n), CLIENT));
        assert_eq!(
            (outcome, ends(&bytes).0.1),
            (Outcome::Translated, host(n).1)
        );
    }
    let mut new = Slices::new(4, &config);
    let mut adopted = 0;
    for (n, record) in (0..).zip(records(&old.benches[0])) {
        let bench = &mut new.benches[n % 4];
        assert_eq!(bench.nat.restore(&record, bench.now), Ok(()));
        let other = &mut new.benches[(n + 1) % 4];
        let at_home = crate::owner_of(&(40_000..=49_999), 4, record.external.1);
        if at_home != u16::try_from(n % 4).ok() {
            let refused = Err(RestoreError::Elsewhere(u16::try_from(n % 4).unwrap()));
            assert_eq!(other.nat.restore(&record, other.now), refused);
            adopted += 1;
        }
    }
    assert_eq!(new.adopted.len(), adopted);
    for n in 0..60 {
        let (outcome, bytes, at) = new.inn(n % 3, &udp(CLIENT, (EXT, host(n).1)));
        assert_eq!((outcome, ends(&bytes).1), (Outcome::Translated, host(n)));
        assert_eq!(at, n % 4);
    }
    // The slices to which the ports belong do not hand them out,
    for at in 0..4 {
        for n in 0..60 {
            let other = ([10, 9, 2, low(n)], host(n).1);
            let bytes = new.out(at, &udp(other, ([198, 51, 100, low(at)], 7))).1;
            assert_ne!(ends(&bytes).0, (EXT, host(n).1));
        }
    }
    assert_eq!(new.adopted.len(), adopted);
    // until their sessions are over.
    new.wait(400);
    new.wait(1);
    assert_eq!((new.len(), new.adopted.len()), (0, 0));
    for n in 0..60 {
        let home = crate::owner_of(&(40_000..=49_999), 4, host(n).1).unwrap();
        let bytes = new.out(home, &udp(host(n), CLIENT)).1;
        assert_eq!(ends(&bytes).0, (EXT, host(n).1));
    }
}

proptest! {
    /// Any traffic: what is recorded, restored and recorded again is the same.
    #[test]
    fn a4_10_records_survive_unchanged(
        steps in proptest::collection::vec((0u8..7, 0u16..6, 0u16..6, 0u64..20), 1..100),
    ) {
        let mut old = Bench::new(config());
        let mut entries = both();
        entries.push(publish(Protocol::Udp, 41_000..=41_002, &[(C2, 700)], 0));
        old.publish(entries.clone());
        for (step, a, b, pause) in steps {
            old.wait(pause);
            let (inside, remote) = ((C1, 41_000 + a), (O1, 1_000 + b));
            let flags = [SYN_ACK, ACK, TcpFlags(0x11)];
            let bytes = match step {
                0 => tcp(inside, remote, SYN),
                1 => tcp(remote, (EXT, 41_000 + a), flags[usize::from(b) % 3]),
                2 => udp(inside, remote),
                3 => udp(remote, [WEB_EXT, (EXT, 41_000 + a)][usize::from(a) % 2]),
                4 => tcp(remote, WEB_EXT, [SYN, ACK, TcpFlags::RST][usize::from(a) % 3]),
                5 => tcp(WEB, remote, flags[usize::from(a) % 3]),
                _ => echo(C1, O1, a, false),
            };
            let is_inbound = matches!(step, 1 | 3 | 4);
            let _ = if is_inbound { old.inn(&bytes) } else { old.out(&bytes) };
        }
        let before = records(&old);
        let mut new = restarted(&old);
        new.publish(entries);
        for record in &before {
            prop_assert_eq!(new.nat.restore(record, new.now), Ok(()));
        }
        prop_assert_eq!(&records(&new), &before);
        for protocol in Protocol::ALL {
            let ports: HashSet<_> = before.iter()
                .filter(|record| record.protocol == protocol && !record.published)
                .map(|record| record.external)
                .collect();
            prop_assert_eq!(new.nat.ports_used(protocol) as usize, ports.len());
        }
        new.wait(8_000);
        prop_assert!(new.nat.is_empty());
    }
}

#[test]
fn with_what_ended_sessions_left_the_next_are_the_same() {
    let mut old = Bench::new(config());
    for n in 0..40 {
        old.map(&udp((C1, 41_000 + n), (O1, 9)));
    }
    old.nat.flush();
    old.wait(3);
    old.map(&udp((C2, 5_000), (O2, 9)));
    let remains = old.nat.remains(old.now);
    assert_eq!(remains.held.len(), 40);
    // The same seed, the same clock, as one that does again what another did.
    let again = |remains| {
        let mut new = Bench {
            nat: Nat::new(old.nat.config().clone(), 7),
            now: old.now,
        };
        restore(&mut new, &records(&old));
        new.nat.leave_behind(remains, new.now);
        new
    };
    let mut new = again(&remains);
    assert_eq!(new.nat.remains(new.now), remains);
    let mut without = again(&crate::Remains::default());
    let mut others = 0;
    for n in 0..2_000 {
        let packet = udp((C2, 1_024 + n * 3), (O1, 9));
        let (one, two) = (old.map(&packet), new.map(&packet));
        assert_eq!(one, two, "{n}");
        others += u32::from(without.map(&packet) != one);
    }
    assert!(others > 0, "else nobody would need to know of held ports");
    for bench in [&mut old, &mut new] {
        bench.wait(400);
    }
    let held = |bench: &Bench| bench.nat.remains(bench.now).held;
    assert!(held(&old) == held(&new) && held(&old).len() > 1_000);
}
