//! Whoever is told of sessions at the very moment, and not by way of events.

use crate::engine::Nat;
use crate::session::{Session, SessionView};

/// Functions that are told of sessions; they are called for every one, so they must not wait.
#[derive(Clone, Copy, Debug)]
pub struct Observer {
    /// Returns whether it wants to be told now: asked first each time.
    pub is_wanted: fn() -> bool,
    /// A session has begun.
    pub begins: fn(&SessionView),
    /// A session is over.
    pub ends: fn(&SessionView),
}

impl Nat {
    /// Tells an observer of sessions from now on. What is only tried out is not told.
    pub fn observe(&mut self, observer: &'static Observer) {
        self.observer = Some(observer);
    }

    #[inline]
    pub(crate) fn tell_begin(&self, session: &Session) {
        if let Some(observer) = self.observer.filter(|observer| (observer.is_wanted)()) {
            (observer.begins)(&session.view());
        }
    }

    #[inline]
    pub(crate) fn tell_end(&self, session: &Session) {
        if let Some(observer) = self.observer.filter(|observer| (observer.is_wanted)()) {
            (observer.ends)(&session.view());
        }
    }
}
