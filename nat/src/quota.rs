//! The accounts of inside hosts: what each has, what it may have, and what of it is finished.
//!
//! # Theory of operation
//! A host has an account as long as it has a session, and every session, whoever opened it, is in
//! the account of its inside host: without that, one container takes the ports and the memory of
//! all (RFC 6888 REQ-4). The table is fixed; a host that finds it full is refused, since a host
//! without an account would be one without limits. Accounts are an engine's own: a host's
//! outbound sessions are all in one engine.
//!
//! New sessions are paced ([`crate::pace`]), and so are TCP handshakes that come to nothing: each
//! takes its token when it begins and gives it back when it completes. So who opens connections is
//! not held up, and who only sends SYNs is, whether they are answered by a RST or not at all; what
//! is under way at a time (`half_open`) limits but the latter.
//!
//! An account also has the list of the host's TCP sessions that are *finished*, in the order they
//! finished. They are kept to absorb what is still under way, for up to four minutes; when the
//! host needs room they are ended early, the longest finished first, so that a host can open as
//! many connections one after the other as it can by itself. That is safe:
//! * Towards another remote, or from another port, no packet of the old connection can be taken
//!   for one of the new: one of the four numbers differs. A late one finds no session and is
//!   dropped, which costs a repeated FIN its answer; the sender gives up by itself.
//! * Towards the same remote endpoint the remote may be in TIME-WAIT itself. It takes a SYN there
//!   if sequence number or timestamp lie beyond the old ones (RFC 1122 section 4.2.2.13, RFC 6191),
//!   as those of one host's clock do. Else it answers with an ACK, the host with a RST, and the
//!   SYN repeated opens the connection (RFC 9293 section 3.5.1). Late data meant for one host must
//!   never reach another: so only the *same* host's sessions are ended for it.
//! * A connection that a RST from outside closed while it was established is not finished: the
//!   RST may be forged (RFC 7857 section 2.2), and what is live is never ended.

use std::net::Ipv4Addr;

use crate::Nanos;
use crate::config::Quota;
use crate::engine::Nat;
use crate::hash::HashKey;
use crate::index::Index;
use crate::list::{Chain, Links, List};
use crate::pace::Pace;
use crate::session::{Session, Side};
use crate::slab::Slab;
use crate::tcp::{Role, Tracker};

/// Most hosts at once: as many as a /16 has addresses, about 6 MiB.
const HOSTS_MAX: usize = 65_536;
/// Accounts that are remembered.
const REMEMBERED: usize = 64;

/// Where a session stands, as far as its host's account goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its TCP handshake is under way, and the host began it.
    HalfOpen,
    /// Neither of the others.
    Live,
    /// TCP, and both ends are done with it. Not one that an outsider began and nobody completed:
    /// it makes room for its like (see [`crate::strangers`]).
    Finished,
    /// It is no more.
    Ended,
}

impl Phase {
    pub(crate) fn of(session: &Session) -> Self {
        Standing::of(session).phase()
    }
}

/// All that a session's phase follows from: hardly ever does a packet change it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// State of a TCP connection.
    tracker: Option<Tracker>,
    pub(crate) origin: Side,
    provisional: bool,
}

impl Standing {
    #[inline]
    pub(crate) fn of(session: &Session) -> Self {
        Self {
            tracker: session.connection.tcp(),
            origin: session.origin,
            provisional: session.provisional,
        }
    }

    pub(crate) fn phase(self) -> Phase {
        let Some(tracker) = self.tracker.filter(|_| !self.provisional) else {
            return Phase::Live;
        };
        let inside = match self.origin {
            Side::Inside => Role::Originator,
            Side::Outside => Role::Responder,
        };
        if self.origin == Side::Inside && tracker.state().is_half_open() {
            Phase::HalfOpen
        } else if tracker.is_finished(inside) {
            Phase::Finished
        } else {
            Phase::Live
        }
    }
}

/// Which of its quotas a host has used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    Sessions,
    Ports,
    HalfOpen,
    Rate,
    Failed,
}

#[derive(Clone)]
struct Account {
    address: Ipv4Addr,
    /// Slot of its external address; it means nothing without ports.
    slot: u32,
    sessions: u32,
    ports: u32,
    half_open: u32,
    refused: u64,
    /// New sessions.
    new: Pace,
    /// Handshakes that have not completed.
    failed: Pace,
    finished: List,
}

/// An inside host's account as shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostView {
    /// The host's address.
    pub address: Ipv4Addr,
    /// The external address that it has, as long as it has ports.
    pub external: Option<Ipv4Addr>,
    /// Sessions, those that others opened included.
    pub sessions: u32,
    /// External ports and query identifiers (RFC 7659 natv2SubscriberPortMapEntries).
    pub ports: u32,
    /// TCP handshakes under way that it began.
    pub half_open: u32,
    /// Sessions that were refused to it, since it has had sessions without a break.
    pub refused: u64,
}

/// All accounts.
pub(crate) struct Hosts {
    slab: Slab<Account>,
    index: Index,
    key: HashKey,
    quota: Quota,
    /// The accounts found last, by the lowest bits of the address, in which the hosts of a network
    /// differ. A host opens many sessions, and the keyed hash is most of what finding its account
    /// takes. What is remembered is believed only if the account is still the host's.
    last: [u32; REMEMBERED],
}

impl Hosts {
    pub(crate) fn new(config: &crate::Config, key: HashKey) -> Self {
        let sessions_max = crate::slab::at(config.sessions_max);
        let max = sessions_max.min(HOSTS_MAX);
        Self {
            slab: Slab::new(max),
            index: Index::new(max),
            key,
            quota: config.quota,
            last: [u32::MAX; REMEMBERED],
        }
    }

    fn hash(&self, address: Ipv4Addr) -> u64 {
        self.key.hash(address.to_bits().into(), 0)
    }

    /// Finds a host's account.
    pub(crate) fn find(&self, address: Ipv4Addr) -> Option<u32> {
        let last = self.last[place_of(address)];
        if self.is_its(last, address) {
            return Some(last);
        }
        let hash = self.hash(address);
        self.index.find(hash, |id| self.is_its(id, address))
    }

    fn is_its(&self, id: u32, address: Ipv4Addr) -> bool {
        self.slab.get(id).is_some_and(|a| a.address == address)
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        self.slab.memory() + self.index.memory()
    }

    /// Finds or opens a host's account; returns `None` if there is room for no more.
    ///
    /// Who calls it must store a session, or call [`Hosts::leave`].
    pub(crate) fn enter(&mut self, address: Ipv4Addr, now: Nanos) -> Option<u32> {
        if let Some(id) = self.find(address) {
            self.last[place_of(address)] = id;
            return Some(id);
        }
        let hash = self.hash(address);
        let id = self.slab.insert(Account {
            address,
            slot: 0,
            sessions: 0,
            ports: 0,
            half_open: 0,
            refused: 0,
            new: Pace::full(self.quota.new_per_sec, now),
            failed: Pace::full(self.quota.failed_per_sec, now),
            finished: List::default(),
        })?;
        if self.index.insert(hash, id) {
            return Some(id);
        }
        self.slab.remove(id);
        None
    }

    /// Closes an account that has nothing in it.
    pub(crate) fn leave(&mut self, id: u32) {
        let idle = |account: &&Account| account.sessions == 0 && account.ports == 0;
        if let Some(address) = self.slab.get(id).filter(idle).map(|a| a.address) {
            self.slab.remove(id);
            self.index.remove(self.hash(address), id);
        }
    }

    /// Returns the first quota that a new session would exceed; ports are not looked at.
    pub(crate) fn exceeded(&mut self, id: u32, half_open: bool, now: Nanos) -> Option<Limit> {
        let quota = self.quota;
        let account = self.slab.get_mut(id)?;
        if half_open && let Some(limit) = account.exceeded_by_handshake(quota, now) {
            Some(limit)
        } else if !account.new.allows(quota.new_per_sec, now) {
            Some(Limit::Rate)
        } else if account.sessions >= quota.sessions {
            Some(Limit::Sessions)
        } else {
            None
        }
    }

    /// Returns the quota that one handshake more would exceed.
    pub(crate) fn exceeded_by_handshake(&mut self, id: u32, now: Nanos) -> Option<Limit> {
        let quota = self.quota;
        self.slab.get_mut(id)?.exceeded_by_handshake(quota, now)
    }

    /// Returns whether the host may have no port more.
    pub(crate) fn has_all_ports(&self, id: u32) -> bool {
        let ports = self.slab.get(id).map_or(0, |account| account.ports);
        ports >= self.quota.ports
    }

    /// Counts a new session.
    pub(crate) fn add_session(&mut self, id: u32) {
        if let Some(account) = self.slab.get_mut(id) {
            account.new.take();
            account.sessions += 1;
        }
    }

    /// Counts one session less.
    pub(crate) fn remove_session(&mut self, id: u32) {
        if let Some(account) = self.slab.get_mut(id) {
            account.sessions = account.sessions.saturating_sub(1);
        }
    }

    /// Counts a refused session.
    pub(crate) fn refuse(&mut self, id: u32) {
        if let Some(account) = self.slab.get_mut(id) {
            account.refused += 1;
        }
    }

    /// Returns the slot of the external address that the host has, if it has ports.
    pub(crate) fn paired(&self, id: u32) -> Option<u32> {
        let account = self.slab.get(id)?;
        (account.ports > 0).then_some(account.slot)
    }

    /// Counts one port more on the address in this slot; returns whether it is the host's first.
    pub(crate) fn add_port(&mut self, id: u32, slot: u32) -> bool {
        let Some(account) = self.slab.get_mut(id) else {
            return false;
        };
        account.slot = slot;
        account.ports += 1;
        account.ports == 1
    }

    /// Counts one port less; returns whether it was the host's last.
    pub(crate) fn remove_port(&mut self, id: u32) -> bool {
        let Some(account) = self.slab.get_mut(id) else {
            return false;
        };
        account.ports = account.ports.saturating_sub(1);
        account.ports == 0
    }

    /// Moves a session of the host from one phase to another; `links` are those of the sessions.
    pub(crate) fn move_session(
        &mut self,
        links: &mut Links,
        (id, session): (u32, u32),
        from: Phase,
        to: Phase,
    ) {
        let failed_per_sec = self.quota.failed_per_sec;
        let Some(account) = self.slab.get_mut(id) else {
            return;
        };
        if (from, to) == (Phase::HalfOpen, Phase::Live) {
            account.failed.give_back(failed_per_sec);
        }
        match from {
            Phase::HalfOpen => account.half_open = account.half_open.saturating_sub(1),
            Phase::Live | Phase::Ended => {}
            Phase::Finished => links.unlink(&mut account.finished, session),
        }
        match to {
            Phase::HalfOpen => {
                account.failed.take();
                account.half_open += 1;
            }
            Phase::Live | Phase::Ended => {}
            Phase::Finished => links.push(&mut account.finished, session),
        }
    }

    /// Returns the session of the host that finished first.
    pub(crate) fn first_finished(&self, id: u32) -> Option<u32> {
        self.slab.get(id)?.finished.first()
    }

    /// Lays the accounts aside; see [`Cells::lay_aside`](crate::cells::Cells::lay_aside).
    pub(crate) fn lay_aside(&mut self) -> Self {
        let Self {
            ref mut slab,
            ref mut index,
            key,
            quota,
            last,
        } = *self;
        Self {
            slab: slab.lay_aside(),
            index: index.lay_aside(),
            key,
            quota,
            last,
        }
    }

    pub(crate) fn take_back(&mut self, twin: Self) {
        self.slab.take_back(twin.slab);
        self.index.take_back(twin.index);
    }

    /// Lists the accounts; `address_of` knows the address in a slot.
    pub(crate) fn views(
        &self,
        address_of: impl Fn(u32) -> Option<Ipv4Addr>,
    ) -> impl Iterator<Item = HostView> {
        self.slab.iter().map(move |account| HostView {
            address: account.address,
            external: address_of(account.slot).filter(|_| account.ports > 0),
            sessions: account.sessions,
            ports: account.ports,
            half_open: account.half_open,
            refused: account.refused,
        })
    }
}

fn place_of(address: Ipv4Addr) -> usize {
    usize::from(address.octets()[3]) % REMEMBERED
}

impl Account {
    fn exceeded_by_handshake(&mut self, quota: Quota, now: Nanos) -> Option<Limit> {
        if self.half_open >= quota.half_open {
            Some(Limit::HalfOpen)
        } else if !self.failed.allows(quota.failed_per_sec, now) {
            Some(Limit::Failed)
        } else {
            None
        }
    }
}

impl Nat {
    /// Lists the inside hosts that have sessions, and what each has of its quota.
    pub fn hosts(&self) -> impl Iterator<Item = HostView> + '_ {
        let externals = &self.mappings.externals;
        self.hosts
            .views(|slot| externals.get(slot).map(|external| external.address))
    }
}
