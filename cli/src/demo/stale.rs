//! What a demo that was killed left behind: named namespaces, and a switch in one of them.
//!
//! A demo holds a lock on each of its namespaces (`flock(2)` on the descriptor that keeps it),
//! which ends with the process however it dies. A namespace with a demo's name is stale when the
//! lock is free and no process has the number in its name: the one alone would also be true for a
//! demo that is just starting, the other for one in another process-id namespace.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::signals::Stopwatch;
use crate::host::netns;
use crate::lab::Host;

/// What the names of all demos' namespaces begin with.
pub(super) const PREFIX: &str = "vswdemo-";

/// How long a switch may take to end.
const END_LIMIT: std::time::Duration = std::time::Duration::from_secs(3);

/// Marks a host's namespace as in use, for as long as this process holds it open.
pub(super) fn mark(host: &Host) -> io::Result<()> {
    // A duplicate shares the lock, which stays with the host's own descriptor.
    let file = File::from(host.as_fd().try_clone_to_owned()?);
    file.try_lock_shared().map_err(io::Error::from)
}

/// Removes what demos that were killed have left; the names of the namespaces.
///
/// # Errors
/// Whatever ending a process or deleting a name says.
pub(super) fn clear(run_dir: &Path) -> io::Result<Vec<String>> {
    let mut cleared = Vec::new();
    for name in netns::names()? {
        let Some(pid) = demo_pid(&name).filter(|pid| is_stale(&name, *pid)) else {
            continue;
        };
        end_switch(run_dir, &format!("demo-{pid}"))?;
        netns::delete(&name)?;
        cleared.push(name);
    }
    Ok(cleared)
}

/// The process whose demo a namespace is: 7 of `vswdemo-7-c1`.
fn demo_pid(name: &str) -> Option<u32> {
    let (pid, _) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.parse().ok()
}

fn is_stale(name: &str, pid: u32) -> bool {
    let runs = Path::new("/proc").join(pid.to_string()).exists();
    let free = |file: File| file.try_lock().is_ok();
    !runs && File::open(Path::new(netns::RUN_NETNS).join(name)).is_ok_and(free)
}

/// Ends the switch called `name`, if one runs. Its lock file has its number, which is believed only
/// where that process was started by this name.
fn end_switch(run_dir: &Path, name: &str) -> io::Result<()> {
    let lock = fs::read_to_string(run_dir.join(format!("{name}.lock"))).unwrap_or_default();
    let Ok(pid) = lock.trim().parse::<i32>() else {
        return Ok(());
    };
    let started_as = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    if !started_as
        .split(|byte| *byte == 0)
        .any(|word| word == name.as_bytes())
    {
        return Ok(());
    }
    let watch = Stopwatch::start();
    kill(Pid::from_raw(pid), Signal::SIGTERM)?;
    while Path::new(&format!("/proc/{pid}")).exists() {
        if watch.elapsed() > END_LIMIT {
            return Ok(kill(Pid::from_raw(pid), Signal::SIGKILL)?);
        }
        watch.pause();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Lab;

    #[test]
    fn only_a_demo_has_a_demo_s_name() {
        assert_eq!(demo_pid("vswdemo-7-c1"), Some(7));
        for other in ["vswdemo-x-c1", "vswdemo-7", "vswlab-7-0-c1", "blue"] {
            assert_eq!(demo_pid(other), None, "{other}");
        }
    }

    #[test]
    fn what_a_killed_demo_left_is_removed_and_nothing_else() {
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let prefix = format!("{PREFIX}{}", ended.id());
        let mut lab = Lab::with_prefix(&prefix);
        // Until it is marked, a demo in another test may take it for one that was left.
        let host = match lab.host("c1").or_else(|_| lab.host("c1")) {
            Ok(host) => host,
            Err(err) => return println!("SKIPPED stale: {err}"),
        };
        let run_dir = std::env::temp_dir();
        let name = format!("{prefix}-c1");
        mark(&host).unwrap();
        assert!(!clear(&run_dir).unwrap().contains(&name), "it is in use");
        assert!(netns::names().unwrap().contains(&name));
        File::from(host.as_fd().try_clone_to_owned().unwrap())
            .unlock()
            .unwrap();
        // A demo in another test may be quicker.
        clear(&run_dir).unwrap();
        assert!(!netns::names().unwrap().contains(&name));
    }

    #[test]
    fn a_switch_is_ended_only_where_it_has_the_name() {
        let run_dir = std::env::temp_dir().join(format!("vswdemo-stale-{}", std::process::id()));
        fs::create_dir_all(&run_dir).unwrap();
        let script = "exec sleep 60 # demo-1";
        let mut other = std::process::Command::new("sh")
            .args(["-c", script])
            .spawn()
            .unwrap();
        fs::write(run_dir.join("demo-1.lock"), format!("{}\n", other.id())).unwrap();
        end_switch(&run_dir, "demo-1").unwrap();
        assert!(
            other.try_wait().unwrap().is_none(),
            "no word of it is demo-1"
        );
        end_switch(&run_dir, "demo-2").unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        fs::remove_dir_all(&run_dir).unwrap();
    }
}
