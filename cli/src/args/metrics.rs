//! `metrics …`: what was typed.

use clap::{Args, Subcommand};

use super::{Action, MetricsPlan};

/// `metrics …`.
#[derive(Debug, Args)]
pub struct MetricsNoun {
    #[command(subcommand)]
    verb: Option<MetricsVerb>,
}

#[derive(Debug, Subcommand)]
enum MetricsVerb {
    /// Print a Grafana dashboard of them; needs no running switch
    #[command(after_help = "Example: vswitch metrics dashboard > vswitch-dashboard.json")]
    Dashboard,
}

impl MetricsNoun {
    pub(super) const fn action(&self) -> Action {
        Action::Metrics(match self.verb {
            None => MetricsPlan::Scrape,
            Some(MetricsVerb::Dashboard) => MetricsPlan::Dashboard,
        })
    }
}
