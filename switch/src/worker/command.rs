//! What the control plane asks of a worker.

use std::sync::Arc;

use crossbeam_channel::Sender;
use nat::{Nanos, Protocol, SessionView};

use crate::config::View;
use crate::gateway;
use crate::port::{PortIndex, Rx};

use super::{OwnRx, Worker, count_losses};

/// A command in a worker's mailbox; obeyed between two batches.
#[derive(Debug)]
pub enum Command {
    /// Decide by this view from now on.
    View(Arc<View>),
    /// Receive from this port, in place of what it had before.
    Receive(PortIndex, Box<Rx>),
    /// Receive no more from this port; the half is closed and the answer sent.
    Release(PortIndex, Sender<()>),
    /// Tell all stations who the gateway is.
    Announce,
    /// Report the sessions.
    NatReport(Sender<NatReport>),
    /// Forget all sessions; the answer is how many there were.
    NatFlush(Sender<usize>),
    /// Finish.
    Stop,
}

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
                Command::Receive(port, rx) => self.receive(port, *rx),
                Command::Release(port, done) => {
                    self.release(port);
                    // Nobody waits for the answer any more: nothing is lost.
                    let _ = done.send(());
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
        self.view = view;
    }

    fn receive(&mut self, port: PortIndex, rx: Rx) {
        self.release(port);
        self.ports.push(OwnRx {
            port,
            rx,
            look: true,
        });
        self.ports_changed = true;
    }

    fn release(&mut self, port: PortIndex) {
        let counters = &self.shared.counters[usize::from(self.index)];
        self.ports.retain_mut(|own| {
            let keep = own.port != port;
            if !keep {
                count_losses(counters, own);
            }
            keep
        });
        self.ports_changed = true;
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
