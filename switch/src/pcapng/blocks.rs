//! The numbers of the format, by the names they have in draft-ietf-opsawg-pcapng.

/// Section header block.
pub(super) const SHB: u32 = 0x0a0d_0d0a;
/// Interface description block.
pub(super) const IDB: u32 = 1;
/// Packet block, obsolete.
pub(super) const PB: u32 = 2;
/// Simple packet block.
pub(super) const SPB: u32 = 3;
/// Name resolution block.
pub(super) const NRB: u32 = 4;
/// Interface statistics block.
pub(super) const ISB: u32 = 5;
/// Enhanced packet block.
pub(super) const EPB: u32 = 6;

/// Custom block, which may be copied with the rest.
pub(super) const CB: u32 = 0x0000_0bad;
/// Whose custom blocks ours are: the number that RFC 5612 has for examples, as nobody has given us
/// one. So others' blocks may have it, too, and what is in one must say what it is.
pub(super) const ENTERPRISE: u32 = 32_473;

/// Tells the byte order of a section.
pub(super) const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// Type, length, and the length again.
pub(super) const FRAME_BYTES: u32 = 12;
/// The section's length where the writer does not know it.
pub(super) const SECTION_LENGTH_UNKNOWN: u64 = u64::MAX;

pub(super) const OPT_ENDOFOPT: u16 = 0;
pub(super) const OPT_COMMENT: u16 = 1;

pub(super) const SHB_HARDWARE: u16 = 2;
pub(super) const SHB_OS: u16 = 3;
pub(super) const SHB_USERAPPL: u16 = 4;

pub(super) const IF_NAME: u16 = 2;
pub(super) const IF_DESCRIPTION: u16 = 3;
pub(super) const IF_TSRESOL: u16 = 9;
pub(super) const IF_FILTER: u16 = 11;
pub(super) const IF_TSOFFSET: u16 = 14;

/// The same code in a packet block (`pack_flags`).
pub(super) const EPB_FLAGS: u16 = 2;
pub(super) const EPB_DROPCOUNT: u16 = 4;
pub(super) const EPB_PACKETID: u16 = 5;
pub(super) const EPB_QUEUE: u16 = 6;

/// The direction's bits of `epb_flags`.
pub(super) const DIRECTION_MASK: u32 = 3;
pub(super) const DIRECTION_INBOUND: u32 = 1;
pub(super) const DIRECTION_OUTBOUND: u32 = 2;

pub(super) const ISB_STARTTIME: u16 = 2;
pub(super) const ISB_ENDTIME: u16 = 3;
pub(super) const ISB_IFRECV: u16 = 4;
pub(super) const ISB_IFDROP: u16 = 5;
pub(super) const ISB_OSDROP: u16 = 7;

pub(super) const NRB_RECORD_END: u16 = 0;
pub(super) const NRB_RECORD_IPV4: u16 = 1;
pub(super) const NRB_RECORD_IPV6: u16 = 2;

/// `if_tsresol` of what is written: 10^-9 seconds.
pub(super) const TSRESOL_NANOSECONDS: u8 = 9;
/// `if_tsresol` where an interface has none: 10^-6 seconds.
pub(super) const TSRESOL_DEFAULT: u8 = 6;
