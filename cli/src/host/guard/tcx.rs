//! The first rung: a small eBPF program at the interface's ingress, held by a descriptor.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use switch::port::ebpf::verdict;
use switch::port::sys::bpf;

use super::program::{self, Rule};

/// A broadcast ARP request from nobody; only [`Rule::All`] has anything against it.
const PROBE: [u8; 42] = {
    let mut frame = [0; 42];
    let mut at = 0;
    while at < 6 {
        frame[at] = 0xff;
        at += 1;
    }
    frame[6] = 2;
    frame[12] = 0x08;
    frame[13] = 0x06;
    frame
};

/// A program attached to an interface for as long as this value lives.
#[derive(Debug)]
pub(super) struct Tcx {
    link: OwnedFd,
}

impl Tcx {
    /// Loads, tries and attaches the rule's program, and asks the kernel where it is attached.
    pub(super) fn attach(ifindex: u32, rule: &Rule, name: &str) -> io::Result<Self> {
        let program = load(rule, name)?;
        let link = bpf::attach_tcx_ingress(program.as_fd(), ifindex)?;
        match bpf::attached_to(link.as_fd())? {
            Some(index) if index == ifindex => Ok(Self { link }),
            Some(_) | None => Err(io::Error::from(nix::errno::Errno::ENODEV)),
        }
    }

    /// Puts another rule in the place of the present one, without a gap.
    pub(super) fn replace(&self, rule: &Rule, name: &str) -> io::Result<()> {
        let program = load(rule, name)?;
        bpf::replace_program(self.link.as_fd(), program.as_fd())
    }
}

fn load(rule: &Rule, name: &str) -> io::Result<OwnedFd> {
    let program = bpf::load_classifier(&program::ebpf(rule), name)?;
    let expected = if *rule == Rule::All {
        verdict::DROP
    } else {
        verdict::NEXT
    };
    let verdict = bpf::try_program(program.as_fd(), &PROBE)?;
    if verdict != expected {
        return Err(io::Error::other(format!(
            "the program answers {verdict}, not {expected}"
        )));
    }
    Ok(program)
}
