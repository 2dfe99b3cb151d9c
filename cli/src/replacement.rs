//! Files that are replaced as a whole, so that nobody ever finds a half of one.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A new file being written beside the old one, which it replaces in the end. One that is dropped
/// before is removed.
pub(crate) struct Replacement {
    path: PathBuf,
    beside: PathBuf,
    /// `None` once it has replaced the old one.
    to: Option<BufWriter<File>>,
}

impl Replacement {
    /// # Errors
    /// What is there is no regular file, so nothing that is to be replaced; the kernel refuses.
    pub(crate) fn begin(path: &Path) -> io::Result<Self> {
        if fs::metadata(path).is_ok_and(|about| !about.is_file()) {
            return Err(io::Error::other("it is there, and is no regular file"));
        }
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

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.as_mut().map_or(Ok(()), |to| to.write_all(bytes))
    }

    /// Gives it the name. It is on disk before it has the name, and the name is before this
    /// returns.
    pub(crate) fn finish(mut self) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_is_replaced() {
        let place = std::env::temp_dir().join(format!("vsw-replaced-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let (file, beside) = (place.join("file"), place.join("file.new"));
        for content in ["one", "another"] {
            let mut new = Replacement::begin(&file).unwrap();
            new.write(content.as_bytes()).unwrap();
            assert!(beside.exists());
            new.finish().unwrap();
            assert_eq!(fs::read_to_string(&file).unwrap(), content);
        }
        drop(Replacement::begin(&file).unwrap());
        assert!(file.exists() && !beside.exists());
        let refused = Replacement::begin(&place).map(drop).unwrap_err();
        assert_eq!(refused.to_string(), "it is there, and is no regular file");
        fs::remove_dir_all(&place).unwrap();
    }
}
