//! One container that opens 25,000 connections a second to one server, as `wrk` with
//! `Connection: close` does, through 4,536 external ports.

use super::*;

const PER_SEC: u32 = 25_000;
/// net.ipv4.ip_local_port_range of the container, as far as wrk gets it.
const INSIDE_PORTS: std::ops::Range<u16> = 32_768..60_768;
/// Connections open at a time.
const AT_ONCE: usize = 100;

struct Storm {
    nat: Nat,
    now: Nanos,
    out: Vec<u8>,
    back: Vec<u8>,
    ports: std::iter::Cycle<std::ops::Range<u16>>,
    open: std::collections::VecDeque<(u16, u16)>,
    opened: u32,
}

impl Storm {
    fn new(config: Config) -> Self {
        Self {
            nat: Nat::new(config, 7),
            now: secs(1_000),
            out: tcp((C1, 0), SERVER, SYN),
            back: tcp(SERVER, (EXT, 0), SYN),
            ports: INSIDE_PORTS.cycle(),
            open: std::collections::VecDeque::new(),
            opened: 0,
        }
    }

    /// Sends from inside and returns the external port.
    fn send(&mut self, port: u16, flags: TcpFlags) -> u16 {
        let mut bytes = self.out.clone();
        bytes[20..22].copy_from_slice(&port.to_be_bytes());
        bytes[33] = flags.0;
        let mut packet = Packet {
            bytes: &mut bytes,
            l4_sum: L4Sum::Full,
        };
        let outcome = self.nat.outbound(&mut packet, self.now);
        assert_eq!(
            outcome,
            Outcome::Translated,
            "{} {:?}",
            self.opened,
            self.now
        );
        u16::from_be_bytes([bytes[20], bytes[21]])
    }

    /// The server sends to an external port, and who must get it does.
    fn receive(&mut self, external: u16, port: u16, flags: TcpFlags) {
        let mut bytes = self.back.clone();
        bytes[22..24].copy_from_slice(&external.to_be_bytes());
        bytes[33] = flags.0;
        let mut packet = Packet {
            bytes: &mut bytes,
            l4_sum: L4Sum::Full,
        };
        let outcome = self.nat.inbound(&mut packet, self.now);
        assert_eq!(
            outcome,
            Outcome::Translated,
            "{} {:?}",
            self.opened,
            self.now
        );
        assert_eq!(
            (&bytes[16..20], &bytes[22..24]),
            (&C1[..], &port.to_be_bytes()[..])
        );
    }

    /// Opens one connection more, and closes the one that is next.
    fn step(&mut self, server_closes_first: bool) {
        let port = self.ports.next().unwrap();
        let external = self.send(port, SYN);
        self.receive(external, port, SYN_ACK);
        assert_eq!(self.send(port, ACK), external);
        self.open.push_back((port, external));
        self.opened += 1;
        if self.open.len() > AT_ONCE {
            self.close(server_closes_first);
        }
        self.now += Nanos(1_000_000_000 / u64::from(PER_SEC));
        if self.opened.is_multiple_of(PER_SEC) {
            self.nat.expire(self.now, 100_000);
        }
    }

    fn close(&mut self, server_closes_first: bool) {
        let (port, external) = self.open.pop_front().unwrap();
        if server_closes_first {
            self.receive(external, port, FIN_ACK);
            self.send(port, FIN_ACK);
            self.receive(external, port, ACK);
        } else {
            self.send(port, FIN_ACK);
            self.receive(external, port, FIN_ACK);
            self.send(port, ACK);
        }
    }

    /// Goes on for this long, without a break.
    fn blow(&mut self, seconds: u32, server_closes_first: bool) {
        for _ in 0..seconds * PER_SEC {
            self.step(server_closes_first);
        }
    }

    fn calm(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += secs(1);
            self.nat.expire(self.now, 100_000);
        }
    }
}

fn gateway() -> Config {
    let config = Config {
        sessions_max: 262_144,
        half_open_max: 65_536,
        ..Config::new(EXT.into(), 61_000..=65_535)
    };
    assert_eq!(config.ports.len(), 4_536);
    config
}

/// A server closes first, so the container may use a port again as soon as it comes round.
#[test]
fn a2_7_a_storm_of_short_connections_goes_on_for_minutes() {
    let mut storm = Storm::new(gateway());
    storm.blow(5, true);
    for _ in 0..5 {
        storm.calm(58);
        storm.blow(2, true);
    }
    assert_eq!(storm.opened, 15 * PER_SEC);
    let counters = storm.nat.counters();
    assert_eq!(counters.dropped_total(), 0);
    // Port for port: no session is opened but in the place of one that is finished.
    let (recycled, held) = (
        counters.sessions_recycled,
        storm.nat.ports_held(Protocol::Tcp),
    );
    assert!(recycled > 300_000, "{recycled}");
    assert!(storm.nat.ports_used(Protocol::Tcp) + held <= 4_536);
    // The hundred that are open have outlived all of it.
    while !storm.open.is_empty() {
        storm.close(true);
    }
}

/// The container closes first, and keeps each of its ports for a minute.
#[test]
fn a2_7_ports_in_time_wait_inside_come_again_after_a_minute() {
    let mut storm = Storm::new(gateway());
    for _ in 0..5 {
        for _ in INSIDE_PORTS {
            storm.step(false);
        }
        storm.calm(60);
    }
    assert_eq!(storm.opened, 140_000);
    assert_eq!(storm.nat.counters().dropped_total(), 0);
}

/// The same within one host's quota, while a neighbour's connection stays.
#[test]
fn a4_3_a_storm_within_a_quota_leaves_the_rest_to_others() {
    let mut storm = Storm::new(Config {
        quota: Quota {
            sessions: 1_000,
            ports: 500,
            ..Quota::NONE
        },
        ..gateway()
    });
    storm.blow(2, true);
    assert_eq!(storm.nat.counters().dropped_total(), 0);
    let host = storm.nat.hosts().next().unwrap();
    assert_eq!((host.ports, host.sessions, host.half_open), (500, 500, 0));
}

#[test]
fn a4_2_only_open_connections_exhaust_the_ports() {
    let mut bench = Bench::new(Config {
        tcp_overlap: false,
        ..few(200)
    });
    for n in 0..1_000u16 {
        let inside = (C1, 1_024 + n);
        let ext = connect(&mut bench, inside, SERVER);
        if n >= 50 {
            close(&mut bench, inside, ext, SERVER);
        }
    }
    let states = bench.states();
    assert_eq!(
        states
            .iter()
            .filter(|&&state| state == "ESTABLISHED")
            .count(),
        50
    );
}

/// A server behind a mapping takes one connection after the other, though each stays in TIME_WAIT
/// for minutes and the table is small.
#[test]
fn a2_7_a_server_inside_takes_connections_without_end() {
    for quota in [
        Quota::NONE,
        Quota {
            sessions: 300,
            ..Quota::NONE
        },
    ] {
        let mut bench = Bench::new(Config {
            sessions_max: 500,
            tcp_filtering: Filtering::Eif,
            quota,
            ..config()
        });
        let server = (C1, 8_080);
        // A neighbour's sessions, finished or not, are not touched.
        let ext = connect(&mut bench, (C2, 5_555), SERVER);
        close(&mut bench, (C2, 5_555), ext, SERVER);
        let ext = connect(&mut bench, server, SERVER);
        for n in 0..3_000 {
            let client = (O2, 1_024 + n);
            assert_eq!(bench.deliver(&tcp(client, ext, SYN)), server);
            assert_eq!(bench.map(&tcp(server, client, SYN_ACK)), ext);
            bench.deliver(&tcp(client, ext, ACK));
            bench.map(&tcp(server, client, FIN_ACK));
            bench.deliver(&tcp(client, ext, FIN_ACK));
            bench.map(&tcp(server, client, ACK));
            bench.now += Nanos::from_millis(1);
        }
        let c1 = account(&bench, C1).unwrap();
        assert_eq!(
            (c1.sessions, c1.ports, c1.refused),
            // Three quarters of the table are for what outsiders open, and its own is one.
            (quota.sessions.min(376), 1, 0)
        );
        assert_eq!(account(&bench, C2).unwrap().sessions, 1);
        assert_eq!(bench.deliver(&tcp(SERVER, ext, ACK)), server);
    }
}

/// A mapping whose only session is ended to make room for one from outside is still there for it.
#[test]
fn a2_7_a_mapping_outlives_the_session_that_made_room() {
    let mut bench = Bench::new(Config {
        sessions_max: 1,
        tcp_filtering: Filtering::Eif,
        ..config()
    });
    let ext = connect(&mut bench, (C1, 8_080), SERVER);
    assert_eq!(
        bench.in_drop(&tcp((O2, 9), ext, SYN)),
        Reason::SessionsExhausted
    );
    close(&mut bench, (C1, 8_080), ext, SERVER);
    assert_eq!(bench.deliver(&tcp((O2, 9), ext, SYN)), (C1, 8_080));
    assert_eq!(bench.nat.counters().mappings_removed, 0);
    assert_eq!(account(&bench, C1).unwrap().ports, 1);
}
