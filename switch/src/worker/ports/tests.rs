//! Ports that fall quiet and wake: TAPs, whose frames come from the kernel's side.

use super::*;
use crate::frame::{Offload, OwnedFrame};
use crate::port::tests::link::{Links, in_namespace};
use crate::port::{Egress, HotBuffers, Outgoing, SendOutcome, TapDevice, Tx, Waiter};
use std::time::Duration;

const COUNT: u16 = 20;

struct Bed<'a> {
    links: &'a Links,
    ports: Ports,
    tx: Tx,
    hot: HotBuffers,
}

fn name(port: PortIndex) -> String {
    format!("tap{}", port.0)
}

impl<'a> Bed<'a> {
    fn new(links: &'a Links) -> Self {
        let mut ports = Ports::default();
        for port in (0..COUNT).map(PortIndex) {
            let tap = TapDevice::open(&name(port)).unwrap();
            links.set_up(links.index(&name(port)), true);
            ports.push(port, Rx::Tap(tap.into_rx(port)));
        }
        let (tx, hot) = (Tx::open().unwrap(), HotBuffers::new());
        Self {
            links,
            ports,
            tx,
            hot,
        }
    }

    /// The stack behind a TAP sends a frame.
    fn send(&mut self, port: u16) {
        let mut frame = OwnedFrame::new(&[2; 60], Offload::PLAIN, PortIndex(port));
        let mut frame = frame.borrow();
        frame.seal(0);
        let egress = &Egress::Packet {
            ifindex: self.links.index(&name(PortIndex(port))),
        };
        let sealed = frame.sealed();
        let mut outcomes = Vec::new();
        self.tx.send(&[Outgoing { sealed, egress }], &mut outcomes);
        assert_eq!(outcomes, [SendOutcome::Sent]);
    }

    /// What a sleep that ends at once finds out.
    fn look(&mut self) {
        let mut waiter = Waiter::new();
        for fd in self.ports.fds() {
            waiter.watch(fd);
        }
        waiter.wait(Some(Duration::ZERO));
        self.ports.heed(|place| waiter.is_ready(place));
    }

    /// The ports that are visited.
    fn visited(&self) -> Vec<u16> {
        let visited = &self.ports.all[..self.ports.visited()];
        let mut visited: Vec<u16> = visited.iter().map(|own| own.port.0).collect();
        visited.sort_unstable();
        visited
    }

    /// Reads all that visited ports have, where a look is due, and returns whose it was.
    fn read(&mut self) -> Vec<u16> {
        let mut read = Vec::new();
        for place in 0..self.ports.visited() {
            let own = self.ports.get_mut(place).unwrap();
            if own.look {
                let count = own.rx.fill(&mut self.hot).len();
                own.look = false;
                own.heat(count);
                read.extend(std::iter::repeat_n(own.port.0, count));
            }
        }
        read
    }

    fn fds(&self) -> usize {
        self.ports.fds().count()
    }
}

#[test]
fn a_quiet_port_wakes_with_its_first_frame_and_a_busy_one_is_left_to_ppoll() {
    in_namespace(|links| {
        let mut bed = Bed::new(links);
        assert_eq!((bed.visited().len(), bed.fds()), (20, 20));
        // Nothing came, but for one frame nobody has read yet.
        bed.send(3);
        bed.ports.sort_out();
        assert_eq!((bed.visited().len(), bed.fds()), (0, 1));
        bed.look();
        assert_eq!((bed.visited(), bed.read()), (vec![3], vec![3]));
        bed.look();
        assert_eq!(bed.read(), [], "it was read");
        for port in [13, 19] {
            bed.send(port);
        }
        bed.ports.ask();
        assert_eq!(bed.visited(), [3, 13, 19]);
        let mut read = bed.read();
        read.sort_unstable();
        assert_eq!(read, [13, 19]);
        // The epoll set keeps them while they have few frames.
        bed.ports.sort_out();
        assert_eq!((bed.visited(), bed.fds()), (vec![3, 13, 19], 1));
        for _ in 0..BUSY_FRAMES {
            bed.send(13);
            bed.look();
            assert_eq!(bed.read(), [13]);
        }
        bed.ports.sort_out();
        assert_eq!((bed.visited(), bed.fds()), (vec![13], 2));
        bed.send(13);
        bed.ports.ask();
        assert_eq!(bed.read(), [], "it is not in the epoll set");
        bed.look();
        assert_eq!(bed.read(), [13]);
        bed.ports.sort_out();
        bed.ports.sort_out();
        assert_eq!((bed.visited(), bed.fds()), (vec![], 1));
    });
}

#[test]
fn a_port_that_was_taken_out_is_waited_for_no_more() {
    in_namespace(|links| {
        let mut bed = Bed::new(links);
        bed.ports.sort_out();
        let kept = bed.ports.remove(PortIndex(13)).unwrap();
        assert!(bed.ports.remove(PortIndex(13)).is_none());
        bed.send(13);
        bed.look();
        assert_eq!(bed.visited(), []);
        // Put in again, as when it moves, it tells what it has.
        bed.ports.push(PortIndex(13), kept.rx);
        assert_eq!((bed.visited(), bed.fds()), (vec![13], 2));
        assert_eq!(bed.read(), [13]);
        // With few ports, all are visited, and every one is found in its place.
        bed.ports.sort_out();
        for port in [0, 19, 7, 8] {
            assert_eq!(bed.ports.remove(PortIndex(port)).unwrap().port.0, port);
        }
        bed.ports.sort_out();
        assert_eq!((bed.visited().len(), bed.fds()), (16, 17));
        bed.send(18);
        bed.look();
        assert_eq!(bed.read().last(), Some(&18));
    });
}

#[test]
fn a_device_that_is_deleted_does_not_keep_its_worker_awake() {
    in_namespace(|links| {
        let mut bed = Bed::new(links);
        bed.ports.sort_out();
        links.delete(links.index("tap4"));
        bed.look();
        assert_eq!(bed.visited(), [4]);
        assert_eq!(bed.read(), []);
        let mut waiter = Waiter::new();
        for fd in bed.ports.fds() {
            waiter.watch(fd);
        }
        let told = waiter.wait(Some(Duration::ZERO));
        assert!(told <= 1, "{told}");
        assert_eq!(waiter.wait(Some(Duration::ZERO)), 0, "no spin");
    });
}

#[test]
fn a_simulated_port_is_always_visited() {
    let mut ports = Ports::default();
    for port in (0..COUNT).map(PortIndex) {
        let (rx, ..) = crate::port::sim::cable(port, crate::port::sim::CableOptions::default());
        ports.push(port, Rx::Sim(rx));
    }
    ports.sort_out();
    assert_eq!(ports.visited(), usize::from(COUNT));
    for port in (0..COUNT).rev().step_by(2).map(PortIndex) {
        assert_eq!(ports.remove(port).map(|own| own.port), Some(port));
    }
    assert_eq!(ports.visited(), usize::from(COUNT) / 2);
    assert_eq!(ports.into_halves().len(), usize::from(COUNT) / 2);
}
