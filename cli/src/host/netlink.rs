//! A small synchronous netlink client.
//!
//! # Theory of operation
//!
//! One socket, one request at a time, one thread: a request is sent, and replies are read until
//! the kernel has acknowledged it (`NLMSG_ERROR` with code 0), refused it (a negative errno), or
//! ended the dump (`NLMSG_DONE`). The kernel answers before `sendmsg` returns or while the dump is
//! being read, so there is nothing to wait for and no runtime is needed. A socket belongs to the
//! network namespace in which it was opened for ever, whichever thread uses it afterwards.
//!
//! The same client speaks `NETLINK_ROUTE` (links, addresses, routes, traffic control) and
//! `NETLINK_NETFILTER` (nftables batches), because the framing is the same.
//!
//! Requests are built with `netlink-packet-route`; replies are read attribute by attribute with
//! `Attrs`, so that one attribute of a newer kernel that the crate cannot decode does not hide
//! the interface that carries it.
//!
//! Source: `net/netlink/af_netlink.c`, `include/uapi/linux/netlink.h`.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use super::attr::{Attrs, read_u16, read_u32};

/// Length of `struct nlmsghdr` in bytes.
pub(crate) const HEADER_LEN: usize = 16;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// How often a dump is repeated when the table changed while it was being read.
const DUMP_ATTEMPTS: u32 = 16;

/// The kernel's refusal of a request: an errno and, where the kernel gives one, its own words.
///
/// Found as the inner error of the [`io::Error`] that every method of [`Netlink`] returns; see
/// [`errno`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What the kernel returned.
    pub errno: Errno,
    /// The extended acknowledgement (`NLMSGERR_ATTR_MSG`), for example
    /// "Device is already a member of a bridge".
    pub text: Option<String>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{text} ({})", self.errno.desc()),
            None => f.write_str(self.errno.desc()),
        }
    }
}

impl std::error::Error for Refusal {}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        let kind = Self::from(refusal.errno).kind();
        Self::new(kind, refusal)
    }
}

/// The errno behind an error, whether it came from a system call or from a netlink refusal.
#[must_use]
pub fn errno(err: &io::Error) -> Option<Errno> {
    if let Some(code) = err.raw_os_error() {
        return Some(Errno::from_raw(code));
    }
    err.get_ref()?
        .downcast_ref::<Refusal>()
        .map(|refusal| refusal.errno)
}

/// Whether the error says that the interface, address, route or filter is not there (any more).
#[must_use]
pub fn is_gone(err: &io::Error) -> bool {
    matches!(
        errno(err),
        Some(Errno::ENODEV | Errno::ENOENT | Errno::ENXIO | Errno::EADDRNOTAVAIL | Errno::ESRCH)
    )
}

/// One message of the kernel, without its `nlmsghdr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// `nlmsg_type`, for example `RTM_NEWLINK`.
    pub kind: u16,
    /// Family header and attributes.
    pub body: Vec<u8>,
}

/// A netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a `NETLINK_ROUTE` socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// Whatever `socket(2)` and `bind(2)` say.
    pub fn open() -> io::Result<Self> {
        Self::open_protocol(NETLINK_ROUTE)
    }

    /// Opens a `NETLINK_NETFILTER` socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// `EPROTONOSUPPORT` on a kernel without nfnetlink.
    pub fn open_netfilter() -> io::Result<Self> {
        Self::open_protocol(NETLINK_NETFILTER)
    }

    fn open_protocol(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // All three are refinements that old kernels (< 4.12, < 4.20) lack: without them errors
        // lose their text and a dump of another namespace is refused.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        if protocol == NETLINK_ROUTE {
            let _ = socket.set_netlink_get_strict_chk(true);
        }
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends a routing request and waits for its acknowledgement; `flags` are added to
    /// `NLM_F_REQUEST | NLM_F_ACK`.
    ///
    /// # Errors
    /// The kernel's errno, with a [`Refusal`] inside.
    pub fn request(&mut self, message: &RouteNetlinkMessage, flags: u16) -> io::Result<Vec<Reply>> {
        let body = emit_route(message);
        self.transact(message.message_type(), flags, &body)
    }

    /// Asks for a whole table; repeated when the table changed while it was read.
    ///
    /// # Errors
    /// The kernel's errno; `EINTR` when the table never stood still.
    pub fn dump(&mut self, message: &RouteNetlinkMessage) -> io::Result<Vec<Reply>> {
        let body = emit_route(message);
        self.dump_raw(message.message_type(), &body)
    }

    /// As [`request`](Self::request), for a body built by hand.
    ///
    /// # Errors
    /// The kernel's errno, with a [`Refusal`] inside.
    pub fn transact(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Reply>> {
        let sequence = self.next_sequence();
        let bytes = frame(kind, NLM_F_REQUEST | NLM_F_ACK | flags, sequence, body);
        self.send(&bytes)?;
        let mut replies = Vec::new();
        self.collect(sequence, sequence, &mut replies)?;
        Ok(replies)
    }

    /// As [`dump`](Self::dump), for a body built by hand.
    ///
    /// # Errors
    /// The kernel's errno; `EINTR` when the table never stood still.
    pub fn dump_raw(&mut self, kind: u16, body: &[u8]) -> io::Result<Vec<Reply>> {
        for _ in 0..DUMP_ATTEMPTS {
            let sequence = self.next_sequence();
            self.send(&frame(kind, NLM_F_REQUEST | NLM_F_DUMP, sequence, body))?;
            let mut replies = Vec::new();
            if self.collect(sequence, sequence, &mut replies)? {
                return Ok(replies);
            }
        }
        Err(Refusal {
            errno: Errno::EINTR,
            text: Some("the table changed at every attempt to read it".to_owned()),
        }
        .into())
    }

    /// Sends several messages in one datagram and waits until the one at `acked` (an index into
    /// `messages`) is acknowledged or any of them is refused: the shape of an nftables batch.
    ///
    /// Each element is type, flags and body.
    ///
    /// # Errors
    /// The first refusal of the batch.
    pub fn batch(&mut self, messages: &[(u16, u16, Vec<u8>)], acked: usize) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut first = 0;
        let mut wanted = 0;
        for (index, (kind, flags, body)) in messages.iter().enumerate() {
            let sequence = self.next_sequence();
            if index == 0 {
                first = sequence;
            }
            let mut all = NLM_F_REQUEST | flags;
            if index == acked {
                wanted = sequence;
                all |= NLM_F_ACK;
            }
            bytes.extend_from_slice(&frame(*kind, all, sequence, body));
        }
        self.send(&bytes)?;
        self.collect(first, wanted, &mut Vec::new()).map(|_| ())
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let sent = match self.socket.send(bytes, 0) {
            // `netlink_sendmsg` takes no message larger than the send buffer, 208 KiB by default.
            Err(err) if errno(&err) == Some(Errno::EMSGSIZE) => {
                self.make_room(bytes.len())?;
                self.socket.send(bytes, 0)?
            }
            sent => sent?,
        };
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::Error::other(format!(
                "netlink took {sent} of {} bytes",
                bytes.len()
            )))
        }
    }

    fn make_room(&self, bytes: usize) -> io::Result<()> {
        let fd = self.socket.as_fd();
        // Beyond `wmem_max` with privileges, up to it without.
        let forced = setsockopt(&fd, sockopt::SndBufForce, &bytes);
        forced.or_else(|_| setsockopt(&fd, sockopt::SndBuf, &bytes))?;
        Ok(())
    }

    fn next_sequence(&mut self) -> u32 {
        // 0 marks unsolicited messages.
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Reads until `last` is acknowledged or done. Errors of any request from `first` on count;
    /// messages with other sequence numbers are leftovers of an abandoned request and skipped.
    /// `Ok(false)` means that a dump was interrupted and must be repeated.
    fn collect(&mut self, first: u32, last: u32, replies: &mut Vec<Reply>) -> io::Result<bool> {
        let mut consistent = true;
        loop {
            let (datagram, from) = match self.socket.recv_from_full() {
                Ok(received) => received,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => continue,
                Err(err) => return Err(err),
            };
            if from.port_number() != 0 {
                continue; // Not the kernel.
            }
            for message in Messages::new(&datagram) {
                let message = message?;
                if message.sequence.wrapping_sub(first) > last.wrapping_sub(first) {
                    continue;
                }
                consistent &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => return Err(Errno::ENOBUFS.into()),
                    NLMSG_ERROR => match refusal(message.flags, message.body)? {
                        Some(refusal) => return Err(refusal.into()),
                        None if message.sequence == last => return Ok(consistent),
                        None => {}
                    },
                    NLMSG_DONE => {
                        // A dump that failed half-way carries its errno here.
                        return match code_of(message.body) {
                            Some(errno) => Err(Refusal { errno, text: None }.into()),
                            None => Ok(consistent),
                        };
                    }
                    kind => replies.push(Reply {
                        kind,
                        body: message.body.to_vec(),
                    }),
                }
            }
        }
    }
}

fn emit_route(message: &RouteNetlinkMessage) -> Vec<u8> {
    let mut body = vec![0; NetlinkSerializable::buffer_len(message)];
    message.serialize(&mut body);
    body
}

/// Puts a `nlmsghdr` in front of `body`; the port id is left to the kernel.
fn frame(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let len = HEADER_LEN + body.len();
    let mut bytes = Vec::with_capacity(len.next_multiple_of(4));
    bytes.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(len.next_multiple_of(4), 0);
    bytes
}

/// One message inside a datagram of the kernel.
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) body: &'a [u8],
}

/// Walks the messages of one datagram.
pub(crate) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    pub(crate) fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = io::Result<Message<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "malformed netlink message");
        let len = read_u32(self.rest, 0)
            .and_then(|len| usize::try_from(len).ok())
            .unwrap_or(0);
        let Some(body) = self.rest.get(HEADER_LEN..len) else {
            self.rest = &[];
            return Some(Err(malformed()));
        };
        let message = Message {
            kind: read_u16(self.rest, 4).unwrap_or(0),
            flags: read_u16(self.rest, 6).unwrap_or(0),
            sequence: read_u32(self.rest, 8).unwrap_or(0),
            body,
        };
        self.rest = self.rest.get(len.next_multiple_of(4)..).unwrap_or(&[]);
        Some(Ok(message))
    }
}

/// The errno at the head of `NLMSG_ERROR` and `NLMSG_DONE`; `None` is success.
fn code_of(body: &[u8]) -> Option<Errno> {
    let code = read_u32(body, 0)?.cast_signed();
    (code != 0).then(|| Errno::from_raw(code.wrapping_neg()))
}

/// Decodes `struct nlmsgerr` and the extended acknowledgement behind it.
fn refusal(flags: u16, body: &[u8]) -> io::Result<Option<Refusal>> {
    if body.len() < 4 + HEADER_LEN {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "truncated netlink error",
        ));
    }
    let Some(errno) = code_of(body) else {
        return Ok(None);
    };
    let mut text = None;
    if flags & NLM_F_ACK_TLVS != 0 {
        // Unless capped, the refused request stands between the error and its attributes.
        let echoed = if flags & NLM_F_CAPPED != 0 {
            HEADER_LEN
        } else {
            echoed_len(body)
        };
        let attrs = Attrs::parse(body.get(4 + echoed..).unwrap_or(&[]));
        text = attrs.string(NLMSGERR_ATTR_MSG);
    }
    Ok(Some(Refusal { errno, text }))
}

fn echoed_len(body: &[u8]) -> usize {
    let len = read_u32(body, 4)
        .and_then(|len| usize::try_from(len).ok())
        .unwrap_or(HEADER_LEN);
    len.max(HEADER_LEN).next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::attr::{emit, nla_str};

    #[test]
    fn errno_survives_the_journey_through_io_error() {
        let err: io::Error = Refusal {
            errno: Errno::EEXIST,
            text: Some("Already there".into()),
        }
        .into();
        assert_eq!(err.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(errno(&err), Some(Errno::EEXIST));
        assert_eq!(err.to_string(), "Already there (File exists)");
        assert!(is_gone(
            &Refusal {
                errno: Errno::ENODEV,
                text: None
            }
            .into()
        ));
        assert!(!is_gone(&err));
    }

    #[test]
    fn extended_ack_is_found_behind_a_capped_and_an_echoed_request() {
        let tlv = emit(&[nla_str(NLMSGERR_ATTR_MSG, "no such luck")]);
        let mut capped = (-22_i32).to_ne_bytes().to_vec();
        let request = frame(16, 0, 7, &[0; 12]);
        capped.extend_from_slice(&request[..HEADER_LEN]);
        capped.extend_from_slice(&tlv);
        let found = refusal(NLM_F_CAPPED | NLM_F_ACK_TLVS, &capped)
            .unwrap()
            .unwrap();
        assert_eq!(found.errno, Errno::EINVAL);
        assert_eq!(found.text.as_deref(), Some("no such luck"));

        let mut echoed = (-22_i32).to_ne_bytes().to_vec();
        echoed.extend_from_slice(&request);
        echoed.extend_from_slice(&tlv);
        let found = refusal(NLM_F_ACK_TLVS, &echoed).unwrap().unwrap();
        assert_eq!(found.text.as_deref(), Some("no such luck"));
        assert!(refusal(0, &[0; 3]).is_err());
    }

    #[test]
    fn messages_are_walked_and_a_bad_length_ends_the_walk() {
        let mut bytes = frame(20, 2, 1, b"abcde");
        bytes.extend_from_slice(&frame(21, 0, 1, b""));
        let kinds: Vec<u16> = Messages::new(&bytes).map(|m| m.unwrap().kind).collect();
        assert_eq!(kinds, [20, 21]);
        bytes[0] = 15; // shorter than its own header
        assert!(Messages::new(&bytes).next().unwrap().is_err());
        bytes[0] = 255;
        let walked: Vec<_> = Messages::new(&bytes).collect();
        assert_eq!(walked.len(), 1);
        assert!(walked[0].is_err());
    }

    #[test]
    fn the_kernel_refuses_in_its_own_words() {
        crate::host::netns::tests::in_fresh_netns("netlink_refusal", || {
            let mut netlink = Netlink::open().unwrap();
            let err = netlink.set_up(4_000, true).unwrap_err();
            assert_eq!(errno(&err), Some(Errno::ENODEV));
            assert!(is_gone(&err));
            // The socket is usable after a refusal: no stale acknowledgement is taken for ours.
            assert_eq!(netlink.links().unwrap().len(), 1);
        });
    }
}
