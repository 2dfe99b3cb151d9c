//! One look at a running switch: what a round of questions was answered.

use std::time::Duration;

use crate::client::Client;
use crate::control::api;
use crate::error::{CliError, Exit};
use crate::show::moment;

/// Sessions that are asked for where any are wanted: more than a screen shows, and so few that
/// their JSON costs a millisecond.
const SESSIONS_MOST: u32 = 500;

/// What is on screen, and so what has to be asked for beyond ports, drops and sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    /// Sessions, and how many there are in each state: a walk through the NAT's table.
    pub sessions: bool,
    /// How long frames took: a histogram for each pair of ports.
    pub latency: bool,
}

impl Wants {
    /// Everything.
    pub const ALL: Self = Self {
        sessions: true,
        latency: true,
    };
}

/// What was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Look {
    /// When, by a clock that only goes forward.
    pub at: Duration,
    /// When, since the beginning of 1970, UTC.
    pub wall: Duration,
    /// The switch as a whole.
    pub status: api::Status,
    /// Its ports.
    pub ports: Vec<api::Port>,
    /// Its drops.
    pub drops: Vec<api::Drop>,
    /// Its NAT.
    pub nat: NatLook,
    /// How long frames took in it.
    pub latency: LatencyLook,
}

/// What was answered about the NAT.
#[derive(Debug, Clone, PartialEq)]
pub struct NatLook {
    /// When, by the same clock.
    pub at: Duration,
    /// Whether sessions were asked for.
    pub sessions: bool,
    /// The answer.
    pub nat: api::Nat,
}

/// What was answered about latency.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LatencyLook {
    /// Whether it was asked for.
    pub asked: bool,
    /// The answer; `None` from a switch that measures nothing.
    pub latency: Option<api::Latency>,
}

/// What was answered besides the regular look.
#[derive(Debug, Clone, PartialEq)]
pub struct Extra {
    /// Where sessions were asked for.
    pub nat: Option<NatLook>,
    /// Where latency was.
    pub latency: Option<LatencyLook>,
}

impl Look {
    /// What is wanted and not there yet.
    #[must_use]
    pub const fn missing(&self, wants: Wants) -> Wants {
        Wants {
            sessions: wants.sessions && !self.nat.sessions,
            latency: wants.latency && !self.latency.asked,
        }
    }

    /// Adds what was missing.
    pub fn add(&mut self, extra: Extra) {
        if let Some(nat) = extra.nat {
            self.nat = nat;
        }
        if let Some(latency) = extra.latency {
            self.latency = latency;
        }
    }

    /// Looks at everything that is wanted; `clock` gives the time since some moment.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn take(
        client: &Client<'_>,
        wants: Wants,
        clock: &dyn Fn() -> Duration,
    ) -> Result<Self, CliError> {
        let get = |path| client.request("GET", path, None);
        let status = client.read(&get("/status")?)?;
        let ports = client.read(&get("/ports")?)?;
        let at = clock();
        Ok(Self {
            at,
            wall: moment::now(),
            status,
            ports,
            drops: client.read(&get("/drops")?)?,
            nat: NatLook::take(client, wants, clock)?,
            latency: match wants.latency {
                true => LatencyLook::take(client)?,
                false => LatencyLook::default(),
            },
        })
    }
}

impl NatLook {
    fn take(
        client: &Client<'_>,
        wants: Wants,
        clock: &dyn Fn() -> Duration,
    ) -> Result<Self, CliError> {
        let path = match wants.sessions {
            true => format!("/nat?most={SESSIONS_MOST}"),
            false => "/nat?summary".into(),
        };
        let nat = client.read(&client.request("GET", &path, None)?)?;
        Ok(Self {
            at: clock(),
            sessions: wants.sessions,
            nat,
        })
    }
}

impl LatencyLook {
    fn take(client: &Client<'_>) -> Result<Self, CliError> {
        let latency = match client.latency() {
            Ok(body) => Some(client.read(&body)?),
            Err(error) if error.exit == Exit::NotRunning => return Err(error),
            // An older switch does not know the path.
            Err(_) => None,
        };
        Ok(Self {
            asked: true,
            latency,
        })
    }
}

impl Extra {
    /// Looks at this alone, as when it comes on screen between two looks.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn take(
        client: &Client<'_>,
        wants: Wants,
        clock: &dyn Fn() -> Duration,
    ) -> Result<Self, CliError> {
        let nat = wants.sessions.then(|| NatLook::take(client, wants, clock));
        let latency = wants.latency.then(|| LatencyLook::take(client));
        Ok(Self {
            nat: nat.transpose()?,
            latency: latency.transpose()?,
        })
    }
}
