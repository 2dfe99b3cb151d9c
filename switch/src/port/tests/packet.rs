//! Packet ports.

use super::link::in_namespace;
use super::*;
use crate::port::sys::affinity;
use crate::port::{PortError, Readiness};

const HYBRID: Option<RingGeometry> = Some(RingGeometry::HYBRID_DEFAULT);
const FULL: Option<RingGeometry> = Some(RingGeometry::FULL_DEFAULT);
const SMALL: Option<RingGeometry> = Some(RingGeometry::Hybrid { slots: 32 });

fn out(ifindex: u32) -> Egress {
    Egress::Packet { ifindex }
}

/// The geometries this user may have.
fn geometries(ifindex: u32) -> Vec<Option<RingGeometry>> {
    if may_have_hybrid(ifindex) {
        vec![HYBRID, FULL]
    } else {
        vec![FULL]
    }
}

fn may_have_hybrid(ifindex: u32) -> bool {
    match PacketRx::open(&options(ifindex, HYBRID)) {
        Ok(_) => true,
        Err(error @ PortError::Queue { .. }) => {
            println!("SKIPPED with hybrid rings: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_best_geometry_that_is_allowed_is_the_default() {
    in_namespace(|links| {
        let wire = links.wire();
        let hybrid = may_have_hybrid(wire.near);
        let best = if hybrid {
            RingGeometry::HYBRID_DEFAULT
        } else {
            RingGeometry::FULL_DEFAULT
        };
        assert_eq!(
            PacketRx::open(&options(wire.near, None))
                .unwrap()
                .geometry(),
            best
        );
    });
}

#[test]
fn exactly_the_frames_sent_arrive_in_order() {
    in_namespace(|links| {
        let wire = links.wire();
        for geometry in geometries(wire.near).into_iter().chain([None]) {
            let mut rx = open(wire.near, geometry);
            let mut tx = Tx::open().unwrap();
            assert!(!rx.has_frames());
            // In parts that fit the smallest ring, and three times round it.
            for part in 0..8u32 {
                let frames: Vec<_> = (0..100)
                    .map(|n| frame(part * 100 + n, 60 + (n * 14) as usize))
                    .collect();
                send_all(&mut tx, &out(wire.far), &frames);
                assert_eq!(receive(&mut rx, 100), frames);
            }
            assert!(!rx.has_frames());
            receive_none(&mut rx);
            assert_eq!(rx.losses(), Losses::default());
        }
    });
}

#[test]
fn a_gso_frame_passes_whole_through_either_ring() {
    in_namespace(|links| {
        let wire = links.wire();
        for geometry in geometries(wire.near) {
            let mut rx = open(wire.near, geometry);
            let mut tx = Tx::open().unwrap();
            // Between small frames, and more in a row than one batch may fetch.
            let frames: Vec<_> = (0..90)
                .map(|n| {
                    if n % 3 == 0 {
                        frame(n, 60)
                    } else {
                        tcp4_gso(n, 60_000)
                    }
                })
                .collect();
            send_all(&mut tx, &out(wire.far), &frames);
            assert_eq!(receive(&mut rx, frames.len()), frames);
            assert_eq!(rx.losses(), Losses::default());
        }
    });
}

#[test]
fn the_longest_frame_passes() {
    in_namespace(|links| {
        let wire = links.wire();
        links.set_mtu(wire.near, 65_535);
        links.set_mtu(wire.far, 65_535);
        for geometry in geometries(wire.near) {
            let mut rx = open(wire.near, geometry);
            // The kernel itself cuts a GSO frame of 65,536 bytes or more with its Ethernet header
            // (`gso_features_check`, net/core/dev.c), so that is the longest to cross a veth.
            let frames = [frame(1, 65_535 + 14), tcp4_gso(2, 65_535 - 54)];
            send_all(&mut Tx::open().unwrap(), &out(wire.far), &frames);
            assert_eq!(receive(&mut rx, 2), frames);
            assert_eq!(rx.losses(), Losses::default());
        }
    });
}

#[test]
fn frames_longer_than_64_kib_are_counted_as_truncated() {
    in_namespace(|links| {
        let wire = links.wire();
        links.set_gso_max_size(wire.far, 200_000);
        for geometry in geometries(wire.near) {
            let mut rx = open(wire.near, geometry);
            let mut tx = Tx::open().unwrap();
            send_all(
                &mut tx,
                &out(wire.far),
                &[frame(1, 60), tcp6_gso(100_000), frame(2, 60)],
            );
            assert_eq!(receive(&mut rx, 2), [frame(1, 60), frame(2, 60)]);
            assert_eq!(
                rx.losses(),
                Losses {
                    truncated: 1,
                    ..Losses::default()
                }
            );
            // The queue of long frames is still in step with the slots.
            send_all(&mut tx, &out(wire.far), &[tcp4_gso(3, 50_000)]);
            assert_eq!(receive(&mut rx, 1), [tcp4_gso(3, 50_000)]);
        }
    });
}

/// As [`tcp4_gso`], over IPv6 and without a limit of 64 KiB (a jumbogram's length is 0).
fn tcp6_gso(payload: usize) -> Seen {
    let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
    bytes.extend([0x60, 0, 0, 0, 0, 0, 6, 64]);
    bytes.extend([0x20; 32]);
    bytes.extend([
        0x9c, 0x40, 0, 80, 0, 0, 0, 9, 0, 0, 0, 0, 0x50, 0x10, 1, 0, 0x12, 0x34, 0, 0,
    ]);
    bytes.resize(bytes.len() + payload, 0x5a);
    let csum = Csum::Partial {
        start: 54,
        offset: 16,
    };
    Seen {
        bytes,
        offload: Offload {
            csum,
            gso: Gso::Tcp6 {
                mss: 1428,
                ecn: false,
            },
        },
    }
}

#[test]
fn vlan_tags_come_back_where_they_were() {
    in_namespace(|links| {
        let wire = links.wire();
        for geometry in geometries(wire.near) {
            let mut rx = open(wire.near, geometry);
            let mut long = tcp4_gso(4, 40_000);
            long.bytes.splice(12..12, [0x81, 0, 0, 5]);
            long.offload.csum = Csum::Partial {
                start: 38,
                offset: 16,
            };
            let frames = [
                tagged(0, &[0x81, 0, 0xa0, 42]),
                tagged(1, &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 8]),
                tagged(2, &[0x81, 0, 0x60, 0]),
                tagged(3, &[0x81, 0, 0, 0]),
                long,
                frame(5, 60),
            ];
            send_all(&mut Tx::open().unwrap(), &out(wire.far), &frames);
            assert_eq!(receive(&mut rx, frames.len()), frames);
            assert_eq!(rx.losses(), Losses::default());
        }
    });
}

#[test]
fn one_oversize_frame_is_charged_and_the_others_arrive() {
    in_namespace(|links| {
        let wire = links.wire();
        let mut rx = open(wire.near, None);
        let mut frames: Vec<_> = (0..11).map(|n| frame(n, 200)).collect();
        frames[5] = frame(5, 3000);
        let outcomes = send(&mut Tx::open().unwrap(), &out(wire.far), &frames);
        let expected = |n| {
            if n == 5 {
                SendOutcome::TooBig
            } else {
                SendOutcome::Sent
            }
        };
        assert_eq!(outcomes, (0..11).map(expected).collect::<Vec<_>>());
        frames.remove(5);
        assert_eq!(receive(&mut rx, 10), frames);
        receive_none(&mut rx);
    });
}

#[test]
fn errors_are_charged_to_their_frames_across_many_calls() {
    in_namespace(|links| {
        let wire = links.wire();
        links.set_mtu(wire.near, 1000);
        let mut rx = open(wire.near, Some(RingGeometry::Full { slots: 300 }));
        let mut tx = Tx::open().unwrap();
        // More than two calls' worth; the far end's MTU is 1500, the near end's 1000.
        let len = |n| match n % 7 {
            3 => 1400,
            5 => 1600,
            _ => 900,
        };
        let frames: Vec<_> = (0..300).map(|n| frame(n, len(n))).collect();
        let outcomes = send(&mut tx, &out(wire.far), &frames);
        for (n, outcome) in (0..).zip(&outcomes) {
            let expected = match len(n) {
                1400 => SendOutcome::Full,
                1600 => SendOutcome::TooBig,
                _ => SendOutcome::Sent,
            };
            assert_eq!(*outcome, expected, "frame {n}");
        }
        let good: Vec<_> = frames
            .into_iter()
            .filter(|frame| frame.bytes.len() == 900)
            .collect();
        assert_eq!(receive(&mut rx, good.len()), good);
    });
}

#[test]
fn each_kind_of_refusal_has_its_outcome() {
    in_namespace(|links| {
        let wire = links.wire();
        let mut tx = Tx::open().unwrap();
        let mut unfit = frame(1, 100);
        // USO without an unfinished checksum is what the kernel refuses (EINVAL).
        unfit.offload.gso = Gso::Udp { size: 50 };
        assert_eq!(
            send(&mut tx, &out(wire.far), &[unfit]),
            [SendOutcome::Offload]
        );
        links.set_up(wire.far, false);
        assert_eq!(
            send(&mut tx, &out(wire.far), &[frame(1, 60)]),
            [SendOutcome::Down]
        );
        links.delete(wire.far);
        assert_eq!(
            send(&mut tx, &out(wire.far), &[frame(1, 60)]),
            [SendOutcome::Gone]
        );
        let mut simulated = Tx::without_sockets();
        assert_eq!(
            send(&mut simulated, &out(1), &[frame(1, 60)]),
            [SendOutcome::Down]
        );
    });
}

#[test]
fn frames_to_several_ports_keep_their_order_and_outcomes() {
    in_namespace(|links| {
        // A thread that moves to another processor between two sends leaves frames on the backlogs
        // of both, which the kernel empties in any order.
        let cpus = affinity::allowed_cpus().unwrap();
        affinity::pin_current_thread(cpus[0]).unwrap();
        let wire = links.wire();
        let (mut near, mut far) = (open(wire.near, None), open(wire.far, None));
        let mut tx = Tx::open().unwrap();
        let egresses = [
            out(wire.far),
            Egress::Uplink { ifindex: wire.near },
            out(9999),
        ];
        let mut owned: Vec<_> = (0..60)
            .map(|n| OwnedFrame::new(&frame(n, 80).bytes, Offload::PLAIN, INGRESS))
            .collect();
        let frames: Vec<_> = owned.iter_mut().map(OwnedFrame::borrow).collect();
        let outgoing: Vec<_> = frames
            .iter()
            .zip(egresses.iter().cycle())
            .map(|(frame, egress)| Outgoing {
                sealed: frame.sealed(),
                egress,
            })
            .collect();
        let mut outcomes = Vec::new();
        tx.send(&outgoing, &mut outcomes);
        let expected = [SendOutcome::Sent, SendOutcome::Sent, SendOutcome::Gone];
        assert_eq!(outcomes, expected.repeat(20));
        let numbers = |first: u32| {
            (0..20)
                .map(|n| frame(first + n * 3, 80))
                .collect::<Vec<_>>()
        };
        assert_eq!(receive(&mut near, 20), numbers(0));
        assert_eq!(receive(&mut far, 20), numbers(1));
    });
}

#[test]
fn what_this_machine_sends_is_not_received() {
    in_namespace(|links| {
        let wire = links.wire();
        let (mut near, mut far) = (open(wire.near, None), open(wire.far, None));
        let frames: Vec<_> = (0..20).map(|n| frame(n, 60)).collect();
        send_all(&mut Tx::open().unwrap(), &out(wire.far), &frames);
        assert_eq!(receive(&mut near, 20), frames);
        receive_none(&mut far);
    });
}

#[test]
fn every_frame_is_received_or_counted_when_the_ring_is_full() {
    in_namespace(|links| {
        let wire = links.wire();
        if !may_have_hybrid(wire.near) {
            return;
        }
        let mut rx = open(wire.near, SMALL);
        let mut tx = Tx::open().unwrap();
        let frames: Vec<_> = (0..1000).map(|n| frame(n, 100)).collect();
        for round in 1..=3 {
            send_all(&mut tx, &out(wire.far), &frames);
            assert_eq!(
                receive_for(&mut rx, 1000, SILENCE),
                frames[..32],
                "round {round}"
            );
            let losses = Losses {
                ring_full: 1000 - 32,
                ..Losses::default()
            };
            assert_eq!(rx.losses(), losses, "round {round}");
            assert_eq!(rx.losses(), Losses::default(), "told once");
        }
    });
}

#[test]
fn every_long_frame_is_received_or_counted_when_the_queue_is_full() {
    in_namespace(|links| {
        let wire = links.wire();
        if !may_have_hybrid(wire.near) {
            return;
        }
        let mut rx = open(wire.near, HYBRID);
        let mut tx = Tx::open().unwrap();
        let mut sent = 0;
        for n in 0..600 {
            sent += usize::from(
                send(&mut tx, &out(wire.far), &[tcp4_gso(n, 60_000)]) == [SendOutcome::Sent],
            );
        }
        let seen = receive_for(&mut rx, sent, SILENCE).len();
        let losses = rx.losses();
        assert!(losses.truncated > 0, "the queue was meant to overflow");
        assert_eq!(losses.ring_full, 0);
        assert_eq!(seen as u64 + losses.truncated, sent as u64);
        send_all(&mut tx, &out(wire.far), &[tcp4_gso(1000, 60_000)]);
        assert_eq!(receive(&mut rx, 1), [tcp4_gso(1000, 60_000)]);
    });
}

#[test]
fn a_lost_copy_costs_what_is_in_the_ring_and_no_more() {
    in_namespace(|links| {
        let wire = links.wire();
        if !may_have_hybrid(wire.near) {
            return;
        }
        let mut rx = open(wire.near, HYBRID);
        let mut tx = Tx::open().unwrap();
        let frames: Vec<_> = (0..4).map(|n| tcp4_gso(n, 30_000)).collect();
        send_all(&mut tx, &out(wire.far), &frames);
        send_all(&mut tx, &out(wire.far), &[frame(9, 60)]);
        // Somebody takes the first copy away, so all others seem to be one slot too early.
        let fd = std::os::fd::AsRawFd::as_raw_fd(&rx.fd().unwrap());
        let stolen = nix::sys::socket::recv(fd, &mut [0; 100], nix::sys::socket::MsgFlags::empty());
        assert_eq!(stolen, Ok(100));
        assert_eq!(receive_for(&mut rx, 5, SILENCE), [frame(9, 60)]);
        assert_eq!(
            rx.losses(),
            Losses {
                truncated: 4,
                ..Losses::default()
            }
        );
        send_all(&mut tx, &out(wire.far), &frames);
        assert_eq!(receive(&mut rx, 4), frames);
        assert_eq!(rx.losses(), Losses::default());
    });
}

#[test]
fn a_port_survives_its_interface_going_down_and_up() {
    in_namespace(|links| {
        let wire = links.wire();
        if !may_have_hybrid(wire.near) {
            return;
        }
        let mut rx = open(wire.near, HYBRID);
        let mut tx = Tx::open().unwrap();
        send_all(
            &mut tx,
            &out(wire.far),
            &[tcp4_gso(1, 30_000), frame(2, 60)],
        );
        links.set_up(wire.near, false);
        // The pending error comes before the queued frame, and hides none.
        assert_eq!(receive(&mut rx, 2), [tcp4_gso(1, 30_000), frame(2, 60)]);

        links.set_up(wire.near, true);
        links.set_up(wire.near, false);
        let mut waiter = Waiter::new();
        let place = waiter.watch(rx.fd().unwrap());
        assert_eq!(waiter.wait(Some(PATIENCE)), 1);
        assert_eq!(waiter.readiness(place), Readiness::Failed);
        assert_eq!(waiter.wait(Some(Duration::ZERO)), 0, "told once");
        assert!(!rx.is_gone());

        links.set_up(wire.near, true);
        // The kernel takes up to a second to find that the carrier is back.
        let resumed = (0..60).any(|n| {
            send(&mut tx, &out(wire.far), &[frame(n, 60)]);
            !receive_for(&mut rx, 1, SILENCE).is_empty()
        });
        assert!(resumed);
    });
}

#[test]
fn a_deleted_interface_is_gone_for_good() {
    in_namespace(|links| {
        let wire = links.wire();
        let mut rx = open(wire.near, None);
        assert!(!rx.is_gone());
        let mut waiter = Waiter::new();
        waiter.watch(rx.fd().unwrap());
        links.delete(wire.near);
        assert_eq!(waiter.wait(Some(PATIENCE)), 1);
        assert!(rx.is_gone());
        assert_eq!(waiter.wait(Some(Duration::ZERO)), 0, "no spin");
        let again = links.wire();
        send_all(&mut Tx::open().unwrap(), &out(again.far), &[frame(1, 60)]);
        receive_none(&mut rx);
        assert!(rx.is_gone(), "a new interface of that name is another one");
    });
}

#[test]
fn set_up_errors_say_what_why_and_how() {
    in_namespace(|links| {
        let wire = links.wire();
        let error = PacketRx::open(&options(9999, None))
            .unwrap_err()
            .to_string();
        assert!(error.contains("near: cannot attach") && error.contains("ip link show near"));
        let odd = Some(RingGeometry::Hybrid { slots: 33 });
        let error = PacketRx::open(&options(wire.near, odd))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("33 slots") && error.contains("multiple of 32"),
            "{error}"
        );
        let none = Some(RingGeometry::Full { slots: 0 });
        assert!(PacketRx::open(&options(wire.near, none)).is_err());
    });
}
