//! Any frames on any port of a whole switch.

use std::net::Ipv4Addr;
use std::time::Duration;

use nat::{Filtering, Nanos, Timeouts};
use switch::config::{GatewayView, NatSettings, NetworkIndex, PortView, Role, Route, UplinkView};
use switch::frame::{Csum, Gso, Offload};
use switch::mac::Mac;
use switch::port::sim::{CableOptions, SimHost, cable};
use switch::port::{Egress, Rx, Tx};
use switch::switch::{Settings, Switch};
use switch::worker::{Idle, Worker};

use super::Input;
use super::packet::EXTERNAL;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const GATEWAY_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const UPLINK_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);

/// Addresses that a frame is more likely to get anywhere with.
const MACS: [Mac; 6] = [
    GATEWAY_MAC,
    UPLINK_MAC,
    Mac([2, 0, 0, 0, 1, 2]),
    Mac([2, 0, 0, 0, 1, 3]),
    Mac([0xff; 6]),
    Mac([1, 0, 0x5e, 0, 0, 1]),
];

/// A switch on simulated cables: two members, an uplink whose address the host shares, the host.
struct Scene {
    switch: Switch,
    workers: Vec<Worker>,
    cables: Vec<SimHost>,
    now: Nanos,
}

/// Sends the input as frames, and holds the switch to its accounts.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut scene = Scene::new(input.byte());
    while !input.is_empty() {
        let place = usize::from(input.byte()) % scene.cables.len();
        let offload = offload(&mut input);
        let frame = frame(&mut input);
        let _ = scene.cables[place].send(&frame, offload);
        let pause = input.byte();
        scene.step(Nanos::from_millis(u64::from(pause & 0x7f)));
    }
    scene.step(Nanos::from_secs(400));
    let totals = scene.switch.totals();
    assert!(totals.conserved(), "{:?}", totals.sums());
}

/// A frame whose addresses are likely ones if the input says so, and whose IPv4 header is whole.
fn frame(input: &mut Input<'_>) -> Vec<u8> {
    let shape = input.byte();
    let length = usize::from(input.word()) % 3000;
    let mut bytes = input.take(length).to_vec();
    if shape & 1 != 0 && bytes.len() >= 14 {
        let (to, from) = (input.pick(MACS), input.pick(MACS));
        bytes[..6].copy_from_slice(&to.0);
        bytes[6..12].copy_from_slice(&from.0);
        let ethertype = input.pick([[8, 0], [8, 6], [0x86, 0xdd], [0x81, 0]]);
        bytes[12..14].copy_from_slice(&ethertype);
    }
    if shape & 2 != 0 {
        mend(&mut bytes, shape & 4 != 0);
    }
    bytes
}

/// Gives an IPv4 header the version, length and checksum that let it pass the first look.
fn mend(bytes: &mut [u8], plain: bool) {
    let Some(packet) = bytes.get_mut(14..).filter(|packet| packet.len() >= 20) else {
        return;
    };
    let length = u16::try_from(packet.len()).unwrap();
    packet[0] = 0x45;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    if plain {
        // No fragment, of a protocol that is translated.
        packet[6] &= 0x40;
        packet[7] = 0;
        packet[9] = [1, 6, 17][usize::from(packet[9]) % 3];
    }
    let mut ip = nat::wire::Ipv4::parse(packet).unwrap();
    ip.fill_checksum();
}

fn offload(input: &mut Input<'_>) -> Offload {
    let csum = match input.byte() % 4 {
        0 => Csum::Complete,
        1 => Csum::Partial {
            start: input.word() % 128,
            offset: u16::from(input.byte()),
        },
        _ => Csum::Unchecked,
    };
    let gso = match input.byte() % 6 {
        0 => Gso::Tcp4 {
            mss: input.word(),
            ecn: false,
        },
        1 => Gso::Tcp6 {
            mss: input.word(),
            ecn: true,
        },
        2 => Gso::Udp { size: input.word() },
        _ => Gso::None,
    };
    Offload { csum, gso }
}

impl Scene {
    fn new(choice: u8) -> Self {
        let now = Nanos::from_secs(1000);
        let settings = Settings {
            workers: 1 + u16::from(choice & 1),
            cpus: Vec::new(),
            idle: Idle {
                busy_poll: Duration::ZERO,
            },
            fdb_entries_max: 32,
            ageing_secs: 300,
            fast_path: None,
            nat: Some(NatSettings {
                ports: 40_000..=40_015,
                externals: 1,
                sessions_max: 32,
                timeouts: Timeouts::default(),
                udp_filtering: Filtering::Apdf,
                tcp_filtering: Filtering::Eif,
                quota: nat::Quota::NONE,
                port_hold: Nanos::ZERO,
                helpers: nat::Helpers {
                    ftp: true,
                    tftp: true,
                },
                preserve_ids: false,
            }),
            latency: None,
            seed: 1,
        };
        let tx = || Ok(Tx::without_sockets());
        let (switch, workers) = Switch::build(&settings, false, now, tx).unwrap();
        let mut scene = Self {
            switch,
            workers,
            cables: Vec::new(),
            now,
        };
        let offloads = choice & 2 == 0;
        for (role, mtu) in [
            (Role::Member, 1500),
            (Role::Member, 600),
            (Role::Uplink, 1400),
            (Role::Host, 1500),
        ] {
            scene.add(role, mtu, offloads);
        }
        scene.show_addresses(choice & 4 != 0);
        scene.step(Nanos(1));
        scene
    }

    fn add(&mut self, role: Role, mtu: u32, offloads: bool) {
        let index = self.switch.free_index().unwrap();
        let options = CableOptions {
            offloads,
            ..CableOptions::default()
        };
        let halves = if role == Role::Uplink {
            self.workers.len()
        } else {
            1
        };
        let (mut rx, mut egress) = (Vec::new(), None);
        for half in 0..halves {
            let (own, way, host) = cable(index, options);
            rx.push(Rx::Sim(own));
            egress.get_or_insert(way);
            if half == 0 {
                self.cables.push(host);
            }
        }
        let view = PortView {
            network: NetworkIndex(0),
            role,
            egress: Egress::Sim(egress.unwrap()),
            mtu,
            up: true,
            nat_worker: 0,
            isolated: false,
        };
        if role == Role::Uplink {
            self.switch.add_port_to_all(index, view, rx);
        } else {
            let worker = index.0 % self.switch.workers();
            self.switch.add_port(index, view, rx.pop().unwrap(), worker);
        }
    }

    fn show_addresses(&mut self, own: bool) {
        let (uplink, host) = (index_of(self, Role::Uplink), index_of(self, Role::Host));
        self.switch.update(|view| {
            view.gateway = Some(GatewayView {
                network: NetworkIndex(0),
                address: GATEWAY,
                prefix: 24,
                mac: GATEWAY_MAC,
            });
            view.uplink = Some(UplinkView {
                port: uplink,
                mac: UPLINK_MAC,
                address: EXTERNAL,
                own,
                routes: vec![Route {
                    network: Ipv4Addr::UNSPECIFIED,
                    prefix: 0,
                    via: None,
                }],
                nat_ports: 40_000..=40_015,
                pool: Vec::new(),
                untranslated: Vec::new(),
                mss_clamp: true,
            });
            view.host.port = Some(host);
            view.host.addresses = vec![GATEWAY, EXTERNAL];
        });
    }

    /// Lets time pass and everything run until nothing moves.
    fn step(&mut self, time: Nanos) {
        self.now += time;
        for worker in &mut self.workers {
            worker.tick(self.now);
        }
        // A frame is handed over once, or twice as a hairpin; more would be a loop.
        for _ in 0..64 {
            let now = self.now;
            let moved: usize = self.workers.iter_mut().map(|w| w.poll_once(now)).sum();
            if moved == 0 {
                break;
            }
        }
        for cable in &self.cables {
            while cable.receive().is_some() {}
        }
    }
}

fn index_of(scene: &Scene, role: Role) -> switch::port::PortIndex {
    let ports = (0u16..).zip(&scene.switch.view().ports);
    let mut found = ports.filter_map(|(index, port)| Some((index, port.as_ref()?)));
    let (index, _) = found.find(|(_, port)| port.role == role).unwrap();
    switch::port::PortIndex(index)
}
