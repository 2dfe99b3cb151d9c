//! The gateway's address, and the host port that carries it in the host.

use std::net::IpAddr;

use switch::config::{GatewayView, NetworkIndex, PortView, Role};
use switch::mac::Mac;
use switch::port::{Egress, PortIndex, Rx, TapDevice};

use crate::config::Cidr;
use crate::control::api::OperState;
use crate::error::CliError;
use crate::host::link::Link;
use crate::host::peer::{Gateway, GatewaySource, Peer, default_gateway};
use crate::host::sysctl;

use super::Daemon;
use super::ports::{TAP_QUEUE_FRAMES, from_port, state_of, unusable};

/// The host port as its owner knows it.
pub(super) struct HostPort {
    pub(super) index: PortIndex,
    pub(super) link: Link,
}

/// The gateway's address: as asked for, or found on the ports' peers.
pub(crate) fn choose(asked: Option<Cidr>, peers: &[Peer]) -> (Cidr, Option<GatewaySource>) {
    if let Some(cidr) = asked {
        return (cidr, None);
    }
    let Gateway {
        addr,
        prefix,
        source,
    } = default_gateway(peers);
    (
        Cidr {
            address: addr,
            prefix,
        },
        Some(source),
    )
}

/// The gateway as workers see it.
pub(crate) fn view(cidr: Cidr, mac: Mac) -> GatewayView {
    GatewayView {
        network: NetworkIndex(0),
        address: cidr.address,
        prefix: cidr.prefix,
        mac,
    }
}

impl Daemon {
    /// An address of our own that is the same at every start: stations keep it for minutes.
    pub(super) fn stable_mac(&self, what: &str) -> Mac {
        stable_mac(&self.settings.name, what)
    }

    /// The gateway's address with its subnet.
    pub(super) const fn gateway_cidr(&self) -> Cidr {
        Cidr {
            address: self.gateway.address,
            prefix: self.gateway.prefix,
        }
    }

    /// Makes the host port: a TAP named after the switch, with the gateway's addresses. It vanishes
    /// with the process, however that ends.
    pub(super) fn open_host_port(&mut self) -> Result<(), CliError> {
        let name = device_name(&self.settings.name);
        let index = self.switch.free_index().map_err(|error| {
            CliError::failed(&name, error.to_string(), "start with --no-host-port")
        })?;
        let (tap, link) = self.make_host_port(&name)?;
        let port = PortView {
            network: NetworkIndex(0),
            role: Role::Host,
            egress: Egress::Tap(tap.egress()),
            mtu: link.mtu,
            up: state_of(&link) == OperState::Up,
            nat_worker: 0,
            isolated: false,
        };
        let worker = self.switch.idlest_worker();
        self.switch
            .add_port(index, port, Rx::Tap(tap.into_rx(index)), worker);
        self.switch.update(|view| view.host.port = Some(index));
        self.host_port = Some(HostPort { index, link });
        Ok(())
    }

    fn make_host_port(&mut self, name: &str) -> Result<(TapDevice, Link), CliError> {
        let tap = TapDevice::open(name).map_err(|error| from_port(&error))?;
        if !tap.created() {
            let why = "an interface of that name exists already";
            let fix = "vswitch --name OTHER, or --no-host-port";
            return Err(CliError::failed(name, why, fix));
        }
        let link = self.link(name)?;
        let link = self
            .configure_host_port(&link)
            .map_err(|error| unusable(name, &error))?;
        Ok((tap, link))
    }

    /// Follows the host port, which somebody may take down, or delete: then it is made anew.
    pub(super) fn follow_host_port(&mut self, links: &[Link]) {
        let Some(HostPort { index, link }) = &mut self.host_port else {
            return;
        };
        let index = *index;
        if let Some(found) = links.iter().find(|found| found.index == link.index) {
            let changed = state_of(found) != state_of(link) || found.mtu != link.mtu;
            *link = found.clone();
            let (up, mtu) = (state_of(link) == OperState::Up, link.mtu);
            if changed {
                self.set_port_up(index, up, Some(mtu));
            }
        } else if self.tap_is_gone(index) {
            self.remake_host_port(index);
        }
    }

    fn remake_host_port(&mut self, index: PortIndex) {
        let name = device_name(&self.settings.name);
        let (tap, link) = match self.make_host_port(&name) {
            Ok(made) => made,
            // An event comes when its name is free again.
            Err(error) => return self.say(&format!("warning: {error}")),
        };
        let (egress, mtu, up) = (tap.egress(), link.mtu, state_of(&link) == OperState::Up);
        self.switch.receive(index, Rx::Tap(tap.into_rx(index)));
        self.switch.update(|view| {
            if let Some(Some(port)) = view.ports.get_mut(index.index()) {
                port.egress = Egress::Tap(egress);
                (port.mtu, port.up) = (mtu, up);
            }
        });
        self.host_port = Some(HostPort { index, link });
        self.say(&format!("{name}  was deleted; made anew"));
    }

    fn configure_host_port(&mut self, link: &Link) -> std::io::Result<Link> {
        let (index, gateway) = (link.index, self.gateway);
        // The host's end is not to speak IPv6 to the containers by itself.
        let no_ipv6 = sysctl::conf_key("ipv6", &link.name, "disable_ipv6");
        if sysctl::path(&no_ipv6).exists() {
            sysctl::write(&no_ipv6, "1")?;
        }
        self.netlink.set_mac(index, gateway.mac)?;
        let mtu = self.switch.view().member_mtu_min().clamp(MTU_MIN, MTU_MAX);
        self.netlink.set_mtu(index, mtu)?;
        self.netlink.set_tx_queue_len(index, TAP_QUEUE_FRAMES)?;
        self.netlink.set_up(index, true)?;
        self.netlink
            .add_address(index, IpAddr::V4(gateway.address), gateway.prefix)?;
        self.netlink.link(index)
    }
}

/// Smallest MTU of IPv4 that Linux takes, and the largest a TAP takes.
const MTU_MIN: u32 = 68;
const MTU_MAX: u32 = 65_521;

/// Interface names have 15 bytes at most.
pub(super) fn device_name(name: &str) -> String {
    name.chars().take(15).collect()
}

/// A locally administered address made from words by FNV-1a, which will not change.
pub(crate) fn stable_mac(name: &str, what: &str) -> Mac {
    let hash = name
        .bytes()
        .chain([0])
        .chain(what.bytes())
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
    Mac::local(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_up_addresses_are_stable_and_differ() {
        let mac = stable_mac("vswitch0", "gateway");
        assert_eq!(mac, stable_mac("vswitch0", "gateway"));
        assert_ne!(mac, stable_mac("vswitch0", "uplink"));
        assert_ne!(mac, stable_mac("vswitch1", "gateway"));
        assert!(mac.is_station());
    }
}
