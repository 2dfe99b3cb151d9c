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
//! A list by age per kind, linked through nodes of which there are as many as may be provisional;
//! a session's node is found by its number. Every operation takes constant time.

use crate::tcp::Tracker;

/// Kinds of provisional sessions: each has its own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Handshake,
    Other,
}

impl Kind {
    pub(crate) fn of(tracker: Option<Tracker>) -> Self {
        match tracker {
            Some(_) => Self::Handshake,
            None => Self::Other,
        }
    }
}

/// No node.
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy)]
struct Node {
    session: u32,
    older: u32,
    newer: u32,
    kind: Kind,
}

#[derive(Clone, Copy)]
struct List {
    oldest: u32,
    newest: u32,
    len: u32,
    max: u32,
}

/// The provisional sessions by age, and the count of all that outsiders opened.
pub(crate) struct Strangers {
    /// For each session its node plus one, or 0: memory comes with its use.
    node_of: Box<[u32]>,
    nodes: Vec<Node>,
    /// First of the unused nodes, linked by `newer`.
    unused: u32,
    lists: [List; 2],
    opened: u32,
    opened_max: u32,
}

impl Strangers {
    /// Takes the limits from the configuration: half as many handshakes as inside hosts may have,
    /// a quarter of the table for other provisional sessions, three quarters for all together.
    pub(crate) fn new(config: &crate::Config) -> Self {
        let list = |max| List {
            oldest: NONE,
            newest: NONE,
            len: 0,
            max,
        };
        let sessions = config.sessions_max;
        let quarter = (sessions / 4).max(1);
        let handshakes = (config.half_open_max / 2).clamp(1, sessions);
        Self {
            node_of: vec![0; crate::slab::at(sessions)].into_boxed_slice(),
            nodes: Vec::with_capacity(crate::slab::at(handshakes + quarter)),
            unused: NONE,
            lists: [list(handshakes), list(quarter)],
            opened: 0,
            opened_max: (sessions - sessions / 4).max(1),
        }
    }

    /// Returns whether one more session of outsiders is one too many.
    pub(crate) fn is_full(&self) -> bool {
        self.opened >= self.opened_max
    }

    /// Returns whether one more provisional session of this kind is one too many.
    pub(crate) fn is_full_of(&self, kind: Kind) -> bool {
        let list = &self.lists[kind as usize];
        list.len >= list.max
    }

    /// Returns the oldest provisional session of a kind.
    pub(crate) fn oldest(&self, kind: Kind) -> Option<u32> {
        let node = self
            .nodes
            .get(crate::slab::at(self.lists[kind as usize].oldest))?;
        Some(node.session)
    }

    /// Counts a session that an outsider opened, as a provisional one if it is of a kind.
    pub(crate) fn opened(&mut self, session: u32, kind: Option<Kind>) {
        self.opened += 1;
        let Some(kind) = kind else {
            return;
        };
        let list = &mut self.lists[kind as usize];
        let node = Node {
            session,
            older: list.newest,
            newer: NONE,
            kind,
        };
        let at = match self.nodes.get_mut(crate::slab::at(self.unused)) {
            Some(unused) => {
                let at = self.unused;
                self.unused = unused.newer;
                *unused = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).unwrap_or(NONE)
            }
        };
        match self.nodes.get_mut(crate::slab::at(list.newest)) {
            Some(newest) => newest.newer = at,
            None => list.oldest = at,
        }
        list.newest = at;
        list.len += 1;
        if let Some(entry) = self.node_of.get_mut(crate::slab::at(session)) {
            *entry = at + 1;
        }
    }

    /// Takes a session off the list: it is provisional no longer, or it has ended.
    pub(crate) fn settled(&mut self, session: u32) {
        let Some(entry) = self.node_of.get_mut(crate::slab::at(session)) else {
            return;
        };
        let Some(at) = std::mem::take(entry).checked_sub(1) else {
            return;
        };
        let Node {
            older, newer, kind, ..
        } = self.nodes[crate::slab::at(at)];
        let list = &mut self.lists[kind as usize];
        list.len -= 1;
        match self.nodes.get_mut(crate::slab::at(older)) {
            Some(node) => node.newer = newer,
            None => list.oldest = newer,
        }
        match self.nodes.get_mut(crate::slab::at(newer)) {
            Some(node) => node.older = older,
            None => list.newest = older,
        }
        self.nodes[crate::slab::at(at)].newer = self.unused;
        self.unused = at;
    }

    /// Counts the end of a session that an outsider opened.
    pub(crate) fn ended(&mut self, session: u32) {
        self.settled(session);
        self.opened -= 1;
    }

    #[cfg(test)]
    pub(crate) fn counts(&self) -> (u32, [u32; 2]) {
        (self.opened, self.lists.map(|list| list.len))
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
            let mut model = [VecDeque::new(), VecDeque::new()];
            let mut plain = Vec::new();
            for step in steps {
                let kind = [Kind::Handshake, Kind::Other][step as usize / 80];
                let session = step % 40;
                let known = model.iter_mut().any(|queue| {
                    let place = queue.iter().position(|&id| id == session);
                    place.and_then(|place| queue.remove(place)).is_some()
                });
                if known && step % 3 == 0 {
                    strangers.settled(session);
                    plain.push(session);
                } else if known || plain.contains(&session) {
                    strangers.ended(session);
                    plain.retain(|&id| id != session);
                } else if !strangers.is_full_of(kind) {
                    strangers.opened(session, Some(kind));
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
                prop_assert!(strangers.nodes.len() <= 15);
            }
        }
    }
}
