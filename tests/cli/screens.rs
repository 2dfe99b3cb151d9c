//! Screens and JSON, letter for letter: a key that changes is a broken script.

use vswitch_cli::args::View;
use vswitch_cli::control::api;
use vswitch_cli::show;

use super::snapshot;
use super::world::World;

fn views() -> [(&'static str, View); 5] {
    let plain = View::default();
    [
        ("", plain),
        (
            "-s",
            View {
                stats: true,
                ..plain
            },
        ),
        (
            "-d",
            View {
                details: true,
                ..plain
            },
        ),
        (
            "-o -d",
            View {
                oneline: true,
                details: true,
                ..plain
            },
        ),
        (
            "--brief",
            View {
                brief: true,
                ..plain
            },
        ),
    ]
}

pub(super) fn screens(noun: &str, render: impl Fn(View) -> String) {
    let mut all = String::new();
    for (flags, view) in views() {
        let text = render(view);
        let plain = anstream::adapter::strip_str(&text).to_string();
        all.push_str(&format!("$ vswitch{} {noun}\n{plain}\n", spaced(flags)));
        let longest = plain
            .lines()
            .map(|line| line.chars().count())
            .max()
            .unwrap_or(0);
        assert!(
            !plain.lines().any(|line| line.ends_with(' ')),
            "{noun} {flags}"
        );
        if flags.is_empty() {
            // A packet's line and what to type against its drop are as long as they are.
            let most = if noun == "drops" { 160 } else { 120 };
            assert!(longest <= most, "{noun} is {longest} columns wide");
        }
    }
    snapshot(&format!("{}.txt", noun.replace(" ", "-")), &all);
}

#[test]
fn tables_look_as_committed_in_every_view() {
    let world = World::new();
    screens("port", |view| {
        show::port::port(&world.ports, view) + &show::worker::workers(&world.status, view)
    });
    screens("fdb", |view| show::fdb::fdb(&world.fdb, view));
    screens("neigh", |view| show::neigh::neigh(&world.neigh, view));
    screens("nat", |view| show::nat::nat(&world.nat, view));
    let requirements = super::world::nat_report().requirements;
    screens("nat report", |view| {
        show::conform::requirements(&requirements, view)
    });
    screens("drops", |view| show::drops(&world.drops, view));
    screens("status", |view| show::status::status(&world.status, view));
}

#[test]
fn workers_that_share_unevenly_are_pointed_out() {
    let mut status = World::new().status;
    let view = View {
        stats: true,
        ..View::default()
    };
    let last = |status: &api::Status| {
        let text = show::worker::workers(status, view);
        let plain = anstream::adapter::strip_str(&text).to_string();
        plain.lines().last().unwrap().to_owned()
    };
    assert_eq!(last(&status), "the busiest worker has 1.00 times the mean");
    status.imbalance = Some(1.876);
    assert_eq!(
        last(&status),
        "the busiest worker has 1.88 times the mean: vswitch port set PORT worker=N"
    );
    status.workers.truncate(1);
    assert!(last(&status).starts_with("     0"), "one has no other");
}

#[test]
fn empty_tables_are_headers_or_a_sentence() {
    let view = View::default();
    let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
    assert_eq!(
        plain(show::fdb::fdb(&[], view)),
        "MAC  PORT  VLAN  AGE  STATE\n"
    );
    assert_eq!(plain(show::drops(&[], view)), "no frame was dropped\n");
    let brief = View {
        brief: true,
        ..view
    };
    assert_eq!(plain(show::drops(&[], brief)), "");
    assert_eq!(plain(show::neigh::neigh(&[], brief)), "");
}

#[test]
fn frames_without_a_verdict_are_shown_as_such() {
    let mut status = World::new().status;
    let shown = |status: &api::Status| {
        let text = show::status::status(status, View::default());
        anstream::adapter::strip_str(&text)
            .to_string()
            .lines()
            .last()
            .unwrap()
            .to_owned()
    };
    assert_eq!(shown(&status), "every frame is accounted for");
    status.totals.dropped -= 2;
    assert_eq!(
        shown(&status),
        "2 more frames than verdicts: under way, if it changes"
    );
    status.totals.dropped += 5;
    assert_eq!(
        shown(&status),
        "3 more verdicts than frames: under way, if it changes"
    );
    status.totals.dropped -= 3;
    status.totals.sent -= 1;
    assert_eq!(
        shown(&status),
        "1 more copies than ends: under way, if it changes"
    );
}

/// Goal: the keys of each schema stay. Method: the pretty-printed JSON of the sample world is
/// committed; it reads back as what it came from.
#[test]
fn json_is_as_committed_and_reads_back() {
    fn golden<T>(name: &str, value: &T)
    where
        T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let text = serde_json::to_string_pretty(value).unwrap();
        assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value);
        let schema = text.find("\"schema\"").unwrap();
        assert_eq!(text.find('"'), Some(schema), "schema is the first key");
        snapshot(name, &format!("{text}\n"));
    }
    let world = World::new();
    golden("port.json", &world.ports);
    golden("fdb.json", &world.fdb);
    golden("neigh.json", &world.neigh);
    golden("nat.json", &world.nat);
    golden("drops.json", &world.drops);
    golden("status.json", &world.status);
}

#[test]
fn json_of_another_version_is_refused() {
    use vswitch_cli::control::api::Done;
    let text = r#"{"schema":"vswitch.done/2","message":"","count":0}"#;
    let error = serde_json::from_str::<Done>(text).unwrap_err().to_string();
    assert!(
        error.starts_with("schema vswitch.done/2 instead of vswitch.done/1"),
        "{error}"
    );
}

fn spaced(flags: &str) -> String {
    if flags.is_empty() {
        String::new()
    } else {
        format!(" {flags}")
    }
}
