//! Through the loopback interface of a namespace: what comes is what goes, in every way a peer can
//! end it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::*;
use crate::host::hold;
use crate::host::netns::tests::in_fresh_netns;

const PATIENCE: Duration = Duration::from_secs(5);

fn relayed(relay: &Relay, at: &str, list: &[&str]) -> Relayed {
    let held = hold::hold(at.parse().unwrap()).unwrap();
    relay.add(held, targets(list)).unwrap()
}

fn targets(list: &[&str]) -> Targets {
    Targets {
        list: list.iter().map(|text| text.parse().unwrap()).collect(),
        by_source: false,
    }
}

fn connect(to: &str) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn socket(at: &str) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn loopback_up() {
    let mut netlink = crate::host::netlink::Netlink::open().unwrap();
    netlink.set_up(1, true).unwrap();
}

#[test]
fn a6_2_connections_are_relayed_with_half_close_and_backpressure() {
    in_fresh_netns("relay tcp", || {
        loopback_up();
        let server = TcpListener::bind("127.0.0.9:9001").unwrap();
        let relay = Relay::start().unwrap();
        // The second of the range leads to the second of the target's.
        let relayed = relayed(&relay, "8080-8081", &["127.0.0.9:9000"]);
        let mut client = connect("127.0.0.1:8081");
        let (mut inner, _) = server.accept().unwrap();
        let bytes: Vec<u8> = (0..8_u32 << 20)
            .map(|i| (i % 251).to_le_bytes()[0])
            .collect();
        let sent = bytes.clone();
        let sender = std::thread::spawn(move || {
            client.write_all(&sent).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut back = String::new();
            client.read_to_string(&mut back).unwrap();
            back
        });
        // A receiver that takes nothing: what is under way is bounded by the sockets' buffers.
        std::thread::yield_now();
        let mut got = Vec::new();
        inner.read_to_end(&mut got).unwrap();
        assert!(got == bytes, "{} bytes", got.len());
        // Its half is open still.
        inner.write_all(b"thanks").unwrap();
        drop(inner);
        assert_eq!(sender.join().unwrap(), "thanks");
        assert_eq!(relayed.counts().total.load(Ordering::Relaxed), 1);
    });
}

#[test]
fn a_port_without_a_target_refuses_and_takes_one_when_there_is() {
    in_fresh_netns("relay refuses", || {
        loopback_up();
        let relay = Relay::start().unwrap();
        let relayed = relayed(&relay, "127.0.0.1:8080", &[]);
        let error = connect("127.0.0.1:8080").read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        // A target that does not listen.
        relayed.retarget(targets(&["127.0.0.9:9000"]));
        let error = connect("127.0.0.1:8080").read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(relayed.counts().refused.load(Ordering::Relaxed), 2);
        let server = TcpListener::bind("127.0.0.9:9000").unwrap();
        let mut client = connect("127.0.0.1:8080");
        let (mut inner, _) = server.accept().unwrap();
        inner.write_all(b"x").unwrap();
        client.read_exact(&mut [0]).unwrap();
        // Published no more: both ends are reset, and the port is free at once.
        drop(relayed);
        assert!(client.read(&mut [0]).is_err());
        inner.set_read_timeout(Some(PATIENCE)).unwrap();
        assert!(inner.read(&mut [0]).is_err());
        drop(TcpListener::bind("127.0.0.1:8080").unwrap());
        // Held again at once, in spite of the connections that were.
        hold::hold("127.0.0.1:8080".parse().unwrap()).unwrap();
    });
}

#[test]
fn a6_6_datagrams_find_their_way_back_and_a_new_target_at_once() {
    in_fresh_netns("relay udp", || {
        loopback_up();
        let servers = ["127.0.0.9:9000", "127.0.0.10:9000"].map(socket);
        let relay = Relay::start().unwrap();
        let relayed = relayed(&relay, "8080/udp", &["127.0.0.9:9000"]);
        // Two clients, by two addresses of the host: each is answered from the one it spoke to.
        let clients = ["127.0.0.1:7001", "127.0.0.2:7001"].map(socket);
        let mut buffer = [0; 2048];
        let mut back = Vec::new();
        for (client, to) in clients.iter().zip(["127.0.0.3:8080", "127.0.0.4:8080"]) {
            client.connect(to).unwrap();
            client.send(b"ping").unwrap();
            let (length, from) = servers[0].recv_from(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"ping");
            back.push(from);
        }
        assert_ne!(back[0], back[1], "one socket for each client");
        for (client, from) in clients.iter().zip(&back) {
            servers[0].send_to(b"pong", from).unwrap();
            // A connected socket takes it from that address only.
            let length = client.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..length], b"pong");
        }
        assert_eq!(relayed.counts().live.load(Ordering::Relaxed), 2);
        relayed.retarget(targets(&["127.0.0.10:9000"]));
        clients[0].send(b"moved").unwrap();
        let (length, from) = servers[1].recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"moved");
        servers[1].send_to(b"yes", from).unwrap();
        assert_eq!(clients[0].recv(&mut buffer).unwrap(), 3);
        // An empty datagram is one too.
        clients[0].send(b"").unwrap();
        assert_eq!(servers[1].recv_from(&mut buffer).unwrap().0, 0);
        drop(relayed);
        drop(UdpSocket::bind("0.0.0.0:8080").unwrap());
    });
}

#[test]
fn flows_are_spread_over_several_targets_or_stay_with_their_source() {
    in_fresh_netns("relay spread", || {
        loopback_up();
        let servers =
            ["127.0.0.9:9000", "127.0.0.10:9000"].map(|at| TcpListener::bind(at).unwrap());
        let list = ["127.0.0.9:9000", "127.0.0.10:9000"];
        let relay = Relay::start().unwrap();
        let relayed = relayed(&relay, "127.0.0.1:8080", &list);
        let both: Vec<TcpStream> = (0..2).map(|_| connect("127.0.0.1:8080")).collect();
        for server in &servers {
            server.accept().unwrap();
            server.set_nonblocking(true).unwrap();
        }
        drop(both);
        relayed.retarget(Targets {
            by_source: true,
            ..targets(&list)
        });
        let _same: Vec<TcpStream> = (0..6).map(|_| connect("127.0.0.1:8080")).collect();
        let total = || relayed.counts().total.load(Ordering::Relaxed);
        while total() < 8 {
            std::thread::yield_now();
        }
        let mut counts = [0, 0];
        while counts.iter().sum::<usize>() < 6 {
            for (server, count) in servers.iter().zip(&mut counts) {
                *count += usize::from(server.accept().is_ok());
            }
        }
        assert!(counts == [6, 0] || counts == [0, 6], "{counts:?}");
    });
}
