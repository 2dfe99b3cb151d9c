//! Bursts, pauses and nonsense: traps 13, 24, 25.

use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::craft;
use vswitch_cli::lab::traffic::frames::Wire;
use vswitch_cli::lab::traffic::ping::Ping;

use super::frames::{arp_reply, count_experimental, experimental, open};
use super::traffic::{everything, tcp_both_ways};
use super::world::Times::{Any, Exactly};
use super::world::{SECOND, World, eventually, mac_text, soak, world};

/// Repeatable pseudo-random numbers (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

#[test]
fn trap_13_a_burst_into_a_stopped_program_is_counted_to_the_frame() {
    let world = world()
        .no_uplink()
        .args("--port veth1,ring=256KiB --port veth2")
        .start();
    let (to, from) = (world.net.mac(2), world.net.mac(1));
    open(world.c(2))
        .send(&experimental(craft::BROADCAST, to, 46, 0))
        .unwrap();
    eventually("c2 is learned", || {
        world.stations().contains_key(&mac_text(to))
    });
    let before = world.quiet()["received"].as_u64().unwrap();
    let (wire, seen) = (open(world.c(1)), count_experimental(world.c(2)));
    let sent = 1000_u64;
    world.process.signal(Signal::SIGSTOP).unwrap();
    for i in 0..sent {
        wire.send(&experimental(to, from, 100, i.to_le_bytes()[0]))
            .unwrap();
    }
    world.process.signal(Signal::SIGCONT).unwrap();
    eventually("every frame is accounted for", || {
        seen.count() + world.dropped("RING_FULL") == sent
    });
    let lost = world.dropped("RING_FULL");
    assert!(lost > 0 && lost < sent, "{lost} of {sent} lost");
    let received = world.quiet()["received"].as_u64().unwrap();
    assert_eq!(received - before, sent, "lost ones came in too");
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)).count(3));
    world.finish(&[("RING_FULL", Exactly(lost))]);
}

#[test]
fn trap_24_no_wake_is_missed_whatever_the_pauses() {
    no_wake_is_missed("--workers 2");
}

#[test]
fn trap_24_no_wake_is_missed_by_a_worker_that_never_spins() {
    no_wake_is_missed("--workers 1 --busy-poll 0");
}

fn no_wake_is_missed(args: &str) {
    let world = world().args(args).start();
    let pauses = [(world.c(1), world.ip(2)), (world.c(2), Topology::OUTSIDE)];
    thread::scope(|scope| {
        for (seed, (host, to)) in (0..).zip(pauses) {
            let world = &world;
            scope.spawn(move || steady(world, host, to, seed));
        }
    });
    world.finish(&[]);
}

/// Single requests after pauses around the worker's own times: its spin of 50 µs, its ticks. A
/// missed wake would cost a whole tick, 100 ms or more.
fn steady(world: &World, host: &vswitch_cli::lab::Host, to: std::net::Ipv4Addr, seed: u64) {
    let mut random = Random(seed);
    let until = Instant::now() + soak(3 * SECOND);
    let mut late = 0;
    let mut rounds = 0;
    while Instant::now() < until {
        let report = world.ping_perfectly(host, &Ping::to(to));
        late += u32::from(report.rtts.max().unwrap() > Duration::from_millis(90));
        rounds += 1;
        let micros = match random.below(4) {
            0 => random.below(100),
            1 => random.below(2000),
            _ => random.below(20_000),
        };
        thread::sleep(Duration::from_micros(micros as u64));
    }
    assert!(
        rounds > 20 && late * 20 < rounds,
        "{late} of {rounds} were late"
    );
}

#[test]
fn trap_25_nonsense_from_a_container_and_from_outside() {
    let world = world()
        .containers(3)
        .csum_errors()
        .refusals()
        .host_answers()
        .start();
    let mut ports = [open(world.c(1)), open(world.o())];
    let gateway = world.net.gateway();
    ports[0]
        .send(&craft::arp_request(world.net.mac(1), world.ip(1), gateway))
        .unwrap();
    let mac: [u8; 6] = arp_reply(&mut ports[0], gateway, SECOND).unwrap()[6..12]
        .try_into()
        .unwrap();
    let uplink = world.h().link(Topology::UPLINK).unwrap().mac.unwrap().0;
    let seed = 25;
    let mut random = Random(seed);
    let until = Instant::now() + soak(2 * SECOND);
    let mut sent = 0_u64;
    while Instant::now() < until {
        for (wire, from, to) in [
            (&ports[0], world.net.mac(1), mac),
            (&ports[1], [2, 0xaa, 203, 0, 113, 1], uplink),
        ] {
            sent += u64::from(nonsense(wire, &world, &mut random, (from, to)));
        }
    }
    assert!(sent > 1000, "{sent} frames");
    // It lives, and carries what others send.
    tcp_both_ways(world.c(2), world.c(3), world.ip(3), 2 << 20);
    everything(world.c(2), world.o(), Topology::OUTSIDE, 1 << 20);
    world.check_conservation();
    let known = world.drops();
    let known: Vec<_> = known.keys().map(|reason| (reason.as_str(), Any)).collect();
    world.finish(&known);
}

/// Sends one frame that began as a good one; whether the kernel took it.
fn nonsense(
    wire: &Wire,
    world: &World,
    random: &mut Random,
    (from, to): ([u8; 6], [u8; 6]),
) -> bool {
    use std::net::SocketAddrV4;
    let inside = from[1] == 0x77;
    let (source, destination) = if inside {
        (world.ip(1), Topology::OUTSIDE)
    } else {
        (Topology::OUTSIDE, Topology::HOST)
    };
    let port = |random: &mut Random| 61_000 + u16::from(random.byte());
    let (a, b) = (port(random), port(random));
    let (a, b) = (
        SocketAddrV4::new(source, a),
        SocketAddrV4::new(destination, b),
    );
    let payload: Vec<u8> = (0..random.below(200)).map(|_| random.byte()).collect();
    let (protocol, body) = match random.below(4) {
        0 => (
            craft::UDP,
            craft::udp(a, b, &payload, craft::Checksum::Right),
        ),
        1 => (
            craft::ICMP,
            craft::icmp(random.byte() % 20, random.byte() % 16, &payload, &payload),
        ),
        2 => {
            let flags = random.byte();
            let segment = craft::Segment {
                source: a,
                destination: b,
                seq: 1,
                ack: 2,
                flags,
                window: 100,
            };
            (craft::TCP, segment.bytes(&payload, craft::Checksum::Right))
        }
        _ => (random.byte(), payload),
    };
    let packet = craft::Ipv4 {
        id: 7,
        ..craft::Ipv4::new(source, destination, protocol)
    };
    let kind = if random.below(8) == 0 {
        craft::ETHERTYPE_ARP
    } else {
        craft::ETHERTYPE_IPV4
    };
    let mut frame = craft::ethernet(to, from, kind, &packet.packet(&body));
    for _ in 0..random.below(5) {
        // Headers more often than payload; the source address stays, or all of it would be
        // refused at once.
        let at = 12 + random.below((frame.len() - 12).min(60));
        frame[at] = random.byte();
    }
    if random.below(4) == 0 {
        frame.truncate(14 + random.below(frame.len() - 13));
    }
    if random.below(6) == 0 {
        frame = craft::tagged(&frame, 0x8100, u16::from(random.byte()));
    }
    wire.send(&frame).is_ok()
}
