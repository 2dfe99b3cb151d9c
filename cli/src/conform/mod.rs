//! `vswitch nat report`: the RFCs' requirements, tried out on a NAT with the live settings.
//!
//! # Theory of operation
//!
//! Nothing is read off the settings. Each requirement is played with packets to an engine of its
//! own, made with the configuration of the running one but with a table of its own and a clock that
//! the probe turns: two hours of silence take no time. What the engine does is the verdict, so a
//! setting that breaks a requirement shows, and so would a bug.
//!
//! Left out, because no packet to an engine can show them: RFC 4787 REQ-7 (overlapping subnets:
//! refused at the start) and REQ-13 (packets too big), RFC 5382 REQ-6 and RFC 5508 REQ-8 to REQ-11
//! (helpers, resources, policies), which are the gateway's business.

mod icmp;
mod probe;
mod tcp;
mod udp;

use serde::{Deserialize, Serialize};

/// How strongly an RFC asks (RFC 2119).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// MUST, MUST NOT.
    Must,
    /// SHOULD, RECOMMENDED.
    Should,
}

/// A requirement and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// The RFC's number.
    pub rfc: u16,
    /// The requirement's name there: `REQ-1`.
    pub name: String,
    /// How strongly it is asked for.
    pub level: Level,
    /// What is asked for, in few words.
    pub what: String,
    /// Whether it is met.
    pub met: bool,
    /// What was seen.
    pub seen: String,
    /// The flag that changes it; empty where none does.
    pub fix: String,
}

/// What one probe found.
struct Finding {
    met: bool,
    seen: String,
}

impl Finding {
    fn new(met: bool, seen: impl Into<String>) -> Self {
        Self {
            met,
            seen: seen.into(),
        }
    }
}

/// A requirement of an RFC and how it is tried.
struct Check {
    name: &'static str,
    level: Level,
    what: &'static str,
    fix: &'static str,
    run: fn(&nat::Config) -> Finding,
}

const fn check(
    name: &'static str,
    level: Level,
    what: &'static str,
    fix: &'static str,
    run: fn(&nat::Config) -> Finding,
) -> Check {
    Check {
        name,
        level,
        what,
        fix,
        run,
    }
}

/// The RFCs, and what of each is tried.
const RFCS: [(u16, &[Check]); 3] = [
    (4787, udp::CHECKS),
    (5382, tcp::CHECKS),
    (5508, icmp::CHECKS),
];

/// Tries all requirements on engines with this configuration, in the order of the RFCs.
#[must_use]
pub fn report(config: &nat::Config) -> Vec<Requirement> {
    let of = |(rfc, checks): (u16, &'static [Check])| {
        checks.iter().map(move |check| try_out(rfc, check, config))
    };
    RFCS.into_iter().flat_map(of).collect()
}

fn try_out(rfc: u16, check: &Check, config: &nat::Config) -> Requirement {
    let Finding { met, seen } = (check.run)(config);
    Requirement {
        rfc,
        name: check.name.into(),
        level: check.level,
        what: check.what.into(),
        met,
        seen,
        fix: if met { String::new() } else { check.fix.into() },
    }
}

#[cfg(test)]
mod tests;
