//! How many workers, where, and that they sleep.

use std::fs;
use std::thread;
use std::time::Duration;

use super::bed::{Bed, Running};
use super::stream::Stream;

/// Processor time of a process so far, and how often its threads gave up the processor to wait.
fn spent(pid: u32) -> (Duration, u64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let mut switches = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let line = status
            .lines()
            .find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
        switches += line.unwrap().trim().parse::<u64>().unwrap();
    }
    // USER_HZ is 100 on every architecture that Linux runs containers on.
    (Duration::from_millis(ticks * 10), switches)
}

/// Goal: an idle switch sleeps. Method: over two seconds without a frame it uses less than 2 % of a
/// processor, and its threads wake less than 20 times a second.
fn sleeps(running: &Running<'_>, words: &str) {
    let idle = Duration::from_secs(2);
    thread::sleep(Duration::from_millis(300));
    let (before, woken_before) = spent(running.pid());
    thread::sleep(idle);
    let (after, woken_after) = spent(running.pid());
    let used = after - before;
    assert!(used <= idle / 50, "{words}: {used:?} of {idle:?}");
    let woken = woken_after - woken_before;
    assert!(woken < 40, "{words}: woke {woken} times in {idle:?}");
}

/// Goal: with these words frames pass whole, and then it sleeps.
fn works_and_sleeps(words: &str, workers: usize) {
    let Some(bed) = Bed::new(3) else { return };
    for host in bed.net.containers.iter().chain([bed.h(), &bed.net.o]) {
        // No kernel speaks by itself.
        host.sysctl("net/ipv6/conf/all/disable_ipv6", "1").unwrap();
    }
    let before = bed.snapshot();
    let running = bed.start(&format!("--ports veth1,veth2,veth3 --uplink eth0 {words}"));
    let streams = [(1, 2), (2, 3), (3, 1)].map(|(from, to)| {
        let address = bed.net.ip(u8::try_from(to).unwrap());
        Stream::start(bed.net.c(from), bed.net.c(to), address)
    });
    thread::sleep(Duration::from_millis(300));
    for stream in streams {
        stream.finish_whole();
    }
    let status = bed.json("status");
    assert_eq!(
        status["workers"].as_array().unwrap().len(),
        workers,
        "{words}"
    );
    sleeps(&running, words);
    running.ends_as_before(&before);
}

#[test]
fn one_worker() {
    works_and_sleeps("--workers 1 --busy-poll 0", 1);
}

#[test]
fn two_workers_on_chosen_processors() {
    let cpus = switch::port::sys::affinity::allowed_cpus().unwrap();
    let last = cpus.last().unwrap();
    works_and_sleeps(&format!("--workers 2 --cpus {last} --busy-poll 50"), 2);
}

#[test]
fn four_workers_that_spin_a_while() {
    works_and_sleeps("--workers 4 --busy-poll 200", 4);
}
