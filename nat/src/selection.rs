//! Which sessions somebody wants to see, or to end.

use std::net::Ipv4Addr;

use crate::Nat;
use crate::rewrite::Protocol;
use crate::session::SessionView;

/// A subnet: an address in it and the length of its prefix, 0..=32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// Any address of it.
    pub address: Ipv4Addr,
    /// Bits that all its addresses have in common; longer than 32 counts as 32.
    pub prefix: u8,
}

impl Subnet {
    /// Returns whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let differing = 32 - u32::from(self.prefix.min(32));
        let difference = self.address.to_bits() ^ address.to_bits();
        difference.checked_shr(differing).unwrap_or(0) == 0
    }
}

/// What all selected sessions have in common; the default selects every session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The protocol.
    pub protocol: Option<Protocol>,
    /// A subnet that one of the three addresses is in: inside, external or remote.
    pub host: Option<Subnet>,
    /// A subnet that the inside address is in.
    pub inside: Option<Subnet>,
    /// A subnet that the remote address is in.
    pub outside: Option<Subnet>,
    /// A port, or query identifier, of any of the three endpoints.
    pub port: Option<u16>,
    /// The state's name, as [`SessionView::state`] has it.
    pub state: Option<String>,
}

impl Selection {
    /// Returns whether the selection includes this session.
    #[must_use]
    pub fn includes(&self, session: &SessionView) -> bool {
        let ends = [session.inside, session.external, session.remote];
        let within =
            |subnet: Option<Subnet>, address| subnet.is_none_or(|subnet| subnet.contains(address));
        self.protocol
            .is_none_or(|wanted| wanted == session.protocol)
            && self
                .host
                .is_none_or(|host| ends.iter().any(|end| host.contains(end.0)))
            && within(self.inside, session.inside.0)
            && within(self.outside, session.remote.0)
            && self
                .port
                .is_none_or(|port| ends.iter().any(|end| end.1 == port))
            && (self.state.as_deref()).is_none_or(|state| state == session.state)
    }

    /// Returns whether it selects every session.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

/// A part of the session table, so that a long table is looked at between batches of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first place to look at: 0, or what the part before left to be done.
    pub from: u32,
    /// How many places to look at; 0 counts as 1.
    pub places: u32,
}

impl Part {
    /// The whole table.
    pub const ALL: Self = Self {
        from: 0,
        places: u32::MAX,
    };
}

impl Nat {
    /// Appends the selected sessions of one part of the table; returns where the next part
    /// begins, or `None` after the last. A session that is made or ends meanwhile may be missed.
    pub fn select(
        &self,
        selection: &Selection,
        part: Part,
        into: &mut Vec<SessionView>,
    ) -> Option<u32> {
        let (places, next) = self.places(part);
        let sessions = places.filter_map(|id| self.sessions.get(id));
        into.extend(
            sessions
                .map(crate::session::Session::view)
                .filter(|session| selection.includes(session)),
        );
        next
    }

    /// Ends the selected sessions of one part of the table; returns how many there were, and
    /// where the next part begins.
    pub fn end_selected(&mut self, selection: &Selection, part: Part) -> (usize, Option<u32>) {
        let (places, next) = self.places(part);
        let mut ended = 0;
        for id in places {
            let session = self.sessions.get(id).map(crate::session::Session::view);
            if session.is_some_and(|session| selection.includes(&session)) {
                self.remove(id);
                ended += 1;
            }
        }
        if next.is_none() {
            self.fragments.forget_decided();
        }
        (ended, next)
    }

    pub(crate) fn places(&self, part: Part) -> (std::ops::Range<u32>, Option<u32>) {
        let end = self.sessions.end();
        let until = part.from.saturating_add(part.places.max(1)).min(end);
        (part.from..until, (until < end).then_some(until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Ipv4Header, protocol};
    use crate::{Census, Config, Kind, L4Sum, Nanos, Outcome, Packet};

    fn engine() -> Nat {
        let mut nat = Nat::new(Config::new([203, 0, 113, 254].into(), 40_000..=40_999), 7);
        for host in 2..5u8 {
            for port in 0..10u16 {
                let header = Ipv4Header {
                    payload_len: 8,
                    protocol: protocol::UDP,
                    src: [10, 9, 0, host].into(),
                    dst: [198, 51, 100, host].into(),
                    ..Ipv4Header::default()
                };
                let mut bytes = header.to_bytes().to_vec();
                bytes.extend((5000 + port).to_be_bytes());
                bytes.extend([0, 53, 0, 8, 0, 0]);
                let mut packet = Packet {
                    bytes: &mut bytes,
                    l4_sum: L4Sum::Full,
                };
                assert_eq!(nat.outbound(&mut packet, Nanos(1)), Outcome::Translated);
            }
        }
        nat
    }

    fn subnet(address: [u8; 4], prefix: u8) -> Option<Subnet> {
        Some(Subnet {
            address: address.into(),
            prefix,
        })
    }

    fn count(nat: &Nat, selection: &Selection, places: u32) -> usize {
        let mut found = Vec::new();
        let mut from = Some(0);
        while let Some(start) = from {
            from = nat.select(
                selection,
                Part {
                    from: start,
                    places,
                },
                &mut found,
            );
        }
        found.len()
    }

    #[test]
    fn every_word_narrows_and_parts_of_any_size_find_the_same() {
        let nat = engine();
        let everything = Selection::default();
        let cases = [
            (everything.clone(), 30),
            (
                Selection {
                    protocol: Some(Protocol::Tcp),
                    ..everything.clone()
                },
                0,
            ),
            (
                Selection {
                    host: subnet([198, 51, 100, 3], 32),
                    ..everything.clone()
                },
                10,
            ),
            (
                Selection {
                    host: subnet([203, 0, 113, 254], 32),
                    ..everything.clone()
                },
                30,
            ),
            (
                Selection {
                    inside: subnet([10, 9, 0, 2], 31),
                    ..everything.clone()
                },
                20,
            ),
            (
                Selection {
                    outside: subnet([0, 0, 0, 0], 0),
                    port: Some(5003),
                    ..everything.clone()
                },
                3,
            ),
            (
                Selection {
                    state: Some("REPLIED".into()),
                    ..everything.clone()
                },
                0,
            ),
            (
                Selection {
                    state: Some("UNREPLIED".into()),
                    port: Some(53),
                    ..everything
                },
                30,
            ),
        ];
        for (selection, expected) in cases {
            for places in [0, 1, 7, 30, u32::MAX] {
                assert_eq!(count(&nat, &selection, places), expected, "{selection:?}");
            }
        }
    }

    #[test]
    fn parts_of_any_size_count_the_same_kinds() {
        let nat = engine();
        for places in [0, 1, 7, 30, u32::MAX] {
            let (mut census, mut next) = (Census::default(), Some(0));
            while let Some(from) = next {
                next = nat.count_sessions(Part { from, places }, &mut census);
            }
            let unreplied = Kind {
                protocol: "udp",
                state: "UNREPLIED",
                sessions: 30,
            };
            assert_eq!(census.kinds().collect::<Vec<_>>(), [unreplied]);
        }
    }

    #[test]
    fn ends_what_is_selected_and_nothing_else() {
        let mut nat = engine();
        let selection = Selection {
            inside: subnet([10, 9, 0, 3], 32),
            ..Selection::default()
        };
        let part = Part {
            from: 0,
            places: 17,
        };
        let (first, next) = nat.end_selected(&selection, part);
        let rest = Part {
            from: next.unwrap(),
            places: 100,
        };
        let (second, last) = nat.end_selected(&selection, rest);
        assert_eq!((first + second, last), (10, None));
        assert_eq!(count(&nat, &selection, 100), 0);
        assert_eq!(nat.len(), 20);
    }
}
