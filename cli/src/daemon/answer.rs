//! Answers to the control server's requests, from tables and counters.

use std::net::IpAddr;
use std::time::Duration;

use nat::Nanos;
use switch::counters::Totals;
use switch::fdb::{FdbEntry, Flush};
use switch::mac::Mac;
use switch::neigh::{Link as NeighLink, NeighbourEntry, NeighbourState};
use switch::port::PortIndex;
use switch::switch::PortTotals;
use switch::verdict::{DropReason, Stage};
use switch::worker::NatReport;

use crate::config::PortSpec;
use crate::control::api::{self, OperState, Role};
use crate::control::{Refusal, Request};

use super::Daemon;
use super::lines::peer_words;
use super::ports::state_of;

pub(super) type Answer<T> = Result<T, Refusal>;

impl Daemon {
    /// Answers a request; whatever it asks for is done when the answer goes out.
    pub(super) fn answer(&mut self, request: Request) {
        match request {
            Request::Ports(reply) => reply.send(Ok(self.ports_answer())),
            Request::Fdb(reply) => reply.send(Ok(self.fdb_answer())),
            Request::Neighbours(reply) => reply.send(Ok(self.neighbours_answer())),
            Request::Nat(selection, extent, reply) => {
                reply.send(Ok(self.nat_answer(&selection, extent)));
            }
            Request::MonitorNat(feed, reply) => self.monitor_nat(feed, reply),
            Request::Watch(watch, feed, reply) => self.watch(*watch, feed, reply),
            Request::Record(feed, reply) => self.record(feed, reply),
            Request::WatchEnd(number, reply) => reply.send(self.end_watch(number)),
            Request::WhatIf(device, what, reply) => reply.send(self.what_if(&device, what)),
            Request::Latency(reply) => reply.send(Ok(self.latency_answer())),
            Request::LatencyReset(reply) => reply.send(Ok(self.latency_reset())),
            Request::MonitorEvents(kinds, feed, reply) => self.monitor_events(kinds, feed, reply),
            Request::Drops(reply) => reply.send(Ok(self.drops_answer())),
            Request::KeptDrops(reason, reply) => reply.send(Ok(self.kept_answer(reason))),
            Request::Why { dst, src, reply } => reply.send(Ok(self.why_answer(dst, src))),
            Request::DropsFlush(reply) => {
                self.switch.forget_drops();
                reply.send(Ok(done("kept packets forgotten; counters go on".into(), 1)));
            }
            Request::Metrics(reply) => reply.send(Ok(self.reading())),
            Request::Status(reply) => {
                reply.send(Ok(self.status_answer(&self.switch.nat_sizes())));
            }
            Request::PortAdd(spec, reply) => reply.send(self.port_add(&spec)),
            Request::PortSet {
                port,
                worker,
                reply,
            } => reply.send(self.port_set(&port, worker)),
            Request::PortDel(device, reply) => reply.send(self.port_del(&device)),
            Request::FdbAdd { mac, port, reply } => reply.send(self.fdb_add(mac, &port)),
            Request::FdbDel(mac, reply) => reply.send(self.fdb_del(mac)),
            Request::FdbFlush(port, reply) => reply.send(self.fdb_flush(port.as_deref())),
            Request::NatReport(reply) => reply.send(self.nat_report_answer()),
            Request::NatFlush(selection, reply) => {
                let count = self.switch.nat_flush(&selection);
                reply.send(Ok(done(format!("{count} NAT sessions ended"), count)));
            }
            Request::NatPublish(spec, reply) => reply.send(self.nat_publish(&spec)),
            Request::NatUnpublish(at, reply) => reply.send(self.nat_unpublish(at)),
            Request::Published(reply) => {
                let reports = self.switch.nat_reports(&nat::Selection::default());
                let sessions = reports.iter().flat_map(|report| &report.sessions);
                reply.send(Ok(self.published_answer(None, sessions)));
            }
            Request::NeighFlush(reply) => {
                let count = self.switch.tables().flush_neighbours(None);
                reply.send(Ok(done(format!("{count} neighbours forgotten"), count)));
            }
        }
    }

    pub(super) fn ports_answer(&self) -> Vec<api::Port> {
        let mut ports: Vec<api::Port> = self.ports.iter().map(|port| self.port_of(port)).collect();
        ports.extend(self.uplink_of());
        ports.extend(self.host_port_of());
        ports.sort_by_key(|port| port.vswitch.index);
        ports
    }

    fn port_of(&self, port: &super::ports::Port) -> api::Port {
        let kind = if port.is_tap() {
            "tap"
        } else {
            port.link
                .kind
                .as_deref()
                .filter(|kind| *kind == "veth")
                .unwrap_or("packet")
        };
        let detail = api::PortDetail {
            word: port.spec.word.to_string(),
            kind: kind.into(),
            guard: port
                .guard
                .as_ref()
                .map_or_else(|| "none".into(), |g| g.rung().to_string()),
            peer: peer_words(port),
            ring_bytes: port.ring_bytes,
            ..self.detail(port.index, Role::Port)
        };
        self.port_answer(&port.link, port.device(), port.state, detail)
    }

    fn uplink_of(&self) -> Option<api::Port> {
        let uplink = self.uplink.as_ref()?;
        let detail = api::PortDetail {
            word: uplink.device.clone(),
            kind: "packet".into(),
            guard: uplink
                .guard
                .as_ref()
                .map_or_else(|| "none".into(), |g| g.rung().to_string()),
            peer: uplink.address.map(|address| address.to_string()),
            ring_bytes: uplink.ring_bytes,
            ..self.detail(uplink.index, Role::Uplink)
        };
        Some(self.port_answer(&uplink.link, &uplink.device, uplink.state, detail))
    }

    fn host_port_of(&self) -> Option<api::Port> {
        let port = self.host_port.as_ref()?;
        let detail = api::PortDetail {
            word: format!("tap:{}", port.link.name),
            kind: "tap".into(),
            peer: Some(format!("host {}", self.gateway.address)),
            ..self.detail(port.index, Role::Host)
        };
        Some(self.port_answer(&port.link, &port.link.name, state_of(&port.link), detail))
    }

    fn detail(&self, index: PortIndex, role: Role) -> api::PortDetail {
        let totals = self.switch.port_totals(index);
        let drops = totals.drops.iter().map(|(reason, count)| api::DropCount {
            reason: reason.word().into(),
            count: *count,
        });
        api::PortDetail {
            word: String::new(),
            kind: String::new(),
            index: index.0,
            role,
            worker: self.switch.port_worker(index).unwrap_or(0),
            workers: self.workers_of(index),
            nat_worker: self.nat_worker_of(index, role),
            network: self.settings.name.clone(),
            guard: "none".into(),
            peer: None,
            ring_bytes: 0,
            drops: drops.collect(),
        }
    }

    fn port_answer(
        &self,
        link: &crate::host::link::Link,
        device: &str,
        operstate: OperState,
        vswitch: api::PortDetail,
    ) -> api::Port {
        let totals = self.switch.port_totals(PortIndex(vswitch.index));
        api::Port {
            schema: api::PortSchema,
            ifname: device.into(),
            mtu: link.mtu,
            operstate,
            address: link.mac,
            stats64: stats(&totals),
            vswitch,
        }
    }

    pub(super) fn name_of(&self, index: PortIndex) -> String {
        let mut ports = self.all_ports();
        ports
            .find(|(i, _)| *i == index)
            .map_or_else(|| index.to_string(), |(_, n)| n.to_owned())
    }

    /// The port of that device: a member's, the uplink's or the host's.
    pub(super) fn index_of(&self, device: &str) -> Answer<PortIndex> {
        let mut ports = self.all_ports();
        let found = ports.find(|(_, name)| *name == device);
        found.map(|(index, _)| index).ok_or_else(|| no_port(device))
    }

    fn word_of(&self, index: PortIndex) -> String {
        let port = self.ports.iter().find(|port| port.index == index);
        port.map_or_else(|| self.name_of(index), |port| port.spec.word.to_string())
    }

    pub(super) fn fdb_answer(&self) -> Vec<api::FdbEntry> {
        let master = self.settings.name.clone();
        let own = api::FdbEntry {
            schema: api::FdbSchema,
            mac: self.gateway.mac,
            ifname: master.clone(),
            vlan: 1,
            flags: Vec::new(),
            master,
            state: api::FdbState::Permanent,
            age: None,
            port: "gateway".into(),
        };
        let entries = self.switch.fdb().entries(self.clock.now());
        let learned = entries.iter().map(|entry| self.station(entry));
        learned.chain([own]).collect()
    }

    pub(super) fn station(&self, entry: &FdbEntry) -> api::FdbEntry {
        api::FdbEntry {
            schema: api::FdbSchema,
            mac: entry.mac,
            ifname: self.name_of(entry.port),
            vlan: 1,
            flags: Vec::new(),
            master: self.settings.name.clone(),
            state: if entry.is_static {
                api::FdbState::Static
            } else {
                api::FdbState::Learned
            },
            age: (!entry.is_static).then(|| f64::from(entry.age_secs)),
            port: self.word_of(entry.port),
        }
    }

    pub(super) fn neighbours_answer(&self) -> Vec<api::Neighbour> {
        let entries = self.switch.neighbours().entries(self.clock.now());
        entries.iter().map(|entry| self.neighbour(entry)).collect()
    }

    pub(super) fn neighbour(&self, entry: &NeighbourEntry) -> api::Neighbour {
        let (side, dev) = match entry.link {
            NeighLink::Uplink => (
                api::Side::Outside,
                self.settings.uplink.clone().unwrap_or_default(),
            ),
            NeighLink::Network(network) => (api::Side::Inside, self.device_of(network, entry)),
        };
        api::Neighbour {
            schema: api::NeighSchema,
            dst: IpAddr::V4(entry.address),
            dev,
            lladdr: entry.mac,
            state: [neigh_state(entry.state)],
            vswitch: api::NeighDetail {
                side,
                age: entry.mac.map(|_| f64::from(entry.age_secs)),
            },
        }
    }

    /// The port a neighbour's frames go to; the switch itself while nobody knows.
    fn device_of(&self, network: u16, entry: &NeighbourEntry) -> String {
        let fdb = self.switch.fdb();
        let port = entry
            .mac
            .and_then(|mac| fdb.lookup(network, mac, self.clock.now()));
        port.map_or_else(|| self.settings.name.clone(), |port| self.name_of(port))
    }

    /// The switch as a whole; of its NAT the sizes that every worker told.
    pub(super) fn status_answer(&self, nat: &[NatReport]) -> api::Status {
        let totals = self.switch.totals();
        let (workers, imbalance) = self.workers_answer();
        api::Status {
            schema: api::StatusSchema,
            name: self.settings.name.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").into(),
            uptime: seconds(self.clock.now().saturating_sub(self.ready_at)),
            ports: u32::try_from(self.all_ports().count()).unwrap_or(u32::MAX),
            gateway: Some(format!("{}/{}", self.gateway.address, self.gateway.prefix)),
            uplink: self.settings.uplink.clone(),
            fdb_entries: (self.switch.fdb().dynamic_entries() + self.switch.fdb().static_entries())
                as u64,
            nat_sessions: nat.iter().map(|report| report.total as u64).sum(),
            workers,
            imbalance,
            totals: totals_answer(&totals),
        }
    }

    fn port_add(&mut self, spec: &PortSpec) -> Answer<api::Done> {
        let device = spec.word.device().to_owned();
        if self.all_ports().any(|(_, name)| name == device) {
            return Err(Refusal::Conflict {
                what: format!("port {device}"),
                why: "it is a port of this switch already".into(),
                fix: format!("vswitch port del {device}"),
            });
        }
        self.add_checked(spec).map_err(|error| Refusal::Failed {
            what: error.what,
            why: error.why,
            fix: error.fix,
        })?;
        self.settings.ports.push(spec.clone());
        Ok(done(format!("{} added", spec.word), 1))
    }

    fn port_del(&mut self, device: &str) -> Answer<api::Done> {
        let place = self.ports.iter().position(|port| port.device() == device);
        let Some(place) = place else {
            return Err(no_port(device));
        };
        self.close_port(place);
        self.settings
            .ports
            .retain(|port| port.word.device() != device);
        Ok(done(format!("{device} removed"), 1))
    }

    fn fdb_add(&self, mac: Mac, device: &str) -> Answer<api::Done> {
        let port = self.port_called(device).ok_or_else(|| no_port(device))?;
        if mac == self.gateway.mac {
            return Err(Refusal::Conflict {
                what: format!("station {mac}"),
                why: "it is the gateway's own address".into(),
                fix: "vswitch fdb".into(),
            });
        }
        self.fix_station(mac, port.index, &port.spec.word)
            .map_err(|error| Refusal::Failed {
                what: error.what,
                why: error.why,
                fix: error.fix,
            })?;
        Ok(done(format!("{mac} fixed to {device}"), 1))
    }

    fn fdb_del(&self, mac: Mac) -> Answer<api::Done> {
        match self.switch.tables().remove(0, mac) {
            Some(port) => Ok(done(
                format!("{mac} forgotten (was on {})", self.name_of(port)),
                1,
            )),
            None => Err(Refusal::Absent {
                what: format!("station {mac}"),
                fix: "vswitch fdb".into(),
            }),
        }
    }

    fn fdb_flush(&self, device: Option<&str>) -> Answer<api::Done> {
        let flush = match device {
            None => Flush::Dynamic,
            Some(device) => Flush::Port(self.index_of(device)?),
        };
        let count = self.switch.tables().flush(flush);
        Ok(done(format!("{count} learned stations forgotten"), count))
    }
}

pub(super) const fn neigh_state(state: NeighbourState) -> api::NeighState {
    match state {
        NeighbourState::Incomplete => api::NeighState::Incomplete,
        NeighbourState::Reachable => api::NeighState::Reachable,
        NeighbourState::Stale => api::NeighState::Stale,
        NeighbourState::Failed => api::NeighState::Failed,
    }
}

pub(super) fn no_port(device: &str) -> Refusal {
    Refusal::Absent {
        what: format!("port {device}"),
        fix: "vswitch port".into(),
    }
}

pub(super) fn done(message: String, count: usize) -> api::Done {
    api::Done::new(message, count as u64)
}

pub(super) fn seconds(time: Nanos) -> f64 {
    Duration::from_nanos(time.0).as_secs_f64()
}

/// `errors` are frames that contradicted themselves (rx) or were refused (tx), as `ip -s link` has
/// it; everything else is `dropped`.
fn stats(totals: &PortTotals) -> api::Stats64 {
    let mut rx = api::Counters {
        bytes: totals.received_bytes,
        packets: totals.received_frames,
        ..api::Counters::default()
    };
    let mut tx = api::Counters {
        bytes: totals.sent_bytes,
        packets: totals.sent_frames,
        ..api::Counters::default()
    };
    for (reason, count) in &totals.drops {
        let side = match reason.stage() {
            Stage::Ingress => &mut rx,
            Stage::Egress => &mut tx,
        };
        let error = matches!(
            reason,
            DropReason::FrameTooShort
                | DropReason::Truncated
                | DropReason::UnknownOffload
                | DropReason::EgressOffload
                | DropReason::EgressRefused
        );
        if error {
            side.errors += count;
        } else {
            side.dropped += count;
        }
    }
    api::Stats64 { rx, tx }
}

const fn totals_answer(totals: &Totals) -> api::Totals {
    api::Totals {
        received: totals.received,
        resumed: totals.released + totals.taken_over,
        forwarded: totals.forwarded,
        routed: totals.routed,
        flooded: totals.flooded,
        answered: totals.answered,
        absorbed: totals.absorbed,
        held: totals.held,
        handed_over: totals.handed_over,
        dropped: totals.dropped_ingress,
        copies: totals.copies,
        originated: totals.originated,
        sent: totals.sent,
        egress_dropped: totals.dropped_egress,
    }
}
