//! NAT sessions, and what they leave, as a recording has them.

use std::net::Ipv4Addr;

use nat::{HeldPort, Nanos, Part, Protocol, Remains, Selection, SessionRecord, Subnet, Traffic};
use serde::{Deserialize, Serialize};

/// An address and a port.
type End = (Ipv4Addr, u16);

/// A [`SessionRecord`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedSession {
    protocol: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tcp: Option<u8>,
    from_inside: bool,
    replied: bool,
    published: bool,
    inside: End,
    external: End,
    remote: End,
    /// Nanoseconds, as is the next.
    remaining: u64,
    age: u64,
    /// Packets and bytes.
    outbound: (u64, u64),
    inbound: (u64, u64),
}

impl From<&SessionRecord> for RecordedSession {
    fn from(record: &SessionRecord) -> Self {
        Self {
            protocol: record.protocol.number(),
            tcp: record.tcp,
            from_inside: record.from_inside,
            replied: record.replied,
            published: record.published,
            inside: record.inside,
            external: record.external,
            remote: record.remote,
            remaining: record.remaining.0,
            age: record.age.0,
            outbound: (record.outbound.packets, record.outbound.bytes),
            inbound: (record.inbound.packets, record.inbound.bytes),
        }
    }
}

impl From<&RecordedSession> for SessionRecord {
    fn from(recorded: &RecordedSession) -> Self {
        let traffic = |(packets, bytes)| Traffic { packets, bytes };
        Self {
            protocol: protocol(recorded.protocol),
            tcp: recorded.tcp,
            from_inside: recorded.from_inside,
            replied: recorded.replied,
            published: recorded.published,
            inside: recorded.inside,
            external: recorded.external,
            remote: recorded.remote,
            remaining: Nanos(recorded.remaining),
            age: Nanos(recorded.age),
            outbound: traffic(recorded.outbound),
            inbound: traffic(recorded.inbound),
        }
    }
}

/// A protocol by its number.
#[must_use]
pub(super) fn protocol(number: u8) -> Protocol {
    let known = Protocol::ALL.into_iter().find(|it| it.number() == number);
    known.unwrap_or(Protocol::Other(number))
}

/// Some of [`Remains`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RecordedRemains {
    /// Protocol, address, port, host, and the second until which it is held.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    held: Vec<(u8, Ipv4Addr, u16, Ipv4Addr, u32)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ids: Vec<u16>,
}

impl RecordedRemains {
    /// In pieces, of so many held ports each; the first has all else.
    pub fn pieces(remains: &Remains, ports: usize) -> Vec<Self> {
        let mut pieces = vec![Self {
            held: Vec::new(),
            ids: remains.ids.clone(),
        }];
        pieces.extend(remains.held.chunks(ports.max(1)).map(|some| {
            let held = some.iter().map(|held| {
                let number = held.protocol.number();
                (number, held.address, held.port, held.host, held.until)
            });
            Self {
                held: held.collect(),
                ids: Vec::new(),
            }
        }));
        pieces
    }

    /// Adds a piece to what there is.
    pub fn add_to(self, remains: &mut Remains) {
        remains.held.extend(self.held.iter().map(|held| HeldPort {
            protocol: protocol(held.0),
            address: held.1,
            port: held.2,
            host: held.3,
            until: held.4,
        }));
        if !self.ids.is_empty() {
            remains.ids = self.ids;
        }
    }
}

/// A [`Selection`] of one part of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedSelection {
    protocol: Option<u8>,
    /// An address and the length of a prefix, as are the next two.
    host: Option<(Ipv4Addr, u8)>,
    inside: Option<(Ipv4Addr, u8)>,
    outside: Option<(Ipv4Addr, u8)>,
    port: Option<u16>,
    state: Option<String>,
    /// The first place, and how many.
    part: (u32, u32),
}

impl RecordedSelection {
    pub(super) fn new(selection: &Selection, part: Part) -> Self {
        let subnet = |subnet: Option<Subnet>| subnet.map(|it| (it.address, it.prefix));
        Self {
            protocol: selection.protocol.map(Protocol::number),
            host: subnet(selection.host),
            inside: subnet(selection.inside),
            outside: subnet(selection.outside),
            port: selection.port,
            state: selection.state.clone(),
            part: (part.from, part.places),
        }
    }

    /// What it selects.
    #[must_use]
    pub fn selection(&self) -> (Selection, Part) {
        let subnet =
            |it: Option<(Ipv4Addr, u8)>| it.map(|(address, prefix)| Subnet { address, prefix });
        let selection = Selection {
            protocol: self.protocol.map(protocol),
            host: subnet(self.host),
            inside: subnet(self.inside),
            outside: subnet(self.outside),
            port: self.port,
            state: self.state.clone(),
        };
        let (from, places) = self.part;
        (selection, Part { from, places })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_and_what_they_leave_come_back_as_they_were() {
        let end = |last| (Ipv4Addr::new(10, 9, 0, last), 5000 + u16::from(last));
        for (number, tcp) in [
            (6, Some(0x23)),
            (17, None),
            (1, None),
            (132, None),
            (47, None),
        ] {
            let record = SessionRecord {
                protocol: protocol(number),
                tcp,
                from_inside: number != 17,
                replied: true,
                published: number == 17,
                inside: end(2),
                external: end(3),
                remote: end(4),
                remaining: Nanos(u64::MAX - 1),
                age: Nanos(7),
                outbound: Traffic {
                    packets: 1,
                    bytes: 2,
                },
                inbound: Traffic {
                    packets: 3,
                    bytes: 4,
                },
            };
            let json = serde_json::to_string(&RecordedSession::from(&record)).unwrap();
            let read: RecordedSession = serde_json::from_str(&json).unwrap();
            assert_eq!(SessionRecord::from(&read), record, "{json}");
        }
        let remains = Remains {
            held: (7..10)
                .map(|port| HeldPort {
                    protocol: Protocol::Udp,
                    address: end(3).0,
                    port,
                    host: end(2).0,
                    until: 99,
                })
                .collect(),
            ids: vec![0, 65_535],
        };
        for ports in [0, 1, 5] {
            let mut again = Remains::default();
            for piece in RecordedRemains::pieces(&remains, ports) {
                let json = serde_json::to_string(&piece).unwrap();
                let read: RecordedRemains = serde_json::from_str(&json).unwrap();
                read.add_to(&mut again);
            }
            assert_eq!(again, remains);
        }
        let selection = Selection {
            protocol: Some(Protocol::Tcp),
            inside: Some(Subnet {
                address: end(1).0,
                prefix: 24,
            }),
            state: Some("ESTABLISHED".into()),
            ..Selection::default()
        };
        let part = Part { from: 3, places: 4 };
        let recorded = RecordedSelection::new(&selection, part);
        assert_eq!(recorded.selection(), (selection, part));
    }
}
