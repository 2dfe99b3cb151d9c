//! What can go wrong while a network is made or used.

use std::io;

use nix::errno::Errno;

use crate::host::netlink::errno;

/// An operation of the lab that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub struct LabError {
    what: String,
    source: io::Error,
}

/// Result of the lab's operations.
pub type Result<T> = std::result::Result<T, LabError>;

impl LabError {
    /// An error while doing `what` (a phrase such as "make the namespace c1").
    #[must_use]
    pub fn new(what: impl Into<String>, source: io::Error) -> Self {
        Self {
            what: what.into(),
            source,
        }
    }

    /// What was being done.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The error of the system call.
    #[must_use]
    pub fn io(&self) -> &io::Error {
        &self.source
    }

    /// The errno behind it, where there is one.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        errno(&self.source)
    }
}

/// Adds what was being done to an [`io::Error`].
pub(crate) trait While<T> {
    /// Names the operation that failed.
    fn while_doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> While<T> for io::Result<T> {
    fn while_doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| LabError::new(what(), source))
    }
}
