//! The SCTP common header and its chunks (RFC 9260 section 3).

use super::{TransportError, get16, get32};

/// SCTP chunk types (RFC 9260 section 3.2).
pub mod sctp_chunk {
    /// Payload data; control chunks come before it.
    pub const DATA: u8 = 0;
    /// Opens an association.
    pub const INIT: u8 = 1;
    /// Answers an INIT.
    pub const INIT_ACK: u8 = 2;
    /// Probes an idle path.
    pub const HEARTBEAT: u8 = 4;
    /// Closes an association at once.
    pub const ABORT: u8 = 6;
    /// Begins a graceful close.
    pub const SHUTDOWN: u8 = 7;
    /// Answers a SHUTDOWN.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Returns the state cookie: the third step of the handshake.
    pub const COOKIE_ECHO: u8 = 10;
    /// Ends the handshake.
    pub const COOKIE_ACK: u8 = 11;
    /// Ends a graceful close.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// A checked view of an SCTP packet.
#[derive(Clone, Copy, Debug)]
pub struct Sctp<B> {
    bytes: B,
}

impl<B: AsRef<[u8]>> Sctp<B> {
    /// Length of the common header in bytes.
    pub const HEADER_LEN: usize = 12;

    /// Checks that the common header is there; the CRC32c is not verified.
    ///
    /// # Errors
    /// Returns an error if there are fewer than 12 bytes.
    pub fn parse(bytes: B) -> Result<Self, TransportError> {
        if bytes.as_ref().len() < Self::HEADER_LEN {
            return Err(TransportError::Truncated);
        }
        Ok(Self { bytes })
    }

    /// Returns the source port.
    #[must_use]
    pub fn src_port(&self) -> u16 {
        get16(self.bytes.as_ref(), 0)
    }

    /// Returns the destination port.
    #[must_use]
    pub fn dst_port(&self) -> u16 {
        get16(self.bytes.as_ref(), 2)
    }

    /// Returns the verification tag: the receiver's, or 0 with an INIT.
    #[must_use]
    pub fn verification_tag(&self) -> u32 {
        get32(self.bytes.as_ref(), 4)
    }

    /// Lists the chunks from the first on, each as its type, its flags and its value; ends at
    /// the first one whose length is impossible or that is cut off.
    pub fn chunks(&self) -> impl Iterator<Item = (u8, u8, &[u8])> {
        let mut rest = &self.bytes.as_ref()[Self::HEADER_LEN..];
        std::iter::from_fn(move || {
            let &[kind, flags, high, low] = rest.first_chunk::<4>()?;
            let length = usize::from(u16::from_be_bytes([high, low]));
            let value = rest.get(4..length)?;
            // The length does not count the padding to a multiple of four.
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            Some((kind, flags, value))
        })
    }
}
