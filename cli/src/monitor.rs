//! `vswitch monitor`: what happens in a running switch, as it happens.

use std::ops::ControlFlow;
use std::sync::mpsc::{Sender, channel};

use crate::args::{Common, MonitorPlan};
use crate::client::Client;
use crate::client::stream::Ended;
use crate::control::api::{EventKind, EventRecord, NatRecord};
use crate::dispatch::{Outcome, message, print_on};
use crate::error::{CliError, Exit};
use crate::show;

/// A stream of the control socket.
#[derive(Debug, Clone)]
enum Source {
    /// The switch's events of some kinds.
    Switch(Vec<EventKind>),
    /// The NAT's. `true`: among others, so that each line says so.
    Nat(bool),
}

/// One record of a stream, in the form that is wanted.
enum Line {
    Event(String),
    Lost { text: Option<String>, lost: u64 },
}

/// Prints events until there were enough, the reader of the output has gone, or the switch has
/// stopped, which is exit code 3.
///
/// # Errors
/// Those of [`Client::stream`]; the output cannot be written.
pub fn command(common: &Common, plan: &MonitorPlan) -> Outcome {
    let mut sources = Vec::new();
    if !plan.kinds.is_empty() {
        sources.push(Source::Switch(plan.kinds.clone()));
    }
    if plan.nat {
        sources.push(Source::Nat(!plan.kinds.is_empty()));
    }
    let mut left = plan.count;
    let ended = match sources.as_slice() {
        [source] => source.follow(common, |line| print_line(common, line, &mut left))?,
        _ => follow_all(common, &sources, |line| print_line(common, line, &mut left))?,
    };
    match ended {
        Ended::Enough => Ok(Exit::Done),
        Ended::Over => Err(Client::new(common).stopped()),
    }
}

impl Source {
    fn path(&self) -> String {
        match self {
            Self::Switch(kinds) => {
                let kinds: Vec<String> = kinds.iter().map(|kind| format!("kind={kind}")).collect();
                format!("/monitor/events?{}", kinds.join("&"))
            }
            Self::Nat(_) => "/monitor/nat".into(),
        }
    }

    fn follow(
        &self,
        common: &Common,
        mut each: impl FnMut(Line) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<Ended, CliError> {
        let client = Client::new(common);
        client.stream(&self.path(), |line| {
            each(self.line(&client, common.json, line)?)
        })
    }

    fn line(&self, client: &Client<'_>, json: bool, line: &str) -> Result<Line, CliError> {
        let as_it_is = || line.to_owned();
        let lost = |lost| Line::Lost {
            text: json.then(as_it_is),
            lost,
        };
        Ok(match self {
            Self::Switch(_) => match client.read(line.as_bytes())? {
                EventRecord::Event(_) if json => Line::Event(as_it_is()),
                EventRecord::Event(event) => Line::Event(show::news::line(&event)),
                EventRecord::Lost(gap) => lost(gap.lost),
            },
            Self::Nat(among_others) => match client.read(line.as_bytes())? {
                NatRecord::Event(_) if json => Line::Event(as_it_is()),
                NatRecord::Event(event) if *among_others => {
                    let words = show::monitor::line(&event);
                    Line::Event(show::news::with_kind(&event.time, "nat", &words))
                }
                NatRecord::Event(event) => Line::Event(show::monitor::line(&event)),
                NatRecord::Lost(gap) => lost(gap.lost),
            },
        })
    }
}

/// Follows several streams at once, each in a thread that ends with the program at the latest: one
/// that is silent cannot be told to.
fn follow_all(
    common: &Common,
    sources: &[Source],
    mut each: impl FnMut(Line) -> Result<ControlFlow<()>, CliError>,
) -> Result<Ended, CliError> {
    let (to, lines) = channel();
    for source in sources {
        let (source, common, to) = (source.clone(), common.clone(), to.clone());
        let spawned = std::thread::Builder::new().spawn(move || send_all(&source, &common, &to));
        spawned.map_err(|error| {
            CliError::failed(
                "starting a thread",
                error.to_string(),
                "ulimit -u unlimited",
            )
        })?;
    }
    drop(to);
    for line in lines {
        if each(line?)?.is_break() {
            return Ok(Ended::Enough);
        }
    }
    Ok(Ended::Over)
}

fn send_all(source: &Source, common: &Common, to: &Sender<Result<Line, CliError>>) {
    let followed = source.follow(common, |line| {
        Ok(match to.send(Ok(line)) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        })
    });
    if let Err(error) = followed {
        // Where nobody takes it, the program is ending for another reason.
        let _ = to.send(Err(error));
    }
}

/// Prints a line; breaks after the last that is wanted.
fn print_line(
    common: &Common,
    line: Line,
    left: &mut Option<u64>,
) -> Result<ControlFlow<()>, CliError> {
    let (text, is_event) = match line {
        Line::Event(text) => (text, true),
        Line::Lost {
            text: Some(text), ..
        } => (text, false),
        Line::Lost { text: None, lost } => {
            tell_lost(common, lost);
            return Ok(ControlFlow::Continue(()));
        }
    };
    if print_on(common.colour, &format!("{text}\n"))?.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    if let (Some(left), true) = (&mut *left, is_event) {
        *left -= 1;
    }
    Ok(if *left == Some(0) {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    })
}

fn tell_lost(common: &Common, lost: u64) {
    let plural = if lost == 1 { "" } else { "s" };
    message(
        common,
        &format!("{lost} event{plural} lost: they came faster than they were read"),
    );
}
