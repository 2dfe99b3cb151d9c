//! F-13: no frame, however malformed, does more than count.
//!
//! Random bytes of every length, valid frames with random damage, every truncation, and offload
//! states that contradict the bytes, into every kind of port. `VSWITCH_FUZZ_SECONDS=600` lengthens
//! it; a failure prints its seed.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use nat::{Nanos, Protocol};
use switch::config::Role;
use switch::frame::{Csum, Gso, Offload};
use switch::mac::Mac;
use switch::random::Random;
use switch::verdict::DropReason;

use super::packet::{self, ACK, ICMP, Ip, SYN, Sum, TCP, Tcp, UDP, arp, ethernet};
use super::publish::publish;
use super::world::{
    EXTERNAL, FAR, GATEWAY, GATEWAY_MAC, HOST, O1, O2, Setup, Steering, UPLINK_MAC, Uplink, World,
    member_ip, member_mac,
};

/// Drops that no frame brings about by itself: a ring's, a queue's or a device's doing, and a limit
/// reached by many alike.
const BEYOND_FRAMES: [DropReason; 12] = [
    DropReason::NatHostQuota,
    DropReason::NatProtocolBusy,
    DropReason::NatHalfOpenFull,
    DropReason::NatSynFlood,
    DropReason::RingFull,
    DropReason::FastPathGone,
    DropReason::Truncated,
    DropReason::HandoverFull,
    DropReason::NatFragmentLimit,
    DropReason::EgressFull,
    DropReason::EgressDown,
    DropReason::EgressRefused,
];

/// A second external address.
const POOLED: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 253);

/// Worlds, and frames in each.
const ROUNDS: u64 = 40;
const FRAMES: usize = 3000;

struct Fuzz {
    world: World,
    random: Random,
}

impl Fuzz {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let ways = [Uplink::Shared, Uplink::Own, Uplink::Routed, Uplink::None];
        let steering = [Steering::Right, Steering::Wrong];
        let mut world = World::new(Setup {
            seed,
            workers: 1 + u16::try_from(random.below(3)).unwrap(),
            uplink: ways[usize::try_from(random.below(4)).unwrap()],
            steering: steering[usize::try_from(random.below(2)).unwrap()],
            host_port: random.below(2) == 0,
            gateway: random.below(8) > 0,
            offloads: random.below(3) > 0,
            mtu: (1500, 600),
            members: 1 + u16::try_from(random.below(3)).unwrap(),
            nat_ports: 40_000..=if random.below(2) == 0 { 40_099 } else { 40_011 },
            sessions: if random.below(2) == 0 { 64 } else { 16 },
            fdb_entries: 32,
            pool: vec![POOLED; usize::from(random.below(2) == 0)],
            untranslated: vec![(FAR, 32); usize::from(random.below(2) == 0)],
            mss_clamp: random.below(2) == 0,
            isolated: (0..3).filter(|_| random.below(2) == 0).collect(),
            ..Setup::default()
        });
        world.greet();
        if random.below(2) == 0 {
            let owner = u16::try_from(random.below(world.setup.workers.into())).unwrap();
            let of = |protocol| publish(protocol, 53..=53, &[(member_ip(0), 5000)], owner);
            world.publish(vec![of(Protocol::Tcp), of(Protocol::Udp)]);
        }
        let (fdb, first) = (world.switch.fdb(), world.wires[0].index);
        fdb.add_static(0, Mac::local(0x777), first, world.now)
            .unwrap();
        // Nobody is there to judge: what comes out may be as wrong as what went in.
        for wire in &mut world.wires {
            wire.hosts.clear();
        }
        Self { world, random }
    }

    fn below(&mut self, bound: u64) -> usize {
        usize::try_from(self.random.below(bound)).unwrap()
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64)]
    }

    /// Every other time what lets a frame get further.
    fn likely<T: Copy>(&mut self, first: T, choices: &[T]) -> T {
        if self.random.below(2) == 0 {
            first
        } else {
            self.pick(choices)
        }
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len)
            .map(|_| self.random.next_u64().to_le_bytes()[0])
            .collect()
    }

    fn ip(&mut self) -> Ip {
        let addresses = [
            member_ip(0),
            member_ip(1),
            member_ip(77),
            GATEWAY,
            EXTERNAL,
            POOLED,
            HOST,
            O1,
            O2,
            FAR,
            [255; 4].into(),
            [127, 0, 0, 1].into(),
            [8, 8, 8, 8].into(),
        ];
        Ip {
            ttl: self.pick(&[0, 1, 2, 64, 64, 64, 64, 255]),
            id: u16::try_from(self.random.below(4)).unwrap(),
            dont_fragment: self.random.below(2) == 0,
            ..Ip::new(self.likely(member_ip(0), &addresses), self.pick(&addresses))
        }
    }

    fn port(&mut self) -> u16 {
        self.pick(&[0, 7, 53, 5000, 40_000, 40_001, 40_050, 40_099, 65_535])
    }

    /// A packet of some protocol, mostly well formed.
    fn packet(&mut self) -> packet::Raw {
        let ip = self.ip();
        let ports = (self.port(), self.port());
        let len = self.pick(&[0, 1, 8, 100, 580, 1000, 1472]);
        let body = self.bytes(len);
        let sum = self.pick(&[Sum::Full, Sum::Partial]);
        match self.random.below(8) {
            0 | 1 => ip.udp(ports, &body, sum),
            2 | 3 => {
                let flags =
                    self.pick(&[SYN, SYN | ACK, ACK, packet::FIN | ACK, packet::RST, 0, 255]);
                let tcp = Tcp {
                    ports,
                    seq: 1,
                    ack: 1,
                    flags,
                };
                ip.tcp(tcp, &body, sum)
            }
            4 => {
                let kind = self.pick(&[0, 3, 5, 8, 11, 12, 13, 14, 99]);
                let inner = self.ip().udp(ports, &body, Sum::Full).0;
                ip.icmp(kind, 1, packet::word(ports.0, 1), &inner)
            }
            5 | 6 => {
                let protocol = self.pick(&[UDP, TCP, ICMP, 132, 47, 33]);
                let offset = 8 * self.pick(&[0, 1, 2, 64, 8000]);
                let more = self.random.below(2) == 0;
                (ip.piece(protocol, &body, offset, more), Offload::PLAIN)
            }
            _ => (
                ip.packet(self.random.next_u64().to_le_bytes()[0], &body),
                Offload::PLAIN,
            ),
        }
    }

    /// IPv6 with extension headers, or none.
    fn packet6(&mut self) -> Vec<u8> {
        let mut packet = vec![
            0x60,
            0,
            0,
            0,
            0,
            60,
            self.pick(&[0, 6, 17, 43, 44, 58, 60]),
            64,
        ];
        packet.extend(self.bytes(32 + 60));
        packet
    }

    fn frame(&mut self) -> (Vec<u8>, Offload) {
        let macs = [
            GATEWAY_MAC,
            UPLINK_MAC,
            member_mac(0),
            member_mac(1),
            Mac::BROADCAST,
            Mac::local(0x777),
            Mac::ZERO,
            Mac([1, 0x80, 0xc2, 0, 0, 0]),
        ];
        let to = self.likely(GATEWAY_MAC, &macs);
        let from = self.likely(member_mac(0), &macs);
        let (mut bytes, offload) = match self.random.below(8) {
            0 => {
                let len = self.below(200);
                (self.bytes(len), Offload::PLAIN)
            }
            1 => {
                let (sender, target) = (self.ip(), self.pick(&macs));
                let operation = self.pick(&[1, 2, 3]);
                let packet = arp(operation, (from, sender.src), (target, sender.dst));
                (ethernet(to, from, 0x0806, &packet), Offload::PLAIN)
            }
            2 => (ethernet(to, from, 0x86dd, &self.packet6()), Offload::PLAIN),
            _ => {
                let (packet, offload) = self.packet();
                let bytes = ethernet(to, from, 0x0800, &packet);
                match self.random.below(12) {
                    0 => self.with_options(bytes, offload),
                    _ => (bytes, offload),
                }
            }
        };
        if self.random.below(10) == 0 && bytes.len() > 12 {
            let tag = self.pick(&[[0x81, 0, 0, 0], [0x81, 0, 0, 5], [0x88, 0xa8, 0x0f, 0xff]]);
            bytes.splice(12..12, tag);
        }
        (bytes, offload)
    }

    /// The same with eight bytes of options: a route, padding, nonsense.
    fn with_options(&mut self, mut bytes: Vec<u8>, mut offload: Offload) -> (Vec<u8>, Offload) {
        let mut options = [1, 131, 7, 4, 1, 2, 3, 0];
        if self.random.below(2) == 0 {
            options.copy_from_slice(&self.bytes(8));
        }
        bytes.splice(34..34, options);
        bytes[14] = 0x47;
        let total = packet::u16_at(&bytes, 16).wrapping_add(8);
        bytes[16..18].copy_from_slice(&total.to_be_bytes());
        refresh_header_sum(&mut bytes);
        if let Csum::Partial { start, .. } = &mut offload.csum {
            *start += 8;
        }
        (bytes, offload)
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, offload: &mut Offload) {
        if !bytes.is_empty() && self.random.below(2) == 0 {
            for _ in 0..=self.random.below(4) {
                let last = bytes.len().min(64) as u64;
                let (at, bit) = (self.below(last), self.random.below(8));
                bytes[at] ^= 1 << bit;
            }
            if self.random.below(2) == 0 {
                refresh_header_sum(bytes);
            }
        }
        match self.random.below(8) {
            0 => {
                let len = self.below(bytes.len() as u64 + 1);
                bytes.truncate(len);
            }
            1 => {
                let more = self.below(80);
                bytes.extend(self.bytes(more));
            }
            2 => *offload = self.wild_offload(),
            _ => {}
        }
    }

    fn wild_offload(&mut self) -> Offload {
        let word = |fuzz: &mut Self| fuzz.pick(&[0, 1, 6, 8, 14, 16, 34, 60, 1460, 65_000, 65_535]);
        let csum = match self.random.below(4) {
            0 => Csum::Complete,
            1 => Csum::Unchecked,
            _ => Csum::Partial {
                start: word(self),
                offset: word(self),
            },
        };
        let (size, ecn) = (word(self).max(1), self.random.below(2) == 0);
        let gso = match self.random.below(5) {
            0 => Gso::None,
            1 => Gso::Tcp6 { mss: size, ecn },
            2 => Gso::Udp { size },
            _ => Gso::Tcp4 { mss: size, ecn },
        };
        Offload { csum, gso }
    }

    fn send(&mut self, place: usize, bytes: &[u8], offload: Offload) {
        self.world.send(place, bytes, offload);
        if self.random.below(16) == 0 {
            let most = self.pick(&[100, 1000, 100_000]);
            let micros = self.random.below(most);
            self.world.step(Nanos::from_micros(micros));
            self.world.clear();
        }
    }

    fn go(&mut self, frames: usize) {
        for _ in 0..frames {
            let (mut bytes, mut offload) = self.frame();
            if self.random.below(3) > 0 {
                self.damage(&mut bytes, &mut offload);
            }
            let place = self.below(self.world.wires.len() as u64);
            self.send(place, &bytes, offload);
        }
        // What still waits for somebody is given up in time.
        for _ in 0..35 {
            self.world.step(Nanos::from_secs(1));
        }
        self.world.run();
        self.world.check();
        assert!(self.world.workers.iter().all(|worker| worker.held() == 0));
    }
}

/// Makes the IPv4 header checksum right again, so that the damage is looked at further in.
fn refresh_header_sum(bytes: &mut [u8]) {
    let Some(packet) = bytes.get_mut(14..) else {
        return;
    };
    let len = packet
        .first()
        .map_or(0, |first| usize::from(first & 15) * 4);
    if len >= 20 && packet.len() >= len {
        packet[10..12].fill(0);
        let sum = !packet::fold(packet::sum16(&packet[..len]));
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
}

/// How long to go on, beyond the usual rounds.
#[expect(
    clippy::disallowed_methods,
    reason = "the one test that a person may give a time"
)]
fn lasts() -> impl Fn() -> bool {
    let asked = std::env::var("VSWITCH_FUZZ_SECONDS").ok();
    let seconds = asked.and_then(|text| text.parse().ok()).unwrap_or(0);
    let (start, time) = (Instant::now(), Duration::from_secs(seconds));
    move || start.elapsed() < time
}

#[test]
fn f_13_no_frame_does_more_than_count() {
    let lasts = lasts();
    let mut seed = 0;
    let mut reasons = BTreeSet::new();
    while seed < ROUNDS || lasts() {
        let mut fuzz = Fuzz::new(seed);
        fuzz.go(FRAMES);
        reasons.extend(fuzz.world.drops().into_keys());
        seed += 1;
    }
    // The damage must get everywhere, or this proves little.
    for reason in DropReason::ALL {
        let met = reasons.contains(reason.word());
        assert!(
            met || BEYOND_FRAMES.contains(reason),
            "no frame met {}",
            reason.word()
        );
    }
}

#[test]
fn f_13_every_length_and_every_truncation() {
    for seed in 0..8 {
        let mut fuzz = Fuzz::new(seed);
        let places = fuzz.world.wires.len();
        for len in 0..=200 {
            for place in 0..places {
                let mut bytes = fuzz.bytes(len);
                // Half of them for somebody.
                if len >= 6 && fuzz.random.below(2) == 0 {
                    let uplink = fuzz.world.wires[place].role == Role::Uplink;
                    let mac = if uplink { UPLINK_MAC } else { GATEWAY_MAC };
                    bytes[..6].copy_from_slice(&mac.0);
                }
                fuzz.send(place, &bytes, Offload::PLAIN);
            }
        }
        for _ in 0..12 {
            let (bytes, offload) = fuzz.frame();
            for len in 0..bytes.len().min(120) {
                let place = fuzz.below(places as u64);
                fuzz.send(place, &bytes[..len], offload);
            }
        }
        fuzz.world.run();
        fuzz.world.check();
    }
}
