//! The Internet checksum: RFC 1071 sums, RFC 1624 updates, and the kernel's partial checksums.
//!
//! # Theory of operation
//! A *partial sum* is a `u32` that holds a one's-complement sum of big-endian 16-bit words, not
//! yet inverted. Partial sums of adjacent pieces are simply added (every piece but the last must
//! have an even length), then [`finish`] folds and inverts the total into a checksum field:
//! `finish(pseudo_v4(src, dst, 17, len) + sum(datagram))`.
//!
//! A field may hold one of two things, and they are edited by different formulas:
//! * a *complete* checksum `HC`: `HC' = ~(~HC + ~m + m')` (RFC 1624 equation 3) for every word
//!   `m` the checksum covers, addresses and ports alike: [`update`], [`update32`];
//! * a *pseudo* sum `S`, what a Linux sender leaves in the field of a frame marked NEEDS_CSUM
//!   (skb `CHECKSUM_PARTIAL`): the folded sum of the pseudo header alone, not inverted, so
//!   `S' = S + ~m + m'` and only for the addresses: [`update_pseudo`]. Ports and payload enter
//!   when the device or the receiver completes the checksum.
//!
//! Both formulas use the same difference `~m + m'`, which [`delta16`] and [`delta32`] compute
//! once so that a session can replay it: [`apply`] on a complete field, [`apply_pseudo`] on a
//! pseudo sum. RFC 1141's equation is not used: it turns 0x0000 into 0xFFFF (RFC 1624 section 3).

use std::net::{Ipv4Addr, Ipv6Addr};

/// Returns the partial sum of `bytes`, already folded below 2^16 so that many can be added.
///
/// An odd last byte is padded with zero on the right (RFC 1071). The sum is taken in native byte
/// order, eight bytes a step, and swapped once at the end, which RFC 1071 section 2(B) allows.
#[must_use]
pub fn sum(bytes: &[u8]) -> u32 {
    let mut chunks = bytes.chunks_exact(8);
    let (mut low, mut high) = (0u64, 0u64);
    for chunk in &mut chunks {
        low += u64::from(u32::from_ne_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]));
        high += u64::from(u32::from_ne_bytes([chunk[4], chunk[5], chunk[6], chunk[7]]));
    }
    let mut total = fold64(low) + fold64(high);
    for pair in chunks.remainder().chunks(2) {
        let last = pair.get(1).copied().unwrap_or(0);
        total += u32::from(u16::from_ne_bytes([pair[0], last]));
    }
    u32::from(u16::from_be(fold(total)))
}

/// Returns the partial sum of an IPv4 header without options: [`sum`] of 20 bytes, without a loop.
#[must_use]
#[inline]
pub fn sum_header(header: &[u8; 20]) -> u32 {
    let (words, _) = header.as_chunks::<4>();
    let words = words
        .iter()
        .map(|word| u64::from(u32::from_ne_bytes(*word)));
    u32::from(u16::from_be(fold(fold64(words.sum()))))
}

/// Folds a 64-bit accumulator to a value below 2^17, keeping it modulo 0xFFFF.
fn fold64(total: u64) -> u32 {
    let total = (total & 0xffff_ffff) + (total >> 32);
    let total = (total & 0xffff) + ((total >> 16) & 0xffff) + (total >> 32);
    low32((total & 0xffff) + (total >> 16))
}

/// Folds a partial sum into 16 bits with end-around carry.
#[must_use]
pub const fn fold(partial: u32) -> u16 {
    let partial = (partial & 0xffff) + (partial >> 16);
    let partial = (partial & 0xffff) + (partial >> 16);
    low16(partial)
}

/// Folds and inverts a partial sum: the value of a checksum field.
///
/// UDP sends a computed zero as 0xFFFF (RFC 768): see [`finish_udp`].
#[must_use]
pub const fn finish(partial: u32) -> u16 {
    !fold(partial)
}

/// Folds and inverts a partial sum for a UDP field, where zero would mean "no checksum".
#[must_use]
pub const fn finish_udp(partial: u32) -> u16 {
    match finish(partial) {
        0 => 0xffff,
        field => field,
    }
}

/// Returns the partial sum of the IPv4 pseudo header (RFC 793 section 3.1, RFC 768).
///
/// `length` is that of the transport header and data in bytes.
#[must_use]
pub const fn pseudo_v4(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, length: u16) -> u32 {
    words32(src.to_bits()) + words32(dst.to_bits()) + protocol as u32 + length as u32
}

/// Returns the partial sum of the IPv6 pseudo header (RFC 8200 section 8.1).
///
/// `length` is the upper-layer packet length in bytes.
#[must_use]
pub fn pseudo_v6(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, length: u32) -> u32 {
    sum(&src.octets()) + sum(&dst.octets()) + u32::from(next_header) + words32(length)
}

/// Returns the difference `~old + new` of one 16-bit word, folded.
#[must_use]
pub const fn delta16(old: u16, new: u16) -> u16 {
    fold(!old as u32 + new as u32)
}

/// Returns the difference `~old + new` of a 32-bit field such as an IPv4 address, folded.
#[must_use]
pub const fn delta32(old: u32, new: u32) -> u16 {
    fold(words32(!old) + words32(new))
}

/// Adds two differences.
#[must_use]
pub const fn join(a: u16, b: u16) -> u16 {
    fold(a as u32 + b as u32)
}

/// Applies a difference to a complete checksum field (RFC 1624 equation 3).
#[must_use]
pub const fn apply(field: u16, delta: u16) -> u16 {
    !fold(!field as u32 + delta as u32)
}

/// Applies a difference to a pseudo sum, as `inet_proto_csum_replace4` does for
/// `CHECKSUM_PARTIAL` (net/core/utils.c).
#[must_use]
pub const fn apply_pseudo(field: u16, delta: u16) -> u16 {
    fold(field as u32 + delta as u32)
}

/// Updates a complete checksum field after one covered word went from `old` to `new`
/// (RFC 1624 equation 3).
#[must_use]
pub const fn update(field: u16, old: u16, new: u16) -> u16 {
    apply(field, delta16(old, new))
}

/// Updates a complete checksum field after a covered 32-bit value went from `old` to `new`.
#[must_use]
pub const fn update32(field: u16, old: u32, new: u32) -> u16 {
    apply(field, delta32(old, new))
}

/// Updates the pseudo sum in a NEEDS_CSUM field after an address went from `old` to `new`.
///
/// Ports are not in a pseudo sum: a port edit leaves the field alone.
#[must_use]
pub const fn update_pseudo(field: u16, old: Ipv4Addr, new: Ipv4Addr) -> u16 {
    apply_pseudo(field, delta32(old.to_bits(), new.to_bits()))
}

const fn words32(value: u32) -> u32 {
    (value >> 16) + (value & 0xffff)
}

/// Keeps the low 16 bits.
const fn low16(value: u32) -> u16 {
    (value & 0xffff) as u16
}

/// Keeps the low 32 bits.
const fn low32(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 as written: one big-endian word at a time.
    fn naive(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
            total = (total & 0xffff) + (total >> 16);
        }
        !u16::try_from(total).unwrap()
    }

    #[test]
    fn rfc1071_section_3_example() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)), 0xddf2);
        assert_eq!(finish(sum(&bytes)), !0xddf2);
    }

    #[test]
    fn rfc1624_section_4_example() {
        // The case RFC 1141's equation gets wrong: the new sum is 0x0000, not 0xFFFF.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn a1_15_computed_zero_becomes_ffff() {
        for word in 0..=u16::MAX {
            assert_ne!(finish_udp(u32::from(word)), 0);
        }
        assert_eq!(finish_udp(0xffff), 0xffff);
        assert_eq!(finish_udp(0x1234), !0x1234);
    }

    #[test]
    fn sums_64_kib_of_ones() {
        let bytes = vec![0xff; 65_536];
        assert_eq!(finish(sum(&bytes)), naive(&bytes));
    }

    proptest! {
        #[test]
        fn sum_equals_naive(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(finish(sum(&bytes)), naive(&bytes));
        }

        #[test]
        fn sum_of_a_header_equals_naive(bytes: [u8; 20]) {
            prop_assert_eq!(finish(sum_header(&bytes)), naive(&bytes));
        }

        #[test]
        fn pieces_add_up(
            bytes in proptest::collection::vec(any::<u8>(), 2..300), at in 0usize..150,
        ) {
            let (head, tail) = bytes.split_at((at * 2).min(bytes.len() & !1));
            prop_assert_eq!(finish(sum(head) + sum(tail)), naive(&bytes));
        }

        #[test]
        fn a1_16_incremental_equals_recompute(
            mut words in proptest::collection::vec(prop_oneof![
                any::<u16>(), Just(0u16), Just(0xffffu16)], 4..40),
            at in any::<proptest::sample::Index>(),
            new in prop_oneof![any::<u16>(), Just(0u16), Just(0xffffu16)],
        ) {
            // As in a packet: the protocol number keeps the covered words from being all zero.
            words[0] = 17;
            let at = 1 + at.index(words.len() - 1);
            let recompute = |words: &[u16]| {
                finish(words.iter().map(|&word| u32::from(word)).sum())
            };
            let before = recompute(&words);
            let old = std::mem::replace(&mut words[at], new);
            prop_assert_eq!(update(before, old, new), recompute(&words));
        }

        #[test]
        fn update32_equals_two_updates(
            payload in proptest::collection::vec(any::<u8>(), 0..64),
            src: [u8; 4], dst: [u8; 4], new: [u8; 4], protocol in 1u8..,
        ) {
            let [src, dst, new] = [src, dst, new].map(Ipv4Addr::from);
            let length = u16::try_from(payload.len()).unwrap();
            let field = |src| finish(pseudo_v4(src, dst, protocol, length) + sum(&payload));
            prop_assert_eq!(update32(field(src), src.to_bits(), new.to_bits()), field(new));
        }

        #[test]
        fn pseudo_update_equals_new_pseudo_sum(
            src: [u8; 4], dst: [u8; 4], new: [u8; 4], protocol in 1u8.., length: u16,
        ) {
            let [src, dst, new] = [src, dst, new].map(Ipv4Addr::from);
            let field = fold(pseudo_v4(src, dst, protocol, length));
            let expected = fold(pseudo_v4(new, dst, protocol, length));
            prop_assert_eq!(update_pseudo(field, src, new), expected);
        }

        #[test]
        fn pseudo_v6_equals_naive(src: [u8; 16], dst: [u8; 16], next: u8, length: u32) {
            let mut header = Vec::new();
            header.extend(src);
            header.extend(dst);
            header.extend(length.to_be_bytes());
            header.extend([0, 0, 0, next]);
            let partial = pseudo_v6(Ipv6Addr::from(src), Ipv6Addr::from(dst), next, length);
            prop_assert_eq!(finish(partial), naive(&header));
        }
    }
}
