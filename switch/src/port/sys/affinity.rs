//! On which processors a thread runs.

use std::io;

/// Processors one machine may have, as glibc's `cpu_set_t` counts them.
const CPUS_MAX: usize = libc::CPU_SETSIZE as usize;

fn empty_set() -> libc::cpu_set_t {
    // SAFETY: a cpu_set_t is an array of integers, for which all-zero bytes are the empty set.
    unsafe { std::mem::zeroed() }
}

/// The processors this thread may run on, in ascending order.
///
/// # Errors
/// `EINVAL` on a machine with more than 1,024 processors.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let mut set = empty_set();
    // SAFETY: 0 is this thread, and the set has the size announced.
    super::check(unsafe {
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set)
    })?;
    let is_set = |cpu: &usize| {
        // SAFETY: `cpu` is below CPU_SETSIZE, the number of bits of the set.
        unsafe { libc::CPU_ISSET(*cpu, &set) }
    };
    Ok((0..CPUS_MAX).filter(is_set).collect())
}

/// How much sooner than others a worker runs: as Open vSwitch has its daemon run (`ovs-ctl`,
/// `--ovs-vswitchd-priority`).
const WORKER_NICE: libc::c_int = -10;

/// Has the calling thread run before others that want the processor too, unless it was given a
/// priority of its own (`nice`, systemd's `Nice=`). Without the right to do so nothing changes.
///
/// Eight streams between two namespaces are sixteen threads that want two processors; a worker that
/// waits its turn among them leaves its rings to fill and the senders to wait for it.
pub fn prefer_current_thread() {
    // SAFETY: 0 is this thread; it only reads.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    if nice == 0 {
        // SAFETY: 0 is this thread; only its own scheduling changes.
        let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, WORKER_NICE) };
    }
}

/// How much later than others a thread runs that only looks on.
const READER_NICE: libc::c_int = 10;

/// Has the calling thread run after others that want the processor too, unless it runs later
/// already: what looks on shall not take the time of what it looks at. It cannot be taken back
/// without the right to.
pub fn defer_current_thread() {
    // SAFETY: 0 is this thread; it only reads.
    let nice = unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
    if nice < READER_NICE {
        // SAFETY: 0 is this thread; only its own scheduling changes.
        let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, READER_NICE) };
    }
}

/// Keeps the calling thread on processor `cpu` from now on.
///
/// # Errors
/// `EINVAL` where the machine has no such processor or the thread may not run there.
pub fn pin_current_thread(cpu: usize) -> io::Result<()> {
    if cpu >= CPUS_MAX {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = empty_set();
    // SAFETY: `cpu` is below CPU_SETSIZE, the number of bits of the set.
    unsafe { libc::CPU_SET(cpu, &mut set) };
    // SAFETY: 0 is this thread, and the set has the size announced.
    super::check(unsafe {
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_that_processor_only() {
        let allowed = allowed_cpus().unwrap();
        let last = *allowed.last().unwrap();
        let seen = std::thread::spawn(move || {
            pin_current_thread(last).unwrap();
            allowed_cpus().unwrap()
        });
        assert_eq!(seen.join().unwrap(), [last]);
        assert_eq!(
            allowed_cpus().unwrap(),
            allowed,
            "other threads stay where they were"
        );
        assert!(pin_current_thread(CPUS_MAX).is_err());
    }

    fn nice() -> libc::c_int {
        // SAFETY: 0 is this thread; it only reads.
        unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
    }

    #[test]
    fn a_preferred_thread_is_so_by_itself_and_a_chosen_priority_stays() {
        let before = nice();
        let seen = std::thread::spawn(|| {
            // SAFETY: 0 is this thread; only its own scheduling changes.
            let chosen = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 3) };
            prefer_current_thread();
            (chosen, nice())
        });
        assert_eq!(seen.join().unwrap(), (0, 3));
        let seen = std::thread::spawn(|| {
            prefer_current_thread();
            nice()
        });
        // Whoever may not raise it stays at 0.
        assert!([WORKER_NICE, before].contains(&seen.join().unwrap()));
        let deferred = std::thread::spawn(|| {
            super::defer_current_thread();
            super::defer_current_thread();
            nice()
        });
        assert_eq!(deferred.join().unwrap(), super::READER_NICE.max(before));
        assert_eq!(nice(), before, "other threads stay as they were");
    }
}
