//! News of guards: a rung that does not hold any more, and one that holds again.

use nix::sys::signal::Signal;
use vswitch_cli::host::guard::{Guard, PortGuard, Rung};
use vswitch_cli::host::journal::Journal;
use vswitch_cli::host::netlink::Netlink;

use super::reader::Reader;
use super::world::{NAME, World, eventually, world};

const PORT: &str = "veth2";
/// What it is called while it is not the switch's.
const AWAY: &str = "away";
/// Takes the port away from the switch by its name, does something to it, and gives it back.
fn while_away(world: &World, what: impl FnOnce()) {
    let rename = |from: &str, to: &str| {
        let index = world.h().link(from).unwrap().index;
        let rename = || Netlink::open()?.rename(index, to);
        world
            .h()
            .attempt(|| format!("rename {from}"), rename)
            .unwrap();
    };
    let state = || {
        let rows = world.rows("port");
        let row = rows.iter().find(|row| row["ifname"] == PORT).unwrap();
        row["operstate"].as_str().unwrap().to_owned()
    };
    rename(PORT, AWAY);
    eventually("gone", || state() == "NOTPRESENT");
    what();
    rename(AWAY, PORT);
    eventually("back", || state() == "UP");
}

/// Guards of somebody else by one rung, as many as the kernel has room for.
fn others(world: &World, journal: &Journal, rung: Rung) -> Vec<PortGuard> {
    let index = world.h().link(AWAY).unwrap().index;
    let install = || {
        let mut held = Vec::new();
        loop {
            // The table of nftables is one for each name of a switch, whoever has it.
            let guard = Guard::with_ladder(journal.clone(), NAME, &[rung]);
            let hold = guard.install_port(index, AWAY)?;
            if hold.rung() != rung {
                return Ok(held);
            }
            held.push(hold);
        }
    };
    let held = world.h().attempt(|| format!("{rung} for {AWAY}"), install);
    let held: Vec<PortGuard> = held.unwrap();
    assert!(!held.is_empty(), "{rung}");
    held
}

/// Goal: who asked for it hears when a port is held off by another rung than before, also when it
/// was away meanwhile, and why none is left. Method: others take what the kernel has of each.
#[test]
fn a_guard_that_changes_or_fails_is_told() {
    let Some(world) = world().start() else { return };
    if world.rows("port")[0]["vswitch"]["guard"] != "TCX" {
        return println!("SKIPPED a_guard_that_changes_or_fails_is_told: this kernel has no TCX");
    }
    let mut reader = Reader::start(&world, "-j monitor guard");
    let mut shown = Reader::start(&world, "monitor guard");
    let (journal, _) = Journal::open(&world.run_dir().join("others"), "others").unwrap();
    let mut held = Vec::new();
    while_away(&world, || {
        held.extend(others(&world, &journal, Rung::Tcx));
        held.extend(others(&world, &journal, Rung::Nft));
    });
    while_away(&world, || {
        held.extend(others(&world, &journal, Rung::Clsact));
    });
    while_away(&world, || held.clear());
    eventually("three changes", || {
        reader.rows().len() == 3 && shown.lines().len() == 3
    });
    let told = reader.rows();
    let pairs = |key: &str| {
        told.iter()
            .map(|event| event[key].as_str())
            .collect::<Vec<_>>()
    };
    assert_eq!(pairs("schema"), [Some("vswitch.event/1"); 3]);
    assert_eq!(pairs("kind"), [Some("guard"); 3]);
    assert_eq!(pairs("port"), [Some(PORT); 3]);
    let rungs = ["TCX", "clsact filter", "sysctls only", "TCX"].map(Some);
    assert_eq!(
        (pairs("from"), pairs("to")),
        (rungs[..3].to_vec(), rungs[1..].to_vec())
    );
    assert_eq!(pairs("event"), ["changed", "failed", "changed"].map(Some));
    let why = told[1]["why"].as_str().unwrap();
    let rungs: Vec<&str> = why
        .split("; ")
        .map(|one| one.split_once(": ").unwrap().0)
        .collect();
    assert_eq!(rungs, ["TCX", "nft owner table", "clsact filter"], "{why}");
    let words = shown.lines();
    let ends = [
        "veth2 held off by TCX -> clsact filter".to_owned(),
        format!("veth2 failed: clsact filter -> sysctls only: {why}"),
        "veth2 held off by sysctls only -> TCX".to_owned(),
    ];
    for (line, end) in words.iter().zip(&ends) {
        let (_, words) = line.split_once("Z  guard    ").unwrap();
        assert_eq!(words, end);
    }
    for reader in [&mut reader, &mut shown] {
        reader.signal(Signal::SIGKILL);
        reader.wait();
    }
    world.finish(&[]);
}
