//! Refusing what cannot be published on this host.

use std::net::Ipv4Addr;

use crate::config::nat::NatPool;
use crate::config::publish::TargetHost;
use crate::config::{Cidr, PublishSpec};
use crate::error::CliError;

/// Checks the addresses of a publish: where it is, and who is behind it. `hosts` are the host's own
/// addresses, `own` the external ones that are the switch's alone.
///
/// # Errors
/// The first that cannot be.
pub(in crate::daemon) fn addresses(
    spec: &PublishSpec,
    gateway: Cidr,
    hosts: &[Ipv4Addr],
    own: &[Ipv4Addr],
) -> Result<(), CliError> {
    let failed = |why, fix: &str| Err(CliError::failed(format!("--publish {spec}"), why, fix));
    if let Some(address) = spec.at.address {
        let known = address.is_loopback()
            || address == gateway.address
            || hosts.contains(&address)
            || own.contains(&address);
        if !known {
            let why = format!("{address} is none of this host's addresses");
            return failed(why, "leave the address out, or see: ip -4 addr");
        }
    }
    for target in &spec.targets {
        let TargetHost::Address(address) = target.host else {
            continue;
        };
        let why = if address == gateway.address {
            "the gateway itself"
        } else if !gateway.holds(address)
            || address == gateway.network()
            || address == gateway.broadcast()
        {
            "no address that a member can have"
        } else {
            continue;
        };
        let why = format!("target {address} is {why}, in {gateway}");
        return failed(why, "an address of the members' network, or a port's name");
    }
    Ok(())
}

/// Checks that the pool's addresses are nobody else's.
///
/// # Errors
/// One is the host's, or lies in the members' network.
pub(in crate::daemon) fn pool(
    pool: &NatPool,
    gateway: Cidr,
    hosts: &[Ipv4Addr],
) -> Result<(), CliError> {
    let what = format!("--nat-pool {pool}");
    for address in pool.addresses() {
        if hosts.contains(&address) {
            let why = format!("{address} is the host's own address");
            let fix = "addresses of the uplink's network that nobody has";
            return Err(CliError::failed(what, why, fix));
        }
        if gateway.holds(address) {
            let why = format!("{address} is in the members' network {gateway}");
            return Err(CliError::failed(
                what,
                why,
                "addresses of the uplink's network",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: Cidr = Cidr {
        address: Ipv4Addr::new(10, 77, 0, 1),
        prefix: 24,
    };
    const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
    const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);

    #[test]
    fn a6_1_addresses_must_be_the_hosts_and_targets_the_members() {
        let check = |text: &str| {
            let spec: PublishSpec = text.parse().unwrap();
            addresses(&spec, GATEWAY, &[HOST], &[OWN]).map_err(|error| error.why)
        };
        for good in [
            "80:veth9",
            "192.0.2.10:80:veth9",
            "192.0.2.11:80:veth9",
            "127.0.0.7:80:veth9",
            "10.77.0.1:80:veth9",
            "80:10.77.0.9",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (text, why) in [
            (
                "192.0.2.12:80:veth9",
                "192.0.2.12 is none of this host's addresses",
            ),
            (
                "80:10.77.0.1",
                "target 10.77.0.1 is the gateway itself, in 10.77.0.1/24",
            ),
            (
                "80:10.77.0.9,10.78.0.9",
                "target 10.78.0.9 is no address that a member can have, in 10.77.0.1/24",
            ),
            (
                "80:10.77.0.255",
                "target 10.77.0.255 is no address that a member can have, in 10.77.0.1/24",
            ),
        ] {
            assert_eq!(check(text).unwrap_err(), why, "{text}");
        }
    }

    #[test]
    fn a4_4c_a_pools_addresses_are_nobody_elses() {
        let check = |text: &str| {
            let read: NatPool = text.parse().unwrap();
            pool(&read, GATEWAY, &[HOST]).map_err(|error| error.why)
        };
        assert_eq!(check("192.0.2.20-192.0.2.30"), Ok(()));
        for (text, why) in [
            (
                "192.0.2.9-192.0.2.11",
                "192.0.2.10 is the host's own address",
            ),
            (
                "10.77.0.9",
                "10.77.0.9 is in the members' network 10.77.0.1/24",
            ),
        ] {
            assert_eq!(check(text).unwrap_err(), why, "{text}");
        }
    }
}
