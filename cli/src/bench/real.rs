//! The networks and loads of this machine.

use crate::args::{BenchPlan, Common};
use crate::dispatch::Outcome;
use crate::error::CliError;

/// The command `bench`.
///
/// # Errors
/// Always: this program was built without networks and loads.
pub fn command(_common: &Common, _plan: &BenchPlan) -> Outcome {
    let why = "this program was built without the networks and loads it needs";
    Err(CliError::failed("bench", why, ""))
}
