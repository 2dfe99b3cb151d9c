//! `vswitch drops --why`: what the reasons mean, and the packets they applied to.

use switch::verdict::{DropReason, Stage};

use super::table::{STRONG, Table};
use super::units;
use crate::control::api::{Drop, KeptPacket};

/// Each reason with its meaning and fix, and what is kept of it; a blank line between two.
#[must_use]
pub fn reasons(drops: &[Drop]) -> String {
    let blocks: Vec<String> = drops.iter().map(block).collect();
    blocks.join("\n")
}

fn block(drop: &Drop) -> String {
    let mut out = format!("{STRONG}{}{STRONG:#}\n  {}\n", drop.reason, drop.meaning);
    out.push_str(
        match DropReason::from_word(&drop.reason).map(DropReason::stage) {
            Some(Stage::Ingress) => "  The frame was dropped as a whole.\n",
            Some(Stage::Egress) => "  One copy was dropped on its way out of a port.\n",
            None => "",
        },
    );
    if !drop.fix.is_empty() {
        out.push_str(&format!("  fix: {}\n", drop.fix));
    }
    let Some(kept) = &drop.kept else { return out };
    let rate = drop.rate.map_or_else(|| "-".into(), units::rate);
    out.push_str(&format!(
        "  {} dropped, {rate} a second\n",
        units::count(drop.count)
    ));
    for (title, kept) in [("first", &kept.first), ("last", &kept.last)] {
        if !kept.is_empty() {
            out.push_str(&format!("  {title}:\n{}", packets(kept)));
        }
    }
    out
}

/// A line for each packet.
fn packets(kept: &[KeptPacket]) -> String {
    let mut table = Table::new(&["TIME", "PORT", "PACKET"]);
    for packet in kept {
        table.row([
            format!("    {}", packet.time).into(),
            ports(packet).into(),
            packet_words(packet).into(),
        ]);
    }
    table.render(false)
}

/// Where it came in, and where it was to go out if it got so far.
pub(super) fn ports(packet: &KeptPacket) -> String {
    let port = packet.port.as_deref().unwrap_or("-");
    match &packet.egress {
        Some(egress) => format!("{port} -> {egress}"),
        None => port.to_owned(),
    }
}

/// Who sent what to whom, and how much of it.
pub(super) fn packet_words(packet: &KeptPacket) -> String {
    format!("{} len {}", packet.summary, packet.length)
}
