//! Screens: the tables and the status as text for people.
//!
//! A screen is made from the API types alone and is the same for the same input, so that tests
//! can compare it letter for letter. It is always styled; whoever prints it strips the style where
//! it does not belong (a pipe, `NO_COLOR`).

pub mod conform;
pub mod conntrack;
pub mod explain;
pub mod fdb;
pub mod kernel;
pub mod latency;
pub mod moment;
pub mod monitor;
pub mod nat;
pub mod neigh;
pub mod news;
pub mod port;
pub mod replay;
pub mod status;
pub mod table;
pub mod trace;
pub mod units;
pub mod why;
pub mod worker;

mod drops;

pub use drops::drops;

use crate::args::View;

impl View {
    /// Whether a header belongs above the table.
    #[must_use]
    pub const fn header(self) -> bool {
        !self.brief && !self.oneline
    }
}
