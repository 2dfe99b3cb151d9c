//! Sessions that outsiders opened and the inside has not yet made its own.
//!
//! # Theory of operation
//! Whoever may open a session may flood: at a published port that is everybody. So a session
//! opened from outside is *provisional* until both sides have shown that they take part: a TCP
//! handshake completed, or a packet from outside after an answer. There are limited numbers of
//! provisional sessions, one for TCP and one for the rest, and the new one that is beyond the
//! limit ends the oldest (Linux's `early_drop` takes such sessions too,
//! nf_conntrack_core.c). A legitimate handshake completes within a round trip and leaves the list;
//! to be pushed out before, the flood would have to fill the list in that time. All others that
//! outsiders opened are limited as well, so that they never fill the table.
//!
//! That keeps what is there, but not the processor free: each SYN of a flood would open a session,
//! be delivered, be answered, and end one. So handshakes that come to nothing are paced
//! ([`crate::pace`]): each takes its token when it begins and gives it back when it completes.
//! Without a token a SYN passes if it is a repeated one ([`crate::knocks`]).
//!
//! A list by age per kind, so that every operation takes constant time. Its links are those of the
//! accounts' lists of finished sessions: no session is finished while it is provisional.

use crate::Nanos;
use crate::connection::Connection;
use crate::list::{Chain, Links, List};
use crate::pace::Pace;
use crate::session::Session;

/// Kinds of provisional sessions: each has its own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Handshake,
    Other,
}

impl Kind {
    pub(crate) fn of(connection: Connection) -> Self {
        match connection {
            Connection::Tcp(_) => Self::Handshake,
            Connection::None | Connection::Sctp(_) => Self::Other,
        }
    }

    /// Returns the kind of a session if it is provisional.
    pub(crate) fn of_provisional(session: &Session) -> Option<Self> {
        session.provisional.then(|| Self::of(session.connection))
    }
}

#[derive(Clone, Copy)]
struct Queue {
    list: List,
    len: u32,
    max: u32,
}

/// The provisional sessions by age, and the count of all that outsiders opened.
#[derive(Clone)]
pub(crate) struct Strangers {
    queues: [Queue; 2],
    opened: u32,
    opened_max: u32,
    /// Handshakes that have not completed.
    failed: Pace,
    failed_per_sec: u32,
}

impl Strangers {
    /// Takes the limits from the configuration: half as many handshakes as inside hosts may have,
    /// a quarter of the table for other provisional sessions, three quarters for all together.
    pub(crate) fn new(config: &crate::Config) -> Self {
        let queue = |max| Queue {
            list: List::default(),
            len: 0,
            max,
        };
        let sessions = config.sessions_max;
        let quarter = (sessions / 4).max(1);
        let handshakes = (config.half_open_max / 2).clamp(1, sessions);
        Self {
            queues: [queue(handshakes), queue(quarter)],
            opened: 0,
            opened_max: (sessions - sessions / 4).max(1),
            failed: Pace::full(config.quota.failed_per_sec, Nanos::ZERO),
            failed_per_sec: config.quota.failed_per_sec,
        }
    }

    /// Returns whether one more handshake may begin, as far as those go that came to nothing.
    pub(crate) fn has_handshake(&mut self, now: Nanos) -> bool {
        self.failed.allows(self.failed_per_sec, now)
    }

    /// As [`Strangers::has_handshake`], and counts it if so: one that opens no new session.
    pub(crate) fn take_handshake(&mut self, now: Nanos) -> bool {
        let is_allowed = self.has_handshake(now);
        if is_allowed {
            self.failed.take();
        }
        is_allowed
    }

    /// Returns whether one more session of outsiders is one too many.
    pub(crate) fn is_full(&self) -> bool {
        self.opened >= self.opened_max
    }

    /// Returns whether one more provisional session of this kind is one too many.
    pub(crate) fn is_full_of(&self, kind: Kind) -> bool {
        let queue = &self.queues[kind as usize];
        queue.len >= queue.max
    }

    /// Returns the oldest provisional session of a kind.
    pub(crate) fn oldest(&self, kind: Kind) -> Option<u32> {
        self.queues[kind as usize].list.first()
    }

    /// Counts a session that an outsider opened, as a provisional one if it is of a kind; `links`
    /// are those of the sessions.
    pub(crate) fn opened(&mut self, links: &mut Links, session: u32, kind: Option<Kind>) {
        self.opened += 1;
        if let Some(kind) = kind {
            let queue = &mut self.queues[kind as usize];
            queue.len += 1;
            links.push(&mut queue.list, session);
        }
        if kind == Some(Kind::Handshake) {
            self.failed.take();
        }
    }

    /// Takes a provisional session of this kind off the list: both sides want it.
    pub(crate) fn settled(&mut self, links: &mut Links, session: u32, kind: Kind) {
        self.take_off(links, session, kind);
        if kind == Kind::Handshake {
            self.failed.give_back(self.failed_per_sec);
        }
    }

    fn take_off(&mut self, links: &mut Links, session: u32, kind: Kind) {
        let queue = &mut self.queues[kind as usize];
        queue.len -= 1;
        links.unlink(&mut queue.list, session);
    }

    /// Counts the end of a session that an outsider opened, of a kind if it is still provisional.
    pub(crate) fn ended(&mut self, links: &mut Links, session: u32, kind: Option<Kind>) {
        if let Some(kind) = kind {
            self.take_off(links, session, kind);
        }
        self.opened -= 1;
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u32, [u32; 2]) {
        (self.opened, self.queues.map(|queue| queue.len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    fn strangers() -> Strangers {
        let mut config = crate::Config::new([203, 0, 113, 254].into(), 40_000..=40_009);
        config.sessions_max = 40;
        config.half_open_max = 10;
        Strangers::new(&config)
    }

    proptest! {
        /// Model: two queues.
        #[test]
        fn a4_4_lists_behave_like_queues(steps in proptest::collection::vec(0u32..160, 1..300)) {
            let mut strangers = strangers();
            let mut links = Links::new(40);
            let mut model = [VecDeque::new(), VecDeque::new()];
            let mut plain = Vec::new();
            for step in steps {
                let kind = [Kind::Handshake, Kind::Other][step as usize / 80];
                let session = step % 40;
                let known = [Kind::Handshake, Kind::Other].into_iter().find(|&kind| {
                    let queue = &mut model[kind as usize];
                    let place = queue.iter().position(|&id| id == session);
                    place.and_then(|place| queue.remove(place)).is_some()
                });
                if let Some(kind) = known && step % 3 == 0 {
                    strangers.settled(&mut links, session, kind);
                    plain.push(session);
                } else if known.is_some() || plain.contains(&session) {
                    strangers.ended(&mut links, session, known);
                    plain.retain(|&id| id != session);
                } else if !strangers.is_full_of(kind) {
                    strangers.opened(&mut links, session, Some(kind));
                    model[kind as usize].push_back(session);
                }
                for kind in [Kind::Handshake, Kind::Other] {
                    let queue = &model[kind as usize];
                    prop_assert_eq!(strangers.oldest(kind), queue.front().copied());
                    let max = [5, 10][kind as usize];
                    prop_assert_eq!(strangers.is_full_of(kind), queue.len() >= max);
                }
                let all = model[0].len() + model[1].len() + plain.len();
                prop_assert_eq!(strangers.counts().0 as usize, all);
                prop_assert_eq!(strangers.is_full(), all >= 30);
            }
        }
    }
}
