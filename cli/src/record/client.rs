//! The command `record`.

use std::io::Read;
use std::path::PathBuf;

use crate::args::Common;
use crate::client::Client;
use crate::client::watch::{Over, watch_bytes};
use crate::dispatch::{Outcome, message};
use crate::error::{CliError, Exit};
use crate::replacement::Replacement;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Where a recording goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordPlan {
    /// The file; it gets its name when the recording ends.
    pub file: PathBuf,
}

/// Records until an interrupt comes, or the switch stops, which is exit code 3.
///
/// # Errors
/// Those of [`watch_bytes`]; the file cannot be written.
pub fn command(common: &Common, plan: &RecordPlan) -> Outcome {
    let path = plan.file.display().to_string();
    let unwritten =
        |error: std::io::Error| CliError::failed(&path, error.to_string(), "-w bug.pcapng");
    let mut file = Replacement::begin(&plan.file).map_err(unwritten)?;
    let (bytes, over) = watch_bytes(common, "/record", &[], |body| {
        let (mut buffer, mut bytes) = (vec![0; READ_BYTES], 0);
        loop {
            let broken = |error: std::io::Error| {
                CliError::failed("the recording", error.to_string(), "vswitch status")
            };
            let read = body.read(&mut buffer).map_err(broken)?;
            if read == 0 {
                return Ok(bytes);
            }
            file.write(&buffer[..read]).map_err(unwritten)?;
            bytes += read;
        }
    })?;
    file.finish().map_err(unwritten)?;
    message(common, &format!("{path}: {bytes} bytes recorded"));
    match over {
        Over::Enough | Over::Interrupted => Ok(Exit::Done),
        Over::Stopped => Err(Client::new(common).stopped()),
    }
}
