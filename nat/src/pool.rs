//! The external ports of one slice and one protocol, as a bitmap.

use std::ops::RangeInclusive;

use crate::rewrite::Protocol;

/// Random probes before the bitmap is scanned: with half of the ports free, one choice in
/// 65,536 comes from a scan, so the choice is as good as uniform (RFC 6056 section 3.3.2).
const PROBES: u32 = 16;
const BITS: u32 = 64;
#[expect(clippy::reversed_empty_ranges, reason = "the empty range is meant")]
const NO_PORTS: RangeInclusive<u16> = 1..=0;

/// Returns the slice that owns a port, or `None` if the port is not in the range.
///
/// The range is cut into slices of equal size and the last slice takes the remainder. This is
/// the one definition of ownership: the engine, the workers' hand-over and the classic BPF
/// program that steers the uplink all use it. `slices` of 0 counts as 1.
#[must_use]
pub fn owner_of(ports: &RangeInclusive<u16>, slices: u16, port: u16) -> Option<u16> {
    if !ports.contains(&port) {
        return None;
    }
    let slices = slices.max(1);
    let per_slice = (ports.len() / usize::from(slices)).max(1);
    let owner = usize::from(port - ports.start()) / per_slice;
    Some(u16::try_from(owner).unwrap_or(u16::MAX).min(slices - 1))
}

/// Returns the ports that one slice may map for a protocol: its part of the range; for SCTP, whose
/// ports are what the inside hosts use, all of them in the first slice and none in the others.
pub(crate) fn ports_of(protocol: Protocol, config: &crate::Config) -> RangeInclusive<u16> {
    match protocol {
        Protocol::Tcp | Protocol::Udp | Protocol::Icmp => {
            slice_ports(&config.ports, config.slices, config.slice)
        }
        Protocol::Sctp if config.slice == 0 => 1..=u16::MAX,
        Protocol::Sctp | Protocol::Other(_) => NO_PORTS,
    }
}

/// Returns the ports of one slice, by the same arithmetic as [`owner_of`].
pub(crate) fn slice_ports(
    ports: &RangeInclusive<u16>,
    slices: u16,
    slice: u16,
) -> RangeInclusive<u16> {
    let per_slice = ports.len() / usize::from(slices.max(1));
    let offset = u16::try_from(per_slice * usize::from(slice)).unwrap_or(u16::MAX);
    let start = ports.start().saturating_add(offset);
    if slice + 1 == slices {
        return start..=*ports.end();
    }
    let length = u16::try_from(per_slice).unwrap_or(u16::MAX);
    start..=start.saturating_add(length - 1)
}

/// Which port a new mapping would like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    /// This one if it is free; else one of its class (below 1024 or not, RFC 4787 REQ-3a), and
    /// of its parity if there is one (REQ-4).
    Like(u16),
    /// This one if it is free, else any: an echo identifier has neither class nor parity.
    Prefer(u16),
    /// This one and no other: SCTP's ports are not rewritten.
    Exactly(u16),
    /// Any.
    Any,
}

/// A bitmap of ports, one bit each.
pub(crate) struct Pool {
    ports: RangeInclusive<u16>,
    used: Box<[u64]>,
    free: u32,
}

impl Pool {
    pub(crate) fn new(ports: RangeInclusive<u16>) -> Self {
        let words = ports.len().div_ceil(64);
        let free = u32::try_from(ports.len()).unwrap_or(0);
        Self {
            ports,
            used: vec![0; words].into_boxed_slice(),
            free,
        }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        size_of_val::<[u64]>(&self.used)
    }

    /// Returns the lowest port.
    pub(crate) fn first(&self) -> u16 {
        *self.ports.start()
    }

    /// Returns how many ports are taken.
    pub(crate) fn used(&self) -> u32 {
        self.len() - self.free
    }

    fn len(&self) -> u32 {
        u32::try_from(self.ports.len()).unwrap_or(0)
    }

    /// Takes the port that suits the wish best; `random(n)` gives the n-th number of a sequence
    /// that outsiders cannot guess. Returns `None` only if no port may be used.
    pub(crate) fn take(&mut self, wish: Wish, random: impl Fn(u32) -> u32) -> Option<u16> {
        if self.free == 0 {
            return None;
        }
        let offset = match wish {
            Wish::Like(port) | Wish::Prefer(port) | Wish::Exactly(port) if self.is_free(port) => {
                self.offset_of(port)
            }
            Wish::Exactly(_) => None,
            Wish::Like(port) => {
                let parity = (port ^ self.ports.start()) & 1;
                self.classes(port)
                    .into_iter()
                    .flatten()
                    .find_map(|(low, high)| {
                        self.pick(low, high, Some(u32::from(parity)), &random)
                            .or_else(|| self.pick(low, high, None, &random))
                    })
            }
            Wish::Prefer(_) | Wish::Any => self.pick(0, self.len(), None, &random),
        }?;
        self.used[word_of(offset)] |= bit_of(offset);
        self.free -= 1;
        Some(self.ports.start() + u16::try_from(offset).unwrap_or(0))
    }

    /// Gives a port back.
    pub(crate) fn release(&mut self, port: u16) {
        if let Some(offset) = self.offset_of(port)
            && self.used[word_of(offset)] & bit_of(offset) != 0
        {
            self.used[word_of(offset)] &= !bit_of(offset);
            self.free += 1;
        }
    }

    fn is_free(&self, port: u16) -> bool {
        self.offset_of(port)
            .is_some_and(|offset| self.used[word_of(offset)] & bit_of(offset) == 0)
    }

    fn offset_of(&self, port: u16) -> Option<u32> {
        self.ports
            .contains(&port)
            .then(|| u32::from(port - self.ports.start()))
    }

    /// Returns the offsets (end exclusive) that a mapping of `port` may use, best first: an
    /// unprivileged port never becomes a privileged one unless the slice has no other.
    fn classes(&self, port: u16) -> [Option<(u32, u32)>; 2] {
        let below = 1024u16.saturating_sub(*self.ports.start());
        let split = u32::from(below).min(self.len());
        let low = (split > 0).then_some((0, split));
        let high = (split < self.len()).then_some((split, self.len()));
        match (port < 1024, low, high) {
            (true, ..) => [low, high],
            (false, _, Some(_)) => [high, None],
            (false, _, None) => [low, None],
        }
    }

    /// Finds a free offset in `low..high` whose lowest bit is `parity`, if one is asked for.
    fn pick(
        &self,
        low: u32,
        high: u32,
        parity: Option<u32>,
        random: impl Fn(u32) -> u32,
    ) -> Option<u32> {
        // Lemire's multiplication maps 32 random bits to the range without a division.
        let draw = |n| {
            let product = u64::from(random(n)) * u64::from(high - low);
            low + u32::try_from(product >> 32).unwrap_or(0)
        };
        for n in 0..PROBES {
            let mut offset = draw(n);
            if parity.is_some_and(|parity| parity != offset & 1) {
                offset ^= 1;
            }
            if (low..high).contains(&offset) && self.used[word_of(offset)] & bit_of(offset) == 0 {
                return Some(offset);
            }
        }
        let mask = match parity {
            None => u64::MAX,
            Some(0) => 0x5555_5555_5555_5555,
            Some(_) => 0xaaaa_aaaa_aaaa_aaaa,
        };
        let start = draw(PROBES);
        self.scan(start, high, mask)
            .or_else(|| self.scan(low, start, mask))
    }

    /// Returns the lowest free offset in `from..to` that the mask allows.
    fn scan(&self, from: u32, to: u32, mask: u64) -> Option<u32> {
        let mut offset = from;
        while offset < to {
            let base = offset - offset % BITS;
            let free = !self.used[word_of(offset)] & mask & (u64::MAX << (offset % BITS));
            if free != 0 {
                let found = base + free.trailing_zeros();
                return (found < to).then_some(found);
            }
            offset = base + BITS;
        }
        None
    }
}

fn word_of(offset: u32) -> usize {
    crate::slab::at(offset / BITS)
}

fn bit_of(offset: u32) -> u64 {
    1 << (offset % BITS)
}

#[cfg(test)]
mod tests;
