//! What is told of the NAT: its sessions, how full it is, what it is held to.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use nat::{Nanos, SessionView};

use crate::conform;
use crate::control::select::Extent;
use crate::control::{Refusal, api};

use super::Daemon;
use super::answer::{Answer, seconds};

impl Daemon {
    pub(super) fn nat_answer(&self, selection: &nat::Selection, extent: Extent) -> api::Nat {
        let reports = match extent {
            Extent::Summary => self.switch.nat_sizes(),
            Extent::All | Extent::Most(_) => self.switch.nat_reports(selection),
        };
        let found = || reports.iter().flat_map(|report| &report.sessions);
        let mut wanted: Vec<(&SessionView, Nanos)> = reports
            .iter()
            .flat_map(|report| report.sessions.iter().map(|session| (session, report.now)))
            .collect();
        if let Extent::Most(most) = extent {
            keep_most(&mut wanted, usize::try_from(most).unwrap_or(usize::MAX));
        }
        let sessions = wanted.into_iter();
        let mut sessions: Vec<api::NatSession> = sessions
            .map(|(session, now)| self.session(session, now))
            .collect();
        sessions.sort_by(|a, b| a.age.total_cmp(&b.age));
        let published = match extent {
            Extent::Summary => Vec::new(),
            Extent::All | Extent::Most(_) => self.published_answer(None, found()),
        };
        let used = |protocol: usize| -> u32 {
            reports
                .iter()
                .filter_map(|report| report.ports_used.get(protocol))
                .sum()
        };
        let mut counters = api::NatCounters::default();
        for report in &reports {
            counters.add(&report.counters.natv2());
        }
        let ports = self.settings.nat_ports;
        let external = self
            .switch
            .view()
            .uplink
            .as_ref()
            .map(|uplink| api::NatExternal {
                address: IpAddr::V4(uplink.address),
                ports_used: (0..3).map(used).max().unwrap_or(0),
                ports_total: u32::from(ports.high - ports.low) + 1,
            });
        api::Nat {
            schema: api::NatSchema,
            summary: api::NatSummary {
                sessions: reports.iter().map(|report| report.total as u64).sum(),
                sessions_max: reports.iter().map(|report| report.capacity as u64).sum(),
                external: external.into_iter().collect(),
                counters,
            },
            sessions,
            states: states(found()),
            published,
        }
    }

    pub(super) fn nat_report_answer(&self) -> Answer<api::NatReport> {
        let sizes = self.switch.nat_sizes();
        let config = sizes.iter().find_map(|worker| worker.config.as_ref());
        let config = config.ok_or_else(|| Refusal::Absent {
            what: "NAT".into(),
            fix: "start with --uplink, and without --no-nat".into(),
        })?;
        Ok(api::NatReport {
            schema: api::NatReportSchema,
            requirements: conform::report(config),
        })
    }

    pub(super) fn session(&self, session: &SessionView, now: Nanos) -> api::NatSession {
        let endpoint =
            |(address, port): (std::net::Ipv4Addr, u16)| SocketAddr::new(IpAddr::V4(address), port);
        let (link, clock) = (self.gateway.link(), self.clock.now());
        let neighbours = self.switch.neighbours();
        let mac = neighbours.lookup(link, session.inside.0, clock).mac();
        let port = mac.and_then(|mac| self.switch.fdb().lookup(0, mac, clock));
        api::NatSession {
            proto: session.protocol.name().into(),
            proto_number: session.protocol.number(),
            state: session.state.into(),
            inside: endpoint(session.inside),
            external: endpoint(session.external),
            outside: endpoint(session.remote),
            origin: api::Side::of_origin(session),
            replied: session.replied,
            port: port.map(|port| self.name_of(port)),
            age: seconds(now.saturating_sub(session.created)),
            left: seconds(session.expires_at.saturating_sub(now)),
            outbound: session.outbound.into(),
            inbound: session.inbound.into(),
        }
    }
}

/// Keeps so many sessions: the first half those with the most bytes, the rest those with the most
/// bytes by their age.
fn keep_most(sessions: &mut Vec<(&SessionView, Nanos)>, most: usize) {
    let bytes = |session: &SessionView| session.outbound.bytes + session.inbound.bytes;
    let pace = |(session, now): &(&SessionView, Nanos)| {
        // A session younger than a second has not shown yet what it would move in one.
        let age = now.saturating_sub(session.created).0.max(1_000_000_000);
        u128::from(bytes(session)) * 1_000_000_000 / u128::from(age)
    };
    if sessions.len() <= most {
        return;
    }
    let half = most / 2;
    sessions.select_nth_unstable_by_key(half, |(session, _)| Reverse(bytes(session)));
    let (_, rest) = sessions.split_at_mut(half);
    let others = most - half;
    if others < rest.len() {
        rest.select_nth_unstable_by_key(others, |one| Reverse(pace(one)));
    }
    sessions.truncate(most);
}

/// How many of the sessions are in each state.
fn states<'s>(sessions: impl Iterator<Item = &'s SessionView>) -> Vec<api::NatState> {
    let mut counts = BTreeMap::new();
    for session in sessions {
        *counts
            .entry((session.protocol.name(), session.state))
            .or_insert(0) += 1;
    }
    let state = |((proto, state), sessions): ((&str, &str), u64)| api::NatState {
        proto: proto.into(),
        state: state.into(),
        sessions,
    };
    counts.into_iter().map(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn session(bytes: u64, age_secs: u64) -> SessionView {
        SessionView {
            protocol: nat::Protocol::Udp,
            state: "REPLIED",
            inside: ([10, 77, 0, 11].into(), 1),
            external: ([192, 0, 2, 10].into(), 1),
            remote: ([192, 0, 2, 20].into(), 1),
            from_inside: true,
            replied: true,
            created: Nanos(NOW.0 - age_secs * 1_000_000_000),
            expires_at: NOW,
            outbound: nat::Traffic { bytes, packets: 1 },
            inbound: nat::Traffic::default(),
        }
    }

    const NOW: Nanos = Nanos(1_000_000_000_000);

    #[test]
    fn the_most_are_those_that_moved_much_and_those_that_are_fast() {
        let all: Vec<SessionView> = [
            (9_000, 900),
            (8_000, 900),
            (7_000, 900),
            (600, 1),
            (500, 0),
            (40, 900),
        ]
        .map(|(bytes, age)| session(bytes, age))
        .to_vec();
        for (most, expected) in [
            (0, vec![]),
            (1, vec![600]),
            (2, vec![600, 9_000]),
            (4, vec![500, 600, 8_000, 9_000]),
            (6, vec![40, 500, 600, 7_000, 8_000, 9_000]),
            (7, vec![40, 500, 600, 7_000, 8_000, 9_000]),
        ] {
            let mut kept: Vec<_> = all.iter().map(|session| (session, NOW)).collect();
            keep_most(&mut kept, most);
            let mut kept: Vec<u64> = kept.iter().map(|(s, _)| s.outbound.bytes).collect();
            kept.sort_unstable();
            assert_eq!(kept, expected, "{most}");
        }
        let counted = states(all.iter());
        assert_eq!(counted.len(), 1);
        assert_eq!((counted[0].proto.as_str(), counted[0].sessions), ("udp", 6));
    }
}
