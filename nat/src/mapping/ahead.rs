//! What mappings that come and go will need is fetched ahead; see [`crate::engine::Nat::announce`].

use std::hint::black_box;

use super::Mappings;
use crate::few::Few;
use crate::rewrite::Protocol;
use crate::session::{Endpoint, Session};

impl Mappings {
    /// Has the memory fetched that making mappings of these inside endpoints will need. A new
    /// mapping has its port for the asking most of the time, and all else is fetched in vain.
    pub(crate) fn fetch_new(
        &mut self,
        endpoints: impl Iterator<Item = (Protocol, Endpoint)>,
        fetch: impl Fn(*const u8),
    ) {
        for (protocol, inside) in endpoints {
            let hash = self.hash(protocol, inside);
            fetch(self.index.place(hash));
            fetch(self.index.other_place(hash));
            let external = self.externals.only();
            if let Some(place) = external.and_then(|it| it.first_place(protocol, inside.1)) {
                fetch(place);
            }
        }
    }

    /// Has the memory fetched that ending the mappings of these sessions will need.
    pub(crate) fn fetch_ending<'s>(&mut self, sessions: impl Iterator<Item = &'s Session>) {
        let mut wanted = Few::new((0u32, 0u64));
        for session in sessions {
            let hash = self.hash(session.protocol, session.inside());
            wanted.push((session.mapping, hash));
        }
        let mut read = 0;
        for &(id, hash) in wanted.iter() {
            read ^= self.index.touch(hash);
            read ^= self.slab.get(id).map_or(0, |mapping| mapping.sessions);
        }
        black_box(read);
    }

    /// Returns the external endpoint that a new mapping of an inside endpoint will most probably
    /// have. Of several addresses it is not known which it gets.
    pub(crate) fn foresee(&self, protocol: Protocol, inside: Endpoint) -> Option<Endpoint> {
        match protocol {
            Protocol::Tcp | Protocol::Udp => Some((self.externals.only()?.address, inside.1)),
            Protocol::Icmp | Protocol::Sctp | Protocol::Other(_) => None,
        }
    }
}
