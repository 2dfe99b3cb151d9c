//! `vswitch monitor`: what happens in a running switch, as it happens.

use std::ops::ControlFlow;

use crate::args::{Common, MonitorPlan};
use crate::client::Client;
use crate::client::stream::Ended;
use crate::control::api::NatRecord;
use crate::dispatch::{Outcome, message, print_on};
use crate::error::Exit;
use crate::show;

/// Prints events until there were enough, the reader of the output has gone, or the switch has
/// stopped, which is exit code 3.
///
/// # Errors
/// Those of [`Client::stream`]; the output cannot be written.
pub fn command(common: &Common, plan: &MonitorPlan) -> Outcome {
    let client = Client::new(common);
    let mut left = plan.count;
    let ended = client.stream("/monitor/nat", |line| {
        let record: NatRecord = client.read(line.as_bytes())?;
        let text = match &record {
            NatRecord::Event(_) if common.json => line.to_owned(),
            NatRecord::Lost(_) if common.json => line.to_owned(),
            NatRecord::Event(event) => show::monitor::line(event),
            NatRecord::Lost(lost) => {
                tell_lost(common, lost.lost);
                return Ok(ControlFlow::Continue(()));
            }
        };
        if print_on(common.colour, &format!("{text}\n"))?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        if let (Some(left), NatRecord::Event(_)) = (&mut left, &record) {
            *left -= 1;
        }
        Ok(if left == Some(0) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        })
    })?;
    match ended {
        Ended::Enough => Ok(Exit::Done),
        Ended::Over => Err(client.stopped()),
    }
}

fn tell_lost(common: &Common, lost: u64) {
    let plural = if lost == 1 { "" } else { "s" };
    message(
        common,
        &format!("{lost} event{plural} lost: they came faster than they were read"),
    );
}
