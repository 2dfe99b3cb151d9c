//! Translation over a real wire: hairpins, fragments, checksums of zero, flows in number;
//! traps 4, 18, 20, 23.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::thread;
use std::time::Duration;

use vswitch_cli::lab::traffic::capture::Capture;
use vswitch_cli::lab::traffic::craft::{self, Checksum, Seen};
use vswitch_cli::lab::traffic::frames::Direction;
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::lab::traffic::tcp::{self, Amount};
use vswitch_cli::lab::traffic::udp::{self, Crafted, EchoServer};
use vswitch_cli::lab::{Host, Topology};

use super::frames::SILENCE;
use super::traffic::{ANY, download, everything, tcp_both_ways, udp_echo, upload};
use super::world::Times::{Any, Exactly};
use super::world::{SECOND, World, soak, world};

/// A socket in container `i`, and where the outside sees it.
fn mapped(world: &World, i: usize, outside: &UdpSocket) -> (UdpSocket, SocketAddr) {
    let inside = udp::bind(world.c(i), ANY).unwrap();
    inside
        .send_to(b"open", outside.local_addr().unwrap())
        .unwrap();
    let (_, from) = udp::recv(outside, SECOND).unwrap().expect("the way out");
    (inside, from)
}

fn outside_socket(world: &World) -> UdpSocket {
    udp::bind(world.o(), (Topology::OUTSIDE, 0)).unwrap()
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("bound to IPv4"),
    }
}

fn send(host: &Host, crafted: &Crafted<'_>) {
    host.attempt(|| "send".to_owned(), || crafted.send())
        .unwrap();
}

#[test]
fn a1_1_one_inside_address_is_one_outside_address_and_never_shared() {
    let world = world().start();
    let (first, second) = (outside_socket(&world), udp::bind(world.o(), ANY).unwrap());
    let elsewhere = (
        Topology::OUTSIDE_SECOND,
        second.local_addr().unwrap().port(),
    );
    let mut seen = Vec::new();
    for i in [1, 2] {
        let inside = udp::bind(world.c(i), (Ipv4Addr::UNSPECIFIED, 5555)).unwrap();
        inside.send_to(b"one", first.local_addr().unwrap()).unwrap();
        let (_, one) = udp::recv(&first, SECOND).unwrap().unwrap();
        inside.send_to(b"two", elsewhere).unwrap();
        let (_, two) = udp::recv(&second, SECOND).unwrap().unwrap();
        assert_eq!(one, two, "another destination, another port");
        assert_eq!(one.ip(), Topology::HOST);
        assert!((61000..=65535).contains(&one.port()), "{one}");
        seen.push(one);
    }
    assert_ne!(seen[0], seen[1], "two containers share a port");
    // Nobody else may answer.
    let stranger = udp::bind(world.o(), (Topology::OUTSIDE, 0)).unwrap();
    stranger.send_to(b"unasked", seen[0]).unwrap();
    world.ping_perfectly(world.c(1), &Ping::to(Topology::OUTSIDE));
    world.finish(&[("NAT_UNSOLICITED", Exactly(1))]);
}

#[test]
fn a1_9_trap_23_hairpin_by_the_external_address() {
    for workers in [1, 2, 4] {
        // From inside, so the filter for strangers does not apply.
        let world = world()
            .containers(4)
            .args(&format!("--workers {workers}"))
            .start();
        let outside = outside_socket(&world);
        let sockets = [1, 2, 3, 4].map(|i| mapped(&world, i, &outside));
        for (i, (from, external)) in sockets.iter().enumerate() {
            for (j, (to, to_external)) in sockets.iter().enumerate() {
                let message = [i.to_le_bytes()[0], j.to_le_bytes()[0]];
                from.send_to(&message, to_external).unwrap();
                let got = udp::recv(to, SECOND).unwrap();
                assert_eq!(got, Some((message.to_vec(), *external)), "{i} to {j}");
            }
        }
        world.finish(&[]);
    }
}

#[test]
fn trap_18_fragments_through_the_translation_in_any_order() {
    let world = world().finished().start();
    for size in [4000, 9001, 60_000] {
        for reverse_fragments in [false, true] {
            let ping = Ping::to(Topology::OUTSIDE).size(size).count(3);
            world.ping_perfectly(
                world.c(1),
                &Ping {
                    reverse_fragments,
                    ..ping
                },
            );
        }
    }
    let outside = outside_socket(&world);
    let (inside, external) = mapped(&world, 1, &outside);
    let to = v4(outside.local_addr().unwrap());
    let payload = vec![0x5a; 8000];
    for reverse_fragments in [false, true] {
        let source = SocketAddrV4::new(world.ip(1), inside.local_addr().unwrap().port());
        let out = Crafted {
            reverse_fragments,
            ..Crafted::new(source, to, &payload)
        };
        send(world.c(1), &out);
        let (got, from) = udp::recv(&outside, SECOND).unwrap().expect("out");
        assert!(
            got == payload && from == external,
            "reversed: {reverse_fragments}"
        );
        let back = Crafted {
            reverse_fragments,
            ..Crafted::new(to, v4(external), &payload)
        };
        send(world.o(), &back);
        let (got, from) = udp::recv(&inside, SECOND).unwrap().expect("back");
        assert!(
            got == payload && v4(from) == to,
            "reversed: {reverse_fragments}"
        );
    }
    world.finish(&[]);
}

#[test]
fn trap_20_checksums_of_zero_pass_as_they_are() {
    let world = world().start();
    let outside = outside_socket(&world);
    let (inside, external) = mapped(&world, 1, &outside);
    let (to, external) = (v4(outside.local_addr().unwrap()), v4(external));
    let source = SocketAddrV4::new(world.ip(1), inside.local_addr().unwrap().port());
    let sums = |host: &Host| {
        Capture::start(host, "eth0", |frame| {
            let seen = Seen::in_frame(&frame.bytes);
            frame.direction == Direction::In && seen.is_some_and(|seen| seen.protocol == craft::UDP)
        })
        .unwrap()
    };
    let (at_o, at_c1) = (sums(world.o()), sums(world.c(1)));
    let none = Crafted {
        checksum: Checksum::Exactly(0),
        ..Crafted::new(source, to, b"none")
    };
    send(world.c(1), &none);
    let none = Crafted {
        checksum: Checksum::Exactly(0),
        ..Crafted::new(to, external, b"none")
    };
    send(world.o(), &none);
    // A payload whose sum is zero: it must go out as 0xffff, and stay that.
    let zero_to = |from: SocketAddrV4, to: SocketAddrV4| -> [u8; 2] {
        let sum = craft::udp(from, to, &[0, 0], Checksum::Right);
        let word = u16::from_be_bytes([sum[6], sum[7]]);
        word.to_be_bytes()
    };
    let out = zero_to(external, to);
    send(world.c(1), &Crafted::new(source, to, &out));
    let back = zero_to(to, source);
    send(world.o(), &Crafted::new(to, external, &back));
    for (capture, name) in [(&at_o, "o"), (&at_c1, "c1")] {
        assert!(capture.wait_for(2, SECOND), "at {name}");
        let fields: Vec<[u8; 2]> = capture
            .frames()
            .iter()
            .map(|frame| [frame.bytes[40], frame.bytes[41]])
            .collect();
        assert_eq!(fields, [[0, 0], [0xff, 0xff]], "at {name}");
    }
    for socket in [&outside, &inside] {
        for _ in 0..2 {
            assert!(udp::recv(socket, SECOND).unwrap().is_some());
        }
    }
    world.finish(&[]);
}

#[test]
fn trap_4_a_smaller_uplink() {
    let world = world()
        .finished()
        .plan(|plan| plan.uplink_mtu = Some(1400))
        .start();
    tcp_both_ways(world.c(1), world.o(), Topology::OUTSIDE, 6_000_001);
    udp_echo(world.c(2), world.o(), Topology::OUTSIDE);
    let too_big = world.ping(
        world.c(1),
        &Ping::to(Topology::OUTSIDE).size(1400).dont_fragment(),
    );
    let error = too_big.errors[0];
    assert!(error.is_too_big() && error.mtu == 1400, "{error:?}");
    assert_eq!(error.from, world.net.gateway());
    world.ping_perfectly(
        world.c(1),
        &Ping::to(Topology::OUTSIDE).size(1372).dont_fragment(),
    );
    world.ping_perfectly(world.c(2), &Ping::to(Topology::OUTSIDE).size(1400));
    world.finish(&[("PKT_TOO_BIG", Any)]);
}

#[test]
fn trap_4_a_smaller_uplink_that_offloads() {
    let world = world().plan(|plan| plan.uplink_mtu = Some(1400)).start();
    everything(world.c(1), world.o(), Topology::OUTSIDE, 6_000_001);
    world.finish(&[("PKT_TOO_BIG", Any)]);
}

#[test]
fn a0_2_a_long_translated_transfer_both_ways() {
    let world = world().finished().start();
    let time = Amount::For(soak(2 * SECOND));
    thread::scope(|scope| {
        scope.spawn(|| upload(world.c(1), world.o(), Topology::OUTSIDE, time));
        scope.spawn(|| download(world.c(2), world.o(), Topology::OUTSIDE, time));
    });
    world.finish(&[("RING_FULL", Any)]);
}

#[test]
fn a3_3_an_error_from_outside_reaches_the_socket_it_is_for() {
    let world = world().start();
    let inside = udp::bind(world.c(1), ANY).unwrap();
    udp::queue_errors(&inside).unwrap();
    let closed = outside_socket(&world).local_addr().unwrap();
    inside.send_to(b"anybody?", closed).unwrap();
    let error = udp::queued_error(&inside, SECOND)
        .unwrap()
        .expect("an error");
    assert_eq!(
        (error.kind, error.code, error.from),
        (3, 3, Some(Topology::OUTSIDE))
    );
    world.finish(&[]);
}

#[test]
fn a1_12_many_flows_at_once_do_not_mix() {
    let world = world().start();
    many_flows(&world, 2, 200);
    world.finish(&[]);
}

/// `count` datagram flows from each of the first `containers`, each echoed with its own payload.
pub(super) fn many_flows(world: &World, containers: usize, count: u16) {
    let echo = EchoServer::start(world.o(), ANY).unwrap();
    let to = SocketAddr::from((Topology::OUTSIDE, echo.address().port()));
    thread::scope(|scope| {
        for i in 1..=containers {
            scope.spawn(move || {
                let sockets: Vec<UdpSocket> = (0..count)
                    .map(|_| udp::bind(world.c(i), ANY).unwrap())
                    .collect();
                for round in 0..2_u8 {
                    for (number, socket) in sockets.iter().enumerate() {
                        let payload = format!("{i} {number} {round}");
                        let back = udp::exchange(socket, to, payload.as_bytes(), 2 * SECOND);
                        let back = back.unwrap().map(|(bytes, _)| bytes);
                        assert_eq!(back.as_deref(), Some(payload.as_bytes()));
                    }
                }
            });
        }
    });
}

#[test]
fn a2_1_many_connections_at_once_do_not_mix() {
    let world = world().args("--workers 2").start();
    many_connections(&world, 2, 60);
    world.finish(&[]);
}

/// `count` connections from each of the first `containers`, all open at once, each with payload of
/// its own both ways.
pub(super) fn many_connections(world: &World, containers: usize, count: usize) {
    use std::io::{Read, Write};
    let listener = tcp::listen(world.o(), ANY).unwrap();
    let port = listener.local_addr().unwrap().port();
    let total = containers * count;
    thread::scope(|scope| {
        let server = scope.spawn(|| {
            let accept = || tcp::accept(&listener, Duration::from_secs(5)).unwrap().0;
            let mut streams: Vec<_> = (0..total).map(|_| accept()).collect();
            for stream in &mut streams {
                let mut message = [0; 16];
                stream.read_exact(&mut message).unwrap();
                stream.write_all(&message).unwrap();
            }
            streams
        });
        for i in 1..=containers {
            scope.spawn(move || {
                let connect = || tcp::connect(world.c(i), (Topology::OUTSIDE, port)).unwrap();
                let mut streams: Vec<_> = (0..count).map(|_| connect()).collect();
                for (number, stream) in streams.iter_mut().enumerate() {
                    let text = format!("{i:03} {number:012}");
                    stream.write_all(text.as_bytes()).unwrap();
                }
                for (number, stream) in streams.iter_mut().enumerate() {
                    let mut back = [0; 16];
                    stream.read_exact(&mut back).unwrap();
                    assert_eq!(back, *format!("{i:03} {number:012}").as_bytes());
                }
            });
        }
        drop(server.join().unwrap());
    });
}

#[test]
fn a2_3_an_unasked_connection_from_outside_meets_silence() {
    let world = world().start();
    let to = (Topology::HOST, 61234);
    let lost = tcp::connect_within(world.o(), to, 4 * SILENCE).unwrap_err();
    assert_eq!(lost.io().kind(), std::io::ErrorKind::TimedOut, "{lost}");
    world.finish(&[("NAT_UNSOLICITED", Exactly(1))]);
}
