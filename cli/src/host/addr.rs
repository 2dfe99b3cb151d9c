//! Addresses of interfaces, read and changed over `RTM_*ADDR`.
//!
//! Source: `net/ipv4/devinet.c`, `net/ipv6/addrconf.c`.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;

use super::attr::{Attrs, read_u32};
use super::netlink::Netlink;

/// Length of `struct ifaddrmsg` in bytes.
const HEADER_LEN: usize = 8;

/// One address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// Index of the interface.
    pub index: u32,
    /// The address itself (`IFA_LOCAL` where there is one).
    pub ip: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
    /// Valid only on this link (`fe80::/10`, `169.254/16` by scope) or on this host.
    pub scope_is_global: bool,
    /// A further address of a subnet that already has one (`IFA_F_SECONDARY`).
    pub secondary: bool,
}

impl Address {
    /// Decodes the body of `RTM_NEWADDR` or `RTM_DELADDR`; `None` when it has no address.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let attrs = Attrs::after(HEADER_LEN, body);
        let ip = attrs
            .ip(libc::IFA_LOCAL)
            .or_else(|| attrs.ip(libc::IFA_ADDRESS))?;
        let flags = attrs
            .u32(libc::IFA_FLAGS)
            .unwrap_or_else(|| body.get(2).map_or(0, |low| u32::from(*low)));
        Some(Self {
            index: read_u32(body, 4)?,
            ip,
            prefix: *body.get(1)?,
            scope_is_global: *body.get(3)? == libc::RT_SCOPE_UNIVERSE,
            // On IPv6 the same bit marks a temporary address.
            secondary: ip.is_ipv4() && flags & libc::IFA_F_SECONDARY != 0,
        })
    }
}

fn message(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.prefix_len = prefix;
    message.header.family = if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

impl Netlink {
    /// All addresses of all interfaces.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        self.dump_addresses(AddressMessage::default())
    }

    /// All addresses in the namespace that ours knows as `netnsid`.
    ///
    /// # Errors
    /// `EINVAL` for an unknown namespace, and on kernels before 4.20, which cannot look there.
    pub fn addresses_in(&mut self, netnsid: i32) -> io::Result<Vec<Address>> {
        let mut message = AddressMessage::default();
        message.attributes = vec![AddressAttribute::TargetNetNsId(netnsid)];
        self.dump_addresses(message)
    }

    fn dump_addresses(&mut self, message: AddressMessage) -> io::Result<Vec<Address>> {
        let replies = self.dump(&RouteNetlinkMessage::GetAddress(message))?;
        let news = replies
            .iter()
            .filter(|reply| reply.kind == libc::RTM_NEWADDR);
        Ok(news
            .filter_map(|reply| Address::decode(&reply.body))
            .collect())
    }

    /// Gives an interface an address; for IPv4 with the subnet's broadcast address.
    ///
    /// # Errors
    /// `EEXIST` when it has it already, `ENODEV` when the interface is gone, `EACCES` for IPv6
    /// where `disable_ipv6` is set.
    pub fn add_address(&mut self, index: u32, ip: IpAddr, prefix: u8) -> io::Result<()> {
        let mut message = message(index, ip, prefix);
        if let IpAddr::V4(v4) = ip
            && prefix < 31
        {
            let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            let broadcast = (v4.to_bits() | host_bits).into();
            message
                .attributes
                .push(AddressAttribute::Broadcast(broadcast));
        }
        let new = RouteNetlinkMessage::NewAddress(message);
        self.request(&new, NLM_F_CREATE | NLM_F_EXCL).map(|_| ())
    }

    /// Takes an address from an interface.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` when it does not have it.
    pub fn delete_address(&mut self, index: u32, ip: IpAddr, prefix: u8) -> io::Result<()> {
        let delete = RouteNetlinkMessage::DelAddress(message(index, ip, prefix));
        self.request(&delete, 0).map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;
    use crate::host::link::VethEnd;
    use crate::host::netlink::{errno, is_gone};
    use crate::host::netns::tests::in_fresh_netns;

    #[test]
    fn addresses_come_and_go() {
        in_fresh_netns("addresses", || {
            let mut netlink = Netlink::open().unwrap();
            let end = |name| VethEnd {
                name,
                ..VethEnd::default()
            };
            netlink.add_veth(&end("a"), &end("b")).unwrap();
            let index = netlink.link_named("a").unwrap().index;
            let ip: IpAddr = "10.77.0.1".parse().unwrap();
            let six: IpAddr = "fd00::1".parse().unwrap();
            netlink.add_address(index, ip, 24).unwrap();
            netlink
                .add_address(index, "10.77.0.2".parse().unwrap(), 24)
                .unwrap();
            netlink.add_address(index, six, 64).unwrap();
            let again = netlink.add_address(index, ip, 24).unwrap_err();
            assert_eq!(errno(&again), Some(Errno::EEXIST));
            let own: Vec<Address> = netlink
                .addresses()
                .unwrap()
                .into_iter()
                .filter(|a| a.index == index)
                .collect();
            let first = own.iter().find(|a| a.ip == ip).unwrap();
            assert!(first.scope_is_global && !first.secondary);
            assert_eq!(first.prefix, 24);
            assert!(own.iter().any(|a| a.secondary));
            assert!(
                own.iter()
                    .any(|a| a.ip == six && a.prefix == 64 && !a.secondary)
            );
            netlink.delete_address(index, ip, 24).unwrap();
            assert!(is_gone(&netlink.delete_address(index, ip, 24).unwrap_err()));
        });
    }
}
