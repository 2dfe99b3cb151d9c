//! What became of a packet: the closed list of fates and reasons, and their counters.

/// The one fate of a packet handed to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "every packet has a fate that the caller must act on"]
pub enum Outcome {
    /// Rewritten in place; send it on.
    Translated,
    /// Outbound to our own external address: the source is now external. Hand the packet to
    /// [`Nat::hairpin`](crate::Nat::hairpin) of the engine that owns the destination port.
    Hairpin {
        /// Slice that owns the destination port.
        owner: u16,
    },
    /// Untouched: another slice owns the session; hand the packet to that engine, through the
    /// same function. Outbound it comes from a published endpoint.
    Elsewhere {
        /// Slice that owns the external port.
        owner: u16,
    },
    /// A fragment whose first fragment has not come, or a command that a helper made longer: a copy
    /// is kept and will be [`released`](crate::Nat::released), the latter at once.
    Held,
    /// Untouched: for the external address but not for a port, identifier or protocol of ours;
    /// the host's own traffic, or nobody's.
    NotOurs,
    /// Not to be sent, for this reason; the bytes may have been partly edited.
    Drop(Reason),
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a packet was dropped.
        ///
        /// Each variant is at once a counter's index and a word in traces.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of [`Reason::index`].
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the name used in counters and traces.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Returns the reason's documentation, one line.
            #[must_use]
            pub const fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii_start(),)+ }
            }
        }
    };
}

reasons! {
    /// The IPv4 or transport header is impossible or cut off.
    Malformed = "NAT_MALFORMED",
    /// UDP-Lite and DCCP are not translated; nor are protocols without ports if they are off.
    UnknownProtocol = "NAT_UNKNOWN_PROTOCOL",
    /// SCTP that begins no association, or any if protocols besides TCP, UDP and ICMP are off.
    SctpRefused = "NAT_SCTP_REFUSED",
    /// The source address is our own external address, so it is forged.
    SpoofedSource = "NAT_SPOOFED_SOURCE",
    /// Inbound without a session, and the filtering lets no stranger in.
    Unsolicited = "NAT_UNSOLICITED",
    /// Every external port there is for this host is mapped or held; raise the port range.
    PortsExhausted = "NAT_PORTS_EXHAUSTED",
    /// The session table is full; raise the limit on sessions.
    SessionsExhausted = "NAT_SESSIONS_EXHAUSTED",
    /// The inside host has what one host may have: sessions, ports, handshakes or new sessions.
    HostQuota = "NAT_HOST_QUOTA",
    /// Another inside host has this protocol with this remote, or this port which must be kept.
    ProtocolBusy = "NAT_PROTOCOL_BUSY",
    /// Too many TCP handshakes are under way; raise the limit if they are wanted.
    HalfOpenFull = "NAT_HALF_OPEN_FULL",
    /// Too many TCP handshakes from outside came to nothing; one that is repeated may pass.
    SynFlood = "NAT_SYN_FLOOD",
    /// The TCP flags make no sense together (no flag, SYN+FIN, SYN+RST, FIN without ACK).
    InvalidTcpFlags = "NAT_INVALID_TCP_FLAGS",
    /// The TCP segment can neither begin nor continue a session in its state.
    TcpOutOfState = "NAT_TCP_OUT_OF_STATE",
    /// The ICMP error quotes a packet of no session, or was not sent to the quoted sender.
    IcmpErrorUnrelated = "NAT_ICMP_ERROR_UNRELATED",
    /// The ICMP error's checksum, or the header checksum of the quoted packet, is wrong.
    BadIcmpChecksum = "NAT_BAD_ICMP_CHECKSUM",
    /// The ICMP type is not translated (redirect, source quench, mask or information request).
    IcmpTypeRefused = "NAT_ICMP_TYPE_REFUSED",
    /// An ICMP error came in fragments, so that its checksum cannot be verified.
    IcmpErrorFragmented = "NAT_ICMP_ERROR_FRAGMENTED",
    /// A limit on fragments was reached: per datagram, per source, in number or in memory.
    FragmentLimit = "NAT_FRAGMENT_LIMIT",
    /// A fragment overlaps another or contradicts the datagram's end; the datagram is dropped.
    FragmentOverlap = "NAT_FRAGMENT_OVERLAP",
    /// The first fragment does not hold the whole transport header.
    FragmentTiny = "NAT_FRAGMENT_TINY",
    /// The fragment reaches beyond 65,535 bytes.
    FragmentTooLong = "NAT_FRAGMENT_TOO_LONG",
    /// The fragment is held already.
    FragmentDuplicate = "NAT_FRAGMENT_DUPLICATE",
    /// The first fragment did not come in time.
    FragmentTimeout = "NAT_FRAGMENT_TIMEOUT",
}

impl Reason {
    /// Number of reasons.
    pub const COUNT: usize = Self::ALL.len();

    /// Returns the reason's place in [`Reason::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Through which door a packet came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From inside, by [`Nat::outbound`](crate::Nat::outbound).
    Outbound,
    /// From outside, by [`Nat::inbound`](crate::Nat::inbound).
    Inbound,
    /// From inside by way of the external address, by [`Nat::hairpin`](crate::Nat::hairpin).
    Hairpin,
}

/// What an engine has done since it was made; every call counts exactly one fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Packets translated from inside to outside, hairpinned ones not included.
    pub translated_outbound: u64,
    /// Packets translated from outside to inside, hairpinned ones included.
    pub translated_inbound: u64,
    /// Outbound packets turned back towards our own external address.
    pub hairpinned: u64,
    /// Packets found to belong to another slice.
    pub elsewhere: u64,
    /// Packets found to be the host's own.
    pub not_ours: u64,
    /// Fragments kept until their first fragment comes, and packets that a helper copied.
    pub held: u64,
    /// ICMP errors translated, in either direction (counted as translated too).
    pub icmp_errors: u64,
    /// Packets in which a helper replaced an endpoint.
    pub helped: u64,
    /// Packets that tell an endpoint which a helper could not replace: the line is cut off, tells
    /// of another host or of a service's port, or there is no room.
    pub unhelped: u64,
    /// Sessions created.
    pub sessions_created: u64,
    /// Sessions removed, by their timer or by a flush.
    pub sessions_removed: u64,
    /// Sessions opened from outside and never completed that ended early to make room for new ones.
    pub strangers_evicted: u64,
    /// Mappings created.
    pub mappings_created: u64,
    /// Mappings removed, each with its last session.
    pub mappings_removed: u64,
    /// Mappings created that kept the inside port.
    pub ports_preserved: u64,
    /// Mappings created on a port that another inside endpoint has too (RFC 7857 section 3).
    pub ports_shared: u64,
    /// Inside hosts that were given an external address, at their first mapping.
    pub address_maps_created: u64,
    /// Inside hosts that gave theirs back, with their last mapping.
    pub address_maps_removed: u64,
    /// Finished TCP sessions ended early to make room for another of the same inside host.
    pub sessions_recycled: u64,
    /// Packets refused because the inside host has all the sessions it may have.
    pub quota_sessions: u64,
    /// Packets refused because the inside host has all the ports it may have.
    pub quota_ports: u64,
    /// Packets refused because the inside host has all the TCP handshakes it may have.
    pub quota_half_open: u64,
    /// Packets refused because the inside host opens sessions too fast.
    pub quota_rate: u64,
    /// Packets refused because too many TCP handshakes of the inside host came to nothing.
    pub quota_failed: u64,
    /// Packets refused because no further inside host can be kept account of.
    pub hosts_full: u64,
    drops: [u64; Reason::COUNT],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            translated_outbound: 0,
            translated_inbound: 0,
            hairpinned: 0,
            elsewhere: 0,
            not_ours: 0,
            held: 0,
            icmp_errors: 0,
            helped: 0,
            unhelped: 0,
            sessions_created: 0,
            sessions_removed: 0,
            strangers_evicted: 0,
            mappings_created: 0,
            mappings_removed: 0,
            ports_preserved: 0,
            ports_shared: 0,
            address_maps_created: 0,
            address_maps_removed: 0,
            sessions_recycled: 0,
            quota_sessions: 0,
            quota_ports: 0,
            quota_half_open: 0,
            quota_rate: 0,
            quota_failed: 0,
            hosts_full: 0,
            drops: [0; Reason::COUNT],
        }
    }
}

impl Counters {
    /// Returns how many packets were dropped for this reason.
    #[must_use]
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.drops[reason.index()]
    }

    /// Returns how many packets were dropped in all.
    #[must_use]
    pub fn dropped_total(&self) -> u64 {
        self.drops.iter().sum()
    }

    /// Returns the counters that NATV2-MIB defines for an instance.
    #[must_use]
    pub fn natv2(&self) -> NatV2 {
        const FRAGMENTS: [Reason; 7] = [
            Reason::FragmentLimit,
            Reason::FragmentOverlap,
            Reason::FragmentTiny,
            Reason::FragmentTooLong,
            Reason::FragmentDuplicate,
            Reason::FragmentTimeout,
            Reason::IcmpErrorFragmented,
        ];
        let fragment_drops = FRAGMENTS.iter().map(|&reason| self.dropped(reason)).sum();
        NatV2 {
            translations: self.translated_outbound + self.translated_inbound + self.hairpinned,
            address_map_creations: self.address_maps_created,
            address_map_removals: self.address_maps_removed,
            address_map_entry_limit_drops: self.hosts_full,
            port_map_creations: self.mappings_created,
            port_map_removals: self.mappings_removed,
            port_map_entry_limit_drops: self.quota_ports,
            port_map_failure_drops: self.dropped(Reason::PortsExhausted),
            fragment_drops,
            other_resource_failure_drops: self.dropped(Reason::SessionsExhausted)
                + self.dropped(Reason::HalfOpenFull)
                + self.dropped(Reason::SynFlood),
        }
    }

    pub(crate) fn count(&mut self, direction: Direction, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Translated if direction == Direction::Outbound => {
                &mut self.translated_outbound
            }
            Outcome::Translated => &mut self.translated_inbound,
            Outcome::Hairpin { .. } => &mut self.hairpinned,
            Outcome::Elsewhere { .. } => &mut self.elsewhere,
            Outcome::Held => &mut self.held,
            Outcome::NotOurs => &mut self.not_ours,
            Outcome::Drop(reason) => &mut self.drops[reason.index()],
        };
        *counter += 1;
    }
}

/// The counters of a NAT instance by the names of NATV2-MIB (RFC 7659, natv2InstanceTable).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatV2 {
    /// natv2InstanceTranslations: packets translated, hairpinned ones once for each side.
    pub translations: u64,
    /// natv2InstanceAddressMapCreations: inside hosts given an external address.
    pub address_map_creations: u64,
    /// Those that gave it back (the MIB shows the difference as natv2InstanceAddressMapEntries).
    pub address_map_removals: u64,
    /// natv2InstanceAddressMapEntryLimitDrops: no account for a further inside host.
    pub address_map_entry_limit_drops: u64,
    /// natv2InstancePortMapCreations: mappings created.
    pub port_map_creations: u64,
    /// Mappings removed (the MIB shows the difference as natv2InstancePortMapEntries).
    pub port_map_removals: u64,
    /// natv2InstancePortMapEntryLimitDrops: the host's quota of ports was used up.
    pub port_map_entry_limit_drops: u64,
    /// natv2InstancePortMapFailureDrops: no port could be given.
    pub port_map_failure_drops: u64,
    /// natv2InstanceFragmentDrops: limits on fragments, and fragments that make no datagram.
    pub fragment_drops: u64,
    /// natv2InstanceOtherResourceFailureDrops: no room for a session or a handshake.
    pub other_resource_failure_drops: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_index_and_name() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), at);
            assert!(
                reason
                    .describe()
                    .starts_with(|c: char| c.is_ascii_uppercase())
            );
            assert_eq!(
                Reason::ALL
                    .iter()
                    .filter(|other| other.name() == reason.name())
                    .count(),
                1
            );
        }
    }
}
