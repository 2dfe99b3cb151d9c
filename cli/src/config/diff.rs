//! What changed between two settings, as data: computed here, printed anywhere, applied by the
//! daemon.

use std::fmt;

use switch::mac::Mac;

use super::nat::{helpers_text, quota_text};
use super::publish::PublishSpec;
use super::settings::{PortSpec, PortWord, Settings};

/// One difference between two settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A port is gone, or is to be opened anew because its ring changed.
    RemovePort(PortWord),
    /// A port is new, or opened anew.
    AddPort(PortSpec),
    /// A station is no longer fixed to a port that stays.
    RemoveStation(PortWord, Mac),
    /// A station is now fixed to a port that stays.
    AddStation(PortWord, Mac),
    /// The bound on a staying port's stations changed.
    PortFdbMax(PortWord, Option<u32>),
    /// A staying port is to be received by another worker.
    PortWorker(PortWord, u16),
    /// A staying port is to be isolated, or no longer.
    PortIsolated(PortWord, bool),
    /// Ports of the host no longer lead to members, or will lead to others.
    Unpublish(PublishSpec),
    /// Ports of the host are to lead to members.
    Publish(PublishSpec),
    /// Another value changed; the new one is in the new settings.
    Set {
        /// Which value.
        key: Key,
        /// What it was, in the words of the file.
        old: String,
        /// What it is to be.
        new: String,
    },
}

impl Change {
    /// Whether a running switch can take it on.
    #[must_use]
    pub const fn applies(&self) -> Applies {
        match self {
            Self::Set { key, .. } => key.applies(),
            Self::RemovePort(_)
            | Self::AddPort(_)
            | Self::RemoveStation(..)
            | Self::AddStation(..)
            | Self::PortFdbMax(..)
            | Self::PortWorker(..)
            | Self::PortIsolated(..)
            | Self::Unpublish(_)
            | Self::Publish(_) => Applies::Now,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemovePort(word) => write!(f, "port {word}: remove"),
            Self::AddPort(spec) => write!(f, "port {}: add", spec.word),
            Self::RemoveStation(word, mac) => write!(f, "port {word}: no longer fix {mac}"),
            Self::AddStation(word, mac) => write!(f, "port {word}: fix {mac}"),
            Self::PortFdbMax(word, Some(max)) => write!(f, "port {word}: fdb-max {max}"),
            Self::PortFdbMax(word, None) => write!(f, "port {word}: no fdb-max"),
            Self::PortWorker(word, worker) => write!(f, "port {word}: worker {worker}"),
            Self::PortIsolated(word, true) => write!(f, "port {word}: isolated"),
            Self::PortIsolated(word, false) => write!(f, "port {word}: not isolated"),
            Self::Unpublish(spec) => write!(f, "unpublish {}", spec.at),
            Self::Publish(spec) => write!(f, "publish {spec}"),
            Self::Set { key, old, new } => {
                write!(f, "{}: {old} -> {new}", key.word())?;
                match key.applies() {
                    Applies::Now => Ok(()),
                    Applies::Restart => f.write_str(" (needs a restart)"),
                }
            }
        }
    }
}

/// When a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applies {
    /// The running switch takes it on between two batches.
    Now,
    /// It sizes memory, threads or the host's set-up, which are made once at start.
    Restart,
}

macro_rules! keys {
    ($($key:ident $word:literal $applies:ident $value:expr;)+) => {
        /// A value of the settings other than its ports.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Key { $(#[doc = concat!("`", $word, "`.")] $key,)+ }

        impl Key {
            /// All keys, in the order they are printed.
            pub const ALL: &'static [Self] = &[$(Self::$key),+];

            /// Its word in the file and on the command line.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$key => $word,)+ }
            }

            /// When a change of it takes effect.
            #[must_use]
            pub const fn applies(self) -> Applies {
                match self { $(Self::$key => Applies::$applies,)+ }
            }

            /// Its value in `settings`, as text.
            #[must_use]
            pub fn value(self, settings: &Settings) -> String {
                let value: fn(&Settings) -> String = match self { $(Self::$key => $value,)+ };
                value(settings)
            }
        }
    };
}

keys! {
    Name "name" Restart |s| s.name.clone();
    RunDir "run-dir" Restart |s| s.run_dir.display().to_string();
    Uplink "uplink" Restart |s| or(s.uplink.as_ref(), "none");
    UplinkAddress "uplink-address" Restart |s| or(s.uplink_address, "the host's");
    UplinkMac "uplink-mac" Restart |s| or(s.uplink_mac, "made up");
    Gateway "gateway" Restart |s| or(s.gateway, "found");
    GatewayMac "gateway-mac" Restart |s| or(s.gateway_mac, "made up");
    HostPort "no-host-port" Restart |s| (!s.host_port).to_string();
    Nat "no-nat" Restart |s| (!s.nat).to_string();
    NatPorts "nat-ports" Restart |s| s.nat_ports.to_string();
    NatSessions "nat-sessions" Restart |s| s.nat_sessions.to_string();
    NatProfile "nat-profile" Restart |s| s.nat_profile.to_string();
    NatFilter "nat-filter" Restart |s| s.nat_filter.to_string();
    NatPool "nat-pool" Restart |s| some(&s.nat_pool, s.nat_pool.is_empty());
    NatQuota "nat-quota" Restart |s| quota_text(&s.nat_quota);
    NatHelpers "nat-helpers" Restart |s| or(helpers_text(s.nat_helpers), "none");
    NatLog "nat-log" Restart |s| or(s.nat_log.as_ref(), "none");
    State "state" Restart |s| or(s.state.as_ref().map(|path| path.display()), "none");
    MssClamp "no-mss-clamp" Now |s| (!s.mss_clamp).to_string();
    NoNatFor "no-nat-for" Now |s| some(&s.no_nat_for, s.no_nat_for.is_empty());
    FastPath "fast-path" Restart |s| s.fast_path.to_string();
    Isolate "isolate" Now |s| s.isolate.to_string();
    Ageing "ageing" Now |s| s.ageing_secs.to_string();
    FdbMax "fdb-max" Restart |s| s.fdb_max.to_string();
    Workers "workers" Restart |s| or(s.workers, "auto");
    Cpus "cpus" Restart |s| if s.cpus.is_empty() { "any".into() } else { cpu_list(&s.cpus) };
    BusyPoll "busy-poll" Restart |s| s.busy_poll_usec.to_string();
    Metrics "metrics" Restart |s| or(s.metrics, "none");
}

fn some(value: &impl fmt::Display, empty: bool) -> String {
    or((!empty).then_some(value), "none")
}

fn or<T: fmt::Display>(value: Option<T>, otherwise: &str) -> String {
    value.map_or_else(|| otherwise.into(), |value| value.to_string())
}

/// Processors as [`words::cpus`](super::words::cpus) reads them, runs joined: `0-1,3`.
#[must_use]
pub fn cpu_list(cpus: &[u16]) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for cpu in cpus {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*cpu) => *last = *cpu,
            Some(_) | None => runs.push((*cpu, *cpu)),
        }
    }
    let text = |(low, high): &(u16, u16)| {
        if low == high {
            low.to_string()
        } else {
            format!("{low}-{high}")
        }
    };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

/// The changes that turn `old` into `new`: what is published no more, ports to close, stations to
/// let go, ports to open, stations to fix, what is published, then values.
/// Empty where the two are equal.
#[must_use]
pub fn diff(old: &Settings, new: &Settings) -> Vec<Change> {
    let mut changes = Vec::new();
    let (mut opened, mut freed, mut fixed) = (Vec::new(), Vec::new(), Vec::new());
    let stays = |port: &PortSpec, others: &[PortSpec]| {
        let same = |other: &&PortSpec| {
            let layout = |p: &PortSpec| (p.word.clone(), p.ring_bytes);
            layout(other) == layout(port)
        };
        others.iter().find(same).cloned()
    };
    for spec in &old.publishes {
        if !new.publishes.contains(spec) {
            changes.push(Change::Unpublish(spec.clone()));
        }
    }
    for port in &old.ports {
        if stays(port, &new.ports).is_none() {
            changes.push(Change::RemovePort(port.word.clone()));
        }
    }
    for port in &new.ports {
        match stays(port, &old.ports) {
            None => opened.push(Change::AddPort(port.clone())),
            Some(before) => port_changes(&before, port, &mut freed, &mut fixed),
        }
    }
    // A station may move from one port to another: it is let go before it is fixed again.
    changes.append(&mut freed);
    changes.append(&mut opened);
    changes.append(&mut fixed);
    for spec in &new.publishes {
        if !old.publishes.contains(spec) {
            changes.push(Change::Publish(spec.clone()));
        }
    }
    for key in Key::ALL {
        let (old, new) = (key.value(old), key.value(new));
        if old != new {
            changes.push(Change::Set {
                key: *key,
                old,
                new,
            });
        }
    }
    changes
}

fn port_changes(old: &PortSpec, new: &PortSpec, freed: &mut Vec<Change>, fixed: &mut Vec<Change>) {
    let word = || new.word.clone();
    for mac in old.macs.iter().filter(|mac| !new.macs.contains(mac)) {
        freed.push(Change::RemoveStation(word(), *mac));
    }
    for mac in new.macs.iter().filter(|mac| !old.macs.contains(mac)) {
        fixed.push(Change::AddStation(word(), *mac));
    }
    if old.fdb_max != new.fdb_max {
        fixed.push(Change::PortFdbMax(word(), new.fdb_max));
    }
    if old.isolated != new.isolated {
        fixed.push(Change::PortIsolated(word(), new.isolated));
    }
    // A port that may be anywhere stays where it is.
    if let Some(worker) = new.worker.filter(|_| old.worker != new.worker) {
        fixed.push(Change::PortWorker(word(), worker));
    }
}
