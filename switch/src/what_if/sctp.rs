//! The chunk of an SCTP packet in words (RFC 9260 section 3.3).

use nat::wire::sctp_chunk;

/// A chunk that begins, moves or ends an association, or carries data; by the words that tcpdump's
/// filters have for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunk {
    /// `init`.
    Init,
    /// `init-ack`.
    InitAck,
    /// `cookie-echo`.
    CookieEcho,
    /// `cookie-ack`.
    CookieAck,
    /// `data`.
    Data,
    /// `heartbeat`.
    Heartbeat,
    /// `abort`.
    Abort,
    /// `shutdown`.
    Shutdown,
    /// `shutdown-ack`.
    ShutdownAck,
    /// `shutdown-complete`.
    ShutdownComplete,
}

/// Type, flags and length.
const HEADER_BYTES: u16 = 4;
/// What makes a packet longer than its chunk (RFC 4820).
const PAD: u8 = 0x84;
/// Data that is neither continued nor the rest of something.
const WHOLE: u8 = 0x03;
/// Tag, window, streams and sequence number of an INIT: anything that is not zero.
const OPENING: [u8; 16] = [0, 0, 0, 1, 0, 0, 0xff, 0xff, 0, 1, 0, 1, 0, 0, 0, 1];
/// A state cookie, and what a heartbeat brings back: parameters of four bytes.
const COOKIE: [u8; 8] = [0, 7, 0, 8, 0, 0, 0, 0];
const INFO: [u8; 8] = [0, 1, 0, 8, 0, 0, 0, 0];
/// A transmission sequence number.
const SEQUENCE: [u8; 4] = [0, 0, 0, 1];

impl Chunk {
    /// All of them, in the order of an association's life.
    pub(super) const ALL: [(&str, Self); 10] = [
        ("init", Self::Init),
        ("init-ack", Self::InitAck),
        ("cookie-echo", Self::CookieEcho),
        ("cookie-ack", Self::CookieAck),
        ("data", Self::Data),
        ("heartbeat", Self::Heartbeat),
        ("abort", Self::Abort),
        ("shutdown", Self::Shutdown),
        ("shutdown-ack", Self::ShutdownAck),
        ("shutdown-complete", Self::ShutdownComplete),
    ];

    /// Its bytes, with four of data.
    pub(super) const fn len(self) -> u16 {
        HEADER_BYTES
            + match self {
                Self::Init => 16,
                Self::InitAck => 24,
                Self::Data => 16,
                Self::Heartbeat => 8,
                Self::CookieEcho | Self::Shutdown => 4,
                Self::CookieAck | Self::Abort | Self::ShutdownAck | Self::ShutdownComplete => 0,
            }
    }

    /// Its type, and its value as far as that is not zero.
    fn content(self) -> (u8, Vec<u8>) {
        match self {
            Self::Init => (sctp_chunk::INIT, OPENING.to_vec()),
            Self::InitAck => (sctp_chunk::INIT_ACK, [&OPENING[..], &COOKIE].concat()),
            Self::CookieEcho => (sctp_chunk::COOKIE_ECHO, Vec::new()),
            Self::CookieAck => (sctp_chunk::COOKIE_ACK, Vec::new()),
            Self::Data => (sctp_chunk::DATA, SEQUENCE.to_vec()),
            Self::Heartbeat => (sctp_chunk::HEARTBEAT, INFO.to_vec()),
            Self::Abort => (sctp_chunk::ABORT, Vec::new()),
            Self::Shutdown => (sctp_chunk::SHUTDOWN, SEQUENCE.to_vec()),
            Self::ShutdownAck => (sctp_chunk::SHUTDOWN_ACK, Vec::new()),
            Self::ShutdownComplete => (sctp_chunk::SHUTDOWN_COMPLETE, Vec::new()),
        }
    }

    /// The chunk, that fills `room` bytes: data is as long, behind others comes padding.
    pub(super) fn bytes(self, room: u16) -> Vec<u8> {
        let (kind, value) = self.content();
        let (flags, len) = if self == Self::Data {
            (WHOLE, room.max(self.len()))
        } else {
            (0, self.len())
        };
        let mut bytes = header(kind, flags, len);
        bytes.extend(value);
        bytes.resize(usize::from(len), 0);
        let pad = room.saturating_sub(len);
        if pad >= HEADER_BYTES {
            bytes.extend(header(PAD, 0, pad));
        }
        bytes.resize(usize::from(room.max(len)), 0);
        bytes
    }
}

fn header(kind: u8, flags: u8, len: u16) -> Vec<u8> {
    let [high, low] = len.to_be_bytes();
    vec![kind, flags, high, low]
}
