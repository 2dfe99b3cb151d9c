//! Forged resets, ends and errors: a transfer lives through them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::thread;

use vswitch_cli::lab::traffic::capture::Capture;
use vswitch_cli::lab::traffic::craft::{self, Checksum, Ipv4, Seen, Segment, tcp_flags};
use vswitch_cli::lab::traffic::frames::Direction;
use vswitch_cli::lab::traffic::tcp::{self, Amount, Pattern};
use vswitch_cli::lab::traffic::udp;
use vswitch_cli::lab::{Host, Topology};

use crate::netns::traffic::ANY;
use crate::netns::world::Times::{Any, Exactly};
use crate::netns::world::{PATIENCE, SECOND, World, eventually, world};

/// A connection from container 1 to the outside host, and what an observer outside knows of it.
struct Victim {
    inside: TcpStream,
    outside: TcpStream,
    _listener: TcpListener,
    /// Where the connection leads, and from where it comes as seen outside.
    server: SocketAddrV4,
    external: SocketAddrV4,
    /// The next sequence numbers of the outside and of the inside end.
    next: (u32, u32),
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("bound to IPv4"),
    }
}

fn victim(world: &World) -> Victim {
    let acks = Capture::start(world.o(), "eth0", |frame| {
        let seen = Seen::in_frame(&frame.bytes);
        let flags = seen.and_then(|seen| seen.tcp_flags());
        frame.direction == Direction::In && flags.is_some_and(|f| f & tcp_flags::SYN == 0)
    })
    .unwrap();
    let listener = tcp::listen(world.o(), ANY).unwrap();
    let port = listener.local_addr().unwrap().port();
    let inside = tcp::connect(world.c(1), (Topology::OUTSIDE, port)).unwrap();
    let (outside, external) = tcp::accept(&listener, PATIENCE).unwrap();
    // The last segment of the handshake: nothing has been sent since.
    assert!(acks.wait_for(1, SECOND));
    let last = Seen::in_frame(&acks.frames()[0].bytes).unwrap();
    let word = |at: usize| u32::from_be_bytes(last.payload[at..at + 4].try_into().unwrap());
    Victim {
        inside,
        outside,
        _listener: listener,
        server: SocketAddrV4::new(Topology::OUTSIDE, port),
        external: v4(external),
        next: (word(8), word(4)),
    }
}

impl Victim {
    /// A segment that claims to be of the outside end, `ahead` of its next sequence number.
    fn forged(&self, flags: u8, ahead: u32, payload: &[u8]) -> Vec<u8> {
        let segment = Segment {
            source: self.server,
            destination: self.external,
            seq: self.next.0.wrapping_add(ahead),
            ack: self.next.1,
            flags,
            window: 1000,
        };
        let [from, to] = [*self.server.ip(), *self.external.ip()];
        let bytes = segment.bytes(payload, Checksum::Right);
        Ipv4::new(from, to, craft::TCP).packet(&bytes)
    }

    /// The inside end's packet as seen outside, as an error would quote it; or one like it that
    /// was sent from elsewhere.
    fn quoted(&self, source: SocketAddrV4) -> Vec<u8> {
        let segment = Segment {
            source,
            destination: self.server,
            seq: self.next.1,
            ack: self.next.0,
            flags: tcp_flags::ACK,
            window: 1000,
        };
        let [from, to] = [*source.ip(), *self.server.ip()];
        let bytes = segment.bytes(&[0; 1400], Checksum::Right);
        let mut quoted = Ipv4::new(from, to, craft::TCP).packet(&bytes);
        quoted.truncate(28);
        quoted
    }

    /// The transfer inside to outside, whole, while `attack` goes on beside it.
    fn lives_through(&self, attack: impl FnMut() + Send) {
        let pattern = Pattern::new(3);
        let stop = std::sync::atomic::AtomicBool::new(false);
        thread::scope(|scope| {
            let outside = self.outside.try_clone().unwrap();
            let receiver =
                scope.spawn(|| tcp::receive(outside, &pattern, self.external.into()).unwrap());
            let attacker = scope.spawn(|| {
                let mut attack = attack;
                let mut rounds = 0;
                while rounds < 20 || !stop.load(std::sync::atomic::Ordering::SeqCst) {
                    attack();
                    rounds += 1;
                    thread::sleep(SECOND / 100);
                }
            });
            let sent = tcp::send(&self.inside, &pattern, Amount::For(SECOND)).unwrap();
            stop.store(true, std::sync::atomic::Ordering::SeqCst);
            attacker.join().unwrap();
            assert_eq!(receiver.join().unwrap().bytes, sent);
            assert!(sent > 0);
        });
        // The other direction was not closed: it still carries data.
        let mut back = [0; 4];
        std::io::Write::write_all(&mut &self.outside, b"back").unwrap();
        std::io::Read::read_exact(&mut &self.inside, &mut back).unwrap();
        assert_eq!(&back, b"back");
    }
}

fn send(host: &Host, to: Ipv4Addr, packet: &[u8]) {
    host.attempt(|| "forge".to_owned(), || udp::send_packet(to, packet))
        .unwrap();
}

#[test]
fn f_10_forged_resets_and_ends_do_not_break_a_transfer() {
    use tcp_flags::{ACK, FIN, RST, SYN};
    let Some(world) = world().start() else { return };
    let victim = victim(&world);
    let far = [1 << 20, 1 << 24, 1 << 31, u32::MAX - (1 << 16)];
    victim.lives_through(|| {
        for ahead in far {
            for flags in [RST, RST | ACK, FIN | ACK, SYN, SYN | ACK] {
                send(world.o(), Topology::HOST, &victim.forged(flags, ahead, b""));
            }
        }
        // Within the window, yet not the next byte: answered, and no more (RFC 5961 section 3).
        send(world.o(), Topology::HOST, &victim.forged(RST, 1000, b""));
        send(world.o(), Topology::HOST, &victim.forged(SYN, 1000, b""));
    });
    // A SYN after a reset would open a new connection, which nobody outside may.
    world.finish(&[
        ("NAT_TCP_STATE", Any),
        ("NAT_UNSOLICITED", Any),
        ("RING_FULL", Any),
    ]);
}

#[test]
fn a2_5_a_session_that_was_reset_lives_on_when_data_flows() {
    let Some(world) = world().start() else { return };
    let victim = victim(&world);
    for _ in 0..10 {
        let reset = victim.forged(tcp_flags::RST, 1 << 30, b"");
        send(world.o(), Topology::HOST, &reset);
    }
    victim.lives_through(|| {});
    eventually("the session is established again", || {
        let answer = world.json("nat");
        let sessions = answer["sessions"].as_array().unwrap();
        let of_victim = sessions.iter().find(|row| row["proto"] == "tcp");
        of_victim.is_some_and(|row| row["state"] != "CLOSE")
    });
    world.finish(&[("NAT_TCP_STATE", Any)]);
}

#[test]
fn f_9_forged_too_big_errors_neither_break_nor_choke_a_transfer() {
    let Some(world) = world().start() else { return };
    let victim = victim(&world);
    let error = |source: SocketAddrV4, from: Ipv4Addr| {
        let message = craft::icmp(3, 4, &[0, 0, 0, 68], &victim.quoted(source));
        Ipv4::new(from, Topology::HOST, craft::ICMP).packet(&message)
    };
    let own = error(victim.external, Topology::OUTSIDE);
    // The same of a connection that nobody has, and of a packet that was sent from elsewhere.
    // The ports of the NAT are those from 61000 on.
    let port = victim.external.port();
    let other = if port < 63_000 {
        port + 341
    } else {
        port - 341
    };
    let nobody = SocketAddrV4::new(Topology::HOST, other);
    let stranger = error(nobody, Topology::OUTSIDE);
    let elsewhere = SocketAddrV4::new(Topology::ROUTER, victim.external.port());
    let unrelated = error(elsewhere, Topology::OUTSIDE_SECOND);
    let others = std::sync::atomic::AtomicU64::new(0);
    victim.lives_through(|| {
        send(world.o(), Topology::HOST, &own);
        send(world.o(), Topology::HOST, &stranger);
        send(world.o(), Topology::HOST, &unrelated);
        others.fetch_add(2, std::sync::atomic::Ordering::SeqCst);
    });
    // The container's own kernel goes no lower than 552 (min_pmtu), and the gateway lowers nothing.
    let route = super::shell(world.c(1), &format!("ip route get {}", Topology::OUTSIDE));
    let words: Vec<&str> = route
        .lines
        .iter()
        .flat_map(|line| line.split(' '))
        .collect();
    let mut after = words.iter().skip_while(|word| **word != "mtu");
    let mtu: Option<u32> = after.find_map(|word| word.parse().ok());
    assert!(mtu.is_none_or(|mtu| mtu >= 552), "{:#?}", route.lines);
    let others = others.into_inner();
    world.finish(&[("NAT_ICMP", Exactly(others)), ("RING_FULL", Any)]);
}
