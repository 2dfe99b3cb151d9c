//! The thread that writes the state file.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use nat::{Nanos, Part, SessionRecord};
use switch::neigh::Link;
use switch::port::PortIndex;
use switch::switch::{NatHandle, NoAnswer};

use crate::args::Common;
use crate::dispatch::message;
use crate::error::CliError;
use crate::replacement::Replacement;
use crate::show::moment;

use super::format::{self, Header, Kept};
use crate::daemon::Clock;

/// From one save to the next, at least.
const INTERVAL: Duration = Duration::from_secs(2);

/// So many times as long as a save took, it rests. Of 262,144 sessions (21 MB) a save was measured
/// to take 0.4 s, 0.2 s of them this thread's on a processor and 0.05 s the workers'.
const REST: u32 = 20;

/// Slots of a session table that a worker looks at for one portion: some 50 µs of its time.
const PORTION_SLOTS: u32 = 1024;

/// The least that can be asked for, where only a worker's activity is wanted.
const LEAST: Part = Part { from: 0, places: 1 };

/// What a keeper is made with.
pub(super) struct Plan {
    pub(super) path: PathBuf,
    pub(super) common: Common,
    pub(super) nat: NatHandle,
    pub(super) clock: Clock,
    /// Where the inside hosts are.
    pub(super) link: Link,
    pub(super) seed: u64,
    pub(super) nat_ports: (u16, u16),
}

/// What only the owner of the switch knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Told {
    /// The members' ports and their devices.
    pub(in crate::daemon) ports: Vec<(PortIndex, String)>,
    /// The external addresses.
    pub(in crate::daemon) external: Vec<Ipv4Addr>,
    /// Ports published live, each in the words of `--publish`.
    pub(in crate::daemon) published: Vec<String>,
}

/// The keeper as the daemon knows it.
pub(in crate::daemon) struct Keeper {
    told: Arc<Mutex<Told>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// None can be had.
    pub(super) fn start(plan: Plan) -> Result<Self, CliError> {
        let told = Arc::new(Mutex::new(Told::default()));
        let (stop, stopped) = bounded(0);
        let mut thread = Thread {
            told: Arc::clone(&told),
            saved: None,
            trouble: None,
            plan,
        };
        let thread = std::thread::Builder::new()
            .name("nat-state".into())
            .spawn(move || thread.run(&stopped))
            .map_err(|error| crate::daemon::no_thread(&error))?;
        Ok(Self {
            told,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Hands over what is to be kept as well; costs nothing if it is the same as before.
    pub(in crate::daemon) fn tell(&self, told: Told) {
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }
}

/// Saves for the last time; to be dropped before the workers end.
impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed by the panic hook.
            let _ = thread.join();
        }
    }
}

/// What was saved last: each worker's activity, and what the owner told.
type Saved = (Vec<u64>, Told);

struct Thread {
    plan: Plan,
    told: Arc<Mutex<Told>>,
    saved: Option<Saved>,
    /// What went wrong last, so that it is said once.
    trouble: Option<String>,
}

/// Why a save failed.
#[derive(Debug, thiserror::Error)]
enum SaveError {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

impl Thread {
    fn run(&mut self, stopped: &Receiver<()>) {
        let mut wait = INTERVAL;
        while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
            let before = self.plan.clock.now();
            self.save_if_changed();
            let took = Duration::from(self.plan.clock.now().saturating_sub(before));
            wait = INTERVAL.max(took * REST);
        }
        self.save_if_changed();
    }

    fn save_if_changed(&mut self) {
        let told = self
            .told
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if told.external.is_empty() {
            // What was kept waits in the file for the uplink's address.
            return;
        }
        let done = self.activity().map_err(SaveError::from);
        let done = done.and_then(|activity| {
            let now = (activity, told);
            if self.saved.as_ref() != Some(&now) {
                self.save(&now.1)?;
                self.saved = Some(now);
            }
            Ok(())
        });
        match done {
            Ok(()) => self.trouble = None,
            Err(error) => self.complain(&error.to_string()),
        }
    }

    fn complain(&mut self, why: &str) {
        if self.trouble.as_deref() != Some(why) {
            let path = self.plan.path.display();
            let text = format!("warning: state file {path}: {why}; sessions are not kept");
            message(&self.plan.common, &text);
            self.trouble = Some(why.to_owned());
        }
    }

    /// Each worker's count of what happened. Read before the sessions are: what happens in between
    /// is then saved twice rather than never.
    fn activity(&self) -> Result<Vec<u64>, NoAnswer> {
        let nat = &self.plan.nat;
        (0..nat.workers())
            .map(|worker| nat.portion(worker, LEAST).map(|portion| portion.activity))
            .collect()
    }

    fn save(&self, told: &Told) -> Result<(), SaveError> {
        let plan = &self.plan;
        let mut file = Replacement::begin(&plan.path)?;
        file.write(&format::preface())?;
        file.write(&format::header(&Header {
            saved_at: moment::now(),
            seed: plan.seed,
            nat_ports: plan.nat_ports,
            external: told.external.clone(),
            name: plan.common.name.clone(),
        }))?;
        file.write(&format::devices(
            told.ports.iter().map(|(_, name)| name.as_str()),
        ))?;
        file.write(&format::published(
            told.published.iter().map(String::as_str),
        ))?;
        let mut places = Places::new(plan, told);
        for worker in 0..plan.nat.workers() {
            let mut next = Some(0);
            while let Some(from) = next {
                let portion = plan.nat.portion(
                    worker,
                    Part {
                        from,
                        places: PORTION_SLOTS,
                    },
                )?;
                let kept: Vec<Kept> = portion
                    .records
                    .into_iter()
                    .map(|record| places.keep(record))
                    .collect();
                if !kept.is_empty() {
                    file.write(&format::sessions(&kept))?;
                }
                next = portion.next;
            }
        }
        file.write(&format::end())?;
        Ok(file.finish()?)
    }
}

/// On which port the inside hosts are, looked up once for each.
struct Places<'p> {
    plan: &'p Plan,
    of_port: HashMap<PortIndex, usize>,
    of_host: HashMap<Ipv4Addr, Option<usize>>,
    now: Nanos,
}

impl<'p> Places<'p> {
    fn new(plan: &'p Plan, told: &Told) -> Self {
        let of_port = told.ports.iter().enumerate();
        Self {
            plan,
            of_port: of_port.map(|(place, (index, _))| (*index, place)).collect(),
            of_host: HashMap::new(),
            now: plan.clock.now(),
        }
    }

    fn keep(&mut self, record: SessionRecord) -> Kept {
        let host = record.inside.0;
        let device = match self.of_host.get(&host) {
            Some(known) => *known,
            None => {
                let found = self.find(host);
                self.of_host.insert(host, found);
                found
            }
        };
        Kept { record, device }
    }

    fn find(&self, host: Ipv4Addr) -> Option<usize> {
        let Plan { nat, link, .. } = self.plan;
        let mac = nat.neighbours().lookup(*link, host, self.now).mac()?;
        let port = nat.fdb().lookup(0, mac, self.now)?;
        self.of_port.get(&port).copied()
    }
}
