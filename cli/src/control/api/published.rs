//! Published ports: `GET /nat/publish`, and `published` of `GET /nat`.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::PublishedSchema;

/// A range of the host's ports that leads to members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// `vswitch.published/1`.
    pub schema: PublishedSchema,
    /// The address; 0.0.0.0: every one.
    pub address: IpAddr,
    /// The first port.
    pub port: u16,
    /// The last port.
    pub port_last: u16,
    /// `tcp`, `udp`, `sctp`.
    pub proto: String,
    /// Whether it leads anywhere.
    pub state: PublishedState,
    /// Whether a client keeps its target.
    pub by_source: bool,
    /// Who is behind it.
    pub targets: Vec<PublishedTarget>,
    /// Sessions from outside and from members at present.
    pub sessions: u64,
    /// Connections and clients of the host itself at present.
    pub relayed: u64,
    /// Those so far.
    pub relayed_total: u64,
    /// Those that were refused: no target, too many, or the target did not answer.
    pub relay_refused: u64,
}

/// Whether a published range leads anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PublishedState {
    /// At least one target is there.
    Ok,
    /// None is.
    Waiting,
}

/// One target of a published range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedTarget {
    /// As it was named: an address or a port.
    pub name: String,
    /// Its port behind the first published one.
    pub port: u16,
    /// Where it is now.
    pub address: Option<SocketAddr>,
    /// What it waits for: `no such port`, `no address`; `not seen yet` of an address that nobody
    /// is known to have, which is asked for as soon as there is something for it.
    pub waiting: Option<String>,
}

impl PublishedTarget {
    /// Where it is, or what it waits for.
    #[must_use]
    pub fn words(&self) -> String {
        match (&self.address, &self.waiting) {
            (Some(address), Some(why)) => format!("{address} (waiting: {why})"),
            (Some(address), None) => address.to_string(),
            (None, Some(why)) => format!("{}:{} (waiting: {why})", self.name, self.port),
            (None, None) => format!("{}:{}", self.name, self.port),
        }
    }
}

impl Published {
    /// `0.0.0.0:8080/tcp -> 10.77.0.11:80 (12 sessions)`.
    #[must_use]
    pub fn line(&self) -> String {
        let last = if self.port_last == self.port {
            String::new()
        } else {
            format!("-{}", self.port_last)
        };
        let targets: Vec<String> = (self.targets.iter()).map(PublishedTarget::words).collect();
        let flows = self.sessions + self.relayed;
        let plural = if flows == 1 { "" } else { "s" };
        format!(
            "{}:{}{last}/{} -> {} ({flows} session{plural})",
            self.address,
            self.port,
            self.proto,
            targets.join(", ")
        )
    }
}
