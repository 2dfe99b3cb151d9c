//! Records in a file: the lines of the stream as they came.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use crate::control::api::{TraceSchema, TracedRecord};
use crate::error::CliError;

/// The longest line taken in: a record of all steps and bytes is of some 20 KiB.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A file being read.
pub(super) struct Reading {
    path: PathBuf,
    from: BufReader<File>,
    line: u64,
}

impl Reading {
    pub(super) fn begin(path: &Path) -> Result<Self, CliError> {
        let file = File::open(path)
            .map_err(|error| failed(path, &error.to_string(), "vswitch trace -w FILE"))?;
        Ok(Self {
            path: path.to_owned(),
            from: BufReader::new(file),
            line: 0,
        })
    }

    /// The next line and what it says; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or this is no record of our version.
    pub(super) fn next(&mut self) -> Result<Option<(String, TracedRecord)>, CliError> {
        let mut bytes = Vec::new();
        let mut limited = (&mut self.from).take(LINE_BYTES_MAX);
        let count = limited
            .read_until(b'\n', &mut bytes)
            .map_err(|error| failed(&self.path, &error.to_string(), ""))?;
        if count == 0 {
            return Ok(None);
        }
        self.line += 1;
        let what = format!("{}:{}", self.path.display(), self.line);
        let bad = |why: String| CliError::failed(&what, why, "a file of `vswitch trace -w FILE`");
        let text = String::from_utf8(bytes).map_err(|_| bad("no text".into()))?;
        let line = text.trim_end_matches('\n');
        let record = serde_json::from_str(line).map_err(|error| bad(why(line, &error)))?;
        Ok(Some((line.to_owned(), record)))
    }
}

/// Why a line is no record: of another version, where it says so.
fn why(line: &str, error: &serde_json::Error) -> String {
    let value: Result<serde_json::Value, _> = serde_json::from_str(line);
    let schema = value
        .ok()
        .and_then(|value| Some(value.get("schema")?.as_str()?.to_owned()));
    match schema {
        Some(schema) if schema != TraceSchema::WORD => {
            format!("schema {schema} instead of {}", TraceSchema::WORD)
        }
        Some(_) => "a record that lacks something".into(),
        None => format!("no record of a trace: {error}"),
    }
}

fn failed(path: &Path, why: &str, fix: &str) -> CliError {
    CliError::failed(path.display().to_string(), why, fix)
}
