//! What the kernel does with the uplink's steering program: which worker gets a frame.

use nat::owner_of;

use super::packet::{ETHERNET, ICMP, TCP, UDP, u16_at};
use super::world::{Steering, World};

impl World {
    /// The half of the uplink that the kernel would give a frame to, or one it would not.
    pub(super) fn steer(&self, bytes: &[u8]) -> usize {
        let owner = steered_port(bytes)
            .and_then(|port| self.owner_of(port))
            .unwrap_or(0);
        let worker = match self.setup.steering {
            Steering::Right => owner,
            Steering::Wrong => (owner + 1) % self.setup.workers,
        };
        usize::from(worker)
    }

    /// The worker that frames to an external port are steered to.
    fn owner_of(&self, port: u16) -> Option<u16> {
        let mut publishes = self.switch.view().publishes.iter();
        let published = publishes.find(|publish| publish.ports.contains(&port));
        published.map_or_else(
            || owner_of(&self.setup.nat_ports, self.setup.workers, port),
            |publish| Some(publish.owner),
        )
    }
}

/// What the kernel steers by: the destination port, the echo identifier, or the port quoted by an
/// ICMP error; nothing of a fragment.
fn steered_port(bytes: &[u8]) -> Option<u16> {
    if bytes.len() < 38 || u16_at(bytes, 12) != 0x0800 || u16_at(bytes, 20) & 0x3fff != 0 {
        return None;
    }
    let l4 = ETHERNET + usize::from(bytes[ETHERNET] & 15) * 4;
    match bytes[ETHERNET + 9] {
        TCP | UDP if bytes.len() >= l4 + 4 => Some(u16_at(bytes, l4 + 2)),
        ICMP if bytes.len() >= l4 + 8 && bytes[l4] == 0 => Some(u16_at(bytes, l4 + 4)),
        ICMP if bytes.len() >= l4 + 36 && matches!(bytes[l4], 3 | 11 | 12) => {
            Some(u16_at(bytes, l4 + 28))
        }
        _ => None,
    }
}
