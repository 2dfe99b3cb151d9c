//! What the kernel does with the uplink's steering program: which worker gets a frame.

use super::world::{Steering, World};

impl World {
    /// The half of the uplink that the kernel would give a frame to, or one it would not.
    pub(super) fn steer(&self, bytes: &[u8]) -> usize {
        let owner = self.switch.steered(bytes);
        let worker = match self.setup.steering {
            Steering::Right => owner,
            Steering::Wrong => (owner + 1) % self.setup.workers,
        };
        usize::from(worker)
    }
}
