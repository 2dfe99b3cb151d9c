//! The guard: keeps the host's own stack from answering what belongs to the switch.
//!
//! # Theory of operation
//!
//! A packet socket sees a copy; the original goes on to the host. On a **port** (the host end of a
//! veth) the host would answer ARP and ping for its own addresses, forward, and speak by itself
//! (MLD, router solicitations). On an **uplink** whose address the NAT shares, it would reset
//! every NATed TCP connection and refuse every NATed datagram.
//!
//! The kernel runs the taps before TCX, TCX before traffic control, and that before nftables'
//! ingress (`__netif_receive_skb_core`), so a drop at any of the three silences the host and
//! blinds nobody. XDP comes before the taps and would. The first rung that works is taken; each is
//! tried and read back, never guessed from a version:
//!
//! 1. a TCX link (6.6): vanishes with the process, swaps atomically; with more than
//!    [`TCX_PORTS_MAX`] ports it comes second;
//! 2. an nftables table with `flags owner` (5.12): vanishes with the process, works in a user
//!    namespace;
//! 3. a classic BPF filter in clsact (4.5): stays behind after a SIGKILL, therefore journalled;
//! 4. sysctls only: enough for a port without addresses, but frames cost time in the host's stack;
//!    on a shared uplink address the host then *does* answer, which [`Hold::warning`] says.
//!
//! Ports get the sysctls in any case: they hold while rungs come and go.
//!
//! All functions act in the calling thread's network namespace.

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use super::journal::{Change, Interface, Journal, Ticket, Undone};
use super::netlink::{Netlink, errno};
use super::sysctl::{self, PortSet};

pub(crate) mod clsact;
mod nft;
mod program;
pub mod standby;
mod tcx;
#[cfg(test)]
mod tests;

pub use program::{Rule, Shared};

use nft::Table;
use tcx::Tcx;

/// One way to silence the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rung {
    /// A TCX link.
    Tcx,
    /// An nftables `netdev` table with `flags owner`.
    Nft,
    /// A filter in the clsact qdisc.
    Clsact,
    /// Settings of the interface only.
    Sysctls,
}

/// All rungs, best first.
pub const LADDER: [Rung; 4] = [Rung::Tcx, Rung::Nft, Rung::Clsact, Rung::Sysctls];

impl fmt::Display for Rung {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "TCX",
            Self::Nft => "nft owner table",
            Self::Clsact => "clsact filter",
            Self::Sysctls => "sysctls only",
        })
    }
}

/// With more ports than this, nftables is tried before TCX. To attach or detach a TCX link the
/// kernel waits for an RCU grace period (`tcx_entry_sync`, some 12 ms at 250 Hz) and holds RTNL
/// meanwhile: a thousand of them stop all configuration of the host's network for 12 s, twice. A
/// chain of nftables takes none. On a frame's way TCX costs some tens of nanoseconds less.
pub const TCX_PORTS_MAX: usize = 64;

/// What every port's host end gets: family, setting, value.
const PORT_SETTINGS: [(&str, &str, &str); 3] = [
    // No MLD, DAD or router solicitation, and no answer to neighbour discovery.
    ("ipv6", "disable_ipv6", "1"),
    // No ARP answer for any local address (8: not for any).
    ("ipv4", "arp_ignore", "8"),
    // A container that sends to the host end's MAC must not be routed around the switch.
    ("ipv4", "forwarding", "0"),
];

/// Installs guards for one instance of the switch.
#[derive(Debug)]
pub struct Guard {
    journal: Journal,
    table_name: String,
    ladder: Vec<Rung>,
    /// More ports than [`TCX_PORTS_MAX`].
    many: AtomicBool,
    table: Mutex<Option<Arc<Table>>>,
}

impl Guard {
    /// A guard that tries the whole [`LADDER`]; `name` is the instance's name.
    #[must_use]
    pub fn new(journal: Journal, name: &str) -> Self {
        Self::with_ladder(journal, name, &LADDER)
    }

    /// A guard that tries only these rungs, in this order.
    #[must_use]
    pub fn with_ladder(journal: Journal, name: &str, ladder: &[Rung]) -> Self {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let table_name = format!("vswitch_{}", name.chars().map(plain).collect::<String>());
        Self {
            journal,
            table_name,
            ladder: ladder.to_vec(),
            many: AtomicBool::new(false),
            table: Mutex::new(None),
        }
    }

    /// Name of the nftables table that the second rung makes.
    #[must_use]
    pub fn table_name(&self) -> &str {
        &self.table_name
    }

    /// Silences the host on a port: settings first, then the best rung.
    ///
    /// # Errors
    /// `ENODEV` when the interface is gone. A rung that does not work is no error, see
    /// [`Hold::passed_over`].
    pub fn install_port(&self, ifindex: u32, ifname: &str) -> io::Result<PortGuard> {
        let interface = Interface {
            index: ifindex,
            name: ifname.to_owned(),
        };
        let mut guards = self.install_ports([interface]).map_err(|(_, err)| err)?;
        guards.pop().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Silences the host on many ports as [`install_port`](Self::install_port) does, in their
    /// order; all their settings are written down at once.
    ///
    /// # Errors
    /// The first that fails, and why, as of [`install_port`](Self::install_port); none is guarded
    /// then.
    pub fn install_ports(
        &self,
        interfaces: impl IntoIterator<Item = Interface>,
    ) -> Result<Vec<PortGuard>, (Interface, io::Error)> {
        let hold = |interface| Hold::new(self.journal.clone(), interface, Rule::All);
        let mut holds: Vec<Hold> = interfaces.into_iter().map(hold).collect();
        set_all(&self.journal, &mut holds, &PORT_SETTINGS);
        let mut netlink = None;
        for hold in &mut holds {
            let climbed = match &mut netlink {
                Some(netlink) => self.climb(hold, netlink),
                None => Netlink::open().and_then(|open| self.climb(hold, netlink.insert(open))),
            };
            climbed.map_err(|err| (hold.interface.clone(), err))?;
        }
        // A container that knows the host end's MAC gets no further than this: the route back to
        // its subnet, if there is one, leads to the host port and not here.
        let bare = holds.iter_mut().filter(|hold| hold.rung == Rung::Sysctls);
        set_all(&self.journal, bare, &[("ipv4", "rp_filter", "1")]);
        Ok(holds.into_iter().map(PortGuard).collect())
    }

    /// Prepares for so many ports in all, see [`TCX_PORTS_MAX`]. Those that are guarded stay so.
    pub fn prepare(&self, ports: usize) {
        self.many.store(ports > TCX_PORTS_MAX, Ordering::Relaxed);
    }

    /// Leaves the rungs of all ports to go with the process: a table as a whole instead of a
    /// thousand chains one by one.
    pub fn abandon(&self) {
        let table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = table.as_ref() {
            table.abandon();
        }
    }

    /// The rungs in the order in which they are to be tried for a rule.
    fn order(&self, rule: &Rule) -> Vec<Rung> {
        let mut order = self.ladder.clone();
        if *rule == Rule::All && self.many.load(Ordering::Relaxed) {
            order.sort_by_key(|rung| *rung != Rung::Nft);
        }
        order
    }

    /// Withholds from the host what `rule` says on the uplink; the TCP and UDP ports of
    /// [`Rule::Ports`] are also reserved, so that the host does not choose them for itself.
    ///
    /// # Errors
    /// `ENODEV` when the interface is gone.
    pub fn install_uplink(
        &self,
        ifindex: u32,
        ifname: &str,
        rule: Rule,
    ) -> io::Result<UplinkGuard> {
        let interface = Interface {
            index: ifindex,
            name: ifname.to_owned(),
        };
        let mut hold = Hold::new(self.journal.clone(), interface, rule);
        hold.reserve();
        self.climb(&mut hold, &mut Netlink::open()?)?;
        if hold.rung == Rung::Sysctls && matches!(hold.rule, Rule::Addresses(_)) {
            // The last resort for an address that is not the host's: do not forward to it.
            set_all(&self.journal, [&mut hold], &[("ipv4", "forwarding", "0")]);
        }
        Ok(UplinkGuard(hold))
    }

    /// Takes the first rung that works.
    fn climb(&self, hold: &mut Hold, netlink: &mut Netlink) -> io::Result<()> {
        for rung in self.order(&hold.rule) {
            netlink.link(hold.interface.index)?; // An interface that is gone ends the attempts.
            match self.try_rung(rung, hold, netlink) {
                Ok(mechanism) => {
                    (hold.rung, hold.mechanism) = (rung, mechanism);
                    return Ok(());
                }
                Err(err) => hold.passed_over.push((rung, err)),
            }
        }
        Ok(())
    }

    fn try_rung(
        &self,
        rung: Rung,
        hold: &mut Hold,
        netlink: &mut Netlink,
    ) -> io::Result<Mechanism> {
        let (index, name) = (hold.interface.index, hold.interface.name.as_str());
        match rung {
            Rung::Tcx => Tcx::attach(index, &hold.rule, &self.table_name).map(Mechanism::Tcx),
            Rung::Nft => {
                let table = self.table()?;
                table.add_chain(name, &hold.rule)?;
                Ok(Mechanism::Nft(table))
            }
            Rung::Clsact => {
                let (ticket, priority) = hold.add_filter(netlink)?;
                hold.tickets.push(ticket);
                Ok(Mechanism::Clsact(priority))
            }
            Rung::Sysctls => Ok(Mechanism::Sysctls),
        }
    }

    /// The instance's table, made when it is first needed.
    fn table(&self) -> io::Result<Arc<Table>> {
        let mut slot = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = slot.as_ref() {
            return Ok(Arc::clone(table));
        }
        let table = Arc::new(Table::create(&self.table_name)?);
        *slot = Some(Arc::clone(&table));
        Ok(table)
    }
}

/// Writes settings of many interfaces, journalled together. What cannot be set is a note, not a
/// failure: most containers have a read-only `/proc/sys`, and the rungs above make up for it.
fn set_all<'h>(
    journal: &Journal,
    holds: impl IntoIterator<Item = &'h mut Hold>,
    settings: &[(&str, &str, &str)],
) {
    let mut planned = Vec::new();
    let mut changes = Vec::new();
    for hold in holds {
        let mut own = Vec::new();
        for setting in settings {
            if let Some(change) = hold.change(setting.0, setting.1, setting.2) {
                changes.push(change);
                own.push(*setting);
            }
        }
        planned.push((hold, own));
    }
    let recorded = journal.record_all(changes);
    let mut tickets = recorded.as_deref().unwrap_or_default().iter().copied();
    for (hold, own) in planned {
        for setting in own {
            match (tickets.next(), &recorded) {
                (Some(ticket), _) => hold.make(setting, ticket),
                (None, Err(err)) => hold.notes.push(format!("the journal: {err}")),
                (None, Ok(_)) => {}
            }
        }
    }
}

#[derive(Debug)]
enum Mechanism {
    Tcx(Tcx),
    Nft(Arc<Table>),
    Clsact(u16),
    Sysctls,
}

/// What is installed on one interface; undone when it is dropped.
#[derive(Debug)]
pub struct Hold {
    journal: Journal,
    interface: Interface,
    rule: Rule,
    rung: Rung,
    mechanism: Mechanism,
    tickets: Vec<Ticket>,
    /// Ports that were reserved for the rule, each set with its note in the journal.
    reserved: Vec<(PortSet, Ticket)>,
    passed_over: Vec<(Rung, io::Error)>,
    notes: Vec<String>,
}

impl Hold {
    fn new(journal: Journal, interface: Interface, rule: Rule) -> Self {
        Self {
            journal,
            interface,
            rule,
            rung: Rung::Sysctls,
            mechanism: Mechanism::Sysctls,
            tickets: Vec::new(),
            reserved: Vec::new(),
            passed_over: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The change that writes one setting; none where it is so already, or cannot be known.
    fn change(&mut self, family: &str, setting: &str, new: &str) -> Option<Change> {
        let key = sysctl::conf_key(family, &self.interface.name, setting);
        let old = match sysctl::read(&key) {
            Ok(old) if old == new => return None,
            Ok(old) => old,
            // No IPv6 in this kernel: nothing to switch off.
            Err(err) if err.kind() == io::ErrorKind::NotFound => return None,
            Err(err) => {
                self.notes.push(format!("{}: {err}", key.replace('/', ".")));
                return None;
            }
        };
        Some(Change::InterfaceSysctl {
            family: family.to_owned(),
            interface: self.interface.clone(),
            setting: setting.to_owned(),
            old,
            new: new.to_owned(),
        })
    }

    /// Makes a change that [`change`](Self::change) gave and that is written down.
    fn make(&mut self, (family, setting, new): (&str, &str, &str), ticket: Ticket) {
        let key = sysctl::conf_key(family, &self.interface.name, setting);
        let made = sysctl::write(&key, new).or_else(|err| {
            self.journal.cancel(ticket)?;
            Err(err)
        });
        match made {
            Ok(()) => self.tickets.push(ticket),
            Err(err) => self
                .notes
                .push(format!("{}={new}: {err}", key.replace('/', "."))),
        }
    }

    /// Reserves the ports of the rule, and gives back those that are of it no more.
    fn reserve(&mut self) {
        let ports = match &self.rule {
            Rule::Ports(shared) => shared.tcp.union(&shared.udp),
            Rule::All | Rule::Addresses(_) | Rule::Nothing => PortSet::default(),
        };
        let old = std::mem::take(&mut self.reserved);
        for (set, ticket) in old {
            if set.difference(&ports).is_empty() {
                self.reserved.push((set, ticket));
            } else if let Some(undone) = self.journal.undo(ticket)
                && undone.failed()
            {
                self.notes
                    .push(format!("ports {set} stay reserved: {undone}"));
            }
        }
        let reserved = sysctl::not_yet_reserved(&ports).and_then(|added| {
            let added = sysctl::reservable(&added)?;
            if added.is_empty() {
                return Ok(None);
            }
            let change = Change::ReservedPorts {
                added: added.to_string(),
            };
            let ticket = self
                .journal
                .make(change, || sysctl::reserve_ports(&added))?;
            Ok(Some((added, ticket)))
        });
        match reserved {
            Ok(reserved) => self.reserved.extend(reserved),
            Err(err) => self
                .notes
                .push(format!("ports {ports} are not reserved: {err}")),
        }
    }

    fn add_filter(&self, netlink: &mut Netlink) -> io::Result<(Ticket, u16)> {
        let (index, rule) = (self.interface.index, &self.rule);
        let there = clsact::qdisc_exists(netlink, index)?;
        let priority = if there {
            clsact::free_priority(netlink, index)?
        } else {
            1
        };
        let interface = self.interface.clone();
        let change = Change::Filter {
            interface,
            qdisc_made: !there,
            priority,
        };
        let ticket = self.journal.make(change, || {
            if !there {
                clsact::add_qdisc(netlink, index)?;
            }
            let put = clsact::put(netlink, index, priority, rule);
            if put.is_err() && !there {
                clsact::remove_empty_qdisc(netlink, index)?;
            }
            put
        })?;
        Ok((ticket, priority))
    }

    /// The rung that holds.
    #[must_use]
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// The rungs that did not work, and why.
    #[must_use]
    pub fn passed_over(&self) -> &[(Rung, io::Error)] {
        &self.passed_over
    }

    /// Settings that could not be made, in words.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the user must know about the rung, if anything.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        match (self.rung, &self.rule) {
            (Rung::Sysctls, Rule::Ports(_)) => Some(format!(
                "the host answers NATed packets on {} itself (TCP resets): no rung works; \
                 give the switch its own address with --uplink-address",
                self.interface.name
            )),
            (Rung::Sysctls, _) if !self.notes.is_empty() => Some(format!(
                "the host is not silenced on {}: no rung works",
                self.interface.name
            )),
            _ => None,
        }
    }

    fn replace(&mut self, rule: Rule) -> io::Result<()> {
        match &self.mechanism {
            Mechanism::Tcx(tcx) => tcx.replace(&rule, "vswitch")?,
            Mechanism::Nft(table) => table.replace(&self.interface.name, &rule)?,
            Mechanism::Clsact(priority) => {
                let mut netlink = Netlink::open()?;
                clsact::put(&mut netlink, self.interface.index, *priority, &rule)?;
            }
            Mechanism::Sysctls => {}
        }
        self.rule = rule;
        self.reserve();
        Ok(())
    }

    /// Undoes everything, newest first; a second call finds nothing to do.
    fn take_down(&mut self) -> Vec<Undone> {
        if let Mechanism::Nft(table) = &self.mechanism {
            // With the interface gone, old kernels have deleted the chain already; on any other
            // refusal the table still goes with the process.
            let _ = table.delete_chain(&self.interface.name);
        }
        self.mechanism = Mechanism::Sysctls;
        let reserved = self.reserved.drain(..).map(|(_, ticket)| ticket);
        self.tickets.extend(reserved);
        let tickets: Vec<Ticket> = self.tickets.drain(..).rev().collect();
        self.journal.undo_all(tickets)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // What cannot be undone stays in the journal, where the next start and `clean` find it.
        drop(self.take_down());
    }
}

/// Keeps the host silent on one port.
#[derive(Debug)]
pub struct PortGuard(Hold);

impl std::ops::Deref for PortGuard {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.0
    }
}

impl PortGuard {
    /// Gives the port back to the host and says what was restored.
    #[must_use]
    pub fn remove(mut self) -> Vec<Undone> {
        self.0.take_down()
    }
}

/// Keeps the host off the switch's share of the uplink.
#[derive(Debug)]
pub struct UplinkGuard(Hold);

impl std::ops::Deref for UplinkGuard {
    type Target = Hold;

    fn deref(&self) -> &Hold {
        &self.0
    }
}

impl UplinkGuard {
    /// Follows a new address: swaps the rule without a gap. Ports are reserved if they are not yet.
    ///
    /// # Errors
    /// What the rung said; the old rule is still in force then.
    pub fn update(&mut self, rule: Rule) -> io::Result<()> {
        self.0.replace(rule)
    }

    /// Gives the uplink back to the host and says what was restored.
    #[must_use]
    pub fn remove(mut self) -> Vec<Undone> {
        self.0.take_down()
    }
}

/// Whether a rung was refused for want of privileges rather than of a capable kernel.
#[must_use]
pub fn is_refusal_of_rights(err: &io::Error) -> bool {
    matches!(errno(err), Some(Errno::EPERM | Errno::EACCES))
}
