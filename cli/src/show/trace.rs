//! A packet's way as a block of lines.

use crate::control::api::Traced;

/// The `number`-th packet: a line for it, one for each decision, one for its fate.
#[must_use]
pub fn block(packet: &Traced, number: u64) -> String {
    // The date is the reader's own.
    let time = packet.time.split_once('T').map_or("", |(_, time)| time);
    let mut story = packet.to_story();
    if let Some(peer) = &packet.peer {
        story.from = format!("{} ({peer})", story.from);
    }
    story.text(number, time.trim_end_matches('Z'))
}
