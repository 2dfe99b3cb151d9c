//! Where one part meets another: published SCTP, quotas of published hosts, several addresses.

use std::sync::Arc;

use super::publish::{ACK, CLIENT, SYN, SYN_ACK, Slices, WEB, WEB_EXT, both, publish};
use super::sctp::INIT;
use super::*;
use crate::{Adopted, Helpers, Part, Protocol, Publish, Quota, RestoreError, SessionRecord};

/// SCTP keeps its port, so it is published as itself.
const SIGNAL: Endpoint = (C1, 38_412);
const SIGNAL_EXT: Endpoint = (EXT, 38_412);
const PEER: Endpoint = (O1, 5_000);
const INIT_ACK: &[u8] = &[2, 0, 0, 20, 0, 0, 0, 9, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1];
const SECOND: [u8; 4] = [203, 0, 113, 20];

fn signalling(owner: u16) -> Publish {
    publish(Protocol::Sctp, 38_412..=38_412, &[SIGNAL], owner)
}

fn records(bench: &Bench) -> Vec<SessionRecord> {
    bench.nat.snapshot(Part::ALL, bench.now).0
}

#[test]
fn a6_1_a1_17_a_published_sctp_port_is_with_its_owner() {
    let mut slices = Slices::new(3, &config());
    slices.publish(&[signalling(1)]);
    let (_, bytes, at) = slices.inn(2, &sctp(PEER, SIGNAL_EXT, 0, &[INIT]));
    assert_eq!((ends(&bytes), at), ((PEER, SIGNAL), 1));
    for from in 0..3 {
        let (_, bytes, at) = slices.out(from, &sctp(SIGNAL, PEER, 7, &[INIT_ACK]));
        assert_eq!((ends(&bytes), at), ((SIGNAL_EXT, PEER), 1));
    }
    // The target begins one itself, and so does another host, from the first slice.
    let (_, bytes, at) = slices.out(2, &sctp(SIGNAL, (O2, 9), 0, &[INIT]));
    assert_eq!((ends(&bytes).0, at), (SIGNAL_EXT, 1));
    let (_, bytes, at) = slices.out(1, &sctp((C2, 6_000), (O2, 9), 0, &[INIT]));
    assert_eq!((ends(&bytes).0, at), ((EXT, 6_000), 0));
    assert_eq!(slices.len(), 3);
    // A stranger's packet that begins nothing is dropped here, where the port is not the host's.
    let abort = sctp((O2, 77), SIGNAL_EXT, 5, &[&[6, 0, 0, 4]]);
    let (outcome, ..) = slices.inn(0, &abort);
    assert_eq!(outcome, Outcome::Drop(Reason::Unsolicited));
    // The published port is nobody else's.
    let (outcome, ..) = slices.out(0, &sctp((C2, 38_412), PEER, 0, &[INIT]));
    assert_eq!(outcome, Outcome::Drop(Reason::ProtocolBusy));
}

#[test]
fn a6_1_a1_17_of_several_sctp_targets_none_begins_by_the_published_port() {
    let mut slices = Slices::new(2, &config());
    let targets = [SIGNAL, (C2, 38_412)];
    slices.publish(&[publish(Protocol::Sctp, 38_412..=38_412, &targets, 1)]);
    let (outcome, ..) = slices.out(0, &sctp(SIGNAL, PEER, 0, &[INIT]));
    assert_eq!(outcome, Outcome::Drop(Reason::ProtocolBusy));
    let (outcome, ..) = slices.inn(0, &sctp(PEER, SIGNAL_EXT, 0, &[INIT]));
    assert_eq!(outcome, Outcome::Translated);
}

#[test]
fn a6_1_a1_17_sctp_may_not_be_published_at_another_port() {
    let other = publish(Protocol::Sctp, 38_412..=38_412, &[(C1, 38_413)], 0);
    assert_eq!(
        crate::Publishes::new(vec![signalling(0), other]),
        Err(crate::PublishError::Invalid(1))
    );
}

#[test]
fn a4_10_a1_17_sctp_and_esp_come_back_to_the_first_slice() {
    let mut old = Bench::new(config());
    old.map(&sctp((C1, 5_000), PEER, 0, &[INIT]));
    old.deliver(&sctp(PEER, (EXT, 5_000), 7, &[INIT_ACK]));
    old.map(&raw(50, C1, O1, b"opaque"));
    let records = records(&old);
    let mut slices = Slices::new(2, &config());
    for record in &records {
        assert!(!record.published, "{record:?}");
        let [first, second] = &mut slices.benches[..] else {
            panic!("two slices");
        };
        let elsewhere = second.nat.restore(record, second.now);
        assert_eq!(elsewhere, Err(RestoreError::Elsewhere(0)));
        assert_eq!(first.nat.restore(record, first.now), Ok(()));
    }
    let (outcome, bytes, at) = slices.inn(1, &sctp(PEER, (EXT, 5_000), 7, &[INIT_ACK]));
    assert_eq!((outcome, at), (Outcome::Translated, 0));
    assert_eq!(ends(&bytes).1, (C1, 5_000));
    let (outcome, ..) = slices.inn(1, &raw(50, O1, EXT, b"opaque"));
    assert_eq!(outcome, Outcome::Translated);
}

#[test]
fn a4_3_a6_1_published_sessions_are_in_the_hosts_account() {
    let mut bench = Bench::new(Config {
        quota: Quota {
            sessions: 3,
            ..Quota::NONE
        },
        ..config()
    });
    bench.publish(both());
    bench.deliver(&tcp(CLIENT, WEB_EXT, SYN));
    bench.map(&tcp(WEB, CLIENT, SYN_ACK));
    bench.deliver(&tcp(CLIENT, WEB_EXT, ACK));
    bench.deliver(&udp(CLIENT, WEB_EXT));
    bench.map(&udp((C1, 5_555), (O2, 53)));
    let refused = udp((O2, 9), WEB_EXT);
    assert_eq!(bench.in_drop(&refused), Reason::HostQuota);
    let own = tcp(WEB, (O2, 443), SYN);
    assert_eq!(bench.out_drop(&own), Reason::HostQuota);
    let host = bench.nat.hosts().next().unwrap();
    assert_eq!((host.sessions, host.ports, host.refused), (3, 1, 2));
    // A connection that is finished makes room for the next client.
    bench.map(&tcp(WEB, CLIENT, TcpFlags(0x14)));
    bench.deliver(&tcp((O2, 10), WEB_EXT, SYN));
    assert_eq!(bench.nat.counters().sessions_recycled, 1);
    bench.wait(10_000);
    assert_eq!((bench.nat.hosts().count(), bench.nat.len()), (0, 0));
    let (created, removed) = {
        let counters = bench.nat.counters();
        (counters.sessions_created, counters.sessions_removed)
    };
    assert_eq!(created, removed);
}

#[test]
fn a6_8_a1_2_a_port_is_published_on_the_address_it_names() {
    let mut bench = Bench::new(Config {
        pool: vec![SECOND.into()],
        ..config()
    });
    let entry = Publish {
        external: Some(SECOND.into()),
        ..publish(Protocol::Tcp, 40_080..=40_080, &[WEB], 0)
    };
    bench.publish(vec![entry]);
    let at = |address| (address, 40_080);
    assert_eq!(bench.deliver(&tcp(CLIENT, at(SECOND), SYN)), WEB);
    assert_eq!(bench.map(&tcp(WEB, CLIENT, SYN_ACK)), at(SECOND));
    assert_eq!(
        bench.in_drop(&tcp(CLIENT, at(EXT), SYN)),
        Reason::Unsolicited
    );
    // Only there it is kept from mappings, of whichever host.
    let inside = |n: u8| ([10, 9, 1, n], 40_080);
    let mapped: Vec<_> = (0..32)
        .map(|n| bench.map(&tcp(inside(n), (O2, 443), SYN)))
        .collect();
    assert!(mapped.contains(&at(EXT)) && !mapped.contains(&at(SECOND)));
    // What is on an address lives as long as that is there.
    bench.nat.set_externals(&[SECOND.into()]);
    assert_eq!(bench.map(&tcp(WEB, CLIENT, ACK)), at(SECOND));
    bench.nat.set_externals(&[EXT.into()]);
    assert!(bench.nat.is_empty());
}

#[test]
fn a4_10_adopted_ports_stay_with_their_address_when_others_go() {
    let adopted = Arc::new(Adopted::new(2));
    let mut benches: Vec<_> = (0..2)
        .map(|slice| {
            let mut bench = Bench::new(Config {
                slice,
                slices: 2,
                pool: vec![SECOND.into()],
                ..config()
            });
            bench.nat.adopt(Arc::clone(&adopted));
            bench
        })
        .collect();
    // Of the second slice's ports, restored in the first.
    let mut one = Bench::new(Config {
        ports: 45_000..=49_999,
        external: SECOND.into(),
        ..config()
    });
    let ext = one.map(&udp((C1, 47_000), CLIENT));
    assert_eq!(ext, (SECOND, 47_000));
    let record = records(&one)[0];
    assert_eq!(benches[0].nat.restore(&record, one.now), Ok(()));
    assert_eq!(adopted.owner(Protocol::Udp, 1, 47_000), Some(0));
    for bench in &mut benches {
        bench.nat.set_externals(&[SECOND.into()]);
    }
    let reply = udp(CLIENT, ext);
    assert_eq!(
        benches[1].inn(&reply).0,
        Outcome::Elsewhere { owner: 0 },
        "the only address now, and still the second place"
    );
    assert_eq!(benches[0].deliver(&reply), (C1, 47_000));
    benches[0].wait(1_000);
    assert!(adopted.is_empty());
}

#[test]
fn a5_5_a6_1_what_a_published_server_tells_is_on_its_own_address() {
    let server = (C1, 21);
    let ext = (SECOND, 2_121);
    let mut bench = Bench::new(Config {
        pool: vec![SECOND.into()],
        helpers: Helpers {
            ftp: true,
            tftp: true,
        },
        ..config()
    });
    bench.publish(vec![Publish {
        external: Some(SECOND.into()),
        ..publish(Protocol::Tcp, 2_121..=2_121, &[server], 0)
    }]);
    bench.deliver(&tcp(CLIENT, ext, SYN));
    bench.map(&tcp(server, CLIENT, SYN_ACK));
    bench.deliver(&tcp(CLIENT, ext, ACK));
    let mut told = Vec::new();
    PacketBuilder::ipv4(server.0, CLIENT.0, 64)
        .tcp(server.1, CLIENT.1, 2_001, 1_024)
        .ack(1_001)
        .write(
            &mut told,
            b"229 Entering Extended Passive Mode (|||50005|)\r\n",
        )
        .unwrap();
    assert_eq!(bench.out(&told).0, Outcome::Held);
    let copy = bench.nat.released().unwrap().bytes;
    assert_eq!(ends(&copy).0, ext);
    let told = (Protocol::Tcp, (C1.into(), 50_005));
    let mappings = &mut bench.nat.mappings;
    let hash = mappings.hash(told.0, told.1);
    let mapping = mappings.find_inside(hash, told, |mapping| {
        mapping.external.0 == Ipv4Addr::from(SECOND)
    });
    let external = bench.nat.mappings.get(mapping.unwrap()).unwrap().external;
    let external = (external.0.octets(), external.1);
    assert_eq!(
        bench.deliver(&tcp((CLIENT.0, 9), external, SYN)),
        (C1, 50_005)
    );
    bench.wait(100_000);
    assert_eq!(bench.nat.ports_used(Protocol::Tcp), 0);
    let counters = bench.nat.counters();
    assert_eq!(counters.mappings_created, counters.mappings_removed);
    assert_eq!(bench.nat.hosts().count(), 0);
}

#[test]
fn a4_3_helpers_and_further_addresses_are_counted_in_the_memory() {
    let config = Config {
        pool: vec![SECOND.into()],
        helpers: Helpers {
            ftp: true,
            tftp: true,
        },
        ..config()
    };
    let mut nat = None;
    let taken = allocation_counter::measure(|| nat = Some(Nat::new(config, 1)));
    let memory = nat.map(|nat| nat.memory()).unwrap();
    assert_eq!(
        u64::try_from(memory).unwrap(),
        taken.bytes_current.cast_unsigned()
    );
}
