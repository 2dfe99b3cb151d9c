//! Packet sockets and their options (`packet(7)`, net/packet/af_packet.c).

use super::cursor::RingLayout;
use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// `AF_PACKET` as an address holds it.
pub(super) const FAMILY: u16 = 17;
const _: () = assert!(libc::AF_PACKET == FAMILY as c_int);

/// Bytes of an interface's address.
pub(super) const ADDRESS_BYTES: libc::socklen_t = 20;
const _: () = assert!(size_of::<libc::sockaddr_ll>() == ADDRESS_BYTES as usize);

/// All protocols, in the byte order an address wants.
const ALL_PROTOCOLS: u16 = 3u16.to_be();
const _: () = assert!(libc::ETH_P_ALL == 3);

/// `PACKET_MR_PROMISC` as a membership holds it.
const PROMISCUOUS: u16 = 1;
const _: () = assert!(libc::PACKET_MR_PROMISC == PROMISCUOUS as c_int);

/// An `AF_PACKET` socket for whole frames.
#[derive(Debug)]
pub(in crate::port) struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket that receives nothing until it is bound.
    ///
    /// # Errors
    /// `EPERM` without `CAP_NET_RAW`; `EAFNOSUPPORT` on a kernel without packet sockets.
    pub(in crate::port) fn open() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: takes three integers and touches no memory of ours.
        let fd = super::check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the descriptor was just made and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd })
    }

    /// The same socket by another descriptor. It lives for as long as one of them is open.
    pub(in crate::port) fn try_clone(&self) -> io::Result<Self> {
        let fd = self.fd.try_clone()?;
        Ok(Self { fd })
    }

    fn set<T>(&self, level: c_int, option: c_int, value: &T) -> io::Result<()> {
        let fd = self.fd.as_raw_fd();
        let len = super::value_bytes::<T>();
        let value = std::ptr::from_ref(value).cast();
        // SAFETY: `value` points to `len` initialised bytes that outlive the call.
        super::check(unsafe { libc::setsockopt(fd, level, option, value, len) })?;
        Ok(())
    }

    fn get<T: Copy>(&self, level: c_int, option: c_int, mut value: T) -> io::Result<T> {
        let fd = self.fd.as_raw_fd();
        let mut len = super::value_bytes::<T>();
        let room = (&raw mut value).cast();
        // SAFETY: `room` has space for `len` bytes, and every `T` used here is made of integers, so
        // that whatever the kernel writes, wholly or in part, is a valid value.
        super::check(unsafe { libc::getsockopt(fd, level, option, room, &raw mut len) })?;
        Ok(value)
    }

    /// Sets an integer option of level `SOL_PACKET`.
    pub(in crate::port) fn set_packet(&self, option: c_int, value: c_int) -> io::Result<()> {
        self.set(libc::SOL_PACKET, option, &value)
    }

    /// Sets an integer option of level `SOL_SOCKET`.
    pub(in crate::port) fn set_socket(&self, option: c_int, value: c_int) -> io::Result<()> {
        self.set(libc::SOL_SOCKET, option, &value)
    }

    /// Makes the receive ring. To be done before [`bind`](Self::bind): afterwards the kernel would
    /// have to wait for every processor to leave the old one.
    ///
    /// # Errors
    /// `ENOMEM`; `EINVAL` for a layout `packet_set_ring` (net/packet/af_packet.c) cannot use.
    pub(in crate::port) fn make_rx_ring(&self, layout: RingLayout) -> io::Result<()> {
        let request = libc::tpacket_req {
            tp_block_size: layout.block_bytes,
            tp_block_nr: layout.block_count,
            tp_frame_size: layout.slot_bytes,
            tp_frame_nr: layout.slot_count().ok_or(io::ErrorKind::InvalidInput)?,
        };
        self.set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)
    }

    /// Replaces the socket's filter in one step: no frame passes in between.
    pub(in crate::port) fn attach_filter(&self, program: &[libc::sock_filter]) -> io::Result<()> {
        self.set(
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            &sock_fprog(program)?,
        )
    }

    /// As [`Self::attach_filter`], with an eBPF program.
    pub(in crate::port) fn attach_program(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        self.set_socket(libc::SO_ATTACH_BPF, program.as_raw_fd())
    }

    /// Removes the filter, so that all frames pass.
    pub(in crate::port) fn detach_filter(&self) -> io::Result<()> {
        self.set_socket(libc::SO_DETACH_FILTER, 0)
    }

    /// Makes or joins the fan-out group `id`; `kind_and_flags` as in `packet(7)`.
    pub(in crate::port) fn join_fanout(&self, id: u16, kind_and_flags: u16) -> io::Result<()> {
        let both = u32::from(id) | u32::from(kind_and_flags) << 16;
        self.set(libc::SOL_PACKET, libc::PACKET_FANOUT, &both)
    }

    /// The id of the group this socket is in.
    pub(in crate::port) fn fanout_id(&self) -> io::Result<u16> {
        let both: u32 = self.get(libc::SOL_PACKET, libc::PACKET_FANOUT, 0)?;
        Ok((both & 0xffff) as u16)
    }

    /// Gives the group the program that chooses a member for each frame.
    pub(in crate::port) fn set_fanout_program(
        &self,
        program: &[libc::sock_filter],
    ) -> io::Result<()> {
        self.set(
            libc::SOL_PACKET,
            libc::PACKET_FANOUT_DATA,
            &sock_fprog(program)?,
        )
    }

    /// Takes frames meant for other stations from the interface too, while the socket lives.
    pub(in crate::port) fn set_promiscuous(&self, ifindex: u32) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: ifindex.cast_signed(),
            mr_type: PROMISCUOUS,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// Starts receiving all protocols from the interface.
    pub(in crate::port) fn bind(&self, ifindex: u32) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: FAMILY,
            sll_protocol: ALL_PROTOCOLS,
            sll_ifindex: ifindex.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let address = (&raw const address).cast();
        // SAFETY: `address` points to a whole sockaddr_ll of this frame.
        super::check(unsafe { libc::bind(self.fd.as_raw_fd(), address, ADDRESS_BYTES) })?;
        Ok(())
    }

    /// The index of the interface the socket is bound to; -1 once that was deleted
    /// (`packet_notifier`, NETDEV_UNREGISTER).
    pub(in crate::port) fn bound_ifindex(&self) -> io::Result<i32> {
        let mut address = libc::sockaddr_ll {
            sll_family: 0,
            sll_protocol: 0,
            sll_ifindex: 0,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let mut len = ADDRESS_BYTES;
        let room = (&raw mut address).cast();
        // SAFETY: `room` has space for the `len` bytes announced; all fields are integers.
        super::check(unsafe { libc::getsockname(self.fd.as_raw_fd(), room, &raw mut len) })?;
        Ok(address.sll_ifindex)
    }

    /// Frames dropped since the last call. The kernel clears its count when it is read.
    pub(in crate::port) fn take_drops(&self) -> io::Result<u32> {
        let none = libc::tpacket_stats {
            tp_packets: 0,
            tp_drops: 0,
        };
        Ok(self
            .get(libc::SOL_PACKET, libc::PACKET_STATISTICS, none)?
            .tp_drops)
    }

    /// Takes the next queued frame, with its virtio-net header, into `buffer`. Answers its full
    /// length, which may exceed the buffer's; the excess is lost.
    ///
    /// # Errors
    /// `EAGAIN` where none is queued. An error pending on the socket (`ENETDOWN`) is answered, and
    /// thereby cleared, before any frame.
    pub(in crate::port) fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        let room = buffer.as_mut_ptr().cast();
        // SAFETY: `room` has space for the `buffer.len()` bytes announced.
        super::check_bytes(unsafe { libc::recv(self.fd.as_raw_fd(), room, buffer.len(), flags) })
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A program as `setsockopt` takes it; valid while `program` is.
fn sock_fprog(program: &[libc::sock_filter]) -> io::Result<libc::sock_fprog> {
    let len = program
        .len()
        .try_into()
        .map_err(|_| io::ErrorKind::InvalidInput)?;
    // The kernel only reads through the pointer (`bpf_prog_create_from_user`).
    Ok(libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut(),
    })
}
