//! The control socket end to end: the real server and the real program, and a small owner between.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use crossbeam_channel::bounded;
use vswitch_cli::control::server::BODY_BYTES_MAX;
use vswitch_cli::control::{Instance, Request, Server};

use super::world::owner;
use super::{Ended, Scratch, vswitch};

/// A server named `lab` with its owner, in a directory of its own.
pub(super) struct Running {
    server: Option<Server>,
    owner: Option<JoinHandle<()>>,
    instance: Instance,
    scratch: Scratch,
}

impl Running {
    pub(super) fn new() -> Self {
        let scratch = Scratch::new();
        let mut instance = Instance::claim(scratch.path(), "lab").unwrap();
        let (sender, owner) = owner();
        let server = Server::start(instance.listen().unwrap(), None, sender).unwrap();
        Self {
            server: Some(server),
            owner: Some(owner),
            instance,
            scratch,
        }
    }

    pub(super) fn vswitch(&self, words: &str) -> Ended {
        let run_dir = self.scratch.path().display();
        vswitch(&format!("--name lab --run-dir {run_dir} {words}"), &[])
    }

    pub(super) fn raw(&self, request: &str) -> (u16, String) {
        raw(self.instance.socket_path(), request)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.server.take());
        // The server held the only sender, so its owner ends with it.
        self.owner.take().unwrap().join().unwrap();
    }
}

/// Status and body of a request written by hand; `Connection: close` is added.
fn raw(socket: &std::path::Path, request: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(socket).unwrap();
    let (line, rest) = request.split_once("\r\n").unwrap_or((request, "\r\n"));
    let text = format!("{line} HTTP/1.1\r\nHost: v\r\nConnection: close\r\n{rest}");
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[test]
fn sessions_are_selected_by_words_and_printed_as_conntrack_does() {
    let running = Running::new();
    let lines = running.vswitch("nat --format conntrack proto udp");
    assert_eq!(
        lines.stdout,
        "udp      17 29 src=10.77.0.20 dst=9.9.9.9 sport=5353 dport=53 packets=21 bytes=2100 \
         [UNREPLIED] src=9.9.9.9 dst=192.0.2.10 sport=53 dport=61008 packets=64 bytes=88000 \
         mark=0 use=1\n"
    );
    assert_eq!(lines.stderr, "conntrack lines of 1 sessions\n");
    let table = running.vswitch("nat show proto tcp --brief").stdout;
    assert_eq!(table.lines().count(), 1, "{table}");
    for words in [
        "nat proto",
        "nat prot tcp",
        "nat flush port x",
        "nat show host 1.2.3",
    ] {
        let ended = running.vswitch(words);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{words}");
        assert!(
            ended.stderr.contains("fix: vswitch nat"),
            "{}",
            ended.stderr
        );
    }
    // What a hand writes into the query is read as strictly.
    for query in [
        "/nat?port=x",
        "/nat?most=x",
        "/nat?summary&most=3",
        "/nat?prot=tcp",
        "/nat?host=1.2.3.4&host=1.2.3.5",
    ] {
        assert_eq!(running.raw(&format!("GET {query}")).0, 400, "{query}");
    }
    assert_eq!(running.raw(&post("/nat/flush?prot=tcp", "")).0, 400);
    assert_eq!(running.raw(&post("/nat/flush?most=3", "")).0, 400);
    let (status, summary) = running.raw("GET /nat?summary");
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!((status, &summary["summary"]["sessions"]), (200, &2.into()));
    assert_eq!(summary["sessions"], serde_json::json!([]));
}

#[test]
fn the_rfcs_requirements_are_reported_and_a_broken_must_would_be_exit_code_4() {
    let running = Running::new();
    let report = running.vswitch("nat report");
    assert_eq!(report.code, 0, "{}", report.stderr);
    let last = report.stdout.lines().last().unwrap();
    assert_eq!(last, "25 of 25 MUST and 4 of 7 SHOULD are met");
    let json: serde_json::Value =
        serde_json::from_str(&running.vswitch("-j nat report").stdout).unwrap();
    assert_eq!(json["schema"], "vswitch.nat-report/1");
    assert_eq!(json["requirements"].as_array().unwrap().len(), 32);
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn patch(path: &str, body: &str) -> String {
    post(path, body).replacen("POST", "PATCH", 1)
}

#[test]
fn tables_are_shown_and_json_is_the_body_of_the_same_get() {
    let running = Running::new();
    for (noun, path) in [
        ("port", "/ports"),
        ("fdb", "/fdb"),
        ("neigh", "/neigh"),
        ("nat", "/nat"),
        ("drops", "/drops"),
        ("latency", "/latency"),
        ("status", "/status"),
    ] {
        let shown = running.vswitch(noun);
        assert_eq!((shown.code, shown.stderr.as_str()), (0, ""), "{noun}");
        assert!(!shown.stdout.contains('\u{1b}'), "no colour into a pipe");
        let json = running.vswitch(&format!("-j {noun}"));
        let (status, body) = running.raw(&format!("GET {path}"));
        assert_eq!((json.code, status), (0, 200));
        assert_eq!(json.stdout, format!("{body}\n"));
    }
    assert!(
        running
            .vswitch("--color=always fdb")
            .stdout
            .contains("\u{1b}[1mMAC")
    );
    assert!(
        running
            .vswitch("--brief port")
            .stdout
            .starts_with("veth-blue  up  02:77:0a:4d:00:00\n")
    );
}

/// Goal: a jq line written for `bridge -j fdb` or `ip -j -s link` finds its keys.
#[test]
fn the_keys_of_iproute2_are_where_scripts_look_for_them() {
    let running = Running::new();
    let json = |noun: &str| -> serde_json::Value {
        serde_json::from_str(&running.vswitch(&format!("-j {noun}")).stdout).unwrap()
    };
    let fdb = json("fdb");
    for key in [
        "mac", "ifname", "vlan", "flags", "master", "state", "age", "port",
    ] {
        assert!(fdb[0].get(key).is_some(), "{key}");
    }
    let link = json("port");
    assert_eq!(link[0]["stats64"]["rx"]["packets"], 81_200);
    assert_eq!(link[0]["operstate"], "UP");
    assert_eq!(json("neigh")[0]["state"][0], "REACHABLE");
}

#[test]
fn changes_are_made_and_told_in_one_line_on_stderr() {
    let running = Running::new();
    for (words, line) in [
        ("port add tap:web1,worker=1", "port tap:web1 added"),
        (
            "port set tap:web1 worker=0",
            "web1 moved from worker 1 to worker 0",
        ),
        ("port del tap:web1", "port web1 closed"),
        (
            "fdb add 2:0:0:0:0:7 dev veth-blue",
            "02:00:00:00:00:07 fixed to veth-blue",
        ),
        ("fdb del 02:00:00:00:00:07", "02:00:00:00:00:07 forgotten"),
        ("fdb flush dev web0", "0 stations forgotten"),
        ("fdb flush", "2 stations forgotten"),
        ("nat flush", "2 sessions ended"),
        ("latency --reset", "latency of 2 pairs forgotten"),
        ("nat publish 80:veth-blue", "published 0.0.0.0:80/tcp"),
    ] {
        let expected = Ended {
            code: 0,
            stdout: String::new(),
            stderr: format!("{line}\n"),
        };
        assert_eq!(running.vswitch(words), expected, "{words}");
    }
    assert_eq!(running.vswitch("-q nat flush").stderr, "");
    let json = running.vswitch("-j nat flush").stdout;
    assert_eq!(
        json,
        "{\"schema\":\"vswitch.done/1\",\"message\":\"0 sessions ended\",\"count\":0}\n"
    );
}

#[test]
fn refusals_of_the_switch_reach_the_operator_in_one_line() {
    let running = Running::new();
    for (words, line) in [
        (
            "port del veth9",
            "port veth9: there is none; fix: vswitch port",
        ),
        (
            "nat unpublish 127.0.0.1:80-90/udp",
            "published port 127.0.0.1:80-90/udp: there is none; fix: vswitch nat",
        ),
        (
            "port set veth9 worker=1",
            "port veth9: there is none; fix: vswitch port",
        ),
        (
            "port add eth0",
            "eth0: is a port already; fix: vswitch port del eth0",
        ),
        (
            "fdb del 02:00:00:00:00:99",
            "station 02:00:00:00:00:99: there is none; fix: vswitch fdb",
        ),
        ("neigh flush", "neigh flush: the owner is busy"),
        (
            "port del hang0",
            "the switch: did not answer within 3 s: its loop hangs; \
             fix: look at its log, or restart it",
        ),
    ] {
        let stderr = format!("error: {line}\n");
        let expected = Ended {
            code: 1,
            stdout: String::new(),
            stderr,
        };
        assert_eq!(running.vswitch(words), expected, "{words}");
    }
}

#[test]
fn bad_requests_are_refused_with_a_reason_before_they_reach_the_switch() {
    let running = Running::new();
    let long = "x".repeat(BODY_BYTES_MAX + 1);
    for (request, status, part) in [
        ("GET /nope".into(), 404, "no such path"),
        ("PUT /fdb".into(), 405, "not this method here"),
        (post("/fdb", "{"), 400, "EOF while parsing"),
        (
            post("/fdb", r#"{"mac":"02:00:00:00:00:01"}"#),
            400,
            "missing field `port`",
        ),
        (
            post("/fdb", r#"{"mac":"x","port":"a"}"#),
            400,
            "not a MAC address",
        ),
        (
            post("/fdb", r#"{"mac":"02:00:00:00:00:01","port":"a","age":1}"#),
            400,
            "unknown field `age`",
        ),
        (
            post("/ports", r#"{"port":"veth1,mtu=9"}"#),
            400,
            "no option `mtu`",
        ),
        (
            patch("/ports/veth-blue", r#"{"worker":-1}"#),
            400,
            "invalid value: integer `-1`, expected u16",
        ),
        (
            patch("/ports/veth-blue", r#"{"ring":"4MiB"}"#),
            400,
            "unknown field `ring`, expected `worker`",
        ),
        (patch("/ports", "{}"), 405, "PATCH changes"),
        (post("/ports", &long), 413, "longer than 1048576 bytes"),
        (post("/fdb/flush?prot=a", ""), 400, "unknown field `prot`"),
        (
            "DELETE /fdb/ff:ff:ff:ff:ff:ff".into(),
            400,
            "a group or zero address",
        ),
        ("DELETE /ports/no%2Fsuch".into(), 404, "there is none"),
    ] {
        let (got, body) = running.raw(&request);
        let line = request.lines().next().unwrap();
        assert_eq!(got, status, "{line}: {body}");
        assert!(
            body.starts_with(r#"{"schema":"vswitch.error/1","error":""#),
            "{line}: {body}"
        );
        assert!(body.contains(part), "{line}: {body}");
    }
}

#[test]
fn the_socket_is_for_owner_and_group_and_gone_with_its_instance() {
    let running = Running::new();
    let path = running.instance.socket_path().to_owned();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o660
    );
    let left = |directory: &std::path::Path| {
        let mut names: Vec<_> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(left(running.scratch.path()), ["lab.lock", "lab.sock"]);
    let scratch = Scratch::new();
    drop(Instance::claim(scratch.path(), "lab").unwrap());
    assert!(left(scratch.path()).is_empty(), "nothing is left behind");
}

#[test]
fn a_name_can_be_claimed_once_at_a_time() {
    let scratch = Scratch::new();
    let first = Instance::claim(scratch.path(), "lab").unwrap();
    let error = Instance::claim(scratch.path(), "lab").unwrap_err();
    let line = format!(
        "error: vswitch lab: is running already (pid {}); \
         fix: vswitch --name OTHER, or stop that one",
        std::process::id()
    );
    assert_eq!(error.to_string(), line);
    drop(Instance::claim(scratch.path(), "other").unwrap());
    drop(first);
    drop(Instance::claim(scratch.path(), "lab").unwrap());
}

/// Goal: of many that start at once exactly one wins, also while others end.
#[test]
fn claims_do_not_race() {
    let scratch = Scratch::new();
    let holders = std::sync::atomic::AtomicU32::new(0);
    let claimed = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..200 {
                    if let Ok(instance) = Instance::claim(scratch.path(), "lab") {
                        let order = std::sync::atomic::Ordering::SeqCst;
                        assert_eq!(holders.fetch_add(1, order), 0, "two hold the name");
                        claimed.fetch_add(1, order);
                        std::thread::yield_now();
                        holders.fetch_sub(1, order);
                        drop(instance);
                    }
                }
            });
        }
    });
    assert!(claimed.into_inner() > 0);
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let scratch = Scratch::new();
    let path = scratch.path().join("lab.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "as a SIGKILL leaves it");
    let mut instance = Instance::claim(scratch.path(), "lab").unwrap();
    drop(instance.listen().unwrap());
    drop(instance);

    let foreign = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut instance = Instance::claim(scratch.path(), "lab").unwrap();
    let error = instance.listen().unwrap_err();
    assert_eq!(error.why, "another process answers on this socket");
    drop(instance);
    assert!(path.exists(), "not ours to remove");
    drop(foreign);
}

#[test]
fn a_switch_that_shuts_down_says_so() {
    let scratch = Scratch::new();
    let mut instance = Instance::claim(scratch.path(), "lab").unwrap();
    let (sender, receiver) = bounded::<Request>(1);
    drop(receiver);
    let server = Server::start(instance.listen().unwrap(), None, sender).unwrap();
    let (status, body) = raw(instance.socket_path(), "GET /fdb");
    assert_eq!(status, 503);
    assert!(body.contains("is shutting down"), "{body}");
    drop(server);
}

#[test]
fn more_requests_than_the_queue_holds_are_refused_at_once() {
    let scratch = Scratch::new();
    let mut instance = Instance::claim(scratch.path(), "lab").unwrap();
    let (sender, receiver) = bounded::<Request>(0);
    let server = Server::start(instance.listen().unwrap(), None, sender).unwrap();
    let (status, body) = raw(instance.socket_path(), "GET /fdb");
    assert_eq!(status, 503);
    assert!(body.contains("too many requests waiting"), "{body}");
    drop((server, receiver));
}

/// Goal: a connection that says nothing keeps neither the others waiting nor the server from
/// stopping.
#[test]
fn an_idle_connection_holds_up_nobody() {
    let running = Running::new();
    let _idle = UnixStream::connect(running.instance.socket_path()).unwrap();
    assert_eq!(running.vswitch("fdb").code, 0);
    drop(running);
}

#[test]
fn what_is_no_vswitch_is_not_taken_for_one() {
    let scratch = Scratch::new();
    let path = scratch.path().join("x.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 512];
        let _read = stream.read(&mut request).unwrap();
        stream.write_all(b"220 mail.example ESMTP\r\n").unwrap();
    });
    let ended = vswitch("fdb --socket", &[&path]);
    thread.join().unwrap();
    assert_eq!(ended.code, 1);
    let path = path.display();
    let line = format!(
        "error: {path}: what answers there is no vswitch; \
         fix: look at its log, or restart vswitch vswitch0\n"
    );
    assert_eq!(ended.stderr, line);
}

/// Goal: a user who is neither root nor the switch's own may look and not touch. Needs root, to
/// become somebody else; says so where it cannot run.
#[test]
fn only_root_and_the_same_user_may_change_anything() {
    if !nix::unistd::geteuid().is_root() {
        println!("SKIPPED: needs root to become another user");
        return;
    }
    let running = Running::new();
    let socket = running.instance.socket_path();
    // Opened to everybody for the test; the kernel still reports who connects.
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o666)).unwrap();
    // A copy where nobody can reach it. Made by another process: a file this one has open for
    // writing may be inherited by a child another test forks just now, and is then "busy".
    let copy = running.scratch.path().join("vswitch");
    let mut cp = std::process::Command::new("cp");
    let copied = cp.arg(env!("CARGO_BIN_EXE_vswitch")).arg(&copy).status();
    assert!(copied.unwrap().success());
    std::fs::set_permissions(running.scratch.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let as_nobody = |words: &str| {
        use std::os::unix::process::CommandExt;
        let mut command = std::process::Command::new(&copy);
        command
            .args(words.split_whitespace())
            .arg("--socket")
            .arg(socket);
        super::ended(command.uid(65_534).gid(65_534).output().unwrap())
    };
    assert_eq!(as_nobody("fdb").code, 0);
    let what_if = as_nobody("trace --what-if veth1 icmp 10.9.0.2 > 203.0.113.1");
    assert_eq!(what_if.code, 4, "{what_if:?}");
    for words in [
        "fdb flush",
        "nat flush",
        "neigh flush",
        "port del eth0",
        "port add veth1",
        "port set eth0 worker=1",
        "fdb del 2:0:0:0:0:1",
        "fdb add 2:0:0:0:0:1 dev eth0",
    ] {
        let ended = as_nobody(words);
        let line = "error: this change: only root and uid 0 may change this switch; \
                    fix: run it with sudo\n";
        assert_eq!((ended.code, ended.stderr.as_str()), (1, line), "{words}");
    }
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o660)).unwrap();
    let ended = as_nobody("fdb");
    assert!(
        ended
            .stderr
            .contains("Permission denied (os error 13); fix: run it with sudo")
    );
}

#[test]
fn a4_6_events_stream_as_conntrack_prints_them_until_there_were_enough() {
    let running = Running::new();
    let one = "[NEW] tcp 6 7195 ESTABLISHED src=10.77.0.11 dst=1.1.1.1 sport=40122 dport=443 \
               src=1.1.1.1 dst=192.0.2.10 sport=443 dport=61007 [ASSURED]\n";
    let two = "[NEW] udp 17 29 src=10.77.0.20 dst=9.9.9.9 sport=5353 dport=53 [UNREPLIED] \
               src=9.9.9.9 dst=192.0.2.10 sport=53 dport=61008\n";
    let lost = "3 events lost: they came faster than they were read\n";
    for (words, stdout, stderr) in [
        ("monitor nat -c 1", one.to_owned(), ""),
        ("monitor nat --count 2", format!("{one}{two}"), lost),
    ] {
        let ended = running.vswitch(words);
        assert_eq!((ended.code, ended.stderr.as_str()), (0, stderr), "{words}");
        assert_eq!(ended.stdout, stdout);
    }
    let stopped = running.vswitch("monitor nat");
    assert_eq!(stopped.code, 3, "the switch has stopped");
    assert!(stopped.stderr.contains("it has stopped"), "{stopped:?}");
    let json = running.vswitch("-j monitor nat");
    let lines: Vec<serde_json::Value> = (json.stdout.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 3);
    for line in &lines {
        assert_eq!(line["schema"], "vswitch.nat-event/1");
    }
    assert_eq!(lines[0]["event"], "new");
    assert_eq!(lines[1]["lost"], 3);
}
