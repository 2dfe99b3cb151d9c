//! Packets as they lie in their blocks.

use std::borrow::Cow;
use std::ops::Range;

use super::blocks::{
    DIRECTION_INBOUND, DIRECTION_MASK, DIRECTION_OUTBOUND, EPB_DROPCOUNT, EPB_FLAGS, EPB_PACKETID,
    EPB_QUEUE, OPT_COMMENT,
};
use super::options::{Fields, Options, Order, fixed};
use super::{Direction, Fault};

/// One packet of a capture. It is borrowed from the reader, until the next is read.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Its interface: an index into [`Reader::interfaces`](super::Reader::interfaces).
    pub interface: usize,
    /// The name of that interface; empty where the capture has none.
    pub interface_name: &'a str,
    /// When it was seen: nanoseconds since 1970 UTC. A simple packet block has no time.
    pub time: Option<u64>,
    /// Its length on the wire.
    pub original_bytes: u32,
    /// What was captured of it, from the destination address on.
    pub bytes: &'a [u8],
    /// Whether it came or went, where the capture says.
    pub direction: Option<Direction>,
    /// `epb_packetid`: the same for the same packet seen at another interface.
    pub packet_id: Option<u64>,
    /// `epb_dropcount`: packets of the interface that were lost since the one before.
    pub dropped: Option<u64>,
    /// `epb_queue`: the queue it came by.
    pub queue: Option<u32>,
    pub(super) options: Options<'a>,
}

impl<'a> Packet<'a> {
    /// Its comments in their order. What is not UTF-8 is replaced.
    pub fn comments(&self) -> impl Iterator<Item = Cow<'a, str>> + use<'a> {
        self.options.filter_map(|option| match option {
            Ok((OPT_COMMENT, value)) => Some(String::from_utf8_lossy(value)),
            Ok(_) | Err(_) => None,
        })
    }

    /// Whether the capture holds less of it than there was.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        u32::try_from(self.bytes.len()).is_ok_and(|captured| captured < self.original_bytes)
    }
}

/// Where the parts of a packet lie in the body of its block.
#[derive(Debug)]
pub(super) struct Place {
    /// Counted within the section.
    pub(super) interface: u32,
    /// In the interface's own units; `None` in a simple packet block.
    pub(super) units: Option<u64>,
    pub(super) original_bytes: u32,
    pub(super) bytes: Range<usize>,
    pub(super) options: Range<usize>,
}

impl Place {
    /// Of an enhanced packet block.
    pub(super) fn of_enhanced(order: Order, body: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::new(order, body);
        let interface = fields.u32();
        Self::behind(interface, fields, body.len())
    }

    /// Of an obsolete packet block.
    pub(super) fn of_obsolete(order: Order, body: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields::new(order, body);
        let interface = u32::from(fields.u16());
        let _dropped = fields.u16();
        Self::behind(interface, fields, body.len())
    }

    /// Reads what both have behind the interface: time, lengths, bytes, options.
    fn behind(interface: u32, mut fields: Fields<'_>, body: usize) -> Result<Self, Fault> {
        const FIXED: usize = 20;
        let (high, low) = (fields.u32(), fields.u32());
        let (captured, original_bytes) = (fields.u32(), fields.u32());
        let bytes = span(FIXED, captured, body)?;
        let end = bytes.end.next_multiple_of(4).min(body);
        Ok(Self {
            interface,
            units: Some(u64::from(high) << 32 | u64::from(low)),
            original_bytes,
            bytes,
            options: end..body,
        })
    }

    /// Of a simple packet block: of interface 0, cut at its `snaplen`, where 0 is no limit.
    pub(super) fn of_simple(order: Order, body: &[u8], snaplen: u32) -> Result<Self, Fault> {
        let original_bytes = Fields::new(order, body).u32();
        let limit = if snaplen == 0 { u32::MAX } else { snaplen };
        Ok(Self {
            interface: 0,
            units: None,
            original_bytes,
            bytes: span(4, original_bytes.min(limit), body.len())?,
            options: body.len()..body.len(),
        })
    }
}

/// Where `captured` bytes lie that begin at `start`, in a body of `end` bytes.
fn span(start: usize, captured: u32, end: usize) -> Result<Range<usize>, Fault> {
    let room = end.saturating_sub(start);
    match usize::try_from(captured) {
        Ok(length) if length <= room => Ok(start..start + length),
        Ok(_) | Err(_) => Err(Fault::PacketLength { captured, room }),
    }
}

/// What a packet's options say.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) direction: Option<Direction>,
    pub(super) packet_id: Option<u64>,
    pub(super) dropped: Option<u64>,
    pub(super) queue: Option<u32>,
}

impl Told {
    /// Of an enhanced packet block; an obsolete one has no options but flags.
    pub(super) fn by(order: Order, options: Options<'_>) -> Result<Self, Fault> {
        let mut told = Self::default();
        for option in options {
            let (code, value) = option?;
            match code {
                EPB_FLAGS => {
                    let flags = order.u32(fixed(code, value)?);
                    told.direction = match flags & DIRECTION_MASK {
                        DIRECTION_INBOUND => Some(Direction::Inbound),
                        DIRECTION_OUTBOUND => Some(Direction::Outbound),
                        _ => None,
                    };
                }
                EPB_DROPCOUNT => told.dropped = Some(order.u64(fixed(code, value)?)),
                EPB_PACKETID => told.packet_id = Some(order.u64(fixed(code, value)?)),
                EPB_QUEUE => told.queue = Some(order.u32(fixed(code, value)?)),
                _ => {}
            }
        }
        Ok(told)
    }
}
