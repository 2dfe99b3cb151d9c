//! The sides of the NAT.

use std::fmt;

use nat::SessionView;
use serde::{Deserialize, Serialize};

/// A side of the NAT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Behind the gateway.
    Inside,
    /// Beyond the uplink.
    Outside,
}

impl Side {
    /// The side that opened a session.
    #[must_use]
    pub const fn of_origin(session: &SessionView) -> Self {
        if session.from_inside {
            Self::Inside
        } else {
            Self::Outside
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inside => "inside",
            Self::Outside => "outside",
        })
    }
}
