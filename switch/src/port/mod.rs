//! Ports: where frames come in and go out.
//!
//! A port has one receiving half ([`Rx`]), owned by one worker, and an [`Egress`], by which any
//! worker reaches it through its own [`Tx`]. So forwarding needs no lock: nobody shares a ring.
//! Kinds are enum variants matched once per batch; there is no trait object on a frame's path.

use std::fmt;

pub mod sys;

/// The place of a port in its switch; stable while the port exists, reused after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PortIndex(pub u16);

impl PortIndex {
    /// The index for a table lookup.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for PortIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {}", self.0)
    }
}
