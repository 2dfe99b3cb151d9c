//! Silence over a restart: what keeps the host from answering for the NAT while no switch runs.
//!
//! On an address it shares with the NAT, the host's own stack resets every NATed connection whose
//! next segment it sees. The best rungs vanish with the process, which is their beauty, and is
//! wrong in one case: a switch that is killed and will go on with its sessions when it is started
//! again. For this there is a filter of the third rung beside them, which stays behind, and is
//! journalled as such. The next start undoes what is in the journal before it sets up anything of
//! its own; over that gap a TCX link holds, which needs no journal as it ends with the process.

use std::io;

use super::tcx::Tcx;
use super::{Guard, Journal, Rule, Rung, UplinkGuard};

/// A rule that holds as long as this value lives, without a note in the journal.
#[derive(Debug)]
pub struct Bridge {
    _link: Tcx,
}

impl Bridge {
    /// Withholds from the host what `rule` says on an interface.
    ///
    /// # Errors
    /// The kernel has no TCX (before 6.6), or denies it.
    pub fn new(ifindex: u32, rule: Rule, name: &str) -> io::Result<Self> {
        Tcx::attach(ifindex, &rule, name).map(|link| Self { _link: link })
    }
}

/// Withholds from the host what `rule` says on the uplink, also after a SIGKILL, until the journal
/// is undone.
///
/// # Errors
/// There is no traffic control on the interface, or no right to use it.
pub fn stand_by(
    journal: Journal,
    name: &str,
    (ifindex, ifname): (u32, &str),
    rule: Rule,
) -> io::Result<UplinkGuard> {
    let guard = Guard::with_ladder(journal, name, &[Rung::Clsact]);
    let hold = guard.install_uplink(ifindex, ifname, rule)?;
    match hold.passed_over().first() {
        None => Ok(hold),
        Some((_, error)) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}
