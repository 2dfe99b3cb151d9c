//! `vswitch --explain`: the same switch by the kernel's own means, as commands to paste.
//!
//! A teaching aid, and a way back: whoever knows the kernel's bridge sees what each setting stands
//! for. What has no equivalent there (workers, rings, busy polling) is left out.

use std::net::Ipv4Addr;

use crate::config::settings::{Cidr, PortWord, Settings};

/// The gateway that is written where it is only found at run time.
const GATEWAY: Cidr = Cidr {
    address: Ipv4Addr::new(10, 77, 0, 1),
    prefix: 24,
};

/// The commands, one a line, with comments.
#[must_use]
pub fn commands(settings: &Settings) -> String {
    let mut lines = vec!["# A bridge; vswitch is one process and changes no bridge.".into()];
    bridge(settings, &mut lines);
    let gateway = settings.gateway.unwrap_or(GATEWAY);
    lines.push("# The gateway, on the bridge itself.".into());
    lines.push(format!("ip address add {gateway} dev {}", settings.name));
    lines.push(format!("ip link set {} up", settings.name));
    if let Some(uplink) = &settings.uplink {
        routing(settings, uplink, gateway, &mut lines);
    }
    lines.push("# Nothing was changed: --explain.".into());
    lines.join("\n") + "\n"
}

fn bridge(settings: &Settings, lines: &mut Vec<String>) {
    let name = &settings.name;
    // The bridge takes hundredths of a second.
    let ageing = u64::from(settings.ageing_secs) * 100;
    let address = settings
        .gateway_mac
        .map_or_else(String::new, |mac| format!(" address {mac}"));
    lines.push(format!(
        "ip link add {name}{address} type bridge ageing_time {ageing}"
    ));
    for port in &settings.ports {
        let device = port.word.device();
        if let PortWord::Tap(_) = port.word {
            lines.push(format!("ip tuntap add {device} mode tap"));
        }
        lines.push(format!("ip link set {device} master {name} up"));
        for mac in &port.macs {
            lines.push(format!("bridge fdb add {mac} dev {device} master static"));
        }
        if let Some(max) = port.fdb_max {
            lines.push(format!(
                "# {device}: at most {max} stations; no bridge has that per port."
            ));
        }
    }
}

fn routing(settings: &Settings, uplink: &str, gateway: Cidr, lines: &mut Vec<String>) {
    let name = &settings.name;
    lines.push("# Routing to the uplink, for the whole host.".into());
    lines.push("sysctl -w net.ipv4.ip_forward=1".into());
    if let Some(own) = settings.uplink_address {
        lines.push(format!("ip address add {own} dev {uplink}"));
    }
    if !settings.nat {
        return;
    }
    let inside = format!(
        "ip saddr {}/{} oifname {uplink}",
        gateway.network(),
        gateway.prefix
    );
    let ports = settings.nat_ports;
    let (to, to_ports) = match settings.uplink_address {
        Some(own) => (
            format!("snat to {}", own.address),
            format!("snat to {}:{ports}", own.address),
        ),
        None => ("masquerade".into(), format!("masquerade to :{ports}")),
    };
    lines.push("# Address translation.".into());
    lines.push(format!("nft add table ip {name}"));
    lines.push(format!(
        "nft add chain ip {name} post '{{ type nat hook postrouting priority srcnat; }}'"
    ));
    let rule = format!("nft add rule ip {name} post {inside}");
    lines.push(format!("{rule} meta l4proto '{{ tcp, udp }}' {to_ports}"));
    lines.push(format!("{rule} meta l4proto icmp {to}"));
}
