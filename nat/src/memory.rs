//! What the tables take, and how their memory is fetched ahead of a batch.

use crate::engine::Nat;
use crate::flow::{Class, Header, classify};
use crate::outcome::Direction;
use crate::session::{Sessions, Side, Tuple};

/// Sessions that fit the processor's second-level cache with their share of the index: 1 MiB holds
/// 8,192 of 128 bytes.
const CACHED_SESSIONS: usize = 8_192;

impl Nat {
    /// Packets that [`Nat::announce`] takes at once.
    pub const ANNOUNCED_MAX: usize = Sessions::FETCHED_MAX;

    /// Returns the bytes that all tables together have taken from the allocator.
    ///
    /// They were taken at the start and neither grow nor shrink; only fragments that are held
    /// ([`FragmentLimits::held_bytes_max`](crate::FragmentLimits::held_bytes_max)) come on top.
    /// Taken does not mean touched: pages are the kernel's until sessions first fill them.
    #[must_use]
    pub fn memory(&self) -> usize {
        let peers = self.peers.as_ref().map_or(0, crate::mapping::Peers::memory);
        self.sessions.memory() + self.mappings.memory() + peers + self.fragments.memory()
    }

    /// Returns whether packets wait for memory rather than for the processor, because the live
    /// sessions no longer fit a cache. Then it pays to [`announce`](Self::announce) them.
    #[must_use]
    #[inline]
    pub fn outgrows_cache(&self) -> bool {
        self.sessions.len() > CACHED_SESSIONS
    }

    /// Has the sessions of a batch of packets fetched before the first is translated, so that
    /// they wait for memory together and not one after the other.
    ///
    /// Each packet is given from the first byte of its IPv4 header, with the way it will be
    /// translated; [`Nat::ANNOUNCED_MAX`] are taken. It is only a hint: nothing that can be
    /// observed depends on it, and what is announced need not come, nor come unchanged.
    pub fn announce<'p>(&mut self, packets: impl Iterator<Item = (&'p [u8], Direction)>) {
        self.sessions
            .fetch(packets.filter_map(|(bytes, direction)| tuple(bytes, direction)));
    }
}

/// The tuple by which a packet will be looked up, if it is one with ports.
fn tuple(bytes: &[u8], direction: Direction) -> Option<Tuple> {
    let header = Header::parse(bytes).ok()?;
    if header.is_fragment {
        return None;
    }
    let payload = bytes.get(header.header_len..header.total_len)?;
    let (from, flow) = match (direction, classify(header, payload).ok()?) {
        (Direction::Outbound, Class::Flow(flow) | Class::Request(flow)) => (Side::Inside, flow),
        (Direction::Inbound | Direction::Hairpin, Class::Flow(flow) | Class::Reply(flow)) => {
            (Side::Outside, flow)
        }
        _ => return None,
    };
    let source = (header.src, flow.src_port);
    let destination = (header.dst, flow.dst_port);
    let (ours, remote) = match from {
        Side::Inside => (source, destination),
        Side::Outside => (destination, source),
    };
    Some(Tuple {
        from,
        protocol: flow.protocol,
        ours,
        remote,
    })
}
