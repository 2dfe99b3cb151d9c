//! Verdicts as comments on packets.

use switch::trace::{Record, Story, Words};

use super::tally::Kind;

/// What is said of a packet, and of the copies it was sent as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Comment {
    /// Its number in the capture; `None` for what the gateway made by itself.
    pub(super) number: Option<u64>,
    kind: Kind,
    fate: String,
    fix: String,
    /// What the NAT did.
    nat: Vec<String>,
}

impl Comment {
    pub(super) fn new(
        record: &Record,
        kind: Kind,
        number: Option<u64>,
        words: &impl Words,
    ) -> Self {
        let story = Story::of(record, words);
        let nat = story.lines.into_iter().filter(|line| line.word == "nat");
        Self {
            number,
            kind,
            fate: story.fate,
            fix: story.fix,
            nat: nat.map(|line| format!("nat {}", line.what)).collect(),
        }
    }

    /// On the packet as it came in.
    pub(super) fn inbound(&self) -> Vec<String> {
        let mut lines = vec![self.fate.clone()];
        lines.extend(self.nat.iter().cloned());
        if !self.fix.is_empty() {
            lines.push(format!("fix: {}", self.fix));
        }
        lines
    }

    /// On a copy that went out.
    pub(super) fn outbound(&self) -> Vec<String> {
        let first = match (self.kind, self.number) {
            (Kind::Made, Some(number)) => {
                format!("made by the gateway because of packet {number}")
            }
            (Kind::Made, None) => "made by the gateway".into(),
            (Kind::Fresh | Kind::Resumed, Some(number)) => {
                format!("packet {number}: {}", self.fate)
            }
            (Kind::Fresh | Kind::Resumed, None) => self.fate.clone(),
        };
        let mut lines = vec![first];
        lines.extend(self.nat.iter().cloned());
        lines
    }
}
