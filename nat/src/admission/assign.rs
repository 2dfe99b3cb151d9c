//! Which mapping an inside endpoint gets, and what counts with it.

use crate::engine::Nat;
use crate::mapping::{Left, Wanted};
use crate::outcome::Reason;
use crate::quota::Limit;
use crate::rewrite::Protocol;
use crate::session::Endpoint;

/// Ports tried for one that can be shared.
const SHARE_PROBES: u32 = 32;

/// What a mapping is wanted for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// A session with this remote endpoint.
    Session(Endpoint),
    /// A remote that is told of it, on the address in this slot: no other inside endpoint may
    /// share it.
    Told(u32),
}

impl Nat {
    /// Finds or makes the mapping of an inside endpoint for some purpose.
    ///
    /// A new mapping has no session yet: who calls it must add one, or remove it.
    pub(crate) fn mapping_for(
        &mut self,
        protocol: Protocol,
        inside: Endpoint,
        host: u32,
        purpose: Purpose,
    ) -> Result<u32, Reason> {
        let hash = self.mappings.hash(protocol, inside);
        if let Some(id) = self.find_mapping(hash, (protocol, inside), purpose) {
            return Ok(id);
        }
        if self.hosts.has_all_ports(host) && self.recycle_port(host).is_none() {
            return Err(self.exceeded(Limit::Ports));
        }
        let mut wanted = Wanted {
            protocol,
            inside,
            hash,
            host,
            paired: self.pairing(host, purpose),
        };
        let mut created = self.mappings.create(wanted);
        if created == Err(Reason::PortsExhausted) && protocol == Protocol::Tcp {
            let left = self.recycle_port(host);
            // What has ended may be what kept a shared port from this remote.
            if let Some(id) = self.find_mapping(hash, (protocol, inside), purpose) {
                return Ok(id);
            }
            if let Some(left) = left {
                created = self.mappings.create_instead(wanted, left);
                wanted.paired = self.pairing(host, purpose);
            }
        }
        if created == Err(Reason::PortsExhausted)
            && protocol == Protocol::Tcp
            && self.config.tcp_overlap
            && let Purpose::Session(remote) = purpose
        {
            created = self.share_port(wanted, remote);
            self.counters.ports_shared += u64::from(created.is_ok());
        }
        let id = created?;
        self.mapped(id, host);
        Ok(id)
    }

    /// Finds a mapping of an inside endpoint that serves a purpose: on a shared port the remote may
    /// be taken by the other inside endpoint.
    fn find_mapping(
        &mut self,
        hash: u64,
        (protocol, inside): (Protocol, Endpoint),
        purpose: Purpose,
    ) -> Option<u32> {
        let sessions = &mut self.sessions;
        let mut is_free = |external| match purpose {
            Purpose::Session(remote) => {
                let found = sessions.find_inbound(protocol, external, remote);
                found.is_none()
            }
            Purpose::Told(_) => false,
        };
        self.mappings
            .find_inside(hash, (protocol, inside), |mapping| {
                !mapping.is_shared() || is_free(mapping.external)
            })
    }

    /// Returns the slot of the address that a new mapping must be on.
    fn pairing(&self, host: u32, purpose: Purpose) -> Option<u32> {
        match purpose {
            Purpose::Session(_) => self.hosts.paired(host),
            Purpose::Told(slot) => Some(slot),
        }
    }

    /// Makes a mapping on a TCP port that another inside endpoint has, and on which there is no
    /// session with this remote endpoint yet (RFC 7857 section 3).
    fn share_port(&mut self, wanted: Wanted, remote: Endpoint) -> Result<u32, Reason> {
        for n in 0..SHARE_PROBES {
            let Some(first) = self.mappings.shareable(wanted, n) else {
                continue;
            };
            let external = self.mappings.get(first).map(|mapping| mapping.external);
            let is_taken = external.is_none_or(|external| {
                let found = self
                    .sessions
                    .find_inbound(wanted.protocol, external, remote);
                found.is_some()
            });
            if !is_taken {
                return self.mappings.share(wanted, first);
            }
        }
        Err(Reason::PortsExhausted)
    }

    /// Counts a new mapping.
    pub(crate) fn mapped(&mut self, id: u32, host: u32) {
        let Some(mapping) = self.mappings.get(id) else {
            return;
        };
        let has_port = !matches!(mapping.protocol, Protocol::Other(_));
        let kept = has_port && mapping.external.1 == mapping.inside.1;
        let first = self.hosts.add_port(host, mapping.slot());
        self.counters.mappings_created += 1;
        self.counters.ports_preserved += u64::from(kept);
        self.counters.address_maps_created += u64::from(first);
        self.note_mapped(id);
    }

    /// Ends a mapping that has no session; returns the port that it has left.
    pub(crate) fn unmap_unused(&mut self, id: u32) -> Option<Left> {
        let mapping = self
            .mappings
            .get(id)
            .filter(|mapping| mapping.is_unused())?;
        let left = Left::from(mapping);
        let last = self.hosts.remove_port(left.host);
        self.counters.mappings_removed += 1;
        self.counters.address_maps_removed += u64::from(last);
        self.note_unmapped(id);
        self.mappings.remove(id);
        Some(left)
    }
}
