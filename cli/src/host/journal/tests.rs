use super::*;
use crate::host::link::VethEnd;
use crate::host::netlink::Netlink;
use crate::host::netns::tests::in_fresh_netns;
use crate::host::sysctl;

/// A directory of its own, deleted at the end.
struct Dir(PathBuf);

impl Dir {
    fn new(what: &str) -> Self {
        let path = std::env::temp_dir().join(format!("vsw-{what}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Makes the journal look as if its owner had been killed: another process, long gone.
fn kill_owner(dir: &Path, name: &str) {
    let path = journal_path(dir, name);
    let text = fs::read_to_string(&path).unwrap();
    let mut head = parse_head(&text).unwrap();
    head.start_time -= 1;
    let rest = text.split_once('\n').unwrap().1;
    fs::write(
        &path,
        format!("{}\n{rest}", serde_json::to_string(&head).unwrap()),
    )
    .unwrap();
}

fn forwarding(old: &str, new: &str) -> Change {
    let key = "net/ipv4/conf/default/forwarding".to_owned();
    Change::Sysctl {
        key,
        old: old.into(),
        new: new.into(),
    }
}

const KEY: &str = "net/ipv4/conf/default/forwarding";

#[test]
fn a_name_can_be_held_only_once() {
    let dir = Dir::new("journal-once");
    let (journal, undone) = Journal::open(&dir.0, "one").unwrap();
    assert!(undone.is_empty());
    match Journal::open(&dir.0, "one") {
        Err(JournalError::Running { name, pid }) => {
            assert_eq!((name.as_str(), pid), ("one", std::process::id()));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(
        clean(&dir.0, None).unwrap()[..],
        [Cleaned::Live { .. }]
    ));
    Journal::open(&dir.0, "two").unwrap();
    assert!(
        list(&dir.0)
            .unwrap()
            .iter()
            .any(|found| found.name == "one" && found.live)
    );
    assert!(journal.finish().is_empty());
    assert!(!journal_path(&dir.0, "one").exists());
    drop(journal);
    Journal::open(&dir.0, "one").unwrap();
}

#[test]
fn a_change_is_undone_at_the_end_and_only_once() {
    let dir = Dir::new("journal-end");
    in_fresh_netns("journal end", || {
        let (journal, _) = Journal::open(&dir.0, "x").unwrap();
        sysctl::write(KEY, "0").unwrap();
        let ticket = journal
            .make(forwarding("0", "1"), || sysctl::write(KEY, "1"))
            .unwrap();
        assert_eq!(sysctl::read(KEY).unwrap(), "1");
        assert_eq!(journal.changes(), [forwarding("0", "1")]);
        let undone = journal.undo(ticket).unwrap();
        assert!(matches!(undone.outcome, Outcome::Restored));
        assert_eq!(sysctl::read(KEY).unwrap(), "0");
        assert!(journal.undo(ticket).is_none());
        assert!(journal.finish().is_empty());
    });
}

#[test]
fn a_change_that_fails_is_not_in_the_journal() {
    let dir = Dir::new("journal-fail");
    let (journal, _) = Journal::open(&dir.0, "x").unwrap();
    let failed = journal.make(forwarding("0", "1"), || Err(io::Error::other("no")));
    assert_eq!(failed.unwrap_err().to_string(), "no");
    assert!(journal.changes().is_empty());
    let text = fs::read_to_string(journal_path(&dir.0, "x")).unwrap();
    assert!(parse_changes(&text).is_empty());
}

#[test]
fn after_a_sigkill_the_next_start_restores_what_nobody_has_changed_since() {
    let dir = Dir::new("journal-kill");
    in_fresh_netns("journal kill", || {
        sysctl::write(KEY, "0").unwrap();
        sysctl::write("net/ipv4/ip_default_ttl", "64").unwrap();
        let (journal, _) = Journal::open(&dir.0, "x").unwrap();
        journal
            .make(forwarding("0", "1"), || sysctl::write(KEY, "1"))
            .unwrap();
        let key = "net/ipv4/ip_default_ttl".to_owned();
        let ttl = Change::Sysctl {
            key,
            old: "64".into(),
            new: "65".into(),
        };
        journal
            .make(ttl, || sysctl::write("net/ipv4/ip_default_ttl", "65"))
            .unwrap();
        drop(journal);
        kill_owner(&dir.0, "x");
        sysctl::write("net/ipv4/ip_default_ttl", "70").unwrap(); // the administrator, meanwhile

        assert!(
            list(&dir.0)
                .unwrap()
                .iter()
                .all(|found| !found.live && found.changes.len() == 2)
        );
        let (journal, undone) = Journal::open(&dir.0, "x").unwrap();
        assert_eq!(sysctl::read(KEY).unwrap(), "0");
        assert_eq!(sysctl::read("net/ipv4/ip_default_ttl").unwrap(), "70");
        // Newest first.
        assert!(matches!(&undone[0].outcome, Outcome::LeftAlone(now) if now == "70"));
        assert!(undone[0].to_string().ends_with("now 70"), "{}", undone[0]);
        assert!(matches!(undone[1].outcome, Outcome::Restored));
        assert!(journal.finish().is_empty());
    });
}

#[test]
fn clean_restores_in_the_namespace_where_the_change_was_made() {
    let dir = Dir::new("journal-netns");
    let Ok(netns) = crate::host::netns::Netns::anonymous() else {
        return println!("SKIPPED journal netns: no network namespace");
    };
    // A name, so that it can be found again.
    let name = format!("vswjrnl-{}", std::process::id());
    drop(netns);
    let netns = crate::host::netns::ScopedNetns::create(&name).unwrap();
    netns
        .run(|| {
            sysctl::write(KEY, "0").unwrap();
            let (journal, _) = Journal::open(&dir.0, "x").unwrap();
            journal
                .make(forwarding("0", "1"), || sysctl::write(KEY, "1"))
                .unwrap();
        })
        .unwrap();
    kill_owner(&dir.0, "x");
    let cleaned = clean(&dir.0, Some("x")).unwrap(); // from here, another namespace
    let [Cleaned::Undone { undone, .. }] = &cleaned[..] else {
        panic!("{cleaned:?}")
    };
    assert!(matches!(
        undone[..],
        [Undone {
            outcome: Outcome::Restored,
            ..
        }]
    ));
    assert_eq!(netns.run(|| sysctl::read(KEY)).unwrap().unwrap(), "0");
    assert!(clean(&dir.0, None).unwrap().is_empty());
}

#[test]
fn interfaces_that_are_gone_need_nothing() {
    let dir = Dir::new("journal-gone");
    in_fresh_netns("journal gone", || {
        let mut netlink = Netlink::open().unwrap();
        let end = |name| VethEnd {
            name,
            ..VethEnd::default()
        };
        netlink.add_veth(&end("a"), &end("b")).unwrap();
        let link = netlink.link_named("a").unwrap();
        let interface = Interface {
            index: link.index,
            name: "a".into(),
        };
        let (journal, _) = Journal::open(&dir.0, "x").unwrap();
        let ip = "10.0.0.1".parse().unwrap();
        let all = [
            Change::LinkUp {
                interface: interface.clone(),
            },
            Change::Promiscuous {
                interface: interface.clone(),
            },
            Change::Address {
                interface: interface.clone(),
                ip,
                prefix: 24,
            },
            Change::Filter {
                interface: interface.clone(),
                qdisc_made: true,
                priority: 1,
            },
            Change::Tap {
                interface: interface.clone(),
            },
            Change::InterfaceSysctl {
                family: "ipv4".into(),
                interface,
                setting: "arp_ignore".into(),
                old: "0".into(),
                new: "8".into(),
            },
        ];
        for change in all {
            let _ = journal.record(change).unwrap();
        }
        netlink.delete_link(link.index).unwrap();
        // A new interface of the same name is not the one that was changed.
        netlink.add_veth(&end("a"), &end("b")).unwrap();
        let undone = journal.finish();
        assert_eq!(undone.len(), 6);
        assert!(
            undone.iter().all(|u| matches!(u.outcome, Outcome::Gone)),
            "{undone:?}"
        );
    });
}

#[test]
fn links_addresses_and_promiscuity_are_undone() {
    let dir = Dir::new("journal-links");
    in_fresh_netns("journal links", || {
        let mut netlink = Netlink::open().unwrap();
        let end = |name| VethEnd {
            name,
            ..VethEnd::default()
        };
        netlink.add_veth(&end("a"), &end("b")).unwrap();
        let index = netlink.link_named("a").unwrap().index;
        let interface = Interface {
            index,
            name: "a".into(),
        };
        let (journal, _) = Journal::open(&dir.0, "x").unwrap();
        let _ = journal
            .record(Change::LinkUp {
                interface: interface.clone(),
            })
            .unwrap();
        netlink.set_up(index, true).unwrap();
        let ip = "10.0.0.1".parse().unwrap();
        let address = Change::Address {
            interface: interface.clone(),
            ip,
            prefix: 24,
        };
        let _ = journal.record(address).unwrap();
        netlink.add_address(index, ip, 24).unwrap();
        let _ = journal
            .record(Change::Promiscuous {
                interface: interface.clone(),
            })
            .unwrap();
        netlink.set_promiscuous(index, true).unwrap();
        let added = "40000-40010".to_owned();
        let _ = journal.record(Change::ReservedPorts { added }).unwrap();
        sysctl::reserve_ports(&sysctl::PortSet::range(40_000, 40_010)).unwrap();
        // An index that now belongs to something else is not deleted as a TAP.
        let _ = journal.record(Change::Tap { interface }).unwrap();

        let undone = journal.finish();
        assert!(
            matches!(undone[0].outcome, Outcome::LeftAlone(_)),
            "{undone:?}"
        );
        let others = &undone[1..];
        assert!(
            others
                .iter()
                .all(|u| matches!(u.outcome, Outcome::Restored)),
            "{undone:?}"
        );
        let link = netlink.link(index).unwrap();
        assert!(!link.up && link.promiscuity == 0);
        assert!(
            netlink
                .addresses()
                .unwrap()
                .iter()
                .all(|a| a.index != index)
        );
        assert!(sysctl::reserved_ports().unwrap().is_empty());
    });
}

#[test]
fn a_journal_stays_short_and_names_what_is_still_made() {
    let dir = Dir::new("journal-short");
    let (journal, _) = Journal::open(&dir.0, "x").unwrap();
    let path = journal_path(&dir.0, "x");
    let kept = forwarding("0", "kept");
    journal.record(kept.clone()).unwrap();
    for _ in 0..10 * CLOSED_MAX {
        let failed = journal.make(forwarding("0", "1"), || Err(io::Error::other("no")));
        assert!(failed.is_err());
        assert!(fs::metadata(&path).unwrap().len() < 64 << 10);
    }
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(parse_changes(&text), [kept]);
    assert!(parse_head(&text).unwrap().owner_runs());
    // The short file is locked as the long one was, and nothing lies beside it.
    assert!(matches!(
        Journal::open(&dir.0, "x"),
        Err(JournalError::Running { .. })
    ));
    assert!(!fresh_path(&path).exists());
}

#[test]
fn a_torn_last_line_is_a_change_that_was_never_made() {
    let line = |seq: u64| {
        serde_json::to_string(&Line::Change {
            seq,
            change: forwarding("0", "1"),
        })
        .unwrap()
    };
    let text = format!(
        "head\n{}\n{}\n{{\"undone\":1}}\n{{\"seq\":3,\"cha",
        line(1),
        line(2)
    );
    assert_eq!(parse_changes(&text).len(), 1);
}

#[test]
fn a_foreign_file_is_not_touched() {
    let dir = Dir::new("journal-foreign");
    let path = journal_path(&dir.0, "x");
    fs::write(&path, "something else\n").unwrap();
    assert!(matches!(
        Journal::open(&dir.0, "x"),
        Err(JournalError::Foreign { .. })
    ));
    assert!(matches!(
        clean(&dir.0, None).unwrap()[..],
        [Cleaned::Error(_)]
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "something else\n");
}

#[test]
fn an_earlier_boot_left_nothing() {
    let dir = Dir::new("journal-boot");
    let (journal, _) = Journal::open(&dir.0, "x").unwrap();
    let _ = journal.record(forwarding("0", "1")).unwrap();
    drop(journal);
    let path = journal_path(&dir.0, "x");
    let text = fs::read_to_string(&path).unwrap();
    let boot = sysctl::read(BOOT_ID).unwrap();
    fs::write(
        &path,
        text.replace(&boot, "00000000-0000-0000-0000-000000000000"),
    )
    .unwrap();
    let cleaned = clean(&dir.0, None).unwrap();
    let [Cleaned::Undone { undone, .. }] = &cleaned[..] else {
        panic!("{cleaned:?}")
    };
    assert!(matches!(
        undone[..],
        [Undone {
            outcome: Outcome::Gone,
            ..
        }]
    ));
}

#[test]
fn a_process_is_known_by_its_start_time() {
    let own = std::process::id();
    assert!(start_time(own).unwrap() > 0);
    assert_eq!(start_time(u32::MAX), None);
    let mut head = Head::of_this_process("x").unwrap();
    assert!(head.owner_runs());
    head.start_time += 1;
    assert!(!head.owner_runs());
}
