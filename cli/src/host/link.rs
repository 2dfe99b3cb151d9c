//! Links: the interfaces of a namespace, read and changed over `RTM_*LINK`.
//!
//! Source: `net/core/rtnetlink.c`, `include/uapi/linux/if_link.h`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use nix::errno::Errno;
use nix::libc;
use switch::mac::Mac;

use super::attr::{Attrs, read_u16, read_u32};
use super::netlink::{Netlink, Refusal, Reply, errno};

/// Length of `struct ifinfomsg` in bytes.
const HEADER_LEN: usize = 16;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_CARRIER: u16 = 33;
const IFLA_GSO_MAX_SIZE: u16 = 41;
const IFLA_TSO_MAX_SIZE: u16 = 59;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_TXQLEN: u16 = 13;
const IFLA_PROMISCUITY: u16 = 30;
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;

/// One interface as the kernel describes it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Index, unique in the namespace for as long as it exists (indices may be reused later).
    pub index: u32,
    /// Name, for example `veth1`.
    pub name: String,
    /// Further names (`ip link property add altname`).
    pub alt_names: Vec<String>,
    /// `veth`, `bridge`, `tun`, ...; absent for hardware and for the loopback.
    pub kind: Option<String>,
    /// Ethernet address; absent for links that have none or another length.
    pub mac: Option<Mac>,
    /// Largest layer-3 packet in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Up and operational, `IFF_RUNNING`.
    pub running: bool,
    /// The other end of the cable is there, `IFLA_CARRIER`.
    pub carrier: bool,
    /// Ethernet framing, `ARPHRD_ETHER`.
    pub ethernet: bool,
    /// The loopback.
    pub loopback: bool,
    /// Number of users that asked for promiscuous mode.
    pub promiscuity: u32,
    /// Index of the bridge, bond or VRF this link is enslaved to.
    pub master: Option<u32>,
    /// `IFLA_LINK`: the veth peer's index in *its* namespace, or a VLAN's parent.
    pub peer_index: Option<u32>,
    /// Our namespace's id for the one `peer_index` belongs to; absent when it is this one.
    pub link_netnsid: Option<i32>,
    /// Largest frame the device can segment itself, bytes; 0 when the kernel does not say.
    pub tso_max_size: u32,
    /// Largest frame the stack hands to the device, bytes; 0 when the kernel does not say.
    pub gso_max_size: u32,
    /// Transmit queue length, packets.
    pub tx_queue_len: u32,
}

impl Link {
    /// Decodes the body of `RTM_NEWLINK` or `RTM_DELLINK`; `None` when it is too short.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let layer = read_u16(body, 2)?;
        let index = read_u32(body, 4)?;
        let flags = read_u32(body, 8)?;
        let attrs = Attrs::after(HEADER_LEN, body);
        let flag = |bit: i32| flags & bit.cast_unsigned() != 0;
        let props = attrs.nested(IFLA_PROP_LIST);
        let alt = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes.split(|b| *b == 0).next().unwrap_or(&[])).into_owned()
        };
        Some(Self {
            index,
            name: attrs.string(IFLA_IFNAME)?,
            alt_names: props.all(IFLA_ALT_IFNAME).map(alt).collect(),
            kind: attrs.nested(IFLA_LINKINFO).string(IFLA_INFO_KIND),
            mac: attrs.array(IFLA_ADDRESS).map(Mac),
            mtu: attrs.u32(IFLA_MTU).unwrap_or(0),
            up: flag(libc::IFF_UP),
            running: flag(libc::IFF_RUNNING),
            carrier: attrs
                .u8(IFLA_CARRIER)
                .map_or(flag(libc::IFF_RUNNING), |on| on != 0),
            ethernet: layer == ARPHRD_ETHER,
            loopback: layer == ARPHRD_LOOPBACK,
            promiscuity: attrs.u32(IFLA_PROMISCUITY).unwrap_or(0),
            master: attrs.u32(IFLA_MASTER).filter(|index| *index != 0),
            peer_index: attrs.u32(IFLA_LINK).filter(|index| *index != 0),
            link_netnsid: attrs.i32(IFLA_LINK_NETNSID).filter(|id| *id >= 0),
            tso_max_size: attrs.u32(IFLA_TSO_MAX_SIZE).unwrap_or(0),
            gso_max_size: attrs.u32(IFLA_GSO_MAX_SIZE).unwrap_or(0),
            tx_queue_len: attrs.u32(IFLA_TXQLEN).unwrap_or(0),
        })
    }

    /// Whether the interface is called `name`, by its name or an alternative one.
    #[must_use]
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alt_names.iter().any(|alt| alt == name)
    }
}

/// One end of a veth pair to be made.
#[derive(Debug, Clone, Default)]
pub struct VethEnd<'a> {
    /// Interface name, at most 15 bytes.
    pub name: &'a str,
    /// Ethernet address; the kernel draws one when absent.
    pub mac: Option<Mac>,
    /// MTU in bytes; the kernel's 1500 when absent.
    pub mtu: Option<u32>,
    /// The namespace in which the end appears; that of the socket when absent.
    pub netns: Option<BorrowedFd<'a>>,
}

impl VethEnd<'_> {
    fn attributes(&self) -> Vec<LinkAttribute> {
        let mut attributes = vec![LinkAttribute::IfName(self.name.to_owned())];
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.netns.map(|fd| LinkAttribute::NetNsFd(fd.as_raw_fd())));
        attributes
    }
}

fn message(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    message
}

/// The error for a name that no interface has.
fn no_such(name: &str) -> io::Error {
    let text = Some(format!("no interface {name:?}"));
    Refusal {
        errno: Errno::ENODEV,
        text,
    }
    .into()
}

/// The kernel cuts names off silently in some paths, so the length is checked here.
fn checked_name(name: &str) -> io::Result<()> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['/', '\0', ' ']) {
        let text = Some(format!(
            "{name:?} cannot name an interface (1 to 15 bytes, no slash)"
        ));
        return Err(Refusal {
            errno: Errno::EINVAL,
            text,
        }
        .into());
    }
    Ok(())
}

fn decode_all(replies: &[Reply]) -> Vec<Link> {
    let links = replies
        .iter()
        .filter(|reply| reply.kind == libc::RTM_NEWLINK);
    links
        .filter_map(|reply| Link::decode(&reply.body))
        .collect()
}

impl Netlink {
    /// All links of the namespace, by index.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let mut links =
            decode_all(&self.dump(&RouteNetlinkMessage::GetLink(LinkMessage::default()))?);
        links.sort_by_key(|link| link.index);
        Ok(links)
    }

    /// The link `name`, which may be an alternative name.
    ///
    /// # Errors
    /// `ENODEV` when there is none.
    pub fn link_named(&mut self, name: &str) -> io::Result<Link> {
        // The kernel looks among alternative names as well (`netdev_name_node_lookup`, 5.5), but
        // takes none here that is longer than a name.
        if name.is_empty() || name.len() >= libc::IFNAMSIZ {
            let found = self.links()?.into_iter().find(|link| link.is_called(name));
            return found.ok_or_else(|| no_such(name));
        }
        let get = message(0, vec![LinkAttribute::IfName(name.to_owned())]);
        let replies = match self.request(&RouteNetlinkMessage::GetLink(get), 0) {
            Err(error) if errno(&error) == Some(Errno::ENODEV) => return Err(no_such(name)),
            replies => replies?,
        };
        let found = decode_all(&replies).into_iter().next();
        found.ok_or_else(|| no_such(name))
    }

    /// All links in the namespace that ours knows as `netnsid`.
    ///
    /// # Errors
    /// `EINVAL` for an unknown namespace; `EOPNOTSUPP` on kernels before 4.17.
    pub fn links_in(&mut self, netnsid: i32) -> io::Result<Vec<Link>> {
        let get = message(0, vec![LinkAttribute::IfNetnsId(netnsid)]);
        Ok(decode_all(&self.dump(&RouteNetlinkMessage::GetLink(get))?))
    }

    /// The link with this index.
    ///
    /// # Errors
    /// `ENODEV` when there is none (any more).
    pub fn link(&mut self, index: u32) -> io::Result<Link> {
        let replies = self.request(&RouteNetlinkMessage::GetLink(message(index, vec![])), 0)?;
        let found = decode_all(&replies).into_iter().next();
        found.ok_or_else(|| {
            Refusal {
                errno: Errno::ENODEV,
                text: None,
            }
            .into()
        })
    }

    /// The link with this index in the namespace that ours knows as `netnsid`.
    ///
    /// # Errors
    /// `ENODEV` when there is none; `EINVAL` for an unknown namespace; `EOPNOTSUPP` on kernels
    /// before 4.17.
    pub fn link_in(&mut self, netnsid: i32, index: u32) -> io::Result<Link> {
        // IFLA_TARGET_NETNSID is the crate's IfNetnsId.
        let get = message(index, vec![LinkAttribute::IfNetnsId(netnsid)]);
        let replies = self.request(&RouteNetlinkMessage::GetLink(get), 0)?;
        let found = decode_all(&replies).into_iter().next();
        found.ok_or_else(|| {
            Refusal {
                errno: Errno::ENODEV,
                text: None,
            }
            .into()
        })
    }

    /// Makes a veth pair; either end may appear directly in another namespace.
    ///
    /// # Errors
    /// `EEXIST` when a name is taken, `EINVAL` for a bad name, `EPERM` without CAP_NET_ADMIN,
    /// `EOPNOTSUPP` when the kernel has no veth.
    pub fn add_veth(&mut self, near: &VethEnd<'_>, far: &VethEnd<'_>) -> io::Result<()> {
        checked_name(near.name)?;
        checked_name(far.name)?;
        let peer = InfoVeth::Peer(message(0, far.attributes()));
        self.add_link(
            near.attributes(),
            InfoKind::Veth,
            Some(InfoData::Veth(peer)),
        )
    }

    /// Makes a bridge with the kernel's defaults.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken, `EOPNOTSUPP` when the kernel has no bridge.
    pub fn add_bridge(&mut self, name: &str) -> io::Result<()> {
        checked_name(name)?;
        let attributes = vec![LinkAttribute::IfName(name.to_owned())];
        self.add_link(attributes, InfoKind::Bridge, None)
    }

    /// Makes a point-to-point VXLAN device between two addresses of the underlay.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken, `EOPNOTSUPP` when the kernel has no vxlan.
    pub fn add_vxlan(
        &mut self,
        name: &str,
        vni: u32,
        local: std::net::Ipv4Addr,
        remote: std::net::Ipv4Addr,
        port: u16,
    ) -> io::Result<()> {
        checked_name(name)?;
        let data = InfoData::Vxlan(vec![
            InfoVxlan::Id(vni),
            InfoVxlan::Local(local),
            InfoVxlan::Group(remote),
            InfoVxlan::Port(port),
        ]);
        let attributes = vec![LinkAttribute::IfName(name.to_owned())];
        self.add_link(attributes, InfoKind::Vxlan, Some(data))
    }

    fn add_link(
        &mut self,
        mut attributes: Vec<LinkAttribute>,
        kind: InfoKind,
        data: Option<InfoData>,
    ) -> io::Result<()> {
        let mut info = vec![LinkInfo::Kind(kind)];
        info.extend(data.map(LinkInfo::Data));
        attributes.push(LinkAttribute::LinkInfo(info));
        let new = RouteNetlinkMessage::NewLink(message(0, attributes));
        self.request(&new, NLM_F_CREATE | NLM_F_EXCL).map(|_| ())
    }

    /// Deletes a link; of a veth pair both ends go.
    ///
    /// # Errors
    /// `ENODEV` when it is gone, `EOPNOTSUPP` for hardware.
    pub fn delete_link(&mut self, index: u32) -> io::Result<()> {
        let delete = RouteNetlinkMessage::DelLink(message(index, vec![]));
        self.request(&delete, 0).map(|_| ())
    }

    /// Brings a link up or down.
    ///
    /// # Errors
    /// `ENODEV` when it is gone, `EPERM` without CAP_NET_ADMIN.
    pub fn set_up(&mut self, index: u32, up: bool) -> io::Result<()> {
        self.set_flag(index, LinkFlags::Up, up)
    }

    /// Switches promiscuous mode by the administrator's flag (one more user beside the sockets).
    ///
    /// # Errors
    /// `ENODEV` when it is gone, `EPERM` without CAP_NET_ADMIN.
    pub fn set_promiscuous(&mut self, index: u32, on: bool) -> io::Result<()> {
        self.set_flag(index, LinkFlags::Promisc, on)
    }

    fn set_flag(&mut self, index: u32, flag: LinkFlags, on: bool) -> io::Result<()> {
        let mut set = message(index, vec![]);
        set.header.flags = if on { flag } else { LinkFlags::empty() };
        set.header.change_mask = flag;
        self.request(&RouteNetlinkMessage::SetLink(set), 0)
            .map(|_| ())
    }

    fn set_attribute(&mut self, index: u32, attribute: LinkAttribute) -> io::Result<()> {
        let set = RouteNetlinkMessage::SetLink(message(index, vec![attribute]));
        self.request(&set, 0).map(|_| ())
    }

    /// Renames a link.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken, `EBUSY` when the link is up on kernels before 6.2.
    pub fn rename(&mut self, index: u32, name: &str) -> io::Result<()> {
        checked_name(name)?;
        self.set_attribute(index, LinkAttribute::IfName(name.to_owned()))
    }

    /// Sets the MTU in bytes.
    ///
    /// # Errors
    /// `EINVAL` outside the device's limits.
    pub fn set_mtu(&mut self, index: u32, mtu: u32) -> io::Result<()> {
        self.set_attribute(index, LinkAttribute::Mtu(mtu))
    }

    /// Sets the Ethernet address.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` for a multicast or zero address.
    pub fn set_mac(&mut self, index: u32, mac: Mac) -> io::Result<()> {
        self.set_attribute(index, LinkAttribute::Address(mac.0.to_vec()))
    }

    /// Enslaves a link to a bridge, or frees it with `None`.
    ///
    /// # Errors
    /// `EBUSY`/`ELOOP`/`EINVAL` with the driver's words.
    pub fn set_master(&mut self, index: u32, master: Option<u32>) -> io::Result<()> {
        self.set_attribute(index, LinkAttribute::Controller(master.unwrap_or(0)))
    }

    /// Sets the transmit queue length in packets (for a TAP: how many wait for our read).
    ///
    /// # Errors
    /// `ENODEV` when it is gone.
    pub fn set_tx_queue_len(&mut self, index: u32, packets: u32) -> io::Result<()> {
        self.set_attribute(index, LinkAttribute::TxQueueLen(packets))
    }

    /// Moves a link into another namespace; it loses its addresses and goes down.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken there, `EINVAL` for links bound to their namespace.
    pub fn move_to_netns(&mut self, index: u32, netns: BorrowedFd<'_>) -> io::Result<()> {
        self.set_attribute(index, LinkAttribute::NetNsFd(netns.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::host::netns::Netns;
    use crate::host::netns::tests::in_fresh_netns;

    #[test]
    fn names_the_kernel_would_cut_off_are_refused() {
        for bad in ["", "sixteen-bytes-xx", "a/b", "a b"] {
            assert_eq!(
                errno(&checked_name(bad).unwrap_err()),
                Some(Errno::EINVAL),
                "{bad:?}"
            );
        }
        assert!(checked_name("fifteen-bytes-x").is_ok());
    }

    #[test]
    fn a_short_message_is_no_link() {
        assert_eq!(Link::decode(&[0; 8]), None);
    }

    #[test]
    fn a_veth_pair_is_made_across_namespaces_and_read_back() {
        in_fresh_netns("veth", || {
            let mut netlink = Netlink::open().unwrap();
            let other = Netns::anonymous().unwrap();
            let mac = Mac([2, 0x77, 10, 77, 0, 11]);
            let near = VethEnd {
                name: "veth1",
                mtu: Some(1400),
                ..VethEnd::default()
            };
            let far = VethEnd {
                name: "eth0",
                mac: Some(mac),
                netns: Some(other.as_fd()),
                ..VethEnd::default()
            };
            netlink.add_veth(&near, &far).unwrap();
            let twice = netlink.add_veth(&near, &far).unwrap_err();
            assert_eq!(errno(&twice), Some(Errno::EEXIST));

            let link = netlink.link_named("veth1").unwrap();
            assert_eq!(link.kind.as_deref(), Some("veth"));
            assert_eq!((link.mtu, link.up, link.carrier), (1400, false, false));
            assert!(link.ethernet && !link.loopback);
            let id = link.link_netnsid.expect("the peer is elsewhere");
            let peer = netlink.link_in(id, link.peer_index.unwrap()).unwrap();
            assert_eq!((peer.name.as_str(), peer.mac), ("eth0", Some(mac)));

            netlink.set_up(link.index, true).unwrap();
            other
                .run(|| {
                    let mut inside = Netlink::open().unwrap();
                    let eth0 = inside.link_named("eth0").unwrap();
                    inside.set_up(eth0.index, true).unwrap();
                })
                .unwrap();
            let link = netlink.link(link.index).unwrap();
            assert!(link.up && link.carrier);
        });
    }

    #[test]
    fn every_setter_is_seen_when_read_back() {
        in_fresh_netns("setters", || {
            let mut netlink = Netlink::open().unwrap();
            let end = |name| VethEnd {
                name,
                ..VethEnd::default()
            };
            netlink.add_veth(&end("a"), &end("b")).unwrap();
            netlink.add_bridge("br").unwrap();
            let bridge = netlink.link_named("br").unwrap();
            assert_eq!(bridge.kind.as_deref(), Some("bridge"));
            let a = netlink.link_named("a").unwrap();
            assert_eq!(a.link_netnsid, None, "the peer is in the same namespace");
            netlink.rename(a.index, "renamed").unwrap();
            netlink.set_mtu(a.index, 1300).unwrap();
            netlink.set_mac(a.index, Mac([2, 0, 0, 0, 0, 9])).unwrap();
            netlink.set_tx_queue_len(a.index, 5000).unwrap();
            netlink.set_master(a.index, Some(bridge.index)).unwrap();
            netlink.set_promiscuous(a.index, true).unwrap();
            let read = netlink.link(a.index).unwrap();
            assert_eq!(read.name, "renamed");
            assert_eq!((read.mtu, read.tx_queue_len), (1300, 5000));
            assert_eq!(read.mac, Some(Mac([2, 0, 0, 0, 0, 9])));
            assert_eq!(read.master, Some(bridge.index));
            assert!(read.promiscuity >= 1);
            netlink.set_master(a.index, None).unwrap();
            assert_eq!(netlink.link(a.index).unwrap().master, None);
            let other = Netns::anonymous().unwrap();
            netlink.move_to_netns(a.index, other.as_fd()).unwrap();
            assert_eq!(
                errno(&netlink.link(a.index).unwrap_err()),
                Some(Errno::ENODEV)
            );
            let b = netlink.link_named("b").unwrap();
            netlink.delete_link(b.index).unwrap();
            assert_eq!(
                errno(&netlink.link_named("b").unwrap_err()),
                Some(Errno::ENODEV)
            );
        });
    }

    #[test]
    fn a_vxlan_device_is_made() {
        in_fresh_netns("vxlan", || {
            let mut netlink = Netlink::open().unwrap();
            let [local, remote] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
            match netlink.add_vxlan("vx0", 42, local, remote, 4789) {
                Err(err) if errno(&err) == Some(Errno::EOPNOTSUPP) => {
                    println!("SKIPPED vxlan: {err}");
                }
                made => {
                    made.unwrap();
                    let link = netlink.link_named("vx0").unwrap();
                    assert_eq!(link.kind.as_deref(), Some("vxlan"));
                }
            }
        });
    }
}
