//! A small switch made of API types: it answers control requests as the daemon does, by changing
//! tables, without a frame being moved.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use switch::mac::Mac;
use vswitch_cli::control::api::{self, Counters, FdbState, OperState, Role};
use vswitch_cli::control::select::Extent;
use vswitch_cli::control::server::QUEUE_REQUESTS_MAX;
use vswitch_cli::control::what_if::Try;
use vswitch_cli::control::{Feed, Refusal, Request};
use vswitch_cli::metrics::{NatReading, Reading};

/// The tables.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) ports: Vec<api::Port>,
    pub(super) fdb: Vec<api::FdbEntry>,
    pub(super) neigh: Vec<api::Neighbour>,
    pub(super) nat: api::Nat,
    pub(super) drops: Vec<api::Drop>,
    pub(super) status: api::Status,
}

pub(super) fn mac(last: u8) -> Mac {
    Mac([2, 0x77, 0x0a, 0x4d, 0, last])
}

fn port(index: u16, word: &str, role: Role, peer: Option<&str>) -> api::Port {
    let (kind, ifname) = word.split_once(':').unwrap_or(("veth", word));
    let scale = u64::from(index) + 1;
    api::Port {
        schema: api::PortSchema,
        ifname: ifname.into(),
        mtu: 1500,
        operstate: OperState::Up,
        address: Some(mac(u8::try_from(index).unwrap())),
        stats64: api::Stats64 {
            rx: Counters {
                bytes: 121_500_000 * scale,
                packets: 81_200 * scale,
                errors: 0,
                dropped: 3,
            },
            tx: Counters {
                bytes: 2_860_000,
                packets: 40_100,
                errors: 0,
                dropped: 0,
            },
        },
        vswitch: api::PortDetail {
            word: word.into(),
            kind: kind.into(),
            index,
            role,
            worker: index % 2,
            workers: if role == Role::Uplink {
                vec![0, 1]
            } else {
                vec![index % 2]
            },
            nat_worker: (role == Role::Port).then_some(0),
            network: "default".into(),
            guard: "tcx".into(),
            peer: peer.map(Into::into),
            ring_bytes: 4 << 20,
            drops: vec![api::DropCount {
                reason: "NO_ROUTE".into(),
                count: 3,
            }],
        },
    }
}

fn entry(last: u8, port: &str, state: FdbState, age: Option<f64>) -> api::FdbEntry {
    api::FdbEntry {
        schema: api::FdbSchema,
        mac: mac(last),
        ifname: port.rsplit(':').next().unwrap().into(),
        vlan: 1,
        flags: Vec::new(),
        master: "vswitch0".into(),
        state,
        age,
        port: port.into(),
    }
}

fn neighbour(dst: &str, dev: &str, known: bool, side: api::Side) -> api::Neighbour {
    api::Neighbour {
        schema: api::NeighSchema,
        dst: dst.parse().unwrap(),
        dev: dev.into(),
        lladdr: known.then(|| mac(0x0b)),
        state: [if known {
            api::NeighState::Reachable
        } else {
            api::NeighState::Failed
        }],
        vswitch: api::NeighDetail {
            side,
            age: known.then_some(12.0),
        },
    }
}

fn session(proto: &str, state: &str, ends: [&str; 3], left: f64) -> api::NatSession {
    let [inside, external, outside] = ends.map(|end| end.parse().unwrap());
    api::NatSession {
        proto: proto.into(),
        proto_number: if proto == "tcp" { 6 } else { 17 },
        state: state.into(),
        inside,
        external,
        outside,
        origin: api::Side::Inside,
        replied: state != "UNREPLIED",
        port: Some("veth-blue".into()),
        age: 4.0,
        left,
        outbound: api::Traffic {
            bytes: 2_100,
            packets: 21,
        },
        inbound: api::Traffic {
            bytes: 88_000,
            packets: 64,
        },
    }
}

/// What the defaults come to on an address of the switch's own.
fn published() -> api::Published {
    let target = |name: &str, address: Option<&str>, waiting: Option<&str>| api::PublishedTarget {
        name: name.into(),
        port: 80,
        address: address.map(|text| text.parse().unwrap()),
        waiting: waiting.map(Into::into),
    };
    api::Published {
        schema: api::PublishedSchema,
        address: "0.0.0.0".parse().unwrap(),
        port: 8080,
        port_last: 8080,
        proto: "tcp".into(),
        state: api::PublishedState::Ok,
        by_source: false,
        targets: vec![
            target("veth-blue", Some("10.77.0.11:80"), None),
            target("web1", None, Some("no such port")),
        ],
        sessions: 11,
        relayed: 1,
        relayed_total: 4,
        relay_refused: 0,
    }
}

fn state(proto: &str, state: &str) -> api::NatState {
    api::NatState {
        proto: proto.into(),
        state: state.into(),
        sessions: 1,
    }
}

pub(super) fn nat_report() -> api::NatReport {
    let config = nat::Config::new([192, 0, 2, 10].into(), 1024..=65_535);
    api::NatReport {
        schema: api::NatReportSchema,
        requirements: vswitch_cli::conform::report(&config),
    }
}

fn status() -> api::Status {
    let worker = |index, cpu| api::Worker {
        index,
        cpu,
        polls: 1_000_000,
        polls_empty: 12_300,
        sleeps: 41,
        frames: 81_200,
        batch_mean: 3.25,
        share: 0.5,
        batches: 24_985,
        busy: 86.34,
        busy_share: 0.012,
        handed_over: 0,
        taken_over: 0,
        carried: 0,
        handover_rate: 0.0,
    };
    api::Status {
        schema: api::StatusSchema,
        name: "vswitch0".into(),
        pid: 4242,
        version: "0.1.0".into(),
        uptime: 7195.0,
        ports: 3,
        gateway: Some("10.77.0.1/24".into()),
        uplink: Some("eth0".into()),
        fdb_entries: 4,
        nat_sessions: 2,
        workers: vec![worker(0, Some(0)), worker(1, None)],
        imbalance: Some(1.0),
        totals: api::Totals {
            received: 162_400,
            resumed: 2,
            forwarded: 159_000,
            routed: 1_000,
            flooded: 300,
            answered: 90,
            absorbed: 4,
            held: 2,
            handed_over: 0,
            dropped: 2_006,
            copies: 160_890,
            originated: 12,
            sent: 160_902,
            egress_dropped: 0,
        },
    }
}

impl World {
    pub(super) fn new() -> Self {
        Self {
            ports: vec![
                port(0, "veth-blue", Role::Port, Some("eth0@blue 10.77.0.11")),
                port(1, "tap:web0", Role::Port, None),
                port(2, "eth0", Role::Uplink, None),
            ],
            fdb: vec![
                entry(0x0b, "veth-blue", FdbState::Learned, Some(3.2)),
                entry(0x0c, "tap:web0", FdbState::Static, None),
                entry(0x0a, "veth-blue", FdbState::Learned, Some(299.0)),
                entry(0x01, "vswitch0", FdbState::Permanent, None),
            ],
            neigh: vec![
                neighbour("192.0.2.1", "eth0", true, api::Side::Outside),
                neighbour("10.77.0.99", "web0", false, api::Side::Inside),
                neighbour("10.77.0.11", "veth-blue", true, api::Side::Inside),
            ],
            nat: api::Nat {
                schema: api::NatSchema,
                summary: api::NatSummary {
                    sessions: 2,
                    sessions_max: 262_144,
                    external: vec![api::NatExternal {
                        address: "192.0.2.10".parse().unwrap(),
                        ports_used: 2,
                        ports_total: 4536,
                    }],
                    counters: api::NatCounters {
                        translations: 85,
                        address_map_creations: 2,
                        port_map_creations: 2,
                        ..api::NatCounters::default()
                    },
                },
                sessions: vec![
                    session(
                        "tcp",
                        "ESTABLISHED",
                        ["10.77.0.11:40122", "192.0.2.10:61007", "1.1.1.1:443"],
                        7195.0,
                    ),
                    session(
                        "udp",
                        "UNREPLIED",
                        ["10.77.0.20:5353", "192.0.2.10:61008", "9.9.9.9:53"],
                        29.0,
                    ),
                ],
                states: vec![state("tcp", "ESTABLISHED"), state("udp", "UNREPLIED")],
                published: vec![published()],
            },
            drops: super::dropped::drops(),
            status: status(),
        }
    }

    /// Answers one request; deleting the port `hang0` is kept in `hung` and never answered.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest changes something")]
    fn answer(&mut self, request: Request, hung: &mut Vec<Request>) {
        match request {
            Request::Ports(reply) => reply.send(Ok(self.ports.clone())),
            Request::Fdb(reply) => reply.send(Ok(self.fdb.clone())),
            Request::Neighbours(reply) => reply.send(Ok(self.neigh.clone())),
            Request::Nat(selection, extent, reply) => {
                let mut nat = self.nat.clone();
                if extent == Extent::Summary {
                    nat.sessions.clear();
                    nat.states.clear();
                    nat.published.clear();
                }
                let proto = selection.protocol.map(nat::Protocol::name);
                let wanted = |name: &str| proto.is_none_or(|proto| proto == name);
                nat.sessions.retain(|session| wanted(&session.proto));
                reply.send(Ok(nat));
            }
            Request::NatReport(reply) => reply.send(Ok(nat_report())),
            Request::MonitorNat(feed, reply) => {
                reply.send(Ok(()));
                self.monitored(feed);
            }
            Request::Watch(_, feed, reply) => {
                reply.send(Ok(7));
                watched(feed);
            }
            Request::WhatIf(device, what, reply) => reply.send(tried(device, &what)),
            Request::Latency(reply) => reply.send(Ok(super::latency::latency())),
            Request::LatencyReset(reply) => {
                reply.send(Ok(api::Done::new("latency of 2 pairs forgotten", 2)));
            }
            Request::MonitorEvents(kinds, feed, reply) => {
                reply.send(Ok(()));
                super::dropped::happened(&kinds, feed);
            }
            Request::Drops(reply) => reply.send(Ok(self.drops.clone())),
            Request::Why { dst, src, reply } => reply.send(Ok(self.why(dst, src))),
            Request::DropsFlush(reply) => reply.send(Ok(self.forget_packets())),
            Request::KeptDrops(reason, reply) => reply.send(Ok(self.kept(reason))),
            Request::Metrics(reply) => reply.send(Ok(self.reading())),
            Request::Status(reply) => reply.send(Ok(self.status.clone())),
            Request::Published(reply) => reply.send(Ok(self.nat.published.clone())),
            Request::PortDel(name, reply) if name == "hang0" => {
                hung.push(Request::PortDel(name, reply));
            }
            change => self.change(change),
        }
    }

    /// The tables as a scrape takes them.
    pub(super) fn reading(&self) -> Reading {
        let stations = |state| {
            let entries = self.fdb.iter().filter(|entry| entry.state == state);
            entries.count() as u64
        };
        let mut census = nat::Census::default();
        for (protocol, state) in [("tcp", "ESTABLISHED"), ("udp", "UNREPLIED")] {
            let selected = self.nat.sessions.iter();
            let selected = selected.filter(|one| one.proto == protocol && one.state == state);
            census.add(nat::Kind {
                protocol,
                state,
                sessions: selected.count() as u64,
            });
        }
        let summary = &self.nat.summary;
        Reading {
            status: self.status.clone(),
            ports: self.ports.clone(),
            stations_learned: stations(FdbState::Learned),
            stations_static: stations(FdbState::Static),
            neighbours: vec![
                (api::NeighState::Reachable, 2),
                (api::NeighState::Failed, 1),
            ],
            nat: Some(NatReading {
                sessions: census,
                sessions_max: summary.sessions_max,
                ports_used: vec![("tcp", 1), ("udp", 1), ("icmp", 0)],
                ports: 4536,
                counters: summary.counters,
            }),
            latency: super::latency::forwarded(),
        }
    }

    /// Both sessions as they were opened, with a gap between them; then the switch stops.
    fn monitored(&self, mut feed: Feed) {
        for session in &self.nat.sessions {
            let event = api::NatEvent {
                schema: api::NatEventSchema,
                time: "2026-11-22T10:00:00.123Z".into(),
                event: api::Happening::New,
                proto: session.proto.clone(),
                proto_number: if session.proto == "tcp" { 6 } else { 17 },
                state: session.state.clone(),
                inside: session.inside,
                external: session.external,
                outside: session.outside,
                origin: api::Side::Inside,
                replied: session.state == "ESTABLISHED",
                left: session.left,
                outbound: session.outbound,
                inbound: session.inbound,
            };
            let line = serde_json::to_string(&event).unwrap() + "\n";
            feed.send(&line.into(), 1);
            feed.lose(3);
        }
    }

    fn set_port(&mut self, port: &str, worker: u16) -> Result<api::Done, Refusal> {
        let found = self.ports.iter_mut().find(|found| found.ifname == port);
        let Some(found) = found else {
            let what = format!("port {port}");
            let fix = "vswitch port".into();
            return Err(Refusal::Absent { what, fix });
        };
        let from = std::mem::replace(&mut found.vswitch.worker, worker);
        let text = format!("{port} moved from worker {from} to worker {worker}");
        Ok(api::Done::new(text, 1))
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is another's part")]
    fn change(&mut self, request: Request) {
        match request {
            Request::PortAdd(spec, reply) => {
                let device = spec.word.device().to_owned();
                if self.ports.iter().any(|port| port.ifname == device) {
                    let why = "is a port already".into();
                    let fix = format!("vswitch port del {device}");
                    return reply.send(Err(Refusal::Conflict {
                        what: device,
                        why,
                        fix,
                    }));
                }
                let index = u16::try_from(self.ports.len()).unwrap();
                self.ports
                    .push(port(index, &spec.word.to_string(), Role::Port, None));
                reply.send(Ok(api::Done::new(format!("port {} added", spec.word), 1)));
            }
            Request::PortSet {
                port,
                worker,
                reply,
            } => reply.send(self.set_port(&port, worker)),
            Request::PortDel(name, reply) => {
                let before = self.ports.len();
                self.ports.retain(|port| port.ifname != name);
                reply.send(if self.ports.len() < before {
                    Ok(api::Done::new(format!("port {name} closed"), 1))
                } else {
                    let what = format!("port {name}");
                    Err(Refusal::Absent {
                        what,
                        fix: "vswitch port".into(),
                    })
                });
            }
            other => self.change_table(other),
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the rest is another's part")]
    fn change_table(&mut self, request: Request) {
        match request {
            Request::FdbAdd { mac, port, reply } => {
                let mut fresh = entry(0, &port, FdbState::Static, None);
                fresh.mac = mac;
                self.fdb.push(fresh);
                reply.send(Ok(api::Done::new(format!("{mac} fixed to {port}"), 1)));
            }
            Request::FdbDel(mac, reply) => {
                let before = self.fdb.len();
                self.fdb.retain(|entry| entry.mac != mac);
                reply.send(if self.fdb.len() < before {
                    Ok(api::Done::new(format!("{mac} forgotten"), 1))
                } else {
                    let what = format!("station {mac}");
                    Err(Refusal::Absent {
                        what,
                        fix: "vswitch fdb".into(),
                    })
                });
            }
            Request::FdbFlush(port, reply) => {
                let before = self.fdb.len();
                let goes = |entry: &api::FdbEntry| {
                    entry.state == FdbState::Learned
                        && port.as_ref().is_none_or(|port| *port == entry.ifname)
                };
                self.fdb.retain(|entry| !goes(entry));
                let count = (before - self.fdb.len()) as u64;
                reply.send(Ok(api::Done::new(
                    format!("{count} stations forgotten"),
                    count,
                )));
            }
            Request::NatFlush(_, reply) => {
                let count = self.nat.sessions.drain(..).count() as u64;
                reply.send(Ok(api::Done::new(format!("{count} sessions ended"), count)));
            }
            Request::NatPublish(spec, reply) => {
                let text = format!("published {}", spec.at);
                reply.send(Ok(api::Done::new(text, 1)));
            }
            Request::NatUnpublish(at, reply) => {
                let what = format!("published port {at}");
                let fix = "vswitch nat".into();
                reply.send(Err(Refusal::Absent { what, fix }));
            }
            Request::NeighFlush(reply) => {
                let why = "the owner is busy".into();
                reply.send(Err(Refusal::Failed {
                    what: "neigh flush".into(),
                    why,
                    fix: String::new(),
                }));
            }
            _ => unreachable!("answered above"),
        }
    }
}

/// The way of the first packet of that trace; what is not in words would be forwarded.
fn tried(device: String, what: &Try) -> Result<api::WhatIf, Refusal> {
    if device != "veth1" {
        let what = format!("port {device}");
        let fix = "vswitch port".into();
        return Err(Refusal::Absent { what, fix });
    }
    let dropped = matches!(what, Try::Packet(_));
    let line = if dropped { 0 } else { 2 };
    let record = super::trace::RUN.lines().nth(line).unwrap();
    let record: api::Traced = serde_json::from_str(record).unwrap();
    let station = |mac: &str, known: &str| {
        let (mac, known) = (mac.to_owned(), known.to_owned());
        dropped.then_some(api::WhatIfStation { mac, known })
    };
    let error = api::Traced {
        cause: Some(record.id.clone()),
        id: "0x2".into(),
        port: None,
        peer: None,
        summary: "10.9.0.1 > 10.9.0.2  ICMP time exceeded".into(),
        story: "SENT".into(),
        ..record.clone()
    };
    Ok(api::WhatIf {
        schema: api::WhatIfSchema,
        port: device,
        from: station("02:77:0a:09:00:02", "the neighbour's"),
        to: station("02:de:b7:32:0a:78", "the switch's own"),
        dropped,
        reason: record.reason.clone(),
        story: record.story.clone(),
        fix: record.fix.clone(),
        records: if dropped {
            vec![record, error]
        } else {
            vec![record]
        },
    })
}

/// A packet routed and one dropped, with a gap between them; then the switch stops.
fn watched(mut feed: Feed) {
    for line in super::trace::RUN.lines() {
        feed.send(&format!("{line}\n").into(), 1);
    }
}

/// The owner's loop in a thread; ends when the server's side of the channel is gone.
pub(super) fn owner() -> (Sender<Request>, JoinHandle<()>) {
    let (sender, receiver): (_, Receiver<Request>) = bounded(QUEUE_REQUESTS_MAX);
    let thread = std::thread::spawn(move || {
        let mut world = World::new();
        let mut hung = Vec::new();
        for request in receiver {
            world.answer(request, &mut hung);
        }
    });
    (sender, thread)
}
