//! Which worker serves which port, and how the work is spread.

use switch::counters::Totals;
use switch::port::PortIndex;
use switch::switch::MoveError;

use crate::control::Refusal;
use crate::control::api::{self, Role};

use super::Daemon;
use super::answer::{Answer, done, no_port, seconds};

impl Daemon {
    /// Moves the port of that device to `worker`.
    pub(super) fn port_set(&mut self, device: &str, worker: u16) -> Answer<api::Done> {
        let index = self.index_of(device)?;
        let moved = self.move_port(index, worker);
        let from = moved.map_err(|error| refused(device, error))?;
        if from == worker {
            let text = format!("{device} is with worker {worker} already; nothing changed");
            return Ok(done(text, 0));
        }
        let mut text = format!("{device} moved from worker {from} to worker {worker}");
        if let Some(nat) = self.nat_worker_of(index, self.role_of(index))
            && nat != worker
        {
            text.push_str(&format!("; its NAT sessions stay with worker {nat}"));
        }
        Ok(done(text, 1))
    }

    /// Moves a port, so that it opens there again as well should its device go and come back.
    pub(super) fn move_port(&mut self, index: PortIndex, to: u16) -> Result<u16, MoveError> {
        let moved = self.switch.move_port(index, to);
        if matches!(moved, Ok(_) | Err(MoveError::Late(_)))
            && let Some(port) = self.ports.iter_mut().find(|port| port.index == index)
        {
            port.spec.worker = Some(to);
            let mut settings = self.settings.ports.iter_mut();
            if let Some(spec) = settings.find(|spec| spec.word == port.spec.word) {
                spec.worker = Some(to);
            }
        }
        moved
    }

    fn role_of(&self, index: PortIndex) -> Role {
        if self.ports.iter().any(|port| port.index == index) {
            Role::Port
        } else if self.uplink.as_ref().is_some_and(|up| up.index == index) {
            Role::Uplink
        } else {
            Role::Host
        }
    }

    /// The workers that receive from a port.
    pub(super) fn workers_of(&self, index: PortIndex) -> Vec<u16> {
        match self.switch.port_worker(index) {
            Some(worker) => vec![worker],
            None => (0..self.switch.workers()).collect(),
        }
    }

    /// The worker with the NAT sessions of a port's stations.
    pub(super) fn nat_worker_of(&self, index: PortIndex, role: Role) -> Option<u16> {
        let translates = self.settings.nat && self.uplink.is_some() && role == Role::Port;
        let port = self.switch.view().port(index).filter(|_| translates)?;
        Some(port.nat_worker)
    }

    /// The workers, and how unevenly they are loaded.
    pub(super) fn workers_answer(&self) -> (Vec<api::Worker>, Option<f64>) {
        let cpus = &self.settings.cpus;
        let lived = seconds(self.clock.now());
        let own: Vec<Totals> = (0..self.switch.workers())
            .map(|index| self.switch.worker_totals(index))
            .collect();
        let received: u64 = own.iter().map(|own| own.received).sum();
        let most = own.iter().map(|own| own.received).max().unwrap_or(0);
        let imbalance = ratio(most * own.len() as u64, received);
        let workers = (0u16..).zip(&own).map(|(index, own)| {
            let busy = seconds(nat::Nanos(own.busy_nanos));
            // Read while the worker adds to them, what is carried may be ahead of what came.
            let batched = (own.received + own.taken_over).saturating_sub(own.carried);
            api::Worker {
                index,
                cpu: cpus.get(usize::from(index) % cpus.len().max(1)).copied(),
                polls: own.polls,
                polls_empty: own.polls.saturating_sub(own.busy_polls),
                sleeps: own.sleeps,
                frames: own.received,
                batch_mean: ratio(batched, own.batches).unwrap_or(0.0),
                share: ratio(own.received, received).unwrap_or(0.0),
                batches: own.batches,
                busy,
                busy_share: (busy / lived.max(f64::MIN_POSITIVE)).min(1.0),
                handed_over: own.handed_over,
                taken_over: own.taken_over,
                carried: own.carried,
                handover_rate: ratio(own.handed_over, own.received).unwrap_or(0.0),
            }
        });
        (
            workers.collect(),
            (received > 0).then_some(imbalance).flatten(),
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share for people to read")]
fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn refused(device: &str, error: MoveError) -> Refusal {
    let (what, why) = (format!("port {device}"), error.to_string());
    match error {
        MoveError::NoPort => no_port(device),
        MoveError::NoWorker { last, .. } => Refusal::Conflict {
            what,
            why,
            fix: format!("vswitch port set {device} worker={last}"),
        },
        MoveError::Everywhere => Refusal::Conflict {
            what,
            why,
            fix: "vswitch -s port".into(),
        },
        MoveError::Late(_) => Refusal::Failed {
            what,
            why,
            fix: "look at its log, or restart it".into(),
        },
    }
}
