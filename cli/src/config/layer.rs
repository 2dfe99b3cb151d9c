//! What one source of configuration says, and how two become [`Settings`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use switch::limits::{FDB_ENTRIES_DEFAULT, PORTS_MAX, WORKERS_MAX};
use switch::mac::Mac;

use super::nat::{self, NatFilters, NatLog, NatPool, NatQuota, Untranslated};
use super::publish::{self, PublishSpec};
use super::settings::{
    AGEING_SECS_DEFAULT, BUSY_POLL_USEC_DEFAULT, Cidr, NAME_DEFAULT, NAT_PORTS_OWN,
    NAT_PORTS_SHARED, NAT_SESSIONS_DEFAULT, NatProfile, PortOptions, PortRange, PortSpec, PortWord,
    RUN_DIR_DEFAULT, Settings,
};
use super::words::{self, Why};
use crate::error::CliError;

/// What the flags, or the file, say; everything unsaid is `None`, false or empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Layer {
    /// `--name`.
    pub name: Option<String>,
    /// `--run-dir`.
    pub run_dir: Option<PathBuf>,
    /// `--ports` and `--port`, in order.
    pub ports: Vec<PortWord>,
    /// The options of `--port` and `[port.NAME]`, by port.
    pub port_options: BTreeMap<PortWord, PortOptions>,
    /// `[[fdb]]`: stations fixed to a port, by the port's device.
    pub stations: Vec<(Mac, String)>,
    /// `--uplink`.
    pub uplink: Option<String>,
    /// `--uplink-address`.
    pub uplink_address: Option<Cidr>,
    /// `--uplink-mac`.
    pub uplink_mac: Option<Mac>,
    /// `--gateway`.
    pub gateway: Option<Cidr>,
    /// `--gateway-mac`.
    pub gateway_mac: Option<Mac>,
    /// `--no-host-port`; `Some(false)` in a file means yes after all.
    pub no_host_port: Option<bool>,
    /// `--no-nat`.
    pub no_nat: Option<bool>,
    /// `--nat-ports`.
    pub nat_ports: Option<PortRange>,
    /// `--nat-sessions`.
    pub nat_sessions: Option<u32>,
    /// `--nat-profile`.
    pub nat_profile: Option<NatProfile>,
    /// `--nat-filter`.
    pub nat_filter: Option<NatFilters>,
    /// `--nat-pool`.
    pub nat_pool: Option<NatPool>,
    /// `--nat-quota`.
    pub nat_quota: Option<NatQuota>,
    /// `--nat-helpers`.
    pub nat_helpers: Option<::nat::Helpers>,
    /// `--nat-log`.
    pub nat_log: Option<NatLog>,
    /// `--state`.
    pub state: Option<PathBuf>,
    /// `--no-mss-clamp`.
    pub no_mss_clamp: Option<bool>,
    /// `--no-nat-for`.
    pub no_nat_for: Option<Untranslated>,
    /// `--publish`, in order.
    pub publishes: Vec<PublishSpec>,
    /// `--fast-path`.
    pub fast_path: Option<bool>,
    /// `--isolate`.
    pub isolate: Option<bool>,
    /// `--ageing`.
    pub ageing_secs: Option<u32>,
    /// `--fdb-max`.
    pub fdb_max: Option<u32>,
    /// `--workers`.
    pub workers: Option<u16>,
    /// `--cpus`.
    pub cpus: Option<Vec<u16>>,
    /// `--busy-poll`.
    pub busy_poll_usec: Option<u32>,
    /// `--metrics`.
    pub metrics: Option<SocketAddr>,
}

impl Layer {
    /// Every word [`set`](Self::set) knows: the keys of the file, and the run flags' long names.
    pub const KEYS: &'static [&'static str] = &[
        "name",
        "run-dir",
        "uplink",
        "uplink-address",
        "uplink-mac",
        "gateway",
        "gateway-mac",
        "no-host-port",
        "no-nat",
        "nat-ports",
        "nat-sessions",
        "nat-profile",
        "nat-filter",
        "nat-pool",
        "nat-quota",
        "nat-helpers",
        "nat-log",
        "state",
        "no-mss-clamp",
        "no-nat-for",
        "fast-path",
        "isolate",
        "ageing",
        "fdb-max",
        "workers",
        "cpus",
        "busy-poll",
        "metrics",
    ];

    /// Sets the value of one key from its text, as the flag of that name would.
    ///
    /// # Errors
    /// Why the text is no value of that key. `None`: there is no such key.
    pub fn set(&mut self, key: &str, text: &str) -> Option<Result<(), Why>> {
        Some(match key {
            "name" => keep(&mut self.name, words::name(text)),
            "run-dir" => keep(&mut self.run_dir, Ok(PathBuf::from(text))),
            "uplink" => keep(&mut self.uplink, words::interface(text)),
            "uplink-address" => keep(&mut self.uplink_address, words::cidr(text)),
            "uplink-mac" => keep(&mut self.uplink_mac, words::station(text)),
            "gateway" => keep(&mut self.gateway, words::cidr(text)),
            "gateway-mac" => keep(&mut self.gateway_mac, words::station(text)),
            "no-host-port" => keep(&mut self.no_host_port, words::truth(text)),
            "no-nat" => keep(&mut self.no_nat, words::truth(text)),
            "nat-ports" => keep(&mut self.nat_ports, words::port_range(text)),
            "nat-sessions" => keep(
                &mut self.nat_sessions,
                words::number(text, words::NAT_SESSIONS),
            ),
            "nat-profile" => keep(&mut self.nat_profile, words::choice(text)),
            "nat-filter" => keep(&mut self.nat_filter, text.parse()),
            "nat-pool" => keep(&mut self.nat_pool, text.parse()),
            "nat-quota" => keep(&mut self.nat_quota, text.parse()),
            "nat-helpers" => keep(&mut self.nat_helpers, nat::helpers(text)),
            "nat-log" => keep(&mut self.nat_log, text.parse()),
            "state" => keep(&mut self.state, nat::file(text)),
            "no-mss-clamp" => keep(&mut self.no_mss_clamp, words::truth(text)),
            "no-nat-for" => keep(&mut self.no_nat_for, text.parse()),
            "fast-path" => keep(&mut self.fast_path, words::truth(text)),
            "isolate" => keep(&mut self.isolate, words::truth(text)),
            "ageing" => keep(
                &mut self.ageing_secs,
                words::number(text, words::AGEING_SECS),
            ),
            "fdb-max" => keep(&mut self.fdb_max, words::number(text, words::FDB_MAX)),
            "workers" => keep(
                &mut self.workers,
                words::number(text, (1, WORKERS_MAX as u64)),
            ),
            "cpus" => keep(&mut self.cpus, words::cpus(text)),
            "busy-poll" => keep(
                &mut self.busy_poll_usec,
                words::number(text, words::BUSY_POLL_USEC),
            ),
            "metrics" => keep(&mut self.metrics, words::address_and_port(text)),
            _ => return None,
        })
    }

    /// Adds a port with its options; naming one again is allowed as long as it adds options only.
    pub fn add_port(&mut self, word: PortWord, options: PortOptions) {
        if !self.ports.contains(&word) {
            self.ports.push(word.clone());
        }
        let before = self.port_options.remove(&word).unwrap_or_default();
        self.port_options.insert(word, options.over(before));
    }

    /// This layer, and `under` where it says nothing. The list of ports is one value: if this
    /// layer names any port, only the options of `under` for those ports count. So is that of
    /// publishes.
    #[must_use]
    pub fn over(mut self, under: Self) -> Self {
        if self.ports.is_empty() {
            self.ports = under.ports;
        }
        for (word, options) in under.port_options {
            let over = self.port_options.remove(&word).unwrap_or_default();
            self.port_options.insert(word, over.over(options));
        }
        if self.publishes.is_empty() {
            self.publishes = under.publishes;
        }
        self.stations.extend(under.stations);
        Self {
            name: self.name.or(under.name),
            run_dir: self.run_dir.or(under.run_dir),
            uplink: self.uplink.or(under.uplink),
            uplink_address: self.uplink_address.or(under.uplink_address),
            uplink_mac: self.uplink_mac.or(under.uplink_mac),
            gateway: self.gateway.or(under.gateway),
            gateway_mac: self.gateway_mac.or(under.gateway_mac),
            no_host_port: self.no_host_port.or(under.no_host_port),
            no_nat: self.no_nat.or(under.no_nat),
            nat_ports: self.nat_ports.or(under.nat_ports),
            nat_sessions: self.nat_sessions.or(under.nat_sessions),
            nat_profile: self.nat_profile.or(under.nat_profile),
            nat_filter: self.nat_filter.or(under.nat_filter),
            nat_pool: self.nat_pool.or(under.nat_pool),
            nat_quota: self.nat_quota.or(under.nat_quota),
            nat_helpers: self.nat_helpers.or(under.nat_helpers),
            nat_log: self.nat_log.or(under.nat_log),
            state: self.state.or(under.state),
            no_mss_clamp: self.no_mss_clamp.or(under.no_mss_clamp),
            no_nat_for: self.no_nat_for.or(under.no_nat_for),
            fast_path: self.fast_path.or(under.fast_path),
            isolate: self.isolate.or(under.isolate),
            ageing_secs: self.ageing_secs.or(under.ageing_secs),
            fdb_max: self.fdb_max.or(under.fdb_max),
            workers: self.workers.or(under.workers),
            cpus: self.cpus.or(under.cpus),
            busy_poll_usec: self.busy_poll_usec.or(under.busy_poll_usec),
            metrics: self.metrics.or(under.metrics),
            ..self
        }
    }

    /// Checks the whole and fills in the defaults.
    ///
    /// # Errors
    /// Settings that contradict each other, or no port at all.
    pub fn settle(self) -> Result<Settings, CliError> {
        self.check_ports()?;
        self.check_uplink()?;
        let ports = self.settle_ports()?;
        let own_address = self.uplink_address.is_some();
        let nat_ports = self.nat_ports.unwrap_or(if own_address {
            NAT_PORTS_OWN
        } else {
            NAT_PORTS_SHARED
        });
        let nat = self.uplink.is_some() && !self.no_nat.unwrap_or_default();
        publish::check(&self.publishes, (nat && !own_address).then_some(nat_ports))?;
        let nat_sessions = self.nat_sessions.unwrap_or(NAT_SESSIONS_DEFAULT);
        Ok(Settings {
            name: self.name.unwrap_or_else(|| NAME_DEFAULT.into()),
            run_dir: self.run_dir.unwrap_or_else(|| RUN_DIR_DEFAULT.into()),
            ports,
            nat,
            uplink: self.uplink,
            uplink_address: self.uplink_address,
            uplink_mac: self.uplink_mac,
            gateway: self.gateway,
            gateway_mac: self.gateway_mac,
            host_port: !self.no_host_port.unwrap_or_default(),
            nat_ports,
            nat_sessions,
            nat_profile: self.nat_profile.unwrap_or_default(),
            nat_filter: self.nat_filter.unwrap_or_default(),
            nat_pool: self.nat_pool.unwrap_or_default(),
            nat_quota: self.nat_quota.unwrap_or_default().settle(nat_sessions),
            nat_helpers: self.nat_helpers.unwrap_or_default(),
            nat_log: self.nat_log,
            state: self.state,
            mss_clamp: !self.no_mss_clamp.unwrap_or_default(),
            no_nat_for: self.no_nat_for.unwrap_or_default(),
            publishes: self.publishes,
            fast_path: self.fast_path.unwrap_or_default(),
            isolate: self.isolate.unwrap_or_default(),
            ageing_secs: self.ageing_secs.unwrap_or(AGEING_SECS_DEFAULT),
            fdb_max: self.fdb_max.unwrap_or(FDB_MAX_DEFAULT),
            workers: self.workers,
            cpus: self.cpus.unwrap_or_default(),
            busy_poll_usec: self.busy_poll_usec.unwrap_or(BUSY_POLL_USEC_DEFAULT),
            metrics: self.metrics,
        })
    }

    fn check_ports(&self) -> Result<(), CliError> {
        if self.ports.is_empty() {
            return Err(CliError::usage(
                "ports",
                "a switch needs at least one",
                "vswitch --ports veth1,veth2 --uplink eth0",
            ));
        }
        if self.ports.len() > PORTS_MAX {
            let why = format!("{} ports are more than {PORTS_MAX}", self.ports.len());
            return Err(CliError::usage(
                "ports",
                why,
                "run a second vswitch with --name",
            ));
        }
        for (index, word) in self.ports.iter().enumerate() {
            let device = word.device();
            if self.ports[..index]
                .iter()
                .any(|before| before.device() == device)
            {
                let why = "two ports of the same device";
                return Err(CliError::usage(word.to_string(), why, "name it once"));
            }
            if self.uplink.as_deref() == Some(device) {
                let why = "a port and the uplink at once";
                let fix = format!("leave {device} out of --ports");
                return Err(CliError::usage(word.to_string(), why, fix));
            }
        }
        Ok(())
    }

    fn check_uplink(&self) -> Result<(), CliError> {
        let flag = |flag: &str, why: &str, fix: &str| Err(CliError::usage(flag, why, fix));
        if self.uplink.is_none() {
            let needs = [
                ("--uplink-address", self.uplink_address.is_some()),
                ("--uplink-mac", self.uplink_mac.is_some()),
                ("--nat-ports", self.nat_ports.is_some()),
                ("--nat-pool", self.nat_pool.is_some()),
                ("--no-nat-for", self.no_nat_for.is_some()),
                ("--nat-log", self.nat_log.is_some()),
                ("--state", self.state.is_some()),
                ("--fast-path", self.fast_path == Some(true)),
            ];
            if let Some((name, _)) = needs.iter().find(|(_, given)| *given) {
                return flag(name, "means nothing without an uplink", "add --uplink eth0");
            }
        }
        if self.uplink_mac.is_some() && self.uplink_address.is_none() {
            let why = "belongs to an address of the switch's own";
            return flag("--uplink-mac", why, "add --uplink-address CIDR");
        }
        let of_nat = [
            ("--nat-ports", self.nat_ports.is_some()),
            ("--nat-pool", self.nat_pool.is_some()),
            ("--no-nat-for", self.no_nat_for.is_some()),
            ("--fast-path", self.fast_path == Some(true)),
        ];
        if self.no_nat == Some(true)
            && let Some((name, _)) = of_nat.iter().find(|(_, given)| *given)
        {
            let why = "means nothing with --no-nat";
            return flag(name, why, "leave one of them out");
        }
        self.check_pool()?;
        if let (Some(inside), Some(outside)) = (self.gateway, self.uplink_address)
            && inside.overlaps(outside)
        {
            let why = format!("the same network as --uplink-address {outside}");
            return flag(
                &format!("--gateway {inside}"),
                &why,
                "--gateway 10.77.0.1/24",
            );
        }
        Ok(())
    }

    /// The pool is of the outside, and the switch's alone.
    fn check_pool(&self) -> Result<(), CliError> {
        let Some(pool) = &self.nat_pool else {
            return Ok(());
        };
        let what = format!("--nat-pool {pool}");
        for address in pool.addresses() {
            let (why, fix) = match (self.gateway, self.uplink_address) {
                (Some(inside), _) if inside.holds(address) => (
                    format!("{address} is in the members' network {inside}"),
                    "addresses of the uplink's network",
                ),
                (_, Some(own)) if own.address == address => (
                    format!("{address} is the uplink's own address already"),
                    "further addresses only",
                ),
                _ => continue,
            };
            return Err(CliError::usage(what, why, fix));
        }
        Ok(())
    }

    fn settle_ports(&self) -> Result<Vec<PortSpec>, CliError> {
        let fdb_max = self.fdb_max.unwrap_or(FDB_MAX_DEFAULT);
        let mut ports: Vec<PortSpec> = Vec::with_capacity(self.ports.len());
        for word in &self.ports {
            let options = self.port_options.get(word).cloned().unwrap_or_default();
            ports.push(PortSpec::new(word.clone(), options));
        }
        for (mac, device) in &self.stations {
            let Some(port) = ports.iter_mut().find(|port| port.word.device() == device) else {
                let what = format!("static entry {mac}");
                let why = format!("`{device}` is none of the ports");
                return Err(CliError::usage(what, why, format!("add {device} to ports")));
            };
            if !port.macs.contains(mac) {
                port.macs.push(*mac);
            }
        }
        let mut owner: BTreeMap<Mac, &PortWord> = BTreeMap::new();
        for port in &ports {
            let what = port.word.to_string();
            if let Some((worker, workers)) = port.worker.zip(self.workers)
                && worker >= workers
            {
                let why = format!("worker {worker} of {workers}: they count from 0");
                let fix = format!("--workers {}", worker + 1);
                return Err(CliError::usage(what, why, fix));
            }
            if let Some(max) = port.fdb_max
                && max > fdb_max
            {
                let why = format!("fdb-max {max} is more than the whole table's {fdb_max}");
                return Err(CliError::usage(what, why, format!("--fdb-max {max}")));
            }
            for mac in &port.macs {
                if let Some(other) = owner.insert(*mac, &port.word) {
                    let why = format!("mac {mac} is fixed to {other} already");
                    return Err(CliError::usage(what, why, "fix it to one port"));
                }
            }
        }
        Ok(ports)
    }
}

/// As `FDB_ENTRIES_DEFAULT`, in the width settings use.
#[expect(clippy::cast_possible_truncation, reason = "8,192 fits")]
const FDB_MAX_DEFAULT: u32 = FDB_ENTRIES_DEFAULT as u32;

fn keep<T>(slot: &mut Option<T>, value: Result<T, Why>) -> Result<(), Why> {
    *slot = Some(value?);
    Ok(())
}
