//! `latency`: what was typed.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use super::low::ViewArgs;
use super::{Action, LatencyPlan, Mutation};

/// `latency`.
#[derive(Debug, Args)]
pub struct LatencyNoun {
    #[command(flatten)]
    view: ViewArgs,
    /// Forget what was measured so far, and print nothing
    #[arg(long, conflicts_with = "hdr")]
    reset: bool,
    /// Write the distributions to a file, in HdrHistogram's interval log format
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    hdr: Option<PathBuf>,
}

impl LatencyNoun {
    pub(super) fn action(self, root: ViewArgs) -> Action {
        match self.hdr {
            _ if self.reset => Action::Change(Mutation::LatencyReset),
            Some(file) => Action::Latency(LatencyPlan::Write(file)),
            None => Action::Latency(LatencyPlan::Show(self.view.or(root))),
        }
    }
}
