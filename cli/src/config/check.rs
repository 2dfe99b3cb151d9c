//! The effective settings, written out as a file that reads back as the same settings.

use std::collections::BTreeMap;

use serde::Serialize;

use super::diff::cpu_list;
use super::nat::{helpers_text, quota_text};
use super::settings::{PortSpec, Settings};

/// The name and version of the JSON form.
pub const SCHEMA: &str = "vswitch.settings/1";

/// Settings in the words of the file; what is found at run time is left out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Effective {
    #[serde(skip_serializing_if = "Option::is_none")]
    schema: Option<&'static str>,
    name: String,
    run_dir: String,
    ports: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    publish: Vec<String>,
    #[serde(flatten)]
    uplink: Uplink,
    no_host_port: bool,
    fast_path: bool,
    isolate: bool,
    ageing: u32,
    fdb_max: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    workers: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<String>,
    busy_poll: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    port: BTreeMap<String, Port>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Uplink {
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uplink: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uplink_address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    uplink_mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_nat: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nat_ports: Option<String>,
    nat_sessions: u32,
    nat_profile: String,
    nat_filter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    nat_pool: Option<String>,
    nat_quota: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    nat_helpers: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nat_log: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<String>,
    no_mss_clamp: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    no_nat_for: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
struct Port {
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ring: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fdb_max: Option<u32>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    isolated: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    mac: Vec<String>,
}

/// Whole pages, so never a fraction of a KiB.
fn ring(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) {
        format!("{}MiB", bytes >> 20)
    } else {
        format!("{}KiB", bytes >> 10)
    }
}

fn text<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn effective(settings: &Settings, schema: Option<&'static str>) -> Effective {
    let with_options = |port: &&PortSpec| {
        !port.macs.is_empty()
            || port.worker.is_some()
            || port.ring_bytes.is_some()
            || port.fdb_max.is_some()
            || port.isolated
    };
    let table = |port: &PortSpec| {
        let options = Port {
            worker: port.worker,
            ring: port.ring_bytes.map(ring),
            fdb_max: port.fdb_max,
            isolated: port.isolated,
            mac: port.macs.iter().map(ToString::to_string).collect(),
        };
        (port.word.to_string(), options)
    };
    Effective {
        schema,
        name: settings.name.clone(),
        run_dir: settings.run_dir.display().to_string(),
        ports: settings
            .ports
            .iter()
            .map(|port| port.word.to_string())
            .collect(),
        publish: (settings.publishes.iter().map(ToString::to_string)).collect(),
        uplink: Uplink {
            gateway: text(settings.gateway),
            gateway_mac: text(settings.gateway_mac),
            uplink: settings.uplink.clone(),
            uplink_address: text(settings.uplink_address),
            uplink_mac: text(settings.uplink_mac),
            no_nat: settings.uplink.as_ref().map(|_| !settings.nat),
            nat_ports: settings.nat.then(|| settings.nat_ports.to_string()),
            nat_sessions: settings.nat_sessions,
            nat_profile: settings.nat_profile.to_string(),
            nat_filter: settings.nat_filter.to_string(),
            nat_pool: (!settings.nat_pool.is_empty()).then(|| settings.nat_pool.to_string()),
            nat_quota: quota_text(&settings.nat_quota),
            nat_helpers: helpers_text(settings.nat_helpers),
            nat_log: text(settings.nat_log.as_ref()),
            state: text(settings.state.as_ref().map(|path| path.display())),
            no_mss_clamp: !settings.mss_clamp,
            no_nat_for: (!settings.no_nat_for.is_empty()).then(|| settings.no_nat_for.to_string()),
        },
        no_host_port: !settings.host_port,
        fast_path: settings.fast_path,
        isolate: settings.isolate,
        ageing: settings.ageing_secs,
        fdb_max: settings.fdb_max,
        workers: settings.workers,
        cpus: (!settings.cpus.is_empty()).then(|| cpu_list(&settings.cpus)),
        busy_poll: settings.busy_poll_usec,
        metrics: text(settings.metrics),
        port: settings
            .ports
            .iter()
            .filter(with_options)
            .map(table)
            .collect(),
    }
}

/// The settings as a configuration file.
///
/// # Errors
/// None for settings that came through [`Layer::settle`](super::Layer::settle).
pub fn to_toml(settings: &Settings) -> Result<String, toml::ser::Error> {
    toml::to_string(&effective(settings, None))
}

/// The settings as JSON, first key `schema`.
///
/// # Errors
/// None for settings that came through [`Layer::settle`](super::Layer::settle).
pub fn to_json(settings: &Settings) -> Result<String, serde_json::Error> {
    serde_json::to_string(&effective(settings, Some(SCHEMA)))
}
