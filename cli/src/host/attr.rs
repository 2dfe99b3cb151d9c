//! Netlink attributes, read by number and built by hand.
//!
//! Source: `include/uapi/linux/netlink.h`, `struct nlattr`.

use std::net::IpAddr;

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_F_NESTED, NLA_HEADER_SIZE, NlaBuffer, NlasIterator,
};

pub(crate) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..at + 2)?
        .try_into()
        .ok()
        .map(u16::from_ne_bytes)
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..at + 4)?
        .try_into()
        .ok()
        .map(u32::from_ne_bytes)
}

/// The attributes of a reply, read by number; an attribute that does not have the wanted length
/// counts as absent.
#[derive(Default)]
pub(crate) struct Attrs<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Attrs<'a> {
    /// Reads attributes up to the first malformed one.
    pub(crate) fn parse(bytes: &'a [u8]) -> Self {
        let whole = NlasIterator::new(bytes).map_while(Result::ok);
        let value = |nla: NlaBuffer<&'a [u8]>| {
            let (kind, end) = (nla.kind(), usize::from(nla.length()));
            (
                kind,
                nla.into_inner().get(NLA_HEADER_SIZE..end).unwrap_or(&[]),
            )
        };
        Self(whole.map(value).collect())
    }

    /// Reads the attributes behind a family header of `header` bytes.
    pub(crate) fn after(header: usize, body: &'a [u8]) -> Self {
        Self::parse(body.get(header..).unwrap_or(&[]))
    }

    pub(crate) fn bytes(&self, kind: u16) -> Option<&'a [u8]> {
        self.0
            .iter()
            .find(|(found, _)| *found == kind)
            .map(|(_, value)| *value)
    }

    pub(crate) fn all(&self, kind: u16) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(found, _)| *found == kind)
            .map(|(_, value)| *value)
    }

    pub(crate) fn nested(&self, kind: u16) -> Self {
        self.bytes(kind).map(Self::parse).unwrap_or_default()
    }

    pub(crate) fn array<const N: usize>(&self, kind: u16) -> Option<[u8; N]> {
        self.bytes(kind)?.try_into().ok()
    }

    pub(crate) fn u32(&self, kind: u16) -> Option<u32> {
        self.array(kind).map(u32::from_ne_bytes)
    }

    pub(crate) fn i32(&self, kind: u16) -> Option<i32> {
        self.array(kind).map(i32::from_ne_bytes)
    }

    pub(crate) fn u8(&self, kind: u16) -> Option<u8> {
        self.array::<1>(kind).map(|[value]| value)
    }

    pub(crate) fn ip(&self, kind: u16) -> Option<IpAddr> {
        let v4 = self.array::<4>(kind).map(IpAddr::from);
        v4.or_else(|| self.array::<16>(kind).map(IpAddr::from))
    }

    pub(crate) fn string(&self, kind: u16) -> Option<String> {
        let bytes = self.bytes(kind)?;
        let text = bytes.split(|byte| *byte == 0).next()?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// An attribute built by hand, for families without a crate (nftables, cls_bpf).
pub(crate) fn nla(kind: u16, value: &[u8]) -> DefaultNla {
    DefaultNla::new(kind, value.to_vec())
}

/// A NUL-terminated string attribute.
pub(crate) fn nla_str(kind: u16, value: &str) -> DefaultNla {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    DefaultNla::new(kind, bytes)
}

/// An attribute that holds attributes.
pub(crate) fn nest(kind: u16, children: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | NLA_F_NESTED, emit(children))
}

/// The bytes of a list of attributes.
pub(crate) fn emit(attrs: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attrs.buffer_len()];
    attrs.emit(&mut bytes);
    bytes
}
