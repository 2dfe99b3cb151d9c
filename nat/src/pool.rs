//! The external ports of one slice, one address and one protocol.
//!
//! A port is free, used or *held*: one that came free is kept from other inside hosts for a while
//! (RFC 6888 REQ-8), so that what is still under way to its last host reaches nobody else. That
//! host itself may have it again at once: it is who such packets are for. A bitmap has the ports
//! that are not free; beside it each held port has its time and its host, and lies in two lists:
//! one of all in the order they came free, which is the order they come loose, and one of its
//! host's bucket. So nothing here takes longer the more ports are held.

mod held;

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use crate::Nanos;
use crate::cells::Cells;
use crate::rewrite::Protocol;

use held::Held;

/// Random probes before the bitmap is scanned: with half of the ports free, one choice in
/// 65,536 comes from a scan, so the choice is as good as uniform (RFC 6056 section 3.3.2).
const PROBES: u32 = 16;
const BITS: u32 = 64;
/// First port that needs no privilege.
const PRIVILEGED_END: u16 = 1_024;
/// Held ports that one taking may let go, so that none pays for many; each was put there by an
/// earlier packet, so none stays too long either.
const LET_GO_AT_ONCE: usize = 64;
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

/// Returns whether two ports are both privileged or both not (RFC 4787 REQ-3a).
pub(crate) fn same_class(a: u16, b: u16) -> bool {
    (a < PRIVILEGED_END) == (b < PRIVILEGED_END)
}

/// Who takes a port or gives one back, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holder {
    pub(crate) host: Ipv4Addr,
    pub(crate) now: Nanos,
}

/// The ports and what is known of each.
pub(crate) struct Pool {
    ports: RangeInclusive<u16>,
    /// A bit for each port that is used or held.
    taken: Cells<u64>,
    /// A bit for each port that no mapping is given, used or not: it is published, or with another
    /// slice.
    reserved: Cells<u64>,
    used: u32,
    held: Held,
}

impl Pool {
    /// `hold` is how long a port that came free is kept from other hosts; if that is 0, nothing is
    /// ever held.
    pub(crate) fn new(ports: RangeInclusive<u16>, hold: Nanos) -> Self {
        let words = ports.len().div_ceil(64);
        let holds = hold != Nanos::ZERO;
        let held = Held::new(if holds { ports.len() } else { 0 }, hold);
        Self {
            ports,
            taken: Cells::defaults(words),
            reserved: Cells::defaults(words),
            used: 0,
            held,
        }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        self.taken.memory() + self.reserved.memory() + self.held.memory()
    }

    /// Returns how many ports are mapped.
    pub(crate) fn used(&self) -> u32 {
        self.used
    }

    /// Returns how many ports are held for their last hosts.
    pub(crate) fn held(&self) -> u32 {
        self.held.count()
    }

    /// Returns how many ports there are.
    pub(crate) fn size(&self) -> usize {
        self.ports.len()
    }

    fn free(&self) -> u32 {
        self.len() - self.used - self.held.count()
    }

    fn len(&self) -> u32 {
        u32::try_from(self.ports.len()).unwrap_or(0)
    }

    /// Takes the port that suits the wish best; `random(n)` gives the n-th number of a sequence
    /// that outsiders cannot guess. Returns `None` only if no port may be used.
    pub(crate) fn take(
        &mut self,
        wish: Wish,
        who: Holder,
        random: impl Fn(u32) -> u32,
    ) -> Option<u16> {
        self.let_go(who.now, LET_GO_AT_ONCE);
        let host = who.host;
        let offset = match wish {
            Wish::Like(port) | Wish::Prefer(port) | Wish::Exactly(port)
                if self.may_have(port, host) =>
            {
                self.offset_of(port)
            }
            Wish::Exactly(_) => None,
            Wish::Like(port) => {
                let parity = u32::from((port ^ self.ports.start()) & 1);
                self.classes(port)
                    .into_iter()
                    .flatten()
                    .find_map(|(low, high)| {
                        self.pick(low, high, Some(parity), host, &random)
                            .or_else(|| self.pick(low, high, None, host, &random))
                            .or_else(|| self.find_held(host, low, high))
                    })
            }
            Wish::Prefer(_) | Wish::Any => self
                .pick(0, self.len(), None, host, &random)
                .or_else(|| self.find_held(host, 0, self.len())),
        }?;
        self.occupy(offset);
        Some(self.port(offset))
    }

    /// Takes this very port, reserved or held or not; returns `false` if it is used, or not here.
    #[must_use]
    pub(crate) fn claim(&mut self, port: u16) -> bool {
        let offset = self.offset_of(port);
        let is_used = |&offset: &u32| !self.is_untaken(offset) && !self.held.contains(offset);
        let Some(offset) = offset.filter(|offset| !is_used(offset)) else {
            return false;
        };
        self.occupy(offset);
        true
    }

    fn occupy(&mut self, offset: u32) {
        if self.is_untaken(offset) {
            mark(&mut self.taken, offset, true);
        } else if self.held.contains(offset) {
            self.held.remove(offset);
        }
        self.used += 1;
    }

    /// Keeps ports from mappings to come, or no longer; one that is used is kept from the next
    /// user. What is not of this pool is left out.
    pub(crate) fn reserve(&mut self, ports: &RangeInclusive<u16>, is_reserved: bool) {
        let first = *ports.start().max(self.ports.start());
        for port in first..=*ports.end().min(self.ports.end()) {
            let offset = u32::from(port - self.ports.start());
            mark(&mut self.reserved, offset, is_reserved);
        }
    }

    /// Gives a port back that has just been taken, and reserves it.
    pub(crate) fn park(&mut self, port: u16) {
        if let Some(offset) = self.offset_of(port) {
            mark(&mut self.taken, offset, false);
            self.used -= 1;
            self.reserve(&(port..=port), true);
        }
    }

    /// Gives a port back, to be held for its host.
    pub(crate) fn release(&mut self, port: u16, who: Holder) {
        let Some(offset) = self.offset_of(port) else {
            return;
        };
        if self.is_untaken(offset) || self.held.contains(offset) {
            return;
        }
        self.used -= 1;
        if !self.held.insert(offset, who) {
            mark(&mut self.taken, offset, false);
        }
    }

    /// Returns the ports that are held, each with its host and the second at which it is free for
    /// all, in that order.
    pub(crate) fn held_ports(&self) -> impl Iterator<Item = (u16, Ipv4Addr, u32)> {
        let held = self.held.iter();
        held.map(|(offset, host, until)| (self.port(offset), host, until))
    }

    /// Holds a free port for a host until that second.
    pub(crate) fn hold(&mut self, port: u16, host: Ipv4Addr, until: u32) {
        if let Some(offset) = self.offset_of(port)
            && self.is_untaken(offset)
            && self.held.insert_until(offset, host, until.max(1))
        {
            mark(&mut self.taken, offset, true);
        }
    }

    /// Frees up to `budget` ports that were held long enough.
    pub(crate) fn let_go(&mut self, now: Nanos, budget: usize) {
        for _ in 0..budget {
            let Some(offset) = self.held.next_due(now) else {
                break;
            };
            self.held.remove(offset);
            mark(&mut self.taken, offset, false);
        }
    }

    fn is_untaken(&self, offset: u32) -> bool {
        self.taken.copy(word_of(offset)) & bit_of(offset) == 0
    }

    fn is_reserved(&self, offset: u32) -> bool {
        self.reserved.copy(word_of(offset)) & bit_of(offset) != 0
    }

    fn suits(&self, offset: u32, host: Ipv4Addr) -> bool {
        !self.is_reserved(offset) && (self.is_untaken(offset) || self.held.is_for(offset, host))
    }

    fn may_have(&self, port: u16, host: Ipv4Addr) -> bool {
        self.offset_of(port)
            .is_some_and(|offset| self.suits(offset, host))
    }

    fn port(&self, offset: u32) -> u16 {
        self.ports.start() + u16::try_from(offset).unwrap_or(0)
    }

    /// Finds a port in `low..high` that is held for this host.
    fn find_held(&self, host: Ipv4Addr, low: u32, high: u32) -> Option<u32> {
        self.held
            .find(host, low, high, |offset| !self.is_reserved(offset))
    }

    /// Returns a port's place in the pool.
    pub(crate) fn offset_of(&self, port: u16) -> Option<u32> {
        self.ports
            .contains(&port)
            .then(|| u32::from(port - self.ports.start()))
    }

    /// Returns the offsets (end exclusive) that a mapping of `port` may use, best first: an
    /// unprivileged port never becomes a privileged one unless the slice has no other.
    fn classes(&self, port: u16) -> [Option<(u32, u32)>; 2] {
        let below = PRIVILEGED_END.saturating_sub(*self.ports.start());
        let split = u32::from(below).min(self.len());
        let low = (split > 0).then_some((0, split));
        let high = (split < self.len()).then_some((split, self.len()));
        match (port < PRIVILEGED_END, low, high) {
            (true, ..) => [low, high],
            (false, _, Some(_)) => [high, None],
            (false, _, None) => [low, None],
        }
    }

    /// Finds an offset in `low..high` that is free or held for this host, and whose lowest bit is
    /// `parity`, if one is asked for.
    fn pick(
        &self,
        low: u32,
        high: u32,
        parity: Option<u32>,
        host: Ipv4Addr,
        random: impl Fn(u32) -> u32,
    ) -> Option<u32> {
        if self.free() + self.held.count() == 0 {
            return None;
        }
        // Lemire's multiplication maps 32 random bits to the range without a division.
        let draw = |n| low + scale(random(n), high - low);
        for n in 0..PROBES {
            let mut offset = draw(n);
            if parity.is_some_and(|parity| parity != offset & 1) {
                offset ^= 1;
            }
            if (low..high).contains(&offset) && self.suits(offset, host) {
                return Some(offset);
            }
        }
        if self.free() == 0 {
            return None;
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
            let word = word_of(offset);
            let busy = self.taken.copy(word) | self.reserved.copy(word);
            let free = !busy & mask & (u64::MAX << (offset % BITS));
            if free != 0 {
                let found = base + free.trailing_zeros();
                return (found < to).then_some(found);
            }
            offset = base + BITS;
        }
        None
    }

    /// Returns the n-th port that a flow which must share one should try, by the same random
    /// sequence and within the class of the inside port.
    pub(crate) fn probe(&self, port: u16, n: u32, random: impl Fn(u32) -> u32) -> Option<u16> {
        let (low, high) = self.classes(port)[0]?;
        Some(self.port(low + scale(random(n), high - low)))
    }

    /// Lays the tables aside; see [`Cells::lay_aside`].
    pub(crate) fn lay_aside(&mut self) -> Self {
        Self {
            ports: self.ports.clone(),
            taken: self.taken.lay_aside(),
            reserved: self.reserved.lay_aside(),
            used: self.used,
            held: self.held.lay_aside(),
        }
    }

    pub(crate) fn take_back(&mut self, twin: Self) {
        self.taken.take_back(twin.taken);
        self.reserved.take_back(twin.reserved);
        self.held.take_back(twin.held);
    }
}

/// Maps 32 random bits to `0..below`.
fn scale(random: u32, below: u32) -> u32 {
    u32::try_from((u64::from(random) * u64::from(below)) >> 32).unwrap_or(0)
}

fn word_of(offset: u32) -> u32 {
    offset / BITS
}

fn bit_of(offset: u32) -> u64 {
    1 << (offset % BITS)
}

/// Sets a port's bit, or clears it.
fn mark(words: &mut Cells<u64>, offset: u32, is_set: bool) {
    if let Some(word) = words.get_mut(word_of(offset)) {
        match is_set {
            true => *word |= bit_of(offset),
            false => *word &= !bit_of(offset),
        }
    }
}

#[cfg(test)]
mod tests;
