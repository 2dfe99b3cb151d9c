//! How many sessions there are of each kind.

use crate::Nat;
use crate::selection::Part;
use crate::session::Session;

/// Sessions counted by protocol and state, in no order. There are few kinds, however many sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census(Vec<Kind>);

/// Sessions of one protocol in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The protocol's name, as [`Protocol::name`](crate::Protocol::name) has it.
    pub protocol: &'static str,
    /// The state's name, as [`SessionView::state`](crate::SessionView::state) has it.
    pub state: &'static str,
    /// How many there are.
    pub sessions: u64,
}

impl Census {
    /// Adds sessions to their kind.
    pub fn add(&mut self, more: Kind) {
        let same = |kind: &&mut Kind| kind.protocol == more.protocol && kind.state == more.state;
        match self.0.iter_mut().find(same) {
            Some(kind) => kind.sessions += more.sessions,
            None => self.0.push(more),
        }
    }

    /// Returns the kinds of which there are any.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.0.iter().copied()
    }
}

impl Nat {
    /// Counts the sessions of one part of the table; returns where the next part begins, or `None`
    /// after the last.
    pub fn count_sessions(&self, part: Part, into: &mut Census) -> Option<u32> {
        let (places, next) = self.places(part);
        for session in places.filter_map(|id| self.sessions.get(id)) {
            let view = Session::view(session);
            into.add(Kind {
                protocol: view.protocol.name(),
                state: view.state,
                sessions: 1,
            });
        }
        next
    }
}
