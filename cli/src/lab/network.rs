//! Hosts (network namespaces) and the cables between them.
#![expect(
    clippy::disallowed_methods,
    reason = "the lab waits for the kernel to notice that a cable is plugged in"
)]

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::error::{Result, While};
use switch::mac::Mac;

use crate::host::link::{Link, VethEnd};
use crate::host::netlink::{Netlink, is_gone};
use crate::host::netns::{self, Netns};
use crate::host::route::Route;
use crate::host::sysctl;

/// How often the state of a fresh link is read, and the pause between two readings: 2 s in all.
const LINK_POLLS: u32 = 1000;
const LINK_POLL_PAUSE: Duration = Duration::from_millis(2);
/// Kinds of links that hold nothing but themselves, so that they can be deleted one by one.
const OUR_KINDS: [&str; 4] = ["veth", "bridge", "tun", "vxlan"];

static LABS: AtomicU32 = AtomicU32::new(0);

/// Whether the namespaces of a lab have names under `/run/netns`.
#[derive(Debug, Clone)]
enum Naming {
    Prefix(String),
    Anonymous,
}

/// A set of hosts and cables; all of it is removed when the value goes out of scope.
///
/// The namespaces go in any case; links are deleted one by one first, so that nothing is left at
/// the moment `drop` returns, although a [`Host`] handle may live longer.
#[derive(Debug)]
pub struct Lab {
    naming: Naming,
    hosts: Vec<Host>,
}

impl Lab {
    /// A lab whose namespaces are called `vsw<purpose>-<pid>-<n>-<host>`, `n` counting the labs of
    /// this process, so that neither processes nor tests of one process meet.
    #[must_use]
    pub fn new(purpose: &str) -> Self {
        let count = LABS.fetch_add(1, Ordering::Relaxed);
        Self::with_prefix(format!("vsw{purpose}-{}-{count}", process::id()))
    }

    /// A lab whose namespaces are called `<prefix>-<host>`.
    #[must_use]
    pub fn with_prefix(prefix: impl Into<String>) -> Self {
        Self {
            naming: Naming::Prefix(prefix.into()),
            hosts: Vec::new(),
        }
    }

    /// A lab whose namespaces have no names: they vanish even if the process is killed, but no
    /// other program can enter them by name.
    #[must_use]
    pub fn anonymous() -> Self {
        Self {
            naming: Naming::Anonymous,
            hosts: Vec::new(),
        }
    }

    /// Makes an empty host with its loopback up, no forwarding between its interfaces, no reverse
    /// path filter and no duplicate address detection, whatever the machine's defaults are.
    ///
    /// # Errors
    /// `EPERM` without CAP_SYS_ADMIN, `EEXIST` when the namespace's name is taken.
    pub fn host(&mut self, label: &str) -> Result<Host> {
        let netns = match &self.naming {
            Naming::Prefix(prefix) => Netns::create(&format!("{prefix}-{label}")),
            Naming::Anonymous => Netns::anonymous(),
        };
        let host = Host(Arc::new(Inner {
            label: label.to_owned(),
            netns: netns.while_doing(|| format!("make the network namespace {label}"))?,
        }));
        self.hosts.push(host.clone());
        host.set_defaults()?;
        Ok(host)
    }

    /// Lays a cable between two hosts (or two interfaces of one) and waits until both ends run.
    ///
    /// # Errors
    /// `EEXIST` when a name is taken, `EOPNOTSUPP` when the kernel has no veth.
    pub fn cable(&self, cable: &Cable<'_>) -> Result<()> {
        let (near, far) = (&cable.near, &cable.far);
        let what = || format!("lay a cable from {near} to {far}");
        near.host.netlink(what, |netlink| {
            let near_end = VethEnd {
                name: near.name,
                mac: near.mac.map(Mac),
                mtu: cable.mtu,
                netns: None,
            };
            let far_end = VethEnd {
                name: far.name,
                mac: far.mac.map(Mac),
                mtu: cable.mtu,
                netns: Some(far.host.as_fd()),
            };
            netlink.add_veth(&near_end, &far_end)
        })?;
        near.host.set_up(near.name, true)?;
        far.host.set_up(far.name, true)?;
        near.host.wait_running(near.name)?;
        far.host.wait_running(far.name)
    }

    /// The names of the lab's namespaces under `/run/netns`.
    #[must_use]
    pub fn namespace_names(&self) -> Vec<String> {
        let names = self.hosts.iter().filter_map(Host::netns_name);
        names.map(str::to_owned).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in self.hosts.drain(..).rev() {
            // Best effort: whatever stays goes with the namespace.
            let _ = host.0.netns.run(delete_links);
            if let Some(name) = host.netns_name() {
                let _ = netns::delete(name);
            }
        }
    }
}

/// Links that are deleted one by one: each takes some 20 ms, while the kernel takes those that are
/// left in a namespace away all at once.
const DELETED_MAX: usize = 64;

/// Deletes the links of the calling thread's namespace, unless they are too many.
fn delete_links() -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    if links.len() > DELETED_MAX {
        return Ok(());
    }
    for link in links {
        let kind = link.kind.as_deref().unwrap_or("");
        if OUR_KINDS.contains(&kind)
            && let Err(err) = netlink.delete_link(link.index)
            && !is_gone(&err)
        {
            return Err(err);
        }
    }
    Ok(())
}

/// One end of a cable.
#[derive(Debug, Clone, Copy)]
pub struct End<'a> {
    /// The host it is plugged into.
    pub host: &'a Host,
    /// Name of the interface there, at most 15 bytes.
    pub name: &'a str,
    /// Ethernet address; the kernel draws one when absent.
    pub mac: Option<[u8; 6]>,
}

impl<'a> End<'a> {
    /// The interface `name` of `host`, with an address drawn by the kernel.
    #[must_use]
    pub fn new(host: &'a Host, name: &'a str) -> Self {
        Self {
            host,
            name,
            mac: None,
        }
    }

    /// The same end with the Ethernet address `mac`.
    #[must_use]
    pub fn with_mac(self, mac: [u8; 6]) -> Self {
        Self {
            mac: Some(mac),
            ..self
        }
    }
}

impl fmt::Display for End<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.host.label())
    }
}

/// A veth pair to be made.
#[derive(Debug, Clone, Copy)]
pub struct Cable<'a> {
    /// One end.
    pub near: End<'a>,
    /// The other end.
    pub far: End<'a>,
    /// MTU of both ends in bytes; the kernel's 1500 when absent.
    pub mtu: Option<u32>,
}

#[derive(Debug)]
struct Inner {
    label: String,
    netns: Netns,
}

/// A network namespace of a [`Lab`]; a cheap handle that can be cloned and sent to threads.
#[derive(Debug, Clone)]
pub struct Host(Arc<Inner>);

impl Host {
    /// The short name, for example `c1`.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// The name under `/run/netns`, absent in an anonymous lab.
    #[must_use]
    pub fn netns_name(&self) -> Option<&str> {
        self.0.netns.name()
    }

    /// The namespace itself.
    #[must_use]
    pub fn netns(&self) -> &Netns {
        &self.0.netns
    }

    /// Runs `f` on a thread of its own inside the namespace and returns its value; a panic of `f`
    /// goes on in the caller.
    ///
    /// # Errors
    /// When the namespace cannot be entered; `f` has not run then.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let entered = self.0.netns.run(f);
        entered.while_doing(|| format!("enter the network namespace of {}", self.label()))
    }

    /// Runs a fallible `f` as [`Host::run`] does; `what` names it in the error.
    ///
    /// # Errors
    /// Those of `f`, and when the namespace cannot be entered.
    pub fn attempt<T: Send>(
        &self,
        what: impl FnOnce() -> String,
        f: impl FnOnce() -> io::Result<T> + Send,
    ) -> Result<T> {
        self.run(f)?.while_doing(what)
    }

    fn netlink<T: Send>(
        &self,
        what: impl FnOnce() -> String,
        f: impl FnOnce(&mut Netlink) -> io::Result<T> + Send,
    ) -> Result<T> {
        self.attempt(what, || f(&mut Netlink::open()?))
    }

    fn set_defaults(&self) -> Result<()> {
        self.sysctl("net/ipv4/ip_forward", "0")?;
        // IPv4 settings of a new namespace are copies of the machine's.
        for conf in ["all", "default"] {
            self.sysctl(&sysctl::conf_key("ipv4", conf, "rp_filter"), "0")?;
        }
        // Every ICMP error counts: none may be held back because another was sent lately.
        self.sysctl("net/ipv4/icmp_ratelimit", "0")?;
        let detection = sysctl::conf_key("ipv6", "default", "accept_dad");
        self.attempt(
            || format!("set {detection}"),
            || match sysctl::write(&detection, "0") {
                // A kernel without IPv6 detects nothing.
                Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(()),
                written => written,
            },
        )
    }

    /// Writes a sysctl of this namespace; the key has slashes (`net/ipv4/ip_forward`).
    ///
    /// # Errors
    /// `ENOENT` when there is none, `EROFS` where `/proc/sys` is not ours to write.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let what = || format!("set {key} to {value} in {}", self.label());
        self.attempt(what, || sysctl::write(key, value))
    }

    /// The link `name` as it is now.
    ///
    /// # Errors
    /// `ENODEV` when there is none.
    pub fn link(&self, name: &str) -> Result<Link> {
        let what = || format!("find {name} in {}", self.label());
        self.netlink(what, |netlink| netlink.link_named(name))
    }

    /// Brings the link `name` up or down.
    ///
    /// # Errors
    /// `ENODEV` when there is none.
    pub fn set_up(&self, name: &str, up: bool) -> Result<()> {
        let what = || format!("bring {name} in {} up or down", self.label());
        self.netlink(what, |netlink| {
            let index = netlink.link_named(name)?.index;
            netlink.set_up(index, up)
        })
    }

    /// Waits until `name` runs: until then the kernel throws away what is sent over a fresh cable.
    ///
    /// # Errors
    /// `ETIMEDOUT` after 2 s, `ENODEV` when there is none.
    pub fn wait_running(&self, name: &str) -> Result<()> {
        let what = || format!("wait for {name} in {} to run", self.label());
        self.netlink(what, |netlink| {
            let index = netlink.link_named(name)?.index;
            for _ in 0..LINK_POLLS {
                if netlink.link(index)?.running {
                    return Ok(());
                }
                thread::sleep(LINK_POLL_PAUSE);
            }
            Err(io::ErrorKind::TimedOut.into())
        })
    }

    /// Sets the MTU of `name` in bytes.
    ///
    /// # Errors
    /// `ENODEV` when there is none, `EINVAL` outside the device's limits.
    pub fn set_mtu(&self, name: &str, mtu: u32) -> Result<()> {
        let what = || format!("set the MTU of {name} in {} to {mtu}", self.label());
        self.netlink(what, |netlink| {
            let index = netlink.link_named(name)?.index;
            netlink.set_mtu(index, mtu)
        })
    }

    /// Gives `name` an address.
    ///
    /// # Errors
    /// `ENODEV` when there is no such link, `EEXIST` when it has the address already.
    pub fn address(&self, name: &str, ip: impl Into<IpAddr>, prefix: u8) -> Result<()> {
        let ip = ip.into();
        let what = || format!("give {name} in {} the address {ip}/{prefix}", self.label());
        self.netlink(what, |netlink| {
            let index = netlink.link_named(name)?.index;
            netlink.add_address(index, ip, prefix)
        })
    }

    /// Adds a default route through `gateway` on `name`.
    ///
    /// # Errors
    /// `ENETUNREACH` when the gateway is on no link, `EEXIST` when there is such a route.
    pub fn default_route(&self, name: &str, gateway: impl Into<IpAddr>) -> Result<()> {
        let gateway = gateway.into();
        let any: IpAddr = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        self.route(name, any, 0, gateway)
    }

    /// Adds a route to `destination`/`prefix` through `gateway` on `name`.
    ///
    /// # Errors
    /// `ENETUNREACH` when the gateway is on no link, `EEXIST` when there is such a route.
    pub fn route(
        &self,
        name: &str,
        destination: impl Into<IpAddr>,
        prefix: u8,
        gateway: impl Into<IpAddr>,
    ) -> Result<()> {
        let (destination, gateway) = (destination.into(), gateway.into());
        let what = || {
            let host = self.label();
            format!("route {destination}/{prefix} via {gateway} in {host}")
        };
        self.netlink(what, |netlink| {
            let index = netlink.link_named(name)?.index;
            netlink.add_route(&Route {
                gateway: Some(gateway),
                ..Route::on_link(destination, prefix, index)
            })
        })
    }

    /// Makes a kernel bridge called `name`, up, with these links as its ports.
    ///
    /// # Errors
    /// `EOPNOTSUPP` when the kernel has no bridge, `ENODEV` when a port does not exist.
    pub fn bridge(&self, name: &str, ports: &[&str]) -> Result<()> {
        let what = || format!("make the bridge {name} in {}", self.label());
        self.netlink(what, |netlink| {
            netlink.add_bridge(name)?;
            let bridge = netlink.link_named(name)?.index;
            for port in ports {
                let port = netlink.link_named(port)?.index;
                netlink.set_master(port, Some(bridge))?;
            }
            netlink.set_up(bridge, true)
        })?;
        if ports.is_empty() {
            return Ok(());
        }
        self.wait_running(name)
    }

    /// Deletes the link `name`; of a cable both ends go.
    ///
    /// # Errors
    /// `ENODEV` when there is none.
    pub fn delete_link(&self, name: &str) -> Result<()> {
        let what = || format!("delete {name} in {}", self.label());
        self.netlink(what, |netlink| {
            let index = netlink.link_named(name)?.index;
            netlink.delete_link(index)
        })
    }
}

impl AsFd for Host {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.netns.as_fd()
    }
}
