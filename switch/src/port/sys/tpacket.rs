//! The layout of a TPACKET_V2 slot (include/uapi/linux/if_packet.h).
//!
//! ```text
//!  0   struct tpacket2_hdr: status, len, snaplen, mac, net, sec, nsec, vlan_tci, vlan_tpid
//!  32  struct sockaddr_ll                                   (not read: the port is known)
//!  52  free: PACKET_RESERVE bytes and what alignment adds
//!      struct virtio_net_hdr, 10 bytes, ends at `mac`
//! mac  the frame
//! ```

use super::cursor::STATUS_BYTES;
use std::mem::{offset_of, size_of};

use nat::Nanos;

pub(in crate::port) const STATUS_USER: u32 = libc::TP_STATUS_USER;
pub(in crate::port) const STATUS_COPY: u32 = libc::TP_STATUS_COPY;
const STATUS_VLAN_VALID: u32 = libc::TP_STATUS_VLAN_VALID;
const STATUS_VLAN_TPID_VALID: u32 = libc::TP_STATUS_VLAN_TPID_VALID;

/// The EtherType of a customer VLAN tag, which the kernel means where it names none.
const TPID_CUSTOMER: u16 = 0x8100;

/// Bytes of `struct tpacket2_hdr`.
const HEADER_BYTES: usize = size_of::<libc::tpacket2_hdr>();

const _: () = {
    assert!(HEADER_BYTES == 32);
    assert!(offset_of!(libc::tpacket2_hdr, tp_status) == 0);
    assert!(offset_of!(libc::tpacket2_hdr, tp_len) == 4);
    assert!(offset_of!(libc::tpacket2_hdr, tp_snaplen) == 8);
    assert!(offset_of!(libc::tpacket2_hdr, tp_mac) == 12);
    assert!(offset_of!(libc::tpacket2_hdr, tp_sec) == 16);
    assert!(offset_of!(libc::tpacket2_hdr, tp_nsec) == 20);
    assert!(offset_of!(libc::tpacket2_hdr, tp_vlan_tci) == 24);
    assert!(offset_of!(libc::tpacket2_hdr, tp_vlan_tpid) == 26);
    assert!(size_of::<libc::tpacket_req>() == 16);
    assert!(size_of::<libc::tpacket_stats>() == 8);
    assert!(size_of::<libc::packet_mreq>() == 16);
    assert!(size_of::<libc::fanout_args>() == 8);
    assert!(size_of::<libc::sockaddr_ll>() == 20);
    assert!(libc::TP_STATUS_USER == 1 && libc::TP_STATUS_COPY == 2);
};

/// An IEEE 802.1Q tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::port) struct VlanTag {
    /// Tag protocol identifier: 0x8100 (C-tag), 0x88a8 (S-tag).
    pub(in crate::port) tpid: u16,
    /// Priority, drop eligibility and VLAN identifier.
    pub(in crate::port) tci: u16,
}

/// What the kernel says about the frame in a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::port) struct SlotHeader {
    /// Bytes of the frame.
    pub(in crate::port) len: usize,
    /// Bytes of it that are in the slot.
    pub(in crate::port) snap_len: usize,
    /// Where it starts, in bytes from the end of the status word, as
    /// [`Slot::memory`](super::cursor::Slot::memory) does.
    pub(in crate::port) start: usize,
    /// The outer tag, which the kernel took out of the frame.
    pub(in crate::port) tag: Option<VlanTag>,
}

impl SlotHeader {
    /// Reads the header from a slot's memory after the status word. `None` where that is shorter
    /// than a header or the frame would start inside it.
    #[inline]
    pub(in crate::port) fn read(status: u32, memory: &[u8]) -> Option<Self> {
        let header: &[u8; HEADER_BYTES - STATUS_BYTES] = memory.first_chunk()?;
        let half = |at: usize| {
            let at = at - STATUS_BYTES;
            u16::from_ne_bytes([header[at], header[at + 1]])
        };
        let word = |at: usize| {
            let at = at - STATUS_BYTES;
            u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        let mac = usize::from(half(offset_of!(libc::tpacket2_hdr, tp_mac)));
        if mac < HEADER_BYTES {
            return None;
        }
        let tag = (status & STATUS_VLAN_VALID != 0).then(|| VlanTag {
            tpid: if status & STATUS_VLAN_TPID_VALID == 0 {
                TPID_CUSTOMER
            } else {
                half(offset_of!(libc::tpacket2_hdr, tp_vlan_tpid))
            },
            tci: half(offset_of!(libc::tpacket2_hdr, tp_vlan_tci)),
        });
        Some(Self {
            len: word(offset_of!(libc::tpacket2_hdr, tp_len)) as usize,
            snap_len: word(offset_of!(libc::tpacket2_hdr, tp_snaplen)) as usize,
            start: mac - STATUS_BYTES,
            tag,
        })
    }
}

/// When the kernel copied the frame into the slot, or took it from its sender where somebody on the
/// host has frames stamped: since 1970, `CLOCK_REALTIME` (`tpacket_get_timestamp`,
/// net/packet/af_packet.c). From a slot's memory after the status word, as it was lent.
pub(in crate::port) fn arrival(memory: &[u8]) -> Option<Nanos> {
    let word = |at: usize| {
        let bytes = memory.get(at - STATUS_BYTES..)?.first_chunk()?;
        Some(u64::from(u32::from_ne_bytes(*bytes)))
    };
    let secs = word(offset_of!(libc::tpacket2_hdr, tp_sec))?;
    let nanos = word(offset_of!(libc::tpacket2_hdr, tp_nsec))?;
    (secs != 0).then_some(Nanos(secs * 1_000_000_000 + nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(len: u32, snap_len: u32, mac: u16, tci: u16, tpid: u16) -> Vec<u8> {
        let mut memory = Vec::new();
        memory.extend(len.to_ne_bytes());
        memory.extend(snap_len.to_ne_bytes());
        memory.extend(mac.to_ne_bytes());
        memory.extend([0; 2]);
        memory.extend(1_700_000_000_u32.to_ne_bytes());
        memory.extend(999_999_999_u32.to_ne_bytes());
        memory.extend(tci.to_ne_bytes());
        memory.extend(tpid.to_ne_bytes());
        memory.extend([0; 4]);
        memory
    }

    #[test]
    fn a_header_is_read_field_by_field() {
        let header = SlotHeader::read(STATUS_USER, &slot(70_000, 1900, 140, 7, 9)).unwrap();
        assert_eq!(
            header,
            SlotHeader {
                len: 70_000,
                snap_len: 1900,
                start: 136,
                tag: None,
            }
        );
    }

    #[test]
    fn a_slot_tells_when_its_frame_came_if_the_kernel_did() {
        let mut memory = slot(60, 60, 140, 0, 0);
        assert_eq!(arrival(&memory), Some(Nanos(1_700_000_000_999_999_999)));
        memory[12..20].fill(0);
        assert_eq!(arrival(&memory), None);
        assert_eq!(arrival(&memory[..19]), None);
    }

    #[test]
    fn a_tag_without_a_protocol_identifier_is_a_customer_tag() {
        let read = |status| {
            SlotHeader::read(status, &slot(60, 60, 140, 42, 0x88a8))
                .unwrap()
                .tag
        };
        let tag = |tpid| Some(VlanTag { tpid, tci: 42 });
        assert_eq!(read(STATUS_USER | STATUS_VLAN_VALID), tag(0x8100));
        assert_eq!(
            read(STATUS_USER | STATUS_VLAN_VALID | STATUS_VLAN_TPID_VALID),
            tag(0x88a8)
        );
    }

    #[test]
    fn a_frame_inside_the_header_or_a_short_slot_is_refused() {
        assert_eq!(SlotHeader::read(STATUS_USER, &slot(60, 60, 31, 0, 0)), None);
        assert_eq!(SlotHeader::read(STATUS_USER, &[0; 27]), None);
    }
}
