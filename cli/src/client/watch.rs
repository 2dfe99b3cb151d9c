//! A stream that an interrupt ends in order: what the switch has recorded by then still comes.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::{SigSet, Signal, raise};

use super::stream::{Body, Ended};
use super::{Client, query};
use crate::args::Common;
use crate::control::select::Pair;
use crate::error::CliError;

/// How a watch was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The reader had enough.
    Enough,
    /// SIGINT or SIGTERM came, and after it the rest.
    Interrupted,
    /// The switch has stopped.
    Stopped,
}

/// Gets a stream of lines as [`Client::stream`] does, until an interrupt; a second one acts as if
/// nobody had cared for the first.
///
/// # Errors
/// Those of [`Client::stream`]; the kernel refuses a thread.
pub fn watch(
    common: &Common,
    path: &str,
    pairs: &[Pair],
    each: impl FnMut(&str) -> Result<ControlFlow<()>, CliError>,
) -> Result<Over, CliError> {
    let interrupts = take_interrupts(common)?;
    let client = Client::new(common);
    let ended = client.watch_lines(&query(path, pairs), |it| interrupts.arm(it), each)?;
    Ok(interrupts.over(ended))
}

/// Gets a stream of bytes and has `work` read it, to its end or until it has enough.
///
/// # Errors
/// Those of [`Client::stream`], and of `work`; the kernel refuses a thread.
pub fn watch_bytes<T>(
    common: &Common,
    path: &str,
    pairs: &[Pair],
    work: impl FnOnce(&mut Body<'_>) -> Result<T, CliError>,
) -> Result<(T, Over), CliError> {
    let interrupts = take_interrupts(common)?;
    let client = Client::new(common);
    let (done, ended) = client.body(&query(path, pairs), |it| interrupts.arm(it), work)?;
    Ok((done, interrupts.over(ended)))
}

fn take_interrupts(common: &Common) -> Result<Interrupts, CliError> {
    Interrupts::take(common).map_err(|error| {
        CliError::failed("a thread for interrupts", error.to_string(), "ulimit -u")
    })
}

/// Waits for an interrupt, in a thread of its own.
struct Interrupts {
    /// Of the watch; 0 as long as there is none.
    number: Arc<AtomicU64>,
    came: Arc<AtomicBool>,
}

impl Interrupts {
    fn arm(&self, number: Option<u64>) {
        self.number.store(number.unwrap_or(0), Ordering::Relaxed);
    }

    fn over(&self, ended: Ended) -> Over {
        match ended {
            Ended::Enough => Over::Enough,
            Ended::Over if self.came.load(Ordering::Relaxed) => Over::Interrupted,
            Ended::Over => Over::Stopped,
        }
    }

    /// Blocks the signals for this thread and those it starts from now on, for good.
    fn take(common: &Common) -> io::Result<Self> {
        let number = Arc::new(AtomicU64::new(0));
        let came = Arc::new(AtomicBool::new(false));
        let interrupts = Self {
            number: Arc::clone(&number),
            came: Arc::clone(&came),
        };
        let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
        signals.thread_block()?;
        let common = common.clone();
        std::thread::Builder::new()
            .name("interrupts".into())
            .spawn(move || {
                let Ok(signal) = signals.wait() else {
                    return;
                };
                // From now on they act here, where they are not blocked.
                let _ = signals.thread_unblock();
                match number.load(Ordering::Relaxed) {
                    0 => {
                        let _ = raise(signal);
                    }
                    number => {
                        came.store(true, Ordering::Relaxed);
                        // A switch that does not answer any more ends the stream by itself.
                        let path = format!("/watch/{number}");
                        let _ = Client::new(&common).request("DELETE", &path, None);
                    }
                }
            })?;
        Ok(interrupts)
    }
}
