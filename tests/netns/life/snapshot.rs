//! Everything of a host that a switch may touch, as lines that can be compared.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use switch::port::sys::bpf::tcx_ingress_programs;
use vswitch_cli::host::netlink::Netlink;
use vswitch_cli::lab::Host;

const RTM_GETQDISC: u16 = 38;
const RTM_GETTFILTER: u16 = 46;
const NFT_GET_TABLE: u16 = 10 << 8 | 1;
/// The ingress side of a clsact qdisc (`include/uapi/linux/pkt_sched.h`).
const CLSACT_INGRESS: u32 = 0xffff_fff2;
const CLSACT_EGRESS: u32 = 0xffff_fff3;
/// Bytes of `struct tcmsg` and of `struct nfgenmsg`.
const TCMSG_LEN: usize = 20;
const NFGENMSG_LEN: usize = 4;

/// A reading of a host's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// Reads links with their flags and users, addresses, routes, settings, qdiscs, filters,
    /// nftables' tables, TCX programs, packet sockets, and the files of the run directory.
    pub(super) fn take(host: &Host, run_dir: &Path) -> Self {
        let what = || "take a snapshot".to_owned();
        let mut lines = host.attempt(what, read).unwrap();
        for entry in fs::read_dir(run_dir).unwrap() {
            lines.insert(format!("host: file {:?}", entry.unwrap().file_name()));
        }
        Self(lines)
    }

    /// Fails with the lines that differ.
    pub(super) fn assert_same(&self, after: &Self) {
        let gone: Vec<_> = self.0.difference(&after.0).collect();
        let new: Vec<_> = after.0.difference(&self.0).collect();
        assert!(self == after, "gone: {gone:#?}\nnew: {new:#?}");
    }

    /// The same without what concerns one interface.
    pub(super) fn without(&self, interface: &str) -> Self {
        let concerned = |line: &&String| !line.starts_with(&format!("{interface}: "));
        Self(self.0.iter().filter(concerned).cloned().collect())
    }
}

/// Each line begins with the interface it is about, or with `host`.
fn read() -> io::Result<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    let mut netlink = Netlink::open()?;
    let links = netlink.links()?;
    let name_of = |index: u32| {
        let link = links.iter().find(|link| link.index == index);
        link.map_or("host", |link| &link.name)
    };
    for link in &links {
        let name = &link.name;
        lines.insert(format!("{name}: {link:?}"));
        if !link.loopback {
            // Before Linux 6.6 there is no TCX.
            let count = tcx_ingress_programs(link.index).unwrap_or(0);
            lines.insert(format!("{name}: {count} TCX programs"));
        }
        for parent in [CLSACT_INGRESS, CLSACT_EGRESS] {
            let body = tcmsg(link.index, parent);
            // Without a clsact qdisc there is nothing to look into.
            for filter in netlink.dump_raw(RTM_GETTFILTER, &body).unwrap_or_default() {
                lines.insert(format!("{name}: filter {:?}", filter.body));
            }
        }
    }
    for address in netlink.addresses()? {
        lines.insert(format!("{}: {address:?}", name_of(address.index)));
    }
    for route in netlink.routes()? {
        lines.insert(format!("{}: {route:?}", name_of(route.index)));
    }
    for qdisc in netlink.dump_raw(RTM_GETQDISC, &[0; TCMSG_LEN])? {
        // What follows are counters.
        let header = &qdisc.body[..TCMSG_LEN];
        let index = u32::from_ne_bytes(header[4..8].try_into().unwrap());
        lines.insert(format!("{}: qdisc {header:?}", name_of(index)));
    }
    // A kernel without nftables has no tables.
    if let Ok(mut netfilter) = Netlink::open_netfilter() {
        for table in netfilter.dump_raw(NFT_GET_TABLE, &[0; NFGENMSG_LEN])? {
            lines.insert(format!("host: nft {:?}", table.body));
        }
    }
    packet_sockets(&mut lines)?;
    for file in ["if_inet6", "dev_mcast"] {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}"))?;
        for line in text.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            // One file has the name last, the other second.
            let named = words
                .iter()
                .find(|word| links.iter().any(|link| link.name == **word));
            lines.insert(format!("{}: {file} {words:?}", named.unwrap_or(&"host")));
        }
    }
    for directory in ["ipv4", "ipv6", "ipv4/conf", "ipv6/conf", "core"] {
        settings(&Path::new("/proc/sys/net").join(directory), &mut lines)?;
    }
    Ok(lines)
}

/// How many packet sockets there are; a fact about the host, wherever they are bound.
fn packet_sockets(lines: &mut BTreeSet<String>) -> io::Result<()> {
    let sockets = fs::read_to_string("/proc/thread-self/net/packet")?;
    let count = sockets.lines().skip(1).count();
    lines.insert(format!("host: {count} packet sockets"));
    Ok(())
}

/// Every setting of a directory, and of those in `conf` each interface's.
fn settings(directory: &Path, lines: &mut BTreeSet<String>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_file() {
            // Some can only be written, or have no value yet.
            if let Ok(value) = fs::read_to_string(&path) {
                let parent = directory.file_name().and_then(|name| name.to_str());
                let about = match directory.parent() {
                    Some(conf) if conf.ends_with("conf") => parent.unwrap_or("host"),
                    _ => "host",
                };
                lines.insert(format!(
                    "{about}: {} = {}",
                    path.display(),
                    value.trim_end()
                ));
            }
        } else if directory.ends_with("conf") {
            settings(&path, lines)?;
        }
    }
    Ok(())
}

fn tcmsg(ifindex: u32, parent: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(ifindex.to_ne_bytes());
    body.extend([0; 4]);
    body.extend(parent.to_ne_bytes());
    body.resize(TCMSG_LEN, 0);
    body
}
