//! Processor time: the forwarder's and the machine's.
//!
//! The forwarder's is read from the CPU clocks of its processes (`clock_getcpuclockid(3)`): what
//! the scheduler has charged to all threads, those that have ended included, to the nanosecond and
//! up to the moment of reading. `/proc/PID/stat` says the same in ticks of 10 ms.
//!
//! The machine's is from `/proc/stat`, in ticks: user, nice, system and both kinds of interrupts.
//! Idle and waiting for disks is not spent, and what the hypervisor took (steal) was never ours.
//!
//! A forwarder in the kernel has no processes. Its work is done in softirqs, on behalf of whoever
//! happens to run, and shows up **only in the machine's time**; so does the part of the work for
//! any forwarder that the kernel does behind a packet socket. Only the machine's time compares
//! forwarders of different kinds, and it includes client and server.

use std::fs;
use std::time::Duration;

use nix::sys::time::TimeValLike;
use nix::time::clock_getcpuclockid;
use nix::unistd::{Pid, SysconfVar, sysconf};

use super::LoadError;
use crate::bench::sample::Cpu;

const STAT: &str = "/proc/stat";

/// The clocks as they stood at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    forwarder: Duration,
    machine: Duration,
}

impl Reading {
    /// Reads the clocks of `processes` and of the machine.
    ///
    /// # Errors
    /// [`LoadError::Path`] when one of the processes has ended, [`LoadError::Machine`] without
    /// `/proc`.
    pub fn now(processes: &[u32]) -> Result<Self, LoadError> {
        let mut forwarder = Duration::ZERO;
        for &process in processes {
            forwarder += of_process(process)?;
        }
        Ok(Self {
            forwarder,
            machine: of_machine()?,
        })
    }

    /// What was spent from `self` until now.
    ///
    /// # Errors
    /// As [`now`](Self::now).
    pub fn until_now(&self, processes: &[u32]) -> Result<Cpu, LoadError> {
        let now = Self::now(processes)?;
        Ok(Cpu {
            forwarder: now.forwarder.saturating_sub(self.forwarder),
            machine: now.machine.saturating_sub(self.machine),
        })
    }
}

fn of_process(process: u32) -> Result<Duration, LoadError> {
    let read = || {
        let pid = i32::try_from(process).map_err(|_| nix::errno::Errno::ESRCH)?;
        clock_getcpuclockid(Pid::from_raw(pid))?.now()
    };
    let spent = read().map_err(|errno| {
        let what = format!("read the processor time of the forwarder's process {process}");
        LoadError::path(what, errno.desc())
    })?;
    Ok(Duration::from_nanos(
        u64::try_from(spent.num_nanoseconds()).unwrap_or(0),
    ))
}

fn of_machine() -> Result<Duration, LoadError> {
    let what = || format!("read {STAT}");
    let text = fs::read_to_string(STAT).map_err(|err| LoadError::machine(what(), err))?;
    let per_second = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    let per_second = per_second.and_then(|ticks| u32::try_from(ticks).ok());
    let per_second = per_second.filter(|&ticks| ticks > 0).unwrap_or(100);
    let ticks = busy_ticks(&text);
    let ticks = ticks.ok_or_else(|| LoadError::machine(what(), "no line of the sum"))?;
    Ok(Duration::from_secs_f64(
        ticks as f64 / f64::from(per_second),
    ))
}

/// The busy ticks of all processors: columns 1 user (which includes guests), 2 nice, 3 system,
/// 6 irq, 7 softirq; 4 is idle, 5 iowait, 8 steal (proc_stat(5)).
fn busy_ticks(text: &str) -> Option<u64> {
    let sum = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let mut columns = [0; 7];
    let mut words = sum.split_whitespace();
    for column in &mut columns {
        *column = words.next()?.parse().ok()?;
    }
    let [user, nice, system, _idle, _iowait, irq, softirq] = columns;
    Some(user + nice + system + irq + softirq)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use super::*;

    #[test]
    fn neither_idle_nor_steal_is_busy() {
        let text = "cpu  1 20 300 4000 50000 600000 7000000 8 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(text), Some(1 + 20 + 300 + 600_000 + 7_000_000));
        assert_eq!(busy_ticks("cpu0 1 1 1 1 1 1 1\n"), None);
        assert_eq!(busy_ticks("cpu  1 2 3\n"), None);
    }

    #[test]
    fn a_thread_that_burns_and_ends_is_counted() {
        let own = [std::process::id()];
        let before = Reading::now(&own).unwrap();
        let burnt = thread::spawn(|| {
            let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
            let until = Duration::from_millis(60);
            while Duration::from(clock.now().unwrap()) < until {}
            until
        });
        let burnt = burnt.join().unwrap();
        let spent = before.until_now(&own).unwrap();
        assert!(spent.forwarder >= burnt, "{spent:?}");
        // Ticks are sampled: six of them may come out as fewer, but not as none.
        assert!(spent.machine > Duration::ZERO, "{spent:?}");
        assert!(Reading::now(&[]).unwrap().forwarder.is_zero());
    }

    #[test]
    fn a_forwarder_that_is_gone_is_an_error() {
        let mut child = Command::new("true").spawn().unwrap();
        let id = child.id();
        child.wait().unwrap();
        let err = Reading::now(&[id]).unwrap_err().to_string();
        assert!(err.contains(&id.to_string()), "{err}");
        assert!(Reading::now(&[u32::MAX]).is_err());
    }
}
