//! From settings to a running switch.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use nat::{Filtering, Nanos, Timeouts};
use nix::time::{ClockId, clock_gettime};
use switch::config::NatSettings;
use switch::latency::Clocks;
use switch::port::{FastPath, PortError};
use switch::switch::{Settings as SwitchSettings, StartError, Switch};
use switch::worker::Idle;

use crate::args::Common;
use crate::config::{NatFilter, NatProfile, Settings, Source};
use crate::dispatch::message;
use crate::error::CliError;
use crate::host::guard::Guard;
use crate::host::journal::{Journal, JournalError, Undone};
use crate::host::netlink::Netlink;
use crate::host::peer::Peer;
use crate::show::moment;

use super::publish::Publishing;
use super::{Clock, Daemon, Rates, gateway, latency, no_netlink};

/// Workers where nothing else is asked for: one on two cores, measured; half the cores beyond.
pub(super) fn default_workers() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    u16::try_from(cores / 2).unwrap_or(u16::MAX).clamp(1, 64)
}

impl Daemon {
    /// Checks everything that can be checked before anything is touched, then opens all ports.
    /// Should that fail half-way, what was done is undone.
    pub(super) fn start(
        common: &Common,
        settings: Settings,
        source: &Source,
    ) -> Result<Self, CliError> {
        let clock = Clock::start();
        let netlink = Netlink::open().map_err(|error| no_netlink(&error))?;
        let checked = super::check::host(&settings)?;
        if let Some(path) = &settings.state {
            super::state::check(path)?;
        }
        let mut netlink = netlink;
        // Until all is open: what a killed switch left behind is undone here.
        let _silence = super::standby::over_the_gap(&mut netlink, &settings);
        let (journal, left) =
            Journal::open(&settings.run_dir, &settings.name).map_err(|e| no_journal(&e))?;
        let (cidr, gateway_source) = gateway::choose(settings.gateway, &checked.peers);
        let mac = settings
            .gateway_mac
            .unwrap_or_else(|| gateway::stable_mac(&settings.name, "gateway"));
        let (loaded, warning) = match &settings.state {
            Some(path) => super::state::load(path, &settings.name),
            None => Default::default(),
        };
        // The standard library seeds each hasher from the system's randomness.
        let random = || RandomState::new().hash_one(settings.name.as_str());
        let seed = loaded.seed.unwrap_or_else(random);
        let fast_path = settings.fast_path.then(|| fast_path(seed, clock.now()));
        let (fast_path, slow) = match fast_path.transpose() {
            Ok(fast_path) => (fast_path, None),
            Err(error) => (None, Some(format!("warning: {error}"))),
        };
        let switch_settings = SwitchSettings {
            fast_path: fast_path.clone(),
            latency: Some(Clocks {
                steady: Arc::new(move || clock.now()),
                wall: Arc::new(wall),
            }),
            ..switch_settings(&settings, seed)
        };
        let switch = Switch::start(&switch_settings, move || clock.now())
            .map_err(|error| no_switch(&error))?;
        let mut daemon = Self {
            common: common.clone(),
            source: source.clone(),
            clock,
            ready_at: Nanos::ZERO,
            switch,
            seed,
            guard: Guard::new(journal.clone(), &settings.name),
            journal,
            netlink,
            ports: Vec::new(),
            uplink: None,
            fast_path,
            host_port: None,
            publishing: Publishing::default(),
            covered: Vec::new(),
            gateway: gateway::view(cidr, mac),
            gateway_source,
            rates: Rates::default(),
            latency: latency::Book::default(),
            look_again: false,
            beat_at: Nanos::ZERO,
            news: super::news::News::default(),
            events: None,
            keeper: None,
            standby: None,
            loaded,
            waits_for_publishes: true,
            unshown: None,
            watches: super::watch::Watches::default(),
            settings,
        };
        daemon.say_leftovers(&left);
        for warning in checked.warnings.iter().chain(&warning).chain(&slow) {
            daemon.say(warning);
        }
        let opened = daemon.open_all(checked.peers);
        match opened.and_then(|()| daemon.start_keeper(seed)) {
            Ok(()) => Ok(daemon),
            Err(error) => {
                daemon.give_up();
                Err(error)
            }
        }
    }

    fn open_all(&mut self, peers: Vec<Peer>) -> Result<(), CliError> {
        self.start_events()?;
        let view = self.gateway;
        self.switch.update(|v| v.gateway = Some(view));
        let specs = self.settings.ports.clone();
        self.open_ports(&specs, Some(peers))?;
        if let Some(device) = self.settings.uplink.clone() {
            self.open_uplink(&device)?;
        }
        if self.settings.host_port {
            self.open_host_port()?;
        }
        self.stand_by();
        self.follow_addresses();
        self.publish_settings()?;
        self.publish_loaded();
        self.show_uplink_at_last();
        self.switch.announce();
        Ok(())
    }

    /// Undoes a start that failed.
    fn give_up(self) {
        let Self {
            common,
            journal,
            guard,
            ports,
            uplink,
            host_port,
            switch,
            ..
        } = self;
        drop(switch);
        let undone = journal.finish();
        guard.abandon();
        drop((ports, uplink, host_port, guard));
        // It stays in the journal, for `vswitch clean` to try again.
        for undone in undone.iter().filter(|undone| undone.failed()) {
            message(&common, &format!("warning: not restored: {undone}"));
        }
    }

    fn say_leftovers(&self, left: &[Undone]) {
        for undone in left {
            self.say(&format!("left by a switch that was killed: {undone}"));
        }
    }
}

/// The kernel stamps frames by the wall clock.
fn wall() -> Nanos {
    Nanos::from(moment::now())
}

/// The memory of the fast path; `now` is the time by the workers' clock.
fn fast_path(seed: u64, now: Nanos) -> Result<Arc<FastPath>, PortError> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(|error| PortError::FastPath {
        source: error.into(),
    })?;
    let ahead = Nanos::from(Duration::from(time)).saturating_sub(now);
    FastPath::new(seed.rotate_left(41), ahead).map(Arc::new)
}

/// What the switch of these settings is made with; latency is not measured.
pub(crate) fn switch_settings(settings: &Settings, seed: u64) -> SwitchSettings {
    SwitchSettings {
        workers: settings.workers.unwrap_or_else(default_workers),
        cpus: settings.cpus.iter().map(|cpu| usize::from(*cpu)).collect(),
        idle: Idle {
            busy_poll: Duration::from_micros(settings.busy_poll_usec.into()),
        },
        fdb_entries_max: usize::try_from(settings.fdb_max).unwrap_or(usize::MAX),
        ageing_secs: settings.ageing_secs,
        nat: (settings.nat && settings.uplink.is_some()).then(|| NatSettings {
            ports: settings.nat_ports.low..=settings.nat_ports.high,
            externals: 2 * (1 + settings.nat_pool.addresses().count()),
            sessions_max: settings.nat_sessions,
            timeouts: timeouts(settings.nat_profile),
            udp_filtering: filtering(settings.nat_filter.udp),
            tcp_filtering: filtering(settings.nat_filter.tcp),
            quota: settings.nat_quota,
            port_hold: port_hold(settings.nat_profile),
            helpers: settings.nat_helpers,
            preserve_ids: settings.uplink_address.is_some(),
        }),
        fast_path: None,
        latency: None,
        seed,
    }
}

/// How long a port that came free is kept from others (RFC 6888 REQ-8); Linux gives it at once.
fn port_hold(profile: NatProfile) -> Nanos {
    match profile {
        NatProfile::Rfc => Nanos::from_secs(120),
        NatProfile::Linux => Nanos::ZERO,
    }
}

fn timeouts(profile: NatProfile) -> Timeouts {
    match profile {
        NatProfile::Rfc => Timeouts::default(),
        NatProfile::Linux => Timeouts::linux(),
    }
}

const fn filtering(filter: NatFilter) -> Filtering {
    match filter {
        NatFilter::Apdf => Filtering::Apdf,
        NatFilter::Adf => Filtering::Adf,
        NatFilter::Eif => Filtering::Eif,
    }
}

fn no_journal(error: &JournalError) -> CliError {
    CliError::failed("the journal", error.to_string(), "vswitch clean")
}

/// Why there is no switch.
pub(crate) fn no_switch(error: &StartError) -> CliError {
    match error {
        StartError::Port(error) => super::ports::from_port(error),
        StartError::Worker { .. } | StartError::Ageing(_) | StartError::Nat(_) => {
            CliError::failed("the switch", error.to_string(), "vswitch config check FILE")
        }
    }
}
