//! The host kept silent over a restart that is to keep sessions: see [`crate::host::guard`]'s
//! `standby`.

use std::net::Ipv4Addr;

use crate::config::Settings;
use crate::config::settings::PortRange;
use crate::host::guard::standby::{self, Bridge};
use crate::host::guard::{Rule, Shared, UplinkGuard};
use crate::host::netlink::Netlink;
use crate::host::sysctl::PortSet;

use super::Daemon;
use super::uplink::first_address;

/// A filter on the uplink that outlives the process, and what it is for.
pub(super) struct Standby {
    ifindex: u32,
    rule: Rule,
    /// `None` where there can be none, which was said.
    _guard: Option<UplinkGuard>,
}

/// Silence from before the journal is undone until the guard stands; `None` where there is nothing
/// to be silent about, or no way.
pub(super) fn over_the_gap(netlink: &mut Netlink, settings: &Settings) -> Option<Bridge> {
    let device = settings.uplink.as_deref().filter(|_| wants(settings))?;
    let link = netlink.link_named(device).ok()?;
    let addresses = netlink.addresses().ok()?;
    let address = first_address(&addresses, link.index)?.address;
    Bridge::new(
        link.index,
        rule(address, settings.nat_ports),
        &settings.name,
    )
    .ok()
}

/// Only sessions that are kept are worth it, and only on an address that the host has too.
const fn wants(settings: &Settings) -> bool {
    settings.state.is_some() && settings.nat && settings.uplink_address.is_none()
}

/// What the NAT's settings alone take of the address; what is published comes with the cover.
fn rule(addr: Ipv4Addr, ports: PortRange) -> Rule {
    let ports = PortSet::range(ports.low, ports.high);
    Rule::Ports(Shared::of_ports(addr, &ports))
}

impl Daemon {
    /// Sees to it that the filter is on the uplink that there is, for the address it has.
    pub(super) fn stand_by(&mut self) {
        let Some(uplink) = self.uplink.as_ref().filter(|_| wants(&self.settings)) else {
            return;
        };
        let (ifindex, rule) = (uplink.link.index, &uplink.cover.rule);
        if ifindex == 0 || *rule == Rule::Nothing {
            return;
        }
        let stands = self.standby.as_ref();
        if stands.is_some_and(|old| (old.ifindex, &old.rule) == (ifindex, rule)) {
            return;
        }
        let rule = rule.clone();
        // The old one first: it may be on the same interface.
        self.standby = None;
        let (journal, name) = (self.journal.clone(), &self.settings.name);
        let guard = standby::stand_by(journal, name, (ifindex, &uplink.link.name), rule.clone());
        if let Err(error) = &guard {
            self.say(&format!(
                "warning: {}: {error}; should this switch be killed, the host resets its sessions",
                uplink.device
            ));
        }
        self.standby = Some(Standby {
            ifindex,
            rule,
            _guard: guard.ok(),
        });
    }
}
