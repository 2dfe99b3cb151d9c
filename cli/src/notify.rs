//! Word to the service manager (`sd_notify(3)`): ready, status, alive.
//!
//! All of it does nothing where no service manager listens (`NOTIFY_SOCKET` is unset), so the
//! daemon calls it unconditionally.

use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon's way to the service manager.
///
/// The watchdog is fed only while every worker ticks: a switch with one worker that hangs is not
/// alive, however well the rest of the process does.
#[derive(Debug, Default)]
pub struct Notifier {
    ticks_seen: Vec<u64>,
    status_sent: String,
}

impl Notifier {
    /// How often to call [`watchdog`](Self::watchdog): half the service manager's limit
    /// (`WatchdogSec=`), as `sd_watchdog_enabled(3)` advises. `None`: it has set no limit.
    #[must_use]
    pub fn interval() -> Option<Duration> {
        sd_notify::watchdog_enabled().map(|limit| limit / 2)
    }

    /// All ports are up and frames flow.
    ///
    /// # Errors
    /// The service manager's socket does not take the message.
    pub fn ready(&mut self, status: &str) -> std::io::Result<()> {
        status.clone_into(&mut self.status_sent);
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])
    }

    /// One line for `systemctl status`; the same line again is not sent.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub fn status(&mut self, status: &str) -> std::io::Result<()> {
        if self.status_sent == status {
            return Ok(());
        }
        status.clone_into(&mut self.status_sent);
        sd_notify::notify(&[NotifyState::Status(status)])
    }

    /// Feeds the watchdog if each worker's tick counter in `ticks` has moved since the last call.
    /// Returns the first worker that has not, and then feeds nothing.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub fn watchdog(&mut self, ticks: &[u64]) -> std::io::Result<Option<usize>> {
        let stuck = stuck(&self.ticks_seen, ticks);
        ticks.clone_into(&mut self.ticks_seen);
        if stuck.is_none() {
            sd_notify::notify(&[NotifyState::Watchdog])?;
        }
        Ok(stuck)
    }

    /// The switch is on its way down.
    ///
    /// # Errors
    /// As [`ready`](Self::ready).
    pub fn stopping(&mut self) -> std::io::Result<()> {
        sd_notify::notify(&[NotifyState::Stopping])
    }
}

/// The first worker whose counter stands where it stood; new workers have moved.
fn stuck(before: &[u64], now: &[u64]) -> Option<usize> {
    now.iter()
        .zip(before)
        .position(|(now, before)| now == before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_stands_still_starves_the_watchdog() {
        assert_eq!(stuck(&[], &[0, 0]), None);
        assert_eq!(stuck(&[0, 0], &[1, 1]), None);
        assert_eq!(stuck(&[1, 1], &[2, 1]), Some(1));
        let mut notifier = Notifier::default();
        assert_eq!(notifier.watchdog(&[5, 5]).unwrap(), None);
        assert_eq!(notifier.watchdog(&[5, 6]).unwrap(), Some(0));
        assert_eq!(notifier.watchdog(&[6, 7]).unwrap(), None);
    }
}
