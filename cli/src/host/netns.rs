//! Network namespaces: create, open, enter, delete.
//!
//! # Theory of operation
//!
//! `setns(2)` and `unshare(2)` change the calling *thread*. A thread that fails to come back
//! would silently do everything afterwards in the wrong place, so none ever goes: [`in_netns`] runs
//! its closure on a thread of its own that ends with the closure.
//!
//! A named namespace is a file under `/run/netns` on which the namespace is bind-mounted, exactly
//! as `ip netns add` makes it, so that `ip netns exec` and `ip -n` work on ours and we on theirs.
//! An anonymous one lives as long as somebody holds a descriptor of it, a process in it or a
//! socket: nothing is left behind, not even after a SIGKILL.
//!
//! Beware of `/proc/self/ns/net` and `/proc/net`: they are the *main* thread's. Everything here
//! reads `/proc/thread-self`.
//!
//! Source: setns(2), namespaces(7), iproute2's `ip/ipnetns.c`.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};

use super::netlink::Netlink;

/// Where iproute2 and we keep named namespaces.
pub const RUN_NETNS: &str = "/run/netns";
const THREAD_NS: &str = "/proc/thread-self/ns/net";

/// The identity of a network namespace: device and inode number of its `nsfs` file.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct NetnsId {
    /// Device number of `nsfs`.
    pub dev: u64,
    /// Inode number; unique among the namespaces that exist at one time.
    pub ino: u64,
}

/// An open network namespace; it exists at least as long as this value.
#[derive(Debug)]
pub struct Netns {
    file: File,
    name: Option<String>,
}

impl Netns {
    /// The calling thread's network namespace.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn current() -> io::Result<Self> {
        Ok(Self {
            file: File::open(THREAD_NS)?,
            name: None,
        })
    }

    /// Makes a namespace without a name and brings its loopback up.
    ///
    /// # Errors
    /// `EPERM` without CAP_SYS_ADMIN.
    pub fn anonymous() -> io::Result<Self> {
        let file = on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            bring_loopback_up()?;
            File::open(THREAD_NS)
        })?;
        Ok(Self { file, name: None })
    }

    /// Makes the namespace `name` under `/run/netns`, as `ip netns add` does, and brings its
    /// loopback up.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken, `EINVAL` when it is no file name, `EPERM` without
    /// CAP_SYS_ADMIN.
    pub fn create(name: &str) -> io::Result<Self> {
        let path = path_of(name)?;
        share_run_netns()?;
        File::options().write(true).create_new(true).open(&path)?;
        let made = on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            bring_loopback_up()?;
            mount(
                Some(THREAD_NS),
                &path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )?;
            File::open(&path)
        });
        match made {
            Ok(file) => Ok(Self {
                file,
                name: Some(name.to_owned()),
            }),
            Err(err) => {
                let _ = fs::remove_file(&path);
                Err(err)
            }
        }
    }

    /// Opens the namespace `name` of `/run/netns`.
    ///
    /// # Errors
    /// `ENOENT` when there is none; `EINVAL` when the file is there but no namespace is mounted
    /// on it (left behind by a program that was killed).
    pub fn open(name: &str) -> io::Result<Self> {
        let file = File::open(path_of(name)?)?;
        // Only proc and nsfs files have the device of an nsfs file; a bare file is on the tmpfs.
        if file.metadata()?.dev() != fs::metadata(THREAD_NS)?.dev() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{RUN_NETNS}/{name} is not a network namespace"),
            ));
        }
        Ok(Self {
            file,
            name: Some(name.to_owned()),
        })
    }

    /// Opens the network namespace of process `pid`.
    ///
    /// # Errors
    /// `ENOENT` when there is no such process, `EACCES` without CAP_SYS_PTRACE over it.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Ok(Self {
            file: File::open(format!("/proc/{pid}/ns/net"))?,
            name: None,
        })
    }

    /// The name under `/run/netns` by which this namespace was created or opened.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Which namespace this is.
    ///
    /// # Errors
    /// Whatever `fstat(2)` says.
    pub fn id(&self) -> io::Result<NetnsId> {
        let meta = self.file.metadata()?;
        Ok(NetnsId {
            dev: meta.dev(),
            ino: meta.ino(),
        })
    }

    /// Runs `f` inside this namespace; see [`in_netns`].
    ///
    /// # Errors
    /// When the namespace cannot be entered; `f` has not run then.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> io::Result<T> {
        in_netns(self.as_fd(), f)
    }

    /// Removes the name; the namespace itself goes when nobody uses it any more.
    ///
    /// # Errors
    /// Whatever `umount(2)` and `unlink(2)` say; a namespace without a name has nothing to delete.
    pub fn delete(self) -> io::Result<()> {
        match &self.name {
            Some(name) => delete(name),
            None => Ok(()),
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A named namespace that is deleted when the value goes out of scope: for demos and tests.
#[derive(Debug)]
pub struct ScopedNetns(Option<Netns>);

impl ScopedNetns {
    /// As [`Netns::create`].
    ///
    /// # Errors
    /// As [`Netns::create`].
    pub fn create(name: &str) -> io::Result<Self> {
        Netns::create(name).map(|netns| Self(Some(netns)))
    }
}

impl std::ops::Deref for ScopedNetns {
    type Target = Netns;

    fn deref(&self) -> &Netns {
        match &self.0 {
            Some(netns) => netns,
            None => unreachable!("only Drop takes the namespace"),
        }
    }
}

impl Drop for ScopedNetns {
    fn drop(&mut self) {
        if let Some(netns) = self.0.take() {
            // It may have been deleted by hand meanwhile, which is just as good.
            let _ = netns.delete();
        }
    }
}

/// Deletes the namespace name `name`, as `ip netns del` does.
///
/// # Errors
/// `ENOENT` when there is none.
pub fn delete(name: &str) -> io::Result<()> {
    let path = path_of(name)?;
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: a bare file on which nothing is mounted; the file still has to go.
        Ok(()) | Err(nix::errno::Errno::EINVAL) => {}
        Err(err) => return Err(err.into()),
    }
    fs::remove_file(path)
}

/// The names of all namespaces under `/run/netns`, sorted.
///
/// # Errors
/// Whatever reading the directory says; a missing directory is an empty list.
pub fn names() -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(RUN_NETNS) {
        Ok(entries) => entries,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(err) => return Err(err),
    };
    let mut names = Vec::new();
    for entry in entries {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Identity of the calling thread's network namespace.
///
/// # Errors
/// When `/proc` is not mounted.
pub fn current_id() -> io::Result<NetnsId> {
    let meta = fs::metadata(THREAD_NS)?;
    Ok(NetnsId {
        dev: meta.dev(),
        ino: meta.ino(),
    })
}

/// Runs `f` on a fresh thread inside the namespace `netns` and returns its result.
///
/// Sockets and files opened by `f` stay in that namespace; programs started by `f` start in it. A
/// panic of `f` goes on in the caller.
///
/// # Errors
/// When the thread cannot be started or the namespace not entered; `f` has not run then.
pub fn in_netns<T: Send>(netns: BorrowedFd<'_>, f: impl FnOnce() -> T + Send) -> io::Result<T> {
    on_own_thread(|| {
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        Ok(f())
    })
}

fn on_own_thread<T: Send>(f: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let handle = thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, f)?;
        handle
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn bring_loopback_up() -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    netlink.set_up(1, true)
}

fn path_of(name: &str) -> io::Result<PathBuf> {
    let bad = name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']);
    if bad || name.len() > 255 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} cannot name a network namespace"),
        ));
    }
    Ok(Path::new(RUN_NETNS).join(name))
}

/// Makes `/run/netns` a shared mount, so that names made or deleted in one mount namespace are
/// seen, and can be freed, in all of them (iproute2's `create_netns_dir` and `netns_add`).
fn share_run_netns() -> io::Result<()> {
    let dir = Path::new(RUN_NETNS);
    fs::create_dir_all(dir)?;
    let share = || {
        let flags = MsFlags::MS_SHARED | MsFlags::MS_REC;
        mount(None::<&str>, dir, None::<&str>, flags, None::<&str>)
    };
    if share().is_ok() {
        return Ok(());
    }
    // Not a mount point yet: bind it onto itself first.
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(dir), dir, None::<&str>, flags, None::<&str>)?;
    share().map_err(io::Error::from)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Runs a test body in a namespace of its own; says why when the kernel refuses.
    pub(crate) fn in_fresh_netns(test: &str, f: impl FnOnce() + Send) {
        match Netns::anonymous() {
            Ok(netns) => netns.run(f).expect("enter the namespace"),
            Err(err) => println!("SKIPPED {test}: cannot make a network namespace: {err}"),
        }
    }

    fn unique(what: &str) -> String {
        format!("vsw{what}-{}", std::process::id())
    }

    #[test]
    fn names_that_are_paths_are_refused() {
        for name in ["", ".", "..", "a/b", "a\0b"] {
            assert_eq!(
                path_of(name).unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_thread_never_stays_in_the_wrong_namespace() {
        let before = current_id().unwrap();
        let netns = match Netns::anonymous() {
            Ok(netns) => netns,
            Err(err) => return println!("SKIPPED netns: {err}"),
        };
        let inside = netns.run(current_id).unwrap().unwrap();
        assert_eq!(inside, netns.id().unwrap());
        assert_ne!(inside, before);
        assert_eq!(current_id().unwrap(), before);
        let panicked = std::panic::catch_unwind(|| netns.run(|| panic!("inside")));
        assert!(panicked.is_err());
        assert_eq!(current_id().unwrap(), before);
    }

    #[test]
    fn a_named_namespace_is_one_for_iproute2_too() {
        let name = unique("name");
        let netns = match ScopedNetns::create(&name) {
            Ok(netns) => netns,
            Err(err) => return println!("SKIPPED netns names: {err}"),
        };
        assert!(names().unwrap().contains(&name));
        let again = Netns::create(&name).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(
            Netns::open(&name).unwrap().id().unwrap(),
            netns.id().unwrap()
        );
        let out = std::process::Command::new("ip")
            .args(["-n", &name, "-br", "link", "show", "lo"])
            .output()
            .unwrap();
        assert!(
            String::from_utf8_lossy(&out.stdout).contains("UP"),
            "{out:?}"
        );
        drop(netns);
        assert!(!names().unwrap().contains(&name));
        assert_eq!(
            Netns::open(&name).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn a_bare_file_is_not_a_namespace_but_can_be_deleted() {
        let name = unique("bare");
        if let Err(err) = share_run_netns() {
            return println!("SKIPPED netns bare file: {err}");
        }
        File::create(Path::new(RUN_NETNS).join(&name)).unwrap();
        assert_eq!(
            Netns::open(&name).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
        delete(&name).unwrap();
    }

    #[test]
    fn a_process_namespace_is_found_by_pid() {
        let own = Netns::of_process(std::process::id()).unwrap();
        assert_eq!(own.id().unwrap(), current_id().unwrap());
    }
}
