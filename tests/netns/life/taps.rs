//! TAP ports, which may be moved into a container, and the host port.

use std::os::fd::AsFd;

use vswitch_cli::lab::Host;

use super::bed::{Bed, SECOND, eventually, index_of, netlink};
use super::stream::{Spot, Stream, resumed};

/// Moves the TAP `web0` into a host of its own kind and gives it an address there.
fn move_web0(bed: &Bed, to: &Host) {
    let index = index_of(bed.h(), "web0");
    netlink(bed.h(), |n| n.move_to_netns(index, to.as_fd()));
    to.set_up("web0", true).unwrap();
}

/// Goal: a TAP works before and after it was moved into a container, whose end ends it; then it is
/// made anew for the next. Method: an empty namespace plays the container.
#[test]
fn a_tap_moves_into_a_container_and_on_to_the_next() {
    let Some(mut bed) = Bed::new(2) else { return };
    let box1 = bed.net.lab().host("box1").unwrap();
    let before = bed.snapshot();
    let running = bed.start("--ports veth1,veth2,tap:web0 --uplink eth0");
    let stream = Stream::start(bed.net.c(1), bed.net.c(2), bed.net.ip(2));
    assert!(resumed(Spot::of(bed.net.c(1)), Spot::on(bed.h(), "web0")) < SECOND);
    move_web0(&bed, &box1);
    assert!(resumed(Spot::of(bed.net.c(1)), Spot::on(&box1, "web0")) < SECOND);
    running.hears("web0  moved to another namespace");
    assert_eq!(bed.operstate("web0"), "UP");
    box1.address("web0", [10, 9, 0, 77], 24).unwrap();
    box1.default_route("web0", bed.net.gateway()).unwrap();
    assert!(bed.reaches(&box1, bed.net.gateway()));
    assert!(bed.reaches(&box1, vswitch_cli::lab::Topology::OUTSIDE));
    box1.delete_link("web0").unwrap();
    // Nothing of this namespace tells that: the next look at it, or a frame, does.
    eventually("made anew", || bed.h().link("web0").is_ok());
    assert!(resumed(Spot::of(bed.net.c(1)), Spot::on(bed.h(), "web0")) < SECOND);
    stream.finish_whole();
    running.ends_as_before(&before);
}

/// Goal: a TAP that is deleted by hand is made anew.
#[test]
fn a_tap_deleted_is_made_anew() {
    let Some(bed) = Bed::new(1) else { return };
    let running = bed.start("--ports veth1,tap:web0");
    let index = index_of(bed.h(), "web0");
    bed.h().delete_link("web0").unwrap();
    running.hears("web0  back");
    assert_ne!(index_of(bed.h(), "web0"), index);
    assert!(resumed(Spot::of(bed.net.c(1)), Spot::on(bed.h(), "web0")) < SECOND);
}

/// Goal: the host port survives being taken down, and being deleted.
#[test]
fn the_host_port_comes_back() {
    let Some(bed) = Bed::new(1) else { return };
    let before = bed.snapshot();
    let running = bed.start("--ports veth1");
    assert!(bed.reaches(bed.h(), bed.net.ip(1)));
    bed.h().set_up("vswitch0", false).unwrap();
    eventually("down", || bed.operstate("vswitch0") == "DOWN");
    bed.h().set_up("vswitch0", true).unwrap();
    eventually("up", || bed.operstate("vswitch0") == "UP");
    assert!(bed.reaches(bed.h(), bed.net.ip(1)));
    bed.h().delete_link("vswitch0").unwrap();
    running.hears("vswitch0  was deleted; made anew");
    assert!(bed.reaches(bed.h(), bed.net.ip(1)));
    assert!(bed.reaches(bed.net.c(1), bed.net.gateway()));
    running.ends_as_before(&before);
}
