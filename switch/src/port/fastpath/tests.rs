use std::ops::{Range, RangeInclusive};

use nat::checksum;
use nat::wire::{Ipv4, Tcp};
use proptest::prelude::*;

use super::*;
use crate::port::sys::affinity::{allowed_cpus, pin_current_thread};

/// The interface of a frame that is tried (`bpf_prog_test_run_skb`): the loopback device.
const LOOPBACK: u32 = 1;
const REDIRECT: i32 = 7;
const NEXT: i32 = -1;
const DROP: i32 = 2;
const TAKEN: i32 = -1;

const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
const EXTERNAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const REMOTE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);

fn outbound() -> Shortcut {
    Shortcut {
        ingress: LOOPBACK,
        egress: 7,
        macs: [
            [Mac(*b"gatewa"), Mac(*b"client")],
            [Mac(*b"router"), Mac(*b"\x02wan00")],
        ],
        addresses: [[INSIDE, REMOTE], [EXTERNAL, REMOTE]],
        ports: [[40_122, 443], [50_000, 443]],
        mtu: 1500,
    }
}

fn inbound() -> Shortcut {
    Shortcut {
        macs: [
            [Mac(*b"\x02wan00"), Mac(*b"router")],
            [Mac(*b"client"), Mac(*b"gatewa")],
        ],
        addresses: [[REMOTE, EXTERNAL], [REMOTE, INSIDE]],
        ports: [[443, 50_000], [443, 40_122]],
        ..outbound()
    }
}

/// What is sent by a shortcut, or, `after` it, what becomes of that.
#[derive(Debug, Clone)]
struct Segment {
    payload: Vec<u8>,
    ttl: u8,
    id: u16,
}

impl Segment {
    fn frame(&self, shortcut: &Shortcut, after: usize) -> Vec<u8> {
        let [source, destination] = shortcut.addresses[after];
        let [from, to] = shortcut.ports[after];
        let tcp_bytes = u16::try_from(20 + self.payload.len()).unwrap();
        let mut frame = shortcut.macs[after]
            .map(|mac| mac.0)
            .as_flattened()
            .to_vec();
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + tcp_bytes).to_be_bytes());
        frame.extend(self.id.to_be_bytes());
        frame.extend([0x40, 0, self.ttl - u8::try_from(after).unwrap(), 6, 0, 0]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
        frame.extend(from.to_be_bytes());
        frame.extend(to.to_be_bytes());
        frame.extend([1, 2, 3, 4, 5, 6, 7, 8, 0x50, 0x18, 0x20, 0, 0, 0, 0, 0]);
        frame.extend(&self.payload);
        Ipv4::parse(&mut frame[14..]).unwrap().fill_checksum();
        let pseudo = checksum::pseudo_v4(source, destination, 6, tcp_bytes);
        let sum = checksum::finish(pseudo + checksum::sum(&frame[34..]));
        Tcp::parse(&mut frame[34..]).unwrap().set_checksum(sum);
        frame
    }
}

fn plain() -> Segment {
    Segment {
        payload: b"hello".to_vec(),
        ttl: 64,
        id: 77,
    }
}

/// The kernel's part: both programs, on one processor.
struct Kernel {
    path: FastPath,
    filter: OwnedFd,
    classifier: OwnedFd,
    lost: Value,
}

impl Kernel {
    /// `None`, with a printed reason, where the kernel does not let us load programs.
    fn new() -> Option<Self> {
        let cpu = *allowed_cpus().unwrap().first().unwrap();
        pin_current_thread(cpu).unwrap();
        let path = match FastPath::new(7, Nanos::ZERO) {
            Ok(path) => path,
            Err(error) => {
                println!("SKIPPED bpf: {error}");
                return None;
            }
        };
        let lost = Value::new(code::LOST_BYTES, "vsw_lost").unwrap();
        Some(Self {
            filter: path.filter(None).unwrap(),
            classifier: path.classifier(&lost).unwrap(),
            path,
            lost,
        })
    }

    fn filter(&self, frame: &[u8]) -> i32 {
        // It takes an Ethernet header off before it shows a packet to a socket filter.
        let framed = [&[0; 14], frame].concat();
        bpf::try_program(self.filter.as_fd(), &framed).unwrap()
    }

    fn classify(&self, frame: &[u8]) -> (i32, Vec<u8>) {
        let mut left = vec![0; frame.len()];
        let verdict = bpf::run_program(self.classifier.as_fd(), frame, &mut left).unwrap();
        (verdict, left)
    }

    /// What becomes of a frame; `None` if it comes up to the worker.
    fn carry(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let verdict = self.filter(frame);
        let (classified, left) = self.classify(frame);
        let carried = (verdict, classified) == (0, REDIRECT);
        assert!(
            carried || (verdict, classified) == (TAKEN, NEXT),
            "{verdict} {classified}"
        );
        carried.then_some(left)
    }

    fn lost(&self) -> u64 {
        let [lost] = self.lost.read().unwrap();
        lost
    }
}

fn now() -> Nanos {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).unwrap();
    std::time::Duration::from(time).into()
}

fn segments() -> impl Strategy<Value = Segment> {
    (
        prop::collection::vec(any::<u8>(), 0..1400),
        2u8..,
        any::<u16>(),
    )
        .prop_map(|(payload, ttl, id)| Segment { payload, ttl, id })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_kernel_sends_what_was_decided(
        segment in segments(), addresses: [u32; 3], ports: [u16; 3], out: bool,
    ) {
        let Some(kernel) = Kernel::new() else { return Ok(()) };
        let [inside, external, remote] = addresses.map(Ipv4Addr::from_bits);
        let [port, mapped, service] = ports;
        let shortcut = if out {
            Shortcut {
                addresses: [[inside, remote], [external, remote]],
                ports: [[port, service], [mapped, service]],
                ..outbound()
            }
        } else {
            Shortcut {
                addresses: [[remote, external], [remote, inside]],
                ports: [[service, mapped], [service, port]],
                ..inbound()
            }
        };
        let place = kernel.path.lend(&shortcut, now()).unwrap();
        let frame = segment.frame(&shortcut, 0);
        prop_assert_eq!(kernel.carry(&frame), Some(segment.frame(&shortcut, 1)));
        let carried = Carried { frames: 1, bytes: frame.len() as u64 };
        prop_assert_eq!(kernel.path.carried(&place), carried);
    }
}

#[test]
fn all_that_a_worker_may_have_a_say_in_comes_up() {
    let Some(kernel) = Kernel::new() else { return };
    let shortcut = outbound();
    let place = kernel.path.lend(&shortcut, now()).unwrap();
    let frame = plain().frame(&shortcut, 0);
    assert!(kernel.carry(&frame).is_some());
    let with = |at: usize, byte: u8| {
        let mut other = frame.clone();
        other[at] = byte;
        other
    };
    // Every byte of what it is known by, the EtherType, the header's length and version; a
    // fragment, a packet that may become one; the protocol.
    let key: [Range<usize>; 3] = [0..15, 26..38, 20..22];
    for at in key.into_iter().flatten().chain([23]) {
        assert_eq!(kernel.carry(&with(at, frame[at] ^ 0x21)), None, "{at}");
    }
    for (at, byte) in [(14, 0x46), (20, 0), (20, 0x60), (21, 1), (22, 1), (22, 0)] {
        assert_eq!(kernel.carry(&with(at, byte)), None, "{at} {byte}");
    }
    for flags in 0..=u8::MAX {
        let carried = kernel.carry(&with(47, flags)).is_some();
        assert_eq!(carried, flags & 0x37 == 0x10, "{flags:#x}");
    }
    for short in 14..54 {
        assert_eq!(kernel.filter(&frame[..short]), TAKEN, "{short}");
    }
    let longest = Segment {
        payload: vec![0; 1460],
        ..plain()
    };
    assert!(kernel.carry(&longest.frame(&shortcut, 0)).is_some());
    let longer = Segment {
        payload: vec![0; 1461],
        ..plain()
    };
    assert_eq!(kernel.carry(&longer.frame(&shortcut, 0)), None);
    // Another direction, another interface.
    assert_eq!(kernel.carry(&plain().frame(&inbound(), 0)), None);
    kernel.path.give_back(place, now());
    let elsewhere = Shortcut {
        ingress: 2,
        ..shortcut
    };
    let _place = kernel.path.lend(&elsewhere, now()).unwrap();
    assert_eq!(kernel.carry(&frame), None);
}

#[test]
fn a_shortcut_holds_for_its_lease_and_until_it_is_taken_back() {
    let Some(kernel) = Kernel::new() else { return };
    let shortcut = outbound();
    let frame = plain().frame(&shortcut, 0);
    // The clock that programs read is up to a tick behind.
    let long_ago = now().saturating_sub(LEASE + Nanos::from_millis(20));
    let place = kernel.path.lend(&shortcut, long_ago).unwrap();
    assert_eq!(kernel.carry(&frame), None);
    assert!(kernel.path.renew(&place, now()));
    assert!(kernel.carry(&frame).is_some());
    kernel.path.stop(&place);
    assert_eq!(kernel.carry(&frame), None);
    assert!(!kernel.path.renew(&place, now()));
    assert_eq!(kernel.path.carried(&place).frames, 1);
    // The next for the same connection goes elsewhere, and the old one is not in its way.
    let next = kernel.path.lend(&shortcut, now()).unwrap();
    assert_ne!(next.index, place.index);
    assert!(kernel.carry(&frame).is_some());
    kernel.path.stop_from(LOOPBACK);
    assert_eq!(kernel.carry(&frame), None);
    assert_eq!(kernel.lost(), 0);
}

#[test]
fn between_the_programs_a_frame_is_lost_and_counted() {
    let Some(kernel) = Kernel::new() else { return };
    let shortcut = outbound();
    let place = kernel.path.lend(&shortcut, now()).unwrap();
    let frame = plain().frame(&shortcut, 0);
    assert_eq!(kernel.filter(&frame), 0);
    kernel.path.stop(&place);
    assert_eq!(kernel.classify(&frame).0, DROP);
    assert_eq!((kernel.lost(), kernel.path.carried(&place).frames), (1, 0));
    // What was remembered is of that frame alone.
    assert_eq!(kernel.classify(&frame).0, NEXT);
    let place = kernel.path.lend(&shortcut, now()).unwrap();
    assert_eq!(kernel.filter(&frame), 0);
    let other = Segment {
        payload: Vec::new(),
        ..plain()
    };
    assert_eq!(kernel.classify(&other.frame(&shortcut, 0)).0, NEXT);
    assert_eq!((kernel.lost(), kernel.path.carried(&place).frames), (1, 0));
    // Nor is it that of the next one of this length, if the first never comes.
    assert_eq!(kernel.filter(&frame), 0);
    let mut fin = frame;
    fin[47] |= 1;
    assert_eq!(kernel.carry(&fin), None);
    assert_eq!((kernel.lost(), kernel.path.carried(&place).frames), (1, 0));
}

#[test]
fn in_front_of_a_filter_it_takes_what_the_filter_takes() {
    use crate::port::steer::tests::{fullest, uplink_filter};
    let Some(mut kernel) = Kernel::new() else {
        return;
    };
    kernel.path.filter(Some(&fullest())).unwrap();
    let apart = |count: u16| -> Vec<RangeInclusive<u16>> {
        (0..count).map(|n| 3 * n..=3 * n + 1).collect()
    };
    let many = uplink_filter(EXTERNAL, &apart(512));
    kernel.path.filter(Some(&many)).unwrap();
    let filter = uplink_filter(EXTERNAL, &[50_000..=50_009]);
    kernel.filter = kernel.path.filter(Some(&filter)).unwrap();
    let shortcut = inbound();
    let frame = plain().frame(&shortcut, 0);
    assert_eq!(kernel.carry(&frame), None);
    let foreign = Shortcut {
        ports: [[443, 49_999]; 2],
        ..shortcut
    };
    assert_eq!(kernel.filter(&plain().frame(&foreign, 0)), 0);
    let _place = kernel.path.lend(&shortcut, now()).unwrap();
    assert!(kernel.carry(&frame).is_some());
}

#[test]
fn a_full_set_has_no_room_and_a_place_rests_before_it_serves_another() {
    let path = FastPath::rehearsal(3).unwrap();
    let start = Nanos::from_millis(5);
    let nth = |n: u16| Shortcut {
        ports: [[n, 443], [n, 443]],
        ..outbound()
    };
    let set = path.set(&nth(0));
    let mut alike = (0..=u16::MAX).map(nth).filter(|it| path.set(it) == set);
    let mut places: Vec<Place> = alike
        .by_ref()
        .take(WAYS)
        .map(|shortcut| path.lend(&shortcut, start).unwrap())
        .collect();
    let fifth = alike.next().unwrap();
    assert_eq!(path.lend(&fifth, start), None);
    path.give_back(places.pop().unwrap(), start);
    let rested = start + REST;
    assert_eq!(path.lend(&fifth, Nanos(rested.0 - 1)), None);
    assert!(path.lend(&fifth, rested).is_some());
    assert_eq!(path.free_from.len(), SETS * WAYS);
}
