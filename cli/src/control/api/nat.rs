//! What the NAT has counted: by the names of NATV2-MIB (RFC 7659), and by state.

use nat::NatV2;
use serde::{Deserialize, Serialize};

/// How many sessions of a protocol are in a state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NatState {
    /// `tcp`, `udp`, `icmp`.
    pub proto: String,
    /// The state, in conntrack's words.
    pub state: String,
    /// How many.
    pub sessions: u64,
}

macro_rules! counters {
    ($($name:ident $words:literal;)+) => {
        /// Counts since the start, over all workers; the names are RFC 7659's, without their prefix
        /// `natv2Instance`.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct NatCounters {
            $(#[doc = concat!("In words: ", $words, ".")] pub $name: u64,)+
        }

        impl NatCounters {
            /// Adds one worker's.
            pub fn add(&mut self, counted: &NatV2) {
                $(self.$name += counted.$name;)+
            }

            /// The name of each, what it counts in words, and its count where there are `counters`.
            #[must_use]
            pub fn named(
                counters: Option<&Self>,
            ) -> Vec<(&'static str, &'static str, Option<u64>)> {
                vec![$((stringify!($name), $words, counters.map(|all| all.$name))),+]
            }

            /// Each with what it counts, in words.
            #[must_use]
            pub fn in_words(&self) -> Vec<(&'static str, u64)> {
                vec![$(($words, self.$name)),+]
            }
        }
    };
}

counters! {
    translations "packets translated";
    address_map_creations "hosts given an external address";
    address_map_removals "hosts that gave it back";
    address_map_entry_limit_drops "dropped: no account for a further host";
    port_map_creations "ports given";
    port_map_removals "ports given back";
    port_map_entry_limit_drops "dropped: a host's quota of ports";
    port_map_failure_drops "dropped: no port left";
    fragment_drops "dropped: fragments";
    other_resource_failure_drops "dropped: no room for a session or a handshake";
}
