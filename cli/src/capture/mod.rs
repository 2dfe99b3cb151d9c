//! `vswitch capture`: packets as text, or as pcapng into files.
//!
//! What comes from the switch is pcapng already ([`crate::daemon`] makes it). Into a file it goes
//! block by block, as it came; for text it is read as any other capture would be.

mod choice;
mod files;
mod pipe;
mod text;

use std::io::{self, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

use switch::pcapng::{Block, Blocks, Reader};
use switch::port::defer_current_thread;

use crate::args::{CapturePlan, Common};
use crate::client::Client;
use crate::client::watch::{Over, watch_bytes};
use crate::control::api;
use crate::dispatch::{Outcome, message, print, print_on};
use crate::error::{CliError, Exit, printable};
use crate::show::moment;

use choice::Choice;
use files::Files;
use pipe::Pipe;

/// Packets and losses so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Tally {
    packets: u64,
    lost: u64,
}

/// Captures until there were enough, an interrupt comes, the reader of the output has gone, or the
/// switch has stopped, which is exit code 3.
///
/// # Errors
/// Those of [`watch_bytes`]; a file that cannot be read or written, or is no capture.
pub fn command(common: &Common, plan: &CapturePlan) -> Outcome {
    if let Some(path) = &plan.read {
        let file = std::fs::File::open(path)
            .map_err(|error| failed(path, &error.to_string(), "vswitch capture -w FILE"))?;
        let name = path.display().to_string();
        let from = (name.as_str(), BufReader::new(file));
        let tally = lines(common, plan, from, Some(&Choice::new(&plan.watch)))?;
        if tally.lost > 0 {
            let text = format!("{} packets were lost while this was captured", tally.lost);
            message(common, &text);
        }
        return Ok(Exit::Done);
    }
    // Two processors and a full stream: what is captured shall not wait for its capture.
    defer_current_thread();
    let (tally, over) = watch_bytes(common, "/capture", &plan.watch.pairs(), |body| match &plan
        .write
    {
        None => lines(common, plan, ("the stream", body), None),
        Some(path) if path.as_os_str() == "-" => {
            let pipe = Pipe::new(io::stdout().lock(), plan.unbuffered);
            pipe::fill(plan.count, body, pipe)
        }
        Some(path) => {
            let mut files = Files::begin(path, plan, moment::now)?;
            // They are written in large pieces, whether more waits or not.
            each_block(plan.count, Blocks::new(body), &mut files, |_| false)
        }
    })?;
    let Tally { packets, lost } = tally;
    message(common, &format!("{packets} packets captured, {lost} lost"));
    match over {
        Over::Enough | Over::Interrupted => Ok(Exit::Done),
        Over::Stopped => Err(Client::new(common).stopped()),
    }
}

/// The ports there are.
///
/// # Errors
/// Those of [`Client::table`].
pub fn list(common: &Common) -> Outcome {
    let client = Client::new(common);
    let ports: Vec<api::Port> = client.read(&client.table(&crate::args::Table::Ports)?)?;
    let line = |(number, port): (usize, &api::Port)| {
        let peer = port.vswitch.peer.as_ref().map(|peer| format!(" ({peer})"));
        format!("{number}.{}{}\n", port.ifname, peer.unwrap_or_default())
    };
    let text: String = (1..).zip(&ports).map(line).collect();
    print(common.colour, &text)
}

/// A line of text for each packet.
fn lines(
    common: &Common,
    plan: &CapturePlan,
    (name, from): (&str, impl Read),
    choice: Option<&Choice<'_>>,
) -> Result<Tally, CliError> {
    let bad = |error: switch::pcapng::ReadError| {
        CliError::failed(
            name,
            error.to_string(),
            "a pcap or pcapng file of Ethernet frames",
        )
    };
    let mut tally = Tally::default();
    let mut reader = Reader::new(from).map_err(bad)?;
    let line = text::Line::new(plan.ethernet);
    loop {
        let Some(mut packet) = reader.next_packet().map_err(bad)? else {
            // What interfaces have counted has also what was lost behind the last packet.
            tally.lost = tally.lost.max(reader.lost());
            return Ok(tally);
        };
        tally.lost = tally.lost.saturating_add(packet.dropped.unwrap_or(0));
        if let Some(choice) = choice {
            let silent = |why| CliError::failed(name, why, format!("vswitch capture -r {name}"));
            if !choice.wants(&packet).map_err(silent)? {
                continue;
            }
            choice.cut(&mut packet);
        }
        tally.packets += 1;
        let (time, text) = line.of(&packet);
        let text = format!("{time} {} {text}\n", printable(packet.interface_name));
        let is_enough = plan.count.is_some_and(|count| tally.packets >= count);
        if print_on(common.colour, &text)?.is_break() || is_enough {
            return Ok(tally);
        }
    }
}

/// Where blocks go.
trait Sink {
    /// Takes a block; breaks where no more is wanted.
    fn block(&mut self, block: &Block<'_>) -> Result<ControlFlow<()>, CliError>;

    /// Writes what was kept back.
    fn flush(&mut self) -> Result<ControlFlow<()>, CliError>;
}

/// Hands on the blocks, up to the packet that is enough. What the sink keeps back is written where
/// `is_dry` says that nothing more has come yet, and at the end.
fn each_block<R: Read>(
    count: Option<u64>,
    mut blocks: Blocks<R>,
    sink: &mut impl Sink,
    is_dry: impl Fn(&R) -> bool,
) -> Result<Tally, CliError> {
    let mut tally = Tally::default();
    // What interfaces have counted at the end has also what was lost behind the last packet.
    let mut lost_in_all: u64 = 0;
    let broken =
        |error: io::Error| CliError::failed("the stream", error.to_string(), "vswitch status");
    while let Some(block) = blocks.next_block().map_err(broken)? {
        if block.is_statistics() {
            lost_in_all = lost_in_all.saturating_add(block.lost());
        } else {
            tally.lost = tally.lost.saturating_add(block.lost());
        }
        if sink.block(&block)?.is_break() {
            break;
        }
        tally.packets += u64::from(block.is_packet());
        if count.is_some_and(|count| tally.packets >= count) {
            break;
        }
        if is_dry(blocks.get_ref()) && sink.flush()?.is_break() {
            break;
        }
    }
    // It makes no difference any more whether the reader has gone.
    let _ = sink.flush()?;
    tally.lost = tally.lost.max(lost_in_all);
    Ok(tally)
}

fn failed(path: &Path, why: &str, fix: &str) -> CliError {
    CliError::failed(path.display().to_string(), why, fix)
}
