//! Numbers in a section's byte order, and the options at the end of blocks.

use super::Fault;
use super::blocks::OPT_ENDOFOPT;

/// The byte order of a section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Little,
    Big,
}

impl Order {
    pub(super) const fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    pub(super) const fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    pub(super) const fn u64(self, bytes: [u8; 8]) -> u64 {
        match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        }
    }
}

/// Reads the fixed fields of a block from its front on. Past the end every field is 0: lengths
/// are checked before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    order: Order,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) const fn new(order: Order, bytes: &'a [u8]) -> Self {
        Self { order, rest: bytes }
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((taken, rest)) = self.rest.split_first_chunk() else {
            self.rest = &[];
            return [0; N];
        };
        self.rest = rest;
        *taken
    }

    pub(super) fn u16(&mut self) -> u16 {
        self.order.u16(self.take())
    }

    pub(super) fn u32(&mut self) -> u32 {
        self.order.u32(self.take())
    }
}

/// The options of a block, in their order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Options<'a> {
    order: Order,
    rest: &'a [u8],
}

impl<'a> Options<'a> {
    pub(super) const fn new(order: Order, bytes: &'a [u8]) -> Self {
        Self { order, rest: bytes }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<(u16, &'a [u8]), Fault>;

    /// The next option's code and value; after a fault there is none.
    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.rest.split_first_chunk::<4>()?;
        let [c0, c1, l0, l1] = *head;
        let (code, length) = (self.order.u16([c0, c1]), self.order.u16([l0, l1]));
        self.rest = &[];
        if code == OPT_ENDOFOPT {
            return None;
        }
        let Some((value, rest)) = rest.split_at_checked(usize::from(length)) else {
            return Some(Err(Fault::OptionLength { code, length }));
        };
        // The padding of the last option may be missing: there is nothing behind it.
        let padding = usize::from(length).wrapping_neg() % 4;
        self.rest = rest.get(padding..).unwrap_or(&[]);
        Some(Ok((code, value)))
    }
}

/// The value of an option that has a fixed length.
pub(super) fn fixed<const N: usize>(code: u16, value: &[u8]) -> Result<[u8; N], Fault> {
    value.try_into().map_err(|_| Fault::OptionValue {
        code,
        length: value.len(),
        wanted: N,
    })
}
