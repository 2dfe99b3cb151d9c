//! Configuration: flags and a file become one [`Settings`].
//!
//! A [`Layer`] is what one source says, and nothing else: each value is set or not. Flags give one
//! layer, the TOML file another, in the same words and read by the same functions ([`words`]).
//! [`Layer::over`] puts the flags over the file; [`Layer::settle`] checks what only shows when all
//! is known (two ports of one device, a NAT range without an uplink) and fills in the defaults.
//! [`diff()`] tells what changed between two settings, and what of it needs a restart.

pub mod check;
pub mod diff;
pub mod file;
pub mod layer;
pub mod nat;
pub mod publish;
pub mod settings;
pub mod words;

use std::path::PathBuf;

pub use diff::{Applies, Change, Key, diff};
pub use layer::Layer;
pub use nat::NatLog;
pub use publish::{PublishSpec, PublishedAt};
pub use settings::{Cidr, NatFilter, NatProfile, PortRange, PortSpec, PortWord, Settings};

use crate::error::{CliError, Exit};

/// Where the settings come from, so that they can be read again on SIGHUP.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// What the flags and the environment say.
    pub flags: Layer,
    /// The configuration file, if one is named.
    pub file: Option<PathBuf>,
}

impl Source {
    /// Reads the file, if there is one, puts the flags over it and checks the whole.
    ///
    /// # Errors
    /// A file that cannot be read or is wrong (with the line underlined); settings that contradict
    /// each other.
    pub fn load(&self) -> Result<Settings, CliError> {
        self.load_with(|_| {})
    }

    /// As [`load`](Self::load), where `complete` adds what neither flags nor file say.
    ///
    /// # Errors
    /// See [`load`](Self::load).
    pub fn load_with(&self, complete: impl FnOnce(&mut Layer)) -> Result<Settings, CliError> {
        let mut layer = self.flags.clone();
        match &self.file {
            None => {
                complete(&mut layer);
                layer.settle()
            }
            Some(path) => {
                layer = layer.over(file::read(path)?);
                complete(&mut layer);
                layer.settle().map_err(|mut error| {
                    error.excerpt =
                        Some(format!("  in {}, with the flags over it", path.display()));
                    error.exit = Exit::Failed;
                    error
                })
            }
        }
    }
}
