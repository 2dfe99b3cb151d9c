//! Waiting for many descriptors of which few have news: `epoll(7)`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::poll::{Readiness, clear_socket_error};
use crate::port::PortIndex;

/// Ports told of at a time. More are told of the next time; the kernel takes turns.
const REPORTS_MAX: u8 = 64;

/// A set of ports' descriptors, watched by level. It is one descriptor itself, readable while one
/// of them is.
#[derive(Debug)]
pub struct Sentry {
    epoll: OwnedFd,
    reports: Vec<libc::epoll_event>,
}

impl Sentry {
    /// A sentry that watches nothing yet.
    ///
    /// # Errors
    /// The process or the machine has too many open files.
    pub fn new() -> io::Result<Self> {
        // SAFETY: takes one integer and touches no memory of ours.
        let fd = super::check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the descriptor was just made and nobody else knows it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self {
            epoll,
            reports: Vec::with_capacity(REPORTS_MAX.into()),
        })
    }

    /// The descriptor to wait for.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Watches the descriptor of `port`; what it has already is told too.
    ///
    /// # Errors
    /// `EEXIST` where it is watched; `ENOSPC` beyond `fs.epoll.max_user_watches`.
    pub fn add(&self, fd: BorrowedFd<'_>, port: PortIndex) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN.cast_unsigned(),
            u64: port.0.into(),
        };
        let (epoll, fd) = (self.epoll.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: `event` is a live value of this frame, which the kernel copies.
        super::check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
        Ok(())
    }

    /// Watches a descriptor no more.
    pub fn remove(&self, fd: BorrowedFd<'_>) {
        let (epoll, fd) = (self.epoll.as_raw_fd(), fd.as_raw_fd());
        // SAFETY: a null event is what EPOLL_CTL_DEL ignores. It can only fail with ENOENT, for a
        // descriptor that is not watched, which is what was wanted.
        let _ = unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// Asks which ports have news, without waiting, and returns how many reports there are.
    pub fn ask(&mut self) -> usize {
        self.reports.clear();
        let (epoll, room) = (self.epoll.as_raw_fd(), self.reports.as_mut_ptr());
        // SAFETY: the vector has room for REPORTS_MAX events, which was reserved in `new`.
        let count = unsafe { libc::epoll_wait(epoll, room, REPORTS_MAX.into(), 0) };
        // EINTR cannot be where nothing is waited for; no news then, and the next time comes.
        let count = usize::try_from(count).unwrap_or(0).min(REPORTS_MAX.into());
        // SAFETY: the kernel has written so many events.
        unsafe { self.reports.set_len(count) };
        count
    }

    /// The port of a report of the last [`ask`](Self::ask), and how it is.
    #[must_use]
    pub fn report(&self, report: usize) -> Option<(PortIndex, Readiness)> {
        let event = self.reports.get(report)?;
        let failed = (libc::EPOLLERR | libc::EPOLLHUP).cast_unsigned();
        let readiness = if event.events & failed == 0 {
            Readiness::Readable
        } else {
            Readiness::Failed
        };
        // `add` put a port there.
        let port = u16::try_from(event.u64).ok()?;
        Some((PortIndex(port), readiness))
    }

    /// Clears the error that a socket told of. False where it is no socket and will tell it for
    /// ever: a TAP whose device is gone.
    #[must_use]
    pub fn clear_error(fd: BorrowedFd<'_>) -> bool {
        clear_socket_error(fd.as_raw_fd()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::{Waiter, Wake};
    use std::time::Duration;

    #[test]
    fn it_tells_who_has_news_while_there_are_any() {
        let (quiet, rung) = (Wake::new().unwrap(), Wake::new().unwrap());
        rung.signal();
        let mut sentry = Sentry::new().unwrap();
        sentry.add(quiet.fd(), PortIndex(7)).unwrap();
        assert_eq!(sentry.ask(), 0);
        // What came before it was watched counts, and is told until it is taken.
        sentry.add(rung.fd(), PortIndex(4095)).unwrap();
        assert!(sentry.add(rung.fd(), PortIndex(4095)).is_err(), "twice");
        let mut waiter = Waiter::new();
        waiter.watch(sentry.fd());
        for _ in 0..2 {
            assert_eq!(waiter.wait(Some(Duration::ZERO)), 1);
            assert_eq!(sentry.ask(), 1);
            let news = Some((PortIndex(4095), Readiness::Readable));
            assert_eq!(sentry.report(0), news);
            assert_eq!(sentry.report(1), None);
        }
        rung.drain();
        assert_eq!(
            waiter.wait(Some(Duration::ZERO)),
            0,
            "no idle wake after it"
        );
        assert_eq!(sentry.ask(), 0);
        quiet.signal();
        sentry.remove(quiet.fd());
        assert_eq!(sentry.ask(), 0);
    }

    #[test]
    fn more_news_than_one_answer_holds_come_with_the_next() {
        let bells: Vec<Wake> = (0..100).map(|_| Wake::new().unwrap()).collect();
        let mut sentry = Sentry::new().unwrap();
        for (port, bell) in (0..).zip(&bells) {
            bell.signal();
            sentry.add(bell.fd(), PortIndex(port)).unwrap();
        }
        let mut told = std::collections::BTreeSet::new();
        for _ in 0..2 {
            for report in 0..sentry.ask() {
                told.extend(sentry.report(report).map(|(port, _)| port));
            }
        }
        assert_eq!(told.len(), bells.len());
    }
}
