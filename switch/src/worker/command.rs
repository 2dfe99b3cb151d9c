//! What the control plane asks of a worker.

use std::sync::Arc;

use crossbeam_channel::Sender;
use nat::{Nanos, Protocol, SessionView};

use crate::config::View;
use crate::gateway;
use crate::port::{PortIndex, Rx};

use super::{Worker, count_losses};

/// A command in a worker's mailbox; obeyed between two batches.
#[derive(Debug)]
pub enum Command {
    /// Decide by this view from now on.
    View(Arc<View>),
    /// Receive from this port, in place of what it had before, which is the answer.
    Receive(PortIndex, Box<Rx>, GiveBack),
    /// Receive no more from this port; the answer is what it had.
    Release(PortIndex, GiveBack),
    /// Tell all stations who the gateway is.
    Announce,
    /// Report the sessions.
    NatReport(Sender<NatReport>),
    /// Forget all sessions; the answer is how many there were.
    NatFlush(Sender<usize>),
    /// Finish.
    Stop,
}

/// Where a worker gives back a receiving half it no longer needs. Closing one takes the kernel's
/// RTNL lock, which others may hold for seconds on a host where containers come and go; so whoever
/// asked closes it, and not the worker.
pub type GiveBack = Sender<Option<Rx>>;

/// One worker's sessions, as the command line shows them.
#[derive(Debug, Clone)]
pub struct NatReport {
    /// The worker's time, to which the sessions' times relate.
    pub now: Nanos,
    /// The sessions.
    pub sessions: Vec<SessionView>,
    /// External TCP ports, UDP ports and echo ids in use.
    pub ports_used: [u32; 3],
    /// Sessions there is room for.
    pub capacity: usize,
}

impl Worker {
    /// Obeys all commands that wait.
    pub(super) fn obey(&mut self, now: Nanos) {
        while let Some(command) = self.inbox.next_command() {
            match command {
                Command::View(view) => self.set_view(view),
                Command::Receive(port, rx, give_back) => {
                    let before = self.receive(port, *rx);
                    // Nobody waits for it any more: then it is closed here after all.
                    let _ = give_back.send(before);
                }
                Command::Release(port, give_back) => {
                    let _ = give_back.send(self.release(port));
                }
                Command::Announce => {
                    let (shared, view) = (&self.shared, &self.view);
                    self.engine
                        .with_context(shared, view, now, gateway::announce);
                }
                Command::NatReport(answer) => {
                    let _ = answer.send(self.nat_report(now));
                }
                Command::NatFlush(answer) => {
                    let _ = answer.send(self.engine.nat.as_mut().map_or(0, nat::Nat::flush));
                }
                Command::Stop => {
                    self.count_losses();
                    self.stopping = true;
                }
            }
        }
    }

    fn set_view(&mut self, view: Arc<View>) {
        if let (Some(nat), Some(uplink)) = (&mut self.engine.nat, &view.uplink)
            && nat.config().external != uplink.address
        {
            nat.set_external(uplink.address);
        }
        // A port of the same index may come after one that is gone, and is another.
        for (index, port) in (0..).zip(&view.ports) {
            if port.is_none() {
                self.engine.dispatcher.forget(PortIndex(index));
            }
        }
        self.engine.member_mtu_min = view.member_mtu_min();
        self.view = view;
    }

    fn receive(&mut self, port: PortIndex, rx: Rx) -> Option<Rx> {
        let before = self.release(port);
        self.ports.push(port, rx);
        before
    }

    fn release(&mut self, port: PortIndex) -> Option<Rx> {
        let mut own = self.ports.remove(port)?;
        count_losses(&self.shared.counters[usize::from(self.index)], &mut own);
        Some(own.rx)
    }

    /// The sessions of this worker's slice; empty without an uplink.
    #[must_use]
    pub fn nat_report(&self, now: Nanos) -> NatReport {
        self.engine.nat.as_ref().map_or_else(
            || NatReport {
                now,
                sessions: Vec::new(),
                ports_used: [0; 3],
                capacity: 0,
            },
            |nat| NatReport {
                now,
                sessions: nat.sessions().collect(),
                ports_used: [Protocol::Tcp, Protocol::Udp, Protocol::Icmp]
                    .map(|p| nat.ports_used(p)),
                capacity: nat.capacity(),
            },
        )
    }
}
