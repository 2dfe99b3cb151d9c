//! What is tried out is what happens then, and leaves no trace.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;

use super::fragments::cut;
use super::publish::{SYN, SYN_ACK, both};
use super::*;
use crate::{
    Adopted, Event, Filtering, FragmentLimits, Helpers, Part, Protocol, Publishes, Quota,
    ReleasedPacket, SessionRecord,
};

/// What a packet does, of which hosts, and how long after the last.
type Step = (u8, u8, u16, u16, u64);

type Door = fn(&mut Nat, &mut Packet<'_>, Nanos) -> Outcome;

/// An engine with the table that it shares with others.
struct Engine {
    nat: Nat,
    adopted: Arc<Adopted>,
    now: Nanos,
}

/// All that can be seen of an engine.
#[derive(Debug, PartialEq)]
struct State {
    sessions: (Vec<SessionRecord>, Vec<crate::SessionView>),
    hosts: Vec<crate::HostView>,
    counters: crate::Counters,
    ports: Vec<(u32, u32)>,
    adopted: Vec<Option<u16>>,
    fragments: (usize, usize),
    strangers: (u32, [u32; 2]),
    next_expiry: Option<Nanos>,
    memory: usize,
    events: usize,
}

/// The second of two slices, of which everything is scarce.
fn scarce(filtering: Filtering, hold: u64, preserve_ids: bool) -> Config {
    let fragments = FragmentLimits {
        datagrams_max: 4,
        held_bytes_max: 4_000,
        ..FragmentLimits::default()
    };
    Config {
        slice: 1,
        slices: 2,
        udp_filtering: filtering,
        tcp_filtering: filtering,
        port_hold: secs(hold),
        sessions_max: 40,
        half_open_max: 12,
        quota: Quota {
            sessions: 16,
            ports: 12,
            half_open: 8,
            new_per_sec: 20,
            failed_per_sec: 6,
        },
        ports: 1_022..=1_041,
        pool: vec![O2.into()],
        helpers: Helpers {
            ftp: true,
            tftp: true,
        },
        tcp_overlap: true,
        other_protocols: preserve_ids,
        preserve_ids,
        fragments,
        ..config()
    }
}

impl Engine {
    fn new(config: &Config, seed: u64) -> Self {
        let mut engine = Self {
            nat: Nat::new(config.clone(), seed),
            adopted: Arc::new(Adopted::new(2)),
            now: secs(1_000),
        };
        engine.nat.adopt(Arc::clone(&engine.adopted));
        engine.nat.record_events(true);
        let publishes = Publishes::new(both()).unwrap();
        engine.nat.set_publishes(Arc::new(publishes), engine.now);
        engine
    }

    /// Sessions of the time before a restart, on ports of the other slice.
    fn restore(&mut self) {
        let mut old = Bench::new(Config {
            slice: 0,
            ..scarce(Filtering::Apdf, 0, false)
        });
        for port in 0..4 {
            old.map(&tcp((C1, 1_022 + port), (O1, 80), SYN));
            old.map(&udp((C2, 1_024 + port), (O1, 53)));
        }
        let (records, _) = old.nat.snapshot(Part::ALL, old.now);
        for record in &records {
            assert_eq!(self.nat.restore(record, self.now), Ok(()));
        }
        assert!(!self.adopted.is_empty());
    }

    fn state(&self) -> State {
        let (nat, now) = (&self.nat, self.now);
        let ports = |protocol| (nat.ports_used(protocol), nat.ports_held(protocol));
        let owners = (0..=1).flat_map(|address| (1_000..1_060).map(move |port| (address, port)));
        let adopted = owners.flat_map(|(address, port)| {
            [Protocol::Tcp, Protocol::Udp].map(|it| self.adopted.owner(it, address, port))
        });
        State {
            sessions: (nat.snapshot(Part::ALL, now).0, nat.sessions().collect()),
            hosts: nat.hosts().collect(),
            counters: nat.counters().clone(),
            ports: Protocol::ALL.map(ports).to_vec(),
            adopted: adopted.collect(),
            fragments: nat.fragments.usage(),
            strangers: nat.strangers.counts(),
            next_expiry: nat.next_expiry(),
            memory: nat.memory(),
            events: nat.events_waiting(),
        }
    }

    /// The packets of a step: several, where it is a datagram in fragments.
    fn packets(&self, (what, from, port, to, _): Step) -> Vec<(Door, Vec<u8>)> {
        let inside = ([10, 9, 0, from], 1_020 + port);
        let remote = (O1, 80 + to);
        let flags = [SYN, TcpFlags::ACK, SYN_ACK, TcpFlags::RST, TcpFlags(0x11)];
        let flag = flags[usize::from(what) % flags.len()];
        let out = |bytes| vec![(Nat::outbound as Door, bytes)];
        match what {
            0..=34 => out(tcp(inside, remote, flag)),
            35..=49 => out(udp(inside, remote)),
            50..=54 => out(echo(inside.0, O1, port, false)),
            55..=59 => {
                let mut pieces = cut(&udp_with(inside, remote, &[7; 900]), 304, port);
                let count = pieces.len();
                pieces.rotate_left(usize::from(to) % count);
                let pieces = pieces.into_iter();
                pieces.map(|bytes| (Nat::outbound as Door, bytes)).collect()
            }
            60..=64 => {
                let port_command = b"PORT 10,9,0,2,4,10\r\n";
                let mut bytes = Vec::new();
                PacketBuilder::ipv4(inside.0, O1, 64)
                    .tcp(inside.1, 21, 1_000, 2_000)
                    .ack(3)
                    .write(&mut bytes, port_command)
                    .unwrap();
                out(bytes)
            }
            65..=69 => vec![(Nat::inbound, tcp(remote, (EXT, 8_080), flag))],
            70..=72 => out(udp(inside, (EXT, 8_080))),
            73..=75 => vec![(Nat::hairpin, udp((EXT, 1_039), (EXT, 8_080)))],
            _ => self.answer(flag, usize::from(port * 7 + to)),
        }
    }

    /// The answer to some session, or an error about it.
    fn answer(&self, flag: TcpFlags, nth: usize) -> Vec<(Door, Vec<u8>)> {
        let view = self.nat.sessions().nth(nth % self.nat.len().max(1));
        let Some(view) = view else {
            return Vec::new();
        };
        let octets = |(address, port): (Ipv4Addr, u16)| (address.octets(), port);
        let (remote, external) = (octets(view.remote), octets(view.external));
        let bytes = match view.protocol {
            Protocol::Tcp => tcp(remote, external, flag),
            Protocol::Udp if nth.is_multiple_of(3) => {
                let quoted = udp(external, remote);
                error(O1, external.0, 3, 3, &quoted, 28)
            }
            Protocol::Udp => udp(remote, external),
            Protocol::Icmp => echo(remote.0, external.0, external.1, true),
            Protocol::Sctp | Protocol::Other(_) => return Vec::new(),
        };
        vec![(Nat::inbound, bytes)]
    }

    /// What becomes of packets, and of those that they release.
    fn play(&mut self, packets: &[(Door, Vec<u8>)]) -> Vec<Played> {
        let mut play = |(door, bytes): &(Door, Vec<u8>)| {
            let mut bytes = bytes.clone();
            let l4_sum = L4Sum::Full;
            let mut packet = Packet {
                bytes: &mut bytes,
                l4_sum,
            };
            let outcome = door(&mut self.nat, &mut packet, self.now);
            let released = std::iter::from_fn(|| self.nat.released()).collect();
            (outcome, bytes, released)
        };
        packets.iter().map(&mut play).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        assert_eq!(self.nat.take_events(&mut events), 0);
        events
    }
}

type Played = (Outcome, Vec<u8>, Vec<ReleasedPacket>);

fn step() -> impl Strategy<Value = Step> {
    (0u8..110, 0u8..5, 0u16..9, 0u16..4, 0u64..20_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// One engine tries out every packet first, and others that never come; another does not. Both
    /// do the same, and what was tried is what happens.
    #[test]
    fn what_is_tried_out_happens_then_and_nothing_else(
        steps in vec((step(), vec(step(), 0..6)), 1..60),
        seed: u64, filtering in 0usize..3, hold in 0u64..40, preserve_ids: bool, restarted: bool,
    ) {
        let filtering = [Filtering::Apdf, Filtering::Adf, Filtering::Eif][filtering];
        let config = scarce(filtering, hold, preserve_ids);
        let mut tried = Engine::new(&config, seed);
        let mut plain = Engine::new(&config, seed);
        if restarted {
            tried.restore();
            plain.restore();
        }
        for (step, others) in steps {
            tried.now += Nanos::from_millis(step.4);
            plain.now = tried.now;
            let before = tried.state();
            let packets = plain.packets(step);
            tried.nat.begin_trial();
            prop_assert!(tried.nat.is_on_trial());
            let tried_out = tried.play(&packets);
            let on_trial = tried.nat.counters().clone();
            for other in others {
                let packets = tried.packets(other);
                tried.play(&packets);
            }
            tried.nat.end_trial();
            prop_assert!(!tried.nat.is_on_trial());
            prop_assert_eq!(tried.state(), before);

            let (happened, would_have) = (tried.play(&packets), plain.play(&packets));
            prop_assert_eq!(&tried_out, &happened);
            prop_assert_eq!(&happened, &would_have);
            prop_assert_eq!(tried.nat.counters(), &on_trial);
            prop_assert_eq!(tried.state(), plain.state());
            prop_assert_eq!(tried.events(), plain.events());
            let budget = usize::from(step.0);
            let ended = [&mut tried, &mut plain].map(|it| it.nat.expire(it.now, budget));
            prop_assert_eq!(ended[0], ended[1]);
        }
        tried.now += secs(100_000);
        tried.nat.expire(tried.now, usize::MAX);
        prop_assert!(tried.nat.is_empty() && tried.adopted.is_empty());
    }
}

#[test]
fn a_trial_within_a_trial_is_the_same_trial() {
    let mut bench = Bench::new(config());
    bench.nat.end_trial();
    bench.nat.begin_trial();
    bench.map(&udp((C1, 5_555), (O1, 53)));
    bench.nat.begin_trial();
    assert_eq!(bench.nat.len(), 1);
    bench.nat.end_trial();
    assert!(bench.nat.is_empty() && !bench.nat.is_on_trial());
}

/// What a trial costs does not depend on how many sessions there are.
#[test]
fn a_trial_takes_little_memory_however_many_sessions_there_are() {
    let trial = |sessions: u32| {
        let mut config = Config::new(EXT.into(), 1_024..=65_535);
        config.sessions_max = 100_000;
        let mut bench = Bench::new(config);
        for n in 0..sessions {
            let port = 1_024 + u16::try_from(n % 60_000).unwrap();
            bench.map(&udp((C1, port), (O1, 9 + u16::from(n >= 60_000))));
        }
        let packet = udp((C1, 1_030), (O2, 7));
        let taken = allocation_counter::measure(|| {
            bench.nat.begin_trial();
            bench.map(&packet);
            bench.nat.end_trial();
        });
        assert_eq!(bench.nat.len(), crate::slab::at(sessions));
        (taken.bytes_max, taken.bytes_current)
    };
    let (few, many) = (trial(10), trial(90_000));
    assert_eq!((few.1, many.1), (0, 0), "all of it is given back");
    assert!(few.0 < 100_000, "{few:?}");
    assert!(many.0.abs_diff(few.0) < 4_000, "{few:?} {many:?}");
}
