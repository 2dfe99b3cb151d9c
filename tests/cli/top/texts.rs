//! What `top` prints for scripts, and what rates come of which readings.

use serde_json::Value;
use vswitch_cli::top::app::Tab;
use vswitch_cli::top::print;
use vswitch_cli::top::snapshot::Snapshot;

use super::super::control::Running;
use super::super::snapshot as committed;
use super::{look, snapshot};

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn texts_are_as_committed() {
    let snapshot = snapshot();
    let text = plain(&print::pretty(&snapshot, None));
    assert!(!text.lines().any(|line| line.ends_with(' ')), "{text}");
    assert!(text.is_ascii(), "{text}");
    committed("top/pretty.txt", &text);
    committed("top/markdown.md", &print::markdown(&snapshot, None));
    committed("top/stream.txt", &print::line(&snapshot));
    let mut tables = String::new();
    for tab in [Tab::Ports, Tab::Flows, Tab::Nat, Tab::Latency, Tab::Drops] {
        tables.push_str(&print::csv(&snapshot, tab, true).unwrap());
    }
    committed("top/tables.csv", &tables);
    assert!(print::csv(&snapshot, Tab::Trace, true).is_err());
}

/// The keys stay; so the JSON is committed.
#[test]
fn json_is_as_committed() {
    let json: Value = serde_json::from_str(&print::json(&snapshot()).unwrap()).unwrap();
    assert_eq!(json["schema"], "vswitch.top/1");
    let text = serde_json::to_string_pretty(&json).unwrap();
    committed("top/top.json", &format!("{text}\n"));
}

/// A value with a comma or a quotation mark is one value.
#[test]
fn csv_keeps_values_together() {
    let mut snapshot = snapshot();
    snapshot.drops.truncate(1);
    snapshot.drops[0].fix = "say \"a, b\"".into();
    let text = print::csv(&snapshot, Tab::Drops, false).unwrap();
    assert!(text.ends_with(",\"say \"\"a, b\"\"\"\n"), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn a_single_look_has_no_rates() {
    let alone = Snapshot::between(None, &look(5));
    assert_eq!(alone.interval, None);
    assert_eq!(alone.totals.frames_per_second, None);
    assert_eq!(alone.ports[0].rx.bits_per_second, None);
    assert!(
        alone
            .flows
            .unwrap()
            .list
            .iter()
            .all(|flow| flow.bits_per_second().is_none())
    );
    let text = plain(&print::pretty(
        &Snapshot::between(None, &look(5)),
        Some(Tab::Ports),
    ));
    assert!(text.contains("  -"), "{text}");
}

/// Goal: a counter that began anew gives no rate rather than a wrong one.
#[test]
fn what_began_anew_has_no_rate() {
    // The port was closed and opened again, the switch was not.
    let (before, mut now) = (look(50), look(51));
    now.ports[0].stats64 = look(1).ports[0].stats64;
    let port = &Snapshot::between(Some(&before), &now).ports[0];
    assert_eq!(port.rx.bits_per_second, None);
    // Another process by the same name.
    let mut other = look(51);
    other.status.pid += 1;
    let snapshot = Snapshot::between(Some(&before), &other);
    assert_eq!(snapshot.totals.frames_per_second, None);
    assert_eq!(snapshot.interval, None);
    // No time has passed.
    let twice = Snapshot::between(Some(&before), &before);
    assert_eq!(twice.totals.frames_per_second, None);
}

/// Goal: a session opened between the looks moved all its bytes since; one whose ports belonged to
/// an older session is not mistaken for that; one that was not looked at before has no rate.
#[test]
fn sessions_have_the_rate_of_their_own_bytes() {
    let (before, mut now) = (look(50), look(51));
    let young = 39;
    now.nat.nat.sessions[young].outbound.bytes = 1_000;
    now.nat.nat.sessions[young].inbound.bytes = 0;
    let new_tuple = now.nat.nat.sessions[0].clone();
    now.nat.nat.sessions[0].inside.set_port(1);
    let flows = Snapshot::between(Some(&before), &now).flows.unwrap();
    let of = |port: u16| {
        flows
            .list
            .iter()
            .find(|flow| flow.inside.port() == port)
            .unwrap()
    };
    let fresh = of(now.nat.nat.sessions[young].inside.port());
    assert_eq!(fresh.outbound_bits_per_second, Some(8_000.0));
    assert_eq!(of(1).outbound_bits_per_second, None);
    assert_ne!(new_tuple.inside.port(), 1);
    let first = flows.list.first().unwrap().bits_per_second();
    assert!(
        flows
            .list
            .iter()
            .all(|flow| flow.bits_per_second() <= first)
    );
    let sum: u64 = flows.talkers.iter().map(|talker| talker.sessions).sum();
    assert_eq!((sum, flows.watched), (40, 40));
}

#[test]
fn every_form_is_printed_of_a_running_switch() {
    let running = Running::new();
    let once = running.vswitch("top --once -d 0.1");
    assert_eq!((once.code, once.stderr.as_str()), (0, ""));
    for word in [
        "vswitch0",
        "veth-blue",
        "TALKER",
        "10.77.0.11:40122",
        "NO_ROUTE",
    ] {
        assert!(once.stdout.contains(word), "{word}: {}", once.stdout);
    }
    let json = running.vswitch("top -m json -d 0.1 -n 2");
    let lines: Vec<Value> = (json.stdout.lines())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1]["ports"][0]["ifname"], "veth-blue");
    assert_eq!(running.vswitch("-j top -d 0.1").stdout.lines().count(), 1);
    let stream = running.vswitch("top -m stream -d 0.1 -n 3");
    assert_eq!(stream.stdout.lines().count(), 3);
    let stream = running.vswitch("-j top -m stream -d 0.1 -n 1");
    assert!(stream.stdout.starts_with("{\"schema\":\"vswitch.top/1\""));
    let csv = running.vswitch("top -m csv -d 0.1 -n 2 --tab flows").stdout;
    assert_eq!(csv.lines().count(), 1 + 2 * 2, "{csv}");
    assert!(csv.starts_with("time,proto,state,inside,"), "{csv}");
    let markdown = running.vswitch("top -m markdown -d 0.1 --tab nat").stdout;
    assert!(
        markdown.contains("## NAT\n") && !markdown.contains("## Ports"),
        "{markdown}"
    );
    let screen = running.vswitch("top");
    assert_eq!(screen.code, 2);
    assert!(
        screen.stderr.contains("fix: vswitch top --once"),
        "{}",
        screen.stderr
    );
}

#[test]
fn without_a_switch_it_ends_with_3() {
    let nobody = super::super::vswitch("top --once --socket /nonexistent/vswitch.sock", &[]);
    assert_eq!((nobody.code, nobody.stdout.as_str()), (3, ""));
}
