//! The second rung: an nftables table of the `netdev` family that belongs to our socket.
//!
//! With `flags owner` (5.12) nobody else can change the table, and the kernel deletes it when the
//! socket is closed, so nothing outlives the process. It also works in a user namespace, where
//! `bpf(2)` does not. One table per instance, one ingress chain per interface.
//!
//! Source: `net/netfilter/nf_tables_api.c`, `include/uapi/linux/netfilter/nf_tables.h`.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use netlink_packet_core::{DefaultNla, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};

use super::program::Rule;
use crate::host::attr::{Attrs, emit, nest, nla, nla_str};
use crate::host::netlink::Netlink;

const SUBSYSTEM: u16 = 10; // NFNL_SUBSYS_NFTABLES
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const GET_TABLE: u16 = SUBSYSTEM << 8 | 1;
const DEL_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;
const DEL_CHAIN: u16 = SUBSYSTEM << 8 | 5;
const NEW_RULE: u16 = SUBSYSTEM << 8 | 6;
const DEL_RULE: u16 = SUBSYSTEM << 8 | 8;
const NFPROTO_NETDEV: u8 = 5;
/// Length of `struct nfgenmsg` in bytes.
const HEADER_LEN: usize = 4;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const TABLE_F_OWNER: u32 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUM: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEV: u16 = 3;
const NF_NETDEV_INGRESS: u32 = 0;
/// Before what others may have there.
const PRIORITY: i32 = -500;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEM: u16 = 1;
const EXPR_NAME: u16 = 1;
const EXPR_DATA: u16 = 2;
const NF_DROP: u32 = 0;
const NF_ACCEPT: u32 = 1;
/// First 16-byte register; register 0 holds the verdict.
const REG_1: u32 = 1;
const REG_VERDICT: u32 = 0;

/// One message of a batch: type, flags, body.
type Part = (u16, u16, Vec<u8>);

/// A table that exists as long as this value lives.
#[derive(Debug)]
pub(super) struct Table {
    name: String,
    netlink: Mutex<Netlink>,
    abandoned: AtomicBool,
}

impl Table {
    /// Makes the owned table and reads it back, because a kernel that does not know ownership
    /// would leave it behind.
    pub(super) fn create(name: &str) -> io::Result<Self> {
        let mut netlink = Netlink::open_netfilter()?;
        let attrs = [nla_str(TABLE_NAME, name), be32(TABLE_FLAGS, TABLE_F_OWNER)];
        let new = (NEW_TABLE, NLM_F_CREATE | NLM_F_EXCL, body(&attrs));
        batch(&mut netlink, vec![new])?;
        let get = body(&[nla_str(TABLE_NAME, name)]);
        let replies = netlink.transact(GET_TABLE, 0, &get)?;
        let flags = replies
            .iter()
            .find(|reply| reply.kind == NEW_TABLE)
            .and_then(|reply| {
                Attrs::after(HEADER_LEN, &reply.body)
                    .array(TABLE_FLAGS)
                    .map(u32::from_be_bytes)
            });
        let table = Self {
            name: name.to_owned(),
            netlink: Mutex::new(netlink),
            abandoned: AtomicBool::new(false),
        };
        if flags.is_some_and(|flags| flags & TABLE_F_OWNER != 0) {
            return Ok(table);
        }
        let delete = (DEL_TABLE, 0, body(&[nla_str(TABLE_NAME, name)]));
        batch(&mut table.netlink(), vec![delete])?;
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "nftables without table ownership",
        ))
    }

    fn netlink(&self) -> MutexGuard<'_, Netlink> {
        // A request that panicked half-way leaves only replies with an old sequence number.
        self.netlink.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the ingress chain of one interface with its rules, and reads it back.
    pub(super) fn add_chain(&self, ifname: &str, rule: &Rule) -> io::Result<()> {
        let chain = chain_name(ifname);
        let policy = if *rule == Rule::All {
            NF_DROP
        } else {
            NF_ACCEPT
        };
        let hook = [
            be32(HOOK_NUM, NF_NETDEV_INGRESS),
            be32(HOOK_PRIORITY, PRIORITY.cast_unsigned()),
            nla_str(HOOK_DEV, ifname),
        ];
        let attrs = [
            nla_str(CHAIN_TABLE, &self.name),
            nla_str(CHAIN_NAME, &chain),
            nest(CHAIN_HOOK, &hook),
            be32(CHAIN_POLICY, policy),
            nla_str(CHAIN_TYPE, "filter"),
        ];
        let mut parts = vec![(NEW_CHAIN, NLM_F_CREATE | NLM_F_EXCL, body(&attrs))];
        parts.extend(self.rules(&chain, rule));
        let mut netlink = self.netlink();
        batch(&mut netlink, parts)?;
        let get = body(&[
            nla_str(CHAIN_TABLE, &self.name),
            nla_str(CHAIN_NAME, &chain),
        ]);
        let replies = netlink.transact(GET_CHAIN, 0, &get)?;
        let found = replies
            .iter()
            .find(|reply| reply.kind == NEW_CHAIN)
            .and_then(|reply| {
                Attrs::after(HEADER_LEN, &reply.body)
                    .array(CHAIN_POLICY)
                    .map(u32::from_be_bytes)
            });
        if found == Some(policy) {
            Ok(())
        } else {
            Err(io::Error::other(
                "the chain is not there after it was added",
            ))
        }
    }

    /// Puts another rule in the place of the present ones, in one transaction.
    pub(super) fn replace(&self, ifname: &str, rule: &Rule) -> io::Result<()> {
        let chain = chain_name(ifname);
        let flush = [nla_str(RULE_TABLE, &self.name), nla_str(RULE_CHAIN, &chain)];
        let mut parts = vec![(DEL_RULE, 0, body(&flush))];
        parts.extend(self.rules(&chain, rule));
        batch(&mut self.netlink(), parts)
    }

    /// Leaves all chains to go with the table, which goes with this value.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Deletes the chain of one interface; the kernel has done so when the interface went away.
    pub(super) fn delete_chain(&self, ifname: &str) -> io::Result<()> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Ok(());
        }
        let chain = chain_name(ifname);
        let attrs = [
            nla_str(CHAIN_TABLE, &self.name),
            nla_str(CHAIN_NAME, &chain),
        ];
        let rules = [nla_str(RULE_TABLE, &self.name), nla_str(RULE_CHAIN, &chain)];
        let parts = vec![(DEL_RULE, 0, body(&rules)), (DEL_CHAIN, 0, body(&attrs))];
        batch(&mut self.netlink(), parts)
    }

    fn rules(&self, chain: &str, rule: &Rule) -> Vec<Part> {
        let expressions = match rule {
            Rule::All | Rule::Nothing => vec![],
            Rule::Addresses(alone) => alone.iter().copied().map(to_address).collect(),
            Rule::Ports(shared) => {
                let mut rules: Vec<_> = shared.alone.iter().copied().map(to_address).collect();
                for (protocol, ports) in shared.protocols() {
                    rules.extend(ports.ranges().iter().map(|(lo, hi)| {
                        [to_address(shared.addr), to_ports(protocol, *lo, *hi)].concat()
                    }));
                }
                rules
            }
        };
        let part = |mut list: Vec<DefaultNla>| {
            list.push(drop_it());
            let attrs = [
                nla_str(RULE_TABLE, &self.name),
                nla_str(RULE_CHAIN, chain),
                nest(RULE_EXPRESSIONS, &list),
            ];
            (NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, body(&attrs))
        };
        expressions.into_iter().map(part).collect()
    }
}

fn chain_name(ifname: &str) -> String {
    format!("in_{ifname}")
}

fn be32(kind: u16, value: u32) -> DefaultNla {
    nla(kind, &value.to_be_bytes())
}

/// `struct nfgenmsg` and attributes.
fn body(attrs: &[DefaultNla]) -> Vec<u8> {
    let mut body = vec![NFPROTO_NETDEV, 0, 0, 0];
    body.extend(emit(attrs));
    body
}

/// Sends the parts as one transaction: all of it happens, or nothing.
fn batch(netlink: &mut Netlink, parts: Vec<Part>) -> io::Result<()> {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    let bracket = vec![0, 0, high, low];
    let acked = parts.len();
    let mut messages = vec![(BATCH_BEGIN, 0, bracket.clone())];
    messages.extend(parts);
    messages.push((BATCH_END, 0, bracket));
    netlink.batch(&messages, acked)
}

fn expression(name: &str, data: &[DefaultNla]) -> DefaultNla {
    nest(
        LIST_ELEM,
        &[nla_str(EXPR_NAME, name), nest(EXPR_DATA, data)],
    )
}

fn value(kind: u16, bytes: &[u8]) -> DefaultNla {
    const DATA_VALUE: u16 = 1;
    nest(kind, &[nla(DATA_VALUE, bytes)])
}

/// Register 1 := a part of the packet's metadata.
fn meta(key: u32) -> DefaultNla {
    const META_DREG: u16 = 1;
    const META_KEY: u16 = 2;
    expression("meta", &[be32(META_DREG, REG_1), be32(META_KEY, key)])
}

/// Register 1 := bytes of a header.
fn payload(base: u32, offset: u32, len: u32) -> DefaultNla {
    let attrs = [be32(1, REG_1), be32(2, base), be32(3, offset), be32(4, len)];
    expression("payload", &attrs)
}

/// Goes on only when register 1 equals `bytes`.
fn equals(bytes: &[u8]) -> DefaultNla {
    const CMP_EQ: u32 = 0;
    expression("cmp", &[be32(1, REG_1), be32(2, CMP_EQ), value(3, bytes)])
}

const BASE_NETWORK: u32 = 1;
const BASE_TRANSPORT: u32 = 2;

/// `meta protocol ip ip daddr ADDR`
fn to_address(addr: Ipv4Addr) -> Vec<DefaultNla> {
    const META_PROTOCOL: u32 = 1;
    vec![
        meta(META_PROTOCOL),
        equals(&0x0800_u16.to_be_bytes()),
        payload(BASE_NETWORK, 16, 4),
        equals(&addr.octets()),
    ]
}

/// `meta l4proto PROTO ip frag-off & 0x1fff == 0 th dport LO-HI`
fn to_ports(proto: u8, lo: u16, hi: u16) -> Vec<DefaultNla> {
    const META_L4PROTO: u32 = 16;
    let mask = [
        be32(1, REG_1),
        be32(2, REG_1),
        be32(3, 2),
        value(4, &0x1fff_u16.to_be_bytes()),
        value(5, &[0, 0]),
    ];
    let between = [
        be32(1, REG_1),
        be32(2, 0),
        value(3, &lo.to_be_bytes()),
        value(4, &hi.to_be_bytes()),
    ];
    vec![
        meta(META_L4PROTO),
        equals(&[proto]),
        payload(BASE_NETWORK, 6, 2),
        expression("bitwise", &mask),
        equals(&[0, 0]),
        payload(BASE_TRANSPORT, 2, 2),
        expression("range", &between),
    ]
}

fn drop_it() -> DefaultNla {
    const DATA_VERDICT: u16 = 2;
    const VERDICT_CODE: u16 = 1;
    let verdict = nest(DATA_VERDICT, &[be32(VERDICT_CODE, NF_DROP)]);
    expression("immediate", &[be32(1, REG_VERDICT), nest(2, &[verdict])])
}
