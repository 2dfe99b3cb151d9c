//! The NAT's events on their way from the workers to the log and to those who watch.
//!
//! # Theory of operation
//!
//! ```text
//! workers ── bounded ──► hub ──► lines of mappings ── bounded ──► the log's thread (natlog)
//!  (portions at ticks)    │
//!                         └────► lines of sessions ── bounded ──► each reader (control::feed)
//! ```
//!
//! The hub is a thread of its own, so that neither making lines nor a burst of them costs the
//! owner of the switch anything. It waits for nobody but the workers: a log or a reader that does
//! not keep up loses records, which are counted and told in the place where they are missing.
//! Workers record only while there is a log or a reader; the hub switches that on and off.

use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Bytes;
use crossbeam_channel::{Receiver, Sender, never, select, tick, unbounded};
use nat::{Event, Nanos, SessionView, What};
use switch::switch::NatHandle;
use switch::worker::NatEvents;

use crate::control::api::{Happening, NatEvent, NatEventSchema, Side};
use crate::control::feed::json_line;
use crate::control::{Feed, Refusal};
use crate::error::CliError;
use crate::show::moment;

use super::answer::{Answer, seconds};
use super::natlog::{self, Log};
use super::{Clock, Daemon};

/// From one look for readers that have gone to the next.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Readers at a time; each may have 4 MiB waiting for it.
const READERS_MAX: usize = 16;

/// Bytes of lines in one chunk.
const CHUNK_BYTES: usize = 64 << 10;

/// The hub as the daemon knows it. Dropping it ends the hub, its readers' streams and the log.
pub(super) struct Hub {
    words: Sender<Word>,
    thread: Option<JoinHandle<()>>,
}

enum Word {
    Listen(Feed, crate::control::ReplyTo<()>),
    Reopen,
    Stop,
}

impl Hub {
    /// Starts the hub; with a log, events are recorded from now on.
    ///
    /// # Errors
    /// No thread can be had.
    pub(super) fn start(nat: NatHandle, clock: Clock, log: Option<Log>) -> Result<Self, CliError> {
        let (words, asked) = unbounded();
        let mut hub = HubThread {
            events: log.as_ref().map_or_else(never, |_| nat.events()),
            nat,
            clock,
            log,
            readers: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("nat-events".into())
            .spawn(move || hub.run(&asked))
            .map_err(|error| super::no_thread(&error))?;
        Ok(Self {
            words,
            thread: Some(thread),
        })
    }

    /// Has the log opened anew: the file may have been renamed.
    pub(super) fn reopen(&self) {
        self.tell(Word::Reopen);
    }

    fn tell(&self, word: Word) {
        // The thread ends only after `Stop`, which nothing follows.
        let _ = self.words.send(word);
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.tell(Word::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Daemon {
    /// Starts the log of mappings, if there is to be one, and whatever distributes events.
    pub(super) fn start_events(&mut self) -> Result<(), CliError> {
        if !self.settings.nat {
            return Ok(());
        }
        let log = match &self.settings.nat_log {
            Some(target) => Some(natlog::open(target, &self.common)?),
            None => None,
        };
        self.events = Some(Hub::start(self.switch.nat_handle(), self.clock, log)?);
        Ok(())
    }

    /// Answers once the reader is listened for: what happens after that, it hears of.
    pub(super) fn monitor_nat(&self, feed: Feed, reply: crate::control::ReplyTo<()>) {
        match &self.events {
            Some(hub) => hub.tell(Word::Listen(feed, reply)),
            None => reply.send(no_nat()),
        }
    }
}

fn no_nat() -> Answer<()> {
    Err(Refusal::Conflict {
        what: "monitor nat".into(),
        why: "this switch translates nothing".into(),
        fix: "start it with --uplink IF, and without --no-nat".into(),
    })
}

struct HubThread {
    nat: NatHandle,
    clock: Clock,
    /// Never gives anything while nothing is recorded.
    events: Receiver<NatEvents>,
    log: Option<Log>,
    readers: Vec<Feed>,
}

impl HubThread {
    fn run(&mut self, words: &Receiver<Word>) {
        self.mark("START");
        let housekeeping = tick(HOUSEKEEPING);
        loop {
            select! {
                recv(self.events) -> portion => match portion {
                    Ok(portion) => self.spread(&portion),
                    // The workers have ended, and so will this.
                    Err(_) => self.events = never(),
                },
                recv(words) -> word => match word {
                    Ok(Word::Listen(feed, reply)) => self.listen(feed, reply),
                    Ok(Word::Reopen) => self.log.iter_mut().for_each(Log::reopen),
                    Ok(Word::Stop) | Err(_) => return self.finish(),
                },
                recv(housekeeping) -> _ => self.forget_gone(),
            }
        }
    }

    /// What the workers recorded until they ended still goes into the log.
    fn finish(&mut self) {
        while let Ok(portion) = self.events.try_recv() {
            self.spread(&portion);
        }
        self.nat.stop_events();
        self.mark("STOP");
    }

    fn mark(&mut self, word: &str) {
        if let Some(log) = &mut self.log {
            log.write([natlog::mark(word)].into_iter());
        }
    }

    fn listen(&mut self, feed: Feed, reply: crate::control::ReplyTo<()>) {
        self.forget_gone();
        if self.readers.len() >= READERS_MAX {
            return reply.send(Err(Refusal::Conflict {
                what: "monitor nat".into(),
                why: format!("{READERS_MAX} readers listen already"),
                fix: "end one of them".into(),
            }));
        }
        if self.log.is_none() && self.readers.is_empty() {
            self.events = self.nat.events();
        }
        self.readers.push(feed);
        reply.send(Ok(()));
    }

    fn forget_gone(&mut self) {
        let before = self.readers.len();
        self.readers.retain(|reader| !reader.is_gone());
        self.readers.iter_mut().for_each(Feed::tell_lost);
        if before > 0 && self.readers.is_empty() && self.log.is_none() {
            self.nat.stop_events();
            self.events = never();
        }
    }

    fn spread(&mut self, portion: &NatEvents) {
        // Both clocks are read once for a portion; a wall clock that is set meanwhile moves the
        // times of later portions only.
        let (wall, now) = (moment::now(), self.clock.now());
        let time = |at: Nanos| moment::iso(wall.saturating_sub(now.saturating_sub(at).into()));
        if let Some(log) = &mut self.log {
            log.lose(portion.lost);
            log.write(portion.events.iter().filter_map(|event| {
                let (word, mapping) = match &event.what {
                    What::MappingNew(mapping) => ("APMADD", mapping),
                    What::MappingEnd(mapping) => ("APMDEL", mapping),
                    What::SessionNew(_) | What::SessionUpdate(_) | What::SessionEnd(_) => {
                        return None;
                    }
                };
                Some(natlog::line(&time(event.at), word, mapping))
            }));
        }
        if self.readers.is_empty() {
            return;
        }
        for reader in &mut self.readers {
            reader.lose(portion.lost);
        }
        let records = portion
            .events
            .iter()
            .filter_map(|event| record(event, time));
        let mut chunk = Chunk::default();
        for record in records {
            chunk.text += &json_line(&record);
            chunk.records += 1;
            if chunk.text.len() >= CHUNK_BYTES - 1024 {
                std::mem::take(&mut chunk).send(&mut self.readers);
            }
        }
        chunk.send(&mut self.readers);
    }
}

/// Whole lines.
#[derive(Default)]
struct Chunk {
    text: String,
    records: u64,
}

impl Chunk {
    fn send(self, readers: &mut [Feed]) {
        if self.records == 0 {
            return;
        }
        let bytes = Bytes::from(self.text);
        for reader in readers {
            reader.send(&bytes, self.records);
        }
    }
}

fn record(event: &Event, time: impl Fn(Nanos) -> String) -> Option<NatEvent> {
    let (happening, session) = match &event.what {
        What::SessionNew(session) => (Happening::New, session),
        What::SessionUpdate(session) => (Happening::Update, session),
        What::SessionEnd(session) => (Happening::Destroy, session),
        What::MappingNew(_) | What::MappingEnd(_) => return None,
    };
    Some(shown(happening, session, event.at, time(event.at)))
}

fn shown(happening: Happening, session: &SessionView, at: Nanos, time: String) -> NatEvent {
    NatEvent {
        schema: NatEventSchema,
        time,
        event: happening,
        proto: session.protocol.name().into(),
        proto_number: session.protocol.number(),
        state: session.state.into(),
        inside: session.inside.into(),
        external: session.external.into(),
        outside: session.remote.into(),
        origin: Side::of_origin(session),
        replied: session.replied,
        left: seconds(session.expires_at.saturating_sub(at)),
        outbound: session.outbound.into(),
        inbound: session.inbound.into(),
    }
}
