//! Blocks read, one at a time.

use std::io::{self, Read};

use super::blocks::{
    BYTE_ORDER_MAGIC, CB, ENTERPRISE, EPB, FRAME_BYTES, IDB, IF_DESCRIPTION, IF_NAME, IF_TSOFFSET,
    IF_TSRESOL, ISB, ISB_IFDROP, OPT_COMMENT, PB, SHB, SHB_USERAPPL, SPB, TSRESOL_DEFAULT,
};
use super::classic::{self, Classic};
use super::options::{Fields, Options, Order, fixed};
use super::packet::{Packet, Place, Told};
use super::{BLOCK_BYTES_MAX, Fault, INTERFACES_MAX, LinkType, ReadError};

/// Bytes of a name or description that are kept.
const TEXT_BYTES_MAX: usize = 1024;

/// What an interface's statistics have in front of their options: its number and a time.
pub(super) const ISB_FIXED_BYTES: usize = 12;

const NANOSECONDS: u128 = 1_000_000_000;

/// An interface of a capture.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// The device's name; empty where the capture has none, as in a classic file.
    pub name: String,
    /// What a person calls it; may be empty.
    pub description: String,
    /// Bytes captured of a packet at most; 0 is no limit.
    pub snaplen: u32,
    resolution: u8,
    /// Added to every time, in seconds.
    offset: i64,
    /// What its statistics say was lost.
    lost: u64,
}

impl Interface {
    /// What such a number says, in nanoseconds since 1970.
    pub(super) fn nanoseconds(&self, units: u64) -> Result<u64, Fault> {
        let units = u128::from(units);
        let exponent = u32::from(self.resolution & 0x7f);
        let since = if self.resolution & 0x80 != 0 {
            (units * NANOSECONDS) >> exponent
        } else if exponent <= 9 {
            units * 10_u128.pow(9 - exponent)
        } else {
            // A power too large for the type divides any number of units to nothing.
            units / 10_u128.checked_pow(exponent - 9).unwrap_or(u128::MAX)
        };
        let since = i128::try_from(since).map_err(|_| Fault::Time)?;
        let shift = i128::from(self.offset) * 1_000_000_000;
        u64::try_from(since + shift).map_err(|_| Fault::Time)
    }

    /// That of a classic file.
    pub(super) fn classic(snaplen: u32) -> Self {
        Self {
            snaplen,
            ..Self::default()
        }
    }
}

/// What heads a section.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Section {
    /// The program that wrote it; empty where it does not say.
    pub application: String,
    /// Comments on the section.
    pub comments: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
enum Format {
    Blocks(Order),
    Classic(Classic),
}

/// Reads a capture from any source of bytes, packet by packet.
///
/// It reads in small pieces; a file is better given in a [`std::io::BufReader`].
#[derive(Debug)]
pub struct Reader<R> {
    input: R,
    format: Format,
    /// Where the block being read begins.
    offset: u64,
    /// Where the next one begins.
    next: u64,
    /// The block's bytes: for pcapng without type and lengths, for a classic file the packet.
    pub(super) block: Vec<u8>,
    interfaces: Vec<Interface>,
    /// Interfaces of the sections before this one.
    before: usize,
    section: Section,
    /// The end was reached, or a fault.
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the head of a capture.
    ///
    /// # Errors
    /// What begins `input` is no capture, or not one whose link type is known.
    pub fn new(input: R) -> Result<Self, ReadError> {
        let mut reader = Self {
            input,
            format: Format::Blocks(Order::Little),
            offset: 0,
            next: 0,
            block: Vec::new(),
            interfaces: Vec::new(),
            before: 0,
            section: Section::default(),
            ended: false,
        };
        match reader.head() {
            Ok(()) => Ok(reader),
            Err(fault) => Err(ReadError { offset: 0, fault }),
        }
    }

    /// The interfaces read so far, of all sections. A packet's is always among them.
    #[must_use]
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// The section last begun.
    #[must_use]
    pub const fn section(&self) -> &Section {
        &self.section
    }

    /// Packets that the statistics read so far say were lost, of all interfaces (`isb_ifdrop`).
    ///
    /// They mostly stand behind the last packet, so all of them are known at the end.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let lost = self.interfaces.iter().map(|interface| interface.lost);
        lost.fold(0, u64::saturating_add)
    }

    /// Where the block last read begins, in bytes from the start.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads on to the next packet; `None` at the end, and after an error.
    ///
    /// # Errors
    /// The first fault, with the offset of its block.
    pub fn next_packet(&mut self) -> Result<Option<Packet<'_>>, ReadError> {
        let found = loop {
            match self.advance()? {
                Some(Block::Packet(found)) => break Some(found),
                Some(Block::Note) => {}
                None => break None,
            }
        };
        Ok(found.map(|found| self.lend(found)))
    }

    /// Reads on to the next packet or [note](super::Writer::note); `None` at the end, and after an
    /// error.
    ///
    /// # Errors
    /// The first fault, with the offset of its block.
    pub fn next_item(&mut self) -> Result<Option<Item<'_>>, ReadError> {
        Ok(match self.advance()? {
            Some(Block::Packet(found)) => Some(Item::Packet(self.lend(found))),
            Some(Block::Note) => Some(Item::Note(self.block.get(4..).unwrap_or_default())),
            None => None,
        })
    }

    fn advance(&mut self) -> Result<Option<Block>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        let found = match self.format {
            Format::Blocks(_) => self.next_block(),
            Format::Classic(classic) => {
                let record = self.next_record(classic);
                record.map(|found| found.map(Block::Packet))
            }
        };
        self.ended = !matches!(found, Ok(Some(_)));
        found.map_err(|fault| ReadError {
            offset: self.offset,
            fault,
        })
    }

    fn lend(&self, found: Found) -> Packet<'_> {
        let order = match self.format {
            Format::Blocks(order) => order,
            Format::Classic(classic) => classic.order,
        };
        let Found { place, told, .. } = found;
        let interface = self.interfaces.get(found.interface);
        Packet {
            interface: found.interface,
            interface_name: interface.map_or("", |interface| &interface.name),
            time: found.time,
            original_bytes: place.original_bytes,
            bytes: &self.block[place.bytes],
            direction: told.direction,
            packet_id: told.packet_id,
            dropped: told.dropped,
            queue: told.queue,
            options: Options::new(order, &self.block[place.options]),
        }
    }

    /// Reads the first bytes, which tell the format, and the head that it has.
    fn head(&mut self) -> Result<(), Fault> {
        match self.fill(4)? {
            4 => {}
            0 => return Err(Fault::Empty),
            found => return Err(Fault::Truncated { wanted: 4, found }),
        }
        let mut magic = [0; 4];
        magic.copy_from_slice(&self.block);
        if u32::from_le_bytes(magic) == SHB {
            self.need(4)?;
            return self.section_header();
        }
        let Some(classic) = Classic::of(magic) else {
            return Err(Fault::Foreign(magic));
        };
        self.need(classic::HEAD_BYTES)?;
        self.interfaces.push(classic.interface(&self.block)?);
        self.format = Format::Classic(classic);
        Ok(())
    }

    /// Reads blocks up to the next packet or note.
    fn next_block(&mut self) -> Result<Option<Block>, Fault> {
        loop {
            self.offset = self.next;
            match self.fill(8)? {
                8 => {}
                0 => return Ok(None),
                found => return Err(Fault::Truncated { wanted: 8, found }),
            }
            let Format::Blocks(order) = self.format else {
                return Ok(None);
            };
            let mut fields = Fields::new(order, &self.block);
            let (kind, length) = (fields.u32(), fields.u32());
            if kind == SHB {
                self.section_header()?;
                continue;
            }
            self.body(kind, length, order)?;
            let place = match kind {
                IDB => {
                    self.interface(order)?;
                    continue;
                }
                EPB => Place::of_enhanced(order, &self.block)?,
                PB => Place::of_obsolete(order, &self.block)?,
                SPB => {
                    let first = self.interfaces.get(self.before);
                    let snaplen = first.map_or(0, |interface| interface.snaplen);
                    Place::of_simple(order, &self.block, snaplen)?
                }
                ISB => {
                    self.statistics(order);
                    continue;
                }
                CB if Fields::new(order, &self.block).u32() == ENTERPRISE => {
                    return Ok(Some(Block::Note));
                }
                _ => continue,
            };
            return Ok(Some(Block::Packet(self.found(place, order)?)));
        }
    }

    /// Makes sense of a packet's interface, time and options.
    fn found(&self, place: Place, order: Order) -> Result<Found, Fault> {
        let own = &self.interfaces[self.before..];
        let number = usize::try_from(place.interface).ok();
        let known = number.and_then(|number| Some((number, own.get(number)?)));
        let Some((number, interface)) = known else {
            return Err(Fault::NoSuchInterface {
                interface: place.interface,
                known: own.len(),
            });
        };
        let time = place.units.map(|units| interface.nanoseconds(units));
        let options = Options::new(order, &self.block[place.options.clone()]);
        Ok(Found {
            interface: self.before + number,
            time: time.transpose()?,
            told: Told::by(order, options)?,
            place,
        })
    }

    fn next_record(&mut self, classic: Classic) -> Result<Option<Found>, Fault> {
        self.offset = self.next;
        match self.fill(classic::RECORD_BYTES)? {
            classic::RECORD_BYTES => {}
            0 => return Ok(None),
            found => {
                let wanted = classic::RECORD_BYTES;
                return Err(Fault::Truncated { wanted, found });
            }
        }
        let record = classic.record(&self.block);
        if record.captured > BLOCK_BYTES_MAX {
            return Err(Fault::TooLong(record.captured));
        }
        self.block.clear();
        self.need(u64::from(record.captured))?;
        let end = self.block.len();
        Ok(Some(Found {
            interface: 0,
            time: Some(record.time),
            place: Place {
                interface: 0,
                units: None,
                original_bytes: record.original_bytes,
                bytes: 0..end,
                options: end..end,
            },
            told: Told::default(),
        }))
    }

    /// Begins a section, whose type and length are in `block`.
    fn section_header(&mut self) -> Result<(), Fault> {
        self.need(4)?;
        let mut magic = [0; 4];
        magic.copy_from_slice(&self.block[8..]);
        let order = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (BYTE_ORDER_MAGIC, _) => Order::Little,
            (_, BYTE_ORDER_MAGIC) => Order::Big,
            (_, other) => return Err(Fault::ByteOrder(other)),
        };
        let mut fields = Fields::new(order, &self.block);
        let (kind, length) = (fields.u32(), fields.u32());
        // The magic is read already, and is part of what `body` reads.
        self.body(kind, length, order)?;
        let mut fields = Fields::new(order, &self.block);
        let _magic = fields.u32();
        let (major, minor) = (fields.u16(), fields.u16());
        if major != 1 {
            return Err(Fault::Version { major, minor });
        }
        self.section = Section::default();
        for option in Options::new(order, self.block.get(16..).unwrap_or(&[])) {
            let (code, value) = option?;
            match code {
                SHB_USERAPPL => self.section.application = text(value),
                OPT_COMMENT => {
                    let comment = String::from_utf8_lossy(value).into_owned();
                    self.section.comments.push(comment);
                }
                _ => {}
            }
        }
        self.format = Format::Blocks(order);
        self.before = self.interfaces.len();
        Ok(())
    }

    /// Takes in the description of an interface, which is in `block`.
    fn interface(&mut self, order: Order) -> Result<(), Fault> {
        let mut fields = Fields::new(order, &self.block);
        let link = LinkType(fields.u16());
        let _reserved = fields.u16();
        if link != LinkType::ETHERNET {
            return Err(Fault::LinkType(link));
        }
        if self.interfaces.len() == INTERFACES_MAX {
            return Err(Fault::TooManyInterfaces);
        }
        let mut interface = Interface {
            snaplen: fields.u32(),
            resolution: TSRESOL_DEFAULT,
            ..Interface::default()
        };
        for option in Options::new(order, self.block.get(8..).unwrap_or(&[])) {
            let (code, value) = option?;
            match code {
                IF_NAME => interface.name = text(value),
                IF_DESCRIPTION => interface.description = text(value),
                IF_TSRESOL => [interface.resolution] = fixed(code, value)?,
                IF_TSOFFSET => {
                    let seconds = order.u64(fixed(code, value)?);
                    interface.offset = seconds.cast_signed();
                }
                _ => {}
            }
        }
        self.interfaces.push(interface);
        Ok(())
    }

    /// Takes in what an interface has counted since the capture began, which is in `block`. What
    /// makes no sense there tells nothing: the packets are as good without it.
    fn statistics(&mut self, order: Order) {
        let Some((head, options)) = self.block.split_at_checked(ISB_FIXED_BYTES) else {
            return;
        };
        let number = usize::try_from(Fields::new(order, head).u32()).ok();
        let mut options = Options::new(order, options).filter_map(Result::ok);
        let lost = options.find_map(|(code, value)| {
            let value = (code == ISB_IFDROP).then(|| fixed(code, value).ok())?;
            value.map(|value| order.u64(value))
        });
        let own = self.interfaces.get_mut(self.before..).unwrap_or_default();
        let interface = number.and_then(|number| own.get_mut(number));
        if let Some((interface, lost)) = interface.zip(lost) {
            interface.lost = lost;
        }
    }

    /// Reads what a block has behind type and length, without the length at its end. What of it
    /// `block` has already, behind the eight bytes of type and length, stays.
    fn body(&mut self, kind: u32, length: u32, order: Order) -> Result<(), Fault> {
        let least = FRAME_BYTES + fixed_bytes(kind);
        if !length.is_multiple_of(4) {
            return Err(Fault::UnevenLength(length));
        }
        if length < least {
            return Err(Fault::ShortLength {
                kind,
                length,
                least,
            });
        }
        if length > BLOCK_BYTES_MAX {
            return Err(Fault::TooLong(length));
        }
        let have = u64::try_from(self.block.len()).unwrap_or(u64::MAX);
        self.need(u64::from(length).saturating_sub(have))?;
        let mut end = [0; 4];
        let tail = self.block.len().saturating_sub(end.len());
        end.copy_from_slice(&self.block[tail..]);
        self.block.truncate(tail);
        self.block.drain(..8);
        let behind = order.u32(end);
        if behind == length {
            Ok(())
        } else {
            let front = length;
            Err(Fault::TrailingLength { front, behind })
        }
    }

    /// Reads up to `wanted` bytes to the beginning of `block`; fewer only at the end of the input.
    fn fill(&mut self, wanted: u64) -> io::Result<u64> {
        self.block.clear();
        self.append(wanted)
    }

    /// Memory is taken as bytes come, and not as a length promises them.
    fn append(&mut self, wanted: u64) -> io::Result<u64> {
        let mut input = self.input.by_ref().take(wanted);
        let found = input.read_to_end(&mut self.block)?;
        let found = u64::try_from(found).unwrap_or(u64::MAX);
        self.next += found;
        Ok(found)
    }

    /// Appends all of `wanted` bytes to `block`.
    fn need(&mut self, wanted: u64) -> Result<(), Fault> {
        let before = self.next - self.offset;
        let found = self.append(wanted)?;
        if found == wanted {
            Ok(())
        } else {
            Err(Fault::Truncated {
                wanted: before + wanted,
                found: before + found,
            })
        }
    }
}

/// What a capture has, one after the other.
#[derive(Debug)]
pub enum Item<'r> {
    /// A packet.
    Packet(Packet<'r>),
    /// What looks like a note of this program's, with the blanks at its end.
    Note(&'r [u8]),
}

/// What is in `block`.
#[derive(Debug)]
enum Block {
    Packet(Found),
    /// Behind the enterprise's number.
    Note,
}

/// A packet that is in `block`.
#[derive(Debug)]
struct Found {
    /// Counted over all sections.
    interface: usize,
    time: Option<u64>,
    place: Place,
    told: Told,
}

/// Bytes that a block has at least between its length and its options.
const fn fixed_bytes(kind: u32) -> u32 {
    match kind {
        SHB => 16,
        IDB => 8,
        EPB | PB => 20,
        SPB | CB => 4,
        _ => 0,
    }
}

/// A text of bounded length. What is not UTF-8 is replaced.
fn text(value: &[u8]) -> String {
    let kept = &value[..value.len().min(TEXT_BYTES_MAX)];
    String::from_utf8_lossy(kept).into_owned()
}
