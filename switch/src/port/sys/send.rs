//! Sending many frames with one system call.
//!
//! `sendmmsg` takes an array of messages, each with a pointer to an address and to a list of
//! pieces. All these arrays are made once; per frame only three words change: where it is, how
//! long it is and which interface it leaves by.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Messages per call: the arrays (128 x 100 bytes) stay in a 32 KiB L1 beside the frames' headers,
/// and the system call's own cost is spread over enough of them.
const MESSAGES_MAX: usize = 128;

/// The arrays behind one `sendmmsg`.
pub(in crate::port) struct Messages {
    /// Message `i` points to address `i` and piece `i`, for ever.
    headers: Box<[libc::mmsghdr]>,
    pieces: Box<[libc::iovec]>,
    addresses: Box<[libc::sockaddr_ll]>,
}

// SAFETY: the pointers in `headers` lead into the two other boxes of the same value, whose heap
// memory does not move with it. Those in `pieces` are written anew before each use.
unsafe impl Send for Messages {}

impl Messages {
    /// Makes the arrays.
    pub(in crate::port) fn new() -> Self {
        let no_piece = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        let mut pieces = vec![no_piece; MESSAGES_MAX].into_boxed_slice();
        let mut addresses = vec![link_address(0); MESSAGES_MAX].into_boxed_slice();
        let headers = pieces
            .iter_mut()
            .zip(&mut addresses)
            .map(|(piece, address)| header(piece, address))
            .collect();
        Self {
            headers,
            pieces,
            addresses,
        }
    }

    /// Sends `frames` in order on `socket` without waiting. `view` gives a frame's bytes and the
    /// index of its interface; `outcome` is called once per frame, in order, with `Ok` or the error
    /// number that frame met.
    pub(in crate::port) fn send<T>(
        &mut self,
        socket: BorrowedFd<'_>,
        frames: &[T],
        view: impl for<'t> Fn(&'t T) -> (&'t [u8], u32),
        mut outcome: impl FnMut(&T, Result<(), i32>),
    ) {
        for chunk in frames.chunks(MESSAGES_MAX) {
            for ((frame, piece), address) in
                chunk.iter().zip(&mut self.pieces).zip(&mut self.addresses)
            {
                let (bytes, ifindex) = view(frame);
                piece.iov_base = bytes.as_ptr().cast_mut().cast();
                piece.iov_len = bytes.len();
                address.sll_ifindex = ifindex.cast_signed();
            }
            self.send_chunk(socket, chunk, &mut outcome);
        }
    }

    /// Sends the messages prepared for `chunk`.
    ///
    /// The kernel stops at the first message that fails. If some went out before it, the call
    /// answers their count and hides the error (`__sys_sendmmsg`, net/socket.c): the next call
    /// starts with the failed message and, as nothing precedes it now, tells the error. Only then
    /// is that message charged and passed over, so no error lands on the wrong frame.
    fn send_chunk<T>(
        &mut self,
        socket: BorrowedFd<'_>,
        chunk: &[T],
        outcome: &mut impl FnMut(&T, Result<(), i32>),
    ) {
        let mut rest = chunk;
        while let Some((first, others)) = rest.split_first() {
            match self.send_from(socket, chunk.len() - rest.len(), rest.len()) {
                Ok(count) => {
                    let (sent, unsent) = rest.split_at(count.clamp(1, rest.len()));
                    sent.iter().for_each(|frame| outcome(frame, Ok(())));
                    rest = unsent;
                }
                Err(libc::EINTR) => {}
                Err(libc::EAGAIN) => {
                    // The socket's own memory is used up, by frames the device has not sent yet.
                    // That is no fault of this frame, and asking for each of the others would only
                    // burn a system call apiece on the same answer.
                    rest.iter()
                        .for_each(|frame| outcome(frame, Err(libc::EAGAIN)));
                    return;
                }
                Err(errno) => {
                    outcome(first, Err(errno));
                    rest = others;
                }
            }
        }
    }

    /// Sends `count` prepared messages from `start` on; answers how many went out.
    fn send_from(
        &mut self,
        socket: BorrowedFd<'_>,
        start: usize,
        count: usize,
    ) -> Result<usize, i32> {
        let Some(headers) = self.headers.get_mut(start..start + count) else {
            return Err(libc::EINVAL);
        };
        let len = libc::c_uint::try_from(count).unwrap_or(libc::c_uint::MAX);
        let fd = socket.as_raw_fd();
        // SAFETY: the `len` headers are ours and each points to its own address and piece. Each of
        // these pieces was set by `send` from a slice that its caller still borrows; the kernel
        // only reads from them, and has copied them when the call returns.
        let sent = unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), len, libc::MSG_DONTWAIT) };
        usize::try_from(sent).map_err(|_| {
            io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EIO)
        })
    }
}

/// The address of an interface. Protocol 0: the kernel takes it from the frame
/// (`packet_parse_headers`, net/packet/af_packet.c).
fn link_address(ifindex: i32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: super::socket::FAMILY,
        sll_protocol: 0,
        sll_ifindex: ifindex,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

fn header(piece: &mut libc::iovec, address: &mut libc::sockaddr_ll) -> libc::mmsghdr {
    // SAFETY: a mmsghdr is integers and pointers, for which all-zero bytes are 0 and null.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_name = std::ptr::from_mut(address).cast();
    header.msg_hdr.msg_namelen = super::socket::ADDRESS_BYTES;
    header.msg_hdr.msg_iov = std::ptr::from_mut(piece);
    header.msg_hdr.msg_iovlen = 1;
    header
}
