//! SipHash-1-3 over two words, under a key of this boot.
//!
//! Inside hosts and outsiders choose the tuples that are hashed, so an unkeyed hash would let
//! them fill one bucket. SipHash (Aumasson and Bernstein, 2012) is what the kernel's connection
//! tracking uses (nf_conntrack_core.c, siphash); the 1-3 variant is what Rust's own tables use.

/// A keyed pseudo-random function from 128 bits to 64.
#[derive(Clone, Copy)]
pub(crate) struct HashKey {
    k0: u64,
    k1: u64,
}

impl HashKey {
    /// Expands a seed into a key; `purpose` makes keys of different uses independent.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let base = Self {
            k0: seed,
            k1: seed.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15,
        };
        Self {
            k0: base.hash(purpose, 0),
            k1: base.hash(purpose, 1),
        }
    }

    /// Hashes two words, as `DefaultHasher` with this key would hash two `write_u64`.
    pub(crate) fn hash(self, a: u64, b: u64) -> u64 {
        let mut state = [
            self.k0 ^ 0x736f_6d65_7073_6575,
            self.k1 ^ 0x646f_7261_6e64_6f6d,
            self.k0 ^ 0x6c79_6765_6e65_7261,
            self.k1 ^ 0x7465_6462_7974_6573,
        ];
        for word in [a, b, 16 << 56] {
            state[3] ^= word;
            round(&mut state);
            state[0] ^= word;
        }
        state[2] ^= 0xff;
        for _ in 0..3 {
            round(&mut state);
        }
        state[0] ^ state[1] ^ state[2] ^ state[3]
    }
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::hash::{DefaultHasher, Hasher};

    proptest! {
        #[test]
        fn zero_key_equals_the_standard_librarys_siphash(a: u64, b: u64) {
            let mut theirs = DefaultHasher::new();
            theirs.write(&a.to_le_bytes());
            theirs.write(&b.to_le_bytes());
            prop_assert_eq!(HashKey { k0: 0, k1: 0 }.hash(a, b), theirs.finish());
        }
    }

    #[test]
    fn seeds_and_purposes_give_different_keys() {
        let hash = |seed, purpose| HashKey::new(seed, purpose).hash(1, 2);
        assert_ne!(hash(1, 1), hash(1, 2));
        assert_ne!(hash(1, 1), hash(2, 1));
        assert_eq!(hash(7, 7), hash(7, 7));
    }
}
