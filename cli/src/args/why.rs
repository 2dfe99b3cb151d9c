//! `why …`: what was typed.

use std::net::Ipv4Addr;

use clap::Args;

use super::{Action, WhyPlan};

/// `why …`.
#[derive(Debug, Args)]
pub struct WhyNoun {
    /// The address that packets do not get to
    #[arg(long, value_name = "ADDRESS")]
    dst: Ipv4Addr,
    /// Only packets from this address
    #[arg(long, value_name = "ADDRESS")]
    src: Option<Ipv4Addr>,
}

impl WhyNoun {
    pub(super) const fn action(&self) -> Action {
        Action::Why(WhyPlan {
            dst: self.dst,
            src: self.src,
        })
    }
}
