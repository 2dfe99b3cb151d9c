//! The right to make network namespaces: as root, or in a user namespace of our own.
//!
//! # Theory of operation
//!
//! With CAP_SYS_ADMIN and CAP_NET_ADMIN namespaces are made right away and get names under
//! `/run/netns`, where `ip netns` finds them. Without, the process first moves into a new user
//! namespace, in which it holds every capability, with a mount and a network namespace of its own.
//! There `/run` is a fresh tmpfs, so that `/run/netns` and `/run/vswitch` are ours to write. The
//! same is done where `/run` cannot be written although the capabilities are there, as in another
//! user namespace or on a read-only root.
//!
//! All of it changes the calling thread only, or must be done while there is just one; so it comes
//! before anything else.
//!
//! Source: user_namespaces(7), mount_namespaces(7), capabilities(7).

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{AccessFlags, access, getegid, geteuid};

use crate::error::CliError;

/// Bits of `CapEff` (`include/uapi/linux/capability.h`).
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;

/// By what right the demo makes its namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sandbox {
    /// The process may, and `/run` is the machine's.
    Machine,
    /// In a mount namespace with a `/run` of its own.
    OwnRun,
    /// In a user namespace.
    OwnUser,
}

/// The knobs of distributions and containers that forbid user namespaces, the value that does,
/// and what they are.
const FORBIDDERS: [(&str, &str, &str); 3] = [
    (
        "/proc/sys/user/max_user_namespaces",
        "0",
        "user.max_user_namespaces is 0",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "0",
        "kernel.unprivileged_userns_clone is 0",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "AppArmor restricts user namespaces",
    ),
];

impl Sandbox {
    /// Gets the right to make namespaces, moving this process as far as it needs.
    ///
    /// # Errors
    /// Where neither way is open: what, why, and the command that will do.
    pub(super) fn enter() -> Result<Self, CliError> {
        let run = Path::new("/run");
        if has_capabilities() {
            if access(run, AccessFlags::W_OK).is_ok() {
                return Ok(Self::Machine);
            }
            return own_run().map(|()| Self::OwnRun).map_err(|err| {
                let why = format!(
                    "{} cannot be written, nor another put there: {err}",
                    run.display()
                );
                CliError::failed("demo", why, "sudo vswitch demo")
            });
        }
        own_user()
            .and_then(|()| own_run())
            .map(|()| Self::OwnUser)
            .map_err(|err| forbidden(&err))
    }

    /// The beginning of a command that enters where process `pid` of this sandbox lives.
    pub(super) fn way_in(self, pid: u32) -> String {
        match self {
            Self::Machine => String::new(),
            Self::OwnRun => format!("nsenter -m -t {pid} "),
            Self::OwnUser => format!("nsenter --preserve-credentials -U -m -t {pid} "),
        }
    }
}

fn forbidden(err: &io::Error) -> CliError {
    let knob = FORBIDDERS
        .iter()
        .find(|(file, value, _)| fs::read_to_string(file).is_ok_and(|text| text.trim() == *value));
    let reason = match knob {
        Some((_, _, words)) => (*words).to_owned(),
        None => format!("a user namespace is refused ({err})"),
    };
    let why = format!("needs network namespaces, but this is not root and {reason}");
    CliError::failed("demo", why, "sudo vswitch demo")
}

fn has_capabilities() -> bool {
    let Ok(status) = fs::read_to_string("/proc/thread-self/status") else {
        return false;
    };
    let effective = effective_capabilities(&status);
    let wanted = [CAP_NET_ADMIN, CAP_NET_RAW, CAP_SYS_ADMIN];
    wanted.iter().all(|bit| effective & (1_u64 << bit) != 0)
}

/// The set `CapEff` of `/proc/.../status`, empty when it is not there.
fn effective_capabilities(status: &str) -> u64 {
    let mut lines = status.lines();
    let set = lines.find_map(|line| line.strip_prefix("CapEff:"));
    set.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

/// Moves this process, which has one thread, into a user namespace in which it is root.
fn own_user() -> io::Result<()> {
    let (user, group) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    // Without this the kernel does not take a group map from an ordinary user.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// Puts a fresh `/run` under this thread and those it starts.
fn own_run() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let nothing = None::<&str>;
    // Nothing that is mounted from here on may show up on the machine.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        flags,
        Some("mode=755"),
    )?;
    Ok(())
}

/// Why there can be no host port, or `None` when there can.
pub(super) fn no_host_port() -> Option<String> {
    let tun = "/dev/net/tun";
    match File::options().read(true).write(true).open(tun) {
        Ok(_) => None,
        Err(err) => {
            let code = err.raw_os_error().map(Errno::from_raw);
            Some(match code {
                Some(Errno::ENOENT | Errno::ENODEV | Errno::ENXIO) => format!("there is no {tun}"),
                Some(Errno::EACCES | Errno::EPERM) => format!("{tun} is closed to this user"),
                _ => format!("{tun} cannot be opened: {err}"),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status() {
        let text = "Name:\tx\nCapPrm:\t0\nCapEff:\t0000000000203000\nCapBnd:\tffff\n";
        assert_eq!(effective_capabilities(text), 1 << 21 | 1 << 13 | 1 << 12);
        assert_eq!(effective_capabilities("Name:\tx\n"), 0);
    }

    #[test]
    fn the_refusal_is_one_line_with_a_way_out() {
        let line = forbidden(&Errno::EPERM.into()).to_string();
        assert!(!line.contains('\n'), "{line}");
        assert!(
            line.starts_with("error: demo: needs network namespaces"),
            "{line}"
        );
        assert!(line.ends_with("fix: sudo vswitch demo"), "{line}");
    }

    #[test]
    fn the_way_in_names_the_process() {
        assert_eq!(Sandbox::Machine.way_in(7), "");
        assert!(Sandbox::OwnUser.way_in(7).contains("-U -m -t 7 "));
    }
}
