//! One look at a running switch: what a round of questions was answered.

use std::time::Duration;

use crate::client::Client;
use crate::control::api;
use crate::error::CliError;
use crate::show::moment;

/// Sessions that are asked for where any are wanted: more than a screen shows, and so few that
/// their JSON costs a millisecond.
const SESSIONS_MOST: u32 = 500;

/// What is on screen, and so what has to be asked for beyond ports, drops and sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wants {
    /// Sessions, and how many there are in each state: a walk through the NAT's table.
    pub sessions: bool,
}

impl Wants {
    /// Everything.
    pub const ALL: Self = Self { sessions: true };
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

impl Look {
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
        })
    }
}

impl NatLook {
    /// Looks at the NAT alone, as when sessions come on screen.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn take(
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
