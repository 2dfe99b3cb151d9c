//! The daemon: one loop that owns a switch and everything of the host that goes with it.
//!
//! # Theory of operation
//!
//! One thread owns all state, so nothing here is locked. It waits for four things:
//!
//! ```text
//! requests   from the control server's thread   answered from tables and counters (answer)
//! events     from the netlink thread            all is read again, the view rebuilt (refresh)
//! signals    from the signal thread             SIGHUP: reload; SIGINT, SIGTERM: stop
//! ticks      twice a second                     watchdog, drop rates, what failed before
//! ```
//!
//! An event is only a hint that something changed: the daemon always reads the links, addresses and
//! routes as they are now. So no order of events can lead it astray, and a burst costs one reading.
//!
//! Whatever it changes on the host is in the journal first ([`crate::host::journal`]) and undone by
//! `Daemon::stop`; what a SIGKILL leaves is undone by the next start or `vswitch clean`.

mod answer;
mod bursts;
mod check;
mod cover;
mod drops;
mod floods;
mod gateway;
mod latency;
mod lines;
mod metrics;
mod monitor;
mod natlog;
mod news;
mod open;
mod ports;
mod publish;
mod refresh;
mod reload;
mod sessions;
mod standby;
mod start;
pub mod state;
mod uplink;
mod watch;
mod why;
mod workers;

use std::collections::HashMap;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use nat::Nanos;
use nix::sys::signal::{SigSet, Signal};
use switch::config::GatewayView;
use switch::port::{FastPath, PortIndex};
use switch::switch::Switch;

use crate::args::Common;
use crate::config::{Settings, Source};
use crate::control::{Instance, Request, Server};
use crate::dispatch::{Outcome, message};
use crate::error::{CliError, Exit};
use crate::host::guard::Guard;
use crate::host::journal::Journal;
use crate::host::monitor::Monitor;
use crate::host::netlink::Netlink;
use crate::host::peer::GatewaySource;
use crate::notify::Notifier;

pub(crate) use gateway::{choose as choose_gateway, stable_mac, view as gateway_view};
pub(crate) use publish::as_switch_has_it as publish_view;
pub(crate) use start::{no_switch, switch_settings};

use bursts::Look;
use gateway::HostPort;
use ports::Port;
use publish::Publishing;
use uplink::Uplink;

/// Requests that may wait; a client beyond that is told to come again.
const REQUESTS_MAX: usize = 64;

/// From one look at the watchdog and the rates to the next.
const TICK: Duration = Duration::from_millis(500);

/// From one look at the workers' ticks to the next: twice as long as an idle worker sleeps.
const BEAT: Nanos = Nanos(1_000_000_000);

/// After the first event of a burst: time for the rest to come, so that one reading serves all.
const BURST: Duration = Duration::from_millis(20);

/// The time since a moment in the life of this process, for every thread of it.
#[derive(Debug, Clone, Copy)]
struct Clock(Instant);

impl Clock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one clock of the daemon is read here"
    )]
    fn start() -> Self {
        Self(Instant::now())
    }

    fn now(self) -> Nanos {
        self.0.elapsed().into()
    }
}

/// A running switch and what goes with it.
struct Daemon {
    common: Common,
    settings: Settings,
    source: Source,
    clock: Clock,
    ready_at: Nanos,
    switch: Switch,
    /// What its choices are drawn from.
    seed: u64,
    journal: Journal,
    guard: Guard,
    netlink: Netlink,
    ports: Vec<Port>,
    uplink: Option<Uplink>,
    /// By which the kernel may carry connections.
    fast_path: Option<Arc<FastPath>>,
    host_port: Option<HostPort>,
    publishing: Publishing,
    /// What of it the switch takes from outside.
    covered: Vec<publish::Covered>,
    gateway: GatewayView,
    gateway_source: Option<GatewaySource>,
    rates: Rates,
    latency: latency::Book,
    /// Something could not be read or opened: the next tick tries again.
    look_again: bool,
    /// When the workers' ticks were last compared.
    beat_at: Nanos,
    /// Tells those who watch what happens.
    news: news::News,
    /// Distributes the NAT's events; `None` where there is no NAT.
    events: Option<monitor::Hub>,
    /// Keeps sessions over a restart, if that is wanted.
    keeper: Option<state::Keeper>,
    /// Keeps the host silent should this be killed, where sessions are kept.
    standby: Option<standby::Standby>,
    /// What was kept, until it is restored.
    loaded: state::Loaded,
    /// The uplink is not shown to the workers before the published ports are: of the sessions that
    /// are brought back some came by them.
    waits_for_publishes: bool,
    unshown: Option<(PortIndex, uplink::Wanted)>,
    /// Readers of packets' ways.
    watches: watch::Watches,
}

/// Drops per second, from one tick to the next.
#[derive(Default)]
struct Rates {
    last: Look,
    now: HashMap<bursts::Place, f64>,
}

/// Runs a switch until it is told to stop.
///
/// # Errors
/// Bad input, a host that lacks something, a name that is taken: one line, and nothing changed.
pub fn run(common: &Common, settings: Settings, source: &Source) -> Outcome {
    // Before any thread starts, so that only the signal thread ever takes one.
    let signals = take_signals()?;
    let mut instance = Instance::claim(&settings.run_dir, &settings.name)?;
    let monitor = Monitor::open().map_err(|error| no_netlink(&error))?;
    let metrics = settings.metrics.map(metrics::listen).transpose()?;
    let mut daemon = Daemon::start(common, settings, source)?;
    let served = daemon.serve((&mut instance, metrics), monitor, &signals);
    let restored = daemon.stop();
    served?;
    Ok(if restored { Exit::Done } else { Exit::Failed })
}

impl Daemon {
    /// Opens the control socket, says that all is ready, and does what comes until a signal ends
    /// it.
    fn serve(
        &mut self,
        (instance, metrics): (&mut Instance, Option<TcpListener>),
        monitor: Monitor,
        signals: &Receiver<Signal>,
    ) -> Result<(), CliError> {
        let (to_owner, requests) = bounded(REQUESTS_MAX);
        let listener = instance.listen()?;
        let _server = Server::start(listener, metrics, to_owner).map_err(|error| {
            let path = instance.socket_path().display().to_string();
            CliError::failed(path, error.to_string(), "vswitch doctor")
        })?;
        let events = watch(monitor)?;
        let mut notifier = Notifier::default();
        self.ready_at = self.clock.now();
        self.say_ready(instance.socket_path());
        self.notify(|text| notifier.ready(text));
        self.run(&requests, &events, signals, &mut notifier);
        // Before the server, which waits for the streams to end.
        self.events = None;
        self.end_watches();
        self.news = news::News::default();
        // A service manager that has gone has no use for the news.
        let _ = notifier.stopping();
        Ok(())
    }

    fn run(
        &mut self,
        requests: &Receiver<Request>,
        events: &Receiver<()>,
        signals: &Receiver<Signal>,
        notifier: &mut Notifier,
    ) {
        let ticks = crossbeam_channel::tick(TICK);
        let mut events = events.clone();
        let mut deaf = false;
        loop {
            let stations = self.news.stations.clone();
            select! {
                recv(stations) -> portion => match portion {
                    Ok(portion) => self.tell_stations(&portion),
                    // No worker is left to tell anything.
                    Err(_) => self.news.stations = crossbeam_channel::never(),
                },
                recv(requests) -> request => match request {
                    Ok(request) => self.answer(request),
                    Err(_) => return,
                },
                recv(events) -> event => {
                    if event.is_err() {
                        self.say("warning: no more news from netlink: looking twice a second");
                        (events, deaf) = (crossbeam_channel::never(), true);
                    }
                    // Waits for the burst to be over; what comes meanwhile is part of it.
                    let _ = crossbeam_channel::after(BURST).recv();
                    events.try_iter().for_each(drop);
                    self.refresh();
                },
                recv(signals) -> signal => match signal {
                    Ok(Signal::SIGHUP) => self.reload(),
                    Ok(_) | Err(_) => return,
                },
                recv(ticks) -> _ => {
                    if self.look_again || deaf || self.lost_a_tap() {
                        self.refresh();
                    }
                    self.tick(notifier);
                }
            }
            self.tell_changes();
            self.tell_names();
        }
    }

    fn tick(&mut self, notifier: &mut Notifier) {
        self.look_at_targets();
        self.measure_drops();
        self.mind_floods();
        self.note_loads();
        self.tell_keeper();
        self.stand_by();
        let now = self.clock.now();
        let ticks: Vec<u64> = self.switch.ticks().map(|tick| tick.0).collect();
        if now.saturating_sub(self.beat_at) >= BEAT {
            self.beat_at = now;
            // The service manager's socket is outside of our care: the next beat tries again.
            let stuck = notifier.watchdog(&ticks).unwrap_or_default();
            if let Some(worker) = stuck {
                self.say(&format!(
                    "warning: worker {worker} has not moved for a second"
                ));
            }
        }
        self.notify(|text| notifier.status(text));
    }

    fn notify(&self, tell: impl FnOnce(&str) -> std::io::Result<()>) {
        let ports = self.ports.len() + usize::from(self.uplink.is_some());
        let text = format!(
            "{ports} ports, {} stations",
            self.switch.fdb().dynamic_entries()
        );
        let _ = tell(&text);
    }

    /// How many frames each port dropped for each reason, by the second.
    fn measure_drops(&mut self) {
        let counts = self.all_ports().flat_map(|(index, _)| {
            let drops = self.switch.port_totals(index).drops.into_iter();
            drops.map(move |(reason, count)| ((index.0, reason), count))
        });
        let now = Look {
            at: self.clock.now(),
            counts: counts.collect(),
        };
        let before = std::mem::take(&mut self.rates.last);
        self.rates.now = now.rates(&before);
        let mut bursts = std::mem::take(&mut self.news.bursts);
        let turns = bursts.look(&before, &now, |port| self.name_of(PortIndex(port)));
        self.news.bursts = bursts;
        self.rates.last = now;
        self.tell_bursts(&turns);
    }

    /// Puts the host back as it was, and says whether it is. What could not be undone is named and
    /// stays in the journal.
    fn stop(self) -> bool {
        let Self {
            common,
            switch,
            journal,
            guard,
            ports,
            uplink,
            host_port,
            publishing,
            keeper,
            standby,
            ..
        } = self;
        // Its last save is of the workers' sessions.
        drop(keeper);
        let totals = switch.stop();
        // All at once, while the guards hold; then what goes with them.
        let undone = journal.finish();
        guard.abandon();
        drop((ports, uplink, host_port, publishing, guard, standby));
        let mut stuck = undone.iter().filter(|undone| undone.failed()).peekable();
        let restored = stuck.peek().is_none();
        for undone in stuck {
            message(&common, &format!("warning: not restored: {undone}"));
        }
        let host = if restored {
            "the host is as it was"
        } else {
            "for what was not restored: vswitch clean"
        };
        message(
            &common,
            &format!(
                "stopped: {} frames in, {} out, {} dropped; {host}",
                totals.received,
                totals.sent,
                totals.dropped_ingress + totals.dropped_egress
            ),
        );
        restored
    }
}

/// Blocks SIGINT, SIGTERM and SIGHUP for this thread and those it starts, and takes them in a
/// thread of their own.
fn take_signals() -> Result<Receiver<Signal>, CliError> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block()
        .map_err(|error| no_thread(&error.into()))?;
    let (sender, signals) = unbounded();
    spawn("signals", move || {
        while let Ok(signal) = set.wait() {
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(signals)
}

/// Reports that something of the host changed, whatever it was.
fn watch(mut monitor: Monitor) -> Result<Receiver<()>, CliError> {
    // One waiting event is as good as many: all of it will be read again.
    let (sender, events): (Sender<()>, _) = bounded(1);
    spawn("netlink", move || {
        // A socket that fails for good would fail at once and for ever: then this thread ends, and
        // the switch goes on with what it knows.
        while let Ok(event) = monitor.next(None) {
            let full = event.is_some().then(|| sender.try_send(()).err()).flatten();
            if full.is_some_and(|error| error.is_disconnected()) {
                return;
            }
        }
    })?;
    Ok(events)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), CliError> {
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work);
    thread.map(drop).map_err(|error| no_thread(&error))
}

fn no_thread(error: &std::io::Error) -> CliError {
    CliError::failed(
        "starting a thread",
        error.to_string(),
        "ulimit -u unlimited",
    )
}

fn no_netlink(error: &std::io::Error) -> CliError {
    CliError::failed(
        "listening to the kernel's netlink",
        error.to_string(),
        "vswitch doctor",
    )
}

/// The control socket's path, for messages.
fn shown(path: &Path) -> String {
    path.display().to_string()
}
