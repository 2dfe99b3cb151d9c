//! What mappings that come and go will need is fetched ahead; see [`crate::engine::Nat::announce`].

use std::hint::black_box;

use super::Mappings;
use crate::few::Few;
use crate::rewrite::Protocol;
use crate::session::{Endpoint, Session};

impl Mappings {
    /// Has the memory fetched that making mappings of these inside endpoints will need. A new
    /// mapping has its port for the asking most of the time, and all else is fetched in vain.
    pub(crate) fn fetch_new(&mut self, endpoints: impl Iterator<Item = (Protocol, Endpoint)>) {
        let mut wanted = Few::new((Protocol::Tcp, 0, 0));
        for (protocol, inside) in endpoints {
            wanted.push((protocol, inside.1, self.hash(protocol, inside)));
        }
        let mut read = 0;
        for &(_, _, hash) in wanted.iter() {
            read ^= self.index.touch(hash) ^ self.index.touch_other(hash);
        }
        if let Some(external) = self.externals.only() {
            for &(protocol, port, _) in wanted.iter() {
                read ^= external.first(protocol, port).unwrap_or(0);
            }
        }
        black_box(read);
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
