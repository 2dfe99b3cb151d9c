//! The state file, byte by byte; all numbers are little-endian.
//!
//! ```text
//! file     magic "vswstate"  version u32  section...
//! section  kind u32  length u32  payload  crc u32   (CRC32c of kind, length and payload)
//!
//! 1 header    saved-at u64 (ns since 1970)  seed u64  NAT ports u16 u16
//!             external addresses u16, 4 bytes each; switch name u16, UTF-8
//! 2 devices   count u16, each u16 and UTF-8: the ports that sessions refer to
//! 3 sessions  80 bytes each; as many such sections as portions
//! 4 published count u16, each u16 and UTF-8: ports published live, as --publish has them
//! 9 end       empty
//! ```
//!
//! The header is first, the end last, so a file cut off between two sections is found out too.
//! Devices come before the sessions that name them. A section of another kind is an error: who
//! adds one changes the version.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use nat::{Nanos, Protocol, SessionRecord, Traffic};
use switch::gso::crc32c;

use super::Loaded;

const MAGIC: &[u8; 8] = b"vswstate";
/// The version written, and the only one read.
const VERSION: u32 = 1;
/// Magic and version.
const PREFACE: usize = MAGIC.len() + 4;
/// Kind, length and checksum.
const FRAME: usize = 12;
/// A session.
const RECORD: usize = 72;
/// What stands for "no device is known" and "no TCP state".
const NO_DEVICE: u16 = u16::MAX;
const NO_TCP: u8 = u8::MAX;

const HEADER: u32 = 1;
const DEVICES: u32 = 2;
const SESSIONS: u32 = 3;
const PUBLISHED: u32 = 4;
const END: u32 = 9;

/// What the file begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    /// When it was written, since 1970.
    pub(super) saved_at: Duration,
    pub(super) seed: u64,
    pub(super) nat_ports: (u16, u16),
    pub(super) external: Vec<Ipv4Addr>,
    /// The name of the switch.
    pub(super) name: String,
}

/// A session, and the place in the list of devices of the port its inside host is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) record: SessionRecord,
    pub(super) device: Option<usize>,
}

/// What is wrong, at which byte of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Damage {
    pub(super) at: usize,
    pub(super) what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

/// Magic and version.
pub(super) fn preface() -> Vec<u8> {
    [MAGIC.as_slice(), &VERSION.to_le_bytes()].concat()
}

pub(super) fn header(header: &Header) -> Vec<u8> {
    let mut section = Section::new(HEADER);
    let nanos = u64::try_from(header.saved_at.as_nanos()).unwrap_or(u64::MAX);
    section.put(&nanos.to_le_bytes());
    section.put(&header.seed.to_le_bytes());
    section.put(&header.nat_ports.0.to_le_bytes());
    section.put(&header.nat_ports.1.to_le_bytes());
    let count = header.external.len().min(usize::from(u16::MAX));
    section.put(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
    for address in header.external.iter().take(count) {
        section.put(&address.octets());
    }
    section.text(&header.name);
    section.finish()
}

pub(super) fn devices<'t>(names: impl ExactSizeIterator<Item = &'t str>) -> Vec<u8> {
    texts(DEVICES, names)
}

pub(super) fn published<'t>(words: impl ExactSizeIterator<Item = &'t str>) -> Vec<u8> {
    texts(PUBLISHED, words)
}

pub(super) fn sessions(kept: &[Kept]) -> Vec<u8> {
    let mut section = Section::new(SESSIONS);
    for kept in kept {
        section.session(kept);
    }
    section.finish()
}

pub(super) fn end() -> Vec<u8> {
    Section::new(END).finish()
}

fn texts<'t>(kind: u32, texts: impl ExactSizeIterator<Item = &'t str>) -> Vec<u8> {
    let mut section = Section::new(kind);
    let count = texts.len().min(usize::from(u16::MAX));
    section.put(&u16::try_from(count).unwrap_or(u16::MAX).to_le_bytes());
    for text in texts.take(count) {
        section.text(text);
    }
    section.finish()
}

/// A section being written.
struct Section(Vec<u8>);

impl Section {
    fn new(kind: u32) -> Self {
        // The length is filled in at the end.
        Self([kind.to_le_bytes(), [0; 4]].concat())
    }

    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        self.put(&length.to_le_bytes());
        self.put(&text.as_bytes()[..usize::from(length)]);
    }

    fn session(&mut self, kept: &Kept) {
        let record = &kept.record;
        let flags = u8::from(record.from_inside)
            | u8::from(record.replied) << 1
            | u8::from(record.published) << 2;
        let place = kept.device.and_then(|place| u16::try_from(place).ok());
        self.put(&[
            record.protocol.number(),
            record.tcp.unwrap_or(NO_TCP),
            flags,
            0,
        ]);
        self.put(&place.unwrap_or(NO_DEVICE).to_le_bytes());
        for (address, port) in [record.inside, record.external, record.remote] {
            self.put(&address.octets());
            self.put(&port.to_le_bytes());
        }
        for number in [
            record.age.0,
            record.remaining.0,
            record.outbound.packets,
            record.outbound.bytes,
            record.inbound.packets,
            record.inbound.bytes,
        ] {
            self.put(&number.to_le_bytes());
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len() - 8).unwrap_or(u32::MAX);
        self.0[4..8].copy_from_slice(&length.to_le_bytes());
        let crc = crc32c(&self.0);
        self.put(&crc.to_le_bytes());
        self.0
    }
}

/// Reads a file of the switch `name`.
///
/// # Errors
/// The first thing that is wrong.
pub(super) fn read(bytes: &[u8], name: &str) -> Result<Loaded, Damage> {
    if !bytes.starts_with(MAGIC) {
        return Err(damage(0, "this is no state file of vswitch"));
    }
    let mut at = PREFACE;
    let version = bytes.get(MAGIC.len()..PREFACE).map(number);
    match version {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            let what = format!("version {version}, and this vswitch reads {VERSION},");
            return Err(damage(MAGIC.len(), &what));
        }
        None => return Err(damage(bytes.len(), "cut off")),
    }
    let mut loaded = Loaded::default();
    let mut has_header = false;
    loop {
        let (kind, payload) = section(bytes, at)?;
        let mut from = Reader {
            bytes: payload,
            at: at + 8,
        };
        match (kind, has_header) {
            (HEADER, false) => {
                take_header(&mut from, name, &mut loaded)?;
                has_header = true;
            }
            (DEVICES, true) => loaded.devices = from.texts()?,
            (PUBLISHED, true) => loaded.published = from.texts()?,
            (SESSIONS, true) => from.sessions(&mut loaded.sessions)?,
            (END, true) => {}
            _ => return Err(damage(at, &format!("a section of kind {kind}"))),
        }
        from.finish()?;
        at += FRAME + payload.len();
        if kind == END {
            break;
        }
    }
    if at < bytes.len() {
        return Err(damage(at, "more than a whole file"));
    }
    Ok(loaded)
}

fn take_header(from: &mut Reader<'_>, name: &str, loaded: &mut Loaded) -> Result<(), Damage> {
    loaded.saved_at = Duration::from_nanos(from.number(8)?);
    loaded.seed = Some(from.number(8)?);
    let _ports = from.number(4)?;
    for _ in 0..from.count()? {
        from.take(4)?;
    }
    let at = from.at;
    let written = from.text()?;
    if written != name {
        return Err(damage(at, &format!("it is of vswitch {written}, found")));
    }
    Ok(())
}

/// Kind and payload of the section at a place, whole and with the right checksum.
fn section(bytes: &[u8], at: usize) -> Result<(u32, &[u8]), Damage> {
    let cut = || damage(bytes.len(), "cut off");
    let head = bytes.get(at..at + 8).ok_or_else(cut)?;
    let (kind, length) = head.split_at(4);
    let length = usize::try_from(number(length)).unwrap_or(usize::MAX);
    let end = (at + 8).checked_add(length).ok_or_else(cut)?;
    let payload = bytes.get(at + 8..end).ok_or_else(cut)?;
    let crc = bytes.get(end..end + 4).ok_or_else(cut)?;
    if number(crc) != u64::from(crc32c(&bytes[at..end])) {
        return Err(damage(at, "a wrong checksum of the section"));
    }
    Ok((u32::try_from(number(kind)).unwrap_or(u32::MAX), payload))
}

fn damage(at: usize, what: &str) -> Damage {
    Damage {
        at,
        what: what.to_owned(),
    }
}

/// Up to eight bytes as a number.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// A payload being read.
struct Reader<'b> {
    bytes: &'b [u8],
    /// Where in the file.
    at: usize,
}

impl<'b> Reader<'b> {
    fn take(&mut self, length: usize) -> Result<&'b [u8], Damage> {
        let Some((taken, rest)) = self.bytes.split_at_checked(length) else {
            return Err(damage(self.at, "too short a section"));
        };
        (self.bytes, self.at) = (rest, self.at + length);
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<u64, Damage> {
        self.take(bytes).map(number)
    }

    fn small(&mut self) -> Result<u16, Damage> {
        self.number(2).map(|n| u16::try_from(n).unwrap_or(u16::MAX))
    }

    fn count(&mut self) -> Result<usize, Damage> {
        self.small().map(usize::from)
    }

    fn text(&mut self) -> Result<String, Damage> {
        let length = self.count()?;
        let at = self.at;
        let text = std::str::from_utf8(self.take(length)?);
        text.map(str::to_owned)
            .map_err(|_| damage(at, "a name that is not UTF-8"))
    }

    fn texts(&mut self) -> Result<Vec<String>, Damage> {
        let count = self.count()?;
        (0..count).map(|_| self.text()).collect()
    }

    fn sessions(&mut self, into: &mut Vec<Kept>) -> Result<(), Damage> {
        into.reserve(self.bytes.len() / RECORD);
        while !self.bytes.is_empty() {
            let at = self.at;
            let mut one = Reader {
                bytes: self.take(RECORD)?,
                at,
            };
            into.push(one.session()?);
        }
        Ok(())
    }

    fn session(&mut self) -> Result<Kept, Damage> {
        let head = self.take(4)?;
        let (protocol, tcp, flags) = (head[0], head[1], head[2]);
        let protocol = (Protocol::ALL.into_iter())
            .find(|known| known.number() == protocol)
            .unwrap_or(Protocol::Other(protocol));
        let device = self.small()?;
        let (inside, external, remote) = (self.endpoint()?, self.endpoint()?, self.endpoint()?);
        let age = Nanos(self.number(8)?);
        let remaining = Nanos(self.number(8)?);
        let record = SessionRecord {
            protocol,
            tcp: (tcp != NO_TCP).then_some(tcp),
            from_inside: flags & 1 != 0,
            replied: flags & 2 != 0,
            published: flags & 4 != 0,
            inside,
            external,
            remote,
            remaining,
            age,
            outbound: self.traffic()?,
            inbound: self.traffic()?,
        };
        let device = (device != NO_DEVICE).then_some(usize::from(device));
        Ok(Kept { record, device })
    }

    fn endpoint(&mut self) -> Result<(Ipv4Addr, u16), Damage> {
        let bytes = self.take(4)?;
        let address = Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]);
        Ok((address, self.small()?))
    }

    fn traffic(&mut self) -> Result<Traffic, Damage> {
        Ok(Traffic {
            packets: self.number(8)?,
            bytes: self.number(8)?,
        })
    }

    fn finish(&self) -> Result<(), Damage> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(damage(self.at, "too long a section"))
        }
    }
}

#[cfg(test)]
mod tests;
