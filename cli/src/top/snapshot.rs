//! What all forms of `top` show: the rates between two looks, beside what the later one saw.
//!
//! Its JSON is `vswitch.top/1`; keys are only ever added. Rates are `null` where one look is all
//! there is, or where a counter began anew between the two.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::Serialize;

use super::heat::LatencyRate;
use super::look::{Look, NatLook};
use crate::control::api::{self, NatCounters, NatExternal, NatState, OperState, Role, Side};
use crate::show::moment;

/// The schema of a [`Snapshot`].
pub const SCHEMA: &str = "vswitch.top/1";
/// Talkers that are listed.
const TALKERS_MAX: usize = 20;

/// The switch between two looks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Snapshot {
    /// `vswitch.top/1`.
    pub schema: &'static str,
    /// When the later look was: ISO 8601, UTC.
    pub time: String,
    /// Seconds between the looks; `null` if there was but one.
    pub interval: Option<f64>,
    /// Whose figures these are.
    pub switch: Identity,
    /// Everything together.
    pub totals: TotalRates,
    /// The workers.
    pub workers: Vec<WorkerRate>,
    /// The ports, in the order of their index.
    pub ports: Vec<PortRate>,
    /// The NAT; `null` where there is none.
    pub nat: Option<NatRate>,
    /// Its sessions; `null` where they were not asked for.
    pub flows: Option<Flows>,
    /// How long frames took; `null` where that was not asked for, or is not measured.
    pub latency: Option<LatencyRate>,
    /// Drops by reason and port, the fastest first.
    pub drops: Vec<DropRate>,
}

/// Whose figures these are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Identity {
    /// The switch's name.
    pub name: String,
    /// The process.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// Seconds since it was ready.
    pub uptime: f64,
    /// The gateway.
    pub gateway: Option<String>,
    /// The uplink's device.
    pub uplink: Option<String>,
    /// Entries of the forwarding table.
    pub fdb_entries: u64,
}

/// Everything together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TotalRates {
    /// Frames that came in.
    pub frames_per_second: Option<f64>,
    /// Bits that came in.
    pub bits_per_second: Option<f64>,
    /// Frames and copies dropped.
    pub drops_per_second: Option<f64>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WorkerRate {
    /// Its number.
    pub index: u16,
    /// The processor it is bound to.
    pub cpu: Option<u16>,
    /// The share of the time it was at work, from 0 to 1.
    pub busy_share: Option<f64>,
    /// Frames it received.
    pub frames_per_second: Option<f64>,
    /// Frames in a batch, on average.
    pub batch_mean: Option<f64>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PortRate {
    /// Its device.
    pub ifname: String,
    /// What it is for.
    pub role: Role,
    /// Whether it can carry frames.
    pub operstate: OperState,
    /// The worker that receives from it.
    pub worker: u16,
    /// What is at its other end.
    pub peer: Option<String>,
    /// From the port into the switch.
    pub rx: WayRate,
    /// From the switch out of the port.
    pub tx: WayRate,
    /// Frames and copies dropped since it was opened.
    pub drops: u64,
    /// The same in a second.
    pub drops_per_second: Option<f64>,
}

/// One way through a port.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WayRate {
    /// Frames since it was opened.
    pub packets: u64,
    /// Bytes since it was opened.
    pub bytes: u64,
    /// Frames.
    pub packets_per_second: Option<f64>,
    /// Bits.
    pub bits_per_second: Option<f64>,
}

/// The NAT as a whole.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NatRate {
    /// Sessions at present.
    pub sessions: u64,
    /// The most there may be.
    pub sessions_max: u64,
    /// Packets translated.
    pub translations_per_second: Option<f64>,
    /// Ports given.
    pub ports_given_per_second: Option<f64>,
    /// External addresses and their ports.
    pub external: Vec<NatExternal>,
    /// Sessions by state, the most frequent first; empty where sessions were not asked for.
    pub states: Vec<NatState>,
    /// Published ports; empty where sessions were not asked for.
    pub published: Vec<api::Published>,
    /// What was counted since the start.
    pub counters: NatCounters,
}

/// Sessions: the busiest of them, where there are very many.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flows {
    /// Sessions there are.
    pub sessions: u64,
    /// Sessions that were looked at: those with the most bytes, and those that are fastest by age.
    pub watched: u64,
    /// Members of the network by what their sessions move, the busiest first.
    pub talkers: Vec<Talker>,
    /// The sessions that were looked at, the busiest first.
    pub list: Vec<Flow>,
}

/// A member of the network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Talker {
    /// Its address.
    pub address: IpAddr,
    /// The port it is on.
    pub port: Option<String>,
    /// Its sessions among those looked at.
    pub sessions: u64,
    /// Bits from it.
    pub outbound_bits_per_second: f64,
    /// Bits for it.
    pub inbound_bits_per_second: f64,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Flow {
    /// `tcp`, `udp`, `icmp`.
    pub proto: String,
    /// Its state, in conntrack's words.
    pub state: String,
    /// The endpoint inside.
    pub inside: SocketAddr,
    /// The endpoint it appears as.
    pub external: SocketAddr,
    /// The endpoint outside.
    pub outside: SocketAddr,
    /// The side that sent the first packet.
    pub origin: Side,
    /// The port the inside endpoint is on.
    pub port: Option<String>,
    /// Seconds since the first packet.
    pub age: f64,
    /// Seconds until it ends if nothing more comes.
    pub left: f64,
    /// Bytes so far, both ways.
    pub bytes: u64,
    /// Bits from inside.
    pub outbound_bits_per_second: Option<f64>,
    /// Bits from outside.
    pub inbound_bits_per_second: Option<f64>,
}

impl Flow {
    /// Bits both ways; `None` where that is not known.
    #[must_use]
    pub fn bits_per_second(&self) -> Option<f64> {
        Some(self.outbound_bits_per_second? + self.inbound_bits_per_second?)
    }
}

/// Drops for one reason on one port.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DropRate {
    /// The reason's word.
    pub reason: String,
    /// The device of the port.
    pub port: Option<String>,
    /// How many since start.
    pub count: u64,
    /// How many in a second.
    pub per_second: Option<f64>,
    /// What the reason means.
    pub meaning: String,
    /// What to do about it.
    pub fix: String,
}

/// Two readings of a counter, and the seconds between them.
#[derive(Debug, Clone, Copy)]
struct Span(Option<f64>);

impl Span {
    fn between(before: Option<Duration>, now: Duration) -> Self {
        let passed = before.and_then(|before| now.checked_sub(before));
        let secs = passed.map(|passed| passed.as_secs_f64());
        Self(secs.filter(|secs| *secs > 0.0))
    }

    /// How much in a second; not known where a counter fell, since it began anew.
    fn rate(self, before: Option<u64>, now: u64) -> Option<f64> {
        Some(now.checked_sub(before?)? as f64 / self.0?)
    }

    /// The same of bytes, in bits.
    fn bits(self, before: Option<u64>, now: u64) -> Option<f64> {
        self.rate(before, now).map(|bytes| bytes * 8.0)
    }
}

impl Snapshot {
    /// What the later look saw, with the rates since the earlier.
    #[must_use]
    pub fn between(before: Option<&Look>, now: &Look) -> Self {
        // Another process by the same name counts anew.
        let before = before.filter(|before| before.status.pid == now.status.pid);
        let span = Span::between(before.map(|look| look.at), now.at);
        let ports: Vec<PortRate> = (now.ports.iter())
            .map(|port| PortRate::between(before, port, span))
            .collect();
        let status = &now.status;
        let dropped = |look: &Look| look.drops.iter().map(|drop| drop.count).sum::<u64>();
        let received = before.map(|look| look.status.totals.received);
        let bits = ports.iter().filter_map(|port| port.rx.bits_per_second);
        Self {
            schema: SCHEMA,
            time: moment::iso(now.wall),
            interval: span.0,
            switch: Identity {
                name: status.name.clone(),
                pid: status.pid,
                version: status.version.clone(),
                uptime: status.uptime,
                gateway: status.gateway.clone(),
                uplink: status.uplink.clone(),
                fdb_entries: status.fdb_entries,
            },
            totals: TotalRates {
                frames_per_second: span.rate(received, status.totals.received),
                bits_per_second: span.0.map(|_| bits.sum()),
                drops_per_second: span.rate(before.map(dropped), dropped(now)),
            },
            workers: (status.workers.iter())
                .map(|worker| WorkerRate::between(before, worker, span))
                .collect(),
            ports,
            nat: NatRate::between(before.map(|look| &look.nat), &now.nat),
            flows: (now.nat.sessions).then(|| Flows::between(before.map(|b| &b.nat), &now.nat)),
            latency: before.and_then(|b| LatencyRate::between(&b.latency, &now.latency)),
            drops: drops(before, now, span),
        }
    }
}

impl WorkerRate {
    fn between(before: Option<&Look>, worker: &api::Worker, span: Span) -> Self {
        let mut earlier = before.iter().flat_map(|look| &look.status.workers);
        let earlier = earlier.find(|earlier| earlier.index == worker.index);
        let busy = earlier.map(|earlier| worker.busy - earlier.busy);
        let batches = earlier.and_then(|earlier| worker.batches.checked_sub(earlier.batches));
        let frames = earlier.and_then(|earlier| worker.frames.checked_sub(earlier.frames));
        Self {
            index: worker.index,
            cpu: worker.cpu,
            busy_share: busy
                .zip(span.0)
                .map(|(busy, secs)| (busy / secs).clamp(0.0, 1.0)),
            frames_per_second: span.rate(earlier.map(|earlier| earlier.frames), worker.frames),
            batch_mean: (frames.zip(batches))
                .filter(|(_, batches)| *batches > 0)
                .map(|(frames, batches)| frames as f64 / batches as f64),
        }
    }
}

impl PortRate {
    fn between(before: Option<&Look>, port: &api::Port, span: Span) -> Self {
        let mut earlier = before.iter().flat_map(|look| &look.ports);
        let earlier = earlier.find(|earlier| {
            let same = |port: &api::Port| (port.ifname.clone(), port.vswitch.index);
            same(earlier) == same(port)
        });
        let way = |of: fn(&api::Stats64) -> &api::Counters| {
            let (before, now) = (earlier.map(|port| of(&port.stats64)), of(&port.stats64));
            WayRate {
                packets: now.packets,
                bytes: now.bytes,
                packets_per_second: span.rate(before.map(|b| b.packets), now.packets),
                bits_per_second: span.bits(before.map(|b| b.bytes), now.bytes),
            }
        };
        let drops = |port: &api::Port| {
            (port.vswitch.drops.iter())
                .map(|drop| drop.count)
                .sum::<u64>()
        };
        Self {
            ifname: port.ifname.clone(),
            role: port.vswitch.role,
            operstate: port.operstate,
            worker: port.vswitch.worker,
            peer: port.vswitch.peer.clone(),
            rx: way(|stats| &stats.rx),
            tx: way(|stats| &stats.tx),
            drops: drops(port),
            drops_per_second: span.rate(earlier.map(drops), drops(port)),
        }
    }
}

impl NatRate {
    fn between(before: Option<&NatLook>, now: &NatLook) -> Option<Self> {
        let (nat, summary) = (&now.nat, &now.nat.summary);
        if summary.sessions_max == 0 {
            return None;
        }
        let span = Span::between(before.map(|look| look.at), now.at);
        let counters = |look: &NatLook| look.nat.summary.counters;
        let (was, is) = (before.map(counters), counters(now));
        let mut states = nat.states.clone();
        states.sort_by_key(|state| std::cmp::Reverse(state.sessions));
        Some(Self {
            sessions: summary.sessions,
            sessions_max: summary.sessions_max,
            translations_per_second: span.rate(was.map(|was| was.translations), is.translations),
            ports_given_per_second: span
                .rate(was.map(|was| was.port_map_creations), is.port_map_creations),
            external: summary.external.clone(),
            states,
            published: nat.published.clone(),
            counters: is,
        })
    }
}

/// What makes a session this one and no other.
fn tuple(session: &api::NatSession) -> (u8, [SocketAddr; 3]) {
    let ends = [session.inside, session.external, session.outside];
    (session.proto_number, ends)
}

impl Flows {
    fn between(before: Option<&NatLook>, now: &NatLook) -> Self {
        let span = Span::between(before.map(|look| look.at), now.at);
        let earlier: HashMap<_, _> = (before.iter())
            .flat_map(|look| &look.nat.sessions)
            .map(|session| (tuple(session), session))
            .collect();
        let sessions = now.nat.sessions.iter();
        let mut list: Vec<Flow> = sessions
            .map(|session| Flow::between(earlier.get(&tuple(session)).copied(), session, span))
            .collect();
        list.sort_by(|a, b| {
            let pace = |flow: &Flow| flow.bits_per_second().unwrap_or(-1.0);
            pace(b)
                .total_cmp(&pace(a))
                .then_with(|| b.bytes.cmp(&a.bytes))
                .then_with(|| (a.inside, a.outside).cmp(&(b.inside, b.outside)))
        });
        Self {
            sessions: now.nat.summary.sessions,
            watched: list.len() as u64,
            talkers: talkers(&list),
            list,
        }
    }
}

impl Flow {
    fn between(before: Option<&api::NatSession>, now: &api::NatSession, span: Span) -> Self {
        // One that was opened since the look before began at nothing, whoever had its ports then.
        let fresh = span.0.is_some_and(|secs| now.age <= secs);
        let rate = |of: fn(&api::NatSession) -> &api::Traffic| {
            let before = if fresh {
                Some(0)
            } else {
                before.map(|before| of(before).bytes)
            };
            span.bits(before, of(now).bytes)
        };
        Self {
            proto: now.proto.clone(),
            state: now.state.clone(),
            inside: now.inside,
            external: now.external,
            outside: now.outside,
            origin: now.origin,
            port: now.port.clone(),
            age: now.age,
            left: now.left,
            bytes: now.outbound.bytes.saturating_add(now.inbound.bytes),
            outbound_bits_per_second: rate(|session| &session.outbound),
            inbound_bits_per_second: rate(|session| &session.inbound),
        }
    }
}

fn talkers(flows: &[Flow]) -> Vec<Talker> {
    let mut by_address: BTreeMap<IpAddr, Talker> = BTreeMap::new();
    for flow in flows {
        let address = flow.inside.ip();
        let talker = by_address.entry(address).or_insert_with(|| Talker {
            address,
            port: flow.port.clone(),
            sessions: 0,
            outbound_bits_per_second: 0.0,
            inbound_bits_per_second: 0.0,
        });
        talker.sessions += 1;
        talker.outbound_bits_per_second += flow.outbound_bits_per_second.unwrap_or(0.0);
        talker.inbound_bits_per_second += flow.inbound_bits_per_second.unwrap_or(0.0);
    }
    let mut talkers: Vec<Talker> = by_address.into_values().collect();
    let pace = |talker: &Talker| talker.outbound_bits_per_second + talker.inbound_bits_per_second;
    talkers.sort_by(|a, b| pace(b).total_cmp(&pace(a)));
    talkers.truncate(TALKERS_MAX);
    talkers
}

fn drops(before: Option<&Look>, now: &Look, span: Span) -> Vec<DropRate> {
    let of = |look: &Look, drop: &api::Drop| {
        let mut drops = look.drops.iter();
        let same = |one: &&api::Drop| one.reason == drop.reason && one.port == drop.port;
        drops.find(same).map_or(0, |drop| drop.count)
    };
    let mut drops: Vec<DropRate> = (now.drops.iter())
        .map(|drop| DropRate {
            reason: drop.reason.clone(),
            port: drop.port.clone(),
            count: drop.count,
            per_second: span.rate(before.map(|look| of(look, drop)), drop.count),
            meaning: drop.meaning.clone(),
            fix: drop.fix.clone(),
        })
        .collect();
    drops.sort_by(|a, b| {
        let pace = |drop: &DropRate| drop.per_second.unwrap_or(0.0);
        let words = |drop: &DropRate| (drop.reason.clone(), drop.port.clone());
        pace(b)
            .total_cmp(&pace(a))
            .then_with(|| b.count.cmp(&a.count))
            .then_with(|| words(a).cmp(&words(b)))
    });
    drops
}
