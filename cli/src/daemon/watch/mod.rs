//! Readers of packets' ways.
//!
//! # Theory of operation
//!
//! ```text
//! workers ── portions ──► one thread for each reader ── chunks ──► the control server
//! ```
//!
//! Each reader has taps of its own in the workers ([`switch::trace`]) and a thread of its own,
//! which makes lines of records and waits for the reader where that is slow. The taps wait for
//! nobody: what they find no memory for is lost, counted, and told in its place. So all a slow
//! reader costs is what it asked for, and one that dies is noticed within a second. These threads
//! run after all others that want the processor: rather than slow what they look at, they lose.

mod capture;
mod names;
mod record;
mod select;
mod trace;
mod turns;
mod what_if;

use std::collections::HashMap;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use nat::Nanos;
use switch::limits::FRAME_BYTES_MAX;
use switch::port::defer_current_thread;
use switch::trace::{Limits, Selector, TapId, TracePortion};

use crate::control::watch::{Form, Watch};
use crate::control::{Feed, Refusal, ReplyTo, api};
use crate::show::moment;

use super::answer::{Answer, done};
use super::lines::peer_words;
use super::{Clock, Daemon};

use names::PortName;
pub(super) use names::PortNames;
use select::Choice;

/// Readers at a time: fewer than the workers have room for, since one that has gone keeps its place
/// for a moment.
const READERS_MAX: usize = 12;

/// From one look for a reader that has gone to the next.
const LOOK: Duration = Duration::from_secs(1);

/// All readers.
#[derive(Default)]
pub(super) struct Watches {
    pub(super) names: PortNames,
    running: Vec<Running>,
    last: u64,
}

struct Running {
    number: u64,
    tap: TapId,
    thread: JoinHandle<()>,
}

/// Makes chunks of records.
trait Encode: Send + 'static {
    /// What comes first.
    fn begin(&mut self) -> Bytes {
        Bytes::new()
    }

    /// The records of a portion, before which `lost` were lost.
    fn portion(&mut self, portion: &TracePortion, lost: u64, chunk: &mut dyn FnMut(Bytes) -> bool);

    /// What comes last, if the reader is still there.
    fn end(&mut self) -> Bytes {
        Bytes::new()
    }
}

impl Daemon {
    /// Ports are called as they are now, in what is told from now on.
    pub(super) fn name_ports(&self) {
        let peers: HashMap<_, _> = (self.ports.iter())
            .filter_map(|port| Some((port.index, peer_words(port)?)))
            .collect();
        let named = self.all_ports().map(|(index, device)| {
            let name = PortName {
                device: device.into(),
                peer: peers.get(&index).map(|peer| peer.as_str().into()),
            };
            (index, name)
        });
        self.watches.names.set(named);
    }

    /// Tells readers that are there how ports are called now.
    pub(super) fn tell_names(&mut self) {
        self.watches.forget_ended();
        if !self.watches.running.is_empty() {
            self.name_ports();
        }
    }

    /// Answers once the workers have been told: what is decided after that, the reader sees.
    pub(super) fn watch(&mut self, watch: Watch, feed: Feed, reply: ReplyTo<u64>) {
        let answer = self.begin_watch(watch, feed);
        reply.send(answer);
    }

    fn begin_watch(&mut self, watch: Watch, feed: Feed) -> Answer<u64> {
        self.name_ports();
        let names = self.watches.names.clone();
        let ports = watch.ports.iter().map(|device| self.index_of(device));
        let ports = ports.collect::<Result<Vec<_>, _>>()?;
        let choice = Choice {
            filter: watch.filter.clone(),
            ports: ports.clone(),
            direction: match watch.form {
                Form::Capture(capture) => capture.direction,
                Form::Trace => None,
            },
            one_in: watch.one_in,
            drops_only: matches!(watch.form, Form::Capture(capture) if capture.drops),
            follow: watch.follow,
            timed: watch.form == Form::Trace,
        };
        let (limits, wall) = (limits(watch.form), Wall::of(self.clock));
        let selector = choice.selector(names.clone());
        self.start_watch(selector, limits, move |portions| match watch.form {
            Form::Trace => tell(portions, feed, trace::Lines::new(names, wall)),
            Form::Capture(capture) => {
                let what = (capture, ports, watch.filter.as_str().to_owned());
                tell(portions, feed, capture::Blocks::new(names, wall, what));
            }
        })
    }

    /// Gives a reader taps, and a thread for `life`.
    fn start_watch(
        &mut self,
        selector: Selector,
        limits: Limits,
        life: impl FnOnce(&Receiver<TracePortion>) + Send + 'static,
    ) -> Answer<u64> {
        self.check_readers()?;
        let clock = self.clock;
        let clock = std::sync::Arc::new(move || clock.now());
        let traced = self.switch.trace(selector, limits, clock);
        let (portions, tap) = (traced.portions, traced.id);
        self.start_reader(tap, move || life(&portions))
    }

    /// Refuses one reader too many.
    fn check_readers(&mut self) -> Answer<()> {
        self.watches.forget_ended();
        if self.watches.running.len() < READERS_MAX {
            return Ok(());
        }
        Err(Refusal::Conflict {
            what: "trace".into(),
            why: format!("{READERS_MAX} readers are there already"),
            fix: "end one of them".into(),
        })
    }

    /// Gives a reader whose tap it is a thread for `life`.
    fn start_reader(&mut self, tap: TapId, life: impl FnOnce() + Send + 'static) -> Answer<u64> {
        let thread = std::thread::Builder::new().name("watch".into());
        let thread = thread.spawn(life);
        let thread = thread.map_err(|error| {
            self.switch.stop_recording(tap);
            Refusal::Failed {
                what: "a thread for this reader".into(),
                why: error.to_string(),
                fix: "end other readers".into(),
            }
        })?;
        self.watches.last += 1;
        let number = self.watches.last;
        self.watches.running.push(Running {
            number,
            tap,
            thread,
        });
        Ok(number)
    }

    /// Ends a watch in order.
    pub(super) fn end_watch(&mut self, number: u64) -> Answer<api::Done> {
        self.watches.forget_ended();
        let mut running = self.watches.running.iter();
        let watch = running.find(|watch| watch.number == number);
        let watch = watch.ok_or_else(|| Refusal::Absent {
            what: format!("watch {number}"),
            fix: String::new(),
        })?;
        self.switch.stop_recording(watch.tap);
        Ok(done(format!("watch {number} ends"), 1))
    }

    /// Ends all of them, before the switch goes: readers get what there is, and the end.
    pub(super) fn end_watches(&mut self) {
        for watch in &self.watches.running {
            self.switch.stop_recording(watch.tap);
        }
        let patience = crossbeam_channel::after(LOOK);
        while !self.watches.running.is_empty() && patience.try_recv().is_err() {
            let _ = crossbeam_channel::after(Duration::from_millis(5)).recv();
            self.watches.forget_ended();
        }
        // Whoever still has not read what there is loses it with the connection.
        self.watches.running.clear();
    }
}

impl Watches {
    fn forget_ended(&mut self) {
        self.running.retain(|watch| !watch.thread.is_finished());
    }
}

/// What the world's clock shows at moments of the daemon's. Both are read once, so that the times
/// of a stream never step back.
#[derive(Debug, Clone, Copy)]
struct Wall {
    wall: Duration,
    at: Nanos,
}

impl Wall {
    fn of(clock: Clock) -> Self {
        Self {
            wall: moment::now(),
            at: clock.now(),
        }
    }

    fn time(self, at: Nanos) -> Duration {
        let since = Duration::from(at.saturating_sub(self.at));
        let before = Duration::from(self.at.saturating_sub(at));
        (self.wall + since).saturating_sub(before)
    }
}

/// The memory of a reader's taps. Of packets themselves there is more to keep: 32 MiB for each
/// worker, of which every page costs nothing until it is first used.
fn limits(form: Form) -> Limits {
    match form {
        Form::Trace => Limits::default(),
        Form::Capture(capture) => Limits {
            snap_bytes: usize::try_from(capture.snap_bytes).unwrap_or(FRAME_BYTES_MAX),
            records: 16_384,
            bytes: 32 << 20,
        }
        .within(FRAME_BYTES_MAX),
    }
}

/// The life of a reader's thread.
fn tell(portions: &Receiver<TracePortion>, mut feed: Feed, mut encode: impl Encode) {
    defer_current_thread();
    let mut told: HashMap<u16, u64> = HashMap::new();
    let mut is_there = send(&mut feed, encode.begin());
    while is_there {
        match portions.recv_timeout(LOOK) {
            Ok(portion) => {
                let told = told.entry(portion.worker).or_default();
                let lost = portion.lost.saturating_sub(*told);
                *told = portion.lost;
                encode.portion(&portion, lost, &mut |chunk| {
                    is_there = is_there && send(&mut feed, chunk);
                    is_there
                });
            }
            Err(RecvTimeoutError::Timeout) => is_there = !feed.is_gone(),
            Err(RecvTimeoutError::Disconnected) => {
                send(&mut feed, encode.end());
                return;
            }
        }
    }
}

fn send(feed: &mut Feed, chunk: Bytes) -> bool {
    chunk.is_empty() || feed.send_waiting(chunk)
}
