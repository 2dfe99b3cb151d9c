//! Two networks alike but for what forwards: the program, or the kernel's bridge with nft.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use vswitch_cli::lab::traffic::craft::{self, Checksum, Ipv4, Seen, Segment};
use vswitch_cli::lab::{Lab, Plan, Topology};

use super::station::Station;
use super::words;
use crate::netns::clients::run_well;
use crate::netns::world::{World, skip_without, world};

/// How long nothing must come after the last packet, before all has come.
const QUIET: Duration = Duration::from_millis(20);
/// The link outside is narrower than those inside.
pub(super) const UPLINK_MTU: u32 = 1400;
/// Published, TCP and UDP, to [`Who::A`]'s ports of the second column.
pub(super) const PUBLISHED: [(u16, u16); 2] = [(8080, 80), (8053, 53)];
const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 50);
const OWN_ARGS: &str = "--uplink-address 203.0.113.50/24 --uplink-mac 02:00:5e:10:00:50";
/// Addresses of the stations, in the order of [`Who`].
const STATIONS: [Ipv4Addr; 4] = [
    Ipv4Addr::new(10, 9, 0, 50),
    Ipv4Addr::new(10, 9, 0, 60),
    Ipv4Addr::new(203, 0, 113, 9),
    Ipv4Addr::new(203, 0, 113, 8),
];

/// A station: two inside, two outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    A,
    B,
    X,
    Y,
}

use Who::{A, B, X, Y};

impl Who {
    const ALL: [Self; 4] = [A, B, X, Y];

    pub(super) fn ip(self) -> Ipv4Addr {
        STATIONS[self as usize]
    }
}

/// What forwards.
enum Forwarder {
    Vswitch(World),
    Kernel(#[expect(dead_code, reason = "it lives as long as the bed")] Topology),
}

/// A network with stations, and what they heard so far.
pub(super) struct Bed {
    forwarder: Forwarder,
    stations: [Station; 4],
    /// The external address.
    pub(super) ext: Ipv4Addr,
    /// The containers' gateway.
    pub(super) gateway: Ipv4Addr,
    /// Ports and identifiers with their names in this scenario.
    names: Vec<(u16, String)>,
    next_port: u16,
    mark: u16,
    heard: Vec<String>,
}

fn plan() -> Plan {
    Plan {
        uplink_mtu: Some(UPLINK_MTU),
        ..Plan::default()
    }
}

impl Bed {
    /// The program, with an address of its own so that it keeps ports as the kernel does.
    pub(super) fn vswitch() -> Option<Self> {
        let [a, _, _, _] = STATIONS;
        let [(web, web_in), (dns, dns_in)] = PUBLISHED;
        let args = format!(
            "{OWN_ARGS} --workers 1 --publish {web}:{a}:{web_in} --publish {dns}:{a}:{dns_in}/udp"
        );
        let setup = world().refusals().csum_errors().host_answers();
        let world = setup.plan(|it| *it = plan()).args(&args).start()?;
        let stations = stations(&world.net, OWN);
        let gateway = world.net.gateway();
        Some(Self::new(Forwarder::Vswitch(world), stations, OWN, gateway))
    }

    /// The kernel: a bridge, a masquerade and two published ports, as Docker sets them up without
    /// its proxy.
    pub(super) fn kernel() -> Option<Self> {
        let net = match Topology::build(Lab::new("diff"), plan()) {
            Ok(net) => net,
            Err(error) => {
                skip_without(&error);
                return None;
            }
        };
        net.bridge_ports().unwrap();
        // Bridged frames do not go through iptables, on no machine.
        net.h
            .sysctl_if_any("net/bridge/bridge-nf-call-iptables", "0")
            .unwrap();
        net.h.sysctl("net/ipv4/ip_forward", "1").unwrap();
        for conf in ["all", "default", "br0"] {
            let key = format!("net/ipv4/conf/{conf}/send_redirects");
            net.h.sysctl(&key, "0").unwrap();
        }
        let [a, _, _, _] = STATIONS;
        let [(web, web_in), (dns, dns_in)] = PUBLISHED;
        let rules = [
            "add table ip diff".to_owned(),
            "add chain ip diff pre { type nat hook prerouting priority -100 ; }".to_owned(),
            "add chain ip diff post { type nat hook postrouting priority 100 ; }".to_owned(),
            format!(
                "add rule ip diff pre fib daddr type local tcp dport {web} dnat to {a}:{web_in}"
            ),
            format!(
                "add rule ip diff pre fib daddr type local udp dport {dns} dnat to {a}:{dns_in}"
            ),
            format!(
                "add rule ip diff post oifname {} masquerade",
                Topology::UPLINK
            ),
            format!("add rule ip diff post ip saddr {a} ip daddr {a} masquerade"),
        ];
        for rule in rules {
            run_well(&net.h, &format!("nft {rule}"));
        }
        let (stations, gateway) = (stations(&net, Topology::HOST), net.gateway());
        let forwarder = Forwarder::Kernel(net);
        Some(Self::new(forwarder, stations, Topology::HOST, gateway))
    }

    fn new(forwarder: Forwarder, stations: [Station; 4], ext: Ipv4Addr, gateway: Ipv4Addr) -> Self {
        Self {
            forwarder,
            stations,
            ext,
            gateway,
            names: Vec::new(),
            next_port: 20_000,
            mark: 0,
            heard: Vec::new(),
        }
    }

    /// Lets everybody find everybody's Ethernet address, so that no answer waits for that.
    pub(super) fn warm_up(&mut self) {
        for (from, to) in [(A, X), (B, Y), (A, Y), (B, X)] {
            let port = self.port("warm");
            let datagram = [udp(at(from, port), at(to, 9), b"warm")];
            let arrives = |_| !self.send_untold(from, &datagram).is_empty();
            assert!((0..20).any(arrives), "{from:?} does not reach {to:?}");
        }
    }

    /// What holds at the end: conservation, and whatever else every test checks.
    pub(super) fn finish(self, expected: &[(&str, crate::netns::world::Times)]) {
        drop(self.stations);
        if let Forwarder::Vswitch(world) = self.forwarder {
            world.finish(expected);
        }
    }

    /// Runs a scenario and tells what the stations heard, step by step.
    pub(super) fn tell(&mut self, scenario: fn(&mut Self)) -> String {
        self.names.clear();
        for (outside, inside) in PUBLISHED {
            self.names.push((outside, outside.to_string()));
            self.names.push((inside, inside.to_string()));
        }
        self.heard.clear();
        scenario(self);
        self.heard.join(", then ")
    }

    /// A port, or an identifier, that no scenario has used; `name` stands for it in words.
    pub(super) fn port(&mut self, name: &str) -> u16 {
        self.next_port += 2;
        self.names.push((self.next_port, name.to_owned()));
        self.next_port
    }

    /// Names a port that was not drawn by [`port`](Self::port).
    pub(super) fn call(&mut self, port: u16, name: &str) {
        self.names.push((port, name.to_owned()));
    }

    /// The name of a port; one that nobody named is called new, and again so when it comes again.
    pub(super) fn name(&mut self, port: u16) -> String {
        if let Some((_, name)) = self.names.iter().find(|(known, _)| *known == port) {
            return name.clone();
        }
        let others = self.names.iter();
        let number = others.filter(|(_, name)| name.starts_with("new")).count() + 1;
        let name = format!("new{number}");
        self.names.push((port, name.clone()));
        name
    }

    /// The name of an address.
    pub(super) fn who(&self, ip: Ipv4Addr) -> String {
        let names = ["A", "B", "X", "Y"];
        let station = STATIONS.iter().zip(names).find(|(known, _)| **known == ip);
        match station {
            Some((_, name)) => name.to_owned(),
            None if ip == self.ext => "EXT".to_owned(),
            None if ip == self.gateway => "GW".to_owned(),
            None => ip.to_string(),
        }
    }

    /// Sends packets from a station, one after the other, and keeps in words what all stations
    /// hear of them; returns what they heard.
    pub(super) fn send(&mut self, from: Who, packets: &[Vec<u8>]) -> Vec<(Who, Seen)> {
        let heard = self.send_untold(from, packets);
        let words: Vec<String> = heard
            .iter()
            .map(|(who, seen)| words::heard(self, *who, seen))
            .collect();
        self.say(if words.is_empty() {
            "nothing".to_owned()
        } else {
            words.join(" and ")
        });
        heard
    }

    /// As [`send`](Self::send), but nothing is kept.
    pub(super) fn send_untold(&mut self, from: Who, packets: &[Vec<u8>]) -> Vec<(Who, Seen)> {
        for packet in packets {
            self.stations[from as usize].send(packet);
        }
        self.mark = self.mark.wrapping_add(1);
        let mut heard = Vec::new();
        let early = self.stations[from as usize].flush(self.mark);
        heard.extend(early.into_iter().map(|packet| (from, packet)));
        loop {
            let before = heard.len();
            for who in Who::ALL {
                while let Some(packet) = self.stations[who as usize].next(QUIET / 4) {
                    heard.push((who, packet));
                }
            }
            if heard.len() == before {
                return heard;
            }
        }
    }

    /// Keeps a word.
    pub(super) fn say(&mut self, what: String) {
        self.heard.push(what);
    }

    /// Sends a UDP datagram; returns where the first one that heard it saw it come from.
    pub(super) fn udp(&mut self, from: Who, port: u16, to: SocketAddrV4) -> Option<SocketAddrV4> {
        let packet = udp(SocketAddrV4::new(from.ip(), port), to, b"datagram");
        source(&self.send(from, &[packet]))
    }

    /// As [`udp`](Self::udp) for what a scenario only builds upon.
    pub(super) fn quiet_udp(&mut self, from: Who, port: u16, to: SocketAddrV4) -> SocketAddrV4 {
        let packet = udp(SocketAddrV4::new(from.ip(), port), to, b"datagram");
        source(&self.send_untold(from, &[packet])).expect("a datagram arrives")
    }

    /// Sends a TCP segment.
    pub(super) fn tcp(&mut self, segment: &Segment, payload: &[u8]) -> Option<SocketAddrV4> {
        let from = self.sender(*segment.source.ip());
        source(&self.send(from, &[tcp(segment, payload)]))
    }

    fn sender(&self, ip: Ipv4Addr) -> Who {
        let all = Who::ALL.into_iter();
        let mut stations = all.filter(|who| who.ip() == ip);
        stations.next().expect("a station's address")
    }
}

fn stations(net: &Topology, ext: Ipv4Addr) -> [Station; 4] {
    let gateway = net.gateway();
    [
        Station::new(net.c(1), A.ip(), gateway),
        Station::new(net.c(2), B.ip(), gateway),
        Station::new(&net.o, X.ip(), ext),
        Station::new(&net.o, Y.ip(), ext),
    ]
}

fn source(heard: &[(Who, Seen)]) -> Option<SocketAddrV4> {
    let (_, seen) = heard.first()?;
    let (port, _) = seen.ports()?;
    Some(SocketAddrV4::new(seen.source, port))
}

/// A UDP datagram as a packet.
pub(super) fn udp(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let datagram = craft::udp(from, to, payload, Checksum::Right);
    ip(*from.ip(), *to.ip(), craft::UDP).packet(&datagram)
}

/// A TCP segment as a packet.
pub(super) fn tcp(segment: &Segment, payload: &[u8]) -> Vec<u8> {
    let bytes = segment.bytes(payload, Checksum::Right);
    let [from, to] = [segment.source, segment.destination];
    ip(*from.ip(), *to.ip(), craft::TCP).packet(&bytes)
}

/// A header with an identification of its own.
pub(super) fn ip(from: Ipv4Addr, to: Ipv4Addr, protocol: u8) -> Ipv4 {
    Ipv4 {
        id: 0x4242,
        ..Ipv4::new(from, to, protocol)
    }
}

/// `port` of a station.
pub(super) fn at(who: Who, port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(who.ip(), port)
}
