//! The bodies of requests that change something.

use serde::{Deserialize, Serialize};

/// The body of `POST /ports`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortAdd {
    /// A port with its options, as after `--port`: `veth3,worker=1`.
    pub port: String,
}

/// The body of `PATCH /ports/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSet {
    /// The worker that is to receive from it, counted from 0.
    pub worker: u16,
}

/// The body of `POST /fdb`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FdbAdd {
    /// The station.
    pub mac: String,
    /// The port to fix it to.
    pub port: String,
}

/// The body of `POST /nat/publish`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatPublish {
    /// What to publish, as after `--publish`: `8080:veth1:80`.
    pub publish: String,
}
