//! An observer that counts and keeps the frames a predicate accepts.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::frames::{SeenFrame, Wire};
use crate::lab::error::{Result, While};
use crate::lab::network::Host;

/// Frames kept at most; later ones are only counted.
const KEPT: usize = 100_000;
/// Frames still read after the order to stop: a busy wire would never be empty.
const DRAINED: u32 = 100_000;
/// How soon the observer notices that it shall end.
const ROUND: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
struct Found {
    frames: Vec<SeenFrame>,
    count: u64,
    error: Option<io::Error>,
}

#[derive(Debug, Default)]
struct Shared {
    found: Mutex<Found>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Found> {
        // The observer pushes whole frames; a panic of a predicate leaves those.
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running observer of one interface; it ends when the value goes out of scope.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Starts to observe `interface` of `host`; frames from now on are seen.
    ///
    /// # Errors
    /// `ENODEV` when there is no such interface, `EPERM` without CAP_NET_RAW.
    pub fn start(
        host: &Host,
        interface: &str,
        wanted: impl Fn(&SeenFrame) -> bool + Send + 'static,
    ) -> Result<Self> {
        let wire = Wire::open(host, interface)?;
        let shared = Arc::new(Shared::default());
        let observer = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("lab-capture".to_owned())
            .spawn(move || observe(wire, &observer, wanted))
            .while_doing(|| format!("start to observe {interface}"))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// How many frames have been accepted so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.shared.lock().count
    }

    /// The accepted frames so far, at most the first 100,000.
    #[must_use]
    pub fn frames(&self) -> Vec<SeenFrame> {
        self.shared.lock().frames.clone()
    }

    /// Waits at most `timeout` until `count` frames have been accepted; tells whether they were.
    #[must_use]
    pub fn wait_for(&self, count: u64, timeout: Duration) -> bool {
        let too_few = |found: &mut Found| found.count < count && found.error.is_none();
        let found = self.shared.lock();
        let waited = self
            .shared
            .changed
            .wait_timeout_while(found, timeout, too_few);
        waited.is_ok_and(|(found, _)| found.count >= count)
    }

    /// Ends the observation and returns what was kept.
    ///
    /// # Errors
    /// When the interface went down or away meanwhile, so that frames may be missing.
    pub fn stop(mut self) -> io::Result<Vec<SeenFrame>> {
        self.end();
        let mut found = self.shared.lock();
        match found.error.take() {
            Some(err) => Err(err),
            None => Ok(std::mem::take(&mut found.frames)),
        }
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A predicate that panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}

fn observe(mut wire: Wire, shared: &Shared, wanted: impl Fn(&SeenFrame) -> bool) {
    let mut left_to_drain = DRAINED;
    loop {
        // Read before the wire: what arrived before the order to stop is still taken.
        let last_round = shared.stop.load(Ordering::Acquire);
        let round = if last_round { Duration::ZERO } else { ROUND };
        left_to_drain -= u32::from(last_round);
        if left_to_drain == 0 {
            return;
        }
        match wire.recv(round) {
            Ok(Some(frame)) if wanted(&frame) => {
                let mut found = shared.lock();
                found.count += 1;
                if found.frames.len() < KEPT {
                    found.frames.push(frame);
                }
                shared.changed.notify_all();
            }
            Ok(Some(_)) => {}
            Ok(None) if last_round => return,
            Ok(None) => {}
            Err(err) => {
                shared.lock().error = Some(err);
                shared.changed.notify_all();
                return;
            }
        }
    }
}
