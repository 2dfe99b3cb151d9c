//! The third rung: a classic BPF filter in the clsact qdisc, by rtnetlink alone.
//!
//! Unlike the first two it outlives the process, so it is journalled, and recognised by our own
//! handle and name. It needs no `bpf(2)`: cls_bpf takes classic programs inside the message.
//!
//! Source: `net/sched/cls_bpf.c`, `net/sched/sch_ingress.c` (clsact 4.5, direct action 4.4).

use std::io;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;
use nix::libc;

use super::program::{self, Rule};
use crate::host::attr::{Attrs, emit, nest, nla, nla_str, read_u32};
use crate::host::netlink::{Netlink, Refusal, errno, is_gone};

/// Length of `struct tcmsg` in bytes.
const HEADER_LEN: usize = 20;
const TC_H_CLSACT: u32 = 0xffff_fff1;
/// `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`.
const INGRESS: u32 = 0xffff_fff2;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_OPS_LEN: u16 = 4;
const TCA_BPF_OPS: u16 = 5;
const TCA_BPF_FLAGS: u16 = 8;
const FLAG_DIRECT_ACTION: u32 = 1;

/// Our handle, "vs" in ASCII, marks a filter as ours: the kernel keeps no name for a classic one,
/// and gives 1, 2, ... to those who do not choose.
const HANDLE: u32 = 0x7673;
/// The most instructions of a filter: with more the kernel could not tell it in one message of
/// `NLMSG_GOODSIZE`, a page less some overhead, and refuses to (`tcf_fill_node`).
const INSTRUCTIONS_MAX: usize = 448;
/// Smaller is asked earlier; the next is taken when another classifier holds one.
const PRIORITIES: std::ops::RangeInclusive<u16> = 1..=8;

fn message(ifindex: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut body = vec![0; 4]; // family AF_UNSPEC and padding
    body.extend_from_slice(&ifindex.to_ne_bytes());
    body.extend_from_slice(&handle.to_ne_bytes());
    body.extend_from_slice(&parent.to_ne_bytes());
    body.extend_from_slice(&info.to_ne_bytes());
    body
}

/// `tcm_info`: priority, and the protocol in network order.
fn info(priority: u16) -> u32 {
    let all = u16::try_from(libc::ETH_P_ALL).unwrap_or(3).to_be();
    u32::from(priority) << 16 | u32::from(all)
}

/// Whether the interface has a clsact (or ingress) qdisc.
pub(super) fn qdisc_exists(netlink: &mut Netlink, ifindex: u32) -> io::Result<bool> {
    let replies = netlink.dump_raw(libc::RTM_GETQDISC, &message(0, 0, 0, 0))?;
    Ok(replies.iter().any(|reply| {
        let kind = Attrs::after(HEADER_LEN, &reply.body).string(TCA_KIND);
        read_u32(&reply.body, 4) == Some(ifindex)
            && matches!(kind.as_deref(), Some("clsact" | "ingress"))
    }))
}

/// Makes the clsact qdisc.
pub(super) fn add_qdisc(netlink: &mut Netlink, ifindex: u32) -> io::Result<()> {
    let mut body = message(ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0);
    body.extend(emit(&[nla_str(TCA_KIND, "clsact")]));
    netlink
        .transact(libc::RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &body)
        .map(|_| ())
}

/// The first priority at which our filter can stand: none but cls_bpf filters there.
///
/// # Errors
/// `EBUSY` when all are taken.
pub(super) fn free_priority(netlink: &mut Netlink, ifindex: u32) -> io::Result<u16> {
    let filters = filters(netlink, ifindex)?;
    let usable = |priority: &u16| {
        let mut here = filters.iter().filter(|filter| filter.priority == *priority);
        here.all(|filter| filter.kind == "bpf" && filter.handle != HANDLE)
    };
    PRIORITIES.into_iter().find(usable).ok_or_else(|| {
        let text = Some("every priority is taken by other filters".to_owned());
        Refusal {
            errno: Errno::EBUSY,
            text,
        }
        .into()
    })
}

/// Adds our filter at `priority`, or gives the one that is there a new rule; then reads it back.
pub(super) fn put(
    netlink: &mut Netlink,
    ifindex: u32,
    priority: u16,
    rule: &Rule,
) -> io::Result<()> {
    let program = program::classic(rule);
    if program.len() > INSTRUCTIONS_MAX {
        let text = Some("too many ports apart for a clsact filter".to_owned());
        return Err(Refusal {
            errno: Errno::E2BIG,
            text,
        }
        .into());
    }
    let count = u16::try_from(program.len()).unwrap_or(u16::MAX);
    let bytes: Vec<u8> = program
        .into_iter()
        .flat_map(program::Classic::bytes)
        .collect();
    let options = [
        nla(TCA_BPF_OPS_LEN, &count.to_ne_bytes()),
        nla(TCA_BPF_OPS, &bytes),
        nla(TCA_BPF_FLAGS, &FLAG_DIRECT_ACTION.to_ne_bytes()),
    ];
    let mut body = message(ifindex, HANDLE, INGRESS, info(priority));
    body.extend(emit(&[
        nla_str(TCA_KIND, "bpf"),
        nest(TCA_OPTIONS, &options),
    ]));
    netlink.transact(libc::RTM_NEWTFILTER, NLM_F_CREATE, &body)?;
    let found = filters(netlink, ifindex)?;
    match found
        .iter()
        .find(|filter| filter.priority == priority && filter.is_ours())
    {
        Some(filter) if filter.ops == bytes => Ok(()),
        Some(_) | None => Err(io::Error::other(
            "the filter is not there after it was added",
        )),
    }
}

/// Removes our filter; false when there is none of ours at `priority`.
pub(crate) fn remove(netlink: &mut Netlink, ifindex: u32, priority: u16) -> io::Result<bool> {
    let here = match filters(netlink, ifindex) {
        Ok(filters) => filters,
        // No qdisc, so no filter.
        Err(err) if matches!(errno(&err), Some(Errno::EINVAL | Errno::ENOENT)) => return Ok(false),
        Err(err) => return Err(err),
    };
    if !here
        .iter()
        .any(|filter| filter.priority == priority && filter.is_ours())
    {
        return Ok(false);
    }
    let mut body = message(ifindex, HANDLE, INGRESS, info(priority));
    body.extend(emit(&[nla_str(TCA_KIND, "bpf")]));
    netlink
        .transact(libc::RTM_DELTFILTER, 0, &body)
        .map(|_| true)
}

/// Removes the clsact qdisc unless somebody has put filters into it meanwhile.
pub(crate) fn remove_empty_qdisc(netlink: &mut Netlink, ifindex: u32) -> io::Result<()> {
    const EGRESS: u32 = 0xffff_fff3;
    for parent in [INGRESS, EGRESS] {
        match filters_of(netlink, ifindex, parent) {
            Ok(filters) if filters.is_empty() => {}
            Ok(_) => return Ok(()),
            Err(err) if errno(&err) == Some(Errno::EINVAL) => {}
            Err(err) => return Err(err),
        }
    }
    let mut body = message(ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0);
    body.extend(emit(&[nla_str(TCA_KIND, "clsact")]));
    match netlink.transact(libc::RTM_DELQDISC, 0, &body) {
        Ok(_) => Ok(()),
        Err(err) if is_gone(&err) || errno(&err) == Some(Errno::EINVAL) => Ok(()),
        Err(err) => Err(err),
    }
}

struct Filter {
    kind: String,
    handle: u32,
    priority: u16,
    ops: Vec<u8>,
}

impl Filter {
    fn is_ours(&self) -> bool {
        self.kind == "bpf" && self.handle == HANDLE
    }
}

fn filters(netlink: &mut Netlink, ifindex: u32) -> io::Result<Vec<Filter>> {
    filters_of(netlink, ifindex, INGRESS)
}

fn filters_of(netlink: &mut Netlink, ifindex: u32, parent: u32) -> io::Result<Vec<Filter>> {
    let replies = netlink.dump_raw(libc::RTM_GETTFILTER, &message(ifindex, 0, parent, 0))?;
    let decode = |body: &[u8]| {
        let attrs = Attrs::after(HEADER_LEN, body);
        let options = attrs.nested(TCA_OPTIONS);
        Some(Filter {
            kind: attrs.string(TCA_KIND)?,
            handle: read_u32(body, 8)?,
            priority: u16::try_from(read_u32(body, 16)? >> 16).ok()?,
            ops: options.bytes(TCA_BPF_OPS).unwrap_or(&[]).to_vec(),
        })
    };
    let news = replies
        .iter()
        .filter(|reply| reply.kind == libc::RTM_NEWTFILTER);
    // Handle 0 is the classifier instance itself, not one of its filters.
    Ok(news
        .filter_map(|reply| decode(&reply.body))
        .filter(|f| f.handle != 0)
        .collect())
}
