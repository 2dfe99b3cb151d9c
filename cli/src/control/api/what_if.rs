//! `POST /trace/what-if`: what would become of a packet.

use serde::{Deserialize, Serialize};

use super::{Traced, WhatIfSchema};

/// The question; either `packet` or `frame`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WhatIfAsked {
    /// The device of the port it would come in on.
    pub port: String,
    /// The packet in words: `tcp 10.77.0.11:40000 > 1.1.1.1:443 syn`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<String>,
    /// A whole frame, from its destination address on, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<String>,
}

/// The answer. Nothing was sent, and nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatIf {
    /// `vswitch.what-if/1`.
    pub schema: WhatIfSchema,
    /// The device of the port it would come in on.
    pub port: String,
    /// The station it would come from, if that was chosen here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<WhatIfStation>,
    /// The station it would go to, if that was chosen here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<WhatIfStation>,
    /// Whether it would be dropped, or a copy of it.
    pub dropped: bool,
    /// Why, if it would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its fate in words: `FORWARDED veth1 → eth0`.
    pub story: String,
    /// What to do about that, where something can be done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fix: String,
    /// Its way: a record for each worker that would have had it, and for each packet that the
    /// gateway would have made because of it.
    pub records: Vec<Traced>,
}

/// An Ethernet address, and how it is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatIfStation {
    /// The address.
    pub mac: String,
    /// `as said`, `the switch's own`, `the neighbour's`, `the only station there`, `a group`, or
    /// `invented: nobody knows it`.
    pub known: String,
}
