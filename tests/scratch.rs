//! A directory of a test's own.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of a test's own, removed with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    #[expect(
        clippy::unwrap_used,
        reason = "a helper of a test may fail as a test does"
    )]
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vswtest-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file.
    #[expect(
        clippy::unwrap_used,
        reason = "a helper of a test may fail as a test does"
    )]
    pub(crate) fn file(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // One that stays behind in the system's place for such is no failure.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
