//! The metrics of a real switch: what a scrape finds is what the tables say.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::ping::Ping;

use super::world::{Times, World, world};

const AT: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 9777);

/// The samples of a text, by name with labels.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        })
        .collect()
}

/// What a Prometheus in the host's namespace is given.
fn scraped(world: &World) -> String {
    let request = "GET /metrics HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n";
    let get = || {
        let mut stream = TcpStream::connect(AT)?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = world.h().attempt(|| "scrape".to_owned(), get).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

/// Goal: metrics are the counters, all of them. Method: pings within and through the NAT, one
/// without a route; then every port, drop and table is compared with what `-j` says at rest.
#[test]
fn a_scrape_agrees_with_the_tables() {
    let Some(world) = world()
        .args("--metrics 127.0.0.1:9777 --no-host-port")
        .start()
    else {
        return;
    };
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)).count(5));
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE).count(5));
    // The host has an address outside, but no port of its own to be reached by.
    let host = Ping::to(Topology::HOST);
    world.ping(world.c(1), &host.timeout(Duration::from_millis(300)));
    world.quiet();
    let text = scraped(&world);
    let metrics = samples(&text);
    let value = |name: &str| {
        let value = metrics.get(name).copied();
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    };
    for row in world.rows("port") {
        let port = row["ifname"].as_str().unwrap();
        for (way, direction) in [("receive", "rx"), ("transmit", "tx")] {
            for counter in ["bytes", "packets", "errors"] {
                let name = format!("vswitch_port_{way}_{counter}_total{{port=\"{port}\"}}");
                let counted = row["stats64"][direction][counter].as_f64();
                assert_eq!(Some(value(&name)), counted, "{name}");
            }
        }
        let name = format!("vswitch_port_up{{port=\"{port}\"}}");
        assert_eq!(value(&name), f64::from(row["operstate"] == "UP"));
    }
    let mut drops = 0;
    for row in world.rows("drops") {
        let (port, reason) = (
            row["port"].as_str().unwrap(),
            row["reason"].as_str().unwrap(),
        );
        let name = format!("vswitch_drops_total{{port=\"{port}\",reason=\"{reason}\"}}");
        assert_eq!(Some(value(&name)), row["count"].as_f64(), "{name}");
        drops += 1;
    }
    let dropped = metrics
        .keys()
        .filter(|name| name.starts_with("vswitch_drops"));
    assert_eq!((drops, drops > 0), (dropped.count(), true));
    let learned = world
        .rows("fdb")
        .iter()
        .filter(|row| row["state"] == "")
        .count();
    let learned = f64::from(u32::try_from(learned).unwrap());
    assert_eq!(value("vswitch_fdb_entries{state=\"learned\"}"), learned);
    let nat = world.json("nat");
    let sessions = nat["sessions"].as_array().unwrap().len();
    assert!(sessions > 0);
    let counted: f64 = metrics
        .iter()
        .filter(|(name, _)| name.starts_with("vswitch_nat_sessions{"))
        .map(|(_, count)| count)
        .sum();
    assert_eq!(counted, f64::from(u32::try_from(sessions).unwrap()));
    for (name, counted) in nat["summary"]["counters"].as_object().unwrap() {
        let name = format!("vswitch_nat_{name}_total");
        assert_eq!(Some(value(&name)), counted.as_f64(), "{name}");
    }
    // The client prints the same text; what moves by itself is left out.
    let own = samples(&world.text("metrics"));
    assert!(own.keys().eq(metrics.keys()));
    world.finish(&[("NO_HOST_PORT", Times::Exactly(1))]);
}

/// Goal: a port that is taken is said before anything of the host is touched.
#[test]
fn a_taken_port_is_told_and_nothing_is_changed() {
    let Some(world) = world().args("--metrics 127.0.0.1:9777").start() else {
        return;
    };
    let run_dir = super::world::run_dir();
    let mut command = super::world::program(&run_dir);
    command.args(["--ports", "nothere", "--metrics", "127.0.0.1:9777"]);
    let output = world.h().attempt(|| "run".to_owned(), || command.output());
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let line = "error: --metrics 127.0.0.1:9777: Address already in use (os error 98); \
                fix: another port, or: ss -ltnp\n";
    assert_eq!(said, line);
    std::fs::remove_dir_all(&run_dir).unwrap();
    world.finish(&[]);
}
