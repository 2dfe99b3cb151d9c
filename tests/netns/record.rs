//! `vswitch record`: what a real switch decided, a replay of its recording decides again.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::Value;
use switch::pcapng::Reader as Capture;
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::lab::traffic::tcp::Amount;
use vswitch_cli::lab::traffic::udp;
use vswitch_cli::lab::traffic::udp::EchoServer;
use vswitch_cli::lab::{Host, Topology};

use super::capture::{output, tshark};
use super::clients::installed;
use super::reader::Reader;
use super::traffic::{ANY, download, udp_echo, upload};
use super::world::Times::Any;
use super::world::{SECOND, World, eventually, sums, world};

/// Bytes of a transfer: some hundred segments, more where they are cut.
const TRANSFER: Amount = Amount::Bytes(400_000);

/// Records what comes in while `traffic` goes on; the file's path.
fn recorded(world: &World, traffic: impl FnOnce()) -> String {
    let path = world.run_dir().join("bug.pcapng").display().to_string();
    let mut reader = Reader::start(world, &format!("record -w {path}"));
    traffic();
    reader.signal(Signal::SIGINT);
    assert!(reader.wait().success(), "{}", reader.errors());
    assert!(
        reader.errors().contains("bytes recorded"),
        "{}",
        reader.errors()
    );
    path
}

fn replayed(world: &World, path: &str, words: &str) -> (Option<i32>, Value) {
    let output = world.client(&format!("-j replay {path} --offline {words}"));
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let json = serde_json::from_slice(&output.stdout);
    (
        output.status.code(),
        json.unwrap_or_else(|_| panic!("{errors}")),
    )
}

fn traffic(world: &World) {
    let server = udp::bind(world.o(), (Topology::OUTSIDE, 0)).unwrap();
    for i in [1, 2] {
        udp_echo(world.c(i), world.o(), Topology::OUTSIDE);
        upload(world.c(i), world.o(), Topology::OUTSIDE, TRANSFER);
        download(world.c(i), world.o(), Topology::OUTSIDE, TRANSFER);
        let lost = udp::bind(world.c(i), ANY).unwrap();
        // To nobody: no route leads there.
        let _ = lost.send_to(b"lost", "192.0.2.77:9");
        lost.send_to(b"heard", server.local_addr().unwrap())
            .unwrap();
    }
    udp_echo(world.c(1), world.c(2), world.ip(2));
    upload(world.c(2), world.c(1), world.ip(1), TRANSFER);
}

/// What docs/replay.md shows of a recording.
fn shown() -> Vec<&'static str> {
    let page = include_str!("../../docs/replay.md");
    let block = page.split("```recorded\n").nth(1).unwrap();
    block.lines().take_while(|line| *line != "```").collect()
}

/// Without numbers, which differ from run to run.
fn timeless(line: &str) -> String {
    line.replace(|c: char| c.is_ascii_digit() || c == ',', "")
}

#[test]
fn every_verdict_is_the_same_again() {
    let started = world().args("--workers 1").start();
    let Some(world) = started else { return };
    let path = recorded(&world, || traffic(&world));
    let (code, json) = replayed(&world, &path, "");
    assert_eq!(
        json["recorded"]["examples"],
        serde_json::json!([]),
        "{json}"
    );
    assert_eq!(
        (&json["recorded"]["lost"], &json["recorded"]["differ"]),
        (&0.into(), &0.into())
    );
    let same = json["recorded"]["same"].as_u64().unwrap();
    assert!(same > 200, "{same} verdicts");
    assert_eq!((code, &json["conserved"]), (Some(0), &true.into()));
    let text = world.text(&format!("replay {path} --offline"));
    let said: Vec<String> = text.lines().map(timeless).collect();
    let shown: Vec<String> = shown().into_iter().map(timeless).collect();
    assert!(
        said.windows(shown.len()).any(|lines| lines == shown),
        "{text}"
    );
    // It is not that nothing could differ: isolated ports would not have seen each other.
    let (code, json) = replayed(&world, &path, "--isolate");
    assert_eq!(code, Some(4));
    assert!(json["recorded"]["differ"].as_u64().unwrap() > 10, "{json}");
    assert!(json["recorded"]["differs_from"].is_f64(), "{json}");
    let (again, once_more) = (replayed(&world, &path, ""), replayed(&world, &path, ""));
    assert_eq!(again, once_more);
    // Another version is refused by name, and the same bytes are a capture for everybody else.
    let bytes = fs::read(&path).unwrap();
    let head = b"vswitch.record/2";
    let at = bytes
        .windows(head.len())
        .position(|part| part == head)
        .unwrap();
    let mut later = bytes.clone();
    later[at + head.len() - 1] = b'7';
    let other = world.run_dir().join("later.pcapng");
    fs::write(&other, later).unwrap();
    let output = world.client(&format!("replay {} --offline", other.display()));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("a recording of vswitch.record/7"), "{error}");
    let mut capture = Capture::new(bytes.as_slice()).unwrap();
    let mut packets = 0;
    while capture.next_packet().unwrap().is_some() {
        packets += 1;
    }
    assert_eq!(packets, same);
    is_a_capture(Path::new(&path), packets);
    damaged(&world, &bytes);
    world.finish(&[("NO_ROUTE", Any)]);
}

/// Others read the same packets, and object to nothing.
fn is_a_capture(path: &Path, packets: u64) {
    if !installed(&["tshark", "capinfos"]) {
        return;
    }
    let experts = tshark("-q -z expert,error", path);
    assert!(!experts.contains("Errors"), "{experts}");
    let counts = output("capinfos", &["-M", "-c", "-T"], path);
    let expected = format!("\t{packets}");
    assert!(counts.trim_end().ends_with(&expected), "{counts}");
}

/// What cannot be is refused, wherever it is, and never a panic.
fn damaged(world: &World, bytes: &[u8]) {
    let find = |what: &str| {
        let found = bytes
            .windows(what.len())
            .position(|part| part == what.as_bytes());
        found.unwrap_or_else(|| panic!("no {what}"))
    };
    let file = world.run_dir().join("damaged.pcapng");
    let replay = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let output = world.client(&format!("replay {} --offline", file.display()));
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let mut torn = bytes.to_vec();
    torn[find("\"tick\":")] = b'x';
    let (code, error) = replay(&torn);
    assert!(
        code == Some(1) && error.contains("the recording's entries: "),
        "{error}"
    );
    // Turns by a worker that there is none of.
    let mut nobody = bytes.to_vec();
    nobody[find("\"worker\":0,\"at\":") + 9] = b'9';
    let (code, error) = replay(&nobody);
    assert!(
        code == Some(1) && error.contains("there is no worker 9"),
        "{error}"
    );
    // One that is cut off is damaged as any capture is.
    let (code, error) = replay(&bytes[..bytes.len() - 7]);
    assert!(code == Some(1) && error.contains("at byte "), "{error}");
}

/// All that can be compared is the same, and something could be.
fn is_the_same(json: &Value) {
    let recorded = &json["recorded"];
    let expected = serde_json::json!([]);
    assert_eq!(recorded["examples"], expected, "{json:#}");
    assert!(recorded["differs_from"].is_null(), "{recorded:#}");
    for none in ["lost", "differ", "turns_missing"] {
        assert_eq!(recorded[none], 0, "{recorded:#}");
    }
    assert!(recorded["ticks_same"].as_u64().unwrap() > 5, "{recorded:#}");
    assert_eq!(json["conserved"], true);
}

/// Has the switch do something.
fn done(world: &World, words: &str) {
    let output = world.client(words);
    assert!(output.status.success(), "{words}: {output:?}");
}

/// A pair of sockets with a session between them, from inside.
fn session(world: &World) -> (std::net::UdpSocket, std::net::UdpSocket) {
    let server = udp::bind(world.o(), (Topology::OUTSIDE, 0)).unwrap();
    let client = udp::bind(world.c(1), ANY).unwrap();
    client
        .send_to(b"first", server.local_addr().unwrap())
        .unwrap();
    let (_, from) = server.recv_from(&mut [0; 64]).unwrap();
    server.connect(from).unwrap();
    (client, server)
}

#[test]
fn sessions_of_before_go_on() {
    let started = world().args("--workers 1").start();
    let Some(world) = started else { return };
    let (client, server) = session(&world);
    let path = recorded(&world, || {
        for _ in 0..20 {
            // From outside first: without the session nobody would know for whom it is.
            server.send(b"back").unwrap();
            assert_eq!(client.recv(&mut [0; 64]).unwrap(), 4);
        }
        udp_echo(world.c(2), world.o(), Topology::OUTSIDE);
        std::thread::sleep(std::time::Duration::from_secs(2));
    });
    let (code, json) = replayed(&world, &path, "");
    is_the_same(&json);
    assert_eq!(code, Some(0));
    world.finish(&[]);
}

#[test]
fn changes_of_the_configuration_are_made_again() {
    let started = world().args("--workers 2").start();
    let Some(world) = started else { return };
    let (client, server) = session(&world);
    let ok = |words: &str| done(&world, words);
    let path = recorded(&world, || {
        traffic(&world);
        ok("fdb flush");
        traffic(&world);
        ok("neigh flush");
        ok("nat flush");
        // The session is gone, and this comes to nobody.
        server.send(b"late").unwrap();
        traffic(&world);
        ok("port set veth1 worker=1");
        traffic(&world);
        ok("port set veth1 worker=0");
        ok(&format!("nat publish 8080:{}:7777/udp", world.ip(1)));
        traffic(&world);
        ok("port add tap:extra");
        world.h().set_up("veth2", false).unwrap();
        client
            .send_to(b"again", server.local_addr().unwrap())
            .unwrap();
        world.h().set_up("veth2", true).unwrap();
        ok("port del extra");
        traffic(&world);
        std::thread::sleep(std::time::Duration::from_secs(2));
    });
    let (code, json) = replayed(&world, &path, "");
    is_the_same(&json);
    assert_eq!(code, Some(0));
    world.finish(&[("NO_ROUTE", Any), ("NAT_UNSOLICITED", Any)]);
}

/// Some datagrams there and back, one of them in fragments.
fn talk(client: &Host, server: &Host, ip: Ipv4Addr) {
    let echo = EchoServer::start(server, (ip, 0)).unwrap();
    let socket = udp::bind(client, ANY).unwrap();
    for size in [0, 33, 400, 1472, 2000] {
        let payload = vec![7; size];
        let exchange = || udp::exchange(&socket, echo.address(), &payload, SECOND).unwrap();
        assert!(exchange().or_else(exchange).is_some(), "{size} bytes");
    }
}

/// A little of everything, in a file small enough to be kept: `tests/sim/recordings` has one, made
/// anew by `VSWITCH_BLESS=1`.
#[test]
fn a_recording_is_a_test() {
    let started = world().args("--workers 2").start();
    let Some(world) = started else { return };
    let (client, server) = session(&world);
    let ok = |words: &str| done(&world, words);
    let path = recorded(&world, || {
        server.send(b"back").unwrap();
        client.recv(&mut [0; 64]).unwrap();
        for i in [1, 2] {
            talk(world.c(i), world.o(), Topology::OUTSIDE);
            world.ping_perfectly(world.c(i), &Ping::to(Topology::OUTSIDE));
        }
        talk(world.c(1), world.c(2), world.ip(2));
        world.ping(
            world.c(2),
            &Ping {
                ttl: 1,
                ..Ping::to(Topology::OUTSIDE)
            },
        );
        ok("port set veth1 worker=1");
        ok(&format!("nat publish 7777:{}:7777/udp", world.ip(2)));
        talk(world.c(1), world.o(), Topology::OUTSIDE);
        ok("neigh flush");
        ok("fdb flush");
        talk(world.c(2), world.o(), Topology::OUTSIDE);
        ok("nat flush");
        server.send(b"late").unwrap();
        world.h().set_up("veth2", false).unwrap();
        world.h().set_up("veth2", true).unwrap();
        talk(world.c(2), world.c(1), world.ip(1));
        std::thread::sleep(std::time::Duration::from_secs(1));
    });
    let (code, json) = replayed(&world, &path, "");
    is_the_same(&json);
    assert_eq!(code, Some(0));
    if std::env::var_os("VSWITCH_BLESS").is_some() {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/sim/recordings");
        fs::copy(&path, kept.join("some-of-all.pcapng")).unwrap();
    }
    world.finish(&[
        ("NAT_UNSOLICITED", Any),
        ("TTL_EXPIRED", Any),
        ("NEIGH_FAILED", Any),
    ]);
}

#[test]
fn ports_that_go_and_come_back_do_so_again() {
    let started = world().args("--workers 2").start();
    let Some(world) = started else { return };
    let path = recorded(&world, || {
        traffic(&world);
        for words in [
            "port del veth2",
            "port del veth1",
            "port add veth2",
            "port add veth1",
        ] {
            done(&world, words);
        }
        // In each other's places, with the stations and neighbours still to be found.
        traffic(&world);
        std::thread::sleep(std::time::Duration::from_secs(2));
    });
    let totals = world.quiet();
    let [(came, fates), (made, ended)] = sums(&totals);
    assert_eq!((came, made), (fates, ended), "{totals:#}");
    let (code, json) = replayed(&world, &path, "");
    is_the_same(&json);
    assert_eq!(code, Some(0));
}

#[test]
fn workers_side_by_side_are_done_again_in_their_order() {
    let started = world().args("--workers 3").start();
    let Some(world) = started else { return };
    let path = recorded(&world, || {
        std::thread::scope(|scope| {
            for i in [1, 2] {
                let world = &world;
                scope.spawn(move || {
                    for _ in 0..5 {
                        upload(world.c(i), world.o(), Topology::OUTSIDE, TRANSFER);
                        download(world.c(i), world.o(), Topology::OUTSIDE, TRANSFER);
                    }
                });
            }
        });
        std::thread::sleep(std::time::Duration::from_secs(2));
    });
    let (code, json) = replayed(&world, &path, "");
    is_the_same(&json);
    assert_eq!(code, Some(0));
    assert!(json["recorded"]["same"].as_u64().unwrap() > 500, "{json:#}");
    // The same frames by another order of workers would be another matter: that is refused.
    let output = world.client(&format!("replay {path} --offline --workers 2"));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("--workers 3"), "{error}");
    world.finish(&[]);
}

#[test]
fn one_records_at_a_time_and_who_goes_leaves_nothing_behind() {
    let started = world().args("--workers 2").start();
    let Some(world) = started else { return };
    let first = world.run_dir().join("first.pcapng").display().to_string();
    let mut reader = Reader::start(&world, &format!("record -w {first}"));
    let second = world.client(&format!("record -w {first}.2"));
    let error = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(error.contains("another recording goes on"), "{error}");
    // Killed, it cannot say that it goes; the switch notices, and takes no turns any more.
    reader.signal(Signal::SIGKILL);
    assert!(!reader.wait().success());
    udp_echo(world.c(1), world.o(), Topology::OUTSIDE);
    eventually("another recording begins", || {
        let mut reader = Reader::start(&world, &format!("record -w {first}"));
        udp_echo(world.c(2), world.o(), Topology::OUTSIDE);
        reader.signal(Signal::SIGINT);
        reader.wait().success()
    });
    world.finish(&[]);
}
