//! What outlives the process: NAT sessions, and ports published live (`--state FILE`).
//!
//! # Theory of operation
//! A thread of its own, the *keeper*, writes the file: every two seconds if anything happened to a
//! session since, and once more when the switch stops. It asks the workers for one portion of
//! their sessions after the other, between two batches each, so none of them stalls; it writes
//! portion by portion, so the memory it takes does not grow with the table. The more there is to
//! write, the rarer: it rests twenty times as long as a save took, so that it costs a few percent
//! of a processor at most. The file is written under another name, synced and renamed, so that
//! there is a whole one at all times (`format` says how it looks inside).
//!
//! At a start the file is read before anything else is touched. The seed of port choice in it is
//! used again, so that even a session too young to be in the file gets its external port again
//! when its next packet comes. Once the members' ports are open and before the first view with the
//! external address, the sessions go back to the workers ([`nat_restore`][restore]): each to the
//! NAT worker of the port its inside host was on, by the device's name; if that port is not there
//! any more, to the slice its external port belongs to. The number of workers may have changed in
//! between.
//!
//! A file that is damaged, of another version or of another switch is named with what is wrong at
//! which byte, and the switch starts with no sessions; the next save replaces it.
//!
//! [restore]: switch::switch::Switch::nat_restore

mod file;
mod format;
mod keeper;
pub mod search;

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use nat::{Nanos, SessionRecord, owner_of};
use switch::config::UplinkView;

use crate::error::CliError;
use crate::show::moment;

use super::Daemon;

pub(super) use keeper::{Keeper, Told};

/// What a file said.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// The seed of hash keys and port choice.
    pub(super) seed: Option<u64>,
    sessions: Vec<format::Kept>,
    /// Device names that sessions refer to.
    devices: Vec<String>,
    /// Ports that were published live, each in the words of `--publish`.
    pub(super) published: Vec<String>,
    saved_at: Duration,
}

/// Checks that the file can be written, before anything is touched.
///
/// # Errors
/// It cannot.
pub(super) fn check(path: &Path) -> Result<(), CliError> {
    let begun = crate::replacement::Replacement::begin(path);
    begun.map(drop).map_err(|error| {
        let directory = path.parent().filter(|parent| *parent != Path::new(""));
        let fix = match directory {
            Some(to) if error.kind() == io::ErrorKind::NotFound => {
                format!("mkdir -p {}", to.display())
            }
            Some(_) | None => "another --state FILE".to_owned(),
        };
        CliError::failed(path.display().to_string(), error.to_string(), fix)
    })
}

/// Reads what the switch `name` kept; nothing where there is no file yet. The second value is a
/// warning for the operator.
pub(super) fn load(path: &Path, name: &str) -> (Loaded, Option<String>) {
    match file::read(path, name) {
        Ok(loaded) => (loaded.unwrap_or_default(), None),
        Err(why) => {
            let warning = format!(
                "warning: state file {}: {why}; starting without sessions",
                path.display()
            );
            (Loaded::default(), Some(warning))
        }
    }
}

impl Daemon {
    /// Brings the sessions back that were kept, now that the members' ports are there and the
    /// external address is about to be used.
    pub(super) fn restore_sessions(&mut self, externals: &[Ipv4Addr]) {
        let sessions = std::mem::take(&mut self.loaded.sessions);
        let devices = std::mem::take(&mut self.loaded.devices);
        if sessions.is_empty() {
            return;
        }
        let passed = Nanos::from(moment::now().saturating_sub(self.loaded.saved_at));
        let nat_workers: HashMap<&str, u16> = (self.ports.iter())
            .filter_map(|port| {
                let view = self.switch.view().port(port.index)?;
                Some((port.device(), view.nat_worker))
            })
            .collect();
        let ports = self.settings.nat_ports.low..=self.settings.nat_ports.high;
        let workers = self.switch.workers();
        let count = sessions.len();
        let (mut foreign, mut over) = (0, 0);
        let mut records = Vec::with_capacity(count);
        for kept in sessions {
            let mut record: SessionRecord = kept.record;
            if !externals.contains(&record.external.0) {
                foreign += 1;
            } else if record.remaining <= passed {
                over += 1;
            } else {
                record.remaining = record.remaining.saturating_sub(passed);
                record.age = record.age.saturating_add(passed);
                let device = kept.device.and_then(|place| devices.get(place));
                let worker = device.and_then(|name| nat_workers.get(name.as_str()).copied());
                let owner = || owner_of(&ports, workers, record.external.1);
                records.push((worker.or_else(owner).unwrap_or(0), record));
            }
        }
        let restored = self.switch.nat_restore(externals, records);
        let lost = count - restored - foreign - over;
        let mut text = format!("{restored} of {count} sessions restored");
        for (number, why) in [
            (over, "timed out meanwhile"),
            (foreign, "of another external address"),
            (lost, "without their port or room"),
        ] {
            if number > 0 {
                text.push_str(&format!(", {number} {why}"));
            }
        }
        self.say(&text);
    }

    /// Begins to keep sessions, if that is wanted.
    pub(super) fn start_keeper(&mut self, seed: u64) -> Result<(), CliError> {
        let Some(path) = self.settings.state.clone().filter(|_| self.settings.nat) else {
            return Ok(());
        };
        let keeper = Keeper::start(keeper::Plan {
            path,
            common: self.common.clone(),
            nat: self.switch.nat_handle(),
            clock: self.clock,
            link: self.gateway.link(),
            seed,
            nat_ports: (self.settings.nat_ports.low, self.settings.nat_ports.high),
        })?;
        self.keeper = Some(keeper);
        self.tell_keeper();
        Ok(())
    }

    /// Tells the keeper what only the owner of the switch knows.
    pub(super) fn tell_keeper(&self) {
        let Some(keeper) = &self.keeper else { return };
        let uplink = self.switch.view().uplink.as_ref();
        keeper.tell(Told {
            ports: (self.ports.iter())
                .map(|port| (port.index, port.device().to_owned()))
                .collect(),
            external: (uplink.into_iter().flat_map(UplinkView::externals)).collect(),
            published: self.published_live(),
        });
    }
}
