//! Packets' stories from a running switch, to readers of all kinds.

use std::time::Duration;

use nix::sys::signal::Signal;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::ping::Ping;

use super::nat::many_flows;
use super::reader::Reader;
use super::world::Times::{Any, Exactly};
use super::world::{eventually, world};

#[test]
fn trace_tells_a_ping_and_its_answer_before_and_after_nat() {
    let Some(world) = world().start() else { return };
    let outside = Topology::OUTSIDE;
    world.ping_perfectly(world.c(1), &Ping::to(outside).count(1));
    // The answer is followed, though it comes from outside and to the uplink's address.
    let mut json = Reader::start(
        &world,
        &format!("trace -j icmp and src host {} -c 2", world.ip(1)),
    );
    let mut text = Reader::start(&world, "trace nat -c 2");
    world.ping_perfectly(world.c(1), &Ping::to(outside).count(1));
    assert_eq!((json.wait().code(), text.wait().code()), (Some(0), Some(0)));
    let [there, back] = &json.rows()[..] else {
        panic!("{}", json.text());
    };
    let word = |row: &serde_json::Value, key: &str| row[key].as_str().unwrap().to_owned();
    assert_eq!(word(there, "schema"), "vswitch.trace/1");
    assert_eq!(word(there, "port"), "veth1");
    assert!(
        word(there, "peer").contains(&world.ip(1).to_string()),
        "{there}"
    );
    assert_eq!(word(there, "story"), "FORWARDED veth1 → eth0");
    assert_eq!(word(back, "story"), "FORWARDED eth0 → veth1");
    let nat = |row: &serde_json::Value| {
        let steps = row["steps"].as_array().unwrap();
        let nat = steps.iter().find(|step| step["step"] == "nat").unwrap();
        let end = |key: &str| {
            let (address, id) = nat[key].as_str().unwrap().split_once(':').unwrap();
            (address.to_owned(), id.to_owned())
        };
        [end("before"), end("after")]
    };
    let ([inside, external], [external_again, inside_again]) = (nat(there), nat(back));
    assert_eq!((&inside, &external), (&inside_again, &external_again));
    assert_eq!(inside.0, world.ip(1).to_string());
    assert_eq!(external.0, Topology::HOST.to_string());
    for row in [there, back] {
        assert_ne!(row["before"]["bytes"], row["after"]["bytes"]);
        assert_eq!(row["before"]["length"], row["after"]["length"]);
    }
    assert_ne!(there["id"], back["id"]);
    let text = text.text();
    for line in [
        "#1  ",
        " rx       veth1\n",
        " nat      ",
        " tx       eth0\n",
        "   FORWARDED veth1",
    ] {
        assert!(text.contains(line), "{line:?}: {text}");
    }
    world.finish(&[]);
}

#[test]
fn trace_drop_tells_the_reason_and_the_error_that_came_of_it() {
    let Some(world) = world().start() else { return };
    let mut drops = Reader::start(&world, "trace -j reason TTL_EXPIRED -c 1");
    let all = Reader::start(&world, "trace -j icmp");
    let ping = Ping {
        ttl: 1,
        ..Ping::to(Topology::OUTSIDE)
    };
    let report = world.ping(world.c(2), &ping);
    assert_eq!(report.received, 0);
    assert_eq!(drops.wait().code(), Some(0));
    let dropped = &drops.rows()[0];
    assert_eq!(dropped["reason"], "TTL_EXPIRED");
    assert_eq!(dropped["fate"], "drop");
    eventually("the error is told too", || all.lines().len() == 2);
    let rows = all.rows();
    assert_eq!(
        (&rows[0]["id"], &rows[1]["cause"]),
        (&dropped["id"], &dropped["id"])
    );
    assert_eq!(rows[1]["fate"], "sent");
    all.signal(Signal::SIGINT);
    world.finish(&[("TTL_EXPIRED", Exactly(1))]);
}

#[test]
fn trace_ends_in_order_when_interrupted_and_with_the_switch() {
    let Some(world) = world().start() else { return };
    let file = world.run_dir().join("run.trace");
    let mut written = Reader::start(&world, &format!("trace -w {}", file.display()));
    let mut paths = Reader::start(&world, "trace --paths icmp");
    let mut last = Reader::start(&world, "trace tcp");
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)).count(3));
    for reader in [&written, &paths] {
        reader.signal(Signal::SIGINT);
    }
    assert_eq!(
        (written.wait().code(), paths.wait().code()),
        (Some(0), Some(0))
    );
    let told = written.errors();
    let blocks = world.text(&format!("trace -r {} icmp", file.display()));
    assert_eq!(blocks.matches("\n   FORWARDED").count(), 6, "{blocks}");
    assert!(
        told.contains(" packets in ") && told.ends_with(", 0 lost\n"),
        "{told}"
    );
    assert!(
        paths.text().contains("FORWARDED veth1 → veth2"),
        "{}",
        paths.text()
    );
    world.finish(&[]);
    assert_eq!(last.wait().code(), Some(3), "{}", last.errors());
}

#[test]
fn a_reader_that_stands_still_or_dies_disturbs_nobody_and_losses_are_counted() {
    let Some(world) = world().start() else { return };
    let came = || -> u64 {
        let came = |port: &&str| world.port(port, "rx", "packets");
        ["veth1", "veth2", "eth0"].iter().map(came).sum()
    };
    let still = Reader::start(&world, "trace -j");
    let before = came();
    let dies = Reader::start(&world, "trace -j udp");
    still.signal(Signal::SIGSTOP);
    let mut counts = Reader::start(&world, "trace --paths udp");
    dies.signal(Signal::SIGKILL);
    // More than lies in records, chunks and the socket's buffer together.
    let train = Ping {
        interval: Duration::from_micros(100),
        ..Ping::to(world.ip(2)).count(6000)
    };
    world.ping_perfectly(world.c(1), &train);
    many_flows(&world, 1, 5);
    counts.signal(Signal::SIGINT);
    assert_eq!(counts.wait().code(), Some(0));
    assert!(
        counts.text().contains("FORWARDED veth1 → eth0"),
        "{}",
        counts.text()
    );
    still.signal(Signal::SIGCONT);
    std::thread::sleep(Duration::from_millis(500));
    still.signal(Signal::SIGINT);
    let mut still = still;
    assert_eq!(still.wait().code(), Some(0));
    let rows = still.rows();
    let lost: u64 = rows.iter().filter_map(|row| row["lost"].as_u64()).sum();
    let packets = rows.iter().filter(|row| row["id"].is_string()).count() as u64;
    let passed = came() - before;
    assert!(lost > 0, "{packets} packets of {passed}");
    assert!(packets + lost >= passed, "{packets} + {lost} of {passed}");
    world.finish(&[("RING_FULL", Any)]);
}
