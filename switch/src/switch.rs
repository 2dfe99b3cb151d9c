//! The switch as its owner holds it: ports, workers, tables.
//!
//! A [`Switch`] belongs to one control thread. It never touches a frame: it opens nothing, it hands
//! receiving halves and views to the workers and reads counters and tables.

mod drops;
mod handle;
mod latency;
mod moves;
mod recording;
mod sessions;
mod stations;
mod tracing;
mod what_if;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use nat::{Adopted, Config as NatConfig, Nanos, Nat};

use crate::config::{NatSettings, PortView, View};
use crate::counters::{Totals, WorkerCounters};
use crate::fdb::{BadAgeing, Fdb};
use crate::journal::Change;
use crate::latency::{Clocks, Probe, WorkerLatency};
use crate::limits::{NEIGHBOURS_MAX, PORTS_MAX};
use crate::neigh::Neighbours;
use crate::port::{FastPath, PortError, PortIndex, Rx, Tx, Wake, close_all, sys};
use crate::verdict::DropReason;
use crate::worker::{Command, GiveBack, Idle, Link, Shared, Worker, run};

use recording::Recorded;

pub use handle::{NatHandle, NoAnswer};
pub use moves::MoveError;
pub use recording::{RecordError, Recording, SharedTables};
pub use tracing::Trace;
pub use what_if::{Asked, Tried};

/// How long the owner waits for a worker's answer before it takes it for stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// What a switch is made with; it holds for its life.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Workers, 1..=[`WORKERS_MAX`](crate::limits::WORKERS_MAX).
    pub workers: u16,
    /// Processors to run them on, in turn; empty leaves it to the scheduler.
    pub cpus: Vec<usize>,
    /// What workers do when idle.
    pub idle: Idle,
    /// Entries of the forwarding table.
    pub fdb_entries_max: usize,
    /// Ageing time of the forwarding table, 10..=1,000,000 seconds.
    pub ageing_secs: u32,
    /// The NAT, if there is an uplink.
    pub nat: Option<NatSettings>,
    /// By which the kernel may carry what the workers have decided; rings are to be opened with the
    /// same one.
    pub fast_path: Option<Arc<FastPath>>,
    /// The clocks to measure latency by; `None`: it is not measured.
    pub latency: Option<Clocks>,
    /// Seed of hash keys and port choice: random on a live switch, fixed in a simulation.
    pub seed: u64,
}

/// Why a switch could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A worker's sockets could not be opened.
    #[error(transparent)]
    Port(#[from] PortError),
    /// No thread or descriptor could be had.
    #[error("cannot start worker {worker}: {source}; fix: raise the limits shown by ulimit -a")]
    Worker {
        /// Which worker.
        worker: u16,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The ageing time is out of range.
    #[error(transparent)]
    Ageing(#[from] BadAgeing),
    /// The NAT's settings contradict each other.
    #[error("{0}; fix: vswitch --nat-ports 61000-65535")]
    Nat(#[from] nat::ConfigError),
}

/// No port can be added: [`PORTS_MAX`] there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a switch has at most {PORTS_MAX} ports")]
pub struct PortsFull;

/// What happened at one port since it was added, over all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortTotals {
    /// Frames that came in, lost ones included.
    pub received_frames: u64,
    /// Bytes that came in.
    pub received_bytes: u64,
    /// Frames sent.
    pub sent_frames: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Frames dropped, by reason; reasons that never occurred are left out.
    pub drops: Vec<(DropReason, u64)>,
}

#[derive(Debug, Clone)]
struct Slot {
    /// The worker that receives; `None` where every worker has a half of its own.
    worker: Option<u16>,
    /// The worker it moved from, and its answer, as long as that has not come.
    moving: Option<(u16, Receiver<()>)>,
    /// Counts at the moment the port was added: an index may have had another port before.
    baseline: PortTotals,
}

/// A running switch.
#[derive(Debug)]
pub struct Switch {
    shared: Arc<Shared>,
    /// They end with the receiving halves they had.
    threads: Vec<JoinHandle<Vec<Rx>>>,
    slots: Vec<Option<Slot>>,
    view: View,
    /// The views that workers may have, so that none of them has the last copy.
    views: Vec<Arc<View>>,
    /// Traces begun so far.
    taps: AtomicU64,
    /// While something is recorded.
    recorded: Option<Recorded>,
}

impl Switch {
    /// Makes a switch and its workers, without running them: the simulator steps them itself.
    /// Workers' sockets come from `tx`, in the calling thread's network namespace.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn build(
        settings: &Settings,
        wakes: bool,
        now: Nanos,
        mut tx: impl FnMut() -> Result<Tx, PortError>,
    ) -> Result<(Self, Vec<Worker>), StartError> {
        let fdb = Fdb::new(settings.fdb_entries_max, settings.seed);
        fdb.set_ageing_secs(settings.ageing_secs)?;
        let mut links = Vec::new();
        let mut inboxes = Vec::new();
        for worker in 0..settings.workers {
            let wake = wakes.then(Wake::new).transpose();
            let (link, inbox) =
                Link::new(wake.map_err(|source| StartError::Worker { worker, source })?);
            links.push(link);
            inboxes.push(inbox);
        }
        let shared = Arc::new(Shared {
            fdb,
            neighbours: Neighbours::new(NEIGHBOURS_MAX, settings.seed.rotate_left(17)),
            links,
            counters: (0..settings.workers)
                .map(|_| WorkerCounters::default())
                .collect(),
            latency: (0..settings.workers)
                .map(|_| WorkerLatency::default())
                .collect(),
        });
        let externals = settings.nat.as_ref().map_or(1, |nat| nat.externals);
        let adopted = Arc::new(Adopted::new(externals));
        let mut workers = Vec::new();
        for (index, inbox) in (0..settings.workers).zip(inboxes) {
            let mut nat = settings
                .nat
                .as_ref()
                .map(|nat| make_nat(nat, settings, index))
                .transpose()?;
            if let Some(nat) = &mut nat {
                nat.adopt(Arc::clone(&adopted));
            }
            let seed = settings.seed.rotate_left(29) ^ u64::from(index);
            let clocks = settings.latency.clone();
            let probe = clocks.map(|clocks| Probe::new(clocks, seed, now));
            let shared = Arc::clone(&shared);
            let parts = (nat, probe, settings.fast_path.clone());
            workers.push(Worker::new(index, shared, inbox, tx()?, parts, now));
        }
        let switch = Self {
            shared,
            threads: Vec::new(),
            slots: Vec::new(),
            view: View::default(),
            views: Vec::new(),
            taps: AtomicU64::new(0),
            recorded: None,
        };
        Ok((switch, workers))
    }

    /// Makes a switch and runs its workers, each in a thread. `clock` gives the time since an
    /// arbitrary moment and never goes back.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        settings: &Settings,
        clock: impl Fn() -> Nanos + Clone + Send + 'static,
    ) -> Result<Self, StartError> {
        let (mut switch, workers) = Self::build(settings, true, clock(), Tx::open)?;
        for (index, worker) in (0u16..).zip(workers) {
            let (clock, idle) = (clock.clone(), settings.idle);
            let count = settings.cpus.len();
            let cpu = settings
                .cpus
                .get(usize::from(index) % count.max(1))
                .copied();
            let thread = std::thread::Builder::new()
                .name(format!("worker {index}"))
                .spawn(move || {
                    if let Some(cpu) = cpu {
                        // A processor that is not there was refused with the arguments; one that
                        // went away since leaves the thread to the scheduler.
                        let _ = sys::affinity::pin_current_thread(cpu);
                    }
                    sys::affinity::prefer_current_thread();
                    run(worker, idle, clock)
                })
                .map_err(|source| StartError::Worker {
                    worker: index,
                    source,
                })?;
            switch.threads.push(thread);
        }
        Ok(switch)
    }

    /// The index the next port will get.
    ///
    /// # Errors
    /// [`PortsFull`].
    pub fn free_index(&self) -> Result<PortIndex, PortsFull> {
        self.free_indexes(1)?.first().copied().ok_or(PortsFull)
    }

    /// The indexes the next `count` ports will get.
    ///
    /// # Errors
    /// [`PortsFull`].
    pub fn free_indexes(&self, count: usize) -> Result<Vec<PortIndex>, PortsFull> {
        let free = |place: &usize| self.slots.get(*place).is_none_or(Option::is_none);
        let indexes: Vec<PortIndex> = (0..PORTS_MAX)
            .filter(free)
            .filter_map(|place| u16::try_from(place).ok())
            .map(PortIndex)
            .take(count)
            .collect();
        if indexes.len() == count {
            Ok(indexes)
        } else {
            Err(PortsFull)
        }
    }

    /// The worker a new port is best given to: the one with the fewest.
    #[must_use]
    pub fn idlest_worker(&self) -> u16 {
        let load = |worker: u16| {
            self.slots
                .iter()
                .flatten()
                .filter(|slot| slot.worker == Some(worker))
                .count()
        };
        (0..self.workers())
            .min_by_key(|worker| load(*worker))
            .unwrap_or(0)
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> u16 {
        u16::try_from(self.shared.links.len()).unwrap_or(u16::MAX)
    }

    /// Adds a port at `index` (from [`free_index`](Self::free_index)), received by `worker`.
    pub fn add_port(&mut self, index: PortIndex, port: PortView, rx: Rx, worker: u16) {
        self.add_ports([(index, port, rx, Some(worker))]);
    }

    /// Adds ports as [`add_port`](Self::add_port) does, all in one change of the view; those
    /// without a worker go to the one with the fewest.
    pub fn add_ports(
        &mut self,
        ports: impl IntoIterator<Item = (PortIndex, PortView, Rx, Option<u16>)>,
    ) {
        let mut halves = Vec::new();
        for (index, port, rx, worker) in ports {
            let worker = worker.unwrap_or_else(|| self.idlest_worker());
            let worker = worker.min(self.workers().saturating_sub(1));
            self.put_port(index, port, Some(worker));
            halves.push((index, worker, rx));
        }
        self.publish();
        self.hand_out(halves);
    }

    /// Adds a port with one receiving half for each worker: the uplink's steered group.
    pub fn add_port_to_all(&mut self, index: PortIndex, port: PortView, rx: Vec<Rx>) {
        self.put_port(index, port, None);
        self.publish();
        self.receive_all(index, rx);
    }

    fn put_port(&mut self, index: PortIndex, mut port: PortView, worker: Option<u16>) {
        let place = index.index();
        port.nat_worker = worker.unwrap_or(0);
        if self.slots.len() <= place {
            self.slots.resize_with(place + 1, || None);
            self.view.ports.resize_with(place + 1, || None);
        }
        self.slots[place] = Some(Slot {
            worker,
            moving: None,
            baseline: self.counts(index),
        });
        self.view.ports[place] = Some(port);
    }

    /// Gives a port a new receiving half: its interface was deleted and came back.
    pub fn receive(&mut self, index: PortIndex, rx: Rx) {
        self.forget_move(index);
        let worker = self.slot(index).and_then(|slot| slot.worker).unwrap_or(0);
        self.hand_out([(index, worker, rx)]);
    }

    /// As [`receive`](Self::receive), one half for each worker.
    pub fn receive_all(&self, index: PortIndex, rx: Vec<Rx>) {
        self.hand_out(
            (0..self.workers())
                .zip(rx)
                .map(|(worker, rx)| (index, worker, rx)),
        );
    }

    fn hand_out(&self, halves: impl IntoIterator<Item = (PortIndex, u16, Rx)>) {
        self.close_given_back(|give_back| {
            let command = |index, rx| Command::Receive(index, Box::new(rx), give_back.clone());
            let halves = halves.into_iter();
            let commands = halves.map(|(index, worker, rx)| (worker, command(index, rx)));
            commands.collect()
        });
    }

    /// Sends commands that are answered with the receiving halves they replace, and closes those.
    fn close_given_back(&self, commands: impl FnOnce(&GiveBack) -> Vec<(u16, Command)>) {
        let (give_back, halves) = unbounded();
        let sent = commands(&give_back).into_iter();
        let asked = sent
            .map(|(worker, command)| self.command(worker, command))
            .filter(|sent| *sent)
            .count();
        let timeout = if self.threads.is_empty() {
            Duration::ZERO
        } else {
            ANSWER_TIMEOUT
        };
        // A worker that does not answer in time closes its half itself.
        let answers = (0..asked).map_while(|_| halves.recv_timeout(timeout).ok());
        close_all(answers.flatten().collect());
    }

    /// Receives no more from a port, because its interface is gone or is no longer ours: its
    /// receiving halves are closed when this returns. The port stays, and
    /// [`receive`](Self::receive) gives it another half.
    pub fn stop_receiving(&mut self, index: PortIndex) {
        self.forget_move(index);
        // All of them: when the last has answered, none has an earlier view any more.
        self.close_given_back(|give_back| {
            let release = |worker| (worker, Command::Release(index, give_back.clone()));
            (0..self.workers()).map(release).collect()
        });
    }

    /// Takes a port out: no frame goes there from now on, its receiving halves are closed when
    /// this returns, and its stations are forgotten.
    pub fn remove_port(&mut self, index: PortIndex) {
        if (self.slots.get_mut(index.index())).is_none_or(|slot| slot.take().is_none()) {
            return;
        }
        if let Some(port) = self.view.ports.get_mut(index.index()) {
            *port = None;
        }
        self.publish();
        self.stop_receiving(index);
        self.drop_old_views();
        self.tables().forget_port(index);
    }

    /// Tells all stations who the gateway is, by gratuitous ARP.
    pub fn announce(&self) {
        self.command(0, Command::Announce);
    }

    /// Changes the view and hands it to every worker.
    pub fn update(&mut self, change: impl FnOnce(&mut View)) {
        change(&mut self.view);
        self.publish();
    }

    /// The view the workers decide by.
    #[must_use]
    pub const fn view(&self) -> &View {
        &self.view
    }

    fn publish(&mut self) {
        self.view.number += 1;
        if let Some(journal) = self.journal() {
            let change = Change::View(self.view.without_ways());
            journal.change(Nanos::ZERO, change, || ());
        }
        let view = Arc::new(self.view.clone());
        for worker in 0..self.workers() {
            self.command(worker, Command::View(Arc::clone(&view)));
        }
        self.drop_old_views();
        self.views.push(view);
    }

    /// Drops the views that no worker has any more. Dropping a view may close a TAP, and so must
    /// not fall to a worker, see [`GiveBack`].
    fn drop_old_views(&mut self) {
        self.views.retain(|view| Arc::strong_count(view) > 1);
    }

    /// Puts a command into a worker's mailbox; false if the worker is gone. For whoever does again
    /// what a [journal](crate::journal) tells; nobody else needs to know of commands.
    pub fn command(&self, worker: u16, command: Command) -> bool {
        self.shared
            .links
            .get(usize::from(worker))
            .is_some_and(|link| link.command(command))
    }

    fn slot(&self, index: PortIndex) -> Option<&Slot> {
        self.slots.get(index.index()).and_then(Option::as_ref)
    }

    /// The worker that receives from a port; `None` for one received by all, or none.
    #[must_use]
    pub fn port_worker(&self, index: PortIndex) -> Option<u16> {
        self.slot(index).and_then(|slot| slot.worker)
    }

    /// The forwarding table.
    #[must_use]
    pub fn fdb(&self) -> &Fdb {
        &self.shared.fdb
    }

    /// The gateway's neighbours.
    #[must_use]
    pub fn neighbours(&self) -> &Neighbours {
        &self.shared.neighbours
    }

    /// Everything counted so far, over all workers.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for counters in &self.shared.counters {
            counters.add_to(&mut totals);
        }
        totals
    }

    /// Everything one worker counted.
    #[must_use]
    pub fn worker_totals(&self, worker: u16) -> Totals {
        let mut totals = Totals::default();
        if let Some(counters) = self.shared.counters.get(usize::from(worker)) {
            counters.add_to(&mut totals);
        }
        totals
    }

    /// When each worker last ticked, by the clock the switch was started with.
    pub fn ticks(&self) -> impl Iterator<Item = Nanos> {
        self.shared.links.iter().map(Link::ticked)
    }

    /// What happened at a port since it was added.
    #[must_use]
    pub fn port_totals(&self, index: PortIndex) -> PortTotals {
        let baseline = self
            .slot(index)
            .map(|slot| slot.baseline.clone())
            .unwrap_or_default();
        self.counts(index).since(&baseline)
    }

    fn counts(&self, index: PortIndex) -> PortTotals {
        let mut totals = PortTotals::default();
        let mut drops = [0; DropReason::COUNT];
        for counters in &self.shared.counters {
            let port = counters.port(index);
            totals.received_frames += port.received_frames.get();
            totals.received_bytes += port.received_bytes.get();
            totals.sent_frames += port.sent_frames.get();
            totals.sent_bytes += port.sent_bytes.get();
            for reason in DropReason::ALL {
                drops[reason.index()] += port.dropped(*reason);
            }
        }
        let counted = DropReason::ALL
            .iter()
            .map(|reason| (*reason, drops[reason.index()]));
        totals.drops = counted.filter(|(_, count)| *count > 0).collect();
        totals
    }

    /// Stops the workers and waits for them.
    pub fn stop(mut self) -> Totals {
        self.stop_workers();
        self.totals()
    }

    fn stop_workers(&mut self) {
        for worker in 0..self.workers() {
            self.command(worker, Command::Stop);
        }
        let mut halves = Vec::new();
        for thread in self.threads.drain(..) {
            // A worker cannot panic; if one did, the process is on its way down already.
            halves.extend(thread.join().unwrap_or_default());
        }
        close_all(halves);
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.stop_workers();
    }
}

impl PortTotals {
    fn since(mut self, baseline: &Self) -> Self {
        self.received_frames -= baseline.received_frames;
        self.received_bytes -= baseline.received_bytes;
        self.sent_frames -= baseline.sent_frames;
        self.sent_bytes -= baseline.sent_bytes;
        for (reason, count) in &mut self.drops {
            let before = baseline.drops.iter().find(|(other, _)| other == reason);
            *count -= before.map_or(0, |(_, count)| *count);
        }
        self.drops.retain(|(_, count)| *count > 0);
        self
    }

    /// Frames dropped for any reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.drops.iter().map(|(_, count)| count).sum()
    }
}

fn make_nat(nat: &NatSettings, settings: &Settings, slice: u16) -> Result<Nat, StartError> {
    // The address follows with the first view.
    let mut config = NatConfig::new(std::net::Ipv4Addr::UNSPECIFIED, nat.ports.clone());
    let sessions = nat.sessions_max.div_ceil(u32::from(settings.workers));
    config.slice = slice;
    config.slices = settings.workers;
    config.sessions_max = sessions;
    config.half_open_max = (sessions / 4).max(1);
    config.timeouts = nat.timeouts;
    config.udp_filtering = nat.udp_filtering;
    config.tcp_filtering = nat.tcp_filtering;
    config.quota = nat.quota;
    config.port_hold = nat.port_hold;
    config.helpers = nat.helpers;
    config.preserve_ids = nat.preserve_ids;
    // The same question: on a shared address the host's kernel sees the replies as well, and
    // knows no session of ours.
    config.other_protocols = nat.preserve_ids;
    config.validate()?;
    let seed = settings.seed.wrapping_add(u64::from(slice));
    let mut nat = Nat::new(config, seed);
    nat.observe(&sys::usdt::SESSIONS);
    nat.rooms().for_each(sys::huge::prefer_huge_pages_in);
    Ok(nat)
}

#[cfg(test)]
mod tests;
