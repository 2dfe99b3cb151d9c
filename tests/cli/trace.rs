//! `vswitch trace`: its screens, and the files it writes and reads.

use super::control::Running;
use super::{Scratch, snapshot, vswitch};

/// Three records of a real run: a packet that was dropped, one that was translated and its answer;
/// between the first two some are missing.
pub(super) const RUN: &str = include_str!("fixtures/run.trace");

#[test]
fn packets_are_told_as_blocks_json_ways_and_files() {
    let running = Running::new();
    let text = running.vswitch("trace icmp");
    assert_eq!(text.code, 3, "the switch has stopped");
    let lost = "3 packets lost: they came faster than they were read\n";
    assert!(text.stderr.starts_with(lost), "{}", text.stderr);
    snapshot("trace.txt", &text.stdout);
    let two = running.vswitch("trace -c 2");
    assert_eq!((two.code, two.stderr.as_str()), (0, lost));
    assert!(text.stdout.starts_with(&two.stdout) && two.stdout.len() < text.stdout.len());
    let json = running.vswitch("trace -j -c 3");
    assert_eq!((json.code, json.stdout.as_str()), (0, RUN));
    let paths = running.vswitch("trace --paths");
    snapshot("trace-paths.txt", &paths.stdout);
    let scratch = Scratch::new();
    let file = scratch.path().join("run.trace");
    let written = running.vswitch(&format!("trace -c 3 -w {}", file.display()));
    let told = format!("3 packets in {}, 3 lost\n", file.display());
    assert_eq!((written.code, written.stderr), (0, told));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), RUN);
}

#[test]
fn a_file_is_read_through_any_filter() {
    let scratch = Scratch::new();
    let file = scratch.file("run.trace", RUN);
    let read = |words: &str| {
        let ended = vswitch(&format!("trace {words} -r"), &[&file]);
        let count = ended
            .stdout
            .lines()
            .filter(|line| line.starts_with('#'))
            .count();
        (ended.code, count)
    };
    for (words, count) in [
        ("", 3),
        ("icmp", 3),
        ("drop", 1),
        ("reason TTL_EXPIRED", 1),
        ("nat", 2),
        ("--no-follow dst host 10.9.0.2", 1),
        ("--no-follow on eth0", 2),
        ("icmp[icmptype] == icmp-echoreply", 1),
        ("icmp[icmptype] == icmp-echo and nat", 2),
        ("--no-follow icmp[icmptype] == icmp-echo and nat", 1),
        ("tcp", 0),
        ("-c 1 nat", 1),
    ] {
        assert_eq!(read(words), (0, count), "{words}");
    }
}

#[test]
fn what_would_become_of_a_packet_is_told_with_its_exit_code() {
    let running = Running::new();
    let dropped = running.vswitch("trace --what-if veth1 icmp 10.9.0.2 > 203.0.113.1 ttl 1");
    assert_eq!((dropped.code, dropped.stderr.as_str()), (4, ""));
    snapshot("trace-what-if.txt", &dropped.stdout);
    let json = running.vswitch("-j trace --what-if veth1 icmp 10.9.0.2 > 203.0.113.1 ttl 1");
    assert_eq!(json.code, 4);
    let answer: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(answer["schema"], "vswitch.what-if/1");
    assert_eq!(
        (&answer["reason"], &answer["dropped"]),
        (&"TTL_EXPIRED".into(), &true.into())
    );
    let absent = running.vswitch("trace --what-if tap:veth9 icmp 10.9.0.2 > 203.0.113.1");
    assert_eq!(absent.code, 1);
    assert_eq!(
        absent.stderr,
        "error: port veth9: there is none; fix: vswitch port\n"
    );
    for (words, why) in [
        (
            "--what-if veth1 tcp 1.1.1.1 > 1.1.1.2",
            "error: packet:15: tcp needs a port",
        ),
        (
            "--what-if veth1",
            "error: packet:1: a packet begins with its protocol; fix: write `tcp`",
        ),
        ("--what-if veth1 -c 3 icmp 1.1.1.1 > 1.1.1.2", "error: "),
        (
            "--what-if veth1 icmp 1.1.1.1 > 1.1.1.2 -r x.pcap",
            "error: icmp 1.1.1.1 > 1.1.1.2: the",
        ),
    ] {
        let refused = running.vswitch(&format!("trace {words}"));
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.stderr.starts_with(why), "{refused:?}");
    }
}

#[test]
fn what_is_no_trace_is_refused_by_name() {
    let scratch = Scratch::new();
    let other = RUN.replace("vswitch.trace/1", "vswitch.trace/2");
    let cut = &RUN[..RUN.len() - 40];
    for (text, why) in [
        (
            other.as_str(),
            ":1: schema vswitch.trace/2 instead of vswitch.trace/1;",
        ),
        (cut, ":4: no record of a trace: EOF while parsing"),
        ("\u{1}\n", ":1: no record of a trace: expected value"),
        (
            "{\"schema\":\"vswitch.trace/1\"}\n",
            ":1: a record that lacks something;",
        ),
    ] {
        let file = scratch.file("run.trace", text);
        let ended = vswitch("trace -r", &[&file]);
        assert_eq!(ended.code, 1, "{ended:?}");
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
    }
    let ended = vswitch("trace icmp adn host 10.9.0.2", &[]);
    assert_eq!(ended.code, 2);
    assert!(
        ended
            .stderr
            .starts_with("error: filter:6: unexpected `adn`"),
        "{ended:?}"
    );
    assert!(
        ended.stderr.ends_with("icmp adn host 10.9.0.2\n     ^^^\n"),
        "{ended:?}"
    );
}
