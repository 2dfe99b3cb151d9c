//! What became of the packets to an address, and what is known of it.
//!
//! A dropped packet bears the address it was sent to, or the one it was translated to by then. So
//! an address is looked for under every endpoint that sessions and published entries give it at
//! present. Of a session that has ended nothing is known any more.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use nat::{Selection, SessionView, Subnet};
use switch::config::in_prefix;
use switch::drops::DropRecord;
use switch::ethernet::{self, ARP, Arp, HEADER_BYTES};
use switch::frame::{OwnedFrame, Stage};
use switch::limits::FRAME_BYTES_MAX;
use switch::mac::Mac;
use switch::neigh::Link as NeighLink;
use switch::port::PortIndex;
use switch::trace::{Story, Tuple, Words};

use crate::control::api;

use super::Daemon;
use super::drops::Moments;

/// Sessions that are shown; their number is told as well.
const SESSIONS_SHOWN_MAX: usize = 16;

/// How long a worker may take to try a packet out.
const TRIAL_PATIENCE: Duration = Duration::from_millis(500);

/// Ports as the daemon calls them.
struct Named<'d>(&'d Daemon);

impl Words for Named<'_> {
    fn port(&self, port: PortIndex) -> String {
        self.0.name_of(port)
    }
}

/// The endpoints under which an address appears.
struct Names {
    address: Ipv4Addr,
    /// Protocol, address and port, those of ICMP its identifier. Port ranges of published entries.
    endpoints: Vec<(u8, Option<Ipv4Addr>, (u16, u16))>,
}

/// A session, and when it was looked at.
type Session = (SessionView, nat::Nanos);

/// How a packet bears an address.
enum Borne {
    Itself,
    As(String),
}

impl Names {
    fn bear(&self, protocol: u8, address: Ipv4Addr, port: Option<u16>) -> Option<Borne> {
        if address == self.address {
            return Some(Borne::Itself);
        }
        let port = port?;
        let is_known = self.endpoints.iter().any(|(proto, at, (first, last))| {
            *proto == protocol
                && at.is_none_or(|at| at == address)
                && (*first..=*last).contains(&port)
        });
        is_known.then(|| Borne::As(format!("{address}:{port}")))
    }
}

impl Daemon {
    /// The story of `dst`, of packets from `src` or from anybody.
    pub(super) fn why_answer(&self, dst: Ipv4Addr, src: Option<Ipv4Addr>) -> api::Why {
        let moments = self.moments();
        let sessions = self.sessions_of(dst);
        let to = self.aliases_of(dst, &sessions);
        let from = src.map(|src| self.aliases_of(src, &self.sessions_of(src)));
        let mut found: Vec<(DropRecord, Borne)> = Vec::new();
        for kept in self.switch.kept_drops(None) {
            for record in kept.records() {
                if let Some(borne) = bears(record, &to, from.as_ref()) {
                    found.push((record.clone(), borne));
                }
            }
        }
        found.sort_by_key(|(record, _)| std::cmp::Reverse(record.at));
        let drops: Vec<api::WhyDrop> = (found.iter())
            .map(|(record, borne)| self.why_drop(record, borne, moments))
            .collect();
        let (address, is_there) = self.address_of(dst, sessions);
        api::Why {
            schema: api::WhySchema,
            dst,
            src,
            known: is_there || !drops.is_empty(),
            drops,
            address,
            now: self.fate_now(found.iter().map(|(record, _)| record), moments),
        }
    }

    /// What would become now of the latest of these packets that is as it came in.
    fn fate_now<'r>(
        &self,
        mut latest: impl Iterator<Item = &'r DropRecord>,
        moments: Moments,
    ) -> Option<api::WhyNow> {
        let (record, ingress) = latest.find_map(|record| {
            let ingress = record.ingress.filter(|_| self.is_as_it_came(record))?;
            Some((record, ingress))
        })?;
        // What was behind its first bytes decides nothing but checksums of its payload.
        let mut bytes = record.bytes().to_vec();
        let length = usize::try_from(record.len).unwrap_or(0);
        bytes.resize(length.clamp(bytes.len(), FRAME_BYTES_MAX), 0);
        let frame = OwnedFrame::new(&bytes, record.offload, ingress);
        let clock = self.clock;
        let asked = self.switch.what_if(frame, Arc::new(move || clock.now()))?;
        let tried = asked.answer_within(TRIAL_PATIENCE)?;
        Some(api::WhyNow {
            fate: Story::of(tried.last()?, &Named(self)).fate,
            dropped: tried.is_drop(),
            packet: self.packet_of(record, moments),
        })
    }

    /// Whether a kept packet is as it came in: neither translated nor sent by the gateway.
    fn is_as_it_came(&self, record: &DropRecord) -> bool {
        let own = [
            Some(self.gateway.mac),
            self.switch.view().uplink.as_ref().map(|uplink| uplink.mac),
            // Of a fragment that waited in the NAT the addresses are not known.
            Some(Mac::ZERO),
        ];
        let ethernet = ethernet::parse(record.bytes());
        record.stage == Stage::Arrived
            && ethernet.is_some_and(|ethernet| !own.contains(&Some(ethernet.source)))
    }

    fn why_drop(&self, record: &DropRecord, borne: &Borne, moments: Moments) -> api::WhyDrop {
        let port = record.counted_at().map(|port| self.name_of(port));
        let drop = api::Drop::new(record.reason, port, 0, None);
        api::WhyDrop {
            reason: drop.reason,
            meaning: drop.meaning,
            fix: drop.fix,
            translated: match borne {
                Borne::Itself => None,
                Borne::As(endpoint) => Some(endpoint.clone()),
            },
            packet: self.packet_of(record, moments),
        }
    }

    fn sessions_of(&self, address: Ipv4Addr) -> Vec<Session> {
        let prefix = 32;
        let selection = Selection {
            host: Some(Subnet { address, prefix }),
            ..Selection::default()
        };
        let reports = self.switch.nat_reports(&selection);
        let sessions = reports.iter().flat_map(|report| {
            let now = report.now;
            report.sessions.iter().map(move |session| (*session, now))
        });
        sessions.collect()
    }

    fn aliases_of(&self, address: Ipv4Addr, sessions: &[Session]) -> Names {
        let own = sessions
            .iter()
            .filter(|(session, _)| session.inside.0 == address);
        let mut endpoints: Vec<_> = own
            .map(|(session, _)| {
                let (external, port) = session.external;
                (session.protocol.number(), Some(external), (port, port))
            })
            .collect();
        for publish in self.switch.view().publishes.iter() {
            if publish
                .targets
                .iter()
                .any(|target| target.address == address)
            {
                let ports = (*publish.ports.start(), *publish.ports.end());
                endpoints.push((publish.protocol.number(), publish.external, ports));
            }
        }
        Names { address, endpoints }
    }

    /// What the tables say, and whether that is more than a route.
    fn address_of(&self, address: Ipv4Addr, mut sessions: Vec<Session>) -> (api::WhyAddress, bool) {
        let view = self.switch.view();
        let uplink = view.uplink.as_ref();
        let gateway = self.gateway;
        let place = if address == gateway.address {
            api::WhyPlace::Gateway
        } else if uplink.is_some_and(|uplink| uplink.is_external(address)) {
            api::WhyPlace::External
        } else if view.host.owns(address) {
            api::WhyPlace::Host
        } else if gateway.contains(address) {
            api::WhyPlace::Network
        } else {
            api::WhyPlace::Outside
        };
        let route = uplink
            .filter(|_| place == api::WhyPlace::Outside)
            .and_then(|uplink| {
                let mut routes = uplink.routes.iter();
                routes.find(|route| in_prefix(address, route.network, route.prefix))
            });
        let hop = match route {
            Some(route) => (NeighLink::Uplink, route.via.unwrap_or(address)),
            None => (gateway.link(), address),
        };
        let (neighbours, fdb) = self.hop_of(hop);
        let total = sessions.len();
        sessions.sort_by_key(|(session, _)| std::cmp::Reverse(session.created));
        let shown = sessions.iter().take(SESSIONS_SHOWN_MAX);
        let shown = shown
            .map(|(session, now)| self.session(session, *now))
            .collect();
        let led = sessions.iter().map(|(session, _)| session);
        let published = self.published_answer(Some(address), led);
        let port = match place {
            api::WhyPlace::Gateway | api::WhyPlace::External => None,
            api::WhyPlace::Host => view.host.port.map(|port| self.name_of(port)),
            api::WhyPlace::Network => neighbours.first().map(|it| it.dev.clone()),
            api::WhyPlace::Outside => route.and(uplink).map(|uplink| self.name_of(uplink.port)),
        };
        let port = port.filter(|port| *port != self.settings.name);
        let is_itself = |it: &api::Neighbour| it.dst == IpAddr::V4(address);
        let is_own = match place {
            api::WhyPlace::Gateway | api::WhyPlace::External | api::WhyPlace::Host => true,
            api::WhyPlace::Network | api::WhyPlace::Outside => false,
        };
        let is_there =
            is_own || neighbours.iter().any(is_itself) || total > 0 || !published.is_empty();
        let answer = api::WhyAddress {
            place,
            port,
            route: route.map(|route| api::WhyRoute {
                dst: format!("{}/{}", route.network, route.prefix),
                gateway: route.via,
                dev: self.settings.uplink.clone().unwrap_or_default(),
            }),
            neighbours,
            fdb,
            sessions: shown,
            sessions_total: total as u64,
            published,
        };
        (answer, is_there)
    }

    /// The neighbour that a packet goes to next, and where the forwarding table has it.
    fn hop_of(
        &self,
        (link, address): (NeighLink, Ipv4Addr),
    ) -> (Vec<api::Neighbour>, Vec<api::FdbEntry>) {
        let now = self.clock.now();
        let neighbour = self.switch.neighbours().entry(link, address, now);
        let mac = neighbour.and_then(|neighbour| neighbour.mac);
        let station = match (link, mac) {
            (NeighLink::Network(network), Some(mac)) => self.switch.fdb().entry(network, mac, now),
            // Nothing from outside is ever learned.
            (NeighLink::Uplink, _) | (_, None) => None,
        };
        let neighbours = neighbour.iter().map(|it| self.neighbour(it));
        let stations = station.iter().map(|it| self.station(it));
        (neighbours.collect(), stations.collect())
    }
}

/// How a dropped packet bears the address it is looked for by; `None` where it is another's.
fn bears(record: &DropRecord, to: &Names, from: Option<&Names>) -> Option<Borne> {
    let bytes = record.bytes();
    if let Some(tuple) = Tuple::of_frame(bytes) {
        let protocol = tuple.protocol;
        if let Some(from) = from {
            from.bear(protocol, tuple.source, tuple.source_port)?;
        }
        return to.bear(protocol, tuple.destination, tuple.destination_port);
    }
    ethernet::parse(bytes).filter(|ethernet| ethernet.ethertype == ARP)?;
    let arp = bytes.get(HEADER_BYTES..).and_then(Arp::parse)?;
    let is_asked = arp.target == to.address && from.is_none_or(|from| from.address == arp.sender);
    is_asked.then_some(Borne::Itself)
}
