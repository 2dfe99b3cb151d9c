//! Changes of the view, as a recording has them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use nat::{Publish, Publishes, Target};
use serde::{Deserialize, Serialize};
use switch::config::{HostView, NetworkIndex, PortView, Role, Route, UplinkView, View};
use switch::limits::PORTS_MAX;
use switch::mac::Mac;
use switch::port::{Egress, PortIndex};

use super::session::protocol;

/// What of a view is not as it was in the one before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ViewChange {
    /// The number of the new view.
    pub number: u64,
    /// Ports that came, went or changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortChange>,
    /// The uplink; empty where there is none any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uplink: Option<Vec<RecordedUplinkView>>,
    /// The host's port, and its addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<(Option<u16>, Vec<Ipv4Addr>)>,
    /// Published ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    publishes: Option<Vec<RecordedPublish>>,
}

/// What of a port is not as it was. One that is new has all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PortChange {
    /// Its index.
    pub index: u16,
    /// It is there no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
    /// Its device, if it is new, and what it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<(String, RecordedRole)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    up: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    isolated: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nat_worker: Option<u16>,
}

/// A [`Role`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordedRole {
    /// A member of the network.
    Member,
    /// The host's port.
    Host,
    /// The uplink.
    Uplink,
}

/// An [`UplinkView`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RecordedUplinkView {
    port: u16,
    mac: u64,
    address: Ipv4Addr,
    own: bool,
    /// Network, prefix, router.
    routes: Vec<(Ipv4Addr, u8, Option<Ipv4Addr>)>,
    nat_ports: (u16, u16),
    pool: Vec<Ipv4Addr>,
    untranslated: Vec<(Ipv4Addr, u8)>,
    mss_clamp: bool,
}

/// A published port, or a range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedPublish {
    /// Number of the IP protocol.
    pub protocol: u8,
    /// The address; none: every one.
    pub external: Option<Ipv4Addr>,
    /// First and last port.
    pub ports: (u16, u16),
    /// Who is behind it.
    pub targets: Vec<(Ipv4Addr, u16)>,
    /// Whether a client keeps one target.
    pub by_source: bool,
    /// The worker that keeps its sessions.
    pub owner: u16,
}

impl ViewChange {
    /// What `now` has that `before` had not. `name` tells a port's device.
    #[must_use]
    pub fn between(before: &View, now: &View, name: impl Fn(PortIndex) -> String) -> Self {
        let places = before.ports.len().max(now.ports.len());
        let indexes = (0..places).filter_map(|place| u16::try_from(place).ok());
        let ports = indexes.filter_map(|index| {
            let port = PortIndex(index);
            PortChange::between(index, before.port(port), now.port(port), || name(port))
        });
        let publishes = (!Arc::ptr_eq(&before.publishes, &now.publishes)).then(|| {
            let publishes = now.publishes.iter();
            publishes.map(RecordedPublish::from).collect()
        });
        Self {
            number: now.number,
            ports: ports.collect(),
            uplink: (before.uplink != now.uplink)
                .then(|| now.uplink.iter().map(RecordedUplinkView::from).collect()),
            host: (before.host != now.host).then(|| {
                let port = now.host.port.map(|port| port.0);
                (port, now.host.addresses.clone())
            }),
            publishes,
        }
    }

    /// Changes a view so; `way` leads out of a port that is new.
    ///
    /// # Errors
    /// What in it contradicts itself.
    pub fn apply(
        &self,
        view: &mut View,
        mut way: impl FnMut(PortIndex) -> Egress,
    ) -> Result<(), String> {
        view.number = self.number;
        for change in &self.ports {
            let place = usize::from(change.index);
            if place >= PORTS_MAX {
                return Err(format!("no switch has a port {place}"));
            }
            if view.ports.len() <= place {
                view.ports.resize_with(place + 1, || None);
            }
            change.apply(&mut view.ports[place], &mut way);
        }
        if let Some(uplink) = &self.uplink {
            view.uplink = uplink.first().map(UplinkView::from);
        }
        if let Some((port, addresses)) = &self.host {
            view.host = HostView {
                port: port.map(PortIndex),
                addresses: addresses.clone(),
            };
        }
        if let Some(publishes) = &self.publishes {
            view.publishes = Arc::new(publishes_of(publishes)?);
        }
        Ok(())
    }
}

/// Published ports as the switch has them.
///
/// # Errors
/// They contradict each other.
pub fn publishes_of(recorded: &[RecordedPublish]) -> Result<Publishes, String> {
    let list = recorded.iter().map(Publish::from).collect();
    Publishes::new(list).map_err(|error| error.to_string())
}

impl PortChange {
    fn between(
        index: u16,
        before: Option<&PortView>,
        now: Option<&PortView>,
        name: impl FnOnce() -> String,
    ) -> Option<Self> {
        let Some(now) = now else {
            let gone = before.is_some();
            return gone.then(|| Self {
                index,
                gone,
                ..Self::default()
            });
        };
        // A port of another role in the same place is another port.
        let before = before.filter(|before| before.role == now.role);
        let change = Self {
            index,
            gone: false,
            new: before.is_none().then(|| (name(), now.role.into())),
            mtu: changed(before.map(|it| it.mtu), now.mtu),
            up: changed(before.map(|it| it.up), now.up),
            isolated: changed(before.map(|it| it.isolated), now.isolated),
            nat_worker: changed(before.map(|it| it.nat_worker), now.nat_worker),
        };
        let same = Self {
            index,
            ..Self::default()
        };
        Some(change).filter(|change| *change != same)
    }

    fn apply(&self, port: &mut Option<PortView>, way: impl FnOnce(PortIndex) -> Egress) {
        if self.gone {
            *port = None;
            return;
        }
        if let Some((_, role)) = &self.new {
            *port = Some(PortView {
                network: NetworkIndex(0),
                role: Role::from(*role),
                egress: way(PortIndex(self.index)),
                mtu: 0,
                up: false,
                nat_worker: 0,
                isolated: false,
            });
        }
        if let Some(port) = port {
            port.mtu = self.mtu.unwrap_or(port.mtu);
            port.up = self.up.unwrap_or(port.up);
            port.isolated = self.isolated.unwrap_or(port.isolated);
            port.nat_worker = self.nat_worker.unwrap_or(port.nat_worker);
        }
    }
}

fn changed<T: PartialEq>(before: Option<T>, now: T) -> Option<T> {
    Some(now).filter(|now| before.as_ref() != Some(now))
}

impl From<Role> for RecordedRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Member => Self::Member,
            Role::Host => Self::Host,
            Role::Uplink => Self::Uplink,
        }
    }
}

impl From<RecordedRole> for Role {
    fn from(role: RecordedRole) -> Self {
        match role {
            RecordedRole::Member => Self::Member,
            RecordedRole::Host => Self::Host,
            RecordedRole::Uplink => Self::Uplink,
        }
    }
}

impl From<&UplinkView> for RecordedUplinkView {
    fn from(view: &UplinkView) -> Self {
        let routes = view.routes.iter();
        Self {
            port: view.port.0,
            mac: view.mac.to_u64(),
            address: view.address,
            own: view.own,
            routes: routes
                .map(|route| (route.network, route.prefix, route.via))
                .collect(),
            nat_ports: (*view.nat_ports.start(), *view.nat_ports.end()),
            pool: view.pool.clone(),
            untranslated: view.untranslated.clone(),
            mss_clamp: view.mss_clamp,
        }
    }
}

impl From<&RecordedUplinkView> for UplinkView {
    fn from(recorded: &RecordedUplinkView) -> Self {
        let routes = recorded.routes.iter();
        Self {
            port: PortIndex(recorded.port),
            mac: Mac::from_u64(recorded.mac),
            address: recorded.address,
            own: recorded.own,
            routes: routes
                .map(|&(network, prefix, via)| Route {
                    network,
                    prefix,
                    via,
                })
                .collect(),
            nat_ports: recorded.nat_ports.0..=recorded.nat_ports.1,
            pool: recorded.pool.clone(),
            untranslated: recorded.untranslated.clone(),
            mss_clamp: recorded.mss_clamp,
        }
    }
}

impl From<&Publish> for RecordedPublish {
    fn from(publish: &Publish) -> Self {
        let targets = publish.targets.iter();
        Self {
            protocol: publish.protocol.number(),
            external: publish.external,
            ports: (*publish.ports.start(), *publish.ports.end()),
            targets: targets
                .map(|target| (target.address, target.port))
                .collect(),
            by_source: publish.by_source,
            owner: publish.owner,
        }
    }
}

impl From<&RecordedPublish> for Publish {
    fn from(recorded: &RecordedPublish) -> Self {
        let targets = recorded.targets.iter();
        Self {
            protocol: protocol(recorded.protocol),
            external: recorded.external,
            ports: recorded.ports.0..=recorded.ports.1,
            targets: targets
                .map(|&(address, port)| Target { address, port })
                .collect(),
            by_source: recorded.by_source,
            owner: recorded.owner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nat::Protocol;

    fn port(role: Role, mtu: u32) -> PortView {
        PortView {
            network: NetworkIndex(0),
            role,
            egress: Egress::Nowhere,
            mtu,
            up: true,
            nat_worker: 1,
            isolated: false,
        }
    }

    /// A view as text, which its ports' ways are not part of.
    fn text(view: &View) -> String {
        format!("{:?}", view.without_ways())
    }

    #[test]
    fn changes_one_after_the_other_lead_to_the_same_views() {
        let publish = Publish {
            protocol: Protocol::Tcp,
            external: Some([192, 0, 2, 1].into()),
            ports: 80..=81,
            targets: vec![Target {
                address: [10, 9, 0, 2].into(),
                port: 8080,
            }],
            by_source: true,
            owner: 1,
        };
        let uplink = UplinkView {
            port: PortIndex(2),
            mac: Mac::local(7),
            address: [192, 0, 2, 1].into(),
            own: true,
            routes: vec![Route {
                network: [0, 0, 0, 0].into(),
                prefix: 0,
                via: Some([192, 0, 2, 9].into()),
            }],
            nat_ports: 40_000..=50_000,
            pool: vec![[192, 0, 2, 2].into()],
            untranslated: vec![([10, 0, 0, 0].into(), 8)],
            mss_clamp: true,
        };
        let empty = View::default();
        type Change = Box<dyn Fn(&mut View)>;
        let mut steps: Vec<Change> = Vec::new();
        steps.push(Box::new(|view| {
            view.ports = vec![
                Some(port(Role::Member, 1500)),
                None,
                Some(port(Role::Uplink, 9000)),
            ];
        }));
        steps.push(Box::new(move |view| view.uplink = Some(uplink.clone())));
        steps.push(Box::new(|view| {
            view.ports[0].as_mut().unwrap().up = false;
            view.host.port = Some(PortIndex(1));
            view.ports[1] = Some(port(Role::Host, 1400));
        }));
        steps.push(Box::new(move |view| {
            let list = vec![publish.clone()];
            view.publishes = Arc::new(Publishes::new(list).unwrap());
        }));
        steps.push(Box::new(|view| {
            view.ports[2] = Some(port(Role::Member, 1500));
            view.ports[0] = None;
            view.uplink = None;
        }));
        let (mut now, mut again) = (empty.clone(), empty);
        for step in steps {
            let before = now.clone();
            step(&mut now);
            now.number += 1;
            let name = |port: PortIndex| format!("veth{}", port.0);
            let change = ViewChange::between(&before, &now, name);
            let json = serde_json::to_string(&change).unwrap();
            let read: ViewChange = serde_json::from_str(&json).unwrap();
            assert_eq!(read, change);
            read.apply(&mut again, |_| Egress::Nowhere).unwrap();
            assert_eq!(text(&again), text(&now), "{json}");
        }
        let nothing = ViewChange::between(&now, &now, |_| String::new());
        let json = serde_json::to_string(&nothing).unwrap();
        assert_eq!(json, r#"{"number":5}"#);
    }
}
