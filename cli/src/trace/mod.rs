//! `vswitch trace`: what happened to packets on their way through the switch.
//!
//! Records come from a running switch or from a file, as lines of JSON; whatever is made of them
//! (blocks of text, lines, a file, a table of ways) is a view of these.

mod file;
mod paths;
mod recall;
pub mod what_if;

use std::ops::ControlFlow;

use crate::args::{Common, TracePlan};
use crate::client::Client;
use crate::client::watch::{Over, watch};
use crate::control::api::{Traced, TracedRecord};
use crate::dispatch::{Outcome, message, print, print_on};
use crate::error::{CliError, Exit};
use crate::keep::Keep;
use crate::show;

use file::Reading;
use paths::Paths;

/// Prints, writes or counts records until there were enough, an interrupt comes, the reader of the
/// output has gone, or the switch has stopped, which is exit code 3.
///
/// # Errors
/// Those of [`watch`]; a file that cannot be read or written, or is of another version.
pub fn command(common: &Common, plan: &TracePlan) -> Outcome {
    let mut view = View {
        common,
        form: match &plan.write {
            Some(path) => Form::File(Keep::begin(path)?),
            None if plan.paths => Form::Paths(Paths::default()),
            None if common.json => Form::Json,
            None => Form::Text,
        },
        count: plan.count,
        seen: 0,
        lost: 0,
    };
    if let Some(path) = &plan.read {
        let mut records = Reading::begin(path)?;
        let mut recall = recall::Recall::new(&plan.watch);
        while let Some((line, record)) = records.next()? {
            if recall.wants(&record) && view.take(&line, &record)?.is_break() {
                break;
            }
        }
        view.end()?;
        return Ok(Exit::Done);
    }
    let client = Client::new(common);
    let over = watch(common, "/trace", &plan.watch.pairs(), |line| {
        let record: TracedRecord = client.read(line.as_bytes())?;
        view.take(line, &record)
    })?;
    view.end()?;
    match over {
        Over::Enough | Over::Interrupted => Ok(Exit::Done),
        Over::Stopped => Err(client.stopped()),
    }
}

enum Form {
    Text,
    Json,
    Paths(Paths),
    File(Keep),
}

struct View<'c> {
    common: &'c Common,
    form: Form,
    count: Option<u64>,
    seen: u64,
    lost: u64,
}

impl View<'_> {
    fn take(&mut self, line: &str, record: &TracedRecord) -> Result<ControlFlow<()>, CliError> {
        match record {
            TracedRecord::Lost(lost) => {
                self.lost += lost.lost;
                return self.tell_lost(line, lost.lost);
            }
            TracedRecord::Packet(packet) => {
                self.seen += 1;
                if self.show(line, packet)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(if self.count.is_some_and(|count| self.seen >= count) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    }

    fn show(&mut self, line: &str, packet: &Traced) -> Result<ControlFlow<()>, CliError> {
        match &mut self.form {
            Form::Text => {
                let text = show::trace::block(packet, self.seen);
                print_on(self.common.colour, &text)
            }
            Form::Json => print_on(self.common.colour, &format!("{line}\n")),
            Form::Paths(paths) => {
                paths.add(packet);
                Ok(ControlFlow::Continue(()))
            }
            Form::File(file) => file
                .add(format!("{line}\n").as_bytes())
                .map(ControlFlow::Continue),
        }
    }

    fn tell_lost(&mut self, line: &str, lost: u64) -> Result<ControlFlow<()>, CliError> {
        match &mut self.form {
            Form::Json => return print_on(self.common.colour, &format!("{line}\n")),
            Form::File(file) => file.add(format!("{line}\n").as_bytes())?,
            Form::Text | Form::Paths(_) => {
                let plural = if lost == 1 { "" } else { "s" };
                let why = "they came faster than they were read";
                message(self.common, &format!("{lost} packet{plural} lost: {why}"));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn end(self) -> Result<(), CliError> {
        match self.form {
            Form::Text | Form::Json => {}
            Form::Paths(paths) => {
                print(self.common.colour, &paths.text())?;
            }
            Form::File(mut file) => {
                file.flush()?;
                let path = file.path();
                let (seen, lost) = (self.seen, self.lost);
                let path = path.display();
                message(
                    self.common,
                    &format!("{seen} packets in {path}, {lost} lost"),
                );
            }
        }
        Ok(())
    }
}
