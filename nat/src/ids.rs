//! The identification of packets that are, or may become, fragments.
//!
//! # Theory of operation
//! Behind one address several hosts draw identifications without knowing of each other, so two
//! datagrams with the same one could be on their way to the same remote, whose reassembly would
//! mix them. A NAT must therefore choose them anew (RFC 6864 section 5.3.1, RFC 7857 section 10):
//! unique for (source, destination, protocol) while fragments may live. Atomic packets (DF set,
//! not a fragment) need none and keep theirs.
//!
//! As in Linux (`ip_idents_reserve`) there is a fixed array of counters, chosen by a keyed hash
//! of the three; the hash also gives each triple an offset of its own, so that one remote cannot
//! read from its packets how many others get. Triples that share a counter only use it up faster.
//! Engines share the external address without talking, so each slice numbers within a part of
//! its own.

use crate::checksum;
use crate::hash::HashKey;
use crate::wire::Ipv4;

/// Counters; as many as Linux has on a small machine (`inet_initpeers`).
const COUNTERS: usize = 2_048;
/// A packet longer than the usual MTU may be a super-frame. The device that cuts it counts the
/// identification up by one for each piece, of at least so many bytes.
const PIECE_BYTES_MIN: usize = 512;
const PIECES_FROM: usize = 1_500;

/// The DF bit, read in place since most packets have it and need no more.
const FLAGS: usize = 6;
const DONT_FRAGMENT: u8 = 0x40;

/// The counters of one slice.
#[derive(Clone)]
pub(crate) struct Ids {
    counters: Box<[u16]>,
    key: HashKey,
    /// The slice's part of all identifications.
    first: u16,
    width: u16,
}

impl Ids {
    pub(crate) fn new(slice: u16, slices: u16, key: HashKey) -> Self {
        // One slice alone has 65,535 and not 65,536: nothing is lost but one number.
        let width = u16::MAX / slices.max(1);
        Self {
            counters: vec![0; COUNTERS].into_boxed_slice(),
            key,
            first: width.saturating_mul(slice),
            width: width.max(1),
        }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        size_of_val::<[u16]>(&self.counters)
    }

    /// Returns the counters, whose order only an engine of the same seed can make sense of.
    pub(crate) fn counters(&self) -> &[u16] {
        &self.counters
    }

    /// Goes on from these, as far as they are there.
    pub(crate) fn set_counters(&mut self, counters: &[u16]) {
        for (counter, set) in self.counters.iter_mut().zip(counters) {
            *counter = *set;
        }
    }

    /// Gives a whole packet with its external source a new identification, unless it is atomic.
    pub(crate) fn renew(&mut self, bytes: &mut [u8]) {
        let atomic = bytes
            .get(FLAGS)
            .is_none_or(|flags| flags & DONT_FRAGMENT != 0);
        if !atomic {
            let id = self.draw(bytes);
            set(bytes, id);
        }
    }

    /// Draws the identification for a packet, or for the datagram of this first fragment; its
    /// source must be the external address.
    pub(crate) fn draw(&mut self, bytes: &[u8]) -> u16 {
        let Ok(ip) = Ipv4::parse(bytes) else {
            return self.first;
        };
        let addresses = u64::from(ip.src().to_bits()) << 32 | u64::from(ip.dst().to_bits());
        let hash = self.key.hash(addresses, u64::from(ip.protocol()));
        let pieces = match ip.total_len() {
            length if length > PIECES_FROM => length / PIECE_BYTES_MIN + 1,
            _ => 1,
        };
        let width = u64::from(self.width);
        let place = usize::try_from(hash % COUNTERS as u64).unwrap_or(0);
        let counter = &mut self.counters[place];
        let offset = (hash >> 32) % width;
        let mut at = (u64::from(*counter) + offset) % width;
        let mut used = pieces as u64;
        // The pieces of one packet follow each other without a gap, so none may wrap around.
        if at + used > width && used <= width {
            used += width - at;
            at = 0;
        }
        *counter = u16::try_from((u64::from(*counter) + used) % width).unwrap_or(0);
        self.first + u16::try_from(at).unwrap_or(0)
    }
}

/// Replaces the identification in an IPv4 header, whose checksum follows.
pub(crate) fn set(bytes: &mut [u8], id: u16) {
    if let Ok(mut ip) = Ipv4::parse(bytes) {
        let field = checksum::update(ip.checksum(), ip.id(), id);
        ip.set_checksum(field);
        ip.set_id(id);
    }
}

/// Replaces the total length in an IPv4 header of as many bytes, whose checksum follows.
pub(crate) fn set_total_len(bytes: &mut [u8], total_len: u16) {
    if let Ok(mut ip) = Ipv4::parse_quoted(bytes) {
        let old = u16::try_from(ip.total_len()).unwrap_or(u16::MAX);
        let field = checksum::update(ip.checksum(), old, total_len);
        ip.set_checksum(field);
        ip.set_total_len(total_len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Ipv4Header;
    use std::collections::HashSet;

    fn ids(slice: u16, slices: u16) -> Ids {
        Ids::new(slice, slices, HashKey::new(3, 6))
    }

    fn packet(dst: u8, payload_len: u16) -> Vec<u8> {
        let header = Ipv4Header {
            payload_len,
            dst: [198, 51, 100, dst].into(),
            protocol: 17,
            ..Ipv4Header::default()
        };
        let mut bytes = header.to_bytes().to_vec();
        bytes.resize(20 + usize::from(payload_len), 0);
        bytes
    }

    #[test]
    fn a5_4_unique_per_triple_as_long_as_there_are_numbers() {
        for (slices, expected) in [(1, 65_535), (2, 32_767), (7, 9_362)] {
            let mut all = HashSet::new();
            for slice in 0..slices {
                let mut ids = ids(slice, slices);
                let bytes = packet(1, 8);
                for _ in 0..expected {
                    assert!(all.insert(ids.draw(&bytes)), "slice {slice} of {slices}");
                }
            }
            assert_eq!(all.len(), usize::from(slices) * expected);
        }
        // Many slices, few numbers: still in range.
        assert_eq!(ids(39_999, 40_000).draw(&packet(1, 8)), 39_999);
    }

    #[test]
    fn a5_4_destinations_do_not_tell_of_each_other() {
        let mut ids = ids(0, 1);
        let starts: HashSet<_> = (0..50).map(|dst| ids.draw(&packet(dst, 8))).collect();
        assert!(starts.len() > 45);
        let (a, b) = (ids.draw(&packet(1, 8)), ids.draw(&packet(1, 8)));
        assert_eq!(b.wrapping_sub(a), 1);
    }

    #[test]
    fn a5_4_a_super_frame_takes_a_number_for_each_piece() {
        let mut ids = ids(1, 3);
        let part = 21_845..43_690u32;
        let mut before: Option<u32> = None;
        for _ in 0..2_000 {
            let id = u32::from(ids.draw(&packet(1, 60_000)));
            // 42 pieces of 1,448 bytes at most follow, all within the slice's part.
            assert!(part.contains(&id) && part.contains(&(id + 42)));
            if let Some(before) = before.filter(|&before| before < id) {
                assert!(id - before >= 42);
            }
            before = Some(id);
        }
    }

    #[test]
    fn a5_4_only_atomic_packets_keep_theirs() {
        let mut ids = ids(0, 1);
        for dont_fragment in [false, true] {
            let mut bytes = packet(1, 8);
            bytes[4..6].copy_from_slice(&[0x12, 0x34]);
            bytes[6] = u8::from(dont_fragment) << 6;
            let mut ip = Ipv4::parse(&mut bytes[..]).unwrap();
            ip.fill_checksum();
            ids.renew(&mut bytes);
            let ip = Ipv4::parse(&bytes[..]).unwrap();
            assert!(ip.verify_checksum());
            assert_eq!(ip.id() == 0x1234, dont_fragment);
        }
    }
}
