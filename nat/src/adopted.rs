//! External ports that another slice keeps than arithmetic says: their sessions come from a run
//! with another number of slices.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::rewrite::Protocol;

/// Which slices have adopted which ports; shared by all engines of a switch.
#[derive(Debug)]
pub struct Adopted {
    owners: Mutex<BTreeMap<(usize, usize, u16), u16>>,
    live: AtomicU32,
}

impl Adopted {
    /// Makes a table for so many external addresses.
    #[must_use]
    pub fn new(_addresses: usize) -> Self {
        Self {
            owners: Mutex::default(),
            live: AtomicU32::new(0),
        }
    }

    /// Returns the slice that has adopted a port of the external address of this place.
    #[must_use]
    pub fn owner(&self, protocol: Protocol, address: usize, port: u16) -> Option<u16> {
        if self.live.load(Ordering::Acquire) == 0 {
            return None;
        }
        let owners = self.owners.lock().ok()?;
        owners.get(&(protocol.index(), address, port)).copied()
    }

    pub(crate) fn adopt(&self, protocol: Protocol, port: u16, slice: u16) {
        if let Ok(mut owners) = self.owners.lock() {
            owners.insert((protocol.index(), 0, port), slice);
            self.live.store(1, Ordering::Release);
        }
    }
}
