//! The state file on disk, read as a whole; [`crate::replacement`] writes it as a whole.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::Loaded;
use super::format::{self, Damage};

/// The most bytes read: 16,777,216 sessions, the most there can be, are 1.3 GB.
const BYTES_MAX: u64 = 2 << 30;

/// Why there is nothing to start with.
#[derive(Debug)]
pub(super) enum Unreadable {
    Io(io::Error),
    /// Of so many bytes.
    TooLong(u64),
    Damaged(Damage),
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(f),
            Self::TooLong(bytes) => write!(f, "{bytes} bytes are more than any state has"),
            Self::Damaged(damage) => damage.fmt(f),
        }
    }
}

/// Reads the file of the switch `name`; `None` where there is none.
pub(super) fn read(path: &Path, name: &str) -> Result<Option<Loaded>, Unreadable> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Unreadable::Io(error)),
    };
    let length = file.metadata().map_err(Unreadable::Io)?.len();
    if length > BYTES_MAX {
        return Err(Unreadable::TooLong(length));
    }
    let mut bytes = Vec::new();
    (&mut file)
        .take(BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(Unreadable::Io)?;
    format::read(&bytes, name)
        .map(Some)
        .map_err(Unreadable::Damaged)
}
