//! Ports whose interfaces go down, vanish, and come back, while the others go on.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use vswitch_cli::lab::{Cable, End};

use super::bed::{Bed, SECOND, eventually, index_of, netlink};
use super::stream::{Spot, Stream, resumed};

const WORDS: &str = "--ports veth1,veth2,veth3";

/// Goal: whatever happens to one port, the others lose nothing, the port itself is back within a
/// second, and the host is as it was in the end. Method: `happen` does it to `veth3` and brings it
/// back, while a stream runs between the two others; frames then find their way to it and from it.
fn one_in_trouble(happen: impl Fn(&Bed)) {
    let Some(bed) = Bed::new(3) else { return };
    let before = bed.snapshot().without("veth3");
    let running = bed.start(WORDS);
    let stream = Stream::start(bed.net.c(1), bed.net.c(2), bed.net.ip(2));
    for _ in 0..2 {
        happen(&bed);
        let back = resumed(Spot::of(bed.net.c(1)), Spot::of(bed.net.c(3)));
        assert!(back < SECOND, "back after {back:?}: {:#?}", running.says());
        assert_eq!(bed.operstate("veth3"), "UP");
        assert!(bed.reaches(bed.net.c(3), bed.net.gateway()));
    }
    stream.finish_whole();
    running.end(nix::sys::signal::Signal::SIGTERM);
    before.assert_same(&bed.snapshot().without("veth3"));
}

fn add_veth3(bed: &Bed) {
    let (h, c3) = (bed.h(), bed.net.c(3));
    // Another address than before: as with any container that is made anew.
    let cable = Cable {
        near: End::new(h, "veth3"),
        far: End::new(c3, "eth0"),
        mtu: None,
    };
    let what = "lay the cable again";
    for (host, name) in [(h, "veth3"), (c3, "eth0")] {
        assert!(host.link(name).is_err(), "{what}: {name} is still there");
    }
    netlink(h, |n| {
        let end = |name, netns| vswitch_cli::host::link::VethEnd {
            name,
            netns,
            ..Default::default()
        };
        n.add_veth(&end("veth3", None), &end(cable.far.name, Some(c3.as_fd())))
    });
    c3.set_up("eth0", true).unwrap();
    c3.address("eth0", bed.net.ip(3), 24).unwrap();
    c3.default_route("eth0", bed.net.gateway()).unwrap();
}

#[test]
fn down_and_up() {
    one_in_trouble(|bed| {
        bed.h().set_up("veth3", false).unwrap();
        eventually("down", || bed.operstate("veth3") == "DOWN");
        bed.h().set_up("veth3", true).unwrap();
    });
}

#[test]
fn deleted_and_made_again() {
    one_in_trouble(|bed| {
        bed.h().delete_link("veth3").unwrap();
        eventually("gone", || bed.operstate("veth3") == "NOTPRESENT");
        assert!(
            bed.rows("fdb", "ifname", "veth3").is_empty(),
            "stations of a gone port"
        );
        add_veth3(bed);
    });
}

/// As above, but the switch never gets to see that it was gone.
#[test]
fn replaced_at_once() {
    one_in_trouble(|bed| {
        bed.h().delete_link("veth3").unwrap();
        add_veth3(bed);
    });
}

#[test]
fn renamed_away_and_back() {
    one_in_trouble(|bed| {
        let index = index_of(bed.h(), "veth3");
        netlink(bed.h(), |n| n.rename(index, "elsewhere"));
        eventually("gone", || bed.operstate("veth3") == "NOTPRESENT");
        // Under another name it is the host's again.
        let link = bed.h().link("elsewhere").unwrap();
        assert_eq!(link.promiscuity, 0);
        netlink(bed.h(), |n| n.rename(index, "veth3"));
        eventually("held again", || {
            bed.h().link("veth3").unwrap().promiscuity == 1
        });
        let held = bed.rows("port", "ifname", "veth3");
        assert_ne!(held[0]["vswitch"]["guard"], "none");
    });
}

#[test]
fn moved_to_another_namespace_and_back() {
    one_in_trouble(|bed| {
        let (h, o) = (bed.h(), &bed.net.o);
        let index = index_of(h, "veth3");
        netlink(h, |n| n.move_to_netns(index, o.as_fd()));
        eventually("gone", || bed.operstate("veth3") == "NOTPRESENT");
        let index = index_of(o, "veth3");
        netlink(o, |n| n.move_to_netns(index, h.as_fd()));
    });
}

#[test]
fn carrier_lost_and_found() {
    one_in_trouble(|bed| {
        bed.net.c(3).set_up("eth0", false).unwrap();
        eventually("down", || bed.operstate("veth3") == "DOWN");
        bed.net.c(3).set_up("eth0", true).unwrap();
        // Its default route went with the carrier.
        let _ = bed.net.c(3).default_route("eth0", bed.net.gateway());
    });
}

#[test]
fn another_mtu_and_the_old_one() {
    one_in_trouble(|bed| {
        for mtu in [1300, 1500] {
            bed.h().set_mtu("veth3", mtu).unwrap();
            let followed = || bed.rows("port", "ifname", "veth3")[0]["mtu"] == mtu;
            eventually("the new MTU", followed);
        }
    });
}

/// Goal: a port that comes back with an address, or in a bridge, is not taken before it is free.
#[test]
fn back_but_not_ours_yet() {
    let Some(bed) = Bed::new(3) else { return };
    let running = bed.start(WORDS);
    bed.h().delete_link("veth3").unwrap();
    eventually("gone", || bed.operstate("veth3") == "NOTPRESENT");
    bed.h().bridge("br0", &[]).unwrap();
    let bridge = index_of(bed.h(), "br0");
    add_veth3_enslaved(&bed, bridge);
    running.hears("warning: error: veth3: belongs to br0, which takes its frames");
    assert_eq!(bed.operstate("veth3"), "NOTPRESENT");
    let index = index_of(bed.h(), "veth3");
    netlink(bed.h(), |n| n.set_master(index, None));
    assert!(resumed(Spot::of(bed.net.c(1)), Spot::of(bed.net.c(3))) < SECOND);
    let said = running.says();
    let warnings = said
        .iter()
        .filter(|line| line.contains("belongs to br0"))
        .count();
    assert_eq!(warnings, 1, "{said:#?}");
}

fn add_veth3_enslaved(bed: &Bed, bridge: u32) {
    // Made under another name, so that the switch sees it in the bridge only.
    let (h, c3) = (bed.h(), bed.net.c(3));
    netlink(h, |n| {
        let end = |name, netns| vswitch_cli::host::link::VethEnd {
            name,
            netns,
            ..Default::default()
        };
        n.add_veth(&end("later", None), &end("eth0", Some(c3.as_fd())))?;
        let index = n.link_named("later")?.index;
        n.set_master(index, Some(bridge))?;
        n.rename(index, "veth3")?;
        n.set_up(index, true)
    });
    c3.set_up("eth0", true).unwrap();
}

/// Goal: ports and stations come and go by command, with effect on traffic, and the port that
/// stays loses nothing.
#[test]
fn added_and_removed_by_command() {
    let Some(bed) = Bed::new(3) else { return };
    bed.h().set_up("veth3", false).unwrap();
    let before = bed.snapshot();
    let running = bed.start("--ports veth1,veth2 --uplink eth0");
    let stream = Stream::start(bed.net.c(1), bed.net.c(2), bed.net.ip(2));
    assert!(!bed.reaches(bed.net.c(3), bed.net.gateway()));
    let beside = bed.snapshot();
    assert_eq!(bed.does("port add veth3"), "veth3 added");
    assert!(bed.reaches(bed.net.c(3), bed.net.gateway()));
    assert!(bed.reaches(bed.net.c(3), bed.net.ip(1)));
    let (code, line) = bed.refused("port add veth3");
    assert_eq!(code, 1);
    assert_eq!(
        line,
        "error: port veth3: it is a port of this switch already; fix: vswitch port del veth3"
    );
    assert_eq!(bed.does("port del veth3"), "veth3 removed");
    assert!(bed.rows("fdb", "ifname", "veth3").is_empty());
    // Given back at once, not when the switch ends.
    beside.assert_same(&bed.snapshot());
    let (code, line) = bed.refused("port del veth3");
    assert_eq!(
        (code, line.as_str()),
        (1, "error: port veth3: there is none; fix: vswitch port")
    );
    let (code, line) = bed.refused("port add lo");
    assert_eq!(code, 1);
    assert_eq!(
        line,
        "error: lo: the loopback carries no Ethernet; fix: ip -br link"
    );
    stream.finish_whole();
    running.ends_as_before(&before);
}

/// Goal: a fixed station is where it was fixed, whatever it sends; a flush forgets the learned.
#[test]
fn stations_fixed_forgotten_and_flushed() {
    let Some(bed) = Bed::new(3) else { return };
    let running = bed.start(WORDS);
    let spot = Spot::of(bed.net.c(2));
    assert!(bed.reaches(bed.net.c(1), bed.net.ip(2)));
    let mac = spot.mac.map(|byte| format!("{byte:02x}")).join(":");
    assert_eq!(
        bed.does(&format!("fdb add {mac} dev veth3")),
        format!("{mac} fixed to veth3")
    );
    assert_eq!(bed.rows("fdb", "mac", &mac)[0]["ifname"], "veth3");
    assert_eq!(bed.rows("fdb", "mac", &mac)[0]["state"], "static");
    assert!(
        !bed.reaches(bed.net.c(1), bed.net.ip(2)),
        "frames go to veth3"
    );
    assert_eq!(
        bed.does(&format!("fdb del {mac}")),
        format!("{mac} forgotten (was on veth3)")
    );
    assert!(bed.reaches(bed.net.c(1), bed.net.ip(2)));
    assert_eq!(bed.rows("fdb", "mac", &mac)[0]["ifname"], "veth2");
    let flushed = bed.does("fdb flush dev veth2");
    assert_eq!(flushed, "1 learned stations forgotten");
    thread::sleep(Duration::from_millis(20));
    let (code, line) = bed.refused("fdb add 02:00:00:00:00:99 dev veth9");
    assert_eq!(
        (code, line.as_str()),
        (1, "error: port veth9: there is none; fix: vswitch port")
    );
    assert!(bed.reaches(bed.net.c(1), bed.net.ip(2)));
    drop(running);
}
