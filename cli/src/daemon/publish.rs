//! Published ports, live: held, resolved, shown to the switch, followed.
//!
//! # Theory of operation
//!
//! ```text
//! words      PublishSpec          from flags, the file, or `vswitch nat publish`
//!   hold     host::hold           the host's ports, so that nobody else takes them
//!   relay    host::relay          what the host itself sends to them
//!   resolve  daemon/publish/resolve.rs   who is behind a port's name now, and which worker's it is
//!   cover    daemon/uplink.rs     guard, filter and steering take the ports from the outside
//!   view     nat::Publishes       the switch leads them to their targets
//! ```
//!
//! Whatever changes, the whole list is made anew and compared: targets come and go with events of
//! the host and are looked up on ticks as well, since another namespace's addresses give no news.
//! A range for this host only (127.x) is never in the switch's view: no frame leads there.

mod check;
mod resolve;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nat::{Protocol, Publish, Publishes, SessionView, Target};

use crate::config::publish::{self, Transport};
use crate::config::{PortRange, PublishSpec, PublishedAt};
use crate::control::{Refusal, api};
use crate::error::CliError;
use crate::host::hold::{self, Held, Taken};
use crate::host::relay::{Relay, Relayed, Targets};
use crate::host::sysctl::{self, PortSet};

use super::Daemon;
use super::answer::{Answer, done};

use resolve::Found;

pub(super) use check::{addresses as check_addresses, pool as check_pool};

/// What is published.
#[derive(Default)]
pub(super) struct Publishing {
    entries: Vec<Entry>,
    relay: Option<Relay>,
    /// The port whose peer is looked at next.
    next_peer: usize,
    /// Why all could not be matched the last time, so that it is said once.
    pub(super) trouble: Option<String>,
}

/// One publish.
struct Entry {
    /// As it was asked for.
    asked: PublishSpec,
    /// With its port chosen.
    spec: PublishSpec,
    /// On an address of the host's; one of the switch's own is nobody else's.
    relayed: Option<Relayed>,
    /// Who is behind each of its targets.
    found: Vec<Found>,
    /// The worker that keeps its sessions, once one is known.
    owner: Option<u16>,
}

impl Publishing {
    /// Each publish with its port chosen.
    pub(super) fn specs(&self) -> impl Iterator<Item = &PublishSpec> {
        self.entries.iter().map(|entry| &entry.spec)
    }
}

impl Daemon {
    /// Publishes again what had been published live when the state was kept.
    pub(super) fn publish_loaded(&mut self) {
        for text in std::mem::take(&mut self.loaded.published) {
            let spec = text.parse::<PublishSpec>();
            let published = match &spec {
                // One that the settings name too is there already.
                Ok(spec) if self.publishing.specs().any(|there| there.at == spec.at) => Ok(()),
                Ok(spec) => self.publish(spec).map_err(|error| error.why),
                Err(why) => Err(why.clone()),
            };
            if let Err(why) = published {
                self.say(&format!(
                    "warning: {text} was published, and is not again: {why}"
                ));
            }
        }
    }

    /// What is published and not named by the settings, in the words of `--publish`.
    pub(super) fn published_live(&self) -> Vec<String> {
        let entries = self.publishing.entries.iter();
        let named = |entry: &&Entry| !self.settings.publishes.contains(&entry.asked);
        entries
            .filter(named)
            .map(|entry| entry.spec.to_string())
            .collect()
    }

    /// Publishes all that the settings name.
    pub(super) fn publish_settings(&mut self) -> Result<(), CliError> {
        for spec in self.settings.publishes.clone() {
            self.add_publish(&spec)?;
        }
        self.match_publishes()
    }

    /// Publishes one more.
    ///
    /// # Errors
    /// What is in its way; nothing has changed then.
    pub(super) fn publish(&mut self, spec: &PublishSpec) -> Result<(), CliError> {
        self.add_publish(spec)?;
        if let Err(error) = self.match_publishes() {
            // The uplink cannot be covered for it: as before, which it could.
            let refused = self.publishing.entries.pop();
            self.follow_publishes();
            drop(refused);
            return Err(error);
        }
        self.settings.publishes.push(spec.clone());
        Ok(())
    }

    /// Publishes no more what was asked for so; false where it is not there.
    pub(super) fn unpublish(&mut self, asked: &PublishSpec) -> bool {
        let mut entries = self.publishing.entries.iter();
        let place = entries.position(|entry| entry.asked == *asked);
        place.map(|place| self.remove_publish(place)).is_some()
    }

    fn remove_publish(&mut self, place: usize) {
        // It is closed last: until then nobody of the host takes what still comes from outside.
        let entry = self.publishing.entries.remove(place);
        let mut named = self.settings.publishes.iter();
        if let Some(place) = named.position(|spec| *spec == entry.asked) {
            self.settings.publishes.remove(place);
        }
        self.follow_publishes();
        drop(entry);
    }

    fn add_publish(&mut self, asked: &PublishSpec) -> Result<(), CliError> {
        let nat_ports = self.settings.nat_ports;
        let shared = self.settings.nat && self.settings.uplink_address.is_none();
        publish::alone(asked, self.publishing.specs(), shared.then_some(nat_ports))?;
        let count = self.publishing.entries.len();
        if count >= publish::PUBLISHES_MAX {
            let why = format!("{count} are published, and more cannot be");
            return Err(failed(asked, why, "publish a range: 8000-8999:veth1"));
        }
        let hosts = &self.switch.view().host.addresses;
        let own = self.own_addresses();
        check_addresses(asked, self.gateway_cidr(), hosts, &own)?;
        let is_own = asked.at.address.is_some_and(|ip| own.contains(&ip));
        let (spec, held) = self.hold(asked, is_own)?;
        let relayed = match held {
            None => None,
            Some(held) => Some(self.relay(held).map_err(|error| {
                let fix = "prlimit --pid $$ --nofile=65536";
                failed(asked, error.to_string(), fix)
            })?),
        };
        self.publishing.entries.push(Entry {
            asked: asked.clone(),
            spec,
            relayed,
            found: Vec::new(),
            owner: None,
        });
        Ok(())
    }

    /// External addresses that are not the host's.
    fn own_addresses(&self) -> Vec<Ipv4Addr> {
        let own = self.settings.uplink_address.map(|cidr| cidr.address);
        let pool = self.settings.nat_pool.addresses();
        own.into_iter().chain(pool).collect()
    }

    /// Chooses the port if it is to be chosen, and holds it.
    fn hold(
        &self,
        asked: &PublishSpec,
        is_own: bool,
    ) -> Result<(PublishSpec, Option<Held>), CliError> {
        let hold = |at: PublishedAt| match is_own {
            true => Ok(None),
            false => hold::hold(at).map(Some),
        };
        if !asked.at.is_any_port() {
            let held = hold(asked.at).map_err(|taken| taken_error(asked, &taken))?;
            return Ok((asked.clone(), held));
        }
        let unread = |error: std::io::Error| failed(asked, error.to_string(), "vswitch doctor");
        let range = sysctl::local_port_range().map_err(unread)?;
        let mut reserved = sysctl::reserved_ports().map_err(unread)?;
        if self.settings.nat {
            let PortRange { low, high } = self.settings.nat_ports;
            if self.settings.uplink_address.is_none() {
                reserved = reserved.union(&PortSet::range(low, high));
            }
        }
        for port in hold::free_ports(range, &reserved) {
            let mut spec = asked.clone();
            spec.at.ports = PortRange {
                low: port,
                high: port,
            };
            let mut others = self.publishing.specs();
            if others.any(|other| other.at.overlaps(&spec.at)) {
                continue;
            }
            match hold(spec.at) {
                Ok(held) => return Ok((spec, held)),
                Err(taken) if taken.is_in_use() => {}
                Err(taken) => return Err(taken_error(asked, &taken)),
            }
        }
        let why = format!("no port of {}-{} is free", range.0, range.1);
        Err(failed(asked, why, "sysctl net.ipv4.ip_local_port_range"))
    }

    fn relay(&mut self, held: Held) -> std::io::Result<Relayed> {
        if let Held::Nothing = held
            && self.common.verbose > 0
        {
            self.say("SCTP ports are not held: this kernel has no SCTP");
        }
        let relay = match self.publishing.relay.take() {
            Some(relay) => relay,
            None => Relay::start()?,
        };
        let relayed = relay.add(held, Targets::default());
        self.publishing.relay = Some(relay);
        relayed
    }

    /// As [`match_publishes`](Self::match_publishes); what fails is said, and tried again.
    pub(super) fn follow_publishes(&mut self) {
        let trouble = self.match_publishes().err().map(|error| error.to_string());
        self.look_again |= trouble.is_some();
        if self.publishing.trouble != trouble {
            self.publishing.trouble.clone_from(&trouble);
            if let Some(text) = trouble {
                self.say(&format!("warning: {text}"));
            }
        }
    }

    /// Makes everything match what is published and who is there now.
    ///
    /// # Errors
    /// What guard or programs of the uplink said; the switch is shown nothing new then.
    fn match_publishes(&mut self) -> Result<(), CliError> {
        self.resolve_publishes();
        let has_way = self.host_port.is_some();
        for entry in &self.publishing.entries {
            if let Some(relayed) = &entry.relayed {
                relayed.retarget(if has_way {
                    entry.relay_targets()
                } else {
                    Targets::default()
                });
            }
        }
        let list = self.publish_list();
        let publishes = Publishes::new(list).map_err(|error| {
            let why = format!("they contradict each other: {error:?}");
            CliError::failed("published ports", why, "vswitch nat")
        })?;
        if *self.switch.view().publishes == publishes {
            return Ok(());
        }
        // First nobody of the host answers, then the switch does.
        let covered = publishes.iter().map(Covered::of).collect();
        let before = std::mem::replace(&mut self.covered, covered);
        if let Err(error) = self.cover_uplink() {
            self.covered = before;
            return Err(error);
        }
        self.switch
            .update(|view| view.publishes = Arc::new(publishes));
        Ok(())
    }

    /// What the switch is shown: what can be reached from outside, with the targets that are known.
    fn publish_list(&self) -> Vec<Publish> {
        if !self.settings.nat || self.uplink.is_none() {
            return Vec::new();
        }
        let uplink = self.uplink.as_ref().and_then(|uplink| uplink.address);
        let mut external = self.own_addresses();
        external.extend(uplink.map(|cidr| cidr.address));
        let entries = self.publishing.entries.iter();
        let outside = entries.filter(|entry| match entry.spec.at.address {
            None => true,
            Some(address) => external.contains(&address),
        });
        outside.filter_map(|entry| entry.publish()).collect()
    }

    /// The lines about what is published, for the start.
    pub(super) fn publish_lines(&self) -> Vec<String> {
        let entries = self.publishing.entries.iter();
        let mut lines: Vec<String> = entries.map(|entry| entry.line(self)).collect();
        if !lines.is_empty() && self.host_port.is_none() {
            let line = "the host itself cannot reach published ports: --no-host-port";
            lines.push(line.to_owned());
        }
        lines
    }

    pub(super) fn nat_publish(&mut self, spec: &PublishSpec) -> Answer<api::Done> {
        self.publish(spec).map_err(|error| Refusal::Conflict {
            what: error.what.replace("--publish ", "publish "),
            why: error.why,
            fix: error.fix,
        })?;
        let added = self.publishing.entries.last();
        let line = added.map_or_else(String::new, |entry| entry.line(self));
        Ok(done(line, 1))
    }

    pub(super) fn nat_unpublish(&mut self, at: PublishedAt) -> Answer<api::Done> {
        let mut entries = self.publishing.entries.iter();
        let Some(place) = entries.position(|entry| entry.spec.at == at) else {
            return Err(Refusal::Absent {
                what: format!("published port {at}"),
                fix: "vswitch nat".into(),
            });
        };
        self.remove_publish(place);
        Ok(done(format!("{at} is published no more"), 1))
    }

    /// What is published, all or what concerns an address, with the sessions among `sessions` that
    /// it led to.
    pub(super) fn published_answer<'s>(
        &self,
        of: Option<Ipv4Addr>,
        sessions: impl Iterator<Item = &'s SessionView> + Clone,
    ) -> Vec<api::Published> {
        let entries = self.publishing.entries.iter();
        let entries = entries.filter(|entry| of.is_none_or(|address| entry.concerns(address)));
        let answer = entries.map(|entry| {
            let own = |session: &&SessionView| entry.owns(session);
            let count = sessions.clone().filter(own).count();
            entry.answer(count as u64, self)
        });
        answer.collect()
    }
}

/// A range that the switch takes from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Covered {
    pub(super) protocol: u8,
    pub(super) address: Option<Ipv4Addr>,
    pub(super) ports: RangeInclusive<u16>,
    pub(super) owner: u16,
}

impl Covered {
    fn of(publish: &Publish) -> Self {
        Self {
            protocol: publish.protocol.number(),
            address: publish.external,
            ports: publish.ports.clone(),
            owner: publish.owner,
        }
    }
}

const fn number(transport: Transport) -> u8 {
    match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
        Transport::Sctp => 132,
    }
}

/// A publish to these targets as the switch has it; `None` for a protocol its NAT does not speak.
pub(crate) fn as_switch_has_it(
    spec: &PublishSpec,
    targets: impl Iterator<Item = (Ipv4Addr, u16)>,
    owner: u16,
) -> Option<Publish> {
    let at = spec.at;
    let number = number(at.transport);
    let protocol = Protocol::ALL
        .into_iter()
        .find(|protocol| protocol.number() == number)?;
    Some(Publish {
        protocol,
        external: at.address,
        ports: at.ports.low..=at.ports.high,
        targets: targets
            .map(|(address, port)| Target { address, port })
            .collect(),
        by_source: spec.by_source,
        owner,
    })
}

impl Entry {
    /// As the switch has it; `None` for a protocol its NAT does not speak.
    fn publish(&self) -> Option<Publish> {
        as_switch_has_it(&self.spec, self.known(), self.owner.unwrap_or(0))
    }

    fn relay_targets(&self) -> Targets {
        let list = self.known();
        Targets {
            list: list.map(|(ip, port)| SocketAddrV4::new(ip, port)).collect(),
            by_source: self.spec.by_source,
        }
    }

    /// The targets whose address is known, with their port behind the first published one.
    fn known(&self) -> impl Iterator<Item = (Ipv4Addr, u16)> {
        let targets = self.spec.targets.iter().zip(&self.found);
        targets.filter_map(|(target, found)| match found {
            Found::At(address) => Some((*address, self.spec.target_port(target))),
            Found::Waiting(_) => None,
        })
    }

    /// `published 0.0.0.0:8080/tcp -> 10.77.0.11:80`, with what is missing.
    fn line(&self, daemon: &Daemon) -> String {
        let words: Vec<String> = (self.answer(0, daemon).targets.iter())
            .map(api::PublishedTarget::words)
            .collect();
        format!("published {} -> {}", self.spec.at, words.join(", "))
    }

    /// Whether it is published by an address, or to it.
    fn concerns(&self, address: Ipv4Addr) -> bool {
        self.spec.at.address == Some(address) || self.known().any(|(target, _)| target == address)
    }

    fn owns(&self, session: &SessionView) -> bool {
        let at = self.spec.at;
        let (address, port) = session.external;
        session.protocol.number() == number(at.transport)
            && (at.ports.low..=at.ports.high).contains(&port)
            && at.address.is_none_or(|own| own == address)
    }

    fn answer(&self, sessions: u64, daemon: &Daemon) -> api::Published {
        let at = self.spec.at;
        let targets = self.spec.targets.iter().zip(&self.found);
        let targets = targets.map(|(target, found)| {
            let port = self.spec.target_port(target);
            let (address, waiting) = match found {
                Found::At(address) => (
                    Some(SocketAddr::new(IpAddr::V4(*address), port)),
                    (!daemon.is_there(*address)).then_some("not seen yet"),
                ),
                Found::Waiting(why) => (None, Some(*why)),
            };
            api::PublishedTarget {
                name: target.host.to_string(),
                port,
                address,
                waiting: waiting.map(String::from),
            }
        });
        let targets: Vec<api::PublishedTarget> = targets.collect();
        let counts = self.relayed.as_ref().map(Relayed::counts);
        api::Published {
            schema: api::PublishedSchema,
            address: IpAddr::V4(at.address.unwrap_or(Ipv4Addr::UNSPECIFIED)),
            port: at.ports.low,
            port_last: at.ports.high,
            proto: at.transport.name().into(),
            state: if targets.iter().any(|target| target.waiting.is_none()) {
                api::PublishedState::Ok
            } else {
                api::PublishedState::Waiting
            },
            by_source: self.spec.by_source,
            targets,
            sessions,
            relayed: counts.map_or(0, |c| c.live.load(Ordering::Relaxed) as u64),
            relayed_total: counts.map_or(0, |c| c.total.load(Ordering::Relaxed)),
            relay_refused: counts.map_or(0, |c| c.refused.load(Ordering::Relaxed)),
        }
    }
}

fn failed(spec: &PublishSpec, why: String, fix: &str) -> CliError {
    CliError::failed(format!("--publish {spec}"), why, fix)
}

fn taken_error(spec: &PublishSpec, taken: &Taken) -> CliError {
    let (port, transport) = (taken.port, spec.at.transport);
    let why = match (&taken.owner, taken.is_in_use()) {
        (Some(owner), true) => format!("port {port}/{transport} is already taken by {owner}"),
        (None, true) => format!("port {port}/{transport} is already taken by a program"),
        (_, false) => format!("port {port}/{transport}: {}", taken.error),
    };
    let fix = match taken.error.raw_os_error() {
        Some(nix::libc::EMFILE | nix::libc::ENFILE) => "ulimit -n 65536".to_owned(),
        _ => format!("another host port, or ss -lnp 'sport = :{port}'"),
    };
    failed(spec, why, &fix)
}
