//! `vswitch drops --why`: what the reasons mean, without a running switch.

use switch::verdict::{DropReason, Stage};

use super::table::STRONG;
use crate::control::api;

/// Each reason with its meaning and fix, a blank line between two.
#[must_use]
pub fn reasons(reasons: &[DropReason]) -> String {
    let blocks: Vec<String> = reasons.iter().map(|reason| block(*reason)).collect();
    blocks.join("\n")
}

fn block(reason: DropReason) -> String {
    let mut out = format!(
        "{STRONG}{}{STRONG:#}\n  {}\n",
        reason.word(),
        reason.meaning()
    );
    out.push_str(match reason.stage() {
        Stage::Ingress => "  The frame was dropped as a whole.\n",
        Stage::Egress => "  One copy was dropped on its way out of a port.\n",
    });
    if !reason.fix().is_empty() {
        out.push_str(&format!("  fix: {}\n", reason.fix()));
    }
    out
}

/// The same as JSON: `vswitch.drop/1` with a count of 0.
///
/// # Errors
/// None: the type has nothing that JSON cannot hold.
pub fn reasons_json(reasons: &[DropReason]) -> Result<String, serde_json::Error> {
    let drops: Vec<_> = reasons
        .iter()
        .map(|reason| api::Drop::new(*reason, None, 0, None))
        .collect();
    serde_json::to_string(&drops)
}
