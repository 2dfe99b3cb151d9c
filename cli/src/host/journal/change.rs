//! The kinds of change and how each is undone.

use std::fmt;
use std::io;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Outcome;
use crate::host::guard::clsact;
use crate::host::netlink::{Netlink, is_gone};
use crate::host::route::Route;
use crate::host::sysctl::{self, PortSet};

/// An interface at the time of a change. The index is its identity: a new interface of the old
/// name is not the one that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Index.
    pub index: u32,
    /// Name at that time.
    pub name: String,
}

/// Something of the host that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// A setting of one interface, `net/FAMILY/conf/IFNAME/SETTING`.
    InterfaceSysctl {
        /// `ipv4` or `ipv6`.
        family: String,
        /// The interface.
        interface: Interface,
        /// Last part of the key.
        setting: String,
        /// Value before.
        old: String,
        /// Value that was written.
        new: String,
    },
    /// A setting of the namespace.
    Sysctl {
        /// Key with slashes.
        key: String,
        /// Value before.
        old: String,
        /// Value that was written.
        new: String,
    },
    /// Ports added to `ip_local_reserved_ports`.
    ReservedPorts {
        /// The added ones only, as the kernel prints them.
        added: String,
    },
    /// A traffic-control filter at an interface's ingress.
    Filter {
        /// The interface.
        interface: Interface,
        /// The clsact qdisc was made for it.
        qdisc_made: bool,
        /// Priority of the filter.
        priority: u16,
    },
    /// A persistent TAP device was made.
    Tap {
        /// The device.
        interface: Interface,
    },
    /// An address was added.
    Address {
        /// The interface.
        interface: Interface,
        /// The address.
        ip: IpAddr,
        /// Prefix length in bits.
        prefix: u8,
    },
    /// A route was added to the main table.
    Route {
        /// The interface.
        interface: Interface,
        /// Destination network.
        destination: IpAddr,
        /// Prefix length in bits.
        prefix: u8,
        /// Next hop, if any.
        gateway: Option<IpAddr>,
        /// Metric; 0 for the kernel's default.
        metric: u32,
    },
    /// A link was brought up.
    LinkUp {
        /// The interface.
        interface: Interface,
    },
    /// The administrator's promiscuous flag was set.
    Promiscuous {
        /// The interface.
        interface: Interface,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InterfaceSysctl {
                family,
                interface,
                setting,
                old,
                new,
            } => {
                let key = sysctl::conf_key(family, &interface.name, setting);
                write!(f, "{} {old} -> {new}", key.replace('/', "."))
            }
            Self::Sysctl { key, old, new } => {
                write!(f, "{} {old} -> {new}", key.replace('/', "."))
            }
            Self::ReservedPorts { added } => {
                write!(f, "{} + {added}", sysctl::RESERVED_PORTS.replace('/', "."))
            }
            Self::Filter { interface, .. } => write!(f, "ingress filter on {}", interface.name),
            Self::Tap { interface } => write!(f, "TAP {}", interface.name),
            Self::Address {
                interface,
                ip,
                prefix,
            } => {
                write!(f, "address {ip}/{prefix} on {}", interface.name)
            }
            Self::Route {
                interface,
                destination,
                prefix,
                ..
            } => {
                write!(f, "route {destination}/{prefix} on {}", interface.name)
            }
            Self::LinkUp { interface } => write!(f, "{} brought up", interface.name),
            Self::Promiscuous { interface } => write!(f, "{} promiscuous", interface.name),
        }
    }
}

impl Change {
    /// Undoes the change in the calling thread's network namespace; doing so twice is harmless.
    #[must_use]
    pub(super) fn undo(&self) -> Outcome {
        match self.try_undo() {
            Ok(outcome) => outcome,
            Err(err) if is_gone(&err) => Outcome::Gone,
            Err(err) => Outcome::Failed(err),
        }
    }

    fn try_undo(&self) -> io::Result<Outcome> {
        match self {
            Self::InterfaceSysctl {
                family,
                interface,
                setting,
                old,
                new,
            } => {
                // It may have been renamed since.
                let name = Netlink::open()?.link(interface.index)?.name;
                put_back(&sysctl::conf_key(family, &name, setting), old, new)
            }
            Self::Sysctl { key, old, new } => put_back(key, old, new),
            Self::ReservedPorts { added } => release(added),
            Self::Filter {
                interface,
                qdisc_made,
                priority,
            } => remove_filter(interface.index, *qdisc_made, *priority),
            Self::Tap { interface } => delete_tap(interface.index),
            Self::Address {
                interface,
                ip,
                prefix,
            } => Netlink::open()?
                .delete_address(interface.index, *ip, *prefix)
                .map(|()| Outcome::Restored),
            Self::Route {
                interface,
                destination,
                prefix,
                gateway,
                metric,
            } => {
                let mut route = Route::on_link(*destination, *prefix, interface.index);
                route.gateway = *gateway;
                route.metric = *metric;
                Netlink::open()?
                    .delete_route(&route)
                    .map(|()| Outcome::Restored)
            }
            Self::LinkUp { interface } => {
                let mut netlink = Netlink::open()?;
                if !netlink.link(interface.index)?.up {
                    return Ok(Outcome::Unchanged);
                }
                netlink
                    .set_up(interface.index, false)
                    .map(|()| Outcome::Restored)
            }
            Self::Promiscuous { interface } => {
                let mut netlink = Netlink::open()?;
                netlink
                    .set_promiscuous(interface.index, false)
                    .map(|()| Outcome::Restored)
            }
        }
    }
}

fn remove_filter(index: u32, qdisc_made: bool, priority: u16) -> io::Result<Outcome> {
    let mut netlink = Netlink::open()?;
    netlink.link(index)?;
    let ours = clsact::remove(&mut netlink, index, priority)?;
    if qdisc_made {
        clsact::remove_empty_qdisc(&mut netlink, index)?;
    }
    Ok(if ours {
        Outcome::Restored
    } else {
        Outcome::Unchanged
    })
}

fn delete_tap(index: u32) -> io::Result<Outcome> {
    let mut netlink = Netlink::open()?;
    let link = netlink.link(index)?;
    if link.kind.as_deref() != Some("tun") {
        return Ok(Outcome::LeftAlone(format!("index is {}'s", link.name)));
    }
    netlink.delete_link(index).map(|()| Outcome::Restored)
}

fn put_back(key: &str, old: &str, new: &str) -> io::Result<Outcome> {
    let now = sysctl::read(key)?;
    if now == old {
        return Ok(Outcome::Unchanged);
    }
    if now != new {
        return Ok(Outcome::LeftAlone(now));
    }
    sysctl::write(key, old).map(|()| Outcome::Restored)
}

fn release(added: &str) -> io::Result<Outcome> {
    let added: PortSet = added.parse()?;
    if sysctl::reserved_ports()?.intersection(&added).is_empty() {
        return Ok(Outcome::Unchanged);
    }
    sysctl::release_ports(&added).map(|()| Outcome::Restored)
}
