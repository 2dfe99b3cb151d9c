//! The screen at work: one loop that takes in what four threads hear.
//!
//! A thread reads keys, one waits for signals, one asks the switch, one gets traced packets, so
//! that a switch that takes its time holds up no key. None of them is waited for at the end: the
//! process ends.

use std::io;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use crossterm::event::{self, KeyEvent, KeyEventKind};

use super::app::{App, Event, Then};
use super::draw::Paint;
use super::keys::Keys;
use super::look::{Extra, Look, Wants};
use super::snapshot::Snapshot;
use super::term::Screen;
use super::tracing::Tracing;
use super::{Clock, TopPlan, ended};
use crate::args::Common;
use crate::client::Client;
use crate::control::api::Traced;
use crate::demo::signals::Signals;
use crate::dispatch::Outcome;
use crate::error::{CliError, Exit};

/// What may wait to be taken in; who has more to say waits.
const HEARD_MAX: usize = 64;
/// Questions that may wait.
const ASKS_MAX: usize = 4;
/// How long the thread of the signals looks away.
const SIGNAL_ROUND: Duration = Duration::from_secs(3600);

/// What a thread heard.
pub(super) enum Heard {
    Key(KeyEvent),
    Resized,
    Look(Result<Box<Look>, CliError>),
    Between(Result<Box<Extra>, CliError>),
    Traced(Box<Traced>),
    Watched(bool),
    Untraced(String),
    Signal,
    NoKeys(io::Error),
}

/// What the switch is asked for.
enum Ask {
    Look(Wants),
    Between(Wants),
    /// To end a watch.
    End(u64),
}

/// What is known of the switch.
struct Known {
    before: Option<Look>,
    now: Look,
}

/// Shows the screen until it is told to end.
pub(super) fn run(
    common: &Common,
    plan: &TopPlan,
    (keys, paint): (Keys, Paint),
    clock: Clock,
) -> Outcome {
    let failed = |error: io::Error| CliError::failed("the terminal", error.to_string(), "");
    let mut app = App::new(plan.tab.unwrap_or(super::app::Tab::Ports), plan.interval);
    app.keys = keys;
    // Asked before anything is drawn, so that what is wrong is said on the usual screen.
    let client = Client::new(common);
    let now = Look::take(&client, app.wants(), &|| clock.now())?;
    let mut known = Known { before: None, now };
    app.update(Event::Tick(Box::new(known.snapshot())));
    let (sender, heard) = bounded(HEARD_MAX);
    let signals = Signals::take().map_err(failed)?;
    let tracing = Tracing::start(common, &sender).map_err(failed)?;
    let asks = threads(common, clock, signals, &sender).map_err(failed)?;
    let mut screen = Screen::open().map_err(failed)?;
    let mut looks = Looks::new(plan.count, clock.now());
    loop {
        screen.draw(&app, paint).map_err(failed)?;
        let missing = known.now.missing(app.wants());
        let look = looks.ask(&asks, &app, missing, clock.now());
        if let Some(watch) = tracing.want(app.wants_traces(), look) {
            // Where there is no room it is tried again.
            let _ = asks.try_send(Ask::End(watch));
        }
        let wait = looks.wait(app.interval, clock.now());
        let mut next = match heard.recv_timeout(wait) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Done),
        };
        // Whatever has come meanwhile is taken in before it is drawn once.
        while let Some(one) = next {
            if let Some(end) = take_in(one, &mut app, &mut known, &mut looks) {
                return end.map_err(|error| ended(&client, error));
            }
            next = heard.try_recv().ok();
        }
    }
}

/// Takes in one thing; `Some` ends the loop.
fn take_in(heard: Heard, app: &mut App, known: &mut Known, looks: &mut Looks) -> Option<Outcome> {
    let event = match heard {
        Heard::Key(key) => Event::Key(key),
        Heard::Resized => Event::Resized,
        Heard::Signal => return Some(Ok(Exit::Done)),
        Heard::NoKeys(error) => {
            return Some(Err(CliError::failed("the terminal", error.to_string(), "")));
        }
        Heard::Traced(packet) => Event::Traced(packet),
        Heard::Watched(watched) => Event::Watched(watched),
        Heard::Untraced(why) => Event::Untraced(why),
        Heard::Look(answer) => {
            looks.answered(answer.is_err());
            match answer {
                Ok(look) => {
                    known.before = Some(std::mem::replace(&mut known.now, *look));
                    if looks.is_last() {
                        return Some(Ok(Exit::Done));
                    }
                    Event::Tick(Box::new(known.snapshot()))
                }
                Err(error) if error.exit == Exit::NotRunning => return Some(Err(error)),
                Err(error) => Event::Trouble(error.to_string()),
            }
        }
        Heard::Between(answer) => {
            looks.answered(answer.is_err());
            match answer {
                Ok(extra) => {
                    known.now.add(*extra);
                    Event::Between(Box::new(known.snapshot()))
                }
                Err(error) if error.exit == Exit::NotRunning => return Some(Err(error)),
                Err(error) => Event::Trouble(error.to_string()),
            }
        }
    };
    match app.update(event) {
        Then::Go => None,
        Then::Quit => Some(Ok(Exit::Done)),
    }
}

impl Known {
    fn snapshot(&self) -> Snapshot {
        Snapshot::between(self.before.as_ref(), &self.now)
    }
}

/// When to look.
struct Looks {
    /// When the last regular look was asked for.
    last: Duration,
    /// Whether an answer is awaited; nothing is asked meanwhile.
    waiting: bool,
    /// Whether the last answer was an error: nothing is asked then before the next regular look.
    failed: bool,
    /// Looks after which to end.
    left: Option<u64>,
}

impl Looks {
    const fn new(left: Option<u64>, now: Duration) -> Self {
        Self {
            last: now,
            waiting: false,
            failed: false,
            left,
        }
    }

    /// Asks if something is to be asked now, between two looks what is missing; whether it was the
    /// regular look.
    fn ask(&mut self, asks: &Sender<Ask>, app: &App, missing: Wants, now: Duration) -> bool {
        if self.waiting {
            return false;
        }
        let ask = if now >= self.last.saturating_add(app.interval) {
            self.last = now;
            Ask::Look(app.wants())
        } else if missing != Wants::default() && !self.failed {
            Ask::Between(missing)
        } else {
            return false;
        };
        let look = matches!(ask, Ask::Look(_));
        self.waiting = asks.try_send(ask).is_ok();
        look
    }

    /// How long nothing is to be done.
    fn wait(&self, interval: Duration, now: Duration) -> Duration {
        match self.waiting {
            true => interval.max(Duration::from_secs(1)),
            false => self.last.saturating_add(interval).saturating_sub(now),
        }
    }

    const fn answered(&mut self, failed: bool) {
        self.waiting = false;
        self.failed = failed;
    }

    /// Counts a look; whether it was the last.
    fn is_last(&mut self) -> bool {
        let Some(left) = &mut self.left else {
            return false;
        };
        *left = left.saturating_sub(1);
        *left == 0
    }
}

/// Starts the threads; the way to ask is handed back.
fn threads(
    common: &Common,
    clock: Clock,
    mut signals: Signals,
    heard: &Sender<Heard>,
) -> io::Result<Sender<Ask>> {
    let (asks, questions) = bounded(ASKS_MAX);
    let spawn = |name: &str| thread::Builder::new().name(name.into());
    let (sender, common) = (heard.clone(), common.clone());
    spawn("top-ask").spawn(move || answer(&common, clock, &questions, &sender))?;
    let sender = heard.clone();
    spawn("top-keys").spawn(move || keys(&sender))?;
    let sender = heard.clone();
    spawn("top-signals").spawn(move || {
        while let Ok(None) = signals.wait(SIGNAL_ROUND) {}
        // Nobody listens any more where the end came first.
        let _ = sender.send(Heard::Signal);
    })?;
    Ok(asks)
}

fn answer(common: &Common, clock: Clock, questions: &Receiver<Ask>, heard: &Sender<Heard>) {
    let client = Client::new(common);
    let now = || clock.now();
    for ask in questions {
        let answer = match ask {
            Ask::Look(wants) => Heard::Look(Look::take(&client, wants, &now).map(Box::new)),
            Ask::Between(wants) => Heard::Between(Extra::take(&client, wants, &now).map(Box::new)),
            Ask::End(watch) => {
                // One that has ended meanwhile is not there: as good.
                let _ = client.request("DELETE", &format!("/watch/{watch}"), None);
                continue;
            }
        };
        if heard.send(answer).is_err() {
            return;
        }
    }
}

fn keys(heard: &Sender<Heard>) {
    loop {
        let one = match event::read() {
            Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Heard::Key(key),
            Ok(event::Event::Resize(..)) => Heard::Resized,
            Ok(_) => continue,
            Err(error) => Heard::NoKeys(error),
        };
        let last = matches!(one, Heard::NoKeys(_));
        if heard.send(one).is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::app::Tab;
    use super::*;

    #[test]
    fn after_a_question_that_failed_the_next_one_is_the_regular_look() {
        let (asks, asked) = bounded(ASKS_MAX);
        let app = App::new(Tab::Flows, Duration::from_secs(1));
        let mut looks = Looks::new(None, Duration::ZERO);
        let missing = Wants {
            sessions: true,
            latency: false,
        };
        // Milliseconds, whether what was asked before has failed, and what is asked now.
        for (at, failed, expected) in [
            (10, false, "between"),
            (20, true, "nothing"),
            (990, true, "nothing"),
            (1000, true, "look"),
            (1010, false, "between"),
            (1020, true, "nothing"),
            (2000, true, "look"),
            (2010, true, "nothing"),
        ] {
            looks.answered(failed);
            looks.ask(&asks, &app, missing, Duration::from_millis(at));
            let word = match asked.try_recv() {
                Ok(Ask::Look(_)) => "look",
                Ok(Ask::Between(wants)) if wants == missing => "between",
                Ok(Ask::Between(_) | Ask::End(_)) => "something else",
                Err(_) => "nothing",
            };
            assert_eq!(word, expected, "{at}");
        }
    }
}
