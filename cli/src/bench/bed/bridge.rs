//! The kernel's bridge, with nft masquerade where there is an outside.

use std::process::Command;

use super::net::{GATEWAY, LINK, Net, PREFIX};
use super::programs::need;
use super::running::{self, Running};
use super::{BedError, PUBLISHED_PORT};

/// Frames that only pass from port to port would else go through iptables (`br_netfilter`), for
/// which a plain bridge need not pay.
const FILTERS: [&str; 3] = [
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/bridge/bridge-nf-call-arptables",
];

pub(super) fn start(net: &Net) -> Result<Running, BedError> {
    net.lay_cables()?;
    let ports = net.ports();
    let names: Vec<&str> = ports.iter().map(String::as_str).collect();
    net.h.bridge("br0", &names)?;
    for key in FILTERS {
        net.h.sysctl_if_any(key, "0")?;
    }
    let kernel = running::kernel();
    let mut description = format!("{kernel}, bridge without STP, bridge-nf-call-* 0");
    if net.shape.nat {
        let masquerade = masquerade(net)?;
        description = format!("{description}; ip_forward 1; {masquerade}");
    }
    Ok(Running::new(description))
}

/// Routes between the bridge and the uplink, and says how.
fn masquerade(net: &Net) -> Result<String, BedError> {
    net.h.address("br0", GATEWAY, PREFIX)?;
    net.h.sysctl("net/ipv4/ip_forward", "1")?;
    let nft = need("nft", "nftables")?;
    let version = running::version(&net.h, Command::new(&nft).arg("--version"))?;
    let mut rules = format!(
        "add table ip bed; \
         add chain ip bed out {{ type nat hook postrouting priority 100; }}; \
         add rule ip bed out oifname {LINK} masquerade"
    );
    if net.shape.published {
        let to = net.client().ip;
        rules.push_str(&format!(
            "; add chain ip bed in {{ type nat hook prerouting priority -100; }}; \
             add rule ip bed in iifname {LINK} tcp dport {PUBLISHED_PORT} dnat to {to}"
        ));
    }
    let mut command = Command::new(nft);
    command.arg(rules);
    running::run(
        &net.h,
        &mut command,
        "modprobe nf_tables nft_chain_nat nft_masq",
    )?;
    Ok(format!("{version}: {}", running::line(&command)))
}
