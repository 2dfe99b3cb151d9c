//! A packet's way as a block of lines.

use std::fmt::Write;

use crate::control::api::{Traced, WhatIf, WhatIfStation};

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

/// What would become of a packet: between which stations, its way, and that nothing was sent.
#[must_use]
pub fn what_if(answer: &WhatIf) -> String {
    let mut text = String::new();
    // Writing to memory does not fail.
    if let (Some(from), Some(to)) = (&answer.from, &answer.to) {
        let _ = writeln!(text, "{}  {} > {}", answer.port, station(from), station(to));
    }
    for (number, record) in (1..).zip(&answer.records) {
        text.push_str(&block(record, number));
    }
    // What the gateway would have made stands behind the packet's own way.
    if answer
        .records
        .last()
        .is_some_and(|last| last.cause.is_some())
    {
        let fix = match answer.fix.as_str() {
            "" => String::new(),
            fix => format!("  fix: {fix}"),
        };
        let _ = writeln!(text, "   {}{fix}", answer.story);
    }
    text.push_str("   (no packet was sent)\n");
    text
}

fn station(station: &WhatIfStation) -> String {
    format!("{} ({})", station.mac, station.known)
}
