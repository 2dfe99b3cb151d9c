//! `vswitch doctor` and `vswitch clean`: is this machine ready, and is anything left behind?

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::args::{CleanPlan, Common, DoctorPlan};
use crate::config::PortWord;
use crate::config::settings::NAT_PORTS_SHARED;
use crate::control::Instance;
use crate::daemon::choose_gateway as choose;
use crate::dispatch::{Outcome, message, print};
use crate::error::{CliError, Exit};
use crate::host::check::Wanted;
use crate::host::doctor::{self, Finding, Verdict};
use crate::host::journal::{self, Cleaned};
use crate::host::view::HostView;
use crate::show::table::{BAD, GOOD, NOTE};

/// Looks whether this machine, and the ports named, are ready. The answer is no if anything fails.
///
/// # Errors
/// The host's configuration cannot be read.
pub fn doctor(common: &Common, plan: &DoctorPlan) -> Outcome {
    let wanted = wanted(plan)?;
    let findings = doctor::examine(&common.run_dir, wanted.as_ref());
    let red = findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Fail);
    let text = if common.json {
        to_json(&findings)?
    } else {
        to_text(&findings)
    };
    print(common.colour, &text)?;
    Ok(if red { Exit::No } else { Exit::Done })
}

/// What a switch with those ports would ask of the host.
fn wanted(plan: &DoctorPlan) -> Result<Option<Wanted>, CliError> {
    if plan.ports.is_empty() && plan.uplink.is_none() {
        return Ok(None);
    }
    let interfaces = plan
        .ports
        .iter()
        .filter(|word| matches!(word, PortWord::Iface(_)));
    let ports: Vec<String> = interfaces.map(|word| word.device().to_owned()).collect();
    let view = HostView::read(&ports).map_err(|error| {
        CliError::failed(
            "reading the host's configuration",
            error.to_string(),
            "mount /proc",
        )
    })?;
    let nat_ports = (NAT_PORTS_SHARED.low, NAT_PORTS_SHARED.high);
    Ok(Some(Wanted {
        ports,
        uplink: plan.uplink.clone(),
        gateway: choose(None, &view.peers).0,
        uplink_address: None,
        nat_ports: plan.uplink.is_some().then_some(nat_ports),
    }))
}

#[derive(Serialize)]
struct Report<'f> {
    schema: &'static str,
    #[serde(flatten)]
    finding: &'f Finding,
}

fn to_json(findings: &[Finding]) -> Result<String, CliError> {
    let schema = "vswitch.doctor/1";
    let reports: Vec<_> = findings
        .iter()
        .map(|finding| Report { schema, finding })
        .collect();
    let text = serde_json::to_string(&reports)
        .map_err(|error| CliError::failed("the report", error.to_string(), ""))?;
    Ok(format!("{text}\n"))
}

fn to_text(findings: &[Finding]) -> String {
    let width = findings
        .iter()
        .map(|finding| finding.name.len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for finding in findings {
        let (mark, style) = match finding.verdict {
            Verdict::Ok => ("ok  ", GOOD),
            Verdict::Warn => ("warn", NOTE),
            Verdict::Fail => ("FAIL", BAD),
        };
        let (name, detail) = (&finding.name, &finding.detail);
        let _ = write!(text, "{style}{mark}{style:#}  {name:<width$}  {detail}");
        if !finding.fix.is_empty() {
            let _ = write!(text, "\n      {:<width$}  fix: {}", "", finding.fix);
        }
        text.push('\n');
    }
    text
}

/// Undoes what killed switches left behind.
///
/// # Errors
/// The directory of journals cannot be read, or something could not be undone.
pub fn clean(common: &Common, plan: &CleanPlan) -> Outcome {
    let only = match plan {
        CleanPlan::Name(name) => Some(name.as_str()),
        CleanPlan::All => None,
    };
    let cleaned = journal::clean(&common.run_dir, only)
        .map_err(|error| unreadable(&common.run_dir, &error))?;
    let swept = sweep(&common.run_dir, only)?;
    if cleaned.is_empty() && swept.is_empty() {
        message(common, "nothing left behind");
    }
    let mut failed = None;
    for one in cleaned {
        match one {
            Cleaned::Live { name, pid } => {
                message(
                    common,
                    &format!("{name} is running (pid {pid}); nothing touched"),
                );
            }
            Cleaned::Undone { name, undone } => {
                message(
                    common,
                    &format!("{name}: {} changes looked at", undone.len()),
                );
                for change in undone {
                    message(common, &format!("  {change}"));
                    if change.failed() {
                        failed = Some(name.clone());
                    }
                }
            }
            Cleaned::Error(error) => failed = Some(error.to_string()),
        }
    }
    for name in swept {
        message(common, &format!("{name}: removed its socket and lock"));
    }
    match failed {
        None => Ok(Exit::Done),
        Some(what) => Err(CliError::failed(
            what,
            "not everything could be restored",
            "sudo vswitch clean",
        )),
    }
}

/// Removes the sockets and locks of dead switches, and gives their names.
fn sweep(run_dir: &Path, only: Option<&str>) -> Result<Vec<String>, CliError> {
    let entries = match fs::read_dir(run_dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(run_dir, &error)),
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        let file = entry.map_err(|error| unreadable(run_dir, &error))?;
        let file = file.file_name();
        let Some((name, "lock" | "sock")) = file.to_str().and_then(|f| f.rsplit_once('.')) else {
            continue;
        };
        if only.is_none_or(|only| only == name) {
            names.insert(name.to_owned());
        }
    }
    let mut swept = Vec::new();
    for name in names {
        if Instance::sweep(run_dir, &name)? {
            swept.push(name);
        }
    }
    Ok(swept)
}

fn unreadable(run_dir: &Path, error: &io::Error) -> CliError {
    let path = run_dir.display().to_string();
    CliError::failed(path, error.to_string(), "sudo vswitch clean")
}
