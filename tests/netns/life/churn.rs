//! Ports that come and go without end, under traffic.

use std::fs;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use vswitch_cli::host::link::VethEnd;

use super::super::world::sums;
use super::bed::{Bed, eventually, netlink, soak};
use super::stream::{Spot, Stream, resumed};

/// Memory a process has in use, KiB.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn churn_once(bed: &Bed, round: u32) {
    let (h, c3) = (bed.h(), bed.net.c(3));
    match round % 4 {
        0 => {
            h.set_up("veth3", false).unwrap();
            h.set_up("veth3", true).unwrap();
        }
        1 => {
            h.delete_link("veth3").unwrap();
            netlink(h, |n| {
                let end = |name, netns| VethEnd {
                    name,
                    netns,
                    ..VethEnd::default()
                };
                n.add_veth(&end("veth3", None), &end("eth0", Some(c3.as_fd())))
            });
            c3.set_up("eth0", true).unwrap();
        }
        2 => {
            for words in ["port del veth3", "port add veth3"] {
                let output = bed.client(words);
                let said = String::from_utf8_lossy(&output.stderr);
                // What takes longer than a client waits is done all the same.
                let is_done = output.status.success() || said.contains("did not answer within");
                assert!(is_done, "{words}: {said}");
            }
        }
        _ => {
            c3.set_up("eth0", false).unwrap();
            c3.set_up("eth0", true).unwrap();
        }
    }
}

/// Goal: churn loses nothing of others' frames, leaks neither memory nor descriptors, and no frame
/// goes unaccounted for. Method: four kinds of churn in turn, numbers compared after the first
/// rounds and at the end.
#[test]
fn ports_that_come_and_go_without_end() {
    let Some(bed) = Bed::new(3) else { return };
    let before = bed.snapshot().without("veth3");
    let running = bed.start("--ports veth1,veth2,veth3 --uplink eth0");
    let stream = Stream::start(bed.net.c(1), bed.net.c(2), bed.net.ip(2));
    for round in 0..8 {
        churn_once(&bed, round);
    }
    settled(&bed);
    let (memory, open) = (resident(running.pid()), descriptors(running.pid()));
    let journal = journal_len(&bed);
    let end = Instant::now() + soak(Duration::from_secs(5));
    let mut round = 0;
    while Instant::now() < end {
        churn_once(&bed, round);
        round += 1;
        thread::sleep(Duration::from_millis(u64::from(round % 5) * 10));
    }
    settled(&bed);
    assert_eq!(descriptors(running.pid()), open, "after {round} rounds");
    let grown = resident(running.pid()).saturating_sub(memory);
    assert!(grown < 8 << 10, "{grown} KiB more after {round} rounds");
    let longer = journal_len(&bed).saturating_sub(journal);
    assert!(
        longer < 64 << 10,
        "{longer} bytes more of journal after {round} rounds"
    );
    stream.finish_whole();
    conserved(&bed);
    running.end(nix::sys::signal::Signal::SIGTERM);
    before.assert_same(&bed.snapshot().without("veth3"));
}

fn journal_len(bed: &Bed) -> u64 {
    fs::metadata(bed.run_dir().join("vswitch0.journal"))
        .unwrap()
        .len()
}

/// The port is back, and the daemon has nothing left to do.
fn settled(bed: &Bed) {
    eventually("up again", || bed.operstate("veth3") == "UP");
    resumed(Spot::of(bed.net.c(1)), Spot::of(bed.net.c(3)));
}

/// Every frame has one fate, every copy an end.
fn conserved(bed: &Bed) {
    // Frames that are under way while the counters are read have no fate yet.
    eventually("every frame accounted for", || {
        let [(came, fates), (made, ended)] = sums(&bed.json("status")["totals"]);
        came == fates && made == ended
    });
}
