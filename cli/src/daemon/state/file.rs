//! The state file on disk: read as a whole, replaced as a whole.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

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

/// A new state file being written beside the old one, which it replaces in the end. One that is
/// dropped before is removed.
pub(super) struct Replacement {
    path: PathBuf,
    beside: PathBuf,
    /// `None` once it has replaced the old one.
    to: Option<BufWriter<File>>,
}

impl Replacement {
    pub(super) fn begin(path: &Path) -> io::Result<Self> {
        let mut beside = OsString::from(path);
        beside.push(".new");
        let beside = PathBuf::from(beside);
        // Left by a process that was killed; removed rather than truncated, lest somebody made it
        // a link to something else.
        match fs::remove_file(&beside) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside)?;
        Ok(Self {
            path: path.to_owned(),
            beside,
            to: Some(BufWriter::with_capacity(256 << 10, file)),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.as_mut().map_or(Ok(()), |to| to.write_all(bytes))
    }

    /// Makes it the state file. It is on disk before it has the name, and the name is before this
    /// returns.
    pub(super) fn finish(mut self) -> io::Result<()> {
        if let Some(to) = &mut self.to {
            to.flush()?;
            to.get_ref().sync_all()?;
            fs::rename(&self.beside, &self.path)?;
        }
        self.to = None;
        let parent = self.path.parent().filter(|p| *p != Path::new(""));
        File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if self.to.take().is_some() {
            // If even this fails, the next save tries again.
            let _ = fs::remove_file(&self.beside);
        }
    }
}
