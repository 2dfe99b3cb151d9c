//! What `top` knows, and how events change it. Nothing here reads a clock, a key or a socket.

use std::collections::VecDeque;
use std::time::Duration;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::history::History;
use super::keys::{Keys, Wish};
use super::look::Wants;
use super::snapshot::{DropRate, Flow, PortRate, Snapshot};
use super::tables;
use crate::control::api::Traced;

/// How often it may look, in milliseconds.
const INTERVALS: [u64; 9] = [100, 200, 500, 1_000, 2_000, 5_000, 10_000, 30_000, 60_000];
/// The longest text that is searched for.
const SEARCH_CHARS_MAX: usize = 40;
/// Packets that are kept: a few screens of them.
const TRACED_MAX: usize = 200;

/// A tab.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tab {
    /// Rates of ports, and what workers do.
    Ports,
    /// Sessions by what they move.
    Flows,
    /// How full the NAT is.
    Nat,
    /// How long frames stay in the switch.
    Latency,
    /// Why frames died.
    Drops,
    /// What is decided about each frame.
    Trace,
}

impl Tab {
    /// All, in their order.
    pub const ALL: [Self; 6] = [
        Self::Ports,
        Self::Flows,
        Self::Nat,
        Self::Latency,
        Self::Drops,
        Self::Trace,
    ];

    /// The key and the name.
    #[must_use]
    pub const fn title(self) -> (char, &'static str) {
        match self {
            Self::Ports => ('1', "Ports"),
            Self::Flows => ('2', "Flows"),
            Self::Nat => ('3', "NAT"),
            Self::Latency => ('4', "Latency"),
            Self::Drops => ('5', "Drops"),
            Self::Trace => ('6', "Trace"),
        }
    }

    /// What its rows can be sorted by; the first is how they come.
    #[must_use]
    pub const fn orders(self) -> &'static [&'static str] {
        match self {
            Self::Ports => &["index", "name", "rx", "tx", "drops"],
            Self::Flows => &["rate", "bytes", "age", "left"],
            Self::Nat | Self::Latency | Self::Trace => &[],
            Self::Drops => &["rate", "count", "reason"],
        }
    }

    /// What has to be asked for where it is shown.
    #[must_use]
    pub const fn wants(self) -> Wants {
        Wants {
            sessions: matches!(self, Self::Flows | Self::Nat),
            latency: matches!(self, Self::Latency),
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Ports => 0,
            Self::Flows => 1,
            Self::Nat => 2,
            Self::Latency => 3,
            Self::Drops => 4,
            Self::Trace => 5,
        }
    }

    fn beside(self, step: usize) -> Self {
        let place = (self.place() + step) % Self::ALL.len();
        Self::ALL.get(place).copied().unwrap_or(Self::Ports)
    }
}

/// How a tab's rows are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// The row the cursor is on, counted from 0; drawing holds it to the rows there are.
    pub row: usize,
    /// Which of [`Tab::orders`].
    pub order: usize,
    /// The other way round.
    pub reversed: bool,
}

/// What there is to see.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sight {
    /// The latest.
    pub snapshot: Option<Snapshot>,
    /// What was before.
    pub history: History,
    /// What was decided about packets, the latest first.
    pub traced: VecDeque<Traced>,
    /// The switch writes packets down for us.
    pub watched: bool,
    /// Why there is none.
    pub untraced: Option<String>,
}

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// A key was pressed.
    Key(KeyEvent),
    /// The regular look.
    Tick(Box<Snapshot>),
    /// A look between, at what has come on screen.
    Between(Box<Snapshot>),
    /// A packet was traced.
    Traced(Box<Traced>),
    /// From now on every packet is, or no longer.
    Watched(bool),
    /// None can be, and why.
    Untraced(String),
    /// The switch does not answer as it should; it may yet.
    Trouble(String),
    /// The screen has another size.
    Resized,
}

/// Whether to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Yes.
    Go,
    /// No.
    Quit,
}

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct App {
    /// The tab on screen.
    pub tab: Tab,
    /// Which keys ask for what.
    pub keys: Keys,
    /// How each tab's rows are looked at, by the tab's place.
    cursors: [Cursor; Tab::ALL.len()],
    /// How long to wait between two looks.
    pub interval: Duration,
    /// What is going on.
    live: Sight,
    /// What is shown instead while the picture stands still.
    frozen: Option<Box<Sight>>,
    /// Whether the help is on screen.
    pub help: bool,
    /// What is searched for.
    pub search: String,
    /// Whether it is being typed.
    pub searching: bool,
    /// What the switch answered instead of figures.
    pub trouble: Option<String>,
}

impl App {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(tab: Tab, interval: Duration) -> Self {
        Self {
            tab,
            keys: Keys::default(),
            cursors: Default::default(),
            interval,
            live: Sight::default(),
            frozen: None,
            help: false,
            search: String::new(),
            searching: false,
            trouble: None,
        }
    }

    /// What is to be shown.
    #[must_use]
    pub fn sight(&self) -> &Sight {
        self.frozen.as_deref().unwrap_or(&self.live)
    }

    /// Whether the picture stands still.
    #[must_use]
    pub const fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// How the rows of the tab on screen are looked at.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursors
            .get(self.tab.place())
            .copied()
            .unwrap_or_default()
    }

    /// What has to be asked for.
    #[must_use]
    pub const fn wants(&self) -> Wants {
        self.tab.wants()
    }

    /// Whether packets are to be traced: not for a picture that stands still.
    #[must_use]
    pub const fn wants_traces(&self) -> bool {
        matches!(self.tab, Tab::Trace) && !self.is_frozen()
    }

    /// The word of the order the rows of the tab on screen are in.
    #[must_use]
    pub fn order(&self) -> Option<&'static str> {
        self.tab.orders().get(self.cursor().order).copied()
    }

    /// Takes in an event.
    pub fn update(&mut self, event: Event) -> Then {
        match event {
            Event::Key(key) if self.searching && key.modifiers != KeyModifiers::CONTROL => {
                self.typed(key.code);
            }
            Event::Key(key) => {
                return self
                    .keys
                    .wish(key)
                    .map_or(Then::Go, |wish| self.grant(wish));
            }
            Event::Tick(snapshot) => {
                self.live.history.push(&snapshot);
                self.live.snapshot = Some(*snapshot);
                self.trouble = None;
            }
            Event::Between(snapshot) => self.live.snapshot = Some(*snapshot),
            Event::Traced(packet) => self.trace(*packet),
            Event::Watched(watched) => self.live.watched = watched,
            Event::Untraced(why) => {
                self.live.watched = false;
                self.live.untraced = Some(why);
            }
            Event::Trouble(why) => self.trouble = Some(why),
            Event::Resized => {}
        }
        Then::Go
    }

    /// Adds a packet above the others. A cursor that was moved stays on its packet.
    fn trace(&mut self, packet: Traced) {
        let (shown, _) = tables::traced([&packet]).shown(u16::MAX, &self.search);
        if !shown.rows.is_empty() {
            self.with_cursor_of(Tab::Trace, |cursor| {
                cursor.row += usize::from(cursor.row > 0 && cursor.row < TRACED_MAX);
            });
        }
        self.live.untraced = None;
        self.live.traced.push_front(packet);
        self.live.traced.truncate(TRACED_MAX);
    }

    fn typed(&mut self, code: KeyCode) {
        let room = self.search.chars().count() < SEARCH_CHARS_MAX;
        if let KeyCode::Char(c) = code {
            self.search.extend(room.then_some(c));
        } else if code == KeyCode::Backspace {
            self.search.pop();
        } else if code == KeyCode::Enter {
            self.searching = false;
        } else if code == KeyCode::Esc {
            self.searching = false;
            self.search.clear();
        }
    }

    fn grant(&mut self, wish: Wish) -> Then {
        match wish {
            Wish::Quit => return Then::Quit,
            Wish::Help => self.help = !self.help,
            Wish::Next => self.tab = self.tab.beside(1),
            Wish::Previous => self.tab = self.tab.beside(Tab::ALL.len() - 1),
            Wish::Open(tab) => self.tab = tab,
            Wish::Move(rows) => self.move_by(rows),
            Wish::Page(pages) => self.move_by(pages.saturating_mul(10)),
            Wish::First => self.with_cursor(|cursor| cursor.row = 0),
            Wish::Last => self.with_cursor(|cursor| cursor.row = usize::MAX),
            Wish::Search => self.searching = true,
            Wish::Freeze if self.is_frozen() => self.frozen = None,
            Wish::Freeze => self.frozen = Some(Box::new(self.live.clone())),
            Wish::Sort => {
                let orders = self.tab.orders().len().max(1);
                self.with_cursor(|cursor| cursor.order = (cursor.order + 1) % orders);
            }
            Wish::Reverse => self.with_cursor(|cursor| cursor.reversed = !cursor.reversed),
            Wish::Back => self.back(),
            Wish::Slower => self.pace(|now, step| step > now, INTERVALS.iter()),
            Wish::Faster => self.pace(|now, step| step < now, INTERVALS.iter().rev()),
        }
        Then::Go
    }

    fn with_cursor(&mut self, change: impl FnOnce(&mut Cursor)) {
        self.with_cursor_of(self.tab, change);
    }

    fn with_cursor_of(&mut self, tab: Tab, change: impl FnOnce(&mut Cursor)) {
        if let Some(cursor) = self.cursors.get_mut(tab.place()) {
            change(cursor);
        }
    }

    fn move_by(&mut self, rows: i32) {
        let last = self.rows().saturating_sub(1);
        let by = usize::try_from(rows.unsigned_abs()).unwrap_or(usize::MAX);
        self.with_cursor(|cursor| {
            let row = cursor.row.min(last);
            cursor.row = match rows < 0 {
                true => row.saturating_sub(by),
                false => row.saturating_add(by).min(last),
            };
        });
    }

    /// Rows of the tab on screen that the search shows.
    fn rows(&self) -> usize {
        let sight = self.sight();
        let Some(snapshot) = &sight.snapshot else {
            return 0;
        };
        let grid = match self.tab {
            Tab::Ports => Some(tables::ports(&self.ports(&snapshot.ports))),
            Tab::Flows => {
                (snapshot.flows.as_ref()).map(|flows| tables::flows(&self.flows(&flows.list)))
            }
            Tab::Nat => snapshot.nat.as_ref().map(tables::published),
            Tab::Drops => Some(tables::drops(&self.drops(&snapshot.drops))),
            Tab::Trace => Some(tables::traced(&sight.traced)),
            Tab::Latency => snapshot.latency.as_ref().map(tables::latency),
        };
        grid.map_or(0, |grid| grid.shown(u16::MAX, &self.search).0.rows.len())
    }

    fn back(&mut self) {
        if self.help {
            self.help = false;
        } else if !self.search.is_empty() {
            self.search.clear();
        } else {
            self.frozen = None;
        }
    }

    fn pace<'i>(
        &mut self,
        further: impl Fn(Duration, Duration) -> bool,
        steps: impl Iterator<Item = &'i u64>,
    ) {
        let mut steps = steps.map(|millis| Duration::from_millis(*millis));
        if let Some(step) = steps.find(|step| further(self.interval, *step)) {
            self.interval = step;
        }
    }

    /// The ports in the order asked for.
    #[must_use]
    pub fn ports<'s>(&self, ports: &'s [PortRate]) -> Vec<&'s PortRate> {
        let bits = |of: Option<f64>| of.unwrap_or(-1.0);
        self.sorted(ports, |order, a, b| match order {
            "name" => a.ifname.cmp(&b.ifname),
            "rx" => bits(b.rx.bits_per_second).total_cmp(&bits(a.rx.bits_per_second)),
            "tx" => bits(b.tx.bits_per_second).total_cmp(&bits(a.tx.bits_per_second)),
            "drops" => bits(b.drops_per_second).total_cmp(&bits(a.drops_per_second)),
            _ => std::cmp::Ordering::Equal,
        })
    }

    /// The sessions in the order asked for.
    #[must_use]
    pub fn flows<'s>(&self, flows: &'s [Flow]) -> Vec<&'s Flow> {
        self.sorted(flows, |order, a, b| match order {
            "bytes" => b.bytes.cmp(&a.bytes),
            "age" => a.age.total_cmp(&b.age),
            "left" => a.left.total_cmp(&b.left),
            _ => std::cmp::Ordering::Equal,
        })
    }

    /// The drops in the order asked for.
    #[must_use]
    pub fn drops<'s>(&self, drops: &'s [DropRate]) -> Vec<&'s DropRate> {
        self.sorted(drops, |order, a, b| match order {
            "count" => b.count.cmp(&a.count),
            "reason" => (&a.reason, &a.port).cmp(&(&b.reason, &b.port)),
            _ => std::cmp::Ordering::Equal,
        })
    }

    fn sorted<'s, T>(
        &self,
        all: &'s [T],
        order: impl Fn(&str, &T, &T) -> std::cmp::Ordering,
    ) -> Vec<&'s T> {
        let mut sorted: Vec<&T> = all.iter().collect();
        let by = self.order().unwrap_or("");
        sorted.sort_by(|a, b| order(by, a, b));
        if self.cursor().reversed {
            sorted.reverse();
        }
        sorted
    }
}
