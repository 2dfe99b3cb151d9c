//! The classic format: a head of 24 bytes, then packets, each behind 16 bytes of its own
//! (draft-ietf-opsawg-pcap).

use super::options::{Fields, Order};
use super::read::Interface;
use super::{Fault, LinkType};

/// Bytes of the file's head behind the magic number.
pub(super) const HEAD_BYTES: u64 = 20;
/// Bytes in front of every packet.
pub(super) const RECORD_BYTES: u64 = 16;

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// What the magic number says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Classic {
    pub(super) order: Order,
    /// Nanoseconds of a fraction's unit.
    unit: u64,
}

/// What stands in front of a packet.
pub(super) struct Record {
    /// Nanoseconds since 1970.
    pub(super) time: u64,
    pub(super) captured: u32,
    pub(super) original_bytes: u32,
}

impl Classic {
    pub(super) const fn of(magic: [u8; 4]) -> Option<Self> {
        let (order, unit) = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (MICROSECONDS, _) => (Order::Little, 1_000),
            (NANOSECONDS, _) => (Order::Little, 1),
            (_, MICROSECONDS) => (Order::Big, 1_000),
            (_, NANOSECONDS) => (Order::Big, 1),
            _ => return None,
        };
        Some(Self { order, unit })
    }

    /// Reads the head, magic number included.
    pub(super) fn interface(self, head: &[u8]) -> Result<Interface, Fault> {
        let mut fields = Fields::new(self.order, head);
        let _magic = fields.u32();
        let (major, minor) = (fields.u16(), fields.u16());
        if major != 2 {
            return Err(Fault::Version { major, minor });
        }
        // The zone and the accuracy of times are 0 in all files that there are.
        let _zone = fields.u32();
        let _accuracy = fields.u32();
        let snaplen = fields.u32();
        // The upper half is about checksums behind the frames, which are read as they are.
        let [l0, l1, ..] = fields.u32().to_le_bytes();
        let link = LinkType(u16::from_le_bytes([l0, l1]));
        if link == LinkType::ETHERNET {
            Ok(Interface::classic(snaplen))
        } else {
            Err(Fault::LinkType(link))
        }
    }

    /// Reads what stands in front of a packet.
    pub(super) fn record(self, bytes: &[u8]) -> Record {
        let mut fields = Fields::new(self.order, bytes);
        // 2^32 seconds are a quarter of what the sum can hold.
        let seconds = u64::from(fields.u32()) * 1_000_000_000;
        Record {
            time: seconds + u64::from(fields.u32()) * self.unit,
            captured: fields.u32(),
            original_bytes: fields.u32(),
        }
    }
}
