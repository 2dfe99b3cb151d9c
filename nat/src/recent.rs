//! What was worked out last, so that packets of one flow do not have it worked out again.

use crate::hash::HashKey;
use crate::session::Tuple;

/// The sessions found last. Packets come in trains, and the keyed hash costs more than all else of
/// a look-up together; so a guess is tried first, by a hash without a key. It is believed only if
/// the session has the packet's tuple, hence who makes tuples collide makes only himself slower.
#[derive(Clone)]
pub(crate) struct Recent {
    guesses: Box<[Guess; Self::PLACES]>,
}

#[derive(Clone, Copy)]
pub(crate) struct Guess {
    /// More bits of the hash: a session is not looked at, at the price of a cache miss, unless it
    /// is most probably the right one.
    pub(crate) check: u32,
    pub(crate) id: u32,
}

impl Guess {
    /// A number that no session has: nothing is guessed.
    const NONE: Self = Self {
        check: 0,
        id: u32::MAX,
    };
}

impl Recent {
    /// As many flows as are busy at a time; 8 KiB.
    const PLACES: usize = 1024;

    pub(crate) fn new() -> Self {
        Self {
            guesses: Box::new([Guess::NONE; Self::PLACES]),
        }
    }

    pub(crate) fn memory(&self) -> usize {
        size_of_val::<[Guess; Self::PLACES]>(&self.guesses)
    }

    /// The place for the guess of a tuple, and the check that it is meant.
    #[inline]
    pub(crate) fn guess(&mut self, tuple: Tuple) -> (&mut Guess, u32) {
        let (place, check) = Self::place(tuple.words());
        (self.at(place), check)
    }

    /// The guess in a place.
    #[inline]
    pub(crate) fn at(&mut self, place: usize) -> &mut Guess {
        &mut self.guesses[place % Self::PLACES]
    }

    /// Where the guess of these words is, and the check that it is meant.
    #[inline]
    pub(crate) fn place((first, second): (u64, u64)) -> (usize, u32) {
        let mixed = (first ^ second.rotate_right(12)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // The upper bits of a product depend on all bits of the factors.
        let place = usize::try_from(mixed >> 54).unwrap_or(0);
        let check = (mixed >> 22 & 0xffff_ffff) as u32;
        (place % Self::PLACES, check)
    }
}

/// Keyed hashes of tuples, or of inside endpoints. A new flow needs its own three times, to be
/// announced, to be looked up and to be stored; so those worked out last are kept.
#[derive(Clone)]
pub(crate) struct Hashes {
    key: HashKey,
    last: Box<[Hashed; Self::PLACES]>,
}

#[derive(Clone, Copy)]
struct Hashed {
    words: (u64, u64),
    hash: u64,
}

impl Hashes {
    /// Four times the packets of a batch; 6 KiB.
    const PLACES: usize = 256;

    pub(crate) fn new(key: HashKey) -> Self {
        // No words that are hashed.
        let none = Hashed {
            words: (0, 0),
            hash: 0,
        };
        Self {
            key,
            last: Box::new([none; Self::PLACES]),
        }
    }

    pub(crate) fn memory(&self) -> usize {
        size_of_val::<[Hashed; Self::PLACES]>(&self.last)
    }

    #[inline]
    pub(crate) fn of(&mut self, tuple: Tuple) -> u64 {
        self.of_words(tuple.words())
    }

    /// The second word is not zero.
    #[inline]
    pub(crate) fn of_words(&mut self, words: (u64, u64)) -> u64 {
        let last = self.last_of(words);
        if last.words == words {
            return last.hash;
        }
        let hash = self.key.hash(words.0, words.1);
        self.keep(words, hash);
        hash
    }

    /// A hash that is not kept: most tuples are hashed but once.
    #[inline]
    pub(crate) fn once(&self, words: (u64, u64)) -> u64 {
        self.key.hash(words.0, words.1)
    }

    /// Keeps the hash of words that will be asked for again.
    #[inline]
    pub(crate) fn keep(&mut self, words: (u64, u64), hash: u64) {
        *self.last_of(words) = Hashed { words, hash };
    }

    #[inline]
    fn last_of(&mut self, words: (u64, u64)) -> &mut Hashed {
        let (place, _) = Recent::place(words);
        &mut self.last[place % Self::PLACES]
    }
}
