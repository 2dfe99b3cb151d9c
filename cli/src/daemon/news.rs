//! What happens in the switch, told to those who watch.
//!
//! # Theory of operation
//!
//! ```text
//! after each request, event and tick   ports and guards as they are, by what was told last
//! ticks                                rates of drops: bursts that begin or end
//! workers ── bounded ──►               stations that move, or are not where they may be
//!                          owner ── bounded ──► each reader (control::feed)
//! ```
//!
//! Ports and guards are compared with what they were and not told by whoever changes them: so
//! nothing that changes one, a request, a device that went or a reload, can forget to. Readers cost
//! the owner a line each; one that is slow loses events, which are counted and told. Without
//! readers nothing is compared and no worker writes anything down.

use std::collections::BTreeMap;

use axum::body::Bytes;
use crossbeam_channel::{Receiver, never};
use switch::stations::{StationFate, StationNews};
use switch::worker::StationPortion;

use crate::control::api::{
    Drop, DropEvent, DropHappening, Event, EventKind, EventSchema, EventWhat, GuardEvent,
    GuardHappening, OperState, PortEvent, PortHappening, StationEvent, StationHappening,
};
use crate::control::feed::json_line;
use crate::control::{Feed, Refusal, ReplyTo};
use crate::host::guard::{Hold, Rung};

use super::Daemon;
use super::bursts::{Bursts, Turn};
use super::ports::state_of;

/// Readers at a time; each may have 64 chunks waiting for it.
const READERS_MAX: usize = 16;

/// Whoever watches.
pub(super) struct News {
    readers: Vec<(Feed, Vec<EventKind>)>,
    /// From the workers, while somebody wants to know.
    pub(super) stations: Receiver<StationPortion>,
    /// As told last, by device.
    told: BTreeMap<String, PortNow>,
    /// What could not be done to guard and programs of the uplink, as told last.
    trouble: Option<String>,
    pub(super) bursts: Bursts,
}

/// A port as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct PortNow {
    index: u16,
    state: OperState,
    worker: Option<u16>,
    guard: Option<GuardNow>,
}

/// A guard as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct GuardNow {
    rung: Rung,
    /// Why better rungs were passed over.
    why: String,
}

impl Default for News {
    fn default() -> Self {
        Self {
            readers: Vec::new(),
            stations: never(),
            told: BTreeMap::new(),
            trouble: None,
            bursts: Bursts::default(),
        }
    }
}

impl News {
    fn wants(&self, kind: EventKind) -> bool {
        let mut readers = self.readers.iter();
        readers.any(|(_, kinds)| kinds.contains(&kind))
    }

    /// Tells of events that come together: in one chunk, so that a reader that keeps up does not
    /// lose the end of a burst.
    fn tell(&mut self, events: impl Iterator<Item = (String, EventWhat)>) {
        let lines: Vec<(EventKind, String)> = events.map(line).collect();
        for (feed, kinds) in &mut self.readers {
            let own = lines.iter().filter(|(kind, _)| kinds.contains(kind));
            let (mut chunk, mut records) = (String::new(), 0);
            for (_, line) in own {
                chunk += line;
                records += 1;
            }
            if records > 0 {
                feed.send(&Bytes::from(chunk), records);
            }
        }
    }
}

fn line((time, what): (String, EventWhat)) -> (EventKind, String) {
    let kind = what.kind();
    let event = Event {
        schema: EventSchema,
        time,
        what,
    };
    (kind, json_line(&event))
}

impl Daemon {
    /// Answers once the reader is listened for: what happens after that, it hears of.
    pub(super) fn monitor_events(&mut self, kinds: Vec<EventKind>, feed: Feed, reply: ReplyTo<()>) {
        self.forget_gone_readers();
        if self.news.readers.len() >= READERS_MAX {
            return reply.send(Err(Refusal::Conflict {
                what: "monitor".into(),
                why: format!("{READERS_MAX} readers listen already"),
                fix: "end one of them".into(),
            }));
        }
        if self.news.readers.is_empty() {
            self.news.told = self.ports_now();
            self.news.trouble = self.publishing.trouble.clone();
        }
        if kinds.contains(&EventKind::Station) && !self.news.wants(EventKind::Station) {
            self.news.stations = self.switch.watch_stations();
        }
        self.news.readers.push((feed, kinds));
        reply.send(Ok(()));
    }

    fn forget_gone_readers(&mut self) {
        let wanted = self.news.wants(EventKind::Station);
        self.news.readers.retain(|(feed, _)| !feed.is_gone());
        for (feed, _) in &mut self.news.readers {
            feed.tell_lost();
        }
        if wanted && !self.news.wants(EventKind::Station) {
            self.switch.stop_watching_stations();
            self.news.stations = never();
        }
    }

    /// Tells what has become of ports and guards since it was told last.
    pub(super) fn tell_changes(&mut self) {
        if self.news.readers.is_empty() {
            return;
        }
        self.forget_gone_readers();
        let mut now = self.ports_now();
        let time = self.moments().iso(self.clock.now());
        let before = std::mem::take(&mut self.news.told);
        let mut events = Vec::new();
        for (device, port) in &before {
            if now.get(device).is_none_or(|now| now.index != port.index) {
                events.push(port.event(device, PortHappening::Removed, None));
            }
        }
        for (device, port) in &mut now {
            let before = before.get(device).filter(|it| it.index == port.index);
            events.extend(port.changes(device, before));
            if port.guard.is_none() {
                // Of a port that is away the guard is gone; it is told if another one comes back.
                port.guard = before.and_then(|before| before.guard.clone());
            }
        }
        let trouble = &self.publishing.trouble;
        if *trouble != self.news.trouble
            && let (Some(why), Some(uplink)) = (trouble, &self.uplink)
        {
            let rung = uplink.guard.as_ref().map(|guard| guard.rung().to_string());
            events.push(EventWhat::Guard(GuardEvent {
                event: GuardHappening::Failed,
                port: uplink.device.clone(),
                from: rung.clone(),
                to: rung.unwrap_or_else(|| "none".into()),
                why: why.clone(),
            }));
        }
        self.news.trouble = trouble.clone();
        self.news.told = now;
        let events = events.into_iter().map(|what| (time.clone(), what));
        self.news.tell(events);
    }

    fn ports_now(&self) -> BTreeMap<String, PortNow> {
        let ports = self.ports.iter().map(|port| {
            let guard = port.guard.as_deref().map(GuardNow::of);
            (port.index, port.device(), port.state, guard)
        });
        let uplink = self.uplink.iter().map(|uplink| {
            let guard = uplink.guard.as_deref().map(GuardNow::of);
            (uplink.index, uplink.device.as_str(), uplink.state, guard)
        });
        let host = self.host_port.iter().map(|port| {
            let state = state_of(&port.link);
            (port.index, port.link.name.as_str(), state, None)
        });
        let all = ports.chain(uplink).chain(host);
        let all = all.map(|(index, device, state, guard)| {
            let now = PortNow {
                index: index.0,
                state,
                worker: self.switch.port_worker(index),
                guard,
            };
            (device.to_owned(), now)
        });
        all.collect()
    }

    /// Tells of bursts of drops that begin or end.
    pub(super) fn tell_bursts(&mut self, turns: &[Turn]) {
        let time = self.moments().iso(self.clock.now());
        let events = turns
            .iter()
            .map(|turn| (time.clone(), self.drop_event(turn)));
        let events: Vec<_> = events.collect();
        self.news.tell(events.into_iter());
    }

    fn drop_event(&self, turn: &Turn) -> EventWhat {
        let (reason, port) = (turn.place.1, turn.port.clone());
        EventWhat::Drop(DropEvent {
            event: if turn.is_end {
                DropHappening::End
            } else {
                DropHappening::Begin
            },
            reason: reason.word().into(),
            fix: Drop::fix_at(reason, Some(&port)),
            port,
            rate: turn.rate,
            count: turn.count,
            seconds: turn.seconds,
        })
    }

    /// Tells of what workers say of stations.
    pub(super) fn tell_stations(&mut self, portion: &StationPortion) {
        for (feed, kinds) in &mut self.news.readers {
            if kinds.contains(&EventKind::Station) {
                feed.lose(portion.lost);
            }
        }
        let moments = self.moments();
        let events = portion.news.iter().map(|news| {
            let what = EventWhat::Station(self.station_event(news));
            (moments.iso(news.at), what)
        });
        let events: Vec<_> = events.collect();
        self.news.tell(events.into_iter());
    }

    fn station_event(&self, news: &StationNews) -> StationEvent {
        let (event, other) = match news.fate {
            StationFate::Moved { from } => (StationHappening::Moved, from),
            StationFate::Damped { at } => (StationHappening::Damped, at),
            StationFate::Locked { at } => (StationHappening::Locked, at),
        };
        StationEvent {
            event,
            station: news.mac,
            port: self.name_of(news.heard_on),
            other: self.name_of(other),
            count: news.times,
        }
    }
}

impl PortNow {
    fn event(&self, device: &str, event: PortHappening, from: Option<u16>) -> EventWhat {
        EventWhat::Port(PortEvent {
            event,
            port: device.to_owned(),
            state: self.state,
            worker: self.worker,
            from,
        })
    }

    /// What has become of the port since it was `before`.
    fn changes(&self, device: &str, before: Option<&Self>) -> Vec<EventWhat> {
        let mut events = Vec::new();
        match before {
            None => events.push(self.event(device, PortHappening::Added, None)),
            Some(before) => {
                if self.state != before.state {
                    let happening = match self.state {
                        OperState::Up => PortHappening::Up,
                        OperState::Down => PortHappening::Down,
                        OperState::NotPresent => PortHappening::Gone,
                    };
                    events.push(self.event(device, happening, None));
                }
                if self.worker != before.worker {
                    events.push(self.event(device, PortHappening::Worker, before.worker));
                }
            }
        }
        let guard_before = before.and_then(|before| before.guard.as_ref());
        if let Some(guard) = &self.guard
            && guard_before != Some(guard)
        {
            events.extend(guard.change(device, guard_before));
        }
        events
    }
}

impl GuardNow {
    fn of(hold: &Hold) -> Self {
        let passed_over = hold.passed_over().iter();
        let words = passed_over.map(|(rung, error)| format!("{rung}: {error}"));
        Self {
            rung: hold.rung(),
            why: words.collect::<Vec<_>>().join("; "),
        }
    }

    fn change(&self, device: &str, before: Option<&Self>) -> Option<EventWhat> {
        let has_failed = self.rung == Rung::Sysctls;
        // That a new port has a guard that holds is no news.
        let is_news = has_failed || before.is_some_and(|before| before.rung != self.rung);
        is_news.then(|| {
            EventWhat::Guard(GuardEvent {
                event: if has_failed {
                    GuardHappening::Failed
                } else {
                    GuardHappening::Changed
                },
                port: device.to_owned(),
                from: before.map(|before| before.rung.to_string()),
                to: self.rung.to_string(),
                why: if has_failed {
                    self.why.clone()
                } else {
                    String::new()
                },
            })
        })
    }
}
