//! Fuzz targets: each takes any bytes, plays them to the code that ships, and panics if something
//! that must always hold does not.
//!
//! # Theory of operation
//! A target reads its input as a little program ([`Input`]): a few bytes choose the setting, the
//! rest are frames, packets, cuts. Every input means something, so that a fuzzer's mutations stay
//! useful, and one input always plays the same course: time, seeds and devices are fixed.
//!
//! | target | what must hold |
//! |---|---|
//! | [`frame`] | no panic, and every frame is accounted for, for any frames with any offload state on any port |
//! | [`nat_roundtrip`] | translated out and back is what was sent, and every checksum is right on the way |
//! | [`fragments`] | the parts of a datagram come out once each with one source, in whatever order and size; memory stays bounded |
//! | [`icmp_inner`] | an error that passes quotes the inside endpoint and has right checksums |
//!
//! `cargo test` replays the committed corpus of each ([`corpus`]); FUZZING.md says how to search on.

#![expect(
    clippy::unwrap_used,
    reason = "a target that cannot set up its scene has nothing to say"
)]

pub mod corpus;
pub mod fragments;
pub mod frame;
pub mod icmp_inner;
pub mod nat_roundtrip;
mod packet;

/// A fuzz target.
pub type Target = fn(&[u8]);

/// The targets by the name of their corpus.
pub const TARGETS: [(&str, Target); 4] = [
    ("frame", frame::run),
    ("nat_roundtrip", nat_roundtrip::run),
    ("fragments", fragments::run),
    ("icmp_inner", icmp_inner::run),
];

/// Bytes read as choices; past the end every choice is 0.
#[derive(Debug)]
pub struct Input<'i>(&'i [u8]);

impl<'i> Input<'i> {
    /// Reads from the first byte on.
    #[must_use]
    pub const fn new(bytes: &'i [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all is read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    /// Two bytes, big endian.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// One of the choices.
    pub fn pick<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        choices[usize::from(self.byte()) % N]
    }

    /// The next bytes, up to `count`.
    pub fn take(&mut self, count: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'i [u8] {
        self.take(usize::MAX)
    }
}
