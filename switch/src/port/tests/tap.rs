//! TAPs. The packet socket on the device plays the part of the stack behind it.

use super::link::in_namespace;
use super::*;
use crate::port::{PortError, TapDevice};

#[test]
fn frames_pass_both_ways_with_their_offload_state() {
    in_namespace(|links| {
        let tap = TapDevice::open("tap0").unwrap();
        assert!(tap.created() && tap.segmentation());
        let ifindex = links.index("tap0");
        links.set_up(ifindex, true);
        let to_stack = Egress::Tap(tap.egress());
        let mut from_stack = Rx::Tap(tap.into_rx(INGRESS));
        let mut stack = open(ifindex, None);
        let mut tx = Tx::open().unwrap();
        let frames: Vec<_> = (0..50)
            .map(|n| match n % 3 {
                0 => frame(n, 60),
                1 => tcp4_gso(n, 60_000),
                _ => tagged(n, &[0x81, 0, 0, 9]),
            })
            .collect();
        send_all(&mut tx, &to_stack, &frames);
        assert_eq!(receive(&mut stack, 50), frames);
        send_all(&mut tx, &Egress::Packet { ifindex }, &frames);
        assert_eq!(receive(&mut from_stack, 50), frames);
        assert_eq!(from_stack.losses(), Losses::default());
        assert!(!from_stack.is_gone());
    });
}

#[test]
fn each_state_of_the_device_has_its_outcome() {
    in_namespace(|links| {
        let tap = TapDevice::open("tap0").unwrap();
        let ifindex = links.index("tap0");
        let egress = Egress::Tap(tap.egress());
        let mut rx = Rx::Tap(tap.into_rx(INGRESS));
        let mut tx = Tx::without_sockets();
        assert_eq!(send(&mut tx, &egress, &[frame(1, 60)]), [SendOutcome::Down]);
        links.set_up(ifindex, true);
        let mut unfit = frame(1, 100);
        unfit.offload.gso = Gso::Tcp4 {
            mss: 50,
            ecn: false,
        };
        unfit.offload.csum = Csum::Partial {
            start: 500,
            offset: 16,
        };
        assert_eq!(send(&mut tx, &egress, &[unfit]), [SendOutcome::Offload]);
        assert_eq!(send(&mut tx, &egress, &[frame(1, 60)]), [SendOutcome::Sent]);
        receive_none(&mut rx);
        let mut waiter = Waiter::new();
        waiter.watch(rx.fd().unwrap());
        links.delete(ifindex);
        assert_eq!(send(&mut tx, &egress, &[frame(1, 60)]), [SendOutcome::Gone]);
        assert!(rx.is_gone());
        assert_eq!(waiter.wait(Some(PATIENCE)), 1);
        assert_eq!(
            waiter.wait(Some(Duration::ZERO)),
            0,
            "no spin on a device that is gone"
        );
        receive_none(&mut rx);
    });
}

#[test]
fn a_device_in_use_is_refused_and_a_persistent_one_attached() {
    in_namespace(|links| {
        let first = TapDevice::open("tap0").unwrap();
        let error = TapDevice::open("tap0").unwrap_err();
        assert!(matches!(error, PortError::TapAttach { .. }), "{error}");
        assert!(error.to_string().contains("another process"), "{error}");
        first.set_persistent(true);
        drop(first);
        let again = TapDevice::open("tap0").unwrap();
        assert!(!again.created(), "it was there before");
        links.set_up(links.index("tap0"), true);
        let mut stack = open(links.index("tap0"), None);
        send_all(
            &mut Tx::open().unwrap(),
            &Egress::Tap(again.egress()),
            &[tcp4_gso(1, 9000)],
        );
        assert_eq!(receive(&mut stack, 1), [tcp4_gso(1, 9000)]);
        drop(again);
        links.delete(links.index("tap0"));

        links.wire();
        let error = TapDevice::open("near").unwrap_err();
        assert!(error.to_string().contains("no tap"), "{error}");
        assert!(matches!(
            TapDevice::open("a/b").unwrap_err(),
            PortError::Name { .. }
        ));
    });
}
