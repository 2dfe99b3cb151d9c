//! `vswitch replay`: a capture once more, through a switch in memory or on a wire.
//!
//! # Theory of operation
//! Offline, the pipeline that ships runs between simulated ports ([`switch::port::sim`]), one for
//! each port of the settings, and its clock is that of the capture:
//!
//! ```text
//! survey    reads the file once: is it sound, what interfaces and times does it have
//! scene     settings and surroundings -> Switch::build, a cable for each port
//! play      for each packet: ticks up to its time, then in at its port, then rounds of all
//!           workers until nothing moves any more
//! tally     what became of each, from the tracer's records
//! output    what came in and what went out, as pcapng, put in its place at the end
//! ```
//!
//! One packet is in the switch at a time, the workers take turns in their order, and all that is
//! drawn comes from a seed; so the same file and the same settings give the same result, byte for
//! byte, on any machine.
//!
//! What a switch reads from its host it cannot read here: the uplink's address, its routes and who
//! answers ARP there are [`Surroundings`]. Nobody answers but by packets of the capture.
//!
//! A [recording](crate::record) brings settings, surroundings and tables along (`again`). It is
//! done again turn by turn (`turns`) and what comes of it is compared (`compare`).
//!
//! [`live`] only sends: `tcpreplay` with the letters it has.

mod again;
mod comment;
mod compare;
mod live;
mod output;
mod play;
mod report;
mod scene;
mod survey;
mod tally;
mod turns;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use switch::config::Route;
use switch::mac::Mac;

use crate::args::Common;
use crate::config::{Cidr, Source};
use crate::dispatch::{Outcome, message, print};
use crate::error::{CliError, Exit};
use crate::show;

pub use live::{LivePlan, Pace, command as live};
pub use report::{Dropped, PortReport, Recorded, Report, Skipped, Verdicts};

/// A capture to run through a switch in memory.
#[derive(Debug)]
pub struct OfflinePlan {
    /// The capture.
    pub file: PathBuf,
    /// What the switch is to be; without ports it has those of the capture.
    pub source: Source,
    /// What it would learn from its host.
    pub surroundings: Surroundings,
    /// Seed of hash keys and port choice; `None`: as recorded.
    pub seed: Option<u64>,
    /// Where to write what went in and out.
    pub write: Option<PathBuf>,
}

/// What a switch would learn from its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Surroundings {
    /// The host's address on the uplink.
    pub address: Option<Cidr>,
    /// The uplink's MAC address.
    pub mac: Option<Mac>,
    /// Routes by way of the uplink, besides that to its own subnet.
    pub routes: Vec<Route>,
    /// Neighbours that are always known.
    pub neighbours: Vec<(Ipv4Addr, Mac)>,
    /// MTU of every port, in bytes; `None`: as recorded.
    pub mtu: Option<u32>,
}

/// Runs the capture through a switch in memory and prints what became of it.
///
/// # Errors
/// The capture is damaged, settings are missing or contradict each other, or the output cannot be
/// written; nothing is written then.
pub fn offline(common: &Common, plan: &OfflinePlan) -> Outcome {
    let (report, notes) = run(plan)?;
    for note in notes {
        message(common, &note);
    }
    let text = if common.json {
        let json = serde_json::to_string(&report);
        json.map_err(|error| CliError::failed("the output", error.to_string(), ""))? + "\n"
    } else {
        show::replay::report(&report)
    };
    print(common.colour, &text)?;
    if !report.conserved {
        let why = "not every frame is accounted for; this is a mistake in vswitch";
        return Err(CliError::failed(report.file, why, ""));
    }
    match report.recorded {
        Some(recorded) if !recorded.is_same() => Ok(Exit::No),
        Some(_) | None => Ok(Exit::Done),
    }
}

/// Does all of it but for the printing; also returns what the operator should know.
fn run(plan: &OfflinePlan) -> Result<(Report, Vec<String>), CliError> {
    let survey = survey::of(&plan.file)?;
    let settings = survey.settings(plan)?;
    let recording = survey.recording.as_ref();
    if let Some(recording) = recording
        && settings.workers != Some(recording.workers)
    {
        let why = "a recording is done again by as many workers as there were";
        let fix = format!("--workers {}", recording.workers);
        return Err(CliError::usage("--workers", why, fix));
    }
    let around = match recording {
        Some(recording) => again::surroundings(recording, &plan.surroundings)?,
        None => plan.surroundings.clone(),
    };
    let seed = plan.seed.or(recording.map(|recording| recording.seed));
    let mut scene = scene::Scene::build(&settings, &around, (seed.unwrap_or(1), recording))?;
    if let Some(recording) = recording {
        again::restore(&mut scene, recording, around.mtu)?;
        scene.prepare(&survey.later);
    }
    let ways = survey.ways(&settings, &scene.names())?;
    let mut notes = scene.notes(&settings);
    notes.extend(survey.notes(&around));
    let output = plan.write.as_deref().map(|path| {
        let names: Vec<String> = scene.names();
        output::Output::begin(path, &plan.file, &names)
    });
    let output = output.transpose()?;
    let report = play::play(&survey, &mut scene, &ways, output)?;
    Ok((report, notes))
}
