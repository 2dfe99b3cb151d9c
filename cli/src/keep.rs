//! A file that holds whole units only, whatever happens: lines, blocks.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::CliError;

/// Bytes kept back until they are written, so that units are not written one by one.
const KEPT_BACK: usize = 256 << 10;

/// A file being written. What cannot be written whole is taken back, so that a full disk leaves a
/// file that can be read.
#[derive(Debug)]
pub struct Keep {
    path: PathBuf,
    file: File,
    /// Bytes of whole units in the file.
    whole: u64,
    waiting: Vec<u8>,
}

impl Keep {
    /// Makes the file, or empties it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin(path: &Path) -> Result<Self, CliError> {
        let file = File::create(path).map_err(|error| {
            let fix = "-w with a path you may write";
            CliError::failed(path.display().to_string(), error.to_string(), fix)
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            whole: 0,
            waiting: Vec::with_capacity(KEPT_BACK),
        })
    }

    /// Appends a unit.
    ///
    /// # Errors
    /// The disk is full, say. The file holds what was appended before, and nothing more.
    pub fn add(&mut self, unit: &[u8]) -> Result<(), CliError> {
        if self.waiting.len() + unit.len() > KEPT_BACK {
            self.flush()?;
        }
        if unit.len() > KEPT_BACK {
            return self.write(unit);
        }
        self.waiting.extend_from_slice(unit);
        Ok(())
    }

    /// Writes what was kept back.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn flush(&mut self) -> Result<(), CliError> {
        let waiting = std::mem::take(&mut self.waiting);
        let written = self.write(&waiting);
        self.waiting = waiting;
        self.waiting.clear();
        written
    }

    /// Bytes appended so far.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.whole + self.waiting.len() as u64
    }

    /// True where nothing was appended yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CliError> {
        if bytes.is_empty() {
            return Ok(());
        }
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.whole += bytes.len() as u64;
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    fn failed(&mut self, error: &io::Error) -> CliError {
        // Where that fails as well, a reader finds one broken unit at the end.
        let taken_back = self.file.set_len(self.whole).is_ok();
        let kept = if taken_back {
            "what was written before is whole"
        } else {
            "the last of it is broken"
        };
        let why = format!("{error} after {} bytes; {kept}", self.whole);
        CliError::failed(self.path.display().to_string(), why, "make room: df -h")
    }
}

impl Drop for Keep {
    /// What was kept back is written, whatever went wrong elsewhere.
    fn drop(&mut self) {
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_kept_back_and_come_in_order() {
        let name = format!("vswtest-keep-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut keep = Keep::begin(&path).unwrap();
        assert!(keep.is_empty());
        let mut all = Vec::new();
        for (byte, length) in [(1, 10), (2, KEPT_BACK + 1), (3, KEPT_BACK), (4, 7)] {
            let unit = vec![byte; length];
            keep.add(&unit).unwrap();
            all.extend(unit);
        }
        assert_eq!(keep.len(), all.len() as u64);
        keep.flush().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), all);
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_full_disk_is_told_with_what_is_whole() {
        let mut keep = Keep::begin(Path::new("/dev/full")).unwrap();
        keep.add(b"unit").unwrap();
        let error = keep.flush().unwrap_err().to_string();
        assert!(
            error.contains("No space left") && error.contains("df -h"),
            "{error}"
        );
    }
}
