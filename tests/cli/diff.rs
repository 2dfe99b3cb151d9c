//! What a reload changes: each value, whether it takes effect at once, and how it is printed.

use vswitch_cli::config::{Applies, Key, diff};

use super::config::{FULL, settings};

fn lines(from: &str, to: &str) -> Vec<String> {
    assert!(FULL.contains(from), "{from}");
    let new = settings(&FULL.replace(from, to));
    diff(&settings(FULL), &new)
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// A text of the full file, what becomes of it, and the changes that makes.
const CASES: &[(&str, &str, &[&str])] = &[
    (
        "name = \"lab\"",
        "name = \"x\"",
        &["name: lab -> x (needs a restart)"],
    ),
    (
        "/run/lab",
        "/run/x",
        &["run-dir: /run/lab -> /run/x (needs a restart)"],
    ),
    (
        "\"eth0\"",
        "\"eth9\"",
        &["uplink: eth0 -> eth9 (needs a restart)"],
    ),
    (
        "192.0.2.9/24",
        "192.0.2.8/24",
        &["uplink-address: 192.0.2.9/24 -> 192.0.2.8/24 (needs a restart)"],
    ),
    (
        "uplink-mac = \"02:00:00:00:00:09\"",
        "",
        &["uplink-mac: 02:00:00:00:00:09 -> made up (needs a restart)"],
    ),
    (
        "gateway = \"10.77.0.1/24\"",
        "",
        &["gateway: 10.77.0.1/24 -> found (needs a restart)"],
    ),
    (
        "gateway-mac = \"02:00:00:00:00:01\"",
        "",
        &["gateway-mac: 02:00:00:00:00:01 -> made up (needs a restart)"],
    ),
    (
        "no-host-port = true",
        "",
        &["no-host-port: true -> false (needs a restart)"],
    ),
    (
        "no-nat = false\nnat-ports = \"50000-59999\"",
        "",
        &["nat-ports: 50000-59999 -> 1024-65535 (needs a restart)"],
    ),
    (
        "50000-59999",
        "50000-50999",
        &["nat-ports: 50000-59999 -> 50000-50999 (needs a restart)"],
    ),
    (
        "1_000",
        "1_001",
        &[
            "nat-sessions: 1000 -> 1001 (needs a restart)",
            "nat-quota: sessions=1000,ports=200,half-open=4096,rate=none,failed=4000 -> \
           sessions=1001,ports=200,half-open=4096,rate=none,failed=4000 (needs a restart)",
        ],
    ),
    (
        "\"linux\"",
        "\"rfc\"",
        &["nat-profile: linux -> rfc (needs a restart)"],
    ),
    (
        "\"eif\"",
        "\"adf\"",
        &["nat-filter: eif -> adf (needs a restart)"],
    ),
    (
        "nat-pool = \"192.0.2.20,192.0.2.30-192.0.2.31\"",
        "",
        &["nat-pool: 192.0.2.20,192.0.2.30-192.0.2.31 -> none (needs a restart)"],
    ),
    (
        "ports=200",
        "ports=none",
        &[
            "nat-quota: sessions=1000,ports=200,half-open=4096,rate=none,failed=4000 -> \
           sessions=1000,ports=none,half-open=4096,rate=none,failed=4000 (needs a restart)",
        ],
    ),
    (
        "nat-helpers = \"tftp\"",
        "",
        &["nat-helpers: tftp -> none (needs a restart)"],
    ),
    (
        "\"syslog\"",
        "\"/x\"",
        &["nat-log: syslog -> /x (needs a restart)"],
    ),
    (
        "state = \"/var/lib/vswitch/lab\"",
        "",
        &["state: /var/lib/vswitch/lab -> none (needs a restart)"],
    ),
    ("no-mss-clamp = true", "", &["no-mss-clamp: true -> false"]),
    (
        "\"10.0.0.0/8\"",
        "\"10.0.0.0/9\"",
        &["no-nat-for: 10.0.0.0/8 -> 10.0.0.0/9"],
    ),
    (
        "no-mss-clamp = true",
        "no-mss-clamp = true\nfast-path = true",
        &["fast-path: false -> true (needs a restart)"],
    ),
    ("isolate = true", "", &["isolate: true -> false"]),
    ("isolated = true", "", &["port tap:web0: not isolated"]),
    (
        "8080:veth1:80",
        "8080:veth1:81",
        &["unpublish 0.0.0.0:8080/tcp", "publish 8080:veth1:81/tcp"],
    ),
    ("ageing = 600", "ageing = 60", &["ageing: 600 -> 60"]),
    (
        "fdb-max = 100",
        "fdb-max = 101",
        &["fdb-max: 100 -> 101 (needs a restart)"],
    ),
    (
        "workers = 2",
        "workers = 3",
        &["workers: 2 -> 3 (needs a restart)"],
    ),
    ("workers = 2", "", &["workers: 2 -> auto (needs a restart)"]),
    ("0-1,3", "0-3", &["cpus: 0-1,3 -> 0-3 (needs a restart)"]),
    (
        "busy-poll = 0",
        "",
        &["busy-poll: 0 -> 50 (needs a restart)"],
    ),
    (
        "metrics = \"127.0.0.1:9777\"",
        "",
        &["metrics: 127.0.0.1:9777 -> none (needs a restart)"],
    ),
    (
        "\"veth1\", \"tap:web0\"]",
        "\"veth1\", \"tap:web0\", \"veth3\"]",
        &["port veth3: add"],
    ),
    ("worker = 1", "worker = 0", &["port veth1: worker 0"]),
    // It may be anywhere, and so stays where it is.
    ("worker = 1", "", &[]),
    (
        "ring = \"4MiB\"",
        "",
        &["port veth1: remove", "port veth1: add"],
    ),
    ("fdb-max = 7", "fdb-max = 8", &["port tap:web0: fdb-max 8"]),
    ("fdb-max = 7", "", &["port tap:web0: no fdb-max"]),
    (
        "02:00:00:00:00:0a",
        "02:00:00:00:00:0d",
        &[
            "port veth1: no longer fix 02:00:00:00:00:0a",
            "port veth1: fix 02:00:00:00:00:0d",
        ],
    ),
    ("ports = ", "ports = ", &[]),
];

/// Goal: every value is compared, and its line says whether a restart is needed.
#[test]
fn each_change_has_its_line() {
    for (from, to, expected) in CASES {
        assert_eq!(lines(from, to), *expected, "{from} -> {to}");
    }
    assert_eq!(
        diff(
            &settings("ports = [\"a\", \"b\"]"),
            &settings("ports = [\"b\"]")
        )
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>(),
        ["port a: remove"]
    );
}

#[test]
fn what_is_sized_at_start_needs_a_restart() {
    for key in [Key::Workers, Key::NatSessions, Key::FdbMax] {
        assert_eq!(key.applies(), Applies::Restart);
    }
    for change in diff(
        &settings("ports = [\"a\"]"),
        &settings("ports = [\"b\"]\nageing = 20"),
    ) {
        assert_eq!(change.applies(), Applies::Now, "{change}");
    }
}
