//! What the tables take, and how their memory is fetched ahead of a batch.

use std::ops::Range;

use crate::Nanos;
use crate::engine::Nat;
use crate::few;
use crate::outcome::Direction;
use crate::publish::Publishes;
use crate::rewrite::Protocol;
use crate::session::{Side, Tuple};
use crate::wire::{Ipv4, protocol};

/// Sessions that fit the processor's second-level cache beside all else that a packet needs: with
/// their share of the index these are 256 KiB.
const CACHED_SESSIONS: usize = 2_048;
/// Of the last batch's packets, those that opened a session so that the next batch's may be
/// expected to: what a new session touches is seldom in a cache, however few there are.
const MANY_NEW: u64 = 8;
/// What is published, with the counts that go with an `Arc`. The entries are all engines' together.
const PUBLISHES_BYTES: usize = size_of::<Publishes>() + 2 * size_of::<usize>();

impl Nat {
    /// Packets that [`Nat::announce`] takes at once.
    pub const ANNOUNCED_MAX: usize = few::MAX;

    /// Returns the bytes that all tables together have taken from the allocator.
    ///
    /// They were taken at the start and neither grow nor shrink; only fragments that are held
    /// ([`FragmentLimits::held_bytes_max`](crate::FragmentLimits::held_bytes_max)) come on top.
    /// Taken does not mean touched: pages are the kernel's until sessions first fill them.
    #[must_use]
    pub fn memory(&self) -> usize {
        let peers = self.peers.as_ref().map_or(0, crate::peers::Peers::memory);
        let alg = self.alg.as_ref().map_or(0, |alg| alg.memory());
        self.sessions.memory()
            + self.mappings.memory()
            + peers
            + self.hosts.memory()
            + self.links.memory()
            + self.fragments.memory()
            + self.ids.memory()
            + self.knocks.memory()
            + alg
            + PUBLISHES_BYTES
    }

    /// Returns where the tables lie that packets reach into at random, to be backed by large
    /// pages if the caller can have it so.
    ///
    /// Do it before the first packet: until then the allocator has not touched them.
    pub fn rooms(&self) -> impl Iterator<Item = Range<*const u8>> {
        let mappings = self.mappings.rooms();
        let rooms = self.sessions.rooms().into_iter().chain(mappings);
        rooms.chain([self.knocks.room()])
    }

    /// Returns whether packets wait for memory rather than for the processor, because the live
    /// sessions no longer fit a cache, or because many have been opened since this was asked last.
    /// Then it pays to [`announce`](Self::announce) them. To be asked once a batch.
    #[must_use]
    #[inline]
    pub fn waits_for_memory(&mut self) -> bool {
        let before = std::mem::replace(&mut self.created_before, self.counters.sessions_created);
        let new = self.created_before.saturating_sub(before);
        new >= MANY_NEW || self.sessions.len() > CACHED_SESSIONS
    }

    /// Has the sessions of a batch of packets fetched before the first is translated, so that
    /// they wait for memory together and not one after the other.
    ///
    /// Each packet is given from the first byte of its IPv4 header, with the way it will be
    /// translated; [`Nat::ANNOUNCED_MAX`] are taken. `fetch` is to ask the processor for the cache
    /// line at an address, without waiting for it; it may be called with any. It is only a hint:
    /// nothing that can be observed depends on it, and what is announced need not come, nor come
    /// unchanged.
    pub fn announce<'p>(
        &mut self,
        packets: impl Iterator<Item = (&'p [u8], Direction)>,
        fetch: impl Fn(*const u8),
    ) {
        let tuples = packets.filter_map(|(bytes, direction)| tuple(bytes, direction));
        let strange = self.sessions.fetch(tuples, &fetch);
        let new = strange
            .iter()
            .filter(|tuple| tuple.from == Side::Inside)
            .map(|tuple| (tuple.protocol, tuple.ours));
        self.mappings.fetch_new(new, &fetch);
        let answers = strange.iter().filter_map(|tuple| match tuple.from {
            Side::Inside => Some(Tuple {
                from: Side::Outside,
                ours: self.mappings.foresee(tuple.protocol, tuple.ours)?,
                ..*tuple
            }),
            Side::Outside => None,
        });
        self.sessions.fetch_new(answers, &fetch);
    }

    /// Has the sessions fetched that will be looked at next, up to `budget` of them, and what their
    /// end takes, so that they too wait for memory together.
    pub(crate) fn announce_due(&mut self, now: Nanos, budget: usize) {
        let over = self.sessions.fetch_due(now, budget);
        let sessions = over.iter().filter_map(|&id| self.sessions.get(id));
        self.mappings.fetch_ending(sessions);
    }
}

/// The tuple by which a packet will be looked up, if it is one of those that come by the million:
/// whole, and with ports. Whether it is a good packet is not looked at, and all others are found
/// unannounced.
#[inline]
fn tuple(bytes: &[u8], direction: Direction) -> Option<Tuple> {
    let ip = Ipv4::parse(bytes).ok()?;
    let protocol = match ip.protocol() {
        protocol::TCP => Protocol::Tcp,
        protocol::UDP => Protocol::Udp,
        protocol::SCTP => Protocol::Sctp,
        _ => return None,
    };
    // All three begin with the source port and the destination port.
    let ports: &[u8; 4] = bytes.get(ip.header_len()..)?.first_chunk()?;
    if ip.is_fragment() {
        return None;
    }
    let source = (ip.src(), u16::from_be_bytes([ports[0], ports[1]]));
    let destination = (ip.dst(), u16::from_be_bytes([ports[2], ports[3]]));
    let (from, ours, remote) = match direction {
        Direction::Outbound => (Side::Inside, source, destination),
        Direction::Inbound | Direction::Hairpin => (Side::Outside, destination, source),
    };
    Some(Tuple {
        from,
        protocol,
        ours,
        remote,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::at;
    use crate::tests::{C1, EXT, O1, config, secs, udp};
    use crate::{Config, L4Sum, Nanos, Outcome, Packet};

    const MILLION: u32 = 1_000_000;

    const PACKET_LEN: usize = 35;

    fn packet(n: u32) -> Vec<u8> {
        let mut bytes = udp((C1, 1), (O1, 1));
        set_flow(&mut bytes, n);
        bytes
    }

    /// The `n`-th flow of a million: 62,500 inside ports with 16 remote ports each.
    fn set_flow(bytes: &mut [u8], n: u32) {
        let port = |n: u32| u16::try_from(n).unwrap().to_be_bytes();
        bytes[20..22].copy_from_slice(&port(1_024 + n % 62_500));
        bytes[22..24].copy_from_slice(&port(1 + n / 62_500));
        // No checksum.
        bytes[26..28].fill(0);
    }

    fn send(nat: &mut Nat, bytes: &mut [u8], now: Nanos) -> Outcome {
        let packet = &mut Packet {
            bytes,
            l4_sum: L4Sum::Full,
        };
        nat.outbound(packet, now)
    }

    #[test]
    fn a4_3_a_million_sessions_take_160_bytes_each_all_at_the_start() {
        let mut nat = None;
        let taken = allocation_counter::measure(|| {
            let mut config = Config::new(EXT.into(), 1_024..=65_535);
            config.sessions_max = MILLION;
            nat = Some(Nat::new(config, 3));
        });
        let mut nat = nat.unwrap();
        let memory = nat.memory();
        assert_eq!(
            u64::try_from(memory).unwrap(),
            taken.bytes_current.cast_unsigned(),
            "Nat::memory leaves something out, or counts it twice"
        );
        assert!(memory <= 160_000_000, "{memory}");
        let rooms = nat.rooms().map(|room| room.end.addr() - room.start.addr());
        assert!((memory / 10 * 8..memory).contains(&rooms.sum()));

        // The second round finds every slot used before.
        for (round, sessions) in [(0, MILLION), (1, MILLION / 8)] {
            let now = secs(round * 400);
            let mut template = packet(0);
            let filled = allocation_counter::measure(|| {
                for n in 0..sessions {
                    let mut bytes = [0; PACKET_LEN];
                    set_flow(&mut template, n);
                    bytes.copy_from_slice(&template);
                    assert_eq!(send(&mut nat, &mut bytes, now), Outcome::Translated);
                }
            });
            assert_eq!(filled.count_total, 0, "a packet allocates");
            assert_eq!(nat.len(), at(sessions), "every session has its place");
            let ended = nat.expire(now + secs(302), usize::MAX);
            assert_eq!((ended, nat.len()), (at(sessions), 0));
        }
        assert_eq!(nat.memory(), memory, "nothing grew");
    }

    #[test]
    fn each_kind_of_filtering_is_counted_too() {
        let plain = Nat::new(config(), 1).memory();
        let mut config = config();
        config.udp_filtering = crate::Filtering::Adf;
        let mut nat = None;
        let taken = allocation_counter::measure(|| nat = Some(Nat::new(config, 1)));
        let memory = nat.unwrap().memory();
        assert_eq!(
            u64::try_from(memory).unwrap(),
            taken.bytes_current.cast_unsigned()
        );
        assert!(memory > plain);
    }

    /// Two engines get the same packets, one of them announced first, with others that never come.
    #[test]
    fn what_is_announced_is_translated_as_any_other() {
        let (mut told, mut untold) = (Nat::new(config(), 5), Nat::new(config(), 5));
        for round in 0..40 {
            let now = secs(u64::from(round) * 20);
            let batch: Vec<_> = (0..64)
                .map(|n| packet((round * 37 + n * 11) % 900))
                .collect();
            let others = [vec![], vec![0x45; 20], packet(5_000)];
            let announced = batch.iter().chain(&others);
            let nothing = |_: *const u8| {};
            let announced = announced.map(|bytes| (&bytes[..], Direction::Outbound));
            told.announce(announced, nothing);
            let replies = batch.iter().map(|bytes| (&bytes[..], Direction::Inbound));
            told.announce(replies, nothing);
            for bytes in batch {
                let outcome = send(&mut told, &mut bytes.clone(), now);
                assert_eq!(outcome, send(&mut untold, &mut bytes.clone(), now));
            }
            assert!(told.sessions().eq(untold.sessions()));
        }
        assert!(!told.is_empty());
        assert!(
            told.waits_for_memory(),
            "all of them are new since the start"
        );
        assert!(!told.waits_for_memory(), "and none since");
    }
}
