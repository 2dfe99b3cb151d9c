//! The command `bench`, but for the networks and the loads: those come as a [`Bench`].

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::document::{Document, Machine};
use super::progress::{Mode, Progress};
use super::run::{Bench, measure};
use super::summary::{About, document};
use super::table;
use crate::args::{BenchPlan, Common};
use crate::dispatch::{Outcome, print};
use crate::error::{CliError, Exit};

/// Runs what was asked for over `bench`, tells how far it is on stderr, prints what was found and
/// writes the files. `began` is when it begins, seconds since 1970; `clock` the time since then.
///
/// # Errors
/// A file cannot be written (known before anything is measured); after everything was printed: a
/// forwarder failed in some test, or the run was interrupted.
pub fn conduct<B: Bench>(
    common: &Common,
    plan: &BenchPlan,
    bench: &mut B,
    began: u64,
    clock: &dyn Fn() -> Duration,
) -> Outcome {
    let output = plan.output.as_deref().map(Target::open).transpose()?;
    let markdown = plan.markdown.as_deref().map(Target::open).transpose()?;
    let mut stderr = io::stderr();
    let mode = if common.quiet {
        Mode::Quiet
    } else if stderr.is_terminal() {
        Mode::Bar
    } else {
        Mode::Lines
    };
    let mut progress = Progress::new(&mut stderr, mode, clock);
    let measured = measure(bench, &plan.wanted, &mut progress);
    let about = About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: machine(),
        began,
        run_args: plan.run_args.clone(),
    };
    let found = document(&plan.wanted, &measured, about);
    let json = json(&found)?;
    if let Some(target) = output {
        target.write(&json)?;
    }
    if let Some(target) = markdown {
        target.write(&table::markdown(&found))?;
    }
    let text = if common.json {
        json
    } else {
        table::text(&found)
    };
    print(common.colour, &text)?;
    verdict(&found)
}

/// The document as one line of JSON.
///
/// # Errors
/// None that this program knows of: all keys are texts.
pub fn json(document: &Document) -> Result<String, CliError> {
    let text = serde_json::to_string(document)
        .map_err(|error| CliError::failed("the output", error.to_string(), ""))?;
    Ok(text + "\n")
}

/// Whether all went well.
fn verdict(found: &Document) -> Outcome {
    if found.end.interrupted {
        let why = "interrupted; what was measured until then is above";
        return Err(CliError::failed("bench", why, ""));
    }
    match &found.end.failures[..] {
        [] => Ok(Exit::Done),
        [one] => Err(CliError::failed("bench", table::failure(one), "")),
        [first, rest @ ..] => {
            let more = rest.len();
            let why = format!("{}; and {more} more", table::failure(first));
            Err(CliError::failed("bench", why, ""))
        }
    }
}

/// A file that is opened before the run, so that no hour of measuring ends in a refusal, and is
/// emptied and written after it.
struct Target<'p> {
    path: &'p Path,
    file: File,
}

impl<'p> Target<'p> {
    fn open(path: &'p Path) -> Result<Self, CliError> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path);
        match file {
            Ok(file) => Ok(Self { path, file }),
            Err(error) => Err(unwritten(path, &error)),
        }
    }

    fn write(mut self, text: &str) -> Result<(), CliError> {
        // A device or a pipe has no length to set.
        let regular = self.file.metadata().is_ok_and(|about| about.is_file());
        let emptied = if regular {
            self.file.set_len(0)
        } else {
            Ok(())
        };
        emptied
            .and_then(|()| self.file.write_all(text.as_bytes()))
            .map_err(|error| unwritten(self.path, &error))
    }
}

/// The error for a file that cannot be written.
pub(super) fn unwritten(path: &Path, error: &io::Error) -> CliError {
    let fix = PathBuf::from("/tmp").join(path.file_name().unwrap_or_default());
    let fix = format!("write to {}", fix.display());
    CliError::failed(path.display().to_string(), error.to_string(), fix)
}

/// The machine this runs on.
fn machine() -> Machine {
    let kernel = nix::sys::utsname::uname().map_or_else(
        |_| "Linux".to_owned(),
        |name| {
            let of = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
            format!("{} {}", of(name.sysname()), of(name.release()))
        },
    );
    let cpus = std::thread::available_parallelism().map_or(1, |count| count.get());
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    Machine {
        kernel,
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        processor: processor(&info),
    }
}

/// The model of the first processor in the text of `/proc/cpuinfo`.
fn processor(info: &str) -> Option<String> {
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    let (_, model) = lines.find(|(key, _)| key.trim() == "model name")?;
    Some(model.trim().to_owned()).filter(|model| !model.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_the_first_of_cpuinfo() {
        let info = "processor\t: 0\nmodel name\t: Fast: One\nprocessor\t: 1\nmodel name\t: Two\n";
        assert_eq!(processor(info).as_deref(), Some("Fast: One"));
        assert_eq!(processor("processor : 0\n"), None);
        assert!(machine().cpus > 0 && machine().kernel.starts_with("Linux "));
    }

    #[test]
    fn a_file_is_refused_before_it_is_needed() {
        let error = Target::open(Path::new("/nowhere/run.json")).err().unwrap();
        let line = "error: /nowhere/run.json: No such file or directory (os error 2); \
                    fix: write to /tmp/run.json";
        assert_eq!(
            (error.to_string().as_str(), error.exit),
            (line, Exit::Failed)
        );
    }
}
