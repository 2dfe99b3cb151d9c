//! What a recording brings along: its surroundings, and what it needs to be done again.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use nat::Nanos;
use switch::config::View;
use switch::journal::{Begin, Tables};

use super::Surroundings;
use super::scene::Scene;
use crate::args::replay::route;
use crate::config::words;
use crate::error::CliError;
use crate::record::{RecordedEntry, RecordedWhat, Recording, publishes_of, row};

/// Views on their way to workers: each takes some hundred bytes for a port.
const VIEWS_MAX: usize = 1024;

pub(super) fn damaged(what: &str, why: impl ToString) -> CliError {
    CliError::failed(format!("the recording's {what}"), why.to_string(), "")
}

/// What is given by flags, and else what was recorded.
pub(super) fn surroundings(
    recording: &Recording,
    given: &Surroundings,
) -> Result<Surroundings, CliError> {
    let mut around = given.clone();
    let Some(uplink) = &recording.uplink else {
        return Ok(around);
    };
    if around.routes.is_empty() {
        let routes = uplink.routes.iter().map(|text| route(text));
        let routes: Result<Vec<_>, _> = routes.collect();
        around.routes = routes.map_err(|why| damaged("routes", why))?;
    }
    // One of the switch's own is in the settings.
    if !uplink.own && around.address.is_none() {
        let address = words::cidr(&uplink.address).map_err(|why| damaged("uplink", why))?;
        let mac = words::station(&uplink.mac).map_err(|why| damaged("uplink", why))?;
        around.address = Some(address);
        around.mac = around.mac.or(Some(mac));
    }
    Ok(around)
}

/// Makes the view what it was when the recording began. `mtu` is that of all ports, where it was
/// given.
pub(super) fn restore(
    scene: &mut Scene,
    recording: &Recording,
    mtu: Option<u32>,
) -> Result<(), CliError> {
    let publishes = publishes_of(&recording.publishes);
    let publishes = Arc::new(publishes.map_err(|why| damaged("published ports", why))?);
    scene.switch.update(|view| {
        view.publishes = publishes;
        view.host.addresses.clone_from(&recording.host);
        view.host.addresses.sort();
        for port in &recording.ports {
            if let Some(Some(view)) = view.ports.get_mut(usize::from(port.index)) {
                view.mtu = mtu.unwrap_or(port.mtu);
                view.up = port.up;
                view.nat_worker = port.nat_worker;
            }
        }
    });
    for worker in &mut scene.workers {
        worker.tick(scene.begin);
    }
    Ok(())
}

/// What is known of a recording while it is done again.
pub(super) struct Redo {
    /// The switch's clock when it began, and the world's.
    pub(super) clock: Nanos,
    pub(super) began: u64,
    /// How things were then, as far as it has been read; none once it was put in place.
    pub(super) beginning: Option<Beginning>,
    /// The round that is being put together.
    pub(super) round: Option<Round>,
    /// The view as the control thread had it last, and those that workers are told by number.
    pub(super) view: View,
    views: BTreeMap<u64, Arc<View>>,
    /// The last that each worker was told of.
    told: HashMap<u16, u64>,
    workers: usize,
    /// Whoever takes a port looks whether somebody still waits for it.
    pub(super) moves: Vec<crossbeam_channel::Receiver<()>>,
}

/// How things were when a recording began.
#[derive(Default)]
pub(super) struct Beginning {
    pub(super) tables: Tables,
    /// What each worker alone knew, and when.
    pub(super) workers: BTreeMap<u16, (Begin, Nanos)>,
}

/// A worker's round, with the frames it found.
pub(super) struct Round {
    pub(super) turn: u64,
    pub(super) worker: u16,
    pub(super) at: Nanos,
    /// The port whose frames are being put together: a batch, since between two of one port there
    /// is one of another.
    pub(super) port: Option<switch::port::PortIndex>,
    /// A frame went to another worker, because the ports are not as they were.
    pub(super) elsewhere: bool,
}

impl Redo {
    pub(super) fn new(recording: &Recording, view: &View) -> Self {
        Self {
            clock: Nanos(recording.clock),
            began: recording.began,
            beginning: Some(Beginning::default()),
            round: None,
            view: view.clone(),
            views: BTreeMap::new(),
            told: HashMap::new(),
            workers: usize::from(recording.workers),
            moves: Vec::new(),
        }
    }

    /// Keeps the view as it is now until all workers have been told of it.
    pub(super) fn keep_view(&mut self) -> Result<(), CliError> {
        if self.views.len() >= VIEWS_MAX {
            let why = format!("there are {VIEWS_MAX} that not all workers were told of");
            return Err(damaged("views", why));
        }
        let view = Arc::new(self.view.clone());
        self.views.insert(view.number, view);
        Ok(())
    }

    /// The view of which a worker is told now. It is told of no earlier one any more.
    pub(super) fn tell_view(&mut self, worker: u16, number: u64) -> Option<Arc<View>> {
        let view = self.views.get(&number).cloned()?;
        self.told.insert(worker, number);
        if self.told.len() == self.workers
            && let Some(all) = self.told.values().min()
        {
            self.views = self.views.split_off(all);
        }
        Some(view)
    }

    /// Takes in what belongs to the beginning, and gives back all else.
    pub(super) fn beginning(&mut self, entry: RecordedEntry) -> Option<RecordedEntry> {
        let Some(Beginning { tables, workers }) = &mut self.beginning else {
            return Some(entry);
        };
        let worker = entry.worker.unwrap_or(0);
        match entry.what {
            RecordedWhat::Sessions(some) => {
                let (begin, _) = workers.entry(worker).or_default();
                (begin.sessions).extend(some.iter().map(nat::SessionRecord::from));
            }
            RecordedWhat::Remains(remains) => {
                let (begin, _) = workers.entry(worker).or_default();
                remains.add_to(&mut begin.remains);
            }
            RecordedWhat::Gateway(ip_id, moments) => {
                let (begin, at) = workers.entry(worker).or_default();
                begin.gateway = (ip_id, moments.into_iter().map(Nanos).collect());
                *at = Nanos(entry.at);
            }
            RecordedWhat::Fdb(rows) => tables.fdb.extend(rows.into_iter().map(row)),
            RecordedWhat::Neighbours(rows) => {
                tables.neighbours.extend(rows.into_iter().map(row));
            }
            RecordedWhat::Tick { .. }
            | RecordedWhat::Round
            | RecordedWhat::Change(_)
            | RecordedWhat::End(_)
            | RecordedWhat::Missing(_) => return Some(entry),
        }
        None
    }
}
