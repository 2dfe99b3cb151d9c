//! What became of packets, as a number: two runs that have the same have done the same.

use switch::trace::{RecordView, SnapRef, Step};
use switch::verdict::Verdict;

/// Odd, with as many ones as zeros: 2^64 divided by the golden ratio.
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The sum of all that one worker has decided so far, in its order. It is not for enemies: whoever
/// can change a recording needs no second one with the same sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Digest(u64);

impl Digest {
    /// Takes another piece of a packet's way, with what it left as.
    pub fn add(&mut self, record: &RecordView<'_>) {
        let kind = match record.steps.first().map(|timed| timed.step) {
            Some(Step::Resumed(_)) => 1,
            Some(Step::Made) => 2,
            _ => 0,
        };
        let left = match (record.after, kind) {
            (Some(after), _) => of_frame(after),
            // All there is of a packet that the gateway made.
            (None, 2) => of_frame(record.before),
            (None, _) => u64::from(record.before.len),
        };
        for word in [kind, of_verdict(record.head.verdict), left] {
            self.fold(word);
        }
    }

    /// Takes the sum of pieces that follow.
    pub fn append(&mut self, later: Self) {
        self.fold(later.0);
    }

    fn fold(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(FACTOR).rotate_left(29);
    }

    /// As text.
    #[must_use]
    pub fn to_hex(self) -> String {
        format!("{:016x}", self.0)
    }
}

/// A frame by its bytes, as far as a translation may have changed them, and its length.
#[must_use]
pub(super) fn of_frame(snap: SnapRef<'_>) -> u64 {
    let mut digest = Digest::default();
    digest.fold(snap.len.into());
    let (words, rest) = snap.head.as_chunks::<8>();
    for word in words {
        digest.fold(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    digest.fold(u64::from_le_bytes(last));
    digest.0
}

fn of_verdict(verdict: Option<Verdict>) -> u64 {
    let (kind, what) = match verdict {
        None => (0, 0),
        Some(Verdict::Forward(port)) => (1, port.0),
        Some(Verdict::Route(port)) => (2, port.0),
        Some(Verdict::Flood) => (3, 0),
        Some(Verdict::Answer) => (4, 0),
        Some(Verdict::Absorb) => (5, 0),
        Some(Verdict::Hold) => (6, 0),
        Some(Verdict::HandOver(worker)) => (7, worker),
        Some(Verdict::Drop(reason)) => (8, u16::try_from(reason.index()).unwrap_or(u16::MAX)),
    };
    kind << 16 | u64::from(what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use switch::frame::Offload;

    #[test]
    fn every_byte_and_the_length_count() {
        let snap = |head: &'static [u8], len| SnapRef {
            head,
            tail: &[],
            len,
            offload: Offload::PLAIN,
        };
        let all = [
            of_frame(snap(b"0123456789", 10)),
            of_frame(snap(b"0123456788", 10)),
            of_frame(snap(b"1123456789", 10)),
            of_frame(snap(b"0123456789\0", 11)),
            of_frame(snap(b"0123456789", 12)),
            of_frame(snap(b"", 0)),
        ];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{place}");
        }
        let (mut one, mut other) = (Digest(1), Digest(1));
        one.append(Digest(2));
        assert_ne!(one, other);
        other.append(Digest(2));
        assert_eq!(one, other);
    }
}
