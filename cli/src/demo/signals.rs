//! SIGINT, SIGTERM and SIGHUP, asked for between and during the steps.
//!
//! The signals are blocked and read from a descriptor, so that one that comes at any moment waits
//! until it is noticed, and the network is taken down in order whatever was going on.
#![expect(
    clippy::disallowed_methods,
    reason = "the demo is an edge: it times its steps by its own clock"
)]

use std::io;
use std::os::fd::AsFd;
use std::sync::mpsc::{TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// How long at most a finished step waits to be noticed.
const ROUND: Duration = Duration::from_millis(10);

/// The signals that end a demo.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// Takes the signals that end a demo as long as it lives; then they act as before.
#[derive(Debug)]
pub(crate) struct Signals {
    reader: SignalFd,
    blocked_before: SigSet,
    arrived: Option<Signal>,
}

impl Signals {
    /// Blocks the signals for this thread and those it starts from now on.
    pub(crate) fn take() -> io::Result<Self> {
        let ending: SigSet = ENDING.into_iter().collect();
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let reader = SignalFd::with_flags(&ending, flags)?;
        let blocked_before = SigSet::thread_get_mask()?;
        ending.thread_block()?;
        Ok(Self {
            reader,
            blocked_before,
            arrived: None,
        })
    }

    /// Waits `time` unless a signal comes, or came before; that signal.
    pub(crate) fn wait(&mut self, time: Duration) -> io::Result<Option<Signal>> {
        if self.arrived.is_some() {
            return Ok(self.arrived);
        }
        let limit = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.reader.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(err) => return Err(err.into()),
        }
        if let Some(info) = self.reader.read_signal()? {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            self.arrived = Signal::try_from(number).ok();
        }
        Ok(self.arrived)
    }

    /// Runs `work` on a thread of its own and returns its value, or, as soon as one comes, the
    /// signal; the work then goes on unheeded until the process ends.
    pub(super) fn unless_ended<T: Send + 'static>(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Result<T, Signal>> {
        let (sender, receiver) = channel();
        let thread = thread::Builder::new()
            .name("demo-step".to_owned())
            .spawn(move || {
                // Nobody listens any more when a signal came first.
                let _ = sender.send(work());
            })?;
        loop {
            match receiver.try_recv() {
                Ok(value) => return Ok(Ok(value)),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => {
                    return match thread.join() {
                        Err(panic) => std::panic::resume_unwind(panic),
                        Ok(()) => Err(io::Error::other("the step ended without a result")),
                    };
                }
            }
            if let Some(signal) = self.wait(ROUND)? {
                return Ok(Err(signal));
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // One more Ctrl-C of an impatient hand must not kill us at the very end.
        while let Ok(Some(_)) = self.reader.read_signal() {}
        let _ = self.blocked_before.thread_set_mask();
    }
}

/// Measures how long something took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stopwatch(Instant);

impl Stopwatch {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }

    /// Lets a little time pass between two looks at something.
    pub(super) fn pause(self) {
        thread::sleep(ROUND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_waited_for_and_its_panic_goes_on() {
        let mut signals = Signals::take().unwrap();
        assert_eq!(signals.unless_ended(|| 7).unwrap(), Ok(7));
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            signals.unless_ended(|| panic!("a step"))
        }));
        assert!(panicked.is_err());
        assert_eq!(signals.wait(Duration::ZERO).unwrap(), None);
    }

    #[test]
    fn a_signal_ends_the_waiting_at_once_and_stays() {
        let mut signals = Signals::take().unwrap();
        // To this thread only: others of the test program do not block it.
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        let watch = Stopwatch::start();
        let ended = signals.unless_ended(|| thread::sleep(Duration::from_secs(60)));
        assert_eq!(ended.unwrap(), Err(Signal::SIGTERM));
        assert!(watch.elapsed() < Duration::from_secs(10));
        let again = signals.wait(Duration::from_secs(60)).unwrap();
        assert_eq!(again, Some(Signal::SIGTERM));
    }
}
