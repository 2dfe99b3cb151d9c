//! A stream that an interrupt ends in order: what the switch has recorded by then still comes.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::sys::signal::{SigSet, Signal, raise};

use super::stream::{Ended, lines};
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
    watch_chunks(common, path, pairs, lines(each))
}

/// The same with a stream of bytes.
///
/// # Errors
/// As [`watch`].
pub fn watch_chunks(
    common: &Common,
    path: &str,
    pairs: &[Pair],
    each: impl FnMut(&[u8]) -> Result<ControlFlow<()>, CliError>,
) -> Result<Over, CliError> {
    let interrupts = Interrupts::take(common).map_err(|error| {
        CliError::failed("a thread for interrupts", error.to_string(), "ulimit -u")
    })?;
    let client = Client::new(common);
    let began = |number: Option<u64>| {
        interrupts
            .number
            .store(number.unwrap_or(0), Ordering::Relaxed);
    };
    let ended = client.chunks(&query(path, pairs), began, each)?;
    Ok(match ended {
        Ended::Enough => Over::Enough,
        Ended::Over if interrupts.came.load(Ordering::Relaxed) => Over::Interrupted,
        Ended::Over => Over::Stopped,
    })
}

/// Waits for an interrupt, in a thread of its own.
struct Interrupts {
    /// Of the watch; 0 as long as there is none.
    number: Arc<AtomicU64>,
    came: Arc<AtomicBool>,
}

impl Interrupts {
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
