//! `bpf(2)`, as much of it as is needed: load a classifier or a socket filter, try it, attach a
//! classifier by TCX, and keep values that programs and this process share.
//!
//! Programs, values and TCX links are file descriptors: when the process ends, however it ends,
//! they are gone, so nothing stays behind on the host. No compiler, ELF file or BTF is involved;
//! the programs are a few dozen instructions put together by the caller.
//!
//! Source: bpf(2), `include/uapi/linux/bpf.h`, `kernel/bpf/tcx.c` (6.6).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::port::ebpf::Insn;

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP_ELEM: libc::c_int = 1;
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const PROG_QUERY: libc::c_int = 16;
const LINK_CREATE: libc::c_int = 28;
const LINK_UPDATE: libc::c_int = 29;

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_PERCPU_ARRAY: u32 = 6;
/// `BPF_F_MMAPABLE`.
const F_MMAPABLE: u32 = 1 << 10;
const PROG_TYPE_SOCKET_FILTER: u32 = 1;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const ATTACH_TCX_INGRESS: u32 = 46;
const LINK_TYPE_TCX: u32 = 11;
/// Before every program that is attached already.
const F_BEFORE: u32 = 1 << 3;
/// A signal makes the verifier give up a long program with EAGAIN (`do_check`,
/// kernel/bpf/verifier.c). libbpf tries five times without a rest, which was once not enough here;
/// with rests, each twice as long as the one before, all attempts together take half a second.
const LOAD_ATTEMPTS: u32 = 10;
/// The first rest.
const LOAD_REST: Duration = Duration::from_millis(1);
/// `BPF_OBJ_NAME_LEN`, with the terminating NUL.
const NAME_LEN: usize = 16;

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_bytes: u32,
    value_bytes: u32,
    entries: u32,
    flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; NAME_LEN],
}

#[repr(C)]
#[derive(Default)]
struct MapLookup {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    flags: u32,
    name: [u8; NAME_LEN],
}

#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative_fd: u32,
    pad: u32,
    expected_revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct ProgQuery {
    target_ifindex: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    count: u32,
    pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    revision: u64,
}

#[repr(C)]
#[derive(Default)]
struct GetInfo {
    fd: u32,
    info_len: u32,
    info: u64,
}

/// `struct bpf_link_info` up to the part for TCX links.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    link_type: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    ifindex: u32,
    attach_type: u32,
}

/// Calls `bpf(2)`.
///
/// # Safety
/// `T` must be a prefix of `union bpf_attr` that is valid for `command`, and every address in it
/// must stay valid, for as many bytes as the attribute says, until the call returns.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<libc::c_int> {
    let size = size_of::<T>();
    // SAFETY: `attr` is a live, exclusively borrowed object of `size` bytes, all of the kernel's
    // reads and writes through it stay inside it, and the caller answers for addresses in it.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size) };
    libc::c_int::try_from(result)
        .ok()
        .filter(|fd| *fd >= 0)
        .ok_or_else(io::Error::last_os_error)
}

fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has just made this descriptor for us and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn number(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

fn length(bytes: usize) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// A value of the kernel's that programs read and write: an array map of one element, or of more.
#[derive(Debug)]
pub struct Value {
    fd: OwnedFd,
    bytes: u32,
}

/// An array map.
#[derive(Debug, Clone, Copy)]
struct Kind {
    map_type: u32,
    flags: u32,
    entries: u32,
}

impl Value {
    /// Makes one of so many bytes, all of them 0; `name` (cut to 15 bytes) shows up in
    /// `bpftool map`.
    ///
    /// # Errors
    /// `EPERM` without CAP_BPF in the initial user namespace, or, before Linux 5.11, beyond
    /// RLIMIT_MEMLOCK; `ENOMEM`; `ENOSYS` without `bpf(2)`.
    pub fn new(bytes: u32, name: &str) -> io::Result<Self> {
        let kind = Kind {
            map_type: MAP_TYPE_ARRAY,
            flags: 0,
            entries: 1,
        };
        Self::of_kind(kind, bytes, name)
    }

    /// As [`new`](Self::new), with one for each processor, of which a program sees its own.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn per_processor(bytes: u32, name: &str) -> io::Result<Self> {
        let kind = Kind {
            map_type: MAP_TYPE_PERCPU_ARRAY,
            flags: 0,
            entries: 1,
        };
        Self::of_kind(kind, bytes, name)
    }

    /// As [`new`](Self::new): many, of a multiple of eight bytes each, which this process can map.
    ///
    /// # Errors
    /// As [`new`](Self::new); `EINVAL` on kernels before 5.5.
    pub fn table(entries: u32, bytes: u32, name: &str) -> io::Result<Self> {
        let kind = Kind {
            map_type: MAP_TYPE_ARRAY,
            flags: F_MMAPABLE,
            entries,
        };
        Self::of_kind(kind, bytes, name)
    }

    fn of_kind(kind: Kind, bytes: u32, name: &str) -> io::Result<Self> {
        let mut attr = MapCreate {
            map_type: kind.map_type,
            key_bytes: length(size_of::<u32>())?,
            value_bytes: bytes,
            entries: kind.entries,
            flags: kind.flags,
            name: name_of(name),
            ..MapCreate::default()
        };
        // SAFETY: MapCreate is the head of the MAP_CREATE attribute and holds no address.
        let fd = unsafe { bpf(MAP_CREATE, &mut attr) }.map(own)?;
        Ok(Self { fd, bytes })
    }

    /// Reads it as words, each of which is whole, though another may be newer.
    ///
    /// # Errors
    /// `InvalidInput` for another number of words than it has.
    pub fn read<const WORDS: usize>(&self) -> io::Result<[u64; WORDS]> {
        if length(size_of::<[u64; WORDS]>())? != self.bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let (key, mut value) = (0_u32, [0_u64; WORDS]);
        let mut attr = MapLookup {
            map_fd: number(self.fd.as_fd()),
            key: address(&raw const key),
            value: address(std::ptr::from_mut(&mut value)),
            ..MapLookup::default()
        };
        // SAFETY: MapLookup is the whole MAP_LOOKUP_ELEM attribute; `key` has the map's four
        // bytes, and `value` as many as its values, for which every bit pattern is valid. Both
        // outlive the call, and nothing else refers to `value`.
        unsafe { bpf(MAP_LOOKUP_ELEM, &mut attr) }?;
        Ok(value)
    }
}

impl AsFd for Value {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Loads a traffic-control classifier; `name` (cut to 15 bytes) shows up in `bpftool prog`.
///
/// # Errors
/// `EPERM` without CAP_BPF and CAP_NET_ADMIN in the initial user namespace, `EINVAL`/`EACCES` when
/// the verifier refuses the program, `ENOSYS` without `bpf(2)`.
pub fn load_classifier(insns: &[Insn], name: &str) -> io::Result<OwnedFd> {
    load(PROG_TYPE_SCHED_CLS, insns, name)
}

/// Loads a socket filter, which answers how many bytes of a packet are taken, 0 for none; `name`
/// as for [`load_classifier`].
///
/// # Errors
/// As [`load_classifier`]; CAP_BPF alone is enough.
pub fn load_socket_filter(insns: &[Insn], name: &str) -> io::Result<OwnedFd> {
    load(PROG_TYPE_SOCKET_FILTER, insns, name)
}

fn load(kind: u32, insns: &[Insn], name: &str) -> io::Result<OwnedFd> {
    const LICENSE: &[u8; 4] = b"MIT\0";
    let mut attr = ProgLoad {
        prog_type: kind,
        insn_count: length(insns.len())?,
        insns: address(insns.as_ptr()),
        license: address(LICENSE.as_ptr()),
        name: name_of(name),
        ..ProgLoad::default()
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "the control thread's wait, not the data path's"
    )]
    let rest = std::thread::sleep;
    patiently(
        || {
            // SAFETY: ProgLoad is the head of the PROG_LOAD attribute; the instructions and the
            // licence are borrowed beyond the call, and insn_count is the slice's length.
            unsafe { bpf(PROG_LOAD, &mut attr) }.map(own)
        },
        rest,
    )
}

/// Tries until the answer is not EAGAIN, or for the [`LOAD_ATTEMPTS`]th time.
fn patiently<T>(
    mut attempt: impl FnMut() -> io::Result<T>,
    mut rest: impl FnMut(Duration),
) -> io::Result<T> {
    for tried in 0..LOAD_ATTEMPTS - 1 {
        match attempt() {
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => rest(LOAD_REST * (1 << tried)),
            answer => return answer,
        }
    }
    attempt()
}

/// As much of a name as there is room for. The kernel takes letters, digits, '_' and '.' only.
fn name_of(text: &str) -> [u8; NAME_LEN] {
    let plain = text
        .bytes()
        .map(|b| if b.is_ascii_alphanumeric() { b } else { b'_' });
    let mut name = [0; NAME_LEN];
    for (slot, byte) in name.iter_mut().take(NAME_LEN - 1).zip(plain) {
        *slot = byte;
    }
    name
}

/// Runs a program once over `frame` (at least 14 bytes) and returns its verdict. A classifier sees
/// it from its first byte on, a socket filter from its fifteenth (`bpf_prog_test_run_skb`,
/// net/bpf/test_run.c).
///
/// # Errors
/// `ENOTSUPP` on kernels before 4.12, `EINVAL` for a frame that is too short.
pub fn try_program(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<i32> {
    run_program(program, frame, &mut [])
}

/// As [`try_program`]; what the program makes of the frame is in `left` afterwards, if there is
/// room for it.
///
/// # Errors
/// As [`try_program`]; `ENOSPC` where there is too little room.
pub fn run_program(program: BorrowedFd<'_>, frame: &[u8], left: &mut [u8]) -> io::Result<i32> {
    let mut attr = TestRun {
        prog_fd: number(program),
        data_size_in: length(frame.len())?,
        data_size_out: length(left.len())?,
        data_in: address(frame.as_ptr()),
        data_out: if left.is_empty() {
            0
        } else {
            address(left.as_mut_ptr())
        },
        repeat: 1,
        ..TestRun::default()
    };
    // SAFETY: TestRun is the head of the PROG_TEST_RUN attribute; `frame` is only read, for
    // data_size_in bytes, and `left`, which nothing else refers to, written for data_size_out at
    // most, or data_out is null.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
    Ok(attr.retval.cast_signed())
}

/// How many programs TCX runs at the ingress of an interface of the calling thread's network
/// namespace, whoever attached them.
///
/// # Errors
/// `EINVAL` on kernels before 6.6, `ENODEV` when the interface is gone, `EPERM` without
/// CAP_NET_ADMIN.
pub fn tcx_ingress_programs(ifindex: u32) -> io::Result<u32> {
    let mut attr = ProgQuery {
        target_ifindex: ifindex,
        attach_type: ATTACH_TCX_INGRESS,
        ..ProgQuery::default()
    };
    // SAFETY: ProgQuery is the head of the PROG_QUERY attribute; all its addresses are null, which
    // asks for the count alone.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    Ok(attr.count)
}

/// Attaches a classifier at the very front of an interface's ingress; it stays attached as long as
/// the returned link is open and the interface exists.
///
/// # Errors
/// `EINVAL` on kernels before 6.6, `ENODEV` when the interface is gone, `EPERM` without
/// CAP_NET_ADMIN.
pub fn attach_tcx_ingress(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreate {
        prog_fd: number(program),
        target_ifindex: ifindex,
        attach_type: ATTACH_TCX_INGRESS,
        flags: F_BEFORE,
        ..LinkCreate::default()
    };
    // SAFETY: LinkCreate is the head of the LINK_CREATE attribute and holds no address.
    unsafe { bpf(LINK_CREATE, &mut attr) }.map(own)
}

/// Swaps the program behind a link; no frame passes unclassified meanwhile.
///
/// # Errors
/// `ENOLINK` when the interface is gone.
pub fn replace_program(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdate {
        link_fd: number(link),
        new_prog_fd: number(program),
        ..LinkUpdate::default()
    };
    // SAFETY: LinkUpdate is the head of the LINK_UPDATE attribute and holds no address.
    unsafe { bpf(LINK_UPDATE, &mut attr) }.map(|_| ())
}

/// The interface a TCX ingress link is attached to; `None` once the interface is gone.
///
/// # Errors
/// `EINVAL` when the descriptor is no link, `InvalidData` when it is a link of another kind.
pub fn attached_to(link: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    let mut info = LinkInfo::default();
    let mut attr = GetInfo {
        fd: number(link),
        info_len: length(size_of::<LinkInfo>())?,
        info: address(std::ptr::from_mut(&mut info)),
    };
    // SAFETY: GetInfo is the whole OBJ_GET_INFO_BY_FD attribute; `info` is a live object of
    // info_len bytes for which every bit pattern is valid, and nothing else refers to it.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    if info.link_type != LINK_TYPE_TCX || info.attach_type != ATTACH_TCX_INGRESS {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Some(info.ifindex).filter(|index| *index != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_interrupted_is_tried_again_and_not_for_ever() {
        let attempts = |answers: &[i32]| {
            let (mut left, mut rested) = (answers.iter(), Vec::new());
            let answer = patiently(
                || match left.next() {
                    Some(&errno) => Err(io::Error::from_raw_os_error(errno)),
                    None => Ok(()),
                },
                |time| rested.push(time.as_millis()),
            );
            let errno = answer.err().and_then(|err| err.raw_os_error());
            (errno, rested)
        };
        assert_eq!(attempts(&[]), (None, vec![]));
        assert_eq!(attempts(&[libc::EAGAIN; 3]), (None, vec![1, 2, 4]));
        assert_eq!(
            attempts(&[libc::EAGAIN, libc::EPERM]),
            (Some(libc::EPERM), vec![1])
        );
        let (errno, rested) = attempts(&[libc::EAGAIN; 20]);
        assert_eq!((errno, rested.len()), (Some(libc::EAGAIN), 9));
        assert_eq!(rested.iter().sum::<u128>(), 511);
    }

    /// `None`, with a printed reason, where the kernel does not let us load programs.
    fn loaded(value: i32) -> Option<OwnedFd> {
        match load_classifier(&Insn::answer(value), "vsw test") {
            Ok(program) => Some(program),
            Err(err) => {
                println!("SKIPPED bpf: {err}");
                None
            }
        }
    }

    #[test]
    fn a_program_runs_and_gives_its_verdict() {
        for value in [2, -1] {
            let Some(program) = loaded(value) else { return };
            assert_eq!(try_program(program.as_fd(), &[0; 64]).unwrap(), value);
        }
    }

    #[test]
    fn a_program_without_an_end_is_refused() {
        let Some(program) = loaded(0) else { return };
        let err = load_classifier(&Insn::answer(0)[..1], "endless").unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::EINVAL));
        // A program is not a link, and an interface that does not exist has no ingress.
        assert!(attached_to(program.as_fd()).is_err());
        let err = attach_tcx_ingress(program.as_fd(), 0x7fff_fff0).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::ENODEV));
        let err = tcx_ingress_programs(0x7fff_fff0).unwrap_err();
        assert_eq!(err.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn a_value_begins_with_nothing_and_is_read_whole() {
        let Some(_) = loaded(0) else { return };
        let value = Value::new(16, "vsw test").unwrap();
        assert_eq!(value.read().unwrap(), [0, 0]);
        let err = value.read::<3>().unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::InvalidInput);
    }
}
