//! `vswitch top`: a running switch at a glance, live or for scripts.
//!
//! # Theory of operation
//!
//! ```text
//! control socket ──► Look ──► Snapshot ──► App ──► a buffer of cells ──► the terminal
//!                 (answers)  (rates of  (+ keys)  └──────────────────► text, JSON, CSV
//!                            two looks)
//! ```
//!
//! [`look`] asks; [`snapshot`] makes rates of two looks; all forms are made of that one struct:
//! [`print`](mod@print) for scripts, [`draw`](mod@draw) for the screen, whose tables are those of
//! [`tables`]. [`app`] is what the screen knows, changed by events alone, so that a test can play
//! any story without a terminal. The clock, the terminal and the threads are here and in `live` and
//! `term`.
//!
//! What is not on screen is not asked for: sessions, whose table may be long, only while a tab
//! shows them, and then only the busiest few hundred.

pub mod app;
pub mod draw;
pub mod grid;
pub mod heat;
pub mod history;
pub mod keys;
pub mod look;
pub mod print;
pub mod snapshot;
pub mod tables;
pub mod term;
pub mod theme;

mod live;
mod tracing;

use std::io::{IsTerminal, stdout};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::args::Common;
use crate::client::Client;
use crate::config::file;
use crate::dispatch::{self, Outcome, print_on};
use crate::error::{CliError, Exit};

use app::Tab;
use draw::Paint;
use look::{Look, Wants};
use snapshot::Snapshot;
use theme::Theme;

/// In what form to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// A screen that is redrawn.
    Tui,
    /// A line for each look.
    Stream,
    /// Tables of text.
    Pretty,
    /// Tables of Markdown.
    Markdown,
    /// One table for a spreadsheet.
    Csv,
    /// An object for each look.
    Json,
}

/// What `top` is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopPlan {
    /// In what form.
    pub form: Form,
    /// How long to wait between two looks.
    pub interval: Duration,
    /// After how many intervals to end; `None`: as the form has it.
    pub count: Option<u64>,
    /// The tab to begin with, or the only one to print.
    pub tab: Option<Tab>,
    /// Letters of ASCII only.
    pub ascii: bool,
    /// The file that says how; `None`: this person's own, if there is one.
    pub config: Option<PathBuf>,
}

/// The time since the start.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: the client's one clock, and its one wait"
)]
impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn now(self) -> Duration {
        self.0.elapsed()
    }

    fn wait_until(self, when: Duration) {
        std::thread::sleep(when.saturating_sub(self.now()));
    }
}

/// Shows the switch in the form asked for.
///
/// # Errors
/// No switch of that name runs, or it stops meanwhile (exit code 3); what is to be a screen is no
/// terminal; the output cannot be written; the file of keys and colours is wrong.
pub fn command(common: &Common, plan: &TopPlan) -> Outcome {
    let clock = Clock::start();
    let theme = theme(plan)?;
    if plan.form != Form::Tui {
        return printed(common, plan, clock);
    }
    if !stdout().is_terminal() {
        let why = "the output is no terminal";
        return Err(CliError::usage("top", why, "vswitch top --once"));
    }
    let paint = Paint {
        colour: dispatch::coloured(common.colour),
        ascii: plan.ascii,
        colours: theme.colours,
    };
    live::run(common, plan, (theme.keys, paint), clock)
}

/// Keys and colours. A file that was named is read whatever the form, so that its mistakes are
/// told.
fn theme(plan: &TopPlan) -> Result<Theme, CliError> {
    match &plan.config {
        Some(path) => file::read_theme(path),
        None if plan.form != Form::Tui => Ok(Theme::default()),
        None => match own_file().filter(|path| path.exists()) {
            Some(path) => file::read_theme(&path),
            None => Ok(Theme::default()),
        },
    }
}

/// Where this person's own file would be (XDG Base Directory Specification).
fn own_file() -> Option<PathBuf> {
    let folder = |name| {
        let folder = std::env::var_os(name).map(PathBuf::from);
        folder.filter(|folder| folder.is_absolute())
    };
    let config = folder("XDG_CONFIG_HOME").or_else(|| Some(folder("HOME")?.join(".config")));
    Some(config?.join(Path::new("vswitch/top.toml")))
}

/// Prints a snapshot after each interval.
fn printed(common: &Common, plan: &TopPlan, clock: Clock) -> Outcome {
    let client = Client::new(common);
    let wants = match (plan.form, plan.tab) {
        (Form::Stream, _) if !common.json => Wants::default(),
        (_, None) => Wants::ALL,
        (_, Some(tab)) => tab.wants(),
    };
    let look = || Look::take(&client, wants, &|| clock.now());
    let mut left = match plan.form {
        Form::Stream => plan.count,
        Form::Tui | Form::Pretty | Form::Markdown | Form::Csv | Form::Json => {
            Some(plan.count.unwrap_or(1))
        }
    };
    let mut before = look()?;
    let mut first = true;
    while left != Some(0) {
        clock.wait_until(before.at.saturating_add(plan.interval));
        let now = look().map_err(|error| ended(&client, error))?;
        let snapshot = Snapshot::between(Some(&before), &now);
        let text = match plan.form {
            Form::Stream if common.json => print::json(&snapshot)?,
            Form::Stream => print::line(&snapshot),
            Form::Json => print::json(&snapshot)?,
            Form::Csv => print::csv(&snapshot, plan.tab.unwrap_or(Tab::Ports), first)?,
            Form::Markdown => print::markdown(&snapshot, plan.tab),
            Form::Tui | Form::Pretty => print::pretty(&snapshot, plan.tab),
        };
        if print_on(common.colour, &text)?.is_break() {
            return Ok(Exit::Done);
        }
        (before, first) = (now, false);
        left = left.map(|left| left - 1);
    }
    Ok(Exit::Done)
}

/// A switch that answered once and is not there any more has stopped.
fn ended(client: &Client<'_>, error: CliError) -> CliError {
    match error.exit {
        Exit::NotRunning => client.stopped(),
        Exit::Done | Exit::Failed | Exit::Usage | Exit::No => error,
    }
}
